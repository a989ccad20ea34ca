//! Proving addresses by the certificates they show. Whether one is worth proving, and what follows, is not decided here.

use super::Inner;
use super::transport::{Net, Proven, Shown, prove as shake_hands, tls_name};
use crate::dns::Name;
use rustls::pki_types::CertificateDer;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
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
    let der = |all: &[Vec<u8>]| all.iter().cloned().map(CertificateDer::from).collect();
    let more = map.map_or_else(Default::default, |map| [der(&map.public_roots), der(&map.local_roots)]);
    shake_hands(inner.pool.proving(), Arc::new(more), to, name).await
}

/// Tells whether a server can have a certificate of a name at all.
pub(super) fn is_provable(name: &Name) -> bool {
    tls_name(&name.to_string()).is_some()
}
