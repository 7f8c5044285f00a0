//! How replicas share partitions. The broker lets one of them own each; which one, is decided by
//! who asks first. So a replica asks for its own partitions at once and for the others' a little
//! later, and from time to time it gives the others' back, for whoever was away meanwhile.

use std::time::Duration;

use tokio::time::Instant;

/// The head start of a replica on its own partitions.
const HEAD_START: Duration = Duration::from_millis(500);
/// How long a replica keeps another's partition before it offers it back the first time. If nobody
/// takes it, it stands still for the [`HEAD_START`], so each time the next is twice as far away.
const KEEP_FIRST: Duration = Duration::from_secs(10);
/// At the most it keeps it so long.
const KEEP_MAX: Duration = Duration::from_secs(160);

/// Which of how many replicas this is. Without it all replicas are alike: whoever asks first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::Args)]
pub struct Share {
    /// Which replica of this service this is, from 0.
    #[arg(long, env = "REPLICA", default_value_t = 0)]
    pub replica: u32,
    /// How many replicas of this service there are; 0 when nobody knows.
    #[arg(long, env = "REPLICAS", default_value_t = 0)]
    pub replicas: u32,
}

impl Share {
    /// The only one there is, or one of many that are alike.
    pub const ALIKE: Self = Self { replica: 0, replicas: 0 };

    /// Whether this partition is one of this replica's own.
    #[must_use]
    pub fn is_own(self, partition: u32) -> bool {
        match (partition.checked_rem(self.replicas), self.replica.checked_rem(self.replicas)) {
            (Some(owner), Some(this)) => owner == this,
            _ => true,
        }
    }
}

/// One replica and one partition: when to ask for it, and when to give it back.
#[derive(Debug)]
pub(super) struct Turn {
    is_own: bool,
    keep: Duration,
    /// When the partition is given back, once it came.
    ends: Option<Instant>,
}

impl Turn {
    pub(super) fn new(is_own: bool) -> Self {
        Self { is_own, keep: KEEP_FIRST, ends: None }
    }

    /// How long to wait before asking.
    pub(super) fn head_start(&self) -> Duration {
        if self.is_own { Duration::ZERO } else { HEAD_START }
    }

    /// The partition is here.
    pub(super) fn came(&mut self) {
        if !self.is_own && self.ends.is_none() {
            self.ends = Some(Instant::now() + self.keep);
        }
    }

    /// Waits until it is to be given back; for ever while it is not here, or is this replica's own.
    pub(super) async fn over(&self) {
        match self.ends {
            Some(ends) => tokio::time::sleep_until(ends).await,
            None => std::future::pending().await,
        }
    }

    /// It was given back, or lost.
    pub(super) fn ended(&mut self) {
        if self.ends.take().is_some_and(|ends| ends <= Instant::now()) {
            self.keep = (self.keep * 2).min(KEEP_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, timeout};

    use super::{KEEP_FIRST, KEEP_MAX, Share, Turn};

    #[test]
    fn every_partition_is_one_replicas_own() {
        for replicas in 1..5 {
            for partition in 0..16 {
                let owners = (0..replicas)
                    .filter(|replica| Share { replica: *replica, replicas }.is_own(partition));
                assert_eq!(owners.count(), 1);
            }
        }
    }

    #[test]
    fn replicas_that_are_alike_want_all_partitions() {
        assert!((0..16).all(|partition| Share::ALIKE.is_own(partition)));
    }

    #[tokio::test(start_paused = true)]
    async fn anothers_partition_is_given_back_later_and_later() {
        let mut turn = Turn::new(false);
        let mut kept = Vec::new();
        for _ in 0..6 {
            turn.came();
            let began = Instant::now();
            turn.over().await;
            kept.push(began.elapsed());
            turn.ended();
        }
        assert_eq!(kept.first(), Some(&KEEP_FIRST));
        assert!(kept.windows(2).all(|pair| pair[1] == (pair[0] * 2).min(KEEP_MAX)), "{kept:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_own_partition_is_asked_for_at_once_and_kept() {
        let mut turn = Turn::new(true);
        turn.came();
        assert_eq!(turn.head_start(), Duration::ZERO);
        timeout(KEEP_MAX * 2, turn.over()).await.unwrap_err();
    }
}
