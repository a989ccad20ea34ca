//! See `tests/support/doq_server.rs`.

use crate::support::doq_server::{DoqServer, serve};
use crate::support::encrypted::{ADDRESS, Group1, Pki, options, upstream};
use truename::config::UpstreamTransport::Quic;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_binary_is_a_doq_server_when_it_is_told_to_be() {
    if serve().await {
        return;
    }
    let pki = Pki::new();
    let server = DoqServer::here(&pki.server(), ADDRESS);
    let group = Group1::new(vec![upstream(Quic, server.address, options(&pki))]);
    assert_eq!(group.address("www.example.org").await, ADDRESS);
}
