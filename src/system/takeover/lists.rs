//! Programs that write resolv.conf out of what others tell them: NetworkManager and two called resolvconf.

use super::Machine;
use super::command::{must, run, run_with};
use super::facts::{NetworkManager, Resolvconf};
use super::plan::Step;
use super::record::put;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Read by NetworkManager at its start and when it is told to; below /run, so that a boot begins without it.
const DROP_IN: &str = "/run/NetworkManager/conf.d/50-truename.conf";
/// It goes on collecting the resolvers of DHCP and VPNs in /run/NetworkManager, which is where we find them.
const DROP_IN_TEXT: &str =
    "# By truename. Gone at the next boot, or with: sudo truename down\n[main]\nrc-manager=unmanaged\n";
/// What is read again: its configuration (1) and, after it, resolv.conf written anew (2).
const RELOAD: [&str; 2] = ["1", "2"];
/// Our record in resolvconf. Both order records of `lo` before all others.
const RECORD: &str = "lo.truename";
const RECORD_TEXT: &str = "nameserver 127.0.0.1\n";

/// Where Debian's resolvconf keeps its records.
const DEBIAN_RECORDS: &str = "/run/resolvconf/interface";
/// Where openresolv does; later versions call it `keys`.
const OPENRESOLV_RECORDS: [&str; 2] = ["/run/resolvconf/interfaces", "/run/resolvconf/keys"];

/// Finds what of ours is there.
pub(super) fn ours(machine: &Machine) -> impl Iterator<Item = Step> {
    [
        (machine.at(DROP_IN).exists(), Step::NetworkManager),
        (has_record(machine, [DEBIAN_RECORDS]), Step::DebianResolvconf),
        (has_record(machine, OPENRESOLV_RECORDS), Step::Openresolv),
    ]
    .into_iter()
    .filter_map(|(is_there, step)| is_there.then_some(step))
}

/// Asks NetworkManager how it treats names; nothing when it does not run.
pub(super) fn network_manager() -> Option<NetworkManager> {
    let (name, path) = ("org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager/DnsManager");
    let interface = "org.freedesktop.NetworkManager.DnsManager";
    let said = run(
        "busctl",
        &["--system", "--auto-start=no", "--timeout=5", "get-property", name, path, interface, "Mode", "RcManager"],
    );
    let said = said.ok().filter(|said| said.ok)?;
    // `s "default"`, a line each.
    let mut values = said.out.lines().map(|line| line.trim_start_matches('s').trim().trim_matches('"').to_owned());
    Some(NetworkManager { mode: values.next()?, rc_manager: values.next()? })
}

/// Tells whether systemd-resolved answers on D-Bus; it has written its files when it does.
pub(super) fn has_resolved() -> bool {
    let (name, path) = ("org.freedesktop.resolve1", "/org/freedesktop/resolve1");
    let said = run(
        "busctl",
        &["--system", "--auto-start=no", "--timeout=5", "call", name, path, "org.freedesktop.DBus.Peer", "Ping"],
    );
    said.is_ok_and(|said| said.ok)
}

/// Finds out which resolvconf is installed.
pub(super) fn resolvconf() -> Option<Resolvconf> {
    let program = ["/usr/sbin/resolvconf", "/sbin/resolvconf", "/usr/bin/resolvconf"]
        .map(Path::new)
        .into_iter()
        .find(|path| path.exists())?;
    if fs::canonicalize(program).is_ok_and(|path| path.ends_with("resolvectl")) {
        return Some(Resolvconf::Systemd);
    }
    let is_open = run("resolvconf", &["--version"]).is_ok_and(|said| said.ok && said.out.starts_with("openresolv"));
    Some(if is_open { Resolvconf::Openresolv } else { Resolvconf::Debian })
}

/// Keeps NetworkManager from writing resolv.conf.
pub(super) fn hold_network_manager(machine: &Machine) -> io::Result<()> {
    let path = machine.at(DROP_IN);
    DirBuilder::new().recursive(true).mode(0o755).create(path.parent().unwrap_or(Path::new("/")))?;
    put(&path, DROP_IN_TEXT.as_bytes(), 0o644)?;
    reload_network_manager(&RELOAD[..1])
}

/// Lets it again.
pub(super) fn let_network_manager(machine: &Machine) -> io::Result<()> {
    match fs::remove_file(machine.at(DROP_IN)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed?,
    }
    // One that does not run reads its configuration when it starts.
    if network_manager().is_some() { reload_network_manager(&RELOAD) } else { Ok(()) }
}

fn reload_network_manager(flags: &[&str]) -> io::Result<()> {
    let name = "org.freedesktop.NetworkManager";
    for flag in flags {
        must("busctl", &["--system", "call", name, "/org/freedesktop/NetworkManager", name, "Reload", "u", flag])?;
    }
    Ok(())
}

/// Adds our record.
pub(super) fn add_record(is_open: bool) -> io::Result<()> {
    // openresolv writes every record unless one is exclusive; Debian's ends its list behind a loopback address by itself.
    let args: &[&str] = if is_open { &["-x", "-m", "0", "-a", RECORD] } else { &["-a", RECORD] };
    let said = run_with("resolvconf", args, RECORD_TEXT)?;
    if said.ok {
        Ok(())
    } else {
        Err(io::Error::other(format!("`resolvconf {}`: {}", args.join(" "), said.complaint())))
    }
}

/// Removes it; one that is not there is no failure.
pub(super) fn remove_record(machine: &Machine, is_open: bool) -> io::Result<()> {
    let removed = if is_open {
        let is_there = has_record(machine, OPENRESOLV_RECORDS);
        must("resolvconf", &["-f", "-d", RECORD]).and_then(|said| {
            // Its records are gone with a boot, and what it wrote of them stays on disk: without a record to remove it writes
            // nothing, and the file would name us until some interface comes up.
            if is_there { Ok(said) } else { must("resolvconf", &["-u"]) }
        })
    } else {
        must("resolvconf", &["-d", RECORD])
    };
    match removed {
        // With the program its records are gone.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map(drop),
    }
}

fn has_record<const N: usize>(machine: &Machine, folders: [&str; N]) -> bool {
    folders.into_iter().any(|folder| machine.at(folder).join(RECORD).exists())
}
