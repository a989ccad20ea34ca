//! Datagrams: a socket, connected to the server from a fresh random port, for every query.
//!
//! The kernel draws a random source port at each connect (from `ip_local_port_range`, 28,000 by default) and takes
//! datagrams only from the server's address and port. Nothing observable changes when unwanted datagrams arrive, which
//! is what attacks that infer the port by side channels need (SAD DNS, CVE-2020-25705 and CVE-2021-20322).
//!
//! Making and closing a socket costs more than all else a query asks of the kernel. So one that has brought its reply is
//! disconnected, which takes its port from it, emptied and kept for a later query, which connects it anew. One that met an
//! error, or still owes a reply, is closed.

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Type};
use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::task::{Context, Poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, Id};

/// The largest datagram read: more than what is announced, because some servers do not keep to it.
const RECEIVE_BYTES: usize = 4096;
/// Sockets kept by a thread for each family, without a port: as many as replies usually come at once under load. They
/// are file descriptors that nobody else can have, so no more than an eighth of the usual limit of 1024.
const MAX_IDLE: usize = 128;
/// Datagrams thrown away from a socket that is to be kept; with more it is closed.
const MAX_LEFT_OVER: usize = 8;

thread_local! {
    /// What datagrams are read into before they are copied out at their real size: a buffer of full size for every
    /// reply was a tenth of what a forwarded question costs.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; RECEIVE_BYTES].into());
    static IDLE: RefCell<Idle> = RefCell::default();
}

/// Sockets without a port, registered with one runtime.
#[derive(Default)]
struct Idle {
    runtime: Option<Id>,
    v4: Vec<AsyncFd<UdpSocket>>,
    v6: Vec<AsyncFd<UdpSocket>>,
}

impl Idle {
    /// Returns the sockets of a family. Those of another runtime, which would never wake anybody, are closed.
    fn of(&mut self, family: Family) -> &mut Vec<AsyncFd<UdpSocket>> {
        let runtime = Handle::try_current().ok().map(|handle| handle.id());
        if self.runtime != runtime {
            *self = Self { runtime, ..Self::default() };
        }
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// One query's socket.
///
/// Registered for reading only: an ICMP error makes the kernel report nothing but "error", which the reactor shows as
/// the writing side being closed. A socket registered for writing too would be "writable" from the start and wake its
/// question once for nothing.
#[derive(Debug)]
pub(in crate::upstream) struct Socket {
    /// `None` only while it is being dropped.
    socket: Option<AsyncFd<UdpSocket>>,
    family: Family,
    /// A datagram came.
    answered: bool,
    /// The error report was taken; it is never taken back, so it must not be looked at again.
    error_taken: bool,
}

impl Socket {
    /// Connects a socket to `server` and sends `query`. Must be called inside a tokio runtime.
    pub(in crate::upstream) fn send(server: SocketAddr, query: &[u8]) -> io::Result<Self> {
        let family = if server.is_ipv4() { Family::V4 } else { Family::V6 };
        let kept = IDLE.with_borrow_mut(|idle| idle.of(family).pop());
        let socket = match kept {
            Some(socket) => {
                socket.get_ref().connect(server)?;
                socket.get_ref().send(query)?;
                socket
            }
            None => open(server, query)?,
        };
        Ok(Self { socket: Some(socket), family, answered: false, error_taken: false })
    }

    /// Waits for the next datagram from the server or error about it.
    pub(in crate::upstream) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        let Some(socket) = &self.socket else { return Poll::Pending };
        while let Poll::Ready(guard) = socket.poll_read_ready(cx) {
            let received = SCRATCH.with_borrow_mut(|scratch| {
                guard.map(|mut guard| {
                    guard.try_io(|socket| socket.get_ref().recv(scratch).map(|len| scratch[..len].to_vec()))
                })
            });
            if let Ok(received) = received? {
                self.answered |= received.is_ok();
                self.error_taken |= received.is_err();
                return Poll::Ready(received);
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
        let Some(socket) = self.socket.take().filter(|_| self.answered && !self.error_taken) else { return };
        if is_blank(&socket) {
            // A thread that ends has no use for it.
            let _ = IDLE.try_with(|idle| {
                let mut idle = idle.borrow_mut();
                let same = idle.of(self.family);
                if same.len() < MAX_IDLE {
                    same.push(socket);
                }
            });
        }
    }
}

/// Counts the sockets this thread keeps, IPv4 and IPv6.
#[cfg(test)]
pub(in crate::upstream) fn idle_sockets() -> (usize, usize) {
    IDLE.with_borrow(|idle| (idle.v4.len(), idle.v6.len()))
}

/// Makes a socket, connects it and sends. Registered last: a reply that is there already makes it ready at once.
fn open(server: SocketAddr, query: &[u8]) -> io::Result<AsyncFd<UdpSocket>> {
    let socket =
        socket2::Socket::new(Domain::for_address(server), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    // Without it only "port unreachable" is reported, and a host or network that is gone costs a time-out.
    match server {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
    }
    socket.connect(&server.into())?;
    socket.send(query)?;
    #[expect(
        deprecated,
        reason = "its replacement is an unsafe fn for types whose descriptor may change; a socket owns its own"
    )]
    AsyncFd::with_interest(UdpSocket::from(socket), Interest::READABLE)
}

/// Takes peer and port from a socket, then what came for them; tells whether it is as good as new. The last read finds
/// nothing, which is also what makes the reactor wait for the next datagram.
fn is_blank(socket: &AsyncFd<UdpSocket>) -> bool {
    if rustix::net::connect_unspec(socket.get_ref()).is_err() {
        return false;
    }
    for _ in 0..MAX_LEFT_OVER {
        match socket.try_io(Interest::READABLE, |socket| socket.recv(&mut [0; 1])) {
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
    false
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
