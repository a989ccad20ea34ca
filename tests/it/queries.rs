//! The questions a daemon remembers: what is told of each, to whom, and as they come.

use crate::control::{control_socket, start, stats_socket};
use crate::support::client::{
    PATIENCE, ask, ask_type, connect, exchange, exchange_from, plain_query, query, read_frame, write_frame,
};
use crate::support::daemon::{Daemon, binary, forward_to, run};
use crate::support::eventually;
use crate::support::fake::{Fake, Habit};
use crate::support::http::{ask_http, get, open};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use truename::dns::{Rcode, Rtype};

const ZONE: &str =
    "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"@\", type = \"A\", value = \"10.0.0.1\" }]\n";
const ROUTE: &str = "[[route]]\nname = \"corp\"\nnames = [\"corp.example\"]\nupstream = \"fake\"\n";

fn queries(daemon: &Daemon, filter: &str) -> Vec<Value> {
    let response = get(&control_socket(daemon), &format!("/queries{filter}"));
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()["queries"].as_array().unwrap().clone()
}

fn names(daemon: &Daemon, filter: &str) -> Vec<String> {
    let name = |line: &Value| line["name"].as_str().unwrap_or("-").to_owned();
    queries(daemon, filter).iter().map(name).collect()
}

#[test]
fn every_answer_is_remembered_with_who_decided_it() {
    let fake = Fake::address([192, 0, 2, 1]).with("bad.example.org", Habit::Code(Rcode::SERVFAIL));
    let access = "[server.access]\nallow = [\"127.0.0.1\"]\n";
    let daemon = start(&format!("{access}{ZONE}{ROUTE}{}", forward_to(&[fake.address])));
    ask(daemon.address, "www.example.org");
    ask(daemon.address, "WWW.example.org");
    ask_type(daemon.address, "lab.example", Rtype::A);
    ask(daemon.address, "git.corp.example");
    ask(daemon.address, "bad.example.org");
    let mut stream = connect(daemon.address);
    write_frame(&mut stream, &query("lab.example", Rtype::TXT, 7));
    read_frame(&mut stream).unwrap();
    // Refused, and malformed: an opcode nobody has.
    exchange_from("127.0.0.9".parse().unwrap(), daemon.address, &query("a.b", Rtype::A, 1), PATIENCE).unwrap();
    let mut odd = plain_query("a.b", Rtype::A, 2);
    odd[2] |= 0x70;
    exchange(daemon.address, &odd).unwrap();

    let all = queries(&daemon, "");
    let of = |line: &Value, keys: [&str; 8]| keys.map(|key| line[key].clone());
    let shown: Vec<_> = all
        .iter()
        .map(|line| of(line, ["name", "type", "proto", "source", "rcode", "zone", "route", "upstream"]))
        .collect();
    let server = format!("fake/{}", fake.address);
    let expected = [
        json!(["www.example.org.", "A", "udp", "forward", "NOERROR", null, "default", server]),
        json!(["WWW.example.org.", "A", "udp", "cache", "NOERROR", null, "default", null]),
        json!(["lab.example.", "A", "udp", "zone", "NOERROR", "lab.example.", null, null]),
        json!(["git.corp.example.", "A", "udp", "forward", "NOERROR", null, "corp", server]),
        json!(["bad.example.org.", "A", "udp", "error", "SERVFAIL", null, "default", null]),
        json!(["lab.example.", "TXT", "tcp", "zone", "NOERROR", "lab.example.", null, null]),
        json!(["a.b.", "A", "udp", "policy", "REFUSED", null, null, null]),
        json!([null, null, "udp", "error", "NOTIMP", null, null, null]),
    ];
    // Which worker took which is the kernel's choice, and so is the order of what came in one millisecond.
    assert_eq!(shown.len(), expected.len(), "{all:#?}");
    for line in &expected {
        assert!(shown.iter().any(|shown| json!(shown) == *line), "{line} is missing: {shown:#?}");
    }
    let cached = all.iter().find(|line| line["source"] == "cache").unwrap();
    assert_eq!(cached["answers"], json!(["192.0.2.1"]));
    assert_eq!((&cached["client"], &cached["view"]), (&json!("127.0.0.1"), &json!("default")));
    assert!(cached["ttl_seconds"].as_u64().unwrap() > 0 && cached["duration_seconds"].as_f64().unwrap() > 0.0);
    let refused = all.iter().find(|line| line["rcode"] == "REFUSED").unwrap();
    assert_eq!((&refused["ede"], &refused["client"]), (&json!(18), &json!("127.0.0.9")));
    let mut ids: Vec<_> = all.iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all.len(), "no id stands twice");
}

#[test]
fn filters_choose_and_a_wrong_one_is_told_what_there_is() {
    let fake = Fake::address([192, 0, 2, 1]).with("none.example.org", Habit::NxDomain(60));
    let daemon = start(&format!("[server]\nworkers = 1\n{ZONE}{ROUTE}{}", forward_to(&[fake.address])));
    for name in
        ["a.example.org", "b.example.org", "none.example.org", "git.corp.example", "lab.example", "a.example.org"]
    {
        ask(daemon.address, name);
    }
    ask_type(daemon.address, "a.example.org", Rtype::AAAA);
    assert_eq!(names(&daemon, "?name=A.example.org"), ["a.example.org.", "a.example.org.", "a.example.org."]);
    assert_eq!(names(&daemon, "?name=*.example.org&rcode=nxdomain"), ["none.example.org."]);
    assert_eq!(names(&daemon, "?type=AAAA"), ["a.example.org."]);
    assert_eq!(names(&daemon, "?source=zone"), ["lab.example."]);
    assert_eq!(names(&daemon, "?source=cache"), ["a.example.org."]);
    assert_eq!(names(&daemon, "?route=corp"), ["git.corp.example."]);
    assert_eq!(names(&daemon, "?upstream=fake").len(), 5);
    assert_eq!(names(&daemon, &format!("?upstream=fake/{}", fake.address)).len(), 5);
    assert_eq!(names(&daemon, "?upstream=fak"), Vec::<String>::new());
    assert_eq!(names(&daemon, "?client=127.0.0.0/8").len(), 7);
    assert_eq!(names(&daemon, "?client=192.0.2.1"), Vec::<String>::new());
    assert_eq!(names(&daemon, "?since=10m").len(), 7);
    assert_eq!(names(&daemon, "?since=2026-01-01T00:00:00Z").len(), 7);
    let last = get(&control_socket(&daemon), "/queries?limit=2").json();
    assert_eq!((last["queries"].as_array().unwrap().len(), &last["more"]), (2, &json!(true)));
    assert_eq!(last["queries"][1]["type"], "AAAA", "the last ones, the oldest first");
    for (wrong, problem) in [
        ("?nam=x", "unknown-parameter"),
        ("?name=a..b", "bad-name"),
        ("?type=X", "bad-type"),
        ("?client=me", "bad-client"),
        ("?source=moon", "bad-source"),
        ("?since=yesterday", "bad-time"),
        ("?limit=0", "bad-limit"),
        ("?follow=yes", "bad-follow"),
    ] {
        let response = get(&control_socket(&daemon), &format!("/queries{wrong}"));
        assert_eq!((response.status, response.problem().as_str()), (400, problem), "{wrong}");
    }
    let unknown = get(&control_socket(&daemon), "/queries?nam=x").json();
    assert!(unknown["parameters"].as_array().unwrap().contains(&json!("since")), "{unknown}");
    for target in ["/queries", "/queries?follow=1"] {
        assert_eq!(get(&stats_socket(&daemon), target).problem(), "control-only", "names are not for everybody");
    }
}

#[test]
fn what_is_remembered_is_bounded_and_can_be_turned_off() {
    let config = |count: usize| format!("[server]\nworkers = 1\n[stats]\nrecent_queries = {count}\n{ZONE}");
    let daemon = start(&config(50));
    for n in 0..120_u16 {
        exchange(daemon.address, &query(&format!("n{n}.lab.example"), Rtype::A, n)).unwrap();
    }
    let last = names(&daemon, "?limit=10000");
    assert_eq!(last.len(), 50);
    assert_eq!((last[0].as_str(), last[49].as_str()), ("n70.lab.example.", "n119.lab.example."));
    let daemon = start(&config(0));
    ask(daemon.address, "lab.example");
    assert_eq!(names(&daemon, ""), Vec::<String>::new());
}

/// Follows, and has read the head.
struct Follower(BufReader<UnixStream>);

impl Follower {
    fn begin(daemon: &Daemon, target: &str, accept: &str) -> Self {
        let mut stream = open(&control_socket(daemon));
        write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n").unwrap();
        let mut follower = Self(BufReader::new(stream));
        let status = follower.line();
        assert_eq!(status, "HTTP/1.1 200 OK");
        while !follower.line().is_empty() {}
        follower
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "it goes on");
        line.trim_end().to_owned()
    }

    /// The next line that is not of the chunked coding, and not empty.
    fn next(&mut self) -> String {
        loop {
            let line = self.line();
            if !line.is_empty() && u32::from_str_radix(&line, 16).is_err() && line != ":" {
                return line;
            }
        }
    }

    fn json(&mut self) -> Value {
        serde_json::from_str(&self.next()).unwrap()
    }
}

#[test]
fn followers_see_each_question_as_it_is_answered() {
    let fake = Fake::address([192, 0, 2, 1]);
    let daemon = start(&format!("{ZONE}{}", forward_to(&[fake.address])));
    ask(daemon.address, "before.example.org");
    let mut all = Follower::begin(&daemon, "/queries?follow=1", "*/*");
    let mut from_before = Follower::begin(&daemon, "/queries?follow=1&limit=5", "application/x-ndjson");
    let mut of_zone = Follower::begin(&daemon, "/queries?follow=1&source=zone", "text/event-stream");
    assert_eq!(from_before.json()["name"], "before.example.org.");
    for name in ["www.example.org", "lab.example"] {
        ask(daemon.address, name);
        assert_eq!(all.json()["name"], format!("{name}."));
        assert_eq!(from_before.json()["name"], format!("{name}."));
    }
    assert!(of_zone.next().starts_with("id: q-"));
    let data = of_zone.next();
    let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!((&event["name"], &event["zone"]), (&json!("lab.example."), &json!("lab.example.")));
}

#[test]
fn there_are_only_so_many_followers_and_one_that_leaves_makes_room() {
    let daemon = start(ZONE);
    let control = control_socket(&daemon);
    let mut followers: Vec<Follower> = (0..8).map(|_| Follower::begin(&daemon, "/queries?follow=1", "*/*")).collect();
    let full = get(&control, "/queries?follow=1");
    assert_eq!((full.status, full.problem().as_str()), (503, "too-many-followers"));
    assert_eq!(get(&control, "/queries").status, 200, "looking is no following");
    drop(followers.pop());
    let target = "GET /queries?follow=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    eventually("there is room", || {
        // Something to write: that the reader has left shows by then.
        ask(daemon.address, "lab.example");
        let mut stream = open(&control);
        stream.write_all(target.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        &status == b"HTTP/1.1 200"
    });
}

#[test]
fn a_follower_that_does_not_read_holds_up_nobody_and_is_told_what_it_lost() {
    let daemon = start(&format!("[server]\nworkers = 1\n[stats]\nrecent_queries = 100\n{ZONE}"));
    let mut slow = Follower::begin(&daemon, "/queries?follow=1", "*/*");
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(daemon.address).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut buffer = [0; 1500];
    let answered = || get(&stats_socket(&daemon), "/stats").json()["queries"]["total"].as_u64().unwrap();
    let mut n = 0_u16;
    // Far more than the socket's buffers hold of lines.
    eventually("many are answered", || {
        for _ in 0..2_000 {
            n = n.wrapping_add(1);
            let _ = client.send(&plain_query(&format!("n{}.lab.example", n % 9), Rtype::A, n));
            while client.recv(&mut buffer).is_ok() {}
        }
        answered() > 20_000
    });
    assert_eq!(ask(daemon.address, "lab.example").addresses(), ["10.0.0.1"]);
    let total = answered();
    let (mut seen, mut lost) = (0, 0);
    // Each is either seen or counted as lost.
    while seen + lost < total {
        let line = slow.json();
        match line["lost"].as_u64() {
            Some(count) => lost += count,
            None => seen += 1,
        }
    }
    assert_eq!(seen + lost, total);
    assert!(lost > 1_000 && seen > 0, "{seen} seen, {lost} lost");
}

#[test]
fn sums_are_told_while_ten_readers_go_through_a_large_memory() {
    const READERS: usize = 10;
    const OVERTAKING: usize = 5;
    let daemon = start(&format!("[server]\nworkers = 1\n[stats]\nrecent_queries = 100000\n{ZONE}"));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(daemon.address).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut buffer = [0; 1500];
    let control = control_socket(&daemon);
    let total = || get(&control, "/stats?section=queries").json()["queries"]["total"].as_u64().unwrap();
    eventually("there is much to go through", || {
        for n in 0..2_000 {
            let _ = client.send(&plain_query(&format!("n{}.lab.example", n % 9), Rtype::A, n));
            while client.recv(&mut buffer).is_ok() {}
        }
        total() > 60_000
    });
    let (done, finished, begun) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                begun.fetch_add(1, Ordering::SeqCst);
                while !done.load(Ordering::SeqCst) {
                    assert!(names(&daemon, "?name=nothing.example").is_empty());
                    finished.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        eventually("all have begun", || begun.load(Ordering::SeqCst) == READERS);
        // Whoever had to wait for the readers before it would see some of them finish each time, however fast or slow the
        // machine is: every one of them begins again at once.
        let mut overtaken = 0;
        let told = catch_unwind(AssertUnwindSafe(|| {
            eventually("sums are told while no reader finishes", || {
                let before = finished.load(Ordering::SeqCst);
                assert!(total() > 60_000);
                overtaken += usize::from(finished.load(Ordering::SeqCst) == before);
                overtaken >= OVERTAKING
            });
        }));
        // Else the readers would never end.
        done.store(true, Ordering::SeqCst);
        told.unwrap_or_else(|failure| resume_unwind(failure));
    });
}

#[test]
fn an_idle_daemon_with_a_follower_of_nothing_sleeps() {
    let daemon = start(ZONE);
    let _follower = Follower::begin(&daemon, "/queries?follow=1", "*/*");
    ask(daemon.address, "lab.example");
    std::thread::sleep(std::time::Duration::from_millis(500));
    let before = daemon.wake_ups();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let after = daemon.wake_ups();
    // A heartbeat each 15 s, and what watches the connection.
    assert!(after - before <= 4, "{}", after - before);
}

fn log(socket: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = run(&[&["log"], args, &["--socket", socket.to_str().unwrap()]].concat());
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text)
}

#[test]
fn the_command_shows_what_was_asked_in_columns() {
    let fake = Fake::address([192, 0, 2, 1]).with("none.example.org", Habit::NxDomain(60));
    let daemon = start(&format!("[server]\nworkers = 1\n{ZONE}{ROUTE}{}", forward_to(&[fake.address])));
    let control = control_socket(&daemon);
    for name in ["git.corp.example", "none.example.org", "lab.example"] {
        ask(daemon.address, name);
    }
    let (status, text) = log(&control, &[]);
    assert_eq!(status, Some(0), "{text}");
    let without_time = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // The time of day, and how long it took, are never the same.
        [&words[1..5], &words[7..]].concat().join(" ")
    };
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>().join(" "),
        "TIME CLIENT TYPE SOURCE RCODE TOOK NAME ANSWER"
    );
    let server = format!("fake/{}", fake.address);
    assert_eq!(
        lines[1..].iter().map(|line| without_time(line)).collect::<Vec<_>>(),
        [
            format!("127.0.0.1 A forward NOERROR git.corp.example. 192.0.2.1, TTL 300, from {server}, by route corp"),
            format!("127.0.0.1 A forward NXDOMAIN none.example.org. from {server}"),
            "127.0.0.1 A zone NOERROR lab.example. 10.0.0.1, TTL 60, in zone lab.example.".to_owned(),
        ]
    );
    assert!(!text.contains('\u{1b}'), "no colours in a pipe: {text}");
    let columns: Vec<usize> = lines.iter().map(|line| line.find("  A ").or(line.find("  TYPE")).unwrap()).collect();
    assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
    let (_, json) = log(&control, &["--json", "--name", "lab.example"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["queries"][0]["zone"], "lab.example.");
    assert_eq!(log(&control, &["--source", "moon"]).0, Some(1));
    assert_eq!(log(&stats_socket(&daemon), &[]).0, Some(77));
    assert_eq!(log(Path::new("/nowhere.sock"), &[]).0, Some(69));
    assert_eq!(log(Path::new("/nowhere.sock"), &["-f"]).0, Some(69));
}

#[test]
fn the_command_colours_failures_on_a_terminal_only() {
    let daemon = start(ZONE);
    ask(daemon.address, "none.lab.example");
    let binary = env!("CARGO_BIN_EXE_truename");
    let command = format!("{binary} log --socket {}", control_socket(&daemon).display());
    let run = |colour: bool| {
        let mut script = Command::new("script");
        script.env_clear().env("PATH", "/usr/bin:/bin").env("TERM", "xterm").stdin(Stdio::null());
        if !colour {
            script.env("NO_COLOR", "1");
        }
        let output = script.args(["-qec", &command, "/dev/null"]).output().expect("script is there");
        String::from_utf8(output.stdout).unwrap()
    };
    let on_terminal = run(true);
    let line = on_terminal.lines().nth(1).unwrap();
    assert!(line.starts_with("\u{1b}[33m") && line.trim_end().ends_with("\u{1b}[0m"), "{on_terminal:?}");
    assert!(!run(false).contains('\u{1b}'));
}

#[test]
fn the_command_follows_until_the_daemon_is_gone() {
    let mut daemon = start(ZONE);
    let mut command = binary();
    command.args(["log", "-f", "--socket"]).arg(control_socket(&daemon));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    // It shows what was before it began, so nothing has to be waited for.
    ask(daemon.address, "lab.example");
    assert!(lines.next().unwrap().starts_with("TIME "));
    assert!(lines.next().unwrap().contains("10.0.0.1, TTL 60, in zone lab.example."));
    ask_type(daemon.address, "lab.example", Rtype::MX);
    assert!(lines.next().unwrap().contains(" MX "));
    daemon.kill();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.starts_with("error: "), "{said}");
}

#[test]
fn hostile_names_are_escaped_in_every_form() {
    let daemon = start(ZONE);
    let hostile = "\\027[2J\\010x.<img src=x>.\\\"},{\\\".lab.example";
    exchange(daemon.address, &query(hostile, Rtype::A, 1)).unwrap();
    let control = control_socket(&daemon);
    for args in [&[][..], &["--json"]] {
        let (status, text) = log(&control, args);
        assert_eq!(status, Some(0), "{text}");
        assert_eq!(text.chars().find(|c| c.is_control() && *c != '\n'), None, "{text:?}");
    }
    let mut events = Follower::begin(&daemon, "/queries?follow=1&limit=1", "text/event-stream");
    assert!(events.next().starts_with("id: "));
    let data = events.next();
    let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(event["name"], "\\027[2J\\010x.<img\\032src=x>.\\\"},{\\\".lab.example.");
    let post = ask_http(&control, "POST", "/queries", "", "");
    assert_eq!(post.status, 405);
}
