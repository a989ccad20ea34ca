//! Exit statuses and last words.

use super::render;
use crate::app::RunError;
use crate::control::client::ClientError;
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Fine: 0.
    Fine,
    /// It worked and found a problem or a negative result: 1.
    Negative,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub(super) enum Failed {
    /// The arguments do not say what to do: 2.
    Usage(String),
    /// The daemon could not start or go on.
    Run(RunError),
    /// The daemon could not be asked: 69, 77 or 1.
    Daemon(ClientError),
    /// The configuration cannot be used: 78.
    Config,
    /// The result could not be written: 1; 0 when its reader went away.
    Write(std::io::Error),
    /// The machine does not let it be done, or it did not work: 1.
    Refused {
        /// What was found.
        found: String,
        /// What would do; nothing to say, mostly.
        expected: Option<String>,
        /// What helps.
        hint: Option<String>,
    },
    /// It is for root: 77.
    NotRoot {
        /// The command that does it.
        command: String,
    },
    /// A file that was named could not be read or written: 1.
    File {
        /// What was tried.
        verb: &'static str,
        /// With which file.
        path: std::path::PathBuf,
        /// Why it failed.
        error: std::io::Error,
    },
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Write(error)
    }
}

/// The exit status of arguments that cannot be meant.
pub(super) const EXIT_USAGE: u8 = 2;

/// The exit status of an unusable configuration (sysexits.h, EX_CONFIG).
const EXIT_CONFIG: u8 = 78;

/// The exit status of a daemon that is not there (sysexits.h, EX_UNAVAILABLE).
const EXIT_UNAVAILABLE: u8 = 69;

/// The exit status of what the system does not permit (sysexits.h, EX_NOPERM).
const EXIT_NOT_PERMITTED: u8 = 77;

/// Turns a command's end into the process's status, with a last line on stderr where something failed.
pub(super) fn status(result: Result<Outcome, Failed>) -> ExitCode {
    match result {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Negative) => ExitCode::FAILURE,
        Err(Failed::Usage(message)) => {
            render::complain(&format!("error: {message}\nhint: see truename --help"));
            ExitCode::from(EXIT_USAGE)
        }
        Err(Failed::Config) => ExitCode::from(EXIT_CONFIG),
        Err(Failed::Refused { found, expected, hint }) => {
            let expected = expected.map(|text| format!("\n  expected  {text}")).unwrap_or_default();
            let hint = hint.map(|text| format!("\n  hint      {text}")).unwrap_or_default();
            render::complain(&format!("error: {found}{expected}{hint}"));
            ExitCode::FAILURE
        }
        Err(Failed::NotRoot { command }) => {
            render::complain(&format!("error: this is for root\n  hint      {command}"));
            ExitCode::from(EXIT_NOT_PERMITTED)
        }
        Err(Failed::Daemon(error)) => {
            let (hint, status) = remedy(&error);
            let hint = hint.map(|hint| format!("\n  hint      {hint}")).unwrap_or_default();
            render::complain(&format!("error: {error}{hint}"));
            ExitCode::from(status)
        }
        Err(Failed::Run(error)) => {
            let hint = error.hint().map(|hint| format!("\n  hint      {hint}")).unwrap_or_default();
            render::complain(&format!("error: {error}{hint}"));
            if error.is_not_permitted() { ExitCode::from(EXIT_NOT_PERMITTED) } else { ExitCode::FAILURE }
        }
        // A closed pipe is how `truename … | head` ends, not an error.
        Err(Failed::Write(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failed::Write(error)) => {
            render::complain(&format!("error: cannot write the result: {error}"));
            ExitCode::FAILURE
        }
        Err(Failed::File { verb, path, error }) => {
            render::complain(&format!("error: cannot {verb} {}: {error}", path.display()));
            ExitCode::FAILURE
        }
    }
}

/// Says what helps against not reaching a daemon, and which status it is.
fn remedy(error: &ClientError) -> (Option<&'static str>, u8) {
    match error {
        ClientError::NotRunning(_) => {
            let hint = "start it with `systemctl start truename.service` or `truename run`; --socket asks another one";
            (Some(hint), EXIT_UNAVAILABLE)
        }
        ClientError::NotPermitted(_) => (
            Some("join the group with `sudo usermod -aG truename $USER` and log in again, or use sudo"),
            EXIT_NOT_PERMITTED,
        ),
        ClientError::Problem { status: 403, .. } => (Some("give the control socket to --socket"), EXIT_NOT_PERMITTED),
        ClientError::Problem { .. } | ClientError::Broken(_) => (None, 1),
    }
}

/// Shows clap's own message: help and version go to stdout and are fine, the rest is a usage error, with this status.
pub(super) fn usage(error: &clap::Error, status: u8) -> ExitCode {
    drop(error.print());
    if error.use_stderr() { ExitCode::from(status) } else { ExitCode::SUCCESS }
}
