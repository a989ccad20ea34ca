//! Through a proxy: SOCKS5 (RFC 1928, RFC 1929) and HTTP CONNECT (RFC 9110 section 9.3.6).

use super::jobs::Fault;
use super::target::Target;
use crate::config::server::parse_proxy;
use crate::config::{Proxy, ProxyServer, UpstreamHost, UpstreamOptions, UpstreamTransport};
use data_encoding::BASE64;
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;

/// Octets of a proxy's reply to CONNECT.
const MAX_HEAD_BYTES: usize = 8192;
/// Header fields of it.
const MAX_FIELDS: usize = 64;

/// Where a proxy is to connect to.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) host: String,
    pub(super) ip: Option<IpAddr>,
    pub(super) port: u16,
}

/// Returns the proxy a server is asked through; what the environment says is read each time, as other programs do.
pub(super) fn choose(options: &UpstreamOptions, target: &Target) -> Result<Proxy, Fault> {
    match &options.proxy {
        Proxy::Env => from_variables(target, |name| std::env::var(name).ok().filter(|value| !value.is_empty())),
        proxy @ (Proxy::None | Proxy::Socks5(_) | Proxy::Http(_)) => Ok(proxy.clone()),
    }
}

/// Reads `ALL_PROXY`, for DoH `HTTPS_PROXY` before it, and `NO_PROXY`; lower case first, as curl does.
fn from_variables(target: &Target, variable: impl Fn(&str) -> Option<String>) -> Result<Proxy, Fault> {
    let either = |lower: &'static str, upper: &'static str| {
        variable(lower).map(|value| (lower, value)).or_else(|| variable(upper).map(|value| (upper, value)))
    };
    if either("no_proxy", "NO_PROXY").is_some_and(|(_, list)| is_excepted(&list, target)) {
        return Ok(Proxy::None);
    }
    let own = (target.transport == UpstreamTransport::Https).then(|| either("https_proxy", "HTTPS_PROXY")).flatten();
    let Some((name, value)) = own.or_else(|| either("all_proxy", "ALL_PROXY")) else { return Ok(Proxy::None) };
    let value = if value.contains("://") { value } else { format!("http://{value}") };
    // The value may hold a password: it is not shown.
    parse_proxy(&value).map_err(|hint| Fault::told(format!("the variable {name}: {hint}")))
}

/// Tells whether a list such as `localhost,.corp.example,10.0.0.0/8` has a server.
fn is_excepted(list: &str, target: &Target) -> bool {
    let (ip, name) = match &target.host {
        UpstreamHost::Address(ip, _) => (Some(*ip), target.options.server_name.clone()),
        UpstreamHost::Name(name) => (None, Some(name.to_string())),
    };
    let name = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        let net = entry.parse::<ipnet::IpNet>().ok().or_else(|| entry.parse::<IpAddr>().ok().map(ipnet::IpNet::from));
        if let Some(net) = net {
            return ip.is_some_and(|ip| net.contains(&ip));
        }
        let suffix = entry.trim_start_matches("*.").trim_start_matches('.');
        name.as_deref()
            .and_then(|name| name.strip_suffix(suffix))
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// Asks a SOCKS5 proxy for a connection.
pub(super) async fn socks5(stream: TcpStream, server: &ProxyServer, to: Destination) -> Result<TcpStream, Fault> {
    let told = |error: tokio_socks::Error| Fault::told(error.to_string()).of_proxy(server);
    let connected = match (&server.login, to.ip) {
        (None, Some(ip)) => Socks5Stream::connect_with_socket(stream, SocketAddr::new(ip, to.port)).await,
        (None, None) => Socks5Stream::connect_with_socket(stream, (to.host, to.port)).await,
        (Some(login), Some(ip)) => {
            let to = SocketAddr::new(ip, to.port);
            Socks5Stream::connect_with_password_and_socket(stream, to, &login.user, &login.password).await
        }
        (Some(login), None) => {
            let to = (to.host, to.port);
            Socks5Stream::connect_with_password_and_socket(stream, to, &login.user, &login.password).await
        }
    };
    Ok(connected.map_err(told)?.into_inner())
}

/// Asks an HTTP proxy for a connection.
pub(super) async fn http(mut stream: TcpStream, server: &ProxyServer, to: Destination) -> Result<TcpStream, Fault> {
    let authority = match to.ip {
        Some(IpAddr::V6(ip)) => format!("[{ip}]:{}", to.port),
        _ => format!("{}:{}", to.host, to.port),
    };
    let login = server.login.as_ref().map_or_else(String::new, |login| {
        let basic = BASE64.encode(format!("{}:{}", login.user, login.password).as_bytes());
        format!("Proxy-Authorization: Basic {basic}\r\n")
    });
    let head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{login}\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut reply = Vec::new();
    loop {
        let told = |text: &str| Fault::told(text.to_owned()).of_proxy(server);
        if reply.len() >= MAX_HEAD_BYTES {
            return Err(told("its reply is too long"));
        }
        if stream.read_buf(&mut reply).await? == 0 {
            return Err(told("it closed the connection"));
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut fields);
        let len = match parsed.parse(&reply) {
            Ok(httparse::Status::Partial) => continue,
            Ok(httparse::Status::Complete(len)) => len,
            Err(_) => return Err(told("its reply is not HTTP")),
        };
        return match parsed.code.unwrap_or(0) {
            // Servers of DNS wait for us to speak first.
            200..300 if len < reply.len() => Err(told("it talks before it is spoken to")),
            200..300 => Ok(stream),
            407 if server.login.is_some() => Err(told("HTTP status 407: it does not take this user and password")),
            407 => Err(told("HTTP status 407: it wants a user and a password")),
            code => Err(told(&format!("HTTP status {code}"))),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::tls::Roots;
    use super::*;
    use std::sync::Arc;

    fn target(transport: UpstreamTransport) -> Target {
        let options = UpstreamOptions { server_name: Some("dns.corp.example".into()), ..UpstreamOptions::default() };
        let host = UpstreamHost::at("10.1.2.3:853".parse().unwrap());
        Target::new((host, 853), transport, None, Arc::new(options), (Arc::new(Roots::default()), Arc::default()))
    }

    fn chosen(transport: UpstreamTransport, variables: &[(&str, &str)]) -> String {
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        match from_variables(&target(transport), variable) {
            Ok(Proxy::None | Proxy::Env) => "none".to_owned(),
            Ok(Proxy::Socks5(server)) => format!("socks5 {}", server.port),
            Ok(Proxy::Http(server)) => format!("http {}", server.port),
            Err(fault) => std::io::Error::from(fault).to_string(),
        }
    }

    #[test]
    fn the_usual_variables_are_read_as_other_programs_read_them() {
        use UpstreamTransport::{Https, Tls};
        let all = ("ALL_PROXY", "socks5://127.0.0.1:1080");
        let https = ("HTTPS_PROXY", "http://127.0.0.1:3128");
        assert_eq!(chosen(Tls, &[]), "none");
        assert_eq!(chosen(Tls, &[all, https]), "socks5 1080");
        assert_eq!(chosen(Https, &[all, https]), "http 3128");
        assert_eq!(chosen(Https, &[all]), "socks5 1080");
        assert_eq!(
            chosen(Tls, &[("all_proxy", "127.0.0.1:8080"), all]),
            "http 8080",
            "lower case first, http without a word"
        );
        for except in ["*", "10.0.0.0/8", "corp.example", ".corp.example,x", "10.1.2.3", "DNS.corp.example"] {
            assert_eq!(chosen(Tls, &[all, ("NO_PROXY", except)]), "none", "{except}");
        }
        for other in ["rp.example", "10.2.0.0/16", "dns.corp.example.org"] {
            assert_eq!(chosen(Tls, &[all, ("no_proxy", other)]), "socks5 1080", "{other}");
        }
        let wrong = chosen(Tls, &[("ALL_PROXY", "ftp://u:geheim@127.0.0.1")]);
        assert!(wrong.contains("ALL_PROXY") && !wrong.contains("geheim"), "{wrong}");
    }
}
