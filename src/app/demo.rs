//! Six resolvers on loopback, most of them liars, and what the real pipeline makes of them. Needs no root and no network.
//!
//! Every resolver is a socket that answers, and every answer shown is one that came over it: the plain column by asking the
//! resolver directly, as a forwarder that believes it would, ours by a pipeline whose route leads to that resolver, with two
//! honest ones of different operators to hold it against.

use super::{RunError, runtime};
use crate::clock::Clock;
use crate::config::load::load_text;
use crate::dns::answer::Record;
use crate::dns::encode::{self, MessageBuilder};
use crate::dns::wire::{Message, Section, flag};
use crate::dns::{Name, Query, QuestionKey, Rcode, Rtype, Stage, Trace};
use crate::pipeline::cache::Cache;
use crate::pipeline::route::Routes;
use crate::pipeline::zone::{Zones, presentation};
use crate::pipeline::{Parts, Pipeline, State};
use crate::stats::Stats;
use crate::upstream::{Net, Upstreams};
use serde_json::{Value, json};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// The address that the names really have.
const TRUE: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
/// The one that is made up.
const FORGED: Ipv4Addr = Ipv4Addr::new(31, 13, 94, 10);
/// How much further away the honest ones are: liars on the path are near.
const HONEST_DELAY: Duration = Duration::from_millis(30);
/// How long a plain forwarder is taken to wait; real ones take seconds.
const PLAIN_PATIENCE: Duration = Duration::from_millis(400);
/// The address of the second honest resolver's socket: another network, so another operator.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);

/// What a resolver does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Honest,
    Forges,
    Empties,
    RewritesNxdomain,
    BreaksChains,
    Dead,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Honest, Self::Forges, Self::Empties, Self::RewritesNxdomain, Self::BreaksChains, Self::Dead];

    /// Returns the name of its group, and of the question that is asked of it.
    fn word(self) -> &'static str {
        match self {
            Self::Honest => "honest",
            Self::Forges => "forges",
            Self::Empties => "empties",
            Self::RewritesNxdomain => "rewrites-nxdomain",
            Self::BreaksChains => "breaks-chains",
            Self::Dead => "dead",
        }
    }

    /// What it says, each after a delay.
    fn replies(self, query: &Message<'_>, qname: &Name) -> Vec<(Duration, Vec<u8>)> {
        let truth = || (HONEST_DELAY, true_reply(query, qname));
        let address = |address: Ipv4Addr| reply(query, qname, Rcode::NOERROR, &[a(qname, address)]);
        match self {
            Self::Honest => vec![truth()],
            // Somebody on the path is faster than the resolver behind.
            Self::Forges => vec![(Duration::ZERO, address(FORGED)), truth()],
            Self::Empties => vec![(Duration::ZERO, reply(query, qname, Rcode::NOERROR, &[]))],
            Self::RewritesNxdomain => vec![(Duration::ZERO, address(FORGED))],
            Self::BreaksChains => {
                vec![(Duration::ZERO, reply(query, qname, Rcode::NOERROR, &[alias(qname, &gone())]))]
            }
            Self::Dead => Vec::new(),
        }
    }
}

/// Runs the demonstration and returns a row for each resolver.
///
/// # Errors
/// When no sockets can be had on loopback.
pub fn demo() -> Result<Value, RunError> {
    runtime()?.block_on(async {
        let refused = |source| RunError::System { what: "cannot bind a socket on loopback", source };
        let mut servers = Vec::new();
        for kind in Kind::ALL {
            servers.push((kind, start(Ipv4Addr::LOCALHOST, kind).await.map_err(refused)?));
        }
        let second = start(ELSEWHERE, Kind::Honest).await.map_err(refused)?;
        let pipeline = pipeline(&servers, second);
        let mut rows = Vec::new();
        for (kind, address) in servers {
            rows.push(row(&pipeline, kind, address).await);
        }
        Ok(json!({ "schema": "truename.demo/1", "resolvers": rows }))
    })
}

/// Starts a resolver; it ends with the runtime.
async fn start(ip: Ipv4Addr, kind: Kind) -> io::Result<SocketAddr> {
    let socket = Arc::new(UdpSocket::bind((ip, 0)).await?);
    let address = socket.local_addr()?;
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let Ok(query) = Message::parse(&buffer[..len]) else { continue };
            let Ok(qname) = Name::from_wire(query.qname()) else { continue };
            for (after, bytes) in kind.replies(&query, &qname) {
                let socket = Arc::clone(&socket);
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    // Whoever asked may be gone.
                    let _sent = socket.send_to(&bytes, from).await;
                });
            }
        }
    });
    Ok(address)
}

/// Makes a pipeline that sends one name to each resolver and holds what comes against the honest ones.
fn pipeline(servers: &[(Kind, SocketAddr)], second: SocketAddr) -> Pipeline {
    let mut text =
        "[hosts]\nfiles = []\n[default]\nupstream = \"honest\"\ntrusted_presets = []\n[guard]\nproofs = false\nreferences = \"references\"\n".to_owned();
    for (kind, address) in servers {
        let word = kind.word();
        text += &format!(
            "[upstream.{word}]\nservers = [\"{address}\"]\n[[route]]\nnames = [\"{}\"]\nupstream = \"{word}\"\n\
             guard = \"enforce\"\nprivate = false\n",
            question(*kind)
        );
        if *kind == Kind::Honest {
            text += &format!("[upstream.references]\nservers = [\"{address}\", \"{second}\"]\n");
        }
    }
    let config = Arc::new(load_text("demo", &text).config.expect("written here; a test runs it"));
    let (clock, stats) = (Clock::default(), Arc::new(Stats::default()));
    let (zones, _) = Zones::load(&config, 0);
    let (routes, _) = Routes::load(&config, &|_| false, &[]);
    let cache = Arc::new(Cache::new(&config.cache));
    let upstreams = Upstreams::new(&config, &[], clock.clone(), Arc::clone(&stats), Net::Real, None);
    let parts = Parts { config, zones: zones.into(), routes: routes.into(), upstreams, system: Vec::new(), cache };
    Pipeline::new(State::new(parts), clock, stats)
}

/// Asks a resolver in both ways.
async fn row(pipeline: &Pipeline, kind: Kind, address: SocketAddr) -> Value {
    let qname = question(kind);
    let plain = match ask_plainly(address, &qname).await {
        Some(reply) => shown(&reply),
        None => format!("no answer in {} ms", PLAIN_PATIENCE.as_millis()),
    };
    let mut trace = Trace::on();
    let answer = pipeline.answer(&Query::local(qname.clone(), Rtype::A), &mut trace).await;
    let judged = trace.steps().iter().find(|step| step.stage == Stage::Guard);
    json!({
        "resolver": kind.word(),
        "name": qname.to_string(),
        "plain_forwarder": plain,
        "truename": shown(&answer.message),
        "decided": judged.map(|step| &step.decided),
        "because": judged.map(|step| &step.because),
    })
}

/// Sends one query and takes whatever comes first, as forwarders do.
async fn ask_plainly(server: SocketAddr, qname: &Name) -> Option<Vec<u8>> {
    let question = QuestionKey { qname: qname.clone(), qtype: Rtype::A, dnssec_ok: false, checking_disabled: false };
    let id = rand::random();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
    socket.connect(server).await.ok()?;
    socket.send(&encode::upstream_query(&question, id, None)).await.ok()?;
    let mut buffer = vec![0; 4096];
    let len = timeout(PLAIN_PATIENCE, socket.recv(&mut buffer)).await.ok()?.ok()?;
    buffer.truncate(len);
    Some(buffer)
}

/// Writes what an answer says in a few words.
fn shown(message: &[u8]) -> String {
    let Ok(message) = Message::parse(message) else { return "nothing that can be read".to_owned() };
    let records = message.section(Section::Answer).filter_map(|at| Record::from_message(&message, &at).ok());
    let data: Vec<String> = records
        .map(|record| match record.rtype {
            Rtype::CNAME => format!("alias to {}", presentation::rdata_text(&record)),
            _ => presentation::rdata_text(&record),
        })
        .collect();
    match (message.rcode(), data.is_empty()) {
        (Rcode::NOERROR, false) => data.join(", "),
        (Rcode::NOERROR, true) => "no data".to_owned(),
        (rcode, _) => rcode.to_string(),
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("written here; a test runs it")
}

fn question(kind: Kind) -> Name {
    name(&format!("{}.example.org", kind.word()))
}

/// Where a broken chain leads: nowhere.
fn gone() -> Name {
    name("edge.example.net")
}

/// What is really there: an address, behind an alias for one name; another name does not exist.
fn true_reply(query: &Message<'_>, qname: &Name) -> Vec<u8> {
    if *qname == question(Kind::RewritesNxdomain) {
        return reply(query, qname, Rcode::NXDOMAIN, &[]);
    }
    if *qname == question(Kind::BreaksChains) {
        return reply(query, qname, Rcode::NOERROR, &[alias(qname, &gone()), a(&gone(), TRUE)]);
    }
    reply(query, qname, Rcode::NOERROR, &[a(qname, TRUE)])
}

fn a(owner: &Name, address: Ipv4Addr) -> Record {
    Record { owner: owner.clone(), rtype: Rtype::A, class: 1, ttl: 300, rdata: address.octets().into() }
}

fn alias(owner: &Name, target: &Name) -> Record {
    Record { owner: owner.clone(), rtype: Rtype::CNAME, class: 1, ttl: 300, rdata: target.as_wire().into() }
}

fn reply(query: &Message<'_>, qname: &Name, rcode: Rcode, answer: &[Record]) -> Vec<u8> {
    let mut builder = MessageBuilder::response(qname, query.qtype(), rcode);
    builder.or_flags(query.flags() & flag::RD);
    answer.iter().for_each(|record| builder.push(Section::Answer, record));
    if rcode == Rcode::NXDOMAIN {
        // Two root names, then serial, refresh, retry, expire and minimum.
        let rdata = [[0; 2].as_slice(), &[0, 0, 0, 60].repeat(5)].concat().into();
        builder.push(Section::Authority, &Record { owner: Name::root(), rtype: Rtype::SOA, class: 1, ttl: 60, rdata });
    }
    let mut bytes = builder.finish().into_vec();
    bytes[..2].copy_from_slice(&query.id().to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_loopback() {
        let [honest, liar, second] = [1, 2, 3].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let pipeline = pipeline(&[(Kind::Honest, honest), (Kind::BreaksChains, liar)], second);
        let state = pipeline.state();
        // What an alias leads to has no route of its own.
        let default = state.config.default_for(crate::config::ViewId(0)).upstream;
        assert_eq!(state.config.group(default).name, "honest");
    }

    #[test]
    fn every_liar_is_seen_through_and_the_honest_one_is_left_alone() {
        let document = demo().unwrap();
        let rows = document["resolvers"].as_array().unwrap();
        let of = |kind: Kind, key: &str| {
            let row = rows.iter().find(|row| row["resolver"] == kind.word()).unwrap();
            row[key].as_str().unwrap().to_owned()
        };
        for kind in Kind::ALL {
            let expected = match kind {
                Kind::RewritesNxdomain => "NXDOMAIN".to_owned(),
                Kind::BreaksChains => format!("alias to edge.example.net., {TRUE}"),
                Kind::Honest | Kind::Forges | Kind::Empties | Kind::Dead => TRUE.to_string(),
            };
            assert_eq!(of(kind, "truename"), expected, "{kind:?}");
        }
        assert_eq!(of(Kind::Forges, "plain_forwarder"), FORGED.to_string());
        assert_eq!(of(Kind::RewritesNxdomain, "plain_forwarder"), FORGED.to_string());
        assert_eq!(of(Kind::Empties, "plain_forwarder"), "no data");
        assert!(of(Kind::Dead, "plain_forwarder").starts_with("no answer"));
    }
}
