//! `check`, `config`, `query`: what they print and how they exit (issue outcomes 2 and 9).

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
