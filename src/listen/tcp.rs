//! DNS over TCP (RFC 7766).
//!
//! All whole frames of one read are answered into one write; what needs work is answered when it is ready, in any
//! order (section 7). Buffers for reading and answering belong to the thread, so that an idle connection holds
//! none. A connection is read only as long as its client takes the answers.

use super::Answerer;
use super::connections::{Connections, Peer};
use super::limits::{MAX_CONNECTION_IN_FLIGHT, Permit};
use super::serving::{Busy, Phase, Serving, Sight, Tally};
use crate::clock::Tick;
use crate::dns::wire::{HEADER_BYTES, flag, u16_at};
use crate::dns::{Arrival, Query, Rcode, Transport};
use crate::stats::{Counter, Noted};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Octets read at once: some 500 questions, enough for the system calls' share to vanish.
const READ_BYTES: usize = 16 << 10;
/// Octets of a question kept; a longer one is answered FORMERR and its octets are skipped.
const MAX_QUESTION_BYTES: usize = 4096;
/// Unwritten octets beyond which no further frame of the connection is looked at: one answer of the largest size.
const MAX_UNWRITTEN_BYTES: usize = 64 << 10;
/// Octets of a frame's length (RFC 1035 section 4.2.2).
const LENGTH_BYTES: u8 = 2;
/// Reads before other tasks of the thread get their turn.
const READS_PER_TURN: usize = 4;
/// The pause after a failed accept, the first time; it doubles.
const FIRST_ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// The longest such pause: files may be there again at any moment.
const MAX_ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The buffers of one worker, used by its connections in turn.
struct Scratch {
    input: Box<[u8]>,
    answers: Answers,
}

/// Answers in their frames, and what is noted of them.
#[derive(Default)]
struct Answers {
    out: Vec<u8>,
    tally: Tally,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { input: vec![0; READ_BYTES].into(), answers: Answers::default() }
    }
}

/// What the connections of one thread have in common.
#[derive(Default)]
pub(super) struct Streams {
    scratch: RefCell<Scratch>,
    pub(super) connections: Connections,
}

/// Accepts until it is aborted.
pub(super) async fn accept<A: Answerer>(
    serving: Rc<Serving<A>>,
    streams: Rc<Streams>,
    listener: TcpListener,
    local: SocketAddr,
) {
    let mut pause = FIRST_ACCEPT_PAUSE;
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                pause = FIRST_ACCEPT_PAUSE;
                admit(&serving, &streams, stream, Arrival { client, local, transport: Transport::Tcp });
            }
            // The client left before it was served; nothing is short.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                serving.stats.count_at_bound(Counter::AcceptErrors);
                tracing::debug!(address = %local, %error, "accept failed");
                // Out of file descriptors, most likely: one that nobody uses is better spent on somebody new.
                if streams.connections.evict() {
                    serving.stats.count_at_bound(Counter::TcpEvicted);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_ACCEPT_PAUSE);
            }
        }
    }
}

fn admit<A: Answerer>(serving: &Rc<Serving<A>>, streams: &Rc<Streams>, stream: TcpStream, arrival: Arrival) {
    serving.stats.count(Counter::TcpConnections);
    let permit = serving.limits.admit_connection().or_else(|| {
        serving.stats.count_at_bound(Counter::TcpEvicted);
        // Without one of this worker's to close, the newcomer is the one that goes.
        streams.connections.evict().then(|| serving.limits.admit_replacement())
    });
    let Some(permit) = permit else { return };
    // Answers leave at once, also while earlier ones are not yet acknowledged.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let now = Instant::now();
    let peer = Peer::new(arrival, now);
    // Known before its task runs: the next accept may already have to choose it.
    let id = streams.connections.add(&peer);
    let connection = Connection {
        serving: Rc::clone(serving),
        streams: Rc::clone(streams),
        peer,
        stream,
        rest: Vec::new(),
        skip: 0,
        stalled: false,
        input_ended: false,
        partial_since: now,
        blocked_since: None,
    };
    tokio::task::spawn_local(serve(serving.busy(), connection, id, permit));
}

async fn serve<A: Answerer>(_busy: Busy<A>, connection: Connection<A>, id: u64, _permit: Permit) {
    let (peer, streams) = (Rc::clone(&connection.peer), Rc::clone(&connection.streams));
    if let Err(error) = connection.run().await {
        tracing::debug!(client = %peer.arrival.client, %error, "connection ended");
    }
    peer.closing.set(true);
    streams.connections.remove(id);
}

struct Connection<A> {
    serving: Rc<Serving<A>>,
    streams: Rc<Streams>,
    peer: Rc<Peer>,
    stream: TcpStream,
    /// What was read and not yet looked at: the beginning of a frame, or frames for which there is no room yet.
    rest: Vec<u8>,
    /// Octets still to come of a frame that is too long.
    skip: usize,
    /// `rest` may hold whole frames.
    stalled: bool,
    /// Nothing more is read: the client has finished sending, or the worker is stopping.
    input_ended: bool,
    partial_since: Instant,
    blocked_since: Option<Instant>,
}

impl<A: Answerer> Connection<A> {
    async fn run(mut self) -> io::Result<()> {
        let mut timer = pin!(tokio::time::sleep_until(self.deadline(Instant::now())));
        let peer = Rc::clone(&self.peer);
        let mut reads = 0;
        loop {
            self.advance()?;
            if self.serving.phase() > Phase::Serving && !self.input_ended {
                // What lies in the socket has been received; closing over it would also reset the connection.
                self.read()?;
                self.input_ended = true;
                continue;
            }
            if self.is_over() {
                return Ok(());
            }
            let deadline = self.deadline(Instant::now());
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            tokio::select! {
                biased;
                () = peer.wake.notified() => {}
                ready = self.stream.writable(), if self.blocked_since.is_some() => ready?,
                ready = self.stream.readable(), if self.wants_input() => {
                    ready?;
                    self.read()?;
                    reads += 1;
                    if reads % READS_PER_TURN == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                () = &mut timer => {
                    let now = Instant::now();
                    let deadline = self.deadline(now);
                    if deadline <= now {
                        self.serving.stats.count(Counter::TcpIdleClosed);
                        return Ok(());
                    }
                    timer.as_mut().reset(deadline);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        let answered = self.peer.in_flight.get() == 0 && !self.stalled && self.peer.out.borrow().is_empty();
        self.peer.closing.get() || (self.input_ended && answered)
    }

    /// A client is read as long as it takes its answers.
    fn wants_input(&self) -> bool {
        !self.input_ended && !self.stalled && self.blocked_since.is_none() && !self.is_full()
    }

    fn is_full(&self) -> bool {
        self.peer.in_flight.get() >= MAX_CONNECTION_IN_FLIGHT
    }

    /// When the connection is closed if nothing happens.
    fn deadline(&self, now: Instant) -> Instant {
        let idle = self.serving.limits.idle_timeout();
        if let Some(since) = self.blocked_since {
            return since + idle;
        }
        if self.peer.in_flight.get() > 0 || self.stalled {
            // Never while there is work: questions have their own budget.
            return now + idle;
        }
        if !self.rest.is_empty() || self.skip > 0 {
            return self.partial_since + idle.min(self.serving.limits.partial_frame_timeout);
        }
        self.peer.last_frame.get() + idle
    }

    /// Writes what is there to write, and looks at frames that had to wait for it.
    fn advance(&mut self) -> io::Result<()> {
        loop {
            self.write_waiting()?;
            if !self.stalled || self.blocked_since.is_some() || self.is_full() {
                return Ok(());
            }
            let streams = Rc::clone(&self.streams);
            let mut scratch = streams.scratch.borrow_mut();
            let input = std::mem::take(&mut self.rest);
            self.take(&input, &mut scratch.answers)?;
        }
    }

    fn write_waiting(&mut self) -> io::Result<()> {
        let mut out = self.peer.out.borrow_mut();
        if out.is_empty() {
            return Ok(());
        }
        let written = write(&self.stream, &out)?;
        if written == out.len() {
            // Not kept: an idle connection holds no buffers.
            *out = Vec::new();
            self.blocked_since = None;
        } else {
            out.drain(..written);
            self.peer.close_when_too_much_waits(out.len());
            if written > 0 || self.blocked_since.is_none() {
                self.blocked_since = Some(Instant::now());
            }
        }
        self.peer.blocked.set(self.blocked_since.is_some());
        Ok(())
    }

    /// Reads once and answers the frames that are whole.
    fn read(&mut self) -> io::Result<()> {
        let streams = Rc::clone(&self.streams);
        let mut scratch = streams.scratch.borrow_mut();
        let Scratch { input, answers } = &mut *scratch;
        let count = match self.stream.try_read(input) {
            Ok(0) => {
                self.input_ended = true;
                return Ok(());
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        if self.rest.is_empty() {
            if self.skip == 0 {
                self.partial_since = Instant::now();
            }
            return self.take(&input[..count], answers);
        }
        let mut joined = std::mem::take(&mut self.rest);
        joined.extend_from_slice(&input[..count]);
        self.take(&joined, answers)
    }

    /// Answers the whole frames of `input` with one write and keeps the rest.
    fn take(&mut self, input: &[u8], answers: &mut Answers) -> io::Result<()> {
        answers.out.clear();
        let (used, frames) = self.answer_frames(input, answers);
        let Answers { out, .. } = answers;
        let now = Instant::now();
        if frames > 0 {
            self.peer.last_frame.set(now);
            self.partial_since = now;
        }
        self.rest.extend_from_slice(&input[used..]);
        if out.is_empty() {
            return Ok(());
        }
        let mut waiting = self.peer.out.borrow_mut();
        let written = if waiting.is_empty() { write(&self.stream, out)? } else { 0 };
        waiting.extend_from_slice(&out[written..]);
        if !waiting.is_empty() && self.blocked_since.is_none() {
            self.blocked_since = Some(now);
        }
        if out.capacity() > 2 * MAX_UNWRITTEN_BYTES {
            out.shrink_to(MAX_UNWRITTEN_BYTES);
        }
        Ok(())
    }

    /// Appends the answers to the whole frames of `input`, as long as there is room; returns how many octets were
    /// used and how many frames they held.
    fn answer_frames(&mut self, input: &[u8], Answers { out, tally }: &mut Answers) -> (usize, u64) {
        let serving = Rc::clone(&self.serving);
        let (now, mut fast) = (serving.answerer.now(), serving.answerer.fast_path());
        tally.begin(now);
        let (mut used, mut frames) = (0, 0);
        self.stalled = false;
        loop {
            let skipped = self.skip.min(input.len() - used);
            self.skip -= skipped;
            used += skipped;
            let Some(length) = u16_at(input, used).map(usize::from) else { break };
            if out.len() >= MAX_UNWRITTEN_BYTES || self.is_full() {
                self.stalled = true;
                break;
            }
            let answered = if length > MAX_QUESTION_BYTES {
                let Some(header) = input.get(used + 2..used + 2 + HEADER_BYTES) else { break };
                self.skip = length;
                used += 2;
                self.answer_too_long(header, out)
            } else {
                let Some(frame) = input.get(used + 2..used + 2 + length) else { break };
                used += 2 + length;
                self.answer_frame(&mut fast, frame, now, out)
            };
            if answered.is_some_and(|noted| !tally.add(noted)) {
                self.serving.publish(tally, out, LENGTH_BYTES);
            }
            frames += 1;
        }
        self.serving.stats.add(Counter::QueriesTcp, frames);
        self.serving.publish(tally, out, LENGTH_BYTES);
        (used, frames)
    }

    /// Answers a frame on the spot, or has it worked on; returns what is noted of the answer.
    fn answer_frame(&self, fast: &mut A::FastPath<'_>, frame: &[u8], now: Tick, out: &mut Vec<u8>) -> Option<Noted> {
        let start = out.len();
        out.extend_from_slice(&[0, 0]);
        match self.serving.look(fast, frame, &self.peer.arrival, now, out) {
            Sight::Answered(cell) => {
                self.put_length(out, start);
                Some(Noted::new(cell, self.peer.arrival.client, out.len() - start))
            }
            Sight::Silent => {
                out.truncate(start);
                self.serving.stats.count(Counter::DroppedSilent);
                None
            }
            Sight::Work(query, permit) => {
                out.truncate(start);
                self.peer.in_flight.set(self.peer.in_flight.get() + 1);
                tokio::task::spawn_local(work(self.serving.busy(), Rc::clone(&self.peer), query, permit));
                None
            }
        }
    }

    fn answer_too_long(&self, header: &[u8], out: &mut Vec<u8>) -> Option<Noted> {
        if u16_at(header, 2).is_none_or(|flags| flags & flag::QR != 0) {
            self.serving.stats.count(Counter::DroppedSilent);
            return None;
        }
        let start = out.len();
        out.extend_from_slice(&[0, 0]);
        let Sight::Answered(cell) = self.serving.fault(out, header, &self.peer.arrival, (Rcode::FORMERR, false)) else {
            return None;
        };
        self.put_length(out, start);
        Some(Noted::new(cell, self.peer.arrival.client, out.len() - start))
    }

    /// Writes the length of the answer behind `start`, or takes out one that no frame can hold.
    fn put_length(&self, out: &mut Vec<u8>, start: usize) {
        match u16::try_from(out.len() - start - 2) {
            Ok(length) => out[start..start + 2].copy_from_slice(&length.to_be_bytes()),
            Err(_) => {
                out.truncate(start);
                self.serving.stats.count(Counter::SendFailed);
            }
        }
    }
}

/// Writes as much as the socket takes.
fn write(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.try_write(&bytes[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

/// Works on one question and hands its answer to its connection.
async fn work<A: Answerer>(serving: Busy<A>, peer: Rc<Peer>, query: Box<Query>, permit: Permit) {
    let answer = serving.work(query, &permit).await;
    if !peer.push(&answer) {
        serving.stats.count(Counter::SendFailed);
    }
}
