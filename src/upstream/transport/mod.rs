//! How bytes reach an upstream and come back: real sockets, or an in-memory network for scenarios.
//!
//! A [`Channel`] carries exactly one query. It is polled, never boxed: the exchange waits on up to eight of them and
//! one timer in a single place. Matching is not done here, except that a TCP connection shared by several queries
//! hands each message to the query it belongs to.

pub(super) mod tcp;
pub(super) mod udp;

use super::sockets::{Need, Sockets};
use crate::config::UpstreamTransport;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

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
    Tcp,
}

impl Way {
    /// Reserves what a query to `server` needs; `None` when there are too many sockets.
    pub(super) fn reserve(
        net: &Net,
        server: SocketAddr,
        transport: UpstreamTransport,
        sockets: &Arc<Sockets>,
        need: Need,
    ) -> Option<Self> {
        match (net, transport) {
            (Net::Real, UpstreamTransport::Udp) => udp::Slot::find(server, sockets, need).map(Self::Udp),
            (Net::Simulated(_), UpstreamTransport::Udp) => udp::Slot::fresh(sockets, need).map(Self::Udp),
            (_, UpstreamTransport::Tcp) => Some(Self::Tcp),
        }
    }
}

/// The way of one query.
#[derive(Debug)]
pub(super) enum Channel {
    /// A connected socket of its own.
    Udp(udp::Socket),
    /// A place on a shared connection.
    Tcp(Option<oneshot::Receiver<io::Result<Vec<u8>>>>),
    /// The simulated network, and the place a datagram's socket would have.
    Simulated(mpsc::UnboundedReceiver<NetEvent>, #[expect(dead_code, reason = "held")] Option<udp::Slot>),
}

impl Channel {
    /// Opens the way to a server and sends a query on it.
    pub(super) fn open(
        net: &Net,
        pool: &Arc<tcp::Pool>,
        server: SocketAddr,
        way: Way,
        query: &[u8],
    ) -> io::Result<Self> {
        match (net, way) {
            (Net::Real, Way::Udp(slot)) => Ok(Self::Udp(udp::Socket::send(slot, server, query)?)),
            (Net::Real, Way::Tcp) => Ok(Self::Tcp(Some(pool.send(server, query)?))),
            (Net::Simulated(net), way) => {
                let (sender, receiver) = mpsc::unbounded_channel();
                let (transport, slot) = match way {
                    Way::Udp(slot) => (UpstreamTransport::Udp, Some(slot)),
                    Way::Tcp => (UpstreamTransport::Tcp, None),
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
            Self::Tcp(place) => {
                // One message is all a place on a connection gives.
                let Some(receiver) = place else { return Poll::Pending };
                let Poll::Ready(reply) = Pin::new(receiver).poll(cx) else { return Poll::Pending };
                *place = None;
                Poll::Ready(reply.unwrap_or_else(|_| Err(io::ErrorKind::ConnectionAborted.into())))
            }
            Self::Simulated(receiver, _) => match receiver.poll_recv(cx) {
                Poll::Ready(Some(NetEvent::Message(bytes))) => Poll::Ready(Ok(bytes)),
                Poll::Ready(Some(NetEvent::Error(kind))) => Poll::Ready(Err(kind.into())),
                // All senders dropped: silence.
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            },
        }
    }

    /// Tells whether more may come after a message that did not match.
    pub(super) fn continues(&self) -> bool {
        !matches!(self, Self::Tcp(_))
    }
}
