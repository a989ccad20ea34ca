//! The network the machine is on, and what was learnt on others. Pure but for its atomics.
//!
//! What a network is called ([`PlaceId`]) is told from outside. Number 0 is every network that cannot be told from others.

use crate::clock::Tick;
use crate::config::PlaceId;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Networks of which each server's rung and speed are remembered, beside the one in use; the one left longest ago is
/// forgotten. More than anybody's offices, homes and tunnels.
const MAX_ELSEWHERE: usize = 32;

/// Where the machine is. Kept over reloads.
#[derive(Debug, Default)]
pub(super) struct Here {
    place: AtomicU16,
    /// When it may have come there, in ticks; 0 when it was there at the start.
    since: AtomicU64,
    stay: AtomicU32,
}

/// A time between two changes of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stay(u32);

impl Here {
    /// The machine has come to a network, or the one it is on is not what it was.
    pub(super) fn move_to(&self, place: PlaceId, now: Tick) {
        self.stay.fetch_add(1, Ordering::Relaxed);
        self.since.store(now.0, Ordering::Relaxed);
        self.place.store(place.0, Ordering::Relaxed);
    }

    /// It is on another network than it seemed; nothing has changed but its name.
    pub(super) fn is_at(&self, place: PlaceId) {
        self.place.store(place.0, Ordering::Relaxed);
    }

    /// Returns which network it is on.
    pub(super) fn place(&self) -> PlaceId {
        PlaceId(self.place.load(Ordering::Relaxed))
    }

    /// Returns since when.
    pub(super) fn since(&self) -> Tick {
        Tick(self.since.load(Ordering::Relaxed))
    }

    /// Returns what tells the time from here on from that before.
    pub(super) fn stay(&self) -> Stay {
        Stay(self.stay.load(Ordering::Relaxed))
    }
}

/// What was learnt on other networks.
#[derive(Debug)]
pub(super) struct Elsewhere<T> {
    here: PlaceId,
    /// What was known of this network when the machine came to it.
    before: Option<T>,
    /// The network left last comes last.
    left: Vec<(PlaceId, T)>,
}

impl<T: Copy> Elsewhere<T> {
    /// Knows of no other network than this one.
    pub(super) fn new(here: PlaceId) -> Self {
        Self { here, before: None, left: Vec::new() }
    }

    /// Returns what was known of this network when the machine came to it.
    pub(super) fn before(&self) -> Option<T> {
        self.before
    }

    /// Keeps what was learnt on the network that is left; returns what is known of the one that is come to.
    pub(super) fn move_to(&mut self, place: PlaceId, learnt: Option<T>) -> Option<T> {
        let left = std::mem::replace(&mut self.here, place);
        self.keep(left, learnt);
        self.before = self.take(place);
        self.before
    }

    /// The machine is on another network than it seemed: of the one it was taken for is known what was known before, and
    /// nothing that was learnt since. Returns what is known of the one it is.
    pub(super) fn is_at(&mut self, place: PlaceId) -> Option<T> {
        let seemed = std::mem::replace(&mut self.here, place);
        let before = self.before.take();
        self.keep(seemed, before);
        self.before = self.take(place);
        self.before
    }

    fn keep(&mut self, place: PlaceId, known: Option<T>) {
        let Some(known) = known else { return };
        if self.left.len() >= MAX_ELSEWHERE {
            self.left.remove(0);
        }
        self.left.push((place, known));
    }

    fn take(&mut self, place: PlaceId) -> Option<T> {
        let known = self.left.iter().position(|(other, _)| *other == place)?;
        Some(self.left.remove(known).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_has_a_memory_of_its_own_and_the_one_left_longest_ago_is_forgotten() {
        let (home, last) = (PlaceId(1), u16::try_from(MAX_ELSEWHERE).unwrap() + 1);
        let mut elsewhere = Elsewhere::new(home);
        assert_eq!(elsewhere.move_to(PlaceId(2), Some(10)), None);
        assert_eq!(elsewhere.move_to(home, Some(20)), Some(10));
        assert_eq!(elsewhere.move_to(home, Some(11)), Some(11), "the same network, changed");
        assert_eq!(elsewhere.move_to(PlaceId(2), None), Some(20), "nothing was learnt at home");
        assert_eq!(elsewhere.move_to(home, Some(20)), None);
        for place in 2..=last {
            elsewhere.move_to(PlaceId(place), Some(place - 1));
        }
        assert_eq!(elsewhere.left.len(), MAX_ELSEWHERE);
        elsewhere.move_to(PlaceId(last + 1), Some(last));
        assert_eq!(elsewhere.left.len(), MAX_ELSEWHERE);
        assert_eq!(elsewhere.move_to(home, None), None, "forgotten");
        assert_eq!(elsewhere.move_to(PlaceId(2), None), Some(2));
    }

    #[test]
    fn of_a_network_that_was_taken_for_another_one_nothing_is_filed_under_that() {
        let (home, office, hotel) = (PlaceId(1), PlaceId(2), PlaceId(3));
        let mut elsewhere = Elsewhere::new(home);
        elsewhere.move_to(office, Some(10));
        assert_eq!(elsewhere.move_to(home, Some(20)), Some(10));
        assert_eq!(elsewhere.is_at(hotel), None, "nobody was there before");
        assert_eq!(elsewhere.move_to(home, Some(30)), Some(10), "as it was");
        assert_eq!(elsewhere.is_at(office), Some(20));
        assert_eq!((elsewhere.before(), elsewhere.is_at(office)), (Some(20), Some(20)));
        assert_eq!(elsewhere.move_to(hotel, Some(21)), Some(30));
        assert_eq!(elsewhere.move_to(office, None), Some(21));
        assert_eq!(elsewhere.move_to(home, None), Some(10));
    }

    #[test]
    fn every_change_of_the_network_begins_another_stay() {
        let here = Here::default();
        let before = here.stay();
        here.move_to(PlaceId(3), Tick(7));
        assert_ne!(here.stay(), before);
        assert_eq!((here.place(), here.since(), here.stay()), (PlaceId(3), Tick(7), here.stay()));
        let before = here.stay();
        here.move_to(PlaceId(3), Tick(9));
        assert_ne!(here.stay(), before, "the same one again");
        let stay = here.stay();
        here.is_at(PlaceId(4));
        assert_eq!((here.place(), here.since(), here.stay()), (PlaceId(4), Tick(9), stay));
    }
}
