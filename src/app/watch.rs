//! Which files decide answers besides the configuration itself, and what a change of one concerns.
//!
//! The main configuration file and what it includes are not among them: they are read on request only.

use super::build::Concerned;
use crate::pipeline::State;
use crate::system::changes::Changes;
use crate::system::resolvers;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A watch over the files a configuration names.
pub(super) struct Watch {
    /// None where the kernel refuses.
    changes: Option<Changes>,
    /// Files of records and hosts; all others concern the routes.
    zones: BTreeSet<PathBuf>,
    /// Folders that cannot be watched, as the log says already.
    told: BTreeSet<PathBuf>,
}

impl Watch {
    /// Watches what `state` was made of. Where the kernel refuses, a warning says so and reloads go by SIGHUP alone.
    pub(super) fn new(state: &State) -> Self {
        let changes = Changes::new()
            .inspect_err(|error| tracing::warn!(%error, "cannot watch files; SIGHUP reads them again"))
            .ok();
        let mut watch = Self { changes, zones: BTreeSet::new(), told: BTreeSet::new() };
        watch.follow(state);
        watch
    }

    /// Watches what another state was made of, or the same files anew after one of them was replaced.
    pub(super) fn follow(&mut self, state: &State) {
        self.zones = zone_files(state);
        let Some(changes) = &mut self.changes else { return };
        let files = self.zones.iter().cloned().chain(route_files(state));
        let refused = changes.watch(files);
        for (folder, error) in refused.iter().filter(|(folder, _)| !self.told.contains(folder)) {
            tracing::warn!(folder = %folder.display(), %error, "cannot watch a folder; SIGHUP reads what is in it");
        }
        self.told = refused.into_iter().map(|(folder, _)| folder).collect();
    }

    /// Waits for a change, and until it has settled. Cancel safe.
    pub(super) async fn changed(&mut self) -> Concerned {
        let Some(changes) = &mut self.changes else { return std::future::pending().await };
        let changed = changes.changed().await;
        let zones = changed.iter().any(|file| self.zones.contains(file));
        Concerned { zones, routes: changed.iter().any(|file| !self.zones.contains(file)) }
    }
}

/// Returns the files of records and hosts. A zone file that another includes counts; one that could not be read yet too.
fn zone_files(state: &State) -> BTreeSet<PathBuf> {
    let config = &state.config;
    let hosts = config.hosts.files.iter().filter(|_| config.hosts.watch).cloned();
    let named = config.zones.iter().filter_map(|zone| zone.file.clone());
    named.chain(state.zones.files().map(Path::to_path_buf)).chain(hosts).collect()
}

/// Returns the lists of names, and what says which resolvers this machine has.
fn route_files(state: &State) -> impl Iterator<Item = PathBuf> {
    let lists = state.config.routes.iter().flat_map(|route| route.lists.iter().map(|list| list.path.clone()));
    lists.chain(resolvers::watched_files())
}
