//! A store that fills up: new rides are refused, rides under way go on to their receipt.

use common::{
    stream,
    testing::{self, eventually},
};

use crate::{
    phone::trip_of,
    world::{STORE_MAX_BYTES, World},
};

#[tokio::test]
async fn a_store_that_fills_up_refuses_new_rides_and_lets_those_under_way_end() {
    let world = World::new().await;
    let running = world.start().await;
    let phone = world.phone(&running);
    // At 75 % pings are refused already, rides are not.
    testing::fill(&world.nats, STORE_MAX_BYTES * 75 / 100).await;
    let first = phone.quote().await;
    let trip = trip_of(&phone.request(&first, "k").await.expect(201));

    testing::fill(&world.nats, STORE_MAX_BYTES * 90 / 100).await;
    // A rider of its own for each try: before the service has looked it is still taken up.
    let somebody_asks = async || {
        let somebody = world.phone(&running);
        somebody.request(&somebody.quote().await, "k").await
    };
    let refused = eventually("new rides are refused", async || {
        Some(somebody_asks().await).filter(|answer| answer.status != 201)
    })
    .await;
    assert_eq!(refused.headers["retry-after"], "10");
    refused.expect_problem(503, "overloaded");
    let again = phone.request(&first, "k").await.expect(201);
    assert_eq!(
        (trip_of(&again), &again.headers["idempotent-replayed"]),
        (trip, &"true".parse().unwrap())
    );

    world.completed(trip, phone.rider, 2, 13_850).await;
    eventually("the ride under way is charged", async || {
        phone.get(&format!("/v1/trips/{trip}/receipt")).await.body["charged"] == true
    })
    .await;

    world.nats.admin.get_stream(stream::DLQ).await.unwrap().purge().await.unwrap();
    eventually("rides are taken up again", async || somebody_asks().await.status == 201).await;
}
