//! Questions that others ask over core NATS, and their answers: who is near, which way, how scarce
//! cars are, where a driver is, how pings were counted.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_nats::{HeaderMap, Message, Subscriber};
use common::{
    clock::Timestamp,
    contract::{self, Malformed, v1},
    geo::Point,
    id::DriverId,
    nats::Nats,
    subject,
};
use futures_util::{StreamExt as _, future::join_all, stream};
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use crate::{
    checkpoint::stored_tally,
    city::{City, heading_degrees},
    domain::surge::{index_cells, neighbourhood, surge_cell},
    index::{DriverIndex as _, Near, Sighting},
    tally::Tally,
};

/// Replicas share the questions that each can answer alone.
const QUEUE_GROUP: &str = "location";
/// Questions in hand at once.
const IN_HAND_MAX: usize = 64;
/// Candidates that one question may ask for.
const LIMIT_MAX: usize = 64;
/// So many more are taken by air than are asked for by road: the nearest by air is often behind a
/// river.
const BY_AIR_FACTOR: usize = 3;
/// And never fewer than this.
const BY_AIR_LEAST: usize = 16;
/// Cars looked at for the time that a quote names.
const QUOTE_CARS: usize = 12;
/// No car is sent, and no quote counts on one, that is farther away in time.
const ETA_MAX: Duration = Duration::from_secs(1800);
/// How long a replica that does not read a driver's partition waits for the one that does.
const OTHERS_FIRST: Duration = Duration::from_millis(50);
/// What a refused question is answered with, as NATS services do.
const ERROR_HEADER: &str = "Nats-Service-Error";
const ERROR_CODE_HEADER: &str = "Nats-Service-Error-Code";

/// Answers until shutdown; those in hand are finished.
pub(crate) async fn run(
    nats: &Nats,
    city: &Arc<City>,
    radius_m: f64,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let questions = stream::select_all(subscribe(nats).await?);
    city.set_answering();
    questions
        .take_until(shutdown.cancelled_owned())
        .for_each_concurrent(IN_HAND_MAX, async |message| {
            answer(nats, city, radius_m, message).await;
        })
        .await;
    Ok(())
}

async fn subscribe(nats: &Nats) -> anyhow::Result<Vec<Subscriber>> {
    // Every replica answers these for its own partitions: of candidates the asker puts them together,
    // of a driver the first to answer knows best.
    let mut subscribers = vec![
        nats.client.subscribe(subject::QUERY_CANDIDATES).await?,
        nats.client.subscribe(subject::QUERY_DRIVER).await?,
    ];
    for subject in [subject::QUERY_ROUTE, subject::QUERY_SUPPLY, subject::QUERY_COUNTS] {
        subscribers.push(nats.client.queue_subscribe(subject, QUEUE_GROUP.to_owned()).await?);
    }
    // Whoever learns that this service is ready may ask at once.
    nats.client.flush().await?;
    Ok(subscribers)
}

async fn answer(nats: &Nats, city: &Arc<City>, radius_m: f64, message: Message) {
    let Some(reply) = message.reply else { return };
    let now = nats.clock.now();
    let subject = message.subject.to_string();
    let payload = message.payload;
    let query = Query { city: Arc::clone(city), radius_m, now };
    let answered = match subject.as_str() {
        subject::QUERY_DRIVER => {
            let driver = query.driver(&payload);
            if driver.as_ref().is_ok_and(|(partition, _)| city.is_behind(*partition, now)) {
                // Whoever reads the partition knows better, and answers first.
                tokio::time::sleep(OTHERS_FIRST).await;
            }
            driver.map(|(_, reply)| reply)
        }
        subject::QUERY_COUNTS => {
            let elsewhere = counted_elsewhere(nats, city, now).await;
            Ok(query.counts(&elsewhere))
        }
        // A search on the roads takes up to some milliseconds: not on the threads that do the I/O.
        _ => {
            let asked = subject.clone();
            tokio::task::spawn_blocking(move || query.on_roads(&asked, &payload))
                .await
                .unwrap_or_else(|err| Err(Malformed::new("query", err)))
        }
    };
    let sent = match answered {
        Ok(answer) => nats.client.publish(reply, answer.into()).await,
        Err(err) => {
            tracing::debug!(subject, error = %err, "question refused");
            let mut headers = HeaderMap::new();
            headers.insert(ERROR_CODE_HEADER, "400");
            headers.insert(ERROR_HEADER, err.to_string().replace(['\r', '\n'], " "));
            nats.client.publish_with_headers(reply, headers, bytes::Bytes::new()).await
        }
    };
    if let Err(err) = sent {
        tracing::debug!(subject, error = %err, "answer not sent");
    }
}

/// What other replicas counted of the partitions that they read, as they stored it last.
async fn counted_elsewhere(nats: &Nats, city: &City, now: Timestamp) -> HashMap<u32, Tally> {
    let others = city.partitions.all().filter(|partition| city.is_behind(*partition, now));
    let stored = others.map(async |partition| match stored_tally(nats, partition).await {
        Ok(Some((tally, _))) => Some((partition, tally)),
        Ok(None) => None,
        Err(err) => {
            tracing::debug!(partition, error = %err, "not known what others counted");
            None
        }
    });
    join_all(stored).await.into_iter().flatten().collect()
}

struct Query {
    city: Arc<City>,
    radius_m: f64,
    now: Timestamp,
}

impl Query {
    fn on_roads(&self, subject: &str, payload: &[u8]) -> Result<Vec<u8>, Malformed> {
        match subject {
            subject::QUERY_CANDIDATES => self.candidates(payload),
            subject::QUERY_ROUTE => self.route(payload),
            subject::QUERY_SUPPLY => self.supply(payload),
            other => Err(Malformed::new("query", format!("`{other}` is none"))),
        }
    }

    fn candidates(&self, payload: &[u8]) -> Result<Vec<u8>, Malformed> {
        let request: v1::CandidatesRequest = contract::decode("candidates request", payload)?;
        let pickup = contract::point("pickup", request.pickup.as_ref())?;
        let excluded: HashSet<DriverId> = request
            .excluded
            .iter()
            .map(|id| contract::id("excluded", id.as_slice()))
            .collect::<Result<_, _>>()?;
        let limit = usize::try_from(request.limit).unwrap_or(LIMIT_MAX).min(LIMIT_MAX);
        let bound = match request.eta_max_s {
            0 => ETA_MAX,
            seconds => Duration::from_secs(u64::from(seconds)).min(ETA_MAX),
        };
        let count = (limit * BY_AIR_FACTOR).max(BY_AIR_LEAST);
        let near = self.city.index.nearest(pickup, count, self.radius_m, |seen| {
            self.city.is_offerable(seen, self.now) && !excluded.contains(&seen.driver)
        });
        let mut candidates = self.by_road(pickup, &near, bound);
        candidates.truncate(limit);
        let reply = v1::CandidatesReply {
            candidates,
            read: self.read(),
            partitions: self.city.partitions.count(),
        };
        Ok(reply.encode_to_vec())
    }

    /// The partitions that this replica speaks for.
    fn read(&self) -> Vec<v1::PartitionRead> {
        let read = |partition| {
            let lag = self.city.lag(partition, self.now)?;
            let lag_ms = u32::try_from(lag.as_millis()).unwrap_or(u32::MAX);
            Some(v1::PartitionRead { partition, lag_ms })
        };
        self.city.partitions.all().filter_map(read).collect()
    }

    /// Those who reach the pickup within the bound, the first to arrive first.
    fn by_road(&self, pickup: Point, near: &[Near], bound: Duration) -> Vec<v1::Candidate> {
        let cars: Vec<(&Near, Point)> =
            near.iter().filter_map(|near| Some((near, near.sighting.position?.point()?))).collect();
        let places: Vec<Point> = cars.iter().map(|(_, place)| *place).collect();
        let etas = self.city.roads.eta_from_many(pickup, &places, bound);
        let mut candidates: Vec<v1::Candidate> = cars
            .into_iter()
            .zip(etas)
            .filter_map(|((near, place), eta)| {
                let eta = eta?;
                Some(v1::Candidate {
                    driver_id: near.sighting.driver.to_vec(),
                    position: Some(place.into()),
                    eta_s: whole(eta.seconds),
                    distance_m: whole(eta.metres),
                    idle_since_us: near.sighting.since.micros(),
                })
            })
            .collect();
        candidates.sort_by_key(|candidate| candidate.eta_s);
        candidates
    }

    fn route(&self, payload: &[u8]) -> Result<Vec<u8>, Malformed> {
        let request: v1::RouteRequest = contract::decode("route request", payload)?;
        let from = contract::point("from", request.from.as_ref())?;
        let to = contract::point("to", request.to.as_ref())?;
        let reply = match self.city.roads.route(from, to) {
            Some(route) => v1::RouteReply {
                found: true,
                duration_s: whole(route.seconds),
                distance_m: whole(route.metres),
                points: route.points.into_iter().map(v1::Point::from).collect(),
            },
            None => v1::RouteReply::default(),
        };
        Ok(reply.encode_to_vec())
    }

    fn supply(&self, payload: &[u8]) -> Result<Vec<u8>, Malformed> {
        let request: v1::SupplyRequest = contract::decode("supply request", payload)?;
        let pickup = contract::point("pickup", request.pickup.as_ref())?;
        let city = &self.city;
        if !city.roads.contains(pickup) {
            return Ok(v1::SupplyReply { surge_percent: 100, ..Default::default() }.encode_to_vec());
        }
        // A quote is no promise of a car: with several replicas, the nearest that one of them knows
        // of is near enough.
        let is_offerable = |seen: &Sighting| city.is_offerable(seen, self.now);
        let near = city.index.nearest(pickup, QUOTE_CARS, self.radius_m, is_offerable);
        let first = self.by_road(pickup, &near, ETA_MAX).into_iter().next();
        let cell = surge_cell(pickup);
        let nearby: usize = cell
            .into_iter()
            .flat_map(neighbourhood)
            .flat_map(index_cells)
            .map(|cell| city.index.count_in(cell, is_offerable))
            .sum();
        let reply = v1::SupplyReply {
            in_service_area: true,
            has_driver: first.is_some(),
            nearest_eta_s: first.map_or(0, |first| first.eta_s),
            offerable_nearby: city.among_all(nearby, self.now),
            surge_percent: cell.map_or(100, |cell| city.surge().percent(cell)),
        };
        Ok(reply.encode_to_vec())
    }

    /// What is known of a driver, and in which partition that is.
    fn driver(&self, payload: &[u8]) -> Result<(u32, Vec<u8>), Malformed> {
        let request: v1::DriverPositionRequest =
            contract::decode("driver position request", payload)?;
        let driver: DriverId = contract::id("driver id", &request.driver_id)?;
        // Pings may have been counted of which none was good enough for the index.
        let partition = self.city.partitions.ping_of(driver);
        let (counts, clock_offset_us) = self
            .city
            .reading(partition)
            .and_then(|reading| {
                reading.track(driver).map(|track| (track.counts(), track.clock_offset_us()))
            })
            .unwrap_or_default();
        let counted = v1::DriverPositionReply {
            counts: Some(counts.into()),
            clock_offset_us,
            ..v1::DriverPositionReply::default()
        };
        let reply = match self.city.index.get(driver) {
            Some(seen) => v1::DriverPositionReply {
                known: true,
                position: seen.position.and_then(|position| position.point()).map(v1::Point::from),
                heard_at_us: seen.heard_at.micros(),
                liveness: v1::Liveness::from(self.city.liveness(&seen)).into(),
                heading_deg: heading_degrees(seen.heading),
                activity: seen.activity.bits().into(),
                ..counted
            },
            None => counted,
        };
        Ok((partition, reply.encode_to_vec()))
    }

    fn counts(&self, elsewhere: &HashMap<u32, Tally>) -> Vec<u8> {
        let (counts, malformed_frames, redelivered_frames) = self.city.counts(elsewhere);
        v1::CountsReply {
            counts: Some(counts.into()),
            drivers: u64::from(self.city.index.driver_count()),
            malformed_frames,
            redelivered_frames,
        }
        .encode_to_vec()
    }
}

/// Seconds or metres, rounded up: nobody arrives earlier than said.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(value: f64) -> u32 {
    value.ceil() as u32
}
