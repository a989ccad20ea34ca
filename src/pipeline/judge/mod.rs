//! Stage 7 for guarded names: asks the references beside the route's group, gathers what `guard::judge` asks for, and learns
//! from what it says.
//!
//! ```text
//! guarded ─┬▶ route's group ──▶ reply ─┐   the client waits for the other at most [guard] budget
//!          └▶ references ─────▶ reply ─┴▶ judge ─▶ probes ─▶ judge ─▶ what stands
//!              a trusted reply that is first goes out at once; the other is judged behind it
//! watch      route's group ──▶ the client has its answer; behind it: references ─▶ judge ─▶ counters, incidents
//! ```
//!
//! A reply of the group that `[guard] references` names is believed, but for a denial, which takes two operators. Without
//! any in time, a reply goes out for 30 s at most, or not at all when a sign speaks hard against it.

mod asking;
mod learnt;
mod parties;
mod patience;
mod probes;
mod proofs;
mod samples;

pub(super) use learnt::Learnt;
pub(super) use parties::{Judged, Unusable};

use super::guard::evidence::Probe;
use super::guard::reply::Question;
use super::guard::verdict::{Decision, Given, Serve, Side, Verdict};
use super::guard::{Compare, HoldOn, Judgement, Policy, judge};
use super::said::{Found as Finding, Record, Shown};
use super::state::{State, Way};
use super::text::key_text;
use super::{Pipeline, Work};
use crate::config::{GuardMode, Proxy};
use crate::dns::answer::ede;
use crate::dns::{Ede, QuestionKey, Rtype, Stage, Trace};
use crate::stats::Counter;
use crate::upstream::Failure;
use asking::{Answered, Asking, Subject, Whom};
use parties::{Found, Parties, ipv4_addresses};
use patience::Patience;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How names are judged.
fn policy(way: &Way, state: &State) -> Policy {
    let guarded = way.guard == GuardMode::Enforce;
    Policy {
        exempt: false,
        guarded,
        inside: !guarded || way.guarded_by_default,
        compare: Compare::Always,
        proofs: guarded && state.config.guard.proofs,
        decoys: guarded && !way.guarded_by_default && may_ask_decoys(way, state),
        hold_on: if state.config.guard.hold_on { HoldOn::WhenDisputed } else { HoldOn::Never },
    }
}

/// Tells whether there are decoys for the names of a way: where its servers are asked in a way of their own, over an interface or
/// through a proxy, a plain datagram would go past it.
fn may_ask_decoys(way: &Way, state: &State) -> bool {
    let group = state.config.group(way.group);
    let mut options = group.servers.iter().map(|server| &server.options);
    // Without decoys, as by default, nobody looks at the servers.
    !state.config.guard.decoys.is_empty()
        && !group.has_floor()
        && options.all(|of| {
            of.source.is_none() && of.interface.is_none() && of.mark.is_none() && matches!(of.proxy, Proxy::None)
        })
}

impl Pipeline {
    /// Asks about a guarded name, and returns what may be believed.
    pub(super) async fn guarded(
        &self,
        question: &QuestionKey,
        way: &Way,
        work: &mut Work<'_>,
    ) -> Result<Judged, Unusable> {
        let state = work.state;
        let references = state.config.guard.references;
        let mut policy = policy(way, state);
        let proves = policy.proofs.then(|| work.begun.as_ref().unwrap_or(&question.qname));
        let mut parties = Parties::with_client(question, state, proves.and_then(proofs::provable));
        policy.proofs = parties.proves.is_some();
        let mut patience = Patience::new(work.deadline, work.patience);
        if way.group == references || state.upstreams.group_is_down(references) {
            // Nobody listens behind a reply that is believed.
            let is_believed = way.group == references && !state.upstreams.group_is_down(references);
            work.hold = (state.config.guard.hold_on && !is_believed).then(Arc::default);
            let found = self.exchange(question, way, work).await;
            let held = work.hold.take().and_then(|hold| hold.take());
            self.enter(&mut parties, Whom::Route, Answered { found, held, trace: Trace::off() }, state);
            self.look(&mut parties, &policy, &mut patience);
        } else {
            let subject = Subject::of(question, way, work);
            let asking = (self.asking(&subject, Whom::Route), self.asking(&subject, Whom::References));
            if let Some(trusted) = self.race((&subject, &policy), asking, (&mut parties, &mut patience), work).await {
                return Ok(trusted);
            }
        }
        // Whoever of them answers has done so, or is known to be out of reach.
        parties.evidence.tried.insert(Probe::AskTrusted);
        self.learnt.recall(&mut parties, self.clock.now());
        let whole = std::mem::replace(&mut work.deadline, patience.until());
        let decision = self.settle(&policy, question, way, &mut parties, work).await;
        work.deadline = whole;
        work.patience = patience.left(Instant::now());
        let (saw, decided, because) = told(question, &decision);
        let found = Finding { decided: decided.clone(), because: because.clone(), proofs: parties.shown.clone() };
        self.note(question, Record::judged(parties.said(), found, self.clock.now()), work);
        for Shown { address, shown, told } in &parties.shown {
            work.step(Stage::Proof, || (address.to_string(), shown.clone(), told.clone()));
        }
        work.step(Stage::Guard, || (saw, decided, because));
        parties.forget_ended();
        let failure = parties.failure.take();
        if parties.proving.is_empty() {
            self.conclude(&parties, &decision, decision.given(), state);
            self.ask_for_nobody(&parties, &decision, || Subject::of(question, way, work).behind());
            return served(decision.serve.at().and_then(|at| parties.take(at)), failure, &decision);
        }
        let found = decision.serve.at().and_then(|at| parties.copy(at));
        let judged = served(found, failure, &decision);
        let late = (Subject::of(question, way, work).behind(), work.deadline);
        self.conclude_late(late, parties, policy, decision);
        judged
    }

    /// Waits for both groups, each as long as it is worth it. Returns a trusted reply that is good by itself and came first;
    /// otherwise what came is entered.
    async fn race(
        &self,
        (subject, policy): (&Subject, &Policy),
        (mut route, mut witness): (Asking, Asking),
        (parties, patience): (&mut Parties, &mut Patience),
        work: &mut Work<'_>,
    ) -> Option<Judged> {
        let state = work.state;
        tokio::select! {
            biased;
            mut answered = &mut route => {
                work.trace.append(std::mem::take(&mut answered.trace));
                self.enter(parties, Whom::Route, answered, state);
                self.look(parties, policy, patience);
                match self.witness(&mut witness, policy, (parties, patience)).await {
                    Some(mut answered) => {
                        work.trace.append(std::mem::take(&mut answered.trace));
                        self.enter(parties, Whom::References, answered, state);
                        self.look(parties, policy, patience);
                    }
                    None => self.mend_with(witness, subject),
                }
            }
            mut answered = &mut witness => {
                work.trace.append(std::mem::take(&mut answered.trace));
                let has_answer = self.enter(parties, Whom::References, answered, state);
                self.look(parties, policy, patience);
                let alone = has_answer.then(|| self.stands_alone(policy, parties)).flatten();
                // Where replies may differ, that of the route's group is the one that goes out.
                let may_differ = parties.evidence.may_differ;
                let has_more = || (may_differ || parties.may_have_more_here(policy)) && !state.upstreams.group_is_down(subject.way.group);
                let waited = match &alone {
                    Some(_) if !has_more() => None,
                    Some(_) => timeout_at(patience.until(), &mut route).await.ok(),
                    None if has_answer => timeout_at(patience.until(), &mut route).await.ok(),
                    // It ends with its own deadline.
                    None => Some((&mut route).await),
                };
                if let Some(mut answered) = waited {
                    work.trace.append(std::mem::take(&mut answered.trace));
                    self.enter(parties, Whom::Route, answered, state);
                } else if let Some(trusted) = alone {
                    work.patience = patience.left(Instant::now());
                    let question = subject.question.clone();
                    let (decided, because) = ("a trusted reply came first, goes on: it", "the other is judged behind it");
                    let (decided_text, because_text) = (decided.to_owned(), because.to_owned());
                    let found = Finding { decided: decided_text, because: because_text, proofs: Vec::new() };
                    self.note(&question, Record::judged(parties.said(), found, self.clock.now()), work);
                    work.step(Stage::Guard, || (key_text(&question), decided, because));
                    let mut early = std::mem::replace(parties, Parties::new(&question, state));
                    early.has_client = false;
                    self.judge_behind(subject.behind(), early, Some(route));
                    return Some(Judged::unlooked(trusted));
                }
            }
        }
        None
    }

    /// Waits for the references, listening meanwhile for a second reply of the suspect.
    async fn witness(
        &self,
        witness: &mut Asking,
        policy: &Policy,
        (parties, patience): (&mut Parties, &mut Patience),
    ) -> Option<Answered> {
        let Some(mut held) = parties.held.take() else { return timeout_at(patience.until(), witness).await.ok() };
        let listen = self.learnt.listen_for(parties.place, self.clock.now());
        let listen_until = Instant::now() + listen;
        let answered = loop {
            let until = patience.until();
            tokio::select! {
                biased;
                answered = timeout_at(until, &mut *witness) => break answered.ok(),
                Some(reply) = held.next(listen_until.min(until)) => {
                    self.enter_second(parties, reply);
                    // Of two that share nothing neither may be fit to go out.
                    self.look(parties, policy, patience);
                }
            }
        };
        // What is there by now costs no more waiting.
        while let Some(reply) = held.next_at_hand().await {
            self.enter_second(parties, reply);
        }
        if !listen.is_zero() && Instant::now() >= listen_until {
            self.learnt.listened(parties.place, parties.has_pair(), self.clock.now());
        }
        answered
    }

    /// Notes whether something of what has come could go out.
    fn look(&self, parties: &mut Parties, policy: &Policy, patience: &mut Patience) {
        self.learnt.recall(parties, self.clock.now());
        let serves = self.as_it_is(policy, parties).is_some_and(|serve| serve != Serve::Nothing);
        patience.has_answer(serves, Instant::now());
    }

    /// Returns the trusted reply when it needs nobody beside it: it has data, or a denial that is not doubted.
    fn stands_alone(&self, policy: &Policy, parties: &Parties) -> Option<Found> {
        match judge(&parties.about, policy, &parties.evidence) {
            Judgement::Serve(Decision { serve: Serve::Reply(at), .. }) => parties.copy(at),
            Judgement::Serve(_) | Judgement::Need(_) => None,
        }
    }

    /// Holds what a client has got against a trusted reply, behind its answer.
    pub(super) fn watch(&self, question: &QuestionKey, way: &Way, judged: &Judged, work: &mut Work<'_>) {
        let held = work.hold.take().and_then(|hold| hold.take());
        let state = work.state;
        if state.is_reference(&judged.reply) {
            self.stats.count(Counter::GuardConsistent);
            return;
        }
        let mut parties = Parties::new(question, state);
        let found = Ok((judged.reply.clone(), judged.policy));
        self.enter(&mut parties, Whom::Route, Answered { found, held, trace: Trace::off() }, state);
        work.step(Stage::Guard, || {
            (key_text(question), "goes on: the reply", "guard = \"watch\": judged behind the answer")
        });
        self.judge_behind(Subject::of(question, way, work).behind(), parties, None);
    }

    /// Judges without a client, who was given something already; `route` is what is still waited for.
    fn judge_behind(&self, subject: Subject, mut parties: Parties, route: Option<Asking>) {
        let pipeline = self.clone();
        let given = if route.is_some() { Given::Trusted } else { Given::Suspect };
        self.behind(async move {
            let Subject { state, question, way, .. } = &subject;
            if let Some(route) = route {
                pipeline.enter(&mut parties, Whom::Route, route.await, state);
            }
            pipeline.learnt.recall(&mut parties, pipeline.clock.now());
            let mut trace = Trace::off();
            let mut work = subject.work(&mut trace);
            let mut policy = policy(way, state);
            policy.proofs &= parties.proves.is_some();
            let decision = pipeline.settle(&policy, question, way, &mut parties, &mut work).await;
            pipeline.conclude(&parties, &decision, given, state);
            pipeline.ask_for_nobody(&parties, &decision, || subject.behind());
            let (_, _, because) = told(question, &decision);
            let decided = format!("{}, found behind the answer, which was: {}", decision.verdict, given_text(given));
            let found = Finding { decided, because, proofs: parties.shown.clone() };
            pipeline.note(question, Record::judged(parties.said(), found, pipeline.clock.now()), &work);
        });
    }

    /// Runs the probes that `judge` asks for, each once, until it decides.
    async fn settle(
        &self,
        policy: &Policy,
        question: &QuestionKey,
        way: &Way,
        parties: &mut Parties,
        work: &mut Work<'_>,
    ) -> Decision {
        loop {
            match judge(&parties.about, policy, &parties.evidence) {
                Judgement::Serve(decision) => return decision,
                Judgement::Need(probes) => {
                    for probe in probes.iter() {
                        self.bring(probe, question, (way, policy), parties, work).await;
                    }
                    parties.evidence.tried.add(probes);
                }
            }
        }
    }

    /// Runs one probe. Those that cannot be run bring nothing.
    async fn bring(
        &self,
        probe: Probe,
        question: &QuestionKey,
        (way, policy): (&Way, &Policy),
        parties: &mut Parties,
        work: &mut Work<'_>,
    ) {
        match probe {
            Probe::AskTrusted => self.ask_reference(question, way, parties, work).await,
            Probe::AskAnotherTrusted => {
                work.apart_from = parties.witness();
                self.ask_reference(question, way, parties, work).await;
                work.apart_from = None;
            }
            Probe::AskIpv4 => {
                let ipv4 = QuestionKey { qtype: Rtype::A, ..question.clone() };
                let mut others = Parties::new(&ipv4, work.state);
                self.ask_reference(&ipv4, way, &mut others, work).await;
                let about = Question { qtype: Rtype::A, ..parties.about.clone() };
                parties.evidence.ipv4.extend(others.said().flat_map(|reply| ipv4_addresses(&about, reply)));
            }
            Probe::ListenOn => self.listen_on(parties, work).await,
            Probe::AskOthers => self.ask_others(question, (way, policy), parties, work).await,
            Probe::Prove => self.bring_proofs(parties, policy, work).await,
            Probe::Decoy => self.ask_decoy(question, parties, work).await,
        }
    }

    /// Asks the group whose replies are believed, for as long as there is time.
    async fn ask_reference(&self, question: &QuestionKey, way: &Way, parties: &mut Parties, work: &mut Work<'_>) {
        let state = work.state;
        let references = state.config.guard.references;
        if state.upstreams.group_is_down(references) || work.deadline <= Instant::now() {
            return;
        }
        let found = self.ask(question, way, (references, false), way.private_answers, work).await;
        self.enter(parties, Whom::References, Answered { found, held: None, trace: Trace::off() }, state);
    }

    /// Listens for a second reply of the suspect; not for long when a trusted one is there to be served.
    async fn listen_on(&self, parties: &mut Parties, work: &mut Work<'_>) {
        let Some(mut held) = parties.held.take() else { return };
        let listen = match parties.evidence.trusted.is_empty() {
            true => self.learnt.listen_for(parties.place, self.clock.now()).min(work.state.config.guard.budget),
            false => Duration::ZERO,
        };
        let until = work.deadline.min(Instant::now() + listen);
        loop {
            let next = if listen.is_zero() { held.next_at_hand().await } else { held.next(until).await };
            let Some(reply) = next else { break };
            self.enter_second(parties, reply);
        }
        if !listen.is_zero() {
            self.learnt.listened(parties.place, parties.has_pair(), self.clock.now());
        }
    }

    fn enter_second(&self, parties: &mut Parties, reply: crate::upstream::Reply) {
        if parties.enter_second(reply) {
            self.stats.count(Counter::GuardPairs);
        }
    }

    /// Counts a decision and learns from it.
    fn conclude(&self, parties: &Parties, decision: &Decision, given: Given, state: &State) {
        self.stats.count(counter(decision.verdict));
        self.learnt.learn(parties, (decision, given), self.clock.now(), &self.stats, &state.config.guard);
    }
}

/// Takes what goes on by a decision.
fn served(found: Option<Found>, failure: Option<Box<Failure>>, decision: &Decision) -> Result<Judged, Unusable> {
    let is_unconfirmed = matches!(decision.serve, Serve::Unconfirmed(_));
    let why = is_unconfirmed.then(|| Ede::new(ede::OTHER, "nothing trusted confirms this answer"));
    match found {
        Some((reply, policy)) => Ok(Judged { reply, policy, keep_at_most: decision.keep_at_most, why }),
        None => Err(failure.map_or(Unusable::Distrusted, Unusable::Failed)),
    }
}

fn told(question: &QuestionKey, decision: &Decision) -> (String, String, String) {
    let goes_on = match decision.serve {
        Serve::Reply(at) if at.side == Side::Trusted => "the trusted reply",
        Serve::Reply(_) => "the reply",
        Serve::Unconfirmed(_) => "the reply, unconfirmed",
        Serve::Nothing => "nothing",
    };
    let signs: Vec<_> = decision.assessment.signs.iter().map(|sign| sign.as_str()).collect();
    (key_text(question), format!("{}, goes on: {goes_on}", decision.verdict), signs.join(", "))
}

fn given_text(given: Given) -> &'static str {
    match given {
        Given::Trusted => "the trusted reply",
        Given::Proved => "the one that has proved itself",
        Given::Suspect => "the reply",
        Given::Unconfirmed => "the reply, unconfirmed",
        Given::Nothing => "nothing",
    }
}

fn counter(verdict: Verdict) -> Counter {
    match verdict {
        Verdict::Consistent => Counter::GuardConsistent,
        Verdict::BenignDivergent => Counter::GuardBenignDivergent,
        Verdict::Undecidable => Counter::GuardUndecidable,
        Verdict::UpstreamFailing => Counter::GuardUpstreamFailing,
        Verdict::EmptyVsPresent => Counter::GuardEmptyVsPresent,
        Verdict::BrokenChain => Counter::GuardBrokenChain,
        Verdict::NxdomainHijacked => Counter::GuardNxdomainHijacked,
        Verdict::Poisoned => Counter::GuardPoisoned,
    }
}
