//! The queries of one question that are under way: waits on all of them, holds what arrives against what was sent,
//! and takes from a reply what it says about its server.

use super::ladder::Change;
use super::place::Stay;
use super::reply::{Match, Poor, Sent, Worth, weigh};
use super::servers::Server;
use super::transport::{Channel, Took, udp};
use super::{Inner, Reply};
use crate::clock::Tick;
use crate::config::{GroupId, UpstreamTransport};
use crate::dns::Rcode;
use crate::dns::wire::Message;
use crate::stats::Counter;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// Unmatched datagrams on one socket after which the question also goes over TCP, where a forger must see the path.
const MAX_UNWANTED: u32 = 50;

/// One query under way.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) server: Arc<Server>,
    /// Which group of the chain, and which member of it.
    pub(super) seat: (GroupId, usize),
    pub(super) transport: UpstreamTransport,
    pub(super) sent: Sent,
    pub(super) channel: Channel,
    pub(super) at: Instant,
    /// Between which changes of the network it was sent.
    pub(super) stay: Stay,
    pub(super) unwanted: u32,
    /// A hedge was sent because of its silence.
    pub(super) late: bool,
}

/// Something that arrived, already matched.
pub(super) enum Arrival {
    /// The reply.
    Reply(Vec<u8>),
    /// A definite error.
    Broken(io::Error),
    /// The reply in another letter case.
    OtherCase,
    /// The server does not read EDNS.
    BareRefusal,
    /// Too much that does not match.
    Flooded,
    /// Nothing to act on.
    Noise,
}

/// The queries under way.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    pub(super) open: Vec<Attempt>,
    /// Where polling starts: a flood on one socket must not starve the others.
    turn: usize,
}

impl Attempts {
    /// Waits for anything on any channel.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(usize, io::Result<Vec<u8>>)> {
        let count = self.open.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            if let Poll::Ready(event) = self.open[at].channel.poll(cx) {
                self.turn = at + 1;
                return Poll::Ready((at, event));
            }
        }
        Poll::Pending
    }

    /// Holds what arrived against the query it arrived for.
    pub(super) fn sort(&mut self, at: usize, event: io::Result<Vec<u8>>, inner: &Inner) -> Arrival {
        let attempt = &mut self.open[at];
        let bytes = match event {
            Ok(bytes) => bytes,
            Err(error) if udp::is_definite(&error) || !attempt.channel.continues() => return Arrival::Broken(error),
            Err(_) => return Arrival::Noise,
        };
        match attempt.sent.matches(&bytes) {
            Match::Exact if Message::parse(&bytes).is_ok() => return Arrival::Reply(bytes),
            // Over TCP the connection is the proof; what is left to learn is that the server does not keep case.
            Match::OtherCase if !attempt.channel.continues() && Message::parse(&bytes).is_ok() => {
                if attempt.is_from_here(inner) {
                    attempt.server.health.case_missed();
                }
                return Arrival::Reply(bytes);
            }
            Match::OtherCase => return Arrival::OtherCase,
            Match::BareRefusal => return Arrival::BareRefusal,
            Match::Exact | Match::Foreign => {}
        }
        inner.stats.count(Counter::UpstreamUnmatched);
        attempt.unwanted += 1;
        if attempt.channel.continues() {
            if attempt.unwanted == MAX_UNWANTED { Arrival::Flooded } else { Arrival::Noise }
        } else {
            Arrival::Broken(io::ErrorKind::InvalidData.into())
        }
    }

    /// Forgets every query to a server.
    pub(super) fn close(&mut self, server: &Arc<Server>) {
        self.open.retain(|attempt| !Arc::ptr_eq(&attempt.server, server));
    }

    /// Forgets what a server that has answered over a rung owes, but not over higher ones: whether these answer too is worth
    /// knowing.
    pub(super) fn settle(&mut self, server: &Arc<Server>, rung: u8) {
        self.open.retain(|attempt| !Arc::ptr_eq(&attempt.server, server) || attempt.rung() < rung);
    }

    /// Tells whether all that is under way to a group waits on silent connections, while no fresh one could be opened.
    pub(super) fn are_refused(&self, group: GroupId) -> bool {
        let mut own = self.open.iter().filter(|attempt| attempt.seat.0 == group).peekable();
        own.peek().is_some() && own.all(|attempt| attempt.channel.is_refused())
    }

    /// Tells whether a query is under way to a server over another rung.
    pub(super) fn wait_beside(&self, server: &Arc<Server>, rung: u8) -> bool {
        self.open.iter().any(|attempt| Arc::ptr_eq(&attempt.server, server) && attempt.rung() != rung)
    }
}

impl Attempt {
    /// Returns the rung of its server it went over.
    pub(super) fn rung(&self) -> u8 {
        self.server.ways.rung(self.transport)
    }

    /// Tells whether it was sent on the network the machine is on: what becomes of others says nothing about this one.
    pub(super) fn is_from_here(&self, inner: &Inner) -> bool {
        self.stay == inner.groups.here().stay()
    }
}

/// Weighs a matched reply.
fn worth_of(bytes: &[u8]) -> Worth {
    Message::parse(bytes).map_or(Worth::Poor(Poor::Malformed), |message| weigh(&message))
}

/// Weighs a matched reply, and takes from one to a query of this network what it says about its server.
pub(super) fn learn(attempt: &Attempt, bytes: &[u8], now: Tick, inner: &Inner) -> Worth {
    let health = &attempt.server.health;
    let worth = worth_of(bytes);
    if !attempt.is_from_here(inner) {
        return worth;
    }
    let waited = attempt.at.elapsed();
    // Opening a connection is no part of how far the server is.
    match attempt.channel.took() {
        Some(Took::Known(took)) => health.replied(now, took),
        Some(Took::Doubtful) => health.heard(now),
        None => health.replied(now, waited),
    }
    if let Some(change) = attempt.server.ladder.answered(attempt.rung(), waited, now) {
        tell_of(change, attempt, inner);
    }
    health.judged(now, matches!(worth, Worth::Poor(_)));
    if attempt.sent.mixed_case && attempt.transport == UpstreamTransport::Udp {
        health.case_kept();
    }
    match worth {
        Worth::Poor(Poor::Code(Rcode::FORMERR | Rcode::NOTIMP | Rcode::BADVERS)) => {}
        Worth::Good | Worth::Truncated | Worth::Poor(_) if attempt.sent.edns => health.edns_works(),
        // Asked without EDNS because it was silent or refused with EDNS, and it answers.
        Worth::Good | Worth::Truncated if health.habits(now).edns_unproven => health.edns_broken(now),
        Worth::Good | Worth::Truncated | Worth::Poor(_) => {}
    }
    worth
}

/// Says that a server is asked in another way from here on.
fn tell_of(change: Change, attempt: &Attempt, inner: &Inner) {
    let (server, transport) = (&attempt.server.info.label, attempt.transport);
    match change.from {
        None => tracing::debug!(upstream = %server, %transport, "an upstream answers"),
        Some(from) => {
            inner.stats.count(Counter::UpstreamRungChanges);
            let before = attempt.server.ways.transport(from);
            tracing::info!(upstream = %server, %transport, %before, "an upstream is asked over another transport");
        }
    }
}

/// Makes of a matched reply what the pipeline gets.
pub(super) fn make_reply(attempt: &Attempt, mut bytes: Vec<u8>, rtt: Duration, sends: u32) -> Reply {
    attempt.sent.normalize(&mut bytes);
    Reply {
        message: bytes,
        server: Arc::clone(&attempt.server.info.label),
        address: attempt.server.ways.address(attempt.transport),
        operator: Arc::clone(&attempt.server.info.operator),
        is_private: attempt.server.info_for_judging().private,
        transport: attempt.transport,
        rtt,
        sends,
        group: attempt.seat.0,
    }
}
