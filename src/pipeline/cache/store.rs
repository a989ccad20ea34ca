//! The cache itself: shards of least-recently-used entries, bounded by number and by memory.
//!
//! Each shard has its share of both budgets and counts what it holds itself, under its own lock, so that no total
//! can drift and no thread waits for another's eviction. Entries of ours (zones, hosts) and forwarded ones are kept
//! in separate lists: forwarded ones go first, unless ours fill half of the shard; then the oldest of ours goes
//! (random names under a local wildcard must not push out everything else).
//!
//! A lock is held for a lookup and a copy, or for one insertion; never for a walk over more than one shard.

use super::entry::{self, Birth, EPOCH_BITS, Head, Slot, Unfit};
use super::key::{KeyBuf, Keyed, KnownHash};
use super::prefetch;
use super::stale::{self, Staleness};
use super::ttl::{self, FAILURE_MEMORY_S, Lifetime};
use crate::clock::Tick;
use crate::config;
use crate::dns::wire::{flag, u16_at};
use crate::dns::{Answer, Name, Origin, Tag, encode, name};
use lru::LruCache;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Entries a shard may have. Few enough that it is copied for a snapshot, or its table grows, within a fraction of a
/// millisecond; many enough that chance fills none while others are empty. And what a table of 2,048 buckets holds well:
/// it is 73 % full then, and removals leave hardly a bucket unusable, so that it need not grow.
const ENTRIES_PER_SHARD: usize = 1500;
/// The most shards: an empty one takes half a kilobyte.
const MAX_SHARDS: usize = 65_536;
/// What no entry takes less than, in octets: so many bytes at least make one useful.
const MIN_ENTRY_BYTES: u64 = 128;
/// Memory of an entry besides its own bytes: a list node of 64 octets (glibc's size for 56) and its part of the hash
/// table, 17 octets a bucket at a load between 7/16 and 7/8.
const OVERHEAD_BYTES: usize = 64 + 28;
/// Allocations come in multiples of this, with [`ALLOC_HEADER_BYTES`] of their own (glibc, 64 bit).
const ALLOC_STEP_BYTES: usize = 16;
/// See [`ALLOC_STEP_BYTES`].
const ALLOC_HEADER_BYTES: usize = 8;
/// Local entries may take one part in this many of a shard before they push each other out.
const LOCAL_SHARE: usize = 2;

type List = LruCache<Slot, Head, KnownHash>;

/// Answers by place, view and question. Shared by all workers.
#[derive(Debug)]
pub struct Cache {
    shards: Box<[Mutex<Shard>]>,
    epoch: AtomicU32,
    /// Since when the network has been this one, in milliseconds of ticks: failures of another one say nothing here.
    network_since_ms: AtomicU64,
    max_ttl_s: u32,
    stale: stale::Policy,
    prefetch: prefetch::Policy,
    changes: Changes,
}

/// Whether there is something a snapshot does not have yet, and who wants to know.
#[derive(Default)]
struct Changes {
    some: AtomicBool,
    hook: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").field("some", &self.some).finish_non_exhaustive()
    }
}

/// What the fast path made of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// What it counts as.
    pub origin: Origin,
    /// The zone or the route that it is counted for.
    pub tag: Tag,
    /// It is popular and about to expire: ask for it again. Said once in an entry's life.
    pub ask_again: bool,
}

/// An answer found by the slow path.
#[derive(Debug, Clone)]
pub struct Cached {
    /// The answer, its TTLs aged, or lowered when it is stale.
    pub answer: Answer,
    /// What is to be done before it goes out, when it is stale; `None` for a fresh one.
    pub staleness: Option<Staleness>,
    /// As [`Hit::ask_again`].
    pub ask_again: bool,
    /// As [`Hit::tag`].
    pub tag: Tag,
    /// The decision it was stored under.
    pub fingerprint: u64,
    /// It was stored, or revalidated, under the configuration of the epoch asked for.
    pub current: bool,
    /// How old it is.
    pub age: Duration,
    /// Nothing trusted confirmed it.
    pub is_disputed: bool,
}

/// Under what terms an answer is stored.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How long, as [`ttl::lifetime`] says.
    pub lifetime: Lifetime,
    /// The decision behind it; its low 32 bits are kept.
    pub fingerprint: u64,
    /// The epoch of the configuration that made it, read before the work began.
    pub epoch: u32,
    /// The moment.
    pub now: Tick,
    /// The answer was disputed: it is never served stale.
    pub disputed: bool,
    /// The zone or the route that it is counted for.
    pub tag: Tag,
}

/// Under what terms an answer is served.
#[derive(Debug, Clone, Copy)]
pub struct Serve {
    /// The epoch of the configuration the client was looked at by: its views need not be those of another epoch.
    pub epoch: u32,
    /// The moment.
    pub now: Tick,
    /// Whether answers carry extended errors.
    pub extended_errors: bool,
}

/// What an insertion did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inserted {
    /// The answer is in the cache.
    pub stored: bool,
    /// Entries that the bounds put out for it.
    pub evicted: u64,
    /// It is a failure, or disputed, and there is an answer that is better than it: that one stays.
    pub better_stays: bool,
    /// It has more records than an entry takes, or more octets than its shard may hold.
    pub too_large: bool,
}

/// How much is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Entries, expired ones included.
    pub entries: usize,
    /// Those of them that say that a name or a type does not exist.
    pub negative: usize,
    /// The memory they take, in octets.
    pub bytes: usize,
}

/// What to remove.
#[derive(Debug, Clone, Copy)]
pub enum Flush<'a> {
    /// Everything.
    All,
    /// All types of one name, in all views.
    Name(&'a Name),
    /// A name and all below it.
    Suffix(&'a Name),
}

impl Flush<'_> {
    /// Tells whether what is kept under a name is meant.
    #[must_use]
    pub fn means(&self, qname: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Name(name) => qname.eq_ignore_ascii_case(name.as_wire()),
            Self::Suffix(suffix) => name::is_at_or_below(qname, suffix.as_wire()),
        }
    }
}

impl Cache {
    /// Makes an empty cache. `max_entries = 0` or `max_bytes = 0` makes one that keeps nothing.
    #[must_use]
    pub fn new(policy: &config::Cache) -> Self {
        let fitting = usize::try_from(policy.max_bytes / MIN_ENTRY_BYTES).unwrap_or(usize::MAX);
        let shards = (policy.max_entries.min(fitting) / ENTRIES_PER_SHARD).clamp(1, MAX_SHARDS);
        let max_bytes = usize::try_from(policy.max_bytes).unwrap_or(usize::MAX) / shards;
        let shard = || Mutex::new(Shard::new(policy.max_entries / shards, max_bytes));
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            epoch: AtomicU32::new(0),
            network_since_ms: AtomicU64::new(0),
            max_ttl_s: u32::try_from(policy.max_ttl.as_secs()).unwrap_or(u32::MAX),
            stale: stale::Policy::new(&policy.serve_stale),
            prefetch: prefetch::Policy::new(&policy.prefetch),
            changes: Changes::default(),
        }
    }

    /// Appends the answer for a client to `out` if the same configuration has one that goes out at once: a fresh one, or
    /// a stale one that could just now not be refreshed. Allocates nothing as long as `out` has room.
    pub fn answer_into(
        &self,
        key: &KeyBuf,
        serve: Serve,
        shape: &encode::ClientShape<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Hit> {
        let Serve { epoch, now, extended_errors } = serve;
        let mut shard = self.shard(key);
        let (slot, head) = shard.get_mut(key)?;
        if head.epoch() != epoch {
            return None;
        }
        let is_fresh = self.is_fresh(head, now);
        if !is_fresh && self.staleness(head, now) != Some(Staleness::AtOnce) {
            return None;
        }
        let start = out.len();
        let message = slot.message(head);
        let ede = if is_fresh { slot.ede(head) } else { Some(stale::extended_error(message)) };
        encode::fit(out, message, shape, ede.filter(|_| extended_errors));
        // What was cut has no TTLs left; where they were, OPT stands.
        let cut = u16_at(out, start + 2).is_none_or(|flags| flags & flag::TC != 0);
        if !is_fresh {
            if !cut {
                slot.ttl_offsets(head).for_each(|at| ttl::cap_ttl(out, start + at, self.stale.reply_ttl_s));
            }
            return Some(Hit { origin: Origin::Stale, tag: head.tag(), ask_again: false });
        }
        let age_s = head.age_s(now);
        if !cut && age_s > 0 && !head.is_local() {
            slot.ttl_offsets(head).for_each(|at| ttl::age_ttl(out, start + at, age_s));
        }
        Some(Hit { origin: head.origin_of_hit(), tag: head.tag(), ask_again: self.prefetch.is_due(head, now) })
    }

    /// Copies an answer out, fresh or stale, also one of another epoch than the one given: then `current` is false and
    /// it may be used only after [`Cache::revalidate`].
    #[must_use]
    pub fn get(&self, key: &KeyBuf, epoch: u32, now: Tick) -> Option<Cached> {
        let mut shard = self.shard(key);
        let (slot, head) = shard.get_mut(key)?;
        let staleness = self.staleness(head, now);
        if staleness.is_none() && !self.is_fresh(head, now) {
            return None;
        }
        let answer = match staleness {
            None => slot.to_answer(head, now),
            Some(_) => {
                let error = stale::extended_error(slot.message(head));
                slot.to_stale_answer(head, self.stale.reply_ttl_s, error)
            }
        };
        let current = head.epoch() == epoch;
        Some(Cached {
            answer,
            staleness,
            ask_again: current && staleness.is_none() && self.prefetch.is_due(head, now),
            tag: head.tag(),
            fingerprint: u64::from(head.fingerprint),
            current,
            age: Duration::from_millis(head.age_ms(now)),
            is_disputed: head.is_disputed(),
        })
    }

    /// Notes that an answer could not be refreshed in time: while that is recent, it goes out stale without waiting.
    pub fn note_failed_refresh(&self, key: &KeyBuf, now: Tick) {
        if let Some(head) = self.shard(key).peek_mut(key) {
            head.note_failed_refresh(now);
        }
    }

    /// The network is another one: failures from before are not served any longer, and a stale answer that could not be
    /// refreshed there is to be refreshed here.
    pub fn network_changed(&self, now: Tick) {
        self.network_since_ms.store(now.0, Ordering::Relaxed);
    }

    /// Removes what is stored under a key, because it has been replaced by something that must not be kept.
    pub fn forget(&self, key: &KeyBuf) {
        self.shard(key).remove(key);
        self.note_change();
    }

    /// Removes an answer that nothing confirms; one that nobody disputes stays.
    pub fn forget_disputed(&self, key: &KeyBuf) {
        let mut shard = self.shard(key);
        if shard.peek_mut(key).is_some_and(|head| head.is_disputed()) {
            shard.remove(key);
            drop(shard);
            self.note_change();
        }
    }

    /// Has `hook` called at the first change, and at the first after each [`Cache::take_changes`]. Only the first hook
    /// is kept.
    pub fn on_change(&self, hook: impl Fn() + Send + Sync + 'static) {
        drop(self.changes.hook.set(Box::new(hook)));
        if self.changes.some.load(Ordering::Relaxed) {
            self.call_hook();
        }
    }

    /// Tells whether something has changed since this was last asked.
    pub fn take_changes(&self) -> bool {
        self.changes.some.swap(false, Ordering::AcqRel)
    }

    /// Notes that a snapshot would be another one from here on.
    pub fn note_change(&self) {
        // Looked at first: a line that every insertion writes would be the one they all wait for.
        if !self.changes.some.load(Ordering::Relaxed) && !self.changes.some.swap(true, Ordering::AcqRel) {
            self.call_hook();
        }
    }

    fn call_hook(&self) {
        if let Some(hook) = self.changes.hook.get() {
            hook();
        }
    }

    /// Makes an entry current if the configuration of `epoch` decides the same about it, and removes it if not.
    /// Returns whether there is such an entry. For a question that goes on under a configuration that has been
    /// replaced the entry stays as it is: what that one decides says nothing about the present.
    pub fn revalidate(&self, key: &KeyBuf, fingerprint: u64, epoch: u32) -> bool {
        let is_present = epoch == self.epoch();
        let mut shard = self.shard(key);
        let Some(head) = shard.peek_mut(key) else { return false };
        let same = head.fingerprint == low_half(fingerprint);
        match (same, is_present) {
            (true, true) => head.set_epoch(epoch),
            (false, true) => shard.remove(key),
            (_, false) => {}
        }
        same
    }

    /// Has an entry that has been made current counted for another zone or route than the one of the configuration before.
    pub fn count_for(&self, key: &KeyBuf, tag: Tag) {
        if let Some(head) = self.shard(key).peek_mut(key) {
            head.set_tag(tag);
        }
    }

    /// Stores an answer in place of the one there may be. Refused when the configuration has changed since
    /// `terms.epoch`, when the answer is not one to the key's question, and when it is too large, in which case the one
    /// that is there goes all the same; a failure also when that one is fresh or may be served stale, a disputed answer when
    /// that one is fresh and undisputed.
    pub fn insert(&self, key: &KeyBuf, answer: &Answer, terms: &Terms) -> Inserted {
        if terms.epoch != self.epoch() {
            return Inserted::default();
        }
        if terms.disputed && self.has_undisputed(key, terms) {
            return Inserted { better_stays: true, ..Inserted::default() };
        }
        let mut failures = 0;
        if terms.lifetime == Lifetime::Failure {
            match self.before_failure(key, terms) {
                Before::Better => return Inserted { better_stays: true, ..Inserted::default() },
                Before::Failures(before) => failures = before.saturating_add(1),
            }
        }
        let (life_s, ttl_cap_s) = match terms.lifetime {
            Lifetime::Positive(life_s) => (Some(life_s), self.max_ttl_s),
            Lifetime::Negative(life_s) => (Some(life_s), life_s),
            Lifetime::Failure => {
                let life_s = ttl::failure_seconds(failures - 1);
                (Some(life_s), life_s)
            }
            Lifetime::Local => (None, u32::MAX),
        };
        let birth = Birth {
            age_ms: 0,
            now: terms.now,
            life_s,
            epoch: terms.epoch,
            tag: terms.tag,
            fingerprint: low_half(terms.fingerprint),
            failures,
            ttl_cap_s,
            disputed: terms.disputed,
        };
        let inserted = match entry::make(key, answer, &birth) {
            Ok((slot, head)) => self.shard(key).insert(slot, head),
            Err(Unfit::TooLarge) => self.shard(key).refuse_too_large(key),
            Err(Unfit::Foreign) => return Inserted::default(),
        };
        if matches!(terms.lifetime, Lifetime::Positive(_) | Lifetime::Negative(_)) {
            self.note_change();
        }
        inserted
    }

    /// Returns the present epoch.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Starts a new epoch: every entry must be revalidated before it is served again. Returns it.
    pub fn next_epoch(&self) -> u32 {
        let next = |epoch: u32| (epoch + 1) % (1 << EPOCH_BITS);
        let before = self.epoch.fetch_update(Ordering::AcqRel, Ordering::Acquire, |epoch| Some(next(epoch)));
        let epoch = next(before.unwrap_or_else(|epoch| epoch));
        if epoch == 0 {
            // After four million reloads they begin anew: nothing may be left that would seem current then.
            self.flush(Flush::All);
        }
        epoch
    }

    /// Removes entries, one shard after the other, and returns how many.
    pub fn flush(&self, what: Flush<'_>) -> usize {
        let removed = self.shards.iter().map(|shard| lock(shard).flush(what)).sum();
        self.note_change();
        removed
    }

    /// Counts what is stored, each shard's all under one lock: the figures agree whatever is stored meanwhile.
    #[must_use]
    pub fn held(&self) -> Held {
        let held = |shard: &Mutex<Shard>| {
            let shard = lock(shard);
            Held { entries: shard.len(), negative: shard.negative, bytes: shard.bytes() }
        };
        self.shards.iter().map(held).fold(Held::default(), |sum, of| Held {
            entries: sum.entries + of.entries,
            negative: sum.negative + of.negative,
            bytes: sum.bytes + of.bytes,
        })
    }

    /// Counts the entries, expired ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held().entries
    }

    /// Tells whether nothing is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the memory the entries take, in octets.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.held().bytes
    }

    /// Counts the parts that are locked one by one.
    pub(super) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// Looks at every forwarded answer of a shard, the youngest first, that is fresh or may be served stale.
    pub(super) fn for_each_worth_keeping(&self, shard: usize, now: Tick, mut look: impl FnMut(&Slot, &Head)) {
        let shard = lock(&self.shards[shard]);
        for (slot, head) in &shard.forwarded {
            if head.failures() == 0 && !head.is_disputed() && self.is_usable(head, now) {
                look(slot, head);
            }
        }
    }

    /// Puts an entry from before back, as the oldest of its shard: there it is in nobody's way. Returns whether it is of
    /// use, not known already, and has room.
    pub(super) fn restore(&self, slot: Slot, head: Head, now: Tick) -> bool {
        self.is_usable(&head, now) && self.shard(&slot).restore(slot, head)
    }

    /// Looks at every entry of a shard that is meant.
    pub(super) fn for_each_of(&self, shard: usize, what: Flush<'_>, mut look: impl FnMut(&Slot, &Head)) {
        let shard = lock(&self.shards[shard]);
        for (slot, head) in shard.local.iter().chain(&shard.forwarded).filter(|(slot, _)| what.means(slot.qname())) {
            look(slot, head);
        }
    }

    /// Tells whether an entry may be served, fresh or stale.
    pub(super) fn is_usable(&self, head: &Head, now: Tick) -> bool {
        self.is_fresh(head, now) || self.staleness(head, now).is_some()
    }

    /// Tells whether an entry may be served as it is.
    pub(super) fn is_fresh(&self, head: &Head, now: Tick) -> bool {
        head.is_fresh(now) && (head.failures() == 0 || head.age_ms(now) <= self.network_ms(now))
    }

    fn staleness(&self, head: &Head, now: Tick) -> Option<Staleness> {
        self.stale.staleness(head, now, || self.network_ms(now) / 1000)
    }

    /// Returns how long the network has been this one, in milliseconds.
    fn network_ms(&self, now: Tick) -> u64 {
        now.0.saturating_sub(self.network_since_ms.load(Ordering::Relaxed))
    }

    fn shard(&self, key: &dyn Keyed) -> MutexGuard<'_, Shard> {
        // From the middle of the hash: its low bits choose the bucket inside the shard and its highest seven tell entries
        // of a bucket apart; what all entries of a shard have in common must be neither.
        let middle = key.hash() >> 20 & u64::from(u32::MAX);
        let scaled = (middle * u64::try_from(self.shards.len()).unwrap_or(1)) >> 32;
        lock(&self.shards[usize::try_from(scaled).unwrap_or(0)])
    }

    /// Tells whether there is a fresh answer that nobody disputes: what nothing confirms says nothing against it.
    fn has_undisputed(&self, key: &KeyBuf, terms: &Terms) -> bool {
        let mut shard = self.shard(key);
        let Some(head) = shard.peek_mut(key) else { return false };
        let is_answer = head.failures() == 0 && !head.is_disputed() && head.epoch() == terms.epoch;
        is_answer && self.is_fresh(head, terms.now)
    }

    /// Looks at what a failure would replace. An answer that is better stays, and notes the failure.
    fn before_failure(&self, key: &KeyBuf, terms: &Terms) -> Before {
        let mut shard = self.shard(key);
        let Some(head) = shard.peek_mut(key) else { return Before::Failures(0) };
        let now = terms.now;
        let is_answer = head.failures() == 0 && !head.is_local();
        if is_answer && head.epoch() == terms.epoch && self.is_usable(head, now) {
            head.note_failed_refresh(now);
            return Before::Better;
        }
        let forgotten_s = u64::from(head.life_s().unwrap_or(0)) + FAILURE_MEMORY_S;
        Before::Failures(if head.age_ms(now) / 1000 <= forgotten_s { head.failures() } else { 0 })
    }
}

/// What stands where a failure is to be stored.
enum Before {
    /// An answer that may still be served.
    Better,
    /// So many failures in a row, or nothing.
    Failures(u8),
}

/// One shard: two lists and what they take.
#[derive(Debug)]
struct Shard {
    forwarded: List,
    local: List,
    forwarded_bytes: usize,
    local_bytes: usize,
    /// Entries that say that a name or a type does not exist.
    negative: usize,
    max_entries: usize,
    max_bytes: usize,
}

impl Shard {
    fn new(max_entries: usize, max_bytes: usize) -> Self {
        // Unbounded lists grow as they fill; `insert` holds the bounds.
        let list = || LruCache::unbounded_with_hasher(KnownHash);
        Self {
            forwarded: list(),
            local: list(),
            forwarded_bytes: 0,
            local_bytes: 0,
            negative: 0,
            max_entries,
            max_bytes,
        }
    }

    /// Finds an entry and makes it the youngest.
    fn get_mut(&mut self, key: &KeyBuf) -> Option<(&Slot, &mut Head)> {
        let key = key as &dyn Keyed;
        if !self.local.is_empty() && self.local.contains(key) {
            return self.local.get_key_value_mut(key);
        }
        self.forwarded.get_key_value_mut(key)
    }

    fn peek_mut(&mut self, key: &KeyBuf) -> Option<&mut Head> {
        let key = key as &dyn Keyed;
        match self.local.peek_mut(key) {
            Some(head) => Some(head),
            None => self.forwarded.peek_mut(key),
        }
    }

    fn remove(&mut self, key: &dyn Keyed) {
        if let Some((slot, head)) = self.forwarded.pop_entry(key) {
            self.forwarded_bytes -= cost(&slot);
            self.negative -= usize::from(head.is_negative());
        }
        if !self.local.is_empty()
            && let Some((slot, head)) = self.local.pop_entry(key)
        {
            self.local_bytes -= cost(&slot);
            self.negative -= usize::from(head.is_negative());
        }
    }

    fn insert(&mut self, slot: Slot, head: Head) -> Inserted {
        let bytes = cost(&slot);
        if self.max_entries == 0 || bytes > self.max_bytes {
            return self.refuse_too_large(&slot);
        }
        self.remove(&slot);
        let mut evicted = 0;
        while self.len() + 1 > self.max_entries || self.bytes() + bytes > self.max_bytes {
            if !self.evict() {
                break;
            }
            evicted += 1;
        }
        self.negative += usize::from(head.is_negative());
        if head.is_local() {
            self.local_bytes += bytes;
            self.local.put(slot, head);
        } else {
            self.forwarded_bytes += bytes;
            self.forwarded.put(slot, head);
        }
        Inserted { stored: true, evicted, ..Inserted::default() }
    }

    /// Keeps nothing under a key: what was true before is not any more. A cache of nothing finds nothing too large.
    fn refuse_too_large(&mut self, key: &dyn Keyed) -> Inserted {
        self.remove(key);
        Inserted { too_large: self.max_entries > 0 && self.max_bytes > 0, ..Inserted::default() }
    }

    /// Appends an entry as the oldest; returns false when there is one already, or no room.
    fn restore(&mut self, slot: Slot, head: Head) -> bool {
        let (bytes, key) = (cost(&slot), &slot as &dyn Keyed);
        let is_known = self.forwarded.contains(key) || self.local.contains(key);
        if is_known || self.len() + 1 > self.max_entries || self.bytes() + bytes > self.max_bytes {
            return false;
        }
        self.forwarded_bytes += bytes;
        self.negative += usize::from(head.is_negative());
        let key = slot.to_key();
        self.forwarded.put(slot, head);
        if let Some(key) = key {
            self.forwarded.demote(&key as &dyn Keyed);
        }
        true
    }

    /// Puts out the entry that is missed least; returns whether there was one.
    fn evict(&mut self) -> bool {
        let local_is_over = self.local.len() > self.max_entries / LOCAL_SHARE
            || self.local_bytes > self.max_bytes / LOCAL_SHARE
            || self.forwarded.is_empty();
        if local_is_over {
            let Some((slot, head)) = self.local.pop_lru() else { return false };
            self.local_bytes -= cost(&slot);
            self.negative -= usize::from(head.is_negative());
        } else {
            let Some((slot, head)) = self.forwarded.pop_lru() else { return false };
            self.forwarded_bytes -= cost(&slot);
            self.negative -= usize::from(head.is_negative());
        }
        true
    }

    fn flush(&mut self, what: Flush<'_>) -> usize {
        let before = self.len();
        for (list, bytes) in
            [(&mut self.forwarded, &mut self.forwarded_bytes), (&mut self.local, &mut self.local_bytes)]
        {
            list.retain(|slot, head| {
                let kept = !what.means(slot.qname());
                if !kept {
                    *bytes -= cost(slot);
                    self.negative -= usize::from(head.is_negative());
                }
                kept
            });
        }
        before - self.len()
    }

    fn len(&self) -> usize {
        self.forwarded.len() + self.local.len()
    }

    fn bytes(&self) -> usize {
        self.forwarded_bytes + self.local_bytes
    }
}

/// Returns what an entry takes, in octets.
fn cost(slot: &Slot) -> usize {
    (slot.len() + ALLOC_HEADER_BYTES).next_multiple_of(ALLOC_STEP_BYTES) + OVERHEAD_BYTES
}

fn low_half(fingerprint: u64) -> u32 {
    u32::try_from(fingerprint & u64::from(u32::MAX)).unwrap_or(0)
}

/// Locks a shard. A panic under the lock can at worst leave bytes counted that are gone, which only makes the
/// shard smaller.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
