//! What a message's headers ask of the broker.

use std::time::Duration;

use async_nats::{HeaderMap, header, header::IntoHeaderName};
use common::clock::Timestamp;

use super::answer::{Refused, code};

/// Guards an append by another subject (or filter) than the message's own.
pub const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
const AT: &str = "@at ";
/// The only rollup that is modelled, and the one that a schedule implies.
pub(super) const ROLLUP_SUBJECT: &str = "sub";
/// In `Nats-Schedule-Next`: the schedule named beside it ends with this very message.
pub(super) const PURGE: &str = "purge";

/// Features that our system does not use.
const NOT_MODELLED: [&str; 6] = [
    "Nats-Batch-Id",
    "Nats-Incr",
    "Nats-Schedule-Source",
    "Nats-Schedule-Rollup",
    "Nats-Schedule-Time-Zone",
    "Nats-Expected-Last-Msg-Id",
];

/// A schedule: `@at` some time, what it stands for is stored under `target`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Schedule<'a> {
    pub(super) at: Timestamp,
    pub(super) target: &'a str,
    /// Whether what it fires has a time to live.
    pub(super) has_ttl: bool,
}

fn text<K: IntoHeaderName>(headers: &HeaderMap, name: K) -> Option<&str> {
    headers.get(name).map(async_nats::HeaderValue::as_str)
}

fn number<K: IntoHeaderName>(headers: &HeaderMap, name: K) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

/// Refuses what the simulation does not know, rather than answering wrongly.
pub(super) fn check_modelled(headers: &HeaderMap) -> Result<(), Refused> {
    match NOT_MODELLED.iter().find(|name| headers.get(**name).is_some()) {
        Some(name) => Err(Refused::not_modelled(name)),
        None => Ok(()),
    }
}

pub(super) fn message_id(headers: &HeaderMap) -> Option<&str> {
    text(headers, header::NATS_MESSAGE_ID)
}

pub(super) fn expected_stream(headers: &HeaderMap) -> Option<&str> {
    text(headers, header::NATS_EXPECTED_STREAM)
}

pub(super) fn expected_of_stream(headers: &HeaderMap) -> Option<u64> {
    number(headers, header::NATS_EXPECTED_LAST_SEQUENCE)
}

pub(super) fn expected_of_subject(headers: &HeaderMap) -> Option<u64> {
    number(headers, header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE)
}

pub(super) fn expected_subject(headers: &HeaderMap) -> Option<&str> {
    text(headers, EXPECTED_SUBJECT)
}

pub(super) fn rollup(headers: &HeaderMap) -> Option<&str> {
    text(headers, header::NATS_ROLLUP)
}

/// The schedule that ends with this message.
pub(super) fn scheduler(headers: &HeaderMap) -> Option<&str> {
    text(headers, header::NATS_SCHEDULER)
}

/// What becomes of that schedule.
pub(super) fn schedule_next(headers: &HeaderMap) -> Option<&str> {
    text(headers, header::NATS_SCHEDULE_NEXT)
}

/// How long a message says that it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    Unsaid,
    ForEver,
    Limited(Duration),
}

impl Lifetime {
    pub(super) fn limit(self) -> Option<Duration> {
        match self {
            Self::Unsaid | Self::ForEver => None,
            Self::Limited(limit) => Some(limit),
        }
    }
}

pub(super) fn ttl(headers: &HeaderMap) -> Result<Lifetime, Refused> {
    let text = text(headers, header::NATS_MESSAGE_TTL).unwrap_or_default();
    lifetime(text).ok_or_else(|| Refused::new(code::TTL_INVALID, "invalid per-message TTL"))
}

/// `5`, `90s`, `1h30m`, `never`. Whole seconds, and one at least.
fn lifetime(text: &str) -> Option<Lifetime> {
    match text {
        "" => return Some(Lifetime::Unsaid),
        "never" => return Some(Lifetime::ForEver),
        _ => {}
    }
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => parts(text)?,
    };
    (seconds > 0).then(|| Lifetime::Limited(Duration::from_secs(seconds)))
}

fn parts(text: &str) -> Option<u64> {
    let (mut total, mut number) = (0_u64, String::new());
    for character in text.chars() {
        let unit = match character {
            '0'..='9' => {
                number.push(character);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        number.clear();
    }
    number.is_empty().then_some(total)
}

/// Whether the message is meant to be a schedule, good or bad.
pub(super) fn is_schedule(headers: &HeaderMap) -> bool {
    text(headers, header::NATS_SCHEDULE).is_some_and(|pattern| !pattern.is_empty())
}

/// The schedule that the message is, if it is one.
pub(super) fn schedule(headers: &HeaderMap) -> Result<Option<Schedule<'_>>, Refused> {
    let Some(pattern) = text(headers, header::NATS_SCHEDULE).filter(|it| !it.is_empty()) else {
        return Ok(None);
    };
    let invalid = || Refused::new(code::SCHEDULE_INVALID, "message schedules pattern is invalid");
    let Some(at) = pattern.strip_prefix(AT) else {
        let recurs = pattern.starts_with("@every ") || pattern.split(' ').count() == 6;
        return Err(if recurs { Refused::not_modelled(pattern) } else { invalid() });
    };
    let at = at.parse().map_err(|_| invalid())?;
    let ttl = text(headers, header::NATS_SCHEDULE_TTL).unwrap_or_default();
    let Some(ttl) = lifetime(ttl) else {
        let why = "message schedules invalid per-message TTL";
        return Err(Refused::new(code::SCHEDULE_TTL_INVALID, why));
    };
    let target = text(headers, header::NATS_SCHEDULE_TARGET).unwrap_or_default();
    Ok(Some(Schedule { at, target, has_ttl: ttl != Lifetime::Unsaid }))
}

/// The headers of what a schedule fires: the schedule's own, less what was meant for the schedule.
pub(super) fn fired(scheduled: &HeaderMap, schedule: &str) -> HeaderMap {
    let ttl = text(scheduled, header::NATS_SCHEDULE_TTL).map(ToOwned::to_owned);
    let mut headers = HeaderMap::new();
    for (name, values) in scheduled.iter() {
        let text: &str = name.as_ref();
        let is_for_schedule = text.starts_with("Nats-Schedule")
            || text.starts_with("Nats-Expected-")
            || matches!(text, "Nats-Msg-Id" | "Nats-TTL" | "Nats-Rollup");
        if !is_for_schedule {
            for value in values {
                headers.append(name.clone(), value.clone());
            }
        }
    }
    headers.insert(header::NATS_SCHEDULER, schedule);
    headers.insert(header::NATS_SCHEDULE_NEXT, PURGE);
    if let Some(ttl) = ttl {
        headers.insert(header::NATS_MESSAGE_TTL, ttl);
    }
    headers
}
