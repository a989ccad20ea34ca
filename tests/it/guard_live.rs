//! The guard in the real daemon, on real sockets: what liars on the path and behind it do, what clients get, and what is
//! recorded about it.

use crate::control::{control_socket, stats_socket};
use crate::support::client::{ask, ask_type};
use crate::support::daemon::{Daemon, run};
use crate::support::eventually;
use crate::support::fake::{Fake, Habit, a, alias, answer_with, qname_of};
use crate::support::http::{ask_http, get};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Output;
use truename::dns::{Name, Rcode, Record, Rtype};

pub(crate) const TRUE: [u8; 4] = [93, 184, 216, 34];
pub(crate) const FORGED: [u8; 4] = [31, 13, 94, 10];

/// Names of example.org go to one group and are judged; another one is believed.
pub(crate) fn guarded(isp: &[SocketAddr], witnesses: &[SocketAddr], mode: &str) -> String {
    let list = |servers: &[SocketAddr]| {
        let texts: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
        texts.join(", ")
    };
    // Fakes have private addresses; that alone would make the route private, and exempt.
    format!(
        "[upstream.isp]\nservers = [{}]\n[upstream.witness]\nservers = [{}]\n[default]\nupstream = \"isp\"\n\
         [guard]\nreferences = \"witness\"\nbudget = \"2s\"\n\
         [[route]]\nnames = [\"example.org\"]\nupstream = \"isp\"\nguard = \"{mode}\"\nprivate = false\n",
        list(isp),
        list(witnesses),
    )
}

pub(crate) fn text(octets: [u8; 4]) -> String {
    octets.map(|octet| octet.to_string()).join(".")
}

pub(crate) fn counter(daemon: &Daemon, name: &str) -> u64 {
    get(&stats_socket(daemon), "/stats").json()["counters"][name].as_u64().unwrap_or_else(|| panic!("no {name}"))
}

pub(crate) fn incidents(daemon: &Daemon) -> Vec<Value> {
    get(&control_socket(daemon), "/incidents").json()["incidents"].as_array().unwrap().clone()
}

/// An upstream behind somebody who answers first, and never over TCP.
fn overtaken(query: &[u8], tcp: bool) -> Vec<Vec<u8>> {
    let reply = |address: [u8; 4]| answer_with(query, &[a(&qname_of(query), address.into(), 300)]);
    if tcp { vec![reply(TRUE)] } else { vec![reply(FORGED), reply(TRUE)] }
}

#[test]
fn a_forged_reply_that_wins_the_race_never_goes_out() {
    let (isp, witness) = (Fake::start(Habit::Custom(overtaken)), Fake::start(Habit::Address(TRUE.into(), 300)));
    let daemon = Daemon::start(&guarded(&[isp.address], &[witness.address], "enforce"));
    for n in 0..300 {
        let answer = ask(daemon.address, &format!("n{n}.example.org"));
        assert_eq!((answer.rcode(), answer.addresses(), answer.ede()), (Rcode::NOERROR, vec![text(TRUE)], None), "{n}");
    }
    eventually("all are judged", || {
        ["consistent", "undecidable", "poisoned"]
            .iter()
            .map(|verdict| counter(&daemon, &format!("guard_{verdict}_total")))
            .sum::<u64>()
            >= 300
    });
    // A busy machine is late with some replies, and their questions are sent again; not one query besides.
    let (own, reference) = (isp.asked().len(), witness.asked().len());
    assert!(own >= 300 && reference >= 300, "{own} {reference}");
    // Both are asked once for a name that nobody has, to see whether the group makes up answers.
    let besides = counter(&daemon, "upstream_hedges_total") + 2 * counter(&daemon, "guard_nobody_asked_total");
    assert_eq!((own + reference) as u64, 600 + besides, "one query each");
    daemon.assert_no_panic();
}

#[test]
fn without_a_trusted_reply_the_second_one_is_heard_and_neither_is_believed_blindly() {
    let (isp, witness) = (Fake::start(Habit::Custom(overtaken)), Fake::start(Habit::Silent));
    let config = guarded(&[isp.address], &[witness.address], "enforce").replace("2s", "250ms");
    let daemon = Daemon::start(&config);
    let answer = ask(daemon.address, "www.example.org");
    assert_eq!((answer.rcode(), answer.ede()), (Rcode::SERVFAIL, Some(4)), "which of the two is true, nothing tells");
    assert!(counter(&daemon, "guard_second_replies_total") >= 1);
}

#[test]
fn every_kind_of_lie_is_found_replaced_and_recorded() {
    let name = |text: &str| Name::parse(text).unwrap();
    let to_nowhere = Habit::Records(vec![alias(&name("chain.example.org"), &name("gone.example.net"))]);
    let txt = Record {
        owner: name("type.example.org"),
        rtype: Rtype::TXT,
        class: 1,
        ttl: 300,
        rdata: b"\x04true".as_slice().into(),
    };
    let isp = Fake::start(Habit::Address(TRUE.into(), 300))
        .with("sinkhole.example.org", Habit::Address([10, 10, 34, 34].into(), 300))
        .with("empty.example.org", Habit::EmptyWithoutSoa)
        .with("denied.example.org", Habit::NxDomain(60))
        .with("chain.example.org", to_nowhere)
        .with("type.example.org", Habit::Records(vec![a(&name("type.example.org"), FORGED.into(), 300)]))
        .with("block.example.org", Habit::Alias("block.isp.example", FORGED.into()));
    let witnesses = ["127.0.0.1", "127.1.0.1"].map(|address| {
        Fake::start_at(address.parse().unwrap(), Habit::Address(TRUE.into(), 300))
            .with("chain.example.org", Habit::Alias("there.example.net", TRUE.into()))
            .with("type.example.org", Habit::Records(vec![txt.clone()]))
            .with("none.example.org", Habit::NxDomain(60))
    });
    let daemon = Daemon::start(&guarded(&[isp.address], &witnesses.each_ref().map(|fake| fake.address), "enforce"));
    for lie in ["sinkhole", "empty", "denied", "chain", "block"] {
        let answer = ask(daemon.address, &format!("{lie}.example.org"));
        assert_eq!((answer.rcode(), answer.addresses()), (Rcode::NOERROR, vec![text(TRUE)]), "{lie}");
    }
    let answer = ask_type(daemon.address, "type.example.org", Rtype::TXT);
    assert_eq!(answer.answers().iter().map(|record| record.rtype).collect::<Vec<_>>(), [Rtype::TXT]);
    assert_eq!(ask(daemon.address, "none.example.org").rcode(), Rcode::NXDOMAIN);
    assert_eq!(ask(daemon.address, "fine.example.org").addresses(), [text(TRUE)]);
    let expected = [
        ("chain.example.org.", "broken_chain"),
        ("denied.example.org.", "poisoned"),
        ("empty.example.org.", "empty_vs_present"),
        ("none.example.org.", "nxdomain_hijacked"),
        ("sinkhole.example.org.", "poisoned"),
        ("type.example.org.", "poisoned"),
    ];
    let found = || {
        let mut found: Vec<(String, String)> = incidents(&daemon)
            .iter()
            .map(|incident| ["name", "verdict"].map(|key| incident[key].as_str().unwrap().to_owned()).into())
            .collect();
        found.sort();
        found
    };
    eventually("all of them are recorded", || {
        expected.iter().all(|(name, verdict)| found().contains(&((*name).to_owned(), (*verdict).to_owned())))
    });
    assert!(!found().iter().any(|(name, _)| name == "fine.example.org."), "{:?}", found());
}

#[test]
fn lawful_differences_raise_no_alarm_and_keep_their_near_answers() {
    let name = |text: &str| Name::parse(text).unwrap();
    let truth = [93, 184, 216, 34];
    let many = |last: &[u8]| -> Vec<Record> {
        last.iter().map(|last| a(&name("rotates.example.org"), [93, 184, 216, *last].into(), 60)).collect()
    };
    let isp = Fake::start(Habit::Address(truth.into(), 60))
        .with("near.example.org", Habit::Address([93, 184, 216, 77].into(), 60))
        .with("rotates.example.org", Habit::Records(many(&[1, 2, 3])))
        .with("cdn.example.org", Habit::Alias("a.cdn.example", [151, 101, 1, 1].into()))
        .with("a.cdn.example", Habit::Address([151, 101, 1, 1].into(), 60))
        .with("v4.example.org", Habit::Address(truth.into(), 60));
    let slow = |habit| Habit::Slow(std::time::Duration::from_millis(40), Box::new(habit));
    let witness = Fake::start(slow(Habit::Address(truth.into(), 300)))
        .with("rotates.example.org", slow(Habit::Records(many(&[3, 4, 5]))))
        .with("cdn.example.org", slow(Habit::Alias("b.cdn.example", [151, 101, 1, 9].into())))
        .with("a.cdn.example", slow(Habit::Address([151, 101, 1, 9].into(), 60)));
    let daemon = Daemon::start(&guarded(&[isp.address], &[witness.address], "enforce"));
    for (asked, expected) in [
        ("same", vec![[93, 184, 216, 34]]),
        ("near", vec![[93, 184, 216, 77]]),
        ("rotates", vec![[93, 184, 216, 1], [93, 184, 216, 2], [93, 184, 216, 3]]),
        ("cdn", vec![[151, 101, 1, 1]]),
    ] {
        let answer = ask(daemon.address, &format!("{asked}.example.org"));
        let expected: Vec<String> = expected.into_iter().map(text).collect();
        assert_eq!((answer.addresses(), answer.ede()), (expected, None), "{asked}");
    }
    // No address of one family is ordinary, from either side.
    let none = ask_type(daemon.address, "v4.example.org", Rtype::AAAA);
    assert_eq!((none.rcode(), none.answers().len(), none.ede()), (Rcode::NOERROR, 0, None));
    // The alias leads out of the route, and what it leads to is judged too.
    eventually("all are judged", || {
        ["consistent", "benign_divergent"]
            .map(|verdict| counter(&daemon, &format!("guard_{verdict}_total")))
            .iter()
            .sum::<u64>()
            == 6
    });
    assert_eq!(incidents(&daemon), Vec::<Value>::new());
}

#[test]
fn an_answer_that_alternates_between_true_and_forged_never_goes_out_forged() {
    let isp = Fake::address(TRUE);
    let witness = Fake::start(Habit::Address(TRUE.into(), 300));
    let daemon = Daemon::start(&guarded(&[isp.address], &[witness.address], "enforce"));
    for n in 0..40_u8 {
        // One clean answer whitelists nothing: not the name, and not the server.
        let lies = n % 2 == 1;
        isp.becomes(Habit::Address(if lies { FORGED.into() } else { TRUE.into() }, 0));
        assert_eq!(ask(daemon.address, "www.example.org").addresses(), [text(TRUE)], "{n}");
        flush(&daemon);
    }
}

fn flush(daemon: &Daemon) {
    assert_eq!(ask_http(&control_socket(daemon), "DELETE", "/cache?match=*", "", "").status, 200);
}

#[test]
fn a_filter_that_says_so_is_no_attack_and_its_answer_is_not_what_goes_out() {
    fn filtered(query: &[u8], _: bool) -> Vec<Vec<u8>> {
        let mut reply = answer_with(query, &[a(&qname_of(query), [31, 13, 94, 10].into(), 300)]);
        // OPT with EDE 17 (Filtered).
        reply[11] = 1;
        reply.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 6, 0, 15, 0, 2, 0, 17]);
        vec![reply]
    }
    let (isp, witness) = (Fake::start(Habit::Custom(filtered)), Fake::start(Habit::Address(TRUE.into(), 300)));
    let daemon = Daemon::start(&guarded(&[isp.address], &[witness.address], "enforce"));
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), [text(TRUE)]);
    eventually("it is judged", || counter(&daemon, "guard_undecidable_total") == 1);
    assert_eq!(incidents(&daemon), Vec::<Value>::new());
}

#[test]
fn names_of_zones_and_private_routes_are_never_told_to_a_reference() {
    let (isp, witness) = (Fake::address(TRUE), Fake::address(TRUE));
    let config = guarded(&[isp.address], &[witness.address], "enforce").replace("private = false\n", "");
    let zone = "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"git\", type = \"A\", value = \"10.0.0.7\" }]\n";
    let config = config.replace("[default]\n", "[default]\nguard = \"enforce\"\n");
    let daemon = Daemon::start(&format!("{zone}{config}"));
    assert_eq!(ask(daemon.address, "git.lab.example").addresses(), ["10.0.0.7"]);
    assert_eq!(ask(daemon.address, "none.lab.example").rcode(), Rcode::NXDOMAIN);
    for n in 0..20 {
        ask(daemon.address, &format!("n{n}.example.org"));
    }
    assert_eq!(isp.asked().len(), 20, "its route is private by its server's address");
    assert_eq!(witness.asked().len(), 0);
    ask(daemon.address, "www.example.net");
    eventually("names of the default are judged", || witness.count("www.example.net") > 0);
}

#[test]
fn when_the_references_come_back_what_was_doubted_is_mended() {
    let isp = Fake::address([31, 13, 94, 11]);
    let witness =
        Fake::start(Habit::Slow(std::time::Duration::from_millis(600), Box::new(Habit::Address(TRUE.into(), 300))));
    let config = guarded(&[isp.address], &[witness.address], "enforce").replace("2s", "100ms");
    let daemon = Daemon::start(&config);
    let doubted = ask(daemon.address, "www.example.org");
    assert_eq!((doubted.addresses(), doubted.ede()), (vec!["31.13.94.11".to_owned()], Some(0)));
    assert!(doubted.answers()[0].ttl <= 30);
    eventually("the late trusted answer takes its place", || {
        ask(daemon.address, "www.example.org").addresses() == [text(TRUE)]
    });
    assert_eq!(isp.count("www.example.org"), 1);
}

#[test]
fn watching_records_what_would_not_have_stood_and_changes_nothing() {
    let isp = Fake::start(Habit::Address([10, 10, 34, 34].into(), 300));
    let witness =
        Fake::start(Habit::Slow(std::time::Duration::from_millis(300), Box::new(Habit::Address(TRUE.into(), 300))));
    let daemon = Daemon::start(&guarded(&[isp.address], &[witness.address], "watch"));
    let answer = ask(daemon.address, "www.example.org");
    assert_eq!((answer.addresses(), answer.ede()), (vec!["10.10.34.34".to_owned()], None));
    eventually("it is recorded", || incidents(&daemon).len() == 1);
    let incident = &incidents(&daemon)[0];
    assert_eq!((&incident["verdict"], &incident["served"]), (&"poisoned".into(), &"suspect".into()));
    let asked = witness.count("www.example.org");
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["10.10.34.34"]);
    assert_eq!(witness.count("www.example.org"), asked, "once for what is cached");
    assert_eq!(ask(daemon.address, "www.example.net").addresses(), ["10.10.34.34"]);
    assert_eq!(witness.count("www.example.net"), 0, "nobody else learns of other names");
}

fn said(daemon: &Daemon, args: &[&str]) -> (Option<i32>, String) {
    let socket = control_socket(daemon);
    let Output { status, stdout, stderr } = run(&[args, &["--socket", socket.to_str().unwrap()]].concat());
    (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

#[test]
fn what_was_found_is_shown_taken_note_of_and_kept_over_a_restart() {
    let isp = Fake::start(Habit::Address([10, 10, 34, 34].into(), 300));
    let witness = Fake::start(Habit::Address(TRUE.into(), 300));
    let mut daemon = Daemon::start(&guarded(&[isp.address], &[witness.address], "enforce"));
    assert_eq!(said(&daemon, &["incidents"]), (Some(0), "nothing has been found against any upstream\n".to_owned()));
    ask(daemon.address, "www.example.org");
    ask_type(daemon.address, "www.example.org", Rtype::AAAA);
    eventually("it is recorded", || incidents(&daemon).len() == 1);
    let (_, list) = said(&daemon, &["incidents"]);
    for words in ["-0001", "open", "poisoned", "www.example.org.", &format!("isp/{}", isp.address)] {
        assert!(list.contains(words), "{words}: {list}");
    }
    let (_, shown) = said(&daemon, &["incidents", "show", "1"]);
    for words in ["special-address", "+6", "the answer of a trusted upstream", "10.10.34.34", "93.184.216.34", "0000"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let (_, report) = said(&daemon, &["incidents", "export", "1"]);
    assert!(report.starts_with("# in-") && report.contains("| +6 | `special-address` |"), "{report}");
    let stats = get(&stats_socket(&daemon), "/stats?section=guard").json();
    assert_eq!(stats["guard"]["incidents_open"], 1);
    assert_eq!(stats["guard"]["verdicts_total"]["poisoned"], 1);
    let metrics = get(&stats_socket(&daemon), "/metrics").body;
    assert!(metrics.contains("truename_guard_checks_total{verdict=\"poisoned\"} 1"), "{metrics}");
    assert_eq!(get(&stats_socket(&daemon), "/incidents").status, 403, "names are for the control socket");
    assert_eq!(said(&daemon, &["incidents", "show", "9"]).0, Some(1));
    assert_eq!(ask_http(&control_socket(&daemon), "POST", "/incidents/9/ack", "", "").problem(), "unknown-incident");
    assert_eq!(said(&daemon, &["incidents", "ack", "1"]).0, Some(0));
    assert_eq!(said(&daemon, &["incidents", "list", "--open"]).1, "nothing has been found against any upstream\n");
    let before = incidents(&daemon);
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    let again = daemon.again();
    assert_eq!(incidents(&again), before, "as it was, noted");
}

#[test]
fn a_torn_file_of_incidents_is_put_aside_and_nothing_of_it_is_believed() {
    let isp = Fake::start(Habit::Address([10, 10, 34, 34].into(), 300));
    let witness = Fake::start(Habit::Address(TRUE.into(), 300));
    let mut daemon = Daemon::start(&guarded(&[isp.address], &[witness.address], "enforce"));
    ask(daemon.address, "www.example.org");
    let path = daemon.folder.path().join("incidents.json");
    eventually("it is written soon, not only at the end", || path.exists());
    daemon.kill();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 7]).unwrap();
    let again = daemon.again();
    assert_eq!(incidents(&again), Vec::<Value>::new());
    assert_eq!(counter(&again, "incident_files_bad_total"), 1);
    assert!(!path.exists() && again.folder.path().join("incidents.bad").exists());
}

#[test]
fn that_there_is_nothing_behind_an_alias_is_believed_while_nothing_trusted_answers() {
    fn nodata(query: &[u8], _: bool) -> Vec<Vec<u8>> {
        let soa = Record {
            owner: Name::parse("example.org").unwrap(),
            rtype: Rtype::SOA,
            class: 1,
            ttl: 300,
            rdata: [[0; 2].as_slice(), &[0, 0, 1, 44].repeat(5)].concat().into(),
        };
        let edge = Name::parse("edge.example.org").unwrap();
        let mut reply = answer_with(query, &[alias(&qname_of(query), &edge), soa]);
        // The SOA stands in the authority section.
        (reply[7], reply[9]) = (1, 1);
        vec![reply]
    }
    let (isp, witness) = (Fake::start(Habit::Custom(nodata)), Fake::start(Habit::Silent));
    let config = guarded(&[isp.address], &[witness.address], "enforce").replace("2s", "250ms");
    let daemon = Daemon::start(&config);
    let answer = ask_type(daemon.address, "www.example.org", Rtype::AAAA);
    let types: Vec<_> = answer.answers().iter().map(|record| record.rtype).collect();
    assert_eq!((answer.rcode(), types, answer.ede()), (Rcode::NOERROR, vec![Rtype::CNAME], Some(0)));
    assert_eq!(ask(daemon.address, "www.example.org").rcode(), Rcode::SERVFAIL, "no IPv4 address either is a denial");
}

#[test]
fn while_only_a_lie_is_at_hand_the_trusted_answer_is_waited_for() {
    let isp = Fake::start(Habit::Address([10, 10, 34, 34].into(), 300));
    let late = Habit::Slow(std::time::Duration::from_millis(600), Box::new(Habit::Address(TRUE.into(), 300)));
    let witness = Fake::start(late);
    let config = guarded(&[isp.address], &[witness.address], "enforce").replace("2s", "100ms");
    let daemon = Daemon::start(&config);
    let answer = ask(daemon.address, "www.example.org");
    assert_eq!((answer.rcode(), answer.addresses(), answer.ede()), (Rcode::NOERROR, vec![text(TRUE)], None));
}

#[test]
fn on_a_network_with_nat64_names_without_ipv6_addresses_keep_those_made_there() {
    let name = |text: &str| Name::parse(text).unwrap();
    let aaaa = |owner: &str, prefix: [u8; 12], address: [u8; 4]| Record {
        owner: name(owner),
        rtype: Rtype::AAAA,
        class: 1,
        ttl: 300,
        rdata: [prefix.as_slice(), &address].concat().into(),
    };
    let well_known = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];
    let own = [0x2a, 0, 0x10, 0x98, 0, 0x2c, 0, 0, 0, 0, 0, 0];
    let slow = |record| Habit::Slow(std::time::Duration::from_millis(100), Box::new(Habit::Records(vec![record])));
    let lan = Fake::start(Habit::Silent)
        .with("well.example.org", slow(aaaa("well.example.org", well_known, TRUE)))
        .with("own.example.org", slow(aaaa("own.example.org", own, TRUE)))
        .with("forged.example.org", slow(aaaa("forged.example.org", own, FORGED)));
    let witness = Fake::start(Habit::Address(TRUE.into(), 300));
    let daemon = Daemon::start(&guarded(&[lan.address], &[witness.address], "enforce"));
    // Behind a global prefix, which may be anybody's, they are marked and not kept for long.
    for (asked, expected, marked, longest) in
        [("well", Some(well_known), None, 300), ("own", Some(own), Some(0), 30), ("forged", None, None, 300)]
    {
        let answer = ask_type(daemon.address, &format!("{asked}.example.org"), Rtype::AAAA);
        let data: Vec<Vec<u8>> = answer.answers().iter().map(|record| record.rdata.to_vec()).collect();
        let expected: Vec<Vec<u8>> = expected.iter().map(|prefix| [prefix.as_slice(), &TRUE].concat()).collect();
        assert_eq!((answer.rcode(), data, answer.ede()), (Rcode::NOERROR, expected, marked), "{asked}");
        assert!(answer.answers().iter().all(|record| record.ttl <= longest), "{asked}");
    }
    // And once for a name that nobody has.
    assert_eq!(lan.asked().len() as u64, 3 + counter(&daemon, "guard_nobody_asked_total"));
}

#[test]
fn where_everything_is_guarded_the_own_network_keeps_its_names() {
    let lan = Fake::start(Habit::Address([192, 168, 1, 7].into(), 300));
    let witnesses = ["127.0.0.1", "127.1.0.1"].map(|ip| Fake::start_at(ip.parse().unwrap(), Habit::NxDomain(60)));
    let config = guarded(&[lan.address], &witnesses.each_ref().map(|fake| fake.address), "enforce");
    let config = config.replace("[default]\n", "[default]\nguard = \"enforce\"\n");
    let daemon = Daemon::start(&config);
    let inside = ask(daemon.address, "nas.example.net");
    assert_eq!((inside.addresses(), inside.ede()), (vec!["192.168.1.7".to_owned()], None));
    let public = ask(daemon.address, "www.example.org");
    assert_eq!((public.rcode(), public.addresses()), (Rcode::NXDOMAIN, Vec::new()), "a route says that it is public");
}

#[test]
fn what_answers_were_and_became_is_kept_over_a_restart() {
    let isp = Fake::start(Habit::Address(TRUE.into(), 300));
    let witness = Fake::start(Habit::Address(TRUE.into(), 300));
    let mut daemon = Daemon::start(&guarded(&[isp.address], &[witness.address], "enforce"));
    assert_eq!(said(&daemon, &["incidents", "changes"]).1, "no answer of a guarded name has changed\n");
    ask(daemon.address, "www.example.org");
    eventually("it is judged", || counter(&daemon, "guard_consistent_total") == 1);
    for fake in [&isp, &witness] {
        fake.becomes(Habit::Address([93, 184, 216, 99].into(), 300));
    }
    flush(&daemon);
    ask(daemon.address, "www.example.org");
    let changes = |daemon: &Daemon| get(&control_socket(daemon), "/changes").json()["changes"].clone();
    eventually("the change is noted", || changes(&daemon).as_array().is_some_and(|all| all.len() == 1));
    let change = &changes(&daemon)[0];
    assert_eq!((&change["was"], &change["became"]), (&text(TRUE).into(), &"93.184.216.99".into()));
    assert_eq!((&change["name"], &change["type"]), (&"www.example.org.".into(), &"A".into()));
    assert!(change["became_from"].as_str().is_some_and(|from| from.contains('/')), "{change}");
    let (_, listed) = said(&daemon, &["incidents", "changes", "www.example.org"]);
    assert!(listed.contains("93.184.216.34") && listed.contains("93.184.216.99"), "{listed}");
    assert_eq!(
        said(&daemon, &["incidents", "changes", "other.example.org"]).1,
        "no answer of a guarded name has changed\n"
    );
    assert_eq!(get(&stats_socket(&daemon), "/changes").status, 403, "names are for the control socket");
    let before = changes(&daemon);
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    assert_eq!(changes(&daemon.again()), before);
}
