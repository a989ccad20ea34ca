//! Local zones, overlays, views, access.

use crate::support::client::{PATIENCE, Response, ask, ask_type, exchange_from, query};
use crate::support::daemon::{Daemon, forward_to};
use crate::support::fake::Fake;
use std::net::{Ipv4Addr, SocketAddr};
use truename::dns::wire::{Section, flag};
use truename::dns::{Rcode, Rtype};

const LAB: &str = r#"
[[zone]]
name = "lab.example"
ttl = "60s"
reverse = true
records = [
  { name = "@", type = "A", value = "10.1.0.5" },
  { name = "git", type = "CNAME", value = "lab.example." },
  { name = "*.dev", type = "A", value = "10.1.0.6" },
]
"#;

#[test]
fn a_zone_answers_with_authority_and_asks_nobody() {
    let fake = Fake::address([192, 0, 2, 1]);
    let daemon = Daemon::start(&format!("{}{LAB}", forward_to(&[fake.address])));
    let apex = ask(daemon.address, "lab.example");
    assert_eq!((apex.addresses(), apex.answers()[0].ttl, apex.has(flag::AA)), (vec!["10.1.0.5".to_owned()], 60, true));
    assert_eq!(ask(daemon.address, "git.lab.example").addresses(), ["10.1.0.5"]);
    assert_eq!(ask(daemon.address, "x.y.dev.lab.example").addresses(), ["10.1.0.6"]);
    let missing = ask(daemon.address, "nope.lab.example");
    assert_eq!(missing.rcode(), Rcode::NXDOMAIN);
    assert_eq!(missing.records(Section::Authority)[0].rtype, Rtype::SOA);
    let nodata = ask_type(daemon.address, "lab.example", Rtype::AAAA);
    assert_eq!((nodata.rcode(), nodata.answers().len()), (Rcode::NOERROR, 0));
    let pointer = ask_type(daemon.address, "5.0.1.10.in-addr.arpa", Rtype::PTR);
    assert_eq!(pointer.answers()[0].target(), Some("lab.example".parse().unwrap()));
    assert!(fake.asked().is_empty());
}

#[test]
fn a_zone_file_is_read_with_its_directives_and_unknown_types() {
    let file = "$ORIGIN corp.example.\n$TTL 300\n@ IN SOA ns.corp.example. admin.corp.example. 1 3600 600 86400 30\n@ NS ns\n\
                ns A 10.0.0.1\n$GENERATE 1-3 host$ A 10.0.1.$\nodd TYPE65280 \\# 2 abcd\n";
    let config = "[[zone]]\nname = \"corp.example\"\nfile = \"corp.zone\"\n";
    let daemon = Daemon::start_with(config, &[("corp.zone", file)], &["127.0.0.1:0"]);
    assert_eq!(ask(daemon.address, "host2.corp.example").addresses(), ["10.0.1.2"]);
    let odd = ask_type(daemon.address, "odd.corp.example", Rtype(65280));
    assert_eq!(&*odd.answers()[0].rdata, [0xab, 0xcd]);
    assert_eq!(odd.answers()[0].ttl, 300);
}

#[test]
fn an_overlay_forwards_what_it_does_not_have() {
    let fake = Fake::address([192, 0, 2, 1]);
    let zone = "[[zone]]\nname = \"example.org\"\nfallthrough = true\nrecords = [{ name = \"inner\", type = \"A\", value = \"10.9.9.9\" }]\n";
    let daemon = Daemon::start(&format!("{}{zone}", forward_to(&[fake.address])));
    assert_eq!(ask(daemon.address, "inner.example.org").addresses(), ["10.9.9.9"]);
    assert_eq!(ask(daemon.address, "outer.example.org").addresses(), ["192.0.2.1"]);
    let other_family = ask_type(daemon.address, "inner.example.org", Rtype::AAAA);
    assert_eq!((other_family.rcode(), other_family.answers().len()), (Rcode::NOERROR, 0));
    assert_eq!(fake.count("inner.example.org"), 0);
}

#[test]
fn two_clients_see_two_answers_and_the_cache_keeps_them_apart() {
    let config = r#"
[[view]]
name = "two"
clients = ["127.0.0.2/32"]
[[view]]
name = "three"
clients = ["127.0.0.3/32"]
[[zone]]
name = "split.example"
views = ["two"]
records = [{ name = "@", type = "A", value = "10.0.0.2" }]
[[zone]]
name = "split.example"
views = ["three"]
records = [{ name = "@", type = "A", value = "10.0.0.3" }]
"#;
    let daemon = Daemon::start(config);
    for _ in 0..2 {
        assert_eq!(ask_from(2, daemon.address, "split.example").addresses(), ["10.0.0.2"]);
        assert_eq!(ask_from(3, daemon.address, "split.example").addresses(), ["10.0.0.3"]);
    }
}

#[test]
fn strangers_are_refused() {
    let daemon = Daemon::start(&format!("[server.access]\nallow = [\"127.0.0.1/32\"]\n{LAB}"));
    assert_eq!(ask(daemon.address, "lab.example").rcode(), Rcode::NOERROR);
    let refused = ask_from(2, daemon.address, "lab.example");
    assert_eq!((refused.rcode(), refused.ede()), (Rcode::REFUSED, Some(18)));
}

#[test]
fn hosts_lines_are_answered_both_ways() {
    let hosts = "10.7.0.1 box.example box # a comment\n";
    let config = "[hosts]\nfiles = [\"hosts\"]\n";
    let daemon = Daemon::start_with(config, &[("hosts", hosts)], &["127.0.0.1:0"]);
    assert_eq!(ask(daemon.address, "box.example").addresses(), ["10.7.0.1"]);
    let pointer = ask_type(daemon.address, "1.0.7.10.in-addr.arpa", Rtype::PTR);
    assert_eq!(pointer.answers()[0].target(), Some("box.example".parse().unwrap()));
}

fn ask_from(last: u8, server: SocketAddr, name: &str) -> Response {
    let from = Ipv4Addr::new(127, 0, 0, last).into();
    exchange_from(from, server, &query(name, Rtype::A, 0x77), PATIENCE).expect("every question is answered")
}
