//! Datagrams: a connected socket with a random port, for one query at a time.
//!
//! The kernel draws a random source port at each connect (from `ip_local_port_range`, 28,000 by default) and takes
//! datagrams only from the server's address and port. Nothing observable changes when unwanted datagrams arrive, which
//! is what attacks that infer the port by side channels need (SAD DNS, CVE-2020-25705 and CVE-2021-20322).
//!
//! Connecting costs as much as sending, and making a socket more than all else a query asks of the kernel. So one that
//! has brought its reply is kept. For a moment ([`PORT_LIFE`]) the next query to the same server goes out from the port it
//! has; later, or to another server, it is connected anew, which draws another port. A laptop's questions come further
//! apart than that, so that each has a port of its own; under load a port serves several, one after the other. Whoever
//! guesses gains nothing by it: a port never waits for more than one reply, and it lives shorter than the port of a
//! single query that gets no reply, which is listened on for a second and a half (docs/decisions/0004).
//!
//! A socket that met an error, or still owes a reply, is closed.

use super::dial;
use crate::config::UpstreamOptions;
use crate::upstream::sockets::{Need, Place, Sockets};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Type};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, Id};
use tokio::time::Instant;

/// The largest datagram read: more than what is announced, because some servers do not keep to it.
const RECEIVE_BYTES: usize = 4096;
/// How long a port is used: less than the time for which any unanswered query keeps its own open.
const PORT_LIFE: Duration = Duration::from_millis(250);
/// How long a socket is kept that nobody uses. Looked at when another one is put away, so that there is no timer.
const IDLE_LIFE: Duration = Duration::from_secs(10);
/// Sockets kept by a thread for each family: as many as questions to servers 20 ms away are under way at 25,000 a second.
/// All of them count among those there may be, and when these become scarce none is kept.
pub(in crate::upstream) const MAX_IDLE: usize = 512;
/// Datagrams thrown away from a socket that is to get another port; with more it is closed.
const MAX_LEFT_OVER: usize = 8;

thread_local! {
    /// What datagrams are read into before they are copied out at their real size: a buffer of full size for every
    /// reply was a tenth of what a forwarded question costs.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; RECEIVE_BYTES].into());
    static IDLE: RefCell<Idle> = RefCell::default();
}

/// A socket registered with the runtime, and the port it has.
#[derive(Debug)]
pub(in crate::upstream) struct Bound {
    socket: AsyncFd<UdpSocket>,
    server: SocketAddr,
    /// When it was connected, which is when its port was drawn.
    connected: Instant,
    /// When it was last sent on.
    used: Instant,
    /// The id of the query it has brought the reply to: a second copy of that reply is nobody's.
    answered_id: Option<[u8; 2]>,
    /// It has a source, an interface or a mark, which it was made with.
    is_special: bool,
    place: Place,
}

/// Sockets of this thread that owe nothing, registered with one runtime. The last one put away is the next to be used.
#[derive(Default)]
struct Idle {
    runtime: Option<Id>,
    v4: VecDeque<Bound>,
    v6: VecDeque<Bound>,
}

impl Idle {
    /// Returns the sockets of a family. Those of another runtime, which would never wake anybody, are closed.
    fn of(&mut self, is_v4: bool) -> &mut VecDeque<Bound> {
        let runtime = Handle::try_current().ok().map(|handle| handle.id());
        if self.runtime != runtime {
            *self = Self { runtime, ..Self::default() };
        }
        if is_v4 { &mut self.v4 } else { &mut self.v6 }
    }
}

/// What a query can be sent on.
#[derive(Debug)]
pub(in crate::upstream) enum Slot {
    /// A socket that was kept.
    Kept(Bound),
    /// None yet, and the place for one.
    New(Place),
}

impl Slot {
    /// Finds a kept socket, or else takes the place for a new one; `None` when there are as many as may be. Kept ones are
    /// for servers whose `options` ask nothing of a socket.
    pub(in crate::upstream) fn find(
        server: SocketAddr,
        options: &UpstreamOptions,
        sockets: &Arc<Sockets>,
        need: Need,
    ) -> Option<Self> {
        if options.bind_sockets() {
            return Self::fresh(sockets, need);
        }
        let kept = IDLE.with_borrow_mut(|idle| {
            let same = idle.of(server.is_ipv4());
            let last = same.pop_back()?;
            // The others were put away before it.
            if last.place.is_of_another_network() {
                same.clear();
                return None;
            }
            Some(last)
        });
        kept.map(Self::Kept).or_else(|| Self::fresh(sockets, need))
    }

    /// Takes the place for a new socket.
    pub(in crate::upstream) fn fresh(sockets: &Arc<Sockets>, need: Need) -> Option<Self> {
        sockets.take(need).map(Self::New)
    }
}

/// One query's socket.
///
/// Registered for reading only: an ICMP error makes the kernel report nothing but "error", which the reactor shows as
/// the writing side being closed. A socket registered for writing too would be "writable" from the start and wake its
/// question once for nothing.
#[derive(Debug)]
pub(in crate::upstream) struct Socket {
    /// `None` only while it is being dropped.
    bound: Option<Bound>,
    id: [u8; 2],
    /// A datagram came.
    answered: bool,
    /// The error report was taken; it is never taken back, so it must not be looked at again.
    error_taken: bool,
}

impl Socket {
    /// Sends `query` to `server` from a random port, and from where `options` say. Must be called inside a tokio runtime.
    pub(in crate::upstream) fn send(
        slot: Slot,
        server: SocketAddr,
        options: &UpstreamOptions,
        query: &[u8],
    ) -> io::Result<Self> {
        let bound = match slot {
            Slot::Kept(mut bound) => match bound.send(server, query) {
                Ok(()) => bound,
                // An error may be about what it did before.
                Err(_) => Bound::open(bound.place, server, options, query)?,
            },
            Slot::New(place) => Bound::open(place, server, options, query)?,
        };
        let id = query.first_chunk().copied().unwrap_or_default();
        Ok(Self { bound: Some(bound), id, answered: false, error_taken: false })
    }

    /// Waits for the next datagram from the server or error about it.
    pub(in crate::upstream) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        let Some(Bound { socket, answered_id, .. }) = &self.bound else { return Poll::Pending };
        let is_old = |bytes: &[u8]| {
            let id = bytes.first_chunk();
            id.is_some() && id == answered_id.as_ref() && id != Some(&self.id)
        };
        while let Poll::Ready(guard) = socket.poll_read_ready(cx) {
            let received = SCRATCH.with_borrow_mut(|scratch| {
                guard.map(|mut guard| {
                    guard.try_io(|socket| {
                        let received = socket.get_ref().recv(scratch)?;
                        Ok((!is_old(&scratch[..received])).then(|| scratch[..received].to_vec()))
                    })
                })
            });
            match received? {
                Ok(Ok(Some(bytes))) => {
                    self.answered = true;
                    return Poll::Ready(Ok(bytes));
                }
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(error)) => {
                    self.error_taken = true;
                    return Poll::Ready(Err(error));
                }
            }
        }
        if !self.error_taken && socket.poll_write_ready(cx).is_ready() {
            self.error_taken = true;
            if let Some(error) = socket.get_ref().take_error()? {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Pending
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(mut bound) = self.bound.take().filter(|_| self.answered && !self.error_taken) else { return };
        // A port of their own each costs those few servers little, and a socket that gives up its peer to get another port
        // loses its interface with it.
        if bound.is_special || bound.place.is_scarce() || bound.place.is_of_another_network() {
            return;
        }
        bound.rest();
        bound.answered_id = Some(self.id);
        // A thread that ends has no use for it.
        let _ = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            let same = idle.of(bound.server.is_ipv4());
            if same.front().is_some_and(|oldest| bound.used.saturating_duration_since(oldest.used) > IDLE_LIFE) {
                same.pop_front();
            }
            if same.len() < MAX_IDLE {
                same.push_back(bound);
            }
        });
    }
}

impl Bound {
    /// Makes a socket, connects it and sends.
    fn open(place: Place, server: SocketAddr, options: &UpstreamOptions, query: &[u8]) -> io::Result<Self> {
        let (socket, now) = (open(server, options, query)?, Instant::now());
        let is_special = options.bind_sockets();
        Ok(Self { socket, server, connected: now, used: now, answered_id: None, is_special, place })
    }

    /// Sends from the port it has or, when that has lived long enough or is for another server, from a new one.
    fn send(&mut self, server: SocketAddr, query: &[u8]) -> io::Result<()> {
        let socket = self.socket.get_ref();
        self.used = Instant::now();
        if self.server != server || self.used.saturating_duration_since(self.connected) >= PORT_LIFE {
            // The kernel draws a port only for a socket that has none.
            rustix::net::connect_unspec(socket)?;
            if !is_emptied(socket) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            socket.connect(server)?;
            (self.server, self.connected, self.answered_id) = (server, self.used, None);
        }
        socket.send(query).map(drop)
    }

    /// Makes the reactor report the next datagram only. What is there already is not looked for, which would be a system
    /// call; if there is anything, it is found with the next reply.
    fn rest(&self) {
        if let Poll::Ready(Ok(mut guard)) = self.socket.poll_read_ready(&mut Context::from_waker(Waker::noop())) {
            guard.clear_ready();
        }
    }
}

/// Counts the sockets this thread keeps, IPv4 and IPv6.
#[cfg(test)]
pub(in crate::upstream) fn idle_sockets() -> (usize, usize) {
    IDLE.with_borrow(|idle| (idle.v4.len(), idle.v6.len()))
}

/// Makes a socket, connects it and sends. Registered last: a reply that is there already makes it ready at once.
fn open(server: SocketAddr, options: &UpstreamOptions, query: &[u8]) -> io::Result<AsyncFd<UdpSocket>> {
    let socket =
        socket2::Socket::new(Domain::for_address(server), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    // Without it only "port unreachable" is reported, and a host or network that is gone costs a time-out.
    match server {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
    }
    dial::prepare(&socket, server, options)?;
    socket.connect(&server.into())?;
    socket.send(query)?;
    #[expect(
        deprecated,
        reason = "its replacement is an unsafe fn for types whose descriptor may change; a socket owns its own"
    )]
    AsyncFd::with_interest(UdpSocket::from(socket), Interest::READABLE)
}

/// Throws away what has come for the peer before; tells whether that was possible. A socket with an error is not as good as
/// new: the reactor never takes its report back.
fn is_emptied(socket: &UdpSocket) -> bool {
    let mut reads = (0..=MAX_LEFT_OVER).map(|_| socket.recv(&mut [0; 1]));
    reads.find_map(Result::err).is_some_and(|end| end.kind() == io::ErrorKind::WouldBlock)
}

/// Tells whether an error says something about the server or the way to it; the others are about one datagram
/// (EMSGSIZE) or about us.
pub(in crate::upstream) fn is_definite(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[tokio::test]
    async fn eight_datagrams_that_nobody_waits_for_are_thrown_away_and_with_nine_the_socket_is_closed() {
        let (sockets, options) = (Arc::<Sockets>::default(), UpstreamOptions::default());
        let [first, second] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let addresses = [&first, &second].map(|server| server.local_addr().unwrap());
        let descriptor = |slot: &Slot| match slot {
            Slot::Kept(bound) => bound.socket.as_raw_fd(),
            Slot::New(_) => panic!("no socket was kept"),
        };
        for left_over in [MAX_LEFT_OVER, MAX_LEFT_OVER + 1] {
            let slot = Slot::fresh(&sockets, Need::Answer).unwrap();
            let mut socket = Socket::send(slot, addresses[0], &options, b"query").unwrap();
            let (_, client) = first.recv_from(&mut [0; 9]).unwrap();
            first.send_to(b"reply", client).unwrap();
            assert_eq!(std::future::poll_fn(|cx| socket.poll(cx)).await.unwrap(), b"reply");
            drop(socket);
            // Through the kernel of this machine they are there at once.
            for _ in 0..left_over {
                first.send_to(b"late", client).unwrap();
            }
            let slot = Slot::find(addresses[1], &options, &sockets, Need::Answer).unwrap();
            let kept = descriptor(&slot);
            let mut socket = Socket::send(slot, addresses[1], &options, b"other").unwrap();
            let is_same = socket.bound.as_ref().unwrap().socket.as_raw_fd() == kept;
            assert_eq!(is_same, left_over == MAX_LEFT_OVER, "{left_over}");
            // Either way the next reply is the next server's.
            let (_, client) = second.recv_from(&mut [0; 9]).unwrap();
            second.send_to(b"reply of the other", client).unwrap();
            assert_eq!(std::future::poll_fn(|cx| socket.poll(cx)).await.unwrap(), b"reply of the other");
        }
    }

    #[tokio::test]
    async fn a_socket_has_its_mark_before_it_sends() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let options = UpstreamOptions { mark: Some(7), ..UpstreamOptions::default() };
        match open(server, &options, b"query") {
            Ok(socket) => assert_eq!(socket2::SockRef::from(socket.get_ref()).mark().unwrap(), 7),
            Err(error) => assert!(error.to_string().contains("`mark` 7"), "{error}"),
        }
    }
}
