//! `loadgen dlq` against a trip service that runs.

use clap::Parser;
use common::{
    auth::{Issuer, Role},
    id::RiderId,
    nats::Nats,
    subject::Partitions,
    testing::{self, eventually},
};
use loadgen::dlq::{self, DlqConfig};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    dlq: DlqConfig,
}

/// What a command says, and whether it went well.
async fn says(url: &str, line: &[&str]) -> anyhow::Result<(bool, String)> {
    let mut flags = vec!["dlq", "--trip-url", url];
    flags.extend(line);
    let config = Cli::try_parse_from(flags)?.dlq;
    let mut out = Vec::new();
    let went_well = Box::pin(dlq::run(config, &mut out, CancellationToken::new())).await?;
    Ok((went_well, String::from_utf8(out)?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_are_listed_shown_replayed_and_discarded_from_a_terminal() {
    let broker = testing::broker().await;
    let nats = Nats::new(broker.client().await, Partitions::new(1).unwrap());
    let issuer = Issuer::generate(nats.clock.clone()).unwrap();
    let keys = issuer.config();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}");
    let flags = [
        "trip",
        "--nats-url",
        broker.url(),
        "--partitions",
        "1",
        "--auth-public-key",
        &keys.auth_public_key,
        "--dev-issuer-key",
        keys.dev_issuer_key.as_deref().unwrap(),
    ];
    let (config, shutdown) = (trip::Config::parse_from(flags), CancellationToken::new());
    let mut service = JoinSet::new();
    service.spawn(Box::pin(trip::serve(config, listener, shutdown.clone())));
    eventually("operations are answered", async || says(&url, &["list"]).await.is_ok()).await;
    let subject = nats.partitions.rider_event(RiderId::fresh());
    nats.jetstream.publish(subject, "rubbish".into()).await.unwrap().await.unwrap();

    let list = async |line: &[&str]| -> Vec<Value> {
        let (_, text) = says(&url, line).await.unwrap();
        serde_json::from_str::<Value>(&text).unwrap().as_array().unwrap().clone()
    };
    let letters = eventually("a letter is listed", async || {
        let letters = list(&["list", "--json", "--class", "permanent"]).await;
        (!letters.is_empty()).then_some(letters)
    })
    .await;
    let letter = letters[0]["sequence"].to_string();
    let (_, table) = says(&url, &["list"]).await.unwrap();
    assert!(table.contains("trip-request-0") && table.contains("1 letter"), "{table}");
    let (_, whole) = says(&url, &["show", &letter]).await.unwrap();
    assert!(whole.contains("payload            rubbish"), "{whole}");

    let (went_well, told) =
        says(&url, &["replay", &letter, "--reason", "perhaps now"]).await.unwrap();
    assert!(!went_well, "it is still rubbish");
    assert!(told.contains("stopped: 1 of 1 sent, 0 handled, 1 failed again"), "{told}");
    let (_, runs) = says(&url, &["runs"]).await.unwrap();
    assert!(runs.contains("perhaps now"), "{runs}");

    let refused = says(&url, &["discard", "--reason", "all of it"]).await.unwrap_err();
    assert!(refused.to_string().contains("which letters?"), "{refused}");
    let discard = ["discard", "--consumer", "trip-request", "--reason", "a stray"];
    assert_eq!(says(&url, &discard).await.unwrap(), (true, "1 discarded, 0 skipped\n".to_owned()));
    let (_, whole) = says(&url, &["show", &letter]).await.unwrap();
    assert!(whole.contains("discarded by") && whole.contains("a stray"), "{whole}");
    assert!(list(&["list", "--json", "--state", "open"]).await.is_empty());

    let ttl = std::time::Duration::from_secs(60);
    let drivers = issuer.issue(Role::Driver, Uuid::nil(), ttl).unwrap();
    let denied = says(&url, &["list", "--token", &drivers]).await.unwrap_err();
    assert!(denied.to_string().contains("403 wrong_role"), "{denied}");
    shutdown.cancel();
    service.join_next().await.unwrap().unwrap().unwrap();
}
