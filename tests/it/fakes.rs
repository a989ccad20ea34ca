//! The fakes do what their names say: a fake that lies about its lie would make the suites prove nothing.

use crate::support::client::{ask, ask_type, connect, exchange_from, plain_query, query, read_frame, write_frame};
use crate::support::fake::{Fake, Habit};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;
use truename::dns::wire::{Section, flag};
use truename::dns::{Rcode, Rtype};

const TRUE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

#[test]
fn an_address_and_its_nodata_are_well_formed() {
    let fake = Fake::start(Habit::Address(TRUE_ADDRESS, 77));
    let response = ask(fake.address, "wWw.example.org");
    assert_eq!(response.addresses(), ["192.0.2.1"]);
    assert_eq!(response.answers()[0].ttl, 77);
    assert!(response.has(flag::RD) && response.has(flag::QR));
    let nodata = ask_type(fake.address, "www.example.org", Rtype::AAAA);
    assert_eq!(nodata.records(Section::Authority)[0].rtype, Rtype::SOA);
    assert_eq!(fake.count("www.example.org"), 2);
    assert!(!fake.asked()[0].tcp);
    assert_eq!(fake.asked()[1].qtype, Rtype::AAAA);
}

#[test]
fn codes_silence_and_aliases_are_as_named() {
    let fake = Fake::start(Habit::Code(Rcode::REFUSED))
        .with("quiet.example", Habit::Silent)
        .with("empty.example", Habit::EmptyWithoutSoa)
        .with("none.example", Habit::NxDomain(5))
        .with("alias.example", Habit::Alias("target.example", TRUE_ADDRESS))
        .with("loop.example", Habit::AliasLoop);
    assert_eq!(ask(fake.address, "x.example").rcode(), Rcode::REFUSED);
    let quiet = query("quiet.example", Rtype::A, 1);
    assert!(exchange_from(Ipv4Addr::LOCALHOST.into(), fake.address, &quiet, Duration::from_millis(100)).is_none());
    assert!(ask(fake.address, "empty.example").records(Section::Authority).is_empty());
    assert_eq!(ask(fake.address, "none.example").rcode(), Rcode::NXDOMAIN);
    assert_eq!(ask(fake.address, "alias.example").answers().len(), 2);
    assert_eq!(ask(fake.address, "loop.example").answers()[0].target(), Some("loop.example".parse().unwrap()));
    fake.becomes(Habit::Address(TRUE_ADDRESS, 1));
    assert_eq!(ask(fake.address, "x.example").rcode(), Rcode::NOERROR);
}

#[test]
fn truncation_ends_over_tcp() {
    let fake = Fake::start(Habit::Truncating(200));
    assert!(ask(fake.address, "big.example").has(flag::TC));
    let mut stream = connect(fake.address);
    write_frame(&mut stream, &query("big.example", Rtype::A, 3));
    assert_eq!(read_frame(&mut stream).unwrap().answers().len(), 200);
    assert!(fake.asked()[1].tcp);
}

#[test]
fn a_flood_and_garbage_come_before_the_truth() {
    let fake = Fake::start(Habit::FloodFirst(20, TRUE_ADDRESS)).with("g.example", Habit::GarbageFirst(TRUE_ADDRESS));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut buffer = [0; 2048];
    let mut datagrams = |name: &str, count: usize| -> Vec<Vec<u8>> {
        socket.send_to(&query(name, Rtype::A, 7), fake.address).unwrap();
        (0..count).map(|_| socket.recv(&mut buffer).map(|len| buffer[..len].to_vec()).unwrap()).collect()
    };
    let flood = datagrams("f.example", 22);
    assert!(flood[..20].iter().all(|message| message[..2] != [0, 7]));
    assert_eq!(flood[20][..2], [0, 7]);
    assert_eq!(flood[21][flood[21].len() - 4..], TRUE_ADDRESS.octets());
    assert_eq!(datagrams("g.example", 4)[0].len(), 3);
}

#[test]
fn edns_and_letter_case_can_be_refused() {
    let fake = Fake::start(Habit::NoEdns(TRUE_ADDRESS)).with("case.example", Habit::LowerCases(TRUE_ADDRESS));
    assert_eq!(ask(fake.address, "x.example").rcode(), Rcode::FORMERR);
    let plain = plain_query("x.example", Rtype::A, 9);
    let response = exchange_from(Ipv4Addr::LOCALHOST.into(), fake.address, &plain, Duration::from_secs(5)).unwrap();
    assert_eq!(response.addresses(), ["192.0.2.1"]);
    assert_eq!(ask(fake.address, "CASE.example").view().qname(), b"\x04case\x07example\x00");
}
