//! Stage 9: what is kept of an answer, also when it comes after its client was given up on.

use super::cache::{self, Inserted, KeyBuf, Terms};
use super::compose::{self, AddressPolicy};
use super::state::{State, Way};
use crate::clock::{Clock, Tick};
use crate::config::{GroupId, GuardMode, PlaceId, PrivateAnswers, ViewId};
use crate::dns::wire::Message;
use crate::dns::{Answer, Origin, QuestionKey, Tag};
use crate::stats::{Counter, Stats};
use crate::upstream::Reply;
use std::sync::Arc;

/// Networks are told apart later; until then there is one.
pub(super) const PLACE: PlaceId = PlaceId(0);

/// The highest TTL of what a group says that stands in for another: that one may be back at any moment, and its answers are
/// those that were wanted.
const STAND_IN_TTL_S: u32 = 60;

/// Lowers the TTLs of a reply that is not of the group that was to be asked.
pub(super) fn cap_stand_in(reply: &mut Reply, wanted: GroupId) {
    if reply.group != wanted {
        cache::cap_ttls(&mut reply.message, STAND_IN_TTL_S);
    }
}

/// What is known of an answer besides its bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Provenance {
    /// The fingerprint of the question's own name, when its way has shown it.
    pub(super) own_fingerprint: Option<u64>,
    /// Nothing trusted confirms it: it is never served stale.
    pub(super) disputed: bool,
    /// The zone or the route that it is counted for.
    pub(super) tag: Tag,
}

/// Puts an answer into the cache and lowers its TTLs to what it is kept for; returns how long that may be, and what
/// became of it.
pub(super) fn keep(
    state: &State,
    view: ViewId,
    question: &QuestionKey,
    answer: &mut Answer,
    known: Provenance,
    now: Tick,
    stats: &Stats,
) -> Option<(cache::Lifetime, Inserted)> {
    let key = KeyBuf::of(PLACE, view, question);
    let lifetime = cache::lifetime(answer, &state.config.cache);
    if let Some(cap_s) = cache::ttl_cap(lifetime, &state.config.cache) {
        cache::cap_ttls(&mut answer.message, cap_s);
    }
    let Some(lifetime) = lifetime else {
        // What was true before is not any more, so it must not come back as a stale answer (RFC 8767 section 4). What nothing
        // confirms does not say so.
        if answer.origin == Origin::Upstream && !known.disputed {
            state.cache.forget(&key);
        }
        return None;
    };
    let fingerprint = match known.own_fingerprint {
        Some(own) => state.with_aliases(view, own, answer),
        None => state.fingerprint(view, &question.qname, answer),
    };
    let terms = Terms { lifetime, fingerprint, epoch: state.epoch, now, disputed: known.disputed, tag: known.tag };
    let inserted = state.cache.insert(&key, answer, &terms);
    stats.add(Counter::CacheInserted, u64::from(inserted.stored));
    stats.add(Counter::CacheEvicted, inserted.evicted);
    if inserted.too_large {
        stats.count_at_bound(Counter::CacheTooLarge);
    }
    Some((lifetime, inserted))
}

/// A question whose client has been given up on: a reply that comes now is still good for the next who asks.
pub(super) struct Late {
    pub(super) state: Arc<State>,
    pub(super) view: ViewId,
    pub(super) question: QuestionKey,
    pub(super) way: Way,
    pub(super) private_answers: PrivateAnswers,
    pub(super) clock: Clock,
    pub(super) stats: Arc<Stats>,
}

impl Late {
    /// Stages 7 to 9 for such a reply. One whose alias leads elsewhere is left alone: following it is for a question.
    pub(super) fn keep(&self, mut reply: Reply) {
        let guarded = self.way.guard == GuardMode::Enforce;
        // Only a trusted reply is good for a guarded name without being held against one.
        if guarded && !self.state.is_reference(&reply) {
            return;
        }
        if !guarded {
            cap_stand_in(&mut reply, self.way.group);
        }
        self.put(&reply);
    }

    /// The same for a reply whose addresses have proved themselves since.
    pub(super) fn keep_proved(&self, mut reply: Reply) {
        cap_stand_in(&mut reply, self.way.group);
        self.put(&reply);
    }

    fn put(&self, reply: &Reply) {
        let guarded = self.way.guard == GuardMode::Enforce;
        let policy = AddressPolicy { private_answers: self.private_answers, server_is_private: reply.is_private };
        let nothing = |message: Message<'_>| compose::is_filtered_to_nothing(&message, &self.question, policy);
        if Message::parse(&reply.message).is_ok_and(nothing) {
            self.stats.count(Counter::PrivateDropped);
            return;
        }
        let Ok(mut composed) = compose::compose(&self.question, &reply.message, policy, false) else { return };
        let is_elsewhere = |alias| self.state.is_elsewhere(self.view, &self.question, &self.way, alias);
        if composed.broken || composed.aliases.iter().any(is_elsewhere) {
            return;
        }
        // Nor is one operator's word enough to deny it.
        if guarded && !composed.answer.has_records() {
            return;
        }
        self.state.soften(self.view, &self.question, &mut composed);
        let _kept = keep(
            &self.state,
            self.view,
            &self.question,
            &mut composed.answer,
            Provenance { tag: self.state.tag_of(self.view, &self.question), ..Provenance::default() },
            self.clock.now(),
            &self.stats,
        );
    }
}
