//! A driver: goes on duty, answers offers, drives, and does now and then what drivers do: declines,
//! forgets, gives a trip back, tells a wrong PIN, goes home, loses the connection.

use std::{sync::Arc, time::Duration};

use common::{
    contract::v1::{self, TripPhase, trip_command::Kind as Step},
    event_store::Loaded,
    id::{CommandId, DriverId, OfferId, TripId},
};
use driver::{
    domain::{DriverCommand, Duty, Engagement, Offered},
    record::DriverDecider,
};
use futures_util::FutureExt as _;

use super::{PATIENCE, REPEATS_MAX, Request};
use crate::sim::system::{Kind, World, gateways};

/// What a driver does about an offer or a trip is drawn once for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Honest,
    GivesBack,
    NeverMoves,
    NoShow,
    Forgets,
    Stalls,
    Finishes,
}

struct Phone {
    world: Arc<World>,
    driver: DriverId,
    /// Counts what was wished for: a key each.
    wishes: u64,
    answered: Option<OfferId>,
    plan: Option<(OfferId, Plan)>,
    told_wrong_pin: bool,
}

pub(super) async fn run(world: Arc<World>, driver: DriverId) {
    let mut phone =
        Phone { world, driver, wishes: 0, answered: None, plan: None, told_wrong_pin: false };
    loop {
        phone.world.sim.sleep(phone.some_time(700, 2_500)).await;
        if phone.world.is_silent(driver) {
            continue;
        }
        phone.world.hear(driver);
        let asked = phone.world.ask(Kind::Driver, PATIENCE, move |_, service| {
            gateways::driver_state(service, driver).boxed()
        });
        if let Some((loaded, trip)) = asked.await.flatten() {
            phone.act(loaded, trip).await;
        }
    }
}

impl Phone {
    fn some_time(&self, least_ms: u64, most_ms: u64) -> Duration {
        self.world.sim.between(Duration::from_millis(least_ms), Duration::from_millis(most_ms))
    }

    async fn act(&mut self, loaded: Loaded<DriverDecider>, trip: Option<v1::TripSnapshot>) {
        match &loaded.state.duty {
            Duty::Offline => {
                if self.world.sim.happens(0.3) {
                    self.duty("online", DriverCommand::GoOnline).await;
                }
            }
            Duty::Online(Engagement::Idle { .. }) => {
                if self.world.has_faults() && self.world.sim.happens(0.01) {
                    self.duty("offline", DriverCommand::GoOffline).await;
                }
            }
            Duty::Online(Engagement::Offered(offered)) => self.answer(offered).await,
            Duty::Online(Engagement::Engaged(engaged)) | Duty::Finishing(engaged) => {
                let Some(snapshot) = trip else { return };
                let Some(state) = snapshot.state.as_ref() else { return };
                let is_mine = state.driver_id == self.driver.to_vec()
                    && state.offer_id == engaged.pair.offer.to_vec();
                if is_mine {
                    self.drive(engaged.pair.trip, engaged.pair.offer, state).await;
                }
            }
        }
    }

    async fn answer(&mut self, offered: &Offered) {
        let offer = offered.pair.offer;
        if self.answered == Some(offer) {
            return;
        }
        self.answered = Some(offer);
        match self.world.sim.pick(0..100) {
            0..68 => {
                self.world.sim.sleep(self.some_time(0, 6_000)).await;
                self.offer(offer, "accept", DriverCommand::Accept { offer }).await;
            }
            // At the very end of the time to answer.
            68..76 => {
                let left = offered.expires_at.since(self.world.sim.now());
                self.world.sim.sleep(left.saturating_sub(self.some_time(0, 300))).await;
                self.offer(offer, "accept", DriverCommand::Accept { offer }).await;
            }
            76..88 => {
                let reason = "far".to_owned();
                self.offer(offer, "decline", DriverCommand::Decline { offer, reason }).await;
            }
            88..94 => self.duty("offline", DriverCommand::GoOffline).await,
            // The phone lies on the table.
            _ => {}
        }
    }

    fn plan(&mut self, offer: OfferId) -> Plan {
        if let Some((of, plan)) = self.plan
            && of == offer
        {
            return plan;
        }
        let is_honest = self.world.sim.pick(0..100) < self.world.options.honest_percent;
        let plan = match self.world.sim.pick(0..32) {
            _ if is_honest => Plan::Honest,
            0..7 => Plan::GivesBack,
            7..14 => Plan::NeverMoves,
            14..20 => Plan::NoShow,
            20..23 => Plan::Forgets,
            23..27 => Plan::Stalls,
            _ => Plan::Finishes,
        };
        self.plan = Some((offer, plan));
        self.told_wrong_pin = false;
        plan
    }

    async fn drive(&mut self, trip: TripId, offer: OfferId, state: &v1::TripState) {
        let plan = self.plan(offer);
        let point = state.pickup;
        match (state.phase(), plan) {
            (TripPhase::Assigned, Plan::GivesBack) => {
                let reason = "vehicle_problem".to_owned();
                self.step(trip, "cancel", Step::CancelByDriver(v1::CancelByDriver { reason }))
                    .await;
            }
            (TripPhase::Assigned, Plan::NeverMoves) => {}
            (TripPhase::Assigned, Plan::Finishes) => {
                self.plan = Some((offer, Plan::Honest));
                self.duty("finishing", DriverCommand::Finish).await;
            }
            (TripPhase::Assigned, _) => {
                self.world.sim.sleep(self.some_time(500, 9_000)).await;
                let arrive = v1::Arrive { position: point, forced: self.world.sim.happens(0.1) };
                self.step(trip, "arrive", Step::Arrive(arrive)).await;
            }
            (TripPhase::Arrived, Plan::Forgets) => {}
            (TripPhase::Arrived, _) => self.pick_up(trip, plan, state).await,
            (TripPhase::InProgress, Plan::Stalls) => {}
            (TripPhase::InProgress, _) => {
                self.world.sim.sleep(self.some_time(1_000, 15_000)).await;
                let complete = v1::Complete { position: state.dropoff, distance_m: 0 };
                self.step(trip, "complete", Step::Complete(complete)).await;
            }
            _ => {}
        }
    }

    async fn pick_up(&mut self, trip: TripId, plan: Plan, state: &v1::TripState) {
        let pin = self.world.pin(trip).filter(|_| plan != Plan::NoShow);
        let Some(pin) = pin else {
            if state.wait_over {
                self.step(trip, "no-show", Step::NoShow(v1::NoShow {})).await;
            } else if self.world.sim.happens(0.05) {
                let reason = "rider_not_found".to_owned();
                self.step(trip, "cancel", Step::CancelByDriver(v1::CancelByDriver { reason }))
                    .await;
            }
            return;
        };
        if !self.told_wrong_pin && self.world.sim.happens(0.2) {
            self.told_wrong_pin = true;
            let wrong = if pin == "0000" { "1111" } else { "0000" };
            for _ in 0..self.world.sim.pick(1..7) {
                let start = v1::Start { pin: wrong.to_owned() };
                self.step(trip, "start", Step::Start(start)).await;
            }
            return;
        }
        self.step(trip, "start", Step::Start(v1::Start { pin })).await;
    }

    fn key(&mut self) -> String {
        self.wishes += 1;
        format!("wish-{}", self.wishes)
    }

    async fn duty(&mut self, duty: &str, command: DriverCommand) {
        let key = format!("{duty} {}", self.key());
        self.command("PUT", "/v1/driver/status".to_owned(), key, command).await;
    }

    async fn offer(&mut self, offer: OfferId, answer: &str, command: DriverCommand) {
        let key = self.key();
        self.command("POST", format!("/v1/driver/offers/{offer}/{answer}"), key, command).await;
    }

    async fn command(
        &self,
        method: &'static str,
        path: String,
        key: String,
        command: DriverCommand,
    ) {
        let (driver, world) = (self.driver, &self.world);
        let request = Request { role: "driver", who: driver.0, method, path, key };
        let id = request.command_id(driver);
        let answered = world.persist(REPEATS_MAX, async || {
            let command = command.clone();
            let told = world.ask(Kind::Driver, PATIENCE, move |world, service| {
                gateways::driver_command(world, service, driver, id, command.clone()).boxed()
            });
            request.heard(world, told.await)
        });
        answered.await;
    }

    async fn step(&mut self, trip: TripId, what: &str, step: Step) {
        let (driver, key) = (self.driver, self.key());
        let path = format!("/v1/driver/trips/{trip}/{what}");
        let request = Request { role: "driver", who: driver.0, method: "POST", path, key };
        let id = request.command_id(driver);
        let world = &self.world;
        let answered = world.persist(REPEATS_MAX, async || {
            let step = step.clone();
            let told = world.ask(Kind::Driver, PATIENCE, move |world, service| {
                gateways::trip_command(world, service, trip, id, Some(driver.0), step.clone())
                    .boxed()
            });
            request.heard(world, told.await)
        });
        answered.await;
    }
}

impl Request {
    /// As the driver gateway makes it of the key.
    fn command_id(&self, driver: DriverId) -> CommandId {
        CommandId::keyed(driver.0, &format!("{} {} {}", self.method, self.path, self.key))
    }
}
