//! Everything that somebody needs who is told of a fault, in one file: a tar archive of documents. Names that were looked up, clients,
//! and what is configured for names are in it only when they are asked for.

use super::STATS_SCHEMA;
use super::daemon::{Daemon, Matching};
use super::metrics::{self, Dialect};
use super::queries::Teller;
use crate::stats::Stats as Counters;
use serde::Serialize;
use serde_json::{Value, json};
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The folder that the files are in when they are taken out.
const FOLDER: &str = "truename-bundle";
/// The mode of each: they may hold names.
const MODE: u32 = 0o600;
/// The last questions in it.
const MAX_QUESTIONS: usize = 1_000;
/// Cached answers in it.
const MAX_CACHED: usize = 1_000;
/// Incidents in it with their packets, the latest ones.
const MAX_INCIDENTS: usize = 64;

/// Whether names and clients may be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// They are left out.
    Hidden,
    /// They are in it.
    Shown,
}

/// What the first file says of the others.
const ABOUT: &str = "What truename says about itself, for a report about a fault.

about.json         the program and the system
stats.json         all sums, and what is configured, by the names of zones, routes, views, groups and servers
stats-schema.json  what they mean
metrics.txt        the same for Prometheus
lists.json         files of names that routes take, not the names
";
/// The same of those with names.
const ABOUT_NAMES: &str = "effective.toml     groups and routes as they are in force; passwords are hidden
views.json         views with the clients that they are for
queries.ndjson     the last questions, with names, clients and answers
cache.json         cached answers
incidents.json     what was found against upstreams, with packets
changes.json       what the answers of guarded names were and became
";
/// What it says of those that are not there.
const WITHOUT_NAMES: &str = "
No name that was looked up and no client is in it, and nothing of what is configured for names but what zones and routes are called:
`truename bugreport --names` puts them in.
";

/// Puts it together. Takes a while: much is gone through.
///
/// # Errors
/// When an archive cannot be made of it.
pub(super) fn bundle(daemon: &impl Daemon, stats: &Counters, names: Names, at: SystemTime) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, octets: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(octets.len() as u64);
        header.set_mode(MODE);
        header.set_mtime(at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs());
        archive.append_data(&mut header, format!("{FOLDER}/{name}"), octets)
    };
    let report = daemon.stats();
    let about = json!({
        "name": "truename", "version": env!("CARGO_PKG_VERSION"), "machine": daemon.machine(), "names": names == Names::Shown,
    });
    add("README", format!("{ABOUT}{}", if names == Names::Shown { ABOUT_NAMES } else { WITHOUT_NAMES }).as_bytes())?;
    add("about.json", &written(&about))?;
    add("stats.json", &written(&report))?;
    add("stats-schema.json", STATS_SCHEMA.as_bytes())?;
    add("metrics.txt", metrics::render(&report, Dialect::Prometheus).as_bytes())?;
    add("lists.json", &written(&json!({ "lists": daemon.lists() })))?;
    if names == Names::Shown {
        add("effective.toml", daemon.configuration().as_bytes())?;
        add("views.json", &written(&json!({ "views": daemon.views() })))?;
        add("queries.ndjson", &questions(daemon, stats))?;
        add("cache.json", &written(&daemon.cached(&Matching::All, MAX_CACHED)))?;
        add("incidents.json", &written(&incidents(daemon)))?;
        add("changes.json", &written(&daemon.changes(None)))?;
    }
    archive.into_inner()
}

fn written(document: &impl Serialize) -> Vec<u8> {
    let mut octets = serde_json::to_vec_pretty(document).unwrap_or_default();
    octets.push(b'\n');
    octets
}

fn questions(daemon: &impl Daemon, stats: &Counters) -> Vec<u8> {
    let teller = Teller::new(stats, daemon.moment());
    let (lines, _) = stats.last(MAX_QUESTIONS, |answered| Some(teller.line(answered)));
    let line = |line| serde_json::to_string(line).unwrap_or_default() + "\n";
    lines.iter().map(line).collect::<String>().into_bytes()
}

/// Each in full, as far as there is room.
fn incidents(daemon: &impl Daemon) -> Value {
    let listed = daemon.incidents(false);
    let all = listed["incidents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let whole = all.iter().take(MAX_INCIDENTS).filter_map(|incident| daemon.incident(incident["id"].as_str()?));
    json!({ "incidents": whole.collect::<Vec<_>>(), "more": all.len() > MAX_INCIDENTS })
}
