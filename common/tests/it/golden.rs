//! Golden wire files: bytes that were once written must be read for ever, and what is written today
//! must be what was agreed. A file is never changed; a new form gets a new file.

use std::{fs, path::PathBuf};

use common::contract::v1;
use prost::Message;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.chunks(32).map(|line| line.concat() + "\n").collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
        .collect()
}

fn holds<M: Message + Default + PartialEq + std::fmt::Debug>(name: &str, message: &M) {
    let path = file(name);
    let written = fs::read_to_string(&path).unwrap_or_else(|err| {
        panic!(
            "{}: {err}\nfor a new form, add the file with:\n{}",
            path.display(),
            hex(&message.encode_to_vec())
        )
    });
    let golden = unhex(&written);
    assert_eq!(M::decode(golden.as_slice()).as_ref(), Ok(message), "{name} reads differently");
    assert_eq!(message.encode_to_vec(), golden, "{name} is written differently");
}

fn id(n: u8) -> Vec<u8> {
    vec![n; 16]
}

fn stamp() -> v1::Stamp {
    v1::Stamp {
        version: 3,
        at_us: 1_767_225_600_000_000,
        recent: vec![v1::Recent { command: 0x0102_0304_0506_0708, version: 3 }],
        timers: vec![v1::Timer {
            id: id(9),
            kind: "pickup_watchdog".into(),
            due_us: 1_767_226_000_000_000,
        }],
    }
}

fn quote() -> v1::Quote {
    v1::Quote {
        fare_id: id(4),
        product: "standard".into(),
        fare: Some(v1::Money { amount_minor: 12_345, currency: "SEK".into() }),
        distance_m: 4_200,
        duration_s: 610,
        surge_percent: 120,
        cancellation_fee: Some(v1::Money { amount_minor: 5_000, currency: "SEK".into() }),
    }
}

#[test]
fn a_trip_assigned() {
    holds(
        "v1-trip-assigned.hex",
        &v1::TripEvent {
            stamp: Some(stamp()),
            state: Some(v1::TripState {
                phase: v1::TripPhase::Assigned.into(),
                rider_id: id(1),
                pickup: Some(v1::Point { lat_e7: 577_088_700, lng_e7: 119_745_600 }),
                dropoff: Some(v1::Point { lat_e7: 576_900_000, lng_e7: 119_900_000 }),
                quote: Some(quote()),
                pin: "0420".into(),
                requested_at_us: 1_767_225_590_000_000,
                offers: vec![v1::OfferRecord {
                    offer_id: id(3),
                    driver_id: id(2),
                    status: v1::OfferStatus::Assigned.into(),
                    pickup_eta_s: 180,
                    pickup_distance_m: 900,
                    ..v1::OfferRecord::default()
                }],
                excluded: vec![id(7)],
                driver_id: id(2),
                offer_id: id(3),
                pickup_eta_s: 180,
                assigned_at_us: 1_767_225_600_000_000,
                pin_tries_left: 5,
                ..v1::TripState::default()
            }),
            kind: Some(v1::trip_event::Kind::Assigned(v1::TripAssigned {
                offer_id: id(3),
                driver_id: id(2),
                pickup_eta_s: 180,
                watchdog_us: 1_767_226_260_000_000,
            })),
        },
    );
}

#[test]
fn a_driver_who_declined() {
    holds(
        "v1-driver-offer-declined.hex",
        &v1::DriverEvent {
            stamp: Some(stamp()),
            state: Some(v1::DriverState {
                duty: v1::Duty::Online.into(),
                engagement: Some(v1::Engagement {
                    kind: Some(v1::engagement::Kind::Idle(v1::engagement::Idle {
                        since_us: 1_767_225_600_000_000,
                    })),
                }),
                closed_offers: vec![v1::ClosedOffer {
                    offer_id: id(3),
                    why: v1::OfferEnd::Declined.into(),
                }],
            }),
            ended_offer: Some(v1::EndedOffer {
                trip_id: id(1),
                offer_id: id(3),
                why: v1::OfferEnd::Declined.into(),
            }),
            kind: Some(v1::driver_event::Kind::OfferDeclined(v1::DriverOfferDeclined {
                trip_id: id(1),
                offer_id: id(3),
                reason: "too far".into(),
            })),
        },
    );
}

#[test]
fn a_ride_requested() {
    holds(
        "v1-ride-requested.hex",
        &v1::RiderEvent {
            at_us: 1_767_225_600_000_000,
            kind: Some(v1::rider_event::Kind::RideRequested(v1::RideRequested {
                trip_id: id(1),
                rider_id: id(2),
                pickup: Some(v1::Point { lat_e7: 577_088_700, lng_e7: 119_745_600 }),
                dropoff: Some(v1::Point { lat_e7: 576_900_000, lng_e7: 119_900_000 }),
                quote: Some(quote()),
                pin: "0420".into(),
            })),
        },
    );
}

#[test]
fn an_offer_to_a_driver() {
    holds(
        "v1-driver-command-offer.hex",
        &v1::DriverCommand {
            command_id: id(8),
            driver_id: id(2),
            kind: Some(v1::driver_command::Kind::Offer(v1::OfferTrip {
                trip_id: id(1),
                offer_id: id(3),
                terms: Some(v1::OfferTerms {
                    pickup_eta_s: 180,
                    pickup_distance_m: 900,
                    fare: Some(v1::Money { amount_minor: 12_345, currency: "SEK".into() }),
                    trip_distance_m: 4_200,
                    trip_duration_s: 610,
                }),
            })),
        },
    );
}

#[test]
fn a_frame_of_pings() {
    holds(
        "v1-ping-frame.hex",
        &v1::PingFrame {
            driver_ids: [id(1), id(2)].concat(),
            session_ids: [id(3), id(4)].concat(),
            pings_in_batch: vec![1, 2],
            sent_at_us: vec![1_767_225_600_000_000, 1_000],
            received_at_us: vec![1_767_225_600_050_000, 900],
            seq: vec![7, 34, 1],
            ts_us: vec![1_767_225_599_000_000, 0, 4_000_000],
            lat_e7: vec![577_088_700, -50, 20],
            lng_e7: vec![119_745_600, 70, -30],
            accuracy_dm: vec![50, 0, 0],
            speed_cm_s: vec![1_100, -30, 10],
            heading_deg: vec![90, 5, 0],
        },
    );
}
