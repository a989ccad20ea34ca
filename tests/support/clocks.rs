//! The clocks of a process, in the hand of a test: the real binary, with what the C library says about time moved.

use super::daemon::binary;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// The clocks of one process.
pub(crate) struct Clocks {
    folder: TempDir,
    offsets: File,
}

/// One of them, by its place in the file.
#[derive(Clone, Copy)]
enum Which {
    Wall = 0,
    Monotonic = 1,
    Boot = 2,
}

impl Clocks {
    /// Makes clocks that are right.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/clocks.c");
        let library = folder.path().join("clocks.so");
        let made = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        assert!(made.unwrap().success(), "what links Rust programs makes this library too");
        let offsets =
            File::options().read(true).write(true).create_new(true).open(folder.path().join("offsets")).unwrap();
        offsets.write_all_at(&[0; 24], 0).unwrap();
        Self { folder, offsets }
    }

    /// Returns a command that runs the binary under test by these clocks.
    pub(crate) fn binary(&self) -> Command {
        let mut command = binary();
        command.env("LD_PRELOAD", self.folder.path().join("clocks.so"));
        command.env("CLOCK_OFFSETS", self.folder.path().join("offsets"));
        command
    }

    /// Returns one whose kernel refuses netlink.
    pub(crate) fn binary_without_netlink(&self) -> Command {
        let mut command = self.binary();
        command.env("DENY_NETLINK", "1");
        command
    }

    /// The machine sleeps: only CLOCK_BOOTTIME and the wall clock go on.
    pub(crate) fn sleep(&self, asleep: Duration) {
        self.add(Which::Boot, ms(asleep));
        self.add(Which::Wall, ms(asleep));
    }

    /// Time passes.
    pub(crate) fn pass(&self, time: Duration) {
        self.add(Which::Monotonic, ms(time));
        self.sleep(time);
    }

    /// Sets the wall clock so many days off.
    pub(crate) fn set_wall_off(&self, days: i64) {
        self.set(Which::Wall, days * 86_400_000);
    }

    fn add(&self, which: Which, ms: i64) {
        let mut bytes = [0; 8];
        self.offsets.read_exact_at(&mut bytes, which as u64 * 8).unwrap();
        self.set(which, i64::from_ne_bytes(bytes) + ms);
    }

    fn set(&self, which: Which, ms: i64) {
        self.offsets.write_all_at(&ms.to_ne_bytes(), which as u64 * 8).unwrap();
    }
}

fn ms(time: Duration) -> i64 {
    time.as_millis().try_into().unwrap()
}
