//! The fast path: what the cache can answer at once, by the configuration of one moment.

use super::Pipeline;
use super::cache::{KeyBuf, Lookup, Serve};
use super::keep::PLACE;
use super::state::State;
use super::text::log_hit;
use crate::clock::Tick;
use crate::dns::encode::{self, ClientShape};
use crate::dns::wire::{ParsedQuery, flag};
use crate::dns::{Arrival, Decided, Name, QuestionKey, Transport};
use arc_swap::Guard;
use std::net::IpAddr;
use std::sync::Arc;
use tracing::Level;

/// The fast path by one configuration. Taken once for all questions that have arrived together; another configuration is
/// in force from the next on.
#[derive(Debug)]
pub struct FastPath<'a> {
    pipeline: &'a Pipeline,
    state: Guard<Arc<State>>,
    /// The question's key, written over by the next one's: so that it is neither cleared nor moved each time.
    key: KeyBuf,
}

impl Pipeline {
    /// Returns the fast path by the configuration in force. Not to be kept over an await.
    #[must_use]
    pub fn fast_path(&self) -> FastPath<'_> {
        FastPath { pipeline: self, state: self.state.load(), key: KeyBuf::default() }
    }
}

impl FastPath<'_> {
    /// Tells whether this client may ask.
    #[must_use]
    pub fn allows(&self, client: IpAddr) -> bool {
        self.state.access.allows(client)
    }

    /// Stages 2, 3 and 10 in one: appends a cached answer for this client and says who decided it, or `None` when
    /// the question needs work. No allocation, no await, one short lock of one cache shard.
    pub fn answer_cached(
        &mut self,
        parsed: &ParsedQuery<'_>,
        arrival: &Arrival,
        now: Tick,
        out: &mut Vec<u8>,
    ) -> Option<Decided> {
        let message = &parsed.message;
        // Cookies, padding and the like are not refused, only answered off the fast path.
        if message.qclass() != crate::dns::wire::CLASS_IN || parsed.edns.is_some_and(|edns| !edns.options.is_empty()) {
            return None;
        }
        let Self { pipeline, state, key } = self;
        let &Arrival { client, local, transport } = arrival;
        let view = state.views.of(client.ip(), local);
        key.set(&Lookup {
            place: PLACE,
            view,
            qname: message.qname(),
            qtype: message.qtype(),
            dnssec_ok: parsed.dnssec_ok(),
            checking_disabled: message.has(flag::CD),
        });
        let udp_payload_bytes = state.config.server.udp_payload_bytes;
        let shape = ClientShape {
            id: message.id(),
            flags: message.flags(),
            qname: message.qname(),
            edns: parsed.edns.is_some(),
            dnssec_ok: parsed.dnssec_ok(),
            limit_bytes: match transport {
                Transport::Udp => usize::from(parsed.payload_bytes().min(udp_payload_bytes)),
                Transport::Tcp => encode::MAX_MESSAGE_BYTES,
            },
            our_payload_bytes: udp_payload_bytes,
        };
        let serve = Serve { epoch: state.epoch, now, extended_errors: state.config.server.edns_errors };
        let hit = state.cache.answer_into(key, serve, &shape, out)?;
        if hit.ask_again
            && let Ok(qname) = Name::from_wire(message.qname())
        {
            let (dnssec_ok, checking_disabled) = (parsed.dnssec_ok(), message.has(flag::CD));
            let question =
                QuestionKey { qname: qname.to_lower(), qtype: message.qtype(), dnssec_ok, checking_disabled };
            pipeline.prefetch(state, view, question);
        }
        if tracing::enabled!(Level::DEBUG) {
            log_hit(message, client, transport, hit.origin);
        }
        Some(Decided { origin: hit.origin, view: state.tags.view(view), by: hit.tag })
    }
}
