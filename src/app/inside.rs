//! What the control sockets see of a daemon, and what they may have it do.

use super::comparing::OfUpstreams;
use super::explain;
use super::findings::{changes_json, incident_json, packet_json};
use super::life::{Life, written};
use super::once::{self, Asked};
use super::probing::{Probes, unknown};
use super::wanted::{Wanting, What};
use crate::clock::{self, Tick};
use crate::config::{self, ListFormat, OnFailure, ViewId, diagnostic, load};
use crate::control::report::{self, Counts, Guard, Latency};
use crate::control::{self, Daemon, Matching, Outcome, Problem};
use crate::dns::wire::Section;
use crate::dns::{Name, Query, Tag, Trace};
use crate::listen::InFlight;
use crate::pipeline::cache::Flush;
use crate::pipeline::guard::incident::IncidentId;
use crate::pipeline::guard::tally::Found;
use crate::pipeline::guard::verdict::{Sign, Verdict};
use crate::pipeline::route::{ListInfo, RouteInfo};
use crate::pipeline::{Pipeline, State};
use crate::stats::{Answers, Counter, Source, Stats};
use crate::system::{kernel, process, release, takeover};
use crate::upstream::{Mishap, ServerStatus, Standing, WrongClock};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
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
        let found = self.pipeline.found();
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
            upstreams: upstreams(&state, &found, now),
            wrong_clock: state.upstreams.wrong_clock().map(|clock| wrong_clock(&clock)),
            guard: guard(&self.pipeline, stats, &found),
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
        let read_at = state.routes.read_at.map(written);
        let of_route = |(route, read): (&config::Route, &RouteInfo)| {
            let list = |(list, info): (&config::ListFile, &ListInfo)| {
                let format = match list.format {
                    ListFormat::Domains => "domains",
                    ListFormat::Hosts => "hosts",
                    ListFormat::Dnsmasq => "dnsmasq",
                };
                json!({
                    "path": list.path.display().to_string(), "format": format, "route": route.name,
                    "entries": info.entries, "modified_at": info.modified.map(written), "read_at": read_at,
                })
            };
            route.lists.iter().zip(&read.lists).map(list).collect::<Vec<_>>()
        };
        state.config.routes.iter().zip(state.routes.routes()).flat_map(of_route).collect()
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

    fn machine(&self) -> Value {
        json!({ "system": release::name(), "kernel": kernel::release(), "architecture": std::env::consts::ARCH })
    }

    fn configuration(&self) -> String {
        config::effective::effective(&self.pipeline.state().config)
    }

    async fn query(&self, question: control::Question) -> Result<Value, Problem> {
        let control::Question { qname, qtype, upstream, compare } = question;
        let upstream = upstream.as_deref();
        let state = self.pipeline.state();
        if upstream.is_some() && !compare {
            let mut document = json!({ "qname": qname.to_string(), "qtype": qtype.to_string() });
            let asked = OfUpstreams { qname: &qname, qtype, upstream, ours: None };
            add(&mut document, asked.ask(&state, &self.probes).await?);
            return Ok(document);
        }
        let started = Instant::now();
        let mut trace = Trace::on();
        let answer = self.pipeline.answer(&Query::local(qname.clone(), qtype), &mut trace).await;
        let ours = Asked { qname, qtype, answer, server: None, elapsed: started.elapsed(), trace };
        let mut document = once::as_json(&ours);
        if compare {
            let asked = OfUpstreams { qname: &ours.qname, qtype, upstream, ours: Some(&ours) };
            add(&mut document, asked.ask(&state, &self.probes).await?);
        }
        Ok(document)
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
                    "source": Source::new(entry.stored, entry.answer.rcode()).as_str(),
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

/// Adds the fields of a document to another one.
fn add(document: &mut Value, more: Value) {
    if let (Value::Object(document), Value::Object(more)) = (document, more) {
        document.extend(more);
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

/// What was found against upstreams, by their labels.
type AllFound = [(String, Verdict, Found)];

fn upstreams(state: &State, found: &AllFound, now: Tick) -> Vec<report::Upstream> {
    let default = &state.config.group(state.config.default.upstream).name;
    let one = |status: &ServerStatus| {
        let against = found.iter().filter(|(label, ..)| *label == *status.info.label);
        let none = report::FAULTS.map(|kind| (kind.to_owned(), 0));
        let bad = none.into_iter().chain(against.map(|(_, kind, found)| (kind.as_str().to_owned(), found.answers)));
        report::Upstream { bad_answers_total: bad.collect(), ..upstream(status, *default == status.group, now) }
    };
    state.upstreams.status().iter().map(one).collect()
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
        ..report::Upstream::default()
    }
}

/// Says how the clock is wrong.
pub(super) fn wrong_clock(clock: &WrongClock) -> report::WrongClock {
    let [here, certificate] = [clock.here(), clock.certificate()].map(written);
    report::WrongClock { here, certificate, text: clock.to_string() }
}

fn guard(pipeline: &Pipeline, stats: &Stats, found: &AllFound) -> Guard {
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
        incidents_total: found
            .iter()
            .map(|(upstream, kind, found)| report::IncidentCount {
                kind: kind.as_str().to_owned(),
                upstream: upstream.clone(),
                count: found.incidents,
            })
            .collect(),
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
    let route = |(at, (route, tag)): (usize, (&RouteInfo, &Tag))| report::Route {
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
