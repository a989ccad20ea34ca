//! Tables of what a daemon has: upstreams, zones, routes.

use super::args::{ReadArguments, SwitchArguments};
use super::exit::{Failed, Outcome};
use super::figures::{count, share, table, time};
use super::{daemon, render};
use crate::control::Door;
use crate::control::report::{Route, Upstream, WrongClock, Zone};
use serde::Deserialize;

/// Lists the upstreams of which something is known, and how many others there are; empty for none.
pub(super) fn known_upstreams(all: &[Upstream]) -> String {
    let known: Vec<Upstream> = all.iter().filter(|upstream| is_known(upstream)).cloned().collect();
    let text = upstreams(&known);
    match all.len() - known.len() {
        0 => text,
        others => format!("{text}{others} others, not asked so far: truename upstreams live\n"),
    }
}

/// Tells whether an upstream was ever asked, or somebody has decided about it.
pub(super) fn is_known(upstream: &Upstream) -> bool {
    upstream.queries_total > 0 || upstream.state != "probing"
}

/// Lists upstreams; empty for none.
pub(super) fn upstreams(upstreams: &[Upstream]) -> String {
    if upstreams.is_empty() {
        return String::new();
    }
    let row = |upstream: &Upstream| {
        let errors: u64 = upstream.errors_total.values().sum();
        vec![
            format!("{}/{}", upstream.group, upstream.name),
            upstream.protocol.clone(),
            format!("{} {}", sign(&upstream.state), upstream.state),
            count(upstream.queries_total),
            time(upstream.latency_seconds.p50),
            time(upstream.latency_seconds.p99),
            share(errors, upstream.queries_total),
        ]
    };
    let head = ["UPSTREAM", "PROTO", "STATE", "QUERIES", "P50", "P99", "ERRORS"];
    table(&head, &[3, 4, 5, 6], &upstreams.iter().map(row).collect::<Vec<_>>())
}

/// Says what stands in the way of all encrypted upstreams, when something does.
pub(super) fn wrong_clock(clock: Option<&WrongClock>) -> String {
    let Some(clock) = clock else { return String::new() };
    format!(
        "▲ {}; no certificate is believed until it is set\n  → timedatectl status\n\n",
        render::visible(&clock.text)
    )
}

pub(super) fn sign(state: &str) -> char {
    match state {
        "up" => '●',
        "degraded" => '▲',
        "down" => '✗',
        _ => '○',
    }
}

/// `truename upstreams live`.
pub(super) fn live(arguments: &ReadArguments) -> Result<Outcome, Failed> {
    #[derive(Deserialize)]
    struct Document {
        upstreams: Vec<Upstream>,
        #[serde(default)]
        wrong_clock: Option<WrongClock>,
    }
    show(arguments, "/upstreams", |document: Document| {
        wrong_clock(document.wrong_clock.as_ref()) + &upstreams(&document.upstreams)
    })
}

/// `truename upstreams enable` and `disable`.
pub(super) fn switch(arguments: &SwitchArguments, verb: &str) -> Result<Outcome, Failed> {
    let target = format!("/upstreams/{}/{verb}", daemon::encoded(&arguments.name));
    let document = daemon::ask(&arguments.read.at, Door::Control, &http::Method::POST, &target)?;
    let text = if arguments.read.json {
        daemon::text(&document)
    } else {
        let document: serde_json::Value = daemon::read(&document)?;
        format!("{} {verb}d", document["switched"])
    };
    render::result(&text)?;
    Ok(Outcome::Fine)
}

/// `truename zones`.
pub(super) fn zones(arguments: &ReadArguments) -> Result<Outcome, Failed> {
    #[derive(Deserialize)]
    struct Document {
        zones: Vec<Zone>,
    }
    show(arguments, "/zones", |document: Document| {
        let row = |zone: &Zone| {
            let serial = zone.serial.map_or_else(|| "-".to_owned(), |serial| serial.to_string());
            vec![zone.name.clone(), count(zone.records), serial, zone.views.join(","), zone.source.clone()]
        };
        let rows: Vec<_> = document.zones.iter().map(row).collect();
        table(&["ZONE", "RECORDS", "SERIAL", "VIEWS", "FROM"], &[1, 2], &rows)
    })
}

/// `truename routes`.
pub(super) fn routes(arguments: &ReadArguments) -> Result<Outcome, Failed> {
    #[derive(Deserialize)]
    struct Document {
        routes: Vec<Route>,
    }
    show(arguments, "/routes", |document: Document| {
        let row = |route: &Route| {
            let private = if route.private { "private" } else { "public" };
            let source = route.source.clone().unwrap_or_default();
            vec![route.name.clone(), route.upstream.clone(), private.to_owned(), route.on_failure.clone(), source]
        };
        let rows: Vec<_> = document.routes.iter().map(row).collect();
        table(&["ROUTE", "UPSTREAM", "NAMES", "ON FAILURE", "FROM"], &[], &rows)
    })
}

fn show<T: serde::de::DeserializeOwned>(
    arguments: &ReadArguments,
    path: &str,
    as_text: impl FnOnce(T) -> String,
) -> Result<Outcome, Failed> {
    let document = daemon::get(&arguments.at, Door::Stats, path)?;
    let text = if arguments.json { daemon::text(&document) } else { as_text(daemon::read(&document)?) };
    render::result(&text)?;
    Ok(Outcome::Fine)
}
