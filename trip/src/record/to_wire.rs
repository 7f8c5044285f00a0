//! Domain to contract.

use std::time::Duration;

use common::contract::v1;

use crate::domain::{
    Arrival, Arrived, Assigned, Assignment, Cancelled, Completed, InProgress, Matching, OfferEnd,
    OfferRecord, OfferStatus, Party, Phase, Progress, Quote, Request, Search, Terms, Trip,
    TripEvent, Unfulfilled, Withdrawn,
};

impl From<&TripEvent> for v1::trip_event::Kind {
    fn from(event: &TripEvent) -> Self {
        match event {
            TripEvent::Requested { rider, pickup, dropoff, quote, pin, terms, match_deadline } => {
                Self::Requested(v1::TripRequested {
                    rider_id: rider.to_vec(),
                    pickup: Some((*pickup).into()),
                    dropoff: Some((*dropoff).into()),
                    quote: Some(quote.into()),
                    pin: pin.to_string(),
                    match_deadline_us: match_deadline.micros(),
                    terms: terms_to_wire(terms),
                })
            }
            TripEvent::Offered { offer, driver, pickup_eta_s, pickup_distance_m, lease_until } => {
                Self::Offered(v1::TripOffered {
                    offer_id: offer.to_vec(),
                    driver_id: driver.to_vec(),
                    pickup_eta_s: *pickup_eta_s,
                    pickup_distance_m: *pickup_distance_m,
                    lease_until_us: lease_until.micros(),
                })
            }
            TripEvent::Assigned { offer, driver, pickup_eta_s, watchdog } => {
                Self::Assigned(v1::TripAssigned {
                    offer_id: offer.to_vec(),
                    driver_id: driver.to_vec(),
                    pickup_eta_s: *pickup_eta_s,
                    watchdog_us: watchdog.micros(),
                })
            }
            TripEvent::OfferClosed { offer, driver, why } => {
                Self::OfferClosed(v1::TripOfferClosed {
                    offer_id: offer.to_vec(),
                    driver_id: driver.to_vec(),
                    why: v1::OfferEnd::from(*why).into(),
                })
            }
            TripEvent::Unfulfilled => Self::Unfulfilled(v1::TripUnfulfilled {}),
            TripEvent::Cancelled { by, reason, phase, fee } => Self::Cancelled(v1::TripCancelled {
                by: v1::Party::from(*by).into(),
                reason: reason.as_str().to_owned(),
                phase: phase_to_wire(*phase).into(),
                fee: Some((*fee).into()),
            }),
            TripEvent::Unassigned { by, reason, driver, offer, match_deadline } => {
                Self::Unassigned(v1::TripUnassigned {
                    by: v1::Party::from(*by).into(),
                    reason: reason.as_str().to_owned(),
                    driver_id: driver.to_vec(),
                    offer_id: offer.to_vec(),
                    match_deadline_us: match_deadline.micros(),
                })
            }
            TripEvent::Arrived { position, forced, wait_until } => Self::Arrived(v1::TripArrived {
                position: Some((*position).into()),
                forced: *forced,
                wait_until_us: wait_until.micros(),
            }),
            TripEvent::WaitOver => Self::WaitOver(v1::TripWaitOver {}),
            TripEvent::PinRefused { tries_left } => {
                Self::PinRefused(v1::TripPinRefused { tries_left: *tries_left })
            }
            TripEvent::PinUnlocked => Self::PinUnlocked(v1::TripPinUnlocked {}),
            TripEvent::Started { watchdog } => {
                Self::Started(v1::TripStarted { watchdog_us: watchdog.micros() })
            }
            TripEvent::Completed { position, distance_m, duration_s, fare, by } => {
                Self::Completed(v1::TripCompleted {
                    position: position.map(Into::into),
                    distance_m: *distance_m,
                    duration_s: *duration_s,
                    fare: Some((*fare).into()),
                    by: v1::Party::from(*by).into(),
                })
            }
            TripEvent::Stalled => Self::Stalled(v1::TripStalled {}),
            TripEvent::Rated { by, stars } => Self::Rated(v1::TripRated {
                by: v1::Party::from(*by).into(),
                stars: (*stars).into(),
            }),
        }
    }
}

impl From<&Trip> for v1::TripState {
    fn from(trip: &Trip) -> Self {
        let mut wire = Self { phase: phase_to_wire(trip.phase()).into(), ..Self::default() };
        if let Some(request) = trip.request() {
            add_request(&mut wire, request);
        }
        if let Some(search) = trip.search() {
            add_search(&mut wire, search);
        }
        if let Some(assignment) = trip.assignment() {
            add_assignment(&mut wire, assignment);
        }
        match trip {
            Trip::Unknown | Trip::Assigned(Assigned { .. }) => (),
            Trip::Withdrawn(withdrawn) => add_withdrawal(&mut wire, withdrawn),
            Trip::Matching(Matching { deadline, .. }) => {
                wire.match_deadline_us = deadline.micros();
            }
            Trip::Arrived(Arrived { arrival, pin_tries_left, .. }) => {
                add_arrival(&mut wire, arrival);
                wire.pin_tries_left = *pin_tries_left;
            }
            Trip::InProgress(InProgress { arrival, started_at, stalled, .. }) => {
                add_arrival(&mut wire, arrival);
                wire.started_at_us = started_at.micros();
                wire.stalled = *stalled;
            }
            Trip::Completed(completed) => add_completion(&mut wire, completed),
            Trip::Cancelled(cancelled) => add_cancellation(&mut wire, cancelled),
            Trip::Unfulfilled(Unfulfilled { at, .. }) => wire.ended_at_us = at.micros(),
        }
        wire
    }
}

fn add_request(wire: &mut v1::TripState, request: &Request) {
    wire.rider_id = request.rider.to_vec();
    wire.pickup = Some(request.pickup.into());
    wire.dropoff = Some(request.dropoff.into());
    wire.quote = Some((&request.quote).into());
    wire.pin = request.pin.to_string();
    wire.requested_at_us = request.at.micros();
    wire.terms = terms_to_wire(&request.terms);
}

fn add_search(wire: &mut v1::TripState, search: &Search) {
    wire.offers = search.offers.iter().map(Into::into).collect();
    wire.excluded = search.excluded.iter().map(|driver| driver.to_vec()).collect();
    wire.unassigned_count = search.unassignments;
}

fn add_assignment(wire: &mut v1::TripState, assignment: &Assignment) {
    wire.driver_id = assignment.driver.to_vec();
    wire.offer_id = assignment.offer.to_vec();
    wire.pickup_eta_s = assignment.pickup_eta_s;
    wire.assigned_at_us = assignment.at.micros();
}

fn add_arrival(wire: &mut v1::TripState, arrival: &Arrival) {
    wire.arrived_at_us = arrival.at.micros();
    wire.forced_arrival = arrival.forced;
    wire.wait_until_us = arrival.wait_until.micros();
    wire.wait_over = arrival.wait_over;
}

fn add_completion(wire: &mut v1::TripState, completed: &Completed) {
    add_arrival(wire, &completed.arrival);
    wire.started_at_us = completed.started_at.micros();
    wire.ended_at_us = completed.at.micros();
    wire.distance_m = completed.distance_m;
    wire.duration_s = completed.duration_s;
    wire.fare = Some(completed.fare.into());
    wire.stars_by_rider = completed.ratings.by_rider.map_or(0, Into::into);
    wire.stars_by_driver = completed.ratings.by_driver.map_or(0, Into::into);
}

fn add_cancellation(wire: &mut v1::TripState, cancelled: &Cancelled) {
    match &cancelled.progress {
        Progress::Matching | Progress::Assigned(_) => (),
        Progress::Arrived(_, arrival) => add_arrival(wire, arrival),
        Progress::InProgress(_, arrival, started_at) => {
            add_arrival(wire, arrival);
            wire.started_at_us = started_at.micros();
        }
    }
    wire.ended_at_us = cancelled.at.micros();
    wire.cancelled = Some(v1::TripCancelled {
        by: v1::Party::from(cancelled.by).into(),
        reason: cancelled.reason.as_str().to_owned(),
        phase: phase_to_wire(Some(cancelled.progress.phase())).into(),
        fee: Some(cancelled.fee.into()),
    });
}

fn add_withdrawal(wire: &mut v1::TripState, withdrawn: &Withdrawn) {
    wire.ended_at_us = withdrawn.at.micros();
    wire.cancelled = Some(v1::TripCancelled {
        by: v1::Party::Rider.into(),
        reason: withdrawn.reason.as_str().to_owned(),
        phase: v1::TripPhase::Unspecified.into(),
        fee: Some(withdrawn.fee.into()),
    });
}

impl From<&OfferRecord> for v1::OfferRecord {
    fn from(record: &OfferRecord) -> Self {
        let wire = Self {
            offer_id: record.offer.to_vec(),
            driver_id: record.driver.to_vec(),
            pickup_eta_s: record.pickup_eta_s,
            pickup_distance_m: record.pickup_distance_m,
            ..Self::default()
        };
        match record.status {
            OfferStatus::Open { lease_until } => Self {
                status: v1::OfferStatus::Open.into(),
                lease_until_us: lease_until.micros(),
                ..wire
            },
            OfferStatus::Assigned => Self { status: v1::OfferStatus::Assigned.into(), ..wire },
            OfferStatus::Closed(why) => Self {
                status: v1::OfferStatus::Closed.into(),
                why: v1::OfferEnd::from(why).into(),
                ..wire
            },
        }
    }
}

impl From<&Quote> for v1::Quote {
    fn from(quote: &Quote) -> Self {
        Self {
            fare_id: quote.fare_id.clone(),
            product: quote.product.clone(),
            fare: Some(quote.fare.into()),
            distance_m: quote.distance_m,
            duration_s: quote.duration_s,
            surge_percent: quote.surge_percent,
            cancellation_fee: Some(quote.cancellation_fee.into()),
        }
    }
}

/// The standard terms go without saying.
fn terms_to_wire(terms: &Terms) -> Option<v1::TripTerms> {
    let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    (*terms != Terms::STANDARD).then(|| v1::TripTerms {
        match_deadline_ms: ms(terms.match_deadline),
        offer_lease_ms: ms(terms.offer_lease),
        pickup_grace_ms: ms(terms.pickup_grace),
        no_show_wait_ms: ms(terms.no_show_wait),
        ride_grace_ms: ms(terms.ride_grace),
        free_cancellation_ms: ms(terms.free_cancellation),
        rating_window_ms: ms(terms.rating_window),
    })
}

fn phase_to_wire(phase: Option<Phase>) -> v1::TripPhase {
    match phase {
        None => v1::TripPhase::Unspecified,
        Some(Phase::Matching) => v1::TripPhase::Matching,
        Some(Phase::Assigned) => v1::TripPhase::Assigned,
        Some(Phase::Arrived) => v1::TripPhase::Arrived,
        Some(Phase::InProgress) => v1::TripPhase::InProgress,
        Some(Phase::Completed) => v1::TripPhase::Completed,
        Some(Phase::Cancelled) => v1::TripPhase::Cancelled,
        Some(Phase::Unfulfilled) => v1::TripPhase::Unfulfilled,
    }
}

impl From<Party> for v1::Party {
    fn from(party: Party) -> Self {
        match party {
            Party::Rider => Self::Rider,
            Party::Driver => Self::Driver,
            Party::System => Self::System,
            Party::Operations => Self::Operations,
        }
    }
}

impl From<OfferEnd> for v1::OfferEnd {
    fn from(end: OfferEnd) -> Self {
        match end {
            OfferEnd::Declined => Self::Declined,
            OfferEnd::Lapsed => Self::Lapsed,
            OfferEnd::Busy => Self::Busy,
            OfferEnd::Lost => Self::Lost,
            OfferEnd::Offline => Self::Offline,
            OfferEnd::LeaseOver => Self::LeaseOver,
            OfferEnd::TripEnded => Self::TripEnded,
            OfferEnd::Released => Self::Released,
        }
    }
}
