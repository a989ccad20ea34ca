//! Which network this is, by the routers it is left through. Pure.
//!
//! A router is known by its address and by the one its hardware has: half of the world's routers are 192.168.1.1. The second
//! is known only when something has been sent to it, so a network is first taken for the one with such a router that was
//! used last: a guess, of which nothing is kept. Two sights are taken for one network only when the hardware is the same, or
//! when the link has none. Where no router is between us and the others, as in a tunnel, the link stands for it. Resolvers
//! are no part of it: they come and go at their own time, and some that machines are given are truename.

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

impl Gate {
    /// Tells whether all is seen that tells it from others.
    fn is_sure(&self) -> bool {
        self.hardware.is_some() || !matches!(self.router, Router::At { kind: ETHERNET, .. })
    }
}

/// By how many families two sights are surely, and maybe, of the same network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Likeness {
    sure: u32,
    maybe: u32,
}

impl Seen {
    /// Tells whether a router's hardware address may still show.
    pub(super) fn is_unsure(&self) -> bool {
        self.gates().any(|gate| !gate.is_sure())
    }

    fn gates(&self) -> impl Iterator<Item = &Gate> {
        [&self.v4, &self.v6].into_iter().flatten()
    }

    /// Tells how like another it is; nothing when it is another network.
    fn likeness(&self, other: &Self) -> Option<Likeness> {
        let mut like = Likeness { sure: 0, maybe: 0 };
        for (one, other) in [(&self.v4, &other.v4), (&self.v6, &other.v6)] {
            let (Some(one), Some(other)) = (one, other) else { continue };
            let is_other_hardware =
                one.hardware.is_some() && other.hardware.is_some() && one.hardware != other.hardware;
            if one.router != other.router || is_other_hardware {
                return None;
            }
            *(if one.is_sure() && other.is_sure() { &mut like.sure } else { &mut like.maybe }) += 1;
        }
        Some(like).filter(|like| like.sure + like.maybe > 0)
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

    /// Adds the hardware that was seen before: the kernel forgets a router that is not spoken to.
    fn remembering(&self, before: &Self) -> Self {
        let mut seen = self.clone();
        for (gate, before) in [(&mut seen.v4, &before.v4), (&mut seen.v6, &before.v6)] {
            if let (Some(gate), Some(before)) = (gate, before)
                && gate.router == before.router
                && gate.hardware.is_none()
            {
                gate.hardware.clone_from(&before.hardware);
            }
        }
        seen
    }
}

/// How it is known which network this is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum By {
    /// By hardware, by the link, or because no more will show.
    #[default]
    Sight,
    /// None like it was known when the machine came there; its hardware has not shown yet.
    Novelty,
    /// By the router's address alone.
    Guess,
}

/// The network the machine is on.
#[derive(Debug, Default)]
struct Here {
    place: PlaceId,
    by: By,
    seen: Seen,
}

/// What a look at the ways out of the machine has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// The network the machine was on until then; number 0 when that did not show.
    pub(super) was: PlaceId,
    /// The network it is on; number 0 when nothing leads out of it.
    pub(super) place: PlaceId,
}

/// The networks that are known, the one used last at the end.
#[derive(Debug, Default)]
pub(super) struct Places {
    known: Vec<(PlaceId, Seen)>,
    last: u16,
    here: Here,
}

impl Places {
    /// Decides which network this is. `may_have_moved`: a link came up or went down, so that it may be another one than
    /// before, however like it looks.
    pub(super) fn find(&mut self, seen: &Seen, may_have_moved: bool) -> Found {
        let stays = !may_have_moved && self.here.seen.likeness(seen).is_some();
        let was = if self.here.by == By::Guess { PlaceId::default() } else { self.here.place };
        let seen = if stays { seen.remembering(&self.here.seen) } else { seen.clone() };
        let (place, by) =
            if seen == Seen::default() { (PlaceId::default(), By::Sight) } else { self.tell(&seen, stays) };
        self.here = Here { place, by, seen };
        Found { was: if stays { place } else { was }, place }
    }

    /// More may have shown of the network the machine was on until now.
    pub(super) fn show(&mut self, seen: &Seen) {
        if self.here.seen.likeness(seen).is_some() {
            self.find(seen, false);
        }
    }

    /// No more will show of the network the machine is on: what is known of it is all there is.
    pub(super) fn settle(&mut self) {
        self.here.by = By::Sight;
    }

    fn tell(&mut self, seen: &Seen, stays: bool) -> (PlaceId, By) {
        let novel = Some(self.here.place).filter(|_| stays && self.here.by == By::Novelty);
        let like = |known: &(PlaceId, Seen)| known.1.likeness(seen);
        let all = self.known.iter().enumerate().filter_map(|(at, known)| Some((like(known)?, at)));
        let best = all.max();
        if let Some((_, at)) = best.filter(|(like, _)| like.sure > 0) {
            let (place, mut known) = self.known.remove(at);
            known.learn(seen);
            // What was described as if nobody had known it.
            self.known.retain(|(other, _)| novel != Some(*other));
            return (self.keep(place, known), By::Sight);
        }
        let is_sure = seen.gates().any(Gate::is_sure);
        let by = if is_sure { By::Sight } else { By::Novelty };
        if let Some(at) = novel.and_then(|place| self.known.iter().position(|(other, _)| *other == place)) {
            let (place, mut known) = self.known.remove(at);
            known.learn(seen);
            return (self.keep(place, known), by);
        }
        if let Some((_, at)) = best.filter(|_| !is_sure) {
            let (place, known) = self.known.remove(at);
            return (self.keep(place, known), By::Guess);
        }
        let place = self.unused();
        (self.keep(place, seen.clone()), by)
    }

    /// Keeps a network as the one used last.
    fn keep(&mut self, place: PlaceId, seen: Seen) -> PlaceId {
        if self.known.len() >= MAX_PLACES {
            self.known.remove(0);
        }
        self.known.push((place, seen));
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

    impl Places {
        /// The machine comes to a network.
        fn come_to(&mut self, seen: &Seen) -> PlaceId {
            self.find(seen, true).place
        }

        /// More shows of the network the machine is on.
        fn shown(&mut self, seen: &Seen) -> PlaceId {
            let Found { was, place } = self.find(seen, false);
            assert_eq!(was, place, "it is where it was");
            place
        }
    }

    #[test]
    fn a_network_is_known_again_by_its_router_and_its_hardware() {
        let mut places = Places::default();
        assert_eq!(places.come_to(&Seen::default()), PlaceId(0));
        let home = places.come_to(&v4("192.168.1.1", Some(1)));
        let office = places.come_to(&v4("10.0.0.1", Some(2)));
        assert!(home != office && home != PlaceId(0));
        assert_eq!(places.come_to(&v4("192.168.1.1", Some(1))), home);
        let hotel = places.come_to(&v4("192.168.1.1", Some(3)));
        assert!(hotel != home && hotel != office);
        assert_eq!(places.come_to(&v4("192.168.1.1", None)), hotel, "the one of those used last, until it shows");
        assert_eq!(places.shown(&v4("192.168.1.1", Some(1))), home);
        assert!(v4("192.168.1.1", None).is_unsure() && !v4("192.168.1.1", Some(1)).is_unsure());
    }

    #[test]
    fn what_shows_later_belongs_to_the_same_network() {
        let mut places = Places::default();
        let home = places.come_to(&v4("192.168.1.1", None));
        let both = Seen { v4: gate("192.168.1.1", Some(1)), v6: gate("fe80::1", Some(1)) };
        assert_eq!(places.shown(&both), home);
        assert_eq!(places.shown(&v4("192.168.1.1", None)), home, "the kernel has forgotten the router");
        assert_eq!(places.here.by, By::Sight, "we have not");
        assert_eq!(places.come_to(&Seen { v4: None, ..both.clone() }), home, "IPv6 came first this time");
        assert_ne!(places.come_to(&v4("192.168.1.1", Some(9))), home);
        // A tunnel takes one family, and the other goes on as before.
        let tunnel = Router::Link { kind: 0xfffe, name: "wg0".into(), source: Some([10, 2, 0, 2].into()) };
        let tunnel = Seen { v4: Some(Gate { router: tunnel, hardware: None }), ..both.clone() };
        let away = places.come_to(&tunnel);
        assert!(away != home && !tunnel.is_unsure());
        assert_eq!((places.come_to(&both), places.come_to(&tunnel)), (home, away));
    }

    #[test]
    fn a_guess_makes_no_two_networks_one() {
        let mut places = Places::default();
        let home = places.come_to(&Seen { v4: gate("192.168.1.1", Some(1)), v6: None });
        // A hotel's router of the same address, with IPv6 besides.
        let hotel = |hardware| Seen { v4: gate("192.168.1.1", hardware), v6: gate("fe80::2", hardware) };
        assert_eq!(places.come_to(&hotel(None)), home);
        assert_eq!(places.known, [(home, v4("192.168.1.1", Some(1)))], "nothing of it is taken for home's");
        let other = places.shown(&hotel(Some(2)));
        assert_ne!(other, home);
        // One that was left before its hardware has shown.
        let left = places.come_to(&v4("10.0.0.1", None));
        assert_eq!(places.come_to(&v4("10.0.0.1", None)), left, "the one of those used last");
        let another = places.shown(&v4("10.0.0.1", Some(5)));
        assert!(![home, other, left].contains(&another), "whether it was this one nobody knows");
        // One that seems not to be known until its other family shows.
        let by_v6 = |v4| Seen { v4, v6: gate("fe80::7", Some(7)) };
        let known = places.come_to(&by_v6(None));
        let seems = places.come_to(&v4("192.168.9.9", None));
        assert_ne!(seems, known);
        assert_eq!(places.shown(&by_v6(gate("192.168.9.9", None))), known);
        assert!(places.known.iter().all(|(place, _)| *place != seems), "it was no other one");
    }

    #[test]
    fn a_network_that_is_left_is_the_one_that_has_shown() {
        let mut places = Places::default();
        let (home, office) = (v4("192.168.1.1", Some(1)), v4("10.0.0.1", Some(2)));
        let at_home = places.find(&home, true);
        assert_eq!(at_home.was, PlaceId(0), "the machine was nowhere");
        let at_office = places.find(&office, true);
        assert_eq!(at_office.was, at_home.place);
        let guess = places.find(&v4("192.168.1.1", None), true);
        assert_eq!(guess, Found { was: at_office.place, place: at_home.place });
        assert_eq!(places.find(&office, true).was, PlaceId(0), "it may have been another one");
        // Without a link that came up or went down, another router is another network all the same.
        assert_eq!(places.find(&home, false), Found { was: at_office.place, place: at_home.place });
        // What shows before the next look counts.
        places.find(&v4("10.9.9.9", None), true);
        places.show(&v4("10.0.0.1", Some(2)));
        assert_eq!(places.here.by, By::Novelty, "that is somebody else");
        places.find(&v4("10.0.0.1", None), true);
        places.show(&v4("10.0.0.1", Some(2)));
        assert_eq!(places.find(&home, false).was, at_office.place);
        // What does not show at all is taken as it is.
        places.find(&v4("192.168.1.1", None), true);
        places.settle();
        assert_eq!(places.find(&Seen::default(), false), Found { was: at_home.place, place: PlaceId(0) });
        // One that nobody knew has a number of its own from the beginning.
        let novel = places.find(&v4("172.16.0.1", None), true);
        assert_eq!((novel.was, places.find(&office, true).was), (PlaceId(0), novel.place));
    }

    #[test]
    fn so_many_networks_are_known_and_their_numbers_are_not_used_for_others() {
        let mut places = Places::default();
        let numbered = |n: u32| v4(&std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string(), None);
        let last = u32::from(u16::MAX) + 9;
        let favourite = places.come_to(&numbered(0));
        for n in 1..=last {
            let place = places.come_to(&numbered(n));
            assert!(place != PlaceId(0) && place != favourite);
            assert_eq!(places.come_to(&numbered(0)), favourite);
            assert!(places.known.len() <= MAX_PLACES);
        }
        let forgotten = last - u32::try_from(MAX_PLACES).unwrap();
        let known: Vec<PlaceId> = places.known.iter().map(|(place, _)| *place).collect();
        assert!(!known.contains(&places.come_to(&numbered(forgotten))), "it counts as another one");
    }
}
