//! Answers kept for the next who asks.
//!
//! Decides whether an answer may be kept and for how long ([`ttl`]), finds it again by everything that may change
//! it ([`key`]), and hands it out as bytes for one client ([`store`]), also past its TTL when nothing better is to be
//! had ([`stale`]), and across restarts ([`persist`]); says which entries are worth asking for again (`prefetch`); [`inflight`] makes one upstream query
//! of many identical questions. It does not decide what may be believed: only accepted answers come here.
//!
//! Every entry remembers the *epoch* of the configuration it was made under and a *fingerprint* of the decision
//! (route, group, zone) behind it. A reload starts an epoch with [`Cache::next_epoch`]; older entries are then
//! invisible to the fast path until the slow path has asked zone and route again and found the same fingerprint
//! ([`Cache::revalidate`]). So a reload makes exactly the entries concerned disappear, and at once.
//!
//! Absent on purpose: RRsets of one answer are never used for another question, so nothing an upstream adds to a
//! reply can be served under a name that was not asked (CacheFlush, MaginotDNS).

mod entry;
pub mod inflight;
pub mod key;
mod list;
pub mod persist;
mod prefetch;
pub mod stale;
pub mod store;
pub mod ttl;

pub use inflight::{Guard, InFlight, Role};
pub use key::{KeyBuf, Lookup};
pub use list::{Listed, Usable};
pub use stale::Staleness;
pub use store::{Cache, Cached, Flush, Held, Hit, Inserted, Serve, Terms};
pub use ttl::{Lifetime, cap_ttls, is_failure, lifetime, ttl_cap};
