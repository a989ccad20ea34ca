//! A record as octets, so that a million of them would cost no allocation: they stand one behind the other in chunks.
//!
//! ```text
//! length │ view, type, flags, name │ when │ replies: server, transport, round trip, message │ verdict │ failure
//! ```
//!
//! Numbers are in this machine's memory only: little-endian, lengths before what has one.

use super::{Found, Record, Said};
use crate::clock::Tick;
use crate::config::{UpstreamTransport, ViewId};
use crate::dns::{Name, QuestionKey, Rtype};
use std::time::Duration;

/// The transports, each at the place of its number.
const TRANSPORTS: [UpstreamTransport; 6] = [
    UpstreamTransport::Udp,
    UpstreamTransport::Tcp,
    UpstreamTransport::Tls,
    UpstreamTransport::Https,
    UpstreamTransport::Quic,
    UpstreamTransport::H3,
];

/// Appends a record.
pub(super) fn write(octets: &mut Vec<u8>, view: ViewId, question: &QuestionKey, record: &Record) {
    let start = octets.len();
    octets.extend_from_slice(&[0; size_of::<u32>()]);
    octets.extend_from_slice(&head(view, question));
    put(octets, question.qname.as_wire());
    octets.extend_from_slice(&record.at.0.to_le_bytes());
    octets.push(u8::try_from(record.said.len()).unwrap_or(u8::MAX));
    for said in record.said.iter().take(usize::from(u8::MAX)) {
        put(octets, said.server.as_bytes());
        let transport = TRANSPORTS.iter().position(|of| *of == said.transport);
        octets.push(transport.and_then(|at| u8::try_from(at).ok()).unwrap_or_default());
        octets.extend_from_slice(&u64::try_from(said.rtt.as_nanos()).unwrap_or(u64::MAX).to_le_bytes());
        put(octets, &said.message);
    }
    let found = record.found.as_ref().map(|found| [&*found.decided, &found.because]);
    for texts in
        [found.as_ref().map(<[&str; 2]>::as_slice), record.failure.as_deref().as_ref().map(std::slice::from_ref)]
    {
        octets.push(u8::from(texts.is_some()));
        texts.into_iter().flatten().for_each(|text| put(octets, text.as_bytes()));
    }
    let length = u32::try_from(octets.len() - start - size_of::<u32>()).unwrap_or(0);
    octets[start..start + size_of::<u32>()].copy_from_slice(&length.to_le_bytes());
}

fn head(view: ViewId, question: &QuestionKey) -> [u8; 6] {
    let ([a, b], [c, d]) = (view.0.to_le_bytes(), question.qtype.0.to_le_bytes());
    [a, b, c, d, u8::from(question.dnssec_ok), u8::from(question.checking_disabled)]
}

fn put(octets: &mut Vec<u8>, part: &[u8]) {
    octets.extend_from_slice(&u32::try_from(part.len()).unwrap_or(0).to_le_bytes());
    octets.extend_from_slice(part);
}

/// A record as it stands in a chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed<'a>(&'a [u8]);

/// Goes through the records of a chunk, the oldest first.
pub(super) fn each(mut octets: &[u8]) -> impl Iterator<Item = Packed<'_>> {
    std::iter::from_fn(move || take(&mut octets).map(Packed))
}

impl<'a> Packed<'a> {
    /// Returns what the record is about.
    pub(super) fn question(self) -> Option<(ViewId, QuestionKey)> {
        let mut rest = self.0;
        let [a, b, c, d, dnssec_ok, checking_disabled] = *rest.split_off(..6)? else { return None };
        let qname = Name::from_wire(take(&mut rest)?).ok()?;
        let qtype = Rtype(u16::from_le_bytes([c, d]));
        let (dnssec_ok, checking_disabled) = (dnssec_ok != 0, checking_disabled != 0);
        let question = QuestionKey { qname, qtype, dnssec_ok, checking_disabled };
        Some((ViewId(u16::from_le_bytes([a, b])), question))
    }

    /// Tells whether it is about this question, without taking it apart.
    pub(super) fn is_about(self, view: ViewId, question: &QuestionKey) -> bool {
        let mut rest = self.0;
        rest.split_off(..6) == Some(&head(view, question)) && take(&mut rest) == Some(question.qname.as_wire())
    }

    /// Appends it to another chunk.
    pub(super) fn copy_to(self, octets: &mut Vec<u8>) {
        put(octets, self.0);
    }

    /// Returns what it says.
    pub(super) fn record(self) -> Option<Record> {
        let mut rest = self.0;
        rest.split_off(..6)?;
        take(&mut rest)?;
        let at = Tick(number(&mut rest)?);
        let count = *rest.split_off_first()?;
        let said = (0..count).map(|_| {
            let server = text(&mut rest)?.into();
            let transport = *TRANSPORTS.get(usize::from(*rest.split_off_first()?))?;
            let rtt = Duration::from_nanos(number(&mut rest)?);
            Some(Said { server, transport, rtt, message: take(&mut rest)?.to_vec() })
        });
        let said = said.collect::<Option<Vec<Said>>>()?;
        let found = if *rest.split_off_first()? == 0 {
            None
        } else {
            Some(Found { decided: text(&mut rest)?, because: text(&mut rest)? })
        };
        let failure = if *rest.split_off_first()? == 0 { None } else { Some(text(&mut rest)?) };
        Some(Record { at, said, found, failure })
    }
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = rest.split_off(..size_of::<u32>())?;
    rest.split_off(..usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(rest.split_off(..size_of::<u64>())?.try_into().ok()?))
}

fn text(rest: &mut &[u8]) -> Option<String> {
    Some(String::from_utf8_lossy(take(rest)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, qtype: Rtype) -> QuestionKey {
        QuestionKey { qname: Name::parse(name).unwrap(), qtype, dnssec_ok: true, checking_disabled: false }
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        let said = |transport: &UpstreamTransport| Said {
            server: format!("group/{transport:?}").into(),
            transport: *transport,
            rtt: Duration::from_nanos(1_234_567),
            message: vec![7; 300],
        };
        let all = Record {
            at: Tick(99),
            said: TRANSPORTS.iter().map(said).collect(),
            found: Some(Found { decided: "poisoned".into(), because: "+6 ünlikely".into() }),
            failure: Some("nobody answered".into()),
        };
        let one = Record { at: Tick(1), said: vec![said(&TRANSPORTS[0])], found: None, failure: None };
        let none = Record { at: Tick(u64::MAX), said: vec![], found: None, failure: None };
        let mut octets = Vec::new();
        let question_of = |n| question("www.example.org", Rtype(n));
        for (n, record) in (0..).zip([&all, &one, &none]) {
            write(&mut octets, ViewId(n), &question_of(n), record);
        }
        let read: Vec<_> = each(&octets).map(|packed| (packed.question().unwrap(), packed.record().unwrap())).collect();
        assert_eq!(read.iter().map(|(_, record)| record).collect::<Vec<_>>(), [&all, &one, &none]);
        for (n, (found, _)) in (0..).zip(&read) {
            assert_eq!(found, &(ViewId(n), question_of(n)));
        }
        let second = each(&octets).nth(1).unwrap();
        assert!(second.is_about(ViewId(1), &question("www.example.org", Rtype(1))));
        for (view, name, qtype) in [(0, "www.example.org", 1), (1, "www.example.com", 1), (1, "www.example.org", 2)] {
            assert!(!second.is_about(ViewId(view), &question(name, Rtype(qtype))), "{view} {name} {qtype}");
        }
        let mut copied = Vec::new();
        each(&octets).for_each(|packed| packed.copy_to(&mut copied));
        assert_eq!(copied, octets);
    }
}
