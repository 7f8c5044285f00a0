//! A console of operations.

use std::ops::Deref;

use common::testing::http::{EventStream, HttpClient};

pub(crate) struct Console(HttpClient);

impl Deref for Console {
    type Target = HttpClient;

    fn deref(&self) -> &HttpClient {
        &self.0
    }
}

impl Console {
    pub(crate) fn new(base: &str, token: String) -> Self {
        Self(HttpClient::new(base, token))
    }

    pub(crate) async fn follow(&self) -> EventStream {
        self.0.follow("/v1/ops/stream", None).await
    }
}
