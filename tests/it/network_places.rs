//! Networks that are told apart, and changes that concern none of our ways: the real binary on a made-up machine.

use crate::control::stats_socket;
use crate::support::daemon::Daemon;
use crate::support::encrypted::{ADDRESS, NAME, Pki, installed};
use crate::support::eventually;
use crate::support::far::{FAR, Far, NEAR, SERVER};
use crate::support::http::get;
use crate::support::machine::Machine;

/// Where the daemon under test listens on its machine.
const US: &str = "127.0.0.1:53";
const CHANGED: &str = "the network has changed";

/// Asks from the machine; returns over which transports the daemon asked for that.
fn asked_over(machine: &Machine, daemon: &Daemon, name: &str) -> Vec<String> {
    let sends = || -> Vec<String> {
        let events = daemon.events("exchange").into_iter().filter(|fields| fields["event"] == "send");
        events.map(|fields| fields["decision"].as_str().unwrap().replace("ask over ", "")).collect()
    };
    let before = sends().len();
    let answer = machine.ask(US, name);
    assert_eq!(answer["answer"][0]["data"], ADDRESS.to_string(), "{name}: {answer}");
    eventually("the log is written", || sends().len() > before);
    sends()[before..].to_vec()
}

/// Returns the network that the daemon thinks it is on since its last change, when there were more than so many.
fn network(daemon: &Daemon, changes: usize) -> u64 {
    eventually("the change is noticed", || daemon.events(CHANGED).len() > changes);
    daemon.events(CHANGED).last().unwrap()["network"].as_u64().unwrap()
}

/// Returns the network that the daemon has last named in its log.
fn last_network(daemon: &Daemon) -> u64 {
    let log = daemon.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter_map(|line| line["fields"]["network"].as_u64()).next_back().unwrap_or(0)
}

fn counter(daemon: &Daemon, name: &str) -> u64 {
    let metrics = get(&stats_socket(daemon), "/metrics").body;
    let line = metrics.lines().find(|line| line.starts_with(&format!("truename_{name} ")));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_else(|| panic!("{name}: {metrics}"))
}

#[test]
fn on_return_to_a_network_the_rung_that_worked_there_is_asked_at_once() {
    let pki = Pki::new();
    let identity = pki.server();
    let Some(machine) = Machine::make(&[]) else { return };
    let far = Far::make(&machine);
    let (Some(_unbound), Some(_)) = (far.unbound(&identity), installed("nft", &["/usr/sbin/nft"])) else { return };
    // The first network lets no encrypted connection out, the second does.
    far.run(
        "nft add table ip f; nft 'add chain ip f in { type filter hook input priority 0; }'; \
         nft 'add rule ip f in iif far0 tcp dport { 443, 853 } drop'",
    );
    let config = format!(
        "[upstream.g]\nservers = [{{ address = \"{SERVER}#{NAME}\", rungs = [\"https\", \"tls\", \"tcp\"] }}]\n\
         ca_file = \"{}\"\n[default]\nupstream = \"g\"\n[hosts]\nfiles = []\n[server]\nworkers = 1\n[log]\nlevel = \"debug\"\n",
        pki.ca_file().display()
    );
    far.plug_in(0);
    let daemon = machine.daemon(&config, &[US]);
    assert_eq!(asked_over(&machine, &daemon, "a.example.org"), ["DoH", "DoT", "TCP"]);
    let mut seen = Vec::new();
    for (round, (cable, rung)) in [(1, "DoH"), (0, "TCP"), (1, "DoH"), (0, "TCP")].into_iter().enumerate() {
        let changes = daemon.events(CHANGED).len();
        far.plug_in(cable);
        seen.push(network(&daemon, changes));
        assert_eq!(asked_over(&machine, &daemon, &format!("b{round}.example.org"))[0], rung, "round {round}");
        let over = asked_over(&machine, &daemon, &format!("c{round}.example.org"));
        // Higher rungs are tried along now and then.
        assert_eq!(over[0], rung, "round {round}: {over:?}");
    }
    assert!(seen[0] != seen[1] && seen[0] == seen[2] && seen[1] == seen[3] && !seen.contains(&0), "{seen:?}");
    daemon.assert_no_panic();
}

#[test]
fn another_router_of_the_same_address_is_another_network_as_soon_as_its_hardware_shows() {
    let pki = Pki::new();
    let identity = pki.server();
    let Some(machine) = Machine::make(&[]) else { return };
    let far = Far::make(&machine);
    let Some(_unbound) = far.unbound(&identity) else { return };
    let config = format!(
        "[upstream.g]\nservers = [\"tcp://{SERVER}\"]\n[default]\nupstream = \"g\"\n[hosts]\nfiles = []\n\
         [server]\nworkers = 1\n[log]\nlevel = \"debug\"\n"
    );
    let daemon = machine.daemon(&config, &[US]);
    // The cable leads from one to the other and back.
    let [home, office] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];
    let mut seen: Vec<u64> = Vec::new();
    for (round, hardware) in [home, office, home, office].into_iter().enumerate() {
        machine.run("ip link set near0 down");
        far.run(&format!("ip link set far0 address {hardware}"));
        far.plug_in(0);
        network(&daemon, daemon.events(CHANGED).len().saturating_sub(1));
        asked_over(&machine, &daemon, &format!("a{round}.example.org"));
        // Until something was sent there, it is taken for the one before.
        match round {
            0 => {
                let changes = daemon.events(CHANGED).len();
                machine.run("ip address add 192.0.2.77/32 dev near0");
                network(&daemon, changes);
            }
            1 => eventually("it is another one", || ![0, seen[0]].contains(&last_network(&daemon))),
            _ => eventually("it is known again", || last_network(&daemon) == seen[round - 2]),
        }
        seen.push(last_network(&daemon));
    }
    assert!(seen[0] != 0 && seen[0] != seen[1], "{seen:?}");
    daemon.assert_no_panic();
}

#[test]
fn what_is_learnt_before_the_router_shows_is_not_filed_under_the_network_it_was_taken_for() {
    let pki = Pki::new();
    let identity = pki.server();
    let Some(machine) = Machine::make(&[]) else { return };
    let far = Far::make(&machine);
    let (Some(_unbound), Some(_)) = (far.unbound(&identity), installed("nft", &["/usr/sbin/nft"])) else { return };
    far.run("nft add table ip f; nft 'add chain ip f in { type filter hook input priority 0; }'");
    // Behind the same cable, a router of the same address: what the one lets through the other does not.
    let come_to = |hardware: &str, blocked: &str, neighbour: &str| {
        machine.run("ip link set near0 down");
        far.run(&format!("ip link set far0 address {hardware}; nft flush chain ip f in"));
        far.run(&format!("nft 'add rule ip f in iif far0 tcp dport {{ {blocked} }} drop'"));
        machine.run(&format!(
            "ip link set near0 up; ip address replace {}/24 dev near0; {neighbour} ip route replace {SERVER} via {}",
            NEAR[0], FAR[0]
        ));
    };
    let (home, office) = ("02:00:00:00:00:01", "02:00:00:00:00:02");
    let config = format!(
        "[upstream.g]\nservers = [{{ address = \"{SERVER}#{NAME}\", rungs = [\"https\", \"tls\", \"tcp\"] }}]\n\
         ca_file = \"{}\"\n[default]\nupstream = \"g\"\n[hosts]\nfiles = []\n[server]\nworkers = 1\n[log]\nlevel = \"debug\"\n",
        pki.ca_file().display()
    );
    come_to(home, "443, 853", "");
    let daemon = machine.daemon(&config, &[US]);
    assert_eq!(asked_over(&machine, &daemon, "a.example.org"), ["DoH", "DoT", "TCP"]);
    eventually("home is known by its router", || last_network(&daemon) != 0);
    let at_home = last_network(&daemon);
    // What is being opened would make the next router show at once. State 02 is a connection that is being opened.
    let sockets = || std::fs::read_to_string(format!("/proc/{}/net/tcp", daemon.pid())).unwrap();
    eventually("nothing is being opened", || {
        sockets().lines().all(|line| line.split_whitespace().nth(3) != Some("02"))
    });
    // The office is taken for home until its router shows.
    come_to(office, "53, 853", "");
    let comes_to = |place, changes: usize| {
        let changed = daemon.events(CHANGED);
        changed.len() > changes && changed.last().unwrap()["network"] == place
    };
    eventually("the change is noticed", || comes_to(at_home, 0));
    let over = asked_over(&machine, &daemon, "b.example.org");
    assert!(over[0] == "TCP" && over.contains(&"DoH".to_owned()), "{over:?}");
    let facts = || [counter(&daemon, "upstream_suspect_connections_total"), counter(&daemon, "network_changes_total")];
    let before = facts();
    eventually("it is another one", || last_network(&daemon) != at_home);
    assert_eq!(asked_over(&machine, &daemon, "c.example.org")[0], "DoH", "what has answered is known still");
    assert_eq!(facts(), before, "nothing has changed but its name");
    // Home shows at once: what worked there before is asked.
    let changes = daemon.events(CHANGED).len();
    come_to(home, "443, 853", &format!("ip neighbour replace {} lladdr {home} dev near0 nud permanent;", FAR[0]));
    eventually("it is home", || comes_to(at_home, changes));
    assert_eq!(asked_over(&machine, &daemon, "d.example.org")[0], "TCP");
    daemon.assert_no_panic();
}

#[test]
fn bridges_and_links_of_containers_are_no_other_network_and_a_default_route_is() {
    let pki = Pki::new();
    let identity = pki.server();
    let Some(machine) = Machine::make(&[]) else { return };
    let far = Far::make(&machine);
    let Some(_unbound) = far.unbound(&identity) else { return };
    machine.run(&format!(
        "ip link set near0 up; ip address add 10.77.0.2/24 dev near0; ip route add default via {}",
        FAR[0]
    ));
    let config = format!(
        "[upstream.g]\nservers = [\"tls://{SERVER}#{NAME}\"]\nca_file = \"{}\"\n[default]\nupstream = \"g\"\n\
         [hosts]\nfiles = []\n[server]\nworkers = 1\n",
        pki.ca_file().display()
    );
    let daemon = machine.daemon(&config, &[US]);
    let ask = |name: &str| {
        let answer = machine.ask(US, name);
        assert_eq!(answer["answer"][0]["data"], ADDRESS.to_string(), "{name}: {answer}");
    };
    ask("a.example.org");
    eventually("the socket is there", || stats_socket(&daemon).exists());
    for round in 0..3 {
        machine.run(
            "ip link add docker0 type bridge; ip address add 172.17.0.1/16 dev docker0; ip link set docker0 up; \
             ip link add veth0 type veth peer name inner0; ip link set veth0 master docker0; \
             ip address add 172.17.0.2/16 dev inner0; ip link set veth0 up; ip link set inner0 up; \
             ip route add 10.244.1.0/24 via 172.17.0.2",
        );
        eventually("it is noticed", || counter(&daemon, "network_events_elsewhere_total") >= 4 * (2 * round + 1));
        machine.run("ip link del veth0; ip link del docker0");
        eventually("it is noticed", || counter(&daemon, "network_events_elsewhere_total") >= 4 * (2 * round + 2));
        ask(&format!("b{round}.example.org"));
    }
    assert_eq!(daemon.events(CHANGED), Vec::<serde_json::Value>::new());
    let suspects = || counter(&daemon, "upstream_suspect_connections_total");
    assert_eq!((suspects(), counter(&daemon, "network_changes_total")), (0, 0));
    // Another cable, and the default route over it.
    machine.run("ip link set near1 up; ip address add 10.78.0.2/24 dev near1");
    machine.run(&format!("ip route replace default via {}", FAR[1]));
    eventually("the change is noticed", || daemon.events(CHANGED).len() == 1);
    ask("c.example.org");
    eventually("the connection is suspect", || suspects() == 1);
    daemon.assert_no_panic();
}
