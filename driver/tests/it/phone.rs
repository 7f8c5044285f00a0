//! A driver's phone.

use std::ops::Deref;

use axum::http::Method;
use common::testing::http::{Answer, EventStream, HttpClient};
use serde_json::json;

pub(crate) struct Phone(HttpClient);

impl Deref for Phone {
    type Target = HttpClient;

    fn deref(&self) -> &HttpClient {
        &self.0
    }
}

impl Phone {
    pub(crate) fn new(base: &str, token: String) -> Self {
        Self(HttpClient::new(base, token))
    }

    pub(crate) async fn duty(&self, duty: &str) -> Answer {
        self.json(Method::PUT, "/v1/driver/status", None, json!({ "duty": duty })).await
    }

    pub(crate) async fn follow(&self) -> EventStream {
        self.0.follow("/v1/driver/events", None).await
    }
}
