//! What never leaves, and what is never believed (docs/promises.md 5 and 6).

use crate::support::client::{ask, ask_type, exchange, query};
use crate::support::daemon::{Daemon, forward_to};
use crate::support::fake::{Fake, answer_with, qname_of};
use crate::support::fake::{Habit, a};
use truename::dns::Rtype;
use truename::dns::wire::flag;

#[test]
fn nothing_of_ours_reaches_an_upstream() {
    let fake = Fake::address([192, 0, 2, 1]);
    let zone =
        "[[zone]]\nname = \"corp.example\"\nrecords = [{ name = \"git\", type = \"A\", value = \"10.1.0.5\" }]\n";
    let daemon = Daemon::start(&format!("{}{zone}", forward_to(&[fake.address])));
    let names = [
        // A local zone: names it has, names it has not.
        "git.corp.example",
        "absent.corp.example",
        "corp.example",
        // RFC 6761.
        "localhost",
        "www.localhost",
        "a.invalid",
        "a.test",
        // RFC 6762, 7686, 8375, 9462, the ICANN resolution on `internal.`, Mozilla's canary.
        "printer.local",
        "a.onion",
        "nas.home.arpa",
        "_dns.resolver.arpa",
        "a.internal",
        "use-application-dns.net",
        // Names of one label are never public hosts.
        "printer",
    ];
    let reverse = [
        "1.0.0.10.in-addr.arpa",
        "1.16.172.in-addr.arpa",
        "5.1.168.192.in-addr.arpa",
        "1.254.169.in-addr.arpa",
        "1.0.0.127.in-addr.arpa",
        "255.255.255.255.in-addr.arpa",
        "1.2.0.192.in-addr.arpa",
        "a.d.f.ip6.arpa",
        "8.e.f.ip6.arpa",
        "8.b.d.0.1.0.0.2.ip6.arpa",
        "64.100.in-addr.arpa",
    ];
    for name in names {
        for rtype in [Rtype::A, Rtype::AAAA, Rtype::HTTPS] {
            ask_type(daemon.address, name, rtype);
        }
    }
    for name in reverse {
        ask_type(daemon.address, name, Rtype::PTR);
    }
    let leaked: Vec<String> = fake.asked().iter().map(|asked| asked.qname.to_string()).collect();
    assert_eq!(leaked, Vec::<String>::new());
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.1"], "the upstream is there");
}

#[test]
fn authentic_data_over_plain_udp_is_not_passed_on() {
    let fake = Fake::start(Habit::Custom(|query, _| {
        let mut reply = answer_with(query, &[a(&qname_of(query), [192, 0, 2, 1].into(), 300)]);
        reply[3] |= u8::try_from(flag::AD).unwrap();
        vec![reply]
    }));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    for _ in 0..2 {
        // AD in a question asks for AD in the answer (RFC 6840 section 5.7); once from the upstream, once from the cache.
        let mut message = query("www.example.org", Rtype::A, 5);
        message[3] |= u8::try_from(flag::AD).unwrap();
        let response = exchange(daemon.address, &message).unwrap();
        assert_eq!(response.addresses(), ["192.0.2.1"]);
        assert!(!response.has(flag::AD));
    }
    assert_eq!(fake.count("www.example.org"), 1);
}
