//! The connections of one listener: how many there may be, which one goes for a newcomer, which one is too quiet.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Connections of one listener: far more than a machine has readers, few enough for a thread of its own.
pub(super) const MAX_CONNECTIONS: usize = 64;
/// How long a connection may neither send nor take anything.
const QUIET_TIMEOUT: Duration = Duration::from_secs(30);

/// What is known of one connection.
#[derive(Debug)]
pub(super) struct Peer {
    last: Cell<Instant>,
    is_answering: Cell<bool>,
    /// It has sent something of a request, and nothing was said to it since.
    is_owed: Cell<bool>,
    closing: Notify,
}

impl Peer {
    fn new() -> Self {
        let [is_answering, is_owed] = [false; 2].map(Cell::new);
        Self { last: Cell::new(Instant::now()), is_answering, is_owed, closing: Notify::new() }
    }

    /// Tells whether it waits for a word.
    pub(super) fn is_owed(&self) -> bool {
        self.is_owed.get()
    }

    /// Notes that a request of it is being answered, or no longer.
    pub(super) fn set_answering(&self, is_answering: bool) {
        self.is_answering.set(is_answering);
        self.last.set(Instant::now());
    }

    /// Waits until the connection is to be closed: for a newcomer, or because nothing moves.
    pub(super) async fn closed(&self) {
        let quiet = async {
            loop {
                let deadline = self.last.get() + QUIET_TIMEOUT;
                if deadline <= Instant::now() {
                    return;
                }
                sleep_until(deadline).await;
            }
        };
        tokio::select! {
            () = self.closing.notified() => {}
            () = quiet => {}
        }
    }
}

/// All connections of one listener.
#[derive(Debug, Default)]
pub(super) struct Connections(RefCell<Vec<Rc<Peer>>>);

impl Connections {
    /// Takes a newcomer in; returns whether another has to go for it: the one that has been idle longest, else the one
    /// whose answer has moved least lately.
    pub(super) fn admit(&self) -> (Rc<Peer>, bool) {
        let mut all = self.0.borrow_mut();
        let is_full = all.len() >= MAX_CONNECTIONS;
        if is_full {
            let order = |peer: &Rc<Peer>| (peer.is_answering.get(), peer.last.get());
            if let Some(at) = (0..all.len()).min_by_key(|at| order(&all[*at])) {
                all.swap_remove(at).closing.notify_one();
            }
        }
        let peer = Rc::new(Peer::new());
        all.push(Rc::clone(&peer));
        (peer, is_full)
    }

    /// Forgets a connection that is over.
    pub(super) fn remove(&self, peer: &Rc<Peer>) {
        self.0.borrow_mut().retain(|known| !Rc::ptr_eq(known, peer));
    }
}

/// A stream whose moves are noted.
pub(super) struct Noting<'a, S> {
    stream: &'a mut S,
    peer: Rc<Peer>,
}

impl<'a, S> Noting<'a, S> {
    pub(super) fn new(stream: &'a mut S, peer: Rc<Peer>) -> Self {
        Self { stream, peer }
    }

    fn noted<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.peer.last.set(Instant::now());
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noting<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = room.filled().len();
        let result = Pin::new(&mut *self.stream).poll_read(context, room);
        if room.filled().len() > before && !self.peer.is_answering.get() {
            self.peer.is_owed.set(true);
        }
        self.noted(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noting<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut *self.stream).poll_write(context, bytes);
        self.peer.is_owed.set(false);
        self.noted(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn is_closed(peer: &Peer) -> bool {
        peer.closed().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn for_a_newcomer_the_one_idle_longest_goes_and_nobody_who_is_being_answered() {
        let connections = Connections::default();
        let mut peers = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let (peer, full) = connections.admit();
            assert!(!full);
            peers.push(peer);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        peers[0].set_answering(true);
        peers[1].set_answering(false);
        assert!(connections.admit().1);
        let gone: Vec<usize> = (0..peers.len()).filter(|at| is_closed(&peers[*at])).collect();
        assert_eq!(gone, [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_moves_is_closed() {
        let connections = Connections::default();
        let (peer, _) = connections.admit();
        let begin = Instant::now();
        tokio::time::advance(QUIET_TIMEOUT / 2).await;
        peer.set_answering(true);
        peer.closed().await;
        assert_eq!(begin.elapsed().as_secs(), (QUIET_TIMEOUT + QUIET_TIMEOUT / 2).as_secs());
        connections.remove(&peer);
        assert!(connections.0.borrow().is_empty());
    }
}
