//! A message as bytes, read in place: header, question, records, OPT, TTL offsets.
//!
//! Nothing here allocates or panics, whatever the bytes are. Work is bounded by the message's length: section
//! counts are held against the octets there are before anything is walked, compression pointers must point
//! backwards, and a name ends at 255 octets.

use super::name::{self, NameBuf};
use super::rtype::{Rcode, Rtype};
use std::ops::Range;

/// Octets of the header (RFC 1035 section 4.1.1).
pub const HEADER_BYTES: usize = 12;
/// Class IN.
pub const CLASS_IN: u16 = 1;
/// Class CH, the one of `version.bind`.
pub const CLASS_CH: u16 = 3;
/// Class ANY.
pub const CLASS_ANY: u16 = 255;
/// The smallest record: root owner, type, class, TTL, no RDATA.
const MIN_RECORD_BYTES: usize = 11;
/// Octets of SERIAL, REFRESH, RETRY, EXPIRE and MINIMUM (RFC 1035 section 3.3.13).
const SOA_NUMBERS_BYTES: usize = 20;
/// The payload size to assume when a client sends no OPT (RFC 1035 section 4.2.1).
pub const PLAIN_UDP_BYTES: u16 = 512;

/// Flag bits of the second header word (RFC 1035 section 4.1.1, RFC 4035 section 3).
pub mod flag {
    /// This is a response.
    pub const QR: u16 = 0x8000;
    /// The answer is authoritative.
    pub const AA: u16 = 0x0400;
    /// The message was cut.
    pub const TC: u16 = 0x0200;
    /// Recursion is desired.
    pub const RD: u16 = 0x0100;
    /// Recursion is available.
    pub const RA: u16 = 0x0080;
    /// The data is authentic.
    pub const AD: u16 = 0x0020;
    /// Checking is disabled.
    pub const CD: u16 = 0x0010;
}

/// The bytes are not a DNS message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end in the middle of something.
    #[error("the message is cut short")]
    Short,
    /// A name has a bad label type, points forwards, loops, or is too long.
    #[error("a name in the message is malformed")]
    Name,
    /// A record's data is shorter or longer than its type's.
    #[error("the data of a record does not have the length of its type's")]
    Data,
    /// A header count promises more than the message can hold.
    #[error("the header counts more records than the message can hold")]
    Counts,
    /// The OPT record is not in the additional section, is there twice, has an owner, or has broken options.
    #[error("the OPT record is malformed")]
    Opt,
    /// Bytes follow the last record.
    #[error("bytes follow the last record")]
    Trailing,
}

/// Reads a big-endian 16-bit number at `at`.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

/// Reads a big-endian 32-bit number at `at`.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

/// Returns where the possibly compressed name at `at` ends in the message.
///
/// # Errors
/// When the name runs off the message or has an unknown label type.
pub fn skip_name(bytes: &[u8], mut at: usize) -> Result<usize, WireError> {
    loop {
        let len = usize::from(*bytes.get(at).ok_or(WireError::Short)?);
        match len {
            0 => return Ok(at + 1),
            1..=63 => at += 1 + len,
            192.. => {
                return if at + 2 <= bytes.len() { Ok(at + 2) } else { Err(WireError::Short) };
            }
            _ => return Err(WireError::Name),
        }
    }
}

/// Decompresses the name at `at` into a buffer and returns it with where it ends in the message.
///
/// Each pointer must point before the part of the name it stands in, so the walk ends, and not into the header, which is
/// no place of names: id and flags change on the way to a client, and a name read from them with them. What it points to is
/// a prior occurrence (RFC 1035 section 4.1.4), so it ends before that part begins: a label that reaches over the pointer
/// may reach over the records that are kept as well.
///
/// # Errors
/// When the name is malformed.
pub fn read_name(bytes: &[u8], at: usize) -> Result<(NameBuf, usize), WireError> {
    let mut buf = NameBuf::default();
    let mut end = None;
    let mut pos = at;
    // Where the part begins that is being read, and where it must end.
    let (mut start, mut stop) = (at, bytes.len());
    loop {
        let rest = bytes.get(pos..stop).unwrap_or_default();
        let len = *rest.first().ok_or(WireError::Short)?;
        match len {
            0 => {
                buf.push(&[0]).map_err(|_| WireError::Name)?;
                return Ok((buf, end.unwrap_or(pos + 1)));
            }
            1..=63 => {
                let label = rest.get(..=usize::from(len)).ok_or(WireError::Short)?;
                buf.push(label).map_err(|_| WireError::Name)?;
                pos += label.len();
            }
            192.. => {
                let target = usize::from(u16_at(rest, 0).ok_or(WireError::Short)? & 0x3fff);
                end.get_or_insert(pos + 2);
                if !(HEADER_BYTES..start).contains(&target) {
                    return Err(WireError::Name);
                }
                (start, stop, pos) = (target, start, target);
            }
            _ => return Err(WireError::Name),
        }
    }
}

/// The section a record stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Answer section.
    Answer,
    /// Authority section.
    Authority,
    /// Additional section.
    Additional,
}

/// Where one record lies in its message.
#[derive(Debug, Clone)]
pub struct RecordAt {
    /// The section it stands in.
    pub section: Section,
    /// Offset of its (possibly compressed) owner name.
    pub start: usize,
    /// Its type.
    pub rtype: Rtype,
    /// Its class; for OPT the payload size.
    pub class: u16,
    /// Offset of its TTL.
    pub ttl_at: usize,
    /// Its TTL as sent, in seconds.
    pub ttl: u32,
    /// Where its RDATA lies.
    pub rdata: Range<usize>,
}

/// A message whose header and single question have been checked; records are walked on demand.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    question_end: usize,
}

impl<'a> Message<'a> {
    /// Checks header, counts and the one question.
    ///
    /// # Errors
    /// When there is not exactly one plain question, or the counts cannot be true.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        if bytes.len() < HEADER_BYTES {
            return Err(WireError::Short);
        }
        if u16_at(bytes, 4) != Some(1) {
            return Err(WireError::Counts);
        }
        let qname = name::wire_len(&bytes[HEADER_BYTES..]).ok_or(WireError::Name)?;
        let question_end = HEADER_BYTES + qname + 4;
        if question_end > bytes.len() {
            return Err(WireError::Short);
        }
        let message = Self { bytes, question_end };
        let records: usize = [6, 8, 10].iter().map(|&at| usize::from(u16_at(bytes, at).unwrap_or(0))).sum();
        if records * MIN_RECORD_BYTES > bytes.len() - question_end {
            return Err(WireError::Counts);
        }
        Ok(message)
    }

    /// Returns the whole message.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> u16 {
        u16_at(self.bytes, 0).unwrap_or(0)
    }

    /// Returns the flags word, opcode and low rcode bits included.
    #[must_use]
    pub fn flags(&self) -> u16 {
        u16_at(self.bytes, 2).unwrap_or(0)
    }

    /// Tells whether a bit of [`flag`] is set.
    #[must_use]
    pub fn has(&self, bit: u16) -> bool {
        self.flags() & bit != 0
    }

    /// Returns the opcode (0 is QUERY).
    #[must_use]
    pub fn opcode(&self) -> u8 {
        opcode(self.flags())
    }

    /// Returns the response code of the header, without extended bits.
    #[must_use]
    pub fn rcode(&self) -> Rcode {
        Rcode(self.flags() & 0x000f)
    }

    /// Returns the response code with the extended bits of the OPT record, when there is a readable one.
    #[must_use]
    pub fn extended_rcode(&self) -> Rcode {
        let high = self.edns().ok().flatten().map_or(0, |edns| u16::from(edns.extended_rcode) << 4);
        Rcode(high | self.rcode().0)
    }

    /// Returns the question's name as uncompressed wire bytes, in the letter case it came in.
    #[must_use]
    pub fn qname(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..self.question_end - 4]
    }

    /// Returns the question's type.
    #[must_use]
    pub fn qtype(&self) -> Rtype {
        Rtype(u16_at(self.bytes, self.question_end - 4).unwrap_or(0))
    }

    /// Returns the question's class.
    #[must_use]
    pub fn qclass(&self) -> u16 {
        u16_at(self.bytes, self.question_end - 2).unwrap_or(0)
    }

    /// Returns the offset of the first octet behind the question.
    #[must_use]
    pub fn question_end(&self) -> usize {
        self.question_end
    }

    /// Returns how many records the header promises for a section.
    #[must_use]
    pub fn count(&self, section: Section) -> u16 {
        let at = match section {
            Section::Answer => 6,
            Section::Authority => 8,
            Section::Additional => 10,
        };
        u16_at(self.bytes, at).unwrap_or(0)
    }

    /// Walks all records in order; the first malformed one ends the walk with its error.
    #[must_use]
    pub fn records(&self) -> Records<'a> {
        Records { bytes: self.bytes, walk: self.walk() }
    }

    /// Starts a walk over all records that does not borrow the message, so that what it finds may be changed.
    #[must_use]
    pub fn walk(&self) -> Walk {
        Walk {
            at: self.question_end,
            left: [self.count(Section::Answer), self.count(Section::Authority), self.count(Section::Additional)],
            section: 0,
        }
    }

    /// Walks the readable records of one section.
    pub fn section(&self, section: Section) -> impl Iterator<Item = RecordAt> + use<'a> {
        self.records().map_while(Result::ok).filter(move |record| record.section == section)
    }

    /// Checks every record and name; returns the offset behind the last record.
    ///
    /// # Errors
    /// At the first thing that is malformed.
    pub fn validate(&self) -> Result<usize, WireError> {
        let mut end = self.question_end;
        for record in self.records() {
            let record = record?;
            read_name(self.bytes, record.start)?;
            end = record.rdata.end;
        }
        Ok(end)
    }

    /// Reads the OPT record, if any.
    ///
    /// # Errors
    /// When it stands elsewhere than in the additional section, stands there twice, is not owned by the root, or
    /// its options overrun it (RFC 6891 section 6.1).
    pub fn edns(&self) -> Result<Option<Edns<'a>>, WireError> {
        let mut found = None;
        for record in self.records() {
            let record = record?;
            if record.rtype != Rtype::OPT {
                continue;
            }
            if record.section != Section::Additional || found.is_some() || self.bytes.get(record.start) != Some(&0) {
                return Err(WireError::Opt);
            }
            found = Some(Edns::from_record(self.bytes, &record)?);
        }
        Ok(found)
    }

    /// Decompresses the owner of a record of this message.
    ///
    /// # Errors
    /// When the name is malformed.
    pub fn owner(&self, record: &RecordAt) -> Result<NameBuf, WireError> {
        read_name(self.bytes, record.start).map(|(name, _)| name)
    }

    /// Returns the RDATA of a record as sent: names in it may be compressed.
    #[must_use]
    pub fn rdata(&self, record: &RecordAt) -> &'a [u8] {
        self.bytes.get(record.rdata.clone()).unwrap_or_default()
    }

    /// Decompresses the name that a CNAME, DNAME, NS or PTR record holds.
    ///
    /// # Errors
    /// When the RDATA is not exactly one name.
    pub fn target(&self, record: &RecordAt) -> Result<NameBuf, WireError> {
        let (name, end) = read_name(self.bytes, record.rdata.start)?;
        if end == record.rdata.end { Ok(name) } else { Err(WireError::Name) }
    }
}

/// Returns the opcode in a flags word.
#[must_use]
pub fn opcode(flags: u16) -> u8 {
    u8::try_from((flags >> 11) & 0x0f).unwrap_or(0)
}

/// The walk over a message's records.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    bytes: &'a [u8],
    walk: Walk,
}

impl Iterator for Records<'_> {
    type Item = Result<RecordAt, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.walk.next(self.bytes)
    }
}

/// Where a walk over records has come to.
#[derive(Debug, Clone)]
pub struct Walk {
    at: usize,
    left: [u16; 3],
    section: usize,
}

impl Walk {
    /// Returns the next record of the message the walk was started on; the first malformed one ends it with its error.
    pub fn next(&mut self, message: &[u8]) -> Option<Result<RecordAt, WireError>> {
        while self.left.get(self.section).is_some_and(|&left| left == 0) {
            self.section += 1;
        }
        let section = *[Section::Answer, Section::Authority, Section::Additional].get(self.section)?;
        self.left[self.section] -= 1;
        let record = self.read(message, section);
        match &record {
            Ok(record) => self.at = record.rdata.end,
            Err(_) => self.left = [0; 3],
        }
        Some(record)
    }

    fn read(&self, message: &[u8], section: Section) -> Result<RecordAt, WireError> {
        let start = self.at;
        let fixed = skip_name(message, start)?;
        // Type, class, TTL and the length of RDATA.
        let numbers = message.get(fixed..fixed + 10).ok_or(WireError::Short)?;
        let pair = |at: usize| u16::from_be_bytes([numbers[at], numbers[at + 1]]);
        let ttl = u32::from_be_bytes([numbers[4], numbers[5], numbers[6], numbers[7]]);
        let rdata = fixed + 10..fixed + 10 + usize::from(pair(8));
        if rdata.end > message.len() {
            return Err(WireError::Short);
        }
        Ok(RecordAt { section, start, rtype: Rtype(pair(0)), class: pair(2), ttl_at: fixed + 4, ttl, rdata })
    }
}

/// What an OPT record says (RFC 6891 section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns<'a> {
    /// The UDP payload size its sender can take.
    pub payload_bytes: u16,
    /// Upper eight bits of the response code.
    pub extended_rcode: u8,
    /// EDNS version; only 0 exists.
    pub version: u8,
    /// DNSSEC records are wanted (RFC 3225).
    pub dnssec_ok: bool,
    /// The options as sent.
    pub options: &'a [u8],
}

impl<'a> Edns<'a> {
    fn from_record(bytes: &'a [u8], record: &RecordAt) -> Result<Self, WireError> {
        let options = bytes.get(record.rdata.clone()).ok_or(WireError::Short)?;
        let [extended_rcode, version, flags, _] = record.ttl.to_be_bytes();
        let edns = Self { payload_bytes: record.class, extended_rcode, version, dnssec_ok: flags & 0x80 != 0, options };
        let used: usize = edns.options().map(|(_, data)| 4 + data.len()).sum();
        if used == options.len() { Ok(edns) } else { Err(WireError::Opt) }
    }

    /// Returns the options as code and data; stops at the first that overruns.
    pub fn options(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let mut rest = self.options;
        std::iter::from_fn(move || {
            let code = u16_at(rest, 0)?;
            let len = usize::from(u16_at(rest, 2)?);
            let data = rest.get(4..4 + len)?;
            rest = &rest[4 + len..];
            Some((code, data))
        })
    }

    /// Returns the data of the first option with this code.
    #[must_use]
    pub fn option(&self, code: u16) -> Option<&'a [u8]> {
        self.options().find(|(c, _)| *c == code).map(|(_, data)| data)
    }
}

/// A question that truename will answer, as it lies in the datagram.
#[derive(Debug, Clone, Copy)]
pub struct ParsedQuery<'a> {
    /// Header and question.
    pub message: Message<'a>,
    /// The OPT record, if the client sent one.
    pub edns: Option<Edns<'a>>,
}

impl ParsedQuery<'_> {
    /// Tells whether DNSSEC records are wanted.
    #[must_use]
    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// Returns how many octets of UDP payload the client takes: never less than 512 (RFC 6891 section 6.2.3).
    #[must_use]
    pub fn payload_bytes(&self) -> u16 {
        self.edns.map_or(PLAIN_UDP_BYTES, |edns| edns.payload_bytes.max(PLAIN_UDP_BYTES))
    }
}

/// What to do with a datagram that is no question to look up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Say nothing: too short, or itself a response (answering those makes loops).
    Silent,
    /// Answer with this code; the question can be echoed when `echo` is set.
    Answer {
        /// The response code.
        rcode: Rcode,
        /// Whether the question was readable.
        echo: bool,
    },
}

/// Checks a client's message down to its last octet.
///
/// # Errors
/// What to do instead of answering: silence for headers cut short and for responses, NOTIMP for opcodes other
/// than QUERY, FORMERR for anything malformed, BADVERS for EDNS versions above 0 (RFC 6891 section 6.1.3).
pub fn parse_query(bytes: &[u8]) -> Result<ParsedQuery<'_>, Fault> {
    const FORMERR: Fault = Fault::Answer { rcode: Rcode::FORMERR, echo: false };
    let flags = u16_at(bytes, 2).filter(|_| bytes.len() >= HEADER_BYTES).ok_or(Fault::Silent)?;
    if flags & flag::QR != 0 {
        return Err(Fault::Silent);
    }
    if opcode(flags) != 0 {
        return Err(Fault::Answer { rcode: Rcode::NOTIMP, echo: false });
    }
    let message = Message::parse(bytes).map_err(|_| FORMERR)?;
    if message.count(Section::Answer) != 0 {
        return Err(FORMERR);
    }
    // The common shape, no OPT and nothing behind the question, needs no walk.
    if message.count(Section::Authority) == 0 && message.count(Section::Additional) == 0 {
        return if message.question_end() == bytes.len() {
            Ok(ParsedQuery { message, edns: None })
        } else {
            Err(FORMERR)
        };
    }
    let end = message.validate().map_err(|_| FORMERR)?;
    if end != bytes.len() {
        return Err(FORMERR);
    }
    let edns = message.edns().map_err(|_| FORMERR)?;
    if edns.is_some_and(|edns| edns.version > 0) {
        return Err(Fault::Answer { rcode: Rcode::BADVERS, echo: true });
    }
    Ok(ParsedQuery { message, edns })
}

/// Copies the RDATA of a record with every name in it decompressed (RFC 3597 section 4 lists the types whose
/// names may be compressed; SRV and NAPTR are met compressed in the wild and are read so too).
///
/// # Errors
/// When the RDATA does not have its type's shape.
pub fn expand_rdata(message: &Message<'_>, record: &RecordAt, out: &mut Vec<u8>) -> Result<(), WireError> {
    let bytes = message.bytes();
    let range = record.rdata.clone();
    let (before, names) = names_in(message, record)?;
    let mut at = range.start + before;
    out.extend_from_slice(bytes.get(range.start..at).filter(|_| at <= range.end).ok_or(WireError::Short)?);
    for _ in 0..names {
        let (name, end) = read_name(bytes, at)?;
        if end > range.end {
            return Err(WireError::Name);
        }
        out.extend_from_slice(name.as_wire());
        at = end;
    }
    // Behind its names a record has what its type says, and nothing else.
    let fits = match record.rtype {
        Rtype::SOA => range.end.checked_sub(at) == Some(SOA_NUMBERS_BYTES),
        Rtype::SIG | Rtype::NXT => true,
        _ => names == 0 || at == range.end,
    };
    if !fits {
        return Err(WireError::Data);
    }
    out.extend_from_slice(bytes.get(at..range.end).ok_or(WireError::Short)?);
    Ok(())
}

/// Returns how many octets of a record's data stand before its names, and how many names there are.
pub(super) fn names_in(message: &Message<'_>, record: &RecordAt) -> Result<(usize, usize), WireError> {
    Ok(match record.rtype {
        Rtype::NS
        | Rtype::MD
        | Rtype::MF
        | Rtype::CNAME
        | Rtype::MB
        | Rtype::MG
        | Rtype::MR
        | Rtype::PTR
        | Rtype::DNAME
        | Rtype::NXT => (0, 1),
        Rtype::SOA | Rtype::MINFO | Rtype::RP => (0, 2),
        Rtype::MX | Rtype::AFSDB | Rtype::RT | Rtype::KX => (2, 1),
        Rtype::PX => (2, 2),
        Rtype::SRV => (6, 1),
        Rtype::SIG => (18, 1),
        Rtype::NAPTR => (naptr_strings(message.rdata(record))?, 1),
        _ => (record.rdata.len(), 0),
    })
}

/// Returns how many octets of a NAPTR's RDATA stand before its name: order, preference, three strings.
fn naptr_strings(rdata: &[u8]) -> Result<usize, WireError> {
    let mut at = 4;
    for _ in 0..3 {
        at += 1 + usize::from(*rdata.get(at).ok_or(WireError::Short)?);
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `example. A` with id 0x1234 and RD.
    const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x00\x00\x01\x00\x01";

    #[test]
    fn plain_query_is_read_in_place() {
        let query = parse_query(QUERY).unwrap();
        assert_eq!(query.message.id(), 0x1234);
        assert_eq!(query.message.qname(), b"\x07example\x00");
        assert_eq!(query.message.qtype(), Rtype::A);
        assert_eq!(query.payload_bytes(), 512);
        assert!(query.message.has(flag::RD));
    }

    #[test]
    fn responses_and_stumps_are_met_with_silence() {
        let mut response = QUERY.to_vec();
        response[2] |= 0x80;
        assert_eq!(parse_query(&response).unwrap_err(), Fault::Silent);
        assert_eq!(parse_query(&QUERY[..11]).unwrap_err(), Fault::Silent);
    }

    #[test]
    fn faults_get_their_codes() {
        let code = |bytes: &[u8]| match parse_query(bytes) {
            Err(Fault::Answer { rcode, .. }) => rcode,
            other => panic!("{other:?}"),
        };
        let mut update = QUERY.to_vec();
        update[2] = 5 << 3;
        assert_eq!(code(&update), Rcode::NOTIMP);
        let mut two = QUERY.to_vec();
        two[5] = 2;
        assert_eq!(code(&two), Rcode::FORMERR);
        let mut trailing = QUERY.to_vec();
        trailing.push(0);
        assert_eq!(code(&trailing), Rcode::FORMERR);
        let mut counts = QUERY.to_vec();
        counts[10] = 0xff;
        assert_eq!(code(&counts), Rcode::FORMERR);
        let mut edns1 = QUERY.to_vec();
        edns1[11] = 1;
        edns1.extend_from_slice(b"\x00\x00\x29\x04\xd0\x00\x01\x00\x00\x00\x00");
        assert_eq!(code(&edns1), Rcode::BADVERS);
    }

    fn after_header(rest: &[u8]) -> Vec<u8> {
        [&[0; HEADER_BYTES], rest].concat()
    }

    #[test]
    fn pointers_must_point_backwards() {
        // A pointer to itself, and two that point at each other.
        assert_eq!(read_name(&after_header(b"\xc0\x0c"), 12).unwrap_err(), WireError::Name);
        assert_eq!(read_name(&after_header(b"\xc0\x0e\xc0\x0c"), 14).unwrap_err(), WireError::Name);
        let message = after_header(b"\x01a\x00\x01b\xc0\x0c");
        let (name, end) = read_name(&message, 15).unwrap();
        assert_eq!((name.as_wire(), end), (&b"\x01b\x01a\x00"[..], 19));
    }

    #[test]
    fn what_a_pointer_leads_to_ends_before_the_name_begins() {
        // Five octets in front, then a name: label "a" and a pointer to what was in front.
        let with = |front: &[u8; 5]| after_header(&[&front[..], b"\x01a\xc0\x0c", b"bcdefgh\0"].concat());
        assert_eq!(read_name(&with(b"\x03end\0"), 17).unwrap().0.to_name().to_string(), "a.end.");
        // A label that ends within the name, and one that reaches over it into what follows.
        assert_eq!(read_name(&with(b"\x06endx"), 17).unwrap_err(), WireError::Short);
        assert_eq!(read_name(&with(b"\x0fendx"), 17).unwrap_err(), WireError::Short);
        // A label that ends where the name begins, without the root's.
        assert_eq!(read_name(&with(b"\x04endx"), 17).unwrap_err(), WireError::Short);
    }

    #[test]
    fn data_has_the_length_of_its_type() {
        let expand = |rtype: Rtype, rdata: &[u8]| {
            let mut bytes = QUERY.to_vec();
            bytes[7] = 1;
            bytes.extend_from_slice(b"\xc0\x0c");
            bytes.extend_from_slice(&rtype.0.to_be_bytes());
            bytes.extend_from_slice(b"\x00\x01\x00\x00\x00\x3c\x00");
            bytes.push(u8::try_from(rdata.len()).unwrap());
            bytes.extend_from_slice(rdata);
            let message = Message::parse(&bytes).unwrap();
            let record = message.section(Section::Answer).next().unwrap();
            expand_rdata(&message, &record, &mut Vec::new())
        };
        assert_eq!(expand(Rtype::NS, b"\x01a\x00"), Ok(()));
        assert_eq!(expand(Rtype::NS, b"\x01a\x00\x00"), Err(WireError::Data));
        assert_eq!(expand(Rtype::MX, b"\x00\x0a\xc0\x0c"), Ok(()));
        assert_eq!(expand(Rtype::MX, b"\x00\x0a\xc0\x0c\x01"), Err(WireError::Data));
        assert_eq!(expand(Rtype::SOA, &[0; 22]), Ok(()));
        assert_eq!(expand(Rtype::SOA, &[0; 21]), Err(WireError::Data));
        assert_eq!(expand(Rtype::TXT, b"\x01a"), Ok(()));
    }

    #[test]
    fn names_are_not_read_from_the_header() {
        // Its id of 0 would read as the root; a client's id would not.
        let message = [&[0; HEADER_BYTES][..], b"\xc0\x00"].concat();
        assert_eq!(read_name(&message, 12).unwrap_err(), WireError::Name);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_query(&bytes);
            if let Ok(message) = Message::parse(&bytes) {
                let _ = message.validate();
                let _ = message.edns();
                for record in message.section(Section::Answer) {
                    let _ = message.target(&record);
                    let _ = expand_rdata(&message, &record, &mut Vec::new());
                }
            }
        }

        #[test]
        fn no_tail_of_a_query_makes_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..200), counts in any::<[u8; 6]>()) {
            let mut bytes = QUERY.to_vec();
            bytes[6..12].copy_from_slice(&counts);
            bytes.extend_from_slice(&tail);
            if let Ok(message) = Message::parse(&bytes) {
                for record in message.records().map_while(Result::ok) {
                    let _ = message.owner(&record);
                    let _ = expand_rdata(&message, &record, &mut Vec::new());
                }
            }
        }
    }
}
