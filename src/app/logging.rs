//! Structured logs: text on a terminal, JSON otherwise; hickory's own chatter only from warnings up.

use crate::config::{Log, LogFormat, LogLevel};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Starts logging to stderr. A second call in one process changes nothing.
pub(super) fn start(log: &Log) {
    let level = match log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let directives =
        format!("truename={level},hickory_net=warn,hickory_resolver=warn,hickory_server=warn,hickory_proto=warn");
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE);
    let text = match log.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    // An error here means that logging runs already.
    drop(if text { builder.with_ansi(std::io::stderr().is_terminal()).try_init() } else { builder.json().try_init() });
}
