//! Bytes to and from one upstream: the query as it is sent, whether a datagram belongs to it, and what a reply says.
//!
//! Pure. A datagram is believed only when everything known about the question matches (RFC 5452 section 9): id, QR,
//! opcode, exactly one question, its whole name with the letter case that was sent (0x20), type and class; source
//! address and port are matched by the connected socket it arrives on.

use crate::dns::wire::{self, HEADER_BYTES, Message, Section, flag, u16_at};
use crate::dns::{QuestionKey, Rcode, Rtype, encode, name};
use std::fmt;

/// UDP payload announced to upstreams: what fits an IPv6 path without fragments (DNS flag day 2020).
pub(super) const UPSTREAM_PAYLOAD_BYTES: u16 = 1232;

/// Queries over encrypted transports are padded to a multiple of this (RFC 8467 section 4.1).
const PADDING_BLOCK_BYTES: usize = 128;

/// How a query is written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shape {
    /// With an OPT record.
    pub(super) edns: bool,
    /// In random letter case, which the reply must repeat.
    pub(super) mixed_case: bool,
    /// As long as others: what can be read of an encrypted message is its length. Only with EDNS.
    pub(super) padded: bool,
}

/// A query as it lies on the wire.
#[derive(Debug)]
pub(super) struct Sent {
    /// The message, id and mixed letter case included.
    pub(super) bytes: Vec<u8>,
    /// Offset behind the question.
    question_end: usize,
    /// An OPT record is in it.
    pub(super) edns: bool,
    /// The letter case was mixed, and the reply must have it the same.
    pub(super) mixed_case: bool,
}

impl Sent {
    /// Writes the query with a fresh random id.
    pub(super) fn new(question: &QuestionKey, shape: Shape) -> Self {
        let Shape { edns, mixed_case, padded } = shape;
        let id = rand::random::<u16>();
        let mut bytes = encode::upstream_query(question, id, edns.then_some(UPSTREAM_PAYLOAD_BYTES));
        if edns && padded {
            encode::pad(&mut bytes, PADDING_BLOCK_BYTES);
        }
        let name_end = HEADER_BYTES + question.qname.as_wire().len();
        if mixed_case {
            mix_case(&mut bytes[HEADER_BYTES..name_end]);
        }
        Self { bytes, question_end: name_end + 4, edns, mixed_case }
    }

    /// Returns the id.
    pub(super) fn id(&self) -> u16 {
        u16_at(&self.bytes, 0).unwrap_or(0)
    }

    /// Tells how a received message stands to this query.
    pub(super) fn matches(&self, received: &[u8]) -> Match {
        let Some(flags) = u16_at(received, 2).filter(|_| received.len() >= HEADER_BYTES) else { return Match::Foreign };
        if u16_at(received, 0) != Some(self.id()) || flags & flag::QR == 0 || wire::opcode(flags) != 0 {
            return Match::Foreign;
        }
        // Servers that cannot read EDNS may return the bare header (RFC 6891 section 7 expects FORMERR).
        let rcode = Rcode(flags & 0x000f);
        if u16_at(received, 4) == Some(0) && received.len() == HEADER_BYTES {
            let refuses_edns = self.edns && matches!(rcode, Rcode::FORMERR | Rcode::NOTIMP);
            return if refuses_edns { Match::BareRefusal } else { Match::Foreign };
        }
        // One question must be promised: else the first answer record's bytes could pass for it.
        let ours = &self.bytes[HEADER_BYTES..self.question_end];
        let theirs = received.get(HEADER_BYTES..self.question_end).filter(|_| u16_at(received, 4) == Some(1));
        match theirs {
            Some(theirs) if theirs == ours => Match::Exact,
            // The length octets of labels are below 'A', so comparing without case compares them exactly.
            Some(theirs) if theirs.eq_ignore_ascii_case(ours) => {
                // Type and class are numbers: their octets must not be folded.
                let tail = ours.len() - 4;
                match (theirs[tail..] == ours[tail..], self.mixed_case) {
                    (false, _) => Match::Foreign,
                    (true, true) => Match::OtherCase,
                    (true, false) => Match::Exact,
                }
            }
            _ => Match::Foreign,
        }
    }

    /// Turns a matched reply into what the rest of the program sees: id 0, the question in lower case.
    pub(super) fn normalize(&self, received: &mut [u8]) {
        received[..2].copy_from_slice(&[0, 0]);
        received[HEADER_BYTES..self.question_end - 4].make_ascii_lowercase();
    }
}

/// How a received message stands to a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// It is the reply.
    Exact,
    /// All is right but the letter case: a server that does not keep it, or a forger that cannot know it.
    OtherCase,
    /// A bare header with FORMERR or NOTIMP to a query with EDNS.
    BareRefusal,
    /// It belongs to something else.
    Foreign,
}

/// Flips letters at random (draft-vixie-dnsext-dns0x20).
fn mix_case(name: &mut [u8]) {
    let mut bits = 0_u64;
    let mut left = 0;
    for octet in name.iter_mut().filter(|octet| octet.is_ascii_alphabetic()) {
        if left == 0 {
            bits = rand::random();
            left = u64::BITS;
        }
        *octet = if bits & 1 == 0 { octet.to_ascii_lowercase() } else { octet.to_ascii_uppercase() };
        bits >>= 1;
        left -= 1;
    }
}

/// Why a reply is no answer; the next server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Poor {
    /// SERVFAIL, REFUSED, NOTIMP and other codes that are neither NOERROR nor NXDOMAIN.
    Code(Rcode),
    /// NOERROR without answer and without SOA (RFC 2308 section 2.2): nothing says that there is nothing. So is one with
    /// records of other names only.
    Empty,
    /// NOERROR without answer but with NS: the server refers to others instead of recursing.
    Referral,
    /// Matched, but its records cannot be read.
    Malformed,
}

impl fmt::Display for Poor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(rcode) => write!(f, "{rcode}"),
            Self::Empty => f.write_str("empty, without SOA"),
            Self::Referral => f.write_str("a referral"),
            Self::Malformed => f.write_str("malformed"),
        }
    }
}

/// What a matched reply amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// An answer: data, NODATA or NXDOMAIN.
    Good,
    /// Cut: ask again over TCP.
    Truncated,
    /// No answer.
    Poor(Poor),
}

/// Judges a matched reply.
pub(super) fn weigh(message: &Message<'_>) -> Worth {
    if message.has(flag::TC) {
        return Worth::Truncated;
    }
    if message.validate().is_err() {
        return Worth::Poor(Poor::Malformed);
    }
    match message.extended_rcode() {
        Rcode::NXDOMAIN => Worth::Good,
        Rcode::NOERROR if is_about_question(message) => Worth::Good,
        Rcode::NOERROR => {
            let has = |rtype| message.section(Section::Authority).any(|record| record.rtype == rtype);
            if has(Rtype::SOA) {
                Worth::Good
            } else if has(Rtype::NS) {
                Worth::Poor(Poor::Referral)
            } else {
                Worth::Poor(Poor::Empty)
            }
        }
        other => Worth::Poor(Poor::Code(other)),
    }
}

/// Tells whether an answer record is about the name asked: its own, or a DNAME above it (RFC 6672 section 3.1).
fn is_about_question(message: &Message<'_>) -> bool {
    message.section(Section::Answer).any(|at| {
        message.owner(&at).is_ok_and(|owner| match at.rtype {
            Rtype::DNAME => name::is_at_or_below(message.qname(), owner.as_wire()),
            _ => owner.as_wire().eq_ignore_ascii_case(message.qname()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Name;
    use proptest::prelude::*;

    fn question(text: &str) -> QuestionKey {
        let qname = Name::parse(text).unwrap().to_lower();
        QuestionKey { qname, qtype: Rtype::A, dnssec_ok: false, checking_disabled: false }
    }

    fn shape(edns: bool, mixed_case: bool) -> Shape {
        Shape { edns, mixed_case, padded: false }
    }

    fn reply_to(sent: &Sent) -> Vec<u8> {
        let mut reply = sent.bytes.clone();
        reply[2] |= 0x80;
        reply
    }

    #[test]
    fn only_the_whole_question_matches() {
        let sent = Sent::new(&question("a-long-enough-name.example.org"), shape(true, true));
        let good = reply_to(&sent);
        assert_eq!(sent.matches(&good), Match::Exact);
        let mut query = good.clone();
        query[2] &= 0x7f;
        assert_eq!(sent.matches(&query), Match::Foreign);
        let mut id = good.clone();
        id[1] ^= 1;
        assert_eq!(sent.matches(&id), Match::Foreign);
        let mut none = good.clone();
        none[5] = 0;
        assert_eq!(sent.matches(&none), Match::Foreign);
        let mut opcode = good.clone();
        opcode[2] |= 0x28;
        assert_eq!(sent.matches(&opcode), Match::Foreign);
        let mut name = good.clone();
        name[HEADER_BYTES + 1] = b'b';
        assert_eq!(sent.matches(&name), Match::Foreign);
        let mut qtype = good.clone();
        // 'A' is 65 and 'a' is 97: a type whose low octet differs in that bit only.
        qtype[sent.question_end - 3] ^= 0x20;
        assert_eq!(sent.matches(&qtype), Match::Foreign);
        assert_eq!(sent.matches(&good[..11]), Match::Foreign);
        assert_eq!(sent.matches(&good[..20]), Match::Foreign);
    }

    #[test]
    fn letter_case_counts_only_when_it_was_mixed() {
        let mut mixed = Sent::new(&question("abcdefgh.example.org"), shape(true, true));
        mixed.bytes[HEADER_BYTES + 1] = b'A';
        let mut reply = reply_to(&mixed);
        reply[HEADER_BYTES + 1] = b'a';
        assert_eq!(mixed.matches(&reply), Match::OtherCase);
        let plain = Sent::new(&question("abcdefgh.example.org"), shape(true, false));
        let mut reply = reply_to(&plain);
        reply[HEADER_BYTES + 1] = b'A';
        assert_eq!(plain.matches(&reply), Match::Exact);
        plain.normalize(&mut reply);
        assert_eq!(&reply[..2], &[0, 0]);
        assert_eq!(&reply[HEADER_BYTES..plain.question_end - 4], b"\x08abcdefgh\x07example\x03org\x00");
    }

    #[test]
    fn a_bare_formerr_speaks_about_edns_only() {
        let edns = Sent::new(&question("example.org"), shape(true, true));
        let mut bare = edns.bytes[..HEADER_BYTES].to_vec();
        bare[2..].copy_from_slice(&[0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(edns.matches(&bare), Match::BareRefusal);
        let mut plain = Sent::new(&question("example.org"), shape(false, true));
        plain.bytes[..2].copy_from_slice(&bare[..2]);
        assert_eq!(plain.matches(&bare), Match::Foreign);
        bare[3] = 0x82;
        assert_eq!(edns.matches(&bare), Match::Foreign);
    }

    #[test]
    fn padded_queries_are_all_as_long() {
        let padded = Shape { edns: true, mixed_case: false, padded: true };
        for (name, len) in [("a.test", 128), ("a-name-that-is-a-good-deal-longer.example.org", 128)] {
            let sent = Sent::new(&question(name), padded);
            assert_eq!(sent.bytes.len(), len, "{name}");
            let message = Message::parse(&sent.bytes).unwrap();
            let option = message.edns().unwrap().unwrap().option(12).expect("a padding option");
            assert!(option.iter().all(|octet| *octet == 0));
        }
        let label = "x".repeat(60);
        let long = Sent::new(&question(&format!("{label}.{label}.example")), padded);
        assert_eq!(long.bytes.len(), 256);
    }

    #[test]
    fn mixed_case_is_really_mixed() {
        let question = question("abcdefghijklmnopqrstuvwxyz.example.org");
        let cases: std::collections::HashSet<Vec<u8>> =
            (0..20).map(|_| Sent::new(&question, shape(false, true)).bytes[HEADER_BYTES..].to_vec()).collect();
        assert!(cases.len() > 15, "{}", cases.len());
    }

    proptest! {
        #[test]
        fn no_foreign_bytes_match_by_chance(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let sent = Sent::new(&question("www.example.org"), shape(true, true));
            prop_assert!(!matches!(sent.matches(&bytes), Match::Exact));
        }

        #[test]
        fn no_tail_makes_weighing_panic(tail in proptest::collection::vec(any::<u8>(), 0..200), counts in any::<[u8; 6]>()) {
            let sent = Sent::new(&question("www.example.org"), shape(false, true));
            let mut reply = reply_to(&sent);
            reply[6..12].copy_from_slice(&counts);
            reply.extend_from_slice(&tail);
            if let Ok(message) = Message::parse(&reply) {
                let _ = weigh(&message);
            }
        }
    }
}
