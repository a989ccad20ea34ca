//! What the daemon does when the system gives it nothing more, or when it is told to ask itself.

use crate::activation::sockets;
use crate::control::stats_socket;
use crate::support::client::{ask, connect, query, read_frame, write_frame};
use crate::support::daemon::{Daemon, forward_to};
use crate::support::fake::{Fake, Habit};
use crate::support::http::get;
use crate::support::{eventually, timed};
use std::time::Duration;
use truename::dns::{Rcode, Rtype};

/// Lines about failed accepts waited for. The pauses before the seventh double from 20 ms to 640 ms: 1.26 s in all.
const FAILURES: usize = 7;

#[test]
fn without_file_descriptors_accepting_pauses_and_goes_on_later() {
    let fake = Fake::start(Habit::Address([192, 0, 2, 7].into(), 60));
    let zone = "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"@\", type = \"A\", value = \"10.0.0.1\" }]\n";
    let daemon = Daemon::start(&format!("[log]\nlevel = \"debug\"\n{}{zone}", forward_to(&[fake.address])));
    assert_eq!(ask(daemon.address, "lab.example").addresses(), ["10.0.0.1"]);
    daemon.limit_files(first_free_descriptor(&daemon));
    let ((), took) = timed(|| {
        // The kernel completes the connection; the daemon cannot take it.
        let mut stream = connect(daemon.address);
        write_frame(&mut stream, &query("lab.example", Rtype::A, 1));
        eventually("accepting failed again and again", || daemon.events("accept failed").len() >= FAILURES);
        // Datagrams are answered all the same; what needs a descriptor gets an answer too.
        assert_eq!(ask(daemon.address, "lab.example").addresses(), ["10.0.0.1"]);
        let response = ask(daemon.address, "www.example.org");
        assert!([Rcode::SERVFAIL, Rcode::NOERROR].contains(&response.rcode()));
        daemon.limit_files(1024);
        assert_eq!(read_frame(&mut stream).expect("it is served at last").addresses(), ["10.0.0.1"]);
    });
    assert!(took >= Duration::from_millis(1200), "{FAILURES} failures took {took:?}: there was no pause");
    assert_eq!(ask(daemon.address, "new.example.org").addresses(), ["192.0.2.7"]);
}

/// Asks a daemon that has no upstream but itself: that question is the only one it gets.
fn asks_nobody(daemon: &Daemon, name: &str) {
    eventually("the sockets are there", || daemon.events("control socket").len() == 2);
    let total = || get(&stats_socket(daemon), "/stats?section=queries").json()["queries"]["total"].as_u64().unwrap();
    let before = total();
    let response = ask(daemon.address, name);
    assert_eq!((response.rcode(), response.ede().is_some()), (Rcode::SERVFAIL, true), "{name}");
    assert_eq!(total() - before, 1, "{name}: {}", daemon.log());
}

#[test]
fn inherited_sockets_and_addresses_bound_at_a_reload_are_known_as_its_own() {
    let (udp, tcp) = sockets();
    let own = udp.local_addr().unwrap();
    let daemon = Daemon::start_inheriting(&forward_to(&[own]), &udp, &tcp);
    asks_nobody(&daemon, "a.example.org");
    let added = "[server]\nlisten = [\"127.0.0.1:0\"]\n";
    daemon.reload(&format!("{added}{}", forward_to(&[own])));
    eventually("another address is listened on", || daemon.reloads() == 1);
    asks_nobody(&daemon, "b.example.org");
    let other = daemon.listening().into_iter().find(|(address, _)| *address != own).unwrap().0;
    daemon.reload(&format!("{added}{}", forward_to(&[own, other])));
    eventually("it is an upstream", || daemon.reloads() == 2);
    asks_nobody(&daemon, "c.example.org");
}

#[test]
fn its_own_address_as_an_upstream_is_never_asked() {
    // A port that the system chose: no configuration says which.
    let daemon = Daemon::start("");
    let own = daemon.address;
    daemon.reload(&forward_to(&[own]));
    eventually("the new configuration is in force", || !daemon.events("reloaded").is_empty());
    asks_nobody(&daemon, "www.example.org");

    let fake = Fake::start(Habit::Address([192, 0, 2, 7].into(), 60));
    daemon.reload(&forward_to(&[own, fake.address]));
    eventually("the other server is asked", || ask(own, "www.example.org").addresses() == ["192.0.2.7"]);
    assert_eq!(ask(own, "new.example.org").addresses(), ["192.0.2.7"]);
}

/// Returns the lowest number no descriptor of the daemon has: a limit that lets none be made.
/// Returns the lowest number that is free once the daemon is through with what it does at its start.
fn first_free_descriptor(daemon: &Daemon) -> usize {
    let folder = format!("/proc/{}/fd", daemon.pid());
    eventually("its configuration is kept", || daemon.folder().join("last-good.json").exists());
    let open =
        || std::fs::read_dir(&folder).expect("a folder").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let (mut last, mut same) = (std::collections::BTreeSet::new(), 0);
    eventually("no file comes or goes", || {
        let now: std::collections::BTreeSet<String> = open().collect();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same >= 10
    });
    (0..).find(|number: &usize| !last.contains(&number.to_string())).expect("there is no end")
}
