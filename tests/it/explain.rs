//! `truename explain`: what it says of the situations people ask about (issue 6, outcome 5).

use crate::control::{control_socket, start};
use crate::support::client::ask;
use crate::support::daemon::{Daemon, forward_to, run};
use crate::support::fake::{Fake, Habit};
use crate::support::http::get;
use std::net::SocketAddr;
use std::path::Path;

/// Takes out what differs from run to run: ports, times and folders.
fn plain(text: &str, daemon: Option<&Daemon>, fakes: &[&Fake]) -> String {
    let mut text = text.to_owned();
    if let Some(daemon) = daemon {
        text = text.replace(&*daemon.folder.path().to_string_lossy(), "DIR");
    }
    for (at, fake) in fakes.iter().enumerate() {
        text = text.replace(&fake.address.to_string(), &format!("FAKE{}", at + 1));
    }
    let mut lines = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let mut out = String::new();
        for (at, word) in words.iter().enumerate() {
            let is_time = words.get(at + 1).is_some_and(|next| next.trim_end_matches(':') == "ms");
            // Columns are as wide as what stood there.
            if word.is_empty() && out.ends_with("  ") {
                continue;
            }
            out += if is_time { "T" } else { word };
            out.push(' ');
        }
        lines.push(out.trim_end().to_owned());
    }
    lines.join("\n")
}

fn explained(socket: &Path, args: &[&str]) -> String {
    let output = run(&[&["explain"], args, &["--socket", socket.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn guarded(isp: SocketAddr, witness: SocketAddr) -> String {
    format!(
        "[upstream.isp]\nservers = [\"{isp}\"]\n[upstream.witness]\nservers = [\"{witness}\"]\n[default]\nupstream = \"isp\"\n\
         [guard]\nreferences = \"witness\"\nbudget = \"2s\"\n\
         [[route]]\nname = \"all\"\nnames = [\"org\"]\nupstream = \"isp\"\n\
         [[route]]\nname = \"judged\"\nnames = [\"example.org\"]\nupstream = \"isp\"\nguard = \"enforce\"\nprivate = false\n"
    )
}

#[test]
fn local_names_name_their_line() {
    let fake = Fake::address([192, 0, 2, 1]);
    let zone = "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"git\", type = \"A\", value = \"10.0.0.7\" }]\n";
    let daemon = start(&format!("{zone}{}", forward_to(&[fake.address])));
    let text = explained(&control_socket(&daemon), &["git.lab.example"]);
    insta::assert_snapshot!(plain(&text, Some(&daemon), &[&fake]));
    let none = explained(&control_socket(&daemon), &["none.lab.example"]);
    insta::assert_snapshot!(plain(&none, Some(&daemon), &[&fake]));
    let special = explained(&control_socket(&daemon), &["printer.local"]);
    insta::assert_snapshot!(plain(&special, Some(&daemon), &[&fake]));
    assert!(fake.asked().is_empty());
}

#[test]
fn forwarded_names_name_their_route_who_replied_and_what_is_kept() {
    let fake = Fake::address([192, 0, 2, 1]);
    let daemon = start(&forward_to(&[fake.address]));
    let socket = control_socket(&daemon);
    let first = explained(&socket, &["www.example.org"]);
    insta::assert_snapshot!(plain(&first, Some(&daemon), &[&fake]));
    let cached = explained(&socket, &["www.example.org"]);
    assert!(cached.contains("from the cache") && cached.contains("counted down in the cache"), "{cached}");
    assert_eq!(fake.count("www.example.org"), 1);
    let fresh = explained(&socket, &["www.example.org", "--fresh"]);
    assert!(fresh.contains("from upstream") && !fresh.contains("store"), "{fresh}");
    assert_eq!(fake.count("www.example.org"), 2, "asked anew");
    let refused = explained(&socket, &["www.example.org", "--client", "203.0.113.9"]);
    assert!(refused.contains("REFUSED") && refused.contains("server.access.allow does not have it"), "{refused}");
}

#[test]
fn a_forged_answer_is_shown_beside_the_true_one_with_the_evidence() {
    let isp = Fake::start(Habit::Address([10, 10, 34, 34].into(), 300));
    let witness = Fake::start(Habit::Slow(
        std::time::Duration::from_millis(150),
        Box::new(Habit::Address([93, 184, 216, 34].into(), 300)),
    ));
    let daemon = start(&guarded(isp.address, witness.address));
    let text = explained(&control_socket(&daemon), &["www.example.org"]);
    insta::assert_snapshot!(plain(&text, Some(&daemon), &[&isp, &witness]));
    let document = get(&control_socket(&daemon), "/explain?name=other.example.org&fresh=1").json();
    assert_eq!(document["schema"], "truename.explain/1");
    assert_eq!(document["route"]["losing"][0]["name"], "all");
    assert_eq!(document["guard"][0]["evidence"][0]["sign"], "special-address");
    let trusted: Vec<_> = document["upstreams"].as_array().unwrap().iter().map(|seen| &seen["trusted"]).collect();
    assert_eq!(trusted, [false, true]);
    assert_eq!(get(&control_socket(&daemon), "/explain?name=a.test&fresh=maybe").problem(), "bad-flag");
    assert_eq!(get(&control_socket(&daemon), "/explain?name=a.test&client=me").problem(), "bad-address");
}

#[test]
fn failures_say_whose_they_are() {
    let dead = Fake::start(Habit::Code(truename::dns::Rcode::SERVFAIL));
    let daemon = start(&forward_to(&[dead.address]));
    let text = explained(&control_socket(&daemon), &["www.example.org"]);
    insta::assert_snapshot!(plain(&text, Some(&daemon), &[&dead]));
}

#[test]
fn without_a_daemon_the_configuration_is_what_counts() {
    let fake = Fake::address([192, 0, 2, 1]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("truename.toml");
    std::fs::write(&path, format!("{}[hosts]\nfiles = []\n", forward_to(&[fake.address]))).unwrap();
    let output = run(&["explain", "www.example.org", "--config", path.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("192.0.2.1") && text.contains("group fake"), "{text}");
    std::fs::write(&path, "[upstream").unwrap();
    assert_eq!(run(&["explain", "a.test", "--config", path.to_str().unwrap()]).status.code(), Some(78));
    assert_eq!(run(&["explain", "a..test"]).status.code(), Some(2));
}

#[test]
fn a_cached_answer_is_explained_without_asking_anybody() {
    let fake = Fake::address([192, 0, 2, 1]);
    let daemon = start(&forward_to(&[fake.address]));
    ask(daemon.address, "www.example.org");
    let document = get(&control_socket(&daemon), "/explain?name=www.example.org").json();
    assert_eq!((&document["source"], &document["cache"]["decided"]), (&"cache".into(), &"hit".into()));
    assert_eq!(fake.count("www.example.org"), 1);
}
