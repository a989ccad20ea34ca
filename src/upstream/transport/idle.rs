//! When idle connections are closed: those of one thread together, so that it wakes once for all of them. Pure.
//!
//! tokio keeps timers in wheels of 64 slots of 1, 64 and 4,096 ms, counted from when its runtime was made. What is due in half a
//! minute stands in a slot of 4,096 ms: the thread wakes when that slot begins, again when the slot of 64 ms begins, and when it
//! is due. What is due when a slot of 4,096 ms begins wakes it once. If tokio ever counted otherwise, connections would be
//! closed at the same moments, with more wake-ups.

use std::time::Duration;
use tokio::time::Instant;

/// Time between the moments at which connections are closed: the width of a slot of tokio's third wheel.
const BEAT: Duration = Duration::from_millis(64 * 64);

/// How long a connection is kept without queries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Idle {
    beats_from: Instant,
    longest: Duration,
}

impl Idle {
    /// Keeps it for `longest`, or less by the time from one beat to the next. Beats are counted from when the timers of the
    /// thread it is on began.
    pub(super) fn new(beats_from: Instant, longest: Duration) -> Self {
        Self { beats_from, longest }
    }

    /// Returns when a connection is closed that was last heard of at `heard`. Never later than `longest` after that: servers
    /// close connections that are idle for as long, each for itself, and each of those would be a wake-up.
    pub(super) fn end(&self, heard: Instant) -> Instant {
        let latest = heard + self.longest;
        let beats = latest.saturating_duration_since(self.beats_from).as_millis() / BEAT.as_millis();
        let beats = u32::try_from(beats).unwrap_or(u32::MAX);
        // A thread whose timers begin only now has no beat yet.
        Some(self.beats_from + BEAT * beats).filter(|end| *end > heard && *end <= latest).unwrap_or(latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_a_thread_are_closed_together_and_none_is_kept_for_too_long() {
        let start = Instant::now();
        let idle = Idle::new(start, Duration::from_secs(30));
        let ms = Duration::from_millis;
        // 40 s is in the tenth beat, 40.96 s begins the eleventh.
        assert_eq!(idle.end(start + ms(10_000)), start + ms(9 * 4096));
        assert_eq!(idle.end(start + ms(10_959)), start + ms(9 * 4096));
        assert_eq!(idle.end(start + ms(10_960)), start + ms(10 * 4096));
        for heard in (0..100_000).step_by(617).map(|after| start + ms(after)) {
            let kept = idle.end(heard) - heard;
            assert!(kept <= ms(30_000) && kept > ms(30_000) - BEAT, "{kept:?}");
        }
    }

    #[test]
    fn without_a_beat_in_time_the_longest_counts() {
        let start = Instant::now() + Duration::from_secs(60);
        let short = Idle::new(start, Duration::from_secs(1));
        for heard in [start - Duration::from_secs(30), start + Duration::from_millis(4096)] {
            assert_eq!(short.end(heard), heard + Duration::from_secs(1), "no beat within it");
        }
    }
}
