//! `[[route]]`: names from everywhere they can come from, and routes or patterns that can never match.

use super::zones::patterns;
use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Node, Table, Value};
use crate::config::file::{GUARD, LIST_FORMAT, ON_FAILURE, PRIVATE, PRIVATE_ANSWERS};
use crate::config::model::{GroupId, ListFile, Pattern, Route, Scope, Tristate, Zone};
use crate::config::presets;
use crate::config::resolve::{Names, covers, unique_name, unknown};
use crate::config::{get, paths};
use crate::dns::{Name, Rtype};
use std::collections::HashMap;

/// Makes the routes in file order.
pub(crate) fn check(root: &Table, names: &Names, zones: &[Zone], diagnostics: &mut Vec<Diagnostic>) -> Vec<Route> {
    let mut seen = HashMap::new();
    let mut routes = Vec::new();
    for (index, table) in root.tables("route").enumerate() {
        unique_name(&mut seen, table, "a route name", diagnostics);
        routes.push(route(index, table, names, diagnostics));
    }
    let tables: Vec<&Table> = root.tables("route").collect();
    report_never_matching(&tables, &routes, zones, diagnostics);
    routes
}

fn route(index: usize, table: &Table, names: &Names, diagnostics: &mut Vec<Diagnostic>) -> Route {
    let mut all = patterns(table, "names");
    all.extend(preset_patterns(table.items("presets"), &table.path_of("presets"), diagnostics));
    let sources = ["names", "presets", "names_from"];
    if sources.iter().all(|key| table.items(key).is_empty())
        && !sources.iter().filter_map(|key| table.node(key)).any(|node| matches!(node.value, Value::Bad))
    {
        let problem = Diagnostic::error("no-names", table.at.clone(), "names, presets or names_from");
        diagnostics.push(problem.key(&table.path).found("no name").hint("all names are written names = [\".\"]"));
    }
    Route {
        name: get::text_if(table, "name").unwrap_or_else(|| format!("route-{}", index + 1)),
        patterns: all,
        exclude: patterns(table, "exclude"),
        lists: lists(table),
        views: names.views(table, diagnostics),
        upstream: names.group(table, "upstream", diagnostics).unwrap_or(GroupId(0)),
        private: match get::boolean_if(table, "private") {
            Some(true) => Tristate::True,
            Some(false) => Tristate::False,
            None => get::meaning(table, "private", &PRIVATE),
        },
        on_failure: get::word_if(table, "on_failure").and_then(|word| ON_FAILURE.meaning(word)),
        private_answers: get::word_if(table, "private_answers").and_then(|word| PRIVATE_ANSWERS.meaning(word)),
        guard: get::word_if(table, "guard").and_then(|word| GUARD.meaning(word)),
        at: table.at.clone(),
    }
}

/// Returns the domains of the presets named under the key `path`, each at the place of the preset's name.
pub(super) fn preset_patterns(items: &[Node], path: &str, diagnostics: &mut Vec<Diagnostic>) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for (index, node) in items.iter().enumerate() {
        let Some(name) = node.as_text() else { continue };
        let Some(preset) = presets::find(name) else {
            let known: Vec<String> = presets::all().iter().map(|preset| preset.name.clone()).collect();
            let problem = unknown("unknown-preset", "a preset", name, &known, node.at.clone());
            diagnostics.push(problem.key(format!("{path}[{index}]")));
            continue;
        };
        patterns.extend(preset.entries.iter().map(|entry| Pattern {
            name: entry.name.clone(),
            scope: Scope::NameAndBelow,
            at: node.at.clone(),
        }));
    }
    patterns
}

fn lists(table: &Table) -> Vec<ListFile> {
    let list = |list: &Table| {
        Some(ListFile {
            path: paths::beside(&list.at, &get::text_if(list, "path")?),
            format: get::meaning(list, "format", &LIST_FORMAT),
            at: list.at.clone(),
        })
    };
    table.tables("names_from").filter_map(list).collect()
}

/// Reports patterns that something else always wins over, once per place in the file.
fn report_never_matching(tables: &[&Table], routes: &[Route], zones: &[Zone], diagnostics: &mut Vec<Diagnostic>) {
    let mut by_name: HashMap<&Name, Vec<(usize, &Pattern)>> = HashMap::new();
    for (index, route) in routes.iter().enumerate() {
        for pattern in &route.patterns {
            by_name.entry(&pattern.name).or_default().push((index, pattern));
        }
    }
    let by_apex = zones_by_apex(zones);
    for (index, route) in routes.iter().enumerate() {
        let mut reported = None;
        for pattern in &route.patterns {
            if reported == Some(&pattern.at) {
                continue;
            }
            let rivals = by_name.get(&pattern.name).map(Vec::as_slice).unwrap_or_default();
            let winner = rivals.iter().find(|(other, theirs)| wins(routes, (*other, theirs), (index, pattern)));
            let (taker, place) = match winner {
                Some((other, theirs)) => (format!("route `{}`", routes[*other].name), &theirs.at),
                None => match zone_that_answers(&by_apex, route, pattern) {
                    Some(zone) => (format!("zone {}", zone.apex), &zone.at),
                    None => continue,
                },
            };
            let expected = format!("a pattern that can match: {taker} ({place}) takes {pattern} first");
            let problem = Diagnostic::warning("never-matches", pattern.at.clone(), expected);
            let key = key_at(tables[index], pattern);
            diagnostics.push(problem.key(key).found(format!("\"{pattern}\" in route `{}`", route.name)));
            reported = Some(&pattern.at);
        }
    }
}

/// Tells whether pattern `a` of one route takes every name of the equally named pattern `b`.
fn wins(routes: &[Route], (a_route, a): (usize, &Pattern), (b_route, b): (usize, &Pattern)) -> bool {
    let (ours, theirs) = (&routes[a_route], &routes[b_route]);
    // Two patterns of one route go to the same group; nothing is lost.
    if a_route == b_route || !covers(ours.views.as_deref(), theirs.views.as_deref()) {
        return false;
    }
    let beats = match (a.scope, b.scope) {
        // `name` has precedence over `*.name` wherever it stands, and covers all of it.
        (Scope::NameAndBelow, Scope::Below) => true,
        (one, other) => one == other && a_route < b_route,
    };
    // What a route excludes goes on to the next; then the later pattern may have something left.
    let cut = |exclude: &Pattern| exclude.name.is_at_or_below(&a.name) || a.name.is_at_or_below(&exclude.name);
    beats && !ours.exclude.iter().any(cut)
}

type ZonesByApex<'a> = HashMap<&'a Name, Vec<&'a Zone>>;

/// Returns the zones that answer every name inside them by themselves: not those that may delegate a part.
fn zones_by_apex(zones: &[Zone]) -> ZonesByApex<'_> {
    let mut by_apex = ZonesByApex::new();
    let whole = |zone: &&Zone| {
        !zone.fallthrough && zone.file.is_none() && !zone.records.iter().any(|record| record.rtype == Rtype::NS)
    };
    for zone in zones.iter().filter(whole) {
        by_apex.entry(&zone.apex).or_default().push(zone);
    }
    by_apex
}

fn zone_that_answers<'a>(by_apex: &ZonesByApex<'a>, route: &Route, pattern: &Pattern) -> Option<&'a Zone> {
    let mut name = Some(pattern.name.clone());
    while let Some(current) = name {
        let zones = by_apex.get(&current).map(Vec::as_slice).unwrap_or_default();
        let answering = zones.iter().find(|zone| covers(zone.views.as_deref(), route.views.as_deref()));
        if let Some(zone) = answering {
            return Some(zone);
        }
        name = current.parent();
    }
    None
}

/// Returns the key of the array item that gave a pattern.
fn key_at(table: &Table, pattern: &Pattern) -> String {
    let at = |key: &str| {
        table.items(key).iter().position(|node: &Node| node.at == pattern.at).map(|at| (key.to_owned(), at))
    };
    match at("names").or_else(|| at("presets")) {
        Some((key, at)) => format!("{}[{at}]", table.path_of(&key)),
        None => table.path.clone(),
    }
}
