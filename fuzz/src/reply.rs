//! An upstream's bytes, from the datagram to the client's answer, twice: asked, then cached.
//!
//! The first four octets choose the question, the client's id and how the reply is put together; the rest is the reply
//! from its flags on.

use super::rig::{self, World};
use super::walk::{Record, Walked, name, walk};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use truename::dns::address::{AddressKind, kind};
use truename::dns::wire::Message;
use truename::dns::{Name, Rtype, Transport, encode};
use truename::listen::Direct;
use truename::upstream::{NetEvent, SimulatedNet, SimulatedQuery, SimulatedReplies};

/// What may be asked, by the first octet. The middle one goes to a private server, the last one is the shortest.
pub const NAMES: [&str; 4] = ["www.example.org", "a.corp.example", "x.y.z.example.net", "."];
/// What may be asked for, by the second octet.
pub const TYPES: [u16; 13] = [1, 28, 5, 15, 16, 6, 2, 12, 39, 65, 46, 33, 65280];
/// Bits of the first octet, above the name: the client wants DNSSEC records.
pub const DNSSEC_OK: u8 = 0x10;
/// The bytes are sent with only the id put right: most are not believed, and none may do harm.
pub const RAW: u8 = 0x20;
/// Answers are kept at most so long, in seconds.
const MAX_TTL_S: u32 = 86_400;
/// Aliases there may be between a question and its answer.
const MAX_ALIASES: usize = 11;
/// The zone served here.
const LAB: &[u8] = b"\x03lab\x07example\0";
const CNAME: u16 = 5;
const DNAME: u16 = 39;
const RRSIG: u16 = 46;

static WORLD: LazyLock<World> = LazyLock::new(|| {
    World::new(
        r#"
        [upstream.system]
        servers = ["9.9.9.9"]
        timeout = "1s"
        [upstream.corp]
        servers = ["10.0.0.1"]
        timeout = "1s"
        [[route]]
        names = ["corp.example"]
        upstream = "corp"
        [hosts]
        files = []
        [cache]
        max_entries = 64
        [[zone]]
        name = "lab.example"
        records = [{ name = "@", type = "A", value = "10.1.0.5" }]
        "#,
    )
});

/// Every upstream: says the same to whatever it is asked.
#[derive(Debug)]
struct Upstream {
    raw: bool,
    reply: Vec<u8>,
}

impl SimulatedNet for Upstream {
    fn send(&self, query: SimulatedQuery, replies: SimulatedReplies) {
        let question_end = Message::parse(&query.bytes).expect("what we send can be read").question_end();
        let mut reply = query.bytes[..2].to_vec();
        if self.raw {
            reply.extend_from_slice(&self.reply);
        } else {
            let mut header = [0; 8];
            let len = self.reply.len().min(8);
            header[..len].copy_from_slice(&self.reply[..len]);
            reply.extend_from_slice(&[(header[0] | 0x80) & 0x87, header[1], 0, 1]);
            reply.extend_from_slice(&header[2..]);
            reply.extend_from_slice(&query.bytes[12..question_end]);
            reply.extend_from_slice(&self.reply[len..]);
        }
        replies.deliver(Duration::ZERO, NetEvent::Message(reply));
    }
}

/// Asks twice and checks both answers.
pub fn run(data: &[u8]) {
    let Some((&[how, rtype, high, low], reply)) = data.split_first_chunk::<4>() else { return };
    let qname = Name::parse(NAMES[usize::from(how) % NAMES.len()]).expect("a name");
    let qtype = TYPES[usize::from(rtype) % TYPES.len()];
    let dnssec_ok = how & DNSSEC_OK != 0;
    let question = truename::dns::QuestionKey { qname, qtype: Rtype(qtype), dnssec_ok, checking_disabled: false };
    let query = encode::upstream_query(&question, u16::from_be_bytes([high, low]), Some(u16::MAX));
    let net = Upstream { raw: how & RAW != 0, reply: reply[..reply.len().min(65_000)].to_vec() };
    let (client, local) = (SocketAddr::from(([127, 0, 0, 1], 4242)), SocketAddr::from(([127, 0, 0, 1], 53)));
    let answers = rig::paused(async {
        let pipeline = WORLD.pipeline(Arc::new(net));
        let listener = Direct::new(&WORLD.config.server, Arc::clone(&pipeline), Arc::clone(pipeline.stats()));
        let first = listener.answer(&query, client, local, Transport::Tcp).await;
        let second = listener.answer(&query, client, local, Transport::Tcp).await;
        let datagram = listener.answer(&query, client, local, Transport::Udp).await;
        [first, second, datagram].map(|answer| answer.expect("every question is answered"))
    });
    for answer in &answers {
        check(&query, &question.qname, qtype, dnssec_ok, answer);
    }
    let (first, second) = (walk(&answers[0]), walk(&answers[1]));
    assert_eq!(first.rcode(), second.rcode(), "the second answer has another code");
    assert_eq!(first.section(0).count(), second.section(0).count(), "the second answer has other records");
    assert!(answers[2].len() <= 1232, "{} octets over UDP", answers[2].len());
}

fn check(query: &[u8], qname: &Name, qtype: u16, dnssec_ok: bool, answer: &[u8]) {
    let walked = walk(answer);
    assert_eq!(answer[..2], query[..2], "the id is the client's");
    assert_eq!(walked.question, query[12..12 + walked.question.len()], "the question is the client's");
    assert_eq!(walked.flags & 0x8020, 0x8000, "a response, and no AD of an upstream nobody authenticated");
    let code = walked.rcode();
    assert!([0, 2, 3].contains(&code), "code {code}: an upstream's failure is SERVFAIL to the client");
    let chain = check_chain(qname, qtype, dnssec_ok, &walked, answer);
    for record in &walked.records {
        check_data(record, answer);
        assert!(record.ttl <= MAX_TTL_S || record.rtype == 41, "a TTL of {} s", record.ttl);
    }
    let last = chain.last().expect("the question's own name");
    for record in walked.section(1) {
        let proves = dnssec_ok && [RRSIG, 47, 50].contains(&record.rtype);
        assert!(record.rtype == 6 || proves, "type {} in the authority section", record.rtype);
        assert!(record.rtype != 6 || is_below(last, &record.owner), "the SOA of somebody else");
    }
    assert!(walked.section(2).all(|record| record.rtype == 41), "an additional record of an upstream is never shown");
}

/// Checks that every record stands on the alias chain from the question; returns the chain.
fn check_chain(qname: &Name, qtype: u16, dnssec_ok: bool, walked: &Walked, answer: &[u8]) -> Vec<Vec<u8>> {
    let mut chain = vec![qname.to_lower().as_wire().to_vec()];
    while qtype != CNAME && chain.len() <= MAX_ALIASES + 1 {
        let here = chain.last().expect("never empty");
        let alias = walked.section(0).find(|record| record.rtype == CNAME && record.owner == *here);
        let Some(alias) = alias else { break };
        let (target, end) = name(answer, alias.data.start);
        assert_eq!(end, alias.data.end, "an alias is one name");
        if chain.contains(&target) {
            break;
        }
        chain.push(target);
    }
    assert!(chain.len() <= MAX_ALIASES + 1, "{} aliases", chain.len() - 1);
    for record in walked.section(0) {
        assert_eq!(record.class, 1, "another class");
        // Whoever brings the alias: what the zone holds here is what is said about its names, and nothing else.
        let ours = record.rtype == 1 && record.owner == LAB && answer[record.data.clone()] == [10, 1, 0, 5];
        assert!(ours || !is_below(&record.owner, LAB), "an upstream's record for a name of the zone");
        let covered = match record.rtype {
            RRSIG if record.data.len() >= 2 => {
                u16::from_be_bytes([answer[record.data.start], answer[record.data.start + 1]])
            }
            other => other,
        };
        assert!(record.rtype != RRSIG || dnssec_ok || qtype == RRSIG, "a signature for somebody who wants none");
        let on_chain = chain.contains(&record.owner);
        let made_alias = covered == DNAME && chain.iter().any(|name| is_below(name, &record.owner));
        assert!(on_chain || made_alias, "a record of {:?} is not on the chain", record.owner);
        let types = [qtype, CNAME, DNAME];
        assert!(types.contains(&covered) || types.contains(&record.rtype), "type {} was not asked for", record.rtype);
    }
    chain
}

/// Checks that names in data can be read, and that addresses are not those of private networks.
fn check_data(record: &Record, answer: &[u8]) {
    let (start, end) = (record.data.start, record.data.end);
    let one_name = |at: usize| {
        assert!(at < end, "type {}: the data is cut", record.rtype);
        let end_of_name = name(answer, at).1;
        assert!(end_of_name <= end, "type {}: a name leaves its record", record.rtype);
        end_of_name
    };
    match record.rtype {
        2 | CNAME | 12 | DNAME => assert_eq!(one_name(start), end, "type {}: one name", record.rtype),
        6 => {
            one_name(one_name(start));
        }
        15 => {
            one_name(start + 2);
        }
        33 => {
            one_name(start + 6);
        }
        1 | 28 => {
            let data = &answer[start..end];
            let address = match record.rtype {
                1 => IpAddr::from(<[u8; 4]>::try_from(data).expect("an address has four octets")),
                _ => IpAddr::from(<[u8; 16]>::try_from(data).expect("an address has sixteen octets")),
            };
            let inside = is_below(&record.owner, b"\x04corp\x07example\0") || is_below(&record.owner, LAB);
            match kind(address) {
                AddressKind::Public => {}
                AddressKind::Private => assert!(inside, "a public server gave {address}"),
                AddressKind::OwnMachine => assert!(is_below(&record.owner, b"\x04corp\x07example\0"), "{address}"),
            }
        }
        _ => {}
    }
}

/// Tells whether a name, in lower case, is another one or stands below it.
fn is_below(name: &[u8], above: &[u8]) -> bool {
    let mut at = 0;
    while name.len() - at >= above.len() {
        if name[at..] == *above {
            return true;
        }
        if name[at] == 0 {
            return false;
        }
        at += 1 + usize::from(name[at]);
    }
    false
}
