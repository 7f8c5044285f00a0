//! Questions to `location`: what is around a place, how long a way takes, where a driver is. A
//! question that is not answered in time is not repeated: the phone asks again.

use std::time::Duration;

use async_nats::{Request, client::RequestErrorKind};
use common::{
    contract::{self, Malformed, v1},
    geo::Point,
    id::DriverId,
    nats::Nats,
    problem::Problem,
    subject,
};
use prost::Message;

/// A quote waits this long for `location`.
const QUOTE_DEADLINE: Duration = Duration::from_secs(2);
/// A driver's position is an extra: nothing waits long for it.
const POSITION_DEADLINE: Duration = Duration::from_millis(300);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryError {
    /// Nobody answers now.
    #[error("location does not answer: {0}")]
    Unavailable(String),
    /// The answer makes no sense.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl From<QueryError> for Problem {
    fn from(err: QueryError) -> Self {
        Self::unavailable(err.to_string())
    }
}

/// Asks `location`.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    nats: Nats,
}

impl Location {
    /// Over this connection.
    #[must_use]
    pub(crate) fn new(nats: Nats) -> Self {
        Self { nats }
    }

    /// Cars and surge around a place, and whether it is served at all.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub(crate) async fn supply(&self, pickup: Point) -> Result<v1::SupplyReply, QueryError> {
        let question = v1::SupplyRequest { pickup: Some(pickup.into()) };
        self.ask(subject::QUERY_SUPPLY, &question, QUOTE_DEADLINE).await
    }

    /// The quickest way.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub(crate) async fn route(&self, from: Point, to: Point) -> Result<v1::RouteReply, QueryError> {
        let question = v1::RouteRequest { from: Some(from.into()), to: Some(to.into()) };
        self.ask(subject::QUERY_ROUTE, &question, QUOTE_DEADLINE).await
    }

    /// Where a driver is.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub(crate) async fn driver(
        &self,
        driver: DriverId,
    ) -> Result<v1::DriverPositionReply, QueryError> {
        let question = v1::DriverPositionRequest { driver_id: driver.to_vec() };
        self.ask(subject::QUERY_DRIVER, &question, POSITION_DEADLINE).await
    }

    async fn ask<A: Message + Default>(
        &self,
        subject: &'static str,
        question: &impl Message,
        deadline: Duration,
    ) -> Result<A, QueryError> {
        if !self.nats.is_connected() {
            return Err(QueryError::Unavailable("the broker is away".into()));
        }
        let request =
            Request::new().payload(question.encode_to_vec().into()).timeout(Some(deadline));
        let answer = self.nats.client.send_request(subject, request).await.map_err(|err| {
            let why = match err.kind() {
                RequestErrorKind::NoResponders => "nobody listens".to_owned(),
                RequestErrorKind::TimedOut => format!("no answer within {deadline:?}"),
                RequestErrorKind::InvalidSubject
                | RequestErrorKind::MaxPayloadExceeded
                | RequestErrorKind::Other => err.to_string(),
            };
            QueryError::Unavailable(why)
        })?;
        Ok(contract::decode(subject, &answer.payload)?)
    }
}
