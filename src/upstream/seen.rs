//! What a question has met on its way, and what its failure is called when nothing of it was an answer.

use super::reply::Poor;
use super::servers::Server;
use super::{Failure, FailureKind, Reply};
use crate::dns::Rcode;
use std::fmt::Write as _;

/// Octets of a failure's summary.
const MAX_SUMMARY_BYTES: usize = 400;

/// What the question has met so far.
#[derive(Default)]
pub(super) struct Seen {
    best: Option<(u8, Reply)>,
    /// A group ran out of time.
    pub(super) silent: bool,
    /// A server could not be reached.
    pub(super) broken: bool,
    /// A server answered that it will not or cannot.
    pub(super) failed: bool,
    /// A reply was not acceptable.
    pub(super) rejected: bool,
    /// A server leads back to us.
    pub(super) looping: bool,
    summary: String,
}

/// Rank of an empty NOERROR among replies that are no answer.
const EMPTY_RANK: u8 = 4;

/// Ranks replies that are no answer by how much they tell the client; 0 is of no use to it.
pub(super) fn poor_rank(poor: Poor, reply: &Reply) -> u8 {
    match poor {
        Poor::Empty => EMPTY_RANK,
        Poor::Code(Rcode::SERVFAIL) if super::given_ede(&reply.message).is_some() => 3,
        Poor::Code(Rcode::SERVFAIL) => 2,
        Poor::Code(_) => 1,
        Poor::Referral | Poor::Malformed => 0,
    }
}

impl Seen {
    /// Keeps a reply when it tells more than the one kept.
    pub(super) fn keep(&mut self, rank: u8, reply: Reply) {
        if rank > self.best.as_ref().map_or(0, |(kept, _)| *kept) {
            self.best = Some((rank, reply));
        }
    }

    /// Adds what happened with a server to the summary.
    pub(super) fn tell(&mut self, server: &Server, outcome: &str) {
        if self.summary.len() < MAX_SUMMARY_BYTES {
            let comma = if self.summary.is_empty() { "" } else { ", " };
            let _ = write!(self.summary, "{comma}{}: {outcome}", server.info.label);
        }
    }

    /// Ends a question that has no answer, after `sends` queries.
    pub(super) fn conclude(self, sends: u32) -> Result<Reply, Box<Failure>> {
        let best = self.best.map(|(rank, reply)| (rank, Reply { sends, ..reply }));
        // When no server has anything but an empty NOERROR, that is what there is: some forwarders leave the SOA out
        // of every NODATA, and SERVFAIL in its place would break names that merely have no such record.
        match best {
            Some((EMPTY_RANK, reply)) if !self.rejected => return Ok(reply),
            _ => {}
        }
        let kind = if self.rejected {
            FailureKind::Filtered
        } else if self.failed {
            FailureKind::AllFailed
        } else if self.silent && sends > 0 {
            FailureKind::Timeout
        } else if self.broken {
            FailureKind::Network
        } else if self.looping {
            FailureKind::Loop
        } else if sends > 0 {
            FailureKind::Timeout
        } else {
            FailureKind::NoServers
        };
        let mut summary = self.summary;
        if summary.is_empty() {
            let _ = write!(summary, "{sends} queries sent, no reply");
        }
        Err(Box::new(Failure { kind, best: best.map(|(_, reply)| reply), summary, clock: None, floor: false }))
    }
}
