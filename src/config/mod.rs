//! Text to [`Config`] or diagnostics.
//!
//! Three types, one direction: `file` mirrors what a user may write, `check` turns it into a [`Config`] or into the
//! list of everything wrong with it, and the program only ever sees [`Config`], which is immutable.

pub mod check;
pub mod diagnostic;
pub mod file;
pub mod load;
pub mod model;
pub mod presets;
pub mod schema;
pub mod units;

pub use diagnostic::{Diagnostic, Severity};
pub use model::*;
