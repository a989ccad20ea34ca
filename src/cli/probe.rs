//! `truename upstreams probe`: the running daemon asks its servers, each over each rung.

use super::args::SwitchArguments;
use super::exit::{Failed, Outcome};
use super::figures::{table, time};
use super::{daemon, render};
use crate::control::Door;
use http::Method;
use serde::Deserialize;

#[derive(Deserialize)]
struct Document {
    upstreams: Vec<Server>,
}

#[derive(Deserialize)]
struct Server {
    group: String,
    name: String,
    state: String,
    remark: Option<String>,
    rungs: Vec<Rung>,
}

#[derive(Deserialize)]
struct Rung {
    transport: String,
    port: u16,
    state: String,
    opened_in_seconds: Option<f64>,
    reply_seconds: Option<f64>,
    remark: Option<String>,
}

/// Has a server or a group asked; negative when one of the servers is down.
pub(super) fn run(arguments: &SwitchArguments) -> Result<Outcome, Failed> {
    let target = format!("/upstreams/{}/probe", daemon::encoded(&arguments.name));
    let bytes = daemon::ask(&arguments.read.at, Door::Control, &Method::POST, &target)?;
    let document: Document = daemon::read(&bytes)?;
    render::result(&if arguments.read.json { daemon::text(&bytes) } else { shown(&document) })?;
    let is_down = |server: &Server| server.state == "down";
    Ok(if document.upstreams.iter().any(is_down) { Outcome::Negative } else { Outcome::Fine })
}

fn shown(document: &Document) -> String {
    if document.upstreams.is_empty() {
        return "no servers: this group has none on this machine\n".to_owned();
    }
    let mut rows = Vec::new();
    for server in &document.upstreams {
        let label = format!("{}/{}", server.group, server.name);
        let blank = String::new;
        if server.rungs.is_empty() {
            let remark = server.remark.clone().unwrap_or_default();
            rows.push(vec![label, blank(), server.state.clone(), blank(), blank(), remark]);
            continue;
        }
        rows.extend(server.rungs.iter().map(|rung| {
            let seconds = |of: Option<f64>| of.map_or_else(blank, time);
            let (opened, reply) = (seconds(rung.opened_in_seconds), seconds(rung.reply_seconds));
            let at = format!("{}:{}", rung.transport, rung.port);
            vec![label.clone(), at, rung.state.clone(), opened, reply, rung.remark.clone().unwrap_or_default()]
        }));
    }
    let up = document.upstreams.iter().filter(|server| server.state == "up").count();
    format!("{up} of {} servers are up\n", document.upstreams.len())
        + &table(&["SERVER", "RUNG", "STATE", "OPENED IN", "TIME", "REMARK"], &[3, 4], &rows)
}
