//! `truename config`: the default file, the schema, and what is in force.

use super::args::{ConfigArguments, ConfigCommand};
use super::exit::{Failed, Outcome};
use super::render;
use crate::app;
use crate::config::{diagnostic, manual, schema};

/// Prints what was asked for.
pub(super) fn run(arguments: &ConfigArguments) -> Result<Outcome, Failed> {
    let text = match &arguments.what {
        ConfigCommand::Default => manual::default_text(),
        ConfigCommand::Schema => format!("{:#}", schema::schema()),
        ConfigCommand::Show { file } => match app::effective(file.as_deref()) {
            Ok(text) => text,
            Err(app::RunError::Config(diagnostics)) => {
                render::complain(&diagnostic::human(&diagnostics));
                return Err(Failed::Config);
            }
            Err(error) => return Err(Failed::Run(error)),
        },
    };
    render::result(&text)?;
    Ok(Outcome::Fine)
}
