//! The manual page of the interface, and examples of the documents, run as they are written.

use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::machine::Machine;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const LOCAL: &str =
    "[[zone]]\nname = \"example.org\"\nrecords = [{ name = \"@\", type = \"A\", value = \"10.0.0.1\" }]\n";

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_manual_page_is_well_formed() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/man/truename-api.5");
    // Style in the sense of one system's page set is not ours: its own cross references and dates.
    let Ok(output) = Command::new("mandoc").args(["-T", "lint", "-W", "warning,stop", path]).output() else {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "mandoc is not here; in CI it must be");
        return;
    };
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_manual_page_has_every_endpoint_and_no_other() {
    let daemon = crate::control::start(LOCAL);
    let document = crate::support::http::get(&crate::control::control_socket(&daemon), "/openapi.json").json();
    let mut there = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        there.extend(methods.as_object().unwrap().keys().map(|method| format!("{} {path}", method.to_uppercase())));
    }
    let page = read("docs/man/truename-api.5");
    let mut told = BTreeSet::new();
    for line in page.lines() {
        let words: Vec<&str> = line.strip_prefix(".It ").unwrap_or_default().split(' ').collect();
        if let [method @ ("GET" | "POST" | "DELETE"), "Pa", path, ..] = words[..] {
            told.insert(format!("{method} {path}"));
        }
    }
    assert_eq!(told, there);
}

/// A machine on which a daemon has its sockets where the documents say.
fn machine() -> Option<(Machine, Daemon)> {
    let machine = Machine::make(&[])?;
    // Somebody to ask, of whom nothing is known as yet: without anybody, `status` says so and exits 1.
    let config = format!("{LOCAL}[upstream.near]\nservers = [\"127.0.0.1:5399\"]\n[default]\nupstream = \"near\"\n");
    let daemon = machine.daemon(&config, &["127.0.0.1:53"]);
    eventually("the sockets are there", || daemon.events("control socket").len() == 2);
    let folder = daemon.folder.path().display();
    machine.run(&format!("ln -s {folder} /run/truename"));
    Some((machine, daemon))
}

/// Returns the blocks of a document in a language, below a heading.
fn blocks(text: &str, heading: &str, language: &str) -> Vec<String> {
    let section = text.split(&format!("\n## {heading}\n")).nth(1).expect("the heading");
    let section = section.split("\n## ").next().unwrap_or_default();
    let fence = format!("```{language}\n");
    section.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// Runs a script on the machine with the binary in its path; it must succeed, and say something.
fn run(machine: &Machine, interpreter: &str, script: &str) -> String {
    let bin = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_truename"), bin.path().join("truename")).unwrap();
    let mut command = machine.enter(interpreter);
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").unwrap());
    let flag = if interpreter == "sh" { "-ec" } else { "-c" };
    let output = command.args([flag, script]).env("PATH", path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}\n{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn examples_of_the_operations_manual_run_as_they_are_written() {
    let Some((machine, daemon)) = machine() else { return };
    let text = read("docs/operations.md");
    let mut lines = 0;
    for block in blocks(&text, "Looking inside", "sh") {
        for line in block.lines().filter(|line| !line.is_empty()) {
            lines += 1;
            if line.contains("/queries?") {
                // What goes on without an end is ended, and nobody has asked anything here.
                let line = line.split("   #").next().unwrap();
                let ended =
                    if line.contains("follow=1") { format!("timeout 1 {line} || test $? = 124") } else { line.into() };
                run(&machine, "sh", &ended);
                continue;
            }
            assert!(!run(&machine, "sh", line).trim().is_empty(), "{line}");
        }
    }
    for block in blocks(&text, "Looking inside", "python") {
        let total: u64 = run(&machine, "/usr/bin/python3", &block).trim().parse().unwrap();
        let report = crate::support::http::get(&daemon.folder.path().join("stats.sock"), "/stats").json();
        assert_eq!(report["queries"]["total"].as_u64().unwrap(), total);
        lines += 1;
    }
    for block in blocks(&text, "Looking inside", "console") {
        for line in block.lines() {
            let command = line.strip_prefix("$ ").expect("what is typed");
            // What never ends is ended; whoever runs this is root there.
            let command = command
                .trim_start_matches("sudo ")
                .replace("truename stats --watch", "timeout 2 truename stats --watch || true")
                .replace("truename log -f", "timeout 1 truename log -f");
            // Its screen is tests/it/top.rs's business; without a terminal it says so.
            if command.contains("truename top") {
                lines += 1;
                continue;
            }
            // A name that nobody has asked for is not cached, which is an answer too.
            let command = if command.contains("cache get") || command.contains("log -f") {
                format!("{} || true", command.split('#').next().unwrap())
            } else {
                command
            };
            run(&machine, "sh", &command);
            lines += 1;
        }
    }
    assert!(lines > 10, "the reader finds only {lines} examples");
    assert!(run(&machine, "sh", "truename query example.org @127.0.0.1 --short").contains("10.0.0.1"));
}

#[test]
fn examples_of_the_manual_page_run_as_they_are_written() {
    let Some((machine, _daemon)) = machine() else { return };
    let page = read("docs/man/truename-api.5");
    let examples: Vec<String> = page
        .split(".Bd -literal -offset indent\n")
        .skip(1)
        .map(|rest| rest.split(".Ed").next().unwrap().replace("\\(aq", "'").replace("\\e", "\\"))
        .collect();
    assert_eq!(examples.len(), 3, "{examples:?}");
    for example in examples {
        assert!(run(&machine, "sh", &example).contains(['{', '}']), "{example}");
    }
}
