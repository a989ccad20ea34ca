//! `truename metrics`: the sums for Prometheus, printed or in a file.

use super::args::MetricsArguments;
use super::exit::{Failed, Outcome};
use super::{daemon, render};
use crate::app::RunError;
use crate::control::Door;
use std::fs;
use std::path::Path;

/// Prints the page, or puts it into a file that is never there in part.
pub(super) fn run(arguments: &MetricsArguments) -> Result<Outcome, Failed> {
    let page = daemon::get(&arguments.at, Door::Stats, "/metrics")?;
    match &arguments.textfile {
        None => render::result(&daemon::text(&page))?,
        Some(path) => write(path, &page)
            .map_err(|source| Failed::Run(RunError::System { what: "cannot write the file", source }))?,
    }
    Ok(Outcome::Fine)
}

/// Writes beside the file and renames: the collector reads whenever it likes, and only names that end in `.prom`.
fn write(path: &Path, page: &[u8]) -> std::io::Result<()> {
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?.to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let written = fs::write(&beside, page).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        drop(fs::remove_file(&beside));
    }
    written
}
