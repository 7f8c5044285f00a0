//! Missed fares are made up for, and what was charged is what is owed, to the cent.

use std::{collections::HashMap, time::Duration};

use common::{
    auth::Role,
    id::{RiderId, TripId},
    money::{Currency, Money},
    stream, subject,
    testing::{deadline, eventually, eventually_within, http::HttpClient},
};
use rider::{
    Config, NightlyConfig,
    domain::charge::{Debt, Purpose},
    store::{StoreError, ledger},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{Running, World};

const TOKEN_TTL: Duration = Duration::from_secs(600);
/// Due within a second, and every second after it.
const SOON: &str = "* * * * * *";

fn operations(world: &World, running: &Running) -> HttpClient {
    let token = world.issuer.issue(Role::Ops, Uuid::nil(), TOKEN_TTL).unwrap();
    HttpClient::new(&running.base, token)
}

fn nightly(world: &World, schedule: &str) -> Config {
    let nightly = NightlyConfig { nightly: schedule.into(), reconcile_after_ms: 0 };
    Config { nightly, ..world.config() }
}

/// Orders a comparison, waits for it and shows its report.
async fn compared(operations: &HttpClient) -> Value {
    let order = operations.post("/v1/reconciliation", json!({ "reason": "a test" })).await;
    let run = order.expect(202).body["run"].clone();
    eventually("it is compared", async || {
        let report = operations.get("/v1/reconciliation").await.body;
        (report["run"] == run).then_some(report)
    })
    .await
}

/// What the provider has, by reference; twice charged is an error.
fn taken(world: &World) -> HashMap<String, i64> {
    let charges = world.provider.lock().unwrap().charges.clone();
    let amounts: HashMap<_, _> = charges
        .iter()
        .map(|charge| {
            let reference = charge["reference"].as_str().unwrap().to_owned();
            (reference, charge["amount_minor"].as_i64().unwrap())
        })
        .collect();
    assert_eq!(amounts.len(), charges.len(), "somebody was charged twice");
    amounts
}

/// What the first night found; the nights of this test follow each other closely.
async fn first_report(world: &World) -> Value {
    let cron = world.nats.admin.get_stream(stream::CRON).await.unwrap();
    let first = cron.direct_get_first_for_subject(subject::RECONCILIATION_REPORT).await.unwrap();
    serde_json::from_slice(&first.payload).unwrap()
}

async fn letters(world: &World) -> u64 {
    let dlq = world.nats.admin.get_stream(stream::DLQ).await.unwrap();
    let mut subjects = dlq.info_with_subjects("dlq.rider-payments.>").await.unwrap();
    let mut count = 0;
    while futures_util::StreamExt::next(&mut subjects).await.is_some() {
        count += 1;
    }
    count
}

#[tokio::test]
async fn the_night_makes_up_for_137_refused_fares_of_1000_and_further_nights_change_nothing() {
    let world = World::new().await;
    world.provider.lock().unwrap().refusals_left = 137;
    let evening = world.start().await;
    let mut owed = HashMap::new();
    for n in 0..1_000 {
        let (trip, fare) = (TripId::fresh(), 10_000 + n * 7);
        world.completed(trip, RiderId::fresh(), 9, fare).await;
        owed.insert(format!("{trip}:fare"), fare);
    }
    let is_all_handled =
        async || letters(&world).await == 137 && taken(&world).len() == 1_000 - 137;
    eventually_within(deadline::RECOVERY, "137 fares were refused", is_all_handled).await;
    evening.stop().await;

    let night = world.start_with(nightly(&world, SOON)).await;
    let operations = operations(&world, &night);
    let report = async || operations.get("/v1/reconciliation").await.body;
    let is_balanced = async || report().await["is_balanced"] == true;
    eventually_within(deadline::RECOVERY, "all is charged", is_balanced).await;
    let first = first_report(&world).await;
    assert_eq!(taken(&world), owed, "every fare once and to the cent");
    let total = json!({ "trips": 1_000, "minor": { "SEK": owed.values().sum::<i64>() } });
    assert_eq!(first["owed"], total);
    assert_eq!(first["charged"], total);
    assert_eq!(first["compared"], 1_000);
    let by = "rider: nightly";
    assert_eq!(first["by"], by);
    assert_eq!(first["replays"][0]["handled"], 137, "{first}");
    assert_eq!(first["made"]["trips"], 0, "the replay had made up for all");

    let mut seen = vec![first["run"].clone()];
    while seen.len() < 4 {
        let next = async || {
            let report = report().await;
            (!seen.contains(&report["run"])).then_some(report)
        };
        let next = eventually("another night", next).await;
        assert_eq!(next["replays"], json!([]), "nothing is left to replay");
        assert_eq!((&next["is_balanced"], &next["made"]["trips"]), (&json!(true), &json!(0)));
        seen.push(next["run"].clone());
    }
    assert_eq!(taken(&world), owed);
    night.stop().await;
}

#[tokio::test]
async fn a_charge_that_nobody_wrote_down_is_made() {
    let world = World::new().await;
    let running = world.start().await;
    let (driven, rider) = (TripId::fresh(), RiderId::fresh());
    // The worker never saw this completion: what it says has no kind that costs anything.
    let state = common::contract::v1::TripState {
        fare: Some(common::contract::v1::Money { amount_minor: 9_900, currency: "SEK".into() }),
        ..world.state(rider, common::contract::v1::TripPhase::Completed)
    };
    let kind = common::contract::v1::trip_event::Kind::Stalled(Default::default());
    world.trip_event(driven, 9, "trip.stalled", kind, state).await;
    world.cancelled(TripId::fresh(), rider, 4, 0).await;
    let operations = operations(&world, &running);
    let report = compared(&operations).await;
    assert_eq!(report["made"], json!({ "trips": 1, "minor": { "SEK": 9_900 } }), "{report}");
    assert_eq!((&report["is_balanced"], &report["compared"]), (&json!(true), &json!(2)));
    assert_eq!(taken(&world), HashMap::from([(format!("{driven}:fare"), 9_900)]));
    assert_eq!(compared(&operations).await["made"]["trips"], 0);
    running.stop().await;
}

#[tokio::test]
async fn what_cannot_be_made_right_is_listed_for_people() {
    let world = World::new().await;
    let (wrong, free, refused) = (TripId::fresh(), TripId::fresh(), TripId::fresh());
    let store = world.store().await;
    let now = world.nats.clock.now();
    for (trip, amount) in [(wrong, 13_849), (free, 500)] {
        let amount = Money::new(amount, Currency::SEK);
        let debt =
            Debt { trip, purpose: Purpose::Fare, rider: RiderId::fresh(), driver: None, amount };
        let pay = move |tx: &rider::store::Tx<'_>| {
            ledger::owe(tx, &debt, now)?;
            ledger::settle(tx, &debt, "ch_x", &common::event_store::Cause::default(), now)
        };
        store.write::<_, StoreError, _>(pay).await.unwrap();
    }
    store.close().await;
    let running = world.start().await;
    world.completed(wrong, RiderId::fresh(), 9, 13_850).await;
    world.cancelled(free, RiderId::fresh(), 4, 0).await;
    world.provider.lock().unwrap().refusals_left = usize::MAX;
    world.completed(refused, RiderId::fresh(), 9, 7_000).await;
    eventually("one fare was refused", async || letters(&world).await == 1).await;
    let report = compared(&operations(&world, &running)).await;
    assert_eq!((&report["is_balanced"], &report["different"]), (&json!(false), &json!(3)));
    let of = |trip: TripId| {
        let lines = report["differences"].as_array().unwrap();
        lines.iter().find(|line| line["trip_id"] == trip.to_string()).unwrap().clone()
    };
    assert_eq!(of(wrong)["difference"], "different");
    assert_eq!(of(wrong)["owed"]["amount_minor"], 13_850);
    assert_eq!(of(wrong)["charged"]["amount_minor"], 13_849);
    assert_eq!(of(free)["difference"], "unowed");
    assert_eq!(of(refused)["difference"], "pending");
    assert!(of(refused)["why"].as_str().unwrap().contains("402"), "{report}");
    assert_eq!(report["replays"][0]["status"], "stopped");
    running.stop().await;
}

#[tokio::test]
async fn only_operations_compare_and_only_with_a_reason() {
    let world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    phone.get("/v1/reconciliation").await.expect_problem(403, "wrong_role");
    let order = json!({ "reason": "curious" });
    phone.post("/v1/reconciliation", None, order).await.expect_problem(403, "wrong_role");
    let operations = operations(&world, &running);
    operations.get("/v1/reconciliation").await.expect_problem(404, "not_found");
    let silent = operations.post("/v1/reconciliation", json!({ "reason": "" })).await;
    silent.expect_problem(422, "validation_failed");
    running.stop().await;
}

#[tokio::test]
async fn a_schedule_that_means_nothing_stops_the_service_at_its_start() {
    let world = World::new().await;
    let running = world.start_with(nightly(&world, "at midnight")).await;
    let err = running.fails().await;
    assert!(format!("{err:#}").contains("refuses the schedule"), "{err:#}");
}
