//! From files to a [`State`]: the configuration, then everything it names.

use super::DEFAULT_PATH;
use crate::clock::{self, Clock};
use crate::config::load;
use crate::config::{Config, Diagnostic, Group, GroupId, OnConflict, ViewId};
use crate::dns::Name;
use crate::dns::address::is_private;
use crate::pipeline::cache::Cache;
use crate::pipeline::route::Routes;
use crate::pipeline::zone::{Context, HostsConflict, Zones};
use crate::pipeline::{Parts, State};
use crate::stats::{Counter, Stats};
use crate::system::files;
use crate::system::resolvers::{self, Found};
use crate::upstream::{Net, Upstreams};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Hosts lines for public names that are listed one by one; a block list has some hundred thousand.
const MAX_CONFLICT_WARNINGS: usize = 20;
/// Files kept for everything but upstream sockets: 512 clients and 256 upstreams over TCP, listeners, loop probes, files
/// being read.
const KEPT_FILES: usize = 1280;
/// Files this process would like to be able to open: those and as many upstream sockets as there ever are.
pub(super) const WANTED_FILES: u64 = 1280 + 8192;

/// What `truename check` found.
#[derive(Debug)]
pub struct Checked {
    /// Every problem, in the order of files and lines.
    pub diagnostics: Vec<Diagnostic>,
    /// The files read.
    pub files: Vec<PathBuf>,
}

impl Checked {
    /// Tells whether the configuration can be used.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Everything read from files for one configuration, before it is put to work.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) config: Config,
    pub(super) zones: Zones,
    pub(super) routes: Routes,
    pub(super) system: Vec<SocketAddr>,
    /// What was strange about this machine's resolvers.
    pub(super) notes: Vec<String>,
    /// Hosts lines for public names.
    pub(super) hosts_conflicts: usize,
    /// Warnings.
    pub(super) warnings: Vec<Diagnostic>,
}

/// Returns the file to read: the one named, else the default one when it is there.
pub(super) fn config_path(named: Option<&Path>) -> Option<PathBuf> {
    named.map(Path::to_path_buf).or_else(|| Some(PathBuf::from(DEFAULT_PATH)).filter(|path| path.exists()))
}

/// Reads a configuration and everything it names, and reports every problem of all files.
#[must_use]
pub fn check(named: Option<&Path>) -> Checked {
    let loaded = load(config_path(named).as_deref());
    let mut diagnostics = loaded.diagnostics;
    // A mistake in the configuration does not hide those in the files it names.
    if let Some(config) = loaded.config.as_ref().or(loaded.partial.as_ref()) {
        let named = read_named(config, &resolvers::machine_resolvers(&config.server.listen));
        diagnostics.extend(named.diagnostics);
    }
    diagnostics.sort_by(|a, b| a.at.cmp(&b.at));
    Checked { diagnostics, files: loaded.files }
}

/// Reads a configuration for use. `system` are the machine's resolvers known before: when resolv.conf, or the list
/// behind a stub, names only us, they stay in use, so that pointing a machine at a running truename cuts nobody off.
///
/// # Errors
/// Every problem of all files, when one of them is an error.
pub(super) fn read(
    named: Option<&Path>,
    listen: &[SocketAddr],
    system: &[SocketAddr],
) -> Result<Loaded, Vec<Diagnostic>> {
    let loaded = load(config_path(named).as_deref());
    let mut diagnostics = loaded.diagnostics;
    let Some(mut config) = loaded.config else { return Err(diagnostics) };
    if !listen.is_empty() {
        config.server.listen = listen.to_vec();
    }
    let mut found = resolvers::machine_resolvers(&config.server.listen);
    if found.servers.is_empty() && found.names_us && !system.is_empty() {
        found.servers = system.to_vec();
        found.notes.push("the resolvers known before stay in use".to_owned());
    }
    let named = read_named(&config, &found);
    diagnostics.extend(named.diagnostics);
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(diagnostics);
    }
    Ok(Loaded {
        config,
        zones: named.zones,
        routes: named.routes,
        system: found.servers,
        notes: found.notes,
        hosts_conflicts: named.hosts_conflicts,
        warnings: diagnostics,
    })
}

/// What the files say that a configuration names.
struct Named {
    zones: Zones,
    routes: Routes,
    hosts_conflicts: usize,
    diagnostics: Vec<Diagnostic>,
}

/// Reads the zone, hosts and list files that a configuration names.
fn read_named(config: &Config, machine: &Found) -> Named {
    let now = clock::wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (zones, mut diagnostics) = Zones::load(config, now);
    let private = |group: GroupId| group_is_private(config.group(group), &machine.servers);
    let (routes, more) = Routes::load(config, &private, &machine.search);
    diagnostics.extend(more);
    // What routes take from each other by the names written is reported with the configuration; a route that only has
    // lists shows here.
    let by_lists = |problem: &Diagnostic| config.routes.iter().any(|r| r.at == problem.at && !r.lists.is_empty());
    diagnostics.extend(routes.unreachable().into_iter().filter(by_lists));
    let conflicts = zones.hosts_conflicts(&OfDefaultView(&routes));
    if config.hosts.on_conflict == OnConflict::Warn {
        diagnostics.extend(conflict_warnings(&conflicts));
    }
    Named { hosts_conflicts: conflicts.len(), zones, routes, diagnostics }
}

/// The routes as clients of no written view see them.
struct OfDefaultView<'a>(&'a Routes);

impl Context for OfDefaultView<'_> {
    fn explicitly_routed(&self, name: &Name) -> bool {
        self.0.explicitly_routed(ViewId(0), name.as_wire())
    }

    fn private_route(&self, name: &Name) -> bool {
        self.0.find(ViewId(0), name.as_wire()).private
    }
}

/// Makes a warning for each of the first conflicts, and one for the rest.
fn conflict_warnings(conflicts: &[HostsConflict]) -> Vec<Diagnostic> {
    let warning = |conflict: &HostsConflict| {
        let expected = "a name of this network; this one belongs to public servers, whose answer the line hides";
        Diagnostic::warning("hosts-conflict", conflict.at.clone(), expected)
            .found(format!("{} {}", conflict.address, conflict.name))
            .hint("[hosts] on_conflict = \"ignore\" leaves such lines out")
    };
    let mut warnings: Vec<Diagnostic> = conflicts.iter().take(MAX_CONFLICT_WARNINGS).map(warning).collect();
    if let Some(next) = conflicts.get(MAX_CONFLICT_WARNINGS) {
        let left = conflicts.len() - MAX_CONFLICT_WARNINGS;
        let expected = "hosts lines for names of this network";
        let rest = Diagnostic::warning("hosts-conflict", next.at.clone(), expected);
        warnings.push(rest.found(format!("{left} more lines for public names, from here on")));
    }
    warnings
}

/// Tells whether every server of a group has a private address; a group without servers is not private.
fn group_is_private(group: &Group, machine: &[SocketAddr]) -> bool {
    let machine = machine.iter().filter(|_| group.auto);
    let mut all = group.servers.iter().map(|server| server.address).chain(machine.copied()).peekable();
    all.peek().is_some() && all.all(|address| is_private(address.ip()))
}

/// Returns how many of the files this process may open can be upstream sockets.
fn max_sockets() -> usize {
    let limit = files::limit().map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    limit.saturating_sub(KEPT_FILES).max(limit / 4)
}

/// Puts what was read to work. The cache and the upstreams' health of `previous` are carried on.
pub(super) fn state(loaded: Loaded, clock: &Clock, stats: &Arc<Stats>, previous: Option<&State>) -> State {
    stats.set(Counter::HostsConflicts, u64::try_from(loaded.hosts_conflicts).unwrap_or(u64::MAX));
    let config = Arc::new(loaded.config);
    let kept = previous.filter(|previous| previous.config.cache == config.cache);
    let cache = kept.map_or_else(|| Arc::new(Cache::new(&config.cache)), |previous| Arc::clone(&previous.cache));
    let upstreams = Upstreams::new(
        &config,
        &loaded.system,
        clock.clone(),
        Arc::clone(stats),
        Net::Real,
        previous.map(|previous| &previous.upstreams),
    );
    upstreams.set_own_addresses(&config.server.listen);
    upstreams.set_max_sockets(max_sockets());
    State::new(Parts { config, zones: loaded.zones, routes: loaded.routes, upstreams, system: loaded.system, cache })
}
