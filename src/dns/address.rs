//! Which addresses can belong to a public server, and which cannot (RFC 6890 and the registries it keeps).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of place an address names, as far as rebinding protection and privacy care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// This machine: 127.0.0.0/8, `::1`, and the unspecified addresses, which programs connect to as loopback.
    OwnMachine,
    /// A private, shared, link-local, unique-local or otherwise special network (RFC 6890).
    Private,
    /// Anything that can be reached over the public internet.
    Public,
}

/// Tells what kind of place an address names; IPv4 inside IPv6 (mapped, NAT64 of RFC 6052, 6to4, and the deprecated
/// compatible form) counts as the IPv4 address it leads to.
#[must_use]
pub fn kind(address: IpAddr) -> AddressKind {
    match address {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(v4) => kind_v4(v4),
            None => kind_v6(v6),
        },
    }
}

/// Tells whether a server at this address is on this machine or on a private network: loopback, link-local, RFC 1918,
/// RFC 6598 and RFC 4193. Narrower than [`kind`]: that says which addresses no public name can have, this says which
/// servers a private name may be told to. Blocks that nobody uses for networks of their own, such as the benchmarking one
/// that proxies make false addresses from, are not among them.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

fn kind_v4(address: Ipv4Addr) -> AddressKind {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (127, _, _) => AddressKind::OwnMachine,
        _ if address.is_unspecified() => AddressKind::OwnMachine,
        // "This network", private use, shared (carrier NAT), link local, IETF protocols, documentation, 6to4 relays,
        // benchmarking, multicast and reserved with broadcast.
        (0 | 10 | 224..=255, _, _)
        | (100, 64..=127, _)
        | (169, 254, _)
        | (172, 16..=31, _)
        | (192, 168, _)
        | (192, 0, 0 | 2)
        | (192, 88, 99)
        | (198, 18..=19, _)
        | (198, 51, 100)
        | (203, 0, 113) => AddressKind::Private,
        _ => AddressKind::Public,
    }
}

fn kind_v6(address: Ipv6Addr) -> AddressKind {
    let first = address.segments()[0];
    if address.is_loopback() || address.is_unspecified() {
        AddressKind::OwnMachine
    } else if first & 0xe000 == 0x2000 && !is_special_global(address) {
        AddressKind::Public
    } else {
        // Global unicast is 2000::/3 (RFC 4291 section 2.4, IANA); everything else is fc00::/7, fe80::/10, ff00::/8,
        // 100::/64, 64:ff9b:1::/48 and what nobody has handed out.
        AddressKind::Private
    }
}

/// Special blocks inside 2000::/3: IETF protocols with Teredo and benchmarking (2001::/23), documentation
/// (2001:db8::/32, 3fff::/20).
fn is_special_global(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    (first == 0x2001 && (second < 0x0200 || second == 0x0db8)) || (first == 0x3fff && second < 0x1000)
}

fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let join = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_server_is_one_of_this_machine_or_of_a_network_of_its_own() {
        let is = |text: &str| is_private(text.parse().unwrap());
        for own in ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.0.1", "169.254.1.1", "100.64.0.1", "::1", "fd00::1"]
        {
            assert!(is(own) && is("fe80::1") && is("::ffff:10.0.0.1"), "{own}");
        }
        for other in ["9.9.9.9", "198.18.0.2", "203.0.113.1", "224.0.0.1", "2001:db8::1", "2620:fe::fe"] {
            assert!(!is(other), "{other}");
        }
    }

    #[test]
    fn every_special_block_is_told_from_public_space() {
        let kinds = [
            ("127.0.0.1", AddressKind::OwnMachine),
            ("0.0.0.0", AddressKind::OwnMachine),
            ("::1", AddressKind::OwnMachine),
            ("::", AddressKind::OwnMachine),
            ("::ffff:127.0.0.1", AddressKind::OwnMachine),
            ("64:ff9b::7f00:1", AddressKind::OwnMachine),
            ("10.1.2.3", AddressKind::Private),
            ("100.64.0.1", AddressKind::Private),
            ("169.254.1.1", AddressKind::Private),
            ("172.31.0.1", AddressKind::Private),
            ("192.168.0.1", AddressKind::Private),
            ("240.0.0.1", AddressKind::Private),
            ("::ffff:10.0.0.1", AddressKind::Private),
            ("64:ff9b::a00:1", AddressKind::Private),
            ("2002:a00:1::", AddressKind::Private),
            ("fd00::1", AddressKind::Private),
            ("fe80::1", AddressKind::Private),
            ("2001:db8::1", AddressKind::Private),
            ("64:ff9b:1::1", AddressKind::Private),
            ("172.32.0.1", AddressKind::Public),
            ("100.128.0.1", AddressKind::Public),
            ("9.9.9.9", AddressKind::Public),
            ("2620:fe::fe", AddressKind::Public),
            ("2001:4860:4860::8888", AddressKind::Public),
        ];
        for (text, expected) in kinds {
            assert_eq!(kind(text.parse().unwrap()), expected, "{text}");
        }
    }
}
