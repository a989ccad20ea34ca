//! The plan on a fake timeline.

use super::*;
use crate::upstream::ladder::{SILENCE, STAGGER, Steps};

fn known(ms: u64) -> Snapshot {
    let srtt = Duration::from_millis(ms);
    Snapshot {
        standing: Standing::Good,
        srtt: Some(srtt),
        rttvar: Duration::ZERO,
        cost_us: srtt.as_secs_f64() * 1e6,
        slowest_recent: Some(srtt),
        ..unknown()
    }
}

fn unknown() -> Snapshot {
    Snapshot {
        standing: Standing::Unknown,
        srtt: None,
        rttvar: Duration::ZERO,
        cost_us: 60_000.0,
        slowest_recent: None,
        steps: Steps::ONE,
        repeats: true,
        round_trips: 1,
    }
}

fn dead() -> Snapshot {
    Snapshot { standing: Standing::Dead, ..known(20) }
}

fn setting(strategy: Strategy) -> Setting {
    Setting { strategy, alone: false, patience: PATIENCE, limit: Duration::from_millis(4500), sends_left: MAX_SENDS }
}

fn plan(setting: &Setting, servers: &[Snapshot]) -> Plan {
    Plan::new(setting, &order(setting.strategy, servers, |_| 0), servers, Vec::new())
}

/// Plays the plan with nobody answering; returns (ms, server) of each send and the ms of the end.
fn silence(plan: Plan, heard: bool) -> (Vec<(u128, usize)>, u128) {
    silence_after(plan, |_| heard.then_some(Duration::ZERO))
}

/// The same, with what is heard of others.
fn silence_after(mut plan: Plan, heard: impl Fn(Duration) -> Option<Duration>) -> (Vec<(u128, usize)>, u128) {
    let mut now = Duration::ZERO;
    let mut sends = Vec::new();
    loop {
        match plan.next(now, || heard(now)) {
            Next::Send { server, .. } => sends.push((now.as_millis(), server)),
            Next::Wait { until } => {
                assert!(until > now, "a plan must not wait for the past");
                now = until;
            }
            Next::TimedOut => return (sends, now.as_millis()),
            Next::AllFailed => panic!("nobody failed"),
        }
    }
}

#[test]
fn seven_sends_within_265_ms_on_20_ms_upstreams_and_never_a_storm() {
    let (sends, end) = silence(plan(&setting(Strategy::Fastest), &[known(20), known(20)]), false);
    assert_eq!(sends.iter().filter(|(at, _)| *at <= 265).count(), 7, "{sends:?}");
    assert!(sends.len() == 8 && sends[7].0 > 900, "one more for when an outage is over: {sends:?}");
    assert_eq!((sends[0], sends[1]), ((0, 0), (30, 1)));
    assert_eq!(sends.iter().filter(|(_, server)| *server == 0).count(), 4, "in turns: {sends:?}");
    assert_eq!(end, 1450);
}

#[test]
fn nothing_known_races_two() {
    let (sends, _) = silence(plan(&setting(Strategy::Fastest), &[unknown(), unknown(), unknown()]), false);
    assert_eq!(&sends[..3], &[(0, 0), (0, 1), (90, 2)]);
    let (sends, _) = silence(plan(&setting(Strategy::Fastest), &[unknown(), known(20)]), false);
    assert_eq!(&sends[..2], &[(0, 1), (30, 0)], "the known one first, alone");
}

#[test]
fn hedge_is_never_earlier_than_15_ms() {
    let (sends, _) = silence(plan(&setting(Strategy::Fastest), &[known(1), known(2)]), false);
    assert_eq!(sends[1], (15, 1));
}

#[test]
fn repeats_are_two_seconds_apart_at_most() {
    let setting = Setting { alone: true, limit: Duration::from_secs(30), ..setting(Strategy::Fastest) };
    let (sends, _) = silence(plan(&setting, &[known(5000)]), false);
    let between: Vec<u128> = sends.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert_eq!(between, [2000; 7]);
}

#[test]
fn a_single_server_is_waited_for_to_the_end() {
    let setting = Setting { alone: true, ..setting(Strategy::Fastest) };
    let (sends, end) = silence(plan(&setting, &[known(20)]), false);
    assert_eq!(end, 4500);
    assert_eq!(sends.len(), usize::from(MAX_SENDS));
    assert!(sends.last().unwrap().0 > 1500, "the last sends are spread: {sends:?}");
}

#[test]
fn patience_grows_with_the_slowest_recent_answer_and_ends_at_the_budget() {
    let slow = |ms| Snapshot { slowest_recent: Some(Duration::from_millis(ms)), ..known(20) };
    let patience = |ms| silence(plan(&setting(Strategy::Fastest), &[slow(ms), known(20)]), false).1;
    assert_eq!(patience(1400), 1450);
    assert_eq!(patience(1600), 2400);
    assert_eq!(patience(4000), 4500);
    let heard = silence(plan(&setting(Strategy::Fastest), &[known(20), known(20)]), true).1;
    assert_eq!(heard, 4500, "a group that answers others is alive");
}

#[test]
fn a_stray_reply_before_silence_is_waited_beyond_by_one_patience() {
    let end = |last: u64| {
        let last = Duration::from_millis(last);
        let heard = |now: Duration| now.checked_sub(last);
        silence_after(plan(&setting(Strategy::Fastest), &[known(20), known(20)]), heard).1
    };
    assert_eq!((end(0), end(100), end(1400)), (1450, 1550, 2850));
    assert_eq!(end(4000), 1450, "nothing was heard until then");
}

#[test]
fn failures_go_on_at_once_and_all_failed_ends_at_once() {
    let mut plan = plan(&setting(Strategy::Fastest), &[known(20), known(30), known(40)]);
    let now = Duration::from_millis(3);
    assert_eq!(plan.next(Duration::ZERO, || None), Next::Send { server: 0, why: Why::First });
    plan.failed(0);
    assert_eq!(plan.next(now, || None), Next::Send { server: 1, why: Why::Failover });
    plan.failed(1);
    assert_eq!(plan.next(now, || None), Next::Send { server: 2, why: Why::Failover });
    assert!(matches!(plan.next(now, || None), Next::Wait { .. }));
    plan.failed(2);
    assert_eq!(plan.next(now, || None), Next::AllFailed);
}

#[test]
fn a_failed_server_is_not_asked_again() {
    let mut plan = plan(&setting(Strategy::Fastest), &[known(20), known(20)]);
    assert!(matches!(plan.next(Duration::ZERO, || None), Next::Send { server: 0, .. }));
    plan.failed(0);
    let (sends, _) = silence(plan, false);
    assert!(sends.len() > 3 && sends.iter().all(|(_, server)| *server == 1), "{sends:?}");
}

#[test]
fn parallel_asks_all_at_once_within_the_bound() {
    let servers = vec![known(20); 12];
    let (sends, _) = silence(plan(&setting(Strategy::Parallel), &servers), false);
    assert_eq!(sends.len(), usize::from(MAX_SENDS));
    assert!(sends.iter().all(|(at, _)| *at == 0));
}

#[test]
fn dead_servers_are_asked_last_and_calmly_when_all_are_dead() {
    assert_eq!(order(Strategy::Fastest, &[dead(), known(300), known(20)], |_| 0), [2, 1, 0]);
    assert_eq!(order(Strategy::Order, &[dead(), known(300), known(20)], |_| 0), [1, 2, 0]);
    let (sends, end) = silence(plan(&setting(Strategy::Fastest), &[dead(), dead()]), false);
    assert_eq!(end, 1450);
    assert_eq!(&sends[..3], &[(0, 0), (0, 1), (450, 0)]);
    assert!(sends.len() <= 4, "{sends:?}");
}

#[test]
fn a_probe_rides_along_without_delaying_the_hedge() {
    let servers = [known(20), known(25), dead()];
    let setting = setting(Strategy::Fastest);
    let mut plan = Plan::new(&setting, &order(setting.strategy, &servers, |_| 0), &servers, vec![2]);
    assert_eq!(plan.next(Duration::ZERO, || None), Next::Send { server: 0, why: Why::First });
    assert_eq!(plan.next(Duration::ZERO, || None), Next::Send { server: 2, why: Why::Probe });
    assert_eq!(plan.next(Duration::ZERO, || None), Next::Wait { until: Duration::from_millis(30) });
    assert_eq!(plan.next(Duration::from_millis(30), || None), Next::Send { server: 1, why: Why::Hedge });
}

#[test]
fn choice_of_two_leaves_far_servers_alone_and_uses_all_near_ones() {
    let servers = [known(20), known(21), known(22), known(500)];
    let mut firsts = std::collections::BTreeSet::new();
    for a in 0..3 {
        for b in 0..2 {
            let mut draws = vec![b, a];
            let order = order(Strategy::Fastest, &servers, |_| draws.pop().unwrap());
            assert_eq!(order.len(), 4);
            firsts.insert(order[0]);
        }
    }
    assert_eq!(firsts.into_iter().collect::<Vec<_>>(), [0, 1], "the better of two, never the far one");
}

#[test]
fn no_sends_left_means_waiting_not_spinning() {
    let setting = Setting { sends_left: 1, ..setting(Strategy::Fastest) };
    let (sends, end) = silence(plan(&setting, &[known(20), known(20)]), false);
    assert_eq!((sends.len(), end), (1, 1450));
}

#[test]
fn looping_servers_are_left_out() {
    let looping = Snapshot { standing: Standing::Looping, ..known(1) };
    assert_eq!(order(Strategy::Fastest, &[looping, known(20)], |_| 0), [1]);
    let setting = setting(Strategy::Fastest);
    let mut none = Plan::new(&setting, &[], &[looping], Vec::new());
    assert_eq!(none.next(Duration::ZERO, || None), Next::AllFailed);
}

/// A server with rungs over connections only.
fn ladder(rungs: u8, server: Snapshot) -> Snapshot {
    let apart = if server.srtt.is_some() { SILENCE } else { STAGGER };
    Snapshot { steps: Steps { count: rungs, apart }, repeats: false, ..server }
}

#[test]
fn rungs_start_150_ms_apart_while_nothing_is_known_and_repeat_nothing() {
    let setting = Setting { alone: true, ..setting(Strategy::Fastest) };
    let (sends, end) = silence(plan(&setting, &[ladder(4, unknown())]), false);
    assert_eq!((sends, end), (vec![(0, 0), (150, 0), (300, 0), (450, 0)], 4500));
    let (sends, _) = silence(plan(&setting, &[ladder(3, known(20))]), false);
    assert_eq!(sends, [(0, 0), (400, 0), (800, 0)], "one that works is waited for");
    let (sends, _) = silence(plan(&setting, &[Snapshot { round_trips: 3, ..ladder(2, known(300)) }]), false);
    assert_eq!(sends, [(0, 0), (900, 0)], "a far one the longer, when its connection is to be opened");
}

#[test]
fn rungs_of_several_servers_share_the_sends() {
    let servers = vec![ladder(2, unknown()); 12];
    let first = Setting { patience: FIRST_PATIENCE, ..setting(Strategy::Fastest) };
    let (sends, end) = silence(plan(&first, &servers), false);
    assert_eq!(sends, [(0, 0), (0, 1), (90, 2), (150, 0), (150, 1), (193, 3), (240, 2), (312, 4)]);
    assert_eq!(end, 600);
}

#[test]
fn a_rung_that_fails_is_followed_by_the_next_at_once_and_the_last_is_the_server() {
    let setting = setting(Strategy::Order);
    let mut plan = plan(&setting, &[ladder(2, unknown()), ladder(1, unknown())]);
    let now = Duration::from_millis(3);
    assert_eq!(plan.next(Duration::ZERO, || None), Next::Send { server: 0, why: Why::First });
    assert_eq!(plan.next(Duration::ZERO, || None), Next::Send { server: 1, why: Why::Race });
    assert!(!plan.rung_failed(0, false));
    assert_eq!(plan.next(now, || None), Next::Send { server: 0, why: Why::Rung });
    assert_eq!(plan.next(now, || None), Next::Wait { until: Duration::from_millis(1450) });
    assert!(plan.rung_failed(0, false));
    assert!(!plan.rung_failed(1, true), "another of its queries is under way");
    assert!(plan.rung_failed(1, false));
    assert_eq!(plan.next(now, || None), Next::AllFailed);
}

#[test]
fn when_all_that_could_be_asked_have_failed_nobody_is_waited_for() {
    let setting = Setting { sends_left: 3, ..setting(Strategy::Fastest) };
    let mut plan = plan(&setting, &vec![ladder(2, unknown()); 9]);
    let mut next = || plan.next(Duration::ZERO, || None);
    assert_eq!(next(), Next::Send { server: 0, why: Why::First });
    assert_eq!(next(), Next::Send { server: 1, why: Why::Race });
    plan.rung_failed(0, false);
    assert_eq!(plan.next(Duration::ZERO, || None), Next::Send { server: 0, why: Why::Rung });
    plan.rung_failed(0, false);
    assert!(matches!(plan.next(Duration::ZERO, || None), Next::Wait { .. }), "the second still may answer");
    plan.rung_failed(1, false);
    assert_eq!(plan.next(Duration::ZERO, || None), Next::AllFailed);
}

#[test]
fn a_connection_that_is_to_be_opened_has_its_time_before_the_hedge() {
    let cold = Snapshot { round_trips: 3, ..ladder(1, known(20)) };
    let (sends, _) = silence(plan(&setting(Strategy::Fastest), &[cold, cold]), false);
    assert_eq!(sends, [(0, 0), (90, 1)]);
}
