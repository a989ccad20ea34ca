//! Builds every task from a configuration; reloads, drains and stops them.
//!
//! The one place that knows all parts at once. [`run`] is the daemon; [`check`], [`ask_ourselves`] and
//! [`ask_upstream`] build as much of it as a command needs, in process and without listeners.

mod build;
mod comparing;
mod daemon;
mod demo;
mod explain;
mod findings;
mod incidents;
mod inside;
mod last_good;
mod life;
mod logging;
mod network;
mod once;
mod pause;
mod probing;
mod query_log;
mod requirements;
mod snapshot;
mod sockets;
mod state_dir;
mod up_file;
mod upstreams;
mod wanted;
mod watch;
mod watchdog;
mod writing;

pub use build::{Checked, check, effective};
pub use daemon::run;
pub use demo::demo;
pub use explain::{Explain, explain_ourselves};
pub use once::{Asked, Whom, as_json, ask_ourselves, ask_upstream};
pub use up_file::{UpFile, forget_doh};
pub use upstreams::{Findings, Member, Test, Tested, list_upstreams, test_upstreams};

use crate::config::Diagnostic;
use crate::listen::BindError;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the configuration is looked for when nobody says.
const DEFAULT_PATH: &str = "/etc/truename/truename.toml";

/// What `truename run` was told.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Addresses in place of the configured ones.
    pub listen: Vec<SocketAddr>,
}

/// Why the daemon, or a part of it, could not be built or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration cannot be used.
    #[error("the configuration has errors")]
    Config(Vec<Diagnostic>),
    /// An address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The operating system refused something else.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: std::io::Error,
    },
    /// No group and no server of the configuration has this name.
    #[error("no upstream group and no server of the configuration is called `{}`; a server is written as an address, or with a transport before its name: tls://NAME", .0.escape_debug())]
    UnknownUpstream(String),
    /// No answer came.
    #[error("{0}")]
    NoAnswer(String),
}

impl RunError {
    /// Returns what the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        if let Self::Bind(error) = self { error.hint() } else { None }
    }

    /// Tells whether the system refused for want of a privilege.
    #[must_use]
    pub fn is_not_permitted(&self) -> bool {
        let source = match self {
            Self::Bind(error) => &error.source,
            Self::System { source, .. } => source,
            Self::Config(_) | Self::NoAnswer(_) | Self::UnknownUpstream(_) => return false,
        };
        source.kind() == std::io::ErrorKind::PermissionDenied
    }
}

/// Makes a runtime for a command that works in process.
fn runtime() -> Result<tokio::runtime::Runtime, RunError> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|source| RunError::System { what: "cannot start the runtime", source })
}
