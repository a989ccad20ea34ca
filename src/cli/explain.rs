//! `truename explain`: why an answer is what it is.

use super::args::ExplainArguments;
use super::exit::{Failed, Outcome};
use super::{daemon, render};
use crate::app::{self, Explain};
use crate::config::diagnostic;
use crate::control::Door;
use crate::control::client::ClientError;
use crate::dns::{Name, Rtype};
use http::Method;
use serde_json::Value;
use std::fmt::Write as _;

/// Explains and prints.
pub(super) fn run(arguments: &ExplainArguments) -> Result<Outcome, Failed> {
    let name = &arguments.name;
    let qname =
        Name::parse(name).map_err(|error| Failed::Usage(format!("`{}` is no name: {error}", name.escape_debug())))?;
    let qtype: Rtype = arguments
        .qtype
        .parse()
        .map_err(|error| Failed::Usage(format!("`{}`: {error}", arguments.qtype.escape_debug())))?;
    let what = Explain { qname, qtype, client: arguments.client, fresh: arguments.fresh };
    let document = if arguments.config.is_some() { ourselves(arguments, what)? } else { of_daemon(arguments, what)? };
    render::result(&if arguments.read.json { format!("{document:#}") } else { shown(&document) })?;
    Ok(Outcome::Fine)
}

/// Asks the running daemon; when none runs, answers by the configuration as one would.
fn of_daemon(arguments: &ExplainArguments, what: Explain) -> Result<Value, Failed> {
    let mut target = format!(
        "/explain?name={}&type={}",
        daemon::encoded(&what.qname.to_string()),
        daemon::encoded(&what.qtype.to_string())
    );
    if let Some(client) = what.client {
        let _ = write!(target, "&client={}", daemon::encoded(&client.to_string()));
    }
    if what.fresh {
        target += "&fresh=1";
    }
    match daemon::ask(&arguments.read.at, Door::Control, &Method::GET, &target) {
        Err(Failed::Daemon(ClientError::NotRunning(_))) if arguments.read.at.socket.is_none() => {
            render::complain("no daemon runs; this is what one would do by its configuration, with nothing cached");
            ourselves(arguments, what)
        }
        other => daemon::read(&other?),
    }
}

fn ourselves(arguments: &ExplainArguments, what: Explain) -> Result<Value, Failed> {
    match app::explain_ourselves(arguments.config.as_deref(), what) {
        Ok(document) => Ok(document),
        Err(app::RunError::Config(diagnostics)) => {
            render::complain(&diagnostic::human(&diagnostics));
            Err(Failed::Config)
        }
        Err(error) => Err(Failed::Run(error)),
    }
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_default()
}

fn items<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn ms(of: &Value) -> String {
    format!("{:.1} ms", of["elapsed_seconds"].as_f64().unwrap_or(0.0) * 1000.0)
}

/// The conclusion first, then each stage in its order.
fn shown(document: &Value) -> String {
    let (name, qtype, rcode) = (text(document, "qname"), text(document, "qtype"), text(document, "rcode"));
    let mut out = format!("{name} {qtype}  {rcode}  source {}  {}\n", text(document, "source"), ms(document));
    if !document["ede"].is_null() {
        let _ = writeln!(out, "extended error {}: {}", document["ede"]["code"], text(&document["ede"], "text"));
    }
    let records: Vec<_> = items(document, "answer").iter().map(|record| record_row("", record)).collect();
    out += &render::columns(&records);
    out.push('\n');
    let mut rows = Vec::new();
    let mut row = |key: &str, decided: &str, because: &str| {
        rows.push([key, decided, because].map(str::to_owned).to_vec());
    };
    for key in ["access", "view", "cache", "zone"] {
        let stage = &document[key];
        if !stage.is_null() {
            row(key, text(stage, "decided"), text(stage, "because"));
        }
    }
    let route = &document["route"];
    if !route.is_null() {
        row("route", text(route, "decided"), text(route, "because"));
        for other in items(route, "losing") {
            row(
                "",
                &format!("not {}", text(other, "name")),
                &format!("has {} too ({})", text(other, "pattern"), text(other, "at")),
            );
        }
        let why = if route["private"] == true { "a private route: never judged" } else { "" };
        row("guard", text(route, "guard"), why);
    }
    if document["source"] == "cache" || document["source"] == "cache_stale" {
        match document["recorded"]["age_seconds"].as_u64() {
            Some(age) => row("recorded", &format!("{age} s ago"), "what upstreams said when they were asked"),
            None => row("recorded", "nothing", "what upstreams said then is not known any more; --fresh asks anew"),
        }
    }
    for seen in items(document, "upstreams") {
        let data: Vec<&str> = items(seen, "answer").iter().map(|record| text(record, "data")).collect();
        let trusted = if seen["trusted"] == true { "trusted, " } else { "" };
        let how = format!("{trusted}{} in {}", text(seen, "transport"), ms(seen));
        let said = format!("{how}: {} {}", text(seen, "rcode"), data.join(" "));
        row("reply", text(seen, "upstream"), said.trim_end());
    }
    for failed in items(document, "failures") {
        row("failed", text(failed, "about"), &format!("{}: {}", text(failed, "what"), text(failed, "because")));
    }
    for proof in items(document, "proofs") {
        row("proof", text(proof, "address"), &format!("{}: {}", text(proof, "shown"), text(proof, "means")));
    }
    for judged in items(document, "guard") {
        row("verdict", text(judged, "decided"), "");
        for sign in items(judged, "evidence") {
            let weight = sign["weight"].as_i64().unwrap_or(0);
            row("", &format!("{weight:+} {}", text(sign, "sign")), text(sign, "means"));
        }
    }
    for ttl in items(document, "ttl") {
        let came = ttl["came_seconds"].as_u64().filter(|came| Some(*came) != ttl["served_seconds"].as_u64());
        let change = came.map(|came| format!("{came} → ")).unwrap_or_default();
        row(
            "ttl",
            &format!("{change}{} s", ttl["served_seconds"]),
            &format!("{}: {}", text(ttl, "type"), text(ttl, "because")),
        );
    }
    if !document["store"].is_null() {
        row("store", text(&document["store"], "decided"), text(&document["store"], "because"));
    }
    out + &render::columns(&rows)
}

fn record_row(indent: &str, record: &Value) -> Vec<String> {
    vec![
        format!("{indent}{}", text(record, "name")),
        record["ttl_seconds"].to_string(),
        text(record, "type").to_owned(),
        text(record, "data").to_owned(),
    ]
}
