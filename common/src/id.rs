//! Identities. Every kind of thing has its own type, so that a trip's id cannot stand where a
//! driver's is wanted. Ids that may be asked for twice are derived (UUIDv5), never drawn.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The bytes on the wire are not a 16-byte id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id has 16 bytes, not {0}")]
pub struct NotAnId(pub usize);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new identity, sorted by time of creation. For the edges (gateways, generators) only.
            #[allow(clippy::disallowed_methods, reason = "this is the place that makes fresh ids")]
            #[must_use]
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }

            /// The 16 bytes that stand for it in a message.
            #[must_use]
            pub fn to_vec(self) -> Vec<u8> {
                self.0.as_bytes().to_vec()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = NotAnId;
            fn try_from(bytes: &[u8]) -> Result<Self, NotAnId> {
                Uuid::from_slice(bytes).map(Self).map_err(|_| NotAnId(bytes.len()))
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Uuid {
                id.0
            }
        }
    };
}

id!(
    /// A person who asks for rides.
    RiderId
);
id!(
    /// A person (with a car) who drives.
    DriverId
);
id!(
    /// One ride, from the request to the receipt.
    TripId
);
id!(
    /// One proposal of one trip to one driver. It has exactly one end.
    OfferId
);
id!(
    /// One run of a phone's app: the sequence numbers of its pings count within it.
    SessionId
);
id!(
    /// One intention. Sent twice, it happens once.
    CommandId
);
id!(
    /// One thing that happened.
    EventId
);

impl CommandId {
    /// The command of a saga's step: derived from the event that caused it, so that a reaction that
    /// runs twice sends the same command twice.
    #[must_use]
    pub fn step(cause: EventId, step: &str) -> Self {
        Self(Uuid::new_v5(&cause.0, step.as_bytes()))
    }

    /// The command that stands for a caller's own key, such as an `Idempotency-Key`.
    #[must_use]
    pub fn keyed(scope: Uuid, key: &str) -> Self {
        Self(Uuid::new_v5(&scope, key.as_bytes()))
    }

    /// What a snapshot remembers of it: its two halves folded into one. Not the first eight bytes:
    /// of an id that begins with the time (version 7) these say little more than the millisecond.
    #[must_use]
    pub fn folded(self) -> u64 {
        let (high, low) = self.0.as_u64_pair();
        high ^ low
    }
}

impl EventId {
    /// The event that this command made in this aggregate's history.
    #[must_use]
    pub fn derived(aggregate: Uuid, command: CommandId) -> Self {
        Self(Uuid::new_v5(&aggregate, command.0.as_bytes()))
    }
}

impl OfferId {
    /// The offer that is made on this version of a trip. A dispatcher that dies and tries again
    /// makes the same offer.
    #[must_use]
    pub fn derived(trip: TripId, version: u64) -> Self {
        Self(Uuid::new_v5(&trip.0, &version.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::{CommandId, EventId, TripId};
    use uuid::Uuid;

    #[test]
    fn the_same_cause_and_step_give_the_same_command() {
        let cause = EventId(Uuid::from_u128(7));
        assert_eq!(CommandId::step(cause, "offer"), CommandId::step(cause, "offer"));
        assert_ne!(CommandId::step(cause, "offer"), CommandId::step(cause, "release"));
    }

    #[test]
    fn commands_of_the_same_millisecond_are_told_apart() {
        let folded: std::collections::HashSet<u64> =
            (0..1000).map(|_| CommandId::fresh().folded()).collect();
        assert_eq!(folded.len(), 1000);
    }

    #[test]
    fn an_id_survives_the_wire_and_a_short_one_is_refused() {
        let trip = TripId(Uuid::from_u128(42));
        assert_eq!(TripId::try_from(trip.to_vec().as_slice()), Ok(trip));
        assert!(TripId::try_from([1, 2, 3].as_slice()).is_err());
    }
}
