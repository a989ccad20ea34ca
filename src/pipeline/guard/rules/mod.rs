//! The rules: each looks at one reply beside the trusted ones and names the signs it sees.
//!
//! A rule reads, it does not decide. `wire.rs` looks at what the way left on a reply, `data.rs` at what it says.

pub mod data;
pub mod wire;

use super::evidence::{Candidate, Evidence};
use super::reply::{Content, Question, Reply};
use super::verdict::{ReplyAt, Side};
use crate::dns::address::{self, AddressKind};
use std::net::IpAddr;

/// What the trusted upstreams say, all taken together.
#[derive(Debug)]
pub struct Truth<'a> {
    /// Their replies that answer the question, without those that nobody may believe.
    pub answers: Vec<(ReplyAt, &'a Candidate, &'a Reply)>,
    /// One of them has data.
    pub has_data: bool,
    /// All of them say that the name does not exist.
    pub denies: bool,
    /// How many operators stand behind `answers`.
    pub operators: usize,
    /// Two of them have data and share none.
    pub differs: bool,
    /// The smallest and largest TTL of their data.
    pub ttls: Option<(u32, u32)>,
}

impl<'a> Truth<'a> {
    /// Gathers what trusted upstreams say.
    #[must_use]
    pub fn of(evidence: &'a Evidence, question: &Question) -> Self {
        let mut answers: Vec<_> = evidence
            .trusted
            .iter()
            .enumerate()
            .flat_map(|(candidate, of)| of.replies.iter().enumerate().map(move |(reply, r)| (candidate, reply, of, r)))
            .filter(|(_, _, _, reply)| reply.is_answer())
            .map(|(candidate, reply, of, r)| (ReplyAt { side: Side::Trusted, candidate, reply }, of, r))
            .collect();
        // A trusted upstream that itself gives special addresses, where another gives public ones, lies (a captive portal,
        // an operator behind an injector): it is no witness. When all give them, the name has such addresses in public.
        let special = |reply: &Reply| question.asks_addresses() && reply.addresses().any(is_special);
        if answers.iter().any(|(_, _, reply)| reply.content == Content::Data && !special(reply)) {
            answers.retain(|(_, _, reply)| !special(reply));
        }
        let data = || answers.iter().map(|(_, _, reply)| *reply).filter(|reply| reply.content == Content::Data);
        let has_data = data().next().is_some();
        let denies = !answers.is_empty() && answers.iter().all(|(_, _, reply)| reply.content == Content::Missing);
        let mut operators: Vec<_> = answers.iter().map(|(_, of, _)| of.operator).collect();
        operators.sort_unstable();
        operators.dedup();
        let differs = data().any(|one| data().any(|other| !one.shares_data(other)));
        let ttls = data().filter_map(|reply| reply.ttls).reduce(|(low, high), (l, h)| (low.min(l), high.max(h)));
        let operators = operators.len();
        Self { answers, has_data, denies, operators, differs, ttls }
    }

    /// Returns the replies that have data.
    pub fn data(&self) -> impl Iterator<Item = &'a Reply> {
        self.answers.iter().map(|(_, _, reply)| *reply).filter(|reply| reply.content == Content::Data)
    }

    /// Returns the reply to serve: data before "no data" before "no such name", then by operator and data, so that the order
    /// of arrival does not matter.
    #[must_use]
    pub fn best(&self) -> Option<ReplyAt> {
        let key = |(_, of, reply): &&(ReplyAt, &'a Candidate, &'a Reply)| (reply.content, of.operator, &reply.data);
        self.answers.iter().min_by_key(key).map(|(at, ..)| *at)
    }
}

/// One suspect reply and everything it is held against.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The question.
    pub question: &'a Question,
    /// Its name is guarded.
    pub guarded: bool,
    /// All that is known.
    pub evidence: &'a Evidence,
    /// What trusted upstreams say.
    pub truth: &'a Truth<'a>,
    /// Who gave the reply.
    pub candidate: &'a Candidate,
    /// The reply.
    pub reply: &'a Reply,
}

/// Tells whether an address can be no public server's.
#[must_use]
pub fn is_special(of: IpAddr) -> bool {
    address::kind(of) != AddressKind::Public
}

/// Returns the IPv4 address inside a NAT64 address of the well-known prefix 64:ff9b::/96 (RFC 6052 section 2.1).
#[must_use]
pub fn nat64(of: IpAddr) -> Option<std::net::Ipv4Addr> {
    let IpAddr::V6(v6) = of else { return None };
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(std::net::Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

/// Returns the /24 of an IPv4 address, the /48 of an IPv6 one: the smallest blocks that are routed on their own.
#[must_use]
pub fn prefix(of: IpAddr) -> (bool, u64) {
    match of {
        IpAddr::V4(v4) => (false, u64::from(v4.to_bits() >> 8)),
        IpAddr::V6(v6) => (true, u64::try_from(v6.to_bits() >> 80).unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_those_that_are_routed() {
        let of = |text: &str| prefix(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("192.0.2.255"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8:1::1"), of("2001:db8:1:ffff::"));
        assert_ne!(of("2001:db8:1::1"), of("2001:db8:2::1"));
    }
}
