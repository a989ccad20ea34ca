//! DoT, DoH and DoQ with the servers other people use.

use crate::support::client::{exchange, query};
use crate::support::daemon::Daemon;
use crate::support::encrypted::{ADDRESS, Group1, Identity, NAME, Pki, Quic, Server, address, options, upstream};
use crate::support::fake::{Fake as Plain, Habit};
use crate::support::tls_fake::{Fake, answer, doq, read_query, write_message};
use std::net::SocketAddr;
use std::sync::Arc;
use truename::config::UpstreamOptions;
use truename::config::UpstreamTransport::{self, Https, Quic as DoQ, Tls};
use truename::dns::Rtype;
use truename::dns::wire::flag;
use truename::stats::Counter;

type Start = fn(&Identity) -> Option<Server>;

const SERVERS: [(&str, Start); 3] =
    [("unbound", Server::unbound), ("dnsdist", Server::dnsdist), ("kresd", Server::knot)];

fn place(server: &Server, transport: UpstreamTransport) -> SocketAddr {
    if transport == Https { server.doh } else { server.dot }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_answers_over_dot_and_doh_on_one_connection() {
    let pki = Pki::new();
    let identity = pki.server();
    for (name, start) in SERVERS {
        let Some(server) = start(&identity) else { continue };
        for transport in [Tls, Https] {
            let group = Group1::new(vec![upstream(transport, place(&server, transport), options(&pki))]);
            for n in 0..20 {
                let reply =
                    group.ask(&format!("n{n}.test")).await.unwrap_or_else(|failure| panic!("{name}: {failure}"));
                assert_eq!(address(&reply), ADDRESS, "{name}");
                assert_eq!(reply.transport, transport);
            }
            assert_eq!(group.connections(), 1, "{name} over {transport}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_questions_at_once_cost_one_handshake() {
    let pki = Pki::new();
    let identity = pki.server();
    for (name, start) in [("unbound", Server::unbound as Start), ("dnsdist", Server::dnsdist)] {
        let Some(server) = start(&identity) else { continue };
        for transport in [Tls, Https] {
            let group = Arc::new(Group1::new(vec![upstream(transport, place(&server, transport), options(&pki))]));
            let asking: Vec<_> = (0..1000)
                .map(|n| {
                    let group = Arc::clone(&group);
                    tokio::spawn(async move { group.address(&format!("n{n}.test")).await })
                })
                .collect();
            for question in asking {
                assert_eq!(question.await.unwrap(), ADDRESS);
            }
            // On a busy machine the server may seem silent for a moment, which costs a connection each time.
            let suspects = group.stats.get(Counter::UpstreamSuspects);
            assert_eq!(group.connections(), 1 + suspects, "{name} over {transport}");
            assert!(suspects <= 2, "{name} over {transport}: {suspects}");
            assert_eq!(group.stats.get(Counter::UpstreamQueries), 1000, "{name} over {transport}");
        }
    }
}

/// Asks so many questions at once.
async fn ask_at_once(group: &Arc<Group1>, count: usize) {
    let asking: Vec<_> = (0..count)
        .map(|n| {
            let group = Arc::clone(group);
            tokio::spawn(async move { group.ask(&format!("n{n}.test")).await })
        })
        .collect();
    for question in asking {
        let reply = question.await.unwrap().unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!((address(&reply), reply.transport), (ADDRESS, DoQ));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doq_answers_a_thousand_questions_on_one_connection() {
    let pki = Pki::new();
    let server = doq(pki.server().server_config(&[b"doq"]), ADDRESS.octets()[3]);
    let group = Arc::new(Group1::new(vec![upstream(DoQ, server.address, options(&pki))]));
    ask_at_once(&group, 1000).await;
    // On a busy machine the server may seem silent for a moment, which costs a connection each time.
    let suspects = usize::try_from(group.stats.get(Counter::UpstreamSuspects)).unwrap();
    assert_eq!(server.connections(), 1 + suspects);
    assert!(suspects <= 2, "{suspects}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doq_with_hickory_loses_nothing_when_it_has_enough_of_a_connection() {
    let pki = Pki::new();
    // It takes a hundred queries on a connection, and then is silent.
    let server = Quic::start(&pki.server(), b"doq");
    let group = Arc::new(Group1::new(vec![upstream(DoQ, server.address, options(&pki))]));
    for _ in 0..5 {
        ask_at_once(&group, 50).await;
    }
    assert!((3..10).contains(&group.connections()), "{}", group.connections());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doq_checks_certificates_and_protocol_too() {
    let pki = Pki::new();
    let other = Quic::start(&pki.issue(&["other.example"], |_| {}), b"doq");
    let group = Group1::new(vec![upstream(DoQ, other.address, options(&pki))]);
    let said = group.ask("www.test").await.unwrap_err().summary;
    assert!(said.contains("other.example") && said.contains(NAME), "{said}");
    let no_doq = Quic::start(&pki.server(), b"h3");
    let group = Group1::new(vec![upstream(DoQ, no_doq.address, options(&pki))]);
    let said = group.ask("www.test").await.unwrap_err().summary;
    assert!(said.contains("ALPN") && said.contains(NAME), "{said}");
    let identity = pki.server();
    let good = Quic::start(&identity, b"doq");
    let pinned = UpstreamOptions { pins: vec![identity.pin()], server_name: None, ..options(&pki) };
    let group = Group1::new(vec![upstream(DoQ, good.address, pinned)]);
    assert_eq!(group.address("www.test").await, ADDRESS);
}

#[test]
fn the_daemon_asks_encrypted_servers_as_its_configuration_says() {
    let pki = Pki::new();
    let Some(server) = Server::unbound(&pki.server()) else { return };
    for (scheme, place, path) in [("tls", server.dot, ""), ("https", server.doh, "/dns-query")] {
        let config = format!(
            "[upstream.corp]\nservers = [\"{scheme}://{place}{path}#{NAME}\"]\nca_file = \"{}\"\n\n[default]\nupstream = \"corp\"\n",
            pki.ca_file().display()
        );
        let daemon = Daemon::start(&config);
        assert_eq!(crate::support::client::ask(daemon.address, "www.example.org").addresses(), [ADDRESS.to_string()]);
    }
}

/// Answers as a validating resolver does.
fn authentic(query: &[u8]) -> Vec<u8> {
    let mut message = answer(query, 7);
    message[3] |= 0x20;
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ad_bit_is_kept_from_authenticated_servers_only() {
    let pki = Pki::new();
    let tls = Fake::tls(pki.server().server_config(&[b"dot"]), move |mut stream, _| async move {
        while let Some(query) = read_query(&mut stream).await {
            write_message(&mut stream, &authentic(&query)).await;
        }
    })
    .await;
    let plain = Plain::start(Habit::Custom(|query, _| vec![authentic(query)]));
    let mut question = query("www.example.org", Rtype::A, 7);
    // AD in a query asks for AD in its answer (RFC 6840 section 5.7).
    question[3] |= 0x20;
    for (server, expected) in [(format!("tls://{}#{NAME}", tls.address), true), (plain.address.to_string(), false)] {
        let config = format!(
            "[upstream.corp]\nservers = [\"{server}\"]\nca_file = \"{}\"\n\n[default]\nupstream = \"corp\"\n",
            pki.ca_file().display()
        );
        let question = question.clone();
        let asking = move || {
            let daemon = Daemon::start(&config);
            exchange(daemon.address, &question).unwrap()
        };
        let response = tokio::task::spawn_blocking(asking).await.unwrap();
        assert_eq!(response.addresses(), ["192.0.2.7"], "{server}");
        assert_eq!(response.view().has(flag::AD), expected, "{server}");
    }
}
