//! What is asked now and then to know more of a network: a few names that nobody guards, names that do not exist, decoys.

use super::asking::{Answered, Subject, Whom};
use super::parties::{Judged, Parties};
use super::samples::looks_wrong;
use super::{Policy, policy};
use crate::config::GuardMode;
use crate::dns::{QuestionKey, Rtype, Stage, Trace};
use crate::pipeline::guard::reply::{Content, Reply};
use crate::pipeline::guard::verdict::{Decision, Serve};
use crate::pipeline::state::Way;
use crate::pipeline::text::key_text;
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
        let mut parties = Parties::new(question, state.upstreams.place());
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
    /// gives for that, it makes up.
    pub(super) fn ask_for_nobody(&self, parties: &Parties, decision: &Decision, subject: impl FnOnce() -> Subject) {
        let has_data = |reply: &Reply| reply.content == Content::Data;
        let is_disputed = !decision.verdict.is_clean() && decision.serve != Serve::Nothing;
        if !is_disputed || !parties.has_trusted_answer() || !parties.suspected().any(|(reply, _)| has_data(reply)) {
            return;
        }
        let subject = subject();
        let group = subject.state.config.group(subject.way.group).name.clone();
        let Some(question) = nobody(&subject.question) else { return };
        if !self.learnt.denial_is_due(parties.place, &group, self.clock.now()) {
            return;
        }
        let (pipeline, place) = (self.clone(), parties.place);
        let subject = subject.about(question);
        self.behind(async move {
            pipeline.stats.count(Counter::GuardNobodyAsked);
            let mut parties = Parties::new(&subject.question, place);
            let asking = (pipeline.asking(&subject, Whom::Route), pipeline.asking(&subject, Whom::References));
            let (route, references) = futures_util::future::join(asking.0, asking.1).await;
            pipeline.enter(&mut parties, Whom::Route, route, &subject.state);
            pipeline.enter(&mut parties, Whom::References, references, &subject.state);
            let mut trusted = parties.evidence.trusted.iter().flat_map(|of| &of.replies);
            // Where the zone has a wildcard, somebody is there.
            if !trusted.any(|reply| reply.content == Content::Missing) {
                return;
            }
            let invented: Vec<IpAddr> = parties.suspected().flat_map(|(reply, _)| reply.addresses()).collect();
            if !invented.is_empty() {
                pipeline.stats.count(Counter::GuardNobodyAnswered);
                tracing::warn!(upstream = group, "an upstream gives addresses for names that do not exist");
                pipeline.learnt.saw_invented(place, &invented, pipeline.clock.now());
            }
        });
    }

    /// Asks a decoy when it is time for that; waited for where no client waits.
    pub(super) async fn ask_decoy(&self, question: &QuestionKey, parties: &mut Parties, work: &Work<'_>) {
        let state = work.state;
        let decoys = &state.config.guard.decoys;
        let due = self.learnt.decoy_due(parties.place, decoys.len(), self.clock.now());
        let Some(address) = due.and_then(|at| decoys.get(at).copied()) else { return };
        let (pipeline, state, place) = (self.clone(), Arc::clone(state), parties.place);
        let question = question.clone();
        self.stats.count(Counter::GuardDecoys);
        let asking = async move {
            if state.upstreams.decoy(address, &question).await {
                pipeline.stats.count(Counter::GuardDecoysAnswered);
                tracing::warn!(%address, "a query to an address where no resolver is was answered");
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

/// Makes a question for a name beside this one that nobody has.
fn nobody(question: &QuestionKey) -> Option<QuestionKey> {
    let qname = &question.qname;
    let zone = qname.parent().filter(|parent| parent.label_count() > 1).unwrap_or_else(|| qname.clone());
    let label = format!("{:0NOBODY_DIGITS$x}", rand::random::<u64>() >> 4);
    Some(QuestionKey { qname: zone.prepend(label.as_bytes()).ok()?, qtype: Rtype::A, ..question.clone() })
}
