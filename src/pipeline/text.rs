//! What the trace and the log say about a query, in words for people.

use super::cache::Staleness;
use crate::dns::wire::Message;
use crate::dns::{Name, Origin, Query, QuestionKey, Transport};
use std::net::SocketAddr;

/// Writes who asks, for people.
pub(super) fn asker(query: &Query) -> String {
    // Port 0 is nobody's: the question is our own (`Query::local`).
    if query.client.port() == 0 {
        return "this command".to_owned();
    }
    format!("{} over {} at {}", query.client, query.transport, query.local)
}

/// Writes where an answer comes from, for people.
pub(super) fn origin_text(origin: Origin) -> &'static str {
    match origin {
        Origin::Zone => "from a local zone",
        Origin::Hosts => "from a hosts file",
        Origin::Special => "by the rules for special-use names",
        Origin::Rewrite => "from a rewrite",
        Origin::Cache => "from the cache",
        Origin::Stale => "from the cache, stale",
        Origin::Upstream => "from upstream",
        Origin::Own => "made here",
    }
}

/// Writes what is done about a stale answer, after where it comes from.
pub(super) fn staleness_text(staleness: Staleness) -> &'static str {
    match staleness {
        Staleness::Wait => "; upstreams get a moment to do better",
        Staleness::AtOnceAndAsk => {
            "; it could lately not be refreshed, so it goes out and upstreams are asked behind it"
        }
        Staleness::AtOnce => "; it could just now not be refreshed",
    }
}

/// Logs an answer of the fast path: all of its stages in one line.
pub(super) fn log_hit(message: &Message<'_>, client: SocketAddr, transport: Transport, origin: Origin) {
    let Ok(qname) = Name::from_wire(message.qname()) else { return };
    let (qtype, reason) = (message.qtype(), origin_text(origin));
    let span = tracing::debug_span!("query", %qname, %qtype, %client, %transport);
    span.in_scope(|| tracing::debug!(stage = "cache", decision = "hit", reason, "stage"));
}

/// Writes a question.
pub(super) fn key_text(question: &QuestionKey) -> String {
    format!("{} {}", question.qname, question.qtype)
}
