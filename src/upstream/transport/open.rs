//! Opening a connection by each transport, and what all of them can do once they are open.

#[cfg(feature = "h3")]
use super::http3;
use super::idle::Idle;
use super::jobs::{Command, Fault, Job};
use super::owed::{Event, Owed};
use super::target::{ENCRYPTED_IDLE, Target};
use super::{dial, https, quic, requests, stream, tls};
use crate::clock;
use crate::config::UpstreamTransport;
use std::hash::Hash;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

/// A plain connection with nothing pending is closed after this at the latest (RFC 7766 section 6.2.3 asks for a few
/// seconds).
pub(super) const PLAIN_IDLE: Duration = Duration::from_secs(8);

/// An open connection.
#[derive(Debug)]
pub(super) enum Session {
    Tcp(Box<stream::Session<TcpStream>>),
    Tls(Box<stream::Session<TlsStream<TcpStream>>>),
    Https(Box<requests::Session<https::Https>>),
    Quic(Box<requests::Session<quic::Quic>>),
    #[cfg(feature = "h3")]
    Http3(Box<requests::Session<http3::Http3>>),
}

impl Session {
    /// Takes a query that came while the connection was being opened.
    pub(super) fn ask(&mut self, job: Job) {
        match self {
            Self::Tcp(session) => session.ask(job),
            Self::Tls(session) => session.ask(job),
            Self::Https(session) => session.ask(job),
            Self::Quic(session) => session.ask(job),
            #[cfg(feature = "h3")]
            Self::Http3(session) => session.ask(job),
        }
    }

    /// Works until the link has to know something.
    pub(super) async fn next(&mut self, jobs: &mut mpsc::Receiver<Command>) -> Event {
        match self {
            Self::Tcp(session) => session.next(jobs).await,
            Self::Tls(session) => session.next(jobs).await,
            Self::Https(session) => session.next(jobs).await,
            Self::Quic(session) => session.next(jobs).await,
            #[cfg(feature = "h3")]
            Self::Http3(session) => session.next(jobs).await,
        }
    }
}

/// Opens a connection; `silence` is the shortest time that is suspect on it.
pub(super) async fn open(target: &Target, silence: Duration) -> Result<Session, Fault> {
    let opened = match target.transport {
        UpstreamTransport::Udp | UpstreamTransport::Tcp => tcp(target, silence).await,
        UpstreamTransport::Tls => dot(target, silence).await,
        UpstreamTransport::Https => doh(target, silence).await,
        UpstreamTransport::Quic => doq(target, silence).await,
        #[cfg(feature = "h3")]
        UpstreamTransport::H3 => doh3(target, silence).await,
        #[cfg(not(feature = "h3"))]
        UpstreamTransport::H3 => Err(Fault::told("HTTP/3 is not built in")),
    };
    if opened.is_err() {
        target.forget();
    }
    opened
}

async fn tcp(target: &Target, silence: Duration) -> Result<Session, Fault> {
    let (stream, rtt) = dialled(target).await?;
    let owed = owed(rtt, silence, PLAIN_IDLE);
    Ok(Session::Tcp(Box::new(stream::Session::new(stream, owed))))
}

async fn dot(target: &Target, silence: Duration) -> Result<Session, Fault> {
    let (stream, rtt) = secured(target).await?;
    let owed = owed(rtt, silence, ENCRYPTED_IDLE);
    Ok(Session::Tls(Box::new(stream::Session::new(stream, owed))))
}

async fn doh(target: &Target, silence: Duration) -> Result<Session, Fault> {
    let (stream, rtt) = secured(target).await?;
    let protocol = https::Https::open(stream, target).await?;
    let owed = owed(rtt, silence, ENCRYPTED_IDLE);
    Ok(Session::Https(Box::new(requests::Session::new(protocol, owed))))
}

async fn doq(target: &Target, silence: Duration) -> Result<Session, Fault> {
    let (protocol, rtt) = quic::Quic::open(target).await?;
    let owed = owed(rtt, silence, ENCRYPTED_IDLE);
    Ok(Session::Quic(Box::new(requests::Session::new(protocol, owed))))
}

#[cfg(feature = "h3")]
async fn doh3(target: &Target, silence: Duration) -> Result<Session, Fault> {
    let (protocol, rtt) = http3::Http3::open(target).await?;
    let owed = owed(rtt, silence, ENCRYPTED_IDLE);
    Ok(Session::Http3(Box::new(requests::Session::new(protocol, owed))))
}

/// Begins to count what a connection owes that has just been opened on this thread.
fn owed<K: Hash + Eq + Copy>(rtt: Duration, silence: Duration, longest_idle: Duration) -> Owed<K> {
    Owed::new(Instant::now(), rtt, silence, Idle::new(clock::timers_began(), longest_idle))
}

/// Connects; returns the time of a round trip too.
async fn dialled(target: &Target) -> Result<(TcpStream, Duration), Fault> {
    let start = Instant::now();
    let stream = dial::connect(target).await?;
    Ok((stream, start.elapsed()))
}

async fn secured(target: &Target) -> Result<(TlsStream<TcpStream>, Duration), Fault> {
    let (config, name) = (target.tls().await?, tls::server_name(target.server_name())?);
    let (stream, rtt) = dialled(target).await?;
    let shaken = tls::shake_hands(config, name, stream).await;
    Ok((shaken.map_err(|error| tls::fault(error, &target.server_name()))?, rtt))
}
