//! Answers past their TTL, and those asked for again before it is over.

use super::*;
use crate::dns::answer::ede;

const DAY_S: u64 = 86_400;

fn policy() -> config::Cache {
    config::Cache {
        max_entries: 100,
        max_bytes: 1 << 20,
        max_ttl: Duration::from_secs(7 * DAY_S),
        serve_stale: config::ServeStale {
            enabled: true,
            after: Duration::from_millis(350),
            max_age: Duration::from_secs(DAY_S),
            reply_ttl: Duration::from_secs(30),
        },
        prefetch: config::Prefetch { enabled: true, min_hits: 3, before_expiry_percent: 10 },
        ..config::Cache::NONE
    }
}

fn filled(ttl_s: u32) -> Cache {
    let cache = Cache::new(&policy());
    assert!(
        put(&cache, "a.example", &answer("a.example", &[ttl_s, 5]), Lifetime::Positive(ttl_s), START).stored,
        "{ttl_s}"
    );
    cache
}

fn staleness(cache: &Cache, now: Tick) -> Option<Staleness> {
    cache.get(&key("a.example"), cache.epoch(), now).and_then(|cached| cached.staleness)
}

#[test]
fn an_expired_answer_is_waited_for_then_goes_out_at_once_for_a_while() {
    let cache = filled(60);
    assert_eq!(cache.get(&key("a.example"), cache.epoch(), at(59)).map(|cached| cached.staleness), Some(None));
    assert_eq!(staleness(&cache, at(60)), Some(Staleness::Wait));
    assert!(hit(&cache, "a.example", at(60)).is_none(), "nobody has tried yet");
    cache.note_failed_refresh(&key("a.example"), at(100));
    let expected = [
        (100, Staleness::AtOnce),
        (104, Staleness::AtOnce),
        (105, Staleness::AtOnceAndAsk),
        (129, Staleness::AtOnceAndAsk),
        (130, Staleness::Wait),
    ];
    for (second, expected) in expected {
        assert_eq!(staleness(&cache, at(second)), Some(expected), "{second}");
        let (now, is_at_once) = (at(second), expected == Staleness::AtOnce);
        assert_eq!(hit(&cache, "a.example", now).is_some(), is_at_once, "{second}");
    }
    assert_eq!(staleness(&cache, at(60 + DAY_S - 1)), Some(Staleness::Wait));
    assert!(cache.get(&key("a.example"), cache.epoch(), at(60 + DAY_S)).is_none());
}

#[test]
fn what_failed_on_another_network_is_tried_again_on_this_one() {
    let cache = filled(60);
    cache.note_failed_refresh(&key("a.example"), at(100));
    put(&cache, "b.example", &failure("b.example"), Lifetime::Failure, at(100));
    assert!(staleness(&cache, at(100)) == Some(Staleness::AtOnce) && hit(&cache, "b.example", at(100)).is_some());
    let changed = at(100).plus(Duration::from_millis(200));
    cache.network_changed(changed);
    let now = changed.plus(Duration::from_millis(1));
    assert_eq!(staleness(&cache, now), Some(Staleness::Wait));
    assert!(hit(&cache, "b.example", now).is_none() && cache.get(&key("b.example"), cache.epoch(), now).is_none());
    put(&cache, "b.example", &failure("b.example"), Lifetime::Failure, at(103));
    cache.note_failed_refresh(&key("a.example"), at(103));
    assert!(hit(&cache, "b.example", at(104)).is_some());
    assert_eq!(staleness(&cache, at(104)), Some(Staleness::AtOnce));
}

#[test]
fn a_stale_answer_says_so_and_shows_a_low_ttl() {
    let cache = filled(60);
    let slow = cache.get(&key("a.example"), cache.epoch(), at(1000)).unwrap();
    assert_eq!((slow.answer.origin, ttls(&slow.answer.message)), (Origin::Stale, vec![30, 5]));
    assert_eq!(slow.answer.ede.map(|ede| ede.code), Some(ede::STALE_ANSWER));
    cache.note_failed_refresh(&key("a.example"), at(1000));
    let (origin, fast) = hit(&cache, "a.example", at(1001)).unwrap();
    assert_eq!((origin, ttls(&fast)), (Origin::Stale, vec![30, 5]));
    let edns = Message::parse(&fast).unwrap().edns().unwrap().unwrap();
    assert_eq!(edns.option(15).map(|ede| ede[..2].to_vec()), Some(ede::STALE_ANSWER.to_be_bytes().to_vec()));
    let (qname, mut quiet) = (name("a.example"), Vec::new());
    cache
        .answer_into(
            &key("a.example"),
            Serve { extended_errors: false, ..serve(&cache, at(1001)) },
            &shape(&qname, 1232),
            &mut quiet,
        )
        .unwrap();
    let edns = Message::parse(&quiet).unwrap().edns().unwrap().unwrap();
    assert!(edns.option(15).is_none(), "extended errors are switched off");
}

#[test]
fn a_failure_does_not_take_the_place_of_an_answer_that_may_still_serve() {
    for second in [10, 61] {
        let cache = filled(60);
        let done = put(&cache, "a.example", &failure("a.example"), Lifetime::Failure, at(second));
        assert_eq!(done, Inserted { better_stays: true, ..Inserted::default() });
        assert!(cache.get(&key("a.example"), cache.epoch(), at(second)).unwrap().answer.has_records());
    }
    let cache = filled(60);
    assert!(put(&cache, "a.example", &failure("a.example"), Lifetime::Failure, at(60 + DAY_S)).stored);
    assert!(cache.get(&key("a.example"), cache.epoch(), at(60 + DAY_S + 1)).is_none(), "a failure is never stale");
    let cache = filled(60);
    cache.next_epoch();
    assert!(put(&cache, "a.example", &failure("a.example"), Lifetime::Failure, at(61)).stored, "not revalidated");
}

#[test]
fn what_was_disputed_and_what_is_ours_is_never_stale() {
    let cache = Cache::new(&policy());
    let terms = Terms {
        lifetime: Lifetime::Positive(60),
        fingerprint: 7,
        epoch: cache.epoch(),
        now: START,
        disputed: true,
        tag: Tag::NONE,
    };
    assert!(cache.insert(&key("a.example"), &answer("a.example", &[60]), &terms).stored);
    assert!(hit(&cache, "a.example", at(59)).is_some());
    cache.note_failed_refresh(&key("a.example"), at(60));
    assert!(cache.get(&key("a.example"), cache.epoch(), at(60)).is_none());
    assert!(hit(&cache, "a.example", at(60)).is_none());
    let ours = Answer { origin: Origin::Zone, ..answer("b.example", &[60]) };
    put(&cache, "b.example", &ours, Lifetime::Local, START);
    cache.note_failed_refresh(&key("b.example"), at(1000));
    let kept = cache.get(&key("b.example"), cache.epoch(), at(1_000_000)).unwrap();
    assert_eq!((kept.staleness, kept.answer.origin), (None, Origin::Zone));
}

#[test]
fn the_longest_times_fit() {
    let week = u32::try_from(7 * DAY_S).unwrap();
    let config = config::Cache {
        serve_stale: config::ServeStale { max_age: Duration::from_secs(7 * DAY_S), ..policy().serve_stale },
        ..policy()
    };
    let cache = Cache::new(&config);
    put(&cache, "a.example", &answer("a.example", &[week]), Lifetime::Positive(week), START);
    let end = u64::from(week) * 2 - 1;
    assert_eq!(staleness(&cache, at(u64::from(week) - 1)), None);
    cache.note_failed_refresh(&key("a.example"), at(end - 4));
    assert_eq!(staleness(&cache, at(end)), Some(Staleness::AtOnce));
    assert!(cache.get(&key("a.example"), cache.epoch(), at(end + 1)).is_none());
}

#[test]
fn a_popular_answer_is_asked_for_again_once_in_the_last_part_of_its_life() {
    let again = |cache: &Cache, second| {
        let (qname, mut out) = (name("a.example"), Vec::new());
        cache
            .answer_into(
                &key("a.example"),
                Serve { extended_errors: true, ..serve(cache, at(second)) },
                &shape(&qname, 1232),
                &mut out,
            )
            .unwrap()
            .ask_again
    };
    let cache = filled(1000);
    assert!((0..10).all(|second| !again(&cache, second)));
    // Entries stored together begin at different moments within the first half of that part.
    assert!(!again(&cache, 899));
    assert!(again(&cache, 950));
    assert!((951..999).all(|second| !again(&cache, second)), "once");
    let rare = filled(1000);
    assert!(!again(&rare, 960) && !again(&rare, 961));
    assert!(again(&rare, 962), "the third use");
    let slow = filled(1000);
    let uses = (0..5)
        .map(|_| slow.get(&key("a.example"), slow.epoch(), at(960)).unwrap().ask_again)
        .filter(|again| *again)
        .count();
    assert_eq!(uses, 1);
    let ours = Cache::new(&policy());
    put(&ours, "a.example", &Answer { origin: Origin::Zone, ..answer("a.example", &[60]) }, Lifetime::Local, START);
    assert!((0..100).all(|second| !again(&ours, second)));
}

#[test]
fn a_failure_is_not_asked_for_again_ahead_of_time() {
    let cache = Cache::new(&policy());
    for second in [0, 1, 3, 7] {
        put(&cache, "a.example", &failure("a.example"), Lifetime::Failure, at(second));
    }
    let again = (0..10).filter(|_| cache.get(&key("a.example"), cache.epoch(), at(11)).unwrap().ask_again).count();
    assert_eq!(again, 0);
}
