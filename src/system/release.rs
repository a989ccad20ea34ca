//! Which system this is, in its own words.

use std::fs;
use std::path::Path;

/// Where systems say so, the file that counts first (os-release(5)).
const FILES: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
/// The line that is for people.
const KEY: &str = "PRETTY_NAME=";
/// Characters of a name at most.
const MAX_CHARS: usize = 100;

/// Returns the name and version of the system; nothing when it does not say.
#[must_use]
pub fn name() -> Option<String> {
    FILES.iter().find_map(|file| name_in(&fs::read_to_string(Path::new(file)).ok()?))
}

fn name_in(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.trim().strip_prefix(KEY))?;
    let name: String = value.trim_matches(['"', '\'']).chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_for_people_and_short() {
        let text = "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\n";
        assert_eq!(name_in(text).as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(name_in("PRETTY_NAME='Alpine'\n").as_deref(), Some("Alpine"));
        assert_eq!(name_in("NAME=x\nPRETTY_NAME=\n"), None);
        assert_eq!(name_in(&format!("PRETTY_NAME={}\u{7}", "x".repeat(500))).unwrap(), "x".repeat(MAX_CHARS));
    }
}
