//! The query log as a file: what is written, by whom it may be read, and what happens when it cannot be.

use crate::control::{control_socket, start, stats_socket};
use crate::support::client::{ask, exchange, query};
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::http::{ask_http, get};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use truename::dns::Rtype;

const ZONE: &str =
    "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"@\", type = \"A\", value = \"10.0.0.1\" }]\n";

fn config(path: &Path, more: &str) -> String {
    format!("[server]\nworkers = 1\n{ZONE}[log]\nqueries = \"{}\"\n{more}", path.display())
}

fn names(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    // What is being written has no end yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|text| line(text)["name"].as_str().unwrap().to_owned()).collect()
}

fn counter(daemon: &Daemon, name: &str) -> u64 {
    get(&stats_socket(daemon), "/stats").json()["counters"][name].as_u64().unwrap()
}

/// A folder and the path of a log in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queries.ndjson");
    (folder, path)
}

#[test]
fn every_question_is_written_and_the_last_ones_at_the_end() {
    let (_folder, path) = place();
    let mut daemon = start(&config(&path, ""));
    for n in 0..20_u16 {
        exchange(daemon.address, &query(&format!("n{n}.lab.example"), Rtype::A, n)).unwrap();
    }
    eventually("they are written", || names(&path).len() == 20);
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o640);
    ask(daemon.address, "last.lab.example");
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    let expected: Vec<String> = (0..20).map(|n| format!("n{n}.lab.example.")).collect();
    assert_eq!(names(&path), [expected, vec!["last.lab.example.".to_owned()]].concat());
}

#[test]
fn it_is_opened_anew_when_asked_and_turned_on_and_off_by_a_reload() {
    let (folder, path) = place();
    let daemon = start(&config(&path, ""));
    ask(daemon.address, "first.lab.example");
    eventually("it is written", || names(&path) == ["first.lab.example."]);
    // As logrotate does it.
    let moved = folder.path().join("moved");
    fs::rename(&path, &moved).unwrap();
    daemon.signal(Signal::SIGHUP);
    eventually("there is another one", || path.exists());
    ask(daemon.address, "second.lab.example");
    eventually("it is written there", || names(&path) == ["second.lab.example."]);
    assert_eq!(names(&moved), ["first.lab.example."]);
    let reload = |text: &str| {
        daemon.write("truename.toml", &format!("{text}[hosts]\nfiles = []\n"));
        assert_eq!(ask_http(&control_socket(&daemon), "POST", "/reload", "", "").status, 200);
    };
    reload(&format!("[server]\nworkers = 1\n{ZONE}"));
    ask(daemon.address, "unwritten.lab.example");
    reload(&config(&path, ""));
    ask(daemon.address, "third.lab.example");
    eventually("it goes on", || names(&path) == ["second.lab.example.", "third.lab.example."]);
}

#[test]
fn a_file_that_cannot_be_written_is_said_once_and_questions_go_on() {
    let (folder, _) = place();
    let path = folder.path().join("missing").join("queries.ndjson");
    let daemon = start(&config(&path, ""));
    for n in 0..5 {
        assert!(!ask(daemon.address, &format!("n{n}.lab.example")).0.is_empty());
        let unwritten = || counter(&daemon, "query_log_unwritten_total") == n + 1;
        eventually("it is counted", unwritten);
    }
    let said = || daemon.events("the query log cannot be written");
    eventually("it is said", || said().len() == 1);
    assert!(said()[0]["error"].as_str().unwrap().contains("missing/queries.ndjson"), "{:?}", said());
    fs::create_dir(folder.path().join("missing")).unwrap();
    ask(daemon.address, "written.lab.example");
    eventually("it is written after all", || names(&path) == ["written.lab.example."]);
    eventually("that is said, too", || daemon.events("the query log is written again").len() == 1);
    assert_eq!(said().len(), 1);
}

#[test]
fn a_full_disk_leaves_questions_answered_and_no_line_torn() {
    // A file system of a few kilobytes, which only root may make: in a mount namespace of the daemon's own.
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let (folder, path) = place();
    let mut command = Command::new("unshare");
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C").stdin(Stdio::null());
    let mount = format!("mount -t tmpfs -o size=64k tmpfs {} && exec \"$0\" \"$@\"", folder.path().display());
    command.args(["-m", "/bin/sh", "-c", &mount, env!("CARGO_BIN_EXE_truename")]);
    let daemon = Daemon::start_by(command, &format!("{}[hosts]\nfiles = []\n", config(&path, "")), &["127.0.0.1:0"]);
    eventually("the sockets are there", || daemon.events("control socket").len() == 2);
    let path = PathBuf::from(format!("/proc/{}/root{}", daemon.pid(), path.display()));
    eventually("it is full", || {
        for n in 0..50_u16 {
            exchange(daemon.address, &query(&format!("n{n}.lab.example"), Rtype::A, n)).unwrap();
        }
        counter(&daemon, "query_log_unwritten_total") > 0
    });
    let whole = names(&path).len();
    eventually("it is said", || daemon.events("the query log cannot be written").len() == 1);
    fs::write(&path, "").unwrap();
    ask(daemon.address, "lab.example");
    eventually("there is room again", || names(&path).last().is_some_and(|name| name == "lab.example."));
    assert!(whole > 10, "{whole}");
    daemon.assert_no_panic();
}

#[test]
fn a_daemon_that_writes_and_is_not_asked_sleeps() {
    let (_folder, path) = place();
    let daemon = start(&config(&path, ""));
    ask(daemon.address, "lab.example");
    eventually("it is written", || names(&path).len() == 1);
    let before = daemon.wake_ups();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(daemon.wake_ups() - before <= 4);
}
