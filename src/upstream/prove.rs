//! Proving addresses by the certificates they show. Whether one is worth proving, and what follows, is not decided here.

use super::Inner;
use super::transport::{Net, Proven, Shown, prove as shake_hands, tls_name};
use crate::dns::Name;
use rustls::pki_types::CertificateDer;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

/// Where servers of names are asked for their certificates.
const PORT: u16 = 443;

/// A map of the world for proofs: what an address stands for, and who is believed. Whoever must not reach real servers, as a
/// test must not, gives one; without it an address stands for itself.
#[derive(Debug, Clone, Default)]
pub struct ProofMap {
    /// Where the connection for an address goes; for others there is none.
    pub addresses: HashMap<IpAddr, SocketAddr>,
    /// Certificates in DER that count as public roots.
    pub public_roots: Vec<Vec<u8>>,
    /// Those that count as added on this machine.
    pub local_roots: Vec<Vec<u8>>,
}

/// See [`super::Upstreams::prove`].
pub(super) async fn prove(inner: &Inner, name: &Name, address: IpAddr) -> Proven {
    let nothing = |told: &str| Proven { shown: Shown::Nothing, told: told.to_owned() };
    let Some(name) = tls_name(&name.to_string()) else { return nothing("no certificate can be of this name") };
    let map = inner.proof_map.get();
    let to = match (&inner.net, map) {
        (Net::Real, None) => Some(SocketAddr::new(address, PORT)),
        (_, Some(map)) => map.addresses.get(&address).copied(),
        (Net::Simulated(_), None) => None,
    };
    let Some(to) = to else { return nothing("the network that is played here has no such server") };
    if is_own(address) {
        return nothing("an address of this machine");
    }
    let der = |all: &[Vec<u8>]| all.iter().cloned().map(CertificateDer::from).collect();
    let more = map.map_or_else(Default::default, |map| [der(&map.public_roots), der(&map.local_roots)]);
    shake_hands(inner.pool.proving(), Arc::new(more), to, name).await
}

/// Tells whether an address is this machine's own: no answer of somebody else makes us call at our own door. The kernel chooses
/// the address that a datagram would come from; none is sent.
fn is_own(address: IpAddr) -> bool {
    let any = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let from = || -> io::Result<SocketAddr> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((address, PORT))?;
        socket.local_addr()
    };
    from().is_ok_and(|from| from.ip() == address)
}

/// Tells whether a server can have a certificate of a name at all.
pub(super) fn is_provable(name: &Name) -> bool {
    tls_name(&name.to_string()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_machine_is_told_from_others() {
        assert!(is_own(Ipv4Addr::LOCALHOST.into()));
        assert!(!is_own(Ipv4Addr::new(192, 0, 2, 1).into()), "a block for documents (RFC 5737)");
    }
}
