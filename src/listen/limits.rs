//! What is bounded on the client's side, and what happens at the bound.
//!
//! | Bound | At the bound |
//! | --- | --- |
//! | questions being worked on (`max_in_flight`, all workers together) | the oldest of the second half gives way when it is slow, `gave_way_total`; else SERVFAIL with EDE 14, `in_flight_full_total` |
//! | questions one client has in work | the same among its own, `client_share_full_total` |
//! | TCP connections | the one idle longest of whoever has most is closed, `tcp_evicted_total` |
//! | questions in work on one connection | its next frames wait unread |
//! | octets waiting to be written to one connection | its next frames wait unread; far beyond it is closed |
//! | time for the rest of a frame, for reading an answer, between questions | the connection is closed, `tcp_idle_closed_total` |
//!
//! Slow questions of one client, or to one dead upstream, must not take all the room. Half of the places are *firm*:
//! whoever has one is worked on to the end of its budget, so that slow upstreams still answer under any load. Who has
//! one of the others may be told to give way once it has been in work for a while (unbound does the same, and calls it
//! `jostle-timeout`), so that quick questions get through however many slow ones there are.

use crate::config;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// TCP connections held at once over all workers. Each may hold some 80 KiB when its client does not read, so that
/// all of them together stay below 40 MiB; 1024 file descriptors, the usual soft limit, leave room for upstreams.
pub const MAX_CONNECTIONS: usize = 512;
/// Questions in work on one connection; BIND's `tcp-clients` pipelining limit is 23, unbound works on one at a time.
pub const MAX_CONNECTION_IN_FLIGHT: usize = 128;
/// Time for the rest of a frame once its first octet came, whatever the idle timeout: a question is one segment.
pub const PARTIAL_FRAME_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a question that is not firm is worked on before it may have to give way: unbound's `jostle-timeout`.
pub const GIVE_WAY_AFTER: Duration = Duration::from_millis(200);
/// A client may have so many times as many questions in work as places are free: alone it gets seven eighths of all,
/// two get seven fifteenths each, and however many there are, some places stay free for the next.
pub const CLIENT_SHARE: usize = 7;
/// Counts of questions in work by client; two clients in one cell share what one may have.
const CLIENT_CELLS: usize = 1024;
/// Questions looked at to find one of the same client that can give way; whoever has most of them is soon met.
const MAX_LOOKED_AT: usize = 16;

/// The bounds in force, shared by all workers; a reload may change some of them.
#[derive(Debug)]
pub(super) struct Limits {
    firm: AtomicUsize,
    loose: AtomicUsize,
    /// Questions that may be told to give way, the oldest first.
    by_age: Mutex<BTreeMap<u64, Slow>>,
    arrivals: AtomicU64,
    clients: Box<[AtomicUsize]>,
    hasher: foldhash::fast::RandomState,
    /// How long a question that is not firm is left alone.
    pub(super) give_way_after: Duration,
    max_in_flight: AtomicUsize,
    connections: AtomicUsize,
    /// At most so many connections.
    pub(super) max_connections: usize,
    /// Time for the rest of a frame.
    pub(super) partial_frame_timeout: Duration,
    idle_timeout_ms: AtomicU64,
    extended_errors: AtomicBool,
}

impl Limits {
    /// Takes the limits out of a configuration.
    pub(super) fn new(config: &config::Server) -> Self {
        let limits = Self {
            firm: AtomicUsize::new(0),
            loose: AtomicUsize::new(0),
            by_age: Mutex::default(),
            arrivals: AtomicU64::new(0),
            clients: std::iter::repeat_with(AtomicUsize::default).take(CLIENT_CELLS).collect(),
            hasher: foldhash::fast::RandomState::default(),
            give_way_after: GIVE_WAY_AFTER,
            max_in_flight: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            max_connections: MAX_CONNECTIONS,
            partial_frame_timeout: PARTIAL_FRAME_TIMEOUT,
            idle_timeout_ms: AtomicU64::new(0),
            extended_errors: AtomicBool::new(true),
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

    /// Admits one more question of a client to be worked on, unless there is no room for it and nobody who can give
    /// way.
    pub(super) fn admit(self: &Arc<Self>, client: IpAddr) -> Result<Permit, Refusal> {
        let max = self.max_in_flight.load(Ordering::Relaxed);
        let cell = self.cell_of(client);
        let free = max.saturating_sub(self.in_flight());
        let has_share = self.clients[cell].load(Ordering::Relaxed) >= CLIENT_SHARE * free.max(1);
        let kind = if !has_share && take(&self.firm, max.div_ceil(2)) {
            Kind::Firm(cell)
        } else if !has_share && take(&self.loose, max / 2) {
            self.loose(cell)
        } else if self.make_room(has_share.then_some(cell)) {
            // The sum is over by one until the other has ended.
            self.loose.fetch_add(1, Ordering::Relaxed);
            self.loose(cell)
        } else {
            return Err(if has_share && free > 0 { Refusal::Share } else { Refusal::Full });
        };
        self.clients[cell].fetch_add(1, Ordering::Relaxed);
        Ok(Permit { limits: Arc::clone(self), kind })
    }

    /// Tells the oldest question, of one client when it is given, to give way; false when none has been in work for
    /// long.
    fn make_room(&self, cell: Option<usize>) -> bool {
        let mut by_age = self.by_age();
        let now = Instant::now();
        let slow = |slow: &Slow| now.saturating_duration_since(slow.since) >= self.give_way_after;
        let of_client = |slow: &Slow| cell.is_none_or(|cell| cell == slow.cell);
        let mut oldest = by_age.iter().take(MAX_LOOKED_AT).take_while(|(_, question)| slow(question));
        let Some(number) = oldest.find(|(_, question)| of_client(question)).map(|(number, _)| *number) else {
            return false;
        };
        if let Some(question) = by_age.remove(&number) {
            question.give_way.notify_one();
        }
        true
    }

    fn loose(&self, cell: usize) -> Kind {
        let number = self.arrivals.fetch_add(1, Ordering::Relaxed);
        let give_way = Arc::new(Notify::new());
        let question = Slow { since: Instant::now(), cell, give_way: Arc::clone(&give_way) };
        self.by_age().insert(number, question);
        Kind::Loose { cell, number, give_way }
    }

    /// Locks the list. A panic while it was held cannot leave it half-changed: each change is one call.
    fn by_age(&self) -> MutexGuard<'_, BTreeMap<u64, Slow>> {
        self.by_age.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cell_of(&self, client: IpAddr) -> usize {
        let hash = self.hasher.hash_one(party(client));
        usize::try_from(hash >> 32).unwrap_or(0) % CLIENT_CELLS
    }

    /// Returns how many questions are being worked on.
    pub(super) fn in_flight(&self) -> usize {
        self.firm.load(Ordering::Relaxed) + self.loose.load(Ordering::Relaxed)
    }

    /// Returns how many connections are open.
    #[cfg(test)]
    pub(super) fn open_connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
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

/// Returns what counts as one client: a machine, which in IPv6 has a whole /64 and on loopback every address.
pub(super) fn party(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        ip if ip.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        ip @ IpAddr::V4(_) => ip,
    }
}

/// Why a question is not worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// As many as may be are in work.
    Full,
    /// Its client has as many in work as it may.
    Share,
}

/// A question that may be told to give way.
#[derive(Debug)]
struct Slow {
    since: Instant,
    cell: usize,
    give_way: Arc<Notify>,
}

#[derive(Debug)]
enum Kind {
    Firm(usize),
    Loose { cell: usize, number: u64, give_way: Arc<Notify> },
    Connection,
}

/// A place below a bound, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    limits: Arc<Limits>,
    kind: Kind,
}

impl Permit {
    /// Waits until this one must give way, which most never must.
    pub(super) async fn give_way(&self) {
        match &self.kind {
            Kind::Loose { give_way, .. } => give_way.notified().await,
            Kind::Firm(_) | Kind::Connection => std::future::pending().await,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let limits = &self.limits;
        let (cell, client) = match &self.kind {
            Kind::Firm(cell) => (&limits.firm, Some(*cell)),
            Kind::Loose { cell, number, .. } => {
                limits.by_age().remove(number);
                (&limits.loose, Some(*cell))
            }
            Kind::Connection => (&limits.connections, None),
        };
        cell.fetch_sub(1, Ordering::Relaxed);
        if let Some(client) = client {
            limits.clients[client].fetch_sub(1, Ordering::Relaxed);
        }
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

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn other(number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(198, 51, 100, number))
    }

    #[test]
    fn permits_end_at_the_bound_and_come_back_when_dropped() {
        let limits = Arc::new(Limits::new(&server(2)));
        let first = limits.admit(CLIENT).unwrap();
        let _second = limits.admit(CLIENT).unwrap();
        assert_eq!(limits.admit(CLIENT).unwrap_err(), Refusal::Full);
        drop(first);
        assert!(limits.admit(CLIENT).is_ok());
    }

    #[test]
    fn a_lower_bound_after_a_reload_holds_for_new_questions() {
        let limits = Arc::new(Limits::new(&server(2)));
        let _held = (limits.admit(CLIENT).unwrap(), limits.admit(CLIENT).unwrap());
        limits.reconfigure(&server(1));
        assert!(limits.admit(CLIENT).is_err());
        assert_eq!(limits.in_flight(), 2);
    }

    #[test]
    fn one_client_leaves_room_for_others() {
        let limits = Arc::new(Limits::new(&server(4096)));
        let hog: Vec<Permit> = std::iter::from_fn(|| limits.admit(CLIENT).ok()).collect();
        assert_eq!(hog.len(), 4096 * CLIENT_SHARE / (CLIENT_SHARE + 1));
        assert_eq!(limits.admit(CLIENT).unwrap_err(), Refusal::Share);
        let others: Vec<Permit> = (0..=255).filter_map(|number| limits.admit(other(number)).ok()).collect();
        // A few may have drawn the cell of the one that has its share.
        assert!(others.len() > 240, "{}", others.len());
        assert!(limits.admit(CLIENT).is_err());
        drop((hog, others));
        assert_eq!(limits.in_flight(), 0);
        assert!(limits.clients.iter().all(|cell| cell.load(Ordering::Relaxed) == 0));
        assert!(limits.by_age().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_bound_the_oldest_slow_question_gives_way_and_firm_ones_never_do() {
        let limits = Arc::new(Limits::new(&server(8)));
        let held: Vec<Permit> = (0..8).map(|number| limits.admit(other(number)).unwrap()).collect();
        assert_eq!(limits.admit(CLIENT).unwrap_err(), Refusal::Full, "nobody has been in work for long");
        tokio::time::advance(GIVE_WAY_AFTER).await;
        let quick: Vec<Permit> = (0..4).map(|_| limits.admit(CLIENT).unwrap()).collect();
        assert!(limits.admit(CLIENT).is_err(), "half of all are firm, and the newcomers have only begun");
        for (at, permit) in held.iter().enumerate() {
            let told = tokio::time::timeout(Duration::ZERO, permit.give_way()).await.is_ok();
            assert_eq!(told, at >= 4, "question {at}");
        }
        assert_eq!(limits.in_flight(), 12, "until those who were told have ended");
        drop(held);
        assert_eq!(limits.in_flight(), 4);
        drop(quick);
    }

    #[tokio::test(start_paused = true)]
    async fn one_to_give_way_is_looked_for_among_the_sixteen_oldest() {
        let limits = Arc::new(Limits::new(&server(64)));
        let elsewhere = |client: &IpAddr| limits.cell_of(*client) != limits.cell_of(CLIENT);
        let mut others = (0..=255).map(other).filter(elsewhere).map(|client| limits.admit(client).unwrap());
        let firm: Vec<Permit> = others.by_ref().take(32).collect();
        let mut older: Vec<Permit> = others.by_ref().take(MAX_LOOKED_AT).collect();
        let hog: Vec<Permit> = std::iter::from_fn(|| limits.admit(CLIENT).ok()).collect();
        tokio::time::advance(GIVE_WAY_AFTER).await;
        assert_eq!(limits.admit(CLIENT).unwrap_err(), Refusal::Share, "its own are not among them");
        // The same number in work, but one of its own is the sixteenth.
        older.remove(0);
        let _newest = others.next().unwrap();
        let _next = limits.admit(CLIENT).unwrap();
        assert!(tokio::time::timeout(Duration::ZERO, hog[0].give_way()).await.is_ok());
        drop(firm);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_over_its_share_pushes_out_only_its_own() {
        let limits = Arc::new(Limits::new(&server(64)));
        let firm: Vec<Permit> = (0..32).map(|number| limits.admit(other(number)).unwrap()).collect();
        let elsewhere = |client: &IpAddr| limits.cell_of(*client) != limits.cell_of(CLIENT);
        let bystander = limits.admit((32..=255).map(other).find(elsewhere).unwrap()).unwrap();
        let hog: Vec<Permit> = std::iter::from_fn(|| limits.admit(CLIENT).ok()).collect();
        tokio::time::advance(GIVE_WAY_AFTER).await;
        let _next = limits.admit(CLIENT).unwrap();
        assert!(tokio::time::timeout(Duration::ZERO, hog[0].give_way()).await.is_ok());
        assert!(tokio::time::timeout(Duration::ZERO, bystander.give_way()).await.is_err());
        drop(firm);
    }

    #[test]
    fn a_machine_is_one_client() {
        let parsed = |text: &str| party(text.parse().unwrap());
        assert_eq!(parsed("127.0.0.1"), parsed("127.8.9.10"));
        assert_eq!(parsed("127.0.0.1"), parsed("::1"));
        assert_eq!(parsed("2001:db8::1"), parsed("2001:db8::ffff:1"));
        assert_ne!(parsed("2001:db8::1"), parsed("2001:db8:0:1::1"));
        assert_eq!(parsed("::ffff:192.0.2.1"), parsed("192.0.2.1"));
        assert_ne!(parsed("192.0.2.1"), parsed("192.0.2.2"));
    }
}
