//! UDP workers and the fast path.
//!
//! A wake-up reads up to 64 datagrams with one system call, answers what it can into one buffer and sends all of it
//! with another. Nothing is allocated on that way. What needs work becomes a task on the same thread; answers of
//! tasks that end together leave together.

use super::Answerer;
use super::limits::Permit;
use super::serving::{Busy, Serving, Sight, TALLY, Tally};
use crate::dns::{Arrival, Query, Rcode, Transport};
use crate::stats::{Counter, Noted, Stats};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Datagrams read, and sent, at once: beyond 32 the system calls' share is no longer measurable.
const BATCH: usize = 64;
/// Datagrams read at once when they come few at a time: preparing the call for a whole batch costs as much as an answer.
const SMALL_BATCH: usize = 8;
/// Octets of a question read; a longer one is malformed. Questions fit an Ethernet frame with every option known.
const MAX_QUESTION_BYTES: usize = 2048;
/// Batches read before other tasks of the thread get their turn: about half a millisecond of hits.
const BATCHES_PER_TURN: usize = 4;
/// Batches read from a socket that is being closed: what its buffer may reasonably hold, and a bound in a flood.
const LAST_BATCHES: usize = 64;
/// Pause after a turn in which receiving only failed: an error that stays must not take the whole thread.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);
/// Room for a full batch of answers of the default payload size, so that the buffer never grows under load.
const OUT_BYTES: usize = BATCH * 1232;

/// The buffers of one worker, used by its sockets in turn.
pub(super) struct Batch {
    input: Box<[u8]>,
    /// All answers, one after the other.
    out: Vec<u8>,
    tally: Tally,
    /// Whom each answer is for.
    peers: Vec<Option<SockaddrStorage>>,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            input: vec![0; BATCH * MAX_QUESTION_BYTES].into(),
            out: Vec::with_capacity(OUT_BYTES),
            tally: Tally::default(),
            peers: Vec::with_capacity(BATCH),
        }
    }
}

/// One worker's socket of one address.
pub(super) struct Socket {
    fd: AsyncFd<UdpSocket>,
    local: SocketAddr,
    /// The thread's buffers.
    batch: Rc<RefCell<Batch>>,
    receiving: RefCell<MultiHeaders<SockaddrStorage>>,
    /// Datagrams come so fast that [`BATCH`] of them are asked for at once, in place of [`SMALL_BATCH`].
    is_busy: Cell<bool>,
    sending: RefCell<MultiHeaders<SockaddrStorage>>,
    /// Answers of tasks, to be sent together. As long as the permits in it at most.
    waiting: RefCell<VecDeque<Waiting>>,
}

struct Waiting {
    peer: SockaddrStorage,
    answer: Vec<u8>,
    _permit: Permit,
}

impl Socket {
    /// Registers a socket with the runtime of this thread.
    pub(super) fn new(socket: UdpSocket, local: SocketAddr, batch: Rc<RefCell<Batch>>) -> io::Result<Self> {
        // READABLE only: with WRITABLE every answer that leaves the kernel would wake the thread.
        #[expect(deprecated, reason = "its successor is unsafe; a `UdpSocket` keeps its descriptor, as that asks for")]
        let fd = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self {
            fd,
            local,
            batch,
            receiving: RefCell::new(MultiHeaders::preallocate(BATCH, None)),
            is_busy: Cell::new(false),
            sending: RefCell::new(MultiHeaders::preallocate(BATCH, None)),
            waiting: RefCell::default(),
        })
    }

    /// Sends up to a batch of answers. What the kernel does not take is counted and lost: a datagram may be, and
    /// waiting for one peer's route or a full queue would hold up everybody.
    fn send(&self, peers: &[Option<SockaddrStorage>], answers: &[[IoSlice<'_>; 1]], stats: &Stats) {
        let mut sending = self.sending.borrow_mut();
        let mut at = 0;
        while at < peers.len() {
            let fd = self.fd.get_ref().as_raw_fd();
            let sent = sendmmsg(fd, &mut sending, &answers[at..], &peers[at..], [], MsgFlags::MSG_DONTWAIT)
                .map(Iterator::count);
            match sent {
                Ok(sent) if sent > 0 => at += sent,
                Err(Errno::EINTR) => {}
                // The queue is full: the rest would fail too.
                Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                    stats.add(Counter::SendFailed, u64::try_from(peers.len() - at).unwrap_or(0));
                    return;
                }
                // This one cannot be sent (no route, too long, refused by a filter); the others can.
                Ok(_) | Err(_) => {
                    stats.count(Counter::SendFailed);
                    at += 1;
                }
            }
        }
    }

    /// Sends the answers of all tasks that have ended.
    fn send_waiting(&self, stats: &Stats) {
        let mut waiting = self.waiting.borrow_mut();
        while !waiting.is_empty() {
            let count = waiting.len().min(BATCH);
            let mut peers = [const { None }; BATCH];
            let mut answers = [[IoSlice::new(&[])]; BATCH];
            for ((item, peer), answer) in waiting.iter().zip(&mut peers).zip(&mut answers) {
                *peer = Some(item.peer);
                *answer = [IoSlice::new(&item.answer)];
            }
            self.send(&peers[..count], &answers[..count], stats);
            waiting.drain(..count);
        }
    }
}

const _: () = assert!(BATCH <= TALLY, "the answers of a batch are published together");

/// Reads and answers until it is aborted; every await is a safe place for that.
pub(super) async fn read<A: Answerer>(serving: Rc<Serving<A>>, socket: Rc<Socket>) {
    loop {
        let mut ready = match socket.fd.readable().await {
            Ok(ready) => ready,
            Err(error) => {
                tracing::error!(address = %socket.local, %error, "a socket cannot be waited for");
                return;
            }
        };
        let (mut drained, mut failures) = (false, 0);
        for _ in 0..BATCHES_PER_TURN {
            drained = match read_batch(&serving, &socket) {
                Ok(is_all) => is_all,
                Err(Errno::EINTR) => false,
                Err(Errno::EAGAIN) => true,
                // An error of an earlier send, reported here; it is taken back by being read.
                Err(error) => {
                    tracing::debug!(address = %socket.local, %error, "receiving failed");
                    failures += 1;
                    false
                }
            };
            if drained {
                ready.clear_ready();
                break;
            }
        }
        if failures == BATCHES_PER_TURN {
            tokio::time::sleep(FAILURE_PAUSE).await;
        } else if !drained {
            tokio::task::yield_now().await;
        }
    }
}

/// Answers what a socket already holds.
pub(super) fn read_last<A: Answerer>(serving: &Rc<Serving<A>>, socket: &Rc<Socket>) {
    for _ in 0..LAST_BATCHES {
        if read_batch(serving, socket).is_ok_and(|is_all| is_all) {
            return;
        }
    }
}

/// Reads one batch and answers it; returns whether the kernel had no more.
fn read_batch<A: Answerer>(serving: &Rc<Serving<A>>, socket: &Rc<Socket>) -> Result<bool, Errno> {
    if socket.is_busy.get() {
        read_up_to::<A, BATCH>(serving, socket)
    } else {
        read_up_to::<A, SMALL_BATCH>(serving, socket)
    }
}

/// Reads up to `N` datagrams. The lists the system calls need are made and left by every call, so short ones are shorter.
fn read_up_to<A: Answerer, const N: usize>(serving: &Rc<Serving<A>>, socket: &Rc<Socket>) -> Result<bool, Errno> {
    let mut batch = socket.batch.borrow_mut();
    let Batch { input, out, tally, peers } = &mut *batch;
    out.clear();
    peers.clear();

    let mut receiving = socket.receiving.borrow_mut();
    let mut rooms = input.chunks_exact_mut(MAX_QUESTION_BYTES);
    let mut slices: [[IoSliceMut<'_>; 1]; N] =
        std::array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
    let fd = socket.fd.get_ref().as_raw_fd();
    let datagrams = recvmmsg(fd, &mut receiving, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;

    let (now, mut fast) = (serving.answerer.now(), serving.answerer.fast_path());
    tally.begin(now);
    let (mut count, mut silent) = (0_usize, 0);
    for datagram in datagrams {
        count += 1;
        let Some(client) = datagram.address.as_ref().and_then(client_address) else {
            silent += 1;
            continue;
        };
        let start = out.len();
        let bytes = datagram.iovs().next().unwrap_or_default();
        let arrival = Arrival { client, local: socket.local, transport: Transport::Udp };
        let sight = if datagram.flags.contains(MsgFlags::MSG_TRUNC) && !is_response(bytes) {
            serving.fault(out, bytes, &arrival, (Rcode::FORMERR, false))
        } else {
            serving.look(&mut fast, bytes, &arrival, now, out)
        };
        match sight {
            Sight::Silent => silent += 1,
            Sight::Answered(cell) => {
                tally.add(Noted::new(cell, client, out.len() - start));
                peers.push(datagram.address);
            }
            Sight::Work(query, permit) => {
                if let Some(peer) = datagram.address {
                    tokio::task::spawn_local(work(serving.busy(), Rc::clone(socket), query, peer, permit));
                }
            }
        }
    }
    drop(fast);
    // Fewer than asked for: the kernel had no more, which is what EAGAIN would say at another call's cost.
    let is_all = count < N;
    socket.is_busy.set(count >= SMALL_BATCH);
    serving.stats.add(Counter::QueriesUdp, u64::try_from(count).unwrap_or(0));
    if silent > 0 {
        serving.stats.add(Counter::DroppedSilent, silent);
    }
    if !peers.is_empty() {
        let mut answers = [[IoSlice::new(&[])]; N];
        let mut rest = &**out;
        for (noted, answer) in tally.noted().iter().zip(&mut answers) {
            let (octets, later) = rest.split_at(noted.bytes());
            (*answer, rest) = ([IoSlice::new(octets)], later);
        }
        // Counted first, so that nobody holds an answer that the counters do not know.
        serving.count(tally);
        socket.send(peers, &answers[..peers.len()], &serving.stats);
        // What is remembered goes to memory that no core has at hand: nobody waits for that.
        serving.remember(tally, out, 0);
    }
    Ok(is_all)
}

/// A cut question is malformed, but a cut response is still met with silence.
fn is_response(bytes: &[u8]) -> bool {
    bytes.get(2).is_none_or(|flags| flags & 0x80 != 0)
}

fn client_address(peer: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = peer.as_sockaddr_in() {
        return Some(SocketAddr::from(*v4));
    }
    peer.as_sockaddr_in6().map(|v6| SocketAddr::from(*v6))
}

/// Works on one question and sends its answer, together with those of tasks that end in the same turn.
async fn work<A: Answerer>(
    serving: Busy<A>,
    socket: Rc<Socket>,
    query: Box<Query>,
    peer: SockaddrStorage,
    permit: Permit,
) {
    let answer = serving.work(query, &permit).await;
    let first = {
        let mut waiting = socket.waiting.borrow_mut();
        waiting.push_back(Waiting { peer, answer, _permit: permit });
        waiting.len() == 1
    };
    if first {
        // To the end of the thread's run queue: whoever is ready too puts its answer beside this one.
        next_turn().await;
        socket.send_waiting(&serving.stats);
    }
}

/// Lets every task that is ready run once. Unlike `yield_now` it does not go through the poller.
async fn next_turn() {
    let mut passed = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut passed, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
