//! The groups and their servers: what the configuration says, what the machine was given, what is left out.

use super::health::{Health, Mishap, Snapshot, Standing, Sums};
use super::ladder::Ladder;
use super::outage::Outage;
use super::place::Here;
use super::transport::Ways;
use crate::clock::Tick;
use crate::config::resolvers::operator_of;
use crate::config::{Config, GroupId, PlaceId, Strategy, Upstream, UpstreamOptions, UpstreamTransport};
use crate::dns::Name;
use crate::dns::address::is_private;
use crate::stats::Histogram;
use arc_swap::ArcSwap;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Servers of a group at most; more are left out. No plan asks more than eight.
const MAX_SERVERS: usize = 64;

/// Which server something came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// `GROUP/NAME` or `GROUP/ADDRESS`.
    pub label: Arc<str>,
    /// Its address.
    pub address: SocketAddr,
    /// How it is asked first.
    pub transport: UpstreamTransport,
    /// It has a private address.
    pub private: bool,
    /// Who runs it, as far as that is known.
    pub operator: Arc<str>,
}

/// What is known about one server.
#[derive(Debug, Clone)]
pub struct ServerStatus {
    /// The group's name.
    pub group: String,
    /// The server.
    pub info: ServerInfo,
    /// How it stands.
    pub standing: Standing,
    /// Since when, if that is known.
    pub since: Option<Tick>,
    /// What last went wrong, and when.
    pub last_mishap: Option<(Mishap, Tick)>,
    /// It is one of our own addresses and is never asked.
    pub own: bool,
    /// Somebody has turned it off.
    pub off: bool,
    /// How it is asked on this network, when that is known.
    pub works_over: Option<UpstreamTransport>,
    /// Smoothed round-trip time.
    pub srtt: Option<Duration>,
    /// The slowest answer of the last minutes.
    pub slowest_recent: Option<Duration>,
    /// What happened with it so far.
    pub sums: Sums,
    /// How long its replies took.
    pub rtts: Histogram,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) info: ServerInfo,
    pub(super) health: Arc<Health>,
    pub(super) ways: Arc<Ways>,
    pub(super) ladder: Arc<Ladder>,
    own: AtomicBool,
    /// Somebody has turned it off; kept over reloads.
    off: Arc<AtomicBool>,
    /// It is known by a name that must not be told to public servers; so until somebody has said otherwise.
    pub(super) has_private_name: AtomicBool,
}

impl Server {
    /// Makes a server nothing is known about.
    #[cfg(test)]
    pub(super) fn new(info: ServerInfo) -> Self {
        let ways = Ways::plain(info.address, &Arc::default()).expect("nothing forbids it");
        Self::unknown(info, ways, PlaceId::default())
    }

    /// Makes a server about which nothing is known on the network the machine is on.
    pub(super) fn unknown(info: ServerInfo, ways: Ways, place: PlaceId) -> Self {
        let ladder = Arc::new(Ladder::new(ways.count(), place));
        Self::with(info, Arc::new(Health::new(place)), Arc::new(ways), ladder)
    }

    fn with(info: ServerInfo, health: Arc<Health>, ways: Arc<Ways>, ladder: Arc<Ladder>) -> Self {
        let (own, off, has_private_name) = (AtomicBool::new(false), Arc::default(), AtomicBool::new(true));
        Self { info, health, ways, ladder, own, off, has_private_name }
    }

    /// Returns how it is asked when nothing speaks against it.
    pub(super) fn transport(&self) -> UpstreamTransport {
        self.ways.transport(self.ladder.working().unwrap_or(0))
    }

    /// Reads what the plan needs.
    pub(super) fn snapshot(&self, now: Tick) -> Snapshot {
        Snapshot {
            steps: self.ladder.steps(),
            repeats: self.ways.have_udp(),
            round_trips: self.ways.round_trips(self.transport()),
            ..self.health.snapshot(now)
        }
    }

    /// Tells whether asking it would be asking ourselves.
    pub(super) fn is_own(&self) -> bool {
        self.own.load(Ordering::Relaxed)
    }

    /// Tells whether somebody has turned it off.
    pub(super) fn is_off(&self) -> bool {
        self.off.load(Ordering::Relaxed)
    }

    /// Returns what its answers are judged by: a server that has proved to be the one of its name is as private as the
    /// addresses this name leads to.
    pub(super) fn info_for_judging(&self) -> Cow<'_, ServerInfo> {
        if self.info.private || !self.ways.has_proved_private() {
            return Cow::Borrowed(&self.info);
        }
        Cow::Owned(ServerInfo { private: true, ..self.info.clone() })
    }

    /// Tells whether a question may go to it; `only_private` is what the question says.
    pub(super) fn may_be_asked(&self, only_private: bool) -> bool {
        !self.is_own() && !self.is_off() && (self.info.private || !only_private)
    }
}

#[derive(Debug)]
pub(super) struct GroupState {
    pub(super) name: String,
    pub(super) strategy: Strategy,
    pub(super) timeout: Duration,
    pub(super) fallback: Option<GroupId>,
    pub(super) outage: Arc<Outage>,
    /// Somebody wrote that nobody of it may be asked in plain.
    pub(super) has_floor: bool,
    fixed: Vec<Arc<Server>>,
    auto: bool,
    /// What is written for the group: what connections to the machine's resolvers need.
    options: Arc<UpstreamOptions>,
    members: ArcSwap<Vec<Arc<Server>>>,
}

#[derive(Debug)]
pub(super) struct Groups {
    all: Vec<GroupState>,
    own: ArcSwap<Vec<SocketAddr>>,
    here: Arc<Here>,
}

impl Groups {
    pub(super) fn new(config: &Config, system: &[SocketAddr], previous: Option<&Self>) -> Self {
        let known: Vec<Arc<Server>> = previous
            .map(|groups| groups.all.iter().flat_map(|group| group.members.load_full().to_vec()).collect())
            .unwrap_or_default();
        let here = previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.here));
        let place = here.place();
        let make = |(info, ways): (ServerInfo, Ways)| {
            let before =
                known.iter().find(|server| server.info.label == info.label && server.info.address == info.address);
            let new_health = || Arc::new(Health::new(place));
            let health = before.map_or_else(new_health, |server| Arc::clone(&server.health));
            // Connections of those before are opened meanwhile, and look for the name as this one says.
            let same_names = before.filter(|server| server.ways.names().eq(ways.names()));
            let has_private_name = same_names.is_none_or(|server| server.has_private_name.load(Ordering::Relaxed));
            let (ways, ladder) = match before.filter(|server| server.ways.are_like(&ways)) {
                Some(server) => (Arc::clone(&server.ways), Arc::clone(&server.ladder)),
                None => {
                    let ladder = Arc::new(Ladder::new(ways.count(), place));
                    (Arc::new(ways), ladder)
                }
            };
            let off = before.map_or_else(Arc::default, |server| Arc::clone(&server.off));
            Arc::new(Server {
                off,
                has_private_name: AtomicBool::new(has_private_name),
                ..Server::with(info, health, ways, ladder)
            })
        };
        let all = config
            .groups
            .iter()
            .map(|group| {
                let fixed: Vec<_> = group.servers.iter().take(MAX_SERVERS).filter_map(written).map(make).collect();
                let system = if group.auto { system } else { &[] };
                let found = given_infos(&group.name, system, &fixed);
                let found = found.filter_map(|info| given(info, &group.options)).map(make);
                let members: Vec<_> = fixed.iter().cloned().chain(found).take(MAX_SERVERS).collect();
                // What is known about the group holds as long as its servers are the same.
                let same = |other: &&GroupState| {
                    let others = other.members.load();
                    let pairs = || others.iter().zip(&members);
                    others.len() == members.len() && pairs().all(|(one, other)| Arc::ptr_eq(&one.health, &other.health))
                };
                let before = previous.and_then(|groups| groups.all.iter().find(same));
                GroupState {
                    name: group.name.clone(),
                    strategy: group.strategy,
                    timeout: group.timeout,
                    fallback: group.fallback,
                    outage: before.map_or_else(Arc::default, |before| Arc::clone(&before.outage)),
                    has_floor: group.has_floor(),
                    fixed,
                    auto: group.auto,
                    options: Arc::clone(&group.options),
                    members: ArcSwap::from_pointee(members),
                }
            })
            .collect();
        let groups = Self { all, own: ArcSwap::default(), here };
        if let Some(previous) = previous {
            groups.set_own(&previous.own.load());
        }
        groups
    }

    /// Returns a group; `None` for an id of another configuration.
    pub(super) fn get(&self, id: GroupId) -> Option<&GroupState> {
        self.all.get(usize::from(id.0))
    }

    /// Returns the servers of a group, in order.
    pub(super) fn members(&self, id: GroupId) -> Arc<Vec<Arc<Server>>> {
        self.get(id).map(|group| group.members.load_full()).unwrap_or_default()
    }

    /// Returns the servers of a group by its place in the configuration.
    pub(super) fn members_at(&self, at: usize) -> Arc<Vec<Arc<Server>>> {
        self.all.get(at).map(|group| group.members.load_full()).unwrap_or_default()
    }

    /// Returns the servers that are written, each with its group's place in the configuration.
    pub(super) fn fixed(&self) -> impl Iterator<Item = (usize, &Arc<Server>)> {
        self.all.iter().enumerate().flat_map(|(at, group)| group.fixed.iter().map(move |server| (at, server)))
    }

    /// Tells whether we listen on an address.
    pub(super) fn is_own(&self, address: SocketAddr) -> bool {
        self.own.load().iter().any(|own| is_same(*own, address))
    }

    pub(super) fn set_private_names(&self, is_private: impl Fn(&Name) -> bool) {
        for (_, server) in self.fixed() {
            let private = server.ways.names().any(&is_private);
            server.has_private_name.store(private, Ordering::Relaxed);
        }
    }

    pub(super) fn set_system(&self, system: &[SocketAddr]) {
        for group in self.all.iter().filter(|group| group.auto) {
            let before = group.members.load_full();
            let found = given_infos(&group.name, system, &group.fixed).filter_map(|info| {
                let same = before.iter().find(|server| server.info == info);
                let fresh = || {
                    let (info, ways) = given(info.clone(), &group.options)?;
                    Some(Arc::new(Server::unknown(info, ways, self.here.place())))
                };
                same.cloned().or_else(fresh)
            });
            let members: Vec<_> = group.fixed.iter().cloned().chain(found).take(MAX_SERVERS).collect();
            group.members.store(Arc::new(members));
        }
        self.set_own(&self.own.load_full());
    }

    /// The network may be another one: what was known of it is a guess from here on.
    pub(super) fn moved_to(&self, place: PlaceId, now: Tick) {
        self.here.move_to(place, now);
        for group in &self.all {
            group.outage.end();
            for server in group.members.load().iter() {
                server.ladder.moved_to(place);
                server.health.moved_to(place);
                server.ways.doubt_addresses();
            }
        }
    }

    /// The network is another one than it seemed; nothing else has changed.
    pub(super) fn is_at(&self, place: PlaceId) {
        self.here.is_at(place);
        for server in self.all.iter().flat_map(|group| group.members.load_full().to_vec()) {
            server.ladder.is_at(place);
            server.health.is_at(place);
        }
    }

    /// Returns where the machine is.
    pub(super) fn here(&self) -> &Here {
        &self.here
    }

    pub(super) fn own(&self) -> Vec<SocketAddr> {
        self.own.load().to_vec()
    }

    pub(super) fn set_own(&self, own: &[SocketAddr]) {
        self.own.store(Arc::new(own.to_vec()));
        for server in self.all.iter().flat_map(|group| group.members.load_full().to_vec()) {
            server.own.store(self.is_own(server.info.address), Ordering::Relaxed);
        }
    }

    /// Turns servers on or off: the one of this label, or all of the group of this name. Returns how many there are.
    pub(super) fn switch(&self, label: &str, on: bool) -> usize {
        let all = self.all.iter().flat_map(|group| {
            let is_meant = |server: &Arc<Server>| *server.info.label == *label || group.name == label;
            group.members.load_full().iter().filter(|server| is_meant(server)).cloned().collect::<Vec<_>>()
        });
        all.inspect(|server| server.off.store(!on, Ordering::Relaxed)).count()
    }

    pub(super) fn status(&self, now: Tick) -> Vec<ServerStatus> {
        let servers = self.all.iter().flat_map(|group| {
            group.members.load_full().iter().map(|server| (group.name.clone(), Arc::clone(server))).collect::<Vec<_>>()
        });
        servers
            .map(|(group, server)| {
                let snapshot = server.health.snapshot(now);
                let (since, last_mishap) = server.health.story(now);
                ServerStatus {
                    group,
                    info: server.info.clone(),
                    standing: snapshot.standing,
                    since,
                    last_mishap,
                    own: server.is_own(),
                    off: server.is_off(),
                    works_over: server.ladder.working().map(|rung| server.ways.transport(rung)),
                    srtt: snapshot.srtt,
                    slowest_recent: snapshot.slowest_recent,
                    sums: server.health.sums(),
                    rtts: server.health.rtts(),
                }
            })
            .collect()
    }
}

/// Returns a server of the configuration and the ways to it; nothing for one there is no way to.
fn written(server: &Upstream) -> Option<(ServerInfo, Ways)> {
    let ways = Ways::new(server)?;
    let transport = ways.transport(0);
    let address = ways.address(transport);
    // One that is found by its name only may be anywhere, and be somewhere else tomorrow.
    let private = server.host.ip().is_some_and(is_private);
    let operator = operator_of(server).into();
    let info = ServerInfo { label: server.label.as_str().into(), address, transport, private, operator };
    Some((info, ways))
}

/// Adds the ways to one of the machine's resolvers; nothing when its group forbids plain ones.
fn given(info: ServerInfo, options: &Arc<UpstreamOptions>) -> Option<(ServerInfo, Ways)> {
    let ways = Ways::plain(info.address, options)?;
    Some((info, ways))
}

/// Returns the machine's resolvers that the group does not name itself.
fn given_infos<'a>(
    group: &'a str,
    system: &'a [SocketAddr],
    fixed: &'a [Arc<Server>],
) -> impl Iterator<Item = ServerInfo> + 'a {
    let named = move |address: &SocketAddr| fixed.iter().any(|server| server.info.address == *address);
    let repeated = |at: usize, address: &SocketAddr| system[..at].contains(address);
    system.iter().enumerate().filter(move |(at, address)| !named(address) && !repeated(*at, address)).map(
        move |(_, &address)| {
            let given = Upstream::given(group, address);
            ServerInfo {
                operator: operator_of(&given).into(),
                label: given.label.into(),
                address,
                transport: UpstreamTransport::Udp,
                private: is_private(address.ip()),
            }
        },
    )
}

/// Tells whether an address we listen on takes what is sent to `server`. A wildcard takes what goes to loopback; which
/// other addresses are ours is not known here, and loop detection finds those.
fn is_same(own: SocketAddr, server: SocketAddr) -> bool {
    own.port() == server.port()
        && (own.ip().to_canonical() == server.ip().to_canonical()
            || (own.ip().is_unspecified() && (server.ip().is_loopback() || server.ip().is_unspecified())))
}
