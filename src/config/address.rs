//! Addresses as people write them: listeners and networks. Servers are in `server.rs`.

use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// The port DNS has over UDP and TCP (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;

/// Reads a listen address; without a port it is 53, and port 0 lets the system choose one.
///
/// # Errors
/// A hint for the person who wrote it.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let (address, _) = parse_ip_port(text, DNS_PORT)?;
    let ip = address.ip();
    if ip.is_unspecified() {
        return Err("bind each address by itself: a wildcard socket can answer from another address than the one \
                    that was asked, and clients drop such answers"
            .to_owned());
    }
    if is_group_address(ip) {
        return Err("an address of this machine, not a multicast or broadcast one".to_owned());
    }
    Ok(address)
}

/// Reads a network in CIDR form, or one address.
///
/// # Errors
/// A hint for the person who wrote it.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(ip.into());
    }
    let net: IpNet = text.parse().map_err(|_| match text.split_once('/') {
        Some((ip, _)) if ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()) => "an IPv4 prefix length is 0 to 32",
        Some((ip, _)) if ip.parse::<IpAddr>().is_ok() => "an IPv6 prefix length is 0 to 128",
        _ => "write an address and a prefix length, such as \"192.168.0.0/16\"",
    })?;
    if net.trunc() != net {
        return Err(format!("bits are set right of the prefix; write \"{}\"", net.trunc()));
    }
    Ok(net)
}

/// Reads an IP address with a port, or without one; tells which.
///
/// # Errors
/// A hint for the person who wrote it.
pub(crate) fn parse_ip_port(text: &str, default_port: u16) -> Result<(SocketAddr, bool), String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok((address, true));
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok((SocketAddr::new(ip, default_port), false));
    }
    // `[fe80::1%2]`: only the form with a port is understood by the standard library.
    if let Ok(address) = format!("[{bare}]:{default_port}").parse::<SocketAddr>() {
        return Ok((address, false));
    }
    Err(socket_hint(text).to_owned())
}

/// Tells whether a listener takes what is sent to an address.
pub(crate) fn is_same_socket(listen: SocketAddr, to: SocketAddr) -> bool {
    listen.port() == to.port() && listen.ip().to_canonical() == to.ip().to_canonical()
}

fn socket_hint(text: &str) -> &'static str {
    if text.is_empty() {
        return "nothing there";
    }
    if text.starts_with(':') && !text.starts_with("::") {
        return "the address before the port is missing";
    }
    if text.contains('/') {
        return "one address, without a prefix length or a path";
    }
    match text.rsplit_once(':') {
        Some((host, _)) if host.parse::<std::net::Ipv6Addr>().is_ok() => {
            "an IPv6 address with a port stands in brackets, such as [fd00::53]:53"
        }
        Some((host, _)) if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() => {
            "a port is a number from 1 to 65535"
        }
        _ if text.contains('[') || text.matches(':').count() > 1 => {
            "IPv6 is written fd00::53, and with a port in brackets: [fd00::53]:53"
        }
        _ if text.bytes().all(|byte| byte.is_ascii_hexdigit() || b".:[]%".contains(&byte)) => {
            "IPv4 has four numbers from 0 to 255, such as 10.0.0.53"
        }
        _ => "write the IP address: finding it by name would need a resolver",
    }
}

fn is_group_address(ip: IpAddr) -> bool {
    ip.is_multicast() || matches!(ip, IpAddr::V4(v4) if v4.is_broadcast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcard_listeners_are_refused_with_the_reason() {
        for text in ["0.0.0.0:53", "[::]:53", "::"] {
            assert!(parse_listen(text).unwrap_err().contains("another address"), "{text}");
        }
        assert_eq!(parse_listen("127.0.0.1").unwrap(), "127.0.0.1:53".parse().unwrap());
        assert_eq!(parse_listen("127.0.0.1:0").unwrap().port(), 0);
    }

    #[test]
    fn networks_say_what_is_wrong() {
        assert_eq!(parse_network("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
        assert_eq!(parse_network("10.1.2.3/8").unwrap_err(), "bits are set right of the prefix; write \"10.0.0.0/8\"");
        assert_eq!(parse_network("10.0.0.0/33").unwrap_err(), "an IPv4 prefix length is 0 to 32");
        assert_eq!(parse_network("fd00::/129").unwrap_err(), "an IPv6 prefix length is 0 to 128");
        assert!(parse_network("home").is_err());
    }
}
