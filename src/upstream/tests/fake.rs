//! What both kinds of test share: configurations, questions, replies.

use crate::clock::Clock;
use crate::config::*;
use crate::dns::answer::Record;
use crate::dns::encode::MessageBuilder;
use crate::dns::wire::{Message, Section, flag};
use crate::dns::{Name, QuestionKey, Rcode, Rtype, Trace};
use crate::stats::Stats;
use crate::upstream::{Acceptance, Ask, Failure, Net, Reply, Upstreams};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub(super) const BUDGET: Duration = Duration::from_millis(4500);

pub(in crate::upstream) fn group(name: &str, servers: &[SocketAddr]) -> Group {
    let servers = servers
        .iter()
        .map(|&address| Upstream::plain(format!("{name}/{address}"), UpstreamTransport::Udp, address))
        .collect();
    Group {
        name: name.into(),
        servers,
        auto: false,
        options: Arc::default(),
        strategy: Strategy::Fastest,
        timeout: BUDGET,
        fallback: None,
    }
}

pub(in crate::upstream) fn config(groups: Vec<Group>) -> Config {
    Config {
        server: Server {
            listen: Vec::new(),
            udp_payload_bytes: 1232,
            workers: 1,
            max_in_flight: 4096,
            tcp_idle_timeout: Duration::from_secs(10),
            edns_errors: true,
            allow: Vec::new(),
        },
        groups,
        default: DefaultRoute {
            upstream: GroupId(0),
            private_answers: PrivateAnswers::Auto,
            guard: crate::config::GuardMode::Off,
        },
        routes: Vec::new(),
        time_servers: Vec::new(),
        built_in: Vec::new(),
        zones: Vec::new(),
        hosts: Hosts { files: Vec::new(), places: Vec::new(), watch: false, on_conflict: OnConflict::Warn },
        rewrites: Vec::new(),
        cache: Cache::NONE,
        guard: crate::config::Guard::NONE,
        views: Vec::new(),
        stats: crate::config::Stats::default(),
        log: Log::default(),
        requirements: Vec::new(),
    }
}

pub(in crate::upstream) fn upstreams(groups: Vec<Group>, clock: Clock, net: Net) -> (Upstreams, Arc<Stats>) {
    let stats = Arc::new(Stats::default());
    (Upstreams::new(&config(groups), &[], clock, Arc::clone(&stats), net, None), stats)
}

pub(in crate::upstream) fn question(text: &str) -> QuestionKey {
    let qname = Name::parse(text).unwrap().to_lower();
    QuestionKey { qname, qtype: Rtype::A, dnssec_ok: false, checking_disabled: false }
}

/// Asks group 0 with the whole budget, accepting everything.
pub(super) async fn ask(upstreams: &Upstreams, text: &str) -> Result<Reply, Box<Failure>> {
    ask_where(upstreams, text, false, &|_, _| Acceptance::Accept).await
}

pub(super) async fn ask_where(
    upstreams: &Upstreams,
    text: &str,
    only_private: bool,
    acceptable: &(dyn Fn(&Message<'_>, &crate::upstream::ServerInfo) -> Acceptance + Sync),
) -> Result<Reply, Box<Failure>> {
    let question = question(text);
    let deadline = tokio::time::Instant::now() + BUDGET;
    let ask = Ask { only_private, acceptable, ..Ask::new(GroupId(0), &question, deadline) };
    upstreams.ask(ask, &mut Trace::off()).await
}

/// Writes the reply to a query: an A record with the last octet `octet`, or none.
pub(super) fn reply(query: &[u8], rcode: Rcode, octet: Option<u8>) -> Vec<u8> {
    let message = Message::parse(query).unwrap();
    let qname = Name::from_wire(message.qname()).unwrap();
    let mut builder = MessageBuilder::response(&qname, message.qtype(), rcode);
    if let Some(octet) = octet {
        let rdata = Box::new([192, 0, 2, octet]);
        builder.push(Section::Answer, &Record { owner: qname, rtype: Rtype::A, class: 1, ttl: 60, rdata });
    }
    let mut bytes = builder.finish().into_vec();
    bytes[..2].copy_from_slice(&query[..2]);
    bytes
}

pub(super) fn answer(query: &[u8], octet: u8) -> Vec<u8> {
    reply(query, Rcode::NOERROR, Some(octet))
}

pub(super) fn truncated(query: &[u8]) -> Vec<u8> {
    let mut bytes = reply(query, Rcode::NOERROR, None);
    bytes[2] |= (flag::TC >> 8) as u8;
    bytes
}

/// Returns the last octet of the first A record.
pub(super) fn octet(reply: &Reply) -> u8 {
    let message = Message::parse(&reply.message).unwrap();
    let record = message.section(Section::Answer).next().expect("an answer record");
    *message.rdata(&record).last().unwrap()
}

pub(super) fn address(last: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), 53)
}
