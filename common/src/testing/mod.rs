//! For tests with I/O: a private real broker for each, callers of gateways, and waiting for facts
//! instead of sleeping.
//! Where a broker cannot be had the test fails and says what would help; it is never skipped.
#![allow(clippy::panic, reason = "a test fails by panicking; services are built without this")]

pub mod http;
#[cfg(unix)]
pub mod postgres;

use crate::broker::{Broker, BrokerError, Environment, Options};
use crate::nats::Nats;
use std::error::Error;
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How long a test waits before it says that something will not happen any more. They bound a
/// failure and never slow down a success.
pub mod deadline {
    use std::time::Duration;

    /// A fact that follows from what was just done: some messages, a write, a connection.
    pub const FACT: Duration = Duration::from_secs(10);
    /// A fact behind a take-over, a redelivery or a restart.
    pub const RECOVERY: Duration = Duration::from_secs(30);
}

/// Between two looks at a fact.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// A broker of this test alone: empty, on a free port, killed and removed when dropped.
#[derive(Debug)]
pub struct TestBroker(Broker);

pub async fn broker() -> TestBroker {
    let options = Options::new(Environment::of_process());
    TestBroker(Broker::start(options).await.unwrap_or_else(|err| no_broker(&err)))
}

/// As [`broker`], with a limit of its account that the test changes while it runs.
pub async fn broker_with_account_limit(bytes: u64) -> TestBroker {
    let environment = Environment::of_process();
    let options = Options { account_max_file_bytes: Some(bytes), ..Options::new(environment) };
    TestBroker(Broker::start(options).await.unwrap_or_else(|err| no_broker(&err)))
}

impl TestBroker {
    /// From now on its account may store so many bytes.
    pub async fn limit_account_to(&mut self, nats: &Nats, bytes: u64) {
        self.limit_account(bytes).unwrap_or_else(|err| no_broker(&err));
        let pid = self.pid().unwrap_or_else(|| panic!("the broker does not run"));
        // By the shell: there is no other way to signal a process without a crate for it.
        let hup = format!("kill -HUP {pid}");
        let told = std::process::Command::new("/bin/sh").args(["-c", &hup]).status();
        assert!(told.is_ok_and(|told| told.success()), "the broker is not told");
        let wanted = i64::try_from(bytes).ok();
        eventually("the account has its new limit", async || {
            let account = nats.admin.query_account().await;
            account.is_ok_and(|account| account.limits.max_storage == wanted)
        })
        .await;
    }

    /// A connection of its own, with the client's defaults.
    pub async fn client(&self) -> async_nats::Client {
        async_nats::connect(self.url())
            .await
            .unwrap_or_else(|err| panic!("the broker at {} refused a client: {err}", self.url()))
    }
}

impl Deref for TestBroker {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.0
    }
}

impl DerefMut for TestBroker {
    fn deref_mut(&mut self) -> &mut Broker {
        &mut self.0
    }
}

fn no_broker(err: &BrokerError) -> ! {
    let mut message = format!("this test needs a private broker: {err}");
    let mut source = err.source();
    while let Some(cause) = source {
        message.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    panic!("{message}")
}

/// Fills the broker's store up to so many bytes with dead letters that nobody reads.
///
/// # Panics
/// When the broker refuses them.
pub async fn fill(nats: &Nats, up_to_bytes: u64) {
    const LETTER_BYTES: usize = 512 << 10;
    let letter = bytes::Bytes::from(vec![0; LETTER_BYTES]);
    loop {
        let account = nats.admin.query_account().await.unwrap_or_else(|err| panic!("{err}"));
        let missing = up_to_bytes.saturating_sub(account.storage);
        if missing == 0 {
            return;
        }
        let part = usize::try_from(missing).map_or(LETTER_BYTES, |bytes| bytes.min(LETTER_BYTES));
        let subject = crate::subject::dead_letter("nobody", "NOTHING", missing);
        let stored = async { nats.jetstream.publish(subject, letter.slice(..part)).await?.await };
        stored.await.unwrap_or_else(|err| panic!("the store is not filled: {err}"));
    }
}

/// What a probe found: `true`, or the value it was looking for.
pub trait Fact {
    type Found;

    fn found(self) -> Option<Self::Found>;
}

impl Fact for bool {
    type Found = ();

    fn found(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Fact for Option<T> {
    type Found = T;

    fn found(self) -> Self {
        self
    }
}

/// Looks until the probe finds `what`, and fails the test after [`deadline::FACT`].
pub async fn eventually<F: Fact>(what: &str, probe: impl AsyncFnMut() -> F) -> F::Found {
    eventually_within(deadline::FACT, what, probe).await
}

/// [`eventually`] with a deadline of its own. A probe that hangs counts as one that found nothing.
pub async fn eventually_within<F: Fact>(
    limit: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> F,
) -> F::Found {
    let deadline = Instant::now() + limit;
    let look = async {
        loop {
            if let Some(found) = probe().await.found() {
                return found;
            }
            sleep(LOOK_PAUSE).await;
        }
    };
    match timeout_at(deadline, look).await {
        Ok(found) => found,
        Err(_) => panic!("{what}: not within {limit:?}"),
    }
}

/// The pause between two looks, for the few that have to compare what they see themselves.
pub async fn before_next_look() {
    sleep(LOOK_PAUSE).await;
}

#[cfg(test)]
mod tests {
    use super::{eventually, eventually_within};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_fact_is_waited_for_and_handed_over() {
        let mut looks = 0;
        let found = eventually("the third look", async || {
            looks += 1;
            (looks == 3).then_some(looks)
        })
        .await;
        assert_eq!(found, 3);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "a ghost: not within 1s")]
    async fn what_never_comes_true_fails_the_test_by_name() {
        eventually_within(Duration::from_secs(1), "a ghost", async || false).await;
    }
}
