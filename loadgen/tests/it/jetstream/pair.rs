//! The real and the simulated broker side by side: every operation is done to both, and every answer,
//! delivery, republished message and state compared. Times never are.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use async_nats::{HeaderMap, header, jetstream::AckKind};
use bytes::Bytes;
use common::{
    clock::{Timestamp, machine_time},
    testing::before_next_look,
};
use loadgen::sim::jetstream::{
    Acknowledged, ConsumerState, EXPECTED_SUBJECT, Message, Options, Output, Pin, PublishError,
    Pull, Reader, Receipt, Refused, SimJetStream,
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    operation::{Expect, Kind, Operation, Place, Publish, Shows, Timer},
    real::{Answer, Heard, READERS, Real, Seen, receipt, sorted},
    settings::{self, PINNED, Reads},
};

/// Deliveries that an answer may still be given to.
const IN_HAND_MAX: usize = 12;

/// Where the two differ.
#[derive(Debug)]
pub(crate) struct Difference(pub(crate) String);

pub(crate) type Compared = Result<(), Difference>;

pub(super) fn differ<T: PartialEq + Debug>(what: &str, real: &T, simulated: &T) -> Compared {
    if real == simulated {
        return Ok(());
    }
    Err(Difference(format!("{what}\n  real      {real:?}\n  simulated {simulated:?}")))
}

#[derive(Debug, Clone)]
pub(super) struct InHand {
    pub(super) receipt: Receipt,
    pub(super) reply: String,
}

pub(crate) struct Pair {
    pub(super) real: Real,
    pub(super) sim: SimJetStream,
    pub(super) streams: Vec<String>,
    pub(super) consumers: Vec<Reads>,
    pub(super) in_hand: BTreeMap<String, Vec<InHand>>,
    /// The real server's names of pins, by consumer, in the order in which they were given.
    pins: BTreeMap<String, Vec<(String, Pin)>>,
    now: Timestamp,
    /// How long the real server is waited for.
    pub(super) patience: Duration,
}

impl Pair {
    pub(crate) async fn start(patience: Duration) -> Result<Self, Difference> {
        let sim = SimJetStream::new(Options::default());
        let mut pair = Self::new(Real::start().await, sim, patience);
        for config in settings::streams() {
            pair.create_stream(config).await?;
        }
        for reads in settings::consumers() {
            pair.create_consumer(reads).await?;
        }
        pair.compare().await?;
        Ok(pair)
    }

    /// A pair with the streams alone and so much room for them, which both have noticed.
    pub(crate) async fn with_room(patience: Duration, room: u64) -> Result<Self, Difference> {
        let options = Options { max_file_bytes: Some(room), ..Options::default() };
        let real = Real::start_with_room(Some(room)).await;
        let mut pair = Self::new(real, SimJetStream::new(options), patience);
        for config in settings::streams() {
            pair.create_stream(config).await?;
        }
        Ok(pair)
    }

    fn new(real: Real, sim: SimJetStream, patience: Duration) -> Self {
        Self {
            real,
            sim,
            streams: Vec::new(),
            consumers: Vec::new(),
            in_hand: BTreeMap::new(),
            pins: BTreeMap::new(),
            now: machine_time(),
            patience,
        }
    }

    /// What a stream takes.
    pub(crate) fn held(&self, stream: &str) -> u64 {
        self.sim.stream_state(stream).map_or(0, |state| state.bytes)
    }

    /// The time that the simulated broker is told: this machine's, but never going back.
    pub(super) fn now(&mut self) -> Timestamp {
        self.now = self.now.max(machine_time());
        self.now
    }

    /// Lets the simulated broker's time run ahead to `at`: the real one is waited for.
    pub(super) fn run_ahead(&mut self, at: Timestamp) {
        self.now = self.now.max(at);
        self.sim.advance(self.now);
    }

    pub(crate) async fn apply(&mut self, operation: &Operation) -> Compared {
        match operation {
            Operation::Publish(publish) => self.publish(publish).await?,
            Operation::Timer(timer) => self.timer(timer).await?,
            Operation::Purge((stream, filter)) => self.purge(stream, filter).await?,
            Operation::Read((stream, filter)) => self.read(stream, filter).await?,
            Operation::CreateStream(which) => {
                let late = settings::late_streams();
                self.create_stream(late[*which % late.len()].clone()).await?;
            }
            Operation::CreateConsumer(which) => {
                let late = settings::late_consumers();
                self.create_consumer(late[*which % late.len()].clone()).await?;
            }
            Operation::Fetch { consumer, batch } => self.fetch(*consumer, *batch).await?,
            Operation::Answer { consumer, which, kind } => {
                self.answer(*consumer, *which, *kind).await?;
            }
            Operation::Pull { reader, batch, shows, group } => {
                self.pull(*reader, *batch, *shows, *group).await?;
            }
            Operation::Unpin => self.unpin().await?,
            Operation::Disconnect { reader } => {
                let now = self.now();
                self.sim.disconnect(now, Reader(*reader));
                self.real.disconnect(*reader).await;
            }
            Operation::Fire { timers, late } => self.fire(*timers, *late).await?,
            Operation::Expire { messages } => self.expire(*messages).await?,
            Operation::Window => self.window().await?,
            Operation::AckWait { messages, answered } => {
                self.ack_wait(*messages, *answered).await?;
            }
            Operation::NakDelays => self.nak_delays().await?,
            Operation::PinLapse => self.pin_lapse().await?,
            Operation::Restart => self.restart().await?,
        }
        self.compare().await
    }

    async fn create_stream(&mut self, config: async_nats::jetstream::stream::Config) -> Compared {
        let now = self.now();
        let simulated = done(self.sim.create_stream(now, config.clone()));
        let real = self.real.create_stream(&config).await;
        if simulated == Answer::Done && !self.streams.contains(&config.name) {
            self.streams.push(config.name.clone());
        }
        differ("stream made", &real, &simulated)
    }

    async fn create_consumer(&mut self, reads: Reads) -> Compared {
        let now = self.now();
        let simulated = done(self.sim.create_consumer(now, reads.stream, &reads.config));
        let real = self.real.create_consumer(reads.stream, reads.config.clone()).await;
        let is_known = self.consumers.iter().any(|known| known.name == reads.name);
        if simulated == Answer::Done && !is_known {
            self.consumers.push(reads);
        }
        differ("consumer made", &real, &simulated)
    }

    /// A sequence to expect, found in what the simulated broker holds.
    fn expectation(&self, (stream, subject): Place, expect: Expect, headers: &mut HeaderMap) {
        let last = |filter: &str| {
            let last = self.sim.last(stream, filter).ok().flatten();
            last.map_or(0, |message| message.sequence)
        };
        let stale = |sequence: u64| if sequence == 0 { 3 } else { sequence - 1 };
        let of_stream = || self.sim.stream_state(stream).map_or(0, |state| state.last_sequence);
        let (name, expected) = match expect {
            Expect::Nothing => return,
            Expect::Right => (header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, last(subject)),
            Expect::Zero => (header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, 0),
            Expect::Stale => (header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, stale(last(subject))),
            Expect::RightOf(other) => {
                headers.insert(EXPECTED_SUBJECT, other);
                (header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, last(other))
            }
            Expect::StaleOf(other) => {
                headers.insert(EXPECTED_SUBJECT, other);
                (header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, stale(last(other)))
            }
            Expect::SubjectOnly(other) => {
                headers.insert(EXPECTED_SUBJECT, other);
                return;
            }
            Expect::RightOfStream => (header::NATS_EXPECTED_LAST_SEQUENCE, of_stream()),
            Expect::StaleOfStream => (header::NATS_EXPECTED_LAST_SEQUENCE, stale(of_stream())),
        };
        headers.insert(name, expected.to_string());
    }

    fn headers(&self, publish: &Publish) -> HeaderMap {
        let mut headers = HeaderMap::new();
        self.expectation(publish.place, publish.expect, &mut headers);
        if let Some(id) = publish.id {
            headers.insert(header::NATS_MESSAGE_ID, format!("id-{id}"));
        }
        if let Some(ttl) = publish.ttl {
            headers.insert(header::NATS_MESSAGE_TTL, ttl);
        }
        if let Some(rollup) = publish.rollup
            && !self.is_in_hand(publish.place.0, publish.place.1)
        {
            headers.insert(header::NATS_ROLLUP, rollup);
        }
        if let Some(timer) = publish.purges {
            headers.insert(header::NATS_SCHEDULE_NEXT, "purge");
            headers.insert(header::NATS_SCHEDULER, timer);
        }
        headers
    }

    async fn publish(&mut self, publish: &Publish) -> Compared {
        let headers = self.headers(publish);
        self.send(publish.place.1, headers, publish.bytes).await
    }

    async fn timer(&mut self, timer: &Timer) -> Compared {
        let mut headers = self.headers(&timer.publish);
        let in_an_hour = self.now().plus(Duration::from_secs(3_600));
        let pattern = timer.pattern.map_or(format!("@at {in_an_hour}"), ToOwned::to_owned);
        headers.insert(header::NATS_SCHEDULE, pattern);
        if let Some(target) = timer.target {
            headers.insert(header::NATS_SCHEDULE_TARGET, target);
        }
        if let Some(ttl) = timer.fires_ttl {
            headers.insert(header::NATS_SCHEDULE_TTL, ttl);
        }
        self.send(timer.publish.place.1, headers, timer.publish.bytes).await
    }

    pub(crate) async fn send(
        &mut self,
        subject: &str,
        headers: HeaderMap,
        bytes: usize,
    ) -> Compared {
        let now = self.now();
        let payload = Bytes::from(vec![b'x'; bytes]);
        let simulated = self.sim.publish(now, subject, headers.clone(), payload.clone());
        let real = self.real.publish(subject, headers, payload).await;
        differ("published", &real, &published(simulated))
    }

    /// Whether a consumer has a message in hand that a filter takes. While the real server purges
    /// such a message its threads race each other.
    fn is_in_hand(&self, stream: &str, filter: &str) -> bool {
        let reads = self.consumers.iter().filter(|reads| reads.stream == stream);
        let mut in_hand =
            reads.flat_map(|reads| self.sim.in_hand(stream, reads.name).unwrap_or_default());
        in_hand.any(|sequence| {
            let next = self.sim.next(stream, filter, sequence).ok().flatten();
            next.is_some_and(|message| message.sequence == sequence)
        })
    }

    async fn purge(&mut self, stream: &str, filter: &str) -> Compared {
        if self.is_in_hand(stream, filter) {
            return Ok(());
        }
        let now = self.now();
        let simulated = self.sim.purge(now, stream, filter).map(Answer::Purged);
        let real = self.real.purge(stream, filter).await;
        differ("purged", &real, &simulated.unwrap_or_else(refused))
    }

    async fn read(&mut self, stream: &str, filter: &str) -> Compared {
        let last = self.sim.last(stream, filter).ok().flatten();
        let last_sequence = last.as_ref().map_or(0, |last| last.sequence);
        let real = self.real.get(stream, json!({ "last_by_subj": filter })).await;
        found("the last message", &real, last.as_deref())?;
        let middle = last_sequence / 2 + 1;
        let next = self.sim.next(stream, filter, middle).ok().flatten();
        let real = self.real.get(stream, json!({ "next_by_subj": filter, "seq": middle })).await;
        found("the next message", &real, next.as_deref())?;
        let one = self.sim.get(stream, middle).ok().flatten();
        let real = self.real.get(stream, json!({ "seq": middle })).await;
        found("a message by its sequence", &real, one.as_deref())
    }

    pub(super) async fn fetch(&mut self, consumer: usize, batch: u32) -> Compared {
        let no_wait = true;
        let pull =
            Pull { reader: Reader(0), batch, expires: None, no_wait, group: None, pin: None };
        self.ask(consumer, &pull, None).await
    }

    pub(super) async fn ask(
        &mut self,
        consumer: usize,
        pull: &Pull,
        pin: Option<String>,
    ) -> Compared {
        let now = self.now();
        let Reads { stream, name, .. } = self.consumers[consumer].clone();
        self.sim.pull(now, stream, name, pull).map_err(|err| Difference(err.to_string()))?;
        self.real.pull(stream, name, pull, pin.as_deref()).await;
        Ok(())
    }

    async fn answer(&mut self, consumer: usize, which: usize, kind: Kind) -> Compared {
        let Reads { stream, name, .. } = self.consumers[consumer].clone();
        let given = self.in_hand.get(name).and_then(|given| given.iter().rev().nth(which));
        let Some(given) = given.cloned() else { return Ok(()) };
        let kind = || match kind {
            Kind::Ack => AckKind::Ack,
            Kind::Term => AckKind::Term,
            Kind::Nak => AckKind::Nak(None),
            Kind::Progress => AckKind::Progress,
        };
        let now = self.now();
        let simulated = self.sim.answer(now, stream, name, given.receipt, kind());
        simulated.map_err(|err| Difference(err.to_string()))?;
        self.real.answer(&given.reply, kind()).await;
        Ok(())
    }

    async fn pull(
        &mut self,
        reader: u64,
        batch: u32,
        shows: Shows,
        group: Option<&str>,
    ) -> Compared {
        let known = self.pins.get(self.consumers[PINNED].name);
        let shown = match shows {
            Shows::Nothing => None,
            Shows::Newest => known.and_then(|known| known.last()),
            Shows::Oldest => known.and_then(|known| known.first()),
        };
        let (raw, pin) = shown.cloned().unzip();
        let reader = Reader(reader);
        let group = group.map(ToOwned::to_owned);
        let pull = Pull { reader, batch, expires: None, no_wait: false, group, pin };
        self.ask(PINNED, &pull, raw).await
    }

    async fn unpin(&mut self) -> Compared {
        let now = self.now();
        let Reads { stream, name, .. } = self.consumers[PINNED].clone();
        let simulated = done(self.sim.unpin(now, stream, name));
        let real = self.real.unpin(stream, name, settings::GROUP).await;
        differ("unpinned", &real, &simulated)
    }

    /// Compares what readers heard, what was republished, and what both say of their state.
    pub(super) async fn compare(&mut self) -> Compared {
        self.compare_outputs().await?;
        for stream in self.streams.clone() {
            self.compare_stream(&stream).await?;
        }
        for Reads { stream, name, .. } in self.consumers.clone() {
            self.compare_consumer(stream, name).await?;
        }
        Ok(())
    }

    pub(super) async fn compare_outputs(&mut self) -> Compared {
        let mut heard: BTreeMap<u64, Vec<Heard>> = BTreeMap::new();
        let mut republished = Vec::new();
        for output in self.sim.take_outputs() {
            match output {
                Output::Delivered(it) => {
                    let Receipt { sequence, delivered, attempt } = it.receipt;
                    heard.entry(it.reader.0).or_default().push(Heard::Delivered {
                        stream: it.stream,
                        consumer: it.consumer,
                        subject: it.message.subject.clone(),
                        receipt: (sequence, delivered, attempt),
                        pending: it.pending,
                        pin: it.pin.map(|pin| pin.0),
                    });
                }
                Output::PullEnded { reader, why, .. } => {
                    heard.entry(reader.0).or_default().push(Heard::Ended(Some(why)));
                }
                Output::Republished { subject, headers, payload } => {
                    let sequence = headers.get(header::NATS_SEQUENCE);
                    let sequence = sequence.and_then(|it| it.as_str().parse().ok()).unwrap_or(0);
                    let mut headers = sorted(&headers);
                    headers.retain(|(name, _)| name != "Nats-Time-Stamp");
                    republished.push(Seen { subject, sequence, headers, payload });
                }
            }
        }
        for reader in 0..READERS {
            let simulated = heard.remove(&reader).unwrap_or_default();
            let real = self.hear(reader, &simulated).await;
            differ(&format!("reader {reader} heard"), &real, &simulated)?;
        }
        let real = self.real.republished(republished.len(), self.patience).await;
        differ("republished", &real, &republished)
    }

    /// What the reader heard from the real server, its pins named as the simulated ones are.
    async fn hear(&mut self, reader: u64, simulated: &[Heard]) -> Vec<Heard> {
        let mut heard = Vec::new();
        for (at, mut raw) in
            self.real.hear(reader, simulated.len(), self.patience).await.into_iter().enumerate()
        {
            if let Heard::Delivered { consumer, receipt: ids, pin, .. } = &mut raw.heard {
                let expected = match simulated.get(at) {
                    Some(Heard::Delivered { pin, .. }) => *pin,
                    _ => None,
                };
                *pin = raw.pin.map(|name| {
                    let known = self.pins.entry(consumer.clone()).or_default();
                    if let Some((_, pin)) = known.iter().find(|(known, _)| *known == name) {
                        return pin.0;
                    }
                    let fresh = expected.filter(|it| known.iter().all(|(_, pin)| pin.0 != *it));
                    let fresh = fresh.unwrap_or(u64::MAX);
                    known.push((name, Pin(fresh)));
                    fresh
                });
                let given = self.in_hand.entry(consumer.clone()).or_default();
                given.push(InHand { receipt: receipt(*ids), reply: raw.reply });
                let old = given.len().saturating_sub(IN_HAND_MAX);
                given.drain(..old);
            }
            heard.push(raw.heard);
        }
        heard
    }

    /// The servers' work goes on after an answer; it is over when the states are equal, and if they
    /// never are, they differ.
    pub(super) async fn compare_stream(&mut self, stream: &str) -> Compared {
        let simulated = self.sim.stream_state(stream).map_err(|err| Difference(err.to_string()))?;
        let until = Instant::now() + self.patience;
        loop {
            let real = self.real.stream_state(stream).await;
            let compared = differ(stream, &real, &simulated);
            if compared.is_ok() || Instant::now() >= until {
                return compared;
            }
            before_next_look().await;
        }
    }

    async fn compare_consumer(&mut self, stream: &str, name: &str) -> Compared {
        let simulated = self.sim.consumer_state(stream, name);
        let simulated = told(simulated.map_err(|err| Difference(err.to_string()))?);
        let until = Instant::now() + self.patience;
        loop {
            let real = told(self.real.consumer_state(stream, name).await);
            let compared = differ(&format!("consumer {name}"), &real, &simulated);
            if compared.is_ok() || Instant::now() >= until {
                return compared;
            }
            before_next_look().await;
        }
    }

    /// Everything that the real stream holds, message by message.
    pub(crate) async fn compare_contents(&mut self) -> Compared {
        for stream in self.streams.clone() {
            let mut from = 1;
            loop {
                let simulated = self.sim.next(&stream, ">", from).ok().flatten();
                let real =
                    self.real.get(&stream, json!({ "next_by_subj": ">", "seq": from })).await;
                found(&format!("message of {stream}"), &real, simulated.as_deref())?;
                let Some(simulated) = simulated else { break };
                from = simulated.sequence + 1;
            }
        }
        Ok(())
    }
}

/// What readers depend on: not how far the server looked past messages that a consumer does not
/// read, which depends on when its threads ran.
fn told(state: ConsumerState) -> ConsumerState {
    let place = |place: loadgen::sim::jetstream::Place| loadgen::sim::jetstream::Place {
        stream: 0,
        ..place
    };
    ConsumerState { delivered: place(state.delivered), ack_floor: place(state.ack_floor), ..state }
}

fn found(what: &str, real: &Option<Seen>, simulated: Option<&Message>) -> Compared {
    differ(what, real, &simulated.map(seen))
}

pub(super) fn seen(message: &Message) -> Seen {
    Seen {
        subject: message.subject.clone(),
        sequence: message.sequence,
        headers: sorted(&message.headers),
        payload: message.payload.clone(),
    }
}

fn done(answer: Result<(), Refused>) -> Answer {
    answer.map_or_else(refused, |()| Answer::Done)
}

fn refused(refused: Refused) -> Answer {
    Answer::Refused { code: refused.code, description: refused.description }
}

pub(super) fn published(answer: Result<Acknowledged, PublishError>) -> Answer {
    match answer {
        Ok(Acknowledged { stream, sequence, duplicate }) => {
            Answer::Stored { stream, sequence, duplicate }
        }
        Err(PublishError::NoStream) => Answer::NoStream,
        Err(PublishError::Refused(refusal)) => refused(refusal),
    }
}
