//! The simulated JetStream answers like the real nats-server: random operations, done to both.

mod episodes;
mod operation;
mod pair;
mod real;
mod settings;
mod shrink;

use std::{env, str::FromStr, time::Instant};

use async_nats::HeaderMap;
use common::testing::deadline;
use operation::Operation;
use pair::Pair;
use rand::{SeedableRng as _, rngs::ChaCha8Rng};

/// How many operations are compared; `JETSTREAM_OPERATIONS` asks for more.
const OPERATIONS: usize = 2_100;
/// A fresh pair of brokers after so many.
const OPERATIONS_OF_A_SEED: usize = 300;
const FIRST_SEED: u64 = 1;

fn setting<T: FromStr>(name: &str) -> Option<T> {
    env::var(name).ok().and_then(|text| text.parse().ok())
}

fn sequence(seed: u64, length: usize) -> Vec<Operation> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..length).map(|_| operation::random(&mut rng, true)).collect()
}

/// `JETSTREAM_SEED` tries one seed alone.
#[tokio::test]
async fn random_operations_are_answered_as_the_real_server_answers_them() {
    let total = setting("JETSTREAM_OPERATIONS").unwrap_or(OPERATIONS);
    let length = total.min(OPERATIONS_OF_A_SEED);
    let count = u64::try_from(total.div_ceil(length)).expect("a number of seeds");
    let first = setting("JETSTREAM_SEED");
    let seeds = match first {
        Some(seed) => seed..seed + 1,
        None => FIRST_SEED..FIRST_SEED + count,
    };
    let (started, mut compared) = (Instant::now(), 0);
    for seed in seeds {
        let operations = sequence(seed, length);
        if let Err((at, difference)) = shrink::run(&operations, deadline::FACT).await {
            let (cut, difference) = shrink::minimal(&operations[..=at], difference).await;
            panic!(
                "seed {seed}, operation {at}: {}\nafter {} operations:\n{cut:#?}",
                difference.0,
                cut.len()
            );
        }
        compared += operations.len();
        println!("seed {seed}: {compared} operations compared in {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn the_systems_own_streams_are_taken_by_both() {
    use common::stream::{CONSUMERS, streams};
    let pair = Pair::start(deadline::FACT).await;
    assert!(pair.is_ok(), "{:?}", pair.err());
    let real = real::Real::start().await;
    let partitions = common::subject::Partitions::default();
    for config in streams(partitions) {
        assert_eq!(real.create_stream(&config).await, real::Answer::Done);
    }
    for spec in CONSUMERS {
        for partition in spec.partitions(partitions) {
            let made = real.create_consumer(spec.stream, spec.config(partition)).await;
            assert_eq!(made, real::Answer::Done);
        }
    }
}

#[tokio::test]
async fn a_full_account_is_noticed_one_message_late_and_refuses_alike() {
    let room = 20_480;
    let mut pair = Pair::with_room(deadline::FACT, room).await.expect("equal");
    for _ in 0..40 {
        pair.send("e.event.a", HeaderMap::new(), 980).await.expect("equal");
    }
    let held = pair.held("EVENTS");
    assert!(room < held && held < room + 1_200, "{held}");
    pair.apply(&Operation::Purge(("EVENTS", "e.event.>"))).await.expect("equal");
    pair.send("e.event.a", HeaderMap::new(), 980).await.expect("equal");
    assert!(pair.held("EVENTS") < room);
}
