//! One query handed to a connection, and the promise of its reply.
//!
//! A job may be on two connections at once, when one of them has fallen silent: clones share the promise. The first
//! reply keeps it; an error is told only when the last clone is gone.

use crate::config::{ProxyServer, UpstreamHost};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A reply is waited for at most so long, on all connections together: longer than any budget of a question.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a query gets.
pub(super) type Receiver = oneshot::Receiver<io::Result<Delivered>>;

/// A reply.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) message: Vec<u8>,
    pub(super) took: Took,
}

/// How long after its query was written a reply came: opening the connection is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) enum Took {
    /// So long.
    Known(Duration),
    /// The connection had fallen silent, and no other has shown that the way was open: it may have been the network that
    /// took the time, and not the server.
    Doubtful,
}

impl Took {
    /// Returns the time, when it says something about the server.
    pub(in crate::upstream) fn known(self) -> Option<Duration> {
        if let Self::Known(took) = self { Some(took) } else { None }
    }
}

/// What a link tells a connection.
#[derive(Debug)]
pub(super) enum Command {
    /// Ask this.
    Ask(Job),
    /// The network may have changed: count as silent from here on.
    Suspect,
}

/// A query on its way.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// The message, its own id included.
    pub(super) query: Arc<[u8]>,
    /// When it is given up, wherever it is.
    pub(super) until: Instant,
    /// Connections that ended under it without having given anything.
    pub(super) tries: u8,
    promise: Arc<Promise>,
}

#[derive(Debug)]
struct Promise(Mutex<Open>);

#[derive(Debug)]
struct Open {
    /// Gone when the reply is there.
    sender: Option<oneshot::Sender<io::Result<Delivered>>>,
    fault: Fault,
    /// How many connections it was written on, and when it was on the last of them.
    written: (u8, Option<Instant>),
}

impl Promise {
    fn open(&self) -> MutexGuard<'_, Open> {
        // Two fields, each whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let open = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = open.sender.take() {
            // The receiver is gone when its question is over.
            let _ = sender.send(Err(open.fault.clone().into()));
        }
    }
}

impl Job {
    /// Makes a job and the place its reply goes to.
    pub(super) fn new(query: &[u8]) -> (Self, Receiver) {
        let (sender, receiver) = oneshot::channel();
        let open = Open { sender: Some(sender), fault: Fault::of(ABANDONED), written: (0, None) };
        (
            Self {
                query: query.into(),
                until: Instant::now() + REPLY_TIMEOUT,
                tries: 0,
                promise: Arc::new(Promise(Mutex::new(open))),
            },
            receiver,
        )
    }

    /// Notes that it is written on an open connection.
    pub(super) fn written(&self, now: Instant) {
        let written = &mut self.promise.open().written;
        *written = (written.0.saturating_add(1), Some(now));
    }

    /// Tells whether another connection has had it for so long, and brought no reply either.
    pub(super) fn was_elsewhere(&self, now: Instant, time: Duration) -> bool {
        let (count, last) = self.promise.open().written;
        count > 1 && last.is_some_and(|last| now.saturating_duration_since(last) >= time)
    }

    /// Hands the reply over. Later ones are of no use.
    pub(super) fn answer(self, message: Vec<u8>, took: Took) {
        if let Some(sender) = self.promise.open().sender.take() {
            let _ = sender.send(Ok(Delivered { message, took }));
        }
    }

    /// Gives up; the error is told when no other connection has the job.
    pub(super) fn fail(self, fault: &Fault) {
        self.promise.open().fault = fault.clone();
    }

    /// Tells whether anybody still waits for it.
    pub(super) fn is_wanted(&self) -> bool {
        self.promise.open().sender.as_ref().is_some_and(|sender| !sender.is_closed())
    }
}

/// The kind of error of a job that was dropped with its runtime: nothing is wrong with the server.
pub(super) const ABANDONED: io::ErrorKind = io::ErrorKind::Interrupted;

/// Why a connection failed, for as many jobs as were on it.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    kind: io::ErrorKind,
    text: Option<Arc<str>>,
}

impl Fault {
    /// A failure that its kind says all about.
    pub(super) fn of(kind: io::ErrorKind) -> Self {
        Self { kind, text: None }
    }

    /// A failure with its reason. It counts against the server, like a connection that was refused.
    pub(super) fn told(text: impl Into<Arc<str>>) -> Self {
        Self { kind: io::ErrorKind::ConnectionAborted, text: Some(text.into()) }
    }

    /// It is the proxy that it is about.
    pub(super) fn of_proxy(self, proxy: &ProxyServer) -> Self {
        let host = match &proxy.host {
            UpstreamHost::Address(ip, _) => ip.to_string(),
            UpstreamHost::Name(name) => name.to_string(),
        };
        let text = self.text.as_deref().map_or_else(|| self.kind.to_string(), str::to_owned);
        Self { kind: self.kind, text: Some(format!("proxy {host} port {}: {text}", proxy.port).into()) }
    }

    /// Something took too long, with what it was.
    pub(super) fn late(text: &'static str) -> Self {
        Self { kind: io::ErrorKind::TimedOut, text: Some(text.into()) }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        let text = error.get_ref().map(|inner| inner.to_string().into());
        Self { kind: error.kind(), text }
    }
}

impl From<io::ErrorKind> for Fault {
    fn from(kind: io::ErrorKind) -> Self {
        Self::of(kind)
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        match fault.text {
            Some(text) => Self::new(fault.kind, text.to_string()),
            None => fault.kind.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reply_wins_and_an_error_waits_for_the_last_clone() {
        let (job, mut receiver) = Job::new(b"q");
        let other = job.clone();
        job.fail(&io::ErrorKind::ConnectionReset.into());
        assert!(receiver.try_recv().is_err(), "the other connection may still answer");
        other.clone().answer(vec![1], Took::Doubtful);
        other.answer(vec![2], Took::Doubtful);
        assert_eq!(receiver.try_recv().unwrap().unwrap().message, [1]);
        let (job, mut receiver) = Job::new(b"q");
        job.clone().fail(&io::ErrorKind::ConnectionReset.into());
        drop(job);
        assert_eq!(receiver.try_recv().unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let (job, receiver) = Job::new(b"q");
        assert!(job.is_wanted());
        drop(receiver);
        assert!(!job.is_wanted());
    }
}
