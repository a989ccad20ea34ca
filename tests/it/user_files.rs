//! Files change while the daemon runs: what is read again, when, and what that leaves alone (docs/promises.md 2).

use crate::support::client::{ask, exchange_from, query};
use crate::support::daemon::{Daemon, forward_to};
use crate::support::eventually;
use crate::support::fake::Fake;
use std::net::Ipv4Addr;
use std::time::Duration;
use truename::dns::{Rcode, Rtype};

const HOSTS: &str = "[hosts]\nfiles = [\"hosts\"]\n";

fn zone(apex: &str, address: &str) -> String {
    format!("[[zone]]\nname = \"{apex}\"\nrecords = [{{ name = \"@\", type = \"A\", value = \"{address}\" }}]\n")
}

fn zone_file(apex: &str) -> String {
    format!("[[zone]]\nname = \"{apex}\"\nfile = \"lab.zone\"\n")
}

fn answers(daemon: &Daemon, name: &str, address: &str) -> bool {
    ask(daemon.address, name).addresses() == [address]
}

#[test]
fn an_edited_hosts_file_is_answered_anew_without_a_signal() {
    let daemon = Daemon::start_with(HOSTS, &[("hosts", "10.0.0.1 printer.lan\n")], &["127.0.0.1:0"]);
    assert!(answers(&daemon, "printer.lan", "10.0.0.1"));
    daemon.write("hosts", "10.0.0.2 printer.lan\n");
    eventually("a file in the old one's place is read", || answers(&daemon, "printer.lan", "10.0.0.2"));
    std::fs::write(daemon.folder.path().join("hosts"), "10.0.0.3 printer.lan\n").unwrap();
    eventually("a file written in place is read", || answers(&daemon, "printer.lan", "10.0.0.3"));
}

#[test]
fn a_changed_zone_or_included_file_is_answered_anew() {
    let files = [("lab.zone", "$INCLUDE more.zone\na A 10.0.0.1\n"), ("more.zone", "b A 10.0.0.1\n")];
    let daemon = Daemon::start_with(&zone_file("lab.example"), &files, &["127.0.0.1:0"]);
    assert!(answers(&daemon, "b.lab.example", "10.0.0.1"));
    daemon.write("more.zone", "b A 10.0.0.2\n");
    eventually("the included file is read", || answers(&daemon, "b.lab.example", "10.0.0.2"));
    daemon.write("lab.zone", "a A 10.0.0.3\n");
    eventually("the zone file is read", || answers(&daemon, "a.lab.example", "10.0.0.3"));
    assert_eq!(ask(daemon.address, "b.lab.example").rcode(), Rcode::NXDOMAIN);
}

#[test]
fn a_changed_main_file_changes_nothing_until_sighup() {
    let with = |address: &str| format!("{HOSTS}{}", zone("lab.example", address));
    let daemon = Daemon::start_with(&with("10.0.0.1"), &[("hosts", "10.0.0.1 printer.lan\n")], &["127.0.0.1:0"]);
    daemon.write("truename.toml", &with("10.0.0.2"));
    daemon.write("hosts", "10.0.0.2 printer.lan\n");
    eventually("the hosts file is read", || answers(&daemon, "printer.lan", "10.0.0.2"));
    assert!(answers(&daemon, "lab.example", "10.0.0.1"), "only a signal makes the main file count");
    // Not even one that could not be used.
    daemon.write("truename.toml", "nonsense = true\n");
    daemon.write("hosts", "10.0.0.3 printer.lan\n");
    eventually("the hosts file is read", || answers(&daemon, "printer.lan", "10.0.0.3"));
    assert!(!daemon.log().contains("nonsense"), "{}", daemon.log());
    daemon.reload(&with("10.0.0.4"));
    eventually("SIGHUP reads the main file", || answers(&daemon, "lab.example", "10.0.0.4"));
}

#[test]
fn a_file_is_not_kept_back_by_errors_in_files_it_has_nothing_to_do_with() {
    let (office, public) = (Fake::address([192, 0, 2, 1]), Fake::address([192, 0, 2, 2]));
    let config = format!(
        "{}{}[upstream.office]\nservers = [\"{}\"]\n[[route]]\nname = \"listed\"\nnames_from = [{{ path = \"names\", format = \"domains\" }}]\nupstream = \"office\"\n",
        forward_to(&[public.address]),
        zone_file("lab.example"),
        office.address
    );
    let files = [("names", "one.example.org\n"), ("lab.zone", "@ A 10.0.0.1\n")];
    let daemon = Daemon::start_with(&config, &files, &["127.0.0.1:0"]);
    assert!(answers(&daemon, "one.example.org", "192.0.2.1") && answers(&daemon, "two.example.org", "192.0.2.2"));
    daemon.write("lab.zone", "@ A ten\n");
    eventually("the zone file is refused", || {
        !daemon.events("reload refused; the configuration in force stays").is_empty()
    });
    assert!(answers(&daemon, "lab.example", "10.0.0.1"), "nothing is half-loaded");
    daemon.write("names", "one.example.org\ntwo.example.org\n");
    eventually("the list is read", || answers(&daemon, "two.example.org", "192.0.2.1"));
    assert!(answers(&daemon, "lab.example", "10.0.0.1"));
}

#[test]
fn every_problem_of_a_refused_reload_is_logged_and_nothing_of_it_counts() {
    let good = format!("{}{HOSTS}", zone_file("lab.example"));
    let files = [("lab.zone", "@ A 10.0.0.1\n"), ("hosts", "10.0.0.1 printer.lan\n")];
    let daemon = Daemon::start_with(&good, &files, &["127.0.0.1:0"]);
    // One problem in every line of the main file, so many that a rate limit would keep some back.
    let broken: String = (0..40).map(|n| format!("wrong_{n} = true\n")).collect();
    daemon.write("hosts", "10.0.0.2 printer.lan\n");
    daemon.reload(&format!("{broken}{good}"));
    let refused = || daemon.events("reload refused; the configuration in force stays");
    eventually("the reload is refused", || !refused().is_empty());
    let told = daemon.events("problem in the configuration");
    for n in 0..40 {
        let (key, at) = (format!("wrong_{n}"), format!("truename.toml:{}:", n + 1));
        let names = |fields: &serde_json::Value| {
            fields.to_string().contains(&key) && fields["at"].as_str().is_some_and(|text| text.contains(&at))
        };
        assert!(told.iter().any(names), "{key}: {told:?}");
    }
    assert!(answers(&daemon, "lab.example", "10.0.0.1"));
}

#[test]
fn listeners_come_and_go_with_a_reload() {
    let config = |listen: &str| format!("[server]\nlisten = [{listen}]\n{}", zone("lab.example", "10.0.0.1"));
    let daemon = Daemon::start_with(&config("\"127.0.0.1:0\""), &[], &[]);
    let first = daemon.address;
    assert!(answers(&daemon, "lab.example", "10.0.0.1"));
    daemon.reload(&config("\"127.0.0.1:0\", \"127.0.0.2:0\""));
    eventually("the second address is listened on", || daemon.listening().len() == 4);
    let second = daemon.listening()[2].0;
    assert_eq!(second.ip(), Ipv4Addr::new(127, 0, 0, 2));
    eventually("it answers", || ask(second, "lab.example").addresses() == ["10.0.0.1"]);
    assert!(answers(&daemon, "lab.example", "10.0.0.1"), "the first goes on");
    daemon.reload(&config("\"127.0.0.2:0\""));
    let message = query("lab.example", Rtype::A, 7);
    eventually("the first is given up", || {
        exchange_from(Ipv4Addr::LOCALHOST.into(), first, &message, Duration::from_millis(200)).is_none()
    });
    assert_eq!(ask(second, "lab.example").addresses(), ["10.0.0.1"]);
    // The listener goes before the reload is told.
    eventually("the reload is told", || daemon.reloads() == 2);
    // An address of nobody's: refused as a whole.
    let reloads = daemon.reloads();
    daemon.reload(&config("\"127.0.0.2:0\", \"192.0.2.1:53\"").replace("10.0.0.1", "10.0.0.2"));
    eventually("the reload is refused", || daemon.log().contains("192.0.2.1:53"));
    assert_eq!((ask(second, "lab.example").addresses(), daemon.reloads()), (vec!["10.0.0.1".to_owned()], reloads));
}

#[test]
fn a_changed_route_takes_its_entries_out_of_the_cache_and_leaves_the_others() {
    let fakes = [1, 2, 3].map(|last| Fake::address([192, 0, 2, last]));
    let config = |office: &Fake| {
        format!(
            "{}[upstream.office]\nservers = [\"{}\"]\n[[route]]\nnames = [\"corp.example\"]\nupstream = \"office\"\n",
            forward_to(&[fakes[0].address]),
            office.address
        )
    };
    let daemon = Daemon::start(&config(&fakes[1]));
    assert!(answers(&daemon, "git.corp.example", "192.0.2.2") && answers(&daemon, "www.example.org", "192.0.2.1"));
    daemon.reload(&config(&fakes[2]));
    eventually("the route leads to the third server", || answers(&daemon, "git.corp.example", "192.0.2.3"));
    assert!(answers(&daemon, "www.example.org", "192.0.2.1"));
    assert_eq!(fakes[0].count("www.example.org"), 1, "the other entry is still there");
}

#[test]
fn the_level_of_the_log_follows_a_reload() {
    let daemon = Daemon::start(&zone("lab.example", "10.0.0.1"));
    ask(daemon.address, "first.lab.example");
    daemon.reload(&format!("[log]\nlevel = \"debug\"\n{}", zone("lab.example", "10.0.0.1")));
    eventually("the reload", || daemon.reloads() == 1);
    ask(daemon.address, "second.lab.example");
    eventually("debug lines tell of questions", || daemon.log().contains("second.lab.example"));
    assert!(!daemon.log().contains("first.lab.example"));
}
