//! What the tests stand on: the daemon as a process, a raw DNS client, fake upstreams on real sockets.

pub(crate) mod booted;
pub(crate) mod client;
pub(crate) mod clocks;
pub(crate) mod columns;
pub(crate) mod daemon;
pub(crate) mod doq_server;
pub(crate) mod encrypted;
pub(crate) mod fake;
pub(crate) mod far;
pub(crate) mod http;
pub(crate) mod machine;
pub(crate) mod packages;
pub(crate) mod pty;
pub(crate) mod scenario;
pub(crate) mod tls_fake;

use std::time::{Duration, Instant};

/// Waits until a condition holds; fails the test after a generous bound.
pub(crate) fn eventually(what: &str, holds: impl FnMut() -> bool) {
    within(Duration::from_secs(10), what, holds);
}

/// Waits so long at most until a condition holds; fails the test when it does not.
pub(crate) fn within(bound: Duration, what: &str, holds: impl FnMut() -> bool) {
    assert!(comes_true(bound, holds), "not within {bound:?}: {what}");
}

/// Waits until a condition holds, so long at most; tells whether it did.
#[allow(clippy::disallowed_methods, reason = "real sockets, real time")]
pub(crate) fn comes_true(within: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + within;
    while !holds() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Runs something and returns how long it took.
#[allow(clippy::disallowed_methods, reason = "real sockets, real time")]
pub(crate) fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = run();
    (value, start.elapsed())
}

/// Calls `step` with 0 to `count` - 1, evenly at so many a second, as fast as it can when it is behind.
#[allow(clippy::disallowed_methods, reason = "real sockets, real time")]
pub(crate) fn paced(per_second: u32, count: u32, mut step: impl FnMut(u32)) {
    let start = Instant::now();
    for n in 0..count {
        let due = Duration::from_secs(1) * n / per_second;
        // Sleeps shorter than this are mostly overhead: a few steps are taken together.
        if let Some(early) = due.checked_sub(start.elapsed()).filter(|early| *early > Duration::from_millis(2)) {
            std::thread::sleep(early);
        }
        step(n);
    }
}
