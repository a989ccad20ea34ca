//! Sleep, other networks, cables and routes: the real binary on a made-up machine or by clocks of its own. No question fails
//! while a way to a server is left.

use crate::support::client::ask;
use crate::support::clocks::Clocks;
use crate::support::daemon::Daemon;
use crate::support::doq_server::{DoqServer, this_binary};
use crate::support::encrypted::{ADDRESS, Identity, NAME, Pki, installed};
use crate::support::far::{FAR, Far, FarServer, NEAR, SERVER};
use crate::support::machine::Machine;
use crate::support::tls_fake::{
    self, Fake, answer, answer_all, body, doq_with, read_query, reply_over_quic, respond, write_message,
};
use crate::support::{eventually, timed};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Where the daemon under test listens on its machine.
const US: &str = "127.0.0.1:53";
/// A first answer that takes longer than this came by other means than those under test: the daemon's budget, or TCP's own
/// repeats. Figures are in docs/performance.md.
const SOON: Duration = Duration::from_secs(3);
const HOURS: Duration = Duration::from_secs(8 * 3600);
/// The port of DoQ beyond the machine: unbound has the datagrams of 853 as well.
const DOQ: u16 = 8853;
/// What is logged.
const CHANGED: &str = "the network has changed";
const SLEPT: &str = "the machine has slept";

/// Sends every name to these servers, by what is expected of their certificates.
fn config(pki: &Pki, servers: &[String]) -> String {
    let list: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    format!(
        "[upstream.g]\nservers = [{}]\nstrategy = \"order\"\nca_file = \"{}\"\n[default]\nupstream = \"g\"\n\
         [hosts]\nfiles = []\n[server]\nworkers = 1\n",
        list.join(", "),
        pki.ca_file().display()
    )
}

fn at(scheme: &str, address: SocketAddr) -> String {
    format!("{scheme}://{address}#{NAME}")
}

/// A server whose open connections are dead when the switch is on; those opened later live.
async fn mortal(pki: &Pki, alpn: &'static [u8], dead: Arc<AtomicUsize>) -> Fake {
    if alpn == b"doq" {
        return doq_with(pki.server().server_config(&[alpn]), move |_, mut send, query, count| {
            let is_dead = count < dead.load(Ordering::Relaxed);
            async move {
                if is_dead {
                    return std::future::pending().await;
                }
                reply_over_quic(&mut send, &answer(&query, 7)).await;
            }
        });
    }
    Fake::tls(pki.server().server_config(&[alpn]), move |mut stream, count| {
        let dead = Arc::clone(&dead);
        async move {
            let is_dead = move || count < dead.load(Ordering::Relaxed);
            if alpn == b"dot" {
                while let Some(query) = read_query(&mut stream).await {
                    if !is_dead() {
                        write_message(&mut stream, &answer(&query, 7)).await;
                    }
                }
                return;
            }
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            let mut unanswered = Vec::new();
            while let Some(Ok((request, to))) = connection.accept().await {
                if is_dead() {
                    unanswered.push((request, to));
                    continue;
                }
                tokio::spawn(
                    async move { respond(to, 200, "application/dns-message", answer(&body(request).await, 7)) },
                );
            }
        }
    })
    .await
}

/// Asks the daemon; the name is answered by a fake.
async fn asked(daemon: &Arc<Daemon>, name: &str) -> Duration {
    let (daemon, name) = (Arc::clone(daemon), name.to_owned());
    let asking = tokio::task::spawn_blocking(move || timed(|| ask(daemon.address, &name)));
    let (response, took) = asking.await.unwrap();
    assert_eq!(response.addresses(), ["192.0.2.7"], "{:?}", response.rcode());
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_sleep_the_first_question_goes_over_a_fresh_connection_too() {
    let pki = Pki::new();
    for (scheme, alpn) in [("tls", b"dot".as_slice()), ("https", b"h2"), ("quic", b"doq")] {
        let dead = Arc::new(AtomicUsize::new(0));
        let fake = mortal(&pki, alpn, Arc::clone(&dead)).await;
        let clocks = Clocks::new();
        let config = config(&pki, &[at(scheme, fake.address)]);
        let daemon = Arc::new(Daemon::start_by(clocks.binary(), &config, &["127.0.0.1:0"]));
        for n in 0..3 {
            asked(&daemon, &format!("a{n}.example.org")).await;
        }
        assert_eq!(fake.connections(), 1, "{scheme}");
        dead.store(1, Ordering::Relaxed);
        clocks.sleep(HOURS);
        let took = asked(&daemon, "first.example.org").await;
        assert!(took < SOON, "{scheme}: {took:?}");
        eventually("the sleep is told", || daemon.events(SLEPT).len() == 1);
        let told_s = daemon.events(SLEPT)[0]["slept_s"].as_u64().unwrap();
        // Clocks are read one after the other.
        assert!(told_s.abs_diff(HOURS.as_secs()) <= 2, "{told_s}");
        for n in 0..3 {
            asked(&daemon, &format!("b{n}.example.org")).await;
        }
        assert_eq!(fake.connections(), 2, "{scheme}: one for the dead one");
        // What lives is kept: beside it one more is opened, and whoever answers first stays.
        clocks.sleep(HOURS);
        asked(&daemon, "second.example.org").await;
        eventually("the next sleep is told", || daemon.events(SLEPT).len() == 2);
        daemon.assert_no_panic();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_dead_before_the_sleep_is_tried_at_once() {
    let pki = Pki::new();
    let (first, is_silent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
    let (counted, silent) = (Arc::clone(&first), Arc::clone(&is_silent));
    let dead = Fake::tls(pki.server().server_config(&[b"dot"]), move |mut stream, _| {
        let (counted, silent) = (Arc::clone(&counted), Arc::clone(&silent));
        async move {
            while let Some(query) = read_query(&mut stream).await {
                counted.fetch_add(1, Ordering::Relaxed);
                if !silent.load(Ordering::Relaxed) {
                    write_message(&mut stream, &answer(&query, 7)).await;
                }
            }
        }
    })
    .await;
    let other = Fake::tls(pki.server().server_config(&[b"dot"]), |stream, _| answer_all(stream, 7)).await;
    let clocks = Clocks::new();
    let config = config(&pki, &[at("tls", dead.address), at("tls", other.address)]);
    let daemon = Arc::new(Daemon::start_by(clocks.binary(), &config, &["127.0.0.1:0"]));
    for n in 0..20 {
        asked(&daemon, &format!("a{n}.example.org")).await;
    }
    let before = first.load(Ordering::Relaxed);
    asked(&daemon, "still.example.org").await;
    assert!(first.load(Ordering::Relaxed) <= before + 1, "a dead server is asked now and then only");
    is_silent.store(false, Ordering::Relaxed);
    clocks.sleep(HOURS);
    let before = first.load(Ordering::Relaxed);
    asked(&daemon, "first.example.org").await;
    eventually("the first server is asked the first question", || first.load(Ordering::Relaxed) > before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_are_closed_quietly_and_opened_again_without_a_failed_question() {
    let pki = Pki::new();
    for (scheme, alpn, idle_s) in [("tls", b"dot".as_slice(), 30), ("https", b"h2", 30), ("quic", b"doq", 30)] {
        let closed = Arc::new(AtomicUsize::new(0));
        let fake = match alpn {
            b"doq" => tls_fake::doq(pki.server().server_config(&[alpn]), 7),
            _ => {
                let closed = Arc::clone(&closed);
                let config = pki.server().server_config(&[alpn]);
                Fake::tls(config, move |stream, _| {
                    let closed = Arc::clone(&closed);
                    async move {
                        if alpn == b"dot" {
                            answer_all(stream, 7).await;
                        } else if let Ok(mut connection) = h2::server::handshake(stream).await {
                            while let Some(Ok((request, to))) = connection.accept().await {
                                tokio::spawn(async move {
                                    respond(to, 200, "application/dns-message", answer(&body(request).await, 7));
                                });
                            }
                        }
                        closed.fetch_add(1, Ordering::Relaxed);
                    }
                })
                .await
            }
        };
        let clocks = Clocks::new();
        let config = config(&pki, &[at(scheme, fake.address)]);
        let daemon = Arc::new(Daemon::start_by(clocks.binary(), &config, &["127.0.0.1:0"]));
        asked(&daemon, "a.example.org").await;
        // Connections of a thread are closed together, up to 4.1 s before each has been idle for so long.
        clocks.pass(Duration::from_secs(idle_s - 6));
        asked(&daemon, "b.example.org").await;
        assert_eq!((fake.connections(), closed.load(Ordering::Relaxed)), (1, 0), "{scheme}: not idle long enough");
        clocks.pass(Duration::from_secs(idle_s + 1));
        // Time that jumps wakes nobody; a question of another kind does, and needs no upstream.
        let address = daemon.address;
        tokio::task::spawn_blocking(move || ask(address, "localhost")).await.unwrap();
        if alpn != b"doq" {
            eventually("the connection is closed", || closed.load(Ordering::Relaxed) == 1);
        }
        asked(&daemon, "c.example.org").await;
        assert_eq!(fake.connections(), 2, "{scheme}");
        assert!(daemon.events(SLEPT).is_empty(), "time that passed awake is no sleep");
    }
}

#[test]
fn where_netlink_is_refused_that_is_said_once_and_all_else_goes_on() {
    let clocks = Clocks::new();
    let fake = crate::support::fake::Fake::address([192, 0, 2, 1]);
    let config = crate::support::daemon::forward_to(&[fake.address]);
    let daemon = Daemon::start_by(clocks.binary_without_netlink(), &config, &["127.0.0.1:0"]);
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.1"]);
    let said = || daemon.events("cannot watch the network; after a change the first answers may take longer").len();
    eventually("it is said", || said() == 1);
    clocks.sleep(HOURS);
    assert_eq!(ask(daemon.address, "after.example.org").addresses(), ["192.0.2.1"]);
    eventually("the sleep is found all the same", || daemon.events(SLEPT).len() == 1);
    assert_eq!(said(), 1);
}

/// Asks from the machine; returns how long the answer took.
fn answered(machine: &Machine, name: &str) -> Duration {
    let answer = machine.ask(US, name);
    assert_eq!(answer["rcode"], "NOERROR", "{name}: {answer}");
    assert_eq!(answer["answer"][0]["data"], ADDRESS.to_string(), "{name}: {answer}");
    Duration::from_secs_f64(answer["elapsed_seconds"].as_f64().unwrap())
}

/// The ways to ask the server beyond the machine, those over connections first.
fn ways() -> [String; 5] {
    [
        format!("tls://{SERVER}#{NAME}"),
        format!("https://{SERVER}/dns-query#{NAME}"),
        format!("quic://{SERVER}:{DOQ}#{NAME}"),
        format!("tcp://{SERVER}"),
        SERVER.into(),
    ]
}

/// Starts what answers there: unbound, and hickory's server over QUIC, which unbound does not speak.
fn servers(far: &Far<'_>, identity: &Identity) -> Option<(FarServer, DoqServer)> {
    let unbound = far.unbound(identity)?;
    Some((unbound, DoqServer::start(far.enter(this_binary()), &format!("{SERVER}:{DOQ}"), identity, ADDRESS)))
}

#[test]
fn when_the_address_or_the_route_changes_the_next_answer_comes_soon() {
    let pki = Pki::new();
    let identity = pki.server();
    for server in ways() {
        let Some(machine) = Machine::make(&[]) else { return };
        let far = Far::make(&machine);
        let Some(_servers) = servers(&far, &identity) else { return };
        far.plug_in(0);
        let daemon = machine.daemon(&config(&pki, std::slice::from_ref(&server)), &[US]);
        answered(&machine, "a.example.org");
        // Another address on the same cable: the connection has the one that is gone.
        let (gone, fresh) = (NEAR[0], "10.77.0.3");
        machine.run(&format!(
            "ip address del {gone}/24 dev near0; ip address add {fresh}/24 dev near0; ip route replace {SERVER} via {}",
            FAR[0]
        ));
        let took = answered(&machine, "b.example.org");
        assert!(took < SOON, "{server}, another address: {took:?}");
        eventually("the change is noticed", || !daemon.events(CHANGED).is_empty());
        answered(&machine, "c.example.org");
        // Another cable; the first leads nowhere from here on.
        far.run("nft add table ip f; nft 'add chain ip f in { type filter hook input priority 0; }'; nft add rule ip f in iif far0 drop");
        far.plug_in(1);
        let took = answered(&machine, "d.example.org");
        assert!(took < SOON, "{server}, another route: {took:?}");
        // There and back: a route that takes another's place is news each time, to whatever server.
        for cable in [0, 1, 0, 1].into_iter().filter(|_| server.starts_with("tls")) {
            let routes =
                || -> u64 { daemon.events(CHANGED).iter().map(|fields| fields["routes"].as_u64().unwrap()).sum() };
            let before = routes();
            machine.run(&format!("ip route replace {SERVER} via {}", FAR[cable]));
            eventually("the route is noticed", || routes() > before);
        }
        // The cable is pulled out and put in again.
        let before = daemon.events(CHANGED).len();
        machine.run("ip link set near1 down");
        far.plug_in(1);
        let took = answered(&machine, "e.example.org");
        assert!(took < SOON, "{server}, the cable: {took:?}");
        eventually("that is noticed too", || daemon.events(CHANGED).len() > before);
        daemon.assert_no_panic();
    }
}

#[test]
fn a_change_that_falls_into_a_moment_without_file_descriptors_is_found_after_it() {
    let pki = Pki::new();
    let identity = pki.server();
    let Some(machine) = Machine::make(&[]) else { return };
    let far = Far::make(&machine);
    let Some(_unbound) = far.unbound(&identity) else { return };
    far.plug_in(0);
    let daemon = machine.daemon(&config(&pki, &[ways()[0].clone()]), &[US]);
    answered(&machine, "a.example.org");
    // What is open stays open, and nothing more can be.
    daemon.limit_files(3);
    machine.run("ip link set near1 up; ip address add 10.78.0.2/24 dev near1");
    machine.run(&format!("ip route replace {SERVER} via {}", FAR[1]));
    let missed = || daemon.events("the kernel cannot be asked for the ways to upstreams; it is asked again").len();
    eventually("it is missed, and once more", || missed() >= 2);
    assert!(daemon.events(CHANGED).is_empty(), "nothing is known of it");
    daemon.limit_files(1024);
    eventually("it is found, without another one", || daemon.events(CHANGED).len() == 1);
    let routes = daemon.events(CHANGED)[0]["routes"].as_u64().unwrap();
    assert!(routes > 0, "{}", daemon.log());
    answered(&machine, "b.example.org");
}

#[test]
fn a_flow_whose_state_is_dropped_on_the_way_costs_no_answer() {
    let pki = Pki::new();
    let identity = pki.server();
    for server in &ways()[..4] {
        let Some(machine) = Machine::make(&[]) else { return };
        let far = Far::make(&machine);
        let (Some(_servers), Some(_)) = (servers(&far, &identity), installed("nft", &["/usr/sbin/nft"])) else {
            return;
        };
        far.plug_in(0);
        let daemon = machine.daemon(&config(&pki, std::slice::from_ref(server)), &[US]);
        answered(&machine, "a.example.org");
        let layer = if server.starts_with("quic") { "udp" } else { "tcp" };
        let ports = established(&daemon, layer);
        assert_eq!(ports.len(), 1, "{server}: {ports:?}");
        // A middlebox that has forgotten the flow: both directions, without a word.
        far.run(&format!(
            "nft add table ip f; nft 'add chain ip f in {{ type filter hook input priority 0; }}'; \
             nft 'add chain ip f out {{ type filter hook output priority 0; }}'; \
             nft add rule ip f in {layer} sport {0} drop; nft add rule ip f out {layer} dport {0} drop",
            ports[0]
        ));
        for n in 0..3 {
            let took = answered(&machine, &format!("b{n}.example.org"));
            assert!(took < SOON, "{server}: {took:?}");
        }
        assert!(daemon.events(CHANGED).is_empty(), "nothing on this machine has changed");
    }
}

/// Returns the local ports of the daemon's connections to the server, over TCP or over UDP.
fn established(daemon: &Daemon, layer: &str) -> Vec<u16> {
    let sockets = std::fs::read_to_string(format!("/proc/{}/net/{layer}", daemon.pid())).unwrap();
    // Addresses in hexadecimal, in the order of the machine's octets; state 01.
    let far = format!("{:08X}", u32::from_ne_bytes([10, 99, 0, 1]));
    let of = |line: &str| -> Option<u16> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_ours = fields.get(2)?.starts_with(&far) && *fields.get(3)? == "01";
        is_ours.then(|| u16::from_str_radix(fields[1].split_once(':')?.1, 16).ok())?
    };
    sockets.lines().filter_map(of).collect()
}

#[test]
fn a_start_without_a_network_becomes_healthy_by_itself_when_it_comes() {
    let pki = Pki::new();
    let identity = pki.server();
    for server in ways() {
        let Some(machine) = Machine::make(&[]) else { return };
        let far = Far::make(&machine);
        let Some(_servers) = servers(&far, &identity) else { return };
        // A second server that never answers: dead ones must not be waited for either.
        let servers = [server.clone(), "tls://10.99.0.9#nobody.example".to_owned()];
        let daemon = machine.daemon(&config(&pki, &servers), &[US]);
        for n in 0..4 {
            let answer = machine.ask(US, &format!("a{n}.example.org"));
            assert_eq!(answer["rcode"], "SERVFAIL", "{answer}");
        }
        far.plug_in(0);
        eventually("the network is noticed", || !daemon.events(CHANGED).is_empty());
        let took = answered(&machine, "a0.example.org");
        assert!(took < SOON, "{server}: {took:?}");
        assert_eq!(daemon.reloads(), 0, "by itself");
    }
}

#[test]
fn a_storm_of_changes_is_few_reactions_and_what_changes_nothing_is_none() {
    let pki = Pki::new();
    let identity = pki.server();
    let Some(machine) = Machine::make(&[]) else { return };
    let far = Far::make(&machine);
    let Some(_unbound) = far.unbound(&identity) else { return };
    far.plug_in(0);
    let daemon = machine.daemon(&config(&pki, &[ways()[0].clone()]), &[US]);
    answered(&machine, "a.example.org");
    // Names of links, neighbours, lifetimes of addresses, routes as they are, links without an address of ours.
    machine.run(
        "for n in 1 2 3 4 5; do ip link set near0 alias cable$n; \
         ip neighbour replace 10.77.0.$((n + 10)) lladdr 02:00:00:00:00:0$n dev near0; \
         ip address change 10.77.0.2/24 dev near0 valid_lft 100$n preferred_lft 100$n; \
         ip link add v$n type veth peer name w$n; ip link set v$n up; ip link set w$n up; ip link del v$n; done",
    );
    // Messages come in their order: what is noticed by now was meant.
    machine.run("ip address add 192.0.2.77/32 dev near0");
    let all = |key: &str| -> u64 { daemon.events(CHANGED).iter().map(|fields| fields[key].as_u64().unwrap()).sum() };
    eventually("the address is noticed", || all("addresses") > 0);
    assert_eq!(["links", "addresses", "routes", "rules", "lost"].map(all), [0, 1, 0, 0, 0], "{}", daemon.log());
    let before = daemon.events(CHANGED).len();
    machine.run(
        "for n in $(seq 1 250); do echo address add 198.18.0.$n/32 dev near0; echo address del 198.18.0.$n/32 dev near0; done \
         | ip -batch -",
    );
    // The kernel keeps only so much for us; that something was lost counts as a change.
    eventually("the storm is noticed", || all("addresses") == 501 || all("lost") > 0);
    let (addresses, reactions) = (all("addresses"), daemon.events(CHANGED).len() - before);
    assert!((1..=6).contains(&reactions), "{reactions} reactions");
    machine.run("ip address add 192.0.2.78/32 dev near0");
    eventually("what comes after it is noticed", || all("addresses") > addresses);
    answered(&machine, "b.example.org");
    daemon.assert_no_panic();
}

#[test]
fn resolvers_that_change_with_the_network_are_read_again() {
    // A list that is not watched, because its folder was not there at the start.
    let Some(machine) = Machine::make(&["10.53.0.1/32", "10.53.0.2/32"]) else { return };
    let zone = |address: &str| {
        format!(
            "[[zone]]\nname = \"example.org\"\nrecords = [{{ name = \"*\", type = \"A\", value = \"{address}\" }}]\n\
             [hosts]\nfiles = []\n[server.access]\nallow = [\"10.0.0.0/8\"]\n"
        )
    };
    let _home = machine.daemon(&zone("192.0.2.1"), &["10.53.0.1:53"]);
    let _office = machine.daemon(&zone("192.0.2.2"), &["10.53.0.2:53"]);
    machine.write("/etc/resolv.conf", "nameserver 10.53.0.1\n");
    let daemon = machine.daemon("[hosts]\nfiles = []\n", &[US]);
    assert_eq!(machine.addresses(US, "a.example.org"), ["192.0.2.1"]);
    // Mounted over: no change of a file that inotify could tell.
    machine.run("echo nameserver 10.53.0.2 >/run/other; mount --bind /run/other /etc/resolv.conf");
    assert_eq!(machine.addresses(US, "b.example.org"), ["192.0.2.1"]);
    machine.run("ip address add 10.53.0.9/32 dev lo");
    eventually("the change is noticed", || daemon.reloads() == 1);
    assert_eq!(machine.addresses(US, "c.example.org"), ["192.0.2.2"]);
}
