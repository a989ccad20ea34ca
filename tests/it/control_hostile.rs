//! What anybody on the machine can do to the control sockets, while questions go on being answered.

use crate::control::{control_socket, start, stats_socket};
use crate::support::client::ask;
use crate::support::eventually;
use crate::support::http::{ask_http, get, open, raw};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

const ZONE: &str =
    "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"@\", type = \"A\", value = \"10.0.0.1\" }]\n";

#[test]
fn oversized_heads_and_bodies_get_their_status() {
    let daemon = start(ZONE);
    let (stats, control) = (stats_socket(&daemon), control_socket(&daemon));
    let long = "a".repeat(20_000);
    let status = |octets: &str| raw(&stats, octets.as_bytes()).map(|response| response.status);
    assert_eq!(status(&format!("GET /stats HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n")), Some(431));
    assert_eq!(status(&format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n")), Some(431));
    let many: String = (0..200).map(|n| format!("X{n}: y\r\n")).collect();
    assert_eq!(status(&format!("GET /stats HTTP/1.1\r\nHost: x\r\n{many}\r\n")), Some(431));
    let announced = "POST /config/check HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\nx";
    let refused = raw(&control, announced.as_bytes()).unwrap();
    assert_eq!((refused.status, refused.problem().as_str()), (413, "body-too-large"));
    let chunk = format!("10000\r\n{}\r\n", "#".repeat(0x1_0000));
    let chunked = format!(
        "POST /config/check HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunk.repeat(20)
    );
    assert_eq!(raw(&control, chunked.as_bytes()).unwrap().status, 413);
    let fitting = format!("# {}\n", "x".repeat(900_000));
    assert_eq!(ask_http(&control, "POST", "/config/check", "", &fitting).status, 200);
    assert_eq!(get(&stats, "/healthz").status, 200);
}

#[test]
fn what_is_no_http_and_path_tricks_get_a_4xx() {
    let daemon = start(ZONE);
    let (stats, control) = (stats_socket(&daemon), control_socket(&daemon));
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"GET /stats\xff HTTP/1.1\r\n\xff\xfe\r\n\r\n",
        b"GET /stats HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /reload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET /stats HTTP/9.9\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let status = raw(&control, nonsense).unwrap_or_else(|| panic!("nothing was said to {nonsense:?}")).status;
        assert!(matches!(status, 400 | 431), "{status}: {nonsense:?}");
    }
    let two = raw(&control, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    assert_eq!((two.status, two.problem().as_str()), (400, "not-http"));
    let refused = get(&stats, "/stats?section=counters").json()["counters"]["control_refused_total"].as_u64().unwrap();
    assert_eq!(refused, 8, "each of them is counted");
    // One that has asked for something and goes silent is owed nothing.
    let mut idle = open(&stats);
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    idle.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    idle.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 200 ") && said.matches("HTTP/1.1").count() == 1, "{said}");
    for path in [
        "/../etc/passwd",
        "/stats/",
        "//stats",
        "/stats/..%2f..%2fetc",
        "/%73tats%00",
        "/cache/",
        "/cache/%00",
        "/cache/%ff",
        "/cache/..%2f..%2f",
        "/query?name=%ff",
        "/STATS",
        "/schema/../stats",
    ] {
        let response = get(&control, path);
        assert!((400..500).contains(&response.status), "{path}: {}", response.status);
        assert!(!response.body.contains('\u{1b}') && !response.body.contains("root:"), "{path}: {}", response.body);
    }
    // Any octet may stand in a name; it is shown escaped.
    let odd = get(&control, "/query?name=%1b%5b2J%3cimg%3e.lab.example");
    assert!(odd.status == 200 && !odd.body.contains('\u{1b}') && odd.body.contains("\\\\027["), "{}", odd.body);
    assert_eq!(get(&stats, "/healthz").status, 200);
    daemon.assert_no_panic();
}

#[test]
fn slow_clients_are_cut_off_and_hold_up_nobody() {
    let daemon = start(ZONE);
    let (stats, control) = (stats_socket(&daemon), control_socket(&daemon));
    let begin = |socket, octets: &str| {
        let mut stream = open(socket);
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(octets.as_bytes()).unwrap();
        stream
    };
    let mut head = begin(&stats, "GET /stats HTTP/1.1\r\nHost: ");
    let mut body = begin(&control, "POST /config/check HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc");
    // One that asks for much and takes nothing.
    let greedy = begin(&stats, &"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100));
    assert_eq!(get(&stats, "/healthz").status, 200);
    assert_eq!(ask(daemon.address, "lab.example").addresses(), ["10.0.0.1"]);
    let mut text = String::new();
    head.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("urn:truename:problem:head-too-slow"), "{text}");
    text.clear();
    body.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("body-too-slow"), "{text}");
    drop(greedy);
}

#[test]
fn a_thousand_connections_leave_questions_and_newcomers_answered() {
    let daemon = start(ZONE);
    let socket = stats_socket(&daemon);
    let mut held: Vec<UnixStream> = Vec::new();
    for n in 0..1_000 {
        let mut stream = open(&socket);
        // Some say nothing, some begin a request, some close their side.
        match n % 3 {
            0 => {}
            1 => drop(stream.write_all(b"GET /stats HTTP/1.1\r\nHo")),
            _ => drop(stream.shutdown(Shutdown::Write)),
        }
        held.push(stream);
        if n % 100 == 0 {
            assert_eq!(ask(daemon.address, "lab.example").addresses(), ["10.0.0.1"]);
        }
    }
    assert_eq!(get(&socket, "/healthz").status, 200, "a newcomer takes the place of an idle one");
    let counters = get(&socket, "/stats?section=counters,process").json();
    assert!(counters["counters"]["control_evicted_total"].as_u64().unwrap() > 300, "{counters:#}");
    assert!(counters["process"]["open_fds"].as_u64().unwrap() < 200, "{counters:#}");
    eventually("the bound is reported", || {
        daemon.events("a bound was reached").iter().any(|line| line["bound"] == "control_evicted_total")
    });
    daemon.assert_no_panic();
}

#[test]
fn a_client_that_closes_its_side_is_answered_and_one_that_leaves_is_forgotten() {
    let daemon = start(ZONE);
    let socket = stats_socket(&daemon);
    let mut half = open(&socket);
    half.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    for _ in 0..200 {
        let mut stream = open(&socket);
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    eventually("they are gone", || get(&socket, "/stats").json()["process"]["open_fds"].as_u64().unwrap() < 60);
    assert_eq!(ask(daemon.address, "lab.example").addresses(), ["10.0.0.1"]);
}
