//! A reply as the guard sees it: what it says about the question's name, and the marks the wire left on it.
//!
//! The same reading serves a message from the wire ([`Reply::read`]) and a recorded case ([`Reply::of`]), whose marks may
//! be unknown: what was not recorded is `None` and speaks neither way.

use crate::dns::answer::Record;
use crate::dns::wire::{CLASS_IN, Message, Section, WireError, flag};
use crate::dns::{Ede, Name, Rcode, Rtype};
use std::net::{IpAddr, Ipv6Addr};

/// Aliases followed inside one reply; more count as a loop. As many as compose follows over all, and some more for
/// replies that are only looked at.
const MAX_ALIASES: usize = 16;
/// Data of one RRset that are compared; sets beyond it are compared by their first so many in canonical order. The
/// largest sets of addresses in the wild have some 30 members.
const MAX_DATA: usize = 64;

/// The question that is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its name, absolute, any letter case.
    pub qname: Name,
    /// Its type.
    pub qtype: Rtype,
}

impl Question {
    /// Tells whether its answers are addresses.
    #[must_use]
    pub fn asks_addresses(&self) -> bool {
        matches!(self.qtype, Rtype::A | Rtype::AAAA)
    }
}

/// One datum of the answer. Ordered, so that sets of them are compared as sets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Datum {
    /// The address of an A or AAAA record.
    Address(IpAddr),
    /// Anything else: its RDATA, names in it in lower case where the type has any.
    Other(Box<[u8]>),
}

/// A record of an answer section.
#[derive(Debug, Clone)]
pub struct Fact {
    /// Whose it is.
    pub owner: Name,
    /// Its type.
    pub rtype: Rtype,
    /// Its TTL, when that was recorded.
    pub ttl: Option<u32>,
    /// Where it leads, when it is a CNAME.
    pub alias: Option<Name>,
    /// What it holds.
    pub datum: Datum,
}

/// Marks that the way of a reply leaves on it; `None` is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// AA was set.
    pub authoritative: Option<bool>,
    /// RA was set.
    pub recursion: Option<bool>,
    /// It had an OPT record.
    pub opt: Option<bool>,
    /// The question's letter case came back as it was sent, mixed.
    pub case_kept: Option<bool>,
    /// The info-code of its extended error.
    pub ede: Option<u16>,
}

/// What a reply says about the question; of two replies the one that stands first here is served rather.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// Data of the type asked for.
    Data,
    /// NOERROR without data.
    Empty,
    /// NXDOMAIN.
    Missing,
    /// A record of another type at the end of the chain, and none of the right one.
    WrongType,
    /// A response code that says that the upstream failed.
    Failed,
}

/// A reply, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What it says.
    pub content: Content,
    /// The data at the end of the chain, in canonical order, none twice.
    pub data: Vec<Datum>,
    /// The smallest and the largest TTL of `data`, when they were recorded.
    pub ttls: Option<(u32, u32)>,
    /// The targets of its aliases, in order.
    pub chain: Vec<Name>,
    /// The aliases lead back to themselves, or do not end.
    pub loops: bool,
    /// A SOA record stands in the authority section (RFC 2308 section 2).
    pub soa: bool,
    /// What its way left on it.
    pub marks: Marks,
}

impl Reply {
    /// Reads a message. `sent` is the question's name in the mixed letter case it was sent in; `None` when it was not mixed.
    ///
    /// # Errors
    /// When a record is malformed.
    pub fn read(message: &Message<'_>, question: &Question, sent: Option<&[u8]>) -> Result<Self, WireError> {
        let mut facts = Vec::new();
        let mut soa = false;
        for at in message.records() {
            let at = at?;
            match at.section {
                Section::Answer if at.class == CLASS_IN => facts.push(Fact::of(&Record::from_message(message, &at)?)),
                Section::Authority => soa |= at.rtype == Rtype::SOA,
                Section::Answer | Section::Additional => {}
            }
        }
        let edns = message.edns()?;
        let marks = Marks {
            authoritative: Some(message.has(flag::AA)),
            recursion: Some(message.has(flag::RA)),
            opt: Some(edns.is_some()),
            case_kept: sent.map(|sent| sent == message.qname()),
            ede: edns.and_then(|edns| edns.option(15)).and_then(Ede::from_option).map(|ede| ede.code),
        };
        Ok(Self::of(question, message.extended_rcode(), &facts, soa, marks))
    }

    /// Makes a reply of the records of its answer section.
    #[must_use]
    pub fn of(question: &Question, rcode: Rcode, facts: &[Fact], soa: bool, marks: Marks) -> Self {
        let (chain, loops) = follow(question, facts);
        let end = chain.last().unwrap_or(&question.qname);
        let (mut data, mut ttls, mut other) = (Vec::new(), None, false);
        for fact in facts.iter().filter(|fact| fact.owner == *end) {
            let wanted = fact.rtype == question.qtype || question.qtype == Rtype::ANY;
            if wanted {
                data.push(fact.datum.clone());
                if let Some(ttl) = fact.ttl {
                    let (low, high) = ttls.unwrap_or((ttl, ttl));
                    ttls = Some((low.min(ttl), high.max(ttl)));
                }
            } else {
                // Signatures and the alias of a whole subtree lawfully stand beside or before the answer.
                other |= !matches!(fact.rtype, Rtype::RRSIG | Rtype::SIG | Rtype::DNAME | Rtype::CNAME);
            }
        }
        data.sort_unstable();
        data.dedup();
        data.truncate(MAX_DATA);
        let content = match rcode {
            Rcode::NOERROR | Rcode::NXDOMAIN if !data.is_empty() => Content::Data,
            Rcode::NOERROR | Rcode::NXDOMAIN if other => Content::WrongType,
            Rcode::NOERROR => Content::Empty,
            Rcode::NXDOMAIN => Content::Missing,
            _ => Content::Failed,
        };
        Self { content, data, ttls, chain, loops, soa, marks }
    }

    /// Returns the addresses among its data.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.data.iter().filter_map(|datum| match datum {
            Datum::Address(address) => Some(*address),
            Datum::Other(_) => None,
        })
    }

    /// Tells whether it has a datum that `other` has too. Both are in canonical order.
    #[must_use]
    pub fn shares_data(&self, other: &Self) -> bool {
        self.data.iter().any(|datum| other.data.binary_search(datum).is_ok())
    }

    /// Tells whether its aliases end without data of the type asked for.
    #[must_use]
    pub fn chain_ends(&self) -> bool {
        !self.chain.is_empty() && self.data.is_empty() && self.content != Content::WrongType
    }

    /// Tells whether it answers the question, be it with "no".
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(self.content, Content::Data | Content::Empty | Content::Missing)
    }

    /// Tells whether the reply says itself that a policy made it (RFC 8914 sections 4.5, 4.16, 4.17, 4.18).
    #[must_use]
    pub fn is_filtered(&self) -> bool {
        matches!(self.marks.ede, Some(4 | 15 | 16 | 17))
    }
}

impl Fact {
    /// Reads a record.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let alias = if record.rtype == Rtype::CNAME { record.target() } else { None };
        let datum = Datum::of(record.rtype, &record.rdata);
        Self { owner: record.owner.clone(), rtype: record.rtype, ttl: Some(record.ttl), alias, datum }
    }
}

impl Datum {
    /// Reads RDATA in wire form, names uncompressed.
    #[must_use]
    pub fn of(rtype: Rtype, rdata: &[u8]) -> Self {
        match (rtype, rdata.len()) {
            (Rtype::A, 4) => Self::Address(IpAddr::from([rdata[0], rdata[1], rdata[2], rdata[3]])),
            (Rtype::AAAA, 16) => {
                let mut octets = [0; 16];
                octets.copy_from_slice(rdata);
                Self::Address(IpAddr::V6(Ipv6Addr::from(octets)))
            }
            // Names compare without regard to letter case (RFC 4343); text does not.
            (Rtype::CNAME | Rtype::NS | Rtype::PTR | Rtype::MX | Rtype::SRV | Rtype::DNAME | Rtype::SOA, _) => {
                Self::Other(rdata.to_ascii_lowercase().into())
            }
            _ => Self::Other(rdata.into()),
        }
    }
}

/// Follows the aliases from the question's name; returns their targets, and whether they have no end.
fn follow(question: &Question, facts: &[Fact]) -> (Vec<Name>, bool) {
    let mut chain: Vec<Name> = Vec::new();
    if matches!(question.qtype, Rtype::CNAME | Rtype::ANY) {
        return (chain, false);
    }
    loop {
        let at = chain.last().unwrap_or(&question.qname);
        let Some(next) = facts.iter().find_map(|fact| fact.alias.as_ref().filter(|_| fact.owner == *at)) else {
            return (chain, false);
        };
        let seen = *next == question.qname || chain.contains(next);
        if seen || chain.len() == MAX_ALIASES {
            return (chain, true);
        }
        chain.push(next.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::encode::MessageBuilder;
    use proptest::prelude::*;

    fn question(text: &str, qtype: Rtype) -> Question {
        Question { qname: Name::parse(text).unwrap(), qtype }
    }

    fn a(owner: &str, address: &str) -> Fact {
        let datum = Datum::Address(address.parse().unwrap());
        Fact { owner: Name::parse(owner).unwrap(), rtype: Rtype::A, ttl: Some(60), alias: None, datum }
    }

    fn cname(owner: &str, target: &str) -> Fact {
        let target = Name::parse(target).unwrap();
        let datum = Datum::of(Rtype::CNAME, target.as_wire());
        Fact { owner: Name::parse(owner).unwrap(), rtype: Rtype::CNAME, ttl: Some(60), alias: Some(target), datum }
    }

    fn reply(facts: &[Fact]) -> Reply {
        Reply::of(&question("WWW.example.org", Rtype::A), Rcode::NOERROR, facts, false, Marks::default())
    }

    #[test]
    fn aliases_are_followed_in_any_order_and_letter_case() {
        let facts = [
            a("c.example.net", "192.0.2.1"),
            cname("B.example.net", "c.example.NET"),
            cname("www.EXAMPLE.org", "b.example.net"),
        ];
        let reply = reply(&facts);
        assert_eq!((reply.content, reply.chain.len(), reply.loops), (Content::Data, 2, false));
    }

    #[test]
    fn an_address_that_no_alias_leads_to_is_no_answer() {
        let reply = reply(&[cname("www.example.org", "b.example.net"), a("other.example.net", "192.0.2.1")]);
        assert!(reply.chain_ends() && reply.content == Content::Empty);
    }

    #[test]
    fn aliases_without_end_are_a_loop() {
        assert!(reply(&[cname("www.example.org", "b.example.net"), cname("b.example.net", "www.example.org")]).loops);
        assert!(reply(&[cname("www.example.org", "www.example.org")]).loops);
        let endless: Vec<_> = std::iter::once(cname("www.example.org", "n0.test"))
            .chain((0..40).map(|n| cname(&format!("n{n}.test"), &format!("n{}.test", n + 1))))
            .collect();
        let reply = reply(&endless);
        assert!(reply.loops && reply.chain.len() == MAX_ALIASES);
    }

    #[test]
    fn a_set_is_compared_by_its_first_members_in_canonical_order() {
        let many: Vec<_> = (0..200).map(|n| a("www.example.org", &format!("192.0.2.{n}"))).collect();
        let turned: Vec<_> = many.iter().rev().cloned().collect();
        assert_eq!(reply(&many).data, reply(&turned).data);
        assert_eq!(reply(&many).data.len(), MAX_DATA);
    }

    #[test]
    fn an_address_for_another_type_is_a_wrong_type() {
        let facts = [a("www.example.org", "192.0.2.1")];
        let reply =
            Reply::of(&question("www.example.org", Rtype::TXT), Rcode::NOERROR, &facts, false, Marks::default());
        assert_eq!(reply.content, Content::WrongType);
    }

    #[test]
    fn a_message_is_read_with_its_marks() {
        let question = question("www.example.org", Rtype::A);
        let mut builder = MessageBuilder::response(&question.qname, question.qtype, Rcode::NOERROR);
        builder.push(
            Section::Answer,
            &Record {
                owner: question.qname.clone(),
                rtype: Rtype::A,
                class: 1,
                ttl: 7,
                rdata: Box::from([192, 0, 2, 1]),
            },
        );
        let bytes = builder.finish();
        let message = Message::parse(&bytes).unwrap();
        let reply = Reply::read(&message, &question, Some(b"\x03wWw\x07example\x03org\x00")).unwrap();
        assert_eq!((reply.content, reply.ttls), (Content::Data, Some((7, 7))));
        assert_eq!(
            (reply.marks.case_kept, reply.marks.opt, reply.marks.recursion),
            (Some(false), Some(false), Some(true))
        );
    }

    proptest! {
        #[test]
        fn no_message_makes_reading_panic(tail in proptest::collection::vec(any::<u8>(), 0..200), counts in any::<[u8; 6]>()) {
            let mut bytes = vec![0, 0, 0x81, 0x80, 0, 1];
            bytes.extend(counts);
            bytes.extend(b"\x01a\x00\x00\x01\x00\x01");
            bytes.extend(tail);
            if let Ok(message) = Message::parse(&bytes) {
                drop(Reply::read(&message, &question("a", Rtype::A), None));
            }
        }
    }
}
