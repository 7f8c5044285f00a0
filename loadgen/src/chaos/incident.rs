//! What is done to the system: every fault is a value with a name, a beginning and an end.

use std::time::Duration;

use common::failpoint::Poison;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    clock, limits,
    poison::{self, Dose},
    proxy::Partition,
    record::Record,
    system::{Node, System},
};
use crate::payments::Faults;

/// How long a partition, a pause, an outage and so on last.
const CUT_OFF: Duration = Duration::from_secs(3);
/// Longer than the pin's time-out, so that the owner has been replaced when it wakes.
const PAUSE: Duration = Duration::from_secs(4);
const BROKER_PAUSE: Duration = Duration::from_secs(2);
const OUTAGE: Duration = Duration::from_secs(5);
const FULL: Duration = Duration::from_secs(3);
/// A replica with a wrong clock works so long before it is put right.
const WRONG_CLOCK: Duration = Duration::from_secs(4);
/// How wrong.
pub(super) const SKEW_MS: i64 = 5 * 60 * 1000;
/// How often the provider fails while it flaps; half of the failures after the money was taken.
const FLAPPING_RATE: f64 = 0.5;
const FLAPPING_LATENCY_MS: u64 = 100;

/// Which fault, without its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    ServiceKilled,
    ServiceRestarted,
    ServicePaused,
    BrokerKilled,
    BrokerRestarted,
    BrokerPaused,
    CutOffBothWays,
    CutOffToBroker,
    CutOffFromBroker,
    HalfOpen,
    ConnectionsReset,
    ClockAhead,
    ClockBehind,
    ClockJumps,
    PaymentOutage,
    PaymentFlapping,
    CommandsFull,
    RequestsFull,
    AccountFull,
    DiskFull,
    PoisonError,
    PoisonHang,
    PoisonAbort,
    PoisonHuge,
    PoisonMalformed,
}

impl Kind {
    pub(super) const ALL: [Self; 25] = [
        Self::ServiceKilled,
        Self::ServiceRestarted,
        Self::ServicePaused,
        Self::BrokerKilled,
        Self::BrokerRestarted,
        Self::BrokerPaused,
        Self::CutOffBothWays,
        Self::CutOffToBroker,
        Self::CutOffFromBroker,
        Self::HalfOpen,
        Self::ConnectionsReset,
        Self::ClockAhead,
        Self::ClockBehind,
        Self::ClockJumps,
        Self::PaymentOutage,
        Self::PaymentFlapping,
        Self::CommandsFull,
        Self::RequestsFull,
        Self::AccountFull,
        Self::DiskFull,
        Self::PoisonError,
        Self::PoisonHang,
        Self::PoisonAbort,
        Self::PoisonHuge,
        Self::PoisonMalformed,
    ];

    /// As the report has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ServiceKilled => "service killed",
            Self::ServiceRestarted => "service restarted in order",
            Self::ServicePaused => "service paused, a zombie woken",
            Self::BrokerKilled => "broker killed",
            Self::BrokerRestarted => "broker restarted in order",
            Self::BrokerPaused => "broker paused",
            Self::CutOffBothWays => "cut off, both ways",
            Self::CutOffToBroker => "cut off, to the broker",
            Self::CutOffFromBroker => "cut off, from the broker",
            Self::HalfOpen => "half-open connections",
            Self::ConnectionsReset => "all connections reset",
            Self::ClockAhead => "clock 5 min ahead",
            Self::ClockBehind => "clock 5 min behind",
            Self::ClockJumps => "clock jumps 5 min forth and back",
            Self::PaymentOutage => "payment outage",
            Self::PaymentFlapping => "payments flapping",
            Self::CommandsFull => "commands' stream full",
            Self::RequestsFull => "riders' stream full",
            Self::AccountFull => "broker's account full",
            Self::DiskFull => "disk full under the outbox",
            Self::PoisonError => "poison: error",
            Self::PoisonHang => "poison: hang",
            Self::PoisonAbort => "poison: abort",
            Self::PoisonHuge => "poison: huge",
            Self::PoisonMalformed => "poison: malformed",
        }
    }

    /// Whether one node is its target.
    pub(super) fn is_of_node(self) -> bool {
        matches!(
            self,
            Self::ServiceKilled
                | Self::ServiceRestarted
                | Self::ServicePaused
                | Self::CutOffBothWays
                | Self::CutOffToBroker
                | Self::CutOffFromBroker
                | Self::HalfOpen
                | Self::ConnectionsReset
                | Self::ClockAhead
                | Self::ClockBehind
                | Self::ClockJumps
        )
    }

    /// Whether it is a message, whose fault ends when it is given up.
    pub(super) fn is_message(self) -> bool {
        self.dose().is_some()
    }

    /// What is wrong with the message, if it is one.
    fn dose(self) -> Option<Dose> {
        match self {
            Self::PoisonError => Some(Dose::Handled(Poison::Error)),
            Self::PoisonHang => Some(Dose::Handled(Poison::Hang)),
            Self::PoisonAbort => Some(Dose::Handled(Poison::Abort)),
            Self::PoisonHuge => Some(Dose::Huge),
            Self::PoisonMalformed => Some(Dose::Malformed),
            _ => None,
        }
    }

    /// How long it lasts.
    fn lasts(self) -> Duration {
        match self {
            Self::ServicePaused => PAUSE,
            Self::BrokerPaused => BROKER_PAUSE,
            Self::CutOffBothWays
            | Self::CutOffToBroker
            | Self::CutOffFromBroker
            | Self::HalfOpen => CUT_OFF,
            Self::ClockAhead | Self::ClockBehind | Self::ClockJumps => WRONG_CLOCK,
            Self::PaymentOutage | Self::PaymentFlapping => OUTAGE,
            Self::CommandsFull | Self::RequestsFull | Self::AccountFull | Self::DiskFull => FULL,
            Self::ServiceKilled
            | Self::ServiceRestarted
            | Self::BrokerKilled
            | Self::BrokerRestarted
            | Self::ConnectionsReset
            | Self::PoisonError
            | Self::PoisonHang
            | Self::PoisonAbort
            | Self::PoisonHuge
            | Self::PoisonMalformed => Duration::ZERO,
        }
    }
}

/// One fault and its target.
#[derive(Debug, Clone, Copy)]
pub(super) struct Incident {
    pub(super) kind: Kind,
    /// The number of a node; of no meaning to a fault that has none.
    pub(super) node: usize,
}

impl Incident {
    /// From its beginning to its end. A kill has ended when it began, and so has a message as far as
    /// it is known here.
    ///
    /// # Errors
    /// When the system cannot be told.
    pub(super) async fn take_place(
        self,
        system: &System,
        record: &Record,
    ) -> anyhow::Result<Instant> {
        let began = Instant::now();
        let Some(node) = system.nodes.get(self.node) else { return Ok(began) };
        tracing::info!(kind = self.kind.name(), node = node.replica.plan.name, "fault begins");
        let was_met = self.inject(system, node, record).await?;
        let ended = match self.kind.lasts() {
            Duration::ZERO => began,
            lasts => {
                tokio::time::sleep(lasts).await;
                Instant::now()
            }
        };
        self.end(system, node).await?;
        if was_met {
            record.happened(self.kind);
        }
        Ok(ended)
    }

    /// `false`: it is there, and nobody came by.
    async fn inject(self, system: &System, node: &Node, record: &Record) -> anyhow::Result<bool> {
        match self.kind {
            Kind::ServiceKilled => node.replica.kill().await,
            Kind::ServiceRestarted => node.replica.restart().await,
            Kind::ServicePaused => node.replica.pause().await,
            Kind::BrokerKilled => system.broker.kill().await,
            Kind::BrokerRestarted => system.broker.restart().await,
            Kind::BrokerPaused => system.broker.pause().await,
            Kind::CutOffBothWays => node.proxy.partition(Partition::Both),
            Kind::CutOffToBroker => node.proxy.partition(Partition::ToBroker),
            Kind::CutOffFromBroker => node.proxy.partition(Partition::FromBroker),
            Kind::HalfOpen => node.proxy.partition(Partition::HalfOpen),
            Kind::ConnectionsReset => {
                node.proxy.reset();
                system.driver.reset();
                system.rider.reset();
            }
            Kind::ClockAhead => start_with_clock(node, SKEW_MS).await?,
            Kind::ClockBehind => start_with_clock(node, -SKEW_MS).await?,
            Kind::ClockJumps => {
                return Ok(clock::jump(node, SKEW_MS).await? && clock::jump(node, -SKEW_MS).await?);
            }
            Kind::PaymentOutage => {
                system.set_payments(Faults { outage: true, ..Faults::default() }).await?;
            }
            Kind::PaymentFlapping => {
                let faults = Faults {
                    failure_rate: FLAPPING_RATE,
                    latency_ms: FLAPPING_LATENCY_MS,
                    ..Faults::default()
                };
                system.set_payments(faults).await?;
            }
            Kind::CommandsFull => limits::fill(&system.nats, limits::COMMANDS).await?,
            Kind::RequestsFull => limits::fill(&system.nats, limits::REQUESTS).await?,
            Kind::AccountFull => system.broker.fill().await,
            Kind::DiskFull => return system.fill_disk().await,
            Kind::PoisonError
            | Kind::PoisonHang
            | Kind::PoisonAbort
            | Kind::PoisonHuge
            | Kind::PoisonMalformed => {
                if let Some(dose) = self.kind.dose() {
                    poison::publish(system, record, dose).await?;
                }
            }
        }
        Ok(true)
    }

    async fn end(self, system: &System, node: &Node) -> anyhow::Result<()> {
        match self.kind {
            Kind::ServicePaused => node.replica.resume().await,
            Kind::BrokerPaused => system.broker.resume().await,
            Kind::CutOffBothWays
            | Kind::CutOffToBroker
            | Kind::CutOffFromBroker
            | Kind::HalfOpen => node.proxy.partition(Partition::None),
            Kind::ClockAhead | Kind::ClockBehind => start_with_clock(node, 0).await?,
            Kind::ClockJumps => node.replica.skew(0)?,
            Kind::PaymentOutage | Kind::PaymentFlapping => {
                system.set_payments(Faults::default()).await?;
            }
            Kind::CommandsFull => limits::free(&system.nats, limits::COMMANDS).await?,
            Kind::RequestsFull => limits::free(&system.nats, limits::REQUESTS).await?,
            Kind::AccountFull => system.broker.free().await,
            Kind::DiskFull => system.free_disk().await?,
            Kind::ServiceKilled
            | Kind::ServiceRestarted
            | Kind::BrokerKilled
            | Kind::BrokerRestarted
            | Kind::ConnectionsReset
            | Kind::PoisonError
            | Kind::PoisonHang
            | Kind::PoisonAbort
            | Kind::PoisonHuge
            | Kind::PoisonMalformed => {}
        }
        Ok(())
    }
}

/// A process looks at the clock on the wall when it starts.
async fn start_with_clock(node: &Node, skew_ms: i64) -> anyhow::Result<()> {
    node.replica.skew(skew_ms)?;
    node.replica.kill().await;
    Ok(())
}
