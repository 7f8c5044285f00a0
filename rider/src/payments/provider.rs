//! The payment provider: an HTTP service that charges under an idempotency key and can be asked what
//! it has charged under a reference. The trait is what payments need of it.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use common::money::Money;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::charge::Debt;

/// More than this is no answer of a payment provider.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// A charge that is done.
const SUCCEEDED: &str = "succeeded";

/// What the provider says about a charge that it made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeReceipt {
    /// Its own name for it.
    pub provider_reference: String,
}

/// Why there is no receipt, split by what happens next.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It may have charged: ask before charging again.
    #[error("the provider's outcome is unknown: {0}")]
    Unknown(String),
    /// It says that this can never be charged.
    #[error("the provider refused: {0}")]
    Refused(String),
    /// It charged something else under this name. A person has to look at it.
    #[error("the provider's charge is not ours: {0}")]
    Mismatch(String),
}

/// Who collects the money.
pub trait Provider: Send + Sync + 'static {
    /// Charges a debt under its key: the same key again gives the same receipt.
    fn charge(
        &self,
        debt: &Debt,
    ) -> impl Future<Output = Result<ChargeReceipt, ProviderError>> + Send;

    /// The charge that was made under the debt's reference, if there is one.
    fn look_up(
        &self,
        debt: &Debt,
    ) -> impl Future<Output = Result<Option<ChargeReceipt>, ProviderError>> + Send;
}

/// A provider behind HTTP.
#[derive(Debug, Clone)]
pub struct HttpProvider {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    timeout: Duration,
}

#[derive(Serialize)]
struct ChargeRequest<'a> {
    idempotency_key: Uuid,
    reference: &'a str,
    #[serde(flatten)]
    amount: Money,
}

#[derive(Deserialize)]
struct ChargeAnswer {
    charge_id: String,
    reference: String,
    #[serde(flatten)]
    amount: Money,
    status: String,
}

#[derive(Deserialize)]
struct ChargesAnswer {
    charges: Vec<ChargeAnswer>,
}

impl HttpProvider {
    /// At this address; an answer that takes longer than `timeout` is unknown.
    #[must_use]
    pub fn new(base: &Uri, timeout: Duration) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, base: base.to_string().trim_end_matches('/').to_owned(), timeout }
    }

    async fn call(&self, request: Request<Full<Bytes>>) -> Result<Bytes, ProviderError> {
        let unknown = |err: &dyn std::fmt::Display| ProviderError::Unknown(err.to_string());
        let exchange = async {
            let response = self.client.request(request).await.map_err(|err| unknown(&err))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            Ok((status, body.map_err(|err| unknown(&err))?.to_bytes()))
        };
        let (status, body) =
            tokio::time::timeout(self.timeout, exchange).await.map_err(|err| unknown(&err))??;
        match status {
            StatusCode::OK | StatusCode::CREATED => Ok(body),
            // Too early, too many, in conflict with a call under way: it may go better later.
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::CONFLICT
            | StatusCode::TOO_EARLY
            | StatusCode::TOO_MANY_REQUESTS => Err(unknown(&status)),
            status if status.is_client_error() => Err(ProviderError::Refused(status.to_string())),
            status => Err(unknown(&status)),
        }
    }
}

impl Provider for HttpProvider {
    async fn charge(&self, debt: &Debt) -> Result<ChargeReceipt, ProviderError> {
        let reference = debt.reference();
        let body = ChargeRequest {
            idempotency_key: debt.key(),
            reference: &reference,
            amount: debt.amount,
        };
        let refused = |err: &dyn std::fmt::Display| ProviderError::Refused(err.to_string());
        let body = serde_json::to_vec(&body).map_err(|err| refused(&err))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/v1/charges", self.base))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body.into()))
            .map_err(|err| refused(&err))?;
        let answer = self.call(request).await?;
        receipt(debt, parse(&answer)?)
    }

    async fn look_up(&self, debt: &Debt) -> Result<Option<ChargeReceipt>, ProviderError> {
        // A reference is a UUID, a colon and a word: it needs no escaping in a query.
        let request = Request::builder()
            .uri(format!("{}/v1/charges?reference={}", self.base, debt.reference()))
            .body(Full::default())
            .map_err(|err| ProviderError::Refused(err.to_string()))?;
        let answer: ChargesAnswer = parse(&self.call(request).await?)?;
        answer.charges.into_iter().next().map(|charge| receipt(debt, charge)).transpose()
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ProviderError> {
    serde_json::from_slice(body).map_err(|err| ProviderError::Unknown(err.to_string()))
}

fn receipt(debt: &Debt, answer: ChargeAnswer) -> Result<ChargeReceipt, ProviderError> {
    if answer.reference != debt.reference() || answer.amount != debt.amount {
        let ChargeAnswer { charge_id, reference, amount, .. } = answer;
        return Err(ProviderError::Mismatch(format!("`{charge_id}`: {amount} for `{reference}`")));
    }
    if answer.status != SUCCEEDED {
        return Err(ProviderError::Unknown(format!("status `{}`", answer.status)));
    }
    Ok(ChargeReceipt { provider_reference: answer.charge_id })
}
