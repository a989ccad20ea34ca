//! Where truename keeps what outlives it.

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Octets moved to a file at once.
const BUFFER_BYTES: usize = 128 << 10;

/// Returns the state directory: the service manager's, else the user's own; `None` when there is neither.
pub(super) fn state_dir() -> Option<PathBuf> {
    choose(|name| env::var_os(name).map(PathBuf::from))
}

/// Returns the service manager's alone.
pub(super) fn of_manager() -> Option<PathBuf> {
    given(env::var_os("STATE_DIRECTORY").map(PathBuf::from))
}

/// Writes a file, beside it at first, and puts it in its place only when all of it is on disk. Only its owner can read it.
pub(super) fn replace<T>(
    folder: &Path,
    name: &str,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<T>,
) -> io::Result<T> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let next = folder.join(format!("{name}.next"));
    remove(&next)?;
    let beside = || {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
        let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, &file);
        let written = write(&mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        file.sync_all()?;
        fs::rename(&next, folder.join(name))?;
        // The name is on disk only when the folder is.
        File::open(folder)?.sync_all()?;
        Ok(written)
    };
    let written = beside();
    if written.is_err() {
        // A part of a file is of no use, and a full disk needs the room.
        drop(remove(&next));
    }
    written
}

/// Removes a file; one that is not there is no error.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn choose(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|path| path.is_absolute());
    let of_user = || set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    given(variable("STATE_DIRECTORY")).or_else(|| Some(of_user()?.join(Path::new("truename"))))
}

/// systemd lists several, parted by colons, when a unit asks for several.
fn given(list: Option<PathBuf>) -> Option<PathBuf> {
    let first = list?.to_str()?.split(':').next().map(PathBuf::from);
    first.filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_managers_directory_comes_first() {
        let with = |set: &[(&str, &str)]| {
            let find = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, path)| PathBuf::from(path));
            choose(find).map(|path| path.to_string_lossy().into_owned())
        };
        let check =
            |set: &[(&str, &str)], expected: Option<&str>| assert_eq!(with(set).as_deref(), expected, "{set:?}");
        let (home, xdg) = (("HOME", "/home/me"), ("XDG_STATE_HOME", "/state"));
        check(&[("STATE_DIRECTORY", "/var/lib/truename"), xdg, home], Some("/var/lib/truename"));
        check(&[("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")], Some("/var/lib/a"));
        check(&[xdg, home], Some("/state/truename"));
        check(&[home], Some("/home/me/.local/state/truename"));
        check(&[("XDG_STATE_HOME", "relative"), home], Some("/home/me/.local/state/truename"));
        check(&[], None);
    }
}
