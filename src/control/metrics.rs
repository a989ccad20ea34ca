//! The report as Prometheus reads it: text format 0.0.4, or OpenMetrics 1.0 for who asks for that.
//!
//! Names and labels are few and known beforehand: never a client, never a name somebody looked up.

use super::report::{FAULTS, Latency, Stats};
use crate::stats::{Counter, Histogram};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What all names of ours begin with.
const PREFIX: &str = "truename_";

/// Octets that a page usually has.
const USUAL_PAGE_BYTES: usize = 96 << 10;

/// The two forms there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Dialect {
    /// Chooses by an Accept header.
    #[must_use]
    pub fn choose(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Returns the media type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Counters that have a metric of their own under another name.
const NAMED_OTHERWISE: &[Counter] = &[
    Counter::DroppedSilent,
    Counter::SendFailed,
    Counter::ReloadsOk,
    Counter::ReloadsFailed,
    Counter::CacheEvicted,
    Counter::Prefetches,
    // By upstream there.
    Counter::UpstreamErrors,
    Counter::GuardIncidents,
];
/// Counters that are states rather than sums.
const STATES: &[Counter] = &[Counter::HostsConflicts];

/// Writes a report down.
#[must_use]
pub fn render(report: &Stats, dialect: Dialect) -> String {
    let mut page = Page::new(dialect);
    page.gauge("build_info", "Which program this is; always 1.");
    page.sample("", &[("version", &report.version)], 1.0);
    page.gauge("ready", "1 while some upstream of the default's group, or of one that stands in for it, is not down.");
    page.sample("", &[], u64::from(report.ready));
    queries(&mut page, report);
    cache(&mut page, report);
    upstreams(&mut page, report);
    page.counter("guard_checks", "Replies judged, by verdict.");
    for (verdict, count) in &report.guard.verdicts_total {
        page.sample("_total", &[("verdict", verdict)], *count);
    }
    page.gauge("guard_incidents_open", "Findings that nobody has taken note of.");
    page.sample("", &[], report.guard.incidents_open);
    incidents(&mut page, report);
    zones(&mut page, report);
    matches(&mut page, report);
    config(&mut page, report);
    system(&mut page, report);
    for counter in Counter::ALL.iter().filter(|counter| !NAMED_OTHERWISE.contains(counter)) {
        let value = report.counters.get(counter.name()).copied().unwrap_or(0);
        match counter.name().strip_suffix("_total").filter(|_| !STATES.contains(counter)) {
            Some(stem) => {
                page.counter(stem, counter.help());
                page.sample("_total", &[], value);
            }
            None => {
                page.gauge(counter.name().trim_end_matches("_total"), counter.help());
                page.sample("", &[], value);
            }
        }
    }
    process(&mut page, report);
    if dialect == Dialect::OpenMetrics {
        page.text.push_str("# EOF\n");
    }
    page.text
}

fn queries(page: &mut Page, report: &Stats) {
    page.counter("dns_requests", "Questions answered, by protocol, family of the client's address, and type.");
    for ([proto, family, rtype], count) in &report.asked {
        page.sample("_total", &[("proto", proto), ("family", family), ("type", rtype)], *count);
    }
    page.counter("dns_responses", "Answers, by response code and source.");
    for ([rcode, source], count) in &report.answered {
        page.sample("_total", &[("rcode", rcode), ("source", source)], *count);
    }
    page.histogram("dns_request_duration_seconds", "From reading a question to having its answer, by source.");
    for (source, latency) in report.latency_seconds.iter().filter(|(source, _)| *source != "all") {
        page.buckets(&[("source", source)], latency);
    }
    page.gauge("dns_requests_in_flight", "Questions being worked on.");
    page.sample("", &[], report.queries.in_flight);
    page.counter("dns_dropped", "Datagrams and answers that were dropped, by reason.");
    for (reason, count) in &report.queries.dropped_total {
        page.sample("_total", &[("reason", reason)], *count);
    }
}

fn cache(page: &mut Page, report: &Stats) {
    let cache = &report.cache;
    for (name, help, value) in [
        ("cache_entries", "Answers kept.", cache.entries),
        ("cache_capacity_entries", "Answers that may be kept.", cache.capacity_entries),
        (
            "cache_negative_entries",
            "Answers kept that say that a name or a type does not exist.",
            cache.negative_entries,
        ),
        ("cache_size_bytes", "Octets of the answers kept.", cache.size_bytes),
        ("cache_capacity_bytes", "Octets that they may take.", cache.capacity_bytes),
    ] {
        page.gauge(name, help);
        page.sample("", &[], value);
    }
    for (name, help, value) in [
        ("cache_hits", "Answers from the cache, fresh.", cache.hits_total),
        ("cache_misses", "Answers that upstreams were asked for.", cache.misses_total),
        ("cache_served_stale", "Answers from the cache past their TTL.", cache.stale_served_total),
        ("cache_prefetches", "Popular answers asked for again before they expired.", cache.prefetches_total),
    ] {
        page.counter(name, help);
        page.sample("_total", &[], value);
    }
    page.counter("cache_evictions", "Answers put out of the cache, by reason.");
    for (reason, count) in &cache.evictions_total {
        page.sample("_total", &[("reason", reason)], *count);
    }
}

fn upstreams(page: &mut Page, report: &Stats) {
    page.gauge("upstream_up", "1 for an upstream that answers, or of which nothing is known as yet.");
    for upstream in &report.upstreams {
        page.sample("", &[("group", &upstream.group), ("upstream", &upstream.name)], u64::from(upstream.may_be_up()));
    }
    page.counter("upstream_requests", "Queries sent to an upstream, repeats included.");
    for upstream in &report.upstreams {
        let labels = [("group", &*upstream.group), ("upstream", &upstream.name), ("proto", &upstream.protocol)];
        page.sample("_total", &labels, upstream.queries_total);
    }
    page.counter("upstream_responses", "Replies of an upstream that were answers.");
    for upstream in &report.upstreams {
        let labels = [("group", &*upstream.group), ("upstream", &upstream.name)];
        page.sample("_total", &labels, upstream.responses_total);
    }
    page.counter("upstream_errors", "Queries to an upstream without an answer, by kind.");
    for upstream in &report.upstreams {
        for (kind, count) in &upstream.errors_total {
            let labels = [("group", &*upstream.group), ("upstream", &upstream.name), ("kind", kind)];
            page.sample("_total", &labels, *count);
        }
    }
    page.histogram("upstream_request_duration_seconds", "From a query to its reply.");
    for upstream in &report.upstreams {
        page.buckets(&[("group", &upstream.group), ("upstream", &upstream.name)], &upstream.latency_seconds);
    }
}

/// Findings by upstream. One that was asked has them from the start, at zero: of a series that begins with a finding Prometheus would not
/// see that it has grown.
fn incidents(page: &mut Page, report: &Stats) {
    page.counter("upstream_bad_answers", "Answers of an upstream for guarded names that did not stand, by verdict.");
    for upstream in report.upstreams.iter().filter(|upstream| upstream.queries_total > 0) {
        for (kind, count) in &upstream.bad_answers_total {
            let labels = [("group", &*upstream.group), ("upstream", &upstream.name), ("kind", kind)];
            page.sample("_total", &labels, *count);
        }
    }
    page.counter("guard_incidents", "Findings against an upstream that were new, by verdict.");
    let parted = |label: &str| {
        let (group, name) = label.split_once('/').unwrap_or(("", label));
        (group.to_owned(), name.to_owned())
    };
    let found = report.guard.incidents_total.iter().map(|one| ((parted(&one.upstream), &*one.kind), one.count));
    let asked = report.upstreams.iter().filter(|upstream| upstream.queries_total > 0);
    let none =
        asked.flat_map(|upstream| FAULTS.map(|kind| (((upstream.group.clone(), upstream.name.clone()), kind), 0)));
    // What was found stands in place of nothing.
    let all: BTreeMap<_, u64> = none.chain(found).collect();
    for (((group, upstream), kind), count) in &all {
        page.sample("_total", &[("kind", kind), ("group", group), ("upstream", upstream)], *count);
    }
}

fn zones(page: &mut Page, report: &Stats) {
    page.gauge("zone_records", "Records of a local zone.");
    for zone in &report.zones {
        page.sample("", &[("zone", &zone.name), ("views", &zone.views.join(","))], zone.records);
    }
    page.gauge("zone_serial", "Serial number of a local zone.");
    for (zone, serial) in report.zones.iter().filter_map(|zone| Some((zone, zone.serial?))) {
        page.sample("", &[("zone", &zone.name), ("views", &zone.views.join(","))], serial);
    }
}

/// How often names were of a zone or a route, and clients of a view.
fn matches(page: &mut Page, report: &Stats) {
    page.counter("zone_queries", "Questions for names of a local zone, those answered from memory included.");
    for zone in &report.zones {
        page.sample("_total", &[("zone", &zone.name), ("views", &zone.views.join(","))], zone.queries_total);
    }
    page.counter("route_matches", "Questions for names of a route, those answered from memory included.");
    for route in &report.routes {
        page.sample("_total", &[("route", &route.name), ("id", &route.id)], route.matches_total);
    }
    page.counter("view_queries", "Questions of the clients of a view, those answered from memory included.");
    for view in &report.views {
        page.sample("_total", &[("view", &view.name)], view.queries_total);
    }
}

fn system(page: &mut Page, report: &Stats) {
    let system = &report.system;
    page.gauge("takeover_active", "1 while the names of this machine come here by our doing, by the way it was done.");
    page.sample("", &[("method", &system.method)], u64::from(system.takeover == "active"));
    page.counter("resolvconf_tramples", "Times that another program's resolv.conf was replaced by ours again.");
    page.sample("_total", &[], system.tramples_total);
}

fn config(page: &mut Page, report: &Stats) {
    page.counter("config_reloads", "Reloads, by result.");
    for (result, counter) in [("ok", Counter::ReloadsOk), ("failed", Counter::ReloadsFailed)] {
        let value = report.counters.get(counter.name()).copied().unwrap_or(0);
        page.sample("_total", &[("result", result)], value);
    }
    page.gauge("config_generation", "1 at the start, one more with each reload.");
    page.sample("", &[], report.config.generation);
    page.gauge("config_last_reload_success", "1 when the last reload took effect.");
    page.sample("", &[], u64::from(report.config.last_reload.ok));
    page.gauge("config_last_reload_success_timestamp_seconds", "When the configuration in force was put in force.");
    page.sample("", &[], seconds_of(&report.config.loaded_at));
}

/// The names that every program's metrics of this kind have.
fn process(page: &mut Page, report: &Stats) {
    let process = &report.process;
    page.family("process_cpu_seconds", "counter", "CPU time used.");
    page.sample("_total", &[], process.cpu_seconds_total);
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory.", process.resident_memory_bytes),
        ("process_open_fds", "Open files.", process.open_fds),
        ("process_threads", "Threads.", process.threads),
    ] {
        page.family(name, "gauge", help);
        page.sample("", &[], value);
    }
    page.family("process_start_time_seconds", "gauge", "When the process was started, since the epoch.");
    page.sample("", &[], seconds_of(&report.started_at));
}

/// Returns the seconds since the epoch of a time as the report writes it.
fn seconds_of(time: &str) -> f64 {
    let time = humantime::parse_rfc3339(time).ok();
    let since = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// A number as it is written.
trait Number: std::fmt::Display {}
impl Number for u64 {}
impl Number for u32 {}
impl Number for f64 {}

/// What is written. A page is made once a second by some, beside a hundred thousand answers: nothing in it is looked for or
/// written twice.
struct Page {
    text: String,
    dialect: Dialect,
    /// What the names of the present family's samples begin with.
    name: String,
    /// The labels of the present histogram, as they are written, without what closes them.
    labels: String,
    /// The bounds of all histograms, which are the same, as they are written.
    bounds: Vec<String>,
}

impl Page {
    fn new(dialect: Dialect) -> Self {
        let bounds = Histogram::default().cumulative().map(|(bound, _)| bound.as_secs_f64().to_string()).collect();
        Self {
            text: String::with_capacity(USUAL_PAGE_BYTES),
            dialect,
            name: String::new(),
            labels: String::new(),
            bounds,
        }
    }

    fn gauge(&mut self, name: &str, help: &str) {
        self.family(&format!("{PREFIX}{name}"), "gauge", help);
    }

    fn counter(&mut self, stem: &str, help: &str) {
        self.family(&format!("{PREFIX}{stem}"), "counter", help);
    }

    fn histogram(&mut self, name: &str, help: &str) {
        self.family(&format!("{PREFIX}{name}"), "histogram", help);
    }

    /// Begins a family; `help` is a sentence of ours, without what would have to be escaped. OpenMetrics names a counter without its `_total`, the older format with it.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let suffix = if kind == "counter" && self.dialect == Dialect::Prometheus { "_total" } else { "" };
        for part in ["# HELP ", name, suffix, " ", help, "\n# TYPE ", name, suffix, " ", kind, "\n"] {
            self.text.push_str(part);
        }
        name.clone_into(&mut self.name);
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Number) {
        self.text.push_str(&self.name);
        self.text.push_str(suffix);
        push_labels(&mut self.text, labels);
        if !labels.is_empty() {
            self.text.push('}');
        }
        self.write(format_args!(" {value}\n"));
    }

    fn buckets(&mut self, labels: &[(&str, &str)], latency: &Latency) {
        let histogram: &Histogram = &latency.histogram;
        self.labels.clear();
        push_labels(&mut self.labels, labels);
        self.labels.push_str(",le=\"");
        let bounds = self.bounds.iter().map(String::as_str).chain(["+Inf"]);
        let counts = histogram.cumulative().map(|(_, count)| count).chain([histogram.count()]);
        for (bound, count) in bounds.zip(counts) {
            for part in [&*self.name, "_bucket", &*self.labels, bound, "\"} "] {
                self.text.push_str(part);
            }
            self.text.write_fmt(format_args!("{count}\n")).expect(ENDLESS);
        }
        self.sample("_sum", labels, histogram.sum().as_secs_f64());
        self.sample("_count", labels, histogram.count());
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect(ENDLESS);
    }
}

/// Why writing into a text cannot fail.
const ENDLESS: &str = "a String takes everything";

/// Writes labels, without what closes them.
fn push_labels(text: &mut String, labels: &[(&str, &str)]) {
    for (at, (label, value)) in labels.iter().enumerate() {
        text.push(if at == 0 { '{' } else { ',' });
        text.push_str(label);
        text.push_str("=\"");
        push_escaped(text, value);
        text.push('"');
    }
}

fn push_escaped(text: &mut String, value: &str) {
    let is_special = |c: char| matches!(c, '\\' | '"' | '\n');
    let mut rest = value;
    while let Some(at) = rest.find(is_special) {
        let (plain, from) = rest.split_at(at);
        text.push_str(plain);
        text.push('\\');
        text.push_str(if from.starts_with('\n') { "n" } else { &from[..1] });
        rest = &from[1..];
    }
    text.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::{Guard, IncidentCount, Route, Upstream, Zone};
    use std::time::Duration;

    fn large() -> Stats {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_millis(3));
        let latency = Latency::from(histogram);
        let answers = crate::stats::Stats::default().answers();
        let errors = ["timeout", "unreachable", "failed"].map(|kind| (kind.to_owned(), 1)).into();
        let upstream = |n: usize| Upstream {
            group: "a\"b\\c\n".to_owned(),
            name: format!("n{n}"),
            state: "up".to_owned(),
            queries_total: 1,
            errors_total: BTreeMap::clone(&errors),
            bad_answers_total: FAULTS.map(|kind| (kind.to_owned(), 1)).into(),
            latency_seconds: latency.clone(),
            ..Upstream::default()
        };
        Stats {
            latency_seconds: answers
                .by_source()
                .iter()
                .map(|(name, _)| ((*name).to_owned(), latency.clone()))
                .collect(),
            asked: answers.asked(),
            answered: answers.answered(),
            guard: Guard {
                // Of servers that are no more, as many as can be counted apart, and of all others.
                incidents_total: (0..64)
                    .map(|n| ("poisoned", format!("system/{n}"), 2))
                    .chain(FAULTS.map(|kind| (kind, "others".to_owned(), 3)))
                    .chain([("poisoned", "a\"b\\c\n/n0".to_owned(), 5)])
                    .map(|(kind, upstream, count)| IncidentCount { kind: kind.to_owned(), upstream, count })
                    .collect(),
                ..Guard::new(|_| 0)
            },
            upstreams: (0..8).map(upstream).collect(),
            zones: (0..20).map(|n| Zone { name: format!("z{n}."), serial: Some(1), ..Zone::default() }).collect(),
            routes: (0..50).map(|n| Route { id: format!("route.{n}"), ..Route::default() }).collect(),
            ..Stats::default()
        }
    }

    #[test]
    fn a_large_office_has_few_enough_series() {
        let text = render(&large(), Dialect::Prometheus);
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        assert!((500..=2_500).contains(&series), "{series}");
        let mut names: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        names.iter_mut().for_each(|line| *line = line.rsplit_once(' ').unwrap().0);
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "a series stands once");
        let mut families: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        families.sort_unstable();
        let all = families.len();
        families.dedup();
        assert_eq!(families.len(), all, "a family stands once");
    }

    #[test]
    fn labels_are_escaped_and_the_dialects_differ_where_they_must() {
        let (old, new) = (render(&large(), Dialect::Prometheus), render(&large(), Dialect::OpenMetrics));
        assert!(old.contains(r#"truename_upstream_up{group="a\"b\\c\n",upstream="n0"} 1"#), "{old}");
        for line in [
            r#"truename_guard_incidents_total{kind="poisoned",group="a\"b\\c\n",upstream="n0"} 5"#,
            r#"truename_guard_incidents_total{kind="broken_chain",group="a\"b\\c\n",upstream="n0"} 0"#,
            r#"truename_guard_incidents_total{kind="poisoned",group="",upstream="others"} 3"#,
            r#"truename_guard_incidents_total{kind="poisoned",group="system",upstream="7"} 2"#,
            r#"truename_upstream_bad_answers_total{group="a\"b\\c\n",upstream="n7",kind="poisoned"} 1"#,
        ] {
            assert!(old.contains(&format!("\n{line}\n")), "{line}{old}");
        }
        assert!(old.contains("# TYPE truename_cache_hits_total counter\n") && !old.contains("# EOF"));
        assert!(new.contains("# TYPE truename_cache_hits counter\n") && new.ends_with("# EOF\n"));
        assert!(new.contains("\ntruename_cache_hits_total 0\n"));
        assert!(old.contains("_bucket{source=\"cache\",le=\"0.0064\"} 1\n"), "{old}");
        assert!(old.contains("_bucket{source=\"cache\",le=\"0.0032\"} 1\n") && old.contains("le=\"0.0016\"} 0\n"));
        assert_eq!(
            Dialect::choose("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"),
            Dialect::OpenMetrics
        );
        assert_eq!(Dialect::choose("*/*"), Dialect::Prometheus);
    }
}
