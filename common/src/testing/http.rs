//! HTTP as a phone or a console has it: a token, JSON in and out, event streams. What is not
//! answered in time fails the test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; services are built without this"
)]

use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::time::timeout;

use super::deadline;

/// A caller of one gateway.
#[derive(Debug, Clone)]
pub struct HttpClient {
    token: String,
    base: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// What a gateway answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// `null` where the answer is no JSON.
    pub body: Value,
    pub text: String,
}

impl Answer {
    /// The answer, if it has this status.
    ///
    /// # Panics
    /// When it has another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self
    }

    /// The answer, if it is a problem of this status and code, in the form that every problem has.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn expect_problem(self, status: u16, code: &str) -> Self {
        assert_eq!(self.code(), code, "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert!(self.body["trace_id"].as_str().is_some_and(|trace| trace.len() == 32));
        self.expect(status)
    }

    /// A problem's code; empty where there is none.
    #[must_use]
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

impl HttpClient {
    /// Calls the gateway at `base`, such as `http://127.0.0.1:7001`, with this token.
    #[must_use]
    pub fn new(base: &str, token: String) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { token, base: base.to_owned(), client }
    }

    /// The same caller after the service came back somewhere else.
    #[must_use]
    pub fn at(self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self }
    }

    /// The `Authorization` header's value.
    #[must_use]
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[("authorization", &self.bearer())], "").await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.json(Method::POST, path, None, body).await
    }

    /// With JSON, and an `Idempotency-Key` if there is one.
    pub async fn json(&self, method: Method, path: &str, key: Option<&str>, body: Value) -> Answer {
        let bearer = self.bearer();
        let mut headers =
            vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        self.send(method, path, &headers, body.to_string()).await
    }

    /// With these headers and no others: not even the token.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let response = self.open(method, path, headers, body).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { status: parts.status, headers: parts.headers, body, text }
    }

    /// Opens an event stream; `last` is the id of the last event that was seen.
    pub async fn follow(&self, path: &str, last: Option<u64>) -> EventStream {
        let (bearer, last) = (self.bearer(), last.map(|last| last.to_string()));
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(last.as_deref().map(|last| ("last-event-id", last)));
        let response = self.open(Method::GET, path, &headers, "").await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        EventStream { body: response.into_body(), text: String::new() }
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
        let answered = timeout(deadline::FACT, self.client.request(request)).await;
        answered.expect("an answer in time").unwrap()
    }
}

/// Server-sent events as they come.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    text: String,
}

/// One of them.
#[derive(Debug)]
pub struct SentEvent {
    pub name: String,
    pub id: Option<u64>,
    pub body: Value,
}

impl EventStream {
    /// The next event; comments are passed over. `None` once the stream has ended.
    pub async fn next(&mut self) -> Option<SentEvent> {
        timeout(deadline::FACT, self.read()).await.expect("an event in time")
    }

    /// The next event of this name; others are passed over.
    pub async fn next_named(&mut self, name: &str) -> SentEvent {
        let read = async {
            loop {
                let event = self.read().await.expect("the stream goes on");
                if event.name == name {
                    return event;
                }
            }
        };
        match timeout(deadline::FACT, read).await {
            Ok(event) => event,
            Err(_) => panic!("no `{name}` in time"),
        }
    }

    async fn read(&mut self) -> Option<SentEvent> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
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
        id: field("id").and_then(|id| id.parse().ok()),
        body: serde_json::from_str(&field("data")?).unwrap(),
    })
}
