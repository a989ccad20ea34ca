//! What is cached, for people who look.

use super::entry::{Head, Slot};
use super::key::KeyBuf;
use super::store::{Cache, Flush};
use crate::clock::Tick;
use crate::config::ViewId;
use crate::dns::{Answer, Name, Origin, Rtype};
use std::time::Duration;

/// One cached answer.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The name.
    pub qname: Name,
    /// The type.
    pub qtype: Rtype,
    /// Whose answer it is.
    pub view: ViewId,
    /// It was asked for with DO.
    pub dnssec_ok: bool,
    /// It was asked for with CD.
    pub checking_disabled: bool,
    /// Where it came from when it was stored.
    pub stored: Origin,
    /// The answer, its TTLs aged.
    pub answer: Answer,
    /// How old it is.
    pub age: Duration,
    /// How many seconds it is fresh; negative for how long it has not been, nothing for what does not age.
    pub left_s: Option<i64>,
    /// Whether it may be used.
    pub state: Usable,
}

/// Whether a cached answer may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usable {
    /// As it is.
    Fresh,
    /// When nothing better is to be had.
    Stale,
    /// No longer; it is there until its place is needed.
    Expired,
}

impl Usable {
    /// Returns the word used in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Expired => "expired",
        }
    }
}

impl Cache {
    /// Lists answers, `limit` at most, and tells whether there are more. Parts of the cache are looked at one after the
    /// other, each locked meanwhile.
    #[must_use]
    pub fn list(&self, what: Flush<'_>, now: Tick, limit: usize) -> (Vec<Listed>, bool) {
        let mut found = Vec::new();
        let mut more = false;
        for shard in 0..self.shard_count() {
            self.for_each_of(shard, what, |slot, head| {
                if found.len() < limit {
                    found.extend(self.listed(slot, head, now));
                } else {
                    more = true;
                }
            });
            if more {
                break;
            }
        }
        found.sort_by(|a, b| (&a.qname, a.qtype).cmp(&(&b.qname, b.qtype)));
        (found, more)
    }

    fn listed(&self, slot: &Slot, head: &Head, now: Tick) -> Option<Listed> {
        let key: KeyBuf = slot.to_key()?;
        let lookup = key.lookup();
        let left_s = head.life_s().map(|life_s| i64::from(life_s) - i64::from(head.age_s(now)));
        let state = match (self.is_fresh(head, now), self.is_usable(head, now)) {
            (true, _) => Usable::Fresh,
            (false, true) => Usable::Stale,
            (false, false) => Usable::Expired,
        };
        Some(Listed {
            qname: Name::from_wire(lookup.qname).ok()?,
            qtype: lookup.qtype,
            view: lookup.view,
            dnssec_ok: lookup.dnssec_ok,
            checking_disabled: lookup.checking_disabled,
            stored: head.stored_origin(),
            answer: slot.to_answer(head, now),
            age: Duration::from_millis(head.age_ms(now)),
            left_s,
            state,
        })
    }
}
