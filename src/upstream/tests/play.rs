//! A network in memory whose servers behave as told.

use super::fake::*;
use crate::clock::Clock;
use crate::config::UpstreamTransport;
use crate::dns::Rcode;
use crate::stats::Stats;
use crate::upstream::{FailureKind, Net, SimulatedNet, SimulatedQuery, SimulatedReplies, Upstreams};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

pub(super) type Behaviour = Box<dyn Fn(&SimulatedQuery, &SimulatedReplies) + Send + Sync>;

/// A network whose servers behave as told.
#[derive(Default)]
pub(super) struct Play {
    pub(super) servers: Mutex<HashMap<SocketAddr, Behaviour>>,
    pub(super) log: Mutex<Vec<(SocketAddr, UpstreamTransport, Vec<u8>)>>,
}

impl std::fmt::Debug for Play {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Play")
    }
}

impl SimulatedNet for Play {
    fn send(&self, query: SimulatedQuery, replies: SimulatedReplies) {
        self.log.lock().unwrap().push((query.server, query.transport, query.bytes.clone()));
        if let Some(behave) = self.servers.lock().unwrap().get(&query.server) {
            behave(&query, &replies);
        }
    }
}

impl Play {
    pub(super) fn set(&self, last: u8, behave: impl Fn(&SimulatedQuery, &SimulatedReplies) + Send + Sync + 'static) {
        self.servers.lock().unwrap().insert(address(last), Box::new(behave));
    }

    /// Answers with its own last octet after `ms`.
    pub(super) fn healthy(&self, last: u8, ms: u64) {
        self.set(last, move |query, to| to.message(Duration::from_millis(ms), answer(&query.bytes, last)));
    }

    pub(super) fn says(&self, last: u8, rcode: Rcode) {
        self.set(last, move |query, to| to.message(Duration::from_millis(5), reply(&query.bytes, rcode, None)));
    }

    pub(super) fn silent(&self, last: u8) {
        self.servers.lock().unwrap().remove(&address(last));
    }

    pub(super) fn sent_to(&self, last: u8) -> usize {
        self.log.lock().unwrap().iter().filter(|(server, ..)| *server == address(last)).count()
    }

    pub(super) fn sent(&self) -> usize {
        self.log.lock().unwrap().len()
    }
}

pub(super) fn play(servers: &[u8]) -> (Arc<Play>, Upstreams, Arc<Stats>) {
    play_with(vec![group("g", &servers.iter().map(|&last| address(last)).collect::<Vec<_>>())])
}

pub(super) fn play_with(groups: Vec<crate::config::Group>) -> (Arc<Play>, Upstreams, Arc<Stats>) {
    let play = Arc::new(Play::default());
    let net: Arc<dyn SimulatedNet> = Arc::<Play>::clone(&play);
    let (upstreams, stats) = upstreams(groups, Clock::simulated(), Net::Simulated(net));
    (play, upstreams, stats)
}

/// Asks and returns the outcome with the time it took.
pub(super) async fn timed(upstreams: &Upstreams, text: &str) -> (Result<u8, FailureKind>, u128) {
    let start = Instant::now();
    let outcome = ask(upstreams, text).await;
    (outcome.map(|reply| octet(&reply)).map_err(|failure| failure.kind), start.elapsed().as_millis())
}
