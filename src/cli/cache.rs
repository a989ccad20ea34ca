//! `truename cache`: what the daemon keeps, and having it forget.

use super::args::{CacheArguments, CacheCommand};
use super::daemon::{self, encoded};
use super::exit::{Failed, Outcome};
use super::figures::{count, table};
use super::render;
use crate::control::Door;
use crate::control::client::ClientError;
use http::Method;
use serde_json::Value;

/// Does what was asked of the cache.
pub(super) fn run(arguments: &CacheArguments) -> Result<Outcome, Failed> {
    let (method, target) = match &arguments.what {
        CacheCommand::Get { name } => (Method::GET, format!("/cache/{}", encoded(name))),
        CacheCommand::List { names, limit } => (Method::GET, format!("/cache?match={}&limit={limit}", encoded(names))),
        CacheCommand::Flush { name, suffix, all: _ } => {
            let matching = match (name, suffix) {
                (Some(name), _) => name.clone(),
                (None, Some(suffix)) => format!("*.{suffix}"),
                (None, None) => "*".to_owned(),
            };
            (Method::DELETE, format!("/cache?match={}", encoded(&matching)))
        }
    };
    let document = match daemon::ask(&arguments.read.at, Door::Control, &method, &target) {
        Err(Failed::Daemon(ClientError::Problem { kind, detail, .. })) if kind == "not-cached" => {
            render::complain(&detail);
            return Ok(Outcome::Negative);
        }
        other => other?,
    };
    let text = if arguments.read.json {
        daemon::text(&document)
    } else {
        let document: Value = daemon::read(&document)?;
        match document["removed"].as_u64() {
            Some(removed) => format!("{} removed", count(removed)),
            None => entries(&document),
        }
    };
    render::result(&text)?;
    Ok(Outcome::Fine)
}

fn entries(document: &Value) -> String {
    let all = document["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |entry: &Value| {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let left = entry["ttl_left_seconds"].as_i64().map_or_else(|| "-".to_owned(), |left| format!("{left} s"));
        let records = entry["answer"].as_array().map(Vec::as_slice).unwrap_or_default();
        let data: Vec<&str> = records.iter().filter_map(|record| record["data"].as_str()).collect();
        vec![text("name"), text("type"), text("view"), text("state"), left, text("rcode"), data.join(" ")]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    let mut shown = table(&["NAME", "TYPE", "VIEW", "STATE", "LEFT", "RCODE", "ANSWER"], &[4], &rows);
    if document["more"] == true {
        shown += "there are more; --limit shows up to 10,000\n";
    }
    shown
}
