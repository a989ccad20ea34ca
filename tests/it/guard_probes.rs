//! What the guard finds out beside its questions: samples of names that nobody guards, names that do not exist, decoys; and what
//! the configuration says of names and addresses. The real pipeline on real sockets.

use crate::control::control_socket;
use crate::guard_live::{counter, incidents};
use crate::guard_proofs::{FORGED, NAME, Played, TRUE, World, addresses, config, refusing, slow, until};
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::fake::{Fake, Habit};
use crate::support::http::get;
use crate::support::machine::Machine;
use std::net::Ipv4Addr;
use truename::dns::Rcode;
use truename::stats::Counter;

const SINKHOLE: [u8; 4] = [10, 10, 34, 34];

/// The same configuration without certificates, with more in its table of the guard.
fn with(text: &str, more: &str) -> String {
    text.replace("[guard]\n", &format!("[guard]\nproofs = false\n{more}\n"))
}

fn truth() -> Habit {
    slow(Habit::Address(TRUE.into(), 300))
}

/// The names that a fake was asked for, but for one.
fn besides(fake: &Fake, name: &str) -> Vec<String> {
    fake.asked()
        .into_iter()
        .map(|asked| asked.qname.to_lower().to_string())
        .filter(|asked| !asked.starts_with(name))
        .collect()
}

fn count_all(played: &Played, counters: [Counter; 2]) -> [u64; 2] {
    counters.map(|counter| played.count(counter))
}

#[tokio::test]
async fn few_of_the_names_that_nobody_guards_are_looked_at_and_their_clients_notice_nothing() {
    let (isp, witness) = (Fake::address(SINKHOLE), Fake::start(truth()));
    let text = format!(
        "[upstream.isp]\nservers = [\"{}\"]\n[upstream.witness]\nservers = [\"{}\"]\n\
         [default]\nupstream = \"isp\"\nguard = \"sample\"\ntrusted_presets = []\n[guard]\nreferences = \"witness\"\n\
         [[route]]\nnames = [\"corp.test\"]\nupstream = \"isp\"\nprivate = true\n\
         [[route]]\nnames = [\"off.test\"]\nupstream = \"isp\"\nguard = \"off\"\nprivate = false\n",
        isp.address, witness.address,
    );
    let played = World::new().pipeline(&text);
    for name in ["git.corp.test", "www.off.test"] {
        assert_eq!(addresses(&played.ask(name).await), [SINKHOLE], "{name}");
    }
    assert_eq!((played.count(Counter::GuardSamples), witness.asked().len()), (0, 0));
    for n in 0..5 {
        assert_eq!(addresses(&played.ask(&format!("n{n}.example.org")).await), [SINKHOLE], "{n}");
    }
    played.counted(Counter::GuardPoisoned, 1).await;
    until("it is recorded", || played.pipeline.incidents().len() == 1).await;
    assert_eq!(played.pipeline.incidents()[0].served.as_str(), "suspect");
    // Five at once are one, and the network may have been slow to say so.
    assert_eq!((played.count(Counter::GuardSamples), witness.count("n0.example.org")), (1, 1));
}

#[tokio::test]
async fn what_an_upstream_gives_for_names_that_do_not_exist_speaks_against_it_elsewhere() {
    let asked = [Counter::GuardNobodyAsked, Counter::GuardNobodyAnswered];
    let (isp, other) = (Fake::address(FORGED), refusing());
    let witness = Fake::start(Habit::NxDomain(60)).with(NAME, truth()).with("two.example.org", truth());
    let played = World::new().pipeline(&with(&config(&isp, &witness, &other, "2s"), ""));
    assert_eq!(addresses(&played.ask(NAME).await), [TRUE]);
    played.counted(Counter::GuardNobodyAnswered, 1).await;
    let nobody = besides(&isp, "www.");
    assert_eq!(nobody.len(), 1, "{nobody:?}");
    let (label, zone) = nobody[0].split_once('.').unwrap();
    assert!(zone == "example.org." && label.len() == 15, "{nobody:?}");
    assert_eq!(played.count(Counter::GuardPoisoned), 0, "one name that differs says little");
    assert_eq!(addresses(&played.ask("two.example.org").await), [TRUE]);
    played.counted(Counter::GuardPoisoned, 1).await;
    let because = played.said("two.example.org").await.found.unwrap().because;
    assert!(because.contains("invented-address"), "{because}");
    assert_eq!(count_all(&played, asked), [1, 1], "once a day");
    // Where the zone has a wildcard somebody is there, and nothing is learnt.
    let (isp, witness) = (Fake::address(FORGED), Fake::start(truth()));
    let played = World::new().pipeline(&with(&config(&isp, &witness, &other, "2s"), ""));
    played.ask(NAME).await;
    until("both are asked", || besides(&isp, "www.").len() == 1 && besides(&witness, "www.").len() == 1).await;
    assert_eq!(count_all(&played, asked), [1, 0]);
    // Nor is anybody asked while nothing is disputed.
    let honest = Fake::address(TRUE);
    let played = World::new().pipeline(&with(&config(&honest, &witness, &other, "2s"), ""));
    played.ask(NAME).await;
    played.counted(Counter::GuardConsistent, 1).await;
    assert_eq!(count_all(&played, asked), [0, 0]);
}

#[test]
fn a_decoy_that_is_answered_with_a_lie_tells_of_somebody_on_the_way() {
    // Public addresses: what the own network's resolver says has not come the way that a decoy goes.
    let (isp, witness, liar, honest, nobody) = ("185.1.1.1", "185.2.1.1", "185.3.1.1", "185.4.1.1", "185.5.1.1");
    let addresses = [isp, witness, liar, honest, nobody].map(|address| format!("{address}/32"));
    let Some(machine) = Machine::make(&addresses.each_ref().map(String::as_str)) else { return };
    let (forged, truth) = ("31.13.94.10", "93.184.216.34");
    let at = |address: &str, says: &str| resolver_for_all(&machine, address, says);
    let _resolvers = [at(isp, forged), at(witness, truth), at(liar, forged), at(honest, truth)];
    for (decoy, more, sent, lied) in [
        (liar, "", 1, 1),
        (honest, "", 1, 0),
        (nobody, "", 1, 0),
        (liar, "interface = \"lo\"", 0, 0),
        (liar, "floor = \"any\"\nsource = \"185.1.1.1\"", 0, 0),
    ] {
        let config = format!(
            "[upstream.isp]\nservers = [\"{isp}\"]\n{more}\n[upstream.witness]\nservers = [\"{witness}\"]\n\
             [default]\nupstream = \"isp\"\ntrusted_presets = []\n[hosts]\nfiles = []\n\
             [guard]\nreferences = \"witness\"\nproofs = false\nhold_on = false\ndecoys = [\"{decoy}\"]\n\
             [[route]]\nnames = [\"example.org\"]\nupstream = \"isp\"\nguard = \"enforce\"\nprivate = false\n"
        );
        let daemon = machine.daemon(&config, &["127.0.0.1:53"]);
        let verdicts =
            || ["undecidable", "poisoned"].map(|verdict| counter(&daemon, &format!("guard_{verdict}_total")));
        for (times, name) in (1..).zip(["one.example.org", "two.example.org"]) {
            assert_eq!(machine.addresses("127.0.0.1:53", name), [truth], "{decoy} {more}");
            eventually("it is judged", || verdicts().iter().sum::<u64>() == times);
            eventually("the decoy is asked", || counter(&daemon, "guard_decoys_total") == sent);
            eventually("its answer is looked at", || counter(&daemon, "guard_decoys_answered_total") == lied);
        }
        let last = incidents(&daemon)[0]["id"].as_str().unwrap().to_owned();
        let shown = get(&control_socket(&daemon), &format!("/incidents/{last}")).body;
        assert_eq!(shown.contains("decoy-answered"), lied == 1, "{decoy} {more}: {shown}");
    }
}

/// A resolver that has one address for every name, of clients everywhere.
fn resolver_for_all(machine: &Machine, at: &str, says: &str) -> Daemon {
    let zone = format!(
        "[[zone]]\nname = \"example.org\"\nrecords = [{{ name = \"*\", type = \"A\", value = \"{says}\" }}]\n\
         [hosts]\nfiles = []\n[server.access]\nallow = [\"0.0.0.0/0\"]\n"
    );
    machine.daemon(&zone, &[&format!("{at}:53")])
}

#[tokio::test]
async fn a_made_up_name_that_would_go_another_way_is_not_asked_for() {
    let (isp, other, inner) = (Fake::address(FORGED), refusing(), Fake::address([10, 0, 0, 7]));
    let witness = Fake::start(Habit::NxDomain(60)).with("vpn.corp.example.org", truth());
    // The door of the company's network has a public name; all else below is its own.
    let text = format!(
        "{}[upstream.inner]\nservers = [\"{}\"]\n[[route]]\nnames = [\"corp.example.org\"]\nupstream = \"inner\"\nprivate = true\n\
         [[route]]\nnames = [\"=vpn.corp.example.org\"]\nupstream = \"isp\"\nguard = \"enforce\"\nprivate = false\n",
        config(&isp, &witness, &other, "2s"),
        inner.address
    );
    let played = World::new().pipeline(&with(&text, ""));
    assert_eq!(addresses(&played.ask("vpn.corp.example.org").await), [TRUE]);
    played.counted(Counter::GuardUndecidable, 1).await;
    // What comes behind an answer begins before the next question.
    played.ask("www.corp.example.org").await;
    assert_eq!(played.count(Counter::GuardNobodyAsked), 0);
    for fake in [&isp, &witness] {
        assert_eq!(besides(fake, "vpn."), [] as [String; 0]);
    }
}

#[tokio::test]
async fn what_the_configuration_says_of_names_and_addresses_counts() {
    let (isp, witness, other) = (Fake::address(FORGED), Fake::start(truth()), refusing());
    let text = config(&isp, &witness, &other, "2s");
    let played = World::new().pipeline(&with(&text, "allow_divergent = [\"=www.example.org\"]"));
    assert_eq!(addresses(&played.ask(NAME).await), [FORGED], "it may differ");
    played.counted(Counter::GuardBenignDivergent, 1).await;
    // Whoever is first.
    isp.becomes(slow(Habit::Address(FORGED.into(), 300)));
    witness.becomes(Habit::Address(TRUE.into(), 300));
    played.pipeline.flush(truename::pipeline::cache::Flush::All);
    assert_eq!(addresses(&played.ask(NAME).await), [FORGED], "it may differ");
    isp.becomes(Habit::Address(FORGED.into(), 300));
    witness.becomes(truth());
    assert_eq!(addresses(&played.ask("two.example.org").await), [TRUE]);
    // What speaks against a reply by itself still does.
    isp.becomes(Habit::Address(Ipv4Addr::from(SINKHOLE), 300));
    played.pipeline.flush(truename::pipeline::cache::Flush::All);
    assert_eq!(addresses(&played.ask(NAME).await), [TRUE]);
    played.counted(Counter::GuardPoisoned, 1).await;
    isp.becomes(Habit::Address(FORGED.into(), 300));
    let listed = "forged_addresses = [\"31.13.94.0/24\"]\npackets = false";
    let played = World::new().pipeline(&with(&text, listed));
    assert_eq!(addresses(&played.ask(NAME).await), [TRUE]);
    played.counted(Counter::GuardPoisoned, 1).await;
    let incidents = played.pipeline.incidents();
    assert_eq!((incidents.len(), incidents[0].packets.len()), (1, 0), "packets are not wanted");
    witness.becomes(Habit::Code(Rcode::REFUSED));
    assert_eq!(played.ask("two.example.org").await.rcode(), Rcode::SERVFAIL);
    // Nor is it believed when somebody trusted says it, who is lied to.
    witness.becomes(Habit::Address(FORGED.into(), 300));
    assert_eq!(played.ask("three.example.org").await.rcode(), Rcode::SERVFAIL);
}
