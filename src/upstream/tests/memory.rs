//! Time, choice and failure on a network in memory; tokio's time is paused, so seconds cost nothing.

use super::fake::*;
use super::play::*;
use crate::clock::Clock;
use crate::config::{GroupId, Strategy, UpstreamTransport};
use crate::dns::{Rcode, Trace};
use crate::stats::Counter;
use crate::upstream::{Acceptance, FailureKind, Net, SimulatedNet, Standing, Upstreams};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn first_of_two_silent_costs_little_once_and_nothing_after() {
    let (play, upstreams, _) = play(&[1, 2]);
    play.healthy(2, 20);
    let (outcome, ms) = timed(&upstreams, "a.example.org").await;
    assert_eq!(outcome, Ok(2));
    assert!(ms <= 400, "{ms}");
    for n in 0..50 {
        let (outcome, ms) = timed(&upstreams, &format!("n{n}.example.org")).await;
        assert_eq!(outcome, Ok(2));
        assert!(ms <= 30, "question {n}: {ms}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(upstreams.status()[0].standing, Standing::Dead);
    assert!(play.sent_to(1) < 12, "a dead server is probed with growing pauses: {}", play.sent_to(1));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_costs_one_hedge_then_nothing_and_is_found_again() {
    let (play, upstreams, _) = play(&[1, 2]);
    play.healthy(1, 20);
    play.healthy(2, 25);
    for n in 0..10 {
        timed(&upstreams, &format!("w{n}.example.org")).await.0.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    play.silent(1);
    let (outcome, ms) = timed(&upstreams, "x.example.org").await;
    assert_eq!(outcome, Ok(2));
    assert!(ms <= 60, "{ms}");
    for n in 0..20 {
        let (_, ms) = timed(&upstreams, &format!("d{n}.example.org")).await;
        assert!(ms <= 35, "question {n}: {ms}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    play.healthy(1, 5);
    for n in 0..80 {
        timed(&upstreams, &format!("b{n}.example.org")).await.0.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(upstreams.status()[0].standing, Standing::Good);
}

#[tokio::test(start_paused = true)]
async fn healthy_upstreams_are_asked_once_a_question() {
    let (play, upstreams, _) = play(&[1, 2]);
    play.healthy(1, 20);
    play.healthy(2, 22);
    for n in 0..500 {
        timed(&upstreams, &format!("n{n}.example.org")).await.0.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(play.sent() <= 505, "{}", play.sent());
}

#[tokio::test(start_paused = true)]
async fn silence_of_all_ends_within_the_patience_and_a_single_one_within_the_budget() {
    let (_, two, _) = play(&[1, 2]);
    assert_eq!(timed(&two, "a.example.org").await, (Err(FailureKind::Timeout), 1450));
    let (play, one, _) = play(&[1]);
    assert_eq!(timed(&one, "a.example.org").await, (Err(FailureKind::Timeout), 4500));
    assert_eq!(play.sent(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_group_has_no_more_time_than_its_timeout() {
    let mut hasty = group("hasty", &[address(1)]);
    hasty.timeout = Duration::from_millis(700);
    let (_, upstreams, stats) = play_with(vec![hasty]);
    assert_eq!(timed(&upstreams, "a.example.org").await, (Err(FailureKind::Timeout), 700));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(stats.get(Counter::UpstreamTimeouts) > 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_upstream_still_answers_and_slow_ones_teach_patience() {
    let (slow, one, _) = play(&[1]);
    slow.healthy(1, 4000);
    assert_eq!(timed(&one, "a.example.org").await, (Ok(1), 4000));
    let (slow, two, _) = play(&[1, 2]);
    slow.healthy(1, 1700);
    slow.healthy(2, 1800);
    assert_eq!(timed(&two, "a.example.org").await.0, Err(FailureKind::Timeout));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(timed(&two, "b.example.org").await.0.map_err(|_| ()).map(|_| ()), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn failing_servers_are_passed_at_once_and_avoided_later() {
    for rcode in [Rcode::SERVFAIL, Rcode::REFUSED, Rcode::NOTIMP, Rcode::NOERROR] {
        let mut ordered = group("g", &[address(1), address(2)]);
        ordered.strategy = Strategy::Order;
        let (play, upstreams, _) = play_with(vec![ordered]);
        play.says(1, rcode);
        play.healthy(2, 5);
        let (outcome, ms) = timed(&upstreams, "a.example.org").await;
        assert_eq!(outcome, Ok(2), "{rcode}");
        assert!(ms <= 15, "{rcode}: {ms}");
    }
    let (play, upstreams, _) = play(&[1, 2]);
    play.says(1, Rcode::SERVFAIL);
    play.healthy(2, 5);
    for n in 0..10 {
        assert_eq!(timed(&upstreams, &format!("n{n}.example.org")).await.0, Ok(2));
    }
    assert!(play.sent_to(1) <= 2, "{}", play.sent_to(1));
}

#[tokio::test(start_paused = true)]
async fn all_failed_is_said_at_once_with_the_best_reply() {
    let (play, upstreams, stats) = play(&[1, 2]);
    play.says(1, Rcode::REFUSED);
    play.says(2, Rcode::SERVFAIL);
    let start = Instant::now();
    let failure = ask(&upstreams, "a.example.org").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::AllFailed);
    assert!(start.elapsed() <= Duration::from_millis(12));
    let best = failure.best.unwrap();
    assert_eq!(crate::dns::wire::Message::parse(&best.message).unwrap().rcode(), Rcode::SERVFAIL);
    assert_eq!(stats.get(Counter::UpstreamFailures), 2);
    let (refusing, upstreams, _) = self::play(&[1, 2]);
    for last in [1, 2] {
        refusing.set(last, |_, to| to.refuse(Duration::from_millis(1)));
    }
    let failure = ask(&upstreams, "a.example.org").await.unwrap_err();
    assert_eq!((failure.kind, failure.ede().code), (FailureKind::Network, 23));
}

#[tokio::test(start_paused = true)]
async fn empty_noerror_is_the_answer_only_when_nobody_has_a_better_one() {
    let (play, upstreams, _) = play(&[1, 2]);
    play.says(1, Rcode::NOERROR);
    play.says(2, Rcode::NOERROR);
    let reply = ask(&upstreams, "a.example.org").await.unwrap();
    assert_eq!(crate::dns::wire::Message::parse(&reply.message).unwrap().rcode(), Rcode::NOERROR);
    play.healthy(2, 50);
    assert_eq!(timed(&upstreams, "b.example.org").await.0, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn rejected_replies_go_on_to_the_next_server_and_are_never_handed_out() {
    let (play, upstreams, _) = play(&[1, 2]);
    play.healthy(1, 5);
    play.healthy(2, 9);
    let not_one = |message: &crate::dns::wire::Message<'_>, _: &crate::upstream::ServerInfo| {
        let record = message.section(crate::dns::wire::Section::Answer).next().unwrap();
        if message.rdata(&record).ends_with(&[1]) { Acceptance::Reject("one") } else { Acceptance::Accept }
    };
    assert_eq!(octet(&ask_where(&upstreams, "a.example.org", false, &not_one).await.unwrap()), 2);
    let failure = ask_where(&upstreams, "b.example.org", false, &|_, _| Acceptance::Reject("no")).await.unwrap_err();
    assert_eq!((failure.kind, failure.ede().code), (FailureKind::Filtered, 17));
    assert!(failure.best.is_none());
}

#[tokio::test(start_paused = true)]
async fn only_private_never_reaches_a_public_server() {
    let public: SocketAddr = "192.0.2.53:53".parse().unwrap();
    let mut private = group("private", &[address(1), public]);
    private.fallback = Some(GroupId(1));
    let (play, upstreams, _) = play_with(vec![private, group("public", &[public])]);
    let failure = ask_where(&upstreams, "a.example.org", true, &|_, _| Acceptance::Accept).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(play.log.lock().unwrap().iter().all(|(server, ..)| *server == address(1)));
    assert!(!upstreams.group_is_private(GroupId(0)) && !upstreams.group_is_private(GroupId(1)));
}

#[tokio::test(start_paused = true)]
async fn a_fallback_group_answers_for_a_group_that_is_down_and_a_ring_of_them_ends() {
    let mut first = group("first", &[address(1)]);
    first.fallback = Some(GroupId(1));
    let mut second = group("second", &[address(2)]);
    second.fallback = Some(GroupId(0));
    let (play, upstreams, _) = play_with(vec![first, second]);
    play.healthy(2, 20);
    let (outcome, ms) = timed(&upstreams, "a.example.org").await;
    assert_eq!(outcome, Ok(2));
    assert!(ms <= 1600, "{ms}");
    for n in 0..5 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        timed(&upstreams, &format!("n{n}.example.org")).await.0.unwrap();
    }
    let (_, ms) = timed(&upstreams, "z.example.org").await;
    assert!(ms <= 25, "a group known to be dead is passed by: {ms}");
    play.silent(2);
    let (outcome, ms) = timed(&upstreams, "b.example.org").await;
    assert_eq!(outcome, Err(FailureKind::Timeout));
    assert!(ms <= 4500, "{ms}");
}

#[tokio::test(start_paused = true)]
async fn the_last_group_of_the_longest_chain_is_asked() {
    let mut groups: Vec<_> = (1..=5).map(|last| group(&format!("g{last}"), &[address(last)])).collect();
    for (at, group) in (1..).zip(&mut groups[..4]) {
        group.fallback = Some(GroupId(at));
    }
    let (play, upstreams, _) = play_with(groups);
    (1..=3).for_each(|last| play.says(last, Rcode::REFUSED));
    play.healthy(4, 5);
    play.healthy(5, 5);
    assert_eq!(timed(&upstreams, "a.example.org").await.0, Ok(4));
    play.says(4, Rcode::REFUSED);
    assert_eq!(timed(&upstreams, "b.example.org").await.0, Err(FailureKind::AllFailed));
    assert_eq!(play.sent_to(5), 0, "a fifth group is no part of a chain");
}

#[tokio::test(start_paused = true)]
async fn truncated_goes_to_tcp_and_wrong_case_to_lower_case() {
    let (play, upstreams, stats) = play(&[1]);
    play.set(1, |query, to| {
        let bytes =
            if query.transport == UpstreamTransport::Tcp { answer(&query.bytes, 7) } else { truncated(&query.bytes) };
        to.message(Duration::from_millis(3), bytes);
    });
    assert_eq!(timed(&upstreams, "a.example.org").await, (Ok(7), 6));
    assert_eq!(stats.get(Counter::UpstreamTcpRetries), 1);
    play.set(1, |query, to| {
        let mut lowered = query.bytes.clone();
        lowered[12..].make_ascii_lowercase();
        to.message(Duration::from_millis(3), answer(&lowered, 8));
    });
    let (other, fresh, _) = self::play(&[1]);
    other.set(1, |query, to| {
        let mut lowered = query.bytes.clone();
        lowered[12..].make_ascii_lowercase();
        to.message(Duration::from_millis(3), answer(&lowered, 8));
    });
    assert_eq!(timed(&fresh, "abcdefghijklmnop.example.org").await, (Ok(8), 6));
    assert_eq!(timed(&fresh, "bcdefghijklmnopq.example.org").await, (Ok(8), 3), "learnt");
}

#[tokio::test(start_paused = true)]
async fn servers_without_edns_are_learnt_whether_they_refuse_or_drop_it() {
    let edns = |query: &[u8]| query[11] != 0;
    let (refusing, upstreams, _) = play(&[1]);
    refusing.set(1, move |query, to| {
        let mut bytes = answer(&query.bytes, 1);
        if edns(&query.bytes) {
            bytes = query.bytes[..12].to_vec();
            bytes[2..].copy_from_slice(&[0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        to.message(Duration::from_millis(3), bytes);
    });
    assert_eq!(timed(&upstreams, "a.example.org").await, (Ok(1), 6));
    assert_eq!(timed(&upstreams, "b.example.org").await, (Ok(1), 3));
    let (dropping, upstreams, _) = play(&[1]);
    dropping.set(1, move |query, to| {
        if !edns(&query.bytes) {
            to.message(Duration::from_millis(3), answer(&query.bytes, 1));
        }
    });
    assert_eq!(timed(&upstreams, "a.example.org").await.0, Ok(1));
    assert_eq!(timed(&upstreams, "b.example.org").await, (Ok(1), 3));
}

#[tokio::test(start_paused = true)]
async fn forged_replies_are_not_believed_and_the_true_one_still_comes() {
    let (play, upstreams, stats) = play(&[1]);
    play.set(1, |query, to| {
        for n in 0..20_000_u32 {
            let mut forged = answer(&query.bytes, 66);
            let id = u16::from_be_bytes([query.bytes[0], query.bytes[1]]).wrapping_add(1 + (n % 60_000) as u16);
            forged[..2].copy_from_slice(&id.to_be_bytes());
            to.message(Duration::ZERO, forged);
        }
        to.message(Duration::from_millis(40), answer(&query.bytes, 1));
    });
    assert_eq!(timed(&upstreams, "a.example.org").await.0, Ok(1));
    assert!(stats.get(Counter::UpstreamUnmatched) >= 20_000);
    assert!(play.log.lock().unwrap().iter().any(|(_, transport, _)| *transport == UpstreamTransport::Tcp));
}

#[tokio::test(start_paused = true)]
async fn a_loop_disables_the_looping_upstream_only() {
    let (play, upstreams, stats) = play(&[1, 2]);
    play.healthy(2, 20);
    let upstreams = Arc::new(upstreams);
    // Server 1 hands every question back to us.
    let back = Arc::clone(&upstreams);
    play.set(1, move |query, _| {
        let message = crate::dns::wire::Message::parse(&query.bytes).unwrap();
        let name = crate::dns::Name::from_wire(message.qname()).unwrap();
        let back = Arc::clone(&back);
        tokio::spawn(async move { back.note_arrival(&question(&name.to_string())) });
    });
    let (outcome, _) = timed(&upstreams, "a.example.org").await;
    assert_eq!(outcome, Ok(2));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(upstreams.status().iter().map(|s| s.standing).collect::<Vec<_>>(), [Standing::Looping, Standing::Good]);
    assert_eq!(stats.get(Counter::UpstreamLoops), 1);
    let before = play.sent_to(1);
    assert_eq!(timed(&upstreams, "b.example.org").await.0, Ok(2));
    assert_eq!(play.sent_to(1), before);
    play.servers.lock().unwrap().clear();
}

#[test]
fn a_looping_server_is_looked_at_again_every_quarter_of_an_hour_at_least() {
    let health = crate::upstream::health::Health::default();
    let mut now = crate::clock::Tick(1_000_000);
    let mut pauses_s = Vec::new();
    for _ in 0..7 {
        health.looped(now);
        let start = now;
        while health.snapshot(now).standing == Standing::Looping {
            now = now.plus(Duration::from_secs(1));
        }
        pauses_s.push(now.since(start).as_secs());
    }
    assert_eq!(pauses_s, [60, 120, 240, 480, 900, 900, 900]);
}

#[tokio::test(start_paused = true)]
async fn own_addresses_are_never_asked_and_health_survives_a_reload() {
    let (play, upstreams, stats) = play(&[1, 2]);
    play.healthy(1, 20);
    play.healthy(2, 20);
    upstreams.set_own_addresses(&[address(1)]);
    assert_eq!(timed(&upstreams, "a.example.org").await.0, Ok(2));
    assert_eq!(play.sent_to(1), 0);
    let config = config(vec![group("g", &[address(2)])]);
    let net: Arc<dyn SimulatedNet> = Arc::<Play>::clone(&play);
    let reloaded = Upstreams::new(&config, &[], Clock::simulated(), stats, Net::Simulated(net), Some(&upstreams));
    assert!(reloaded.status()[0].srtt.is_some());
    let (_, none, _) = play_with(vec![group("g", &[])]);
    assert_eq!(timed(&none, "a.example.org").await, (Err(FailureKind::NoServers), 0));
}

#[tokio::test(start_paused = true)]
async fn the_machines_resolvers_can_change_while_running() {
    let mut auto = group("system", &[]);
    auto.auto = true;
    let (play, upstreams, _) = play_with(vec![auto]);
    play.healthy(1, 20);
    assert_eq!(timed(&upstreams, "a.example.org").await.0, Err(FailureKind::NoServers));
    upstreams.set_system(&[address(1), address(1)]);
    assert_eq!(timed(&upstreams, "a.example.org").await.0, Ok(1));
    assert_eq!(&*upstreams.servers(GroupId(0))[0].label, "system/10.0.0.1");
    assert_eq!(upstreams.servers(GroupId(0)).len(), 1);
    assert!(upstreams.group_is_private(GroupId(0)));
    upstreams.set_system(&(1..=70).map(address).collect::<Vec<_>>());
    assert_eq!(upstreams.servers(GroupId(0)).len(), 64, "further ones are left out");
}

#[tokio::test(start_paused = true)]
async fn the_trace_tells_who_was_asked_and_why() {
    let (play, upstreams, _) = play(&[1, 2]);
    play.says(1, Rcode::SERVFAIL);
    play.says(2, Rcode::SERVFAIL);
    let question = question("a.example.org");
    let deadline = Instant::now() + BUDGET;
    let ask = crate::upstream::Ask::new(GroupId(0), &question, deadline);
    let mut trace = Trace::on();
    upstreams.ask(ask, &mut trace).await.unwrap_err();
    let text: Vec<String> = trace.steps().iter().map(|s| format!("{}|{}|{}", s.saw, s.decided, s.because)).collect();
    assert!(text.iter().any(|line| line.contains("ask over UDP|first choice")), "{text:?}");
    assert!(text.iter().any(|line| line.contains("not an answer|SERVFAIL")), "{text:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reply_after_the_question_was_given_up_on_goes_to_its_heir() {
    let (play, upstreams, _) = play(&[1]);
    play.healthy(1, 6_000);
    let (question, (sender, late)) = (question("a.example.org"), std::sync::mpsc::channel());
    let heir = move || -> crate::upstream::Heir {
        let sender = sender.clone();
        Box::new(move |reply| sender.send(octet(&reply)).expect("the test listens"))
    };
    let ask = crate::upstream::Ask {
        heir: Some(&heir),
        ..crate::upstream::Ask::new(GroupId(0), &question, Instant::now() + BUDGET)
    };
    let failure = upstreams.ask(ask, &mut Trace::off()).await.unwrap_err();
    assert_eq!((failure.kind, late.try_recv().ok()), (FailureKind::Timeout, None));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(late.try_iter().collect::<Vec<_>>(), [1], "once, although every repeat of the query was answered");
}

#[tokio::test(start_paused = true)]
async fn without_sockets_questions_fail_at_once_and_the_server_is_not_blamed() {
    let (play, upstreams, stats) = play(&[1]);
    upstreams.set_max_sockets(2);
    let (a, b, c) = tokio::join!(
        timed(&upstreams, "a.example.org"),
        timed(&upstreams, "b.example.org"),
        timed(&upstreams, "c.example.org"),
    );
    assert_eq!((a.0, b.0), (Err(FailureKind::Timeout), Err(FailureKind::Timeout)));
    assert_eq!(c, (Err(FailureKind::Network), 0));
    assert_eq!(play.sent(), 2, "repeats have no socket either");
    assert!(stats.get(Counter::UpstreamSocketsFull) > 1);
    assert_eq!(stats.get(Counter::UpstreamErrors), 0);
    play.healthy(1, 20);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(timed(&upstreams, "d.example.org").await.0, Ok(1), "places come back");
}

#[tokio::test(start_paused = true)]
async fn late_replies_are_waited_for_up_to_a_bound() {
    let mut both = group("g", &[address(1), address(2)]);
    both.strategy = Strategy::Parallel;
    let (play, upstreams, stats) = play_with(vec![both]);
    play.healthy(1, 0);
    for n in 0..600 {
        assert_eq!(timed(&upstreams, &format!("n{n}.example.org")).await, (Ok(1), 0));
    }
    let full = stats.get(Counter::LingerFull);
    assert_eq!(full, 600 - u64::try_from(crate::upstream::linger::MAX_LINGERING).unwrap());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(timed(&upstreams, "z.example.org").await.0, Ok(1));
    assert_eq!(stats.get(Counter::LingerFull), full, "those who waited have ended");
}

#[tokio::test(start_paused = true)]
async fn with_few_sockets_left_late_replies_are_not_waited_for() {
    let mut both = group("g", &[address(1), address(2)]);
    both.strategy = Strategy::Parallel;
    let (play, upstreams, stats) = play_with(vec![both]);
    upstreams.set_max_sockets(3);
    play.healthy(1, 0);
    for n in 0..3 {
        assert_eq!(timed(&upstreams, &format!("n{n}.example.org")).await.0, Ok(1));
    }
    assert!(stats.get(Counter::LingerFull) > 0);
}
