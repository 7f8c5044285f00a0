//! The steps of a driver: each sends one command, and plans from the answer what comes next.

use rand::RngExt;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Driver, PATIENCE,
    mind::{self, Situation, Step},
};
use crate::{
    city::views::{DriverTrip, DriverView, Duty, ms},
    client::{Answer, Command, GaveUp},
};

/// A kilometre.
const LOST_BY_DEGREES: f64 = 0.009;

impl Driver {
    /// The time for the next step has come.
    pub(super) async fn act(&mut self) -> Result<(), GaveUp> {
        let step = std::mem::replace(&mut self.step, Step::Look);
        // Whatever comes of it, the driver looks again after a while.
        self.plan(Step::Look, ms(15_000));
        let acted = match step {
            Step::Look => self.refresh().await,
            Step::GoOnline => self.set_duty("online").await,
            Step::TakeBreak => self.take_break().await,
            Step::Cruise => {
                self.cruise();
                Ok(())
            }
            Step::Accept { offer } => self.accept(offer).await,
            Step::Decline { offer } => self.decline(offer).await,
            Step::Ignore => {
                self.phone.pulse().offers_ignored.add();
                Ok(())
            }
            Step::Arrive { trip, is_lost_among_houses } => {
                let body = if is_lost_among_houses { self.elsewhere() } else { self.position() };
                self.trip_command(trip, "arrive", body).await
            }
            Step::HearPin { trip } => self.hear_pin(trip).await,
            Step::Start { trip, pin } => {
                self.trip_command(trip, "start", json!({"pin": pin})).await
            }
            Step::Complete { trip } => self.trip_command(trip, "complete", self.position()).await,
            Step::GiveBack { trip, reason } => {
                self.phone.pulse().given_back.add();
                self.trip_command(trip, "cancel", json!({"reason": reason})).await
            }
            Step::Die => {
                self.die();
                Ok(())
            }
        };
        match acted {
            Err(GaveUp::Patience(_)) => {
                self.phone.pulse().given_up.add();
                self.plan(Step::Look, ms(5000));
                Ok(())
            }
            acted => acted,
        }
    }

    async fn refresh(&mut self) -> Result<(), GaveUp> {
        let answer = self.phone.ask("/v1/driver/state", PATIENCE).await?;
        self.show(&answer);
        Ok(())
    }

    /// An answer that is the driver's view.
    fn show(&mut self, answer: &Answer) {
        match answer.parse::<DriverView>() {
            Ok(view) if answer.is_success() => self.look(&view),
            _ => self.plan(Step::Look, ms(2000)),
        }
    }

    async fn take_break(&mut self) -> Result<(), GaveUp> {
        self.set_duty("offline").await?;
        if self.situation == Situation::OffDuty {
            self.phone.pulse().breaks.add();
            let lunch = self.draw_break();
            self.plan(Step::GoOnline, lunch);
        }
        Ok(())
    }

    async fn set_duty(&mut self, duty: &str) -> Result<(), GaveUp> {
        let mut command = Command::post("/v1/driver/status", json!({"duty": duty}), PATIENCE);
        command.method = hyper::Method::PUT;
        let answer = self.phone.command(&command).await?;
        self.show(&answer);
        Ok(())
    }

    fn cruise(&mut self) {
        if self.situation == Situation::Idle {
            let goal = self.town.streets.draw_place(&mut self.rng);
            let streets = &self.town.streets;
            let arrival = self.tracker.car(|car, now| car.drive_to(goal, streets, now) - now);
            let rest = ms(self.rng.random_range(5000..60_000));
            self.plan(Step::Cruise, arrival + rest);
        }
    }

    async fn accept(&mut self, offer: Uuid) -> Result<(), GaveUp> {
        let command = offer_command(offer, "accept", json!({})).expecting(&[
            "offer_withdrawn",
            "offer_lapsed",
            "offer_not_found",
        ]);
        let sent = Instant::now();
        let answer = self.phone.command(&command).await?;
        let pulse = self.phone.pulse();
        match answer.status {
            200 => {
                pulse.offers_accepted.add();
                pulse.took("accept to assigned", sent.elapsed());
                self.show(&answer);
            }
            202 => {
                pulse.offers_confirming.add();
                self.plan(Step::Look, ms(1500));
            }
            _ => {
                pulse.offers_missed.add();
                self.plan(Step::Look, ms(500));
            }
        }
        Ok(())
    }

    async fn decline(&mut self, offer: Uuid) -> Result<(), GaveUp> {
        let command = offer_command(offer, "decline", json!({"reason": "too_far"})).expecting(&[
            "offer_withdrawn",
            "offer_lapsed",
            "offer_not_found",
        ]);
        let answer = self.phone.command(&command).await?;
        if answer.is_success() {
            self.phone.pulse().offers_declined.add();
        }
        self.show(&answer);
        Ok(())
    }

    async fn hear_pin(&mut self, trip: Uuid) -> Result<(), GaveUp> {
        if let Some(pin) = self.town.kerb.hear_pin(trip) {
            let pin = self.mind.type_pin(&pin, &mut self.rng, self.phone.pulse());
            self.plan(Step::Start { trip, pin }, ms(1500));
            return Ok(());
        }
        if self.no_show_at.is_some_and(|at| at <= Instant::now()) {
            return self.trip_command(trip, "no-show", json!({})).await;
        }
        self.plan(Step::HearPin { trip }, ms(500));
        Ok(())
    }

    /// Commands on a trip answer with the trip. The losing side of a race only looks again.
    async fn trip_command(&mut self, trip: Uuid, verb: &str, body: Value) -> Result<(), GaveUp> {
        let path = format!("/v1/driver/trips/{trip}/{verb}");
        let command = Command::post(path, body, PATIENCE).expecting(mind::races(verb));
        let answer = self.phone.command(&command).await?;
        if answer.is_success()
            && let Ok(trip) = answer.parse::<DriverTrip>()
        {
            let version = self.newest.0;
            self.look(&DriverView { version, duty: Duty::Online, offer: None, trip: Some(trip) });
            return Ok(());
        }
        match (answer.code().as_str(), verb) {
            ("pin_invalid", _) => self.plan(Step::HearPin { trip }, ms(1000)),
            ("wait_not_over", _) => {
                self.no_show_at = Some(Instant::now() + ms(5000));
                self.plan(Step::HearPin { trip }, ms(1000));
            }
            // Stopped a street too early.
            ("too_far_from_pickup", _) => {
                self.plan(Step::Arrive { trip, is_lost_among_houses: false }, ms(2000));
            }
            _ => {
                self.situation = Situation::Unknown;
                self.plan(Step::Look, ms(300));
            }
        }
        Ok(())
    }

    fn position(&self) -> Value {
        let here = self.tracker.car(|car, now| car.at(now).point);
        json!({"position": {"lat": here.lat(), "lng": here.lng()}})
    }

    /// What a phone says that has lost its way, and whose driver knows better.
    fn elsewhere(&self) -> Value {
        let here = self.tracker.car(|car, now| car.at(now).point);
        let lat = here.lat() + LOST_BY_DEGREES;
        json!({"position": {"lat": lat, "lng": here.lng()}, "forced": true})
    }
}

fn offer_command(offer: Uuid, verb: &str, body: Value) -> Command {
    Command::post(format!("/v1/driver/offers/{offer}/{verb}"), body, PATIENCE)
}
