//! One debt, one try: written down before the provider is asked, looked up where somebody may have
//! asked before, settled together with the event that says so. Patience is the caller's.

use common::{
    clock::{Clock, Timestamp},
    consumer::{Delivery, Failure},
    contract::{self, v1},
    event_store::Cause,
    id::TripId,
    planted::{self, Planted},
};

use super::{
    provider::{ChargeReceipt, Provider, ProviderError},
    turns::{Turn, Turns},
};
use crate::{
    domain::charge::{Approach, ChargeState, Debt, approach},
    relay::Bell,
    store::{Store, StoreError, ledger, trips},
    wire,
};

/// Collects debts.
#[derive(Debug)]
pub struct Collector<P> {
    clock: Clock,
    store: Store,
    bell: Bell,
    provider: P,
    turns: Turns,
}

/// Whose a debt is.
#[derive(Debug, Clone, Copy)]
pub enum Taking {
    /// Nobody's: the provider has the money.
    Settled,
    /// Ours to ask for.
    Ours(Owed),
    /// Another replica's, for now.
    Others,
}

/// A debt that is written down and not settled.
#[derive(Debug, Clone, Copy)]
pub struct Owed {
    first_call_at: Timestamp,
    is_new: bool,
}

impl<P: Provider> Collector<P> {
    /// From this provider.
    #[must_use]
    pub fn new(clock: Clock, store: Store, bell: Bell, provider: P) -> Self {
        Self { clock, store, bell, provider, turns: Turns::default() }
    }

    /// What a trip's event says is owed, if it says so.
    ///
    /// # Errors
    /// When the message is malformed.
    pub async fn debt(&self, delivery: &Delivery) -> Result<Option<(Debt, Cause)>, Failure> {
        let envelope = delivery.envelope()?;
        let event: v1::TripEvent = contract::decode("TripEvent", &delivery.payload)?;
        if planted::is_on(Planted::ViewVersionGuardsCharge)
            && self.is_seen(delivery.sequence).await?
        {
            return Ok(None);
        }
        let debt = wire::debt(TripId(envelope.subject), &event)?;
        Ok(debt.map(|debt| (debt, Cause::from(&envelope))))
    }

    /// Whether the view of trips has taken in an event. That says nothing about its charge.
    async fn is_seen(&self, sequence: u64) -> Result<bool, StoreError> {
        let position = self.store.read::<_, StoreError, _>(|tx| trips::position(tx, "trips"));
        Ok(position.await? >= sequence)
    }

    /// Waits for the trip's turn: its other deliveries wait until this one ends.
    pub async fn turn(&self, trip: TripId) -> Turn<'_> {
        self.turns.take(trip).await
    }

    /// Writes a debt down, or finds what was written before, and takes it on unless another replica
    /// is asking for it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn owe(&self, debt: &Debt) -> Result<Taking, Failure> {
        let (owed, now, replica) = (*debt, self.clock.now(), self.store.replica());
        let taking = self.store.outlast(move |tx| {
            let charge = ledger::owe(tx, &owed, now)?;
            Ok((charge, ledger::take(tx, &owed, replica)?))
        });
        let (charge, is_ours) = taking.await?;
        Ok(match charge.state {
            ChargeState::Succeeded { .. } => Taking::Settled,
            ChargeState::Pending { first_call_at } if is_ours => {
                Taking::Ours(Owed { first_call_at, is_new: charge.is_new })
            }
            ChargeState::Pending { .. } => Taking::Others,
        })
    }

    /// Lets others ask for a debt again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn leave(&self, debt: &Debt) -> Result<(), Failure> {
        let (debt, replica) = (*debt, self.store.replica());
        Ok(self.store.outlast(move |tx| ledger::leave(tx, &debt, replica)).await?)
    }

    /// Asks the provider, once.
    ///
    /// # Errors
    /// When there is no receipt.
    pub async fn ask(&self, debt: &Debt, owed: Owed) -> Result<ChargeReceipt, ProviderError> {
        // Between writing it down and asking may lie a long wait.
        let found = match approach(owed.first_call_at, owed.is_new, self.clock.now()) {
            Approach::Charge => None,
            Approach::LookUpFirst => self.provider.look_up(debt).await?,
        };
        match found {
            Some(receipt) => Ok(receipt),
            None => self.provider.charge(debt).await,
        }
    }

    /// Records that the provider has the money, and announces the event that says so.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn settle(
        &self,
        debt: Debt,
        receipt: ChargeReceipt,
        cause: Cause,
    ) -> Result<(), Failure> {
        let now = self.clock.now();
        self.store
            .outlast(move |tx| ledger::settle(tx, &debt, &receipt.provider_reference, &cause, now))
            .await?;
        self.bell.ring();
        tracing::debug!(trip.id = %debt.trip, rider.id = %debt.rider, "charged {}", debt.amount);
        Ok(())
    }

    /// All of it: one delivery, one try.
    ///
    /// # Errors
    /// When it is not certain that everything is settled.
    pub async fn collect(&self, delivery: &Delivery) -> Result<(), Failure> {
        let Some((debt, cause)) = self.debt(delivery).await? else { return Ok(()) };
        let _turn = self.turn(debt.trip).await;
        let owed = match self.owe(&debt).await? {
            Taking::Settled => return Ok(()),
            Taking::Ours(owed) => owed,
            Taking::Others => {
                return Err(Failure::Transient(anyhow::anyhow!("another replica asks for it")));
            }
        };
        let failed = match self.ask(&debt, owed).await {
            Ok(receipt) => return self.settle(debt, receipt, cause).await,
            Err(err @ ProviderError::Unknown(_)) => Failure::Transient(err.into()),
            Err(err) => Failure::Permanent(err.into()),
        };
        self.leave(&debt).await?;
        Err(failed)
    }
}
