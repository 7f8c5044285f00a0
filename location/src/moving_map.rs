//! The moving map: once a second, the cars that changed, packed. Whoever begins to look sees every
//! car within ten seconds, because a tenth of those that did not change is sent too. Each replica
//! sends the cars of the partitions that it reads; together they are the map.

use std::{collections::HashMap, sync::Arc, time::Duration};

use common::{clock::Timestamp, contract::v1, nats::Nats, subject};
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use crate::{
    city::City,
    index::{E7, Sighting},
};

const FRAME_EVERY: Duration = Duration::from_secs(1);
/// Every car is sent at least each so many frames.
const REPEAT_EVERY: u32 = 10;
/// Cars in one message: about half of what the broker takes by default.
const FRAME_CARS_MAX: usize = 20_000;
/// Liveness stands above the two bits of the activity.
const LIVENESS_SHIFT: u8 = 2;

/// Publishes the map until shutdown.
pub(crate) async fn run(
    nats: &Nats,
    city: &Arc<City>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut sent = Vec::new();
    let mut tick = 0_u32;
    let mut ticks = tokio::time::interval(FRAME_EVERY);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        for frame in frames(city, &mut sent, tick, nats.clock.now()) {
            let payload = frame.encode_to_vec().into();
            if let Err(err) = nats.client.publish(subject::LOCATION_FRAME, payload).await {
                // Nobody waits for a frame; the next one comes in a second.
                tracing::debug!(error = %err, "frame not sent");
            }
        }
        tick = tick.wrapping_add(1);
    }
    Ok(())
}

/// What was sent of a car last.
type Sent = (E7, u8);

/// The frames of this tick: one, unless very many cars changed.
fn frames(
    city: &City,
    sent: &mut Vec<Option<Sent>>,
    tick: u32,
    at: Timestamp,
) -> Vec<v1::LocationFrame> {
    sent.resize(usize::try_from(city.index.driver_count()).unwrap_or(sent.len()), None);
    let mut frames = vec![Packer::new(city, at)];
    for (number, last) in (0_u32..).zip(sent.iter_mut()) {
        let Some(seen) = city.index.by_number(number) else { continue };
        let Some(position) = seen.position else { continue };
        if city.is_behind(seen.partition, at) {
            continue;
        }
        let state = seen.activity.bits() | (city.liveness(&seen).bits() << LIVENESS_SHIFT);
        let is_due = number % REPEAT_EVERY == tick % REPEAT_EVERY;
        if *last == Some((position, state)) && !is_due {
            continue;
        }
        *last = Some((position, state));
        if frames.last().is_none_or(|packer| packer.is_full()) {
            frames.push(Packer::new(city, at));
        }
        if let Some(packer) = frames.last_mut() {
            packer.add(&seen, position, state);
        }
    }
    frames.into_iter().map(|packer| packer.frame).collect()
}

struct Packer {
    frame: v1::LocationFrame,
    last: E7,
}

impl Packer {
    fn new(city: &City, at: Timestamp) -> Self {
        let frame = v1::LocationFrame {
            at_us: at.micros(),
            counts: Some(city.counts(&HashMap::new()).0.into()),
            ..v1::LocationFrame::default()
        };
        Self { frame, last: E7 { lat: 0, lng: 0 } }
    }

    fn is_full(&self) -> bool {
        self.frame.lat_e7.len() >= FRAME_CARS_MAX
    }

    fn add(&mut self, seen: &Sighting, position: E7, state: u8) {
        let frame = &mut self.frame;
        frame.driver_ids.extend_from_slice(seen.driver.0.as_bytes());
        // Differences wrap: half-way round the earth does not fit.
        frame.lat_e7.push(position.lat.wrapping_sub(self.last.lat));
        frame.lng_e7.push(position.lng.wrapping_sub(self.last.lng));
        frame.heading.push(seen.heading);
        frame.state.push(state);
        self.last = position;
    }
}
