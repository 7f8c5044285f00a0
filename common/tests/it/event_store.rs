//! The event store against a real broker: once is once, whatever happens in between.

use std::{sync::Arc, time::Duration};

use async_nats::{Subscriber, jetstream::stream::Config};
use common::{
    envelope::Envelope,
    event_store::{Cause, EventStore, ExecuteError},
    id::{CommandId, EventId, TripId},
    log::{Ack, Append, AppendError, Log, LogError, LogPort, ReadFrom, Stored},
    nats::Nats,
    room, stream,
    subject::Partitions,
    testing::{self, TestBroker, deadline, eventually_within},
    timer,
};
use futures_util::{
    StreamExt as _,
    future::{BoxFuture, join_all},
};
use tokio_util::sync::CancellationToken;

use crate::counter::{Command, Counter, Event, LIMIT, Rejection};

struct Fixture {
    broker: TestBroker,
    nats: Nats,
    store: EventStore<Counter>,
}

async fn fixture() -> Fixture {
    let broker = testing::broker().await;
    let nats = Nats::new(broker.client().await, Partitions::new(4).unwrap());
    nats.prepare().await.unwrap();
    let store = EventStore::new(&nats);
    Fixture { broker, nats, store }
}

async fn messages(nats: &Nats, filter: &str) -> usize {
    let stream = nats.admin.get_stream(stream::TRIP).await.unwrap();
    let mut subjects = stream.info_with_subjects(filter).await.unwrap();
    let mut count = 0;
    while let Some((_, n)) = futures_util::TryStreamExt::try_next(&mut subjects).await.unwrap() {
        count += n;
    }
    count
}

#[tokio::test]
async fn a_command_sent_twice_happens_once() {
    let Fixture { store, nats, broker: _broker } = fixture().await;
    let (id, command) = (TripId::fresh(), CommandId::fresh());
    let first = store.execute(id, command, &Cause::default(), &Command::Add).await.unwrap();
    assert_eq!(first.event, Some(Event::Added));
    let second = store.execute(id, command, &Cause::default(), &Command::Add).await.unwrap();
    assert_eq!(second.event, None);
    assert_eq!((second.now.version, second.now.sequence), (1, first.now.sequence));
    assert_eq!(messages(&nats, "trip.event.>").await, 1);
}

#[tokio::test]
async fn what_is_decided_on_anothers_event_is_ordered_after_it_though_its_clock_was_ahead() {
    let Fixture { store, nats, broker } = fixture().await;
    let other = Nats::new(broker.client().await, nats.partitions);
    // Within what a clock may be ahead, and far beyond what a step takes.
    other.clock.observe(nats.clock.now().plus(Duration::from_secs(3)), Duration::ZERO);
    let id = TripId::fresh();
    for store in [EventStore::<Counter>::new(&other), store] {
        store.execute(id, CommandId::fresh(), &Cause::default(), &Command::Add).await.unwrap();
    }
    let stream = nats.admin.get_stream(stream::TRIP).await.unwrap();
    let mut times = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.direct_get(sequence).await.unwrap();
        if message.subject.starts_with("trip.event.") {
            times.push(Envelope::from_headers(&message.headers).unwrap().hlc);
        }
    }
    assert!(times.len() == 2 && times[0] < times[1], "{times:?}");
}

#[tokio::test]
async fn of_many_at_once_each_is_decided_on_the_state_it_changes() {
    let Fixture { store, nats, broker: _broker } = fixture().await;
    let id = TripId::fresh();
    let tries =
        join_all(
            (0..8).map(|_| {
                let store = store.clone();
                async move {
                    store.execute(id, CommandId::fresh(), &Cause::default(), &Command::Add).await
                }
            }),
        )
        .await;
    let stored = tries.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(stored, LIMIT as usize, "a limit holds under a race");
    for outcome in tries {
        match outcome {
            Ok(_) | Err(ExecuteError::Rejected { rejection: Rejection::Full, .. }) => (),
            Err(err) => panic!("{err}"),
        }
    }
    assert_eq!(messages(&nats, "trip.event.>").await, LIMIT as usize);
    assert_eq!(store.load(id).await.unwrap().version, u64::from(LIMIT));
}

#[tokio::test]
async fn the_same_command_from_two_places_at_once_happens_once() {
    let Fixture { store, nats, broker: _broker } = fixture().await;
    let (id, command) = (TripId::fresh(), CommandId::fresh());
    let cause = Cause::default();
    let both = join_all((0..2).map(|_| store.execute(id, command, &cause, &Command::Add))).await;
    assert_eq!(both.into_iter().filter(|one| one.as_ref().unwrap().event.is_some()).count(), 1);
    assert_eq!(messages(&nats, "trip.event.>").await, 1);
}

/// A log of several nodes: whoever may be answered by any of them is answered by one that lags.
#[derive(Debug)]
struct Lagging(Nats);

impl Log for Lagging {
    fn append(&self, message: Append) -> BoxFuture<'_, Result<Ack, AppendError>> {
        self.0.append(message)
    }

    fn last<'a>(
        &'a self,
        stream: &'static str,
        subject: &'a str,
        from: ReadFrom,
    ) -> BoxFuture<'a, Result<Option<Stored>, LogError>> {
        match from {
            ReadFrom::Any => Box::pin(async { Ok(None) }),
            ReadFrom::Leader => self.0.last(stream, subject, from),
        }
    }

    fn is_reachable(&self) -> bool {
        self.0.is_reachable()
    }
}

#[tokio::test]
async fn a_replica_that_lags_does_not_have_the_last_word_about_what_is_not_done() {
    let Fixture { store, nats, broker: _broker } = fixture().await;
    let (id, timer) = (TripId::fresh(), Command::AddAndWait(Duration::from_secs(3600)));
    let cause = Cause::default();
    let waiting = store.execute(id, CommandId::fresh(), &cause, &timer).await.unwrap().now;
    let timer = waiting.timers[0].id.as_slice().try_into().unwrap();
    let port = LogPort { log: Arc::new(Lagging(nats.clone())), ..LogPort::from(&nats) };
    // To the replica there is no such timer, and nothing to do about it.
    let fired = EventStore::<Counter>::new(port).fire(id, timer, &cause).await.unwrap();
    assert_eq!(fired.map(|outcome| outcome.event), Some(Some(Event::TimedOut)));
}

/// A stream that hears nothing, and a listener who hears all.
async fn deafen(nats: &Nats) -> Subscriber {
    nats.admin.delete_stream(stream::TRIP).await.unwrap();
    let deaf = Config {
        name: stream::TRIP.to_owned(),
        subjects: vec!["nowhere".to_owned()],
        allow_direct: true,
        ..Config::default()
    };
    nats.admin.create_stream(deaf).await.unwrap();
    let listener = nats.client.subscribe("trip.event.>").await.unwrap();
    nats.client.flush().await.unwrap();
    listener
}

#[tokio::test]
async fn a_race_lost_on_several_nodes_is_one_to_run_again() {
    let Fixture { store, nats, broker: _broker } = fixture().await;
    let mut events = deafen(&nats).await;
    let answering = async {
        // As a leader answers while another append to the subject is under way.
        let lost = r#"{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"}}"#;
        while let Some(event) = events.next().await {
            nats.client.publish(event.reply.unwrap(), lost.into()).await.unwrap();
        }
    };
    let (id, cause) = (TripId::fresh(), Cause::default());
    tokio::select! {
        tried = store.execute(id, CommandId::fresh(), &cause, &Command::Add) => {
            assert!(matches!(tried, Err(ExecuteError::Unsettled)), "{tried:?}");
        }
        () = answering => panic!("the listener is gone"),
    }
}

#[tokio::test]
async fn what_may_still_be_on_its_way_is_not_refused_for_being_late() {
    let Fixture { store, nats, broker: _broker } = fixture().await;
    // Events vanish on their way: somebody listens to the subject, and it is not the stream.
    let _listener = deafen(&nats).await;
    let soon = Command::AddBefore(nats.clock.now().plus(Duration::from_secs(1)));
    let tried = store.execute(TripId::fresh(), CommandId::fresh(), &Cause::default(), &soon).await;
    assert!(matches!(tried, Err(ExecuteError::Unsettled)), "{tried:?}");
    let late = Command::AddBefore(nats.clock.now());
    let refused =
        store.execute(TripId::fresh(), CommandId::fresh(), &Cause::default(), &late).await;
    assert!(matches!(refused, Err(ExecuteError::Rejected { rejection: Rejection::Late, .. })));
}

#[tokio::test]
async fn the_event_that_makes_a_timer_pointless_removes_it() {
    let Fixture { store, nats, broker: _broker } = fixture().await;
    let id = TripId::fresh();
    let hour = Command::AddAndWait(Duration::from_secs(3600));
    let waiting =
        store.execute(id, CommandId::fresh(), &Cause::default(), &hour).await.unwrap().now;
    assert_eq!(waiting.timers.len(), 1);
    assert_eq!(messages(&nats, "trip.timer.>").await, 1);
    let on = store
        .execute(id, CommandId::fresh(), &Cause::default(), &Command::AddAndGoOn)
        .await
        .unwrap();
    assert!(on.now.timers.is_empty());
    assert_eq!(messages(&nats, "trip.timer.>").await, 0);
}

#[tokio::test]
async fn a_timer_fires_although_the_broker_was_killed() {
    let Fixture { store, nats, mut broker } = fixture().await;
    let id = TripId::fresh();
    let soon = Command::AddAndWait(Duration::from_millis(300));
    store.execute(id, CommandId::fresh(), &Cause::default(), &soon).await.unwrap();
    broker.kill().await.unwrap();
    broker.restart().await.unwrap();
    eventually_within(deadline::RECOVERY, "the timer fired", async || {
        let Ok(stream) = nats.admin.get_stream(stream::TRIP).await else { return false };
        let subject = format!("trip.due.{}.{id}", nats.partitions.of(&id.to_string()));
        let Ok(due) = stream.get_last_raw_message_by_subject(&subject).await else { return false };
        timer::on_due(&store, &due.payload, &Cause::default()).await.is_ok()
    })
    .await;
    assert!(store.load(id).await.unwrap().state.is_over);
}

#[tokio::test]
async fn what_fires_twice_has_its_effect_once() {
    let Fixture { store, nats, broker: _broker } = fixture().await;
    let id = TripId::fresh();
    let hour = Command::AddAndWait(Duration::from_secs(3600));
    let waiting =
        store.execute(id, CommandId::fresh(), &Cause::default(), &hour).await.unwrap().now;
    let timer = waiting.timers[0].id.as_slice().try_into().unwrap();
    assert!(store.fire(id, timer, &Cause::default()).await.unwrap().is_some());
    assert!(store.fire(id, timer, &Cause::default()).await.unwrap().is_none());
    assert_eq!(messages(&nats, "trip.event.>").await, 2);
}

/// Loses events, not the timers that are set before them.
#[derive(Debug)]
struct LosingEvents(Nats);

impl Log for LosingEvents {
    fn append(&self, message: Append) -> BoxFuture<'_, Result<Ack, AppendError>> {
        if message.subject.starts_with("trip.event.") {
            return Box::pin(async { Err(AppendError::Unavailable("lost".to_owned())) });
        }
        self.0.append(message)
    }

    fn last<'a>(
        &'a self,
        stream: &'static str,
        subject: &'a str,
        from: ReadFrom,
    ) -> BoxFuture<'a, Result<Option<Stored>, LogError>> {
        self.0.last(stream, subject, from)
    }

    fn is_reachable(&self) -> bool {
        self.0.is_reachable()
    }
}

#[tokio::test]
async fn the_timer_of_an_attempt_that_came_to_nothing_ends_nothing() {
    let Fixture { store, nats, broker: _broker } = fixture().await;
    let (id, command, cause) = (TripId::fresh(), CommandId::fresh(), Cause::default());
    let hour = Command::AddAndWait(Duration::from_secs(3600));
    let port = LogPort { log: Arc::new(LosingEvents(nats.clone())), ..LogPort::from(&nats) };
    let lost = EventStore::<Counter>::new(port).execute(id, command, &cause, &hour).await;
    assert!(matches!(lost, Err(ExecuteError::Unavailable(_))), "{lost:?}");
    let stream = nats.admin.get_stream(stream::TRIP).await.unwrap();
    let in_vain = stream.direct_get_last_for_subject("trip.timer.>").await.unwrap().subject;
    let in_vain = in_vain.rsplit('.').next().unwrap().parse().map(EventId).unwrap();
    // The same command again: another moment, another wait.
    let waiting = store.execute(id, command, &cause, &hour).await.unwrap().now;
    assert!(store.fire(id, in_vain, &cause).await.unwrap().is_none(), "it ended another's wait");
    let timer = waiting.timers[0].id.as_slice().try_into().unwrap();
    assert!(store.fire(id, timer, &cause).await.unwrap().is_some());
}

#[tokio::test]
async fn the_sweeper_finds_a_timer_whose_schedule_is_gone() {
    let Fixture { store, nats, broker: _broker } = fixture().await;
    let id = TripId::fresh();
    // Due at once, and the schedule taken away as a full account would.
    store
        .execute(id, CommandId::fresh(), &Cause::default(), &Command::AddAndWait(Duration::ZERO))
        .await
        .unwrap();
    let stream = nats.admin.get_stream(stream::TRIP).await.unwrap();
    stream.purge().filter("trip.timer.>").await.unwrap();
    stream.purge().filter("trip.due.>").await.unwrap();
    let shutdown = CancellationToken::new();
    let sweeping = timer::sweep(&nats, store.clone(), Duration::from_millis(200), shutdown.clone());
    let seen = async {
        eventually_within(deadline::RECOVERY, "the sweeper acted", async || {
            store.load(id).await.is_ok_and(|now| now.state.is_over)
        })
        .await;
        shutdown.cancel();
    };
    let (swept, ()) = tokio::join!(sweeping, seen);
    swept.unwrap();
}

#[tokio::test]
async fn a_timer_that_falls_due_in_a_full_account_is_taken_by_the_sweeper_once() {
    const DUE_AFTER: Duration = Duration::from_secs(2);
    let partitions = Partitions::new(1).unwrap();
    let room = room::limited_bytes(partitions) + (1 << 30);
    let mut broker = testing::broker_with_account_limit(room).await;
    let nats = Nats::new(broker.client().await, partitions);
    nats.prepare().await.unwrap();
    let store = EventStore::<Counter>::new(&nats);
    let id = TripId::fresh();
    let waits = Command::AddAndWait(DUE_AFTER);
    store.execute(id, CommandId::fresh(), &Cause::default(), &waits).await.unwrap();
    let due = nats.clock.now().plus(DUE_AFTER);
    broker.limit_account_to(&nats, 1).await;
    let refused = store.execute(id, CommandId::fresh(), &Cause::default(), &Command::Add).await;
    assert!(matches!(refused, Err(ExecuteError::Unavailable(_))), "{refused:?}");
    // The broker fires within a quarter of a second what it fires at all.
    let is_missed = async || nats.clock.now() > due.plus(Duration::from_secs(1));
    eventually_within(deadline::RECOVERY, "the timer is overdue", is_missed).await;
    broker.limit_account_to(&nats, room).await;
    assert_eq!(messages(&nats, "trip.due.>").await, 0);
    assert!(!store.load(id).await.unwrap().state.is_over);

    let shutdown = CancellationToken::new();
    let sweeping = timer::sweep(&nats, store.clone(), Duration::from_millis(200), shutdown.clone());
    let again = timer::sweep(&nats, store.clone(), Duration::from_millis(200), shutdown.clone());
    let seen = async {
        eventually_within(deadline::RECOVERY, "a sweeper acted", async || {
            store.load(id).await.is_ok_and(|now| now.state.is_over)
        })
        .await;
        shutdown.cancel();
    };
    let (swept, swept_too, ()) = tokio::join!(sweeping, again, seen);
    swept.and(swept_too).unwrap();
    assert_eq!(messages(&nats, "trip.event.>").await, 2);
}

#[tokio::test]
async fn an_unreadable_history_is_corrupt_and_nothing_is_appended() {
    let Fixture { store, nats, broker: _broker } = fixture().await;
    let id = TripId::fresh();
    let subject = nats.partitions.trip_event(id);
    nats.jetstream.publish(subject, "\u{1}rubbish".into()).await.unwrap().await.unwrap();
    let tried = store.execute(id, CommandId::fresh(), &Cause::default(), &Command::Add).await;
    assert!(matches!(tried, Err(ExecuteError::Corrupt(_))));
    assert_eq!(messages(&nats, "trip.event.>").await, 1);
}
