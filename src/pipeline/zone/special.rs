//! Names that mean the same everywhere, or nothing outside this machine or network: they never reach a public server.
//!
//! A route that the user wrote for such a name opens it; `mod.rs` asks for that before it asks here. `example.` and
//! ipv4only.arpa are no entries on purpose: RFC 6761 section 6.5 and RFC 8880 section 7.1 want them looked up.

use super::by_suffix::BySuffix;
use super::outcome::LocalAnswer;
use super::rdata::CLASS_IN;
use super::reverse;
use super::soa;
use crate::dns::answer::ede;
use crate::dns::{Ede, Name, Origin, Rcode, Record, Rtype, canary};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

/// TTL of loopback answers and of the negative ones (RFC 6303 section 3 writes 10800).
const SPECIAL_TTL_SECONDS: u32 = 10_800;

/// What becomes of the names at or below an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Loopback addresses.
    Localhost,
    /// NXDOMAIN; the entry itself NODATA where it is a zone of its own.
    Absent,
    /// PTR to localhost for the loopback address, NXDOMAIN for the rest.
    LoopbackReverse,
    /// NODATA at the entry and at `_dns` below it, NXDOMAIN for the rest.
    Designated,
    /// Private servers of the group `system`, or nobody.
    Private,
}

/// The registry of special-use names, as far as a forwarder treats them: name, rule, source.
const ENTRIES: &[(&str, Rule, &str)] = &[
    ("localhost", Rule::Localhost, "RFC 6761 section 6.3"),
    ("invalid", Rule::Absent, "RFC 6761 section 6.4"),
    ("test", Rule::Absent, "RFC 6761 section 6.2"),
    ("local", Rule::Absent, "RFC 6762 section 22.1"),
    ("254.169.in-addr.arpa", Rule::Absent, "RFC 6762 section 22.1"),
    ("8.e.f.ip6.arpa", Rule::Absent, "RFC 6762 section 22.1"),
    ("9.e.f.ip6.arpa", Rule::Absent, "RFC 6762 section 22.1"),
    ("a.e.f.ip6.arpa", Rule::Absent, "RFC 6762 section 22.1"),
    ("b.e.f.ip6.arpa", Rule::Absent, "RFC 6762 section 22.1"),
    ("onion", Rule::Absent, "RFC 7686 section 2"),
    ("use-application-dns.net", Rule::Absent, "the canary that keeps browsers from going around this resolver"),
    ("resolver.arpa", Rule::Designated, "RFC 9462 section 6.4"),
    ("home.arpa", Rule::Private, "RFC 8375 section 4"),
    ("internal", Rule::Private, "reserved for private use by ICANN"),
    ("127.in-addr.arpa", Rule::LoopbackReverse, "RFC 6303 section 4.2"),
    ("0.in-addr.arpa", Rule::Absent, "RFC 6303 section 4.2"),
    ("255.255.255.255.in-addr.arpa", Rule::Absent, "RFC 6303 section 4.2"),
    ("2.0.192.in-addr.arpa", Rule::Private, "RFC 6303 section 4.2"),
    ("100.51.198.in-addr.arpa", Rule::Private, "RFC 6303 section 4.2"),
    ("113.0.203.in-addr.arpa", Rule::Private, "RFC 6303 section 4.2"),
    ("10.in-addr.arpa", Rule::Private, "RFC 6303 section 4.1"),
    ("168.192.in-addr.arpa", Rule::Private, "RFC 6303 section 4.1"),
    ("d.f.ip6.arpa", Rule::Private, "RFC 6303 section 4.4"),
    ("8.b.d.0.1.0.0.2.ip6.arpa", Rule::Private, "RFC 6303 section 4.6"),
];

type Table = BySuffix<Option<(Rule, &'static str)>>;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table::default();
    let mut add = |name: &str, rule, source| {
        let name = Name::parse(name).expect("the table holds names");
        *table.entry(&name) = Some((rule, source));
    };
    for (name, rule, source) in ENTRIES {
        add(name, *rule, *source);
    }
    for second in 16..32 {
        add(&format!("{second}.172.in-addr.arpa"), Rule::Private, "RFC 6303 section 4.1");
    }
    for second in 64..128 {
        add(&format!("{second}.100.in-addr.arpa"), Rule::Private, "RFC 7793 section 2");
    }
    for zero in [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST] {
        let name = reverse::name_of(zero.into());
        let rule = if zero.is_loopback() { Rule::LoopbackReverse } else { Rule::Absent };
        *table.entry(&name) = Some((rule, "RFC 6303 section 4.3"));
    }
    table
});

/// What `truename up` asks for, to see whether questions of this machine come here.
static CANARY: LazyLock<Name> = LazyLock::new(|| Name::parse(canary::NAME).expect("it is a name"));

/// Its address, which no other daemon has: a loopback address drawn once.
static CANARY_ADDRESS: LazyLock<Ipv4Addr> = LazyLock::new(|| {
    let [a, b, c] = rand::random::<[u8; 3]>();
    Ipv4Addr::new(127, a, b, c)
});

/// What the special-use names say.
#[derive(Debug)]
pub(super) enum Special {
    /// This.
    Answer(LocalAnswer),
    /// Only private servers of the group `system` may be asked.
    PrivateOnly,
    /// Nothing.
    Nothing,
}

/// Tells whether a name is in the table or has a single label, so that public servers have nothing to do with it.
pub(super) fn is_special(name: &Name) -> bool {
    name.label_count() <= 1 || entry(name).is_some()
}

/// Answers the canary's question, whatever zones and routes there are: `test.` is a favourite for zones of one's own. Each of
/// its names is asked for once, so nobody is to keep the answer.
pub(super) fn canary(qname: &Name, qtype: Rtype) -> Option<LocalAnswer> {
    if !qname.is_at_or_below(&CANARY) {
        return None;
    }
    let source = format!("{} (the canary of truename up)", *CANARY);
    if qtype != Rtype::A {
        let soa = soa::for_negative(&CANARY, 0);
        return Some(LocalAnswer::negative(Origin::Special, Rcode::NOERROR, soa, source));
    }
    let rdata = CANARY_ADDRESS.octets().as_slice().into();
    let record = Record { owner: qname.clone(), rtype: qtype, class: CLASS_IN, ttl: 0, rdata };
    Some(LocalAnswer::records(Origin::Special, vec![record], source))
}

/// Answers a question.
pub(super) fn answer(qname: &Name, qtype: Rtype) -> Special {
    let Some((apex, rule, source)) = entry(qname) else {
        // A single label is a name of this network, except for the questions that ask about top-level domains.
        let about_tld = matches!(qtype, Rtype::NS | Rtype::SOA | Rtype::DS | Rtype::DNSKEY);
        return if qname.label_count() == 1 && !about_tld { Special::PrivateOnly } else { Special::Nothing };
    };
    let is_apex = qname.as_wire().len() == apex.as_wire().len();
    let one = |rtype: Rtype, rdata: &[u8]| {
        let record =
            Record { owner: qname.clone(), rtype, class: CLASS_IN, ttl: SPECIAL_TTL_SECONDS, rdata: rdata.into() };
        Special::Answer(LocalAnswer::records(Origin::Special, vec![record], format!("{apex} ({source})")))
    };
    let exists = match rule {
        Rule::Private => return Special::PrivateOnly,
        Rule::Localhost => match qtype {
            Rtype::A | Rtype::ANY => return one(Rtype::A, &Ipv4Addr::LOCALHOST.octets()),
            Rtype::AAAA => return one(Rtype::AAAA, &Ipv6Addr::LOCALHOST.octets()),
            _ => true,
        },
        Rule::LoopbackReverse => {
            let is_loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
                .into_iter()
                .any(|address| *qname == reverse::name_of(address));
            if is_loopback && matches!(qtype, Rtype::PTR | Rtype::ANY) {
                return one(Rtype::PTR, b"\x09localhost\0");
            }
            is_apex || is_loopback
        }
        Rule::Designated => is_apex || qname.labels().next().is_some_and(|l| l.eq_ignore_ascii_case(b"_dns")),
        // RFC 6303 section 3: the reverse zones exist, empty; the top-level names do not.
        Rule::Absent => is_apex && apex.label_count() > 1 && apex.labels().last() == Some(b"arpa"),
    };
    Special::Answer(negative(&apex, qname, exists, source))
}

/// Makes the NXDOMAIN for a name that only private servers could have answered, when there are none.
pub(super) fn withheld(qname: &Name) -> LocalAnswer {
    let (apex, source) = match entry(qname) {
        Some((apex, _, source)) => (apex, source),
        None => (qname.clone(), "only servers of this network may be asked for it, and there are none"),
    };
    let is_reverse_apex = *qname == apex && apex.labels().last() == Some(b"arpa");
    negative(&apex, qname, is_reverse_apex, source)
}

/// Tells whether a name is below what distributions put into their hosts files for the machine itself
/// (`localhost.localdomain`, `localhost6.localdomain6`). No network may rely on it, so such names are routed like others.
pub(super) fn is_local_domain(name: &Name) -> bool {
    let top = name.labels().last().unwrap_or_default();
    [&b"localdomain"[..], b"localdomain4", b"localdomain6"].iter().any(|known| top.eq_ignore_ascii_case(known))
}

fn negative(apex: &Name, qname: &Name, exists: bool, source: &'static str) -> LocalAnswer {
    let rcode = if exists { Rcode::NOERROR } else { Rcode::NXDOMAIN };
    let soa = soa::for_negative(apex, SPECIAL_TTL_SECONDS);
    let mut answer = LocalAnswer::negative(Origin::Special, rcode, soa, format!("{qname} is special: {source}"));
    if !exists {
        answer.ede = Some(Ede::new(ede::OTHER, "special-use name, not sent to public servers"));
    }
    answer
}

/// Finds the deepest entry a name is at or below.
fn entry(name: &Name) -> Option<(Name, Rule, &'static str)> {
    TABLE.at_or_above(&name.lower_wire()).find_map(|(suffix, found)| {
        let (rule, source) = (*found)?;
        Some((Name::from_wire(suffix).ok()?, rule, source))
    })
}
