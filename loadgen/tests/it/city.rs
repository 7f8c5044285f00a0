//! A small city in a hurry, with a payment provider that fails: everything that was promised holds.

use std::time::Duration;

use common::testing::eventually_within;
use hyper::Method;
use loadgen::{
    audit::{Marks, Sources, examine},
    city::{City, CityConfig, streets::Streets},
    client::{Ask, HttpClient, Service},
    demo::{Deployment, Plan},
};
use location::roads::{RoadGraph, Speed};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Cars so fast that a ride takes seconds; the services' timers stay real.
const TIME_SCALE: f64 = 60.0;
const COMPLETED: u64 = 12;
/// For rides on a busy machine; it bounds a failure and never slows down a success.
const WITHIN: Duration = Duration::from_secs(180);

fn streets() -> Streets {
    let speed = Speed::CONGESTED.times(TIME_SCALE).unwrap();
    Streets::new(RoadGraph::gothenburg().unwrap().with_speed(speed)).unwrap()
}

async fn make_unreliable(payments: &Service) {
    let ask = Ask {
        method: Method::PUT,
        path: "/v1/faults".to_owned(),
        key: None,
        body: r#"{"failure_rate": 0.4, "latency_ms": 20}"#.into(),
    };
    let answer = HttpClient::new(1).send(payments, &ask, None).await.unwrap();
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_city_keeps_every_promise_though_its_payment_provider_fails() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::new(dir.path()).time_scale(TIME_SCALE);
    let deployment = Box::pin(Deployment::start(&plan, &mut |_| ())).await.unwrap();
    make_unreliable(&deployment.addresses.payments).await;
    let nats = deployment.connect("test").await.unwrap();
    let since = Marks::now(&nats).await.unwrap();
    let config = CityConfig {
        driver_url: deployment.addresses.driver.clone(),
        rider_url: deployment.addresses.rider.clone(),
        seed: 7,
        drivers: 80,
        on_shift: 60,
        ping_every_ms: 1_000,
        connections: 4,
        rides_per_minute: 180.0,
        start_hour: 59.0,
        steady: true,
        time_scale: TIME_SCALE,
        duration_s: None,
        drain_s: 8,
        journal: dir.path().join("journal.jsonl"),
    };
    let sources = Sources {
        is_whole_city: true,
        ..Sources::of_deployment(
            since,
            &config.journal,
            &deployment.rider_store,
            &deployment.addresses,
        )
    };
    let city = City::new(config, streets()).unwrap();
    let (progress, stop) = (city.progress(), CancellationToken::new());
    let enough = async {
        eventually_within(WITHIN, "a dozen completed rides", async || {
            progress.pulse().completed.get() >= COMPLETED
        })
        .await;
        stop.cancel();
    };
    let life = Box::pin(city.run(None, stop.clone()));
    let (report, ()) = tokio::join!(life, enough);
    let report = report.unwrap();
    let unexpected: Vec<_> = report.counts.unexpected().collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");

    let auditing = examine(&nats, &sources, Instant::now() + WITHIN);
    let examined = Box::pin(auditing).await.unwrap();
    assert_eq!(examined.unsettled, None);
    let timelines: Vec<String> =
        examined.verdict.timelines(&examined.log).iter().map(ToString::to_string).collect();
    let found = &examined.verdict.violations;
    assert!(found.is_empty(), "{found:#?}\n{}", timelines.join("\n"));
    let tallies = examined.verdict.tallies;
    assert!(tallies.completed >= COMPLETED && tallies.charges >= COMPLETED, "{tallies:?}");
    assert!(tallies.pings_accepted > 0 && tallies.promises > 0, "{tallies:?}");
    deployment.stop().await.unwrap();
}
