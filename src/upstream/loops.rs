//! Do our questions come back to us?
//!
//! *Suspected* when a client asks what we are asking at that moment. Ordinary clients do that too, so a suspicion only
//! starts a *probe*: a random label under the same name is asked of the group's servers, and nobody but us knows it. A
//! probe goes only where the question itself may go: it carries the same name.
//! *Proved* when a client asks for that name; then the one server it was sent to is left out for a time.
//!
//! The probe stands under an ordinary name, because resolvers answer special names themselves and would hide the loop.

use super::Inner;
use super::reply::{Sent, Shape};
use super::servers::Server;
use super::sockets::Need;
use super::transport::{Channel, Way};
use crate::clock::Tick;
use crate::config::GroupId;
use crate::dns::{Name, QuestionKey, Rtype};
use crate::stats::Counter;
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Cells of the table of questions under way; two questions in one cell hide each other, which delays a suspicion.
const CELLS: usize = 4096;
/// Probes waited for at once.
const MAX_PROBES: usize = 64;
/// How long a probe may take to come back: the patience of the slowest resolver on the way.
const PROBE_KEPT: Duration = Duration::from_secs(10);
/// A group is probed at most so often: clients that ask the same question at once are no reason for traffic.
const PROBE_PAUSE: Duration = Duration::from_secs(10);
/// The low bits of a cell: the group being asked, [`ONLY_PRIVATE`], [`TAKEN`].
const WHERE_BITS: u64 = 0x3_ffff;
/// Only private servers of the group may be asked.
const ONLY_PRIVATE: u64 = 0x1_0000;
/// Keeps a value from being 0, which means free.
const TAKEN: u64 = 0x2_0000;
/// Random octets of a probe's label, as hexadecimal digits: 64 bits that nobody guesses.
const PROBE_BITS: u32 = 64;

#[derive(Debug)]
pub(super) struct Loops {
    /// Hash of a question under way above [`WHERE_BITS`]; 0 is free.
    cells: Box<[AtomicU64]>,
    hasher: foldhash::fast::RandomState,
    probes: Mutex<Vec<Probe>>,
    probing: AtomicUsize,
    probed: Mutex<Vec<(GroupId, Tick)>>,
}

#[derive(Debug)]
struct Probe {
    qname: Name,
    server: Arc<Server>,
    until: Tick,
}

impl Default for Loops {
    fn default() -> Self {
        Self {
            cells: std::iter::repeat_with(AtomicU64::default).take(CELLS).collect(),
            hasher: foldhash::fast::RandomState::default(),
            probes: Mutex::default(),
            probing: AtomicUsize::new(0),
            probed: Mutex::default(),
        }
    }
}

/// A question under way; it is forgotten when this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    cell: &'a AtomicU64,
    value: u64,
}

impl UnderWay<'_> {
    /// Notes that the question has been handed to another group.
    pub(super) fn hand_to(&mut self, group: GroupId) {
        let value = (self.value & !0xffff) | u64::from(group.0);
        // Another question may have taken the cell meanwhile: then it stays.
        let _ = self.cell.compare_exchange(self.value, value, Ordering::Relaxed, Ordering::Relaxed);
        self.value = value;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        // Another question may have taken the cell meanwhile: then it stays.
        let _ = self.cell.compare_exchange(self.value, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Loops {
    /// Notes that a question is being asked of a group, maybe of its private servers only.
    pub(super) fn under_way(&self, question: &QuestionKey, group: GroupId, only_private: bool) -> UnderWay<'_> {
        let (cell, hash) = self.cell(question);
        let privacy = if only_private { ONLY_PRIVATE } else { 0 };
        let value = (hash & !WHERE_BITS) | TAKEN | privacy | u64::from(group.0);
        cell.store(value, Ordering::Relaxed);
        UnderWay { cell, value }
    }

    fn cell(&self, question: &QuestionKey) -> (&AtomicU64, u64) {
        let hash = self.hasher.hash_one((&question.qname, question.qtype));
        let at = usize::try_from(hash >> 32).unwrap_or(0) % CELLS;
        (&self.cells[at], hash)
    }

    /// Returns the group that is being asked this very question, and whether only its private servers are.
    fn suspects(&self, question: &QuestionKey) -> Option<(GroupId, bool)> {
        let (cell, hash) = self.cell(question);
        let value = cell.load(Ordering::Relaxed);
        let group = u16::try_from(value & 0xffff).unwrap_or(0);
        let same = value != 0 && value & !WHERE_BITS == hash & !WHERE_BITS;
        same.then_some((GroupId(group), value & ONLY_PRIVATE != 0))
    }

    /// Returns the server that a probe with this name was sent to.
    fn proves(&self, qname: &Name) -> Option<Arc<Server>> {
        if self.probing.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        let at = probes.iter().position(|probe| probe.qname == *qname)?;
        let server = probes.swap_remove(at).server;
        self.probing.store(probes.len(), Ordering::Relaxed);
        Some(server)
    }

    /// Claims the right to probe a group; false when it was probed a moment ago.
    fn claim(&self, group: GroupId, now: Tick) -> bool {
        let mut probed = self.probed.lock().unwrap_or_else(PoisonError::into_inner);
        probed.retain(|(_, at)| now.since(*at) < PROBE_PAUSE);
        let free = probed.iter().all(|(other, _)| *other != group);
        if free {
            probed.push((group, now));
        }
        free
    }

    /// Notes a probe; false when too many are out.
    fn expect(&self, qname: Name, server: Arc<Server>, now: Tick) -> bool {
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        probes.retain(|probe| now < probe.until);
        let free = probes.len() < MAX_PROBES;
        if free {
            probes.push(Probe { qname, server, until: now.plus(PROBE_KEPT) });
        }
        self.probing.store(probes.len(), Ordering::Relaxed);
        free
    }
}

/// See [`super::Upstreams::note_arrival`].
pub(super) fn note_arrival(inner: &Arc<Inner>, question: &QuestionKey) {
    if let Some(server) = inner.loops.proves(&question.qname) {
        server.health.looped(inner.clock.now());
        inner.stats.count(Counter::UpstreamLoops);
        tracing::warn!(upstream = %server.info.label, address = %server.info.address, "upstream leads back to us; left out for a time");
        return;
    }
    let Some((group, only_private)) = inner.loops.suspects(question) else { return };
    let now = inner.clock.now();
    if !inner.loops.claim(group, now) {
        return;
    }
    for server in inner.groups.members(group).iter().filter(|server| server.may_be_asked(only_private)) {
        probe(inner, server, &question.qname, now);
    }
}

/// Sends one probe; whether it is answered does not matter, only whether it comes back.
fn probe(inner: &Arc<Inner>, server: &Arc<Server>, under: &Name, now: Tick) {
    let digits = usize::try_from(PROBE_BITS / 4).unwrap_or(16);
    let label = format!("{:0digits$x}", rand::random::<u64>());
    // A name too long to take one more label gives way to its parent.
    let Ok(qname) = under
        .prepend(label.as_bytes())
        .or_else(|_| under.parent().unwrap_or_else(Name::root).prepend(label.as_bytes()))
    else {
        return;
    };
    if !inner.loops.expect(qname.clone(), Arc::clone(server), now) {
        inner.stats.count_at_bound(Counter::ProbesFull);
        return;
    }
    let question = QuestionKey { qname, qtype: Rtype::A, dnssec_ok: false, checking_disabled: false };
    let transport = server.transport();
    let (address, padded) = (server.ways.address(transport), transport.is_encrypted());
    let sent = Sent::new(&question, Shape { edns: server.health.habits(now).edns, mixed_case: false, padded });
    let to = (address, &*server.ways);
    let Some(way) = Way::reserve(&inner.net, to, transport, &inner.sockets, Need::Speed) else {
        inner.stats.count_at_bound(Counter::UpstreamSocketsFull);
        return;
    };
    inner.stats.count(Counter::UpstreamQueries);
    server.health.sent();
    if let Ok(mut channel) = Channel::open(&inner.net, &inner.pool, to, way, &sent.bytes) {
        // The socket stays open for the reply: a closed one would answer with an ICMP error, which confuses some servers.
        tokio::spawn(async move {
            let _ = tokio::time::timeout(PROBE_KEPT, poll_fn(|cx| channel.poll(cx))).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::servers::ServerInfo;

    #[test]
    fn of_two_questions_in_one_cell_the_later_is_seen_and_the_other_only_missed() {
        let loops = Loops::default();
        let question = |n: usize| {
            let qname = Name::parse(&format!("n{n}.test")).unwrap();
            QuestionKey { qname, qtype: Rtype::A, dnssec_ok: false, checking_disabled: false }
        };
        let first = question(0);
        let same_cell = |other: &QuestionKey| std::ptr::eq(loops.cell(other).0, loops.cell(&first).0);
        let other = (1..100 * CELLS).map(question).find(same_cell).expect("one in 4,096 is in the same cell");
        let first_under_way = loops.under_way(&first, GroupId(1), false);
        assert_eq!((loops.suspects(&first), loops.suspects(&other)), (Some((GroupId(1), false)), None));
        let other_under_way = loops.under_way(&other, GroupId(2), true);
        assert_eq!((loops.suspects(&first), loops.suspects(&other)), (None, Some((GroupId(2), true))));
        drop(first_under_way);
        assert_eq!(loops.suspects(&other), Some((GroupId(2), true)), "the end of the one does not end the other");
        drop(other_under_way);
        assert_eq!(loops.suspects(&other), None);
    }

    #[test]
    fn a_group_is_probed_now_and_then_whatever_others_are() {
        let loops = Loops::default();
        let start = Tick(1_000_000);
        assert!(loops.claim(GroupId(1), start) && loops.claim(GroupId(2), start));
        assert!(!loops.claim(GroupId(1), Tick(start.plus(PROBE_PAUSE).0 - 1)));
        assert!(loops.claim(GroupId(1), start.plus(PROBE_PAUSE)));
        assert_eq!(loops.probed.lock().unwrap().len(), 1, "what is over is forgotten");
    }

    #[test]
    fn probes_under_way_have_a_bound_and_a_time() {
        let loops = Loops::default();
        let info = ServerInfo {
            label: "g/s".into(),
            address: "192.0.2.1:53".parse().unwrap(),
            transport: crate::config::UpstreamTransport::Udp,
            private: false,
            operator: "192.0.2.1".into(),
        };
        let server = Arc::new(Server::new(info));
        let expect =
            |n: usize, now| loops.expect(Name::parse(&format!("p{n}.test")).unwrap(), Arc::clone(&server), now);
        let start = Tick(1_000_000);
        assert!((0..MAX_PROBES).all(|n| expect(n, start)));
        assert!(!expect(MAX_PROBES, start));
        assert!(expect(MAX_PROBES, start.plus(PROBE_KEPT)));
        assert_eq!(loops.probing.load(Ordering::Relaxed), 1);
    }
}
