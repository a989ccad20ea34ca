//! How messages of rtnetlink(7) are laid out: reading attributes, writing a request. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Octets of a message's header (struct nlmsghdr).
pub(super) const HEADER_BYTES: usize = 16;
/// Messages and attributes begin at multiples of this.
pub(super) const ALIGN: usize = 4;
/// AF_INET and AF_INET6, as messages have them.
pub(super) const INET: u8 = 2;
pub(super) const INET6: u8 = 10;
/// NLM_F_REQUEST (linux/netlink.h).
const REQUEST: u16 = 1;

/// Writes a request.
pub(super) fn request(kind: u16, number: u32, fixed: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut message = vec![0; 4];
    message.extend(kind.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend(number.to_ne_bytes());
    message.extend([0; 4]);
    message.extend(fixed);
    for (kind, data) in attributes {
        message.extend(u16::try_from(data.len() + 4).expect("addresses and numbers are short").to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(*data);
        message.resize(message.len().next_multiple_of(ALIGN), 0);
    }
    let len = u32::try_from(message.len()).expect("a few dozen octets").to_ne_bytes();
    message[..4].copy_from_slice(&len);
    message
}

/// Walks over attributes: length with its own four octets, kind, data.
pub(super) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (len, kind) = (usize::from(u16_at(rest, 0)?), u16_at(rest, 2)?);
        let data = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some((kind, data))
    })
}

/// Reads an address of a family.
pub(super) fn ip(family: u8, data: &[u8]) -> Option<IpAddr> {
    match family {
        INET => Some(Ipv4Addr::from(*data.first_chunk::<4>()?).into()),
        INET6 => Some(Ipv6Addr::from(*data.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// Returns an address's family and octets.
pub(super) fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (INET6, v6.octets().to_vec()),
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}
