//! The envelope: CloudEvents 1.0, binary mode, in NATS headers (`ce-*`). The payload is the event.

use std::{fmt, str::FromStr};

use async_nats::HeaderMap;
use uuid::Uuid;

use crate::{
    clock::{Hlc, Timestamp},
    contract::Malformed,
    id::EventId,
};

/// Where the `.proto` of a message is found; `ce-dataschema` is this and the message's name.
const SCHEMA_ROOT: &str = "ride/v1/";

/// What is known of a message without reading its payload.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// `ce-id`: the same thing said twice has the same id.
    pub id: EventId,
    /// `ce-type`: what happened, such as `trip.assigned`.
    pub kind: String,
    /// `ce-source`: the service that says it.
    pub source: String,
    /// `ce-time`: broker time, for display. It does not order.
    pub time: Timestamp,
    /// `ce-subject`: the aggregate's id.
    pub subject: Uuid,
    /// `ce-correlationid`: the ride this belongs to, if any.
    pub correlation: Option<Uuid>,
    /// `ce-causationid`: the message or request that caused this one.
    pub causation: Option<Uuid>,
    /// `ce-hlc`: orders what is causally related.
    pub hlc: Hlc,
    /// `traceparent`: W3C trace context, as it came.
    pub traceparent: Option<String>,
}

/// Header names.
pub mod header {
    /// The event's id.
    pub const ID: &str = "ce-id";
    /// What happened.
    pub const TYPE: &str = "ce-type";
    /// Who says it.
    pub const SOURCE: &str = "ce-source";
    /// When, in broker time.
    pub const TIME: &str = "ce-time";
    /// The aggregate.
    pub const SUBJECT: &str = "ce-subject";
    /// The version of CloudEvents.
    pub const SPEC_VERSION: &str = "ce-specversion";
    /// The message type in the contract.
    pub const SCHEMA: &str = "ce-dataschema";
    /// The ride.
    pub const CORRELATION: &str = "ce-correlationid";
    /// The cause.
    pub const CAUSATION: &str = "ce-causationid";
    /// The hybrid logical time.
    pub const HLC: &str = "ce-hlc";
    /// W3C trace context.
    pub const TRACEPARENT: &str = "traceparent";
}

impl Envelope {
    /// The headers of a message whose payload is the contract's message `schema`.
    #[must_use]
    pub fn to_headers(&self, schema: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::SPEC_VERSION, "1.0");
        headers.insert(header::ID, self.id.to_string());
        headers.insert(header::TYPE, self.kind.as_str());
        headers.insert(header::SOURCE, self.source.as_str());
        headers.insert(header::TIME, self.time.to_string());
        headers.insert(header::SUBJECT, self.subject.to_string());
        headers.insert(header::SCHEMA, format!("{SCHEMA_ROOT}{schema}"));
        headers.insert(header::HLC, self.hlc.to_string());
        if let Some(id) = self.correlation {
            headers.insert(header::CORRELATION, id.to_string());
        }
        if let Some(id) = self.causation {
            headers.insert(header::CAUSATION, id.to_string());
        }
        if let Some(trace) = &self.traceparent {
            headers.insert(header::TRACEPARENT, trace.as_str());
        }
        headers
    }

    /// Reads the envelope of a message.
    ///
    /// # Errors
    /// When a header that must be there is missing or unreadable.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, Malformed> {
        Ok(Self {
            id: read(headers, header::ID)?,
            kind: read(headers, header::TYPE)?,
            source: read(headers, header::SOURCE)?,
            time: read(headers, header::TIME)?,
            subject: read(headers, header::SUBJECT)?,
            correlation: optional(headers, header::CORRELATION)?,
            causation: optional(headers, header::CAUSATION)?,
            hlc: read(headers, header::HLC)?,
            traceparent: optional(headers, header::TRACEPARENT)?,
        })
    }
}

fn read<T: FromStr>(headers: &HeaderMap, name: &'static str) -> Result<T, Malformed>
where
    T::Err: fmt::Display,
{
    optional(headers, name)?.ok_or_else(|| Malformed::missing(name))
}

fn optional<T: FromStr>(headers: &HeaderMap, name: &'static str) -> Result<Option<T>, Malformed>
where
    T::Err: fmt::Display,
{
    headers
        .get(name)
        .map(|value| value.as_str().parse().map_err(|err| Malformed::new(name, err)))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::{Envelope, header};
    use crate::{
        clock::{Hlc, Timestamp},
        id::EventId,
    };
    use uuid::Uuid;

    fn envelope() -> Envelope {
        Envelope {
            id: EventId(Uuid::from_u128(1)),
            kind: "trip.assigned".into(),
            source: "trip".into(),
            time: Timestamp::from_micros(1_767_225_600_000_000),
            subject: Uuid::from_u128(2),
            correlation: Some(Uuid::from_u128(2)),
            causation: None,
            hlc: Hlc { millis: 5, counter: 1 },
            traceparent: None,
        }
    }

    #[test]
    fn an_envelope_survives_its_headers() {
        let headers = envelope().to_headers("trip.proto#TripEvent");
        assert_eq!(Envelope::from_headers(&headers), Ok(envelope()));
    }

    #[test]
    fn a_message_without_an_id_is_malformed() {
        let mut headers = envelope().to_headers("trip.proto#TripEvent");
        headers.insert(header::ID, "not an id");
        assert!(Envelope::from_headers(&headers).is_err());
        assert!(Envelope::from_headers(&async_nats::HeaderMap::new()).is_err());
    }
}
