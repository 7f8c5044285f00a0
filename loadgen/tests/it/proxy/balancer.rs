//! The balancer in front of replicas of a gateway: whom it asks, and what its clients see of faults.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{Sse, sse::Event},
    routing::get,
};
use common::testing::{eventually, http::HttpClient as Caller};
use futures_util::stream;
use loadgen::{
    chaos::proxy::{Balancer, Fault, Faults},
    client::{Ask, HttpClient},
};
use tokio::{net::TcpListener, task::JoinSet};

use super::{NEVER, SEED, always};

/// A replica of a gateway that says its name and counts how often it was asked.
#[derive(Debug, Clone, Default)]
struct Replica {
    name: &'static str,
    asked: Arc<AtomicUsize>,
    is_ready: Arc<AtomicBool>,
}

async fn name(State(replica): State<Replica>) -> &'static str {
    replica.asked.fetch_add(1, Ordering::SeqCst);
    replica.name
}

async fn ready(State(replica): State<Replica>) -> StatusCode {
    if replica.is_ready.load(Ordering::SeqCst) {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

async fn events() -> Sse<impl futures_util::Stream<Item = Result<Event, Infallible>>> {
    let events = (1..=EVENTS).map(|n| Ok(Event::default().event("n").id(n.to_string()).data("{}")));
    Sse::new(stream::iter(events))
}

const EVENTS: u64 = 50;

impl Replica {
    async fn start(name: &'static str, servers: &mut JoinSet<()>) -> (Self, SocketAddr) {
        let replica = Self { name, is_ready: Arc::new(AtomicBool::new(true)), ..Self::default() };
        let app = Router::new()
            .route("/name", get(self::name))
            .route("/readyz", get(ready))
            .route("/events", get(events))
            .with_state(replica.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        servers.spawn(async move { axum::serve(listener, app).await.unwrap() });
        (replica, address)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Asks over a connection of its own.
async fn ask(balancer: &Balancer) -> Option<String> {
    let service = balancer.url().parse().unwrap();
    let answer = HttpClient::new(0).send(&service, &Ask::get("/name"), None).await.ok()?;
    Some(String::from_utf8(answer.body.to_vec()).unwrap())
}

async fn asked(balancer: &Balancer, times: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..times {
        names.push(ask(balancer).await.unwrap());
    }
    names
}

#[tokio::test]
async fn connections_go_to_the_replicas_in_turn_and_past_those_that_are_away() {
    let mut servers = JoinSet::new();
    let (_, a) = Replica::start("a", &mut servers).await;
    let (_, b) = Replica::start("b", &mut servers).await;
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let balancer = Balancer::start(&[a, b], None, SEED).await.unwrap();
    assert_eq!(asked(&balancer, 4).await, ["a", "b", "a", "b"]);
    balancer.replicas(&[away, b]);
    assert_eq!(asked(&balancer, 3).await, ["b", "b", "b"]);
    balancer.replicas(&[away]);
    assert_eq!(ask(&balancer).await, None);
    assert_eq!(balancer.counts().total(), 0, "that nobody is there is no fault of the balancer's");
}

#[tokio::test]
async fn a_replica_that_is_not_ready_is_left_out_until_it_is() {
    let mut servers = JoinSet::new();
    let (first, a) = Replica::start("a", &mut servers).await;
    let (_, b) = Replica::start("b", &mut servers).await;
    first.is_ready.store(false, Ordering::SeqCst);
    let balancer = Balancer::start(&[a, b], Some("/readyz"), SEED).await.unwrap();
    eventually("only the other is asked", async || asked(&balancer, 4).await == ["b"; 4]).await;
    first.is_ready.store(true, Ordering::SeqCst);
    eventually("it is asked again", async || asked(&balancer, 2).await.contains(&"a".into())).await;
}

#[tokio::test]
async fn a_request_reset_on_its_way_never_reaches_the_gateway() {
    let mut servers = JoinSet::new();
    let (replica, address) = Replica::start("a", &mut servers).await;
    let balancer = Balancer::start(&[address], None, SEED).await.unwrap();
    for fault in [Fault::RequestReset, Fault::ConnectionRefused] {
        balancer.set(always(fault));
        assert_eq!(ask(&balancer).await, None);
        assert!(balancer.counts().of(fault) > 0);
    }
    assert_eq!(replica.asked(), 0);
    balancer.calm();
    assert_eq!(ask(&balancer).await.as_deref(), Some("a"));
}

#[tokio::test]
async fn an_answer_reset_on_its_way_was_given_and_its_client_cannot_know() {
    let mut servers = JoinSet::new();
    let (replica, address) = Replica::start("a", &mut servers).await;
    let balancer = Balancer::start(&[address], None, SEED).await.unwrap();
    balancer.set(always(Fault::AnswerReset));
    assert_eq!(ask(&balancer).await, None);
    assert!(replica.asked() > 0);
    assert!(balancer.counts().of(Fault::AnswerReset) > 0);
}

#[tokio::test]
async fn a_request_or_answer_that_stands_still_goes_on_when_the_balancer_calms_down() {
    let mut servers = JoinSet::new();
    let (replica, address) = Replica::start("a", &mut servers).await;
    let balancer = Balancer::start(&[address], None, SEED).await.unwrap();
    for (fault, reached) in [(Fault::RequestDelayed, 0), (Fault::AnswerStalled, 2)] {
        balancer.set(Faults {
            request_delay: NEVER..=NEVER,
            stall: NEVER..=NEVER,
            ..always(fault)
        });
        let calming = async {
            eventually(fault.name(), async || balancer.counts().of(fault) > 0).await;
            assert_eq!(replica.asked(), reached);
            balancer.calm();
        };
        assert_eq!(tokio::join!(ask(&balancer), calming).0.as_deref(), Some("a"));
    }
}

#[tokio::test]
async fn a_stream_of_events_passes_as_it_comes() {
    let mut servers = JoinSet::new();
    let (_, address) = Replica::start("a", &mut servers).await;
    let balancer = Balancer::start(&[address], Some("/readyz"), SEED).await.unwrap();
    let caller = Caller::new(&balancer.url(), String::new());
    let mut events = caller.follow("/events", None).await;
    for n in 1..=EVENTS {
        assert_eq!(events.next_named("n").await.id, Some(n));
    }
}
