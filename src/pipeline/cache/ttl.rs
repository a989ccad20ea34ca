//! How long an answer may be kept, and what its TTLs say as it ages. Pure arithmetic on message bytes.
//!
//! - Positive answers live as long as the shortest TTL of the answer section, RRSIGs included (RFC 2181 section
//!   5.2, RFC 4035 section 5.3.3), within `min_ttl` and `max_ttl`.
//! - NXDOMAIN and NODATA need an SOA in the authority section and live min(its TTL, its MINIMUM), at most
//!   `negative_ttl_max` (RFC 2308 section 5). `min_ttl` is not for them: how soon a name may appear is what
//!   their zone's owner chose MINIMUM for.
//! - TTL 0 is for the one who asked and is not kept (RFC 1035 section 3.2.1), `min_ttl` or not.
//! - Failures are kept 1 to 5 seconds (RFC 9520 section 3.2), longer each time they repeat.
//! - What is ours is kept as long as the configuration that made it, with its TTLs as written.

use crate::config;
use crate::dns::wire::{HEADER_BYTES, Message, Section, flag, read_name, u32_at};
use crate::dns::{Answer, Origin, Rcode, Rtype};
use std::fmt;
use std::time::Duration;

/// TTLs with the highest bit set count as 0 (RFC 2181 section 8).
const MAX_TTL_S: u32 = 0x7fff_ffff;
/// The longest a failure is kept, in seconds: RFC 9520 section 3.2 demands 1 at least; a person who repairs an
/// upstream should not wait longer than a stub's own retry.
const MAX_FAILURE_S: u32 = 5;
/// A failure that follows on the last one's end within this many seconds is a repeated one.
pub(super) const FAILURE_MEMORY_S: u64 = 30;

/// How long an answer may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Seconds for an answer that has what was asked for.
    Positive(u32),
    /// Seconds for NXDOMAIN or NODATA.
    Negative(u32),
    /// A failure; the cache counts how often it repeats and keeps it accordingly.
    Failure,
    /// Data of ours: until a reload changes it.
    Local,
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Positive(ttl_s) => write!(f, "for {ttl_s} s, the shortest TTL"),
            Self::Negative(ttl_s) => write!(f, "for {ttl_s} s, as the SOA says for what does not exist"),
            Self::Failure => write!(f, "a failure: for 1 s, longer when it repeats, at most {MAX_FAILURE_S} s"),
            Self::Local => f.write_str("local data: until a reload changes it"),
        }
    }
}

/// Tells whether an answer is none: the failure of an upstream or of ours, in place of which a stale answer helps.
#[must_use]
pub fn is_failure(answer: &Answer) -> bool {
    !matches!(answer.rcode(), Rcode::NOERROR | Rcode::NXDOMAIN)
}

/// Returns how long an answer may be kept; `None` when it must not be.
#[must_use]
pub fn lifetime(answer: &Answer, policy: &config::Cache) -> Option<Lifetime> {
    let view = Message::parse(&answer.message).ok()?;
    if view.has(flag::TC) || answer.origin == Origin::Stale {
        return None;
    }
    if answer.origin.is_local() {
        return Some(Lifetime::Local);
    }
    match view.rcode() {
        Rcode::NOERROR | Rcode::NXDOMAIN => {}
        Rcode::SERVFAIL => return Some(Lifetime::Failure),
        // REFUSED, NOTIMP and FORMERR of ours are about the client or the question's form, and free to make again.
        _ if answer.origin == Origin::Own => return None,
        _ => return Some(Lifetime::Failure),
    }
    if answer.origin == Origin::Own {
        return None;
    }
    let shortest = shortest_answer_ttl(&view);
    if view.rcode() == Rcode::NOERROR && has_what_was_asked(&view) {
        let (min, max) = (seconds(policy.min_ttl), seconds(policy.max_ttl));
        let ttl = shortest.filter(|ttl| *ttl > 0)?;
        return Some(Lifetime::Positive(ttl.max(min).min(max))).filter(|_| max > 0);
    }
    let ttl = negative_ttl(&view)?.min(seconds(policy.negative_ttl_max)).min(seconds(policy.max_ttl));
    let ttl = shortest.map_or(ttl, |shortest| shortest.min(ttl));
    (ttl > 0).then_some(Lifetime::Negative(ttl))
}

/// Returns the highest TTL an answer with this lifetime may show, in seconds; `None` when its TTLs stay as they are. It
/// holds for the first client as well as for those answered from the cache, or the two would keep the answer differently
/// long; aliases in front of a failure, and in an answer that is not kept, are the upstream's word as well.
#[must_use]
pub fn ttl_cap(lifetime: Option<Lifetime>, policy: &config::Cache) -> Option<u32> {
    match lifetime {
        Some(Lifetime::Positive(_) | Lifetime::Failure) | None => Some(seconds(policy.max_ttl)),
        Some(Lifetime::Negative(life_s)) => Some(life_s),
        Some(Lifetime::Local) => None,
    }
}

/// Returns how long a failure is kept that came `repeats` times before: 1, 2, 4, then 5 seconds.
#[must_use]
pub fn failure_seconds(repeats: u8) -> u32 {
    1u32.checked_shl(u32::from(repeats)).unwrap_or(MAX_FAILURE_S).min(MAX_FAILURE_S)
}

/// Returns what a TTL on the wire means.
#[must_use]
pub fn meant(ttl: u32) -> u32 {
    if ttl > MAX_TTL_S { 0 } else { ttl }
}

/// Lowers every TTL of a message above `cap_s`, and zeroes those that mean 0.
pub fn cap_ttls(message: &mut [u8], cap_s: u32) {
    let mut offsets = Vec::new();
    if let Ok(view) = Message::parse(message) {
        offsets.extend(view.records().map_while(Result::ok).filter(|at| at.rtype != Rtype::OPT).map(|at| at.ttl_at));
    }
    for at in offsets {
        cap_ttl(message, at, cap_s);
    }
}

/// Subtracts an age from the TTL at an offset: never below 1 as long as it was above, so that a record which
/// outlives the answer's own life (`min_ttl`) is not kept by anybody else.
pub(super) fn age_ttl(message: &mut [u8], at: usize, age_s: u32) {
    change_ttl(message, at, |ttl| ttl.saturating_sub(age_s).max(ttl.min(1)));
}

/// Lowers the TTL at an offset to a bound.
pub(super) fn cap_ttl(message: &mut [u8], at: usize, cap_s: u32) {
    change_ttl(message, at, |ttl| meant(ttl).min(cap_s));
}

fn change_ttl(message: &mut [u8], at: usize, change: impl FnOnce(u32) -> u32) {
    if let Some(four) = at.checked_add(4).and_then(|end| message.get_mut(at..end)) {
        let ttl = u32_at(four, 0).unwrap_or(0);
        four.copy_from_slice(&change(ttl).to_be_bytes());
    }
}

/// Returns a configured duration in whole seconds, at most what a TTL can say.
fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(MAX_TTL_S).min(MAX_TTL_S)
}

fn shortest_answer_ttl(view: &Message<'_>) -> Option<u32> {
    view.section(Section::Answer).map(|record| meant(record.ttl)).min()
}

/// Tells whether the answer section holds the type asked for, rather than nothing or only a way to nothing.
fn has_what_was_asked(view: &Message<'_>) -> bool {
    let qtype = view.qtype();
    view.section(Section::Answer).any(|record| record.rtype == qtype || qtype == Rtype::ANY)
}

/// Returns min(TTL, MINIMUM) of the SOA in the authority section (RFC 2308 section 5).
fn negative_ttl(view: &Message<'_>) -> Option<u32> {
    let soa = view.section(Section::Authority).find(|record| record.rtype == Rtype::SOA)?;
    let (_, rname_at) = read_name(view.bytes(), soa.rdata.start).ok()?;
    let (_, numbers_at) = read_name(view.bytes(), rname_at).ok()?;
    // SERIAL, REFRESH, RETRY and EXPIRE stand before MINIMUM (RFC 1035 section 3.3.13).
    let minimum_at = numbers_at + 16;
    if numbers_at < HEADER_BYTES || minimum_at + 4 != soa.rdata.end {
        return None;
    }
    Some(meant(soa.ttl).min(meant(u32_at(view.bytes(), minimum_at)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::encode::MessageBuilder;
    use crate::dns::{Name, Record};
    use proptest::prelude::*;

    const POLICY: config::Cache = config::Cache {
        max_entries: 100,
        max_bytes: 1 << 20,
        min_ttl: Duration::ZERO,
        max_ttl: Duration::from_secs(86_400),
        negative_ttl_max: Duration::from_secs(300),
        ..config::Cache::NONE
    };

    fn record(rtype: Rtype, ttl: u32) -> Record {
        let owner = Name::parse("a.example").unwrap();
        let mut rdata = vec![192, 0, 2, 1];
        if rtype == Rtype::CNAME {
            rdata = owner.as_wire().to_vec();
        }
        Record { owner, rtype, class: 1, ttl, rdata: rdata.into() }
    }

    fn soa(ttl: u32, minimum: u32) -> Record {
        let mut rdata = b"\x02ns\x00\x04host\x00".to_vec();
        rdata.extend_from_slice(&[0; 16]);
        rdata.extend_from_slice(&minimum.to_be_bytes());
        Record { rtype: Rtype::SOA, ttl, rdata: rdata.into(), ..record(Rtype::A, 0) }
    }

    fn answer(rcode: Rcode, answers: &[Record], authority: &[Record]) -> Answer {
        let mut builder = MessageBuilder::response(&Name::parse("a.example").unwrap(), Rtype::A, rcode);
        answers.iter().for_each(|record| builder.push(Section::Answer, record));
        authority.iter().for_each(|record| builder.push(Section::Authority, record));
        Answer { message: builder.finish(), origin: Origin::Upstream, ede: None }
    }

    #[test]
    fn the_shortest_ttl_of_the_answer_section_counts() {
        let signed = [record(Rtype::CNAME, 300), record(Rtype::A, 60), record(Rtype::RRSIG, 40)];
        let found = answer(Rcode::NOERROR, &signed, &[record(Rtype::NS, 5)]);
        assert_eq!(lifetime(&found, &POLICY), Some(Lifetime::Positive(40)));
    }

    #[test]
    fn ttl_0_is_not_kept_whatever_the_minimum_is() {
        let policy = config::Cache { min_ttl: Duration::from_secs(60), ..POLICY };
        let ttl = |ttl| lifetime(&answer(Rcode::NOERROR, &[record(Rtype::A, ttl)], &[]), &policy);
        assert_eq!(ttl(0), None);
        assert_eq!(ttl(0x8000_0000), None);
        assert_eq!(ttl(1), Some(Lifetime::Positive(60)));
        assert_eq!(ttl(0x7fff_ffff), Some(Lifetime::Positive(86_400)));
    }

    #[test]
    fn negative_answer_without_soa_is_not_kept() {
        for rcode in [Rcode::NXDOMAIN, Rcode::NOERROR] {
            assert_eq!(lifetime(&answer(rcode, &[], &[]), &POLICY), None);
            assert_eq!(lifetime(&answer(rcode, &[], &[record(Rtype::NS, 60)]), &POLICY), None);
            assert_eq!(lifetime(&answer(rcode, &[], &[soa(60, 30)]), &POLICY), Some(Lifetime::Negative(30)));
            assert_eq!(lifetime(&answer(rcode, &[], &[soa(20, 30)]), &POLICY), Some(Lifetime::Negative(20)));
            assert_eq!(lifetime(&answer(rcode, &[], &[soa(9000, 3000)]), &POLICY), Some(Lifetime::Negative(300)));
            assert_eq!(lifetime(&answer(rcode, &[], &[soa(9000, 0)]), &POLICY), None);
        }
    }

    #[test]
    fn an_alias_to_nothing_is_negative() {
        let alias = [record(Rtype::CNAME, 20)];
        assert_eq!(lifetime(&answer(Rcode::NOERROR, &alias, &[]), &POLICY), None);
        assert_eq!(lifetime(&answer(Rcode::NXDOMAIN, &alias, &[soa(60, 60)]), &POLICY), Some(Lifetime::Negative(20)));
    }

    #[test]
    fn failures_are_kept_and_refusals_of_ours_are_not() {
        assert_eq!(lifetime(&answer(Rcode::SERVFAIL, &[], &[]), &POLICY), Some(Lifetime::Failure));
        let own = Answer { origin: Origin::Own, ..answer(Rcode::REFUSED, &[], &[]) };
        assert_eq!(lifetime(&own, &POLICY), None);
        assert_eq!((0..6).map(failure_seconds).collect::<Vec<_>>(), [1, 2, 4, 5, 5, 5]);
        assert_eq!(failure_seconds(u8::MAX), 5);
    }

    #[test]
    fn a_truncated_answer_is_not_kept() {
        let mut cut = answer(Rcode::NOERROR, &[record(Rtype::A, 60)], &[]);
        cut.message[2] |= 0x02;
        assert_eq!(lifetime(&cut, &POLICY), None);
    }

    #[test]
    fn caps_reach_every_section() {
        let mut found = answer(Rcode::NOERROR, &[record(Rtype::A, 900), record(Rtype::A, 5)], &[soa(u32::MAX, 1)]);
        cap_ttls(&mut found.message, 60);
        let ttls: Vec<u32> = found.view().records().map(|record| record.unwrap().ttl).collect();
        assert_eq!(ttls, [60, 5, 0]);
    }

    proptest! {
        #[test]
        fn an_aged_ttl_is_between_1_and_what_it_was(ttl in any::<u32>(), age_s in any::<u32>(), later_s in any::<u32>()) {
            let aged = |age_s| {
                let mut bytes = ttl.to_be_bytes();
                age_ttl(&mut bytes, 0, age_s);
                u32::from_be_bytes(bytes)
            };
            prop_assert_eq!(aged(age_s), if ttl == 0 { 0 } else { ttl.saturating_sub(age_s).max(1) });
            prop_assert!(aged(age_s) <= ttl);
            prop_assert!(aged(age_s.max(later_s)) <= aged(age_s.min(later_s)));
        }

        #[test]
        fn no_answer_outlives_its_shortest_ttl_without_min_ttl(ttls in proptest::collection::vec(any::<u32>(), 1..6)) {
            let records: Vec<Record> = ttls.iter().map(|&ttl| record(Rtype::A, ttl)).collect();
            let shortest = ttls.iter().map(|&ttl| meant(ttl)).min().unwrap();
            match lifetime(&answer(Rcode::NOERROR, &records, &[]), &POLICY) {
                Some(Lifetime::Positive(kept)) => prop_assert!(kept >= 1 && kept <= shortest),
                other => prop_assert!(other.is_none() && shortest == 0),
            }
        }

        #[test]
        fn no_bytes_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..120), counts in any::<[u8; 6]>()) {
            let mut message = answer(Rcode::NOERROR, &[], &[]).message.to_vec();
            message[6..12].copy_from_slice(&counts);
            message.extend_from_slice(&tail);
            let _ = lifetime(&Answer { message: message.clone().into(), origin: Origin::Upstream, ede: None }, &POLICY);
            cap_ttls(&mut message, 60);
        }
    }
}
