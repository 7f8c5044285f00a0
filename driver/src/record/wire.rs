//! The contract's messages to the domain's types and back. What does not convert is malformed.

use common::{
    clock::Timestamp,
    contract::{self, Malformed, v1},
};

use crate::domain::{
    ClosedOffer, Driver, DriverEvent, Duty, Engaged, Engagement, OfferEnd, OfferTerms, Offered,
    Pair,
};

pub(super) fn kind(event: &DriverEvent) -> v1::driver_event::Kind {
    use v1::driver_event::Kind;
    let ids = |pair: &Pair| (pair.trip.to_vec(), pair.offer.to_vec());
    match event {
        DriverEvent::WentOnline => Kind::WentOnline(v1::DriverWentOnline {}),
        DriverEvent::Finishing => Kind::Finishing(v1::DriverFinishing {}),
        DriverEvent::WentOffline { silent, ended: _ } => {
            Kind::WentOffline(v1::DriverWentOffline { silent: *silent })
        }
        DriverEvent::Offered { pair, expires_at, terms } => {
            let (trip_id, offer_id) = ids(pair);
            let expires_at_us = expires_at.micros();
            let terms = Some((*terms).into());
            Kind::Offered(v1::DriverOffered { trip_id, offer_id, expires_at_us, terms })
        }
        DriverEvent::OfferRefused { pair, why } => {
            let (trip_id, offer_id) = ids(pair);
            let why = offer_end(*why).into();
            Kind::OfferRefused(v1::DriverOfferRefused { trip_id, offer_id, why })
        }
        DriverEvent::OfferAccepted { pair } => {
            let (trip_id, offer_id) = ids(pair);
            Kind::OfferAccepted(v1::DriverOfferAccepted { trip_id, offer_id })
        }
        DriverEvent::OfferDeclined { pair, reason } => {
            let (trip_id, offer_id) = ids(pair);
            let reason = reason.clone();
            Kind::OfferDeclined(v1::DriverOfferDeclined { trip_id, offer_id, reason })
        }
        DriverEvent::OfferLapsed { pair } => {
            let (trip_id, offer_id) = ids(pair);
            Kind::OfferLapsed(v1::DriverOfferLapsed { trip_id, offer_id })
        }
        DriverEvent::Lost { pair: _, silent_s } => {
            Kind::Lost(v1::DriverLost { silent_s: *silent_s })
        }
        DriverEvent::Released { pair, why, early } => {
            let (trip_id, offer_id) = ids(pair);
            let (why, early) = (why.clone(), *early);
            Kind::Released(v1::DriverReleased { trip_id, offer_id, why, early })
        }
    }
}

impl TryFrom<&v1::DriverEvent> for DriverEvent {
    type Error = Malformed;

    fn try_from(message: &v1::DriverEvent) -> Result<Self, Malformed> {
        use v1::driver_event::Kind;
        let ended = message
            .ended_offer
            .as_ref()
            .map(|ended| pair(&ended.trip_id, &ended.offer_id))
            .transpose()?;
        Ok(match contract::required("kind", message.kind.as_ref())? {
            Kind::WentOnline(_) => Self::WentOnline,
            Kind::Finishing(_) => Self::Finishing,
            Kind::WentOffline(kind) => Self::WentOffline { silent: kind.silent, ended },
            Kind::Offered(kind) => Self::Offered {
                pair: pair(&kind.trip_id, &kind.offer_id)?,
                expires_at: Timestamp::from_micros(kind.expires_at_us),
                terms: terms(kind.terms.as_ref())?,
            },
            Kind::OfferRefused(kind) => Self::OfferRefused {
                pair: pair(&kind.trip_id, &kind.offer_id)?,
                why: end(kind.why)?,
            },
            Kind::OfferAccepted(kind) => {
                Self::OfferAccepted { pair: pair(&kind.trip_id, &kind.offer_id)? }
            }
            Kind::OfferDeclined(kind) => Self::OfferDeclined {
                pair: pair(&kind.trip_id, &kind.offer_id)?,
                reason: kind.reason.clone(),
            },
            Kind::OfferLapsed(kind) => {
                Self::OfferLapsed { pair: pair(&kind.trip_id, &kind.offer_id)? }
            }
            Kind::Lost(kind) => Self::Lost {
                pair: contract::required("ended_offer", ended)?,
                silent_s: kind.silent_s,
            },
            Kind::Released(kind) => Self::Released {
                pair: pair(&kind.trip_id, &kind.offer_id)?,
                why: kind.why.clone(),
                early: kind.early,
            },
        })
    }
}

impl From<&Driver> for v1::DriverState {
    fn from(driver: &Driver) -> Self {
        use v1::engagement::{self, Kind};
        let engaged = |engaged: &Engaged| {
            Kind::Engaged(engagement::Engaged {
                trip_id: engaged.pair.trip.to_vec(),
                offer_id: engaged.pair.offer.to_vec(),
                since_us: engaged.since.micros(),
            })
        };
        let (duty, kind) = match &driver.duty {
            Duty::Offline => (v1::Duty::Offline, Kind::Idle(engagement::Idle { since_us: 0 })),
            Duty::Online(Engagement::Idle { since }) => {
                (v1::Duty::Online, Kind::Idle(engagement::Idle { since_us: since.micros() }))
            }
            Duty::Online(Engagement::Offered(offered)) => {
                let kind = Kind::Offered(engagement::Offered {
                    trip_id: offered.pair.trip.to_vec(),
                    offer_id: offered.pair.offer.to_vec(),
                    expires_at_us: offered.expires_at.micros(),
                    terms: Some(offered.terms.into()),
                });
                (v1::Duty::Online, kind)
            }
            Duty::Online(Engagement::Engaged(ride)) => (v1::Duty::Online, engaged(ride)),
            Duty::Finishing(ride) => (v1::Duty::Finishing, engaged(ride)),
        };
        Self {
            duty: duty.into(),
            engagement: Some(v1::Engagement { kind: Some(kind) }),
            closed_offers: driver
                .closed
                .iter()
                .map(|closed| v1::ClosedOffer {
                    offer_id: closed.offer.to_vec(),
                    why: offer_end(closed.why).into(),
                })
                .collect(),
        }
    }
}

impl TryFrom<&v1::DriverState> for Driver {
    type Error = Malformed;

    fn try_from(state: &v1::DriverState) -> Result<Self, Malformed> {
        use v1::engagement::Kind;
        let duty = v1::Duty::try_from(state.duty).map_err(|err| Malformed::new("duty", err))?;
        let engagement = state.engagement.as_ref().and_then(|engagement| engagement.kind.as_ref());
        let duty = match (duty, contract::required("engagement", engagement)?) {
            (v1::Duty::Unspecified | v1::Duty::Offline, Kind::Idle(_)) => Duty::Offline,
            (v1::Duty::Online, kind) => Duty::Online(engagement_of(kind)?),
            (v1::Duty::Finishing, Kind::Engaged(ride)) => Duty::Finishing(engaged_of(ride)?),
            (v1::Duty::Unspecified | v1::Duty::Offline | v1::Duty::Finishing, _) => {
                return Err(Malformed::new("engagement", "does not fit the duty"));
            }
        };
        let closed = state
            .closed_offers
            .iter()
            .map(|closed| {
                let offer = contract::id("closed_offers", &closed.offer_id)?;
                Ok(ClosedOffer { offer, why: end(closed.why)? })
            })
            .collect::<Result<_, Malformed>>()?;
        Ok(Self { duty, closed })
    }
}

fn engagement_of(kind: &v1::engagement::Kind) -> Result<Engagement, Malformed> {
    use v1::engagement::Kind;
    Ok(match kind {
        Kind::Idle(idle) => Engagement::Idle { since: Timestamp::from_micros(idle.since_us) },
        Kind::Offered(offered) => Engagement::Offered(Offered {
            pair: pair(&offered.trip_id, &offered.offer_id)?,
            expires_at: Timestamp::from_micros(offered.expires_at_us),
            terms: terms(offered.terms.as_ref())?,
        }),
        Kind::Engaged(ride) => Engagement::Engaged(engaged_of(ride)?),
    })
}

fn engaged_of(ride: &v1::engagement::Engaged) -> Result<Engaged, Malformed> {
    Ok(Engaged {
        pair: pair(&ride.trip_id, &ride.offer_id)?,
        since: Timestamp::from_micros(ride.since_us),
    })
}

pub(super) fn pair(trip: &[u8], offer: &[u8]) -> Result<Pair, Malformed> {
    Ok(Pair { trip: contract::id("trip_id", trip)?, offer: contract::id("offer_id", offer)? })
}

pub(super) fn terms(field: Option<&v1::OfferTerms>) -> Result<OfferTerms, Malformed> {
    let raw = contract::required("terms", field)?;
    Ok(OfferTerms {
        pickup_eta_s: raw.pickup_eta_s,
        pickup_distance_m: raw.pickup_distance_m,
        fare: contract::money("fare", raw.fare.as_ref())?,
        trip_distance_m: raw.trip_distance_m,
        trip_duration_s: raw.trip_duration_s,
    })
}

impl From<OfferTerms> for v1::OfferTerms {
    fn from(terms: OfferTerms) -> Self {
        Self {
            pickup_eta_s: terms.pickup_eta_s,
            pickup_distance_m: terms.pickup_distance_m,
            fare: Some(terms.fare.into()),
            trip_distance_m: terms.trip_distance_m,
            trip_duration_s: terms.trip_duration_s,
        }
    }
}

pub(super) fn offer_end(why: OfferEnd) -> v1::OfferEnd {
    match why {
        OfferEnd::Declined => v1::OfferEnd::Declined,
        OfferEnd::Lapsed => v1::OfferEnd::Lapsed,
        OfferEnd::Busy => v1::OfferEnd::Busy,
        OfferEnd::Lost => v1::OfferEnd::Lost,
        OfferEnd::Offline => v1::OfferEnd::Offline,
        OfferEnd::Released => v1::OfferEnd::Released,
    }
}

fn end(why: i32) -> Result<OfferEnd, Malformed> {
    let known = v1::OfferEnd::try_from(why).map_err(|err| Malformed::new("why", err))?;
    match known {
        v1::OfferEnd::Declined => Ok(OfferEnd::Declined),
        v1::OfferEnd::Lapsed => Ok(OfferEnd::Lapsed),
        v1::OfferEnd::Busy => Ok(OfferEnd::Busy),
        v1::OfferEnd::Lost => Ok(OfferEnd::Lost),
        v1::OfferEnd::Offline => Ok(OfferEnd::Offline),
        v1::OfferEnd::Released => Ok(OfferEnd::Released),
        v1::OfferEnd::Unspecified | v1::OfferEnd::LeaseOver | v1::OfferEnd::TripEnded => {
            Err(Malformed::new("why", format!("`{}` is not a driver's", known.as_str_name())))
        }
    }
}
