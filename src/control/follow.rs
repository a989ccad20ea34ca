//! Questions as they are answered, for whoever follows: NDJSON, or server-sent events for browsers.
//!
//! Nothing is kept for a follower. Its connection asks for more when it has sent what there was; what was written over in
//! the ring meanwhile is lost to it, and it is told how many those were. So a slow one holds up nobody.

use super::queries::{Filter, GATHERING_TIME, Line, Teller};
use super::reply::Body;
use crate::clock::Tick;
use crate::stats::{Answered, Follower, Stats, Taken};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout_at};

/// Followers there may be: each makes its own lines of every question.
pub(super) const MAX_FOLLOWERS: usize = 8;
/// Questions that a follower looks at before the thread goes on to others: less than a millisecond's worth, so that eight
/// followers of a flood keep `/stats` waiting for some milliseconds at most.
const LINES_PER_TURN: usize = 128;
/// How often something is sent when there is nothing to say, so that a connection that is alive is not taken for a dead
/// one: half the time in which nothing may move on it.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A JSON object a line.
    Ndjson,
    /// `text/event-stream`.
    Events,
}

impl Form {
    /// Chooses by an Accept header.
    pub(super) fn choose(accept: &str) -> Self {
        if accept.contains("text/event-stream") { Self::Events } else { Self::Ndjson }
    }

    /// Returns the media type.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Events => "text/event-stream",
        }
    }

    fn line(self, line: &Line) -> String {
        let document = serde_json::to_string(line).unwrap_or_default();
        match self {
            Self::Ndjson => format!("{document}\n"),
            Self::Events => format!("id: {}\ndata: {document}\n\n", line.id),
        }
    }

    fn lost(self, lost: u64) -> String {
        let document = json!({ "lost": lost });
        match self {
            Self::Ndjson => format!("{document}\n"),
            Self::Events => format!("event: lost\ndata: {document}\n\n"),
        }
    }

    /// What is sent when there is nothing to say: a line or an event of nothing.
    fn heartbeat(self) -> &'static str {
        match self {
            Self::Ndjson => "\n",
            Self::Events => ":\n\n",
        }
    }
}

/// What somebody follows.
pub(super) struct Following {
    pub(super) stats: Arc<Stats>,
    pub(super) now: Box<dyn Fn() -> Tick + Send + Sync>,
    pub(super) filter: Filter,
    pub(super) form: Form,
    pub(super) follower: Follower,
    /// One of [`MAX_FOLLOWERS`].
    pub(super) _permit: OwnedSemaphorePermit,
}

/// Makes the body of a response that ends when its reader leaves. It begins with some questions of before.
pub(super) fn body(following: Following, before: &[Line]) -> Body {
    let first: String = before.iter().map(|line| following.form.line(line)).collect();
    // Something at once, so that the head is sent and whoever follows knows that it does.
    let first = if first.is_empty() { following.form.heartbeat().to_owned() } else { first };
    let state = (following, Untold::default(), Some(first));
    let lines = stream::unfold(state, |(mut following, mut untold, first)| async move {
        let text = match first {
            Some(first) => first,
            None => following.next(&mut untold).await,
        };
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), (following, untold, None)))
    });
    StreamBody::new(lines).boxed_unsync()
}

/// What was taken out of the ring and is not told yet.
#[derive(Default)]
struct Untold {
    answered: std::vec::IntoIter<Answered>,
    /// There is more where it came from.
    more: bool,
}

impl Following {
    /// Returns what is to be sent next: lines, how many were lost, or a heartbeat.
    async fn next(&mut self, untold: &mut Untold) -> String {
        let deadline = Instant::now() + HEARTBEAT;
        loop {
            // Also while there is much that the filter does not let through.
            if Instant::now() >= deadline {
                return self.form.heartbeat().to_owned();
            }
            if untold.answered.len() == 0 {
                if !untold.more {
                    if timeout_at(deadline, self.follower.news()).await.is_err() {
                        return self.form.heartbeat().to_owned();
                    }
                    sleep(GATHERING_TIME).await;
                }
                let Taken { answered, lost, more } = self.follower.take();
                *untold = Untold { answered: answered.into_iter(), more };
                if lost > 0 {
                    return self.form.lost(lost);
                }
            }
            // Everybody else who is served gets a turn.
            yield_now().await;
            let teller = Teller::new(&self.stats, (self.now)());
            let looked_at = untold.answered.by_ref().take(LINES_PER_TURN);
            let lines = looked_at.filter_map(|answered| teller.line_if(&answered, &self.filter));
            let text: String = lines.map(|line| self.form.line(&line)).collect();
            if !text.is_empty() {
                return text;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Origin, Rcode, Rtype, Transport};
    use crate::stats::{Batch, Cell, Noted};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Semaphore;

    /// Somebody who follows all that is answered from here on.
    async fn following(stats: &Arc<Stats>) -> Following {
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let (filter, form) = (Filter::default(), Form::Ndjson);
        let (stats, follower, now) = (Arc::clone(stats), stats.follow(), Box::new(|| Tick(0)));
        Following { stats, now, filter, form, follower, _permit: permit }
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_of_nothing_is_sent_something_every_fifteen_seconds() {
        let stats = Arc::new(Stats::remembering(1000));
        let mut body = body(following(&stats).await, &[]);
        let start = Instant::now();
        for seconds in [0, 15, 30] {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "\n");
            // Timers are of whole milliseconds.
            let passed = start.elapsed().checked_sub(Duration::from_secs(seconds)).expect("not sooner");
            assert!(passed < Duration::from_millis(10), "{passed:?} later");
        }
    }

    #[tokio::test]
    async fn a_follower_looks_at_128_questions_and_then_others_have_their_turn() {
        const ANSWERS: usize = 2 * LINES_PER_TURN + 44;
        let stats = Arc::new(Stats::remembering(1000));
        let (ledger, following) = (stats.ledger(), following(&stats).await);
        let cell = Cell::new(Transport::Udp, Some(Rtype::A), Rcode::NOERROR, Origin::Cache);
        let octets = [0; 12];
        let (at, took) = (Tick(0), Duration::ZERO);
        for _ in 0..ANSWERS {
            let noted = &[Noted::new(cell, ([192, 0, 2, 7], 5353).into(), octets.len())];
            ledger.publish(Batch { noted, octets: &octets, prefix_bytes: 0, upstream: "", at, took, now: at });
        }
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        let others = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        });
        let mut body = body(following, &[]);
        let mut lines = Vec::new();
        while lines.iter().sum::<usize>() < ANSWERS {
            let before = turns.load(Ordering::Relaxed);
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            let count = frame.split(|octet| *octet == b'\n').filter(|line| !line.is_empty()).count();
            assert!(count == 0 || turns.load(Ordering::Relaxed) > before, "nobody else had a turn");
            lines.push(count);
        }
        others.abort();
        // The first says that it begins.
        assert_eq!(lines, [0, LINES_PER_TURN, LINES_PER_TURN, 44]);
    }
}
