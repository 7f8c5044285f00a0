//! Which replica carries which part of the outbox. A replica is alive for as long as it says so in
//! time, by the database's own clock: no two machines' clocks are compared. A lease keeps two relays
//! from doing the same work; what keeps them from doing harm is the compare-and-set on each rider's
//! subject.

use std::time::Duration;

use common::{id::RiderId, subject::Partitions};
use uuid::Uuid;

use super::{Row, StoreError, Tx, outbox::to_row};

/// Parts of the outbox, by the rider's id. Stored with every row, so it stays as it is.
pub const SLOTS: u32 = 16;

/// Some of the parts of the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slots(u32);

impl Slots {
    /// All of them.
    pub const ALL: Self = Self((1 << SLOTS) - 1);

    /// The part that a rider's events are in.
    #[must_use]
    pub fn of(key: RiderId) -> u32 {
        Partitions::new(SLOTS).map_or(0, |slots| slots.of(&key.to_string()))
    }

    /// Whether a rider's events are in one of these.
    #[must_use]
    pub fn hold(self, key: RiderId) -> bool {
        self.0 & (1 << Self::of(key)) != 0
    }

    /// How many.
    #[must_use]
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// As a number of which bit n stands for part n.
    #[must_use]
    pub fn bits(self) -> i64 {
        self.0.into()
    }

    /// Whether there are some that the others are not.
    #[must_use]
    pub fn has_more_than(self, others: Self) -> bool {
        self.0 & !others.0 != 0
    }

    fn with(self, slot: u32) -> Self {
        Self(self.0 | (1 << slot))
    }
}

/// Says that this replica is alive for so long from now, and answers with what it carries: its fair
/// share of what the living carry. Replicas take turns here.
///
/// # Errors
/// When the store fails.
pub fn renew(tx: &Tx<'_>, replica: Uuid, alive_for: Duration) -> Result<Slots, StoreError> {
    tx.lock("replicas")?;
    let now = tx.time()?;
    let alive_for = i64::try_from(alive_for.as_micros()).unwrap_or(i64::MAX);
    tx.execute(
        "INSERT INTO replica (id, until_us) VALUES ($1, $2)
         ON CONFLICT (id) DO UPDATE SET until_us = excluded.until_us",
        &[replica.into(), now.saturating_add(alive_for).into()],
    )?;
    tx.execute("DELETE FROM replica WHERE until_us <= $1", &[now.into()])?;
    tx.execute("DELETE FROM lease WHERE owner NOT IN (SELECT id FROM replica)", &[])?;
    let replicas = tx.number("SELECT COUNT(*) FROM replica", &[])?;
    let share = SLOTS.div_ceil(u32::try_from(replicas).unwrap_or(SLOTS).max(1));
    let leased = tx.query("SELECT slot, owner FROM lease ORDER BY slot", &[], lease)?;
    let mut mine = Slots::default();
    for (slot, _) in leased.iter().filter(|(_, owner)| *owner == replica) {
        if mine.count() < share {
            mine = mine.with(*slot);
        } else {
            let slot = to_row((*slot).into());
            tx.execute("DELETE FROM lease WHERE slot = $1", &[slot.into()])?;
        }
    }
    for slot in (0..SLOTS).filter(|slot| !leased.iter().any(|(taken, _)| taken == slot)) {
        if mine.count() < share {
            let values = [to_row(slot.into()).into(), replica.into()];
            tx.execute("INSERT INTO lease (slot, owner) VALUES ($1, $2)", &values)?;
            mine = mine.with(slot);
        }
    }
    Ok(mine)
}

fn lease(row: &Row<'_>) -> Result<(u32, Uuid), StoreError> {
    let slot: i64 = row.get(0)?;
    Ok((u32::try_from(slot).unwrap_or(SLOTS), row.get(1)?))
}

/// Says that this replica carries nothing any more.
///
/// # Errors
/// When the store fails.
pub fn leave(tx: &Tx<'_>, replica: Uuid) -> Result<(), StoreError> {
    tx.lock("replicas")?;
    tx.execute("DELETE FROM lease WHERE owner = $1", &[replica.into()])?;
    tx.execute("DELETE FROM replica WHERE id = $1", &[replica.into()])?;
    Ok(())
}
