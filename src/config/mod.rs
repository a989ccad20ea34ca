//! Text to [`Config`] or diagnostics.
//!
//! `file` is the table of everything a user may write. `read` turns a text into values by that table, `load` puts
//! the files together, `check` turns the values into a [`Config`] or into the list of everything wrong with them; the
//! program only ever sees [`Config`], which is immutable. The default file, the JSON schema and the reference page come
//! out of the same table (`schema`, `manual`).
//!
//! Nothing here reads the files that a configuration names (zones, hosts, lists); that is the pipeline's work.

pub mod address;
pub mod advice;
pub mod diagnostic;
pub mod effective;
pub mod file;
pub mod keys;
pub mod load;
pub mod manual;
pub mod model;
pub mod pattern;
pub mod presets;
pub mod resolvers;
pub mod schema;
pub mod server;
pub mod source;
pub mod units;

mod check;
mod document;
mod examples;
mod get;
mod nearest;
mod paths;
mod read;
mod resolve;

pub use diagnostic::{Diagnostic, Severity};
pub use load::{Loaded, Text, UP_FILE, load, load_keeping, load_kept, load_text, load_with};
pub use model::*;
