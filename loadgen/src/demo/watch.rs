//! Asks operations, while the city lives, whether the promises still hold. The verdict at the end
//! does not rest on it.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use hyper::{Method, header::HeaderValue};
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::client::{Ask, HttpClient, NoAnswer, Service};

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How many promises operations have seen broken so far.
#[derive(Debug, Default)]
pub(super) struct Watch {
    broken: AtomicU64,
    has_looked: AtomicU64,
}

impl Watch {
    /// The number, once operations were asked.
    pub(super) fn broken(&self) -> Option<u64> {
        (self.has_looked.load(Ordering::Relaxed) > 0).then(|| self.broken.load(Ordering::Relaxed))
    }

    /// Asks until it is over. Operations that do not answer are asked again.
    pub(super) async fn run(&self, operations: &Service, over: CancellationToken) {
        let http = HttpClient::new(1);
        let mut bearer = None;
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        while over.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Err(err) = self.look(&http, operations, &mut bearer).await {
                tracing::debug!(error = %err, "operations were not heard");
                bearer = None;
            }
        }
    }

    async fn look(
        &self,
        http: &HttpClient,
        operations: &Service,
        bearer: &mut Option<HeaderValue>,
    ) -> Result<(), NoAnswer> {
        #[derive(Deserialize)]
        struct Standing {
            broken: BTreeMap<String, u64>,
        }
        let token = match bearer {
            Some(token) => token.clone(),
            None => bearer.insert(token(http, operations).await?).clone(),
        };
        let ask = Ask::get("/v1/ops/invariants");
        let answer = http.send(operations, &ask, Some(&token)).await?;
        let standing: Standing =
            answer.parse().map_err(|err| NoAnswer::Unknown(err.to_string()))?;
        self.broken.store(standing.broken.values().sum(), Ordering::Relaxed);
        self.has_looked.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

async fn token(http: &HttpClient, operations: &Service) -> Result<HeaderValue, NoAnswer> {
    #[derive(Deserialize)]
    struct Issued {
        token: String,
    }
    let ask = Ask {
        method: Method::POST,
        path: "/v1/dev/token".to_owned(),
        key: None,
        body: json!({"role": "ops"}).to_string().into(),
    };
    let answer = http.send(operations, &ask, None).await?;
    let refused = |err: &dyn std::fmt::Display| NoAnswer::NotSent(err.to_string());
    let issued: Issued = answer.parse().map_err(|err| refused(&err))?;
    HeaderValue::from_str(&format!("Bearer {}", issued.token)).map_err(|err| refused(&err))
}
