//! Lines as entries of the journal, in its native protocol: one datagram each, a field a line
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>). Names and clients are in fields of their own, `TRUENAME_NAME` and so on.

use crate::control::queries::Line;
use serde_json::Value;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// How long journald may keep us waiting for one entry: beyond that it is lost, and the others with it that came meanwhile.
const WRITE_TIMEOUT: Duration = Duration::from_millis(500);
/// What the fields of a line begin with.
const PREFIX: &str = "TRUENAME_";
/// The priority of an entry: informational.
const PRIORITY: &str = "6";

/// A connection to journald.
#[derive(Debug)]
pub(super) struct Journal(UnixDatagram);

impl Journal {
    /// Connects to its socket.
    pub(super) fn open(socket: &Path) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", socket.display()));
        let datagrams = UnixDatagram::unbound()?;
        datagrams.connect(socket).map_err(named)?;
        datagrams.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Self(datagrams))
    }

    /// Sends lines; returns how many, and what stood in the way of the others.
    pub(super) fn write(&mut self, lines: &[Line]) -> (usize, io::Result<()>) {
        for (written, line) in lines.iter().enumerate() {
            if let Err(error) = self.0.send(&entry(line)) {
                return (written, Err(error));
            }
        }
        (lines.len(), Ok(()))
    }
}

/// Writes a line as an entry.
fn entry(line: &Line) -> Vec<u8> {
    let mut entry = Vec::new();
    let (name, rtype) = (line.name.as_deref().unwrap_or("-"), line.rtype.as_deref().unwrap_or("-"));
    add(&mut entry, "MESSAGE", &format!("{name} {rtype}: {} ({})", line.rcode, line.source));
    add(&mut entry, "PRIORITY", PRIORITY);
    add(&mut entry, "SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
    let Ok(Value::Object(fields)) = serde_json::to_value(line) else { return entry };
    for (key, value) in fields {
        let key = format!("{PREFIX}{}", key.to_ascii_uppercase());
        match value {
            Value::Null => {}
            Value::String(text) => add(&mut entry, &key, &text),
            // A field may stand several times.
            Value::Array(all) => all.iter().filter_map(Value::as_str).for_each(|text| add(&mut entry, &key, text)),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => add(&mut entry, &key, &other.to_string()),
        }
    }
    entry
}

/// Adds a field; a value of several lines is written with its length.
fn add(entry: &mut Vec<u8>, key: &str, value: &str) {
    entry.extend_from_slice(key.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&u64::try_from(value.len()).unwrap_or(0).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_what_the_protocol_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let server = UnixDatagram::bind(&path).unwrap();
        let line = Line {
            ts: "2026-11-20T22:57:03.412Z".to_owned(),
            id: "q-0-1".to_owned(),
            client: "127.0.0.1".to_owned(),
            proto: "udp".to_owned(),
            name: Some("a.example.".to_owned()),
            rtype: Some("A".to_owned()),
            view: "default".to_owned(),
            source: "forward".to_owned(),
            rcode: "NOERROR".to_owned(),
            answers: vec!["192.0.2.1".to_owned(), "192.0.2.2".to_owned()],
            ttl_seconds: Some(60),
            duration_seconds: 0.5,
            ede_text: Some("two\nlines".to_owned()),
            ..Line::default()
        };
        let mut journal = Journal::open(&path).unwrap();
        let (written, result) = journal.write(&[line.clone(), line]);
        assert_eq!((written, result.is_ok()), (2, true));
        let mut buffer = [0; 4096];
        let received = server.recv(&mut buffer).unwrap();
        let expected: &[u8] = b"MESSAGE=a.example. A: NOERROR (forward)\nPRIORITY=6\nSYSLOG_IDENTIFIER=truename\n\
            TRUENAME_TS=2026-11-20T22:57:03.412Z\nTRUENAME_ID=q-0-1\nTRUENAME_CLIENT=127.0.0.1\nTRUENAME_PROTO=udp\n\
            TRUENAME_NAME=a.example.\nTRUENAME_TYPE=A\nTRUENAME_VIEW=default\nTRUENAME_SOURCE=forward\n\
            TRUENAME_RCODE=NOERROR\nTRUENAME_ANSWERS=192.0.2.1\nTRUENAME_ANSWERS=192.0.2.2\nTRUENAME_TTL_SECONDS=60\n\
            TRUENAME_DURATION_SECONDS=0.5\nTRUENAME_EDE_TEXT\n\x09\0\0\0\0\0\0\0two\nlines\n";
        let mut found: Vec<&[u8]> = buffer[..received].split_inclusive(|octet| *octet == b'\n').collect();
        let mut wanted: Vec<&[u8]> = expected.split_inclusive(|octet| *octet == b'\n').collect();
        // The order of fields means nothing.
        found.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(
            found.iter().map(|part| String::from_utf8_lossy(part)).collect::<Vec<_>>(),
            wanted.iter().map(|part| String::from_utf8_lossy(part)).collect::<Vec<_>>()
        );
        assert_eq!(server.recv(&mut buffer).unwrap(), received, "each line is an entry");
    }

    #[test]
    fn a_journal_that_takes_nothing_ends_the_writing_and_not_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal::open(&path).unwrap();
        let lines: Vec<Line> = std::iter::repeat_with(Line::default).take(5_000).collect();
        // Nobody reads: the kernel's queue is full after a few.
        let (written, result) = journal.write(&lines);
        assert!(result.is_err() && written < 5_000, "{written}");
        drop(server);
        assert!(journal.write(&lines).1.is_err());
        assert!(Journal::open(&folder.path().join("nobody")).unwrap_err().to_string().contains("nobody: "));
    }
}
