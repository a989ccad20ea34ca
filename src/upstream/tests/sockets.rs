//! Real sockets on loopback, real time. Nothing sleeps to wait for something: every wait ends with an event.

use super::fake::*;
use crate::clock::Clock;
use crate::config::{UpstreamOptions, UpstreamTransport};
use crate::dns::Rcode;
use crate::stats::{Counter, Stats};
use crate::upstream::{Failure, FailureKind, Net, Reply, Upstreams};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

/// No test waits longer for anything.
const BOUND: Duration = Duration::from_secs(10);

/// Starts a server whose replies to each datagram are made by `behave`.
async fn udp_server(behave: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    serve_udp(socket, behave)
}

fn serve_udp(socket: UdpSocket, behave: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buf = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut buf).await {
            for reply in behave(&buf[..len]) {
                // A client that is gone makes an ICMP error, which is not this server's problem.
                let _ = socket.send_to(&reply, from).await;
            }
        }
    });
    address
}

/// Binds a UDP and a TCP socket on the same port.
async fn both() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both");
}

/// Serves each connection with `behave` and closes it after `frames` replies; counts connections.
fn serve_tcp(
    listener: TcpListener,
    frames: usize,
    behave: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync + 'static,
) -> Arc<AtomicUsize> {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let behave = Arc::new(behave);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(talk(stream, frames, Arc::clone(&behave)));
        }
    });
    connections
}

async fn talk(mut stream: TcpStream, frames: usize, behave: Arc<impl Fn(&[u8]) -> Vec<Vec<u8>>>) {
    for _ in 0..frames {
        let Ok(len) = stream.read_u16().await else { return };
        let mut query = vec![0; usize::from(len)];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        for reply in behave(&query) {
            let mut frame = u16::try_from(reply.len()).unwrap().to_be_bytes().to_vec();
            frame.extend_from_slice(&reply);
            if stream.write_all(&frame).await.is_err() {
                return;
            }
        }
    }
}

fn real(servers: &[SocketAddr]) -> (Upstreams, Arc<Stats>) {
    let mut group = group("g", servers);
    group.strategy = crate::config::Strategy::Order;
    upstreams(vec![group], Clock::default(), Net::Real)
}

async fn asked(upstreams: &Upstreams, text: &str) -> Result<Reply, Box<Failure>> {
    timeout(BOUND, ask(upstreams, text)).await.expect("an answer in time")
}

#[tokio::test]
async fn a_healthy_server_answers_and_its_reply_is_normalized() {
    let server = udp_server(|query| vec![answer(query, 9)]).await;
    let (upstreams, stats) = real(&[server]);
    let reply = asked(&upstreams, "www.example.org").await.unwrap();
    assert_eq!((octet(&reply), reply.address, reply.sends, reply.transport), (9, server, 1, UpstreamTransport::Udp));
    assert_eq!(&reply.message[..2], &[0, 0]);
    assert_eq!(&reply.message[12..29], b"\x03www\x07example\x03org\x00");
    assert_eq!(stats.get(Counter::UpstreamQueries), 1);
}

#[tokio::test]
async fn bad_first_servers_are_passed() {
    let good = udp_server(|query| vec![answer(query, 9)]).await;
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let bad = [
        udp_server(|query| vec![reply(query, Rcode::SERVFAIL, None)]).await,
        udp_server(|query| vec![reply(query, Rcode::REFUSED, None)]).await,
        udp_server(|query| vec![reply(query, Rcode::NOERROR, None)]).await,
        udp_server(|query| vec![[&answer(query, 1)[..query.len()], &[0xff; 16]].concat()]).await,
        closed,
        silent.local_addr().unwrap(),
    ];
    for first in bad {
        let (upstreams, _) = real(&[first, good]);
        let start = Instant::now();
        assert_eq!(octet(&asked(&upstreams, "www.example.org").await.unwrap()), 9, "{first}");
        assert!(start.elapsed() < Duration::from_secs(1), "{first}: {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_closed_port_fails_at_once() {
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (upstreams, stats) = real(&[closed]);
    let start = Instant::now();
    let failure = asked(&upstreams, "www.example.org").await.unwrap_err();
    assert_eq!((failure.kind, failure.ede().code), (FailureKind::Network, 23));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(stats.get(Counter::UpstreamErrors), 1);
}

#[tokio::test]
async fn garbage_first_is_ignored_and_counted() {
    let server = udp_server(|query| {
        let mut wrong_id = answer(query, 66);
        wrong_id[0] ^= 0xff;
        let mut wrong_name = answer(query, 66);
        wrong_name[13] ^= 0x01;
        vec![b"x".to_vec(), vec![0xff; 600], query.to_vec(), wrong_id, wrong_name, answer(query, 9)]
    })
    .await;
    let (upstreams, stats) = real(&[server]);
    assert_eq!(octet(&asked(&upstreams, "www.example.org").await.unwrap()), 9);
    assert_eq!(stats.get(Counter::UpstreamUnmatched), 5);
}

#[tokio::test]
async fn a_flood_of_forgeries_moves_the_question_to_tcp() {
    let (udp, tcp) = both().await;
    let server = serve_udp(udp, |query| {
        let mut forged = answer(query, 66);
        forged[0] ^= 0xff;
        vec![forged; 60]
    });
    serve_tcp(tcp, 10, |query| vec![answer(query, 9)]);
    let (upstreams, _) = real(&[server]);
    let reply = asked(&upstreams, "www.example.org").await.unwrap();
    assert_eq!((octet(&reply), reply.transport), (9, UpstreamTransport::Tcp));
}

#[tokio::test]
async fn truncated_replies_are_fetched_over_one_tcp_connection() {
    let (udp, tcp) = both().await;
    let server = serve_udp(udp, |query| vec![truncated(query)]);
    let connections = serve_tcp(tcp, 100, |query| vec![answer(query, 9)]);
    let (upstreams, stats) = real(&[server]);
    for n in 0..5 {
        assert_eq!(octet(&asked(&upstreams, &format!("n{n}.example.org")).await.unwrap()), 9);
    }
    // On a busy machine a query may be repeated before its truncated reply has been read.
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    assert!((5..10).contains(&stats.get(Counter::UpstreamTcpRetries)));
}

#[tokio::test]
async fn tcp_servers_that_close_after_each_reply_still_answer_all() {
    let (_udp, tcp) = both().await;
    let server = tcp.local_addr().unwrap();
    let connections = serve_tcp(tcp, 1, |query| {
        // Another question's reply with our id, then ours.
        let mut other = answer(query, 66);
        other[13] ^= 0x01;
        vec![other, answer(query, 9)]
    });
    let mut group = group("g", &[server]);
    group.servers[0].rungs[0].transport = UpstreamTransport::Tcp;
    let (upstreams, _) = upstreams(vec![group], Clock::default(), Net::Real);
    for n in 0..5 {
        assert_eq!(octet(&asked(&upstreams, &format!("n{n}.example.org")).await.unwrap()), 9);
    }
    assert!(connections.load(Ordering::Relaxed) >= 5);
}

#[tokio::test]
async fn a_tcp_connection_that_was_lost_without_a_word_is_opened_anew() {
    let (_udp, tcp) = both().await;
    let server = tcp.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        let (mut first, _) = tcp.accept().await.unwrap();
        counted.fetch_add(1, Ordering::Relaxed);
        let len = first.read_u16().await.unwrap();
        let mut query = vec![0; usize::from(len)];
        first.read_exact(&mut query).await.unwrap();
        let reply = answer(&query, 9);
        first.write_u16(u16::try_from(reply.len()).unwrap()).await.unwrap();
        first.write_all(&reply).await.unwrap();
        // From here on it is as if the cable was cut.
        while let Ok((stream, _)) = tcp.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(talk(stream, 100, Arc::new(|query: &[u8]| vec![answer(query, 9)])));
        }
        drop(first);
    });
    let mut group = group("g", &[server]);
    group.servers[0].rungs[0].transport = UpstreamTransport::Tcp;
    let (upstreams, _) = upstreams(vec![group], Clock::default(), Net::Real);
    assert_eq!(octet(&asked(&upstreams, "a.example.org").await.unwrap()), 9);
    let found = timeout(BOUND, async {
        loop {
            // Clients go on asking; none of them waits for the end.
            if let Ok(Ok(reply)) = timeout(Duration::from_millis(500), ask(&upstreams, "b.example.org")).await {
                return octet(&reply);
            }
        }
    });
    assert_eq!(found.await, Ok(9));
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_burst_over_a_connection_that_opens_slowly_is_answered() {
    // A full backlog makes the kernel drop the handshake, which is repeated after a second.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let tcp = socket.listen(1).unwrap();
    let server = tcp.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(100), TcpStream::connect(server)).await {
        filling.push(stream);
    }
    let mut group = group("g", &[server]);
    group.servers[0].rungs[0].transport = UpstreamTransport::Tcp;
    let (upstreams, _) = upstreams(vec![group], Clock::default(), Net::Real);
    let upstreams = Arc::new(upstreams);
    let questions: Vec<_> = (0..100)
        .map(|n| {
            let upstreams = Arc::clone(&upstreams);
            tokio::spawn(async move { ask(&upstreams, &format!("n{n}.example.org")).await.map(|reply| octet(&reply)) })
        })
        .collect();
    let accepting = async {
        timeout(Duration::from_millis(500), std::future::pending::<()>()).await.unwrap_err();
        filling.clear();
        serve_tcp(tcp, 1000, |query| vec![answer(query, 9)])
    };
    accepting.await;
    for question in questions {
        assert_eq!(question.await.unwrap().ok(), Some(9));
    }
}

#[tokio::test]
async fn a_refused_tcp_connection_keeps_the_truncated_reply_as_the_best() {
    let server = udp_server(|query| vec![truncated(query)]).await;
    let (upstreams, _) = real(&[server]);
    let failure = asked(&upstreams, "www.example.org").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Network);
    assert!(failure.best.is_some());
}

/// Asks a server of its own `count` times and returns the source port and id of every query; a copy follows each reply.
async fn ports_and_ids(count: usize, pause: Duration) -> (Vec<(u16, u16)>, Arc<Stats>) {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (server, log) = (socket.local_addr().unwrap(), Arc::clone(&seen));
    tokio::spawn(async move {
        let mut buf = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut buf).await {
            log.lock().unwrap().push((from.port(), u16::from_be_bytes([buf[0], buf[1]])));
            for _ in 0..2 {
                let _ = socket.send_to(&answer(&buf[..len], 9), from).await;
            }
        }
    });
    let (upstreams, stats) = real(&[server]);
    for n in 0..count {
        asked(&upstreams, &format!("n{n}.example.org")).await.unwrap();
        tokio::time::sleep(pause).await;
    }
    let seen = seen.lock().unwrap().clone();
    (seen, stats)
}

fn distinct(values: impl Iterator<Item = u16>) -> usize {
    values.collect::<std::collections::HashSet<_>>().len()
}

/// Asks `count` questions at once of a server that answers when all of them have come; returns the port of each query.
async fn ports_of_questions_at_once(count: usize) -> Vec<u16> {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (upstreams, _) = real(&[server.local_addr().unwrap()]);
    let upstreams = Arc::new(upstreams);
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..count {
        let upstreams = Arc::clone(&upstreams);
        asking.spawn(async move { asked(&upstreams, &format!("n{n}.example.org")).await.is_ok() });
    }
    // Nobody gets a reply before every name has been asked for.
    let (mut held, mut names, mut buf) = (Vec::new(), std::collections::HashSet::new(), [0; 4096]);
    while names.len() < count {
        let (len, from) = server.recv_from(&mut buf).await.unwrap();
        names.insert(buf[12..len].to_ascii_lowercase());
        held.push((from, buf[..len].to_vec()));
    }
    for (from, query) in &held {
        server.send_to(&answer(query, 9), from).await.unwrap();
    }
    assert!(asking.join_all().await.into_iter().all(|answered| answered));
    held.iter().map(|(from, _)| from.port()).collect()
}

#[tokio::test]
async fn queries_a_moment_apart_share_neither_port_nor_id_although_the_socket_is_kept() {
    let (seen, stats) = ports_and_ids(12, Duration::from_millis(260)).await;
    // On a busy machine some are asked twice. Two of a few draws from 28,000 meet in one of 400 runs.
    assert!((12..24).contains(&seen.len()), "{seen:?}");
    assert!(distinct(seen.iter().map(|(port, _)| *port)) >= seen.len() - 1, "{seen:?}");
    assert_eq!(distinct(seen.iter().map(|(_, id)| *id)), seen.len(), "{seen:?}");
    assert_eq!(stats.get(Counter::UpstreamUnmatched), 0, "the second copy is nobody's");
    let (v4, v6) = super::super::transport::udp::idle_sockets();
    assert!(v4 >= 1 && v4 <= 1 + seen.len() - 12 && v6 == 0, "one socket carries all but repeats: {v4} {v6}");
}

#[tokio::test]
async fn queries_at_once_have_a_port_each_and_a_port_in_quick_use_changes_with_time() {
    let (seen, stats) = ports_and_ids(400, Duration::from_millis(2)).await;
    assert!(distinct(seen.iter().map(|(_, id)| *id)) > 390);
    let ports = distinct(seen.iter().map(|(port, _)| *port));
    assert!(ports >= 3, "800 ms and more at a quarter of a second each: {ports}");
    // On a busy machine a copy may be later than the next query is done.
    assert!(stats.get(Counter::UpstreamUnmatched) < 100, "copies of replies are nobody's");

    let held = ports_of_questions_at_once(40).await;
    assert_eq!(distinct(held.iter().copied()), held.len(), "all of them were owed at once");
}

#[tokio::test]
async fn a_socket_that_met_an_error_or_owes_a_reply_is_not_kept() {
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (upstreams, _) = real(&[closed]);
    asked(&upstreams, "www.example.org").await.unwrap_err();
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (upstreams, _) = real(&[silent.local_addr().unwrap()]);
    assert!(timeout(Duration::from_millis(300), ask(&upstreams, "www.example.org")).await.is_err());
    assert_eq!(super::super::transport::udp::idle_sockets(), (0, 0));
}

#[tokio::test]
async fn kept_sockets_have_a_bound() {
    let most = super::super::transport::udp::MAX_IDLE;
    ports_of_questions_at_once(most + 40).await;
    assert_eq!(super::super::transport::udp::idle_sockets(), (most, 0));
}

#[tokio::test]
async fn datagrams_come_from_the_source_interface_and_mark_of_their_server_and_share_no_socket_with_others() {
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buf = [0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut buf).await {
            let _ = sender.send(from.ip().to_string());
            let _ = socket.send_to(&answer(&buf[..len], 9), from).await;
        }
    });
    let told = |change: &dyn Fn(&mut UpstreamOptions)| {
        let mut options = UpstreamOptions::default();
        change(&mut options);
        let mut group = group("g", &[server]);
        group.servers[0].options = Arc::new(options);
        upstreams(vec![group], Clock::default(), Net::Real).0
    };
    let plain = told(&|_| {});
    let from = told(&|options| {
        options.source = Some([127, 0, 0, 53].into());
        options.interface = Some("lo".into());
    });
    for round in 0..3 {
        for (upstreams, source) in [(&plain, "127.0.0.1"), (&from, "127.0.0.53")] {
            assert_eq!(octet(&asked(upstreams, &format!("n{round}.example.org")).await.unwrap()), 9);
            assert_eq!(seen.recv().await.unwrap(), source);
        }
    }
    for (upstreams, expected) in [
        (told(&|options| options.interface = Some("nosuch0".into())), "`interface` nosuch0"),
        (told(&|options| options.source = Some([192, 0, 2, 1].into())), "`source` 192.0.2.1"),
        (told(&|options| options.source = Some("::1".parse().unwrap())), "another address family"),
    ] {
        let said = asked(&upstreams, "www.example.org").await.unwrap_err().summary;
        assert!(said.contains(expected), "{said}");
    }
    // Only who may mark packets gets an answer; nobody gets one without the mark.
    match asked(&told(&|options| options.mark = Some(7)), "www.example.org").await {
        Ok(reply) => assert_eq!((octet(&reply), seen.recv().await.unwrap().as_str()), (9, "127.0.0.1")),
        Err(failure) => assert!(failure.summary.contains("`mark` 7"), "{}", failure.summary),
    }
}
