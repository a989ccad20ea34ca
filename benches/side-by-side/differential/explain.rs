//! Why the two differ, where they may: one rule for each row of docs/differences.md. What no rule takes is a finding.

/// One reason: the row's name, the kinds of question it is about (by how they begin; empty: any), and the differences it
/// explains (by how they begin; empty: any).
struct Rule {
    name: &'static str,
    kinds: &'static [&'static str],
    differences: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule { name: "any", kinds: &["type ANY"], differences: &[] },
    Rule { name: "transfer", kinds: &["type IXFR"], differences: &[] },
    Rule { name: "class", kinds: &["class "], differences: &[] },
    Rule { name: "no-echo", kinds: &["opcode ", "broken: "], differences: &["questions echoed: 0 here"] },
    Rule { name: "opcode", kinds: &["opcode ", "broken: "], differences: &["rcode 4 here"] },
    Rule { name: "dname-type", kinds: &["DNAME"], differences: &["SOA in authority here"] },
    Rule {
        name: "trailing",
        kinds: &["broken: an octet too many"],
        differences: &["rcode 1 here", "unbound is silent"],
    },
    Rule {
        name: "tc-in-query",
        kinds: &["TC set", "special use"],
        differences: &[
            "rcode NOERROR here, FORMERR there",
            "rcode NXDOMAIN here, FORMERR there",
            "rcode SERVFAIL here, FORMERR there",
        ],
    },
    Rule {
        name: "tc-in-query",
        kinds: &["TC set"],
        differences: &["RA here", "AD there", "AA here", "answer ", "SOA in authority here", "EDNS"],
    },
    Rule { name: "rd-clear", kinds: &["RD clear"], differences: &[] },
    Rule { name: "special-use", kinds: &["special use"], differences: &[] },
    Rule { name: "always-answered", kinds: &["dead", "alias to a dead server"], differences: &["unbound is silent"] },
    Rule { name: "datagram-size", kinds: &["large"], differences: &["TC here", "answer nothing here"] },
    Rule { name: "kept-as-one", kinds: &[], differences: &["a longer TTL there beside an SOA"] },
    Rule { name: "made-alias", kinds: &["DNAME"], differences: &["a longer TTL there"] },
    Rule { name: "kept-as-one", kinds: &["alias loop"], differences: &["a longer TTL there"] },
    Rule { name: "other-caches", kinds: &[], differences: &["a longer TTL here"] },
];

/// Returns the name of the rule that explains a difference.
pub(super) fn rule(kind: &str, difference: &str) -> Option<&'static str> {
    let begins = |words: &[&str], text: &str| words.is_empty() || words.iter().any(|word| text.starts_with(word));
    RULES.iter().find(|rule| begins(rule.kinds, kind) && begins(rule.differences, difference)).map(|rule| rule.name)
}
