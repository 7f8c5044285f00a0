//! The lane of commands: delivered twice, interrupted by a crash, raced, or not readable at all.

use async_nats::HeaderMap;
use common::{
    consumer::{Delivery, dead},
    contract::v1::{self, driver_command::Kind},
    event_store::Cause,
    id::CommandId,
    stream,
    testing::eventually,
};
use driver::{
    consumers,
    domain::{Driver, DriverCommand, DriverEvent, OfferEnd, Pair},
};
use prost::Message as _;

use crate::world::{World, offer, pair, release, terms};

/// Every kind of command, and whether it finds a driver with this pair in hand.
fn every_command(held: Pair) -> Vec<(&'static str, Kind)> {
    vec![
        ("an offer to a busy driver", offer(pair())),
        ("a release before its offer", release(pair())),
        (
            "a silent phone",
            Kind::MarkLost(v1::MarkLost { silent_s: 61, last_heard_us: 1, ends_duty: false }),
        ),
        ("an offer to an idle driver", offer(held)),
        ("a release", release(held)),
    ]
}

#[tokio::test]
async fn every_command_delivered_twice_happens_once() {
    let world = World::new().await;
    let (driver, _, _) = world.offered().await;
    for (what, kind) in every_command(pair()) {
        let before = world.load(driver).await.version;
        let id = CommandId::fresh();
        world.command(driver, id, kind.clone()).await;
        world.command(driver, id, kind).await;
        world.all_commands_handled().await;
        assert_eq!(world.load(driver).await.version, before + 1, "{what}");
    }
}

#[tokio::test]
async fn a_crash_between_the_write_and_the_ack_changes_nothing() {
    let world = World::new().await;
    let (driver, _) = world.online().await;
    let pair = pair();
    let steps = [
        (DriverCommand::Offer { pair, terms: terms() }, offer(pair)),
        (DriverCommand::Release { pair, why: "cancelled".into() }, release(pair)),
    ];
    for (command, kind) in steps {
        let id = CommandId::fresh();
        // The process wrote its event and died; the broker delivers the command again.
        let cause = Cause::default();
        let written = world.drivers.execute(driver, id, &cause, &command).await.unwrap();
        world.command(driver, id, kind).await;
        world.all_commands_handled().await;
        assert_eq!(world.load(driver).await.sequence, written.now.sequence);
    }
}

#[tokio::test]
async fn of_two_trips_that_want_one_driver_one_is_told_no() {
    let world = World::new().await;
    let (driver, _) = world.online().await;
    let (first, second) = (pair(), pair());
    let cause = Cause::default();
    let offer = |pair| DriverCommand::Offer { pair, terms: terms() };
    let (one, other) = (offer(first), offer(second));
    // Both have read the same state before either writes.
    let (one, other) = tokio::join!(
        world.drivers.execute(driver, CommandId::fresh(), &cause, &one),
        world.drivers.execute(driver, CommandId::fresh(), &cause, &other),
    );
    let events = [one.unwrap().event.unwrap(), other.unwrap().event.unwrap()];
    let offered = |event: &DriverEvent| matches!(event, DriverEvent::Offered { .. });
    let refused = |event: &DriverEvent| {
        matches!(event, DriverEvent::OfferRefused { why: OfferEnd::Busy, .. })
    };
    assert!(events.iter().any(offered) && events.iter().any(refused), "{events:?}");
}

#[tokio::test]
async fn a_release_that_races_with_the_acceptance_leaves_the_driver_free() {
    let world = World::new().await;
    let (driver, _, pair) = world.offered().await;
    let cause = Cause::default();
    let accept = DriverCommand::Accept { offer: pair.offer };
    let release = DriverCommand::Release { pair, why: "cancelled".into() };
    // Whoever is second decides on what the first has made true.
    let (_, released) = tokio::join!(
        world.drivers.execute(driver, CommandId::fresh(), &cause, &accept),
        world.drivers.execute(driver, CommandId::fresh(), &cause, &release),
    );
    released.unwrap();
    let loaded = world.load(driver).await;
    assert_eq!(loaded.state.pair(), None);
    assert_eq!(loaded.state.closed.get(pair.offer), Some(OfferEnd::Released));
}

#[tokio::test]
async fn a_message_that_is_no_command_is_copied_aside_and_the_lane_goes_on() {
    let world = World::new().await;
    let (driver, _) = world.online().await;
    let dead_letters = world.nats.admin.get_stream(stream::DLQ).await.unwrap();
    let no_kind = prost::Message::encode_to_vec(&v1::DriverCommand {
        command_id: CommandId::fresh().to_vec(),
        driver_id: driver.to_vec(),
        kind: None,
    });
    let bad = [b"\xff\xffnot protobuf".to_vec(), no_kind, Vec::new()];
    for payload in &bad {
        world.raw_command(driver, payload.clone()).await;
    }
    let pair = pair();
    world.command(driver, CommandId::fresh(), offer(pair)).await;
    let offered = |it: &Driver| it.pair() == Some(pair);
    world.eventually("the command behind them", driver, offered).await;
    let subject = world.nats.partitions.driver_command(driver);
    for (index, payload) in bad.iter().enumerate() {
        let sequence = u64::try_from(index).unwrap() + 1;
        let copy =
            eventually("a copy", async || dead_letters.direct_get(sequence).await.ok()).await;
        assert!(copy.subject.starts_with("dlq.driver-command-"), "{}", copy.subject);
        assert_eq!(copy.payload, *payload);
        assert_eq!(copy.headers.get(dead::SUBJECT).unwrap().as_str(), subject);
        assert_eq!(copy.headers.get(dead::ATTEMPTS).unwrap().as_str(), "1");
    }
}

#[tokio::test]
async fn a_letter_that_had_its_effect_long_ago_has_no_other_when_it_comes_back() {
    let world = World::new().await;
    let (driver, _) = world.online().await;
    let (id, kind) = (CommandId::fresh(), release(pair()));
    let payload = v1::DriverCommand {
        command_id: id.to_vec(),
        driver_id: driver.to_vec(),
        kind: Some(kind.clone()),
    }
    .encode_to_vec();
    world.command(driver, id, kind).await;
    for _ in 0..40 {
        world.command(driver, CommandId::fresh(), release(pair())).await;
    }
    world.all_commands_handled().await;
    let before = world.load(driver).await;
    assert!(before.made_by(id).is_none(), "the driver remembers it");

    let subject = world.nats.partitions.driver_command(driver);
    let now = world.nats.clock.now();
    let mut letter = Delivery::new(subject, 1, now, HeaderMap::new(), payload.into());
    letter.is_returned = true;
    let version = async || world.load(driver).await.version;
    consumers::returned_command(&world.nats, &world.drivers, &letter).await.unwrap();
    assert_eq!(version().await, before.version);
    // Which an ordinary delivery would not have known.
    consumers::command(&world.drivers, &letter).await.unwrap();
    assert_eq!(version().await, before.version + 1);
}
