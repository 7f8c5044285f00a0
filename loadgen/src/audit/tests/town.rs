//! A handmade town: one ride as it should be, told event by event, and the ways to spoil it.

use std::collections::BTreeMap;

use common::{
    clock::Timestamp,
    contract::v1::{self, OfferEnd, OfferStatus, driver_event, rider_event, trip_event},
    id::{DriverId, OfferId, RiderId, TripId},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    audit::{
        Entry, Evidence, Ledger, LedgerCharge, PingEvidence, ProviderCharge, Verdict, Violation,
        facts::{Bond, DriverFacts, TripFacts},
    },
    journal::{PingTotals, Promise},
};

pub(super) const TRIP: TripId = TripId(Uuid::from_u128(0x71));
pub(super) const OTHER_TRIP: TripId = TripId(Uuid::from_u128(0x72));
pub(super) const RIDER: RiderId = RiderId(Uuid::from_u128(0x41));
pub(super) const ANNA: DriverId = DriverId(Uuid::from_u128(0xa1));
pub(super) const BO: DriverId = DriverId(Uuid::from_u128(0xb0));
pub(super) const FIRST: OfferId = OfferId(Uuid::from_u128(0x01));
pub(super) const SECOND: OfferId = OfferId(Uuid::from_u128(0x02));
pub(super) const THIRD: OfferId = OfferId(Uuid::from_u128(0x03));
pub(super) const FARE: i64 = 12_300;

pub(super) type TripKind = trip_event::Kind;
pub(super) type DriverKind = driver_event::Kind;
pub(super) type RiderKind = rider_event::Kind;

/// Evidence in the making. States are folded while it is told, so a story told well is consistent.
#[derive(Default)]
pub(super) struct Town {
    pub evidence: Evidence,
    sequence: u64,
    trips: BTreeMap<TripId, TripFacts>,
    drivers: BTreeMap<DriverId, DriverFacts>,
}

pub(super) fn sek(amount_minor: i64) -> v1::Money {
    v1::Money { amount_minor, currency: "SEK".to_owned() }
}

impl Town {
    fn entry<E>(&mut self, kind: &str, event: E) -> Entry<E> {
        self.sequence += 1;
        Entry {
            sequence: self.sequence,
            subject: String::new(),
            kind: kind.to_owned(),
            id: Uuid::from_u128(self.sequence.into()),
            source: String::new(),
            at: Timestamp::from_micros(i64::try_from(self.sequence).unwrap()),
            cause: None,
            event,
        }
    }

    pub(super) fn trip(&mut self, trip: TripId, kind: TripKind) -> &mut Self {
        let name = format!("trip.{kind:?}").split('(').next().unwrap().to_owned();
        let mut event = v1::TripEvent { kind: Some(kind), ..Default::default() };
        let facts = self.trips.entry(trip).or_default();
        facts.fold(&event);
        event.state = Some(trip_state(facts));
        let version = self.evidence.log.trips.get(&trip).map_or(0, Vec::len) + 1;
        event.stamp = Some(stamp(version));
        let entry = self.entry(&name, event);
        self.evidence.log.trips.entry(trip).or_default().push(entry);
        self
    }

    pub(super) fn driver(&mut self, driver: DriverId, kind: DriverKind) -> &mut Self {
        let name = format!("driver.{kind:?}").split('(').next().unwrap().to_owned();
        let ended_offer = ended(&kind);
        let mut event = v1::DriverEvent { kind: Some(kind), ended_offer, ..Default::default() };
        let facts = self.drivers.entry(driver).or_default();
        facts.fold(&event);
        event.state = Some(driver_state(facts));
        let version = self.evidence.log.drivers.get(&driver).map_or(0, Vec::len) + 1;
        event.stamp = Some(stamp(version));
        let entry = self.entry(&name, event);
        self.evidence.log.drivers.entry(driver).or_default().push(entry);
        self
    }

    pub(super) fn rider(&mut self, kind: RiderKind) -> &mut Self {
        let event = v1::RiderEvent { kind: Some(kind), ..Default::default() };
        let entry = self.entry("rider.event", event);
        self.evidence.log.riders.push(entry);
        self
    }

    pub(super) fn promised(
        &mut self,
        (role, id): (&str, Uuid),
        path: &str,
        status: u16,
        response: Value,
    ) -> &mut Self {
        self.evidence.promises.push(Promise {
            at: Timestamp::default(),
            role: role.to_owned(),
            id,
            method: "POST".to_owned(),
            path: path.to_owned(),
            key: "key-1".to_owned(),
            request: Value::Null,
            status,
            replayed: false,
            response,
        });
        self
    }

    /// Asks for a ride in the rider's log and in the trip's.
    pub(super) fn requested(&mut self, trip: TripId) -> &mut Self {
        self.rider(asked(trip)).trip(trip, requested())
    }

    /// Offers on both sides.
    pub(super) fn offered(&mut self, trip: TripId, driver: DriverId, offer: OfferId) -> &mut Self {
        self.trip(trip, trip_offered(driver, offer)).driver(driver, driver_offered(trip, offer))
    }

    /// Accepts and assigns on both sides.
    pub(super) fn assigned(&mut self, trip: TripId, driver: DriverId, offer: OfferId) -> &mut Self {
        self.driver(driver, accepted(trip, offer)).trip(trip, trip_assigned(driver, offer))
    }

    /// A whole ride: Bo declines, Anna drives, the rider pays.
    pub(super) fn with_a_ride() -> Self {
        let mut town = Self::default();
        town.driver(BO, went_online()).driver(ANNA, went_online());
        town.requested(TRIP)
            .promised(("rider", RIDER.0), "/v1/trips", 201, json!({"trip_id": TRIP}))
            .offered(TRIP, BO, FIRST)
            .driver(BO, declined(TRIP, FIRST))
            .promised(("driver", BO.0), &answer(FIRST, "decline"), 200, json!({}))
            .trip(TRIP, closed(BO, FIRST, OfferEnd::Declined))
            .offered(TRIP, ANNA, SECOND)
            .assigned(TRIP, ANNA, SECOND)
            .promised(
                ("driver", ANNA.0),
                &answer(SECOND, "accept"),
                200,
                json!({"driver_id": ANNA, "version": 3, "duty": "online", "engagement": "engaged",
                       "trip": {"trip_id": TRIP, "version": 5, "status": "assigned"}}),
            )
            .trip(TRIP, TripKind::Arrived(v1::TripArrived::default()))
            .trip(TRIP, TripKind::Started(v1::TripStarted::default()))
            .trip(TRIP, completed(FARE))
            .promised(
                ("driver", ANNA.0),
                &step(TRIP, "complete"),
                200,
                json!({"trip_id": TRIP, "version": 8, "status": "completed"}),
            )
            .driver(ANNA, released(TRIP, SECOND))
            .rider(charged(TRIP, FARE));
        let charge = LedgerCharge {
            trip: TRIP,
            purpose: "fare".to_owned(),
            amount_minor: FARE,
            currency: "SEK".to_owned(),
            is_settled: true,
        };
        town.evidence.ledger = Some(Ledger { charges: vec![charge], unbalanced: 0 });
        town.evidence.provider = Some(vec![at_provider(TRIP, "fare", FARE)]);
        let answered = PingTotals { posts: 10, accepted: 100, rejected: 0, unknown: 5, unsent: 0 };
        town.evidence.pings = Some(PingEvidence { answered, counted: 103 });
        town
    }

    pub(super) fn violations(&self) -> Vec<Violation> {
        Verdict::of(&self.evidence).violations
    }

    /// The one violation that there is.
    #[track_caller]
    pub(super) fn violation(&self) -> Violation {
        let found = self.violations();
        assert_eq!(found.len(), 1, "{found:#?}");
        found[0].clone()
    }
}

fn stamp(version: usize) -> v1::Stamp {
    v1::Stamp { version: u64::try_from(version).unwrap(), ..Default::default() }
}

pub(super) fn answer(offer: OfferId, answer: &str) -> String {
    format!("/v1/driver/offers/{offer}/{answer}")
}

pub(super) fn step(trip: TripId, step: &str) -> String {
    format!("/v1/driver/trips/{trip}/{step}")
}

pub(super) fn at_provider(trip: TripId, purpose: &str, amount_minor: i64) -> ProviderCharge {
    ProviderCharge {
        charge_id: "ch_1".to_owned(),
        reference: format!("{trip}:{purpose}"),
        amount_minor,
        currency: "SEK".to_owned(),
    }
}

pub(super) fn asked(trip: TripId) -> RiderKind {
    let (trip_id, rider_id) = (trip.to_vec(), RIDER.to_vec());
    RiderKind::RideRequested(v1::RideRequested { trip_id, rider_id, ..Default::default() })
}

pub(super) fn charged(trip: TripId, amount: i64) -> RiderKind {
    RiderKind::FareCharged(v1::FareCharged {
        trip_id: trip.to_vec(),
        purpose: v1::ChargePurpose::Fare.into(),
        amount: Some(sek(amount)),
        ..Default::default()
    })
}

pub(super) fn requested() -> TripKind {
    let quote = v1::Quote { fare: Some(sek(FARE)), ..Default::default() };
    TripKind::Requested(v1::TripRequested {
        rider_id: RIDER.to_vec(),
        quote: Some(quote),
        ..Default::default()
    })
}

pub(super) fn trip_offered(driver: DriverId, offer: OfferId) -> TripKind {
    let (driver_id, offer_id) = (driver.to_vec(), offer.to_vec());
    TripKind::Offered(v1::TripOffered { driver_id, offer_id, ..Default::default() })
}

pub(super) fn trip_assigned(driver: DriverId, offer: OfferId) -> TripKind {
    let (driver_id, offer_id) = (driver.to_vec(), offer.to_vec());
    TripKind::Assigned(v1::TripAssigned { driver_id, offer_id, ..Default::default() })
}

pub(super) fn closed(driver: DriverId, offer: OfferId, why: OfferEnd) -> TripKind {
    let (driver_id, offer_id) = (driver.to_vec(), offer.to_vec());
    TripKind::OfferClosed(v1::TripOfferClosed { driver_id, offer_id, why: why.into() })
}

pub(super) fn completed(fare: i64) -> TripKind {
    let by = v1::Party::Driver.into();
    TripKind::Completed(v1::TripCompleted { fare: Some(sek(fare)), by, ..Default::default() })
}

pub(super) fn cancelled(fee: i64) -> TripKind {
    let by = v1::Party::Rider.into();
    TripKind::Cancelled(v1::TripCancelled { by, fee: Some(sek(fee)), ..Default::default() })
}

pub(super) fn went_online() -> DriverKind {
    DriverKind::WentOnline(v1::DriverWentOnline {})
}

pub(super) fn driver_offered(trip: TripId, offer: OfferId) -> DriverKind {
    let (trip_id, offer_id) = (trip.to_vec(), offer.to_vec());
    DriverKind::Offered(v1::DriverOffered { trip_id, offer_id, ..Default::default() })
}

pub(super) fn accepted(trip: TripId, offer: OfferId) -> DriverKind {
    let (trip_id, offer_id) = (trip.to_vec(), offer.to_vec());
    DriverKind::OfferAccepted(v1::DriverOfferAccepted { trip_id, offer_id })
}

pub(super) fn declined(trip: TripId, offer: OfferId) -> DriverKind {
    let (trip_id, offer_id, reason) = (trip.to_vec(), offer.to_vec(), String::new());
    DriverKind::OfferDeclined(v1::DriverOfferDeclined { trip_id, offer_id, reason })
}

pub(super) fn lapsed(trip: TripId, offer: OfferId) -> DriverKind {
    let (trip_id, offer_id) = (trip.to_vec(), offer.to_vec());
    DriverKind::OfferLapsed(v1::DriverOfferLapsed { trip_id, offer_id })
}

pub(super) fn released(trip: TripId, offer: OfferId) -> DriverKind {
    let (trip_id, offer_id) = (trip.to_vec(), offer.to_vec());
    DriverKind::Released(v1::DriverReleased { trip_id, offer_id, ..Default::default() })
}

fn ended(kind: &DriverKind) -> Option<v1::EndedOffer> {
    let (trip_id, offer_id, why) = match kind {
        DriverKind::OfferDeclined(it) => (&it.trip_id, &it.offer_id, OfferEnd::Declined),
        DriverKind::OfferLapsed(it) => (&it.trip_id, &it.offer_id, OfferEnd::Lapsed),
        _ => return None,
    };
    let (trip_id, offer_id) = (trip_id.clone(), offer_id.clone());
    Some(v1::EndedOffer { trip_id, offer_id, why: why.into() })
}

fn trip_state(facts: &TripFacts) -> v1::TripState {
    let (driver_id, offer_id) = facts
        .driver
        .map_or((Vec::new(), Vec::new()), |(driver, offer)| (driver.to_vec(), offer.to_vec()));
    v1::TripState {
        phase: facts.phase.into(),
        rider_id: facts.rider.map(RiderId::to_vec).unwrap_or_default(),
        driver_id,
        offer_id,
        offers: facts
            .offers
            .iter()
            .map(|fact| v1::OfferRecord {
                offer_id: fact.offer.to_vec(),
                driver_id: fact.driver.to_vec(),
                status: fact.status.into(),
                why: fact.why.into(),
                ..Default::default()
            })
            .collect(),
        excluded: facts.excluded.iter().map(|driver| driver.to_vec()).collect(),
        unassigned_count: facts.unassigned,
        quote: facts
            .quoted
            .clone()
            .map(|fare| v1::Quote { fare: Some(fare), ..Default::default() }),
        fare: facts.fare.clone(),
        cancelled: facts
            .fee
            .clone()
            .map(|fee| v1::TripCancelled { fee: Some(fee), ..Default::default() }),
        stars_by_rider: facts.stars.0,
        stars_by_driver: facts.stars.1,
        ..Default::default()
    }
}

fn driver_state(facts: &DriverFacts) -> v1::DriverState {
    use v1::engagement::{Engaged, Idle, Kind, Offered};
    let kind = match facts.bond {
        Bond::Idle => Kind::Idle(Idle { since_us: 0 }),
        Bond::Offered(trip, offer) => Kind::Offered(Offered {
            trip_id: trip.to_vec(),
            offer_id: offer.to_vec(),
            ..Default::default()
        }),
        Bond::Engaged(trip, offer) => {
            Kind::Engaged(Engaged { trip_id: trip.to_vec(), offer_id: offer.to_vec(), since_us: 0 })
        }
    };
    let closed = facts.closed.iter();
    v1::DriverState {
        duty: facts.duty.into(),
        engagement: Some(v1::Engagement { kind: Some(kind) }),
        closed_offers: closed
            .map(|(offer, why)| v1::ClosedOffer { offer_id: offer.to_vec(), why: (*why).into() })
            .collect(),
    }
}

/// How a trip's state says that an offer is open again.
pub(super) fn reopen(state: &mut v1::TripState) {
    if let Some(record) = state.offers.last_mut() {
        record.status = OfferStatus::Open.into();
    }
}
