//! How long things took, in buckets that are the same everywhere.
//!
//! A bucket's bound is 50 µs doubled or halved a number of times, with three bounds evenly between two such: so a
//! quantile is off by a ninth at most, and the doubled ones are what Prometheus is shown.

use std::time::Duration;

/// What the bounds are multiples of, in nanoseconds.
const BASE_NS: u64 = 50_000;
/// Halvings below it: the least bound is 0.78 µs.
const HALVINGS: usize = 6;
/// Doublings above it: the greatest bound is 6.5536 s, beyond the budget of any question.
const DOUBLINGS: usize = 17;
/// Bounds from one doubling to the next.
const PER_DOUBLING: usize = 4;
/// Bounds in all.
const BOUNDS: usize = (HALVINGS + DOUBLINGS) * PER_DOUBLING + 1;
/// Buckets: one below each bound and one for the rest.
pub(super) const BUCKETS: usize = BOUNDS + 1;

/// The bounds, inclusive, in nanoseconds, ascending.
static BOUNDS_NS: [u64; BOUNDS] = bounds();

const fn bounds() -> [u64; BOUNDS] {
    let mut bounds = [0; BOUNDS];
    let mut at = 0;
    while at < BOUNDS {
        let doubled = BASE_NS << (at / PER_DOUBLING);
        bounds[at] = (doubled + doubled / PER_DOUBLING as u64 * (at % PER_DOUBLING) as u64) >> HALVINGS;
        at += 1;
    }
    bounds
}

/// Returns the bucket that a time belongs to.
pub(super) fn bucket_of(ns: u64) -> usize {
    BOUNDS_NS.partition_point(|bound| *bound < ns)
}

/// Returns a time in nanoseconds; 584 years are the most.
pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Times that things took: how many in each bucket, all of them together, the longest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    pub(super) buckets: [u64; BUCKETS],
    pub(super) sum_ns: u64,
    pub(super) max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum_ns: 0, max_ns: 0 }
    }
}

impl Histogram {
    /// Takes note of one time.
    pub fn record(&mut self, time: Duration) {
        let ns = nanoseconds(time);
        self.buckets[bucket_of(ns)] += 1;
        self.sum_ns = self.sum_ns.saturating_add(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Adds another's times to these.
    pub fn merge(&mut self, other: &Self) {
        for (cell, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *cell += more;
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// Counts the times.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns all times together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// Returns the longest time.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }

    /// Returns the time that this share (0 to 1) of all took at most, to a ninth; zero when there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let count = self.count();
        let mut left = share.clamp(0.0, 1.0) * as_f64(count);
        for (at, &here) in self.buckets.iter().enumerate().filter(|(_, here)| **here > 0) {
            if left <= as_f64(here) {
                let low = at.checked_sub(1).map_or(0, |below| BOUNDS_NS[below]);
                let high = BOUNDS_NS.get(at).copied().unwrap_or(self.max_ns).min(self.max_ns).max(low);
                let inside = as_f64(high - low) * (left / as_f64(here)).clamp(0.0, 1.0);
                return Duration::from_nanos(low) + Duration::from_secs_f64(inside / 1e9);
            }
            left -= as_f64(here);
        }
        self.max()
    }

    /// Lists the bounds that are 50 µs doubled a number of times, each with how many times were at most so long.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let shown = (HALVINGS..=HALVINGS + DOUBLINGS).map(|octave| octave * PER_DOUBLING);
        let (mut below, mut next) = (0, 0);
        shown.map(move |at| {
            below += self.buckets[next..=at].iter().sum::<u64>();
            next = at + 1;
            (Duration::from_nanos(BOUNDS_NS[at]), below)
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "beyond 2^53 events a share is as good")]
fn as_f64(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_ascend_and_the_doubled_ones_are_round() {
        assert!(BOUNDS_NS.is_sorted_by(|a, b| a < b));
        let histogram = Histogram::default();
        let shown: Vec<Duration> = histogram.cumulative().map(|(bound, _)| bound).collect();
        assert_eq!((shown.len(), shown[0], shown[1]), (18, Duration::from_micros(50), Duration::from_micros(100)));
        assert_eq!(shown[17], Duration::from_nanos(6_553_600_000));
    }

    #[test]
    fn a_bound_is_inclusive_and_nothing_is_lost_beyond_the_last() {
        let mut histogram = Histogram::default();
        for time in [Duration::ZERO, Duration::from_micros(50), Duration::from_nanos(50_001), Duration::MAX] {
            histogram.record(time);
        }
        assert_eq!(histogram.cumulative().next().unwrap().1, 2);
        assert_eq!(histogram.cumulative().last().unwrap().1, 3);
        assert_eq!(histogram.count(), 4);
    }

    #[test]
    fn quantiles_are_right_to_a_ninth() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        for us in 1..=100_000 {
            histogram.record(Duration::from_micros(us));
        }
        for (share, expected) in [(0.5, 50_000.0), (0.9, 90_000.0), (0.99, 99_000.0), (0.001, 100.0)] {
            let found = histogram.quantile(share).as_secs_f64() * 1e6;
            assert!((found / expected - 1.0).abs() < 1.0 / 9.0, "{share}: {found}");
        }
        assert_eq!(histogram.quantile(1.0), Duration::from_millis(100));
    }

    #[test]
    fn merged_histograms_are_as_one() {
        let (mut one, mut other, mut all) = (Histogram::default(), Histogram::default(), Histogram::default());
        for us in [1, 70, 3000, 20_000_000] {
            one.record(Duration::from_micros(us));
            other.record(Duration::from_micros(us * 3));
            all.record(Duration::from_micros(us));
            all.record(Duration::from_micros(us * 3));
        }
        one.merge(&other);
        assert_eq!(one, all);
    }
}
