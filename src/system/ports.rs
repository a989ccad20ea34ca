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

fn look(address: SocketAddr, udp: bool) -> Option<String> {
    let tables = if udp { ["udp", "udp6"] } else { ["tcp", "tcp6"] };
    let inodes: Vec<u64> = tables
        .iter()
        .filter_map(|table| std::fs::read_to_string(Path::new("/proc/net").join(table)).ok())
        .flat_map(|text| inodes_in(&text, address, udp))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    for entry in std::fs::read_dir("/proc").ok()?.take(MAX_PROCESSES).filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Closed to us when the process is another user's.
        let Ok(fds) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let holds = fds
            .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
            .any(|target| target.to_str().is_some_and(|target| wanted.iter().any(|inode| inode == target)));
        if holds {
            let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("pid {pid} ({})", comm.trim().escape_default()));
        }
    }
    None
}

/// Returns the inodes of the sockets in a /proc/net table that stand in the way of binding `address`.
fn inodes_in(table: &str, address: SocketAddr, udp: bool) -> Vec<u64> {
    let conflicts = |local: SocketAddr| {
        let (a, b) = (local.ip().to_canonical(), address.ip().to_canonical());
        local.port() == address.port() && (a == b || a.is_unspecified() || b.is_unspecified())
    };
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let local = parse_local(words.get(1)?)?;
            let listens = udp || *words.get(3)? == TCP_LISTEN;
            let inode = words.get(9)?.parse().ok()?;
            (listens && conflicts(local) && inode != 0).then_some(inode)
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
    }

    #[test]
    fn only_conflicting_sockets_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n\
            1: 0100007F:0035 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n\
            2: 00000000:1466 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1\n\
            rubbish\n";
        if cfg!(target_endian = "little") {
            assert_eq!(inodes_in(table, "127.0.0.1:53".parse().unwrap(), false), [4711]);
            assert_eq!(inodes_in(table, "127.0.0.2:53".parse().unwrap(), false), [0_u64; 0]);
            assert_eq!(inodes_in(table, "127.0.0.2:5222".parse().unwrap(), false), [4713]);
        }
    }
}
