//! Which certificates are believed, and what is said about the others.

use crate::support::encrypted::{Group1, Identity, NAME, Pki, options, upstream};
use crate::support::tls_fake::{Fake, answer, answer_all, body, doq, doq_with, read_query};
use crate::support::tls_fake::{reply_over_quic, respond, write_message};
use tokio::io::AsyncWriteExt;
use truename::config::UpstreamTransport::{Https, Quic, Tls};
use truename::config::{ClientCertificate, UpstreamOptions};

async fn dot(identity: &Identity) -> Fake {
    Fake::tls(identity.server_config(&[b"dot"]), |stream, _| answer_all(stream, 7)).await
}

/// Asks servers with this certificate over DoT, DoH and DoQ; returns why none was believed.
async fn refused(identity: &Identity, options: UpstreamOptions) -> [String; 3] {
    let http = Fake::http(identity.server_config(&[b"h2"]), |(request, to)| async move {
        respond(to, 200, "application/dns-message", answer(&body(request).await, 7));
    });
    let fakes = [(Tls, dot(identity).await), (Https, http.await), (Quic, doq(identity.server_config(&[b"doq"]), 7))];
    let mut said = Vec::new();
    for (transport, fake) in fakes {
        let group = Group1::new(vec![upstream(transport, fake.address, options.clone())]);
        said.push(group.ask("www.test").await.unwrap_err().summary);
    }
    said.try_into().unwrap()
}

async fn believed(identity: &Identity, options: UpstreamOptions) {
    let fake = dot(identity).await;
    let group = Group1::new(vec![upstream(Tls, fake.address, options)]);
    assert_eq!(group.address("www.test").await.octets()[3], 7);
}

#[tokio::test]
async fn certificates_that_are_not_good_are_refused_with_the_reason_and_the_name() {
    let pki = Pki::new();
    let usual = || options(&pki);
    let expired = pki.issue(&[NAME], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 2, 3);
    });
    let early = pki.issue(&[NAME], |params| params.not_before = rcgen::date_time_ymd(2090, 1, 1));
    let stranger = Pki::new();
    let unpinned = UpstreamOptions { pins: vec![[7; 32]], ..usual() };
    let no_roots = UpstreamOptions { ca_file: None, ..usual() };
    for (identity, options, expected) in [
        (pki.issue(&["other.example", "192.0.2.1"], |_| {}), usual(), vec![NAME, "other.example, 192.0.2.1"]),
        (expired, usual(), vec![NAME, "expired 2021-02-03", "clock here says"]),
        (early, usual(), vec![NAME, "not valid before 2090-01-01"]),
        (pki.self_signed(&[NAME]), usual(), vec![NAME, "self-signed", "ca_file"]),
        (stranger.server(), usual(), vec![NAME, "signed by nobody known here", "ca_file"]),
        (pki.server(), no_roots, vec![NAME, "signed by nobody known here"]),
        (pki.server(), unpinned, vec![NAME, "wrong pin", "none of the 1 in `pins`"]),
        (pki.issue(&["dns.example.org"], |_| {}), UpstreamOptions { server_name: None, ..usual() }, vec!["127.0.0.1"]),
    ] {
        for said in refused(&identity, options).await {
            for part in &expected {
                assert!(said.contains(part), "{part:?} is not in {said:?}");
            }
        }
    }
}

#[tokio::test]
async fn of_the_names_of_a_wrong_certificate_four_are_told_and_eighty_octets_of_each() {
    let pki = Pki::new();
    let six = pki.issue(&["a.example", "b.example", "c.example", "d.example", "e.example", "f.example"], |_| {});
    for said in refused(&six, options(&pki)).await {
        assert!(said.contains("for a.example, b.example, c.example, d.example and 2 more"), "{said}");
    }
    let long = format!("{}.{}.example", "a".repeat(60), "b".repeat(40));
    for said in refused(&pki.issue(&[&long], |_| {}), options(&pki)).await {
        assert!(said.contains(&long[..80]) && !said.contains(&long[..81]), "{said}");
    }
}

#[tokio::test]
async fn a_server_hears_its_name_and_the_protocol_unless_sni_is_off() {
    let pki = Pki::new();
    for (sni, expected) in [(true, Some(NAME.to_owned())), (false, None)] {
        let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let fake = Fake::tls(pki.server().server_config(&[b"dot"]), move |stream, _| {
            let tls = stream.get_ref().1;
            let _ = sender.send((tls.server_name().map(str::to_owned), tls.alpn_protocol().map(<[u8]>::to_vec)));
            answer_all(stream, 7)
        })
        .await;
        let group = Group1::new(vec![upstream(Tls, fake.address, UpstreamOptions { sni, ..options(&pki) })]);
        assert_eq!(group.address("www.test").await.octets()[3], 7);
        assert_eq!(seen.recv().await.unwrap(), (expected, Some(b"dot".to_vec())), "sni = {sni}");
    }
}

#[tokio::test]
async fn good_ones_are_believed() {
    let pki = Pki::new();
    let usual = || options(&pki);
    believed(&pki.server(), usual()).await;
    believed(&pki.server(), UpstreamOptions { sni: false, ..usual() }).await;
    believed(&pki.server(), UpstreamOptions { server_name: None, ..usual() }).await;
    let pinned = pki.server();
    believed(&pinned, UpstreamOptions { pins: vec![[7; 32], pinned.pin()], ..usual() }).await;
    let own = pki.self_signed(&[NAME]);
    believed(&own, UpstreamOptions { ca_file: Some(own.certificate_file.clone()), ..usual() }).await;
}

#[tokio::test]
async fn a_server_without_the_protocol_is_told_from_one_with_a_bad_certificate() {
    let pki = Pki::new();
    let identity = pki.server();
    for alpn in [&[][..], &[&b"http/1.1"[..]]] {
        let fake = Fake::tls(identity.server_config(alpn), |stream, _| answer_all(stream, 7)).await;
        let group = Group1::new(vec![upstream(Https, fake.address, options(&pki))]);
        let said = group.ask("www.test").await.unwrap_err().summary;
        assert!(said.contains("ALPN") && said.contains(NAME), "{said}");
    }
    let fake = Fake::tls(identity.server_config(&[]), |stream, _| answer_all(stream, 7)).await;
    let group = Group1::new(vec![upstream(Tls, fake.address, options(&pki))]);
    assert_eq!(group.address("www.test").await.octets()[3], 7, "DoT needs no ALPN");
}

#[tokio::test]
async fn a_missing_or_wrong_file_is_named_and_read_again_when_put_right() {
    let pki = Pki::new();
    let identity = pki.server();
    let fake = dot(&identity).await;
    let file = pki.folder.path().join("later.pem");
    let group = Group1::new(vec![upstream(
        Tls,
        fake.address,
        UpstreamOptions { ca_file: Some(file.clone()), ..options(&pki) },
    )]);
    assert!(group.ask("a.test").await.unwrap_err().summary.contains("later.pem"));
    std::fs::write(&file, "no certificate").unwrap();
    assert!(group.ask("b.test").await.unwrap_err().summary.contains("later.pem"));
    std::fs::copy(pki.ca_file(), &file).unwrap();
    assert_eq!(group.address("c.test").await.octets()[3], 7);
}

#[tokio::test]
async fn a_server_that_asks_who_we_are_is_told() {
    let pki = Pki::new();
    let identity = pki.server();
    let client = pki.issue(&["client.example"], |_| {});
    let mut roots = rustls::RootCertStore::empty();
    let ca = rustls::pki_types::pem::PemObject::from_pem_file(pki.ca_file()).unwrap();
    roots.add(ca).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![identity.certificate.der().clone()], key)
        .unwrap();
    let fake = Fake::tls(config.into(), |stream, _| answer_all(stream, 7)).await;
    let ours = ClientCertificate { certificate: client.certificate_file.clone(), key: client.key_file.clone() };
    let known = UpstreamOptions { client_certificate: Some(ours), ..options(&pki) };
    let group = Group1::new(vec![upstream(Tls, fake.address, known)]);
    assert_eq!(group.address("www.test").await.octets()[3], 7);
    let group = Group1::new(vec![upstream(Tls, fake.address, options(&pki))]);
    group.ask("www.test").await.unwrap_err();
}

#[tokio::test]
async fn queries_look_all_alike_from_outside() {
    let pki = Pki::new();
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let fake = Fake::http(pki.server().server_config(&[b"h2"]), move |(request, to)| {
        let sender = sender.clone();
        async move {
            let (path, query) = (request.uri().path().to_owned(), body(request).await);
            respond(to, 200, "application/dns-message", answer(&query, 7));
            let _ = sender.send((path, query));
        }
    })
    .await;
    let group = Group1::new(vec![upstream(Https, fake.address, options(&pki))]);
    for name in ["a.test", "a-name-that-is-rather-longer.of-some.test"] {
        assert_eq!(group.address(name).await.octets()[3], 7);
        let (path, query) = seen.recv().await.unwrap();
        assert_eq!((path.as_str(), query.len()), ("/dns-query", 128), "padded (RFC 8467)");
        assert_eq!(&query[..2], &[0, 0], "id 0 (RFC 8484)");
        assert!(query.windows(4).any(|four| four == b"test"), "letter case is not mixed");
    }
}

#[tokio::test]
async fn queries_over_tls_and_quic_are_as_long_as_each_other() {
    let pki = Pki::new();
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let over_quic = sender.clone();
    let dot = Fake::tls(pki.server().server_config(&[b"dot"]), move |mut stream, _| {
        let sender = sender.clone();
        async move {
            while let Some(query) = read_query(&mut stream).await {
                write_message(&mut stream, &answer(&query, 7)).await;
                let _ = sender.send(query);
            }
        }
    });
    let doq = doq_with(pki.server().server_config(&[b"doq"]), move |_, mut send, query, _| {
        let sender = over_quic.clone();
        async move {
            reply_over_quic(&mut send, &answer(&query, 7)).await;
            let _ = sender.send(query);
        }
    });
    for (transport, fake) in [(Tls, dot.await), (Quic, doq)] {
        let group = Group1::new(vec![upstream(transport, fake.address, options(&pki))]);
        for name in ["a.test", "a-name-that-is-rather-longer.of-some.test"] {
            assert_eq!(group.address(name).await.octets()[3], 7);
            let query = seen.recv().await.unwrap();
            assert_eq!(query.len(), 128, "padded (RFC 8467), over {transport}");
            assert!(query.windows(4).any(|four| four == b"test"), "letter case is not mixed");
            if transport == Quic {
                assert_eq!(&query[..2], &[0, 0], "id 0 (RFC 9250)");
            }
        }
    }
}

#[tokio::test]
async fn a_session_is_taken_up_again() {
    let pki = Pki::new();
    let (sender, mut kinds) = tokio::sync::mpsc::unbounded_channel();
    // Closes after each reply, so that every question has a handshake.
    let fake = Fake::tls(pki.server().server_config(&[b"dot"]), move |mut stream, _| {
        let _ = sender.send(stream.get_ref().1.handshake_kind());
        async move {
            if let Some(query) = read_query(&mut stream).await {
                write_message(&mut stream, &answer(&query, 7)).await;
                let _ = stream.shutdown().await;
            }
        }
    })
    .await;
    let group = Group1::new(vec![upstream(Tls, fake.address, options(&pki))]);
    for n in 0..2 {
        assert_eq!(group.address(&format!("n{n}.test")).await.octets()[3], 7);
    }
    assert_eq!(kinds.recv().await.unwrap(), Some(rustls::HandshakeKind::Full));
    assert_eq!(kinds.recv().await.unwrap(), Some(rustls::HandshakeKind::Resumed));
}
