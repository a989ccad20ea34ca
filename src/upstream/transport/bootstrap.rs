//! Finding a server that is known by name only, over resolvers given by address: never through ourselves.

use super::jobs::Fault;
use crate::dns::wire::{Message, Section, flag};
use crate::dns::{Name, QuestionKey, Rtype};
use crate::upstream::reply::{Match, Sent, Shape};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// How long one resolver is waited for before the next is asked.
const PATIENCE: Duration = Duration::from_millis(700);
/// Addresses kept of a name.
const MAX_ADDRESSES: usize = 8;
/// Addresses are kept at least so long: a connection is opened seldom, and they hardly change.
const MIN_KEPT: Duration = Duration::from_secs(60);
/// Addresses are kept at most so long.
const MAX_KEPT: Duration = Duration::from_secs(86_400);
/// Octets of a reply.
const RECEIVE_BYTES: usize = 4096;

/// Returns the addresses of a name, IPv6 and IPv4 in turn, and how long they may be kept.
pub(super) async fn find(name: &Name, resolvers: &[SocketAddr]) -> Result<(Vec<IpAddr>, Duration), Fault> {
    if resolvers.is_empty() {
        return Err(Fault::told(format!("{name} has no `bootstrap` to find it by")));
    }
    for resolver in resolvers {
        let (v6, v4) = tokio::join!(ask(*resolver, name, Rtype::AAAA), ask(*resolver, name, Rtype::A));
        let (v6, v4) = (v6.unwrap_or_default(), v4.unwrap_or_default());
        let ttl = v6.iter().chain(&v4).map(|(_, ttl)| *ttl).min();
        let pairs = (0..v6.len().max(v4.len())).flat_map(|at| [v6.get(at), v4.get(at)]);
        let found: Vec<IpAddr> = pairs.flatten().map(|(ip, _)| *ip).take(MAX_ADDRESSES).collect();
        if let Some(ttl) = ttl {
            return Ok((found, Duration::from_secs(ttl.into()).clamp(MIN_KEPT, MAX_KEPT)));
        }
    }
    Err(Fault::told(format!("no resolver of `bootstrap` knows an address of {name}")))
}

/// Asks one resolver for one type; addresses with their TTLs.
async fn ask(resolver: SocketAddr, name: &Name, rtype: Rtype) -> Option<Vec<(IpAddr, u32)>> {
    let question = QuestionKey { qname: name.to_lower(), qtype: rtype, dnssec_ok: false, checking_disabled: false };
    let sent = Sent::new(&question, Shape { edns: true, ..Shape::default() });
    let any: SocketAddr = match resolver {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(resolver).await.ok()?;
    socket.send(&sent.bytes).await.ok()?;
    let mut received = [0; RECEIVE_BYTES];
    let reply = async {
        loop {
            let len = socket.recv(&mut received).await.ok()?;
            if sent.matches(&received[..len]) == Match::Exact {
                return Some(len);
            }
        }
    };
    let len = timeout(PATIENCE, reply).await.ok()??;
    let message = Message::parse(&received[..len]).ok().filter(|message| !message.has(flag::TC))?;
    let address = |rdata: &[u8]| -> Option<IpAddr> {
        match rtype {
            Rtype::A => <[u8; 4]>::try_from(rdata).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(rdata).ok().map(IpAddr::from),
        }
    };
    let records = message.section(Section::Answer).filter(|record| record.rtype == rtype);
    Some(records.filter_map(|record| Some((address(message.rdata(&record))?, record.ttl))).collect())
}
