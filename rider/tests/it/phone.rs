//! A rider's phone: HTTP with a token, JSON in and out, and event streams.

use std::time::Duration;

use bytes::Bytes;
use common::{
    auth::{Issuer, Role},
    id::{RiderId, TripId},
    testing::deadline,
};
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, body::Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};

const TOKEN_TTL: Duration = Duration::from_secs(600);

pub(crate) struct Phone {
    pub(crate) rider: RiderId,
    pub(crate) token: String,
    base: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub(crate) fn trip(&self) -> TripId {
        self.body["trip_id"].as_str().unwrap().parse().unwrap()
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self
    }
}

impl Phone {
    pub(crate) fn new(base: &str, issuer: &Issuer) -> Self {
        let rider = RiderId::fresh();
        Self {
            rider,
            token: issuer.issue(Role::Rider, rider.0, TOKEN_TTL).unwrap(),
            base: base.to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// The same phone after the service came back somewhere else.
    pub(crate) fn at(self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self }
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let response = self.open(method, path, headers, body).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Incoming> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let response = tokio::time::timeout(deadline::FACT, self.client.request(request));
        response.await.unwrap().unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        self.send(Method::GET, path, &[("authorization", &bearer)], "").await
    }

    pub(crate) async fn post(&self, path: &str, key: Option<&str>, body: Value) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let mut headers =
            vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        self.send(Method::POST, path, &headers, body.to_string()).await
    }

    pub(crate) async fn quote(&self) -> String {
        let quotes = self.post("/v1/quotes", None, way()).await.expect(201);
        quotes.body["quotes"][0]["fare_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn request(&self, fare_id: &str, key: &str) -> Answer {
        self.post("/v1/trips", Some(key), json!({ "fare_id": fare_id })).await
    }

    /// Quote and request in one go.
    pub(crate) async fn ride(&self, key: &str) -> TripId {
        let fare_id = self.quote().await;
        self.request(&fare_id, key).await.expect(201).trip()
    }

    pub(crate) async fn follow(&self, trip: TripId, last: Option<u64>) -> EventStream {
        let bearer = format!("Bearer {}", self.token);
        let last = last.map(|last| last.to_string());
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(last.as_deref().map(|last| ("last-event-id", last)));
        let path = format!("/v1/trips/{trip}/events");
        let response = self.open(Method::GET, &path, &headers, "").await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        EventStream { body: response.into_body(), text: String::new() }
    }
}

pub(crate) fn way() -> Value {
    json!({ "pickup": { "lat": 57.70, "lng": 11.97 }, "dropoff": { "lat": 57.69, "lng": 11.95 } })
}

pub(crate) struct EventStream {
    body: Incoming,
    text: String,
}

#[derive(Debug)]
pub(crate) struct SentEvent {
    pub(crate) name: String,
    pub(crate) id: Option<u64>,
    pub(crate) body: Value,
}

impl EventStream {
    /// The next event of this name; others (positions, comments) are passed over.
    pub(crate) async fn next(&mut self, name: &str) -> SentEvent {
        let read = async {
            loop {
                let event = self.any().await.expect("the stream goes on");
                if event.name == name {
                    return event;
                }
            }
        };
        tokio::time::timeout(deadline::FACT, read)
            .await
            .unwrap_or_else(|_| panic!("no `{name}` in time"))
    }

    /// The next event whatever it is; nothing once the stream has ended.
    pub(crate) async fn any(&mut self) -> Option<SentEvent> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block = self.text[..end].to_owned();
                self.text.drain(..end + 2);
                if let Some(event) = parse(&block) {
                    return Some(event);
                }
                continue;
            }
            let frame = self.body.frame().await?.ok()?;
            self.text.push_str(std::str::from_utf8(frame.data_ref()?).unwrap());
        }
    }
}

fn parse(block: &str) -> Option<SentEvent> {
    let field = |name: &str| {
        let prefix = format!("{name}: ");
        block.lines().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
    };
    Some(SentEvent {
        name: field("event")?,
        id: field("id").map(|id| id.parse().unwrap()),
        body: serde_json::from_str(&field("data")?).unwrap(),
    })
}
