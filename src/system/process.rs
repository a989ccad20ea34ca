//! What this process takes of the machine, as /proc tells it. What cannot be read counts as nothing.

use std::fs::{self, File};
use std::io::Read;

/// USER_HZ, in which /proc counts CPU time; 100 on every architecture Linux has (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Octets read of a file: /proc/self/status has 1,400.
const MAX_FILE_BYTES: usize = 4096;

/// What it takes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Resident memory.
    pub resident_bytes: u64,
    /// Open files.
    pub open_files: u64,
    /// Threads.
    pub threads: u64,
    /// CPU time, user and system, in seconds.
    pub cpu_seconds: f64,
}

/// Reads it.
#[must_use]
pub fn usage() -> Usage {
    let (status, stat) = (read("/proc/self/status"), read("/proc/self/stat"));
    // The one that lists them is among them.
    let open_files = fs::read_dir("/proc/self/fd").map_or(0, |files| files.count().saturating_sub(1));
    Usage {
        resident_bytes: field(&status, "VmRSS:") * 1024,
        open_files: u64::try_from(open_files).unwrap_or(u64::MAX),
        threads: field(&status, "Threads:"),
        cpu_seconds: cpu_seconds(&stat),
    }
}

/// Reads a file that does not know its length, with as few calls as it takes: each time such a file is read it is made anew.
fn read(path: &str) -> String {
    let (mut buffer, mut len) = ([0; MAX_FILE_BYTES], 0);
    let mut file = File::open(path);
    while let Ok(read @ 1..) = file.as_mut().map_or(Ok(0), |file| file.read(&mut buffer[len..])) {
        len += read;
    }
    String::from_utf8_lossy(&buffer[..len]).into_owned()
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn cpu_seconds(stat: &str) -> f64 {
    // The program's name stands in parentheses and may hold anything; behind it utime and stime are 12th and 13th.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    (f64::from(ticks(11)) + f64::from(ticks(12))) / TICKS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_something() {
        let usage = usage();
        assert!(usage.resident_bytes > 1 << 20 && usage.open_files > 2 && usage.threads > 0, "{usage:?}");
    }

    #[test]
    fn a_name_with_parentheses_and_blanks_is_passed_over() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20";
        assert!((cpu_seconds(stat) - 2.0).abs() < 0.001);
    }
}
