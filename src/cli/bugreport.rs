//! `truename bugreport`: what the running daemon says about itself, in a file to be sent along with a report.

use super::args::BugreportArguments;
use super::daemon;
use super::exit::{Failed, Outcome};
use super::render;
use crate::app::RunError;
use crate::clock;
use crate::control::Door;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The mode of the file: it may hold names and clients.
const MODE: u32 = 0o600;

/// Asks for it and writes it into a file that was not there.
pub(super) fn run(arguments: &BugreportArguments) -> Result<Outcome, Failed> {
    let target = if arguments.names { "/debug/bundle?names=1" } else { "/debug/bundle" };
    let archive = daemon::get(&arguments.at, Door::Control, target)?;
    let path = arguments.output.clone().unwrap_or_else(named_by_the_moment);
    write(&path, &archive).map_err(|source| Failed::Run(RunError::System { what: "cannot write the file", source }))?;
    let path = render::visible(&path.display().to_string());
    let names = if arguments.names { "with names and clients" } else { "without names and clients" };
    render::result(&format!("{path}: {names}; `tar -tf` lists what is in it"))?;
    Ok(Outcome::Fine)
}

fn named_by_the_moment() -> PathBuf {
    let moment = humantime::format_rfc3339_seconds(clock::wall()).to_string().replace(':', "");
    PathBuf::from(format!("truename-bugreport-{moment}.tar"))
}

/// What is there is left alone.
fn write(path: &Path, archive: &[u8]) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path).map_err(named)?;
    file.write_all(archive).map_err(named)
}
