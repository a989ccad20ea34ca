//! Incidents on disk: read when the daemon starts, written soon after something was found, and when it ends.
//!
//! One file, `incidents.json`: a line with its length and checksum, then JSON, in which the changes of guarded names' answers stand too. It is written beside and then renamed; one that
//! is torn or not ours is put aside as `incidents.bad`. No timer runs while nothing is found. Nothing here is fatal. The file
//! holds names that people looked up, so only its owner can read it; one daemon works in a folder at a time.

use super::state_dir::{replace, state_dir};
use super::writing::{LAST_WRITING_TIMEOUT, Writing};
use crate::pipeline::Pipeline;
use crate::pipeline::guard::changes::Change;
use crate::pipeline::guard::incident::Incident;
use crate::pipeline::guard::record::Record;
use crate::stats::Counter;
use crate::system::lock::{self, Claim, Lock};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder};
use std::future::pending;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::time::timeout;

/// The file in the state directory.
const FILE: &str = "incidents.json";
/// What one is put aside as that cannot be used; the one before goes.
const FILE_BAD: &str = "incidents.bad";
/// Held by the daemon that these files belong to.
const FILE_LOCK: &str = "incidents.lock";
/// What the first line begins with; the number is that of the format.
const MAGIC: &str = "truename-incidents 2";
/// The same of a file without changes.
const MAGIC_BEFORE: &str = "truename-incidents 1";
/// Octets of a file that is read: four times what 512 incidents with all their packets take.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// What stands in the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    incidents: Vec<Record>,
    changes: Vec<Change>,
}

/// When incidents are written.
pub(super) struct Incidents {
    pipeline: Arc<Pipeline>,
    /// Where, and that it is ours; nothing where they cannot be kept.
    place: Option<(PathBuf, Arc<Lock>)>,
    writing: Writing,
}

impl Incidents {
    /// Reads what the last daemon left.
    pub(super) fn start(pipeline: &Arc<Pipeline>) -> Self {
        Self::start_in(state_dir(), pipeline)
    }

    fn start_in(folder: Option<PathBuf>, pipeline: &Arc<Pipeline>) -> Self {
        let place = folder.filter(|_| pipeline.state().config.guard.persist).and_then(claim);
        if let Some((folder, _)) = &place {
            read_and_tell(folder, pipeline);
        }
        let writing = Writing::new(pipeline.incidents_changed());
        Self { pipeline: Arc::clone(pipeline), place, writing }
    }

    /// Waits until it is time to write. Cancel safe.
    pub(super) async fn due(&mut self) {
        if self.place.is_none() {
            return pending().await;
        }
        self.writing.due().await;
    }

    /// Begins to write.
    pub(super) fn write(&mut self) {
        self.writing.take_due();
        self.writing.lengthen();
        let Some((folder, lock)) = self.place.clone() else { return };
        let pipeline = Arc::clone(&self.pipeline);
        let started = self.writing.spawn("incidents", move || {
            let _lock = lock;
            write_and_tell(&folder, &pipeline);
        });
        if let Err(error) = started {
            tracing::warn!(%error, "no thread for incidents");
        }
    }

    /// Writes for the last time what has not been written; to be awaited beside the drain.
    pub(super) async fn finish(mut self) {
        let writing = async {
            self.writing.ended().await;
            if self.writing.has_news() {
                self.write();
            }
            self.writing.ended().await;
        };
        if timeout(LAST_WRITING_TIMEOUT, writing).await.is_err() {
            tracing::warn!("incidents could not be written in time; the file before stays");
        }
    }
}

/// Claims the folder; nothing when another daemon has it or it cannot be made.
fn claim(folder: PathBuf) -> Option<(PathBuf, Arc<Lock>)> {
    let claimed = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    match claimed.and_then(|()| lock::claim(&folder.join(FILE_LOCK))) {
        Ok(Claim::Ours(lock)) => Some((folder, Arc::new(lock))),
        Ok(Claim::Taken(pid)) => {
            let folder = folder.display();
            tracing::warn!(%folder, pid, "another truename keeps its incidents in this folder; this one's end with it");
            None
        }
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "incidents cannot be kept; they end with the daemon");
            None
        }
    }
}

/// Why a file is put aside.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it is no file, or has more than {MAX_FILE_BYTES} octets")]
    NoFile,
    #[error("its first line is not that of a file of incidents")]
    Header,
    #[error("it is torn or damaged: its length or checksum is wrong")]
    Damaged,
    #[error("its incidents cannot be read: {0}")]
    Malformed(String),
}

fn read_and_tell(folder: &Path, pipeline: &Pipeline) {
    let path = folder.join(FILE);
    let found = match fs::symlink_metadata(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return tracing::warn!(file = %path.display(), %error, "incidents are not read"),
    };
    let read = if found.is_file() && found.len() <= MAX_FILE_BYTES {
        match fs::read(&path) {
            Ok(bytes) => parse(&bytes),
            Err(error) => return tracing::warn!(file = %path.display(), %error, "incidents are not read"),
        }
    } else {
        Err(Fault::NoFile)
    };
    match read {
        Ok((incidents, changes)) => {
            let count = incidents.len();
            pipeline.restore_incidents(incidents);
            pipeline.restore_changes(changes);
            tracing::debug!(count, "incidents read");
        }
        Err(fault) => {
            pipeline.stats().count(Counter::IncidentFilesBad);
            let aside = folder.join(FILE_BAD);
            let put = fs::rename(&path, &aside);
            let (reason, error) = (fault.to_string(), put.err().map(tracing::field::display));
            tracing::warn!(
                file = %path.display(), put_aside_as = %aside.display(), reason, error,
                "the file of incidents is not used"
            );
        }
    }
}

/// Reads a file of incidents, all of it or nothing.
fn parse(bytes: &[u8]) -> Result<(Vec<Incident>, Vec<Change>), Fault> {
    let at = bytes.iter().position(|byte| *byte == b'\n').ok_or(Fault::Header)?;
    let (line, body) = (std::str::from_utf8(&bytes[..at]).map_err(|_| Fault::Header)?, &bytes[at + 1..]);
    let is_before = line.starts_with(MAGIC_BEFORE);
    let rest = line.strip_prefix(if is_before { MAGIC_BEFORE } else { MAGIC }).ok_or(Fault::Header)?;
    let numbers: Vec<u64> = rest.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let [length, checksum] = numbers[..] else { return Err(Fault::Header) };
    let is_whole = u64::try_from(body.len()) == Ok(length) && u64::from(crc32fast::hash(body)) == checksum;
    if !is_whole {
        return Err(Fault::Damaged);
    }
    let malformed = |error: serde_json::Error| Fault::Malformed(error.to_string());
    let Kept { incidents, changes } = match is_before {
        true => Kept { incidents: serde_json::from_slice(body).map_err(malformed)?, changes: Vec::new() },
        false => serde_json::from_slice(body).map_err(malformed)?,
    };
    let read =
        |record: &Record| record.read().ok_or_else(|| Fault::Malformed(format!("{} holds no incident", record.id)));
    Ok((incidents.iter().map(read).collect::<Result<_, _>>()?, changes))
}

fn write_and_tell(folder: &Path, pipeline: &Pipeline) {
    let incidents = pipeline.incidents().iter().map(Record::from).collect();
    match write(folder, &Kept { incidents, changes: pipeline.changes() }) {
        Ok(()) => pipeline.stats().count(Counter::IncidentFilesWritten),
        Err(error) => {
            pipeline.stats().count(Counter::IncidentFilesFailed);
            let file = folder.join(FILE);
            tracing::warn!(file = %file.display(), %error, "incidents could not be written; the file before stays");
            // To be tried again after a longer pause.
            pipeline.incidents_changed().notify_one();
        }
    }
}

fn write(folder: &Path, kept: &Kept) -> io::Result<()> {
    let body = serde_json::to_vec(kept)?;
    replace(folder, FILE, |file| {
        writeln!(file, "{MAGIC} {} {}", body.len(), crc32fast::hash(&body))?;
        file.write_all(&body)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::build;
    use crate::clock::Clock;
    use crate::stats::Stats;

    fn pipeline(folder: &Path) -> Arc<Pipeline> {
        let path = folder.join("truename.toml");
        fs::write(&path, "[hosts]\nfiles = []\n[upstream.system]\nservers = [\"127.0.0.1:1\"]\n").unwrap();
        let loaded = build::read(Some(&path)).unwrap();
        let (clock, stats) = (Clock::default(), Arc::new(Stats::default()));
        let state = build::state(loaded, &clock, &stats, None);
        Arc::new(Pipeline::new(state, clock, stats))
    }

    fn record(number: u64) -> Record {
        Record {
            id: format!("in-20261121-{number:04}"),
            place: 0,
            upstream: "isp/192.0.2.1".to_owned(),
            verdict: "poisoned".to_owned(),
            name: "www.example.org.".to_owned(),
            types: vec!["A".to_owned()],
            first_seen: 1_795_219_200,
            last_seen: 1_795_219_300,
            count: 3,
            signs: vec!["special-address".to_owned()],
            score: 6,
            served: "trusted".to_owned(),
            packets: Vec::new(),
            proofs: Vec::new(),
            acknowledged: number == 1,
        }
    }

    #[test]
    fn a_file_that_is_torn_damaged_or_too_large_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let change = Change { name: "www.example.org.".to_owned(), at: 7, ..Change::default() };
        write(folder.path(), &Kept { incidents: vec![record(1), record(2)], changes: vec![change] }).unwrap();
        let whole = fs::read(folder.path().join(FILE)).unwrap();
        let (incidents, changes) = parse(&whole).unwrap();
        assert_eq!((incidents.len(), changes.len(), changes[0].at), (2, 1, 7));
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(parse(&damaged).is_err(), "damaged at {at}");
        }
        let pipeline = pipeline(folder.path());
        let restored = || pipeline.incidents().len();
        read_and_tell(folder.path(), &pipeline);
        assert_eq!((restored(), pipeline.stats().get(Counter::IncidentFilesBad)), (2, 0));
        let file = fs::OpenOptions::new().write(true).open(folder.path().join(FILE)).unwrap();
        file.set_len(MAX_FILE_BYTES + 1).unwrap();
        read_and_tell(folder.path(), &pipeline);
        assert_eq!(pipeline.stats().get(Counter::IncidentFilesBad), 1);
        assert!(folder.path().join(FILE_BAD).exists() && !folder.path().join(FILE).exists());
        read_and_tell(folder.path(), &pipeline);
        assert_eq!(pipeline.stats().get(Counter::IncidentFilesBad), 1, "no file is no fault");
    }

    #[test]
    fn a_file_of_the_format_before_is_read() {
        let body = serde_json::to_vec(&[record(1), record(2)]).unwrap();
        let line = format!("{MAGIC_BEFORE} {} {}\n", body.len(), crc32fast::hash(&body));
        let (incidents, changes) = parse(&[line.as_bytes(), &body].concat()).unwrap();
        assert_eq!((incidents.len(), changes.len()), (2, 0));
    }

    #[tokio::test]
    async fn one_daemon_at_a_time_keeps_its_incidents_in_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let place = || Some(folder.path().to_owned());
        let pipeline = pipeline(folder.path());
        let first = Incidents::start_in(place(), &pipeline);
        assert!(first.place.is_some());
        assert!(Incidents::start_in(place(), &pipeline).place.is_none());
        pipeline.restore_incidents(vec![record(7).read().unwrap()]);
        assert!(pipeline.acknowledge(crate::pipeline::guard::incident::IncidentId(7)));
        first.finish().await;
        let (_, bytes) = (folder.path(), fs::read(folder.path().join(FILE)).unwrap());
        assert!(parse(&bytes).unwrap().0[0].acknowledged, "what changed last is written at the end");
    }
}
