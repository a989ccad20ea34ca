//! `[upstream.NAME]`: servers with unique labels, fallbacks that end, and end soon.

use crate::config::address::{ServerText, label};
use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Node, Table, Value};
use crate::config::file::{STRATEGY, UPSTREAM};
use crate::config::get;
use crate::config::model::{Group, GroupId, Location, MAX_CHAIN, Upstream};
use crate::config::resolve::{Names, SYSTEM_GROUP, duplicate};
use std::collections::HashMap;
use std::net::SocketAddr;

/// Groups at most: [`GroupId`] is 16 bits, and a thousand is far beyond what a person writes.
pub(super) const MAX_GROUPS: usize = 1000;

/// Servers of a group at most; no question is asked of more than eight.
const MAX_SERVERS: usize = 64;

/// Returns the names of all groups by their [`GroupId`]; `system` is put first when it is not written.
pub(crate) fn names(root: &Table) -> Vec<String> {
    let written = root.always("upstream").entries.iter().map(|entry| entry.name.to_string());
    let mut names: Vec<String> = written.take(MAX_GROUPS).collect();
    if !names.iter().any(|name| name == SYSTEM_GROUP) {
        names.insert(0, SYSTEM_GROUP.to_owned());
    }
    names
}

/// Makes the groups, in the order of [`names`].
pub(crate) fn check(
    root: &Table,
    names: &Names,
    listen: &[SocketAddr],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Group> {
    let tables = root.always("upstream");
    if let Some(entry) = tables.entries.get(MAX_GROUPS) {
        diagnostics.push(too_many("too-many-groups", "upstream groups", MAX_GROUPS, entry.key_at.clone()));
    }
    let groups: Vec<Group> = names.groups.iter().map(|name| group(tables, name, names, listen, diagnostics)).collect();
    report_fallback_cycles(tables, &groups, diagnostics);
    report_long_chains(tables, &groups, diagnostics);
    groups
}

/// More of something than can be.
pub(crate) fn too_many(code: &'static str, what: &str, max: usize, at: Location) -> Diagnostic {
    Diagnostic::error(code, at, format!("at most {max} {what}")).found("more")
}

fn group(tables: &Table, name: &str, names: &Names, listen: &[SocketAddr], diagnostics: &mut Vec<Diagnostic>) -> Group {
    let Some(table) = tables.table(name) else { return automatic(name) };
    let servers = servers(table, name, listen, diagnostics);
    Group {
        name: name.to_owned(),
        servers: servers.found,
        auto: servers.auto,
        strategy: get::meaning(table, "strategy", &STRATEGY),
        timeout: get::duration(table, "timeout"),
        fallback: names.group(table, "fallback", diagnostics),
    }
}

/// The group that asks the machine's own resolvers, as `[upstream.system]` is when nobody writes it.
fn automatic(name: &str) -> Group {
    let table = Table::empty(&UPSTREAM, String::new(), Location::file(std::path::Path::new("")));
    Group {
        name: name.to_owned(),
        servers: Vec::new(),
        auto: true,
        strategy: get::meaning(&table, "strategy", &STRATEGY),
        timeout: get::duration(&table, "timeout"),
        fallback: None,
    }
}

#[derive(Default)]
struct Servers {
    found: Vec<Upstream>,
    auto: bool,
}

fn servers(table: &Table, group: &str, listen: &[SocketAddr], diagnostics: &mut Vec<Diagnostic>) -> Servers {
    let mut servers = Servers::default();
    let mut labels: HashMap<String, &Location> = HashMap::new();
    let mut addresses: HashMap<String, &Location> = HashMap::new();
    if let Some(node) = table.items("servers").get(MAX_SERVERS) {
        diagnostics.push(too_many("too-many-servers", "servers of a group", MAX_SERVERS, node.at.clone()));
    }
    for (index, node) in table.items("servers").iter().enumerate() {
        let path = format!("{}[{index}]", table.path_of("servers"));
        let Some((name, text, at)) = entry(node) else { continue };
        let ServerText::At(transport, address) = text else {
            if name.is_some() {
                let problem = Diagnostic::error("named-auto", at.clone(), "the address of one server");
                diagnostics
                    .push(problem.key(&path).found("\"auto\"").hint("write \"auto\" by itself, without a table"));
            } else if servers.auto {
                diagnostics.push(Diagnostic::error("duplicate-server", at.clone(), "\"auto\" once").key(&path));
            }
            servers.auto = true;
            continue;
        };
        let shown = label(transport, address);
        if let Some(first) = addresses.insert(shown.clone(), at) {
            diagnostics.push(duplicate("duplicate-server", "a server", &shown, first, at.clone()).key(&path));
            continue;
        }
        if listen.contains(&address) {
            let expected = "another address than the ones in [server] listen";
            let problem = Diagnostic::warning("asks-itself", at.clone(), expected);
            diagnostics.push(problem.key(&path).found(format!("{shown:?}")).hint("truename would ask itself"));
        }
        let label = format!("{group}/{}", name.as_deref().unwrap_or(&shown));
        if let Some(first) = labels.insert(label.clone(), at) {
            diagnostics.push(duplicate("duplicate-server", "a label", &label, first, at.clone()).key(&path));
        }
        servers.found.push(Upstream { label, address, transport });
    }
    if matches!(table.node("servers"), Some(Node { value: Value::List(items), .. }) if items.is_empty()) {
        let at = table.at_of("servers");
        let problem =
            Diagnostic::error("no-servers", at, "at least one server, or \"auto\" for the machine's resolvers");
        diagnostics.push(problem.key(table.path_of("servers")).found("[]"));
    }
    servers
}

/// Returns the name, the address and the place of one item of `servers`; nothing when it was wrong.
fn entry(node: &Node) -> Option<(Option<String>, ServerText, &Location)> {
    if let Value::Server(text) = &node.value {
        return Some((None, *text, &node.at));
    }
    let table = node.as_table()?;
    let address = table.node("address")?;
    if let Value::Server(text) = &address.value {
        return Some((get::text_if(table, "name"), *text, &address.at));
    }
    None
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
