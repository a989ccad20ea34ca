//! Why an answer is what it is: one question run with its trace on, and what the trace says put in order.

use super::once::{self, Asked, records_json};
use super::{RunError, build, runtime};
use crate::clock::Clock;
use crate::config::Route;
use crate::dns::answer::Record as Resource;
use crate::dns::trace::{Seen, Step};
use crate::dns::wire::{Message, Section, flag};
use crate::dns::{Name, Origin, Query, QuestionKey, Rtype, Stage, Trace, Transport};
use crate::pipeline::guard::verdict::Sign;
use crate::pipeline::said::{Record, Said};
use crate::pipeline::{Pipeline, State};
use crate::stats::Stats;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use tokio::time::Instant;

/// What the document is.
const SCHEMA: &str = "truename.explain/1";
/// The port of a client that is only supposed.
const SUPPOSED_PORT: u16 = 1;

/// What is to be explained.
#[derive(Debug, Clone)]
pub struct Explain {
    /// The name.
    pub qname: Name,
    /// Its type.
    pub qtype: Rtype,
    /// Who is supposed to ask; this machine without it.
    pub client: Option<IpAddr>,
    /// Ask anew, whatever is cached; what comes is not kept.
    pub fresh: bool,
}

/// Explains an answer by a configuration, as a daemon with an empty cache would give it.
///
/// # Errors
/// When the configuration cannot be used.
pub fn explain_ourselves(config: Option<&Path>, what: Explain) -> Result<Value, RunError> {
    let loaded = build::read(config).map_err(RunError::Config)?;
    let (clock, stats) = (Clock::default(), Arc::new(Stats::default()));
    runtime()?.block_on(async {
        let state = build::state(loaded, &clock, &stats, None);
        Ok(explain(&Pipeline::new(state, clock, stats), what).await)
    })
}

/// Runs the question and puts in order what every stage said about it.
pub(super) async fn explain(pipeline: &Pipeline, what: Explain) -> Value {
    let state = pipeline.state();
    let query = query(&state, &what);
    let mut trace = Trace::on();
    let started = Instant::now();
    let answer = if what.fresh {
        pipeline.answer_fresh(&query, &mut trace).await
    } else {
        pipeline.answer(&query, &mut trace).await
    };
    let elapsed = started.elapsed();
    let Explain { qname, qtype, .. } = what;
    let asked = Asked { qname, qtype, answer, server: None, elapsed, trace };
    let mut document = once::as_json(&asked);
    let stage = |stage: Stage| {
        let step = asked.trace.steps().iter().find(|step| step.stage == stage);
        step.map(|step| json!({ "saw": step.saw, "decided": step.decided, "because": step.because }))
    };
    document["schema"] = SCHEMA.into();
    document["client"] = what.client.map(|client| client.to_string()).into();
    document["fresh"] = what.fresh.into();
    for (key, at) in [
        ("access", Stage::Access),
        ("view", Stage::View),
        ("cache", Stage::Cache),
        ("zone", Stage::Zone),
        ("store", Stage::Store),
    ] {
        document[key] = stage(at).into();
    }
    document["route"] = stage(Stage::Route).map(|said| route(&state, &query, said)).into();
    let known = if asked.trace.replies().is_empty() && is_remembered(asked.answer.origin) {
        pipeline.said_about(&query, &asked.answer)
    } else {
        Vec::new()
    };
    let age = |record: &Record| pipeline.now().since(record.at).as_secs();
    document["recorded"] = known.first().map(|(_, record)| json!({ "age_seconds": age(record) })).into();
    let seen: Vec<Seen> = known.iter().flat_map(|(_, record)| &record.said).map(seen_then).collect();
    let seen = if seen.is_empty() { asked.trace.replies() } else { &seen };
    document["upstreams"] = seen.iter().map(|seen| candidate(&state, seen)).collect();
    let failed = asked.trace.steps().iter().filter(|step| step.stage == Stage::Exchange && is_failure(&step.decided));
    let failed_then = known.iter().filter_map(|(question, record)| Some((question, record.failure.as_ref()?)));
    document["failures"] = failed
        .map(|step| json!({ "about": step.saw, "what": step.decided, "because": step.because }))
        .chain(failed_then.map(|(of, why)| json!({ "about": about(of), "what": "no answer", "because": why })))
        .collect();
    let judged = asked.trace.steps().iter().filter(|step| step.stage == Stage::Guard);
    let judged_then = known.iter().filter_map(|(question, record)| Some((question, record.found.as_ref()?)));
    document["guard"] = judged
        .map(|step| json!({ "decided": step.decided, "evidence": evidence(&step.because), "about": step.saw }))
        .chain(judged_then.map(
            |(of, found)| json!({ "decided": found.decided, "evidence": evidence(&found.because), "about": about(of) }),
        ))
        .collect();
    let shown = asked.trace.steps().iter().filter(|step| step.stage == Stage::Proof);
    let shown_then = known.iter().filter_map(|(_, record)| record.found.as_ref()).flat_map(|found| &found.proofs);
    document["proofs"] =
        shown
            .map(|step| json!({ "address": step.saw, "shown": step.decided, "means": step.because }))
            .chain(shown_then.map(
                |proof| json!({ "address": proof.address.to_string(), "shown": proof.shown, "means": proof.told }),
            ))
            .collect();
    document["ttl"] = ttls(&asked, seen).into();
    document
}

/// Tells whether an answer was made of what upstreams said at another time.
fn is_remembered(origin: Origin) -> bool {
    matches!(origin, Origin::Cache | Origin::Stale)
}

/// Takes a reply of then as one that was seen.
fn seen_then(said: &Said) -> Seen {
    let (upstream, transport) = (said.server.to_string(), said.transport.to_string());
    Seen { upstream, transport, rtt: said.rtt, message: said.message.clone() }
}

fn about(question: &QuestionKey) -> String {
    format!("{} {}", question.qname, question.qtype)
}

/// Tells whether the exchange speaks of something that did not go well.
fn is_failure(decided: &str) -> bool {
    ["no answer", "not an answer", "cannot be reached", "not asked"].contains(&decided)
}

/// Makes the question as its client would ask it.
fn query(state: &State, what: &Explain) -> Query {
    let query = Query::local(what.qname.clone(), what.qtype);
    let Some(client) = what.client else { return query };
    let same_family = |listen: &&SocketAddr| listen.is_ipv4() == client.is_ipv4();
    let listen = &state.config.server.listen;
    let local = listen.iter().find(same_family).or(listen.first()).copied().unwrap_or(query.local);
    Query { client: SocketAddr::new(client, SUPPOSED_PORT), local, transport: Transport::Udp, ..query }
}

/// Adds to what the stage said which policy counts, and which routes have the name too but lose.
fn route(state: &State, query: &Query, mut said: Value) -> Value {
    let qname = query.qname.to_lower();
    let choice = state.route_of(query, &qname);
    let winner = choice.route.map(|route| &route.name);
    said["name"] = winner.map_or("default", String::as_str).into();
    said["pattern"] = choice.pattern().into();
    said["private"] = choice.private.into();
    said["guard"] = choice.guard.as_str().into();
    let has = |route: &Route| route.patterns.iter().find(|pattern| pattern.takes(&qname)).map(ToString::to_string);
    let all = state.config.routes.iter().chain(&state.config.built_in);
    let others = all.filter(|route| Some(&route.name) != winner);
    said["losing"] = others
        .filter_map(|route| {
            let at = route.at.to_string();
            has(route).map(|pattern| json!({ "name": route.name, "pattern": pattern, "at": at }))
        })
        .collect();
    said
}

/// Shows a reply that came on the way, whether or not it was used.
fn candidate(state: &State, seen: &Seen) -> Value {
    let references = state.config.guard.references;
    let mut shown = json!({
        "upstream": seen.upstream,
        "transport": seen.transport,
        "elapsed_seconds": seen.rtt.as_secs_f64(),
        "trusted": state.upstreams.is_member(references, &seen.upstream),
    });
    if let Ok(message) = Message::parse(&seen.message) {
        let flags = [(flag::AA, "aa"), (flag::RA, "ra"), (flag::AD, "ad")];
        let set: Vec<&str> = flags.into_iter().filter_map(|(bit, name)| message.has(bit).then_some(name)).collect();
        shown["rcode"] = message.extended_rcode().to_string().into();
        shown["flags"] = set.into();
        shown["answer"] = records_json(&answers(&message));
    }
    shown
}

fn answers(message: &Message<'_>) -> Vec<Resource> {
    message.section(Section::Answer).filter_map(|at| Resource::from_message(message, &at).ok()).collect()
}

/// Turns the words of signs back into what they mean and weigh.
fn evidence(words: &str) -> Value {
    let sign = |word: &str| Sign::ALL.iter().find(|sign| sign.as_str() == word);
    let known = words.split(", ").filter_map(sign);
    known.map(|sign| json!({ "sign": sign.as_str(), "weight": sign.weight(), "means": sign.help() })).collect()
}

/// Returns the names of the answer's alias chain, each with the step that took its records out of the cache, if one did.
fn chain_of(asked: &Asked) -> Vec<(Name, Option<&Step>)> {
    let message = asked.answer.view();
    let targets = message.section(Section::Answer).filter(|at| at.rtype == Rtype::CNAME);
    let targets = targets.filter_map(|at| Some(message.target(&at).ok()?.to_name()));
    let mut last = None;
    let names = std::iter::once(asked.qname.clone()).chain(targets);
    let named = names.map(|name| {
        let saw = format!("{} {}", name.to_lower(), asked.qtype);
        let mut steps = asked.trace.steps().iter().rev();
        // A name that nobody looked for by itself came with the one before it.
        if let Some(step) = steps.find(|step| step.stage == Stage::Cache && step.saw == saw) {
            let is_used = match &*step.decided {
                "miss" => false,
                "hit" => true,
                // Of what is stale something better may have come.
                _ => asked.answer.origin == Origin::Stale,
            };
            last = is_used.then_some(step);
        }
        (name, last)
    });
    named.collect()
}

/// Sets the TTL of each record that goes out beside the one it came with.
fn ttls(asked: &Asked, seen: &[Seen]) -> Vec<Value> {
    let came: Vec<Resource> = seen
        .iter()
        .filter_map(|seen| Message::parse(&seen.message).ok().map(|message| answers(&message)))
        .flatten()
        .collect();
    let chain = chain_of(asked);
    let out = asked.answer.records(Section::Answer);
    let same = |one: &Resource, other: &Resource| {
        (one.rtype, &one.rdata) == (other.rtype, &other.rdata) && one.owner == other.owner
    };
    out.iter()
        .map(|record| {
            let cached = chain.iter().find(|(name, _)| *name == record.owner);
            // A DNAME stands above the name that it changes.
            let cached = cached.or_else(|| chain.iter().find(|(name, _)| name.is_at_or_below(&record.owner)));
            let from = came.iter().filter(|other| same(record, other)).map(|other| other.ttl).max();
            let because = match (from, cached.and_then(|(_, step)| *step)) {
                (_, Some(step)) => format!("counted down in the cache: {}", step.because),
                (Some(from), _) if from == record.ttl => "as it came".to_owned(),
                (Some(_), _) if asked.answer.ede.is_some() => "kept briefly: see the extended error".to_owned(),
                (Some(_), _) => "brought within the limits of [cache]".to_owned(),
                (None, None) => "as it is written here".to_owned(),
            };
            json!({ "name": record.owner.to_string(), "type": record.rtype.to_string(), "came_seconds": from, "served_seconds": record.ttl, "because": because })
        })
        .collect()
}
