//! `truename explain`: what it says of the situations people ask about.

use crate::control::{control_socket, start};
use crate::support::client::ask;
use crate::support::daemon::{Daemon, forward_to, run};
use crate::support::eventually;
use crate::support::fake::{Fake, Habit};
use crate::support::http::{ask_http, get};
use std::net::SocketAddr;
use std::path::Path;
use truename::dns::{Name, Record, Rtype};

/// Takes out what differs from run to run: ports, times and folders.
pub(crate) fn plain(text: &str, daemon: Option<&Daemon>, fakes: &[&Fake]) -> String {
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

pub(crate) fn explained(socket: &Path, args: &[&str]) -> String {
    let output = run(&[&["explain"], args, &["--socket", socket.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn guarded(isp: SocketAddr, witness: SocketAddr) -> String {
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
    assert!(fresh.contains("source forward") && !fresh.contains("store"), "{fresh}");
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

#[test]
fn a_question_answered_a_moment_ago_is_explained_by_what_was_said_then() {
    let isp = Fake::start(Habit::Address([10, 10, 34, 34].into(), 300));
    let witness = Fake::start(Habit::Slow(
        std::time::Duration::from_millis(60),
        Box::new(Habit::Address([93, 184, 216, 34].into(), 300)),
    ));
    let daemon = start(&guarded(isp.address, witness.address));
    ask(daemon.address, "www.example.org");
    // Where the machine is slow a question is repeated. What has come here comes behind that.
    ask(daemon.address, "behind.example.org");
    let socket = control_socket(&daemon);
    let asked = || (isp.count("www.example.org"), witness.count("www.example.org"));
    let before = asked();
    let document = get(&socket, "/explain?name=www.example.org").json();
    assert_eq!((&document["source"], document["recorded"]["age_seconds"].is_u64()), (&"cache".into(), true));
    let seen = document["upstreams"].as_array().unwrap();
    let said: Vec<_> = seen.iter().map(|of| (&of["trusted"], &of["rcode"], &of["answer"][0]["data"])).collect();
    assert_eq!(
        said,
        [
            (&false.into(), &"NOERROR".into(), &"10.10.34.34".into()),
            (&true.into(), &"NOERROR".into(), &"93.184.216.34".into())
        ]
    );
    assert!(seen[1]["elapsed_seconds"].as_f64().unwrap() >= 0.06 && seen[0]["transport"] == "udp", "{seen:?}");
    let sign = &document["guard"][0]["evidence"][0];
    assert_eq!((&sign["sign"], &sign["weight"]), (&"special-address".into(), &6.into()));
    assert!(document["guard"][0]["decided"].as_str().unwrap().starts_with("poisoned"), "{document}");
    assert_eq!(document["ttl"][0]["came_seconds"], 300);
    assert!(document["ttl"][0]["because"].as_str().unwrap().contains("in the cache"), "{document}");
    let text = explained(&socket, &["www.example.org"]);
    for words in ["recorded", "s ago", "+6 special-address", "10.10.34.34", "poisoned"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(asked(), before, "nobody was asked for that");
    // Another type was never asked.
    let other = get(&socket, "/explain?name=www.example.org&type=TXT").json();
    assert_eq!((other["recorded"].is_null(), &other["source"]), (true, &"forward".into()));
}

#[test]
fn what_was_found_behind_an_answer_is_explained_too() {
    let isp = Fake::start(Habit::Slow(
        std::time::Duration::from_millis(150),
        Box::new(Habit::Address([10, 10, 34, 34].into(), 300)),
    ));
    let witness = Fake::start(Habit::Address([93, 184, 216, 34].into(), 300));
    let daemon = start(&guarded(isp.address, witness.address));
    ask(daemon.address, "www.example.org");
    let socket = control_socket(&daemon);
    let explained = || get(&socket, "/explain?name=www.example.org").json();
    eventually("the late one is judged", || {
        explained()["guard"][0]["decided"].as_str().is_some_and(|text| text.starts_with("poisoned"))
    });
    let document = explained();
    assert_eq!(document["upstreams"].as_array().unwrap().len(), 2);
    assert_eq!(document["answer"][0]["data"], "93.184.216.34");
}

#[test]
fn every_name_of_a_chain_and_every_failure_is_remembered() {
    let fake = Fake::start(Habit::Address([192, 0, 2, 1].into(), 300))
        .with("www.example.org", Habit::Alias("edge.example.net", [192, 0, 2, 9].into()))
        .with("broken.example.org", Habit::Code(truename::dns::Rcode::SERVFAIL));
    let route = format!(
        "[upstream.other]\nservers = [\"{}\"]\n[[route]]\nnames = [\"example.net\"]\nupstream = \"other\"\n",
        fake.address
    );
    let daemon = start(&format!("{}{route}", forward_to(&[fake.address])));
    let socket = control_socket(&daemon);
    ask(daemon.address, "www.example.org");
    let document = get(&socket, "/explain?name=www.example.org").json();
    let from: Vec<&str> =
        document["upstreams"].as_array().unwrap().iter().map(|of| of["upstream"].as_str().unwrap()).collect();
    assert_eq!(document["source"], "cache");
    assert!(from.len() == 2 && from[0].starts_with("fake/") && from[1].starts_with("other/"), "{from:?}");
    ask(daemon.address, "broken.example.org");
    let failed = get(&socket, "/explain?name=broken.example.org").json();
    assert!(!failed["failures"].as_array().unwrap().is_empty(), "{failed}");
}

/// The owner, TTL as it came and reason of each record.
fn ttls(document: &serde_json::Value) -> Vec<(String, Option<u64>, String)> {
    let of = |ttl: &serde_json::Value| {
        let text = |key: &str| ttl[key].as_str().unwrap().to_owned();
        (text("name"), ttl["came_seconds"].as_u64(), text("because"))
    };
    document["ttl"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn of_a_chain_only_what_was_cached_is_counted_down() {
    let fake = Fake::start(Habit::Address([192, 0, 2, 9].into(), 300))
        .with("www.example.org", Habit::Alias("edge.example.net", [192, 0, 2, 9].into()));
    let route = format!(
        "[upstream.other]\nservers = [\"{}\"]\n[[route]]\nnames = [\"example.net\"]\nupstream = \"other\"\n",
        fake.address
    );
    let daemon = start(&format!("{}{route}", forward_to(&[fake.address])));
    ask(daemon.address, "edge.example.net");
    let explained = || get(&control_socket(&daemon), "/explain?name=www.example.org").json();
    let [(first, came, why), (last, _, counted)] = &ttls(&explained())[..] else { panic!("not two records") };
    assert_eq!((&**first, &**last), ("www.example.org.", "edge.example.net."));
    assert!(came.is_some() && !why.contains("in the cache"), "{why}");
    assert!(counted.contains("counted down in the cache"), "{counted}");
    let document = explained();
    assert!(ttls(&document).iter().all(|(.., why)| why.contains("counted down in the cache")), "{document}");
}

#[test]
fn a_stale_answer_that_an_upstream_has_replaced_is_explained_by_what_came() {
    let fake = Fake::start(Habit::Address([192, 0, 2, 1].into(), 1));
    let daemon = start(&forward_to(&[fake.address]));
    let names: Vec<String> = (0..1000).map(|n| format!("n{n}.example.org")).collect();
    names.iter().for_each(|name| drop(ask(daemon.address, name)));
    fake.becomes(Habit::Address([192, 0, 2, 2].into(), 300));
    let mut left = names.iter();
    let mut document = serde_json::Value::Null;
    // One that is still fresh is not asked about again: the look would be all that it takes to have it refreshed.
    eventually("one is past its TTL of 1 s, and replaced in time", || {
        let Some(name) = left.next() else { panic!("none was: {document}") };
        document = get(&control_socket(&daemon), &format!("/explain?name={name}")).json();
        document["cache"]["decided"] == "stale" && document["source"] == "forward"
    });
    let [(_, came, why)] = &ttls(&document)[..] else { panic!("not one record") };
    assert_eq!((*came, &**why), (Some(300), "as it came"), "{document}");
}

#[test]
fn what_is_flushed_is_not_told_of_the_next_answer() {
    let name = |text: &str| Name::parse(text).unwrap();
    let alias = Record {
        owner: name("www.example.org"),
        rtype: Rtype::CNAME,
        class: 1,
        ttl: 300,
        rdata: name("edge.example.org").as_wire().into(),
    };
    // The end of the chain is missing, and asked for by itself.
    let fake =
        Fake::start(Habit::Address([192, 0, 2, 9].into(), 300)).with("www.example.org", Habit::Records(vec![alias]));
    let whole = Fake::start(Habit::Alias("edge.example.org", [192, 0, 2, 9].into()));
    let config = |fake: &Fake| format!("{}[hosts]\nfiles = []\n", forward_to(&[fake.address]));
    let daemon = start(&forward_to(&[fake.address]));
    let socket = control_socket(&daemon);
    let replies = || {
        ask(daemon.address, "www.example.org");
        let document = get(&socket, "/explain?name=www.example.org").json();
        assert_eq!(document["source"], "cache");
        document["upstreams"].as_array().unwrap().len()
    };
    assert_eq!(replies(), 2);
    daemon.write("truename.toml", &config(&whole));
    assert_eq!(ask_http(&socket, "POST", "/reload", "", "").status, 200);
    assert_eq!(ask_http(&socket, "DELETE", "/cache?match=*", "", "").status, 200);
    // The chain comes whole: what was said of its end before does not belong to it.
    assert_eq!(replies(), 1);
}
