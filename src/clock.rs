//! The only reader of time.
//!
//! Ages and TTLs are measured with [`Tick`], which counts while the machine sleeps (CLOCK_BOOTTIME): a laptop that
//! slept for a night must not serve yesterday's answers. Deadlines of I/O use tokio's `Instant`, which stands still
//! during sleep, so that nothing times out merely because the lid was closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// A moment in milliseconds since boot, sleep included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// Returns how long after `earlier` this is; zero when it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Returns the moment `after` later.
    #[must_use]
    pub fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Where ticks come from. Cloned into everything that needs the time; tests give a simulated one.
#[derive(Debug, Clone, Default)]
pub struct Clock(Source);

#[derive(Debug, Clone, Default)]
enum Source {
    #[default]
    Boot,
    Simulated {
        start: tokio::time::Instant,
        slept_ms: Arc<AtomicU64>,
    },
}

impl Clock {
    /// Makes a clock that follows tokio's (paused) time, for scenarios. Must be called inside a tokio runtime.
    #[must_use]
    pub fn simulated() -> Self {
        Self(Source::Simulated { start: tokio::time::Instant::now(), slept_ms: Arc::default() })
    }

    /// Reads the moment.
    #[must_use]
    pub fn now(&self) -> Tick {
        match &self.0 {
            Source::Boot => {
                let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
                    .expect("CLOCK_BOOTTIME exists since Linux 2.6.39");
                let ms = now.tv_sec().unsigned_abs() * 1000 + now.tv_nsec().unsigned_abs() / 1_000_000;
                Tick(ms)
            }
            // A simulated clock starts one day after boot, so that moments before its start exist.
            Source::Simulated { start, slept_ms } => {
                Tick(86_400_000 + slept_ms.load(Ordering::Relaxed)).plus(start.elapsed())
            }
        }
    }

    /// Lets a simulated machine sleep: ticks pass, tokio's time does not. Does nothing to a real clock.
    pub fn sleep_through(&self, asleep: Duration) {
        if let Source::Simulated { slept_ms, .. } = &self.0 {
            slept_ms.fetch_add(u64::try_from(asleep.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

/// Reads the wall clock, for display and file dates only.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this file is the one place that reads time")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn simulated_time_passes_while_asleep() {
        let clock = Clock::simulated();
        let start = clock.now();
        tokio::time::advance(Duration::from_secs(2)).await;
        clock.sleep_through(Duration::from_secs(3600));
        assert_eq!(clock.now().since(start), Duration::from_secs(3602));
    }

    #[test]
    fn real_ticks_never_go_back() {
        let clock = Clock::default();
        let first = clock.now();
        assert!(clock.now() >= first);
    }
}
