//! The TCP connections of one thread: who they are, and which goes when there are too many.

use super::limits::party;
use crate::dns::Arrival;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Unwritten octets, answers of questions already in work included, beyond which the connection of a client that does not
/// read is closed: the answer that is being written and one more of the largest size. All such connections at once hold
/// 64 MiB at the very most.
const CLOSE_UNWRITTEN_BYTES: usize = 2 * ((64 << 10) + 2);

/// The connections of one worker.
#[derive(Default)]
pub(super) struct Connections {
    open: RefCell<BTreeMap<u64, Rc<Peer>>>,
    next: Cell<u64>,
}

impl Connections {
    /// Takes a connection in and returns its number.
    pub(super) fn add(&self, peer: &Rc<Peer>) -> u64 {
        let id = self.next.get();
        self.next.set(id + 1);
        self.open.borrow_mut().insert(id, Rc::clone(peer));
        id
    }

    /// Closes a connection of the client that has most of them: the one idle longest, and one with questions in work
    /// only when all have some. Tells whether there was one.
    pub(super) fn evict(&self) -> bool {
        let open = self.open.borrow();
        let mut held: HashMap<IpAddr, usize> = HashMap::new();
        for peer in open.values().filter(|peer| !peer.closing.get()) {
            *held.entry(party(peer.arrival.client.ip())).or_default() += 1;
        }
        let most = |peer: &Peer| Reverse(held.get(&party(peer.arrival.client.ip())).copied());
        let oldest = open
            .values()
            .filter(|peer| !peer.closing.get())
            .min_by_key(|peer| (most(peer), peer.in_flight.get() > 0, peer.last_frame.get()));
        if let Some(peer) = oldest {
            peer.close();
        }
        oldest.is_some()
    }

    /// Forgets a connection that has ended.
    pub(super) fn remove(&self, id: u64) {
        self.open.borrow_mut().remove(&id);
    }

    /// Lets every connection look at what phase the worker is in.
    pub(super) fn wake_all(&self) {
        for peer in self.open.borrow().values() {
            peer.wake.notify_one();
        }
    }
}

/// What the task of a connection shares with the tasks of its questions.
pub(super) struct Peer {
    pub(super) arrival: Arrival,
    pub(super) wake: Notify,
    /// Answers, framed, not written yet.
    pub(super) out: RefCell<Vec<u8>>,
    pub(super) in_flight: Cell<usize>,
    pub(super) last_frame: Cell<Instant>,
    pub(super) closing: Cell<bool>,
    /// The socket takes no more: the client does not read.
    pub(super) blocked: Cell<bool>,
}

impl Peer {
    /// Makes the shared part of a connection accepted at `now`.
    pub(super) fn new(arrival: Arrival, now: Instant) -> Rc<Self> {
        Rc::new(Self {
            arrival,
            wake: Notify::new(),
            out: RefCell::default(),
            in_flight: Cell::new(0),
            last_frame: Cell::new(now),
            closing: Cell::new(false),
            blocked: Cell::new(false),
        })
    }

    fn close(&self) {
        self.closing.set(true);
        self.wake.notify_one();
    }

    /// Takes the answer of a task; tells whether it can be sent.
    pub(super) fn push(&self, answer: &[u8]) -> bool {
        self.in_flight.set(self.in_flight.get() - 1);
        let mut out = self.out.borrow_mut();
        let length = u16::try_from(answer.len()).ok().filter(|_| !self.closing.get());
        if let Some(length) = length {
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(answer);
        }
        if self.blocked.get() {
            self.close_when_too_much_waits(out.len());
        }
        self.wake.notify_one();
        length.is_some()
    }

    /// Closes the connection of a client that does not read. Many answers at once are written before that is judged.
    pub(super) fn close_when_too_much_waits(&self, unwritten_bytes: usize) {
        if unwritten_bytes > CLOSE_UNWRITTEN_BYTES {
            self.closing.set(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Transport;
    use std::time::Duration;

    fn peer(connections: &Connections, client: &str, last_frame: Instant) -> Rc<Peer> {
        let (client, local) = (client.parse().unwrap(), "192.0.2.53:53".parse().unwrap());
        let peer = Peer::new(Arrival { client, local, transport: Transport::Tcp }, last_frame);
        connections.add(&peer);
        peer
    }

    #[tokio::test]
    async fn whoever_has_most_connections_loses_one() {
        let connections = Connections::default();
        let now = Instant::now();
        let idle_for = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap();
        let polite = peer(&connections, "198.51.100.1:1000", idle_for(9));
        let hog: Vec<_> =
            (0..3).map(|at| peer(&connections, &format!("198.51.100.2:{}", 2000 + at), idle_for(at))).collect();
        for _ in 0..2 {
            assert!(connections.evict());
        }
        assert!(hog[1].closing.get() && hog[2].closing.get(), "its oldest ones");
        assert!(!hog[0].closing.get() && !polite.closing.get());
        assert!(connections.evict());
        assert!(polite.closing.get(), "with one each, the one idle longest");
    }
}
