//! How it is with the names of this machine, in a few words for people.

use super::apply::missing;
use super::record::{self, read};
use super::{Machine, file, link};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Says it.
#[must_use]
pub fn summary(machine: &Machine) -> String {
    match read(machine) {
        Ok(None) => "unmanaged".to_owned(),
        Ok(Some(record)) if !record.verified => "being taken over".to_owned(),
        Ok(Some(record)) => {
            let but = missing(machine, &record).map(|what| format!(", but {what}")).unwrap_or_default();
            let trial =
                record.trial_until.as_ref().map(|until| format!(", on trial until {until}")).unwrap_or_default();
            let times = record.overwritten.len();
            let fights = if times == 0 { String::new() } else { format!(", resolv.conf taken again {times} times") };
            format!("taken over ({}) since {}{but}{trial}{fights}", record.method.as_str(), record.since)
        }
        Err(error) => format!("unknown: {error}"),
    }
}

/// The same for whoever asks again and again: nothing is read while nothing has changed.
#[derive(Debug, Default)]
pub struct Watched {
    machine: Machine,
    last: Mutex<Option<(Seen, String)>>,
}

/// What a summary depends on: the record, resolv.conf as a link and as a file, and our own link.
type Seen = ([Option<(u64, u64, i64, i64)>; 3], bool);

impl Watched {
    /// Says it.
    pub fn summary(&self) -> String {
        let seen = self.look();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((before, text)) if *before == seen => text.clone(),
            Some(_) | None => {
                let text = summary(&self.machine);
                *last = Some((seen, text.clone()));
                text
            }
        }
    }

    fn look(&self) -> Seen {
        let of = |path: &Path, follow: bool| {
            let metadata = if follow { path.metadata() } else { path.symlink_metadata() }.ok()?;
            Some((metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
        };
        let resolv_conf = self.machine.at(file::PATH);
        ([of(&record::path(&self.machine), false), of(&resolv_conf, false), of(&resolv_conf, true)], link::is_there())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::takeover::{Method, Record, Step};
    use std::fs;

    #[test]
    fn what_is_no_longer_so_is_said_whatever_the_record_says() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::below(folder.path());
        let watched = Watched { machine: machine.clone(), ..Watched::default() };
        let both = |word: &str| {
            let text = summary(&machine);
            assert!(text.contains(word), "{text}");
            assert_eq!(watched.summary(), text);
            assert_eq!(watched.summary(), text);
        };
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
        fs::write(machine.at(file::PATH), "nameserver 10.9.9.9\n").unwrap();
        both("taken over (file) since");
        both(", but /etc/resolv.conf is somebody else's");
        record::remove(&machine).unwrap();
        both("unmanaged");
    }
}
