//! Encrypted upstreams that do as a test wants: TLS and HTTP/2 are real, what is said over them is not.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use truename::dns::answer::Record;
use truename::dns::encode::MessageBuilder;
use truename::dns::wire::{Message, Section};
use truename::dns::{Name, Rcode, Rtype};

pub(crate) type Request = (http::Request<h2::RecvStream>, h2::server::SendResponse<bytes::Bytes>);

/// A fake, and how many connections it was opened.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Fake {
    /// Gives each connection, TLS done, to `serve`.
    pub(crate) async fn tls<F>(
        config: Arc<rustls::ServerConfig>,
        serve: impl Fn(TlsStream<TcpStream>, usize) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::tls_after(Duration::ZERO, config, serve).await
    }

    /// The same, each handshake begun only after some time.
    pub(crate) async fn tls_after<F>(
        delay: Duration,
        config: Arc<rustls::ServerConfig>,
        serve: impl Fn(TlsStream<TcpStream>, usize) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (counted, acceptor, serve) = (Arc::clone(&connections), TlsAcceptor::from(config), Arc::new(serve));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let count = counted.fetch_add(1, Ordering::Relaxed);
                let (acceptor, serve) = (acceptor.clone(), Arc::clone(&serve));
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    // A client that does not like the certificate goes away.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, count).await;
                    }
                });
            }
        });
        Self { address, connections }
    }

    /// Gives each request over HTTP/2 to `serve`, one after the other.
    pub(crate) async fn http<F>(
        config: Arc<rustls::ServerConfig>,
        serve: impl Fn(Request) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::tls(config, move |stream, _| {
            let serve = serve.clone();
            async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok(request)) = connection.accept().await {
                    tokio::spawn(serve(request));
                }
            }
        })
        .await
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A DoQ server that answers everything with 192.0.2.`last`; counts connections.
pub(crate) fn doq(config: Arc<rustls::ServerConfig>, last: u8) -> Fake {
    doq_with(
        config,
        move |_, mut send, query, _| async move { reply_over_quic(&mut send, &answer(&query, last)).await },
    )
}

/// A DoQ server that gives each query to `serve`: the connection, where the reply is written, the query, and which
/// connection it is.
pub(crate) fn doq_with<F>(
    config: Arc<rustls::ServerConfig>,
    serve: impl Fn(quinn::Connection, quinn::SendStream, Vec<u8>, usize) -> F + Clone + Send + Sync + 'static,
) -> Fake
where
    F: Future<Output = ()> + Send + 'static,
{
    let tls = quinn::crypto::rustls::QuicServerConfig::try_from(config).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let (address, connections) = (endpoint.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let (count, serve) = (counted.fetch_add(1, Ordering::Relaxed), serve.clone());
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else { return };
                while let Ok((send, mut receive)) = connection.accept_bi().await {
                    let (serve, connection) = (serve.clone(), connection.clone());
                    tokio::spawn(async move {
                        // A client that needs the reply no more goes away.
                        let Ok(frame) = receive.read_to_end(65_537).await else { return };
                        serve(connection, send, frame[2..].to_vec(), count).await;
                    });
                }
            });
        }
    });
    Fake { address, connections }
}

/// Writes one message to a stream of its own and ends it; a client that has gone does not matter.
pub(crate) async fn reply_over_quic(send: &mut quinn::SendStream, message: &[u8]) {
    let frame = [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat();
    let _ = send.write_all(&frame).await;
    let _ = send.finish();
}

/// Reads one query of a stream; `None` at its end.
pub(crate) async fn read_query(stream: &mut TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let len = stream.read_u16().await.ok()?;
    let mut query = vec![0; usize::from(len)];
    stream.read_exact(&mut query).await.ok()?;
    Some(query)
}

/// Writes one message to a stream; a client that has gone does not matter.
pub(crate) async fn write_message(stream: &mut TlsStream<TcpStream>, message: &[u8]) {
    let frame = [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat();
    let _ = stream.write_all(&frame).await;
    let _ = stream.flush().await;
}

/// Answers every query of a connection.
pub(crate) async fn answer_all(mut stream: TlsStream<TcpStream>, last: u8) {
    while let Some(query) = read_query(&mut stream).await {
        write_message(&mut stream, &answer(&query, last)).await;
    }
}

/// Reads the body of a request.
pub(crate) async fn body(request: http::Request<h2::RecvStream>) -> Vec<u8> {
    let (mut body, mut query) = (request.into_body(), Vec::new());
    while let Some(Ok(data)) = body.data().await {
        query.extend_from_slice(&data);
    }
    query
}

/// Sends a reply over HTTP.
pub(crate) fn respond(mut to: h2::server::SendResponse<bytes::Bytes>, status: u16, media: &str, message: Vec<u8>) {
    let head = http::Response::builder().status(status).header("content-type", media).body(()).unwrap();
    if let Ok(mut stream) = to.send_response(head, false) {
        let _ = stream.send_data(message.into(), true);
    }
}

/// Writes the answer 192.0.2.`last` to a query.
pub(crate) fn answer(query: &[u8], last: u8) -> Vec<u8> {
    let message = Message::parse(query).unwrap();
    let qname = Name::from_wire(message.qname()).unwrap();
    let mut builder = MessageBuilder::response(&qname, message.qtype(), Rcode::NOERROR);
    let rdata = Box::new([192, 0, 2, last]);
    builder.push(Section::Answer, &Record { owner: qname, rtype: Rtype::A, class: 1, ttl: 60, rdata });
    let mut bytes = builder.finish().into_vec();
    bytes[..2].copy_from_slice(&query[..2]);
    bytes
}
