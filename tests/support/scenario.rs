//! Plays scenario files: a configuration, upstreams in memory, a simulated clock, and steps with what must come of
//! them. `tests/scenarios/README.md` says how to write one.
//!
//! Everything between a client's bytes and an upstream's bytes is the real program: the fast path, the pipeline, the
//! exchange with its plans and retries. Only the sockets and the clock are played, so that hours take milliseconds.

mod file;
mod net;
mod record;

use file::{Address, EdeCode, Flag, Over, Question, Scenario, Step, Text};
use net::Net;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use truename::clock::Clock;
use truename::config::source::Source;
use truename::config::{Diagnostic, GroupId, load_text};
use truename::dns::address::is_private;
use truename::dns::wire::{self, Message, Section, flag};
use truename::dns::{Arrival, Ede, Name, Origin, Query, QuestionKey, Record, Trace, Transport, encode};
use truename::pipeline::cache::Cache;
use truename::pipeline::route::Routes;
use truename::pipeline::zone::Zones;
use truename::pipeline::{Parts, Pipeline, State};
use truename::stats::{self, Stats};
use truename::upstream::{self, Upstreams};

/// The id of every client's query.
const ID: u16 = 0x1234;
/// The date of every configuration, in Unix seconds.
const CONFIG_DATE: u64 = 1_700_000_000;
/// The payload size that clients announce.
const PAYLOAD_BYTES: u16 = 1232;

/// Plays the scenario in a file.
///
/// # Errors
/// What is wrong with the file, or which step did not go as it says: place, found, expected, and the trace.
pub(crate) fn play_file(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    play(path, &text)
}

/// Plays a scenario as if it stood in a file of that name.
pub(crate) fn play(path: &Path, text: &str) -> Result<(), String> {
    let scenario: Scenario = toml::from_str(text).map_err(|error| format!("{}: {error}", path.display()))?;
    let source = Source::new(path, text.to_owned());
    let place = |step: &toml::Spanned<Step>| source.locate(step.span().start).to_string();
    if let Some((step, fault)) = scenario.steps.iter().find_map(|step| Some((step, step.get_ref().fault()?))) {
        return Err(format!("{}: {fault}", place(step)));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O").block_on(async {
        let stage = Stage::build(&scenario).map_err(|error| format!("{}: {error}", path.display()))?;
        for (number, step) in scenario.steps.iter().enumerate() {
            let done = Box::pin(stage.play(step.get_ref(), &scenario)).await;
            done.map_err(|wrong| format!("{}: step {} of \"{}\"\n{wrong}", place(step), number + 1, scenario.claim))?;
        }
        Ok(())
    })
}

/// Everything a scenario is played on.
struct Stage {
    net: Arc<Net>,
    pipeline: Arc<Pipeline>,
    clock: Clock,
    stats: Arc<Stats>,
    /// The scenario's files; gone with the stage.
    folder: tempfile::TempDir,
}

/// What a client got.
struct Seen {
    bytes: Vec<u8>,
    origin: Origin,
    elapsed: Duration,
    trace: String,
}

impl Stage {
    fn build(scenario: &Scenario) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        for (name, text) in &scenario.files {
            std::fs::write(folder.path().join(name), text).map_err(|error| format!("{name}: {error}"))?;
        }
        let net = Arc::new(Net::default());
        scenario.upstreams.iter().cloned().for_each(|upstream| net.set(upstream));
        let (clock, stats) = (Clock::simulated(), Arc::new(Stats::default()));
        let state = state(scenario, &scenario.config, folder.path(), &clock, &stats, &net, None)?;
        let pipeline = Arc::new(Pipeline::new(state, clock.clone(), Arc::clone(&stats)));
        net.pipeline.set(Arc::downgrade(&pipeline)).expect("set once");
        Ok(Self { net, pipeline, clock, stats, folder })
    }

    async fn play(&self, step: &Step, scenario: &Scenario) -> Result<(), String> {
        if let Some(Text(span)) = step.pass {
            tokio::time::sleep(span.0).await;
        }
        if let Some(Text(span)) = step.sleep_machine {
            self.clock.sleep_through(span.0);
        }
        if let Some(text) = &step.reload {
            let now = self.pipeline.state();
            let next = state(scenario, text, self.folder.path(), &self.clock, &self.stats, &self.net, Some(&now))?;
            self.pipeline.replace(next);
        }
        if let Some(upstream) = &step.upstream {
            self.net.set(upstream.clone());
        }
        let before = self.net.take_asked();
        let asked = match &step.ask {
            Some(Text(question)) => self.ask(step, question).await?,
            None => Vec::new(),
        };
        let leaked = before.iter().chain(&asked).find_map(|(address, name)| {
            let forbidden = |never: &&Text<file::Never>| never.0.0 == *address && name.is_at_or_below(&never.0.1);
            scenario.never_asked.iter().find(forbidden).map(|_| format!("  {address} was asked for {name}"))
        });
        leaked.map_or(Ok(()), Err)
    }

    /// Lets clients ask, and holds what they get against what the step expects.
    async fn ask(&self, step: &Step, question: &Question) -> Result<Vec<(Address, Name)>, String> {
        let mut last_trace = String::new();
        for n in 1..=step.repeat.unwrap_or(1) {
            let name = Name::parse(&question.name.replace("{n}", &n.to_string())).expect("read with the file");
            let clients = (0..step.at_once.unwrap_or(1)).map(|_| {
                let (pipeline, step, name) = (Arc::clone(&self.pipeline), step.clone(), name.clone());
                tokio::spawn(async move { Box::pin(ask(&pipeline, &step, &name)).await })
            });
            for client in clients.collect::<Vec<_>>() {
                let seen = client.await.map_err(|error| format!("  the pipeline panicked: {error}"))?;
                check(step, &seen).map_err(|wrong| format!("  {name}: {wrong}\n{}", seen.trace))?;
                last_trace = seen.trace;
            }
        }
        let asked = self.net.take_asked();
        let Some(expected) = &step.asked else { return Ok(asked) };
        let mut found: BTreeMap<Address, usize> = BTreeMap::new();
        asked.iter().for_each(|(address, _)| *found.entry(*address).or_default() += 1);
        for address in expected.keys().map(|address| address.0).chain(found.keys().copied().collect::<Vec<_>>()) {
            let count = found.get(&address).copied().unwrap_or(0);
            let takes = expected.get(&Text(address)).map_or(count == 0, |expected| expected.takes(count));
            if !takes {
                let expected = expected.get(&Text(address)).map_or_else(|| "0".to_owned(), ToString::to_string);
                return Err(format!("  queries to {address}: found {count}, expected {expected}\n{last_trace}"));
            }
        }
        Ok(asked)
    }
}

/// Builds a state as the daemon does, on the simulated network.
fn state(
    scenario: &Scenario,
    text: &str,
    folder: &Path,
    clock: &Clock,
    stats: &Arc<Stats>,
    net: &Arc<Net>,
    previous: Option<&State>,
) -> Result<State, String> {
    let hosts = if text.contains("[hosts]") { "" } else { "\n[hosts]\nfiles = []\n" };
    let loaded = load_text(&folder.join("truename.toml").to_string_lossy(), &format!("{text}{hosts}"));
    let errors = |found: &[Diagnostic]| {
        let lines = found.iter().filter(|problem| problem.is_error()).map(|problem| format!("  {problem:?}\n"));
        lines.collect::<String>()
    };
    let config = loaded.config.ok_or_else(|| format!("the configuration:\n{}", errors(&loaded.diagnostics)))?;
    let system: Vec<SocketAddr> = scenario.system.iter().map(|address| address.0.0).collect();
    let search: Vec<Name> = scenario.search.iter().map(|name| name.0.clone()).collect();
    let (zones, mut problems) = Zones::load(&config, CONFIG_DATE);
    let private = |group: GroupId| {
        let group = config.group(group);
        let given = system.iter().filter(|_| group.auto).map(|address| Some(address.ip()));
        let mut all = group.servers.iter().map(|server| server.host.ip()).chain(given).peekable();
        all.peek().is_some() && all.all(|ip| ip.is_some_and(is_private))
    };
    let (routes, more) = Routes::load(&config, &private, &search);
    problems.extend(more);
    if problems.iter().any(Diagnostic::is_error) {
        return Err(format!("the configuration:\n{}", errors(&problems)));
    }
    let config = Arc::new(config);
    let kept = previous.filter(|previous| previous.config.cache == config.cache);
    let cache = kept.map_or_else(|| Arc::new(Cache::new(&config.cache)), |previous| Arc::clone(&previous.cache));
    let played: Arc<dyn upstream::SimulatedNet> = Arc::<Net>::clone(net);
    let upstreams = Upstreams::new(
        &config,
        &system,
        clock.clone(),
        Arc::clone(stats),
        upstream::Net::Simulated(played),
        previous.map(|previous| &previous.upstreams),
    );
    upstreams.set_own_addresses(&config.server.listen);
    let state = State::new(Parts { config, zones: zones.into(), routes: routes.into(), upstreams, system, cache });
    state.upstreams.set_private_names(|name| state.is_private_name(name));
    Ok(state)
}

/// Asks as a client does: the fast path first, then the pipeline; what comes back is bytes.
async fn ask(pipeline: &Pipeline, step: &Step, qname: &Name) -> Seen {
    let has = |wanted: Flag| step.flags.contains(&Text(wanted));
    let key = QuestionKey {
        qname: qname.clone(),
        qtype: step.ask.as_ref().and_then(|question| question.0.rtype).expect("checked with the step"),
        dnssec_ok: has(Flag::DnssecOk),
        checking_disabled: has(Flag::Header(flag::CD, "CD")),
    };
    let mut bytes = encode::upstream_query(&key, ID, (!has(Flag::NoEdns)).then_some(PAYLOAD_BYTES));
    let mut bits = u16::from_be_bytes([bytes[2], bytes[3]]);
    bits |= if has(Flag::Header(flag::AD, "AD")) { flag::AD } else { 0 };
    bits &= if has(Flag::NoRecursion) { !flag::RD } else { u16::MAX };
    bytes[2..4].copy_from_slice(&bits.to_be_bytes());
    let parsed = wire::parse_query(&bytes).expect("a well-formed query");
    let address = |given: &Option<Text<Address>>| {
        given.map_or_else(|| SocketAddr::from(([127, 0, 0, 1], 53)), |address| address.0.0)
    };
    let (client, local) = (address(&step.client), address(&step.listener));
    let transport = if step.over == Over::Tcp { Transport::Tcp } else { Transport::Udp };
    let arrival = Arrival { client, local, transport };
    let mut out = Vec::new();
    let start = Instant::now();
    // As the listeners do: who may not ask gets nothing from the fast path.
    let mut fast = pipeline.fast_path();
    if fast.allows(client.ip())
        && let Some(decided) = fast.answer_cached(&parsed, &arrival, pipeline.now(), &mut out)
    {
        let trace = "    answered by the cache's fast path\n".to_owned();
        return Seen { bytes: out, origin: decided.origin, elapsed: start.elapsed(), trace };
    }
    drop(fast);
    out.clear();
    let query = Query::from_wire(&parsed, &arrival);
    let mut trace = Trace::on();
    let answer = Box::pin(pipeline.answer(&query, &mut trace)).await;
    pipeline.respond(&query, &answer, &mut out);
    let mut lines = String::new();
    for step in trace.steps() {
        let at = step.at.as_secs_f64() * 1000.0;
        let _ = writeln!(lines, "  {at:8.1} ms  {:8}  {} | {} | {}", step.stage, step.saw, step.decided, step.because);
    }
    Seen { bytes: out, origin: answer.origin, elapsed: start.elapsed(), trace: lines }
}

/// Holds what a client got against what the step expects.
fn check(step: &Step, seen: &Seen) -> Result<(), String> {
    let message = Message::parse(&seen.bytes).map_err(|error| format!("the answer cannot be read: {error}"))?;
    if message.id() != ID {
        return wrong("id", &message.id(), &ID);
    }
    if let Some(Text(code)) = step.rcode
        && message.extended_rcode() != code.0
    {
        return wrong("rcode", &message.extended_rcode(), &code.0);
    }
    for (section, expected) in [(Section::Answer, &step.answer), (Section::Authority, &step.authority)] {
        let Some(expected) = expected else { continue };
        let found: Vec<String> = message
            .section(section)
            .map(|at| Record::from_message(&message, &at).map(|record| record::line(&record)))
            .collect::<Result<_, _>>()
            .map_err(|error| format!("the answer cannot be read: {error}"))?;
        let expected: Vec<String> = expected.iter().map(|line| record::line(&line.0.0)).collect();
        if found != expected {
            return wrong(&format!("{section:?}").to_lowercase(), &list(&found), &list(&expected));
        }
    }
    let given = message.edns().map_err(|error| format!("the answer's OPT cannot be read: {error}"))?;
    let given = given.and_then(|edns| Ede::from_option(edns.option(15)?));
    let shown = given.as_ref().map_or_else(|| "none".to_owned(), |ede| format!("{} ({})", ede.code, ede.text));
    let expected = step.ede.as_ref().map(|ede| match ede {
        EdeCode::Code(code) => Some(*code),
        EdeCode::Word(_) => None,
    });
    if let Some(expected) = expected
        && given.as_ref().map(|ede| ede.code) != expected
    {
        return wrong("ede", &shown, &expected.map_or_else(|| "none".to_owned(), |code| code.to_string()));
    }
    if let Some(part) = &step.ede_text
        && !given.is_some_and(|ede| ede.text.contains(part.as_str()))
    {
        return wrong("ede text", &shown, part);
    }
    let source = stats::Source::new(seen.origin, message.extended_rcode()).as_str();
    if let Some(expected) = &step.source
        && source != expected
    {
        return wrong("source", &source, expected);
    }
    for (wanted, flags) in [(true, &step.has), (false, &step.lacks)] {
        for Text(bit) in flags {
            if let Flag::Header(bit, name) = *bit
                && message.has(bit) != wanted
            {
                let word = |is_set: bool| if is_set { "set" } else { "not set" };
                return wrong(name, &word(!wanted), &word(wanted));
            }
        }
    }
    if let Some(Text(bound)) = step.within.filter(|bound| seen.elapsed > bound.0.0) {
        return wrong("time", &format!("{:?}", seen.elapsed), &format!("at most {:?}", bound.0));
    }
    if let Some(Text(bound)) = step.not_before.filter(|bound| seen.elapsed < bound.0.0) {
        return wrong("time", &format!("{:?}", seen.elapsed), &format!("at least {:?}", bound.0));
    }
    Ok(())
}

fn wrong(what: &str, found: &dyn std::fmt::Display, expected: &dyn std::fmt::Display) -> Result<(), String> {
    Err(format!("{what}\n    found     {found}\n    expected  {expected}"))
}

fn list(lines: &[String]) -> String {
    if lines.is_empty() { "nothing".to_owned() } else { lines.join("\n              ") }
}
