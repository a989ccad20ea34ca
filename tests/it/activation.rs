//! Sockets inherited from the service manager (docs/architecture.md, listen).

use crate::support::client::{ask, connect, query, read_frame, write_frame};
use crate::support::daemon::Daemon;
use nix::sys::signal::Signal;
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;
use truename::dns::{Rcode, Rtype};

const ZONE: &str =
    "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"@\", type = \"A\", value = \"10.0.0.1\" }]\n";

/// What a service manager has open: both protocols on one port.
pub(crate) fn sockets() -> (UdpSocket, TcpListener) {
    // A port that is free for one protocol may be taken for the other.
    let pair = std::iter::repeat_with(|| {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        UdpSocket::bind(tcp.local_addr().unwrap()).map(|udp| (udp, tcp))
    });
    pair.take(32).find_map(Result::ok).expect("a port free for both")
}

#[test]
fn inherited_sockets_are_served_and_the_default_addresses_are_not_bound_beside_them() {
    let (udp, tcp) = sockets();
    let daemon = Daemon::start_inheriting(ZONE, &udp, &tcp);
    assert_eq!(daemon.address, udp.local_addr().unwrap());
    assert_eq!(daemon.listening().len(), 2, "{}", daemon.log());
    assert_eq!(ask(daemon.address, "lab.example").addresses(), ["10.0.0.1"]);
    let mut stream = connect(daemon.address);
    write_frame(&mut stream, &query("lab.example", Rtype::A, 7));
    assert_eq!(read_frame(&mut stream).unwrap().addresses(), ["10.0.0.1"]);
}

#[test]
fn what_comes_during_a_restart_waits_in_the_inherited_sockets() {
    let (udp, tcp) = sockets();
    let mut first = Daemon::start_inheriting(ZONE, &udp, &tcp);
    assert_eq!(ask(first.address, "lab.example").rcode(), Rcode::NOERROR);
    first.signal(Signal::SIGKILL);
    first.wait();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(first.address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.send(&query("lab.example", Rtype::A, 9)).unwrap();
    let mut stream = connect(first.address);
    write_frame(&mut stream, &query("lab.example", Rtype::A, 8));
    let _second = Daemon::start_inheriting(ZONE, &udp, &tcp);
    let mut reply = [0; 512];
    let len = client.recv(&mut reply).unwrap();
    assert_eq!((&reply[..2], len > 12), (&[0, 9][..], true));
    assert_eq!(read_frame(&mut stream).unwrap().addresses(), ["10.0.0.1"]);
}

#[test]
fn a_reload_keeps_inherited_sockets_also_when_the_configuration_does_not_name_them() {
    let (udp, tcp) = sockets();
    let daemon = Daemon::start_inheriting(ZONE, &udp, &tcp);
    daemon.reload(&format!("[server]\nlisten = [\"127.0.0.1:0\"]\n{ZONE}"));
    crate::support::eventually("the reload is over", || !daemon.events("reloaded").is_empty());
    assert_eq!(ask(daemon.address, "lab.example").addresses(), ["10.0.0.1"]);
    let added = daemon.listening().into_iter().find(|(address, _)| *address != daemon.address).unwrap().0;
    assert_eq!(ask(added, "lab.example").addresses(), ["10.0.0.1"]);
}
