//! By which way connections leave: marks, interfaces, proxies of the environment and proxies with users, with the real binary.

use crate::support::client::{Response, ask};
use crate::support::daemon::{Daemon, binary};
use crate::support::encrypted::{ADDRESS, NAME, Pki, Program, Server, free_ports, installed};
use crate::support::eventually;
use crate::support::far::{FAR, Far, SERVER};
use crate::support::machine::Machine;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use truename::dns::Rcode;

/// Where the daemon under test listens on its machine.
const US: &str = "127.0.0.1:53";
/// What drops all that comes over the first cable, at its far end.
const NOTHING_BY_THE_FIRST_CABLE: &str = "nft add table ip f; \
    nft 'add chain ip f in { type filter hook input priority 0; }'; nft add rule ip f in iif far0 drop";

/// Sends every name to one server, with more keys of the group.
fn config(pki: &Pki, server: &str, more: &str) -> String {
    format!(
        "[upstream.g]\nservers = [\"{server}\"]\nca_file = \"{}\"\n{more}\n[default]\nupstream = \"g\"\n[hosts]\nfiles = []\n",
        pki.ca_file().display()
    )
}

fn beyond() -> [String; 2] {
    [format!("tls://{SERVER}#{NAME}"), format!("https://{SERVER}/dns-query#{NAME}")]
}

fn answered(machine: &Machine, name: &str) {
    let answer = machine.ask(US, name);
    assert_eq!(answer["answer"][0]["data"], ADDRESS.to_string(), "{answer}");
}

#[test]
fn packets_of_connections_have_their_mark_and_none_is_without() {
    let pki = Pki::new();
    let identity = pki.server();
    for server in beyond() {
        let Some(machine) = Machine::make(&[]) else { return };
        let far = Far::make(&machine);
        let (Some(_unbound), Some(_)) = (far.unbound(&identity), installed("nft", &["/usr/sbin/nft"])) else { return };
        far.plug_in(0);
        machine.run(&format!(
            "nft add table ip m; nft 'add chain ip m out {{ type filter hook output priority 0; }}'; \
             nft add rule ip m out ip daddr {SERVER} meta mark 0x77 counter comment marked; \
             nft add rule ip m out ip daddr {SERVER} meta mark != 0x77 counter comment bare"
        ));
        let _daemon = machine.daemon(&config(&pki, &server, "mark = 0x77"), &[US]);
        answered(&machine, "a.example.org");
        let rules = machine.run("nft list table ip m");
        let packets = |comment: &str| -> u64 {
            let rule = rules.lines().find(|line| line.contains(&format!("\"{comment}\""))).expect("our rule");
            let count = rule.split_once("packets ").expect("a counter").1.split(' ').next();
            count.expect("a number").parse().expect("a number")
        };
        assert!(packets("marked") >= 4, "{rules}");
        assert_eq!(packets("bare"), 0, "{rules}");
    }
}

#[test]
fn connections_leave_by_the_interface_that_is_written_whatever_the_routes_say() {
    let pki = Pki::new();
    let identity = pki.server();
    for server in beyond() {
        let Some(machine) = Machine::make(&[]) else { return };
        let far = Far::make(&machine);
        let (Some(_unbound), Some(_)) = (far.unbound(&identity), installed("nft", &["/usr/sbin/nft"])) else { return };
        far.plug_in(1);
        far.plug_in(0);
        machine.run(&format!("ip route add {SERVER} via {} dev near1 metric 100", FAR[1]));
        far.run(NOTHING_BY_THE_FIRST_CABLE);
        let _daemon = machine.daemon(&config(&pki, &server, "interface = \"near1\""), &[US]);
        answered(&machine, "a.example.org");
    }
}

#[test]
fn a_mark_that_may_not_be_set_is_said_and_nothing_is_sent_without_it() {
    // As root on the real machine there is nothing to show.
    let Some(machine) = Machine::make(&[]) else { return };
    let pki = Pki::new();
    let far = Far::make(&machine);
    let Some(_unbound) = far.unbound(&pki.server()) else { return };
    far.plug_in(0);
    let file = pki.folder.path().join("truename.toml");
    std::fs::write(&file, config(&pki, &beyond()[0], "mark = 0x77")).unwrap();
    let asking = |drop: &[&str]| {
        let mut command = machine.enter("setpriv");
        command.args(drop).arg("--").arg(binary().get_program()).args([
            "query",
            "www.example.org",
            "--trace",
            "--config",
        ]);
        String::from_utf8(command.arg(&file).output().unwrap().stdout).unwrap()
    };
    assert!(asking(&[]).contains(&ADDRESS.to_string()));
    let said = asking(&["--bounding-set=-net_admin,-net_raw", "--inh-caps=-net_admin,-net_raw"]);
    assert!(said.contains("`mark` 119") && said.contains("ermitted"), "{said}");
}

/// Asks a daemon with these variables in its environment.
fn asked_with(variables: &[(&str, &str)], config: &str) -> Response {
    let mut command = binary();
    command.envs(variables.iter().copied());
    let daemon = Daemon::start_by(command, config, &["127.0.0.1:0"]);
    ask(daemon.address, "www.example.org")
}

#[test]
fn proxies_of_the_environment_carry_connections_and_exceptions_go_without() {
    let pki = Pki::new();
    let (Some(server), Some(path)) =
        (Server::unbound(&pki.server()), installed("microsocks", &["/usr/bin/microsocks"]))
    else {
        return;
    };
    let [there, nobody] = free_ports();
    let _proxy = Program::start(Command::new(path).args(["-i", "127.0.0.1", "-p", &there.to_string()]), there);
    let [there, nobody] = [there, nobody].map(|port| format!("socks5://127.0.0.1:{port}"));
    let at =
        |scheme: &str, address: SocketAddr| config(&pki, &format!("{scheme}://{address}#{NAME}"), "proxy = \"env\"");
    let (dot, doh) = (at("tls", server.dot), at("https", server.doh));
    for (variables, config, answers) in [
        (vec![], &dot, true),
        (vec![("ALL_PROXY", &*there)], &dot, true),
        (vec![("ALL_PROXY", &*there)], &doh, true),
        (vec![("ALL_PROXY", &*nobody)], &dot, false),
        (vec![("ALL_PROXY", &*nobody)], &doh, false),
        (vec![("ALL_PROXY", &*nobody), ("HTTPS_PROXY", &*there)], &doh, true),
        (vec![("ALL_PROXY", &*there), ("all_proxy", &*nobody)], &dot, false),
        (vec![("ALL_PROXY", &*nobody), ("NO_PROXY", "10.0.0.0/8, 127.0.0.0/8")], &dot, true),
        (vec![("ALL_PROXY", &*nobody), ("NO_PROXY", "10.0.0.0/8")], &dot, false),
        (vec![("ALL_PROXY", "ftp://127.0.0.1:1")], &dot, false),
    ] {
        let response = asked_with(&variables, config);
        let expected: &[String] = if answers { &[ADDRESS.to_string()] } else { &[] };
        assert_eq!(response.addresses(), expected, "{variables:?}");
        assert_eq!(response.rcode() == Rcode::SERVFAIL, !answers, "{variables:?}");
    }
}

#[test]
fn dante_carries_dot_doh_and_tcp_for_who_knows_the_password() {
    let pki = Pki::new();
    let Some(program) = installed("danted", &["/usr/sbin/danted"]) else { return };
    let Some(machine) = Machine::make(&[]) else { return };
    let far = Far::make(&machine);
    let Some(_unbound) = far.unbound(&pki.server()) else { return };
    far.plug_in(0);
    // `openssl passwd -6 -salt truename s3cret`
    let hash = "$6$truename$.Rs17a1rdesnEGPXZtJVzF.aSBEQygzARcZxi9WUcFg0fIGbKdK/K5G90wMjLeVXSUsPHHN9rJKGGuk9/YtPV.";
    machine.write("/etc/passwd", "root:x:0:0::/:/bin/sh\nanna:x:0:0::/:/bin/sh\n");
    machine.write("/etc/group", "root:x:0:\n");
    machine.write("/etc/shadow", &format!("root:*:1::::::\nanna:{hash}:19000::::::\n"));
    machine.write(
        "/etc/danted.conf",
        "logoutput: stderr\ninternal: 127.0.0.1 port = 1080\nexternal: near0\nclientmethod: none\nsocksmethod: username\n\
         user.privileged: root\nuser.unprivileged: root\nclient pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n\
         socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n",
    );
    let mut dante = machine.enter(program);
    dante.args(["-f", "/etc/danted.conf", "-p", "/run/danted.pid"]).stdout(Stdio::null()).stderr(Stdio::null());
    let _dante = Ended(dante.spawn().unwrap());
    let listens = || machine.run("cat /proc/net/tcp").contains("0100007F:0438 00000000:0000 0A");
    eventually("dante listens", listens);
    for server in beyond().into_iter().chain([format!("tcp://{SERVER}")]) {
        for (login, answers) in [("anna:s3cret@", true), ("anna:wrong@", false), ("", false)] {
            let config = config(&pki, &server, &format!("proxy = \"socks5://{login}127.0.0.1:1080\""));
            let daemon = machine.daemon(&config, &[US]);
            let answer = machine.ask(US, "a.example.org");
            assert_eq!(answer["rcode"] == "NOERROR", answers, "{server} {login}: {answer}");
            assert!(!daemon.log().contains("s3cret"), "passwords are not logged");
        }
    }
}

/// A program, ended on drop.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
