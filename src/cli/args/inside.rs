//! The commands that look inside a running daemon, or tell it something.

use crate::control::place::VARIABLE;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Where the daemon is.
#[derive(Debug, Args)]
pub(in crate::cli) struct SocketArguments {
    /// The daemon's socket; without it stats.sock or control.sock in the runtime directory
    #[arg(long, value_name = "PATH", env = VARIABLE, global = true)]
    pub(in crate::cli) socket: Option<PathBuf>,
}

/// A command that shows something.
#[derive(Debug, Args)]
pub(in crate::cli) struct ReadArguments {
    #[command(flatten)]
    pub(in crate::cli) at: SocketArguments,
    /// Print one JSON document, as the socket gives it
    #[arg(long, global = true)]
    pub(in crate::cli) json: bool,
}

/// `truename status`.
#[derive(Debug, Args)]
pub(in crate::cli) struct StatusArguments {
    #[command(flatten)]
    pub(in crate::cli) read: ReadArguments,
    /// Show as well what was found out about who answers the names of this machine
    #[arg(long)]
    pub(in crate::cli) why: bool,
}

pub(super) const STATUS_HELP: &str = "Examples:
  truename status
  truename status --why            and who answers the names of this machine, with the evidence
  truename status --json | jq .queries.by_source

Exit status: 0 it serves, 1 no upstream of the default group is up, 69 no daemon, 77 not permitted.";

/// `truename stats`.
#[derive(Debug, Args)]
pub(in crate::cli) struct StatsArguments {
    #[command(flatten)]
    pub(in crate::cli) read: ReadArguments,
    /// Print a line again and again: what has happened since the one before
    #[arg(long, value_name = "EVERY", num_args = 0..=1, default_missing_value = "2s", value_parser = duration)]
    pub(in crate::cli) watch: Option<Duration>,
}

pub(super) const STATS_HELP: &str = "Examples:
  truename stats
  truename stats --watch          a line every 2 s
  truename stats --watch 10s --json | jq -c '.queries.by_rcode'";

/// `truename top`.
#[derive(Debug, Args)]
pub(in crate::cli) struct TopArguments {
    #[command(flatten)]
    pub(in crate::cli) at: SocketArguments,
    /// How often it is drawn anew; with --once, the time that rates are of
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub(in crate::cli) every: Duration,
    /// Print it once, as text, and end: needs no terminal
    #[arg(long)]
    pub(in crate::cli) once: bool,
    /// With --once: print one JSON document, the sums of /stats and the last questions of /queries
    #[arg(long, requires = "once")]
    pub(in crate::cli) json: bool,
}

pub(super) const TOP_HELP: &str =
    "Keys: q ends it, p or space pauses, s changes the order of upstreams, / filters upstreams and questions, Esc
ends the filter. Questions are shown to who may use the control socket; sums to everybody.

Exit status: 0 ended with q, a signal or the terminal, 2 no terminal and no --once, 69 no daemon, 77 not permitted.";

/// `truename cache`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CacheArguments {
    #[command(flatten)]
    pub(in crate::cli) read: ReadArguments,
    #[command(subcommand)]
    pub(in crate::cli) what: CacheCommand,
}

/// What to do with the cache.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum CacheCommand {
    /// Show what is cached of one name, every type and view
    Get {
        /// The name
        name: String,
    },
    /// List what is cached
    List {
        /// Only this name, or with `*.` before it everything below it too
        #[arg(default_value = "*")]
        names: String,
        /// How many at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Remove answers; the next who asks for them gets fresh ones
    Flush {
        /// Only this name, every type and view
        #[arg(required_unless_present_any = ["suffix", "all"], conflicts_with_all = ["suffix", "all"])]
        name: Option<String>,
        /// This name and all below it
        #[arg(long, value_name = "NAME", conflicts_with = "all")]
        suffix: Option<String>,
        /// Everything
        #[arg(long)]
        all: bool,
    },
}

pub(super) const CACHE_HELP: &str = "Examples:
  truename cache get proxy.golang.org
  truename cache list '*.golang.org'
  truename cache flush proxy.golang.org
  truename cache flush --suffix golang.org

Exit status: 1 when `get` finds nothing.";

/// `truename log`.
#[derive(Debug, Args)]
pub(in crate::cli) struct LogArguments {
    #[command(flatten)]
    pub(in crate::cli) read: ReadArguments,
    /// Go on with each question as it is answered; --json prints one object a line
    #[arg(short, long)]
    pub(in crate::cli) follow: bool,
    /// How many of before at most; 100, or 10 with -f
    #[arg(short = 'n', long, value_name = "N")]
    pub(in crate::cli) limit: Option<usize>,
    /// Only this name, or with `*.` before it everything below it too
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) name: Option<String>,
    /// Only this type
    #[arg(long = "type", value_name = "TYPE")]
    pub(in crate::cli) rtype: Option<String>,
    /// Only this client or network
    #[arg(long, value_name = "ADDRESS[/BITS]")]
    pub(in crate::cli) client: Option<String>,
    /// Only this response code
    #[arg(long, value_name = "RCODE")]
    pub(in crate::cli) rcode: Option<String>,
    /// Only answers from here: zone, hosts, special, rewrite, cache, cache_stale, forward, policy, error
    #[arg(long, value_name = "SOURCE")]
    pub(in crate::cli) source: Option<String>,
    /// Only this server, or any of a group
    #[arg(long, value_name = "GROUP[/NAME]")]
    pub(in crate::cli) upstream: Option<String>,
    /// Only names of this route; default for those of none
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) route: Option<String>,
    /// Only what is no longer ago than this, such as 10m, or not before this time
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) since: Option<String>,
}

pub(super) const LOG_HELP: &str = "Examples:
  truename log -f
  truename log --rcode SERVFAIL --since 10m
  truename log -f --name '*.corp.example' --json | jq -r .upstream

Names and clients are told to those who may use the control socket only. [stats] recent_queries says how many
questions are remembered, [log] queries where all of them are written.

Exit status: 69 no daemon, 77 not permitted.";

/// `truename explain`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExplainArguments {
    #[command(flatten)]
    pub(in crate::cli) read: ReadArguments,
    /// The name
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: String,
    /// Its type
    #[arg(value_name = "TYPE", default_value = "A")]
    pub(in crate::cli) qtype: String,
    /// As if this client asked
    #[arg(long, value_name = "ADDRESS")]
    pub(in crate::cli) client: Option<std::net::IpAddr>,
    /// Ask upstreams anew, whatever is cached; what comes is not kept
    #[arg(long)]
    pub(in crate::cli) fresh: bool,
    /// Do not ask the daemon, but do as one would by this configuration
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    pub(in crate::cli) config: Option<PathBuf>,
}

pub(super) const EXPLAIN_HELP: &str = "Examples:
  truename explain proxy.golang.org
  truename explain git.corp.example AAAA --client 192.168.1.20
  truename explain github.com --fresh --json

Without a running daemon it answers in process, by the configuration that `truename run` would read.

Exit status: 0 when it ran, whatever the answer is.";

/// `truename incidents`.
#[derive(Debug, Args)]
pub(in crate::cli) struct IncidentsArguments {
    #[command(flatten)]
    pub(in crate::cli) read: ReadArguments,
    #[command(subcommand)]
    pub(in crate::cli) what: Option<IncidentsCommand>,
}

/// What to do with incidents.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum IncidentsCommand {
    /// List them, the latest first
    List {
        /// Only those that nobody has taken note of
        #[arg(long)]
        open: bool,
    },
    /// Show one with its evidence and packets
    Show {
        /// Its number, such as in-20261120-0007 or 7
        id: String,
    },
    /// List what the answers of guarded names were and became, and from whom, the latest first
    Changes {
        /// Only those of this name
        name: Option<String>,
    },
    /// Take note of one, so that it no longer counts as open
    Ack {
        /// Its number
        id: String,
    },
    /// Print one as Markdown, to be sent to whoever runs the network; with --json as JSON
    Export {
        /// Its number
        id: String,
    },
}

pub(super) const INCIDENTS_HELP: &str = "Examples:
  truename incidents                       the latest first
  truename incidents list --open
  truename incidents show 7
  truename incidents export 7 > report.md
  truename incidents changes github.com

Exit status: 1 when there is no such incident.";

/// `truename reload`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ReloadArguments {
    #[command(flatten)]
    pub(in crate::cli) read: ReadArguments,
    /// Wait for the outcome; it always does, and scripts may say so
    #[arg(long)]
    pub(in crate::cli) wait: bool,
}

pub(super) const RELOAD_HELP: &str =
    "Exit status: 0 the file is in force, 1 it has errors and what was in force stays.";

/// `truename upstreams enable` and `disable`.
#[derive(Debug, Args)]
pub(in crate::cli) struct SwitchArguments {
    #[command(flatten)]
    pub(in crate::cli) read: ReadArguments,
    /// The server or group
    #[arg(value_name = "GROUP[/NAME]")]
    pub(in crate::cli) name: String,
}

/// `truename pause`.
#[derive(Debug, Args)]
pub(in crate::cli) struct PauseArguments {
    #[command(flatten)]
    pub(in crate::cli) read: ReadArguments,
    /// How long, such as 5m
    #[arg(default_value = "5m", value_parser = duration)]
    pub(in crate::cli) length: Duration,
}

pub(super) const PAUSE_HELP: &str =
    "Names go where [default] sends them, as if there were no routes: to see whether a route is
what is wrong. Local zones and the names of private routes are answered as before. It ends by itself, with
`truename resume`, or with a reload.";

/// `truename metrics`.
#[derive(Debug, Args)]
pub(in crate::cli) struct MetricsArguments {
    #[command(flatten)]
    pub(in crate::cli) at: SocketArguments,
    /// Write this file, all of it at once, in place of printing; for node_exporter's textfile collector
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) textfile: Option<PathBuf>,
}

pub(super) const METRICS_HELP: &str = "Examples:
  truename metrics | promtool check metrics
  truename metrics --textfile /var/lib/prometheus/node-exporter/truename.prom

It is printed as Prometheus reads it; the same figures as JSON are `truename stats --json`.";

/// `truename bugreport`.
#[derive(Debug, Args)]
pub(in crate::cli) struct BugreportArguments {
    #[command(flatten)]
    pub(in crate::cli) at: SocketArguments,
    /// The file; without it one in this folder, called by the moment. One that is there is left alone
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,
    /// Put in names that were looked up, clients, and groups and routes as they are in force
    #[arg(long)]
    pub(in crate::cli) names: bool,
}

pub(super) const BUGREPORT_HELP: &str = "Examples:
  truename bugreport
  truename bugreport --names -o report.tar && tar -tf report.tar

It is a tar file of JSON documents; README in it says what each is. What zones, routes and servers are called is always in it,
passwords never are.

Exit status: 69 no daemon, 77 not permitted.";

/// `truename monitor-check`.
#[derive(Debug, Args)]
pub(in crate::cli) struct MonitorArguments {
    #[command(flatten)]
    pub(in crate::cli) at: SocketArguments,
    /// What is a warning: NAME=RANGE, several parted by commas
    #[arg(short, long, value_name = "EXPR", default_value = "")]
    pub(in crate::cli) warning: String,
    /// What is critical
    #[arg(short, long, value_name = "EXPR", default_value = "upstreams_up=1:")]
    pub(in crate::cli) critical: String,
    /// Print one JSON document in place of the line: status, why, and each figure with its ranges
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

pub(super) const MONITOR_HELP: &str = "Names: p50 p99 hit_ratio upstreams_up incidents_open qps in_flight failures
Ranges: 10 is 0 to 10, 10: is 10 and more, ~:10 is 10 and less, 10:20 is between, @10:20 is not between.
Times may have a unit: p99=200ms.
upstreams_up counts servers that have been asked, and those of the default's group. Nobody of that group: always critical.
p50, p99, hit_ratio and failures are of the daemon's whole life; for those of the last minutes there is /metrics.

Example:
  truename monitor-check -w p99=200ms,hit_ratio=0.3: -c upstreams_up=1:,incidents_open=0

Exit status: as Nagios has it: 0 fine, 1 warning, 2 critical (also when there is no daemon), 3 unknown.";

fn duration(text: &str) -> Result<Duration, String> {
    let every = crate::config::units::parse_duration(text)?;
    // A line needs a moment to be read, and asking is not free.
    if every < Duration::from_millis(100) { Err("at least 100ms".to_owned()) } else { Ok(every) }
}
