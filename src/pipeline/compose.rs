//! Stage 8: what is kept of a reply.
//!
//! Only records on the alias chain from the question are believed (cache poisoning by extra records), the
//! additional section never is, and private addresses are taken out where the policy says so. A reply that needs no
//! change goes on as the bytes it came in, so that unknown types and signatures survive; only a reply that loses
//! records, or that has names made of what changes on the way, is written anew.

use crate::config::PrivateAnswers;
use crate::dns::address::{self, AddressKind};
use crate::dns::borrowed::names_stay;
use crate::dns::encode::MessageBuilder;
use crate::dns::wire::{Message, RecordAt, Section, WireError, expand_rdata, flag, u16_at};
use crate::dns::{Answer, Ede, Name, NameBuf, Origin, QuestionKey, Rcode, Record, Rtype, name};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Aliases followed for one question, in one reply and over all hops (docs/architecture.md).
pub const MAX_ALIASES: usize = 11;

/// What to do with addresses of a reply.
#[derive(Debug, Clone, Copy)]
pub struct AddressPolicy {
    /// The route's word.
    pub private_answers: PrivateAnswers,
    /// Whether the server that replied has a private address itself.
    pub server_is_private: bool,
}

impl AddressPolicy {
    /// Tells whether an address must not reach the client.
    fn drops(self, address: IpAddr) -> bool {
        match (self.private_answers, address::kind(address)) {
            (PrivateAnswers::Allow, _) | (_, AddressKind::Public) => false,
            (PrivateAnswers::Drop, _) | (_, AddressKind::OwnMachine) => true,
            (PrivateAnswers::Auto, AddressKind::Private) => !self.server_is_private,
        }
    }
}

/// A reply reduced to what is believed.
#[derive(Debug)]
pub struct Composed {
    /// The answer, complete as far as this reply goes.
    pub answer: Answer,
    /// The names of the alias chain behind the question's own name, in order.
    pub aliases: Vec<Name>,
    /// The chain ends in a name for which the reply has neither records nor an SOA, or goes on behind the last alias
    /// that is followed: ask for it.
    pub broken: bool,
    /// The chain comes back to one of its own names, and holds nothing else.
    pub loops: bool,
    /// Records were left out.
    pub scrubbed: bool,
}

/// Reduces a reply to the alias chain from the question, within the address policy.
///
/// AD is passed on only when `keep_ad` is set: the channel was authenticated.
///
/// # Errors
/// When records or names of the reply are malformed.
pub fn compose(
    question: &QuestionKey,
    reply: &[u8],
    policy: AddressPolicy,
    keep_ad: bool,
) -> Result<Composed, WireError> {
    let message = Message::parse(reply)?;
    message.validate()?;
    let (chain, chain_end) = alias_chain(&message, question)?;
    let last = chain.last().cloned().unwrap_or_else(|| question.qname.clone());
    let mut kept = Vec::new();
    let mut expanded = Vec::new();
    let mut scrubbed = false;
    let mut answers_end = message.question_end();
    let mut final_records = false;
    for at in message.section(Section::Answer) {
        answers_end = at.rdata.end;
        let owner = message.owner(&at)?;
        if belongs(&message, &at, &owner, question, &chain) && !is_dropped(&message, &at, policy) {
            final_records |=
                last.is_wire(owner.as_wire()) && (at.rtype == question.qtype || question.qtype == Rtype::ANY);
            check_data(&message, &at, &mut expanded)?;
            kept.push(at);
        } else {
            scrubbed = true;
        }
    }
    let answers = kept.len();
    let mut soa = false;
    let mut authority_dropped = false;
    let mut end = answers_end;
    for at in message.section(Section::Authority) {
        let owner = message.owner(&at)?;
        if authority_belongs(&at, &owner, &last, final_records, question.dnssec_ok) {
            soa |= at.rtype == Rtype::SOA;
            check_data(&message, &at, &mut expanded)?;
            end = at.rdata.end;
            kept.push(at);
        } else {
            authority_dropped = true;
        }
    }
    let in_order = kept.len() == answers || !authority_dropped;
    let counts = (answers, kept.len() - answers);
    let goes_on = !scrubbed && in_order && names_stay(&message, &kept);
    let mut bytes = if goes_on { reply[..end].to_vec() } else { rewritten(&message, question, &kept, counts.0)? };
    set_header(&mut bytes, &message, counts, keep_ad);
    let rcode = message.rcode();
    let is_open = !final_records && !soa && rcode == Rcode::NOERROR && !chain.is_empty();
    // Absence is said of where the reply's whole chain ends, not of where we stop following it.
    let broken = is_open || chain_end == ChainEnd::Cut;
    let ede = message.edns().ok().flatten().and_then(|edns| Ede::from_option(edns.option(15)?));
    let answer = Answer { message: bytes.into(), origin: Origin::Upstream, ede };
    let loops = chain_end == ChainEnd::TurnsBack && !final_records;
    Ok(Composed { answer, aliases: chain, broken, loops, scrubbed })
}

/// Tells whether the address policy leaves nothing of the addresses a reply holds, so that another server should be
/// asked: filtered to nothing is no answer.
#[must_use]
pub fn is_filtered_to_nothing(message: &Message<'_>, question: &QuestionKey, policy: AddressPolicy) -> bool {
    if !message.section(Section::Answer).any(|at| is_dropped(message, &at, policy)) {
        return false;
    }
    // An address of some other name does not make up for those of this one.
    let Ok((chain, _)) = alias_chain(message, question) else { return true };
    !message.section(Section::Answer).any(|at| {
        matches!(at.rtype, Rtype::A | Rtype::AAAA | Rtype::HTTPS | Rtype::SVCB)
            && !is_dropped(message, &at, policy)
            && message.owner(&at).is_ok_and(|owner| belongs(message, &at, &owner, question, &chain))
    })
}

/// Tells whether an answer holds a loopback address. Unspecified ones are not meant: `0.0.0.0` in a hosts file blocks.
#[must_use]
pub fn has_loopback(answer: &Answer) -> bool {
    let view = answer.view();
    view.section(Section::Answer).any(|at| addresses(&view, &at).any(|address| address.to_canonical().is_loopback()))
}

/// Takes a chain apart behind one of its aliases: the records that lead to `alias`, for an answer whose tail comes
/// from elsewhere. In the chain's order, whatever the reply's was: nothing of the tail may slip in because it stood in front.
#[must_use]
pub fn records_up_to(answer: &Answer, alias: &Name) -> Vec<Record> {
    let records = answer.records(Section::Answer);
    let mut leading: Vec<Record> = Vec::new();
    let mut next = Name::from_wire(answer.view().qname()).ok();
    for _ in 0..=MAX_ALIASES {
        let Some(current) = next else { break };
        let Some(leader) = records.iter().find(|record| record.rtype == Rtype::CNAME && record.owner == current) else {
            break;
        };
        for record in &records {
            let leads = match covered_type(record.rtype, &record.rdata) {
                // The DNAMEs that make this alias (RFC 6672 section 3.1).
                Rtype::DNAME => record.owner != current && current.is_at_or_below(&record.owner),
                Rtype::CNAME => record == leader || (record.rtype == Rtype::RRSIG && record.owner == current),
                _ => false,
            };
            if leads && !leading.contains(record) {
                leading.push(record.clone());
            }
        }
        next = leader.target();
        if next.as_ref() == Some(alias) {
            return leading;
        }
    }
    Vec::new()
}

/// Makes NODATA of an NXDOMAIN, for a name that exists all the same.
pub fn soften(answer: &mut Answer) {
    if let Some(low) = answer.message.get_mut(3) {
        *low &= 0xf0;
    }
}

/// Puts the records of earlier hops in front of the last hop's answer.
#[must_use]
pub fn join(question: &QuestionKey, before: &[Record], last: &Answer, authentic_before: bool) -> Answer {
    let mut builder = MessageBuilder::response(&question.qname, question.qtype, last.rcode());
    if authentic_before && last.view().has(flag::AD) {
        builder.or_flags(flag::AD);
    }
    for record in before {
        builder.push(Section::Answer, record);
    }
    for record in last.records(Section::Answer) {
        builder.push(Section::Answer, &record);
    }
    for record in last.records(Section::Authority) {
        builder.push(Section::Authority, &record);
    }
    Answer { message: builder.finish(), origin: last.origin, ede: last.ede.clone() }
}

/// Where a chain of aliases in a reply ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChainEnd {
    /// At a name that is no alias in this reply.
    Name,
    /// At a name before.
    TurnsBack,
    /// Nowhere: it has more aliases than are followed.
    Cut,
}

/// Follows CNAMEs (and the CNAMEs that DNAMEs make, RFC 6672 section 3.1) from the question's name.
fn alias_chain(message: &Message<'_>, question: &QuestionKey) -> Result<(Vec<Name>, ChainEnd), WireError> {
    let mut chain: Vec<Name> = Vec::new();
    if matches!(question.qtype, Rtype::CNAME | Rtype::ANY) {
        return Ok((chain, ChainEnd::Name));
    }
    loop {
        let current = chain.last().unwrap_or(&question.qname);
        let mut next = None;
        for at in message.section(Section::Answer).filter(|at| at.rtype == Rtype::CNAME && at.class == 1) {
            if current.is_wire(message.owner(&at)?.as_wire()) {
                next = Some(message.target(&at)?.to_name());
                break;
            }
        }
        match next {
            Some(target) if target == question.qname || chain.contains(&target) => {
                return Ok((chain, ChainEnd::TurnsBack));
            }
            Some(_) if chain.len() >= MAX_ALIASES => return Ok((chain, ChainEnd::Cut)),
            Some(target) => chain.push(target.to_lower()),
            None => return Ok((chain, ChainEnd::Name)),
        }
    }
}

/// Checks the names in a record's data: they must be whole without the records that are left out.
fn check_data(message: &Message<'_>, at: &RecordAt, scratch: &mut Vec<u8>) -> Result<(), WireError> {
    scratch.clear();
    expand_rdata(message, at, scratch)
}

/// Tells whether an answer record stands on the chain.
fn belongs(message: &Message<'_>, at: &RecordAt, owner: &NameBuf, question: &QuestionKey, chain: &[Name]) -> bool {
    let owner = owner.as_wire();
    // RFC 4035 section 3.2.1: signatures are for those who ask for them.
    let is_unwanted = at.rtype == Rtype::RRSIG && !question.dnssec_ok && question.qtype != Rtype::RRSIG;
    if at.class != 1 || is_unwanted {
        return false;
    }
    let mut names = std::iter::once(&question.qname).chain(chain);
    let covered = covered_type(at.rtype, message.rdata(at));
    let is_above = |name: &Name| !name.is_wire(owner) && name::is_at_or_below(name.as_wire(), owner);
    if covered == Rtype::DNAME && names.clone().any(is_above) {
        return true;
    }
    let on_chain = names.any(|name| name.is_wire(owner));
    on_chain
        && (question.qtype == Rtype::ANY
            || covered == question.qtype
            || covered == Rtype::CNAME
            || at.rtype == question.qtype)
}

/// Returns the type of the records that a record belongs to: the one an RRSIG covers (RFC 4034 section 3.1.1), else its own.
fn covered_type(rtype: Rtype, rdata: &[u8]) -> Rtype {
    let signed = (rtype == Rtype::RRSIG).then(|| u16_at(rdata, 0)).flatten();
    signed.map_or(rtype, Rtype)
}

/// Tells whether an authority record is kept: the SOA of a negative answer (RFC 2308 section 3), and what proves
/// things to clients that validate. NS records never are: a forwarder's client has no use for them, and they are
/// what ghost-domain and delegation attacks are made of.
fn authority_belongs(at: &RecordAt, owner: &NameBuf, last: &Name, positive: bool, dnssec_ok: bool) -> bool {
    match at.rtype {
        Rtype::SOA => !positive && name::is_at_or_below(last.as_wire(), owner.as_wire()),
        Rtype::NSEC | Rtype::NSEC3 | Rtype::RRSIG => dnssec_ok,
        _ => false,
    }
}

/// Tells whether a record holds an address that must not reach the client, or should hold one and does not: what a
/// client makes of an A record of five octets, nobody knows.
fn is_dropped(message: &Message<'_>, at: &RecordAt, policy: AddressPolicy) -> bool {
    let expected_bytes = match at.rtype {
        Rtype::A => 4,
        Rtype::AAAA => 16,
        _ => at.rdata.len(),
    };
    at.rdata.len() != expected_bytes || addresses(message, at).any(|address| policy.drops(address))
}

/// Returns the addresses a record leads to.
fn addresses<'a>(message: &Message<'a>, at: &RecordAt) -> impl Iterator<Item = IpAddr> + use<'a> {
    let rdata = message.rdata(at);
    let one = match at.rtype {
        Rtype::A => <[u8; 4]>::try_from(rdata).ok().map(|octets| Ipv4Addr::from(octets).into()),
        Rtype::AAAA => <[u8; 16]>::try_from(rdata).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    };
    let hints = matches!(at.rtype, Rtype::HTTPS | Rtype::SVCB).then(|| svcb_hints(rdata));
    one.into_iter().chain(hints.into_iter().flatten())
}

/// Returns the addresses in the ipv4hint and ipv6hint parameters of an SVCB or HTTPS record (RFC 9460 section 7.3).
fn svcb_hints(rdata: &[u8]) -> impl Iterator<Item = IpAddr> {
    let name_end = crate::dns::name::wire_len(rdata.get(2..).unwrap_or_default()).map_or(rdata.len(), |len| 2 + len);
    let mut rest = &rdata[name_end.min(rdata.len())..];
    let params = std::iter::from_fn(move || {
        let (key, len) = (u16_at(rest, 0)?, usize::from(u16_at(rest, 2)?));
        let value = rest.get(4..4 + len)?;
        rest = &rest[4 + len..];
        Some((key, value))
    });
    params.flat_map(|(key, value)| {
        let size = match key {
            4 => 4,
            6 => 16,
            _ => usize::MAX,
        };
        let count = value.len() / size;
        (0..count).filter_map(move |i| {
            let octets = &value[i * size..(i + 1) * size];
            match key {
                4 => <[u8; 4]>::try_from(octets).ok().map(|o| IpAddr::V4(o.into())),
                _ => <[u8; 16]>::try_from(octets).ok().map(|o| IpAddr::V6(o.into())),
            }
        })
    })
}

/// Writes a message anew with only the kept records; `answers` of them stand in the answer section.
fn rewritten(
    message: &Message<'_>,
    question: &QuestionKey,
    kept: &[RecordAt],
    answers: usize,
) -> Result<Vec<u8>, WireError> {
    let mut builder = MessageBuilder::response(&question.qname, question.qtype, message.rcode());
    for (index, at) in kept.iter().enumerate() {
        let section = if index < answers { Section::Answer } else { Section::Authority };
        builder.push(section, &Record::from_message(message, at)?);
    }
    Ok(builder.finish().into())
}

/// Sets id, flags and counts of a reply that goes on as an answer of ours.
fn set_header(bytes: &mut [u8], message: &Message<'_>, counts: (usize, usize), keep_ad: bool) {
    let authentic = if keep_ad && message.has(flag::AD) { flag::AD } else { 0 };
    let flags = flag::QR | flag::RA | authentic | message.rcode().0;
    let count = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
    bytes[..2].fill(0);
    bytes[2..4].copy_from_slice(&flags.to_be_bytes());
    bytes[6..8].copy_from_slice(&count(counts.0));
    bytes[8..10].copy_from_slice(&count(counts.1));
    bytes[10..12].fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY_ADDRESS: AddressPolicy =
        AddressPolicy { private_answers: PrivateAnswers::Allow, server_is_private: false };
    const AUTO: AddressPolicy = AddressPolicy { private_answers: PrivateAnswers::Auto, server_is_private: false };

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn question(qname: &str, qtype: Rtype) -> QuestionKey {
        QuestionKey { qname: name(qname), qtype, dnssec_ok: false, checking_disabled: false }
    }

    fn a(owner: &str, address: [u8; 4]) -> Record {
        Record { owner: name(owner), rtype: Rtype::A, class: 1, ttl: 60, rdata: Box::new(address) }
    }

    fn cname(owner: &str, target: &str) -> Record {
        Record { owner: name(owner), rtype: Rtype::CNAME, class: 1, ttl: 60, rdata: name(target).as_wire().into() }
    }

    fn soa(owner: &str) -> Record {
        let mut rdata = vec![0, 0];
        rdata.extend_from_slice(&[0; 20]);
        Record { owner: name(owner), rtype: Rtype::SOA, class: 1, ttl: 60, rdata: rdata.into() }
    }

    fn reply(question: &QuestionKey, answers: &[Record], authority: &[Record]) -> Vec<u8> {
        let mut builder = MessageBuilder::response(&question.qname, question.qtype, Rcode::NOERROR);
        for record in answers {
            builder.push(Section::Answer, record);
        }
        for record in authority {
            builder.push(Section::Authority, record);
        }
        builder.finish().into()
    }

    #[test]
    fn a_clean_reply_goes_on_as_the_bytes_it_came_in() {
        let q = question("www.example.com", Rtype::A);
        let bytes = reply(&q, &[cname("www.example.com", "a.cdn.net"), a("a.cdn.net", [9, 9, 9, 9])], &[]);
        let composed = compose(&q, &bytes, AUTO, false).unwrap();
        assert_eq!(&composed.answer.message[..], &bytes[..]);
        assert_eq!(composed.aliases, vec![name("a.cdn.net")]);
        assert!(!composed.broken && !composed.scrubbed);
    }

    #[test]
    fn records_outside_the_alias_chain_are_scrubbed() {
        let q = question("www.example.com", Rtype::A);
        let bytes = reply(&q, &[a("www.example.com", [9, 9, 9, 9]), a("bank.example", [6, 6, 6, 6])], &[]);
        let composed = compose(&q, &bytes, AUTO, false).unwrap();
        assert!(composed.scrubbed);
        assert_eq!(composed.answer.records(Section::Answer), vec![a("www.example.com", [9, 9, 9, 9])]);
    }

    #[test]
    fn an_address_record_without_an_address_is_not_kept() {
        let q = question("www.example.com", Rtype::A);
        let short = Record { rdata: Box::new([10, 0, 0]), ..a("www.example.com", [0; 4]) };
        let long = Record { rdata: Box::new([10, 0, 0, 1, 0]), ..a("www.example.com", [0; 4]) };
        let bytes = reply(&q, &[short.clone(), a("www.example.com", [9, 9, 9, 9]), long], &[]);
        let composed = compose(&q, &bytes, ANY_ADDRESS, false).unwrap();
        assert_eq!(composed.answer.records(Section::Answer), vec![a("www.example.com", [9, 9, 9, 9])]);
        let only_short = reply(&q, &[short], &[]);
        assert!(is_filtered_to_nothing(&Message::parse(&only_short).unwrap(), &q, ANY_ADDRESS));
    }

    #[test]
    fn signatures_are_kept_for_those_who_ask_for_them() {
        let mut q = question("www.example.com", Rtype::A);
        let signature = Record { rtype: Rtype::RRSIG, rdata: Box::new([0, 1, 8]), ..a("www.example.com", [0; 4]) };
        let bytes = reply(&q, &[a("www.example.com", [9, 9, 9, 9]), signature], &[]);
        assert_eq!(compose(&q, &bytes, AUTO, false).unwrap().answer.records(Section::Answer).len(), 1);
        q.dnssec_ok = true;
        assert_eq!(compose(&q, &bytes, AUTO, false).unwrap().answer.records(Section::Answer).len(), 2);
    }

    #[test]
    fn a_name_in_data_that_points_out_of_the_message_is_malformed() {
        let q = question("www.example.com", Rtype::MX);
        let mx = |pointer: [u8; 2]| Record {
            rtype: Rtype::MX,
            rdata: Box::new([0, 10, 1, b'm', pointer[0], pointer[1]]),
            ..a("www.example.com", [0; 4])
        };
        // Written as it is: the type's own writer would read the name first.
        let with = |pointer| {
            let record = Record { rtype: Rtype(65_280), ..mx(pointer) };
            let mut bytes = reply(&q, &[record], &[]);
            let at = Message::parse(&bytes).unwrap().question_end() + 2;
            bytes[at..at + 2].copy_from_slice(&Rtype::MX.0.to_be_bytes());
            bytes
        };
        assert!(compose(&q, &with([0xc0, 0x0c]), AUTO, false).is_ok());
        assert!(compose(&q, &with([0xff, 0xff]), AUTO, false).is_err());
        assert!(compose(&q, &with([0xc0, 0x00]), AUTO, false).is_err());
    }

    #[test]
    fn the_dname_that_makes_an_alias_is_kept_whatever_the_type() {
        for qtype in [Rtype::A, Rtype::DNAME] {
            let q = question("a.d.example", qtype);
            let dname = Record { rtype: Rtype::DNAME, ..cname("d.example", "e.example") };
            let composed = compose(&q, &reply(&q, &[dname, cname("a.d.example", "a.e.example")], &[]), AUTO, false);
            let composed = composed.unwrap();
            assert_eq!((composed.answer.records(Section::Answer).len(), composed.scrubbed), (2, false), "{qtype}");
        }
    }

    #[test]
    fn an_unrelated_soa_and_name_servers_are_not_kept() {
        let q = question("www.example.com", Rtype::A);
        let ns = Record { rtype: Rtype::NS, ..cname("example.com", "ns.evil.example") };
        let composed = compose(&q, &reply(&q, &[], &[ns, soa("other.org")]), AUTO, false).unwrap();
        assert!(composed.answer.records(Section::Authority).is_empty());
        let composed = compose(&q, &reply(&q, &[], &[soa("example.com")]), AUTO, false).unwrap();
        assert_eq!(composed.answer.records(Section::Authority).len(), 1);
        assert!(!composed.broken);
    }

    #[test]
    fn a_chain_that_ends_in_nothing_is_broken() {
        let q = question("www.example.com", Rtype::A);
        let composed = compose(&q, &reply(&q, &[cname("www.example.com", "gone.cdn.net")], &[]), AUTO, false).unwrap();
        assert!(composed.broken);
    }

    #[test]
    fn absence_behind_more_aliases_than_are_followed_is_not_said_of_the_last_one_followed() {
        let q = question("h0.example", Rtype::A);
        let aliases = |count: usize| -> Vec<Record> {
            (0..count).map(|n| cname(&format!("h{n}.example"), &format!("h{}.example", n + 1))).collect()
        };
        let whole = compose(&q, &reply(&q, &aliases(MAX_ALIASES), &[soa("example")]), AUTO, false).unwrap();
        assert!(!whole.broken);
        let longer = compose(&q, &reply(&q, &aliases(MAX_ALIASES + 1), &[soa("example")]), AUTO, false).unwrap();
        assert!(longer.broken && !longer.loops);
        assert_eq!(longer.aliases.last(), Some(&name(&format!("h{MAX_ALIASES}.example"))));
    }

    #[test]
    fn private_addresses_of_public_servers_are_dropped() {
        let q = question("www.example.com", Rtype::A);
        let bytes = reply(&q, &[a("www.example.com", [10, 0, 0, 1]), a("www.example.com", [9, 9, 9, 9])], &[]);
        let left = compose(&q, &bytes, AUTO, false).unwrap().answer.records(Section::Answer);
        assert_eq!(left, vec![a("www.example.com", [9, 9, 9, 9])]);
        let only = reply(&q, &[a("www.example.com", [10, 0, 0, 1])], &[]);
        let message = Message::parse(&only).unwrap();
        assert!(is_filtered_to_nothing(&message, &q, AUTO));
        assert!(!is_filtered_to_nothing(&message, &q, AddressPolicy { server_is_private: true, ..AUTO }));
        assert!(!is_filtered_to_nothing(&message, &q, ANY_ADDRESS));
    }

    #[test]
    fn loopback_is_dropped_whoever_says_it() {
        let q = question("www.example.com", Rtype::A);
        let only = reply(&q, &[a("www.example.com", [127, 0, 0, 1])], &[]);
        let policy = AddressPolicy { server_is_private: true, ..AUTO };
        assert!(is_filtered_to_nothing(&Message::parse(&only).unwrap(), &q, policy));
    }

    #[test]
    fn addresses_hidden_in_service_hints_are_found() {
        let q = question("www.example.com", Rtype::HTTPS);
        let rdata: Vec<u8> = [&[0, 1, 0][..], &[0, 4, 0, 4, 10, 0, 0, 1]].concat();
        let https = Record { rtype: Rtype::HTTPS, rdata: rdata.into(), ..a("www.example.com", [0; 4]) };
        let bytes = reply(&q, &[https], &[]);
        assert!(is_filtered_to_nothing(&Message::parse(&bytes).unwrap(), &q, AUTO));
    }

    #[test]
    fn a_chain_is_cut_behind_the_alias_that_another_zone_owns() {
        let q = question("www.example.com", Rtype::A);
        let bytes = reply(
            &q,
            &[cname("www.example.com", "in.corp.test"), cname("in.corp.test", "x.net"), a("x.net", [9, 9, 9, 9])],
            &[],
        );
        let composed = compose(&q, &bytes, AUTO, false).unwrap();
        let before = records_up_to(&composed.answer, &name("in.corp.test"));
        assert_eq!(before, vec![cname("www.example.com", "in.corp.test")]);
        let inner = question("in.corp.test", Rtype::A);
        let tail =
            compose(&inner, &reply(&inner, &[a("in.corp.test", [10, 1, 1, 1])], &[]), ANY_ADDRESS, false).unwrap();
        let joined = join(&q, &before, &tail.answer, false);
        assert_eq!(
            joined.records(Section::Answer),
            vec![cname("www.example.com", "in.corp.test"), a("in.corp.test", [10, 1, 1, 1])]
        );
    }

    #[test]
    fn what_leads_to_an_alias_is_found_in_any_order_and_nothing_of_the_tail_with_it() {
        let q = question("www.example.com", Rtype::A);
        let tail = a("in.corp.test", [6, 6, 6, 6]);
        let (first, second) = (cname("www.example.com", "b.net"), cname("b.net", "in.corp.test"));
        let other = cname("b.net", "evil.test");
        let bytes = reply(&q, &[tail, second.clone(), other, first.clone()], &[]);
        let composed = compose(&q, &bytes, ANY_ADDRESS, false).unwrap();
        assert_eq!(records_up_to(&composed.answer, &name("in.corp.test")), vec![first.clone(), second]);
        assert_eq!(records_up_to(&composed.answer, &name("b.net")), vec![first]);
        assert_eq!(records_up_to(&composed.answer, &name("evil.test")), Vec::new());
    }

    #[test]
    fn the_dname_and_the_signatures_of_an_alias_lead_to_it() {
        let mut q = question("a.d.example", Rtype::A);
        q.dnssec_ok = true;
        let dname = Record { rtype: Rtype::DNAME, ..cname("d.example", "e.example") };
        let signature = |owner: &str, covered: Rtype| Record {
            rtype: Rtype::RRSIG,
            rdata: [&covered.0.to_be_bytes()[..], &[8]].concat().into(),
            ..a(owner, [0; 4])
        };
        let leading = [
            dname,
            signature("d.example", Rtype::DNAME),
            cname("a.d.example", "a.e.example"),
            signature("a.d.example", Rtype::CNAME),
        ];
        let all = [&leading[..], &[a("a.e.example", [9, 9, 9, 9]), signature("a.e.example", Rtype::A)]].concat();
        let composed = compose(&q, &reply(&q, &all, &[]), AUTO, false).unwrap();
        assert_eq!(records_up_to(&composed.answer, &name("a.e.example")), leading);
    }

    #[test]
    fn ad_from_a_plain_channel_is_cleared() {
        let q = question("www.example.com", Rtype::A);
        let mut bytes = reply(&q, &[a("www.example.com", [9, 9, 9, 9])], &[]);
        bytes[3] |= 0x20;
        assert!(!compose(&q, &bytes, AUTO, false).unwrap().answer.view().has(flag::AD));
        assert!(compose(&q, &bytes, AUTO, true).unwrap().answer.view().has(flag::AD));
    }

    proptest::proptest! {
        #[test]
        fn no_reply_makes_it_panic(tail in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120), at in 0usize..80, bytes in proptest::prelude::any::<[u8; 4]>()) {
            let q = question("www.example.com", Rtype::A);
            let mut reply = reply(&q, &[cname("www.example.com", "b.net"), a("b.net", [9, 9, 9, 9])], &[soa("net")]);
            let at = at.min(reply.len() - 4);
            reply[at..at + 4].copy_from_slice(&bytes);
            reply.extend_from_slice(&tail);
            if let Ok(composed) = compose(&q, &reply, AUTO, false) {
                Message::parse(&composed.answer.message).unwrap().validate().unwrap();
            }
        }
    }
}
