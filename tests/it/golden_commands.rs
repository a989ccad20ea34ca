//! What commands print, whole: through a pipe and on a terminal of 80 columns. Figures that no two runs share are
//! masked; `INSTA_UPDATE=always` writes the files in `snapshots/`, which are read like code.

use crate::control::{control_socket, start, stats_socket};
use crate::support::client::ask;
use crate::support::daemon::{Daemon, binary, forward_to};
use crate::support::eventually;
use crate::support::fake::{Fake, Habit};
use crate::support::pty::Pty;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::Stdio;

/// What differs from run to run, and what it becomes. Columns part by two blanks, however wide they are.
const MASKS: &[(&str, &str)] = &[
    // The machine's own resolvers, and groups that nobody wrote.
    (r"(?m)^(system|trusted|near)/.*\n", ""),
    (r"(?m)^\d+ others, ", "N others, "),
    (r"(127\.0\.0\.1|udp):\d+", "$1:PORT"),
    (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME"),
    (r"\d+(\.\d+)? (µs|ms|s|min)\b( \d+ s)?", "DURATION"),
    (r"\b(p50|p99|qps|upstreams_up)=[0-9.]+", "$1=N"),
    (r"\d+(\.\d+)? ([KMG]iB|B)\b", "SIZE"),
    (r"\d+(\.\d+)?/s", "N/s"),
    (r"\d{10}", "SERIAL"),
    (r"(open files|open fds|memory|control requests|log suppressed)  +\S+( \S+)?", "$1  N"),
    (r"\d+ of \d+ upstreams", "N of N upstreams"),
    (r"(/tmp|/var/tmp)/\.tmp\w+", "FOLDER"),
    (r"  +", "  "),
    (r"(?m) +$", ""),
];

const LOCAL: &str = "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"@\", type = \"A\", value = \"10.0.0.1\" }]\n\
                     [[route]]\nname = \"corp\"\nnames = [\"corp.example\"]\nupstream = \"fake\"\n";

/// Runs a command through a pipe and on a terminal, and holds both to one file; the exit status is part of it.
fn golden(name: &str, socket: &Path, args: &[&str]) {
    let mut command = binary();
    command.args(args).arg("--socket").arg(socket);
    // Into one file, so that what is said stays in order.
    let mut file = tempfile::tempfile().unwrap();
    let end = || Stdio::from(file.try_clone().unwrap());
    let status = command.stdout(end()).stderr(end()).status().unwrap();
    let mut said = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut said).unwrap();
    hold(name, args, status.code(), &said);
    let mut pty = Pty::start(&command, 24, 80);
    let mut status = None;
    eventually("it ends on the terminal", || {
        status = pty.ended();
        status.is_some()
    });
    // What it wrote comes through the terminal a moment later.
    let text = || String::from_utf8(pty.octets()).unwrap().replace("\r\n", "\n");
    eventually("all of it has come", || text().len() + 8 >= said.len() && text().ends_with('\n'));
    hold(name, args, status.unwrap().code(), &text());
}

fn hold(name: &str, args: &[&str], status: Option<i32>, said: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (found, shown) in MASKS {
        settings.add_filter(found, *shown);
    }
    settings.bind(|| {
        let shown = format!("$ truename {}\n{said}[{}]\n", args.join(" "), status.unwrap_or(-1));
        insta::assert_snapshot!(name, shown);
    });
}

fn busy() -> (Fake, Fake, Daemon) {
    let (first, second) = (Fake::address([192, 0, 2, 1]), Fake::address([192, 0, 2, 2]));
    let first = first.with("none.example.org", Habit::NxDomain(60));
    let daemon = start(&format!("{LOCAL}{}", forward_to(&[first.address, second.address])));
    (first, second, daemon)
}

#[test]
fn what_shows_something_looks_the_same_piped_and_on_a_terminal() {
    let fake = Fake::address([192, 0, 2, 1]).with("none.example.org", Habit::NxDomain(60));
    let daemon = start(&format!("{LOCAL}{}", forward_to(&[fake.address])));
    for name in ["www.example.org", "www.example.org", "none.example.org", "lab.example"] {
        ask(daemon.address, name);
    }
    let (stats, control) = (stats_socket(&daemon), control_socket(&daemon));
    golden("status", &stats, &["status"]);
    golden("stats", &stats, &["stats"]);
    golden("upstreams-live", &stats, &["upstreams", "live"]);
    golden("zones", &stats, &["zones"]);
    golden("routes", &stats, &["routes"]);
    golden("cache-list", &control, &["cache", "list"]);
    golden("cache-get", &control, &["cache", "get", "www.example.org"]);
    golden("cache-get-nothing", &control, &["cache", "get", "other.example.org"]);
    golden("monitor-check", &stats, &["monitor-check", "-w", "p99=100s"]);
    golden("monitor-check-critical", &stats, &["monitor-check", "-c", "incidents_open=1:"]);
    golden("upstreams-probe", &control, &["upstreams", "probe", "fake"]);
}

#[test]
fn what_changes_something_looks_the_same_piped_and_on_a_terminal() {
    let (_first, _second, daemon) = busy();
    ask(daemon.address, "www.example.org");
    let (stats, control) = (stats_socket(&daemon), control_socket(&daemon));
    golden("cache-flush", &control, &["cache", "flush", "x.example.net"]);
    golden("upstreams-disable", &control, &["upstreams", "disable", "fake"]);
    golden("status-down", &stats, &["status"]);
    golden("upstreams-enable", &control, &["upstreams", "enable", "fake"]);
    golden("upstreams-unknown", &control, &["upstreams", "enable", "nobody"]);
    golden("not-control", &stats, &["cache", "list"]);
    daemon.write("truename.toml", "[server]\nworkers = \"many\"\nlissten = []\n");
    golden("reload-refused", &control, &["reload"]);
    golden("status-refused", &stats, &["status"]);
}

/// Generations are part of what these say, so each is run once each way on daemons of their own.
#[test]
fn reloads_and_pauses_say_which_generation_is_in_force() {
    for way in ["pipe", "terminal"] {
        let daemon = start(LOCAL.split("[[route]]").next().unwrap());
        let control = control_socket(&daemon);
        for (name, args) in
            [("reload", &["reload", "--wait"][..]), ("pause", &["pause", "10m"]), ("resume", &["resume"])]
        {
            let mut command = binary();
            command.args(args).arg("--socket").arg(&control);
            let (status, said) = if way == "pipe" {
                let output = command.output().unwrap();
                (output.status.code(), String::from_utf8(output.stdout).unwrap())
            } else {
                let mut pty = Pty::start(&command, 24, 80);
                let mut status = None;
                eventually("it ends", || {
                    status = pty.ended();
                    status.is_some() && pty.octets().ends_with(b"\n")
                });
                (status.unwrap().code(), String::from_utf8(pty.octets()).unwrap().replace("\r\n", "\n"))
            };
            hold(name, args, status, &said);
        }
    }
}

#[test]
fn without_a_daemon_every_command_says_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = folder.path().join("nobody.sock");
    golden("no-daemon", &nobody, &["status"]);
    golden("no-daemon-monitor", &nobody, &["monitor-check"]);
}

#[test]
fn arguments_that_cannot_be_meant_are_told_with_status_2() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = folder.path().join("nobody.sock");
    golden("usage-pause", &nobody, &["pause", "long"]);
    golden("usage-cache", &nobody, &["cache", "flush"]);
    golden("usage-monitor", &nobody, &["monitor-check", "-w", "speed=1"]);
    golden("usage-unknown", &nobody, &["staus"]);
}

#[test]
fn every_json_document_is_what_its_schema_says() {
    let (_first, _second, daemon) = busy();
    ask(daemon.address, "www.example.org");
    let (stats, control) = (stats_socket(&daemon), control_socket(&daemon));
    let said = |socket: &Path, args: &[&str]| -> serde_json::Value {
        let output = binary().args(args).arg("--json").arg("--socket").arg(socket).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    };
    let schema = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schema/stats-1.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for args in [&["status"][..], &["stats"]] {
        let document = said(&stats, args);
        let wrong: Vec<String> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
        assert_eq!(wrong, Vec::<String>::new(), "{args:?}");
    }
    // The tables are the parts of that document.
    for (args, key) in [(&["upstreams", "live"][..], "upstreams"), (&["zones"], "zones"), (&["routes"], "routes")] {
        let part = &said(&stats, args)[key];
        let known = schema["properties"][key].clone();
        let mut of_part = serde_json::json!({ "$defs": schema["$defs"] });
        of_part.as_object_mut().unwrap().extend(known.as_object().unwrap().clone());
        let wrong: Vec<String> =
            jsonschema::validator_for(&of_part).unwrap().iter_errors(part).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty() && !part.as_array().unwrap().is_empty(), "{args:?}: {wrong:?} {part:#}");
    }
    let checked = said(&stats, &["monitor-check", "-w", "p99=100s"]);
    assert_eq!((&checked["status"], &checked["exit_status"]), (&"OK".into(), &0.into()), "{checked:#}");
    assert_eq!(
        (&checked["figures"]["p99"]["unit"], &checked["figures"]["p99"]["warning"]),
        (&"seconds".into(), &"100".into())
    );
    let top = said(&control, &["top", "--once"]);
    assert!(validator.is_valid(&top["stats"]) && top["queries"][0]["name"] == "www.example.org.", "{top:#}");
    assert!(said(&stats, &["top", "--once"])["no_queries"].is_string());
    assert_eq!(said(&control, &["log"])["queries"][0]["name"], "www.example.org.");
    assert_eq!(said(&control, &["cache", "get", "www.example.org"])["entries"][0]["type"], "A");
    assert_eq!(said(&control, &["upstreams", "probe", "fake"])["upstreams"][0]["state"], "up");
    assert!(said(&control, &["cache", "list"])["entries"].is_array());
    assert_eq!(said(&control, &["cache", "flush", "--all"])["removed"], 1);
    assert_eq!(said(&control, &["upstreams", "disable", "fake"])["switched"], 2);
    assert_eq!(said(&control, &["upstreams", "enable", "fake"])["enabled"], true);
    assert_eq!(said(&control, &["reload"])["generation"], 2);
    assert_eq!(said(&control, &["pause", "1m"])["ok"], true);
    assert_eq!(said(&control, &["resume"])["ok"], true);
}
