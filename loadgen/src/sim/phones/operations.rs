//! Operations: people who end what nobody else ends, and send back what was given up once its cause is
//! gone.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use common::{
    contract::v1::{self, TripPhase, trip_command::Kind as Wish},
    id::{CommandId, TripId},
    stream::{DLQ, TRIP},
};
use futures_util::FutureExt as _;
use prost::Message as _;

use super::PATIENCE;
use crate::sim::{
    engine::OUTSIDE,
    system::{Kind, World, gateways},
};

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a driver at the kerb may do nothing after the wait is over.
const KERB_MAX: Duration = Duration::from_secs(40);

pub(super) async fn run(world: Arc<World>) {
    let mut asked = BTreeSet::new();
    loop {
        world.sim.sleep(LOOK_EVERY).await;
        for (trip, state) in trips(&world) {
            let now = world.sim.now();
            let waited = common::clock::Timestamp::from_micros(state.wait_until_us);
            let wish = match state.phase() {
                TripPhase::InProgress if state.stalled => {
                    let completed = trip.0.as_u128() % 2 == 0;
                    Wish::Close(v1::Close { completed, reason: "stalled".to_owned() })
                }
                TripPhase::Arrived if state.pin_tries_left == 0 => {
                    Wish::UnlockPin(v1::UnlockPin {})
                }
                TripPhase::Arrived if state.wait_over && now.since(waited) > KERB_MAX => {
                    Wish::Close(v1::Close { completed: false, reason: "at_the_kerb".to_owned() })
                }
                _ => continue,
            };
            let id = CommandId::keyed(trip.0, &format!("ops-{}", asked.len()));
            asked.insert(id.0);
            let answer = world.ask(Kind::Trip, PATIENCE, move |world, service| {
                gateways::trip_command(world, service, trip, id, None, wish.clone()).boxed()
            });
            if answer.await.is_some() {
                world.seen("operations acted");
            }
        }
    }
}

fn trips(world: &Arc<World>) -> Vec<(TripId, v1::TripState)> {
    let last = world.with_broker(|broker| broker.last_per_subject(TRIP, "trip.event.>"));
    let trip = |message: &Arc<crate::sim::jetstream::Message>| {
        let key = message.subject.rsplit('.').next()?.parse().ok()?;
        let event = v1::TripEvent::decode(message.payload.as_ref()).ok()?;
        Some((TripId(key), event.state?))
    };
    last.unwrap_or_default().iter().filter_map(trip).collect()
}

/// Sends every dead letter back to the consumer that gave it up, until it is handled.
pub fn replay_letters(world: &Arc<World>) {
    let here = Arc::clone(world);
    world.sim.spawn(OUTSIDE, async move {
        let mut handled = BTreeSet::new();
        loop {
            let letters = here.with_broker(|broker| broker.last_per_subject(DLQ, "dlq.>"));
            for letter in letters.unwrap_or_default() {
                if !handled.contains(&letter.sequence) && here.replay(&letter).await {
                    handled.insert(letter.sequence);
                    here.seen("dead letter replayed");
                }
            }
            here.sim.sleep(LOOK_EVERY).await;
        }
    });
}
