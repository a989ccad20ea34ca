//! DNS over HTTPS (RFC 8484) on HTTP/3 (RFC 9114): one QUIC stream for each query. Only with the feature `h3`.

use super::https::{check_head, request, too_long, uri};
use super::jobs::Fault;
use super::quic::{self, Connected, fault as quic_fault};
use super::refused::Doubt;
use super::requests::{Asked, Asking, MAX_REPLY_BYTES, Protocol};
use super::target::Target;
use bytes::{Buf, Bytes};
use h3::client::{Connection, SendRequest};
use h3::error::{Code, StreamError};
use http::{Request, Uri, Version};
use quinn::{Endpoint, VarInt};
use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

/// Octets of a reply's headers.
const MAX_HEADER_BYTES: u64 = 16 * 1024;
/// H3_NO_ERROR (RFC 9114 section 8.1).
const NO_ERROR: VarInt = VarInt::from_u32(0x100);

type Sender = SendRequest<h3_quinn::OpenStreams, Bytes>;

/// An HTTP/3 connection.
pub(super) struct Http3 {
    sender: Sender,
    driver: Box<Connection<h3_quinn::Connection, Bytes>>,
    connection: quinn::Connection,
    uri: Uri,
    doubt: Doubt,
    _endpoint: Endpoint,
}

impl fmt::Debug for Http3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http3").field("uri", &self.uri).finish_non_exhaustive()
    }
}

impl Http3 {
    /// Connects; returns the time of a round trip too.
    pub(super) async fn open(target: &Target) -> Result<(Self, Duration), Fault> {
        let uri = uri(target)?;
        let Connected { endpoint, connection, socket } = quic::connect(target).await?;
        let rtt = connection.rtt();
        let mut builder = h3::client::builder();
        builder.max_field_section_size(MAX_HEADER_BYTES).send_grease(false);
        let (driver, sender) = builder
            .build(h3_quinn::Connection::new(connection.clone()))
            .await
            .map_err(|error| fault(&connection, &error))?;
        Ok((
            Self { sender, driver: Box::new(driver), connection, uri, doubt: Doubt::new(socket), _endpoint: endpoint },
            rtt,
        ))
    }
}

impl Drop for Http3 {
    fn drop(&mut self) {
        self.connection.close(NO_ERROR, b"");
    }
}

impl Protocol for Http3 {
    fn ask(&mut self, query: Vec<u8>) -> Asking {
        let (sender, connection) = (self.sender.clone(), self.connection.clone());
        let head = request(self.uri.clone(), Version::HTTP_3, query.len());
        Box::pin(async move {
            match exchange(sender, head, query.into()).await {
                Ok(Ok(message)) => Asked::Reply(message),
                Ok(Err(fault)) => Asked::Failed(fault),
                Err(error) => lost(&connection, &error),
            }
        })
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        self.driver.poll_close(cx).map(|error| fault(&self.connection, &error))
    }

    fn poll_doubt(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.doubt.poll(cx)
    }
}

/// Sends a query and reads its reply. The outer error is one of HTTP/3, the inner one what the reply is instead of an
/// answer.
async fn exchange(mut sender: Sender, head: Request<()>, query: Bytes) -> Result<Result<Vec<u8>, Fault>, StreamError> {
    // Waits while as many streams are open as the server allows.
    let mut stream = sender.send_request(head).await?;
    stream.send_data(query).await?;
    stream.finish().await?;
    let response = stream.recv_response().await?;
    if let Err(fault) = check_head(&response) {
        return Ok(Err(fault));
    }
    let mut message = Vec::new();
    while let Some(mut data) = stream.recv_data().await? {
        if message.len() + data.remaining() > MAX_REPLY_BYTES {
            return Ok(Err(too_long()));
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            message.extend_from_slice(chunk);
            let len = chunk.len();
            data.advance(len);
        }
    }
    Ok(Ok(message))
}

/// Judges an error of HTTP/3: one that is only about this stream is the server's word about the query, unless it says that
/// it has not looked at it (RFC 9114 section 4.1.1).
fn lost(connection: &quinn::Connection, error: &StreamError) -> Asked {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the connection is lost or will take no more, and the enum may grow"
    )]
    match error {
        StreamError::RemoteTerminate { code: Code::H3_REQUEST_REJECTED, .. } => Asked::Again(fault(connection, error)),
        StreamError::StreamError { .. } | StreamError::RemoteTerminate { .. } | StreamError::HeaderTooBig { .. } => {
            Asked::Failed(fault(connection, error))
        }
        _ => Asked::Again(fault(connection, error)),
    }
}

/// Tells what went wrong: the QUIC connection's own word where it has ended.
fn fault(connection: &quinn::Connection, error: &dyn fmt::Display) -> Fault {
    if let Some(reason) = connection.close_reason() {
        return quic_fault(&reason);
    }
    let text: String = error.to_string().chars().filter(|c| !c.is_control()).take(120).collect();
    Fault::told(format!("HTTP/3: {text}"))
}
