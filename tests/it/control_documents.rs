//! What can be asked over the control sockets besides sums: upstreams by themselves, lists, everything in a file, and all of it in
//! other forms than JSON.

use crate::control::{assert_sound, control_socket, start, stats_socket, validator};
use crate::guard_live::{TRUE, guarded, incidents};
use crate::support::client::ask;
use crate::support::daemon::{Daemon, binary, forward_to};
use crate::support::eventually;
use crate::support::fake::{Fake, Habit};
use crate::support::http::{ask_http, get};
use roas::v3_1::spec::Spec;
use roas::validation::{Options, Validate};
use serde_json::{Value, json};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

const ZONE: &str =
    "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"@\", type = \"A\", value = \"10.0.0.1\" }]\n";

#[test]
fn a_question_is_put_to_upstreams_by_themselves_and_held_against_our_answer() {
    let (first, second) = (Fake::address([192, 0, 2, 1]), Fake::address([192, 0, 2, 2]));
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // Of a public address, which a private name must not reach; there is nobody there, either.
    let config = format!(
        "{ZONE}{}[upstream.other]\nservers = [\"{}\", \"{gone}\"]\n[upstream.public]\nservers = [\"192.0.2.53\"]\n\
         [guard]\nreferences = \"other\"\n",
        forward_to(&[first.address]),
        second.address
    );
    let daemon = start(&config);
    let control = control_socket(&daemon);
    let asked = |parameters: &str| get(&control, &format!("/query?{parameters}")).json();
    let alone = asked("name=www.example.org&upstream=other");
    assert!(alone["answer"].is_null() && alone["source"].is_null(), "we were not asked: {alone:#}");
    let replies = alone["replies"].as_array().unwrap();
    assert_eq!(replies.len(), 2);
    let labels = [second.address, gone].map(|address| json!(format!("other/{address}")));
    assert_eq!([&replies[0]["upstream"], &replies[1]["upstream"]], [&labels[0], &labels[1]]);
    assert_eq!((&replies[0]["answer"][0]["data"], &replies[0]["transport"]), (&json!("192.0.2.2"), &json!("udp")));
    assert!(replies[0]["elapsed_seconds"].as_f64().is_some() && replies[0]["agrees"].is_null(), "{alone:#}");
    assert!(replies[1]["answer"].is_null() && replies[1]["remark"].is_string(), "{alone:#}");
    assert_eq!((first.count("www.example.org"), second.count("www.example.org")), (0, 1));
    // Beside ours: nothing is kept of what they say.
    let both = asked(&format!("name=www.example.org&compare=1&upstream=other/{}", second.address));
    assert_eq!((&both["answer"][0]["data"], &both["source"]), (&json!("192.0.2.1"), &json!("forward")));
    assert_eq!((&both["replies"][0]["agrees"], &both["more"]), (&json!("none"), &json!(0)));
    second.becomes(Habit::Address([192, 0, 2, 1].into(), 7));
    let both = asked(&format!("name=www.example.org&compare=1&upstream=other/{}", second.address));
    assert_eq!((&both["replies"][0]["agrees"], &both["source"]), (&json!("all"), &json!("cache")));
    // Without a name for them: those of the name's route, and those that the guard believes.
    let both = asked("name=www.example.org&compare=1");
    let told: Vec<&Value> = both["replies"].as_array().unwrap().iter().map(|one| &one["upstream"]).collect();
    assert_eq!(told, [&json!(format!("fake/{}", first.address)), &labels[0], &labels[1]]);
    assert_eq!(both["replies"][0]["agrees"], "all", "{both:#}");
    // A name of ours is told to nobody in public.
    let ours = asked("name=lab.example&compare=1&upstream=public");
    assert_eq!((&ours["source"], &ours["replies"][0]["answer"]), (&json!("zone"), &Value::Null));
    assert!(ours["replies"][0]["remark"].as_str().unwrap().contains("private"), "{ours:#}");
    for (parameters, problem) in [
        ("name=a.b&upstream=nobody", "unknown-upstream"),
        ("name=a.b&compare=yes", "bad-flag"),
        ("upstream=other", "missing-parameter"),
    ] {
        assert_eq!(get(&control, &format!("/query?{parameters}")).problem(), problem);
    }
}

#[test]
fn lists_are_told_with_their_entries_and_when_they_were_read() {
    let list = "a.example.net\n*.b.example.net\n# nothing\nc.example.net\n";
    let fake = Fake::address([192, 0, 2, 1]);
    let config = format!(
        "{}[[route]]\nname = \"listed\"\nnames_from = [{{ path = \"names.txt\", format = \"domains\" }}]\nupstream = \"fake\"\n",
        forward_to(&[fake.address])
    );
    let daemon = Daemon::start_with(&config, &[("names.txt", list)], &["127.0.0.1:0"]);
    let socket = stats_socket(&daemon);
    eventually("the socket is there", || socket.exists());
    let told = || get(&socket, "/lists").json()["lists"][0].clone();
    let first = told();
    assert_eq!(
        (&first["route"], &first["format"], &first["entries"]),
        (&json!("listed"), &json!("domains"), &json!(3))
    );
    assert!(first["path"].as_str().unwrap().ends_with("/names.txt"), "{first:#}");
    for key in ["read_at", "modified_at"] {
        assert!(humantime::parse_rfc3339(first[key].as_str().unwrap()).is_ok(), "{first:#}");
    }
    daemon.write("names.txt", "a.example.net\n");
    eventually("it is read again", || told()["entries"] == 1);
    assert!(told()["read_at"].as_str() > first["read_at"].as_str() && told()["modified_at"] != first["modified_at"]);
    // What did not change is not read again.
    let second = told();
    daemon.write("truename.toml", &std::fs::read_to_string(daemon.config_path()).unwrap());
    assert_eq!(ask_http(&control_socket(&daemon), "POST", "/reload", "", "").status, 200);
    assert!(told()["read_at"].as_str() > second["read_at"].as_str(), "a reload reads everything");
}

#[test]
fn a_bundle_has_names_only_when_they_are_asked_for() {
    let fake = Fake::address([192, 0, 2, 1]);
    let route = "[[route]]\nname = \"corp\"\nnames = [\"inside.example\"]\nupstream = \"fake\"\n";
    let daemon = start(&format!("{ZONE}{route}{}", forward_to(&[fake.address])));
    let control = control_socket(&daemon);
    ask(daemon.address, "www.example.org");
    assert_eq!(get(&stats_socket(&daemon), "/debug/bundle").problem(), "control-only");
    let response = get(&control, "/debug/bundle");
    assert_eq!(response.header("content-type"), Some("application/x-tar"));
    assert!(response.header("content-disposition").unwrap().contains("truename-bundle.tar"));
    for name in ["www.example.org", "inside.example", "192.0.2.1", "\"client\""] {
        assert!(!response.body.contains(name), "{name}");
    }
    // As whoever gets it takes it apart.
    let folder = tempfile::tempdir().unwrap();
    let unpacked = |more: &[&str]| {
        let (output, into) =
            (folder.path().join(format!("{}.tar", more.len())), folder.path().join(more.len().to_string()));
        let mut command = binary();
        command.args(["bugreport", "-o"]).arg(&output).args(more).arg("--socket").arg(&control);
        let said = command.output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        assert_eq!(std::fs::metadata(&output).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!command.output().unwrap().status.success(), "what is there is left alone");
        std::fs::create_dir(&into).unwrap();
        let tar = Command::new("tar").arg("-xf").arg(&output).arg("-C").arg(&into).status().unwrap();
        assert!(tar.success());
        into.join("truename-bundle")
    };
    let (without, with) = (unpacked(&[]), unpacked(&["--names"]));
    let names = |folder: &PathBuf| {
        let mut names: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let few = ["README", "about.json", "lists.json", "metrics.txt", "stats-schema.json", "stats.json"];
    let more = ["cache.json", "changes.json", "effective.toml", "incidents.json", "queries.ndjson", "views.json"];
    let mut all = [few, more].concat();
    all.sort_unstable();
    assert_eq!(
        (names(&without), names(&with)),
        (few.map(str::to_owned).to_vec(), all.iter().map(|&name| name.to_owned()).collect())
    );
    let read = |folder: &PathBuf, name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let json = |folder: &PathBuf, name: &str| -> Value { serde_json::from_str(&read(folder, name)).unwrap() };
    for folder in [&without, &with] {
        assert_sound(&json(folder, "stats.json"), &validator());
        assert_eq!(json(folder, "about.json")["machine"]["architecture"], std::env::consts::ARCH);
        // Every file is told of.
        let told = read(folder, "README");
        assert!(names(folder).iter().all(|name| name == "README" || told.contains(name.as_str())), "{told}");
    }
    let line: Value = serde_json::from_str(read(&with, "queries.ndjson").lines().next().unwrap()).unwrap();
    assert_eq!(line["name"], "www.example.org.");
    assert_eq!(json(&with, "cache.json")["entries"][0]["name"], "www.example.org.");
    assert!(read(&with, "effective.toml").contains("inside.example"));
}

#[test]
fn a_bundle_has_so_many_of_the_last_questions_of_the_cache_and_of_the_incidents() {
    let isp = Fake::start(Habit::Address([10, 10, 34, 34].into(), 300));
    let witnesses = ["127.0.0.1", "127.1.0.1"]
        .map(|address| Fake::start_at(address.parse().unwrap(), Habit::Address(TRUE.into(), 300)));
    let zone = ZONE.replace("\"@\"", "\"*\"");
    let guarded = guarded(&[isp.address], &witnesses.each_ref().map(|fake| fake.address), "enforce");
    let daemon = start(&format!("{zone}{guarded}"));
    for n in 0..65 {
        ask(daemon.address, &format!("n{n}.example.org"));
    }
    eventually("each is an incident", || incidents(&daemon).len() == 65);
    for n in 0..1_001 {
        ask(daemon.address, &format!("n{n}.lab.example"));
    }
    let bundle = get(&control_socket(&daemon), "/debug/bundle?names=1").body;
    let count = |of: &str| bundle.matches(of).count();
    assert_eq!([count("{\"ts\":"), count("\"checking_disabled\":"), count("\"evidence\":")], [1_000, 1_000, 64]);
    assert!(bundle.contains("\"name\":\"n1000.lab.example.\"") && !bundle.contains("\"name\":\"n0.lab.example.\""));
    assert_eq!(count("\"more\": true"), 2, "of the cache and of incidents");
}

#[test]
fn of_a_group_so_many_servers_are_asked_about_one_question() {
    let first = Fake::address([192, 0, 2, 1]);
    // Nobody is at the others, which ICMP says at once.
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let others: Vec<std::net::SocketAddr> = (2..34).map(|n| ([127, 0, 0, n], gone).into()).collect();
    let daemon = start(&forward_to(&[&[first.address][..], &others].concat()));
    let told = get(&control_socket(&daemon), "/query?name=www.example.org&upstream=fake").json();
    assert_eq!((told["replies"].as_array().unwrap().len(), &told["more"]), (32, &json!(1)));
    assert_eq!(told["replies"][0]["answer"][0]["data"], "192.0.2.1");
}

#[test]
fn the_description_of_the_interface_is_valid_openapi() {
    let daemon = start(ZONE);
    let document = get(&stats_socket(&daemon), "/openapi.json");
    let spec: Spec = serde_json::from_str(&document.body).unwrap();
    // The schema of /stats is a document of its own; nothing is said of tags.
    let valid = |spec: &Spec| spec.validate(Options::IgnoreExternalReferences | Options::IgnoreMissingTags, None);
    valid(&spec).unwrap_or_else(|error| panic!("{error}"));
    // That it would find something.
    let mut broken = document.json();
    broken["paths"]["/cache/{name}"]["get"]["parameters"] = json!([]);
    broken["paths"]["/stats"]["get"]["responses"] = json!({});
    let broken: Spec = serde_json::from_value(broken).unwrap();
    assert!(valid(&broken).is_err());
}

#[test]
fn a_document_is_had_in_the_form_that_is_asked_for() {
    let daemon = start(ZONE);
    let (socket, control) = (stats_socket(&daemon), control_socket(&daemon));
    ask(daemon.address, "lab.example");
    let in_form = |target: &str, accept: &str| ask_http(&control, "GET", target, &format!("Accept: {accept}\r\n"), "");
    let text = in_form("/stats", "text/plain");
    assert_eq!((text.header("content-type"), text.header("vary")), (Some("text/plain; charset=utf-8"), Some("accept")));
    assert!(text.body.lines().any(|line| line == "queries.by_source.zone: 1"), "{}", text.body);
    assert!(text.body.lines().any(|line| line == "zones.0.name: lab.example."), "{}", text.body);
    let page = in_form("/stats", "text/html,application/xhtml+xml,*/*;q=0.8");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert!(page.body.contains("<tr><th scope=\"row\">queries.by_source.zone</th><td>1</td></tr>"), "{}", page.body);
    assert_eq!(in_form("/stats", "*/*").json()["queries"]["total"], 1);
    // Names are text in each of them, problems are what they are.
    let odd = "/explain?name=%3Cscript%3E%1b.lab.example";
    let page = in_form(odd, "text/html");
    assert!(page.body.contains("&lt;script&gt;") && !page.body.contains("<script>") && !page.body.contains('\u{1b}'));
    assert_eq!(in_form("/nothing", "text/html").problem(), "unknown-path");
    // A form that is known is not sent again, and is not another's.
    let tags =
        ["text/plain", "text/html", "*/*"].map(|accept| in_form("/version", accept).header("etag").unwrap().to_owned());
    assert!(tags[0] != tags[1] && tags[1] != tags[2]);
    let again = |accept: &str, tag: &str| {
        ask_http(&socket, "GET", "/version", &format!("Accept: {accept}\r\nIf-None-Match: {tag}\r\n"), "").status
    };
    assert_eq!((again("text/plain", &tags[0]), again("text/plain", &tags[2])), (304, 200));
}
