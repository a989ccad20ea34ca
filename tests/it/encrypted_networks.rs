//! Networks that let encrypted DNS out or not: real servers, nftables between them and us, on machines made up for it.
//!
//! The figures in docs/performance.md are what these tests print:
//! `cargo test --test it encrypted_networks -- --include-ignored --nocapture`.

use crate::support::daemon::{Daemon, run_with};
use crate::support::doq_server::{DoqServer, this_binary};
use crate::support::encrypted::{Identity, NAME, Pki, installed};
use crate::support::eventually;
use crate::support::machine::Machine;
use std::io::Write;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Where the daemon under test listens on its machine.
const US: &str = "127.0.0.1:5300";
/// Where the servers are: two that are encrypted, a plain one.
const TRUSTED: [&str; 2] = ["198.51.100.1", "198.51.100.2"];
const PLAIN: &str = "198.51.100.9";
/// What they give for every name: addresses that a public server may give.
const ENCRYPTED: &str = "1.0.0.7";
const IN_THE_CLEAR: &str = "1.0.0.9";
/// Within which the top rung, or the group, is to be in use again; and the time that a busy machine adds.
const AGAIN: Duration = Duration::from_secs(60 + 15);

/// What takes longer was waited for with the whole budget of 4.5 s: a group of several is given up after 1.45 s. Three times
/// that, since a busy machine is late with everything.
const SOON: Duration = Duration::from_millis(3 * 1450);

/// How a network keeps encrypted DNS from going out, QUIC where it is here as well: unbound has the datagrams of its ports.
const WAYS: [(&str, &str); 4] = [
    ("drop", "tcp dport { 443, 853, 8853 } drop; udp dport { 443, 853, 8853 } drop"),
    ("reject", "tcp dport { 443, 853, 8853 } reject; udp dport { 443, 853, 8853 } reject"),
    (
        "no route",
        "tcp dport { 443, 853, 8853 } reject with icmpx type no-route; udp dport { 443, 853, 8853 } reject with icmpx type no-route",
    ),
    ("reset", "tcp dport { 443, 853, 8853 } reject with tcp reset; udp dport { 443, 853, 8853 } drop"),
];

/// unbound on a machine, ended on drop.
struct Unbound {
    child: Child,
    _folder: TempDir,
}

impl Drop for Unbound {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a resolver that gives every name this address, at all of these places, over UDP and TCP and, with an identity, DoT
/// and DoH on their usual ports.
fn unbound(machine: &Machine, places: &[&str], answer: &str, identity: Option<&Identity>) -> Unbound {
    let folder = tempfile::tempdir().unwrap();
    let mut config = format!(
        "server:\n  do-daemonize: no\n  chroot: \"\"\n  username: \"\"\n  pidfile: \"\"\n  directory: \"{}\"\n  use-syslog: no\n  \
         num-threads: 1\n  do-ip6: yes\n  access-control: 0.0.0.0/0 allow\n  access-control: ::0/0 allow\n  \
         local-zone: \".\" redirect\n  local-data: \". 300 IN A {answer}\"\n",
        folder.path().display()
    );
    for place in places {
        config += &format!("  interface: {place}@53\n");
        if identity.is_some() {
            config += &format!("  interface: {place}@443\n  interface: {place}@853\n");
        }
    }
    if let Some(identity) = identity {
        config += &format!(
            "  tls-port: 853\n  https-port: 443\n  tls-service-pem: \"{}\"\n  tls-service-key: \"{}\"\n",
            identity.certificate_file.display(),
            identity.key_file.display()
        );
    }
    let path = folder.path().join("unbound.conf");
    std::fs::write(&path, config).unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut command = machine.enter("/usr/sbin/unbound");
    let child = command.arg("-d").arg("-c").arg(path).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let server = Unbound { child, _folder: folder };
    eventually("the resolver answers", || machine.answers(&format!("{}:53", places[0])));
    server
}

/// Makes a machine with our servers on it.
fn lab(pki: &Pki) -> Option<(Machine, [Unbound; 2])> {
    installed("unbound", &["/usr/sbin/unbound"])?;
    installed("nft", &["/usr/sbin/nft"])?;
    let places = TRUSTED.iter().chain([&PLAIN]).map(|place| format!("{place}/32")).collect::<Vec<_>>();
    let machine = Machine::make(&places.iter().map(String::as_str).collect::<Vec<_>>())?;
    let trusted = unbound(&machine, &TRUSTED, ENCRYPTED, Some(&pki.server()));
    let plain = unbound(&machine, &[PLAIN], IN_THE_CLEAR, None);
    Some((machine, [trusted, plain]))
}

/// Puts rules between the servers and us; without any, everything goes through.
fn firewall(machine: &Machine, rules: &str) {
    let text = format!(
        "flush ruleset\ntable inet lab {{ chain in {{ type filter hook input priority 0; policy accept; {rules};\n}}\n}}\n"
    );
    let mut nft = machine.enter("/usr/sbin/nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{text}");
}

/// Asks the daemon for a name nobody has asked for; returns the address and how long that took.
fn ask(machine: &Machine, asked: &mut u32) -> (String, Duration) {
    *asked += 1;
    let answer = machine.ask(US, &format!("n{asked}.example.org"));
    let address = answer["answer"][0]["data"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    (address, Duration::from_secs_f64(answer["elapsed_seconds"].as_f64().unwrap()))
}

/// Asks until `holds`, twice a second, and returns how long that took. Every question must be answered.
#[allow(clippy::disallowed_methods, reason = "real sockets, real time")]
fn until(machine: &Machine, asked: &mut u32, holds: impl Fn(&str) -> bool) -> Duration {
    let start = Instant::now();
    while !holds(&ask(machine, asked).0) {
        assert!(start.elapsed() < AGAIN, "not within {AGAIN:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
    start.elapsed()
}

/// Prints a figure.
fn figure(text: &str) {
    std::io::stderr().write_all(format!("figure: {text}\n").as_bytes()).expect("stderr is there");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Tells whether the daemon has said that a server is asked over this transport.
fn went_over_to(daemon: &Daemon, transport: &str) -> bool {
    let last = daemon.events("an upstream is asked over another transport");
    last.last().is_some_and(|fields| fields["transport"] == transport)
}

/// Goes on asking for so long, twice a second.
#[allow(clippy::disallowed_methods, reason = "real sockets, real time")]
fn go_on(machine: &Machine, asked: &mut u32, lasts: Duration) {
    let start = Instant::now();
    while start.elapsed() < lasts {
        ask(machine, asked);
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// One server with a ladder of which this is the highest rung that can answer, on a network with these rules for some time.
fn ladder(pki: &Pki, top: &str, (what, rules): (&str, &str), lasts: Duration) {
    let Some((machine, _servers)) = lab(pki) else { return };
    let start = || {
        let (command, at) = (machine.enter(this_binary()), format!("{}:8853", TRUSTED[0]));
        DoqServer::start(command, &at, &pki.server(), ENCRYPTED.parse().unwrap())
    };
    // unbound does not speak it.
    let _doq = (top == "quic").then(start);
    firewall(&machine, rules);
    let config = format!(
        "[upstream.one]\nservers = [{{ address = \"{}#{NAME}\", rungs = [\"quic:8853\", \"https\", \"tls\", \"tcp\"] }}]\n\
         ca_file = \"{}\"\n[default]\nupstream = \"one\"\n[hosts]\nfiles = []\n",
        TRUSTED[0],
        pki.ca_file().display()
    );
    let daemon = machine.daemon(&config, &[US]);
    let mut asked = 0;
    let (address, first) = ask(&machine, &mut asked);
    assert_eq!(address, ENCRYPTED, "{what}");
    let later = median((0..10).map(|_| ask(&machine, &mut asked).1).collect());
    go_on(&machine, &mut asked, lasts);
    firewall(&machine, "");
    let again = until(&machine, &mut asked, |_| went_over_to(&daemon, top));
    let open = median((0..10).map(|_| ask(&machine, &mut asked).1).collect());
    // The ports are closed under the connections that are open: no question goes unanswered.
    firewall(&machine, rules);
    let closed = median((0..10).map(|_| ask(&machine, &mut asked).1).collect());
    figure(&format!(
        "ladder, {what}: first {first:.0?}, later {later:.1?}, {top} after {again:.1?}, then {open:.1?}, closed again \
         {closed:.1?}"
    ));
    daemon.assert_no_panic();
}

/// A group of two encrypted servers with the default behind it, on a network with these rules for some time.
fn group(pki: &Pki, what: &str, rules: &str, lasts: Duration) {
    let Some((machine, _servers)) = lab(pki) else { return };
    firewall(&machine, rules);
    let [one, other] = TRUSTED;
    let config = format!(
        "[upstream.far]\nservers = [{{ address = \"{one}#{NAME}\", rungs = [\"https\", \"tls\"] }},\n\
         {{ address = \"{other}#{NAME}\", rungs = [\"tls\", \"https\"] }}]\nca_file = \"{}\"\n\
         [upstream.near-by]\nservers = [\"{PLAIN}\"]\n[default]\nupstream = \"near-by\"\n\
         [[route]]\nnames = [\"example.org\"]\nupstream = \"far\"\n[hosts]\nfiles = []\n",
        pki.ca_file().display()
    );
    let daemon = machine.daemon(&config, &[US]);
    let mut asked = 0;
    let (address, first) = ask(&machine, &mut asked);
    assert_eq!(address, IN_THE_CLEAR, "{what}");
    let later: Vec<_> = (0..10).map(|_| ask(&machine, &mut asked)).collect();
    assert!(later.iter().all(|(address, _)| address == IN_THE_CLEAR), "{what}: {later:?}");
    let later = median(later.into_iter().map(|(_, took)| took).collect());
    let ttl = machine.ask(US, "ttl.example.org")["answer"][0]["ttl_seconds"].as_u64().unwrap();
    assert!(ttl <= 60, "{what}: kept for {ttl} s in place of what is wanted");
    go_on(&machine, &mut asked, lasts);
    assert_eq!(daemon.events("no upstream of a group can be reached; others are asked in its place").len(), 1);
    firewall(&machine, "");
    let again = until(&machine, &mut asked, |address| address == ENCRYPTED);
    let open = median((0..10).map(|_| ask(&machine, &mut asked).1).collect());
    figure(&format!("group, {what}: first {first:.0?}, later {later:.1?}, used after {again:.1?}, then {open:.1?}"));
    daemon.assert_no_panic();
}

#[test]
fn a_ladder_finds_the_rung_that_a_network_lets_through_and_climbs_back() {
    let pki = Pki::new();
    for way in WAYS {
        ladder(&pki, "https", way, Duration::ZERO);
    }
}

#[test]
fn a_quic_rung_is_used_again_when_its_port_is_no_longer_blocked() {
    let pki = Pki::new();
    for way in &WAYS[..2] {
        ladder(&pki, "quic", *way, Duration::ZERO);
    }
}

#[test]
fn a_group_that_a_network_lets_nobody_reach_gives_way_to_the_default_and_comes_back() {
    let pki = Pki::new();
    for (what, rules) in WAYS {
        group(&pki, what, rules, Duration::ZERO);
    }
}

// Takes minutes: trials are as far apart as they ever are.
#[cfg(feature = "long-tests")]
#[test]
fn after_a_long_time_too_a_ladder_and_a_group_come_back_within_a_minute() {
    let pki = Pki::new();
    let (what, rules) = WAYS[0];
    for lasts in [95, 110].map(Duration::from_secs) {
        ladder(&pki, "https", (what, rules), lasts);
        group(&pki, what, rules, lasts);
    }
}

#[test]
fn with_nothing_configured_hosts_of_git_go_to_trusted_and_to_the_systems_resolvers_when_that_is_out_of_reach() {
    if installed("unbound", &["/usr/sbin/unbound"]).is_none() || installed("nft", &["/usr/sbin/nft"]).is_none() {
        return;
    }
    let shipped = truename::config::resolvers::find("trusted").unwrap();
    let ips: Vec<String> =
        shipped.servers.iter().map(|server| server.upstream.host.ip().unwrap().to_string()).collect();
    let names: Vec<&str> =
        shipped.servers.iter().filter_map(|server| server.upstream.options.server_name.as_deref()).collect();
    let width = |ip: &str| if ip.contains(':') { 128 } else { 32 };
    let places: Vec<String> =
        ips.iter().map(|ip| format!("{ip}/{}", width(ip))).chain([format!("{PLAIN}/32")]).collect();
    // Their addresses, on a network that leads nowhere else.
    let Some(machine) = Machine::make(&places.iter().map(String::as_str).collect::<Vec<_>>()) else { return };
    let pki = Pki::new();
    machine.write("/etc/ssl/certs/ca-certificates.crt", &std::fs::read_to_string(pki.ca_file()).unwrap());
    machine.write("/etc/resolv.conf", &format!("nameserver {PLAIN}\n"));
    let all: Vec<&str> = ips.iter().map(String::as_str).collect();
    let _trusted = unbound(&machine, &all, ENCRYPTED, Some(&pki.issue(&names, |_| {})));
    let _plain = unbound(&machine, &[PLAIN], IN_THE_CLEAR, None);
    let _daemon = machine.daemon("", &[US]);
    assert_eq!(machine.addresses(US, "www.example.org"), [IN_THE_CLEAR]);
    for host in ["github.com", "proxy.golang.org", "sum.golang.org", "npmjs.org", "crates.io", "pypi.org"] {
        assert_eq!(machine.addresses(US, host), [ENCRYPTED], "{host}");
    }
    firewall(&machine, WAYS[0].1);
    for n in 0..5 {
        assert_eq!(machine.addresses(US, &format!("n{n}.github.com")), [IN_THE_CLEAR]);
    }
    firewall(&machine, "");
    let mut n = 5;
    let mut ask_git = || {
        n += 1;
        machine.addresses(US, &format!("n{n}.github.com")) == [ENCRYPTED]
    };
    eventually_within(AGAIN, "it is used again", &mut ask_git);
}

#[test]
fn on_a_machine_without_roots_of_its_own_certificates_are_held_against_the_bundled_ones() {
    let pki = Pki::new();
    let Some((machine, _servers)) = lab(&pki) else { return };
    let server = format!("@tls://{}#{NAME}", TRUSTED[0]);
    let ask = || {
        let output = run_with(machine.command(), &["query", "www.example.org", &server]);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // Without any roots there would be nothing to check with, and that would be said.
    let (is_answered, said) = ask();
    assert!(!is_answered && said.contains("signed by nobody known here"), "{said}");
    machine.write("/etc/ssl/certs/ca-certificates.crt", &std::fs::read_to_string(pki.ca_file()).unwrap());
    let (is_answered, said) = ask();
    assert!(is_answered, "{said}");
}

#[test]
fn names_of_a_group_with_a_floor_are_asked_in_plain_of_nobody_and_the_reason_is_said() {
    let pki = Pki::new();
    let Some((machine, _servers)) = lab(&pki) else { return };
    let config = format!(
        "[upstream.far]\nservers = [\"https://{0}#{NAME}\", \"tls://{1}#{NAME}\"]\nca_file = \"{2}\"\nfloor = \"encrypted\"\n\
         [upstream.near-by]\nservers = [\"{PLAIN}\"]\n[default]\nupstream = \"near-by\"\n\
         [[route]]\nnames = [\"example.org\"]\nupstream = \"far\"\n[hosts]\nfiles = []\n",
        TRUSTED[0],
        TRUSTED[1],
        pki.ca_file().display()
    );
    let daemon = machine.daemon(&config, &[US]);
    for (round, (what, rules)) in WAYS.into_iter().enumerate() {
        firewall(&machine, rules);
        for n in 0..3 {
            let answer = machine.ask(US, &format!("f{n}-{round}.example.org"));
            assert_eq!(answer["rcode"], "SERVFAIL", "{what}: {answer}");
            let said = answer["ede"]["text"].as_str().unwrap_or_else(|| panic!("{what}: {answer}\n{}", daemon.log()));
            assert!(said.contains("floor = \"encrypted\" allows no other"), "{what}: {said}");
            let took = Duration::from_secs_f64(answer["elapsed_seconds"].as_f64().unwrap());
            assert!(took < SOON, "{what}: {took:?}");
        }
        assert_eq!(machine.addresses(US, &format!("www{round}.example.net")), [IN_THE_CLEAR], "{what}");
        firewall(&machine, "");
        let mut n = 0;
        eventually_within(AGAIN, "they are answered again", &mut || {
            n += 1;
            machine.addresses(US, &format!("g{n}-{round}.example.org")) == [ENCRYPTED]
        });
    }
    daemon.assert_no_panic();
}

/// Waits until a condition holds, looking twice a second.
#[allow(clippy::disallowed_methods, reason = "real sockets, real time")]
fn eventually_within(bound: Duration, what: &str, holds: &mut dyn FnMut() -> bool) {
    let end = Instant::now() + bound;
    while !holds() {
        assert!(Instant::now() < end, "not within {bound:?}: {what}");
        std::thread::sleep(Duration::from_millis(500));
    }
}
