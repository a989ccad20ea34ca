//! How it is with the names of this machine, for whoever asks again and again: read when it has changed, not each time.

use super::record::{self, read, summary};
use super::{Machine, Method};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};

/// Whether the names of this machine come here by our doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// They do; the canary has come back.
    Active,
    /// It was begun, and the canary has not come back.
    Inactive,
    /// What was written down cannot be read, or is not root's: nobody can say.
    Conflict,
    /// Nothing was done.
    Unmanaged,
}

impl Standing {
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

/// Which file it was: a record is put in the place of the one before.
type Seen = Option<(u64, u64, i64, i64)>;

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
            Ok(None) => (Standing::Unmanaged, None),
            Ok(Some(record)) if record.verified => (Standing::Active, Some(record.method)),
            Ok(Some(record)) => (Standing::Inactive, Some(record.method)),
            Err(_) => (Standing::Conflict, None),
        };
        if let Ok(record) = record {
            let overwritten = record.map(|record| record.overwritten).unwrap_or_default();
            last.retaken += news(&last.overwritten, &overwritten);
            last.overwritten = overwritten;
        }
        let told = Arc::new(Told { standing, method, retaken: last.retaken, text: summary(&self.machine) });
        last.told = Some((seen, Arc::clone(&told)));
        told
    }

    fn look(&self) -> Seen {
        let metadata = record::path(&self.machine).symlink_metadata().ok()?;
        Some((metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec()))
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
    use crate::system::takeover::Record;
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
}
