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
        let told = |running: &Running| running.configured.send(log.clone()).is_ok();
        let is_told = self.running.as_ref().is_some_and(told);
        if log.queries == QuerySink::Off {
            self.stop();
            return;
        }
        if is_told {
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
                    let Some(log) = configured else {
                        // The daemon ends: nothing comes any more, and what has come is written.
                        self.write_news(&mut follower, || false);
                        return;
                    };
                    // What has come until then belongs where it was to go; of a flood only its beginning does.
                    self.write_some(&mut follower);
                    if log.queries == QuerySink::Off {
                        return;
                    }
                    self.log = log;
                    self.open();
                }
                () = follower.news() => {
                    tokio::time::sleep(GATHERING_TIME).await;
                    self.write_news(&mut follower, || !configurations.is_empty() || configurations.is_closed());
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

    /// Writes what there is, until there is something else to do: in a flood there is always more. At the end of the daemon
    /// nothing comes any more, so that what is remembered is the bound.
    fn write_news(&mut self, follower: &mut Follower, interrupted: impl Fn() -> bool) {
        while !interrupted() && self.write_some(follower) {}
    }

    /// Writes what is taken at once, and tells whether there is more.
    fn write_some(&mut self, follower: &mut Follower) -> bool {
        let taken = follower.take();
        if !taken.answered.is_empty() {
            self.write(&taken.answered);
        }
        taken.more
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Tick;
    use crate::config::Config;
    use crate::dns::{Origin, Rcode, Rtype, Transport};
    use crate::stats::{Batch, Cell, Noted};
    use std::path::Path;

    /// More than is taken at once.
    const ANSWERS: usize = 50_000;

    fn lines(path: &Path) -> usize {
        std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
    }

    /// Has a flood be there, tells the writer something, and lets it run to its end.
    fn run(path: &Path, tell: impl FnOnce(mpsc::UnboundedSender<Log>, &Log)) {
        let stats = Arc::new(Stats::remembering(2 * ANSWERS));
        let ledger = stats.ledger();
        let follower = stats.follow();
        let cell = Cell::new(Transport::Udp, Some(Rtype::A), Rcode::NOERROR, Origin::Cache);
        let octets = [0; 12];
        let (at, took) = (Tick(0), Duration::ZERO);
        for _ in 0..ANSWERS {
            let noted = &[Noted::new(cell, ([192, 0, 2, 7], 5353).into(), octets.len())];
            ledger.publish(Batch { noted, octets: &octets, prefix_bytes: 0, upstream: "", at, took, now: at });
        }
        let log = Log { queries: QuerySink::File(path.to_owned()), ..Config::default().log };
        let (configured, configurations) = mpsc::unbounded_channel();
        tell(configured, &log);
        let mut writer = Writer { log, sink: None, failed: false, clock: Clock::default(), stats };
        writer.open();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(writer.run(follower, configurations));
    }

    #[test]
    fn in_a_flood_one_take_goes_where_lines_went_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        // The daemon ends: nothing is lost.
        run(&path("ended"), |configured, _| drop(configured));
        assert_eq!(lines(&path("ended")), ANSWERS);
        run(&path("off"), |configured, log| configured.send(Log { queries: QuerySink::Off, ..log.clone() }).unwrap());
        let off = lines(&path("off"));
        assert!(off > 0 && off < ANSWERS / 4, "{off}");
        run(&path("before"), |configured, log| {
            configured.send(Log { queries: QuerySink::File(path("after")), ..log.clone() }).unwrap();
        });
        let (before, after) = (lines(&path("before")), lines(&path("after")));
        assert!(before == off && before + after == ANSWERS, "{before} and {after}");
    }

    #[test]
    fn what_comes_meanwhile_is_looked_at_between_takes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let stats = Arc::new(Stats::remembering(64));
        let mut follower = stats.follow();
        let log = Log { queries: QuerySink::File(path), ..Config::default().log };
        let mut writer = Writer { log, sink: None, failed: false, clock: Clock::default(), stats: Arc::clone(&stats) };
        let looked = std::cell::Cell::new(0);
        writer.write_news(&mut follower, || {
            looked.set(looked.get() + 1);
            true
        });
        assert_eq!(looked.get(), 1);
    }
}
