//! The built-in upstream groups `trusted` and `near`, shipped as data files in `config/resolvers/`.
//!
//! Every server names its operator, where that is, and the operator's own page about the address with its date. A group
//! of the same name in the configuration replaces one of these wholly.

use super::model::{Upstream, UpstreamHost, UpstreamOptions};
use super::server::{ServerText, parse_rung, parse_server, rung};
use crate::dns::Name;
use crate::dns::name::domain;
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

/// The group that believed answers come from.
pub(crate) const TRUSTED_GROUP: &str = "trusted";

/// A group that is there without being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltIn {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub title: String,
    /// Its servers, in order.
    pub servers: Vec<BuiltInServer>,
}

/// One server of a built-in group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltInServer {
    /// How it is asked.
    pub upstream: Upstream,
    /// Who runs it.
    pub operator: String,
    /// Where that is: a code of ISO 3166-1.
    pub country: String,
    /// The operator's own page about it, or its title.
    pub source: String,
    /// The page was read.
    pub is_read: bool,
    /// When that was looked up, as YYYY-MM-DD.
    pub date: String,
}

/// Returns the built-in groups.
#[must_use]
pub fn all() -> &'static [BuiltIn] {
    &ALL
}

/// Finds a built-in group.
#[must_use]
pub fn find(name: &str) -> Option<&'static BuiltIn> {
    all().iter().find(|group| group.name == name)
}

/// Names who runs a server, as far as that can be told. Servers of one operator are one witness, so that in doubt two are
/// taken for one: by the domain of its name or of the name in its certificate, else by the network its address is in.
#[must_use]
pub fn operator_of(server: &Upstream) -> String {
    let own = mark_of(server);
    let mut known = all().iter().flat_map(|group| &group.servers);
    let same =
        known.find(|known| mark_of(&known.upstream) == own || network_of(&known.upstream).is_some_and(|at| at == own));
    same.map_or(own, |known| known.operator.clone())
}

/// Returns what operators are told apart by.
fn mark_of(server: &Upstream) -> String {
    let name = match &server.host {
        UpstreamHost::Name(name) => Some(name.clone()),
        // A certificate may be for an address.
        UpstreamHost::Address(..) => {
            let name = server.options.server_name.as_deref().filter(|name| name.parse::<IpAddr>().is_err());
            name.and_then(|name| Name::parse(name).ok())
        }
    };
    let domain = name.as_ref().and_then(|name| domain(name.as_wire())).and_then(|wire| Name::from_wire(wire).ok());
    let domain = domain.map(|domain| domain.to_lower().to_string());
    domain.or_else(|| network_of(server)).unwrap_or_else(|| server.label.clone())
}

/// Returns the /16 of an IPv4 address, the /32 of an IPv6 one: what one operator is given at the least.
fn network_of(server: &Upstream) -> Option<String> {
    Some(match server.host.ip()?.to_canonical() {
        IpAddr::V4(v4) => format!("{}.{}.0.0/16", v4.octets()[0], v4.octets()[1]),
        IpAddr::V6(v6) => format!("{:x}:{:x}::/32", v6.segments()[0], v6.segments()[1]),
    })
}

const FILES: &[(&str, &str)] = &[
    (TRUSTED_GROUP, include_str!("../../config/resolvers/trusted.toml")),
    ("near", include_str!("../../config/resolvers/near.toml")),
];

static ALL: LazyLock<Vec<BuiltIn>> = LazyLock::new(|| FILES.iter().map(|(name, text)| parse(name, text)).collect());

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    server: Vec<FileServer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileServer {
    name: String,
    address: String,
    rungs: Vec<String>,
    operator: String,
    country: String,
    source: String,
    page: Page,
    date: String,
}

#[derive(Deserialize, PartialEq, Eq)]
enum Page {
    #[serde(rename = "opened")]
    Opened,
    #[serde(rename = "not opened")]
    NotOpened,
}

fn parse(name: &'static str, text: &str) -> BuiltIn {
    let file: File = toml::from_str(text).expect("the shipped groups parse; a test reads every one");
    let servers = file.server.into_iter().map(|server| built_in(name, server)).collect();
    BuiltIn { name, title: file.title, servers }
}

fn built_in(group: &str, server: FileServer) -> BuiltInServer {
    const GOOD: &str = "the shipped groups hold good addresses and rungs; a test reads every one";
    let Ok(ServerText::At(address)) = parse_server(&server.address) else { panic!("{GOOD}") };
    let rungs = server.rungs.iter().map(|text| {
        let read = parse_rung(text).expect(GOOD);
        rung(read.transport, read.port, read.path.as_deref())
    });
    // No floor: all rungs are encrypted, and a floor is what users say of the names they send there.
    let options = UpstreamOptions { server_name: address.certificate_name.clone(), ..UpstreamOptions::default() };
    BuiltInServer {
        upstream: Upstream {
            label: format!("{group}/{}", server.name),
            host: address.host,
            rungs: rungs.collect(),
            options: Arc::new(options),
        },
        operator: server.operator,
        country: server.country,
        source: server.source,
        is_read: server.page == Page::Opened,
        date: server.date,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UpstreamTransport;
    use std::collections::HashSet;

    #[test]
    fn every_server_is_encrypted_and_known_by_address_and_name() {
        for group in all() {
            let mut labels = HashSet::new();
            for server in &group.servers {
                let upstream = &server.upstream;
                let label = &upstream.label;
                assert!(labels.insert(label), "{label}");
                assert!(upstream.host.ip().is_some_and(|ip| !crate::dns::address::is_private(ip)), "{label}");
                assert!(upstream.rungs.iter().all(|rung| rung.transport.is_encrypted()), "{label}");
                // HTTP/3 is not built in as yet.
                assert!(upstream.rungs.iter().all(|rung| rung.transport != UpstreamTransport::H3), "{label}");
                assert!(upstream.options.server_name.as_ref().is_some_and(|name| name.contains('.')), "{label}");
                assert_eq!((server.country.len(), server.date.len()), (2, 10), "{label}");
                assert!(!server.operator.is_empty() && !server.source.is_empty(), "{label}");
            }
        }
    }

    #[test]
    fn trusted_is_spread_and_not_in_a_censored_network() {
        let trusted = &find(TRUSTED_GROUP).unwrap().servers;
        let operators: HashSet<&str> = trusted.iter().map(|server| server.operator.as_str()).collect();
        assert!(operators.len() >= 4, "{operators:?}");
        for country in ["CN", "RU", "IR", "KP", "TM", "BY"] {
            assert!(trusted.iter().all(|server| server.country != country), "{country}");
        }
        let first: HashSet<_> =
            trusted.iter().map(|server| (server.upstream.transport(), server.upstream.rungs[0].port)).collect();
        assert!(first.len() >= 3, "{first:?}");
        for server in trusted {
            let (label, source) = (&server.upstream.label, &server.source);
            assert!(server.is_read && source.starts_with("https://"), "{label}: {source}");
        }
        for operator in operators {
            let mut of = trusted.iter().filter(|server| server.operator == operator);
            assert!(of.any(|server| server.upstream.host.ip().unwrap().is_ipv6()), "{operator} has IPv6");
        }
    }

    #[test]
    fn no_server_is_one_that_filters() {
        // What the same operators give out for filtering: malware, advertisements, families.
        let filtering = [
            "9.9.9.9",
            "149.112.112.112",
            "9.9.9.11",
            "2620:fe::fe",
            "2620:fe::9",
            "1.1.1.2",
            "1.1.1.3",
            "94.140.14.14",
            "94.140.15.15",
            "94.140.14.15",
            "2a10:50c0::ad1:ff",
            "2a10:50c0::bad1:ff",
            "194.242.2.3",
            "194.242.2.4",
            "2a07:e340::3",
            "208.67.222.123",
        ];
        let filtering: Vec<std::net::IpAddr> = filtering.iter().map(|ip| ip.parse().unwrap()).collect();
        let mut all = all().iter().flat_map(|group| &group.servers);
        assert!(all.all(|server| !filtering.contains(&server.upstream.host.ip().unwrap())));
    }

    #[test]
    fn the_folder_and_the_list_agree() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/resolvers");
        let stem = |entry: std::fs::DirEntry| entry.path().file_stem().unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<String> = std::fs::read_dir(folder).unwrap().map(|entry| stem(entry.unwrap())).collect();
        names.sort_by(|a, b| b.cmp(a));
        assert_eq!(names, all().iter().map(|group| group.name).collect::<Vec<_>>());
    }

    #[test]
    fn servers_of_one_operator_are_known_as_one() {
        let of = |text: &str| {
            let Ok(ServerText::At(address)) = parse_server(text) else { panic!("{text}") };
            let options =
                UpstreamOptions { server_name: address.certificate_name.clone(), ..UpstreamOptions::default() };
            let (host, rungs, options) = (address.host.clone(), vec![address.rung()], Arc::new(options));
            operator_of(&Upstream { label: text.to_owned(), host, rungs, options })
        };
        for text in
            ["9.9.9.9", "tls://149.112.112.112#dns.quad9.net", "https://dns9.quad9.net/dns-query", "[2620:fe::9]"]
        {
            assert_eq!(of(text), "Quad9 Foundation", "{text}");
        }
        assert_eq!(of("8.8.4.4"), "Google LLC");
        assert_eq!(of("192.168.1.1"), of("192.168.7.1:5353"));
        assert_eq!(of("tls://192.0.2.1#a.resolver.example"), of("quic://198.51.100.7#b.resolver.example"));
        assert_eq!(of("tls://192.0.2.1#192.0.2.1"), of("192.0.2.2"));
        assert_ne!(of("tls://192.0.2.1#a.resolver.example"), of("192.0.2.1"));
        assert_ne!(of("9.9.9.9"), of("1.1.1.1"));
    }
}
