//! Groups asked about a guarded name, each by itself, so that asking may go on when its client has been answered.

use super::parties::{Found, Parties};
use crate::config::{GroupId, GuardMode, ViewId};
use crate::dns::{Name, QuestionKey, Trace};
use crate::pipeline::keep::{Late, Provenance, cap_stand_in};
use crate::pipeline::refresh::CountPanic;
use crate::pipeline::state::{State, Way};
use crate::pipeline::{BUDGET, Pipeline, Work};
use crate::stats::Counter;
use crate::upstream::{Failure, Held};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::Instrument;

/// A question with all that its work needs when it outlives its client.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) state: Arc<State>,
    pub(super) view: ViewId,
    pub(super) question: QuestionKey,
    pub(super) way: Way,
    started: Instant,
    pub(super) deadline: Instant,
    traced: bool,
    fresh: bool,
    pub(super) keeps_late: bool,
    /// The name that an alias has led here from.
    pub(super) begun: Option<Name>,
}

/// Whom to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    /// The route's group and what stands behind it.
    Route,
    /// The group whose replies are believed.
    References,
    /// One more group.
    Other(GroupId),
}

/// What came of asking.
pub(super) struct Answered {
    pub(super) found: Result<Found, Box<Failure>>,
    /// The channel of a reply in a datagram.
    pub(super) held: Option<Held>,
    pub(super) trace: Trace,
}

/// A group being asked, wherever this is polled.
pub(super) type Asking = Pin<Box<dyn Future<Output = Answered> + Send>>;

impl Subject {
    pub(super) fn of(question: &QuestionKey, way: &Way, work: &Work<'_>) -> Self {
        Self {
            state: Arc::clone(work.state),
            view: work.view,
            question: question.clone(),
            way: way.clone(),
            started: work.started,
            deadline: work.deadline,
            traced: work.trace.is_on(),
            fresh: work.fresh,
            keeps_late: work.keeps_late,
            begun: work.begun.clone(),
        }
    }

    /// Makes the work that goes on behind an answer, with a budget of its own. What a watched name's references say too late
    /// even for that is not what its clients get.
    pub(super) fn behind(&self) -> Self {
        let keeps_late = self.keeps_late && self.way.guard == GuardMode::Enforce;
        Self { deadline: Instant::now() + BUDGET, traced: false, keeps_late, ..self.clone() }
    }

    /// Makes the same of another question.
    pub(super) fn about(self, question: QuestionKey) -> Self {
        Self { question, ..self }
    }

    pub(super) fn work<'a>(&'a self, trace: &'a mut Trace) -> Work<'a> {
        Work {
            state: &self.state,
            view: self.view,
            deadline: self.deadline,
            started: self.started,
            known: Provenance::default(),
            guard: GuardMode::Off,
            fresh: self.fresh,
            keeps_late: self.keeps_late,
            patience: Duration::ZERO,
            hold: None,
            apart_from: None,
            begun: self.begun.clone(),
            trace,
        }
    }

    fn trace(&self) -> Trace {
        if self.traced { Trace::on() } else { Trace::off() }
    }
}

impl Pipeline {
    /// Begins to ask; nothing is sent before this is polled.
    pub(super) fn asking(&self, subject: &Subject, whom: Whom) -> Asking {
        let (pipeline, subject) = (self.clone(), subject.clone());
        let asking = async move {
            let mut trace = subject.trace();
            let mut work = subject.work(&mut trace);
            let Subject { state, question, way, .. } = &subject;
            let guard = &state.config.guard;
            let found = match whom {
                Whom::Route => {
                    work.hold = guard.hold_on.then(Arc::default);
                    pipeline.exchange(question, way, &mut work).await
                }
                Whom::References => {
                    pipeline.ask(question, way, (guard.references, false), way.private_answers, &mut work).await
                }
                Whom::Other(group) => {
                    let mut found = pipeline.ask(question, way, (group, false), way.private_answers, &mut work).await;
                    if let Ok((reply, _)) = &mut found {
                        cap_stand_in(reply, way.group);
                    }
                    found
                }
            };
            let held = work.hold.take().and_then(|hold| hold.take());
            Answered { found, held, trace }
        };
        Box::pin(asking.in_current_span())
    }

    /// Lets something go on behind an answer.
    pub(super) fn behind(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(permit) = self.turn_behind() {
            self.behind_with(permit, work);
        }
    }

    /// Takes a place among what goes on behind answers.
    pub(super) fn turn_behind(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.background.judgings).try_acquire_owned().ok();
        if permit.is_none() {
            self.stats.count_at_bound(Counter::GuardBehindFull);
        }
        permit
    }

    pub(super) fn behind_with(&self, permit: OwnedSemaphorePermit, work: impl Future<Output = ()> + Send + 'static) {
        let counted = CountPanic(Arc::clone(&self.stats));
        let work = work.in_current_span();
        // Detached: it ends with its budget, and nothing waits for it.
        tokio::spawn(async move {
            let (_permit, _counted) = (permit, counted);
            work.await;
        });
    }

    /// Keeps a trusted reply that comes when its client has got another one.
    pub(super) fn mend_with(&self, witness: Asking, subject: &Subject) {
        if !subject.keeps_late {
            return;
        }
        let late = self.late(subject);
        self.behind(async move {
            if let Ok((reply, _)) = witness.await.found {
                late.keep(reply);
            }
        });
    }

    /// Makes who keeps a reply to a question whose client has its answer.
    pub(super) fn late(&self, subject: &Subject) -> Late {
        Late {
            state: Arc::clone(&subject.state),
            view: subject.view,
            question: subject.question.clone(),
            private_answers: subject.way.private_answers,
            way: subject.way.clone(),
            clock: self.clock.clone(),
            stats: Arc::clone(&self.stats),
        }
    }

    /// Enters what came of asking, and returns whether it was a reply.
    pub(super) fn enter(&self, parties: &mut Parties, whom: Whom, answered: Answered, state: &State) -> bool {
        use crate::pipeline::guard::verdict::Side;
        let Answered { found, held, .. } = answered;
        match found {
            Ok(found) => {
                let habits = self.learnt.habits(parties.place, &found.0);
                let is_reference = state.is_reference(&found.0);
                match whom {
                    // One of a fallback group is one more suspect, and there is one already.
                    Whom::References if !is_reference => return false,
                    Whom::Route if !is_reference => parties.held = held,
                    Whom::Route | Whom::References | Whom::Other(_) => {}
                }
                parties.enter(if is_reference { Side::Trusted } else { Side::Suspect }, found, habits);
                true
            }
            Err(failure) => {
                if whom == Whom::Route {
                    parties.enter_silence(failure);
                }
                false
            }
        }
    }
}
