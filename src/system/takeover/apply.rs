//! Carries a plan out, asks whether it worked, and undoes it.

use super::file::{self, Returned};
use super::look::look;
use super::plan::{Method, Plan, Refusal, Step, decide};
use super::record::{self, Record};
use super::{Machine, SD_BOOTED, canary, link, lists, turn};
use crate::clock;
use serde::Serialize;
use std::io;
use std::thread::sleep;
use std::time::{Duration, UNIX_EPOCH};

/// How often resolv.conf is taken again within [`WINDOW`]. A DHCP client writes it once a lease; who writes it more often than
/// this watches it, as we do.
const MAX_RETAKEN: usize = 10;
/// The time in which that is counted.
const WINDOW: Duration = Duration::from_secs(600);
/// How long a file is let alone that somebody has just closed.
const SETTLE: Duration = Duration::from_millis(300);

/// Why names were not taken over.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// There is no way on this machine.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What was done before cannot be read or undone.
    #[error("{0}")]
    Before(io::Error),
    /// It would be a trial that has ended, while nobody was there to end it.
    #[error("the trial is over")]
    TrialOver,
    /// The daemon does not answer; nothing was changed.
    #[error("{0}")]
    NotServing(io::Error),
    /// A step failed, or the canary did not come back; everything was undone, unless `left` says otherwise.
    #[error("{error}")]
    Failed {
        /// What failed.
        error: io::Error,
        /// What could not be undone.
        left: Option<io::Error>,
    },
}

/// What giving back came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Released {
    /// The steps that were undone.
    pub undone: Vec<Step>,
    /// resolv.conf was somebody else's by then, and is so still.
    pub left_to_other: bool,
    /// resolv.conf is that of another machine, copied or lent to this root, and was left as it is.
    pub of_another_machine: bool,
    /// What was done could not be read, and why; what was found of it was undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

/// What became of a resolv.conf that somebody wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reclaimed {
    /// It is ours, or need not be.
    NothingToDo,
    /// It is ours again; so often of late.
    TakenAgain(usize),
    /// It has been written too often: it is left to whoever does, and names are given back.
    LeftToOther,
}

/// Takes names over in the best way, or the one that is `wanted`. Once more is the same.
///
/// # Errors
/// When that cannot be, or did not work; the machine is then as it was before.
pub fn apply(machine: &Machine, wanted: Option<Method>, trial_until: Option<String>) -> Result<Record, ApplyError> {
    if trial_until.as_deref().is_some_and(record::is_over) {
        return Err(ApplyError::TrialOver);
    }
    let _turn = turn::for_work(machine).map_err(ApplyError::Before)?;
    // One that cannot be read is no reason to leave names as they are: the release finds what was done.
    if let Ok(Some(done)) = record::read(machine) {
        let is_same = wanted.is_none_or(|wanted| wanted == done.method) && trial_until == done.trial_until;
        if is_same && done.is_of_this_boot() && done.verified && missing(machine, &done).is_none() && works(&done) {
            return Ok(done);
        }
    }
    // Before the names that come to us are given back for it.
    check(machine, wanted)?;
    undo(machine).map_err(ApplyError::Before)?;
    let plan = decide(&look(machine), wanted)?;
    let mut record = Record::new(plan.method);
    record.trial_until = trial_until;
    match carry_out(machine, &plan, &mut record) {
        Ok(()) => Ok(record),
        Err(error) => Err(ApplyError::Failed { error, left: undo(machine).err() }),
    }
}

/// Tells whether names could be taken over; changes nothing.
///
/// # Errors
/// When there is no way, or the daemon does not answer.
pub fn check(machine: &Machine, wanted: Option<Method>) -> Result<(), ApplyError> {
    // What refuses does so whether names are taken already or not.
    decide(&look(machine), wanted)?;
    // A machine that asks a daemon that does not answer has lost its names.
    canary::daemon().map_err(ApplyError::NotServing)
}

fn carry_out(machine: &Machine, plan: &Plan, record: &mut Record) -> io::Result<()> {
    for step in &plan.steps {
        record.steps.push(*step);
        record::write(machine, record)?;
        match step {
            Step::Link => link::add(),
            Step::NetworkManager => lists::hold_network_manager(machine),
            Step::DebianResolvconf => lists::add_record(false),
            Step::Openresolv => lists::add_record(true),
            Step::File => file::take(machine, record),
        }?;
    }
    canary::machine(&record.steps)?;
    record.verified = true;
    record::write(machine, record)
}

/// Takes resolv.conf again when another program has written it; its text is what is given back then, so the resolvers of a
/// fresh lease are known. Whoever writes it again and again is not fought for ever.
///
/// # Errors
/// When that did not work; everything is given back then.
pub fn reclaim(machine: &Machine) -> io::Result<Reclaimed> {
    let mut last = Reclaimed::NothingToDo;
    loop {
        // One that writes line by line is let finish. Looked at once more behind the last time: while this runs, systemd does
        // not watch the file.
        sleep(SETTLE);
        match reclaim_once(machine)? {
            Reclaimed::NothingToDo => return Ok(last),
            Reclaimed::LeftToOther => return Ok(Reclaimed::LeftToOther),
            again @ Reclaimed::TakenAgain(_) => last = again,
        }
    }
}

fn reclaim_once(machine: &Machine) -> io::Result<Reclaimed> {
    let _turn = turn::for_work(machine)?;
    let taken = record::read(machine)?.filter(|record| record.verified && record.steps.contains(&Step::File));
    let Some(mut record) = taken.filter(|_| !file::is_taken(machine)) else { return Ok(Reclaimed::NothingToDo) };
    let now = clock::wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    record.overwritten.retain(|at| now.saturating_sub(*at) < WINDOW.as_secs());
    if record.overwritten.len() >= MAX_RETAKEN {
        undo(machine)?;
        return Ok(Reclaimed::LeftToOther);
    }
    record.overwritten.push(now);
    let again = file::take(machine, &mut record).and_then(|()| canary::machine(&record.steps));
    if let Err(error) = again {
        undo(machine)?;
        return Err(error);
    }
    Ok(Reclaimed::TakenAgain(record.overwritten.len()))
}

/// Says what of that which was done no longer stands.
pub(super) fn missing(machine: &Machine, record: &Record) -> Option<&'static str> {
    record.steps.iter().find_map(|step| match step {
        Step::Link => (!link::is_there()).then_some("the link truename0 is gone"),
        Step::File => (!file::is_taken(machine)).then_some("/etc/resolv.conf is somebody else's"),
        Step::NetworkManager | Step::DebianResolvconf | Step::Openresolv => None,
    })
}

fn works(record: &Record) -> bool {
    canary::machine(&record.steps).is_ok()
}

/// Gives names back, from wherever taking them has come to; does nothing where they were not taken.
///
/// # Errors
/// When something could not be undone; all else was.
pub fn release(machine: &Machine) -> io::Result<Released> {
    let _turn = turn::for_work(machine)?;
    undo(machine)
}

/// Does the same unless something is so when nobody else is at it.
pub(super) fn release_unless(machine: &Machine, is_so: impl FnOnce() -> bool) -> io::Result<Option<Released>> {
    let _turn = turn::for_work(machine)?;
    if is_so() { Ok(None) } else { undo(machine).map(Some) }
}

fn undo(machine: &Machine) -> io::Result<Released> {
    let mut released = Released::default();
    // One of a later version, or a damaged one, must not keep names with a daemon that may be gone.
    let record = record::read(machine).unwrap_or_else(|error| {
        released.unread = Some(error.to_string());
        None
    });
    // Without a record something may be left all the same, of a disk that was restored or a file that somebody removed.
    released.of_another_machine = record.is_none() && is_of_another_machine(machine);
    let steps = record
        .as_ref()
        .map_or_else(|| leftovers(machine, released.of_another_machine), |record| steps_here(machine, record));
    let had_no_file = record.as_ref().is_some_and(|record| record.had_no_file);
    let mut failed = None;
    for step in steps.into_iter().rev() {
        let undone = match step {
            Step::Link => link::remove(),
            Step::NetworkManager => lists::let_network_manager(machine),
            Step::DebianResolvconf => lists::remove_record(machine, false),
            Step::Openresolv => lists::remove_record(machine, true),
            Step::File => file::give_back(machine, had_no_file).map(|returned| {
                released.left_to_other |= returned == Returned::LeftToOther;
            }),
        };
        match undone {
            Ok(()) => released.undone.push(step),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    match failed {
        // The record stays, so that the next one tries again.
        Some(error) => Err(error),
        None if released.unread.is_some() => record::put_aside(machine).map(|()| released),
        None => record::remove(machine).map(|()| released),
    }
}

/// Returns what a record has to be undone. A disk of another boot, or of another machine, knows nothing of the links of this one;
/// and who works in a folder of a machine undoes what is below it.
fn steps_here(machine: &Machine, record: &Record) -> Vec<Step> {
    let (is_chroot, is_of_this_boot) = (machine.is_chroot(), record.is_of_this_boot());
    let is_here = |step: &Step| match step {
        Step::File => true,
        Step::Link => !is_chroot && (is_of_this_boot || link::is_of(machine)),
        Step::NetworkManager | Step::DebianResolvconf | Step::Openresolv => !is_chroot,
    };
    record.steps.iter().copied().filter(is_here).collect()
}

/// Finds what was done without being told, in the order in which it is done.
fn leftovers(machine: &Machine, file_is_of_another: bool) -> Vec<Step> {
    let is_chroot = machine.is_chroot();
    // A file of ours with nothing to give back in its place is an error of its undoing, and said so.
    let has_file = file::is_taken(machine) && !file_is_of_another;
    let steps = [(!is_chroot && link::is_of(machine), Step::Link), (has_file, Step::File)];
    let [link, file] = steps.map(|(is_there, step)| is_there.then_some(step));
    link.into_iter().chain(lists::ours(machine).filter(|_| !is_chroot)).chain(file).collect()
}

/// Tells whether resolv.conf came from another machine, as it does into containers and folders in which packages are built: it
/// is ours, nothing is put aside here, and here no service manager has ever taken names over.
fn is_of_another_machine(machine: &Machine) -> bool {
    let has_manager = machine.at(SD_BOOTED).is_dir() && !machine.is_chroot();
    file::is_taken(machine)
        && machine.at(file::BACKUP).symlink_metadata().is_err()
        && !(has_manager && record::folder(machine).is_dir())
}

/// Makes a trial permanent; tells whether there was something to keep.
///
/// # Errors
/// When the record cannot be read or written.
pub fn keep(machine: &Machine) -> io::Result<bool> {
    let _turn = turn::for_work(machine)?;
    let Some(mut record) = record::read(machine)?.filter(|record| record.verified) else { return Ok(false) };
    record.trial_until = None;
    record::write(machine, &record)?;
    Ok(true)
}

/// Tells whether names must be given back: the daemon they go to does not answer, or it was a trial that a boot or its time has ended.
#[must_use]
pub fn is_dead(record: &Record) -> bool {
    let is_over = |until: &String| !record.is_of_this_boot() || record::is_over(until);
    record.trial_until.as_ref().is_some_and(is_over) || canary::daemon().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const BEFORE: &str = "search corp.example\nnameserver 192.168.1.1\n";

    /// A machine that is a folder, with resolv.conf taken.
    fn taken() -> (tempfile::TempDir, Machine) {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::below(folder.path());
        fs::create_dir_all(machine.at("/etc")).unwrap();
        fs::write(machine.at("/etc/resolv.conf"), BEFORE).unwrap();
        let mut record = Record::new(Method::NetworkManager);
        record.steps = vec![Step::NetworkManager, Step::File];
        record.verified = true;
        file::take(&machine, &mut record).unwrap();
        record::write(&machine, &record).unwrap();
        (folder, machine)
    }

    #[test]
    fn a_record_that_cannot_be_read_keeps_nobody_from_the_way_back() {
        let drop_in = "/run/NetworkManager/conf.d/50-truename.conf";
        for text in ["{", "", r#"{"method":"later","steps":["something-new"],"since":"","boot":"","verified":true}"#] {
            let (_folder, machine) = taken();
            fs::create_dir_all(machine.at(drop_in).parent().unwrap()).unwrap();
            fs::write(machine.at(drop_in), "[main]\n").unwrap();
            let path = machine.at("/var/lib/truename-takeover/takeover.json");
            fs::write(&path, text).unwrap();
            let released = release(&machine).unwrap();
            assert_eq!(released.undone, [Step::File, Step::NetworkManager], "{text}");
            assert!(released.unread.unwrap().contains("takeover.json"), "{text}");
            assert_eq!(fs::read_to_string(machine.at("/etc/resolv.conf")).unwrap(), BEFORE);
            assert!(!machine.at(drop_in).exists() && !machine.at(file::BACKUP).exists());
            assert_eq!(fs::read_to_string(path.with_extension("json.unread")).unwrap(), text);
            assert_eq!(release(&machine).unwrap(), Released::default(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_done_leaves_names_as_they_are_taken() {
        let (_folder, machine) = taken();
        let ours = fs::read_to_string(machine.at("/etc/resolv.conf")).unwrap();
        if canary::daemon_once() {
            return; // This machine's own names come to truename, and so it could be done.
        }
        let error = apply(&machine, Some(Method::File), None).unwrap_err();
        assert!(matches!(error, ApplyError::Refused(_) | ApplyError::NotServing(_)), "{error}");
        assert_eq!(fs::read_to_string(machine.at("/etc/resolv.conf")).unwrap(), ours);
        assert!(record::read(&machine).unwrap().is_some_and(|record| record.verified));
    }

    #[test]
    fn a_trial_that_is_over_is_not_begun_again() {
        let (_folder, machine) = taken();
        let error = apply(&machine, None, Some("2020-01-01T00:00:00Z".to_owned())).unwrap_err();
        assert!(matches!(error, ApplyError::TrialOver), "{error}");
        let mut record = record::read(&machine).unwrap().unwrap();
        record.trial_until = Some("2020-01-01T00:00:00Z".to_owned());
        assert!(is_dead(&record), "whether the daemon answers or not");
    }

    #[test]
    fn a_file_of_ours_without_one_to_give_back_is_told_of() {
        let (_folder, machine) = taken();
        fs::remove_file(machine.at(file::BACKUP)).unwrap();
        record::remove(&machine).unwrap();
        fs::create_dir_all(machine.at(SD_BOOTED)).unwrap();
        let error = release(&machine).unwrap_err();
        assert!(error.to_string().contains("before-truename is gone"), "{error}");
        assert!(!machine.at(file::BACKUP).exists());
    }

    #[test]
    fn a_file_that_another_machine_lent_is_left_as_it_is() {
        let (_folder, machine) = taken();
        let ours = fs::read_to_string(machine.at(file::PATH)).unwrap();
        fs::remove_file(machine.at(file::BACKUP)).unwrap();
        record::remove(&machine).unwrap();
        let left = |what: &str| {
            let released = release(&machine).unwrap();
            assert!(released.of_another_machine && released.undone.is_empty(), "{what}: {released:?}");
            assert_eq!(fs::read_to_string(machine.at(file::PATH)).unwrap(), ours, "{what}");
        };
        left("no service manager");
        fs::create_dir_all(machine.at(SD_BOOTED)).unwrap();
        fs::remove_dir(record::folder(&machine)).unwrap();
        left("nothing was ever taken here");
        // The first process of the machine has another root than this.
        fs::create_dir(record::folder(&machine)).unwrap();
        fs::create_dir_all(machine.at("/proc/1/root")).unwrap();
        let drop_in = machine.at("/run/NetworkManager/conf.d/50-truename.conf");
        fs::create_dir_all(drop_in.parent().unwrap()).unwrap();
        fs::write(&drop_in, "[main]\n").unwrap();
        left("a folder of another machine");
        assert!(drop_in.exists());
        // With what was put aside beside it, it is this one's.
        fs::write(machine.at(file::BACKUP), BEFORE).unwrap();
        assert_eq!(release(&machine).unwrap().undone, [Step::File]);
        assert_eq!(fs::read_to_string(machine.at(file::PATH)).unwrap(), BEFORE);
    }

    #[test]
    fn a_record_that_cannot_be_read_stays_while_something_cannot_be_undone() {
        let (_folder, machine) = taken();
        let path = machine.at("/var/lib/truename-takeover/takeover.json");
        fs::write(&path, "{").unwrap();
        // What was put aside is a folder: it takes no file's place.
        fs::remove_file(machine.at(file::BACKUP)).unwrap();
        fs::create_dir(machine.at(file::BACKUP)).unwrap();
        release(&machine).unwrap_err();
        assert!(path.exists());
    }
}
