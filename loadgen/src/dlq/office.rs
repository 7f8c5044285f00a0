//! The API for operations, as a person with a token has it.

use anyhow::{Context as _, bail};
use hyper::{Method, header::HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Door;
use crate::client::{Answer, Ask, HttpClient, Service};

const NOT_FOUND: u16 = 404;

/// A service and the right to give it orders.
pub(super) struct Office {
    http: HttpClient,
    service: Service,
    bearer: HeaderValue,
}

impl Office {
    /// Comes in with a token, or with one of the development issuer.
    pub(super) async fn enter(service: &Service, door: Door) -> anyhow::Result<Self> {
        let http = HttpClient::new(1);
        let token = match door.token {
            Some(token) => token,
            None => development_token(&http, service).await?,
        };
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))?;
        bearer.set_sensitive(true);
        Ok(Self { http, service: service.clone(), bearer })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        read(&self.send(Ask::get(path)).await?)
    }

    /// As [`Self::get`]; nothing where there is nothing.
    pub(super) async fn find<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Option<T>> {
        match self.send(Ask::get(path)).await? {
            answer if answer.status == NOT_FOUND => Ok(None),
            answer => read(&answer).map(Some),
        }
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<T> {
        read(&self.send(post(path, body)).await?)
    }

    async fn send(&self, ask: Ask) -> anyhow::Result<Answer> {
        let answer = self.http.send(&self.service, &ask, Some(&self.bearer)).await;
        answer.with_context(|| self.service.to_string())
    }
}

fn post(path: &str, body: &Value) -> Ask {
    let body = body.to_string().into();
    Ask { method: Method::POST, path: path.to_owned(), key: None, body }
}

async fn development_token(http: &HttpClient, service: &Service) -> anyhow::Result<String> {
    let asked = http.send(service, &post("/v1/dev/token", &json!({ "role": "ops" })), None).await;
    let answer = asked.with_context(|| service.to_string())?;
    if answer.status == NOT_FOUND {
        bail!("{service} has no development issuer: give --token or OPS_TOKEN");
    }
    let issued: Value = read(&answer)?;
    let token = issued.get("token").and_then(Value::as_str).context("no token in the answer")?;
    Ok(token.to_owned())
}

fn read<T: DeserializeOwned>(answer: &Answer) -> anyhow::Result<T> {
    if !answer.is_success() {
        let problem = answer.json();
        let detail = problem.get("detail").and_then(Value::as_str).unwrap_or_default();
        bail!("{} {}: {detail}", answer.status, answer.code());
    }
    answer.parse().context("an answer that is not as it should be")
}
