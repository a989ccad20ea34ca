//! The packages of the binary under test, made by `packaging/build` as those of a release are.

use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, create_dir_all, read_dir, read_to_string, write};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

#[path = "../../packaging/pages/make.rs"]
pub(crate) mod pages;

/// What packages are made with; `.ci/run` installs them.
const TOOLS: [&str; 4] = ["cargo-deb", "cargo-generate-rpm", "strip", "dpkg-shlibdeps"];
/// What packages are made of, beside the binary.
const SOURCES: [&str; 6] =
    ["packaging", "systemd", "docs/man", "docs/operations.md", "config/truename.toml", "Cargo.toml"];
/// A moment that all time stamps in the packages are, so that they differ in nothing but their revision.
const MOMENT: &str = "1700000000";

/// A folder with two revisions of every package, in `1` and `2`.
pub(crate) struct Packages {
    /// Where they are.
    pub(crate) folder: PathBuf,
}

impl Packages {
    /// Makes them, or takes those that were made of the same files.
    ///
    /// None where they cannot be made for want of tools. With CI=true the test fails then.
    pub(crate) fn made() -> Option<Self> {
        let missing: Vec<&str> = TOOLS.into_iter().filter(|tool| !is_here(tool)).collect();
        if !missing.is_empty() {
            assert!(
                std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                "{missing:?} are not here; in CI they must be"
            );
            let note = format!("skipped: packages are made with {missing:?}\n");
            std::io::stderr().write_all(note.as_bytes()).expect("stderr is there");
            return None;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        create_dir_all(&folder).unwrap();
        // Tests in other processes wait here while one of them makes them.
        let _held = Flock::lock(File::create(folder.join("lock")).unwrap(), FlockArg::LockExclusive).unwrap();
        let stamp = folder.join("made-of");
        let made_of = format!("{:?}", newest());
        if read_to_string(&stamp).is_ok_and(|text| text == made_of) {
            return Some(Self { folder });
        }
        drop(std::fs::remove_file(&stamp));
        for revision in ["1", "2"] {
            build(&folder.join(revision), revision, &[]);
        }
        write(&stamp, made_of).unwrap();
        Some(Self { folder })
    }

    /// Returns the package of a revision whose name ends so.
    pub(crate) fn package(&self, revision: &str, end: &str) -> PathBuf {
        let mut found = read_dir(self.folder.join(revision)).unwrap().map(|entry| entry.unwrap().path());
        found.find(|path| path.to_string_lossy().ends_with(end)).unwrap()
    }
}

/// Makes all packages of the binary under test, in an environment with these variables; returns their sums.
pub(crate) fn build(out: &Path, revision: &str, variables: &[(&str, &str)]) -> String {
    drop(std::fs::remove_dir_all(out));
    let written = tempfile::tempdir().unwrap();
    pages::write(written.path()).unwrap();
    let made = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/build"))
        .args(["--fast", "--revision", revision, "--binary", env!("CARGO_BIN_EXE_truename"), "--pages"])
        .arg(written.path())
        .arg("--out")
        .arg(out)
        .env("SOURCE_DATE_EPOCH", MOMENT)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    read_to_string(out.join("SHA256SUMS")).unwrap()
}

fn is_here(tool: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(tool).exists()))
}

/// Returns when the last of all that packages are made of was changed.
fn newest() -> SystemTime {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut newest = std::fs::metadata(env!("CARGO_BIN_EXE_truename")).unwrap().modified().unwrap();
    let mut paths: Vec<PathBuf> = SOURCES.iter().map(|source| root.join(source)).collect();
    while let Some(path) = paths.pop() {
        newest = newest.max(std::fs::metadata(&path).unwrap().modified().unwrap());
        if path.is_dir() {
            paths.extend(read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    newest
}
