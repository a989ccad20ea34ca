//! All the ways to one server: its rungs, and their links, each made when it is first used.

use super::bootstrap::Finder;
use super::dates::Dates;
use super::link::{Link, Links};
use super::prove::Believed;
use super::target::Target;
use super::tls::Roots;
use crate::config::{Floor, Proxy, Rung, Upstream, UpstreamHost, UpstreamOptions, UpstreamTransport};
use crate::dns::Name;
use crate::upstream::ladder::MAX_RUNGS;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

/// The roots that all servers' certificates are held against, and the connections.
#[derive(Debug)]
pub(in crate::upstream) struct Pool {
    links: Arc<Links>,
    roots: Arc<Roots>,
    believed: Arc<Believed>,
}

impl Pool {
    pub(in crate::upstream) fn new(stats: Arc<crate::stats::Stats>, clock: crate::clock::Clock) -> Self {
        Self { links: Arc::new(Links::new(stats)), roots: Arc::new(Roots::new(clock)), believed: Arc::default() }
    }

    /// Returns whom proofs of addresses believe.
    pub(in crate::upstream) fn proving(&self) -> (Arc<Roots>, Arc<Believed>) {
        (Arc::clone(&self.roots), Arc::clone(&self.believed))
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
    /// Finds what is known by name only.
    finder: Arc<Finder>,
    /// One for each rung.
    links: Box<[OnceLock<Arc<Link>>]>,
    /// TCP for what is cut, when there is no rung for it.
    behind_udp: OnceLock<Arc<Link>>,
}

impl Ways {
    /// Makes the ways to a server; those it must not be asked over are left out. `None` when none is left that can be
    /// gone.
    pub(in crate::upstream) fn new(server: &Upstream) -> Option<Self> {
        let allowed = |rung: &&Rung| {
            let transport = rung.transport;
            transport.is_built_in() && (transport.is_encrypted() || server.options.floor == Floor::Any)
        };
        // Datagrams go to addresses only.
        let found = |rung: &&Rung| rung.transport != UpstreamTransport::Udp || server.host.ip().is_some();
        let rungs: Vec<Rung> = server.rungs.iter().filter(allowed).filter(found).take(MAX_RUNGS).cloned().collect();
        let links = rungs.iter().map(|_| OnceLock::new()).collect();
        let (host, options) = (server.host.clone(), Arc::clone(&server.options));
        let ways = Self { host, rungs, options, finder: Arc::default(), links, behind_udp: OnceLock::new() };
        (!ways.rungs.is_empty()).then_some(ways)
    }

    /// Makes the ways to a server that is asked over UDP, TCP for what is cut. `None` when that is not allowed.
    pub(in crate::upstream) fn plain(address: SocketAddr, options: &Arc<UpstreamOptions>) -> Option<Self> {
        let server = Upstream::plain(String::new(), UpstreamTransport::Udp, address);
        Self::new(&Upstream { options: Arc::clone(options), ..server })
    }

    /// Returns how many rungs there are.
    pub(in crate::upstream) fn count(&self) -> usize {
        self.rungs.len()
    }

    /// Returns how the server is asked on a rung.
    pub(in crate::upstream) fn transport(&self, rung: u8) -> UpstreamTransport {
        self.rungs.get(usize::from(rung)).map_or(UpstreamTransport::Udp, |rung| rung.transport)
    }

    /// Returns the rung that asking so belongs to. TCP belongs to UDP when it is no rung of its own.
    pub(in crate::upstream) fn rung(&self, transport: UpstreamTransport) -> u8 {
        let at = self.position(transport).or_else(|| self.position(UpstreamTransport::Udp));
        at.and_then(|at| u8::try_from(at).ok()).unwrap_or(0)
    }

    /// Returns where the server is when it is asked so; the unspecified address when only its name is known.
    pub(in crate::upstream) fn address(&self, transport: UpstreamTransport) -> SocketAddr {
        let port = self.rungs.get(usize::from(self.rung(transport))).map_or(0, |rung| rung.port);
        self.host.socket_address(port).unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, port).into())
    }

    /// Tells whether datagrams are among the rungs.
    pub(in crate::upstream) fn have_udp(&self) -> bool {
        self.position(UpstreamTransport::Udp).is_some()
    }

    /// Tells whether nobody on the way can read or change what goes any of them.
    pub(in crate::upstream) fn are_encrypted(&self) -> bool {
        self.rungs.iter().all(|rung| rung.transport.is_encrypted())
    }

    /// Returns how many round trips pass before a reply can be there: those that open a connection first.
    pub(in crate::upstream) fn round_trips(&self, transport: UpstreamTransport) -> u32 {
        let slot = self.position(transport).and_then(|at| self.links.get(at)).and_then(OnceLock::get);
        match transport {
            UpstreamTransport::Udp => 1,
            _ if slot.is_some_and(|link| link.is_open()) => 1,
            UpstreamTransport::Tcp | UpstreamTransport::Quic | UpstreamTransport::H3 => 2,
            UpstreamTransport::Tls | UpstreamTransport::Https => 3,
        }
    }

    fn position(&self, transport: UpstreamTransport) -> Option<usize> {
        self.rungs.iter().position(|rung| rung.transport == transport)
    }

    /// Returns how many connections were opened so far.
    pub(in crate::upstream) fn connections(&self) -> u64 {
        self.links.iter().chain([&self.behind_udp]).filter_map(OnceLock::get).map(|link| link.opened()).sum()
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

    /// The server's name may lead elsewhere: it is looked up again behind the next query.
    pub(in crate::upstream) fn doubt_addresses(&self) {
        self.finder.doubt();
    }

    /// Tells whether no name has to be looked up to ask it.
    pub(in crate::upstream) fn is_direct(&self) -> bool {
        self.names().next().is_none() && self.options.proxy != Proxy::Env
    }

    /// Tells whether it was found by its name at private addresses only, where it proves by its certificate that it is the
    /// one of that name.
    pub(in crate::upstream) fn has_proved_private(&self) -> bool {
        self.host.ip().is_none() && self.are_encrypted() && self.finder.is_private()
    }

    /// Tells whether others lead to the same place in the same manner, so that their connections can be kept.
    pub(in crate::upstream) fn are_like(&self, other: &Self) -> bool {
        self.host == other.host && self.rungs == other.rungs && self.options == other.options
    }

    /// Returns the link for a transport; `None` when the server is not asked so. TCP stands behind UDP on the same port.
    pub(super) fn link(&self, transport: UpstreamTransport, pool: &Pool) -> Option<&Arc<Link>> {
        let (rung, slot) = match self.position(transport) {
            Some(at) => (self.rungs.get(at)?, self.links.get(at)?),
            None if transport == UpstreamTransport::Tcp => {
                (self.rungs.get(self.position(UpstreamTransport::Udp)?)?, &self.behind_udp)
            }
            None => return None,
        };
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
