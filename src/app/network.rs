//! Which network the daemon is on: what it watches follows where its upstreams are.

use crate::config::{Config, Proxy, Upstream, UpstreamHost};
use crate::pipeline::State;
use crate::system::network::{Destination, Network, NetworkEvent};
use crate::upstream::groups_in_use;
use std::net::SocketAddr;

/// The network, when the kernel lets us watch it.
#[derive(Debug)]
pub(super) struct Watched(Option<Network>);

impl Watched {
    /// Begins to watch it, and tells the upstreams which one it is. Where the kernel refuses, a line says so; what has broken
    /// then shows by its silence.
    pub(super) fn begin(state: &State) -> Self {
        let refused = |error: &std::io::Error| {
            tracing::info!(%error, "cannot watch the network; after a change the first answers may take longer");
        };
        let network = Network::new(destinations(&state.config, &state.system)).inspect_err(refused).ok();
        if let Some(network) = &network {
            state.upstreams.network_is(network.place());
        }
        Self(network)
    }

    /// Waits until it has changed. Cancel safe.
    pub(super) async fn changed(&mut self) -> NetworkEvent {
        let Some(network) = &mut self.0 else { return std::future::pending().await };
        network.changed().await
    }

    /// Looks at the ways to other upstreams, when there are others.
    pub(super) fn follow(&mut self, state: &State) {
        if let Some(network) = &mut self.0 {
            network.follow(destinations(&state.config, &state.system));
        }
    }
}

/// Returns where packets to upstreams go, as far as that is written: to a server, or to its proxy. What is known by name is
/// mostly reached as everything else.
fn destinations(config: &Config, system: &[SocketAddr]) -> Vec<Destination> {
    let groups = groups_in_use(config).into_iter().filter_map(|at| config.groups.get(at));
    let servers = groups.flat_map(|group| super::upstreams::members(group, system));
    let mut all: Vec<Destination> = Vec::new();
    for destination in servers.filter_map(|server| destination(&server)) {
        if !all.contains(&destination) {
            all.push(destination);
        }
    }
    all
}

fn destination(server: &Upstream) -> Option<Destination> {
    let host = match &server.options.proxy {
        Proxy::None => &server.host,
        Proxy::Socks5(proxy) | Proxy::Http(proxy) => &proxy.host,
        Proxy::Env => return None,
    };
    let UpstreamHost::Address(address, scope) = host else { return None };
    let options = &server.options;
    Some(Destination {
        address: *address,
        scope: *scope,
        source: options.source,
        interface: options.interface.clone(),
        mark: options.mark,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;

    #[test]
    fn packets_go_to_servers_in_use_or_to_their_proxies_as_their_sockets_are_bound() {
        let text = "[upstream.a]\nservers = [\"auto\", \"192.0.2.1\", \"tls://dns.example\", \"tcp://192.0.2.1\"]\nmark = 7\n\
                    source = \"192.0.2.99\"\n[upstream.b]\nservers = [\"tls://192.0.2.2\"]\nproxy = \"socks5://192.0.2.3:1080\"\n\
                    [upstream.c]\nservers = [\"tls://192.0.2.4\"]\nproxy = \"env\"\n\
                    [default]\nupstream = \"a\"\ntrusted_presets = []\n";
        let config = load_text("x.toml", text).config.unwrap();
        let all = destinations(&config, &["192.0.2.53:53".parse().unwrap()]);
        let bound = |address: &str| Destination {
            source: Some([192, 0, 2, 99].into()),
            mark: Some(7),
            ..Destination::plain(address.parse().unwrap())
        };
        assert!(all.contains(&bound("192.0.2.1")) && all.contains(&bound("192.0.2.53")), "{all:?}");
        assert!(all.contains(&Destination::plain([192, 0, 2, 3].into())), "{all:?}");
        let count = |address: [u8; 4]| all.iter().filter(|to| to.address == std::net::IpAddr::from(address)).count();
        assert_eq!([1, 2, 4].map(|last| count([192, 0, 2, last])), [1, 0, 0], "{all:?}");
    }
}
