//! The integration tests, one binary so that linking is paid once.
#![allow(dead_code, reason = "what drives the daemon waits for it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod fakes;
mod lockfile;

// The real binary on real sockets. Off (together with the allow below) until the binary runs.
#[cfg(any())]
mod commands;
#[cfg(any())]
mod faults;
#[cfg(any())]
mod forward;
#[cfg(any())]
mod life;
#[cfg(any())]
mod zones;
