//! truename and unbound side by side, over the same upstream: the same generated questions to both, and every way in
//! which their answers differ, counted by class. Started by the script `run` beside this file, in a network namespace
//! of its own; docs/differences.md explains every class.
//!
//! ```text
//! questions ─┬─▶ 127.0.0.40 truename ─┐
//!            └─▶ 127.0.0.30 unbound  ─┴─▶ 127.0.0.20 unbound, recursive ─▶ 127.0.0.10, .11 named: generated zones
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a harness: it prints, and what cannot go on ends")]

mod ask;
mod compare;
mod explain;
mod lab;
mod question;

use compare::{Seen, Tally};
use question::{Question, Questions};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

/// Questions under way at once.
const THREADS: usize = 8;
/// How often a question is asked again whose answers differ for no known reason, and after how long: longer than a failure
/// is remembered (RFC 9520).
const AGAIN: usize = 2;
const PAUSE: Duration = Duration::from_secs(6);
/// The seed when none is given: the figures in docs/differences.md were made with it.
const SEED: u64 = 20_240_601;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let program = args.next().expect("usage: differential TRUENAME [COUNT [SEED [KIND]]]");
    let count: usize = args.next().map_or(100_000, |text| text.parse().expect("COUNT is a number"));
    let seed: u64 = args.next().map_or(SEED, |text| text.parse().expect("SEED is a number"));
    // For looking at one kind of question: those of other kinds are passed over.
    let kind = args.next().unwrap_or_default();
    let lab = lab::start(&program);
    let questions = Questions::new(seed);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for worker in 0..THREADS {
            let (questions, tally, kind) = (&questions, &tally, kind.as_str());
            scope.spawn(move || {
                for index in (worker..count).step_by(THREADS) {
                    let question = questions.make(index);
                    if !question.kind.starts_with(kind) {
                        continue;
                    }
                    let seen = seen(&question);
                    tally.lock().unwrap().add(&question, seen);
                    if index % 10_000 == 0 {
                        println!("… {index}");
                    }
                }
            });
        }
    });
    drop(lab);
    let tally = tally.into_inner().unwrap();
    let is_clean = tally.is_clean();
    println!("{}", tally.report(count, seed));
    if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Asks both, and again when they differ for no known reason: a server that was late once answers then.
fn seen(question: &Question) -> Seen {
    let ask = || {
        let heard = ask::both(question);
        (Seen::new(question, &heard), heard.ours)
    };
    let (mut seen, mut ours) = ask();
    let first = seen.differences.join("; ");
    let was_odd = seen.is_odd(question);
    for _ in 0..AGAIN {
        if !seen.is_odd(question) {
            break;
        }
        std::thread::sleep(PAUSE);
        let before = seen;
        (seen, ours) = ask();
        seen.keep_faults(before);
    }
    if seen.is_odd(question) {
        seen.hear_upstream(ours.as_deref(), ask::upstream(question).as_deref());
    }
    seen.has_passed = (was_odd && !seen.is_odd(question)).then_some(first);
    seen
}
