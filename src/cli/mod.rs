//! The command line: one file per command, one definition per flag, one printer.

mod args;
mod bugreport;
mod cache;
mod check;
mod config;
mod daemon;
mod demo;
mod down;
mod exit;
mod explain;
mod figures;
mod guard;
mod incidents;
mod log;
mod metrics;
mod monitor;
mod probe;
mod query;
mod reload;
mod render;
mod run;
mod stats;
mod status;
mod tables;
mod takeover;
mod top;
mod up;
mod upstreams;

use args::{Arguments, Command, RunAlone};
use clap::Parser;
use std::iter::once;
use std::process::ExitCode;

/// Returns every command and flag, for manual pages and completions.
#[must_use]
pub fn definition() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Runs the command that the process's arguments name, and returns its exit status (0 fine, 1 worked and found
/// a problem or a negative result, 2 usage, 69 no daemon, 77 not permitted, 78 unusable configuration).
#[must_use]
pub fn main() -> ExitCode {
    let command = match read() {
        Ok(command) => command,
        Err(error) => {
            let command = std::env::args().nth(1).unwrap_or_default();
            return exit::usage(&error, if command == "monitor-check" { monitor::UNKNOWN } else { exit::EXIT_USAGE });
        }
    };
    let result = match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Up(arguments) => up::run(&arguments),
        Command::Down(arguments) => down::run(&arguments),
        Command::Takeover(arguments) => takeover::run(&arguments.what),
        Command::Check(arguments) => check::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
        Command::Query(arguments) => query::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Stats(arguments) => stats::run(&arguments),
        Command::Top(arguments) => top::run(&arguments),
        Command::Cache(arguments) => cache::run(&arguments),
        Command::Log(arguments) => log::run(&arguments),
        Command::Zones(arguments) => tables::zones(&arguments),
        Command::Routes(arguments) => tables::routes(&arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Pause(arguments) => reload::pause(&arguments),
        Command::Resume(arguments) => reload::resume(&arguments),
        Command::Metrics(arguments) => metrics::run(&arguments),
        Command::Bugreport(arguments) => bugreport::run(&arguments),
        // Its statuses are those of Nagios, whatever happens.
        Command::MonitorCheck(arguments) => return monitor::run(&arguments),
        Command::Upstreams(arguments) => upstreams::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Guard(arguments) => guard::run(&arguments),
        Command::Incidents(arguments) => incidents::run(&arguments),
    };
    exit::status(result)
}

/// Reads the arguments. Those of `run` are read by themselves where they are right, so that a daemon does not keep in
/// memory what all other commands are described by; help and errors come from the whole.
fn read() -> Result<Command, clap::Error> {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|command| command == "run")
        && let Ok(alone) = RunAlone::try_parse_from(once("truename run".into()).chain(words))
    {
        return Ok(Command::Run(alone.arguments));
    }
    Arguments::try_parse().map(|arguments| arguments.command)
}
