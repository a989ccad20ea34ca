//! A group of which nothing answers: since when, and when it is looked at again. Pure but for its lock.
//!
//! While it lasts, questions go on at once to what stands behind the group. One of them now and then is asked of the
//! group as well, in the background. It ends when any server of the group answers anything.

use crate::clock::Tick;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The pause before the group is looked at again, the first time; it doubles. Longer than one look takes.
const PROBE_FIRST: Duration = Duration::from_secs(2);
/// The longest such pause: half of the minute within which a group that answers again is to be in use again.
const PROBE_MAX: Duration = Duration::from_secs(30);

/// Whether a group is known to be down. Shared by all threads.
#[derive(Debug, Default)]
pub(super) struct Outage(Mutex<Option<Lasting>>);

#[derive(Debug, Clone, Copy)]
struct Lasting {
    since: Tick,
    probe_at: Tick,
    pause: Duration,
}

impl Outage {
    fn lasting(&self) -> MutexGuard<'_, Option<Lasting>> {
        // Plain numbers: whatever a panicking thread left is still usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody of the group has answered. Returns whether that is news.
    pub(super) fn begin(&self, now: Tick) -> bool {
        let mut lasting = self.lasting();
        let is_news = lasting.is_none();
        lasting.get_or_insert(Lasting { since: now, probe_at: now.plus(PROBE_FIRST), pause: PROBE_FIRST });
        is_news
    }

    /// Tells whether it lasts; `answered_since` says whether any server has answered at a time or later.
    pub(super) fn lasts(&self, answered_since: impl Fn(Tick) -> bool) -> bool {
        self.lasting().is_some_and(|lasting| !answered_since(lasting.since))
    }

    /// Ends it. Returns whether there was one.
    pub(super) fn end(&self) -> bool {
        self.lasting().take().is_some()
    }

    /// Claims a look at the group when one is due: true for one caller, then not again before the pause is over.
    pub(super) fn claim_probe(&self, now: Tick) -> bool {
        let mut lasting = self.lasting();
        let Some(lasting) = lasting.as_mut().filter(|lasting| now >= lasting.probe_at) else { return false };
        lasting.pause = (lasting.pause * 2).min(PROBE_MAX);
        lasting.probe_at = now.plus(lasting.pause);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Tick = Tick(1_000_000);

    fn later(seconds: u64) -> Tick {
        START.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn looks_at_a_group_that_is_down_grow_apart_to_half_a_minute() {
        let outage = Outage::default();
        assert!(!outage.claim_probe(START) && !outage.lasts(|_| false) && !outage.end());
        assert!(outage.begin(START));
        assert!(!outage.begin(later(1)), "it lasts already");
        let looked: Vec<u64> = (0..130).filter(|&second| outage.claim_probe(later(second))).collect();
        assert_eq!(looked, [2, 6, 14, 30, 60, 90, 120]);
    }

    #[test]
    fn any_answer_since_it_began_ends_it() {
        let outage = Outage::default();
        outage.begin(START);
        assert!(outage.lasts(|since| since < START), "answers from before do not count");
        assert!(!outage.lasts(|since| since <= later(1)));
        assert!(outage.end() && !outage.lasts(|_| false));
    }
}
