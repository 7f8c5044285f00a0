//! The process's one recorder. Where several services share a process they share it too, and each
//! of them shows all of it; what must be told apart has a label.

use std::sync::{Once, OnceLock};

use ::metrics::{IntoLabels, Key, Level, Metadata, Recorder as _, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

/// Upper bounds of what is measured in seconds: from a look into an index to a time-out.
const SECONDS: [f64; 12] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0];

const METADATA: Metadata<'static> = Metadata::new("ride", Level::INFO, None);

/// Something that only grows.
#[derive(Debug)]
pub struct Counter(Declared);

/// Something that goes up and down.
#[derive(Debug)]
pub struct Gauge(Declared);

/// How something is distributed, in seconds.
#[derive(Debug)]
pub struct Histogram(Declared);

#[derive(Debug)]
struct Declared {
    name: &'static str,
    says: &'static str,
    described: Once,
}

impl Declared {
    const fn new(name: &'static str, says: &'static str) -> Self {
        Self { name, says, described: Once::new() }
    }

    fn key(&self, labels: impl IntoLabels) -> Key {
        Key::from_parts(self.name, labels)
    }
}

impl Counter {
    pub(super) const fn new(name: &'static str, says: &'static str) -> Self {
        Self(Declared::new(name, says))
    }

    /// The counter with these labels. Who counts often keeps it.
    pub fn with(&self, labels: impl IntoLabels) -> ::metrics::Counter {
        let (it, recorder) = (&self.0, recorder());
        it.described.call_once(|| recorder.describe_counter(it.name.into(), None, it.says.into()));
        recorder.register_counter(&it.key(labels), &METADATA)
    }
}

impl Gauge {
    pub(super) const fn new(name: &'static str, says: &'static str) -> Self {
        Self(Declared::new(name, says))
    }

    /// The gauge with these labels. Who sets it often keeps it.
    pub fn with(&self, labels: impl IntoLabels) -> ::metrics::Gauge {
        let (it, recorder) = (&self.0, recorder());
        it.described.call_once(|| recorder.describe_gauge(it.name.into(), None, it.says.into()));
        recorder.register_gauge(&it.key(labels), &METADATA)
    }
}

impl Histogram {
    pub(super) const fn new(name: &'static str, says: &'static str) -> Self {
        Self(Declared::new(name, says))
    }

    /// The histogram with these labels. Who measures often keeps it.
    pub fn with(&self, labels: impl IntoLabels) -> ::metrics::Histogram {
        let (it, recorder) = (&self.0, recorder());
        it.described.call_once(|| {
            recorder.describe_histogram(it.name.into(), Some(Unit::Seconds), it.says.into());
        });
        recorder.register_histogram(&it.key(labels), &METADATA)
    }
}

fn recorder() -> &'static PrometheusRecorder {
    static RECORDER: OnceLock<PrometheusRecorder> = OnceLock::new();
    static OFFERED: Once = Once::new();
    let recorder = RECORDER.get_or_init(|| {
        let builder = PrometheusBuilder::new();
        // Without buckets a histogram becomes a summary, whose quantiles cannot be added up.
        match builder.set_buckets(&SECONDS) {
            Ok(builder) => builder.build_recorder(),
            Err(_) => PrometheusBuilder::new().build_recorder(),
        }
    });
    // For what libraries measure through the facade. Who embeds the services and has a recorder of
    // its own keeps it; ours works all the same.
    OFFERED.call_once(|| {
        if ::metrics::set_global_recorder(recorder).is_err() {
            tracing::debug!("another recorder gets what libraries measure");
        }
    });
    recorder
}

/// Everything that this process has counted and measured, in Prometheus' text format.
#[must_use]
pub fn render() -> String {
    recorder().handle().render()
}

/// Folds what was measured since the last time. Without it histograms that nobody asks for grow.
pub fn upkeep() {
    recorder().handle().run_upkeep();
}

#[cfg(test)]
mod tests {
    use super::{Counter, Gauge, Histogram, render};

    #[test]
    fn what_is_counted_is_shown_with_its_labels_and_what_it_says() {
        static RAIN: Counter = Counter::new("test_rain_total", "Drops by roof.");
        RAIN.with(&[("roof", "tin")]).increment(2);
        RAIN.with(&[("roof", "tin")]).increment(1);
        let text = render();
        assert!(text.contains("# HELP test_rain_total Drops by roof."), "{text}");
        assert!(text.contains("# TYPE test_rain_total counter"), "{text}");
        assert!(text.contains("test_rain_total{roof=\"tin\"} 3"), "{text}");
    }

    #[test]
    fn what_is_measured_can_be_added_up_over_replicas() {
        static LEVEL: Gauge = Gauge::new("test_level", "How full.");
        static WAIT: Histogram = Histogram::new("test_wait_seconds", "How long.");
        LEVEL.with(&[("tub", "left")]).set(7.0);
        WAIT.with(&[("door", "front")]).record(0.02);
        let text = render();
        assert!(text.contains("test_level{tub=\"left\"} 7"), "{text}");
        assert!(text.contains("test_wait_seconds_bucket{door=\"front\",le=\"0.025\"} 1"), "{text}");
    }
}
