//! On machines of all kinds: without a network, behind a stub, pointed at ourselves, moved to another network. The machines
//! are made up; see `support::machine`.

use crate::support::daemon::Daemon;
use crate::support::machine::Machine;
use crate::support::{eventually, timed};
use std::time::Duration;

/// Where the daemon under test listens on its machine.
const US: &str = "127.0.0.1:53";

/// Starts a resolver of the machine's network that gives every name of example.org this address.
pub(crate) fn resolver(machine: &Machine, at: &str, address: &str) -> Daemon {
    let zone = format!(
        "[[zone]]\nname = \"example.org\"\nrecords = [{{ name = \"*\", type = \"A\", value = \"{address}\" }}]\n\
         [hosts]\nfiles = []\n[server.access]\nallow = [\"10.0.0.0/8\"]\n"
    );
    machine.daemon(&zone, &[at])
}

/// Starts the daemon under test with nothing configured.
fn bare(machine: &Machine) -> Daemon {
    machine.daemon("", &[US])
}

#[test]
fn without_a_network_it_starts_serves_what_is_local_and_says_why_it_cannot_serve_the_rest() {
    for resolv_conf in [None, Some("nameserver 192.0.2.53\nsearch corp.example\n")] {
        let Some(machine) = Machine::make(&[]) else { return };
        machine.write("/etc/hosts", "10.0.0.7 printer.lan\n");
        if let Some(text) = resolv_conf {
            machine.write("/etc/resolv.conf", text);
        }
        let _daemon = bare(&machine);
        assert_eq!(machine.addresses(US, "printer.lan"), ["10.0.0.7"]);
        assert_eq!(machine.addresses(US, "localhost"), ["127.0.0.1"]);
        assert_eq!(machine.ask(US, "anything.invalid")["rcode"], "NXDOMAIN");
        let (answer, took) = timed(|| machine.ask(US, "www.example.org"));
        assert_eq!(answer["rcode"], "SERVFAIL", "{answer}");
        assert!(answer["ede"]["code"].is_number() && answer["ede"]["text"] != "", "{answer}");
        assert!(took < Duration::from_millis(4800), "{took:?}");
    }
}

#[test]
fn behind_a_stub_the_resolvers_are_read_from_its_list() {
    let Some(machine) = Machine::make(&["10.53.0.1/32"]) else { return };
    machine.write("/etc/resolv.conf", "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch corp.example\n");
    machine.write("/run/systemd/resolve/resolv.conf", "nameserver 10.53.0.1\n");
    let _office = resolver(&machine, "10.53.0.1:53", "192.0.2.7");
    let _daemon = bare(&machine);
    // The answer of a private server to a name that is not its own; a public address is believed from anybody.
    assert_eq!(machine.addresses(US, "www.example.org"), ["192.0.2.7"]);
}

#[test]
fn a_machine_pointed_at_us_is_served_by_the_resolvers_it_had() {
    let Some(machine) = Machine::make(&["10.53.0.1/32"]) else { return };
    machine.write("/etc/resolv.conf", "nameserver 10.53.0.1\n");
    let _office = resolver(&machine, "10.53.0.1:53", "192.0.2.7");
    let daemon = bare(&machine);
    machine.write("/etc/resolv.conf", "nameserver 127.0.0.1\n");
    eventually("the change is noticed", || daemon.reloads() == 1);
    assert_eq!(machine.addresses(US, "www.example.org"), ["192.0.2.7"]);
}

#[test]
fn a_machine_that_names_only_us_is_told_at_once() {
    let Some(machine) = Machine::make(&[]) else { return };
    machine.write("/etc/resolv.conf", "nameserver 127.0.0.1\n");
    let daemon = bare(&machine);
    assert!(daemon.log().contains("our own address was left out"), "{}", daemon.log());
    let (answer, took) = timed(|| machine.ask(US, "www.example.org"));
    assert_eq!(answer["rcode"], "SERVFAIL", "{answer}");
    assert!(took < Duration::from_millis(4800), "{took:?}");
}

#[test]
fn the_resolvers_of_another_network_are_followed() {
    let Some(machine) = Machine::make(&["10.53.0.1/32", "10.53.0.2/32"]) else { return };
    machine.write("/etc/hosts", "");
    let _first = resolver(&machine, "10.53.0.1:53", "192.0.2.1");
    let _second = resolver(&machine, "10.53.0.2:53", "192.0.2.2");
    let daemon = bare(&machine);
    assert_eq!(machine.ask(US, "www.example.org")["rcode"], "SERVFAIL", "there is no resolv.conf yet");
    for (server, address) in [("10.53.0.1", "192.0.2.1"), ("10.53.0.2", "192.0.2.2")] {
        let before = daemon.reloads();
        machine.write("/etc/resolv.conf", &format!("nameserver {server}\n"));
        eventually("the change is noticed", || daemon.reloads() > before);
        assert_eq!(machine.addresses(US, "www.example.org"), [address], "nothing of the other network is left");
    }
}
