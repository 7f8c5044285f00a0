//! What a driver earned, as the trips' events tell it.

use common::{
    clock::Timestamp,
    contract::v1::{self, OfferStatus, TripPhase},
    id::DriverId,
    money::{Currency, Money},
    testing::eventually,
};
use serde_json::json;

use crate::world::{World, pair, trip_with};

#[tokio::test]
async fn completed_rides_are_earned_once_and_on_their_day() {
    let world = World::new().await;
    let driver = DriverId::fresh();
    let phone = world.phone(driver);
    for (day, fare) in [("2026-01-01", 10_000), ("2026-01-02", 2_500)] {
        let pair = pair();
        let ended_at: Timestamp = format!("{day}T23:59:59Z").parse().unwrap();
        let completed = v1::TripState {
            phase: TripPhase::Completed.into(),
            fare: Some(Money::new(fare, Currency::SEK).into()),
            ended_at_us: ended_at.micros(),
            ..trip_with(pair, driver, OfferStatus::Assigned)
        };
        world.trip_says(pair.trip, 6, "trip.completed", completed.clone()).await;
        world.trip_says(pair.trip, 7, "trip.rated", completed).await;
    }
    let all = eventually("both rides", async || {
        let all = phone.get("/v1/driver/earnings").await.expect(200).body;
        (all["trips"] == 2).then_some(all)
    })
    .await;
    assert_eq!(all["total"], json!({ "amount_minor": 12_500, "currency": "SEK" }));
    let day = phone.get("/v1/driver/earnings?day=2026-01-02").await.expect(200).body;
    assert_eq!((&day["trips"], &day["total"]["amount_minor"]), (&json!(1), &json!(2_500)));
    let other = world.phone(DriverId::fresh());
    assert_eq!(other.get("/v1/driver/earnings").await.expect(200).body["trips"], 0);
}
