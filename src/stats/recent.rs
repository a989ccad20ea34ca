//! The last questions answered, of all workers, for whoever looks: those of before, or each as it comes.
//!
//! Nobody who looks holds up a worker: one that is too slow loses the oldest, and is told how many. A worker wakes those who
//! wait once for all that happens until they wait again, and nothing at all when nobody follows.

use super::Counter;
use super::answers::Source;
use super::chunk::Remembered;
use super::noted::Batch;
use super::ring::{Cursor, Ring, Writer};
use crate::clock::Tick;
use crate::dns::{Rcode, Tag, Transport};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Chunks of each worker's ring that a follower takes at once, some 1,000 answers: what it holds of them has a bound, however
/// long it was away and however much is remembered.
const MAX_CHUNKS_TAKEN: usize = 8;
/// How often a reader looks whether a worker that is sending has done so: at once, and then with pauses that add up to a tenth
/// of a second, which is long for a thread whose core was taken away.
const LOOKS_AT_ONCE: u32 = 64;
const LOOKS_WITH_PAUSE: u32 = 1000;
const PAUSE: Duration = Duration::from_micros(100);

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
        let cell = record.noted.cell;
        Self {
            id: (worker, record.number),
            at: record.at,
            took: record.took,
            client: record.noted.client(),
            transport: cell.transport(),
            source: cell.source_word(),
            extended_rcode: cell.extended_rcode(),
            view: cell.view,
            by: cell.by,
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
    /// Says how many answers are about to be sent.
    pub(super) fn announce(&self, answers: usize) {
        self.writer.announce(answers);
    }

    /// Adds answers and lets them be seen.
    pub(super) fn push(&self, batch: Batch<'_>) {
        self.writer.push(batch);
        if self.watch.followers.load(Ordering::SeqCst) > 0 {
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
        if self.entries == 0 {
            return None;
        }
        let ring = Arc::new(Ring::new(self.entries));
        self.rings().push(Arc::clone(&ring));
        Some(Notes { writer: Writer::new(ring), watch: Arc::clone(&self.watch) })
    }

    /// Returns where all rings are, behind every answer that somebody has by now.
    fn here(&self) -> Vec<(Arc<Ring>, Cursor)> {
        let rings = self.rings().clone();
        let here = |ring: Arc<Ring>| {
            let mut looks = 0..LOOKS_AT_ONCE + LOOKS_WITH_PAUSE;
            ring.settle(|| {
                let look = looks.next();
                match look {
                    Some(..LOOKS_AT_ONCE) => std::thread::yield_now(),
                    Some(_) => std::thread::park_timeout(PAUSE),
                    None => {}
                }
                look.is_some()
            });
            let cursor = ring.here();
            (ring, cursor)
        };
        rings.into_iter().map(here).collect()
    }

    /// Returns what is chosen of all there is, as [`Recent::last_before`] does.
    pub(super) fn last<T>(&self, most: usize, choose: impl FnMut(&Answered) -> Option<T>) -> (Vec<T>, bool) {
        self.last_before(&self.here(), most, choose)
    }

    /// Returns what is chosen of that before some cursors: the last `most` of it, the oldest first, and whether there is
    /// more. Copies a chunk at a time, and nothing of what is not looked at.
    fn last_before<T>(
        &self,
        cursors: &[(Arc<Ring>, Cursor)],
        most: usize,
        mut choose: impl FnMut(&Answered) -> Option<T>,
    ) -> (Vec<T>, bool) {
        let mut chosen = Vec::new();
        for (worker, (ring, cursor)) in cursors.iter().enumerate() {
            let (mut left, mut wanted) = (self.entries, most + 1);
            ring.read_back(cursor, |record| {
                let answered = Answered::new(worker, record);
                if let Some(one) = choose(&answered) {
                    chosen.push(((answered.at, answered.id), one));
                    wanted -= 1;
                }
                left -= 1;
                if left == 0 || wanted == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        }
        chosen.sort_by_key(|(place, _)| *place);
        let beyond = chosen.len().saturating_sub(most);
        (chosen.drain(beyond..).map(|(_, one)| one).collect(), beyond > 0)
    }

    fn rings(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Ring>>> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who sees each answer as it comes. While there is one, workers look whether it waits.
#[derive(Debug)]
pub struct Follower {
    stats: Arc<super::Stats>,
    /// One for each worker.
    cursors: Vec<(Arc<Ring>, Cursor)>,
}

/// What has come.
#[derive(Debug)]
pub struct Taken {
    /// The oldest first.
    pub answered: Vec<Answered>,
    /// How many were written over before they were taken.
    pub lost: u64,
    /// There was more than is taken at once.
    pub more: bool,
}

impl Follower {
    pub(super) fn new(stats: Arc<super::Stats>) -> Self {
        stats.recent.watch.followers.fetch_add(1, Ordering::SeqCst);
        let cursors = stats.recent.here();
        Self { stats, cursors }
    }

    /// Returns what is chosen of that which [`Follower::take`] does not show because it came before: the last `most` of it,
    /// the oldest first.
    pub fn before<T>(&self, most: usize, choose: impl FnMut(&Answered) -> Option<T>) -> Vec<T> {
        self.stats.recent.last_before(&self.cursors, most, choose).0
    }

    /// Returns what has come since the last time, or the beginning of it when that is much.
    pub fn take(&mut self) -> Taken {
        let mut taken = Taken { answered: Vec::new(), lost: 0, more: false };
        // Workers that have begun since: all that they have answered is new.
        let begun = self.stats.recent.rings().iter().skip(self.cursors.len()).cloned().collect::<Vec<_>>();
        self.cursors.extend(begun.into_iter().map(|ring| {
            let cursor = ring.oldest();
            (ring, cursor)
        }));
        for (worker, (ring, cursor)) in self.cursors.iter_mut().enumerate() {
            let add = |record: &Remembered<'_>| taken.answered.push(Answered::new(worker, record));
            let progress = ring.read(cursor, MAX_CHUNKS_TAKEN, add);
            taken.lost += progress.lost;
            taken.more |= progress.more;
        }
        taken.answered.sort_by_key(|answered| (answered.at, answered.id));
        self.stats.add(Counter::RecordsLost, taken.lost);
        taken
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
    use crate::dns::{Decided, Origin, Rtype};
    use crate::stats::{Cell, Ledger, Noted, Stats};
    use std::sync::atomic::AtomicU64;

    const CLIENT: &str = "192.0.2.7:5353";

    fn cell() -> Cell {
        Cell::new(Transport::Udp, Some(Rtype::A), Rcode::NOERROR, Origin::Cache)
    }

    /// Answers that are published together.
    #[derive(Default)]
    struct Pen {
        noted: Vec<Noted>,
        octets: Vec<u8>,
    }

    impl Pen {
        fn note(&mut self, n: u64, octets: usize) {
            let start = self.octets.len();
            self.octets.extend_from_slice(&n.to_be_bytes());
            self.octets.resize(start + octets.max(8), u8::try_from(n % 251).unwrap());
            self.noted.push(Noted::new(cell(), CLIENT.parse().unwrap(), octets.max(8)));
        }

        fn close(&mut self, ledger: &Ledger, at: u64) {
            let Self { noted, octets } = std::mem::take(self);
            let (at, took) = (Tick(at), Duration::from_nanos(at));
            ledger.publish(Batch { noted: &noted, octets: &octets, prefix_bytes: 0, upstream: "", at, took, now: at });
        }
    }

    fn number(answered: &Answered) -> u64 {
        u64::from_be_bytes(answered.answer[..8].try_into().unwrap())
    }

    fn all(stats: &Stats) -> Vec<Answered> {
        stats.last(usize::MAX - 1, |answered| Some(answered.clone())).0
    }

    fn take_all(follower: &mut Follower) -> (Vec<Answered>, u64) {
        let (mut all, mut lost) = (Vec::new(), 0);
        loop {
            let mut taken = follower.take();
            assert!(taken.answered.len() <= MAX_CHUNKS_TAKEN * super::super::chunk::CHUNK_RECORDS);
            all.append(&mut taken.answered);
            lost += taken.lost;
            if !taken.more {
                return (all, lost);
            }
        }
    }

    #[test]
    fn whoever_has_an_answer_finds_it_remembered_though_that_is_done_after_it_was_sent() {
        let recent = Recent::new(64);
        let notes = recent.notes().unwrap();
        let (ring, noted) = (Arc::clone(&recent.rings()[0]), [Noted::new(cell(), CLIENT.parse().unwrap(), 8)]);
        let push = || {
            let (at, took, octets) = (Tick(1), Duration::ZERO, &[0; 8]);
            notes.push(Batch { noted: &noted, octets, prefix_bytes: 0, upstream: "", at, took, now: at });
        };
        let mut pauses = 0;
        ring.settle(|| unreachable!("nothing is announced"));
        for _ in 0..3 {
            notes.announce(1);
            // Sent here.
            ring.settle(|| {
                pauses += 1;
                push();
                true
            });
        }
        assert_eq!((pauses, recent.last(9, |_| Some(())).0.len()), (3, 3));
        // A worker that never comes back holds nobody up for ever, and what comes later is found.
        notes.announce(1);
        assert_eq!(recent.last(9, |_| Some(())).0.len(), 3);
        notes.announce(1);
        push();
        ring.settle(|| unreachable!("all is there"));
    }

    #[test]
    fn what_is_written_is_read_with_all_that_is_known_of_it() {
        let stats = Arc::new(Stats::remembering(64));
        let ledger = stats.ledger();
        let (v4, v6) = (CLIENT.parse().unwrap(), "[2001:db8::7]:53".parse().unwrap());
        let tag = |n| Tag::new(n).unwrap();
        let decided = Decided { origin: Origin::Upstream, view: tag(3), by: tag(1023) };
        let cell = Cell::new(Transport::Tcp, Some(Rtype::A), Rcode::BADVERS, Origin::Upstream).of(decided);
        let octets = |count: usize| -> Vec<u8> { (0..count).map(|n| u8::try_from(n % 256).unwrap()).collect() };
        let client = |at| if at % 2 == 0 { v4 } else { v6 };
        let (at, took) = (Tick(1 << 40), Duration::from_nanos(12_345));
        let lengths = [0, 12, 13, 511, 512, 513, 4000, 65_535, 20];
        // One by one with a label, together, and together in frames.
        for (n, bytes) in lengths.into_iter().enumerate() {
            let (noted, octets) = (&[Noted::new(cell, client(n), bytes)], octets(bytes));
            let upstream = &"corp/10.0.0.53"[..n];
            ledger.publish(Batch { noted, octets: &octets, prefix_bytes: 0, upstream, at, took, now: at });
        }
        for (prefix_bytes, lengths) in [(0, &lengths[..]), (2, &lengths), (0, &[12, 512, 0]), (2, &[12, 512, 0])] {
            let bytes = |own| own + usize::from(prefix_bytes);
            let each = lengths.iter().enumerate();
            let noted: Vec<Noted> = each.map(|(n, own)| Noted::new(cell, client(n), bytes(*own))).collect();
            let framed = |own: &usize| [vec![0xff; usize::from(prefix_bytes)], octets(*own)].concat();
            let octets: Vec<u8> = lengths.iter().flat_map(framed).collect();
            ledger.publish(Batch { noted: &noted, octets: &octets, prefix_bytes, upstream: "", at, took, now: at });
        }
        let expected = [&lengths[..], &lengths, &lengths, &[12, 512, 0], &[12, 512, 0]].map(<[usize]>::iter);
        let expected: Vec<_> = expected.into_iter().flat_map(Iterator::enumerate).collect();
        let all = all(&stats);
        assert_eq!(all.len(), expected.len());
        for (id, ((n, bytes), answered)) in expected.into_iter().zip(&all).enumerate() {
            assert_eq!(answered.answer, octets((*bytes).min(512)), "{id}");
            assert_eq!(answered.client, client(n), "{id}");
            let upstream = (id < lengths.len() && n > 0).then(|| &"corp/10.0.0.53"[..n]);
            assert_eq!(answered.upstream.as_deref(), upstream);
            assert_eq!((answered.view, answered.by, answered.at), (tag(3), tag(1023), at));
            assert_eq!((answered.transport, answered.source), (Transport::Tcp, Source::Forward));
            assert_eq!(answered.extended_rcode, Some(Rcode::BADVERS));
            assert_eq!((answered.took, answered.id), (took, (0, id as u64)));
        }
    }

    #[test]
    fn only_the_last_ones_are_kept_and_a_follower_is_told_of_the_others() {
        let stats = Arc::new(Stats::remembering(100));
        let ledger = stats.ledger();
        let mut follower = stats.follow();
        let mut pen = Pen::default();
        for n in 0..10_000 {
            pen.note(n, 60 + usize::try_from(n % 90).unwrap());
            if n % 7 == 0 {
                pen.close(&ledger, n);
            }
        }
        pen.close(&ledger, 9_999);
        assert_eq!(all(&stats).iter().map(number).collect::<Vec<_>>(), (9_900..10_000).collect::<Vec<_>>());
        let (last, more) = stats.last(3, |answered| Some(number(answered)).filter(|n| n % 10 == 0));
        assert_eq!((last, more), (vec![9_970, 9_980, 9_990], true));
        let (last, more) = stats.last(3, |answered| Some(number(answered)).filter(|n| n % 40 == 0));
        assert_eq!((last, more), (vec![9_920, 9_960], false));
        let (seen, lost) = take_all(&mut follower);
        assert_eq!(number(&seen[0]), lost, "each is either seen or lost");
        assert_eq!(lost + seen.len() as u64, 10_000);
        assert!(lost > 5_000, "{lost}");
        assert!(seen.windows(2).all(|pair| pair[1].id.1 == pair[0].id.1 + 1 && number(&pair[1]) == pair[1].id.1));
        assert_eq!(take_all(&mut follower).1, 0);
    }

    #[test]
    fn a_follower_takes_eight_parts_of_each_worker_at_once_and_is_told_that_there_is_more() {
        let stats = Arc::new(Stats::remembering(10_000));
        let ledgers = [stats.ledger(), stats.ledger()];
        let mut follower = stats.follow();
        // Of one worker all that is taken at once, of the other one more.
        const MOST: u64 = (MAX_CHUNKS_TAKEN * super::super::chunk::CHUNK_RECORDS) as u64;
        for (ledger, count) in ledgers.iter().zip([MOST, MOST + 1]) {
            let mut pen = Pen::default();
            for n in 0..count {
                pen.note(n, 60);
                pen.close(ledger, n);
            }
        }
        let numbers_of = |taken: &Taken, worker| -> Vec<u64> {
            taken.answered.iter().filter(|answered| answered.id.0 == worker).map(number).collect()
        };
        let first = follower.take();
        assert_eq!((first.answered.len() as u64, first.lost, first.more), (2 * MOST, 0, true));
        assert!([0, 1].into_iter().all(|worker| numbers_of(&first, worker).into_iter().eq(0..MOST)));
        let second = follower.take();
        assert_eq!(
            (numbers_of(&second, 1), second.answered.len(), second.lost, second.more),
            (vec![MOST], 1, 0, false)
        );
    }

    #[test]
    fn what_was_before_a_follower_ends_where_it_begins() {
        let stats = Arc::new(Stats::remembering(1000));
        let ledger = stats.ledger();
        let mut pen = Pen::default();
        let mut answer = |range: std::ops::Range<u64>| {
            for n in range {
                pen.note(n, 60);
                pen.close(&ledger, n);
            }
        };
        answer(0..300);
        let mut follower = stats.follow();
        answer(300..400);
        assert_eq!(follower.before(4, |answered| Some(number(answered))), [296, 297, 298, 299]);
        assert_eq!(take_all(&mut follower).0.iter().map(number).collect::<Vec<_>>(), (300..400).collect::<Vec<_>>());
    }

    #[test]
    fn a_worker_goes_on_while_all_it_remembers_is_being_read_and_what_is_lost_is_counted() {
        let stats = Arc::new(Stats::remembering(50));
        let ledger = stats.ledger();
        let mut follower = stats.follow();
        let mut pen = Pen::default();
        pen.note(0, 60);
        pen.close(&ledger, 0);
        let ring = Arc::clone(&stats.recent.rings()[0]);
        let held = ring.hold();
        for n in 1..4 {
            pen.note(n, 60);
            pen.close(&ledger, n);
        }
        drop(held);
        assert!(ring.has_news(&follower.cursors[0].1));
        let (seen, lost) = take_all(&mut follower);
        assert_eq!((seen.iter().map(number).collect::<Vec<_>>(), lost), (vec![0], 3));
        assert!(!ring.has_news(&follower.cursors[0].1), "nobody waits for what is lost");
        // One of them is read: the next one is taken.
        let held = ring.hold_current();
        pen.note(4, 60);
        pen.close(&ledger, 4);
        drop(held);
        let (seen, lost) = take_all(&mut follower);
        assert_eq!((seen.iter().map(number).collect::<Vec<_>>(), lost), (vec![4], 0));
        assert_eq!(all(&stats).iter().map(number).collect::<Vec<_>>(), [0, 4]);
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
                        let (records, missed) = take_all(&mut follower);
                        lost += missed;
                        for record in &records {
                            let n = number(record);
                            assert_eq!((record.id.1, record.at), (n, Tick(n - n % 5 + 4)));
                            assert!(record.answer[8..].iter().all(|octet| u64::from(*octet) == n % 251));
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
            let mut pen = Pen::default();
            for n in 0..RECORDS {
                pen.note(n, 40 + usize::try_from(n % 400).unwrap());
                if n % 5 == 4 {
                    pen.close(&ledger, n);
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
                let mut pen = Pen::default();
                pen.note(round, 60);
                pen.close(ledger, clock.now().0);
            };
            tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(follower.news(), writes) })
                .await
                .expect("it is woken");
            assert_eq!(take_all(&mut follower).0.len(), 1);
        }
    }

    #[test]
    fn who_remembers_nothing_has_no_notes() {
        let stats = Arc::new(Stats::default());
        let ledger = stats.ledger();
        let mut pen = Pen::default();
        pen.note(1, 60);
        pen.close(&ledger, 1);
        assert!(all(&stats).is_empty());
    }
}
