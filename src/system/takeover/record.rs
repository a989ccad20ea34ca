//! What was done, on disk: written before it is done, so that it can be undone from wherever it was cut off.
//!
//! The folder is root's own and not the daemon's: what stands here is carried out by root.

use super::Machine;
use super::plan::{Method, Step};
use crate::clock;
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The folder.
const FOLDER: &str = "/var/lib/truename-takeover";
/// The file in it.
const FILE: &str = "takeover.json";
/// Octets read of it; it holds a few words.
const MAX_BYTES: u64 = 16 << 10;
/// What becomes of one that cannot be read, so that somebody can look at it.
const UNREAD: &str = "takeover.json.unread";
/// Which boot of the machine this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The way.
    pub method: Method,
    /// What was begun, in its order.
    pub steps: Vec<Step>,
    /// When, as RFC 3339.
    pub since: String,
    /// In which boot: what lies below /run is gone in another one.
    pub boot: String,
    /// The canary has come back: the names of this machine come to us.
    pub verified: bool,
    /// It ends by itself at this time, unless somebody says `truename up --keep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_until: Option<String>,
    /// When another program last wrote resolv.conf over ours, in seconds of the wall clock; as many as count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overwritten: Vec<u64>,
    /// There was no resolv.conf: giving it back is removing ours.
    #[serde(default)]
    pub had_no_file: bool,
}

impl Record {
    /// Begins one.
    pub(super) fn new(method: Method) -> Self {
        let since = humantime::format_rfc3339_seconds(clock::wall()).to_string();
        Self {
            method,
            steps: Vec::new(),
            since,
            boot: boot_id(),
            verified: false,
            trial_until: None,
            overwritten: Vec::new(),
            had_no_file: false,
        }
    }

    /// Tells whether it is of this boot.
    pub(super) fn is_of_this_boot(&self) -> bool {
        self.boot == boot_id()
    }
}

/// Tells whether a trial is over; one whose end cannot be read is.
pub(super) fn is_over(trial_until: &str) -> bool {
    humantime::parse_rfc3339(trial_until).map_or(true, |end| clock::wall() >= end)
}

fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned()
}

/// Reads what was done; nothing when nothing was.
///
/// # Errors
/// When the file cannot be read, is not ours, or is not understood.
pub fn read(machine: &Machine) -> io::Result<Option<Record>> {
    let path = path(machine);
    let file = match OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
    // Whoever can write it can have root write resolv.conf.
    let owner = fs::metadata(machine.at("/"))?.uid();
    if file.metadata()?.uid() != owner {
        return Err(wrong("it is not root's, and is not followed".to_owned()));
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    serde_json::from_str(&text).map(Some).map_err(|error| wrong(error.to_string()))
}

/// Returns the folder; there is none where nothing was ever taken over.
pub(super) fn folder(machine: &Machine) -> PathBuf {
    machine.at(FOLDER)
}

/// Returns where it stands.
pub(super) fn path(machine: &Machine) -> PathBuf {
    folder(machine).join(FILE)
}

/// Writes it, all or nothing.
pub(super) fn write(machine: &Machine, record: &Record) -> io::Result<()> {
    let folder = machine.at(FOLDER);
    DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
    let text = serde_json::to_string_pretty(record).map_err(io::Error::other)?;
    put(&folder.join(FILE), text.as_bytes(), 0o644)
}

/// Removes it.
pub(super) fn remove(machine: &Machine) -> io::Result<()> {
    let folder = machine.at(FOLDER);
    match fs::remove_file(folder.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed?,
    }
    File::open(&folder)?.sync_all()
}

/// Puts one aside that cannot be read; what stood in it was undone.
pub(super) fn put_aside(machine: &Machine) -> io::Result<()> {
    let folder = machine.at(FOLDER);
    fs::rename(folder.join(FILE), folder.join(UNREAD))?;
    File::open(&folder)?.sync_all()
}

/// Puts a file in its place when all of it is on disk; nothing is left when it is not.
pub(super) fn put(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".truename-next");
    let next = folder.join(name);
    let remove = || match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    };
    remove()?;
    let beside = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&next)?;
        file.write_all(text)?;
        // Whatever the umask says: everybody's programs read it.
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&next, path)?;
        // The name is on disk only when the folder is.
        File::open(folder)?.sync_all()
    };
    let put = beside();
    if put.is_err() {
        drop(remove());
    }
    put
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_removed_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::below(folder.path());
        assert_eq!(read(&machine).unwrap(), None);
        let mut record = Record::new(Method::File);
        record.steps.push(Step::File);
        record.had_no_file = true;
        write(&machine, &record).unwrap();
        assert_eq!(read(&machine).unwrap().unwrap(), record);
        assert!(record.is_of_this_boot());
        remove(&machine).unwrap();
        remove(&machine).unwrap();
        assert_eq!(read(&machine).unwrap(), None);
    }

    #[test]
    fn a_trial_has_an_end() {
        assert!(is_over("2020-01-01T00:00:00Z") && is_over("some day") && is_over(""));
        assert!(!is_over("9999-01-01T00:00:00Z"));
    }

    #[test]
    fn what_is_not_understood_or_is_a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::below(folder.path());
        write(&machine, &Record::new(Method::File)).unwrap();
        let path = machine.at(FOLDER).join(FILE);
        fs::write(&path, "{").unwrap();
        assert!(read(&machine).unwrap_err().to_string().contains("takeover.json"));
        fs::write(&path, "x".repeat(usize::try_from(MAX_BYTES).unwrap() * 2)).unwrap();
        read(&machine).unwrap_err();
        fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
        read(&machine).unwrap_err();
    }
}
