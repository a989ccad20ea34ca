//! What `judge` says of the situations docs/guard.md lists, and what must hold whatever the evidence is.

use super::evidence::{FanIn, Habits, OperatorId, Proof};
use super::reply::{Datum, Fact, Marks};
use super::*;
use crate::dns::{Name, Rcode, Rtype};
use proptest::prelude::*;
use std::net::IpAddr;

const QNAME: &str = "www.example.org";
const TRUE: &str = "93.184.216.34";
const FORGED: &str = "31.13.94.10";

fn question() -> Question {
    Question { qname: Name::parse(QNAME).unwrap(), qtype: Rtype::A }
}

fn policy(guarded: bool) -> Policy {
    let inside = !guarded;
    let (compare, hold_on) = (Compare::Always, HoldOn::Always);
    Policy { exempt: false, guarded, inside, compare, proofs: true, decoys: true, hold_on }
}

/// A reply in zone-file shorthand: `A 1.2.3.4`, `CNAME target` from the name before it, each with a TTL of 300.
fn reply(rcode: Rcode, records: &[&str], ttl: u32) -> Reply {
    let mut owner = Name::parse(QNAME).unwrap();
    let mut facts = Vec::new();
    for record in records {
        let (word, data) = record.split_once(' ').unwrap();
        let rtype: Rtype = word.parse().unwrap();
        let (alias, datum) = match rtype {
            Rtype::CNAME => {
                let target = Name::parse(data).unwrap();
                (Some(target.clone()), Datum::of(rtype, target.as_wire()))
            }
            Rtype::A | Rtype::AAAA => (None, Datum::Address(data.parse().unwrap())),
            _ => (None, Datum::Other(data.as_bytes().into())),
        };
        facts.push(Fact { owner: owner.clone(), rtype, ttl: Some(ttl), alias: alias.clone(), datum });
        owner = alias.unwrap_or(owner);
    }
    let marks =
        Marks { authoritative: Some(false), recursion: Some(true), opt: Some(true), case_kept: Some(true), ede: None };
    Reply::of(&question(), rcode, &facts, records.is_empty(), marks)
}

fn data(records: &[&str]) -> Reply {
    reply(Rcode::NOERROR, records, 300)
}

fn upstream(operator: u16, way: Way, replies: Vec<Reply>) -> Candidate {
    Candidate { operator: OperatorId(operator), way, on_lan: false, habits: Habits::default(), replies }
}

fn plain(replies: Vec<Reply>) -> Candidate {
    upstream(0, Way::Datagram, replies)
}

fn trusted(operator: u16, reply: Reply) -> Candidate {
    upstream(operator, Way::Encrypted, vec![reply])
}

fn evidence(suspect: Candidate, trusted: Vec<Candidate>) -> Evidence {
    let tried = Probes::default().with(Probe::AskTrusted).with(Probe::ListenOn);
    Evidence { suspects: vec![suspect], trusted, tried, ..Evidence::default() }
}

/// Every probe is answered with nothing.
fn decided(policy: &Policy, evidence: &Evidence) -> Decision {
    let mut evidence = evidence.clone();
    loop {
        match judge(&question(), policy, &evidence) {
            Judgement::Serve(decision) => return decision,
            Judgement::Need(probes) => evidence.tried.add(probes),
        }
    }
}

fn served_side(decision: &Decision) -> Option<Side> {
    match decision.serve {
        Serve::Reply(at) | Serve::Unconfirmed(at) => Some(at.side),
        Serve::Nothing => None,
    }
}

/// Asserts verdict and served side, for ordinary and for guarded names.
fn assert_both(evidence: &Evidence, verdict: Verdict, side: Option<Side>) {
    for guarded in [false, true] {
        let decision = decided(&policy(guarded), evidence);
        assert_eq!((decision.verdict, served_side(&decision)), (verdict, side), "guarded {guarded}: {decision:?}");
    }
}

#[test]
fn an_injected_reply_that_wins_the_race_is_poisoned_and_the_trusted_one_served() {
    let race = evidence(
        plain(vec![data(&["A 31.13.94.10"]), data(&["A 93.184.216.34"])]),
        vec![trusted(1, data(&["A 93.184.216.34"]))],
    );
    assert_both(&race, Verdict::Poisoned, Some(Side::Trusted));
}

#[test]
fn the_same_answer_is_consistent_and_the_suspects_own_is_served() {
    let same = evidence(plain(vec![data(&["A 93.184.216.34"])]), vec![trusted(1, data(&["A 93.184.216.34"]))]);
    assert_both(&same, Verdict::Consistent, Some(Side::Suspect));
}

#[test]
fn a_public_address_that_merely_differs_accuses_nobody_and_is_not_served() {
    let other = evidence(plain(vec![data(&["A 31.13.94.10"])]), vec![trusted(1, data(&["A 93.184.216.34"]))]);
    assert_both(&other, Verdict::Undecidable, Some(Side::Trusted));
    assert_eq!(decided(&policy(true), &other).keep_at_most, None, "the trusted answer is kept as long as any");
}

#[test]
fn sinkholes_wrong_types_and_denials_are_poisoned() {
    let truth = || vec![trusted(1, data(&["A 93.184.216.34"]))];
    for lie in [
        data(&["A 10.10.34.34"]),
        data(&["A 127.0.0.1"]),
        data(&["A 0.0.0.0"]),
        data(&["AAAA 2a03:2880:f10d:83:face:b00c:0:25de"]),
        reply(Rcode::NXDOMAIN, &[], 300),
    ] {
        assert_both(&evidence(plain(vec![lie]), truth()), Verdict::Poisoned, Some(Side::Trusted));
    }
}

#[test]
fn a_special_address_that_the_name_has_in_public_is_no_sinkhole() {
    let public = evidence(plain(vec![data(&["A 10.0.0.7"])]), vec![trusted(1, data(&["A 10.0.0.9"]))]);
    assert_both(&public, Verdict::BenignDivergent, Some(Side::Suspect));
}

#[test]
fn one_trusted_upstream_that_gives_a_sinkhole_is_no_witness() {
    let liar = trusted(1, data(&["A 10.10.34.34"]));
    let honest = trusted(2, data(&["A 93.184.216.34"]));
    let lied_to = evidence(plain(vec![data(&["A 10.10.34.34"])]), vec![liar, honest]);
    assert_both(&lied_to, Verdict::Poisoned, Some(Side::Trusted));
    let decision = decided(&policy(true), &lied_to);
    assert_eq!(decision.serve, Serve::Reply(ReplyAt { side: Side::Trusted, candidate: 1, reply: 0 }));
}

#[test]
fn empty_answers_and_broken_chains_are_repaired_from_the_trusted_side() {
    let truth = || vec![trusted(1, data(&["CNAME edge.example.net", "A 93.184.216.34"]))];
    assert_both(&evidence(plain(vec![data(&[])]), truth()), Verdict::EmptyVsPresent, Some(Side::Trusted));
    let endless = data(&["CNAME edge.example.net", "CNAME www.example.org"]);
    for broken in [data(&["CNAME edge.example.net"]), endless, reply(Rcode::SERVFAIL, &["CNAME edge.example.net"], 60)]
    {
        assert_both(&evidence(plain(vec![broken]), truth()), Verdict::BrokenChain, Some(Side::Trusted));
    }
}

#[test]
fn a_denial_behind_an_alias_is_no_broken_chain() {
    let mut behind = data(&["CNAME edge.example.net"]);
    behind.soa = true;
    let said = |reply: &Reply, guarded| decided(&policy(guarded), &evidence(plain(vec![reply.clone()]), Vec::new()));
    let unguarded = said(&behind, false);
    assert_eq!(unguarded.verdict, Verdict::Undecidable);
    assert!(matches!(unguarded.serve, Serve::Unconfirmed(_)));
    // That a guarded name has no IPv4 address takes more than an untrusted word.
    let guarded = said(&behind, true);
    assert_eq!((guarded.verdict, guarded.serve), (Verdict::Undecidable, Serve::Nothing));
    let open = said(&Reply { soa: false, ..behind }, false);
    // What has no end is gone by: whoever serves it asks for the end.
    assert_eq!(open.verdict, Verdict::BrokenChain);
    assert!(matches!(open.serve, Serve::Unconfirmed(_)), "{:?}", open.serve);
}

#[test]
fn failures_are_failures_also_with_an_address_in_them() {
    let truth = || vec![trusted(1, data(&["A 93.184.216.34"]))];
    for failed in [vec![], vec![reply(Rcode::SERVFAIL, &["A 93.184.216.34"], 60)], vec![reply(Rcode::REFUSED, &[], 60)]]
    {
        assert_both(&evidence(plain(failed), truth()), Verdict::UpstreamFailing, Some(Side::Trusted));
    }
}

#[test]
fn data_of_a_denied_name_is_a_hijack_and_guarded_names_take_two_operators_for_that() {
    let denial = || reply(Rcode::NXDOMAIN, &[], 300);
    let one = evidence(plain(vec![data(&["A 31.13.94.10"])]), vec![trusted(1, denial())]);
    let two = evidence(plain(vec![data(&["A 31.13.94.10"])]), vec![trusted(1, denial()), trusted(2, denial())]);
    assert_both(&two, Verdict::NxdomainHijacked, Some(Side::Trusted));
    assert_eq!(decided(&policy(false), &one).verdict, Verdict::NxdomainHijacked);
    let guarded = decided(&policy(true), &one);
    assert_eq!(guarded.verdict, Verdict::Undecidable);
    assert!(matches!(guarded.serve, Serve::Unconfirmed(ReplyAt { side: Side::Trusted, .. })));
    let Judgement::Need(probes) = judge(&question(), &policy(true), &one) else { panic!("one word was enough") };
    assert!(probes.has(Probe::AskAnotherTrusted));
    let secured = Evidence { secure: true, ..one };
    assert_both(&secured, Verdict::NxdomainHijacked, Some(Side::Trusted));
}

#[test]
fn a_guarded_name_is_not_denied_where_trusted_upstreams_only_have_nothing_of_the_type() {
    let case = evidence(plain(vec![reply(Rcode::NXDOMAIN, &[], 300)]), vec![trusted(1, data(&[]))]);
    let (unguarded, guarded) = (decided(&policy(false), &case), decided(&policy(true), &case));
    assert_eq!((unguarded.verdict, guarded.verdict), (Verdict::BenignDivergent, Verdict::BenignDivergent));
    assert_eq!((served_side(&unguarded), served_side(&guarded)), (Some(Side::Suspect), Some(Side::Trusted)));
}

#[test]
fn a_private_address_from_the_own_network_for_a_name_unknown_outside_is_split_horizon() {
    let inside = Candidate { on_lan: true, ..plain(vec![data(&["A 10.1.2.3"])]) };
    let of_loopback = Candidate { on_lan: true, ..plain(vec![data(&["A 127.0.0.1"])]) };
    let denials = || vec![trusted(1, reply(Rcode::NXDOMAIN, &[], 300)), trusted(2, reply(Rcode::NXDOMAIN, &[], 300))];
    let split = evidence(inside, denials());
    assert_eq!(decided(&policy(false), &split).verdict, Verdict::BenignDivergent);
    assert_eq!(decided(&policy(true), &split).verdict, Verdict::NxdomainHijacked);
    // Guarded because everything is: nobody has said that the name is a public one.
    let by_default = Policy { inside: true, ..policy(true) };
    assert_eq!(decided(&by_default, &split).verdict, Verdict::BenignDivergent);
    assert_eq!(decided(&by_default, &evidence(of_loopback.clone(), denials())).verdict, Verdict::NxdomainHijacked);
    let alone = |policy: &Policy| decided(policy, &evidence(split.suspects[0].clone(), Vec::new())).serve;
    assert!(matches!(alone(&by_default), Serve::Unconfirmed(_)));
    assert_eq!(alone(&policy(true)), Serve::Nothing);
    assert_eq!(decided(&policy(false), &evidence(of_loopback, denials())).verdict, Verdict::NxdomainHijacked);
}

#[test]
fn a_certificate_settles_what_looking_cannot() {
    let mut disputed = evidence(plain(vec![data(&["A 31.13.94.10"])]), vec![trusted(1, data(&["A 93.184.216.34"]))]);
    let Judgement::Need(probes) = judge(&question(), &policy(true), &disputed) else { panic!("nothing was asked for") };
    assert!(probes.has(Probe::Prove));
    let address: IpAddr = FORGED.parse().unwrap();
    for (proof, verdict) in [
        (Proof::Valid, Verdict::BenignDivergent),
        (Proof::OtherName, Verdict::Poisoned),
        (Proof::Untrusted, Verdict::Poisoned),
        (Proof::Unreachable, Verdict::Undecidable),
        (Proof::LocalRoot, Verdict::Undecidable),
    ] {
        disputed.proofs = vec![(address, proof), (TRUE.parse().unwrap(), Proof::Valid)];
        assert_eq!(decided(&policy(true), &disputed).verdict, verdict, "{proof:?}");
    }
    // Nobody has looked at the name's own servers: they may have none to show.
    disputed.proofs = vec![(address, Proof::OtherName)];
    assert_eq!(decided(&policy(true), &disputed).verdict, Verdict::Undecidable);
}

#[test]
fn without_trusted_upstreams_only_what_proves_itself_is_served_as_good() {
    let mut alone = evidence(plain(vec![data(&["A 31.13.94.10"])]), Vec::new());
    let unsure = decided(&policy(true), &alone);
    assert_eq!((unsure.verdict, unsure.keep_at_most), (Verdict::Undecidable, Some(UNDECIDED_TTL)));
    assert!(matches!(unsure.serve, Serve::Unconfirmed(_)));
    alone.proofs = vec![(FORGED.parse().unwrap(), Proof::Valid)];
    let proved = decided(&policy(true), &alone);
    assert!(matches!(proved.serve, Serve::Reply(_)) && proved.keep_at_most.is_none());
    // A lie that shows, or a denial, is not passed on to whoever asked for a guarded name.
    for lie in [data(&["A 10.10.34.34"]), reply(Rcode::NXDOMAIN, &[], 60), data(&[])] {
        assert_eq!(decided(&policy(true), &evidence(plain(vec![lie]), Vec::new())).serve, Serve::Nothing);
    }
}

#[test]
fn among_liars_the_proved_address_is_found() {
    let mut many = evidence(plain(vec![data(&["A 31.13.94.10"])]), Vec::new());
    many.suspects.push(upstream(7, Way::Encrypted, vec![data(&["A 93.184.216.34"])]));
    many.proofs = vec![(FORGED.parse().unwrap(), Proof::OtherName), (TRUE.parse().unwrap(), Proof::Valid)];
    let decision = decided(&policy(true), &many);
    assert_eq!(decision.serve, Serve::Reply(ReplyAt { side: Side::Suspect, candidate: 1, reply: 0 }));
}

#[test]
fn a_certificate_speaks_against_an_address_only_beside_a_better_one() {
    let mut disputed = evidence(plain(vec![data(&["A 31.13.94.10"])]), vec![trusted(1, data(&["A 93.184.216.34"]))]);
    let (forged, own): (IpAddr, IpAddr) = (FORGED.parse().unwrap(), TRUE.parse().unwrap());
    disputed.proofs = vec![(forged, Proof::OtherName), (own, Proof::Untrusted)];
    assert_eq!(decided(&policy(true), &disputed).verdict, Verdict::Undecidable, "the name has none to show");
    disputed.proofs = vec![(forged, Proof::OtherName), (own, Proof::Valid)];
    assert_eq!(decided(&policy(true), &disputed).verdict, Verdict::Poisoned);
    // Without a trusted reply it takes another address that has proved itself to accuse.
    let mut alone = evidence(plain(vec![data(&["A 31.13.94.10"])]), Vec::new());
    alone.proofs = vec![(forged, Proof::OtherName)];
    let unsure = decided(&policy(true), &alone);
    assert_eq!((unsure.verdict, unsure.serve), (Verdict::Undecidable, Serve::Nothing));
    alone.suspects.push(upstream(7, Way::Datagram, vec![data(&["A 93.184.216.34"])]));
    alone.proofs.push((own, Proof::Valid));
    let sure = decided(&policy(true), &alone);
    assert_eq!(sure.verdict, Verdict::Poisoned);
    assert_eq!(sure.about, Some(ReplyAt { side: Side::Suspect, candidate: 0, reply: 0 }));
    assert_eq!(sure.serve, Serve::Reply(ReplyAt { side: Side::Suspect, candidate: 1, reply: 0 }));
}

#[test]
fn the_mirror_of_a_public_name_in_the_own_network_is_known_by_a_certificate_that_is_believed_here() {
    let mirror = || Candidate { on_lan: true, ..plain(vec![data(&["A 10.1.2.3"])]) };
    let address: IpAddr = "10.1.2.3".parse().unwrap();
    let with = |candidate: Candidate, proof: Option<Proof>| {
        let proofs = proof.map(|proof| (address, proof)).into_iter().collect();
        decided(&policy(true), &Evidence { proofs, ..evidence(candidate, Vec::new()) }).serve
    };
    assert!(matches!(with(mirror(), Some(Proof::LocalRoot)), Serve::Unconfirmed(_)));
    assert!(matches!(with(mirror(), Some(Proof::Valid)), Serve::Reply(_)));
    for proof in [None, Some(Proof::OtherName), Some(Proof::Untrusted), Some(Proof::Unreachable)] {
        assert_eq!(with(mirror(), proof), Serve::Nothing, "{proof:?}");
    }
    let from_outside = Candidate { on_lan: false, ..mirror() };
    assert_eq!(with(from_outside.clone(), Some(Proof::LocalRoot)), Serve::Nothing);
    // Nobody looks at addresses of a network while somebody trusted speaks, or for who is not in it.
    let asked = |policy: &Policy, evidence: &Evidence| -> Vec<IpAddr> {
        to_prove(&question(), policy, evidence).into_iter().map(|(_, address)| address).collect()
    };
    let alone = evidence(mirror(), Vec::new());
    assert_eq!(asked(&policy(true), &alone), [address]);
    assert!(asked(&Policy { inside: true, ..policy(true) }, &alone).is_empty());
    assert!(asked(&policy(true), &evidence(from_outside, Vec::new())).is_empty());
    let answered = evidence(mirror(), vec![trusted(1, data(&["A 93.184.216.34"]))]);
    assert!(asked(&policy(true), &answered).is_empty());
}

#[test]
fn aliases_without_an_end_are_gone_by_when_nobody_trusted_answers() {
    let mut bare = data(&["CNAME edge.example.net"]);
    bare.soa = false;
    let alone = decided(&policy(true), &evidence(plain(vec![bare.clone()]), Vec::new()));
    assert_eq!((alone.verdict, alone.keep_at_most), (Verdict::BrokenChain, Some(UNDECIDED_TTL)));
    assert!(matches!(alone.serve, Serve::Unconfirmed(_)));
    // One that says by its flags that it is no resolver's is no better for having no address.
    let mut forged = bare.clone();
    (forged.marks.authoritative, forged.marks.recursion) = (Some(true), Some(false));
    assert_eq!(decided(&policy(true), &evidence(plain(vec![forged]), Vec::new())).serve, Serve::Nothing);
    let truth = vec![trusted(1, data(&["A 93.184.216.34"]))];
    assert_eq!(served_side(&decided(&policy(true), &evidence(plain(vec![bare]), truth))), Some(Side::Trusted));
    let mut denied = reply(Rcode::NXDOMAIN, &["CNAME edge.example.net"], 300);
    denied.soa = false;
    assert_eq!(decided(&policy(true), &evidence(plain(vec![denied]), Vec::new())).serve, Serve::Nothing);
    let looping = data(&["CNAME www.example.org"]);
    assert_eq!(decided(&policy(true), &evidence(plain(vec![looping]), Vec::new())).serve, Serve::Nothing);
}

#[test]
fn others_are_asked_while_nobody_trusted_answers_and_nothing_is_proved() {
    let asks = |policy: &Policy, evidence: &Evidence| match judge(&question(), policy, evidence) {
        Judgement::Need(probes) => probes.has(Probe::AskOthers),
        Judgement::Serve(_) => false,
    };
    let mut alone = evidence(plain(vec![data(&["A 31.13.94.10"])]), Vec::new());
    assert!(asks(&policy(true), &alone) && asks(&policy(true), &evidence(plain(Vec::new()), Vec::new())));
    let may_be_inside = Policy { inside: true, ..policy(true) };
    let by_hand = Policy { proofs: false, ..policy(true) };
    assert!(!asks(&policy(false), &alone) && !asks(&may_be_inside, &alone) && !asks(&by_hand, &alone));
    assert!(!asks(&policy(true), &evidence(alone.suspects[0].clone(), vec![trusted(1, data(&["A 93.184.216.34"]))])));
    alone.proofs = vec![(FORGED.parse().unwrap(), Proof::Valid)];
    assert!(!asks(&policy(true), &alone));
}

#[test]
fn lawful_differences_raise_no_alarm() {
    let truth = |records: &[&str]| vec![trusted(1, data(records))];
    let lawful = [
        evidence(plain(vec![data(&["A 93.184.216.99"])]), truth(&["A 93.184.216.34"])),
        evidence(plain(vec![data(&["A 93.184.216.34", "A 31.13.94.10"])]), truth(&["A 93.184.216.34"])),
    ];
    for one in lawful {
        assert_both(&one, Verdict::BenignDivergent, Some(Side::Suspect));
    }
    let mut network = evidence(plain(vec![data(&["A 31.13.94.10"])]), truth(&["A 93.184.216.34"]));
    network.networks = vec![(FORGED.parse().unwrap(), 64500), (TRUE.parse().unwrap(), 64500)];
    assert_both(&network, Verdict::BenignDivergent, Some(Side::Suspect));
    let aliases = evidence(
        plain(vec![data(&["CNAME e1.cdn.example.net", "A 31.13.94.10"])]),
        truth(&["CNAME e2.cdn.example.net", "A 93.184.216.34"]),
    );
    assert_eq!(decided(&policy(false), &aliases).verdict, Verdict::BenignDivergent);
    // A resolver inside an injector's reach gives true aliases with a forged end.
    assert_eq!(decided(&policy(true), &aliases).verdict, Verdict::Undecidable);
}

#[test]
fn nat64_addresses_are_held_against_the_names_own() {
    let question = Question { qtype: Rtype::AAAA, ..question() };
    let datum = Datum::Address("64:ff9b::5db8:d822".parse().unwrap());
    let fact = Fact { owner: question.qname.clone(), rtype: Rtype::AAAA, ttl: Some(60), alias: None, datum };
    let synthesised = Reply::of(&question, Rcode::NOERROR, &[fact], false, Marks::default());
    let nodata = Reply::of(&question, Rcode::NOERROR, &[], true, Marks::default());
    let mut evidence = evidence(plain(vec![synthesised]), vec![trusted(1, nodata)]);
    let Judgement::Need(probes) = judge(&question, &policy(true), &evidence) else { panic!("nothing was asked for") };
    assert!(probes.has(Probe::AskIpv4));
    evidence.ipv4 = vec![TRUE.parse().unwrap()];
    let Judgement::Serve(decision) = judge(&question, &policy(true), &evidence) else { panic!("still in doubt") };
    assert_eq!(decision.verdict, Verdict::BenignDivergent);
}

#[test]
fn nat64_addresses_behind_a_prefix_of_the_own_network_are_lawful_there_only() {
    let question = Question { qtype: Rtype::AAAA, ..question() };
    let aaaa = |text: &str| {
        let datum = Datum::Address(text.parse().unwrap());
        let fact = Fact { owner: question.qname.clone(), rtype: Rtype::AAAA, ttl: Some(60), alias: None, datum };
        Reply::of(&question, Rcode::NOERROR, &[fact], false, Marks::default())
    };
    let nodata = Reply::of(&question, Rcode::NOERROR, &[], true, Marks::default());
    let (made, other) = (aaaa("fd64:1098:2c::5db8:d822"), aaaa("2a00:1098:2c::1f0d:5e0a"));
    let elsewhere = aaaa("2a00:1098:2c::5db8:d822");
    let settled = |replies: &[&Reply], on_lan, truth: &Reply| {
        let replies = replies.iter().map(|reply| (*reply).clone()).collect();
        let mut evidence = evidence(Candidate { on_lan, ..plain(replies) }, vec![trusted(1, truth.clone())]);
        evidence.ipv4 = vec![TRUE.parse().unwrap()];
        evidence.tried =
            Probes::default().with(Probe::AskTrusted).with(Probe::ListenOn).with(Probe::Prove).with(Probe::Decoy);
        match judge(&question, &policy(true), &evidence) {
            Judgement::Serve(decision) => decision,
            Judgement::Need(probes) => panic!("{probes:?}"),
        }
    };
    let decision = |reply: &Reply, on_lan, truth: &Reply| settled(&[reply], on_lan, truth);
    let verdict = |reply: &Reply, on_lan, truth: &Reply| decision(reply, on_lan, truth).verdict;
    assert_eq!(verdict(&made, true, &nodata), Verdict::BenignDivergent);
    assert_eq!(verdict(&aaaa("64:ff9b:1::5db8:d822"), true, &nodata), Verdict::BenignDivergent);
    // Whoever names a global prefix may name their own.
    let unsure = decision(&elsewhere, true, &nodata);
    assert_eq!((unsure.verdict, unsure.keep_at_most), (Verdict::Undecidable, Some(UNDECIDED_TTL)));
    assert!(matches!(unsure.serve, Serve::Unconfirmed(ReplyAt { side: Side::Suspect, .. })), "{unsure:?}");
    assert_eq!(unsure.assessment.signs, [Sign::Dns64Elsewhere]);
    for (reply, on_lan, truth) in
        [(&elsewhere, false, &nodata), (&other, true, &nodata), (&elsewhere, true, &aaaa("2606:2800:220:1::1"))]
    {
        let given = decision(reply, on_lan, truth).serve;
        assert!(matches!(given, Serve::Reply(ReplyAt { side: Side::Trusted, .. })), "{given:?}");
    }
    let given = settled(&[&elsewhere, &other], true, &nodata).serve;
    assert!(matches!(given, Serve::Reply(ReplyAt { side: Side::Trusted, .. })), "two replies: {given:?}");
    assert_eq!(verdict(&other, true, &nodata), Verdict::Undecidable);
    assert_eq!(verdict(&elsewhere, false, &nodata), Verdict::Undecidable, "no resolver of the network's own");
    // Addresses are made where there are none (RFC 6147 section 5.1.6).
    assert_eq!(verdict(&elsewhere, true, &aaaa("2606:2800:220:1::1")), Verdict::Undecidable);
    let fresh = evidence(Candidate { on_lan: true, ..plain(vec![elsewhere]) }, vec![trusted(1, nodata)]);
    let Judgement::Need(probes) = judge(&question, &policy(true), &fresh) else { panic!("nothing was asked for") };
    assert!(probes.has(Probe::AskIpv4));
}

#[test]
fn learnt_things_speak() {
    let base = || {
        evidence(
            plain(vec![reply(Rcode::NOERROR, &["A 31.13.94.10"], 200)]),
            vec![trusted(1, data(&["A 93.184.216.34"]))],
        )
    };
    let mut many = base();
    many.fan_in = vec![(FORGED.parse().unwrap(), FanIn { names: 9, disputed: 8 })];
    let mut shared_host = base();
    shared_host.fan_in = vec![(FORGED.parse().unwrap(), FanIn { names: 9, disputed: 0 })];
    let mut listed = base();
    listed.listed = vec![FORGED.parse().unwrap()];
    let mut decoy = base();
    decoy.decoy_answered = true;
    let mut habit = base();
    habit.suspects[0].habits.sends_opt = true;
    habit.suspects[0].replies[0].marks.opt = Some(false);
    let mut ceiling = base();
    ceiling.ttl_ceiling = Some(199);
    for (what, one, verdict) in [
        ("many names", many, Verdict::Poisoned),
        ("one host of many names", shared_host, Verdict::Undecidable),
        ("the user's list", listed, Verdict::Poisoned),
        ("an answered decoy", decoy, Verdict::Poisoned),
        ("an OPT record that is always there", habit, Verdict::Poisoned),
        ("a TTL above all that were seen", ceiling, Verdict::Poisoned),
    ] {
        assert_eq!(decided(&policy(true), &one).verdict, verdict, "{what}");
    }
}

#[test]
fn a_home_router_may_set_its_flags_as_it_likes() {
    let mut odd = data(&["A 31.13.94.10"]);
    odd.marks.authoritative = Some(true);
    odd.marks.recursion = Some(false);
    let truth = || vec![trusted(1, data(&["A 93.184.216.34"]))];
    let router = Candidate { on_lan: true, ..plain(vec![odd.clone()]) };
    assert_both(&evidence(router, truth()), Verdict::Undecidable, Some(Side::Trusted));
    assert_both(&evidence(plain(vec![odd]), truth()), Verdict::Poisoned, Some(Side::Trusted));
}

#[test]
fn nothing_is_asked_about_ordinary_answers_unless_they_look_wrong() {
    let careful = Policy {
        compare: Compare::WhenSuspicious,
        proofs: false,
        decoys: false,
        hold_on: HoldOn::WhenDisputed,
        ..policy(false)
    };
    let asks = |reply: Reply| {
        let fresh = Evidence { suspects: vec![plain(vec![reply])], ..Evidence::default() };
        match judge(&question(), &Policy { hold_on: HoldOn::Never, ..careful }, &fresh) {
            Judgement::Serve(_) => false,
            Judgement::Need(probes) => probes.has(Probe::AskTrusted),
        }
    };
    assert!(!asks(data(&["A 93.184.216.34"])));
    assert!(!asks(data(&[])), "a lawful NODATA, with its SOA");
    assert!(asks(data(&["A 10.10.34.34"])));
    assert!(asks(data(&["CNAME edge.example.net"])));
    let mut bare = data(&[]);
    bare.soa = false;
    assert!(asks(bare));
}

/// Replies of few addresses and names, so that they often agree, overlap and repeat.
fn any_reply() -> impl Strategy<Value = Reply> {
    let address = prop::sample::select(vec![
        "A 93.184.216.34",
        "A 93.184.216.35",
        "A 31.13.94.10",
        "A 10.10.34.34",
        "A 127.0.0.1",
        "AAAA 2001:db8::1",
        "TXT x",
    ]);
    let alias = prop::sample::select(vec!["CNAME a.example.net", "CNAME b.example.net", "CNAME www.example.org"]);
    let rcode = prop::sample::select(vec![Rcode::NOERROR, Rcode::NOERROR, Rcode::NXDOMAIN, Rcode::SERVFAIL]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (rcode, prop::collection::vec(alias, 0..3), prop::collection::vec(address, 0..3), 0..400_u32, flags).prop_map(
        |(rcode, aliases, addresses, ttl, (aa, ra, opt))| {
            let mut reply = reply(rcode, &[aliases, addresses].concat(), ttl);
            reply.marks = Marks { authoritative: Some(aa), recursion: Some(ra), opt: Some(opt), ..reply.marks };
            reply
        },
    )
}

fn any_candidate(operators: std::ops::Range<u16>) -> impl Strategy<Value = Candidate> {
    let way = prop::sample::select(vec![Way::Datagram, Way::Stream, Way::Encrypted]);
    (operators, way, any::<bool>(), prop::collection::vec(any_reply(), 0..3))
        .prop_map(|(operator, way, on_lan, replies)| Candidate { on_lan, ..upstream(operator, way, replies) })
}

fn any_evidence() -> impl Strategy<Value = Evidence> {
    let proof = prop::sample::select(vec![Proof::Valid, Proof::OtherName, Proof::Unreachable]);
    let suspects = prop::collection::vec(any_candidate(0..3), 0..3);
    let trusted = prop::collection::vec(any_candidate(10..13), 0..3);
    (suspects, trusted, prop::option::of(proof), prop::option::of(0..3_u32), any::<bool>()).prop_map(
        |(suspects, trusted, proof, network, decoy_answered)| {
            let forged: IpAddr = FORGED.parse().unwrap();
            let networks = network.map(|n| vec![(forged, n), (TRUE.parse().unwrap(), 1)]).unwrap_or_default();
            let proofs = proof.map(|proof| (forged, proof)).into_iter().collect();
            Evidence { suspects, trusted, proofs, networks, decoy_answered, ..Evidence::default() }
        },
    )
}

proptest! {
    #[test]
    fn what_is_called_a_lie_is_never_served_beside_a_trusted_answer(evidence in any_evidence(), guarded: bool) {
        let decision = decided(&policy(guarded), &evidence);
        let truth = Truth::of(&evidence, &question());
        if !decision.verdict.is_clean() && !truth.answers.is_empty() {
            prop_assert_eq!(served_side(&decision), Some(Side::Trusted));
        }
    }

    #[test]
    fn the_order_of_arrival_changes_nothing(evidence in any_evidence(), guarded: bool) {
        let before = decided(&policy(guarded), &evidence);
        let mut turned = evidence.clone();
        turned.suspects.reverse();
        turned.trusted.reverse();
        for candidate in turned.suspects.iter_mut().chain(&mut turned.trusted) {
            candidate.replies.reverse();
        }
        let after = decided(&policy(guarded), &turned);
        prop_assert_eq!((before.verdict, before.assessment.score), (after.verdict, after.assessment.score));
        let content = |evidence: &Evidence, serve: Serve| match serve {
            Serve::Reply(at) | Serve::Unconfirmed(at) => {
                let side = if at.side == Side::Trusted { &evidence.trusted } else { &evidence.suspects };
                let reply = &side[at.candidate].replies[at.reply];
                Some((at.side, reply.content, side[at.candidate].operator))
            }
            Serve::Nothing => None,
        };
        prop_assert_eq!(content(&evidence, before.serve), content(&turned, after.serve));
    }

    #[test]
    fn exempt_names_are_never_asked_about(evidence in any_evidence()) {
        prop_assert!(matches!(judge(&question(), &Policy::EXEMPT, &evidence), Judgement::Serve(_)));
    }

    #[test]
    fn no_probe_is_asked_for_twice_or_against_the_policy(evidence in any_evidence(), guarded: bool) {
        let quiet = Policy { compare: Compare::Never, proofs: false, decoys: false, hold_on: HoldOn::Never, ..policy(guarded) };
        prop_assert!(matches!(judge(&question(), &quiet, &evidence), Judgement::Serve(_)));
        let mut evidence = evidence;
        let mut rounds = 0;
        while let Judgement::Need(probes) = judge(&question(), &policy(guarded), &evidence) {
            prop_assert!(probes.without(evidence.tried) == probes);
            evidence.tried.add(probes);
            rounds += 1;
            prop_assert!(rounds <= 6);
        }
    }
}
