//! Pointing this machine's names at truename, and giving them back.
//!
//! Four functions: [`look()`] collects facts, [`decide()`] makes a plan of them (pure), [`apply()`] carries it out and asks a canary,
//! [`release()`] undoes it. What is done is written down before it is done ([`Record`]), so that a release finds its way back
//! from wherever an apply was cut off. Nobody restarts another program here.

mod apply;
mod canary;
mod command;
mod facts;
mod file;
mod left;
mod link;
mod lists;
mod look;
mod plan;
mod record;
mod told;
mod turn;
pub mod units;

pub use apply::{ApplyError, Reclaimed, Released, apply, check, is_dead, keep, reclaim, release};
pub use facts::{Facts, LinkDns, Owner, Resolvconf};
pub use file::BACKUP;
pub use look::look;
pub use plan::{Method, Plan, Refusal, Step, decide, decide_again};
pub use record::{Record, read as recorded};
pub use told::{Standing, Told, Watched, summary};
pub use turn::for_command as turn;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Octets read of a resolv.conf, and of the files that are looked at; real ones have a few hundred.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Where systemd is the first process (sd_booted(3)).
const SD_BOOTED: &str = "/run/systemd/system";

/// Where a machine's files are: below `/`, or below a folder of a test.
#[derive(Debug, Clone)]
pub struct Machine {
    root: PathBuf,
}

impl Default for Machine {
    fn default() -> Self {
        Self { root: PathBuf::from("/") }
    }
}

impl Machine {
    /// Takes a folder for the whole machine.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// Returns where an absolute path is.
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Tells whether this is a folder of another machine, in which somebody works by chroot(2): links, and what others keep below
    /// /run, are that machine's then. Where it cannot be known (no /proc, not root) it is a machine of its own.
    fn is_chroot(&self) -> bool {
        let which = |path| self.at(path).metadata().ok().map(|folder| (folder.dev(), folder.ino()));
        matches!((which("/proc/1/root/"), which("/")), (Some(first), Some(own)) if first != own)
    }
}
