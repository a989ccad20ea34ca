//! The last questions answered, of all workers, for whoever looks: those of before, or each as it comes.
//!
//! Nobody who looks holds up a worker: one that is too slow loses the oldest, and is told how many. A worker wakes those who
//! wait once for all that happens until they wait again, and nothing at all when nobody follows.

use super::Counter;
use super::answers::{Cell, Source};
use super::ring::{Cursor, Remembered, Ring, USUAL_RECORD_BYTES, Writer};
use crate::clock::Tick;
use crate::dns::{Decided, Rcode, Tag, Transport};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// One question and its answer, as they are remembered.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Which worker answered, and its how-manieth answer this was.
    pub id: (usize, u64),
    /// When the question was read.
    pub at: Tick,
    /// From being read to being ready to be sent; of a batch of datagrams, that of all.
    pub took: Duration,
    /// Who asked.
    pub client: SocketAddr,
    /// How.
    pub transport: Transport,
    /// Where the answer came from.
    pub source: Source,
    /// The response code, when it is one that a message's head cannot hold.
    pub extended_rcode: Option<Rcode>,
    /// The client's view.
    pub view: Tag,
    /// The zone or the route that the name belongs to.
    pub by: Tag,
    /// The upstream whose reply was used, `GROUP/NAME`; for answers that were worked out only.
    pub upstream: Option<String>,
    /// The beginning of the answer as it was sent.
    pub answer: Vec<u8>,
}

impl Answered {
    fn new(worker: usize, record: &Remembered<'_>) -> Self {
        let upstream = (!record.upstream.is_empty()).then(|| String::from_utf8_lossy(record.upstream).into_owned());
        Self {
            id: (worker, record.number),
            at: record.at,
            took: record.took,
            client: record.client,
            transport: record.cell.transport(),
            source: record.cell.source_word(),
            extended_rcode: record.cell.extended_rcode(),
            view: record.view,
            by: record.by,
            upstream,
            answer: record.answer.to_vec(),
        }
    }
}

/// Who wants to be woken.
#[derive(Debug, Default)]
pub(super) struct Watch {
    followers: AtomicUsize,
    waiting: AtomicBool,
    news: Notify,
}

impl Watch {
    /// Wakes those who wait.
    #[cold]
    fn wake(&self) {
        // Whoever has begun to wait before this sees what was published, or is seen here.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) && self.waiting.swap(false, Ordering::Relaxed) {
            self.news.notify_waiters();
        }
    }
}

/// Where a worker notes its answers.
#[derive(Debug)]
pub(super) struct Notes {
    writer: Writer,
    watch: Arc<Watch>,
}

impl Notes {
    /// Adds one, to be seen after [`Notes::publish`].
    pub(super) fn push(
        &self,
        cell: Cell,
        decided: Decided,
        client: SocketAddr,
        now: Tick,
        answer: &[u8],
        upstream: &[u8],
    ) {
        self.writer.push(cell, decided, client, now, answer, upstream);
    }

    /// Lets those since the last time be seen.
    pub(super) fn publish(&self, took: Duration) {
        self.writer.publish(took);
        if self.watch.followers.load(Ordering::Relaxed) > 0 {
            self.watch.wake();
        }
    }
}

/// What all workers remember.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Of each worker; 0 for nothing.
    entries: usize,
    rings: Mutex<Vec<Arc<Ring>>>,
    watch: Arc<Watch>,
}

impl Recent {
    /// Plans for so many records of each worker.
    pub(super) fn new(entries: usize) -> Self {
        Self { entries, ..Self::default() }
    }

    /// Begins the notes of one more worker.
    pub(super) fn notes(&self) -> Option<Notes> {
        let bytes = self.entries.checked_mul(USUAL_RECORD_BYTES).filter(|bytes| *bytes > 0)?;
        let ring = Arc::new(Ring::new(bytes));
        self.rings().push(Arc::clone(&ring));
        Some(Notes { writer: Writer::new(ring), watch: Arc::clone(&self.watch) })
    }

    /// Returns what is remembered, the oldest first.
    pub(super) fn all(&self) -> Vec<Answered> {
        let mut all = Vec::new();
        for (worker, ring) in self.rings().iter().enumerate() {
            let first = all.len();
            ring.read(&mut ring.oldest(), |record| all.push(Answered::new(worker, record)));
            let beyond = (all.len() - first).saturating_sub(self.entries);
            all.drain(first..first + beyond);
        }
        in_order(&mut all);
        all
    }

    fn rings(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Ring>>> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_order(all: &mut [Answered]) {
    all.sort_by_key(|answered| (answered.at, answered.id));
}

/// Somebody who sees each answer as it comes. While there is one, workers look whether it waits.
#[derive(Debug)]
pub struct Follower {
    stats: Arc<super::Stats>,
    /// One for each worker.
    cursors: Vec<(Arc<Ring>, Cursor)>,
}

impl Follower {
    pub(super) fn new(stats: Arc<super::Stats>) -> Self {
        stats.recent.watch.followers.fetch_add(1, Ordering::SeqCst);
        let cursors = stats.recent.rings().iter().map(|ring| (Arc::clone(ring), ring.here())).collect();
        Self { stats, cursors }
    }

    /// Returns what is remembered of before, the oldest first; what is taken afterwards goes on from there.
    pub fn before(&mut self) -> Vec<Answered> {
        for (ring, cursor) in &mut self.cursors {
            *cursor = ring.oldest();
        }
        self.take().0
    }

    /// Returns what has come since the last time, the oldest first, and how many were lost because that was too long ago.
    pub fn take(&mut self) -> (Vec<Answered>, u64) {
        let (mut all, mut lost) = (Vec::new(), 0);
        // Workers that have begun since: all that they have answered is new.
        let begun = self.stats.recent.rings().iter().skip(self.cursors.len()).cloned().collect::<Vec<_>>();
        self.cursors.extend(begun.into_iter().map(|ring| {
            let cursor = ring.oldest();
            (ring, cursor)
        }));
        for (worker, (ring, cursor)) in self.cursors.iter_mut().enumerate() {
            lost += ring.read(cursor, |record| all.push(Answered::new(worker, record)));
        }
        in_order(&mut all);
        self.stats.add(Counter::RecordsLost, lost);
        (all, lost)
    }

    /// Waits until there is something to take. No timer runs meanwhile. Cancel safe.
    pub async fn news(&self) {
        let watch = &self.stats.recent.watch;
        loop {
            let mut woken = pin!(watch.news.notified());
            woken.as_mut().enable();
            watch.waiting.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            let others_begun = self.stats.recent.rings().iter().skip(self.cursors.len()).any(|ring| ring.is_written());
            if others_begun || self.cursors.iter().any(|(ring, cursor)| ring.has_news(cursor)) {
                return;
            }
            woken.await;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stats.recent.watch.followers.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::dns::{Origin, Rtype};
    use crate::stats::{Ledger, Stats};
    use std::sync::atomic::AtomicU64;

    const CLIENT: &str = "192.0.2.7:5353";

    fn note(ledger: &Ledger, n: u64, octets: usize) {
        let cell = Cell::new(Transport::Udp, Some(Rtype::A), Rcode::NOERROR, Origin::Cache);
        let mut answer = vec![0; octets.max(8)];
        answer[..8].copy_from_slice(&n.to_be_bytes());
        let last = answer.len() - 1;
        answer[last] = u8::try_from(n % 251).unwrap();
        ledger.note(cell, Origin::Cache.into(), CLIENT.parse().unwrap(), Tick(n), &answer, b"");
    }

    fn number(answered: &Answered) -> u64 {
        u64::from_be_bytes(answered.answer[..8].try_into().unwrap())
    }

    fn close(ledger: &Ledger, took: u64) {
        let cell = Cell::new(Transport::Udp, Some(Rtype::A), Rcode::NOERROR, Origin::Cache);
        ledger.publish(&[cell], Duration::from_nanos(took), Tick(0));
    }

    #[test]
    fn what_is_written_is_read_with_all_that_is_known_of_it() {
        let stats = Arc::new(Stats::remembering(64));
        let ledger = stats.ledger();
        let (v4, v6) = (CLIENT.parse().unwrap(), "[2001:db8::7]:53".parse().unwrap());
        let tag = |n| Tag::new(n).unwrap();
        let decided = Decided { origin: Origin::Upstream, view: tag(3), by: tag(1023) };
        let cell = Cell::new(Transport::Tcp, Some(Rtype::A), Rcode::BADVERS, Origin::Upstream);
        // Every length of the last word.
        let lengths = [12, 13, 19, 20, 63, 511, 512, 513, 4000];
        for (at, octets) in lengths.into_iter().enumerate() {
            let answer: Vec<u8> = (0..octets).map(|n| u8::try_from(n % 256).unwrap()).collect();
            let client = if at % 2 == 0 { v4 } else { v6 };
            ledger.note(cell, decided, client, Tick(1 << 40), &answer, b"corp/10.0.0.53"[..at].into());
        }
        assert!(stats.recent().is_empty(), "nothing is seen before it is published");
        close(&ledger, 12_345);
        let all = stats.recent();
        for ((at, octets), answered) in lengths.into_iter().enumerate().zip(&all) {
            let expected: Vec<u8> = (0..octets.min(512)).map(|n| u8::try_from(n % 256).unwrap()).collect();
            assert_eq!(answered.answer, expected);
            assert_eq!(answered.client, if at % 2 == 0 { v4 } else { v6 });
            assert_eq!(answered.upstream.as_deref(), Some(&"corp/10.0.0.53"[..at]).filter(|label| !label.is_empty()));
            assert_eq!((answered.view, answered.by, answered.at), (tag(3), tag(1023), Tick(1 << 40)));
            assert_eq!((answered.transport, answered.source), (Transport::Tcp, Source::Forward));
            assert_eq!(answered.extended_rcode, Some(Rcode::BADVERS));
            assert_eq!((answered.took, answered.id), (Duration::from_nanos(12_345), (0, at as u64)));
        }
        assert_eq!(all.len(), lengths.len());
    }

    #[test]
    fn only_the_last_ones_are_kept_and_a_follower_is_told_of_the_others() {
        let stats = Arc::new(Stats::remembering(100));
        let ledger = stats.ledger();
        let mut follower = stats.follow();
        for n in 0..10_000 {
            note(&ledger, n, 60 + usize::try_from(n % 90).unwrap());
            if n % 7 == 0 {
                close(&ledger, n);
            }
        }
        close(&ledger, 1);
        let all: Vec<u64> = stats.recent().iter().map(number).collect();
        assert_eq!(all, (9_900..10_000).collect::<Vec<_>>());
        let (seen, lost) = follower.take();
        assert_eq!(number(&seen[0]), lost, "each is either seen or lost");
        assert_eq!(lost + seen.len() as u64, 10_000);
        assert!(lost > 5_000, "{lost}");
        assert!(seen.windows(2).all(|pair| pair[1].id.1 == pair[0].id.1 + 1 && number(&pair[1]) == pair[1].id.1));
        assert_eq!(follower.take().1, 0);
    }

    #[test]
    fn readers_of_a_busy_ring_see_whole_records_and_count_the_others() {
        let stats = Arc::new(Stats::remembering(50));
        let ledger = stats.ledger();
        let done = AtomicBool::new(false);
        let seen_by_all = AtomicU64::new(0);
        const RECORDS: u64 = 300_000;
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let mut follower = stats.follow();
                let (done, seen_by_all) = (&done, &seen_by_all);
                scope.spawn(move || {
                    let (mut seen, mut lost, mut last) = (0, 0, None);
                    loop {
                        let ended = done.load(Ordering::Acquire);
                        let (records, missed) = follower.take();
                        lost += missed;
                        for record in &records {
                            let n = number(record);
                            assert_eq!((record.id.1, record.at), (n, Tick(n)));
                            assert_eq!(u64::from(*record.answer.last().unwrap()), n % 251);
                            assert!(last.is_none_or(|last| last < n), "{last:?} {n}");
                            last = Some(n);
                        }
                        seen += records.len() as u64;
                        if ended {
                            break;
                        }
                    }
                    assert_eq!(seen + lost, RECORDS);
                    seen_by_all.fetch_add(seen, Ordering::Relaxed);
                });
            }
            for n in 0..RECORDS {
                note(&ledger, n, 40 + usize::try_from(n % 400).unwrap());
                if n % 5 == 4 {
                    close(&ledger, n);
                }
            }
            done.store(true, Ordering::Release);
        });
        assert!(seen_by_all.into_inner() > 0);
    }

    #[tokio::test]
    async fn a_follower_sleeps_until_something_comes() {
        let stats = Arc::new(Stats::remembering(50));
        let (first, second) = (stats.ledger(), stats.ledger());
        let mut follower = stats.follow();
        let clock = Clock::default();
        for round in 0..50 {
            let ledger = if round % 2 == 0 { &first } else { &second };
            let writes = async {
                tokio::task::yield_now().await;
                note(ledger, clock.now().0, 60);
                close(ledger, 1);
            };
            tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(follower.news(), writes) })
                .await
                .expect("it is woken");
            assert_eq!(follower.take().0.len(), 1);
        }
    }

    #[test]
    fn who_remembers_nothing_has_no_notes() {
        let stats = Arc::new(Stats::default());
        let ledger = stats.ledger();
        note(&ledger, 1, 60);
        close(&ledger, 1);
        assert!(stats.recent().is_empty());
    }
}
