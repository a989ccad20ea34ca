//! One at a time: taking over, giving back and taking again change the same things, and two of them at once would each undo
//! what the other does.
//!
//! The lock files are below /run, so that nothing is left for the next boot, and the kernel gives a lock up with its process.

use super::Machine;
use crate::system::lock::{Claim, Lock, claim};
use std::fs;
use std::io;
use std::thread::sleep;
use std::time::Duration;

/// Held by whoever changes names, for as long as that takes.
const WORK: &str = "/run/truename-takeover.lock";
/// Held by a command, which has a unit do the work.
const COMMAND: &str = "/run/truename-up.lock";
/// How long work waits for its turn: what is before it takes milliseconds, or the patience of a canary. Less than a unit has to
/// stop (TimeoutStopSec).
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a command waits that must not be refused: longer than another one may have systemctl start the daemon and then the
/// take-over, twice the 130 s that `command` gives it.
const COMMAND_PATIENCE: Duration = Duration::from_secs(280);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until nobody else changes names.
pub(super) fn for_work(machine: &Machine) -> io::Result<Lock> {
    wait(machine, WORK, PATIENCE)
}

/// Claims the turn of a command such as `truename up`. One that must not be refused has patience.
///
/// # Errors
/// When another command has it, and which; or it cannot be claimed.
pub fn for_command(machine: &Machine, is_patient: bool) -> io::Result<Lock> {
    wait(machine, COMMAND, if is_patient { COMMAND_PATIENCE } else { Duration::ZERO })
}

fn wait(machine: &Machine, path: &str, patience: Duration) -> io::Result<Lock> {
    let path = machine.at(path);
    // It is there on every machine that has booted.
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    let mut waited = Duration::ZERO;
    loop {
        match claim(&path)? {
            Claim::Ours(lock) => return Ok(lock),
            Claim::Taken(pid) if waited >= patience => {
                let who = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
                let found = format!("another truename is changing where the names of this machine go{who}");
                return Err(io::Error::new(io::ErrorKind::WouldBlock, found));
            }
            Claim::Taken(_) => sleep(PAUSE),
        }
        waited += PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_comes_second_is_told_who_is_first_and_work_waits() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::below(folder.path());
        let first = for_command(&machine, false).unwrap();
        let error = for_command(&machine, false).unwrap_err();
        assert!(error.to_string().contains(&format!("(pid {})", std::process::id())), "{error}");
        // What it has a unit do is not kept waiting by itself.
        drop(for_work(&machine).unwrap());
        let waiting = {
            let machine = machine.clone();
            std::thread::spawn(move || for_command(&machine, true).map(drop))
        };
        drop(first);
        waiting.join().unwrap().unwrap();
    }
}
