//! A zone while it is being read: every record with its line, for the checks of the zone as a whole.

use crate::dns::name::suffixes;
use crate::dns::{Name, NameBuf, Record, Rtype};
use hashbrown::HashMap;

/// All records of one name.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) sets: Vec<Set>,
}

/// All records of one name and type.
#[derive(Debug)]
pub(super) struct Set {
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
    pub(super) fn set(&self, rtype: Rtype) -> Option<&Set> {
        self.sets.iter().find(|set| set.rtype == rtype)
    }
}

/// The names of a zone in lower case, those between an owner and the apex included.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) apex: Name,
    pub(super) nodes: HashMap<Box<[u8]>, Node, foldhash::fast::RandomState>,
}

impl Draft {
    /// Starts a zone without records; room is made for so many names.
    pub(super) fn new(apex: &Name, names: usize) -> Self {
        let apex = apex.to_lower();
        let mut nodes = HashMap::with_capacity_and_hasher(names.saturating_add(1), Default::default());
        nodes.insert(apex.as_wire().into(), Node::default());
        Self { apex, nodes }
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
            None => node.sets.push(Set { rtype: record.rtype, ttl: record.ttl, items: vec![item] }),
        }
    }
}
