//! One question, answered in process or asked of servers, without listeners or daemon.

use super::build;
use super::upstreams::members;
use super::{RunError, runtime};
use crate::clock::Clock;
use crate::config::server::ServerAddress;
use crate::config::{Config, Group, GroupId, Strategy, Upstream, UpstreamHost, UpstreamOptions};
use crate::dns::wire::{Message, Section, flag};
use crate::dns::{Answer, Name, Origin, Query, QuestionKey, Record, Rtype, Trace};
use crate::pipeline::zone::presentation;
use crate::pipeline::{BUDGET, Pipeline};
use crate::stats::{Source, Stats};
use crate::system::resolvers::machine_resolvers;
use crate::upstream::{Ask, Net, Upstreams};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a server asked by hand is waited for: as long as a daemon like ours may take, and the way there and back.
const BY_HAND: Duration = BUDGET.saturating_add(Duration::from_millis(1500));

/// A question with what came of it.
#[derive(Debug)]
pub struct Asked {
    /// The name asked.
    pub qname: Name,
    /// The type asked.
    pub qtype: Rtype,
    /// What was answered.
    pub answer: Answer,
    /// The server that was asked in place of ourselves, and how, for people.
    pub server: Option<String>,
    /// How long it took.
    pub elapsed: Duration,
    /// The stages' lines, when they were asked for.
    pub trace: Trace,
}

impl Asked {
    /// Tells where the answer came from, as `/stats` counts it.
    #[must_use]
    pub fn source(&self) -> Source {
        Source::new(self.answer.origin, self.answer.rcode())
    }
}

/// Answers a question by a configuration, as the daemon would with an empty cache.
///
/// # Errors
/// When the configuration cannot be used.
pub fn ask_ourselves(config: Option<&Path>, qname: &Name, qtype: Rtype, traced: bool) -> Result<Asked, RunError> {
    let loaded = build::read(config).map_err(RunError::Config)?;
    let (clock, stats) = (Clock::default(), Arc::new(Stats::default()));
    runtime()?.block_on(async {
        let state = build::state(loaded, &clock, &stats, None);
        let pipeline = Pipeline::new(state, clock, stats);
        let mut trace = if traced { Trace::on() } else { Trace::off() };
        let started = Instant::now();
        let answer = pipeline.answer(&Query::local(qname.clone(), qtype), &mut trace).await;
        Ok(Asked { qname: qname.clone(), qtype, answer, server: None, elapsed: started.elapsed(), trace })
    })
}

/// Whom to ask in place of ourselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// A server, written as in the configuration.
    Server(Box<ServerAddress>),
    /// A group of the configuration, or a server of one by its label.
    Label(String),
}

/// Asks one server or group, with nothing of ours in between but the matching of the reply. `config` is where a label is
/// looked up.
///
/// # Errors
/// When no reply came in time; for a label, when the configuration cannot be used or does not have it.
pub fn ask_upstream(config: Option<&Path>, whom: &Whom, qname: &Name, qtype: Rtype) -> Result<Asked, RunError> {
    let question = QuestionKey { qname: qname.clone(), qtype, dnssec_ok: false, checking_disabled: false };
    runtime()?.block_on(async {
        let (clock, stats) = (Clock::default(), Arc::default());
        let (upstreams, group) = match whom {
            Whom::Server(address) => {
                let upstreams = Upstreams::new(&by_itself(address), &[], clock, stats, Net::Real, None);
                // Whoever names it here has it looked up as every program of this machine would.
                upstreams.set_private_names(|_| false);
                (upstreams, GroupId(0))
            }
            Whom::Label(label) => {
                let mut loaded = build::read(config).map_err(RunError::Config)?;
                let (config, group) = labelled(&loaded.config, &loaded.system, label)?;
                loaded.config = Arc::new(config);
                (build::state(loaded, &clock, &stats, None).upstreams, group)
            }
        };
        let started = Instant::now();
        let ask = Ask { keep_edns: true, ..Ask::new(group, &question, started + BY_HAND) };
        let reply = match upstreams.ask(ask, &mut Trace::off()).await {
            Ok(reply) => reply,
            // An error code is an answer too, for someone who asks a server by hand.
            Err(failure) => failure
                .best
                .ok_or(RunError::NoAnswer(format!("no answer: {}", failure.summary.trim_start_matches('@'))))?,
        };
        let server = reply.server.trim_start_matches('@');
        let asked = format!("{server} over {}", reply.transport);
        let answer =
            as_answer(&reply.message).ok_or_else(|| RunError::NoAnswer(format!("{server} sent a malformed reply")))?;
        let elapsed = started.elapsed();
        Ok(Asked { qname: qname.clone(), qtype, answer, server: Some(asked), elapsed, trace: Trace::off() })
    })
}

/// Makes a configuration of one server, with what its address says and the defaults for all else. A name is looked up as
/// every program of this machine would.
fn by_itself(address: &ServerAddress) -> Config {
    let rung = address.rung();
    let shown = match address.host.socket_address(rung.port) {
        Some(address) => address.to_string(),
        None => address.to_string(),
    };
    let bootstrap = match address.host {
        UpstreamHost::Address(..) => Vec::new(),
        UpstreamHost::Name(_) => machine_resolvers(&[]).servers,
    };
    let options =
        UpstreamOptions { server_name: address.certificate_name.clone(), bootstrap, ..UpstreamOptions::default() };
    let label = format!("@{shown}");
    let server =
        Upstream { label: label.clone(), host: address.host.clone(), rungs: vec![rung], options: Arc::new(options) };
    let only = Group {
        name: label,
        servers: vec![server],
        auto: false,
        options: Arc::default(),
        strategy: Strategy::Order,
        timeout: BY_HAND,
        fallback: None,
    };
    Config { groups: vec![only], ..Config::default() }
}

/// Returns the configuration with nothing behind the group of this name, or with only the server of this label in its group.
fn labelled(config: &Config, system: &[SocketAddr], label: &str) -> Result<(Config, GroupId), RunError> {
    let mut config = config.clone();
    let unknown = || RunError::UnknownUpstream(label.to_owned());
    let (name, server) = label.split_once('/').map_or((label, None), |(name, _)| (name, Some(label)));
    let at = config.groups.iter().position(|group| group.name == name).ok_or_else(unknown)?;
    let group = &mut config.groups[at];
    group.fallback = None;
    if let Some(label) = server {
        let one = members(group, system).into_iter().find(|server| server.label == label).ok_or_else(unknown)?;
        (group.servers, group.auto) = (vec![one], false);
    }
    Ok((config, GroupId(u16::try_from(at).map_err(|_| unknown())?)))
}

/// Takes a reply as it is, its OPT turned into the extended error it holds.
fn as_answer(reply: &[u8]) -> Option<Answer> {
    let message = Message::parse(reply).ok()?;
    let ede = message.edns().ok().flatten().and_then(|edns| crate::dns::Ede::from_option(edns.option(15)?));
    Some(Answer { message: reply.into(), origin: Origin::Upstream, ede })
}

/// Shows a question and what came of it.
#[must_use]
pub fn as_json(asked: &Asked) -> Value {
    let steps: Vec<Value> = asked
        .trace
        .steps()
        .iter()
        .map(|step| {
            json!({
                "stage": step.stage.as_str(), "at_seconds": step.at.as_secs_f64(), "saw": step.saw,
                "decided": step.decided, "because": step.because,
            })
        })
        .collect();
    let view = asked.answer.view();
    json!({
        "qname": asked.qname.to_string(), "qtype": asked.qtype.to_string(),
        "rcode": asked.answer.rcode().to_string(), "source": asked.source().as_str(), "server": asked.server,
        "elapsed_seconds": asked.elapsed.as_secs_f64(),
        "authoritative": view.has(flag::AA), "authentic": view.has(flag::AD), "truncated": view.has(flag::TC),
        "ede": asked.answer.ede.as_ref().map(|ede| json!({ "code": ede.code, "text": ede.text })),
        "answer": records_json(&asked.answer.records(Section::Answer)),
        "authority": records_json(&asked.answer.records(Section::Authority)),
        "trace": steps,
    })
}

/// Shows records.
pub(super) fn records_json(records: &[Record]) -> Value {
    let one = |record: &Record| {
        json!({
            "name": record.owner.to_string(), "type": record.rtype.to_string(), "ttl_seconds": record.ttl,
            "data": presentation::rdata_text(record),
        })
    };
    records.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    /// Asks a label of a configuration for a name, in vain, and returns why.
    fn in_vain(text: &str, label: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("truename.toml");
        std::fs::write(&path, format!("{text}\n[hosts]\nfiles = []\n")).unwrap();
        let qname = Name::parse("www.example.org").unwrap();
        ask_upstream(Some(&path), &Whom::Label(label.to_owned()), &qname, Rtype::A).unwrap_err().to_string()
    }

    #[test]
    fn a_server_of_a_private_name_is_not_looked_for_with_public_ones() {
        // The machine's own resolvers are not to be asked by a test.
        let text = r#"
            [server]
            listen = ["127.0.0.1:5353"]
            [upstream.system]
            servers = ["127.0.0.1:5353"]
            [upstream.g]
            servers = ["tls://dns.corp.example", "192.0.2.53"]
            [[route]]
            names = ["corp.example"]
            upstream = "g"
            private = true
        "#;
        let why = in_vain(text, "g/tls://dns.corp.example");
        assert!(why.contains("there is nobody to ask for dns.corp.example"), "{why}");
    }

    #[test]
    fn our_own_listener_is_not_asked() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let own = socket.local_addr().unwrap();
        let why = in_vain(&format!("[server]\nlisten = [\"{own}\"]\n[upstream.g]\nservers = [\"{own}\"]"), "g");
        assert!(why.contains("no answer"), "{why}");
        assert!(socket.peek(&mut [0; 1]).is_err(), "nothing was sent there");
    }
}
