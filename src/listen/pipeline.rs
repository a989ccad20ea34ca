//! The pipeline as what knows the answers.

use super::{Answered, Answerer};
use crate::clock::Tick;
use crate::dns::wire::ParsedQuery;
use crate::dns::{Origin, Query, Transport};
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
    ) -> Option<Origin> {
        Self::answer_cached(self, parsed, client, local, transport, now, out)
    }

    async fn answer(&self, query: &Query) -> Answered {
        let (answer, rest) = self.answer_first(query).await;
        let mut bytes = Vec::with_capacity(USUAL_ANSWER_BYTES);
        self.respond(query, &answer, &mut bytes);
        let rest = rest.map(|rest| Box::new(|| rest.finish()) as Box<dyn FnOnce()>);
        Answered { origin: answer.origin, bytes, rest }
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
