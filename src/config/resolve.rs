//! The names the user gave to upstream groups and views, and finding what a reference means.

use super::diagnostic::Diagnostic;
use super::document::{Node, Table};
use super::model::{GroupId, Location, ViewId};
use super::nearest::nearest;

/// The name of the group that is always there.
pub(crate) const SYSTEM_GROUP: &str = "system";
/// The view of clients that no `[[view]]` matches.
pub(crate) const DEFAULT_VIEW: &str = "default";
/// Names listed in one message.
const MAX_LISTED: usize = 12;

/// What references can point to.
#[derive(Debug)]
pub(crate) struct Names {
    /// Groups by [`GroupId`].
    pub(crate) groups: Vec<String>,
    /// Views by [`ViewId`]; the first is [`DEFAULT_VIEW`].
    pub(crate) views: Vec<String>,
}

impl Names {
    /// Finds the group that `key` of `table` names; `None` when it is not written or, after a message, unknown.
    pub(crate) fn group(&self, table: &Table, key: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<GroupId> {
        let node = table.node(key)?;
        let name = node.as_text()?;
        let found = self.groups.iter().position(|group| group == name);
        if found.is_none() {
            let problem = unknown("unknown-upstream", "an upstream group", name, &self.groups, node.at.clone());
            diagnostics.push(problem.key(table.path_of(key)));
        }
        found.and_then(|at| u16::try_from(at).ok()).map(GroupId)
    }

    /// Finds the views that `views` of `table` names; `None` is all. Unknown ones are reported and left out.
    pub(crate) fn views(&self, table: &Table, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<ViewId>> {
        table.node("views")?;
        let mut ids = Vec::new();
        for (at, node) in table.items("views").iter().enumerate() {
            let Some(name) = node.as_text() else { continue };
            match self.views.iter().position(|view| view == name).and_then(|id| u16::try_from(id).ok()) {
                Some(id) if ids.contains(&ViewId(id)) => {}
                Some(id) => ids.push(ViewId(id)),
                None => {
                    let problem = unknown("unknown-view", "a view", name, &self.views, node.at.clone());
                    diagnostics.push(problem.key(format!("{}[{at}]", table.path_of("views"))));
                }
            }
        }
        if table.items("views").is_empty() {
            let at = table.at_of("views");
            let problem = Diagnostic::error("no-views", at, "at least one view, or no `views` for all of them");
            diagnostics.push(problem.key(table.path_of("views")).found("[]"));
        }
        Some(ids)
    }
}

/// A reference to something that is not there.
pub(crate) fn unknown(code: &'static str, what: &str, found: &str, known: &[String], at: Location) -> Diagnostic {
    let mut seen = std::collections::HashSet::new();
    let each: Vec<&str> = known.iter().map(String::as_str).filter(|name| seen.insert(*name)).collect();
    let mut listed = each[..each.len().min(MAX_LISTED)].join(", ");
    if each.len() > MAX_LISTED {
        listed.push_str(", …");
    }
    let mut problem = Diagnostic::error(code, at, format!("{what} that exists: {listed}")).found(format!("{found:?}"));
    problem.hint = nearest(found, known.iter().map(String::as_str)).map(|near| format!("did you mean \"{near}\"?"));
    problem
}

/// More of something than can be.
pub(crate) fn too_many(code: &'static str, what: &str, max: usize, at: Location) -> Diagnostic {
    Diagnostic::error(code, at, format!("at most {max} {what}")).found("more")
}

/// The same thing a second time; names the first place.
pub(crate) fn duplicate(code: &'static str, what: &str, found: &str, first: &Location, at: Location) -> Diagnostic {
    Diagnostic::error(code, at, format!("{what} that is not given yet"))
        .found(format!("{found:?}"))
        .hint(format!("it is given first at {first}"))
}

/// Reports a name that an earlier table of the same array has.
pub(crate) fn unique_name<'a>(
    seen: &mut std::collections::HashMap<&'a str, &'a Location>,
    table: &'a Table,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let Some((node, name)) = table.node("name").and_then(|node: &Node| Some((node, node.as_text()?))) else { return };
    match seen.get(name) {
        Some(first) => {
            let problem = duplicate("duplicate-name", what, name, first, node.at.clone());
            diagnostics.push(problem.key(table.path_of("name")));
        }
        None => drop(seen.insert(name, &node.at)),
    }
}

/// Tells whether every client that `inner` is for is also one that `outer` is for.
pub(crate) fn covers(outer: Option<&[ViewId]>, inner: Option<&[ViewId]>) -> bool {
    match (outer, inner) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => inner.iter().all(|view| outer.contains(view)),
    }
}

/// Tells whether some client is in both.
pub(crate) fn overlap(one: Option<&[ViewId]>, other: Option<&[ViewId]>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.iter().any(|view| other.contains(view)),
        _ => true,
    }
}
