//! What is asked now and then to know more of a network: a few names that nobody guards, names that do not exist, decoys.

use super::asking::{Answered, Subject, Whom};
use super::parties::{Judged, Parties};
use super::samples::looks_wrong;
use super::{Policy, policy};
use crate::config::GuardMode;
use crate::dns::wire::Message;
use crate::dns::{QuestionKey, Rtype, Stage, Trace};
use crate::pipeline::guard::reply::{Content, Reply};
use crate::pipeline::guard::verdict::{Decision, Serve};
use crate::pipeline::state::{State, Way};
use crate::pipeline::text::key_text;
use crate::pipeline::zone::Outcome;
use crate::pipeline::{Pipeline, Work};
use crate::stats::Counter;
use std::net::IpAddr;
use std::sync::Arc;

/// Letters and digits of a name that nobody has: 60 bits.
const NOBODY_DIGITS: usize = 15;

impl Pipeline {
    /// Holds what a client has got against a trusted reply, behind its answer, when it is time for that.
    pub(in crate::pipeline) fn sample(&self, question: &QuestionKey, way: &Way, judged: &Judged, work: &mut Work<'_>) {
        let state = work.state;
        if way.guard != GuardMode::Sample || state.is_reference(&judged.reply) || question.qname.label_count() < 2 {
            return;
        }
        if !self.learnt.samples.may_be_due(self.clock.now()) {
            return;
        }
        let mut parties = Parties::new(question, state);
        let found = Ok((judged.reply.clone(), judged.policy));
        self.enter(&mut parties, Whom::Route, Answered { found, held: None, trace: Trace::off() }, state);
        let policy: Policy = policy(way, state);
        // What was looked at a while ago makes room for others.
        if self.learnt.is_judged(&parties, self.clock.now()) {
            return;
        }
        if !self.learnt.samples.take(|| looks_wrong(&parties, &policy), self.clock.now()) {
            return;
        }
        self.stats.count(Counter::GuardSamples);
        work.step(Stage::Guard, || {
            (key_text(question), "goes on: the reply", "guard = \"sample\": picked, judged behind the answer")
        });
        self.judge_behind(Subject::of(question, way, work).behind(), parties, None);
    }

    /// Asks, behind an answer that was disputed and once a day, what the route's group says of a name that does not exist: what it
    /// gives for that, it makes up. Only of names that somebody guards by name: whoever owns a name could have anything said beside
    /// it.
    pub(super) fn ask_for_nobody(&self, parties: &Parties, decision: &Decision, subject: impl FnOnce() -> Subject) {
        let has_data = |reply: &Reply| reply.content == Content::Data;
        let is_disputed = !decision.verdict.is_clean() && decision.serve != Serve::Nothing;
        if !is_disputed || !parties.has_trusted_answer() || !parties.suspected().any(|(reply, _)| has_data(reply)) {
            return;
        }
        let subject = subject();
        let (state, way) = (Arc::clone(&subject.state), &subject.way);
        let is_meant = way.guard == GuardMode::Enforce && !way.guarded_by_default;
        let Some(question) = nobody(&subject.question).filter(|_| is_meant) else { return };
        if !goes_the_same_way(&state, &subject, &question) {
            return;
        }
        let (pipeline, place, group) = (self.clone(), parties.place, way.group);
        let name = state.config.group(group).name.clone();
        if !self.learnt.denial_is_due(place, &name, self.clock.now()) {
            return;
        }
        let subject = subject.about(question);
        self.behind(async move {
            pipeline.stats.count(Counter::GuardNobodyAsked);
            let mut parties = Parties::new(&subject.question, &state);
            let asking = (pipeline.asking(&subject, Whom::Other(group)), pipeline.asking(&subject, Whom::References));
            let (route, references) = futures_util::future::join(asking.0, asking.1).await;
            let said =
                route.found.as_ref().ok().map(|(reply, _)| (Arc::clone(&reply.server), Arc::clone(&reply.operator)));
            pipeline.enter(&mut parties, Whom::Other(group), route, &state);
            pipeline.enter(&mut parties, Whom::References, references, &state);
            let trusted: Vec<Content> =
                parties.evidence.trusted.iter().flat_map(|of| &of.replies).map(|reply| reply.content).collect();
            let Some((server, operator)) = said.filter(|_| !trusted.is_empty()) else {
                pipeline.learnt.denial_failed(place, &name);
                return;
            };
            // Where the zone has a wildcard, somebody is there.
            if !trusted.iter().all(|content| *content == Content::Missing) {
                return;
            }
            let invented: Vec<IpAddr> = parties.suspected().flat_map(|(reply, _)| reply.addresses()).collect();
            if !invented.is_empty() {
                pipeline.stats.count(Counter::GuardNobodyAnswered);
                tracing::warn!(upstream = &*server, "an upstream gives addresses for names that do not exist");
                pipeline.learnt.saw_invented((place, &operator), &invented, pipeline.clock.now());
            }
        });
    }

    /// Asks a decoy when it is time for that; waited for where no client waits. It tells of somebody on the way when what it is
    /// answered with shares nothing with what trusted upstreams say: a router that sends all questions to an honest resolver lies
    /// to nobody.
    pub(super) async fn ask_decoy(&self, question: &QuestionKey, parties: &mut Parties, work: &Work<'_>) {
        let state = work.state;
        let decoys = &state.config.guard.decoys;
        let truth: Vec<Reply> = parties.evidence.trusted.iter().flat_map(|of| of.replies.clone()).collect();
        if !truth.iter().any(|reply| reply.content == Content::Data) {
            return;
        }
        let due = self.learnt.decoy_due(parties.place, decoys.len(), self.clock.now());
        let Some(address) = due.and_then(|at| decoys.get(at).copied()) else { return };
        let (pipeline, state, place) = (self.clone(), Arc::clone(state), parties.place);
        let (question, about) = (question.clone(), parties.about.clone());
        let asking = async move {
            pipeline.stats.count(Counter::GuardDecoys);
            let Some(message) = state.upstreams.decoy(address, &question).await else { return };
            let read = Message::parse(&message).ok().and_then(|message| Reply::read(&message, &about, None).ok());
            let lies = |said: &Reply| said.content == Content::Data && !truth.iter().any(|one| one.shares_data(said));
            if read.is_some_and(|said| lies(&said)) {
                pipeline.stats.count(Counter::GuardDecoysAnswered);
                tracing::warn!(%address, "a query to an address where no resolver is was answered with a lie");
                pipeline.learnt.decoy_answered(place, pipeline.clock.now());
            }
        };
        if parties.has_client {
            self.behind(asking);
        } else {
            asking.await;
            self.learnt.recall(parties, self.clock.now());
        }
    }
}

/// Tells whether a name beside another one is routed as that one is: one of a zone here, or of a private route, is nobody's business.
fn goes_the_same_way(state: &State, subject: &Subject, question: &QuestionKey) -> bool {
    let way = state.way(subject.view, question, false, GuardMode::Off);
    let same = (way.group, way.guard, way.private) == (subject.way.group, subject.way.guard, false);
    same && matches!(state.local(subject.view, question), Outcome::NotOurs)
}

/// Makes a question for a name beside this one that nobody has.
fn nobody(question: &QuestionKey) -> Option<QuestionKey> {
    let qname = &question.qname;
    let zone = qname.parent().filter(|parent| parent.label_count() > 1).unwrap_or_else(|| qname.clone());
    let label = format!("{:0NOBODY_DIGITS$x}", rand::random::<u64>() >> 4);
    Some(QuestionKey { qname: zone.prepend(label.as_bytes()).ok()?, qtype: Rtype::A, ..question.clone() })
}
