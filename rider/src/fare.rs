//! The `fare_id`: a quote that the rider carries home and back. Signed (HS256), so nothing has to be
//! kept for a quote that is not taken; two minutes in broker time, so it cannot be saved up.

use std::time::Duration;

use common::{clock::Timestamp, geo::Point, id::RiderId};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use crate::domain::trip::Quote;

/// How long a quote holds.
pub const FARE_TTL: Duration = Duration::from_secs(120);
/// A shorter secret could be found by trying.
const SECRET_BYTES_MIN: usize = 32;

/// Signs quotes and knows them again.
#[derive(Clone)]
pub struct FareSigner {
    sign: EncodingKey,
    verify: DecodingKey,
    validation: Validation,
}

impl std::fmt::Debug for FareSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FareSigner").finish_non_exhaustive()
    }
}

/// What a rider was offered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fare {
    /// Whom.
    #[serde(rename = "sub")]
    pub rider: RiderId,
    /// Until when, broker time.
    pub expires_at: Timestamp,
    /// From where.
    pub pickup: Point,
    /// To where.
    pub dropoff: Point,
    /// At what price.
    pub quote: Quote,
}

/// Why a fare cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FareError {
    /// We did not sign it, or not for this rider.
    #[error("the fare is not one of this rider's")]
    Invalid,
    /// It is too old.
    #[error("the fare expired at {0}")]
    Expired(Timestamp),
}

/// The secret is too short.
#[derive(Debug, thiserror::Error)]
#[error("the fare secret has {0} bytes, not {SECRET_BYTES_MIN} or more")]
pub struct WeakSecret(usize);

impl FareSigner {
    /// With this secret; all replicas share it.
    ///
    /// # Errors
    /// When the secret is too short.
    pub fn new(secret: &[u8]) -> Result<Self, WeakSecret> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(WeakSecret(secret.len()));
        }
        let mut validation = Validation::new(Algorithm::HS256);
        // The expiry is judged by broker time, below; the library would use this machine's clock.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        Ok(Self {
            sign: EncodingKey::from_secret(secret),
            verify: DecodingKey::from_secret(secret),
            validation,
        })
    }

    /// The `fare_id` of a fare.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn sign(&self, fare: &Fare) -> Result<String, jsonwebtoken::errors::Error> {
        encode(&Header::new(Algorithm::HS256), fare, &self.sign)
    }

    /// The fare that `fare_id` stands for, if it is this rider's and still holds.
    ///
    /// # Errors
    /// When it is not, or does not.
    pub fn verify(&self, fare_id: &str, rider: RiderId, now: Timestamp) -> Result<Fare, FareError> {
        let fare = decode::<Fare>(fare_id, &self.verify, &self.validation)
            .map_err(|_| FareError::Invalid)?
            .claims;
        if fare.rider != rider {
            return Err(FareError::Invalid);
        }
        if fare.expires_at <= now {
            return Err(FareError::Expired(fare.expires_at));
        }
        Ok(fare)
    }
}

#[cfg(test)]
mod tests {
    use common::{
        clock::Timestamp,
        geo::Point,
        id::RiderId,
        money::{Currency, Money},
    };
    use uuid::Uuid;

    use super::{FARE_TTL, Fare, FareError, FareSigner};
    use crate::domain::trip::Quote;

    const NOON: Timestamp = Timestamp::from_micros(1_767_268_800_000_000);
    const ANNA: RiderId = RiderId(Uuid::from_u128(1));

    fn signer() -> FareSigner {
        FareSigner::new(b"a secret that is long enough to be one").unwrap()
    }

    fn fare() -> Fare {
        let money = |amount| Money::new(amount, Currency::SEK);
        Fare {
            rider: ANNA,
            expires_at: NOON.plus(FARE_TTL),
            pickup: Point::new(57.7, 11.97).unwrap(),
            dropoff: Point::new(57.69, 11.95).unwrap(),
            quote: Quote {
                fare_id: Uuid::from_u128(3),
                product: "standard".into(),
                fare: money(12_000),
                distance_m: 5_000,
                duration_s: 600,
                surge_percent: 120,
                cancellation_fee: money(4_000),
            },
        }
    }

    #[test]
    fn a_fare_comes_back_as_it_was_given() {
        let fare_id = signer().sign(&fare()).unwrap();
        assert_eq!(signer().verify(&fare_id, ANNA, NOON), Ok(fare()));
    }

    #[test]
    fn a_fare_holds_for_two_minutes() {
        let fare_id = signer().sign(&fare()).unwrap();
        let late = NOON.plus(FARE_TTL);
        assert_eq!(signer().verify(&fare_id, ANNA, late), Err(FareError::Expired(late)));
    }

    #[test]
    fn a_fare_is_good_for_its_rider_alone() {
        let fare_id = signer().sign(&fare()).unwrap();
        let bert = RiderId(Uuid::from_u128(2));
        assert_eq!(signer().verify(&fare_id, bert, NOON), Err(FareError::Invalid));
    }

    #[test]
    fn a_fare_that_somebody_else_signed_or_changed_is_refused() {
        let other = FareSigner::new(b"another secret that is long enough too").unwrap();
        let forged = other.sign(&fare()).unwrap();
        assert_eq!(signer().verify(&forged, ANNA, NOON), Err(FareError::Invalid));
        let fare_id = signer().sign(&fare()).unwrap();
        let changed = format!("{}A", &fare_id[..fare_id.len() - 1]);
        assert_eq!(signer().verify(&changed, ANNA, NOON), Err(FareError::Invalid));
        assert_eq!(signer().verify("none", ANNA, NOON), Err(FareError::Invalid));
    }

    #[test]
    fn a_secret_that_could_be_guessed_is_refused() {
        assert!(FareSigner::new(b"short").is_err());
    }
}
