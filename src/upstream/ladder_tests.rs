//! The memory of rungs, without any network.

use super::*;

const START: Tick = Tick(1_000_000);
const HOME: PlaceId = PlaceId(0);
const SOON: Duration = Duration::from_millis(20);

fn later(seconds: u64) -> Tick {
    START.plus(Duration::from_secs(seconds))
}

/// Returns the rungs in the order of trying, and the one asked along.
fn climb(ladder: &Ladder, now: Tick) -> (Vec<u8>, Option<u8>) {
    let mut climb = ladder.climb(now);
    let along = climb.take_along();
    (std::iter::from_fn(|| climb.next()).collect(), along)
}

#[test]
fn the_first_that_answers_works_and_higher_ones_are_tried_again_ever_more_rarely() {
    let ladder = Ladder::new(3, HOME);
    assert_eq!(climb(&ladder, START), (vec![0, 1, 2], None));
    assert_eq!(ladder.steps(), Steps { count: 3, apart: STAGGER });
    assert_eq!(ladder.answered(1, SOON, START), Some(Change { from: None }));
    assert_eq!(ladder.steps(), Steps { count: 3, apart: SILENCE });
    let along: Vec<u64> =
        (0..100).filter(|&second| climb(&ladder, later(second)) == (vec![1, 2, 0], Some(0))).collect();
    assert_eq!(along, [1, 3, 7, 15, 31, 61, 91]);
    assert_eq!(ladder.answered(1, SOON, later(100)), None);
    assert_eq!(ladder.answered(0, SOON, later(100)), Some(Change { from: Some(1) }));
    assert_eq!(climb(&ladder, later(200)), (vec![0, 1, 2], None));
}

#[test]
fn every_higher_rung_has_its_turn() {
    let ladder = Ladder::new(3, HOME);
    ladder.answered(2, SOON, START);
    let along: Vec<u8> = (1..10).filter_map(|second| climb(&ladder, later(second)).1).collect();
    assert_eq!(along, [0, 1, 0, 1, 0, 1]);
}

#[test]
fn a_lower_rung_takes_over_only_from_one_that_was_silent_meanwhile() {
    let ladder = Ladder::new(2, HOME);
    ladder.answered(0, SOON, START);
    let waited = Duration::from_millis(500);
    assert_eq!(ladder.answered(1, waited, START.plus(SOON)), None, "the other answered somebody meanwhile");
    assert_eq!(ladder.answered(1, waited, later(1)), Some(Change { from: Some(0) }));
    assert_eq!(climb(&ladder, later(1)), (vec![1, 0], None));
    assert_eq!(climb(&ladder, later(2)), (vec![1, 0], Some(0)));
}

#[test]
fn a_rung_that_fails_for_sure_comes_last_and_blames_the_server_only_when_none_works() {
    let ladder = Ladder::new(3, HOME);
    assert!(ladder.failed(0, START));
    assert_eq!(climb(&ladder, START).0, [1, 2, 0]);
    ladder.answered(1, SOON, START);
    assert!(!ladder.failed(0, START));
    assert!(ladder.failed(1, START));
    assert_eq!((ladder.working(), climb(&ladder, START).0), (None, vec![2, 0, 1]));
}

#[test]
fn what_worked_on_a_network_is_the_first_guess_there_and_raced() {
    let ladder = Ladder::new(3, HOME);
    ladder.answered(2, SOON, START);
    ladder.moved_to(HOME);
    assert_eq!(ladder.steps().apart, STAGGER);
    assert_eq!(climb(&ladder, later(1)), (vec![2, 0, 1], None));
    ladder.answered(0, SOON, later(1));
    ladder.moved_to(PlaceId(1));
    assert_eq!((ladder.working(), climb(&ladder, later(1)).0), (None, vec![0, 1, 2]));
    ladder.answered(1, SOON, later(1));
    ladder.moved_to(HOME);
    assert_eq!(ladder.working(), Some(0));
    assert_eq!(climb(&ladder, later(1)), (vec![0, 1, 2], None));
    ladder.moved_to(PlaceId(1));
    assert_eq!((ladder.working(), climb(&ladder, later(1)).0), (Some(1), vec![1, 0, 2]));
}

#[test]
fn a_network_that_goes_away_takes_no_rung_from_what_is_remembered_of_it() {
    let ladder = Ladder::new(2, HOME);
    ladder.answered(1, SOON, START);
    // The cable is out: all fails before anybody has said so.
    assert!(ladder.failed(1, START) && ladder.failed(0, START));
    assert_eq!(ladder.working(), None);
    ladder.moved_to(PlaceId(1));
    assert_eq!(ladder.working(), None);
    ladder.moved_to(HOME);
    assert_eq!(ladder.working(), Some(1));
}

#[test]
fn what_answers_before_a_network_shows_which_it_is_belongs_to_that_one() {
    let (office, hotel) = (PlaceId(1), PlaceId(2));
    let ladder = Ladder::new(3, HOME);
    ladder.answered(2, SOON, START);
    ladder.moved_to(office);
    ladder.answered(1, SOON, START);
    // It seems to be home, and is the office.
    ladder.moved_to(HOME);
    ladder.is_at(office);
    assert_eq!((ladder.working(), ladder.steps().apart), (Some(1), STAGGER), "the guess is made anew");
    ladder.moved_to(HOME);
    assert_eq!(ladder.working(), Some(2));
    // It seems to be home, and is a hotel; something has answered, and something has failed.
    ladder.failed(2, later(1));
    ladder.answered(0, SOON, later(1));
    ladder.is_at(hotel);
    assert_eq!((ladder.working(), ladder.steps().apart), (Some(0), SILENCE), "nothing becomes less sure");
    ladder.moved_to(HOME);
    assert_eq!(ladder.working(), Some(2));
    ladder.failed(2, later(2));
    ladder.is_at(hotel);
    assert_eq!(ladder.working(), Some(0));
    // What has failed is no guess.
    ladder.moved_to(HOME);
    ladder.failed(0, later(3));
    ladder.is_at(hotel);
    assert_eq!((ladder.working(), climb(&ladder, later(3)).0), (None, vec![1, 2, 0]));
}

#[test]
fn a_single_rung_is_never_in_question() {
    let ladder = Ladder::new(1, HOME);
    assert!(ladder.failed(0, START));
    assert_eq!(ladder.answered(0, SOON, START), None);
    ladder.moved_to(PlaceId(1));
    assert_eq!((ladder.working(), climb(&ladder, later(9)), ladder.steps()), (Some(0), (vec![0], None), Steps::ONE));
}

#[test]
fn of_the_rungs_of_a_server_the_first_six_are_tried() {
    for (rungs, tried) in [(MAX_RUNGS, MAX_RUNGS), (MAX_RUNGS + 1, MAX_RUNGS), (1000, MAX_RUNGS)] {
        let ladder = Ladder::new(rungs, HOME);
        let (order, along) = climb(&ladder, START);
        assert!(order.iter().copied().map(usize::from).eq(0..tried) && along.is_none(), "{rungs}: {order:?}");
        // The last of them works, all above it come along in turn, and all have failed in the end.
        let last = u8::try_from(tried - 1).unwrap();
        ladder.answered(last, SOON, START);
        let mut along: Vec<u8> =
            (1..2 * u64::from(last)).filter_map(|second| climb(&ladder, later(second)).1).collect();
        along.sort_unstable();
        along.dedup();
        assert!(along.into_iter().eq(0..last));
        assert!((0..last).all(|rung| !ladder.failed(rung, START)) && ladder.failed(last, START));
    }
}
