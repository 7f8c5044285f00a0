//! Turns ended trips into charges, each exactly once: the debt is in the ledger before the provider
//! is called, and whenever it is not certain that the provider was not called, it is asked first.

pub mod breaker;
pub mod provider;
mod turns;

use std::sync::Arc;

use common::{
    consumer::{self, Delivery, Failure},
    contract::{self, v1},
    event_store::Cause,
    failpoint,
    id::TripId,
    nats::Nats,
    stream,
};
use tokio_util::sync::CancellationToken;

use self::{
    breaker::Breaker,
    provider::{ChargeReceipt, Provider, ProviderError},
    turns::Turns,
};
use crate::{
    domain::charge::{Approach, ChargeState, Debt, approach},
    relay::Bell,
    store::{Store, StoreError, ledger},
    wire,
};

impl From<StoreError> for Failure {
    fn from(err: StoreError) -> Self {
        match err {
            StoreError::Corrupt(malformed) => malformed.into(),
            StoreError::Overloaded | StoreError::Closed | StoreError::Failed(_) => {
                Self::Transient(err.into())
            }
        }
    }
}

/// Charges what ended trips cost.
#[derive(Debug)]
pub struct Payments<P> {
    nats: Nats,
    store: Store,
    bell: Bell,
    provider: P,
    breaker: Breaker,
    turns: Turns,
}

impl<P: Provider> Payments<P> {
    /// With this provider.
    #[must_use]
    pub fn new(nats: Nats, store: Store, bell: Bell, provider: P) -> Self {
        let (breaker, turns) = (Breaker::default(), Turns::default());
        Self { nats, store, bell, provider, breaker, turns }
    }

    /// Works until shutdown.
    ///
    /// # Errors
    /// When the consumer ends that should not.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let nats = self.nats.clone();
        let this = Arc::new(self);
        consumer::run(&nats, stream::RIDER_PAYMENTS, shutdown, move |delivery, _| {
            let this = Arc::clone(&this);
            async move { this.handle(&delivery).await }
        })
        .await
    }

    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let envelope = delivery.envelope()?;
        let trip = TripId(envelope.subject);
        let event: v1::TripEvent = contract::decode("TripEvent", &delivery.payload)?;
        match wire::debt(trip, &event)? {
            Some(debt) => self.collect(debt, Cause::from(&envelope)).await,
            None => Ok(()),
        }
    }

    async fn collect(&self, debt: Debt, cause: Cause) -> Result<(), Failure> {
        let _turn = self.turns.take(debt.trip).await;
        let now = self.nats.clock.now();
        let charge =
            self.store.write::<_, StoreError, _>(move |tx| ledger::owe(tx, &debt, now)).await?;
        let ChargeState::Pending { first_call_at } = charge.state else { return Ok(()) };
        failpoint::reach("payments.owed");
        self.breaker.pass().await;
        let asked = self.charge(&debt, approach(first_call_at, charge.is_new, now)).await;
        self.breaker.note(!matches!(asked, Err(ProviderError::Unknown(_))));
        let receipt = asked.map_err(|err| match err {
            ProviderError::Unknown(_) => Failure::Transient(err.into()),
            ProviderError::Refused(_) | ProviderError::Mismatch(_) => {
                Failure::Permanent(err.into())
            }
        })?;
        failpoint::reach("payments.charged");
        self.settle(debt, receipt, cause).await?;
        failpoint::reach("payments.settled");
        Ok(())
    }

    async fn charge(
        &self,
        debt: &Debt,
        approach: Approach,
    ) -> Result<ChargeReceipt, ProviderError> {
        let found = match approach {
            Approach::Charge => None,
            Approach::LookUpFirst => self.provider.look_up(debt).await?,
        };
        match found {
            Some(receipt) => Ok(receipt),
            None => self.provider.charge(debt).await,
        }
    }

    async fn settle(
        &self,
        debt: Debt,
        receipt: ChargeReceipt,
        cause: Cause,
    ) -> Result<(), Failure> {
        let now = self.nats.clock.now();
        self.store
            .write::<_, StoreError, _>(move |tx| {
                ledger::settle(tx, &debt, &receipt.provider_reference, &cause, now)
            })
            .await?;
        self.bell.ring();
        tracing::debug!(trip.id = %debt.trip, rider.id = %debt.rider, "charged {}", debt.amount);
        Ok(())
    }
}
