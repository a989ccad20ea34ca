//! A pause: for a while names go where the default sends them, as if there were no routes.
//!
//! For who wants to know whether a route is what is wrong. Private routes stay, so that a pause leaks nothing; so do local
//! zones and the cache. It ends by itself, or with a reload, which puts in force what the files say.

use crate::clock;
use crate::config::Config;
use crate::pipeline::State;
use crate::pipeline::route::Routes;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep_until};

/// A pause under way: what is in force again after it, and when that is, in time the machine is awake.
#[derive(Debug)]
pub(super) struct Pause {
    pub(super) config: Arc<Config>,
    pub(super) routes: Arc<Routes>,
    until: Instant,
}

impl Pause {
    /// Begins one, or makes one that is under way end at another time.
    pub(super) fn begin(before: Option<Self>, state: &State, length: Duration) -> Self {
        let until = Instant::now() + length;
        match before {
            Some(before) => Self { until, ..before },
            None => Self { config: Arc::clone(&state.config), routes: Arc::clone(&state.routes), until },
        }
    }
}

/// Waits until a pause is over; without one, for ever. Cancel safe.
pub(super) async fn over(pause: Option<&Pause>) {
    match pause {
        Some(pause) => sleep_until(pause.until).await,
        None => pending().await,
    }
}

/// Returns when a pause of this length that begins at this moment ends, for display.
pub(super) fn end(length: Duration) -> SystemTime {
    clock::wall() + length
}

/// Makes the configuration of a pause: private routes only.
pub(super) fn reduced(state: &State) -> Config {
    let mut config = Config::clone(&state.config);
    let mut private = state.routes.routes().iter().map(|route| route.private);
    config.routes.retain(|_| private.next().unwrap_or(true));
    config.built_in.clear();
    config
}
