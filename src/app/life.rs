//! What a daemon remembers of its own life: when it began, which configuration is in force, how the last reload ended.

use crate::clock::{self, Clock, Tick};
use crate::control::report;
use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// A daemon's life so far.
#[derive(Debug)]
pub(super) struct Life {
    path: Option<PathBuf>,
    started_at: SystemTime,
    started: Tick,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    generation: u64,
    sha256: Option<String>,
    loaded_at: SystemTime,
    tried_at: SystemTime,
    error: Option<String>,
    /// What is in force is a copy, and why.
    copy: Option<String>,
    paused_until: Option<SystemTime>,
}

impl Life {
    /// Begins with a configuration that is in force.
    pub(super) fn new(path: Option<&Path>, clock: &Clock) -> Self {
        let started_at = clock::wall();
        let now = Now {
            generation: 1,
            sha256: path.and_then(sha256),
            loaded_at: started_at,
            tried_at: started_at,
            error: None,
            copy: None,
            paused_until: None,
        };
        Self { path: path.map(Path::to_path_buf), started_at, started: clock.now(), now: Mutex::new(now) }
    }

    /// Notes that something else is in force.
    pub(super) fn reloaded(&self) {
        let mut now = self.now();
        now.generation += 1;
        (now.loaded_at, now.error) = (clock::wall(), None);
        now.tried_at = now.loaded_at;
    }

    /// Notes that it came from the file.
    pub(super) fn read_again(&self) {
        let sha256 = self.path.as_deref().and_then(sha256);
        let mut now = self.now();
        (now.sha256, now.copy) = (sha256, None);
    }

    /// Notes that a copy is in force since the start, the main file of which had this text, and why.
    pub(super) fn began_with_copy(&self, main: &str, why: String) {
        let mut now = self.now();
        (now.sha256, now.copy) = (Some(sha256_of(main.as_bytes())), Some(why));
    }

    /// Says why a copy is in force, if one is.
    pub(super) fn copy(&self) -> Option<String> {
        self.now().copy.clone()
    }

    /// Notes until when it is paused, if it is.
    pub(super) fn paused(&self, until: Option<SystemTime>) {
        self.now().paused_until = until;
    }

    /// Notes a reload that was refused.
    pub(super) fn refused(&self, error: String) {
        let mut now = self.now();
        (now.tried_at, now.error) = (clock::wall(), Some(error));
    }

    /// Returns the number of the configuration in force.
    pub(super) fn generation(&self) -> u64 {
        self.now().generation
    }

    /// Returns when it began.
    pub(super) fn started(&self) -> Tick {
        self.started
    }

    /// Returns the same for display.
    pub(super) fn started_at(&self) -> String {
        written(self.started_at)
    }

    /// Says which configuration is in force.
    pub(super) fn config(&self) -> report::Config {
        let now = self.now();
        report::Config {
            path: self.path.as_ref().map(|path| path.display().to_string()),
            generation: now.generation,
            sha256: now.sha256.clone(),
            loaded_at: written(now.loaded_at),
            paused_until: now.paused_until.map(written),
            last_reload: {
                let error = now.error.clone().or_else(|| now.copy.clone());
                report::LastReload { ok: error.is_none(), at: written(now.tried_at), error }
            },
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a moment as RFC 3339 in UTC.
pub(super) fn written(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

fn sha256(path: &Path) -> Option<String> {
    std::fs::read(path).ok().map(|text| sha256_of(&text))
}

fn sha256_of(text: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, text).as_ref())
}
