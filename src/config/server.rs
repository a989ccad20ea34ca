//! Upstream servers and proxies as people write them: `10.0.0.10`, `tls://9.9.9.10#dns10.quad9.net`,
//! `https://dns.example/dns-query`, `socks5://127.0.0.1:1080`.
//!
//! One syntax everywhere: `[TRANSPORT://]HOST[:PORT][/PATH][#NAME]`. What is printed reads back as the same.

use super::address::parse_ip_port;
use super::model::{Proxy, ProxyLogin, ProxyServer, Rung, UpstreamHost, UpstreamTransport};
use super::nearest::nearest;
use super::pattern::parse_name;
use crate::dns::Name;
use data_encoding::BASE64;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The path of HTTPS and HTTP/3 when none is written: what RFC 8484 section 4.1.1 uses, and nearly everybody.
const DEFAULT_PATH: &str = "/dns-query";
/// Octets of a path at most; a path with an account's key has some 50.
const MAX_PATH_BYTES: usize = 1024;
/// Octets of a proxy's user and password at most (RFC 1929 section 2: one octet holds the length).
const MAX_LOGIN_BYTES: usize = 255;
/// Port of a SOCKS proxy when none is written (RFC 1928 section 3).
const SOCKS_PORT: u16 = 1080;
/// Port of an HTTP proxy when none is written: that of `http:` (RFC 9110 section 4.2.1).
const HTTP_PORT: u16 = 80;
/// Characters of an interface's name at most: IFNAMSIZ is 16 with the NUL.
const MAX_INTERFACE_BYTES: usize = 15;

/// What is said about a port that is none.
const PORT_HINT: &str = "a port is a number from 1 to 65535";

/// What stands in `servers`: one server, or the word `auto`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerText {
    /// The resolvers this machine was given.
    Auto,
    /// A server.
    At(Box<ServerAddress>),
}

/// A server as one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// Where it is.
    pub host: UpstreamHost,
    /// The transport, when one was written.
    pub transport: Option<UpstreamTransport>,
    /// The port, when one was written.
    pub port: Option<u16>,
    /// The path, when one was written.
    pub path: Option<String>,
    /// The name or address its certificate must be for, when one was written.
    pub certificate_name: Option<String>,
}

/// A transport as it stands in `rungs`: `"tls"`, `"https:8443/dns"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RungText {
    /// The transport.
    pub transport: UpstreamTransport,
    /// The port, when one was written.
    pub port: Option<u16>,
    /// The path, when one was written.
    pub path: Option<String>,
}

impl ServerAddress {
    /// Returns the one rung it means by itself.
    #[must_use]
    pub fn rung(&self) -> Rung {
        let transport = self.transport.unwrap_or(UpstreamTransport::Udp);
        rung(transport, self.port, self.path.as_deref())
    }
}

/// Fills in what was not written.
#[must_use]
pub fn rung(transport: UpstreamTransport, port: Option<u16>, path: Option<&str>) -> Rung {
    let path = has_path(transport).then(|| path.unwrap_or(DEFAULT_PATH).into());
    Rung { transport, port: port.unwrap_or(transport.default_port()), path }
}

fn has_path(transport: UpstreamTransport) -> bool {
    matches!(transport, UpstreamTransport::Https | UpstreamTransport::H3)
}

impl fmt::Display for ServerAddress {
    /// Writes it as one would: without `udp://`, without the usual port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rung = self.rung();
        let (plain, usual) = (rung.transport == UpstreamTransport::Udp, rung.port == rung.transport.default_port());
        if !plain || matches!(self.host, UpstreamHost::Name(_)) {
            write!(f, "{}://", rung.transport)?;
        }
        write_host(f, &self.host, !plain || !usual)?;
        if !usual {
            write!(f, ":{}", rung.port)?;
        }
        f.write_str(rung.path.as_deref().unwrap_or_default())?;
        match &self.certificate_name {
            Some(name) => write!(f, "#{name}"),
            None => Ok(()),
        }
    }
}

/// Writes a host; an IPv6 address in brackets when something may follow it.
fn write_host(f: &mut fmt::Formatter<'_>, host: &UpstreamHost, brackets: bool) -> fmt::Result {
    match host {
        UpstreamHost::Address(ip, 0) if ip.is_ipv4() || !brackets => write!(f, "{ip}"),
        UpstreamHost::Address(ip, 0) => write!(f, "[{ip}]"),
        UpstreamHost::Address(ip, scope) => write!(f, "[{ip}%{scope}]"),
        UpstreamHost::Name(name) => f.write_str(without_last_dot(&name.to_string())),
    }
}

fn without_last_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Reads a server, or `"auto"`.
///
/// # Errors
/// A hint for the person who wrote it.
pub fn parse_server(text: &str) -> Result<ServerText, String> {
    if text == "auto" {
        return Ok(ServerText::Auto);
    }
    let (transport, rest) = match text.split_once("://") {
        None => (None, text),
        Some((scheme, rest)) => (Some(parse_transport(scheme)?), rest),
    };
    let (rest, certificate_name) = match rest.split_once('#') {
        None => (rest, None),
        Some((rest, name)) => (rest, Some(parse_certificate_name(name)?)),
    };
    let may_have_path = transport.is_some_and(has_path);
    let (rest, path) = match rest.find('/') {
        Some(at) if may_have_path => (&rest[..at], Some(parse_path(&rest[at..])?)),
        Some(_) if transport.is_some() => return Err("only https:// and h3:// have a path".to_owned()),
        _ => (rest, None),
    };
    if rest.contains('@') {
        return Err("a server has no user and password".to_owned());
    }
    let (host, port) = parse_host(rest, transport.is_some())?;
    let address = ServerAddress { host, transport, port, path, certificate_name };
    Ok(ServerText::At(Box::new(address)))
}

/// Reads a rung: a transport, optionally with a port and, for HTTPS and HTTP/3, a path.
///
/// # Errors
/// A hint for the person who wrote it.
pub fn parse_rung(text: &str) -> Result<RungText, String> {
    let end = text.find([':', '/']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let transport = parse_transport(word)?;
    let (port, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let port = port.strip_prefix(':').map(parse_port).transpose()?;
    let path = match path {
        "" => None,
        path if has_path(transport) => Some(parse_path(path)?),
        _ => return Err("only https and h3 have a path".to_owned()),
    };
    Ok(RungText { transport, port, path })
}

/// Reads the name or address that a certificate must be for; a name comes out in lower case.
///
/// # Errors
/// A hint for the person who wrote it.
pub fn parse_certificate_name(text: &str) -> Result<String, String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(ip.to_string());
    }
    if text.is_empty() {
        return Err("after # stands the name in the server's certificate".to_owned());
    }
    parse_host_name(text).map(|name| without_last_dot(&name.to_string()).to_owned())
}

/// Reads what finds servers given by name: a plain resolver by address.
///
/// # Errors
/// A hint for the person who wrote it.
pub fn parse_bootstrap(text: &str) -> Result<SocketAddr, String> {
    let plain = text.strip_prefix("udp://").unwrap_or(text);
    if plain.contains("://") || plain.contains('#') {
        return Err("bootstrap resolvers are asked in plain, by address: 9.9.9.10 or [2620:fe::10]:53".to_owned());
    }
    let (address, _) = parse_ip_port(plain, UpstreamTransport::Udp.default_port())?;
    can_be_reached(address)?;
    match address.port() {
        0 => Err(PORT_HINT.to_owned()),
        _ => Ok(address),
    }
}

/// Reads a proxy: `"none"`, `"env"`, `socks5://[USER:PASSWORD@]HOST[:PORT]` or `http://[USER:PASSWORD@]HOST[:PORT]`.
///
/// # Errors
/// A hint for the person who wrote it.
pub fn parse_proxy(text: &str) -> Result<Proxy, String> {
    let (scheme, rest) = match text {
        "none" => return Ok(Proxy::None),
        "env" => return Ok(Proxy::Env),
        _ => text.split_once("://").ok_or("write socks5://HOST:PORT, http://HOST:PORT, \"env\" or \"none\"")?,
    };
    let (default_port, make): (u16, fn(ProxyServer) -> Proxy) = match scheme {
        // With the `h` the proxy finds names itself (curl's word for it), which it does in any case here.
        "socks5" | "socks5h" => (SOCKS_PORT, Proxy::Socks5),
        "http" => (HTTP_PORT, Proxy::Http),
        "https" => return Err("the way to the proxy itself is plain: write http://".to_owned()),
        "socks" | "socks4" | "socks4a" => return Err("only SOCKS version 5 is spoken: socks5://".to_owned()),
        other => return Err(format!("{other:?} is no kind of proxy; write socks5:// or http://")),
    };
    let (login, rest) = match rest.rsplit_once('@') {
        None => (None, rest),
        Some((login, rest)) => (Some(parse_login(login)?), rest),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = parse_host(rest, true)?;
    Ok(make(ProxyServer { host, port: port.unwrap_or(default_port), login }))
}

/// Reads `USER:PASSWORD`, both percent-encoded where they hold characters that have a meaning here.
fn parse_login(text: &str) -> Result<ProxyLogin, String> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let (user, password) = (percent_decode(user)?, percent_decode(password)?);
    if user.is_empty() || user.contains(':') {
        return Err("the user before @ is empty or has a colon".to_owned());
    }
    if user.len() > MAX_LOGIN_BYTES || password.len() > MAX_LOGIN_BYTES {
        return Err(format!("user and password have at most {MAX_LOGIN_BYTES} octets each"));
    }
    Ok(ProxyLogin { user, password })
}

fn percent_decode(text: &str) -> Result<String, String> {
    let wrong = || "a % is written %25, and % stands before two hexadecimal digits".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(wrong()) };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| wrong())?);
    }
    let text = String::from_utf8(bytes).map_err(|_| "user and password are UTF-8".to_owned())?;
    match text.chars().any(char::is_control) {
        true => Err("user and password have no control characters".to_owned()),
        false => Ok(text),
    }
}

/// Reads a pin: the SHA-256 of a public key (SPKI) in base64.
///
/// # Errors
/// A hint for the person who wrote it.
pub fn parse_pin(text: &str) -> Result<[u8; 32], String> {
    let bytes = BASE64.decode(text.as_bytes()).map_err(|error| format!("this is no base64: {error}"))?;
    let len = bytes.len();
    bytes.try_into().map_err(|_| format!("this has {len} octets and not the 32 of a SHA-256"))
}

/// Reads the address that connections come from.
///
/// # Errors
/// A hint for the person who wrote it.
pub fn parse_source(text: &str) -> Result<IpAddr, String> {
    let ip = text.parse::<IpAddr>().map_err(|_| "one address of this machine, without a port")?;
    is_one_machine(ip)?;
    Ok(ip)
}

/// Checks the name of an interface.
///
/// # Errors
/// A hint for the person who wrote it.
pub fn parse_interface(text: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    match text.len() {
        1..=MAX_INTERFACE_BYTES if text.chars().all(fits) && text != "." && text != ".." => Ok(()),
        1..=MAX_INTERFACE_BYTES => {
            Err("a blank, a slash or a colon has no place in the name of an interface".to_owned())
        }
        _ => Err(format!("the name of an interface has 1 to {MAX_INTERFACE_BYTES} characters")),
    }
}

fn parse_transport(word: &str) -> Result<UpstreamTransport, String> {
    use UpstreamTransport::{H3, Https, Quic, Tcp, Tls, Udp};
    const ALL: [UpstreamTransport; 6] = [Udp, Tcp, Tls, Https, Quic, H3];
    // What other programs call the same.
    let known = match word {
        "dot" => Some(Tls),
        "doh" => Some(Https),
        "doq" => Some(Quic),
        "doh3" | "http3" => Some(H3),
        _ => None,
    };
    if let Some(found) = ALL.into_iter().find(|transport| transport.as_str() == word) {
        return Ok(found);
    }
    let near = known.map(UpstreamTransport::as_str).or_else(|| nearest(word, ALL.map(UpstreamTransport::as_str)));
    Err(match (word, near) {
        ("http", _) => "plain HTTP can be read and changed on the way; write https".to_owned(),
        (_, Some(near)) => format!("{word:?} is no transport; did you mean `{near}`?"),
        (_, None) => format!("{word:?} is no transport; there are udp, tcp, tls, https, quic and h3"),
    })
}

fn parse_path(text: &str) -> Result<String, String> {
    if text.contains('{') {
        return Err("write the path without {?dns}: the question travels in the request's body".to_owned());
    }
    if text.len() > MAX_PATH_BYTES {
        return Err(format!("a path has at most {MAX_PATH_BYTES} octets"));
    }
    // RFC 3986 section 3.3 and 3.4: pchar, `/` and `?`.
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte);
    match text.bytes().all(fits) {
        true => Ok(text.to_owned()),
        false => {
            Err("in a path, other characters than letters, digits and -._~!$&'()*+,;=:@/? are percent-encoded"
                .to_owned())
        }
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = if digits { text.parse::<u16>().ok().filter(|port| *port != 0) } else { None };
    port.ok_or_else(|| PORT_HINT.to_owned())
}

/// Reads `HOST[:PORT]`; a name only where one may stand.
fn parse_host(text: &str, names: bool) -> Result<(UpstreamHost, Option<u16>), String> {
    let hint = match parse_ip_port(text, 0) {
        Ok((address, written)) => {
            if written && address.port() == 0 {
                return Err(PORT_HINT.to_owned());
            }
            can_be_reached(address)?;
            return Ok((UpstreamHost::at(address), written.then(|| address.port())));
        }
        Err(hint) => hint,
    };
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let looks_like_name = name.bytes().any(|byte| byte.is_ascii_alphabetic()) && !text.contains(['[', ']', '/']);
    // `fd00::53` with a slip is no name with a port.
    let is_address = name.bytes().all(|byte| byte.is_ascii_hexdigit()) && port.is_some_and(|port| port.contains(':'));
    if !looks_like_name || is_address {
        return Err(hint);
    }
    if !names {
        return Err("write the IP address; or a transport before the name, such as tls://dns.example, and `bootstrap`"
            .to_owned());
    }
    let port = port.map(parse_port).transpose()?;
    Ok((UpstreamHost::Name(parse_host_name(name)?), port))
}

/// Reads the name of a machine (RFC 1123 section 2.1, and the underscore that some have).
fn parse_host_name(text: &str) -> Result<Name, String> {
    let name = parse_name(text)?;
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let good = |label: &[u8]| label.iter().all(fits) && !label.starts_with(b"-") && !label.ends_with(b"-");
    // A last label of digits would be taken for an address (RFC 3696 section 2).
    let last = name.labels().last().unwrap_or_default();
    if name.is_root() || !name.labels().all(good) || last.iter().all(u8::is_ascii_digit) {
        return Err(format!("{text:?} is no name of a machine: letters, digits and hyphens between dots"));
    }
    Ok(name)
}

/// Refuses addresses that are no one machine's.
fn is_one_machine(ip: IpAddr) -> Result<(), String> {
    let everybody = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    if ip.is_unspecified() || ip.is_multicast() || everybody {
        return Err("the address of one machine, not an unspecified, multicast or broadcast one".to_owned());
    }
    Ok(())
}

/// Refuses what a packet cannot be sent to.
fn can_be_reached(address: SocketAddr) -> Result<(), String> {
    if let SocketAddr::V6(v6) = address
        && v6.ip().is_unicast_link_local()
        && v6.scope_id() == 0
    {
        return Err("a link-local address needs its interface number, such as \"[fe80::1%2]:53\"".to_owned());
    }
    is_one_machine(address.ip())
}

#[cfg(test)]
mod tests;
