//! Signs that the way of a reply leaves on it. They mark those who answer on the path; a resolver that has itself been lied
//! to passes the lie on with perfect marks, so that their absence says nothing.

use super::Case;
use crate::pipeline::guard::evidence::Way;
use crate::pipeline::guard::reply::Content;
use crate::pipeline::guard::verdict::Sign;

/// From this TTL down a trusted reply's own is as spent: it may be at the end of its life in a cache.
const SPENT_TTL: u32 = 1;
/// A TTL so many times a single trusted one is above the zone's own. Trusted upstreams answer from caches, where a TTL is
/// anything between nothing and the zone's: of two such samples one is eight times the other in 6 % of all pairs.
const TTL_FACTOR: u32 = 8;

/// Names the signs that speak against the reply whatever else explains its data.
pub fn hard(case: &Case<'_>, signs: &mut Vec<Sign>) {
    let (reply, candidate) = (case.reply, case.candidate);
    let others = candidate.replies.iter().filter(|other| !std::ptr::eq(*other, reply));
    let substance = |content| matches!(content, Content::Data | Content::WrongType);
    // Two replies to one query, since every query has its own port and id. A lawful repetition shares its data.
    if substance(reply.content) && others.into_iter().any(|o| substance(o.content) && !o.shares_data(reply)) {
        signs.push(Sign::TwoReplies);
    }
    // What the own network's resolver says has not come the way that a decoy goes.
    if case.evidence.decoy_answered && candidate.way.is_open() && !candidate.on_lan {
        signs.push(Sign::DecoyAnswered);
    }
    // Forwarders at home set AA on what they have cached and clear RA as they like, so that neither says anything of them
    // until it is known that this one does not.
    let proper = |learnt: bool| learnt || !candidate.on_lan;
    if reply.marks.authoritative == Some(true) && proper(candidate.habits.clears_authoritative) {
        signs.push(Sign::Authoritative);
    }
    if reply.marks.recursion == Some(false) && proper(candidate.habits.sets_recursion) {
        signs.push(Sign::NoRecursion);
    }
    let spent = |(low, _): (u32, u32)| low <= SPENT_TTL;
    if reply.ttls.is_some_and(spent) && !case.truth.ttls.is_some_and(spent) {
        signs.push(Sign::TtlSpent);
    }
    if reply.marks.opt == Some(false) && candidate.habits.sends_opt {
        signs.push(Sign::OptMissing);
    }
    if let (Some((_, high)), Some(ceiling)) = (reply.ttls, case.evidence.ttl_ceiling)
        && high > ceiling
    {
        signs.push(Sign::TtlTooLong);
    }
}

/// Names the signs that count only while nothing explains the reply's data: each has ordinary causes.
pub fn soft(case: &Case<'_>, signs: &mut Vec<Sign>) {
    let (reply, habits) = (case.reply, case.candidate.habits);
    if let (Some((_, high)), Some((_, trusted)), None) = (reply.ttls, case.truth.ttls, case.evidence.ttl_ceiling)
        && high >= trusted.max(1).saturating_mul(TTL_FACTOR)
    {
        signs.push(Sign::TtlTooLong);
    }
    let elsewhere = || case.truth.answers.iter().any(|(_, _, reply)| reply.marks.opt == Some(true));
    if reply.marks.opt == Some(false) && !habits.sends_opt && elsewhere() {
        signs.push(Sign::OptMissingHere);
    }
    // Over anything but datagrams the question is not sent in mixed case.
    if reply.marks.case_kept == Some(false) && case.candidate.way == Way::Datagram {
        signs.push(Sign::CaseLost);
    }
}
