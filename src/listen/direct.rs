//! A listener without sockets: the bytes of a message in, the bytes of its answer out.
//!
//! Every decision is the one a worker makes: silence, faults, access, the fast path, the work, panics, the bound of
//! questions in work. For whoever drives truename in one process: fuzz targets and harnesses.

use super::Answerer;
use super::limits::Limits;
use super::serving::{Serving, Shared, Sight};
use crate::config;
use crate::dns::{Arrival, Transport};
use crate::stats::Stats;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// One thread's way of answering, without its sockets.
pub struct Direct<A>(Serving<A>);

impl<A> fmt::Debug for Direct<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct").finish_non_exhaustive()
    }
}

impl<A: Answerer> Direct<A> {
    /// Starts with the limits of a configuration.
    #[must_use]
    pub fn new(config: &config::Server, answerer: Arc<A>, stats: Arc<Stats>) -> Self {
        let limits = Arc::new(Limits::new(config));
        Self(Serving::new(Shared { answerer, stats, limits }))
    }

    /// Takes note of an address of ours: what seems to come from there is an echo and not answered.
    pub fn add_own(&self, address: SocketAddr) {
        self.0.add_own(address);
    }

    /// Answers a message; `None` is silence. Must run where the answerer's work can run: inside a tokio runtime.
    pub async fn answer(
        &self,
        message: &[u8],
        client: SocketAddr,
        local: SocketAddr,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let arrival = Arrival { client, local, transport };
        let sight = self.0.look(&mut self.0.answerer.fast_path(), message, &arrival, self.0.answerer.now(), &mut out);
        match sight {
            Sight::Silent => None,
            Sight::Answered(_) => Some(out),
            Sight::Work(query, permit) => Some(self.0.work(query, &permit).await),
        }
    }
}
