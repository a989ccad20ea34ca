//! The last questions that one worker answered, in memory: raw octets, taken apart only when somebody looks.
//!
//! ```text
//! chunk k │ k │ number of its first record │ record │ record │ took │ record │ … │ 0 │        512 words, 4 KiB
//! record  │ lengths, tick │ cell, view, by, port │ client, 2 words │ answer, 8 octets a word │ upstream's label │
//! took    │ how long the records before it took, those of one batch
//! ```
//!
//! The worker alone writes, and waits for nobody: words are stored relaxed, and before a chunk is written over, `floor` is
//! raised beyond it. Whoever reads copies a chunk and looks at `floor` afterwards: what lies below may have been written
//! over meanwhile and is lost. So it is the reader that loses records, never the worker that waits, and lost ones are
//! counted by their numbers. Chunks are made when they are first written, so a daemon that nobody asks has none.

use super::answers::Cell;
use crate::clock::Tick;
use crate::dns::{Decided, Tag};
use std::cell::Cell as StdCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Words of a chunk: a page of 4 KiB.
const CHUNK_WORDS: usize = 512;
/// Words at its beginning: its own number and that of its first record.
const CHUNK_HEAD: usize = 2;
/// Words of a record before its answer.
const RECORD_HEAD: usize = 4;
/// Octets kept of an answer: the question and some twenty addresses; a longer one is cut.
pub(super) const MAX_ANSWER_BYTES: usize = 512;
/// Octets kept of an upstream's label.
pub(super) const MAX_LABEL_BYTES: usize = 128;
/// Octets planned for a record: its head, and an answer with a name of 30 octets, three addresses and OPT.
pub(super) const USUAL_RECORD_BYTES: usize = 128;
/// Times a reader begins anew at the oldest chunk while the worker runs ahead of it.
const MAX_RETRIES: usize = 8;

/// What the lowest two bits of a first word say. 0 is the end of a chunk.
const KIND_BITS: u32 = 2;
const KIND_MASK: u64 = (1 << KIND_BITS) - 1;
const KIND_RECORD: u64 = 1;
const KIND_TOOK: u64 = 2;
/// Then, in a record: octets of the answer and of the label, and the tick.
const ANSWER_SHIFT: u32 = KIND_BITS;
const LABEL_SHIFT: u32 = ANSWER_SHIFT + 10;
const TICK_SHIFT: u32 = LABEL_SHIFT + 8;
/// The client's address is one of IPv4: in the highest half of its first word, which no address of IPv6 in use has.
const V4: u64 = u64::MAX << 32;

const _: () = assert!(MAX_ANSWER_BYTES < 1 << (LABEL_SHIFT - ANSWER_SHIFT));
const _: () = assert!(MAX_LABEL_BYTES < 1 << (TICK_SHIFT - LABEL_SHIFT));
const _: () = assert!(CHUNK_HEAD + RECORD_HEAD + MAX_ANSWER_BYTES / 8 + MAX_LABEL_BYTES / 8 < CHUNK_WORDS);

type Chunk = Box<[AtomicU64; CHUNK_WORDS]>;

/// What one worker remembers. Written by one, read by anybody.
#[derive(Debug)]
pub(super) struct Ring {
    /// A power of two of them.
    chunks: Box<[OnceLock<Chunk>]>,
    /// Words before this position may be written over at any moment.
    floor: AtomicU64,
    /// Words before this position are whole records, with how long they took.
    end: AtomicU64,
}

/// Returns the number of the chunk that a position is in.
fn chunk_of(position: u64) -> u64 {
    position / CHUNK_WORDS as u64
}

fn offset_of(position: u64) -> usize {
    usize::try_from(position % CHUNK_WORDS as u64).unwrap_or(0)
}

impl Ring {
    /// Makes one for about so many octets, sixteen chunks at least: a batch of the longest records fits into a part of it.
    pub(super) fn new(bytes: usize) -> Self {
        let chunks = (bytes / (8 * CHUNK_WORDS) + 1).next_power_of_two().max(16);
        let chunks = (0..chunks).map(|_| OnceLock::new()).collect();
        Self { chunks, floor: AtomicU64::new(0), end: AtomicU64::new(0) }
    }

    fn chunk(&self, number: u64) -> &OnceLock<Chunk> {
        let mask = self.chunks.len() - 1;
        &self.chunks[usize::try_from(number).unwrap_or(0) & mask]
    }

    /// Returns where to read from in order to see only what comes from here on.
    pub(super) fn here(&self) -> Cursor {
        loop {
            let at = self.end.load(Ordering::Acquire);
            let Some(last) = at.checked_sub(1) else { return Cursor { at, number: 0 } };
            let stop = offset_of(last) + 1;
            // Written over within that moment, which may happen, but not often.
            if let Some(words) = self.copy(chunk_of(last), stop) {
                return Cursor { at, number: words[1] + count_records(&words) };
            }
        }
    }

    /// Tells whether there is something behind a cursor.
    pub(super) fn has_news(&self, cursor: &Cursor) -> bool {
        self.end.load(Ordering::SeqCst) > cursor.at
    }

    /// Tells whether there is anything in it.
    pub(super) fn is_written(&self) -> bool {
        self.end.load(Ordering::SeqCst) > 0
    }

    /// Hands out every record behind a cursor and moves it on; returns how many were written over before they were read.
    pub(super) fn read(&self, cursor: &mut Cursor, mut take: impl FnMut(&Remembered<'_>)) -> u64 {
        let end = self.end.load(Ordering::Acquire);
        let (mut lost, mut retries) = (0, 0);
        let mut batch = Batch::default();
        while cursor.at < end {
            let chunk = chunk_of(cursor.at);
            let stop = if chunk_of(end) == chunk { offset_of(end) } else { CHUNK_WORDS };
            if let Some(words) = self.copy(chunk, stop) {
                let from = offset_of(cursor.at).max(CHUNK_HEAD);
                cursor.number = batch.take_apart(&words, from, cursor.number, &mut take);
                cursor.at = end.min((chunk + 1) * CHUNK_WORDS as u64);
                continue;
            }
            // Written over; what of its batch had been read has no end, so it is lost as well.
            let unread = batch.first().unwrap_or(cursor.number);
            batch = Batch::default();
            retries += 1;
            *cursor = if retries <= MAX_RETRIES { self.oldest() } else { self.here() };
            lost += cursor.number.saturating_sub(unread);
            if retries > MAX_RETRIES {
                break;
            }
        }
        lost
    }

    /// Returns the beginning of the oldest chunk that is not being written over.
    pub(super) fn oldest(&self) -> Cursor {
        loop {
            let at = self.floor.load(Ordering::Acquire);
            if self.chunk(chunk_of(at)).get().is_none() {
                return Cursor { at, number: 0 };
            }
            // Written over within that moment, it would have another number.
            if let Some(words) = self.copy(chunk_of(at), CHUNK_HEAD) {
                return Cursor { at, number: words[1] };
            }
        }
    }

    /// Copies the first words of a chunk; `None` when it is being written over, or has been.
    fn copy(&self, number: u64, stop: usize) -> Option<Vec<u64>> {
        let chunk = self.chunk(number).get()?;
        let words = chunk[..stop.max(CHUNK_HEAD)].iter().map(|word| word.load(Ordering::Relaxed)).collect();
        fence(Ordering::Acquire);
        (self.floor.load(Ordering::Relaxed) <= number * CHUNK_WORDS as u64).then_some(words)
    }
}

/// How far somebody has read.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    at: u64,
    /// The number of the record there.
    number: u64,
}

/// A record as it lies in the ring.
#[derive(Debug)]
pub(super) struct Remembered<'a> {
    pub(super) number: u64,
    pub(super) at: Tick,
    pub(super) took: Duration,
    pub(super) cell: Cell,
    pub(super) view: Tag,
    pub(super) by: Tag,
    pub(super) client: SocketAddr,
    /// The beginning of the answer.
    pub(super) answer: &'a [u8],
    pub(super) upstream: &'a [u8],
}

/// Records, with their numbers, whose batch has not ended.
#[derive(Default)]
struct Batch(Vec<(u64, Vec<u64>)>);

impl Batch {
    /// Returns the number of the first one.
    fn first(&self) -> Option<u64> {
        self.0.first().map(|(number, _)| *number)
    }

    /// Reads one chunk's words from an offset on, where the record of that number is; returns the number after the last.
    fn take_apart(
        &mut self,
        words: &[u64],
        mut from: usize,
        mut number: u64,
        take: &mut impl FnMut(&Remembered<'_>),
    ) -> u64 {
        while let Some(&word) = words.get(from) {
            match word & KIND_MASK {
                KIND_RECORD => {
                    let length = record_words(word);
                    let Some(record) = words.get(from..from + length) else { break };
                    self.0.push((number, record.to_vec()));
                    number += 1;
                    from += length;
                }
                KIND_TOOK => {
                    let took = Duration::from_nanos(word >> KIND_BITS);
                    self.0.drain(..).for_each(|(number, words)| hand_out(number, took, &words, take));
                    from += 1;
                }
                _ => break,
            }
        }
        number
    }
}

/// Counts the records of a chunk.
fn count_records(words: &[u64]) -> u64 {
    let (mut at, mut count) = (CHUNK_HEAD, 0);
    while let Some(word) = words.get(at).filter(|word| **word != 0) {
        let is_record = word & KIND_MASK == KIND_RECORD;
        at += if is_record { record_words(*word) } else { 1 };
        count += u64::from(is_record);
    }
    count
}

fn lengths(word: u64) -> (usize, usize) {
    let part = |shift: u32, end: u32| usize::try_from(word >> shift & ((1 << (end - shift)) - 1)).unwrap_or(0);
    (part(ANSWER_SHIFT, LABEL_SHIFT), part(LABEL_SHIFT, TICK_SHIFT))
}

fn record_words(word: u64) -> usize {
    let (answer, label) = lengths(word);
    RECORD_HEAD + answer.div_ceil(8) + label.div_ceil(8)
}

fn hand_out(number: u64, took: Duration, words: &[u64], take: &mut impl FnMut(&Remembered<'_>)) {
    let (answer_bytes, label_bytes) = lengths(words[0]);
    let (answer, label) = words[RECORD_HEAD..].split_at(answer_bytes.div_ceil(8));
    let (answer, label) = (octets(answer, answer_bytes), octets(label, label_bytes));
    let [port, by, view, cell] = halves(words[1]);
    let tag = |number: u16| Tag::new(usize::from(number)).unwrap_or_default();
    let client = match (words[2], words[3]) {
        (high, _) if high & V4 == V4 => {
            IpAddr::from(Ipv4Addr::from(u32::try_from(high & u64::from(u32::MAX)).unwrap_or(0)))
        }
        (high, low) => IpAddr::from(Ipv6Addr::from(u128::from(high) << 64 | u128::from(low))),
    };
    take(&Remembered {
        number,
        at: Tick(words[0] >> TICK_SHIFT),
        took,
        cell: Cell::from_number(cell),
        view: tag(view),
        by: tag(by),
        client: SocketAddr::new(client, port),
        answer: &answer,
        upstream: &label,
    });
}

/// Takes a word apart, the lowest quarter first.
fn halves(word: u64) -> [u16; 4] {
    let bytes = word.to_le_bytes();
    [0, 2, 4, 6].map(|at| u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// Copies octets out of their words; the last word holds the last eight of them, so it may repeat some.
fn octets(words: &[u64], count: usize) -> Vec<u8> {
    let (whole, rest) = (count / 8, count % 8);
    let mut bytes: Vec<u8> = words[..whole].iter().flat_map(|word| word.to_ne_bytes()).collect();
    if let Some(last) = words.get(whole).filter(|_| rest > 0) {
        bytes.extend_from_slice(&last.to_ne_bytes()[8 - rest..]);
    }
    bytes
}

/// Copies octets into words; fewer than eight are left-padded, else the last word overlaps the one before.
fn fill(words: &[AtomicU64], octets: &[u8]) {
    let (whole, rest) = octets.as_chunks::<8>();
    for (word, eight) in words.iter().zip(whole) {
        word.store(u64::from_ne_bytes(*eight), Ordering::Relaxed);
    }
    if let Some(word) = words.get(whole.len()) {
        let last = octets.last_chunk::<8>().copied().unwrap_or_else(|| {
            let mut padded = [0; 8];
            padded[8 - rest.len()..].copy_from_slice(rest);
            padded
        });
        word.store(u64::from_ne_bytes(last), Ordering::Relaxed);
    }
}

/// The one who writes a ring.
#[derive(Debug)]
pub(super) struct Writer {
    ring: Arc<Ring>,
    /// Where the next record goes.
    next: StdCell<u64>,
    /// Its number.
    number: StdCell<u64>,
}

impl Writer {
    pub(super) fn new(ring: Arc<Ring>) -> Self {
        Self { ring, next: StdCell::new(0), number: StdCell::new(0) }
    }

    /// Adds a record, which nobody sees before [`Writer::publish`].
    pub(super) fn push(
        &self,
        cell: Cell,
        decided: Decided,
        client: SocketAddr,
        now: Tick,
        answer: &[u8],
        label: &[u8],
    ) {
        let answer = &answer[..answer.len().min(MAX_ANSWER_BYTES)];
        let label = &label[..label.len().min(MAX_LABEL_BYTES)];
        let answer_words = answer.len().div_ceil(8);
        let length = RECORD_HEAD + answer_words + label.len().div_ceil(8);
        let Some(words) = self.room(length) else { return };
        let (head, rest) = words.split_at(RECORD_HEAD);
        let (high, low) = match client.ip() {
            IpAddr::V4(address) => (V4 | u64::from(address.to_bits()), 0),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                (u64::try_from(bits >> 64).unwrap_or(0), u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0))
            }
        };
        let whose = u64::from(cell.number()) << 48
            | u64::from(decided.view.number()) << 32
            | u64::from(decided.by.number()) << 16
            | u64::from(client.port());
        let first = KIND_RECORD
            | u64::try_from(answer.len()).unwrap_or(0) << ANSWER_SHIFT
            | u64::try_from(label.len()).unwrap_or(0) << LABEL_SHIFT
            | now.0 << TICK_SHIFT;
        for (word, value) in head.iter().zip([first, whose, high, low]) {
            word.store(value, Ordering::Relaxed);
        }
        fill(&rest[..answer_words], answer);
        if !label.is_empty() {
            fill(&rest[answer_words..], label);
        }
        self.number.set(self.number.get() + 1);
    }

    /// Lets the records since the last time be seen: they took so long.
    pub(super) fn publish(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX >> KIND_BITS).min(u64::MAX >> KIND_BITS);
        if let Some(words) = self.room(1) {
            words[0].store(nanos << KIND_BITS | KIND_TOOK, Ordering::Relaxed);
        }
        self.ring.end.store(self.next.get(), Ordering::Release);
    }

    /// Returns the next so many words, in a new chunk when this one has not so many left.
    #[inline]
    fn room(&self, length: usize) -> Option<&[AtomicU64]> {
        let mut next = self.next.get();
        let offset = offset_of(next);
        if offset == 0 || offset + length > CHUNK_WORDS {
            next = self.begin_chunk(next);
        }
        self.next.set(next + length as u64);
        let offset = offset_of(next);
        self.ring.chunk(chunk_of(next)).get()?.get(offset..offset + length)
    }

    /// Ends the chunk at a position and begins the next one; returns where its first record goes.
    #[cold]
    fn begin_chunk(&self, position: u64) -> u64 {
        let ring = &*self.ring;
        let offset = offset_of(position);
        if offset > 0
            && let Some(chunk) = ring.chunk(chunk_of(position)).get()
        {
            chunk[offset].store(0, Ordering::Relaxed);
        }
        let number = chunk_of(position) + u64::from(offset > 0);
        let start = number * CHUNK_WORDS as u64;
        let all = (ring.chunks.len() * CHUNK_WORDS) as u64;
        ring.floor.store((start + CHUNK_WORDS as u64).saturating_sub(all), Ordering::Relaxed);
        // Whoever reads a word stored after this also sees the floor.
        fence(Ordering::Release);
        let chunk = ring.chunk(number).get_or_init(|| Box::new([const { AtomicU64::new(0) }; CHUNK_WORDS]));
        chunk[0].store(number, Ordering::Relaxed);
        chunk[1].store(self.number.get(), Ordering::Relaxed);
        start + CHUNK_HEAD as u64
    }
}
