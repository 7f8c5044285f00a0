//! A phone: an identity that asks with patience. Retryable answers are asked again with backoff,
//! and every promise is in the journal before the phone knows of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::clock::machine_time;
use hyper::{Method, header::HeaderValue};
use serde::Deserialize;
use serde_json::json;
use tokio::{sync::Semaphore, time::Instant};
use uuid::Uuid;

use super::{Answer, Ask, Command, HttpClient, NoAnswer, Service, Signal};
use crate::{
    journal::{Attempt, Entry, Journal, JournalBroken, Promise, essentials, fingerprint},
    pulse::Pulse,
};

/// The first wait before asking again; doubled each time.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(4);

/// Whose phone it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Asks for rides.
    Rider,
    /// Drives.
    Driver,
}

impl Role {
    /// As the token says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rider => "rider",
            Self::Driver => "driver",
        }
    }
}

/// What all phones share.
#[derive(Debug, Clone)]
pub struct PhoneContext {
    /// Shared connections.
    pub http: HttpClient,
    /// Where promises are written.
    pub journal: Journal,
    /// Where everything is counted.
    pub pulse: Arc<Pulse>,
    /// Tokens that may be asked for at once.
    pub issuing: Arc<Semaphore>,
}

/// Why a phone got no answer that it can use.
#[derive(Debug, thiserror::Error)]
pub enum GaveUp {
    /// Nothing but retryable answers, or none, for too long.
    #[error("nothing useful for {0:?}")]
    Patience(Duration),
    /// What is not written down must not be acted on.
    #[error(transparent)]
    Journal(#[from] JournalBroken),
}

/// One person's phone.
#[derive(Debug)]
pub struct Phone {
    role: Role,
    id: Uuid,
    service: Service,
    context: PhoneContext,
    token: tokio::sync::Mutex<Option<HeaderValue>>,
    signal: Signal,
}

impl Phone {
    /// A phone that has not asked for a token yet.
    #[must_use]
    pub fn new(role: Role, id: Uuid, service: Service, context: PhoneContext) -> Self {
        let token = tokio::sync::Mutex::default();
        Self { role, id, service, context, token, signal: Signal::default() }
    }

    /// The person's id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The gateway that it talks to.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Its network.
    #[must_use]
    pub fn signal(&self) -> &Signal {
        &self.signal
    }

    /// Where it counts.
    #[must_use]
    pub fn pulse(&self) -> &Pulse {
        &self.context.pulse
    }

    /// Where its promises are written.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.context.journal
    }

    pub(super) fn http(&self) -> &HttpClient {
        &self.context.http
    }

    /// Asks a question until it is answered.
    ///
    /// # Errors
    /// When nothing useful came for `patience`.
    pub async fn ask(&self, path: &str, patience: Duration) -> Result<Answer, GaveUp> {
        self.persist(&Ask::get(path), patience).await
    }

    /// Gives a command until it is answered; a promise is written down before this returns.
    ///
    /// # Errors
    /// When nothing useful came for the command's patience, or the journal is broken.
    pub async fn command(&self, command: &Command) -> Result<Answer, GaveUp> {
        let body = serde_json::to_vec(&command.body).map(Bytes::from).unwrap_or_default();
        let ask = Ask {
            method: command.method.clone(),
            path: command.path.clone(),
            key: Some(command.key.clone()),
            body,
        };
        if command.is_promise {
            self.announce(command).await?;
        }
        let answer = self.persist(&ask, command.patience).await?;
        if answer.is_success() {
            if command.is_promise {
                self.write_down(command, &answer).await?;
            }
        } else {
            let code = answer.code();
            let is_expected = command.expected.contains(&code.as_str());
            let request = format!("{} {}", command.method, without_ids(&command.path));
            self.pulse().refused(is_expected, request, answer.status, &code);
        }
        Ok(answer)
    }

    /// What nobody has begun to send must not be in the log.
    async fn announce(&self, command: &Command) -> Result<(), JournalBroken> {
        let attempt = Attempt {
            at: machine_time(),
            role: self.role.name().to_owned(),
            id: self.id,
            method: command.method.to_string(),
            path: command.path.clone(),
            key: command.key.clone(),
        };
        self.journal().append(&Entry::Attempt(attempt)).await
    }

    async fn write_down(&self, command: &Command, answer: &Answer) -> Result<(), JournalBroken> {
        let mut request = command.body.clone();
        if let Some(fields) = request.as_object_mut() {
            // A signed quote is long and says nothing that the answer does not say; a PIN is secret.
            fields.retain(|name, _| !matches!(name.as_str(), "fare_id" | "pin" | "position"));
        }
        let promise = Promise {
            at: machine_time(),
            role: self.role.name().to_owned(),
            id: self.id,
            method: command.method.to_string(),
            path: command.path.clone(),
            key: command.key.clone(),
            request,
            status: answer.status,
            replayed: answer.replayed,
            body: fingerprint(&answer.body),
            response: essentials(&answer.json()),
        };
        self.journal().append(&Entry::Command(promise)).await
    }

    async fn persist(&self, ask: &Ask, patience: Duration) -> Result<Answer, GaveUp> {
        let deadline = Instant::now() + patience;
        let mut backoff = BACKOFF_FIRST;
        loop {
            self.signal.regained().await;
            let mut wait = backoff;
            match self.try_once(ask).await {
                Ok(answer) if answer.status == 401 => self.forget_token().await,
                Ok(answer) if answer.is_retryable() => {
                    wait = backoff.max(answer.retry_after.unwrap_or_default());
                }
                Ok(answer) => return Ok(answer),
                Err(err) => {
                    tracing::debug!(%err, path = ask.path, "no answer");
                    self.pulse().unanswered.add();
                }
            }
            if Instant::now() + wait > deadline {
                return Err(GaveUp::Patience(patience));
            }
            self.pulse().retried.add();
            tokio::time::sleep(wait).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn try_once(&self, ask: &Ask) -> Result<Answer, NoAnswer> {
        let bearer = self.bearer().await?;
        self.context.http.send(&self.service, ask, Some(&bearer)).await
    }

    /// Asks once, without patience: for what is worth nothing later.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn try_ask(&self, ask: &Ask) -> Result<Answer, NoAnswer> {
        let answer = self.try_once(ask).await?;
        if answer.status == 401 {
            self.forget_token().await;
        }
        Ok(answer)
    }

    /// The phone's token; asked for when first needed.
    pub(super) async fn bearer(&self) -> Result<HeaderValue, NoAnswer> {
        let mut token = self.token.lock().await;
        if let Some(bearer) = token.as_ref() {
            return Ok(bearer.clone());
        }
        let closed = |_| NoAnswer::NotSent("stopping".to_owned());
        let _permit = self.context.issuing.acquire().await.map_err(closed)?;
        let ask = token_ask(self.role, self.id);
        let bearer = read_token(&self.context.http.send(&self.service, &ask, None).await?)?;
        *token = Some(bearer.clone());
        Ok(bearer)
    }

    /// Asks for a new token before the next request.
    pub(super) async fn forget_token(&self) {
        *self.token.lock().await = None;
    }
}

/// Asks for a token on a line of its own.
///
/// # Errors
/// When the gateway gives none.
pub async fn fetch_token(
    line: &mut super::Line,
    role: Role,
    id: Uuid,
) -> Result<HeaderValue, NoAnswer> {
    read_token(&line.send(&token_ask(role, id), None).await?)
}

fn token_ask(role: Role, id: Uuid) -> Ask {
    let body = json!({"role": role.name(), "id": id}).to_string();
    Ask { method: Method::POST, path: "/v1/dev/token".to_owned(), key: None, body: body.into() }
}

fn read_token(answer: &Answer) -> Result<HeaderValue, NoAnswer> {
    #[derive(Deserialize)]
    struct Issued {
        token: String,
    }
    let refused = || NoAnswer::NotSent(format!("no token: {} {}", answer.status, answer.code()));
    let issued: Issued = answer.parse().map_err(|_| refused())?;
    HeaderValue::from_str(&format!("Bearer {}", issued.token)).map_err(|_| refused())
}

/// A path as a report names it.
fn without_ids(path: &str) -> String {
    let (path, _query) = path.split_once('?').unwrap_or((path, ""));
    let name = |part: &str| match Uuid::parse_str(part) {
        Ok(_) => "{id}".to_owned(),
        Err(_) => part.to_owned(),
    };
    path.split('/').map(name).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::without_ids;

    #[test]
    fn a_report_names_paths_without_ids() {
        assert_eq!(
            without_ids("/v1/trips/0191c5a0-0000-7000-8000-000000000000/cancel?x=1"),
            "/v1/trips/{id}/cancel"
        );
    }
}
