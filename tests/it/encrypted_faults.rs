//! What far ends and networks do to connections: no query fails while another server, or a fresh connection, can answer.

use crate::support::doq_server::DoqServer;
use crate::support::encrypted::{ADDRESS, Group1, Identity, Pki, Server, address, options, upstream};
use crate::support::eventually;
use crate::support::tls_fake::{
    Fake, answer, answer_all, body, doq_with, read_query, reply_over_quic, respond, write_message,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use truename::config::UpstreamTransport::{self, Https, Quic, Tls};
use truename::stats::Counter;

/// The last octet of a good server's answers.
const GOOD: u8 = 9;

async fn good(pki: &Pki) -> Fake {
    Fake::tls(pki.server().server_config(&[b"dot"]), |stream, _| answer_all(stream, GOOD)).await
}

/// A group of a bad server, asked first, and a good one.
async fn beside_a_good_one(pki: &Pki, bad: &Fake, transport: UpstreamTransport) -> (Group1, Fake) {
    let good = good(pki).await;
    let servers = vec![upstream(transport, bad.address, options(pki)), upstream(Tls, good.address, options(pki))];
    (Group1::new(servers), good)
}

#[tokio::test]
async fn bad_ends_of_a_connection_cost_no_answer_while_another_server_has_one() {
    let pki = Pki::new();
    let config = pki.server().server_config(&[b"dot"]);
    let reset = Fake::tls(config.clone(), |mut stream, _| async move {
        read_query(&mut stream).await;
        stream.get_ref().0.set_zero_linger().unwrap();
    });
    let garbage = Fake::tls(config.clone(), |mut stream, _| async move {
        while read_query(&mut stream).await.is_some() {
            let _ = stream.write_all(&[0x5a; 300]).await;
            let _ = stream.flush().await;
        }
    });
    let silent =
        Fake::tls(config.clone(), |mut stream, _| async move { while read_query(&mut stream).await.is_some() {} });
    let others = Fake::tls(config.clone(), |mut stream, _| async move {
        while let Some(mut query) = read_query(&mut stream).await {
            query[13] ^= 1;
            write_message(&mut stream, &answer(&query, 66)).await;
        }
    });
    let no_tls = Fake::tls(config, |stream, _| async move { drop(stream.into_inner()) });
    for (what, bad) in [
        ("reset", reset.await),
        ("garbage", garbage.await),
        ("silent", silent.await),
        ("others", others.await),
        ("no tls", no_tls.await),
    ] {
        let (group, _good) = beside_a_good_one(&pki, &bad, Tls).await;
        for n in 0..4 {
            let reply = group.ask(&format!("n{n}.test")).await.unwrap_or_else(|failure| panic!("{what}: {failure}"));
            assert_eq!(address(&reply).octets()[3], GOOD, "{what}");
        }
    }
}

#[tokio::test]
async fn bad_ends_of_a_quic_connection_cost_no_answer_while_another_server_has_one() {
    let pki = Pki::new();
    let config = || pki.server().server_config(&[b"doq"]);
    let closed = doq_with(config(), |connection, send, _, _| async move {
        connection.close(2_u8.into(), b"");
        drop(send);
    });
    let garbage = doq_with(config(), |_, mut send, _, _| async move {
        let _ = send.write_all(&[0x5a; 300]).await;
        let _ = send.finish();
    });
    let silent = doq_with(config(), |_, send, _, _| async move {
        std::future::pending::<()>().await;
        drop(send);
    });
    let reset = doq_with(config(), |_, mut send, _, _| async move {
        let _ = send.reset(1_u8.into());
    });
    let empty = doq_with(config(), |_, mut send, _, _| async move {
        let _ = send.finish();
    });
    let others = doq_with(config(), |_, mut send, mut query, _| async move {
        query[13] ^= 1;
        reply_over_quic(&mut send, &answer(&query, 66)).await;
    });
    for (what, bad) in [
        ("closed", closed),
        ("garbage", garbage),
        ("silent", silent),
        ("reset", reset),
        ("empty", empty),
        ("others", others),
    ] {
        let (group, _good) = beside_a_good_one(&pki, &bad, Quic).await;
        for n in 0..4 {
            let reply = group.ask(&format!("n{n}.test")).await.unwrap_or_else(|failure| panic!("{what}: {failure}"));
            assert_eq!(address(&reply).octets()[3], GOOD, "{what}");
        }
        assert!(bad.connections() > 0, "{what}: it was asked");
    }
}

#[tokio::test]
async fn a_quic_connection_lost_without_a_word_costs_a_moment_and_no_query() {
    let pki = Pki::new();
    // The first connection answers once; then nothing comes over it any more.
    let has_answered = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let fake = doq_with(pki.server().server_config(&[b"doq"]), move |_, mut send, query, count| {
        let is_dead = count == 0 && has_answered.swap(true, std::sync::atomic::Ordering::Relaxed);
        async move {
            if is_dead {
                return std::future::pending().await;
            }
            reply_over_quic(&mut send, &answer(&query, 7)).await;
        }
    });
    let group = Group1::new(vec![upstream(Quic, fake.address, options(&pki))]);
    for n in 0..5 {
        assert_eq!(group.address(&format!("n{n}.test")).await.octets()[3], 7);
    }
    assert_eq!(fake.connections(), 2);
    assert_eq!(group.stats.get(Counter::UpstreamErrors), 0);
    group.upstreams.network_changed(truename::config::PlaceId::default());
    assert_eq!(group.address("after.test").await.octets()[3], 7);
    assert_eq!(fake.connections(), 3);
}

#[tokio::test]
async fn bad_http_costs_no_answer_while_another_server_has_one() {
    let pki = Pki::new();
    let cases: [(&str, u16, &str, usize); 5] = [
        ("500", 500, "application/dns-message", 0),
        ("403", 403, "application/dns-message", 0),
        ("429", 429, "text/html", 0),
        ("a page", 200, "text/html", 0),
        ("endless", 200, "application/dns-message", 70_000),
    ];
    for (what, status, media, more) in cases {
        let bad = Fake::http(pki.server().server_config(&[b"h2"]), move |(request, to)| async move {
            let mut message = answer(&body(request).await, 66);
            message.resize(message.len() + more, 0);
            respond(to, status, media, message);
        })
        .await;
        let (group, _good) = beside_a_good_one(&pki, &bad, Https).await;
        for n in 0..4 {
            let reply = group.ask(&format!("n{n}.test")).await.unwrap_or_else(|failure| panic!("{what}: {failure}"));
            assert_eq!(address(&reply).octets()[3], GOOD, "{what}");
        }
    }
}

#[tokio::test]
async fn what_was_wrong_with_a_reply_is_said() {
    let pki = Pki::new();
    let bad = Fake::http(pki.server().server_config(&[b"h2"]), |(request, to)| async move {
        respond(to, 503, "text/plain", answer(&body(request).await, 66));
    })
    .await;
    let group = Group1::new(vec![upstream(Https, bad.address, options(&pki))]);
    let said = group.ask("www.test").await.unwrap_err().summary;
    assert!(said.contains("HTTP status 503"), "{said}");
}

#[tokio::test]
async fn a_body_that_comes_slowly_is_waited_for_and_holds_up_nobody() {
    let pki = Pki::new();
    let fake = Fake::http(pki.server().server_config(&[b"h2"]), |(request, mut to)| async move {
        let query = body(request).await;
        let message = answer(&query, 7);
        if !query.windows(4).any(|four| four == b"slow") {
            return respond(to, 200, "application/dns-message", message);
        }
        let head = http::Response::builder().header("content-type", "application/dns-message").body(()).unwrap();
        let mut stream = to.send_response(head, false).unwrap();
        for octet in message {
            let _ = stream.send_data(vec![octet].into(), false);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let _ = stream.send_data(bytes::Bytes::new(), true);
    })
    .await;
    let group = Arc::new(Group1::new(vec![upstream(Https, fake.address, options(&pki))]));
    let slow = tokio::spawn({
        let group = Arc::clone(&group);
        async move { group.address("slow.test").await }
    });
    for n in 0..10 {
        assert_eq!(group.address(&format!("n{n}.test")).await.octets()[3], 7);
    }
    assert_eq!(slow.await.unwrap().octets()[3], 7);
}

#[tokio::test]
async fn a_server_that_says_goodbye_is_asked_on_a_fresh_connection() {
    let pki = Pki::new();
    // Two requests a connection, then GOAWAY.
    let fake = Fake::tls(pki.server().server_config(&[b"h2"]), |stream, _| async move {
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        let mut count = 0;
        while let Some(Ok((request, to))) = connection.accept().await {
            tokio::spawn(async move { respond(to, 200, "application/dns-message", answer(&body(request).await, 7)) });
            count += 1;
            if count == 2 {
                connection.graceful_shutdown();
            }
        }
    })
    .await;
    let group = Group1::new(vec![upstream(Https, fake.address, options(&pki))]);
    for n in 0..10 {
        assert_eq!(group.address(&format!("n{n}.test")).await.octets()[3], 7);
    }
    assert!(fake.connections() >= 4, "{}", fake.connections());
    assert_eq!(group.stats.get(Counter::UpstreamErrors), 0);
}

#[tokio::test]
async fn a_server_that_closes_after_each_reply_answers_all() {
    let pki = Pki::new();
    let fake = Fake::tls(pki.server().server_config(&[b"dot"]), |mut stream, _| async move {
        if let Some(query) = read_query(&mut stream).await {
            write_message(&mut stream, &answer(&query, 7)).await;
            let _ = stream.shutdown().await;
        }
    })
    .await;
    let group = Arc::new(Group1::new(vec![upstream(Tls, fake.address, options(&pki))]));
    for n in 0..5 {
        assert_eq!(group.address(&format!("n{n}.test")).await.octets()[3], 7);
    }
    // Many at once as well: each connection takes one of them off.
    let asking: Vec<_> = (0..8)
        .map(|n| {
            let group = Arc::clone(&group);
            tokio::spawn(async move { group.address(&format!("m{n}.test")).await })
        })
        .collect();
    for question in asking {
        assert_eq!(question.await.unwrap().octets()[3], 7);
    }
}

#[tokio::test]
async fn a_connection_lost_without_a_word_costs_a_moment_and_no_query() {
    let pki = Pki::new();
    // The first connection answers once; then it is as if the machine had slept and the network were another.
    let fake = Fake::tls(pki.server().server_config(&[b"dot"]), |mut stream, count| async move {
        if count > 0 {
            return answer_all(stream, 7).await;
        }
        if let Some(query) = read_query(&mut stream).await {
            write_message(&mut stream, &answer(&query, 7)).await;
        }
        std::future::pending().await
    })
    .await;
    let group = Group1::new(vec![upstream(Tls, fake.address, options(&pki))]);
    for n in 0..5 {
        assert_eq!(group.address(&format!("n{n}.test")).await.octets()[3], 7);
    }
    assert_eq!(fake.connections(), 2);
    assert_eq!(group.stats.get(Counter::UpstreamSuspects), 1);
    assert_eq!(group.stats.get(Counter::UpstreamErrors), 0);
    group.upstreams.network_changed(truename::config::PlaceId::default());
    assert_eq!(group.address("after.test").await.octets()[3], 7);
    assert_eq!(fake.connections(), 3);
}

/// A server of somebody else's as a process, which can be stopped.
enum Process {
    Unbound(Server),
    Hickory(DoqServer),
}

impl Process {
    /// Starts one that speaks a transport; `None`, after saying so, when it is not installed.
    fn start(identity: &Identity, transport: UpstreamTransport) -> Option<Self> {
        if transport == Quic {
            return Some(Self::Hickory(DoqServer::here(identity, ADDRESS)));
        }
        Server::unbound(identity).map(Self::Unbound)
    }

    fn place(&self, transport: UpstreamTransport) -> SocketAddr {
        match self {
            Self::Unbound(server) if transport == Tls => server.dot,
            Self::Unbound(server) => server.doh,
            Self::Hickory(server) => server.address,
        }
    }

    fn pid(&self) -> i32 {
        match self {
            Self::Unbound(server) => server.pid(),
            Self::Hickory(server) => server.pid(),
        }
    }

    /// Stops it, and waits until none of its threads does anything more.
    fn stop(&self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGSTOP).unwrap();
        eventually("it is stopped", || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
            let mut stats = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
            stats.all(|stat| stat.rsplit(") ").next().unwrap().starts_with('T'))
        });
    }

    fn go_on(&self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGCONT).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quic_server_that_goes_away_under_an_open_connection_costs_no_query() {
    let pki = Pki::new();
    let (server, good) = (DoqServer::here(&pki.server(), ADDRESS), good(&pki).await);
    let servers = [(Quic, server.address), (Tls, good.address)];
    let group = Group1::new(servers.map(|(transport, place)| upstream(transport, place, options(&pki))).into());
    answered_by(&group, "before", 7).await;
    // Killed: nobody says goodbye, and the port is closed.
    drop(server);
    for n in 0..10 {
        assert_eq!(group.address(&format!("n{n}.test")).await.octets()[3], GOOD);
    }
    assert!(group.stats.get(Counter::UpstreamSuspects) > 0, "the open connection was doubted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_costs_no_query_and_is_used_again_when_it_goes_on() {
    let pki = Pki::new();
    let identity = pki.server();
    for transport in [Tls, Https, Quic] {
        let Some(server) = Process::start(&identity, transport) else { return };
        let good = good(&pki).await;
        let servers = [(transport, server.place(transport)), (Tls, good.address)];
        let group = Group1::new(servers.map(|(transport, place)| upstream(transport, place, options(&pki))).into());
        answered_by(&group, "before", 7).await;
        server.stop();
        for n in 0..10 {
            assert_eq!(group.address(&format!("n{n}.test")).await.octets()[3], GOOD, "{transport}");
        }
        server.go_on();
        answered_by(&group, "after", 7).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_server_that_stops_for_a_moment_costs_no_query() {
    let pki = Pki::new();
    let identity = pki.server();
    for transport in [Tls, Https, Quic] {
        let Some(server) = Process::start(&identity, transport) else { return };
        let group = Arc::new(Group1::new(vec![upstream(transport, server.place(transport), options(&pki))]));
        group.address("before.test").await;
        server.stop();
        let asking: Vec<_> = (0..10)
            .map(|n| {
                let group = Arc::clone(&group);
                tokio::spawn(async move { group.address(&format!("n{n}.test")).await })
            })
            .collect();
        // Long before the questions' time is over.
        let is_suspect = async {
            while group.stats.get(Counter::UpstreamSuspects) == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), is_suspect).await.expect("the connection falls under suspicion");
        assert!(asking.iter().all(|question| !question.is_finished()), "nobody is there to answer");
        server.go_on();
        for question in asking {
            question.await.unwrap();
        }
        assert_eq!(group.stats.get(Counter::UpstreamTimeouts), 0, "{transport}");
    }
}

#[tokio::test]
async fn opening_a_connection_is_no_part_of_how_far_a_server_is() {
    let pki = Pki::new();
    let handshake = Duration::from_millis(2500);
    let config = pki.server().server_config(&[b"dot"]);
    let fake = Fake::tls_after(handshake, config, |stream, _| answer_all(stream, GOOD)).await;
    let group = Group1::new(vec![upstream(Tls, fake.address, options(&pki))]);
    let reply = group.ask("www.test").await.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(reply.rtt >= handshake, "{:?}: who asks waits for all of it", reply.rtt);
    let status = &group.upstreams.status()[0];
    let srtt = status.srtt.expect("it has answered");
    assert!(srtt < handshake && status.slowest_recent < Some(handshake), "{srtt:?}");
}

#[tokio::test]
async fn a_closed_port_is_a_definite_failure_over_every_transport() {
    let pki = Pki::new();
    let [port] = crate::support::encrypted::free_ports();
    let closed = SocketAddr::from(([127, 0, 0, 1], port));
    for transport in [Tls, Https, Quic] {
        let group = Group1::new(vec![upstream(transport, closed, options(&pki))]);
        let said = group.ask("www.test").await.unwrap_err().summary;
        assert!(said.contains("refused"), "{transport}: {said}");
        assert_eq!(group.upstreams.status()[0].sums.errors, 1, "{transport}");
    }
}

/// Asks until the server with these answers is the one that gives them.
async fn answered_by(group: &Group1, what: &str, last: u8) {
    let found = async {
        let mut n = 0;
        while group.address(&format!("{what}{n}.test")).await.octets()[3] != last {
            n += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.expect("that server answers");
}
