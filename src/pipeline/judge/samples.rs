//! Names that nobody guards, looked at now and then where `guard = "sample"` says so: who lies about one name of a network lies
//! about others. Behind the answer, so that nothing is changed or delayed.

use super::parties::Parties;
use super::{HoldOn, Judgement, Policy, judge};
use crate::clock::Tick;
use crate::pipeline::guard::Compare;
use crate::pipeline::guard::evidence::Probe;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The shortest time between two ordinary answers that are looked at: 360 in an hour, of which a busy machine asks thousands.
const PAUSE: Duration = Duration::from_secs(10);
/// The same for answers that look wrong by themselves.
const PAUSE_WHEN_WRONG: Duration = Duration::from_secs(1);

/// When a sample was last taken.
#[derive(Debug, Default)]
pub(super) struct Samples(Mutex<Option<Tick>>);

impl Samples {
    /// Tells whether it may be time for a sample, if it looks wrong.
    pub(super) fn may_be_due(&self, now: Tick) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|last| now.since(last) >= PAUSE_WHEN_WRONG)
    }

    /// Takes a sample if the last one is long enough ago. `looks_wrong` is asked only when that decides.
    pub(super) fn take(&self, looks_wrong: impl FnOnce() -> bool, now: Tick) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = last.map_or(PAUSE, |last| now.since(last));
        let is_due = since >= PAUSE || since >= PAUSE_WHEN_WRONG && looks_wrong();
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

/// Tells whether what came looks wrong without anything to hold it against.
pub(super) fn looks_wrong(parties: &Parties, policy: &Policy) -> bool {
    let careful = Policy { compare: Compare::WhenSuspicious, hold_on: HoldOn::Never, ..*policy };
    match judge(&parties.about, &careful, &parties.evidence) {
        Judgement::Need(probes) => probes.has(Probe::AskTrusted),
        Judgement::Serve(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_far_between_and_what_looks_wrong_is_looked_at_sooner() {
        let samples = Samples::default();
        let at = |ms| Tick(1_000_000).plus(Duration::from_millis(ms));
        let (right, wrong) = (|| false, || true);
        assert!(samples.take(right, at(0)));
        assert!(!samples.take(right, at(9_999)) && !samples.take(wrong, at(999)));
        assert!(samples.take(wrong, at(1_000)));
        assert!(!samples.take(right, at(10_999)));
        assert!(samples.take(right, at(11_000)));
        let taken = (0..100_000).filter(|ms| samples.take(|| ms % 2 == 0, at(20_000 + ms))).count();
        assert!(taken <= 101, "{taken}");
    }
}
