//! Tells the service manager that queries are answered, as often as it wants to hear it, and only then.
//!
//! A beat asks every address we listen on over UDP, as a client would, from so many ports that every worker has its turn. A
//! worker that hangs, or a socket that nobody reads, keeps the beat back: the manager then restarts the daemon, whose
//! sockets it holds. Without a watchdog there is no timer.

use crate::dns::encode::upstream_query;
use crate::dns::wire::u16_at;
use crate::dns::{Name, Query, Rtype};
use crate::listen::Address;
use crate::system::service;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Beats in the time after which the manager takes silence for a hang: one may be late.
const BEATS: u32 = 3;
/// How long all answers of a beat may take together.
const PATIENCE: Duration = Duration::from_secs(2);
/// Questions per worker: the kernel deals ports out to workers by a hash, and with four each the chance that one of two
/// workers has none is below one in a hundred; the next beat has other ports.
const QUESTIONS_PER_WORKER: usize = 4;
/// Questions of a beat, over all addresses.
const MAX_QUESTIONS: usize = 64;
/// Answered by every daemon itself (RFC 6761 section 6.3), so a beat asks no upstream.
const NAME: &str = "localhost";

/// The addresses to ask. Shared with the task that listens to signals, by turns, on one thread.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    addresses: Mutex<Vec<SocketAddr>>,
    workers: usize,
}

impl Watchdog {
    pub(super) fn new(workers: usize, addresses: &[Address]) -> Self {
        let watchdog = Self { addresses: Mutex::default(), workers };
        watchdog.follow(addresses);
        watchdog
    }

    /// Takes over the addresses of a new configuration.
    pub(super) fn follow(&self, addresses: &[Address]) {
        let reached = addresses.iter().map(|address| reached_at(address.actual)).collect();
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = reached;
    }

    /// Beats for as long as it is polled; never, when nobody watches.
    pub(super) async fn beat(&self, every: Option<Duration>) -> Infallible {
        let Some(every) = every else { return pending().await };
        loop {
            match self.ask_all().await {
                Ok(()) => service::alive(),
                Err(error) => tracing::error!(%error, "no answer from ourselves; the service manager will restart us"),
            }
            sleep(every / BEATS).await;
        }
    }

    /// Asks every address; an error when an answer is missing.
    async fn ask_all(&self) -> io::Result<()> {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let each = (self.workers * QUESTIONS_PER_WORKER).min(MAX_QUESTIONS / addresses.len().max(1)).max(1);
        let mut questions = JoinSet::new();
        for address in addresses.into_iter().flat_map(|address| std::iter::repeat_n(address, each)) {
            questions.spawn(ask(address));
        }
        let all = async {
            while let Some(answered) = questions.join_next().await {
                answered.map_err(io::Error::other)??;
            }
            Ok(())
        };
        timeout(PATIENCE, all).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

async fn ask(address: SocketAddr) -> io::Result<()> {
    let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    let name = Name::parse(NAME).map_err(io::Error::other)?;
    let id = rand::random();
    socket.send(&upstream_query(&Query::local(name, Rtype::A).question(), id, None)).await?;
    let mut reply = [0; 512];
    loop {
        let len = socket.recv(&mut reply).await?;
        // Whatever it says: REFUSED is an answer too, where we may not ask ourselves.
        if u16_at(&reply[..len], 0) == Some(id) {
            return Ok(());
        }
    }
}

/// Returns where a socket that listens on every address is reached.
fn reached_at(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}
