//! How often each kind of finding was made against each upstream since the start. Bounded: upstreams come and go with networks.

use super::verdict::Verdict;
use std::collections::BTreeMap;

/// Pairs of kind and upstream that are counted apart: the four kinds of sixteen upstreams. Upstreams beyond them are counted together.
const MAX_COUNTED: usize = 64;
/// What those are called: no label of a server, which has a group before it.
pub const OTHERS: &str = "others";

/// What was found of one kind against one upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Answers that did not stand.
    pub answers: u64,
    /// Incidents that they began; the others were more of the same.
    pub incidents: u64,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<(Box<str>, Verdict), Found>);

impl Tally {
    /// Counts an answer.
    pub(super) fn add(&mut self, upstream: &str, verdict: Verdict, is_new: bool) {
        let is_known = self.0.contains_key(&(upstream.into(), verdict));
        let upstream = if is_known || self.0.len() < MAX_COUNTED { upstream } else { OTHERS };
        let found = self.0.entry((upstream.into(), verdict)).or_default();
        found.answers += 1;
        found.incidents += u64::from(is_new);
    }

    /// Returns what was found, by the label of the upstream.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Verdict, Found)> {
        self.0.iter().map(|((upstream, verdict), found)| (&**upstream, *verdict, *found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_beyond_the_bound_are_counted_together() {
        let mut tally = Tally::default();
        let verdicts = [Verdict::Poisoned, Verdict::EmptyVsPresent];
        for n in 0..MAX_COUNTED {
            tally.add(&format!("system/{n}"), verdicts[n % 2], n % 4 < 2);
        }
        assert_eq!(tally.iter().count(), MAX_COUNTED);
        for n in 0..100 {
            tally.add(&format!("system/{}", MAX_COUNTED + n), verdicts[n % 2], true);
        }
        // One that is known goes on by its name.
        tally.add("system/0", Verdict::Poisoned, false);
        assert_eq!(tally.iter().count(), MAX_COUNTED + verdicts.len());
        let of = |upstream: &str, verdict| {
            tally.iter().find(|one| (one.0, one.1) == (upstream, verdict)).map(|(_, _, found)| found)
        };
        assert_eq!(of("system/0", Verdict::Poisoned), Some(Found { answers: 2, incidents: 1 }));
        assert_eq!(of("system/2", Verdict::Poisoned), Some(Found { answers: 1, incidents: 0 }));
        assert_eq!(of(OTHERS, Verdict::Poisoned), Some(Found { answers: 50, incidents: 50 }));
        assert_eq!(of(OTHERS, Verdict::EmptyVsPresent), Some(Found { answers: 50, incidents: 50 }));
        let all: u64 = tally.iter().map(|(_, _, found)| found.answers).sum();
        assert_eq!(all, u64::try_from(MAX_COUNTED).unwrap() + 101);
    }
}
