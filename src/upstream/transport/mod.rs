//! How bytes reach an upstream and come back: real sockets, or an in-memory network for scenarios.
//!
//! ```text
//! Channel ─▶ udp.rs     a socket for each query
//!            ways.rs    one server: which links it has
//!            link.rs    one of them: which connection carries a query, when another is opened
//!            open.rs    opening one: dial.rs (proxy.rs, bootstrap.rs), then tls.rs, then
//!                         stream.rs    messages with their lengths: TCP, TLS
//!                         requests.rs  a stream for each query: https.rs, quic.rs, http3.rs
//!            bootstrap.rs  where a server's name leads, race.rs several tries at the same
//!            refused.rs a socket for QUIC that notices when nobody listens
//!            target.rs  where a connection leads, and its TLS rules
//!            dates.rs   what certificates say about this machine's clock (pure)
//!            owed.rs    what a connection owes, and when its silence is suspect (pure)
//!            idle.rs    when it is closed that owes nothing (pure)
//!            prove.rs   whose certificate an address shows
//!            jobs.rs    a query handed to a connection, and the promise of its reply
//! ```
//!
//! A [`Channel`] carries exactly one query. It is polled, never boxed: the exchange waits on up to eight of them and
//! one timer in a single place. Matching is not done here, except that a connection shared by several queries
//! hands each message to the query it belongs to.

mod bootstrap;
mod dates;
mod dial;
#[cfg(feature = "h3")]
mod http3;
mod https;
mod idle;
mod jobs;
mod link;
mod open;
mod owed;
mod prove;
mod proxy;
mod quic;
mod race;
mod refused;
mod requests;
mod stream;
mod target;
mod tls;
pub(super) mod udp;
mod ways;

pub(super) use bootstrap::Helper;
pub use dates::WrongClock;
pub(super) use jobs::Took;
pub use prove::{Proven, Shown};
pub(super) use prove::{prove, tls_name};
pub(super) use ways::{Pool, Ways};

use super::sockets::{Need, Sockets};
use crate::config::UpstreamTransport;
use link::Waiting;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// The network upstreams are reached through.
#[derive(Debug, Clone, Default)]
pub enum Net {
    /// Sockets.
    #[default]
    Real,
    /// A network played in memory; tokio's time may be paused.
    Simulated(Arc<dyn SimulatedNet>),
}

/// A network played in memory. Implemented by whatever drives a scenario.
pub trait SimulatedNet: fmt::Debug + Send + Sync {
    /// Takes a query that was sent. Replies, now or later, go through `replies`; dropping it is silence.
    ///
    /// Called inside a tokio runtime, on the task of the question.
    fn send(&self, query: SimulatedQuery, replies: SimulatedReplies);
}

/// A query as the simulated network sees it.
#[derive(Debug, Clone)]
pub struct SimulatedQuery {
    /// The upstream it is for.
    pub server: SocketAddr,
    /// How it travels.
    pub transport: UpstreamTransport,
    /// The message, without TCP's length.
    pub bytes: Vec<u8>,
}

/// What arrives for a query.
#[derive(Debug)]
pub enum NetEvent {
    /// A datagram, or a message of a TCP connection.
    Message(Vec<u8>),
    /// An ICMP error, a refused connection, or one that broke.
    Error(io::ErrorKind),
}

/// Where the replies to one simulated query go; any number of them, in any order. Clones reach the same query.
#[derive(Debug, Clone)]
pub struct SimulatedReplies(mpsc::UnboundedSender<NetEvent>);

impl SimulatedReplies {
    /// Delivers something `after` a delay on tokio's time; does nothing when the question is over by then.
    pub fn deliver(&self, after: Duration, event: NetEvent) {
        if after.is_zero() {
            // The receiver is gone when the question is over: nobody is left to tell.
            let _ = self.0.send(event);
            return;
        }
        let to = self.0.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(after) => { let _ = to.send(event); }
                () = to.closed() => {}
            }
        });
    }

    /// Delivers a message `after` a delay.
    pub fn message(&self, after: Duration, bytes: Vec<u8>) {
        self.deliver(after, NetEvent::Message(bytes));
    }

    /// Delivers "connection refused" `after` a delay: an ICMP port unreachable, or a TCP reset.
    pub fn refuse(&self, after: Duration) {
        self.deliver(after, NetEvent::Error(io::ErrorKind::ConnectionRefused));
    }
}

/// How a query is to travel, with what it needs for that.
#[derive(Debug)]
pub(super) enum Way {
    /// In a datagram.
    Udp(udp::Slot),
    /// Over a shared connection; connections have a bound of their own.
    Link(UpstreamTransport),
}

impl Way {
    /// Reserves what a query to a server needs; `None` when there are too many sockets.
    pub(super) fn reserve(
        net: &Net,
        (server, ways): (SocketAddr, &Ways),
        transport: UpstreamTransport,
        sockets: &Arc<Sockets>,
        need: Need,
    ) -> Option<Self> {
        match (net, transport) {
            (Net::Real, UpstreamTransport::Udp) => {
                udp::Slot::find(server, ways.options(), sockets, need).map(Self::Udp)
            }
            (Net::Simulated(_), UpstreamTransport::Udp) => udp::Slot::fresh(sockets, need).map(Self::Udp),
            (_, transport) => Some(Self::Link(transport)),
        }
    }
}

/// The way of one query.
#[derive(Debug)]
pub(super) enum Channel {
    /// A connected socket of its own.
    Udp(udp::Socket),
    /// A place on a shared connection.
    Link(Box<Waiting>),
    /// The simulated network, and the place a datagram's socket would have.
    Simulated(mpsc::UnboundedReceiver<NetEvent>, #[expect(dead_code, reason = "held")] Option<udp::Slot>),
}

impl Channel {
    /// Opens the way to a server and sends a query on it.
    pub(super) fn open(
        net: &Net,
        pool: &Pool,
        (server, ways): (SocketAddr, &Ways),
        way: Way,
        query: &[u8],
    ) -> io::Result<Self> {
        match (net, way) {
            (Net::Real, Way::Udp(slot)) => Ok(Self::Udp(udp::Socket::send(slot, server, ways.options(), query)?)),
            (Net::Real, Way::Link(transport)) => {
                let link = ways.link(transport, pool).ok_or(io::ErrorKind::Unsupported)?;
                Ok(Self::Link(Box::new(Waiting::send(Arc::clone(link), query)?)))
            }
            (Net::Simulated(net), way) => {
                let (sender, receiver) = mpsc::unbounded_channel();
                let (transport, slot) = match way {
                    Way::Udp(slot) => (UpstreamTransport::Udp, Some(slot)),
                    Way::Link(transport) => (transport, None),
                };
                net.send(SimulatedQuery { server, transport, bytes: query.to_vec() }, SimulatedReplies(sender));
                Ok(Self::Simulated(receiver, slot))
            }
        }
    }

    /// Waits for the next thing that arrives. `Ok` holds a message's bytes, which need not belong to the query.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        match self {
            Self::Udp(socket) => socket.poll(cx),
            Self::Link(waiting) => waiting.poll(cx),
            Self::Simulated(receiver, _) => match receiver.poll_recv(cx) {
                Poll::Ready(Some(NetEvent::Message(bytes))) => Poll::Ready(Ok(bytes)),
                Poll::Ready(Some(NetEvent::Error(kind))) => Poll::Ready(Err(kind.into())),
                // All senders dropped: silence.
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            },
        }
    }

    /// Returns how long the reply took over an open connection; nothing when it came in a datagram.
    pub(super) fn took(&self) -> Option<Took> {
        if let Self::Link(waiting) = self { waiting.took() } else { None }
    }

    /// Tells whether it waits on a silent connection only, and no fresh one could be opened.
    pub(super) fn is_refused(&self) -> bool {
        if let Self::Link(waiting) = self { waiting.is_refused() } else { false }
    }

    /// Tells whether more may come after a message that did not match.
    pub(super) fn continues(&self) -> bool {
        !matches!(self, Self::Link(_))
    }
}
