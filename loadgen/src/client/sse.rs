//! Server-sent events: the text form, and a feed that reconnects where it left off.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use http_body_util::BodyExt;
use hyper::{body::Incoming, header, header::HeaderValue};
use tokio::time::Instant;

use super::{Ask, NoAnswer, Phone};

/// The gateways send a comment every 10 s; a feed that is silent for longer is dead.
const SILENCE_MAX: Duration = Duration::from_secs(25);
/// Between two tries to open a feed.
const REOPEN_AFTER: Duration = Duration::from_secs(1);
/// An event that does not end within this is none.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SseEvent {
    /// Its position in the stream, if it has one.
    pub id: Option<String>,
    /// Its kind; `message` where none is named.
    pub event: String,
    /// Its lines, joined.
    pub data: String,
}

/// Takes bytes as they come and gives the events that they complete.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    event: SseEvent,
    has_data: bool,
}

impl SseParser {
    /// Takes some bytes; completed events are appended to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut VecDeque<SseEvent>) {
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    self.end_line(&String::from_utf8_lossy(&line), out);
                }
                b'\r' => {}
                _ if self.line.len() < EVENT_BYTES_MAX => self.line.push(*byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self, line: &str, out: &mut VecDeque<SseEvent>) {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if std::mem::take(&mut self.has_data) {
                out.push_back(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.event.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event.event),
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                self.has_data = true;
            }
            // A comment (an empty field), `retry`, or what we do not know.
            _ => {}
        }
    }
}

/// The gateway does not serve this feed, and asking again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("feed refused with {status} `{code}`")]
pub struct FeedEnded {
    /// HTTP status.
    pub status: u16,
    /// The problem's code.
    pub code: String,
}

/// A feed of events that opens itself again, after the last event that it has seen.
#[derive(Debug)]
pub struct Feed {
    phone: Arc<Phone>,
    path: String,
    body: Option<Incoming>,
    parser: SseParser,
    ready: VecDeque<SseEvent>,
    last_id: Option<String>,
    heard_at: Instant,
    open_at: Instant,
    has_been_open: bool,
}

impl Feed {
    /// A feed at this path, not yet opened.
    #[must_use]
    pub fn new(phone: Arc<Phone>, path: impl Into<String>) -> Self {
        Self {
            phone,
            path: path.into(),
            body: None,
            parser: SseParser::default(),
            ready: VecDeque::new(),
            last_id: None,
            heard_at: Instant::now(),
            open_at: Instant::now(),
            has_been_open: false,
        }
    }

    /// Drops the connection, as a lost network does.
    pub fn disconnect(&mut self) {
        self.body = None;
        self.parser = SseParser::default();
    }

    /// The next event. May be cancelled at any time without losing one.
    ///
    /// # Errors
    /// When the gateway refuses the feed.
    pub async fn next(&mut self) -> Result<SseEvent, FeedEnded> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                if event.id.is_some() {
                    self.last_id.clone_from(&event.id);
                }
                return Ok(event);
            }
            let Some(body) = &mut self.body else {
                self.open().await?;
                continue;
            };
            let frame = tokio::time::timeout_at(self.heard_at + SILENCE_MAX, body.frame()).await;
            match frame {
                Ok(Some(Ok(frame))) => {
                    self.heard_at = Instant::now();
                    if let Some(bytes) = frame.data_ref() {
                        self.parser.push(bytes, &mut self.ready);
                    }
                }
                Ok(None | Some(Err(_))) | Err(_) => {
                    self.disconnect();
                    self.open_at = Instant::now() + REOPEN_AFTER;
                }
            }
        }
    }

    async fn open(&mut self) -> Result<(), FeedEnded> {
        tokio::time::sleep_until(self.open_at).await;
        self.phone.signal().regained().await;
        match self.connect().await {
            Ok(response) if response.status().is_success() => {
                if std::mem::replace(&mut self.has_been_open, true) {
                    self.phone.pulse().reconnected.add();
                }
                self.heard_at = Instant::now();
                self.body = Some(response.into_body());
                return Ok(());
            }
            Ok(response) => {
                let answer = super::Answer::read(response).await;
                if let Ok(answer) = answer {
                    match answer.status {
                        401 => self.phone.forget_token().await,
                        status if answer.is_retryable() || status >= 500 => {}
                        status => return Err(FeedEnded { status, code: answer.code() }),
                    }
                }
            }
            Err(err) => tracing::debug!(%err, "feed not opened"),
        }
        self.open_at = Instant::now() + REOPEN_AFTER;
        Ok(())
    }

    async fn connect(&self) -> Result<hyper::Response<Incoming>, NoAnswer> {
        let bearer = self.phone.bearer().await?;
        let uri = format!("{}{}", self.phone.service(), self.path);
        let mut request = Ask::get(self.path.clone()).request(uri, Some(&bearer))?;
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(id) = self.last_id.as_ref().and_then(|id| HeaderValue::from_str(id).ok()) {
            headers.insert("last-event-id", id);
        }
        self.phone.http().open(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::{SseEvent, SseParser};
    use std::collections::VecDeque;

    fn parse(chunks: &[&str]) -> Vec<SseEvent> {
        let (mut parser, mut events) = (SseParser::default(), VecDeque::new());
        chunks.iter().for_each(|chunk| parser.push(chunk.as_bytes(), &mut events));
        events.into()
    }

    #[test]
    fn an_event_may_come_in_pieces_between_heartbeats() {
        let events = parse(&[
            "retry: 2000\n\n: heart",
            "beat\n\nevent: trip\nid: 1",
            "7\ndata: {\"a\":\n",
            "data: 1}\r\n",
            "\n",
        ]);
        let wanted =
            SseEvent { id: Some("17".into()), event: "trip".into(), data: "{\"a\":\n1}".into() };
        assert_eq!(events, [wanted]);
    }

    #[test]
    fn a_field_needs_no_space_and_an_event_needs_data() {
        let events = parse(&["event:position\n\nevent:position\ndata:{}\n\n"]);
        assert_eq!(events, [SseEvent { id: None, event: "position".into(), data: "{}".into() }]);
    }

    #[test]
    fn a_half_event_is_not_given_out() {
        assert_eq!(parse(&["event: trip\ndata: {}\n"]), []);
    }
}
