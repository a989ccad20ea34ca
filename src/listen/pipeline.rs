//! The pipeline as what knows the answers.

use super::{Answerer, FastPath, Worked};
use crate::clock::Tick;
use crate::dns::wire::ParsedQuery;
use crate::dns::{Arrival, Decided, Query, Trace};
use crate::pipeline::{self, Pipeline};
use std::net::IpAddr;

/// What an answer over UDP usually fits in; a longer one grows the buffer.
const USUAL_ANSWER_BYTES: usize = 512;

impl FastPath for pipeline::FastPath<'_> {
    fn allows(&self, client: IpAddr) -> bool {
        Self::allows(self, client)
    }

    fn answer_cached(
        &mut self,
        parsed: &ParsedQuery<'_>,
        arrival: &Arrival,
        now: Tick,
        out: &mut Vec<u8>,
    ) -> Option<Decided> {
        Self::answer_cached(self, parsed, arrival, now, out)
    }
}

impl Answerer for Pipeline {
    type FastPath<'a> = pipeline::FastPath<'a>;

    fn fast_path(&self) -> Self::FastPath<'_> {
        Self::fast_path(self)
    }

    async fn answer(&self, query: &Query) -> Worked {
        let mut trace = Trace::off();
        let answer = Self::answer(self, query, &mut trace).await;
        let mut bytes = Vec::with_capacity(USUAL_ANSWER_BYTES);
        self.respond(query, &answer, &mut bytes);
        let decided = Decided { origin: answer.origin, view: trace.view, by: trace.by };
        Worked { decided, upstream: trace.upstream, bytes }
    }

    fn now(&self) -> Tick {
        Self::now(self)
    }

    fn udp_payload_bytes(&self) -> u16 {
        Self::udp_payload_bytes(self)
    }
}
