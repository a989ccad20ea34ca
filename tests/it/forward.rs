//! What goes to upstreams, and what comes back of it (docs/promises.md 4, 5, 7).

use crate::support::client::{ask, ask_type, connect, exchange, query, read_frame, write_frame};
use crate::support::daemon::{Daemon, forward_to};
use crate::support::fake::{Fake, Habit};
use std::net::Ipv4Addr;
use std::time::Duration;
use truename::dns::wire::{Section, flag};
use truename::dns::{Rcode, Rtype};

const TRUE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

#[test]
fn an_answer_is_forwarded_once_and_then_cached_with_its_ttl_counting_down() {
    let fake = Fake::start(Habit::Address(TRUE_ADDRESS, 60));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    let first = ask(daemon.address, "www.example.org");
    assert_eq!((first.addresses(), first.answers()[0].ttl), (vec!["192.0.2.1".to_owned()], 60));
    crate::support::eventually("the TTL counts down", || ask(daemon.address, "www.example.org").answers()[0].ttl < 60);
    assert_eq!(fake.count("www.example.org"), 1);
}

#[test]
fn ttl_zero_is_not_stored() {
    let fake = Fake::start(Habit::Address(TRUE_ADDRESS, 0));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    ask(daemon.address, "zero.example.org");
    ask(daemon.address, "zero.example.org");
    assert_eq!(fake.count("zero.example.org"), 2);
}

#[test]
fn a_negative_answer_is_kept_with_its_soa() {
    let fake = Fake::start(Habit::NxDomain(30));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    for _ in 0..3 {
        let response = ask(daemon.address, "none.example.org");
        assert_eq!(response.rcode(), Rcode::NXDOMAIN);
        assert_eq!(response.records(Section::Authority)[0].rtype, Rtype::SOA);
    }
    assert_eq!(fake.count("none.example.org"), 1);
}

#[test]
fn a_hundred_equal_questions_at_once_cost_one_upstream_query() {
    let fake = Fake::start(Habit::Slow(Duration::from_millis(300), Box::new(Habit::Address(TRUE_ADDRESS, 60))));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    // Nothing is sent twice to a server that is known to take its time.
    assert_eq!(ask(daemon.address, "first.example.org").addresses(), ["192.0.2.1"]);
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..100).map(|_| scope.spawn(|| ask(daemon.address, "same.example.org"))).collect();
        for one in asked {
            assert_eq!(one.join().unwrap().addresses(), ["192.0.2.1"]);
        }
    });
    assert_eq!(fake.count("same.example.org"), 1);
}

#[test]
fn a_truncated_answer_is_fetched_over_tcp() {
    let fake = Fake::start(Habit::Truncating(60));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    let mut stream = connect(daemon.address);
    write_frame(&mut stream, &query("big.example.org", Rtype::A, 5));
    assert_eq!(read_frame(&mut stream).unwrap().answers().len(), 60);
    assert!(fake.asked().iter().any(|asked| asked.tcp));
}

#[test]
fn an_answer_larger_than_the_payload_size_is_cut_with_tc() {
    let fake = Fake::start(Habit::Truncating(200));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    let response = ask(daemon.address, "big.example.org");
    assert!(response.has(flag::TC) && response.0.len() <= 1232);
}

#[test]
fn an_alias_loop_ends_in_an_answer() {
    let fake = Fake::start(Habit::AliasLoop);
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    assert!(ask(daemon.address, "loop.example.org").addresses().is_empty());
}

#[test]
fn absence_behind_a_long_chain_comes_with_the_whole_chain() {
    let fake = Fake::start(Habit::AliasChain(13));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    let response = ask(daemon.address, "h0.chain.example");
    assert_eq!((response.rcode(), response.answers().len()), (Rcode::NOERROR, 13));
    assert_eq!(response.answers()[12].target(), Some("h13.chain.example".parse().unwrap()));
    assert_eq!(response.records(Section::Authority)[0].rtype, Rtype::SOA);
}

#[test]
fn a_public_alias_into_a_local_zone_gets_the_local_address() {
    let fake = Fake::start(Habit::Alias("db.lab.example", Ipv4Addr::new(203, 0, 113, 9)));
    let zone = "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"db\", type = \"A\", value = \"10.1.0.5\" }]\n";
    let daemon = Daemon::start(&format!("{}{zone}", forward_to(&[fake.address])));
    let response = ask(daemon.address, "www.example.org");
    assert_eq!(response.addresses(), ["10.1.0.5"]);
    assert_eq!(response.answers().len(), 2);
}

#[test]
fn client_subnets_are_stripped() {
    let fake = Fake::address([192, 0, 2, 1]);
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    let subnet = [0, 8, 0, 7, 0, 1, 24, 0, 198, 51, 100];
    let mut message = query("ecs.example.org", Rtype::A, 11);
    let len_at = message.len() - 2;
    message[len_at..].copy_from_slice(&u16::try_from(subnet.len()).unwrap().to_be_bytes());
    message.extend_from_slice(&subnet);
    assert_eq!(exchange(daemon.address, &message).unwrap().addresses(), ["192.0.2.1"]);
    let asked = &fake.asked()[0];
    assert!(!asked.bytes.windows(3).any(|octets| octets == [198, 51, 100]), "{:?}", asked.bytes);
}

#[test]
fn upstream_queries_differ_in_port_and_id() {
    let fake = Fake::address([192, 0, 2, 1]);
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    for n in 0..8 {
        ask(daemon.address, &format!("n{n}.example.org"));
        // A port is used again only within a quarter of a second of having been drawn.
        std::thread::sleep(Duration::from_millis(260));
    }
    let asked = fake.asked();
    let ports: std::collections::HashSet<_> = asked.iter().map(|asked| asked.from.port()).collect();
    let ids: std::collections::HashSet<_> = asked.iter().map(|asked| asked.bytes[..2].to_vec()).collect();
    assert!(ports.len() >= 7 && ids.len() >= 7, "{} ports, {} ids", ports.len(), ids.len());
}

#[test]
fn special_names_never_reach_an_upstream_they_are_not_for() {
    let fake = Fake::address([192, 0, 2, 1]);
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    for name in ["localhost", "a.localhost", "x.invalid", "x.onion", "printer.local", "use-application-dns.net"] {
        ask(daemon.address, name);
        assert_eq!(fake.count(name), 0, "{name} leaked");
    }
    assert_eq!(ask(daemon.address, "localhost").addresses(), ["127.0.0.1"]);
    assert_eq!(ask(daemon.address, "x.invalid").rcode(), Rcode::NXDOMAIN);
    ask_type(daemon.address, "1.0.0.127.in-addr.arpa", Rtype::PTR);
    assert_eq!(fake.count("1.0.0.127.in-addr.arpa"), 0);
}

#[test]
fn a_private_route_never_leaks_when_its_upstream_is_dead() {
    let public = Fake::address([192, 0, 2, 1]);
    let corp = Fake::start(Habit::Silent);
    let route = format!(
        "[upstream.corp]\nservers = [\"{}\"]\ntimeout = \"500ms\"\n[[route]]\nname = \"corp\"\nnames = [\"corp.example\"]\n\
         upstream = \"corp\"\nprivate = true\n",
        corp.address
    );
    let daemon = Daemon::start(&format!("{}{route}", forward_to(&[public.address])));
    assert_eq!(ask(daemon.address, "git.corp.example").rcode(), Rcode::SERVFAIL);
    assert_eq!(public.count("git.corp.example"), 0);
    assert!(corp.count("git.corp.example") > 0);
}
