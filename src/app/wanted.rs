//! What is asked of the daemon's own loop from elsewhere, done one after the other, and who waits for the outcome.

use crate::control::{Outcome, Problem};
use http::StatusCode;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Reloads and the like that wait for their turn: as many as there are connections to ask over. Whoever went away leaves its
/// own behind, so there may be more who ask.
const MAX_WAITING: usize = 64;

/// Something that the daemon's own loop is to do, and who waits for its outcome.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) what: What,
    pub(super) outcome: oneshot::Sender<Outcome>,
}

/// What the daemon's own loop does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Read everything again.
    Reload,
    /// Turn routes off for so long.
    Pause(Duration),
    /// Turn them on again.
    Resume,
}

/// Where it is asked for.
#[derive(Debug)]
pub(super) struct Wanting(mpsc::Sender<Wanted>);

impl Wanting {
    /// Makes one, and what the loop reads.
    pub(super) fn new() -> (Self, mpsc::Receiver<Wanted>) {
        let (wanting, wanted) = mpsc::channel(MAX_WAITING);
        (Self(wanting), wanted)
    }

    /// Waits until it has its turn and is done.
    pub(super) async fn have_done(&self, what: What) -> Result<Outcome, Problem> {
        let (outcome, done) = oneshot::channel();
        let gone = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the daemon is stopping");
        self.0.send(Wanted { what, outcome }).await.map_err(|_| gone())?;
        done.await.map_err(|_| gone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::sync::Arc;
    use tokio::task::{JoinSet, yield_now};

    #[tokio::test]
    async fn sixty_four_reloads_wait_for_their_turn_and_who_comes_later_waits_to_ask() {
        const ALL: usize = MAX_WAITING + 6;
        let (wanting, mut wanted) = Wanting::new();
        let (wanting, mut asking) = (Arc::new(wanting), JoinSet::new());
        for _ in 0..ALL {
            let wanting = Arc::clone(&wanting);
            asking.spawn(async move { wanting.have_done(What::Reload).await.map(|outcome| outcome.generation).ok() });
        }
        while wanted.len() < MAX_WAITING {
            yield_now().await;
        }
        // Time for everybody, so that only the bound can be what holds the others back.
        for _ in 0..10 * ALL {
            yield_now().await;
        }
        assert_eq!(wanted.len(), MAX_WAITING);
        // Each that is done makes room for one that waits to ask, and everybody learns an outcome of its own.
        for generation in 0..ALL as u64 {
            let Some(Wanted { what, outcome }) = wanted.recv().await else { panic!("somebody waits") };
            assert_eq!(what, What::Reload);
            let done = Outcome { ok: true, generation, diagnostics: Value::Null, error: None };
            outcome.send(done).expect("who asked is there");
        }
        let mut told: Vec<_> = asking.join_all().await;
        told.sort_unstable();
        assert!(told.into_iter().eq((0..ALL as u64).map(Some)));
    }

    #[tokio::test]
    async fn when_the_daemon_ends_whoever_waits_is_told() {
        let (wanting, mut wanted) = Wanting::new();
        let ends = async { drop(wanted.recv().await) };
        let (told, ()) = tokio::join!(wanting.have_done(What::Resume), ends);
        assert!(told.is_err());
        drop(wanted);
        assert!(wanting.have_done(What::Resume).await.is_err());
    }
}
