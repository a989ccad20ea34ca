//! The pipeline as what knows the answers.

use super::{Answerer, FastPath};
use crate::clock::Tick;
use crate::dns::wire::ParsedQuery;
use crate::dns::{Origin, Query, Trace, Transport};
use crate::pipeline::{self, Pipeline};
use std::net::{IpAddr, SocketAddr};

/// What an answer over UDP usually fits in; a longer one grows the buffer.
const USUAL_ANSWER_BYTES: usize = 512;

impl FastPath for pipeline::FastPath<'_> {
    fn allows(&self, client: IpAddr) -> bool {
        Self::allows(self, client)
    }

    fn answer_cached(
        &self,
        parsed: &ParsedQuery<'_>,
        client: SocketAddr,
        local: SocketAddr,
        transport: Transport,
        now: Tick,
        out: &mut Vec<u8>,
    ) -> Option<Origin> {
        Self::answer_cached(self, parsed, client, local, transport, now, out)
    }
}

impl Answerer for Pipeline {
    type FastPath<'a> = pipeline::FastPath<'a>;

    fn fast_path(&self) -> Self::FastPath<'_> {
        Self::fast_path(self)
    }

    async fn answer(&self, query: &Query) -> (Origin, Vec<u8>) {
        let mut trace = Trace::off();
        let answer = Self::answer(self, query, &mut trace).await;
        let mut out = Vec::with_capacity(USUAL_ANSWER_BYTES);
        self.respond(query, &answer, &mut out);
        (answer.origin, out)
    }

    fn now(&self) -> Tick {
        Self::now(self)
    }

    fn udp_payload_bytes(&self) -> u16 {
        Self::udp_payload_bytes(self)
    }
}
