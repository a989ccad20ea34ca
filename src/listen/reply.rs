//! The few answers that listeners give themselves: refusals and failures without records.

use crate::dns::answer::ede;
use crate::dns::encode::{self, ClientShape, MAX_MESSAGE_BYTES};
use crate::dns::wire::{HEADER_BYTES, PLAIN_UDP_BYTES, ParsedQuery, flag, u16_at};
use crate::dns::{Query, Rcode, Rtype, Transport};

/// Octets of header and the longest question (RFC 1035 section 2.3.4).
const MAX_EMPTY_BYTES: usize = HEADER_BYTES + 255 + 4;

/// Why a question is answered here instead of by the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The access list does not name the client.
    NotAllowed,
    /// As many questions as may be are being worked on.
    Full,
    /// Others were waiting for its place, and it took long.
    GaveWay,
    /// The daemon is stopping and this question took too long.
    Stopping,
    /// The work on this question panicked.
    Panicked,
}

impl Reason {
    pub(super) fn rcode(self) -> Rcode {
        match self {
            Self::NotAllowed => Rcode::REFUSED,
            Self::Full | Self::GaveWay | Self::Stopping | Self::Panicked => Rcode::SERVFAIL,
        }
    }

    fn extended_error(self) -> (u16, &'static str) {
        match self {
            Self::NotAllowed => (ede::PROHIBITED, "this client may not ask"),
            Self::Full => (ede::NOT_READY, "too many questions in work"),
            Self::GaveWay => (ede::NOT_READY, "too many questions in work; this one was slow"),
            Self::Stopping => (ede::NOT_READY, "stopping"),
            Self::Panicked => (ede::OTHER, "internal error"),
        }
    }
}

/// Writes those answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replies {
    /// Our own limit for datagrams.
    pub(super) udp_payload_bytes: u16,
    /// Whether they carry extended errors.
    pub(super) extended_errors: bool,
}

impl Replies {
    /// Appends the answer to a question that still lies in its buffer. Allocates nothing.
    pub(super) fn to_parsed(self, out: &mut Vec<u8>, parsed: &ParsedQuery<'_>, transport: Transport, why: Reason) {
        let message = &parsed.message;
        let shape = ClientShape {
            id: message.id(),
            flags: u16_at(message.bytes(), 2).unwrap_or(0),
            qname: message.qname(),
            edns: parsed.edns.is_some(),
            dnssec_ok: parsed.dnssec_ok(),
            limit_bytes: match transport {
                Transport::Udp => usize::from(parsed.payload_bytes().min(self.udp_payload_bytes).max(PLAIN_UDP_BYTES)),
                Transport::Tcp => MAX_MESSAGE_BYTES,
            },
            our_payload_bytes: self.udp_payload_bytes,
        };
        self.write(out, &shape, message.qtype(), message.qclass(), why);
    }

    /// Makes the answer to a question that was copied out of its buffer.
    pub(super) fn to_query(self, query: &Query, why: Reason) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_EMPTY_BYTES);
        let shape = ClientShape::of(query, self.udp_payload_bytes);
        self.write(&mut out, &shape, query.qtype, query.qclass, why);
        out
    }

    fn write(self, out: &mut Vec<u8>, shape: &ClientShape<'_>, qtype: Rtype, qclass: u16, why: Reason) {
        let mut message = [0; MAX_EMPTY_BYTES];
        let qname_end = HEADER_BYTES + shape.qname.len();
        let flags = flag::QR | flag::RA | why.rcode().0;
        message[2..4].copy_from_slice(&flags.to_be_bytes());
        message[5] = 1;
        message[HEADER_BYTES..qname_end].copy_from_slice(shape.qname);
        message[qname_end..qname_end + 2].copy_from_slice(&qtype.0.to_be_bytes());
        message[qname_end + 2..qname_end + 4].copy_from_slice(&qclass.to_be_bytes());
        let ede = self.extended_errors.then(|| why.extended_error());
        encode::fit(out, &message[..qname_end + 4], shape, ede);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Name;
    use crate::dns::wire::{self, Message};

    const REPLIES: Replies = Replies { udp_payload_bytes: 1232, extended_errors: true };

    #[test]
    fn the_question_is_echoed_with_its_class_and_letter_case() {
        let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x07vErsion\x04bind\x00\x00\x10\x00\x03\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
        let parsed = wire::parse_query(query).unwrap();
        let mut out = Vec::new();
        REPLIES.to_parsed(&mut out, &parsed, Transport::Udp, Reason::NotAllowed);
        let answer = Message::parse(&out).unwrap();
        assert_eq!((answer.id(), answer.rcode(), answer.qclass()), (0x1234, Rcode::REFUSED, 3));
        assert_eq!(answer.qname(), b"\x07vErsion\x04bind\x00");
        assert_eq!(&answer.edns().unwrap().unwrap().option(15).unwrap()[..2], &[0, 18]);
        assert_eq!(answer.validate().unwrap(), out.len());
    }

    #[test]
    fn copied_and_borrowed_questions_get_the_same_answer() {
        let query = Query::local(Name::parse("example.org").unwrap(), Rtype::A);
        let bytes = encode::upstream_query(&query.question(), 0, Some(u16::MAX));
        let parsed = wire::parse_query(&bytes).unwrap();
        let mut borrowed = Vec::new();
        REPLIES.to_parsed(&mut borrowed, &parsed, Transport::Tcp, Reason::Full);
        assert_eq!(REPLIES.to_query(&query, Reason::Full), borrowed);
    }
}
