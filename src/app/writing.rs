//! When something that is kept in memory is written to disk: a while after it has changed, by a thread of its own, once at
//! a time. No timer runs while nothing changes.

use std::time::Duration;
use std::{io, sync::Arc};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

/// The pause between the first change and its writing, after a start: what a machine that soon crashes keeps.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause; each is twice as long as the one before. A busy cache of the default size is 4 MB, so a disk
/// sees half a gigabyte a day at most.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(600);
/// How long the end of the daemon waits for a last writing, counted from SIGTERM: it must be over within a second
/// (docs/promises.md 2), and what was written before is not lost by that.
pub(super) const LAST_WRITING_TIMEOUT: Duration = Duration::from_millis(900);

/// The changes and writings of one thing.
pub(super) struct Writing {
    changed: Arc<Notify>,
    due: Option<Instant>,
    pause: Duration,
    /// Ends when the thread at work does.
    working: Option<oneshot::Receiver<()>>,
}

impl Writing {
    /// Begins with nothing to write; `changed` is told when there is.
    pub(super) fn new(changed: Arc<Notify>) -> Self {
        Self { changed, due: None, pause: FIRST_PAUSE, working: None }
    }

    /// Returns what is told when there is something to write.
    pub(super) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// Waits until it is time to write, and whoever works has ended. Cancel safe.
    pub(super) async fn due(&mut self) {
        loop {
            self.ended().await;
            if let Some(due) = self.due {
                sleep_until(due).await;
                return;
            }
            self.changed.notified().await;
            self.due = Some(Instant::now() + self.pause);
        }
    }

    /// Takes note that what is due is being done, or need not be.
    pub(super) fn take_due(&mut self) {
        self.due = None;
    }

    /// Tells whether something has changed that is not written.
    pub(super) fn has_news(&self) -> bool {
        let mut notified = std::pin::pin!(self.changed.notified());
        self.due.is_some() || notified.as_mut().enable()
    }

    /// Lets more time pass before the next writing than before this one.
    pub(super) fn lengthen(&mut self) {
        self.pause = (self.pause * 2).min(MAX_PAUSE);
    }

    /// Has a thread do something slow, the disk. Not tokio's pool: its runtime would wait for the thread at the end.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(super) fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let (ending, ended) = oneshot::channel::<()>();
        let _detached = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ending = ending;
            work();
        })?;
        self.working = Some(ended);
        Ok(())
    }

    /// Waits until no thread is at work. Cancel safe.
    pub(super) async fn ended(&mut self) {
        if let Some(working) = &mut self.working {
            let _ended = working.await;
            self.working = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_between_writings_grow_to_ten_minutes() {
        let mut writing = Writing::new(Arc::default());
        let pauses = [(); 10].map(|()| {
            writing.lengthen();
            writing.pause.as_secs()
        });
        assert_eq!(pauses, [4, 8, 16, 32, 64, 128, 256, 512, MAX_PAUSE.as_secs(), MAX_PAUSE.as_secs()]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_while_it_is_written_is_written_again_and_nothing_else() {
        let mut writing = Writing::new(Arc::default());
        let changed = writing.changed();
        assert!(!writing.has_news());
        changed.notify_one();
        writing.due().await;
        let (go_on, waits) = std::sync::mpsc::channel::<()>();
        writing.take_due();
        writing.spawn("test", move || waits.recv().unwrap_or_default()).unwrap();
        assert!(writing.working.is_some());
        changed.notify_one();
        drop(go_on);
        writing.ended().await;
        assert!(writing.working.is_none() && writing.has_news());
        writing.ended().await;
    }
}
