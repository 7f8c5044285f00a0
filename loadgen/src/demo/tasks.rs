//! The services as tasks on threads of their own, so that what they cost can be told from what a
//! city costs. None of them may end before it is asked to.

use std::future::Future;

use anyhow::{Context as _, anyhow};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};

/// How the services' threads are called.
pub(super) const SERVICE_THREADS: &str = "services";

type Ended = (&'static str, anyhow::Result<()>);

/// Running services. Dropped, they are aborted.
#[derive(Debug)]
pub(super) struct Tasks {
    running: JoinSet<Ended>,
    threads: Option<Runtime>,
}

impl Tasks {
    /// Threads without a task.
    pub(super) fn start() -> anyhow::Result<Self> {
        let threads = Builder::new_multi_thread().thread_name(SERVICE_THREADS).enable_all().build();
        let threads = threads.context("no threads for the services")?;
        Ok(Self { running: JoinSet::new(), threads: Some(threads) })
    }

    /// Runs a service.
    pub(super) fn spawn<F>(&mut self, name: &'static str, service: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        if let Some(threads) = &self.threads {
            self.running.spawn_on(async move { (name, service.await) }, threads.handle());
        }
    }

    /// Waits for a service that ends by itself, and says which and why.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        match self.running.join_next().await {
            Some(Ok((name, Ok(())))) => anyhow!("`{name}` ended by itself"),
            Some(Ok((name, Err(err)))) => err.context(format!("`{name}` failed")),
            Some(Err(err)) => anyhow!(err).context("a service died"),
            None => anyhow!("no service runs"),
        }
    }

    /// Waits until all have ended as they were asked to.
    ///
    /// # Errors
    /// The first failure.
    pub(super) async fn drained(&mut self) -> anyhow::Result<()> {
        let mut failed = None;
        while let Some(ended) = self.running.join_next().await {
            let (name, result) = ended.context("a service died while stopping")?;
            failed = failed.or(result.err().map(|err| err.context(format!("`{name}` failed"))));
        }
        failed.map_or(Ok(()), Err)
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.running.abort_all();
        // A runtime may not be waited for from within another one.
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}
