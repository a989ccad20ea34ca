use super::super::tls::Roots;
use super::*;
use crate::config::{UpstreamHost, UpstreamOptions, UpstreamTransport};
use quinn::crypto::rustls::QuicServerConfig;
use std::future::poll_fn;
use std::path::Path;
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

/// No test waits longer for anything.
const BOUND: Duration = Duration::from_secs(10);
const NAME: &str = "dns.example";

/// Starts a server that takes connections and answers nothing, on a runtime of its own: with that it goes away.
fn start(folder: &Path) -> (Runtime, SocketAddr) {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    std::fs::write(folder.join("ca.pem"), cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut tls = builder.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    tls.alpn_protocols = vec![b"doq".to_vec()];
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = endpoint.local_addr().unwrap();
    runtime.spawn(async move {
        let mut open = Vec::new();
        while let Some(incoming) = endpoint.accept().await {
            open.push(incoming.await);
        }
    });
    (runtime, address)
}

#[tokio::test]
async fn a_port_that_closes_under_an_open_connection_is_told_and_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (server, address) = start(folder.path());
    let options = UpstreamOptions {
        server_name: Some(NAME.to_owned()),
        ca_file: Some(folder.path().join("ca.pem")),
        ..UpstreamOptions::default()
    };
    let target = Target::new(
        (UpstreamHost::at(address), address.port()),
        UpstreamTransport::Quic,
        None,
        Arc::new(options),
        (Arc::new(Roots::default()), Arc::default()),
    );
    let (mut quic, _) = Quic::open(&target).await.unwrap();
    assert!(timeout(Duration::from_millis(50), poll_fn(|cx| quic.poll_doubt(cx))).await.is_err(), "all is well");
    // It goes without a word, as a machine that is switched off.
    server.shutdown_background();
    let is_closed = async {
        while std::net::UdpSocket::bind(address).is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(BOUND, is_closed).await.expect("the port is closed");
    for n in 0..2 {
        let asked = tokio::spawn(quic.ask(vec![0; 17]));
        timeout(BOUND, poll_fn(|cx| quic.poll_doubt(cx))).await.unwrap_or_else(|_| panic!("question {n}: it is told"));
        // Anybody can forge that.
        let is_over = poll_fn(|cx| Poll::Ready(quic.poll_over(cx).is_ready())).await;
        assert!(!is_over && !asked.is_finished(), "question {n}: nothing ends");
    }
}
