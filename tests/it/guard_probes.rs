//! What the guard finds out beside its questions: samples of names that nobody guards, names that do not exist, decoys; and what
//! the configuration says of names and addresses. The real pipeline on real sockets.

use crate::guard_proofs::{FORGED, NAME, Played, TRUE, World, addresses, config, refusing, slow, until};
use crate::support::fake::{Fake, Habit};
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

#[tokio::test]
async fn a_decoy_that_is_answered_tells_of_somebody_on_the_way() {
    let counters = [Counter::GuardDecoys, Counter::GuardDecoysAnswered];
    for (decoy, answered) in [(Fake::address(FORGED), 1), (Fake::start(Habit::Silent), 0)] {
        let (isp, witness, other) = (Fake::address(FORGED), Fake::start(truth()), refusing());
        let decoys = format!("decoys = [\"{}\"]", decoy.address);
        let played = World::new().pipeline(&with(&config(&isp, &witness, &other, "2s"), &decoys));
        assert_eq!(addresses(&played.ask(NAME).await), [TRUE]);
        until("the decoy is asked", || decoy.count(NAME) == 1).await;
        played.counted(Counter::GuardDecoysAnswered, answered).await;
        assert_eq!(addresses(&played.ask("two.example.org").await), [TRUE]);
        played.counted(Counter::GuardPoisoned, answered).await;
        let because = played.said("two.example.org").await.found.unwrap().because;
        assert_eq!(because.contains("decoy-answered"), answered == 1, "{because}");
        assert_eq!(count_all(&played, counters), [1, answered], "once an hour");
        // Names that nobody guards are no business of a decoy's.
        played.ask("www.example.net").await;
        assert_eq!(decoy.asked().len(), 1);
    }
}

#[tokio::test]
async fn what_the_configuration_says_of_names_and_addresses_counts() {
    let (isp, witness, other) = (Fake::address(FORGED), Fake::start(truth()), refusing());
    let text = config(&isp, &witness, &other, "2s");
    let played = World::new().pipeline(&with(&text, "allow_divergent = [\"=www.example.org\"]"));
    assert_eq!(addresses(&played.ask(NAME).await), [FORGED], "it may differ");
    played.counted(Counter::GuardBenignDivergent, 1).await;
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
}
