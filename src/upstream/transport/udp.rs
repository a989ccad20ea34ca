//! Datagrams: a fresh connected socket for every query.
//!
//! The kernel draws a random source port for each (from `ip_local_port_range`, 28,000 by default) and takes datagrams
//! only from the server's address and port. Nothing observable changes when unwanted datagrams arrive, which is what
//! attacks that infer the port by side channels need (SAD DNS, CVE-2020-25705 and CVE-2021-20322).

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Type};
use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::task::{Context, Poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The largest datagram read: more than what is announced, because some servers do not keep to it.
const RECEIVE_BYTES: usize = 4096;

thread_local! {
    /// What datagrams are read into before they are copied out at their real size: a buffer of full size for every
    /// reply was a tenth of what a forwarded question costs.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; RECEIVE_BYTES].into());
}

/// One query's socket.
///
/// Registered for reading only: an ICMP error makes the kernel report nothing but "error", which the reactor shows as
/// the writing side being closed. A socket registered for writing too would be "writable" from the start and wake its
/// question once for nothing.
#[derive(Debug)]
pub(in crate::upstream) struct Socket {
    socket: AsyncFd<UdpSocket>,
    /// The error report was taken; it is never taken back, so it must not be looked at again.
    error_taken: bool,
}

impl Socket {
    /// Opens a socket to `server` and sends `query`. Must be called inside a tokio runtime.
    pub(in crate::upstream) fn send(server: SocketAddr, query: &[u8]) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            Domain::for_address(server),
            Type::DGRAM.nonblocking().cloexec(),
            Some(Protocol::UDP),
        )?;
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
        let socket = AsyncFd::with_interest(UdpSocket::from(socket), Interest::READABLE)?;
        Ok(Self { socket, error_taken: false })
    }

    /// Waits for the next datagram from the server or error about it.
    pub(in crate::upstream) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        while let Poll::Ready(guard) = self.socket.poll_read_ready(cx) {
            let received = SCRATCH.with_borrow_mut(|scratch| {
                guard.map(|mut guard| {
                    guard.try_io(|socket| socket.get_ref().recv(scratch).map(|len| scratch[..len].to_vec()))
                })
            });
            if let Ok(received) = received? {
                return Poll::Ready(received);
            }
        }
        if !self.error_taken && self.socket.poll_write_ready(cx).is_ready() {
            self.error_taken = true;
            if let Some(error) = self.socket.get_ref().take_error()? {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Pending
    }
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
