//! A file of lines that rotates by itself: `FILE`, `FILE.1`, `FILE.2` and so on, the youngest first.

use crate::control::queries::Line;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The mode of a new file: names and clients stand in it, so it is for its owner and for the group that reads logs.
const MODE: u32 = 0o640;

/// The file, and how much it and its predecessors may be.
#[derive(Debug)]
pub(super) struct Rotating {
    path: PathBuf,
    file: File,
    /// Octets of whole lines in it.
    bytes: u64,
    max_bytes: u64,
    /// Files kept, this one included.
    files: usize,
}

impl Rotating {
    /// Opens it; what stands in it is kept.
    pub(super) fn open(path: &Path, max_bytes: u64, files: usize) -> io::Result<Self> {
        let file = open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes, max_bytes, files })
    }

    /// Writes lines as far as possible; returns how many, and what stood in the way of the others. None is written in part.
    pub(super) fn write(&mut self, lines: &[Line]) -> (usize, io::Result<()>) {
        let mut page = Vec::new();
        let (mut written, mut on_page) = (0, 0);
        for line in lines {
            let mut text = serde_json::to_vec(line).unwrap_or_default();
            text.push(b'\n');
            let is_full = self.bytes + as_u64(page.len() + text.len()) > self.max_bytes;
            if is_full && self.bytes + as_u64(page.len()) > 0 {
                if let Err(error) = self.append(&page).and_then(|()| self.rotate()) {
                    return (written, Err(error));
                }
                written += on_page;
                on_page = 0;
                page.clear();
            }
            page.extend_from_slice(&text);
            on_page += 1;
        }
        match self.append(&page) {
            Ok(()) => (written + on_page, Ok(())),
            Err(error) => (written, Err(error)),
        }
    }

    fn append(&mut self, page: &[u8]) -> io::Result<()> {
        // Somebody else may have emptied it, or written to it.
        self.bytes = self.file.metadata()?.len();
        if let Err(error) = self.file.write_all(page) {
            // A disk that is full has taken a part: a torn line would spoil the next one, too.
            drop(self.file.set_len(self.bytes));
            return Err(error);
        }
        self.bytes += as_u64(page.len());
        Ok(())
    }

    /// Moves every file on by one; the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        // Without it, the last time came as far as moving them: they are not moved twice.
        let moved = if fs::exists(&self.path)? { 1..self.files } else { 1..1 };
        for number in moved.rev() {
            match fs::rename(self.numbered(number - 1), self.numbered(number)) {
                // There have not been so many yet.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        if self.files == 1 {
            self.file.set_len(0)?;
        } else {
            self.file = open(&self.path)?;
        }
        // Somebody else may have made one there.
        self.bytes = self.file.metadata()?.len();
        Ok(())
    }

    fn numbered(&self, number: usize) -> PathBuf {
        if number == 0 {
            return self.path.clone();
        }
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

/// Opens a file for appending, or makes it. What is no file is left alone: a pipe would make us wait for its reader.
fn open(path: &Path) -> io::Result<File> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(named(io::Error::other("this is no file")));
    }
    match OpenOptions::new().append(true).create_new(true).mode(MODE).open(path) {
        // The mask of the process may be narrower; one that somebody has made keeps its mode.
        Ok(made) => made.set_permissions(fs::Permissions::from_mode(MODE)).map(|()| made),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => OpenOptions::new().append(true).open(path),
        Err(error) => Err(error),
    }
    .map_err(named)
}

fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(numbers: std::ops::Range<usize>) -> Vec<Line> {
        numbers.map(|n| Line { id: format!("q-0-{n:04}"), ..Line::default() }).collect()
    }

    fn numbers(path: &Path) -> Vec<usize> {
        let text = fs::read_to_string(path).unwrap();
        let line = |line: &str| serde_json::from_str::<Line>(line).unwrap().id["q-0-".len()..].parse().unwrap();
        text.lines().map(line).collect()
    }

    #[test]
    fn files_are_moved_on_when_they_are_full_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queries.ndjson");
        let line = serde_json::to_vec(&lines(0..1)[0]).unwrap().len() + 1;
        let max_bytes = as_u64(line * 10 + 5);
        let mut file = Rotating::open(&path, max_bytes, 3).unwrap();
        for start in (0..95).step_by(5) {
            let (written, result) = file.write(&lines(start..start + 5));
            assert_eq!((written, result.is_ok()), (5, true));
        }
        let found = ["", ".1", ".2"].map(|end| numbers(&folder.path().join(format!("queries.ndjson{end}"))));
        assert_eq!(found.concat().len(), 25);
        assert_eq!(found, [(90..95).collect::<Vec<_>>(), (80..90).collect(), (70..80).collect()]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        for entry in fs::read_dir(folder.path()).unwrap() {
            let found = entry.unwrap().metadata().unwrap();
            assert_eq!(found.permissions().mode() & 0o777, 0o640);
            assert!(found.len() <= max_bytes);
        }
        // What is there is gone on with.
        drop(file);
        let mut file = Rotating::open(&path, max_bytes, 3).unwrap();
        assert_eq!(file.write(&lines(95..97)).0, 2);
        assert_eq!(numbers(&path), (90..97).collect::<Vec<_>>());
    }

    #[test]
    fn a_batch_larger_than_a_file_is_spread_and_a_single_file_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        let line = as_u64(serde_json::to_vec(&lines(0..1)[0]).unwrap().len() + 1);
        let mut file = Rotating::open(&path, line * 4, 1).unwrap();
        assert_eq!(file.write(&lines(0..10)).0, 10);
        assert_eq!(numbers(&path), [8, 9]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // One line longer than the file may be has one of its own.
        let mut file = Rotating::open(&folder.path().join("small"), 1, 2).unwrap();
        assert_eq!(file.write(&lines(0..3)).0, 3);
        assert_eq!(numbers(&folder.path().join("small")), [2]);
        assert_eq!(numbers(&folder.path().join("small.1")), [1]);
    }

    #[test]
    fn a_full_disk_takes_no_line_in_part() {
        let mut file = Rotating::open(Path::new("/dev/null"), 1000, 2);
        assert!(file.is_err(), "this is no file");
        let folder = tempfile::tempdir().unwrap();
        // A file that may not be written to fails as a full disk does.
        let path = folder.path().join("full");
        fs::write(&path, "before\n").unwrap();
        file = Rotating::open(&path, 1000, 2);
        let mut file = file.unwrap();
        file.file = File::open(&path).unwrap();
        let (written, result) = file.write(&lines(0..3));
        assert_eq!((written, result.is_err()), (0, true));
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\n");
    }

    #[test]
    fn a_pipe_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(Rotating::open(&path, 1000, 2).unwrap_err().to_string().contains("pipe: this is no file"));
    }
}
