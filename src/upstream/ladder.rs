//! Which of a server's rungs works on this network, and when a better one is tried again. Pure but for its lock.
//!
//! ```text
//! nothing known ─▶ all rungs are raced, best first, STAGGER apart ─▶ the first that answers works
//! one works     ─▶ asked alone; the others only when it says nothing for SILENCE
//!                  a higher one is asked along now and then ─▶ when it answers, it is the one that works
//! other network ─▶ what worked there the last time is the first guess, and raced
//! ```
//!
//! Everything rides on questions: nothing is tried while nobody asks.

use super::place::Elsewhere;
use crate::clock::Tick;
use crate::config::PlaceId;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Rungs of a server at most: each transport once.
pub(super) const MAX_RUNGS: usize = 6;
/// How long the next rung waits for the one before it while none is known to work: long enough for most resolvers to
/// answer over a fresh connection, short enough for four rungs within half a second.
pub(super) const STAGGER: Duration = Duration::from_millis(150);
/// How long a rung that is known to work may say nothing before another is tried: its link opens a fresh connection after
/// 250 ms, and that one has [`STAGGER`] too. A name that takes the server longer costs a connection at worst.
pub(super) const SILENCE: Duration = Duration::from_millis(400);
/// The pause before a higher rung is tried again, the first time; it doubles.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest such pause: half of the minute within which a port that is open again is to be in use again.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What is remembered about the rungs of one server. Shared by all threads.
#[derive(Debug)]
pub(super) struct Ladder {
    count: u8,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    here: Rungs,
    /// Which rung answered last on other networks.
    elsewhere: Elsewhere<u8>,
}

/// The rungs on the network the machine is on.
#[derive(Debug, Clone, Copy, Default)]
struct Rungs {
    /// The one that works, or is thought to.
    working: Option<u8>,
    /// The last one that answered here; a network that goes away makes all of them fail.
    last: Option<u8>,
    /// It has answered since the network was last changed.
    proven: bool,
    answered: Tick,
    retries: [Retry; MAX_RUNGS],
}

/// When a rung is worth trying again. Without a pause, nothing speaks against it.
#[derive(Debug, Clone, Copy, Default)]
struct Retry {
    at: Tick,
    pause: Duration,
}

/// What a plan has to know about the rungs of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steps {
    /// How many there are.
    pub(super) count: u8,
    /// How long each waits for the one before it, at least.
    pub(super) apart: Duration,
}

impl Steps {
    /// A single rung.
    pub(super) const ONE: Self = Self { count: 1, apart: STAGGER };
}

/// The rungs of a server in the order in which one question tries them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Climb {
    order: [u8; MAX_RUNGS],
    count: u8,
    next: u8,
    along: Option<u8>,
}

impl Climb {
    /// Returns the next rung.
    pub(super) fn next(&mut self) -> Option<u8> {
        let rung = self.order[..usize::from(self.count)].get(usize::from(self.next)).copied();
        self.next += u8::from(rung.is_some());
        rung
    }

    /// Returns the higher rung that is due to be asked along; once.
    pub(super) fn take_along(&mut self) -> Option<u8> {
        self.along.take()
    }
}

/// A rung that has answered has become the one that works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// Which one did before; none when nothing was known.
    pub(super) from: Option<u8>,
}

impl Ladder {
    /// Makes the ladder of a server with so many rungs, best first, for the network the machine is on.
    pub(super) fn new(rungs: usize, place: PlaceId) -> Self {
        let count = u8::try_from(rungs.clamp(1, MAX_RUNGS)).expect("at most MAX_RUNGS");
        let memory = Memory { here: Rungs::default(), elsewhere: Elsewhere::new(place) };
        Self { count, memory: Mutex::new(memory) }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Plain numbers: whatever a panicking thread left is still usable.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether there is nothing to choose.
    pub(super) fn is_single(&self) -> bool {
        self.count == 1
    }

    /// Returns the rung that works on this network, or is thought to.
    pub(super) fn working(&self) -> Option<u8> {
        if self.is_single() { Some(0) } else { self.memory().here.working }
    }

    /// Returns what the plan of a question has to know.
    pub(super) fn steps(&self) -> Steps {
        if self.is_single() {
            return Steps::ONE;
        }
        let apart = if self.memory().here.proven { SILENCE } else { STAGGER };
        Steps { count: self.count, apart }
    }

    /// Begins to ask the server a question; claims the right to ask a higher rung along when one is due.
    pub(super) fn climb(&self, now: Tick) -> Climb {
        let mut climb = Climb { order: [0; MAX_RUNGS], count: self.count, next: 0, along: None };
        if self.is_single() {
            return climb;
        }
        let mut memory = self.memory();
        let here = &mut memory.here;
        let mut order: Vec<u8> = (0..self.count).collect();
        let refused = |rung: u8| !here.retries[usize::from(rung)].pause.is_zero();
        order.sort_by_key(|&rung| (here.working != Some(rung), refused(rung), rung));
        climb.order[..order.len()].copy_from_slice(&order);
        if let Some(working) = here.working.filter(|_| here.proven) {
            let due = here.retries[..usize::from(working)].iter_mut().enumerate().filter(|(_, retry)| now >= retry.at);
            if let Some((rung, retry)) = due.min_by_key(|(_, retry)| retry.at) {
                retry.put_off(now);
                climb.along = u8::try_from(rung).ok();
            }
        }
        climb
    }

    /// A rung has answered, `waited` after it was asked. Returns the change, if it is one.
    pub(super) fn answered(&self, rung: u8, waited: Duration, now: Tick) -> Option<Change> {
        if self.is_single() {
            return None;
        }
        let mut memory = self.memory();
        let here = &mut memory.here;
        here.retries[usize::from(rung)] = Retry::default();
        let from = here.working;
        // A lower one is asked only when the working one is silent. If that has answered somebody meanwhile, it was slow.
        let stays = here.proven && from.is_some_and(|working| rung > working) && now.since(here.answered) <= waited;
        if stays {
            return None;
        }
        if let Some(working) = from.filter(|working| here.proven && rung > *working) {
            here.retries[usize::from(working)].put_off(now);
        }
        *here = Rungs { working: Some(rung), last: Some(rung), proven: true, answered: now, ..*here };
        // They had their chance a moment ago.
        for retry in here.retries[..usize::from(rung)].iter_mut().filter(|retry| retry.pause.is_zero()) {
            retry.put_off(now);
        }
        (from != Some(rung)).then_some(Change { from })
    }

    /// A rung has failed for sure. Returns whether no other is known to work.
    pub(super) fn failed(&self, rung: u8, now: Tick) -> bool {
        if self.is_single() {
            return true;
        }
        let mut memory = self.memory();
        let here = &mut memory.here;
        here.retries[usize::from(rung)].put_off(now);
        if here.working == Some(rung) {
            here.working = None;
            here.proven = false;
        }
        here.working.is_none()
    }

    /// The machine may be on another network, or on this one as it was not before.
    pub(super) fn moved_to(&self, place: PlaceId) {
        let mut memory = self.memory();
        let learnt = memory.here.working.or(memory.here.last).or(memory.elsewhere.before());
        let working = memory.elsewhere.move_to(place, learnt);
        memory.here = Rungs { working, ..Rungs::default() };
    }

    /// The machine is on another network than it seemed. What has answered is known to answer there; a guess is made anew.
    pub(super) fn is_at(&self, place: PlaceId) {
        let mut memory = self.memory();
        let known = memory.elsewhere.is_at(place);
        let here = &mut memory.here;
        if here.last.is_none() {
            let has_failed = |rung: &u8| !here.retries[usize::from(*rung)].pause.is_zero();
            here.working = known.filter(|rung| !has_failed(rung));
        }
    }
}

impl Retry {
    fn put_off(&mut self, now: Tick) {
        self.pause = (self.pause * 2).clamp(RETRY_FIRST, RETRY_MAX);
        self.at = now.plus(self.pause);
    }
}

#[cfg(test)]
#[path = "ladder_tests.rs"]
mod tests;
