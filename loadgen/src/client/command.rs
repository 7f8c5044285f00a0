//! What a phone sends, and whether it can.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hyper::Method;
use serde_json::Value;
use tokio::time::Instant;

/// A command of a phone.
#[derive(Debug, Clone)]
pub struct Command {
    /// `POST` or `PUT`.
    pub method: Method,
    /// Path.
    pub path: String,
    /// Stays the same however often it is sent.
    pub key: String,
    /// JSON.
    pub body: Value,
    /// How long to keep asking.
    pub patience: Duration,
    /// Codes that the script reckons with.
    pub expected: &'static [&'static str],
    /// A 2xx makes a fact, which the log must hold; a quote, for one, makes none.
    pub is_promise: bool,
}

impl Command {
    /// A POST with a fresh key, to be tried for `patience`.
    #[must_use]
    pub fn post(path: impl Into<String>, body: Value, patience: Duration) -> Self {
        let key = common::id::CommandId::fresh().to_string();
        let path = path.into();
        Self { method: Method::POST, path, key, body, patience, expected: &[], is_promise: true }
    }

    /// The same, reckoning with these codes.
    #[must_use]
    pub fn expecting(self, expected: &'static [&'static str]) -> Self {
        Self { expected, ..self }
    }

    /// The same, but its 2xx makes no fact.
    #[must_use]
    pub fn without_promise(self) -> Self {
        Self { is_promise: false, ..self }
    }
}

/// Whether a phone has a network.
#[derive(Debug)]
pub struct Signal(Mutex<Instant>);

impl Default for Signal {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Signal {
    /// No network until then.
    pub fn lose_until(&self, until: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Whether there is one now.
    #[must_use]
    pub fn is_there(&self) -> bool {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) <= Instant::now()
    }

    /// Waits until there is one.
    pub async fn regained(&self) {
        while !self.is_there() {
            let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            tokio::time::sleep_until(until).await;
        }
    }
}
