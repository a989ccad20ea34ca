//! `truename status`: one screen.

use super::args::StatusArguments;
use super::exit::{Failed, Outcome};
use super::figures::{count, octets, share, span, time};
use super::{daemon, render, tables, up};
use crate::control::Door;
use crate::control::report::Stats;
use serde_json::Value;

/// Shows how the daemon is; negative when it cannot answer.
pub(super) fn run(arguments: &StatusArguments) -> Result<Outcome, Failed> {
    let StatusArguments { read, why } = arguments;
    // Whose names these are can be said without a daemon, and is asked for when it is not there.
    let known = why.then(up::Known::look);
    let asked = daemon::get(&read.at, Door::Stats, "/stats");
    if let (Err(_), Some(known), false) = (&asked, &known, read.json) {
        render::result(&known.text())?;
    }
    let document = asked?;
    let ready: Value = daemon::read(&daemon::get(&read.at, Door::Stats, "/readyz")?)?;
    match (read.json, known) {
        (true, None) => render::result(&daemon::text(&document))?,
        (true, Some(known)) => {
            let mut document: Value = daemon::read(&document)?;
            document["why"] = known.json();
            render::result(&format!("{document:#}"))?;
        }
        (false, known) => {
            let why = known.map(|known| format!("\n{}", known.text())).unwrap_or_default();
            render::result(&(as_text(&daemon::read(&document)?, ready["reason"].as_str()) + &why))?;
        }
    }
    Ok(if ready["reason"].is_null() { Outcome::Fine } else { Outcome::Negative })
}

fn as_text(report: &Stats, not_ready: Option<&str>) -> String {
    let Stats { version, queries, cache, guard, config, .. } = report;
    let mut text =
        format!("● truename {version}  up {}  generation {}\n", span(report.uptime_seconds), config.generation);
    let path = config.path.as_deref().map_or_else(|| "the defaults".to_owned(), render::visible);
    let all = report.latency_seconds.get("all").cloned().unwrap_or_default();
    let hits = share(cache.hits_total, cache.hits_total + cache.misses_total);
    let incidents = match guard.incidents_open {
        0 => String::new(),
        open => format!("   {open} incidents open"),
    };
    for (name, line) in [
        ("Config", path),
        (
            "Queries",
            format!(
                "{}   {}/s   p50 {}   p99 {}   in flight {}",
                count(queries.total),
                queries.queries_per_second_1m,
                time(all.p50),
                time(all.p99),
                queries.in_flight
            ),
        ),
        (
            "Cache",
            format!(
                "{} answers   {}   hits {hits}   stale {}",
                count(cache.entries),
                octets(cache.size_bytes),
                count(cache.stale_served_total)
            ),
        ),
        ("Guard", format!("{} checks{incidents}", count(guard.checks_total))),
        ("System", render::visible(&report.system.text)),
    ] {
        text += &format!("  {name:<8}  {line}\n");
    }
    if let Some(until) = &config.paused_until {
        text += &format!("  ▲ routes are off until {}\n    → truename resume\n", render::visible(until));
    }
    if let Some(error) = &config.last_reload.error {
        text += &format!("  ▲ the last reload was refused: {}\n    → truename check\n", render::visible(error));
    }
    if let Some(clock) = &report.wrong_clock {
        text += &format!("  ▲ {}\n    → timedatectl status\n", render::visible(&clock.text));
    }
    if let Some(reason) = not_ready {
        text += &format!("  ▲ {}\n", render::visible(reason));
    }
    let upstreams = tables::known_upstreams(&report.upstreams);
    if upstreams.is_empty() { text } else { format!("{text}\n{upstreams}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::report::{Latency, Upstream};

    #[test]
    fn one_screen_says_how_it_is() {
        let latency = |p50, p99| Latency { p50, p99, ..Latency::default() };
        let mut report = Stats { version: "0.1.0".to_owned(), uptime_seconds: 49_459.0, ..Stats::default() };
        report.config.path = Some("/etc/truename/truename.toml".to_owned());
        report.config.generation = 3;
        (report.queries.total, report.queries.queries_per_second_1m) = (48_211, 1.7);
        report.system.text = "unmanaged".to_owned();
        report.latency_seconds.insert("all".to_owned(), latency(0.000_04, 0.071));
        report.cache = crate::control::report::Cache {
            entries: 6120,
            size_bytes: 3 << 20,
            hits_total: 39_006,
            misses_total: 6894,
            stale_served_total: 31,
            ..report.cache
        };
        let upstream = |name: &str, state: &str, queries, failed: u64| Upstream {
            group: "trusted".to_owned(),
            name: name.to_owned(),
            protocol: "https".to_owned(),
            state: state.to_owned(),
            queries_total: queries,
            errors_total: [("timeout".to_owned(), failed)].into(),
            latency_seconds: latency(0.015, 0.088),
            ..Upstream::default()
        };
        report.upstreams =
            vec![upstream("quad9", "up", 4120, 4), upstream("b", "down", 0, 0), upstream("c", "probing", 0, 0)];
        let expected = "● truename 0.1.0  up 13 h 44 min  generation 3
  Config    /etc/truename/truename.toml
  Queries   48,211   1.7/s   p50 40 µs   p99 71 ms   in flight 0
  Cache     6,120 answers   3.0 MiB   hits 84.9 %   stale 31
  Guard     0 checks
  System    unmanaged

UPSTREAM       PROTO  STATE   QUERIES    P50    P99  ERRORS
trusted/quad9  https  ● up      4,120  15 ms  88 ms   0.0 %
trusted/b      https  ✗ down        0  15 ms  88 ms       -
1 others, not asked so far: truename upstreams live
";
        assert_eq!(as_text(&report, None), expected);
        report.config.last_reload.error = Some("x\u{1b}[2J".to_owned());
        let text = as_text(&report, Some("no upstream is up"));
        assert!(text.contains("refused: x\\u{1b}[2J\n") && text.contains("▲ no upstream is up\n"), "{text}");
    }
}
