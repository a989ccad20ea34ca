//! TCP: one connection per server and runtime, shared by its queries, replies in any order (RFC 7766).
//!
//! A connection is a task on the runtime that first needed it, so that a worker's queries never cross threads. Ids
//! are the connection's own; a message is handed to the query whose id *and question* it carries, anything else is
//! ignored. A connection that the server closed under a query is opened again once (RFC 7766 section 6.2.4: servers
//! close idle connections at any time).

use crate::dns::wire::{HEADER_BYTES, u16_at};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Handle, Id};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

/// Queries waiting on one connection; beyond it the attempt fails and another server is asked.
const MAX_PENDING: usize = 256;
/// Queries handed to a connection and not yet written, such as those of a burst while it is being opened.
const QUEUE: usize = MAX_PENDING;
/// Connections kept in all; beyond it those that have ended are forgotten, and if none has, the attempt fails.
const MAX_CONNECTIONS: usize = 256;
/// How long a handshake may take. A SYN is repeated by the kernel after 1 s and 3 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// A connection with nothing pending is closed after this (RFC 7766 section 6.2.3 asks for a few seconds).
const IDLE_TIMEOUT: Duration = Duration::from_secs(8);
/// A connection that owes replies and has sent nothing for this time gets no more queries: the next one opens another.
/// Without it, one that was lost without a word (sleep, a NAT's memory) would be used until the kernel gives up on it,
/// which takes a quarter of an hour. What was sent on it is still waited for.
const STALL: Duration = Duration::from_secs(2);
/// A reply is waited for at most so long: longer than any budget of a question.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a write may block before the connection counts as broken.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Octets read at once.
const READ_BYTES: usize = 8192;

type Reply = oneshot::Sender<io::Result<Vec<u8>>>;

struct Job {
    query: Vec<u8>,
    reply: Reply,
}

/// The connections.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Pool {
    connections: Mutex<HashMap<(SocketAddr, Id), mpsc::Sender<Job>>>,
}

impl Pool {
    /// Sends a query over the connection to `server`, opening one when there is none. The reply carries the query's
    /// own id and has the same question, letter case aside.
    pub(in crate::upstream) fn send(
        &self,
        server: SocketAddr,
        query: &[u8],
    ) -> io::Result<oneshot::Receiver<io::Result<Vec<u8>>>> {
        let (reply, receiver) = oneshot::channel();
        let mut job = Job { query: query.to_vec(), reply };
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (server, Handle::current().id());
        if let Some(connection) = connections.get(&key) {
            match connection.try_send(job) {
                Ok(()) => return Ok(receiver),
                Err(mpsc::error::TrySendError::Full(_)) => return Err(io::ErrorKind::ResourceBusy.into()),
                Err(mpsc::error::TrySendError::Closed(back)) => job = back,
            }
        }
        connections.retain(|_, connection| !connection.is_closed());
        if connections.len() >= MAX_CONNECTIONS {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let (sender, jobs) = mpsc::channel(QUEUE);
        sender.try_send(job).map_err(|_| io::Error::from(io::ErrorKind::ResourceBusy))?;
        connections.insert(key, sender);
        // Detached: it ends by itself when idle, when the pool is dropped, or with its runtime.
        tokio::spawn(run(server, jobs));
        Ok(receiver)
    }
}

/// One query on the connection.
struct Pending {
    query: Vec<u8>,
    reply: Reply,
    until: Instant,
    retried: bool,
}

/// Serves a connection until it is idle, opening it again as long as queries wait that it was closed under.
async fn run(server: SocketAddr, mut jobs: mpsc::Receiver<Job>) {
    let mut waiting: Vec<Pending> = Vec::new();
    loop {
        let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(server)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return fail(waiting, jobs, error.kind()),
            Err(_) => return fail(waiting, jobs, io::ErrorKind::TimedOut),
        };
        // Frames are written whole, so waiting for more to send only delays them.
        let _ = stream.set_nodelay(true);
        let mut connection = Connection { stream, pending: HashMap::new(), read: Vec::new(), owed_since: None };
        let end = connection.serve(&mut jobs, std::mem::take(&mut waiting)).await;
        let kind = end.err().map_or(io::ErrorKind::UnexpectedEof, |error| error.kind());
        for (_, pending) in connection.pending {
            if pending.retried {
                let _ = pending.reply.send(Err(kind.into()));
            } else if !pending.reply.is_closed() {
                waiting.push(Pending { retried: true, ..pending });
            }
        }
        if waiting.is_empty() {
            // A query that slipped in while the connection ended is served by a fresh one; the next opens its own.
            jobs.close();
            match jobs.try_recv() {
                Ok(job) => waiting.push(Pending::new(job)),
                Err(_) => return,
            }
        }
    }
}

impl Pending {
    fn new(job: Job) -> Self {
        Self { query: job.query, reply: job.reply, until: Instant::now() + REPLY_TIMEOUT, retried: false }
    }
}

/// Tells everybody that waits that there is no connection.
fn fail(waiting: Vec<Pending>, mut jobs: mpsc::Receiver<Job>, kind: io::ErrorKind) {
    jobs.close();
    let queued = std::iter::from_fn(|| jobs.try_recv().ok()).map(|job| job.reply);
    for reply in waiting.into_iter().map(|pending| pending.reply).chain(queued) {
        // The receiver is gone when its question is over.
        let _ = reply.send(Err(kind.into()));
    }
}

struct Connection {
    stream: TcpStream,
    pending: HashMap<u16, Pending>,
    read: Vec<u8>,
    /// Since when replies are owed and nothing has been read.
    owed_since: Option<Instant>,
}

impl Connection {
    /// Works until idle (`Ok`) or broken.
    async fn serve(&mut self, jobs: &mut mpsc::Receiver<Job>, waiting: Vec<Pending>) -> io::Result<()> {
        let mut rest = waiting.into_iter();
        while let Some(pending) = rest.next() {
            if let Err(error) = self.write(pending).await {
                // Those not yet written are still owed an answer: leave them where the caller looks.
                for pending in rest {
                    self.enlist(pending);
                }
                return Err(error);
            }
        }
        loop {
            if self.pending.len() >= MAX_PENDING {
                // Questions that were given up on must not keep the others waiting.
                self.pending.retain(|_, pending| !pending.reply.is_closed());
            }
            let now = Instant::now();
            let stalls_at = self.owed_since.filter(|_| !jobs.is_closed()).map(|since| since + STALL);
            let untils = self.pending.values().map(|pending| pending.until);
            let next = untils.chain(stalls_at).min().unwrap_or(now + IDLE_TIMEOUT);
            self.read.reserve(READ_BYTES);
            tokio::select! {
                job = jobs.recv(), if self.pending.len() < MAX_PENDING => match job {
                    Some(job) => self.write(Pending::new(job)).await?,
                    None if self.pending.is_empty() => return Ok(()),
                    None => self.drain(next).await?,
                },
                read = self.stream.read_buf(&mut self.read) => match read? {
                    0 if self.pending.is_empty() => return Ok(()),
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    // Nobody has asked for this: a server must not hold a connection open by talking on.
                    _ if self.pending.is_empty() => return Ok(()),
                    _ => self.deliver(),
                },
                () = tokio::time::sleep_until(next) => {
                    if self.pending.is_empty() {
                        return Ok(());
                    }
                    if stalls_at.is_some_and(|at| at <= next) {
                        jobs.close();
                    }
                    self.pending.retain(|_, pending| pending.until > next && !pending.reply.is_closed());
                    self.owed_since = self.owed_since.filter(|_| !self.pending.is_empty());
                }
            }
        }
    }

    /// Reads once when no more queries can come.
    async fn drain(&mut self, until: Instant) -> io::Result<()> {
        match timeout_at(until, self.stream.read_buf(&mut self.read)).await {
            Ok(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Ok(_)) => {
                self.deliver();
                Ok(())
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                self.pending.retain(|_, pending| pending.until > until);
                Ok(())
            }
        }
    }

    /// Gives a query an id that is free on this connection.
    fn enlist(&mut self, pending: Pending) -> u16 {
        // Fewer than MAX_PENDING of 65,536 are taken, so this ends after a draw or two.
        let id = std::iter::repeat_with(rand::random::<u16>)
            .find(|id| !self.pending.contains_key(id))
            .expect("an endless iterator finds a free id");
        self.pending.insert(id, pending);
        id
    }

    async fn write(&mut self, pending: Pending) -> io::Result<()> {
        let len = u16::try_from(pending.query.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut frame = Vec::with_capacity(2 + pending.query.len());
        frame.extend_from_slice(&len.to_be_bytes());
        frame.extend_from_slice(&pending.query);
        let id = self.enlist(pending);
        self.owed_since.get_or_insert_with(Instant::now);
        frame[2..4].copy_from_slice(&id.to_be_bytes());
        timeout(WRITE_TIMEOUT, self.stream.write_all(&frame)).await?
    }

    /// Hands every whole frame read so far to the query it belongs to.
    fn deliver(&mut self) {
        let mut at = 0;
        while let Some(len) = u16_at(&self.read, at).map(usize::from) {
            let Some(frame) = self.read.get(at + 2..at + 2 + len) else { break };
            at += 2 + len;
            let Some(id) = u16_at(frame, 0) else { continue };
            let Some(pending) = self.pending.get(&id).filter(|pending| same_question(&pending.query, frame)) else {
                continue;
            };
            let mut message = frame.to_vec();
            message[..2].copy_from_slice(&pending.query[..2]);
            if let Some(pending) = self.pending.remove(&id) {
                let _ = pending.reply.send(Ok(message));
            }
        }
        self.read.drain(..at);
        self.owed_since = (!self.pending.is_empty()).then(Instant::now);
    }
}

/// Tells whether a reply repeats the question of its query, letter case aside, or is the bare header of an error. The
/// exchange compares once more, with the letter case.
fn same_question(query: &[u8], reply: &[u8]) -> bool {
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
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// No test waits longer for what comes at once.
    const BOUND: Duration = Duration::from_secs(10);
    /// Nor so long for what comes after some time.
    const SLOW_BOUND: Duration = Duration::from_secs(30);
    const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x00\x00\x01\x00\x01";

    async fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
        let length = stream.read_u16().await.unwrap();
        let mut frame = vec![0; usize::from(length)];
        stream.read_exact(&mut frame).await.unwrap();
        frame
    }

    async fn write_frame(stream: &mut TcpStream, frame: &[u8]) {
        stream.write_u16(u16::try_from(frame.len()).unwrap()).await.unwrap();
        stream.write_all(frame).await.unwrap();
    }

    #[tokio::test]
    async fn queries_not_yet_written_have_a_bound() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (server, pool) = (listener.local_addr().unwrap(), Pool::default());
        // The connection's task does not run before this one waits.
        let taken: Vec<_> = std::iter::from_fn(|| pool.send(server, QUERY).ok()).take(QUEUE + 1).collect();
        assert_eq!(taken.len(), QUEUE);
        assert_eq!(pool.send(server, QUERY).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    }

    #[tokio::test]
    async fn queries_waiting_on_one_connection_have_a_bound() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (server, pool) = (listener.local_addr().unwrap(), Pool::default());
        let mut waiting = vec![pool.send(server, QUERY).unwrap()];
        let (mut stream, _) = listener.accept().await.unwrap();
        let reading = tokio::spawn(async move {
            for _ in 0..MAX_PENDING {
                read_frame(&mut stream).await;
            }
            stream
        });
        while !reading.is_finished() {
            waiting.extend(pool.send(server, QUERY).ok());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut stream = reading.await.unwrap();
        waiting.extend(std::iter::from_fn(|| pool.send(server, QUERY).ok()).take(QUEUE));
        assert_eq!(waiting.len(), MAX_PENDING + QUEUE);
        let more = timeout(Duration::from_millis(100), read_frame(&mut stream)).await;
        assert!(more.is_err(), "more than {MAX_PENDING} are on the connection");
        assert_eq!(pool.send(server, QUERY).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        // Those given up on make room.
        drop(waiting);
        timeout(BOUND, async {
            while pool.send(server, QUERY).is_err() {
                write_frame(&mut stream, b"anything that wakes the connection").await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn connections_have_a_bound_and_ended_ones_do_not_count() {
        let pool = Pool::default();
        let closed =
            |at: usize| SocketAddr::from(([127, 0, 0, u8::try_from(at % 250 + 1).unwrap()], 1 + u16::from(at >= 250)));
        let taken: Vec<_> = (0..MAX_CONNECTIONS).map(|at| pool.send(closed(at), QUERY).unwrap()).collect();
        let next = closed(MAX_CONNECTIONS);
        assert_eq!(pool.send(next, QUERY).unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
        for reply in taken {
            timeout(BOUND, reply).await.unwrap().unwrap().unwrap_err();
        }
        pool.send(next, QUERY).unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_does_not_open_is_given_up() {
        // A full backlog makes the kernel drop every further handshake.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let (server, pool) = (listener.local_addr().unwrap(), Pool::default());
        let mut filling = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(server)).await {
            filling.push(stream.unwrap());
        }
        let start = Instant::now();
        let reply = pool.send(server, QUERY).unwrap();
        let error = timeout(SLOW_BOUND, reply).await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= CONNECT_TIMEOUT);
        drop(listener);
    }

    #[tokio::test]
    async fn a_connection_without_queries_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (server, pool) = (listener.local_addr().unwrap(), Pool::default());
        let reply = pool.send(server, QUERY).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let query = read_frame(&mut stream).await;
        let start = Instant::now();
        write_frame(&mut stream, &query).await;
        assert_eq!(timeout(BOUND, reply).await.unwrap().unwrap().unwrap(), QUERY);
        assert_eq!(timeout(SLOW_BOUND, stream.read(&mut [0; 16])).await.unwrap().unwrap(), 0);
        assert!(start.elapsed() >= IDLE_TIMEOUT);
    }

    #[tokio::test]
    async fn a_connection_that_owes_replies_gets_no_more_queries_and_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (server, pool) = (listener.local_addr().unwrap(), Pool::default());
        let start = Instant::now();
        let reply = pool.send(server, QUERY).unwrap();
        let (mut stalled, _) = listener.accept().await.unwrap();
        read_frame(&mut stalled).await;
        // A query that is sent when the stall has shown goes over a connection of its own.
        let other = async {
            loop {
                let _given_up = pool.send(server, QUERY).unwrap();
                if let Ok(accepted) = timeout(Duration::from_millis(200), listener.accept()).await {
                    return accepted.unwrap();
                }
            }
        };
        let _other = timeout(SLOW_BOUND, other).await.unwrap();
        assert!(start.elapsed() >= STALL);
        assert!(timeout(SLOW_BOUND, reply).await.unwrap().is_err(), "nobody waits for it any more");
        assert!(start.elapsed() >= REPLY_TIMEOUT);
    }

    #[tokio::test]
    async fn a_server_that_does_not_read_loses_its_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (server, pool) = (listener.local_addr().unwrap(), Pool::default());
        // 16 MB: more than the sockets of two connections hold.
        let long = [QUERY, &[0; 65_000]].concat();
        let start = Instant::now();
        let waiting: Vec<_> = (0..QUEUE).map(|_| pool.send(server, &long).unwrap()).collect();
        let first = waiting.into_iter().next().unwrap();
        assert_eq!(timeout(SLOW_BOUND, first).await.unwrap().unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        // Opened again once, as for any connection that breaks under its queries.
        assert!(start.elapsed() >= 2 * WRITE_TIMEOUT);
    }

    #[tokio::test]
    async fn a_server_that_talks_on_unasked_loses_its_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (server, pool) = (listener.local_addr().unwrap(), Pool::default());
        let reply = pool.send(server, QUERY).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let query = read_frame(&mut stream).await;
        write_frame(&mut stream, &query).await;
        assert_eq!(timeout(BOUND, reply).await.unwrap().unwrap().unwrap(), QUERY);
        let talking = async {
            while stream.write_all(b"\x00\x01x").await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(BOUND, talking).await.expect("closed while the server still talks");
    }
}
