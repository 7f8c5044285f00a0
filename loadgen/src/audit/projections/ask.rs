//! What services answer: through their gateways, as anybody may ask them, and through the broker.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use common::{
    clock::Timestamp,
    contract::{decode, v1},
    id::DriverId,
    nats::Nats,
    subject,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream::iter};
use hyper::{Method, header::HeaderValue};
use prost::Message as _;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::folded::{Shown, joined, ride};
use crate::client::{Ask, HttpClient, Service};

/// Questions that are asked at the same time.
const ASKED_AT_ONCE: usize = 16;
/// Whatever was made unreadable on purpose is broken on purpose, and said elsewhere.
const ON_PURPOSE: &str = "unreadable";

/// Asks services over HTTP.
pub(super) struct Asker(HttpClient);

#[derive(Deserialize)]
struct Earnings {
    items: Vec<Earned>,
}

#[derive(Deserialize)]
struct Earned {
    trip_id: Uuid,
    fare: Fare,
    ended_at: Timestamp,
}

#[derive(Deserialize)]
struct Fare {
    amount_minor: i64,
    currency: String,
}

#[derive(Deserialize)]
struct Standing {
    broken: BTreeMap<String, u64>,
    trip_events: u64,
    driver_events: u64,
    drivers_on_trips: u64,
    drivers_engaged: u64,
}

impl Asker {
    pub(super) fn new() -> Self {
        Self(HttpClient::new(ASKED_AT_ONCE))
    }

    /// What these drivers earned.
    pub(super) async fn earnings(
        &self,
        service: &Service,
        drivers: impl Iterator<Item = &String>,
    ) -> anyhow::Result<Shown> {
        iter(drivers.cloned().collect::<Vec<_>>())
            .map(|driver| async move {
                let answer = self.ask(service, "driver", &driver, "/v1/driver/earnings").await?;
                let earnings: Earnings = serde_json::from_value(answer)?;
                let lines = earnings.items.into_iter().map(|it| {
                    let Fare { amount_minor, currency } = it.fare;
                    ride(&it.trip_id.to_string(), amount_minor, &currency, it.ended_at)
                });
                Ok((driver, joined(lines.collect())))
            })
            .buffer_unordered(ASKED_AT_ONCE)
            .try_collect()
            .await
    }

    /// How the invariants stand.
    pub(super) async fn invariants(&self, service: &Service) -> anyhow::Result<Shown> {
        let nobody = Uuid::nil().to_string();
        let answer = self.ask(service, "ops", &nobody, "/v1/ops/invariants").await?;
        let mut standing: Standing = serde_json::from_value(answer)?;
        standing.broken.remove(ON_PURPOSE);
        Ok([
            ("broken", format!("{:?}", standing.broken)),
            ("trip events", standing.trip_events.to_string()),
            ("driver events", standing.driver_events.to_string()),
            ("drivers on trips", standing.drivers_on_trips.to_string()),
            ("drivers engaged", standing.drivers_engaged.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into())
    }

    async fn ask(
        &self,
        service: &Service,
        role: &str,
        id: &str,
        path: &str,
    ) -> anyhow::Result<Value> {
        let become_it = Ask {
            method: Method::POST,
            path: "/v1/dev/token".to_owned(),
            key: None,
            body: json!({"role": role, "id": id}).to_string().into(),
        };
        let issued = self.send(service, &become_it, None).await?;
        let token = issued.get("token").and_then(Value::as_str).context("no token")?;
        let bearer = HeaderValue::from_str(&format!("Bearer {token}"))?;
        self.send(service, &Ask::get(path), Some(&bearer)).await
    }

    async fn send(
        &self,
        service: &Service,
        ask: &Ask,
        bearer: Option<&HeaderValue>,
    ) -> anyhow::Result<Value> {
        let answer = self.0.send(service, ask, bearer).await;
        let answer = answer.with_context(|| format!("{} of {service}", ask.path))?;
        if !answer.is_success() {
            bail!("{} of {service} answers {} {}", ask.path, answer.status, answer.code());
        }
        Ok(answer.json())
    }
}

/// What `location` takes these drivers to be doing.
pub(super) async fn activities(
    nats: &Nats,
    drivers: impl Iterator<Item = &DriverId>,
) -> anyhow::Result<Shown> {
    iter(drivers.copied().collect::<Vec<_>>())
        .map(|driver| async move {
            let request = v1::DriverPositionRequest { driver_id: driver.to_vec() };
            let payload = request.encode_to_vec().into();
            let reply = nats.client.request(subject::QUERY_DRIVER, payload).await;
            let reply = reply.with_context(|| format!("location says nothing of `{driver}`"))?;
            let reply: v1::DriverPositionReply = decode("driver position", &reply.payload)?;
            Ok((driver.to_string(), activity(reply.activity)))
        })
        .buffer_unordered(ASKED_AT_ONCE)
        .try_collect()
        .await
}

/// By the codes of the moving map.
pub(super) fn activity(code: u32) -> String {
    match code {
        0 => "offline".to_owned(),
        1 => "idle".to_owned(),
        2 => "offered".to_owned(),
        3 => "engaged".to_owned(),
        other => format!("code {other}"),
    }
}
