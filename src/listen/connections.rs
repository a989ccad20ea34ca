//! The TCP connections of one thread: who they are, and which goes when there are too many.

use super::serving::Arrival;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Unwritten octets, answers of questions already in work included, beyond which the connection is closed: the answer
/// that is being written and one more of the largest size. All connections at once hold 64 MiB at the very most.
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

    /// Closes the connection idle longest; one with questions in work only when all have some. Tells whether there
    /// was one.
    pub(super) fn evict(&self) -> bool {
        let open = self.open.borrow();
        let oldest = open
            .values()
            .filter(|peer| !peer.closing.get())
            .min_by_key(|peer| (peer.in_flight.get() > 0, peer.last_frame.get()));
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
        if out.len() > CLOSE_UNWRITTEN_BYTES {
            self.closing.set(true);
        }
        self.wake.notify_one();
        length.is_some()
    }
}
