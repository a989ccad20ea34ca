//! What is taken from servers that say more, or take less, than they should: each test drives a bound of docs/limits.md.

use crate::support::encrypted::{Group1, Pki, address, options, upstream};
use crate::support::tls_fake::{Fake, answer, answer_all, body, doq_with, read_query, respond, write_message};
use futures_util::FutureExt;
use h2::Reason;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use truename::config::UpstreamTransport::{Https, Quic, Tls};
use truename::stats::Counter;

const MEDIA: &str = "application/dns-message";

/// Asks so many questions of a group at once, and does not wait for them.
fn ask_at_once(group: &Arc<Group1>, count: usize) -> Vec<tokio::task::JoinHandle<u8>> {
    let one = |n: usize| {
        let group = Arc::clone(group);
        tokio::spawn(async move { group.address(&format!("n{n}.test")).await.octets()[3] })
    };
    (0..count).map(one).collect()
}

#[tokio::test]
async fn sixty_four_streams_are_open_at_once_on_a_connection_and_the_others_wait() {
    const MAX_STREAMS: usize = 64;
    let pki = Pki::new();
    let most = Arc::new(AtomicUsize::new(0));
    let (release, released) = watch::channel(false);
    let noted = Arc::clone(&most);
    let fake = Fake::tls(pki.server().server_config(&[b"h2"]), move |stream, _| {
        let (most, released) = (Arc::clone(&noted), released.clone());
        async move {
            // So many are let in that it is not the server who stops us.
            let Ok(mut connection) = h2::server::Builder::new().max_concurrent_streams(500).handshake(stream).await
            else {
                return;
            };
            let open = Arc::new(AtomicUsize::new(0));
            while let Some(Ok((request, to))) = connection.accept().await {
                most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let (open, mut released) = (Arc::clone(&open), released.clone());
                tokio::spawn(async move {
                    let message = answer(&body(request).await, 7);
                    let _ = released.wait_for(|released| *released).await;
                    // Before the reply: who has it may open the next one at once.
                    open.fetch_sub(1, Ordering::SeqCst);
                    respond(to, 200, MEDIA, message);
                });
            }
        }
    })
    .await;
    let group = Arc::new(Group1::new(vec![upstream(Https, fake.address, options(&pki))]));
    let questions = ask_at_once(&group, 200);
    let reached = async {
        while most.load(Ordering::SeqCst) < MAX_STREAMS {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), reached).await.expect("all that may be open are");
    release.send(true).unwrap();
    for question in questions {
        assert_eq!(question.await.unwrap(), 7);
    }
    assert_eq!(most.load(Ordering::SeqCst), MAX_STREAMS);
}

/// Asks a server whose first connection refuses so many streams and whose others take all. Returns the last octet of the
/// answer, 7 for the first connection, how many streams were opened on that, and how often it seemed silent.
async fn refused(pki: &Pki, refusals: usize) -> (u8, usize, u64) {
    let opened = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&opened);
    let fake = Fake::tls(pki.server().server_config(&[b"h2"]), move |stream, count| {
        let opened = Arc::clone(&counted);
        async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((request, mut to))) = connection.accept().await {
                if count == 0 && opened.fetch_add(1, Ordering::SeqCst) < refusals {
                    to.send_reset(Reason::REFUSED_STREAM);
                    continue;
                }
                let last = if count == 0 { 7 } else { 8 };
                tokio::spawn(async move { respond(to, 200, MEDIA, answer(&body(request).await, last)) });
            }
        }
    })
    .await;
    let group = Group1::new(vec![upstream(Https, fake.address, options(pki))]);
    let last = group.address("www.test").await.octets()[3];
    (last, opened.load(Ordering::SeqCst), group.stats.get(Counter::UpstreamSuspects))
}

#[tokio::test]
async fn a_stream_that_is_refused_is_opened_five_times_again() {
    const MAX_REFUSALS: usize = 5;
    let pki = Pki::new();
    for (refusals, expected) in [(MAX_REFUSALS, 7), (1000, 8)] {
        let mut seen = refused(&pki, refusals).await;
        // On a busy machine the connection may seem silent, so that another one is raced: such a time shows nothing.
        for _ in 0..20 {
            if seen.2 == 0 {
                break;
            }
            seen = refused(&pki, refusals).await;
        }
        assert_eq!(seen, (expected, MAX_REFUSALS + 1, 0), "after {refusals} refusals");
    }
}

#[tokio::test]
async fn a_server_may_send_128_kib_ahead_on_a_stream_and_1_mib_on_a_connection() {
    const STREAM: usize = 128 << 10;
    const CONNECTION: usize = 1 << 20;
    let pki = Pki::new();
    let (sender, mut granted) = mpsc::unbounded_channel();
    let fake = Fake::tls(pki.server().server_config(&[b"h2"]), move |stream, count| {
        let sender = sender.clone();
        async move {
            let Ok(mut connection) = h2::server::Builder::new().max_send_buffer_size(4 << 20).handshake(stream).await
            else {
                return;
            };
            let mut open: Vec<h2::SendStream<bytes::Bytes>> = Vec::new();
            while let Some(Ok((_, mut to))) = connection.accept().await {
                let head = http::Response::builder().header("content-type", MEDIA).body(()).unwrap();
                let Ok(mut stream) = to.send_response(head, false) else { continue };
                stream.reserve_capacity(4 << 20);
                if count == 0 {
                    let _ = sender.send(stream.capacity());
                }
                open.push(stream);
            }
        }
    })
    .await;
    let group = Arc::new(Group1::new(vec![upstream(Https, fake.address, options(&pki))]));
    // Eight streams have all there is; the others get nothing as long as those are open.
    let questions = ask_at_once(&group, 10);
    let mut each = Vec::new();
    for _ in 0..10 {
        each.push(granted.recv().await.unwrap());
    }
    for question in questions {
        question.abort();
    }
    assert_eq!(each.iter().max(), Some(&STREAM), "{each:?}");
    assert_eq!(each.iter().sum::<usize>(), CONNECTION, "{each:?}");
}

#[tokio::test]
async fn a_server_may_send_as_far_ahead_over_quic() {
    const STREAM: usize = 128 << 10;
    const CONNECTION: usize = 1 << 20;
    const STREAMS: usize = CONNECTION / STREAM + 2;
    let pki = Pki::new();
    let open = Arc::new(Mutex::new(Vec::new()));
    let (sender, mut taken) = mpsc::unbounded_channel();
    let fake = doq_with(pki.server().server_config(&[b"doq"]), move |_, send, _, count| {
        // The first connection only: beside one that is silent another is opened.
        let mut open = open.lock().unwrap();
        open.extend((count == 0).then_some(send));
        if open.len() == STREAMS {
            // At once, before anything of it can have been read: what is taken is what the client has allowed.
            let far = vec![0; 4 << 20];
            let each = open.iter_mut().map(|send| send.write(&far).now_or_never().map_or(0, Result::unwrap));
            let _ = sender.send(each.collect::<Vec<usize>>());
        }
        std::future::pending()
    });
    let group = Arc::new(Group1::new(vec![upstream(Quic, fake.address, options(&pki))]));
    let questions = ask_at_once(&group, STREAMS);
    let each = taken.recv().await.unwrap();
    for question in questions {
        question.abort();
    }
    assert_eq!(each[..STREAMS - 2], [STREAM; STREAMS - 2], "{each:?}");
    assert_eq!(each.iter().sum::<usize>(), CONNECTION, "{each:?}");
}

#[tokio::test]
async fn headers_and_replies_without_measure_are_no_answers_and_cost_none() {
    const MAX_HEADER_BYTES: usize = 16 << 10;
    let pki = Pki::new();
    let identity = pki.server();
    for (what, octets, is_good) in
        [("headers", MAX_HEADER_BYTES - 2000, true), ("headers", MAX_HEADER_BYTES + 1, false)]
    {
        let fake = Fake::http(identity.server_config(&[b"h2"]), move |(request, mut to)| async move {
            let message = answer(&body(request).await, 66);
            let head = http::Response::builder().header("content-type", MEDIA).header("x-more", "x".repeat(octets));
            if let Ok(mut stream) = to.send_response(head.body(()).unwrap(), false) {
                let _ = stream.send_data(message.into(), true);
            }
        })
        .await;
        let alone = Group1::new(vec![upstream(Https, fake.address, options(&pki))]);
        let asked = alone.ask("www.test").await;
        assert_eq!(asked.is_ok(), is_good, "{what}: {octets} octets: {asked:?}");
    }
    let endless = doq_with(identity.server_config(&[b"doq"]), |_, mut send, query, _| async move {
        let mut message = answer(&query, 66);
        message.resize(70_000, 0);
        let _ = send.write_all(&message).await;
        let _ = send.finish();
    });
    let alone = Group1::new(vec![upstream(Quic, endless.address, options(&pki))]);
    let said = alone.ask("www.test").await.unwrap_err().summary;
    assert!(said.contains("longer than 65535 octets"), "{said}");
    let good = Fake::tls(identity.server_config(&[b"dot"]), |stream, _| answer_all(stream, 9)).await;
    let both = vec![upstream(Quic, endless.address, options(&pki)), upstream(Tls, good.address, options(&pki))];
    let both = Group1::new(both);
    for n in 0..4 {
        let reply = both.ask(&format!("n{n}.test")).await.unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(address(&reply).octets()[3], 9);
    }
}

#[tokio::test]
async fn eight_sessions_of_a_server_are_kept() {
    const MAX_SESSIONS: usize = 8;
    let pki = Pki::new();
    let identity = pki.server();
    let config = |tickets: usize, storage| {
        let mut config = Arc::unwrap_or_clone(identity.server_config(&[b"dot"]));
        config.send_tls13_tickets = tickets;
        config.session_storage = storage;
        TlsAcceptor::from(Arc::new(config))
    };
    // The first connection is given far more sessions than are kept; those behind it are given none, and use one each.
    let storage: Arc<dyn rustls::server::StoresServerSessions> = rustls::server::ServerSessionMemoryCache::new(256);
    let (many, none) = (config(20, Arc::clone(&storage)), config(0, storage));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    let (sender, mut kinds) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut acceptor = many;
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            acceptor = none.clone();
            let _ = sender.send(stream.get_ref().1.handshake_kind());
            if let Some(query) = read_query(&mut stream).await {
                write_message(&mut stream, &answer(&query, 7)).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    let group = Group1::new(vec![upstream(Tls, place, options(&pki))]);
    for n in 0..MAX_SESSIONS + 2 {
        assert_eq!(group.address(&format!("n{n}.test")).await.octets()[3], 7);
    }
    let mut seen = Vec::new();
    for _ in 0..MAX_SESSIONS + 2 {
        seen.push(kinds.recv().await.unwrap() == Some(rustls::HandshakeKind::Resumed));
    }
    let resumed = |at: usize| (1..=MAX_SESSIONS).contains(&at);
    assert_eq!(seen, (0..MAX_SESSIONS + 2).map(resumed).collect::<Vec<_>>());
}
