//! Messages with a length before each over one byte stream: TCP (RFC 7766) and TLS (RFC 7858).
//!
//! All queries of a server share the connection; replies come in any order. Ids are the connection's own; a message is
//! handed to the query whose id *and question* it carries, anything else is ignored. Reading and writing go on side by
//! side: a server that waits for its replies to be read must not make us wait for it to read.

use super::jobs::{Command, Fault, Job};
use super::owed::{Event, MAX_PENDING, Owed};
use crate::dns::wire::{HEADER_BYTES, u16_at};
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

/// Octets read at once.
const READ_BYTES: usize = 8192;
/// Octets written and not yet taken by the kernel; beyond it queries stay in the queue.
const MAX_UNWRITTEN_BYTES: usize = 64 * 1024;
/// How long saying goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection at work.
#[derive(Debug)]
pub(super) struct Session<S> {
    stream: S,
    owed: Owed<u16>,
    read: Vec<u8>,
    out: Vec<u8>,
    /// How much of `out` the kernel has.
    written: usize,
    /// No more queries will come.
    closing: bool,
    timer: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    pub(super) fn new(stream: S, owed: Owed<u16>) -> Self {
        let timer = Box::pin(sleep_until(owed.wake_at()));
        Self { stream, owed, read: Vec::new(), out: Vec::new(), written: 0, closing: false, timer }
    }

    /// Works until the link has to know something.
    pub(super) async fn next(&mut self, jobs: &mut mpsc::Receiver<Command>) -> Event {
        loop {
            if self.closing && self.owed.is_empty() {
                return self.bye(jobs).await;
            }
            if self.owed.len() >= MAX_PENDING {
                // Questions that were given up on must not keep the others waiting.
                self.owed.forget_unwanted();
            }
            let wake_at = self.owed.wake_at();
            // Set again only when it would ring too late: replies put it off all the time.
            if self.timer.deadline() > wake_at {
                self.timer.as_mut().reset(wake_at);
            }
            let room = self.owed.len() < MAX_PENDING && self.out.len() - self.written < MAX_UNWRITTEN_BYTES;
            let Self { stream, read, out, written, timer, .. } = self;
            let event = tokio::select! {
                command = jobs.recv(), if room && !self.closing => self.command(command, jobs),
                moved = poll_fn(|cx| transfer(stream, read, out, written, cx)) => self.moved(moved),
                () = timer => self.rung(Instant::now()),
            };
            match event {
                Some(Event::Over(back)) if back.is_empty() && self.owed.is_empty() => return self.bye(jobs).await,
                Some(event) => return event,
                None => {}
            }
        }
    }

    fn command(&mut self, command: Option<Command>, jobs: &mut mpsc::Receiver<Command>) -> Option<Event> {
        let mut next = command;
        loop {
            match next {
                Some(Command::Ask(job)) if job.is_wanted() => self.ask(job),
                Some(Command::Ask(_)) => {}
                Some(Command::Suspect) if self.owed.is_empty() => {}
                Some(Command::Suspect) => return Some(Event::Suspect(self.owed.suspect())),
                None => {
                    self.closing = true;
                    return None;
                }
            }
            // What is queued goes out in one piece.
            if self.owed.len() >= MAX_PENDING || self.out.len() >= MAX_UNWRITTEN_BYTES {
                return None;
            }
            match jobs.try_recv() {
                Ok(more) => next = Some(more),
                Err(_) => return None,
            }
        }
    }

    /// Takes a query.
    pub(super) fn ask(&mut self, job: Job) {
        let Ok(len) = u16::try_from(job.query.len()) else { return };
        // Far fewer than 65,536 are taken, so this ends after a draw or two.
        let id = std::iter::repeat_with(rand::random::<u16>)
            .find(|id| !self.owed.holds(*id))
            .expect("an endless iterator finds a free id");
        self.out.extend_from_slice(&len.to_be_bytes());
        self.out.extend_from_slice(&id.to_be_bytes());
        self.out.extend_from_slice(&job.query[2..]);
        self.owed.add(id, job, Instant::now());
    }

    fn moved(&mut self, moved: io::Result<usize>) -> Option<Event> {
        match moved {
            Ok(0) => Some(Event::Over(self.owed.end(&Fault::of(io::ErrorKind::UnexpectedEof)))),
            Ok(_) => {
                let now = Instant::now();
                // A server must not hold a connection open by talking on unasked.
                if self.owed.heard(now) {
                    self.deliver(now).then_some(Event::Answered)
                } else {
                    Some(Event::Over(Vec::new()))
                }
            }
            Err(error) => Some(Event::Over(self.owed.end(&error.into()))),
        }
    }

    fn rung(&mut self, now: Instant) -> Option<Event> {
        let event = self.owed.rung(now, |_| {});
        let wake_at = self.owed.wake_at();
        self.timer.as_mut().reset(wake_at);
        event
    }

    /// Closes in good form; whether the server listens does not matter. Queries open another connection meanwhile.
    async fn bye(&mut self, jobs: &mut mpsc::Receiver<Command>) -> Event {
        jobs.close();
        let _ = timeout(CLOSE_TIMEOUT, self.stream.shutdown()).await;
        Event::Over(Vec::new())
    }

    /// Hands every whole frame read so far to the query it belongs to; returns true when the link has to know that the
    /// connection lives.
    fn deliver(&mut self, now: Instant) -> bool {
        let mut at = 0;
        let mut news = false;
        while let Some(len) = u16_at(&self.read, at).map(usize::from) {
            let Some(frame) = self.read.get(at + 2..at + 2 + len) else { break };
            at += 2 + len;
            let waiting = u16_at(frame, 0).and_then(|id| self.owed.query(id).map(|query| (id, query)));
            let Some((id, query)) = waiting.filter(|(_, query)| same_question(query, frame)) else {
                self.owed.unmatched();
                continue;
            };
            let mut message = frame.to_vec();
            message[..2].copy_from_slice(&query[..2]);
            news |= self.owed.settle(id, message, now);
        }
        self.read.drain(..at);
        news
    }
}

/// Writes what there is and reads what has come; ready when something was read. 0 octets: the server has closed.
fn transfer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    read: &mut Vec<u8>,
    out: &mut Vec<u8>,
    written: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut flush = false;
    while *written < out.len() {
        match Pin::new(&mut *stream).poll_write(cx, &out[*written..]) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(len)) => *written += len,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => break,
        }
        flush = true;
    }
    if *written == out.len() && *written > 0 {
        out.clear();
        *written = 0;
    }
    // TLS keeps what it has encrypted until the kernel has room; it is asked each time, since it does not say.
    if (flush || out.is_empty())
        && let Poll::Ready(Err(error)) = Pin::new(&mut *stream).poll_flush(cx)
    {
        return Poll::Ready(Err(error));
    }
    let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
    let mut buf = ReadBuf::uninit(&mut space);
    ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
    read.extend_from_slice(buf.filled());
    Poll::Ready(Ok(buf.filled().len()))
}

/// Tells whether a reply repeats the question of its query, letter case aside, or is the bare header of an error. The
/// exchange compares once more, with the letter case.
pub(super) fn same_question(query: &[u8], reply: &[u8]) -> bool {
    match u16_at(reply, 4) {
        Some(0) => reply.len() == HEADER_BYTES,
        Some(1) => {
            let end =
                crate::dns::name::wire_len(&query[HEADER_BYTES..]).map_or(query.len(), |len| HEADER_BYTES + len + 4);
            reply.get(HEADER_BYTES..end).is_some_and(|theirs| theirs.eq_ignore_ascii_case(&query[HEADER_BYTES..end]))
        }
        _ => false,
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
