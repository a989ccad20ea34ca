//! A snapshot says what the cache said, aged rightly; everything else is not taken.

use super::super::key::Lookup;
use super::super::stale::Staleness;
use super::super::store::{Cached, Flush, Terms};
use super::*;
use crate::config::{PlaceId, ViewId};
use crate::dns::answer::ede;
use crate::dns::encode::{self, MessageBuilder};
use crate::dns::wire::Section;
use crate::dns::{Name, Record, Rtype, Tag};
use proptest::prelude::*;
use std::time::Duration;

const DAY_S: u64 = 86_400;
/// A machine that has been up for an hour, in 2023.
const SAVED: Moment = Moment { tick: Tick(3_600_000), unix_ms: 1_700_000_000_000 };

fn policy() -> config::Cache {
    config::Cache {
        max_entries: 1000,
        max_bytes: 1 << 20,
        max_ttl: Duration::from_secs(DAY_S),
        negative_ttl_max: Duration::from_secs(300),
        serve_stale: config::ServeStale {
            enabled: true,
            after: Duration::ZERO,
            max_age: Duration::from_secs(DAY_S),
            reply_ttl: Duration::from_secs(30),
        },
        ..config::Cache::NONE
    }
}

fn key(text: &str) -> KeyBuf {
    key_in(ViewId(3), text)
}

fn key_in(view: ViewId, text: &str) -> KeyBuf {
    KeyBuf::new(&Lookup {
        place: PlaceId(0),
        view,
        qname: Name::parse(text).unwrap().as_wire(),
        qtype: Rtype::A,
        dnssec_ok: true,
        checking_disabled: false,
    })
}

fn answer(text: &str, ttl: u32) -> Answer {
    let owner = Name::parse(text).unwrap();
    let mut builder = MessageBuilder::response(&owner, Rtype::A, Rcode::NOERROR);
    builder.push(Section::Answer, &Record { owner, rtype: Rtype::A, class: 1, ttl, rdata: Box::new([192, 0, 2, 1]) });
    Answer { message: builder.finish(), origin: Origin::Upstream, ede: None }
}

fn put(cache: &Cache, text: &str, answer: &Answer, lifetime: Lifetime, disputed: bool) {
    let terms = Terms { lifetime, fingerprint: 77, epoch: cache.epoch(), now: SAVED.tick, disputed, tag: Tag::NONE };
    assert!(cache.insert(&key(text), answer, &terms).stored, "{text}");
}

fn snapshot(cache: &Cache, now: Moment) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(cache, now, &mut bytes).unwrap();
    bytes
}

/// A cache with one answer of an hour.
fn one() -> Vec<u8> {
    let cache = Cache::new(&policy());
    put(&cache, "www.example.org", &answer("www.example.org", 3600), Lifetime::Positive(3600), false);
    snapshot(&cache, SAVED)
}

fn restored(bytes: &[u8], now: Moment) -> (Cache, Restored) {
    let cache = Cache::new(&policy());
    let restored = restore(&cache, &policy(), bytes, || now).unwrap();
    (cache, restored)
}

/// The moment so many seconds later, on a machine that has been up for a minute.
fn after(seconds: u64) -> Moment {
    Moment { tick: Tick(60_000), unix_ms: SAVED.unix_ms + seconds * 1000 }
}

fn look(cache: &Cache, key: &KeyBuf, now: Tick) -> Option<Cached> {
    cache.get(key, cache.epoch(), now)
}

fn first_ttl(answer: &Answer) -> u32 {
    answer.records(Section::Answer)[0].ttl
}

#[test]
fn an_answer_comes_back_older_by_the_time_that_passed_and_must_be_decided_again() {
    assert_eq!(check(one().as_slice()).unwrap(), 1);
    let (cache, done) = restored(&one(), after(1000));
    assert_eq!(done, Restored { taken: 1, left: 0 });
    let found = look(&cache, &key("www.example.org"), after(1000).tick).unwrap();
    assert_eq!((found.current, found.fingerprint, found.staleness), (false, 77, None));
    assert_eq!((first_ttl(&found.answer), found.age), (2600, Duration::from_secs(1000)));
    assert!(cache.revalidate(&key("www.example.org"), 77, cache.epoch()));
    assert!(look(&cache, &key("www.example.org"), after(1000).tick).unwrap().current);
    assert!(look(&cache, &key_in(ViewId(0), "www.example.org"), after(1000).tick).is_none());
}

#[test]
fn what_expired_meanwhile_is_stale_and_what_is_too_old_is_left() {
    let (cache, done) = restored(&one(), after(3600 + 10));
    assert_eq!(done.taken, 1);
    let found = look(&cache, &key("www.example.org"), after(3600 + 10).tick).unwrap();
    assert_eq!((found.staleness, first_ttl(&found.answer)), (Some(Staleness::Wait), 30));
    let (cache, done) = restored(&one(), after(3600 + DAY_S));
    assert_eq!((done, cache.len()), (Restored { taken: 0, left: 1 }, 0));
}

#[test]
fn a_wall_clock_that_went_back_makes_everything_expired() {
    let earlier = Moment { tick: Tick(60_000), unix_ms: SAVED.unix_ms - 1 };
    let (cache, done) = restored(&one(), earlier);
    assert_eq!(done.taken, 1);
    assert_eq!(look(&cache, &key("www.example.org"), earlier.tick).unwrap().staleness, Some(Staleness::Wait));
}

#[test]
fn what_is_ours_failures_and_what_was_disputed_stay_behind() {
    let cache = Cache::new(&policy());
    let ours = Answer { origin: Origin::Zone, ..answer("ours.example", 60) };
    put(&cache, "ours.example", &ours, Lifetime::Local, false);
    put(&cache, "disputed.example", &answer("disputed.example", 60), Lifetime::Positive(60), true);
    let failed = encode::servfail(&Name::parse("broken.example").unwrap(), Rtype::A, Ede::new(22, "silent"));
    put(&cache, "broken.example", &failed, Lifetime::Failure, false);
    let with_reason = Answer { ede: Some(Ede::new(ede::BLOCKED, "by the upstream")), ..answer("kept.example", 60) };
    put(&cache, "kept.example", &with_reason, Lifetime::Positive(60), false);
    let (back, done) = restored(&snapshot(&cache, SAVED), SAVED);
    assert_eq!((done, back.len()), (Restored { taken: 1, left: 0 }, 1));
    assert_eq!(look(&back, &key("kept.example"), SAVED.tick).unwrap().answer.ede, with_reason.ede);
}

#[test]
fn the_limits_in_force_are_those_that_count() {
    let strict = config::Cache { max_ttl: Duration::from_secs(600), ..policy() };
    let cache = Cache::new(&strict);
    assert_eq!(restore(&cache, &strict, one().as_slice(), || after(100)).unwrap().taken, 1);
    let found = look(&cache, &key("www.example.org"), after(100).tick).unwrap();
    assert_eq!((found.staleness, first_ttl(&found.answer)), (None, 500));
    let none = config::Cache { serve_stale: config::ServeStale { enabled: false, ..strict.serve_stale }, ..strict };
    let cache = Cache::new(&none);
    assert_eq!(restore(&cache, &none, one().as_slice(), || after(600)).unwrap().taken, 0);
}

#[test]
fn what_is_known_already_stays_and_nothing_is_put_out() {
    let small = config::Cache { max_entries: 2, ..policy() };
    let cache = Cache::new(&small);
    put(&cache, "www.example.org", &answer("www.example.org", 60), Lifetime::Positive(60), false);
    let full = Cache::new(&policy());
    for n in 0..5 {
        let text = format!("n{n}.example");
        put(&full, &text, &answer(&text, 3600), Lifetime::Positive(3600), false);
    }
    put(&full, "www.example.org", &answer("www.example.org", 3600), Lifetime::Positive(3600), false);
    let done = restore(&cache, &small, snapshot(&full, SAVED).as_slice(), || SAVED).unwrap();
    assert_eq!((done, cache.len()), (Restored { taken: 1, left: 5 }, 2));
    assert_eq!(first_ttl(&look(&cache, &key("www.example.org"), SAVED.tick).unwrap().answer), 60);
    let new = "new.example";
    put(&cache, new, &answer(new, 60), Lifetime::Positive(60), false);
    assert!(look(&cache, &key("www.example.org"), SAVED.tick).is_some(), "what was restored goes first");
}

#[test]
fn thousands_of_entries_make_many_chunks() {
    let policy = config::Cache { max_entries: 20_000, max_bytes: 16 << 20, ..policy() };
    let cache = Cache::new(&policy);
    for n in 0..10_000 {
        let text = format!("n{n}.example");
        put(&cache, &text, &answer(&text, 3600), Lifetime::Positive(3600), false);
    }
    let bytes = snapshot(&cache, SAVED);
    assert!(bytes.len() > 2 * (256 << 10), "{}", bytes.len());
    assert_eq!(check(bytes.as_slice()).unwrap(), 10_000);
    let back = Cache::new(&policy);
    assert_eq!(restore(&back, &policy, bytes.as_slice(), || after(5)).unwrap(), Restored { taken: 10_000, left: 0 });
    assert_eq!(back.bytes(), cache.bytes());
    assert!((0..10_000).all(|n| look(&back, &key(&format!("n{n}.example")), after(5).tick).is_some()));
}

#[test]
fn another_file_a_later_format_and_an_empty_one_are_told_apart() {
    assert!(matches!(check(&b"[cache]\nmax_entries = 1\npersist = true\n"[..]), Err(Fault::Foreign)));
    assert!(matches!(check(&b""[..]), Err(Fault::Torn)));
    let mut later = one();
    later[17] = 2;
    assert!(matches!(check(later.as_slice()), Err(Fault::Newer(2))));
    let mut longer = one();
    longer.push(0);
    assert!(matches!(check(longer.as_slice()), Err(Fault::Damaged { .. })));
}

#[test]
fn a_chunk_that_claims_to_be_longer_than_any_is_not_read() {
    let most = u32::try_from(format::MAX_CHUNK_BYTES).unwrap();
    let claiming = |octets: u32| {
        let mut whole = one();
        whole[format::HEADER_BYTES..][..4].copy_from_slice(&octets.to_be_bytes());
        check(whole.as_slice())
    };
    assert!(matches!(claiming(most + 1), Err(Fault::Damaged { what: "a chunk is longer than any is written", .. })));
    assert!(matches!(claiming(u32::MAX), Err(Fault::Damaged { .. })));
    assert!(matches!(claiming(most), Err(Fault::Torn)), "that one is read as far as there is anything");
}

#[test]
fn a_file_torn_anywhere_is_no_snapshot() {
    let whole = one();
    for len in 0..whole.len() {
        assert!(check(&whole[..len]).is_err(), "{len}");
    }
}

#[test]
fn changes_are_told_once_until_they_are_taken() {
    let cache = Cache::new(&policy());
    let told = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&told);
    cache.on_change(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    });
    let times = || told.load(std::sync::atomic::Ordering::Relaxed);
    assert!(!cache.take_changes());
    put(&cache, "a.example", &answer("a.example", 60), Lifetime::Positive(60), false);
    put(&cache, "b.example", &answer("b.example", 60), Lifetime::Positive(60), false);
    assert_eq!((times(), cache.take_changes(), cache.take_changes()), (1, true, false));
    cache.flush(Flush::All);
    assert_eq!((times(), cache.take_changes()), (2, true));
    let ours = Answer { origin: Origin::Zone, ..answer("ours.example", 60) };
    put(&cache, "ours.example", &ours, Lifetime::Local, false);
    assert!(restore(&cache, &policy(), one().as_slice(), || SAVED).unwrap().taken == 1);
    assert_eq!((times(), cache.take_changes()), (2, false), "neither is anything a snapshot would lack");
}

proptest! {
    /// One octet changed, anywhere: the checksums see it.
    #[test]
    fn a_changed_octet_is_noticed(at in any::<prop::sample::Index>(), change in 1..=255_u8) {
        let mut bytes = one();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        prop_assert!(check(bytes.as_slice()).is_err(), "{at}");
    }

    /// Whoever can write a right checksum can still not put in what a reply could not: entries are checked one by one.
    #[test]
    fn entries_of_any_octets_are_taken_whole_or_left(
        entries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut good = Vec::new();
        let cache = Cache::new(&policy());
        put(&cache, "www.example.org", &answer("www.example.org", 3600), Lifetime::Positive(3600), false);
        cache.for_each_worth_keeping(0, SAVED.tick, |slot, head| put_entry(&mut good, slot, head, SAVED));
        for (at, flip) in flips {
            // Behind its length: with another one it would be other entries.
            let at = 4 + at.index(good.len() - 4);
            good[at] ^= flip;
        }
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, SAVED.unix_ms).unwrap();
        writer.entry(&good).unwrap();
        for entry in &entries {
            let len = u32::try_from(entry.len()).unwrap();
            writer.entry(&[&len.to_be_bytes()[..], entry].concat()).unwrap();
        }
        writer.finish().unwrap();
        let (back, done) = restored(&bytes, SAVED);
        prop_assert_eq!(done.taken, back.len() as u64);
        prop_assert_eq!(done.taken + done.left, entries.len() as u64 + 1);
        for shard in 0..back.shard_count() {
            let mut bad = 0;
            back.for_each_worth_keeping(shard, SAVED.tick, |slot, head| {
                let view = Message::parse(slot.message(head)).unwrap();
                bad += usize::from(view.validate().is_err() || slot.to_key().is_none());
            });
            prop_assert_eq!(bad, 0);
        }
    }

    #[test]
    fn no_octets_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(check(bytes.as_slice()).is_err());
    }
}
