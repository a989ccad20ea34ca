//! What must hold whatever bytes come in, one function for each parser of foreign input.
//!
//! Each `run` takes any bytes and panics when a property does not hold. The fuzz targets call them (`fuzz/run`), and so
//! does a plain test (`tests/it/hostile.rs`) with every file in `fuzz/seeds/`, so that they hold without a fuzzer too.

pub mod configuration;
pub mod control;
pub mod hosts;
pub mod list;
pub mod query;
pub mod reply;
pub mod resolv_conf;
pub mod rig;
pub mod seeds;
pub mod snapshot;
pub mod zone;

mod walk;

/// A target: its name, which is that of its folder of seeds, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("query", query::run),
    ("reply", reply::run),
    ("configuration", configuration::run),
    ("zone", zone::run),
    ("hosts", hosts::run),
    ("resolv_conf", resolv_conf::run),
    ("snapshot", snapshot::run),
    ("list", list::run),
    ("control", control::run),
];
