//! A network that loses packets both ways: real servers, nftables between them and us.

use crate::support::encrypted::{ADDRESS, NAME, Pki, installed};
use crate::support::far::{FAR, Far, OTHER, SERVER};
use crate::support::machine::Machine;

/// Where the daemon under test listens on its machine.
const US: &str = "127.0.0.1:53";
/// Of a hundred packets, so many are lost on the way there, and as many on the way back: one in five exchanges.
const LOST_PERCENT: u32 = 10;
/// Questions at once, and one after the other.
const AT_ONCE: usize = 4;
const IN_A_ROW: usize = 12;

#[test]
fn no_question_fails_when_a_tenth_of_all_packets_is_lost_each_way() {
    let pki = Pki::new();
    let identity = pki.server();
    for scheme in ["tls://", "https://", ""] {
        let Some(machine) = Machine::make(&[]) else { return };
        let far = Far::make(&machine);
        let (Some(_unbound), Some(_)) = (far.unbound(&identity), installed("nft", &["/usr/sbin/nft"])) else { return };
        far.plug_in(0);
        machine.run(&format!("ip route replace {OTHER} via {}", FAR[0]));
        let name = if scheme.is_empty() { String::new() } else { format!("#{NAME}") };
        let config = format!(
            "[upstream.g]\nservers = [\"{scheme}{SERVER}{name}\", \"{scheme}{OTHER}{name}\"]\n{}\
             [default]\nupstream = \"g\"\n[hosts]\nfiles = []\n[server]\nworkers = 1\n",
            if scheme.is_empty() { String::new() } else { format!("ca_file = \"{}\"\n", pki.ca_file().display()) }
        );
        let daemon = machine.daemon(&config, &[US]);
        let ask = |name: &str| {
            let answer = machine.ask(US, name);
            assert_eq!(answer["answer"][0]["data"], ADDRESS.to_string(), "{scheme}{name}: {answer}");
        };
        ask("before.example.org");
        far.run(&format!(
            "nft add table ip f; nft add counter ip f lost; \
             nft 'add chain ip f in {{ type filter hook input priority 0; }}'; \
             nft 'add chain ip f out {{ type filter hook output priority 0; }}'; \
             for way in 'in tcp dport' 'in udp dport' 'out tcp sport' 'out udp sport'; do \
             nft \"add rule ip f $way {{ 53, 443, 853 }} numgen random mod 100 < {LOST_PERCENT} counter name lost drop\"; done"
        ));
        std::thread::scope(|scope| {
            for thread in 0..AT_ONCE {
                let ask = &ask;
                scope.spawn(move || (0..IN_A_ROW).for_each(|n| ask(&format!("n{n}-{thread}.example.org"))));
            }
        });
        let counter = far.output("nft list counter ip f lost");
        let lost = counter.split_whitespace().skip_while(|word| *word != "packets").nth(1);
        let lost: u32 = lost.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{counter}"));
        assert!(lost > 0, "{scheme}: nothing was lost: {counter}");
        daemon.assert_no_panic();
    }
}
