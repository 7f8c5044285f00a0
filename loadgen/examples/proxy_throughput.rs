//! What the proxy before the broker costs: messages a second through it and without it, and the
//! processor time of its thread alone. `cargo run -p loadgen --example proxy_throughput`
#![allow(clippy::print_stdout, reason = "prints its figures")]

use std::{net::SocketAddr, sync::mpsc, thread, time::Instant};

use anyhow::Context as _;
use common::broker::{Broker, Environment, Options};
use futures_util::StreamExt as _;
use loadgen::chaos::proxy::{Fault, Faults, Proxy, Rates};
use tokio::{runtime, sync::oneshot};

const MESSAGES: usize = 100_000;
const PAYLOAD_BYTES: usize = 400;
/// Looked up among all streams in vain, which is the most expensive kind.
const SUBJECT: &str = "live.trip.event.7.a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let broker = Broker::start(Options::new(Environment::of_process())).await?;
    let address: SocketAddr = broker.url().trim_start_matches("nats://").parse()?;
    // Frames that are looked at and hit by chance, though hardly ever.
    let looked_at = Rates::each(&Fault::ALL, 1e-12);
    let (started, address_of) = mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = thread::spawn(move || -> anyhow::Result<u64> {
        runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            let proxy = Proxy::start(address, 1).await?;
            proxy.set(Faults::new(looked_at));
            started.send(proxy.url())?;
            stopped.await?;
            cpu_ns()
        })
    });
    let through = address_of.recv().context("the proxy did not start")?;
    for (name, url) in [("direct", broker.url()), ("through the proxy", through.as_str())] {
        let seconds = carry(url).await?;
        // Each message passes twice: published, and delivered.
        let frames = 2.0 * f64::from(u32::try_from(MESSAGES)?) / seconds;
        println!("{name}: {frames:.0} frames/s");
    }
    if stop.send(()).is_err() {
        anyhow::bail!("the proxy is gone");
    }
    let cpu_ns = thread.join().map_err(|_| anyhow::anyhow!("the proxy panicked"))??;
    let frames = u64::try_from(2 * MESSAGES)?;
    println!("the proxy's thread: {} ns of processor time a frame", cpu_ns / frames);
    Ok(())
}

/// Publishes and receives all messages over one connection.
async fn carry(url: &str) -> anyhow::Result<f64> {
    let client = async_nats::connect(url).await?;
    let messages = client.subscribe(SUBJECT).await?;
    client.flush().await?;
    let began = Instant::now();
    let payload = bytes::Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    let publishing = async {
        for _ in 0..MESSAGES {
            client.publish(SUBJECT, payload.clone()).await?;
        }
        client.flush().await?;
        anyhow::Ok(())
    };
    let receiving = messages.take(MESSAGES).count();
    let (published, received) = tokio::join!(publishing, receiving);
    published?;
    anyhow::ensure!(received == MESSAGES, "{received} of {MESSAGES} messages came");
    Ok(began.elapsed().as_secs_f64())
}

/// What this thread has used so far.
fn cpu_ns() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().context("no figure")?.parse()?)
}
