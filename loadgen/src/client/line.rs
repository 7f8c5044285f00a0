//! One connection that is never shared: what the ingest load sends on. No pool, no lock.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{client::conn::http1, header, header::HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use super::{ANSWER_TIMEOUT, Answer, Ask, NoAnswer, Service};

/// A keep-alive HTTP/1.1 connection; opened when needed, opened again when broken.
#[derive(Debug)]
pub struct Line {
    service: Service,
    host: HeaderValue,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
    driver: JoinSet<()>,
}

impl Line {
    /// A line to this service, not yet opened.
    ///
    /// # Errors
    /// When the service's name cannot stand in a header.
    pub fn new(service: &Service) -> anyhow::Result<Self> {
        let host = HeaderValue::from_str(&service.authority)?;
        Ok(Self { service: service.clone(), host, sender: None, driver: JoinSet::new() })
    }

    /// Asks once, and waits for the answer.
    ///
    /// # Errors
    /// When no answer comes in [`ANSWER_TIMEOUT`]; the next request opens the line again.
    pub async fn send(
        &mut self,
        ask: &Ask,
        bearer: Option<&HeaderValue>,
    ) -> Result<Answer, NoAnswer> {
        let exchanged = tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(ask, bearer)).await;
        let answer = exchanged.unwrap_or_else(|_| Err(NoAnswer::Unknown("timed out".to_owned())));
        if answer.is_err() {
            self.sender = None;
            self.driver.abort_all();
        }
        answer
    }

    async fn exchange(
        &mut self,
        ask: &Ask,
        bearer: Option<&HeaderValue>,
    ) -> Result<Answer, NoAnswer> {
        let mut request = ask.request(ask.path.clone(), bearer)?;
        request.headers_mut().insert(header::HOST, self.host.clone());
        let mut kept = self.sender.take();
        if let Some(sender) = &mut kept
            && sender.ready().await.is_err()
        {
            // The service closed it while it was idle.
            kept = None;
        }
        let mut sender = match kept {
            Some(sender) => sender,
            None => self.open().await.map_err(|err| NoAnswer::NotSent(err.to_string()))?,
        };
        let response = sender.send_request(request).await;
        let response = response.map_err(|err| NoAnswer::Unknown(err.to_string()))?;
        let answer = Answer::read(response).await?;
        self.sender = Some(sender);
        Ok(answer)
    }

    async fn open(&mut self) -> anyhow::Result<http1::SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.service.authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        while self.driver.try_join_next().is_some() {}
        self.driver.spawn(async move {
            // The request that was under way says what went wrong.
            if let Err(err) = connection.await {
                tracing::debug!(%err, "connection ended");
            }
        });
        Ok(sender)
    }
}
