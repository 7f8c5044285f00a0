//! Whoever breaks things: every now and then one of the mishaps that the seed allows, and later its
//! end.

use std::{sync::Arc, time::Duration};

use common::id::DriverId;
use uuid::Uuid;

use super::{faults::Mishap, system::World};

/// Room that is left in a full account.
const FULL: u64 = 0;

/// Breaks things until there are to be no more faults.
pub async fn run(world: Arc<World>) {
    loop {
        let mean = Duration::from_millis(world.options.mishap_every_ms);
        world.sim.sleep(world.sim.between(mean / 4, mean * 2)).await;
        if !world.has_faults() {
            return;
        }
        if let Some(mishap) = world.sim.one_of(&world.options.mishaps).copied() {
            world.seen(format!("mishap: {mishap:?}"));
            happen(&world, mishap);
        }
    }
}

fn happen(world: &Arc<World>, mishap: Mishap) {
    let some = |least: u64, most: u64| {
        world.sim.between(Duration::from_millis(least), Duration::from_millis(most))
    };
    let hosts = world.hosts();
    let Some(host) = world.sim.one_of(&hosts).copied() else { return };
    let here = Arc::clone(world);
    match mishap {
        Mishap::Crash => {
            world.kill(host);
            world.sim.after(some(100, 5_000), move || here.start(host));
        }
        Mishap::Pause => {
            world.sim.tell(format!("{} stands still", world.name(host)));
            world.sim.pause(host);
            world.sim.after(some(300, 40_000), move || {
                here.sim.tell(format!("{} goes on", here.name(host)));
                here.sim.resume(host);
            });
        }
        Mishap::Cut => {
            world.sim.tell(format!("{} is cut off", world.name(host)));
            world.cut(host, true);
            world.sim.after(some(300, 10_000), move || here.cut(host, false));
        }
        Mishap::BrokerCrash => {
            world.switch_broker(false);
            world.sim.after(some(100, 4_000), move || here.switch_broker(true));
        }
        Mishap::FullAccount => {
            world.sim.tell("the account is full");
            world.with_broker(|broker| broker.set_max_file_bytes(Some(FULL)));
            world.sim.after(some(1_000, world.options.full_max_ms), move || {
                here.sim.tell("the account has room");
                here.with_broker(|broker| broker.set_max_file_bytes(None));
            });
        }
        Mishap::ProviderOutage => {
            world.with_book(|book| book.is_away = true);
            world.sim.after(some(500, 30_000), move || here.with_book(|book| book.is_away = false));
        }
        Mishap::Silence => {
            let number = world.sim.pick(0..world.options.drivers);
            let driver = DriverId(Uuid::from_u128(0xd000 + u128::from(number)));
            let time =
                if world.sim.happens(0.04) { some(305_000, 400_000) } else { some(9_000, 40_000) };
            world.sim.tell(format!(
                "the phone of driver …{} is silent",
                crate::audit::sentence::short(driver)
            ));
            world.silence(driver, world.sim.now().plus(time));
        }
    }
}

/// Ends everything that is still broken.
pub fn heal(world: &Arc<World>) {
    world.heal();
    world.with_book(|book| book.is_away = false);
    world.with_broker(|broker| broker.set_max_file_bytes(None));
    for host in world.hosts() {
        world.cut(host, false);
        world.sim.resume(host);
        world.start(host);
    }
    world.sim.tell("no more faults");
}
