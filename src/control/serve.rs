//! The thread that serves the sockets: accepts, bounds, answers, ends.

use super::answer::{Asker, Served, answer};
use super::connections::{Connections, Noting, Peer};
use super::daemon::Daemon;
use super::endpoints::Way;
use super::place::Door;
use super::reply::Problem;
use super::socket::Socket;
use crate::stats::{Counter, Stats};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener as AsyncTcpListener, UnixListener};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// Octets of a request's line and headers.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// How long a request's head may take, and how long a connection may wait for its next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// How long the thread may take to end.
const STOP_TIMEOUT: Duration = Duration::from_millis(100);

/// What is listened on.
#[derive(Debug, Default)]
pub struct Doors {
    /// The Unix sockets.
    pub sockets: Vec<(Door, Socket)>,
    /// The loopback listener for Prometheus.
    pub tcp: Option<TcpListener>,
}

impl Doors {
    /// Lists the files that were made.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.sockets.iter().filter_map(|(_, socket)| socket.path().map(PathBuf::from)).collect()
    }
}

/// The thread at work. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    stop: Option<oneshot::Sender<()>>,
    ended: mpsc::Receiver<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        // The sockets are removed by then; one that hangs is left to the end of the process.
        let _ended = self.ended.recv_timeout(STOP_TIMEOUT);
    }
}

/// Starts serving on a thread of its own, named `control`.
///
/// # Errors
/// When the system refuses a thread or its runtime.
pub fn start<D: Daemon>(daemon: Arc<D>, stats: Arc<Stats>, doors: Doors) -> io::Result<Running> {
    let (stop, stopped) = oneshot::channel();
    let (ending, ended) = mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        let local = LocalSet::new();
        let served = Served::new(daemon, stats);
        let result = runtime.block_on(local.run_until(serve(served, doors, stopped)));
        if let Err(error) = result {
            tracing::error!(%error, "the control sockets cannot be served");
        }
        drop(local);
        drop(runtime);
        drop(ending);
    })?;
    Ok(Running { stop: Some(stop), ended })
}

/// A listener of either kind.
enum Listener {
    Unix(UnixListener, Door),
    Tcp(AsyncTcpListener, u16),
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

impl Listener {
    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Asker)> {
        match self {
            Self::Unix(listener, door) => {
                let (stream, _) = listener.accept().await?;
                let who = stream.peer_cred().ok();
                let pid = who.as_ref().and_then(tokio::net::unix::UCred::pid);
                let uid = who.as_ref().map(tokio::net::unix::UCred::uid);
                Ok((Box::new(stream), Asker { way: Way::Socket(*door), pid, uid }))
            }
            Self::Tcp(listener, port) => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), Asker { way: Way::Tcp(*port), pid: None, uid: None }))
            }
        }
    }
}

async fn serve<D: Daemon>(served: Served<D>, doors: Doors, stopped: oneshot::Receiver<()>) -> io::Result<()> {
    // Kept to the end: their files go with them.
    let mut sockets = Vec::new();
    let mut listeners = Vec::new();
    for (door, socket) in doors.sockets {
        listeners.push(Listener::Unix(UnixListener::from_std(socket.listener.try_clone()?)?, door));
        sockets.push(socket);
    }
    if let Some(tcp) = doors.tcp {
        let port = tcp.local_addr()?.port();
        listeners.push(Listener::Tcp(AsyncTcpListener::from_std(tcp)?, port));
    }
    for listener in listeners {
        tokio::task::spawn_local(accept_all(served.clone(), listener));
    }
    let _stopped = stopped.await;
    Ok(())
}

async fn accept_all<D: Daemon>(served: Served<D>, listener: Listener) {
    let connections = Rc::new(Connections::default());
    loop {
        match listener.accept().await {
            Ok((stream, asker)) => {
                let (peer, evicted) = connections.admit();
                if evicted {
                    served.stats.count_at_bound(Counter::ControlEvicted);
                }
                let (served, connections) = (served.clone(), Rc::clone(&connections));
                tokio::task::spawn_local(async move {
                    until_closed(served, stream, Rc::clone(&peer), asker).await;
                    connections.remove(&peer);
                });
            }
            Err(error) => {
                served.stats.count_at_bound(Counter::AcceptErrors);
                tracing::debug!(%error, "accept failed on a control socket");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection whose octets come from anywhere, as [`start`] serves those of its sockets: to its end, or until
/// nothing has moved on it for too long. For whoever has no socket.
pub async fn attend<D: Daemon>(
    daemon: Arc<D>,
    stats: Arc<Stats>,
    way: Way,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
) {
    let (peer, _) = Connections::default().admit();
    until_closed(Served::new(daemon, stats), Box::new(stream), peer, Asker { way, pid: None, uid: None }).await;
}

async fn until_closed<D: Daemon>(served: Served<D>, stream: Box<dyn Stream>, peer: Rc<Peer>, asker: Asker) {
    let closed = Rc::clone(&peer);
    tokio::select! {
        () = connection(served, stream, peer, asker) => {}
        () = closed.closed() => {}
    }
}

async fn connection<D: Daemon>(served: Served<D>, mut stream: Box<dyn Stream>, peer: Rc<Peer>, asker: Asker) {
    let noting = Noting::new(&mut stream, Rc::clone(&peer));
    let service = service_fn(|request: Request<Incoming>| {
        let (served, peer) = (&served, &peer);
        async move {
            served.stats.count(Counter::ControlRequests);
            peer.set_answering(true);
            let response = answer(served, asker, request).await;
            peer.set_answering(false);
            if response.status().is_client_error() {
                served.stats.count(Counter::ControlRefused);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        // `socat` and `nc` close their side after the request.
        .half_close(true)
        .serve_connection(TokioIo::new(noting), service);
    let Err(error) = http.await else { return };
    // Whatever a client may do to its own connection.
    tracing::debug!(%error, "a connection to a control socket ended");
    if !(error.is_parse() || error.is_timeout() || error.is_incomplete_message()) {
        return;
    }
    let is_owed = peer.is_owed();
    if is_owed || error.is_parse() {
        served.stats.count(Counter::ControlRequests);
        served.stats.count(Counter::ControlRefused);
    }
    // To a head that it cannot read hyper says 400 or 431 by itself, and nothing to one that is late, cut off or of HTTP/2.
    if is_owed {
        let problem = if error.is_timeout() {
            Problem::new(StatusCode::REQUEST_TIMEOUT, "head-too-slow", "the head of the request did not come in time")
        } else {
            Problem::bad_request("not-http", "what came is no whole head of an HTTP/1.1 request")
        };
        // Bounded by how long a connection may be quiet; who has left does not read it.
        let _gone = stream.write_all(problem.last_words().as_bytes()).await;
    }
}
