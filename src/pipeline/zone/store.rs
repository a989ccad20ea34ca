//! One zone in memory, and the lookup of RFC 1034 section 4.3.2 with the wildcards of RFC 4592.
//!
//! Why this is not hickory-server's in-memory zone: docs/decisions/0001-zone-store.md.
//!
//! Names are kept in lower case as keys; every name between a record's owner and the apex has a node, so that an
//! empty non-terminal exists (RFC 4592 section 2.2.2) and the deepest existing node is the closest encloser.

use super::outcome::LocalAnswer;
use super::presentation::record_line;
use super::rdata::CLASS_IN;
use super::soa;
use crate::dns::answer::ede;
use crate::dns::name::suffixes;
use crate::dns::{Ede, Name, NameBuf, Origin, Rcode, Record, Rtype};
use hashbrown::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

/// Aliases followed inside one zone; the pipeline has the same bound over all zones.
const MAX_ALIASES: usize = 11;
/// Labels of a name: 255 octets hold at most 127.
const MAX_LABELS: usize = 128;
/// The response code of a DNAME that makes a name too long (RFC 6672 section 2.2).
const YXDOMAIN: Rcode = Rcode(6);

type Nodes = HashMap<Box<[u8]>, Node, foldhash::fast::RandomState>;

/// All records of one name.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) sets: Vec<Rrset>,
}

/// All records of one name and type.
#[derive(Debug)]
pub(super) struct Rrset {
    pub(super) rtype: Rtype,
    pub(super) ttl: u32,
    pub(super) items: Vec<Item>,
}

/// One record's data and where it was written.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) rdata: Box<[u8]>,
    pub(super) ttl: u32,
    pub(super) file: u16,
    pub(super) line: u32,
}

impl Node {
    pub(super) fn set(&self, rtype: Rtype) -> Option<&Rrset> {
        self.sets.iter().find(|set| set.rtype == rtype)
    }

    fn has_address(&self) -> bool {
        self.sets.iter().any(|set| matches!(set.rtype, Rtype::A | Rtype::AAAA))
    }
}

/// One zone.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) apex: Name,
    pub(super) nodes: Nodes,
    pub(super) files: Vec<Arc<Path>>,
    soa: Option<Record>,
    fallthrough: bool,
}

/// What a zone says.
#[derive(Debug)]
pub(super) enum Found {
    /// This.
    Answer(Box<LocalAnswer>),
    /// The name is at or below a zone cut; `private` when the servers behind it have private addresses.
    Delegated {
        /// A private address is among the glue.
        private: bool,
    },
    /// Nothing: the zone is an overlay without this name and type.
    NotHere,
}

/// One step of the lookup, for one name of an alias chain.
enum Step<'a> {
    Set(&'a Rrset),
    Alias(&'a Rrset),
    Dname(&'a Rrset, Name),
    Cut(&'a Rrset),
    NoData,
    NxDomain,
    NotHere,
}

impl Store {
    pub(super) fn new(apex: Name, files: Vec<Arc<Path>>, fallthrough: bool) -> Self {
        let apex = apex.to_lower();
        let mut nodes = Nodes::default();
        nodes.insert(apex.as_wire().into(), Node::default());
        Self { apex, nodes, files, soa: None, fallthrough }
    }

    /// Adds a record at or below the apex.
    pub(super) fn insert(&mut self, record: Record, file: u16, line: u32) {
        let mut lower = NameBuf::default();
        lower.set_lower(record.owner.as_wire());
        let key = lower.as_wire();
        if !self.nodes.contains_key(key) {
            for suffix in suffixes(key) {
                if suffix.len() < self.apex.as_wire().len() || self.nodes.contains_key(suffix) {
                    break;
                }
                self.nodes.insert(suffix.into(), Node::default());
            }
        }
        let item = Item { rdata: record.rdata, ttl: record.ttl, file, line };
        let Some(node) = self.nodes.get_mut(key) else { return };
        match node.sets.iter_mut().find(|set| set.rtype == record.rtype) {
            Some(set) => {
                // RFC 2181 section 5.2: the TTLs of an RRset are the same; the lowest is taken.
                set.ttl = set.ttl.min(record.ttl);
                set.items.push(item);
            }
            None => node.sets.push(Rrset { rtype: record.rtype, ttl: record.ttl, items: vec![item] }),
        }
    }

    /// Ends loading: takes the zone's SOA, or `made` when it has none.
    pub(super) fn finish(&mut self, made: Record) {
        let apex = self.apex.clone();
        let own = self.nodes.get(apex.as_wire()).and_then(|node| node.set(Rtype::SOA)).and_then(|set| {
            let item = set.items.first()?;
            Some(Record { owner: apex, rtype: Rtype::SOA, class: CLASS_IN, ttl: set.ttl, rdata: item.rdata.clone() })
        });
        // An overlay is no zone of its own: a question for its SOA belongs to the zone it lies over.
        if own.is_none() && !self.fallthrough {
            self.insert(made.clone(), u16::MAX, 0);
        }
        self.soa = Some(own.unwrap_or(made));
    }

    /// Tells whether names and types that are not here are left to others.
    pub(super) fn is_overlay(&self) -> bool {
        self.fallthrough
    }

    /// Answers a question for a name at or below the apex.
    pub(super) fn lookup(&self, qname: &Name, qtype: Rtype, dnssec_ok: bool) -> Found {
        let mut answers: Vec<Record> = Vec::new();
        let mut source = String::new();
        let mut name = qname.clone();
        for hop in 0..=MAX_ALIASES {
            let step = if name.is_at_or_below(&self.apex) { self.step(&name, qtype) } else { Step::NotHere };
            match step {
                Step::Set(set) => {
                    self.push(&name, set, dnssec_ok, &mut answers, &mut source);
                    return found(LocalAnswer::records(Origin::Zone, answers, source));
                }
                Step::NoData => return self.nothing(Rcode::NOERROR, &name, qtype, answers, source),
                Step::NxDomain => return self.nothing(Rcode::NXDOMAIN, &name, qtype, answers, source),
                Step::NotHere if hop == 0 => return Found::NotHere,
                Step::Cut(set) if hop == 0 => return Found::Delegated { private: self.has_private_glue(set) },
                Step::NotHere | Step::Cut(_) => {
                    let mut answer = LocalAnswer::records(Origin::Zone, answers, source);
                    answer.follow = Some(name);
                    return found(answer);
                }
                Step::Alias(set) => {
                    self.push(&name, set, dnssec_ok, &mut answers, &mut source);
                    match set.items.first().and_then(|item| Name::from_wire(&item.rdata).ok()) {
                        Some(target) => name = target,
                        None => break,
                    }
                }
                Step::Dname(set, owner) => {
                    self.push(&owner, set, dnssec_ok, &mut answers, &mut source);
                    let Some(target) = set.items.first().and_then(|item| Name::from_wire(&item.rdata).ok()) else {
                        break;
                    };
                    let Ok(target) = name.replace_suffix(&owner, &target) else {
                        let mut answer = LocalAnswer::records(Origin::Zone, answers, source);
                        answer.rcode = YXDOMAIN;
                        return found(answer);
                    };
                    // RFC 6672 section 3.1: the CNAME made of it has the DNAME's TTL.
                    let rdata = target.as_wire().into();
                    answers.push(Record { owner: name, rtype: Rtype::CNAME, class: CLASS_IN, ttl: set.ttl, rdata });
                    name = target;
                }
            }
        }
        let mut answer = LocalAnswer::records(Origin::Zone, Vec::new(), source);
        answer.rcode = Rcode::SERVFAIL;
        answer.authoritative = false;
        answer.ede = Some(Ede::new(ede::INVALID_DATA, "the local zone's aliases run in a circle"));
        found(answer)
    }

    fn step(&self, name: &Name, qtype: Rtype) -> Step<'_> {
        let mut lower = NameBuf::default();
        lower.set_lower(name.as_wire());
        let wire = lower.as_wire();
        let apex_len = self.apex.as_wire().len();
        // Every name from the one asked for up to the apex, then walked downwards from the apex.
        let mut starts = [0_usize; MAX_LABELS];
        let mut depth = 0;
        for suffix in suffixes(wire).take_while(|suffix| suffix.len() >= apex_len).take(MAX_LABELS) {
            starts[depth] = wire.len() - suffix.len();
            depth += 1;
        }
        let mut encloser: &[u8] = &wire[starts[depth.saturating_sub(1)]..];
        for &start in starts[..depth].iter().rev() {
            let Some(node) = self.nodes.get(&wire[start..]) else {
                return self.wildcard(encloser, qtype, name);
            };
            encloser = &wire[start..];
            let (is_qname, is_apex) = (start == 0, encloser.len() == apex_len);
            if let Some(cut) = node.set(Rtype::NS).filter(|_| !is_apex) {
                // RFC 4035 section 3.1.4.1: the parent answers for DS at the cut itself.
                if !(is_qname && qtype == Rtype::DS) {
                    return Step::Cut(cut);
                }
            }
            if let Some(dname) = node.set(Rtype::DNAME).filter(|_| !is_qname) {
                let owner = Name::from_wire(&name.as_wire()[start..]).unwrap_or_else(|_| self.apex.clone());
                return Step::Dname(dname, owner);
            }
            if is_qname {
                return self.at_node(node, qtype, name);
            }
        }
        Step::NotHere
    }

    /// RFC 4592 section 3.3.1: only the wildcard right below the closest encloser is a source of synthesis.
    fn wildcard(&self, encloser: &[u8], qtype: Rtype, name: &Name) -> Step<'_> {
        let mut key = NameBuf::default();
        let fits = key.push(b"\x01*").is_ok() && key.push(encloser).is_ok();
        match self.nodes.get(key.as_wire()).filter(|_| fits) {
            Some(node) => self.at_node(node, qtype, name),
            None if !self.fallthrough => Step::NxDomain,
            None if self.withholds_service(name, qtype) => Step::NoData,
            None => Step::NotHere,
        }
    }

    fn at_node<'a>(&self, node: &'a Node, qtype: Rtype, name: &Name) -> Step<'a> {
        if qtype == Rtype::ANY {
            // RFC 8482 section 4.1: one RRset, whichever; the first written is the least surprising.
            if let Some(set) = node.sets.iter().find(|set| set.rtype != Rtype::RRSIG) {
                return Step::Set(set);
            }
        } else if let Some(set) = node.set(qtype) {
            return Step::Set(set);
        } else if let Some(alias) = node.set(Rtype::CNAME) {
            return Step::Alias(alias);
        }
        // An overlay owns the addresses of a name as a whole: with our A, a public AAAA or a public HTTPS record's
        // address hints would lead some clients elsewhere.
        let of_addresses = matches!(qtype, Rtype::A | Rtype::AAAA | Rtype::HTTPS | Rtype::SVCB);
        if !self.fallthrough || (of_addresses && node.has_address()) || self.withholds_service(name, qtype) {
            Step::NoData
        } else {
            Step::NotHere
        }
    }

    /// Tells whether this is a service binding under `_port._scheme` labels (RFC 9460 section 2.3) of a name whose
    /// addresses are ours.
    fn withholds_service(&self, name: &Name, qtype: Rtype) -> bool {
        service_host(name, qtype).is_some_and(|host| {
            let mut lower = NameBuf::default();
            lower.set_lower(host.as_wire());
            self.nodes.get(lower.as_wire()).is_some_and(Node::has_address)
        })
    }

    fn nothing(&self, rcode: Rcode, name: &Name, qtype: Rtype, answers: Vec<Record>, mut source: String) -> Found {
        let Some(soa) = &self.soa else { return Found::NotHere };
        let what = if rcode == Rcode::NXDOMAIN { "no such name" } else { "no such type" };
        if !source.is_empty() {
            source.push_str("; ");
        }
        source.push_str(&format!("zone {}: {what}: {name} {qtype}", self.apex));
        let mut answer = LocalAnswer::negative(Origin::Zone, rcode, soa::negative(soa), source);
        answer.answers = answers;
        found(answer)
    }

    fn push(&self, owner: &Name, set: &Rrset, dnssec_ok: bool, answers: &mut Vec<Record>, source: &mut String) {
        let first = answers.len();
        answers.extend(set.items.iter().map(|item| self.record(owner, set, item)));
        if let (Some(item), Some(record)) = (set.items.first(), answers.get(first)) {
            if !source.is_empty() {
                source.push_str("; ");
            }
            source.push_str(&self.source(item, record));
        }
        if dnssec_ok {
            self.push_signatures(owner, set, answers);
        }
    }

    /// Adds the signatures of an RRset (RFC 4035 section 3.1.1), when the zone file carries any.
    fn push_signatures(&self, owner: &Name, set: &Rrset, answers: &mut Vec<Record>) {
        let mut lower = NameBuf::default();
        lower.set_lower(owner.as_wire());
        let Some(signatures) = self.nodes.get(lower.as_wire()).and_then(|node| node.set(Rtype::RRSIG)) else { return };
        let covers = |item: &&Item| item.rdata.starts_with(&set.rtype.0.to_be_bytes());
        answers.extend(signatures.items.iter().filter(covers).map(|item| self.record(owner, signatures, item)));
    }

    fn record(&self, owner: &Name, set: &Rrset, item: &Item) -> Record {
        Record { owner: owner.clone(), rtype: set.rtype, class: CLASS_IN, ttl: set.ttl, rdata: item.rdata.clone() }
    }

    fn source(&self, item: &Item, record: &Record) -> String {
        match self.files.get(usize::from(item.file)) {
            Some(file) => format!("{}:{} {}", file.display(), item.line, record_line(record)),
            None => format!("made for zone {}: {}", self.apex, record_line(record)),
        }
    }

    fn has_private_glue(&self, cut: &Rrset) -> bool {
        let targets = cut.items.iter().filter_map(|item| Name::from_wire(&item.rdata).ok());
        targets.map(|target| target.to_lower()).any(|target| {
            let sets = self.nodes.get(target.as_wire()).map(|node| node.sets.as_slice()).unwrap_or_default();
            sets.iter()
                .flat_map(|set| set.items.iter().map(|item| (set.rtype, &item.rdata)))
                .any(|(rtype, rdata)| address(rtype, rdata).is_some_and(is_private))
        })
    }
}

fn found(answer: LocalAnswer) -> Found {
    Found::Answer(Box::new(answer))
}

/// Returns the address in the data of an A or AAAA record.
pub(super) fn address(rtype: Rtype, rdata: &[u8]) -> Option<IpAddr> {
    match rtype {
        Rtype::A => <[u8; 4]>::try_from(rdata).ok().map(|octets| Ipv4Addr::from(octets).into()),
        Rtype::AAAA => <[u8; 16]>::try_from(rdata).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

/// Tells whether an address is of a network that has no public name servers (RFC 1918, 3927, 4193, 4291, 6598).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Returns the host a service binding question is about: the name behind its `_port` and `_scheme` labels.
pub(super) fn service_host(name: &Name, qtype: Rtype) -> Option<Name> {
    if !matches!(qtype, Rtype::HTTPS | Rtype::SVCB) || !name.labels().next().is_some_and(|l| l.starts_with(b"_")) {
        return None;
    }
    let host = suffixes(name.as_wire()).find(|suffix| suffix.get(1) != Some(&b'_'))?;
    Name::from_wire(host).ok()
}
