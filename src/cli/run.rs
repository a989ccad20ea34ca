//! `truename run`: the daemon.

use super::args::RunArguments;
use super::exit::{Failed, Outcome};
use super::render;
use crate::app::{self, Options, RunError};
use crate::config::diagnostic;

/// Runs the daemon until it is told to stop.
pub(super) fn run(arguments: &RunArguments) -> Result<Outcome, Failed> {
    let options = Options { config: arguments.config.clone(), listen: arguments.listen.clone() };
    match app::run(&options) {
        Ok(()) => Ok(Outcome::Fine),
        Err(RunError::Config(diagnostics)) => {
            render::complain(&diagnostic::human(&diagnostics));
            Err(Failed::Config)
        }
        Err(error) => Err(Failed::Run(error)),
    }
}
