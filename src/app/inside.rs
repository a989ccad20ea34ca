//! What the control sockets see of a daemon, and what they may have it do.

use super::explain;
use super::life::{Life, written};
use super::once::{self, Asked};
use super::probing::{Probes, unknown};
use super::wanted::{Wanting, What};
use crate::clock::{self, Tick};
use crate::config::{ListFormat, OnFailure, ViewId, diagnostic, load};
use crate::control::report::{self, Counts, Guard, Latency};
use crate::control::{self, Daemon, Matching, Outcome, Problem};
use crate::dns::answer::Record;
use crate::dns::wire::{Message, Section, flag};
use crate::dns::{Name, Origin, Query, Rtype, Tag, Trace};
use crate::listen::InFlight;
use crate::pipeline::cache::Flush;
use crate::pipeline::guard::incident::{Incident, IncidentId, Packet, WallTime};
use crate::pipeline::guard::verdict::Sign;
use crate::pipeline::{Pipeline, State};
use crate::stats::{Answers, Counter, Source, Stats};
use crate::system::{process, takeover};
use crate::upstream::{Mishap, ServerStatus, Standing, WrongClock};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::time::Instant;

/// A daemon from the side of the control sockets.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) life: Arc<Life>,
    pub(super) in_flight: InFlight,
    pub(super) wanting: Wanting,
    pub(super) probes: Probes,
    /// How it is with the names of this machine.
    pub(super) names: takeover::Watched,
}

impl Inside {
    fn sums(&self, stats: &Stats, now: Tick) -> report::Stats {
        let state = self.pipeline.state();
        let answers = stats.answers();
        let mut latencies = report::Stats::default().latency_seconds;
        for source in Source::ALL {
            latencies.insert(source.as_str().to_owned(), Latency::from(answers.latency(source).clone()));
        }
        latencies.insert("all".to_owned(), Latency::from(answers.latency_of_all()));
        let (started, not_ready) = (self.life.started(), self.ready().err());
        report::Stats {
            schema: report::SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generated_at: written(clock::wall()),
            started_at: self.life.started_at(),
            uptime_seconds: now.since(started).as_secs_f64(),
            ready: not_ready.is_none(),
            not_ready,
            config: self.life.config(),
            system: system(&self.names.told()),
            queries: report::Queries {
                total: answers.total(),
                in_flight: as_u64(self.in_flight.get()),
                queries_per_second_1m: (answers.per_second(now, started) * 100.0).round() / 100.0,
                by_proto: counts(answers.by_protocol()),
                by_type: counts(answers.by_type()),
                by_rcode: counts(answers.by_rcode()),
                by_source: counts(answers.by_source()),
                dropped_total: counts(vec![
                    ("malformed", stats.get(Counter::DroppedSilent)),
                    ("unsent", stats.get(Counter::SendFailed)),
                ]),
            },
            cache: cache(&state, stats, &answers),
            latency_seconds: latencies,
            upstreams: upstreams(&state, now),
            wrong_clock: state.upstreams.wrong_clock().map(|clock| wrong_clock(&clock)),
            guard: guard(&self.pipeline, stats),
            zones: zones(&state, &answers),
            routes: routes(&state, &answers),
            views: views(&state, &answers),
            process: usage(),
            counters: Counter::ALL.iter().map(|counter| (counter.name().to_owned(), stats.get(*counter))).collect(),
            asked: answers.asked(),
            answered: answers.answered(),
        }
    }
}

impl Daemon for Inside {
    fn moment(&self) -> Tick {
        self.pipeline.now()
    }

    fn stats(&self) -> report::Stats {
        self.sums(self.pipeline.stats(), self.pipeline.now())
    }

    fn ready(&self) -> Result<(), String> {
        let state = self.pipeline.state();
        let group = state.config.default.upstream;
        if state.upstreams.group_is_down(group) {
            let name = &state.config.group(group).name;
            return Err(format!("no upstream of the group {name:?}, which the default asks, is up"));
        }
        Ok(())
    }

    fn lists(&self) -> Value {
        let state = self.pipeline.state();
        let of_route = |route: &crate::config::Route| {
            let name = route.name.clone();
            let list = move |list: &crate::config::ListFile| {
                let format = match list.format {
                    ListFormat::Domains => "domains",
                    ListFormat::Hosts => "hosts",
                    ListFormat::Dnsmasq => "dnsmasq",
                };
                json!({ "path": list.path.display().to_string(), "format": format, "route": name })
            };
            route.lists.iter().map(list).collect::<Vec<_>>()
        };
        state.config.routes.iter().flat_map(of_route).collect()
    }

    fn views(&self) -> Value {
        let state = self.pipeline.state();
        let written = state.config.views.iter().map(|view| {
            let clients: Vec<String> = view.clients.iter().map(ToString::to_string).collect();
            let listen: Vec<String> = view.listen.iter().map(ToString::to_string).collect();
            json!({ "name": view.name, "clients": clients, "listen": listen })
        });
        written.chain([json!({ "name": "default", "clients": [], "listen": [] })]).collect()
    }

    async fn query(&self, qname: Name, qtype: Rtype) -> Value {
        let started = Instant::now();
        let mut trace = Trace::on();
        let answer = self.pipeline.answer(&Query::local(qname.clone(), qtype), &mut trace).await;
        let source =
            if answer.origin == Origin::Own { "truename itself".to_owned() } else { answer.origin.to_string() };
        once::as_json(&Asked { qname, qtype, answer, source, elapsed: started.elapsed(), trace })
    }

    async fn explain(&self, question: control::Explain) -> Value {
        let control::Explain { qname, qtype, client, fresh } = question;
        explain::explain(&self.pipeline, explain::Explain { qname, qtype, client, fresh }).await
    }

    fn incidents(&self, open: bool) -> Value {
        let all = self.pipeline.incidents();
        let listed = all.iter().rev().filter(|incident| !(open && incident.acknowledged));
        json!({ "incidents": listed.map(incident_json).collect::<Vec<_>>() })
    }

    fn incident(&self, id: &str) -> Option<Value> {
        let incident = self.pipeline.incident(IncidentId::parse(id)?)?;
        let mut shown = incident_json(&incident);
        let sign = |sign: &Sign| json!({ "sign": sign.as_str(), "weight": sign.weight(), "means": sign.help() });
        shown["evidence"] = incident.signs.iter().map(sign).collect();
        shown["packets"] = incident.packets.iter().map(packet_json).collect();
        Some(shown)
    }

    fn changes(&self, name: Option<&Name>) -> Value {
        json!({ "changes": changes_json(&self.pipeline, name) })
    }

    fn acknowledge(&self, id: &str) -> bool {
        IncidentId::parse(id).is_some_and(|id| self.pipeline.acknowledge(id))
    }

    fn cached(&self, matching: &Matching, limit: usize) -> Value {
        let state = self.pipeline.state();
        let (listed, more) = state.cache.list(flush(matching), self.pipeline.now(), limit);
        let entries: Vec<Value> = listed
            .iter()
            .map(|entry| {
                json!({
                    "name": entry.qname.to_string(),
                    "type": entry.qtype.to_string(),
                    "view": state.config.view_name(entry.view),
                    "dnssec_ok": entry.dnssec_ok,
                    "checking_disabled": entry.checking_disabled,
                    "source": entry.stored.as_str(),
                    "rcode": entry.answer.rcode().to_string(),
                    "ttl_left_seconds": entry.left_s,
                    "age_seconds": entry.age.as_secs(),
                    "state": entry.state.as_str(),
                    "answer": once::records_json(&entry.answer.records(Section::Answer)),
                })
            })
            .collect();
        json!({ "entries": entries, "more": more })
    }

    fn flush(&self, matching: &Matching) -> usize {
        self.pipeline.flush(flush(matching))
    }

    fn switch(&self, label: &str, on: bool) -> Result<usize, Problem> {
        let state = self.pipeline.state();
        let switched = state.upstreams.switch(label, on);
        if switched == 0 {
            return Err(unknown(&state));
        }
        tracing::warn!(upstream = label, on, "an upstream was switched over the control socket");
        Ok(switched)
    }

    async fn probe(&self, label: &str) -> Result<Value, Problem> {
        self.probes.probe(&self.pipeline.state(), label).await
    }

    async fn reload(&self) -> Result<Outcome, Problem> {
        self.wanting.have_done(What::Reload).await
    }

    async fn pause(&self, length: Duration) -> Result<Outcome, Problem> {
        self.wanting.have_done(What::Pause(length)).await
    }

    async fn resume(&self) -> Result<Outcome, Problem> {
        self.wanting.have_done(What::Resume).await
    }

    async fn check(&self, text: String) -> Outcome {
        // On a thread of its own: a large one takes a while. It is looked at as if it stood where the present one does;
        // files that it names are not read for whoever asks.
        let name = self.life.config().path.unwrap_or_else(|| super::DEFAULT_PATH.to_owned());
        let loaded = tokio::task::spawn_blocking(move || load::load_text_alone(&name, &text)).await;
        let generation = self.life.generation();
        match loaded {
            Ok(loaded) => Outcome {
                ok: loaded.config.is_some(),
                generation,
                diagnostics: diagnostics_json(&loaded.diagnostics),
                error: None,
            },
            Err(error) => Outcome { ok: false, generation, diagnostics: json!([]), error: Some(error.to_string()) },
        }
    }
}

/// Shows problems as `truename check --format json` does.
pub(super) fn diagnostics_json(diagnostics: &[diagnostic::Diagnostic]) -> Value {
    serde_json::from_str(&diagnostic::json(diagnostics)).unwrap_or_default()
}

fn flush(matching: &Matching) -> Flush<'_> {
    match matching {
        Matching::All => Flush::All,
        Matching::Name(name) => Flush::Name(name),
        Matching::Suffix(name) => Flush::Suffix(name),
    }
}

fn system(told: &takeover::Told) -> report::System {
    let method = match told.method {
        None => "none",
        Some(takeover::Method::Resolved) => "link",
        Some(takeover::Method::NetworkManager) => "drop-in",
        Some(takeover::Method::Resolvconf) => "resolvconf",
        Some(takeover::Method::File) => "file",
    };
    report::System {
        takeover: told.standing.as_str().to_owned(),
        method: method.to_owned(),
        tramples_total: told.retaken,
        text: told.text.clone(),
    }
}

fn counts(of: Vec<(&'static str, u64)>) -> Counts {
    of.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn cache(state: &State, stats: &Stats, answers: &Answers) -> report::Cache {
    let (hits, misses) = (answers.of(Source::Cache), answers.of(Source::Forward));
    let share = |n: u64| f64::from(u32::try_from(n * 10_000 / (hits + misses).max(1)).unwrap_or(0)) / 10_000.0;
    let held = state.cache.held();
    report::Cache {
        entries: as_u64(held.entries),
        capacity_entries: as_u64(state.config.cache.max_entries),
        size_bytes: as_u64(held.bytes),
        capacity_bytes: state.config.cache.max_bytes,
        hit_ratio: share(hits),
        hits_total: hits,
        misses_total: misses,
        stale_served_total: answers.of(Source::CacheStale),
        prefetches_total: stats.get(Counter::Prefetches),
        negative_entries: as_u64(held.negative),
        evictions_total: counts(vec![("capacity", stats.get(Counter::CacheEvicted))]),
    }
}

fn upstreams(state: &State, now: Tick) -> Vec<report::Upstream> {
    let default = &state.config.group(state.config.default.upstream).name;
    state.upstreams.status().iter().map(|status| upstream(status, *default == status.group, now)).collect()
}

fn upstream(status: &ServerStatus, of_default: bool, now: Tick) -> report::Upstream {
    let at = |tick: Tick| written(clock::wall().checked_sub(now.since(tick)).unwrap_or_else(clock::wall));
    let last_error = status.last_mishap.map(|(mishap, tick)| {
        let (kind, detail) = match mishap {
            Mishap::Timeout => ("timeout", "no reply came in time"),
            Mishap::Unreachable => ("unreachable", "it cannot be reached, or its connection failed"),
            Mishap::Failed => ("failed", "its reply was SERVFAIL or the like, or empty without SOA"),
        };
        report::LastError { kind: kind.to_owned(), at: at(tick), detail: detail.to_owned() }
    });
    let (state, reason) = match status.standing {
        _ if status.own => ("disabled", "it is an address of our own"),
        _ if status.off => ("disabled", "it was turned off over the control socket"),
        Standing::Unknown => ("probing", "nothing is known of it as yet"),
        Standing::Good => ("up", "it answers"),
        Standing::Suspect => ("degraded", "it owes a reply"),
        Standing::Dead => ("down", "it does not answer; it is tried from time to time"),
        Standing::Looping => ("disabled", "it leads back to us; left out for a time"),
    };
    let sums = &status.sums;
    let label = &*status.info.label;
    report::Upstream {
        group: status.group.clone(),
        name: label.strip_prefix(&format!("{}/", status.group)).unwrap_or(label).to_owned(),
        address: status.info.address.to_string(),
        protocol: status.info.transport.to_string(),
        state: state.to_owned(),
        reason: reason.to_owned(),
        since: status.since.filter(|_| !status.own && !status.off).map(at),
        queries_total: sums.queries,
        responses_total: sums.replies.saturating_sub(sums.failures),
        errors_total: counts(vec![("failed", sums.failures), ("timeout", sums.timeouts), ("unreachable", sums.errors)]),
        smoothed_rtt_seconds: status.srtt.map(|srtt| srtt.as_secs_f64()),
        latency_seconds: Latency::from(status.rtts.clone()),
        last_error,
        of_default,
    }
}

/// Says how the clock is wrong.
pub(super) fn wrong_clock(clock: &WrongClock) -> report::WrongClock {
    let [here, certificate] = [clock.here(), clock.certificate()].map(written);
    report::WrongClock { here, certificate, text: clock.to_string() }
}

/// Shows how answers of guarded names have changed, the latest first.
pub(super) fn changes_json(pipeline: &Pipeline, name: Option<&Name>) -> Vec<Value> {
    let wanted = name.map(|name| name.to_lower().to_string());
    let changes = pipeline.changes();
    let of_name = changes.iter().rev().filter(|change| wanted.as_ref().is_none_or(|name| change.name == *name));
    of_name
        .map(|change| {
            json!({
                "at": written(UNIX_EPOCH + Duration::from_secs(change.at)),
                "name": change.name, "type": change.rtype,
                "was": change.was, "was_from": change.was_from,
                "became": change.became, "became_from": change.became_from,
            })
        })
        .collect()
}

fn incident_json(incident: &Incident) -> Value {
    let at = |at: WallTime| written(UNIX_EPOCH + Duration::from_secs(at.0));
    json!({
        "id": incident.id_text(),
        "verdict": incident.verdict.as_str(),
        "upstream": &*incident.upstream,
        "name": incident.qname.to_string(),
        "types": incident.qtypes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "first_seen": at(incident.first_seen),
        "last_seen": at(incident.last_seen),
        "count": incident.count,
        "score": incident.score,
        "served": incident.served.as_str(),
        "proofs": incident.proofs,
        "acknowledged": incident.acknowledged,
    })
}

/// Shows a packet as it came, and what it says as far as it can be read.
fn packet_json(packet: &Packet) -> Value {
    let mut shown = json!({ "from": &*packet.from, "hex": HEXLOWER.encode(&packet.bytes) });
    if let Ok(message) = Message::parse(&packet.bytes) {
        let records = |section| {
            let read = message.section(section).filter_map(|at| Record::from_message(&message, &at).ok());
            once::records_json(&read.collect::<Vec<_>>())
        };
        let flags = [(flag::AA, "aa"), (flag::RA, "ra"), (flag::AD, "ad"), (flag::TC, "tc")];
        let set: Vec<&str> = flags.into_iter().filter_map(|(bit, name)| message.has(bit).then_some(name)).collect();
        shown["rcode"] = message.extended_rcode().to_string().into();
        shown["flags"] = set.into();
        shown["edns"] = message.edns().ok().flatten().is_some().into();
        shown["answer"] = records(Section::Answer);
        shown["authority"] = records(Section::Authority);
    }
    shown
}

fn guard(pipeline: &Pipeline, stats: &Stats) -> Guard {
    let verdicts = [
        ("consistent", Counter::GuardConsistent),
        ("benign_divergent", Counter::GuardBenignDivergent),
        ("undecidable", Counter::GuardUndecidable),
        ("upstream_failing", Counter::GuardUpstreamFailing),
        ("empty_vs_present", Counter::GuardEmptyVsPresent),
        ("broken_chain", Counter::GuardBrokenChain),
        ("nxdomain_hijacked", Counter::GuardNxdomainHijacked),
        ("poisoned", Counter::GuardPoisoned),
    ]
    .map(|(verdict, counter)| (verdict, stats.get(counter)));
    let (open, last) = pipeline.open_incidents();
    Guard {
        checks_total: verdicts.iter().map(|(_, count)| count).sum(),
        verdicts_total: counts(verdicts.into()),
        incidents_open: as_u64(open),
        last_incident_id: last,
    }
}

fn zones(state: &State, answers: &Answers) -> Vec<report::Zone> {
    let views = |views: Option<Vec<ViewId>>| {
        views.into_iter().flatten().map(|view| state.config.view_name(view).to_owned()).collect()
    };
    let zone = |(apex, tag): (crate::pipeline::zone::Apex, &Tag)| report::Zone {
        name: apex.name.to_string(),
        source: apex.at.to_string(),
        serial: apex.serial,
        records: as_u64(apex.records),
        views: views(apex.views),
        queries_total: answers.of_tag(*tag),
    };
    state.zones.apexes().zip(&state.tags.zones).map(zone).collect()
}

fn routes(state: &State, answers: &Answers) -> Vec<report::Route> {
    let route = |(at, (route, tag)): (usize, (&crate::pipeline::route::RouteInfo, &Tag))| report::Route {
        id: format!("route.{at}"),
        name: route.name.clone(),
        upstream: state.config.group(route.group).name.clone(),
        private: route.private,
        on_failure: match route.on_failure {
            OnFailure::Servfail => "servfail".to_owned(),
            OnFailure::Default => "default".to_owned(),
        },
        source: route.at.as_ref().map(ToString::to_string),
        matches_total: answers.of_tag(*tag),
    };
    state.routes.routes().iter().zip(&state.tags.routes).enumerate().map(route).collect()
}

fn views(State { config, tags, .. }: &State, answers: &Answers) -> Vec<report::View> {
    let view = |(view, tag): (ViewId, Tag)| report::View {
        name: config.view_name(view).to_owned(),
        queries_total: answers.of_tag(tag),
    };
    tags.views().map(view).collect()
}

fn usage() -> report::Process {
    let usage = process::usage();
    report::Process {
        resident_memory_bytes: usage.resident_bytes,
        open_fds: usage.open_files,
        threads: usage.threads,
        cpu_seconds_total: usage.cpu_seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::takeover::{Method, Standing, Told};

    #[test]
    fn whatever_becomes_of_the_machines_names_is_told_in_the_words_of_the_schema() {
        let schema: Value = serde_json::from_str(control::STATS_SCHEMA).unwrap();
        let words = |of: &str| schema["properties"]["system"]["properties"][of]["enum"].clone();
        let methods = [None].into_iter().chain(Method::ALL.map(Some));
        for (method, standing) in methods.flat_map(|method| {
            [Standing::Active, Standing::Inactive, Standing::Conflict, Standing::Unmanaged].map(|one| (method, one))
        }) {
            let said = system(&Told { standing, method, retaken: 1, text: "taken over".to_owned() });
            assert!(words("takeover").as_array().unwrap().contains(&said.takeover.into()), "{standing:?}");
            assert!(words("method").as_array().unwrap().contains(&said.method.into()), "{method:?}");
        }
    }
}
