//! The part of a driver's app that says where the car is: every few seconds, buffered while there
//! is no network, repeated while there is no answer.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use tokio::time::{Instant, MissedTickBehavior};

use super::{motion::Car, town::Town};
use crate::{
    client::{Answer, Ask, NoAnswer, Phone},
    pings::{
        Ping, Walker,
        fleet::{count_answer, ping_ask},
    },
};

/// What a gateway takes in one POST.
const BATCH_MAX: usize = 100;
/// Share of the batches that an app sends twice, as after an answer that it did not see.
const REPEATED_SHARE: f64 = 0.01;

/// A car and its app's memory, shared by the driver's two hands.
#[derive(Debug)]
pub(super) struct Tracker {
    phone: Arc<Phone>,
    town: Arc<Town>,
    skew_us: i64,
    car: Mutex<Car>,
    app: Mutex<App>,
}

#[derive(Debug)]
struct App {
    walker: Walker,
    unsent: VecDeque<Ping>,
}

impl App {
    fn started(phone: &Phone, skew_us: i64) -> Self {
        Self { walker: Walker::new(phone.id(), skew_us), unsent: VecDeque::new() }
    }
}

impl Tracker {
    pub(super) fn new(phone: Arc<Phone>, town: Arc<Town>, car: Car, skew_us: i64) -> Self {
        let app = Mutex::new(App::started(&phone, skew_us));
        Self { phone, town, skew_us, car: Mutex::new(car), app }
    }

    /// The car, to look at or to drive.
    pub(super) fn car<T>(&self, with: impl FnOnce(&mut Car, Duration) -> T) -> T {
        let mut car = self.car.lock().unwrap_or_else(PoisonError::into_inner);
        with(&mut car, self.town.epoch.elapsed())
    }

    /// The app died: what it had not sent is gone, and the next session begins.
    pub(super) fn restart(&self) {
        *self.app.lock().unwrap_or_else(PoisonError::into_inner) =
            App::started(&self.phone, self.skew_us);
    }

    /// Tracks for ever.
    pub(super) async fn run(&self, dice: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(dice);
        let first = Instant::now() + self.town.ping_every.mul_f64(rng.random());
        let mut ticks = tokio::time::interval_at(first, self.town.ping_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.remember(&mut rng);
            if self.phone.signal().is_there() {
                self.send(&mut rng).await;
            }
        }
    }

    fn remember(&self, rng: &mut ChaCha8Rng) {
        self.car(|car, now| {
            let mut app = self.app.lock().unwrap_or_else(PoisonError::into_inner);
            let ping = app.walker.ping(car, now, Duration::ZERO, rng);
            if app.unsent.len() == BATCH_MAX {
                app.unsent.pop_front();
            }
            app.unsent.push_back(ping);
        });
    }

    async fn send(&self, rng: &mut ChaCha8Rng) {
        let (body, points) = {
            let mut app = self.app.lock().unwrap_or_else(PoisonError::into_inner);
            let points: Vec<Ping> = app.unsent.drain(..).collect();
            (app.walker.body(&points), points)
        };
        let ask = ping_ask(body);
        let mut answer = self.post(&ask, points.len()).await;
        if answer.is_ok() && rng.random_bool(REPEATED_SHARE) {
            self.phone.pulse().batches_repeated.add();
            self.count(&answer, &points);
            answer = self.post(&ask, points.len()).await;
        }
        self.count(&answer, &points);
        if is_worth_repeating(&answer) {
            self.phone.pulse().retried.add();
            self.keep(points);
        }
    }

    async fn post(&self, ask: &Ask, points: usize) -> Result<Answer, NoAnswer> {
        let sending = self.phone.journal().pings().sending(points as u64);
        let answer = self.phone.try_ask(ask).await;
        sending.settled();
        answer
    }

    /// Counts what became of points. What surely did not arrive, or was not taken for now, is not
    /// counted: it will be sent again.
    fn count(&self, answer: &Result<Answer, NoAnswer>, points: &[Ping]) {
        if !is_worth_repeating(answer) || matches!(answer, Err(NoAnswer::Unknown(_))) {
            let (journal, pulse) = (self.phone.journal(), self.phone.pulse());
            count_answer(answer, points.len() as u64, journal, pulse);
        }
    }

    /// Puts points back that have to be sent again, before those that came since.
    fn keep(&self, points: Vec<Ping>) {
        let mut app = self.app.lock().unwrap_or_else(PoisonError::into_inner);
        let room = BATCH_MAX.saturating_sub(app.unsent.len());
        let kept = points.len().saturating_sub(room);
        points.into_iter().skip(kept).rev().for_each(|point| app.unsent.push_front(point));
    }
}

fn is_worth_repeating(answer: &Result<Answer, NoAnswer>) -> bool {
    answer.as_ref().map_or(true, |answer| answer.status == 401 || answer.is_retryable())
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
    use common::clock::Timestamp;
    use serde_json::{Value, json};
    use tokio::{
        net::TcpListener,
        sync::{Notify, Semaphore},
        task::JoinSet,
        time::Instant,
    };
    use uuid::Uuid;

    use super::Tracker;
    use crate::{
        city::{
            motion::Car,
            streets::tests::gothenburg,
            town::{Kerb, Town},
        },
        client::{HttpClient, Phone, PhoneContext, Role},
        journal::Journal,
        pulse::Pulse,
    };

    #[derive(Clone, Default)]
    struct Gateway {
        posts: Arc<Mutex<Vec<Value>>>,
        posted: Arc<Notify>,
    }

    async fn locations(
        State(gateway): State<Gateway>,
        body: Json<Value>,
    ) -> (StatusCode, Json<Value>) {
        let count = body["points"].as_array().map_or(0, Vec::len);
        let mut posts = gateway.posts.lock().unwrap();
        posts.push(body.0);
        gateway.posted.notify_one();
        // The first POST finds the gateway busy.
        if posts.len() == 1 {
            let problem = json!({"code": "overloaded", "retryable": true});
            return (StatusCode::SERVICE_UNAVAILABLE, Json(problem));
        }
        (StatusCode::ACCEPTED, Json(json!({"accepted": count, "rejected": []})))
    }

    #[tokio::test]
    async fn points_of_a_dead_spot_come_in_one_batch_with_their_true_times() {
        let gateway = Gateway::default();
        let app = Router::new()
            .route("/v1/dev/token", post(|| async { Json(json!({"token": "t"})) }))
            .route("/v1/driver/locations", post(locations))
            .with_state(gateway.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.unwrap() });
        let folder = tempfile::tempdir().unwrap();
        let (journal, writer) = Journal::create(&folder.path().join("journal.jsonl")).unwrap();
        let context = PhoneContext {
            http: HttpClient::new(1),
            journal,
            pulse: Arc::new(Pulse::default()),
            issuing: Arc::new(Semaphore::new(1)),
        };
        let town = Arc::new(Town {
            streets: gothenburg(1.0),
            context: context.clone(),
            driver_service: url.parse().unwrap(),
            rider_service: url.parse().unwrap(),
            run: Uuid::nil(),
            seed: 1,
            epoch: Instant::now(),
            time_scale: 1.0,
            ping_every: Duration::from_millis(10),
            kerb: Kerb::default(),
        });
        let service = town.driver_service.clone();
        let phone = Arc::new(Phone::new(Role::Driver, Uuid::from_u128(1), service, context));
        let start = town.streets.draw_place(&mut rand::rng());
        let tracker = Arc::new(Tracker::new(Arc::clone(&phone), town, Car::parked(start), 0));
        phone.signal().lose_until(Instant::now() + Duration::from_millis(300));
        let mut tracking = JoinSet::new();
        tracking.spawn(async move { tracker.run(1).await });
        gateway.posted.notified().await;
        gateway.posted.notified().await;
        tracking.shutdown().await;
        writer.finish().unwrap();

        let posts = gateway.posts.lock().unwrap();
        let seqs = |post: &Value| -> Vec<u64> {
            post["points"].as_array().unwrap().iter().map(|p| p["seq"].as_u64().unwrap()).collect()
        };
        let (first, second) = (seqs(&posts[0]), seqs(&posts[1]));
        assert!(first.len() > 5, "{first:?}");
        // What the busy gateway did not take comes again, with what came since.
        assert!(second.starts_with(&first), "{first:?} {second:?}");
        let times: Vec<Timestamp> = posts[0]["points"]
            .as_array()
            .unwrap()
            .iter()
            .map(|point| point["ts"].as_str().unwrap().parse().unwrap())
            .collect();
        let spread = times.last().unwrap().since(times[0]);
        assert!(spread >= Duration::from_millis(50), "{spread:?}");
    }
}
