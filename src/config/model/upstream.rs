//! One server of an upstream group: where it is, how it is asked, and what its connections need.

use super::Location;
use crate::dns::Name;
use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::sync::Arc;

/// One server of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// `GROUP/NAME`, or `GROUP/ADDRESS` for one without a name; unique.
    pub label: String,
    /// Where it is.
    pub host: UpstreamHost,
    /// How it is asked, best first; never empty. More than one is a ladder.
    pub rungs: Vec<Rung>,
    /// What its connections need.
    pub options: Arc<UpstreamOptions>,
}

/// Where a server, or a proxy, is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpstreamHost {
    /// At an address; the number of the interface for a link-local IPv6 one, else 0.
    Address(IpAddr, u32),
    /// Wherever this name leads, found over [`UpstreamOptions::bootstrap`]; a proxy that is not
    /// [`Proxy::Env`] finds it by itself.
    Name(Name),
}

/// One way to ask a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rung {
    /// How.
    pub transport: UpstreamTransport,
    /// The port, never 0.
    pub port: u16,
    /// The path of HTTPS and HTTP/3, with its first `/`; none for the others.
    pub path: Option<Arc<str>>,
}

/// How an upstream is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamTransport {
    /// Datagrams, with TCP for what is truncated.
    Udp,
    /// TCP only.
    Tcp,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over HTTPS (RFC 8484), HTTP/2.
    Https,
    /// DNS over QUIC (RFC 9250).
    Quic,
    /// DNS over HTTPS, HTTP/3.
    H3,
}

/// What the connections to a server need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamOptions {
    /// The name or address its certificate must be for; none: its own name or address.
    pub server_name: Option<String>,
    /// Send that name in the clear when a connection opens, if it is a name.
    pub sni: bool,
    /// SHA-256 of the public keys (SPKI) it may have, any of them; none: any key with a good certificate.
    pub pins: Vec<[u8; 32]>,
    /// Roots that are believed for it beside the usual ones.
    pub ca_file: Option<PathBuf>,
    /// What we show when it asks who we are.
    pub client_certificate: Option<ClientCertificate>,
    /// The address its connections come from.
    pub source: Option<IpAddr>,
    /// The interface they leave by.
    pub interface: Option<String>,
    /// The mark their packets get.
    pub mark: Option<u32>,
    /// The proxy they go through.
    pub proxy: Proxy,
    /// Resolvers that find its name, plain and by address.
    pub bootstrap: Vec<SocketAddr>,
    /// What it may be asked over at worst.
    pub floor: Floor,
}

/// Files, both PEM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientCertificate {
    /// The certificate, then those that signed it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What a server may be asked over at worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Floor {
    /// Any rung.
    #[default]
    Any,
    /// Encrypted rungs only.
    Encrypted,
}

/// What connections need that only the machine can tell: files and capabilities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Where it was written.
    pub at: Location,
    /// Its key, for messages.
    pub key: String,
    /// What it is.
    pub what: Required,
}

/// What a [`Requirement`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Required {
    /// A PEM file with certificates: roots, or what is shown to a server.
    Certificates(PathBuf),
    /// A PEM file with a private key.
    Key(PathBuf),
    /// Setting the mark of packets.
    Mark(u32),
    /// Binding to an interface.
    Interface(String),
}

/// What connections go through.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Proxy {
    /// Nothing.
    #[default]
    None,
    /// What the environment says.
    Env,
    /// SOCKS5 (RFC 1928).
    Socks5(ProxyServer),
    /// HTTP CONNECT (RFC 9110 section 9.3.6).
    Http(ProxyServer),
}

/// A proxy's place, and who we are to it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ProxyServer {
    /// Where it is.
    pub host: UpstreamHost,
    /// Its port, never 0.
    pub port: u16,
    /// Who we are to it.
    pub login: Option<ProxyLogin>,
}

/// A user of a proxy.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ProxyLogin {
    /// The name.
    pub user: String,
    /// The password; may be empty.
    pub password: String,
}

impl Upstream {
    /// Makes a server that is asked in one plain way at an address.
    #[must_use]
    pub fn plain(label: impl Into<String>, transport: UpstreamTransport, address: SocketAddr) -> Self {
        Self {
            label: label.into(),
            host: UpstreamHost::at(address),
            rungs: vec![Rung { transport, port: address.port(), path: None }],
            options: Arc::default(),
        }
    }

    /// Makes one of the resolvers that this machine was given, as a member of a group.
    #[must_use]
    pub fn given(group: &str, address: SocketAddr) -> Self {
        let usual = address.port() == UpstreamTransport::Udp.default_port();
        let text = if usual { address.ip().to_string() } else { address.to_string() };
        Self::plain(format!("{group}/{text}"), UpstreamTransport::Udp, address)
    }

    /// Returns the address and port of its first rung; none when only its name is known.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.rungs.first().and_then(|rung| self.host.socket_address(rung.port))
    }

    /// Returns how it is asked first.
    #[must_use]
    pub fn transport(&self) -> UpstreamTransport {
        self.rungs.first().map_or(UpstreamTransport::Udp, |rung| rung.transport)
    }
}

impl UpstreamOptions {
    /// Tells whether its sockets need more than an address to send to: a source, an interface or a mark.
    #[must_use]
    pub fn bind_sockets(&self) -> bool {
        self.source.is_some() || self.interface.is_some() || self.mark.is_some()
    }
}

impl UpstreamHost {
    /// Returns the place of an address.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        let scope = if let SocketAddr::V6(v6) = address { v6.scope_id() } else { 0 };
        Self::Address(address.ip(), scope)
    }

    /// Returns the address, when it is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        if let Self::Address(ip, _) = self { Some(*ip) } else { None }
    }

    /// Returns the address with a port, when it is one.
    #[must_use]
    pub fn socket_address(&self, port: u16) -> Option<SocketAddr> {
        match self {
            Self::Address(IpAddr::V6(v6), scope) => Some(SocketAddrV6::new(*v6, port, 0, *scope).into()),
            Self::Address(ip, _) => Some(SocketAddr::new(*ip, port)),
            Self::Name(_) => None,
        }
    }
}

impl UpstreamTransport {
    /// Tells whether nobody on the way can read or change what is asked and answered.
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        !matches!(self, Self::Udp | Self::Tcp)
    }

    /// Tells whether this build has it: HTTP/3 is in those with the feature `h3`, while its library is young.
    #[must_use]
    pub fn is_built_in(self) -> bool {
        self != Self::H3 || cfg!(feature = "h3")
    }

    /// Returns the port a server has when none is written: RFC 1035 section 4.2, RFC 7858 section 3.1, RFC 9110 section
    /// 4.2.2, RFC 9250 section 4.1.1.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 53,
            Self::Tls | Self::Quic => 853,
            Self::Https | Self::H3 => 443,
        }
    }

    /// Returns the word that stands before `://` and among `rungs`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::Quic => "quic",
            Self::H3 => "h3",
        }
    }
}

impl fmt::Display for UpstreamTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Default for UpstreamOptions {
    /// What a server has that says nothing else.
    fn default() -> Self {
        Self {
            server_name: None,
            sni: true,
            pins: Vec::new(),
            ca_file: None,
            client_certificate: None,
            source: None,
            interface: None,
            mark: None,
            proxy: Proxy::None,
            bootstrap: Vec::new(),
            floor: Floor::Any,
        }
    }
}

impl fmt::Debug for ProxyServer {
    /// Hides the password: what is debugged is logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyServer")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.login.as_ref().map(|login| &login.user))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ProxyLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyLogin").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_interface() {
        for text in ["192.0.2.1:53", "[2001:db8::1]:853", "[fe80::1%3]:53"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Upstream::plain("x", UpstreamTransport::Udp, address).address(), Some(address));
        }
        let named = UpstreamHost::Name(Name::parse("dns.example").unwrap());
        assert_eq!((named.ip(), named.socket_address(53)), (None, None));
    }

    #[test]
    fn a_password_is_never_debugged() {
        let login = ProxyLogin { user: "anna".to_owned(), password: "geheim".to_owned() };
        let host = UpstreamHost::Address([10, 0, 0, 1].into(), 0);
        let server = ProxyServer { host, port: 1080, login: Some(login.clone()) };
        let shown = format!("{login:?} {:?}", Proxy::Socks5(server));
        assert!(shown.contains("anna") && !shown.contains("geheim"), "{shown}");
    }
}
