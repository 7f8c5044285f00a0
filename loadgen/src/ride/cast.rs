//! The people of the story and their phones. They know what their phones show, and nothing else.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use common::{clock::machine_time, geo::Point, id::DriverId};
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::teller::Teller;
use crate::client::{Ask, Command, Phone, PhoneContext, Role, Service};

/// How long somebody keeps trying.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long somebody waits for something to appear on the phone.
const LOOK_FOR: Duration = Duration::from_secs(40);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const PING_EVERY: Duration = Duration::from_millis(500);

/// A person with a phone.
#[derive(Debug)]
pub(super) struct Person<'a> {
    pub name: &'static str,
    phone: Arc<Phone>,
    teller: &'a Teller,
}

impl<'a> Person<'a> {
    pub(super) fn new(
        name: &'static str,
        role: Role,
        service: &Service,
        context: &PhoneContext,
        teller: &'a Teller,
    ) -> Self {
        let id = DriverId::fresh().0;
        let phone = Arc::new(Phone::new(role, id, service.clone(), context.clone()));
        Self { name, phone, teller }
    }

    pub(super) fn id(&self) -> Uuid {
        self.phone.id()
    }

    pub(super) fn says(&self, what: impl Into<String>) {
        self.teller.say(self.name, what);
    }

    /// Does something and gives the answer's JSON; anything but the wanted status is an error.
    pub(super) async fn does(
        &self,
        method: Method,
        path: &str,
        body: Value,
        wanted: u16,
    ) -> anyhow::Result<Value> {
        let command = Command { method, ..Command::post(path, body, PATIENCE) };
        self.teller.say(self.name, format!("{} {path}", command.method));
        let answer = self.phone.command(&command).await?;
        let json = answer.json();
        if answer.status != wanted {
            bail!(
                "{} {path} of {} was answered {}: {json}",
                command.method,
                self.name,
                answer.status
            );
        }
        Ok(json)
    }

    pub(super) async fn posts(
        &self,
        path: &str,
        body: Value,
        wanted: u16,
    ) -> anyhow::Result<Value> {
        self.does(Method::POST, path, body, wanted).await
    }

    pub(super) async fn asks(&self, path: &str) -> anyhow::Result<(u16, Value)> {
        let answer = self.phone.ask(path, PATIENCE).await?;
        Ok((answer.status, answer.json()))
    }

    /// Looks until the phone shows it.
    pub(super) async fn sees<T>(
        &self,
        what: &str,
        path: &str,
        look: impl Fn(&Value) -> Option<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + LOOK_FOR;
        loop {
            let (_, shown) = self.asks(path).await?;
            if let Some(found) = look(&shown) {
                return Ok(found);
            }
            if Instant::now() > deadline {
                bail!("{} never saw {what}; `{path}` shows {shown}", self.name);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// A driver: a person in a car that says where it is.
#[derive(Debug)]
pub(super) struct DriverAtWork<'a> {
    pub person: Person<'a>,
    session: Uuid,
    seq: AtomicU64,
    at: Mutex<Point>,
}

impl<'a> DriverAtWork<'a> {
    pub(super) fn new(person: Person<'a>, at: Point) -> Self {
        let session = DriverId::fresh().0;
        Self { person, session, seq: AtomicU64::new(0), at: Mutex::new(at) }
    }

    pub(super) fn moves_to(&self, to: Point) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }

    /// Sends pings until the future is dropped.
    pub(super) async fn pings(&self) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(PING_EVERY);
        loop {
            ticks.tick().await;
            self.ping().await?;
        }
    }

    async fn ping(&self) -> anyhow::Result<()> {
        let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let (seq, now) = (self.seq.fetch_add(1, Ordering::Relaxed), machine_time());
        let point = json!({"seq": seq, "ts": now, "lat": at.lat(), "lng": at.lng(), "acc": 5.0});
        let body = json!({"session_id": self.session, "sent_at": now, "points": [point]});
        let ask = Ask {
            method: Method::POST,
            path: "/v1/driver/locations".to_owned(),
            key: None,
            body: body.to_string().into(),
        };
        let tally = self.person.phone.journal().pings();
        let sending = tally.sending(1);
        let answer = self.person.phone.try_ask(&ask).await;
        sending.settled();
        match answer {
            Ok(answer) if answer.status == 202 => tally.answered(1, 0),
            Ok(answer) => bail!("a ping was answered {}: {}", answer.status, answer.json()),
            Err(err) => {
                tally.unknown(1);
                return Err(err).context("a ping");
            }
        }
        Ok(())
    }
}
