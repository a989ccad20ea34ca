//! Addresses as people write them: listeners, upstream servers, networks.

use super::model::UpstreamTransport;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// The port DNS has over UDP and TCP (RFC 1035 section 4.2).
pub const DNS_PORT: u16 = 53;

/// What stands in `servers`: one server, or the word `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerText {
    /// The resolvers this machine was given.
    Auto,
    /// A server.
    At(UpstreamTransport, SocketAddr),
}

/// Reads a listen address; without a port it is 53, and port 0 lets the system choose one.
///
/// # Errors
/// A hint for the person who wrote it.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let address = parse_socket(text)?;
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

/// Reads a server: `"10.0.0.10"`, `"10.0.0.10:5353"`, `"[fd00::53]:53"`, with `udp://` or `tcp://` before it, or `"auto"`.
///
/// # Errors
/// A hint for the person who wrote it.
pub fn parse_server(text: &str) -> Result<ServerText, String> {
    if text == "auto" {
        return Ok(ServerText::Auto);
    }
    let (transport, rest) = match text.split_once("://") {
        None => (UpstreamTransport::Udp, text),
        Some(("udp", rest)) => (UpstreamTransport::Udp, rest),
        Some(("tcp", rest)) => (UpstreamTransport::Tcp, rest),
        Some(("tls" | "https" | "quic" | "h3", _)) => {
            return Err("this version asks upstreams over udp:// and tcp:// only".to_owned());
        }
        Some((scheme, _)) => return Err(format!("`{scheme}` is no transport; write udp:// or tcp://")),
    };
    let address = parse_socket(rest)?;
    if address.port() == 0 {
        return Err("a port is a number from 1 to 65535".to_owned());
    }
    if address.ip().is_unspecified() || is_group_address(address.ip()) {
        return Err("the address of one machine, not an unspecified, multicast or broadcast one".to_owned());
    }
    if let SocketAddr::V6(v6) = address
        && v6.ip().is_unicast_link_local()
        && v6.scope_id() == 0
    {
        return Err("a link-local address needs its interface number, such as \"[fe80::1%2]:53\"".to_owned());
    }
    Ok(ServerText::At(transport, address))
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

/// The label of a server without a name: its address, with the port and transport that are not the usual ones.
#[must_use]
pub fn label(transport: UpstreamTransport, address: SocketAddr) -> String {
    let scheme = if transport == UpstreamTransport::Udp { String::new() } else { format!("{transport}://") };
    match address.port() {
        port if port == transport.default_port() => format!("{scheme}{}", address.ip()),
        _ => format!("{scheme}{address}"),
    }
}

fn parse_socket(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, DNS_PORT));
    }
    // `[fe80::1%2]`: only the form with a port is understood by the standard library.
    if let Ok(address) = format!("[{bare}]:{DNS_PORT}").parse::<SocketAddr>() {
        return Ok(address);
    }
    Err(socket_hint(text).to_owned())
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

    fn server(text: &str) -> String {
        match parse_server(text) {
            Ok(ServerText::Auto) => "auto".to_owned(),
            Ok(ServerText::At(transport, address)) => format!("{transport:?} {address} {}", label(transport, address)),
            Err(hint) => format!("! {hint}"),
        }
    }

    #[test]
    fn servers_are_read_in_every_documented_form() {
        for (text, expected) in [
            ("auto", "auto"),
            ("10.0.0.10", "Udp 10.0.0.10:53 10.0.0.10"),
            ("10.0.0.10:5353", "Udp 10.0.0.10:5353 10.0.0.10:5353"),
            ("fd00::53", "Udp [fd00::53]:53 fd00::53"),
            ("[fd00::53]", "Udp [fd00::53]:53 fd00::53"),
            ("[fd00::53]:5353", "Udp [fd00::53]:5353 [fd00::53]:5353"),
            ("udp://10.0.0.10", "Udp 10.0.0.10:53 10.0.0.10"),
            ("tcp://[fd00::53]:53", "Tcp [fd00::53]:53 tcp://fd00::53"),
            ("[fe80::1%2]", "Udp [fe80::1%2]:53 fe80::1"),
        ] {
            assert_eq!(server(text), expected, "{text}");
        }
    }

    #[test]
    fn bad_servers_are_told_why() {
        for (text, part) in [
            ("10.0.0.53:5e", "1 to 65535"),
            ("10.0.0.53:0", "1 to 65535"),
            ("10.0.0.53:65536", "1 to 65535"),
            ("10.0.0.256", "0 to 255"),
            ("fd00::53:99999", "brackets"),
            ("[fd00::53]:99999", "1 to 65535"),
            ("dns.example", "would need a resolver"),
            ("https://9.9.9.9/dns-query", "udp:// and tcp:// only"),
            ("ftp://9.9.9.9", "no transport"),
            ("0.0.0.0", "one machine"),
            ("ff02::fb", "one machine"),
            ("fe80::1", "interface number"),
        ] {
            assert!(server(text).starts_with('!') && server(text).contains(part), "{text}: {}", server(text));
        }
    }

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
