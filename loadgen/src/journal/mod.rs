//! What the phones were promised: every 2xx of a command, one JSON line each, written before the
//! phone acts on it. The audit compares it with the log. Pings are kept as running totals.

mod writer;

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use aws_lc_rs::digest;
use common::clock::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

pub use writer::{Journal, JournalBroken, JournalWriter};

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// The first line: which run this is.
    Run {
        /// By this machine's clock.
        at: Timestamp,
        /// The run; all identities of its phones are derived from it.
        run: Uuid,
        /// What the demand was drawn from.
        seed: u64,
    },
    /// A command is about to be sent. Whether it ever arrives is another matter.
    Attempt(Attempt),
    /// A command was answered with a 2xx.
    Command(Promise),
    /// A rider was shown a receipt that says that it is paid.
    Receipt(Receipt),
    /// The totals so far.
    Pings {
        /// By this machine's clock.
        at: Timestamp,
        /// Since the start of the run.
        totals: PingTotals,
    },
}

/// A command that a phone has begun to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// By this machine's clock.
    pub at: Timestamp,
    /// `driver` or `rider`.
    pub role: String,
    /// The driver's or rider's id.
    pub id: Uuid,
    /// `POST` or `PUT`.
    pub method: String,
    /// Path of the request.
    pub path: String,
    /// The `Idempotency-Key` that is sent, however often.
    pub key: String,
}

/// A receipt that says that it is paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// By this machine's clock.
    pub at: Timestamp,
    /// The rider who was shown it.
    pub id: Uuid,
    /// For which trip.
    pub trip: Uuid,
    /// Minor units.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// The provider's name for the charge; none where nothing was owed.
    pub provider_reference: Option<String>,
}

/// A command that was answered with a 2xx.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    /// When the answer came, by this machine's clock.
    pub at: Timestamp,
    /// `driver` or `rider`.
    pub role: String,
    /// The driver's or rider's id.
    pub id: Uuid,
    /// `POST` or `PUT`.
    pub method: String,
    /// Path of the request.
    pub path: String,
    /// The `Idempotency-Key` that was sent.
    pub key: String,
    /// Body of the request, without signed quotes.
    pub request: Value,
    /// Status of the answer.
    pub status: u16,
    /// The gateway said that it had answered this before.
    pub replayed: bool,
    /// The whole answer's fingerprint: to the same key the same answer is given.
    #[serde(default)]
    pub body: String,
    /// What of the answer says what is now true; see [`essentials`].
    pub response: Value,
}

/// How the pings of a run were answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingTotals {
    /// POSTs that were answered 202.
    pub posts: u64,
    /// Points that the gateway accepted.
    pub accepted: u64,
    /// Points that it rejected.
    pub rejected: u64,
    /// Points in POSTs whose answer never came: stored or not, nobody knows.
    pub unknown: u64,
    /// Points in POSTs that surely did not arrive.
    pub unsent: u64,
}

/// The running totals; all phones add to it.
#[derive(Debug, Default)]
pub struct PingTally {
    posts: AtomicU64,
    accepted: AtomicU64,
    rejected: AtomicU64,
    unknown: AtomicU64,
    unsent: AtomicU64,
}

impl PingTally {
    /// A POST was answered.
    pub fn answered(&self, accepted: u64, rejected: u64) {
        self.posts.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(accepted, Ordering::Relaxed);
        self.rejected.fetch_add(rejected, Ordering::Relaxed);
    }

    /// A POST was refused whole.
    pub fn refused(&self, points: u64) {
        self.rejected.fetch_add(points, Ordering::Relaxed);
    }

    /// A POST may or may not have arrived.
    pub fn unknown(&self, points: u64) {
        self.unknown.fetch_add(points, Ordering::Relaxed);
    }

    /// A POST surely did not arrive.
    pub fn unsent(&self, points: u64) {
        self.unsent.fetch_add(points, Ordering::Relaxed);
    }

    /// Points that are being sent. Dropped before it is settled, which is when the phone stops in the
    /// middle, they are unknown.
    #[must_use]
    pub fn sending(&self, points: u64) -> Sending<'_> {
        Sending { tally: self, points }
    }

    /// What has been added so far.
    #[must_use]
    pub fn totals(&self) -> PingTotals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PingTotals {
            posts: read(&self.posts),
            accepted: read(&self.accepted),
            rejected: read(&self.rejected),
            unknown: read(&self.unknown),
            unsent: read(&self.unsent),
        }
    }
}

/// See [`PingTally::sending`].
#[derive(Debug)]
pub struct Sending<'a> {
    tally: &'a PingTally,
    points: u64,
}

impl Sending<'_> {
    /// An answer came, or surely none will: it is counted as what it is.
    pub fn settled(mut self) {
        self.points = 0;
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.tally.unknown(self.points);
    }
}

/// Reads a journal, line by line.
///
/// # Errors
/// When the file cannot be opened; a line that is no entry is an error of its own.
pub fn read(path: &Path) -> std::io::Result<impl Iterator<Item = std::io::Result<Entry>>> {
    let lines = BufReader::new(File::open(path)?).lines();
    Ok(lines.map(|line| Ok(serde_json::from_str(&line?)?)))
}

/// Fields of an answer that say what is now true; places, names and PINs stay out.
const ESSENTIAL: [&str; 16] = [
    "trip_id",
    "offer_id",
    "driver_id",
    "status",
    "version",
    "sequence",
    "duty",
    "engagement",
    "fare",
    "charged",
    "cancelled",
    "rating",
    "code",
    "requested_at",
    "assigned_at",
    "ended_at",
];

/// SHA-256, in hex.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, bytes);
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reduces an answer (or the trip, offer or driver within it) to what the audit compares.
#[must_use]
pub fn essentials(answer: &Value) -> Value {
    let Value::Object(fields) = answer else { return answer.clone() };
    let kept = fields.iter().filter_map(|(name, value)| {
        if ESSENTIAL.contains(&name.as_str()) {
            Some((name.clone(), value.clone()))
        } else if matches!(name.as_str(), "trip" | "offer" | "driver") {
            Some((name.clone(), essentials(value)))
        } else {
            None
        }
    });
    Value::Object(kept.collect())
}

#[cfg(test)]
mod tests {
    use super::{Entry, Journal, PingTotals, Promise, essentials, fingerprint, read};
    use common::clock::Timestamp;
    use serde_json::json;
    use uuid::Uuid;

    fn promise(number: u128) -> Entry {
        Entry::Command(Promise {
            at: Timestamp::from_micros(1_767_225_600_123_456),
            role: "rider".to_owned(),
            id: Uuid::from_u128(number),
            method: "POST".to_owned(),
            path: "/v1/trips".to_owned(),
            key: "k".to_owned(),
            request: json!({}),
            status: 201,
            replayed: false,
            body: fingerprint(b"{}"),
            response: json!({"trip_id": Uuid::from_u128(9)}),
        })
    }

    #[tokio::test]
    async fn every_line_reads_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let (journal, writer) = Journal::create(&path).unwrap();
        let run = Entry::Run { at: Timestamp::from_micros(1), run: Uuid::from_u128(1), seed: 7 };
        journal.append(&run).await.unwrap();
        journal.append(&promise(2)).await.unwrap();
        journal.pings().answered(9, 1);
        journal.pings().unknown(3);
        writer.finish().unwrap();
        let lines: Vec<Entry> = read(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(lines[..2], [run, promise(2)]);
        let wanted = PingTotals { posts: 1, accepted: 9, rejected: 1, unknown: 3, unsent: 0 };
        assert!(
            matches!(lines.last(), Some(Entry::Pings { totals, .. }) if *totals == wanted),
            "{lines:?}"
        );
    }

    #[tokio::test]
    async fn a_line_is_in_the_file_before_the_phone_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let (journal, _writer) = Journal::create(&path).unwrap();
        journal.append(&promise(1)).await.unwrap();
        assert_eq!(read(&path).unwrap().count(), 1);
    }

    #[test]
    fn points_of_a_phone_that_stops_while_it_sends_are_unknown() {
        let tally = super::PingTally::default();
        tally.sending(3).settled();
        drop(tally.sending(2));
        assert_eq!(tally.totals().unknown, 2);
    }

    #[tokio::test]
    async fn nothing_is_promised_once_the_journal_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, writer) = Journal::create(&folder.path().join("journal.jsonl")).unwrap();
        writer.finish().unwrap();
        assert!(journal.append(&promise(1)).await.is_err());
    }

    #[test]
    fn points_whose_sender_was_stopped_are_unknown() {
        let tally = super::PingTally::default();
        tally.sending(3).settled();
        drop(tally.sending(4));
        assert_eq!(tally.totals(), PingTotals { unknown: 4, ..PingTotals::default() });
    }

    #[test]
    fn places_and_pins_stay_out_of_the_journal() {
        let answer = json!({"trip_id": 1, "pin": "1234", "pickup": {"lat": 1.0, "lng": 2.0},
            "driver": {"driver_id": 2, "location": {}}});
        assert_eq!(essentials(&answer), json!({"trip_id": 1, "driver": {"driver_id": 2}}));
    }
}
