//! Connections on which every query has a stream of its own: HTTP/2, QUIC, HTTP/3.

use super::jobs::{Command, Fault, Job};
use super::owed::{Event, MAX_PENDING, Owed};
use super::stream::same_question;
use crate::dns::wire::u16_at;
use futures_util::future::{AbortHandle, Abortable, Aborted};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};

/// Octets of a reply: what any DNS message has at most.
pub(super) const MAX_REPLY_BYTES: usize = 65_535;
const _: () = assert!(MAX_REPLY_BYTES == crate::dns::encode::MAX_MESSAGE_BYTES);

/// What became of a query.
#[derive(Debug)]
pub(super) enum Asked {
    /// A message came.
    Reply(Vec<u8>),
    /// The connection takes no more queries, and this one was lost with it or never looked at.
    Again(Fault),
    /// The server will not answer this one.
    Failed(Fault),
}

pub(super) type Asking = Pin<Box<dyn Future<Output = Asked> + Send>>;

/// The same with the query's number, until it is given up.
type Numbered = Pin<Box<dyn Future<Output = (u64, Result<Asked, Aborted>)> + Send>>;

/// How queries travel on such a connection.
pub(super) trait Protocol: fmt::Debug {
    /// Sends a query, its id 0.
    fn ask(&mut self, query: Vec<u8>) -> Asking;

    /// Keeps the connection going; ready when it has ended.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Fault>;

    /// Ready each time the network says that nobody is there. Anybody can forge that, so it is a reason to ask on another
    /// connection as well and none to end this one.
    fn poll_doubt(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// A connection at work.
#[derive(Debug)]
pub(super) struct Session<P> {
    protocol: P,
    owed: Owed<u64>,
    asking: FuturesUnordered<Numbered>,
    aborts: HashMap<u64, AbortHandle>,
    asked: u64,
    /// No more queries will come, or may.
    closing: bool,
    timer: Pin<Box<Sleep>>,
}

impl<P: Protocol> Session<P> {
    pub(super) fn new(protocol: P, owed: Owed<u64>) -> Self {
        let timer = Box::pin(sleep_until(owed.wake_at()));
        let (asking, aborts) = (FuturesUnordered::new(), HashMap::new());
        Self { protocol, owed, asking, aborts, asked: 0, closing: false, timer }
    }

    /// Takes a query.
    pub(super) fn ask(&mut self, job: Job) {
        let mut query = job.query.to_vec();
        // RFC 8484 section 4.1 and RFC 9250 section 4.2.1.
        query[..2].copy_from_slice(&[0, 0]);
        self.asked += 1;
        let key = self.asked;
        let (abort, registration) = AbortHandle::new_pair();
        let asking = Abortable::new(self.protocol.ask(query), registration);
        self.asking.push(Box::pin(async move { (key, asking.await) }));
        self.aborts.insert(key, abort);
        self.owed.add(key, job, Instant::now());
    }

    /// Works until the link has to know something.
    pub(super) async fn next(&mut self, jobs: &mut mpsc::Receiver<Command>) -> Event {
        loop {
            if self.closing && self.owed.is_empty() {
                return Event::Over(Vec::new());
            }
            if self.owed.len() >= MAX_PENDING {
                // Questions that were given up on must not keep the others waiting.
                let gone = self.owed.forget_unwanted();
                abort(&mut self.aborts, &gone);
            }
            let wake_at = self.owed.wake_at();
            if self.timer.deadline() > wake_at {
                self.timer.as_mut().reset(wake_at);
            }
            let room = self.owed.len() < MAX_PENDING;
            let is_trusted = self.owed.is_trusted();
            let Self { protocol, asking, timer, .. } = self;
            let trouble = |cx: &mut Context<'_>| match protocol.poll_over(cx) {
                Poll::Ready(fault) => Poll::Ready(Some(fault)),
                Poll::Pending if is_trusted => protocol.poll_doubt(cx).map(|()| None),
                Poll::Pending => Poll::Pending,
            };
            let event = tokio::select! {
                command = jobs.recv(), if room && !self.closing => self.command(command),
                trouble = poll_fn(trouble) => match trouble {
                    Some(fault) => Some(Event::Over(self.owed.end(&fault))),
                    None => self.doubted(),
                },
                Some((key, asked)) = asking.next(), if !asking.is_empty() => match asked {
                    Ok(asked) => self.asked(key, asked, Instant::now()),
                    Err(Aborted) => None,
                },
                () = timer => self.rung(Instant::now()),
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    fn command(&mut self, command: Option<Command>) -> Option<Event> {
        match command {
            Some(Command::Ask(job)) if job.is_wanted() => self.ask(job),
            Some(Command::Ask(_)) => {}
            Some(Command::Suspect) => return self.doubted(),
            None => self.closing = true,
        }
        None
    }

    /// Asks what is owed on another connection as well.
    fn doubted(&mut self) -> Option<Event> {
        (!self.owed.is_empty()).then(|| Event::Suspect(self.owed.suspect()))
    }

    fn asked(&mut self, key: u64, asked: Asked, now: Instant) -> Option<Event> {
        self.aborts.remove(&key);
        match asked {
            Asked::Reply(mut message) => {
                let query = self.owed.query(key)?;
                if u16_at(&message, 0) != Some(0) || !same_question(query, &message) {
                    self.owed.fail(key, &Fault::told("a reply to another question"), now);
                    return None;
                }
                message[..2].copy_from_slice(&query[..2]);
                self.owed.settle(key, message, now).then_some(Event::Answered)
            }
            Asked::Failed(fault) => {
                self.owed.fail(key, &fault, now);
                None
            }
            Asked::Again(fault) => {
                self.closing = true;
                Some(Event::Back(self.owed.back(key, &fault).into_iter().collect()))
            }
        }
    }

    fn rung(&mut self, now: Instant) -> Option<Event> {
        let aborts = &mut self.aborts;
        let event = self.owed.rung(now, |gone| abort(aborts, gone));
        let wake_at = self.owed.wake_at();
        self.timer.as_mut().reset(wake_at);
        event
    }
}

/// Gives up requests that nobody waits for.
fn abort(aborts: &mut HashMap<u64, AbortHandle>, gone: &[u64]) {
    for abort in gone.iter().filter_map(|key| aborts.remove(key)) {
        abort.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::super::idle::Idle;
    use super::*;
    use std::future::pending;
    use std::time::Duration;
    use tokio::time::timeout;

    /// A connection on which nothing happens but that the network speaks against it so often.
    #[derive(Debug)]
    struct Doubtful(u32);

    impl Protocol for Doubtful {
        fn ask(&mut self, _query: Vec<u8>) -> Asking {
            Box::pin(pending())
        }

        fn poll_over(&mut self, _cx: &mut Context<'_>) -> Poll<Fault> {
            Poll::Pending
        }

        fn poll_doubt(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
            self.0 = match self.0.checked_sub(1) {
                Some(left) => left,
                None => return Poll::Pending,
            };
            Poll::Ready(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_network_says_makes_what_is_owed_go_elsewhere_at_once_and_once() {
        let start = Instant::now();
        let silence = Duration::from_secs(2);
        let owed = Owed::new(start, Duration::ZERO, silence, Idle::new(start, Duration::from_secs(30)));
        let mut session = Session::new(Doubtful(1), owed);
        let (_sender, mut jobs) = mpsc::channel(1);
        let soon = Duration::from_millis(100);
        assert!(timeout(soon, session.next(&mut jobs)).await.is_err(), "nothing is owed: nothing to do");
        assert_eq!(session.protocol.0, 0, "it was heard");
        let (job, _receiver) = Job::new(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01");
        session.ask(job);
        session.protocol.0 = 2;
        let before = Instant::now();
        assert!(matches!(session.next(&mut jobs).await, Event::Suspect(jobs) if jobs.len() == 1));
        assert_eq!(Instant::now(), before, "no timer was waited for");
        assert!(timeout(silence, session.next(&mut jobs)).await.is_err(), "the connection goes on");
        assert_eq!(session.protocol.0, 1, "what is suspect already need not be doubted");
    }
}
