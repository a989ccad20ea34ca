//! What is bounded on the client's side, and what happens at the bound.
//!
//! | Bound | At the bound |
//! | --- | --- |
//! | questions being worked on (`max_in_flight`, all workers together) | SERVFAIL with EDE 14, `in_flight_full_total` |
//! | TCP connections | the one idle longest is closed, `tcp_evicted_total` |
//! | questions in work on one connection | its next frames wait unread |
//! | octets waiting to be written to one connection | its next frames wait unread; far beyond it is closed |
//! | time for the rest of a frame, for reading an answer, between questions | the connection is closed, `tcp_idle_closed_total` |
//!
//! The first two are also said in the log, at most once a minute each.

use crate::clock::Tick;
use crate::config;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// TCP connections held at once over all workers. Each may hold some 80 KiB when its client does not read, so that
/// all of them together stay below 40 MiB; 1024 file descriptors, the usual soft limit, leave room for upstreams.
pub const MAX_CONNECTIONS: usize = 512;
/// Questions in work on one connection; BIND's `tcp-clients` pipelining limit is 23, unbound works on one at a time.
pub const MAX_CONNECTION_IN_FLIGHT: usize = 128;
/// Time for the rest of a frame once its first octet came, whatever the idle timeout: a question is one segment.
pub const PARTIAL_FRAME_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the log says that the same bound was reached.
const NOTICE_EVERY: Duration = Duration::from_secs(60);

/// A bound that the log speaks of now and then. Milliseconds of the last time; 0 is never.
#[derive(Debug, Default)]
pub(super) struct Notice(AtomicU64);

impl Notice {
    /// Tells one caller that it is time for a line; then nobody until [`NOTICE_EVERY`] is over.
    pub(super) fn is_due(&self, now: Tick) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        (last == 0 || now.since(Tick(last)) >= NOTICE_EVERY)
            && self.0.compare_exchange(last, now.0.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// The bounds in force, shared by all workers; a reload may change some of them.
#[derive(Debug)]
pub(super) struct Limits {
    in_flight: AtomicUsize,
    max_in_flight: AtomicUsize,
    connections: AtomicUsize,
    /// At most so many connections.
    pub(super) max_connections: usize,
    /// Time for the rest of a frame.
    pub(super) partial_frame_timeout: Duration,
    idle_timeout_ms: AtomicU64,
    extended_errors: AtomicBool,
    in_flight_notice: Notice,
    connections_notice: Notice,
}

impl Limits {
    /// Takes the limits out of a configuration.
    pub(super) fn new(config: &config::Server) -> Self {
        let limits = Self {
            in_flight: AtomicUsize::new(0),
            max_in_flight: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            max_connections: MAX_CONNECTIONS,
            partial_frame_timeout: PARTIAL_FRAME_TIMEOUT,
            idle_timeout_ms: AtomicU64::new(0),
            extended_errors: AtomicBool::new(true),
            in_flight_notice: Notice::default(),
            connections_notice: Notice::default(),
        };
        limits.reconfigure(config);
        limits
    }

    /// Takes over what a reload may change.
    pub(super) fn reconfigure(&self, config: &config::Server) {
        let idle_ms = u64::try_from(config.tcp_idle_timeout.as_millis()).unwrap_or(u64::MAX);
        self.max_in_flight.store(config.max_in_flight, Ordering::Relaxed);
        self.idle_timeout_ms.store(idle_ms, Ordering::Relaxed);
        self.extended_errors.store(config.edns_errors, Ordering::Relaxed);
    }

    /// Returns how long a connection may be idle.
    pub(super) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms.load(Ordering::Relaxed))
    }

    /// Tells whether answers carry extended errors.
    pub(super) fn extended_errors(&self) -> bool {
        self.extended_errors.load(Ordering::Relaxed)
    }

    /// Admits one more question to be worked on, unless `max_in_flight` are.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Permit> {
        let max = self.max_in_flight.load(Ordering::Relaxed);
        take(&self.in_flight, max).then(|| Permit { limits: Arc::clone(self), kind: Kind::Question })
    }

    /// Says in the log that a question was turned away.
    pub(super) fn note_full(&self, now: Tick) {
        if self.in_flight_notice.is_due(now) {
            let max_in_flight = self.max_in_flight.load(Ordering::Relaxed);
            tracing::warn!(max_in_flight, "too many questions in work; further ones get SERVFAIL");
        }
    }

    /// Says in the log that a connection was closed for another.
    pub(super) fn note_eviction(&self, now: Tick) {
        if self.connections_notice.is_due(now) {
            tracing::warn!(
                max_connections = self.max_connections,
                "too many TCP connections; the idle ones are closed"
            );
        }
    }

    /// Returns how many questions are being worked on.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Admits one more connection, unless the most there may be are open.
    pub(super) fn admit_connection(self: &Arc<Self>) -> Option<Permit> {
        take(&self.connections, self.max_connections)
            .then(|| Permit { limits: Arc::clone(self), kind: Kind::Connection })
    }

    /// Admits a connection in the place of one that is being closed: the sum is over by one until that has ended.
    pub(super) fn admit_replacement(self: &Arc<Self>) -> Permit {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Permit { limits: Arc::clone(self), kind: Kind::Connection }
    }
}

fn take(cell: &AtomicUsize, max: usize) -> bool {
    cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| (used < max).then_some(used + 1)).is_ok()
}

#[derive(Debug)]
enum Kind {
    Question,
    Connection,
}

/// A place below a bound, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    limits: Arc<Limits>,
    kind: Kind,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let cell = match self.kind {
            Kind::Question => &self.limits.in_flight,
            Kind::Connection => &self.limits.connections,
        };
        cell.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn server(max_in_flight: usize) -> config::Server {
        config::Server {
            listen: Vec::<SocketAddr>::new(),
            udp_payload_bytes: 1232,
            workers: 1,
            max_in_flight,
            tcp_idle_timeout: Duration::from_secs(10),
            edns_errors: true,
            allow: Vec::new(),
        }
    }

    #[test]
    fn a_bound_is_spoken_of_once_a_minute() {
        let notice = Notice::default();
        let due: Vec<u64> = (0..200).filter(|&second| notice.is_due(Tick(second * 1000))).collect();
        assert_eq!(due, [0, 61, 121, 181]);
    }

    #[test]
    fn permits_end_at_the_bound_and_come_back_when_dropped() {
        let limits = Arc::new(Limits::new(&server(2)));
        let first = limits.admit().unwrap();
        let _second = limits.admit().unwrap();
        assert!(limits.admit().is_none());
        drop(first);
        assert!(limits.admit().is_some());
    }

    #[test]
    fn a_lower_bound_after_a_reload_holds_for_new_questions() {
        let limits = Arc::new(Limits::new(&server(2)));
        let _held = (limits.admit().unwrap(), limits.admit().unwrap());
        limits.reconfigure(&server(1));
        assert!(limits.admit().is_none());
        assert_eq!(limits.in_flight(), 2);
    }
}
