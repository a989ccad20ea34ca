//! All the ways to one server: its links, each made when it is first used.

use super::dates::Dates;
use super::link::{Link, Links};
use super::target::Target;
use super::tls::Roots;
use crate::config::{Floor, Rung, Upstream, UpstreamHost, UpstreamOptions, UpstreamTransport};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

/// The roots that all servers' certificates are held against, and the connections.
#[derive(Debug)]
pub(in crate::upstream) struct Pool {
    links: Arc<Links>,
    roots: Arc<Roots>,
}

impl Pool {
    pub(in crate::upstream) fn new(stats: Arc<crate::stats::Stats>) -> Self {
        Self { links: Arc::new(Links::new(stats)), roots: Arc::default() }
    }

    /// Returns what certificates say about this machine's clock.
    pub(in crate::upstream) fn dates(&self) -> &Dates {
        &self.roots.dates
    }

    /// The network may be another one: makes every connection suspect.
    pub(in crate::upstream) fn suspect_all(&self) {
        self.links.suspect_all();
    }
}

/// The ways to one server.
#[derive(Debug)]
pub(in crate::upstream) struct Ways {
    host: UpstreamHost,
    rungs: Vec<Rung>,
    options: Arc<UpstreamOptions>,
    tcp: OnceLock<Arc<Link>>,
    encrypted: OnceLock<Arc<Link>>,
}

impl Ways {
    /// Makes the ways to a server; those it must not be asked over are left out. `None` when none is left that can be
    /// gone.
    pub(in crate::upstream) fn new(server: &Upstream) -> Option<Self> {
        let allowed = |rung: &&Rung| {
            let transport = rung.transport;
            let built = transport != UpstreamTransport::H3;
            built && (transport.is_encrypted() || server.options.floor == Floor::Any)
        };
        let rungs: Vec<Rung> = server.rungs.iter().filter(allowed).cloned().collect();
        let ways = Self {
            host: server.host.clone(),
            rungs,
            options: Arc::clone(&server.options),
            tcp: OnceLock::new(),
            encrypted: OnceLock::new(),
        };
        ways.address().is_some().then_some(ways)
    }

    /// Makes the ways to a server that is asked over UDP, TCP for what is cut. `None` when that is not allowed.
    pub(in crate::upstream) fn plain(address: SocketAddr, options: &Arc<UpstreamOptions>) -> Option<Self> {
        let server = Upstream::plain(String::new(), UpstreamTransport::Udp, address);
        Self::new(&Upstream { options: Arc::clone(options), ..server })
    }

    /// Returns how the server is asked first.
    pub(in crate::upstream) fn transport(&self) -> UpstreamTransport {
        self.rungs.first().map_or(UpstreamTransport::Udp, |rung| rung.transport)
    }

    /// Returns where it is asked first; the unspecified address when only its name is known.
    pub(in crate::upstream) fn address(&self) -> Option<SocketAddr> {
        let rung = self.rungs.first()?;
        match self.host.socket_address(rung.port) {
            Some(address) => Some(address),
            // Datagrams go to addresses only.
            None if rung.transport == UpstreamTransport::Udp => None,
            None => Some((Ipv4Addr::UNSPECIFIED, rung.port).into()),
        }
    }

    /// Returns what its connections and sockets need.
    pub(super) fn options(&self) -> &UpstreamOptions {
        &self.options
    }

    /// Tells whether others lead to the same place in the same manner, so that their connections can be kept.
    pub(in crate::upstream) fn are_like(&self, other: &Self) -> bool {
        self.host == other.host && self.rungs == other.rungs && self.options == other.options
    }

    /// Returns the link for a transport; `None` when the server is not asked so. TCP stands behind UDP on the same port.
    pub(super) fn link(&self, transport: UpstreamTransport, pool: &Pool) -> Option<&Arc<Link>> {
        let by = |wanted| self.rungs.iter().find(|rung| rung.transport == wanted);
        let behind_udp = || by(UpstreamTransport::Udp).filter(|_| transport == UpstreamTransport::Tcp);
        let rung = by(transport).or_else(behind_udp)?;
        let slot = if transport.is_encrypted() { &self.encrypted } else { &self.tcp };
        Some(slot.get_or_init(|| {
            let (path, options) = (rung.path.clone(), Arc::clone(&self.options));
            pool.links.link(Target::new(
                (self.host.clone(), rung.port),
                transport,
                path,
                options,
                Arc::clone(&pool.roots),
            ))
        }))
    }
}
