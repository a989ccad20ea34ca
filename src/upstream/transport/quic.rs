//! DNS over QUIC (RFC 9250): one stream for each query.

use super::dial;
use super::jobs::Fault;
use super::refused::{Doubt, Watched};
use super::requests::{Asked, Asking, MAX_REPLY_BYTES, Protocol};
use super::target::{ENCRYPTED_IDLE, Target};
use crate::dns::wire::u16_at;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ConnectionError, Endpoint, EndpointConfig, IdleTimeout, ReadError, ReadToEndError, TokioRuntime, WriteError,
};
use socket2::{Domain, Protocol as Layer, Socket, Type};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// What the server may send on one stream before we have read: a whole message with its length.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// The same for all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Longer than we keep an idle connection, so that it is us who close it in good form.
const IDLE_MS: u32 = 45_000;
const _: () = assert!(IDLE_MS as u128 > ENCRYPTED_IDLE.as_millis());
/// DOQ_NO_ERROR (RFC 9250 section 4.3).
const NO_ERROR: u32 = 0;

/// A QUIC connection.
pub(super) struct Quic {
    connection: quinn::Connection,
    over: Pin<Box<dyn Future<Output = ConnectionError> + Send + Sync>>,
    doubt: Doubt,
    _endpoint: Endpoint,
}

impl fmt::Debug for Quic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quic").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Quic {
    /// Connects; returns the time of a round trip too.
    pub(super) async fn open(target: &Target) -> Result<(Self, Duration), Fault> {
        let Connected { endpoint, connection, socket } = connect(target).await?;
        let rtt = connection.rtt();
        let closed = connection.clone();
        let over = Box::pin(async move { closed.closed().await });
        Ok((Self { connection, over, doubt: Doubt::new(socket), _endpoint: endpoint }, rtt))
    }
}

impl Drop for Quic {
    fn drop(&mut self) {
        self.connection.close(NO_ERROR.into(), b"");
    }
}

/// An open QUIC connection and the socket it has for itself.
pub(super) struct Connected {
    pub(super) endpoint: Endpoint,
    pub(super) connection: quinn::Connection,
    pub(super) socket: Arc<Watched>,
}

/// Opens a QUIC connection from a socket of its own.
pub(super) async fn connect(target: &Target) -> Result<Connected, Fault> {
    let tls = QuicClientConfig::try_from(target.tls().await?)
        .map_err(|error| Fault::told(format!("TLS 1.3 is not to be had: {error}")))?;
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(quinn::VarInt::from_u32(IDLE_MS))))
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(CONNECTION_WINDOW_BYTES.into())
        .datagram_receive_buffer_size(None);
    // Servers have nothing to ask us.
    transport.max_concurrent_bidi_streams(0_u8.into());
    config.transport_config(Arc::new(transport));
    let addresses = target.addresses().await?;
    dial::first(&addresses, |address| connect_to(address, config.clone(), target)).await
}

async fn connect_to(address: SocketAddr, config: quinn::ClientConfig, target: &Target) -> Result<Connected, Fault> {
    let socket = Watched::new(socket(address, target)?.into())?;
    let (ours, runtime) = (EndpointConfig::default(), Arc::new(TokioRuntime));
    let endpoint = Endpoint::new_with_abstract_socket(ours, None, Arc::<Watched>::clone(&socket), runtime)?;
    let connecting = endpoint
        .connect_with(config, address, &target.server_name())
        .map_err(|error| Fault::told(format!("QUIC: {error}")))?;
    let opened = |error: ConnectionError| match is_without_protocol(&error) {
        true => Fault::told(format!("{} speaks QUIC but not this protocol (ALPN)", target.server_name())),
        false => fault(&error),
    };
    tokio::select! {
        connection = connecting => {
            let connection = connection.map_err(opened)?;
            Ok(Connected { endpoint, connection, socket: Arc::clone(&socket) })
        }
        error = socket.refusal() => Err(error.into()),
    }
}

fn socket(address: SocketAddr, target: &Target) -> Result<Socket, Fault> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking().cloexec(), Some(Layer::UDP))?;
    dial::prepare(&socket, address, &target.options)?;
    // Connected, so that an error is about this server, and no other datagrams come in.
    socket.connect(&address.into())?;
    Ok(socket)
}

impl Protocol for Quic {
    fn ask(&mut self, query: Vec<u8>) -> Asking {
        let connection = self.connection.clone();
        Box::pin(async move { exchange(connection, query).await.unwrap_or_else(|lost| lost) })
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        self.over.as_mut().poll(cx).map(|error| fault(&error))
    }

    fn poll_doubt(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.doubt.poll(cx)
    }
}

async fn exchange(connection: quinn::Connection, query: Vec<u8>) -> Result<Asked, Asked> {
    // Waits while as many streams are open as the server allows.
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| Asked::Again(fault(&error)))?;
    let len = u16::try_from(query.len()).map_err(|_| Asked::Failed(io::ErrorKind::InvalidInput.into()))?;
    let frame = [&len.to_be_bytes()[..], &query].concat();
    send.write_all(&frame).await.map_err(|error| match error {
        WriteError::ConnectionLost(error) => Asked::Again(fault(&error)),
        error @ (WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected) => {
            Asked::Failed(Fault::told(format!("QUIC: {error}")))
        }
    })?;
    // The end of the stream is the end of the query (RFC 9250 section 4.2); it can fail only when the server has given up
    // on the stream, which reading finds too.
    let _ = send.finish();
    let frame = receive.read_to_end(MAX_REPLY_BYTES + 2).await.map_err(|error| match error {
        ReadToEndError::Read(ReadError::ConnectionLost(error)) => Asked::Again(fault(&error)),
        ReadToEndError::Read(error) => Asked::Failed(Fault::told(format!("QUIC: {error}"))),
        ReadToEndError::TooLong => Asked::Failed(super::https::too_long()),
    })?;
    match u16_at(&frame, 0) {
        Some(len) if usize::from(len) + 2 == frame.len() => Ok(Asked::Reply(frame[2..].to_vec())),
        _ => Err(Asked::Failed(Fault::told("the reply is not one whole message"))),
    }
}

/// What rustls puts before the words of our own check.
const CERTIFICATE: &str = "invalid peer certificate: ";

/// TLS alert no_application_protocol (RFC 7301 section 3.2).
const ALERT_NO_PROTOCOL: u8 = 120;

/// Tells whether a handshake failed because the server does not know our protocol.
fn is_without_protocol(error: &ConnectionError) -> bool {
    let no_protocol = quinn::TransportErrorCode::crypto(ALERT_NO_PROTOCOL);
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is about other things")]
    match error {
        ConnectionError::TransportError(error) => error.code == no_protocol,
        ConnectionError::ConnectionClosed(close) => close.error_code == no_protocol,
        _ => false,
    }
}

pub(super) fn fault(error: &ConnectionError) -> Fault {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is told as quinn tells it")]
    match error {
        ConnectionError::TransportError(error) if !error.reason.is_empty() => {
            let reason = error.reason.strip_prefix(CERTIFICATE).unwrap_or(&error.reason);
            Fault::told(reason.chars().filter(|c| !c.is_control()).collect::<String>())
        }
        ConnectionError::TimedOut => io::ErrorKind::TimedOut.into(),
        ConnectionError::Reset => io::ErrorKind::ConnectionReset.into(),
        other => {
            let text: String = other.to_string().chars().filter(|c| !c.is_control()).take(120).collect();
            Fault::told(format!("QUIC: {text}"))
        }
    }
}

#[cfg(test)]
#[path = "quic_tests.rs"]
mod tests;
