//! Writing messages: our own answers with compressed names, and the last fitting of any answer to its client.

use super::answer::{Answer, Ede, Record};
use super::name::Name;
use super::query::{Query, QuestionKey, Transport};
use super::rtype::{Rcode, Rtype};
use super::wire::{self, HEADER_BYTES, Message, Section, flag, u16_at};
use super::{Origin, name};

/// Names a message's compression table remembers; beyond it names are written in full (CVE-2024-8508: the work
/// for one message stays bounded).
const MAX_COMPRESSED_NAMES: usize = 64;
/// Octets of EDE text sent: EDE must not be what makes an answer not fit.
const MAX_EDE_TEXT_BYTES: usize = 96;
/// Option code of an Extended DNS Error (RFC 8914 section 2).
const OPTION_EDE: u16 = 15;
/// Option code of padding (RFC 7830 section 3).
const OPTION_PADDING: u16 = 12;
/// Octets of an option without its data.
const OPTION_HEADER_BYTES: usize = 4;
/// Octets of an OPT record without options.
const OPT_BYTES: usize = 11;
/// The largest message: a TCP frame's length is 16 bits (RFC 1035 section 4.2.2).
pub const MAX_MESSAGE_BYTES: usize = 65_535;

/// Builds one message, section by section in order.
#[derive(Debug)]
pub struct MessageBuilder {
    bytes: Vec<u8>,
    names: Vec<u16>,
    overflowed: bool,
}

impl MessageBuilder {
    /// Starts a response to a question: QR and RA are set, the id is 0.
    #[must_use]
    pub fn response(qname: &Name, qtype: Rtype, rcode: Rcode) -> Self {
        let mut builder = Self { bytes: vec![0; HEADER_BYTES], names: Vec::new(), overflowed: false };
        builder.set_flags(flag::QR | flag::RA | (rcode.0 & 0x000f));
        builder.bytes[5] = 1;
        builder.put_name(qname.as_wire());
        builder.put_u16(qtype.0);
        builder.put_u16(wire::CLASS_IN);
        builder
    }

    /// Sets the question's class; IN without it. Only right before the first record.
    #[must_use]
    pub fn class(mut self, class: u16) -> Self {
        let at = self.bytes.len() - 2;
        self.bytes[at..].copy_from_slice(&class.to_be_bytes());
        self
    }

    /// Sets AA.
    #[must_use]
    pub fn authoritative(mut self) -> Self {
        self.or_flags(flag::AA);
        self
    }

    /// Sets more bits of [`flag`].
    pub fn or_flags(&mut self, bits: u16) {
        let flags = u16_at(&self.bytes, 2).unwrap_or(0) | bits;
        self.set_flags(flags);
    }

    /// Appends a record. Sections must be written in order. A record that would make the message longer than
    /// 65,535 octets is left out and TC is set.
    pub fn push(&mut self, section: Section, record: &Record) {
        let (start, names) = (self.bytes.len(), self.names.len());
        if self.overflowed {
            return;
        }
        self.put_name(record.owner.as_wire());
        self.put_u16(record.rtype.0);
        self.put_u16(record.class);
        self.bytes.extend_from_slice(&record.ttl.to_be_bytes());
        let len_at = self.bytes.len();
        self.put_u16(0);
        match record.rtype {
            // The types of RFC 1035 whose names any reader can decompress and that are worth it.
            Rtype::CNAME | Rtype::NS | Rtype::PTR => self.put_name(&record.rdata),
            Rtype::MX if record.rdata.len() > 2 => {
                self.bytes.extend_from_slice(&record.rdata[..2]);
                self.put_name(&record.rdata[2..]);
            }
            _ => self.bytes.extend_from_slice(&record.rdata),
        }
        let len = u16::try_from(self.bytes.len() - len_at - 2).unwrap_or(u16::MAX);
        self.bytes[len_at..len_at + 2].copy_from_slice(&len.to_be_bytes());
        if self.bytes.len() > MAX_MESSAGE_BYTES - OPT_BYTES || !self.count(section) {
            self.bytes.truncate(start);
            self.names.truncate(names);
            self.overflowed = true;
            self.or_flags(flag::TC);
        }
    }

    /// Returns the message.
    #[must_use]
    pub fn finish(self) -> Box<[u8]> {
        self.bytes.into()
    }

    fn count(&mut self, section: Section) -> bool {
        let at = match section {
            Section::Answer => 6,
            Section::Authority => 8,
            Section::Additional => 10,
        };
        let Some(count) = u16_at(&self.bytes, at).unwrap_or(0).checked_add(1) else { return false };
        self.bytes[at..at + 2].copy_from_slice(&count.to_be_bytes());
        true
    }

    fn set_flags(&mut self, flags: u16) {
        self.bytes[2..4].copy_from_slice(&flags.to_be_bytes());
    }

    fn put_u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes a name, pointing to the longest suffix written before (RFC 1035 section 4.1.4). Only a suffix of the
    /// very same letter case is pointed to, so that what one client spelled is never shown to another.
    fn put_name(&mut self, wire: &[u8]) {
        for suffix in name::suffixes(wire) {
            if suffix.len() == 1 {
                break;
            }
            if let Some(at) = self.find(suffix) {
                let before = &wire[..wire.len() - suffix.len()];
                self.remember(before);
                self.bytes.extend_from_slice(before);
                self.put_u16(0xc000 | at);
                return;
            }
        }
        self.remember(wire);
        self.bytes.extend_from_slice(wire);
    }

    /// Notes where the suffixes of a name about to be written will start.
    fn remember(&mut self, written: &[u8]) {
        let base = self.bytes.len();
        let mut offset = 0;
        while let Some(&len) = written.get(offset) {
            if len == 0 || self.names.len() >= MAX_COMPRESSED_NAMES {
                return;
            }
            if let Some(at) = u16::try_from(base + offset).ok().filter(|at| *at < 0x4000) {
                self.names.push(at);
            }
            offset += 1 + usize::from(len);
        }
    }

    fn find(&self, suffix: &[u8]) -> Option<u16> {
        self.names
            .iter()
            .copied()
            .find(|&at| wire::read_name(&self.bytes, usize::from(at)).is_ok_and(|(name, _)| name.as_wire() == suffix))
    }
}

/// Makes an answer of our own with no records.
#[must_use]
pub fn empty(qname: &Name, qtype: Rtype, rcode: Rcode, ede: Option<Ede>) -> Answer {
    Answer { message: MessageBuilder::response(qname, qtype, rcode).finish(), origin: Origin::Own, ede }
}

/// Makes a SERVFAIL with its reason.
#[must_use]
pub fn servfail(qname: &Name, qtype: Rtype, ede: Ede) -> Answer {
    empty(qname, qtype, Rcode::SERVFAIL, Some(ede))
}

/// Makes the query that goes to an upstream: RD set, EDNS with our payload size unless `plain`.
#[must_use]
pub fn upstream_query(question: &QuestionKey, id: u16, payload_bytes: Option<u16>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + question.qname.as_wire().len() + 4 + OPT_BYTES);
    let cd = if question.checking_disabled { flag::CD } else { 0 };
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(&(flag::RD | cd).to_be_bytes());
    bytes.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(payload_bytes.is_some())]);
    bytes.extend_from_slice(question.qname.as_wire());
    bytes.extend_from_slice(&question.qtype.0.to_be_bytes());
    bytes.extend_from_slice(&wire::CLASS_IN.to_be_bytes());
    if let Some(payload) = payload_bytes {
        put_opt(&mut bytes, payload, 0, question.dnssec_ok, None);
    }
    bytes
}

/// Pads a message, whose last record must be an OPT without options, to a multiple of `block` octets (RFC 7830 section 3):
/// what can be read of an encrypted message is its length.
pub fn pad(message: &mut Vec<u8>, block: usize) {
    let len = (message.len() + OPTION_HEADER_BYTES).next_multiple_of(block) - message.len();
    let (Ok(rdlen), Ok(option_len)) = (u16::try_from(len), u16::try_from(len - OPTION_HEADER_BYTES)) else { return };
    let rdlen_at = message.len() - 2;
    message[rdlen_at..].copy_from_slice(&rdlen.to_be_bytes());
    message.extend_from_slice(&OPTION_PADDING.to_be_bytes());
    message.extend_from_slice(&option_len.to_be_bytes());
    message.resize(message.len() + usize::from(option_len), 0);
}

/// Appends an OPT record; the caller counts it.
fn put_opt(out: &mut Vec<u8>, payload_bytes: u16, extended_rcode: u8, dnssec_ok: bool, ede: Option<(u16, &str)>) {
    out.extend_from_slice(&[0, 0, 41]);
    out.extend_from_slice(&payload_bytes.to_be_bytes());
    out.extend_from_slice(&[extended_rcode, 0, if dnssec_ok { 0x80 } else { 0 }, 0]);
    let Some((code, text)) = ede else {
        out.extend_from_slice(&[0, 0]);
        return;
    };
    let text = cut_text(text);
    let len = u16::try_from(2 + text.len()).unwrap_or(2);
    out.extend_from_slice(&(len + 4).to_be_bytes());
    out.extend_from_slice(&OPTION_EDE.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(text);
}

/// Cuts text to the octets an EDE may take, at a character's edge.
fn cut_text(text: &str) -> &[u8] {
    let mut end = text.len().min(MAX_EDE_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text.as_bytes()[..end]
}

/// What of a client's query shapes the bytes of its answer, borrowed from wherever the query lies.
#[derive(Debug, Clone, Copy)]
pub struct ClientShape<'a> {
    /// The id to answer with.
    pub id: u16,
    /// The query's flags word; RD and CD are echoed, AD asks for AD.
    pub flags: u16,
    /// The name as the client spelled it, wire form.
    pub qname: &'a [u8],
    /// The client sent an OPT: answer with one.
    pub edns: bool,
    /// DO was set.
    pub dnssec_ok: bool,
    /// The largest message to send, in octets.
    pub limit_bytes: usize,
    /// The payload size our OPT announces.
    pub our_payload_bytes: u16,
}

impl<'a> ClientShape<'a> {
    /// Takes the shape from an owned query; `udp_payload_bytes` is our own limit for datagrams.
    #[must_use]
    pub fn of(query: &'a Query, udp_payload_bytes: u16) -> Self {
        let bit = |on: bool, bit: u16| if on { bit } else { 0 };
        let client = query.edns.map_or(wire::PLAIN_UDP_BYTES, |edns| edns.payload_bytes);
        Self {
            id: query.id,
            flags: bit(query.recursion_desired, flag::RD)
                | bit(query.checking_disabled, flag::CD)
                | bit(query.authentic_data, flag::AD),
            qname: query.qname.as_wire(),
            edns: query.edns.is_some(),
            dnssec_ok: query.dnssec_ok(),
            limit_bytes: match query.transport {
                Transport::Udp => usize::from(client.min(udp_payload_bytes)),
                Transport::Tcp => MAX_MESSAGE_BYTES,
            },
            our_payload_bytes: udp_payload_bytes,
        }
    }
}

/// Appends `message` to `out`, fitted to its client: id, RD, CD and AD, the client's own spelling of the name, OPT,
/// EDE, and TC with only the question left when it is too long (RFC 2181 section 9, RFC 6891 section 7).
///
/// `message` is a response without OPT and with exactly one question of the same length as the client's. TTLs are
/// left as they are.
pub fn fit(out: &mut Vec<u8>, message: &[u8], shape: &ClientShape<'_>, ede: Option<(u16, &str)>) {
    let start = out.len();
    let opt_bytes = if shape.edns { OPT_BYTES } else { 0 };
    let question_end = (HEADER_BYTES + shape.qname.len() + 4).min(message.len());
    let cut = message.len() + opt_bytes > shape.limit_bytes;
    out.extend_from_slice(if cut { &message[..question_end] } else { message });
    let written = &mut out[start..];
    if written.len() < question_end || question_end < HEADER_BYTES {
        return;
    }
    written[..2].copy_from_slice(&shape.id.to_be_bytes());
    let mut flags = u16_at(written, 2).unwrap_or(0) & !(flag::RD | flag::CD);
    flags |= shape.flags & (flag::RD | flag::CD);
    // RFC 6840 section 5.8: AD only to clients that show they understand it.
    if shape.flags & flag::AD == 0 && !shape.dnssec_ok {
        flags &= !flag::AD;
    }
    if cut {
        flags |= flag::TC;
        written[6..12].fill(0);
    }
    written[2..4].copy_from_slice(&flags.to_be_bytes());
    written[HEADER_BYTES..HEADER_BYTES + shape.qname.len()].copy_from_slice(shape.qname);
    if shape.edns {
        let additional = u16_at(written, 10).unwrap_or(0).saturating_add(1);
        written[10..12].copy_from_slice(&additional.to_be_bytes());
        let room = shape.limit_bytes.saturating_sub(out.len() - start + OPT_BYTES);
        let ede = ede.filter(|(_, text)| 6 + cut_text(text).len() <= room);
        put_opt(out, shape.our_payload_bytes, 0, shape.dnssec_ok, ede);
    }
}

/// Appends the answer to a message that is no question to look up: FORMERR, NOTIMP or BADVERS, with the question
/// echoed when it could be read (`echo`), and an OPT for BADVERS (RFC 6891 section 6.1.3).
pub fn fault(out: &mut Vec<u8>, query: &[u8], rcode: Rcode, echo: bool, our_payload_bytes: u16) {
    let Some(flags) = u16_at(query, 2) else { return };
    let id = u16_at(query, 0).unwrap_or(0);
    let question = if echo { Message::parse(query).ok() } else { None };
    let dnssec_ok = question.is_some_and(|message| message.edns().is_ok_and(|edns| edns.is_some_and(|e| e.dnssec_ok)));
    // RFC 4035 section 3.2.2: CD is copied; RFC 3225 section 3: DO too.
    let flags = flag::QR | flag::RA | (flags & (flag::RD | flag::CD | 0x7800)) | (rcode.0 & 0x000f);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&flags.to_be_bytes());
    let extended = u8::try_from(rcode.0 >> 4).unwrap_or(0);
    let opt = extended != 0;
    out.extend_from_slice(&[0, u8::from(question.is_some()), 0, 0, 0, 0, 0, u8::from(opt)]);
    if let Some(message) = question {
        out.extend_from_slice(&query[HEADER_BYTES..message.question_end()]);
    }
    if opt {
        put_opt(out, our_payload_bytes, extended, dnssec_ok, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn a(owner: &str, last: u8) -> Record {
        Record { owner: name(owner), rtype: Rtype::A, class: 1, ttl: 60, rdata: Box::new([192, 0, 2, last]) }
    }

    #[test]
    fn names_are_compressed_and_read_back() {
        let mut builder = MessageBuilder::response(&name("www.example.org"), Rtype::A, Rcode::NOERROR);
        let cname =
            Record { rtype: Rtype::CNAME, rdata: name("web.example.org").as_wire().into(), ..a("www.example.org", 0) };
        builder.push(Section::Answer, &cname);
        builder.push(Section::Answer, &a("web.example.org", 1));
        let answer = Answer { message: builder.finish(), origin: Origin::Zone, ede: None };
        assert_eq!(answer.records(Section::Answer), vec![cname, a("web.example.org", 1)]);
        assert_eq!(answer.message.len(), 12 + 21 + (12 + 6) + (12 + 4));
    }

    #[test]
    fn too_long_an_answer_is_cut_to_its_question_and_keeps_its_opt() {
        let mut builder = MessageBuilder::response(&name("example.org"), Rtype::A, Rcode::NOERROR);
        for last in 0..100 {
            builder.push(Section::Answer, &a("example.org", last));
        }
        let message = builder.finish();
        let spelled = name("eXample.ORG");
        let shape = ClientShape {
            id: 7,
            flags: flag::RD,
            qname: spelled.as_wire(),
            edns: true,
            dnssec_ok: false,
            limit_bytes: 1232,
            our_payload_bytes: 1232,
        };
        let mut out = Vec::new();
        fit(&mut out, &message, &shape, None);
        let cut = Message::parse(&out).unwrap();
        assert!(cut.has(flag::TC) && cut.has(flag::RD));
        assert_eq!(cut.qname(), spelled.as_wire());
        assert_eq!(cut.count(Section::Answer), 0);
        assert_eq!(cut.edns().unwrap().unwrap().payload_bytes, 1232);
        assert_eq!(cut.validate().unwrap(), out.len());
    }

    #[test]
    fn extended_error_reaches_only_clients_with_edns() {
        let answer = servfail(&name("example.org"), Rtype::A, Ede::new(22, "no upstream answered"));
        let mut query = Query::local(name("example.org"), Rtype::A);
        let mut out = Vec::new();
        fit(&mut out, &answer.message, &ClientShape::of(&query, 1232), Some((22, "no upstream answered")));
        let edns = Message::parse(&out).unwrap().edns().unwrap().unwrap();
        assert_eq!(edns.option(15).unwrap(), b"\x00\x16no upstream answered");
        query.edns = None;
        out.clear();
        fit(&mut out, &answer.message, &ClientShape::of(&query, 1232), Some((22, "no upstream answered")));
        assert_eq!(out.len(), answer.message.len());
    }

    #[test]
    fn bad_version_is_answered_with_an_opt() {
        let mut query = upstream_query(&Query::local(name("a."), Rtype::A).question(), 9, Some(1232));
        let at = query.len() - 5;
        query[at] = 1;
        query[at + 1] = 0x80;
        query[3] |= 0x10;
        let mut out = Vec::new();
        fault(&mut out, &query, Rcode::BADVERS, true, 1232);
        let answer = Message::parse(&out).unwrap();
        assert_eq!((answer.extended_rcode(), answer.has(flag::CD)), (Rcode::BADVERS, true));
        assert!(answer.edns().unwrap().unwrap().dnssec_ok);
    }

    #[test]
    fn a_message_never_outgrows_a_tcp_frame() {
        let mut builder = MessageBuilder::response(&name("example.org"), Rtype::TXT, Rcode::NOERROR);
        let big = Record { rtype: Rtype::TXT, rdata: vec![7; 60_000].into(), ..a("example.org", 0) };
        builder.push(Section::Answer, &big);
        builder.push(Section::Answer, &big);
        let message = builder.finish();
        let view = Message::parse(&message).unwrap();
        assert!(message.len() <= MAX_MESSAGE_BYTES && view.has(flag::TC));
        assert_eq!(view.count(Section::Answer), 1);
    }
}
