//! Notices that a hosts, zone or list file, or the machine's resolv.conf, has changed.
//!
//! Folders are watched, not files: editors and package managers put a new file in the old one's place. The main
//! configuration file is reloaded only on request.

use crate::config::Config;
use crate::stats::{Counter, Stats};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Changes closer together than this are one change.
const SETTLE: Duration = Duration::from_millis(200);
/// Pause after a change before the next is noticed: a file that changes without end must not reload without end.
const PAUSE: Duration = Duration::from_secs(1);
/// Folders watched at most, of the 8,192 a user may watch on older kernels; what lies in further ones is read at reloads
/// only.
const MAX_FOLDERS: usize = 128;

/// The files in which a change matters.
type Files = Arc<Mutex<BTreeSet<PathBuf>>>;

/// A watch over the files a configuration names.
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    files: Files,
    changed: Arc<Notify>,
    /// A change was noticed that has not been told yet.
    pending: Cell<bool>,
    /// When the last change was told.
    told: Cell<Option<Instant>>,
    stats: Arc<Stats>,
}

impl Watch {
    /// Watches what `config` names. Where the kernel refuses, a warning says so and reloads go by SIGHUP alone.
    pub(super) fn new(config: &Config, stats: &Arc<Stats>) -> Self {
        let (files, changed) = (Files::default(), Arc::new(Notify::new()));
        let (seen, wake) = (Arc::clone(&files), Arc::clone(&changed));
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| concerns(&event, &seen)) {
                wake.notify_one();
            }
        });
        let watcher =
            watcher.inspect_err(|error| tracing::warn!(%error, "cannot watch files; SIGHUP reloads them")).ok();
        let mut watch = Self {
            watcher,
            folders: BTreeSet::new(),
            files,
            changed,
            pending: Cell::new(false),
            told: Cell::new(None),
            stats: Arc::clone(stats),
        };
        watch.follow(config);
        watch
    }

    /// Watches what another configuration names.
    pub(super) fn follow(&mut self, config: &Config) {
        let files = named_files(config);
        let mut folders: BTreeSet<PathBuf> = files.iter().filter_map(|file| Some(file.parent()?.to_owned())).collect();
        if let Some(too_many) = folders.len().checked_sub(MAX_FOLDERS).filter(|count| *count > 0) {
            self.stats.add(Counter::FoldersFull, u64::try_from(too_many).unwrap_or(u64::MAX));
            folders = folders.into_iter().take(MAX_FOLDERS).collect();
        }
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = files;
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self.folders.difference(&folders) {
            drop(watcher.unwatch(gone));
        }
        for folder in folders.difference(&self.folders) {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %folder.display(), %error, "cannot watch a folder; SIGHUP reloads what is in it");
            }
        }
        self.folders = folders;
    }

    /// Waits for a change, until it has settled, and until the one before is a while ago. Cancel safe.
    pub(super) async fn changed(&self) {
        if !self.pending.get() {
            self.changed.notified().await;
            self.pending.set(true);
        }
        let earliest = self.told.get().map_or_else(Instant::now, |told| told + PAUSE);
        tokio::time::sleep_until(earliest.max(Instant::now() + SETTLE)).await;
        self.pending.set(false);
        self.told.set(Some(Instant::now()));
    }
}

/// Tells whether an event is a change of a file that matters. Reading a file is none.
fn concerns(event: &Event, files: &Files) -> bool {
    // The kernel's queue of events ran over: nobody knows what was in it.
    if event.need_rescan() {
        return true;
    }
    let is_change = !matches!(event.kind, EventKind::Access(_));
    let files = files.lock().unwrap_or_else(PoisonError::into_inner);
    is_change && event.paths.iter().any(|path| files.contains(path))
}

/// Returns every file whose content decides answers, but for the configuration itself.
fn named_files(config: &Config) -> BTreeSet<PathBuf> {
    let zones = config.zones.iter().filter_map(|zone| zone.file.clone());
    let lists = config.routes.iter().flat_map(|route| route.lists.iter().map(|list| list.path.clone()));
    let hosts = config.hosts.files.iter().filter(|_| config.hosts.watch).cloned();
    let resolv = crate::system::resolvers::watched_files();
    zones.chain(lists).chain(hosts).chain(resolv).map(|path| std::path::absolute(&path).unwrap_or(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::Flag;
    use tokio::time::timeout;

    #[tokio::test]
    async fn a_file_put_in_the_old_ones_place_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        std::fs::write(&hosts, "127.0.0.1 a\n").unwrap();
        let mut config = Config::default();
        config.hosts.files = vec![hosts.clone()];
        let watch = Watch::new(&config, &Arc::default());
        let next = folder.path().join("hosts.next");
        std::fs::write(&next, "127.0.0.2 a\n").unwrap();
        std::fs::rename(&next, &hosts).unwrap();
        tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.unwrap();
    }

    #[test]
    fn other_files_in_the_folder_do_not_matter() {
        let files: Files = Arc::new(Mutex::new(BTreeSet::from([PathBuf::from("/a/hosts")])));
        let change = |path: &str| Event::new(EventKind::Any).add_path(path.into());
        assert!(concerns(&change("/a/hosts"), &files));
        assert!(!concerns(&change("/a/passwd"), &files));
        let lost = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert!(concerns(&lost, &files), "the kernel lost events");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_also_when_the_waiting_was_cut_off_and_not_too_often() {
        let watch = Watch::new(&Config::default(), &Arc::default());
        watch.changed.notify_one();
        assert!(timeout(SETTLE / 2, watch.changed()).await.is_err(), "it has to settle");
        timeout(SETTLE, watch.changed()).await.expect("it is not forgotten");
        watch.changed.notify_one();
        let start = Instant::now();
        watch.changed().await;
        assert!(start.elapsed() >= PAUSE, "{:?}", start.elapsed());
    }

    #[test]
    fn folders_are_watched_up_to_a_bound() {
        let root = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.hosts.files = (0..MAX_FOLDERS + 9)
            .flat_map(|at| {
                let folder = root.path().join(format!("{at:04}"));
                std::fs::create_dir(&folder).unwrap();
                // Several files of one folder are one watch.
                ["a", "b"].map(|name| folder.join(name))
            })
            .collect();
        let stats = Arc::default();
        let watch = Watch::new(&config, &stats);
        assert_eq!(watch.folders.len(), MAX_FOLDERS);
        // Those of resolv.conf are watched, too.
        assert!(stats.get(Counter::FoldersFull) >= 9);
        assert!(watch.folders.contains(&root.path().join("0100")));
    }
}
