//! What UDP and TCP have in common on one thread: who is answered on the spot, who is worked on, who is too late.

use super::limits::{Limits, Permit, Refusal};
use super::reply::{Reason, Replies};
use super::{Answerer, FastPath, Worked};
use crate::clock::Tick;
use crate::dns::wire::{self, Fault, ParsedQuery};
use crate::dns::{Arrival, Origin, Query, Rcode, Rtype, Transport, encode};
use crate::stats::{Batch, Cell as AnswerCell, Counter, Ledger, Noted, Stats};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Answers published together at most: those of one batch of datagrams.
pub(super) const TALLY: usize = 64;

/// What the workers share.
pub(super) struct Shared<A> {
    pub(super) answerer: Arc<A>,
    pub(super) stats: Arc<Stats>,
    pub(super) limits: Arc<Limits>,
}

/// How far a stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Not stopping.
    Serving,
    /// Nothing more is read; what is in work is finished.
    Draining,
    /// What is in work is given up.
    GivingUp,
}

/// What became of a question at first sight.
pub(super) enum Sight {
    /// It is not to be answered.
    Silent,
    /// Its answer has been appended, and is counted there.
    Answered(AnswerCell),
    /// It is to be worked on, and may.
    Work(Box<Query>, Permit),
}

/// One thread's way of serving. Nothing in it is shared with another thread but [`Shared`].
pub(super) struct Serving<A> {
    pub(super) answerer: Arc<A>,
    pub(super) stats: Arc<Stats>,
    pub(super) limits: Arc<Limits>,
    /// Addresses of our own: a question from one of them is an echo.
    own: RefCell<Vec<SocketAddr>>,
    phase: Cell<Phase>,
    giving_up: Notify,
    busy: Cell<usize>,
    finished: Notify,
    ledger: Ledger,
}

impl<A: Answerer> Serving<A> {
    /// Starts with no address of our own.
    pub(super) fn new(shared: Shared<A>) -> Self {
        let Shared { answerer, stats, limits } = shared;
        let ledger = stats.ledger();
        Self {
            ledger,
            answerer,
            stats,
            limits,
            own: RefCell::default(),
            phase: Cell::new(Phase::Serving),
            giving_up: Notify::new(),
            busy: Cell::new(0),
            finished: Notify::new(),
        }
    }

    /// Takes note of an address of ours.
    pub(super) fn add_own(&self, address: SocketAddr) {
        self.own.borrow_mut().push(address);
    }

    /// Forgets an address that is ours no longer.
    pub(super) fn remove_own(&self, address: SocketAddr) {
        self.own.borrow_mut().retain(|own| *own != address);
    }

    /// Moves a stop on; at its end everybody who works is told.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        if phase == Phase::GivingUp {
            self.giving_up.notify_waiters();
        }
    }

    /// Waits until nobody is busy.
    pub(super) async fn all_finished(&self) {
        while self.busy.get() > 0 {
            self.finished.notified().await;
        }
    }

    /// Tells how far a stop has come.
    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Returns this as something that a drain waits for.
    pub(super) fn busy(self: &Rc<Self>) -> Busy<A> {
        self.busy.set(self.busy.get() + 1);
        Busy(Rc::clone(self))
    }

    fn replies(&self) -> Replies {
        Replies { udp_payload_bytes: self.answerer.udp_payload_bytes(), extended_errors: self.limits.extended_errors() }
    }

    /// Answers what can be answered on the spot, and takes in what cannot. A panic ends this question only.
    pub(super) fn look(
        &self,
        fast: &mut impl FastPath,
        bytes: &[u8],
        arrival: &Arrival,
        now: Tick,
        out: &mut Vec<u8>,
    ) -> Sight {
        let start = out.len();
        if let Ok(sight) = catch_unwind(AssertUnwindSafe(|| self.look_within(fast, bytes, arrival, now, out))) {
            return sight;
        }
        out.truncate(start);
        self.stats.count(Counter::PanicsCaught);
        match wire::parse_query(bytes) {
            Ok(parsed) => self.answer_here(out, &parsed, arrival, Reason::Panicked),
            Err(_) => Sight::Silent,
        }
    }

    fn look_within(
        &self,
        fast: &mut impl FastPath,
        bytes: &[u8],
        arrival: &Arrival,
        now: Tick,
        out: &mut Vec<u8>,
    ) -> Sight {
        // Nobody can receive at port 0, and an answer to ourselves would be the next question (RUSTSEC-2023-0041).
        if arrival.client.port() == 0 || self.own.borrow().contains(&arrival.client) {
            return Sight::Silent;
        }
        let allowed = fast.allows(arrival.client.ip());
        let parsed = match wire::parse_query(bytes) {
            Ok(parsed) => parsed,
            Err(Fault::Silent) => return Sight::Silent,
            Err(Fault::Answer { rcode, echo }) if allowed => {
                return self.fault(out, bytes, arrival, (rcode, echo));
            }
            // A stranger is told nothing but that it may not ask.
            Err(Fault::Answer { echo, .. }) => {
                self.stats.count(Counter::Refused);
                return self.fault(out, bytes, arrival, (Rcode::REFUSED, echo));
            }
        };
        if !allowed {
            self.stats.count(Counter::Refused);
            return self.answer_here(out, &parsed, arrival, Reason::NotAllowed);
        }
        let start = out.len();
        if let Some(decided) = fast.answer_cached(&parsed, arrival, now, out) {
            let (qtype, rcode) = (Some(parsed.message.qtype()), rcode_of(&out[start..]));
            return Sight::Answered(AnswerCell::new(arrival.transport, qtype, rcode, decided.origin).of(decided));
        }
        out.truncate(start);
        match self.limits.admit(arrival.client.ip()) {
            Ok(permit) => Sight::Work(Box::new(Query::from_wire(&parsed, arrival)), permit),
            Err(refusal) => {
                self.stats.count_at_bound(match refusal {
                    Refusal::Full => Counter::InFlightFull,
                    Refusal::Share => Counter::ClientShareFull,
                });
                self.answer_here(out, &parsed, arrival, Reason::Full)
            }
        }
    }

    fn answer_here(&self, out: &mut Vec<u8>, parsed: &ParsedQuery<'_>, arrival: &Arrival, why: Reason) -> Sight {
        self.replies().to_parsed(out, parsed, arrival.transport, why);
        Sight::Answered(own(arrival.transport, Some(parsed.message.qtype()), why.rcode()))
    }

    /// Appends the answer to a malformed message: its code, and whether it repeats the question.
    pub(super) fn fault(
        &self,
        out: &mut Vec<u8>,
        bytes: &[u8],
        arrival: &Arrival,
        (rcode, echo): (Rcode, bool),
    ) -> Sight {
        self.stats.count(Counter::Malformed);
        encode::fault(out, bytes, rcode, echo, self.answerer.udp_payload_bytes());
        Sight::Answered(own(arrival.transport, None, rcode))
    }

    /// Works out an answer. There always is one: a panic, the end of a drain and having to give way have theirs.
    pub(super) async fn work(&self, query: Box<Query>, permit: &Permit) -> Vec<u8> {
        let (began, at) = (Instant::now(), self.answerer.now());
        // Boxed: some kilobytes that would otherwise be moved with the task, several times, before it first runs.
        let answer = Box::pin(self.answerer.answer(&query));
        let result = tokio::select! {
            biased;
            result = caught(answer) => result.map_err(|Panicked| {
                self.stats.count(Counter::PanicsCaught);
                Reason::Panicked
            }),
            () = self.given_up() => Err(Reason::Stopping),
            () = permit.give_way() => {
                self.stats.count_at_bound(Counter::GaveWay);
                Err(Reason::GaveWay)
            }
        };
        let Worked { decided, upstream, bytes } = result.unwrap_or_else(|why| {
            let bytes = self.replies().to_query(&query, why);
            Worked { decided: Origin::Own.into(), upstream: None, bytes }
        });
        let cell = AnswerCell::new(query.transport, Some(query.qtype), rcode_of(&bytes), decided.origin);
        // Counted first, so that nobody holds an answer that the counters do not know.
        self.ledger.publish(Batch {
            noted: &[Noted::new(cell.of(decided), query.client, bytes.len())],
            octets: &bytes,
            prefix_bytes: 0,
            upstream: upstream.as_deref().unwrap_or_default(),
            at,
            took: began.elapsed(),
            now: self.answerer.now(),
        });
        bytes
    }

    /// Counts the answers of a batch that are not published yet. They may be sent then, and are to be published after that.
    pub(super) fn count(&self, tally: &mut Tally) {
        tally.took = tally.began.elapsed();
        self.ledger.count(&tally.noted, tally.took, tally.at);
    }

    /// Remembers the answers that have been counted: those at the end of `out`. `prefix_bytes` as [`Batch::prefix_bytes`].
    pub(super) fn remember(&self, tally: &mut Tally, out: &[u8], prefix_bytes: u8) {
        let Tally { noted, published, at, took, .. } = tally;
        let (at, took, octets) = (*at, *took, &out[*published..]);
        self.ledger.remember(Batch { noted, octets, prefix_bytes, upstream: "", at, took, now: at });
        noted.clear();
        *published = out.len();
    }

    /// Counts and remembers at once.
    pub(super) fn publish(&self, tally: &mut Tally, out: &[u8], prefix_bytes: u8) {
        if tally.noted.is_empty() {
            tally.published = out.len();
        } else {
            self.count(tally);
            self.remember(tally, out, prefix_bytes);
        }
    }

    async fn given_up(&self) {
        while self.phase.get() < Phase::GivingUp {
            self.giving_up.notified().await;
        }
    }
}

/// A thread that has something to finish: a drain waits until it is dropped. Made before a task is spawned, not in it,
/// since a drain may look before the task has run.
pub(super) struct Busy<A>(Rc<Serving<A>>);

impl<A> std::ops::Deref for Busy<A> {
    type Target = Serving<A>;

    fn deref(&self) -> &Serving<A> {
        &self.0
    }
}

impl<A> Drop for Busy<A> {
    fn drop(&mut self) {
        let left = self.0.busy.get() - 1;
        self.0.busy.set(left);
        if left == 0 {
            self.0.finished.notify_waiters();
        }
    }
}

/// The work on a question panicked.
struct Panicked;

/// Runs a future and catches its panics.
async fn caught<F: Future>(future: F) -> Result<F::Output, Panicked> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(_) => Poll::Ready(Err(Panicked)),
    })
    .await
}

/// Answers of a batch, published together, so that a hit costs no shared write of its own.
#[derive(Debug)]
pub(super) struct Tally {
    noted: Vec<Noted>,
    /// Octets of the answers that are published already.
    published: usize,
    /// When the questions were read, on both clocks.
    at: Tick,
    began: Instant,
    /// How long those took that are counted.
    took: Duration,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            noted: Vec::with_capacity(TALLY),
            published: 0,
            at: Tick(0),
            began: Instant::now(),
            took: Duration::ZERO,
        }
    }
}

impl Tally {
    /// Begins a batch of questions that were read just now.
    pub(super) fn begin(&mut self, at: Tick) {
        self.noted.clear();
        (self.published, self.at, self.began) = (0, at, Instant::now());
    }

    /// Returns the answers that are not published yet.
    pub(super) fn noted(&self) -> &[Noted] {
        &self.noted
    }

    /// Adds one answer; returns whether there is room for another.
    #[inline]
    pub(super) fn add(&mut self, noted: Noted) -> bool {
        self.noted.push(noted);
        self.noted.len() < TALLY
    }
}

fn own(transport: Transport, qtype: Option<Rtype>, rcode: Rcode) -> AnswerCell {
    AnswerCell::new(transport, qtype, rcode, Origin::Own)
}

/// Reads the response code of an answer; the extended bits, which only BADVERS of ours uses, are not looked for.
fn rcode_of(answer: &[u8]) -> Rcode {
    Rcode(answer.get(3).map_or(2, |flags| u16::from(flags & 0x0f)))
}
