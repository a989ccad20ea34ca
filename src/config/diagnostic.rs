//! A problem in a file the user wrote: where, found, expected, what to do.

use super::model::Location;
use std::fmt;

/// How bad it is. Errors make a configuration unusable, warnings do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but probably not as meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable kebab-case name of the kind of problem, such as `unknown-upstream`.
    pub code: &'static str,
    /// Where it is.
    pub at: Location,
    /// The key it is about, such as `upstream.office.servers[1]`; empty outside TOML.
    pub key: String,
    /// What stands there, as written; may be empty.
    pub found: String,
    /// What should stand there, or what is wrong.
    pub expected: String,
    /// What to do about it; the nearest known word, for instance.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// Makes an error.
    #[must_use]
    pub fn error(code: &'static str, at: Location, expected: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            at,
            key: String::new(),
            found: String::new(),
            expected: expected.into(),
            hint: None,
        }
    }

    /// Makes a warning.
    #[must_use]
    pub fn warning(code: &'static str, at: Location, expected: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, at, expected) }
    }

    /// Adds the key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    /// Adds what was found.
    #[must_use]
    pub fn found(mut self, found: impl Into<String>) -> Self {
        self.found = found.into();
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Tells whether the configuration is unusable because of it.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
