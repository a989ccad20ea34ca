//! How many files and sockets this process may open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open files to `wanted`, or as near as the hard limit allows; never lowers it. The soft
/// limit of 1024 is there for programs that use select(2), which this one does not.
pub fn raise_limit(wanted: u64) {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let aim = wanted.min(hard);
    if soft < aim
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, aim, hard)
    {
        tracing::warn!(%error, soft, wanted, "cannot raise the limit of open files");
    }
}

/// Returns how many files this process may open; none is known when the kernel does not say.
#[must_use]
pub fn limit() -> Option<u64> {
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_and_never_lowered() {
        let (before, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        raise_limit(1);
        assert_eq!(limit(), Some(before));
        raise_limit(u64::MAX);
        assert_eq!(limit(), Some(hard));
    }
}
