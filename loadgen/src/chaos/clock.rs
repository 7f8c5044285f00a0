//! A clock that is set while the process runs, as an operator or a wrong time server would.

use std::time::Duration;

use tokio::time::Instant;

use super::system::Node;
use crate::client::{Ask, HttpClient};

/// How often a service measures by how much its clock was set, and some patience.
const SEEN_WITHIN: Duration = Duration::from_secs(12);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// As metrics name it.
const SET_BY: &str = "clock_set_ms";
/// What may have passed between two looks at a clock.
const SLACK_MS: f64 = 5_000.0;

/// Sets a replica's clock; `true` when the running process was seen to have met that.
pub(super) async fn jump(node: &Node, skew_ms: i64) -> anyhow::Result<bool> {
    let (http, life) = (HttpClient::new(1), node.replica.life());
    node.replica.skew(skew_ms)?;
    let wanted = Duration::from_millis(skew_ms.unsigned_abs()).as_secs_f64() * 1e3;
    let asked = Instant::now();
    while asked.elapsed() < SEEN_WITHIN && node.replica.life().number == life.number {
        if let Ok(answer) = http.send(&node.http, &Ask::get("/metrics"), None).await
            && let Some(set_by) = set_by(&String::from_utf8_lossy(&answer.body))
            && (set_by.abs() - wanted).abs() < SLACK_MS
            && (set_by < 0.0) == (skew_ms < 0)
        {
            return Ok(true);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(false)
}

fn set_by(metrics: &str) -> Option<f64> {
    let line = metrics.lines().find(|line| line.starts_with(SET_BY))?;
    line.rsplit_once(' ')?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_clock_that_was_set_is_seen() {
        let metrics = "# TYPE clock_set_ms gauge\nclock_set_ms -299999.5\n";
        assert_eq!(super::set_by(metrics), Some(-299_999.5));
        assert_eq!(super::set_by("clock_offset_ms 1\n"), None);
    }
}
