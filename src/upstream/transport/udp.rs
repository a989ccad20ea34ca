//! Datagrams: a fresh connected socket for every query.
//!
//! The kernel draws a random source port for each (from `ip_local_port_range`, 28,000 by default) and takes datagrams
//! only from the server's address and port. Nothing observable changes when unwanted datagrams arrive, which is what
//! attacks that infer the port by side channels need (SAD DNS, CVE-2020-25705 and CVE-2021-20322).

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Type};
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

/// The largest datagram read: more than what is announced, because some servers do not keep to it.
const RECEIVE_BYTES: usize = 4096;

/// One query's socket.
#[derive(Debug)]
pub(in crate::upstream) struct Socket {
    socket: UdpSocket,
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
        Ok(Self { socket: UdpSocket::from_std(socket.into())? })
    }

    /// Waits for the next datagram from the server or error about it.
    pub(in crate::upstream) fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        // Asked first, so that waiting does not cost the buffer.
        ready!(self.socket.poll_recv_ready(cx))?;
        let mut bytes = vec![0; RECEIVE_BYTES];
        let mut buf = ReadBuf::new(&mut bytes);
        ready!(self.socket.poll_recv(cx, &mut buf))?;
        let len = buf.filled().len();
        bytes.truncate(len);
        Poll::Ready(Ok(bytes))
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
