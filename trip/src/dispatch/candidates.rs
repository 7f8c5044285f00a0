//! Who is near: asks `location`, and puts the answers of its replicas together.

use std::{collections::HashMap, time::Duration};

use async_nats::{Client, StatusCode};
use common::{
    clock::Timestamp,
    contract::{self, Malformed, v1},
    geo::Point,
    id::DriverId,
    subject::{self, Partitions},
};
use futures_util::{StreamExt as _, future::BoxFuture};
use prost::Message as _;
use tokio::time::timeout;

/// How long the other replicas are waited for once one has answered: they got the question at the
/// same time.
const OTHERS_WITHIN: Duration = Duration::from_millis(50);
/// Whoever reads a partition is hardly ever farther behind: it looks every second whether there is
/// more. One that is may have lost it to another replica.
const OWNER_LAG_MS_MAX: u32 = 3_000;
/// The header of an answer that says why there is none.
const REFUSAL_HEADER: &str = "Nats-Service-Error";
/// Drivers left out of one question. More are left out when the answer is read.
const EXCLUDED_MAX: usize = 500;

/// A driver who may be asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Who.
    pub driver: DriverId,
    /// Where.
    pub position: Point,
    /// By road to the pickup.
    pub eta_s: u32,
    /// By road to the pickup.
    pub distance_m: u32,
    /// Without a ride since then.
    pub idle_since: Option<Timestamp>,
}

/// What `location` says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// Who is near.
    pub candidates: Vec<Candidate>,
    /// Every partition of drivers was looked at. When not, somebody near may be missing.
    pub is_complete: bool,
}

/// A question to `location`.
#[derive(Debug, Clone)]
pub struct Question {
    /// Near where.
    pub pickup: Point,
    /// How many.
    pub limit: u32,
    /// How far at most.
    pub eta_max_s: u32,
    /// Not these.
    pub excluded: Vec<DriverId>,
}

/// Nothing can be said about who is near.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// No `location` runs.
    #[error("nobody answers `{}`", subject::QUERY_CANDIDATES)]
    NobodyThere,
    /// It took too long.
    #[error("no answer in time")]
    TooLate,
    /// The connection failed.
    #[error("cannot ask: {0}")]
    Connection(String),
    /// The question made no sense to `location`.
    #[error("refused: {0}")]
    Refused(String),
    /// The answer is not one.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Whoever can tell who is near.
pub trait Nearby: Send + Sync {
    /// Who is near, as far as that is known `within` this time.
    fn ask<'a>(
        &'a self,
        question: &'a Question,
        within: Duration,
    ) -> BoxFuture<'a, Result<Answer, NoAnswer>>;
}

impl Nearby for Client {
    fn ask<'a>(
        &'a self,
        question: &'a Question,
        within: Duration,
    ) -> BoxFuture<'a, Result<Answer, NoAnswer>> {
        Box::pin(ask(self, question, within))
    }
}

/// Asks, and waits until every partition has answered or whoever has not will hardly any more.
///
/// # Errors
/// When there is no answer at all.
pub async fn ask(
    client: &Client,
    question: &Question,
    within: Duration,
) -> Result<Answer, NoAnswer> {
    let mut gathered = Gathered::default();
    match timeout(within, gather(client, question, &mut gathered)).await {
        Ok(Err(err)) => Err(err),
        Err(_) if gathered.best.is_empty() => Err(NoAnswer::TooLate),
        Ok(Ok(())) | Err(_) => Ok(gathered.into_answer(question)),
    }
}

async fn gather(
    client: &Client,
    question: &Question,
    gathered: &mut Gathered,
) -> Result<(), NoAnswer> {
    let connection = |err: &dyn std::fmt::Display| NoAnswer::Connection(err.to_string());
    let inbox = client.new_inbox();
    // Not `request`: that takes the first answer, and each replica has only its own partitions.
    let mut replies = client.subscribe(inbox.clone()).await.map_err(|err| connection(&err))?;
    client
        .publish_with_reply(subject::QUERY_CANDIDATES, inbox, encode(question).into())
        .await
        .map_err(|err| connection(&err))?;
    while !gathered.is_settled() {
        // One that speaks for no partition says nothing about how long the others take.
        let reply = if gathered.best.is_empty() {
            replies.next().await
        } else {
            let Ok(reply) = timeout(OTHERS_WITHIN, replies.next()).await else { return Ok(()) };
            reply
        };
        let reply = reply.ok_or_else(|| connection(&"the connection closed"))?;
        if reply.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(NoAnswer::NobodyThere);
        }
        if let Some(why) = reply.headers.as_ref().and_then(|headers| headers.get(REFUSAL_HEADER)) {
            return Err(NoAnswer::Refused(why.to_string()));
        }
        gathered.add(&contract::decode("CandidatesReply", &reply.payload)?)?;
    }
    Ok(())
}

fn encode(question: &Question) -> Vec<u8> {
    v1::CandidatesRequest {
        pickup: Some(question.pickup.into()),
        limit: question.limit,
        eta_max_s: question.eta_max_s,
        excluded: question.excluded.iter().take(EXCLUDED_MAX).map(|id| id.to_vec()).collect(),
    }
    .encode_to_vec()
}

/// The replicas' answers. Each speaks for some partitions, and of those who speak for the same one
/// the one that is least behind is believed: a replica that just lost a partition to another still
/// remembers where its drivers were.
#[derive(Debug, Default)]
struct Gathered {
    /// With each, its partition and the reply that it came in.
    candidates: Vec<(Candidate, u32, usize)>,
    /// For each partition how far behind who is believed is, and in which reply that was.
    best: HashMap<u32, (u32, usize)>,
    replies: usize,
    partitions: u32,
}

impl Gathered {
    /// Every partition was answered for.
    fn is_complete(&self) -> bool {
        let answered = u32::try_from(self.best.len()).unwrap_or(u32::MAX);
        0 < self.partitions && self.partitions <= answered
    }

    /// Nobody could know better.
    fn is_settled(&self) -> bool {
        self.is_complete() && self.best.values().all(|(lag_ms, _)| *lag_ms <= OWNER_LAG_MS_MAX)
    }

    fn add(&mut self, reply: &v1::CandidatesReply) -> Result<(), Malformed> {
        let partitions = Partitions::new(reply.partitions)
            .ok_or_else(|| Malformed::new("partitions", reply.partitions))?;
        for candidate in &reply.candidates {
            let driver = contract::id("driver_id", &candidate.driver_id)?;
            let candidate = Candidate {
                driver,
                position: contract::point("position", candidate.position.as_ref())?,
                eta_s: candidate.eta_s,
                distance_m: candidate.distance_m,
                idle_since: contract::moment(candidate.idle_since_us),
            };
            self.candidates.push((candidate, partitions.ping_of(driver), self.replies));
        }
        for read in reply.read.iter().filter(|read| read.partition < partitions.count()) {
            let heard = (read.lag_ms, self.replies);
            let best = self.best.entry(read.partition).or_insert(heard);
            *best = heard.min(*best);
        }
        self.replies += 1;
        self.partitions = self.partitions.max(partitions.count());
        Ok(())
    }

    fn into_answer(self, question: &Question) -> Answer {
        let is_complete = self.is_complete();
        let best = self.best;
        let is_believed = |partition: u32, reply: usize| {
            best.get(&partition).is_some_and(|(_, believed)| *believed == reply)
        };
        let mut candidates: Vec<Candidate> = self
            .candidates
            .into_iter()
            .filter(|(_, partition, reply)| is_believed(*partition, *reply))
            .map(|(candidate, ..)| candidate)
            .collect();
        candidates.sort_by_key(|candidate| (candidate.eta_s, candidate.driver));
        candidates.truncate(usize::try_from(question.limit).unwrap_or(usize::MAX));
        Answer { candidates, is_complete }
    }
}

#[cfg(test)]
mod tests {
    use common::{contract::v1, geo::Point, id::DriverId, subject::Partitions};
    use uuid::Uuid;

    use super::{Gathered, Question};

    const PARTITIONS: u32 = 4;

    /// The `n`th driver of a partition.
    fn driver(partition: u32, n: usize) -> DriverId {
        let partitions = Partitions::new(PARTITIONS).unwrap();
        let mut drivers = (1..).map(|n| DriverId(Uuid::from_u128(n)));
        drivers.by_ref().filter(|driver| partitions.ping_of(*driver) == partition).nth(n).unwrap()
    }

    /// One replica's answer: these drivers so many seconds away, and how far behind it is where.
    fn reply(drivers: &[(DriverId, u32)], read: &[(u32, u32)]) -> v1::CandidatesReply {
        let candidate = |(driver, eta_s): &(DriverId, u32)| v1::Candidate {
            driver_id: driver.to_vec(),
            position: Some(v1::Point { lat_e7: 577_000_000, lng_e7: 119_000_000 }),
            eta_s: *eta_s,
            ..v1::Candidate::default()
        };
        v1::CandidatesReply {
            candidates: drivers.iter().map(candidate).collect(),
            read: read
                .iter()
                .map(|(partition, lag_ms)| v1::PartitionRead {
                    partition: *partition,
                    lag_ms: *lag_ms,
                })
                .collect(),
            partitions: PARTITIONS,
        }
    }

    fn gathered(replies: &[v1::CandidatesReply]) -> Gathered {
        let mut gathered = Gathered::default();
        for reply in replies {
            gathered.add(reply).unwrap();
        }
        gathered
    }

    fn question(limit: u32) -> Question {
        let pickup = Point::new(57.7, 11.9).unwrap();
        Question { pickup, limit, eta_max_s: 480, excluded: Vec::new() }
    }

    fn answer(gathered: Gathered, limit: u32) -> (Vec<(DriverId, u32)>, bool) {
        let answer = gathered.into_answer(&question(limit));
        (answer.candidates.iter().map(|c| (c.driver, c.eta_s)).collect(), answer.is_complete)
    }

    #[test]
    fn replicas_answer_for_their_partitions_and_the_nearest_of_all_are_taken() {
        let (a, b, c) = (driver(0, 0), driver(2, 0), driver(2, 1));
        let first = reply(&[(a, 200)], &[(0, 10), (1, 400)]);
        let second = reply(&[(b, 100), (c, 300)], &[(2, 10), (3, 900)]);
        assert!(!gathered(std::slice::from_ref(&first)).is_settled());
        let both = gathered(&[first, second]);
        assert!(both.is_settled());
        assert_eq!(answer(both, 2), (vec![(b, 100), (a, 200)], true));
    }

    #[test]
    fn two_who_speak_for_the_same_partitions_do_not_make_up_for_the_others() {
        let first = reply(&[(driver(0, 0), 200)], &[(0, 10), (1, 10)]);
        let again = reply(&[], &[(0, 20), (1, 20)]);
        let gathered = gathered(&[first, again]);
        assert!(!gathered.is_settled());
        assert_eq!(answer(gathered, 9), (vec![(driver(0, 0), 200)], false));
    }

    #[test]
    fn a_replica_that_speaks_for_nothing_does_not_count() {
        let gathered = gathered(&[reply(&[(driver(0, 0), 1)], &[])]);
        assert!(gathered.best.is_empty() && !gathered.is_settled());
        assert_eq!(answer(gathered, 9), (vec![], false));
    }

    #[test]
    fn where_a_partition_changed_hands_the_one_who_reads_it_now_is_believed() {
        let (moved, gone) = (driver(1, 0), driver(1, 1));
        let all = |lag| [(0, 10), (1, lag), (2, 10), (3, 10)];
        let before = reply(&[(moved, 5), (gone, 6)], &all(9_000));
        let now = reply(&[(moved, 300)], &[(1, 20)]);
        for replies in [[before.clone(), now.clone()], [now, before.clone()]] {
            let gathered = gathered(&replies);
            assert!(gathered.is_settled());
            assert_eq!(answer(gathered, 9), (vec![(moved, 300)], true));
        }
        // Alone it is better than nothing, and others are waited for.
        let alone = gathered(&[before]);
        assert!(!alone.is_settled());
        assert_eq!(answer(alone, 9), (vec![(moved, 5), (gone, 6)], true));
    }

    #[test]
    fn an_answer_with_half_an_id_or_no_partitions_is_no_answer() {
        let mut broken = reply(&[(driver(0, 0), 200)], &[(0, 0)]);
        broken.candidates[0].driver_id.truncate(8);
        assert!(Gathered::default().add(&broken).is_err());
        let none = v1::CandidatesReply::default();
        assert!(Gathered::default().add(&none).is_err());
    }
}
