//! Who may ask.
//!
//! Decides on the client's address alone; what a refused client is told is decided where answers are made. Called for
//! every datagram before anything else is looked at, so the list is merged into sorted ranges once.

use ipnet::IpNet;
use std::net::IpAddr;

/// The access list as sorted, disjoint ranges.
#[derive(Debug, Clone, Default)]
pub struct Access {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Access {
    /// Prepares a list. An empty one lets nobody in.
    #[must_use]
    pub fn new(allow: &[IpNet]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in allow.iter().copied().map(canonical_net) {
            match net {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        Self { v4: merge(v4), v6: merge(v6) }
    }

    /// Tells whether a client may ask. An IPv4 address mapped into IPv6 (RFC 4291 section 2.5.5.2), which is how a
    /// dual-stack socket shows IPv4 clients, counts as the IPv4 address it is.
    #[must_use]
    pub fn allows(&self, client: IpAddr) -> bool {
        match client.to_canonical() {
            IpAddr::V4(client) => contains(&self.v4, client.to_bits()),
            IpAddr::V6(client) => contains(&self.v6, client.to_bits()),
        }
    }
}

/// Returns a network inside `::ffff:0:0/96` as the IPv4 network it means, all others as they are.
fn canonical_net(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(addr), Some(prefix)) => IpNet::new(IpAddr::V4(addr), prefix).unwrap_or(net),
        _ => net,
    }
}

/// Sorts ranges and joins those that overlap.
fn merge<T: Copy + Ord>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged.into()
}

fn contains<T: Copy + Ord>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|&(start, _)| start <= value);
    after.checked_sub(1).is_some_and(|at| value <= ranges[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn access(nets: &[&str]) -> Access {
        Access::new(&nets.iter().map(|net| net.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn an_empty_list_lets_nobody_in() {
        assert!(!access(&[]).allows("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn mapped_clients_and_mapped_networks_are_ipv4() {
        let plain = access(&["10.0.0.0/8", "::1/128"]);
        assert!(plain.allows("::ffff:10.1.2.3".parse().unwrap()));
        assert!(plain.allows("::1".parse().unwrap()));
        assert!(!plain.allows("::ffff:11.1.2.3".parse().unwrap()));
        let mapped = access(&["::ffff:192.0.2.0/120"]);
        assert!(mapped.allows("192.0.2.77".parse().unwrap()));
        assert!(!mapped.allows("192.0.3.77".parse().unwrap()));
    }

    #[test]
    fn everything_of_one_family_is_nothing_of_the_other() {
        let all_v4 = access(&["0.0.0.0/0"]);
        assert!(all_v4.allows("255.255.255.255".parse().unwrap()) && !all_v4.allows("::2".parse().unwrap()));
        let all_v6 = access(&["::/0"]);
        assert!(all_v6.allows("ffff::".parse().unwrap()) && !all_v6.allows("10.0.0.1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn ranges_agree_with_the_networks_they_came_from(
            nets in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..8), client in any::<u32>(), near in any::<u8>(),
        ) {
            let nets: Vec<IpNet> = nets.iter().map(|&(addr, len)| IpNet::new(IpAddr::V4(addr.into()), len).unwrap()).collect();
            let access = Access::new(&nets);
            let mut clients = vec![client];
            for net in &nets {
                if let IpNet::V4(net) = net {
                    clients.push(net.network().to_bits().wrapping_sub(u32::from(near)));
                    clients.push(net.broadcast().to_bits().wrapping_add(u32::from(near)));
                }
            }
            for client in clients {
                let client = IpAddr::V4(client.into());
                prop_assert_eq!(access.allows(client), nets.iter().any(|net| net.contains(&client)));
            }
        }
    }
}
