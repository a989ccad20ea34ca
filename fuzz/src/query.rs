//! A client's bytes, through everything a worker does with a datagram or a frame.
//!
//! The first octet says who sends them and what the upstream does; the rest is the message.

use super::rig::{self, World};
use super::walk::{Walked, u16_at, walk};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use truename::dns::encode::MessageBuilder;
use truename::dns::wire::{Message, Section, parse_query};
use truename::dns::{Name, Rcode, Record, Rtype, Transport};
use truename::listen::Direct;
use truename::upstream::{NetEvent, SimulatedNet, SimulatedQuery, SimulatedReplies};

/// The largest datagram we send.
const OUR_PAYLOAD_BYTES: u16 = 1232;
/// Bits of the first octet.
pub const OVER_TCP: u8 = 0x01;
pub const NOT_ALLOWED: u8 = 0x02;
pub const FROM_OURSELVES: u8 = 0x04;
pub const FROM_PORT_ZERO: u8 = 0x08;
/// Four things an upstream may do.
pub const UPSTREAM: u8 = 0x30;
/// Its datagrams are lost.
pub const SILENT: u8 = 0x10;
/// It says that the name does not exist.
pub const NEGATIVE: u8 = 0x20;
/// It fails.
pub const FAILING: u8 = 0x30;

static WORLD: LazyLock<World> = LazyLock::new(|| {
    World::new(
        r#"
        [server.access]
        allow = ["127.0.0.0/8"]
        [upstream.system]
        servers = ["9.9.9.9"]
        [hosts]
        files = []
        [cache]
        max_entries = 64
        [[rewrite]]
        names = ["old.example"]
        answer = { type = "CNAME", value = "git.lab.example.", ttl = "30s" }
        [[zone]]
        name = "lab.example"
        reverse = true
        records = [
          { name = "@", type = "A", value = "10.1.0.5" },
          { name = "git", type = "CNAME", value = "lab.example." },
          { name = "away", type = "CNAME", value = "www.example.org." },
          { name = "loop", type = "CNAME", value = "pool.lab.example." },
          { name = "pool", type = "CNAME", value = "loop.lab.example." },
          { name = "*.dev", type = "AAAA", value = "fd00::1" },
          { name = "down", type = "DNAME", value = "lab.example." },
          { name = "deep.er", type = "MX", value = "10 git" },
          { name = "sub", type = "NS", value = "ns.sub" },
          { name = "many", type = "TXT", value = '"0123456789012345678901234567890123456789012345678901234567890123456789"' },
          { name = "many", type = "TXT", value = '"1123456789012345678901234567890123456789012345678901234567890123456789"' },
          { name = "many", type = "TXT", value = '"2123456789012345678901234567890123456789012345678901234567890123456789"' },
          { name = "many", type = "TXT", value = '"3123456789012345678901234567890123456789012345678901234567890123456789"' },
          { name = "many", type = "TXT", value = '"4123456789012345678901234567890123456789012345678901234567890123456789"' },
          { name = "many", type = "TXT", value = '"5123456789012345678901234567890123456789012345678901234567890123456789"' },
          { name = "many", type = "TXT", value = '"6123456789012345678901234567890123456789012345678901234567890123456789"' },
          { name = "many", type = "TXT", value = '"7123456789012345678901234567890123456789012345678901234567890123456789"' },
        ]
        "#,
    )
});

/// The one upstream: what it does, whoever asks.
#[derive(Debug)]
struct Upstream(u8);

impl SimulatedNet for Upstream {
    fn send(&self, query: SimulatedQuery, replies: SimulatedReplies) {
        let message = Message::parse(&query.bytes).expect("what we send can be read");
        assert_eq!(
            parse_query(&query.bytes).map(|parsed| parsed.message.id()),
            Ok(message.id()),
            "what we send is a query"
        );
        let owner = Name::from_wire(message.qname()).expect("a name");
        let (rcode, has_soa) = match self.0 {
            0 => (Rcode::NOERROR, message.qtype() != Rtype::A),
            NEGATIVE => (Rcode::NXDOMAIN, true),
            FAILING => (Rcode::SERVFAIL, false),
            _ => return,
        };
        let mut builder = MessageBuilder::response(&owner, message.qtype(), rcode);
        let record =
            |rtype, rdata: &[u8]| Record { owner: owner.clone(), rtype, class: 1, ttl: 60, rdata: rdata.into() };
        if rcode == Rcode::NOERROR && !has_soa {
            builder.push(Section::Answer, &record(Rtype::A, &Ipv4Addr::new(93, 184, 216, 34).octets()));
        }
        if has_soa {
            builder.push(Section::Authority, &record(Rtype::SOA, &[0; 22]));
        }
        let mut reply = builder.finish().into_vec();
        reply[..2].copy_from_slice(&query.bytes[..2]);
        replies.deliver(Duration::ZERO, NetEvent::Message(reply));
    }
}

/// Sends the bytes twice, so that the second answer may come from the cache.
pub fn run(data: &[u8]) {
    let Some((&how, message)) = data.split_first() else { return };
    let transport = if how & OVER_TCP == 0 { Transport::Udp } else { Transport::Tcp };
    let local = SocketAddr::from(([127, 0, 0, 1], 53));
    let client = match how {
        _ if how & FROM_OURSELVES != 0 => local,
        _ if how & FROM_PORT_ZERO != 0 => SocketAddr::from(([127, 0, 0, 1], 0)),
        _ if how & NOT_ALLOWED != 0 => SocketAddr::from(([192, 0, 2, 7], 4242)),
        _ => SocketAddr::from(([127, 0, 0, 1], 4242)),
    };
    let (first, second) = rig::paused(async {
        let pipeline = WORLD.pipeline(Arc::new(Upstream(how & UPSTREAM)));
        let listener = Direct::new(&WORLD.config.server, Arc::clone(&pipeline), Arc::clone(pipeline.stats()));
        listener.add_own(local);
        let first = listener.answer(message, client, local, transport).await;
        (first, listener.answer(message, client, local, transport).await)
    });
    let must_be_silent = message.len() < 12 || message[2] & 0x80 != 0 || client.port() == 0 || client == local;
    assert_eq!(first.is_none(), must_be_silent, "silence is for stumps, responses and echoes only");
    assert_eq!(second.is_none(), must_be_silent, "the second time too");
    let (Some(first), Some(second)) = (first, second) else { return };
    let stranger = how & NOT_ALLOWED != 0;
    let (one, two) = (check(message, &first, transport, stranger), check(message, &second, transport, stranger));
    // RFC 1035 section 4.1.1: who was refused once is refused again, and a cached answer says what the first one said.
    assert_eq!(one.rcode(), two.rcode(), "the second answer has another code");
    assert_eq!(one.section(0).count(), two.section(0).count(), "the second answer has other records");
}

/// Checks one answer against its question.
fn check(query: &[u8], answer: &[u8], transport: Transport, stranger: bool) -> Walked {
    let walked = walk(answer);
    let (asked, flags) = (u16_at(query, 2), walked.flags);
    assert_eq!(walked.id, u16_at(query, 0), "the id is the client's");
    assert_ne!(flags & 0x8000, 0, "an answer is a response");
    assert_eq!(flags & 0x7910, asked & 0x7910, "opcode, RD and CD are the client's");
    assert_eq!(flags & 0x0040, 0, "the reserved bit is 0");
    assert_ne!(walked.rcode(), 11, "no code that nobody asked for");
    let opcode = (asked >> 11) & 15;
    if stranger {
        assert_eq!(walked.rcode(), Rcode::REFUSED.0, "a stranger is refused, whatever it asks");
    } else if opcode != 0 {
        assert_eq!(walked.rcode(), Rcode::NOTIMP.0, "opcode {opcode}");
    } else if u16_at(query, 4) != 1 {
        assert_eq!(walked.rcode(), Rcode::FORMERR.0, "a question count that is not one");
    }
    let parsed = parse_query(query).ok();
    let payload = parsed.as_ref().map_or(512, |parsed| parsed.payload_bytes().min(OUR_PAYLOAD_BYTES));
    match transport {
        Transport::Udp => assert!(answer.len() <= usize::from(payload), "{} octets over UDP", answer.len()),
        Transport::Tcp => assert_eq!(flags & 0x0200, 0, "TC over TCP"),
    }
    let Some(parsed) = parsed else {
        assert!(stranger || [1, 4, 16].contains(&walked.rcode()), "{} for what is no question", walked.rcode());
        assert!(walked.records.iter().all(|record| record.rtype == 41), "records for what is no question");
        return walked;
    };
    assert_eq!(walked.question, query[12..parsed.message.question_end()], "the question is echoed as it was spelled");
    assert_eq!(walked.opt().is_some(), parsed.edns.is_some(), "an OPT for those who sent one");
    if let Some(opt) = walked.opt() {
        let asked_do = parsed.edns.is_some_and(|edns| edns.dnssec_ok);
        assert_eq!(opt.ttl & 0x8000 != 0, asked_do, "DO is the client's");
        assert_eq!((opt.ttl & 0x00ff_0000, opt.class, opt.owner.as_slice()), (0, OUR_PAYLOAD_BYTES, &[0][..]));
    }
    // RFC 2181 section 9: what was cut holds nothing that looks like all there is.
    assert!(flags & 0x0200 == 0 || walked.section(0).count() == 0, "records beside TC");
    walked
}
