//! Turns ended trips into charges, each exactly once: the debt is in the ledger before the provider
//! is called, and whenever it is not certain that the provider was not called, it is asked first.

mod collector;
pub mod provider;
mod turns;

use std::{sync::Arc, time::Duration};

use common::{
    breaker::{Breaker, State},
    consumer::{self, Delivery, Failure},
    event_store::Cause,
    failpoint,
    nats::Nats,
    stream,
};
use tokio_util::sync::CancellationToken;

use self::provider::{ChargeReceipt, Provider, ProviderError};
pub use self::{
    collector::{Collector, Owed, Taking},
    turns::Turn,
};
use crate::{
    domain::charge::Debt,
    relay::Bell,
    store::{Store, StoreError},
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
    collector: Collector<P>,
    breaker: Breaker,
}

impl<P: Provider> Payments<P> {
    /// With this provider.
    #[must_use]
    pub fn new(nats: Nats, store: Store, bell: Bell, provider: P, breaker: Breaker) -> Self {
        let collector = Collector::new(nats.clock.clone(), store, bell, provider);
        Self { nats, collector, breaker }
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
        match self.collector.debt(delivery).await? {
            Some((debt, cause)) => self.collect(delivery, debt, cause).await,
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
        let _turn = delivery.wait(self.collector.turn(debt.trip)).await;
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
        // The money is taken: however long the disk is full, that is not the message's fault.
        delivery.wait(self.collector.settle(debt, receipt, cause)).await?;
        failpoint::reach("payments.settled");
        Ok(())
    }

    /// Writes the debt down and asks the provider for it, once. `None`: it is settled already.
    async fn ask(
        &self,
        debt: &Debt,
    ) -> Result<Option<Result<ChargeReceipt, ProviderError>>, Failure> {
        let owed = loop {
            match self.collector.owe(debt).await? {
                Taking::Settled => return Ok(None),
                Taking::Ours(owed) => break owed,
                Taking::Others => tokio::time::sleep(LOOK_AGAIN_AFTER).await,
            }
        };
        failpoint::reach("payments.owed");
        let pass = self.breaker.pass().await;
        let asked = self.collector.ask(debt, owed).await;
        pass.note(!matches!(asked, Err(ProviderError::Unknown(_))));
        if asked.is_err() {
            self.collector.leave(debt).await?;
        }
        Ok(Some(asked))
    }
}
