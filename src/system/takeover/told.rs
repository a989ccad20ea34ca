//! How it is with the names of this machine, for whoever asks again and again: read when it has changed, not each time.

use super::apply::missing;
use super::left::Left;
use super::record::{self, Record, read};
use super::{Machine, Method, file, left, link};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Whether the names of this machine come here by our doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// They do; the canary has come back.
    Active,
    /// It was begun, and the canary has not come back; or it failed, and is tried again.
    Inactive,
    /// Part of it is somebody else's by now, or all of it was left to them; or what was written down cannot be read, or is not root's: nobody can say.
    Conflict,
    /// Nothing was done.
    Unmanaged,
}

impl Standing {
    fn of(left: Left) -> Self {
        if left.to_other { Self::Conflict } else { Self::Inactive }
    }

    /// Returns the word that stands for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Conflict => "conflict",
            Self::Unmanaged => "unmanaged",
        }
    }
}

/// How it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// In a word.
    pub standing: Standing,
    /// The way, when it is known.
    pub method: Option<Method>,
    /// How often resolv.conf was seen to have been taken again; never less while we live.
    pub retaken: u64,
    /// In a few words, for people.
    pub text: String,
}

/// Says in a few words how it is, for people.
#[must_use]
pub fn summary(machine: &Machine) -> String {
    say(machine, &read(machine))
}

fn say(machine: &Machine, record: &io::Result<Option<Record>>) -> String {
    match record {
        Ok(None) => left::read(machine).map_or_else(|| "unmanaged".to_owned(), |left| left.text()),
        Ok(Some(record)) if !record.verified => "being taken over".to_owned(),
        Ok(Some(record)) => {
            let but = missing(machine, record).map(|what| format!(", but {what}")).unwrap_or_default();
            let trial =
                record.trial_until.as_ref().map(|until| format!(", on trial until {until}")).unwrap_or_default();
            let times = record.overwritten.len();
            let fights = if times == 0 { String::new() } else { format!(", resolv.conf taken again {times} times") };
            format!("taken over ({}) since {}{but}{trial}{fights}", record.method.as_str(), record.since)
        }
        Err(error) => format!("unknown: {error}"),
    }
}

/// Which file it was.
type File = Option<(u64, u64, i64, i64)>;
/// What all of it depends on: the record, why there is none, resolv.conf as a link and as a file, and our own link.
type Seen = ([File; 4], bool);

/// Keeps what was read.
#[derive(Debug, Default)]
pub struct Watched {
    machine: Machine,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    told: Option<(Seen, Arc<Told>)>,
    /// When resolv.conf was taken again, as the record had it.
    overwritten: Vec<u64>,
    retaken: u64,
}

impl Watched {
    /// Says how it is.
    pub fn told(&self) -> Arc<Told> {
        // Before it is read: what changes meanwhile is read the next time.
        let seen = self.look();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, told)) = &last.told
            && *before == seen
        {
            return Arc::clone(told);
        }
        let record = read(&self.machine);
        let (standing, method) = match &record {
            Ok(None) => (left::read(&self.machine).map_or(Standing::Unmanaged, Standing::of), None),
            Ok(Some(record)) if !record.verified => (Standing::Inactive, Some(record.method)),
            Ok(Some(record)) if missing(&self.machine, record).is_some() => (Standing::Conflict, Some(record.method)),
            Ok(Some(record)) => (Standing::Active, Some(record.method)),
            Err(_) => (Standing::Conflict, None),
        };
        let text = say(&self.machine, &record);
        if let Ok(record) = record {
            let overwritten = record.map(|record| record.overwritten).unwrap_or_default();
            last.retaken += news(&last.overwritten, &overwritten);
            last.overwritten = overwritten;
        }
        let told = Arc::new(Told { standing, method, retaken: last.retaken, text });
        last.told = Some((seen, Arc::clone(&told)));
        told
    }

    fn look(&self) -> Seen {
        let of = |path: &Path, follow: bool| {
            let metadata = if follow { path.metadata() } else { path.symlink_metadata() }.ok()?;
            Some((metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec()))
        };
        let resolv_conf = self.machine.at(file::PATH);
        let [record, left] = [record::path(&self.machine), left::path(&self.machine)].map(|note| of(&note, false));
        ([record, left, of(&resolv_conf, false), of(&resolv_conf, true)], link::is_there())
    }
}

/// Counts the times that were not there before; the record forgets old ones.
fn news(before: &[u64], now: &[u64]) -> u64 {
    let newest = before.last().copied().unwrap_or(0);
    let at_newest = |times: &[u64]| times.iter().filter(|time| **time == newest).count();
    let later = now.iter().filter(|time| **time > newest).count();
    (later + at_newest(now).saturating_sub(at_newest(before))).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::takeover::Step;
    use std::fs;

    #[test]
    fn what_is_told_follows_the_record_and_is_read_only_when_that_changes() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::below(folder.path());
        let watched = Watched { machine: machine.clone(), ..Watched::default() };
        let told = |standing, method, retaken| {
            let told = watched.told();
            assert_eq!((told.standing, told.method, told.retaken), (standing, method, retaken), "{told:?}");
            assert_eq!(told.text, summary(&machine));
            assert!(Arc::ptr_eq(&told, &watched.told()), "it was read again");
        };
        told(Standing::Unmanaged, None, 0);
        let mut record = Record::new(Method::File);
        record::write(&machine, &record).unwrap();
        told(Standing::Inactive, Some(Method::File), 0);
        (record.verified, record.overwritten) = (true, vec![100, 110]);
        record::write(&machine, &record).unwrap();
        told(Standing::Active, Some(Method::File), 2);
        // The oldest does not count any more, and two have come.
        record.overwritten = vec![110, 110, 120];
        record::write(&machine, &record).unwrap();
        told(Standing::Active, Some(Method::File), 4);
        fs::write(record::path(&machine), "{").unwrap();
        told(Standing::Conflict, None, 4);
        record::remove(&machine).unwrap();
        told(Standing::Unmanaged, None, 4);
    }

    #[test]
    fn what_is_no_longer_so_is_said_whatever_the_record_says() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::below(folder.path());
        let watched = Watched { machine: machine.clone(), ..Watched::default() };
        let standing = |standing| assert_eq!(watched.told().standing, standing);
        let both = |word: &str| {
            let text = summary(&machine);
            assert!(text.contains(word), "{text}");
            assert_eq!(watched.told().text, text);
            assert!(Arc::ptr_eq(&watched.told(), &watched.told()));
        };
        both("unmanaged");
        left::note(&machine, "the canary did not come back", false).unwrap();
        both("not taken over: the canary did not come back (tried again");
        standing(Standing::Inactive);
        left::note(&machine, "another program goes on writing it", true).unwrap();
        both("(left to it");
        standing(Standing::Conflict);
        left::forget(&machine).unwrap();
        both("unmanaged");
        fs::create_dir(machine.at("/etc")).unwrap();
        fs::write(machine.at(file::PATH), "nameserver 192.168.1.1\n").unwrap();
        let mut record = Record::new(Method::File);
        record.steps.push(Step::File);
        file::take(&machine, &mut record).unwrap();
        both("being taken over");
        record.verified = true;
        record::write(&machine, &record).unwrap();
        both("taken over (file) since");
        assert!(!summary(&machine).contains("but"));
        standing(Standing::Active);
        fs::write(machine.at(file::PATH), "nameserver 10.9.9.9\n").unwrap();
        both("taken over (file) since");
        both(", but /etc/resolv.conf is somebody else's");
        standing(Standing::Conflict);
        record::remove(&machine).unwrap();
        both("unmanaged");
    }
}
