//! What commands print, whole: through a pipe and on a terminal of 80 columns. Figures that no two runs share are
//! masked; `INSTA_UPDATE=always` writes the files in `snapshots/`, which are read like code.

use crate::control::{control_socket, start, stats_socket, strict_schema, strictly, validator};
use crate::support::client::ask;
use crate::support::columns::{self, Mask};
use crate::support::daemon::{Daemon, binary, forward_to};
use crate::support::eventually;
use crate::support::fake::{Fake, Habit};
use crate::support::pty::Pty;
use regex::Regex;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;
use std::process::{Command, Stdio};

/// What differs from run to run, and what it becomes.
const MASKS: &[(&str, &str)] = &[
    (r"^\d+ others, ", "N others, "),
    (r"(127\.0\.0\.1|udp):\d+", "$1:PORT"),
    (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME"),
    (r"\b\d\d:\d\d:\d\d(\.\d{3})?\b", "CLOCK"),
    (r"\d+(\.\d+)? (µs|ms|s|min)\b( \d+ s)?", "DURATION"),
    (r"\b(p50|p99|qps|upstreams_up)=[0-9.]+", "$1=N"),
    (r"\d+(\.\d+)? ([KMG]iB|B)\b", "SIZE"),
    (r"\d+(\.\d+)?/s", "N/s"),
    (r"^ *\d+(\.\d+)? q/s", "  N q/s"),
    (r"^\d+\.\d$", "N.N"),
    (r"\d{10}", "SERIAL"),
    (r"\bTTL \d+", "TTL N"),
    (r"\d+ of \d+ upstreams", "N of N upstreams"),
    (r"(/tmp|/var/tmp)/\.tmp\w+", "FOLDER"),
];
/// Rows whose figures differ from run to run, though nothing in them shows it.
const VARYING: &[&str] = &["open files", "open fds", "memory", "control requests", "log suppressed"];
/// Groups that nobody wrote, the machine's own resolvers, and what happens a while after the start.
const LEFT_OUT: &[&str] = &["system/", "trusted/", "near/", "snapshots written"];

const LOCAL: &str = "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"@\", type = \"A\", value = \"10.0.0.1\" }]\n\
                     [[route]]\nname = \"corp\"\nnames = [\"corp.example\"]\nupstream = \"fake\"\n";

/// Runs a command through a pipe and on a terminal, and holds both to one file; the exit status is part of it.
fn golden(name: &str, socket: &Path, args: &[&str]) {
    let mut command = binary();
    command.args(args).arg("--socket").arg(socket);
    golden_as(name, args, command, LEFT_OUT);
}

/// Does the same for a command as it is; rows that begin so are left out.
fn golden_as(name: &str, args: &[&str], mut command: Command, left_out: &[&str]) {
    // Into one file, so that what is said stays in order.
    let mut file = tempfile::tempfile().unwrap();
    let end = || Stdio::from(file.try_clone().unwrap());
    let status = command.stdout(end()).stderr(end()).status().unwrap();
    let mut said = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut said).unwrap();
    hold(name, args, status.code(), &said, left_out);
    let mut pty = Pty::start(&command, 24, 80);
    let mut status = None;
    eventually("it ends on the terminal", || {
        status = pty.ended();
        status.is_some()
    });
    // What it wrote comes through the terminal a moment later.
    eventually("all of it has come", || written(&pty).len() + 8 >= said.len() && written(&pty).ends_with('\n'));
    hold(name, args, status.unwrap().code(), &written(&pty), left_out);
}

/// Runs a command that never ends by itself until it has said so many lines, both ways. Its output is begun anew for each: what it
/// says after them is nobody's business here.
fn golden_endless(name: &str, socket: &Path, args: &[&str], lines: usize) {
    let mut command = binary();
    command.args(args).arg("--socket").arg(socket);
    let first = |text: &str| text.split_inclusive('\n').take(lines).collect::<String>();
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    for _ in 0..lines {
        assert!(reader.read_line(&mut said).unwrap() > 0, "it has ended after {said}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    hold(name, args, None, &said, LEFT_OUT);
    let mut pty = Pty::start(&command, 24, 80);
    eventually("they have come", || written(&pty).matches('\n').count() >= lines);
    assert_eq!(pty.ended(), None, "{}", written(&pty));
    hold(name, args, None, &first(&written(&pty)), LEFT_OUT);
}

/// What a program on a terminal has written, with the ends of lines that it wrote.
fn written(pty: &Pty) -> String {
    String::from_utf8(pty.octets()).unwrap().replace("\r\n", "\n")
}

/// Masks a text whose tables stand as they should, but for so many of their last columns.
fn mask(said: &str, left_out: &[&str], loose: usize) -> String {
    let masks: Vec<(Regex, &str)> = MASKS.iter().map(|(found, shown)| (Regex::new(found).unwrap(), *shown)).collect();
    let of_line = |text: &str| -> String {
        masks.iter().fold(text.to_owned(), |text, (found, shown)| found.replace_all(&text, *shown).into_owned())
    };
    let of_cell = |row: &str, cell: &str| {
        if VARYING.contains(&row) && cell != row && cell != "-" { "N".to_owned() } else { of_line(cell) }
    };
    let kept = said.lines().filter(|line| !left_out.iter().any(|start| line.starts_with(start)));
    let mask = Mask { of_cell: &of_cell, of_line: &of_line, loose };
    columns::masked(&kept.collect::<Vec<_>>().join("\n"), &mask)
}

fn hold(name: &str, args: &[&str], status: Option<i32>, said: &str, left_out: &[&str]) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    // Lines that come one by one cannot know how wide a name is.
    let loose = usize::from(args.contains(&"-f"));
    settings.bind(|| {
        let end = status.map_or_else(|| "goes on".to_owned(), |status| status.to_string());
        insta::assert_snapshot!(
            name,
            format!("$ truename {}\n{}[{end}]\n", args.join(" "), mask(said, left_out, loose))
        );
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
    golden("log", &control, &["log"]);
    golden("log-failed", &control, &["log", "--rcode", "NXDOMAIN"]);
    golden_endless("log-follow", &control, &["log", "-f"], 5);
    golden("top-once", &control, &["top", "--once", "--every", "100ms"]);
    golden("top-once-sums", &stats, &["top", "--once", "--every", "100ms"]);
    golden_endless("stats-watch", &stats, &["stats", "--watch", "100ms"], 3);
}

/// Without a configuration: what is shipped. The machine's own resolvers are its own business.
#[test]
fn the_servers_that_are_shipped_look_the_same_piped_and_on_a_terminal() {
    if Path::new("/etc/truename/truename.toml").exists() {
        return;
    }
    let mut command = binary();
    command.arg("upstreams");
    golden_as("upstreams", &["upstreams"], command, &["system/"]);
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
                (status.unwrap().code(), written(&pty))
            };
            hold(name, args, status, &said, LEFT_OUT);
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
    let (schema, validator) = (strict_schema(), validator());
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
        let wrong: Vec<String> = strictly(&of_part).iter_errors(part).map(|error| error.to_string()).collect();
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
