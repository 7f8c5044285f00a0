//! A real server as a child: it starts, crashes and comes back with its store, and ends with us.

use async_nats::jetstream::{self, stream};
use common::broker::{Broker, BrokerError, Environment, Fsync, Options};
use common::testing::{self, eventually};
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Tells the re-executed test binary where to keep its broker's store.
const HOLDER_STORE: &str = "RIDE_DISPATCH_TEST_HOLDER_STORE";

#[tokio::test]
async fn a_stream_survives_a_crash_and_the_broker_returns_on_the_same_port() {
    let mut broker = testing::broker().await;
    let js = jetstream::new(broker.client().await);
    let config = stream::Config {
        name: "TRIP".into(),
        subjects: vec!["trip.event.>".into()],
        ..stream::Config::default()
    };
    js.create_stream(config).await.unwrap();
    js.publish("trip.event.0.a", "requested".into()).await.unwrap().await.unwrap();

    let (url, pid) = (broker.url().to_owned(), broker.pid());
    broker.kill().await.unwrap();
    assert_eq!(broker.pid(), None);
    broker.restart().await.unwrap();
    assert_eq!(broker.url(), url);
    assert_ne!(broker.pid(), pid);

    let js = jetstream::new(broker.client().await);
    let stream = js.get_stream("TRIP").await.unwrap();
    let kept = stream.get_last_raw_message_by_subject("trip.event.0.a").await.unwrap();
    assert_eq!(&kept.payload[..], b"requested");
}

#[tokio::test]
async fn a_client_that_was_connected_reconnects_after_the_restart() {
    let mut broker = testing::broker().await;
    let client = broker.client().await;
    let before = client.server_info().server_id;
    broker.restart().await.unwrap();
    eventually("the client has met the new server", async || {
        client.server_info().server_id != before
    })
    .await;
}

#[tokio::test]
async fn a_broker_is_reached_over_loopback_alone_and_syncs_before_it_acknowledges() {
    let broker = testing::broker().await;
    let client = broker.url().strip_prefix("nats://127.0.0.1:").unwrap();
    let monitor = broker.monitor_url().strip_prefix("http://127.0.0.1:").unwrap();
    assert_ne!(client, monitor);

    let varz = varz(&broker).await;
    assert_eq!(varz["host"], "127.0.0.1");
    assert_eq!(varz["http_host"], "127.0.0.1");
    assert_eq!(varz["jetstream"]["config"]["sync_always"], true);
}

#[tokio::test]
async fn a_stream_that_the_disk_cannot_hold_is_refused() {
    let broker = testing::broker().await;
    let config =
        stream::Config { name: "TRIP".into(), max_bytes: i64::MAX, ..stream::Config::default() };
    let err = jetstream::new(broker.client().await).create_stream(config).await.unwrap_err();
    assert!(err.to_string().contains("insufficient storage"), "{err}");
}

#[tokio::test]
async fn stopping_is_orderly_and_leaves_the_store_to_the_next_broker() {
    let store = tempfile::tempdir().unwrap();
    let options = || Options { fsync: Fsync::BrokerDefault, ..kept_in(store.path()) };
    let broker = Broker::start(options()).await.unwrap();
    let status = broker.stop().await.unwrap();
    assert!(status.success(), "{status}");
    let again = Broker::start(options()).await.unwrap();
    again.stop().await.unwrap();
}

#[tokio::test]
async fn two_brokers_never_share_a_store() {
    let store = tempfile::tempdir().unwrap();
    let _first = Broker::start(kept_in(store.path())).await.unwrap();
    let err = Broker::start(kept_in(store.path())).await.unwrap_err();
    assert!(matches!(err, BrokerError::StoreInUse { .. }), "{err}");
}

#[tokio::test]
async fn an_end_that_nobody_asked_for_is_noticed() {
    let mut broker = testing::broker().await;
    let pid = broker.pid().unwrap().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    let status = broker.exited().await.unwrap();
    assert!(!status.success(), "{status}");
    assert_eq!(broker.pid(), None);
}

#[tokio::test]
async fn a_dropped_broker_leaves_neither_process_nor_folder() {
    let broker = testing::broker().await;
    let (pid, store) = (broker.pid().unwrap(), broker.store().to_owned());
    drop(broker);
    assert!(!store.exists());
    #[cfg(target_os = "linux")]
    assert!(!runs(pid));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_parent_that_is_killed_leaves_no_orphan() {
    if let Some(store) = std::env::var_os(HOLDER_STORE) {
        return hold_a_broker(store).await;
    }
    let store = tempfile::tempdir().unwrap();
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "broker::running::a_parent_that_is_killed_leaves_no_orphan"])
        .arg("--nocapture")
        .env(HOLDER_STORE, store.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(parent.stdout.take().unwrap());
    let pid: u32 = said
        .lines()
        .find_map(|line| line.unwrap().split_once("broker pid ")?.1.parse().ok())
        .expect("the parent says which process is its broker");
    assert!(runs(pid));

    parent.kill().unwrap();
    parent.wait().unwrap();
    eventually("the orphaned broker ends", async || !runs(pid)).await;

    // And the next start on the same store finds it free.
    Broker::start(kept_in(store.path())).await.unwrap();
}

/// What the parent process of the orphan test does: it is this binary, executed again.
#[cfg(target_os = "linux")]
async fn hold_a_broker(store: OsString) {
    let broker = Broker::start(kept_in(Path::new(&store))).await.unwrap();
    println!("broker pid {}", broker.pid().unwrap());
    // Until it is killed, or whoever started it has gone.
    std::io::stdin().lines().for_each(drop);
}

fn kept_in(store: &Path) -> Options {
    Options { store: Some(store.to_owned()), ..Options::new(Environment::of_process()) }
}

/// What the server says about itself on its monitoring port.
async fn varz(broker: &Broker) -> serde_json::Value {
    let address = broker.monitor_url().strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(b"GET /varz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// A process that has ended but was not yet collected does not run.
#[cfg(target_os = "linux")]
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z')))
}
