//! Unix sockets of our own: made with the right mode from the first moment, in place of one that a dead daemon left,
//! never in place of another program's.

use super::place::Door;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, chown};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Connections the kernel holds before they are accepted.
const BACKLOG: i32 = 64;
/// The group that may act.
const GROUP: &str = "truename";
/// Where groups are listed.
const GROUPS: &str = "/etc/group";
/// The mode of a directory of ours.
const DIRECTORY_MODE: u32 = 0o755;

/// A socket that is listened on.
#[derive(Debug)]
pub struct Socket {
    /// The listener, which does not block.
    pub(super) listener: UnixListener,
    /// The file, when we made it: device and inode tell whether it still is the one.
    made: Option<(PathBuf, u64, u64)>,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Something else stands there.
    #[error("{0} is not a socket; it is left alone")]
    NoSocket(PathBuf),
    /// Somebody listens there.
    #[error("another program listens on {0}")]
    Taken(PathBuf),
    /// The system refused.
    #[error("{path}: {source}")]
    System {
        /// What it is about.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl Socket {
    /// Takes one over that the service manager made.
    ///
    /// # Errors
    /// When it cannot be put into the mode that does not block.
    pub fn inherited(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener, made: None })
    }

    /// Makes one at the first of these paths where that is possible.
    ///
    /// # Errors
    /// Why it is not possible at the first of them; none for no path.
    pub fn make(paths: &[PathBuf], door: Door) -> Result<Self, Option<SocketError>> {
        let mut first = None;
        for path in paths {
            match make_at(path, door) {
                Ok(socket) => return Ok(socket),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first)
    }

    /// Returns the file that was made for it.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.made.as_ref().map(|(path, _, _)| path.as_path())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some((path, device, inode)) = &self.made else { return };
        // Another daemon may have put its own there meanwhile.
        if fs::symlink_metadata(path).is_ok_and(|now| now.dev() == *device && now.ino() == *inode) {
            drop(fs::remove_file(path));
        }
    }
}

fn make_at(path: &Path, door: Door) -> Result<Socket, SocketError> {
    let failed = |source: io::Error| SocketError::System { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        let made = fs::DirBuilder::new().mode(DIRECTORY_MODE).create(directory);
        made.or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
            .map_err(|source| SocketError::System { path: directory.to_owned(), source })?;
    }
    clear(path)?;
    let fd = bound(path).map_err(failed)?;
    let found = fs::symlink_metadata(path).map_err(failed)?;
    let socket = Socket { listener: UnixListener::from(fd), made: Some((path.to_owned(), found.dev(), found.ino())) };
    permit(path, door).map_err(failed)?;
    Ok(socket)
}

/// Removes what a dead daemon left.
fn clear(path: &Path) -> Result<(), SocketError> {
    let failed = |source: io::Error| SocketError::System { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NoSocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        // Nobody has it open: what is left of a daemon that was killed.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(failed(error)),
        // A full queue (EAGAIN) is somebody who listens; so is another kind of socket (EPROTOTYPE).
        Ok(_) | Err(_) => Err(SocketError::Taken(path.to_owned())),
    }
}

/// Makes a listening socket that only its owner can connect to.
fn bound(path: &Path) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // The file takes the socket's mode when it is bound, so there is no moment in which others may connect.
    fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(fd)
}

/// Lets those in whom the socket is for.
fn permit(path: &Path, door: Door) -> io::Result<()> {
    let mode = match door {
        Door::Stats => 0o666,
        Door::Control => {
            if let Some(group) = group() {
                chown(path, None, Some(group))?;
            }
            0o660
        }
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Returns the group to give the socket to: only root may, and for a service the group is its own.
fn group() -> Option<Gid> {
    if !Uid::effective().is_root() {
        return None;
    }
    group_in(&fs::read_to_string(GROUPS).ok()?)
}

/// Finds [`GROUP`] in the format of group(5). Not through the name service switch: its modules may ask the network, and
/// so the resolver that is about to start, and each stays in memory.
fn group_in(file: &str) -> Option<Gid> {
    let gid = file.lines().find_map(|line| line.strip_prefix(GROUP)?.strip_prefix(':')?.split(':').nth(1))?;
    gid.parse().ok().map(Gid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn everybody_may_read_stats_and_only_owner_and_group_control() {
        let folder = tempfile::tempdir().unwrap();
        for (door, expected) in [(Door::Stats, 0o666), (Door::Control, 0o660)] {
            let path = folder.path().join("made").join(door.file_name());
            let socket = Socket::make(std::slice::from_ref(&path), door).unwrap();
            assert_eq!((socket.path(), mode(&path)), (Some(path.as_path()), expected));
            UnixStream::connect(&path).unwrap();
            drop(socket);
            assert!(!path.exists(), "nothing is left");
        }
    }

    #[test]
    fn the_group_is_found_by_its_whole_name() {
        let file = "root:x:0:\ntruename-dev:x:7:\n#truename:x:8:\ntruename:x:991:ann,bob\n";
        assert_eq!(group_in(file), Some(Gid::from_raw(991)));
        assert_eq!(group_in("truename:x:many:\n"), None);
        assert_eq!(group_in("truename\n"), None);
    }

    #[test]
    fn what_a_dead_daemon_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stats.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _socket = Socket::make(std::slice::from_ref(&path), Door::Stats).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn another_programs_socket_or_file_is_left_alone_and_the_next_place_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (living, file, free) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("c"));
        let other = UnixListener::bind(&living).unwrap();
        fs::write(&file, "mine").unwrap();
        let error = Socket::make(&[living.clone(), file.clone()], Door::Stats).unwrap_err().unwrap();
        assert!(matches!(error, SocketError::Taken(path) if path == living));
        assert!(matches!(make_at(&file, Door::Stats), Err(SocketError::NoSocket(_))));
        let socket = Socket::make(&[living.clone(), file.clone(), free.clone()], Door::Stats).unwrap();
        assert_eq!(socket.path(), Some(free.as_path()));
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        UnixStream::connect(&living).unwrap();
        assert!(other.accept().is_ok());
    }

    #[test]
    fn a_socket_that_took_the_place_of_ours_is_not_removed_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stats.sock");
        let ours = Socket::make(std::slice::from_ref(&path), Door::Stats).unwrap();
        fs::remove_file(&path).unwrap();
        // Held, so that its inode is another.
        let _theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
    }
}
