//! How well recorded cases are judged: precision, recall and F1 per class, and the four figures that matter to a client.

use super::replay::{Recorded, Served};
use super::verdict::{Decision, Verdict};
use serde_json::{Value, json};

/// What counts as the right verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Every acceptable verdict, since some recordings cannot tell.
    Lenient,
    /// The case's class alone.
    Strict,
}

/// Right ones among those called so, and among those that are so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ratio {
    right: u32,
    called: u32,
    are: u32,
}

impl Ratio {
    fn add(&mut self, called: bool, are: bool) {
        self.called += u32::from(called);
        self.are += u32::from(are);
        self.right += u32::from(called && are);
    }

    /// Returns the share of those called so that are so; 1 when none was.
    #[must_use]
    pub fn precision(self) -> f64 {
        share(self.right, self.called)
    }

    /// Returns the share of those that are so that were called so; 1 when none is.
    #[must_use]
    pub fn recall(self) -> f64 {
        share(self.right, self.are)
    }

    /// Returns the harmonic mean of both.
    #[must_use]
    pub fn f1(self) -> f64 {
        share(2 * self.right, self.called + self.are)
    }

    /// Returns how many are so.
    #[must_use]
    pub fn cases(self) -> u32 {
        self.are
    }
}

/// Returns a share; of nothing, everything is right.
fn share(part: u32, whole: u32) -> f64 {
    if whole == 0 { 1.0 } else { f64::from(part) / f64::from(whole) }
}

/// Sums over cases. Its size does not depend on their number.
#[derive(Debug, Clone, Default)]
pub struct Score {
    cases: u32,
    /// By count and verdict.
    classes: [[Ratio; Verdict::ALL.len()]; 2],
    /// "Somebody made this up", by count.
    manipulated: [Ratio; 2],
    manipulations: u32,
    forged_served: u32,
    benign: u32,
    benign_accused: u32,
    right_served: u32,
}

impl Score {
    /// Adds a case and what was decided about it.
    pub fn add(&mut self, case: &Recorded, decision: &Decision) {
        let verdict = decision.verdict;
        let served = Served::of(decision);
        self.cases += 1;
        self.right_served += u32::from(served.fits(case.serve));
        if case.class.is_manipulation() {
            self.manipulations += 1;
            self.forged_served += u32::from(matches!(served, Served::Suspect | Served::Unverified));
        }
        if case.class == Verdict::BenignDivergent {
            self.benign += 1;
            self.benign_accused += u32::from(verdict.is_manipulation());
        }
        for count in [Count::Lenient, Count::Strict] {
            // A verdict that is acceptable is taken as what the case is.
            let acceptable = count == Count::Lenient && case.acceptable.contains(&verdict);
            let is = if acceptable { verdict } else { case.class };
            for (ratio, of) in self.classes[count as usize].iter_mut().zip(Verdict::ALL) {
                ratio.add(verdict == of, is == of);
            }
            self.manipulated[count as usize].add(verdict.is_manipulation(), is.is_manipulation());
        }
    }

    /// Returns how many cases were added.
    #[must_use]
    pub fn cases(&self) -> u32 {
        self.cases
    }

    /// Returns the figures of one class.
    #[must_use]
    pub fn class(&self, verdict: Verdict, count: Count) -> Ratio {
        let ratios = self.classes[count as usize].iter().zip(Verdict::ALL);
        ratios.into_iter().find(|(_, of)| *of == verdict).map_or_else(Ratio::default, |(ratio, _)| *ratio)
    }

    /// Returns the figures of "manipulated": poisoned or hijacked.
    #[must_use]
    pub fn manipulated(&self, count: Count) -> Ratio {
        self.manipulated[count as usize]
    }

    /// Returns the share of manipulated cases in which the client gets the suspect's answer.
    #[must_use]
    pub fn forged_served(&self) -> f64 {
        if self.manipulations == 0 { 0.0 } else { share(self.forged_served, self.manipulations) }
    }

    /// Returns the share of cases in which the client gets what it should.
    #[must_use]
    pub fn right_served(&self) -> f64 {
        share(self.right_served, self.cases)
    }

    /// Returns the share of lawful differences that were called a manipulation.
    #[must_use]
    pub fn benign_accused(&self) -> f64 {
        if self.benign == 0 { 0.0 } else { share(self.benign_accused, self.benign) }
    }

    /// Returns the figures as rows: label, value, and of how many.
    #[must_use]
    pub fn figures(&self) -> [(&'static str, f64, String); 3] {
        let of = |part: u32, whole: u32| format!("{part} of {whole}");
        [
            ("forged answer served", self.forged_served(), of(self.forged_served, self.manipulations)),
            ("right answer served", self.right_served(), of(self.right_served, self.cases)),
            ("benign called manipulated", self.benign_accused(), of(self.benign_accused, self.benign)),
        ]
    }

    /// Returns everything as one JSON value.
    #[must_use]
    pub fn as_json(&self) -> Value {
        let ratio = |ratio: Ratio| {
            json!({
                "precision": ratio.precision(), "recall": ratio.recall(), "f1": ratio.f1(),
                "right": ratio.right, "called": ratio.called, "cases": ratio.are,
            })
        };
        let count = |count: Count| {
            let classes: serde_json::Map<_, _> = Verdict::ALL
                .into_iter()
                .map(|verdict| (verdict.as_str().to_owned(), ratio(self.class(verdict, count))))
                .collect();
            json!({ "classes": classes, "manipulated": ratio(self.manipulated(count)) })
        };
        json!({
            "cases": self.cases,
            "forged_served": self.forged_served(),
            "right_served": self.right_served(),
            "benign_called_manipulated": self.benign_accused(),
            "lenient": count(Count::Lenient),
            "strict": count(Count::Strict),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::guard::replay::{Scope, replay};

    /// A case of one suspect address and one trusted one.
    fn case(class: &str, acceptable: &str, serve: &str, suspect: &str) -> Recorded {
        let reply = |address: &str| json!({ "rcode": "NOERROR", "flags": ["QR", "RD", "RA"], "edns": true, "ans": [["a.test", "A", 300, address]] });
        let line = json!({
            "id": "0", "class": class, "acceptable": [class, acceptable], "name": "a.test", "qtype": "A", "serve": serve,
            "ctx": { "guarded": false },
            "upstreams": [
                { "role": "suspect", "server": "isp", "transport": "udp", "responses": [reply(suspect)] },
                { "role": "trusted", "server": "doh", "transport": "doh", "responses": [reply("93.184.216.34")] },
            ],
        });
        Recorded::read(&line.to_string()).unwrap()
    }

    #[test]
    fn counts_differ_where_a_second_verdict_is_acceptable() {
        let mut score = Score::default();
        for case in [
            case("poisoned", "undecidable", "trusted", "31.13.94.10"),
            case("poisoned", "poisoned", "trusted", "10.0.0.1"),
            case("benign_divergent", "consistent", "suspect", "93.184.216.34"),
            case("benign_divergent", "benign_divergent", "suspect", "10.0.0.1"),
        ] {
            score.add(&case, &replay(&case, Scope::All));
        }
        let poisoned = |count| score.class(Verdict::Poisoned, count);
        assert_eq!((poisoned(Count::Strict).precision(), poisoned(Count::Strict).recall()), (0.5, 0.5));
        assert_eq!((poisoned(Count::Lenient).precision(), poisoned(Count::Lenient).recall()), (0.5, 1.0));
        assert_eq!((score.forged_served(), score.right_served(), score.benign_accused()), (0.0, 0.75, 0.5));
        assert_eq!(score.manipulated(Count::Strict).cases(), 2);
    }

    #[test]
    fn nothing_was_judged_wrongly_when_nothing_was_judged() {
        let score = Score::default();
        assert_eq!((score.forged_served(), score.right_served(), score.benign_accused()), (0.0, 1.0, 0.0));
    }
}
