//! Trying several things that lead to the same, each a moment after the one before, as RFC 8305 section 5 does with
//! addresses. The first that succeeds wins; the others are dropped.

use super::jobs::Fault;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::time::Duration;
use tokio::time::sleep;

/// The moment: the "Connection Attempt Delay" of RFC 8305 section 8.
pub(super) const PAUSE: Duration = Duration::from_millis(250);

/// Begins with the first item, and with the next one when none has succeeded for [`PAUSE`] or all so far have failed.
/// Returns the first success, or else the fault of the item that failed last. Cancel safe.
pub(super) async fn first<I, T, F: Future<Output = Result<T, Fault>>>(
    items: impl IntoIterator<Item = I>,
    nothing: &'static str,
    begin: impl Fn(I) -> F,
) -> Result<T, Fault> {
    let mut waiting = items.into_iter().peekable();
    let mut running = FuturesUnordered::new();
    let mut last = Fault::told(nothing);
    loop {
        match waiting.next() {
            Some(item) => running.push(begin(item)),
            None if running.is_empty() => return Err(last),
            None => {}
        }
        tokio::select! {
            // What is ready counts before what is only late.
            biased;
            Some(ended) = running.next() => match ended {
                Ok(done) => return Ok(done),
                Err(fault) => last = fault,
            },
            () = sleep(PAUSE), if waiting.peek().is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::time::Instant;

    /// Tries things that take so many milliseconds each and then succeed or fail; returns what came of it, when each was
    /// begun, and how long it took.
    async fn tried(things: &[(u64, bool)]) -> (Result<u64, String>, Vec<u128>, u128) {
        let (start, begun) = (Instant::now(), Mutex::new(Vec::new()));
        let all = first(things, "nothing", |&(ms, good)| {
            begun.lock().unwrap().push(start.elapsed().as_millis());
            async move {
                sleep(Duration::from_millis(ms)).await;
                if good { Ok(ms) } else { Err(Fault::told(format!("{ms} failed"))) }
            }
        });
        let ended = all.await.map_err(|fault| std::io::Error::from(fault).to_string());
        let took = start.elapsed().as_millis();
        (ended, begun.into_inner().unwrap(), took)
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_one_waits_for_a_failure_or_a_moment_and_all_are_tried() {
        assert_eq!(tried(&[(100, true), (10, true)]).await, (Ok(100), vec![0], 100));
        assert_eq!(tried(&[(100, false), (10, true)]).await, (Ok(10), vec![0, 100], 110));
        assert_eq!(tried(&[(60_000, false), (60_000, true), (20, true)]).await, (Ok(20), vec![0, 250, 500], 520));
        assert_eq!(tried(&[(300, true), (400, true)]).await, (Ok(300), vec![0, 250], 300), "the first goes on");
        let (failed, begun, _) = tried(&[(30, false), (600, false), (5, false)]).await;
        assert_eq!((failed, begun.len()), (Err("600 failed".to_owned()), 3));
        assert_eq!(tried(&[]).await.0, Err("nothing".to_owned()));
    }
}
