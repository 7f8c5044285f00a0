//! The dispatcher on a real broker.

mod city;

use std::time::Duration;

use async_nats::HeaderMap;
use axum::{body::Body, http::Request};
use bytes::Bytes;
use common::{
    auth::{Issuer, Role, Verifier},
    geo::Point,
    http::{Readiness, app},
    id::OfferId,
    subject::{self, Partitions},
    testing::{deadline, eventually},
};
use futures_util::StreamExt as _;
use tower::ServiceExt as _;
use uuid::Uuid;

use self::city::{Stage, answer, trip};
use super::{
    DispatchConfig, Dispatcher,
    assign::Method,
    candidates::{NoAnswer, Question, ask},
    config::PickupCap,
    http::routes,
    inspect::{Knowledge, Made, OfferReport},
};
use crate::domain::{
    OfferEnd,
    tests::given::{ANNA, BELA, CEM},
};

/// No window, hardly a pause between tries, and every try that finds nobody is a failed round.
fn at_once() -> DispatchConfig {
    let cap = PickupCap { round_ms: 0, ..PickupCap::default() };
    DispatchConfig { window_ms: 0, retry_ms: 10, cap, ..DispatchConfig::default() }
}

#[tokio::test]
async fn two_trips_and_two_drivers_are_paired_so_that_both_riders_wait_least() {
    let mut stage = Stage::set().await;
    stage.city(&[(1, &[(ANNA, 120), (BELA, 240)]), (2, &[(ANNA, 240), (BELA, 470)])]).await;
    stage.request(1).await;
    stage.request(2).await;
    let inspector = stage.dispatcher(at_once());
    let (first, second) = (stage.offered(1, 1).await[0], stage.offered(2, 1).await[0]);
    assert_eq!((first.driver, second.driver), (BELA, ANNA));
    assert_eq!((first.pickup_eta_s, first.pickup_distance_m), (240, 1_920));
    let batch = eventually("the batch is shown", async || inspector.last(1).pop()).await;
    assert_eq!((batch.chosen.eta_s, batch.greedy.eta_s, batch.method), (480, 590, Method::Optimal));
    stage.stop().await;
}

#[tokio::test]
async fn requests_of_one_window_are_matched_together() {
    let mut stage = Stage::set().await;
    stage.city(&[(1, &[(ANNA, 120), (BELA, 240)]), (2, &[(ANNA, 240), (BELA, 470)])]).await;
    let inspector = stage.dispatcher(DispatchConfig { window_ms: 1_000, ..at_once() });
    tokio::join!(stage.request(1), stage.request(2));
    stage.offered(1, 1).await;
    stage.offered(2, 1).await;
    let batches = eventually("a batch", async || Some(inspector.last(9)).filter(|b| !b.is_empty()));
    assert_eq!(batches.await[0].requests.len(), 2);
    stage.stop().await;
}

#[tokio::test]
async fn a_driver_who_declined_is_not_asked_again_for_this_trip() {
    let mut stage = Stage::set().await;
    let questions = stage.city(&[(1, &[(ANNA, 60), (BELA, 90), (CEM, 120)])]).await;
    stage.dispatcher(at_once());
    stage.request(1).await;
    let asked_first = stage.offered(1, 1).await[0];
    assert_eq!(asked_first.driver, ANNA);
    stage.close(1, asked_first.offer, OfferEnd::Declined).await;
    let asked_next = stage.offered(1, 2).await[1];
    assert_eq!(asked_next.driver, BELA);
    assert!(questions.lock().unwrap().last().unwrap().excluded.contains(&ANNA.to_vec()));
    stage.close(1, asked_next.offer, OfferEnd::Lapsed).await;
    assert_eq!(stage.offered(1, 3).await[2].driver, CEM);
    stage.stop().await;
}

#[tokio::test]
async fn a_driver_with_an_open_offer_is_not_asked_for_another_trip() {
    let mut stage = Stage::set().await;
    stage.city(&[(1, &[(ANNA, 60)]), (2, &[(ANNA, 60), (BELA, 400)])]).await;
    stage.dispatcher(at_once());
    stage.request(1).await;
    assert_eq!(stage.offered(1, 1).await[0].driver, ANNA);
    stage.request(2).await;
    assert_eq!(stage.offered(2, 1).await[0].driver, BELA);
    stage.stop().await;
}

#[tokio::test]
async fn nobody_in_reach_makes_no_offer_and_the_reach_widens_to_its_limit() {
    let mut stage = Stage::set().await;
    let questions = stage.city(&[(1, &[(ANNA, 901)]), (2, &[(BELA, 700)])]).await;
    stage.dispatcher(at_once());
    stage.request(1).await;
    let reach = || -> Vec<u32> { questions.lock().unwrap().iter().map(|q| q.eta_max_s).collect() };
    eventually("the reach is at its limit", async || reach().len() > 5).await;
    assert_eq!(reach()[..6], [480, 600, 720, 840, 900, 900]);
    stage.request(2).await;
    assert_eq!(stage.offered(2, 1).await[0].pickup_eta_s, 700);
    assert_eq!(stage.offers(1).await, []);
    stage.stop().await;
}

#[tokio::test]
async fn two_dispatchers_at_once_make_one_offer() {
    let mut stage = Stage::set().await;
    // Both have asked before either is answered, and they are told of different drivers.
    stage
        .city_that(2, |question, before| answer(question, [&[(ANNA, 60)], &[(BELA, 60)]][before]))
        .await;
    stage.request(1).await;
    let one = stage.dispatcher_that_saw_only(1).await;
    let other = stage.dispatcher_that_saw_only(1).await;
    tokio::join!(one.batch(1), other.batch(1));
    let offers = stage.offers(1).await;
    assert_eq!(offers.len(), 1);
    let mut made = [proposal(&one), proposal(&other)];
    made.sort_by_key(|proposal| proposal.outcome != Made::Offered);
    assert_eq!(made.map(|proposal| proposal.outcome), [Made::Offered, Made::Repeated]);
    assert_eq!(made.map(|proposal| proposal.offer_id), [offers[0].offer; 2]);
    assert_eq!(made[0].driver_id, offers[0].driver);
    stage.stop().await;
}

#[tokio::test]
async fn what_a_dispatcher_offered_before_it_died_another_only_repeats() {
    let mut stage = Stage::set().await;
    stage
        .city_that(1, |question, before| answer(question, [&[(ANNA, 60)], &[(BELA, 60)]][before]))
        .await;
    stage.request(1).await;
    let survivor = stage.dispatcher_that_saw_only(1).await;
    {
        let dead = stage.dispatcher_that_saw_only(1).await;
        dead.batch(1).await;
    }
    survivor.batch(1).await;
    assert_eq!(proposal(&survivor).outcome, Made::Repeated);
    let offers = stage.offers(1).await;
    assert_eq!((offers.len(), offers[0].driver), (1, ANNA));
    assert_eq!(offers[0].offer, OfferId::derived(trip(1), 1));
    let held = survivor.trips().held(survivor.now());
    assert!(!held.contains(&BELA), "who was not asked may be asked for another trip");
    stage.stop().await;
}

#[tokio::test]
async fn an_offer_that_comes_too_late_is_refused_and_its_driver_is_free() {
    let mut stage = Stage::set().await;
    stage.city(&[(1, &[(ANNA, 60)])]).await;
    stage.request(1).await;
    let late = stage.dispatcher_that_saw_only(1).await;
    stage.cancel(1).await;
    late.batch(1).await;
    assert_eq!(proposal(&late).outcome, Made::Refused);
    assert!(late.trips().held(late.now()).is_empty());
    stage.stop().await;
}

#[tokio::test]
async fn while_nobody_knows_who_is_near_no_round_fails() {
    let mut stage = Stage::set().await;
    stage.request(1).await;
    let inspector = stage.dispatcher(at_once());
    eventually("some tries", async || inspector.last(3).len() == 3).await;
    assert!(inspector.last(9).iter().all(|b| b.requests[0].knowledge == Knowledge::None));
    let questions = stage.city(&[(1, &[(ANNA, 60)])]).await;
    stage.offered(1, 1).await;
    assert_eq!(questions.lock().unwrap()[0].eta_max_s, 480);
    stage.stop().await;
}

#[tokio::test]
async fn whoever_turned_out_to_be_busy_is_not_asked_at_once_again() {
    let mut stage = Stage::set().await;
    stage.city(&[(1, &[(ANNA, 60), (BELA, 200)])]).await;
    stage.dispatcher(DispatchConfig { hold_ms: 0, ..at_once() });
    stage.request(1).await;
    let to_anna = stage.offered(1, 1).await[0];
    assert_eq!(to_anna.driver, ANNA);
    stage.close(1, to_anna.offer, OfferEnd::Busy).await;
    let to_bela = stage.offered(1, 2).await[1];
    assert_eq!(to_bela.driver, BELA);
    stage.close(1, to_bela.offer, OfferEnd::Busy).await;
    assert_eq!(stage.offered(1, 3).await[2].driver, ANNA);
    stage.stop().await;
}

#[tokio::test]
async fn an_incomplete_answer_is_better_than_none() {
    let mut stage = Stage::set().await;
    stage
        .city_that(1, |question, _| {
            let mut reply = answer(question, &[(ANNA, 60)]);
            let hers = Partitions::new(reply.partitions).unwrap().ping_of(ANNA);
            reply.read.retain(|read| read.partition == hers);
            reply
        })
        .await;
    stage.request(1).await;
    let inspector = stage.dispatcher(at_once());
    assert_eq!(stage.offered(1, 1).await[0].driver, ANNA);
    let batch = eventually("the batch is shown", async || inspector.last(1).pop()).await;
    assert_eq!(batch.requests[0].knowledge, Knowledge::Partial);
    stage.stop().await;
}

#[tokio::test]
async fn a_question_that_location_refuses_is_not_an_empty_city() {
    let stage = Stage::set().await;
    let client = &stage.nats.client;
    let mut questions = client.subscribe(subject::QUERY_CANDIDATES).await.unwrap();
    client.flush().await.unwrap();
    let refuse = async {
        let question = questions.next().await.unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Service-Error-Code", "400");
        headers.insert("Nats-Service-Error", "no such place");
        client.publish_with_headers(question.reply.unwrap(), headers, Bytes::new()).await.unwrap();
    };
    let pickup = Point::new(1.0, 11.97).unwrap();
    let question = Question { pickup, limit: 20, eta_max_s: 480, excluded: Vec::new() };
    let (asked, ()) = tokio::join!(ask(client, &question, deadline::FACT), refuse);
    assert!(matches!(asked, Err(NoAnswer::Refused(why)) if why == "no such place"));
    stage.stop().await;
}

#[tokio::test]
async fn an_event_that_cannot_be_read_does_not_stop_the_search_for_others() {
    let mut stage = Stage::set().await;
    stage.city(&[(1, &[(ANNA, 60)])]).await;
    let subject = stage.nats.partitions.trip_event(trip(9));
    let stored = stage.nats.jetstream.publish(subject, "not an event".into()).await.unwrap();
    stored.await.unwrap();
    stage.dispatcher(at_once());
    stage.request(1).await;
    stage.offered(1, 1).await;
    stage.stop().await;
}

#[tokio::test]
async fn operations_see_the_last_batch_and_nobody_else_does() {
    let mut stage = Stage::set().await;
    stage.city(&[(1, &[(ANNA, 60), (BELA, 90)])]).await;
    stage.request(1).await;
    let inspector = stage.dispatcher(at_once());
    stage.offered(1, 1).await;
    eventually("the batch is shown", async || !inspector.last(1).is_empty()).await;

    let issuer = Issuer::generate(stage.nats.clock.clone()).unwrap();
    let verifier = Verifier::new(&issuer.config(), stage.nats.clock.clone()).unwrap();
    let app = app("trip", routes(inspector, verifier), Readiness::new(|| Ok(())));
    let get = async |query: &str, role: Option<Role>| {
        let mut request = Request::get(format!("/v1/ops/matching{query}"));
        if let Some(role) = role {
            let token = issuer.issue(role, Uuid::nil(), Duration::from_secs(60)).unwrap();
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice::<serde_json::Value>(&body).unwrap())
    };
    assert_eq!(get("", None).await.0, 401);
    assert_eq!(get("", Some(Role::Driver)).await.0, 403);
    assert_eq!(get("?limit=0", Some(Role::Ops)).await.1["code"], "validation_failed");
    let (status, shown) = get("?limit=1", Some(Role::Ops)).await;
    assert_eq!(status, 200);
    let batch = &shown["batches"][0];
    assert_eq!(batch["chosen"], serde_json::json!({ "pairs": 1, "cost": 60, "eta_s": 60 }));
    let request = &batch["requests"][0];
    assert_eq!(request["trip_id"], trip(1).to_string());
    assert_eq!(request["candidates"].as_array().unwrap().len(), 2);
    assert_eq!(request["offer"]["driver_id"], ANNA.to_string());
    assert_eq!(request["offer"]["outcome"], "offered");

    let document = Request::get("/openapi.json").body(Body::empty()).unwrap();
    let document = app.clone().oneshot(document).await.unwrap();
    let document = axum::body::to_bytes(document.into_body(), usize::MAX).await.unwrap();
    let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
    let route = &document["paths"]["/v1/ops/matching"]["get"];
    assert_eq!(route["parameters"][0]["name"], "limit");
    stage.stop().await;
}

/// The only proposal of the dispatcher's only batch.
fn proposal(dispatcher: &Dispatcher) -> OfferReport {
    dispatcher.inspector.last(1)[0].requests[0].offer.unwrap()
}
