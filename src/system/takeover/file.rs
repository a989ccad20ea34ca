//! resolv.conf itself: put aside, replaced whole, and put back.
//!
//! The file is put aside as it is, inode, mode and all, or the link when it is one; so what comes back is the same byte
//! for byte. It is ours for as long as it says so and names us; whatever else stands there is left to whoever wrote it.

use super::facts::{MARK, is_mount_point};
use super::record::{self, Record, put};
use super::{MAX_FILE_BYTES, Machine};
use crate::system::resolvers;
use nix::errno::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The file.
pub(super) const PATH: &str = "/etc/resolv.conf";
/// The file as it was before.
pub const BACKUP: &str = "/etc/resolv.conf.before-truename";
/// Everybody's programs read it.
const MODE: u32 = 0o644;
/// Where we answer. One line only: some stubs ask all servers at once and take the first reply, so a second one would be
/// no reserve but a leak.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 53);

/// What became of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Returned {
    /// It is as it was.
    AsItWas,
    /// Somebody else has written it meanwhile; it was left alone.
    LeftToOther,
    /// It was not taken.
    NotTaken,
}

/// Takes the file. What is being done is in the record, on disk, before it is done.
pub(super) fn take(machine: &Machine, record: &mut Record) -> io::Result<()> {
    let (path, backup) = (machine.at(PATH), machine.at(BACKUP));
    let before = read(&path)?;
    if before.as_deref().is_some_and(is_ours) {
        // Ours put aside as what was here before would be given back, and nobody would know how names were answered.
        return if exists(&backup) || record.had_no_file { Ok(()) } else { Err(backup_is_gone()) };
    }
    let before = match torn(machine, before.as_deref()) {
        // Half written, it is not what was here before.
        Some(before) => before,
        None => {
            // A backup beside a file that is not ours is of a time that somebody else has ended.
            remove(&backup)?;
            record.had_no_file = !exists(&path);
            record::write(machine, record)?;
            if !record.had_no_file {
                put_aside(&path, &backup, is_mounted(machine))?;
            }
            before.unwrap_or_default()
        }
    };
    let text = text_for(&before);
    if is_mounted(machine) {
        return write_in_place(&path, text.as_bytes());
    }
    match put(&path, text.as_bytes(), MODE) {
        Err(error) if is_mount(&error) => write_in_place(&path, text.as_bytes()),
        done => done,
    }
}

/// Gives the file back, from wherever taking it has come to.
pub(super) fn give_back(machine: &Machine, had_no_file: bool) -> io::Result<Returned> {
    let (path, backup) = (machine.at(PATH), machine.at(BACKUP));
    let is_taken = exists(&backup) || had_no_file;
    let present = read(&path)?;
    if torn(machine, present.as_deref()).is_some() {
        return_in_place(&path, &backup)?;
        return Ok(Returned::AsItWas);
    }
    if !present.as_deref().is_some_and(is_ours) {
        // Cut off before it was written, the backup is a second name of the file itself, or a copy of it.
        let is_same = same(&path, &backup);
        remove(&backup)?;
        return Ok(if is_same || !is_taken { Returned::NotTaken } else { Returned::LeftToOther });
    }
    if !is_taken {
        return Err(backup_is_gone());
    }
    if is_mounted(machine) && exists(&backup) {
        return_in_place(&path, &backup)?;
        return Ok(Returned::AsItWas);
    }
    let returned = if exists(&backup) { fs::rename(&backup, &path) } else { fs::remove_file(&path) };
    match returned {
        Err(error) if is_mount(&error) && exists(&backup) => return_in_place(&path, &backup)?,
        // It has become a mount since there was none.
        Err(error) if is_mount(&error) => write_in_place(&path, &[])?,
        returned => returned?,
    }
    sync_folder(&path)?;
    Ok(Returned::AsItWas)
}

fn backup_is_gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{BACKUP} is gone: put your resolvers into {PATH} by hand"))
}

/// Tells whether the file is ours at present.
pub(super) fn is_taken(machine: &Machine) -> bool {
    read(&machine.at(PATH)).ok().flatten().as_deref().is_some_and(is_ours)
}

/// Tells whether a text is ours and still sends names here: one that somebody has changed a line of, or written anew with our
/// words above it, is ours as well while it does.
fn is_ours(text: &str) -> bool {
    text.starts_with(MARK) && resolvers::parse(text).servers.contains(&ADDRESS)
}

/// Makes our file: the search domains and options of the one before, and our address alone.
fn text_for(before: &str) -> String {
    let keeps = |line: &&str| {
        let word = line.split_whitespace().next().unwrap_or_default();
        ["search", "domain", "options", "sortlist"].contains(&word)
    };
    let kept: String = before.lines().filter(keeps).flat_map(|line| [line.trim_end(), "\n"]).collect();
    format!(
        "{MARK}: it answers the names of this machine. Undo: sudo truename down\n\
         # What was here before is {BACKUP}; no second nameserver belongs here.\n\
         nameserver {}\n{kept}",
        ADDRESS.ip()
    )
}

/// Gives the file a second name, or copies it where that cannot be, or would be written with it.
fn put_aside(path: &Path, backup: &Path, is_mounted: bool) -> io::Result<()> {
    // A link is put aside as a link: linkat(2) does not follow it.
    if !is_mounted && fs::hard_link(path, backup).is_ok() {
        return sync_folder(path);
    }
    put(backup, &fs::read(path)?, fs::metadata(path).map_or(MODE, |file| file.mode() & 0o777))
}

/// Reads the file through links; none when there is none.
fn read(path: &Path) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?,
    };
    match std::str::from_utf8(&bytes) {
        // Not of a character that was cut at the bound.
        Err(error) if error.error_len().is_some() => {
            let found = format!("{} is no text; put a good one there first", path.display());
            Err(io::Error::new(io::ErrorKind::InvalidData, found))
        }
        Ok(_) | Err(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
    }
}

/// Writes a file that cannot be replaced, because it is a mount of its own. With empty lines to the length of the one
/// before, so that who reads meanwhile finds no half of that behind ours.
fn write_in_place(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let mut padded = text.to_vec();
    let len = file.metadata()?.len().min(MAX_FILE_BYTES);
    padded.resize(text.len().max(usize::try_from(len).unwrap_or(0)), b'\n');
    file.write_all(&padded)?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

/// Writes back what was put aside, and lets go of that only when it stands there.
fn return_in_place(path: &Path, backup: &Path) -> io::Result<()> {
    let text = fs::read(backup)?;
    write_in_place(path, &text)?;
    if fs::read(path)? != text {
        return Err(io::Error::other(format!("{PATH} does not take what is written: {BACKUP} has it")));
    }
    remove(backup)?;
    sync_folder(path)
}

fn is_mounted(machine: &Machine) -> bool {
    fs::read_to_string(machine.at("/proc/self/mountinfo")).is_ok_and(|text| is_mount_point(&text, PATH))
}

/// Returns what was there before, when the file is a mount and its writing was cut off, on the way to us or back: the
/// beginning of one text with the rest of the other, which is nobody else's doing.
fn torn(machine: &Machine, present: Option<&str>) -> Option<String> {
    if !is_mounted(machine) {
        return None;
    }
    let (present, before) = (present?, read(&machine.at(BACKUP)).ok()??);
    let ours = text_for(&before);
    let is_torn = present != before
        && !is_ours(present)
        && (is_mixed(present, &ours, &before) || is_mixed(present, &before, &ours));
    is_torn.then_some(before)
}

/// Tells whether a text begins as `new` and goes on as `old`, with empty lines, or not at all.
fn is_mixed(text: &str, new: &str, old: &str) -> bool {
    let same = text.bytes().zip(new.bytes()).take_while(|(a, b)| a == b).count();
    let (rest, old) = (text.as_bytes().get(same..).unwrap_or_default(), old.as_bytes().get(same..).unwrap_or_default());
    rest.iter().all(|octet| *octet == b'\n') || rest == old
}

fn is_mount(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EBUSY | Errno::EXDEV))
}

/// Tells whether something has this name, be it a link that leads nowhere.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn same(a: &Path, b: &Path) -> bool {
    let (Ok(of_a), Ok(of_b)) = (a.symlink_metadata(), b.symlink_metadata()) else { return false };
    (of_a.dev(), of_a.ino()) == (of_b.dev(), of_b.ino())
        || fs::read(a).ok().is_some_and(|text| fs::read(b).ok() == Some(text))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::takeover::Method;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const BEFORE: &str =
        "# mine\nsearch corp.example lab.example\nnameserver 192.168.1.1\nnameserver 192.168.1.2\noptions edns0\n";

    struct Etc {
        _folder: tempfile::TempDir,
        machine: Machine,
        record: Record,
    }

    impl Etc {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("etc")).unwrap();
            let machine = Machine::below(folder.path());
            Self { _folder: folder, machine, record: Record::new(Method::File) }
        }

        fn with(text: &str) -> Self {
            let etc = Self::new();
            fs::write(etc.machine.at(PATH), text).unwrap();
            etc
        }

        fn take(&mut self) {
            take(&self.machine, &mut self.record).unwrap();
        }

        fn give_back(&self) -> Returned {
            let record = record::read(&self.machine).unwrap();
            give_back(&self.machine, record.is_some_and(|record| record.had_no_file)).unwrap()
        }

        fn text(&self) -> String {
            fs::read_to_string(self.machine.at(PATH)).unwrap()
        }

        /// Nothing is left but the file.
        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.machine.at("/etc")).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn a_file_comes_back_as_it_was_with_its_mode_and_inode() {
        let mut etc = Etc::with(BEFORE);
        let path = etc.machine.at(PATH);
        fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        etc.take();
        let ours = etc.text();
        assert_eq!(resolvers::parse(&ours).servers, [ADDRESS]);
        assert!(ours.ends_with("search corp.example lab.example\noptions edns0\n"), "{ours}");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        // Once more is the same.
        etc.take();
        assert_eq!(etc.text(), ours);
        assert_eq!(etc.give_back(), Returned::AsItWas);
        assert_eq!((etc.text().as_str(), etc.names()), (BEFORE, vec!["resolv.conf".to_owned()]));
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.ino()), (0o640, inode));
        assert_eq!(etc.give_back(), Returned::NotTaken);
        assert_eq!(etc.text(), BEFORE);
    }

    #[test]
    fn links_come_back_as_links_also_those_that_lead_nowhere() {
        for target in ["../run/x/resolv.conf", "/truename-is-nowhere/resolv.conf"] {
            let mut etc = Etc::new();
            let folder = etc.machine.at("/run/x");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("resolv.conf"), BEFORE).unwrap();
            symlink(target, etc.machine.at(PATH)).unwrap();
            etc.take();
            assert!(etc.machine.at(PATH).symlink_metadata().unwrap().is_file());
            assert_eq!(etc.give_back(), Returned::AsItWas);
            assert_eq!(fs::read_link(etc.machine.at(PATH)).unwrap(), Path::new(target));
            assert_eq!(etc.names(), ["resolv.conf"]);
            assert_eq!(fs::read_to_string(folder.join("resolv.conf")).unwrap(), BEFORE);
        }
    }

    #[test]
    fn where_there_was_no_file_there_is_none_afterwards() {
        let mut etc = Etc::new();
        etc.take();
        assert_eq!(etc.names(), ["resolv.conf"]);
        assert_eq!(etc.give_back(), Returned::AsItWas);
        assert_eq!(etc.names(), [""; 0]);
    }

    #[test]
    fn what_somebody_else_wrote_meanwhile_is_left_to_them() {
        for other in ["nameserver 10.9.9.9\n", "# managed by truename\nnameserver 10.9.9.9\n", ""] {
            let mut etc = Etc::with(BEFORE);
            etc.take();
            fs::write(etc.machine.at(PATH), other).unwrap();
            assert_eq!(etc.give_back(), Returned::LeftToOther);
            assert_eq!((etc.text().as_str(), etc.names()), (other, vec!["resolv.conf".to_owned()]));
            // And the next one begins from theirs.
            etc.take();
            assert_eq!(etc.give_back(), Returned::AsItWas);
            assert_eq!(etc.text(), other);
        }
    }

    #[test]
    fn a_line_added_to_ours_does_not_keep_names_here() {
        let mut etc = Etc::with(BEFORE);
        etc.take();
        fs::write(etc.machine.at(PATH), etc.text() + "options ndots:2\n").unwrap();
        assert_eq!(etc.give_back(), Returned::AsItWas);
        assert_eq!(etc.text(), BEFORE);
    }

    #[test]
    fn every_point_at_which_taking_is_cut_off_has_a_way_back() {
        // After the second name, before the file is ours.
        let etc = Etc::with(BEFORE);
        record::write(&etc.machine, &etc.record).unwrap();
        put_aside(&etc.machine.at(PATH), &etc.machine.at(BACKUP), false).unwrap();
        assert_eq!(etc.give_back(), Returned::NotTaken);
        assert_eq!((etc.text().as_str(), etc.names()), (BEFORE, vec!["resolv.conf".to_owned()]));
        // With a part of the next file beside it: it is in nobody's way.
        let mut etc = Etc::with(BEFORE);
        fs::write(etc.machine.at("/etc/resolv.conf.truename-next"), "# mana").unwrap();
        etc.take();
        assert_eq!(etc.give_back(), Returned::AsItWas);
        assert_eq!(etc.names(), ["resolv.conf"]);
        // With the backup gone there is nothing to give back, and that is said.
        let mut etc = Etc::with(BEFORE);
        etc.take();
        fs::remove_file(etc.machine.at(BACKUP)).unwrap();
        let error = give_back(&etc.machine, false).unwrap_err();
        assert!(error.to_string().contains(BACKUP), "{error}");
        assert!(is_taken(&etc.machine));
        // Nor is ours put aside as what was here before.
        let ours = etc.text();
        assert_eq!(take(&etc.machine, &mut etc.record).unwrap_err().to_string(), error.to_string());
        assert_eq!((etc.text(), etc.names()), (ours, vec!["resolv.conf".to_owned()]));
    }

    #[test]
    fn a_mount_that_was_half_written_comes_back_whole() {
        let mount = |etc: &Etc| {
            let path = etc.machine.at("/proc/self/mountinfo");
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "90 36 8:1 /x /etc/resolv.conf rw - ext4 /dev/sda1 rw\n").unwrap();
        };
        let ours = text_for(BEFORE);
        let long = format!("{BEFORE}{}", "# more\n".repeat(60));
        // On the way to us and on the way back, cut off here and there, cut short or with the rest of the one before.
        for before in [BEFORE, &long] {
            for (new, old) in [(ours.as_str(), before), (before, ours.as_str())] {
                for at in (0..new.len()).step_by(29).chain([new.len() - 1, new.len()]) {
                    for rest in ["", old.get(at..).unwrap_or_default(), "\n\n"] {
                        let mut etc = Etc::with(before);
                        mount(&etc);
                        etc.take();
                        fs::write(etc.machine.at(PATH), format!("{}{rest}", &new[..at])).unwrap();
                        if at % 2 == 0 {
                            // Taken again, what was before stays what it was.
                            etc.take();
                            assert!(is_taken(&etc.machine), "{at} {rest}");
                        }
                        etc.give_back();
                        assert_eq!(
                            (etc.text().as_str(), etc.names()),
                            (before, vec!["resolv.conf".to_owned()]),
                            "{at} {rest}"
                        );
                    }
                }
            }
        }
        // What somebody else wrote is theirs there too.
        let mut etc = Etc::with(BEFORE);
        mount(&etc);
        let inode = fs::metadata(etc.machine.at(PATH)).unwrap().ino();
        etc.take();
        assert_eq!(fs::metadata(etc.machine.at(PATH)).unwrap().ino(), inode, "it is written, not replaced");
        fs::write(etc.machine.at(PATH), "nameserver 10.9.9.9\n").unwrap();
        assert_eq!(etc.give_back(), Returned::LeftToOther);
        assert_eq!(etc.text(), "nameserver 10.9.9.9\n");
    }

    #[test]
    fn a_file_that_is_no_text_is_refused_and_left() {
        let mut etc = Etc::new();
        fs::write(etc.machine.at(PATH), b"nameserver \xff\xfe\n").unwrap();
        take(&etc.machine, &mut etc.record).unwrap_err();
        assert_eq!(etc.names(), ["resolv.conf"]);
    }

    #[test]
    fn what_is_read_of_a_file_has_a_bound() {
        let mut etc = Etc::with(&format!(
            "{BEFORE}{}\nsearch late.example\n",
            "#".repeat(usize::try_from(MAX_FILE_BYTES).unwrap())
        ));
        let long = etc.text();
        etc.take();
        assert!(etc.text().contains("corp.example") && !etc.text().contains("late.example"));
        etc.give_back();
        assert_eq!(etc.text(), long);
    }
}
