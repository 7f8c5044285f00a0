//! Who would be sent, which way, and what a quote learns.

use common::{contract::v1, id::TripId, subject, testing::eventually};
use prost::Message as _;
use uuid::Uuid;

use crate::fixture::{PARTITIONS, Town, driver, place};

#[tokio::test]
async fn the_driver_who_is_there_first_comes_first() {
    let town = Town::start().await;
    let (near, far, busy) = (driver(0, 0), driver(1, 0), driver(1, 1));
    for (who, at) in [(far, 1500.0), (near, 200.0), (busy, 10.0)] {
        town.ping(who, 1, place(at, 0.0)).await;
    }
    town.idles(near).await;
    town.idles(far).await;
    town.candidates_become(&[near, far]).await;
    let reply = town.candidates_reply(&[near]).await;
    let read: Vec<u32> = reply.read.iter().map(|read| read.partition).collect();
    assert_eq!((reply.partitions, read), (PARTITIONS, (0..PARTITIONS).collect()));
    let [only] = reply.candidates.as_slice() else { panic!("{reply:?}") };
    assert_eq!(only.driver_id, far.to_vec());
    // By road, at the speeds of a city.
    assert!(only.distance_m >= 1500 && (60..900).contains(&only.eta_s), "{only:?}");
    assert!(only.idle_since_us > 0);
}

#[tokio::test]
async fn a_driver_with_an_offer_is_no_candidate_until_it_ends() {
    let town = Town::start().await;
    let a = driver(0, 0);
    town.ping(a, 1, place(100.0, 0.0)).await;
    town.idles(a).await;
    town.candidates_become(&[a]).await;
    town.is_offered(a).await;
    town.candidates_become(&[]).await;
    town.ping(a, 2, place(120.0, 0.0)).await;
    town.idles(a).await;
    town.candidates_become(&[a]).await;
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_refused_and_the_next_is_answered() {
    let town = Town::start().await;
    for payload in [&b"nonsense"[..], &b""[..]] {
        let refused =
            town.nats.client.request(subject::QUERY_CANDIDATES, payload.into()).await.unwrap();
        assert!(refused.headers.unwrap().get("Nats-Service-Error").is_some());
    }
    assert_eq!(town.candidates().await, []);
}

#[tokio::test]
async fn a_route_follows_the_roads_and_ends_where_there_are_none() {
    let town = Town::start().await;
    let ask = async |to| {
        let question = v1::RouteRequest { from: Some(place(0.0, 0.0).into()), to: Some(to) };
        town.ask::<v1::RouteReply>(subject::QUERY_ROUTE, &question).await.unwrap()
    };
    let route = ask(place(2000.0, 1000.0).into()).await;
    assert!(route.found && route.distance_m > 2000 && route.duration_s > 60, "{route:?}");
    assert!(route.points.len() > 2);
    // At sea.
    let nowhere = ask(v1::Point { lat_e7: 560_000_000, lng_e7: 100_000_000 }).await;
    assert!(!nowhere.found && nowhere.points.is_empty());
}

async fn supply(town: &Town, at: v1::Point) -> v1::SupplyReply {
    let question = v1::SupplyRequest { pickup: Some(at) };
    town.ask(subject::QUERY_SUPPLY, &question).await.unwrap()
}

#[tokio::test]
async fn a_quote_learns_how_near_a_car_is_and_where_service_ends() {
    let town = Town::start().await;
    let here = v1::Point::from(place(0.0, 0.0));
    let none = supply(&town, here).await;
    assert!(none.in_service_area && !none.has_driver && none.surge_percent == 100, "{none:?}");
    town.ping(driver(0, 0), 1, place(400.0, 0.0)).await;
    town.idles(driver(0, 0)).await;
    let some = eventually("a car is near", async || {
        Some(supply(&town, here).await).filter(|supply| supply.has_driver)
    })
    .await;
    assert_eq!(some.offerable_nearby, 1);
    assert!((10..600).contains(&some.nearest_eta_s), "{some:?}");
    let sea = supply(&town, v1::Point { lat_e7: 560_000_000, lng_e7: 100_000_000 }).await;
    assert!(!sea.in_service_area && sea.surge_percent == 100);
}

#[tokio::test]
async fn requests_without_cars_raise_the_surge() {
    let town = Town::start_with(|config| config.surge_every_ms = 100).await;
    let here = v1::Point::from(place(0.0, 0.0));
    for n in 1..=50_u128 {
        let trip = TripId(Uuid::from_u128(n));
        let event = v1::TripEvent {
            state: Some(v1::TripState {
                pickup: Some(here),
                requested_at_us: town.now().micros(),
                ..v1::TripState::default()
            }),
            ..v1::TripEvent::default()
        };
        let subject = town.nats.partitions.trip_event(trip);
        let sent = town.nats.jetstream.publish(subject, event.encode_to_vec().into()).await;
        sent.unwrap().await.unwrap();
    }
    eventually("the surge is at its most", async || supply(&town, here).await.surge_percent == 250)
        .await;
}

#[tokio::test]
async fn the_moving_map_shows_every_car_that_changed() {
    use futures_util::StreamExt as _;
    let town = Town::start().await;
    let mut frames = town.nats.client.subscribe(subject::LOCATION_FRAME).await.unwrap();
    town.idles(driver(0, 0)).await;
    town.ping(driver(0, 0), 1, place(0.0, 0.0)).await;
    town.ping(driver(1, 0), 1, place(50.0, 0.0)).await;
    let mut seen = std::collections::HashMap::new();
    let watch = async {
        while seen.get(&driver(0, 0).to_vec()) != Some(&(place(0.0, 0.0).into(), 0b0101))
            || seen.get(&driver(1, 0).to_vec()) != Some(&(place(50.0, 0.0).into(), 0b0100))
        {
            let frame = v1::LocationFrame::decode(frames.next().await.unwrap().payload).unwrap();
            let (mut lat, mut lng) = (0_i32, 0_i32);
            for (n, driver) in frame.driver_ids.chunks(16).enumerate() {
                lat = lat.wrapping_add(frame.lat_e7[n]);
                lng = lng.wrapping_add(frame.lng_e7[n]);
                let at = v1::Point { lat_e7: lat, lng_e7: lng };
                seen.insert(driver.to_vec(), (at, frame.state[n]));
            }
        }
    };
    tokio::time::timeout(common::testing::deadline::FACT, watch).await.expect("both cars, in time");
}
