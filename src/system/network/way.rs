//! Where packets to a server go, and whose router that is: the kernel is asked as it would decide for a packet, so tables,
//! rules, marks and metrics count as they do for those. Nothing is sent on any network.

use super::place::{Gate, Router, Seen};
use super::wire::{HEADER_BYTES, attributes, ip, octets, request, u16_at, u32_at};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, sendto, socket,
};
use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

/// Destinations looked at after a change; what else there is mostly goes where one of these does.
pub(super) const MAX_DESTINATIONS: usize = 64;
/// Stand for everything that is not a destination by itself: addresses of a root server, the way to which is the default route's
/// unless a tunnel takes all.
const ANYWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4)), IpAddr::V6(Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30))];
/// Octets of a reply: a link tells much about itself.
const REPLY_BYTES: usize = 32 * 1024;

/// Requests and their replies (linux/rtnetlink.h).
const GET_LINK: u16 = 18;
const NEW_LINK: u16 = 16;
const GET_ROUTE: u16 = 26;
const NEW_ROUTE: u16 = 24;
const GET_NEIGHBOUR: u16 = 30;
const NEW_NEIGHBOUR: u16 = 28;
/// Octets behind the header: struct ifinfomsg, struct rtmsg, struct ndmsg.
const LINK_BYTES: usize = 16;
const ROUTE_BYTES: usize = 12;
const NEIGHBOUR_BYTES: usize = 12;
/// RTN_UNICAST and RTN_LOCAL: others lead nowhere.
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;
/// RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_MARK and RTA_VIA.
const DESTINATION: u16 = 1;
const SOURCE: u16 = 2;
const LINK: u16 = 4;
const GATEWAY: u16 = 5;
const PREFERRED_SOURCE: u16 = 7;
const MARK: u16 = 16;
const VIA: u16 = 18;
/// IFLA_IFNAME.
const NAME: u16 = 3;
/// NDA_DST and NDA_LLADDR.
const NEIGHBOUR: u16 = 1;
const HARDWARE: u16 = 2;
/// NUD_INCOMPLETE and NUD_FAILED (linux/neighbour.h): nobody has said where it is.
const UNKNOWN: u16 = 0x01 | 0x20;

/// Somewhere our packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The address.
    pub address: IpAddr,
    /// The number of the interface, for a link-local one; else 0.
    pub scope: u32,
    /// The address they come from, when it is fixed.
    pub source: Option<IpAddr>,
    /// The interface they leave by, when it is fixed.
    pub interface: Option<String>,
    /// Their mark.
    pub mark: Option<u32>,
}

impl Destination {
    /// Returns an address without conditions.
    #[must_use]
    pub fn plain(address: IpAddr) -> Self {
        Self { address, scope: 0, source: None, interface: None, mark: None }
    }
}

/// The way there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    /// The address is this machine's own.
    is_local: bool,
    pub(super) link: u32,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
}

/// The ways to all destinations, and what shows which network that is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ways {
    pub(super) ways: Vec<Option<Way>>,
    /// Those that show which network it is, by IPv4 and by IPv6.
    leading: [Option<Way>; 2],
    pub(super) seen: Seen,
}

impl Ways {
    /// Asks the kernel. A destination that it has no answer for has no way.
    ///
    /// # Errors
    /// When there is no socket to ask by, as when there are too many files: nothing is known of any way then, which is not the
    /// same as that there is none.
    pub(super) fn look(destinations: &[Destination]) -> io::Result<Self> {
        let mut kernel = Kernel::new()?;
        let ways: Vec<Option<Way>> = all(destinations).map(|destination| kernel.way(&destination)).collect();
        // Without a default route, the first server shows where we are.
        let way_out = |is_v4: bool| {
            let of_family = all(destinations).zip(&ways).filter(|(to, _)| to.address.is_ipv4() == is_v4);
            of_family.filter_map(|(_, way)| *way).find(|way| !way.is_local)
        };
        let leading = [true, false].map(way_out);
        let seen = kernel.seen(leading);
        Ok(Self { ways, leading, seen })
    }

    /// Asks the kernel what it knows by now of the routers on the ways there were.
    pub(super) fn look_back(&self) -> Seen {
        Kernel::new().map(|mut kernel| kernel.seen(self.leading)).unwrap_or_default()
    }

    /// Returns the ways that all share which are not looked at.
    pub(super) fn out(&self) -> &[Option<Way>] {
        self.ways.get(..ANYWHERE.len()).unwrap_or_default()
    }

    /// Tells whether packets of ours leave by a link.
    pub(super) fn use_link(&self, index: u32) -> bool {
        self.ways.iter().flatten().any(|way| way.link == index)
    }
}

/// Returns what is looked at: what stands for everything, then the destinations.
pub(super) fn all(destinations: &[Destination]) -> impl Iterator<Item = Cow<'_, Destination>> {
    let anywhere = ANYWHERE.map(|address| Cow::Owned(Destination::plain(address)));
    anywhere.into_iter().chain(destinations.iter().map(Cow::Borrowed)).take(MAX_DESTINATIONS)
}

/// A socket to ask the kernel by. It answers while it is being asked.
struct Kernel {
    socket: OwnedFd,
    buffer: Vec<u8>,
    asked: u32,
}

impl Kernel {
    fn new() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        Ok(Self { socket, buffer: vec![0; REPLY_BYTES], asked: 0 })
    }

    /// Asks one thing; returns what stands behind the header of the reply.
    fn ask(&mut self, kind: u16, fixed: &[u8], attributes: &[(u16, &[u8])], wanted: u16) -> Option<&[u8]> {
        self.asked += 1;
        let (fd, to) = (self.socket.as_raw_fd(), NetlinkAddr::new(0, 0));
        sendto(fd, &request(kind, self.asked, fixed, attributes), &to, MsgFlags::empty()).ok()?;
        let (len, from) = recvfrom::<NetlinkAddr>(fd, &mut self.buffer).ok()?;
        let reply = self.buffer.get(..len)?;
        let is_it = from.is_some_and(|from| from.pid() == 0)
            && u16_at(reply, 4) == Some(wanted)
            && u32_at(reply, 8) == Some(self.asked);
        let end = usize::try_from(u32_at(reply, 0)?).ok()?;
        reply.get(HEADER_BYTES..end).filter(|_| is_it)
    }

    fn way(&mut self, to: &Destination) -> Option<Way> {
        let (family, destination) = octets(to.address);
        let bits = |octets: &[u8]| u8::try_from(octets.len() * 8).unwrap_or(u8::MAX);
        let source = to.source.filter(|source| source.is_ipv4() == to.address.is_ipv4()).map(|source| octets(source).1);
        let by_name = |name: &String| nix::net::if_::if_nametoindex(name.as_str()).unwrap_or(0);
        let link = to.interface.as_ref().map_or(to.scope, by_name).to_ne_bytes();
        let (mark, source_bits) = (to.mark.map(u32::to_ne_bytes), source.as_deref().map_or(0, bits));
        let mut fixed = [0; ROUTE_BYTES];
        fixed[..3].copy_from_slice(&[family, bits(&destination), source_bits]);
        let mut asked: Vec<(u16, &[u8])> = vec![(DESTINATION, &destination)];
        asked.extend(source.as_deref().map(|source| (SOURCE, source)));
        asked.extend((link != [0; 4]).then_some((LINK, link.as_slice())));
        asked.extend(mark.as_ref().map(|mark| (MARK, mark.as_slice())));
        read_way(self.ask(GET_ROUTE, &fixed, &asked, NEW_ROUTE)?)
    }

    fn seen(&mut self, leading: [Option<Way>; 2]) -> Seen {
        let [v4, v6] = leading.map(|way| way.map(|way| self.gate(way)));
        Seen { v4, v6 }
    }

    /// Returns who stands at the beginning of a way.
    fn gate(&mut self, way: Way) -> Gate {
        let (kind, name) = self.link(way.link).unwrap_or_default();
        let Some(address) = way.gateway else {
            return Gate { router: Router::Link { kind, name, source: way.source }, hardware: None };
        };
        let hardware = self.hardware(way.link, address);
        Gate { router: Router::At { kind, address }, hardware }
    }

    /// Returns the kind of a link (ARPHRD, linux/if_arp.h) and its name.
    fn link(&mut self, index: u32) -> Option<(u16, String)> {
        let mut fixed = [0; LINK_BYTES];
        fixed[4..8].copy_from_slice(&index.to_ne_bytes());
        let reply = self.ask(GET_LINK, &fixed, &[], NEW_LINK)?;
        let name = attributes(reply.get(LINK_BYTES..)?).find(|(kind, _)| *kind == NAME);
        let name = name.map(|(_, name)| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
        Some((u16_at(reply, 2)?, name.unwrap_or_default()))
    }

    /// Returns the address a neighbour has on its link, when it has said so. Kernels before 5.0 cannot be asked for one.
    fn hardware(&mut self, link: u32, address: IpAddr) -> Option<Vec<u8>> {
        let (family, neighbour) = octets(address);
        let mut fixed = [0; NEIGHBOUR_BYTES];
        fixed[0] = family;
        fixed[4..8].copy_from_slice(&link.to_ne_bytes());
        read_hardware(self.ask(GET_NEIGHBOUR, &fixed, &[(NEIGHBOUR, &neighbour)], NEW_NEIGHBOUR)?)
    }
}

fn read_way(reply: &[u8]) -> Option<Way> {
    let (family, kind) = (*reply.first()?, *reply.get(7)?);
    let mut way = Way { is_local: kind == LOCAL, link: 0, gateway: None, source: None };
    for (kind, data) in attributes(reply.get(ROUTE_BYTES..)?) {
        match kind {
            LINK => way.link = u32_at(data, 0)?,
            GATEWAY => way.gateway = ip(family, data),
            // Its family comes before it.
            VIA => way.gateway = ip(u8::try_from(u16_at(data, 0)?).ok()?, data.get(2..)?),
            PREFERRED_SOURCE => way.source = ip(family, data),
            _ => {}
        }
    }
    [UNICAST, LOCAL].contains(&kind).then_some(way)
}

fn read_hardware(reply: &[u8]) -> Option<Vec<u8>> {
    let is_known = u16_at(reply, 8)? & UNKNOWN == 0;
    let found = attributes(reply.get(NEIGHBOUR_BYTES..)?).find(|(kind, _)| *kind == HARDWARE);
    found.map(|(_, hardware)| hardware.to_vec()).filter(|_| is_known)
}

#[cfg(test)]
mod tests {
    use super::super::wire::{INET, INET6};
    use super::*;
    use proptest::prelude::*;

    /// What stands behind the header of a message.
    fn body(fixed: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        request(0, 0, fixed, attributes)[HEADER_BYTES..].to_vec()
    }

    #[test]
    fn a_way_is_read_with_gateways_of_either_family() {
        let route = |family: u8, kind: u8| [family, 32, 0, 0, 254, 0, 0, kind, 0, 0, 0, 0];
        let reply = body(
            &route(INET, UNICAST),
            &[(LINK, &7_u32.to_ne_bytes()), (GATEWAY, &[192, 0, 2, 1]), (PREFERRED_SOURCE, &[192, 0, 2, 9])],
        );
        let (gateway, source) = (Some([192, 0, 2, 1].into()), Some([192, 0, 2, 9].into()));
        assert_eq!(read_way(&reply), Some(Way { is_local: false, link: 7, gateway, source }));
        let via = [u16::from(INET6).to_ne_bytes().as_slice(), &Ipv6Addr::LOCALHOST.octets()].concat();
        let reply = body(&route(INET, UNICAST), &[(LINK, &7_u32.to_ne_bytes()), (VIA, &via)]);
        assert_eq!(read_way(&reply).unwrap().gateway, Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(read_way(&body(&route(INET, 6), &[])), None, "a blackhole");
    }

    #[test]
    fn a_neighbour_that_has_not_answered_has_no_hardware_address() {
        let neighbour = |state: u16| {
            let mut fixed = [0; NEIGHBOUR_BYTES];
            fixed[8..10].copy_from_slice(&state.to_ne_bytes());
            read_hardware(&body(&fixed, &[(HARDWARE, &[2, 0, 0, 0, 0, 1])]))
        };
        assert_eq!(neighbour(0x02), Some(vec![2, 0, 0, 0, 0, 1]));
        assert_eq!((neighbour(0x01), neighbour(0x20)), (None, None));
    }

    #[test]
    fn the_kernel_says_that_our_own_addresses_lead_back_to_us() {
        let ways = Ways::look(&[Destination::plain(Ipv4Addr::LOCALHOST.into())]).unwrap();
        let way = ways.ways.last().copied().flatten().expect("there is a loopback");
        assert!(way.is_local && way.gateway.is_none() && ways.use_link(way.link));
        let many = vec![Destination::plain(Ipv4Addr::LOCALHOST.into()); 2 * MAX_DESTINATIONS];
        assert_eq!(Ways::look(&many).unwrap().ways.len(), MAX_DESTINATIONS);
    }

    proptest! {
        #[test]
        fn no_reply_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read_way(&bytes);
            read_hardware(&bytes);
        }
    }
}
