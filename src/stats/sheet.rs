//! What one worker has answered, counted.
//!
//! A [`Sheet`] belongs to one worker, which alone writes to it and has no lock to wait for: it adds up a batch and
//! publishes it under a sequence number. Whoever reads copies everything and does so again when the number has changed
//! meanwhile (a sequence lock, of atomics only). So all sums taken from one copy agree exactly.

use super::answers::{Answers, CELLS_OF_A_WAY, SLOT_SHIFT, SLOTS, SOURCE_ROOM, Source, TIMES_STRIDE, WAYS};
use super::histogram::{BUCKETS, bucket_of, nanoseconds};
use super::noted::Noted;
use crate::clock::Tick;
use crate::dns::Tag;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

/// What one worker has sent. Read by anybody, written by one.
#[derive(Debug)]
pub(super) struct Sheet {
    /// Odd while the worker writes.
    sequence: AtomicU64,
    /// By way; made when the first question comes in that way.
    cells: [OnceLock<Box<[AtomicU64]>>; WAYS],
    /// By tag: those of a zone, a route or a view.
    tagged: Box<[AtomicU64]>,
    /// By source: the buckets, the sum, the maximum.
    times: Box<[AtomicU64]>,
    /// By slot: which one it is, and its answers.
    slots: Box<[AtomicU64]>,
}

fn zeroes(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

impl Default for Sheet {
    fn default() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            cells: [const { OnceLock::new() }; WAYS],
            tagged: zeroes(Tag::COUNT),
            times: zeroes(TIMES_STRIDE * Source::ALL.len()),
            slots: zeroes(2 * SLOTS),
        }
    }
}

/// Adds to a cell that nobody else writes: no locked instruction.
fn bump(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

impl Sheet {
    /// Publishes answers that took the same time, which ended `now`.
    pub(super) fn publish(&self, answers: &[Noted], took: Duration, now: Tick) {
        let Some(count) = u64::try_from(answers.len()).ok().filter(|count| *count > 0) else { return };
        let mut by_source = [0_u32; SOURCE_ROOM];
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for Noted { cell, .. } in answers {
            by_source[cell.source()] += 1;
            let (way, at) = cell.place();
            if let Some(cells) = self.cells.get(way) {
                bump(&cells.get_or_init(|| zeroes(CELLS_OF_A_WAY))[at], 1);
            }
            if let Some(tagged) = self.tagged.get(usize::from(cell.by.number())) {
                bump(tagged, 1);
            }
            // What nobody has decided has no view; with the tag for nothing those of no zone are counted.
            if cell.view != Tag::NONE
                && let Some(tagged) = self.tagged.get(usize::from(cell.view.number()))
            {
                bump(tagged, 1);
            }
        }
        let ns = nanoseconds(took);
        let bucket = bucket_of(ns);
        for (source, &answers) in by_source.iter().enumerate().filter(|(_, answers)| **answers > 0) {
            let start = source * TIMES_STRIDE;
            if let Some(times) = self.times.get(start..start + TIMES_STRIDE) {
                bump(&times[bucket], u64::from(answers));
                bump(&times[BUCKETS], ns.saturating_mul(u64::from(answers)));
                if times[BUCKETS + 1].load(Ordering::Relaxed) < ns {
                    times[BUCKETS + 1].store(ns, Ordering::Relaxed);
                }
            }
        }
        let slot = now.0 >> SLOT_SHIFT;
        let at = 2 * usize::try_from(slot % SLOTS as u64).unwrap_or(0);
        if self.slots[at].load(Ordering::Relaxed) == slot {
            bump(&self.slots[at + 1], count);
        } else {
            self.slots[at].store(slot, Ordering::Relaxed);
            self.slots[at + 1].store(count, Ordering::Relaxed);
        }
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// Adds this worker's answers to a sum, all of them as they stood at one moment.
    pub(super) fn add_to(&self, sum: &mut Answers) {
        let rest = self.tagged.len() + self.times.len() + self.slots.len();
        let mut copy = Vec::with_capacity(CELLS_OF_A_WAY + rest);
        let mut ways = [false; WAYS];
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            if before & 1 == 0 {
                copy.clear();
                for (cells, is_used) in self.cells.iter().zip(&mut ways) {
                    let cells = cells.get();
                    *is_used = cells.is_some();
                    copy.extend(cells.into_iter().flatten().map(|cell| cell.load(Ordering::Relaxed)));
                }
                let rest = self.tagged.iter().chain(&*self.times).chain(&*self.slots);
                copy.extend(rest.map(|cell| cell.load(Ordering::Relaxed)));
                fence(Ordering::Acquire);
                if self.sequence.load(Ordering::Relaxed) == before {
                    break;
                }
            }
            // The worker writes for some hundred nanoseconds, unless the kernel has just taken its core away.
            std::thread::yield_now();
        }
        let mut rest = &*copy;
        for (way, _) in ways.iter().enumerate().filter(|(_, is_used)| **is_used) {
            let (cells, behind) = rest.split_at(CELLS_OF_A_WAY);
            sum.add_way(way, cells);
            rest = behind;
        }
        let (tagged, rest) = rest.split_at(Tag::COUNT);
        let (times, slots) = rest.split_at(self.times.len());
        sum.add(tagged, times, slots);
    }
}
