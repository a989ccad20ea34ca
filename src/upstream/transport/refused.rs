//! A socket for QUIC that notices when nobody listens at the far end.
//!
//! QUIC takes no notice of ICMP errors, so that nobody can end a connection by forging them (RFC 9000 section 14.2.1 has the
//! same worry about the path's MTU), and quinn waits for the whole handshake to time out. Before the first reply there is
//! nothing to protect: a port that is closed is the same definite failure as a refused TCP connection, and another rung
//! or server is asked at once. The socket is connected, so the kernel reports only errors about datagrams of its own
//! port to that server. Afterwards such an error is a reason to ask on another connection as well, whose opening will tell,
//! and none to end the one there is.

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use socket2::SockRef;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

/// The connected socket of one QUIC connection. quinn's own says nothing of errors but in the log.
#[derive(Debug)]
pub(super) struct Watched {
    socket: UdpSocket,
    state: UdpSocketState,
    /// The kernel tells an error once: this one was told to whoever sent or read next.
    met: Mutex<Option<io::Error>>,
    has_met: Notify,
}

impl Watched {
    /// Watches a connected socket. Must be called inside a tokio runtime.
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Arc<Self>> {
        let socket = UdpSocket::from_std(socket)?;
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Arc::new(Self { socket, state, met: Mutex::default(), has_met: Notify::new() }))
    }

    /// Waits until the network says that nobody is there. Cancel safe; for one caller at a time.
    pub(super) async fn refusal(&self) -> io::Error {
        loop {
            tokio::select! {
                error = self.reported() => return error,
                () = self.has_met.notified() => {
                    if let Some(error) = self.met.lock().unwrap_or_else(PoisonError::into_inner).take() {
                        return error;
                    }
                }
            }
        }
    }

    /// Sending or reading was told an error.
    fn meet(&self, error: io::Error) {
        if is_about_the_server(&error) {
            *self.met.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            self.has_met.notify_one();
        }
    }

    /// Waits for an error that nobody has been told yet.
    async fn reported(&self) -> io::Error {
        loop {
            // The kernel reports "error" and nothing else: no datagram is there to be read.
            if let Err(error) = self.socket.ready(Interest::ERROR).await {
                return error;
            }
            let report = || match SockRef::from(&self.socket).take_error()? {
                Some(error) => Ok(error),
                // It was told to somebody else; the report is not taken back unless it is said that nothing was there.
                None => Err(io::ErrorKind::WouldBlock.into()),
            };
            match self.socket.try_io(Interest::ERROR, report) {
                Ok(error) if is_about_the_server(&error) => return error,
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// What the network says about an open connection.
pub(super) struct Doubt {
    socket: Arc<Watched>,
    refusal: Refusal,
}

type Refusal = Pin<Box<dyn Future<Output = io::Error> + Send + Sync>>;

impl Doubt {
    pub(super) fn new(socket: Arc<Watched>) -> Self {
        let refusal = Self::next(&socket);
        Self { socket, refusal }
    }

    fn next(socket: &Arc<Watched>) -> Refusal {
        let socket = Arc::clone(socket);
        Box::pin(async move { socket.refusal().await })
    }

    /// Ready each time the network says that nobody is there.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.refusal.as_mut().poll(cx));
        self.refusal = Self::next(&self.socket);
        Poll::Ready(())
    }
}

/// Tells whether an error came from the network.
fn is_about_the_server(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, PermissionDenied};
    matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable | PermissionDenied
    )
}

impl AsyncUdpSocket for Watched {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.socket.try_io(Interest::WRITABLE, || self.state.try_send((&self.socket).into(), transmit));
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            // A datagram that was not sent is as good as lost on the way: a probe for the path's MTU is meant to be.
            Err(error) => self.meet(error),
            Ok(()) => {}
        }
        Ok(())
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
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Each report is taken from the kernel by reading it, so this ends.
                Err(error) if is_about_the_server(&error) => self.meet(error),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn the_first_datagram_to_a_closed_port_is_refused_and_the_next_one_too() {
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(closed).unwrap();
        socket.set_nonblocking(true).unwrap();
        let watched = Watched::new(socket).unwrap();
        for _ in 0..2 {
            watched.socket.send(b"x").await.unwrap();
            let refusal = timeout(Duration::from_secs(10), watched.refusal()).await.expect("it is told");
            assert_eq!(refusal.kind(), io::ErrorKind::ConnectionRefused);
        }
        assert!(timeout(Duration::from_millis(50), watched.refusal()).await.is_err(), "told once for each");
    }

    #[tokio::test]
    async fn a_refusal_that_sending_or_reading_is_told_first_is_told_all_the_same() {
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(closed).unwrap();
        socket.set_nonblocking(true).unwrap();
        let watched = Watched::new(socket).unwrap();
        watched.socket.writable().await.unwrap();
        let datagram = Transmit { destination: closed, ecn: None, contents: b"x", segment_size: None, src_ip: None };
        // On loopback the error is there when sending returns: the second datagram takes it and goes nowhere.
        watched.try_send(&datagram).unwrap();
        watched.try_send(&datagram).unwrap();
        assert!(SockRef::from(&watched.socket).take_error().unwrap().is_none(), "it was taken");
        let refusal = timeout(Duration::from_secs(10), watched.refusal()).await.expect("it is told");
        assert_eq!(refusal.kind(), io::ErrorKind::ConnectionRefused);
        assert!(timeout(Duration::from_millis(50), watched.refusal()).await.is_err(), "told once");
    }
}
