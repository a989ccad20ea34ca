//! A socket for QUIC that notices when nobody listens at the far end.
//!
//! QUIC takes no notice of ICMP errors, so that nobody can end a connection by forging them (RFC 9000 section 14.2.1 has the
//! same worry about the path's MTU), and quinn waits for the whole handshake to time out. Before the first reply there is
//! nothing to protect: a port that is closed is the same definite failure as a refused TCP connection, and another rung
//! or server is asked at once. The socket is connected, so the kernel reports only errors about datagrams of its own
//! port to that server.

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;

/// The socket of one QUIC connection. quinn's own passes over every error.
#[derive(Debug)]
pub(super) struct Watched {
    socket: UdpSocket,
    state: UdpSocketState,
    /// Gone when the first error was told.
    told: Mutex<Option<oneshot::Sender<io::ErrorKind>>>,
}

/// Comes when the network has said that nobody is there.
pub(super) type Refusal = oneshot::Receiver<io::ErrorKind>;

impl Watched {
    /// Watches a connected socket. Must be called inside a tokio runtime.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<(Arc<Self>, Refusal)> {
        let (sender, refusal) = oneshot::channel();
        let socket = UdpSocket::from_std(socket)?;
        let state = UdpSocketState::new((&socket).into())?;
        Ok((Arc::new(Self { socket, state, told: Mutex::new(Some(sender)) }), refusal))
    }

    /// Tells whether an error came from the network, and passes it on. It is nothing to a connection that is open.
    fn takes(&self, kind: io::ErrorKind) -> bool {
        use io::ErrorKind::{
            ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, PermissionDenied,
        };
        let is_ours = matches!(
            kind,
            ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable | PermissionDenied
        );
        if is_ours && let Some(sender) = self.told.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The connection is open: nobody asks any longer.
            let _ = sender.send(kind);
        }
        is_ours
    }
}

impl AsyncUdpSocket for Watched {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.socket.try_io(Interest::WRITABLE, || self.state.try_send((&self.socket).into(), transmit));
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(error) => {
                // A datagram that was not sent is as good as lost on the way: a probe for the path's MTU is meant to be.
                self.takes(error.kind());
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_recv_ready(cx))?;
            let received =
                self.socket.try_io(Interest::READABLE, || self.state.recv((&self.socket).into(), bufs, meta));
            match received {
                // Each report is taken from the kernel by reading it, so this ends.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock || self.takes(error.kind()) => {}
                received => return Poll::Ready(received),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Waits until the socket takes more. There is one for each socket: it has one connection.
#[derive(Debug)]
struct Poller(Arc<Watched>);

impl UdpPoller for Poller {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.socket.poll_send_ready(cx)
    }
}
