//! Other programs, run with a bound on their time and on what they say.

use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long one may take. `systemctl start` waits for the daemon, which may take 20 s (TimeoutStartSec); the rest takes
/// milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Octets read of what it says.
const MAX_SAID_BYTES: u64 = 256 << 10;
/// Where programs are looked for: a service's or a user's own list may lack the folders of root.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a program said.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    /// It ended with status 0.
    pub(super) ok: bool,
    pub(super) out: String,
    pub(super) err: String,
}

impl Said {
    /// Returns the last line in which it complained, or what it said at all.
    pub(super) fn complaint(&self) -> String {
        let last = |text: &str| text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned);
        last(&self.err).or_else(|| last(&self.out)).unwrap_or_else(|| "it failed without a word".to_owned())
    }
}

/// Runs a program and waits for its end.
///
/// # Errors
/// When it is not there, cannot be run, or takes too long; it is killed then.
pub(super) fn run(program: &str, args: &[&str]) -> io::Result<Said> {
    run_with(program, args, "")
}

/// Does the same with something on its standard input.
pub(super) fn run_with(program: &str, args: &[&str], input: &str) -> io::Result<Said> {
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input is no failure; it is short enough for the pipe.
        drop(io::Write::write_all(&mut stdin, input.as_bytes()));
    }
    let (done, ended) = mpsc::channel();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let errors = thread::spawn(move || text(err));
    thread::spawn(move || drop(done.send(text(out))));
    // It has ended when it says no more. One that leaves a child behind with its output open would be waited for in vain.
    let Ok(out) = ended.recv_timeout(PATIENCE) else {
        end(&mut child);
        return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no end within {} s", PATIENCE.as_secs())));
    };
    let ok = child.wait()?.success();
    Ok(Said { ok, out, err: errors.join().unwrap_or_default() })
}

fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

fn text(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        drop(from.by_ref().take(MAX_SAID_BYTES).read_to_end(&mut bytes));
        // Read on, so that it is not stopped by a full pipe.
        drop(io::copy(&mut from, &mut io::sink()));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs a program that must succeed; the error says which and why.
pub(super) fn must(program: &str, args: &[&str]) -> io::Result<Said> {
    let called = || format!("{program} {}", args.join(" "));
    let said = run(program, args).map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", called())))?;
    if said.ok { Ok(said) } else { Err(io::Error::other(format!("`{}`: {}", called(), said.complaint()))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_and_how_it_ends_is_known() {
        let said = run_with("sh", &["-c", "cat; echo no >&2; exit 3"], "in").unwrap();
        assert_eq!((said.ok, said.out.as_str(), said.err.as_str()), (false, "in", "no\n"));
        assert_eq!(said.complaint(), "no");
        let error = must("sh", &["-c", "echo a; echo b >&2; exit 1"]).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c echo a; echo b >&2; exit 1`: b");
        assert_eq!(run("truename-is-no-program", &[]).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_read_of_a_program_has_a_bound() {
        let said = run("sh", &["-c", "head -c 400000 /dev/zero; head -c 400000 /dev/zero >&2"]).unwrap();
        assert_eq!((said.ok, said.out.len(), said.err.len()), (true, 256 << 10, 256 << 10));
    }
}
