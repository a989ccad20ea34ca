//! Clients in.
//!
//! ```text
//!  thread dns-0 ─┬─ 127.0.0.1:53 udp ──▶ recvmmsg ─▶ each datagram ─▶ sendmmsg
//!                ├─ 127.0.0.1:53 tcp ──▶ all frames of one read ─▶ one write
//!                └─ [::1]:53 …                         │
//!  thread dns-1 ── the same, own sockets               ├─ malformed, not allowed: answered here
//!  …                                                   ├─ Answerer::answer_cached: bytes in, bytes out
//!                                                      └─ Answerer::answer: a task on the same thread, bounded
//! ```
//!
//! This folder decides what is answered at all, in what order, and what happens at every bound; what the answer is,
//! the [`Answerer`] decides. A question stays on the thread that received it: handing it to another costs more than
//! answering it. No timer runs while nobody asks.

pub mod activation;
pub mod bind;
mod connections;
mod direct;
pub mod limits;
mod pipeline;
mod reply;
mod serving;
mod tcp;
mod udp;
mod worker;

pub use activation::{Inherited, InheritedUnix};
pub use bind::{BindError, Holder};
pub use direct::Direct;

use crate::clock::Tick;
use crate::config;
use crate::dns::wire::ParsedQuery;
use crate::dns::{Arrival, Decided, Query, Transport};
use crate::stats::Stats;
use limits::Limits;
use serving::Shared;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use worker::Command;

/// Beyond the grace given to [`Running::drain`], for writing the last answers and ending the threads.
const JOIN_TIMEOUT: Duration = Duration::from_millis(150);

/// What knows the answers. The pipeline is one; tests have smaller ones.
pub trait Answerer: Send + Sync + 'static {
    /// What questions are looked at by.
    type FastPath<'a>: FastPath;

    /// Returns what questions that have arrived together are looked at by. Not to be kept over an await.
    fn fast_path(&self) -> Self::FastPath<'_>;

    /// Works out an answer, fitted to the client. Always answers within its own budget. Runs on the worker's own thread, so
    /// the future need not be `Send`. May be dropped at any await.
    fn answer(&self, query: &Query) -> impl Future<Output = Worked>;

    /// Reads the moment.
    fn now(&self) -> Tick;

    /// Returns the largest datagram to send, which our OPT announces.
    fn udp_payload_bytes(&self) -> u16;
}

/// What can be said of a question on the spot, by one configuration.
pub trait FastPath {
    /// Tells whether this client may ask.
    fn allows(&self, client: IpAddr) -> bool;

    /// Appends the whole answer and says who decided it, or `None` when it needs work. Never blocks, never allocates.
    fn answer_cached(
        &mut self,
        parsed: &ParsedQuery<'_>,
        arrival: &Arrival,
        now: Tick,
        out: &mut Vec<u8>,
    ) -> Option<Decided>;
}

/// An answer that was worked out.
#[derive(Debug)]
pub struct Worked {
    /// Who decided it.
    pub decided: Decided,
    /// The upstream whose reply was used, `GROUP/NAME`.
    pub upstream: Option<Arc<str>>,
    /// Its octets.
    pub bytes: Vec<u8>,
}

/// One address that is listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// As configured; the port may be 0.
    pub configured: SocketAddr,
    /// With the port that clients use.
    pub actual: SocketAddr,
    /// The socket came from the service manager, which keeps it: it is never closed over a reload.
    pub inherited: bool,
}

impl Address {
    /// Tells whether it is listened on under another configuration too.
    fn stays_under(&self, config: &config::Server) -> bool {
        self.inherited || config.listen.contains(&self.configured)
    }
}

/// Takes the inherited sockets, binds every other address of the configuration and starts the workers, threads named
/// `dns-0`, `dns-1`, ….
///
/// # Errors
/// When an address cannot be bound; nothing is left running then. `::1` on a machine without IPv6 is left out with a
/// warning as long as there is another address; so is any address that cannot be bound beside inherited sockets.
pub fn start<A: Answerer>(
    config: &config::Server,
    answerer: Arc<A>,
    stats: Arc<Stats>,
    inherited: Inherited,
    holder: Holder<'_>,
) -> Result<Running, BindError> {
    start_within(config, Limits::new(config), answerer, stats, inherited, holder)
}

fn start_within<A: Answerer>(
    config: &config::Server,
    limits: Limits,
    answerer: Arc<A>,
    stats: Arc<Stats>,
    inherited: Inherited,
    holder: Holder<'_>,
) -> Result<Running, BindError> {
    let count = config.workers.max(1);
    let own = inherited.missing(&config.listen);
    let inherited = inherited.sockets;
    let bound = if inherited.is_empty() {
        bind::bind_all(&own, count, holder)?
    } else {
        bind::bind_possible(&own, count, holder)
    };
    let limits = Arc::new(limits);
    let mut running = Running { workers: Vec::new(), addresses: Vec::new(), limits: Arc::clone(&limits) };
    for index in 0..count {
        let shared = Shared { answerer: Arc::clone(&answerer), stats: Arc::clone(&stats), limits: Arc::clone(&limits) };
        let worker = worker::start(index, shared).map_err(|source| BindError {
            address: config.listen.first().copied().unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
            protocol: Transport::Udp,
            source,
            holder: None,
        })?;
        running.workers.push(worker);
    }
    running.add(inherited, true);
    running.add(bound, false);
    Ok(running)
}

/// One thread and how to talk to it.
#[derive(Debug)]
struct Worker {
    commands: mpsc::UnboundedSender<Command>,
    ended: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

/// The listeners at work. Dropping it stops them at once.
#[derive(Debug)]
pub struct Running {
    workers: Vec<Worker>,
    addresses: Vec<Address>,
    limits: Arc<Limits>,
}

/// How many questions are being worked on.
#[derive(Debug, Clone)]
pub struct InFlight(Arc<Limits>);

impl InFlight {
    /// Returns the number.
    #[must_use]
    pub fn get(&self) -> usize {
        self.0.in_flight()
    }
}

/// How a [`Running::drain`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Questions in work when it began.
    pub in_flight: usize,
    /// Threads that did not end in time and were left behind.
    pub stuck_threads: usize,
}

impl Running {
    /// Returns the addresses listened on, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Returns the same with the ports that clients use: whoever asks one of them asks us.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<SocketAddr> {
        self.addresses.iter().map(|address| address.actual).collect()
    }

    /// Returns those there would be after [`Running::reconfigure`]; of what is to be bound, as it is configured.
    #[must_use]
    pub fn addresses_under(&self, config: &config::Server) -> Vec<SocketAddr> {
        let kept = self.addresses.iter().filter(|address| address.stays_under(config)).map(|address| address.actual);
        kept.chain(self.added_by(config)).collect()
    }

    /// Returns how many questions are being worked on, for whoever asks as long as this runs.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        InFlight(Arc::clone(&self.limits))
    }

    /// Takes over a new configuration: limits at once, new addresses bound, those gone closed after what they have
    /// received is answered, kept ones not touched. The number of workers stays as started.
    ///
    /// # Errors
    /// When a new address cannot be bound; nothing has changed then.
    pub fn reconfigure(&mut self, config: &config::Server, holder: Holder<'_>) -> Result<(), BindError> {
        let added = self.added_by(config);
        let bound = if self.has_inherited() {
            bind::bind_possible(&added, self.workers.len(), holder)
        } else {
            bind::bind_all(&added, self.workers.len(), holder).or_else(|error| {
                // `::1` on a machine without IPv6, left out at the start: nothing new either.
                if error.is_missing_ipv6_loopback() && !self.addresses.is_empty() { Ok(Vec::new()) } else { Err(error) }
            })?
        };
        self.limits.reconfigure(config);
        let (kept, gone): (Vec<_>, Vec<_>) = self.addresses.iter().partition(|address| address.stays_under(config));
        self.addresses = kept;
        self.add(bound, false);
        for address in gone {
            tracing::info!(address = %address.actual, "no longer listening");
            for worker in &self.workers {
                let _ended = worker.commands.send(Command::Remove(address.actual));
            }
        }
        let place = |address: &Address| config.listen.iter().position(|listed| *listed == address.configured);
        self.addresses.sort_by_key(place);
        Ok(())
    }

    fn has_inherited(&self) -> bool {
        self.addresses.iter().any(|address| address.inherited)
    }

    /// Returns the addresses of another configuration that are to be bound.
    fn added_by(&self, config: &config::Server) -> Vec<SocketAddr> {
        let has_inherited = self.has_inherited();
        let wanted = if has_inherited { activation::beside_inherited(&config.listen) } else { &config.listen };
        wanted.iter().copied().filter(|address| !self.listens_on(*address)).collect()
    }

    fn listens_on(&self, configured: SocketAddr) -> bool {
        self.addresses.iter().any(|address| address.configured == configured)
    }

    fn add(&mut self, bound: Vec<bind::Bound>, inherited: bool) {
        for bind::Bound { configured, actual, udp, tcp } in bound {
            self.addresses.push(Address { configured, actual, inherited });
            for (protocol, sockets) in [(Transport::Udp, udp.len()), (Transport::Tcp, tcp.len())] {
                if sockets > 0 {
                    tracing::info!(address = %actual, %protocol, inherited, "listening");
                }
            }
            // Every socket is read by one worker: a datagram in one that nobody reads would be lost.
            let (udp, tcp) = (dealt(udp, self.workers.len()), dealt(tcp, self.workers.len()));
            for (worker, (udp, tcp)) in self.workers.iter().zip(udp.into_iter().zip(tcp)) {
                // A worker that has ended closes the sockets; it can only have ended because of a drain.
                let _ended = worker.commands.send(Command::Add { actual, udp, tcp });
            }
        }
    }

    /// Stops: what has been received is answered, for `grace` long; what is in work then gets SERVFAIL with EDE 14.
    /// Returns when all threads have ended, at the latest 150 ms after `grace`.
    pub async fn drain(self, grace: Duration) -> Drained {
        let in_flight = self.limits.in_flight();
        for worker in &self.workers {
            let _ended = worker.commands.send(Command::Drain(grace));
        }
        let deadline = tokio::time::Instant::now() + grace + JOIN_TIMEOUT;
        let mut stuck_threads = 0;
        for worker in self.workers {
            // The sender is dropped when the thread's work is over; only its return is left to join.
            match tokio::time::timeout_at(deadline, worker.ended).await {
                Ok(_dropped) => {
                    if worker.thread.join().is_err() {
                        tracing::error!("a listener thread had panicked");
                    }
                }
                Err(_) => stuck_threads += 1,
            }
        }
        Drained { in_flight, stuck_threads }
    }
}

/// Deals sockets out to the workers in turn.
fn dealt<S>(sockets: Vec<S>, workers: usize) -> Vec<Vec<S>> {
    let mut hands: Vec<Vec<S>> = (0..workers).map(|_| Vec::new()).collect();
    for (at, socket) in sockets.into_iter().enumerate() {
        hands[at % workers].push(socket);
    }
    hands
}

#[cfg(test)]
mod tests;
