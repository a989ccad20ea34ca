//! Other programs, run with a bound on their time and on what they say.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;
use tokio::time::Instant;

/// How long one may take; they take milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long systemctl may: it waits for the take-over's own unit, to be undone (30 s, TimeoutStopSec), to start (60 s,
/// TimeoutStartSec) and to be undone again.
const MANAGER_PATIENCE: Duration = Duration::from_secs(130);
/// How long is waited for the rest of what one said that has ended; only a child that it left behind can keep its pipes open.
const GRACE: Duration = Duration::from_millis(200);
/// Pause between two looks whether one has ended that says nothing more.
const LOOK: Duration = Duration::from_millis(5);
/// Octets read of what it says.
const MAX_SAID_BYTES: usize = 256 << 10;
/// Where programs are looked for: a service's or a user's own list may lack the folders of root. The last is NixOS's only one.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";

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
    run_for(patience(program), program, args, input)
}

fn run_for(patience: Duration, program: &str, args: &[&str], input: &str) -> io::Result<Said> {
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
    let (done, said) = mpsc::channel();
    let out = Reading::start(child.stdout.take(), done.clone());
    let err = Reading::start(child.stderr.take(), done);
    let ended = wait(&mut child, &said, patience)?;
    // Nobody sends anything: it is over when both have been read to their end.
    let _ = said.recv_timeout(GRACE);
    Ok(Said { ok: ended.success(), out: out.text(), err: err.text() })
}

fn patience(program: &str) -> Duration {
    if program == "systemctl" { MANAGER_PATIENCE } else { PATIENCE }
}

/// Waits for its end, whatever becomes of its pipes: it may close them and go on, or end and leave them to a child.
fn wait(child: &mut Child, said: &mpsc::Receiver<()>, patience: Duration) -> io::Result<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(ended) = child.try_wait()? {
            return Ok(ended);
        }
        if Instant::now() >= deadline {
            drop(child.kill());
            drop(child.wait());
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no end within {} s", patience.as_secs())));
        }
        // Most end when they have said everything: then nothing is waited for.
        if said.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Disconnected) {
            thread::sleep(LOOK);
        }
    }
}

/// What is read of a pipe, by a thread that ends with it.
struct Reading(Arc<Mutex<Vec<u8>>>);

impl Reading {
    /// Reads on; `done` is dropped at the end.
    fn start(from: Option<impl Read + Send + 'static>, done: mpsc::Sender<()>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let reading = Arc::clone(&bytes);
        thread::spawn(move || {
            let Some(mut from) = from else { return };
            let mut piece = [0; 4096];
            loop {
                let len = match from.read(&mut piece) {
                    Ok(0) => break,
                    Ok(len) => len,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(_) => break,
                };
                let mut bytes = reading.lock().unwrap_or_else(PoisonError::into_inner);
                // Read on behind the bound, so that it is not stopped by a full pipe.
                let room = MAX_SAID_BYTES.saturating_sub(bytes.len());
                bytes.extend_from_slice(&piece[..len.min(room)]);
            }
            drop(done);
        });
        Self(bytes)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
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

    #[test]
    fn one_that_leaves_its_pipes_to_a_child_has_ended_all_the_same() {
        let (done, ended) = mpsc::channel();
        thread::spawn(move || drop(done.send(run("sh", &["-c", "echo said; echo more >&2; sleep 25 & exit 0"]))));
        let said = ended.recv_timeout(Duration::from_secs(15)).expect("it has ended long before its child").unwrap();
        assert_eq!((said.ok, said.out.as_str(), said.err.as_str()), (true, "said\n", "more\n"));
    }

    #[test]
    fn one_that_closes_its_pipes_and_goes_on_is_ended() {
        let (done, ended) = mpsc::channel();
        let patience = Duration::from_secs(1);
        thread::spawn(move || {
            let said = run_for(patience, "sh", &["-c", "exec >&- 2>&-; exec sleep 25"], "");
            drop(done.send(said.map_err(|error| error.kind())));
        });
        let said = ended.recv_timeout(Duration::from_secs(15)).expect("it is not waited for");
        assert_eq!(said.unwrap_err(), io::ErrorKind::TimedOut);
    }
}
