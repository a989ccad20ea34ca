//! What is known about a question when it is judged: who replied what, and what else was looked up.
//!
//! Evidence only grows. The pipeline fills it by running the [`Probe`]s that `judge` asks for, a recorded case by what was
//! recorded; a probe that brought nothing is noted in [`Evidence::tried`] all the same, and is not asked for again.

use super::reply::Reply;
use std::net::{IpAddr, Ipv4Addr};

/// Who an upstream is, as far as witnesses are counted: upstreams of one operator are one witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperatorId(pub u16);

/// How a reply travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// UDP port 53: whoever is on the path may answer in the upstream's place, and a second reply may follow.
    Datagram,
    /// TCP port 53: readable and alterable on the path.
    Stream,
    /// TLS, HTTPS or QUIC: only the upstream itself can have answered.
    Encrypted,
}

impl Way {
    /// Tells whether somebody on the path can have made the reply.
    #[must_use]
    pub fn is_open(self) -> bool {
        self != Self::Encrypted
    }
}

/// What a server is known to do, learnt over many replies (`memory.rs`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Habits {
    /// It always sends an OPT record when it is sent one.
    pub sends_opt: bool,
    /// It always sets RA. Without this, a forwarder on the own network may clear it for no reason.
    pub sets_recursion: bool,
    /// It always clears AA.
    pub clears_authoritative: bool,
    /// It always gives the letter case back.
    pub keeps_case: bool,
}

/// An upstream that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who runs it.
    pub operator: OperatorId,
    /// How it was asked.
    pub way: Way,
    /// It stands on a network of its own (a private address): a forwarder at home or in an office.
    pub on_lan: bool,
    /// What it is known to do.
    pub habits: Habits,
    /// Every reply to the one query, in any order; empty when it failed.
    pub replies: Vec<Reply>,
}

/// What a TLS handshake with an address, for the question's name, showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A certificate of the name, signed by a known root.
    Valid,
    /// A good certificate of another name.
    OtherName,
    /// A chain that no root signs.
    Untrusted,
    /// A chain to a root that was added on this machine: somebody reads along, and may be allowed to.
    LocalRoot,
    /// Timeout, reset, refused: says nothing, since names are filtered in TLS too.
    Unreachable,
}

/// For how many names one address was given on this network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FanIn {
    /// Names that have nothing to do with the question's.
    pub names: u32,
    /// Among them, those for which trusted upstreams gave something else that nothing explains.
    pub disputed: u32,
}

/// Something worth finding out before deciding. The pipeline runs it and judges again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Probe {
    /// Ask the trusted group.
    AskTrusted,
    /// Ask another operator of the trusted group: one word is not enough to deny a guarded name.
    AskAnotherTrusted,
    /// Listen on for a second reply of the suspect.
    ListenOn,
    /// Ask trusted upstreams for the name's A records, to hold NAT64 addresses against.
    AskIpv4,
    /// Ask every other group that may know the name: nobody who is believed has answered, and an address of any of them may
    /// prove itself.
    AskOthers,
    /// Prove the suspects' addresses by TLS for the name.
    Prove,
    /// Ask the question of an address where no resolver is.
    Decoy,
}

/// A set of probes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Probes(u8);

impl Probes {
    /// Returns the set with `probe` in it.
    #[must_use]
    pub const fn with(self, probe: Probe) -> Self {
        Self(self.0 | 1 << probe as u8)
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Adds one.
    pub fn insert(&mut self, probe: Probe) {
        *self = self.with(probe);
    }

    /// Tells whether `probe` is in it.
    #[must_use]
    pub const fn has(self, probe: Probe) -> bool {
        self.0 & 1 << probe as u8 != 0
    }

    /// Tells whether nothing is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns those that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns its members.
    pub fn iter(self) -> impl Iterator<Item = Probe> {
        use Probe::{AskAnotherTrusted, AskIpv4, AskOthers, AskTrusted, Decoy, ListenOn, Prove};
        [AskTrusted, AskAnotherTrusted, ListenOn, AskIpv4, AskOthers, Prove, Decoy]
            .into_iter()
            .filter(move |p| self.has(*p))
    }
}

/// Everything known about one question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Upstreams that are judged.
    pub suspects: Vec<Candidate>,
    /// Upstreams that are believed, failed ones included.
    pub trusted: Vec<Candidate>,
    /// What addresses have shown by TLS.
    pub proofs: Vec<(IpAddr, Proof)>,
    /// For how many names addresses were given.
    pub fan_in: Vec<(IpAddr, FanIn)>,
    /// Networks (AS) of addresses, for those the optional table has.
    pub networks: Vec<(IpAddr, u32)>,
    /// Addresses of the user's own list of forged ones that stand in replies.
    pub listed: Vec<IpAddr>,
    /// Addresses in replies that this operator gave for a name which does not exist.
    pub invented: Vec<(OperatorId, IpAddr)>,
    /// The configuration says that replies about this name may differ.
    pub may_differ: bool,
    /// The name's IPv4 addresses, from trusted upstreams.
    pub ipv4: Vec<Ipv4Addr>,
    /// A decoy was answered on this network.
    pub decoy_answered: bool,
    /// The largest TTL that trusted upstreams ever gave for the name and type, once enough were seen.
    pub ttl_ceiling: Option<u32>,
    /// The trusted answer is secured by DNSSEC.
    pub secure: bool,
    /// The name had data of the type before, or has none of the other family of addresses either: that there is nothing is
    /// hard to believe on one operator's word.
    pub had_data: bool,
    /// Probes that were run, whatever they brought.
    pub tried: Probes,
}

impl Evidence {
    /// Returns what an address has shown.
    #[must_use]
    pub fn proof(&self, address: IpAddr) -> Option<Proof> {
        self.proofs.iter().find(|(of, _)| *of == address).map(|(_, proof)| *proof)
    }

    /// Returns the network of an address.
    #[must_use]
    pub fn network(&self, address: IpAddr) -> Option<u32> {
        self.networks.iter().find(|(of, _)| *of == address).map(|(_, network)| *network)
    }

    /// Returns for how many names an address was given.
    #[must_use]
    pub fn fan_in(&self, address: IpAddr) -> FanIn {
        self.fan_in.iter().find(|(of, _)| *of == address).map(|(_, fan_in)| *fan_in).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_probes_hold_what_was_put_in() {
        let two = Probes::default().with(Probe::Prove).with(Probe::AskTrusted);
        assert_eq!(two.iter().collect::<Vec<_>>(), [Probe::AskTrusted, Probe::Prove]);
        assert_eq!(two.without(Probes::default().with(Probe::Prove)).iter().collect::<Vec<_>>(), [Probe::AskTrusted]);
        assert!(!two.is_empty() && !two.has(Probe::Decoy) && two.without(two).is_empty());
    }
}
