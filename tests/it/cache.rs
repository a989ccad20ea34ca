//! What outlives its TTL, its upstreams and its process (docs/promises.md 1, 2, 7).

use crate::support::client::{ask, exchange, plain_query};
use crate::support::daemon::{Daemon, forward_to};
use crate::support::eventually;
use crate::support::fake::{Fake, Habit};
use nix::sys::signal::Signal;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use truename::dns::{Rcode, Rtype};

const TRUE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// EDE "Stale Answer".
const STALE: Option<u16> = Some(3);

#[test]
fn a_stale_answer_is_given_when_the_upstream_has_died() {
    let fake = Fake::start(Habit::Address(TRUE_ADDRESS, 1));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.1"]);
    fake.becomes(Habit::Silent);
    eventually("the answer is past its TTL of 1 s", || ask(daemon.address, "www.example.org").ede() == STALE);
    let stale = ask(daemon.address, "www.example.org");
    assert_eq!((stale.rcode(), stale.addresses(), stale.ede()), (Rcode::NOERROR, vec!["192.0.2.1".to_owned()], STALE));
    assert!(stale.answers()[0].ttl <= 30);
    let plain = exchange(daemon.address, &plain_query("www.example.org", Rtype::A, 7)).unwrap();
    assert_eq!((plain.addresses(), plain.ede()), (vec!["192.0.2.1".to_owned()], None));
    fake.becomes(Habit::Address(Ipv4Addr::new(192, 0, 2, 2), 300));
    eventually("it is replaced when the upstream is back", || {
        let response = ask(daemon.address, "www.example.org");
        response.addresses() == ["192.0.2.2"] && response.ede().is_none()
    });
}

/// The snapshot of a daemon.
fn snapshot_of(daemon: &Daemon) -> PathBuf {
    daemon.folder.path().join("cache.snapshot")
}

#[test]
fn sigterm_and_a_restart_answer_from_the_snapshot_with_dead_upstreams() {
    let fake = Fake::start(Habit::Address(TRUE_ADDRESS, 300));
    let mut daemon = Daemon::start(&forward_to(&[fake.address]));
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.1"]);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait().code(), Some(0));
    let mode = std::fs::metadata(snapshot_of(&daemon)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "names that people looked up are in it");
    fake.becomes(Habit::Silent);
    let daemon = daemon.again();
    eventually("the cache is restored", || !daemon.events("cache restored from its snapshot").is_empty());
    let response = ask(daemon.address, "www.example.org");
    assert_eq!((response.addresses(), response.ede()), (vec!["192.0.2.1".to_owned()], None));
    assert!(response.answers()[0].ttl <= 300);
    assert_eq!(fake.count("www.example.org"), 1, "nobody was asked again");
}

#[test]
fn kill_9_and_a_restart_answer_from_the_snapshot_with_dead_upstreams() {
    let fake = Fake::start(Habit::Address(TRUE_ADDRESS, 300));
    let mut daemon = Daemon::start(&forward_to(&[fake.address]));
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.1"]);
    eventually("what is new is written by itself", || snapshot_of(&daemon).exists());
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    fake.becomes(Habit::Silent);
    let daemon = daemon.again();
    eventually("the cache is restored", || !daemon.events("cache restored from its snapshot").is_empty());
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.1"]);
    assert_eq!(fake.count("www.example.org"), 1, "nobody was asked again");
}

#[test]
fn a_restart_with_another_route_does_not_bring_the_old_answers_back() {
    let (old, new) = (Fake::address([192, 0, 2, 1]), Fake::address([192, 0, 2, 2]));
    let mut daemon = Daemon::start(&forward_to(&[old.address]));
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.1"]);
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    std::fs::write(daemon.config_path(), format!("{}[hosts]\nfiles = []\n", forward_to(&[new.address]))).unwrap();
    let daemon = daemon.again();
    eventually("the cache is restored", || !daemon.events("cache restored from its snapshot").is_empty());
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.2"]);
}

#[test]
fn a_torn_or_foreign_snapshot_is_put_aside_and_said_so() {
    let fake = Fake::start(Habit::Address(TRUE_ADDRESS, 300));
    let mut daemon = Daemon::start(&forward_to(&[fake.address]));
    ask(daemon.address, "www.example.org");
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    let whole = std::fs::read(snapshot_of(&daemon)).unwrap();
    let cases = [("torn", whole[..whole.len() - 3].to_vec()), ("no snapshot", b"[cache]\npersist = true\n".to_vec())];
    for (word, bytes) in cases {
        std::fs::write(snapshot_of(&daemon), &bytes).unwrap();
        let mut next = daemon.again();
        let aside = daemon.folder.path().join("cache.snapshot.bad");
        eventually("it is put aside", || std::fs::read(&aside).is_ok_and(|found| found == bytes));
        assert!(!snapshot_of(&daemon).exists());
        eventually("the log says so", || next.log().contains(word));
        assert_eq!(ask(next.address, "other.example.org").addresses(), ["192.0.2.1"], "it answers all the same");
        next.signal(Signal::SIGKILL);
        next.wait();
    }
}

#[test]
fn a_second_daemon_in_the_same_folder_leaves_the_snapshot_alone_and_says_so() {
    let fake = Fake::start(Habit::Address(TRUE_ADDRESS, 300));
    let taken = "another truename keeps its cache in this folder; this one's cache is not kept across restarts";
    let mut first = Daemon::start(&forward_to(&[fake.address]));
    ask(first.address, "first.example.org");
    eventually("the first one has written", || snapshot_of(&first).exists());
    let written = std::fs::read(snapshot_of(&first)).unwrap();
    let mut second = first.again();
    eventually("the second one says so", || !second.events(taken).is_empty());
    assert_eq!(second.events(taken)[0]["pid"], first.pid());
    assert_eq!(ask(second.address, "second.example.org").addresses(), ["192.0.2.1"]);
    assert!(second.events("cache restored from its snapshot").is_empty());
    second.signal(Signal::SIGTERM);
    assert_eq!(second.wait().code(), Some(0));
    assert_eq!(std::fs::read(snapshot_of(&first)).unwrap(), written);
    // Nor does one that keeps nothing take away what another keeps.
    let config = std::fs::read_to_string(first.config_path()).unwrap();
    std::fs::write(first.config_path(), format!("{config}[cache]\npersist = false\n")).unwrap();
    let third = first.again();
    assert_eq!(ask(third.address, "third.example.org").addresses(), ["192.0.2.1"]);
    assert_eq!(std::fs::read(snapshot_of(&first)).unwrap(), written);
    // When the first one is gone, a reload gives the folder to whoever asks for it.
    first.signal(Signal::SIGKILL);
    first.wait();
    third.reload(&config);
    eventually("it is reloaded", || third.reloads() == 1);
    ask(third.address, "fourth.example.org");
    eventually("it is written by the other one", || {
        std::fs::read(snapshot_of(&first)).is_ok_and(|found| found != written)
    });
}

#[test]
fn without_persist_nothing_is_left_on_disk() {
    let fake = Fake::start(Habit::Address(TRUE_ADDRESS, 300));
    let mut daemon = Daemon::start(&forward_to(&[fake.address]));
    ask(daemon.address, "www.example.org");
    eventually("what is new is written by itself", || snapshot_of(&daemon).exists());
    daemon.reload(&format!("{}[cache]\npersist = false\n", forward_to(&[fake.address])));
    eventually("the file is removed", || !snapshot_of(&daemon).exists());
    ask(daemon.address, "other.example.org");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(!snapshot_of(&daemon).exists());
}
