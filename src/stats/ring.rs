//! The last questions that one worker answered, in memory: the octets that were sent, taken apart only when somebody looks.
//!
//! ```text
//! chunk │ answers: client, cell, length │ their octets │ batches: when, how long
//! ring  │ chunk 17 │ chunk 18, written into │ chunk 3, the oldest │ …
//! ```
//!
//! An answer is remembered when it has been sent, so that nobody waits for that, and announced before: whoever has it and
//! looks here finds it, since readers wait for what is announced.
//!
//! The worker alone writes, a batch at a time, and waits for nobody: a chunk has a lock that it only tries, and where
//! somebody reads just then it leaves that chunk as it is and goes on with the next one. Whoever reads copies a chunk
//! under its lock and takes it apart afterwards. So it is the reader that loses records, never the worker that waits, and
//! lost ones are counted by their numbers. A chunk takes memory when it is first written, so a daemon that nobody asks
//! has none.

use super::chunk::{CHUNK_RECORDS, Chunk, MAX_ANSWER_BYTES, MAX_LABEL_BYTES, Remembered};
use super::noted::{Batch, Noted};
use std::cell::Cell as StdCell;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// Chunks at least. With as many readers as this at the very same moment a batch may be lost to all of them.
const MIN_CHUNKS: usize = 4;

/// What one worker remembers. Written by one, read by anybody.
#[derive(Debug)]
pub(super) struct Ring {
    /// Each chunk at the place of its number.
    chunks: Box<[Mutex<Chunk>]>,
    /// The number of the chunk that is written into; 0 before the first.
    current: AtomicU64,
    /// How many answers have been published, those that were lost included.
    count: AtomicU64,
    /// How many have been sent, or are being sent: what is not published yet will be in a moment.
    announced: AtomicU64,
}

impl Ring {
    /// Makes one for about so many answers.
    pub(super) fn new(entries: usize) -> Self {
        let chunks = (entries.div_ceil(CHUNK_RECORDS) + 1).max(MIN_CHUNKS);
        let chunks = (0..chunks).map(|_| Mutex::default()).collect();
        Self { chunks, current: AtomicU64::new(0), count: AtomicU64::new(0), announced: AtomicU64::new(0) }
    }

    fn place(&self, number: u64) -> &Mutex<Chunk> {
        let at = number % self.chunks.len() as u64;
        &self.chunks[usize::try_from(at).unwrap_or(0)]
    }

    /// Locks the place of a chunk if nobody else does.
    fn try_place(&self, number: u64) -> Option<MutexGuard<'_, Chunk>> {
        match self.place(number).try_lock() {
            Ok(chunk) => Some(chunk),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Copies a chunk; `None` when it was left out, or is written over. For those who read: it waits for another one who
    /// does, or for the worker, without the worker having to wake it.
    fn copy(&self, number: u64) -> Option<Chunk> {
        loop {
            if let Some(chunk) = self.try_place(number) {
                return (chunk.number() == number).then(|| chunk.clone());
            }
            std::thread::yield_now();
        }
    }

    /// Waits until what has been announced is published, or whoever pauses in between has enough.
    pub(super) fn settle(&self, mut pause: impl FnMut() -> bool) {
        let announced = self.announced.load(Ordering::Acquire);
        while self.count.load(Ordering::SeqCst) < announced && pause() {}
    }

    /// Returns where to read from in order to see only what comes from here on.
    pub(super) fn here(&self) -> Cursor {
        // In this order: what is published in between is in this chunk or behind it.
        let chunk = self.current.load(Ordering::SeqCst);
        Cursor { chunk, number: self.count.load(Ordering::SeqCst) }
    }

    /// Returns where to read from in order to see all there is.
    pub(super) fn oldest(&self) -> Cursor {
        let current = self.current.load(Ordering::SeqCst);
        let found = (self.oldest_of(current)..=current).find_map(|number| self.copy(number));
        found.map_or_else(|| self.here(), |chunk| Cursor { chunk: chunk.number(), number: chunk.first() })
    }

    /// Returns the number of the oldest chunk there may be beside another one.
    fn oldest_of(&self, current: u64) -> u64 {
        (current + 1).saturating_sub(self.chunks.len() as u64).max(1)
    }

    /// Tells whether there is something behind a cursor.
    pub(super) fn has_news(&self, cursor: &Cursor) -> bool {
        self.count.load(Ordering::SeqCst) > cursor.number
    }

    /// Tells whether there is anything in it.
    pub(super) fn is_written(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// Hands out the records behind a cursor, so many chunks of them at most, and moves it on.
    pub(super) fn read(&self, cursor: &mut Cursor, chunks: usize, mut take: impl FnMut(&Remembered<'_>)) -> Progress {
        // In this order: whatever is counted here is in these chunks, unless it is lost.
        let count = self.count.load(Ordering::SeqCst);
        let current = self.current.load(Ordering::SeqCst);
        let mut lost = 0;
        cursor.chunk = cursor.chunk.max(self.oldest_of(current));
        for _ in 0..chunks {
            if let Some(chunk) = self.copy(cursor.chunk).filter(|chunk| chunk.next() > cursor.number) {
                lost += chunk.first().saturating_sub(cursor.number);
                chunk.records().iter().filter(|record| record.number >= cursor.number).for_each(&mut take);
                cursor.number = chunk.next();
            }
            if cursor.chunk >= current {
                // What was counted and is not there was written over meanwhile, or had no room.
                lost += count.saturating_sub(cursor.number);
                cursor.number = cursor.number.max(count);
                return Progress { lost, more: false };
            }
            cursor.chunk += 1;
        }
        Progress { lost, more: true }
    }

    /// Hands out the records before a cursor, the latest first, until whoever takes them has enough.
    pub(super) fn read_back(&self, before: &Cursor, mut take: impl FnMut(&Remembered<'_>) -> ControlFlow<()>) {
        for number in (self.oldest_of(before.chunk)..=before.chunk).rev() {
            let Some(chunk) = self.copy(number) else { continue };
            let records = chunk.records();
            let earlier = records.iter().rev().filter(|record| record.number < before.number);
            if { earlier }.try_for_each(&mut take).is_break() {
                return;
            }
        }
    }
}

#[cfg(test)]
impl Ring {
    /// Is somebody who reads all chunks, as long as what is returned lives.
    pub(super) fn hold(&self) -> Vec<MutexGuard<'_, Chunk>> {
        (0..self.chunks.len() as u64).filter_map(|number| self.try_place(number)).collect()
    }

    /// Is somebody who reads the chunk that is written into.
    pub(super) fn hold_current(&self) -> Option<MutexGuard<'_, Chunk>> {
        self.try_place(self.current.load(Ordering::SeqCst))
    }
}

/// How far somebody has read.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    chunk: u64,
    /// The number of the next record.
    number: u64,
}

/// What became of a reading.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    /// Records that were not there any more.
    pub(super) lost: u64,
    /// There are more.
    pub(super) more: bool,
}

/// The one who writes a ring.
#[derive(Debug)]
pub(super) struct Writer {
    ring: Arc<Ring>,
    /// The chunk that is written into.
    chunk: StdCell<u64>,
    /// The number of the next record.
    number: StdCell<u64>,
}

impl Writer {
    pub(super) fn new(ring: Arc<Ring>) -> Self {
        Self { ring, chunk: StdCell::new(0), number: StdCell::new(0) }
    }

    /// Says how many answers are about to be sent, which will be added then.
    pub(super) fn announce(&self, answers: usize) {
        self.ring.announced.store(self.number.get() + answers as u64, Ordering::Release);
    }

    /// Adds answers, to be seen at once.
    pub(super) fn push(&self, batch: Batch<'_>) {
        let longest = MAX_ANSWER_BYTES + usize::from(batch.prefix_bytes);
        if batch.upstream.len() > MAX_LABEL_BYTES || batch.noted.iter().any(|noted| noted.bytes() > longest) {
            self.put_cut(batch, longest);
        } else {
            self.put(batch);
        }
        self.ring.count.store(self.number.get(), Ordering::SeqCst);
    }

    fn put(&self, mut batch: Batch<'_>) {
        let end = self.number.get() + batch.noted.len() as u64;
        let mut open = self.open();
        loop {
            if let Some(chunk) = &mut open {
                chunk.take(&mut batch);
                self.number.set(chunk.next());
            }
            if batch.noted.is_empty() {
                return;
            }
            drop(open);
            open = self.begin();
            if open.is_none() {
                // All are being read: lost to everybody, and counted by whoever reads on.
                self.number.set(end);
                return;
            }
        }
    }

    /// Adds answers one by one, each cut to what is kept of it.
    #[cold]
    fn put_cut(&self, batch: Batch<'_>, longest: usize) {
        let ends = (0..=MAX_LABEL_BYTES).rev().find(|end| batch.upstream.is_char_boundary(*end));
        let upstream = &batch.upstream[..ends.unwrap_or(0)];
        let mut rest = batch.octets;
        for noted in batch.noted {
            let (octets, later) = rest.split_at(noted.bytes().min(rest.len()));
            rest = later;
            let octets = &octets[..octets.len().min(longest)];
            let noted: &[Noted] = &[noted.cut_to(octets.len())];
            self.put(Batch { noted, octets, upstream, ..batch });
        }
    }

    /// Returns the chunk that is written into, when it is free and nothing was lost since.
    fn open(&self) -> Option<MutexGuard<'_, Chunk>> {
        let number = self.chunk.get();
        let chunk = self.ring.try_place(number)?;
        (chunk.number() == number && number > 0 && chunk.next() == self.number.get()).then_some(chunk)
    }

    /// Begins the next chunk in a place that nobody reads; what is remembered there is written over.
    #[cold]
    fn begin(&self) -> Option<MutexGuard<'_, Chunk>> {
        let after = self.chunk.get() + 1;
        let places = self.ring.chunks.len() as u64;
        let (number, mut chunk) =
            (after..after + places).find_map(|number| Some((number, self.ring.try_place(number)?)))?;
        chunk.begin(number, self.number.get());
        self.chunk.set(number);
        self.ring.current.store(number, Ordering::SeqCst);
        Some(chunk)
    }
}
