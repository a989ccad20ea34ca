//! The only file that knows hickory-server: its in-memory zone holds the RRsets of one `[[zone]]`.
//!
//! What is asked of it is one RRset by owner and type. Which owner that is (the name itself, a wildcard, an alias's
//! target) is worked out in `store.rs`, because hickory's own search goes another way than RFC 4592 and walks over
//! the whole zone for a name that is not there: docs/decisions/0001-zone-store.md.

use crate::dns::{Name, Rtype};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, NULL, SOA};
use hickory_proto::rr::{LowerName, Name as WireName, RData, Record, RecordSet, RecordType, RrKey};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, ZoneType};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// All records of one name and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rrset {
    pub(super) ttl: u32,
    pub(super) rdata: Vec<Box<[u8]>>,
}

/// The RRsets of one zone.
pub(super) struct Engine(InMemoryZoneHandler);

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Engine").field(&self.sets().len()).finish()
    }
}

impl Engine {
    /// Takes the RRsets of a zone; each owner in lower case, each owner and type once.
    pub(super) fn new<'a>(apex: &Name, sets: impl Iterator<Item = (&'a [u8], Rtype, Rrset)>) -> Self {
        let origin = wire_name(apex.as_wire()).unwrap_or_default();
        let mut handler = InMemoryZoneHandler::empty(origin, ZoneType::Primary, AxfrPolicy::Deny);
        // Not through `upsert`: it copies the RRset for every record, keeps one alias of a name without saying so and
        // takes no signature beside an alias. `lint.rs` reports such zones with their lines.
        *handler.records_get_mut() = sets.filter_map(|(owner, rtype, set)| record_set(owner, rtype, set)).collect();
        Self(handler)
    }

    /// Returns the records of one owner, in lower case, and type.
    pub(super) fn rrset(&self, owner: &[u8], rtype: Rtype) -> Option<Rrset> {
        let key = RrKey::new(LowerName::new(&wire_name(owner)?), RecordType::from(rtype.0));
        let sets = self.sets();
        let set = sets.get(&key)?;
        let rdata = set.records_without_rrsigs().filter_map(|record| octets(&record.data)).collect();
        Some(Rrset { ttl: set.ttl(), rdata })
    }

    /// Shows every address of the zone with its owner and TTL.
    pub(super) fn each_address(&self, mut show: impl FnMut(&Name, IpAddr, u32)) {
        for (key, set) in self.sets().iter() {
            let Some(owner) = name_octets(key.name()).and_then(|wire| Name::from_wire(&wire).ok()) else { continue };
            for record in set.records_without_rrsigs() {
                if let Some(address) = record.data.ip_addr() {
                    show(&owner, address, set.ttl());
                }
            }
        }
    }

    /// Returns the map behind hickory's lock, which nobody ever holds for writing: one poll gets it.
    fn sets(&self) -> impl Deref<Target = BTreeMap<RrKey, Arc<RecordSet>>> {
        // Unconstrained: a task that has used up its turn would see the free lock as busy.
        let read = pin!(tokio::task::coop::unconstrained(self.0.records()));
        match read.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(sets) => sets,
            Poll::Pending => unreachable!("a lock that is never taken for writing can always be read"),
        }
    }
}

fn record_set(owner: &[u8], rtype: Rtype, set: Rrset) -> Option<(RrKey, Arc<RecordSet>)> {
    let owner = wire_name(owner)?;
    let rtype = RecordType::from(rtype.0);
    let mut made = RecordSet::with_ttl(owner.clone(), rtype, set.ttl);
    let record = |rdata: &[u8]| Record::from_rdata(owner.clone(), set.ttl, data(rtype, rdata));
    made.set_records(set.rdata.iter().map(|rdata| record(rdata)).collect());
    Some((RrKey::new(LowerName::new(&owner), rtype), Arc::new(made)))
}

/// Makes RDATA of octets: as hickory's types what the zone's own logic knows, as plain octets all else, and also what
/// would not come back as the same octets.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other types are plain octets")]
fn data(rtype: RecordType, rdata: &[u8]) -> RData {
    let typed = match rtype {
        RecordType::A => <[u8; 4]>::try_from(rdata).ok().map(|octets| RData::A(A(octets.into()))),
        RecordType::AAAA => <[u8; 16]>::try_from(rdata).ok().map(|octets| RData::AAAA(AAAA(octets.into()))),
        RecordType::NS => wire_name(rdata).map(|name| RData::NS(NS(name))),
        RecordType::CNAME => wire_name(rdata).map(|name| RData::CNAME(CNAME(name))),
        RecordType::SOA => SOA::from_bytes(rdata).ok().map(RData::SOA),
        _ => None,
    };
    let plain = || {
        let mut octets = NULL::new();
        octets.anything = rdata.to_vec();
        RData::Unknown { code: rtype, rdata: octets }
    };
    typed.filter(|typed| octets(typed).is_some_and(|again| *again == *rdata)).unwrap_or_else(plain)
}

/// Returns the octets of RDATA, names uncompressed.
#[expect(clippy::wildcard_enum_match_arm, reason = "`data` makes no others")]
fn octets(rdata: &RData) -> Option<Box<[u8]>> {
    Some(match rdata {
        RData::A(A(address)) => Box::new(address.octets()),
        RData::AAAA(AAAA(address)) => Box::new(address.octets()),
        RData::NS(NS(name)) | RData::CNAME(CNAME(name)) => name_octets(name)?.into(),
        RData::SOA(soa) => {
            let mut all = name_octets(&soa.mname)?;
            all.extend(name_octets(&soa.rname)?);
            all.extend(soa.serial.to_be_bytes());
            for seconds in [soa.refresh, soa.retry, soa.expire] {
                all.extend(seconds.to_be_bytes());
            }
            all.extend(soa.minimum.to_be_bytes());
            all.into()
        }
        RData::Unknown { rdata, .. } => rdata.anything.as_slice().into(),
        _ => return None,
    })
}

/// Reads a whole uncompressed name.
fn wire_name(wire: &[u8]) -> Option<WireName> {
    let mut decoder = BinDecoder::new(wire);
    WireName::read(&mut decoder).ok().filter(|_| decoder.is_empty())
}

fn name_octets(name: &WireName) -> Option<Vec<u8>> {
    name.to_bytes().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn engine(owner: &str, rtype: Rtype, rdata: &[&[u8]]) -> Engine {
        let owner = Name::parse(owner).unwrap().to_lower();
        let set = Rrset { ttl: 60, rdata: rdata.iter().map(|octets| (*octets).into()).collect() };
        Engine::new(&Name::parse("example").unwrap(), std::iter::once((owner.as_wire(), rtype, set)))
    }

    fn rrset(engine: &Engine, owner: &str, rtype: Rtype) -> Option<Rrset> {
        engine.rrset(Name::parse(owner).unwrap().to_lower().as_wire(), rtype)
    }

    #[test]
    fn an_rrset_is_found_by_owner_and_type_alone() {
        let made = engine("*.x.example", Rtype::A, &[&[192, 0, 2, 1], &[192, 0, 2, 2]]);
        let found = rrset(&made, "*.x.example", Rtype::A).unwrap();
        assert_eq!((found.ttl, found.rdata.len()), (60, 2));
        assert_eq!(&*found.rdata[1], &[192, 0, 2, 2]);
        assert_eq!(rrset(&made, "*.x.example", Rtype::AAAA), None);
        // hickory's own search would make this one from the wildcard.
        assert_eq!(rrset(&made, "y.x.example", Rtype::A), None);
    }

    #[test]
    fn what_lies_below_a_cut_or_beside_an_alias_is_found() {
        let owner = |text: &str| Name::parse(text).unwrap();
        let (cut, glue, alias) = (owner("sub.example"), owner("ns.sub.example"), owner("alias.example"));
        let set = |octets: &[u8]| Rrset { ttl: 60, rdata: vec![octets.into()] };
        let sets = [
            (cut.as_wire(), Rtype::NS, set(glue.as_wire())),
            (glue.as_wire(), Rtype::A, set(&[10, 0, 0, 1])),
            (alias.as_wire(), Rtype::CNAME, set(cut.as_wire())),
            (alias.as_wire(), Rtype::RRSIG, set(b"\0\x05")),
        ];
        let made = Engine::new(&owner("example"), sets.into_iter());
        assert_eq!(&*rrset(&made, "ns.sub.example", Rtype::A).unwrap().rdata[0], &[10, 0, 0, 1]);
        assert_eq!(&*rrset(&made, "alias.example", Rtype::RRSIG).unwrap().rdata[0], b"\0\x05");
        let mut addresses = Vec::new();
        made.each_address(|owner, address, ttl| addresses.push(format!("{owner} {address} {ttl}")));
        assert_eq!(addresses, ["ns.sub.example. 10.0.0.1 60"]);
    }

    #[tokio::test]
    async fn a_task_that_has_used_up_its_turn_still_finds_records() {
        let made = engine("a.example", Rtype::A, &[&[192, 0, 2, 1]]);
        let permits = tokio::sync::Semaphore::new(10_000);
        let mut held = Vec::new();
        loop {
            let acquire = pin!(permits.acquire());
            match acquire.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(permit) => held.push(permit.unwrap()),
                Poll::Pending => break,
            }
        }
        assert!(held.len() < 10_000, "the turn never ended");
        assert!(rrset(&made, "a.example", Rtype::A).is_some());
    }

    proptest! {
        #[test]
        fn octets_come_back_unchanged(
            rtype in prop_oneof![Just(1_u16), Just(2), Just(5), Just(6), Just(16), Just(28), Just(41), Just(250), Just(255), any::<u16>()],
            octets in proptest::collection::vec(any::<u8>(), 0..60),
            name in "([a-zA-Z0-9*_-]{1,9}\\.){0,4}",
        ) {
            let name = Name::parse(if name.is_empty() { "." } else { &name }).unwrap();
            let soa = [name.as_wire(), name.as_wire(), &[7; 20]].concat();
            for rdata in [octets.as_slice(), name.as_wire(), &soa] {
                let made = engine("A.example", Rtype(rtype), &[rdata]);
                let found = rrset(&made, "a.EXAMPLE", Rtype(rtype)).unwrap();
                prop_assert_eq!(&*found.rdata[0], rdata);
            }
        }
    }
}
