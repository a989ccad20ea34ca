//! Why names do not come to us although somebody wants them to. The units note it, so that whoever asks is told; the journal has
//! it as well, and not everybody may read that.

use super::Machine;
use super::record::put;
use crate::clock;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The note, beside the record; a release ends the record and not this.
const PATH: &str = "/var/lib/truename-takeover/left.json";
/// Octets read of it.
const MAX_BYTES: u64 = 4 << 10;
/// Characters of a reason that are kept.
const MAX_WHY_CHARS: usize = 400;

/// The note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Left {
    /// Why, in a line.
    why: String,
    /// When it was last tried, as RFC 3339.
    last_tried: String,
    /// They were left to somebody else, and are not tried for again before the daemon starts anew.
    pub(super) to_other: bool,
}

impl Left {
    /// Says it.
    pub(super) fn text(&self) -> String {
        let again = if self.to_other { "left to it" } else { "tried again" };
        format!("not taken over: {} ({again}; the last try was at {})", self.why, self.last_tried)
    }
}

/// Returns where it stands.
pub(super) fn path(machine: &Machine) -> PathBuf {
    machine.at(PATH)
}

/// Notes why.
pub(super) fn note(machine: &Machine, why: &str, to_other: bool) -> io::Result<()> {
    let why = why.lines().next().unwrap_or_default().chars().take(MAX_WHY_CHARS).collect();
    let last_tried = humantime::format_rfc3339_seconds(clock::wall()).to_string();
    let text = serde_json::to_vec(&Left { why, last_tried, to_other }).map_err(io::Error::other)?;
    let path = path(machine);
    DirBuilder::new().recursive(true).mode(0o755).create(path.parent().unwrap_or(Path::new("/")))?;
    put(&path, &text, 0o644)
}

/// Forgets it: they come here, or nobody wants them to.
pub(super) fn forget(machine: &Machine) -> io::Result<()> {
    match fs::remove_file(path(machine)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Reads it; one that cannot be read says nothing.
pub(super) fn read(machine: &Machine) -> Option<Left> {
    let mut text = Vec::new();
    File::open(path(machine)).ok()?.take(MAX_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_said_in_a_bounded_line_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::below(folder.path());
        assert_eq!(read(&machine), None);
        forget(&machine).unwrap();
        note(&machine, &format!("{}\nmore", "\u{e4}".repeat(9000)), false).unwrap();
        let text = read(&machine).unwrap().text();
        assert_eq!(text.matches('\u{e4}').count(), MAX_WHY_CHARS, "{text}");
        assert!(!text.contains("more") && text.contains("tried again"), "{text}");
        note(&machine, "it is theirs", true).unwrap();
        let left = read(&machine).unwrap();
        assert!(left.to_other && left.text().starts_with("not taken over: it is theirs (left to it; "), "{left:?}");
        fs::write(path(&machine), "{").unwrap();
        assert_eq!(read(&machine), None);
        forget(&machine).unwrap();
        assert!(!path(&machine).exists());
    }
}
