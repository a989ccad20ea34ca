//! Waits awake, for a moment, for the reply of a server that is known to answer at once.
//!
//! A processor that has gone to sleep needs 20 to 50 µs to run a thread again: as long as a resolver on this machine, or
//! on the same switch, needs for its answer. So the reply of such a server is looked for a few times before its worker
//! sleeps. One question per worker does so at a time, and a busy worker has no time to sleep anyway: its round trips are
//! longer than [`NEAR`], since they count the time in which replies wait for it.

use super::attempts::Attempts;
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// Round trips below it are of a server so near. One across a local network with a radio takes a millisecond or more.
const NEAR: Duration = Duration::from_micros(150);
/// The longest time that is waited awake for one question.
const LONGEST: Duration = Duration::from_micros(200);

thread_local! {
    static TAKEN: Cell<bool> = const { Cell::new(false) };
}

/// The right to wait awake on this thread, given back when dropped.
struct Turn;

impl Turn {
    fn take() -> Option<Self> {
        (!TAKEN.replace(true)).then_some(Self)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TAKEN.set(false);
    }
}

/// Returns how long the first reply of a server is waited for awake; nothing when it is not near.
pub(super) fn patience(srtt: Option<Duration>) -> Option<Duration> {
    srtt.filter(|srtt| *srtt < NEAR).map(|srtt| (2 * srtt).min(LONGEST))
}

/// Waits awake for anything on any channel; nothing when nothing came, or when another question of this thread does so.
///
/// Other tasks of the thread go on meanwhile: each look is one turn of the runtime.
pub(super) async fn wait(attempts: &mut Attempts, patience: Duration) -> Option<(usize, io::Result<Vec<u8>>)> {
    let _turn = Turn::take()?;
    let start = Instant::now();
    loop {
        let look = poll_fn(|cx| Poll::Ready(attempts.poll(cx)));
        if let Poll::Ready(event) = look.await {
            return Some(event);
        }
        if start.elapsed() >= patience {
            return None;
        }
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;

    #[test]
    fn only_near_servers_are_waited_for_awake_and_never_long() {
        let us = Duration::from_micros;
        assert_eq!(patience(None), None);
        assert_eq!(patience(Some(us(150))), None);
        assert_eq!(patience(Some(us(40))), Some(us(80)));
        assert_eq!(patience(Some(us(149))), Some(LONGEST));
    }

    #[tokio::test]
    async fn one_question_of_a_thread_waits_and_it_ends() {
        let mut nothing = Attempts::default();
        let turn = Turn::take().unwrap();
        assert!(wait(&mut nothing, Duration::from_hours(1)).await.is_none(), "another one waits");
        drop(turn);
        assert!(wait(&mut nothing, Duration::from_micros(200)).await.is_none(), "nothing came");
        assert!(Turn::take().is_some(), "the right was given back");
        let mut given_up = Box::pin(wait(&mut nothing, Duration::from_hours(1)));
        assert!(poll_fn(|cx| Poll::Ready(given_up.as_mut().poll(cx).is_pending())).await);
        assert!(Turn::take().is_none(), "it waits");
        drop(given_up);
        assert!(Turn::take().is_some(), "given back by one that was dropped");
    }
}
