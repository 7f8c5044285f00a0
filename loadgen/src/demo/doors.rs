//! Where the services listen: the documented ports where they are free.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use tokio::net::TcpListener;

use super::Addresses;
use crate::client::Service;

/// The ports of the documentation: driver, rider, location, trip, payments.
const PORTS: [u16; 5] = [7001, 7002, 7003, 7004, 7005];
/// A listener for each of them.
pub(super) struct Doors {
    pub(super) driver: TcpListener,
    pub(super) rider: TcpListener,
    pub(super) location: TcpListener,
    pub(super) trip: TcpListener,
    pub(super) payments: TcpListener,
}

impl Doors {
    /// Opens the documented ports, or any free ones.
    pub(super) async fn open(fixed: bool, say: &mut dyn FnMut(&str)) -> anyhow::Result<Self> {
        let [driver, rider, location, trip, payments] =
            if fixed { PORTS } else { [0; PORTS.len()] };
        Ok(Self {
            driver: door("driver", driver, say).await?,
            rider: door("rider", rider, say).await?,
            location: door("location", location, say).await?,
            trip: door("trip", trip, say).await?,
            payments: door("payments", payments, say).await?,
        })
    }

    /// What clients are told.
    pub(super) fn addresses(&self, nats: String) -> anyhow::Result<Addresses> {
        let service = |listener: &TcpListener| -> anyhow::Result<Service> {
            Ok(format!("http://{}", listener.local_addr()?).parse()?)
        };
        Ok(Addresses {
            driver: service(&self.driver)?,
            rider: service(&self.rider)?,
            location: service(&self.location)?,
            trip: service(&self.trip)?,
            payments: service(&self.payments)?,
            nats,
        })
    }
}

async fn door(name: &str, port: u16, say: &mut dyn FnMut(&str)) -> anyhow::Result<TcpListener> {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(at(port)).await {
        Ok(listener) => Ok(listener),
        Err(err) if port != 0 => {
            let listener = TcpListener::bind(at(0)).await?;
            let instead = listener.local_addr()?.port();
            say(&format!("port {port} is not free ({err}): `{name}` listens on {instead} instead"));
            Ok(listener)
        }
        Err(err) => Err(err).context("no free port on the loopback interface"),
    }
}
