//! The way to one server over connections: which one carries a query, when another is opened, when one is given up.
//!
//! ```text
//!                 ┌─▶ current ─── a task: dial, TLS, then queries and replies until idle or broken
//!   send(query) ──┤
//!                 └─▶ old ─────── one that fell silent; asked too until either of them answers
//! ```
//!
//! One connection serves all threads; its task runs on the runtime that first needed it. A connection that owes replies
//! and is silent too long is suspect: what it owes is asked on a fresh one as well, and so is every query until one of the
//! two has answered. Whoever answers first stays; the other ends when nothing waits on it. So a laptop that wakes up loses
//! a quarter of a second, and a server that is only slow loses nothing.

use super::jobs::{ABANDONED, Command, Fault, Job, Receiver, Took};
use super::open::{Session, open};
use super::owed::{Event, QUEUE, silence_after};
use super::target::Target;
use crate::stats::{Counter, Stats};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Connections to all servers at once; beyond it the attempt fails and another server is asked.
pub(super) const MAX_CONNECTIONS: usize = 256;
/// How long opening a connection may take, proxy, TLS and all. A SYN is repeated by the kernel after 1 s and 3 s; others
/// are asked long before.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(4);

/// What all links share.
#[derive(Debug)]
pub(in crate::upstream) struct Links {
    open: AtomicUsize,
    all: Mutex<Vec<Weak<Link>>>,
    stats: Arc<Stats>,
}

/// A connection's place among [`MAX_CONNECTIONS`], given back when dropped.
#[derive(Debug)]
struct Place(Arc<Links>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Links {
    pub(in crate::upstream) fn new(stats: Arc<Stats>) -> Self {
        Self { open: AtomicUsize::new(0), all: Mutex::default(), stats }
    }

    /// Makes the link to a server. No connection is opened before the first query.
    pub(super) fn link(self: &Arc<Self>, target: Target) -> Arc<Link> {
        let (links, state) = (Arc::clone(self), Mutex::default());
        let link = Arc::new(Link { target: Arc::new(target), links, state });
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|link| link.strong_count() > 0);
        all.push(Arc::downgrade(&link));
        link
    }

    /// The network may be another one: makes every connection suspect. The next query to a server, and those that wait,
    /// go over a fresh connection beside the old one.
    pub(in crate::upstream) fn suspect_all(&self) {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for link in all.iter().filter_map(Weak::upgrade) {
            link.suspect_now();
        }
    }

    fn take_place(self: &Arc<Self>) -> Option<Place> {
        let free = |open| (open < MAX_CONNECTIONS).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).is_ok().then(|| Place(Arc::clone(self)))
    }
}

/// One server's way over connections.
#[derive(Debug)]
pub(in crate::upstream) struct Link {
    target: Arc<Target>,
    links: Arc<Links>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Gets every query.
    current: Option<Carrier>,
    /// Suspect; gets every query too until one of the two has answered.
    old: Option<Carrier>,
    opened: u64,
    /// Suspicions in a row that did not prove right.
    alarms: u32,
    /// The last fresh connection beside the old one could not be opened.
    refused: bool,
}

/// The way to a connection's task.
#[derive(Debug)]
struct Carrier {
    id: u64,
    jobs: mpsc::Sender<Command>,
}

impl Link {
    /// Sends a query. The reply carries the query's own id and has the same question, letter case aside.
    pub(super) fn send(self: &Arc<Self>, query: &[u8]) -> io::Result<Receiver> {
        self.target.used();
        let (job, receiver) = Job::new(query);
        self.place(job).map_err(io::Error::from)?;
        Ok(receiver)
    }

    /// Tells whether there is a connection that takes queries, or one that is being opened.
    pub(super) fn is_open(&self) -> bool {
        self.state().current.as_ref().is_some_and(|current| !current.jobs.is_closed())
    }

    /// Returns how many connections were opened so far.
    pub(super) fn opened(&self) -> u64 {
        self.state().opened
    }

    /// Tells whether only a silent connection is left: no fresh one could be opened.
    fn is_refused(&self) -> bool {
        let state = self.state();
        state.refused && state.old.as_ref().is_some_and(|old| !old.jobs.is_closed())
    }

    /// Puts a query on the connections that get it.
    fn place(self: &Arc<Self>, job: Job) -> Result<(), io::ErrorKind> {
        let mut state = self.state();
        let raced = state.old.as_ref().is_some_and(|old| old.jobs.try_send(Command::Ask(job.clone())).is_ok());
        if !raced {
            state.old = None;
        }
        let placed = self.place_on_current(&mut state, job);
        if raced { Ok(()) } else { placed }
    }

    fn place_on_current(self: &Arc<Self>, state: &mut State, job: Job) -> Result<(), io::ErrorKind> {
        let Some(current) = &state.current else { return self.open(state, Command::Ask(job)) };
        match current.jobs.try_send(Command::Ask(job)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(io::ErrorKind::ResourceBusy),
            Err(mpsc::error::TrySendError::Closed(job)) => self.open(state, job),
        }
    }

    /// Opens a connection, its first query included. Must be called inside a tokio runtime.
    fn open(self: &Arc<Self>, state: &mut State, job: Command) -> Result<(), io::ErrorKind> {
        let place = self.links.take_place().ok_or(io::ErrorKind::QuotaExceeded)?;
        let (sender, jobs) = mpsc::channel(QUEUE);
        sender.try_send(job).map_err(|_| io::ErrorKind::ResourceBusy)?;
        state.opened += 1;
        let id = state.opened;
        state.current = Some(Carrier { id, jobs: sender });
        self.links.stats.count(Counter::UpstreamConnections);
        let task = Task { link: Arc::downgrade(self), target: Arc::clone(&self.target), id, jobs, _place: place };
        // Detached: it ends by itself when idle, when nobody has the link any longer, or with its runtime.
        tokio::spawn(task.run(silence_after(state.alarms)));
        Ok(())
    }

    /// A connection is open.
    fn opened_now(&self, id: u64) {
        let mut state = self.state();
        if state.current.as_ref().is_some_and(|current| current.id == id) {
            state.refused = false;
        }
    }

    /// A connection could not be opened.
    fn failed(&self, id: u64) {
        let mut state = self.state();
        state.old.take_if(|old| old.id == id);
        if state.current.take_if(|current| current.id == id).is_some() {
            state.refused = state.old.is_some();
        }
    }

    /// A connection has answered for the first time, or after it was suspect.
    fn answered(&self, id: u64) {
        let mut state = self.state();
        state.refused = false;
        if state.current.as_ref().is_some_and(|current| current.id == id) {
            // The old one may have ended by now, which proves the suspicion right as well.
            (state.old, state.alarms) = (None, 0);
        } else if state.old.as_ref().is_some_and(|old| old.id == id) {
            state.current = state.old.take();
        }
    }

    /// A connection is silent and has these queries: they are asked on the other one too.
    fn suspect(self: &Arc<Self>, id: u64, jobs: Vec<Job>) {
        let mut state = self.state();
        if state.current.as_ref().is_some_and(|current| current.id == id) {
            self.links.stats.count(Counter::UpstreamSuspects);
            state.alarms = state.alarms.saturating_add(1);
            state.old = state.current.take();
        }
        if state.old.as_ref().is_none_or(|old| old.id != id) {
            return;
        }
        for job in jobs {
            // One that finds no room waits for the old connection only.
            let _ = self.place_on_current(&mut state, job);
        }
    }

    fn suspect_now(&self) {
        let mut state = self.state();
        if let Some(current) = state.current.take_if(|current| !current.jobs.is_closed()) {
            self.links.stats.count(Counter::UpstreamSuspects);
            // A full queue means that nothing is under way on the connection but its opening.
            let _ = current.jobs.try_send(Command::Suspect);
            state.old = Some(current);
        }
    }

    /// A connection takes no more queries; these have to go over another one.
    fn back(self: &Arc<Self>, id: u64, jobs: Vec<Job>) {
        let mut state = self.state();
        state.current.take_if(|current| current.id == id);
        state.old.take_if(|old| old.id == id);
        drop(state);
        for job in jobs {
            let copy = job.clone();
            if let Err(kind) = self.place(job) {
                copy.fail(&kind.into());
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whatever a panicking thread left is a set of connections that may be used.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of a connection.
struct Task {
    link: Weak<Link>,
    target: Arc<Target>,
    id: u64,
    jobs: mpsc::Receiver<Command>,
    _place: Place,
}

impl Task {
    async fn run(mut self, silence: Duration) {
        let (opened, early) = self.open(silence).await;
        let mut session = match opened {
            Ok(session) => session,
            Err(fault) => return self.fail(early, &fault),
        };
        self.tell(|link, id| link.opened_now(id));
        for job in early.into_iter().filter(Job::is_wanted) {
            session.ask(job);
        }
        loop {
            match session.next(&mut self.jobs).await {
                Event::Answered => self.tell(|link, id| link.answered(id)),
                Event::Suspect(jobs) => self.tell(|link, id| link.suspect(id, jobs)),
                Event::Back(jobs) => self.give_back(jobs),
                Event::Over(jobs) => {
                    self.give_back(jobs);
                    return;
                }
            }
        }
    }

    /// Opens the connection; returns what has been asked meanwhile too.
    async fn open(&mut self, silence: Duration) -> (Result<Session, Fault>, Vec<Job>) {
        let mut early = Vec::new();
        let target = Arc::clone(&self.target);
        let mut opening = std::pin::pin!(timeout(HANDSHAKE_TIMEOUT, open(&target, silence)));
        let mut closed = false;
        let opened = loop {
            tokio::select! {
                opened = &mut opening => break opened,
                command = self.jobs.recv(), if !closed && early.len() < QUEUE => match command {
                    Some(Command::Ask(job)) => early.push(job),
                    Some(Command::Suspect) => {
                        let jobs = early.clone();
                        self.tell(|link, id| link.suspect(id, jobs));
                    }
                    // Nobody needs it any longer, except who waits already.
                    None => closed = true,
                },
            }
        };
        (opened.unwrap_or_else(|_| Err(Fault::late("no connection within 4 s"))), early)
    }

    fn tell(&self, what: impl FnOnce(&Arc<Link>, u64)) {
        if let Some(link) = self.link.upgrade() {
            what(&link, self.id);
        }
    }

    /// Tells everybody that waits that there is no connection.
    fn fail(mut self, early: Vec<Job>, fault: &Fault) {
        for job in early.into_iter().chain(self.queued()) {
            job.fail(fault);
        }
        self.tell(|link, id| link.failed(id));
    }

    /// Sends what this connection will not answer over another one.
    fn give_back(&mut self, mut jobs: Vec<Job>) {
        jobs.extend(self.queued());
        self.tell(|link, id| link.back(id, jobs));
    }

    /// Takes no more queries and returns those in the queue.
    fn queued(&mut self) -> Vec<Job> {
        self.jobs.close();
        let commands = std::iter::from_fn(|| self.jobs.try_recv().ok());
        let job = |command| if let Command::Ask(job) = command { Some(job) } else { None };
        commands.filter_map(job).filter(Job::is_wanted).collect()
    }
}

/// A query that waits on a link.
#[derive(Debug)]
pub(in crate::upstream) struct Waiting {
    link: Arc<Link>,
    query: Box<[u8]>,
    /// Gone when the reply was taken: one message is all that comes.
    receiver: Option<Receiver>,
    again: bool,
    took: Option<Took>,
}

impl Waiting {
    /// Sends a query over a link.
    pub(super) fn send(link: Arc<Link>, query: &[u8]) -> io::Result<Self> {
        let receiver = Some(link.send(query)?);
        Ok(Self { link, query: query.into(), receiver, again: true, took: None })
    }

    /// Returns how long the reply took from when its query was written, once it is there.
    pub(super) fn took(&self) -> Option<Took> {
        self.took
    }

    /// Tells whether it waits on a silent connection only, and no fresh one could be opened.
    pub(super) fn is_refused(&self) -> bool {
        self.link.is_refused()
    }

    /// Waits for the reply.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        loop {
            let Some(receiver) = &mut self.receiver else { return Poll::Pending };
            let Poll::Ready(reply) = Pin::new(receiver).poll(cx) else { return Poll::Pending };
            self.receiver = None;
            match reply.unwrap_or_else(|_| Err(ABANDONED.into())) {
                // The connection ended with the thread it ran on, which says nothing about the server.
                Err(error) if error.kind() == ABANDONED && std::mem::take(&mut self.again) => {
                    self.receiver = Some(self.link.send(&self.query)?);
                }
                reply => {
                    return Poll::Ready(reply.map(|delivered| {
                        self.took = Some(delivered.took);
                        delivered.message
                    }));
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
