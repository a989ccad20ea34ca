//! truename: a local DNS forwarder and split-horizon resolver that gives true answers and can say why.
//!
//! Modules in reading order; `docs/architecture.md` draws how one query travels through them.

pub mod dns;

pub mod clock;
pub mod config;
pub mod stats;

pub mod listen;
pub mod pipeline;
pub mod upstream;

pub mod app;
pub mod control;
pub mod system;

pub mod cli;
