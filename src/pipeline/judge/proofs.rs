//! Certificates as evidence: whose the addresses of a guarded name show, looked at beside its question, and the other groups that
//! may have an address to show one while nobody who is believed answers.
//!
//! A proof goes on when its question has its answer: what it brings is known to the next one, and mends what was kept of this.

use super::asking::{Asking, Subject, Whom};
use super::parties::{Looks, Parties, Proving};
use super::{Judgement, Policy, judge, told};
use crate::clock::Tick;
use crate::config::{GroupId, PlaceId};
use crate::dns::{Name, QuestionKey, Trace};
use crate::pipeline::cache::KeyBuf;
use crate::pipeline::guard::evidence::Proof;
use crate::pipeline::guard::memory::Proved;
use crate::pipeline::guard::verdict::{Decision, Serve, Side};
use crate::pipeline::guard::{self, Compare, HoldOn};
use crate::pipeline::keep::PLACE;
use crate::pipeline::said::{Found as Finding, Record};
use crate::pipeline::state::{State, Way};
use crate::pipeline::{Pipeline, Work};
use crate::stats::Counter;
use crate::upstream::{Shown, Stay, Upstreams};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

/// Proofs under way, of all questions: each is a connection to somebody else's server, of 1.2 s at most. None waits for another:
/// whoever forges a reply may give addresses where nobody answers.
const MAX_UNDER_WAY: usize = 128;
/// Addresses that are proved of one reply to one question. A reply that has more is proved in part at best.
const MAX_ADDRESSES: usize = 8;
/// Addresses of trusted replies looked at when a suspect's certificate is a wrong one.
const MAX_WITNESSES: usize = 2;
/// Groups asked besides, while nobody who is believed answers.
const MAX_OTHERS: usize = 4;

/// The proofs that are under way; each receiver ends with its proof.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<HashMap<Key, Proving>>);

/// A name, an address, and when on which network.
type Key = (Name, IpAddr, Stay);

/// A proof being looked for; dropped, it is under way no more.
struct Looking {
    pipeline: Pipeline,
    key: Key,
    /// Dropped last, so that whoever waits finds it gone.
    _done: watch::Sender<()>,
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.pipeline.learnt.under_way.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// Returns the name whose certificate counts, if a server can have one.
pub(super) fn provable(name: &Name) -> Option<Name> {
    Upstreams::is_provable(name).then(|| name.clone())
}

impl Pipeline {
    /// Begins to prove what suspects give, and notes what to wait for. What is known already is not looked at again.
    pub(super) fn begin_proofs(&self, parties: &mut Parties, policy: &Policy, state: &Arc<State>) {
        for ((suspect, reply), address) in guard::to_prove(&parties.about, policy, &parties.evidence) {
            self.begin_proof(parties, (Looks::Suspect(suspect, reply), MAX_ADDRESSES), address, state);
        }
    }

    /// Begins to prove trusted addresses where a suspect's is known to be wrong: the name's own servers may have nothing better
    /// to show.
    fn begin_witnesses(&self, parties: &mut Parties, state: &Arc<State>) {
        let is_wrong = |(_, proof): &(IpAddr, Proof)| matches!(proof, Proof::OtherName | Proof::Untrusted);
        if parties.evidence.proofs.iter().any(is_wrong) {
            let addresses: Vec<IpAddr> = parties.trusted_addresses().take(MAX_WITNESSES).collect();
            for address in addresses {
                self.begin_proof(parties, (Looks::Trusted, MAX_WITNESSES), address, state);
            }
        }
    }

    /// Begins to prove an address, unless `most` of what the same one says have been for this question.
    fn begin_proof(&self, parties: &mut Parties, (of, most): (Looks, usize), address: IpAddr, state: &Arc<State>) {
        let Some(name) = parties.proves.clone() else { return };
        let begun = parties.looked_at.iter().filter(|(other, _)| *other == of).count();
        if begun >= most || parties.looked_at.iter().any(|(_, known)| *known == address) {
            return;
        }
        if let Some(proving) = self.prove(&name, address, (parties.place, parties.stay), state) {
            parties.looked_at.push((of, address));
            parties.proving.push(proving);
        }
    }

    /// Begins to prove that an address is a name's, unless that is under way.
    fn prove(
        &self,
        name: &Name,
        address: IpAddr,
        (network, stay): (PlaceId, Stay),
        state: &Arc<State>,
    ) -> Option<Proving> {
        let mut all = self.learnt.under_way.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = all.len() >= MAX_UNDER_WAY;
        let place = match all.entry((name.to_lower(), address, stay)) {
            Entry::Occupied(known) => return Some(known.get().clone()),
            Entry::Vacant(place) if !is_full => place,
            Entry::Vacant(_) => {
                self.stats.count_at_bound(Counter::GuardProofsFull);
                return None;
            }
        };
        let (done, proving) = watch::channel(());
        let key = place.key().clone();
        place.insert(proving.clone());
        drop(all);
        let (looking, state) = (Looking { pipeline: self.clone(), key, _done: done }, Arc::clone(state));
        let work = async move {
            let Looking { pipeline, key: (name, address, stay), .. } = &looking;
            pipeline.stats.count(Counter::GuardProofs);
            let proven = state.upstreams.prove(name, *address).await;
            let proof = match proven.shown {
                Shown::Valid => Proof::Valid,
                Shown::OtherName => Proof::OtherName,
                Shown::Untrusted => Proof::Untrusted,
                Shown::LocalRoot => Proof::LocalRoot,
                Shown::Nothing => Proof::Unreachable,
            };
            match proof {
                Proof::Valid => pipeline.stats.count(Counter::GuardProofsValid),
                Proof::OtherName | Proof::Untrusted => pipeline.stats.count(Counter::GuardProofsWrong),
                Proof::LocalRoot | Proof::Unreachable => {}
            }
            // What came over a network that is left says nothing of this one.
            if state.upstreams.stay() == *stay {
                let at: Tick = pipeline.clock.now();
                pipeline.learnt.keep_proof(network, name, *address, Proved { proof, told: proven.told.into(), at });
            }
        };
        // Detached: bounded by its own time and the number there may be; all that wait for it learn of its end.
        tokio::spawn(work.in_current_span());
        Some(proving)
    }

    /// Waits for the proofs under way, and takes what is known by then. A client waits until one is enough to go on with.
    async fn wait_for_proofs(&self, parties: &mut Parties, policy: &Policy, until: Instant) {
        loop {
            parties.forget_ended();
            self.learnt.recall(parties, self.clock.now());
            let is_enough = || matches!(self.as_it_is(policy, parties), Some(Serve::Reply(_)));
            if parties.proving.is_empty() || parties.has_client && is_enough() {
                return;
            }
            let mut proving: FuturesUnordered<_> = parties.proving.iter_mut().map(watch::Receiver::changed).collect();
            if timeout_at(until, proving.next()).await.is_err() {
                return;
            }
        }
    }

    /// Proves what suspects give, as far as there is time; a client who has a trusted answer at hand does not wait for that.
    pub(super) async fn bring_proofs(&self, parties: &mut Parties, policy: &Policy, work: &Work<'_>) {
        self.begin_proofs(parties, policy, work.state);
        self.begin_witnesses(parties, work.state);
        if parties.has_client && parties.has_trusted_answer() {
            return;
        }
        self.wait_for_proofs(parties, policy, work.deadline).await;
        if !parties.has_client {
            self.begin_witnesses(parties, work.state);
            self.wait_for_proofs(parties, policy, work.deadline).await;
        }
    }

    /// Asks the other groups that may know the name, all at once, and begins to prove what they give. Ends when one address has
    /// proved itself; when something can go out, what is left of the client's patience later.
    pub(super) async fn ask_others(
        &self,
        question: &QuestionKey,
        (way, policy): (&Way, &Policy),
        parties: &mut Parties,
        work: &mut Work<'_>,
    ) {
        let mut spoken = parties.heard();
        if parties.failure.is_some() {
            // They had all the time there was, and are waited for no second time.
            spoken.extend(work.state.groups_of(work.view, way));
        }
        let groups = work.state.other_groups(work.view, way, &spoken);
        let subject = Subject::of(question, way, work);
        let mut asking: FuturesUnordered<Asking> =
            groups.into_iter().take(MAX_OTHERS).map(|group| self.asking(&subject, Whom::Other(group))).collect();
        self.begin_proofs(parties, policy, work.state);
        loop {
            self.learnt.recall(parties, self.clock.now());
            let serve = self.as_it_is(policy, parties);
            if matches!(serve, Some(Serve::Reply(_))) {
                return;
            }
            if parties.has_client && serve.is_some_and(|serve| serve != Serve::Nothing) {
                work.deadline = work.deadline.min(Instant::now() + work.patience);
            }
            parties.forget_ended();
            if asking.is_empty() && parties.proving.is_empty() {
                return;
            }
            let mut proving: FuturesUnordered<_> = parties.proving.iter_mut().map(watch::Receiver::changed).collect();
            tokio::select! {
                biased;
                Some(mut answered) = asking.next() => {
                    drop(proving);
                    work.trace.append(std::mem::take(&mut answered.trace));
                    self.enter(parties, Whom::Other(GroupId(0)), answered, work.state);
                    self.begin_proofs(parties, policy, work.state);
                }
                Some(_) = proving.next() => {}
                () = tokio::time::sleep_until(work.deadline) => return,
            }
        }
    }

    /// Returns what would go out if nothing more were looked at.
    pub(super) fn as_it_is(&self, policy: &Policy, parties: &Parties) -> Option<Serve> {
        let quiet = Policy { compare: Compare::Never, hold_on: HoldOn::Never, proofs: false, decoys: false, ..*policy };
        match judge(&parties.about, &quiet, &parties.evidence) {
            Judgement::Serve(decision) => Some(decision.serve),
            Judgement::Need(_) => None,
        }
    }

    /// Waits behind an answer for the proofs that it did not wait for, and concludes then. What was kept of the answer is mended.
    /// `until` is when the question itself ends.
    pub(super) fn conclude_late(
        &self,
        (subject, until): (Subject, Instant),
        mut parties: Parties,
        policy: Policy,
        before: Decision,
    ) {
        let given = before.given();
        let Some(permit) = self.turn_behind() else {
            self.conclude(&parties, &before, given, &subject.state);
            return;
        };
        let pipeline = self.clone();
        self.behind_with(permit, async move {
            let Subject { state, question, way, .. } = &subject;
            parties.has_client = false;
            let mut trace = Trace::off();
            let mut work = subject.work(&mut trace);
            pipeline.bring_proofs(&mut parties, &policy, &work).await;
            let after = pipeline.settle(&policy, question, way, &mut parties, &mut work).await;
            pipeline.conclude(&parties, &after, given, state);
            pipeline.ask_for_nobody(&parties, &after, || subject.behind());
            let (_, _, because) = told(question, &after);
            let decided =
                format!("{}, found behind the answer, which was: {}", after.verdict, super::given_text(given));
            let found = Finding { decided, because, proofs: parties.shown.clone() };
            pipeline.note(question, Record::judged(parties.said(), found, pipeline.clock.now()), &work);
            if !subject.keeps_late || subject.begun.is_some() {
                return;
            }
            match (before.serve, after.serve) {
                (Serve::Unconfirmed(_) | Serve::Nothing, Serve::Reply(at)) if at.side == Side::Suspect => {
                    if let Some((reply, _)) = parties.copy(at) {
                        pipeline.late(&subject).keep_proved(reply);
                    }
                }
                (Serve::Unconfirmed(_), Serve::Nothing) => {
                    let key = KeyBuf::of(PLACE, subject.view, question);
                    state.cache.forget_disputed(&key);
                    // Where an alias led on, the whole answer is kept only when its end is there. Detached: it has no place among
                    // what goes on behind answers, from which it comes, and ends with the question's time; there are as many as
                    // proofs end in that.
                    let state = Arc::clone(state);
                    tokio::spawn(async move {
                        tokio::time::sleep_until(until).await;
                        state.cache.forget_disputed(&key);
                    });
                }
                _ => {}
            }
        });
    }
}
