//! Who holds a port: for the message of a listener that cannot bind. Best effort, from /proc.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Processes looked at; beyond it the holder stays unknown.
const MAX_PROCESSES: usize = 65_536;
/// The kernel hands its tables out in pieces; a socket that closes in between can hide another in one reading.
const ATTEMPTS: usize = 3;
/// The state of a listening TCP socket in /proc/net/tcp (TCP_LISTEN of the kernel's tcp_states.h).
const TCP_LISTEN: &str = "0A";

/// Returns the program that holds an address, such as `pid 812 (dnsmasq)`; `None` when that cannot be known, for
/// instance because the holder belongs to another user.
#[must_use]
pub fn holder_of(address: SocketAddr, udp: bool) -> Option<String> {
    (0..ATTEMPTS).find_map(|_| look(address, udp))
}

/// Returns a program that has this very address, UDP or TCP, beside the first process and those called `own`: sockets may share one
/// (SO_REUSEPORT), and then each gets a part of the questions.
#[must_use]
pub fn sharer_of(address: SocketAddr, own: &str) -> Option<String> {
    let is_other = |pid: u32, comm: &str| pid != 1 && comm != own;
    [true, false].into_iter().find_map(|udp| first_with(&sockets(udp, |local| local == address), is_other))
}

fn look(address: SocketAddr, udp: bool) -> Option<String> {
    first_with(&sockets(udp, |local| conflict(local, address)), |_, _| true)
}

/// Tells whether one address stands in the way of binding the other.
fn conflict(local: SocketAddr, address: SocketAddr) -> bool {
    let (a, b) = (local.ip().to_canonical(), address.ip().to_canonical());
    local.port() == address.port() && (a == b || a.is_unspecified() || b.is_unspecified())
}

/// Returns the sockets that are bound so, as /proc names them.
fn sockets(udp: bool, is_wanted: impl Fn(SocketAddr) -> bool) -> Vec<String> {
    let tables = if udp { ["udp", "udp6"] } else { ["tcp", "tcp6"] };
    tables
        .iter()
        .filter_map(|table| std::fs::read_to_string(Path::new("/proc/net").join(table)).ok())
        .flat_map(|text| inodes_in(&text, &is_wanted, udp))
        .map(|inode| format!("socket:[{inode}]"))
        .collect()
}

/// Returns the first process that has one of these sockets and is among those that count, by its id and name.
fn first_with(sockets: &[String], counts: impl Fn(u32, &str) -> bool) -> Option<String> {
    if sockets.is_empty() {
        return None;
    }
    for entry in std::fs::read_dir("/proc").ok()?.take(MAX_PROCESSES).filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Closed to us when the process is another user's.
        let Ok(fds) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let holds = fds
            .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
            .any(|target| target.to_str().is_some_and(|target| sockets.iter().any(|socket| socket == target)));
        if holds {
            let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if counts(pid, comm.trim()) {
                return Some(format!("pid {pid} ({})", comm.trim().escape_default()));
            }
        }
    }
    None
}

/// Returns the inodes of the sockets in a /proc/net table that are bound to an address that is wanted.
fn inodes_in(table: &str, is_wanted: impl Fn(SocketAddr) -> bool, udp: bool) -> Vec<u64> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let local = parse_local(words.get(1)?)?;
            let listens = udp || *words.get(3)? == TCP_LISTEN;
            let inode = words.get(9)?.parse().ok()?;
            (listens && is_wanted(local) && inode != 0).then_some(inode)
        })
        .collect()
}

/// Reads `0100007F:0035`: the address as 32-bit words in the machine's byte order, the port in hexadecimal.
fn parse_local(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for at in 0..4 {
                octets[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_sockets_are_found() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let us = format!("pid {} (", std::process::id());
        let udp_holder = holder_of(udp.local_addr().unwrap(), true).unwrap();
        let tcp_holder = holder_of(tcp.local_addr().unwrap(), false).unwrap();
        assert!(udp_holder.starts_with(&us) && tcp_holder.starts_with(&us), "{udp_holder} {tcp_holder}");
        // Whoever shares an address is told of, unless it is we.
        let own = std::fs::read_to_string("/proc/self/comm").unwrap();
        for address in [udp.local_addr().unwrap(), tcp.local_addr().unwrap()] {
            assert!(sharer_of(address, "somebody").unwrap().starts_with(&us));
            assert_eq!(sharer_of(address, own.trim()), None);
        }
    }

    #[test]
    fn only_conflicting_sockets_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n\
            1: 0100007F:0035 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n\
            2: 00000000:1466 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1\n\
            rubbish\n";
        if cfg!(target_endian = "little") {
            let in_the_way = |address: &str| {
                let address = address.parse().unwrap();
                inodes_in(table, |local| conflict(local, address), false)
            };
            assert_eq!(in_the_way("127.0.0.1:53"), [4711]);
            assert_eq!(in_the_way("127.0.0.2:53"), [0_u64; 0]);
            assert_eq!(in_the_way("127.0.0.2:5222"), [4713]);
        }
    }
}
