//! Certificates as evidence: the real pipeline on real sockets, with real TLS, and a map of the world in place of real addresses.

use crate::control::control_socket;
use crate::guard_live::incidents;
use crate::support::daemon::{Daemon, run};
use crate::support::encrypted::{Identity, Pki, installed};
use crate::support::eventually;
use crate::support::fake::{Fake, Habit, alias, answer_with, qname_of};
use crate::support::far::Far;
use crate::support::machine::Machine;
use crate::support::tls_fake;
use crate::user_machine::resolver;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use truename::clock::Clock;
use truename::config::load_text;
use truename::dns::wire::Section;
use truename::dns::{Answer, Name, Query, Rcode, Rtype, Trace};
use truename::pipeline::cache::Cache;
use truename::pipeline::route::Routes;
use truename::pipeline::said::Record;
use truename::pipeline::zone::Zones;
use truename::pipeline::{Parts, Pipeline, State};
use truename::stats::{Counter, Stats};
use truename::upstream::{Net, ProofMap, Upstreams};

pub(crate) const TRUE: [u8; 4] = [93, 184, 216, 34];
pub(crate) const FORGED: [u8; 4] = [31, 13, 94, 10];
pub(crate) const NAME: &str = "www.example.org";

/// The world as it is played here: who signs, and which server stands at which address.
pub(crate) struct World {
    /// Its certificates are those of the public.
    public: Pki,
    /// Its certificates are believed on this machine.
    local: Pki,
    map: ProofMap,
    /// Octets that servers were sent after the handshake.
    sent: Arc<AtomicUsize>,
}

impl World {
    pub(crate) fn new() -> Self {
        let (public, local) = (Pki::new(), Pki::new());
        let der = |pki: &Pki| {
            let pem = std::fs::read_to_string(pki.ca_file()).unwrap();
            let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
            vec![data_encoding::BASE64.decode(body.as_bytes()).unwrap()]
        };
        let map = ProofMap { addresses: HashMap::new(), public_roots: der(&public), local_roots: der(&local) };
        Self { public, local, map, sent: Arc::default() }
    }

    /// Puts a server at an address.
    async fn serve(&mut self, at: [u8; 4], config: Arc<rustls::ServerConfig>) -> tls_fake::Fake {
        let sent = Arc::clone(&self.sent);
        let fake = tls_fake::Fake::tls(config, move |mut stream, _| {
            let sent = Arc::clone(&sent);
            async move {
                let mut buffer = [0; 64];
                while let Ok(len @ 1..) = stream.read(&mut buffer).await {
                    sent.fetch_add(len, Ordering::Relaxed);
                }
            }
        })
        .await;
        self.put(at, fake.address);
        fake
    }

    fn put(&mut self, at: [u8; 4], address: SocketAddr) {
        self.map.addresses.insert(IpAddr::from(at), address);
    }

    /// Puts a server of this name there, as the public knows it.
    async fn true_server(&mut self, at: [u8; 4], name: &str) -> tls_fake::Fake {
        let config = self.public.issue(&[name], |_| {}).server_config(&[]);
        self.serve(at, config).await
    }

    /// Puts a server of another name there.
    async fn other_server(&mut self, at: [u8; 4]) -> tls_fake::Fake {
        self.true_server(at, "block.isp.example").await
    }

    /// Makes a pipeline that lives in it.
    pub(crate) fn pipeline(&self, text: &str) -> Played {
        let loaded = load_text("test", &format!("{text}[hosts]\nfiles = []\n"));
        let config = Arc::new(loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics)));
        let (clock, stats) = (Clock::default(), Arc::new(Stats::default()));
        let (zones, _) = Zones::load(&config, 0);
        let (routes, _) = Routes::load(&config, &|_| false, &[]);
        let cache = Arc::new(Cache::new(&config.cache));
        let upstreams = Upstreams::new(&config, &[], clock.clone(), Arc::clone(&stats), Net::Real, None);
        upstreams.set_proof_map(self.map.clone());
        let parts = Parts { config, zones: zones.into(), routes: routes.into(), upstreams, system: Vec::new(), cache };
        Played { pipeline: Pipeline::new(State::new(parts), clock, Arc::clone(&stats)), stats }
    }
}

pub(crate) struct Played {
    pub(crate) pipeline: Pipeline,
    stats: Arc<Stats>,
}

impl Played {
    pub(crate) async fn ask(&self, name: &str) -> Answer {
        self.ask_type(name, Rtype::A).await
    }

    async fn ask_type(&self, name: &str, qtype: Rtype) -> Answer {
        let query = Query::local(Name::parse(name).unwrap(), qtype);
        self.pipeline.answer(&query, &mut Trace::off()).await
    }

    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.stats.get(counter)
    }

    /// Waits until this has been counted so often.
    pub(crate) async fn counted(&self, counter: Counter, times: u64) {
        until(&format!("{} is {times}", counter.name()), || self.count(counter) == times).await;
    }

    /// Returns what was said about a name.
    pub(crate) async fn said(&self, name: &str) -> Record {
        let query = Query::local(Name::parse(name).unwrap(), Rtype::A);
        let answer = self.ask(name).await;
        self.pipeline.said_about(&query, &answer).swap_remove(0).1
    }
}

/// Waits as `eventually` does, and lets the tasks of this runtime go on meanwhile.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 30 s: {what}");
}

pub(crate) fn addresses(answer: &Answer) -> Vec<[u8; 4]> {
    let records = answer.records(Section::Answer);
    records.iter().filter(|record| record.rtype == Rtype::A).map(|record| (*record.rdata).try_into().unwrap()).collect()
}

fn ede(answer: &Answer) -> Option<u16> {
    answer.ede.as_ref().map(|ede| ede.code)
}

fn ttl(answer: &Answer) -> u32 {
    answer.records(Section::Answer)[0].ttl
}

/// Names below example.org are guarded and go to one group; another one is believed, and the default asks a third.
pub(crate) fn config(isp: &Fake, witness: &Fake, other: &Fake, budget: &str) -> String {
    format!(
        "[upstream.isp]\nservers = [\"{}\"]\n[upstream.witness]\nservers = [\"{}\"]\n[upstream.other]\nservers = [\"{}\"]\n\
         [default]\nupstream = \"other\"\ntrusted_presets = []\n\
         [guard]\nreferences = \"witness\"\nbudget = \"{budget}\"\n\
         [[route]]\nnames = [\"example.org\"]\nupstream = \"isp\"\nguard = \"enforce\"\nprivate = false\non_failure = \"servfail\"\n",
        isp.address, witness.address, other.address,
    )
}

/// A server that says at once that it will not.
pub(crate) fn refusing() -> Fake {
    Fake::start(Habit::Code(Rcode::REFUSED))
}

pub(crate) fn slow(habit: Habit) -> Habit {
    Habit::Slow(Duration::from_millis(100), Box::new(habit))
}

#[tokio::test]
async fn what_a_disputed_address_shows_is_evidence() {
    let mut world = World::new();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = dead.local_addr().unwrap();
    drop(dead);
    let self_signed = world.public.self_signed(&[NAME]).server_config(&[]);
    let local = world.local.issue(&[NAME], |_| {}).server_config(&[]);
    let at = |last: u8| [31, 13, 94, last];
    let (_valid, _other) = (world.true_server(at(1), NAME).await, world.other_server(at(2)).await);
    let (_own, _local) = (world.serve(at(3), self_signed).await, world.serve(at(4), local).await);
    world.put(at(5), refused);
    let identity = world.public.issue(&[NAME], |_| {}).server_config(&[]);
    let silent = tls_fake::Fake::tls_after(Duration::from_secs(30), identity, |_, _| async {}).await;
    world.put(at(6), silent.address);
    let reset = TcpListener::bind("127.0.0.1:0").unwrap();
    world.put(at(7), reset.local_addr().unwrap());
    // Dropped with the client's first words unread, so that the kernel sends a reset.
    std::thread::spawn(move || {
        while let Ok((stream, _)) = reset.accept() {
            std::thread::sleep(Duration::from_millis(50));
            drop(stream);
        }
    });
    let _true = world.true_server(TRUE, NAME).await;
    for (last, verdict, sign, shown) in [
        (1, Counter::GuardBenignDivergent, "proved", "a certificate of the name"),
        (2, Counter::GuardPoisoned, "wrong-certificate", "a certificate of block.isp.example"),
        (3, Counter::GuardPoisoned, "wrong-certificate", "a certificate that no root signs"),
        (4, Counter::GuardUndecidable, "local-root", "signed by a root that was added on this machine"),
        (5, Counter::GuardUndecidable, "unproved", "connection refused"),
        (6, Counter::GuardUndecidable, "unproved", "no handshake within 1200 ms"),
        (7, Counter::GuardUndecidable, "unproved", "connection reset"),
    ] {
        let isp = Fake::address(at(last));
        let (witness, other) = (Fake::start(slow(Habit::Address(TRUE.into(), 300))), refusing());
        let played = world.pipeline(&config(&isp, &witness, &other, "2s"));
        let answer = played.ask(NAME).await;
        // Nobody waits for a certificate while a trusted answer is at hand.
        assert_eq!((addresses(&answer), ede(&answer)), (vec![TRUE], None), "{last}");
        played.counted(verdict, 1).await;
        let said = played.said(NAME).await;
        let found = said.found.unwrap();
        assert!(found.because.contains(sign), "{last}: {}", found.because);
        let proof = found.proofs.iter().find(|proof| proof.address == IpAddr::from(at(last))).unwrap();
        assert!(proof.told.contains(shown), "{last}: {}", proof.told);
        let incidents = played.pipeline.incidents();
        assert_eq!(incidents.len(), usize::from(verdict == Counter::GuardPoisoned), "{last}");
        if let Some(incident) = incidents.first() {
            assert!(incident.proofs.iter().any(|line| line.contains(shown)), "{:?}", incident.proofs);
        }
        assert_eq!(other.asked().len(), 0, "somebody trusted has answered");
    }
    assert_eq!(world.sent.load(Ordering::Relaxed), 0, "nothing is sent over the connections");
}

#[tokio::test]
async fn where_the_names_own_servers_show_no_good_certificate_a_bad_one_speaks_against_nobody() {
    let mut world = World::new();
    let _forged = world.other_server(FORGED).await;
    let own = world.public.self_signed(&[NAME]).server_config(&[]);
    let _true = world.serve(TRUE, own).await;
    let isp = Fake::address(FORGED);
    let (witness, other) = (Fake::start(slow(Habit::Address(TRUE.into(), 300))), refusing());
    let played = world.pipeline(&config(&isp, &witness, &other, "2s"));
    assert_eq!(addresses(&played.ask(NAME).await), [TRUE]);
    played.counted(Counter::GuardUndecidable, 1).await;
    assert_eq!(played.count(Counter::GuardProofsWrong), 2);
    assert!(played.pipeline.incidents().is_empty());
}

#[tokio::test]
async fn while_nobody_trusted_answers_the_address_that_proves_itself_is_found_among_liars() {
    let mut world = World::new();
    let (wrong, _true) = (world.other_server(FORGED).await, world.true_server(TRUE, NAME).await);
    let (isp, witness, other) = (Fake::address(FORGED), refusing(), Fake::address(TRUE));
    let played = world.pipeline(&config(&isp, &witness, &other, "3s"));
    let answer = played.ask(NAME).await;
    assert_eq!((addresses(&answer), ede(&answer), ttl(&answer)), (vec![TRUE], None, 60), "as one that stands in");
    assert_eq!((isp.count(NAME), other.count(NAME)), (1, 1));
    // It is known who has lied about it.
    until("it is recorded", || played.pipeline.incidents().len() == 1).await;
    let incident = &played.pipeline.incidents()[0];
    assert_eq!((incident.verdict.as_str(), &*incident.upstream), ("poisoned", &*format!("isp/{}", isp.address)));
    assert_eq!(incident.served.as_str(), "proved");
    // What an address has shown is remembered.
    let asked = wrong.connections();
    played.pipeline.flush(truename::pipeline::cache::Flush::All);
    assert_eq!(addresses(&played.ask(NAME).await), [TRUE]);
    assert_eq!(wrong.connections(), asked);
    // Of other names nobody else learns.
    played.ask("www.example.net").await;
    assert_eq!((isp.count("www.example.net"), other.count("www.example.net")), (0, 1));
}

#[tokio::test]
async fn an_address_with_a_wrong_certificate_does_not_go_out_and_one_without_any_goes_out_marked() {
    let mut world = World::new();
    let _wrong = world.other_server(FORGED).await;
    let (isp, witness, other) = (Fake::address(FORGED), refusing(), refusing());
    let played = world.pipeline(&config(&isp, &witness, &other, "3s"));
    let answer = played.ask(NAME).await;
    assert_eq!((answer.rcode(), ede(&answer)), (Rcode::SERVFAIL, Some(4)));
    isp.becomes(Habit::Address(TRUE.into(), 300));
    let unknown = played.ask("other.example.org").await;
    assert_eq!((addresses(&unknown), ede(&unknown), ttl(&unknown)), (vec![TRUE], Some(0), 30));
}

#[tokio::test]
async fn a_proof_that_comes_too_late_mends_what_was_kept() {
    let mut world = World::new();
    let name = "late.example.org";
    let identity = world.public.issue(&[NAME, name], |_| {});
    let delay = Duration::from_millis(300);
    let server = tls_fake::Fake::tls_after(delay, identity.server_config(&[]), |_, _| async {}).await;
    let forged = world.public.issue(&["block.isp.example"], |_| {});
    let block = tls_fake::Fake::tls_after(delay, forged.server_config(&[]), |_, _| async {}).await;
    world.put(TRUE, server.address);
    world.put(FORGED, block.address);
    let isp = Fake::address(TRUE).with(name, Habit::Address(FORGED.into(), 300));
    let (witness, other) = (refusing(), refusing());
    let played = world.pipeline(&config(&isp, &witness, &other, "50ms"));
    let answer = played.ask(NAME).await;
    assert_eq!((addresses(&answer), ede(&answer)), (vec![TRUE], Some(0)), "the client did not wait so long");
    assert_eq!(addresses(&played.ask(name).await), [FORGED], "nothing spoke against it by then");
    played.counted(Counter::GuardProofsValid, 1).await;
    played.counted(Counter::GuardProofsWrong, 1).await;
    // Judged once each, when all was known.
    played.counted(Counter::GuardBenignDivergent, 1).await;
    played.counted(Counter::GuardUndecidable, 1).await;
    let mended = played.ask(NAME).await;
    assert_eq!((addresses(&mended), ede(&mended), isp.count(NAME)), (vec![TRUE], None, 1));
    assert!(ttl(&mended) > 30, "{}", ttl(&mended));
    let gone = played.ask(name).await;
    assert_eq!((gone.rcode(), ede(&gone)), (Rcode::SERVFAIL, Some(4)), "what was kept of it is gone");
}

#[tokio::test]
async fn names_that_are_not_guarded_and_hosts_that_no_certificate_can_be_of_are_never_proved() {
    let mut world = World::new();
    let server = world.other_server(FORGED).await;
    let (isp, witness, other) = (Fake::address(FORGED), Fake::address(TRUE), Fake::address(FORGED));
    let plain = config(&isp, &witness, &other, "2s");
    let slow_witness = || witness.becomes(slow(Habit::Address(TRUE.into(), 300)));
    slow_witness();
    for (text, name) in [
        (plain.replace("\"enforce\"", "\"watch\""), NAME),
        (plain.replace("\"enforce\"", "\"off\""), NAME),
        (plain.replace("[guard]\n", "[guard]\nproofs = false\n"), NAME),
        (plain.replace("private = false", "private = true"), NAME),
        (plain.clone(), "_dns._tcp.example.org"),
        (plain.clone(), "www.example.net"),
    ] {
        let played = world.pipeline(&text);
        played.ask(name).await;
        let judged = if text.contains("\"watch\"") || text.contains("proofs") || name.starts_with('_') { 1 } else { 0 };
        played.counted(Counter::GuardUndecidable, judged).await;
        assert_eq!((played.count(Counter::GuardProofs), server.connections()), (0, 0), "{name} {text}");
    }
    // Nor is anything but addresses.
    let played = world.pipeline(&plain);
    played.ask_type(NAME, Rtype::TXT).await;
    assert_eq!(played.count(Counter::GuardProofs), 0);
}

#[tokio::test]
async fn certificates_are_of_the_name_that_was_asked_for_not_of_what_its_alias_leads_to() {
    let mut world = World::new();
    let (_true, _wrong) = (world.true_server(TRUE, NAME).await, world.other_server(FORGED).await);
    let edge = Name::parse("edge.example.org").unwrap();
    let bare = Habit::Records(vec![alias(&Name::parse(NAME).unwrap(), &edge)]);
    let isp = Fake::address(TRUE).with(NAME, bare);
    let (witness, other) = (refusing(), refusing());
    let played = world.pipeline(&config(&isp, &witness, &other, "3s"));
    // The alias came without its end, which is asked for by itself.
    let answer = played.ask(NAME).await;
    assert_eq!((answer.rcode(), addresses(&answer)), (Rcode::NOERROR, vec![TRUE]));
    assert_eq!((isp.count(NAME), isp.count("edge.example.org")), (1, 1));
    assert_eq!((played.count(Counter::GuardProofsValid), played.count(Counter::GuardProofsWrong)), (1, 0));
    let shown = played.ask("edge.example.org").await;
    assert_eq!(shown.rcode(), Rcode::SERVFAIL, "asked for by itself it is another name");
}

#[tokio::test]
async fn a_networks_own_mirror_of_a_public_name_goes_out_when_this_machine_believes_its_certificate() {
    let mut world = World::new();
    let (mirror, lie) = ([10, 1, 2, 3], [10, 10, 34, 34]);
    let identity = world.local.issue(&[NAME], |_| {}).server_config(&[]);
    let (_mirror, _lie) = (world.serve(mirror, identity).await, world.other_server(lie).await);
    let (isp, witness, other) = (Fake::address(mirror), refusing(), refusing());
    let played = world.pipeline(&config(&isp, &witness, &other, "3s"));
    let answer = played.ask(NAME).await;
    assert_eq!((addresses(&answer), ede(&answer), ttl(&answer)), (vec![mirror], Some(0), 30));
    isp.becomes(Habit::Address(lie.into(), 300));
    assert_eq!(played.ask("lie.example.org").await.rcode(), Rcode::SERVFAIL);
    // While somebody trusted speaks of it, no address of this network is looked at.
    witness.becomes(Habit::Address(TRUE.into(), 300));
    let before = played.count(Counter::GuardProofs);
    assert_eq!(addresses(&played.ask("third.example.org").await), [TRUE]);
    assert_eq!(played.count(Counter::GuardProofs), before);
}

#[tokio::test]
async fn proofs_have_a_bound() {
    // `src/pipeline/judge/proofs.rs`.
    const MAX_UNDER_WAY: u64 = 128;
    const MORE: u64 = 9;
    let mut world = World::new();
    let identity = world.public.issue(&[NAME], |_| {}).server_config(&[]);
    let server = tls_fake::Fake::tls_after(Duration::from_secs(20), identity, |_, _| async {}).await;
    world.put(FORGED, server.address);
    let (isp, witness, other) = (Fake::address(FORGED), refusing(), refusing());
    let played = world.pipeline(&config(&isp, &witness, &other, "1ms"));
    let names: Vec<String> = (0..MAX_UNDER_WAY + MORE).map(|n| format!("n{n}.example.org")).collect();
    futures_util::future::join_all(names.iter().map(|name| played.ask(name))).await;
    // One that finds no place is tried again when more is known about its question; on a busy machine some have ended by then.
    let (full, begun) = (played.count(Counter::GuardProofsFull), played.count(Counter::GuardProofs));
    assert!(full >= 1 && begun >= MAX_UNDER_WAY / 2, "{full} {begun}");
    assert!(server.connections() as u64 <= begun);
}

#[tokio::test]
async fn a_name_that_is_to_go_out_encrypted_or_not_at_all_is_asked_of_no_other_group() {
    let world = World::new();
    let (isp, witness, other) = (Fake::address(FORGED), refusing(), Fake::address(FORGED));
    // A port that nobody listens on.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = format!(
        "[upstream.closed]\nservers = [\"tls://{gone}#dns.example\"]\nfloor = \"encrypted\"\n\
         [[route]]\nnames = [\"floor.example.org\"]\nupstream = \"closed\"\nguard = \"enforce\"\nprivate = false\n"
    );
    let played = world.pipeline(&format!("{}{closed}", config(&isp, &witness, &other, "1s")));
    assert_eq!(played.ask("www.floor.example.org").await.rcode(), Rcode::SERVFAIL);
    assert!(isp.asked().is_empty() && other.asked().is_empty(), "{:?} {:?}", isp.asked(), other.asked());
    // Beside it, a name without such a floor is asked of others.
    played.ask(NAME).await;
    assert!(!other.asked().is_empty());
}

#[tokio::test]
async fn a_group_that_only_another_views_routes_lead_to_is_not_asked() {
    let world = World::new();
    let (isp, witness, other, kids) = (Fake::address(FORGED), refusing(), refusing(), Fake::address(TRUE));
    let view = format!(
        "[upstream.kids]\nservers = [\"{}\"]\n[[view]]\nname = \"kids\"\nclients = [\"192.0.2.0/24\"]\n\
         [[route]]\nnames = [\"kids.test\"]\nupstream = \"kids\"\nprivate = false\nviews = [\"kids\"]\n",
        kids.address
    );
    let played = world.pipeline(&format!("{}{view}", config(&isp, &witness, &other, "1s")));
    played.ask(NAME).await;
    assert!(!other.asked().is_empty() && kids.asked().is_empty(), "{:?}", kids.asked());
}

#[tokio::test]
async fn a_private_name_that_leads_to_a_guarded_one_is_shown_to_nobody() {
    let mut world = World::new();
    // Whoever is asked under another name shows a certificate that is not of it.
    let _true = world.true_server(FORGED, NAME).await;
    let (isp, witness, other) = (Fake::address(FORGED), refusing(), refusing());
    let corp = Fake::start(Habit::Alias(NAME, FORGED.into()));
    let private = format!(
        "[upstream.corp]\nservers = [\"{}\"]\n[[route]]\nnames = [\"corp.test\"]\nupstream = \"corp\"\nprivate = true\n",
        corp.address
    );
    let played = world.pipeline(&format!("{}{private}", config(&isp, &witness, &other, "1s")));
    assert_eq!(addresses(&played.ask("git.corp.test").await), [FORGED]);
    played.counted(Counter::GuardProofsValid, 1).await;
    assert_eq!(played.count(Counter::GuardProofsWrong), 0);
}

#[tokio::test]
async fn a_liar_with_many_slow_addresses_keeps_no_true_one_from_being_proved() {
    let mut world = World::new();
    let identity = world.public.issue(&[NAME], |_| {}).server_config(&[]);
    let tarpit = tls_fake::Fake::tls_after(Duration::from_secs(30), identity, |_, _| async {}).await;
    for last in 1..=20 {
        world.put([31, 13, 94, last], tarpit.address);
    }
    let _true = world.true_server(TRUE, NAME).await;
    let isp = Fake::start(Habit::Custom(twenty));
    let (witness, other) = (refusing(), Fake::start(slow(Habit::Address(TRUE.into(), 300))));
    // Less than a handshake that does not come is waited for.
    let played = world.pipeline(&config(&isp, &witness, &other, "1s"));
    let answer = played.ask(NAME).await;
    assert_eq!((addresses(&answer), ede(&answer)), (vec![TRUE], None));
    // `src/pipeline/judge/proofs.rs`: so many of one reply.
    const MAX_ADDRESSES: usize = 8;
    assert!(tarpit.connections() <= MAX_ADDRESSES, "{}", tarpit.connections());
}

#[tokio::test]
async fn a_group_that_has_just_failed_is_not_asked_again() {
    let mut world = World::new();
    let _true = world.true_server(TRUE, NAME).await;
    let (isp, witness, other) = (refusing(), refusing(), Fake::address(TRUE));
    let played = world.pipeline(&config(&isp, &witness, &other, "1s"));
    assert_eq!(addresses(&played.ask(NAME).await), [TRUE]);
    assert_eq!((isp.count(NAME), other.count(NAME)), (1, 1));
}

#[tokio::test]
async fn what_an_address_showed_before_counts_beside_the_names_own_servers_and_on_this_network_only() {
    let mut world = World::new();
    let wrong = world.other_server(FORGED).await;
    let _true = world.true_server(TRUE, NAME).await;
    let (isp, witness, other) = (Fake::address(FORGED), refusing(), refusing());
    let played = world.pipeline(&config(&isp, &witness, &other, "2s"));
    assert_eq!(played.ask(NAME).await.rcode(), Rcode::SERVFAIL);
    assert_eq!((wrong.connections(), played.count(Counter::GuardPoisoned)), (1, 0));
    // Somebody trusted is back. The address is known, the servers of the name are looked at now.
    witness.becomes(slow(Habit::Address(TRUE.into(), 300)));
    played.pipeline.flush(truename::pipeline::cache::Flush::All);
    assert_eq!(addresses(&played.ask(NAME).await), [TRUE]);
    played.counted(Counter::GuardPoisoned, 1).await;
    assert_eq!(wrong.connections(), 1);
    // On a network that is another one nothing is known of what is no proof.
    played.pipeline.network_changed();
    played.pipeline.flush(truename::pipeline::cache::Flush::All);
    assert_eq!(addresses(&played.ask(NAME).await), [TRUE]);
    until("it is looked at again", || wrong.connections() == 2).await;
}

/// An upstream that knows twenty addresses of every name.
fn twenty(query: &[u8], _: bool) -> Vec<Vec<u8>> {
    let name = qname_of(query);
    let all: Vec<_> = (1..=20).map(|last| crate::support::fake::a(&name, [31, 13, 94, last].into(), 300)).collect();
    vec![answer_with(query, &all)]
}

#[tokio::test]
async fn of_one_question_so_many_addresses_and_groups_are_looked_at() {
    // `src/pipeline/judge/proofs.rs`.
    const MAX_ADDRESSES: u64 = 8;
    const MAX_OTHERS: usize = 4;
    let world = World::new();
    let (isp, witness, other) = (Fake::start(Habit::Custom(twenty)), refusing(), refusing());
    let more: Vec<Fake> = (0..6).map(|_| refusing()).collect();
    let mut text = config(&isp, &witness, &other, "1s");
    for (n, fake) in more.iter().enumerate() {
        text += &format!(
            "[upstream.more{n}]\nservers = [\"{}\"]\n[[route]]\nnames = [\"n{n}.test\"]\nupstream = \"more{n}\"\nprivate = false\n",
            fake.address
        );
    }
    let played = world.pipeline(&text);
    assert_eq!(addresses(&played.ask(NAME).await).len(), 20);
    assert_eq!(played.count(Counter::GuardProofs), MAX_ADDRESSES);
    let asked = more.iter().chain([&other]).filter(|fake| !fake.asked().is_empty()).count();
    assert_eq!(asked, MAX_OTHERS);
}

/// A web server of the made-up machine, ended on drop.
struct WebServer(Child);

impl Drop for WebServer {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl WebServer {
    fn start(far: &Far<'_>, openssl: &str, at: &str, identity: &Identity) -> Self {
        let mut command = far.enter(openssl);
        command.args(["s_server", "-www", "-quiet", "-accept", &format!("{at}:443")]);
        command.arg("-cert").arg(&identity.certificate_file).arg("-key").arg(&identity.key_file);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut server = Self(child);
        let at: Ipv4Addr = at.parse().unwrap();
        // As the kernel writes it: the address in the machine's byte order, state 0A.
        let listens = format!("{:08X}:01BB 00000000:0000 0A", u32::from_ne_bytes(at.octets()));
        eventually("the web server listens", || {
            assert!(server.0.try_wait().unwrap().is_none(), "openssl ended");
            std::fs::read_to_string(format!("/proc/{}/net/tcp", server.0.id()))
                .is_ok_and(|text| text.contains(&listens))
        });
        server
    }
}

#[test]
fn the_daemon_looks_at_port_443_and_says_what_it_saw() {
    let Some(openssl) = installed("openssl", &["/usr/bin/openssl"]) else { return };
    let (block, site) = ("31.13.94.10", "93.184.216.34");
    let own = "185.199.1.1";
    let Some(machine) = Machine::make(&["10.53.0.1/32", "10.53.0.2/32", "185.199.1.1/32"]) else { return };
    let far = Far::make(&machine);
    far.plug_in(0);
    for address in [block, site] {
        far.run(&format!("ip address add {address}/32 dev lo"));
        machine.run(&format!("ip route add {address} via {}", crate::support::far::FAR[0]));
    }
    let pki = Pki::new();
    let (forged, true_one) = (pki.self_signed(&["block.isp.example"]), pki.issue(&["*.example.org"], |_| {}));
    let _web = [(block, &forged), (site, &true_one)].map(|(at, of)| WebServer::start(&far, openssl, at, of));
    let _isp = resolver(&machine, "10.53.0.1:53", block);
    let _liar = resolver(&machine, "10.53.0.1:54", own);
    let _witness = resolver(&machine, "10.53.0.2:53", site);
    let config = "[upstream.isp]\nservers = [\"10.53.0.1\"]\n[upstream.witness]\nservers = [\"10.53.0.2\"]\n\
                  [default]\nupstream = \"isp\"\n[guard]\nreferences = \"witness\"\n[hosts]\nfiles = []\n\
                  [[route]]\nnames = [\"example.org\"]\nupstream = \"isp\"\nguard = \"enforce\"\nprivate = false\n\
                  [upstream.liar]\nservers = [\"10.53.0.1:54\"]\n\
                  [[route]]\nnames = [\"=own.example.org\"]\nupstream = \"liar\"\nguard = \"enforce\"\nprivate = false\n";
    let mut command = machine.command();
    command.env("SSL_CERT_FILE", pki.ca_file());
    let daemon = Daemon::start_by(command, config, &["127.0.0.1:53"]);
    assert_eq!(machine.addresses("127.0.0.1:53", "www.example.org"), [site]);
    eventually("the certificate accuses", || incidents(&daemon).iter().any(|of| of["verdict"] == "poisoned"));
    let proofs = incidents(&daemon)[0]["proofs"].clone();
    for told in
        ["31.13.94.10 shows a certificate that no root signs", "93.184.216.34 shows a certificate of the name, signed"]
    {
        assert!(proofs.as_array().unwrap().iter().any(|line| line.as_str().unwrap().starts_with(told)), "{proofs}");
    }
    // Nobody makes the machine call at its own door.
    machine.addresses("127.0.0.1:53", "own.example.org");
    let socket = control_socket(&daemon);
    let socket = socket.to_str().unwrap();
    let said = |args: &[&str]| String::from_utf8(run(&[args, &["--socket", socket]].concat()).stdout).unwrap();
    let shown = said(&["incidents", "show", "1"]);
    assert!(shown.contains("31.13.94.10 shows a certificate that no root signs"), "{shown}");
    let report = said(&["incidents", "export", "1"]);
    assert!(report.contains("- 31.13.94.10 shows"), "{report}");
    let explained = said(&["explain", "www.example.org"]);
    for words in ["proof", "31.13.94.10", "not signed", "signed here", "+4 wrong-certificate"] {
        assert!(explained.contains(words), "{words}: {explained}");
    }
    eventually("it was not looked at", || said(&["explain", "own.example.org"]).contains("an address of this machine"));
}
