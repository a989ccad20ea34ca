//! Looking inside a running daemon, and telling it what to do: HTTP/1.1 over Unix sockets, and the client for it.
//!
//! ```text
//!  stats.sock    everybody on the machine   GET only: sums, no names anybody looked up, no clients ─┐
//!  control.sock  owner and group            all of it, names and actions ───────────────────────────┼─▶ Daemon
//!  127.0.0.1     whoever can connect        /metrics, /healthz, /readyz; opt-in ────────────────────┘
//! ```
//!
//! The sockets' file modes are the permission; nothing else is asked. All of it runs on one thread of its own, so that no
//! question waits for it, and no timer runs while nobody is connected. What the daemon knows and does is behind
//! [`Daemon`], which `app` implements: this folder reaches everything and imports none of it.
//!
//! ```text
//! place.rs      where the sockets are            socket.rs       making them
//! serve.rs      the thread, the listeners        connections.rs  how many, which one goes
//! endpoints.rs  what can be asked, one table     answer.rs       from a request to a response
//! request.rs    parameters and bodies            reply.rs        documents and problems
//! shape.rs      documents as text and pages      bundle.rs       all of it in a file, for a report
//! report.rs     what /stats says                 metrics.rs      the same for Prometheus
//! queries.rs    what /queries says               follow.rs       the same as it happens
//! client.rs     for commands
//! ```

mod answer;
mod bundle;
pub mod client;
mod connections;
mod daemon;
mod endpoints;
mod follow;
pub mod metrics;
pub mod place;
pub mod queries;
mod reply;
pub mod report;
mod request;
mod serve;
mod shape;
mod socket;

pub use daemon::{Daemon, Explain, Matching, Outcome, Question};
pub use endpoints::Way;
pub use place::Door;
pub use reply::Problem;
pub use serve::{Doors, Running, attend, start};
pub use socket::{Socket, SocketError};

/// The published schema of `/stats`.
pub const STATS_SCHEMA: &str = include_str!("../../docs/schema/stats-1.json");
