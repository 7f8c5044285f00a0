//! A driver's phone: HTTP with a token, JSON in and out, and the event stream.

use bytes::Bytes;
use common::testing::deadline;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, body::Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

pub(crate) struct Phone {
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
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self
    }

    /// It is a problem of this status and code, in the form that every problem has.
    #[track_caller]
    pub(crate) fn expect_problem(self, status: u16, code: &str) -> Self {
        assert_eq!(self.body["code"], code, "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert!(self.body["trace_id"].as_str().is_some_and(|trace| trace.len() == 32));
        self.expect(status)
    }
}

impl Phone {
    pub(crate) fn new(base: &str, token: String) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { token, base: base.to_owned(), client }
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

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[("authorization", &self.bearer())], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.json(Method::POST, path, None, body).await
    }

    pub(crate) async fn json(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Value,
    ) -> Answer {
        let bearer = self.bearer();
        let mut headers =
            vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        self.send(method, path, &headers, body.to_string()).await
    }

    pub(crate) async fn duty(&self, duty: &str) -> Answer {
        let body = serde_json::json!({ "duty": duty });
        self.json(Method::PUT, "/v1/driver/status", None, body).await
    }

    pub(crate) async fn follow(&self) -> EventStream {
        let bearer = self.bearer();
        let headers = [("authorization", bearer.as_str())];
        let response = self.open(Method::GET, "/v1/driver/events", &headers, "").await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        EventStream { body: response.into_body(), text: String::new() }
    }
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
    /// The next event; comments are passed over. `None` once the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<SentEvent> {
        let read = async {
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
        };
        tokio::time::timeout(deadline::FACT, read).await.expect("an event in time")
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
