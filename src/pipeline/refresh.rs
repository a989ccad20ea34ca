//! Questions that go on without a client: stale answers being refreshed, popular ones asked for before they expire.
//!
//! Both take the same stages as a client's question and are merged with it. Both are bounded, and at the bound left
//! undone: the answer goes out stale, or expires and is asked for by its next client.

use super::cache::{self, Guard, KeyBuf, Role, Staleness};
use super::keep::{PLACE, Provenance};
use super::state::State;
use super::text::key_text;
use super::{BUDGET, BUDGET_SLACK, Pipeline, Waiter, Work, hand_out, taken};
use crate::config::{GuardMode, OnFailure, ViewId};
use crate::dns::answer::ede;
use crate::dns::{Answer, Ede, QuestionKey, Stage, Trace, encode};
use crate::stats::{Counter, Stats};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

/// Refreshes going on behind stale answers at once: with each at most [`BUDGET`] long, 220 new ones a second when
/// every upstream is silent, and thousands when one answers.
pub(super) const MAX_REFRESHES: usize = 1024;
/// Popular answers asked for at once: they must never be what fills an upstream's or our own queues.
const MAX_PREFETCHES: usize = 32;

/// Guarded names judged behind their answers at once. A clean network sees one for each that is asked of upstreams, for the
/// time that a trusted reply takes: thousands a second.
pub(super) const MAX_JUDGINGS: usize = 256;

/// What may go on without a client. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Background {
    refreshes: Arc<Semaphore>,
    prefetches: Arc<Semaphore>,
    /// Guarded names that are judged behind their answers, or whose trusted answer is late.
    pub(super) judgings: Arc<Semaphore>,
}

impl Default for Background {
    fn default() -> Self {
        Self {
            refreshes: Arc::new(Semaphore::new(MAX_REFRESHES)),
            prefetches: Arc::new(Semaphore::new(MAX_PREFETCHES)),
            judgings: Arc::new(Semaphore::new(MAX_JUDGINGS)),
        }
    }
}

#[cfg(test)]
impl Background {
    /// Returns how many more refreshes and popular answers there may be.
    pub(super) fn free(&self) -> (usize, usize) {
        (self.refreshes.available_permits(), self.prefetches.available_permits())
    }
}

/// An answer past its TTL that may be used.
pub(super) struct StaleAnswer {
    pub(super) answer: Answer,
    pub(super) staleness: Staleness,
}

/// A question being worked out, wherever it is polled.
type Refresh = Pin<Box<dyn Future<Output = (Answer, Trace)> + Send>>;

impl Pipeline {
    /// Gives upstreams the time that `serve_stale` grants to do better than a stale answer; asking goes on behind it.
    pub(super) async fn refreshed(&self, question: &QuestionKey, stale: StaleAnswer, work: &mut Work<'_>) -> Answer {
        let key = KeyBuf::of(PLACE, work.view, question);
        let at_once = stale.staleness != Staleness::Wait || is_down(question, work);
        let until = work.started + work.state.config.cache.serve_stale.after;
        let (waiter, answer) = oneshot::channel();
        let fresh = match work.state.in_flight.join(&key, waiter) {
            Role::Leader(lead, _) => {
                let trace = if work.trace.is_on() { Trace::on() } else { Trace::off() };
                let mut refresh = self.refresh(lead, question.clone(), (Arc::clone(work.state), work.view), trace);
                // Polled here as long as there is a client for it: most are done before anybody else need care.
                let done = if at_once { None } else { timeout_at(until, &mut refresh).await.ok() };
                if let Some((answer, trace)) = done {
                    work.trace.append(trace);
                    Some(answer)
                } else {
                    self.go_on(refresh);
                    None
                }
            }
            Role::Follower if !at_once => {
                self.stats.count(Counter::Merged);
                work.step(Stage::Exchange, || (key_text(question), "wait", "the same question is in flight"));
                timeout_at(until, answer).await.ok().and_then(Result::ok).map(|shared| taken(shared, work.trace))
            }
            Role::Follower | Role::Full(_) => None,
        };
        if let Some(answer) = fresh.filter(|answer| !cache::is_failure(answer)) {
            return answer;
        }
        work.state.cache.note_failed_refresh(&key, self.clock.now());
        work.step(Stage::Cache, || {
            let why = if at_once { "nobody is waited for" } else { "upstreams failed, or are late" };
            (key_text(question), "the stale answer", format!("{why}; TTLs lowered, extended error added"))
        });
        stale.answer
    }

    /// Asks again for a popular answer in the background, unless upstreams have enough to do with what clients want.
    pub(super) fn prefetch(&self, state: &Arc<State>, view: ViewId, question: QuestionKey) {
        let way = state.way(view, &question, false, GuardMode::Off);
        let permit = Arc::clone(&self.background.prefetches).try_acquire_owned();
        let (Ok(permit), Ok(runtime), true) =
            (permit, tokio::runtime::Handle::try_current(), state.upstreams.group_is_well(way.group))
        else {
            self.stats.count(Counter::PrefetchesSkipped);
            return;
        };
        let (waiter, _answer) = oneshot::channel();
        if let Role::Leader(lead, _) = state.in_flight.join(&KeyBuf::of(PLACE, view, &question), waiter) {
            self.stats.count(Counter::Prefetches);
            let refresh = self.refresh(lead, question, (Arc::clone(state), view), Trace::off());
            let counted = CountPanic(Arc::clone(&self.stats));
            runtime.spawn(async move {
                let (_permit, _counted) = (permit, counted);
                refresh.await;
            });
        }
    }

    /// Works a question out as its leader: stages 3 to 9, within a budget of its own.
    fn refresh(
        &self,
        lead: Guard<Waiter>,
        question: QuestionKey,
        (state, view): (Arc<State>, ViewId),
        mut trace: Trace,
    ) -> Refresh {
        let pipeline = self.clone();
        let started = Instant::now();
        let work = async move {
            let deadline = started + BUDGET;
            let mut work = Work {
                state: &state,
                view,
                deadline,
                started,
                known: Provenance::default(),
                guard: GuardMode::Off,
                fresh: false,
                keeps_late: true,
                patience: state.config.guard.budget,
                hold: None,
                apart_from: None,
                begun: None,
                trace: &mut trace,
            };
            let resolved = timeout_at(deadline + BUDGET_SLACK, pipeline.resolve(&question, &mut work)).await;
            let mut answer = resolved.unwrap_or_else(|_| {
                pipeline.stats.count(Counter::BudgetExceeded);
                let why = Ede::new(ede::NO_REACHABLE_AUTHORITY, "the time budget is over");
                encode::servfail(&question.qname, question.qtype, why)
            });
            pipeline.store(&question, &mut answer, &mut work);
            hand_out(lead, &answer, work.trace);
            (answer, trace)
        };
        Box::pin(work.in_current_span())
    }

    /// Lets a refresh go on by itself.
    fn go_on(&self, refresh: Refresh) {
        let Ok(permit) = Arc::clone(&self.background.refreshes).try_acquire_owned() else {
            // Dropped, which ends it and frees whoever waits for it.
            self.stats.count_at_bound(Counter::RefreshesFull);
            return;
        };
        self.stats.count(Counter::Refreshes);
        let counted = CountPanic(Arc::clone(&self.stats));
        tokio::spawn(async move {
            let (_permit, _counted) = (permit, counted);
            refresh.await;
        });
    }
}

/// Tells whether asking is known to be in vain: everybody whom this question would go to is dead.
fn is_down(question: &QuestionKey, work: &Work<'_>) -> bool {
    let state = work.state;
    let way = state.way(work.view, question, false, GuardMode::Off);
    let default = state.config.default_for(work.view).upstream;
    let has_resort = way.on_failure == OnFailure::Default && default != way.group;
    state.upstreams.group_is_down(way.group) && (!has_resort || state.upstreams.group_is_down(default))
}

/// Counts when the work it goes along with panics; tokio ends that task only.
pub(super) struct CountPanic(pub(super) Arc<Stats>);

impl Drop for CountPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.count(Counter::PanicsCaught);
        }
    }
}
