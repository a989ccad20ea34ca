//! `truename monitor-check`: one line and a status, as the monitoring plugins' guidelines have them.

use super::args::MonitorArguments;
use super::exit::Failed;
use super::{daemon, render};
use crate::config::units::parse_duration;
use crate::control::Door;
use crate::control::client::ClientError;
use crate::control::report::Stats;
use serde_json::{Map, Value, json};
use std::process::ExitCode;

/// What is judged: its name, its unit in performance data, and whether it is a time.
const NAMES: [(&str, &str); 8] = [
    ("p50", "s"),
    ("p99", "s"),
    ("hit_ratio", ""),
    ("upstreams_up", ""),
    ("incidents_open", ""),
    ("qps", ""),
    ("in_flight", ""),
    ("failures", "c"),
];

/// The four statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// What came of it.
#[derive(Debug)]
struct Judged {
    status: Status,
    /// Why, or that all is well.
    said: String,
    figures: Vec<Figure>,
}

/// One of the figures, with the ranges that it was held against.
#[derive(Debug)]
struct Figure {
    name: &'static str,
    unit: &'static str,
    value: f64,
    warning: Option<Rule>,
    critical: Option<Rule>,
}

impl Judged {
    /// Says that it cannot be judged, or that there is nothing to be judged.
    fn without_figures(status: Status, said: String) -> Self {
        Self { status, said, figures: Vec::new() }
    }

    /// Writes the line of the guidelines.
    fn line(&self) -> String {
        let data = self.figures.iter().map(|Figure { name, unit, value, warning, critical }| {
            let range = |rule: &Option<Rule>| rule.as_ref().map(|rule| rule.in_numbers.clone()).unwrap_or_default();
            let max = if *name == "hit_ratio" { ";1" } else { "" };
            format!("{name}={}{unit};{};{};0{max}", shown(*value), range(warning), range(critical))
        });
        let data: Vec<String> = data.collect();
        let bar = if data.is_empty() { "" } else { " | " };
        format!("TRUENAME {} - {}{bar}{}", self.status.as_str(), self.said, data.join(" "))
    }

    fn json(&self) -> String {
        let figures: Map<String, Value> = self
            .figures
            .iter()
            .map(|Figure { name, unit, value, warning, critical }| {
                let mut figure = json!({ "value": value, "unit": if *unit == "s" { "seconds" } else { "" } });
                for (is, rule) in [("warning", warning), ("critical", critical)] {
                    figure[is] = rule.as_ref().map(|rule| rule.in_numbers.clone()).into();
                }
                ((*name).to_owned(), figure)
            })
            .collect();
        let (status, said) = (self.status.as_str(), &self.said);
        format!("{:#}", json!({ "status": status, "exit_status": self.status as u8, "text": said, "figures": figures }))
    }
}

/// The status of arguments that are wrong: 2, as elsewhere, would say that the daemon is in a bad way.
pub(super) const UNKNOWN: u8 = Status::Unknown as u8;

/// Judges and prints; the status is Nagios'.
pub(super) fn run(arguments: &MonitorArguments) -> ExitCode {
    let judged = judge(arguments);
    let printed = if arguments.json { judged.json() } else { judged.line() };
    match render::result(&printed) {
        Ok(()) => ExitCode::from(judged.status as u8),
        Err(_) => ExitCode::from(Status::Unknown as u8),
    }
}

fn judge(arguments: &MonitorArguments) -> Judged {
    let unknown = |said| Judged::without_figures(Status::Unknown, said);
    let rules = Rule::parse_all(&arguments.warning)
        .and_then(|warning| Rule::parse_all(&arguments.critical).map(|critical| (warning, critical)));
    let (warning, critical) = match rules {
        Ok(rules) => rules,
        Err(error) => return unknown(error),
    };
    let report = daemon::get(&arguments.at, Door::Stats, "/stats").and_then(|document| daemon::read(&document));
    match report {
        Ok(report) => judged(&report, &warning, &critical),
        Err(Failed::Daemon(error @ ClientError::NotRunning(_))) => {
            Judged::without_figures(Status::Critical, error.to_string())
        }
        Err(Failed::Daemon(error)) => unknown(error.to_string()),
        Err(_) => unknown("the answer is not understood".to_owned()),
    }
}

fn judged(report: &Stats, warning: &[Rule], critical: &[Rule]) -> Judged {
    let mut status = Status::Ok;
    let mut said = Vec::new();
    let mut figures = Vec::new();
    if !report.ready {
        let reason = report.not_ready.as_deref().map_or_else(|| "it is not ready".to_owned(), render::visible);
        // What follows `|` is figures.
        said.push(reason.replace('|', "\\u{7c}"));
        status = Status::Critical;
    }
    for (name, unit) in NAMES {
        let value = value(report, name);
        let of = |rules: &[Rule]| rules.iter().find(|rule| rule.name == name).cloned();
        let (warning, critical) = (of(warning), of(critical));
        for (rule, is) in [(&critical, Status::Critical), (&warning, Status::Warning)] {
            if let Some(rule) = rule.as_ref().filter(|rule| rule.alerts(value)) {
                said.push(format!(
                    "{name} is {}{}, {} at {}",
                    shown(value),
                    if unit == "s" { " s" } else { "" },
                    is.as_str().to_lowercase(),
                    rule.text
                ));
                status = status.max(is);
                break;
            }
        }
        figures.push(Figure { name, unit, value, warning, critical });
    }
    if said.is_empty() {
        said.push(format!(
            "{} of {} upstreams up, {} queries",
            shown(value(report, "upstreams_up")),
            report.upstreams.iter().filter(|upstream| upstream.counts()).count(),
            report.queries.total
        ));
    }
    Judged { status, said: said.join(", "), figures }
}

fn value(report: &Stats, name: &str) -> f64 {
    let number = |n: u64| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let all = report.latency_seconds.get("all");
    match name {
        "p50" => all.map_or(0.0, |all| all.p50),
        "p99" => all.map_or(0.0, |all| all.p99),
        "hit_ratio" => report.cache.hit_ratio,
        "upstreams_up" => {
            let up = report.upstreams.iter().filter(|upstream| upstream.counts() && upstream.may_be_up());
            number(up.count().try_into().unwrap_or(u64::MAX))
        }
        "incidents_open" => number(report.guard.incidents_open),
        "qps" => report.queries.queries_per_second_1m,
        "in_flight" => number(report.queries.in_flight),
        _ => number(report.queries.by_rcode.get("SERVFAIL").copied().unwrap_or(0)),
    }
}

/// Writes a number without needless digits.
fn shown(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A range and what it is for.
#[derive(Debug, Clone, PartialEq)]
struct Rule {
    name: &'static str,
    low: f64,
    high: f64,
    /// `@`: being inside is what alerts.
    inside: bool,
    /// As it was written.
    text: String,
    /// With times as numbers of seconds.
    in_numbers: String,
}

impl Rule {
    fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(str::trim).filter(|rule| !rule.is_empty()).map(Self::parse).collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let known = || NAMES.map(|(name, _)| name).join(" ");
        let wrong = |what: &str| format!("`{}`: {what}", text.escape_debug());
        let (name, range) = text.split_once('=').ok_or_else(|| wrong("write NAME=RANGE"))?;
        let name = NAMES.iter().map(|(known, _)| *known).find(|known| *known == name);
        let name = name.ok_or_else(|| wrong(&format!("the names are {}", known())))?;
        let (inside, bare) = range.strip_prefix('@').map_or((false, range), |bare| (true, bare));
        let (low, high) = match bare.split_once(':') {
            None => (Some(0.0), number(bare)),
            Some((low, high)) => (
                if low == "~" { Some(f64::NEG_INFINITY) } else { number(low) },
                if high.is_empty() { Some(f64::INFINITY) } else { number(high) },
            ),
        };
        let (Some(low), Some(high)) = (low, high) else { return Err(wrong("a range is N, N:, ~:N, N:M or @N:M")) };
        if low > high {
            return Err(wrong("the range ends before it begins"));
        }
        let low_text = if low.is_infinite() {
            "~:".to_owned()
        } else if bare.contains(':') {
            format!("{}:", shown(low))
        } else {
            String::new()
        };
        let high_text = if high.is_infinite() { String::new() } else { shown(high) };
        let in_numbers = format!("{}{low_text}{high_text}", if inside { "@" } else { "" });
        Ok(Self { name, low, high, inside, text: range.to_owned(), in_numbers })
    }

    fn alerts(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value) == self.inside
    }
}

fn number(text: &str) -> Option<f64> {
    let plain = text.parse().ok().filter(|number: &f64| number.is_finite());
    plain.or_else(|| parse_duration(text).ok().map(|time| time.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(report: &Stats, warning: &str, critical: &str) -> (Status, String) {
        let judged = judged(report, &Rule::parse_all(warning).unwrap(), &Rule::parse_all(critical).unwrap());
        (judged.status, judged.line())
    }

    use crate::control::report::{Latency, Upstream};

    #[test]
    fn ranges_are_those_of_the_guidelines() {
        let alerts = |range: &str, value| Rule::parse(&format!("qps={range}")).unwrap().alerts(value);
        for (range, inside, outside) in
            [("10", 5.0, 11.0), ("10:", 11.0, 5.0), ("~:10", -5.0, 11.0), ("10:20", 15.0, 21.0), ("@10:20", 5.0, 15.0)]
        {
            assert!(!alerts(range, inside) && alerts(range, outside), "{range}");
        }
        assert!(alerts("10", -1.0));
        for wrong in ["qps", "speed=1", "qps=x", "qps=20:10", "qps="] {
            assert!(Rule::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn who_is_not_ready_is_critical_whatever_is_asked_and_servers_that_nobody_asked_are_not_up() {
        let upstream =
            |state: &str, of_default| Upstream { state: state.to_owned(), of_default, ..Upstream::default() };
        let mut report = Stats { ready: true, ..Stats::default() };
        report.upstreams = vec![upstream("probing", true), upstream("probing", false), upstream("probing", false)];
        let (status, line) = told(&report, "", "upstreams_up=1:");
        assert!(status == Status::Ok && line.starts_with("TRUENAME OK - 1 of 1 upstreams up, "), "{line}");
        report.upstreams[0].state = "down".to_owned();
        let (status, line) = told(&report, "", "upstreams_up=1:");
        assert!(
            status == Status::Critical && line.starts_with("TRUENAME CRITICAL - upstreams_up is 0, critical at 1: |"),
            "{line}"
        );
        (report.ready, report.not_ready) = (false, Some("no upstream of \"a|b\" is up".to_owned()));
        let (status, line) = told(&report, "", "");
        assert!(
            status == Status::Critical
                && line.starts_with("TRUENAME CRITICAL - no upstream of \"a\\u{7c}b\" is up | p50="),
            "{line}"
        );
    }

    #[test]
    fn one_line_says_it_with_performance_data() {
        let mut report = Stats { ready: true, ..Stats::default() };
        report.latency_seconds.insert("all".to_owned(), Latency { p99: 0.0712, ..Latency::default() });
        report.cache.hit_ratio = 0.85;
        report.upstreams =
            ["up", "down"].map(|state| Upstream { state: state.to_owned(), ..Upstream::default() }).into();
        let judge = |warning, critical| told(&report, warning, critical);
        let (status, line) = judge("p99=200ms,hit_ratio=0.3:", "upstreams_up=1:,incidents_open=0");
        assert_eq!(status, Status::Ok);
        assert_eq!(
            line,
            "TRUENAME OK - 1 of 2 upstreams up, 0 queries | p50=0s;;;0 p99=0.0712s;0.2;;0 hit_ratio=0.85;0.3:;;0;1 upstreams_up=1;;1:;0 \
             incidents_open=0;;0;0 qps=0;;;0 in_flight=0;;;0 failures=0c;;;0"
        );
        let (status, line) = judge("p99=50ms", "upstreams_up=2:");
        assert_eq!(status, Status::Critical);
        assert!(
            line.starts_with(
                "TRUENAME CRITICAL - p99 is 0.0712 s, warning at 50ms, upstreams_up is 1, critical at 2: |"
            ),
            "{line}"
        );
    }
}
