//! A rider: asks for the price, presses the button, waits, perhaps changes their mind, gets in,
//! and rates the ride.

mod will;

use std::{sync::Arc, time::Duration};

use common::geo::RawPoint;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use self::will::Will;
use super::{
    demand::Wish,
    town::Town,
    views::{Quotes, Receipt, Status, Trip, TripChange, ms},
};
use crate::client::{Command, Feed, FeedEnded, GaveUp, Phone, Role, SseEvent};

/// How long an app repeats a command before it tells its rider.
const PATIENCE: Duration = Duration::from_secs(60);
/// No ride takes longer; the phone looks away.
const RIDE_MAX: Duration = Duration::from_secs(45 * 60);
/// How long a rider looks for the receipt, and how often.
const RECEIPT_WITHIN: Duration = Duration::from_secs(60);
const RECEIPT_EVERY: Duration = Duration::from_millis(200);

/// Rides, if the gateway lets them.
///
/// # Errors
/// When the journal is broken.
pub(super) async fn ride(town: Arc<Town>, wish: Wish) -> Result<(), GaveUp> {
    let mut rng = ChaCha8Rng::seed_from_u64(wish.disposition);
    let id = Uuid::new_v5(&town.run, format!("rider {}", wish.number).as_bytes());
    let (service, context) = (town.rider_service.clone(), town.context.clone());
    let phone = Arc::new(Phone::new(Role::Rider, id, service, context));
    let rider = Rider { will: Will::new(&wish, &mut rng), town, phone: Arc::clone(&phone), rng };
    match rider.ride(&wish).await {
        Err(GaveUp::Patience(_)) => {
            phone.pulse().given_up.add();
            Ok(())
        }
        ended => ended,
    }
}

struct Rider {
    town: Arc<Town>,
    phone: Arc<Phone>,
    rng: ChaCha8Rng,
    will: Will,
}

/// What the rider sees and is about to do.
struct Waiting {
    trip: Trip,
    asked_at: Instant,
    cancel_at: Option<Instant>,
    kerb_at: Option<Instant>,
}

impl Rider {
    async fn ride(mut self, wish: &Wish) -> Result<(), GaveUp> {
        let Some(fare) = self.quote(wish).await? else { return Ok(()) };
        tokio::time::sleep(ms(self.rng.random_range(400..2500))).await;
        let asked_at = Instant::now();
        let Some(trip) = self.request(fare).await? else { return Ok(()) };
        let pulse = Arc::clone(&self.town.context.pulse);
        pulse.took("request to 201", asked_at.elapsed());
        self.town.kerb.asked_at(trip.trip_id, asked_at);
        pulse.rides_requested.add();
        pulse.rides_open.add();
        let id = trip.trip_id;
        let waited = tokio::time::timeout(RIDE_MAX, self.wait(trip, asked_at)).await;
        pulse.rides_open.sub();
        self.town.kerb.leave(id);
        let Ok(end) = waited else {
            pulse.given_up.add();
            return Ok(());
        };
        self.part(&end?).await
    }

    async fn quote(&self, wish: &Wish) -> Result<Option<String>, GaveUp> {
        let (pickup, dropoff) = (RawPoint::from(wish.pickup), RawPoint::from(wish.dropoff));
        let point = |point: RawPoint| json!({"lat": point.lat, "lng": point.lng});
        let body = json!({"pickup": point(pickup), "dropoff": point(dropoff)});
        let command = Command::post("/v1/quotes", body, PATIENCE).without_promise();
        let sent = Instant::now();
        let answer = self.phone.command(&command).await?;
        self.phone.pulse().took("quote", sent.elapsed());
        let quotes = answer.parse::<Quotes>().ok().filter(|_| answer.is_success());
        Ok(quotes.and_then(|quotes| quotes.quotes.into_iter().next()).map(|quote| quote.fare_id))
    }

    async fn request(&self, fare: String) -> Result<Option<Trip>, GaveUp> {
        let command = Command::post("/v1/trips", json!({"fare_id": fare}), PATIENCE);
        let answer = if self.will.taps_twice {
            self.phone.pulse().double_taps.add();
            let (first, second) =
                tokio::join!(self.phone.command(&command), self.phone.command(&command));
            let (first, second) = (first?, second?);
            if first.is_success() { first } else { second }
        } else {
            self.phone.command(&command).await?
        };
        Ok(answer.parse::<Trip>().ok().filter(|_| answer.is_success()))
    }

    /// Watches the trip until it has ended.
    async fn wait(&mut self, trip: Trip, asked_at: Instant) -> Result<Trip, GaveUp> {
        let path = format!("/v1/trips/{}/events", trip.trip_id);
        let mut feed = Feed::new(Arc::clone(&self.phone), path);
        let cancel_at = self.will.loses_patience_after.map(|after| asked_at + after);
        let mut waiting = Waiting { trip, asked_at, cancel_at, kerb_at: None };
        while !has_ended(waiting.trip.status) {
            let (cancel_at, kerb_at) = (waiting.cancel_at, waiting.kerb_at);
            tokio::select! {
                event = feed.next() => self.notice(event, &mut waiting).await?,
                () = sleep_until(cancel_at) => self.cancel(&mut waiting).await?,
                () = sleep_until(kerb_at) => {
                    waiting.kerb_at = None;
                    if let Some(pin) = &waiting.trip.pin {
                        self.town.kerb.tell_pin(waiting.trip.trip_id, pin);
                    }
                }
            }
        }
        Ok(waiting.trip)
    }

    async fn notice(
        &mut self,
        event: Result<SseEvent, FeedEnded>,
        waiting: &mut Waiting,
    ) -> Result<(), GaveUp> {
        let seen = match &event {
            Ok(event) if event.event == "snapshot" => serde_json::from_str::<Trip>(&event.data),
            Ok(event) if event.event == "trip" => {
                serde_json::from_str::<TripChange>(&event.data).map(|change| change.trip)
            }
            Ok(_) => return Ok(()),
            Err(refused) => {
                let request = "GET /v1/trips/{id}/events".to_owned();
                self.phone.pulse().refused(false, request, refused.status, &refused.code);
                return self.look(waiting).await;
            }
        };
        match seen {
            Ok(trip) => self.see(trip, waiting),
            Err(err) => {
                tracing::warn!(%err, "trip event not understood");
                self.phone.pulse().refused(false, "trip event".to_owned(), 0, "malformed");
            }
        }
        Ok(())
    }

    /// Asks how the trip stands, where no feed says so.
    async fn look(&mut self, waiting: &mut Waiting) -> Result<(), GaveUp> {
        tokio::time::sleep(ms(2000)).await;
        let path = format!("/v1/trips/{}", waiting.trip.trip_id);
        let answer = self.phone.ask(&path, PATIENCE).await?;
        if let Ok(trip) = answer.parse::<Trip>() {
            self.see(trip, waiting);
        }
        Ok(())
    }

    fn see(&mut self, trip: Trip, waiting: &mut Waiting) {
        if trip.version < waiting.trip.version {
            return;
        }
        let before = std::mem::replace(&mut waiting.trip, trip).status;
        let now = waiting.trip.status;
        if before == now {
            return;
        }
        match now {
            Status::Assigned => {
                let pulse = self.phone.pulse();
                pulse.assigned.add();
                pulse.took("request to assigned", waiting.asked_at.elapsed());
                if let Some(after) = self.will.regrets_after(&mut self.rng) {
                    waiting.cancel_at = Some(Instant::now() + after);
                }
            }
            Status::Arrived => {
                let walk = self.will.walks_out_in.map(|walk| self.town.scaled(walk));
                waiting.kerb_at = walk.map(|walk| Instant::now() + walk);
            }
            Status::InProgress => waiting.cancel_at = None,
            _ => {}
        }
    }

    async fn cancel(&mut self, waiting: &mut Waiting) -> Result<(), GaveUp> {
        waiting.cancel_at = None;
        let path = format!("/v1/trips/{}", waiting.trip.trip_id);
        // What would it cost? The answer does not change the rider's mind.
        self.phone.ask(&format!("{path}/cancellation"), PATIENCE).await?;
        let body = json!({"reason": self.will.reason});
        let command = Command::post(format!("{path}/cancel"), body, PATIENCE)
            .expecting(&["trip_started", "trip_ended"]);
        let answer = self.phone.command(&command).await?;
        if let Ok(trip) = answer.parse::<Trip>() {
            self.see(trip, waiting);
        }
        Ok(())
    }

    async fn part(&mut self, trip: &Trip) -> Result<(), GaveUp> {
        let pulse = self.phone.pulse();
        match trip.status {
            Status::Completed => pulse.completed.add(),
            Status::Unfulfilled => pulse.unfulfilled.add(),
            _ => match trip.cancelled.as_ref().map(|cancelled| cancelled.by.as_str()) {
                Some("rider") => pulse.cancelled_by_rider.add(),
                Some("driver") => {
                    if self.will.walks_out_in.is_none() {
                        pulse.no_shows.add();
                    }
                    pulse.cancelled_by_driver.add();
                }
                _ => pulse.cancelled_otherwise.add(),
            },
        }
        if trip.status == Status::Completed {
            self.read_receipt(trip.trip_id).await?;
            self.rate(trip.trip_id).await?;
        }
        Ok(())
    }

    async fn read_receipt(&self, trip: Uuid) -> Result<(), GaveUp> {
        let ended = Instant::now();
        while ended.elapsed() < RECEIPT_WITHIN {
            let answer = self.phone.ask(&format!("/v1/trips/{trip}/receipt"), PATIENCE).await?;
            if let Some(receipt) = answer.parse::<Receipt>().ok().filter(|it| it.charged) {
                self.phone.journal().append(&receipt.noted(self.phone.id(), trip)).await?;
                self.phone.pulse().took("completed to charged", ended.elapsed());
                return Ok(());
            }
            tokio::time::sleep(RECEIPT_EVERY).await;
        }
        self.phone.pulse().receipts_missing.add();
        Ok(())
    }

    async fn rate(&self, trip: Uuid) -> Result<(), GaveUp> {
        if let Some(stars) = self.will.stars {
            let path = format!("/v1/trips/{trip}/rating");
            let command = Command::post(path, json!({"stars": stars}), PATIENCE);
            self.phone.command(&command.expecting(&["already_rated"])).await?;
        }
        Ok(())
    }
}

fn has_ended(status: Status) -> bool {
    matches!(status, Status::Completed | Status::Cancelled | Status::Unfulfilled)
}

/// Sleeps for ever if there is no such time.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
