//! Which process a folder's files belong to: an advisory lock on a file of its own (flock(2)). The kernel gives it up
//! with the process that holds it, however that ends, so no lock is ever left behind; the file is, and means nothing.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Octets read of the process id in a lock file.
const PID_BYTES: u64 = 16;

/// A lock; dropping it gives it up.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// What became of a claim.
#[derive(Debug)]
pub enum Claim {
    /// Nobody else has it.
    Ours(Lock),
    /// Somebody else has it: the process with this id, as far as it has said so.
    Taken(Option<u32>),
}

/// Claims a lock file, which is made when it is not there. Does not wait.
///
/// # Errors
/// When the file cannot be opened, or stands where there are no locks.
pub fn claim(path: &Path) -> io::Result<Claim> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) => {
            // On a full disk nobody reads who has it, but it is ours.
            let _unsaid = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            Ok(Claim::Ours(Lock { _file: file }))
        }
        Err((file, Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            file.take(PID_BYTES).read_to_string(&mut text)?;
            Ok(Claim::Taken(text.trim().parse().ok()))
        }
        Err((_, errno)) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_it_and_the_other_knows_who() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        // A longer text of somebody before is not mixed into ours.
        std::fs::write(&path, "4000000000\n").unwrap();
        let Claim::Ours(first) = claim(&path).unwrap() else { panic!("nobody has it") };
        // Locks belong to open files, so that one process can stand for two.
        assert!(matches!(claim(&path).unwrap(), Claim::Taken(Some(pid)) if pid == std::process::id()));
        drop(first);
        assert!(matches!(claim(&path).unwrap(), Claim::Ours(_)));
        assert!(claim(folder.path()).is_err(), "a folder cannot be written to");
    }
}
