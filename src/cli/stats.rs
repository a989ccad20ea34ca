//! `truename stats`: everything that is counted, once or as it changes.

use super::args::StatsArguments;
use super::exit::{Failed, Outcome};
use super::figures::{count, octets, share, table, time};
use super::{daemon, render, tables};
use crate::control::Door;
use crate::control::report::{Counts, Stats};
use std::time::Duration;

/// Lines of `--watch` between two heads.
const LINES_PER_HEAD: usize = 20;

/// Shows the sums, or their changes until somebody ends it.
pub(super) fn run(arguments: &StatsArguments) -> Result<Outcome, Failed> {
    if let Some(every) = arguments.watch {
        return watch(arguments, every);
    }
    let document = daemon::get(&arguments.read.at, Door::Stats, "/stats")?;
    let text = if arguments.read.json { daemon::text(&document) } else { as_text(&daemon::read(&document)?) };
    render::result(&text)?;
    Ok(Outcome::Fine)
}

fn watch(arguments: &StatsArguments, every: Duration) -> Result<Outcome, Failed> {
    let mut before: Option<Stats> = None;
    for line in 0.. {
        let document = daemon::get(&arguments.read.at, Door::Stats, "/stats")?;
        if arguments.read.json {
            let value: serde_json::Value = daemon::read(&document)?;
            render::result(&value.to_string())?;
        } else {
            let now: Stats = daemon::read(&document)?;
            if line % LINES_PER_HEAD == 0 {
                render::result("TIME           Q/S    HITS  FORWARD   STALE  FAILED  IN FLIGHT       P99")?;
            }
            render::result(&change(before.as_ref(), &now))?;
            before = Some(now);
        }
        std::thread::sleep(every);
    }
    Ok(Outcome::Fine)
}

/// What has happened between two reports, in one line; since the start for the first.
fn change(before: Option<&Stats>, now: &Stats) -> String {
    // A daemon that was started anew counts from nothing.
    let before = before.filter(|before| before.started_at == now.started_at);
    let seconds = now.uptime_seconds - before.map_or(0.0, |before| before.uptime_seconds);
    let grown = |of: fn(&Stats) -> u64| of(now).saturating_sub(before.map_or(0, of));
    let total = grown(|report| report.queries.total);
    let hits = grown(|report| report.cache.hits_total);
    let forwarded = grown(|report| report.cache.misses_total);
    let stale = grown(|report| report.cache.stale_served_total);
    let failed = grown(|report| report.queries.by_rcode.get("SERVFAIL").copied().unwrap_or(0));
    let rate = f64::from(u32::try_from(total).unwrap_or(u32::MAX)) / seconds.max(0.001);
    let clock = now.generated_at.get(11..19).unwrap_or_default();
    let p99 = now.latency_seconds.get("all").map_or(0.0, |all| all.p99);
    format!(
        "{clock}  {rate:>8.1}  {:>6}  {:>7}  {:>6}  {:>6}  {:>9}  {:>8}",
        share(hits, total),
        count(forwarded),
        count(stale),
        count(failed),
        count(now.queries.in_flight),
        time(p99)
    )
}

fn as_text(report: &Stats) -> String {
    let queries = &report.queries;
    let mut text = tables::wrong_clock(report.wrong_clock.as_ref());
    for (name, counts) in [
        ("SOURCE", &queries.by_source),
        ("RCODE", &queries.by_rcode),
        ("TYPE", &queries.by_type),
        ("PROTOCOL", &queries.by_proto),
    ] {
        text += &by(name, counts, queries.total);
        text.push('\n');
    }
    let latency = |(source, of): (&String, &crate::control::report::Latency)| {
        let cells = [count(of.count), time(of.p50), time(of.p90), time(of.p99), time(of.max)];
        [vec![source.clone()], cells.to_vec()].concat()
    };
    let rows: Vec<_> = report.latency_seconds.iter().filter(|(_, of)| of.count > 0).map(latency).collect();
    text += &table(&["LATENCY", "ANSWERS", "P50", "P90", "P99", "MAX"], &[1, 2, 3, 4, 5], &rows);
    let upstreams = tables::upstreams(&report.upstreams);
    if !upstreams.is_empty() {
        text += &format!("\n{upstreams}");
    }
    let (cache, process) = (&report.cache, &report.process);
    let others = [
        ("cache entries", count(cache.entries), count(cache.capacity_entries)),
        ("cache size", octets(cache.size_bytes), octets(cache.capacity_bytes)),
        ("memory", octets(process.resident_memory_bytes), String::new()),
        ("open files", count(process.open_fds), String::new()),
    ];
    let counted = report.counters.iter().filter(|(_, n)| **n > 0);
    let rows: Vec<Vec<String>> = others
        .into_iter()
        .map(|(name, value, of)| vec![name.to_owned(), value, of])
        .chain(
            counted.map(|(name, n)| vec![name.trim_end_matches("_total").replace('_', " "), count(*n), String::new()]),
        )
        .collect();
    text + "\n" + &table(&["WHAT", "HOW MUCH", "OF"], &[1, 2], &rows)
}

fn by(name: &str, counts: &Counts, total: u64) -> String {
    let mut all: Vec<(&String, u64)> = counts.iter().map(|(name, n)| (name, *n)).filter(|(_, n)| *n > 0).collect();
    all.sort_by_key(|(name, n)| (std::cmp::Reverse(*n), (*name).clone()));
    let rows: Vec<_> = all.iter().map(|(name, n)| vec![(*name).clone(), count(*n), share(*n, total)]).collect();
    table(&[name, "ANSWERS", "SHARE"], &[1, 2], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_has_changed_and_a_restart_is_noticed() {
        let mut before = Stats { started_at: "a".to_owned(), uptime_seconds: 10.0, ..Stats::default() };
        (before.queries.total, before.cache.hits_total) = (100, 50);
        let mut now = before.clone();
        (now.uptime_seconds, now.generated_at) = (12.0, "2026-11-20T22:57:03.412Z".to_owned());
        (now.queries.total, now.cache.hits_total, now.cache.misses_total) = (140, 80, 10);
        assert_eq!(
            change(Some(&before), &now),
            "22:57:03      20.0  75.0 %       10       0       0          0         -"
        );
        now.started_at = "b".to_owned();
        assert!(change(Some(&before), &now).starts_with("22:57:03      11.7"), "{}", change(Some(&before), &now));
    }
}
