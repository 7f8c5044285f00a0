//! People and their phones: they want rides, answer offers, drive, change their minds and lose their
//! connection. A phone repeats what was not answered, under the same key.

mod driver;
mod operations;
mod rider;

use std::{sync::Arc, time::Duration};

use common::id::{DriverId, RiderId};
use serde_json::Value;
use uuid::Uuid;

pub use operations::replay_letters;

use super::{
    engine::OUTSIDE,
    system::{World, gateways::Told},
};
use crate::journal::Promise;

/// How long a phone waits for an answer.
const PATIENCE: Duration = Duration::from_secs(6);
/// How often a phone repeats what was not answered.
const REPEATS_MAX: u32 = 12;

/// Everybody begins their day.
pub fn begin(world: &Arc<World>) {
    for number in 0..world.options.drivers {
        let driver = DriverId(Uuid::from_u128(0xd000 + u128::from(number)));
        world.sim.spawn(OUTSIDE, driver::run(Arc::clone(world), driver));
    }
    for number in 0..world.options.riders {
        let rider = RiderId(Uuid::from_u128(0xa000 + u128::from(number)));
        world.sim.spawn(OUTSIDE, rider::run(Arc::clone(world), rider));
    }
    world.sim.spawn(OUTSIDE, operations::run(Arc::clone(world)));
}

/// Who calls, and what.
#[derive(Debug, Clone)]
struct Request {
    role: &'static str,
    who: Uuid,
    method: &'static str,
    path: String,
    key: String,
}

impl Request {
    /// Writes a promise down.
    fn promised(&self, world: &World, status: u16, response: Value) {
        let promise = Promise {
            at: world.sim.now(),
            role: self.role.to_owned(),
            id: self.who,
            method: self.method.to_owned(),
            path: self.path.clone(),
            key: self.key.clone(),
            request: Value::Null,
            status,
            replayed: false,
            body: response.to_string(),
            response,
        };
        world.with_witness(|witness| witness.promises.push(promise));
    }

    /// What becomes of an answer: a promise to hold, a refusal to accept, or nothing yet.
    fn heard(&self, world: &World, told: Option<Told>) -> Option<Result<Value, String>> {
        match told {
            Some(Told::Done { status, response }) => {
                world.sim.tell(format!("{} {}: {status}", self.method, self.short()));
                self.promised(world, status, response.clone());
                Some(Ok(response))
            }
            Some(Told::Refused(why)) => {
                world.sim.tell(format!("{} {}: refused, {why}", self.method, self.short()));
                Some(Err(why))
            }
            Some(Told::Unavailable) | None => None,
        }
    }

    fn short(&self) -> String {
        let parts = self.path.split('/').map(|part| match part.len() {
            36 => crate::audit::sentence::short(part),
            _ => part.to_owned(),
        });
        let who = crate::audit::sentence::short(self.who);
        format!("{} by {} …{who}", parts.collect::<Vec<_>>().join("/"), self.role)
    }
}
