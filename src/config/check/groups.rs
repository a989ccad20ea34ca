//! `[upstream.NAME]`: the groups, written and built in, and fallbacks that end, and end soon.

use super::built_in;
use super::servers::{self, Surroundings};
use crate::config::diagnostic::Diagnostic;
use crate::config::document::Table;
use crate::config::file::{STRATEGY, UPSTREAM};
use crate::config::model::{Group, GroupId, Location, MAX_CHAIN, Requirement};
use crate::config::resolve::{Names, SYSTEM_GROUP, too_many};
use crate::config::{get, resolvers};
use std::net::SocketAddr;
use std::sync::Arc;

/// Groups at most: [`GroupId`] is 16 bits, and a thousand is far beyond what a person writes.
pub(super) const MAX_GROUPS: usize = 1000;

/// Returns the names of all groups by their [`GroupId`]: `system` is put first when it is not written, the built-in
/// groups last.
pub(crate) fn names(root: &Table) -> Vec<String> {
    let written = root.always("upstream").entries.iter().map(|entry| entry.name.to_string());
    let mut names: Vec<String> = written.take(MAX_GROUPS).collect();
    if !names.iter().any(|name| name == SYSTEM_GROUP) {
        names.insert(0, SYSTEM_GROUP.to_owned());
    }
    for group in resolvers::all() {
        if !names.iter().any(|name| name == group.name) {
            names.push(group.name.to_owned());
        }
    }
    names
}

/// Makes the groups, in the order of [`names`].
pub(crate) fn check(
    root: &Table,
    names: &Names,
    listen: &[SocketAddr],
    requirements: &mut Vec<Requirement>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Group> {
    let tables = root.always("upstream");
    if let Some(entry) = tables.entries.get(MAX_GROUPS) {
        diagnostics.push(too_many("too-many-groups", "upstream groups", MAX_GROUPS, entry.key_at.clone()));
    }
    // A group that nobody wrote asks the machine's resolvers, or is built in; the latter are not asked for names of others.
    let helps = |name: &String| match tables.table(name) {
        Some(table) if table.node("servers").is_some() => servers::helps(table),
        Some(_) | None => name == SYSTEM_GROUP,
    };
    let around = Surroundings { listen, somebody_helps: names.groups.iter().any(helps) };
    let mut make = |name: &String| match tables.table(name) {
        Some(table) => group(table, name, names, around, requirements, diagnostics),
        None => unwritten(name),
    };
    let groups: Vec<Group> = names.groups.iter().map(&mut make).collect();
    report_fallback_cycles(tables, &groups, diagnostics);
    report_long_chains(tables, &groups, diagnostics);
    groups
}

fn group(
    table: &Table,
    name: &str,
    names: &Names,
    around: Surroundings<'_>,
    requirements: &mut Vec<Requirement>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Group {
    let mut servers = servers::check(table, name, around, requirements, diagnostics);
    if table.node("servers").is_none() && name != SYSTEM_GROUP {
        match resolvers::find(name) {
            Some(known) => servers.found = built_in::servers(known, &servers.options, table),
            None => report_no_servers(table, diagnostics),
        }
    }
    Group {
        name: name.to_owned(),
        servers: servers.found,
        auto: servers.auto,
        options: servers.options,
        strategy: get::meaning(table, "strategy", &STRATEGY),
        timeout: get::duration(table, "timeout"),
        fallback: names.group(table, "fallback", diagnostics),
    }
}

/// A group that nobody wrote: one of the built-in ones, or `system`, which asks the machine's own resolvers.
fn unwritten(name: &str) -> Group {
    let table = Table::empty(&UPSTREAM, String::new(), Location::file(std::path::Path::new("")));
    let built_in = resolvers::find(name);
    let servers = built_in.map(|group| group.servers.iter().map(|server| server.upstream.clone()).collect());
    Group {
        name: name.to_owned(),
        servers: servers.unwrap_or_default(),
        auto: built_in.is_none(),
        options: Arc::default(),
        strategy: get::meaning(&table, "strategy", &STRATEGY),
        timeout: get::duration(&table, "timeout"),
        fallback: None,
    }
}

/// Reports that a group has no servers, as every key that must be there is reported.
fn report_no_servers(table: &Table, diagnostics: &mut Vec<Diagnostic>) {
    let key = UPSTREAM.keys.iter().find(|key| key.name == "servers");
    let expected = key.map(|key| key.kind.expected()).unwrap_or_default();
    let problem = Diagnostic::error("missing-key", table.at.clone(), expected);
    let problem = problem.key(table.path_of("servers")).found("nothing");
    diagnostics.push(problem.hint("add `servers = [\"auto\"]`, or the servers' addresses"));
}

/// Reports every ring of fallbacks once, at its first group in the file.
fn report_fallback_cycles(tables: &Table, groups: &[Group], diagnostics: &mut Vec<Diagnostic>) {
    let next = |id: usize| groups[id].fallback.map(|GroupId(next)| usize::from(next));
    for start in 0..groups.len() {
        let mut ring = vec![start];
        let mut at = start;
        while let Some(to) = next(at) {
            if to == start {
                let names: Vec<&str> = ring.iter().chain([&start]).map(|id| groups[*id].name.as_str()).collect();
                if let Some(table) = tables.table(&groups[start].name).filter(|_| ring.iter().all(|id| *id >= start)) {
                    let expected = "a group that does not come back to this one";
                    let problem = Diagnostic::error("fallback-cycle", table.at_of("fallback"), expected);
                    diagnostics.push(problem.key(table.path_of("fallback")).found(names.join(" -> ")));
                }
                break;
            }
            if ring.contains(&to) {
                break;
            }
            ring.push(to);
            at = to;
        }
    }
}

/// Reports every chain of fallbacks that is longer than a question follows it, at the group it begins with. What leads
/// into a ring is left to [`report_fallback_cycles`].
fn report_long_chains(tables: &Table, groups: &[Group], diagnostics: &mut Vec<Diagnostic>) {
    let next = |id: &usize| groups[*id].fallback.map(|GroupId(next)| usize::from(next));
    for (start, group) in groups.iter().enumerate() {
        if groups.iter().any(|other| other.fallback.is_some_and(|GroupId(to)| usize::from(to) == start)) {
            continue;
        }
        // One more than there are groups shows a ring.
        let chain: Vec<usize> = std::iter::successors(Some(start), next).take(groups.len() + 1).collect();
        let Some(table) = tables.table(&group.name).filter(|_| (MAX_CHAIN + 1..=groups.len()).contains(&chain.len()))
        else {
            continue;
        };
        let name = |at: usize| groups[chain[at]].name.as_str();
        let names: Vec<&str> = (0..chain.len()).map(name).collect();
        let expected = format!("at most {MAX_CHAIN} groups, each the fallback of the one before");
        let hint = format!(
            "no question gets as far as {:?}: take out the fallback of {:?}, or write their servers into one group",
            name(MAX_CHAIN),
            name(MAX_CHAIN - 1)
        );
        let problem = Diagnostic::error("fallback-chain", table.at_of("fallback"), expected);
        diagnostics.push(problem.key(table.path_of("fallback")).found(names.join(" -> ")).hint(hint));
    }
}
