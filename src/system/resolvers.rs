//! Which resolvers this machine was given: resolv.conf, or the list behind the local stub that stands in it.
//!
//! A file that is missing, unreadable or strange is a note, never an error: a machine without resolvers still has its
//! local names. Never returns one of our own addresses, which would be asking ourselves.

use crate::dns::Name;
use std::ffi::OsStr;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

/// Octets read of one file; real ones have a few hundred.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// Resolvers taken at most. glibc takes three; lists behind stubs hold a few more.
const MAX_SERVERS: usize = 16;
/// Search domains taken at most; glibc 2.26 lifted its limit of six, systemd stops at 256.
const MAX_SEARCH: usize = 32;
/// Notes kept at most.
const MAX_NOTES: usize = 32;
/// Characters of a word that a note shows: about a line of a terminal.
const SHOWN_CHARS: usize = 80;
/// Files of one folder looked at.
const MAX_FOLDER_FILES: usize = 64;
/// The resolv.conf that was put aside for ours (`takeover::file`), relative to the root.
const BEFORE_US: &str = "etc/resolv.conf.before-truename";
/// Where Debian's resolvconf and openresolv keep what they were told, one file for each interface and who told of it
/// (`NAME.dhclient`), relative to the root; later versions of openresolv have `keys`.
const RECORDS: [&str; 3] = ["run/resolvconf/interface", "run/resolvconf/interfaces", "run/resolvconf/keys"];
/// Interfaces that both of them put before the rest, as they are shipped: names that are in use over a tunnel are its own.
const TUNNELS: [&str; 5] = ["tap", "tun", "vpn", "wg", "ppp"];
/// The port of DNS.
const DNS_PORT: u16 = 53;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Resolvers in their order, without our own addresses and without local stubs.
    pub servers: Vec<SocketAddr>,
    /// Search domains in their order.
    pub search: Vec<Name>,
    /// The file the resolvers come from.
    pub source: PathBuf,
    /// Our own address was among them: somebody pointed this machine at us, and whom it used before is not told.
    pub names_us: bool,
    /// What was strange, for people.
    pub notes: Vec<String>,
}

/// Finds the resolvers this machine was given; `own` are the addresses we listen on.
#[must_use]
pub fn machine_resolvers(own: &[SocketAddr]) -> Found {
    machine_resolvers_in(Path::new("/"), own)
}

/// Returns the files whose change may change [`machine_resolvers`], those that may still come among them.
#[must_use]
pub fn watched_files() -> Vec<PathBuf> {
    // Records are looked at as a folder: one that comes is news as one that changes is.
    let is_record = |list: &PathBuf| RECORDS.iter().any(|folder| list.starts_with(folder));
    let files = stubs_lists(Path::new("/"), &[]).into_iter().filter(|list| !is_record(list));
    let lists = files.chain(RECORDS.map(PathBuf::from)).map(|list| Path::new("/").join(list));
    // A program that is not there has no folder to watch.
    let lists = lists.filter(|path| path.parent().is_some_and(Path::exists));
    std::iter::once(PathBuf::from("/etc/resolv.conf")).chain(lists).take(MAX_FOLDER_FILES).collect()
}

/// Finds the resolvers as [`machine_resolvers`] does, with all paths below `root`.
#[must_use]
pub fn machine_resolvers_in(root: &Path, own: &[SocketAddr]) -> Found {
    let main = PathBuf::from("etc/resolv.conf");
    let mut found = Found { source: Path::new("/").join(&main), ..Found::default() };
    match read(&root.join(&main)) {
        Ok(text) => {
            let parsed = parse(&text);
            found.search = parsed.search;
            found.servers = parsed.servers;
            found.note_all(&found.source.clone(), parsed.notes);
        }
        Err(error) => found.note(format!("{}: {error}", found.source.display())),
    }
    // Whoever wrote resolv.conf, a stub on this machine is not where names come from: it has a list of its own.
    if found.servers.iter().all(|server| is_local_stub(*server, own)) {
        let stubs = std::mem::take(&mut found.servers);
        let listed = stubs_lists(root, &stubs).into_iter().find_map(|path| {
            let mut parsed = parse(&read(&root.join(&path)).ok()?);
            found.names_us |= parsed.servers.iter().any(|server| is_own(*server, own));
            parsed.servers.retain(|server| !is_local_stub(*server, own));
            (!parsed.servers.is_empty()).then_some((path, parsed))
        });
        match listed {
            Some((path, parsed)) => {
                found.source = Path::new("/").join(path);
                found.servers = parsed.servers;
                if found.search.is_empty() {
                    found.search = parsed.search;
                }
                found.note_all(&found.source.clone(), parsed.notes);
            }
            None => {
                // A stub of another program whose list is not readable is still better than nobody; one whose list
                // names us would only ask us again.
                found.names_us |= stubs.iter().any(|stub| is_own(*stub, own));
                found.servers = stubs.into_iter().filter(|_| !found.names_us).collect();
                if found.servers.is_empty() {
                    found.note("no resolver of this machine was found".to_owned());
                }
            }
        }
    }
    let before = found.servers.len();
    found.servers.retain(|server| !is_own(*server, own));
    if found.servers.len() < before || found.names_us {
        found.names_us = true;
        // Beside others it is our own doing, or nobody's loss.
        if found.servers.is_empty() {
            found.note("our own address was left out".to_owned());
        }
    }
    found
}

impl Found {
    fn note(&mut self, note: String) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(note);
        }
    }

    fn note_all(&mut self, file: &Path, notes: Vec<String>) {
        for note in notes {
            self.note(format!("{}: {note}", file.display()));
        }
    }
}

/// Returns where lists behind stubs are kept, the likeliest first, relative to the root.
fn stubs_lists(root: &Path, stubs: &[SocketAddr]) -> Vec<PathBuf> {
    let resolved = PathBuf::from("run/systemd/resolve/resolv.conf");
    let mut lists =
        vec![PathBuf::from("run/NetworkManager/no-stub-resolv.conf"), PathBuf::from("run/NetworkManager/resolv.conf")];
    let is_resolved = |stub: &SocketAddr| matches!(stub.ip(), IpAddr::V4(v4) if is_resolved_stub(v4));
    let names_resolved = stubs.iter().any(is_resolved);
    if names_resolved {
        lists.insert(0, resolved);
    } else {
        lists.push(resolved);
    }
    // What `truename up` has put aside. NetworkManager goes on with a list of its own while its file is aside.
    let before = PathBuf::from(BEFORE_US);
    let is_managers = read(&root.join(&before)).is_ok_and(|text| text.contains("NetworkManager"));
    lists.insert(if is_managers || names_resolved { lists.len() } else { 0 }, before);
    for folder in RECORDS.map(PathBuf::from) {
        if let Ok(entries) = std::fs::read_dir(root.join(&folder)) {
            let mut names: Vec<_> =
                entries.take(MAX_FOLDER_FILES).filter_map(|entry| Some(entry.ok()?.file_name())).collect();
            let is_tunnel =
                |name: &OsStr| name.to_str().is_some_and(|name| TUNNELS.iter().any(|kind| name.starts_with(kind)));
            names.sort_by_key(|name| (!is_tunnel(name), name.clone()));
            lists.extend(names.into_iter().map(|name| folder.join(name)));
        }
    }
    lists
}

/// Tells whether this is one of the addresses systemd-resolved listens on.
fn is_resolved_stub(address: Ipv4Addr) -> bool {
    [Ipv4Addr::new(127, 0, 0, 53), Ipv4Addr::new(127, 0, 0, 54)].contains(&address)
}

fn is_local_stub(server: SocketAddr, own: &[SocketAddr]) -> bool {
    server.ip().is_loopback() || is_own(server, own)
}

fn is_own(server: SocketAddr, own: &[SocketAddr]) -> bool {
    own.iter().any(|own| {
        own.port() == server.port()
            && (own.ip().to_canonical() == server.ip().to_canonical()
                || (own.ip().is_unspecified() && server.ip().is_loopback()))
    })
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What one file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Every `nameserver`, repeated ones once.
    pub servers: Vec<SocketAddr>,
    /// The last `search` or `domain`.
    pub search: Vec<Name>,
    /// Lines that could not be used.
    pub notes: Vec<String>,
}

/// Reads the text of a resolv.conf (resolv.conf(5)): the keyword at the start of the line, the last `search` or
/// `domain` counts, `#` and `;` begin comments. What is not understood is noted and passed over.
#[must_use]
pub fn parse(text: &str) -> ResolvConf {
    let mut out = ResolvConf::default();
    for (at, line) in text.lines().enumerate() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let note = |out: &mut ResolvConf, problem: String| {
            if out.notes.len() < MAX_NOTES {
                out.notes.push(format!("line {}: {problem}", at + 1));
            }
        };
        match words.next() {
            Some("nameserver") => match words.next().map(|word| (word, parse_address(word))) {
                Some((_, Some(address))) if out.servers.contains(&address) => {}
                Some((_, Some(address))) if out.servers.len() < MAX_SERVERS => out.servers.push(address),
                Some((_, Some(_))) => note(&mut out, format!("more than {MAX_SERVERS} nameservers")),
                Some((word, None)) => note(&mut out, format!("{} is not an address", shown(word))),
                None => note(&mut out, "nameserver without an address".to_owned()),
            },
            Some("search" | "domain") => {
                out.search.clear();
                for word in words.filter(|word| *word != ".") {
                    match Name::parse(word) {
                        Ok(name) if out.search.len() < MAX_SEARCH => out.search.push(name.to_lower()),
                        Ok(_) => note(&mut out, format!("more than {MAX_SEARCH} search domains")),
                        Err(_) => note(&mut out, format!("{} is not a domain name", shown(word))),
                    }
                }
            }
            // `options` and `sortlist` are about the stub resolver; other words belong to other systems.
            Some(_) | None => {}
        }
    }
    out
}

/// Returns the beginning of a word, for a note: a file that is no resolv.conf may be one word.
fn shown(word: &str) -> String {
    word.chars().take(SHOWN_CHARS).flat_map(char::escape_default).collect()
}

/// Reads an address; IPv6 with a scope (`fe80::1%eth0`, `fe80::1%2`), brackets and a port as OpenBSD has it.
fn parse_address(word: &str) -> Option<SocketAddr> {
    let mut address = parse_as_written(word)?;
    // glibc sends what is for 0.0.0.0 to this machine.
    match address.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(v6) if v6.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    Some(address)
}

fn parse_as_written(word: &str) -> Option<SocketAddr> {
    if let Ok(address) = word.parse::<SocketAddr>() {
        return Some(address);
    }
    if let Some((address, scope)) = word.split_once('%') {
        let address: Ipv6Addr = address.parse().ok()?;
        let scope = scope.parse().or_else(|_| nix::net::if_::if_nametoindex(scope)).ok()?;
        return Some(SocketAddr::V6(SocketAddrV6::new(address, DNS_PORT, 0, scope)));
    }
    Some(SocketAddr::new(word.parse().ok()?, DNS_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A root with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn servers(found: &Found) -> Vec<String> {
        found.servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_note_shows_the_beginning_of_a_word() {
        let found = parse(&format!("nameserver {}\nsearch {}\n", "ä".repeat(9000), "x".repeat(9000)));
        assert_eq!(found.notes[0], format!("line 1: {} is not an address", "\\u{e4}".repeat(SHOWN_CHARS)));
        assert_eq!(found.notes[1], format!("line 2: {} is not a domain name", "x".repeat(SHOWN_CHARS)));
    }

    #[test]
    fn the_syntax_of_the_manual_page_is_read() {
        let text = "# made by hand\r\nnameserver 10.0.0.1 \r\nnameserver\tfd00::53\r\n; more\r\nsearch one.example\r\n\
                    domain Corp.Example lab.example.\r\noptions ndots:2\r\nnameserver fe80::1%3\r\nnameserver 10.0.0.1\r\n\
                    nameserver ten\r\nnameserver\r\nlookup file bind";
        let parsed = parse(text);
        let servers: Vec<_> = parsed.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[fd00::53]:53", "[fe80::1%3]:53"]);
        assert_eq!(parsed.search, [Name::parse("corp.example").unwrap(), Name::parse("lab.example").unwrap()]);
        assert_eq!(parsed.notes, ["line 10: ten is not an address", "line 11: nameserver without an address"]);
    }

    #[test]
    fn lists_behind_stubs_are_found() {
        let stub = "nameserver 127.0.0.53\noptions edns0\nsearch corp.example\n";
        let resolved = root(&[
            ("etc/resolv.conf", stub),
            ("run/systemd/resolve/resolv.conf", "nameserver 10.0.0.1\nnameserver 10.0.0.2\n"),
            ("run/NetworkManager/no-stub-resolv.conf", "nameserver 10.9.9.9\n"),
        ]);
        let found = machine_resolvers_in(resolved.path(), &[]);
        assert_eq!(servers(&found), ["10.0.0.1:53", "10.0.0.2:53"]);
        assert_eq!(found.source, Path::new("/run/systemd/resolve/resolv.conf"));
        assert_eq!(found.search, [Name::parse("corp.example").unwrap()]);

        let manager = root(&[
            ("etc/resolv.conf", "nameserver 127.0.0.1\n"),
            ("run/NetworkManager/no-stub-resolv.conf", "nameserver 10.9.9.9\n"),
        ]);
        assert_eq!(servers(&machine_resolvers_in(manager.path(), &[])), ["10.9.9.9:53"]);

        let resolvconf = root(&[
            ("etc/resolv.conf", "nameserver 127.0.0.1\n"),
            ("run/NetworkManager/resolv.conf", "nameserver 127.0.0.1\n"),
            ("run/resolvconf/interface/eth0.dhclient", "nameserver 10.7.7.7\n"),
            ("run/resolvconf/interface/lo.dnsmasq", "nameserver 127.0.0.1\n"),
        ]);
        assert_eq!(servers(&machine_resolvers_in(resolvconf.path(), &[])), ["10.7.7.7:53"]);
        let tunnel = root(&[
            ("etc/resolv.conf", "nameserver 127.0.0.1\n"),
            ("run/resolvconf/keys/eth0.dhcp", "nameserver 10.7.7.7\n"),
            ("run/resolvconf/keys/wg0", "nameserver 10.6.6.6\n"),
        ]);
        assert_eq!(servers(&machine_resolvers_in(tunnel.path(), &[])), ["10.6.6.6:53"]);
    }

    #[test]
    fn what_was_put_aside_for_us_is_a_list_and_network_manager_goes_on_with_its_own() {
        let own: Vec<SocketAddr> = vec!["127.0.0.1:53".parse().unwrap()];
        let with = |aside: &str| {
            root(&[
                ("etc/resolv.conf", "# managed by truename\nnameserver 127.0.0.1\n"),
                ("etc/resolv.conf.before-truename", aside),
                ("run/NetworkManager/resolv.conf", "nameserver 10.8.8.8\n"),
            ])
        };
        let by_hand = machine_resolvers_in(with("nameserver 192.168.1.1\n").path(), &own);
        assert_eq!(servers(&by_hand), ["192.168.1.1:53"]);
        assert_eq!(by_hand.source, Path::new("/etc/resolv.conf.before-truename"));
        let managed = machine_resolvers_in(with("# Generated by NetworkManager\nnameserver 10.7.7.7\n").path(), &own);
        assert_eq!(servers(&managed), ["10.8.8.8:53"]);
        let open = root(&[
            ("etc/resolv.conf", "nameserver 127.0.0.1\n"),
            ("run/resolvconf/interfaces/eth0", "nameserver 10.6.6.6\n"),
            ("run/resolvconf/interfaces/lo.truename", "nameserver 127.0.0.1\n"),
        ]);
        assert_eq!(servers(&machine_resolvers_in(open.path(), &own)), ["10.6.6.6:53"]);
    }

    #[test]
    fn our_own_address_is_never_among_them() {
        let own: Vec<SocketAddr> = vec!["127.0.0.1:53".parse().unwrap(), "192.168.1.5:53".parse().unwrap()];
        let pointing_at_us = root(&[("etc/resolv.conf", "nameserver 127.0.0.1\nnameserver 192.168.1.5\n")]);
        let found = machine_resolvers_in(pointing_at_us.path(), &own);
        assert!(found.servers.is_empty(), "{found:?}");
        assert!(!found.notes.is_empty());
        let mixed = root(&[("etc/resolv.conf", "nameserver 192.168.1.5\nnameserver 192.168.1.1\n")]);
        assert_eq!(servers(&machine_resolvers_in(mixed.path(), &own)), ["192.168.1.1:53"]);
    }

    #[test]
    fn a_stub_whose_list_names_us_is_not_asked_either() {
        let own: Vec<SocketAddr> = vec!["127.0.0.1:53".parse().unwrap()];
        let files = [
            ("etc/resolv.conf", "nameserver 127.0.0.53\n"),
            ("run/systemd/resolve/resolv.conf", "nameserver 127.0.0.1\n"),
        ];
        let found = machine_resolvers_in(root(&files).path(), &own);
        assert!(found.servers.is_empty() && found.names_us, "{found:?}");
        assert!(!machine_resolvers_in(root(&files).path(), &[]).names_us);
    }

    #[test]
    fn a_stub_without_a_list_is_used_and_a_missing_file_is_a_note() {
        let stub = root(&[("etc/resolv.conf", "nameserver 127.0.0.53\n")]);
        assert_eq!(servers(&machine_resolvers_in(stub.path(), &[])), ["127.0.0.53:53"]);
        let nothing = machine_resolvers_in(root(&[]).path(), &[]);
        assert!(nothing.servers.is_empty() && nothing.notes.len() == 2, "{nothing:?}");
    }

    #[test]
    fn the_unspecified_address_is_this_machine_in_every_form() {
        let parsed = parse("nameserver 0.0.0.0\nnameserver [::]:5353\nnameserver 0.0.0.0:5353\n");
        let servers: Vec<_> = parsed.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["127.0.0.1:53", "[::1]:5353", "127.0.0.1:5353"]);
    }

    #[test]
    fn long_lists_are_cut() {
        let text: String = (0..1000).map(|n| format!("nameserver 10.0.{}.{}\n", n / 250, n % 250)).collect();
        let parsed = parse(&text);
        assert_eq!((parsed.servers.len(), parsed.notes.len()), (MAX_SERVERS, MAX_NOTES));
    }

    #[test]
    fn long_files_and_full_folders_are_read_up_to_a_bound() {
        let blank = "#".repeat(usize::try_from(MAX_FILE_BYTES).unwrap());
        let long = root(&[("etc/resolv.conf", &format!("nameserver 10.0.0.1\n{blank}\nnameserver 10.0.0.2\n"))]);
        assert_eq!(servers(&machine_resolvers_in(long.path(), &[])), ["10.0.0.1:53"]);
        let search: Vec<String> = (0..MAX_SEARCH + 9).map(|n| format!("n{n}.example")).collect();
        assert_eq!(parse(&format!("search {}\n", search.join(" "))).search.len(), MAX_SEARCH);
        let names: Vec<String> = (0..MAX_FOLDER_FILES + 9).map(|n| format!("run/resolvconf/interface/{n}")).collect();
        let full = root(&names.iter().map(|name| (name.as_str(), "nameserver 10.0.0.3\n")).collect::<Vec<_>>());
        // Four more are looked at wherever they are.
        assert_eq!(stubs_lists(full.path(), &[]).len(), 4 + MAX_FOLDER_FILES);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(nameserver|search|domain|[a-z0-9.:%#; \r\n])*") {
            let parsed = parse(&text);
            prop_assert!(parsed.servers.len() <= MAX_SERVERS);
        }
    }
}
