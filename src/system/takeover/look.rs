//! Collects what is known of who answers this machine's names.

use super::command::run;
use super::facts::{
    Facts, Owner, first_comment, is_mount_point, nss_resolve, owner_of, systemd_version, wsl_leaves_file,
};
use super::{MAX_FILE_BYTES, Machine, SD_BOOTED, canary, link, lists};
use crate::system::{ports, resolvers};
use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The units that give names back.
const UNITS: [&str; 2] =
    ["/usr/lib/systemd/system/truename-takeover.service", "/etc/systemd/system/truename-takeover.service"];
/// What our processes are called.
const PROGRAM: &str = "truename";
/// Our addresses: never a resolver of this machine.
const OWN: [SocketAddr; 2] =
    [SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53), SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 53)];

/// Looks at the machine. What cannot be read counts as not there.
#[must_use]
pub fn look(machine: &Machine) -> Facts {
    // First, so that it has written its files when they are read.
    let has_resolved = lists::has_resolved();
    let path = machine.at("/etc/resolv.conf");
    let text = read(&path);
    let target = fs::read_link(&path).ok().map(|target| target.to_string_lossy().into_owned());
    let owner = if path.symlink_metadata().is_err() { Owner::Missing } else { owner_of(&text, target.as_deref()) };
    let previous = resolvers::machine_resolvers_in(&machine.at("/"), &OWN);
    let release = read(&machine.at("/proc/sys/kernel/osrelease")).to_ascii_lowercase();
    let has_systemd = machine.at(SD_BOOTED).is_dir() && !machine.is_chroot();
    let version = if has_systemd { run("systemctl", &["--version"]).ok() } else { None };
    Facts {
        is_root: nix::unistd::geteuid().is_root(),
        has_systemd,
        systemd_version: version.and_then(|said| systemd_version(&said.out)),
        has_units: UNITS.iter().any(|unit| machine.at(unit).exists()),
        owner,
        target,
        comment: first_comment(&text).filter(|_| owner == Owner::Somebody),
        servers: resolvers::parse(&text).servers,
        is_mounted: is_mount_point(&read(&machine.at("/proc/self/mountinfo")), "/etc/resolv.conf"),
        is_immutable: is_immutable(&path),
        has_resolved,
        nss_resolve: nss_resolve(&read(&machine.at("/etc/nsswitch.conf"))),
        network_manager: lists::network_manager(),
        resolvconf: lists::resolvconf(),
        is_wsl: release.contains("microsoft"),
        wsl_leaves_file: wsl_leaves_file(&read(&machine.at("/etc/wsl.conf"))),
        links: if has_resolved { link::others() } else { Vec::new() },
        port_53: port_53(),
        previous: previous.servers,
        previous_source: previous.source.display().to_string(),
    }
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        drop(file.take(MAX_FILE_BYTES).read_to_end(&mut bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Tells whether a file has the attribute of chattr +i; a link has none of its own.
fn is_immutable(path: &Path) -> bool {
    let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    let file = if is_file { File::open(path).ok() } else { None };
    file.and_then(|file| rustix::fs::ioctl_getflags(&file).ok())
        .is_some_and(|flags| flags.contains(rustix::fs::IFlags::IMMUTABLE))
}

/// Returns who else holds our port.
fn port_53() -> Option<String> {
    // Where sockets share it, a canary may reach us and the next question somebody else.
    if let Some(other) = ports::sharer_of(OWN[0], PROGRAM) {
        return Some(other);
    }
    if canary::daemon_once() {
        return None;
    }
    let holder = ports::holder_of(OWN[0], true).or_else(|| ports::holder_of(OWN[0], false))?;
    // The service manager holds it for us, for a daemon that is not running.
    (!holder.starts_with("pid 1 (")).then_some(holder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_looked_at_below_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::below(folder.path());
        let write = |path: &str, text: &str| {
            fs::create_dir_all(machine.at(path).parent().unwrap()).unwrap();
            fs::write(machine.at(path), text).unwrap();
        };
        assert_eq!(look(&machine).owner, Owner::Missing);
        write("/etc/resolv.conf", "# Written by hand\nnameserver 192.168.1.1\n");
        write("/proc/sys/kernel/osrelease", "5.15.0-microsoft-standard-WSL2\n");
        write("/etc/wsl.conf", "[network]\ngenerateResolvConf=false\n");
        write("/usr/lib/systemd/system/truename-takeover.service", "");
        let facts = look(&machine);
        assert_eq!(facts.owner, Owner::Somebody);
        assert!(facts.is_wsl && facts.wsl_leaves_file && facts.has_units && !facts.has_systemd, "{facts:?}");
        assert_eq!(facts.previous, ["192.168.1.1:53".parse().unwrap()]);
        assert_eq!(facts.comment.as_deref(), Some("Written by hand"));
        assert!(facts.evidence().contains(&("rc-servers", "192.168.1.1".to_owned())), "{:?}", facts.evidence());
    }
}
