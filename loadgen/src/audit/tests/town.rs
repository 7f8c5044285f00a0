//! A handmade town: one ride as it should be, told event by event, and the ways to spoil it.

use std::collections::BTreeMap;

use common::{
    clock::{Hlc, Timestamp},
    contract::v1::{self, OfferEnd, OfferStatus, driver_event, rider_event, trip_event},
    id::{CommandId, DriverId, EventId, OfferId, RiderId, TripId},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    audit::{
        Books, Entry, Evidence, KeyRow, Ledger, LedgerCharge, Memory, OrderViolation, OutboxRow,
        PingEvidence, Posting, ProviderCharge, Verdict, Violation,
        facts::{Bond, DriverFacts, TripFacts, pair_of},
    },
    journal::{Attempt, PingTotals, Promise, Receipt},
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
    trip_timers: BTreeMap<TripId, Vec<v1::Timer>>,
    driver_timers: BTreeMap<DriverId, Vec<v1::Timer>>,
}

pub(super) fn sek(amount_minor: i64) -> v1::Money {
    v1::Money { amount_minor, currency: "SEK".to_owned() }
}

impl Town {
    fn entry<E>(&mut self, of: Uuid, kind: &str, why: Why, event: E) -> Entry<E> {
        self.sequence += 1;
        let source = kind.split('.').next().unwrap().to_owned();
        let millis = i64::try_from(self.sequence).unwrap();
        Entry {
            sequence: self.sequence,
            subject: format!("{source}.event.0.{of}"),
            kind: kind.to_owned(),
            id: EventId::derived(of, why.command).0,
            source,
            at: Timestamp::from_micros(millis * 1000),
            cause: why.cause,
            hlc: Hlc { millis, counter: 0 },
            of,
            memory: Memory { command: why.command.folded(), is_whole: true },
            event,
        }
    }

    /// Somebody's own wish.
    fn wish(&self) -> Why {
        Why { command: CommandId(Uuid::from_u128(self.sequence.into())), cause: None }
    }

    /// A step of the saga, if the event that causes it is there.
    fn step(&self, cause: Option<Uuid>, step: &str) -> Why {
        let Some(id) = cause else { return self.wish() };
        Why { command: CommandId::step(EventId(id), step), cause }
    }

    /// What makes a trip's event, as the services would name it.
    fn why_of_trip(&self, trip: TripId, kind: &TripKind) -> Why {
        let of_driver = |offer: &[u8], wanted: fn(&v1::DriverEvent) -> bool| {
            let mut all = self.evidence.log.drivers.values().flatten();
            let found = all.find(|entry| {
                wanted(&entry.event)
                    && pair_of(&entry.event).is_some_and(|(_, of)| of.to_vec() == offer)
            });
            found.map(|entry| entry.id)
        };
        match kind {
            TripKind::Requested(_) => {
                let asked = self.evidence.log.requests().find(|(of, _)| *of == trip);
                self.step(asked.map(|(_, entry)| entry.id), "request")
            }
            TripKind::Assigned(it) => {
                let is_it = |event: &v1::DriverEvent| {
                    matches!(event.kind, Some(DriverKind::OfferAccepted(_)))
                };
                self.step(of_driver(&it.offer_id, is_it), "assign")
            }
            TripKind::OfferClosed(it) if it.why() == OfferEnd::LeaseOver => {
                self.timer(self.trip_timers.get(&trip), "offer_lease")
            }
            TripKind::OfferClosed(it) => {
                let is_it = |event: &v1::DriverEvent| event.ended_offer.is_some();
                self.step(of_driver(&it.offer_id, is_it), "close_offer")
            }
            TripKind::Unfulfilled(_) => self.timer(self.trip_timers.get(&trip), "match_deadline"),
            TripKind::WaitOver(_) => self.timer(self.trip_timers.get(&trip), "no_show_wait"),
            _ => self.wish(),
        }
    }

    fn why_of_driver(&self, driver: DriverId, kind: &DriverKind) -> Why {
        use v1::trip_event::Kind;
        let command = |trip: &[u8], step: &str, is_it: &dyn Fn(&Kind) -> bool| {
            let trip = TripId::try_from(trip).unwrap();
            let mut entries = self.evidence.log.trips.get(&trip).into_iter().flatten().rev();
            let because = entries.find(|entry| entry.event.kind.as_ref().is_some_and(is_it));
            let why = self.step(because.map(|entry| entry.id), step);
            Why { cause: because.map(|_| why.command.0), ..why }
        };
        match kind {
            DriverKind::Offered(it) => command(
                &it.trip_id,
                "offer",
                &|kind| matches!(kind, Kind::Offered(by) if by.offer_id == it.offer_id),
            ),
            DriverKind::Released(it) => command(&it.trip_id, "release", &|kind| {
                !matches!(kind, Kind::Rated(_) | Kind::Offered(_))
            }),
            DriverKind::OfferLapsed(_) => {
                self.timer(self.driver_timers.get(&driver), "offer_lapse")
            }
            _ => self.wish(),
        }
    }

    fn timer(&self, running: Option<&Vec<v1::Timer>>, kind: &str) -> Why {
        let timer = running.into_iter().flatten().find(|timer| timer.kind == kind);
        self.step(timer.map(|timer| Uuid::from_slice(&timer.id).unwrap()), "due")
    }

    pub(super) fn trip(&mut self, trip: TripId, kind: TripKind) -> &mut Self {
        let name = format!("trip.{kind:?}").split('(').next().unwrap().to_owned();
        let why = self.why_of_trip(trip, &kind);
        let mut event = v1::TripEvent { kind: Some(kind), ..Default::default() };
        let facts = self.trips.entry(trip).or_default();
        facts.fold(&event);
        event.state = Some(trip_state(facts));
        let version = self.evidence.log.trips.get(&trip).map_or(0, Vec::len) + 1;
        let wanted = [facts.timer(), facts.open_offer().map(|_| "offer_lease")];
        let timers = self.trip_timers.entry(trip).or_default();
        run_timers(timers, &wanted, EventId::derived(trip.0, why.command));
        event.stamp = Some(stamp(version, timers));
        let entry = self.entry(trip.0, &name, why, event);
        self.evidence.log.trips.entry(trip).or_default().push(entry);
        self
    }

    pub(super) fn driver(&mut self, driver: DriverId, kind: DriverKind) -> &mut Self {
        let name = format!("driver.{kind:?}").split('(').next().unwrap().to_owned();
        let ended_offer = ended(&kind);
        let why = self.why_of_driver(driver, &kind);
        let mut event = v1::DriverEvent { kind: Some(kind), ended_offer, ..Default::default() };
        let facts = self.drivers.entry(driver).or_default();
        facts.fold(&event);
        event.state = Some(driver_state(facts));
        let version = self.evidence.log.drivers.get(&driver).map_or(0, Vec::len) + 1;
        let wanted = [matches!(facts.bond, Bond::Offered(..)).then_some("offer_lapse")];
        let timers = self.driver_timers.entry(driver).or_default();
        run_timers(timers, &wanted, EventId::derived(driver.0, why.command));
        event.stamp = Some(stamp(version, timers));
        let entry = self.entry(driver.0, &name, why, event);
        self.evidence.log.drivers.entry(driver).or_default().push(entry);
        self
    }

    pub(super) fn rider(&mut self, kind: RiderKind) -> &mut Self {
        let event = v1::RiderEvent { kind: Some(kind), ..Default::default() };
        let entry = self.entry(RIDER.0, "rider.event", self.wish(), event);
        if let Some(books) = &mut self.evidence.books {
            let row = i64::try_from(books.outbox.len()).unwrap() + 1;
            books.outbox.push(outbox_row(row, &entry));
        }
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
        self.attempted((role, id), path);
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
            body: String::new(),
            response,
        });
        self
    }

    /// A phone begins to send a command.
    pub(super) fn attempted(&mut self, (role, id): (&str, Uuid), path: &str) -> &mut Self {
        self.evidence.attempts.push(Attempt {
            at: Timestamp::default(),
            role: role.to_owned(),
            id,
            method: "POST".to_owned(),
            path: path.to_owned(),
            key: "key-1".to_owned(),
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
        for step in ["arrive", "start"] {
            town.attempted(("driver", ANNA.0), &self::step(TRIP, step));
        }
        town.evidence.receipts.push(Receipt {
            at: Timestamp::default(),
            id: RIDER.0,
            trip: TRIP.0,
            amount_minor: FARE,
            currency: "SEK".to_owned(),
            provider_reference: Some("ch_1".to_owned()),
        });
        let charge = LedgerCharge {
            trip: TRIP,
            purpose: "fare".to_owned(),
            amount_minor: FARE,
            currency: "SEK".to_owned(),
            settled_as: Some("ch_1".to_owned()),
        };
        let rows = town.evidence.log.riders.iter().zip(1..);
        town.evidence.books = Some(Books {
            outbox: rows.map(|(entry, row)| outbox_row(row, entry)).collect(),
            ledger: Ledger { charges: vec![charge], postings: postings() },
            keys: vec![KeyRow { rider: RIDER, key: "key-1".to_owned(), trip: Some(TRIP) }],
            ..Books::default()
        });
        town.evidence.provider = Some(vec![at_provider(TRIP, "fare", FARE)]);
        let answered = PingTotals { posts: 10, accepted: 100, rejected: 0, unknown: 5, unsent: 0 };
        town.evidence.pings = Some(PingEvidence { answered, counted: 103 });
        town
    }

    pub(super) fn violations(&self) -> Vec<Violation> {
        Verdict::of(&self.evidence).violations
    }

    /// The rider service's books, which a whole ride has.
    pub(super) fn books(&mut self) -> &mut Books {
        self.evidence.books.as_mut().unwrap()
    }

    /// Whether there is a violation like this.
    pub(super) fn has(&self, is_it: impl Fn(&Violation) -> bool) -> bool {
        self.violations().iter().any(is_it)
    }

    /// The one violation that there is, beside the step of the saga that is missing with it.
    #[track_caller]
    pub(super) fn violation(&self) -> Violation {
        let mut found = self.violations();
        found.retain(|it| !is_missing_reaction(it));
        assert_eq!(found.len(), 1, "{found:#?}");
        found[0].clone()
    }
}

fn stamp(version: usize, timers: &[v1::Timer]) -> v1::Stamp {
    let (version, timers) = (u64::try_from(version).unwrap(), timers.to_vec());
    v1::Stamp { version, timers, ..Default::default() }
}

fn outbox_row(row: i64, entry: &Entry<v1::RiderEvent>) -> OutboxRow {
    OutboxRow {
        row,
        rider: RIDER,
        event: entry.id,
        kind: entry.kind.clone(),
        says: entry.event.clone(),
        published: Some(entry.sequence),
    }
}

fn postings() -> Vec<Posting> {
    let posting = |step: &str, account: &str, amount_minor| Posting {
        trip: TRIP,
        purpose: "fare".to_owned(),
        step: step.to_owned(),
        account: account.to_owned(),
        amount_minor,
        currency: "SEK".to_owned(),
    };
    vec![
        posting("owed", "riders_owe", FARE),
        posting("owed", "revenue", -FARE),
        posting("settled", "provider_holds", FARE),
        posting("settled", "riders_owe", -FARE),
    ]
}

fn is_missing_reaction(violation: &Violation) -> bool {
    matches!(violation, Violation::Order(OrderViolation::ReactionMissing { .. }))
}

/// What makes an event.
#[derive(Clone, Copy)]
struct Why {
    command: CommandId,
    cause: Option<Uuid>,
}

/// When every timer of a town is due.
pub(super) const DUE: Timestamp = Timestamp::from_micros(1_000_000_000);

/// Stops what nothing waits for and starts what is waited for, under the event's own name.
fn run_timers(timers: &mut Vec<v1::Timer>, wanted: &[Option<&str>], event: EventId) {
    timers.retain(|timer| wanted.contains(&Some(timer.kind.as_str())));
    for kind in wanted.iter().flatten() {
        if !timers.iter().any(|timer| timer.kind == *kind) {
            let (id, kind) = (event.to_vec(), (*kind).to_owned());
            timers.push(v1::Timer { id, kind, due_us: DUE.micros() });
        }
    }
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
        provider_reference: "ch_1".to_owned(),
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
