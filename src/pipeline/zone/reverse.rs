//! Reverse names, and PTR records made from the A and AAAA records of zones with `reverse = true`.

use super::load::LoadedZone;
use super::rdata::CLASS_IN;
use crate::config::ViewId;
use crate::dns::{Name, Record, Rtype};
use hashbrown::HashMap;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

/// PTR records made for one address; a shared address has one name that matters, not thousands.
const MAX_TARGETS: usize = 32;

/// Returns the name under in-addr.arpa (RFC 1035 section 3.5) or ip6.arpa (RFC 3596 section 2.5).
pub(super) fn name_of(address: IpAddr) -> Name {
    let mut text = String::with_capacity(74);
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            let _ = write!(text, "{d}.{c}.{b}.{a}.in-addr.arpa");
        }
        IpAddr::V6(v6) => {
            for byte in v6.octets().iter().rev() {
                let _ = write!(text, "{:x}.{:x}.", byte & 0xf, byte >> 4);
            }
            text.push_str("ip6.arpa");
        }
    }
    Name::parse(&text).expect("at most 34 short labels make a name")
}

/// Makes a PTR record.
pub(super) fn ptr(owner: &Name, target: &Name, ttl: u32) -> Record {
    let rdata = target.as_wire().into();
    Record { owner: owner.clone(), rtype: Rtype::PTR, class: CLASS_IN, ttl, rdata }
}

/// One made PTR record.
#[derive(Debug)]
struct Target {
    name: Name,
    ttl: u32,
    zone: usize,
}

/// All made PTR records by their lower-cased owners.
#[derive(Debug, Default)]
pub(super) struct Reverse(HashMap<Box<[u8]>, Vec<Target>, foldhash::fast::RandomState>);

impl Reverse {
    /// Makes them; wildcards and names that hold no host (`_…`) make none.
    pub(super) fn make(zones: &[LoadedZone]) -> Self {
        let mut made = Self::default();
        for (zone, loaded) in zones.iter().enumerate().filter(|(_, zone)| zone.reverse) {
            loaded.store.each_address(|name, address, ttl| {
                if !name.labels().any(|label| label == b"*") {
                    let owner = name_of(address).as_wire().into();
                    made.0.entry(owner).or_default().push(Target { name: name.clone(), ttl, zone });
                }
            });
        }
        for targets in made.0.values_mut() {
            // The map above has no order; answers do.
            targets.sort_by(|a, b| (a.zone, &a.name).cmp(&(b.zone, &b.name)));
            targets.truncate(MAX_TARGETS);
        }
        made
    }

    /// Returns the records for a reverse name as a view sees them, and the apex of the first one's zone.
    pub(super) fn records(&self, zones: &[LoadedZone], view: ViewId, qname: &Name) -> Option<(Vec<Record>, usize)> {
        if self.0.is_empty() {
            return None;
        }
        let targets = self.0.get(qname.lower_wire().as_ref())?;
        let seen = |target: &&Target| zones.get(target.zone).is_some_and(|zone| zone.is_for(view));
        let mut names: Vec<&Name> = Vec::new();
        let mut records = Vec::new();
        for target in targets.iter().filter(seen) {
            if !names.contains(&&target.name) {
                names.push(&target.name);
                records.push(ptr(qname, &target.name, target.ttl));
            }
        }
        let zone = targets.iter().find(seen)?.zone;
        // RFC 2181 section 5.2: one TTL for the whole RRset.
        let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(0);
        records.iter_mut().for_each(|record| record.ttl = ttl);
        Some((records, zone))
    }

    /// Feeds what is made for a name into a hash; returns whether anything is.
    pub(super) fn hash_name(&self, zones: &[LoadedZone], view: ViewId, qname: &Name, state: &mut impl Hasher) -> bool {
        let Some((records, _)) = self.records(zones, view, qname) else { return false };
        for record in &records {
            (record.ttl, &record.rdata).hash(state);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_names_are_those_of_the_rfcs() {
        let name = |text: &str| name_of(text.parse().unwrap()).to_string();
        assert_eq!(name("192.0.2.17"), "17.2.0.192.in-addr.arpa.");
        assert_eq!(
            name("4321:0:1:2:3:4:567:89ab"),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa."
        );
    }
}
