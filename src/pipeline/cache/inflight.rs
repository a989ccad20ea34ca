//! Identical questions in flight: the first asks, the others wait for what it gets.
//!
//! A table and nothing more: who waits is the caller's type, usually the sending half of a channel. One query in
//! flight per question is also what makes a birthday attack on ids pointless (CVE-2020-25686, RebirthDay).

use super::key::KeyBuf;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parts of the table, each with a lock of its own: more than the workers there can be at most.
const SHARDS: usize = 16;
/// Waiters one question may have. `max_in_flight` bounds all questions together; this keeps one name from taking
/// all of it while its upstream is slow.
pub const MAX_WAITERS: usize = 1024;

type Shard<W> = Mutex<HashTable<Asked<W>>>;

/// One question in flight.
#[derive(Debug)]
struct Asked<W> {
    key: Arc<[u8]>,
    hash: u64,
    waiters: Vec<W>,
}

/// The table. Clones share it.
#[derive(Debug)]
pub struct InFlight<W> {
    shards: Arc<[Shard<W>]>,
    hasher: foldhash::fast::RandomState,
}

/// What a question is among those like it.
#[derive(Debug)]
pub enum Role<W> {
    /// The first: ask, then give everybody the answer. Its own waiter comes back unused.
    Leader(Guard<W>, W),
    /// Somebody is asking; the waiter was put in line.
    Follower,
    /// Somebody is asking and the line is full; the waiter comes back.
    Full(W),
}

/// The right to ask a question. Dropped without [`Guard::finish`] (a panic, a cancelled task), it removes the
/// question and drops its waiters, which a channel's receiving end sees at once.
#[derive(Debug)]
pub struct Guard<W> {
    table: InFlight<W>,
    key: Option<Arc<[u8]>>,
    hash: u64,
}

impl<W> Clone for InFlight<W> {
    fn clone(&self) -> Self {
        Self { shards: Arc::clone(&self.shards), hasher: self.hasher.clone() }
    }
}

impl<W> Default for InFlight<W> {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: foldhash::fast::RandomState::default() }
    }
}

impl<W> InFlight<W> {
    /// Joins those who wait for a question, or becomes the one who asks it.
    #[must_use]
    pub fn join(&self, key: &KeyBuf, waiter: W) -> Role<W> {
        let key = key.as_bytes();
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash);
        if let Some(asked) = shard.find_mut(hash, |asked| *asked.key == *key) {
            if asked.waiters.len() >= MAX_WAITERS {
                return Role::Full(waiter);
            }
            asked.waiters.push(waiter);
            return Role::Follower;
        }
        let key: Arc<[u8]> = key.into();
        let asked = Asked { key: Arc::clone(&key), hash, waiters: Vec::new() };
        shard.insert_unique(hash, asked, |asked| asked.hash);
        drop(shard);
        Role::Leader(Guard { table: self.clone(), key: Some(key), hash }, waiter)
    }

    /// Counts the questions in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Tells whether no question is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, HashTable<Asked<W>>> {
        // Not from the bits that the table of a shard goes by, its lowest and highest.
        let middle = usize::try_from(hash >> 32 & 0xffff).unwrap_or(0);
        lock(&self.shards[middle % SHARDS])
    }
}

impl<W> Guard<W> {
    /// Ends the question and returns who waits for its answer.
    #[must_use]
    pub fn finish(mut self) -> Vec<W> {
        self.take()
    }

    fn take(&mut self) -> Vec<W> {
        let Some(key) = self.key.take() else { return Vec::new() };
        let mut shard = self.table.shard(self.hash);
        let asked = shard.find_entry(self.hash, |asked| Arc::ptr_eq(&asked.key, &key));
        asked.map(|asked| asked.remove().0.waiters).unwrap_or_default()
    }
}

impl<W> Drop for Guard<W> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Locks a shard. A panic while it was held cannot leave it half-changed: each change is one call.
fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PlaceId, ViewId};
    use crate::dns::{Name, Query, Rtype};
    use std::sync::mpsc;

    fn key(text: &str) -> KeyBuf {
        let question = Query::local(Name::parse(text).unwrap(), Rtype::A).question();
        KeyBuf::of(PlaceId(0), ViewId(0), &question)
    }

    #[test]
    fn the_first_leads_and_gets_the_waiters_back() {
        let table = InFlight::default();
        let Role::Leader(guard, 0) = table.join(&key("a.example"), 0) else { panic!("not the leader") };
        assert!(matches!(table.join(&key("A.example"), 1), Role::Follower));
        assert!(matches!(table.join(&key("a.example"), 2), Role::Follower));
        assert!(matches!(table.join(&key("b.example"), 3), Role::Leader(_, 3)));
        assert_eq!(guard.finish(), [1, 2]);
        assert!(table.is_empty());
        assert!(matches!(table.join(&key("a.example"), 4), Role::Leader(_, 4)));
    }

    #[test]
    fn a_panicking_leader_strands_nobody() {
        let table = InFlight::default();
        let Role::Leader(guard, _) = table.join(&key("a.example"), mpsc::channel::<()>().0) else { panic!() };
        let (sender, receiver) = mpsc::channel();
        assert!(matches!(table.join(&key("a.example"), sender), Role::Follower));
        let leader = std::thread::spawn(move || {
            let _guard = guard;
            panic!("on purpose");
        });
        assert!(leader.join().is_err());
        assert_eq!(receiver.recv(), Err(mpsc::RecvError));
        assert!(table.is_empty());
    }

    #[test]
    fn the_line_has_an_end() {
        let table = InFlight::default();
        let Role::Leader(guard, _) = table.join(&key("a.example"), 0) else { panic!() };
        for waiter in 0..MAX_WAITERS {
            assert!(matches!(table.join(&key("a.example"), waiter), Role::Follower));
        }
        assert!(matches!(table.join(&key("a.example"), 7), Role::Full(7)));
        assert_eq!(guard.finish().len(), MAX_WAITERS);
    }
}
