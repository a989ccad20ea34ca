//! Which entries are asked for again before they expire. Pure.
//!
//! An entry that has been used often and is used again in the last part of its life is refreshed, once, by whoever used
//! it: no timer watches entries, and what nobody uses is left to expire.

use super::entry::Head;
use crate::clock::Tick;
use crate::config;

/// Into how many steps the beginnings of that last part are spread, over the half of it, so that entries stored
/// together are not all refreshed together.
const SPREAD_STEPS: u64 = 8;

/// The limits in force.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    /// More than a count can reach when it is off.
    min_hits: u16,
    before_expiry_percent: u8,
}

impl Policy {
    pub(super) fn new(configured: &config::Prefetch) -> Self {
        let min_hits = if configured.enabled { u16::from(configured.min_hits) } else { u16::MAX };
        Self { min_hits, before_expiry_percent: configured.before_expiry_percent }
    }

    /// Counts a fresh use and tells, once in an entry's life, that it is to be asked for again.
    pub(super) fn is_due(&self, head: &mut Head, now: Tick) -> bool {
        let is_popular = u16::from(head.count_hit()) >= self.min_hits;
        is_popular && self.is_late(head, now) && head.claim_asking_again()
    }

    /// Tells whether the last part of its life has begun. Failures and what is ours have none.
    fn is_late(&self, head: &Head, now: Tick) -> bool {
        let Some(life_s) = head.life_s().filter(|_| head.failures() == 0) else { return false };
        let life_ms = u64::from(life_s) * 1000;
        let part_ms = life_ms * u64::from(self.before_expiry_percent) / 100;
        let age_ms = head.age_ms(now);
        let spread_ms = part_ms / 2 * (head.spread() % SPREAD_STEPS) / SPREAD_STEPS;
        age_ms + part_ms >= life_ms + spread_ms
    }
}
