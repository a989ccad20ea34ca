//! Where the sockets are: the same order for the daemon, which makes them, and for commands, which look for them.

use crate::config::SocketPlace;
use std::env;
use std::path::{Path, PathBuf};

/// The runtime directory of a service.
const OF_SERVICE: &str = "/run/truename";
/// The variable that says which socket commands are to use.
pub const VARIABLE: &str = "TRUENAME_SOCKET";

/// One of the two sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// For everybody: sums.
    Stats,
    /// For those who may act: everything.
    Control,
}

impl Door {
    /// Returns the file's name.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Stats => "stats.sock",
            Self::Control => "control.sock",
        }
    }

    /// Returns the name a service manager gives its descriptor.
    #[must_use]
    pub fn descriptor_name(self) -> &'static str {
        match self {
            Self::Stats => "stats",
            Self::Control => "control",
        }
    }
}

/// Lists the runtime directories, the best first: the service manager's, the system's, the user's.
fn directories(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    // systemd lists several, parted by colons, when a unit asks for several.
    let given = variable("RUNTIME_DIRECTORY").and_then(|list| list.to_str()?.split(':').next().map(PathBuf::from));
    if let Some(given) = given.filter(|path| path.is_absolute()) {
        return vec![given];
    }
    let of_user = variable("XDG_RUNTIME_DIR").filter(|path| path.is_absolute()).map(|path| path.join("truename"));
    [PathBuf::from(OF_SERVICE)].into_iter().chain(of_user).collect()
}

/// Lists the paths a daemon may make a socket at, the best first; empty when it is turned off.
#[must_use]
pub fn wanted(place: &SocketPlace, door: Door) -> Vec<PathBuf> {
    match place {
        SocketPlace::Off => Vec::new(),
        SocketPlace::Path(path) => vec![path.clone()],
        SocketPlace::Auto => {
            let all = directories(|name| env::var_os(name).map(PathBuf::from));
            all.into_iter().map(|directory| directory.join(door.file_name())).collect()
        }
    }
}

/// Finds the socket a command is to use: the one named, else the first that is there, else the first that could be.
#[must_use]
pub fn find(named: Option<&Path>, door: Door) -> PathBuf {
    named.map(Path::to_path_buf).filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| {
        let mut all = wanted(&SocketPlace::Auto, door);
        let there = all.iter().position(|path| path.exists()).unwrap_or(0);
        all.swap_remove(there)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_managers_directory_is_the_only_one_and_the_users_the_last() {
        let with = |set: &[(&str, &str)]| {
            let find = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, path)| PathBuf::from(path));
            directories(find).iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let xdg = ("XDG_RUNTIME_DIR", "/run/user/1000");
        assert_eq!(with(&[("RUNTIME_DIRECTORY", "/run/a:/run/b"), xdg]), ["/run/a"]);
        assert_eq!(with(&[xdg]), ["/run/truename", "/run/user/1000/truename"]);
        assert_eq!(with(&[("XDG_RUNTIME_DIR", "relative")]), ["/run/truename"]);
    }
}
