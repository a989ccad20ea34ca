//! Which network this is, by the routers it is left through. Pure.
//!
//! A router is known by its address and by the one its hardware has: half of the world's routers are 192.168.1.1. The second
//! is known only when something has been sent to it, so a network may first be taken for another one with such a router.
//! Where no router is between us and the others, as in a tunnel, the link stands for it. Resolvers are no part of it: they
//! come and go at their own time, and some that machines are given are truename.

use crate::config::PlaceId;
use std::net::IpAddr;

/// Networks remembered; the one used longest ago is forgotten.
const MAX_PLACES: usize = 32;
/// Kinds of links whose neighbours have hardware addresses (ARPHRD_ETHER, linux/if_arp.h): cables and Wi-Fi.
const ETHERNET: u16 = 1;

/// How a network is left, by family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) v4: Option<Gate>,
    pub(super) v6: Option<Gate>,
}

/// Who stands at the beginning of all ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gate {
    pub(super) router: Router,
    /// Nothing until it has been spoken to.
    pub(super) hardware: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Router {
    /// A router, on a link of a kind.
    At { kind: u16, address: IpAddr },
    /// None: the link itself.
    Link { kind: u16, name: String, source: Option<IpAddr> },
}

impl Seen {
    /// Tells whether a router's hardware address may still show.
    pub(super) fn is_unsure(&self) -> bool {
        let is_unsure =
            |gate: &Gate| gate.hardware.is_none() && matches!(gate.router, Router::At { kind: ETHERNET, .. });
        [&self.v4, &self.v6].into_iter().flatten().any(is_unsure)
    }

    /// Tells by how many families it is surely or maybe the same network; nothing when it is another one.
    fn likeness(&self, other: &Self) -> Option<u32> {
        let mut same = 0;
        for (one, other) in [(&self.v4, &other.v4), (&self.v6, &other.v6)] {
            let (Some(one), Some(other)) = (one, other) else { continue };
            let is_other_hardware =
                one.hardware.is_some() && other.hardware.is_some() && one.hardware != other.hardware;
            if one.router != other.router || is_other_hardware {
                return None;
            }
            same += 1;
        }
        Some(same).filter(|same| *same > 0)
    }

    /// Takes over what else is seen.
    fn learn(&mut self, seen: &Self) {
        for (known, seen) in [(&mut self.v4, &seen.v4), (&mut self.v6, &seen.v6)] {
            match (&mut *known, seen) {
                (Some(known), Some(seen)) if known.hardware.is_none() => known.hardware.clone_from(&seen.hardware),
                (None, Some(_)) => known.clone_from(seen),
                _ => {}
            }
        }
    }
}

/// The networks that are known, the one used last at the end.
#[derive(Debug, Default)]
pub(super) struct Places {
    known: Vec<(PlaceId, Seen)>,
    last: u16,
}

impl Places {
    /// Returns which network this is; number 0 when nothing leads out of the machine.
    pub(super) fn find(&mut self, seen: &Seen) -> PlaceId {
        if *seen == Seen::default() {
            return PlaceId::default();
        }
        let like = self.known.iter().enumerate().filter_map(|(at, (_, known))| Some((known.likeness(seen)?, at)));
        let (place, mut known) = match like.max() {
            Some((_, at)) => self.known.remove(at),
            None => (self.unused(), Seen::default()),
        };
        known.learn(seen);
        if self.known.len() >= MAX_PLACES {
            self.known.remove(0);
        }
        self.known.push((place, known));
        place
    }

    fn unused(&mut self) -> PlaceId {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            let place = PlaceId(self.last);
            if self.known.iter().all(|(known, _)| *known != place) {
                return place;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(address: &str, hardware: Option<u8>) -> Option<Gate> {
        let router = Router::At { kind: ETHERNET, address: address.parse().unwrap() };
        Some(Gate { router, hardware: hardware.map(|last| vec![2, 0, 0, 0, 0, last]) })
    }

    fn v4(address: &str, hardware: Option<u8>) -> Seen {
        Seen { v4: gate(address, hardware), v6: None }
    }

    #[test]
    fn a_network_is_known_again_by_its_router_and_its_hardware() {
        let mut places = Places::default();
        assert_eq!(places.find(&Seen::default()), PlaceId(0));
        let home = places.find(&v4("192.168.1.1", Some(1)));
        let office = places.find(&v4("10.0.0.1", Some(2)));
        assert!(home != office && home != PlaceId(0));
        assert_eq!(places.find(&v4("192.168.1.1", Some(1))), home);
        let hotel = places.find(&v4("192.168.1.1", Some(3)));
        assert!(hotel != home && hotel != office);
        assert_eq!(places.find(&v4("192.168.1.1", None)), hotel, "the one of those used last, until it shows");
        assert_eq!(places.find(&v4("192.168.1.1", Some(1))), home);
        assert!(v4("192.168.1.1", None).is_unsure() && !v4("192.168.1.1", Some(1)).is_unsure());
    }

    #[test]
    fn what_shows_later_belongs_to_the_same_network() {
        let mut places = Places::default();
        let home = places.find(&v4("192.168.1.1", None));
        let both = Seen { v4: gate("192.168.1.1", Some(1)), v6: gate("fe80::1", Some(1)) };
        assert_eq!(places.find(&both), home);
        assert_eq!(places.find(&Seen { v4: None, ..both.clone() }), home, "IPv6 came first this time");
        assert_ne!(places.find(&v4("192.168.1.1", Some(9))), home);
        // A tunnel takes one family, and the other goes on as before.
        let tunnel = Router::Link { kind: 0xfffe, name: "wg0".into(), source: Some([10, 2, 0, 2].into()) };
        let tunnel = Seen { v4: Some(Gate { router: tunnel, hardware: None }), ..both.clone() };
        let away = places.find(&tunnel);
        assert!(away != home && !tunnel.is_unsure());
        assert_eq!((places.find(&both), places.find(&tunnel)), (home, away));
    }

    #[test]
    fn so_many_networks_are_known_and_their_numbers_are_not_used_for_others() {
        let mut places = Places::default();
        let numbered = |n: u32| v4(&std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string(), None);
        let last = u32::from(u16::MAX) + 9;
        let favourite = places.find(&numbered(0));
        for n in 1..=last {
            let place = places.find(&numbered(n));
            assert!(place != PlaceId(0) && place != favourite);
            assert_eq!(places.find(&numbered(0)), favourite);
            assert!(places.known.len() <= MAX_PLACES);
        }
        let forgotten = last - u32::try_from(MAX_PLACES).unwrap();
        let known: Vec<PlaceId> = places.known.iter().map(|(place, _)| *place).collect();
        assert!(!known.contains(&places.find(&numbered(forgotten))), "it counts as another one");
    }
}
