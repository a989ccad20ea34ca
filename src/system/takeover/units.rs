//! The units that keep names taken over while the daemon runs, and give them back when it does not.

use super::apply::{self, ApplyError, Reclaimed, Released};
use super::command::{must, run};
use super::plan::Method;
use super::record::put;
use super::{Machine, left};
use crate::clock;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What serves.
const SERVING: [&str; 4] = ["truename.socket", "truename-stats.socket", "truename-control.socket", "truename.service"];
/// Takes over with the daemon and gives back without it.
const TAKEOVER: &str = "truename-takeover.service";
/// Gives back, at a boot, what a machine without power could not.
const RESCUE: &str = "truename-rescue.service";
/// Ends a trial.
const TRIAL: &str = "truename-trial";
/// What somebody asked for, for the unit; beside the record, but not in it: a release ends the record and no wish.
const WISH: &str = "/var/lib/truename-takeover/wish.json";
/// Between two tries to end a trial, in seconds. It is tried until it is done: perhaps nobody can reach the machine otherwise.
const TRIAL_AGAIN: u32 = 5;
/// Octets of a wish.
const MAX_WISH_BYTES: usize = 4 << 10;
/// Lines of a unit's complaint that are shown.
const MAX_LINES: usize = 20;

/// A trial: how long names stay with us unless somebody says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial(pub Duration);

/// What somebody asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// The way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// The end of a trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_until: Option<String>,
}

/// Why a unit did not do its part.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// systemctl could not.
    #[error(transparent)]
    Manager(#[from] io::Error),
    /// The take-over failed; its own words.
    #[error("{0}")]
    TakeOver(String),
}

/// What of the daemon was there before it was started here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// Units that no boot starts.
    disabled: Vec<&'static str>,
    /// Units that did not run.
    stopped: Vec<&'static str>,
}

impl Before {
    fn look() -> Self {
        // One word a line, in the order in which they are named; a failed unit is none that runs.
        let not = |what: &str, words: &[&str]| {
            let said = run("systemctl", &[&[what][..], &SERVING].concat()).unwrap_or_default();
            of_another_state(&said.out, words)
        };
        Self {
            disabled: not("is-enabled", &["enabled", "enabled-runtime", "linked", "alias", "static"]),
            stopped: not("is-active", &["active", "activating", "reloading"]),
        }
    }

    /// Makes it so again.
    ///
    /// # Errors
    /// What systemctl says.
    pub fn restore(&self) -> Result<(), UnitError> {
        let with = |words: &[&'static str], units: &[&'static str]| match units {
            [] => Ok(()),
            units => must("systemctl", &[words, units].concat()).map(drop),
        };
        let stopped = with(&["stop"], &self.stopped);
        with(&["disable", "--quiet"], &self.disabled)?;
        // The daemon's unit takes its sockets with it; those that were enabled alone are so again.
        let enabled: Vec<_> = SERVING.into_iter().filter(|unit| !self.disabled.contains(unit)).collect();
        if !self.disabled.is_empty() {
            with(&["enable", "--quiet"], &enabled)?;
        }
        stopped?;
        Ok(())
    }
}

/// Returns the units of [`SERVING`] that `systemctl` gave none of these words for.
fn of_another_state(said: &str, words: &[&str]) -> Vec<&'static str> {
    let mut lines = said.lines();
    SERVING.into_iter().filter(|_| !lines.next().is_some_and(|line| words.contains(&line.trim()))).collect()
}

/// Starts the daemon and its sockets, at every boot; returns what was there before.
///
/// # Errors
/// What systemctl says; all is as it was then.
pub fn serve() -> Result<Before, UnitError> {
    let before = Before::look();
    // One that has failed too often is tried anew: somebody asks for it.
    drop(run("systemctl", &[&["reset-failed"][..], &SERVING].concat()));
    let started = must("systemctl", &[&["enable", "--now", "--quiet"][..], &SERVING].concat());
    if started.is_err() {
        drop(before.restore());
    }
    started?;
    Ok(before)
}

/// Has the daemon read its configuration again.
///
/// # Errors
/// What systemctl says, for one that does not run as well.
pub fn reload() -> Result<(), UnitError> {
    must("systemctl", &["reload", "truename.service"])?;
    Ok(())
}

/// Has the unit take names over, at every boot, or for a trial.
///
/// # Errors
/// What the take-over says; names are where they were before.
pub fn take_over(
    machine: &Machine,
    method: Option<Method>,
    trial: Option<Trial>,
    program: &str,
) -> Result<(), UnitError> {
    let end = trial.map(|Trial(time)| (time, clock::wall() + time));
    let wish = Wish { method, trial_until: end.map(|(_, end)| written(end)) };
    let text = serde_json::to_vec(&wish).map_err(io::Error::other)?;
    let path = machine.at(WISH);
    end_trial(false);
    if let Some((time, end)) = end {
        // The manager waits: it outlives us and the daemon. A boot ends it, as it ends the trial.
        must("systemd-run", &timer(time, end, program).each_ref().map(String::as_str))?;
    }
    // Behind the timer: nothing is wished for that nobody would end.
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    put(&path, &text, 0o644)?;
    let begun = begin(trial.is_some());
    if begun.is_err() {
        drop(forget(machine));
        // It would try again by itself.
        drop(run("systemctl", &["stop", TAKEOVER]));
        drop(fs::remove_file(&path));
        drop(left::forget(machine));
    }
    begun
}

/// Writes the end of a trial, which is also what tells it from another.
fn written(end: SystemTime) -> String {
    humantime::format_rfc3339_seconds(end).to_string()
}

/// Says how long and until when, whichever comes first: the one does not count the time in which a machine sleeps, and the
/// other follows a clock that may be set back.
///
/// What it runs is tried again until it succeeds, and knows which trial it ends.
fn timer(time: Duration, end: SystemTime, program: &str) -> [String; 13] {
    let seconds = end.duration_since(UNIX_EPOCH).map_or(0, |end| end.as_secs());
    [
        "--quiet".to_owned(),
        "--collect".to_owned(),
        format!("--unit={TRIAL}"),
        format!("--on-active={}", time.as_secs().max(1)),
        format!("--on-calendar=@{seconds}"),
        "--timer-property=AccuracySec=1s".to_owned(),
        "--property=Restart=on-failure".to_owned(),
        format!("--property=RestartSec={TRIAL_AGAIN}s"),
        "--property=StartLimitIntervalSec=0".to_owned(),
        program.to_owned(),
        "down".to_owned(),
        "--trial-end".to_owned(),
        written(end),
    ]
}

fn begin(is_trial: bool) -> Result<(), UnitError> {
    if is_trial {
        // One that was permanent would come back with a boot.
        must("systemctl", &["disable", "--quiet", TAKEOVER])?;
    }
    let enable: &[&str] = if is_trial { &["enable", "--runtime", "--quiet"] } else { &["enable", "--quiet"] };
    must("systemctl", &[enable, &[TAKEOVER]].concat())?;
    // What a trial has written to disk must be found at the next boot too.
    must("systemctl", &["enable", "--quiet", RESCUE])?;
    drop(run("systemctl", &["reset-failed", TAKEOVER]));
    // Anew: what it was told may be another wish.
    if !run("systemctl", &["restart", TAKEOVER])?.ok {
        return Err(UnitError::TakeOver(complaint()));
    }
    Ok(())
}

/// Returns what the unit said when it last failed.
fn complaint() -> String {
    let id = run("systemctl", &["show", "--value", "--property=InvocationID", TAKEOVER]).unwrap_or_default();
    let matching = format!("_SYSTEMD_INVOCATION_ID={}", id.out.trim());
    let said = run("journalctl", &["--no-pager", "--quiet", "-o", "cat", &matching]).unwrap_or_default();
    let lines: Vec<&str> = said.out.lines().filter(|line| !line.trim().is_empty()).take(MAX_LINES).collect();
    if lines.is_empty() { format!("{TAKEOVER} failed: see journalctl -u {TAKEOVER}") } else { lines.join("\n") }
}

/// Ends a trial by keeping what it tried.
///
/// # Errors
/// What systemctl says.
pub fn keep(machine: &Machine) -> Result<(), UnitError> {
    end_trial(false);
    let wish = Wish { trial_until: None, ..wish(machine) };
    put(&machine.at(WISH), &serde_json::to_vec(&wish).map_err(io::Error::other)?, 0o644)?;
    must("systemctl", &["disable", "--runtime", "--quiet", TAKEOVER])?;
    must("systemctl", &["enable", "--quiet", TAKEOVER, RESCUE])?;
    Ok(())
}

/// Has the units give names back, for good. The unit that ends a trial says so: it must not stop itself.
///
/// # Errors
/// What systemctl says.
pub fn give_back(machine: &Machine, is_trial_end: bool) -> Result<(), UnitError> {
    end_trial(is_trial_end);
    let stopped = must("systemctl", &["stop", TAKEOVER]);
    forget(machine)?;
    match fs::remove_file(machine.at(WISH)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    left::forget(machine)?;
    stopped?;
    Ok(())
}

/// Has no boot begin it again. What gives names back at a boot stays as long as there is something to give back.
fn forget(machine: &Machine) -> io::Result<()> {
    // It complains of what was never enabled.
    drop(run("systemctl", &["disable", "--runtime", "--quiet", TAKEOVER]));
    must("systemctl", &["disable", "--quiet", TAKEOVER])?;
    if matches!(super::recorded(machine), Ok(None)) {
        must("systemctl", &["disable", "--quiet", RESCUE])?;
    }
    Ok(())
}

/// Ends the waiting for a trial's end, and an end that is still being tried.
fn end_trial(is_the_end: bool) {
    let (timer, service) = (format!("{TRIAL}.timer"), format!("{TRIAL}.service"));
    let units: &[&str] = if is_the_end { &[&timer] } else { &[&timer, &service] };
    drop(run("systemctl", &[&["stop"], units].concat()));
}

/// Tells whether the trial with this end is still on: nobody has kept or ended it, or begun another. One of which nothing can be
/// read is: names must not stay where perhaps nobody wants them.
#[must_use]
pub fn is_on_trial(machine: &Machine, until: &str) -> bool {
    match read_wish(machine) {
        Ok(Some(wish)) => wish.trial_until.as_deref() == Some(until),
        // It is gone before what was done is undone.
        Ok(None) => match super::recorded(machine) {
            Ok(record) => record.and_then(|record| record.trial_until).as_deref() == Some(until),
            Err(_) => true,
        },
        Err(_) => true,
    }
}

fn read_wish(machine: &Machine) -> io::Result<Option<Wish>> {
    let bytes = match fs::read(machine.at(WISH)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let bytes = bytes.get(..bytes.len().min(MAX_WISH_BYTES)).unwrap_or_default();
    serde_json::from_slice(bytes).map(Some).map_err(io::Error::other)
}

/// Reads what somebody asked for; nothing special when that cannot be read.
fn wish(machine: &Machine) -> Wish {
    read_wish(machine).ok().flatten().unwrap_or_default()
}

/// Takes names over as somebody asked for; why that failed is noted.
///
/// # Errors
/// As [`super::apply()`].
pub fn apply(machine: &Machine) -> Result<(), ApplyError> {
    let wish = wish(machine);
    let applied = apply::apply(machine, wish.method, wish.trial_until);
    // What cannot be noted is in the journal all the same.
    drop(match &applied {
        Ok(_) => left::forget(machine),
        Err(error) => left::note(machine, &error.to_string(), false),
    });
    applied.map(drop)
}

/// Takes resolv.conf again. Where that fails, names are taken over anew, as often as at a boot; why they are not is noted.
///
/// # Errors
/// As [`super::reclaim()`].
pub fn reclaim(machine: &Machine) -> io::Result<Reclaimed> {
    let reclaimed = apply::reclaim(machine);
    match &reclaimed {
        Ok(Reclaimed::LeftToOther) => {
            drop(left::note(machine, "another program goes on writing /etc/resolv.conf", true));
        }
        Err(error) => {
            drop(left::note(machine, &error.to_string(), false));
            // It stands as one that has done its work, and tries nothing by itself. This unit is stopped with it, so nobody waits.
            drop(run("systemctl", &["--no-block", "restart", TAKEOVER]));
        }
        Ok(_) => {}
    }
    reclaimed
}

/// Gives names back, unless the unit that takes them over has begun anew meanwhile: then they are its business.
///
/// # Errors
/// As [`super::release()`].
pub fn release_again(machine: &Machine) -> io::Result<Option<Released>> {
    apply::release_unless(machine, || {
        let said = run("systemctl", &["show", "--value", "--property=SubState", TAKEOVER]).unwrap_or_default();
        ["start", "start-post", "exited"].contains(&said.out.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::takeover::record::{self, Record};

    #[test]
    fn the_end_of_a_trial_knows_which_one_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::below(folder.path());
        let (this, other) = ("2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z");
        let is_on = || is_on_trial(&machine, this);
        assert!(!is_on(), "nothing is taken");
        let mut record = Record::new(Method::File);
        let wish = |until: Option<&str>| {
            let wish = Wish { trial_until: until.map(str::to_owned), ..Wish::default() };
            put(&machine.at(WISH), &serde_json::to_vec(&wish).unwrap(), 0o644).unwrap();
        };
        record::write(&machine, &record).unwrap();
        assert!(!is_on(), "it is permanent");
        record.trial_until = Some(this.to_owned());
        record::write(&machine, &record).unwrap();
        assert!(is_on(), "what was asked for is gone, and names are still taken");
        wish(Some(this));
        assert!(is_on());
        wish(Some(other));
        assert!(!is_on(), "another one was begun");
        wish(None);
        assert!(!is_on(), "it was kept");
        fs::write(machine.at(WISH), "{").unwrap();
        assert!(is_on(), "nobody knows");
    }

    #[test]
    fn what_was_not_there_before_is_known_line_by_line() {
        let words = ["active", "activating"];
        assert_eq!(of_another_state("active\nactive\nactive\nactive\n", &words), [""; 0]);
        assert_eq!(
            of_another_state("active\ninactive\nactive\nfailed\n", &words),
            ["truename-stats.socket", "truename.service"]
        );
        // Where systemctl says nothing, nothing was there.
        assert_eq!(of_another_state("", &words), SERVING);
    }
}
