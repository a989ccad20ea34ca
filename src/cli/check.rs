//! `truename check`: every problem of all files at once.

use super::args::{CheckArguments, Format};
use super::exit::{Failed, Outcome};
use super::render;
use crate::app;
use crate::config::diagnostic;

/// Reads everything the daemon would read and reports what is wrong with it.
pub(super) fn run(arguments: &CheckArguments) -> Result<Outcome, Failed> {
    let checked = app::check(arguments.file.as_deref());
    match arguments.format {
        Format::Human => {
            render::result(&diagnostic::human(&checked.diagnostics))?;
            render::complain(&files(&checked));
        }
        Format::Gcc => {
            render::result(&diagnostic::gcc(&checked.diagnostics))?;
            render::complain(&diagnostic::summary(&checked.diagnostics));
        }
        Format::Json => render::result(&diagnostic::json(&checked.diagnostics))?,
    }
    Ok(if checked.is_usable() { Outcome::Fine } else { Outcome::Negative })
}

/// Says which files were read.
fn files(checked: &app::Checked) -> String {
    match checked.files.as_slice() {
        [] => "no file: the defaults are in force".to_owned(),
        files => files.iter().map(|file| format!("read {}\n", file.display())).collect(),
    }
}
