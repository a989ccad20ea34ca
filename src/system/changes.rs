//! Notices that files have changed: inotify(7), read by the task that waits, without a thread of its own.
//!
//! Only finished changes count: a file closed after writing, put in another's place, or taken away, and a link made. Who
//! reads a file does not wake us: a watch that also reports opened files (the `notify` crate's cannot be told not to) would wake an idle
//! daemon whenever any program on the machine looks into /etc/hosts.

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// Changes closer together than this are one change: editors and package managers write several files.
const SETTLE: Duration = Duration::from_millis(200);
/// A file that never comes to rest is reported after this time.
const SETTLE_MAX: Duration = Duration::from_secs(2);
/// Changes are reported at most so often: a file that changes without end must not reload without end.
const PAUSE: Duration = Duration::from_secs(1);
/// Files and folders watched at most; the kernel allows at least 8,192 for each user.
const MAX_WATCHES: usize = 1024;
/// What counts as a change.
const MASK: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE);

/// A watch over some files.
#[derive(Debug)]
pub struct Changes {
    kernel: AsyncFd<Kernel>,
    /// What each watch is for; one folder can be known by several paths.
    watched: HashMap<WatchDescriptor, Vec<PathBuf>>,
    /// The names a file can change under, with the file as it was given.
    files: BTreeMap<PathBuf, PathBuf>,
    changed: BTreeSet<PathBuf>,
    settling: Option<Settling>,
    /// When the last changes were reported.
    reported: Option<Instant>,
}

/// Since when files are changing, and when they will count as at rest.
#[derive(Debug, Clone, Copy)]
struct Settling {
    since: Instant,
    until: Instant,
}

/// What the kernel watches, as tokio wants a file descriptor.
#[derive(Debug)]
struct Kernel(Inotify);

impl AsRawFd for Kernel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Changes {
    /// Begins to watch nothing.
    ///
    /// # Errors
    /// When the kernel gives no watch, for instance because this user has too many.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new() -> std::io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        #[expect(deprecated, reason = "its successor is unsafe; an `Inotify` keeps its descriptor, as that asks for")]
        let kernel = AsyncFd::with_interest(Kernel(inotify), Interest::READABLE)?;
        let (watched, files, changed) = (HashMap::new(), BTreeMap::new(), BTreeSet::new());
        Ok(Self { kernel, watched, files, changed, settling: None, reported: None })
    }

    /// Watches these files, all of them and no others; a folder among them for every file in it. Returns the folders that cannot be watched.
    ///
    /// To be called again after a change: a file put in another's place is another file.
    pub fn watch(&mut self, files: impl IntoIterator<Item = PathBuf>) -> Vec<(PathBuf, std::io::Error)> {
        self.files = files
            .into_iter()
            .flat_map(|file| names_of(&file).map(|name| (name, file.clone())).collect::<Vec<_>>())
            .collect();
        let folders: BTreeSet<&Path> = self.files.keys().filter_map(|file| file.parent()).collect();
        let mut watched: HashMap<WatchDescriptor, Vec<PathBuf>> = HashMap::new();
        let mut refused = Vec::new();
        for (at, folder) in folders.into_iter().enumerate() {
            if at >= MAX_WATCHES {
                refused.push((folder.to_owned(), std::io::Error::other(format!("more than {MAX_WATCHES} folders"))));
                continue;
            }
            match self.kernel.get_ref().0.add_watch(folder, MASK) {
                Ok(descriptor) => watched.entry(descriptor).or_default().push(folder.to_owned()),
                Err(error) => refused.push((folder.to_owned(), error.into())),
            }
        }
        // A file that another file system is mounted on, as containers have /etc/hosts, changes without its folder.
        for file in self.files.keys().take(MAX_WATCHES.saturating_sub(watched.len())) {
            // The folder tells when a missing file comes.
            if let Ok(descriptor) = self.kernel.get_ref().0.add_watch(file, MASK) {
                watched.entry(descriptor).or_default().push(file.clone());
            }
        }
        for gone in self.watched.keys().filter(|descriptor| !watched.contains_key(descriptor)) {
            // The watch of a deleted file is gone already.
            let _gone_already = self.kernel.get_ref().0.rm_watch(*gone);
        }
        self.watched = watched;
        refused
    }

    /// Waits until some of the files have changed and come to rest, and returns them; all of them when the kernel has
    /// lost count. Cancel safe.
    pub async fn changed(&mut self) -> BTreeSet<PathBuf> {
        loop {
            let Some(settling) = self.settling else {
                self.note_next().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(settling.until) => {
                    self.settling = None;
                    self.reported = Some(Instant::now());
                    return std::mem::take(&mut self.changed);
                }
                () = self.note_next() => {}
            }
        }
    }

    /// Waits for the next events and notes what they say. Cancel safe.
    async fn note_next(&mut self) {
        let events = match self.kernel.readable().await {
            Ok(mut ready) => ready.try_io(|kernel| Ok(kernel.get_ref().0.read_events()?)),
            // The runtime ends.
            Err(_) => return std::future::pending().await,
        };
        // Nothing to read after all.
        let Ok(events) = events else { return };
        let mut changes = false;
        for event in events.unwrap_or_default() {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                self.changed = self.files.values().cloned().collect();
                changes = true;
            }
            for path in self.watched.get(&event.wd).into_iter().flatten() {
                let path = event.name.as_ref().map_or_else(|| path.clone(), |name| path.join(name));
                // Who creates a file has yet to write and close it; a link is complete.
                let finished = !event.mask.contains(AddWatchFlags::IN_CREATE) || path.is_symlink();
                // A folder that is watched itself is for all that is in it.
                let file = self.files.get(&path).or_else(|| self.files.get(path.parent()?));
                if let Some(file) = file.filter(|_| finished) {
                    self.changed.insert(file.clone());
                    changes = true;
                }
            }
        }
        if changes {
            let now = Instant::now();
            let since = self.settling.map_or(now, |settling| settling.since);
            let at_rest = (now + SETTLE).min(since + SETTLE_MAX);
            let until = self.reported.map_or(at_rest, |reported| at_rest.max(reported + PAUSE));
            self.settling = Some(Settling { since, until });
        }
    }
}

/// Returns the names under which a file can be put in another's place: its own, and that of the file it links to.
fn names_of(file: &Path) -> impl Iterator<Item = PathBuf> {
    let own = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let target = std::fs::canonicalize(&own).ok();
    std::iter::once(own).chain(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn noticed(changes: &mut Changes) -> Vec<PathBuf> {
        tokio::time::timeout(Duration::from_secs(10), changes.changed()).await.unwrap().into_iter().collect()
    }

    fn watching(file: &Path) -> Changes {
        let mut changes = Changes::new().unwrap();
        assert!(changes.watch([file.to_owned()]).is_empty());
        changes
    }

    #[tokio::test]
    async fn a_file_written_replaced_taken_away_and_made_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        let one = [hosts.clone()];
        std::fs::write(&hosts, "127.0.0.1 a\n").unwrap();
        let mut changes = watching(&hosts);
        std::fs::write(&hosts, "127.0.0.2 a\n").unwrap();
        assert_eq!(noticed(&mut changes).await, one);
        let next = folder.path().join("hosts.next");
        std::fs::write(&next, "127.0.0.3 a\n").unwrap();
        std::fs::rename(&next, &hosts).unwrap();
        assert_eq!(noticed(&mut changes).await, one);
        std::fs::remove_file(&hosts).unwrap();
        assert_eq!(noticed(&mut changes).await, one);
        assert!(changes.watch([hosts.clone()]).is_empty());
        std::fs::write(&hosts, "127.0.0.4 a\n").unwrap();
        assert_eq!(noticed(&mut changes).await, one);
    }

    #[tokio::test]
    async fn reading_the_file_and_writing_others_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        std::fs::write(&hosts, "127.0.0.1 a\n").unwrap();
        let mut changes = watching(&hosts);
        std::fs::read(&hosts).unwrap();
        std::fs::write(folder.path().join("passwd"), "x").unwrap();
        std::fs::write(&hosts, "127.0.0.2 a\n").unwrap();
        // Events come in their order: what is noticed at all is noticed by the time the last one is.
        assert_eq!(noticed(&mut changes).await, [hosts]);
        assert!(changes.changed.is_empty() && changes.settling.is_none());
    }

    #[tokio::test]
    async fn a_file_that_comes_into_a_folder_or_goes_is_a_change_of_the_folder() {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("interface");
        std::fs::create_dir(&folder).unwrap();
        let mut changes = watching(&folder);
        let one = [folder.clone()];
        std::fs::write(folder.join("tun0"), "nameserver 10.0.0.1\n").unwrap();
        assert_eq!(noticed(&mut changes).await, one);
        std::fs::remove_file(folder.join("tun0")).unwrap();
        assert_eq!(noticed(&mut changes).await, one);
    }

    #[tokio::test]
    async fn the_target_of_a_link_is_watched_where_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let (there, link) = (folder.path().join("there"), folder.path().join("resolv.conf"));
        std::fs::create_dir(&there).unwrap();
        std::fs::write(there.join("stub"), "nameserver 10.0.0.1\n").unwrap();
        std::os::unix::fs::symlink(there.join("stub"), &link).unwrap();
        let mut changes = watching(&link);
        std::fs::write(there.join("next"), "nameserver 10.0.0.2\n").unwrap();
        std::fs::rename(there.join("next"), there.join("stub")).unwrap();
        let one = [link.clone()];
        assert_eq!(noticed(&mut changes).await, one);
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(there.join("other"), &link).unwrap();
        assert_eq!(noticed(&mut changes).await, one);
    }

    #[tokio::test]
    async fn a_change_is_not_lost_when_the_waiting_is_broken_off() {
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        let mut changes = watching(&hosts);
        std::fs::write(&hosts, "127.0.0.1 a\n").unwrap();
        while changes.settling.is_none() {
            drop(tokio::time::timeout(Duration::from_millis(1), changes.changed()).await);
        }
        assert_eq!(noticed(&mut changes).await, [hosts]);
    }

    #[tokio::test]
    async fn changes_without_end_are_reported_now_and_then() {
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        let mut changes = watching(&hosts);
        let start = Instant::now();
        for n in 0..3 {
            std::fs::write(&hosts, format!("127.0.0.{n} a\n")).unwrap();
            assert_eq!(noticed(&mut changes).await, std::slice::from_ref(&hosts));
        }
        assert!(start.elapsed() >= 2 * PAUSE, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_file_that_never_comes_to_rest_is_reported_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        let mut changes = watching(&hosts);
        let without_end = async {
            loop {
                std::fs::write(&hosts, "127.0.0.1 a\n").unwrap();
                tokio::time::sleep(SETTLE / 10).await;
            }
        };
        tokio::select! {
            () = without_end => {}
            found = noticed(&mut changes) => assert_eq!(found, std::slice::from_ref(&hosts)),
        }
    }

    #[tokio::test]
    async fn folders_beyond_the_bound_are_told() {
        let root = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = (0..MAX_WATCHES + 3)
            .flat_map(|at| {
                let folder = root.path().join(format!("{at:04}"));
                std::fs::create_dir(&folder).unwrap();
                // Several files of one folder are one watch.
                ["a", "b"].map(|name| folder.join(name))
            })
            .collect();
        let mut changes = Changes::new().unwrap();
        let refused = changes.watch(files);
        // A user may have fewer watches left than that.
        assert!(refused.len() >= 3 && changes.watched.len() <= MAX_WATCHES, "{}", refused.len());
        assert_eq!(refused.len() + changes.watched.len(), MAX_WATCHES + 3);
        assert!(refused[refused.len() - 1].1.to_string().contains("1024"), "{refused:?}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let refused = Changes::new().unwrap().watch([PathBuf::from("/nowhere/at/all/hosts")]);
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].0, Path::new("/nowhere/at/all"));
    }
}
