//! A clock so wrong that certificates fail: it is said plainly, and the names of time servers are found all the same.

use crate::control::stats_socket;
use crate::support::client::{Response, ask};
use crate::support::clocks::Clocks;
use crate::support::daemon::{Daemon, run, run_with};
use crate::support::encrypted::{Group1, Identity, NAME, Pki, options, upstream};
use crate::support::eventually;
use crate::support::fake::{Fake as Plain, Habit};
use crate::support::tls_fake::{Fake, answer_all, doq};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use std::net::SocketAddr;
use std::sync::Arc;
use truename::config::UpstreamOptions;
use truename::config::UpstreamTransport::{Quic, Tls};
use truename::dns::Rcode;

const YEAR: i64 = 365;
/// What encrypted servers answer, and plain ones.
const ENCRYPTED: &str = "192.0.2.7";
const PLAIN: &str = "192.0.2.66";

/// A certificate as public servers have them, with dates.
fn dated(pki: &Pki, from: i32, to: i32) -> Identity {
    pki.issue(&[NAME], |params| {
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
    })
}

async fn dot(identity: &Identity) -> Fake {
    Fake::tls(identity.server_config(&[b"dot"]), |stream, _| answer_all(stream, 7)).await
}

/// Asks servers over DoT; returns what their failure says about the clock.
async fn clock_by(servers: &[SocketAddr], options: &UpstreamOptions) -> Option<String> {
    let group = Group1::new(servers.iter().map(|server| upstream(Tls, *server, options.clone())).collect());
    let failure = group.ask("www.test").await.unwrap_err();
    assert_eq!(failure.clock, group.upstreams.wrong_clock());
    let clock = failure.clock.map(|clock| clock.to_string());
    assert!(clock.as_ref().is_none_or(|clock| failure.ede().text == *clock), "{failure}");
    clock
}

#[tokio::test]
async fn only_certificates_that_are_right_but_for_their_dates_say_that_the_clock_is_wrong() {
    let pki = Pki::new();
    let usual = options(&pki);
    let future = dated(&pki, 2090, 2091);
    let said = clock_by(&[dot(&future).await.address], &usual).await.unwrap();
    assert!(said.contains("wrong clock here: it says 20") && said.contains("certificates begin 2090-01-01"), "{said}");
    let long_ago = dot(&dated(&pki, 2019, 2020)).await;
    let said = clock_by(&[long_ago.address], &usual).await.unwrap();
    assert!(said.contains("certificates ended 2020-01-01"), "{said}");
    // Anybody can make a certificate with any dates.
    let stranger = Pki::new();
    assert_eq!(clock_by(&[dot(&dated(&stranger, 2090, 2091)).await.address], &usual).await, None, "a stranger's");
    let other = pki.issue(&["other.example"], |params| params.not_before = rcgen::date_time_ymd(2090, 1, 1));
    assert_eq!(clock_by(&[dot(&other).await.address], &usual).await, None, "for another name");
    let pinned = UpstreamOptions { pins: vec![[7; 32]], ..usual.clone() };
    assert_eq!(clock_by(&[dot(&future).await.address], &pinned).await, None, "of another key");
    assert_eq!(clock_by(&[dot(&pki.issue(&["other.example"], |_| {})).await.address], &usual).await, None);
    let group = Group1::new(vec![upstream(Quic, doq(future.server_config(&[b"doq"]), 7).address, usual.clone())]);
    assert!(group.ask("www.test").await.unwrap_err().clock.is_some(), "over QUIC as well");
    // Somebody else answers: nobody is told about clocks.
    let good = dot(&pki.server()).await;
    let servers = [dot(&future).await.address, good.address];
    let group = Group1::new(servers.iter().map(|server| upstream(Tls, *server, usual.clone())).collect());
    assert_eq!(group.address("www.test").await.octets()[3], 7);
}

/// Shows a certificate without the key to it.
#[derive(Debug)]
struct Replayed(Arc<CertifiedKey>);

impl ResolvesServerCert for Replayed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Makes TLS rules for a server that shows one certificate and signs with another's key.
fn signed_by(
    shown: &Identity,
    signer: &Identity,
    version: &'static SupportedProtocolVersion,
    alpn: &[u8],
) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::try_from(signer.key.serialize_der()).unwrap();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let shown = CertifiedKey::new(vec![shown.certificate.der().clone()], key);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(Replayed(shown.into())));
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

#[tokio::test]
async fn a_certificate_is_no_witness_without_its_key_and_never_believed_with_wrong_dates() {
    let pki = Pki::new();
    let good = pki.server();
    for misdated in [dated(&pki, 2019, 2020), dated(&pki, 2090, 2091)] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            for (signer, is_witness) in [(&good, false), (&misdated, true)] {
                let config = signed_by(&misdated, signer, version, b"dot");
                let fake = Fake::tls(config, |stream, _| answer_all(stream, 7)).await;
                let said = clock_by(&[fake.address, fake.address], &options(&pki)).await;
                assert_eq!(said.is_some(), is_witness, "{version:?}: {said:?}");
            }
        }
        let replayed = doq(signed_by(&misdated, &good, &rustls::version::TLS13, b"doq"), 7);
        let group = Group1::new(vec![upstream(Quic, replayed.address, options(&pki))]);
        assert_eq!(group.ask("www.test").await.unwrap_err().clock, None, "over QUIC");
    }
    // Nor does a good one clear the clock without its key.
    for (signer, is_cleared) in [(&pki.server(), false), (&good, true)] {
        let config = signed_by(&good, signer, &rustls::version::TLS13, b"dot");
        let fakes = [dot(&dated(&pki, 2019, 2020)).await, Fake::tls(config, |stream, _| answer_all(stream, 7)).await];
        let group = Group1::new(fakes.iter().map(|fake| upstream(Tls, fake.address, options(&pki))).collect());
        let asked = group.ask("www.test").await;
        assert_eq!(asked.is_ok(), is_cleared);
        if !is_cleared {
            assert!(group.upstreams.wrong_clock().is_some());
        }
    }
}

/// A daemon that asks encrypted servers only, beside plain ones that this machine was given.
fn config(pki: &Pki, encrypted: SocketAddr, plain: SocketAddr, more: &str) -> String {
    format!(
        "[upstream.safe]\nservers = [\"tls://{encrypted}#{NAME}\"]\nfloor = \"encrypted\"\nca_file = \"{0}\"\n\
         [upstream.corp]\nservers = [\"tls://{encrypted}#corp.example\"]\nca_file = \"{0}\"\n\
         [upstream.system]\nservers = [\"{plain}\"]\n[hosts]\nfiles = []\n\
         [[route]]\nnames = [\"ntp.ubuntu.com\"]\nupstream = \"corp\"\nprivate = true\n\
         [default]\nupstream = \"safe\"\n{more}",
        pki.ca_file().display()
    )
}

async fn asked(daemon: &Arc<Daemon>, name: &str) -> Response {
    let (daemon, name) = (Arc::clone(daemon), name.to_owned());
    tokio::task::spawn_blocking(move || ask(daemon.address, &name)).await.unwrap()
}

/// Returns the text of an extended error.
fn told(response: &Response) -> String {
    let edns = response.view().edns().unwrap().unwrap();
    String::from_utf8_lossy(&edns.option(15).unwrap_or_default()[2..]).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_clock_is_wrong_only_time_servers_are_found_in_plain_and_setting_it_heals_all() {
    let pki = Pki::new();
    let (fake, plain) =
        (dot(&dated(&pki, 2020, 2090)).await, Plain::start(Habit::Address([192, 0, 2, 66].into(), 900)));
    for days in [-20 * YEAR, 70 * YEAR] {
        let clocks = Clocks::new();
        clocks.set_wall_off(days);
        let config = config(&pki, fake.address, plain.address, "");
        let daemon = Arc::new(Daemon::start_by(clocks.binary(), &config, &["127.0.0.1:0"]));
        let refused = asked(&daemon, "www.example.org").await;
        assert_eq!(refused.rcode(), Rcode::SERVFAIL);
        let (said, year) = (told(&refused), if days < 0 { "it says 200" } else { "it says 209" });
        assert!(said.contains("wrong clock here") && said.contains(year), "{said}");
        // At once, and again when the servers are known to fail.
        for name in ["pool.ntp.org", "2.DEBIAN.pool.ntp.org"] {
            let found = asked(&daemon, name).await;
            assert_eq!(found.addresses(), [PLAIN], "{name}");
            assert!(found.answers()[0].ttl <= 60, "{:?}", found.answers());
        }
        for name in ["www.pool.ntp.org", "ntp.org", "other.example.org", "ntp.ubuntu.com"] {
            assert_eq!(asked(&daemon, name).await.rcode(), Rcode::SERVFAIL, "{name}");
            assert_eq!(plain.count(name), 0, "{name}");
        }
        assert_eq!(plain.count("www.example.org"), 0);
        // Whoever looks at the upstreams is told.
        let socket = stats_socket(&daemon);
        let look = |args: &[&str]| {
            let args = [args, &["--socket", socket.to_str().unwrap()]].concat();
            String::from_utf8(run(&args).stdout).unwrap()
        };
        for command in [["upstreams", "live"].as_slice(), &["stats"], &["status"]] {
            let text = look(command);
            assert!(text.contains("▲ wrong clock here") && text.contains(year), "{command:?}: {text}");
        }
        for command in [["upstreams", "live", "--json"].as_slice(), &["stats", "--json"]] {
            let document: serde_json::Value = serde_json::from_str(&look(command)).unwrap();
            let text = document["wrong_clock"]["text"].as_str().unwrap();
            assert!(text.contains("wrong clock here") && text.contains(year), "{command:?}: {text}");
        }
        let words = if days < 0 { ("is not valid yet", "begins") } else { ("has expired", "ended") };
        let warned = daemon.events(&format!("a certificate {} by this clock", words.0));
        assert!(warned.len() == 1 && warned[0]["name"] == NAME, "{}", daemon.log());
        assert!(warned[0]["clock"].is_string() && warned[0][words.1].is_string(), "{}", daemon.log());
        clocks.set_wall_off(0);
        assert_eq!(asked(&daemon, "healed.example.org").await.addresses(), [ENCRYPTED], "at once");
        assert_eq!(asked(&daemon, "3.debian.pool.ntp.org").await.addresses(), [ENCRYPTED]);
        assert!(look(&["upstreams", "live"]).starts_with("UPSTREAM"));
        eventually("it is told", || daemon.log().contains("the clock was set"));
        daemon.assert_no_panic();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_names_of_time_servers_nothing_goes_out_in_plain() {
    let pki = Pki::new();
    let (fake, plain) =
        (dot(&dated(&pki, 2020, 2090)).await, Plain::start(Habit::Address([192, 0, 2, 66].into(), 900)));
    let clocks = Clocks::new();
    clocks.set_wall_off(-20 * YEAR);
    let config = config(&pki, fake.address, plain.address, "time_servers = []\n");
    let daemon = Arc::new(Daemon::start_by(clocks.binary(), &config, &["127.0.0.1:0"]));
    for _ in 0..2 {
        assert_eq!(asked(&daemon, "pool.ntp.org").await.rcode(), Rcode::SERVFAIL);
    }
    assert_eq!(plain.count("pool.ntp.org"), 0);
    // And with a clock that is right nobody needs the exception.
    clocks.set_wall_off(0);
    assert_eq!(asked(&daemon, "0.debian.pool.ntp.org").await.addresses(), [ENCRYPTED]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_says_that_the_clock_is_wrong() {
    let pki = Pki::new();
    let fake = dot(&dated(&pki, 2020, 2090)).await;
    let clocks = Clocks::new();
    clocks.set_wall_off(-20 * YEAR);
    let file = pki.folder.path().join("truename.toml");
    std::fs::write(&file, config(&pki, fake.address, "127.0.0.1:1".parse().unwrap(), "")).unwrap();
    for args in [["query", "www.example.org"].as_slice(), &["upstreams", "test", "safe", "--count", "1"]] {
        let (command, file) = (clocks.binary(), file.clone());
        let output = tokio::task::spawn_blocking(move || {
            run_with(command, &[args, &["--config", file.to_str().unwrap()]].concat())
        });
        let said = String::from_utf8(output.await.unwrap().stdout).unwrap();
        assert!(said.contains("wrong clock here") && said.contains("certificates begin 2020-01-01"), "{said}");
    }
}
