//! A piece of what one worker remembers: some answers, with their octets and when they were.

use super::histogram::nanoseconds;
use super::noted::{Batch, Noted};
use crate::clock::Tick;
use std::time::Duration;

/// Answers of a chunk: two full batches of datagrams.
pub(super) const CHUNK_RECORDS: usize = 128;
/// Octets planned for an answer: a name of 30, two addresses and OPT.
const PLANNED_ANSWER_BYTES: usize = 96;
/// Octets of answers and of upstreams' labels in a chunk.
const CHUNK_BYTES: usize = CHUNK_RECORDS * PLANNED_ANSWER_BYTES;
/// Octets kept of an answer: the question and some twenty addresses; a longer one is cut.
pub(super) const MAX_ANSWER_BYTES: usize = 512;
/// Octets kept of an upstream's label.
pub(super) const MAX_LABEL_BYTES: usize = 128;

const _: () = assert!(MAX_ANSWER_BYTES + u8::MAX as usize + MAX_LABEL_BYTES <= CHUNK_BYTES);

/// So many answers at most. Takes memory when it is first written.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunk {
    /// Which one it is, counted from 1; 0 as long as it is none.
    number: u64,
    /// The number of its first answer.
    first: u64,
    noted: Vec<Noted>,
    octets: Vec<u8>,
    heads: Vec<Head>,
}

/// What the answers of a batch have in common.
#[derive(Debug, Clone, Copy)]
struct Head {
    at: Tick,
    took_ns: u64,
    /// How many they are.
    count: u32,
    prefix_bytes: u8,
    /// Octets of the upstream's label, which stands behind the answers.
    label_bytes: u8,
}

/// An answer as it is remembered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remembered<'a> {
    pub(super) number: u64,
    pub(super) at: Tick,
    pub(super) took: Duration,
    pub(super) noted: &'a Noted,
    /// The beginning of its octets.
    pub(super) answer: &'a [u8],
    pub(super) upstream: &'a [u8],
}

impl Chunk {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Returns the number of its first answer.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the number that its next answer has.
    pub(super) fn next(&self) -> u64 {
        self.first + self.noted.len() as u64
    }

    /// Becomes another one, which is empty.
    pub(super) fn begin(&mut self, number: u64, first: u64) {
        (self.number, self.first) = (number, first);
        self.noted.clear();
        self.octets.clear();
        self.heads.clear();
        // Of the first time, all at once: so that no more is ever taken.
        self.noted.reserve_exact(CHUNK_RECORDS);
        self.octets.reserve_exact(CHUNK_BYTES);
    }

    /// Moves answers in as far as there is room. None of them may be longer than [`MAX_ANSWER_BYTES`] and its prefix, no
    /// label longer than [`MAX_LABEL_BYTES`]: an empty chunk takes one at least.
    pub(super) fn take(&mut self, batch: &mut Batch<'_>) {
        let (mut count, mut bytes) = (batch.noted.len(), batch.octets.len());
        let room = CHUNK_BYTES.saturating_sub(self.octets.len() + batch.upstream.len());
        if self.noted.len() + count > CHUNK_RECORDS || bytes > room {
            (count, bytes) = fitting(batch.noted, CHUNK_RECORDS - self.noted.len(), room);
        }
        if count == 0 {
            return;
        }
        let (noted, rest) = batch.noted.split_at(count);
        let (octets, later) = batch.octets.split_at(bytes.min(batch.octets.len()));
        (batch.noted, batch.octets) = (rest, later);
        self.noted.extend_from_slice(noted);
        self.octets.extend_from_slice(octets);
        self.octets.extend_from_slice(batch.upstream.as_bytes());
        let &mut Batch { at, took, prefix_bytes, upstream, .. } = batch;
        let (count, label_bytes) = (u32::try_from(count).unwrap_or(0), u8::try_from(upstream.len()).unwrap_or(0));
        self.heads.push(Head { at, took_ns: nanoseconds(took), count, prefix_bytes, label_bytes });
    }

    /// Returns all of them, the oldest first.
    pub(super) fn records(&self) -> Vec<Remembered<'_>> {
        let mut records = Vec::with_capacity(self.noted.len());
        let (mut noted, mut octets) = (&*self.noted, &*self.octets);
        for head in &self.heads {
            let (of_batch, later) = noted.split_at(usize::try_from(head.count).unwrap_or(0).min(noted.len()));
            let bytes: usize = of_batch.iter().map(Noted::bytes).sum();
            let (mut answers, rest) = octets.split_at(bytes.min(octets.len()));
            let (upstream, rest) = rest.split_at(usize::from(head.label_bytes).min(rest.len()));
            for noted in of_batch {
                let (answer, others) = answers.split_at(noted.bytes().min(answers.len()));
                answers = others;
                records.push(Remembered {
                    number: self.first + records.len() as u64,
                    at: head.at,
                    took: Duration::from_nanos(head.took_ns),
                    noted,
                    answer: answer.get(usize::from(head.prefix_bytes)..).unwrap_or_default(),
                    upstream,
                });
            }
            (noted, octets) = (later, rest);
        }
        records
    }
}

/// Counts the first answers that so many records and octets have room for, and their octets.
#[cold]
fn fitting(noted: &[Noted], records: usize, room: usize) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    for noted in noted.iter().take(records) {
        if bytes + noted.bytes() > room {
            break;
        }
        count += 1;
        bytes += noted.bytes();
    }
    (count, bytes)
}
