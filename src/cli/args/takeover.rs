//! The commands that have the names of this machine come to truename, and go back.

use crate::system::takeover::Method;
use clap::{Args, Subcommand, ValueEnum};
use std::time::Duration;

/// `truename up`.
#[derive(Debug, Args)]
pub(in crate::cli) struct UpArguments {
    /// Show the plan and change nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Print one JSON document: what was found, and the plan; changes nothing
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Do not ask before it is done
    #[arg(short, long)]
    pub(in crate::cli) yes: bool,
    /// The way, in place of the one that fits this machine
    #[arg(long, value_enum, value_name = "METHOD")]
    pub(in crate::cli) method: Option<MethodArgument>,
    /// Have names that no route matches go to this DoH server, in a file beside the configuration, until `truename down`
    #[arg(long, value_name = "URL", value_parser = doh, conflicts_with = "keep")]
    pub(in crate::cli) doh: Option<String>,
    /// Give the names back after this time, unless `truename up --keep` is said before
    #[arg(long = "try", value_name = "DURATION", value_parser = trial, conflicts_with = "keep")]
    pub(in crate::cli) trial: Option<Duration>,
    /// Keep what a trial has done
    #[arg(long, conflicts_with_all = ["method", "dry_run", "json"])]
    pub(in crate::cli) keep: bool,
}

pub(super) const UP_HELP: &str = "Examples:
  truename up --dry-run            what would be done here, and why
  sudo truename up
  sudo truename up --try 5m        and back by itself, unless you say: sudo truename up --keep
  sudo truename up --doh https://9.9.9.9/dns-query
                                   the same, with this server for all names that no route matches

Whether names really come to truename is tried out; if they do not, everything is undone. While the daemon does not run,
names are where they were before.

Exit status: 0 names come to truename, 1 they cannot, and are with who had them without truename: units that were started for
it are stopped again; 77 not root: only the plan was shown.";

/// `truename down`.
#[derive(Debug, Args)]
pub(in crate::cli) struct DownArguments {
    /// Say nothing unless it fails
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
    /// Show what would be undone and change nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Only when truename does not answer, or a trial was ended by a boot or its time
    #[arg(long)]
    pub(in crate::cli) if_dead: bool,
    /// Only while the trial with this end is on: for the timer that ends it
    #[arg(long, value_name = "TIME", hide = true)]
    pub(in crate::cli) trial_end: Option<String>,
}

pub(super) const DOWN_HELP: &str = "Examples:
  sudo truename down

A file that somebody else has written meanwhile is left to them. The daemon goes on, and nobody asks it.

Exit status: 0 names are where they were, 1 something could not be undone, 77 not root.";

/// `truename takeover`.
#[derive(Debug, Args)]
pub(in crate::cli) struct TakeoverArguments {
    #[command(subcommand)]
    pub(in crate::cli) what: TakeoverCommand,
}

/// What a unit wants.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(in crate::cli) enum TakeoverCommand {
    /// Take over as `truename up` was told
    Apply,
    /// Give back, whatever was done
    Release {
        /// Not when names have been taken over anew since whoever says this was asked to
        #[arg(long)]
        unless_taken: bool,
    },
    /// Take resolv.conf again that somebody else wrote
    Reclaim,
}

/// The ways, as they are written.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::cli) enum MethodArgument {
    /// A link of our own in systemd-resolved
    Resolved,
    /// NetworkManager leaves resolv.conf alone, and the file is ours
    NetworkManager,
    /// A record of resolvconf, Debian's or openresolv's
    Resolvconf,
    /// resolv.conf itself
    File,
}

impl From<MethodArgument> for Method {
    fn from(argument: MethodArgument) -> Self {
        match argument {
            MethodArgument::Resolved => Self::Resolved,
            MethodArgument::NetworkManager => Self::NetworkManager,
            MethodArgument::Resolvconf => Self::Resolvconf,
            MethodArgument::File => Self::File,
        }
    }
}

/// The shortest trial; the longest is a day.
const MIN_TRIAL: Duration = Duration::from_secs(5);
/// Longer than this nobody remembers what to confirm.
const MAX_TRIAL: Duration = Duration::from_secs(86_400);

/// It is written into a file of TOML.
fn doh(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|octet| octet.is_ascii_graphic() && !b"\"\\".contains(&octet));
    if text.starts_with("https://") && is_plain {
        Ok(text.to_owned())
    } else {
        Err("an address such as https://9.9.9.9/dns-query was expected".to_owned())
    }
}

fn trial(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|_| "a duration such as 5m was expected".to_owned())?;
    if (MIN_TRIAL..=MAX_TRIAL).contains(&time) { Ok(time) } else { Err("from 5s to 1d".to_owned()) }
}
