//! The control sockets: who may ask what, and that what they say is so.

use crate::support::client::{
    PATIENCE, ask, ask_type, connect, exchange_from, plain_query, query, read_frame, write_frame,
};
use crate::support::daemon::{Daemon, forward_to};
use crate::support::eventually;
use crate::support::fake::{Fake, Habit};
use crate::support::http::{ask_http, get, get_tcp, raw};
use serde_json::{Value, json};
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use truename::dns::Rtype;

const ZONE: &str =
    "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"@\", type = \"A\", value = \"10.0.0.1\" }]\n";

pub(crate) fn stats_socket(daemon: &Daemon) -> PathBuf {
    daemon.folder.path().join("stats.sock")
}

pub(crate) fn control_socket(daemon: &Daemon) -> PathBuf {
    daemon.folder.path().join("control.sock")
}

/// Sets a flag when it goes, also in a panic: what waits for the flag would wait for ever.
pub(crate) struct Ends<'a>(pub(crate) &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Starts a daemon and waits for its sockets.
pub(crate) fn start(config: &str) -> Daemon {
    let daemon = Daemon::start(config);
    eventually("the sockets are there", || daemon.events("control socket").len() == 2);
    daemon
}

pub(crate) fn validator() -> jsonschema::Validator {
    strictly(&strict_schema())
}

/// The published schema, which knows nothing but what it names.
pub(crate) fn strict_schema() -> Value {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schema/stats-1.json")).unwrap();
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    close(&mut schema);
    schema
}

/// A validator that takes no time that is none.
pub(crate) fn strictly(schema: &Value) -> jsonschema::Validator {
    jsonschema::options().should_validate_formats(true).build(schema).unwrap()
}

/// Has a schema know nothing but what it names: readers may meet more, since fields are added, and what we send is published.
fn close(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        if object.get("properties").is_some_and(Value::is_object) && object.contains_key("type") {
            object.entry("additionalProperties").or_insert(json!(false));
        }
        object.values_mut().for_each(close);
    } else if let Some(list) = schema.as_array_mut() {
        list.iter_mut().for_each(close);
    }
}

#[test]
fn the_schema_that_reports_are_held_to_takes_no_time_that_is_none_and_no_field_of_another_name() {
    let daemon = start(ZONE);
    let (mut report, validator) = (get(&stats_socket(&daemon), "/stats").json(), validator());
    assert_sound(&report, &validator);
    for (place, wrong) in [("/cache", json!({ "colour": 1 })), ("/started_at", json!("yesterday"))] {
        let true_value = report.pointer(place).unwrap().clone();
        let mut value = true_value.clone();
        match value.as_object_mut() {
            Some(object) => object.extend(wrong.as_object().unwrap().clone()),
            None => value = wrong,
        }
        *report.pointer_mut(place).unwrap() = value;
        assert!(!validator.is_valid(&report), "{place}");
        *report.pointer_mut(place).unwrap() = true_value;
    }
}

fn sum(counts: &Value) -> u64 {
    counts.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum()
}

/// Asserts what always holds of a report, and returns the number of questions answered.
pub(crate) fn assert_sound(report: &Value, validator: &jsonschema::Validator) -> u64 {
    let errors: Vec<String> =
        validator.iter_errors(report).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(errors, Vec::<String>::new(), "{report:#}");
    let queries = &report["queries"];
    let total = queries["total"].as_u64().unwrap();
    for by in ["by_proto", "by_type", "by_rcode", "by_source"] {
        assert_eq!(sum(&queries[by]), total, "{by}: {queries:#}");
    }
    let latency = &report["latency_seconds"];
    assert_eq!(latency["all"]["count"], total);
    let by_source = queries["by_source"].as_object().unwrap();
    for (source, count) in by_source {
        assert_eq!(latency[source]["count"], *count, "{source}");
    }
    let cache = &report["cache"];
    let [hits, misses] = ["hits_total", "misses_total"].map(|name| cache[name].as_f64().unwrap());
    let ratio = if hits + misses == 0.0 { 0.0 } else { hits / (hits + misses) };
    assert!((cache["hit_ratio"].as_f64().unwrap() - ratio).abs() < 0.001, "{cache:#}");
    let of_all = |name: &str| -> u64 {
        let upstreams = report["upstreams"].as_array().unwrap();
        upstreams.iter().map(|upstream| upstream[name].as_u64().unwrap_or_else(|| sum(&upstream[name]))).sum()
    };
    assert!(of_all("responses_total") + of_all("errors_total") <= of_all("queries_total"), "{report:#}");
    let matched = |of: &str, name: &str| -> u64 {
        report[of].as_array().unwrap().iter().map(|one| one[name].as_u64().unwrap()).sum()
    };
    assert!(matched("zones", "queries_total") + matched("routes", "matches_total") <= total, "{report:#}");
    assert_eq!(report["guard"]["checks_total"], sum(&report["guard"]["verdicts_total"]));
    assert!(cache["negative_entries"].as_u64().unwrap() <= cache["entries"].as_u64().unwrap());
    total
}

#[test]
fn stats_says_what_was_asked_and_its_sums_agree() {
    let fake = Fake::address([192, 0, 2, 1]).with("none.example.org", Habit::NxDomain(60));
    let daemon = start(&format!("{ZONE}{}", forward_to(&[fake.address])));
    for _ in 0..3 {
        ask(daemon.address, "www.example.org");
    }
    ask(daemon.address, "none.example.org");
    ask_type(daemon.address, "lab.example", Rtype::AAAA);
    let mut stream = connect(daemon.address);
    write_frame(&mut stream, &query("lab.example", Rtype::TXT, 7));
    read_frame(&mut stream).unwrap();
    let report = get(&stats_socket(&daemon), "/stats").json();
    assert_eq!(assert_sound(&report, &validator()), 6);
    let queries = &report["queries"];
    assert_eq!(queries["by_proto"], json!({ "udp": 5, "tcp": 1 }));
    assert_eq!([&queries["by_type"]["A"], &queries["by_type"]["AAAA"], &queries["by_type"]["TXT"]], [4, 1, 1]);
    assert_eq!([&queries["by_rcode"]["NOERROR"], &queries["by_rcode"]["NXDOMAIN"]], [5, 1]);
    let by_source = &queries["by_source"];
    assert_eq!([&by_source["zone"], &by_source["cache"], &by_source["forward"]], [2, 2, 2]);
    let upstream = report["upstreams"].as_array().unwrap().iter().find(|up| up["group"] == "fake").unwrap();
    assert_eq!((&upstream["state"], &upstream["responses_total"]), (&json!("up"), &json!(2)));
    assert_eq!(report["zones"][0]["name"], "lab.example.");
    assert_eq!(report["config"]["sha256"].as_str().unwrap().len(), 64);
    // Nobody is told what was asked, or by whom.
    let text = report.to_string();
    assert!(!text.contains("www.example.org") && !text.contains("none.example"), "{text}");
}

#[test]
fn questions_are_counted_for_their_zone_or_route_whatever_answers_them_and_over_reloads() {
    let fake = Fake::address([192, 0, 2, 1]).with("none.corp.example", Habit::NxDomain(60));
    let route = "[[route]]\nname = \"corp\"\nnames = [\"corp.example\"]\nupstream = \"fake\"\n";
    let config = format!("{ZONE}{route}{}", forward_to(&[fake.address]));
    let daemon = start(&config);
    let (socket, validator) = (stats_socket(&daemon), validator());
    let counted = || {
        let report = get(&socket, "/stats").json();
        assert_sound(&report, &validator);
        let of = |list: &str, name: &str, count: &str| {
            report[list].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap()[count].clone()
        };
        let negative = report["cache"]["negative_entries"].as_u64().unwrap();
        (of("zones", "lab.example.", "queries_total"), of("routes", "corp", "matches_total"), negative)
    };
    let ask_all = || {
        for name in
            ["lab.example", "lab.example", "none.lab.example", "a.corp.example", "a.corp.example", "x.example.org"]
        {
            ask(daemon.address, name);
        }
        ask(daemon.address, "none.corp.example");
    };
    ask_all();
    assert_eq!(counted(), (json!(3), json!(3), 2));
    let metrics = get(&socket, "/metrics").body;
    for line in [
        "truename_zone_queries_total{zone=\"lab.example.\",views=\"\"} 3\n",
        "truename_route_matches_total{route=\"corp\",id=\"route.0\"} 3\n",
        "truename_cache_negative_entries 2\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
    // Another route comes before it in the file; answers from before are counted where they belong.
    let first = "[[route]]\nname = \"first\"\nnames = [\"x.example.org\"]\nupstream = \"fake\"\n";
    daemon.write("truename.toml", &format!("{first}{config}[hosts]\nfiles = []\n"));
    assert_eq!(ask_http(&control_socket(&daemon), "POST", "/reload", "", "").json()["ok"], true);
    ask_all();
    assert_eq!(counted(), (json!(6), json!(6), 2));
    let routes = get(&socket, "/routes").json();
    assert_eq!((&routes["routes"][0]["name"], &routes["routes"][0]["matches_total"]), (&json!("first"), &json!(1)));
    assert_eq!(ask_http(&control_socket(&daemon), "DELETE", "/cache?match=*", "", "").status, 200);
    assert_eq!(counted().2, 0);
}

#[test]
fn questions_are_counted_by_view_and_by_the_family_of_the_client() {
    let view = "[[view]]\nname = \"lan\"\nclients = [\"127.0.0.5/32\"]\n";
    let daemon = Daemon::start_with(&format!("{ZONE}{view}"), &[], &["127.0.0.1:0", "[::1]:0"]);
    let socket = stats_socket(&daemon);
    eventually("the socket is there", || socket.exists());
    let question = query("lab.example", Rtype::A, 1);
    let over_ipv6 = daemon.listening().into_iter().find(|(address, of)| address.is_ipv6() && of == "udp").unwrap().0;
    let from = [([127, 0, 0, 5].into(), daemon.address), (daemon.address.ip(), daemon.address)];
    for (from, to) in [from[0], from[0], from[1], (over_ipv6.ip(), over_ipv6)] {
        exchange_from(from, to, &question, PATIENCE).unwrap();
    }
    let report = get(&socket, "/stats").json();
    assert_sound(&report, &validator());
    let expected = json!([{ "name": "default", "queries_total": 2 }, { "name": "lan", "queries_total": 2 }]);
    assert_eq!(report["views"], expected);
    let metrics = get(&socket, "/metrics").body;
    for line in [
        "truename_view_queries_total{view=\"lan\"} 2\n",
        "truename_dns_requests_total{proto=\"udp\",family=\"ipv4\",type=\"A\"} 3\n",
        "truename_dns_requests_total{proto=\"udp\",family=\"ipv6\",type=\"A\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

#[test]
fn an_upstream_says_since_when_it_stands_so_and_what_last_went_wrong() {
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let fake = Fake::address([192, 0, 2, 1]).with("bad.example.org", Habit::Code(truename::dns::Rcode::SERVFAIL));
    let daemon = start(&forward_to(&[fake.address]));
    let socket = stats_socket(&daemon);
    let upstream = || {
        let report = get(&socket, "/stats").json();
        assert_sound(&report, &validator());
        report["upstreams"].as_array().unwrap().iter().find(|up| up["group"] == "fake").unwrap().clone()
    };
    assert_eq!((&upstream()["last_error"], upstream().get("since")), (&Value::Null, None));
    ask(daemon.address, "www.example.org");
    ask(daemon.address, "bad.example.org");
    let known = upstream();
    assert_eq!((&known["state"], &known["last_error"]["kind"]), (&json!("up"), &json!("failed")));
    assert!(known["since"].as_str().unwrap() <= known["last_error"]["at"].as_str().unwrap(), "{known:#}");
    daemon.reload(&forward_to(&[gone]));
    eventually("the other one is asked", || daemon.reloads() == 1);
    ask(daemon.address, "other.example.org");
    assert_eq!(upstream()["last_error"]["kind"], "unreachable");
}

/// A name that is answered from the zone, from the cache or by an upstream, in turn.
fn some_name(n: u16, of: &str) -> String {
    match n % 8 {
        0 => format!("n{n}.{of}.example.org"),
        1 => "lab.example".to_owned(),
        _ => format!("popular{}.example.org", n % 5),
    }
}

#[test]
fn sums_agree_at_any_moment_under_load_of_both_kinds_while_configurations_change() {
    let fake = Fake::address([192, 0, 2, 1]);
    let config = format!("[server]\nworkers = 2\n{ZONE}{}", forward_to(&[fake.address]));
    let daemon = start(&config);
    let (socket, control) = (stats_socket(&daemon), control_socket(&daemon));
    let (validator, done, asked_over_tcp) = (validator(), AtomicBool::new(false), AtomicUsize::new(0));
    let types = [Rtype::A, Rtype::AAAA, Rtype::MX];
    std::thread::scope(|scope| {
        // Also when something is found to be wrong: what waits for it would wait for ever.
        let end = Ends(&done);
        for thread in 0..3_u16 {
            let (done, address) = (&done, daemon.address);
            scope.spawn(move || {
                let client = UdpSocket::bind("127.0.0.1:0").unwrap();
                client.connect(address).unwrap();
                client.set_nonblocking(true).unwrap();
                let mut buffer = [0; 1500];
                let mut n = 0_u16;
                while !done.load(Ordering::Relaxed) {
                    n = n.wrapping_add(1);
                    let _ =
                        client.send(&plain_query(&some_name(n, &format!("t{thread}")), types[usize::from(n % 3)], n));
                    while client.recv(&mut buffer).is_ok() {}
                }
            });
        }
        let over_tcp = scope.spawn(|| {
            let mut stream = connect(daemon.address);
            // Beside a flood, on a machine that does other things too.
            stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
            let mut n = 0_u16;
            while !done.load(Ordering::Relaxed) {
                n = n.wrapping_add(1);
                write_frame(&mut stream, &plain_query(&some_name(n, "tcp"), types[usize::from(n % 3)], n));
                read_frame(&mut stream).expect("every question over TCP has its answer");
                asked_over_tcp.fetch_add(1, Ordering::Relaxed);
            }
        });
        let reloads = scope.spawn(|| {
            let mut reloads = 0;
            while !done.load(Ordering::Relaxed) {
                // Zones and routes come and go, and with them what is counted for each.
                let more = ["", "[[zone]]\nname = \"more.example\"\nrecords = []\n"][reloads % 2];
                daemon.write("truename.toml", &format!("{config}{more}[guard]\nproofs = false\n[hosts]\nfiles = []\n"));
                let ended = ask_http(&control, "POST", "/reload", "", "");
                assert_eq!(ended.status, 200, "{}", ended.body);
                reloads += 1;
            }
            reloads
        });
        let (mut last, mut seen) = (0, 0);
        let mut generations = std::collections::BTreeSet::new();
        while seen < 60 || last < 5_000 || generations.len() < 4 || asked_over_tcp.load(Ordering::Relaxed) <= 10 {
            let report = get(&socket, "/stats").json();
            let total = assert_sound(&report, &validator);
            assert!(total >= last, "{total} after {last}");
            generations.insert(report["config"]["generation"].as_u64().unwrap());
            last = total;
            seen += 1;
            assert!(seen < 20_000, "no load: {last} {generations:?}");
        }
        drop(end);
        over_tcp.join().unwrap();
        assert!(reloads.join().unwrap() >= 3);
        let by_proto = get(&socket, "/stats").json()["queries"]["by_proto"].take();
        assert!(by_proto["tcp"].as_u64() > Some(10) && by_proto["udp"].as_u64() > Some(1_000), "{by_proto}");
    });
    daemon.assert_no_panic();
}

#[test]
fn everybody_may_read_sums_and_only_control_may_act_or_name() {
    let daemon = start(ZONE);
    let (stats, control) = (stats_socket(&daemon), control_socket(&daemon));
    let mode = |path: &PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&stats), mode(&control)), (0o666, 0o660));
    ask(daemon.address, "lab.example");
    for (method, target) in [
        ("GET", "/cache"),
        ("GET", "/cache/lab.example"),
        ("GET", "/query?name=a.b"),
        ("POST", "/reload"),
        ("DELETE", "/cache?match=*"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/config/check"),
    ] {
        let refused = ask_http(&stats, method, target, "", "");
        assert_eq!((refused.status, refused.problem().as_str()), (403, "control-only"), "{method} {target}");
        assert_ne!(ask_http(&control, method, target, "", "").status, 403, "{method} {target}");
    }
    for path in [
        "/stats",
        "/metrics",
        "/healthz",
        "/version",
        "/schema/stats",
        "/schema/config",
        "/openapi.json",
        "/upstreams",
        "/zones",
        "/routes",
        "/lists",
        "/views",
    ] {
        for socket in [&stats, &control] {
            assert_eq!(get(socket, path).status, 200, "{path}");
        }
    }
}

#[test]
fn unknown_paths_methods_parameters_and_sections_are_told_what_there_is() {
    let daemon = start(ZONE);
    let socket = stats_socket(&daemon);
    let unknown = get(&socket, "/nothing");
    assert_eq!((unknown.status, unknown.problem().as_str()), (404, "unknown-path"));
    assert!(unknown.json()["paths"].as_array().unwrap().contains(&json!("GET /stats")));
    let wrong = ask_http(&socket, "PUT", "/stats", "", "x");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(get(&socket, "/stats?x=1").problem(), "unknown-parameter");
    assert_eq!(get(&socket, "/stats?section=cash").problem(), "unknown-section");
    let part = get(&socket, "/stats?section=cache,guard").json();
    assert!(part["cache"].is_object() && part["guard"].is_object() && part.get("queries").is_none(), "{part:#}");
}

#[test]
fn head_has_no_body_and_what_is_known_is_not_sent_again() {
    let daemon = start(ZONE);
    let socket = stats_socket(&daemon);
    let head = ask_http(&socket, "HEAD", "/version", "", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_ne!(head.header("content-length"), Some("0"));
    let tag = get(&socket, "/version").header("etag").unwrap().to_owned();
    let again = ask_http(&socket, "GET", "/version", &format!("If-None-Match: {tag}\r\n"), "");
    assert_eq!((again.status, again.body.as_str()), (304, ""));
}

#[test]
fn stats_that_are_known_are_not_sent_again_until_something_happens() {
    let daemon = start(ZONE);
    let socket = stats_socket(&daemon);
    ask(daemon.address, "lab.example");
    eventually("the rate has gone down", || {
        get(&socket, "/stats").json()["queries"]["queries_per_second_1m"].as_f64().unwrap() < 0.4
    });
    let paths = ["/stats", "/stats?section=zones"];
    let status = |path: &str, tags: &str| {
        let response = ask_http(&socket, "GET", path, &format!("If-None-Match: {tags}\r\n"), "");
        assert_eq!(response.body.is_empty(), response.status == 304, "{path}");
        response.status
    };
    let tags = || paths.map(|path| get(&socket, path).header("etag").unwrap().to_owned());
    let known = tags();
    for (path, tag) in paths.iter().zip(&known) {
        assert!(tag.starts_with("W/\""), "{tag}: the time of day differs");
        for tags in [tag, &format!("\"x\", {tag}"), tag.strip_prefix("W/").unwrap(), "*"] {
            assert_eq!(status(path, tags), 304, "{path} {tags}");
        }
        assert_eq!(status(path, "\"x\""), 200);
    }
    let flushed = ask_http(&control_socket(&daemon), "DELETE", "/cache?match=*", "", "").json();
    assert_eq!(flushed["removed"], 1);
    for (path, tag) in paths.iter().zip(&known) {
        assert_eq!(status(path, tag), 200, "{path}: an answer is gone");
    }
    let known = tags();
    ask(daemon.address, "lab.example");
    for (path, tag) in paths.iter().zip(&known) {
        assert_eq!(status(path, tag), 200, "{path}: a question was asked");
    }
}

#[test]
fn views_are_told_to_everybody_and_their_clients_are_not() {
    let daemon = start(&format!("{ZONE}[[view]]\nname = \"boss\"\nclients = [\"10.1.2.3/32\"]\n"));
    let all = get(&control_socket(&daemon), "/views").json();
    assert_eq!((&all["views"][0]["name"], &all["views"][0]["clients"][0]), (&json!("boss"), &json!("10.1.2.3/32")));
    let told = get(&stats_socket(&daemon), "/views").json();
    assert_eq!(told, json!({ "views": [{ "name": "boss" }, { "name": "default" }] }));
}

#[test]
fn the_log_says_who_changed_what() {
    let daemon = start(ZONE);
    let control = control_socket(&daemon);
    for (method, target, said) in [
        ("POST", "/upstreams/no%1b[2Jbody%2Fx/probe", "/upstreams/{name}/probe"),
        ("POST", "/incidents/in-7/ack", "/incidents/{name}/ack"),
        ("DELETE", "/cache?match=*.example.org", "/cache"),
        ("POST", "/pause?for=1m", "/pause"),
    ] {
        ask_http(&control, method, target, "", "");
        let logged = || daemon.events("asked over the control socket");
        eventually(said, || logged().iter().any(|line| line["path"] == said));
        let line = logged().into_iter().find(|line| line["path"] == said).unwrap();
        assert_eq!((&line["method"], &line["pid"]), (&json!(method), &json!(std::process::id())), "{line:#}");
        assert_eq!(line["uid"], nix::unistd::Uid::effective().as_raw());
    }
    // Whose names are looked up or flushed is nobody's business who reads the log.
    assert!(!daemon.log().contains('\u{1b}') && !daemon.log().contains("example.org"));
}

#[test]
fn readiness_follows_the_upstreams_of_the_default_group() {
    // Nobody is there, which ICMP says at once.
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let daemon = start(&forward_to(&[gone]));
    let socket = stats_socket(&daemon);
    assert_eq!(get(&socket, "/healthz").status, 200);
    assert_eq!(get(&socket, "/readyz").status, 200);
    let mut tries = 0;
    eventually("it is down", || {
        tries += 1;
        ask(daemon.address, &format!("x{tries}.example.org"));
        get(&socket, "/readyz").status == 503
    });
    let body = get(&socket, "/readyz").json();
    assert!(body["reason"].as_str().unwrap().contains("fake"), "{body}");
    assert_eq!(get(&socket, "/healthz").status, 200);
}

#[test]
fn a_reload_is_waited_for_and_its_outcome_told() {
    let daemon = start(ZONE);
    let (stats, control) = (stats_socket(&daemon), control_socket(&daemon));
    daemon.write("truename.toml", &ZONE.replace("10.0.0.1", "10.0.0.2"));
    let done = ask_http(&control, "POST", "/reload", "", "");
    assert_eq!((done.status, &done.json()["ok"], &done.json()["generation"]), (200, &json!(true), &json!(2)));
    assert_eq!(ask(daemon.address, "lab.example").addresses(), ["10.0.0.2"]);
    daemon.write("truename.toml", "[server]\nworkers = \"many\"\n");
    let refused = ask_http(&control, "POST", "/reload", "", "");
    assert_eq!((refused.status, &refused.json()["ok"]), (422, &json!(false)));
    assert_eq!(refused.json()["diagnostics"][0]["line"], 2);
    let config = get(&stats, "/stats").json()["config"].clone();
    assert_eq!((&config["generation"], &config["last_reload"]["ok"]), (&json!(2), &json!(false)));
    assert!(config["last_reload"]["error"].as_str().unwrap().contains("truename.toml:2"), "{config}");
    assert_eq!(ask(daemon.address, "lab.example").addresses(), ["10.0.0.2"]);
}

#[test]
fn a_server_or_group_can_be_turned_off_over_reloads() {
    let (first, second) = (Fake::address([192, 0, 2, 1]), Fake::address([192, 0, 2, 2]));
    let daemon = start(&forward_to(&[first.address, second.address]));
    let (stats, control) = (stats_socket(&daemon), control_socket(&daemon));
    let post = |what: &str, verb: &str| ask_http(&control, "POST", &format!("/upstreams/{what}/{verb}"), "", "");
    let mut asked = 0;
    let mut answer = || {
        asked += 1;
        ask(daemon.address, &format!("n{asked}.example.org")).addresses().concat()
    };
    // Who answers first is open: on a network that is not known yet two servers are raced.
    assert!(!answer().is_empty());
    let label = format!("fake/{}", first.address);
    assert_eq!(post(&label, "disable").json(), json!({ "switched": 1, "enabled": false }));
    assert_eq!(answer(), "192.0.2.2");
    assert_eq!(ask_http(&control, "POST", "/reload", "", "").status, 200);
    assert_eq!(answer(), "192.0.2.2");
    let upstreams = get(&stats, "/upstreams").json()["upstreams"].take();
    let of = |address: std::net::SocketAddr| {
        let all = upstreams.as_array().unwrap();
        all.iter().find(|up| up["address"] == address.to_string()).unwrap()["state"].clone()
    };
    assert_eq!((of(first.address), of(second.address)), (json!("disabled"), json!("up")));
    assert_eq!(post("fake", "disable").json()["switched"], 2);
    assert_eq!(answer(), "");
    assert_eq!(get(&stats, "/readyz").status, 503);
    assert_eq!(post(&label.replace('/', "%2F"), "enable").json()["switched"], 1);
    assert_eq!(answer(), "192.0.2.1");
    let unknown = post("nobody", "disable");
    assert_eq!((unknown.status, unknown.problem().as_str()), (404, "unknown-upstream"));
    assert_eq!(ask_http(&stats, "POST", "/upstreams/fake/disable", "", "").problem(), "control-only");
}

#[test]
fn a_pause_turns_routes_off_but_for_private_ones_and_ends_by_itself() {
    let (routed, default) = (Fake::address([192, 0, 2, 1]), Fake::address([192, 0, 2, 2]));
    // Both groups count as private by their addresses, so it is said which route is.
    let route = |name: &str, private: bool| {
        format!(
            "[[route]]\nnames = [\"{name}\"]\nupstream = \"other\"\nprivate = {private}\nprivate_answers = \"allow\"\n"
        )
    };
    let config = format!(
        "{}{}{}[upstream.other]\nservers = [\"{}\"]\n",
        forward_to(&[default.address]),
        route("public.example", false),
        route("corp.example", true),
        routed.address
    );
    let daemon = start(&config);
    let control = control_socket(&daemon);
    let address = |name: &str| ask(daemon.address, name).addresses().concat();
    let post = |target: &str| ask_http(&control, "POST", target, "", "");
    assert_eq!([address("a.public.example"), address("a.corp.example")], ["192.0.2.1", "192.0.2.1"]);
    assert_eq!(post("/pause?for=1h").json()["ok"], true);
    assert_eq!([address("a.public.example"), address("a.corp.example")], ["192.0.2.2", "192.0.2.1"]);
    let paused = || get(&control, "/stats").json()["config"]["paused_until"].clone();
    assert!(paused().is_string());
    assert_eq!(post("/resume").json()["ok"], true);
    assert_eq!([address("a.public.example"), address("a.corp.example")], ["192.0.2.1", "192.0.2.1"]);
    assert!(paused().is_null());
    assert_eq!(post("/pause?for=1s").json()["ok"], true);
    assert_eq!(address("b.public.example"), "192.0.2.2");
    eventually("it ends by itself", || paused().is_null());
    assert_eq!(address("b.public.example"), "192.0.2.1");
    // A reload ends it too.
    assert_eq!(post("/pause").json()["ok"], true);
    assert_eq!(post("/reload").json()["ok"], true);
    assert_eq!((address("b.public.example").as_str(), paused()), ("192.0.2.1", Value::Null));
    for wrong in ["/pause?for=2d", "/pause?for=0s", "/pause?for=x"] {
        assert_eq!(post(wrong).problem(), "bad-duration", "{wrong}");
    }
    assert_eq!(default.count("a.corp.example"), 0, "a private name did not leave its route");
}

#[test]
fn a_configuration_is_looked_at_without_reading_other_files() {
    let daemon = start(ZONE);
    let control = control_socket(&daemon);
    let check = |text: &str| ask_http(&control, "POST", "/config/check", "", text).json();
    assert_eq!(check("[cache]\nmax_entries = 5\n")["ok"], true);
    let wrong = check("[cache]\nmax_entires = 5\n");
    assert_eq!((&wrong["ok"], &wrong["diagnostics"][0]["line"]), (&json!(false), &json!(2)));
    assert_eq!(check("include = [\"/etc/passwd\"]\n")["ok"], true, "it was not opened");
}

#[test]
fn cached_answers_are_listed_and_removed_by_name_by_suffix_and_all() {
    let fake = Fake::address([192, 0, 2, 1]);
    let daemon = start(&forward_to(&[fake.address]));
    let control = control_socket(&daemon);
    for name in ["a.example.org", "b.example.org", "c.example.net", "d.example.com"] {
        ask(daemon.address, name);
    }
    let names = |target: &str| -> Vec<String> {
        let entries = get(&control, target).json()["entries"].take();
        entries.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("/cache"), ["d.example.com.", "c.example.net.", "a.example.org.", "b.example.org."]);
    assert_eq!(names("/cache?match=*.example.org"), ["a.example.org.", "b.example.org."]);
    assert_eq!(get(&control, "/cache?limit=1").json()["more"], true);
    assert_eq!(names("/cache?limit=10000").len(), 4);
    assert_eq!(get(&control, "/cache?limit=10001").problem(), "bad-limit");
    let one = get(&control, "/cache/A.Example.org").json()["entries"][0].clone();
    assert_eq!(
        (&one["answer"][0]["data"], &one["state"], &one["type"]),
        (&json!("192.0.2.1"), &json!("fresh"), &json!("A"))
    );
    let left = one["ttl_left_seconds"].as_i64().unwrap();
    assert!(left > 0, "{one:#}");
    assert_eq!(get(&control, "/cache/x.example.org").problem(), "not-cached");
    let flush =
        |what: &str| ask_http(&control, "DELETE", &format!("/cache?match={what}"), "", "").json()["removed"].clone();
    assert_eq!((flush("c.example.net"), flush("*.example.org"), flush("*")), (json!(1), json!(2), json!(1)));
    ask(daemon.address, "a.example.org");
    assert_eq!(fake.count("a.example.org"), 2);
    assert_eq!(get(&control, "/cache?limit=0").problem(), "bad-limit");
    assert_eq!(ask_http(&control, "DELETE", "/cache", "", "").problem(), "missing-parameter");
}

#[test]
fn a_question_is_answered_with_what_every_stage_decided() {
    let daemon = start(ZONE);
    let answer = get(&control_socket(&daemon), "/query?name=lab.example").json();
    assert_eq!((&answer["answer"][0]["data"], &answer["source"]), (&json!("10.0.0.1"), &json!("zone")));
    let stages: Vec<&str> =
        answer["trace"].as_array().unwrap().iter().map(|step| step["stage"].as_str().unwrap()).collect();
    assert!(stages.contains(&"zone") && stages.contains(&"cache"), "{stages:?}");
    assert_eq!(get(&control_socket(&daemon), "/query?name=a..b").problem(), "bad-name");
    assert_eq!(get(&control_socket(&daemon), "/query?name=a.b&type=X1").problem(), "bad-type");
}

#[test]
fn metrics_pass_promtool_in_both_dialects() {
    let fake = Fake::address([192, 0, 2, 1]);
    let daemon = start(&format!("{ZONE}{}", forward_to(&[fake.address])));
    ask(daemon.address, "www.example.org");
    let socket = stats_socket(&daemon);
    let page = get(&socket, "/metrics");
    assert_eq!(page.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "truename_dns_requests_total{proto=\"udp\",family=\"ipv4\",type=\"A\"} 1\n",
        "truename_dns_responses_total{rcode=\"NOERROR\",source=\"forward\"} 1\n",
        "truename_dns_request_duration_seconds_count{source=\"forward\"} 1\n",
        "truename_guard_checks_total{verdict=\"poisoned\"} 0\n",
        "process_open_fds ",
    ] {
        assert!(page.body.contains(line), "{line}{}", page.body);
    }
    let open = ask_http(&socket, "GET", "/metrics", "Accept: application/openmetrics-text\r\n", "");
    assert!(
        open.body.ends_with("# EOF\n") && open.header("content-type").unwrap().starts_with("application/openmetrics")
    );
    let Ok(mut tool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "promtool is not here; in CI it must be");
        return;
    };
    tool.stdin.take().unwrap().write_all(page.body.as_bytes()).unwrap();
    let said = tool.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert_eq!(said, "");
}

#[test]
fn over_tcp_there_are_metrics_and_health_only_and_only_under_our_own_name() {
    let daemon = Daemon::start(&format!("{ZONE}[stats]\nprometheus_listen = \"127.0.0.1:0\"\n"));
    eventually("it listens", || daemon.events("metrics").len() == 1);
    let address: std::net::SocketAddr = daemon.events("metrics")[0]["address"].as_str().unwrap().parse().unwrap();
    let port = address.port();
    for host in ["127.0.0.1", "localhost", "LocalHost", "[::1]"].map(|name| format!("{name}:{port}")) {
        assert_eq!(get_tcp(address, "/metrics", &host).status, 200, "{host}");
    }
    for host in ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example", ""] {
        assert_eq!(get_tcp(address, "/metrics", host).status, 421, "{host}");
    }
    let host = format!("127.0.0.1:{port}");
    assert_eq!(get_tcp(address, "/healthz", &host).status, 200);
    assert_eq!(get_tcp(address, "/stats", &host).status, 403);
    assert_eq!(get_tcp(address, "http://evil.example/metrics", &host).status, 421);
    for origin in ["http://evil.example", "null", &format!("http://{host}")] {
        let from_a_page = get_tcp(address, "/metrics", &format!("{host}\r\nOrigin: {origin}"));
        assert_eq!((from_a_page.status, from_a_page.problem().as_str()), (403, "foreign-origin"), "{origin}");
    }
}

#[test]
fn a_dead_daemons_sockets_are_replaced_and_a_living_ones_are_not() {
    let mut first = start(ZONE);
    first.kill();
    assert!(stats_socket(&first).exists(), "a killed daemon leaves them");
    let second = first.again();
    eventually("it has made its own", || second.events("control socket").len() == 2);
    assert_eq!(get(&stats_socket(&second), "/healthz").status, 200);
    let third = second.again();
    eventually("it says why not", || {
        third.events("no control socket; commands that look inside will not work").len() == 2
    });
    assert_eq!(ask(third.address, "lab.example").addresses(), ["10.0.0.1"], "it serves all the same");
    drop(third);
    assert_eq!(get(&stats_socket(&second), "/healthz").status, 200);
}

#[test]
fn sockets_are_gone_with_the_daemon_and_can_be_turned_off() {
    let mut daemon = start(ZONE);
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait();
    assert!(!stats_socket(&daemon).exists() && !control_socket(&daemon).exists());
    let off = Daemon::start(&format!("{ZONE}[stats]\nsocket = \"off\"\ncontrol = \"off\"\n"));
    assert_eq!(ask(off.address, "lab.example").addresses(), ["10.0.0.1"]);
    assert!(!stats_socket(&off).exists() && off.events("control socket").is_empty());
}

#[test]
fn one_connection_takes_many_requests() {
    let daemon = start(ZONE);
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(9)
        + "GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let all = raw(&stats_socket(&daemon), request.as_bytes()).unwrap();
    assert_eq!(all.body.matches("HTTP/1.1 200 OK").count(), 9, "{}", all.body);
    assert!(all.body.contains("\"version\""));
}
