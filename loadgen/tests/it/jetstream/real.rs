//! The real server, asked on the wire: what it answers, what it delivers, what it says of its streams.

use std::{collections::VecDeque, process::Command, time::Duration};

use async_nats::{
    Client, HeaderMap, Request, Subscriber,
    jetstream::{self, AckKind, consumer::pull, stream::Config},
};
use bytes::Bytes;
use common::{
    broker::{Broker, Environment, Options},
    testing::deadline,
};
use futures_util::{FutureExt as _, StreamExt as _};
use loadgen::sim::jetstream::{ConsumerState, Ended, Place, Pull, Receipt, StreamState};
use serde_json::{Value, json};

/// Readers that the sequences use.
pub(crate) const READERS: u64 = 3;

/// What a broker answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Stored { stream: String, sequence: u64, duplicate: bool },
    Refused { code: u64, description: String },
    NoStream,
    Done,
    Purged(u64),
}

/// A stored message; its headers in order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) subject: String,
    pub(crate) sequence: u64,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) payload: Bytes,
}

/// What a reader hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Delivered {
        stream: String,
        consumer: String,
        subject: String,
        receipt: (u64, u64, u64),
        pending: u64,
        pin: Option<u64>,
    },
    Ended(Option<Ended>),
}

/// A delivery's raw parts, to answer it and to know its pin.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) heard: Heard,
    pub(crate) reply: String,
    pub(crate) pin: Option<String>,
}

pub(crate) struct Real {
    broker: Broker,
    client: Client,
    inboxes: Vec<Option<Subscriber>>,
    live: Subscriber,
}

pub(crate) fn sorted(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut sorted: Vec<(String, String)> = headers
        .iter()
        .flat_map(|(name, values)| {
            values.iter().map(move |value| (name.to_string(), value.to_string()))
        })
        .collect();
    sorted.sort();
    sorted
}

fn inbox(reader: u64) -> String {
    format!("_INBOX.reader.{reader}")
}

impl Real {
    pub(crate) async fn start() -> Self {
        Self::start_with_room(None).await
    }

    /// A broker whose streams may take so many bytes together.
    pub(crate) async fn start_with_room(max_file_bytes: Option<u64>) -> Self {
        let options = Options::new(Environment::of_process());
        let broker = Broker::start(Options { max_file_bytes, ..options }).await;
        let broker = broker.expect("a private broker");
        let (client, live) = connect(&broker).await;
        let mut real = Self { broker, client, inboxes: Vec::new(), live };
        real.open_inboxes().await;
        real
    }

    async fn open_inboxes(&mut self) {
        self.inboxes.clear();
        for reader in 0..READERS {
            self.inboxes.push(Some(self.client.subscribe(inbox(reader)).await.unwrap()));
        }
        self.client.flush().await.unwrap();
    }

    /// Ends the broker in order and starts it again, with connections of our own made anew.
    pub(crate) async fn restart(&mut self) {
        let pid = self.broker.pid().expect("a running broker").to_string();
        let told = Command::new("kill").args(["-TERM", pid.as_str()]).status().unwrap();
        assert!(told.success());
        self.broker.exited().await.unwrap();
        self.broker.restart().await.unwrap();
        (self.client, self.live) = connect(&self.broker).await;
        self.open_inboxes().await;
    }

    async fn ask(&self, subject: String, body: Value) -> Value {
        let payload: Bytes = serde_json::to_vec(&body).unwrap().into();
        let request = Request::new().payload(payload).timeout(Some(deadline::FACT));
        let answer = self.client.send_request(subject, request).await.expect("an answer");
        serde_json::from_slice(&answer.payload).expect("JSON")
    }

    pub(crate) async fn publish(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Answer {
        let mut request = Request::new().payload(payload).timeout(Some(deadline::FACT));
        if !headers.is_empty() {
            request = request.headers(headers);
        }
        let answer = match self.client.send_request(subject.to_owned(), request).await {
            Ok(answer) => answer,
            Err(err) if err.kind() == async_nats::RequestErrorKind::NoResponders => {
                return Answer::NoStream;
            }
            Err(err) => panic!("no ack for `{subject}`: {err}"),
        };
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        refusal(&answer).unwrap_or_else(|| Answer::Stored {
            stream: answer["stream"].as_str().unwrap().to_owned(),
            sequence: answer["seq"].as_u64().unwrap(),
            duplicate: answer["duplicate"].as_bool().unwrap_or(false),
        })
    }

    pub(crate) async fn create_stream(&self, config: &Config) -> Answer {
        let subject = format!("$JS.API.STREAM.CREATE.{}", config.name);
        let answer = self.ask(subject, serde_json::to_value(config).unwrap()).await;
        refusal(&answer).unwrap_or(Answer::Done)
    }

    pub(crate) async fn create_consumer(&self, stream: &str, config: pull::Config) -> Answer {
        let name = config.durable_name.clone().unwrap();
        let config = jetstream::consumer::IntoConsumerConfig::into_consumer_config(config);
        let subject = format!("$JS.API.CONSUMER.CREATE.{stream}.{name}");
        let body = json!({ "stream_name": stream, "config": config, "action": "" });
        refusal(&self.ask(subject, body).await).unwrap_or(Answer::Done)
    }

    pub(crate) async fn purge(&self, stream: &str, filter: &str) -> Answer {
        let subject = format!("$JS.API.STREAM.PURGE.{stream}");
        let answer = self.ask(subject, json!({ "filter": filter })).await;
        refusal(&answer).unwrap_or_else(|| Answer::Purged(answer["purged"].as_u64().unwrap()))
    }

    /// A direct get.
    pub(crate) async fn get(&self, stream: &str, what: Value) -> Option<Seen> {
        let request = Request::new().payload(serde_json::to_vec(&what).unwrap().into());
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let answer = self.client.send_request(subject, request).await.expect("an answer");
        if answer.status.is_some() {
            return None;
        }
        let headers = answer.headers.unwrap_or_default();
        let told = |name: &str| headers.get(name).map(|it| it.to_string()).unwrap_or_default();
        let (subject, sequence) = (told("Nats-Subject"), told("Nats-Sequence"));
        let mut stored = sorted(&headers);
        let added = ["Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"];
        stored.retain(|(name, _)| !added.contains(&name.as_str()));
        let sequence = sequence.parse().unwrap();
        Some(Seen { subject, sequence, headers: stored, payload: answer.payload })
    }

    pub(crate) async fn stream_state(&self, stream: &str) -> StreamState {
        let info = self.ask(format!("$JS.API.STREAM.INFO.{stream}"), json!({})).await;
        let of = |name: &str| info["state"][name].as_u64().unwrap_or(0);
        StreamState {
            messages: of("messages"),
            bytes: of("bytes"),
            // A stream says 0 until it had a message or was purged.
            first_sequence: of("first_seq").max(1),
            last_sequence: of("last_seq"),
            subjects: of("num_subjects"),
        }
    }

    pub(crate) async fn consumer_state(&self, stream: &str, consumer: &str) -> ConsumerState {
        let info = self.ask(format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}"), json!({})).await;
        let place = |name: &str| Place {
            consumer: info[name]["consumer_seq"].as_u64().unwrap_or(0),
            stream: info[name]["stream_seq"].as_u64().unwrap_or(0),
        };
        let of = |name: &str| info[name].as_u64().unwrap_or(0);
        let count = |name: &str| usize::try_from(of(name)).unwrap();
        ConsumerState {
            delivered: place("delivered"),
            ack_floor: place("ack_floor"),
            ack_pending: count("num_ack_pending"),
            redelivered: count("num_redelivered"),
            pending: of("num_pending"),
            waiting: count("num_waiting"),
        }
    }

    pub(crate) async fn pull(
        &mut self,
        stream: &str,
        consumer: &str,
        pull: &Pull,
        pin: Option<&str>,
    ) {
        let reader = usize::try_from(pull.reader.0).unwrap();
        if self.inboxes[reader].is_none() {
            let inbox = self.client.subscribe(inbox(pull.reader.0)).await.unwrap();
            self.inboxes[reader] = Some(inbox);
        }
        let mut body = json!({ "batch": pull.batch, "no_wait": pull.no_wait });
        if let Some(group) = &pull.group {
            body["group"] = group.as_str().into();
        }
        if let Some(pin) = pin {
            body["id"] = pin.into();
        }
        if let Some(expires) = pull.expires {
            body["expires"] = u64::try_from(expires.as_nanos()).unwrap().into();
        }
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        let body = serde_json::to_vec(&body).unwrap();
        let inbox = inbox(pull.reader.0);
        self.client.publish_with_reply(subject, inbox, body.into()).await.unwrap();
        self.client.flush().await.unwrap();
    }

    pub(crate) async fn disconnect(&mut self, reader: u64) {
        self.inboxes[usize::try_from(reader).unwrap()] = None;
        // The unsubscription is on the wire once something behind it was answered.
        self.ask("$JS.API.INFO".to_owned(), json!({})).await;
    }

    pub(crate) async fn unpin(&self, stream: &str, consumer: &str, group: &str) -> Answer {
        let subject = format!("$JS.API.CONSUMER.UNPIN.{stream}.{consumer}");
        refusal(&self.ask(subject, json!({ "group": group })).await).unwrap_or(Answer::Done)
    }

    /// Answers a delivery and waits until the server took note.
    pub(crate) async fn answer(&self, reply: &str, kind: AckKind) {
        let body: Bytes = kind.into();
        let request = Request::new().payload(body).timeout(Some(deadline::FACT));
        self.client.send_request(reply.to_owned(), request).await.expect("the answer is noted");
    }

    /// Answers several deliveries in one write.
    pub(crate) async fn answer_together(&self, answers: Vec<(String, AckKind)>) {
        for (reply, kind) in answers {
            self.client.publish(reply, kind.into()).await.unwrap();
        }
        self.client.flush().await.unwrap();
    }

    /// The next `count` messages for a reader, and whatever else is there already.
    pub(crate) async fn hear(&mut self, reader: u64, count: usize, wait: Duration) -> Vec<Raw> {
        let Some(inbox) = &mut self.inboxes[usize::try_from(reader).unwrap()] else {
            return Vec::new();
        };
        let mut raw: Vec<Raw> = next(inbox, count, wait).await.iter().map(raw).collect();
        raw.retain(|raw| raw.heard != Heard::Ended(None));
        raw
    }

    /// The next `count` republished messages, and whatever else is there already.
    pub(crate) async fn republished(&mut self, count: usize, wait: Duration) -> Vec<Seen> {
        let seen = |message: async_nats::Message| {
            let headers = message.headers.unwrap_or_default();
            let sequence = headers.get("Nats-Sequence").and_then(|it| it.as_str().parse().ok());
            let mut headers = sorted(&headers);
            headers.retain(|(name, _)| name != "Nats-Time-Stamp");
            let (subject, payload) = (message.subject.to_string(), message.payload);
            Seen { subject, sequence: sequence.unwrap_or(0), headers, payload }
        };
        next(&mut self.live, count, wait).await.into_iter().map(seen).collect()
    }
}

async fn connect(broker: &Broker) -> (Client, Subscriber) {
    let client = async_nats::connect(broker.url()).await.expect("a connection");
    let live = client.subscribe("live.>").await.unwrap();
    client.flush().await.unwrap();
    (client, live)
}

async fn next(
    subscriber: &mut Subscriber,
    count: usize,
    wait: Duration,
) -> Vec<async_nats::Message> {
    let mut messages = Vec::new();
    while messages.len() < count {
        match tokio::time::timeout(wait, subscriber.next()).await {
            Ok(Some(message)) => messages.push(message),
            Ok(None) | Err(_) => break,
        }
    }
    while let Some(Some(message)) = subscriber.next().now_or_never() {
        messages.push(message);
    }
    messages
}

fn refusal(answer: &Value) -> Option<Answer> {
    let error = answer.get("error")?;
    Some(Answer::Refused {
        code: error["err_code"].as_u64().unwrap_or(0),
        description: error["description"].as_str().unwrap_or_default().to_owned(),
    })
}

fn raw(message: &async_nats::Message) -> Raw {
    let headers = message.headers.clone().unwrap_or_default();
    let pin = headers.get("Nats-Pin-Id").map(|pin| pin.to_string());
    let reply = message.reply.as_ref().map(ToString::to_string).unwrap_or_default();
    let heard = match message.status {
        Some(status) => Heard::Ended(ended(status.as_u16(), message.description.as_deref())),
        None => delivered(&reply, message.subject.as_str()),
    };
    Raw { heard, reply, pin }
}

fn ended(status: u16, description: Option<&str>) -> Option<Ended> {
    Some(match (status, description.unwrap_or_default()) {
        (408, "Requests Pending") => Ended::OthersWait,
        (408, _) => Ended::Expired,
        (404, _) => Ended::NoMessages,
        (423, _) => Ended::WrongPin,
        (409, "Exceeded MaxWaiting") => Ended::TooMany,
        (400, _) => Ended::WrongGroup,
        (100, _) => return None,
        (status, other) => panic!("unexpected status {status} {other}"),
    })
}

/// `$JS.ACK.<stream>.<consumer>.<attempt>.<sequence>.<delivered>.<time>.<pending>`
fn delivered(reply: &str, subject: &str) -> Heard {
    let mut tokens: VecDeque<&str> = reply.split('.').collect();
    tokens.drain(..2);
    let number = |at: usize| tokens[at].parse::<u64>().expect("a number");
    Heard::Delivered {
        stream: tokens[0].to_owned(),
        consumer: tokens[1].to_owned(),
        subject: subject.to_owned(),
        receipt: (number(3), number(4), number(2)),
        pending: number(6),
        pin: None,
    }
}

pub(crate) fn receipt((sequence, delivered, attempt): (u64, u64, u64)) -> Receipt {
    Receipt { sequence, delivered, attempt }
}
