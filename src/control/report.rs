//! What `/stats` says, as types: the documented JSON (docs/schema/stats-1.json).
//!
//! Fields are added, never renamed or retyped, as long as the schema's name stays. Units are in the names, times are
//! RFC 3339 in UTC, durations are seconds. Counters never go back while the process lives; `started_at` tells restarts.

use crate::stats::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The name of this form of the report.
pub const SCHEMA: &str = "truename.stats/1";

/// Numbers by name.
pub type Counts = BTreeMap<String, u64>;

/// All sums at one moment.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Stats {
    /// [`SCHEMA`].
    pub schema: String,
    /// The daemon's version.
    pub version: String,
    /// When this was made.
    pub generated_at: String,
    /// When the daemon was started.
    pub started_at: String,
    /// How long ago that was, sleep included.
    pub uptime_seconds: f64,
    /// Questions for public names can be answered, as far as is known; as `/readyz` says.
    pub ready: bool,
    /// Why not; nothing when it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub not_ready: Option<String>,
    /// The configuration in force.
    pub config: Config,
    /// The system's own resolver.
    pub system: System,
    /// Questions answered.
    pub queries: Queries,
    /// How long answers took, from being read to being ready to be sent: `all`, and by source.
    pub latency_seconds: BTreeMap<String, Latency>,
    /// The cache.
    pub cache: Cache,
    /// Every server of every group.
    pub upstreams: Vec<Upstream>,
    /// What certificates say against this machine's clock; nothing when it seems right.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wrong_clock: Option<WrongClock>,
    /// Judging of replies.
    pub guard: Guard,
    /// Local zones.
    pub zones: Vec<Zone>,
    /// Routes.
    pub routes: Vec<Route>,
    /// Views, `default` for the clients that no other one has.
    #[serde(default)]
    pub views: Vec<View>,
    /// The process.
    pub process: Process,
    /// Everything else that is counted, by its name (docs/limits.md explains those of bounds).
    pub counters: Counts,
    /// What was asked, by protocol, family and type; for /metrics.
    #[serde(skip)]
    pub asked: Vec<([&'static str; 3], u64)>,
    /// What was answered, by response code and source; for /metrics.
    #[serde(skip)]
    pub answered: Vec<([&'static str; 2], u64)>,
}

/// The configuration in force.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Config {
    /// The file; nothing when the defaults are in force.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// 1 at the start, one more with each reload.
    pub generation: u64,
    /// Of the file's text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<String>,
    /// When it was put in force.
    pub loaded_at: String,
    /// Until when routes are off; nothing when they are not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub paused_until: Option<String>,
    /// How the last reload ended; the start counts as one.
    pub last_reload: LastReload,
}

/// How a reload ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LastReload {
    /// It took effect.
    pub ok: bool,
    /// When.
    pub at: String,
    /// Why it did not.
    pub error: Option<String>,
}

/// The system's own resolver.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct System {
    /// Whether names of this machine come here by our doing: active, inactive (begun, and not shown to work), conflict (what was
    /// written down cannot be read) or unmanaged.
    pub takeover: String,
    /// The way: link, drop-in, resolvconf, file or none.
    #[serde(default)]
    pub method: String,
    /// How often another program's resolv.conf was replaced by ours again.
    #[serde(default)]
    pub tramples_total: u64,
    /// All of it in a few words, for people.
    #[serde(default)]
    pub text: String,
}

/// Questions answered.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Queries {
    /// All; each is counted once, when its answer is ready to be sent.
    pub total: u64,
    /// Being worked on.
    pub in_flight: u64,
    /// The rate of the last minute.
    pub queries_per_second_1m: f64,
    /// By protocol.
    pub by_proto: Counts,
    /// By type.
    pub by_type: Counts,
    /// By response code.
    pub by_rcode: Counts,
    /// By where the answer came from.
    pub by_source: Counts,
    /// Not answered, by reason.
    pub dropped_total: Counts,
}

/// How long something took.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Latency {
    /// How often.
    pub count: u64,
    /// All together.
    pub sum: f64,
    /// Half took at most this.
    pub p50: f64,
    /// Nine of ten took at most this.
    pub p90: f64,
    /// All but one in a hundred took at most this.
    pub p99: f64,
    /// The longest.
    pub max: f64,
    /// What it was made of; for /metrics.
    #[serde(skip)]
    pub histogram: Histogram,
}

impl From<Histogram> for Latency {
    fn from(histogram: Histogram) -> Self {
        let quantile = |share| histogram.quantile(share).as_secs_f64();
        Self {
            count: histogram.count(),
            sum: histogram.sum().as_secs_f64(),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max: histogram.max().as_secs_f64(),
            histogram,
        }
    }
}

/// The cache.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Cache {
    /// Answers kept, expired ones included.
    pub entries: u64,
    /// How many may be.
    pub capacity_entries: u64,
    /// What they take.
    pub size_bytes: u64,
    /// How much they may take.
    pub capacity_bytes: u64,
    /// Hits in hits and misses; 0 without any.
    pub hit_ratio: f64,
    /// Answers from it, fresh.
    pub hits_total: u64,
    /// Answers that upstreams were asked for.
    pub misses_total: u64,
    /// Answers from it past their TTL.
    pub stale_served_total: u64,
    /// Popular answers asked for again before they expired.
    pub prefetches_total: u64,
    /// Answers kept that say that a name or a type does not exist.
    #[serde(default)]
    pub negative_entries: u64,
    /// Answers put out, by reason.
    pub evictions_total: Counts,
}

/// One server of one group.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Upstream {
    /// Its group.
    pub group: String,
    /// Its name in the group.
    pub name: String,
    /// Its address.
    pub address: String,
    /// How it is asked first.
    pub protocol: String,
    /// up, degraded, down, probing (nothing is known as yet) or disabled.
    pub state: String,
    /// Why it is in that state, in a few words.
    pub reason: String,
    /// Since when, if something has happened with it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<String>,
    /// Queries sent, repeats and hedges included.
    pub queries_total: u64,
    /// Replies that were answers.
    pub responses_total: u64,
    /// Queries without one, by reason.
    pub errors_total: Counts,
    /// Answers for guarded names that did not stand, by verdict.
    #[serde(default)]
    pub bad_answers_total: Counts,
    /// Its smoothed round-trip time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub smoothed_rtt_seconds: Option<f64>,
    /// How long replies took.
    pub latency_seconds: Latency,
    /// The last query without an answer.
    #[serde(default)]
    pub last_error: Option<LastError>,
    /// Its group is the one that the default asks.
    #[serde(default)]
    pub of_default: bool,
}

impl Upstream {
    /// Tells whether it can be said to be up or not: it has been asked, or would be for any name. The others are of groups that
    /// nobody needs: that they are not known to be down says nothing.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.of_default || self.state != "probing"
    }

    /// Tells whether it is up, or nothing is known of it as yet.
    #[must_use]
    pub fn may_be_up(&self) -> bool {
        matches!(self.state.as_str(), "up" | "degraded" | "probing")
    }
}

/// What a query to an upstream ended with that brought no answer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LastError {
    /// As in `errors_total`.
    pub kind: String,
    /// When.
    pub at: String,
    /// In a few words.
    pub detail: String,
}

/// The clock of this machine is so wrong that certificates cannot be good.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongClock {
    /// What it says.
    pub here: String,
    /// The date of a certificate that it is behind, or ahead of.
    pub certificate: String,
    /// Both in words.
    pub text: String,
}

/// Judging of replies.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Guard {
    /// Replies judged.
    pub checks_total: u64,
    /// By verdict.
    pub verdicts_total: Counts,
    /// Findings nobody has taken note of.
    pub incidents_open: u64,
    /// Findings since the start, by verdict and upstream.
    #[serde(default)]
    pub incidents_total: Vec<IncidentCount>,
    /// The youngest.
    pub last_incident_id: Option<String>,
}

/// How many incidents of a kind an upstream has had since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentCount {
    /// The verdict.
    pub kind: String,
    /// The label of the upstream, `GROUP/NAME`; `others` for those that are not counted apart.
    pub upstream: String,
    /// How many.
    pub count: u64,
}

/// The verdicts that are an upstream's fault, of which incidents are made.
pub const FAULTS: [&str; 4] = ["poisoned", "nxdomain_hijacked", "empty_vs_present", "broken_chain"];

/// The verdicts there are.
pub const VERDICTS: [&str; 8] = [
    "consistent",
    "benign_divergent",
    "poisoned",
    "nxdomain_hijacked",
    "empty_vs_present",
    "broken_chain",
    "upstream_failing",
    "undecidable",
];

impl Guard {
    /// Says how often each verdict was given.
    #[must_use]
    pub fn new(count: impl Fn(&str) -> u64) -> Self {
        let verdicts_total: Counts = VERDICTS.iter().map(|verdict| ((*verdict).to_owned(), count(verdict))).collect();
        Self { checks_total: verdicts_total.values().sum(), verdicts_total, ..Self::default() }
    }
}

/// A local zone.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Zone {
    /// Its apex.
    pub name: String,
    /// Where it was written.
    pub source: String,
    /// The serial number of its SOA.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub serial: Option<u32>,
    /// Its records.
    pub records: u64,
    /// The views it is for; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub views: Vec<String>,
    /// Questions for its names, those answered from memory included.
    #[serde(default)]
    pub queries_total: u64,
}

/// A route.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Route {
    /// Its key in the configuration.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The group asked.
    pub upstream: String,
    /// Its names never reach a public server.
    pub private: bool,
    /// What follows when the group is down.
    pub on_failure: String,
    /// Where it was written.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<String>,
    /// Questions for its names, those answered from memory included.
    #[serde(default)]
    pub matches_total: u64,
}

/// A view.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct View {
    /// Its name.
    pub name: String,
    /// Questions of its clients. Those that were refused or could not be read are of none.
    pub queries_total: u64,
}

/// The process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Process {
    /// Its memory.
    pub resident_memory_bytes: u64,
    /// Its open files.
    pub open_fds: u64,
    /// Its threads.
    pub threads: u64,
    /// The CPU time it has used.
    pub cpu_seconds_total: f64,
}
