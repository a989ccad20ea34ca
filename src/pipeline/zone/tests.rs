//! Claims about stage 4 as the pipeline sees it.

use super::presentation::record_line;
use super::*;
use crate::config::{
    Cache, DefaultRoute, GroupId, InlineRecord, Log, Pattern, PrivateAnswers, Rewrite, Scope, Server, Zone,
};
use crate::dns::Record;
use proptest::prelude::*;
use std::path::Path;
use std::time::Duration;

#[derive(Default)]
struct Routes {
    explicit: Vec<Name>,
    private: Vec<Name>,
}

impl Context for Routes {
    fn explicitly_routed(&self, name: &Name) -> bool {
        self.explicit.iter().any(|route| name.is_at_or_below(route))
    }

    fn private_route(&self, name: &Name) -> bool {
        self.private.iter().any(|route| name.is_at_or_below(route))
    }
}

const ALL: ViewId = ViewId(0);
const OFFICE: ViewId = ViewId(1);

const ZONE: &str = "\
$TTL 300
@ IN SOA ns hostmaster 7 3600 600 86400 60
@ NS ns
@ A 192.0.2.1
@ MX 10 mail
ns A 192.0.2.2
git CNAME lab.example.
out CNAME www.public.example.
one CNAME two
two CNAME three
three A 192.0.2.3
dead CNAME nowhere
loop1 CNAME loop2
loop2 CNAME loop1
*.wild A 192.0.2.4
*.wild TXT \"w\"
host.sub.wild A 192.0.2.5
*.alias CNAME three
a.b.c A 192.0.2.6
old DNAME new
x.new A 192.0.2.7
away DNAME public.example.
private NS ns.private
ns.private A 10.0.0.9
public NS ns.public.example.
into CNAME x.public
signed A 192.0.2.8
odd TYPE65280 \\# 2 abcd
";

#[test]
fn positive_answers_carry_the_qname_as_asked_and_their_line() {
    let zones = lab();
    let answer = local(&zones, "THREE.lab.example", Rtype::A);
    assert_eq!(lines(&answer.answers), ["THREE.lab.example. 300 IN A 192.0.2.3"]);
    assert!(answer.authoritative);
    assert_eq!(answer.origin, Origin::Zone);
    assert!(answer.source.ends_with("lab.zone:11 THREE.lab.example. 300 IN A 192.0.2.3"), "{}", answer.source);
}

#[test]
fn nodata_and_nxdomain_carry_the_soa_at_min_of_ttl_and_minimum() {
    let zones = lab();
    let soa = "lab.example. 60 IN SOA ns.lab.example. hostmaster.lab.example. 7 3600 600 86400 60";
    for (name, qtype, rcode) in [
        ("three.lab.example", Rtype::AAAA, Rcode::NOERROR),
        ("nowhere.lab.example", Rtype::A, Rcode::NXDOMAIN),
        ("lab.example", Rtype::HTTPS, Rcode::NOERROR),
    ] {
        let answer = local(&zones, name, qtype);
        assert_eq!((answer.rcode, lines(&answer.answers)), (rcode, vec![]), "{name}");
        assert_eq!(lines(&answer.authority), [soa]);
    }
}

#[test]
fn empty_non_terminals_exist() {
    let zones = lab();
    for name in ["b.c.lab.example", "c.lab.example", "wild.lab.example", "sub.wild.lab.example"] {
        let answer = local(&zones, name, Rtype::A);
        assert_eq!((answer.rcode, answer.answers.len()), (Rcode::NOERROR, 0), "{name}");
    }
    assert_eq!(local(&zones, "d.c.lab.example", Rtype::A).rcode, Rcode::NXDOMAIN);
}

#[test]
fn wildcards_make_records_right_below_the_closest_encloser_only() {
    let zones = lab();
    assert_eq!(
        lines(&local(&zones, "q.wild.lab.example", Rtype::A).answers),
        ["q.wild.lab.example. 300 IN A 192.0.2.4"]
    );
    assert_eq!(local(&zones, "r.q.wild.lab.example", Rtype::A).answers.len(), 1);
    // The name exists as an empty non-terminal, so the wildcard does not reach what is below it (RFC 4592 2.2.2).
    assert_eq!(local(&zones, "q.sub.wild.lab.example", Rtype::A).rcode, Rcode::NXDOMAIN);
    let nodata = local(&zones, "q.wild.lab.example", Rtype::AAAA);
    assert_eq!((nodata.rcode, nodata.answers.len(), nodata.authority.len()), (Rcode::NOERROR, 0, 1));
    assert_eq!(
        lines(&local(&zones, "*.wild.lab.example", Rtype::A).answers),
        ["*.wild.lab.example. 300 IN A 192.0.2.4"]
    );
    assert_eq!(
        lines(&local(&zones, "z.alias.lab.example", Rtype::A).answers),
        ["z.alias.lab.example. 300 IN CNAME three.lab.example.", "three.lab.example. 300 IN A 192.0.2.3"]
    );
}

#[test]
fn aliases_inside_the_zone_are_followed_to_their_end() {
    let zones = lab();
    let answer = local(&zones, "one.lab.example", Rtype::A);
    assert_eq!(
        lines(&answer.answers),
        [
            "one.lab.example. 300 IN CNAME two.lab.example.",
            "two.lab.example. 300 IN CNAME three.lab.example.",
            "three.lab.example. 300 IN A 192.0.2.3"
        ]
    );
    assert_eq!(answer.follow, None);
    assert_eq!(local(&zones, "one.lab.example", Rtype::CNAME).answers.len(), 1);
    // RFC 6604 section 3: the code is that of the last name.
    let dead = local(&zones, "dead.lab.example", Rtype::A);
    assert_eq!((dead.rcode, dead.answers.len(), dead.authority.len()), (Rcode::NXDOMAIN, 1, 1));
}

#[test]
fn aliases_out_of_the_zone_are_left_to_the_pipeline() {
    let zones = lab();
    let answer = local(&zones, "out.lab.example", Rtype::A);
    assert_eq!(answer.follow, Some(name("www.public.example")));
    assert_eq!(answer.answers.len(), 1);
    assert_eq!(local(&zones, "into.lab.example", Rtype::A).follow, Some(name("x.public.lab.example")));
}

#[test]
fn eleven_aliases_inside_a_zone_are_followed_and_twelve_are_too_many() {
    let names: Vec<String> = (0..=12).map(|n| format!("a{n}")).collect();
    let alias = |n: usize| (names[n].as_str(), "CNAME", names[n + 1].as_str());
    let mut records: Vec<_> = (0..12).map(alias).collect();
    records.push(("a12", "A", "10.1.0.1"));
    let mut config = config();
    config.zones = vec![zone("lab.example", &records)];
    let zones = load(&config);
    let eleven = local(&zones, "a1.lab.example", Rtype::A);
    assert_eq!((eleven.rcode, eleven.answers.len()), (Rcode::NOERROR, 12));
    let twelve = local(&zones, "a0.lab.example", Rtype::A);
    assert_eq!((twelve.rcode, twelve.answers.len(), twelve.ede.is_some()), (Rcode::SERVFAIL, 0, true));
}

#[test]
fn alias_circles_end_in_servfail_with_a_reason() {
    let answer = local(&lab(), "loop1.lab.example", Rtype::A);
    assert_eq!((answer.rcode, answer.answers.len()), (Rcode::SERVFAIL, 0));
    assert!(answer.ede.is_some());
}

#[test]
fn dname_redirects_what_is_below_it_and_not_itself() {
    let zones = lab();
    assert_eq!(
        lines(&local(&zones, "x.old.lab.example", Rtype::A).answers),
        [
            "old.lab.example. 300 IN DNAME new.lab.example.",
            "x.old.lab.example. 300 IN CNAME x.new.lab.example.",
            "x.new.lab.example. 300 IN A 192.0.2.7"
        ]
    );
    assert_eq!(local(&zones, "y.away.lab.example", Rtype::A).follow, Some(name("y.public.example")));
    assert_eq!(local(&zones, "old.lab.example", Rtype::A).answers.len(), 0);
    assert_eq!(local(&zones, "old.lab.example", Rtype::DNAME).answers.len(), 1);
    let label = "l".repeat(63);
    let zones = inline(&[("d", "DNAME", &format!("{label}.{label}.{label}.example."))]);
    let long = local(&zones, &format!("{label}.d.lab.example"), Rtype::A);
    assert_eq!((long.rcode, long.answers.len()), (Rcode(6), 1));
}

#[test]
fn delegated_names_are_routed_and_private_ones_do_not_leak() {
    let zones = lab();
    let ask = |text: &str, qtype, routes: &Routes| zones.answer(ALL, &name(text), qtype, false, routes);
    let none = Routes::default();
    assert_eq!(ask("x.public.lab.example", Rtype::A, &none), Outcome::NotOurs);
    assert_eq!(ask("x.private.lab.example", Rtype::A, &none), Outcome::PrivateSystemOnly);
    assert_eq!(ask("ns.private.lab.example", Rtype::A, &none), Outcome::PrivateSystemOnly);
    let routed = Routes { explicit: vec![name("private.lab.example")], ..Routes::default() };
    assert_eq!(ask("x.private.lab.example", Rtype::A, &routed), Outcome::NotOurs);
    // RFC 4035 section 3.1.4.1.
    assert!(matches!(ask("public.lab.example", Rtype::DS, &none), Outcome::Local(_)));
}

#[test]
fn any_is_one_rrset_and_unknown_types_are_served() {
    let zones = lab();
    let any = local(&zones, "lab.example", Rtype::ANY);
    let first = any.answers[0].rtype;
    assert!(any.answers.iter().all(|record| record.rtype == first));
    assert_eq!(
        lines(&local(&zones, "odd.lab.example", Rtype(65280)).answers),
        [r"odd.lab.example. 300 IN TYPE65280 \# 2 ABCD"]
    );
}

#[test]
fn signatures_a_file_carries_come_only_when_asked_for() {
    let of_a = "A 13 3 60 20261221000000 20261121000000 1 lab.example. Zm9v";
    let of_txt = "TXT 13 3 60 20261221000000 20261121000000 1 lab.example. Zm9v";
    let zones = inline(&[("s", "A", "192.0.2.1"), ("s", "RRSIG", of_a), ("s", "RRSIG", of_txt)]);
    let count = |dnssec_ok| match zones.answer(ALL, &name("s.lab.example"), Rtype::A, dnssec_ok, &Routes::default()) {
        Outcome::Local(answer) => answer.answers.len(),
        other @ (Outcome::NotOurs | Outcome::PrivateSystemOnly) => panic!("{other:?}"),
    };
    assert_eq!((count(false), count(true)), (1, 2));
    assert_eq!(local(&zones, "s.lab.example", Rtype::ANY).answers[0].rtype, Rtype::A);
}

#[test]
fn a_zone_without_soa_gets_one() {
    let zones = inline(&[("@", "A", "192.0.2.1")]);
    let soa = local(&zones, "lab.example", Rtype::SOA);
    assert_eq!(soa.answers.len(), 1);
    let text = record_line(&soa.answers[0]);
    assert!(text.starts_with("lab.example. 60 IN SOA lab.example. hostmaster.lab.example. "), "{text}");
    assert!(text.ends_with(" 3600 600 86400 60"), "{text}");
    assert_eq!(local(&zones, "lab.example", Rtype::NS).answers.len(), 0);
    assert_eq!(local(&zones, "nope.lab.example", Rtype::A).authority[0].ttl, 60);
}

#[test]
fn an_apex_alias_works_in_a_zone_of_one_name() {
    let zones = inline(&[("@", "CNAME", "public.example.")]);
    assert_eq!(local(&zones, "lab.example", Rtype::A).follow, Some(name("public.example")));
    // What it is printed as loads again, with the SOA record that was made.
    let dir = tempfile::tempdir().unwrap();
    let printed: String = zones.records().map(|record| record_line(&record) + "\n").collect();
    let mut config = config();
    config.zones = vec![Zone { file: Some(write(&dir, "zone", &printed)), ..zone("lab.example", &[]) }];
    let (again, problems) = Zones::load(&config, 7);
    assert!(problems.is_empty(), "{problems:?}");
    assert!(again.records().eq(zones.records()), "{printed}");
    std::fs::write(dir.path().join("zone"), printed + "@ NS ns\n").unwrap();
    assert_eq!(Zones::load(&config, 7).1[0].code, "cname-and-other-data");
}

#[test]
fn overlays_decide_per_name_and_type() {
    let mut config = config();
    config.zones =
        vec![zone("example.com", &[("git", "A", "10.0.0.1"), ("*.dev", "AAAA", "fd00::1"), ("t", "TXT", "x")])];
    config.zones[0].fallthrough = true;
    let zones = load(&config);
    assert_eq!(local(&zones, "git.example.com", Rtype::A).answers.len(), 1);
    for (text, qtype) in [
        ("git.example.com", Rtype::AAAA),
        ("git.example.com", Rtype::HTTPS),
        ("git.example.com", Rtype::SVCB),
        ("_8443._https.git.example.com", Rtype::HTTPS),
        ("x.dev.example.com", Rtype::A),
    ] {
        let answer = local(&zones, text, qtype);
        assert_eq!((answer.rcode, answer.answers.len(), answer.authority.len()), (Rcode::NOERROR, 0, 1), "{text}");
    }
    for (text, qtype) in [
        ("git.example.com", Rtype::MX),
        ("www.example.com", Rtype::A),
        ("example.com", Rtype::A),
        ("example.com", Rtype::SOA),
        ("dev.example.com", Rtype::A),
        ("t.example.com", Rtype::A),
        ("_8443._https.www.example.com", Rtype::HTTPS),
    ] {
        assert_eq!(outcome(&zones, text, qtype), Outcome::NotOurs, "{text} {qtype}");
    }
}

#[test]
fn an_overlay_over_a_zone_uncovers_the_zone() {
    let mut config = config();
    let mut overlay = zone("sub.lab.example", &[("git", "A", "10.0.0.1")]);
    overlay.fallthrough = true;
    config.zones = vec![overlay, zone("lab.example", &[("www.sub", "A", "10.0.0.2")])];
    let zones = load(&config);
    assert_eq!(local(&zones, "www.sub.lab.example", Rtype::A).answers.len(), 1);
    assert_eq!(local(&zones, "nope.sub.lab.example", Rtype::A).rcode, Rcode::NXDOMAIN);
}

#[test]
fn the_longest_apex_decides_and_a_view_beats_everybody() {
    let mut config = config();
    let mut inside = zone("lab.example", &[("www", "A", "10.0.0.1")]);
    inside.views = Some(vec![OFFICE]);
    config.zones = vec![
        zone("lab.example", &[("www", "A", "192.0.2.1"), ("x.deep", "A", "192.0.2.2")]),
        inside,
        zone("deep.lab.example", &[("y", "A", "192.0.2.3")]),
    ];
    let zones = load(&config);
    let ask = |view, text: &str| match zones.answer(view, &name(text), Rtype::A, false, &Routes::default()) {
        Outcome::Local(answer) => lines(&answer.answers).concat(),
        other @ (Outcome::NotOurs | Outcome::PrivateSystemOnly) => panic!("{other:?}"),
    };
    assert!(ask(ALL, "www.lab.example").ends_with("192.0.2.1"));
    assert!(ask(OFFICE, "www.lab.example").ends_with("10.0.0.1"));
    assert_eq!(ask(ALL, "x.deep.lab.example"), "");
    assert!(ask(OFFICE, "y.deep.lab.example").ends_with("192.0.2.3"));
}

#[test]
fn made_ptrs_fill_gaps_and_never_replace_written_ones() {
    let mut config = config();
    let mut forward = zone("lab.example", &[("a", "A", "10.1.0.1"), ("b", "A", "10.1.0.2"), ("*.w", "A", "10.1.0.3")]);
    forward.reverse = true;
    config.zones = vec![forward, zone("1.10.in-addr.arpa", &[("1.0", "PTR", "written.lab.example.")])];
    let zones = load(&config);
    let ptr = |text: &str| lines(&local(&zones, text, Rtype::PTR).answers).concat();
    assert_eq!(ptr("1.0.1.10.in-addr.arpa"), "1.0.1.10.in-addr.arpa. 60 IN PTR written.lab.example.");
    assert_eq!(ptr("2.0.1.10.in-addr.arpa"), "2.0.1.10.in-addr.arpa. 60 IN PTR b.lab.example.");
    assert_eq!(local(&zones, "3.0.1.10.in-addr.arpa", Rtype::PTR).rcode, Rcode::NXDOMAIN);
    assert_eq!(local(&zones, "2.0.1.10.in-addr.arpa", Rtype::TXT).rcode, Rcode::NOERROR);
    assert_eq!(outcome(&zones, "9.9.9.10.in-addr.arpa", Rtype::PTR), Outcome::PrivateSystemOnly);
}

#[test]
fn an_address_of_many_names_has_so_many_made_ptrs() {
    let names: Vec<String> = (0..40).map(|n| format!("n{n:02}")).collect();
    let records: Vec<_> = names.iter().map(|name| (name.as_str(), "A", "10.1.0.1")).collect();
    let mut config = config();
    config.zones = vec![Zone { reverse: true, ..zone("lab.example", &records) }];
    assert_eq!(local(&load(&config), "1.0.1.10.in-addr.arpa", Rtype::PTR).answers.len(), 32);
}

#[test]
fn rewrites_rank_by_labels_then_scope_then_order() {
    let mut config = config();
    config.rewrites = vec![
        rewrite("example.org", Scope::NameAndBelow, "A", "192.0.2.1"),
        rewrite("example.org", Scope::Only, "A", "192.0.2.2"),
        rewrite("example.org", Scope::Only, "AAAA", "2001:db8::2"),
        rewrite("deep.example.org", Scope::Below, "CNAME", "target.example.net."),
        rewrite("safe.example", Scope::NameAndBelow, "CNAME", "in.safe.example."),
    ];
    let zones = load(&config);
    let first = |text: &str, qtype| lines(&local(&zones, text, qtype).answers).concat();
    assert_eq!(first("example.org", Rtype::A), "example.org. 60 IN A 192.0.2.2");
    assert_eq!(first("example.org", Rtype::AAAA), "example.org. 60 IN AAAA 2001:db8::2");
    assert_eq!(first("www.example.org", Rtype::A), "www.example.org. 60 IN A 192.0.2.1");
    assert_eq!(first("deep.example.org", Rtype::A), "deep.example.org. 60 IN A 192.0.2.1");
    assert_eq!(local(&zones, "x.deep.example.org", Rtype::A).follow, Some(name("target.example.net")));
    assert_eq!(first("www.example.org", Rtype::AAAA), "");
    assert_eq!(first("_1._https.www.example.org", Rtype::HTTPS), "");
    assert_eq!(outcome(&zones, "www.example.org", Rtype::MX), Outcome::NotOurs);
    assert_eq!(outcome(&zones, "in.safe.example", Rtype::A), Outcome::NotOurs);
}

#[test]
fn the_canary_is_answered_whatever_zones_there_are() {
    for own in [vec![], vec![zone("test", &[("@", "A", "192.0.2.1")])]] {
        let mut config = config();
        config.zones = own;
        let zones = load(&config);
        let lines_of = |text: &str| lines(&local(&zones, text, Rtype::A).answers);
        let said = lines_of("1.Canary.truename.test").concat();
        assert!(said.starts_with("1.Canary.truename.test. 0 IN A 127."), "{said}");
        assert_eq!(lines_of("2.canary.truename.test").concat().rsplit(' ').next(), said.rsplit(' ').next());
        assert_eq!(local(&zones, "1.canary.truename.test", Rtype::AAAA).rcode, Rcode::NOERROR);
        assert_eq!(local(&zones, "canary2.truename.test", Rtype::A).rcode, Rcode::NXDOMAIN);
    }
}

#[test]
fn special_names_are_answered_kept_in_or_passed() {
    let zones = load(&config());
    assert_eq!(lines(&local(&zones, "x.LocalHost", Rtype::A).answers), ["x.LocalHost. 10800 IN A 127.0.0.1"]);
    assert_eq!(lines(&local(&zones, "localhost", Rtype::AAAA).answers), ["localhost. 10800 IN AAAA ::1"]);
    assert_eq!(local(&zones, "localhost", Rtype::MX).rcode, Rcode::NOERROR);
    assert_eq!(
        lines(&local(&zones, "1.0.0.127.in-addr.arpa", Rtype::PTR).answers),
        ["1.0.0.127.in-addr.arpa. 10800 IN PTR localhost."]
    );
    let v6 = reverse::name_of(std::net::Ipv6Addr::LOCALHOST.into()).to_string();
    assert_eq!(local(&zones, &v6, Rtype::PTR).answers.len(), 1);
    for text in [
        "a.invalid",
        "test",
        "x.test",
        "printer.local",
        "x.onion",
        "use-application-dns.net",
        "2.0.0.127.in-addr.arpa",
        "1.0.0.0.in-addr.arpa",
        "1.1.254.169.in-addr.arpa",
        "x.resolver.arpa",
    ] {
        let answer = local(&zones, text, Rtype::A);
        assert_eq!((answer.rcode, answer.authority.len()), (Rcode::NXDOMAIN, 1), "{text}");
    }
    assert_eq!(local(&zones, "_dns.resolver.arpa", Rtype::SVCB).rcode, Rcode::NOERROR);
    assert_eq!(local(&zones, "254.169.in-addr.arpa", Rtype::SOA).rcode, Rcode::NOERROR);
    for text in [
        "nas.home.arpa",
        "db.internal",
        "1.2.3.10.in-addr.arpa",
        "1.1.31.172.in-addr.arpa",
        "1.1.64.100.in-addr.arpa",
        "1.1.127.100.in-addr.arpa",
        "1.d.f.ip6.arpa",
        "printer",
        "2.0.192.in-addr.arpa",
    ] {
        assert_eq!(outcome(&zones, text, Rtype::A), Outcome::PrivateSystemOnly, "{text}");
    }
    for text in [
        "example",
        "www.example.com",
        "ipv4only.arpa",
        "1.1.32.172.in-addr.arpa",
        "1.1.63.100.in-addr.arpa",
        "1.1.128.100.in-addr.arpa",
        "notlocal.com",
        "local.com",
        ".",
    ] {
        let qtype = if text == "example" { Rtype::NS } else { Rtype::A };
        assert_eq!(outcome(&zones, text, qtype), Outcome::NotOurs, "{text}");
    }
    assert_eq!(zones.withheld(&name("db.internal")).rcode, Rcode::NXDOMAIN);
}

#[test]
fn a_written_route_or_zone_opens_a_special_name() {
    let mut config = config();
    config.zones = vec![zone("home.arpa", &[("nas", "A", "192.168.0.2")])];
    let zones = load(&config);
    let routes = Routes { explicit: vec![name("onion"), name("local")], ..Routes::default() };
    assert_eq!(zones.answer(ALL, &name("x.onion"), Rtype::A, false, &routes), Outcome::NotOurs);
    assert_eq!(zones.answer(ALL, &name("p.local"), Rtype::A, false, &routes), Outcome::NotOurs);
    // A search domain of the network makes a private route.
    let office = Routes { private: vec![name("corp.local")], ..Routes::default() };
    assert_eq!(zones.answer(ALL, &name("dc.corp.local"), Rtype::A, false, &office), Outcome::NotOurs);
    assert_eq!(local(&zones, "nas.home.arpa", Rtype::A).answers.len(), 1);
    assert_eq!(local(&zones, "x.home.arpa", Rtype::A).rcode, Rcode::NXDOMAIN);
}

#[test]
fn hosts_lines_come_before_zones_and_hide_no_other_types() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    config.hosts.files = vec![write(&dir, "hosts", "192.0.2.9 www.lab.example\n192.0.2.8 only.lab.example pc\n")];
    config.zones = vec![zone("lab.example", &[("www", "A", "192.0.2.1"), ("www", "TXT", "t")])];
    let zones = load(&config);
    assert_eq!(lines(&local(&zones, "www.lab.example", Rtype::A).answers), ["www.lab.example. 60 IN A 192.0.2.9"]);
    assert_eq!(local(&zones, "www.lab.example", Rtype::TXT).answers.len(), 1);
    // The zone alone would say NXDOMAIN of a name that has an address.
    assert_eq!(local(&zones, "only.lab.example", Rtype::TXT).rcode, Rcode::NOERROR);
    assert_eq!(local(&zones, "pc", Rtype::A).origin, Origin::Hosts);
}

#[test]
fn hosts_lines_for_public_names_are_listed_or_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    let text = "127.0.0.1 localhost localhost.localdomain localhost4.localdomain4\n127.0.1.1 pc pc.corp.example\n0.0.0.0 \
                ads.example.com\n10.0.0.1 a.lab.example\n::1 ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\n127.0.1.1 \
                Box.example.net box\n10.0.0.2 www.example.net api\n10.0.0.3 box.example.net\n";
    config.hosts.files = vec![write(&dir, "hosts", text)];
    config.zones = vec![zone("lab.example", &[])];
    let routes = Routes { private: vec![name("corp.example")], ..Routes::default() };
    let zones = load(&config);
    let conflicts = zones.hosts_conflicts(&routes);
    // A line that gives a name and its first label by itself names a machine, as every distribution writes it.
    let seen: Vec<_> = conflicts.iter().map(|one| (one.name.to_string(), one.at.line)).collect();
    assert_eq!(seen, [("ads.example.com.".to_owned(), 3), ("www.example.net.".to_owned(), 8)]);
    assert_eq!(local(&zones, "ads.example.com", Rtype::A).answers.len(), 1);
    config.hosts.on_conflict = OnConflict::Ignore;
    let zones = load(&config);
    let ask = |text: &str| zones.answer(ALL, &name(text), Rtype::A, false, &routes);
    assert_eq!(ask("ads.example.com"), Outcome::NotOurs);
    assert!(matches!(ask("pc.corp.example"), Outcome::Local(_)));
}

#[test]
fn a_name_with_a_hosts_line_exists_also_when_its_other_types_are_withheld() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    config.hosts.files = vec![write(&dir, "hosts", "10.0.0.9 printer.home.arpa\n")];
    let zones = load(&config);
    assert_eq!(local(&zones, "printer.home.arpa", Rtype::A).answers.len(), 1);
    for qtype in [Rtype::AAAA, Rtype::HTTPS] {
        let other = local(&zones, "printer.home.arpa", qtype);
        assert_eq!((other.rcode, other.answers.len(), other.authority.len()), (Rcode::NOERROR, 0, 1));
    }
    for (qname, exists) in [("printer.home.arpa", true), ("9.0.0.10.in-addr.arpa", true), ("other.home.arpa", false)] {
        assert_eq!(outcome(&zones, qname, Rtype::TXT), Outcome::PrivateSystemOnly);
        let expected = if exists { Rcode::NOERROR } else { Rcode::NXDOMAIN };
        assert_eq!(zones.withheld(&name(qname)).rcode, expected, "{qname}");
    }
}

#[test]
fn a_zone_as_a_whole_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let text = "a CNAME b\na A 192.0.2.1\nb A 192.0.2.1\nb 9 A 192.0.2.2\nb A 192.0.2.1\nc CNAME a\nc CNAME b\nd SOA a b 1 2 3 4 5\n";
    let mut config = config();
    config.zones = vec![zone("lab.example", &[])];
    config.zones[0].file = Some(write(&dir, "bad.zone", text));
    let (zones, problems) = Zones::load(&config, 7);
    let seen: Vec<_> = problems.iter().map(|p| (p.code, p.at.line, p.is_error())).collect();
    assert_eq!(
        seen,
        [
            ("cname-and-other-data", 1, true),
            ("ttl-mismatch", 4, false),
            ("duplicate-record", 5, false),
            ("several-aliases", 7, true),
            ("soa-not-at-apex", 8, true),
        ]
    );
    assert_eq!(lines(&local(&zones, "b.lab.example", Rtype::A).answers).len(), 2);
    assert!(local(&zones, "b.lab.example", Rtype::A).answers.iter().all(|record| record.ttl == 9));
}

#[test]
fn an_rrset_that_fits_no_answer_is_reported_and_cut() {
    let dir = tempfile::tempdir().unwrap();
    let text: String = (0..4100).map(|n| format!("many A 10.0.{}.{}\n", n / 256, n % 256)).collect();
    let mut config = config();
    config.zones = vec![Zone { file: Some(write(&dir, "zone", &text)), ..zone("lab.example", &[]) }];
    let (zones, problems) = Zones::load(&config, 0);
    let seen: Vec<_> = problems.iter().map(|problem| (problem.code, problem.at.line)).collect();
    assert_eq!(seen, [("rrset-too-large", 4096)]);
    assert_eq!(local(&zones, "many.lab.example", Rtype::A).answers.len(), 4095);
}

#[test]
fn bad_inline_records_and_rewrites_are_listed() {
    let mut config = config();
    config.zones = vec![zone(
        "lab.example",
        &[("a", "A", "nonsense"), ("x.other.", "A", "192.0.2.1"), ("a..b", "A", "192.0.2.1")],
    )];
    config.rewrites = vec![rewrite("example.org", Scope::Only, "A", "fe80::1")];
    let (_, problems) = Zones::load(&config, 7);
    let codes: Vec<_> = problems.iter().map(|p| (p.code, p.key.as_str())).collect();
    assert_eq!(
        codes,
        [
            ("record-data", "rewrite[0].answer.value"),
            ("record-data", "zone[0].records[0].value"),
            ("out-of-zone", "zone[0].records[0].name"),
            ("zone-record", "zone[0].records[0].name"),
        ]
    );
}

#[test]
fn fingerprints_change_with_what_decides_the_name_and_only_then() {
    let dir = tempfile::tempdir().unwrap();
    let build = |hosts: &str, address: &str| {
        let mut config = config();
        config.hosts.files = vec![write(&dir, "hosts", hosts)];
        let mut lab = zone("lab.example", &[("a", "A", address)]);
        lab.file = Some(dir.path().join("lab.zone"));
        lab.reverse = true;
        config.zones = vec![lab, zone("other.example", &[("a", "A", "192.0.2.9")])];
        load(&config)
    };
    write(&dir, "lab.zone", "z A 192.0.2.77\n");
    let (one, same) = (build("192.0.2.1 h\n", "10.0.0.1"), build("192.0.2.1 h\n", "10.0.0.1"));
    let (hosts, zone) = (build("192.0.2.2 h\n", "10.0.0.1"), build("192.0.2.1 h\n", "10.0.0.2"));
    let print = |zones: &Zones, text: &str| zones.fingerprint(ALL, &name(text));
    for text in ["h", "a.lab.example", "new.lab.example", "a.other.example", "1.0.0.10.in-addr.arpa"] {
        assert_ne!(print(&one, text), 0, "{text}");
        assert_eq!(print(&one, text), print(&same, text), "{text}");
    }
    assert_eq!(print(&one, "www.example.com"), 0);
    assert_ne!(print(&one, "h"), print(&hosts, "h"));
    assert_eq!(print(&one, "a.lab.example"), print(&hosts, "a.lab.example"));
    assert_ne!(print(&one, "A.lab.example"), print(&zone, "a.lab.example"));
    assert_eq!(print(&one, "a.other.example"), print(&zone, "a.other.example"));
    assert_eq!(print(&zone, "1.0.0.10.in-addr.arpa"), 0);
    assert_eq!(print(&one, "A.LAB.example"), print(&one, "a.lab.example"));
}

#[test]
fn a_hundred_thousand_records_load_and_every_one_answers() {
    use std::fmt::Write as _;
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for number in 0..100_000_u32 {
        let [_, b, c, d] = number.to_be_bytes();
        writeln!(text, "host-{number} IN A 10.{b}.{c}.{d}").unwrap();
    }
    let mut config = config();
    config.zones = vec![zone("lab.example", &[])];
    config.zones[0].file = Some(write(&dir, "big.zone", &text));
    config.zones[0].reverse = true;
    let zones = load(&config);
    assert_eq!(zones.apexes().next().unwrap().records, 100_000);
    for number in (0..100_000_u32).step_by(997) {
        let [_, b, c, d] = number.to_be_bytes();
        let owner = format!("host-{number}.lab.example.");
        let answer = local(&zones, &owner, Rtype::A);
        assert_eq!(lines(&answer.answers), [format!("{owner} 60 IN A 10.{b}.{c}.{d}")]);
        assert!(answer.source.contains(&format!("big.zone:{} ", number + 1)));
        let reverse = local(&zones, &format!("{d}.{c}.{b}.10.in-addr.arpa"), Rtype::PTR);
        assert!(lines(&reverse.answers)[0].ends_with(&owner));
    }
    assert_eq!(local(&zones, "host-100000.lab.example", Rtype::A).rcode, Rcode::NXDOMAIN);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_owned_by_the_qname_and_negative_ones_have_an_soa(
        labels in proptest::collection::vec("[a-d*x_]|wild|old|sub|alias|private|new|loop1|one", 0..5),
        qtype in prop_oneof![Just(1_u16), Just(28), Just(5), Just(65), Just(255), Just(43), any::<u16>()],
        overlay in any::<bool>(),
    ) {
        let mut text = labels.join(".");
        text.push_str(if labels.is_empty() { "lab.example." } else { ".lab.example." });
        let qname = name(&text);
        let zones = if overlay { &*LAB_OVERLAY } else { &*LAB };
        if let Outcome::Local(answer) = zones.answer(ALL, &qname, Rtype(qtype), true, &Routes::default()) {
            if let Some(first) = answer.answers.first() {
                prop_assert!(first.owner == qname || first.rtype == Rtype::DNAME);
                for pair in answer.answers.windows(2) {
                    prop_assert!(
                        pair[0].rtype != Rtype::CNAME || pair[0].target() == Some(pair[1].owner.clone())
                            || pair[1].rtype == Rtype::DNAME
                    );
                }
            } else {
                prop_assert!(answer.rcode == Rcode::SERVFAIL || answer.authority.len() == 1);
            }
        }
    }
}

static LAB: std::sync::LazyLock<Zones> = std::sync::LazyLock::new(lab);
static LAB_OVERLAY: std::sync::LazyLock<Zones> = std::sync::LazyLock::new(|| lab_with(true));

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn lines(records: &[Record]) -> Vec<String> {
    records.iter().map(record_line).collect()
}

fn outcome(zones: &Zones, qname: &str, qtype: Rtype) -> Outcome {
    zones.answer(ALL, &name(qname), qtype, false, &Routes::default())
}

fn local(zones: &Zones, qname: &str, qtype: Rtype) -> LocalAnswer {
    match outcome(zones, qname, qtype) {
        Outcome::Local(answer) => answer,
        other @ (Outcome::NotOurs | Outcome::PrivateSystemOnly) => panic!("{qname} {qtype}: {other:?}"),
    }
}

fn load(config: &Config) -> Zones {
    let (zones, problems) = Zones::load(config, 1_700_000_000);
    assert_eq!(problems, []);
    zones
}

fn lab() -> Zones {
    lab_with(false)
}

fn lab_with(overlay: bool) -> Zones {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    config.zones = vec![zone("lab.example", &[])];
    config.zones[0].file = Some(write(&dir, "lab.zone", ZONE));
    config.zones[0].fallthrough = overlay;
    load(&config)
}

fn inline(records: &[(&str, &str, &str)]) -> Zones {
    let mut config = config();
    config.zones = vec![zone("lab.example", records)];
    load(&config)
}

fn write(dir: &tempfile::TempDir, file: &str, text: &str) -> std::path::PathBuf {
    let path = dir.path().join(file);
    std::fs::write(&path, text).unwrap();
    path
}

fn at() -> Location {
    Location { file: Path::new("truename.toml").into(), line: 3, column: 5 }
}

fn zone(apex: &str, records: &[(&str, &str, &str)]) -> Zone {
    let record = |(name, rtype, value): &(&str, &str, &str)| InlineRecord {
        name: (*name).to_owned(),
        rtype: rtype.parse().unwrap(),
        value: (*value).to_owned(),
        ttl: None,
        at: at(),
        value_at: at(),
        key: "zone[0].records[0]".to_owned(),
    };
    Zone {
        apex: name(apex),
        ttl: Duration::from_secs(60),
        records: records.iter().map(record).collect(),
        file: None,
        reverse: false,
        fallthrough: false,
        views: None,
        at: at(),
        file_at: at(),
        key: "zone[0]".to_owned(),
    }
}

fn rewrite(pattern: &str, scope: Scope, rtype: &str, value: &str) -> Rewrite {
    Rewrite {
        patterns: vec![Pattern { name: name(pattern), scope, at: at() }],
        rtype: rtype.parse().unwrap(),
        value: value.to_owned(),
        ttl: Duration::from_secs(60),
        views: None,
        at: at(),
        value_at: at(),
        key: "rewrite[0]".to_owned(),
    }
}

fn config() -> Config {
    Config {
        server: Server {
            listen: Vec::new(),
            udp_payload_bytes: 1232,
            workers: 1,
            max_in_flight: 1,
            tcp_idle_timeout: Duration::from_secs(10),
            edns_errors: true,
            allow: Vec::new(),
        },
        groups: Vec::new(),
        default: DefaultRoute {
            upstream: GroupId(0),
            private_answers: PrivateAnswers::Auto,
            guard: crate::config::GuardMode::Off,
        },
        routes: Vec::new(),
        time_servers: Vec::new(),
        built_in: Vec::new(),
        requirements: Vec::new(),
        zones: Vec::new(),
        hosts: crate::config::Hosts {
            files: Vec::new(),
            places: Vec::new(),
            watch: false,
            on_conflict: OnConflict::Warn,
        },
        rewrites: Vec::new(),
        cache: Cache::NONE,
        guard: crate::config::Guard::NONE,
        views: Vec::new(),
        stats: crate::config::Stats::default(),
        log: Log::default(),
    }
}
