//! `[[rewrite]]`: fixed answers for patterns of names.

use super::by_suffix::BySuffix;
use super::load::seconds;
use super::master::excerpt;
use super::outcome::LocalAnswer;
use super::presentation::record_line;
use super::rdata::{self, CLASS_IN};
use super::soa;
use super::store::service_host;
use crate::config::{Diagnostic, Location, Rewrite, Scope, ViewId};
use crate::dns::{Name, Origin, Rcode, Record, Rtype};
use std::hash::{Hash, Hasher};

/// One pattern of one rewrite.
#[derive(Debug)]
struct Rule {
    scope: Scope,
    rtype: Rtype,
    rdata: Box<[u8]>,
    ttl: u32,
    views: Option<Vec<ViewId>>,
    at: Location,
}

/// All rewrites, by the lower-cased name of their pattern, in file order.
#[derive(Debug, Default)]
pub(super) struct Rewrites(BySuffix<Vec<Rule>>);

impl Rewrites {
    /// Reads the answers.
    pub(super) fn load(rewrites: &[Rewrite], diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut all = Self::default();
        for rewrite in rewrites {
            let rdata = match rdata::parse_text(rewrite.rtype, &rewrite.value, &Name::root()) {
                Ok(_) if rewrite.rtype.is_meta() => {
                    let text = "a type that an answer can have";
                    diagnostics.push(
                        Diagnostic::error("record-type", rewrite.at.clone(), text)
                            .key(format!("{}.answer.type", rewrite.key))
                            .found(rewrite.rtype.to_string()),
                    );
                    continue;
                }
                Ok(rdata) => rdata,
                Err(error) => {
                    let text = format!("{} ({} record)", error.expected, rewrite.rtype);
                    let mut problem = Diagnostic::error("record-data", rewrite.value_at.clone(), text)
                        .key(format!("{}.answer.value", rewrite.key))
                        .found(excerpt(&rewrite.value));
                    problem.hint = error.hint;
                    diagnostics.push(problem);
                    continue;
                }
            };
            for pattern in &rewrite.patterns {
                let rule = Rule {
                    scope: pattern.scope,
                    rtype: rewrite.rtype,
                    rdata: rdata.clone(),
                    ttl: seconds(rewrite.ttl),
                    views: rewrite.views.clone(),
                    at: pattern.at.clone(),
                };
                all.0.entry(&pattern.name).push(rule);
            }
        }
        all
    }

    /// Finds the rules that decide a name: those of the pattern with the most labels, `=` before plain before `*`,
    /// ones for the view before ones for all. Several are left when the same pattern has several records.
    fn find(&self, view: ViewId, qname: &Name) -> Vec<&Rule> {
        if self.0.is_empty() {
            return Vec::new();
        }
        for (suffix, rules) in self.0.at_or_above(&qname.lower_wire()) {
            let whole = suffix.len() == qname.as_wire().len();
            let rank = |rule: &Rule| {
                let scope = match (rule.scope, whole) {
                    (Scope::Only, true) => 0_u8,
                    (Scope::NameAndBelow, _) => 1,
                    (Scope::Below, false) => 2,
                    (Scope::Only, false) | (Scope::Below, true) => return None,
                };
                let views = rule.views.as_ref();
                views.is_none_or(|views| views.contains(&view)).then_some((scope, views.is_none()))
            };
            if let Some(best) = rules.iter().filter_map(rank).min() {
                return rules.iter().filter(|rule| rank(rule) == Some(best)).collect();
            }
        }
        Vec::new()
    }

    /// Answers a question, when a rule is about it. As in overlays, a name whose addresses are given here has no
    /// others: the other family, HTTPS and SVCB are NODATA; further types are not decided here.
    pub(super) fn answer(&self, view: ViewId, qname: &Name, qtype: Rtype) -> Option<LocalAnswer> {
        let rules = self.find(view, qname);
        let Some(first) = rules.first() else { return self.withhold_service(view, qname, qtype) };
        let record = |rule: &Rule| Record {
            owner: qname.clone(),
            rtype: rule.rtype,
            class: CLASS_IN,
            ttl: rule.ttl,
            rdata: rule.rdata.clone(),
        };
        let source = |rule: &Rule| format!("{} {}", rule.at, record_line(&record(rule)));
        if let Some(alias) = rules.iter().find(|rule| rule.rtype == Rtype::CNAME) {
            let target = Name::from_wire(&alias.rdata).ok()?;
            // `example.org` to `safe.example.org`: the target is below the pattern and means itself.
            if target == *qname {
                return None;
            }
            let mut answer = LocalAnswer::records(Origin::Rewrite, vec![record(alias)], source(alias));
            answer.follow = (qtype != Rtype::CNAME && qtype != Rtype::ANY).then_some(target);
            return Some(answer);
        }
        let wanted = if qtype == Rtype::ANY { first.rtype } else { qtype };
        let matching: Vec<&&Rule> = rules.iter().filter(|rule| rule.rtype == wanted).collect();
        if let Some(hit) = matching.first() {
            let mut records: Vec<Record> = matching.iter().map(|rule| record(rule)).collect();
            // RFC 2181 section 5.2: one TTL for the whole RRset.
            let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(0);
            records.iter_mut().for_each(|record| record.ttl = ttl);
            return Some(LocalAnswer::records(Origin::Rewrite, records, source(hit)));
        }
        let gives_address = rules.iter().find(|rule| matches!(rule.rtype, Rtype::A | Rtype::AAAA));
        match gives_address {
            Some(rule) if matches!(qtype, Rtype::A | Rtype::AAAA | Rtype::HTTPS | Rtype::SVCB) => {
                Some(nodata(rule, qname, qtype))
            }
            _ => None,
        }
    }

    fn withhold_service(&self, view: ViewId, qname: &Name, qtype: Rtype) -> Option<LocalAnswer> {
        let host = service_host(qname, qtype)?;
        let rules = self.find(view, &host);
        let rule = rules.iter().find(|rule| matches!(rule.rtype, Rtype::A | Rtype::AAAA))?;
        Some(nodata(rule, qname, qtype))
    }

    /// Feeds what decides a name into a hash; returns whether anything does.
    pub(super) fn hash_name(&self, view: ViewId, qname: &Name, state: &mut impl Hasher) -> bool {
        let host = service_host(qname, Rtype::HTTPS);
        let mut any = false;
        for name in std::iter::once(qname).chain(&host) {
            for rule in self.find(view, name) {
                (rule.rtype, rule.ttl, &rule.rdata).hash(state);
                any = true;
            }
        }
        any
    }
}

fn nodata(rule: &Rule, qname: &Name, qtype: Rtype) -> LocalAnswer {
    let source = format!("{} gives {qname} other addresses, so it has no {qtype}", rule.at);
    LocalAnswer::negative(Origin::Rewrite, Rcode::NOERROR, soa::for_negative(qname, rule.ttl), source)
}
