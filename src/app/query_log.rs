//! Every question and its answer, written down by a thread of its own: into a file that rotates by itself, or into the
//! journal. Off unless the configuration says so.
//!
//! The thread follows the workers as `truename log -f` does, so a disk or a journal that is slow holds up nobody: what
//! comes too fast is lost and counted. What cannot be written is counted too, and said once until writing succeeds again.

mod file;
mod journal;

use crate::clock::Clock;
use crate::config::{Log, QuerySink};
use crate::control::queries::{GATHERING_TIME, Line, Teller};
use crate::stats::{Answered, Counter, Follower, Stats};
use file::Rotating;
use journal::Journal;
use std::io;
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the thread may take to write the last lines when the daemon ends.
const STOP_TIMEOUT: Duration = Duration::from_millis(200);

/// Times in a row that something is taken out of the ring, 1,000 questions of each worker at most: all of the largest ring
/// but what is written over meanwhile.
const MAX_TAKEN: usize = 10_000;

/// The thread at work, if there is one. Dropping it writes what has come until then.
#[derive(Debug)]
pub(super) struct QueryLog {
    stats: Arc<Stats>,
    clock: Clock,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    configured: mpsc::UnboundedSender<Log>,
    ended: std_mpsc::Receiver<()>,
}

impl QueryLog {
    /// Begins to write, when the configuration says so.
    pub(super) fn start(log: &Log, clock: &Clock, stats: &Arc<Stats>) -> Self {
        let mut query_log = Self { stats: Arc::clone(stats), clock: clock.clone(), running: None };
        query_log.reopen(log);
        query_log
    }

    /// Goes on as a configuration says, with the file opened anew: whoever has moved it away gets another one.
    pub(super) fn reopen(&mut self, log: &Log) {
        if log.queries == QuerySink::Off {
            self.stop();
            return;
        }
        let told = |running: &Running| running.configured.send(log.clone()).is_ok();
        if self.running.as_ref().is_some_and(told) {
            return;
        }
        match self.spawn(log.clone()) {
            Ok(running) => self.running = Some(running),
            Err(error) => tracing::warn!(%error, "there is no thread for the query log; questions are not written"),
        }
    }

    fn spawn(&self, log: Log) -> io::Result<Running> {
        let (configured, configurations) = mpsc::unbounded_channel();
        let (ending, ended) = std_mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (clock, stats, follower) = (self.clock.clone(), Arc::clone(&self.stats), self.stats.follow());
        std::thread::Builder::new().name("query-log".to_owned()).spawn(move || {
            let mut writer = Writer { log, sink: None, failed: false, clock, stats };
            writer.open();
            runtime.block_on(writer.run(follower, configurations));
            drop(ending);
        })?;
        Ok(Running { configured, ended })
    }

    fn stop(&mut self) {
        let Some(Running { configured, ended }) = self.running.take() else { return };
        drop(configured);
        // One that hangs on a disk is left to the end of the process.
        let _ended = ended.recv_timeout(STOP_TIMEOUT);
    }
}

impl Drop for QueryLog {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where lines go.
enum Sink {
    File(Rotating),
    Journal(Journal),
}

struct Writer {
    log: Log,
    sink: Option<Sink>,
    /// Writing has failed, and that has been said.
    failed: bool,
    clock: Clock,
    stats: Arc<Stats>,
}

impl Writer {
    /// Writes until nobody configures it any more. No timer runs while nobody asks.
    async fn run(&mut self, mut follower: Follower, mut configurations: mpsc::UnboundedReceiver<Log>) {
        loop {
            tokio::select! {
                biased;
                configured = configurations.recv() => {
                    self.write_news(&mut follower);
                    let Some(log) = configured else { return };
                    self.log = log;
                    self.open();
                }
                () = follower.news() => {
                    tokio::time::sleep(GATHERING_TIME).await;
                    self.write_news(&mut follower);
                }
            }
        }
    }

    fn open(&mut self) {
        // The one before is closed first: it may be the same file.
        self.sink = None;
        let opened = match &self.log.queries {
            QuerySink::Off => return,
            QuerySink::Journal => Journal::open(journal::SOCKET.as_ref()).map(Sink::Journal),
            QuerySink::File(path) => {
                Rotating::open(path, self.log.queries_max_bytes, self.log.queries_files).map(Sink::File)
            }
        };
        match opened {
            Ok(sink) => self.sink = Some(sink),
            Err(error) => self.say_failed(&error),
        }
    }

    /// Writes what there is. In a flood that does not end, it comes back after a while, to be configured.
    fn write_news(&mut self, follower: &mut Follower) {
        for _ in 0..MAX_TAKEN {
            let taken = follower.take();
            if !taken.answered.is_empty() {
                self.write(&taken.answered);
            }
            if !taken.more {
                return;
            }
        }
    }

    fn write(&mut self, answered: &[Answered]) {
        let teller = Teller::new(&self.stats, self.clock.now());
        let lines: Vec<Line> = answered.iter().map(|answered| teller.line(answered)).collect();
        if self.sink.is_none() {
            // It may be there by now: a folder that was mounted late, a journal that was started again.
            self.open();
        }
        let (written, result) = match &mut self.sink {
            Some(Sink::File(file)) => file.write(&lines),
            Some(Sink::Journal(journal)) => journal.write(&lines),
            // It could not be opened, which has been said.
            None => (0, Ok(())),
        };
        let unwritten = u64::try_from(lines.len() - written).unwrap_or(0);
        self.stats.add(Counter::QueryLogUnwritten, unwritten);
        match result {
            Err(error) => {
                if let Some(Sink::Journal(_)) = self.sink {
                    self.sink = None;
                }
                self.say_failed(&error);
            }
            Ok(()) if self.failed && unwritten == 0 => {
                self.failed = false;
                tracing::warn!("the query log is written again");
            }
            Ok(()) => {}
        }
    }

    fn say_failed(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failed, true) {
            let hint =
                "questions go on being answered; those that are not written are counted: query_log_unwritten_total";
            tracing::warn!(%error, hint, "the query log cannot be written");
        }
    }
}
