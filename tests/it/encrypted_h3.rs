//! DNS over HTTP/3: against hickory's server, and against one of the library that our client is made of, which does what a
//! test wants. No server in Debian speaks it. Only with the feature `h3`.

use crate::support::encrypted::{ADDRESS, Group1, Identity, NAME, Pki, Quic, options, upstream};
use bytes::{Buf, Bytes};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use truename::config::UpstreamTransport::{H3, Tls};
use truename::dns::encode::MessageBuilder;
use truename::dns::wire::{Message, Section};
use truename::dns::{Name, Rcode, Record, Rtype};

/// What the server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Answers with [`ADDRESS`].
    Answer,
    /// An HTTP status.
    Status(u16),
    /// Something else than DNS.
    Html,
    /// Refuses the request before looking at it, then closes the connection.
    RejectFirst,
    /// Ends the connection under the request.
    CloseFirst,
    /// More octets than a message has.
    TooLong,
    /// More octets of headers than a reply may have.
    LongHead,
}

struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    _endpoint: quinn::Endpoint,
}

impl Server {
    fn start(identity: &Identity, alpn: &[u8], habit: Habit) -> Self {
        let tls = Arc::unwrap_or_clone(identity.server_config(&[alpn]));
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let server = Self {
            address: endpoint.local_addr().unwrap(),
            connections: Arc::default(),
            requests: Arc::default(),
            _endpoint: endpoint.clone(),
        };
        let (connections, requests) = (Arc::clone(&server.connections), Arc::clone(&server.requests));
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let nth = connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(incoming, habit, nth == 0, Arc::clone(&requests)));
            }
        });
        server
    }

    fn counts(&self) -> (usize, usize) {
        (self.connections.load(Ordering::Relaxed), self.requests.load(Ordering::Relaxed))
    }
}

/// Serves one connection; `first` is the first one there was.
async fn serve(incoming: quinn::Incoming, habit: Habit, first: bool, requests: Arc<AtomicUsize>) {
    let Ok(quic) = incoming.await else { return };
    let Ok(mut connection) = h3::server::Connection::<_, Bytes>::new(h3_quinn::Connection::new(quic.clone())).await
    else {
        return;
    };
    while let Ok(Some(request)) = connection.accept().await {
        requests.fetch_add(1, Ordering::Relaxed);
        let quic = quic.clone();
        tokio::spawn(async move {
            let Ok((head, mut stream)) = request.resolve_request().await else { return };
            assert_eq!((head.method().as_str(), head.uri().path()), ("POST", "/dns-query"));
            assert_eq!(head.uri().host(), Some(NAME), "the name in the certificate");
            if first && habit == Habit::RejectFirst {
                stream.stop_stream(h3::error::Code::H3_REQUEST_REJECTED);
                stream.stop_sending(h3::error::Code::H3_REQUEST_REJECTED);
                return;
            }
            if first && habit == Habit::CloseFirst {
                quic.close(0x100_u32.into(), b"bye");
                return;
            }
            let mut query = Vec::new();
            while let Ok(Some(mut data)) = stream.recv_data().await {
                query.extend_from_slice(&data.copy_to_bytes(data.remaining()));
            }
            let status = if let Habit::Status(status) = habit { status } else { 200 };
            let media = if habit == Habit::Html { "text/html" } else { "application/dns-message" };
            let more = if habit == Habit::LongHead { "x".repeat(20_000) } else { String::new() };
            let head = http::Response::builder().status(status).header("content-type", media).header("x", more);
            let head = head.body(()).unwrap();
            let body = if habit == Habit::TooLong { vec![0; 70_000] } else { answer(&query) };
            if stream.send_response(head).await.is_ok() && stream.send_data(body.into()).await.is_ok() {
                let _ = stream.finish().await;
            }
        });
    }
}

fn answer(query: &[u8]) -> Vec<u8> {
    let message = Message::parse(query).unwrap();
    assert_eq!((&query[..2], query.len() % 128), (&[0, 0][..], 0), "id 0, padded");
    let qname = Name::from_wire(message.qname()).unwrap();
    let mut builder = MessageBuilder::response(&qname, message.qtype(), Rcode::NOERROR);
    let rdata = Box::new(ADDRESS.octets());
    builder.push(Section::Answer, &Record { owner: qname, rtype: Rtype::A, class: 1, ttl: 300, rdata });
    builder.finish().into_vec()
}

fn group(pki: &Pki, server: &Server) -> Arc<Group1> {
    Arc::new(Group1::new(vec![upstream(H3, server.address, options(pki))]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h3_answers_a_thousand_questions_on_one_connection() {
    let pki = Pki::new();
    let server = Server::start(&pki.server(), b"h3", Habit::Answer);
    let group = group(&pki, &server);
    for round in 0..10 {
        let asking: tokio::task::JoinSet<_> = (0..100)
            .map(|n| {
                let group = Arc::clone(&group);
                async move { group.address(&format!("n{round}-{n}.test")).await }
            })
            .collect();
        assert!(asking.join_all().await.into_iter().all(|address| address == ADDRESS));
    }
    assert_eq!((group.connections(), server.counts()), (1, (1, 1000)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h3_with_hickory_loses_nothing_when_it_has_enough_of_a_connection() {
    let pki = Pki::new();
    // It takes a hundred requests on a connection.
    let server = Quic::start_h3(&pki.server());
    let group = Arc::new(Group1::new(vec![upstream(H3, server.address, options(&pki))]));
    for round in 0..5 {
        let asking: tokio::task::JoinSet<_> = (0..50)
            .map(|n| {
                let group = Arc::clone(&group);
                async move { group.address(&format!("n{round}-{n}.test")).await }
            })
            .collect();
        assert!(asking.join_all().await.into_iter().all(|address| address == ADDRESS), "{round}");
    }
    assert!((3..10).contains(&group.connections()), "{}", group.connections());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h3_checks_certificates_and_protocol_too() {
    let pki = Pki::new();
    for (identity, alpn, expected) in [
        (pki.issue(&["other.example"], |_| {}), b"h3".as_slice(), "other.example"),
        (pki.self_signed(&[NAME]), b"h3", "certificate"),
        (pki.server(), b"doq", "ALPN"),
    ] {
        let server = Server::start(&identity, alpn, Habit::Answer);
        let said = group(&pki, &server).ask("www.test").await.unwrap_err().summary;
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h3_says_what_is_wrong_with_a_reply() {
    let pki = Pki::new();
    for (habit, expected) in [
        (Habit::Status(503), "HTTP status 503"),
        (Habit::Status(404), "HTTP status 404"),
        (Habit::Html, "text/html"),
        (Habit::TooLong, "longer than 65535 octets"),
        (Habit::LongHead, "HTTP/3"),
    ] {
        let server = Server::start(&pki.server(), b"h3", habit);
        let said = group(&pki, &server).ask("www.test").await.unwrap_err().summary;
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h3_asks_again_what_a_connection_did_not_look_at_or_lost() {
    let pki = Pki::new();
    for habit in [Habit::RejectFirst, Habit::CloseFirst] {
        let server = Server::start(&pki.server(), b"h3", habit);
        let group = group(&pki, &server);
        assert_eq!(group.address("www.test").await, ADDRESS, "{habit:?}");
        assert_eq!(group.connections(), 2, "{habit:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h3_that_leads_nowhere_is_passed_by() {
    let pki = Pki::new();
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let Some(dot) = crate::support::encrypted::Server::unbound(&pki.server()) else { return };
    let silent = upstream(H3, nobody.local_addr().unwrap(), options(&pki));
    let group = Group1::new(vec![silent, upstream(Tls, dot.dot, options(&pki))]);
    assert_eq!(group.address("www.test").await, ADDRESS);
}
