//! The heal meter: how long after the end of a fault the system is whole again. Whole is: what is
//! published is acknowledged, no durable consumer's oldest unhandled message is older than a second,
//! no breaker is open and every replica is ready, all of that for half a second on end.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::{
    self,
    stream::{Config, DirectGetErrorKind},
};
use common::{clock::Timestamp, nats::Nats, stream};
use futures_util::TryStreamExt as _;
use tokio::time::Instant;

use super::{insist, record::Heal, system::System};
use crate::client::{Ask, HttpClient};

/// How long everything has to be well.
const WHOLE_FOR: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What has not healed by then is called broken.
const PATIENCE: Duration = Duration::from_secs(60);
const LAG_MAX: Duration = Duration::from_secs(1);
/// A publish that takes longer does not succeed.
const PUBLISH_WITHIN: Duration = Duration::from_millis(500);
/// A look that takes longer finds nothing well.
const LOOK_WITHIN: Duration = Duration::from_secs(1);
/// Where the meter publishes; nobody else reads it.
const PROBE_STREAM: &str = "CHAOS_PROBE";
const PROBE_SUBJECT: &str = "chaos.probe";
/// As metrics name the breakers, and the value of one that lets everything through.
const BREAKER: &str = "breaker_state";

/// Looks at a system.
#[derive(Debug)]
pub(super) struct Meter<'a> {
    system: &'a System,
    http: HttpClient,
}

impl<'a> Meter<'a> {
    /// Makes a stream to publish into.
    pub(super) async fn new(system: &'a System) -> anyhow::Result<Self> {
        let config = Config {
            name: PROBE_STREAM.to_owned(),
            subjects: vec![PROBE_SUBJECT.to_owned()],
            max_messages: 1,
            ..Config::default()
        };
        insist("make the meter's stream", || async {
            Ok(system.nats.admin.get_or_create_stream(config.clone()).await.map(drop)?)
        })
        .await?;
        Ok(Self { system, http: HttpClient::new(2) })
    }

    /// How long after `ended` the system was whole.
    pub(super) async fn measure(&self, ended: Instant) -> Heal {
        let mut whole_since: Option<Instant> = None;
        loop {
            let began = Instant::now();
            let look = tokio::time::timeout(LOOK_WITHIN, self.look()).await;
            let missing = match look {
                Ok(Ok(missing)) => missing,
                Ok(Err(err)) => Some(format!("{err:#}")),
                Err(_) => Some("looking took too long".to_owned()),
            };
            match (missing, whole_since) {
                (None, None) => whole_since = Some(Instant::now()),
                (None, Some(since)) if since.elapsed() >= WHOLE_FOR => {
                    return Heal::After(since.saturating_duration_since(ended));
                }
                (None, Some(_)) => {}
                (Some(missing), _) if ended.elapsed() > PATIENCE => return Heal::NotYet(missing),
                (Some(missing), _) => {
                    tracing::debug!(missing, "not whole");
                    whole_since = None;
                }
            }
            tokio::time::sleep_until(began + LOOK_EVERY).await;
        }
    }

    /// What is not well, if anything.
    async fn look(&self) -> anyhow::Result<Option<String>> {
        let (published, ready, lag, breakers) = tokio::join!(
            self.publish(),
            self.system.not_ready(&self.http),
            lagging(&self.system.nats, ""),
            self.open_breakers(),
        );
        published?;
        if !ready.is_empty() {
            return Ok(Some(format!("not ready: {}", ready.join(", "))));
        }
        if let Some((consumer, lag)) = lag? {
            return Ok(Some(format!("`{consumer}` is {lag:?} behind")));
        }
        Ok(breakers.then(|| "a breaker is open".to_owned()))
    }

    async fn publish(&self) -> anyhow::Result<()> {
        let publish = async {
            self.system.nats.jetstream.publish(PROBE_SUBJECT, "".into()).await?.await?;
            anyhow::Ok(())
        };
        tokio::time::timeout(PUBLISH_WITHIN, publish).await.context("publishing takes too long")?
    }

    /// Whether a breaker of any replica is not closed.
    async fn open_breakers(&self) -> bool {
        let looks = self.system.nodes.iter().map(async |node| {
            let asked = self.http.send(&node.http, &Ask::get("/metrics"), None).await;
            let text = asked.map(|answer| String::from_utf8_lossy(&answer.body).into_owned());
            text.is_ok_and(|text| has_open_breaker(&text))
        });
        futures_util::future::join_all(looks).await.contains(&true)
    }
}

/// `breaker_state{…} <n>`, 0 is closed.
fn has_open_breaker(metrics: &str) -> bool {
    metrics
        .lines()
        .filter(|line| line.starts_with(BREAKER))
        .filter_map(|line| line.rsplit_once(' '))
        .any(|(_, value)| value.trim().parse::<f64>().is_ok_and(|value| value > 0.0))
}

/// A durable consumer whose name begins so and whose oldest unhandled message is too old, and how old.
pub(super) async fn lagging(
    nats: &Nats,
    begins: &str,
) -> anyhow::Result<Option<(String, Duration)>> {
    let now = nats.clock.now();
    let meant = stream::CONSUMERS.iter().filter(|spec| spec.name.starts_with(begins));
    let mut streams: Vec<&str> = meant.map(|spec| spec.stream).collect();
    streams.sort_unstable();
    streams.dedup();
    let looks = streams.into_iter().map(|name| lagging_in(nats, name, begins, now));
    let looks = futures_util::future::join_all(looks).await;
    let lags = looks.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    Ok(lags.into_iter().flatten().next())
}

async fn lagging_in(
    nats: &Nats,
    name: &str,
    begins: &str,
    now: Timestamp,
) -> anyhow::Result<Option<(String, Duration)>> {
    let stream = nats.admin.get_stream_no_info(name).await?;
    let mut consumers = stream.consumers();
    while let Some(info) = consumers.try_next().await? {
        let is_meant = info.config.durable_name.is_some() && info.name.starts_with(begins);
        if !is_meant || info.num_pending + info.num_ack_pending as u64 == 0 {
            continue;
        }
        let filters: Vec<String> = match info.config.filter_subject.as_str() {
            "" => info.config.filter_subjects.clone(),
            filter => vec![filter.to_owned()],
        };
        for filter in filters {
            let oldest = oldest(&stream, &filter, info.ack_floor.stream_sequence + 1).await?;
            let lag = oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
            if lag > LAG_MAX {
                return Ok(Some((info.name, lag)));
            }
        }
    }
    Ok(None)
}

async fn oldest(
    stream: &jetstream::stream::Stream<()>,
    filter: &str,
    from: u64,
) -> anyhow::Result<Option<Timestamp>> {
    match stream.direct_get_next_for_subject(filter, Some(from)).await {
        Ok(message) => Ok(Some(Timestamp::from(message.time))),
        Err(err) if err.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(err) => Err(err.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::has_open_breaker;

    #[test]
    fn a_breaker_that_is_not_closed_is_seen() {
        let metrics = |state: &str| {
            format!(
                "# TYPE breaker_state gauge\nbreaker_state{{dependency=\"payments\"}} {state}\n"
            )
        };
        assert!(has_open_breaker(&metrics("2")));
        assert!(has_open_breaker(&metrics("1")));
        assert!(!has_open_breaker(&metrics("0")));
    }
}
