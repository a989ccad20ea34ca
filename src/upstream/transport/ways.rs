//! All the ways to one server: its links, each made when it is first used.

use super::bootstrap::Finder;
use super::link::{Link, Links};
use super::target::Target;
use super::tls::Roots;
use crate::config::{Floor, Proxy, Rung, Upstream, UpstreamHost, UpstreamOptions, UpstreamTransport};
use crate::dns::Name;
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
    /// Finds what is known by name only.
    finder: Arc<Finder>,
    tcp: OnceLock<Arc<Link>>,
    encrypted: OnceLock<Arc<Link>>,
}

impl Ways {
    /// Makes the ways to a server; those it must not be asked over are left out. `None` when none is left that can be
    /// gone.
    pub(in crate::upstream) fn new(server: &Upstream) -> Option<Self> {
        let allowed = |rung: &&Rung| {
            let transport = rung.transport;
            transport.is_built_in() && (transport.is_encrypted() || server.options.floor == Floor::Any)
        };
        let rungs: Vec<Rung> = server.rungs.iter().filter(allowed).cloned().collect();
        let ways = Self {
            host: server.host.clone(),
            rungs,
            options: Arc::clone(&server.options),
            finder: Arc::default(),
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
    pub(in crate::upstream) fn options(&self) -> &UpstreamOptions {
        &self.options
    }

    /// Returns the names that have to be looked up before it can be asked: its own, its proxy's.
    pub(in crate::upstream) fn names(&self) -> impl Iterator<Item = &Name> {
        let proxy = match &self.options.proxy {
            Proxy::Socks5(proxy) | Proxy::Http(proxy) => Some(&proxy.host),
            Proxy::None | Proxy::Env => None,
        };
        [Some(&self.host), proxy].into_iter().flatten().filter_map(|host| match host {
            UpstreamHost::Name(name) => Some(name),
            UpstreamHost::Address(..) => None,
        })
    }

    /// Returns who looks names up for it, when that may be needed: what the environment names as proxy may be a name.
    pub(in crate::upstream) fn finder(&self) -> Option<&Finder> {
        (!self.is_direct()).then_some(&self.finder)
    }

    /// Tells whether no name has to be looked up to ask it.
    pub(in crate::upstream) fn is_direct(&self) -> bool {
        self.names().next().is_none() && self.options.proxy != Proxy::Env
    }

    /// Tells whether it was found by its name at private addresses only, where it proves by its certificate that it is the
    /// one of that name.
    pub(in crate::upstream) fn has_proved_private(&self) -> bool {
        self.host.ip().is_none() && self.transport().is_encrypted() && self.finder.is_private()
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
                (Arc::clone(&pool.roots), Arc::clone(&self.finder)),
            ))
        }))
    }
}
