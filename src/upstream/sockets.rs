//! How many sockets all questions together hold: file descriptors are needed for clients and files as well, and a
//! process that has run out of them cannot even read its configuration.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Sockets at once at most: two for each question of `max_in_flight`. Fewer when the process may open fewer files.
pub(super) const MAX_SOCKETS: usize = 8192;

/// The sockets there are, kept ones included; the count is kept over reloads.
#[derive(Debug)]
pub(super) struct Sockets {
    open: AtomicUsize,
    max: AtomicUsize,
    /// Counts the networks there were.
    network: AtomicU32,
}

/// A place for one socket, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    sockets: Arc<Sockets>,
    network: u32,
}

impl Place {
    /// Tells whether so many are in use that none should be kept for later.
    pub(super) fn is_scarce(&self) -> bool {
        self.sockets.are_scarce()
    }

    /// Tells whether the network is another one than when the place was taken: the socket may have an address of the one
    /// before.
    pub(super) fn is_of_another_network(&self) -> bool {
        self.network != self.sockets.network.load(Ordering::Relaxed)
    }
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Without it the question may have no answer.
    Answer,
    /// It may bring an answer sooner: refused when three quarters of all are in use.
    Speed,
}

impl Default for Sockets {
    fn default() -> Self {
        Self { open: AtomicUsize::new(0), max: AtomicUsize::new(MAX_SOCKETS), network: AtomicU32::new(0) }
    }
}

impl Sockets {
    /// Sets how many there may be, [`MAX_SOCKETS`] at most.
    pub(super) fn set_max(&self, max: usize) {
        self.max.store(max.min(MAX_SOCKETS), Ordering::Relaxed);
    }

    /// The network is another one: no socket of the one before is kept.
    pub(super) fn renew(&self) {
        self.network.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a place unless there is none left for this need.
    pub(super) fn take(self: &Arc<Self>, need: Need) -> Option<Place> {
        let max = self.max.load(Ordering::Relaxed);
        let max = if need == Need::Answer { max } else { max - max / 4 };
        let taken =
            self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < max).then_some(open + 1));
        taken.is_ok().then(|| Place { sockets: Arc::clone(self), network: self.network.load(Ordering::Relaxed) })
    }

    /// Tells whether so many are in use that none should be held only to learn from.
    pub(super) fn are_scarce(&self) -> bool {
        self.open.load(Ordering::Relaxed) > self.max.load(Ordering::Relaxed) / 2
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sockets.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_quarter_is_for_answers_and_places_come_back() {
        let sockets = Arc::new(Sockets::default());
        sockets.set_max(8);
        let held: Vec<_> = std::iter::from_fn(|| sockets.take(Need::Speed)).collect();
        assert_eq!(held.len(), 6);
        assert!(sockets.are_scarce());
        let more: Vec<_> = std::iter::from_fn(|| sockets.take(Need::Answer)).collect();
        assert_eq!(more.len(), 2);
        drop((held, more));
        assert!(!sockets.are_scarce() && sockets.take(Need::Speed).is_some());
        let place = sockets.take(Need::Answer).unwrap();
        assert!(!place.is_of_another_network());
        sockets.renew();
        assert!(place.is_of_another_network() && !sockets.take(Need::Answer).unwrap().is_of_another_network());
        sockets.set_max(usize::MAX);
        assert_eq!(sockets.max.load(Ordering::Relaxed), MAX_SOCKETS);
    }
}
