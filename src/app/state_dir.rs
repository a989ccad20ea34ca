//! Where truename keeps what outlives it.

use std::env;
use std::path::{Path, PathBuf};

/// Returns the state directory: the service manager's, else the user's own; `None` when there is neither.
pub(super) fn state_dir() -> Option<PathBuf> {
    choose(|name| env::var_os(name).map(PathBuf::from))
}

fn choose(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|path| path.is_absolute());
    // systemd lists several, parted by colons, when a unit asks for several.
    let given = variable("STATE_DIRECTORY").and_then(|list| list.to_str()?.split(':').next().map(PathBuf::from));
    let of_user = || set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    given.filter(|path| path.is_absolute()).or_else(|| Some(of_user()?.join(Path::new("truename"))))
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
