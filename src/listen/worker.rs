//! One thread with its own runtime and its own sockets for every address: opens, closes and drains them.

use super::serving::{Phase, Serving, Shared};
use super::{Answerer, Worker as Handle, tcp, udp};
use crate::clock;
use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::Instant;

/// After the grace of a drain, for the SERVFAILs to be written. Below [`super::JOIN_TIMEOUT`].
const LAST_WRITES_TIMEOUT: Duration = Duration::from_millis(100);

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Listen on these sockets of this address too.
    Add { actual: SocketAddr, udp: Vec<UdpSocket>, tcp: Vec<TcpListener> },
    /// Close the sockets of this address.
    Remove(SocketAddr),
    /// Stop within this time.
    Drain(Duration),
}

/// Starts a worker without sockets.
pub(super) fn start<A: Answerer>(index: usize, shared: Shared<A>) -> io::Result<Handle> {
    let (commands, receiver) = mpsc::unbounded_channel();
    let (ending, ended) = oneshot::channel();
    let began = Instant::now();
    // Made here so that running out of file descriptors is an error of the start.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(format!("dns-{index}")).spawn(move || {
        let _ending: oneshot::Sender<()> = ending;
        clock::timers_begin(began);
        let local = LocalSet::new();
        let worker = Worker::new(shared);
        runtime.block_on(local.run_until(worker.run(receiver)));
        // Tasks go before the runtime that drives them.
        drop(local);
        drop(runtime);
    })?;
    Ok(Handle { commands, ended, thread })
}

/// Everything on one thread.
struct Worker<A> {
    serving: Rc<Serving<A>>,
    datagrams: Rc<RefCell<udp::Batch>>,
    streams: Rc<tcp::Streams>,
}

/// The tasks and sockets of one address.
struct Listener {
    actual: SocketAddr,
    udp: Vec<Rc<udp::Socket>>,
    tasks: Vec<JoinHandle<()>>,
}

impl<A: Answerer> Worker<A> {
    fn new(shared: Shared<A>) -> Self {
        Self { serving: Rc::new(Serving::new(shared)), datagrams: Rc::default(), streams: Rc::default() }
    }

    async fn run(self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut listeners = Vec::new();
        loop {
            match commands.recv().await {
                Some(Command::Add { actual, udp, tcp }) => match self.listen(actual, udp, tcp) {
                    Ok(listener) => listeners.push(listener),
                    Err(error) => tracing::error!(address = %actual, %error, "a worker cannot serve this address"),
                },
                Some(Command::Remove(address)) => {
                    for listener in listeners.extract_if(.., |listener: &mut Listener| listener.actual == address) {
                        self.serving.remove_own(address);
                        self.close(listener).await;
                    }
                }
                Some(Command::Drain(grace)) => return self.drain(listeners, grace).await,
                // Dropped without a drain: stop at once.
                None => return,
            }
        }
    }

    fn listen(&self, actual: SocketAddr, udp: Vec<UdpSocket>, tcp: Vec<TcpListener>) -> io::Result<Listener> {
        let socket = |udp| udp::Socket::new(udp, actual, Rc::clone(&self.datagrams)).map(Rc::new);
        let udp = udp.into_iter().map(socket).collect::<io::Result<Vec<_>>>()?;
        let tcp = tcp.into_iter().map(tokio::net::TcpListener::from_std).collect::<io::Result<Vec<_>>>()?;
        self.serving.add_own(actual);
        let read = |udp| tokio::task::spawn_local(udp::read(Rc::clone(&self.serving), Rc::clone(udp)));
        let accept = |tcp| {
            tokio::task::spawn_local(tcp::accept(Rc::clone(&self.serving), Rc::clone(&self.streams), tcp, actual))
        };
        let tasks = udp.iter().map(read).chain(tcp.into_iter().map(accept)).collect();
        Ok(Listener { actual, udp, tasks })
    }

    /// Ends the reading of an address, after what its datagram sockets already hold.
    async fn close(&self, listener: Listener) {
        for task in listener.tasks {
            task.abort();
            let _cancelled = task.await;
        }
        for udp in &listener.udp {
            udp::read_last(&self.serving, udp);
        }
    }

    async fn drain(self, listeners: Vec<Listener>, grace: Duration) {
        for listener in listeners {
            self.close(listener).await;
        }
        self.serving.enter(Phase::Draining);
        self.streams.connections.wake_all();
        if tokio::time::timeout(grace, self.serving.all_finished()).await.is_err() {
            self.serving.enter(Phase::GivingUp);
            self.streams.connections.wake_all();
            let _late = tokio::time::timeout(LAST_WRITES_TIMEOUT, self.serving.all_finished()).await;
        }
    }
}
