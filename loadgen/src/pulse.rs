//! What a city counts while it lives: for the progress line and the report.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;

use crate::{
    journal::PingTotals,
    report::{Latencies, LatencySummary, Table, grouped},
};

/// A number that many phones count up, and some down again.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn sub(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! pulse {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Live counters of a city.
        #[derive(Debug, Default)]
        pub struct Pulse {
            $($(#[$doc])* pub $name: Counter,)+
            refusals: Mutex<BTreeMap<Refusal, u64>>,
            latencies: Mutex<BTreeMap<&'static str, Latencies>>,
        }

        /// The counters at one moment.
        #[derive(Debug, Clone, Default, PartialEq, Serialize)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)+
            /// How the pings were answered.
            pub pings: PingTotals,
            /// Answers that were no success, by what was asked.
            pub refusals: Vec<RefusalCount>,
            /// Latencies by what was waited for.
            pub latencies: BTreeMap<String, LatencySummary>,
        }

        impl Pulse {
            fn counters(&self, pings: PingTotals) -> Snapshot {
                Snapshot { $($name: self.$name.get(),)+ pings, ..Snapshot::default() }
            }
        }

        impl Snapshot {
            fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)+]
            }
        }
    };
}

pulse! {
    /// Drivers on duty now.
    drivers_online,
    /// Rides that are wanted and have not ended.
    rides_open,
    /// Rides that riders were promised (201).
    rides_requested,
    /// Requests that were sent twice at once.
    double_taps,
    /// Offers that a driver saw.
    offers_seen,
    /// Offers whose acceptance was answered with 200.
    offers_accepted,
    /// Acceptances that were answered with 202.
    offers_confirming,
    /// Acceptances that came too late (409, 410).
    offers_missed,
    /// Offers that a driver declined.
    offers_declined,
    /// Offers that a driver let lapse.
    offers_ignored,
    /// Assignments that riders saw.
    assigned,
    /// Rides that ended at their dropoff.
    completed,
    /// Rides that the rider cancelled.
    cancelled_by_rider,
    /// Rides that the driver cancelled.
    cancelled_by_driver,
    /// Rides that anybody else cancelled.
    cancelled_otherwise,
    /// Rides that found no driver.
    unfulfilled,
    /// Assignments that a driver gave back.
    given_back,
    /// PINs that were mistyped on purpose.
    pins_mistyped,
    /// Riders who never came.
    no_shows,
    /// Completed rides whose receipt did not say `charged` in time.
    receipts_missing,
    /// Times that a phone lost the network.
    network_losses,
    /// Times that a phone died and came back.
    deaths,
    /// Drivers who went offline for a while.
    breaks,
    /// Batches of pings that were sent twice.
    batches_repeated,
    /// Requests that were sent again after a retryable answer.
    retried,
    /// Requests whose answer never came.
    unanswered,
    /// Streams of events that were opened again.
    reconnected,
    /// Rides that a phone gave up on, because nothing answered for too long.
    given_up,
}

/// An answer that was no success.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Refusal {
    is_expected: bool,
    request: String,
    status: u16,
    code: String,
}

/// How often one kind of answer came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusalCount {
    /// The phone's script asked for it (a wrong PIN, a race that it lost).
    pub is_expected: bool,
    /// Method and path, ids left out.
    pub request: String,
    /// HTTP status.
    pub status: u16,
    /// The problem's code.
    pub code: String,
    /// How often.
    pub count: u64,
}

impl Pulse {
    /// Counts an answer that was no success.
    pub fn refused(&self, is_expected: bool, request: String, status: u16, code: &str) {
        let refusal = Refusal { is_expected, request, status, code: code.to_owned() };
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        *refusals.entry(refusal).or_default() += 1;
    }

    /// Records how long something took.
    pub fn took(&self, what: &'static str, latency: Duration) {
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.entry(what).or_default().record(latency);
    }

    /// Adds latencies that were recorded elsewhere.
    pub fn add_latencies(&self, what: &'static str, recorded: &Latencies) {
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.entry(what).or_default().add(recorded);
    }

    /// Everything that was counted so far.
    #[must_use]
    pub fn snapshot(&self, pings: PingTotals) -> Snapshot {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let count = |(refusal, count): (Refusal, u64)| RefusalCount {
            is_expected: refusal.is_expected,
            request: refusal.request,
            status: refusal.status,
            code: refusal.code,
            count,
        };
        let latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        let summaries = latencies.iter().map(|(what, some)| ((*what).to_owned(), some.summary()));
        Snapshot {
            refusals: refusals.into_iter().map(count).collect(),
            latencies: summaries.collect(),
            ..self.counters(pings)
        }
    }
}

impl Snapshot {
    /// Answers that no script asked for; a healthy run has none.
    pub fn unexpected(&self) -> impl Iterator<Item = &RefusalCount> {
        self.refusals.iter().filter(|refusal| !refusal.is_expected)
    }

    /// The tables of a report.
    #[must_use]
    pub fn tables(&self) -> Vec<Table> {
        let mut counts = Table::new("city", &["what", "count"]);
        for (name, count) in self.named() {
            counts.row([name.replace('_', " "), grouped(count)]);
        }
        counts.row(["pings accepted".to_owned(), grouped(self.pings.accepted)]);
        counts.row(["pings rejected".to_owned(), grouped(self.pings.rejected)]);
        counts.row(["pings unanswered".to_owned(), grouped(self.pings.unknown)]);
        let mut latencies = Table::latencies("latencies");
        for (what, summary) in &self.latencies {
            latencies.latency(what, summary);
        }
        let mut refusals =
            Table::new("answers other than 2xx", &["request", "status", "code", "count", "meant"]);
        for refusal in &self.refusals {
            refusals.row([
                refusal.request.clone(),
                refusal.status.to_string(),
                refusal.code.clone(),
                grouped(refusal.count),
                if refusal.is_expected { "yes" } else { "NO" }.to_owned(),
            ]);
        }
        vec![counts, latencies, refusals]
    }
}

#[cfg(test)]
mod tests {
    use super::Pulse;
    use crate::journal::PingTotals;

    #[test]
    fn what_no_script_meant_stands_out() {
        let pulse = Pulse::default();
        pulse.refused(true, "POST /v1/driver/trips/{id}/start".to_owned(), 422, "pin_invalid");
        pulse.refused(false, "POST /v1/trips".to_owned(), 422, "fare_invalid");
        pulse.refused(false, "POST /v1/trips".to_owned(), 422, "fare_invalid");
        let snapshot = pulse.snapshot(PingTotals::default());
        let unexpected: Vec<_> = snapshot.unexpected().collect();
        assert_eq!(unexpected.len(), 1);
        assert_eq!((unexpected[0].code.as_str(), unexpected[0].count), ("fare_invalid", 2));
    }
}
