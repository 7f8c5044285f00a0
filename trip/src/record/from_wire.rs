//! Contract to domain. Whoever reads may rely on what came through here.

use std::time::Duration;

use common::{
    clock::Timestamp,
    contract::{Malformed, id, money, point, required, v1},
    id::DriverId,
};

use crate::domain::{
    Arrival, Arrived, Assigned, Assignment, Cancelled, Completed, InProgress, Matching, OFFERS_MAX,
    OfferEnd, OfferRecord, OfferStatus, Party, Phase, Pin, Progress, Quote, Ratings, Reason,
    Request, Search, Stars, Terms, Trip, TripEvent, Unfulfilled, Withdrawn,
};

impl TryFrom<&v1::trip_event::Kind> for TripEvent {
    type Error = Malformed;
    fn try_from(kind: &v1::trip_event::Kind) -> Result<Self, Malformed> {
        use v1::trip_event::Kind;
        Ok(match kind {
            Kind::Requested(raw) => requested(raw)?,
            Kind::Offered(raw) => Self::Offered {
                offer: id("offer_id", &raw.offer_id)?,
                driver: id("driver_id", &raw.driver_id)?,
                pickup_eta_s: raw.pickup_eta_s,
                pickup_distance_m: raw.pickup_distance_m,
                lease_until: time("lease_until_us", raw.lease_until_us)?,
            },
            Kind::Assigned(raw) => Self::Assigned {
                offer: id("offer_id", &raw.offer_id)?,
                driver: id("driver_id", &raw.driver_id)?,
                pickup_eta_s: raw.pickup_eta_s,
                watchdog: time("watchdog_us", raw.watchdog_us)?,
            },
            Kind::OfferClosed(raw) => Self::OfferClosed {
                offer: id("offer_id", &raw.offer_id)?,
                driver: id("driver_id", &raw.driver_id)?,
                why: offer_end(raw.why())?,
            },
            Kind::Unfulfilled(v1::TripUnfulfilled {}) => Self::Unfulfilled,
            Kind::Cancelled(raw) => Self::Cancelled {
                by: party(raw.by())?,
                reason: reason(&raw.reason)?,
                phase: phase(raw.phase()),
                fee: money("fee", raw.fee.as_ref())?,
            },
            Kind::Unassigned(raw) => Self::Unassigned {
                by: party(raw.by())?,
                reason: reason(&raw.reason)?,
                driver: id("driver_id", &raw.driver_id)?,
                offer: id("offer_id", &raw.offer_id)?,
                match_deadline: time("match_deadline_us", raw.match_deadline_us)?,
            },
            Kind::Arrived(raw) => Self::Arrived {
                position: point("position", raw.position.as_ref())?,
                forced: raw.forced,
                wait_until: time("wait_until_us", raw.wait_until_us)?,
            },
            Kind::WaitOver(v1::TripWaitOver {}) => Self::WaitOver,
            Kind::PinRefused(raw) => Self::PinRefused { tries_left: raw.tries_left },
            Kind::PinUnlocked(v1::TripPinUnlocked {}) => Self::PinUnlocked,
            Kind::Started(raw) => Self::Started { watchdog: time("watchdog_us", raw.watchdog_us)? },
            Kind::Completed(raw) => Self::Completed {
                position: raw
                    .position
                    .as_ref()
                    .map(|raw| point("position", Some(raw)))
                    .transpose()?,
                distance_m: raw.distance_m,
                duration_s: raw.duration_s,
                fare: money("fare", raw.fare.as_ref())?,
                by: party(raw.by())?,
            },
            Kind::Stalled(v1::TripStalled {}) => Self::Stalled,
            Kind::Rated(raw) => Self::Rated { by: party(raw.by())?, stars: stars(raw.stars)? },
        })
    }
}

fn requested(raw: &v1::TripRequested) -> Result<TripEvent, Malformed> {
    Ok(TripEvent::Requested {
        rider: id("rider_id", &raw.rider_id)?,
        pickup: point("pickup", raw.pickup.as_ref())?,
        dropoff: point("dropoff", raw.dropoff.as_ref())?,
        quote: quote(raw.quote.as_ref())?,
        pin: pin(&raw.pin)?,
        terms: terms(raw.terms.as_ref()),
        match_deadline: time("match_deadline_us", raw.match_deadline_us)?,
    })
}

impl TryFrom<&v1::TripState> for Trip {
    type Error = Malformed;
    fn try_from(raw: &v1::TripState) -> Result<Self, Malformed> {
        Ok(match raw.phase() {
            v1::TripPhase::Unspecified => Self::Unknown,
            v1::TripPhase::Matching => Self::Matching(Matching {
                request: request(raw)?,
                search: search(raw)?,
                deadline: time("match_deadline_us", raw.match_deadline_us)?,
            }),
            v1::TripPhase::Assigned => Self::Assigned(Assigned {
                request: request(raw)?,
                search: search(raw)?,
                assignment: assignment(raw)?,
            }),
            v1::TripPhase::Arrived => Self::Arrived(Arrived {
                request: request(raw)?,
                search: search(raw)?,
                assignment: assignment(raw)?,
                arrival: arrival(raw)?,
                pin_tries_left: raw.pin_tries_left,
            }),
            v1::TripPhase::InProgress => Self::InProgress(InProgress {
                request: request(raw)?,
                search: search(raw)?,
                assignment: assignment(raw)?,
                arrival: arrival(raw)?,
                started_at: time("started_at_us", raw.started_at_us)?,
                stalled: raw.stalled,
            }),
            v1::TripPhase::Completed => Self::Completed(completed(raw)?),
            v1::TripPhase::Cancelled => cancelled(raw)?,
            v1::TripPhase::Unfulfilled => Self::Unfulfilled(Unfulfilled {
                request: request(raw)?,
                search: search(raw)?,
                at: time("ended_at_us", raw.ended_at_us)?,
            }),
        })
    }
}

fn request(raw: &v1::TripState) -> Result<Request, Malformed> {
    Ok(Request {
        rider: id("rider_id", &raw.rider_id)?,
        pickup: point("pickup", raw.pickup.as_ref())?,
        dropoff: point("dropoff", raw.dropoff.as_ref())?,
        quote: quote(raw.quote.as_ref())?,
        pin: pin(&raw.pin)?,
        terms: terms(raw.terms.as_ref()),
        at: time("requested_at_us", raw.requested_at_us)?,
    })
}

fn search(raw: &v1::TripState) -> Result<Search, Malformed> {
    if raw.offers.len() > OFFERS_MAX {
        return Err(Malformed::new("offers", "more than a trip may make"));
    }
    let excluded = |driver: &Vec<u8>| id::<DriverId>("excluded", driver);
    Ok(Search {
        offers: raw.offers.iter().map(offer_record).collect::<Result<_, _>>()?,
        excluded: raw.excluded.iter().map(excluded).collect::<Result<_, _>>()?,
        unassignments: raw.unassigned_count,
    })
}

fn offer_record(raw: &v1::OfferRecord) -> Result<OfferRecord, Malformed> {
    let status = match raw.status() {
        v1::OfferStatus::Unspecified => return Err(Malformed::missing("offer status")),
        v1::OfferStatus::Open => {
            OfferStatus::Open { lease_until: time("lease_until_us", raw.lease_until_us)? }
        }
        v1::OfferStatus::Assigned => OfferStatus::Assigned,
        v1::OfferStatus::Closed => OfferStatus::Closed(offer_end(raw.why())?),
    };
    Ok(OfferRecord {
        offer: id("offer_id", &raw.offer_id)?,
        driver: id("driver_id", &raw.driver_id)?,
        pickup_eta_s: raw.pickup_eta_s,
        pickup_distance_m: raw.pickup_distance_m,
        status,
    })
}

fn assignment(raw: &v1::TripState) -> Result<Assignment, Malformed> {
    Ok(Assignment {
        driver: id("driver_id", &raw.driver_id)?,
        offer: id("offer_id", &raw.offer_id)?,
        pickup_eta_s: raw.pickup_eta_s,
        at: time("assigned_at_us", raw.assigned_at_us)?,
    })
}

fn arrival(raw: &v1::TripState) -> Result<Arrival, Malformed> {
    Ok(Arrival {
        at: time("arrived_at_us", raw.arrived_at_us)?,
        forced: raw.forced_arrival,
        wait_until: time("wait_until_us", raw.wait_until_us)?,
        wait_over: raw.wait_over,
    })
}

fn completed(raw: &v1::TripState) -> Result<Completed, Malformed> {
    let rating = |raw: u32| (raw != 0).then(|| stars(raw)).transpose();
    Ok(Completed {
        request: request(raw)?,
        search: search(raw)?,
        assignment: assignment(raw)?,
        arrival: arrival(raw)?,
        started_at: time("started_at_us", raw.started_at_us)?,
        at: time("ended_at_us", raw.ended_at_us)?,
        distance_m: raw.distance_m,
        duration_s: raw.duration_s,
        fare: money("fare", raw.fare.as_ref())?,
        ratings: Ratings {
            by_rider: rating(raw.stars_by_rider)?,
            by_driver: rating(raw.stars_by_driver)?,
        },
    })
}

fn cancelled(raw: &v1::TripState) -> Result<Trip, Malformed> {
    let how = required("cancelled", raw.cancelled.as_ref())?;
    let (why, fee) = (reason(&how.reason)?, money("fee", how.fee.as_ref())?);
    let at = time("ended_at_us", raw.ended_at_us)?;
    let progress = match phase(how.phase()) {
        None => return Ok(Trip::Withdrawn(Withdrawn { reason: why, fee, at })),
        Some(Phase::Matching) => Progress::Matching,
        Some(Phase::Assigned) => Progress::Assigned(assignment(raw)?),
        Some(Phase::Arrived) => Progress::Arrived(assignment(raw)?, arrival(raw)?),
        Some(Phase::InProgress) => {
            let started_at = time("started_at_us", raw.started_at_us)?;
            Progress::InProgress(assignment(raw)?, arrival(raw)?, started_at)
        }
        Some(ended @ (Phase::Completed | Phase::Cancelled | Phase::Unfulfilled)) => {
            return Err(Malformed::new("cancelled.phase", ended.name()));
        }
    };
    Ok(Trip::Cancelled(Cancelled {
        request: request(raw)?,
        search: search(raw)?,
        progress,
        by: party(how.by())?,
        reason: why,
        fee,
        at,
    }))
}

/// Reads a quote that must be there.
pub(crate) fn quote(raw: Option<&v1::Quote>) -> Result<Quote, Malformed> {
    let raw = required("quote", raw)?;
    Ok(Quote {
        fare_id: raw.fare_id.clone(),
        product: raw.product.clone(),
        fare: money("quote.fare", raw.fare.as_ref())?,
        distance_m: raw.distance_m,
        duration_s: raw.duration_s,
        surge_percent: raw.surge_percent,
        cancellation_fee: money("quote.cancellation_fee", raw.cancellation_fee.as_ref())?,
    })
}

/// Reads a PIN.
pub(crate) fn pin(raw: &str) -> Result<Pin, Malformed> {
    raw.parse().map_err(|err| Malformed::new("pin", err))
}

/// Reads a reason.
pub(crate) fn reason(raw: &str) -> Result<Reason, Malformed> {
    raw.parse().map_err(|err| Malformed::new("reason", err))
}

/// Reads a rating.
pub(crate) fn stars(raw: u32) -> Result<Stars, Malformed> {
    Stars::try_from(raw).map_err(|err| Malformed::new("stars", err))
}

fn terms(raw: Option<&v1::TripTerms>) -> Terms {
    let ms = |ms: u32| Duration::from_millis(ms.into());
    raw.map_or(Terms::STANDARD, |raw| Terms {
        match_deadline: ms(raw.match_deadline_ms),
        offer_lease: ms(raw.offer_lease_ms),
        pickup_grace: ms(raw.pickup_grace_ms),
        no_show_wait: ms(raw.no_show_wait_ms),
        ride_grace: ms(raw.ride_grace_ms),
        free_cancellation: ms(raw.free_cancellation_ms),
        rating_window: ms(raw.rating_window_ms),
    })
}

fn time(what: &'static str, micros: i64) -> Result<Timestamp, Malformed> {
    common::contract::moment(micros).ok_or_else(|| Malformed::missing(what))
}

fn phase(raw: v1::TripPhase) -> Option<Phase> {
    match raw {
        v1::TripPhase::Unspecified => None,
        v1::TripPhase::Matching => Some(Phase::Matching),
        v1::TripPhase::Assigned => Some(Phase::Assigned),
        v1::TripPhase::Arrived => Some(Phase::Arrived),
        v1::TripPhase::InProgress => Some(Phase::InProgress),
        v1::TripPhase::Completed => Some(Phase::Completed),
        v1::TripPhase::Cancelled => Some(Phase::Cancelled),
        v1::TripPhase::Unfulfilled => Some(Phase::Unfulfilled),
    }
}

fn party(raw: v1::Party) -> Result<Party, Malformed> {
    match raw {
        v1::Party::Unspecified => Err(Malformed::missing("party")),
        v1::Party::Rider => Ok(Party::Rider),
        v1::Party::Driver => Ok(Party::Driver),
        v1::Party::System => Ok(Party::System),
        v1::Party::Operations => Ok(Party::Operations),
    }
}

/// Reads how an offer ended.
pub(crate) fn offer_end(raw: v1::OfferEnd) -> Result<OfferEnd, Malformed> {
    match raw {
        v1::OfferEnd::Unspecified => Err(Malformed::missing("offer end")),
        v1::OfferEnd::Declined => Ok(OfferEnd::Declined),
        v1::OfferEnd::Lapsed => Ok(OfferEnd::Lapsed),
        v1::OfferEnd::Busy => Ok(OfferEnd::Busy),
        v1::OfferEnd::Lost => Ok(OfferEnd::Lost),
        v1::OfferEnd::Offline => Ok(OfferEnd::Offline),
        v1::OfferEnd::LeaseOver => Ok(OfferEnd::LeaseOver),
        v1::OfferEnd::TripEnded => Ok(OfferEnd::TripEnded),
        v1::OfferEnd::Released => Ok(OfferEnd::Released),
    }
}
