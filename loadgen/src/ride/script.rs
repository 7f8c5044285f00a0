//! What happens in the story: two drivers, one rider. The first driver who is asked says no, so
//! that the second is asked; the first PIN is wrong, so that it is refused.

use std::ops::Range;

use anyhow::Context as _;
use common::{geo::Point, money::Money};
use hyper::Method;
use location::roads::{RoadGraph, Route, Speed};
use rand::{SeedableRng, rngs::ChaCha8Rng};
use serde_json::{Value, json};
use tokio::time::Duration;

use super::{
    cast::{DriverAtWork, Person},
    teller::Teller,
};
use crate::{
    city::streets::Streets,
    client::{PhoneContext, Role},
    demo::Addresses,
};

/// The drivers wait where they need so long to the rider, seconds.
const NEAR_S: Range<f64> = 40.0..120.0;
const FAR_S: Range<f64> = 150.0..300.0;
/// So many places are looked at for each, around so many pickups.
const PLACES_MAX: usize = 300;
const PICKUPS_MAX: usize = 50;
const RIDE_M: f64 = 4000.0;
/// A car of the story jumps from corner to corner, so many on each way.
const JUMPS: u32 = 4;
const JUMP_EVERY: Duration = Duration::from_millis(600);

pub(super) async fn play(
    seed: u64,
    addresses: &Addresses,
    context: &PhoneContext,
    teller: &Teller,
) -> anyhow::Result<()> {
    let roads = RoadGraph::gothenburg()?.with_speed(Speed::CONGESTED);
    let streets = Streets::new(roads.clone())?;
    let places = Places::draw(&roads, &streets, seed).context("no fitting places in this city")?;
    let Places { pickup, near, far } = places;
    let dropoff = streets.place_at(pickup, RIDE_M);
    let person = |name, role| {
        let service = match role {
            Role::Driver => &addresses.driver,
            Role::Rider => &addresses.rider,
        };
        Person::new(name, role, service, context, teller)
    };
    let anna = DriverAtWork::new(person("Anna (driver)", Role::Driver), near);
    let bo = DriverAtWork::new(person("Bo (driver)", Role::Driver), far);
    let rider = person("Rosa (rider)", Role::Rider);
    for person in [&anna.person, &bo.person, &rider] {
        person.says(format!("is {}", person.id()));
    }
    let acts = async {
        go_online(&anna).await?;
        go_online(&bo).await?;
        let (trip, pin) = ask_for_a_ride(&rider, pickup, dropoff).await?;
        let driver = find_a_driver(&anna, &bo).await?;
        rider
            .sees("the assignment", &format!("/v1/trips/{trip}"), |shown| {
                is(shown, "/status", "assigned")
            })
            .await?;
        rider.says("sees that a driver is on the way");
        drive(driver, &rider, &roads, &trip, &pin, [pickup, dropoff]).await?;
        settle_up(driver, &rider, &trip).await?;
        for driver in [&anna, &bo] {
            let offline = json!({"duty": "offline"});
            driver.person.does(Method::PUT, "/v1/driver/status", offline, 200).await?;
        }
        Ok(())
    };
    tokio::select! {
        played = acts => played,
        Err(err) = anna.pings() => Err(err),
        Err(err) = bo.pings() => Err(err),
    }
}

/// Where the story begins.
struct Places {
    pickup: Point,
    near: Point,
    far: Point,
}

impl Places {
    /// A pickup with a place nearby and one farther away, by the time that it takes to drive.
    fn draw(roads: &RoadGraph, streets: &Streets, seed: u64) -> Option<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..PICKUPS_MAX).find_map(|_| {
            let pickup = streets.draw_place(&mut rng);
            let mut place = |needed_s: Range<f64>| {
                (0..PLACES_MAX).map(|_| streets.draw_place(&mut rng)).find(|place| {
                    roads.eta(*place, pickup).is_some_and(|eta| needed_s.contains(&eta.seconds))
                })
            };
            Some(Self { pickup, near: place(NEAR_S)?, far: place(FAR_S)? })
        })
    }
}

async fn go_online(driver: &DriverAtWork<'_>) -> anyhow::Result<()> {
    let online = json!({"duty": "online"});
    driver.person.does(Method::PUT, "/v1/driver/status", online, 200).await?;
    let live = |shown: &Value| is(shown, "/liveness", "live");
    driver.person.sees("that the system hears the car", "/v1/driver/state", live).await
}

async fn ask_for_a_ride(
    rider: &Person<'_>,
    pickup: Point,
    dropoff: Point,
) -> anyhow::Result<(String, String)> {
    let path = format!("/v1/products?lat={}&lng={}", pickup.lat(), pickup.lng());
    let near = |shown: &Value| number(shown, "/products/0/pickup_eta_in_ms");
    let eta_ms = rider.sees("a car nearby", &path, near).await?;
    rider.says(format!("sees that a car is {} s away", eta_ms / 1000));
    let wish = json!({"pickup": pickup, "dropoff": dropoff});
    let quotes = rider.posts("/v1/quotes", wish, 201).await?;
    let quote = quotes.pointer("/quotes/0").context("no quote")?;
    rider.says(format!(
        "sees a quote: {} for {} m, {} s",
        amount(quote, "/fare"),
        number(quote, "/distance_m").unwrap_or_default(),
        number(quote, "/duration_in_ms").unwrap_or_default() / 1000
    ));
    let wish = json!({"fare_id": text(quote, "/fare_id")?});
    let trip = rider.posts("/v1/trips", wish, 201).await?;
    let id = text(&trip, "/trip_id")?;
    rider.says(format!("is promised trip {id} and sees the PIN"));
    Ok((id, text(&trip, "/pin")?))
}

/// The first who is asked says no; the other one gets the trip.
async fn find_a_driver<'a, 'b>(
    anna: &'a DriverAtWork<'b>,
    bo: &'a DriverAtWork<'b>,
) -> anyhow::Result<&'a DriverAtWork<'b>> {
    let (first, second, offer) = tokio::select! {
        offer = offer(anna) => (anna, bo, offer?),
        offer = offer(bo) => (bo, anna, offer?),
    };
    let path = format!("/v1/driver/offers/{offer}/decline");
    first.person.posts(&path, json!({"reason": "too_far"}), 200).await?;
    let offer = self::offer(second).await?;
    let path = format!("/v1/driver/offers/{offer}/accept");
    let view = second.person.posts(&path, json!({}), 200).await?;
    second.person.says(format!("has the trip: it is {}", text(&view, "/trip/status")?));
    Ok(second)
}

async fn offer(driver: &DriverAtWork<'_>) -> anyhow::Result<String> {
    let shown = |shown: &Value| text(shown, "/offer/offer_id").ok();
    let offer = driver.person.sees("an offer", "/v1/driver/state", shown).await?;
    driver.person.says(format!("sees offer {offer}"));
    Ok(offer)
}

async fn drive(
    driver: &DriverAtWork<'_>,
    rider: &Person<'_>,
    roads: &RoadGraph,
    trip: &str,
    pin: &str,
    [pickup, dropoff]: [Point; 2],
) -> anyhow::Result<()> {
    let step = |step: &str| format!("/v1/driver/trips/{trip}/{step}");
    let status = |wanted: &'static str| move |shown: &Value| is(shown, "/status", wanted);
    let page = format!("/v1/trips/{trip}");
    driver.moves_to(pickup);
    driver.person.posts(&step("arrive"), json!({"position": pickup}), 200).await?;
    rider.sees("the car", &page, status("arrived")).await?;
    rider.says("gets in and tells the PIN; the driver mistypes it first");
    driver.person.posts(&step("start"), json!({"pin": other_pin(pin)}), 422).await?;
    driver.person.posts(&step("start"), json!({"pin": pin}), 200).await?;
    rider.sees("the ride", &page, status("in_progress")).await?;
    let route = roads.route(pickup, dropoff).context("no way to the dropoff")?;
    for corner in corners(&route) {
        driver.moves_to(corner);
        tokio::time::sleep(JUMP_EVERY).await;
    }
    driver.moves_to(dropoff);
    driver.person.posts(&step("complete"), json!({"position": dropoff}), 200).await?;
    rider.sees("the end of the ride", &page, status("completed")).await
}

async fn settle_up(
    driver: &DriverAtWork<'_>,
    rider: &Person<'_>,
    trip: &str,
) -> anyhow::Result<()> {
    let stars = json!({"stars": 5});
    rider.posts(&format!("/v1/trips/{trip}/rating"), stars, 201).await?;
    let paid =
        |shown: &Value| shown.pointer("/charged").and_then(Value::as_bool)?.then(|| shown.clone());
    let receipt = rider.sees("the receipt", &format!("/v1/trips/{trip}/receipt"), paid).await?;
    rider.says(format!(
        "sees the receipt: {}, paid as {}",
        amount(&receipt, "/total"),
        text(&receipt, "/provider_reference")?
    ));
    let earned = |shown: &Value| (number(shown, "/trips")? == 1).then(|| amount(shown, "/total"));
    let earned = driver.person.sees("the earnings", "/v1/driver/earnings", earned).await?;
    driver.person.says(format!("sees earnings of {earned}"));
    let free = |shown: &Value| is(shown, "/engagement", "idle");
    driver.person.sees("being free again", "/v1/driver/state", free).await
}

fn corners(route: &Route) -> Vec<Point> {
    let at = |jump: u32| route.at(route.seconds * f64::from(jump) / f64::from(JUMPS));
    (1..JUMPS).filter_map(at).map(|waypoint| waypoint.point).collect()
}

/// Four digits that are not the PIN.
fn other_pin(pin: &str) -> String {
    pin.chars().map(|digit| if digit == '9' { '0' } else { '9' }).collect()
}

fn text(value: &Value, path: &str) -> anyhow::Result<String> {
    let text = value.pointer(path).and_then(Value::as_str);
    Ok(text.with_context(|| format!("no `{path}` in {value}"))?.to_owned())
}

fn number(value: &Value, path: &str) -> Option<u64> {
    value.pointer(path)?.as_u64()
}

fn is(value: &Value, path: &str, wanted: &str) -> Option<()> {
    (value.pointer(path)?.as_str()? == wanted).then_some(())
}

fn amount(value: &Value, path: &str) -> String {
    let money = value.pointer(path).cloned().unwrap_or_default();
    serde_json::from_value::<Money>(money).unwrap_or_default().to_string()
}
