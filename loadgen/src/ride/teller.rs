//! Reads what the broker stores and tells it, together with what phones do, in the order of time.

use std::{
    collections::{BTreeMap, HashMap},
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
        let mut said: HashMap<Uuid, String> = HashMap::new();
        loop {
            let is_over = over.is_cancelled();
            // At the end everything is told that was heard.
            let until = if is_over {
                Timestamp::from_micros(i64::MAX)
            } else {
                let delay = i64::try_from(TELL_AFTER.as_micros()).unwrap_or(0);
                Timestamp::from_micros(machine_time().micros().saturating_sub(delay))
            };
            for ((at, _), line) in self.take_until(until) {
                print(&mut out, at, &line, &mut said)?;
            }
            if is_over {
                return Ok(());
            }
            over.run_until_cancelled(tokio::time::sleep(TELL_EVERY)).await;
        }
    }

    fn take_until(&self, until: Timestamp) -> BTreeMap<(Timestamp, u64), Line> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let later = waiting.split_off(&(until, 0));
        std::mem::replace(&mut waiting, later)
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
