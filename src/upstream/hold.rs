//! Listening on after the answer: somebody on the path who forges replies is nearer than the server, so that the true reply
//! comes second (Duan and others, "Hold-On: Protecting Against On-Path DNS Poisoning", 2012).
//!
//! Only datagrams can be overtaken so. The channel of the answer is kept by whoever asked, for as long as it likes; it
//! counts as one socket meanwhile.

use super::Reply;
use super::attempts::{Attempt, make_reply};
use super::reply::Match;
use crate::config::UpstreamTransport;
use crate::dns::wire::Message;
use futures_util::FutureExt;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::{Mutex, PoisonError};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

/// Datagrams looked at on one channel: a flood must not keep a question busy.
const MAX_LOOKED_AT: u32 = 50;

/// Where the channel of an answer is left.
#[derive(Debug, Default)]
pub struct Hold(Mutex<Option<Box<Attempt>>>);

/// A channel that has brought its reply.
pub struct Held {
    attempt: Box<Attempt>,
    looked_at: u32,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("server", &self.attempt.server.info.label).finish_non_exhaustive()
    }
}

impl Hold {
    /// Leaves the channel of the answer here, when more may come on it.
    pub(super) fn put(&self, attempt: Attempt) {
        if attempt.transport == UpstreamTransport::Udp {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(attempt));
        }
    }

    /// Takes the channel that was left here.
    #[must_use]
    pub fn take(&self) -> Option<Held> {
        let attempt = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Held { attempt, looked_at: 0 })
    }
}

impl Held {
    /// Waits for one more reply to the same query until then. Cancel safe.
    ///
    /// What is a reply is judged as the first was: id, question, letter case and server must be right.
    pub async fn next(&mut self, until: Instant) -> Option<Reply> {
        while self.looked_at < MAX_LOOKED_AT {
            let event = timeout_at(until, poll_fn(|cx| self.attempt.channel.poll(cx))).await.ok()?;
            if let Some(reply) = self.read(event) {
                return Some(reply);
            }
        }
        None
    }

    /// Returns one more reply to the same query if it is there by now. Timers end by the millisecond, so that waiting until now would
    /// be waiting that long.
    pub async fn next_at_hand(&mut self) -> Option<Reply> {
        // What has come meanwhile is noticed between two turns.
        yield_now().await;
        while self.looked_at < MAX_LOOKED_AT {
            let event = poll_fn(|cx| self.attempt.channel.poll(cx)).now_or_never()?;
            if let Some(reply) = self.read(event) {
                return Some(reply);
            }
        }
        None
    }

    fn read(&mut self, event: io::Result<Vec<u8>>) -> Option<Reply> {
        self.looked_at += 1;
        // An ICMP error after an answer is somebody's late word about nothing.
        let bytes = event.ok()?;
        let is_reply = self.attempt.sent.matches(&bytes) == Match::Exact && Message::parse(&bytes).is_ok();
        is_reply.then(|| make_reply(&self.attempt, bytes, self.attempt.at.elapsed(), 1))
    }
}
