//! One question, answered in process, without listeners or daemon.

use super::RunError;
use super::build;
use crate::clock::Clock;
use crate::config::{Config, Group, GroupId, Strategy, Upstream, UpstreamTransport};
use crate::dns::wire::Message;
use crate::dns::{Answer, Name, Origin, Query, QuestionKey, Rtype, Trace};
use crate::pipeline::{BUDGET, Pipeline};
use crate::stats::Stats;
use crate::upstream::{Acceptance, Ask, Net, Upstreams};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A question with what came of it.
#[derive(Debug)]
pub struct Asked {
    /// The name asked.
    pub qname: Name,
    /// The type asked.
    pub qtype: Rtype,
    /// What was answered.
    pub answer: Answer,
    /// Who answered, for people.
    pub source: String,
    /// How long it took.
    pub elapsed: Duration,
    /// The stages' lines, when they were asked for.
    pub trace: Trace,
}

/// Answers a question by a configuration, as the daemon would with an empty cache.
///
/// # Errors
/// When the configuration cannot be used.
pub fn ask_ourselves(config: Option<&Path>, qname: &Name, qtype: Rtype, traced: bool) -> Result<Asked, RunError> {
    let loaded = build::read(config, &[], &[]).map_err(RunError::Config)?;
    let (clock, stats) = (Clock::default(), Arc::new(Stats::default()));
    runtime()?.block_on(async {
        let state = build::state(loaded, &clock, &stats, None);
        let pipeline = Pipeline::new(state, clock, stats);
        let mut trace = if traced { Trace::on() } else { Trace::off() };
        let started = Instant::now();
        let answer = pipeline.answer(&Query::local(qname.clone(), qtype), &mut trace).await;
        let itself = answer.origin == Origin::Own;
        let source = if itself { "truename itself".to_owned() } else { answer.origin.to_string() };
        Ok(Asked { qname: qname.clone(), qtype, answer, source, elapsed: started.elapsed(), trace })
    })
}

/// Asks one server, with nothing of ours in between but the matching of its reply.
///
/// # Errors
/// When no reply came within the budget.
pub fn ask_server(server: SocketAddr, qname: &Name, qtype: Rtype) -> Result<Asked, RunError> {
    let label = format!("@{server}");
    let only = Group {
        name: label.clone(),
        servers: vec![Upstream::plain(label, UpstreamTransport::Udp, server)],
        auto: false,
        options: Arc::default(),
        strategy: Strategy::Order,
        timeout: BUDGET,
        fallback: None,
    };
    let config = Config { groups: vec![only], ..Config::default() };
    let question = QuestionKey { qname: qname.clone(), qtype, dnssec_ok: false, checking_disabled: false };
    runtime()?.block_on(async {
        let upstreams = Upstreams::new(&config, &[], Clock::default(), Arc::default(), Net::Real, None);
        let started = Instant::now();
        let ask = Ask {
            group: GroupId(0),
            question: &question,
            deadline: started + BUDGET,
            only_private: false,
            resort: false,
            acceptable: &|_, _| Acceptance::Accept,
            heir: None,
        };
        let reply = match upstreams.ask(ask, &mut Trace::off()).await {
            Ok(reply) => reply,
            // An error code is an answer too, for someone who asks a server by hand.
            Err(failure) => failure
                .best
                .ok_or(RunError::NoAnswer(format!("no answer: {}", failure.summary.trim_start_matches('@'))))?,
        };
        let source = format!("{server} over {}", reply.transport);
        let answer =
            as_answer(&reply.message).ok_or_else(|| RunError::NoAnswer(format!("{server} sent a malformed reply")))?;
        Ok(Asked { qname: qname.clone(), qtype, answer, source, elapsed: started.elapsed(), trace: Trace::off() })
    })
}

/// Takes a reply as it is, its OPT turned into the extended error it holds.
fn as_answer(reply: &[u8]) -> Option<Answer> {
    let message = Message::parse(reply).ok()?;
    let ede = message.edns().ok().flatten().and_then(|edns| crate::dns::Ede::from_option(edns.option(15)?));
    Some(Answer { message: reply.into(), origin: Origin::Upstream, ede })
}

fn runtime() -> Result<tokio::runtime::Runtime, RunError> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|source| RunError::System { what: "cannot start the runtime", source })
}
