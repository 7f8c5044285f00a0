//! What a call brings about besides its answer.

use async_nats::HeaderMap;

use super::{
    answer::{Output, Pin},
    stream::Incoming,
};

/// What a call brings about besides its answer.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) outputs: Vec<Output>,
    pub(super) advisories: Vec<Incoming>,
    pins: u64,
    advised: u64,
}

impl Effects {
    pub(super) fn fresh_pin(&mut self) -> Pin {
        self.pins += 1;
        Pin(self.pins)
    }

    /// A message used up its tries: an advisory says so, once.
    pub(super) fn gave_up(&mut self, stream: &str, consumer: &str, sequence: u64, deliveries: u64) {
        self.advised += 1;
        let body = serde_json::json!({
            "type": "io.nats.jetstream.advisory.v1.max_deliver",
            "id": format!("{:022}", self.advised),
            "stream": stream,
            "consumer": consumer,
            "stream_seq": sequence,
            "deliveries": deliveries,
        });
        self.advisories.push(Incoming {
            subject: format!("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{stream}.{consumer}"),
            headers: HeaderMap::new(),
            payload: body.to_string().into(),
        });
    }
}
