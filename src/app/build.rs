//! From files to a [`State`]: the configuration, then everything it names.
//!
//! [`read`] reads all of them; [`refresh`] only what a changed file concerns, under the configuration in force.

use super::{DEFAULT_PATH, requirements};
use crate::clock::{self, Clock};
use crate::config::{self, Text, advice, effective, load, load_keeping};
use crate::config::{Config, Diagnostic, Group, GroupId, ListFile, OnConflict, Severity, ViewId};
use crate::dns::Name;
use crate::dns::address::is_private;
use crate::pipeline::cache::Cache;
use crate::pipeline::route::Routes;
use crate::pipeline::zone::{Context, HostsConflict, Zones};
use crate::pipeline::{Parts, State};
use crate::stats::{Counter, Stats};
use crate::system::resolvers::{self, Found};
use crate::system::{files, kernel};
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
    pub(super) config: Arc<Config>,
    pub(super) zones: Arc<Zones>,
    pub(super) routes: Arc<Routes>,
    pub(super) system: Vec<SocketAddr>,
    /// The addresses we are to listen on, or do.
    pub(super) own: Vec<SocketAddr>,
    /// What was strange about this machine's resolvers.
    pub(super) notes: Vec<String>,
    /// Hosts lines for public names.
    pub(super) hosts_conflicts: usize,
    /// Warnings.
    pub(super) warnings: Vec<Diagnostic>,
    /// The texts of the configuration, for a copy of it.
    pub(super) texts: Vec<Text>,
}

/// Returns the file to read: the one named, else the default one when it is there. One that cannot be looked at counts
/// as there: reading it then says why, where the defaults in its place would send private names out.
pub(super) fn config_path(named: Option<&Path>) -> Option<PathBuf> {
    let is_there = |path: &PathBuf| path.try_exists().unwrap_or(true);
    named.map(Path::to_path_buf).or_else(|| Some(PathBuf::from(DEFAULT_PATH)).filter(is_there))
}

/// Reads a configuration and everything it names, and reports every problem of all files.
#[must_use]
pub fn check(named: Option<&Path>) -> Checked {
    let loaded = load(config_path(named).as_deref());
    let mut diagnostics = loaded.diagnostics;
    // A mistake in the configuration does not hide those in the files it names.
    if let Some(config) = loaded.config.as_ref().or(loaded.partial.as_ref()) {
        let found = resolvers::machine_resolvers(&config.server.listen);
        let named = read_named(config, &found, Kept::default());
        diagnostics.extend(named.diagnostics);
        diagnostics.extend(requirements::check(&config.requirements, kernel::version()));
        diagnostics.extend(advice::advice(config));
    }
    diagnostics.sort_by(|a, b| a.at.cmp(&b.at));
    Checked { diagnostics, files: loaded.files }
}

/// Reads a configuration and writes down what of it is in force for upstreams and routes.
///
/// # Errors
/// When the configuration cannot be used.
pub fn effective(named: Option<&Path>) -> Result<String, super::RunError> {
    let loaded = load(config_path(named).as_deref());
    loaded.config.map(|config| effective::effective(&config)).ok_or(super::RunError::Config(loaded.diagnostics))
}

/// Reads a configuration for use in this process alone, whoever listens on its addresses.
///
/// # Errors
/// Every problem of all files, when one of them is an error.
pub(super) fn read(named: Option<&Path>) -> Result<Loaded, Vec<Diagnostic>> {
    let draft = draft(named, &[])?;
    let own = draft.config.server.listen.clone();
    draft.read(own, &[])
}

/// A configuration that can be used, before the files it names have been read.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) config: Config,
    diagnostics: Vec<Diagnostic>,
    texts: Vec<Text>,
}

/// Reads a configuration by itself; with `listen` in place of its addresses, when there are any.
///
/// # Errors
/// Its problems, when one of them is an error.
pub(super) fn draft(named: Option<&Path>, listen: &[SocketAddr]) -> Result<Draft, Vec<Diagnostic>> {
    Draft::of(load(config_path(named).as_deref()), listen)
}

/// Does the same and keeps the texts, unless they are longer than `most` octets.
///
/// # Errors
/// As [`draft`].
pub(super) fn draft_keeping(
    named: Option<&Path>,
    listen: &[SocketAddr],
    most: usize,
) -> Result<Draft, Vec<Diagnostic>> {
    Draft::of(config_path(named).map_or_else(|| load(None), |path| load_keeping(&path, most)), listen)
}

impl Draft {
    /// Makes one of what was loaded.
    ///
    /// # Errors
    /// As [`draft`].
    pub(super) fn of(loaded: config::Loaded, listen: &[SocketAddr]) -> Result<Self, Vec<Diagnostic>> {
        let config::Loaded { config, diagnostics, texts, .. } = loaded;
        let Some(mut config) = config else { return Err(diagnostics) };
        if !listen.is_empty() {
            config.server.listen = listen.to_vec();
        }
        Ok(Self { config, diagnostics, texts })
    }

    /// Reads what it names. `own` are the addresses we listen on under it. `system` are the machine's resolvers known before:
    /// when resolv.conf, or the list behind a stub, names only us, they stay in use, so that pointing a machine at a running
    /// truename cuts nobody off.
    ///
    /// # Errors
    /// Every problem of all files, when one of them is an error.
    pub(super) fn read(self, own: Vec<SocketAddr>, system: &[SocketAddr]) -> Result<Loaded, Vec<Diagnostic>> {
        let Self { config, mut diagnostics, texts } = self;
        let found = machine_resolvers(&own, system);
        let named = read_named(&config, &found, Kept::default());
        diagnostics.extend(named.diagnostics);
        diagnostics.extend(requirements::check(&config.requirements, kernel::version()));
        // The daemon finds out by itself what it may; advice is for who reads it at leisure.
        diagnostics.retain(|problem| problem.severity != Severity::Advice);
        let named = Named { diagnostics, ..named };
        let loaded = named.loaded(Arc::new(config), own, found)?;
        Ok(Loaded { texts, ..loaded })
    }
}

/// What changed files concern.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Concerned {
    /// A file of records or hosts.
    pub(super) zones: bool,
    /// A list of names, or what says which resolvers this machine has.
    pub(super) routes: bool,
}

/// Reads again what changed files concern. The configuration stays the one in force, whatever its file says by now: that
/// is read on request only. What is not concerned is neither read again nor able to stand in the way.
///
/// # Errors
/// Every problem of the files read, when one of them is an error.
pub(super) fn refresh(state: &State, concerned: Concerned) -> Result<Loaded, Vec<Diagnostic>> {
    // The machine's resolvers decide which routes are private, and their search domains are routes.
    let own = state.upstreams.own_addresses();
    let found = if concerned.routes {
        machine_resolvers(&own, &state.system)
    } else {
        Found { servers: state.system.clone(), ..Found::default() }
    };
    let kept = Kept {
        zones: (!concerned.zones).then(|| Arc::clone(&state.zones)),
        routes: (!concerned.routes).then(|| Arc::clone(&state.routes)),
    };
    let named = read_named(&state.config, &found, kept);
    named.loaded(Arc::clone(&state.config), own, found)
}

/// Reads what the routes of another configuration need beside what is in force: its lists, this machine's resolvers.
/// Zones and hosts stay as they are. With `kept`, those routes are taken as they are when that is not possible.
///
/// # Errors
/// Every problem of the files read, when one of them is an error and no routes are kept.
pub(super) fn with_routes_of(
    state: &State,
    config: Arc<Config>,
    kept: Option<Arc<Routes>>,
) -> Result<Loaded, Vec<Diagnostic>> {
    let own = state.upstreams.own_addresses();
    let found = machine_resolvers(&own, &state.system);
    let read = |routes| {
        let kept = Kept { zones: Some(Arc::clone(&state.zones)), routes };
        let named = read_named(&config, &found, kept);
        named.loaded(Arc::clone(&config), own.clone(), found.clone())
    };
    read(None).or_else(|problems| kept.map_or(Err(problems), |kept| read(Some(kept))))
}

/// Looks at this machine's resolvers; when they are others than those in force, reads what they concern. Their files are
/// watched as well, as far as it is known where they lie.
pub(super) fn follow_machine(state: &State) -> Option<Result<Loaded, Vec<Diagnostic>>> {
    let found = machine_resolvers(&state.upstreams.own_addresses(), &state.system);
    (found.servers != state.system).then(|| refresh(state, Concerned { zones: false, routes: true }))
}

/// Finds this machine's resolvers; those `known` before stay in use where the files name only us.
fn machine_resolvers(own: &[SocketAddr], known: &[SocketAddr]) -> Found {
    let mut found = resolvers::machine_resolvers(own);
    if found.servers.is_empty() && found.names_us && !known.is_empty() {
        found.servers = known.to_vec();
        found.notes.push("the resolvers known before stay in use".to_owned());
    }
    found
}

/// What is not read again.
#[derive(Debug, Default)]
struct Kept {
    zones: Option<Arc<Zones>>,
    routes: Option<Arc<Routes>>,
}

/// What the files say that a configuration names.
struct Named {
    zones: Arc<Zones>,
    routes: Arc<Routes>,
    hosts_conflicts: usize,
    diagnostics: Vec<Diagnostic>,
}

impl Named {
    fn loaded(self, config: Arc<Config>, own: Vec<SocketAddr>, found: Found) -> Result<Loaded, Vec<Diagnostic>> {
        let Self { zones, routes, hosts_conflicts, diagnostics } = self;
        if diagnostics.iter().any(Diagnostic::is_error) {
            return Err(diagnostics);
        }
        let Found { servers: system, notes, .. } = found;
        let texts = Vec::new();
        Ok(Loaded { config, zones, routes, system, own, notes, hosts_conflicts, warnings: diagnostics, texts })
    }
}

/// Reads the zone, hosts and list files that a configuration names, but for those of what is kept.
fn read_named(config: &Config, machine: &Found, kept: Kept) -> Named {
    let mut diagnostics = Vec::new();
    let zones_are_new = kept.zones.is_none();
    let zones = kept.zones.unwrap_or_else(|| {
        let now = clock::wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (zones, problems) = Zones::load(config, now);
        diagnostics.extend(problems);
        Arc::new(zones)
    });
    let routes = kept.routes.unwrap_or_else(|| {
        let private = |group: GroupId| group_is_private(config.group(group), &machine.servers);
        let (mut routes, problems) = Routes::load(config, &private, &machine.search);
        routes.read_at = Some(clock::wall());
        diagnostics.extend(problems);
        // What routes take from each other by the names written is reported with the configuration; a route that only
        // has lists shows here.
        let by_lists = |problem: &Diagnostic| {
            let route = config.routes.iter().find(|route| route.at == problem.at);
            // A list that could not be read is one problem, not two.
            let is_error = |list: &ListFile| diagnostics.iter().any(|known| known.is_error() && known.at == list.at);
            route.is_some_and(|route| !route.lists.is_empty() && !route.lists.iter().any(is_error))
        };
        let unreachable: Vec<Diagnostic> = routes.unreachable().into_iter().filter(by_lists).collect();
        diagnostics.extend(unreachable);
        Arc::new(routes)
    });
    let conflicts = zones.hosts_conflicts(&OfDefaultView(&routes));
    if config.hosts.on_conflict == OnConflict::Warn && zones_are_new {
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

/// Tells whether every server of a group has a private address; a group without servers is not private, nor one with a
/// server whose address is only known when it is asked.
fn group_is_private(group: &Group, machine: &[SocketAddr]) -> bool {
    let machine = machine.iter().filter(|_| group.auto);
    let written = group.servers.iter().map(|server| server.host.ip());
    let mut all = written.chain(machine.map(|address| Some(address.ip()))).peekable();
    all.peek().is_some() && all.all(|ip| ip.is_some_and(is_private))
}

/// Returns how many of the files that this process may open can be upstream sockets.
fn max_sockets(limit: Option<u64>) -> usize {
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    limit.saturating_sub(KEPT_FILES).max(limit / 4)
}

/// Puts what was read to work. The cache and the upstreams' health of `previous` are carried on.
pub(super) fn state(loaded: Loaded, clock: &Clock, stats: &Arc<Stats>, previous: Option<&State>) -> State {
    stats.set(Counter::HostsConflicts, u64::try_from(loaded.hosts_conflicts).unwrap_or(u64::MAX));
    let config = loaded.config;
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
    upstreams.set_own_addresses(&loaded.own);
    upstreams.set_max_sockets(max_sockets(files::limit()));
    let state = State::new(Parts {
        config,
        zones: loaded.zones,
        routes: loaded.routes,
        upstreams,
        system: loaded.system,
        cache,
    });
    state.upstreams.set_private_names(|name| state.is_private_name(name));
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Location;

    #[test]
    fn files_are_kept_for_all_else_as_far_as_there_are_enough() {
        assert_eq!([Some(9472), Some(2000), Some(1600), Some(256), Some(0)].map(max_sockets), [8192, 720, 400, 64, 0]);
        assert!(max_sockets(None) > 8192 && max_sockets(Some(u64::MAX)) > 8192);
    }

    #[test]
    fn hosts_conflicts_are_listed_up_to_a_bound_and_the_rest_is_counted() {
        let conflict = |line| HostsConflict {
            name: Name::parse("www.example.org").unwrap(),
            address: [192, 0, 2, 1].into(),
            at: Location { file: Path::new("hosts").into(), line, column: 1 },
        };
        let conflicts: Vec<_> = (1..=25).map(conflict).collect();
        let warnings = conflict_warnings(&conflicts);
        assert_eq!(warnings.len(), MAX_CONFLICT_WARNINGS + 1);
        assert_eq!(warnings[20].at.line, 21);
        assert!(warnings[20].found.starts_with("5 more"), "{}", warnings[20].found);
    }
}
