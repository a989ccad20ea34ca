//! What the kernel says about links, addresses, routes and rules (rtnetlink(7)), and whether it says anything new. Pure.
//!
//! Most of it does not: counters of links, lifetimes of IPv6 addresses that each router advertisement renews, routes that a
//! network manager writes again as they are, links of containers that have no address of their own. What is known is kept
//! so that only differences count.

use super::wire::{ALIGN, HEADER_BYTES, INET, attributes, ip, u16_at, u32_at};
use crate::config::PlaceId;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Links, addresses and routes known at most, each; beyond it all are forgotten, and what is heard of again counts once.
pub(super) const MAX_KNOWN: usize = 4096;
/// Octets of what follows it: struct ifaddrmsg, struct rtmsg.
const ADDRESS_BYTES: usize = 8;
const ROUTE_BYTES: usize = 12;

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
/// RT_TABLE_MAIN: the one that counts where no rule says otherwise.
const TABLE_MAIN: u8 = 254;
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

/// What has changed, by how many messages, and which network it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NetworkEvent {
    /// Links that our packets leave by, which came up or went down.
    pub links: u32,
    /// Addresses of those that came or went.
    pub addresses: u32,
    /// Routes that came, went or became others, when the way to a server is another one.
    pub routes: u32,
    /// Rules that say which table of routes counts, likewise.
    pub rules: u32,
    /// Times the kernel had more to say than there was room for.
    pub lost: u32,
    /// All that concerns no way of ours: links of containers and their addresses, routes to places nobody asks.
    pub elsewhere: u32,
    /// The network the machine is on.
    pub place: PlaceId,
    /// The one it was on until then, as far as has shown: it may have seemed another one; number 0 when that is not known.
    pub was: PlaceId,
}

impl NetworkEvent {
    /// Tells whether a way of ours may be another one.
    #[must_use]
    pub fn concerns_us(&self) -> bool {
        [self.links, self.addresses, self.routes, self.rules, self.lost].iter().any(|count| *count > 0)
    }
}

/// The addresses that a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix {
    address: IpAddr,
    len: u8,
}

impl Prefix {
    /// Tells whether it is for an address.
    pub(super) fn covers(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let rest = 32_u32.saturating_sub(self.len.into());
                (own.to_bits() ^ other.to_bits()).checked_shr(rest).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let rest = 128_u32.saturating_sub(self.len.into());
                (own.to_bits() ^ other.to_bits()).checked_shr(rest).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// What the kernel has said that is new, not yet judged.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// By link: changes of its own, of its addresses.
    by_link: HashMap<u32, (u32, u32)>,
    /// Where routes of the main table lead.
    to: Vec<Prefix>,
    /// Routes of other tables.
    routes: u32,
    rules: u32,
    pub(super) lost: u32,
    /// A route was said again as it is known.
    heard: bool,
}

impl Noted {
    /// Tells whether anything is new.
    pub(super) fn is_some(&self) -> bool {
        let counts = [self.routes, self.rules, self.lost];
        !self.by_link.is_empty() || !self.to.is_empty() || counts.iter().any(|count| *count > 0)
    }

    /// Tells whether the ways are worth a look. Routes that go with their link go without a word, and what is then said again
    /// makes a way.
    pub(super) fn is_reason(&self) -> bool {
        self.heard || self.is_some()
    }

    /// Judges it but for which network it is, by which links are in use, which routes are for somebody we ask, and whether a way is another one than
    /// before. There and back in a moment is no other way, but connections may have been opened in between.
    pub(super) fn judged(
        &self,
        is_used: impl Fn(u32) -> bool,
        is_ours: impl Fn(&Prefix) -> bool,
        has_way_changed: bool,
    ) -> NetworkEvent {
        let mut event = NetworkEvent { lost: self.lost, ..NetworkEvent::default() };
        for (index, (links, addresses)) in &self.by_link {
            if is_used(*index) {
                (event.links, event.addresses) = (event.links + links, event.addresses + addresses);
            } else {
                event.elsewhere += links + addresses;
            }
        }
        for to in &self.to {
            *(if has_way_changed || is_ours(to) { &mut event.routes } else { &mut event.elsewhere }) += 1;
        }
        if has_way_changed {
            (event.routes, event.rules) = (event.routes + self.routes, self.rules);
            // The kernel's own routes come with addresses, and are not noted.
            event.routes += u32::from(!event.concerns_us());
        } else {
            event.elsewhere += self.routes + self.rules;
        }
        event
    }

    /// A way has changed that no message tells of.
    pub(super) fn add_way(&mut self) {
        self.to.push(Prefix { address: Ipv4Addr::UNSPECIFIED.into(), len: 0 });
    }

    fn add_route(&mut self, message: &[u8]) {
        match prefix(message).filter(|_| self.to.len() < MAX_KNOWN) {
            Some(to) => self.to.push(to),
            None => self.routes += 1,
        }
    }

    fn add(&mut self, index: u32, links: u32, addresses: u32) {
        if links + addresses > 0 {
            bounded(self.by_link.len(), || self.by_link.clear());
            let known = self.by_link.entry(index).or_default();
            *known = (known.0 + links, known.1 + addresses);
        }
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

    /// Takes note of all messages of a datagram, and counts those that say something new.
    pub(super) fn note(&mut self, mut datagram: &[u8], noted: &mut Noted) {
        while let Some(len) = u32_at(datagram, 0).and_then(|len| usize::try_from(len).ok()) {
            let (Some(message), Some(kind)) = (datagram.get(HEADER_BYTES..len), u16_at(datagram, 4)) else { return };
            match kind {
                NEW_LINK | DEL_LINK | NEW_ADDRESS | DEL_ADDRESS => {
                    let index = u32_at(message, 4).unwrap_or(0);
                    let (links, addresses) = match kind {
                        NEW_LINK => (self.link(message), None),
                        DEL_LINK => (self.link_gone(message), None),
                        _ => (None, self.address(message, kind == NEW_ADDRESS)),
                    };
                    noted.add(index, u32::from(links == Some(true)), u32::from(addresses == Some(true)));
                }
                NEW_ROUTE | DEL_ROUTE => {
                    let is_new = self.route(message, kind == NEW_ROUTE) == Some(true);
                    if is_new {
                        noted.add_route(message);
                    } else {
                        noted.heard = true;
                    }
                }
                NEW_RULE | DEL_RULE => noted.rules += 1,
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

/// Returns where a route of the main table leads.
fn prefix(message: &[u8]) -> Option<Prefix> {
    let &[family, len, _, _, table, ..] = message.first_chunk::<ROUTE_BYTES>()?;
    let to = attributes(message.get(ROUTE_BYTES..)?).find(|(kind, _)| *kind == NAMING[0]);
    // The default route has none.
    let all = if family == INET { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let address = to.map_or(Some(all), |(_, data)| ip(family, data))?;
    (table == TABLE_MAIN).then_some(Prefix { address, len })
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

#[cfg(test)]
mod tests {
    use super::super::wire::request;
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, fixed: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        request(kind, 0, fixed, attributes)
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
        let mut noted = Noted::default();
        known.note(datagram, &mut noted);
        let is_new = noted.is_some();
        noted.judged(|_| true, |_| true, is_new)
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
    fn what_concerns_no_way_of_ours_is_told_apart() {
        let (mut known, mut noted) = (Known::default(), Noted::default());
        known.note(&address(NEW_ADDRESS, 2, 0, [192, 0, 2, 9]), &mut noted);
        known.note(&address(NEW_ADDRESS, 9, 0, [172, 17, 0, 1]), &mut noted);
        known.note(&link(NEW_LINK, 9, UP), &mut noted);
        known.note(&route(NEW_ROUTE, 254, 16, [192, 0, 2, 1]), &mut noted);
        let (nobody, server) = (|_: &Prefix| false, IpAddr::from([198, 18, 0, 7]));
        let event = noted.judged(|link| link == 2, nobody, false);
        assert_eq!(event, NetworkEvent { addresses: 1, elsewhere: 3, ..NetworkEvent::default() });
        let event = noted.judged(|link| link == 3, |to| to.covers(server), false);
        assert_eq!((event.routes, event.elsewhere), (1, 3), "the way may have been another one for a moment");
        let event = noted.judged(|link| link == 3, nobody, false);
        assert!(!event.concerns_us() && event.elsewhere == 4);
        let event = noted.judged(|link| link == 3, nobody, true);
        assert!(event.concerns_us() && (event.routes, event.elsewhere) == (1, 3));
        let by_itself = Noted::default().judged(|_| false, nobody, true);
        assert!(by_itself.concerns_us(), "a way that has changed is a change");
    }

    #[test]
    fn a_route_that_is_said_again_is_a_reason_to_look() {
        let (mut known, home) = (Known::default(), route(NEW_ROUTE, 254, 16, [192, 0, 2, 1]));
        for is_new in [true, false] {
            let mut noted = Noted::default();
            assert!(!noted.is_reason());
            known.note(&home, &mut noted);
            assert_eq!((noted.is_some(), noted.is_reason()), (is_new, true));
        }
    }

    #[test]
    fn a_route_is_for_the_addresses_below_it() {
        let route = |to: [u8; 4], len: u8| Prefix { address: to.into(), len };
        let covers = |prefix: Prefix, of: [u8; 4]| prefix.covers(of.into());
        assert!(covers(route([0; 4], 0), [9, 9, 9, 9]) && !route([0; 4], 0).covers(Ipv6Addr::LOCALHOST.into()));
        assert!(
            covers(route([10, 99, 0, 0], 16), [10, 99, 7, 1]) && !covers(route([10, 99, 0, 0], 16), [10, 98, 7, 1])
        );
        assert!(
            covers(route([10, 99, 0, 1], 32), [10, 99, 0, 1]) && !covers(route([10, 99, 0, 1], 32), [10, 99, 0, 0])
        );
        let documentation = Prefix { address: "2001:db8::".parse().unwrap(), len: 32 };
        assert!(
            documentation.covers("2001:db8:1::9".parse().unwrap()) && !documentation.covers(Ipv6Addr::LOCALHOST.into())
        );
        let default = [[INET, 0, 0, 0], [TABLE_MAIN, 16, 0, 1], [0; 4]].concat();
        assert_eq!(prefix(&default), Some(route([0; 4], 0)));
        let other_table = [[INET, 0, 0, 0], [7, 16, 0, 1], [0; 4]].concat();
        assert_eq!(prefix(&other_table), None);
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
