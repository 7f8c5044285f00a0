//! What a frame is for the system: a publish, a delivery, an ack; and to which stream it belongs.

use common::{stream, subject::Partitions};
use serde::Deserialize;

use super::{
    counts::Fault,
    frames::{Frame, Verb},
};

const API: &str = "$JS.API.";
const ACK: &str = "$JS.ACK.";
const INBOX: &str = "_INBOX.";
/// How the broker says that an append's expectation was wrong, on one node and on several.
const REFUSALS: [&[u8]; 2] = [b"\"err_code\":10071,", b"\"err_code\":10164,"];
/// A publish ack is a short JSON object; what is longer is not looked into.
const PUBLISH_ACK_MAX: usize = 1024;
/// From so many words on, an ack's subject names a domain and an account before the stream.
const ACK_WITH_DOMAIN: usize = 11;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Publish,
    PublishAck,
    Ack,
    Delivery,
    Request,
    Answer,
    /// What keeps the connection itself going: never touched.
    Other,
}

impl Kind {
    /// The faults that can hit it.
    pub(super) const fn faults(self) -> &'static [Fault] {
        const RESET: Fault = Fault::ConnectionReset;
        const STALL: Fault = Fault::ConnectionStalled;
        match self {
            Self::Publish => {
                &[Fault::PublishDropped, Fault::PublishDoubled, Fault::PublishDelayed, RESET, STALL]
            }
            Self::PublishAck => &[Fault::PublishAckDropped, RESET, STALL],
            Self::Ack => &[Fault::AckDropped, RESET, STALL],
            Self::Delivery => &[
                Fault::DeliveryDropped,
                Fault::DeliveryDoubled,
                Fault::DeliveryDelayed,
                RESET,
                STALL,
            ],
            Self::Request => &[Fault::RequestDropped, RESET, STALL],
            Self::Answer => &[Fault::AnswerDropped, RESET, STALL],
            Self::Other => &[],
        }
    }
}

#[derive(Deserialize)]
struct PublishAck<'a> {
    #[serde(borrow)]
    stream: &'a str,
    #[serde(rename = "seq")]
    _seq: u64,
}

/// Knows which subjects belong to which stream.
#[derive(Debug)]
pub(super) struct Streams(Vec<(String, Vec<String>)>);

impl Streams {
    /// The streams of the system.
    pub(super) fn of_system() -> Self {
        let streams = stream::streams(Partitions::default());
        Self(streams.into_iter().map(|stream| (stream.name, stream.subjects)).collect())
    }

    fn storing(&self, subject: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(_, filters)| filters.iter().any(|filter| matches(filter, subject)))
            .map(|(name, _)| name.as_str())
    }

    /// What this frame is, and what it belongs to, if anything: a stream, or `<stream>.<consumer>`.
    pub(super) fn classify<'a>(
        &'a self,
        frame: &Frame,
        bytes: &'a [u8],
    ) -> (Kind, Option<&'a str>) {
        let (subject, reply) = (frame.subject(bytes), frame.reply(bytes));
        match frame.verb {
            Verb::Publish if subject.starts_with(ACK) => (Kind::Ack, acknowledged(subject)),
            Verb::Publish if subject.starts_with(API) => (Kind::Request, None),
            Verb::Publish if subject.starts_with(INBOX) => (Kind::Answer, None),
            Verb::Publish => match self.storing(subject) {
                Some(stream) => (Kind::Publish, Some(stream)),
                None if reply.is_empty() => (Kind::Other, None),
                None => (Kind::Request, None),
            },
            Verb::Message if reply.starts_with(ACK) => (Kind::Delivery, acknowledged(reply)),
            Verb::Message if subject.starts_with(INBOX) => answer(frame, bytes),
            Verb::Message if !reply.is_empty() => (Kind::Request, None),
            Verb::Message | Verb::Info | Verb::Line => (Kind::Other, None),
        }
    }
}

/// Whether a frame from the broker says that the compare-and-set refused an append.
pub(super) fn is_refusal(frame: &Frame, bytes: &[u8]) -> bool {
    let payload = frame.payload(bytes);
    frame.verb == Verb::Message
        && payload.len() <= PUBLISH_ACK_MAX
        && frame.subject(bytes).starts_with(INBOX)
        && REFUSALS
            .iter()
            .any(|refusal| payload.windows(refusal.len()).any(|window| window == *refusal))
}

fn answer<'a>(frame: &Frame, bytes: &'a [u8]) -> (Kind, Option<&'a str>) {
    // `NATS/1.0 100 Idle Heartbeat`, `NATS/1.0 503`: the connection speaking, not an answer.
    if frame.headers(bytes).starts_with(b"NATS/1.0 ") {
        return (Kind::Other, None);
    }
    let payload = frame.payload(bytes);
    if payload.first() != Some(&b'{') || payload.len() > PUBLISH_ACK_MAX {
        return (Kind::Answer, None);
    }
    match serde_json::from_slice::<PublishAck<'a>>(payload) {
        Ok(ack) => (Kind::PublishAck, Some(ack.stream)),
        Err(_) => (Kind::Answer, None),
    }
}

/// `<stream>.<consumer>` in `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.…`.
fn acknowledged(subject: &str) -> Option<&str> {
    let before = if subject.split('.').count() >= ACK_WITH_DOMAIN { 4 } else { 2 };
    let start: usize = subject.split('.').take(before).map(|token| token.len() + 1).sum();
    let named = subject.get(start..)?;
    let length: usize = named.split('.').take(2).map(|token| token.len() + 1).sum();
    named.get(..length.saturating_sub(1))
}

/// Whether a subject is one of those that a filter with wildcards names.
fn matches(filter: &str, subject: &str) -> bool {
    let mut subject = subject.split('.');
    for wanted in filter.split('.') {
        match (wanted, subject.next()) {
            (">", found) => return found.is_some(),
            ("*", Some(_)) => (),
            (wanted, Some(found)) if wanted == found => (),
            _ => return false,
        }
    }
    subject.next().is_none()
}
