//! The order of stages across time, over a network in memory; tokio's time is paused, so seconds cost nothing.

use super::cache::Cache;
use super::route::Routes;
use super::zone::Zones;
use super::{Parts, Pipeline, State};
use crate::clock::Clock;
use crate::config::load::load_text;
use crate::dns::encode::MessageBuilder;
use crate::dns::wire::{Message, Section};
use crate::dns::{Answer, Name, Origin, Query, Rcode, Record, Rtype, Trace};
use crate::stats::{Counter, Stats};
use crate::upstream::{Net, SimulatedNet, SimulatedQuery, SimulatedReplies, Upstreams};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The one of two servers that is believed.
const WITNESS: &str = "1.1.1.1:53";

/// One server that answers every question with the same address, or says that there is no such name, after a delay.
#[derive(Debug)]
struct Slow {
    after_ms: AtomicU64,
    /// How much later [`WITNESS`] answers.
    witness_ms: AtomicU64,
    address: Ipv4Addr,
    asked: AtomicUsize,
    silent: AtomicBool,
    knows_nothing: AtomicBool,
}

impl SimulatedNet for Slow {
    fn send(&self, query: SimulatedQuery, replies: SimulatedReplies) {
        let message = Message::parse(&query.bytes).unwrap();
        let owner = Name::from_wire(message.qname()).unwrap();
        // Probes for loops stand one label below the name.
        self.asked.fetch_add(usize::from(owner.label_count() == 3), Ordering::Relaxed);
        if self.silent.load(Ordering::Relaxed) {
            return;
        }
        let knows_nothing = self.knows_nothing.load(Ordering::Relaxed);
        let rcode = if knows_nothing { Rcode::NXDOMAIN } else { Rcode::NOERROR };
        let mut builder = MessageBuilder::response(&owner, message.qtype(), rcode);
        if knows_nothing {
            // Two root names, then serial, refresh, retry, expire and minimum.
            let rdata = [[0; 2].as_slice(), &[0, 0, 0, 60].repeat(5)].concat().into();
            builder.push(Section::Authority, &Record { owner, rtype: Rtype::SOA, class: 1, ttl: 60, rdata });
        } else {
            let rdata = self.address.octets().into();
            builder.push(Section::Answer, &Record { owner, rtype: Rtype::A, class: 1, ttl: 60, rdata });
        }
        let mut bytes = builder.finish().into_vec();
        bytes[..2].copy_from_slice(&query.bytes[..2]);
        let is_witness = query.server.to_string() == WITNESS;
        let later_ms = if is_witness { self.witness_ms.load(Ordering::Relaxed) } else { 0 };
        replies.message(Duration::from_millis(self.after_ms.load(Ordering::Relaxed) + later_ms), bytes);
    }
}

fn pipeline(after_ms: u64, address: Ipv4Addr) -> (Pipeline, Arc<Slow>) {
    let (clock, stats) = (Clock::simulated(), Arc::new(Stats::default()));
    let net = Arc::new(Slow {
        after_ms: AtomicU64::new(after_ms),
        witness_ms: AtomicU64::new(0),
        address,
        asked: AtomicUsize::new(0),
        silent: AtomicBool::new(false),
        knows_nothing: AtomicBool::new(false),
    });
    (Pipeline::new(state("", &net, clock.clone(), &stats, None), clock, stats), net)
}

/// Puts another configuration in force.
fn reload(pipeline: &Pipeline, text: &str, net: &Arc<Slow>) {
    let previous = pipeline.state();
    pipeline.replace(state(text, net, pipeline.clock.clone(), pipeline.stats(), Some(&previous)));
}

fn state(text: &str, net: &Arc<Slow>, clock: Clock, stats: &Arc<Stats>, previous: Option<&State>) -> State {
    // A public address, reached only in memory.
    let text = format!("[upstream.system]\nservers = [\"9.9.9.9\"]\n[hosts]\nfiles = []\n{text}");
    let config = Arc::new(load_text("test.toml", &text).config.unwrap());
    let simulated: Arc<dyn SimulatedNet> = Arc::<Slow>::clone(net);
    let known = previous.map(|previous| &previous.upstreams);
    let upstreams = Upstreams::new(&config, &[], clock, Arc::clone(stats), Net::Simulated(simulated), known);
    let (zones, _) = Zones::load(&config, 0);
    let (routes, _) = Routes::load(&config, &|_| false, &[]);
    let cache = previous.map_or_else(|| Arc::new(Cache::new(&config.cache)), |previous| Arc::clone(&previous.cache));
    State::new(Parts { config, zones: zones.into(), routes: routes.into(), upstreams, system: Vec::new(), cache })
}

async fn ask(pipeline: &Pipeline) -> Answer {
    ask_for(pipeline, "www.example.org").await
}

async fn ask_for(pipeline: &Pipeline, name: &str) -> Answer {
    let query = Query::local(Name::parse(name).unwrap(), Rtype::A);
    pipeline.answer(&query, &mut Trace::off()).await
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_comes_too_late_answers_the_next_who_asks() {
    let (pipeline, net) = pipeline(6_000, Ipv4Addr::new(93, 184, 216, 34));
    assert_eq!(ask(&pipeline).await.rcode(), Rcode::SERVFAIL);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let asked = net.asked.load(Ordering::Relaxed);
    let answer = ask(&pipeline).await;
    assert_eq!((answer.rcode(), answer.origin), (Rcode::NOERROR, Origin::Cache));
    assert_eq!(net.asked.load(Ordering::Relaxed), asked, "nobody was asked again");
}

#[tokio::test(start_paused = true)]
async fn a_late_reply_with_a_private_address_is_not_kept() {
    let (pipeline, _) = pipeline(6_000, Ipv4Addr::new(192, 168, 1, 1));
    assert_eq!(ask(&pipeline).await.rcode(), Rcode::SERVFAIL);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(pipeline.stats().get(Counter::PrivateDropped), 1);
    assert_eq!(ask(&pipeline).await.rcode(), Rcode::SERVFAIL);
}

#[tokio::test(start_paused = true)]
async fn a_late_nxdomain_about_a_name_that_exists_here_is_kept_as_nodata() {
    let (pipeline, net) = pipeline(6_000, Ipv4Addr::new(93, 184, 216, 34));
    let overlay = "[[zone]]\nname = \"example.org\"\nfallthrough = true\n\
                   records = [{ name = \"nas\", type = \"A\", value = \"10.0.0.7\" }]\n";
    reload(&pipeline, overlay, &net);
    net.knows_nothing.store(true, Ordering::Relaxed);
    for (name, late) in [("nas.example.org", Rcode::NOERROR), ("gone.example.org", Rcode::NXDOMAIN)] {
        let query = Query::local(Name::parse(name).unwrap(), Rtype::MX);
        assert_eq!(pipeline.answer(&query, &mut Trace::off()).await.rcode(), Rcode::SERVFAIL, "{name}");
        tokio::time::sleep(Duration::from_secs(2)).await;
        let answer = pipeline.answer(&query, &mut Trace::off()).await;
        assert_eq!((answer.rcode(), answer.origin), (late, Origin::Cache), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_late_for_a_question_asked_anew_is_not_kept() {
    let (pipeline, net) = pipeline(6_000, Ipv4Addr::new(93, 184, 216, 34));
    let query = Query::local(Name::parse("www.example.org").unwrap(), Rtype::A);
    assert_eq!(pipeline.answer_fresh(&query, &mut Trace::off()).await.rcode(), Rcode::SERVFAIL);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(pipeline.state().cache.is_empty(), "a reply after the budget");
    let guarded = "[upstream.witness]\nservers = [\"1.1.1.1\"]\n[guard]\nreferences = \"witness\"\n\
                   [[route]]\nnames = [\"example.org\"]\nupstream = \"system\"\nguard = \"enforce\"\n";
    reload(&pipeline, guarded, &net);
    net.after_ms.store(5, Ordering::Relaxed);
    net.witness_ms.store(600, Ordering::Relaxed);
    assert_eq!(pipeline.answer_fresh(&query, &mut Trace::off()).await.rcode(), Rcode::NOERROR);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(pipeline.state().cache.is_empty(), "a trusted reply after an unconfirmed one");
    assert_eq!(ask(&pipeline).await.rcode(), Rcode::NOERROR);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(ask(&pipeline).await.origin, Origin::Cache, "what a client asks for is");
}

#[tokio::test(start_paused = true)]
async fn a_reply_later_than_ten_seconds_is_not_waited_for() {
    let (pipeline, net) = pipeline(10_100, Ipv4Addr::new(93, 184, 216, 34));
    assert_eq!(ask(&pipeline).await.rcode(), Rcode::SERVFAIL);
    // Behind the replies to all repeats of its query.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let asked = net.asked.load(Ordering::Relaxed);
    assert_eq!(ask(&pipeline).await.rcode(), Rcode::SERVFAIL);
    assert!(net.asked.load(Ordering::Relaxed) > asked, "nothing has been kept");
}

#[tokio::test(start_paused = true)]
async fn a_question_waits_little_longer_than_its_budget_for_one_that_came_later() {
    let (pipeline, net) = pipeline(0, Ipv4Addr::new(93, 184, 216, 34));
    net.silent.store(true, Ordering::Relaxed);
    let later = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        ask(&pipeline).await
    };
    let waiting = async {
        let start = tokio::time::Instant::now();
        let answer = ask(&pipeline).await;
        (answer.rcode(), start.elapsed())
    };
    // Polled in this order: when the first is cut off, the one that came later leads.
    let cut_off = tokio::time::timeout(Duration::from_millis(4_400), ask(&pipeline));
    let (cut_off, later, waiting) = tokio::join!(biased; cut_off, later, waiting);
    assert!(cut_off.is_err());
    assert_eq!(waiting, (Rcode::SERVFAIL, super::BUDGET + super::BUDGET_SLACK));
    assert_eq!((later.rcode(), pipeline.stats().get(Counter::BudgetExceeded)), (Rcode::SERVFAIL, 1));
}

#[tokio::test(start_paused = true)]
async fn a_question_whose_third_leader_is_cut_off_gets_servfail() {
    let (pipeline, _) = pipeline(1_000, Ipv4Addr::new(93, 184, 216, 34));
    let cut_off_after = |ms| tokio::time::timeout(Duration::from_millis(ms), ask(&pipeline));
    // Polled in this order, so that the next of them leads.
    let (first, second, third, last) =
        tokio::join!(biased; cut_off_after(100), cut_off_after(200), cut_off_after(300), ask(&pipeline));
    assert!(first.is_err() && second.is_err() && third.is_err());
    assert_eq!(last.rcode(), Rcode::SERVFAIL);
    assert_eq!(pipeline.stats().get(Counter::WaitersFull), 1);
    assert!(pipeline.state().in_flight.is_empty());
}

#[tokio::test(start_paused = true)]
async fn answers_too_large_for_the_cache_are_counted_and_given() {
    let (pipeline, net) = pipeline(20, Ipv4Addr::new(93, 184, 216, 34));
    // One shard, with room for no answer at all.
    let mut tiny = pipeline.state().config.cache;
    tiny.max_bytes = 64;
    let loaded = state("", &net, pipeline.clock.clone(), pipeline.stats(), None);
    let parts = Parts {
        config: loaded.config,
        zones: loaded.zones,
        routes: loaded.routes,
        upstreams: loaded.upstreams,
        system: Vec::new(),
        cache: Cache::new(&tiny).into(),
    };
    pipeline.replace(State::new(parts));
    for asked in 1..=2 {
        assert_eq!(ask(&pipeline).await.origin, Origin::Upstream);
        assert_eq!(pipeline.stats().get(Counter::CacheTooLarge), asked);
    }
    assert_eq!(pipeline.stats().get(Counter::CacheInserted), 0);
}

#[tokio::test(start_paused = true)]
async fn answers_are_counted_by_listeners_only() {
    let (pipeline, _) = pipeline(20, Ipv4Addr::new(93, 184, 216, 34));
    assert_eq!(ask(&pipeline).await.origin, Origin::Upstream);
    assert_eq!(ask(&pipeline).await.origin, Origin::Cache);
    assert_eq!(
        pipeline.stats().answers().total(),
        0,
        "a listener counts what it sends, and would count it a second time"
    );
}

#[tokio::test(start_paused = true)]
async fn refreshes_behind_stale_answers_have_a_bound() {
    const MORE: usize = 30;
    let (pipeline, net) = pipeline(0, Ipv4Addr::new(93, 184, 216, 34));
    let pipeline = Arc::new(pipeline);
    let ask_all = || async {
        let mut all = tokio::task::JoinSet::new();
        for n in 0..super::refresh::MAX_REFRESHES + MORE {
            let pipeline = Arc::clone(&pipeline);
            let query = Query::local(Name::parse(&format!("n{n}.example.org")).unwrap(), Rtype::A);
            all.spawn(async move { pipeline.answer(&query, &mut Trace::off()).await.origin });
        }
        all.join_all().await
    };
    assert!(ask_all().await.iter().all(|origin| *origin == Origin::Upstream));
    net.silent.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert!(ask_all().await.iter().all(|origin| *origin == Origin::Stale), "stale answers go out all the same");
    assert_eq!(pipeline.stats().get(Counter::RefreshesFull), u64::try_from(MORE).unwrap());
}

#[tokio::test(start_paused = true)]
async fn more_than_may_wait_for_one_question_get_servfail_at_once() {
    let (pipeline, net) = pipeline(120, Ipv4Addr::new(93, 184, 216, 34));
    // One leads, MAX_WAITERS wait, and three are too many.
    let pipeline = Arc::new(pipeline);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..1 + super::cache::inflight::MAX_WAITERS + 3 {
        let pipeline = Arc::clone(&pipeline);
        all.spawn(async move { ask(&pipeline).await });
    }
    let answers = all.join_all().await;
    let failed = answers.iter().filter(|answer| answer.rcode() == Rcode::SERVFAIL).count();
    assert_eq!((failed, pipeline.stats().get(Counter::WaitersFull)), (3, 3));
    assert_eq!(net.asked.load(Ordering::Relaxed), 1);
    assert!(pipeline.state().in_flight.is_empty());
}

#[tokio::test(start_paused = true)]
async fn identical_questions_cost_one_query_also_when_the_leader_is_dropped() {
    let (pipeline, net) = pipeline(120, Ipv4Addr::new(93, 184, 216, 34));
    let leader = tokio::time::timeout(Duration::from_millis(100), ask(&pipeline));
    let others = async {
        tokio::task::yield_now().await;
        tokio::join!(ask(&pipeline), ask(&pipeline), ask(&pipeline))
    };
    let (given_up, (first, second, third)) = tokio::join!(leader, others);
    assert!(given_up.is_err());
    for answer in [first, second, third] {
        assert_eq!(answer.rcode(), Rcode::NOERROR);
    }
    assert_eq!(net.asked.load(Ordering::Relaxed), 2, "the leader's query, and one of the leader that followed it");
}

/// Asks for so many names at once; returns where the answers came from.
async fn ask_for_many(pipeline: &Pipeline, count: usize) -> Vec<Origin> {
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..count {
        let pipeline = pipeline.clone();
        asked.spawn(async move { ask_for(&pipeline, &format!("n{n}.example.org")).await.origin });
    }
    asked.join_all().await
}

#[tokio::test(start_paused = true)]
async fn refreshes_behind_stale_answers_are_bounded_and_every_client_is_answered() {
    const NAMES: usize = 1100;
    let (pipeline, net) = pipeline(20, Ipv4Addr::new(93, 184, 216, 34));
    ask_for_many(&pipeline, NAMES).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    net.after_ms.store(3_000, Ordering::Relaxed);
    assert_eq!(ask_for_many(&pipeline, NAMES).await, [Origin::Stale; NAMES]);
    let count = |counter| pipeline.stats().get(counter);
    assert_eq!((count(Counter::Refreshes), count(Counter::RefreshesFull)), (1024, NAMES as u64 - 1024));
    tokio::time::sleep(Duration::from_secs(4)).await;
    let origins = ask_for_many(&pipeline, NAMES).await;
    assert_eq!(origins.iter().filter(|origin| **origin == Origin::Cache).count(), 1024, "their results are stored");
    assert_eq!(pipeline.background.free(), (1024, 32), "and their places are free again");
}

#[tokio::test(start_paused = true)]
async fn popular_answers_are_asked_for_again_so_many_at_a_time() {
    const NAMES: usize = 40;
    let (pipeline, net) = pipeline(20, Ipv4Addr::new(93, 184, 216, 34));
    for _ in 0..3 {
        ask_for_many(&pipeline, NAMES).await;
    }
    // TTLs are 60 s.
    tokio::time::sleep(Duration::from_secs(58)).await;
    net.after_ms.store(1_000, Ordering::Relaxed);
    assert_eq!(ask_for_many(&pipeline, NAMES).await, [Origin::Cache; NAMES]);
    let count = |counter| pipeline.stats().get(counter);
    assert_eq!((count(Counter::Prefetches), count(Counter::PrefetchesSkipped)), (32, 8));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(pipeline.background.free(), (1024, 32));
    net.after_ms.store(20, Ordering::Relaxed);
    let origins = ask_for_many(&pipeline, NAMES).await;
    assert_eq!(origins.iter().filter(|origin| **origin == Origin::Cache).count(), 32);
}

#[tokio::test(start_paused = true)]
async fn a_question_after_a_reload_does_not_wait_for_one_from_before_it() {
    let (pipeline, net) = pipeline(300, Ipv4Addr::new(93, 184, 216, 34));
    let before = ask(&pipeline);
    let after = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let zone =
            "[[zone]]\nname = \"example.org\"\nrecords = [{ name = \"www\", type = \"A\", value = \"10.0.0.7\" }]\n";
        reload(&pipeline, zone, &net);
        ask(&pipeline).await
    };
    let (before, after) = tokio::join!(before, after);
    assert_eq!((before.origin, after.origin), (Origin::Upstream, Origin::Zone));
    assert_eq!(ask(&pipeline).await.origin, Origin::Zone, "what was in flight is not kept");
}

#[tokio::test(start_paused = true)]
async fn names_judged_behind_their_answers_have_a_bound() {
    const MORE: usize = 30;
    let (pipeline, net) = pipeline(100, Ipv4Addr::new(93, 184, 216, 34));
    let watched =
        "[upstream.witness]\nservers = [\"1.1.1.1\"]\n[default]\nguard = \"watch\"\n[guard]\nreferences = \"witness\"";
    reload(&pipeline, watched, &net);
    let pipeline = Arc::new(pipeline);
    let mut all = tokio::task::JoinSet::new();
    for n in 0..super::refresh::MAX_JUDGINGS + MORE {
        let pipeline = Arc::clone(&pipeline);
        let query = Query::local(Name::parse(&format!("n{n}.example.org")).unwrap(), Rtype::A);
        all.spawn(async move { pipeline.answer(&query, &mut Trace::off()).await.origin });
    }
    assert!(all.join_all().await.iter().all(|origin| *origin == Origin::Upstream), "they are answered all the same");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let judged = [Counter::GuardBehindFull, Counter::GuardConsistent].map(|counter| pipeline.stats().get(counter));
    assert_eq!(judged, [MORE as u64, super::refresh::MAX_JUDGINGS as u64]);
}
