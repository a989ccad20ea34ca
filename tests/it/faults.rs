//! Whatever upstreams and clients do, there is an answer in time, and never a wrong one (docs/promises.md 1, 3, 5).

use crate::support::client::{ask, connect, exchange, exchange_from, query, read_frame, write_frame};
use crate::support::daemon::{Daemon, forward_to};
use crate::support::fake::{Fake, Habit};
use crate::support::timed;
use std::net::Ipv4Addr;
use std::time::Duration;
use truename::dns::{Rcode, Rtype};

const TRUE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Every question is answered within it, whatever the upstreams do.
const ALWAYS_WITHIN: Duration = Duration::from_millis(4800);

#[test]
fn every_question_is_answered_when_all_upstreams_are_silent() {
    let fakes = [Fake::start(Habit::Silent), Fake::start(Habit::Silent)];
    let daemon = Daemon::start(&forward_to(&[fakes[0].address, fakes[1].address]));
    let (response, took) = timed(|| ask(daemon.address, "www.example.org"));
    assert_eq!(response.rcode(), Rcode::SERVFAIL);
    assert!(matches!(response.ede(), Some(22 | 23)), "{:?}", response.ede());
    assert!(took < ALWAYS_WITHIN, "{took:?}");
}

#[test]
fn the_second_upstream_answers_when_the_first_is_silent() {
    let (dead, healthy) = (Fake::start(Habit::Silent), Fake::address([192, 0, 2, 1]));
    let daemon = Daemon::start(&forward_to(&[dead.address, healthy.address]));
    let (response, took) = timed(|| ask(daemon.address, "www.example.org"));
    assert_eq!(response.addresses(), ["192.0.2.1"]);
    assert!(took < Duration::from_millis(800), "{took:?}");
}

#[test]
fn a_failure_of_one_upstream_is_hidden_by_the_next() {
    let bad = [
        Habit::Code(Rcode::SERVFAIL),
        Habit::Code(Rcode::REFUSED),
        Habit::Code(Rcode::NOTIMP),
        Habit::EmptyWithoutSoa,
        Habit::Records(vec![]),
    ];
    for habit in bad {
        let (first, second) = (Fake::start(habit.clone()), Fake::address([192, 0, 2, 1]));
        let daemon = Daemon::start(&forward_to(&[first.address, second.address]));
        assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.1"], "{habit:?}");
    }
}

#[test]
fn a_closed_port_is_passed_over_at_once() {
    let closed = Fake::start(Habit::Silent).address;
    let healthy = Fake::address([192, 0, 2, 1]);
    let daemon = Daemon::start(&forward_to(&[closed, healthy.address]));
    let (response, took) = timed(|| ask(daemon.address, "www.example.org"));
    assert_eq!(response.addresses(), ["192.0.2.1"]);
    assert!(took < Duration::from_millis(800), "{took:?}");
}

#[test]
fn a_single_upstream_may_take_a_second_and_a_half() {
    let fake = Fake::start(Habit::Slow(Duration::from_millis(1500), Box::new(Habit::Address(TRUE_ADDRESS, 60))));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.1"]);
}

#[test]
fn a_silent_group_leaves_time_for_the_default_group() {
    let (silent, fake) = (Fake::start(Habit::Silent), Fake::start(Habit::Address(TRUE_ADDRESS, 60)));
    let config = format!(
        "{}\n[upstream.far]\nservers = [\"{}\"]\n[[route]]\nnames = [\"far.example.org\"]\nupstream = \"far\"\nprivate = false\n",
        forward_to(&[fake.address]),
        silent.address
    );
    let daemon = Daemon::start(&config);
    assert_eq!(ask(daemon.address, "www.far.example.org").addresses(), ["192.0.2.1"]);
    assert!(silent.count("www.far.example.org") > 0);
}

#[test]
fn garbage_and_forgeries_before_the_true_answer_are_ignored() {
    let fake =
        Fake::start(Habit::GarbageFirst(TRUE_ADDRESS)).with("f.example.org", Habit::FloodFirst(20_000, TRUE_ADDRESS));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    assert_eq!(ask(daemon.address, "g.example.org").addresses(), ["192.0.2.1"]);
    assert_eq!(ask(daemon.address, "f.example.org").addresses(), ["192.0.2.1"]);
}

#[test]
fn servers_without_edns_and_without_letter_case_are_understood() {
    let fake = Fake::start(Habit::NoEdns(TRUE_ADDRESS)).with("Case.Example.org", Habit::LowerCases(TRUE_ADDRESS));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    assert_eq!(ask(daemon.address, "plain.example.org").addresses(), ["192.0.2.1"]);
    assert_eq!(ask(daemon.address, "Case.Example.org").addresses(), ["192.0.2.1"]);
}

#[test]
fn loopback_addresses_from_an_upstream_are_no_answer() {
    let fake = Fake::address([127, 0, 0, 1]);
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    let response = ask(daemon.address, "rebind.example.org");
    assert_eq!((response.rcode(), response.ede()), (Rcode::SERVFAIL, Some(17)));
}

#[test]
fn a_daemon_that_forwards_to_itself_still_answers() {
    let daemon = Daemon::start("");
    daemon.reload(&forward_to(&[daemon.address]));
    crate::support::eventually("it forwards to itself", || !daemon.events("reloaded").is_empty());
    let before = daemon.cpu();
    let (response, took) = timed(|| ask(daemon.address, "loop.example.org"));
    let spent = daemon.cpu() - before;
    assert_eq!(response.rcode(), Rcode::SERVFAIL);
    assert!(took < ALWAYS_WITHIN);
    // A tenth of a second is promised; this may be a build without optimization.
    assert!(spent < Duration::from_millis(500), "{spent:?} of CPU for one question");
    assert_eq!(ask(daemon.address, "localhost").addresses(), ["127.0.0.1"]);
}

#[test]
fn malformed_questions_get_the_answer_the_protocol_says() {
    let fake = Fake::address([192, 0, 2, 1]);
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    let base = query("www.example.org", Rtype::A, 0x4242);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut message = base.clone();
        change(&mut message);
        message
    };
    let silence = [changed(&|m| m[2] |= 0x80), base[..11].to_vec(), Vec::new()];
    for message in silence {
        let reply = exchange_from(Ipv4Addr::LOCALHOST.into(), daemon.address, &message, Duration::from_millis(200));
        assert!(reply.is_none(), "{message:?}");
    }
    let cases: [(Rcode, Vec<u8>); 5] = [
        (Rcode::NOTIMP, changed(&|m| m[2] |= 2 << 3)),
        (Rcode::FORMERR, changed(&|m| m[5] = 2)),
        (
            Rcode::BADVERS,
            changed(&|m| {
                let at = m.len() - 5;
                m[at] = 1;
            }),
        ),
        (Rcode::REFUSED, query("www.example.org", Rtype::AXFR, 0x4242)),
        (
            Rcode::REFUSED,
            changed(&|m| {
                let at = 12 + 17 + 3;
                m[at] = 3;
            }),
        ),
    ];
    for (rcode, message) in cases {
        let reply = exchange(daemon.address, &message).unwrap_or_else(|| panic!("{rcode}: no answer"));
        let got = u16::from(reply.0[3] & 0x0f);
        let got = if reply.0[5] == 1 { reply.rcode().0 } else { got };
        assert_eq!(got, rcode.0, "{message:?}");
    }
    assert!(fake.asked().is_empty());
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.1"]);
}

#[test]
fn the_version_is_told_in_class_ch_and_nothing_else() {
    let daemon = Daemon::start("");
    let chaos = |name: &str| {
        let mut message = query(name, Rtype::TXT, 5);
        // The class stands behind the name and the type: the name has an octet more at each end than its text.
        message[12 + name.len() + 2 + 3] = 3;
        exchange(daemon.address, &message).unwrap()
    };
    let told = chaos("version.bind");
    assert_eq!(told.answers().len(), 1);
    let text = String::from_utf8_lossy(&told.answers()[0].rdata).into_owned();
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text:?}");
    for name in ["id.server", "hostname.bind", "authors.bind"] {
        assert_eq!(chaos(name).rcode(), Rcode::REFUSED, "{name}");
    }
}

#[test]
fn a_full_daemon_answers_servfail_and_says_so_once() {
    let fake = Fake::start(Habit::Silent);
    let daemon = Daemon::start(&format!("[server]\nmax_in_flight = 1\n{}", forward_to(&[fake.address])));
    let mut stream = connect(daemon.address);
    for id in 0..50 {
        write_frame(&mut stream, &query(&format!("n{id}.example.org"), Rtype::A, id));
    }
    for _ in 0..49 {
        let response = read_frame(&mut stream).unwrap();
        assert_eq!((response.rcode(), response.ede()), (Rcode::SERVFAIL, Some(14)));
    }
    let lines = || daemon.events("a bound was reached").len();
    crate::support::eventually("the log says so", || lines() > 0);
    assert_eq!(lines(), 1, "{}", daemon.log());
}

#[test]
fn any_is_answered_small() {
    let fake = Fake::address([192, 0, 2, 1]);
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    let response = exchange(daemon.address, &query("www.example.org", Rtype::ANY, 1)).unwrap();
    assert_eq!(response.rcode(), Rcode::NOERROR);
    assert!(response.0.len() < 200 && response.answers().len() <= 1);
}

#[test]
fn a_slow_question_does_not_hold_up_the_next_on_its_connection() {
    let slow = Habit::Slow(Duration::from_millis(600), Box::new(Habit::Address(TRUE_ADDRESS, 60)));
    let fake = Fake::address([192, 0, 2, 2]).with("slow.example.org", slow);
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    let mut stream = connect(daemon.address);
    write_frame(&mut stream, &query("slow.example.org", Rtype::A, 1));
    write_frame(&mut stream, &query("fast.example.org", Rtype::A, 2));
    let ids: Vec<u16> = (0..2).map(|_| read_frame(&mut stream).unwrap().view().id()).collect();
    assert_eq!(ids, [2, 1]);
}

#[test]
fn the_clients_letter_case_comes_back() {
    let fake = Fake::address([192, 0, 2, 1]);
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    for spelled in ["wWw.eXample.org", "WWW.example.ORG"] {
        let response = ask(daemon.address, spelled);
        assert_eq!(response.view().qname(), truename::dns::Name::parse(spelled).unwrap().as_wire());
    }
    assert_eq!(fake.count("www.example.org"), 1);
}
