//! The payment provider: charges once per idempotency key for as long as it remembers the key, can be
//! asked by reference for ever, and is sometimes away or slow.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ::rider::{
    domain::charge::Debt,
    payments::provider::{ChargeReceipt, Provider, ProviderError},
};
use common::clock::Timestamp;
use uuid::Uuid;

use super::{Way, World};
use crate::audit::ProviderCharge;

/// As long as the rider service waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The provider's books.
#[derive(Debug)]
pub struct Book {
    charges: Vec<ProviderCharge>,
    keys: BTreeMap<Uuid, (usize, Timestamp)>,
    forgets_after: Duration,
    /// Nobody answers.
    pub is_away: bool,
}

impl Book {
    pub(super) fn new(forgets_after: Duration) -> Self {
        Self { charges: Vec::new(), keys: BTreeMap::new(), forgets_after, is_away: false }
    }

    /// All that was collected.
    #[must_use]
    pub fn charges(&self) -> &[ProviderCharge] {
        &self.charges
    }

    fn charge(&mut self, debt: &Debt, now: Timestamp) -> Option<ChargeReceipt> {
        if self.is_away {
            return None;
        }
        let known = self.keys.get(&debt.key()).copied();
        let known = known.filter(|(_, at)| now.since(*at) < self.forgets_after);
        let index = known.map_or_else(
            || {
                self.charges.push(ProviderCharge {
                    charge_id: format!("ch_{}", self.charges.len()),
                    reference: debt.reference(),
                    amount_minor: debt.amount.amount_minor,
                    currency: debt.amount.currency.code().to_owned(),
                });
                let index = self.charges.len() - 1;
                self.keys.insert(debt.key(), (index, now));
                index
            },
            |(index, _)| index,
        );
        self.charges.get(index).map(receipt)
    }

    fn look_up(&self, debt: &Debt) -> Option<Option<ChargeReceipt>> {
        let reference = debt.reference();
        let found = self.charges.iter().find(|charge| charge.reference == reference);
        (!self.is_away).then(|| found.map(receipt))
    }
}

fn receipt(charge: &ProviderCharge) -> ChargeReceipt {
    ChargeReceipt { provider_reference: charge.charge_id.clone() }
}

/// The way to the provider.
#[derive(Debug)]
pub(super) struct SimProvider(pub(super) Arc<World>);

impl Provider for SimProvider {
    async fn charge(&self, debt: &Debt) -> Result<ChargeReceipt, ProviderError> {
        let debt = *debt;
        self.0.seen("provider charged");
        let asked = self.0.request(Way::Provider, PATIENCE, move |world| {
            let now = world.sim.now();
            world.with_book(|book| book.charge(&debt, now))
        });
        asked.await.ok_or_else(unknown)
    }

    async fn look_up(&self, debt: &Debt) -> Result<Option<ChargeReceipt>, ProviderError> {
        let debt = *debt;
        self.0.seen("provider looked up");
        let asked = self.0.request(Way::Provider, PATIENCE, move |world| {
            world.with_book(|book| book.look_up(&debt))
        });
        asked.await.ok_or_else(unknown)
    }
}

fn unknown() -> ProviderError {
    ProviderError::Unknown("no answer".to_owned())
}
