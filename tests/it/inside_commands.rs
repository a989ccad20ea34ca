//! The commands that look inside a running daemon: what they print when piped, and how they exit.

use crate::control::{control_socket, start, stats_socket};
use crate::support::client::{ask, query};
use crate::support::daemon::{Daemon, binary, forward_to, run};
use crate::support::eventually;
use crate::support::fake::Fake;
use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use truename::dns::Rtype;

const ZONE: &str =
    "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"@\", type = \"A\", value = \"10.0.0.1\" }]\n";

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs a command on a socket; it must be content.
fn said(socket: &Path, args: &[&str]) -> String {
    let output = run(&[args, &["--socket", socket.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}{}", out(&output), err(&output));
    out(&output)
}

fn exits(socket: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = run(&[args, &["--socket", socket.to_str().unwrap()]].concat());
    (output.status.code(), out(&output) + &err(&output))
}

fn forwarding() -> (Fake, Daemon) {
    let fake = Fake::address([192, 0, 2, 1]);
    let route = "[[route]]\nname = \"corp\"\nnames = [\"corp.example\"]\nupstream = \"fake\"\n";
    let daemon = start(&format!("{ZONE}{route}{}", forward_to(&[fake.address])));
    (fake, daemon)
}

#[test]
fn each_command_shows_its_part() {
    let (fake, daemon) = forwarding();
    ask(daemon.address, "www.example.org");
    ask(daemon.address, "www.example.org");
    let stats = stats_socket(&daemon);
    let status = said(&stats, &["status"]);
    let line = status.lines().next().unwrap();
    assert!(line.starts_with("● truename 0.1.0  up ") && line.ends_with("generation 1"), "{status}");
    assert!(status.contains("hits 50.0 %") && status.contains(&format!("fake/{}", fake.address)), "{status}");
    let all = said(&stats, &["stats"]);
    for words in ["SOURCE   ANSWERS   SHARE\n", "cache          1  50.0 %\n", "LATENCY", "queries udp"] {
        assert!(all.contains(words), "{words}: {all}");
    }
    assert!(said(&stats, &["upstreams", "live"]).starts_with("UPSTREAM"));
    assert_eq!(said(&control_socket(&daemon), &["upstreams", "disable", "fake"]), "1 disabled\n");
    assert!(said(&stats, &["upstreams", "live"]).contains("○ disabled"));
    assert_eq!(exits(&stats, &["status"]).0, Some(1), "nobody can be asked");
    assert_eq!(said(&control_socket(&daemon), &["upstreams", "enable", "fake"]), "1 enabled\n");
    let zones = said(&stats, &["zones"]);
    assert!(
        zones.starts_with("ZONE          RECORDS      SERIAL  QUERIES  VIEWS  FROM\nlab.example.        1  "),
        "{zones}"
    );
    let routes = said(&stats, &["routes"]);
    assert!(
        routes.starts_with(
            "ROUTE  UPSTREAM  NAMES    ON FAILURE  QUERIES  FROM\ncorp   fake      private  servfail          0  "
        ),
        "{routes}"
    );
    assert!(said(&stats, &["metrics"]).contains("\ntruename_cache_hits_total 1\n"));
    for command in ["status", "stats", "zones", "routes"] {
        let text = said(&stats, &[command, "--json"]);
        serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|error| panic!("{command}: {error}: {text}"));
    }
}

#[test]
fn the_cache_is_shown_and_emptied() {
    let (fake, daemon) = forwarding();
    let control = control_socket(&daemon);
    for name in ["a.example.org", "b.example.org", "c.example.net"] {
        ask(daemon.address, name);
    }
    let list = said(&control, &["cache", "list", "*.example.org"]);
    let first: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((first[0], first[1], first[3], first[7]), ("a.example.org.", "A", "fresh", "192.0.2.1"), "{list}");
    assert_eq!(list.lines().count(), 3);
    assert!(said(&control, &["cache", "get", "c.example.net"]).contains("192.0.2.1"));
    assert_eq!(exits(&control, &["cache", "get", "x.example.net"]).0, Some(1));
    assert_eq!(said(&control, &["cache", "flush", "c.example.net"]), "1 removed\n");
    assert_eq!(said(&control, &["cache", "flush", "--suffix", "example.org"]), "2 removed\n");
    assert_eq!(said(&control, &["cache", "flush", "--all"]), "0 removed\n");
    assert_eq!(exits(&control, &["cache", "flush"]).0, Some(2));
    ask(daemon.address, "a.example.org");
    assert_eq!(fake.count("a.example.org"), 2);
}

#[test]
fn reload_waits_and_says_how_it_ended() {
    let daemon = start(ZONE);
    let control = control_socket(&daemon);
    daemon.write("truename.toml", &ZONE.replace("10.0.0.1", "10.0.0.2"));
    assert_eq!(said(&control, &["reload", "--wait"]), "reloaded: generation 2 is in force\n");
    assert_eq!(ask(daemon.address, "lab.example").addresses(), ["10.0.0.2"]);
    daemon.write("truename.toml", "[server]\nworkers = \"many\"\n");
    let (status, text) = exits(&control, &["reload"]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("truename.toml:2:11: error: server.workers"), "{text}");
    assert!(text.contains("refused: generation 2 stays in force"), "{text}");
    let status = said(&stats_socket(&daemon), &["status"]);
    assert!(status.contains("the last reload was refused"), "{status}");
}

#[test]
fn a_reload_says_what_counts_from_the_next_start_on_only() {
    let daemon = start(ZONE);
    let control = control_socket(&daemon);
    daemon.write("truename.toml", &format!("[stats]\nrecent_queries = 10\n{ZONE}"));
    let (status, text) = exits(&control, &["reload", "--wait"]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("truename.toml") && text.contains("warning: stats: found another value"), "{text}");
    assert!(text.contains("the next start") && text.contains("systemctl restart truename.service"), "{text}");
    // From what is in force, which is what the file says again.
    daemon.write("truename.toml", ZONE);
    let document = said(&control, &["reload", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["diagnostics"][0]["code"], "needs-restart", "{document:#}");
}

#[test]
fn a_pause_is_shown_and_ended() {
    let daemon = start(ZONE);
    let (stats, control) = (stats_socket(&daemon), control_socket(&daemon));
    assert_eq!(said(&control, &["pause", "10m"]), "paused for 10m: generation 2 is in force\n");
    assert!(said(&stats, &["status"]).contains("▲ routes are off until 20"));
    assert_eq!(said(&control, &["resume"]), "not paused: generation 3 is in force\n");
    assert!(!said(&stats, &["status"]).contains("routes are off"));
    assert_eq!(exits(&control, &["pause", "long"]).0, Some(2));
}

#[test]
fn without_a_daemon_it_is_69_and_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = folder.path().join("nobody.sock");
    for command in [&["status"][..], &["stats"], &["zones"], &["routes"], &["metrics"], &["reload"], &["cache", "list"]]
    {
        let (status, text) = exits(&nobody, command);
        assert_eq!(status, Some(69), "{command:?}: {text}");
        assert!(text.contains("systemctl start truename.service"), "{text}");
    }
    let (status, text) = exits(&nobody, &["monitor-check"]);
    assert_eq!(status, Some(2), "{text}");
    assert!(text.starts_with("TRUENAME CRITICAL - no daemon listens on"), "{text}");
    assert!(run(&["status", "--help"]).status.success());
}

#[test]
fn who_is_not_permitted_gets_77_and_the_group_to_join() {
    let daemon = start(ZONE);
    let (stats, control) = (stats_socket(&daemon), control_socket(&daemon));
    // What is only on the other socket.
    let (status, text) = exits(&stats, &["cache", "list"]);
    assert_eq!(status, Some(77), "{text}");
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(daemon.folder.path(), open).unwrap();
    // The binary may lie where nobody else may run it.
    let program = daemon.folder.path().join("truename");
    std::fs::hard_link(binary().get_program(), &program)
        .or_else(|_| std::fs::copy(binary().get_program(), &program).map(drop))
        .unwrap();
    let as_nobody = |socket: &Path, args: &[&str]| {
        let mut command = Command::new(&program);
        command.env_clear().uid(65534).gid(65534).args(args).arg("--socket").arg(socket).output()
    };
    let refused = as_nobody(&control, &["cache", "list"]).unwrap();
    assert_eq!(refused.status.code(), Some(77), "{}", err(&refused));
    assert!(err(&refused).contains("usermod -aG truename"), "{}", err(&refused));
    assert_eq!(as_nobody(&stats, &["status"]).unwrap().status.code(), Some(0));
}

#[test]
fn monitor_check_judges() {
    let (_fake, daemon) = forwarding();
    ask(daemon.address, "www.example.org");
    let stats = stats_socket(&daemon);
    let (status, text) = exits(&stats, &["monitor-check", "-w", "p99=100s", "-c", "upstreams_up=1:"]);
    assert_eq!(status, Some(0), "{text}");
    assert!(
        text.starts_with("TRUENAME OK - ") && text.contains(" p99=0.") && text.trim_end().lines().count() == 1,
        "{text}"
    );
    assert_eq!(exits(&stats, &["monitor-check", "-c", "upstreams_up=1000:"]).0, Some(2));
    assert_eq!(exits(&stats, &["monitor-check", "-w", "incidents_open=1:"]).0, Some(1));
    assert_eq!(exits(&stats, &["monitor-check", "-w", "speed=1"]).0, Some(3));
    assert_eq!(exits(&stats, &["monitor-check", "--colour"]).0, Some(3), "not critical");
}

/// With servers of `trusted` beside it that nobody has asked, of which nothing bad is known.
#[test]
fn monitor_check_is_critical_when_nobody_of_the_default_answers() {
    // Nobody is there, which ICMP says at once.
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let daemon = start(&format!("[upstream.gone]\nservers = [\"{gone}\"]\n[default]\nupstream = \"gone\"\n"));
    let stats = stats_socket(&daemon);
    let (status, text) = exits(&stats, &["monitor-check"]);
    assert!(status == Some(0) && text.starts_with("TRUENAME OK - 1 of 1 upstreams up, "), "{text}");
    let page = || said(&stats, &["metrics"]);
    assert!(page().contains("\ntruename_ready 1\n"));
    let mut tries = 0;
    eventually("it is down", || {
        tries += 1;
        ask(daemon.address, &format!("x{tries}.example.org"));
        exits(&stats, &["status"]).0 == Some(1)
    });
    let probing = |page: &str| {
        page.lines().filter(|line| line.starts_with("truename_upstream_up{") && line.ends_with(" 1")).count()
    };
    assert!(page().contains("\ntruename_ready 0\n") && probing(&page()) > 1, "{}", page());
    for args in
        [&["monitor-check"][..], &["monitor-check", "-c", "upstreams_up=1:"], &["monitor-check", "-c", "qps=0:"]]
    {
        let (status, text) = exits(&stats, args);
        assert!(
            status == Some(2) && text.starts_with("TRUENAME CRITICAL - no upstream of the group \"gone\""),
            "{args:?}: {text}"
        );
        assert!(text.contains(" upstreams_up=0;"), "{text}");
    }
}

#[test]
fn metrics_go_into_a_file_in_one_piece() {
    let daemon = start(ZONE);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("truename.prom");
    std::fs::write(&file, "before").unwrap();
    said(&stats_socket(&daemon), &["metrics", "--textfile", file.to_str().unwrap()]);
    assert!(std::fs::read_to_string(&file).unwrap().contains("truename_build_info"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    assert_ne!(exits(&stats_socket(&daemon), &["metrics", "--textfile", "/nowhere/x.prom"]).0, Some(0));
}

#[test]
fn hostile_names_are_shown_escaped_everywhere() {
    let (_fake, daemon) = forwarding();
    // Labels that move a cursor, end a string or a line, begin a tag.
    let hostile = "\\027[2J\\010x.<img src=x>.\\\"},{\\\".example.org";
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(daemon.address).unwrap();
    socket.set_read_timeout(Some(crate::support::client::PATIENCE)).unwrap();
    socket.send(&query(hostile, Rtype::A, 1)).unwrap();
    socket.recv(&mut [0; 1500]).unwrap();
    let (stats, control) = (stats_socket(&daemon), control_socket(&daemon));
    for (socket, args) in [
        (&control, &["cache", "list"][..]),
        (&control, &["cache", "list", "--json"]),
        (&stats, &["status"]),
        (&stats, &["stats"]),
        (&stats, &["stats", "--json"]),
        (&stats, &["metrics"]),
    ] {
        let text = said(socket, args);
        let bad = text.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(bad, None, "{args:?}: {text:?}");
        if args.contains(&"--json") {
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
    }
    let list = said(&control, &["cache", "list"]);
    assert!(list.contains("\\027[2j\\010x.") && list.lines().count() == 2, "{list}");
    assert!(!daemon.log().contains('\u{1b}'), "{}", daemon.log());
}
