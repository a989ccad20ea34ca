//! Which view a client is in: the first `[[view]]` of the file whose clients and listeners both fit.
//!
//! Decides on addresses alone. It stands before the cache because the view is part of the cache's key: one view's
//! answers can never reach another's clients.

use crate::config::{Config, View, ViewId};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// All views of a configuration, prepared for matching.
#[derive(Debug, Clone, Default)]
pub struct Views(Box<[Matcher]>);

#[derive(Debug, Clone)]
struct Matcher {
    /// Empty: any client.
    clients: Box<[IpNet]>,
    /// Empty: any listener.
    listen: Box<[SocketAddr]>,
}

impl Views {
    /// Prepares the views of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self(config.views.iter().map(Matcher::new).collect())
    }

    /// Returns the view of a client that asked one of our addresses.
    #[must_use]
    pub fn of(&self, client: IpAddr, local: SocketAddr) -> ViewId {
        if self.0.is_empty() {
            return ViewId::default();
        }
        let (client, local) = (client.to_canonical(), canonical(local));
        let found = self.0.iter().position(|view| view.takes(client, local));
        found.and_then(|at| u16::try_from(at + 1).ok()).map_or(ViewId::default(), ViewId)
    }
}

impl Matcher {
    fn new(view: &View) -> Self {
        Self {
            clients: view.clients.iter().copied().map(canonical_net).collect(),
            listen: view.listen.iter().copied().map(canonical).collect(),
        }
    }

    fn takes(&self, client: IpAddr, local: SocketAddr) -> bool {
        let listener = self.listen.is_empty()
            || self.listen.iter().any(|at| {
                *at == local
                    || (at.ip().is_unspecified() && at.port() == local.port() && at.is_ipv4() == local.is_ipv4())
            });
        listener && (self.clients.is_empty() || self.clients.iter().any(|net| net.contains(&client)))
    }
}

/// Drops what does not tell listeners apart: the mapped form of IPv4, flow label and scope.
fn canonical(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip().to_canonical(), at.port())
}

/// Returns a network inside `::ffff:0:0/96` as the IPv4 network it means, all others as they are.
fn canonical_net(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(addr), Some(prefix)) => IpNet::new(IpAddr::V4(addr), prefix).unwrap_or(net),
        _ => net,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views(list: &[(&[&str], &[&str])]) -> Views {
        let view = |(clients, listen): &(&[&str], &[&str])| View {
            name: String::new(),
            clients: clients.iter().map(|net| net.parse().unwrap()).collect(),
            listen: listen.iter().map(|at| at.parse().unwrap()).collect(),
            default: None,
        };
        Views(list.iter().map(view).map(|view| Matcher::new(&view)).collect())
    }

    fn of(views: &Views, client: &str, local: &str) -> u16 {
        views.of(client.parse().unwrap(), local.parse().unwrap()).0
    }

    #[test]
    fn the_first_view_that_fits_wins_and_0_is_for_the_rest() {
        let views = views(&[(&["10.1.0.0/16"], &[]), (&["10.0.0.0/8", "fd00::/8"], &[]), (&["10.1.0.0/16"], &[])]);
        assert_eq!(of(&views, "10.1.2.3", "127.0.0.1:53"), 1);
        assert_eq!(of(&views, "10.2.2.3", "127.0.0.1:53"), 2);
        assert_eq!(of(&views, "::ffff:10.2.2.3", "[::1]:53"), 2);
        assert_eq!(of(&views, "fd00::1", "[::1]:53"), 2);
        assert_eq!(of(&views, "192.0.2.1", "127.0.0.1:53"), 0);
    }

    #[test]
    fn a_view_with_listeners_and_clients_needs_both() {
        let views = views(&[(&["172.16.0.0/12"], &["172.17.0.1:53"]), (&[], &["[fe80::1]:53"])]);
        assert_eq!(of(&views, "172.17.0.5", "172.17.0.1:53"), 1);
        assert_eq!(of(&views, "172.17.0.5", "172.17.0.1:5353"), 0);
        assert_eq!(of(&views, "10.0.0.5", "172.17.0.1:53"), 0);
        assert_eq!(of(&views, "fe80::9", "[fe80::1%3]:53"), 2);
    }

    #[test]
    fn without_views_everybody_is_in_view_0() {
        assert_eq!(of(&views(&[]), "192.0.2.1", "127.0.0.1:53"), 0);
    }
}
