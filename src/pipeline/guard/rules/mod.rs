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
        // Nor is one with an address that the user knows to be forged.
        answers.retain(|(_, _, reply)| !reply.addresses().any(|address| evidence.listed.contains(&address)));
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
    /// It may exist on the own network alone.
    pub inside: bool,
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

/// Where the octets of an IPv4 address stand behind a NAT64 prefix of 32, 40, 48, 56, 64 and 96 bits (RFC 6052 section 2.2).
const EMBEDDED_AT: [(usize, [usize; 4]); 6] = [
    (4, [4, 5, 6, 7]),
    (5, [5, 6, 7, 9]),
    (6, [6, 7, 9, 10]),
    (7, [7, 9, 10, 11]),
    (8, [9, 10, 11, 12]),
    (12, [12, 13, 14, 15]),
];

/// Tells whether there is one NAT64 prefix behind which each of the addresses is one of `ipv4`, and nothing else.
#[must_use]
pub fn have_one_nat64_prefix(addresses: &[IpAddr], ipv4: &[std::net::Ipv4Addr]) -> bool {
    let octets: Option<Vec<[u8; 16]>> = addresses
        .iter()
        .map(|address| match address {
            IpAddr::V6(v6) => Some(v6.octets()),
            IpAddr::V4(_) => None,
        })
        .collect();
    let Some((first, octets)) = octets.as_ref().and_then(|all| Some((all.first()?, all))) else { return false };
    EMBEDDED_AT.iter().any(|(prefix, places)| {
        octets.iter().all(|of| {
            // The ninth octet and what is behind the address are zero.
            let is_empty = |at: usize| places.contains(&at) || of[at] == 0;
            let has_prefix = of[..*prefix] == first[..*prefix] && (*prefix..16).all(is_empty);
            has_prefix && ipv4.contains(&std::net::Ipv4Addr::from(places.map(|at| of[at])))
        })
    })
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
    fn nat64_addresses_of_every_length_of_prefix_are_known() {
        // RFC 6052 section 2.4.
        let ipv4 = ["192.0.2.33".parse().unwrap(), "192.0.2.34".parse().unwrap()];
        let are = |texts: &[&str]| {
            let addresses: Vec<IpAddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
            have_one_nat64_prefix(&addresses, &ipv4)
        };
        for made in [
            "2001:db8:c000:221::",
            "2001:db8:1c0:2:21::",
            "2001:db8:122:c000:2:2100::",
            "2001:db8:122:3c0:0:221::",
            "2001:db8:122:344:c0:2:2100::",
            "2001:db8:122:344::192.0.2.33",
        ] {
            assert!(are(&[made]), "{made}");
        }
        assert!(are(&["2001:db8:122:344::192.0.2.33", "2001:db8:122:344::192.0.2.34"]));
        assert!(!are(&["2001:db8:122:344::192.0.2.33", "2001:db8:122:345::192.0.2.34"]), "of two prefixes");
        assert!(!are(&["2001:db8:122:344::192.0.2.33", "2001:db8:122:344::192.0.2.35"]), "of another address");
        assert!(!are(&["2001:db8:c000:221::1"]), "something stands behind it");
        assert!(!are(&["192.0.2.33"]) && !are(&[]));
    }

    #[test]
    fn prefixes_are_those_that_are_routed() {
        let of = |text: &str| prefix(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("192.0.2.255"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8:1::1"), of("2001:db8:1:ffff::"));
        assert_ne!(of("2001:db8:1::1"), of("2001:db8:2::1"));
    }
}
