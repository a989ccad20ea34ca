//! One `[[zone]]` to a store: its inline records and its file.

use super::draft::Draft;
use super::lint;
use super::master::{Located, Master, excerpt};
use super::rdata::{self, CLASS_IN};
use super::soa;
use super::store::Store;
use crate::config::{Diagnostic, InlineRecord, Location, ViewId, Zone};
use crate::dns::{Name, Record};
use std::hash::{BuildHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// A zone ready to answer.
#[derive(Debug)]
pub(super) struct LoadedZone {
    pub(super) store: Store,
    pub(super) views: Option<Vec<ViewId>>,
    pub(super) reverse: bool,
    pub(super) at: Location,
    /// Records, made ones not counted.
    pub(super) records: usize,
    /// Changes when anything in the zone does.
    pub(super) hash: u64,
}

impl LoadedZone {
    /// Tells whether clients of a view see this zone.
    pub(super) fn is_for(&self, view: ViewId) -> bool {
        self.views.as_ref().is_none_or(|views| views.contains(&view))
    }
}

/// Reads a zone. It is complete as far as its text was right; the diagnostics say what was not.
pub(super) fn load(zone: &Zone, now_unix: u64, diagnostics: &mut Vec<Diagnostic>) -> LoadedZone {
    let ttl = seconds(zone.ttl);
    let mut master = Master::new(zone.apex.to_lower(), ttl);
    if let Some(path) = &zone.file {
        master.read_file(path, &zone.file_at, &zone.key);
    }
    for record in &zone.records {
        inline(record, ttl, &mut master);
    }
    let serial = serial(zone, now_unix);
    let made = soa::made(&master.apex, serial, ttl, soa::MADE_MINIMUM_SECONDS);
    let records = std::mem::take(&mut master.records);
    let count = records.len();
    let hash = hash(zone, &made, &records);
    let mut draft = Draft::new(&master.apex, count);
    for Located { record, file, line } in records {
        draft.insert(record, file, line);
    }
    lint::check(&mut draft, &mut master);
    let store = Store::new(draft, made, master.files.clone(), zone.fallthrough);
    diagnostics.extend(master.finish_diagnostics(&zone.at));
    LoadedZone { store, views: zone.views.clone(), reverse: zone.reverse, at: zone.at.clone(), records: count, hash }
}

fn inline(written: &InlineRecord, zone_ttl: u32, master: &mut Master) {
    let problem = |code, key: &str, expected: String| {
        let at = if key == "value" { &written.value_at } else { &written.at };
        Diagnostic::error(code, at.clone(), expected).key(format!("{}.{key}", written.key))
    };
    let apex = master.apex.clone();
    let owner = match Name::parse_relative(&written.name, &apex) {
        Ok(owner) if owner.is_at_or_below(&apex) => owner,
        Ok(owner) => {
            let found = problem("out-of-zone", "name", format!("a name at or below {apex}")).found(owner.to_string());
            return master.report(found.hint("names that end in a dot are absolute"));
        }
        Err(error) => {
            let text = format!("a domain name; this one has {error}");
            return master.report(problem("zone-record", "name", text).found(&written.name));
        }
    };
    if written.rtype.is_meta() {
        let found = written.rtype.to_string();
        return master.report(problem("record-type", "type", "a type that can stand in a zone".into()).found(found));
    }
    match rdata::parse_text(written.rtype, &written.value, &apex) {
        Ok(rdata) => {
            let Some(file) = master.add_file(&written.at.file) else { return };
            let ttl = written.ttl.map_or(zone_ttl, seconds);
            let record = Record { owner, rtype: written.rtype, class: CLASS_IN, ttl, rdata };
            master.push(record, file, written.at.line);
        }
        Err(error) => {
            let text = format!("{} ({} record)", error.expected, written.rtype);
            let mut found = problem("record-data", "value", text).found(excerpt(&written.value));
            found.hint = error.hint;
            master.report(found);
        }
    }
}

/// The serial of a made SOA: the date of the file with the records.
fn serial(zone: &Zone, now_unix: u64) -> u32 {
    let path: &Path = zone.file.as_deref().unwrap_or(&zone.at.file);
    let modified = std::fs::metadata(path).ok().and_then(|meta| u64::try_from(meta.mtime()).ok());
    let unix = modified.unwrap_or(now_unix);
    // Serials wrap by design (RFC 1982).
    u32::try_from(unix & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// Hashes what answers are made of. The seed is fixed: the same zone has the same hash after a reload.
fn hash(zone: &Zone, made: &Record, records: &[Located]) -> u64 {
    let mut state = foldhash::quality::FixedState::default().build_hasher();
    (made.owner.as_wire(), &made.rdata, zone.fallthrough, zone.reverse).hash(&mut state);
    for Located { record, .. } in records {
        (record.owner.as_wire(), record.rtype, record.ttl, &record.rdata).hash(&mut state);
    }
    state.finish()
}

/// Seconds of a duration, at most what a TTL can be (RFC 2181 section 8).
pub(super) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).min(i32::MAX.unsigned_abs())
}
