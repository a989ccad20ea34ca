//! The integration tests, one binary so that linking is paid once.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

#[path = "../support/mod.rs"]
mod support;

mod activation;
mod architecture;
mod fakes;
mod hostile;
mod inside_commands;
mod lockfile;
mod scenarios;

// The real binary on real sockets.
mod broken_input;
mod cache;
mod classes_replies;
mod classes_resources;
mod commands;
mod control;
mod control_documents;
mod control_hostile;
mod control_load;
mod doq_server;
mod encrypted_bounds;
mod encrypted_certificates;
mod encrypted_faults;
#[cfg(feature = "h3")]
mod encrypted_h3;
mod encrypted_loss;
mod encrypted_names;
mod encrypted_networks;
mod encrypted_proxies;
mod encrypted_servers;
mod encrypted_ways_out;
mod explain;
mod explain_situations;
mod faults;
mod forward;
mod golden_commands;
mod guard_eval;
mod guard_evidence;
mod guard_live;
mod guard_probes;
mod guard_proofs;
mod hostile_names;
mod interop;
mod life;
mod limits;
mod manual_pages;
mod monitoring;
mod network_changes;
mod network_places;
mod packages;
mod packaging;
mod probing;
mod promises_document;
mod promises_load;
mod promises_privacy;
mod promises_upstreams;
mod queries;
mod query_log;
mod shortage;
mod systemd;
mod takeover;
mod takeover_again;
mod takeover_doh;
mod takeover_follows;
mod top;
mod user_docs;
mod user_files;
mod user_machine;
mod wrong_clock;
mod zones;
