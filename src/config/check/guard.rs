//! `[guard]`: whose replies are believed, and what is known of the others.

use super::zones::patterns;
use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Node, Table, Value};
use crate::config::get;
use crate::config::model::{Forged, GroupId, Guard};
use crate::config::resolve::Names;
use crate::config::resolvers::TRUSTED_GROUP;

/// Addresses and networks known to be forged: published lists have some hundred.
const MAX_FORGED: usize = 10_000;
/// Patterns of names that may differ: each guarded question looks at all of them.
const MAX_LAWFUL: usize = 64;
/// Addresses at which no resolver is.
const MAX_DECOYS: usize = 4;

/// Makes it.
pub(super) fn guard(root: &Table, names: &Names, diagnostics: &mut Vec<Diagnostic>) -> Guard {
    let table = root.always("guard");
    for (key, most) in [("forged_addresses", MAX_FORGED), ("allow_divergent", MAX_LAWFUL), ("decoys", MAX_DECOYS)] {
        if let Some(node) = table.items(key).get(most) {
            let problem = Diagnostic::error("too-many-items", node.at.clone(), format!("at most {most}"));
            diagnostics.push(problem.key(table.path_of(key)).found("more"));
        }
    }
    let built_in = names.groups.iter().position(|group| group == TRUSTED_GROUP).and_then(|at| u16::try_from(at).ok());
    let network = |node: Node| if let Value::Network(net) = node.value { Some(net) } else { None };
    let address = |node: Node| if let Value::Bootstrap(address) = node.value { Some(address) } else { None };
    Guard {
        references: names.group(table, "references", diagnostics).unwrap_or(GroupId(built_in.unwrap_or_default())),
        budget: get::duration(table, "budget"),
        hold_on: get::boolean(table, "hold_on"),
        proofs: get::boolean(table, "proofs"),
        forged: Forged::new(get::list(table, "forged_addresses").into_iter().filter_map(network).take(MAX_FORGED)),
        lawful: patterns(table, "allow_divergent").into_iter().take(MAX_LAWFUL).collect(),
        decoys: get::list(table, "decoys").into_iter().filter_map(address).take(MAX_DECOYS).collect(),
        persist: get::boolean(table, "persist"),
        keep: get::duration(table, "keep"),
        packets: get::boolean(table, "packets"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;

    #[test]
    fn lists_of_the_guard_are_read_and_bounded() {
        let quoted = |count: usize, item: &dyn Fn(usize) -> String| -> String {
            (0..count).map(|n| format!("\"{}\",", item(n))).collect()
        };
        let forged = |n: usize| format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
        let text = |more: usize| {
            format!(
                "[guard]\nforged_addresses = [{}]\nallow_divergent = [{}]\ndecoys = [{}]\n",
                quoted(MAX_FORGED + more, &forged),
                quoted(MAX_LAWFUL + more, &|n| format!("*.n{n}.example")),
                quoted(MAX_DECOYS + more, &|n| format!("192.0.2.{n}")),
            )
        };
        let most = load_text("x.toml", &text(0));
        assert_eq!(most.diagnostics, []);
        let guard = most.config.unwrap().guard;
        assert_eq!(guard.forged.members().len(), MAX_FORGED);
        assert!(guard.forged.has("10.0.1.2".parse().unwrap()) && !guard.forged.has("10.9.9.9".parse().unwrap()));
        assert_eq!((guard.lawful.len(), guard.decoys.len(), guard.decoys[3].port()), (MAX_LAWFUL, MAX_DECOYS, 53));
        let name = |text| crate::dns::Name::parse(text).unwrap();
        assert!(guard.may_differ(&name("www.n7.example")) && !guard.may_differ(&name("n7.example")));
        let more = load_text("x.toml", &text(1)).diagnostics;
        let keys: Vec<_> = more.iter().map(|problem| (problem.code, problem.key.as_str())).collect();
        let expected = ["guard.forged_addresses", "guard.allow_divergent", "guard.decoys"];
        assert_eq!(keys, expected.map(|key| ("too-many-items", key)));
    }
}
