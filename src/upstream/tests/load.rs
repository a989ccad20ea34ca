//! A steady load over upstreams at fault, on a network in memory with paused time.
//!
//! Two upstreams 20 ms away, nothing known about them at the start, 50 questions a second, each a task of its own, so
//! that replies to one come while another waits.

use super::fake::*;
use super::play::*;
use crate::dns::Rcode;
use crate::upstream::{FailureKind, ServerStatus, Standing, Upstreams};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const RTT_MS: u64 = 20;
const BETWEEN: Duration = Duration::from_millis(20);

/// Asks so many questions; returns how each ended, and after how many milliseconds, in the order of asking. `each` is
/// called before every question with its number.
async fn steadily(
    upstreams: &Arc<Upstreams>,
    count: usize,
    each: impl Fn(usize),
) -> Vec<(Result<u8, FailureKind>, u128)> {
    let mut asked = Vec::new();
    for n in 0..count {
        each(n);
        let asker = Arc::clone(upstreams);
        asked.push(tokio::spawn(async move { timed(&asker, &format!("n{n}.example.org")).await }));
        tokio::time::sleep(BETWEEN).await;
    }
    let mut ended = Vec::new();
    for one in asked {
        ended.push(one.await.unwrap());
    }
    ended
}

fn worst(ended: &[(Result<u8, FailureKind>, u128)]) -> u128 {
    ended.iter().map(|(_, ms)| *ms).max().unwrap()
}

/// Loses three in ten queries, by a fixed sequence, so that the test says the same every time.
fn lossy(play: &Play, lasts: &[u8]) {
    let seed = Arc::new(Mutex::new(0x9e37_79b9_u32));
    for &last in lasts {
        let seed = Arc::clone(&seed);
        play.set(last, move |query, to| {
            let mut state = seed.lock().unwrap();
            *state ^= *state << 13;
            *state ^= *state >> 17;
            *state ^= *state << 5;
            if *state % 10 >= 3 {
                to.message(Duration::from_millis(RTT_MS), answer(&query.bytes, last));
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn first_of_two_at_fault_costs_at_most_60_ms() {
    type Fault = (&'static str, fn(&Play, usize));
    let faults: [Fault; 8] = [
        ("silent", |_, _| {}),
        ("closed", |play, _| play.set(1, |_, to| to.refuse(Duration::ZERO))),
        ("slow", |play, _| play.healthy(1, 800)),
        ("SERVFAIL", |play, _| {
            play.set(1, |query, to| {
                to.message(Duration::from_millis(RTT_MS), reply(&query.bytes, Rcode::SERVFAIL, None))
            })
        }),
        ("REFUSED", |play, _| {
            play.set(1, |query, to| {
                to.message(Duration::from_millis(RTT_MS), reply(&query.bytes, Rcode::REFUSED, None))
            })
        }),
        ("dies", |play, n| if n < 150 { play.healthy(1, RTT_MS) } else { play.silent(1) }),
        (
            "dies closed",
            |play, n| if n < 150 { play.healthy(1, RTT_MS) } else { play.set(1, |_, to| to.refuse(Duration::ZERO)) },
        ),
        ("comes and goes", |play, n| if n % 100 < 50 { play.healthy(1, RTT_MS) } else { play.silent(1) }),
    ];
    for (name, fault) in faults {
        let (play, upstreams, _) = play(&[1, 2]);
        play.healthy(2, RTT_MS);
        let ended = steadily(&Arc::new(upstreams), 400, |n| fault(&play, n)).await;
        assert!(ended.iter().all(|(outcome, _)| outcome.is_ok()), "{name}");
        assert!(worst(&ended) <= 60, "{name}: {} ms", worst(&ended));
    }
}

#[tokio::test(start_paused = true)]
async fn healthy_upstreams_get_one_query_a_question() {
    let (play, upstreams, _) = play(&[1, 2]);
    play.healthy(1, RTT_MS);
    play.healthy(2, RTT_MS + 5);
    steadily(&Arc::new(upstreams), 1000, |_| {}).await;
    assert!(play.sent() <= 1010, "{} queries for 1000 questions", play.sent());
}

#[tokio::test(start_paused = true)]
async fn both_dead_is_servfail_within_a_second_and_a_half_however_many_ask() {
    let (play, upstreams, _) = play(&[1, 2]);
    let ended = steadily(&Arc::new(upstreams), 400, |_| {}).await;
    assert!(ended.iter().all(|(outcome, ms)| *outcome == Err(FailureKind::Timeout) && *ms < 1500), "{}", worst(&ended));
    assert!(play.sent() <= 400 * 7, "{} queries for 400 questions", play.sent());
}

#[tokio::test(start_paused = true)]
async fn thirty_percent_loss_on_both_is_answered_within_300_ms() {
    let (play, upstreams, _) = play(&[1, 2]);
    lossy(&play, &[1, 2]);
    let upstreams = Arc::new(upstreams);
    let dead = |server: &ServerStatus| server.standing == Standing::Dead;
    let ended = steadily(&upstreams, 2000, |n| {
        assert!(!upstreams.status().iter().any(dead), "a lossy server counts as dead before question {n}");
    })
    .await;
    assert!(ended.iter().all(|(outcome, _)| outcome.is_ok()));
    // 0.3^7: one question in 5,000 needs an eighth query.
    let slow = ended.iter().filter(|(_, ms)| *ms > 300).count();
    assert!(slow <= 1, "{slow} questions, worst {} ms", worst(&ended));
}
