//! `[guard]`, and the policies that routes name.

use super::{GroupId, Pattern};
use crate::dns::Name;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Whether replies are judged before they are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GuardMode {
    /// They are believed as they come.
    Off,
    /// They go out as they come, and a few are held against a trusted one behind that.
    Sample,
    /// They go out as they come, and are held against a trusted one behind that.
    Watch,
    /// They are held against a trusted one, and only what stands goes out.
    Enforce,
}

impl GuardMode {
    /// Returns its word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Sample => "sample",
            Self::Watch => "watch",
            Self::Enforce => "enforce",
        }
    }
}

/// `[guard]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The group whose replies are believed.
    pub references: GroupId,
    /// How long a client who has an answer at hand waits for a trusted one to hold it against.
    pub budget: Duration,
    /// Replies in datagrams that nothing confirms are followed by listening for a second one.
    pub hold_on: bool,
    /// Addresses of guarded names may be proved by the certificates they show.
    pub proofs: bool,
    /// Where no resolver is: guarded names are asked there when a reply is disputed, and an answer tells of somebody on the way.
    pub decoys: Vec<SocketAddr>,
    /// Addresses that are forged whenever they are given.
    pub forged: Forged,
    /// Names whose replies may differ.
    pub lawful: Vec<Pattern>,
    /// Incidents are kept on disk over restarts.
    pub persist: bool,
    /// How long an incident is kept after it was last seen.
    pub keep: Duration,
    /// Packets are kept with incidents.
    pub packets: bool,
}

impl Guard {
    /// One that looks at nothing, for configurations made by hand.
    pub const NONE: Self = Self {
        references: GroupId(0),
        budget: Duration::ZERO,
        hold_on: false,
        proofs: false,
        decoys: Vec::new(),
        forged: Forged { addresses: Vec::new(), networks: Vec::new() },
        lawful: Vec::new(),
        persist: false,
        keep: Duration::ZERO,
        packets: false,
    };

    /// Tells whether the replies about a name may differ lawfully, whatever they are.
    #[must_use]
    pub fn may_differ(&self, name: &Name) -> bool {
        self.lawful.iter().any(|pattern| pattern.takes(name))
    }
}

/// A set of addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forged {
    /// In order, each once.
    addresses: Vec<IpAddr>,
    networks: Vec<IpNet>,
}

impl Forged {
    /// Makes it of networks, of which most are single addresses.
    #[must_use]
    pub fn new(all: impl IntoIterator<Item = IpNet>) -> Self {
        let (one, many): (Vec<IpNet>, Vec<IpNet>) =
            all.into_iter().partition(|net| net.prefix_len() == net.max_prefix_len());
        let mut addresses: Vec<IpAddr> = one.into_iter().map(|net| net.addr()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        Self { addresses, networks: many }
    }

    /// Tells whether an address is in it.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.binary_search(&address).is_ok() || self.networks.iter().any(|net| net.contains(&address))
    }

    /// Returns its members, in order.
    #[must_use]
    pub fn members(&self) -> Vec<IpNet> {
        let mut all: Vec<IpNet> =
            self.addresses.iter().copied().map(IpNet::from).chain(self.networks.clone()).collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_addresses_has_its_addresses_and_those_of_its_networks() {
        let forged =
            Forged::new(["192.0.2.1/32", "198.51.100.0/24", "2001:db8::1/128"].map(|net| net.parse().unwrap()));
        for (address, is_in) in [
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("198.51.100.7", true),
            ("198.51.101.7", false),
            ("2001:db8::1", true),
            ("2001:db8::2", false),
        ] {
            assert_eq!(forged.has(address.parse().unwrap()), is_in, "{address}");
        }
        assert_eq!(Forged::new(forged.members()), forged);
    }
}
