//! The pipeline as what knows the answers.

use super::{Answerer, Worked};
use crate::clock::Tick;
use crate::dns::wire::ParsedQuery;
use crate::dns::{Decided, Query, Trace, Transport};
use crate::pipeline::Pipeline;
use std::net::{IpAddr, SocketAddr};

/// What an answer over UDP usually fits in; a longer one grows the buffer.
const USUAL_ANSWER_BYTES: usize = 512;

impl Answerer for Pipeline {
    fn answer_cached(
        &self,
        parsed: &ParsedQuery<'_>,
        client: SocketAddr,
        local: SocketAddr,
        transport: Transport,
        now: Tick,
        out: &mut Vec<u8>,
    ) -> Option<Decided> {
        Self::answer_cached(self, parsed, client, local, transport, now, out)
    }

    async fn answer(&self, query: &Query) -> Worked {
        let mut trace = Trace::off();
        let answer = Self::answer(self, query, &mut trace).await;
        let mut bytes = Vec::with_capacity(USUAL_ANSWER_BYTES);
        self.respond(query, &answer, &mut bytes);
        let decided = Decided { origin: answer.origin, view: trace.view, by: trace.by };
        Worked { decided, upstream: trace.upstream, bytes }
    }

    fn allows(&self, client: IpAddr) -> bool {
        Self::allows(self, client)
    }

    fn now(&self) -> Tick {
        Self::now(self)
    }

    fn udp_payload_bytes(&self) -> u16 {
        Self::udp_payload_bytes(self)
    }
}
