//! A disk that is full under the store: rides are refused, nothing is half-written, and once there is
//! room again everything goes on by itself.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Stdio,
};

use common::{
    leash::Leash,
    testing::{deadline, eventually, eventually_within},
};
use rider::store::{StoreError, outbox};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{
    phone::{Phone, trip_of},
    world::{SECRET, World},
};

/// The service as a process of its own, whose files can be kept from growing.
struct OwnProcess {
    base: String,
    child: Child,
    _leash: Leash,
    _folder: TempDir,
}

impl OwnProcess {
    async fn start(world: &World) -> Self {
        let folder = TempDir::new().unwrap();
        let log = folder.path().join("log");
        let (mut command, leash) = Leash::command(Path::new(env!("CARGO_BIN_EXE_rider"))).unwrap();
        let config = world.config();
        let flags = [
            ("--nats-url", config.nats.nats_url),
            ("--partitions", config.nats.partitions.to_string()),
            ("--auth-public-key", config.auth.auth_public_key),
            ("--store", world.place().to_string()),
            ("--payments-url", config.payments_url.to_string()),
            ("--fare-secret", SECRET.to_owned()),
            ("--listen", SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).to_string()),
            ("--log", "rider=info".to_owned()),
        ];
        command.args(flags.iter().flat_map(|(flag, value)| [*flag, value.as_str()]));
        command.env("NO_COLOR", "1").stderr(fs::File::create(&log).unwrap());
        let child = command.stdout(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let address = eventually("it listens", async || address_in(&log)).await;
        let base = format!("http://{address}");
        let this = Self { base, child, _leash: leash, _folder: folder };
        this.is_ready(world).await;
        this
    }

    async fn is_ready(&self, world: &World) {
        let http = Phone::new(&self.base, &world.issuer);
        let ready = async || http.get("/readyz").await.status == 200;
        eventually_within(deadline::RECOVERY, "it is ready", ready).await;
    }

    /// From now on none of its files may have more than so many bytes: what is beyond cannot be
    /// written. `unlimited` takes that back.
    async fn limit_files(&self, bytes: &str) {
        let pid = self.child.id().unwrap().to_string();
        let limit = format!("--fsize={bytes}:");
        let set = Command::new("prlimit").args(["--pid", &pid, &limit]).output().await;
        let set = set.expect("`prlimit` of util-linux");
        assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    }
}

fn address_in(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).unwrap();
    let (_, after) = text.split_once("address=")?;
    let (address, _) = after.split_once(char::is_whitespace)?;
    Some(address.to_owned())
}

#[tokio::test]
async fn while_the_disk_is_full_rides_are_refused_and_afterwards_all_goes_on_by_itself() {
    let world = World::new().await;
    let rider = OwnProcess::start(&world).await;
    let before = Phone::new(&rider.base, &world.issuer);
    let under_way = before.ride("k").await;
    let waiting = Phone::new(&rider.base, &world.issuer);
    let fare_id = waiting.quote().await;

    rider.limit_files("1").await;
    let refused = waiting.request(&fare_id, "k").await;
    assert_eq!(refused.headers["retry-after"], "1");
    let refused = refused.expect_problem(503, "unavailable");
    assert_eq!(refused.body["retryable"], true);
    let not_ready = waiting.get("/readyz").await;
    assert_eq!(not_ready.status, 503);
    // The view and the payments have work, and neither loses it nor ends the service.
    world.completed(under_way, before.rider, 2, 13_850).await;
    for _ in 0..3 {
        waiting.request(&fare_id, "k").await.expect_problem(503, "unavailable");
    }
    // What is stored can be read.
    before.get(&format!("/v1/trips/{under_way}")).await.expect(200);

    rider.limit_files("unlimited").await;
    rider.is_ready(&world).await;
    let taken_up = waiting.request(&fare_id, "k").await.expect(201);
    assert!(taken_up.headers.get("idempotent-replayed").is_none());
    let receipt = format!("/v1/trips/{under_way}/receipt");
    eventually_within(deadline::RECOVERY, "the ride under way is charged", async || {
        before.get(&receipt).await.body["charged"] == true
    })
    .await;
    assert_eq!(world.provider.lock().unwrap().charges.len(), 1);
    let asked = async || world.rider_events().await.len() == 3;
    eventually("two rides are asked for and one fare is charged", asked).await;
    waiting.get(&format!("/v1/trips/{}", trip_of(&taken_up))).await.expect(200);
    let store = rider::store::Reader::open(&world.place()).await.unwrap();
    let left = async || store.read::<_, StoreError, _>(outbox::count_waiting).await.unwrap() == 0;
    eventually("nothing is left in the outbox", left).await;
}
