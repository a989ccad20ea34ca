//! Why the two differ, where they may: one rule for each row of docs/differences.md. What no rule takes is a finding.

use super::question::Question;

/// One reason: the row's name, the kinds of question it is about (by how they begin; empty: any), their types (empty:
/// any), and the differences it explains (by how they begin; empty: any).
struct Rule {
    name: &'static str,
    kinds: &'static [&'static str],
    types: &'static [u16],
    differences: &'static [&'static str],
}

impl Rule {
    const fn new(name: &'static str, kinds: &'static [&'static str], differences: &'static [&'static str]) -> Self {
        Self { name, kinds, types: &[], differences }
    }
}

/// RRSIG and NSEC.
const BESIDE_ALIASES: &[u16] = &[46, 47];

/// The difference that is left when the upstream failed and truename had kept an answer.
pub(super) const KEPT: &str = "an answer that was kept here, SERVFAIL there";

const RULES: &[Rule] = &[
    Rule::new("any", &["type ANY"], &[]),
    Rule::new("transfer", &["type IXFR"], &[]),
    Rule::new("class", &["class "], &[]),
    Rule::new("no-echo", &["opcode ", "broken: "], &["questions echoed: 0 here"]),
    Rule::new("opcode", &["opcode ", "broken: "], &["rcode 4 here"]),
    Rule::new("dname-type", &["DNAME"], &["SOA in authority here"]),
    Rule::new("trailing", &["broken: an octet too many"], &["rcode 1 here", "unbound is silent"]),
    Rule::new(
        "tc-in-query",
        &["TC set", "special use", "EDNS version 1"],
        &[
            "rcode NOERROR here, FORMERR there",
            "rcode NXDOMAIN here, FORMERR there",
            "rcode SERVFAIL here, FORMERR there",
            "rcode BADVERS here, FORMERR there",
        ],
    ),
    Rule::new(
        "tc-in-query",
        &["TC set", "EDNS version 1"],
        &["RA here", "AD there", "AA here", "TC here", "answer ", "SOA in authority here", "EDNS"],
    ),
    Rule::new("rd-clear", &["RD clear"], &[]),
    Rule::new("special-use", &["special use"], &[]),
    // Asked for RRSIG or NSEC of an alias, the recursive server gives what its cache has: the alias (of a loop of aliases,
    // SERVFAIL) when it is there, else what the authoritative server says: that there is no such record.
    Rule {
        name: "beside-aliases",
        kinds: &["alias"],
        types: BESIDE_ALIASES,
        differences: &[
            "other data",
            "answer CNAME here, nothing there",
            "answer nothing here, CNAME there",
            "SOA in authority",
        ],
    },
    Rule {
        name: "beside-aliases",
        kinds: &["alias loop"],
        types: BESIDE_ALIASES,
        differences: &["rcode NOERROR here, SERVFAIL there", "rcode SERVFAIL here, NOERROR there"],
    },
    // The recursive server follows 11 aliases, and one more for what is in its cache: a longer chain it answers when it happens
    // to have the first of its aliases.
    Rule::new(
        "long-chain",
        &["alias chain too long"],
        &[
            "rcode NOERROR here, SERVFAIL there",
            "rcode SERVFAIL here, NOERROR there",
            "answer CNAME",
            "answer nothing here, CNAME",
            "SOA in authority",
        ],
    ),
    Rule::new("failed-loop", &["alias loop"], &["answer nothing here, CNAME there"]),
    Rule::new("stale", &[], &[KEPT]),
    Rule::new("always-answered", &["dead", "alias to a dead server"], &["unbound is silent"]),
    Rule::new("datagram-size", &["large"], &["TC here", "answer nothing here"]),
    Rule::new("kept-as-one", &[], &["a longer TTL there beside an SOA"]),
    Rule::new("made-alias", &["DNAME"], &["a longer TTL there"]),
    Rule::new("kept-as-one", &["alias loop"], &["a longer TTL there"]),
    Rule::new("other-caches", &[], &["a longer TTL "]),
];

/// Returns the name of the rule that explains a difference.
pub(super) fn rule(question: &Question, difference: &str) -> Option<&'static str> {
    let begins = |words: &[&str], text: &str| words.is_empty() || words.iter().any(|word| text.starts_with(word));
    let takes = |rule: &&Rule| {
        let of_type = rule.types.is_empty() || rule.types.contains(&question.qtype);
        of_type && begins(rule.kinds, &question.kind) && begins(rule.differences, difference)
    };
    RULES.iter().find(takes).map(|rule| rule.name)
}
