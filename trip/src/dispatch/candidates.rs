//! Who is near: asks `location`, and puts the answers of its replicas together.

use std::{collections::HashSet, time::Duration};

use async_nats::{Client, StatusCode};
use common::{
    clock::Timestamp,
    contract::{self, Malformed, v1},
    geo::Point,
    id::DriverId,
    subject,
};
use futures_util::{StreamExt as _, future::BoxFuture};
use prost::Message as _;
use tokio::time::timeout;

/// How long the other replicas are waited for once one has answered: they got the question at the
/// same time.
const OTHERS_WITHIN: Duration = Duration::from_millis(50);
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
        Err(_) if gathered.partitions == 0 => Err(NoAnswer::TooLate),
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
    while !gathered.is_complete() {
        let reply = if gathered.partitions == 0 {
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

#[derive(Debug, Default)]
struct Gathered {
    candidates: Vec<Candidate>,
    answered: u32,
    partitions: u32,
}

impl Gathered {
    fn is_complete(&self) -> bool {
        0 < self.partitions && self.partitions <= self.answered
    }

    fn add(&mut self, reply: &v1::CandidatesReply) -> Result<(), Malformed> {
        for candidate in &reply.candidates {
            self.candidates.push(Candidate {
                driver: contract::id("driver_id", &candidate.driver_id)?,
                position: contract::point("position", candidate.position.as_ref())?,
                eta_s: candidate.eta_s,
                distance_m: candidate.distance_m,
                idle_since: contract::moment(candidate.idle_since_us),
            });
        }
        self.answered = self.answered.saturating_add(reply.partitions_answered);
        self.partitions = self.partitions.max(reply.partitions).max(1);
        Ok(())
    }

    fn into_answer(mut self, question: &Question) -> Answer {
        let is_complete = self.is_complete();
        self.candidates.sort_by_key(|candidate| (candidate.eta_s, candidate.driver));
        let mut seen = HashSet::new();
        self.candidates.retain(|candidate| seen.insert(candidate.driver));
        self.candidates.truncate(usize::try_from(question.limit).unwrap_or(usize::MAX));
        Answer { candidates: self.candidates, is_complete }
    }
}

#[cfg(test)]
mod tests {
    use common::{contract::v1, geo::Point, id::DriverId};
    use uuid::Uuid;

    use super::{Gathered, Question};

    fn reply(driver: u128, eta_s: u32, answered: u32) -> v1::CandidatesReply {
        let candidate = v1::Candidate {
            driver_id: Uuid::from_u128(driver).as_bytes().to_vec(),
            position: Some(v1::Point { lat_e7: 577_000_000, lng_e7: 119_000_000 }),
            eta_s,
            ..v1::Candidate::default()
        };
        v1::CandidatesReply {
            candidates: vec![candidate],
            partitions_answered: answered,
            partitions: 16,
        }
    }

    fn question(limit: u32) -> Question {
        let pickup = Point::new(57.7, 11.9).unwrap();
        Question { pickup, limit, eta_max_s: 480, excluded: Vec::new() }
    }

    #[test]
    fn replicas_answer_for_their_partitions_and_the_nearest_of_all_are_taken() {
        let mut gathered = Gathered::default();
        gathered.add(&reply(1, 200, 10)).unwrap();
        assert!(!gathered.is_complete());
        gathered.add(&reply(2, 100, 6)).unwrap();
        assert!(gathered.is_complete());
        let answer = gathered.into_answer(&question(1));
        let drivers: Vec<_> = answer.candidates.iter().map(|c| c.driver).collect();
        assert_eq!(drivers, [DriverId(Uuid::from_u128(2))]);
        assert!(answer.is_complete);
    }

    #[test]
    fn what_came_before_the_deadline_is_used_and_known_to_be_incomplete() {
        let mut gathered = Gathered::default();
        gathered.add(&reply(1, 200, 10)).unwrap();
        let answer = gathered.into_answer(&question(20));
        assert_eq!(answer.candidates.len(), 1);
        assert!(!answer.is_complete);
    }

    #[test]
    fn an_answer_with_half_an_id_is_no_answer() {
        let mut broken = reply(1, 200, 16);
        broken.candidates[0].driver_id.truncate(8);
        assert!(Gathered::default().add(&broken).is_err());
    }
}
