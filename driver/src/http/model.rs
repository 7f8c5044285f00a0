//! What a driver's phone sees: the driver's own state, joined with the trip's last event and with
//! what `location` hears. Built anew for every answer; no truth lives here.

use common::{
    clock::Timestamp,
    contract::{self, v1},
    event_store::Loaded,
    geo::Point,
    id::{DriverId, OfferId, TripId},
    money::Money,
};
use serde::Serialize;

use super::trip_seen::{Confirmation, TripSeen};
use crate::{
    domain::{Driver, Duty, Engaged, Engagement, Offered},
    location::{Heard, Liveness, PingCounts},
    record::DriverDecider,
};

/// A driver, as their phone shows it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct DriverView {
    driver_id: DriverId,
    /// How many events the driver has.
    version: u64,
    duty: DutyName,
    engagement: EngagementName,
    offer: Option<OfferView>,
    trip: Option<DriverTrip>,
    pings: PingCounts,
    liveness: Liveness,
    /// The phone's clock minus the gateway's, as measured from pings.
    clock_offset_in_ms: i64,
}

/// Whether the driver works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DutyName {
    Offline,
    Online,
    /// On duty until the current trip ends.
    Finishing,
}

/// What the driver is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EngagementName {
    Idle,
    Offered,
    Engaged,
}

/// An offer in hand. No address: that comes with the assignment.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct OfferView {
    offer_id: OfferId,
    trip_id: TripId,
    expires_at: Timestamp,
    expires_in_ms: u64,
    pickup_eta_in_ms: u64,
    pickup_distance_m: u32,
    fare: Money,
    trip_distance_m: u32,
    trip_duration_in_ms: u64,
}

/// A trip, as its driver sees it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct DriverTrip {
    trip_id: TripId,
    offer_id: Option<OfferId>,
    status: TripStatus,
    /// How many events the trip has.
    version: u64,
    /// Known from the assignment on.
    #[schema(value_type = Option<common::geo::RawPoint>)]
    pickup: Option<Point>,
    /// Known from the assignment on.
    #[schema(value_type = Option<common::geo::RawPoint>)]
    dropoff: Option<Point>,
    fare: Option<Money>,
    /// While the driver waits at the pickup.
    no_show_allowed_in_ms: Option<u64>,
    /// While the driver waits at the pickup.
    pin_tries_left: Option<u32>,
}

/// Where a trip stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TripStatus {
    /// The driver accepted; the trip has not said yes yet.
    Confirming,
    Matching,
    Assigned,
    Arrived,
    InProgress,
    Completed,
    Cancelled,
    Unfulfilled,
}

impl DriverView {
    pub(crate) fn new(
        driver: DriverId,
        loaded: &Loaded<DriverDecider>,
        trip: Option<&TripSeen>,
        heard: Heard,
        now: Timestamp,
    ) -> Self {
        let state: &Driver = &loaded.state;
        let (duty, engagement) = match &state.duty {
            Duty::Offline => (DutyName::Offline, EngagementName::Idle),
            Duty::Online(Engagement::Idle { .. }) => (DutyName::Online, EngagementName::Idle),
            Duty::Online(Engagement::Offered(_)) => (DutyName::Online, EngagementName::Offered),
            Duty::Online(Engagement::Engaged(_)) => (DutyName::Online, EngagementName::Engaged),
            Duty::Finishing(_) => (DutyName::Finishing, EngagementName::Engaged),
        };
        Self {
            driver_id: driver,
            version: loaded.version,
            duty,
            engagement,
            offer: state.offered().map(|offered| OfferView::new(offered, now)),
            trip: state.engaged().map(|engaged| DriverTrip::engaged(driver, engaged, trip, now)),
            pings: heard.pings,
            liveness: heard.liveness,
            clock_offset_in_ms: heard.clock_offset_in_ms,
        }
    }
}

impl OfferView {
    fn new(offered: &Offered, now: Timestamp) -> Self {
        let Offered { pair, expires_at, terms } = offered;
        Self {
            offer_id: pair.offer,
            trip_id: pair.trip,
            expires_at: *expires_at,
            expires_in_ms: expires_at.in_ms(now),
            pickup_eta_in_ms: u64::from(terms.pickup_eta_s) * 1000,
            pickup_distance_m: terms.pickup_distance_m,
            fare: terms.fare,
            trip_distance_m: terms.trip_distance_m,
            trip_duration_in_ms: u64::from(terms.trip_duration_s) * 1000,
        }
    }
}

impl DriverTrip {
    /// The trip of an engaged driver: confirming, with no address, until the trip says that it is
    /// this driver's.
    fn engaged(
        driver: DriverId,
        engaged: Engaged,
        trip: Option<&TripSeen>,
        now: Timestamp,
    ) -> Self {
        let pair = engaged.pair;
        let seen = trip.filter(|seen| seen.trip == pair.trip);
        match seen {
            Some(seen) if seen.confirms(driver, pair.offer) == Confirmation::Assigned => {
                Self::assigned(driver, seen, now)
            }
            Some(_) | None => Self {
                trip_id: pair.trip,
                offer_id: Some(pair.offer),
                status: TripStatus::Confirming,
                version: seen.map_or(0, |seen| seen.version),
                pickup: None,
                dropoff: None,
                fare: seen.and_then(|seen| fare(&seen.state)),
                no_show_allowed_in_ms: None,
                pin_tries_left: None,
            },
        }
    }

    /// A trip as it is after a driver's command. Addresses only while it is the driver's.
    pub(crate) fn assigned(driver: DriverId, seen: &TripSeen, now: Timestamp) -> Self {
        let state = &seen.state;
        let is_mine = state.driver_id == driver.0.as_bytes();
        let point = |field: Option<&v1::Point>| {
            field.filter(|_| is_mine).and_then(|raw| contract::point("point", Some(raw)).ok())
        };
        let is_waiting = is_mine && state.phase() == v1::TripPhase::Arrived;
        Self {
            trip_id: seen.trip,
            offer_id: OfferId::try_from(state.offer_id.as_slice()).ok().filter(|_| is_mine),
            status: status(state.phase()),
            version: seen.version,
            pickup: point(state.pickup.as_ref()),
            dropoff: point(state.dropoff.as_ref()),
            fare: fare(state),
            no_show_allowed_in_ms: no_show_in_ms(state, now).filter(|_| is_waiting),
            pin_tries_left: is_waiting.then_some(state.pin_tries_left),
        }
    }
}

/// How long a driver at the pickup has to wait until a no-show, if they are there.
pub(crate) fn no_show_in_ms(state: &v1::TripState, now: Timestamp) -> Option<u64> {
    let wait_until = contract::moment(state.wait_until_us)?;
    Some(if state.wait_over { 0 } else { wait_until.in_ms(now) })
}

/// What was charged, else what was quoted.
fn fare(state: &v1::TripState) -> Option<Money> {
    let quoted = || state.quote.as_ref().and_then(|quote| quote.fare.as_ref());
    contract::money("fare", state.fare.as_ref().or_else(quoted)).ok()
}

pub(crate) fn status(phase: v1::TripPhase) -> TripStatus {
    match phase {
        v1::TripPhase::Unspecified | v1::TripPhase::Matching => TripStatus::Matching,
        v1::TripPhase::Assigned => TripStatus::Assigned,
        v1::TripPhase::Arrived => TripStatus::Arrived,
        v1::TripPhase::InProgress => TripStatus::InProgress,
        v1::TripPhase::Completed => TripStatus::Completed,
        v1::TripPhase::Cancelled => TripStatus::Cancelled,
        v1::TripPhase::Unfulfilled => TripStatus::Unfulfilled,
    }
}
