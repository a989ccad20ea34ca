//! Questions as they are answered, for whoever follows: NDJSON, or server-sent events for browsers.
//!
//! Nothing is kept for a follower. Its connection asks for more when it has sent what there was; what was written over in
//! the ring meanwhile is lost to it, and it is told how many those were. So a slow one holds up nobody.

use super::queries::{Filter, GATHERING_TIME, Line, Teller};
use super::reply::Body;
use crate::clock::Tick;
use crate::stats::{Follower, Stats};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout_at};

/// Followers there may be: each makes its own lines of every question.
pub(super) const MAX_FOLLOWERS: usize = 8;
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
    /// Those of before, to begin with.
    pub(super) before: Vec<Line>,
    /// One of [`MAX_FOLLOWERS`].
    pub(super) _permit: OwnedSemaphorePermit,
}

/// Makes the body of a response that ends when its reader leaves.
pub(super) fn body(following: Following, follower: Follower) -> Body {
    let first: String = following.before.iter().map(|line| following.form.line(line)).collect();
    // Something at once, so that the head is sent and whoever follows knows that it does.
    let first = if first.is_empty() { following.form.heartbeat().to_owned() } else { first };
    let lines = stream::unfold((following, follower, Some(first)), |(following, mut follower, first)| async move {
        let text = match first {
            Some(first) => first,
            None => following.next(&mut follower).await,
        };
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), (following, follower, None)))
    });
    StreamBody::new(lines).boxed_unsync()
}

impl Following {
    async fn next(&self, follower: &mut Follower) -> String {
        let deadline = Instant::now() + HEARTBEAT;
        loop {
            // Also while there is much that the filter does not let through.
            if Instant::now() >= deadline || timeout_at(deadline, follower.news()).await.is_err() {
                return self.form.heartbeat().to_owned();
            }
            sleep(GATHERING_TIME).await;
            let (answered, lost) = follower.take();
            let teller = Teller::new(&self.stats, (self.now)());
            let lines = answered.iter().filter_map(|answered| teller.line_if(answered, &self.filter));
            let mut text: String = if lost > 0 { self.form.lost(lost) } else { String::new() };
            text.extend(lines.map(|line| self.form.line(&line)));
            if !text.is_empty() {
                return text;
            }
        }
    }
}
