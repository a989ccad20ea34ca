//! What is forgotten when the network is another one, when the machine has slept, or when its clock was set: dead servers may
//! live, connections may lead nowhere, and what was learnt about a server was learnt on another way to it.

use super::Inner;
use crate::clock::{self, Clock, SleepWatch, Tick};
use crate::config::PlaceId;
use crate::stats::Counter;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Whether the machine has slept, and who wants to know. Kept over reloads.
#[derive(Debug)]
pub(super) struct Sleeps {
    watch: SleepWatch,
    /// Slept and not told yet, in milliseconds.
    untold_ms: AtomicU64,
    told: Notify,
}

impl Sleeps {
    pub(super) fn new(clock: &Clock) -> Self {
        Self { watch: SleepWatch::new(clock), untold_ms: AtomicU64::new(0), told: Notify::new() }
    }

    /// Waits until the machine has slept, and returns for how long. Cancel safe.
    pub(super) async fn next(&self) -> Duration {
        self.told.notified().await;
        Duration::from_millis(self.untold_ms.swap(0, Ordering::Relaxed))
    }
}

impl Inner {
    /// Takes what is remembered of a network for a guess, and all else for forgotten. Counters stay.
    pub(super) fn forget_network(&self, place: PlaceId) {
        self.pool.suspect_all();
        self.sockets.renew();
        self.groups.moved_to(place, self.clock.now());
    }

    /// Looks, at a question that needs an upstream, whether the machine has slept since the last one: nobody has to wake up
    /// for that. And whether its clock was set, when certificates did not fit it. `awake` and `tick` are the present moment.
    pub(super) fn look_at_clocks(&self, awake: Instant, tick: Tick) {
        if self.pool.dates().clock_was_set(clock::wall, tick) {
            tracing::info!("the clock was set; servers whose certificates did not fit it are tried again");
            self.forget_network(self.groups.here().place());
        }
        if let Some(slept) = self.sleeps.watch.slept(awake, tick) {
            self.stats.count(Counter::Sleeps);
            self.forget_network(self.groups.here().place());
            let slept_ms = u64::try_from(slept.as_millis()).unwrap_or(u64::MAX);
            self.sleeps.untold_ms.fetch_add(slept_ms, Ordering::Relaxed);
            self.sleeps.told.notify_one();
        }
    }
}
