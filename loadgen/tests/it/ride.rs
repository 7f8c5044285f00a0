//! One ride end to end over HTTP, as `loadgen ride` tells it.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use loadgen::ride::{self, RideConfig};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_ride_is_told_from_the_request_to_the_receipt_and_nothing_is_amiss() {
    let page = Page::default();
    let config = RideConfig { seed: 3, events_only: false };
    let told = ride::run(&config, Box::new(page.clone()), CancellationToken::new());
    let examined = Box::pin(told).await.unwrap();
    let text = page.text();
    let mut from = 0;
    for step in [
        "rider.ride_requested",
        "trip.requested",
        "trip.offered",
        "driver.offer ",
        "driver.offered",
        "driver.offer_declined",
        "trip.offer_closed",
        "trip.offered",
        "driver.offer_accepted",
        "trip.assigned",
        "trip.arrived",
        "trip.pin_refused",
        "trip.started",
        "trip.completed",
        "driver.release ",
        "driver.released",
    ] {
        let found = text[from..].find(step);
        from += found.unwrap_or_else(|| panic!("no `{step}` after byte {from} of\n{text}"));
    }
    for also in ["timer set", "purges the timer", "rider.fare_charged", "trip.rated", "receipt"] {
        assert!(text.contains(also), "no `{also}` in\n{text}");
    }
    assert_eq!(examined.verdict.violations, []);
    assert_eq!(examined.unsettled, None);
    let tallies = examined.verdict.tallies;
    assert_eq!((tallies.completed, tallies.charges, tallies.open), (1, 1, 0));
}
