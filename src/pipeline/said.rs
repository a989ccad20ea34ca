//! What upstreams said about the questions that were asked last: each reply, or why there was none, and what the guard made of it.
//!
//! Kept for whoever wants to know afterwards why an answer is what it is: the cache has the answer, this has what led to it. One
//! record for each question each time it went to upstreams, of which the last one counts; a chain of aliases that is asked name by
//! name has one for each name. Whatever the cache answers adds nothing; what is flushed from the cache goes here too. At a bound
//! the record made longest ago goes. Told the time; asks nobody.
//!
//! Every question that goes to upstreams pays for its record and hardly anybody reads one: so they are only put in line, as octets
//! (`said/packed.rs`), and looked for from the end.

mod packed;

use crate::clock::Tick;
use crate::config::{UpstreamTransport, ViewId};
use crate::dns::QuestionKey;
use crate::upstream::{Failure, Reply};
use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Records kept: what a machine asks in an hour. With 250 octets of a usual one, a megabyte.
const MAX_RECORDS: usize = 4096;
/// Octets of all of them; one reply may have 65,535.
const MAX_BYTES: usize = 2 << 20;
/// Octets of records that come and go together; one that is longer stands alone.
const CHUNK_BYTES: usize = 16 << 10;
/// Replies of one record: those of the route's group, of two references, and second ones.
const MAX_REPLIES: usize = 16;

/// A reply that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The label of the upstream.
    pub server: Arc<str>,
    /// How it came.
    pub transport: UpstreamTransport,
    /// How long it took.
    pub rtt: Duration,
    /// The message.
    pub message: Vec<u8>,
}

impl From<Reply> for Said {
    fn from(reply: Reply) -> Self {
        let Reply { message, server, transport, rtt, .. } = reply;
        Self { server, transport, rtt, message }
    }
}

impl From<&Reply> for Said {
    fn from(reply: &Reply) -> Self {
        let message = reply.message.clone();
        Self { server: Arc::clone(&reply.server), transport: reply.transport, rtt: reply.rtt, message }
    }
}

/// What an address has shown by TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The address.
    pub address: IpAddr,
    /// What it has shown, in a word or two.
    pub shown: String,
    /// The same in a sentence.
    pub told: String,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} shows {}", self.address, self.told)
    }
}

/// What the guard made of the replies, in the words of its line in a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The verdict, and what went out.
    pub decided: String,
    /// The signs.
    pub because: String,
    /// What addresses have shown.
    pub proofs: Vec<Shown>,
}

/// What came of asking one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it was asked.
    pub at: Tick,
    /// The replies, the one that was judged or used first.
    pub said: Vec<Said>,
    /// The verdict, where the name is guarded or watched.
    pub found: Option<Found>,
    /// What became of every upstream, when none had an answer.
    pub failure: Option<String>,
}

impl Record {
    /// A record of one reply that nobody judged.
    #[must_use]
    pub fn of(reply: Reply, at: Tick) -> Self {
        Self { at, said: vec![reply.into()], found: None, failure: None }
    }

    /// A record of replies that were judged.
    pub fn judged<'a>(replies: impl Iterator<Item = &'a Reply>, found: Found, at: Tick) -> Self {
        let said = replies.take(MAX_REPLIES).map(Said::from).collect();
        Self { at, said, found: Some(found), failure: None }
    }

    /// A record of no answer.
    #[must_use]
    pub fn failed(failure: &Failure, at: Tick) -> Self {
        let said = failure.best.iter().map(Said::from).collect();
        Self { at, said, found: None, failure: Some(failure.summary.clone()) }
    }
}

/// The records there are, the latest last.
#[derive(Debug, Default)]
pub struct Records {
    chunks: VecDeque<Chunk>,
    count: usize,
    bytes: usize,
    /// The memory of the chunk that went last, for the next one.
    spare: Vec<u8>,
}

#[derive(Debug, Default)]
struct Chunk {
    octets: Vec<u8>,
    count: usize,
}

impl Records {
    /// Keeps a record, which counts in place of those before.
    pub fn keep(&mut self, view: ViewId, question: &QuestionKey, record: &Record) {
        if self.chunks.back().is_none_or(|last| last.octets.len() >= CHUNK_BYTES) {
            self.chunks.push_back(Chunk { octets: std::mem::take(&mut self.spare), count: 0 });
        }
        let Some(last) = self.chunks.back_mut() else { return };
        let before = last.octets.len();
        packed::write(&mut last.octets, view, question, record);
        last.count += 1;
        self.bytes += last.octets.len() - before;
        self.count += 1;
        while self.count > MAX_RECORDS || self.bytes > MAX_BYTES {
            let Some(mut oldest) = self.chunks.pop_front() else { return };
            self.count -= oldest.count;
            self.bytes -= oldest.octets.len();
            oldest.octets.clear();
            // One that held a record of the longest replies is given back.
            if oldest.octets.capacity() <= 2 * CHUNK_BYTES {
                self.spare = oldest.octets;
            }
        }
    }

    /// Removes the records of the questions that are meant, in all views.
    pub fn forget(&mut self, is_meant: impl Fn(&QuestionKey) -> bool) {
        for chunk in &mut self.chunks {
            let mut left = Chunk::default();
            for packed in packed::each(&chunk.octets) {
                if packed.question().is_some_and(|(_, question)| !is_meant(&question)) {
                    packed.copy_to(&mut left.octets);
                    left.count += 1;
                }
            }
            *chunk = left;
        }
        self.chunks.retain(|chunk| chunk.count > 0);
        self.count = self.chunks.iter().map(|chunk| chunk.count).sum();
        self.bytes = self.chunks.iter().map(|chunk| chunk.octets.len()).sum();
    }

    /// Returns what was said about a question when it was asked last.
    #[must_use]
    pub fn get(&self, view: ViewId, question: &QuestionKey) -> Option<Record> {
        let last =
            |chunk: &Chunk| packed::each(&chunk.octets).filter(|of| of.is_about(view, question)).last()?.record();
        self.chunks.iter().rev().find_map(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::GroupId;
    use crate::dns::{Name, Rtype};

    fn question(n: usize) -> QuestionKey {
        let qname = Name::parse(&format!("n{n}.example")).unwrap();
        QuestionKey { qname, qtype: Rtype::A, dnssec_ok: false, checking_disabled: false }
    }

    fn record(bytes: usize) -> Record {
        let (transport, rtt) = (UpstreamTransport::Udp, Duration::ZERO);
        let said = Said { server: "g/1".into(), transport, rtt, message: vec![0; bytes] };
        Record { at: Tick(0), said: vec![said], found: None, failure: None }
    }

    #[test]
    fn records_are_bounded_in_number_and_octets() {
        let reply = Reply {
            message: vec![0; 12],
            server: "g/1".into(),
            address: ([127, 0, 0, 1], 53).into(),
            operator: "g".into(),
            is_private: true,
            transport: UpstreamTransport::Udp,
            rtt: Duration::ZERO,
            sends: 1,
            group: GroupId(0),
        };
        let found = Found { decided: String::new(), because: String::new(), proofs: Vec::new() };
        let many = Record::judged(std::iter::repeat_n(&reply, MAX_REPLIES + 9), found, Tick(0));
        assert_eq!(many.said.len(), MAX_REPLIES);
        let mut records = Records::default();
        for n in 0..=2 * MAX_RECORDS {
            records.keep(ViewId(0), &question(n), &record(1));
            assert!(records.count <= MAX_RECORDS && records.bytes <= MAX_BYTES);
        }
        // Those made longest ago go together, a chunk of them.
        assert!(records.count > MAX_RECORDS * 9 / 10, "{}", records.count);
        let oldest = 2 * MAX_RECORDS + 1 - records.count;
        assert!(records.get(ViewId(0), &question(oldest - 1)).is_none());
        assert!((oldest..=2 * MAX_RECORDS).all(|n| records.get(ViewId(0), &question(n)).is_some()));
        for n in 0..100 {
            records.keep(ViewId(0), &question(n), &record(65_535));
            assert!(records.count <= MAX_RECORDS && records.bytes <= MAX_BYTES);
        }
        assert_eq!(records.count, MAX_BYTES / 65_600);
        let longest = Record { said: vec![record(65_535).said.remove(0); MAX_REPLIES], ..record(0) };
        for n in 0..3 {
            records.keep(ViewId(0), &question(n), &longest);
            assert_eq!(records.get(ViewId(0), &question(n)).as_ref(), Some(&longest));
        }
        assert!(records.bytes <= MAX_BYTES);
        // What they took is given back, and so is what was flushed.
        for n in 0..2 * MAX_RECORDS {
            records.keep(ViewId(0), &question(n), &record(100));
        }
        let all = records.chunks.iter().map(|chunk| chunk.octets.capacity()).sum::<usize>();
        assert!(all + records.spare.capacity() <= 2 * MAX_BYTES, "{all}");
        records.forget(|_| true);
        assert!(records.chunks.is_empty() && (records.count, records.bytes) == (0, 0));
    }

    #[test]
    fn views_have_records_of_their_own_and_the_last_one_counts() {
        let mut records = Records::default();
        records.keep(ViewId(0), &question(1), &record(1));
        records.keep(ViewId(0), &question(1), &record(7));
        assert_eq!(records.get(ViewId(0), &question(1)), Some(record(7)));
        assert_eq!(records.get(ViewId(1), &question(1)), None);
    }

    #[test]
    fn what_is_meant_is_forgotten_in_every_view() {
        let mut records = Records::default();
        for view in [ViewId(0), ViewId(1)] {
            records.keep(view, &question(1), &record(3));
            records.keep(view, &question(2), &record(5));
        }
        let before = records.bytes;
        records.forget(|of| *of == question(1));
        let left = |n| [0, 1].map(|view| records.get(ViewId(view), &question(n)).is_some());
        assert_eq!((left(1), left(2), records.count), ([false; 2], [true; 2], 2));
        assert_eq!(records.bytes, before / 2 + 2, "two octets longer each than those that went");
        // What comes after that is kept as before.
        records.keep(ViewId(0), &question(1), &record(9));
        assert_eq!(records.get(ViewId(0), &question(1)), Some(record(9)));
    }
}
