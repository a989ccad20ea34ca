//! What probes have shown that are sent now and then: addresses given for names that do not exist, and decoys that were answered.
//!
//! Tables that are told the time; nobody is asked here. Each has a bound, at which what was used longest ago goes.

use super::memory::rekey;
use crate::clock::Tick;
use crate::config::PlaceId;
use lru::LruCache;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

/// Groups, by network, of which it is kept when they were asked for a name that does not exist.
const MAX_GROUPS: usize = 256;
/// Addresses kept that were given for such names: who rewrites denials has some few.
const MAX_INVENTED: usize = 256;
/// Networks of which it is kept whether a decoy was answered.
const MAX_PLACES: usize = 16;

/// The time from one question for a name that does not exist to the next, of one group on one network.
const DENIAL_PAUSE: Duration = Duration::from_secs(24 * 3600);
/// How long an address is known to be given for such names.
const INVENTED_LIFE: Duration = Duration::from_secs(24 * 3600);
/// The time from one decoy to the next on one network.
const DECOY_PAUSE: Duration = Duration::from_secs(3600);
/// How long it is known that one was answered: two are sent meanwhile that may be answered again.
const DECOY_LIFE: Duration = Duration::from_secs(2 * 3600 + 1800);

/// All of it.
#[derive(Debug)]
pub struct Probed {
    denials: LruCache<(PlaceId, Box<str>), Tick>,
    invented: LruCache<(PlaceId, Box<str>, IpAddr), Tick>,
    decoys: LruCache<PlaceId, Decoys>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Decoys {
    sent: Option<Tick>,
    /// How many were.
    count: usize,
    answered: Option<Tick>,
}

impl Default for Probed {
    fn default() -> Self {
        Self { denials: bounded(MAX_GROUPS), invented: bounded(MAX_INVENTED), decoys: bounded(MAX_PLACES) }
    }
}

impl Probed {
    /// Takes what was learnt on a network that had no number yet for what was learnt on this one.
    pub fn name_network(&mut self, place: PlaceId) {
        rekey(&mut self.denials, |(_, group)| (place, group), |(at, _)| *at);
        rekey(&mut self.invented, |(_, operator, address)| (place, operator, address), |(at, ..)| *at);
        rekey(&mut self.decoys, |_| place, |at| *at);
    }

    /// Tells whether a group is to be asked now for a name that does not exist; whoever is told so asks.
    pub fn denial_is_due(&mut self, place: PlaceId, group: &str, now: Tick) -> bool {
        let key = (place, Box::from(group));
        let is_due = self.denials.get(&key).is_none_or(|last| now.since(*last) >= DENIAL_PAUSE);
        if is_due {
            self.denials.put(key, now);
        }
        is_due
    }

    /// Notes that nothing came of it, so that it is asked again.
    pub fn denial_failed(&mut self, place: PlaceId, group: &str) {
        self.denials.pop(&(place, Box::from(group)));
    }

    /// Notes an address that an operator gave for a name which does not exist.
    pub fn saw_invented(&mut self, (place, operator, address): (PlaceId, &str, IpAddr), now: Tick) {
        self.invented.put((place, operator.into(), address), now);
    }

    /// Tells whether an operator gives an address for names that do not exist.
    pub fn is_invented(&mut self, (place, operator, address): (PlaceId, &str, IpAddr), now: Tick) -> bool {
        self.invented.get(&(place, operator.into(), address)).is_some_and(|seen| now.since(*seen) < INVENTED_LIFE)
    }

    /// Returns which decoy is to be asked now, of so many there are; whoever is told so asks.
    pub fn decoy_due(&mut self, place: PlaceId, decoys: usize, now: Tick) -> Option<usize> {
        let known = self.decoys.get_or_insert_mut(place, Decoys::default);
        let is_due = decoys > 0 && known.sent.is_none_or(|last| now.since(last) >= DECOY_PAUSE);
        is_due.then(|| {
            let next = known.count % decoys;
            (known.sent, known.count) = (Some(now), known.count.wrapping_add(1));
            next
        })
    }

    /// Notes that a decoy was answered.
    pub fn decoy_answered(&mut self, place: PlaceId, now: Tick) {
        self.decoys.get_or_insert_mut(place, Decoys::default).answered = Some(now);
    }

    /// Tells whether one was.
    pub fn was_decoy_answered(&mut self, place: PlaceId, now: Tick) -> bool {
        let answered = self.decoys.get(&place).and_then(|known| known.answered);
        answered.is_some_and(|at| now.since(at) < DECOY_LIFE)
    }
}

fn bounded<K: Hash + Eq, V>(max: usize) -> LruCache<K, V> {
    LruCache::new(NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: PlaceId = PlaceId(0);
    const THERE: PlaceId = PlaceId(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn at(after: Duration) -> Tick {
        Tick(1_000_000).plus(after)
    }

    #[test]
    fn a_group_is_asked_for_a_name_that_does_not_exist_once_a_day() {
        let mut probed = Probed::default();
        let mut due = |place, after| probed.denial_is_due(place, "isp", at(after));
        assert!(due(HERE, Duration::ZERO) && due(THERE, Duration::ZERO));
        assert!(!due(HERE, DENIAL_PAUSE - SECOND) && due(HERE, DENIAL_PAUSE) && !due(HERE, DENIAL_PAUSE + SECOND));
        probed.denial_failed(HERE, "isp");
        assert!(probed.denial_is_due(HERE, "isp", at(DENIAL_PAUSE + SECOND)), "nothing came of it");
        for n in 0..=MAX_GROUPS {
            assert!(probed.denial_is_due(HERE, &format!("g{n}"), at(Duration::ZERO)));
        }
        assert_eq!(probed.denials.len(), MAX_GROUPS);
    }

    #[test]
    fn what_is_given_for_such_names_is_known_for_a_day_and_on_its_network() {
        let mut probed = Probed::default();
        let address = |n: u16| IpAddr::from(Ipv4Addr::from_bits(0xc633_6400 + u32::from(n)));
        probed.saw_invented((HERE, "isp", address(1)), at(Duration::ZERO));
        let mut known = |place, operator, n, after| probed.is_invented((place, operator, address(n)), at(after));
        assert!(known(HERE, "isp", 1, INVENTED_LIFE - SECOND) && !known(HERE, "isp", 1, INVENTED_LIFE));
        assert!(!known(THERE, "isp", 1, SECOND) && !known(HERE, "isp", 2, SECOND) && !known(HERE, "other", 1, SECOND));
        for n in 0..400 {
            probed.saw_invented((HERE, "isp", address(n)), at(Duration::ZERO));
        }
        assert_eq!(probed.invented.len(), MAX_INVENTED);
    }

    #[test]
    fn decoys_take_turns_once_an_hour_and_an_answer_is_known_until_two_more_were_sent() {
        let mut probed = Probed::default();
        assert_eq!(probed.decoy_due(HERE, 0, at(Duration::ZERO)), None);
        let sent: Vec<_> = (0..9).map(|n| probed.decoy_due(HERE, 2, at(DECOY_PAUSE / 2 * n))).collect();
        let (one, other) = (Some(0), Some(1));
        assert_eq!(sent, [one, None, other, None, one, None, other, None, one]);
        assert!(!probed.was_decoy_answered(HERE, at(Duration::ZERO)));
        probed.decoy_answered(HERE, at(Duration::ZERO));
        assert!(probed.was_decoy_answered(HERE, at(DECOY_LIFE - SECOND)));
        probed.name_network(THERE);
        assert!(probed.was_decoy_answered(THERE, at(SECOND)) && !probed.was_decoy_answered(HERE, at(SECOND)));
        probed = Probed::default();
        probed.decoy_answered(HERE, at(Duration::ZERO));
        assert!(!probed.was_decoy_answered(HERE, at(DECOY_LIFE)) && !probed.was_decoy_answered(THERE, at(SECOND)));
        for n in 0..40 {
            probed.decoy_answered(PlaceId(n), at(Duration::ZERO));
        }
        assert_eq!(probed.decoys.len(), MAX_PLACES);
    }
}
