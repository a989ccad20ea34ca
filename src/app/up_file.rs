//! What `truename up --doh` has the configuration say: a file beside the main one, read after it and taken away by `truename down`.

use super::build::Draft;
use super::state_dir::{remove, replace};
use super::upstreams::{Test, test_loaded};
use super::{DEFAULT_PATH, RunError};
use crate::config::{Text, UP_FILE, load_with};
use crate::dns::Name;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// The first words of a file of ours; one that begins otherwise is somebody else's.
const MARK: &str = "# By `truename up --doh`";
/// The name of the group that is written.
const GROUP: &str = "doh";
/// Octets read of the file; ours has some hundred.
const MAX_FILE_BYTES: u64 = 16 << 10;
/// Questions that the server must answer one of: the first may be lost with the opening of a connection.
const QUESTIONS: u32 = 2;

/// A server for all names that no route matches.
#[derive(Debug, Clone)]
pub struct UpFile {
    main: PathBuf,
    text: String,
}

/// What stood there before.
#[derive(Debug)]
pub struct Before(Option<String>);

impl UpFile {
    /// Has names go to the server at this address, `https://…`.
    #[must_use]
    pub fn doh(url: &str) -> Self {
        Self::beside(Path::new(DEFAULT_PATH), url)
    }

    fn beside(main: &Path, url: &str) -> Self {
        let text = format!(
            "{MARK}: names that no route matches go to this server. Undo: sudo truename down\n\
             [upstream.{GROUP}]\nservers = [\"{url}\"]\n[default]\nupstream = \"{GROUP}\"\n"
        );
        Self { main: main.to_path_buf(), text }
    }

    /// Returns where it is written.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.main.with_file_name(UP_FILE)
    }

    /// Reads the configuration as it would be, and asks the server; changes nothing.
    ///
    /// # Errors
    /// When the two do not go together, or no answer comes.
    pub fn check(&self) -> Result<(), RunError> {
        let text = Text { path: self.path(), text: self.text.clone() };
        let loaded = Draft::of(load_with(&self.main, text), &[]).and_then(|draft| {
            let own = draft.config.server.listen.clone();
            draft.read(own, &[])
        });
        let loaded = loaded.map_err(RunError::Config)?;
        let qname = Name::parse("localhost").map_err(|error| RunError::NoAnswer(error.to_string()))?;
        let what = Test { names: vec![GROUP.to_owned()], count: QUESTIONS, qname };
        let found = test_loaded(loaded, &what, |_| {})?;
        let mut rungs = found.servers.iter().flat_map(|tested| &tested.rungs);
        if rungs.any(|(_, probed)| probed.is_up()) {
            return Ok(());
        }
        let whom = found.servers.first().map_or_else(String::new, |tested| tested.member.server.label.clone());
        Err(RunError::NoAnswer(format!(
            "{whom} does not answer: {QUESTIONS} questions went to it over each of its rungs"
        )))
    }

    /// Writes it, for whoever may read the main file; returns what stood there.
    ///
    /// # Errors
    /// When somebody else's file stands there, or it cannot be written.
    pub fn write(&self) -> io::Result<Before> {
        let before = read(&self.path())?;
        if before.as_deref().is_some_and(|text| !text.starts_with(MARK)) {
            let found = format!("{} is somebody else's: it does not begin with \"{MARK}\"", self.path().display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, found));
        }
        self.put(&self.text)?;
        Ok(Before(before))
    }

    /// Has what stood there before stand there again.
    ///
    /// # Errors
    /// When it cannot be written or removed.
    pub fn restore(&self, before: Before) -> io::Result<()> {
        match before.0 {
            Some(text) => self.put(&text),
            None => remove(&self.path()),
        }
    }

    fn put(&self, text: &str) -> io::Result<()> {
        let main = fs::metadata(&self.main)?;
        let folder = self.main.parent().unwrap_or(Path::new("/"));
        replace(folder, UP_FILE, |buffered| {
            buffered.write_all(text.as_bytes())?;
            // An address may have a secret in its path.
            let file: &File = buffered.get_ref();
            fchown(file, Some(main.uid()), Some(main.gid()))?;
            file.set_permissions(PermissionsExt::from_mode(main.mode() & 0o777))
        })
    }
}

/// Takes away what `truename up --doh` wrote; tells whether there was something. A file that somebody else wrote stays.
///
/// # Errors
/// When it cannot be read or removed.
pub fn forget_doh() -> io::Result<bool> {
    forget(Path::new(DEFAULT_PATH))
}

fn forget(main: &Path) -> io::Result<bool> {
    let path = main.with_file_name(UP_FILE);
    let is_ours = read(&path)?.is_some_and(|text| text.starts_with(MARK));
    if is_ours {
        remove(&path)?;
    }
    Ok(is_ours)
}

fn read(path: &Path) -> io::Result<Option<String>> {
    let mut octets = Vec::new();
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?.take(MAX_FILE_BYTES).read_to_end(&mut octets)?,
    };
    Ok(Some(String::from_utf8_lossy(&octets).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_with_the_configuration_and_goes_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("truename.toml");
        fs::write(&main, "[hosts]\nfiles = []\n").unwrap();
        fs::set_permissions(&main, PermissionsExt::from_mode(0o640)).unwrap();
        let upstream = || {
            let loaded = crate::app::build::read(Some(&main)).unwrap();
            let group = loaded.config.group(loaded.config.default.upstream);
            (group.name.clone(), group.servers.first().map(|server| server.label.clone()))
        };
        let before = upstream();
        let file = UpFile::beside(&main, "https://192.0.2.1/dns-query");
        let nothing = file.write().unwrap();
        assert_eq!(fs::metadata(file.path()).unwrap().mode() & 0o777, 0o640);
        assert_eq!(upstream().0, "doh");
        let other = UpFile::beside(&main, "https://192.0.2.2/dns-query");
        let first = other.write().unwrap();
        assert!(upstream().1.unwrap().contains("192.0.2.2"), "{:?}", upstream());
        other.restore(first).unwrap();
        assert!(upstream().1.unwrap().contains("192.0.2.1"), "{:?}", upstream());
        file.restore(nothing).unwrap();
        assert_eq!((upstream(), fs::read_dir(folder.path()).unwrap().count()), (before.clone(), 1));
        file.write().unwrap();
        assert!(forget(&main).unwrap() && !forget(&main).unwrap());
        assert_eq!(upstream(), before);
        // What somebody else wrote there is theirs.
        fs::write(file.path(), "[cache]\nmax_entries = 9\n").unwrap();
        assert!(file.write().unwrap_err().to_string().contains("somebody else's"));
        assert!(!forget(&main).unwrap() && file.path().exists());
    }

    #[test]
    fn what_does_not_go_with_the_configuration_or_does_not_answer_is_told_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("truename.toml");
        fs::write(&main, "[upstream.mine]\nservers = [\"10.0.0.1\"]\n[default]\nupstream = \"mine\"\n").unwrap();
        let RunError::Config(problems) = UpFile::beside(&main, "https://192.0.2.1/dns-query").check().unwrap_err()
        else {
            panic!("a key is set twice")
        };
        assert!(problems.iter().any(|problem| problem.key == "default.upstream"), "{problems:?}");
        // Nobody listens there.
        fs::write(&main, "[hosts]\nfiles = []\n").unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = UpFile::beside(&main, &format!("https://127.0.0.1:{port}/dns-query")).check().unwrap_err();
        assert!(matches!(&error, RunError::NoAnswer(text) if text.contains("does not answer")), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
