//! Recurring schedules that the broker keeps and fires: they need no process that stays alive.

use async_nats::{
    HeaderMap,
    header::{NATS_SCHEDULE, NATS_SCHEDULE_TARGET},
    jetstream::{context::PublishErrorKind, stream::DirectGetErrorKind},
};

use crate::{nats::Nats, stream};

/// Why a schedule is not set, split by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The broker does not know what it means.
    #[error("the broker refuses the schedule `{schedule}`: {why}")]
    Refused {
        /// The schedule.
        schedule: String,
        /// What the broker says.
        why: String,
    },
    /// The broker cannot be asked. Trying again is safe.
    #[error("the schedule cannot be set: {0}")]
    Unavailable(String),
}

/// Has the broker publish on `target` by a schedule: six fields from seconds to weekdays in UTC, or
/// `@every 1h`. What is set already stays as it is, so that a restart misses nothing.
///
/// # Errors
/// When the schedule is not set.
pub async fn schedule(
    nats: &Nats,
    subject: &'static str,
    target: &'static str,
    schedule: &str,
) -> Result<(), ScheduleError> {
    let unavailable = |err: &dyn std::fmt::Display| ScheduleError::Unavailable(err.to_string());
    let held = nats.jetstream.get_stream_no_info(stream::CRON).await;
    let held = held.map_err(|err| unavailable(&err))?;
    match held.direct_get_last_for_subject(subject).await {
        Ok(known) => {
            let is =
                |name, value: &str| known.headers.get(name).is_some_and(|it| it.as_str() == value);
            if is(NATS_SCHEDULE, schedule) && is(NATS_SCHEDULE_TARGET, target) {
                return Ok(());
            }
        }
        Err(err) if err.kind() == DirectGetErrorKind::NotFound => {}
        Err(err) => return Err(unavailable(&err)),
    }
    let mut headers = HeaderMap::new();
    headers.insert(NATS_SCHEDULE, schedule);
    headers.insert(NATS_SCHEDULE_TARGET, target);
    let published = match nats.jetstream.publish_with_headers(subject, headers, "".into()).await {
        Ok(ack) => ack.await.map(|_| ()),
        Err(err) => Err(err),
    };
    published.map_err(|err| match err.kind() {
        PublishErrorKind::Other => {
            let why = std::error::Error::source(&err)
                .map_or_else(|| err.to_string(), |why| why.to_string());
            ScheduleError::Refused { schedule: schedule.to_owned(), why }
        }
        _ => unavailable(&err),
    })
}
