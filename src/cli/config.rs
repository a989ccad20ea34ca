//! `truename config`: the default file and the schema.

use super::args::{ConfigArguments, ConfigCommand};
use super::exit::{Failed, Outcome};
use super::render;
use crate::config::{manual, schema};

/// Prints what was asked for.
pub(super) fn run(arguments: &ConfigArguments) -> Result<Outcome, Failed> {
    let text = match arguments.what {
        ConfigCommand::Default => manual::default_text(),
        ConfigCommand::Schema => format!("{:#}", schema::schema()),
    };
    render::result(&text)?;
    Ok(Outcome::Fine)
}
