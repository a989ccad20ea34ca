//! Stage 7: is this reply true? Decides, and says what it would need to know to decide better; does no I/O.
//!
//! ```text
//!   question, policy, evidence ──▶ judge ──▶ Serve(decision)        what the client gets, and why
//!                                     └────▶ Need(probes)           run these, add what they bring, judge again
//! ```
//!
//! [`judge`] is a function of its arguments: it reads no clock, keeps no state and starts nothing, so a recorded case
//! replayed through it (`replay.rs`) takes exactly the way a live one does. What is learnt over many questions is kept in
//! `memory.rs`, what probes have shown in `probed.rs`, what was found against somebody in `incident.rs` (how often, in `tally.rs`), what
//! answers were and became in `changes.rs`: tables that are told the time.
//!
//! Safety comes from what is served, not from the name of the verdict: when replies differ and nothing explains it, the
//! client gets the trusted one, whether or not anybody is accused; but for NAT64 addresses, which the trusted one cannot
//! have: those go out marked and for a short time where their prefix may be anybody's. The order of decision, first match first:
//!
//! 1. A local zone or private route is exempt: nothing is compared, no probe is ever sent.
//! 2. No reply, or one that says that the upstream failed.
//! 3. Aliases that loop or end in nothing, where the name has data.
//! 4. "No" against data: a denied or emptied name. Data against "no such name": split horizon, or a hijacked NXDOMAIN.
//! 5. The same answer as a trusted upstream's: nothing more is looked at.
//! 6. A proof: every address has shown the name's certificate, or is a NAT64 form of its own IPv4 addresses.
//! 7. The rest is weighed (`rules/`, [`verdict::Sign`]).
//!
//! docs/guard.md explains the weights and has the figures.

pub mod changes;
pub mod evidence;
pub mod incident;
pub mod memory;
pub mod probed;
pub mod record;
pub mod replay;
pub mod reply;
pub mod rules;
pub mod score;
pub mod tally;
pub mod verdict;

use crate::dns::Rtype;
use evidence::{Candidate, Evidence, Probe, Probes, Proof, Way};
use reply::{Content, Question, Reply};
use rules::{Case, Truth, data, wire};
use std::net::IpAddr;
use verdict::{Assessment, Decision, POISONED_FROM, ReplyAt, Serve, Side, Sign, UNDECIDED_TTL, Verdict};

/// Whether another operator may learn of the question for the sake of comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Never.
    Never,
    /// When something about the reply looks wrong.
    WhenSuspicious,
    /// Always: the name is guarded, or this question was picked as a sample.
    Always,
}

/// When to listen on after a datagram, for a second reply that the first one overtook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldOn {
    /// Never: this network has shown no second replies for long.
    Never,
    /// When the first reply is not clean.
    WhenDisputed,
    /// Always.
    Always,
}

/// How a question is to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Its name belongs to a local zone or a private route.
    pub exempt: bool,
    /// Its name is guarded: nothing goes out that only an untrusted upstream says and a hard sign speaks against.
    pub guarded: bool,
    /// Nobody has said that it is a public name: it may exist on the own network alone.
    pub inside: bool,
    /// Who else may be asked.
    pub compare: Compare,
    /// Addresses may be proved by TLS.
    pub proofs: bool,
    /// A decoy may be asked.
    pub decoys: bool,
    /// When to listen on.
    pub hold_on: HoldOn,
}

impl Policy {
    /// The policy of local zones and private routes.
    pub const EXEMPT: Self = Self {
        exempt: true,
        guarded: false,
        inside: false,
        compare: Compare::Never,
        proofs: false,
        decoys: false,
        hold_on: HoldOn::Never,
    };
}

/// What `judge` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Decided.
    Serve(Decision),
    /// Decided better after these; each of them once.
    Need(Probes),
}

/// Judges the replies to a question. Costs some microseconds and a few small allocations.
#[must_use]
pub fn judge(question: &Question, policy: &Policy, evidence: &Evidence) -> Judgement {
    if policy.exempt {
        return Judgement::Serve(exempt(evidence));
    }
    let truth = Truth::of(evidence, question);
    let decision = decide(question, policy, evidence, &truth);
    let needed = needed(question, policy, evidence, &truth, &decision).without(evidence.tried);
    if needed.is_empty() { Judgement::Serve(decision) } else { Judgement::Need(needed) }
}

fn exempt(evidence: &Evidence) -> Decision {
    let assessment = Assessment::plain(Verdict::BenignDivergent, Sign::Exempt);
    let first = evidence.suspects.iter().position(|candidate| !candidate.replies.is_empty());
    let serve = match first {
        Some(candidate) => Serve::Reply(ReplyAt { side: Side::Suspect, candidate, reply: 0 }),
        None => Serve::Nothing,
    };
    Decision { verdict: assessment.verdict, assessment, about: None, serve, keep_at_most: None }
}

/// A suspect's reply with what was found.
type Assessed<'a> = (ReplyAt, &'a Candidate, &'a Reply, Assessment);

fn decide(question: &Question, policy: &Policy, evidence: &Evidence, truth: &Truth<'_>) -> Decision {
    let assessed = assess_all(question, policy, evidence, truth);
    let worst = assessed.iter().max_by_key(|(.., assessment)| assessment.severity());
    let about = worst.map(|(at, ..)| *at);
    let assessment = match worst {
        Some((.., assessment)) => assessment.clone(),
        None if evidence.suspects.is_empty() => trusted_only(policy, evidence, truth),
        None => failing(evidence),
    };
    let serve = choose((question, policy), evidence, truth, &assessed, &assessment);
    let keep_at_most = matches!(serve, Serve::Unconfirmed(_)).then_some(UNDECIDED_TTL);
    Decision { verdict: assessment.verdict, assessment, about, serve, keep_at_most }
}

/// Assesses every reply of the suspects that answers; those of one that only failed are left out.
fn assess_all<'a>(
    question: &Question,
    policy: &Policy,
    evidence: &'a Evidence,
    truth: &Truth<'_>,
) -> Vec<Assessed<'a>> {
    let mut all = Vec::new();
    for (at, candidate) in evidence.suspects.iter().enumerate() {
        for (reply_at, reply) in candidate.replies.iter().enumerate().filter(|(_, r)| r.content != Content::Failed) {
            let Policy { guarded, inside, .. } = *policy;
            let case = Case { question, guarded, inside, evidence, truth, candidate, reply };
            let place = ReplyAt { side: Side::Suspect, candidate: at, reply: reply_at };
            all.push((place, candidate, reply, assess(&case)));
        }
    }
    all
}

/// The verdict when no suspect gave an answer: a response code of failure may come with the aliases that led to it.
fn failing(evidence: &Evidence) -> Assessment {
    let mut replies = evidence.suspects.iter().flat_map(|candidate| &candidate.replies);
    if replies.any(|reply| reply.loops || reply.chain_ends()) {
        return Assessment::plain(Verdict::BrokenChain, Sign::ChainEnds);
    }
    Assessment::plain(Verdict::UpstreamFailing, Sign::Failure)
}

/// The verdict when only trusted upstreams were asked, as guarded names are in the first place.
fn trusted_only(policy: &Policy, evidence: &Evidence, truth: &Truth<'_>) -> Assessment {
    if truth.answers.is_empty() {
        Assessment::plain(Verdict::UpstreamFailing, Sign::Failure)
    } else if is_thin_denial(policy, evidence, truth) {
        let sign = if truth.denies { Sign::NameMissing } else { Sign::NothingLeft };
        Assessment::plain(Verdict::Undecidable, sign)
    } else if truth.differs {
        Assessment::plain(Verdict::BenignDivergent, Sign::TrustedDiffer)
    } else {
        Assessment::plain(Verdict::Consistent, Sign::SameAnswer)
    }
}

/// A guarded name is denied, or said to have nothing where it had something, on the word of one operator.
fn is_thin_denial(policy: &Policy, evidence: &Evidence, truth: &Truth<'_>) -> bool {
    let is_emptied = evidence.had_data && !truth.has_data && !truth.answers.is_empty();
    policy.guarded && (truth.denies || is_emptied) && truth.operators < 2 && !evidence.secure
}

/// Assesses one reply that is no failure.
fn assess(case: &Case<'_>) -> Assessment {
    let (reply, truth) = (case.reply, case.truth);
    if reply.loops {
        return Assessment::plain(Verdict::BrokenChain, Sign::ChainLoops);
    }
    if truth.answers.is_empty() {
        return assess_alone(case);
    }
    if reply.chain_ends() && truth.has_data {
        return Assessment::plain(Verdict::BrokenChain, Sign::ChainEnds);
    }
    match (reply.content, truth.has_data) {
        (Content::Empty, true) => Assessment::plain(Verdict::EmptyVsPresent, Sign::NoData),
        (Content::Missing, true) => Assessment::plain(Verdict::Poisoned, Sign::DeniedName),
        (Content::Empty | Content::Missing, false) => {
            if truth.answers.iter().all(|(_, _, trusted)| trusted.content == reply.content) {
                Assessment::plain(Verdict::Consistent, Sign::SameAnswer)
            } else {
                Assessment::plain(Verdict::BenignDivergent, Sign::BothEmpty)
            }
        }
        (Content::Data, false) if data::is_split_horizon(case) => {
            Assessment::plain(Verdict::BenignDivergent, Sign::SplitHorizon)
        }
        (Content::Data, false) if truth.denies => deny(case),
        (Content::Data, true) if truth.data().any(|trusted| trusted.data == reply.data) => {
            Assessment::plain(Verdict::Consistent, Sign::SameAnswer)
        }
        (Content::Data, _) if data::is_proved(case) => Assessment::plain(Verdict::BenignDivergent, Sign::Proved),
        (Content::Data, _) if data::is_dns64(case) => Assessment::plain(Verdict::BenignDivergent, Sign::Dns64),
        (Content::Data, _) if data::is_dns64_elsewhere(case) => assess_dns64(case),
        (Content::Data | Content::WrongType | Content::Failed, _) => weigh(case),
    }
}

/// Data of a name that trusted upstreams deny. One of them is enough for an ordinary name, since the client then gets
/// NXDOMAIN from an upstream that is trusted; a guarded name takes two, or a denial that DNSSEC secures.
fn deny(case: &Case<'_>) -> Assessment {
    let sign = if case.evidence.secure { Sign::TrustedSecure } else { Sign::NameMissing };
    let enough = !case.guarded || case.truth.operators > 1 || case.evidence.secure;
    Assessment::plain(if enough { Verdict::NxdomainHijacked } else { Verdict::Undecidable }, sign)
}

/// A reply that no trusted one stands beside: undecidable at best, unless its addresses prove themselves.
fn assess_alone(case: &Case<'_>) -> Assessment {
    // A SOA says that the end is meant (RFC 2308 section 2.2): it is a denial behind an alias, and broken is nothing.
    if case.reply.chain_ends() && !case.reply.soa {
        let mut signs = vec![Sign::ChainEnds];
        wire::hard(case, &mut signs);
        return Assessment { verdict: Verdict::BrokenChain, ..Assessment::weighed(signs) };
    }
    if data::is_proved(case) {
        return Assessment::plain(Verdict::BenignDivergent, Sign::Proved);
    }
    if case.guarded && data::is_own_mirror(case) {
        let signs = vec![Sign::NoTrustedReply, Sign::LocalRoot];
        return Assessment { verdict: Verdict::Undecidable, ..Assessment::weighed(signs) };
    }
    // Where all names are guarded, those of the own network must not be lost for want of somebody who does not know them.
    if case.guarded && data::is_split_horizon(case) {
        return Assessment::plain(Verdict::Undecidable, Sign::NoTrustedReply);
    }
    let mut signs = vec![Sign::NoTrustedReply];
    data::against(case, &mut signs);
    wire::hard(case, &mut signs);
    let weighed = Assessment::weighed(signs);
    // Another address that has proved itself is as good as a trusted one, and a certificate speaks against this one.
    if weighed.signs.contains(&Sign::WrongCertificate) && data::is_another_proved(case) {
        return weighed;
    }
    Assessment { verdict: Verdict::Undecidable, ..weighed }
}

/// NAT64 addresses that may lead anywhere: undecidable at best, unless they prove themselves.
fn assess_dns64(case: &Case<'_>) -> Assessment {
    let mut signs = vec![Sign::Dns64Elsewhere];
    data::against(case, &mut signs);
    wire::hard(case, &mut signs);
    let weighed = Assessment::weighed(signs);
    if weighed.score >= POISONED_FROM { weighed } else { Assessment { verdict: Verdict::Undecidable, ..weighed } }
}

fn weigh(case: &Case<'_>) -> Assessment {
    let mut signs = Vec::with_capacity(8);
    data::against(case, &mut signs);
    wire::hard(case, &mut signs);
    let before = signs.len();
    data::explanations(case, &mut signs);
    let explained = signs.len() > before;
    data::difference(case, &mut signs);
    if !explained {
        wire::soft(case, &mut signs);
    }
    if case.reply.is_filtered() {
        signs.push(Sign::Filtered);
    }
    Assessment::weighed(signs)
}

/// Chooses what the client gets.
fn choose(
    (question, policy): (&Question, &Policy),
    evidence: &Evidence,
    truth: &Truth<'_>,
    assessed: &[Assessed<'_>],
    worst: &Assessment,
) -> Serve {
    // Of equal replies the one whose data come first in canonical order, so that the order of arrival does not matter.
    let pick = |wanted: &dyn Fn(&Assessment) -> bool| {
        let fitting = assessed.iter().filter(|(_, _, reply, of)| reply.is_answer() && wanted(of));
        fitting
            .min_by_key(|(_, from, reply, of)| (of.severity(), reply.content, from.operator, &reply.data))
            .map(|(at, ..)| *at)
    };
    if worst.verdict.is_clean() && !evidence.suspects.is_empty() {
        let picked = pick(&|of| of.verdict.is_clean());
        // "No such name" speaks of every type. Where trusted upstreams only say that there is nothing of this one, a guarded
        // name is not denied.
        let denies = |at: ReplyAt| evidence.suspects[at.candidate].replies[at.reply].content == Content::Missing;
        let overruled = policy.guarded && !truth.denies && !truth.answers.is_empty() && picked.is_some_and(denies);
        if !overruled {
            return picked.map_or(Serve::Nothing, Serve::Reply);
        }
    }
    // A machine with IPv6 alone reaches the name by nothing else; trusted upstreams have no address of it that is left aside.
    let is_made = |of: &Assessment| of.verdict == Verdict::Undecidable && of.signs.contains(&Sign::Dns64Elsewhere);
    if worst.verdict == Verdict::Undecidable
        && let Some(at) = pick(&is_made)
    {
        return Serve::Unconfirmed(at);
    }
    if let Some(at) = truth.best() {
        let thin = is_thin_denial(policy, evidence, truth);
        return if thin { Serve::Unconfirmed(at) } else { Serve::Reply(at) };
    }
    if let Some(at) = pick(&|of| of.verdict.is_clean()) {
        return Serve::Reply(at);
    }
    // A guarded name gets no "no such host", no lie that shows, on an untrusted word.
    let passable =
        |of: &Assessment| of.verdict == Verdict::Undecidable && !(policy.guarded && of.score >= POISONED_FROM);
    let holds = |at: &ReplyAt| {
        let reply = &evidence.suspects[at.candidate].replies[at.reply];
        // That a name has nothing of another type is ordinary, and who makes it up gains little: its IPv4 addresses are asked
        // for too.
        let is_lawful =
            reply.content == Content::Empty && reply.soa && question.qtype != Rtype::A && !evidence.had_data;
        !policy.guarded || reply.content == Content::Data || is_lawful
    };
    let best = pick(&passable).or_else(|| unmarked(assessed)).filter(holds);
    best.or_else(|| unfinished(assessed)).map_or(Serve::Nothing, Serve::Unconfirmed)
}

/// Returns aliases without an end, against which no more speaks than may against data: whoever goes by them asks for the end by
/// itself.
fn unfinished(assessed: &[Assessed<'_>]) -> Option<ReplyAt> {
    let is_open = |(_, _, reply, of): &&Assessed<'_>| {
        let is_open = of.verdict == Verdict::BrokenChain && of.signs.contains(&Sign::ChainEnds);
        is_open && reply.content == Content::Empty && of.score < POISONED_FROM
    };
    let open = assessed.iter().filter(is_open);
    open.min_by(|(_, _, one, _), (_, _, other, _)| one.chain.cmp(&other.chain)).map(|(at, ..)| *at)
}

/// Of replies to one query that share no data at most one is true: returns the one that nothing else speaks against, when
/// something does against every other.
fn unmarked(assessed: &[Assessed<'_>]) -> Option<ReplyAt> {
    let others = |of: &Assessment| of.score - Sign::TwoReplies.weight();
    let is_one_of_two = |of: &Assessment| of.verdict == Verdict::Undecidable && of.signs.contains(&Sign::TwoReplies);
    let mut clean = assessed.iter().filter(|(.., of)| is_one_of_two(of) && others(of) <= 0);
    let (at, ..) = clean.next()?;
    let marked = |(other, _, _, of): &Assessed<'_>| other == at || is_one_of_two(of) && others(of) > 0;
    assessed.iter().all(marked).then_some(*at)
}

/// Says what would be worth knowing; what was tried already is taken out by the caller.
fn needed(question: &Question, policy: &Policy, evidence: &Evidence, truth: &Truth<'_>, decision: &Decision) -> Probes {
    let mut needed = Probes::default();
    let replied = |way: Way| evidence.suspects.iter().any(|of| of.way == way && !of.replies.is_empty());
    let hold_on = match policy.hold_on {
        HoldOn::Never => false,
        HoldOn::WhenDisputed => !decision.verdict.is_clean(),
        HoldOn::Always => true,
    };
    if hold_on && replied(Way::Datagram) {
        needed.insert(Probe::ListenOn);
    }
    let compare = match policy.compare {
        Compare::Never => false,
        Compare::WhenSuspicious => is_suspicious(evidence, decision),
        Compare::Always => true,
    };
    if compare && evidence.trusted.is_empty() && !evidence.tried.has(Probe::AskTrusted) {
        // Most of what follows is not worth asking once the trusted answer is there.
        needed.insert(Probe::AskTrusted);
        return needed;
    }
    if compare && is_thin_denial(policy, evidence, truth) && decision.verdict == Verdict::Undecidable {
        needed.insert(Probe::AskAnotherTrusted);
    }
    let addresses = || evidence.suspects.iter().flat_map(|of| &of.replies).flat_map(Reply::addresses);
    // Behind a prefix of the network's own they look like any others.
    let made_here = question.qtype == Rtype::AAAA
        && !truth.has_data
        && evidence.suspects.iter().any(|of| of.on_lan && of.replies.iter().any(|r| r.content == Content::Data));
    if compare
        && evidence.ipv4.is_empty()
        && !decision.verdict.is_clean()
        && (made_here || addresses().any(|a| rules::nat64(a).is_some()))
    {
        needed.insert(Probe::AskIpv4);
    }
    if policy.guarded
        && !policy.inside
        && policy.proofs
        && compare
        && question.asks_addresses()
        && truth.answers.is_empty()
        && !matches!(decision.serve, Serve::Reply(_))
    {
        needed.insert(Probe::AskOthers);
    }
    // A hard sign other than an address's own is not taken back by proofs of what nobody will be given.
    let open = decision.verdict == Verdict::Undecidable
        || decision.verdict == Verdict::Poisoned && decision.assessment.score <= POISONED_FROM;
    if open && policy.proofs && (!to_prove(question, policy, evidence).is_empty() || lacks_witness(question, evidence))
    {
        needed.insert(Probe::Prove);
    }
    if open
        && policy.decoys
        && evidence.suspects.iter().any(|of| of.way.is_open() && !of.on_lan && !of.replies.is_empty())
    {
        needed.insert(Probe::Decoy);
    }
    needed
}

/// Returns the addresses that suspects give and whose certificates nobody has looked at, each once and with the places of the
/// suspect and of its reply: one of each reply, then the second of each, so that whoever gives many leaves room for others. Of
/// special addresses only those that a network may have a mirror of a public name at, and these only while nothing trusted speaks
/// of the name.
#[must_use]
pub fn to_prove(question: &Question, policy: &Policy, evidence: &Evidence) -> Vec<((usize, usize), IpAddr)> {
    if !question.asks_addresses() {
        return Vec::new();
    }
    let alone = Truth::of(evidence, question).answers.is_empty();
    let may_be_mirror =
        |of: &Candidate, at| of.on_lan && policy.guarded && !policy.inside && alone && data::is_inside(at);
    let of_reply = |of: &Candidate, reply: &Reply| -> Vec<IpAddr> {
        let wanted = |at: &IpAddr| !rules::is_special(*at) || may_be_mirror(of, *at);
        let mut all: Vec<IpAddr> =
            reply.addresses().filter(wanted).filter(|at| evidence.proof(*at).is_none()).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let mut of_each: Vec<((usize, usize), Vec<IpAddr>)> = Vec::new();
    for (at, of) in evidence.suspects.iter().enumerate() {
        of_each.extend(of.replies.iter().enumerate().map(|(nth, reply)| ((at, nth), of_reply(of, reply))));
    }
    let most = of_each.iter().map(|(_, addresses)| addresses.len()).max().unwrap_or(0);
    let mut all: Vec<((usize, usize), IpAddr)> = Vec::new();
    for turn in 0..most {
        for (place, addresses) in &of_each {
            let Some(address) = addresses.get(turn) else { continue };
            if all.iter().all(|(_, known)| known != address) {
                all.push((*place, *address));
            }
        }
    }
    all
}

/// Tells whether a suspect's certificate is known to be a wrong one while nobody has looked at what the name's own servers show,
/// without which it says nothing.
fn lacks_witness(question: &Question, evidence: &Evidence) -> bool {
    let suspects = evidence.suspects.iter().flat_map(|of| &of.replies).flat_map(Reply::addresses);
    let is_wrong = |at| matches!(evidence.proof(at), Some(Proof::OtherName | Proof::Untrusted));
    let mut trusted = evidence.trusted.iter().flat_map(|of| &of.replies).flat_map(Reply::addresses).peekable();
    question.asks_addresses()
        && trusted.peek().is_some()
        && trusted.all(|at| evidence.proof(at).is_none())
        && suspects.into_iter().any(is_wrong)
}

/// Tells whether a reply looks wrong without anything to compare it with.
fn is_suspicious(evidence: &Evidence, decision: &Decision) -> bool {
    let bare = |reply: &Reply| reply.content == Content::Empty && !reply.soa;
    decision.verdict > Verdict::Undecidable
        || decision.assessment.score > 0
        || evidence.suspects.iter().flat_map(|of| &of.replies).any(bare)
}

#[cfg(test)]
mod tests;
