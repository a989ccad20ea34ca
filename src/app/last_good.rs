//! A copy of the configuration that was last good: what a daemon begins with that finds errors in its file when it starts. A mistake
//! of an editor must not take a machine's names away at its next boot.
//!
//! It is there under a service manager only (`STATE_DIRECTORY`): whoever starts a daemon by hand is told of errors at once. It holds
//! what the configuration and its included files hold, secrets in them as well, and only the daemon's user can read it. Files that a
//! configuration names (zones, hosts, lists) are not in it.

use super::build::Draft;
use super::state_dir::{of_manager, replace};
use crate::clock;
use crate::config::{Diagnostic, Text, load_kept};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The file in the state directory.
const FILE: &str = "last-good.json";
/// Octets of configuration that are copied; zones and lists of any size are files of their own.
pub(super) const MAX_TEXT_BYTES: usize = 4 << 20;
/// Octets read of a copy: in JSON one octet of a text is six at most, and paths stand beside them.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// Where the copy is kept.
#[derive(Debug)]
pub(super) struct LastGood {
    folder: Option<PathBuf>,
    /// What is to be written; the last word counts.
    waiting: Arc<Mutex<Option<Vec<Text>>>>,
    /// Held by the thread that writes.
    writing: Arc<Mutex<()>>,
}

/// What is on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    /// Since when it is good, as RFC 3339.
    saved_at: String,
    /// The main file first.
    files: Vec<Text>,
}

/// What took the place of a configuration with errors.
#[derive(Debug)]
pub(super) struct Instead {
    /// What is wrong with the files.
    pub(super) problems: Vec<Diagnostic>,
    /// The text of the main file that is in force.
    pub(super) main: String,
    /// Where the first error is, and since when the copy is good.
    pub(super) why: String,
}

impl LastGood {
    /// Finds the place for it.
    pub(super) fn new() -> Self {
        Self::below(of_manager())
    }

    fn below(folder: Option<PathBuf>) -> Self {
        Self { folder, waiting: Arc::default(), writing: Arc::default() }
    }

    /// Tells how many octets of texts it takes.
    pub(super) fn most(&self) -> usize {
        if self.folder.is_some() { MAX_TEXT_BYTES } else { 0 }
    }

    /// Puts the copy in the place of what has these problems; they are returned when there is none of this file, or it cannot be used
    /// either.
    pub(super) fn instead(
        &self,
        path: Option<&Path>,
        listen: &[SocketAddr],
        problems: Vec<Diagnostic>,
    ) -> Result<(Draft, Instead), Vec<Diagnostic>> {
        let saved =
            self.folder.as_deref().and_then(read).filter(|saved| saved.files.first().map(|file| &*file.path) == path);
        let Some(Saved { saved_at, files }) = saved else { return Err(problems) };
        let main = files.first().map(|file| file.text.clone()).unwrap_or_default();
        match Draft::of(load_kept(files), listen) {
            Ok(draft) => {
                let first = problems.iter().find(|problem| problem.is_error()).map(|problem| problem.at.to_string());
                let first = first.unwrap_or_default();
                let why = format!("errors at the start, the first at {first}; what was good at {saved_at} is in force");
                Ok((draft, Instead { problems, main, why }))
            }
            Err(_) => Err(problems),
        }
    }

    /// Keeps a configuration that is in force, by a thread of its own: a disk may be slow. Nothing is written that is there already.
    pub(super) fn keep(&self, path: Option<&Path>, texts: Vec<Text>) {
        let Some(folder) = self.folder.clone().filter(|_| path.is_some()) else { return };
        if texts.is_empty() {
            tracing::warn!(
                most = MAX_TEXT_BYTES,
                "the configuration is too long for a copy of it: a start needs a good one"
            );
            return;
        }
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(texts);
        let (waiting, writing) = (Arc::clone(&self.waiting), Arc::clone(&self.writing));
        let work = move || {
            let _alone = writing.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(texts) = waiting.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
            if let Err(error) = write(&folder, texts) {
                tracing::warn!(%error, folder = %folder.display(), "no copy of the configuration is kept: a start needs a good one");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("last-good".to_owned()).spawn(work) {
            tracing::warn!(%error, "no copy of the configuration is kept: the system gives no thread");
        }
    }
}

fn read(folder: &Path) -> Option<Saved> {
    let mut text = Vec::new();
    File::open(folder.join(FILE)).ok()?.take(MAX_FILE_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn write(folder: &Path, files: Vec<Text>) -> io::Result<()> {
    if read(folder).is_some_and(|saved| saved.files == files) {
        return Ok(());
    }
    let saved = Saved { saved_at: humantime::format_rfc3339_seconds(clock::wall()).to_string(), files };
    replace(folder, FILE, |file| {
        serde_json::to_writer(&mut *file, &saved)?;
        file.write_all(b"\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn text(path: &Path, text: &str) -> Text {
        Text { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_file_with_errors_gives_way_to_the_copy_of_itself() {
        let folder = tempfile::tempdir().unwrap();
        let (state, main) = (folder.path().join("state"), folder.path().join("truename.toml"));
        let last_good = LastGood::below(Some(state.clone()));
        let read_main = || crate::config::load_keeping(&main, last_good.most());
        let instead = || last_good.instead(Some(&main), &[], read_main().diagnostics);
        fs::write(&main, "[cache]\nmax_entries = 7\n").unwrap();
        let texts = read_main().texts;
        assert_eq!(texts, [text(&main, "[cache]\nmax_entries = 7\n")]);
        fs::write(&main, "[cache]\nmax_entries = -7\n").unwrap();
        assert!(instead().is_err(), "there is none");
        write(&state, texts.clone()).unwrap();
        let (draft, found) = instead().unwrap();
        assert_eq!((draft.config.cache.max_entries, found.main.as_str()), (7, "[cache]\nmax_entries = 7\n"));
        assert!(found.why.contains("truename.toml:2:15; what was good at "), "{}", found.why);
        assert!(!found.problems.is_empty());
        assert_eq!(fs::metadata(state.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        // What is there is not written again; another file has no part in it.
        let saved = fs::read(state.join(FILE)).unwrap();
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let before = inode(&state.join(FILE));
        write(&state, texts).unwrap();
        assert_eq!((inode(&state.join(FILE)), fs::read(state.join(FILE)).unwrap()), (before, saved.clone()));
        let other = folder.path().join("other.toml");
        assert!(last_good.instead(Some(&other), &[], Vec::new()).is_err());
        assert!(last_good.instead(None, &[], Vec::new()).is_err());
        // Neither a part of a copy counts nor one that has errors by now.
        fs::write(state.join(FILE), &saved[..saved.len() / 2]).unwrap();
        assert!(instead().is_err());
        write(&state, vec![text(&main, "[nonsense]\n")]).unwrap();
        assert!(instead().is_err());
    }

    #[test]
    fn the_last_word_is_what_is_kept_and_without_a_manager_nothing_is() {
        let folder = tempfile::tempdir().unwrap();
        let last_good = LastGood::below(Some(folder.path().to_owned()));
        let main = Some(Path::new("/x.toml"));
        for at in 0..20 {
            last_good.keep(main, vec![text(Path::new("/x.toml"), &format!("# {at}"))]);
        }
        // The defaults need no copy, and one that is too long has none.
        last_good.keep(None, Vec::new());
        last_good.keep(main, Vec::new());
        let kept = || read(folder.path()).map(|saved| saved.files[0].text.clone());
        for _ in 0..30_000 {
            if kept().as_deref() == Some("# 19") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(kept().as_deref(), Some("# 19"));
        let by_hand = LastGood::below(None);
        assert_eq!(by_hand.most(), 0);
        by_hand.keep(main, vec![text(Path::new("/x.toml"), "")]);
        assert!(by_hand.instead(main, &[], Vec::new()).is_err());
    }
}
