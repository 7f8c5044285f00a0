//! What `location` has to know of others: what every driver does, and where rides are asked for.

use std::{sync::Arc, time::Duration};

use common::{
    clock::Timestamp,
    contract::{self, Malformed, v1},
    id::{DriverId, TripId},
    nats::Nats,
    stream, subject,
    view::{self, CaughtUp, Start, Stored, ViewSpec},
};
use tokio_util::sync::CancellationToken;

use crate::{
    city::City,
    domain::{
        liveness::DutyState,
        surge::{DEMAND_WINDOW, index_cells, surge_cell},
    },
    index::{Activity, DriverIndex as _},
};

/// Follows all drivers' events: each says what its driver does now.
pub(crate) async fn follow_drivers(
    nats: &Nats,
    city: &Arc<City>,
    caught_up: &CaughtUp,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let spec = ViewSpec {
        stream: stream::DRIVER,
        filter: subject::DRIVER.events(),
        start: Start::LastPerSubject,
    };
    view::follow(nats, spec, caught_up, shutdown, |stored| {
        match duty_of(&stored) {
            Ok((driver, duty)) => city.index.set_activity(driver, duty.activity, duty.since),
            Err(err) => skipped(&stored, &err),
        }
        std::future::ready(Ok(()))
    })
    .await
}

/// Follows trips' events for the requests in them, and moves the surge with them.
pub(crate) async fn follow_demand(
    nats: &Nats,
    city: &Arc<City>,
    surge_every: Duration,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let now = nats.clock.now().micros();
    let since = Timestamp::from_micros(now.saturating_sub(micros(DEMAND_WINDOW)));
    let spec = ViewSpec {
        stream: stream::TRIP,
        filter: subject::TRIP.events(),
        start: Start::Since(since),
    };
    let caught_up = CaughtUp::default();
    let follow = view::follow(nats, spec, &caught_up, shutdown.clone(), |stored| {
        if let Err(err) = note_request(nats, city, &stored) {
            skipped(&stored, &err);
        }
        std::future::ready(Ok(()))
    });
    let update = async {
        let mut ticks = tokio::time::interval(surge_every);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            update_surge(nats, city);
        }
        anyhow::Ok(())
    };
    tokio::try_join!(follow, update)?;
    Ok(())
}

/// A view cannot stop at what it does not understand: the next event of the same aggregate carries
/// the whole state again.
fn skipped(stored: &Stored, err: &Malformed) {
    tracing::error!(subject = stored.subject, sequence = stored.sequence, error = %err, "event skipped");
}

/// What an event says that its driver does.
///
/// # Errors
/// When it cannot be read.
pub fn duty_of(stored: &Stored) -> Result<(DriverId, DutyState), Malformed> {
    let event: v1::DriverEvent = contract::decode("driver event", &stored.payload)?;
    let at_us = contract::required("stamp", event.stamp)?.at_us;
    let state = contract::required("state", event.state)?;
    let (activity, since_us) = activity(&state, at_us);
    let since = Timestamp::from_micros(since_us);
    Ok((DriverId(stored.key()?), DutyState { activity, since }))
}

fn activity(state: &v1::DriverState, at_us: i64) -> (Activity, i64) {
    use v1::engagement::Kind;
    let engagement = state.engagement.as_ref().and_then(|engagement| engagement.kind.as_ref());
    match (state.duty(), engagement) {
        (v1::Duty::Online | v1::Duty::Finishing, Some(Kind::Engaged(engaged))) => {
            (Activity::Engaged, engaged.since_us)
        }
        (v1::Duty::Online, Some(Kind::Offered(_))) => (Activity::Offered, at_us),
        (v1::Duty::Online, Some(Kind::Idle(idle))) => (Activity::Idle, idle.since_us),
        // Finishing without a trip ends in the same breath.
        (v1::Duty::Finishing, _) | (v1::Duty::Online, None) => (Activity::Offline, at_us),
        (v1::Duty::Offline | v1::Duty::Unspecified, _) => (Activity::Offline, at_us),
    }
}

fn note_request(nats: &Nats, city: &City, stored: &Stored) -> Result<(), Malformed> {
    let event: v1::TripEvent = contract::decode("trip event", &stored.payload)?;
    let state = contract::required("state", event.state)?;
    // A cancellation that came before its request has neither.
    let (Some(at), Some(pickup)) = (contract::moment(state.requested_at_us), &state.pickup) else {
        return Ok(());
    };
    if let Some(cell) = surge_cell(contract::point("pickup", Some(pickup))?) {
        city.demand().requested(TripId(stored.key()?), at, cell, nats.clock.now());
    }
    Ok(())
}

fn update_surge(nats: &Nats, city: &City) {
    let now = nats.clock.now();
    let mut demand = city.demand();
    demand.forget_before(now);
    city.surge().update(&demand, |cell| {
        let free: usize = index_cells(cell)
            .map(|cell| city.index.count_in(cell, |seen| city.is_offerable(seen, now)))
            .sum();
        city.among_all(free, now)
    });
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
