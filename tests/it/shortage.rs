//! What the daemon does when the system gives it nothing more, or when it is told to ask itself.

use crate::support::client::{ask, connect, query, read_frame, write_frame};
use crate::support::daemon::{Daemon, forward_to};
use crate::support::fake::{Fake, Habit};
use crate::support::{eventually, timed};
use std::process::Command;
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
    let limit_files = |to: usize| {
        let flags = [format!("--pid={}", daemon.pid()), format!("--nofile={to}:1024")];
        assert!(Command::new("prlimit").args(flags).status().expect("util-linux is installed").success());
    };
    limit_files(first_free_descriptor(&daemon));
    let ((), took) = timed(|| {
        // The kernel completes the connection; the daemon cannot take it.
        let mut stream = connect(daemon.address);
        write_frame(&mut stream, &query("lab.example", Rtype::A, 1));
        eventually("accepting failed again and again", || daemon.events("accept failed").len() >= FAILURES);
        // Datagrams are answered all the same; what needs a descriptor gets an answer too.
        assert_eq!(ask(daemon.address, "lab.example").addresses(), ["10.0.0.1"]);
        let response = ask(daemon.address, "www.example.org");
        assert!([Rcode::SERVFAIL, Rcode::NOERROR].contains(&response.rcode()));
        limit_files(1024);
        assert_eq!(read_frame(&mut stream).expect("it is served at last").addresses(), ["10.0.0.1"]);
    });
    assert!(took >= Duration::from_millis(1200), "{FAILURES} failures took {took:?}: there was no pause");
    assert_eq!(ask(daemon.address, "new.example.org").addresses(), ["192.0.2.7"]);
}

#[test]
fn its_own_address_as_an_upstream_is_never_asked() {
    let daemon = Daemon::start("");
    let own = daemon.address;
    daemon.reload(&forward_to(&[own]));
    eventually("the new configuration is in force", || !daemon.events("reloaded").is_empty());
    let response = ask(own, "www.example.org");
    assert_eq!((response.rcode(), response.ede().is_some()), (Rcode::SERVFAIL, true));

    let fake = Fake::start(Habit::Address([192, 0, 2, 7].into(), 60));
    daemon.reload(&forward_to(&[own, fake.address]));
    eventually("the other server is asked", || ask(own, "www.example.org").addresses() == ["192.0.2.7"]);
    assert_eq!(ask(own, "new.example.org").addresses(), ["192.0.2.7"]);
}

/// Returns the lowest number no descriptor of the daemon has: a limit that lets none be made.
fn first_free_descriptor(daemon: &Daemon) -> usize {
    let folder = format!("/proc/{}/fd", daemon.pid());
    (0..).find(|number| std::fs::symlink_metadata(format!("{folder}/{number}")).is_err()).expect("there is no end")
}
