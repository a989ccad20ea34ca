//! The only reader of time.
//!
//! Ages and TTLs are measured with [`Tick`], which counts while the machine sleeps (CLOCK_BOOTTIME): a laptop that
//! slept for a night must not serve yesterday's answers. Deadlines of I/O use tokio's `Instant`, which stands still
//! during sleep, so that nothing times out merely because the lid was closed.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// A difference between the clocks smaller than this is no sleep but a thread that had to wait between two readings, or a
/// nap that no network notices.
const MIN_SLEEP: Duration = Duration::from_secs(2);

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
        start: Instant,
        slept_ms: Arc<AtomicU64>,
    },
}

impl Clock {
    /// Makes a clock that follows tokio's (paused) time, for scenarios. Must be called inside a tokio runtime.
    #[must_use]
    pub fn simulated() -> Self {
        Self(Source::Simulated { start: Instant::now(), slept_ms: Arc::default() })
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

/// Notices that the machine has slept: ticks count that time, tokio's clock does not. Needs no timer: whoever has just read
/// both clocks asks.
#[derive(Debug)]
pub struct SleepWatch {
    awake: Instant,
    tick: Tick,
    /// How far the clocks have come apart since then, in milliseconds.
    known_ms: AtomicU64,
}

impl SleepWatch {
    /// Begins to watch.
    #[must_use]
    pub fn new(clock: &Clock) -> Self {
        Self { awake: Instant::now(), tick: clock.now(), known_ms: AtomicU64::new(0) }
    }

    /// Returns how long the machine has slept since this was last called, when it has. `awake` and `tick` are the present
    /// moment. Told to one caller only.
    pub fn slept(&self, awake: Instant, tick: Tick) -> Option<Duration> {
        let apart = tick.since(self.tick).saturating_sub(awake.saturating_duration_since(self.awake));
        let apart_ms = u64::try_from(apart.as_millis()).unwrap_or(u64::MAX);
        let known_ms = self.known_ms.load(Ordering::Relaxed);
        let slept = Duration::from_millis(apart_ms.saturating_sub(known_ms));
        // A wait between the two readings makes the difference too large, never too small: the smaller one is the true one.
        if slept < MIN_SLEEP && apart_ms >= known_ms {
            return None;
        }
        let is_first = self.known_ms.compare_exchange(known_ms, apart_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        Some(slept).filter(|slept| is_first && *slept >= MIN_SLEEP)
    }
}

thread_local! {
    /// See [`timers_begin`].
    static TIMERS_BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Says when the runtime of this thread was made, from which its timers are counted: taken before that, by less than a
/// millisecond.
pub fn timers_begin(at: Instant) {
    TIMERS_BEGAN.set(Some(at));
}

/// Returns when the timers of this thread began; where nobody has said so, when somebody first asked.
#[must_use]
pub fn timers_began() -> Instant {
    let began = TIMERS_BEGAN.get().unwrap_or_else(Instant::now);
    TIMERS_BEGAN.set(Some(began));
    began
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

    #[tokio::test(start_paused = true)]
    async fn a_sleep_is_told_once_and_a_slow_reading_is_none() {
        let clock = Clock::simulated();
        let watch = SleepWatch::new(&clock);
        let slept = || watch.slept(Instant::now(), clock.now());
        tokio::time::advance(Duration::from_secs(3600)).await;
        clock.sleep_through(Duration::from_millis(1900));
        assert_eq!(slept(), None);
        clock.sleep_through(Duration::from_millis(200));
        assert_eq!(slept(), Some(Duration::from_millis(2100)));
        assert_eq!(slept(), None);
        clock.sleep_through(Duration::from_secs(8 * 3600));
        assert_eq!(slept(), Some(Duration::from_secs(8 * 3600)));
        // A thread that had to wait between its two readings takes that for sleep; the next reading sets it right.
        let early = Instant::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(watch.slept(early, clock.now()), Some(Duration::from_secs(5)));
        assert_eq!(slept(), None);
        clock.sleep_through(Duration::from_secs(3));
        assert_eq!(slept(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn real_ticks_never_go_back() {
        let clock = Clock::default();
        let first = clock.now();
        assert!(clock.now() >= first);
    }
}
