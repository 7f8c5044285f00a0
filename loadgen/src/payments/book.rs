//! The provider's book: who was charged what under which key. No HTTP, no faults but the one that
//! real providers have by design: keys are forgotten, references are not.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

/// Keys and references longer than this are refused.
const NAME_LEN_MAX: usize = 200;

/// A wish to be charged.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChargeRequest {
    /// The same key is charged once.
    pub idempotency_key: String,
    /// The caller's own name for it.
    pub reference: String,
    /// More than nothing.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
}

/// Money that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The provider's name for it.
    pub charge_id: String,
    /// The caller's.
    pub reference: String,
    /// Minor units.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// Always `succeeded`; who cannot pay is beyond this sandbox.
    pub status: String,
}

/// Why nothing was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The same key with another body.
    #[error("the key was used for another charge")]
    KeyReused,
    /// Amount, currency, key or reference make no sense.
    #[error("the charge is invalid")]
    Invalid,
}

/// All charges.
#[derive(Debug, Default)]
pub struct Book {
    charges: Vec<Charge>,
    keys: HashMap<String, usize>,
    references: BTreeMap<String, Vec<usize>>,
}

impl Book {
    /// Charges once for each key. The answer says whether this call did it.
    ///
    /// # Errors
    /// When nothing was charged.
    pub fn charge(&mut self, request: &ChargeRequest) -> Result<(Charge, bool), Refusal> {
        validate(request)?;
        let known = self.keys.get(&request.idempotency_key).and_then(|at| self.charges.get(*at));
        if let Some(charge) = known {
            return if is_same(charge, request) {
                Ok((charge.clone(), false))
            } else {
                Err(Refusal::KeyReused)
            };
        }
        let at = self.charges.len();
        let charge = Charge {
            charge_id: format!("ch_{:08}", at + 1),
            reference: request.reference.clone(),
            amount_minor: request.amount_minor,
            currency: request.currency.clone(),
            status: "succeeded".to_owned(),
        };
        self.charges.push(charge.clone());
        self.keys.insert(request.idempotency_key.clone(), at);
        self.references.entry(request.reference.clone()).or_default().push(at);
        Ok((charge, true))
    }

    /// Forgets all keys, as providers do after a day.
    pub fn forget_keys(&mut self) {
        self.keys.clear();
    }

    /// The charges of this reference, or all.
    #[must_use]
    pub fn list(&self, reference: Option<&str>) -> Vec<Charge> {
        let Some(reference) = reference else { return self.charges.clone() };
        let places = self.references.get(reference).map_or(&[][..], Vec::as_slice);
        places.iter().filter_map(|at| self.charges.get(*at)).cloned().collect()
    }
}

fn is_same(charge: &Charge, request: &ChargeRequest) -> bool {
    charge.reference == request.reference
        && charge.amount_minor == request.amount_minor
        && charge.currency == request.currency
}

fn validate(request: &ChargeRequest) -> Result<(), Refusal> {
    let named = |name: &str| (1..=NAME_LEN_MAX).contains(&name.len());
    let is_currency =
        request.currency.len() == 3 && request.currency.bytes().all(|it| it.is_ascii_uppercase());
    (request.amount_minor > 0
        && is_currency
        && named(&request.idempotency_key)
        && named(&request.reference))
    .then_some(())
    .ok_or(Refusal::Invalid)
}
