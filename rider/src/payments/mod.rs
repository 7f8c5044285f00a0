//! Turns ended trips into charges, each exactly once: the debt is in the ledger before the provider
//! is called, and whenever it is not certain that the provider was not called, it is asked first.

pub mod provider;
mod turns;

use std::{sync::Arc, time::Duration};

use common::{
    breaker::{Breaker, State},
    clock::Timestamp,
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

/// How often the provider is asked before that counts as one of the message's tries. A provider that
/// comes and goes would use up five in seconds.
const ASKS_MAX: u32 = 3;
/// The first pause between two of them; it doubles.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Until another replica, which asks for the same debt, has its answer or is dead.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);

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
    pub fn new(nats: Nats, store: Store, bell: Bell, provider: P, breaker: Breaker) -> Self {
        Self { nats, store, bell, provider, breaker, turns: Turns::default() }
    }

    /// Works until shutdown.
    ///
    /// # Errors
    /// When the consumer ends that should not.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) -> anyhow::Result<()> {
        let (nats, breaker) = (self.nats.clone(), self.breaker.clone());
        let handler = move |delivery, _| {
            let this = Arc::clone(&self);
            async move { this.handle(&delivery).await }
        };
        consumer::run_behind(&nats, stream::RIDER_PAYMENTS, breaker, shutdown, handler).await
    }

    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let envelope = delivery.envelope()?;
        let trip = TripId(envelope.subject);
        let event: v1::TripEvent = contract::decode("TripEvent", &delivery.payload)?;
        match wire::debt(trip, &event)? {
            Some(debt) => self.collect(delivery, debt, Cause::from(&envelope)).await,
            None => Ok(()),
        }
    }

    /// Has a debt paid, exactly once, however often this is called.
    ///
    /// # Errors
    /// When the provider refuses, does not answer or charged something else; or the store fails.
    pub(crate) async fn collect(
        &self,
        delivery: &Delivery,
        debt: Debt,
        cause: Cause,
    ) -> Result<(), Failure> {
        let _turn = delivery.wait(self.turns.take(debt.trip)).await;
        let mut asks = 0;
        // The provider has its own time-out; how long it is away is not the message's fault.
        let receipt = loop {
            let Some(asked) = delivery.wait(self.ask(&debt)).await? else { return Ok(()) };
            break match asked {
                Ok(receipt) => receipt,
                // It did not answer and calls wait now: so does this message, in hand and without
                // losing a try, until one call went well.
                Err(ProviderError::Unknown(why)) if self.breaker.state() != State::Closed => {
                    tracing::debug!(trip.id = %debt.trip, why, "not charged, waiting");
                    continue;
                }
                Err(ProviderError::Unknown(why)) if asks + 1 < ASKS_MAX => {
                    tracing::debug!(trip.id = %debt.trip, why, "not charged, asking again");
                    delivery.wait(tokio::time::sleep(ASK_AGAIN_AFTER * (1 << asks))).await;
                    asks += 1;
                    continue;
                }
                Err(err @ ProviderError::Unknown(_)) => return Err(Failure::Transient(err.into())),
                Err(err @ (ProviderError::Refused(_) | ProviderError::Mismatch(_))) => {
                    return Err(Failure::Permanent(err.into()));
                }
            };
        };
        failpoint::reach("payments.charged");
        self.settle(debt, receipt, cause).await?;
        failpoint::reach("payments.settled");
        Ok(())
    }

    /// Writes the debt down and asks the provider for it, once. `None`: it is settled already.
    async fn ask(
        &self,
        debt: &Debt,
    ) -> Result<Option<Result<ChargeReceipt, ProviderError>>, Failure> {
        let Some((first_call_at, is_new)) = self.take(debt).await? else { return Ok(None) };
        failpoint::reach("payments.owed");
        let pass = self.breaker.pass().await;
        // The wait may have been a long one.
        let now = self.nats.clock.now();
        let asked = self.charge(debt, approach(first_call_at, is_new, now)).await;
        pass.note(!matches!(asked, Err(ProviderError::Unknown(_))));
        if asked.is_err() {
            let (debt, replica) = (*debt, self.store.replica());
            self.store
                .write::<_, StoreError, _>(move |tx| ledger::leave(tx, &debt, replica))
                .await?;
        }
        Ok(Some(asked))
    }

    /// Writes the debt down, once, and waits until no other replica asks for it: when the first call
    /// was about to be made, and whether that is this one. `None`: it is settled already.
    async fn take(&self, debt: &Debt) -> Result<Option<(Timestamp, bool)>, Failure> {
        let (debt, replica) = (*debt, self.store.replica());
        loop {
            let now = self.nats.clock.now();
            let taking = self.store.write::<_, StoreError, _>(move |tx| {
                let charge = ledger::owe(tx, &debt, now)?;
                Ok((charge, ledger::take(tx, &debt, replica)?))
            });
            let (charge, is_ours) = taking.await?;
            match charge.state {
                ChargeState::Succeeded { .. } => return Ok(None),
                ChargeState::Pending { first_call_at } if is_ours => {
                    return Ok(Some((first_call_at, charge.is_new)));
                }
                ChargeState::Pending { .. } => tokio::time::sleep(LOOK_AGAIN_AFTER).await,
            }
        }
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
