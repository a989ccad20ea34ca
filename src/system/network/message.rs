//! What the kernel says about links, addresses, routes and rules (rtnetlink(7)), and whether it matters. Pure.
//!
//! Most of it does not: counters of links, lifetimes of IPv6 addresses that each router advertisement renews, routes that a
//! network manager writes again as they are, links of containers that have no address of their own. What is known is kept
//! so that only differences count.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Links, addresses and routes known at most, each; beyond it all are forgotten, and what is heard of again counts once.
pub(super) const MAX_KNOWN: usize = 4096;
/// Octets of a message's header (struct nlmsghdr).
const HEADER_BYTES: usize = 16;
/// Octets of what follows it: struct ifaddrmsg, struct rtmsg.
const ADDRESS_BYTES: usize = 8;
const ROUTE_BYTES: usize = 12;
/// Messages and attributes begin at multiples of this.
const ALIGN: usize = 4;

/// Kinds of messages (linux/rtnetlink.h).
const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const DEL_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;
const DEL_ROUTE: u16 = 25;
const NEW_RULE: u16 = 32;
const DEL_RULE: u16 = 33;

/// IFF_UP and IFF_RUNNING (linux/if.h): switched on, and connected to something.
const UP: u32 = 0x1 | 0x40;
/// IFA_F_DADFAILED and IFA_F_TENTATIVE (linux/if_addr.h): nothing can be sent from it, or not yet.
const UNUSABLE: u8 = 0x08 | 0x40;
/// IFA_ADDRESS and IFA_LOCAL; the second is ours where they differ.
const PEER: u16 = 1;
const OWN: u16 = 2;
/// RTM_F_CLONED (linux/rtnetlink.h): not a route but what was learnt about one destination.
const CLONED: u32 = 0x200;
/// RT_TABLE_LOCAL: the kernel's own, which follows the addresses.
const TABLE_LOCAL: u8 = 255;
/// RTPROT_KERNEL: made by the kernel with an address or a link, which are told as such.
const BY_KERNEL: u8 = 2;
/// RTN_LOCAL to RTN_MULTICAST: destinations that no server has.
const NOT_UNICAST: std::ops::RangeInclusive<u8> = 2..=5;
/// RTA_CACHEINFO and RTA_EXPIRES: what runs down by itself.
const AGING: [u16; 2] = [12, 23];
/// RTA_DST, RTA_PRIORITY and RTA_TABLE: what tells one route from another, with the family, length, service and table of the
/// header. A route that takes another's place has the same; the kernel does not say that the other is gone.
const NAMING: [u16; 3] = [1, 6, 15];
/// AF_INET and AF_INET6, as messages have them.
const INET: u8 = 2;
const INET6: u8 = 10;

/// What has changed, by how many messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NetworkEvent {
    /// Links with addresses that came up or went down.
    pub links: u32,
    /// Addresses that came or went.
    pub addresses: u32,
    /// Routes that came, went or became others.
    pub routes: u32,
    /// Rules that say which table of routes counts.
    pub rules: u32,
    /// Times the kernel had more to say than there was room for.
    pub lost: u32,
}

impl NetworkEvent {
    /// Tells whether anything has changed.
    #[must_use]
    pub fn is_some(&self) -> bool {
        *self != Self::default()
    }
}

/// What is known of this machine's network.
#[derive(Debug, Default)]
pub(super) struct Known {
    links: HashMap<u32, Up>,
    addresses: HashSet<(u32, IpAddr)>,
    /// By what tells one from another: what it says.
    routes: HashMap<u64, u64>,
    hasher: foldhash::fast::FixedState,
}

/// Whether a link can carry anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Up {
    No,
    Yes,
}

impl Known {
    /// Notes how a link is, without judging it.
    pub(super) fn set_link(&mut self, index: u32, flags: u32) {
        bounded(self.links.len(), || self.links.clear());
        self.links.insert(index, up(flags));
    }

    /// Notes an address, without judging it.
    pub(super) fn set_address(&mut self, index: u32, address: IpAddr) {
        bounded(self.addresses.len(), || self.addresses.clear());
        if matters(address) {
            self.addresses.insert((index, address));
        }
    }

    /// Takes note of all messages of a datagram, and counts in `event` those that say something new.
    pub(super) fn note(&mut self, mut datagram: &[u8], event: &mut NetworkEvent) {
        while let Some(len) = u32_at(datagram, 0).and_then(|len| usize::try_from(len).ok()) {
            let (Some(message), Some(kind)) = (datagram.get(HEADER_BYTES..len), u16_at(datagram, 4)) else { return };
            match kind {
                NEW_LINK => event.links += u32::from(self.link(message) == Some(true)),
                DEL_LINK => event.links += u32::from(self.link_gone(message) == Some(true)),
                NEW_ADDRESS | DEL_ADDRESS => {
                    event.addresses += u32::from(self.address(message, kind == NEW_ADDRESS) == Some(true));
                }
                NEW_ROUTE | DEL_ROUTE => {
                    event.routes += u32::from(self.route(message, kind == NEW_ROUTE) == Some(true));
                }
                NEW_RULE | DEL_RULE => event.rules += 1,
                _ => {}
            }
            datagram = datagram.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
        }
    }

    /// A link came up or went down. One without an address carries nothing of ours.
    fn link(&mut self, message: &[u8]) -> Option<bool> {
        let (index, up) = (u32_at(message, 4)?, up(u32_at(message, 8)?));
        bounded(self.links.len(), || self.links.clear());
        let before = self.links.insert(index, up).unwrap_or(Up::No);
        Some(before != up && self.has_address(index))
    }

    fn link_gone(&mut self, message: &[u8]) -> Option<bool> {
        let index = u32_at(message, 4)?;
        let had_address = self.has_address(index);
        self.links.remove(&index);
        self.addresses.retain(|(of, _)| *of != index);
        Some(had_address)
    }

    fn address(&mut self, message: &[u8], is_there: bool) -> Option<bool> {
        let (family, flags, index) = (*message.first()?, *message.get(2)?, u32_at(message, 4)?);
        let (mut peer, mut own) = (None, None);
        for (kind, data) in attributes(message.get(ADDRESS_BYTES..)?) {
            match kind {
                PEER => peer = ip(family, data),
                OWN => own = ip(family, data),
                _ => {}
            }
        }
        let address = own.or(peer).filter(|address| matters(*address))?;
        if !is_there {
            return Some(self.addresses.remove(&(index, address)));
        }
        if flags & UNUSABLE != 0 {
            return Some(false);
        }
        bounded(self.addresses.len(), || self.addresses.clear());
        Some(self.addresses.insert((index, address)))
    }

    fn route(&mut self, message: &[u8], is_there: bool) -> Option<bool> {
        let (&[_, _, _, _, table, protocol, _, kind], flags) = (message.first_chunk::<8>()?, u32_at(message, 8)?);
        if flags & CLONED != 0 || table == TABLE_LOCAL || protocol == BY_KERNEL || NOT_UNICAST.contains(&kind) {
            return Some(false);
        }
        let &[family, len, _, service, ..] = message.first_chunk::<ROUTE_BYTES>()?;
        let (mut name, mut whole) = (self.hasher.build_hasher(), self.hasher.build_hasher());
        name.write(&[family, len, service, table]);
        whole.write(message.get(..ROUTE_BYTES)?);
        for (kind, data) in attributes(message.get(ROUTE_BYTES..)?).filter(|(kind, _)| !AGING.contains(kind)) {
            for hash in [Some(&mut whole), NAMING.contains(&kind).then_some(&mut name)].into_iter().flatten() {
                hash.write_u16(kind);
                hash.write(data);
            }
        }
        let (name, whole) = (name.finish(), whole.finish());
        if is_there {
            bounded(self.routes.len(), || self.routes.clear());
            return Some(self.routes.insert(name, whole) != Some(whole));
        }
        // Those from before the start are not known.
        self.routes.remove(&name);
        Some(true)
    }

    fn has_address(&self, index: u32) -> bool {
        self.addresses.iter().any(|(of, _)| *of == index)
    }
}

/// Forgets everything at the bound.
fn bounded(len: usize, forget: impl FnOnce()) {
    if len >= MAX_KNOWN {
        forget();
    }
}

fn up(flags: u32) -> Up {
    if flags & UP == UP { Up::Yes } else { Up::No }
}

/// Tells whether servers may be reached from an address. Each link makes one of its own that leads to its neighbours only.
fn matters(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && !v6.is_loopback(),
    }
}

fn ip(family: u8, data: &[u8]) -> Option<IpAddr> {
    match family {
        INET => Some(Ipv4Addr::from(*data.first_chunk::<4>()?).into()),
        INET6 => Some(Ipv6Addr::from(*data.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// Walks over attributes: length with its own four octets, kind, data.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (len, kind) = (usize::from(u16_at(rest, 0)?), u16_at(rest, 2)?);
        let data = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some((kind, data))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, fixed: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = fixed.to_vec();
        for (kind, data) in attributes {
            body.extend(u16::try_from(data.len() + 4).unwrap().to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(*data);
            body.resize(body.len().next_multiple_of(ALIGN), 0);
        }
        let mut message = u32::try_from(HEADER_BYTES + body.len()).unwrap().to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.resize(HEADER_BYTES, 0);
        message.extend(body);
        message
    }

    fn link(kind: u16, index: u32, flags: u32) -> Vec<u8> {
        let fixed = [[0; 4], index.to_ne_bytes(), flags.to_ne_bytes(), [0; 4]].concat();
        // Counters, which are different each time.
        message(kind, &fixed, &[(7, &rand::random::<[u8; 24]>())])
    }

    fn address(kind: u16, index: u32, flags: u8, address: [u8; 4]) -> Vec<u8> {
        let fixed = [[INET, 24, flags, 0], index.to_ne_bytes()].concat();
        // Lifetimes, which run down.
        message(kind, &fixed, &[(OWN, &address), (6, &rand::random::<[u8; 16]>())])
    }

    fn route(kind: u16, table: u8, protocol: u8, gateway: [u8; 4]) -> Vec<u8> {
        route_to([198, 18, 0, 0], kind, table, protocol, gateway)
    }

    fn route_to(to: [u8; 4], kind: u16, table: u8, protocol: u8, gateway: [u8; 4]) -> Vec<u8> {
        let fixed = [[INET, 24, 0, 0], [table, protocol, 0, 1], [0; 4]].concat();
        message(kind, &fixed, &[(NAMING[0], &to), (5, &gateway), (AGING[0], &rand::random::<[u8; 8]>())])
    }

    fn note(known: &mut Known, datagram: &[u8]) -> NetworkEvent {
        let mut event = NetworkEvent::default();
        known.note(datagram, &mut event);
        event
    }

    #[test]
    fn what_is_said_again_is_no_change() {
        let mut known = Known::default();
        let (new, old) = (NetworkEvent { addresses: 1, ..NetworkEvent::default() }, NetworkEvent::default());
        let home = address(NEW_ADDRESS, 2, 0, [192, 0, 2, 9]);
        assert_eq!(note(&mut known, &address(NEW_ADDRESS, 2, 0x40, [192, 0, 2, 9])), old, "not usable yet");
        assert_eq!(note(&mut known, &home), new);
        assert_eq!(note(&mut known, &address(NEW_ADDRESS, 2, 0, [192, 0, 2, 9])), old, "only its lifetime is another");
        assert_eq!(note(&mut known, &address(DEL_ADDRESS, 2, 0, [192, 0, 2, 9])), new);
        assert_eq!(note(&mut known, &address(DEL_ADDRESS, 2, 0, [192, 0, 2, 9])), old);
        for nobodys in [[169, 254, 1, 1], [127, 0, 0, 2]] {
            assert_eq!(note(&mut known, &address(NEW_ADDRESS, 2, 0, nobodys)), old);
        }
        let new = NetworkEvent { routes: 1, ..old };
        assert_eq!(note(&mut known, &route(NEW_ROUTE, 254, 16, [192, 0, 2, 1])), new);
        assert_eq!(note(&mut known, &route(NEW_ROUTE, 254, 16, [192, 0, 2, 1])), old);
        assert_eq!(note(&mut known, &route(NEW_ROUTE, 254, 16, [192, 0, 2, 2])), new);
        assert_eq!(note(&mut known, &route(NEW_ROUTE, 254, 16, [192, 0, 2, 1])), new, "back again");
        assert_eq!(note(&mut known, &route_to([198, 18, 1, 0], NEW_ROUTE, 254, 16, [192, 0, 2, 2])), new);
        assert_eq!(note(&mut known, &route(NEW_ROUTE, 254, 16, [192, 0, 2, 1])), old, "the other leads elsewhere");
        assert_eq!(note(&mut known, &route(DEL_ROUTE, 254, 16, [192, 0, 2, 1])), new);
        assert_eq!(note(&mut known, &route(NEW_ROUTE, 254, 16, [192, 0, 2, 1])), new);
        assert_eq!(note(&mut known, &route(NEW_ROUTE, 254, BY_KERNEL, [192, 0, 2, 1])), old);
        assert_eq!(note(&mut known, &route(NEW_ROUTE, TABLE_LOCAL, 16, [192, 0, 2, 3])), old);
        assert_eq!(note(&mut known, &message(NEW_RULE, &[0; ROUTE_BYTES], &[])).rules, 1);
        assert_eq!(note(&mut known, &message(28, &[0; 64], &[])), old, "a neighbour");
    }

    #[test]
    fn a_link_matters_when_it_has_an_address_and_comes_or_goes() {
        let mut known = Known::default();
        let seen = |known: &mut Known, datagram: &[u8]| note(known, datagram).links;
        assert_eq!(seen(&mut known, &link(NEW_LINK, 3, UP)), 0, "a container's: no address");
        known.set_link(2, UP);
        known.set_address(2, [192, 0, 2, 9].into());
        assert_eq!(seen(&mut known, &link(NEW_LINK, 2, UP | 0x1000)), 0, "counters and the like");
        assert_eq!(seen(&mut known, &link(NEW_LINK, 2, 0x1)), 1, "the cable is out");
        assert_eq!(seen(&mut known, &link(NEW_LINK, 2, UP)), 1);
        let both = [link(NEW_LINK, 2, 0), link(NEW_LINK, 2, UP)].concat();
        assert_eq!(seen(&mut known, &both), 2, "out and in again: it may be another network");
        assert_eq!(seen(&mut known, &link(DEL_LINK, 2, 0)), 1);
        assert_eq!(seen(&mut known, &link(NEW_LINK, 2, UP)), 0);
    }

    #[test]
    fn what_is_known_has_a_bound() {
        let mut known = Known::default();
        for n in 0..u32::try_from(3 * MAX_KNOWN + 7).unwrap() {
            note(&mut known, &link(NEW_LINK, n, UP));
            note(&mut known, &address(NEW_ADDRESS, 1, 0, (0x0a00_0000 + n).to_be_bytes()));
            note(&mut known, &route_to(n.to_be_bytes(), NEW_ROUTE, 254, 16, [192, 0, 2, 1]));
            let sizes = [known.links.len(), known.addresses.len(), known.routes.len()];
            assert!(sizes.iter().all(|size| *size <= MAX_KNOWN), "{sizes:?}");
        }
        let before = known.routes.len();
        assert_eq!(note(&mut known, &route(NEW_ROUTE, 254, 16, [9, 9, 9, 9])).routes, 1);
        assert_eq!(known.routes.len(), before + 1);
    }

    proptest! {
        #[test]
        fn nothing_that_can_be_said_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 14_u16..35) {
            let mut known = Known::default();
            note(&mut known, &bytes);
            note(&mut known, &message(kind, &bytes, &[(OWN, &bytes)]));
        }
    }
}
