//! `[[zone]]` and `[[rewrite]]`: one zone per name and view, records inside their zone.

use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Node, Table, Value};
use crate::config::model::{InlineRecord, Location, Pattern, Rewrite, ViewId, Zone};
use crate::config::resolve::{Names, duplicate, overlap};
use crate::config::{get, paths};
use crate::dns::Name;
use std::collections::HashMap;

/// The views a zone of some name was given for, and where.
type Given = (Option<Vec<ViewId>>, Location);

/// Makes the zones in file order.
pub(crate) fn zones(root: &Table, names: &Names, diagnostics: &mut Vec<Diagnostic>) -> Vec<Zone> {
    let mut seen: HashMap<Name, Vec<Given>> = HashMap::new();
    let mut zones = Vec::new();
    for table in root.tables("zone") {
        let views = names.views(table, diagnostics);
        let Some(apex) = get::name_if(table, "name") else {
            // Without a name nothing more can be said about the zone; that was reported.
            continue;
        };
        let at = table.at_of("name");
        let same = seen.entry(apex.clone()).or_default();
        if let Some((_, first)) = same.iter().find(|(other, _)| overlap(other.as_deref(), views.as_deref())) {
            let shown = apex.to_string();
            let problem = duplicate("duplicate-zone", "a zone, or other views,", &shown, first, at.clone());
            diagnostics.push(problem.key(table.path_of("name")));
        }
        same.push((views.clone(), at));
        zones.push(Zone {
            ttl: get::duration(table, "ttl"),
            records: records(table, &apex, diagnostics),
            file: get::text_if(table, "file").map(|file| paths::beside(&table.at, &file)),
            reverse: get::boolean(table, "reverse"),
            fallthrough: get::boolean(table, "fallthrough"),
            views,
            at: table.at.clone(),
            file_at: table.at_of("file"),
            key: table.path.clone(),
            apex,
        });
    }
    zones
}

fn records(zone: &Table, apex: &Name, diagnostics: &mut Vec<Diagnostic>) -> Vec<InlineRecord> {
    let mut records = Vec::new();
    for table in zone.tables("records") {
        let name = get::text(table, "name");
        let wrong = match Name::parse_relative(&name, apex) {
            Err(error) => Some(("bad-name", error.to_string())),
            Ok(owner) if !owner.is_at_or_below(apex) => Some((
                "out-of-zone",
                "a name with a dot at its end is absolute; without it, it is inside the zone".to_owned(),
            )),
            Ok(_) => None,
        };
        if let Some((code, hint)) = wrong {
            let expected = format!("a name inside {apex}, such as \"www\" or \"@\"");
            let problem = Diagnostic::error(code, table.at_of("name"), expected);
            diagnostics.push(problem.key(table.path_of("name")).found(format!("{name:?}")).hint(hint));
            continue;
        }
        // What is missing or wrong here was reported where it stands.
        let (Some(rtype), Some(value)) = (get::rtype_if(table, "type"), get::text_if(table, "value")) else { continue };
        records.push(InlineRecord {
            name,
            rtype,
            value,
            ttl: get::duration_if(table, "ttl"),
            at: table.at.clone(),
            value_at: table.at_of("value"),
            key: table.path.clone(),
        });
    }
    records
}

/// Makes the rewrites in file order.
pub(crate) fn rewrites(root: &Table, names: &Names, diagnostics: &mut Vec<Diagnostic>) -> Vec<Rewrite> {
    let mut rewrites = Vec::new();
    for table in root.tables("rewrite") {
        let views = names.views(table, diagnostics);
        if matches!(table.node("names"), Some(Node { value: Value::List(items), .. }) if items.is_empty()) {
            let problem = Diagnostic::error("no-names", table.at_of("names"), "at least one name pattern");
            diagnostics.push(problem.key(table.path_of("names")).found("[]"));
        }
        let Some(answer) = table.table("answer") else { continue };
        let (Some(rtype), Some(value)) = (get::rtype_if(answer, "type"), get::text_if(answer, "value")) else {
            continue;
        };
        rewrites.push(Rewrite {
            patterns: patterns(table, "names"),
            rtype,
            value,
            ttl: get::duration(answer, "ttl"),
            views,
            at: table.at.clone(),
            value_at: answer.at_of("value"),
            key: table.path.clone(),
        });
    }
    rewrites
}

/// Returns the good patterns of an array.
pub(crate) fn patterns(table: &Table, key: &str) -> Vec<Pattern> {
    let pattern = |node: &Node| {
        let Value::Pattern(name, scope) = &node.value else { return None };
        Some(Pattern { name: name.clone(), scope: *scope, at: node.at.clone() })
    };
    table.items(key).iter().filter_map(pattern).collect()
}
