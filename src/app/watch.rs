//! Notices that a hosts, zone or list file, or the machine's resolv.conf, has changed.
//!
//! Folders are watched, not files: editors and package managers put a new file in the old one's place. The main
//! configuration file is reloaded only on request.

use crate::config::Config;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Changes closer together than this are one change.
const SETTLE: Duration = Duration::from_millis(200);
/// Folders watched at most; what lies in further ones is read at reloads only.
const MAX_FOLDERS: usize = 128;

/// The files in which a change matters.
type Files = Arc<Mutex<BTreeSet<PathBuf>>>;

/// A watch over the files a configuration names.
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    files: Files,
    changed: Arc<Notify>,
}

impl Watch {
    /// Watches what `config` names. Where the kernel refuses, a warning says so and reloads go by SIGHUP alone.
    pub(super) fn new(config: &Config) -> Self {
        let (files, changed) = (Files::default(), Arc::new(Notify::new()));
        let (seen, wake) = (Arc::clone(&files), Arc::clone(&changed));
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| concerns(&event, &seen)) {
                wake.notify_one();
            }
        });
        let watcher =
            watcher.inspect_err(|error| tracing::warn!(%error, "cannot watch files; SIGHUP reloads them")).ok();
        let mut watch = Self { watcher, folders: BTreeSet::new(), files, changed };
        watch.follow(config);
        watch
    }

    /// Watches what another configuration names.
    pub(super) fn follow(&mut self, config: &Config) {
        let files = named_files(config);
        let folders: BTreeSet<PathBuf> =
            files.iter().filter_map(|file| file.parent()).take(MAX_FOLDERS).map(Path::to_path_buf).collect();
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

    /// Waits for a change, and until it has settled. Cancel safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
        // Put back until it has settled: whoever drops this before then finds it again.
        self.changed.notify_one();
        tokio::time::sleep(SETTLE).await;
        self.changed.notified().await;
    }
}

/// Tells whether an event is a change of a file that matters. Reading a file is none.
fn concerns(event: &Event, files: &Files) -> bool {
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

    #[tokio::test]
    async fn a_file_put_in_the_old_ones_place_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        std::fs::write(&hosts, "127.0.0.1 a\n").unwrap();
        let mut config = Config::default();
        config.hosts.files = vec![hosts.clone()];
        let watch = Watch::new(&config);
        let next = folder.path().join("hosts.next");
        std::fs::write(&next, "127.0.0.2 a\n").unwrap();
        std::fs::rename(&next, &hosts).unwrap();
        tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_survives_that_its_waiter_is_dropped() {
        let watch = Watch { watcher: None, folders: BTreeSet::new(), files: Files::default(), changed: Arc::default() };
        watch.changed.notify_one();
        assert!(tokio::time::timeout(SETTLE / 2, watch.changed()).await.is_err(), "it has not settled yet");
        assert!(tokio::time::timeout(SETTLE * 2, watch.changed()).await.is_ok());
        assert!(tokio::time::timeout(SETTLE * 2, watch.changed()).await.is_err(), "one change is one");
    }

    #[test]
    fn other_files_in_the_folder_do_not_matter() {
        let files: Files = Arc::new(Mutex::new(BTreeSet::from([PathBuf::from("/a/hosts")])));
        let change = |path: &str| Event::new(EventKind::Any).add_path(path.into());
        assert!(concerns(&change("/a/hosts"), &files));
        assert!(!concerns(&change("/a/passwd"), &files));
    }
}
