//! How many files this process may have open: every query to an upstream has a socket of its own.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Open files asked for: `max_in_flight` at its default with several queries each, and the connections. A shell and
/// systemd give 1,024 for the sake of programs that call select(2), and leave it to each program to ask for more.
const WANTED_FILES: u64 = 65_536;

/// Raises the limit of open files as far as that is allowed, and returns what it is.
///
/// # Errors
/// What the kernel said.
pub fn raise_open_files() -> std::io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = WANTED_FILES.min(hard);
    if soft >= wanted {
        return Ok(soft);
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    Ok(wanted)
}
