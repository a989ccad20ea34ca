//! Signs in what a reply says: its data beside those of trusted replies.

use super::{Case, have_one_nat64_prefix, is_special, nat64, prefix};
use crate::dns::Rtype;
use crate::dns::address::{self, AddressKind};
use crate::dns::name::domain;
use crate::pipeline::guard::evidence::Proof;
use crate::pipeline::guard::reply::{Content, Reply};
use crate::pipeline::guard::verdict::Sign;
use std::net::IpAddr;

/// From so many unrelated names on, and as many disputes, an address is one that is given for names at will. Two may be two
/// names of one service.
const MANY_NAMES: u32 = 3;

/// Names what speaks against the data by itself.
pub fn against(case: &Case<'_>, signs: &mut Vec<Sign>) {
    let reply = case.reply;
    if reply.content == Content::WrongType {
        signs.push(Sign::WrongType);
    }
    let addresses = || reply.addresses();
    if case.question.asks_addresses()
        && addresses().any(is_special)
        && !case.truth.data().flat_map(Reply::addresses).any(is_special)
    {
        signs.push(Sign::SpecialAddress);
    }
    if addresses().any(|address| case.evidence.listed.contains(&address)) {
        signs.push(Sign::ListedAddress);
    }
    if addresses().any(|address| case.evidence.invented.contains(&(case.candidate.operator, address))) {
        signs.push(Sign::InventedAddress);
    }
    let many = |address| {
        let fan_in = case.evidence.fan_in(address);
        fan_in.names >= MANY_NAMES && fan_in.disputed >= MANY_NAMES
    };
    if addresses().any(many) {
        signs.push(Sign::ManyNames);
    }
    let shows = |proofs: &[Proof], address| case.evidence.proof(address).is_some_and(|proof| proofs.contains(&proof));
    let wrong = |address| shows(&[Proof::OtherName, Proof::Untrusted], address);
    // Beside trusted data it says something only where the name's own servers are known to show a better one.
    let has_truth = case.truth.data().next().is_some();
    let is_better =
        case.truth.data().flat_map(Reply::addresses).any(|address| shows(&[Proof::Valid, Proof::LocalRoot], address));
    if addresses().any(wrong) && (is_better || !has_truth) {
        signs.push(Sign::WrongCertificate);
    } else if addresses().any(|address| shows(&[Proof::LocalRoot], address)) {
        signs.push(Sign::LocalRoot);
    } else if addresses().any(|address| shows(&[Proof::Unreachable], address)) {
        signs.push(Sign::Unproved);
    }
}

/// Names what explains the difference between the data and the trusted ones; `signs` are those against them.
pub fn explanations(case: &Case<'_>, signs: &mut Vec<Sign>) {
    let (reply, truth) = (case.reply, case.truth);
    let against = signs.iter().any(|sign| sign.weight() > Sign::NothingInCommon.weight());
    if truth.data().any(|trusted| reply.shares_data(trusted)) {
        signs.push(Sign::SharedData);
    } else if near(reply, truth.data()) {
        signs.push(Sign::SamePrefix);
    }
    if reply.addresses().any(|address| case.evidence.proof(address) == Some(Proof::Valid)) {
        signs.push(Sign::DataOfProved);
    }
    if truth.data().any(|trusted| same_aliases(reply, trusted)) {
        // A recursive resolver inside an injector's reach gives true aliases with a forged end.
        signs.push(if case.guarded { Sign::SameAliasesGuarded } else { Sign::SameAliases });
    }
    if case.evidence.may_differ && !against {
        signs.push(Sign::MayDiffer);
    }
    // Forged pools reach into the networks of the names they are used for, so that for a guarded name the network says
    // nothing any more once a hard sign speaks against the reply.
    if same_network(case) && !(case.guarded && against) {
        signs.push(Sign::SameNetwork);
    }
}

/// Names what the difference itself says. It is less where trusted upstreams differ too.
pub fn difference(case: &Case<'_>, signs: &mut Vec<Sign>) {
    let (reply, truth) = (case.reply, case.truth);
    if truth.differs {
        signs.push(Sign::TrustedDiffer);
    } else if !truth.data().any(|trusted| reply.shares_data(trusted)) {
        signs.push(Sign::NothingInCommon);
    }
    if !reply.chain.is_empty() && truth.has_data && truth.data().all(|trusted| trusted.chain.is_empty()) {
        signs.push(Sign::AliasOnlyHere);
    }
    if reply.ttls.is_some() && truth.has_data && truth.data().all(|trusted| trusted.ttls == reply.ttls) {
        signs.push(Sign::SameTtl);
    }
}

/// Tells whether every address has shown a valid certificate for the name.
#[must_use]
pub fn is_proved(case: &Case<'_>) -> bool {
    case.question.asks_addresses() && have_shown(case, case.reply, &[Proof::Valid])
}

/// Tells whether another suspect's reply has.
#[must_use]
pub fn is_another_proved(case: &Case<'_>) -> bool {
    let mut others = case.evidence.suspects.iter().flat_map(|of| &of.replies);
    case.question.asks_addresses() && others.any(|reply| have_shown(case, reply, &[Proof::Valid]))
}

/// Tells whether it is the mirror of a public name that a network keeps for itself: private addresses from its own resolver,
/// each with a certificate of the name by a root that this machine believes.
#[must_use]
pub fn is_own_mirror(case: &Case<'_>) -> bool {
    case.question.asks_addresses()
        && case.candidate.on_lan
        && case.reply.addresses().all(is_inside)
        && have_shown(case, case.reply, &[Proof::Valid, Proof::LocalRoot])
}

fn have_shown(case: &Case<'_>, reply: &Reply, good: &[Proof]) -> bool {
    let mut addresses = reply.addresses().peekable();
    let is_good = |address| case.evidence.proof(address).is_some_and(|proof| good.contains(&proof));
    addresses.peek().is_some() && addresses.all(is_good)
}

/// Tells whether an address may be one of the own network. Loopback and 0.0.0.0 are what block lists give, and link-local ones have
/// what a cloud tells its machines; neither is where a network keeps its servers.
#[must_use]
pub fn is_inside(at: IpAddr) -> bool {
    let is_link_local = match at.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    address::is_private(at) && !is_link_local && address::kind(at) != AddressKind::OwnMachine
}

/// Tells whether every address is a NAT64 one of an IPv4 address that the name has (RFC 6147 section 5.1.7), behind a prefix
/// that leads nowhere else. The well-known one is routed nowhere but to the network's own NAT64; one of a special block
/// (64:ff9b:1::/48 of RFC 8215, unique local addresses) stays inside the network.
#[must_use]
pub fn is_dns64(case: &Case<'_>) -> bool {
    let addresses: Vec<_> = case.reply.addresses().collect();
    let known = |address: &IpAddr| nat64(*address).is_some_and(|v4| case.evidence.ipv4.contains(&v4));
    let is_well_known = !addresses.is_empty() && addresses.iter().all(known);
    is_well_known || addresses.iter().copied().all(is_special) && has_one_prefix(case, &addresses)
}

/// Tells whether they are NAT64 ones behind a global prefix. Only the network's own resolver can know which one is the
/// network's, so that it may name any: one that leads to somebody else too.
#[must_use]
pub fn is_dns64_elsewhere(case: &Case<'_>) -> bool {
    let addresses: Vec<_> = case.reply.addresses().collect();
    has_one_prefix(case, &addresses)
}

fn has_one_prefix(case: &Case<'_>, addresses: &[IpAddr]) -> bool {
    may_be_dns64(case) && have_one_nat64_prefix(addresses, &case.evidence.ipv4)
}

/// Tells whether the reply may hold NAT64 addresses behind a prefix of the network's own: they are made for names without
/// IPv6 ones (RFC 6147 section 5.1.6).
fn may_be_dns64(case: &Case<'_>) -> bool {
    case.candidate.on_lan && case.question.qtype == Rtype::AAAA && !case.truth.has_data
}

/// Tells whether the reply is what a resolver of the own network would say of a name that exists only there.
#[must_use]
pub fn is_split_horizon(case: &Case<'_>) -> bool {
    let mut addresses = case.reply.addresses().peekable();
    case.question.asks_addresses()
        && case.candidate.on_lan
        && case.inside
        && addresses.peek().is_some()
        && addresses.all(is_inside)
}

fn near<'a>(reply: &Reply, trusted: impl Iterator<Item = &'a Reply>) -> bool {
    let own: Vec<_> = reply.addresses().map(prefix).collect();
    trusted.flat_map(Reply::addresses).any(|address| own.contains(&prefix(address)))
}

fn same_aliases(reply: &Reply, trusted: &Reply) -> bool {
    let into = |one: &[u8], other: &[u8]| {
        one.eq_ignore_ascii_case(other)
            || matches!((domain(one), domain(other)), (Some(a), Some(b)) if a.eq_ignore_ascii_case(b))
    };
    reply.chain.iter().any(|one| trusted.chain.iter().any(|other| into(one.as_wire(), other.as_wire())))
}

fn same_network(case: &Case<'_>) -> bool {
    let evidence = case.evidence;
    let mut own = case.reply.addresses().peekable();
    let known = |network: Option<u32>| {
        network.is_some()
            && case.truth.data().flat_map(Reply::addresses).any(|address| evidence.network(address) == network)
    };
    own.peek().is_some() && own.all(|address| known(evidence.network(address)))
}
