//! `truename incidents`: what the daemon has found against upstreams, for people and for those who run a network.

use super::args::{IncidentsArguments, IncidentsCommand};
use super::daemon::{self, encoded};
use super::exit::{Failed, Outcome};
use super::figures::{count, table};
use super::render;
use crate::control::Door;
use crate::control::client::ClientError;
use http::Method;
use serde_json::Value;
use std::fmt::Write as _;

/// Does what was asked.
pub(super) fn run(arguments: &IncidentsArguments) -> Result<Outcome, Failed> {
    let list = IncidentsCommand::List { open: false };
    let what = arguments.what.as_ref().unwrap_or(&list);
    let (method, target) = match what {
        IncidentsCommand::List { open } => (Method::GET, format!("/incidents?open={}", u8::from(*open))),
        IncidentsCommand::Show { id } | IncidentsCommand::Export { id } => {
            (Method::GET, format!("/incidents/{}", encoded(id)))
        }
        IncidentsCommand::Changes { name: None } => (Method::GET, "/changes".to_owned()),
        IncidentsCommand::Changes { name: Some(name) } => (Method::GET, format!("/changes?name={}", encoded(name))),
        IncidentsCommand::Ack { id } => (Method::POST, format!("/incidents/{}/ack", encoded(id))),
    };
    let document = match daemon::ask(&arguments.read.at, Door::Control, &method, &target) {
        Err(Failed::Daemon(ClientError::Problem { kind, detail, .. })) if kind == "unknown-incident" => {
            render::complain(&detail);
            return Ok(Outcome::Negative);
        }
        other => other?,
    };
    if arguments.read.json {
        render::result(&daemon::text(&document))?;
        return Ok(Outcome::Fine);
    }
    let document: Value = daemon::read(&document)?;
    render::result(&match what {
        IncidentsCommand::List { .. } => listed(&document),
        IncidentsCommand::Show { .. } => shown(&document),
        IncidentsCommand::Changes { .. } => changed(&document),
        IncidentsCommand::Ack { id } => format!("{id}: taken note of"),
        IncidentsCommand::Export { .. } => markdown(&document),
    })?;
    Ok(Outcome::Fine)
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_default()
}

fn items<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn listed(document: &Value) -> String {
    let all = items(document, "incidents");
    if all.is_empty() {
        return "nothing has been found against any upstream".to_owned();
    }
    let row = |incident: &Value| {
        vec![
            text(incident, "id").to_owned(),
            if incident["acknowledged"] == true { "noted" } else { "open" }.to_owned(),
            text(incident, "verdict").to_owned(),
            text(incident, "name").to_owned(),
            text(incident, "upstream").to_owned(),
            count(incident["count"].as_u64().unwrap_or(0)),
            text(incident, "last_seen").to_owned(),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    table(&["INCIDENT", "STATE", "VERDICT", "NAME", "UPSTREAM", "COUNT", "LAST SEEN"], &[5], &rows)
}

fn changed(document: &Value) -> String {
    let all = items(document, "changes");
    if all.is_empty() {
        return "no answer of a guarded name has changed".to_owned();
    }
    let row = |change: &Value| {
        ["at", "name", "type", "was", "was_from", "became", "became_from"]
            .map(|key| text(change, key).to_owned())
            .to_vec()
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    table(&["AT", "NAME", "TYPE", "WAS", "FROM", "BECAME", "FROM"], &[], &rows)
}

fn served(incident: &Value) -> &'static str {
    match text(incident, "served") {
        "trusted" => "the answer of a trusted upstream",
        "proved" => "another answer, whose address has proved itself by its certificate",
        "suspect" => "this answer, as it came",
        "unconfirmed" => "this answer, marked and for 30 s",
        _ => "SERVFAIL: there was no answer to trust",
    }
}

fn meaning(verdict: &str) -> &'static str {
    match verdict {
        "poisoned" => "a forged or overwritten answer",
        "nxdomain_hijacked" => "data for a name that does not exist",
        "empty_vs_present" => "no data where there is data",
        "broken_chain" => "aliases that end in nothing, or loop",
        _ => "an answer that does not stand",
    }
}

fn shown(incident: &Value) -> String {
    let verdict = text(incident, "verdict");
    let mut out = format!("{}  {verdict}: {}\n\n", text(incident, "id"), meaning(verdict));
    let types: Vec<&str> = items(incident, "types").iter().filter_map(Value::as_str).collect();
    let rows = [
        ("name", format!("{} {}", text(incident, "name"), types.join(" "))),
        ("upstream", text(incident, "upstream").to_owned()),
        (
            "seen",
            format!("{} times, {} to {}", incident["count"], text(incident, "first_seen"), text(incident, "last_seen")),
        ),
        ("served", served(incident).to_owned()),
        ("score", incident["score"].to_string()),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
    out += &render::columns(&rows);
    out += "\nEvidence\n";
    let signs = items(incident, "evidence").iter().map(|sign| {
        let weight = sign["weight"].as_i64().unwrap_or(0);
        vec![format!("  {weight:+}"), text(sign, "sign").to_owned(), text(sign, "means").to_owned()]
    });
    out += &render::columns(&signs.collect::<Vec<_>>());
    for line in items(incident, "proofs").iter().filter_map(Value::as_str) {
        let _ = writeln!(out, "  {line}");
    }
    for packet in items(incident, "packets") {
        let _ = write!(out, "\nFrom {}\n{}", text(packet, "from"), packet_text(packet));
    }
    out
}

/// Shows a packet: what it says, then its bytes.
fn packet_text(packet: &Value) -> String {
    let flags: Vec<&str> = items(packet, "flags").iter().filter_map(Value::as_str).collect();
    let edns = if packet["edns"] == true { "with EDNS" } else { "without EDNS" };
    let mut out = format!("  {}  {}  {edns}\n", text(packet, "rcode"), flags.join(" "));
    for record in items(packet, "answer").iter().chain(items(packet, "authority")) {
        let (name, rtype, data) = (text(record, "name"), text(record, "type"), text(record, "data"));
        let _ = writeln!(out, "  {name} {} {rtype} {data}", record["ttl_seconds"]);
    }
    let hex = text(packet, "hex").as_bytes();
    for line in hex.chunks(64) {
        let _ = writeln!(out, "    {}", String::from_utf8_lossy(line));
    }
    out
}

/// Writes a name for a span of code, which the octet that would end it cannot be part of, nor that which ends a cell: as zone
/// files have them.
fn in_code(name: &str) -> String {
    name.replace('`', "\\096").replace('|', "\\124")
}

/// Writes an incident so that those who run a network can act on it.
fn markdown(incident: &Value) -> String {
    let (verdict, name, upstream) = (text(incident, "verdict"), text(incident, "name"), text(incident, "upstream"));
    let (name, upstream) = (in_code(name), in_code(upstream));
    let types: Vec<&str> = items(incident, "types").iter().filter_map(Value::as_str).collect();
    let mut out = format!("# {}: {} for `{name}`\n\n", text(incident, "id"), meaning(verdict));
    let _ = write!(
        out,
        "The resolver `{upstream}`, or somebody on the way to it, gave {} to questions for `{name}` ({}).\n\n\
         | | |\n| --- | --- |\n| verdict | `{verdict}`, score {} |\n| first seen | {} |\n| last seen | {} |\n\
         | times | {} |\n| clients were given | {} |\n\n## Evidence\n\n| weight | sign | what it means |\n| ---: | --- | --- |\n",
        meaning(verdict),
        types.join(", "),
        incident["score"],
        text(incident, "first_seen"),
        text(incident, "last_seen"),
        incident["count"],
        served(incident),
    );
    for sign in items(incident, "evidence") {
        let weight = sign["weight"].as_i64().unwrap_or(0);
        let _ = writeln!(out, "| {weight:+} | `{}` | {} |", text(sign, "sign"), text(sign, "means"));
    }
    let proofs = items(incident, "proofs");
    if !proofs.is_empty() {
        out += "\nAsked for a certificate of the name (port 443, nothing was sent over the connection):\n\n";
    }
    for line in proofs.iter().filter_map(Value::as_str) {
        let _ = writeln!(out, "- {}", line.replace(['`', '|', '<'], " "));
    }
    out += "\n## Packets\n\nDNS messages as they came, but for the id, which is 0, and the question, which is in lower case.\n";
    for packet in items(incident, "packets") {
        let _ = write!(out, "\nFrom `{}`:\n\n```\n{}```\n", text(packet, "from"), packet_text(packet));
    }
    out
}
