//! The integration tests, one binary so that linking is paid once.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod fakes;
mod lockfile;
mod scenarios;

// The real binary on real sockets.
mod commands;
mod faults;
mod forward;
mod interop;
mod life;
mod shortage;
mod zones;
