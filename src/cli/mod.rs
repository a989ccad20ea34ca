//! The command line: one file per command, one definition per flag, one printer.

mod args;
mod check;
mod config;
mod exit;
mod guard;
mod query;
mod render;
mod run;
mod upstreams;

use args::{Arguments, Command};
use clap::Parser;
use std::process::ExitCode;

/// Runs the command that the process's arguments name, and returns its exit status (0 fine, 1 worked and found
/// a problem or a negative result, 2 usage, 78 unusable configuration).
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return exit::usage(&error),
    };
    let result = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
        Command::Query(arguments) => query::run(&arguments),
        Command::Upstreams(arguments) => upstreams::run(arguments.what.as_ref()),
        Command::Guard(arguments) => guard::run(&arguments),
    };
    exit::status(result)
}
