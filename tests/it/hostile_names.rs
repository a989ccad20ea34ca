//! Names that somebody chose to harm whoever reads them, through everything that shows names.

use crate::control::{control_socket, start, stats_socket};
use crate::guard_live::{TRUE, guarded, incidents};
use crate::support::client::{PATIENCE, query};
use crate::support::daemon::{Daemon, binary, forward_to};
use crate::support::eventually;
use crate::support::fake::{Fake, Habit, answer_with, qname_of};
use crate::support::http::{ask_http, get};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use truename::dns::wire::{Message, Section};
use truename::dns::{Record, Rtype};

/// Labels in presentation form: what moves a cursor or sets a title, ends a line and begins another, closes a string or a
/// tag, writes from right to left, hides, ends a text in C, ends a span of code, or is no UTF-8.
pub(crate) const HOSTILE: &[&str] = &[
    "\\027[2J\\027]0;x\\007",
    "\\155[31m",
    "a\\013\\010b level=error",
    "<script>alert(1)</script>",
    "\\\"},{\\\"name\\\":\\\"x",
    "{{ $labels }}",
    "\\226\\128\\174moc",
    "\\226\\128\\139\\239\\187\\191",
    "\\000x",
    "\\255\\254",
    "\\\\",
    "\\\"\\010truename_cache_hits_total 9",
    "`<b>x</b>|`",
    "a\\010TRUENAME_RCODE=NOERROR",
];

/// Asks a daemon for each hostile name below a domain.
pub(crate) fn ask_all(daemon: &Daemon) {
    for label in HOSTILE {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(daemon.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(&query(&format!("{label}.example.org"), Rtype::A, 1)).unwrap();
        socket.recv(&mut [0; 1500]).unwrap_or_else(|error| panic!("{label}: {error}"));
    }
}

/// Asserts that a text cannot harm a terminal or a log, nor whoever reads it.
fn assert_harmless(what: &str, text: &[u8]) {
    let text =
        std::str::from_utf8(text).unwrap_or_else(|error| panic!("{what}: {error}: {}", String::from_utf8_lossy(text)));
    let bad = text.chars().find(|c| {
        c.is_control() && *c != '\n'
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    });
    assert_eq!(bad, None, "{what}: {text:?}");
}

/// A forwarding daemon that has been asked for all of them.
fn asked(more: &str) -> (Fake, Daemon) {
    let fake = Fake::address([192, 0, 2, 1]);
    let daemon = start(&format!("{}{more}", forward_to(&[fake.address])));
    ask_all(&daemon);
    (fake, daemon)
}

fn said(args: &[&str]) -> Vec<u8> {
    let output = binary().args(args).output().unwrap();
    [output.stdout, output.stderr].concat()
}

#[test]
fn in_documents_of_the_sockets() {
    let (_fake, daemon) = asked("");
    let control = control_socket(&daemon);
    let cached = get(&control, "/cache?limit=1000");
    assert_harmless("/cache", cached.body.as_bytes());
    assert_eq!(cached.json()["entries"].as_array().unwrap().len(), HOSTILE.len());
    for label in HOSTILE {
        let name = format!("{label}.example.org");
        let escaped: String = name.bytes().map(|octet| format!("%{octet:02x}")).collect();
        for target in
            ["/query?name=", "/explain?name=", "/cache/", "/cache?match="].map(|path| format!("{path}{escaped}"))
        {
            let response = get(&control, &target);
            assert_eq!(response.status, 200, "{target}: {}", response.body);
            assert_harmless(&target, response.body.as_bytes());
            response.json();
        }
        for accept in ["text/plain", "text/html"] {
            let target = format!("/explain?name={escaped}");
            let response = ask_http(&control, "GET", &target, &format!("Accept: {accept}\r\n"), "");
            assert_harmless(accept, response.body.as_bytes());
            // Only what the page itself is made of.
            let marks = ["<script", "<b>", "<img"].iter().any(|mark| response.body.contains(mark));
            assert!(response.status == 200 && (accept == "text/plain" || !marks), "{}", response.body);
        }
    }
    for path in ["/stats", "/upstreams", "/zones", "/routes", "/views", "/lists", "/incidents", "/changes"] {
        assert_harmless(path, get(&control, path).body.as_bytes());
    }
}

#[test]
fn in_the_log_of_questions() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries.ndjson");
    let (_fake, daemon) = asked(&format!("[log]\nqueries = \"{}\"\n", file.display()));
    let control = control_socket(&daemon);
    eventually("the file has them all", || {
        std::fs::read(&file).is_ok_and(|text| text.iter().filter(|octet| **octet == b'\n').count() == HOSTILE.len())
    });
    let written = std::fs::read(&file).unwrap();
    assert_harmless("the query log", &written);
    for line in written.split(|octet| *octet == b'\n').filter(|line| !line.is_empty()) {
        let line: serde_json::Value = serde_json::from_slice(line).unwrap();
        assert!(line["name"].as_str().unwrap().ends_with(".example.org."), "{line}");
    }
    let queries = get(&control, "/queries?limit=1000");
    assert_harmless("/queries", queries.body.as_bytes());
    assert_eq!(queries.json()["queries"].as_array().unwrap().len(), HOSTILE.len());
    // One that follows gets a line for each, however it is written.
    for accept in ["application/x-ndjson", "text/event-stream"] {
        let mut stream = crate::support::http::open(&control);
        write!(stream, "GET /queries?follow=1&limit=100 HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n").unwrap();
        let mut told = Vec::new();
        let mut buffer = [0; 4096];
        let all = |told: &[u8]| told.windows(12).filter(|some| some == b"example.org.").count() == HOSTILE.len();
        // A chunk has whole lines.
        while !all(&told) || !told.ends_with(b"\r\n") {
            let len = stream.read(&mut buffer).unwrap();
            assert!(len > 0, "{}", String::from_utf8_lossy(&told));
            told.extend_from_slice(&buffer[..len]);
        }
        // Lines of HTTP end in both; nothing else is there that a terminal obeys.
        let told = String::from_utf8(told).unwrap().replace("\r\n", "\n");
        assert_harmless(accept, told.as_bytes());
        let (_, lines) = told.split_once("\n\n").unwrap();
        let lines = lines
            .lines()
            .filter_map(|line| Some(line.strip_prefix("data: ").unwrap_or(line)).filter(|line| line.starts_with('{')));
        let names: Vec<serde_json::Value> = lines.filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!(names.len(), HOSTILE.len(), "each is one line and well formed: {told}");
    }
    for args in [&["log"][..], &["log", "--json"], &["top", "--once"], &["top", "--once", "--json"]] {
        let text = said(&[args, &["--socket", control.to_str().unwrap()]].concat());
        assert_harmless(&args.join(" "), &text);
        let shown = String::from_utf8(text).unwrap().matches("example.org.").count();
        // The end of a long name has no room on a screen.
        let most_of_them = HOSTILE.len() - if args == ["top", "--once"] { 2 } else { 0 };
        assert!((most_of_them..=HOSTILE.len()).contains(&shown), "{args:?}: {shown}");
    }
}

#[test]
fn in_the_log_as_it_goes_on() {
    let (_fake, daemon) = asked("");
    for more in [&[][..], &["--json"]] {
        let socket = control_socket(&daemon);
        let mut command = binary();
        command.args(["log", "-f", "-n", "100", "--socket"]).arg(socket).args(more);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        // A table has a head.
        let expected = HOSTILE.len() + usize::from(more.is_empty());
        let mut told = Vec::new();
        for _ in 0..expected {
            assert!(lines.read_until(b'\n', &mut told).unwrap() > 0, "{}", String::from_utf8_lossy(&told));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_harmless(&format!("log -f {more:?}"), &told);
        let names = String::from_utf8(told).unwrap().matches("example.org.").count();
        assert_eq!(names, HOSTILE.len(), "a line each");
    }
}

/// Journald's socket is one of ours, in a mount namespace of the daemon's own, which only root may make.
#[test]
fn in_entries_of_the_journal() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let journal = UnixDatagram::bind(folder.path().join("socket")).unwrap();
    journal.set_read_timeout(Some(PATIENCE)).unwrap();
    let mount = format!(
        "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && mount --bind {} /run/systemd/journal && exec \"$0\" \"$@\"",
        folder.path().display()
    );
    let mut command = Command::new("unshare");
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C").stdin(Stdio::null());
    command.args(["-m", "/bin/sh", "-c", &mount, env!("CARGO_BIN_EXE_truename")]);
    let fake = Fake::address([192, 0, 2, 1]);
    let config = format!(
        "{}[log]\nqueries = \"journal\"\n[guard]\nproofs = false\n[hosts]\nfiles = []\n",
        forward_to(&[fake.address])
    );
    let daemon = Daemon::start_by(command, &config, &["127.0.0.1:0"]);
    ask_all(&daemon);
    let mut names = BTreeSet::new();
    let mut buffer = [0; 8192];
    for _ in HOSTILE {
        let len = journal.recv(&mut buffer).unwrap();
        let fields = fields(&buffer[..len]);
        let mut keys: Vec<&str> = fields.iter().map(|(key, _)| key.as_str()).collect();
        for (key, value) in &fields {
            assert_harmless(key, value);
            let known = ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"].contains(&key.as_str());
            assert!(known || key.starts_with("TRUENAME_"), "{key}");
        }
        let of = |wanted: &str| {
            let found = fields.iter().find(|(key, _)| key == wanted).unwrap_or_else(|| panic!("no {wanted}: {keys:?}"));
            String::from_utf8(found.1.clone()).unwrap()
        };
        assert_eq!([of("TRUENAME_RCODE"), of("TRUENAME_SOURCE"), of("PRIORITY")], ["NOERROR", "forward", "6"]);
        assert!(of("MESSAGE").starts_with(&of("TRUENAME_NAME")), "{fields:?}");
        names.insert(of("TRUENAME_NAME"));
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all, "no name has made a field of its own");
    }
    assert_eq!(names.len(), HOSTILE.len(), "{names:?}");
}

/// Takes an entry apart as <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/> says.
fn fields(entry: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (mut found, mut rest) = (Vec::new(), entry);
    while !rest.is_empty() {
        let end = rest.iter().position(|octet| *octet == b'\n').expect("a line ends");
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        let (key, value, next) = match line.iter().position(|octet| *octet == b'=') {
            Some(at) => (&line[..at], &line[at + 1..], after),
            None => {
                let (length, value) = after.split_at(8);
                let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
                assert_eq!(value[length], b'\n');
                (line, &value[..length], &value[length + 1..])
            }
        };
        found.push((String::from_utf8(key.to_vec()).unwrap(), value.to_vec()));
        rest = next;
    }
    found
}

#[test]
fn in_incidents_and_changes() {
    let isp = Fake::start(Habit::Address([10, 10, 34, 34].into(), 300));
    let witnesses = ["127.0.0.1", "127.1.0.1"]
        .map(|address| Fake::start_at(address.parse().unwrap(), Habit::Address(TRUE.into(), 300)));
    let daemon = start(&guarded(&[isp.address], &witnesses.each_ref().map(|fake| fake.address), "enforce"));
    let (control, stats) = (control_socket(&daemon), stats_socket(&daemon));
    ask_all(&daemon);
    eventually("each is an incident", || incidents(&daemon).len() == HOSTILE.len());
    witnesses.iter().for_each(|witness| witness.becomes(Habit::Address([93, 184, 216, 99].into(), 300)));
    assert_eq!(ask_http(&control, "DELETE", "/cache?match=*", "", "").status, 200);
    ask_all(&daemon);
    let changes = || get(&control, "/changes");
    let count = |document: &Value, of: &str| document[of].as_array().unwrap().len();
    eventually("each has changed", || count(&changes().json(), "changes") == HOSTILE.len());
    assert_harmless("/changes", changes().body.as_bytes());
    assert_harmless("/incidents", get(&control, "/incidents").body.as_bytes());
    for (socket, args) in [
        (&control, &["incidents"][..]),
        (&control, &["incidents", "changes"]),
        (&control, &["top", "--once"]),
        (&stats, &["status"]),
        (&stats, &["stats"]),
        (&stats, &["monitor-check"]),
        (&stats, &["metrics"]),
    ] {
        for more in if args[0] == "metrics" { &[""][..] } else { &["", "--json"] } {
            let all = args.iter().chain([more].into_iter().filter(|word| !word.is_empty())).copied();
            let all: Vec<&str> = all.chain(["--socket", socket.to_str().unwrap()]).collect();
            assert_harmless(&all.join(" "), &said(&all));
        }
    }
    for incident in incidents(&daemon) {
        let (id, name) = (incident["id"].as_str().unwrap(), incident["name"].as_str().unwrap());
        let document = get(&control, &format!("/incidents/{id}"));
        assert_harmless(name, document.body.as_bytes());
        assert_eq!(document.json()["name"], name);
        for what in ["show", "export"] {
            let text = said(&["incidents", what, id, "--socket", control.to_str().unwrap()]);
            assert_harmless(&format!("incidents {what}"), &text);
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("example.org."), "{text}");
            if what == "export" {
                assert_no_markup(&text);
            }
        }
    }
}

/// Asserts that in Markdown nothing of a name stands outside of code.
fn assert_no_markup(text: &str) {
    let mut is_fenced = false;
    for line in text.lines() {
        if line.starts_with("```") {
            is_fenced = !is_fenced;
            continue;
        }
        let parts: Vec<&str> = line.split('`').collect();
        let is_whole =
            is_fenced || parts.len() % 2 == 1 && parts.iter().step_by(2).all(|part| !part.contains(['<', '\\']));
        assert!(is_whole, "{line}\n{text}");
    }
    assert!(!is_fenced, "{text}");
}

#[test]
fn in_metrics_there_is_no_name_and_no_line_of_theirs() {
    let (_fake, daemon) = asked("");
    let page = get(&stats_socket(&daemon), "/metrics").body;
    assert_harmless("/metrics", page.as_bytes());
    assert!(page.contains("\ntruename_cache_hits_total 0\n") && !page.contains("example"), "{page}");
}

#[test]
fn in_logs_of_both_forms_at_the_lowest_level() {
    for format in ["text", "json"] {
        let fake = Fake::address([192, 0, 2, 1]);
        let log = format!("[log]\nlevel = \"trace\"\nformat = \"{format}\"\n");
        // Its start is told in the form under test, so that one is waited for by its sockets.
        let folder = tempfile::tempdir().unwrap();
        let config = format!("{}{log}[hosts]\nfiles = []\n", forward_to(&[fake.address]));
        std::fs::write(folder.path().join("truename.toml"), config).unwrap();
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let out = folder.path().join("log");
        let mut child = binary()
            .args(["run", "--listen", &free.to_string(), "--config"])
            .arg(folder.path().join("truename.toml"))
            .env("RUNTIME_DIRECTORY", folder.path())
            .env("STATE_DIRECTORY", folder.path())
            .stderr(std::fs::File::create(&out).unwrap())
            .spawn()
            .unwrap();
        let control = folder.path().join("control.sock");
        eventually("its socket is there", || std::os::unix::net::UnixStream::connect(&control).is_ok());
        for label in HOSTILE {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(free).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send(&query(&format!("{label}.example.org"), Rtype::A, 1)).unwrap();
            socket.recv(&mut [0; 1500]).unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let log = std::fs::read(&out).unwrap();
        assert_harmless(format, &log);
        let text = String::from_utf8(log).unwrap();
        assert!(text.contains("example.org"), "names are logged at this level, or the test shows nothing: {text}");
        assert!(
            !text.lines().any(|line| line.starts_with("b level=error") || line.starts_with("truename_cache")),
            "{text}"
        );
        if format == "json" {
            for line in text.lines() {
                serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            }
        }
    }
}

#[test]
fn in_what_commands_print() {
    let (_fake, daemon) = asked("");
    let (control, stats) = (control_socket(&daemon), stats_socket(&daemon));
    for (socket, args) in [
        (&control, &["cache", "list", "--limit", "1000"][..]),
        (&control, &["cache", "list", "--json"]),
        (&control, &["incidents"]),
        (&control, &["incidents", "changes"]),
        (&stats, &["status"]),
        (&stats, &["status", "--json"]),
        (&stats, &["stats"]),
        (&stats, &["stats", "--json"]),
        (&stats, &["monitor-check"]),
    ] {
        let text = said(&[args, &["--socket", socket.to_str().unwrap()]].concat());
        assert_harmless(&args.join(" "), &text);
    }
    let list = String::from_utf8(said(&["cache", "list", "--socket", control.to_str().unwrap()])).unwrap();
    assert_eq!(list.lines().count(), HOSTILE.len() + 1, "a line each: {list}");
    let server = format!("@{}", daemon.address);
    // Some labels to a name: each costs some programs.
    for labels in HOSTILE.chunks(3) {
        let name = format!("{}.example.org", labels.join("."));
        for more in [&[][..], &["--json"], &["--short"]] {
            let text = said(&[&["query", &name, &server], more].concat());
            assert_harmless(&format!("query {more:?}"), &text);
            assert!(String::from_utf8(text).unwrap().contains("192.0.2.1"), "{name}");
        }
        let config = daemon.config_path();
        let trace = ["query", &name, "--trace", "--config", config.to_str().unwrap()];
        assert_harmless("query --trace", &said(&trace));
        for more in [&[][..], &["--json"]] {
            let text = said(&[&["explain", &name, "--socket", control.to_str().unwrap()], more].concat());
            assert_harmless(&format!("explain {more:?}"), &text);
            assert!(String::from_utf8(text).unwrap().contains("192.0.2.1"), "{name}");
        }
    }
}

#[test]
fn in_answers_that_hold_hostile_data_and_reasons() {
    // A TXT record with all of it in raw form, and a reason in an extended error (RFC 8914).
    const RAW: &[u8] = b"\x1b[2J\r\nevil \xe2\x80\xae\xff\x00\"";
    let txt = |query: &[u8], _tcp: bool| {
        let text = [&[u8::try_from(RAW.len()).unwrap()][..], RAW].concat();
        let record = Record { owner: qname_of(query), rtype: Rtype::TXT, class: 1, ttl: 60, rdata: text.into() };
        vec![answer_with(query, &[record])]
    };
    let reason = |query: &[u8], _tcp: bool| {
        let mut message = answer_with(query, &[]);
        message[3] = message[3] & 0xf0 | 2;
        let data = [&[0, 22][..], b"\x1b[31mevil\xe2\x80\xaegnp.exe\r\nx"].concat();
        let length = u16::try_from(data.len()).unwrap();
        let option = [&[0, 15][..], &length.to_be_bytes(), &data].concat();
        let opt = [&[0, 0, 41, 4, 208, 0, 0, 0, 0][..], &u16::try_from(option.len()).unwrap().to_be_bytes(), &option]
            .concat();
        message[11] = 1;
        message.extend_from_slice(&opt);
        vec![message]
    };
    let fake = Fake::address([192, 0, 2, 1])
        .with("txt.example.org", Habit::Custom(txt))
        .with("failed.example.org", Habit::Custom(reason));
    let daemon = start(&forward_to(&[fake.address]));
    let (server, direct) = (format!("@{}", daemon.address), format!("@{}", fake.address));
    for at in [&server, &direct] {
        for more in [&[][..], &["--json"], &["--short"]] {
            let text = said(&[&["query", "txt.example.org", "TXT", at], more].concat());
            assert_harmless("TXT", &text);
            assert!(String::from_utf8(text).unwrap().contains("evil"));
            assert_harmless("EDE", &said(&[&["query", "failed.example.org", at], more].concat()));
        }
    }
    let answer = get(&control_socket(&daemon), "/query?name=failed.example.org");
    assert_harmless("/query", answer.body.as_bytes());
    assert!(answer.body.contains("evil"), "the reason is handed on: {}", answer.body);
    // What goes to clients of ours holds the record's octets, and no reason that harms.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(daemon.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 1500];
    socket.send(&query("txt.example.org", Rtype::TXT, 5)).unwrap();
    let len = socket.recv(&mut buffer).unwrap();
    let view = Message::parse(&buffer[..len]).unwrap();
    assert_eq!(view.count(Section::Answer), 1);
    socket.send(&query("failed.example.org", Rtype::A, 6)).unwrap();
    let len = socket.recv(&mut buffer).unwrap();
    assert!(!buffer[..len].contains(&0x1b), "{:?}", &buffer[..len]);
}
