//! DNS over HTTPS (RFC 8484) on HTTP/2: POST, so that queries are in no log of addresses and any length fits.

use super::jobs::Fault;
use super::requests::{Asked, Asking, MAX_REPLY_BYTES, Protocol};
use super::target::Target;
use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Reason, RecvStream};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::client::TlsStream;

/// The media type of DNS messages (RFC 8484 section 6).
const DNS_MESSAGE: &str = "application/dns-message";
/// The path when none is written.
pub(super) const DEFAULT_PATH: &str = "/dns-query";
/// What the server may send on one stream before we have read: a whole message.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// The same for all streams of a connection: many replies at once, of which most are short.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Octets of a reply's headers.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// Streams open at once on a connection; further queries wait for one of them to end. Servers allow 100 and more, but some
/// refuse the last of them (unbound 1.17).
const MAX_STREAMS: usize = 64;
/// A stream that the server refuses before looking at it is opened again so often...
const MAX_REFUSALS: u32 = 5;
/// ...each time after a pause so much longer.
const REFUSAL_PAUSE: Duration = Duration::from_millis(10);

/// An HTTP/2 connection.
pub(super) struct Https {
    sender: SendRequest<Bytes>,
    connection: Box<Connection<TlsStream<TcpStream>, Bytes>>,
    uri: Uri,
    streams: Arc<Semaphore>,
}

impl fmt::Debug for Https {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Https").field("uri", &self.uri).finish_non_exhaustive()
    }
}

impl Https {
    pub(super) async fn open(stream: TlsStream<TcpStream>, target: &Target) -> Result<Self, Fault> {
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            let name = target.server_name();
            return Err(Fault::told(format!("{name} speaks TLS but does not offer HTTP/2 (ALPN)")));
        }
        let uri = uri(target)?;
        let (sender, connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(MAX_HEADER_BYTES)
            .handshake(stream)
            .await
            .map_err(|error| fault(&error))?;
        Ok(Self { sender, connection: Box::new(connection), uri, streams: Arc::new(Semaphore::new(MAX_STREAMS)) })
    }
}

/// Returns the address queries are posted to. The authority is the certificate's name: the port stands in it only when it
/// is not the usual one.
pub(super) fn uri(target: &Target) -> Result<Uri, Fault> {
    let name = target.server_name();
    let name = if name.contains(':') { format!("[{name}]") } else { name };
    let authority = match target.port {
        443 => name,
        port => format!("{name}:{port}"),
    };
    let path = target.path.as_deref().unwrap_or(DEFAULT_PATH);
    let uri = Uri::builder().scheme("https").authority(authority).path_and_query(path).build();
    uri.map_err(|error| Fault::told(format!("`{path}` is no path: {error}")))
}

/// Makes the head of a request.
pub(super) fn request(uri: Uri, version: Version, len: usize) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    *request.version_mut() = version;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(DNS_MESSAGE));
    headers.insert(ACCEPT, HeaderValue::from_static(DNS_MESSAGE));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    request
}

/// Says what is wrong with the head of a reply.
pub(super) fn check_head<T>(response: &Response<T>) -> Result<(), Fault> {
    if response.status() != StatusCode::OK {
        return Err(Fault::told(format!("HTTP status {}", response.status().as_u16())));
    }
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("nothing");
    let media = content_type.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case(DNS_MESSAGE) {
        let shown: String = media.chars().filter(char::is_ascii_graphic).take(40).collect();
        return Err(Fault::told(format!("the reply is {shown}, not {DNS_MESSAGE}")));
    }
    Ok(())
}

/// Tells about a reply that is longer than a message can be.
pub(super) fn too_long() -> Fault {
    Fault::told(format!("the reply is longer than {MAX_REPLY_BYTES} octets"))
}

impl Protocol for Https {
    fn ask(&mut self, query: Vec<u8>) -> Asking {
        let (sender, uri, streams) = (self.sender.clone(), self.uri.clone(), Arc::clone(&self.streams));
        Box::pin(async move {
            // Never closed, so there is a permit in the end.
            let _permit = streams.acquire().await;
            let query = Bytes::from(query);
            let mut refusals = 0;
            loop {
                let head = request(uri.clone(), Version::HTTP_2, query.len());
                match exchange(sender.clone(), head, query.clone()).await {
                    Ok(Ok(message)) => return Asked::Reply(message),
                    Ok(Err(fault)) => return Asked::Failed(fault),
                    Err(error) if error.reason() == Some(Reason::REFUSED_STREAM) && refusals < MAX_REFUSALS => {
                        refusals += 1;
                        tokio::time::sleep(REFUSAL_PAUSE * refusals).await;
                    }
                    Err(error) => return lost(&error),
                }
            }
        })
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        Pin::new(&mut *self.connection).poll(cx).map(|end| match end {
            Ok(()) => Fault::of(io::ErrorKind::UnexpectedEof),
            Err(error) => fault(&error),
        })
    }
}

/// Sends a query and reads its reply. The outer error is one of HTTP/2, the inner one what the reply is instead of an
/// answer.
async fn exchange(
    sender: SendRequest<Bytes>,
    head: Request<()>,
    query: Bytes,
) -> Result<Result<Vec<u8>, Fault>, h2::Error> {
    // Waits while as many streams are open as the server allows.
    let mut sender = sender.ready().await?;
    let (response, mut body) = sender.send_request(head, false)?;
    body.send_data(query, true)?;
    let response = response.await?;
    if let Err(fault) = check_head(&response) {
        return Ok(Err(fault));
    }
    read(response.into_body()).await
}

async fn read(mut body: RecvStream) -> Result<Result<Vec<u8>, Fault>, h2::Error> {
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        if message.len() + data.len() > MAX_REPLY_BYTES {
            return Ok(Err(too_long()));
        }
        message.extend_from_slice(&data);
    }
    Ok(Ok(message))
}

/// Judges an error of HTTP/2: one that is only about this stream, and not for want of time to look at it, is the server's
/// word about the query.
fn lost(error: &h2::Error) -> Asked {
    let of_stream = error.is_reset() && error.reason() != Some(Reason::REFUSED_STREAM);
    if of_stream { Asked::Failed(fault(error)) } else { Asked::Again(fault(error)) }
}

fn fault(error: &h2::Error) -> Fault {
    match error.get_io() {
        Some(io) => io.kind().into(),
        None => Fault::told(format!("HTTP/2: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, content_type: &str) -> Result<(), String> {
        let response = Response::builder().status(status).header(CONTENT_TYPE, content_type).body(()).unwrap();
        check_head(&response).map_err(|fault| io::Error::from(fault).to_string())
    }

    #[test]
    fn only_dns_messages_are_replies() {
        assert_eq!(reply(200, "application/dns-message"), Ok(()));
        assert_eq!(reply(200, "Application/DNS-Message; charset=x"), Ok(()));
        assert_eq!(reply(503, "application/dns-message").unwrap_err(), "HTTP status 503");
        let html = reply(200, "text/html").unwrap_err();
        assert_eq!(html, "the reply is text/html, not application/dns-message");
    }
}
