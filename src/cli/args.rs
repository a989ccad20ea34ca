//! Every command and flag, defined once: help texts are made from these comments.

mod inside;
mod takeover;

pub(super) use inside::{
    BugreportArguments, CacheArguments, CacheCommand, ExplainArguments, IncidentsArguments, IncidentsCommand,
    LogArguments, MetricsArguments, MonitorArguments, PauseArguments, ReadArguments, ReloadArguments, SocketArguments,
    StatsArguments, StatusArguments, SwitchArguments, TopArguments,
};
pub(super) use takeover::{DownArguments, TakeoverArguments, TakeoverCommand, UpArguments};

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Queries of `truename upstreams test` for each rung at most: public resolvers take as many for a flood before long.
const MAX_COUNT: i64 = 1000;

/// A local DNS forwarder and split-horizon resolver that gives true answers and can say why
#[derive(Debug, Parser)]
#[command(name = "truename", version, max_term_width = 100)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon in the foreground
    #[command(after_help = "Examples:
  truename run --listen 127.0.0.1:5300          try it, unprivileged, with no configuration
  truename run --config /etc/truename/truename.toml

SIGHUP reloads the configuration, SIGTERM and SIGINT stop it after answering what is in flight.")]
    Run(RunArguments),
    /// Have the names of this machine come to truename
    #[command(after_help = takeover::UP_HELP)]
    Up(UpArguments),
    /// Give the names of this machine back to who had them, exactly as it was
    #[command(after_help = takeover::DOWN_HELP)]
    Down(DownArguments),
    /// For the units: take over and give back, once
    #[command(hide = true)]
    Takeover(TakeoverArguments),
    /// Report every problem of a configuration
    #[command(after_help = "Examples:
  truename check                                 what the daemon would read
  truename check --format gcc ./truename.toml    for editors: FILE:LINE:COLUMN: error: …

Exit status: 0 no errors (warnings may be there), 1 errors.")]
    Check(CheckArguments),
    /// Print the default configuration, its schema, or what is in force
    Config(ConfigArguments),
    /// Ask one question and show the answer
    #[command(after_help = "Examples:
  truename query example.org                     through this configuration, no daemon needed
  truename query example.org AAAA @9.9.9.9       one server, asked directly
  truename query example.org @tls://9.9.9.9#dns10.quad9.net
  truename query example.org @trusted            a group of the configuration, or a server: @GROUP/NAME
  truename query git.corp.example --trace        what every stage saw, decided, and why

Exit status: 0 an answer with records, 1 NXDOMAIN, NODATA, an error code or no answer.")]
    Query(QueryArguments),
    /// Say why an answer is what it is: view, cache, zone, route, every reply, verdict, TTLs
    #[command(after_help = inside::EXPLAIN_HELP)]
    Explain(ExplainArguments),
    /// Start honest, lying, empty and dead resolvers on loopback, and show what becomes of what they say
    #[command(after_help = "It needs no root, no network and no configuration, and takes a few seconds.

Exit status: 0 when it ran.")]
    Demo(DemoArguments),
    /// Show in one screen how the running daemon is
    #[command(after_help = inside::STATUS_HELP)]
    Status(StatusArguments),
    /// Show all that the running daemon has counted
    #[command(after_help = inside::STATS_HELP)]
    Stats(StatsArguments),
    /// Show the running daemon on a full screen, as it changes
    #[command(after_help = inside::TOP_HELP)]
    Top(TopArguments),
    /// Show the cache of the running daemon, or remove answers from it
    #[command(after_help = inside::CACHE_HELP)]
    Cache(CacheArguments),
    /// Show the last questions the running daemon answered, or each as it comes
    #[command(after_help = inside::LOG_HELP)]
    Log(LogArguments),
    /// Show the local zones of the running daemon
    Zones(ReadArguments),
    /// Show the routes of the running daemon
    Routes(ReadArguments),
    /// Have the running daemon read its configuration again, and say how that ended
    #[command(after_help = inside::RELOAD_HELP)]
    Reload(ReloadArguments),
    /// Turn the running daemon's routes off for a while; private ones stay
    #[command(after_help = inside::PAUSE_HELP)]
    Pause(PauseArguments),
    /// End a pause
    Resume(ReadArguments),
    /// Print the running daemon's sums for Prometheus
    #[command(after_help = inside::METRICS_HELP)]
    Metrics(MetricsArguments),
    /// Put what the running daemon says about itself into a file, for a report about a fault
    #[command(after_help = inside::BUGREPORT_HELP)]
    Bugreport(BugreportArguments),
    /// Judge the running daemon for Nagios and its kin
    #[command(after_help = inside::MONITOR_HELP)]
    MonitorCheck(MonitorArguments),
    /// Show what the running daemon has found against upstreams
    #[command(after_help = inside::INCIDENTS_HELP)]
    Incidents(IncidentsArguments),
    /// List the upstream servers, or ask each of them to see how well it goes
    #[command(after_help = "Examples:
  truename upstreams                             all servers of the configuration, groups nobody uses included
  truename upstreams test                        every rung of every server in use, 10 queries each
  truename upstreams test trusted --count 50     one group; GROUP/NAME for one server
  truename upstreams probe trusted               asked by the running daemon, as its user and from its place

Exit status of test and probe: 0 every server answers over one of its rungs, 1 one does not.")]
    Upstreams(UpstreamsArguments),
    /// Judge recorded replies, to see how well the guard tells forged ones
    Guard(GuardArguments),
}

/// `truename run`, read without the other commands.
#[derive(Debug, Parser)]
pub(super) struct RunAlone {
    #[command(flatten)]
    pub(super) arguments: RunArguments,
}

/// `truename run`.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// The configuration file; without it /etc/truename/truename.toml when there is one, else the defaults
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Listen here in place of server.listen; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) listen: Vec<SocketAddr>,
}

/// `truename check`.
#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// The file; without it what `truename run` would read
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// How problems are shown
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(super) format: Format,
}

/// How `check` shows problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Where, found, expected, what to do
    Human,
    /// FILE:LINE:COLUMN: error: …
    Gcc,
    /// One JSON document
    Json,
}

/// `truename config`.
#[derive(Debug, Args)]
pub(super) struct ConfigArguments {
    #[command(subcommand)]
    pub(super) what: ConfigCommand,
}

/// What of the configuration to print.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every key at its default, commented
    Default,
    /// Print the JSON schema for editors
    Schema,
    /// Print upstream groups and routes as they are in force, those that nobody wrote included
    Show {
        /// The file; without it what `truename run` would read
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// `truename query`.
#[derive(Debug, Args)]
pub(super) struct QueryArguments {
    /// The name, then optionally a type (A without one) and @SERVER, in any order behind the name; a server is written as in
    /// the configuration
    #[arg(value_name = "NAME [TYPE] [@SERVER]", required = true, num_args = 1..=3)]
    pub(super) words: Vec<String>,
    /// Print only the records' data, one a line
    #[arg(long, conflicts_with_all = ["json", "trace"])]
    pub(super) short: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
    /// Show what every stage of the pipeline saw, decided, and why
    #[arg(long)]
    pub(super) trace: bool,
    /// The configuration to answer by; without it what `truename run` would read
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

/// `truename demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
}

/// `truename upstreams`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct UpstreamsArguments {
    #[command(subcommand)]
    pub(super) what: Option<UpstreamsCommand>,
    /// List servers as one JSON document
    #[arg(long)]
    pub(super) json: bool,
}

/// What to do with the servers.
#[derive(Debug, Subcommand)]
pub(super) enum UpstreamsCommand {
    /// List servers with their rungs
    List(UpstreamsListArguments),
    /// Show what the running daemon knows of its servers
    Live(ReadArguments),
    /// Have the running daemon ask a server, or all of a group, again
    Enable(SwitchArguments),
    /// Have the running daemon ask a server, or all of a group, no more, until it is enabled or the daemon started anew
    Disable(SwitchArguments),
    /// Have the running daemon ask a server, or all of a group, once over each rung
    Probe(SwitchArguments),
    /// Ask servers over each of their rungs: state, time to open a connection, time of replies, loss, reuse
    ///
    /// What is asked is the address of localhost, which resolvers have at hand. Each query goes out once; two that are lost
    /// from the start are enough for "down".
    Test(UpstreamsTestArguments),
}

/// `truename upstreams list`.
#[derive(Debug, Default, Args)]
pub(super) struct UpstreamsListArguments {
    /// Groups, or servers as GROUP/NAME; without any, all
    #[arg(value_name = "GROUP[/NAME]")]
    pub(super) names: Vec<String>,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
    /// The configuration; without it what `truename run` would read
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

/// `truename upstreams test`.
#[derive(Debug, Args)]
pub(super) struct UpstreamsTestArguments {
    /// Groups, or servers as GROUP/NAME; without any, those of all groups in use
    #[arg(value_name = "GROUP[/NAME]")]
    pub(super) names: Vec<String>,
    /// Queries for each rung, one after the other
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=MAX_COUNT))]
    pub(super) count: u32,
    /// The name whose address is asked for
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    pub(super) name: String,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
    /// The configuration; without it what `truename run` would read
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

/// `truename guard`.
#[derive(Debug, Args)]
pub(super) struct GuardArguments {
    #[command(subcommand)]
    pub(super) what: GuardCommand,
}

/// What to do with the guard.
#[derive(Debug, Subcommand)]
pub(super) enum GuardCommand {
    /// Replay labelled cases through the guard and print how well they were judged
    #[command(after_help = "Examples:
  truename guard eval cases.jsonl                 every piece of evidence that was recorded
  truename guard eval cases.jsonl --wire-only     the replies alone
  truename guard eval - --verdicts out.jsonl      cases from stdin; what was decided about each

A case is one line of JSON; docs/guard.md lists its fields. Nothing is sent anywhere.

Exit status: 0 every line was used, 1 some could not be.")]
    Eval(EvalArguments),
}

/// `truename guard eval`.
#[derive(Debug, Args)]
pub(super) struct EvalArguments {
    /// The cases, one JSON object a line; - for stdin
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Leave out certificates, counts of names per address and decoys
    #[arg(long)]
    pub(super) wire_only: bool,
    /// Count only a case's class as right, not everything that is acceptable
    #[arg(long)]
    pub(super) strict: bool,
    /// Print one JSON document, with both counts
    #[arg(long)]
    pub(super) json: bool,
    /// Write what was decided about each case here, one JSON object a line
    #[arg(long, value_name = "OUT")]
    pub(super) verdicts: Option<PathBuf>,
}
