//! One zone in memory, and the lookup of RFC 1034 section 4.3.2 with the wildcards of RFC 4592.
//!
//! The RRsets are in the engine; here is the tree of names over it. Names are kept in lower case as keys; every name
//! between a record's owner and the apex has a node, so that an empty non-terminal exists (RFC 4592 section 2.2.2) and
//! the deepest existing node is the closest encloser. A node knows which types it has and where they were written.

use super::draft::Draft;
use super::engine::{Engine, Rrset};
use super::outcome::LocalAnswer;
use super::presentation::record_line;
use super::rdata::CLASS_IN;
use super::soa;
use crate::dns::address::is_private;
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

/// What there is at one name, in the order written.
type Node = Vec<Place>;

/// One RRset: its type, and where its first record was written.
#[derive(Debug, Clone, Copy)]
struct Place {
    rtype: Rtype,
    file: u16,
    line: u32,
}

/// One zone.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) apex: Name,
    engine: Engine,
    nodes: Nodes,
    files: Vec<Arc<Path>>,
    soa: Record,
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

/// One RRset of the zone: the owner it is found under, and its place.
#[derive(Debug, Clone, Copy)]
struct At<'a> {
    owner: &'a [u8],
    place: Place,
}

/// One step of the lookup, for one name of an alias chain.
enum Step<'a> {
    Set(At<'a>),
    Alias(At<'a>),
    Dname(At<'a>, Name),
    Cut(At<'a>),
    NoData,
    NxDomain,
    NotHere,
}

impl Store {
    /// Takes what was read of a zone. Its SOA is `made` when it has none.
    pub(super) fn new(draft: Draft, made: Record, files: Vec<Arc<Path>>, fallthrough: bool) -> Self {
        let apex = draft.apex.clone();
        let own = draft.nodes.get(apex.as_wire()).and_then(|node| node.set(Rtype::SOA)).and_then(|set| {
            let rdata = set.items.first()?.rdata.clone();
            Some(Record { owner: apex.clone(), rtype: Rtype::SOA, class: CLASS_IN, ttl: set.ttl, rdata })
        });
        let mut draft = draft;
        // An overlay is no zone of its own: a question for its SOA belongs to the zone it lies over.
        if own.is_none() && !fallthrough {
            draft.insert(made.clone(), u16::MAX, 0);
        }
        let nodes = draft.nodes.iter().map(|(key, node)| {
            let place = |set: &super::draft::Set| {
                let first = set.items.first()?;
                Some(Place { rtype: set.rtype, file: first.file, line: first.line })
            };
            (key.clone(), node.sets.iter().filter_map(place).collect())
        });
        let nodes = nodes.collect();
        let sets = draft.nodes.iter_mut().flat_map(|(key, node)| {
            node.sets.drain(..).map(|set| {
                let rdata = set.items.into_iter().map(|item| item.rdata).collect();
                (&**key, set.rtype, Rrset { ttl: set.ttl, rdata })
            })
        });
        let engine = Engine::new(&apex, sets);
        Self { apex, engine, nodes, files, soa: own.unwrap_or(made), fallthrough }
    }

    /// Returns the files the records come from.
    pub(super) fn files(&self) -> &[Arc<Path>] {
        &self.files
    }

    /// Returns the serial number of the SOA; none for an overlay that has none of its own.
    pub(super) fn serial(&self) -> Option<u32> {
        let rdata = &self.soa.rdata;
        // RFC 1035 section 3.3.13: behind the two names stand five numbers, the first of which it is.
        let serial = rdata.len().checked_sub(20).and_then(|at| rdata.get(at..at + 4))?;
        (!self.fallthrough).then(|| serial.iter().fold(0, |serial, octet| serial << 8 | u32::from(*octet)))
    }

    /// Shows every address of the zone with its owner and TTL.
    pub(super) fn each_address(&self, show: impl FnMut(&Name, IpAddr, u32)) {
        self.engine.each_address(show);
    }

    /// Lists every record, a made SOA included: names in canonical order and lower case, the rest as written.
    pub(super) fn records(&self) -> Vec<Record> {
        let named = |wire: &[u8]| Name::from_wire(wire).ok();
        let mut owners: Vec<(Name, &[u8], &Node)> =
            self.nodes.iter().filter_map(|(key, node)| Some((named(key)?, &**key, node))).collect();
        owners.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        let mut records = Vec::new();
        for (owner, key, node) in owners {
            for place in node {
                let Some(Rrset { ttl, rdata }) = self.engine.rrset(key, place.rtype) else { continue };
                let record = |rdata| Record { owner: owner.clone(), rtype: place.rtype, class: CLASS_IN, ttl, rdata };
                records.extend(rdata.into_iter().map(record));
            }
        }
        records
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
                Step::Alias(set) => match self.push(&name, set, dnssec_ok, &mut answers, &mut source) {
                    Some(target) => name = target,
                    None => break,
                },
                Step::Dname(set, owner) => {
                    let first = answers.len();
                    let Some(target) = self.push(&owner, set, dnssec_ok, &mut answers, &mut source) else { break };
                    let Ok(target) = name.replace_suffix(&owner, &target) else {
                        let mut answer = LocalAnswer::records(Origin::Zone, answers, source);
                        answer.rcode = YXDOMAIN;
                        return found(answer);
                    };
                    // RFC 6672 section 3.1: the CNAME made of it has the DNAME's TTL.
                    let (rdata, ttl) = (target.as_wire().into(), answers.get(first).map_or(0, |dname| dname.ttl));
                    answers.push(Record { owner: name, rtype: Rtype::CNAME, class: CLASS_IN, ttl, rdata });
                    // The alias itself was asked for: it is not followed (RFC 1034 section 4.3.2).
                    if matches!(qtype, Rtype::CNAME | Rtype::ANY) {
                        return found(LocalAnswer::records(Origin::Zone, answers, source));
                    }
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
            let Some((owner, node)) = self.nodes.get_key_value(&wire[start..]) else {
                return self.wildcard(encloser, qtype, name);
            };
            encloser = &wire[start..];
            let (is_qname, is_apex) = (start == 0, encloser.len() == apex_len);
            if let Some(cut) = at(owner, node, Rtype::NS).filter(|_| !is_apex) {
                // RFC 4035 section 3.1.4.1: the parent answers for DS at the cut itself.
                if !(is_qname && qtype == Rtype::DS) {
                    return Step::Cut(cut);
                }
            }
            if let Some(dname) = at(owner, node, Rtype::DNAME).filter(|_| !is_qname) {
                let owner = Name::from_wire(&name.as_wire()[start..]).unwrap_or_else(|_| self.apex.clone());
                return Step::Dname(dname, owner);
            }
            if is_qname {
                return self.at_node(owner, node, qtype, name);
            }
        }
        Step::NotHere
    }

    /// RFC 4592 section 3.3.1: only the wildcard right below the closest encloser is a source of synthesis.
    fn wildcard(&self, encloser: &[u8], qtype: Rtype, name: &Name) -> Step<'_> {
        let mut key = NameBuf::default();
        let fits = key.push(b"\x01*").is_ok() && key.push(encloser).is_ok();
        match self.nodes.get_key_value(key.as_wire()).filter(|_| fits) {
            Some((owner, node)) => self.at_node(owner, node, qtype, name),
            None if !self.fallthrough => Step::NxDomain,
            None if self.withholds_service(name, qtype) => Step::NoData,
            None => Step::NotHere,
        }
    }

    fn at_node<'a>(&self, owner: &'a [u8], node: &Node, qtype: Rtype, name: &Name) -> Step<'a> {
        if qtype == Rtype::ANY {
            // RFC 8482 section 4.1: one RRset, whichever; the first written is the least surprising.
            if let Some(&place) = node.iter().find(|place| place.rtype != Rtype::RRSIG) {
                return Step::Set(At { owner, place });
            }
        } else if let Some(set) = at(owner, node, qtype) {
            return Step::Set(set);
        } else if let Some(alias) = at(owner, node, Rtype::CNAME) {
            return Step::Alias(alias);
        }
        // An overlay owns the addresses of a name as a whole: with our A, a public AAAA or a public HTTPS record's
        // address hints would lead some clients elsewhere.
        let of_addresses = matches!(qtype, Rtype::A | Rtype::AAAA | Rtype::HTTPS | Rtype::SVCB);
        if !self.fallthrough || (of_addresses && has_address(node)) || self.withholds_service(name, qtype) {
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
            self.nodes.get(lower.as_wire()).is_some_and(has_address)
        })
    }

    fn nothing(&self, rcode: Rcode, name: &Name, qtype: Rtype, answers: Vec<Record>, mut source: String) -> Found {
        let what = if rcode == Rcode::NXDOMAIN { "no such name" } else { "no such type" };
        if !source.is_empty() {
            source.push_str("; ");
        }
        source.push_str(&format!("zone {}: {what}: {name} {qtype}", self.apex));
        let mut answer = LocalAnswer::negative(Origin::Zone, rcode, soa::negative(&self.soa), source);
        answer.answers = answers;
        found(answer)
    }

    /// Adds an RRset under the owner asked for. Returns the name its first record's data starts with: where an alias
    /// leads.
    fn push(
        &self,
        owner: &Name,
        set: At<'_>,
        dnssec_ok: bool,
        answers: &mut Vec<Record>,
        source: &mut String,
    ) -> Option<Name> {
        let rrset = self.engine.rrset(set.owner, set.place.rtype)?;
        let first = rrset.rdata.first()?;
        let target = Name::from_wire(first).ok();
        let record = |rdata: &[u8], rtype, ttl| Record {
            owner: owner.clone(),
            rtype,
            class: CLASS_IN,
            ttl,
            rdata: rdata.into(),
        };
        if !source.is_empty() {
            source.push_str("; ");
        }
        source.push_str(&self.source(set.place, &record(first, set.place.rtype, rrset.ttl)));
        answers.extend(rrset.rdata.iter().map(|rdata| record(rdata, set.place.rtype, rrset.ttl)));
        // Signatures of the RRset (RFC 4035 section 3.1.1), when the zone file carries any.
        if let Some(signatures) = dnssec_ok.then(|| self.engine.rrset(set.owner, Rtype::RRSIG)).flatten() {
            let covered = set.place.rtype.0.to_be_bytes();
            let matching = signatures.rdata.iter().filter(|rdata| rdata.starts_with(&covered));
            answers.extend(matching.map(|rdata| record(rdata, Rtype::RRSIG, signatures.ttl)));
        }
        target
    }

    fn source(&self, place: Place, record: &Record) -> String {
        match self.files.get(usize::from(place.file)) {
            Some(file) => format!("{}:{} {}", file.display(), place.line, record_line(record)),
            None => format!("made for zone {}: {}", self.apex, record_line(record)),
        }
    }

    /// Tells whether there is a node for a name: records of its own, or names below it.
    pub(super) fn has(&self, qname: &Name) -> bool {
        let mut lower = NameBuf::default();
        lower.set_lower(qname.as_wire());
        self.nodes.contains_key(lower.as_wire())
    }

    fn has_private_glue(&self, cut: At<'_>) -> bool {
        let servers = self.engine.rrset(cut.owner, Rtype::NS).map(|set| set.rdata).unwrap_or_default();
        let targets = servers.iter().filter_map(|rdata| Name::from_wire(rdata).ok());
        targets.map(|target| target.to_lower()).any(|target| {
            [Rtype::A, Rtype::AAAA].into_iter().any(|rtype| {
                let addresses = self.engine.rrset(target.as_wire(), rtype).map(|set| set.rdata).unwrap_or_default();
                addresses.iter().any(|rdata| address(rtype, rdata).is_some_and(is_private))
            })
        })
    }
}

/// Returns the RRset of a type at a node.
fn at<'a>(owner: &'a [u8], node: &Node, rtype: Rtype) -> Option<At<'a>> {
    node.iter().find(|place| place.rtype == rtype).map(|&place| At { owner, place })
}

fn has_address(node: &Node) -> bool {
    node.iter().any(|place| matches!(place.rtype, Rtype::A | Rtype::AAAA))
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

/// Returns the host a service binding question is about: the name behind its `_port` and `_scheme` labels.
pub(super) fn service_host(name: &Name, qtype: Rtype) -> Option<Name> {
    if !matches!(qtype, Rtype::HTTPS | Rtype::SVCB) || !name.labels().next().is_some_and(|l| l.starts_with(b"_")) {
        return None;
    }
    let host = suffixes(name.as_wire()).find(|suffix| suffix.get(1) != Some(&b'_'))?;
    Name::from_wire(host).ok()
}
