//! What is known of who answers this machine's names.

use crate::system::resolvers;
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The first words of a resolv.conf of ours.
pub(super) const MARK: &str = "# managed by truename";
/// Characters of a foreign comment that are shown.
const MAX_SHOWN_CHARS: usize = 72;

/// Whose file resolv.conf is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// There is none.
    #[default]
    Missing,
    /// Ours.
    Truename,
    /// systemd-resolved's: it names the stub.
    ResolvedStub,
    /// systemd-resolved's: it names the servers behind the stub.
    ResolvedUplink,
    /// NetworkManager's.
    NetworkManager,
    /// That of Debian's resolvconf.
    DebianResolvconf,
    /// That of openresolv.
    Openresolv,
    /// That of the Windows Subsystem for Linux.
    Wsl,
    /// Written by cloud-init when the machine starts.
    CloudInit,
    /// Tailscale's.
    Tailscale,
    /// Somebody's who does not say so: a person, dhclient, an installer.
    Somebody,
}

impl Owner {
    /// Returns the word that stands for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Truename => "truename",
            Self::ResolvedStub => "resolved",
            Self::ResolvedUplink => "resolved, past its stub",
            Self::NetworkManager => "NetworkManager",
            Self::DebianResolvconf => "resolvconf",
            Self::Openresolv => "openresolv",
            Self::Wsl => "WSL",
            Self::CloudInit => "cloud-init",
            Self::Tailscale => "tailscale",
            Self::Somebody => "a plain file",
        }
    }
}

/// Which program is called resolvconf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resolvconf {
    /// Debian's.
    Debian,
    /// openresolv, which alone knows `--version`.
    Openresolv,
    /// systemd's, which hands everything to systemd-resolved.
    Systemd,
}

/// A link that has resolvers of its own in systemd-resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LinkDns {
    /// Its name.
    pub name: String,
    /// Its domains as systemd-resolved shows them: `~.` for all names.
    pub domains: Vec<String>,
}

/// NetworkManager as it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NetworkManager {
    /// Who answers names in its view: `default`, `systemd-resolved`, `dnsmasq`, `none`.
    pub mode: String,
    /// How it treats resolv.conf: `symlink`, `file`, `resolvconf`, `unmanaged`.
    pub rc_manager: String,
}

/// All that was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Facts {
    /// We run as root.
    pub is_root: bool,
    /// systemd is the first process.
    pub has_systemd: bool,
    /// The units that give names back when truename is gone are installed.
    pub has_units: bool,
    /// Its version, when it says so.
    pub systemd_version: Option<u32>,
    /// Whose file resolv.conf is.
    pub owner: Owner,
    /// Where it leads, when it is a link.
    pub target: Option<String>,
    /// Its first comment, when nobody known wrote it.
    pub comment: Option<String>,
    /// The servers it names.
    pub servers: Vec<SocketAddr>,
    /// It is a mount of its own, as in containers, and cannot be replaced, only written.
    pub is_mounted: bool,
    /// It has the attribute that keeps everybody from changing it (chattr +i).
    pub is_immutable: bool,
    /// systemd-resolved answers on D-Bus.
    pub has_resolved: bool,
    /// nsswitch.conf has programs ask systemd-resolved.
    pub nss_resolve: bool,
    /// NetworkManager, when it answers on D-Bus.
    pub network_manager: Option<NetworkManager>,
    /// The resolvconf that is installed.
    pub resolvconf: Option<Resolvconf>,
    /// This is the Windows Subsystem for Linux.
    pub is_wsl: bool,
    /// /etc/wsl.conf says `generateResolvConf = false`.
    pub wsl_leaves_file: bool,
    /// Links with resolvers of their own, in systemd-resolved.
    pub links: Vec<LinkDns>,
    /// Who holds port 53 of 127.0.0.1, when somebody else than truename does.
    pub port_53: Option<String>,
    /// The resolvers of this machine, truename left out.
    pub previous: Vec<SocketAddr>,
    /// Where they stand.
    pub previous_source: String,
}

impl Facts {
    /// Tells whether programs ask systemd-resolved, one way or the other.
    #[must_use]
    pub fn uses_resolved(&self) -> bool {
        self.has_resolved && (self.owner == Owner::ResolvedStub || self.nss_resolve)
    }

    /// Lists what was found, a key and a value each; what plays no part here is left out.
    #[must_use]
    pub fn evidence(&self) -> Vec<(&'static str, String)> {
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let systemd = self.systemd_version.filter(|_| self.has_systemd);
        let systemd = systemd.map_or_else(|| yes(self.has_systemd), |version| version.to_string());
        let mut all = vec![("systemd", systemd), ("rc", self.owner.as_str().to_owned())];
        if let Some(target) = &self.target {
            all.push(("rc-target", target.clone()));
        }
        if let Some(comment) = &self.comment {
            all.push(("rc-comment", comment.clone()));
        }
        let list = |servers: &[SocketAddr]| {
            let texts: Vec<String> = servers.iter().map(|server| shown(*server)).collect();
            if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
        };
        all.push(("rc-servers", list(&self.servers)));
        if self.is_mounted {
            all.push(("rc-mounted", yes(true)));
        }
        if self.is_immutable {
            all.push(("rc-immutable", yes(true)));
        }
        all.push(("resolved", yes(self.has_resolved)));
        if self.has_resolved {
            let used = match (self.nss_resolve, self.owner == Owner::ResolvedStub) {
                (true, true) => "nss and file",
                (true, false) => "nss",
                (false, true) => "file",
                (false, false) => "no",
            };
            all.push(("resolved-used", used.to_owned()));
        }
        if let Some(manager) = &self.network_manager {
            all.push(("nm-dns", manager.mode.clone()));
            all.push(("nm-rc", manager.rc_manager.clone()));
        }
        if let Some(resolvconf) = self.resolvconf {
            let text = match resolvconf {
                Resolvconf::Debian => "debian",
                Resolvconf::Openresolv => "openresolv",
                Resolvconf::Systemd => "systemd",
            };
            all.push(("resolvconf", text.to_owned()));
        }
        if self.is_wsl {
            all.push(("wsl", yes(true)));
        }
        for link in &self.links {
            all.push(("link", format!("{} {}", link.name, link.domains.join(" "))));
        }
        all.push(("port53", self.port_53.clone().unwrap_or_else(|| "free, or truename's".to_owned())));
        all.push(("previous", format!("{} ({})", list(&self.previous), self.previous_source)));
        all
    }
}

/// Shows a server as resolv.conf has it: without the port that goes without saying.
#[must_use]
pub(super) fn shown(server: SocketAddr) -> String {
    if server.port() == 53 { server.ip().to_string() } else { server.to_string() }
}

/// Says whose file a resolv.conf is, by where it leads and what it says of itself.
pub(super) fn owner_of(text: &str, target: Option<&str>) -> Owner {
    let names_stub = {
        let servers = resolvers::parse(text).servers;
        !servers.is_empty() && servers.iter().all(|server| is_resolved_stub(server.ip()))
    };
    let comments: String = leading_comments(text).map(|line| line.to_ascii_lowercase() + "\n").collect();
    let says = |word: &str| comments.contains(word);
    if text.starts_with(MARK) {
        return Owner::Truename;
    }
    if let Some(target) = target {
        let leads = |part: &str| target.contains(part);
        if leads("systemd/resolve/stub-resolv.conf") || leads("lib/systemd/resolv.conf") {
            return Owner::ResolvedStub;
        }
        if leads("systemd/resolve/resolv.conf") {
            return Owner::ResolvedUplink;
        }
        if leads("/mnt/wsl/") {
            return Owner::Wsl;
        }
    }
    // The header of Debian's resolvconf explains what the stub of systemd-resolved is.
    if says("resolvconf(8)") {
        return Owner::DebianResolvconf;
    }
    if says("systemd-resolved") {
        return if names_stub { Owner::ResolvedStub } else { Owner::ResolvedUplink };
    }
    for (word, owner) in [
        ("generated by networkmanager", Owner::NetworkManager),
        ("generated by resolvconf", Owner::Openresolv),
        ("generated by wsl", Owner::Wsl),
        ("tailscale", Owner::Tailscale),
        ("cloud-init", Owner::CloudInit),
    ] {
        if says(word) {
            return owner;
        }
    }
    if target.is_some_and(|target| target.contains("NetworkManager/")) {
        return Owner::NetworkManager;
    }
    if names_stub { Owner::ResolvedStub } else { Owner::Somebody }
}

/// Returns the first comment, to be shown.
pub(super) fn first_comment(text: &str) -> Option<String> {
    let line =
        leading_comments(text).map(|line| line.trim_start_matches(['#', ';', ' '])).find(|line| !line.is_empty())?;
    Some(line.chars().filter(|c| !c.is_control()).take(MAX_SHOWN_CHARS).collect())
}

fn leading_comments(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).take_while(|line| line.is_empty() || line.starts_with(['#', ';']))
}

fn is_resolved_stub(address: IpAddr) -> bool {
    [Ipv4Addr::new(127, 0, 0, 53), Ipv4Addr::new(127, 0, 0, 54)].iter().any(|stub| address == *stub)
}

/// Reads what `systemctl --version` says: `systemd 252 (252.39-1~deb12u1)`.
pub(super) fn systemd_version(text: &str) -> Option<u32> {
    let word = text.strip_prefix("systemd ")?.split_whitespace().next()?;
    let digits = word.find(|c: char| !c.is_ascii_digit()).map_or(word, |end| &word[..end]);
    digits.parse().ok()
}

/// Tells whether a path is a mount of its own, as mountinfo lists them (proc_pid_mountinfo(5)): the fifth field.
pub(super) fn is_mount_point(mountinfo: &str, path: &str) -> bool {
    mountinfo.lines().any(|line| line.split(' ').nth(4) == Some(path))
}

/// Tells whether nsswitch.conf has programs ask systemd-resolved before DNS.
pub(super) fn nss_resolve(text: &str) -> bool {
    let line = text.lines().map(str::trim).find_map(|line| line.strip_prefix("hosts:"));
    let line = line.unwrap_or_default().split('#').next().unwrap_or_default();
    line.split_whitespace().take_while(|word| *word != "dns").any(|word| word == "resolve")
}

/// Tells whether /etc/wsl.conf keeps Windows from writing resolv.conf.
pub(super) fn wsl_leaves_file(text: &str) -> bool {
    let mut section = String::new();
    let mut leaves = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim().to_ascii_lowercase();
        } else if let Some((key, value)) = line.split_once('=')
            && section == "network"
            && key.trim().eq_ignore_ascii_case("generateResolvConf")
        {
            leaves = value.trim().eq_ignore_ascii_case("false");
        }
    }
    leaves
}

/// Reads what `resolvectl domain` lists: `Link 5 (tun0): ~corp.example`.
pub(super) fn links(text: &str, ours: &str) -> Vec<LinkDns> {
    let link = |line: &str| {
        let rest = line.trim().strip_prefix("Link ")?;
        let (head, domains) = rest.split_once("):")?;
        let name = head.split_once('(')?.1.to_owned();
        let domains: Vec<String> = domains.split_whitespace().map(str::to_owned).collect();
        (!domains.is_empty() && name != ours).then_some(LinkDns { name, domains })
    };
    text.lines().filter_map(link).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_file_it_is_shows_in_its_target_its_header_or_its_servers() {
        let debian = "# Dynamic resolv.conf(5) file for glibc resolver(3) generated by resolvconf(8)\n#     DO NOT EDIT\n\
                      # 127.0.0.53 is the systemd-resolved stub resolver.\n# run \"resolvectl status\"\nnameserver 10.0.0.1\n";
        let resolved = "# This is /run/systemd/resolve/stub-resolv.conf managed by man:systemd-resolved(8).\nnameserver 127.0.0.53\n";
        for (text, target, expected) in [
            ("nameserver 10.0.0.1\n", None, Owner::Somebody),
            ("nameserver 127.0.0.53\noptions edns0\n", None, Owner::ResolvedStub),
            ("", Some("../run/systemd/resolve/stub-resolv.conf"), Owner::ResolvedStub),
            ("", Some("/usr/lib/systemd/resolv.conf"), Owner::ResolvedStub),
            (resolved, None, Owner::ResolvedStub),
            ("# … managed by man:systemd-resolved(8).\nnameserver 10.0.0.1\n", None, Owner::ResolvedUplink),
            ("nameserver 10.0.0.1\n", Some("/run/systemd/resolve/resolv.conf"), Owner::ResolvedUplink),
            ("# Generated by NetworkManager\nnameserver 10.0.0.1\n", None, Owner::NetworkManager),
            ("nameserver 10.0.0.1\n", Some("/run/NetworkManager/resolv.conf"), Owner::NetworkManager),
            (debian, Some("../run/resolvconf/resolv.conf"), Owner::DebianResolvconf),
            ("# Generated by resolvconf\nnameserver 10.0.0.1\n", None, Owner::Openresolv),
            ("# This file was automatically generated by WSL. To stop …\nnameserver 172.20.0.1\n", None, Owner::Wsl),
            ("nameserver 172.20.0.1\n", Some("/mnt/wsl/resolv.conf"), Owner::Wsl),
            ("# resolv.conf(5) file generated by tailscale\nnameserver 100.100.100.100\n", None, Owner::Tailscale),
            ("; Created by cloud-init on instance boot automatically\nnameserver 10.0.0.1\n", None, Owner::CloudInit),
            ("# managed by truename: …\nnameserver 127.0.0.1\n", None, Owner::Truename),
            // A word behind the header is nobody's signature.
            ("nameserver 10.0.0.1\n# not generated by NetworkManager\n", None, Owner::Somebody),
        ] {
            assert_eq!(owner_of(text, target), expected, "{target:?} {text}");
        }
    }

    #[test]
    fn a_first_comment_is_shown_without_what_a_terminal_obeys() {
        assert_eq!(first_comment("#\n# By hand \u{1b}[2J\nnameserver 1.2.3.4\n").as_deref(), Some("By hand [2J"));
        assert_eq!(first_comment("nameserver 1.2.3.4\n# later\n"), None);
    }

    #[test]
    fn a_mount_of_its_own_is_found_by_its_place() {
        let text = "36 35 98:0 / / rw,noatime - ext4 /dev/root rw\n90 36 8:1 /x/resolv.conf /etc/resolv.conf rw - ext4 /dev/sda1 rw\n";
        assert!(is_mount_point(text, "/etc/resolv.conf"));
        assert!(!is_mount_point(text, "/etc/hosts"));
    }

    #[test]
    fn the_version_of_systemd_is_the_first_number() {
        assert_eq!(systemd_version("systemd 252 (252.39-1~deb12u1)\n+PAM +AUDIT\n"), Some(252));
        assert_eq!(systemd_version("systemd 249.11-0ubuntu3\n"), Some(249));
        assert_eq!(systemd_version("systemd 259~rc1 (259~rc1-1)\n"), Some(259));
        assert_eq!(systemd_version("systemd\n"), None);
        assert_eq!(systemd_version(""), None);
    }

    #[test]
    fn nsswitch_and_wsl_conf_are_read_as_their_programs_read_them() {
        for (text, expected) in [
            ("hosts: mymachines resolve [!UNAVAIL=return] files myhostname dns\n", true),
            ("hosts: files dns resolve\n", false),
            ("hosts: files dns # resolve\n", false),
            ("#hosts: resolve\npasswd: files\n", false),
        ] {
            assert_eq!(nss_resolve(text), expected, "{text}");
        }
        assert!(wsl_leaves_file("[boot]\nsystemd=true\n[network]\ngenerateResolvConf = False\n"));
        assert!(!wsl_leaves_file("[boot]\ngenerateResolvConf = false\n[network]\nhostname = a\n"));
    }

    #[test]
    fn links_with_domains_are_found_and_ours_is_left_out() {
        let text = "Global:\nLink 2 (eth0): fritz.box\nLink 3 (lo):\nLink 7 (truename0): ~.\nLink 9 (tun0): ~corp.example ~10.in-addr.arpa\n";
        let found = links(text, "truename0");
        assert_eq!(found.iter().map(|link| link.name.as_str()).collect::<Vec<_>>(), ["eth0", "tun0"]);
        assert_eq!(found[1].domains, ["~corp.example", "~10.in-addr.arpa"]);
    }
}
