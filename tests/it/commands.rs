//! `check`, `config`, `query`: what they print and how they exit.

use crate::support::daemon::{Daemon, forward_to, run};
use crate::support::encrypted::{ADDRESS, NAME, Pki, Server};
use crate::support::fake::{Fake, Habit};

const BROKEN: &str = "[server]\nworkers = \"many\"\nmax_in_flght = 3\n\n[[route]]\nname = \"a\"\nnames = [\"example.org\"]\nupstream = \"pubilc\"\n\n[upstream.public]\nservers = [\"10.0.0.53:5e\"]\n";

#[test]
fn check_lists_every_problem_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("truename.toml");
    std::fs::write(&path, BROKEN).unwrap();
    let output = run(&["check", path.to_str().unwrap(), "--format", "gcc"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    for (line, word) in [(2, "many"), (3, "max_in_flight"), (8, "public"), (11, "5e")] {
        let place = format!("{}:{line}:", path.display());
        assert!(said.lines().any(|l| l.starts_with(&place) && l.contains(word)), "line {line}, {word}: {said}");
    }
}

#[test]
fn check_is_content_with_a_good_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("truename.toml");
    std::fs::write(&path, forward_to(&["127.0.0.1:53".parse().unwrap()])).unwrap();
    let output = run(&["check", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_examples_that_are_shipped_pass_check() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let examples: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    assert!(examples.len() >= 3);
    for path in examples {
        let output = run(&["check", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn check_as_json_is_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("truename.toml");
    std::fs::write(&path, BROKEN).unwrap();
    let output = run(&["check", path.to_str().unwrap(), "--format", "json"]);
    let _: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
}

#[test]
fn the_default_configuration_is_the_committed_one_and_checks() {
    let output = run(&["config", "default"]);
    assert_eq!(output.status.code(), Some(0));
    let committed = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/config/truename.toml")).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), String::from_utf8(committed).unwrap());
    let schema: serde_json::Value = serde_json::from_slice(&run(&["config", "schema"]).stdout).unwrap();
    assert!(schema["properties"]["server"].is_object());
}

#[test]
fn what_is_in_force_is_shown_and_a_bad_file_is_not() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/examples/proxy.toml");
    let output = run(&["config", "show", example]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(shown.contains("[upstream.system]") && shown.contains("socks5://anna:hidden@10.0.0.1:1080"), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    std::fs::write(&path, "[upstream.a]\nservers = [\"tsl://192.0.2.1\"]\n").unwrap();
    let output = run(&["config", "show", path.to_str().unwrap()]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(78), 0));
    assert!(String::from_utf8(output.stderr).unwrap().contains("did you mean `tls`?"));
}

#[test]
fn query_asks_a_server_and_exits_by_what_it_said() {
    let fake = Fake::address([192, 0, 2, 1]).with("none.example.org", Habit::NxDomain(60));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    let server = format!("@{}", daemon.address);
    let short = run(&["query", "www.example.org", "A", &server, "--short"]);
    assert_eq!((short.status.code(), String::from_utf8(short.stdout).unwrap().trim()), (Some(0), "192.0.2.1"));
    assert_eq!(run(&["query", "none.example.org", "A", &server]).status.code(), Some(1));
    let json = run(&["query", "www.example.org", "A", &server, "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(value.to_string().contains("192.0.2.1"), "{value}");
}

#[test]
fn query_with_trace_names_the_stages() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("truename.toml");
    let zone = "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"@\", type = \"A\", value = \"10.1.0.5\" }]\n";
    std::fs::write(&path, zone).unwrap();
    let output = run(&["query", "lab.example", "A", "--trace", "--config", path.to_str().unwrap()]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    for stage in ["view", "cache", "zone"] {
        assert!(said.contains(stage), "{said}");
    }
}

#[test]
fn wrong_usage_is_2() {
    assert_eq!(run(&["query"]).status.code(), Some(2));
    assert_eq!(run(&["no-such-command"]).status.code(), Some(2));
}

#[test]
fn query_asks_encrypted_servers_and_groups_of_the_configuration() {
    let pki = Pki::new();
    let Some(server) = Server::unbound(&pki.server()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("truename.toml");
    let config = format!(
        "[upstream.corp]\nca_file = \"{}\"\nservers = [\"192.0.2.1\", {{ name = \"dc1\", address = \"tls://{}#{NAME}\" }}, \
         {{ name = \"web\", address = \"https://{}#{NAME}\" }}]\n",
        pki.ca_file().display(),
        server.dot,
        server.doh,
    );
    std::fs::write(&path, config).unwrap();
    let ask = |whom: &str| {
        let output = run(&["query", "www.test", whom, "--json", "--config", path.to_str().unwrap()]);
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    for (whom, source) in [("@corp/dc1", "corp/dc1 over tls"), ("@corp/web", "corp/web over https"), ("@corp", "over")]
    {
        let (code, said) = ask(whom);
        assert!(code == Some(0) && said.contains(&ADDRESS.to_string()) && said.contains(source), "{whom}: {said}");
    }
    // Without the configuration's `ca_file` nobody vouches for this server, whatever its name.
    let (code, said) = ask(&format!("@tls://{}#{NAME}", server.dot));
    assert!(code == Some(1) && said.contains("certificate"), "{said}");
    for (unknown, part) in
        [("@crop", "`crop`"), ("@corp/dc2", "`corp/dc2`"), ("@tsl://192.0.2.1", "did you mean `tls`")]
    {
        let (code, said) = ask(unknown);
        assert!(code == Some(2) && said.contains(part), "{unknown}: {said}");
    }
}

/// Puts a word in the place of every number with a point, and of every histogram: those are never twice the same.
fn without_times(text: &str) -> String {
    let is_time = |word: &str| word.contains('.') && word.parse::<f64>().is_ok();
    let is_shape = |word: &str| !word.is_empty() && word.chars().all(|c| ('▁'..='█').contains(&c));
    let lines = text.lines().map(|line| {
        let words = line.split_whitespace().map(|word| match word {
            word if is_time(word) => "N",
            word if is_shape(word) => "SHAPE",
            word => word,
        });
        words.collect::<Vec<_>>().join(" ") + "\n"
    });
    lines.collect()
}

#[test]
fn upstreams_are_listed_and_tested_without_a_daemon() {
    let pki = Pki::new();
    let Some(server) = Server::unbound(&pki.server()) else { return };
    let plain = Fake::address([192, 0, 2, 1]);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("truename.toml");
    let config = format!(
        "[upstream.corp]\nca_file = \"{}\"\nservers = [\n  {{ name = \"dc1\", address = \"127.0.0.1#{NAME}\", \
         rungs = [\"tls:{}\", \"https:{}\"] }},\n  {{ name = \"dc2\", address = \"{}\" }},\n]\n\
         [upstream.gone]\nservers = [{{ name = \"closed\", address = \"tcp://{closed}\", source = \"127.0.0.1\" }}]\n\
         [upstream.system]\nservers = [\"192.0.2.53\"]\n",
        pki.ca_file().display(),
        server.dot.port(),
        server.doh.port(),
        plain.address,
    );
    std::fs::write(&path, config).unwrap();
    let upstreams = |args: &[&str]| {
        let args = [&["upstreams"], args, &["--config", path.to_str().unwrap()]].concat();
        let output = run(&args);
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let ports = |text: &str| {
        let (dot, doh) = (server.dot.port().to_string(), server.doh.port().to_string());
        let known = [
            (dot, "DOT"),
            (doh, "DOH"),
            (plain.address.port().to_string(), "PLAIN"),
            (closed.port().to_string(), "GONE"),
        ];
        known.iter().fold(text.to_owned(), |text, (port, word)| text.replace(port, word))
    };

    let bare = run(&["upstreams", "--json"]);
    assert_eq!((bare.status.code(), &bare.stdout), (Some(0), &run(&["upstreams", "list", "--json"]).stdout));
    serde_json::from_slice::<serde_json::Value>(&bare.stdout).unwrap();
    let (code, listed, _) = upstreams(&["list", "corp", "gone"]);
    assert_eq!(code, Some(0));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(
        words(&ports(&listed)),
        "SERVER AT RUNGS NAME THROUGH IN USE corp/dc1 127.0.0.1 tls:DOT https:DOH dns.example - yes \
         corp/dc2 127.0.0.1 udp:PLAIN - - yes gone/closed 127.0.0.1 tcp:GONE - 127.0.0.1 yes"
    );
    let (_, all, _) = upstreams(&["list"]);
    assert!(all.lines().any(|line| line.starts_with("near/") && line.ends_with("no")), "{all}");

    let (code, tested, told) = upstreams(&["test", "corp", "--count", "5"]);
    assert_eq!((code, told.as_str()), (Some(0), ""), "{tested}");
    assert_eq!(
        ports(&without_times(&tested)),
        "2 of 2 servers are up\n\
         SERVER RUNG STATE OPENED IN TIME RANGE SHAPE ANSWERS REUSED REMARK\n\
         corp/dc1 tls:DOT up N ms N ms ± N N … N SHAPE 5/5 4/5 -\n\
         corp/dc1 https:DOH up N ms N ms ± N N … N SHAPE 5/5 4/5 -\n\
         corp/dc2 udp:PLAIN up - N ms ± N N … N SHAPE 5/5 - -\n"
    );

    let (code, tested, _) = upstreams(&["test", "gone/closed", "corp/dc2", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&tested).unwrap();
    assert_eq!((code, &document["count"]), (Some(1), &10.into()), "{tested}");
    let [near, gone] = [0, 1].map(|at| &document["servers"][at]);
    assert_eq!((&near["up"], &near["rungs"][0]["answered"]), (&true.into(), &10.into()));
    let mean = |of: &serde_json::Value| of["rungs"][0]["mean_seconds"].as_f64().unwrap();
    let (least, most) = (&near["rungs"][0]["least_seconds"], &near["rungs"][0]["most_seconds"]);
    assert!(least.as_f64().unwrap() <= mean(near) && mean(near) <= most.as_f64().unwrap(), "{near}");
    let bars = near["rungs"][0]["histogram"].as_array().unwrap();
    assert_eq!((bars.len(), bars.iter().filter_map(serde_json::Value::as_u64).sum::<u64>()), (8, 10));
    assert_eq!((&gone["up"], &gone["rungs"][0]["state"]), (&false.into(), &"down".into()));
    assert_eq!((&gone["rungs"][0]["sent"], &gone["rungs"][0]["mean_seconds"]), (&2.into(), &serde_json::Value::Null));
    assert!(gone["rungs"][0]["remark"].as_str().unwrap().contains("refused"), "{gone}");

    let (code, _, told) = upstreams(&["test", "nobody"]);
    assert!(code == Some(2) && told.contains("`nobody`"), "{told}");
    assert_eq!(run(&["upstreams", "test", "--count", "0"]).status.code(), Some(2));
    assert_eq!(run(&["upstreams", "test", "--count", "1001"]).status.code(), Some(2));
}
