//! One test for each class of holes that lies in what is believed of replies, named after the class
//! (docs/promises.md, the second table).

use crate::support::client::{PATIENCE, Response, ask, ask_type, exchange, exchange_from, query};
use crate::support::daemon::{Daemon, forward_to};
use crate::support::eventually;
use crate::support::fake::{Fake, Habit, a, alias, answer_with, qname_of};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;
use truename::dns::encode::{self, MessageBuilder};
use truename::dns::wire::{Message, Section, flag};
use truename::dns::{Name, QuestionKey, Rcode, Record, Rtype};

const TRUE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// What a forger wants to be believed.
const FORGED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);

fn truth(query: &[u8]) -> Vec<u8> {
    answer_with(query, &[a(&qname_of(query), TRUE_ADDRESS, 300)])
}

fn forgery(query: &[u8]) -> Vec<u8> {
    answer_with(query, &[a(&qname_of(query), FORGED, 300)])
}

/// Forgeries, each right in everything but one thing that the forger had to guess.
fn wrong_in_one_thing(query: &[u8]) -> Vec<Vec<u8>> {
    let forged = forgery(query);
    let end = 12 + qname_of(query).as_wire().len();
    let changed = |at: usize, to: u8| {
        let mut message = forged.clone();
        assert_ne!(message[at], to, "nothing is changed");
        message[at] = to;
        message
    };
    let mut other_case = forged.clone();
    for octet in other_case[12..end].iter_mut().filter(|octet| octet.is_ascii_alphabetic()) {
        *octet ^= 0x20;
    }
    vec![
        changed(0, forged[0] ^ 0x01),
        changed(1, forged[1] ^ 0x80),
        changed(2, forged[2] & 0x7f),
        changed(2, forged[2] | 0x10),
        changed(5, 0),
        changed(5, 2),
        changed(13, b'z'),
        changed(end + 1, 28),
        changed(end + 3, 3),
        forged[..end].to_vec(),
        other_case,
    ]
}

#[test]
fn weak_matching_of_upstream_replies() {
    let habit = Habit::Custom(|query, tcp| {
        let mut replies = if tcp { Vec::new() } else { wrong_in_one_thing(query) };
        replies.push(truth(query));
        replies
    });
    let slow = Habit::Slow(Duration::from_millis(300), Box::new(habit));
    let fake = Fake::start(slow).with("first.example.org", Habit::Address(TRUE_ADDRESS, 300));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    // The server is known to keep the letter case, so that a reply in another case is suspicious.
    assert_eq!(ask(daemon.address, "first.example.org").addresses(), ["192.0.2.1"]);
    // Right in everything, but from another port and from another address.
    let strangers = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 9)].map(|ip| UdpSocket::bind((ip, 0)).unwrap());
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| ask(daemon.address, "www.example.org"));
        eventually("the question is at the upstream", || fake.count("www.example.org") > 0);
        for asked in fake.asked().iter().filter(|asked| asked.qname != "first.example.org".parse().unwrap()) {
            for stranger in &strangers {
                stranger.send_to(&forgery(&asked.bytes), asked.from).unwrap();
            }
        }
        assert_eq!(answer.join().unwrap().addresses(), ["192.0.2.1"]);
    });
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.1"], "and the truth is what was kept");
}

#[test]
fn port_leak_by_side_channel() {
    let fake = Fake::start(Habit::Silent);
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    let message = query("www.example.org", Rtype::A, 1);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.send_to(&message, daemon.address).unwrap();
    eventually("the question is at the upstream", || !fake.asked().is_empty());
    let open = fake.asked()[0].from;
    let closed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    // Somebody who is not the upstream sees no difference between the port that waits and one that nobody has.
    for port in [open, closed] {
        let prober = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        prober.connect(port).unwrap();
        prober.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        prober.send(b"anybody there?").unwrap();
        assert_eq!(prober.recv(&mut [0; 16]).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{port}");
    }
    // Every query has a port of its own, so what was found out about one is worth nothing for the next.
    eventually("the query is repeated", || fake.asked().len() > 3);
    let ports: std::collections::HashSet<_> = fake.asked().iter().map(|asked| asked.from.port()).collect();
    assert_eq!(ports.len(), fake.asked().len());
    // Ten thousand replies that match nothing change nothing of what is known, and the true one counts all the same.
    fake.becomes(Habit::Address(TRUE_ADDRESS, 300));
    assert_eq!(ask(daemon.address, "kept.example.org").addresses(), ["192.0.2.1"]);
    fake.becomes(Habit::FloodFirst(10_000, TRUE_ADDRESS));
    assert_eq!(ask(daemon.address, "flooded.example.org").addresses(), ["192.0.2.1"]);
    assert_eq!(ask(daemon.address, "kept.example.org").addresses(), ["192.0.2.1"]);
    assert_eq!(fake.count("kept.example.org"), 1, "it is the one that was kept");
}

#[test]
fn birthday_by_many_equal_queries_or_by_ecs() {
    let fake = Fake::start(Habit::Slow(Duration::from_millis(300), Box::new(Habit::Address(TRUE_ADDRESS, 60))));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    ask(daemon.address, "first.example.org");
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..60)
            .map(|n| {
                scope.spawn(move || exchange(daemon.address, &with_subnet("same.example.org", [198, 51, n])).unwrap())
            })
            .collect();
        for one in asked {
            assert_eq!(one.join().unwrap().addresses(), ["192.0.2.1"]);
        }
    });
    assert_eq!(fake.count("same.example.org"), 1, "differing subnets made differing queries");
    let asked = fake.asked();
    // A server that nothing is known of may be asked without EDNS when it is late; that has no options either.
    let edns = asked.iter().filter_map(|asked| Message::parse(&asked.bytes).unwrap().edns().unwrap());
    let options = edns.map(|edns| edns.options().count());
    assert_eq!(options.sum::<usize>(), 0, "options of clients went to the upstream");
}

/// Makes a query with a client subnet (RFC 7871).
fn with_subnet(name: &str, prefix: [u8; 3]) -> Vec<u8> {
    let mut message = query(name, Rtype::A, u16::from(prefix[2]));
    let len_at = message.len() - 2;
    let option = [&[0, 8, 0, 7, 0, 1, 24, 0][..], &prefix].concat();
    message[len_at..].copy_from_slice(&u16::try_from(option.len()).unwrap().to_be_bytes());
    message.extend_from_slice(&option);
    message
}

#[test]
fn fragments() {
    let fake = Fake::start(Habit::Truncating(200));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    let qname = Name::parse("big.example.org").unwrap();
    let question = QuestionKey { qname, qtype: Rtype::A, dnssec_ok: false, checking_disabled: false };
    let response = exchange(daemon.address, &encode::upstream_query(&question, 7, Some(4096))).unwrap();
    assert!(response.has(flag::TC) && response.0.len() <= 1232, "{} octets", response.0.len());
    for asked in fake.asked().iter().filter(|asked| !asked.tcp) {
        // Without EDNS it is 512 octets.
        let edns = Message::parse(&asked.bytes).unwrap().edns().unwrap();
        let offered = edns.map_or(512, |edns| edns.payload_bytes);
        assert!(offered <= 1232, "{offered} octets offered");
    }
    assert!(fake.asked().iter().any(|asked| asked.tcp), "cut replies are fetched over TCP");
}

#[test]
fn early_abort_by_a_broken_reply() {
    let fake = Fake::start(Habit::Custom(|query, _| {
        let good = truth(query);
        let with_counts = |counts: [u8; 6]| [&query[..2], &[0x81, 0x80, 0, 1], &counts[..], &[0xc0; 9]].concat();
        vec![
            Vec::new(),
            vec![0xff; 3],
            query[..2].to_vec(),
            good[..12].to_vec(),
            good[..20].to_vec(),
            with_counts([0xff; 6]),
            with_counts([0, 9, 0, 0, 0, 0]),
            vec![0xc0; 600],
            good,
        ]
    }));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.1"]);
    daemon.assert_no_panic();
}

/// Answers the attacker's name with more than was asked for, and every other name with the truth.
fn poisoning(query: &[u8]) -> Vec<u8> {
    let (qname, victim) = (qname_of(query), Name::parse("victim.example.org").unwrap());
    if qname == "alias.attacker.example".parse().unwrap() {
        return answer_with(query, &[alias(&qname, &victim), a(&victim, FORGED, 86_400)]);
    }
    if qname != "www.attacker.example".parse().unwrap() {
        return truth(query);
    }
    let view = Message::parse(query).unwrap();
    let record = |owner: &str, rtype, rdata: &[u8]| {
        let owner = Name::parse(owner).unwrap();
        Record { owner, rtype, class: 1, ttl: 86_400, rdata: rdata.into() }
    };
    let asked = Name::from_wire(view.qname()).unwrap();
    let mut builder = MessageBuilder::response(&asked, view.qtype(), Rcode::NOERROR);
    builder.push(Section::Answer, &a(&qname, TRUE_ADDRESS, 300));
    builder.push(Section::Answer, &a(&victim, FORGED, 86_400));
    builder.push(Section::Authority, &record("example.org", Rtype::NS, b"\x02ns\x08attacker\x07example\x00"));
    builder.push(Section::Additional, &record("ns.attacker.example", Rtype::A, &FORGED.octets()));
    builder.push(Section::Additional, &a(&victim, FORGED, 86_400));
    let mut message = builder.finish().into_vec();
    message[..2].copy_from_slice(&query[..2]);
    message
}

#[test]
fn extra_records_cached() {
    let fake = Fake::start(Habit::Custom(|query, _| vec![poisoning(query)]));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    let bait = ask(daemon.address, "www.attacker.example");
    assert_eq!((bait.addresses(), bait.records(Section::Authority).len()), (vec!["192.0.2.1".to_owned()], 0));
    assert!(bait.records(Section::Additional).iter().all(|record| record.rtype == Rtype::OPT));
    // An alias is the attacker's to give; what it says about the other name is kept under its own question only.
    ask(daemon.address, "alias.attacker.example");
    for name in ["victim.example.org", "example.org", "ns.attacker.example"] {
        assert_eq!(ask(daemon.address, name).addresses(), ["192.0.2.1"], "{name}");
        assert_eq!(fake.count(name), 1, "{name} was answered from somebody else's reply");
    }
    let servers = ask_type(daemon.address, "example.org", Rtype::NS);
    assert!(servers.answers().iter().all(|record| record.target().is_none()), "a delegation was kept");
}

#[test]
fn ghost_names() {
    // Replies to the accomplice's name carry the ghost with a long TTL; the ghost's own name is gone after a second.
    let fake = Fake::start(Habit::Custom(|query, _| {
        let (qname, ghost) = (qname_of(query), Name::parse("ghost.example.org").unwrap());
        vec![answer_with(query, &[a(&qname, TRUE_ADDRESS, 0), a(&ghost, FORGED, 86_400)])]
    }))
    .with("ghost.example.org", Habit::Address(FORGED, 1));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    assert_eq!(ask(daemon.address, "ghost.example.org").addresses(), ["203.0.113.66"]);
    let fake = fake.with("ghost.example.org", Habit::NxDomain(60));
    eventually("the ghost is gone", || {
        ask(daemon.address, "accomplice.example.org");
        ask(daemon.address, "ghost.example.org").rcode() == Rcode::NXDOMAIN
    });
    assert!(fake.count("accomplice.example.org") > 1, "the accomplice was heard all the time");
}

#[test]
fn rebinding() {
    const PRIVATE: [Ipv4Addr; 14] = [
        Ipv4Addr::new(0, 0, 0, 0),
        Ipv4Addr::new(10, 0, 0, 1),
        Ipv4Addr::new(100, 64, 0, 1),
        Ipv4Addr::new(127, 0, 0, 1),
        Ipv4Addr::new(127, 8, 8, 8),
        Ipv4Addr::new(169, 254, 169, 254),
        Ipv4Addr::new(172, 16, 0, 1),
        Ipv4Addr::new(172, 31, 255, 255),
        Ipv4Addr::new(192, 0, 0, 8),
        Ipv4Addr::new(192, 168, 1, 1),
        Ipv4Addr::new(198, 18, 0, 1),
        Ipv4Addr::new(224, 0, 0, 251),
        Ipv4Addr::new(240, 0, 0, 1),
        Ipv4Addr::BROADCAST,
    ];
    const PUBLIC: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
    // Addresses that only IPv6 has.
    const PRIVATE_V6: [&str; 8] =
        ["::", "::1", "fc00::1", "fd00::53", "fe80::1", "febf::1", "ff02::fb", "2002:a00:1::1"];
    // `nX` gives the Xth address alone, as A and in the IPv6 forms that lead to it, `sX` the Xth that only IPv6 has; any other
    // name all, and a public one.
    fn addresses(query: &[u8]) -> Vec<Vec<u8>> {
        let qname = qname_of(query);
        let label = qname.to_string();
        let number = label.trim_start_matches('n').split('.').next().and_then(|n| n.parse::<usize>().ok());
        let given: Vec<Ipv4Addr> =
            number.map_or_else(|| PRIVATE.iter().copied().chain([PUBLIC]).collect(), |n| vec![PRIVATE[n]]);
        let v6 = |ip: &Ipv4Addr, prefix: [u16; 6]| {
            let [a, b, c, d] = ip.octets();
            let rdata = prefix.iter().flat_map(|part| part.to_be_bytes()).chain([a, b, c, d]).collect();
            Record { owner: qname_of(query), rtype: Rtype::AAAA, class: 1, ttl: 300, rdata }
        };
        let native = label.strip_prefix('s').and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        if let Some(native) = native {
            let rdata = PRIVATE_V6[native].parse::<Ipv6Addr>().unwrap().octets().into();
            let record = Record { owner: qname_of(query), rtype: Rtype::AAAA, class: 1, ttl: 300, rdata };
            return vec![answer_with(query, &[record])];
        }
        let records: Vec<Record> = if Message::parse(query).unwrap().qtype() == Rtype::AAAA {
            let mapped = given.iter().map(|ip| v6(ip, [0, 0, 0, 0, 0, 0xffff]));
            let nat64 = given.iter().map(|ip| v6(ip, [0x64, 0xff9b, 0, 0, 0, 0]));
            mapped.chain(nat64).collect()
        } else {
            given.iter().map(|ip| a(&qname, *ip, 300)).collect()
        };
        vec![answer_with(query, &records)]
    }
    // Over TCP as well, because all of them in one reply are many.
    let fake = Fake::start(Habit::Custom(|query, _| addresses(query)));
    let daemon = Daemon::start(&format!("{}private_answers = \"drop\"\n", forward_to(&[fake.address])));
    for (n, private) in PRIVATE.iter().enumerate() {
        for rtype in [Rtype::A, Rtype::AAAA] {
            let response = ask_type(daemon.address, &format!("n{n}.example.org"), rtype);
            let found = (response.rcode(), response.ede(), response.answers().len());
            assert_eq!(found, (Rcode::SERVFAIL, Some(17), 0), "{private} as {rtype}");
        }
    }
    for (n, private) in PRIVATE_V6.iter().enumerate() {
        let response = ask_type(daemon.address, &format!("s{n}.example.org"), Rtype::AAAA);
        let found = (response.rcode(), response.ede(), response.answers().len());
        assert_eq!(found, (Rcode::SERVFAIL, Some(17), 0), "{private}");
    }
    assert_eq!(ask(daemon.address, "mixed.example.org").addresses(), ["93.184.216.34"]);
    assert_eq!(ask_type(daemon.address, "mixed.example.org", Rtype::AAAA).answers().len(), 2);
}

#[test]
fn logs() {
    let escape = "\u{1b}[2J\u{7}";
    let fake = Fake::start(Habit::Custom(|query, _| {
        // SERVFAIL with an extended error whose text would clear a terminal (RFC 8914).
        let mut message = [&query[..2], &[0x81, 0x82, 0, 1, 0, 0, 0, 0, 0, 1], &query[12..query.len() - 11]].concat();
        let text = b"\0\x16\x1b[2J\x07";
        let option = [&[0, 15][..], &u16::try_from(text.len()).unwrap().to_be_bytes(), text].concat();
        message.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0]);
        message.extend_from_slice(&u16::try_from(option.len()).unwrap().to_be_bytes());
        message.extend_from_slice(&option);
        vec![message]
    }));
    let daemon = Daemon::start(&format!("{}[log]\nlevel = \"trace\"\n", forward_to(&[fake.address])));
    let name = "wipe\\027[2J\\007.example.org";
    let response: Response =
        exchange_from(Ipv4Addr::LOCALHOST.into(), daemon.address, &query(name, Rtype::A, 3), PATIENCE).unwrap();
    assert_eq!((response.rcode(), response.ede()), (Rcode::SERVFAIL, Some(22)));
    eventually("the name is in the log", || daemon.log().contains("wipe"));
    let log = daemon.log();
    assert!(!log.contains(escape) && !log.chars().any(|c| c.is_control() && c != '\n'), "{log:?}");
}
