//! A rider's phone.

use std::{ops::Deref, time::Duration};

use axum::http::Method;
use common::{
    auth::{Issuer, Role},
    id::{RiderId, TripId},
    testing::http::{Answer, EventStream, HttpClient},
};
use serde_json::{Value, json};

const TOKEN_TTL: Duration = Duration::from_secs(600);

pub(crate) struct Phone {
    pub(crate) rider: RiderId,
    http: HttpClient,
}

impl Deref for Phone {
    type Target = HttpClient;

    fn deref(&self) -> &HttpClient {
        &self.http
    }
}

/// The trip that an answer is about.
pub(crate) fn trip_of(answer: &Answer) -> TripId {
    answer.body["trip_id"].as_str().unwrap().parse().unwrap()
}

impl Phone {
    pub(crate) fn new(base: &str, issuer: &Issuer) -> Self {
        let rider = RiderId::fresh();
        let token = issuer.issue(Role::Rider, rider.0, TOKEN_TTL).unwrap();
        Self { rider, http: HttpClient::new(base, token) }
    }

    /// The same phone after the service came back somewhere else.
    pub(crate) fn at(self, base: &str) -> Self {
        Self { http: self.http.at(base), ..self }
    }

    pub(crate) async fn post(&self, path: &str, key: Option<&str>, body: Value) -> Answer {
        self.json(Method::POST, path, key, body).await
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
        trip_of(&self.request(&fare_id, key).await.expect(201))
    }

    pub(crate) async fn follow(&self, trip: TripId, last: Option<u64>) -> EventStream {
        self.http.follow(&format!("/v1/trips/{trip}/events"), last).await
    }
}

pub(crate) fn way() -> Value {
    json!({ "pickup": { "lat": 57.70, "lng": 11.97 }, "dropoff": { "lat": 57.69, "lng": 11.95 } })
}
