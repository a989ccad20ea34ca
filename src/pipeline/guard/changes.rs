//! What the answers of guarded names were and became, and from whom: where a name went on which day is what one looks for first when
//! something was wrong. Pure: told the time.
//!
//! A change is an answer that shares nothing with those before it. Names that rotate over addresses, or are served by region,
//! come back to what is known of them, so that they do not fill the log.

use super::incident::WallTime;
use super::reply::{Content, Datum, Reply};
use crate::config::PlaceId;
use crate::dns::{Name, Rtype};
use lru::LruCache;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt::Write as _;

/// Changes kept; of 20 names that move once a month, a year's.
const MAX_CHANGES: usize = 256;
/// Names and types whose answers are known.
const MAX_NAMES: usize = 1024;
/// Data known of one name and type; what rotates over more begins anew, without counting as changed.
const MAX_KNOWN: usize = 64;
/// Data that are told of one answer.
const MAX_TOLD: usize = 8;
/// Octets of a datum that are told.
const MAX_DATUM_BYTES: usize = 32;

/// A change, as it is shown and written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The network.
    pub place: u16,
    /// The name.
    pub name: String,
    /// The type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// When the other answer was first seen, in seconds since 1970.
    pub at: u64,
    /// What was answered before.
    pub was: String,
    /// The upstream that said so last.
    pub was_from: String,
    /// What is answered since.
    pub became: String,
    /// The upstream that said so first.
    pub became_from: String,
}

/// What is known of a name and type.
#[derive(Debug)]
struct Known {
    content: Content,
    data: Vec<Datum>,
    told: String,
    from: Box<str>,
}

/// The changes there were, the oldest first.
#[derive(Debug)]
pub struct Changes {
    known: LruCache<(PlaceId, Name, Rtype), Known>,
    changes: VecDeque<Change>,
}

impl Default for Changes {
    fn default() -> Self {
        // Grows as it fills; `saw` holds the bound.
        Self { known: LruCache::unbounded(), changes: VecDeque::new() }
    }
}

impl Changes {
    /// Notes what clients get for a name; tells whether that has changed.
    pub fn saw(
        &mut self,
        (place, qname, qtype): (PlaceId, &Name, Rtype),
        reply: &Reply,
        from: &str,
        at: WallTime,
    ) -> bool {
        if !reply.is_answer() {
            return false;
        }
        let qname = qname.to_lower();
        let name = qname.to_string();
        let seen = Known { content: reply.content, data: reply.data.clone(), told: told(reply), from: from.into() };
        let Some(known) = self.known.get_mut(&(place, qname.clone(), qtype)) else {
            self.known.put((place, qname, qtype), seen);
            if self.known.len() > MAX_NAMES {
                self.known.pop_lru();
            }
            return false;
        };
        let shares = seen.data.is_empty() || seen.data.iter().any(|datum| known.data.contains(datum));
        if known.content == seen.content && shares {
            known.add(seen);
            return false;
        }
        let before = std::mem::replace(known, seen);
        let change = Change {
            place: place.0,
            name,
            rtype: qtype.to_string(),
            at: at.0,
            was: before.told,
            was_from: before.from.into(),
            became: known.told.clone(),
            became_from: from.to_owned(),
        };
        if self.changes.len() >= MAX_CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
        true
    }

    /// Returns the changes, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Change> {
        self.changes.iter()
    }

    /// Takes over changes from before, as far as there is room.
    pub fn restore(&mut self, before: Vec<Change>) {
        for change in before.into_iter().rev().take(MAX_CHANGES.saturating_sub(self.changes.len())) {
            self.changes.push_front(change);
        }
    }
}

impl Known {
    fn add(&mut self, seen: Self) {
        let mut data = std::mem::take(&mut self.data);
        data.extend(seen.data.iter().cloned());
        data.sort_unstable();
        data.dedup();
        if data.len() > MAX_KNOWN {
            data.clone_from(&seen.data);
        }
        *self = Self { data, ..seen };
    }
}

/// Writes what an answer says in a few words; data that are no addresses as RFC 3597 section 5 has them.
fn told(reply: &Reply) -> String {
    match reply.content {
        Content::Missing => return "NXDOMAIN".to_owned(),
        Content::Data => {}
        Content::Empty | Content::WrongType | Content::Failed => return "no data".to_owned(),
    }
    let mut out = String::new();
    for (at, datum) in reply.data.iter().take(MAX_TOLD).enumerate() {
        out += if at == 0 { "" } else { ", " };
        let _ = match datum {
            Datum::Address(address) => write!(out, "{address}"),
            Datum::Other(bytes) => {
                let cut = &bytes[..bytes.len().min(MAX_DATUM_BYTES)];
                let more = if cut.len() < bytes.len() { "..." } else { "" };
                write!(out, "\\# {} {}{more}", bytes.len(), data_encoding::HEXLOWER.encode(cut))
            }
        };
    }
    if reply.data.len() > MAX_TOLD {
        let _ = write!(out, " and {} more", reply.data.len() - MAX_TOLD);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::reply::Marks;
    use super::*;

    fn answer(content: Content, addresses: &[&str]) -> Reply {
        let mut data: Vec<_> = addresses.iter().map(|text| Datum::Address(text.parse().unwrap())).collect();
        data.sort_unstable();
        Reply { content, data, ttls: None, chain: vec![], loops: false, soa: false, marks: Marks::default() }
    }

    fn data(addresses: &[&str]) -> Reply {
        answer(Content::Data, addresses)
    }

    fn saw(changes: &mut Changes, name: &str, reply: &Reply, at: u64) -> bool {
        changes.saw((PlaceId(0), &Name::parse(name).unwrap(), Rtype::A), reply, "isp/1", WallTime(at))
    }

    #[test]
    fn an_answer_that_shares_nothing_with_those_before_is_a_change() {
        let mut changes = Changes::default();
        let mut next = |addresses: &[&str]| saw(&mut changes, "www.example.org", &data(addresses), 7);
        assert!(!next(&["192.0.2.1"]), "the first");
        assert!(!next(&["192.0.2.1", "192.0.2.2"]) && !next(&["192.0.2.2", "192.0.2.3"]) && !next(&["192.0.2.1"]));
        assert!(next(&["198.51.100.1"]) && !next(&["198.51.100.1"]));
        assert!(next(&["192.0.2.1"]), "and back");
        assert!(saw(&mut changes, "WWW.example.org", &answer(Content::Missing, &[]), 9));
        assert!(!saw(&mut changes, "www.example.org", &answer(Content::Failed, &[]), 9), "no answer");
        let last = changes.iter().next_back().unwrap();
        assert_eq!((&*last.was, &*last.became, &*last.name, last.at), ("192.0.2.1", "NXDOMAIN", "www.example.org.", 9));
        assert_eq!(changes.iter().count(), 3);
    }

    #[test]
    fn what_is_told_of_an_answer_is_short() {
        let many: Vec<String> = (0..MAX_TOLD + 2).map(|n| format!("192.0.2.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(told(&data(&many)).ends_with("192.0.2.7 and 2 more"), "{}", told(&data(&many)));
        let long = Reply { data: vec![Datum::Other([7; MAX_DATUM_BYTES + 1].into())], ..data(&[]) };
        assert_eq!(told(&long), format!("\\# 33 {}...", "07".repeat(MAX_DATUM_BYTES)));
    }

    #[test]
    fn changes_names_and_their_data_have_bounds() {
        let mut changes = Changes::default();
        for n in 0..=MAX_CHANGES + 3 {
            saw(&mut changes, "www.example.org", &data(&[&format!("10.0.{}.{}", n / 256, n % 256)]), n as u64);
        }
        assert_eq!((changes.iter().count(), changes.iter().next().unwrap().at), (MAX_CHANGES, 4));
        for n in 0..=MAX_NAMES {
            saw(&mut changes, &format!("n{n}.example"), &data(&["192.0.2.1"]), 0);
        }
        assert_eq!(changes.known.len(), MAX_NAMES);
        // Each shares one with the one before.
        let rotating = |n: usize| [format!("10.1.0.{n}"), format!("10.1.0.{}", n + 1)];
        let mut changes = Changes::default();
        for n in 0..2 * MAX_KNOWN {
            let [one, other] = rotating(n);
            assert!(!saw(&mut changes, "www.example.org", &data(&[&one, &other]), 0));
        }
        assert!(changes.known.iter().all(|(_, known)| known.data.len() <= MAX_KNOWN));
        let before = vec![Change { at: 5, ..Change::default() }; 2 * MAX_CHANGES];
        changes.restore(before);
        assert_eq!(changes.iter().count(), MAX_CHANGES);
    }
}
