//! What the program sees: a checked, complete, immutable configuration. Made by `check.rs` out of `file.rs`.

mod guard;
mod upstream;

use crate::dns::{Name, Rtype};
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use guard::{Forged, Guard, GuardMode};
pub use upstream::{
    ClientCertificate, Floor, Proxy, ProxyLogin, ProxyServer, Required, Requirement, Rung, Upstream, UpstreamHost,
    UpstreamOptions, UpstreamTransport,
};

/// The whole configuration. Every reference across tables is an index that is known to be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Listeners and their limits.
    pub server: Server,
    /// Upstream groups; [`GroupId`] indexes them. A group named `system` is always there.
    pub groups: Vec<Group>,
    /// Names that no route matches, for clients of no view with a default of its own.
    pub default: DefaultRoute,
    /// Names of time servers, in lower case: found over `system` too while the clock is plainly wrong.
    pub time_servers: Vec<Name>,
    /// Routes in file order.
    pub routes: Vec<Route>,
    /// Routes nobody wrote, for names that no route takes: the presets that go to `trusted`.
    pub built_in: Vec<Route>,
    /// Local zones in file order.
    pub zones: Vec<Zone>,
    /// Hosts files.
    pub hosts: Hosts,
    /// Rewrites in file order.
    pub rewrites: Vec<Rewrite>,
    /// The cache.
    pub cache: Cache,
    /// How replies about guarded names are judged.
    pub guard: Guard,
    /// Views in file order; the first that matches a client is its view.
    pub views: Vec<View>,
    /// Looking inside.
    pub stats: Stats,
    /// Logging.
    pub log: Log,
    /// What the groups need of the machine.
    pub requirements: Vec<Requirement>,
}

/// Where something was written, for messages: file, line and column from 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// The file as the user named it.
    pub file: Arc<Path>,
    /// Line, from 1; 0 when the whole file is meant.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Location {
    /// Names a whole file.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self { file: path.into(), line: 0, column: 0 }
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file.display())?;
        match self.line {
            0 => Ok(()),
            line => write!(f, ":{line}:{}", self.column.max(1)),
        }
    }
}

/// Index of an upstream group in [`Config::groups`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u16);

/// A view: 0 is everybody no `[[view]]` matches, N is `Config::views[N - 1]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ViewId(pub u16);

/// The network the machine is on; 0 when it cannot be told from others. Answers do not depend on it: the cache has 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PlaceId(pub u16);

/// `[server]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Addresses to answer on, UDP and TCP each.
    pub listen: Vec<SocketAddr>,
    /// The largest UDP answer, and what our OPT announces.
    pub udp_payload_bytes: u16,
    /// Worker threads.
    pub workers: usize,
    /// Questions being worked on at once; beyond it: SERVFAIL with EDE 14.
    pub max_in_flight: usize,
    /// How long a TCP connection may be idle.
    pub tcp_idle_timeout: Duration,
    /// Whether answers carry extended errors.
    pub edns_errors: bool,
    /// Who may ask.
    pub allow: Vec<IpNet>,
}

/// Groups a question may go through, one standing in for the other: each is waited for before the next is asked, and
/// with four of them the budget is spent.
pub const MAX_CHAIN: usize = 4;

/// `[upstream.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The name in the configuration.
    pub name: String,
    /// The servers written down, in order.
    pub servers: Vec<Upstream>,
    /// `"auto"` stands among the servers: add the resolvers this machine was given.
    pub auto: bool,
    /// What connections to those need.
    pub options: Arc<UpstreamOptions>,
    /// How a server is chosen.
    pub strategy: Strategy,
    /// All that a question may spend on this group.
    pub timeout: Duration,
    /// The group asked when this one is down.
    pub fallback: Option<GroupId>,
}

/// How a group chooses among its servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// By smoothed round-trip time and success, power of two.
    Fastest,
    /// In the order written; the next when one fails.
    Order,
    /// All at once, the first good answer wins.
    Parallel,
}

/// `[default]`, or the `default` of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultRoute {
    /// The group asked.
    pub upstream: GroupId,
    /// What happens to private addresses in public answers.
    pub private_answers: PrivateAnswers,
    /// Whether its names are guarded.
    pub guard: GuardMode,
}

/// Rebinding protection: what happens to private addresses in answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivateAnswers {
    /// Dropped when a public server gave them; loopback and unspecified ones from any.
    Auto,
    /// Always dropped.
    Drop,
    /// Never dropped.
    Allow,
}

/// Which names a pattern takes (docs/config.md, "Names").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// `*.example.org`: all below, not the name itself.
    Below,
    /// `example.org`: the name and all below.
    NameAndBelow,
    /// `=example.org`: only the name itself.
    Only,
}

/// One name pattern with where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The name, lower-cased; the root for `.`.
    pub name: Name,
    /// Which names around it are meant.
    pub scope: Scope,
    /// Where it was written.
    pub at: Location,
}

impl Pattern {
    /// Tells whether it takes a name.
    #[must_use]
    pub fn takes(&self, name: &Name) -> bool {
        match self.scope {
            Scope::Only => self.name == *name,
            Scope::NameAndBelow => name.is_at_or_below(&self.name),
            Scope::Below => name.is_at_or_below(&self.name) && self.name != *name,
        }
    }
}

/// `auto`, `true` or `false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tristate {
    /// Decided by truename.
    Auto,
    /// Yes.
    True,
    /// No.
    False,
}

/// What follows when a route's group and its fallback are down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The client gets SERVFAIL.
    Servfail,
    /// The default route's group is asked.
    Default,
}

/// `[[route]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its name, made from its place in the file when none was given.
    pub name: String,
    /// Names from `names`, `presets` and inline lists, presets expanded.
    pub patterns: Vec<Pattern>,
    /// Names taken out of this route.
    pub exclude: Vec<Pattern>,
    /// List files with more names, read when the routes are built.
    pub lists: Vec<ListFile>,
    /// The views it is for; `None` is all.
    pub views: Option<Vec<ViewId>>,
    /// The group asked.
    pub upstream: GroupId,
    /// Whether its names are private.
    pub private: Tristate,
    /// What follows when the group is down; `None`: servfail for private routes and those to groups with a floor, default for
    /// the others.
    pub on_failure: Option<OnFailure>,
    /// What happens to private addresses; `None`: allow for private routes, the default's for the others.
    pub private_answers: Option<PrivateAnswers>,
    /// Whether its names are guarded; `None`: as the default's. Those of private routes never are.
    pub guard: Option<GuardMode>,
    /// Where it was written.
    pub at: Location,
}

/// One entry of `names_from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListFile {
    /// The file, resolved against the configuration file's folder.
    pub path: PathBuf,
    /// What its lines look like.
    pub format: ListFormat,
    /// Where it was named.
    pub at: Location,
}

/// What the lines of a list file look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListFormat {
    /// One pattern a line.
    Domains,
    /// `address name…`, as in a hosts file; the names are taken as `=name`.
    Hosts,
    /// `server=/name/…`, `address=/name/…`, `local=/name/`.
    Dnsmasq,
}

/// `[[zone]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// The apex.
    pub apex: Name,
    /// TTL of records that give none.
    pub ttl: Duration,
    /// Records written inline.
    pub records: Vec<InlineRecord>,
    /// The RFC 1035 file, resolved against the configuration file's folder.
    pub file: Option<PathBuf>,
    /// Make PTR records from A and AAAA.
    pub reverse: bool,
    /// Names and types not here are forwarded.
    pub fallthrough: bool,
    /// The views it is for; `None` is all.
    pub views: Option<Vec<ViewId>>,
    /// Where it was written.
    pub at: Location,
    /// Where its file was named; the zone itself without one.
    pub file_at: Location,
    /// Its key, for messages: `zone[0]`.
    pub key: String,
}

/// One record of a `[[zone]]`, its text not yet read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineRecord {
    /// Owner, relative to the apex unless it ends in a dot; `@` is the apex.
    pub name: String,
    /// Type.
    pub rtype: Rtype,
    /// RDATA in presentation form.
    pub value: String,
    /// TTL, when it has its own.
    pub ttl: Option<Duration>,
    /// Where it was written.
    pub at: Location,
    /// Where its value was written.
    pub value_at: Location,
    /// Its key, for messages: `zone[0].records[3]`.
    pub key: String,
}

/// `[hosts]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// Files read, in order.
    pub files: Vec<PathBuf>,
    /// Where each of them was named; empty when nobody wrote any and the default is in force.
    pub places: Vec<Location>,
    /// Read them again when they change.
    pub watch: bool,
    /// What to do with a line for a public name.
    pub on_conflict: OnConflict,
}

/// What to do with a hosts line for a public name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// Use it, count it, report it.
    Warn,
    /// Leave it out.
    Ignore,
}

/// `[[rewrite]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The names it is for.
    pub patterns: Vec<Pattern>,
    /// Type of the answer.
    pub rtype: Rtype,
    /// RDATA of the answer in presentation form, names absolute.
    pub value: String,
    /// TTL of the answer.
    pub ttl: Duration,
    /// The views it is for; `None` is all.
    pub views: Option<Vec<ViewId>>,
    /// Where it was written.
    pub at: Location,
    /// Where the value of its answer was written.
    pub value_at: Location,
    /// Its key, for messages: `rewrite[0]`.
    pub key: String,
}

/// `[cache]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// Answers kept at most; 0 turns the cache off.
    pub max_entries: usize,
    /// Memory for them at most.
    pub max_bytes: u64,
    /// Answers are kept at least so long (failures excepted).
    pub min_ttl: Duration,
    /// Answers are kept at most so long.
    pub max_ttl: Duration,
    /// NXDOMAIN and NODATA are kept at most so long.
    pub negative_ttl_max: Duration,
    /// Keep it across restarts.
    pub persist: bool,
    /// Answers past their TTL.
    pub serve_stale: ServeStale,
    /// Answers asked for again before they expire.
    pub prefetch: Prefetch,
}

impl Cache {
    /// A cache that keeps nothing.
    pub const NONE: Self = Self {
        max_entries: 0,
        max_bytes: 0,
        min_ttl: Duration::ZERO,
        max_ttl: Duration::ZERO,
        negative_ttl_max: Duration::ZERO,
        persist: false,
        serve_stale: ServeStale {
            enabled: false,
            after: Duration::ZERO,
            max_age: Duration::ZERO,
            reply_ttl: Duration::ZERO,
        },
        prefetch: Prefetch { enabled: false, min_hits: 1, before_expiry_percent: 0 },
    };
}

/// `[cache.serve_stale]`: RFC 8767.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeStale {
    /// Whether stale answers are given.
    pub enabled: bool,
    /// How long upstreams are waited for before.
    pub after: Duration,
    /// How long past its TTL an answer may be used.
    pub max_age: Duration,
    /// The highest TTL a stale answer shows.
    pub reply_ttl: Duration,
}

/// `[cache.prefetch]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefetch {
    /// Whether popular answers are asked for again before they expire.
    pub enabled: bool,
    /// How often an answer must have been used.
    pub min_hits: u8,
    /// The last part of its TTL in which that happens.
    pub before_expiry_percent: u8,
}

/// `[[view]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its name.
    pub name: String,
    /// Clients that are in it; empty: any (with `listen`).
    pub clients: Vec<IpNet>,
    /// Listeners whose clients are in it; empty: any.
    pub listen: Vec<SocketAddr>,
    /// Its own default route.
    pub default: Option<DefaultRoute>,
}

/// `[stats]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The socket for everybody.
    pub socket: SocketPlace,
    /// The socket for those who may act.
    pub control: SocketPlace,
    /// The loopback address for Prometheus.
    pub prometheus_listen: Option<SocketAddr>,
    /// Questions remembered, of all workers.
    pub recent_queries: usize,
}

impl Default for Stats {
    fn default() -> Self {
        let auto = SocketPlace::Auto;
        Self { socket: auto.clone(), control: auto, prometheus_listen: None, recent_queries: 4096 }
    }
}

/// Where a Unix socket stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketPlace {
    /// In the runtime directory.
    Auto,
    /// Nowhere.
    Off,
    /// There.
    Path(PathBuf),
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// error, warn, info, debug or trace.
    pub level: LogLevel,
    /// How lines look.
    pub format: LogFormat,
    /// Where every question is written.
    pub queries: QuerySink,
    /// Octets of a file of them.
    pub queries_max_bytes: u64,
    /// Files of them, the one being written included.
    pub queries_files: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
            format: LogFormat::Auto,
            queries: QuerySink::Off,
            queries_max_bytes: 16 << 20,
            queries_files: 4,
        }
    }
}

/// Where every question is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuerySink {
    /// Nowhere.
    Off,
    /// Into the journal.
    Journal,
    /// Into this file.
    File(PathBuf),
}

/// How much is logged.
#[allow(missing_docs, reason = "the words are tracing's")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

impl Group {
    /// Tells whether somebody wrote that nobody of it may be asked in plain: for the group, or for each of its servers.
    #[must_use]
    pub fn has_floor(&self) -> bool {
        let is_written = |options: &UpstreamOptions| options.floor == Floor::Encrypted;
        let has_each = !self.auto && !self.servers.is_empty();
        is_written(&self.options) || (has_each && self.servers.iter().all(|server| is_written(&server.options)))
    }
}

impl Config {
    /// Returns the group behind an id.
    #[must_use]
    pub fn group(&self, id: GroupId) -> &Group {
        &self.groups[usize::from(id.0)]
    }

    /// Returns the default route of a view.
    #[must_use]
    pub fn default_for(&self, view: ViewId) -> DefaultRoute {
        let own = usize::from(view.0).checked_sub(1).and_then(|at| self.views.get(at)).and_then(|view| view.default);
        own.unwrap_or(self.default)
    }

    /// Returns the name of a view; clients of no `[[view]]` are in `default`.
    #[must_use]
    pub fn view_name(&self, view: ViewId) -> &str {
        let own = usize::from(view.0).checked_sub(1).and_then(|at| self.views.get(at));
        own.map_or("default", |view| view.name.as_str())
    }
}
