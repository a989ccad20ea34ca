//! Asking where no resolver is. An answer from there is somebody's on the way.

use super::Inner;
use super::finding::ask_once;
use super::transport::Ways;
use crate::config::{Rung, Upstream, UpstreamHost, UpstreamTransport};
use crate::dns::QuestionKey;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long an answer is waited for: who answers on the way is nearer than any resolver, and 364 ms is the most that was seen
/// between an injected reply and the true one (Hoang and others, 2021).
const PATIENCE: Duration = Duration::from_millis(400);

/// See [`super::Upstreams::decoy`].
pub(super) async fn decoy(inner: &Arc<Inner>, address: SocketAddr, question: &QuestionKey) -> Option<Vec<u8>> {
    let server = Upstream {
        label: String::new(),
        host: UpstreamHost::Address(address.ip(), 0),
        rungs: vec![Rung { transport: UpstreamTransport::Udp, port: address.port(), path: None }],
        options: Arc::default(),
    };
    let ways = Ways::new(&server)?;
    let asked = ask_once(inner, (address, &ways), UpstreamTransport::Udp, question);
    // Nobody's answer and a router's word that nobody is there are the same.
    timeout(PATIENCE, asked).await.ok()?.ok().map(|asked| asked.reply)
}
