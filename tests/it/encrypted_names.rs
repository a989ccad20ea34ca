//! Servers known by name only: who is asked for the name, what happens when nobody can tell, and a start before there is a
//! network.

use crate::control::stats_socket;
use crate::support::client;
use crate::support::daemon::Daemon;
use crate::support::encrypted::{ADDRESS, Identity, NAME, Pki, Program, Server, free_ports, installed};
use crate::support::eventually;
use crate::support::fake::{Fake as Plain, Habit};
use crate::support::http::get;
use crate::support::machine::Machine;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use truename::dns::{Name, Rcode};

/// Starts unbound as a plain resolver that knows where [`NAME`] is, and gives all names below example.org another address.
fn resolver(folder: &Path, port: u16) -> Option<Program> {
    let path = installed("unbound", &["/usr/sbin/unbound"])?;
    let config = format!(
        "server:\n  interface: 127.0.0.1@{port}\n  do-daemonize: no\n  chroot: \"\"\n  username: \"\"\n  pidfile: \"\"\n  \
         directory: \"{}\"\n  use-syslog: no\n  logfile: \"\"\n  num-threads: 1\n  access-control: 127.0.0.0/8 allow\n  \
         local-zone: \"{NAME}.\" static\n  local-data: \"{NAME}. 300 IN A 127.0.0.1\"\n  \
         local-zone: \"example.org.\" redirect\n  local-data: \"example.org. 300 IN A 192.0.2.9\"\n",
        folder.display()
    );
    let file = folder.join(format!("resolver-{port}.conf"));
    std::fs::write(&file, config).unwrap();
    Some(Program::start(Command::new(path).arg("-d").arg("-c").arg(file), port))
}

/// Writes a configuration: a DoT server by name for everything, and what else there is.
fn by_name(pki: &Pki, port: u16, keys: &str, more: &str) -> String {
    let mut text = format!(
        "[upstream.far]\nservers = [\"tls://{NAME}:{port}\"]\nca_file = \"{}\"\n{keys}\n[default]\nupstream = \"far\"\n\
         [cache]\nmax_entries = 0\n",
        pki.ca_file().display()
    );
    write!(text, "{more}").unwrap();
    text
}

fn identity(pki: &Pki) -> Identity {
    pki.issue(&[NAME], |_| {})
}

#[test]
fn a_name_is_found_by_bootstrap_then_by_servers_of_other_groups_and_never_by_ourselves() {
    let pki = Pki::new();
    let Some(server) = Server::unbound(&identity(&pki)) else { return };
    let [known] = free_ports();
    let Some(_resolver) = resolver(pki.folder.path(), known) else { return };
    let [nobody] = free_ports();
    for (what, keys, more) in [
        ("bootstrap", format!("bootstrap = [\"127.0.0.1:{nobody}\", \"127.0.0.1:{known}\"]"), String::new()),
        ("another group", String::new(), format!("[upstream.office]\nservers = [\"127.0.0.1:{known}\"]\n")),
        (
            "another group after bootstrap",
            format!("bootstrap = [\"127.0.0.1:{nobody}\"]"),
            format!("[upstream.office]\nservers = [\"127.0.0.1:{nobody}\", \"tcp://127.0.0.1:{known}\"]\n"),
        ),
    ] {
        let daemon = Daemon::start(&by_name(&pki, server.dot.port(), &keys, &more));
        let answer = client::ask(daemon.address, "www.example.org");
        assert_eq!(answer.addresses(), [ADDRESS.to_string()], "{what}");
    }
}

#[test]
fn when_nobody_can_tell_it_is_said_and_no_question_comes_back_to_us() {
    let pki = Pki::new();
    let [nobody] = free_ports();
    // We ourselves stand among those who could be asked: as a bootstrap resolver, and as a server of another group.
    let [port] = free_ports();
    let us = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let others = format!("[upstream.system]\nservers = [\"127.0.0.1:{nobody}\", \"{us}\", \"tcp://{us}\"]\n");
    let config = by_name(&pki, 853, &format!("bootstrap = [\"{us}\"]"), &others);
    let daemon = Daemon::start_with(&config, &[], &[&us.to_string()]);
    eventually("the sockets are there", || daemon.events("control socket").len() == 2);
    assert_eq!(client::ask(us, "www.example.org").rcode(), Rcode::SERVFAIL);
    let report = get(&stats_socket(&daemon), "/stats?section=queries").json();
    assert_eq!(report["queries"]["total"], 1, "{}", daemon.log());
}

#[test]
fn a_private_name_is_asked_of_private_servers_only() {
    let pki = Pki::new();
    let Some(server) = Server::unbound(&identity(&pki)) else { return };
    // Loopback is as private as an address can be; the public one leads nowhere, and nothing must be sent there.
    let knows = Plain::start(Habit::Address(Ipv4Addr::LOCALHOST, 300));
    let more = format!(
        "[upstream.office]\nservers = [\"{}\"]\n[[route]]\nnames = [\"{NAME}\"]\nupstream = \"office\"\nprivate = true\n\
         [upstream.system]\nservers = [\"192.0.2.53\"]\n",
        knows.address
    );
    let daemon = Daemon::start(&by_name(&pki, server.dot.port(), "", &more));
    let answer = client::ask(daemon.address, "www.example.org");
    assert_eq!(answer.addresses(), [ADDRESS.to_string()]);
    assert!(knows.count(NAME) >= 1);
    let asked: Vec<Name> = knows.asked().into_iter().map(|asked| asked.qname).collect();
    assert!(asked.iter().all(|name| *name == Name::parse(NAME).unwrap()), "{asked:?}");
}

#[test]
fn a_start_before_the_network_is_there_heals_by_itself() {
    let pki = Pki::new();
    let [port, known] = free_ports();
    let config = by_name(&pki, port, "", &format!("[upstream.office]\nservers = [\"127.0.0.1:{known}\"]\n"));
    let daemon = Daemon::start(&config);
    assert_eq!(client::ask(daemon.address, "www.example.org").rcode(), Rcode::SERVFAIL, "there is nobody");
    // The network comes: first who knows the name, then the server itself.
    let Some(_resolver) = resolver(pki.folder.path(), known) else { return };
    let Some(_server) = Server::unbound_at(&identity(&pki), port) else { return };
    eventually("names are answered", || client::ask(daemon.address, "www.example.org").rcode() == Rcode::NOERROR);
    assert_eq!(client::ask(daemon.address, "www.example.org").addresses(), [ADDRESS.to_string()]);
}

#[test]
fn query_finds_a_server_by_name_as_every_program_of_the_machine_would() {
    let Some(machine) = Machine::make(&["10.53.0.1/32", "10.53.0.2/32"]) else { return };
    machine.write("/etc/resolv.conf", "nameserver 10.53.0.1\n");
    let zone = |address: &str| {
        format!(
            "[[zone]]\nname = \"example.org\"\nrecords = [{{ name = \"*\", type = \"A\", value = \"{address}\" }}]\n\
             [hosts]\nfiles = []\n[server.access]\nallow = [\"10.0.0.0/8\"]\n"
        )
    };
    let _resolver = machine.daemon(&zone("10.53.0.2"), &["10.53.0.1:53"]);
    let _server = machine.daemon(&zone("192.0.2.9"), &["10.53.0.2:53"]);
    let answer = machine.ask("tcp://dns.example.org", "www.example.org");
    assert_eq!(answer["answer"][0]["data"], "192.0.2.9", "{answer}");
    assert_eq!(answer["server"], "tcp://dns.example.org over tcp");
}
