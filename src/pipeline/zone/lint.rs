//! What a zone as a whole must satisfy, checked once at load.

use super::draft::{Draft, Item, Node};
use super::master::Master;
use crate::config::Diagnostic;
use crate::dns::{Name, Rtype};
use std::collections::HashSet;

/// Records of one name and type: more do not fit into the 65,535 octets of an answer, where an address takes 16.
const MAX_RRSET_RECORDS: usize = 4095;

/// Reports what is wrong with a loaded zone and drops records that stand there twice.
pub(super) fn check(draft: &mut Draft, master: &mut Master) {
    let apex = draft.apex.clone();
    for (key, node) in &mut draft.nodes {
        let Ok(owner) = Name::from_wire(key) else { continue };
        drop_duplicates(&owner, node, master);
        check_node(&owner, owner == apex, node, master);
    }
}

fn problem(master: &Master, item: &Item, code: &'static str, expected: String, owner: &Name) -> Diagnostic {
    Diagnostic::error(code, master.location(item.file, item.line, 1), expected).found(owner.to_string())
}

fn drop_duplicates(owner: &Name, node: &mut Node, master: &mut Master) {
    for set in node.sets.iter_mut().filter(|set| set.items.len() > 1) {
        if let Some(other) = set.items.iter().find(|item| item.ttl != set.items[0].ttl) {
            let at = master.location(other.file, other.line, 1);
            let text = format!(
                "the same TTL for all {} records of this name (RFC 2181 section 5.2); the lowest, {}, is used",
                set.rtype, set.ttl
            );
            let found = format!("{owner} {} and {}", set.items[0].ttl, other.ttl);
            master.report(Diagnostic::warning("ttl-mismatch", at, text).found(found));
        }
        let mut seen: HashSet<Box<[u8]>> = HashSet::with_capacity(set.items.len());
        let rtype = set.rtype;
        set.items.retain(|item| {
            let fresh = seen.insert(item.rdata.clone());
            if !fresh {
                let at = master.location(item.file, item.line, 1);
                let text = format!("each {rtype} record of a name once");
                master.report(Diagnostic::warning("duplicate-record", at, text).found(owner.to_string()));
            }
            fresh
        });
        if let Some(item) = set.items.get(MAX_RRSET_RECORDS) {
            let text = format!("at most {MAX_RRSET_RECORDS} {rtype} records of one name; more fit no answer");
            let found = problem(master, item, "rrset-too-large", text, owner);
            master.report(found);
            set.items.truncate(MAX_RRSET_RECORDS);
        }
    }
}

fn check_node(owner: &Name, is_apex: bool, node: &Node, master: &mut Master) {
    for set in &node.sets {
        let Some(first) = set.items.first() else { continue };
        match set.rtype {
            Rtype::CNAME | Rtype::DNAME | Rtype::SOA if set.items.len() > 1 => {
                let text = format!("one {} record for a name; {} are here", set.rtype, set.items.len());
                let last = set.items.last().unwrap_or(first);
                master.report(problem(master, last, "several-aliases", text, owner));
            }
            Rtype::SOA if !is_apex => {
                let text = format!("the SOA record at the zone's apex {}", master.apex);
                master.report(problem(master, first, "soa-not-at-apex", text, owner));
            }
            _ => {}
        }
    }
    // RFC 1034 section 3.6.2, RFC 2181 section 10.1; signatures and denial records may stand beside an alias. A zone of one
    // name may be an alias as a whole: every zone has a SOA record then too, made or written.
    let beside = |rtype: Rtype| {
        let is_zones_own = is_apex && rtype == Rtype::SOA;
        !is_zones_own && !matches!(rtype, Rtype::CNAME | Rtype::RRSIG | Rtype::NSEC | Rtype::KEY)
    };
    let alias = node.set(Rtype::CNAME).and_then(|set| set.items.first());
    if let (Some(item), Some(other)) = (alias, node.sets.iter().find(|set| beside(set.rtype))) {
        let text = format!("nothing beside a CNAME record; there is also {} (RFC 1034 section 3.6.2)", other.rtype);
        let hint = "give the name the target's records, or move the other records to the target";
        master.report(problem(master, item, "cname-and-other-data", text, owner).hint(hint));
    }
}
