//! What the cache must hold to, on real messages.

use super::super::key::Lookup;
use super::*;
use crate::config::{PlaceId, ViewId};
use crate::dns::encode::{ClientShape, MessageBuilder};
use crate::dns::wire::{Message, Section};
use crate::dns::{Ede, Rcode, Record, Rtype, Tag};
use proptest::prelude::*;
use std::collections::HashMap;

#[path = "tests/stale.rs"]
mod stale_and_popular;

const START: Tick = Tick(86_400_000);

fn cache(max_entries: usize, max_bytes: u64) -> Cache {
    Cache::new(&config::Cache {
        max_entries,
        max_bytes,
        min_ttl: Duration::ZERO,
        max_ttl: Duration::from_secs(86_400),
        negative_ttl_max: Duration::from_secs(300),
        ..config::Cache::NONE
    })
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn key_of(qname: &Name) -> KeyBuf {
    KeyBuf::new(&Lookup {
        place: PlaceId(0),
        view: ViewId(0),
        qname: qname.as_wire(),
        qtype: Rtype::A,
        dnssec_ok: false,
        checking_disabled: false,
    })
}

fn key(text: &str) -> KeyBuf {
    key_of(&name(text))
}

fn a(owner: &Name, ttl: u32) -> Record {
    Record { owner: owner.clone(), rtype: Rtype::A, class: 1, ttl, rdata: Box::new([192, 0, 2, 1]) }
}

fn answer(text: &str, ttls: &[u32]) -> Answer {
    let owner = name(text);
    let mut builder = MessageBuilder::response(&owner, Rtype::A, Rcode::NOERROR);
    ttls.iter().for_each(|&ttl| builder.push(Section::Answer, &a(&owner, ttl)));
    Answer { message: builder.finish(), origin: Origin::Upstream, ede: None }
}

fn failure(text: &str) -> Answer {
    encode::servfail(&name(text), Rtype::A, Ede::new(22, "no upstream answered"))
}

fn at(seconds: u64) -> Tick {
    START.plus(Duration::from_secs(seconds))
}

fn put(cache: &Cache, text: &str, answer: &Answer, lifetime: Lifetime, now: Tick) -> Inserted {
    let terms = Terms { lifetime, fingerprint: 7, epoch: cache.epoch(), now, disputed: false, tag: Tag::NONE };
    cache.insert(&key(text), answer, &terms)
}

#[test]
fn a_disputed_answer_does_not_take_the_place_of_a_fresh_undisputed_one() {
    let cache = cache(100, 1 << 20);
    let put = |seconds, disputed| {
        let lifetime = Lifetime::Positive(30);
        let epoch = cache.epoch();
        let terms = Terms { lifetime, fingerprint: 7, epoch, now: at(seconds), disputed, tag: Tag::NONE };
        cache.insert(&key("www.example.org"), &answer("www.example.org", &[30]), &terms)
    };
    let is_disputed = |seconds| cache.get(&key("www.example.org"), cache.epoch(), at(seconds)).unwrap().is_disputed;
    assert!(put(0, true).stored && is_disputed(0));
    cache.forget_disputed(&key("www.example.org"));
    assert_eq!(cache.len(), 0, "nobody confirmed it");
    assert!(put(0, true).stored);
    assert!(put(1, true).stored, "one that is as doubtful is replaced");
    assert!(put(2, false).stored && !is_disputed(2));
    assert_eq!(put(3, true), Inserted { better_stays: true, ..Inserted::default() });
    cache.forget_disputed(&key("www.example.org"));
    assert!(!is_disputed(3), "it stays");
    assert!(put(32, true).stored && is_disputed(32), "its time was over");
    assert!(put(33, false).stored);
    cache.next_epoch();
    assert!(put(34, true).stored, "another configuration may not decide the same");
}

fn shape(qname: &Name, limit_bytes: usize) -> ClientShape<'_> {
    ClientShape {
        id: 0x1234,
        flags: flag::RD,
        qname: qname.as_wire(),
        edns: true,
        dnssec_ok: false,
        limit_bytes,
        our_payload_bytes: 1232,
    }
}

fn serve(cache: &Cache, now: Tick) -> Serve {
    Serve { epoch: cache.epoch(), now, extended_errors: true }
}

fn hit(cache: &Cache, text: &str, now: Tick) -> Option<(Origin, Vec<u8>)> {
    let mut out = b"earlier".to_vec();
    let qname = name(text);
    let hit = cache.answer_into(&key(text), serve(cache, now), &shape(&qname, 1232), &mut out)?;
    Some((hit.origin, out.split_off(7)))
}

fn ttls(message: &[u8]) -> Vec<u32> {
    let view = Message::parse(message).unwrap();
    assert_eq!(view.validate().unwrap(), message.len());
    view.section(Section::Answer).map(|record| record.ttl).collect()
}

#[test]
fn ttls_are_exact_to_the_second_and_end_with_the_lifetime() {
    let cache = cache(100, 1 << 20);
    assert!(put(&cache, "a.example", &answer("a.example", &[300, 60]), Lifetime::Positive(60), START).stored);
    let shown = |ms| hit(&cache, "A.Example", Tick(START.0 + ms)).map(|(_, message)| ttls(&message));
    assert_eq!(shown(0), Some(vec![300, 60]));
    assert_eq!(shown(999), Some(vec![300, 60]));
    assert_eq!(shown(1000), Some(vec![299, 59]));
    assert_eq!(shown(59_999), Some(vec![241, 1]));
    assert_eq!(shown(60_000), None);
    let (origin, message) = hit(&cache, "A.Example", at(1)).unwrap();
    assert_eq!(origin, Origin::Cache);
    let view = Message::parse(&message).unwrap();
    assert_eq!((view.id(), view.qname()), (0x1234, name("A.Example").as_wire()));
    assert!(view.edns().unwrap().is_some());
}

#[test]
fn a_clock_that_goes_back_serves_the_ttl_as_stored() {
    let cache = cache(100, 1 << 20);
    put(&cache, "a.example", &answer("a.example", &[60]), Lifetime::Positive(60), START);
    assert_eq!(hit(&cache, "a.example", Tick(1)).map(|(_, message)| ttls(&message)), Some(vec![60]));
}

#[test]
fn what_is_cut_keeps_its_opt_untouched() {
    let cache = cache(100, 1 << 20);
    let long = answer("a.example", &[60; 100]);
    put(&cache, "a.example", &long, Lifetime::Positive(60), START);
    let (qname, mut out) = (name("a.example"), Vec::new());
    cache.answer_into(&key("a.example"), serve(&cache, at(30)), &shape(&qname, 512), &mut out).unwrap();
    let view = Message::parse(&out).unwrap();
    assert!(view.has(flag::TC));
    assert_eq!(view.edns().unwrap().unwrap().payload_bytes, 1232);
    assert_eq!(view.validate().unwrap(), out.len());
}

#[test]
fn ours_does_not_age_and_is_counted_as_what_it_is() {
    let cache = cache(100, 1 << 20);
    let ours = Answer { origin: Origin::Zone, ..answer("git.lab.example", &[60]) };
    put(&cache, "git.lab.example", &ours, Lifetime::Local, START);
    let (origin, message) = hit(&cache, "git.lab.example", at(1_000_000)).unwrap();
    assert_eq!((origin, ttls(&message)), (Origin::Zone, vec![60]));
    assert_eq!(cache.get(&key("git.lab.example"), cache.epoch(), at(1_000_000)).unwrap().answer.origin, Origin::Zone);
}

#[test]
fn a_question_under_a_replaced_configuration_leaves_entries_as_they_are() {
    let cache = cache(100, 1 << 20);
    put(&cache, "a.example", &answer("a.example", &[60]), Lifetime::Positive(60), START);
    let old = cache.epoch();
    let present = cache.next_epoch();
    assert!(cache.get(&key("a.example"), old, START).unwrap().current, "the old configuration made it");
    // What the old one decides must not make it current for the present one, which may decide otherwise.
    assert!(cache.revalidate(&key("a.example"), 7, old));
    assert!(hit(&cache, "a.example", START).is_none());
    assert!(!cache.revalidate(&key("a.example"), 9, old));
    assert!(cache.revalidate(&key("a.example"), 7, present), "nor does it remove it");
    let (qname, mut out) = (name("a.example"), Vec::new());
    let under_old = Serve { epoch: old, ..serve(&cache, START) };
    assert!(cache.answer_into(&key("a.example"), under_old, &shape(&qname, 1232), &mut out).is_none());
}

#[test]
fn extended_errors_can_be_left_out() {
    let cache = cache(100, 1 << 20);
    put(&cache, "a.example", &failure("a.example"), Lifetime::Failure, START);
    let with = |extended_errors| {
        let (qname, mut out) = (name("a.example"), Vec::new());
        let serve = Serve { extended_errors, ..serve(&cache, START) };
        cache.answer_into(&key("a.example"), serve, &shape(&qname, 1232), &mut out).unwrap();
        Message::parse(&out).unwrap().edns().unwrap().unwrap().option(15).is_some()
    };
    assert_eq!((with(true), with(false)), (true, false));
}

#[test]
fn a_reload_hides_everything_until_it_is_revalidated() {
    let cache = cache(100, 1 << 20);
    put(&cache, "a.example", &answer("a.example", &[60]), Lifetime::Positive(60), START);
    put(&cache, "b.example", &answer("b.example", &[60]), Lifetime::Positive(60), START);
    let old = cache.epoch();
    assert_eq!(cache.next_epoch(), old + 1);
    assert!(hit(&cache, "a.example", START).is_none());
    let found = cache.get(&key("a.example"), old + 1, at(3)).unwrap();
    assert!(!found.current);
    assert_eq!((found.fingerprint, found.age), (7, Duration::from_secs(3)));
    assert_eq!(ttls(&found.answer.message), [57]);
    assert!(cache.revalidate(&key("a.example"), 7, old + 1));
    assert!(hit(&cache, "a.example", START).is_some());
    assert!(cache.get(&key("a.example"), old + 1, START).unwrap().current);
    assert!(!cache.revalidate(&key("b.example"), 8, old + 1));
    assert!(cache.get(&key("b.example"), old + 1, START).is_none());
    assert!(!cache.revalidate(&key("c.example"), 7, old + 1));
    let late = Terms {
        lifetime: Lifetime::Positive(60),
        fingerprint: 7,
        epoch: old,
        now: START,
        disputed: false,
        tag: Tag::NONE,
    };
    assert!(!cache.insert(&key("b.example"), &answer("b.example", &[60]), &late).stored);
}

#[test]
fn a_configuration_that_has_been_replaced_makes_nothing_current() {
    let cache = cache(100, 1 << 20);
    put(&cache, "a.example", &answer("a.example", &[60]), Lifetime::Positive(60), START);
    let replaced = cache.epoch();
    cache.next_epoch();
    assert!(cache.revalidate(&key("a.example"), 7, replaced), "a question that began under it may use it");
    assert!(hit(&cache, "a.example", START).is_none(), "others must not");
    assert!(!cache.revalidate(&key("a.example"), 8, replaced));
    assert!(cache.revalidate(&key("a.example"), 7, cache.epoch()), "nor is anything removed by it");
}

#[test]
fn a_failure_that_repeats_is_kept_longer_and_a_success_forgives() {
    let cache = cache(100, 1 << 20);
    let mut now = 0;
    for kept in [1, 2, 4, 5, 5] {
        assert!(put(&cache, "a.example", &failure("a.example"), Lifetime::Failure, at(now)).stored);
        assert!(hit(&cache, "a.example", at(now + kept - 1)).is_some(), "{kept}");
        assert!(hit(&cache, "a.example", at(now + kept)).is_none(), "{kept}");
        now += kept;
    }
    let (origin, message) = {
        put(&cache, "a.example", &failure("a.example"), Lifetime::Failure, at(now));
        hit(&cache, "a.example", at(now)).unwrap()
    };
    assert_eq!(origin, Origin::Cache);
    assert!(Message::parse(&message).unwrap().edns().unwrap().unwrap().option(15).is_some());
    let later = now + 5 + FAILURE_MEMORY_S + 1;
    put(&cache, "a.example", &failure("a.example"), Lifetime::Failure, at(later));
    assert!(hit(&cache, "a.example", at(later + 1)).is_none());
    put(&cache, "a.example", &answer("a.example", &[1]), Lifetime::Positive(1), at(later + 1));
    put(&cache, "a.example", &failure("a.example"), Lifetime::Failure, at(later + 2));
    assert!(hit(&cache, "a.example", at(later + 3)).is_none());
}

#[test]
fn an_answer_to_another_question_or_with_opt_is_refused() {
    let cache = cache(100, 1 << 20);
    assert!(!put(&cache, "a.example", &answer("b.example", &[60]), Lifetime::Positive(60), START).stored);
    let mut with_opt = answer("a.example", &[60]);
    let mut bytes = with_opt.message.to_vec();
    bytes[11] = 1;
    bytes.extend_from_slice(b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00");
    with_opt.message = bytes.into();
    assert!(!put(&cache, "a.example", &with_opt, Lifetime::Positive(60), START).stored);
    assert!(cache.is_empty());
}

#[test]
fn the_oldest_goes_first_and_use_makes_young() {
    let cache = cache(3, 1 << 20);
    for text in ["a.example", "b.example", "c.example"] {
        put(&cache, text, &answer(text, &[60]), Lifetime::Positive(60), START);
    }
    assert!(hit(&cache, "a.example", START).is_some());
    let done = put(&cache, "d.example", &answer("d.example", &[60]), Lifetime::Positive(60), START);
    assert_eq!(done, Inserted { stored: true, evicted: 1, ..Inserted::default() });
    assert!(hit(&cache, "b.example", START).is_none());
    assert!(hit(&cache, "a.example", START).is_some());
}

#[test]
fn ours_stay_while_forwarded_ones_go_but_take_half_at_most() {
    let cache = cache(8, 1 << 20);
    let text = |n: usize, zone: &str| format!("n{n}.{zone}.example");
    for n in 0..4 {
        let text = text(n, "lab");
        put(&cache, &text, &Answer { origin: Origin::Zone, ..answer(&text, &[60]) }, Lifetime::Local, START);
    }
    for n in 0..100 {
        put(&cache, &text(n, "web"), &answer(&text(n, "web"), &[60]), Lifetime::Positive(60), START);
    }
    assert!((0..4).all(|n| hit(&cache, &text(n, "lab"), START).is_some()));
    for n in 0..100 {
        let text = text(n, "lab");
        put(&cache, &text, &Answer { origin: Origin::Zone, ..answer(&text, &[60]) }, Lifetime::Local, START);
    }
    let forwarded = (0..100).filter(|&n| hit(&cache, &text(n, "web"), START).is_some()).count();
    assert_eq!((forwarded, cache.len()), (3, 8));
}

#[test]
fn flushing_takes_what_was_named() {
    let cache = cache(100, 1 << 20);
    for text in ["a.example", "x.a.example", "ba.example"] {
        put(&cache, text, &answer(text, &[60]), Lifetime::Positive(60), START);
    }
    assert_eq!(cache.flush(Flush::Name(&name("X.a.example"))), 1);
    assert_eq!(cache.flush(Flush::Suffix(&name("A.example"))), 1);
    assert_eq!(cache.len(), 1);
    assert_eq!(cache.flush(Flush::All), 1);
    assert_eq!((cache.len(), cache.bytes()), (0, 0));
}

#[test]
fn what_is_counted_at_one_moment_agrees() {
    let cache = cache(100, 1 << 20);
    let missing = |text: &str| {
        let builder = MessageBuilder::response(&name(text), Rtype::A, Rcode::NXDOMAIN);
        Answer { message: builder.finish(), origin: Origin::Upstream, ede: None }
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for text in ["a.example", "b.example"] {
                    put(&cache, text, &missing(text), Lifetime::Negative(60), START);
                }
                cache.flush(Flush::All);
            }
        });
        // Until many have been seen with something in it: nothing has failed before because nothing was there.
        let mut seen = 0;
        while seen < 2_000 {
            let held = cache.held();
            let each = held.bytes.checked_div(held.entries).unwrap_or(0);
            let agree = held.negative == held.entries && held.bytes == held.entries * each;
            if !agree || (held.bytes > 0) != (held.entries > 0) {
                done.store(true, Ordering::Relaxed);
                panic!("{held:?}");
            }
            seen += held.entries.min(1);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn an_answer_of_too_many_records_is_not_kept() {
    let cache = cache(10, 1 << 20);
    for (records, kept) in [(1024, true), (1025, false)] {
        let answer = answer("a.example", &vec![60; records]);
        let done = put(&cache, "a.example", &answer, Lifetime::Positive(60), at(0));
        assert_eq!((done.stored, done.too_large), (kept, !kept), "{records}");
    }
    assert!(hit(&cache, "a.example", at(0)).is_none(), "nor is the one before it, which is not true any more");
}

#[test]
fn an_answer_over_the_share_of_its_shard_is_not_kept() {
    let cache = cache(10, 1000);
    let put =
        |records| put(&cache, "a.example", &answer("a.example", &vec![60; records]), Lifetime::Positive(60), START);
    assert_eq!(put(1), Inserted { stored: true, ..Inserted::default() });
    assert_eq!(put(60), Inserted { too_large: true, ..Inserted::default() });
    assert!(cache.is_empty(), "nor is the one before it");
}

#[test]
fn a_cache_of_nothing_keeps_nothing() {
    for cache in [cache(0, 1 << 20), cache(100, 0)] {
        let done = put(&cache, "a.example", &answer("a.example", &[60]), Lifetime::Positive(60), START);
        assert_eq!(done, Inserted::default(), "nor is anything too large for it");
        assert!(hit(&cache, "a.example", START).is_none());
    }
}

#[test]
fn every_shard_gets_its_share() {
    let cache = cache(30_000, 1 << 30);
    assert_eq!(cache.shards.len(), 20);
    for n in 0..20_000 {
        let text = format!("n{n}.example");
        assert_eq!(put(&cache, &text, &answer(&text, &[60]), Lifetime::Positive(60), START).evicted, 0);
    }
    // A thousand each. A fast hash spreads names of one pattern less evenly than chance under some seeds: by 210 once.
    let counts: Vec<usize> = cache.shards.iter().map(|shard| lock(shard).len()).collect();
    assert!(counts.iter().all(|count| (500..=1500).contains(count)), "{counts:?}");
}

#[test]
fn threads_share_it_without_losing_count() {
    let cache = cache(5000, 1 << 22);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let cache = &cache;
            scope.spawn(move || {
                for n in 0..2000 {
                    let text = format!("n{n}.t{}.example", thread % 2);
                    put(cache, &text, &answer(&text, &[60]), Lifetime::Positive(60), START);
                    assert!(hit(cache, &text, START).is_none_or(|(_, message)| ttls(&message) == [60]));
                }
            });
        }
    });
    assert_eq!(cache.len(), 4000);
    cache.flush(Flush::All);
    assert_eq!(cache.bytes(), 0);
}

#[derive(Debug, Clone)]
enum Action {
    Put { name: usize, ttl: u32, size: usize, local: bool },
    Ask { name: usize },
    Wait { ms: u64 },
    Reload,
    Revalidate { name: usize },
    Flush { name: usize },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0..12usize, 1..20u32, 1..40usize, any::<bool>()).prop_map(|(name, ttl, size, local)| Action::Put { name, ttl, size, local }),
        6 => (0..12usize).prop_map(|name| Action::Ask { name }),
        3 => (0..9000u64).prop_map(|ms| Action::Wait { ms }),
        1 => Just(Action::Reload),
        1 => (0..12usize).prop_map(|name| Action::Revalidate { name }),
        1 => (0..12usize).prop_map(|name| Action::Flush { name }),
    ]
}

/// What the model remembers of an insertion.
#[derive(Clone, Copy)]
struct Known {
    born: Tick,
    ttl: u32,
    records: usize,
    local: bool,
    current: bool,
}

proptest! {
    /// The cache may forget whatever it likes, but what it says is what was last put in, aged rightly; and its
    /// bounds hold after every step.
    #[test]
    fn it_never_says_more_than_a_model_without_bounds(
        actions in proptest::collection::vec(action(), 1..200), max_entries in 1..10usize, max_bytes in 300..5000u64,
    ) {
        let cache = cache(max_entries, max_bytes);
        let mut model: HashMap<usize, Known> = HashMap::new();
        let mut now = START;
        let text = |name: usize| format!("n{name}.example");
        for action in actions {
            match action {
                Action::Put { name, ttl, size, local } => {
                    let origin = if local { Origin::Hosts } else { Origin::Upstream };
                    let found = Answer { origin, ..answer(&text(name), &vec![ttl; size]) };
                    let lifetime = if local { Lifetime::Local } else { Lifetime::Positive(ttl) };
                    let done = put(&cache, &text(name), &found, lifetime, now);
                    model.remove(&name);
                    if done.stored {
                        model.insert(name, Known { born: now, ttl, records: size, local, current: true });
                        let (_, message) = hit(&cache, &text(name), now).unwrap();
                        prop_assert_eq!(ttls(&message), vec![ttl; size]);
                    } else {
                        prop_assert!(hit(&cache, &text(name), now).is_none(), "a refused answer must not leave the old one");
                    }
                }
                Action::Ask { name } => {
                    let known = model.get(&name).copied();
                    if let Some((origin, message)) = hit(&cache, &text(name), now) {
                        let known = known.unwrap();
                        let age = u32::try_from(now.since(known.born).as_secs()).unwrap();
                        prop_assert!(known.current && (known.local || age < known.ttl));
                        prop_assert_eq!(origin == Origin::Hosts, known.local);
                        let shown = if known.local { known.ttl } else { known.ttl - age };
                        prop_assert_eq!(ttls(&message), vec![shown; known.records]);
                        let slow = cache.get(&key(&text(name)), cache.epoch(), now).unwrap();
                        prop_assert_eq!(ttls(&slow.answer.message), vec![shown; known.records]);
                    }
                }
                Action::Wait { ms } => now = Tick(now.0 + ms),
                Action::Reload => {
                    cache.next_epoch();
                    model.values_mut().for_each(|known| known.current = false);
                }
                Action::Revalidate { name } => {
                    if cache.revalidate(&key(&text(name)), 7, cache.epoch()) {
                        model.get_mut(&name).unwrap().current = true;
                    }
                }
                Action::Flush { name: gone } => {
                    cache.flush(Flush::Name(&name(&text(gone))));
                    model.remove(&gone);
                }
            }
            prop_assert!(cache.len() <= max_entries);
            prop_assert!(cache.bytes() as u64 <= max_bytes);
            let mut counted = Held::default();
            for shard in &cache.shards {
                let shard = lock(shard);
                for (slot, head) in shard.forwarded.iter().chain(shard.local.iter()) {
                    counted.entries += 1;
                    counted.negative += usize::from(head.is_negative());
                    counted.bytes += cost(slot);
                }
            }
            prop_assert_eq!(cache.held(), counted);
        }
    }
}
