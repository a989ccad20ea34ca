//! Paths in a configuration file are relative to the folder it is in.

use super::model::Location;
use std::path::{Path, PathBuf};

/// Returns the folder of the file something was written in.
pub(crate) fn folder(at: &Location) -> &Path {
    at.file.parent().unwrap_or(Path::new(""))
}

/// Resolves a path that was written at `at`.
pub(crate) fn beside(at: &Location, path: &str) -> PathBuf {
    folder(at).join(path)
}
