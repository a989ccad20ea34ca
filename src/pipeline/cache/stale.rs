//! When an answer past its TTL may be used, and how it then looks (RFC 8767). Pure.
//!
//! ```text
//!  born ──── fresh ────▶ expired ──────────────── stale ───────────────▶ max_age past its TTL: never
//!                            │ first question: upstreams get `after` (350 ms), then the stale answer goes out
//!                            │ refresh failed or late: 5 s at once, nobody asked
//!                            │ then, to 30 s after it: at once, and asked behind it
//! ```
//!
//! Section 5 of the RFC wants such pauses, so that a dead upstream does not cost every question its patience, nor
//! gets a storm when it is back. Never stale: what is ours, failures, and what was disputed.

use super::entry::Head;
use crate::clock::Tick;
use crate::config;
use crate::dns::Rcode;
use crate::dns::answer::ede;
use crate::dns::wire::u16_at;

/// How long after a failed refresh nobody is asked again, in seconds: as long as a failure is kept at most (RFC 9520
/// section 3.2). RFC 8767 section 5 suggests 30 for authoritative servers; behind a forwarder's upstream, which may
/// be back any moment, people would wait for that.
const RECHECK_S: u32 = 5;
/// How long a failed refresh makes stale answers go out without waiting, in seconds.
const FAILING_S: u32 = 30;

/// What is done about a stale answer before it goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staleness {
    /// Upstreams are given some time to do better.
    Wait,
    /// It goes out at once, and upstreams are asked behind it.
    AtOnceAndAsk,
    /// It goes out at once, and nobody is asked.
    AtOnce,
}

/// The limits in force.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    enabled: bool,
    max_age_s: u32,
    /// The highest TTL a stale answer shows.
    pub(super) reply_ttl_s: u32,
}

impl Policy {
    pub(super) fn new(configured: &config::ServeStale) -> Self {
        let seconds = |duration: std::time::Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        Self {
            enabled: configured.enabled,
            max_age_s: seconds(configured.max_age),
            reply_ttl_s: seconds(configured.reply_ttl),
        }
    }

    /// Decides about an entry; `None` when it is fresh, or must not be used stale. `network_s` tells for how many seconds
    /// the network has been this one: what could not be refreshed before may be here.
    pub(super) fn staleness(&self, head: &Head, now: Tick, network_s: impl FnOnce() -> u64) -> Option<Staleness> {
        let expired_s = head.expired_s(now)?;
        if !self.enabled || expired_s >= self.max_age_s || head.failures() > 0 || head.is_disputed() {
            return None;
        }
        Some(match head.failed_refresh_s(now).filter(|failed_s| u64::from(*failed_s) < network_s()) {
            Some(0..RECHECK_S) => Staleness::AtOnce,
            Some(RECHECK_S..FAILING_S) => Staleness::AtOnceAndAsk,
            Some(_) | None => Staleness::Wait,
        })
    }
}

/// Returns the extended error that says so (RFC 8914 sections 4.4 and 4.20).
pub(super) fn extended_error(message: &[u8]) -> (u16, &'static str) {
    let rcode = Rcode(u16_at(message, 2).unwrap_or(0) & 0x000f);
    let code = if rcode == Rcode::NXDOMAIN { ede::STALE_NXDOMAIN_ANSWER } else { ede::STALE_ANSWER };
    (code, "no upstream gave a fresh answer in time")
}
