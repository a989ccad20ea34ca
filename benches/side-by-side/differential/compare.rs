//! What two answers to one question have in common, and what not.

use super::ask::Heard;
use super::explain;
use super::question::Question;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;
use truename::dns::wire::{Message, Section, flag};
use truename::dns::{Ede, Rcode, Record, Rtype};

/// Seconds of TTL the two may differ in: they have not asked the upstream in the same second.
const SLACK_S: u32 = 2;
/// Differences in TTL.
const LONGER_HERE: &str = "a longer TTL here";
const LONGER_THERE: &str = "a longer TTL there";
/// The TTL of nearly every record of the zones, and the longest that a cache may give.
const ZONE_TTL_S: u32 = 300;
const MAX_TTL_S: u32 = 86_400;
/// The TTL of the NS records above a zone. A recursive server that has them besides the zone's own gives now these, now
/// those.
const PARENT_TTL_S: u32 = 3_600;
/// The longest that truename may take: it promises 4.8 s, and the machine is busy with four servers and the harness.
const LATE: Duration = Duration::from_secs(6);
/// Examples kept of each class.
const EXAMPLES: usize = 3;

/// What was seen, by class.
#[derive(Debug, Default)]
pub(super) struct Tally {
    same: usize,
    /// The longest that an answer of truename's took.
    slowest: Duration,
    /// By what differed: questions whose answers did for no known reason, and, asked again, did not.
    passing: BTreeMap<String, (usize, String)>,
    faults: Vec<String>,
    explained: BTreeMap<&'static str, (usize, String)>,
    /// By kind of question and difference: how often, and some of them.
    unexplained: BTreeMap<(String, String), (usize, Vec<String>)>,
}

impl Tally {
    /// Takes what was found about one question: the differences between its answers, and after they were asked for
    /// again those that were left.
    pub(super) fn add(&mut self, question: &Question, seen: Seen) {
        let text = format!("{} {}", question.index, question.text);
        self.faults.extend(seen.faults.iter().map(|what| format!("{text}: {what}")));
        self.slowest = self.slowest.max(seen.took);
        self.same += usize::from(seen.differences.is_empty());
        if let Some(what) = seen.has_passed {
            self.passing.entry(what).or_insert_with(|| (0, text.clone())).0 += 1;
        }
        for difference in seen.differences {
            if let Some(rule) = explain::rule(question, &difference) {
                self.explained.entry(rule).or_insert_with(|| (0, text.clone())).0 += 1;
                continue;
            }
            let (count, examples) = self.unexplained.entry((question.kind.clone(), difference)).or_default();
            *count += 1;
            if examples.len() < EXAMPLES {
                examples.push(format!("{text} (TTL {} here, {} there; {})", seen.ttls.0, seen.ttls.1, seen.reason));
            }
        }
    }

    /// Tells whether every difference has a reason, and every answer of ours is sound.
    pub(super) fn is_clean(&self) -> bool {
        self.faults.is_empty() && self.unexplained.is_empty()
    }

    /// Writes everything down: what differs most often first.
    pub(super) fn report(self, count: usize, seed: u64) -> String {
        let mut out = format!("{count} questions, seed {seed}: {} answers are the same\n", self.same);
        for (what, (count, example)) in &self.passing {
            let _ = writeln!(out, "{count:6}  once, and not when asked again: {what}  {example}");
        }
        let slowest = self.slowest.as_secs_f64();
        let _ = writeln!(out, "{} faults of truename's answers; the slowest took {slowest:.2} s", self.faults.len());
        for fault in self.faults.iter().take(20) {
            let _ = writeln!(out, "  {fault}");
        }
        for (rule, (count, example)) in self.explained {
            let _ = writeln!(out, "{count:6}  {rule:<16}  {example}");
        }
        let _ = writeln!(out, "{} kinds of difference that nothing explains", self.unexplained.len());
        for ((kind, what), (count, examples)) in self.unexplained {
            let _ = writeln!(out, "{count:6}  {kind}: {what}");
            for example in examples {
                let _ = writeln!(out, "          {example}");
            }
        }
        out
    }
}

/// What became of one question.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// What is wrong with truename's answers, whatever the other one says.
    faults: Vec<String>,
    /// How long truename took, at most.
    took: Duration,
    pub(super) differences: Vec<String>,
    /// There was a difference without a reason, and it did not come again.
    pub(super) has_passed: Option<String>,
    /// The lowest TTL of either answer.
    ttls: (u32, u32),
    /// What truename's answer says about itself (RFC 8914).
    reason: String,
}

impl Seen {
    /// Compares the answers to one question. Either may be silence.
    pub(super) fn new(question: &Question, heard: &Heard) -> Self {
        let (ours, theirs) = (heard.ours.as_deref(), heard.theirs.as_deref());
        let took = if ours.is_some() { heard.took } else { Duration::ZERO };
        let late = (took > LATE).then(|| format!("it took {:.1} s", took.as_secs_f64()));
        let faults = ours.and_then(|ours| fault(question, ours)).into_iter().chain(late).collect();
        let differences = match (ours, theirs) {
            (None, None) => Vec::new(),
            (None, Some(_)) => vec!["truename is silent".to_owned()],
            (Some(_), None) => vec!["unbound is silent".to_owned()],
            (Some(ours), Some(theirs)) => differences(ours, theirs),
        };
        Self {
            faults,
            took,
            differences,
            has_passed: None,
            ttls: (lowest_ttl(ours), lowest_ttl(theirs)),
            reason: reason(ours),
        }
    }

    /// Takes over what was wrong with an earlier answer to the same question.
    pub(super) fn keep_faults(&mut self, before: Self) {
        self.faults.extend(before.faults);
        self.took = self.took.max(before.took);
    }

    /// Notes what the upstream of both says to the question. When it says nothing, or just what truename says, unbound's
    /// failure is its own, and truename's answer is one that it kept.
    pub(super) fn hear_upstream(&mut self, ours: Option<&[u8]>, answer: Option<&[u8]>) {
        let summary = |answer: Option<&[u8]>| {
            let message = Message::parse(answer?).ok()?;
            Some((message.rcode(), kinds(&records(&message))))
        };
        let (here, there) = (summary(ours), summary(answer));
        let is_silent = there.as_ref().is_none_or(|(rcode, _)| *rcode == Rcode::SERVFAIL);
        let unbound_failed = self.differences.iter().any(|difference| difference.ends_with("SERVFAIL there"));
        if unbound_failed && (is_silent || here == there) {
            self.differences = vec![explain::KEPT.to_owned()];
        }
        self.reason.push_str(&format!("; upstream: {there:?}, TTL {}", lowest_ttl(answer)));
    }

    /// Tells whether something differs that has no reason.
    pub(super) fn is_odd(&self, question: &Question) -> bool {
        self.differences.iter().any(|difference| explain::rule(question, difference).is_none())
    }
}

fn reason(answer: Option<&[u8]>) -> String {
    let message = answer.and_then(|answer| Message::parse(answer).ok());
    let ede = message.and_then(|message| Ede::from_option(message.edns().ok().flatten()?.option(15)?));
    ede.map_or_else(|| "no extended error".to_owned(), |ede| format!("EDE {} {}", ede.code, ede.text))
}

fn lowest_ttl(answer: Option<&[u8]>) -> u32 {
    let message = answer.and_then(|answer| Message::parse(answer).ok());
    message.and_then(|message| records(&message).iter().map(|(_, record)| record.ttl).min()).unwrap_or(0)
}

/// Says what is wrong with an answer of truename's by itself.
fn fault(question: &Question, answer: &[u8]) -> Option<String> {
    if answer[..2] != question.bytes[..2] || answer[2] & 0x80 == 0 {
        return Some("another id, or no response".to_owned());
    }
    let ttl = lowest_ttl(Some(answer));
    let zone_ttl = if question.qtype == Rtype::NS.0 { PARENT_TTL_S } else { ZONE_TTL_S };
    if ttl > MAX_TTL_S || (ttl > zone_ttl && !question.kind.contains("long TTL") && question.is_of_zones) {
        return Some(format!("a TTL of {ttl} s"));
    }
    if !question.tcp && answer.len() > question.limit_bytes {
        return Some(format!("{} octets of at most {}", answer.len(), question.limit_bytes));
    }
    if answer[5] == 0 {
        return None;
    }
    let Ok(message) = Message::parse(answer) else { return Some("it cannot be read".to_owned()) };
    if message.validate() != Ok(answer.len()) {
        return Some("it cannot be read to its end".to_owned());
    }
    let echoed = answer.get(12..question.question_end) == question.bytes.get(12..question.question_end);
    (!echoed).then(|| "another question".to_owned())
}

fn differences(ours: &[u8], theirs: &[u8]) -> Vec<String> {
    let (Ok(us), Ok(them)) = (Message::parse(ours), Message::parse(theirs)) else {
        // Without a question there is only the header.
        let word = |bytes: &[u8]| u16::from_be_bytes([bytes[2], bytes[3]]);
        let codes = (word(ours) & 15, word(theirs) & 15);
        let mut found = Vec::new();
        if codes.0 != codes.1 {
            found.push(format!("rcode {} here, {} there", codes.0, codes.1));
        }
        if ours[5] != theirs[5] {
            found.push(format!("questions echoed: {} here, {} there", ours[5], theirs[5]));
        }
        return found;
    };
    let mut found = Vec::new();
    if us.extended_rcode() != them.extended_rcode() {
        found.push(format!("rcode {} here, {} there", us.extended_rcode(), them.extended_rcode()));
    }
    let bits = [
        ("AA", flag::AA),
        ("TC", flag::TC),
        ("RD", flag::RD),
        ("RA", flag::RA),
        ("AD", flag::AD),
        ("CD", flag::CD),
        ("Z", 0x40),
    ];
    for (name, bit) in bits {
        match (us.has(bit), them.has(bit)) {
            (true, false) => found.push(format!("{name} here")),
            (false, true) => found.push(format!("{name} there")),
            _ => {}
        }
    }
    if us.qname() != them.qname() {
        found.push("the question's letter case".to_owned());
    }
    compare_answers(&us, &them, &mut found);
    let has = |message: &Message<'_>, rtype| message.section(Section::Authority).any(|at| at.rtype == rtype);
    for rtype in [Rtype::SOA, Rtype::NS] {
        match (has(&us, rtype), has(&them, rtype)) {
            (true, false) => found.push(format!("{rtype} in authority here")),
            (false, true) => found.push(format!("{rtype} in authority there")),
            _ => {}
        }
    }
    let whole = has(&us, Rtype::SOA);
    if whole {
        // An answer is kept as one: its alias has the TTL of the absence it leads to.
        for difference in found.iter_mut().filter(|difference| *difference == LONGER_THERE) {
            difference.push_str(" beside an SOA");
        }
    }
    let edns = |message: &Message<'_>| message.edns().ok().flatten().map(|edns| (edns.version, edns.dnssec_ok));
    if edns(&us) != edns(&them) {
        found.push(format!("EDNS (version, DO) {:?} here, {:?} there", edns(&us), edns(&them)));
    }
    found
}

fn compare_answers(us: &Message<'_>, them: &Message<'_>, found: &mut Vec<String>) {
    let (ours, theirs) = (records(us), records(them));
    let sets = |records: &[(String, Record)]| {
        let mut texts: Vec<String> = records.iter().map(|(text, _)| text.clone()).collect();
        texts.sort();
        texts
    };
    if sets(&ours) != sets(&theirs) {
        let (here, there) = (kinds(&ours), kinds(&theirs));
        found.push(if here == there { "other data".to_owned() } else { format!("answer {here} here, {there} there") });
        return;
    }
    let ttl = |records: &[(String, Record)]| records.iter().map(|(_, record)| record.ttl).min().unwrap_or(0);
    let (here, there) = (ttl(&ours), ttl(&theirs));
    if here > there + SLACK_S {
        found.push(LONGER_HERE.to_owned());
    } else if there > here + SLACK_S {
        found.push(LONGER_THERE.to_owned());
    }
}

/// Returns the records of the answer section, each with what it is but for its TTL and letter case.
fn records(message: &Message<'_>) -> Vec<(String, Record)> {
    let all = message.section(Section::Answer).filter_map(|at| Record::from_message(message, &at).ok());
    all.map(|record| {
        let text = format!(
            "{} {} {} {:02x?}",
            record.owner.to_lower(),
            record.class,
            record.rtype,
            record.rdata.to_ascii_lowercase()
        );
        (text, record)
    })
    .collect()
}

/// Says in short what an answer section holds: `CNAME A`, or `nothing`.
fn kinds(records: &[(String, Record)]) -> String {
    let mut kinds: Vec<String> = Vec::new();
    for (_, record) in records {
        let kind = record.rtype.to_string();
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(" ") }
}
