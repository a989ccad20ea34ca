//! The cache on disk: read when the daemon starts, written when it ends and, while there is something new, now and then.
//!
//! ```text
//!  start ─▶ thread "snapshot": check the whole file ─▶ take its entries over, answers going on meanwhile
//!             └ not whole, not ours, too large: put aside as cache.snapshot.bad, said once, counted
//!  first change since the last writing ─▶ a pause ─▶ thread "snapshot": write beside, fsync, rename
//!  SIGTERM ─▶ the same, while questions in flight are answered
//! ```
//!
//! No timer runs while nothing changes. Nothing here is fatal: without a snapshot the cache begins empty, as it does
//! without `[cache] persist`. The file holds names that people looked up, so only its owner can read it. One daemon works
//! in a folder at a time (`cache.lock`); the next one leaves what is there alone, and keeps nothing.

use super::state_dir::{remove, replace, state_dir};
use super::writing::{LAST_WRITING_TIMEOUT, Writing};
use crate::clock;
use crate::config;
use crate::pipeline::Pipeline;
use crate::pipeline::cache::Cache;
use crate::pipeline::cache::persist::{self, Fault, Moment, Restored};
use crate::stats::{Counter, Stats};
use crate::system::lock::{self, Claim, Lock};
use std::fs::{self, DirBuilder, File};
use std::future::pending;
use std::io::{self, BufReader, Seek};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use tokio::sync::Notify;
use tokio::time::timeout;

/// The file in the state directory.
const FILE: &str = "cache.snapshot";
/// What it is while it is being written.
const FILE_NEXT: &str = "cache.snapshot.next";
/// What one is put aside as that cannot be used; the one before goes.
const FILE_BAD: &str = "cache.snapshot.bad";
/// Held by the daemon that these files belong to.
const FILE_LOCK: &str = "cache.lock";
/// How many times the cache's own bound a file may be long: entries take less there than in memory, but the bound may
/// have been lowered since.
const MAX_FILE_SHARE: u64 = 2;
/// Octets a file may have in any case.
const MIN_FILE_BOUND: u64 = 1 << 20;
/// Octets moved between us and the file at once.
const BUFFER_BYTES: usize = 128 << 10;

/// When the cache is read and written.
pub(super) struct Snapshot {
    /// Where; `None` when there is no place for it.
    folder: Option<PathBuf>,
    pipeline: Arc<Pipeline>,
    /// What the cache of the last look was, to notice when a reload has made another.
    cache: Arc<Cache>,
    enabled: bool,
    /// That the folder is ours; `None` where it is not, or where there are no locks.
    lock: Option<Arc<Lock>>,
    /// It has been said that the folder is another daemon's.
    told: bool,
    writing: Writing,
}

impl Snapshot {
    /// Begins to read what the last daemon left.
    pub(super) fn start(pipeline: &Arc<Pipeline>) -> Self {
        Self::start_in(state_dir(), pipeline)
    }

    fn start_in(folder: Option<PathBuf>, pipeline: &Arc<Pipeline>) -> Self {
        let state = pipeline.state();
        let mut snapshot = Self {
            folder,
            pipeline: Arc::clone(pipeline),
            cache: Arc::clone(&state.cache),
            enabled: false,
            lock: None,
            told: false,
            writing: Writing::new(Arc::new(Notify::new())),
        };
        snapshot.apply(&state.config.cache);
        snapshot.listen();
        if snapshot.enabled {
            snapshot.read(state.config.cache);
        }
        snapshot
    }

    /// Takes a reload into account: `persist` may have changed, and the cache may be another.
    pub(super) fn follow(&mut self) {
        let state = self.pipeline.state();
        self.apply(&state.config.cache);
        if !Arc::ptr_eq(&self.cache, &state.cache) {
            self.cache = Arc::clone(&state.cache);
            self.listen();
        }
    }

    fn apply(&mut self, policy: &config::Cache) {
        self.enabled = policy.persist && policy.max_entries > 0 && self.is_ours();
        if let Some(folder) = self.folder.clone().filter(|_| !policy.persist) {
            // Whoever turns it off does not want the names to lie there, unless they are another daemon's.
            if is_something_in(&folder) && self.claim(&folder).is_ok() {
                forget(&folder);
            }
            self.lock = None;
        }
    }

    /// Tells whether there is a folder that no other daemon works in, and says so when there is not.
    fn is_ours(&mut self) -> bool {
        let Some(folder) = self.folder.clone() else { return false };
        let Err(pid) = self.claim(&folder) else {
            self.told = false;
            return true;
        };
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(
                folder = %folder.display(), pid,
                hint = "set another STATE_DIRECTORY or persist = false for one of them; SIGHUP tries again",
                "another truename keeps its cache in this folder; this one's cache is not kept across restarts"
            );
        }
        false
    }

    /// Claims the folder; an error is another daemon that has it, by its process id if that is known. Where nothing can be
    /// locked there is nobody to make room for, or writing will say what is wrong.
    fn claim(&mut self, folder: &Path) -> Result<(), Option<u32>> {
        if self.lock.is_some() {
            return Ok(());
        }
        let claimed = create(folder).and_then(|()| lock::claim(&folder.join(FILE_LOCK)));
        match claimed {
            Ok(Claim::Ours(lock)) => self.lock = Some(Arc::new(lock)),
            Ok(Claim::Taken(by)) => return Err(by),
            Err(error) => tracing::debug!(folder = %folder.display(), %error, "the cache's folder cannot be locked"),
        }
        Ok(())
    }

    fn listen(&self) {
        let changed = self.writing.changed();
        self.cache.on_change(move || changed.notify_one());
    }

    /// Waits until it is time to write. Cancel safe.
    pub(super) async fn due(&mut self) {
        if !self.enabled {
            return pending().await;
        }
        self.writing.due().await;
    }

    /// Begins to write.
    pub(super) fn write(&mut self) {
        self.writing.take_due();
        let Some(folder) = self.folder.clone().filter(|_| self.enabled) else { return };
        if !self.is_ours() {
            self.enabled = false;
            return;
        }
        if !self.cache.take_changes() {
            return;
        }
        self.writing.lengthen();
        let (pipeline, cache) = (Arc::clone(&self.pipeline), Arc::clone(&self.cache));
        self.spawn(move || write_and_tell(&folder, &cache, &pipeline));
    }

    /// Writes for the last time; to be awaited beside the drain. What is still being read is read first: a snapshot of half of it
    /// must not take its place.
    pub(super) async fn finish(mut self) {
        let writing = async {
            self.writing.ended().await;
            self.write();
            self.writing.ended().await;
        };
        if timeout(LAST_WRITING_TIMEOUT, writing).await.is_err() {
            tracing::warn!("the cache could not be written in time; the snapshot before stays");
        }
    }

    fn read(&mut self, policy: config::Cache) {
        let Some(folder) = self.folder.clone() else { return };
        let (pipeline, cache) = (Arc::clone(&self.pipeline), Arc::clone(&self.cache));
        self.spawn(move || read_and_tell(&folder, &cache, &policy, &pipeline));
    }

    /// Has a thread do something, which keeps the folder ours.
    fn spawn(&mut self, work: impl FnOnce() + Send + 'static) {
        let lock = self.lock.clone();
        let started = self.writing.spawn("snapshot", move || {
            let _lock = lock;
            work();
        });
        if let Err(error) = started {
            tracing::warn!(%error, "no thread for the cache's snapshot");
        }
    }
}

fn now(pipeline: &Pipeline) -> Moment {
    let since = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment { tick: pipeline.now(), unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX) }
}

/// Why a file is put aside.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("it has {found} octets; with [cache] max_bytes as it is, at most {most} are read")]
    TooLarge { found: u64, most: u64 },
    #[error("it is no file")]
    NoFile,
    #[error("it cannot be opened: {0}")]
    Closed(#[source] io::Error),
}

impl Refusal {
    /// Tells whether the file itself is bad, rather than the way to it.
    fn is_about_the_file(&self) -> bool {
        !matches!(self, Self::Closed(_) | Self::Fault(Fault::Unreadable(_)))
    }
}

fn read_and_tell(folder: &Path, cache: &Cache, policy: &config::Cache, pipeline: &Pipeline) {
    let (path, stats) = (folder.join(FILE), pipeline.stats());
    let started = pipeline.now();
    match read_file(&path, cache, policy, pipeline) {
        Ok(None) => {}
        Ok(Some(restored)) => {
            stats.add(Counter::SnapshotRestored, restored.taken);
            let elapsed_ms = pipeline.now().since(started).as_millis();
            let (entries, left) = (restored.taken, restored.left);
            tracing::info!(entries, left, elapsed_ms, "cache restored from its snapshot");
        }
        Err(refusal) if refusal.is_about_the_file() => {
            stats.count(Counter::SnapshotsBad);
            let aside = folder.join(FILE_BAD);
            let reason = refusal.to_string();
            match fs::rename(&path, &aside) {
                Ok(()) => tracing::warn!(
                    file = %path.display(), reason, put_aside_as = %aside.display(),
                    "the cache's snapshot is not used; the cache begins empty"
                ),
                Err(error) => tracing::warn!(
                    file = %path.display(), reason, %error,
                    "the cache's snapshot is not used and cannot be put aside; the next one takes its place"
                ),
            }
        }
        Err(refusal) => {
            let reason = refusal.to_string();
            tracing::warn!(file = %path.display(), reason, "the cache's snapshot is not used; the cache begins empty");
        }
    }
}

/// Reads a file twice: the first time to see that it is whole.
fn read_file(
    path: &Path,
    cache: &Cache,
    policy: &config::Cache,
    pipeline: &Pipeline,
) -> Result<Option<Restored>, Refusal> {
    // Looked at before it is opened: opening a pipe would wait for somebody to write into it.
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Refusal::Closed(error)),
    };
    if !found.is_file() {
        return Err(Refusal::NoFile);
    }
    let most = policy.max_bytes.saturating_mul(MAX_FILE_SHARE).max(MIN_FILE_BOUND);
    if found.len() > most {
        return Err(Refusal::TooLarge { found: found.len(), most });
    }
    let mut file = File::open(path).map_err(Refusal::Closed)?;
    persist::check(BufReader::with_capacity(BUFFER_BYTES, &file))?;
    file.rewind().map_err(Fault::Unreadable)?;
    let reader = BufReader::with_capacity(BUFFER_BYTES, &file);
    Ok(Some(persist::restore(cache, policy, reader, || now(pipeline))?))
}

fn write_and_tell(folder: &Path, cache: &Cache, pipeline: &Pipeline) {
    let stats: &Stats = pipeline.stats();
    let started = pipeline.now();
    match write_file(folder, cache, now(pipeline)) {
        Ok(entries) => {
            stats.count(Counter::SnapshotsWritten);
            let elapsed_ms = pipeline.now().since(started).as_millis();
            tracing::debug!(entries, elapsed_ms, "cache written to its snapshot");
        }
        Err(error) => {
            stats.count(Counter::SnapshotsFailed);
            let file = folder.join(FILE);
            tracing::warn!(
                file = %file.display(), %error,
                "the cache's snapshot could not be written; the one before stays, it is tried again later"
            );
            cache.note_change();
        }
    }
}

fn write_file(folder: &Path, cache: &Cache, now: Moment) -> io::Result<u32> {
    replace(folder, FILE, |file| persist::write(cache, now, file))
}

fn create(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Tells whether there is any snapshot.
fn is_something_in(folder: &Path) -> bool {
    [FILE, FILE_NEXT, FILE_BAD].iter().any(|name| fs::symlink_metadata(folder.join(name)).is_ok())
}

/// Removes every snapshot there may be.
fn forget(folder: &Path) {
    for name in [FILE, FILE_NEXT, FILE_BAD] {
        let path = folder.join(name);
        if let Err(error) = remove(&path) {
            tracing::warn!(file = %path.display(), %error, "a snapshot of the cache cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::build;
    use crate::app::writing::{FIRST_PAUSE, MAX_PAUSE};
    use crate::clock::Clock;
    use crate::dns::encode::MessageBuilder;
    use crate::dns::wire::Section;
    use crate::dns::{Answer, Name, Origin, Query, Rcode, Record, Rtype};
    use crate::pipeline::cache::{KeyBuf, Lifetime, Terms};
    use std::time::Duration;
    use tokio::time::Instant;

    /// A pipeline in a folder of its own, whose cache holds so many answers.
    fn pipeline(folder: &Path, entries: usize) -> Arc<Pipeline> {
        let path = folder.join("truename.toml");
        fs::write(&path, "[hosts]\nfiles = []\n[upstream.system]\nservers = [\"127.0.0.1:1\"]\n").unwrap();
        let loaded = build::read(Some(&path)).unwrap();
        let (clock, stats) = (Clock::default(), Arc::new(Stats::default()));
        let state = build::state(loaded, &clock, &stats, None);
        let pipeline = Arc::new(Pipeline::new(state, clock, stats));
        (0..entries).for_each(|n| put(&pipeline, n));
        pipeline
    }

    fn put(pipeline: &Pipeline, n: usize) {
        let cache = &pipeline.state().cache;
        let owner = Name::parse(&format!("n{n}.example.org")).unwrap();
        let key = KeyBuf::of(
            crate::config::PlaceId(0),
            crate::config::ViewId(0),
            &Query::local(owner.clone(), Rtype::A).question(),
        );
        let mut builder = MessageBuilder::response(&owner, Rtype::A, Rcode::NOERROR);
        let rdata = Box::new([192, 0, 2, 1]);
        builder.push(Section::Answer, &Record { owner, rtype: Rtype::A, class: 1, ttl: 300, rdata });
        let answer = Answer { message: builder.finish(), origin: Origin::Upstream, ede: None };
        let (lifetime, epoch, now) = (Lifetime::Positive(300), cache.epoch(), pipeline.now());
        let terms = Terms { lifetime, fingerprint: 1, epoch, now, disputed: false, tag: crate::dns::Tag::NONE };
        assert!(cache.insert(&key, &answer, &terms).stored);
    }

    fn restore_into(pipeline: &Arc<Pipeline>, folder: &Path) {
        let state = pipeline.state();
        read_and_tell(folder, &state.cache, &state.config.cache, pipeline);
    }

    #[test]
    fn a_writing_that_fails_leaves_the_snapshot_before_and_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let full = pipeline(folder.path(), 3);
        let cache = Arc::clone(&full.state().cache);
        cache.take_changes();
        write_and_tell(folder.path(), &cache, &full);
        let before = fs::read(folder.path().join(FILE)).unwrap();
        put(&full, 4);
        // Nothing can be written where a folder is in the way.
        fs::create_dir(folder.path().join(FILE_NEXT)).unwrap();
        cache.take_changes();
        write_and_tell(folder.path(), &cache, &full);
        assert_eq!(fs::read(folder.path().join(FILE)).unwrap(), before);
        assert_eq!(full.stats().get(Counter::SnapshotsFailed), 1);
        assert!(cache.take_changes(), "there is still something to write");
        let empty = pipeline(folder.path(), 0);
        restore_into(&empty, folder.path());
        assert_eq!((empty.state().cache.len(), empty.stats().get(Counter::SnapshotRestored)), (3, 3));
    }

    #[test]
    fn too_large_a_file_and_what_is_no_file_are_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let empty = pipeline(folder.path(), 0);
        let path = folder.path().join(FILE);
        let file = File::create(&path).unwrap();
        file.set_len(empty.state().config.cache.max_bytes * MAX_FILE_SHARE + 1).unwrap();
        restore_into(&empty, folder.path());
        assert!(!path.exists() && folder.path().join(FILE_BAD).exists());
        // However small the cache is, a file of a mebibyte is looked at.
        let tiny = config::Cache { max_bytes: 1000, ..empty.state().config.cache };
        let read = |octets| {
            File::create(&path).unwrap().set_len(octets).unwrap();
            read_file(&path, &empty.state().cache, &tiny, &empty)
        };
        assert!(matches!(read(MIN_FILE_BOUND + 1), Err(Refusal::TooLarge { most: MIN_FILE_BOUND, .. })));
        assert!(matches!(read(MIN_FILE_BOUND), Err(Refusal::Fault(Fault::Foreign))));
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        restore_into(&empty, folder.path());
        assert!(!path.exists());
        assert_eq!((empty.stats().get(Counter::SnapshotsBad), empty.state().cache.len()), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_does_not_wait_for_a_disk_that_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let busy = pipeline(folder.path(), 3);
        let mut snapshot = Snapshot::start_in(Some(folder.path().to_owned()), &busy);
        snapshot.writing.ended().await;
        let (hangs, hanging) = std::sync::mpsc::channel::<()>();
        snapshot.writing.spawn("hangs", move || hanging.recv().unwrap_or_default()).unwrap();
        let start = Instant::now();
        snapshot.finish().await;
        assert_eq!(start.elapsed(), LAST_WRITING_TIMEOUT);
        drop(hangs);
    }

    #[tokio::test]
    async fn what_came_before_the_last_snapshot_was_read_is_written_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let busy = pipeline(folder.path(), 3);
        let mut snapshot = Snapshot::start_in(Some(folder.path().to_owned()), &busy);
        snapshot.writing.ended().await;
        let (reads, reading) = std::sync::mpsc::channel::<()>();
        snapshot.writing.spawn("reads", move || reading.recv().unwrap_or_default()).unwrap();
        tokio::join!(snapshot.finish(), async move { drop(reads) });
        assert_eq!(busy.stats().get(Counter::SnapshotsWritten), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_due_before_something_changes() {
        let folder = tempfile::tempdir().unwrap();
        let busy = pipeline(folder.path(), 0);
        let mut snapshot = Snapshot::start_in(Some(folder.path().to_owned()), &busy);
        // The reading is a real thread; paused time does not wait for it.
        snapshot.writing.ended().await;
        assert!(timeout(Duration::from_secs(7 * 86_400), snapshot.due()).await.is_err());
        let doubled = (0..).map(|times| FIRST_PAUSE * 2_u32.pow(times)).take_while(|pause| *pause < MAX_PAUSE);
        let pauses: Vec<Duration> = doubled.chain([MAX_PAUSE, MAX_PAUSE]).collect();
        for &pause in &pauses {
            put(&busy, 1);
            let start = Instant::now();
            // Given up again and again by whatever else the daemon waits for.
            while timeout(Duration::from_millis(300), snapshot.due()).await.is_err() {}
            assert!(start.elapsed() >= pause && start.elapsed() < pause + Duration::from_secs(1), "{pause:?}");
            snapshot.write();
            snapshot.writing.ended().await;
        }
        assert_eq!(busy.stats().get(Counter::SnapshotsWritten), u64::try_from(pauses.len()).unwrap());
    }

    #[tokio::test]
    async fn without_a_place_for_it_nothing_happens() {
        let folder = tempfile::tempdir().unwrap();
        let busy = pipeline(folder.path(), 3);
        let mut snapshot = Snapshot::start_in(None, &busy);
        assert!(timeout(Duration::from_millis(1), snapshot.due()).await.is_err());
        snapshot.finish().await;
        assert_eq!(busy.stats().get(Counter::SnapshotsWritten), 0);
    }
}
