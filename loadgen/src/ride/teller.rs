//! Reads what the broker stores and tells it, together with what phones do, in the order of time.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{self, Write},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::header::{NATS_SCHEDULE, NATS_SCHEDULE_NEXT, NATS_SCHEDULER};
use common::{
    clock::{Timestamp, machine_time},
    contract::v1,
    envelope::Envelope,
    nats::Nats,
    stream::{DRIVER, RIDER, TRIP},
    view::{self, CaughtUp, Start, Stored, ViewSpec},
};
use futures_util::StreamExt as _;
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::audit::sentence;

/// Readers of different streams are this far apart at most; what is older can be told in order.
const TELL_AFTER: Duration = Duration::from_millis(250);
const TELL_EVERY: Duration = Duration::from_millis(50);

/// Collects lines and tells them.
#[derive(Debug)]
pub(super) struct Teller {
    with_people: bool,
    order: AtomicU64,
    waiting: Mutex<BTreeMap<(Timestamp, u64), Line>>,
}

#[derive(Debug)]
enum Line {
    /// Somebody does or sees something.
    Person { who: String, what: String },
    /// A message.
    Message(Box<Told>),
}

#[derive(Debug)]
struct Told {
    id: Uuid,
    /// `TRIP #12`, or `DRIVER_CMD`.
    place: String,
    subject: String,
    kind: String,
    by: String,
    cause: Option<Uuid>,
    sentence: String,
    /// What becomes of timers with it.
    timer: Option<String>,
}

impl Teller {
    pub(super) fn new(with_people: bool) -> Self {
        Self { with_people, order: AtomicU64::new(0), waiting: Mutex::default() }
    }

    /// Tells what somebody does or sees now.
    pub(super) fn say(&self, who: &str, what: impl Into<String>) {
        if self.with_people {
            let line = Line::Person { who: who.to_owned(), what: what.into() };
            self.add(machine_time(), line);
        }
    }

    fn add(&self, at: Timestamp, line: Line) {
        let order = self.order.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert((at, order), line);
    }

    /// Reads and tells until it is over.
    pub(super) async fn run(
        &self,
        nats: &Nats,
        out: Box<dyn Write + Send>,
        over: CancellationToken,
    ) -> anyhow::Result<()> {
        tokio::try_join!(
            self.follow(nats, TRIP, "trip.>", over.clone()),
            self.follow(nats, DRIVER, "driver.>", over.clone()),
            self.follow(nats, RIDER, "rider.>", over.clone()),
            self.overhear(nats, over.clone()),
            self.tell(out, over),
        )?;
        Ok(())
    }

    async fn follow(
        &self,
        nats: &Nats,
        stream: &'static str,
        filter: &str,
        over: CancellationToken,
    ) -> anyhow::Result<()> {
        let spec = ViewSpec { stream, filter: filter.to_owned(), start: Start::After(0) };
        view::follow(nats, spec, &CaughtUp::default(), over, |stored| {
            if let Some(told) = told(stream, &stored) {
                self.add(stored.published, Line::Message(Box::new(told)));
            }
            std::future::ready(Ok(()))
        })
        .await
    }

    /// Commands to drivers are a work queue, of which nobody but the driver service may read. They
    /// are said without an expectation, so all that can be overheard is stored.
    async fn overhear(&self, nats: &Nats, over: CancellationToken) -> anyhow::Result<()> {
        let mut commands = nats.client.subscribe("driver.command.>").await?;
        while let Some(Some(message)) = over.run_until_cancelled(commands.next()).await {
            let headers = message.headers.unwrap_or_default();
            let Ok(envelope) = Envelope::from_headers(&headers) else { continue };
            let at = envelope.time;
            let told = Told {
                place: "DRIVER_CMD".to_owned(),
                subject: message.subject.to_string(),
                sentence: command(&message.payload),
                timer: None,
                ..named(&envelope)
            };
            self.add(at, Line::Message(Box::new(told)));
        }
        Ok(())
    }

    async fn tell(
        &self,
        mut out: Box<dyn Write + Send>,
        over: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut story = Story::default();
        loop {
            let is_over = over.is_cancelled();
            // At the end everything is told that was heard.
            let until = if is_over {
                Timestamp::from_micros(i64::MAX)
            } else {
                let delay = i64::try_from(TELL_AFTER.as_micros()).unwrap_or(0);
                Timestamp::from_micros(machine_time().micros().saturating_sub(delay))
            };
            let (ready, heard) = self.take_until(until);
            for ((at, _), line) in ready {
                story.tell(&mut out, at, line, &heard)?;
            }
            if is_over {
                return Ok(());
            }
            over.run_until_cancelled(tokio::time::sleep(TELL_EVERY)).await;
        }
    }

    /// The lines of before then, and the ids of all messages that were heard and are not told yet.
    fn take_until(&self, until: Timestamp) -> (BTreeMap<(Timestamp, u64), Line>, HashSet<Uuid>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = waiting.values().filter_map(Line::id).collect();
        let later = waiting.split_off(&(until, 0));
        (std::mem::replace(&mut waiting, later), heard)
    }
}

impl Line {
    fn id(&self) -> Option<Uuid> {
        match self {
            Self::Message(told) => Some(told.id),
            Self::Person { .. } => None,
        }
    }

    fn cause(&self) -> Option<Uuid> {
        match self {
            Self::Message(told) => told.cause,
            Self::Person { .. } => None,
        }
    }
}

/// What was told already, and what waits for its cause.
#[derive(Debug, Default)]
struct Story {
    said: HashMap<Uuid, String>,
    held: HashMap<Uuid, Vec<(Timestamp, Line)>>,
}

impl Story {
    /// Tells a line, or keeps it until its cause is told: what is stored has the broker's time, a
    /// command the time that its sender takes for the broker's, which may be a little behind.
    fn tell(
        &mut self,
        out: &mut dyn Write,
        at: Timestamp,
        line: Line,
        heard: &HashSet<Uuid>,
    ) -> io::Result<()> {
        if let Some(cause) = line.cause().filter(|cause| self.comes_later(*cause, heard)) {
            self.held.entry(cause).or_default().push((at, line));
            return Ok(());
        }
        print(out, at, &line, &mut self.said)?;
        let follows = line.id().and_then(|id| self.held.remove(&id)).unwrap_or_default();
        follows.into_iter().try_for_each(|(at, line)| self.tell(out, at, line, heard))
    }

    fn comes_later(&self, message: Uuid, heard: &HashSet<Uuid>) -> bool {
        let is_held = || self.held.values().flatten().any(|(_, line)| line.id() == Some(message));
        !self.said.contains_key(&message) && (heard.contains(&message) || is_held())
    }
}

fn named(envelope: &Envelope) -> Told {
    Told {
        id: envelope.id.0,
        place: String::new(),
        subject: String::new(),
        kind: envelope.kind.clone(),
        by: envelope.source.clone(),
        cause: envelope.causation,
        sentence: String::new(),
        timer: None,
    }
}

fn told(stream: &str, stored: &Stored) -> Option<Told> {
    let header = |name: &str| stored.headers.get(name).map(|value| value.as_str().to_owned());
    let what = stored.subject.split('.').nth(1)?;
    let place = format!("{stream} #{}", stored.sequence);
    let subject = stored.subject.clone();
    match what {
        "event" => {
            let envelope = stored.envelope().ok()?;
            let purged = header(NATS_SCHEDULE_NEXT.as_ref())
                .filter(|next| next == "purge")
                .and_then(|_| header(NATS_SCHEDULER.as_ref()))
                .map(|timer| format!("the same message purges the timer {}", last_token(&timer)));
            let sentence = sentence_of(stream, &envelope, &stored.payload);
            Some(Told { place, subject, sentence, timer: purged, ..named(&envelope) })
        }
        "timer" => {
            let due = v1::Due::decode(stored.payload.clone()).ok()?;
            let at = header(NATS_SCHEDULE.as_ref()).unwrap_or_default();
            let sentence = format!("timer `{}` will fire {at}", due.kind);
            Some(Told {
                // The timer has the id of the event that it belongs to, which comes next.
                id: Uuid::nil(),
                place,
                subject,
                kind: "timer set".to_owned(),
                by: stored.envelope().map(|it| it.source).unwrap_or_default(),
                cause: None,
                sentence,
                timer: None,
            })
        }
        "due" => {
            let due = v1::Due::decode(stored.payload.clone()).ok()?;
            Some(Told {
                id: Uuid::nil(),
                place,
                subject,
                kind: "timer fired".to_owned(),
                by: "the broker".to_owned(),
                cause: None,
                sentence: format!("timer `{}` is due", due.kind),
                timer: None,
            })
        }
        _ => None,
    }
}

fn last_token(subject: &str) -> &str {
    subject.rsplit('.').next().unwrap_or(subject)
}

fn sentence_of(stream: &str, envelope: &Envelope, payload: &[u8]) -> String {
    let of = sentence::short(envelope.subject);
    let said = match stream {
        TRIP => v1::TripEvent::decode(payload).map(|event| sentence::trip(&event)),
        DRIVER => v1::DriverEvent::decode(payload)
            .map(|event| format!("driver …{of} {}", sentence::driver(&event))),
        _ => v1::RiderEvent::decode(payload)
            .map(|event| format!("rider …{of} {}", sentence::rider(&event))),
    };
    said.unwrap_or_else(|err| format!("unreadable: {err}"))
}

fn command(payload: &[u8]) -> String {
    use v1::driver_command::Kind;
    let Ok(command) = v1::DriverCommand::decode(payload) else {
        return "an unreadable command".to_owned();
    };
    let driver = Uuid::from_slice(&command.driver_id).map(sentence::short).unwrap_or_default();
    match command.kind {
        Some(Kind::Offer(_)) => format!("ask driver …{driver}, within five seconds or not at all"),
        Some(Kind::Release(release)) => format!("set driver …{driver} free ({})", release.why),
        Some(Kind::MarkLost(lost)) => {
            format!("driver …{driver} was not heard for {} s", lost.silent_s)
        }
        None => "nothing".to_owned(),
    }
}

fn print(
    out: &mut dyn Write,
    at: Timestamp,
    line: &Line,
    said: &mut HashMap<Uuid, String>,
) -> io::Result<()> {
    let text = at.to_string();
    // `2026-01-01T12:34:56.789012Z`: the time of day, to the millisecond.
    let time = text.get(11..23).unwrap_or(&text).trim_end_matches('Z');
    match line {
        Line::Person { who, what } => writeln!(out, "{time:<12}  {who}: {what}"),
        Line::Message(told) => {
            let because = told.cause.map_or_else(String::new, |cause| {
                let known = said.get(&cause).map_or("a phone's request", String::as_str);
                format!(", because of {known}")
            });
            if !told.id.is_nil() {
                said.insert(told.id, format!("{} {}", told.place, told.kind));
            }
            writeln!(out, "{time:<12}    {:<13} {:<22} {}", told.place, told.kind, told.sentence)?;
            writeln!(out, "{:<12}    {:<13} {} by {}{because}", "", "", told.subject, told.by)?;
            if let Some(timer) = &told.timer {
                writeln!(out, "{:<12}    {:<13} {timer}", "", "")?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, Story, Teller, Told};
    use common::clock::Timestamp;
    use uuid::Uuid;

    fn message(id: u128, kind: &str, cause: Option<u128>) -> Line {
        Line::Message(Box::new(Told {
            id: Uuid::from_u128(id),
            place: String::new(),
            subject: String::new(),
            kind: kind.to_owned(),
            by: String::new(),
            cause: cause.map(Uuid::from_u128),
            sentence: String::new(),
            timer: None,
        }))
    }

    #[test]
    fn an_effect_is_told_after_its_cause_whatever_the_time_that_it_says() {
        let (teller, mut story, mut out) = (Teller::new(true), Story::default(), Vec::new());
        for (at, line) in [
            (30, message(1, "cause", Some(9))),
            (20, message(2, "effect", Some(1))),
            (10, message(3, "effect-of-effect", Some(2))),
        ] {
            teller.add(Timestamp::from_micros(at), line);
        }
        for until in [15, 25, 35] {
            let (ready, heard) = teller.take_until(Timestamp::from_micros(until));
            for ((at, _), line) in ready {
                story.tell(&mut out, at, line, &heard).unwrap();
            }
        }
        let text = String::from_utf8(out).unwrap();
        let kinds = ["cause", "effect", "effect-of-effect"];
        let told: Vec<&str> = text.split_whitespace().filter(|word| kinds.contains(word)).collect();
        // Each line also names the cause's kind, if that was told.
        assert_eq!(told, ["cause", "effect", "cause", "effect-of-effect", "effect"]);
    }
}
