//! `[[view]]`: names, clients that can be in them, their own defaults.

use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Node, Table, Value};
use crate::config::file::{GUARD, PRIVATE_ANSWERS};
use crate::config::get;
use crate::config::model::{DefaultRoute, View};
use crate::config::resolve::{DEFAULT_VIEW, Names, unique_name};
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::SocketAddr;

/// Views at most: a client is compared with each in turn, and `ViewId` is 16 bits.
pub(super) const MAX_VIEWS: usize = 1000;

/// Returns the names of all views by their `ViewId`; the first is everybody else.
pub(crate) fn names(root: &Table) -> Vec<String> {
    let written = root.tables("view").take(MAX_VIEWS);
    let name = |table: &Table| table.node("name").and_then(Node::as_text).unwrap_or_default().to_owned();
    std::iter::once(DEFAULT_VIEW.to_owned()).chain(written.map(name)).collect()
}

/// Makes the views in file order.
pub(crate) fn check(
    root: &Table,
    names: &Names,
    default: DefaultRoute,
    listen: &[SocketAddr],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<View> {
    if let Some(table) = root.tables("view").nth(MAX_VIEWS) {
        diagnostics.push(crate::config::resolve::too_many("too-many-views", "views", MAX_VIEWS, table.at.clone()));
    }
    let mut seen = HashMap::new();
    let mut views: Vec<View> = Vec::new();
    for table in root.tables("view").take(MAX_VIEWS) {
        unique_name(&mut seen, table, "a view name", diagnostics);
        let view = view(table, names, default, listen, diagnostics);
        report_reserved_name(table, &view, diagnostics);
        if let Some(earlier) = views.iter().find(|earlier| takes_all(earlier, &view)) {
            let expected = format!("clients that no earlier view takes: `{}` takes all of these first", earlier.name);
            let problem = Diagnostic::warning("view-never-matches", table.at.clone(), expected);
            diagnostics.push(problem.key(&table.path).found(format!("{:?}", view.name)));
        }
        views.push(view);
    }
    views
}

fn view(
    table: &Table,
    names: &Names,
    default: DefaultRoute,
    listen: &[SocketAddr],
    diagnostics: &mut Vec<Diagnostic>,
) -> View {
    let networks = |node: &Node| if let Value::Network(net) = node.value { Some(net) } else { None };
    let clients: Vec<IpNet> = table.items("clients").iter().filter_map(networks).collect();
    let mut addresses = Vec::new();
    for (index, node) in table.items("listen").iter().enumerate() {
        let Value::Listen(address) = node.value else { continue };
        if !listen.contains(&address) {
            let problem = Diagnostic::warning("no-such-listener", node.at.clone(), "an address of [server] listen");
            let key = format!("{}[{index}]", table.path_of("listen"));
            let hint = "without a listener there, nobody is in this view through it";
            diagnostics.push(problem.key(key).found(format!("\"{address}\"")).hint(hint));
        }
        addresses.push(address);
    }
    // A list that was written and is wrong was reported; only lists that are truly empty are meant here.
    if table.items("clients").is_empty() && table.items("listen").is_empty() && !has_bad(table) {
        let problem = Diagnostic::error("empty-view", table.at.clone(), "clients, listen or both");
        diagnostics.push(problem.key(&table.path).found("neither").hint("without them the view takes every client"));
    }
    View {
        name: get::text_if(table, "name").unwrap_or_default(),
        clients,
        listen: addresses,
        default: table.table("default").map(|own| DefaultRoute {
            upstream: names.group(own, "upstream", diagnostics).unwrap_or(default.upstream),
            private_answers: get::word_if(own, "private_answers")
                .and_then(|word| PRIVATE_ANSWERS.meaning(word))
                .unwrap_or(default.private_answers),
            guard: get::word_if(own, "guard").and_then(|word| GUARD.meaning(word)).unwrap_or(default.guard),
        }),
    }
}

fn has_bad(table: &Table) -> bool {
    ["clients", "listen"].iter().filter_map(|key| table.node(key)).any(|node| matches!(node.value, Value::Bad))
}

fn report_reserved_name(table: &Table, view: &View, diagnostics: &mut Vec<Diagnostic>) {
    if view.name == DEFAULT_VIEW {
        let problem = Diagnostic::error("reserved-name", table.at_of("name"), "another name");
        let hint = "`default` means the clients of no view; [default] is where they are answered from";
        diagnostics.push(problem.key(table.path_of("name")).found("\"default\"").hint(hint));
    }
}

/// Tells whether every client of `later` is in `earlier`.
fn takes_all(earlier: &View, later: &View) -> bool {
    let listeners = earlier.listen.is_empty()
        || (!later.listen.is_empty() && later.listen.iter().all(|address| earlier.listen.contains(address)));
    let covered = |net: &IpNet| earlier.clients.iter().any(|wide| wide.contains(net));
    let clients = earlier.clients.is_empty() || (!later.clients.is_empty() && later.clients.iter().all(covered));
    listeners && clients && !(earlier.listen.is_empty() && earlier.clients.is_empty())
}
