//! `POST /upstreams/NAME/probe` and `truename upstreams probe`.

use crate::control::{control_socket, start, stats_socket};
use crate::support::client::ask;
use crate::support::clocks::Clocks;
use crate::support::daemon::{Daemon, forward_to, run};
use crate::support::encrypted::{NAME, Pki, Server};
use crate::support::eventually;
use crate::support::fake::{Fake, Habit, answer_with};
use crate::support::http::{ask_http, get};
use serde_json::{Value, json};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use truename::dns::Rcode;

fn probe(daemon: &Daemon, name: &str) -> crate::support::http::HttpResponse {
    ask_http(&control_socket(daemon), "POST", &format!("/upstreams/{name}/probe"), "", "")
}

/// Returns what was said of a server.
fn of(document: &Value, address: SocketAddr) -> Value {
    let all = document["upstreams"].as_array().unwrap();
    all.iter().find(|server| server["name"] == address.to_string()).unwrap().clone()
}

#[test]
fn each_rung_of_each_server_is_asked_once_and_told_with_times() {
    let (good, refusing) = (Fake::address([192, 0, 2, 1]), Fake::start(Habit::Code(Rcode::REFUSED)));
    let gone = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let daemon = start(&forward_to(&[good.address, refusing.address, gone]));
    let before = good.asked().len();
    let said = probe(&daemon, "fake");
    assert_eq!(said.status, 200, "{}", said.body);
    let said = said.json();
    assert_eq!(said["asked"], json!({ "name": "localhost.", "type": "A" }));
    let first = of(&said, good.address);
    assert_eq!(
        (&first["state"], &first["rungs"][0]["state"], &first["group"]),
        (&json!("up"), &json!("up"), &json!("fake"))
    );
    assert!(first["rungs"][0]["reply_seconds"].as_f64().unwrap() > 0.0, "{first:#}");
    assert_eq!(first["rungs"][0]["opened_in_seconds"], Value::Null, "nothing is opened for datagrams");
    // It answers, and what it answers is told.
    let second = of(&said, refusing.address);
    assert!(
        second["state"] == "up" && second["rungs"][0]["remark"].as_str().unwrap().contains("REFUSED"),
        "{second:#}"
    );
    let third = of(&said, gone);
    assert!(third["state"] == "down" && third["rungs"][0]["remark"].is_string(), "{third:#}");
    assert_eq!(good.asked().len() - before, 1, "once: {:?}", good.asked());
    // One server alone, and what there is not.
    let one = probe(&daemon, &format!("fake%2F{}", good.address)).json();
    assert_eq!(one["upstreams"].as_array().unwrap().len(), 1);
    let unknown = probe(&daemon, "nobody");
    assert_eq!((unknown.status, unknown.problem().as_str()), (404, "unknown-upstream"));
    let refused = ask_http(&stats_socket(&daemon), "POST", "/upstreams/fake/probe", "", "");
    assert_eq!((refused.status, refused.problem().as_str()), (403, "control-only"));
}

#[test]
fn an_encrypted_rung_is_told_with_what_it_took_to_open() {
    let pki = Pki::new();
    let Some(server) = Server::unbound(&pki.server()) else { return };
    let config = format!(
        "[upstream.safe]\nca_file = \"{}\"\nservers = [\"tls://{}#{NAME}\"]\n[default]\nupstream = \"safe\"\n",
        pki.ca_file().display(),
        server.dot
    );
    let daemon = start(&config);
    let said = probe(&daemon, "safe").json();
    let rung = &said["upstreams"][0]["rungs"][0];
    assert_eq!((&rung["transport"], &rung["state"]), (&json!("tls"), &json!("up")), "{said:#}");
    assert!(rung["opened_in_seconds"].as_f64().unwrap() > 0.0, "{said:#}");
}

#[test]
fn an_address_of_our_own_is_not_asked_and_a_way_back_to_us_ends() {
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let fake = Fake::address([192, 0, 2, 1]);
    let config = format!(
        "{}[upstream.us]\nservers = [\"{free}\"]\n[[route]]\nnames = [\"loop.example\"]\nupstream = \"us\"\n",
        forward_to(&[fake.address])
    );
    let daemon = Daemon::start_with(&config, &[], &[&free.to_string()]);
    eventually("the sockets are there", || daemon.events("control socket").len() == 2);
    let said = probe(&daemon, "us").json();
    let server = of(&said, free);
    assert_eq!((&server["state"], &server["rungs"]), (&json!("own"), &json!([])), "{said:#}");
    daemon.assert_no_panic();
}

#[test]
fn so_many_probes_at_once_and_the_next_is_refused() {
    let silent = Fake::start(Habit::Silent);
    let daemon = start(&forward_to(&[silent.address]));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(probe(&daemon, "fake").json()["upstreams"][0]["state"], "down"));
        }
        eventually("four are under way", || silent.asked().len() >= 4);
        let refused = probe(&daemon, "fake");
        assert_eq!((refused.status, refused.problem().as_str()), (429, "too-many-probes"));
        // What does not concern the probe goes on.
        assert_eq!(crate::support::http::get(&stats_socket(&daemon), "/healthz").status, 200);
    });
    eventually("places come back", || probe(&daemon, "nobody").status == 404);
    assert_eq!(probe(&daemon, "fake").status, 200);
}

#[test]
fn thirty_two_rungs_are_asked_at_once_and_what_is_left_after_twenty_seconds_is_not_asked() {
    const AT_ONCE: usize = 32;
    const SERVERS: usize = 40;
    let servers: Vec<UdpSocket> = (0..SERVERS).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    servers.iter().for_each(|server| server.set_nonblocking(true).unwrap());
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.local_addr().unwrap()).collect();
    let clocks = Clocks::new();
    let config = format!("{}[hosts]\nfiles = []\n", forward_to(&addresses));
    let daemon = Daemon::start_by(clocks.binary(), &config, &["127.0.0.1:0"]);
    eventually("the sockets are there", || daemon.events("control socket").len() == 2);
    let asked = || servers.iter().filter(|server| server.peek(&mut [0; 512]).is_ok()).count();
    std::thread::scope(|scope| {
        let probing = scope.spawn(|| probe(&daemon, "fake"));
        eventually("as many as may be are asked", || asked() == AT_ONCE);
        // One that is done makes room for one.
        let mut buffer = [0; 512];
        let (len, from) = servers[0].recv_from(&mut buffer).unwrap();
        servers[0].send_to(&answer_with(&buffer[..len], &[]), from).unwrap();
        eventually("the next one is asked", || asked() == AT_ONCE);
        // Time that jumps wakes nobody; a request does.
        clocks.pass(Duration::from_secs(20));
        assert_eq!(get(&stats_socket(&daemon), "/healthz").status, 200);
        let said = probing.join().unwrap().json();
        let states: Vec<&str> = said["upstreams"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["rungs"][0]["state"].as_str().unwrap())
            .collect();
        assert_eq!(states[0], "up", "{said:#}");
        assert_eq!(states[1..=AT_ONCE], ["down"; AT_ONCE], "{said:#}");
        assert_eq!(states[AT_ONCE + 1..], ["unasked"; SERVERS - AT_ONCE - 1], "{said:#}");
        assert_eq!(of(&said, addresses[SERVERS - 1])["rungs"][0]["remark"], "there was no time to ask it");
    });
    let unasked = servers[AT_ONCE + 1..].iter().filter(|server| server.peek(&mut [0; 512]).is_ok());
    assert_eq!(unasked.count(), 0, "what is said to be unasked is not asked");
}

#[test]
fn the_command_shows_it_and_exits_by_it() {
    let good = Fake::address([192, 0, 2, 1]);
    let gone = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let daemon = start(&forward_to(&[good.address, gone]));
    let control = control_socket(&daemon);
    let said = |args: &[&str]| {
        let output = run(&[&["upstreams", "probe", "--socket", control.to_str().unwrap()], args].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    };
    let (status, text) = said(&["fake"]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.starts_with("1 of 2 servers are up\nSERVER"), "{text}");
    let line = text.lines().find(|line| line.contains(&good.address.to_string())).unwrap();
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!((cells[1].split(':').next(), cells[2]), (Some("udp"), "up"), "{text}");
    assert_eq!(said(&[&format!("fake/{}", good.address)]).0, Some(0));
    assert_eq!(said(&["nobody"]).0, Some(1));
    let (_, document) = said(&["fake", "--json"]);
    assert!(serde_json::from_str::<Value>(&document).unwrap()["upstreams"].is_array());
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.1"]);
}
