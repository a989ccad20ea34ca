//! One test for each class of holes that costs work, memory or connections, named after the class (docs/promises.md,
//! the second table).

use crate::support::client::{ask, ask_type, connect, exchange, exchange_from, query, read_frame, write_frame};
use crate::support::daemon::{Daemon, forward_to};
use crate::support::eventually;
use crate::support::fake::{Fake, Habit, a, alias, answer_with, qname_of};
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;
use truename::dns::encode;
use truename::dns::wire::{Message, flag};
use truename::dns::{Name, QuestionKey, Rcode, Record, Rtype};

const TRUE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Queries for one question over all servers (`MAX_SENDS` of src/upstream/group.rs).
const MAX_SENDS: usize = 8;

/// The numbers of Marsaglia's xorshift: the same every time, so that what fails fails again.
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 32).unwrap()
}

#[test]
fn amplification_and_storms() {
    let silent = [Fake::start(Habit::Silent), Fake::start(Habit::Silent)];
    let daemon = Daemon::start(&forward_to(&[silent[0].address, silent[1].address]));
    let sent = || silent.iter().map(|fake| fake.count("www.example.org")).sum::<usize>();
    assert_eq!(ask(daemon.address, "www.example.org").rcode(), Rcode::SERVFAIL);
    let first = sent();
    assert!(first <= MAX_SENDS, "{first} queries for one question");
    // The failure is kept (RFC 9520): asking again is not asking upstream again.
    for _ in 0..20 {
        assert_eq!(ask(daemon.address, "www.example.org").rcode(), Rcode::SERVFAIL);
    }
    assert_eq!(sent(), first);
    // However many servers there are, and however they are chosen.
    let many: Vec<Fake> = (0..12).map(|_| Fake::start(Habit::Silent)).collect();
    let addresses: Vec<_> = many.iter().map(|fake| fake.address).collect();
    let daemon = Daemon::start(&forward_to(&addresses).replace("\"order\"", "\"parallel\""));
    assert_eq!(ask(daemon.address, "www.example.org").rcode(), Rcode::SERVFAIL);
    let sent: usize = many.iter().map(|fake| fake.count("www.example.org")).sum();
    assert!((2..=MAX_SENDS).contains(&sent), "{sent} queries for one question");
    // Every name is an alias to the next one, and none of them ends it.
    let endless = Fake::start(Habit::Custom(|query, _| {
        let qname = qname_of(query);
        let next = Name::parse(&format!("{}x.example.org", "x".repeat(qname.as_wire().len() - 13))).unwrap();
        vec![answer_with(query, &[alias(&qname, &next)])]
    }));
    let daemon = Daemon::start(&forward_to(&[endless.address]));
    assert_eq!(ask(daemon.address, "x.example.org").rcode(), Rcode::SERVFAIL);
    // Names, not queries: on a busy machine one may be repeated.
    let names: HashSet<Vec<u8>> =
        endless.asked().iter().map(|asked| asked.qname.to_lower().as_wire().to_vec()).collect();
    assert!((3..=12).contains(&names.len()), "{} names for one question", names.len());
    let any = exchange(daemon.address, &query("www.example.org", Rtype::ANY, 1)).unwrap();
    assert!(any.0.len() < 200, "{} octets for ANY (RFC 8482)", any.0.len());
}

#[test]
fn cpu_by_dnssec() {
    const KEYS: usize = 300;
    let fake = Fake::start(Habit::Custom(|query, tcp| {
        if !tcp {
            let mut cut = answer_with(query, &[]);
            cut[2] |= 0x02;
            return vec![cut];
        }
        let owner = qname_of(query);
        let record = |n: usize| Record {
            owner: owner.clone(),
            rtype: Rtype(48),
            class: 1,
            ttl: 300,
            rdata: [&[1, 1, 3, 13][..], &[u8::try_from(n % 251).unwrap(); 96]].concat().into(),
        };
        vec![answer_with(query, &(0..KEYS).map(record).collect::<Vec<_>>())]
    }));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    let mut stream = connect(daemon.address);
    let before = daemon.cpu();
    for n in 0..20 {
        let qname = Name::parse(&format!("n{n}.example.org")).unwrap();
        let question = QuestionKey { qname, qtype: Rtype(48), dnssec_ok: true, checking_disabled: false };
        write_frame(&mut stream, &encode::upstream_query(&question, n, Some(1232)));
        let response = read_frame(&mut stream).unwrap();
        assert_eq!((response.answers().len(), response.has(flag::AD)), (KEYS, false));
    }
    // Nothing is validated, so keys and signatures cost what other octets cost.
    let spent = daemon.cpu() - before;
    assert!(spent < Duration::from_secs(4), "{spent:?} of CPU");
    let asked = fake.asked();
    let edns = Message::parse(&asked[0].bytes).unwrap().edns().unwrap().unwrap();
    assert!(edns.dnssec_ok, "the client's DO is passed on");
}

/// Makes a reply whose names are pointers that lead in a circle, forward, or down a long chain.
fn pointers(query: &[u8]) -> Vec<u8> {
    let kind = qname_of(query).to_string().as_bytes()[0];
    let question = &query[..12 + qname_of(query).as_wire().len() + 4];
    let mut message = [&question[..2], &[0x81, 0x80, 0, 1, 0, 100, 0, 0, 0, 0], &question[12..]].concat();
    let pointer = |to: usize| (0xc000 | u16::try_from(to).unwrap()).to_be_bytes();
    let mut last = 12;
    for _ in 0..100 {
        let here = message.len();
        let owner = match kind {
            b'c' => pointer(here),
            b'f' => pointer(here + 40),
            _ => pointer(last),
        };
        message.extend_from_slice(&owner);
        // A CNAME whose target is one more pointer, to the pointer before it.
        message.extend_from_slice(&[0, 5, 0, 1, 0, 0, 1, 44, 0, 2]);
        last = message.len();
        message.extend_from_slice(&if kind == b'd' { owner } else { pointer(here) });
    }
    message
}

#[test]
fn cpu_by_compression() {
    let fake = Fake::start(Habit::Custom(|query, _| vec![pointers(query)]))
        .with("www.example.org", Habit::Address(TRUE_ADDRESS, 60));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    let before = daemon.cpu();
    for n in 0..20 {
        for kind in ["circle", "forward", "down"] {
            let response = ask(daemon.address, &format!("{kind}{n}.example.org"));
            assert!(response.addresses().is_empty());
        }
    }
    let spent = daemon.cpu() - before;
    assert!(spent < Duration::from_secs(3), "{spent:?} of CPU");
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.1"]);
    daemon.assert_no_panic();
}

/// RDATA that once crashed somebody's parser, by type: SVCB, TSIG, NSEC, NAPTR, SOA, TXT, OPT cut short or lying.
const CRASHERS: &[(u16, &[u8])] = &[
    (64, b"\0\x01\0\0\x06\xff\xff\0\x05h2"),
    (65, b"\0\x01\0\0\x01\0\x10\x0f"),
    (250, b"\x08hmac-md5\x00\0\0\0\0\0\0\0\0\xff\xff"),
    (47, b"\0\0\xff\0"),
    (47, b"\0\xff\x20"),
    (35, b"\0\x01\0\x01\xffu"),
    (6, b"\0\0\0\0\0\x01"),
    (16, b"\xff"),
    (41, b"\0\x08\xff\xff"),
    (46, b"\0\x01"),
    (15, b"\0"),
    (33, b"\0\0\0\0\0"),
    (5, b"\xc0\xff"),
    (2, b""),
];

/// Makes a reply of one of the crashers and, by the number in the name, some octets changed.
fn crasher(query: &[u8]) -> Vec<u8> {
    let qname = qname_of(query);
    let label = qname.to_string();
    let number: usize = label.trim_start_matches('n').split('.').next().unwrap().parse().unwrap();
    let (rtype, rdata) = CRASHERS[number % CRASHERS.len()];
    let mut message = answer_with(query, &[a(&qname, TRUE_ADDRESS, 60)]);
    message[7] += 1;
    message.extend_from_slice(&[0xc0, 12]);
    message.extend_from_slice(&rtype.to_be_bytes());
    message.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
    message.extend_from_slice(&u16::try_from(rdata.len()).unwrap().to_be_bytes());
    message.extend_from_slice(rdata);
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ (u64::try_from(number).unwrap() << 17);
    let question_end = 12 + qname.as_wire().len() + 4;
    for _ in 0..number % 4 {
        let at = question_end + random(&mut state) % (message.len() - question_end);
        message[at] = u8::try_from(random(&mut state) & 0xff).unwrap();
    }
    message
}

#[test]
fn parser_crashes() {
    let fake = Fake::start(Habit::Custom(|query, _| vec![crasher(query)]))
        .with("www.example.org", Habit::Address(TRUE_ADDRESS, 60));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    let types = [Rtype::A, Rtype::HTTPS, Rtype(64), Rtype(47), Rtype(35), Rtype(16), Rtype(255)];
    for n in 0..400_usize {
        ask_type(daemon.address, &format!("n{n}.example.org"), types[n % types.len()]);
    }
    // The same from the client's side, behind a good question.
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.connect(daemon.address).unwrap();
    let mut state = 0x2545_f491_4f6c_dd1d;
    for n in 0..2000 {
        let (rtype, rdata) = CRASHERS[n % CRASHERS.len()];
        let mut message = query("www.example.org", Rtype::A, 9);
        message[11] += 1;
        message.extend_from_slice(&[0xc0, 12]);
        message.extend_from_slice(&rtype.to_be_bytes());
        message.extend_from_slice(&[0, 255, 0, 0, 0, 0]);
        message.extend_from_slice(&u16::try_from(rdata.len()).unwrap().to_be_bytes());
        message.extend_from_slice(rdata);
        for _ in 0..n % 5 {
            let at = random(&mut state) % message.len();
            message[at] = u8::try_from(random(&mut state) & 0xff).unwrap();
        }
        // A malformed name is sent on by nobody; one that happens to be well formed may be.
        message[2] &= !0x01;
        client.send(&message).unwrap();
    }
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.1"]);
    daemon.assert_no_panic();
}

#[test]
fn memory_by_header_counts() {
    let fake = Fake::start(Habit::Custom(|query, _| {
        let good = answer_with(query, &[a(&qname_of(query), TRUE_ADDRESS, 60)]);
        let mut lying = good.clone();
        lying[6..12].fill(0xff);
        vec![lying, good]
    }));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    ask(daemon.address, "first.example.org");
    let before = daemon.rss_kib();
    for n in 0..200 {
        assert_eq!(ask(daemon.address, &format!("n{n}.example.org")).addresses(), ["192.0.2.1"]);
        let mut question = query("www.example.org", Rtype::A, 4);
        question[6..12].fill(0xff);
        let reply = exchange(daemon.address, &question).unwrap();
        assert_eq!(reply.0[3] & 0x0f, 1, "FORMERR");
    }
    let after = daemon.rss_kib();
    // One of them would be 18 MB where memory is set aside by what the header claims.
    assert!(after < before + (6 << 10), "grew from {before} to {after} KiB");
}

#[test]
fn retry_loops() {
    let fake = Fake::start(Habit::Custom(|query, _| {
        let mut cut = answer_with(query, &[]);
        cut[2] |= 0x02;
        vec![cut]
    }));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    assert_eq!(ask(daemon.address, "cut.example.org").rcode(), Rcode::SERVFAIL);
    let asked = fake.asked();
    assert!(asked.iter().any(|asked| asked.tcp) && asked.len() <= MAX_SENDS, "{} queries", asked.len());
}

#[test]
fn connections_held() {
    const MANY: usize = 400_000;
    let fake = Fake::start(Habit::Truncating(200));
    let config = format!("{}[server]\nworkers = 1\ntcp_idle_timeout = \"1s\"\n", forward_to(&[fake.address]));
    let daemon = Daemon::start(&config);
    let mut idle = connect(daemon.address);
    let mut partial = connect(daemon.address);
    partial.write_all(&[0, 40, 1, 2, 3]).unwrap();
    // A client that asks and never reads: more octets of questions than any pair of socket buffers takes.
    let mut deaf = connect(daemon.address);
    deaf.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let message = query("big.example.org", Rtype::A, 1);
    let frame = [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], &message].concat();
    let before = daemon.rss_kib();
    let written = (0..MANY).take_while(|_| deaf.write_all(&frame).is_ok()).count();
    assert!(written > 100 && written < MANY, "{written}: reading stops when answers are not taken");
    let after = daemon.rss_kib();
    assert!(after < before + (8 << 10), "grew from {before} to {after} KiB");
    // Somebody else is served meanwhile.
    let mut other = connect(daemon.address);
    write_frame(&mut other, &query("big.example.org", Rtype::A, 2));
    assert_eq!(read_frame(&mut other).unwrap().answers().len(), 200);
    // All three are closed, each by its own limit, all within a client's patience.
    assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(partial.read(&mut [0; 1]).unwrap(), 0);
    let mut rest = Vec::new();
    assert!(deaf.read_to_end(&mut rest).is_ok() || !rest.is_empty(), "the deaf one is closed too");
    // More of them than there are files for: whoever asks by datagrams is answered, and newcomers are when they have gone.
    let daemon = Daemon::start_with_descriptors(&config, 40);
    ask(daemon.address, "www.example.org");
    let held: Vec<_> = (0..100).map(|_| connect(daemon.address)).collect();
    eventually("it is told", || daemon.log().contains("accept_errors_total"));
    assert!(ask(daemon.address, "www.example.org").has(flag::TC));
    drop(held);
    eventually("a newcomer is served", || {
        let mut newcomer = connect(daemon.address);
        write_frame(&mut newcomer, &query("localhost", Rtype::A, 3));
        read_frame(&mut newcomer).is_some_and(|answer| answer.addresses() == ["127.0.0.1"])
    });
}

#[test]
fn packet_loops_between_servers() {
    let first = Daemon::start("");
    let second = Daemon::start(&forward_to(&[first.address]));
    first.reload(&forward_to(&[second.address]));
    eventually("the first forwards to the second", || !first.events("reloaded").is_empty());
    let used = first.cpu() + second.cpu();
    for n in 0..5 {
        let response = ask(first.address, &format!("n{n}.example.org"));
        assert_eq!(response.rcode(), Rcode::SERVFAIL);
    }
    let spent = first.cpu() + second.cpu() - used;
    assert!(spent < Duration::from_secs(2), "{spent:?} of CPU");
    let mut found = first.log();
    eventually("the loop is found", || {
        found = format!("{}{}", first.log(), second.log());
        ask(first.address, "again.example.org");
        found.contains("leads back to us")
    });
    assert_eq!(ask(first.address, "localhost").addresses(), ["127.0.0.1"], "everything else goes on");
    // A response is never answered, whatever it says, so two servers cannot be made to talk to each other.
    let mut response = query("www.example.org", Rtype::A, 7);
    for flags in [0x80, 0x84, 0x85, 0xa8] {
        response[2] = flags;
        let wait = Duration::from_millis(100);
        assert!(exchange_from(Ipv4Addr::LOCALHOST.into(), first.address, &response, wait).is_none());
    }
}

#[test]
fn old_library_bugs() {
    // The floors of versions are held by tests/it/lockfile.rs and deny.toml; here is what makes a bug of a library
    // end one question and nothing more.
    let manifest: toml::Table =
        toml::from_str(&std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap()).unwrap();
    assert_eq!(manifest["profile"]["release"]["overflow-checks"].as_bool(), Some(true));
    assert!(manifest["profile"]["release"].get("panic").is_none(), "a panic must unwind to the question it came from");
    assert_eq!(manifest["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
    let deny = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml")).unwrap();
    let deny: toml::Table = toml::from_str(&deny).unwrap();
    let denied = deny["bans"]["deny"].as_array().unwrap();
    for name in ["hickory-proto", "hickory-net", "hickory-resolver", "hickory-server", "tracing-subscriber"] {
        assert!(denied.iter().any(|entry| entry.get("name").and_then(toml::Value::as_str) == Some(name)), "{name}");
    }
}
