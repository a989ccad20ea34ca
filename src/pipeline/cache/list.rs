//! Entries by key, and which of them goes first.
//!
//! Entries lie side by side in places, and a hash table of 32-bit numbers says which place is whose: a look-up touches
//! the table, the place and the entry's bytes, and nothing else. Whoever was asked for since the hand last came by is
//! passed over once (the CLOCK approximation of "least recently used"): a hit sets one flag, where a true order would have
//! it rewrite its neighbours, which at a million entries are as many cache misses again as the look-up itself.

use super::entry::{Head, Slot};
use super::key::Keyed;
use hashbrown::HashTable;

/// Places grow by one part in this many, so that few stand empty.
const GROWTH: usize = 8;
/// Places made at first.
const FIRST_PLACES: usize = 16;
/// Marks the end of the free places.
const NONE: u32 = u32::MAX;
/// 2^64 divided by the golden ratio: spreads 32 bits of a hash over the 64 that the table looks at.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The entries.
#[derive(Debug)]
pub(super) struct List {
    table: HashTable<u32>,
    places: Vec<Place>,
    /// The first of the free places.
    free: u32,
    /// The place looked at next when one must go.
    hand: usize,
}

#[derive(Debug)]
enum Place {
    Taken {
        slot: Slot,
        head: Head,
        /// Half of the key's hash, so that growing and comparing leave the bytes alone.
        hash: u32,
        /// It was asked for since the hand came by.
        used: bool,
    },
    Free {
        next: u32,
    },
}

/// Octets a place takes, the part of it in the table included: 5 octets a bucket at a load between 7/16 and 7/8, and half
/// of the places that one growth adds.
pub(super) const PLACE_BYTES: usize = size_of::<Place>() + size_of::<Place>() / (2 * GROWTH) + 8;

impl Default for List {
    fn default() -> Self {
        Self { table: HashTable::new(), places: Vec::new(), free: NONE, hand: 0 }
    }
}

impl List {
    /// Counts the entries.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Tells whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Tells whether there is an entry with this key.
    pub(super) fn contains(&self, key: &dyn Keyed) -> bool {
        self.find(key).is_some()
    }

    /// Returns an entry to be changed and marks it as used.
    pub(super) fn get_key_value_mut(&mut self, key: &dyn Keyed) -> Option<(&Slot, &mut Head)> {
        let at = self.find(key)?;
        match self.places.get_mut(at as usize)? {
            Place::Taken { slot, head, used, .. } => {
                *used = true;
                Some((slot, head))
            }
            Place::Free { .. } => None,
        }
    }

    /// Returns what is known of an entry, to be changed, without marking it as used.
    pub(super) fn peek_mut(&mut self, key: &dyn Keyed) -> Option<&mut Head> {
        let at = self.find(key)?;
        match self.places.get_mut(at as usize)? {
            Place::Taken { head, .. } => Some(head),
            Place::Free { .. } => None,
        }
    }

    /// Adds an entry whose key is not there.
    pub(super) fn put(&mut self, slot: Slot, head: Head) {
        let hash = half(&slot);
        let place = Place::Taken { slot, head, hash, used: false };
        let at = match self.places.get_mut(self.free as usize) {
            Some(free) => {
                let at = self.free;
                if let Place::Free { next } = std::mem::replace(free, place) {
                    self.free = next;
                }
                at
            }
            None => {
                let Ok(at) = u32::try_from(self.places.len()) else { return };
                if self.places.len() == self.places.capacity() {
                    self.places.reserve_exact((self.places.len() / GROWTH).max(FIRST_PLACES));
                }
                self.places.push(place);
                at
            }
        };
        let Self { table, places, .. } = self;
        table.insert_unique(spread(hash), at, |&at| match places.get(at as usize) {
            Some(Place::Taken { hash, .. }) => spread(*hash),
            Some(Place::Free { .. }) | None => 0,
        });
    }

    /// Removes an entry.
    pub(super) fn pop_entry(&mut self, key: &dyn Keyed) -> Option<(Slot, Head)> {
        let at = self.find(key)?;
        self.take(at)
    }

    /// Removes the next entry that nobody asked for since the hand last came by.
    pub(super) fn pop_unused(&mut self) -> Option<(Slot, Head)> {
        if self.is_empty() {
            return None;
        }
        // The first round may find all of them used; the second then finds the first of them unused.
        for _ in 0..=2 * self.places.len() {
            let at = self.hand % self.places.len();
            self.hand = at + 1;
            match &mut self.places[at] {
                Place::Taken { used: true, .. } => {
                    if let Place::Taken { used, .. } = &mut self.places[at] {
                        *used = false;
                    }
                }
                Place::Taken { used: false, .. } => return self.take(u32::try_from(at).ok()?),
                Place::Free { .. } => {}
            }
        }
        None
    }

    /// Removes the entries that are not to be kept.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Slot, &mut Head) -> bool) {
        for at in 0..self.places.len() {
            let kept = match &mut self.places[at] {
                Place::Taken { slot, head, .. } => keep(slot, head),
                Place::Free { .. } => true,
            };
            if !kept {
                drop(u32::try_from(at).ok().and_then(|at| self.take(at)));
            }
        }
    }

    /// Returns the entries, those first that somebody asked for since the hand came by.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Slot, &Head)> {
        let all = |wanted: bool| {
            self.places.iter().filter_map(move |place| match place {
                Place::Taken { slot, head, used, .. } if *used == wanted => Some((slot, head)),
                Place::Taken { .. } | Place::Free { .. } => None,
            })
        };
        all(true).chain(all(false))
    }

    fn find(&self, key: &dyn Keyed) -> Option<u32> {
        let wanted = half(key);
        let is_it = |&at: &u32| match self.places.get(at as usize) {
            Some(Place::Taken { slot, hash, .. }) => *hash == wanted && slot.is_of(key),
            Some(Place::Free { .. }) | None => false,
        };
        self.table.find(spread(wanted), is_it).copied()
    }

    /// Empties a place.
    fn take(&mut self, at: u32) -> Option<(Slot, Head)> {
        let place = self.places.get_mut(at as usize)?;
        let Place::Taken { hash, .. } = place else { return None };
        if let Ok(found) = self.table.find_entry(spread(*hash), |&other| other == at) {
            found.remove();
        }
        let next = std::mem::replace(&mut self.free, at);
        match std::mem::replace(place, Place::Free { next }) {
            Place::Taken { slot, head, .. } => Some((slot, head)),
            Place::Free { .. } => None,
        }
    }
}

/// Returns the lower half of a key's hash; the upper one chooses the shard.
fn half(key: &dyn Keyed) -> u32 {
    u32::try_from(key.hash64() & u64::from(u32::MAX)).unwrap_or(0)
}

fn spread(half: u32) -> u64 {
    u64::from(half).wrapping_mul(SPREAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::super::entry::{self, Birth};
    use super::super::key::KeyBuf;
    use crate::clock::Tick;
    use crate::config::{PlaceId, ViewId};
    use crate::dns::encode::MessageBuilder;
    use crate::dns::{Answer, Name, Origin, Query, Rcode, Rtype};

    fn key(n: usize) -> KeyBuf {
        let question = Query::local(Name::parse(&format!("n{n}.example")).unwrap(), Rtype::A).question();
        KeyBuf::of(PlaceId(0), ViewId(0), &question)
    }

    fn put(list: &mut List, n: usize) {
        let name = Name::parse(&format!("n{n}.example")).unwrap();
        let message = MessageBuilder::response(&name, Rtype::A, Rcode::NOERROR).finish();
        let answer = Answer { message, origin: Origin::Upstream, ede: None };
        let birth = Birth {
            age_ms: 0,
            now: Tick(0),
            life_s: Some(60),
            epoch: 0,
            fingerprint: 0,
            failures: 0,
            ttl_cap_s: 60,
            disputed: false,
        };
        let (slot, head) = entry::make(&key(n), &answer, &birth).unwrap();
        list.put(slot, head);
    }

    fn filled(count: usize) -> List {
        let mut list = List::default();
        (0..count).for_each(|n| put(&mut list, n));
        list
    }

    #[test]
    fn what_was_asked_for_is_passed_over_once() {
        let mut list = filled(4);
        for n in [0, 2] {
            assert!(list.get_key_value_mut(&key(n)).is_some());
        }
        let mut gone = Vec::new();
        while let Some((slot, _)) = list.pop_unused() {
            gone.push((0..4).find(|n| slot.is_of(&key(*n))).unwrap());
        }
        assert_eq!(gone, [1, 3, 0, 2]);
        assert!(list.is_empty() && list.pop_unused().is_none());
    }

    #[test]
    fn the_place_of_what_is_gone_is_used_again() {
        let mut list = filled(1000);
        for n in 0..500 {
            assert!(list.pop_entry(&key(n)).is_some() && !list.contains(&key(n)));
        }
        let places = list.places.len();
        (1000..1500).for_each(|n| put(&mut list, n));
        assert_eq!((list.len(), list.places.len()), (1000, places));
        for n in 500..1500 {
            assert!(list.get_key_value_mut(&key(n)).is_some_and(|(slot, _)| slot.is_of(&key(n))), "{n}");
        }
        list.retain(|slot, _| slot.is_of(&key(1234)));
        assert_eq!((list.len(), list.iter().count(), list.contains(&key(1234))), (1, 1, true));
    }

    #[test]
    fn an_entry_is_only_its_own_keys() {
        let list = filled(1);
        let longer = Query::local(Name::parse("n0.example.org").unwrap(), Rtype::A).question();
        let other_type = Query::local(Name::parse("n0.example").unwrap(), Rtype::AAAA).question();
        for question in [longer, other_type] {
            assert!(!list.contains(&KeyBuf::of(PlaceId(0), ViewId(0), &question)));
        }
        let question = Query::local(Name::parse("N0.Example").unwrap(), Rtype::A).question();
        assert!(list.contains(&KeyBuf::of(PlaceId(0), ViewId(0), &question)));
        assert!(!list.contains(&KeyBuf::of(PlaceId(0), ViewId(1), &question)));
    }

    #[test]
    fn a_place_is_48_octets() {
        assert_eq!(size_of::<Place>(), 48);
    }
}
