//! Who is asked for the addresses of servers that are known by name only: the resolvers of their `bootstrap`; when none
//! of those can tell, servers known by address, those of the same group first.
//!
//! No search can lead to another one, and none through ourselves: who is asked has an address, no proxy that has a name,
//! and it is not one of the addresses we listen on. Names of private routes and local zones are asked of private servers
//! only. Built-in groups are left alone unless a route or the default leads to them.

use super::Inner;
use super::health::Standing;
use super::reply::{Match, Sent, Shape};
use super::servers::Server;
use super::sockets::Need;
use super::transport::{Channel, Helper, Took, Way, Ways};
use crate::config::{Config, GroupId, Proxy, UpstreamOptions, UpstreamTransport, resolvers};
use crate::dns::QuestionKey;
use crate::stats::Counter;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;
use tokio::time::timeout;

/// How long a reply is waited for before the question is repeated, and again before another server must do.
const PATIENCE: Duration = Duration::from_millis(700);
/// Queries for one question to one server.
const TRIES: usize = 2;
/// Servers asked beside the resolvers of `bootstrap`.
const MAX_OTHERS: usize = 8;

/// Tells every server that is known by name whom to ask for it from here on.
pub(super) fn begin(inner: &Arc<Inner>) {
    for (group, server) in inner.groups.fixed() {
        tell(inner, group, server);
    }
}

/// Tells a server of a group whom to ask for its name, if it needs that.
pub(super) fn tell(inner: &Arc<Inner>, group: usize, server: &Arc<Server>) {
    if let Some(finder) = server.ways.finder() {
        let (inner, server) = (Arc::downgrade(inner), Arc::downgrade(server));
        finder.set_helpers(Arc::new(move || helpers(&inner, &server, group).unwrap_or_default()));
    }
}

/// Returns the places of the groups in use: all but built-in ones to which nothing leads.
#[must_use]
pub fn groups_in_use(config: &Config) -> Vec<usize> {
    let routes = config.routes.iter().chain(&config.built_in).map(|route| route.upstream);
    let defaults = config.views.iter().filter_map(|view| view.default.as_ref()).chain([&config.default]);
    let mut led_to: Vec<GroupId> = routes.chain(defaults.map(|default| default.upstream)).collect();
    let mut at = 0;
    while let Some(group) = led_to.get(at).and_then(|id| config.groups.get(usize::from(id.0))) {
        at += 1;
        led_to.extend(group.fallback.filter(|next| !led_to.contains(next)));
    }
    let is_used = |at: &usize| {
        let group = &config.groups[*at];
        let untouched = resolvers::find(&group.name)
            .is_some_and(|known| known.servers.iter().map(|server| &server.upstream).eq(&group.servers));
        !untouched || led_to.iter().any(|id| usize::from(id.0) == *at)
    };
    (0..config.groups.len()).filter(is_used).collect()
}

/// Returns who can be asked at this moment for the name of a server.
fn helpers(inner: &Weak<Inner>, server: &Weak<Server>, id: usize) -> Option<Vec<Vec<Helper>>> {
    let (inner, server) = (inner.upgrade()?, server.upgrade()?);
    let only_private = server.has_private_name.load(Ordering::Relaxed);
    let options = server.ways.options();
    let given = options.bootstrap.iter().filter(|address| !inner.groups.is_own(**address)).filter_map(|address| {
        let ways = Ways::plain(*address, &Arc::new(for_resolver(options, *address)))?;
        Some(helper(&inner, *address, Arc::new(ways), UpstreamTransport::Udp))
    });
    let now = inner.clock.now();
    let own_first = std::iter::once(id).chain(inner.in_use.iter().copied().filter(|other| *other != id));
    let members = own_first.flat_map(|id| inner.groups.members_at(id).to_vec());
    let can_help = |server: &Arc<Server>| server.ways.is_direct() && server.may_be_asked(only_private);
    let standing = |server: &Arc<Server>| server.health.snapshot(now).standing;
    let mut others: Vec<_> = members.filter(can_help).filter(|server| standing(server) != Standing::Looping).collect();
    others.sort_by_key(|server| standing(server) == Standing::Dead);
    let others = others.iter().take(MAX_OTHERS);
    let others = others
        .map(|server| {
            let transport = server.transport();
            helper(&inner, server.ways.address(transport), Arc::clone(&server.ways), transport)
        })
        .collect();
    Some(vec![given.collect(), others])
}

/// Returns what the sockets to a resolver of `bootstrap` need: what those to the server itself do.
fn for_resolver(options: &UpstreamOptions, resolver: SocketAddr) -> UpstreamOptions {
    let source = options.source.filter(|source| source.is_ipv4() == resolver.is_ipv4());
    UpstreamOptions {
        source,
        interface: options.interface.clone(),
        mark: options.mark,
        proxy: Proxy::None,
        ..UpstreamOptions::default()
    }
}

/// Makes the way to ask one server.
fn helper(inner: &Arc<Inner>, address: SocketAddr, ways: Arc<Ways>, transport: UpstreamTransport) -> Helper {
    let inner = Arc::clone(inner);
    Box::new(move |question| {
        let (inner, ways) = (Arc::clone(&inner), Arc::clone(&ways));
        Box::pin(async move {
            for _ in 0..TRIES {
                let asked = ask_once(&inner, (address, &ways), transport, &question);
                if let Ok(reply) = timeout(PATIENCE, asked).await {
                    return reply.ok().map(|asked| asked.reply);
                }
            }
            None
        })
    })
}

/// A reply to one query, already matched.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) reply: Vec<u8>,
    /// How long it took over an open connection, as far as that is known; nothing when it came in a datagram.
    pub(super) took: Option<Duration>,
}

/// Sends one query to one server and waits for the reply to it, for ever if need be.
pub(super) async fn ask_once(
    inner: &Arc<Inner>,
    to: (SocketAddr, &Ways),
    transport: UpstreamTransport,
    question: &QuestionKey,
) -> std::io::Result<Asked> {
    let way = Way::reserve(&inner.net, to, transport, &inner.sockets, Need::Answer)
        .ok_or_else(|| std::io::Error::other("too many sockets are open"))?;
    let shape = Shape { edns: true, mixed_case: false, padded: transport.is_encrypted() };
    let sent = Sent::new(question, shape);
    inner.stats.count(Counter::UpstreamQueries);
    let mut channel = Channel::open(&inner.net, &inner.pool, to, way, &sent.bytes)?;
    poll_fn(|cx| {
        loop {
            let Poll::Ready(event) = channel.poll(cx) else { return Poll::Pending };
            match event {
                Ok(bytes) if sent.matches(&bytes) == Match::Exact => {
                    return Poll::Ready(Ok(Asked { reply: bytes, took: channel.took().and_then(Took::known) }));
                }
                // On a socket, more may come.
                Ok(_) if channel.continues() => {}
                Ok(_) => return Poll::Ready(Err(std::io::ErrorKind::InvalidData.into())),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::super::Upstreams;
    use super::super::tests::fake::{config, group, upstreams};
    use super::super::transport::Net;
    use super::*;
    use crate::clock::Clock;
    use crate::config::{DefaultRoute, Group, Rung, Upstream, UpstreamHost, load_text};
    use crate::dns::Name;

    /// Makes a group with one server that is known by name, and these beside it.
    fn with_named(name: &str, others: &[SocketAddr]) -> Group {
        let mut group = group(name, others);
        let named = Upstream {
            label: format!("{name}/named"),
            host: UpstreamHost::Name(Name::parse("dns.example").unwrap()),
            rungs: vec![Rung { transport: UpstreamTransport::Tls, port: 853, path: None }],
            options: Arc::default(),
        };
        group.servers.insert(0, named);
        group
    }

    /// Counts who is asked for the name of the first server: resolvers of `bootstrap`, others.
    fn asked(upstreams: &Upstreams) -> Vec<usize> {
        let inner = &upstreams.0;
        let named = Arc::downgrade(&inner.groups.members_at(0)[0]);
        helpers(&Arc::downgrade(inner), &named, 0).unwrap().iter().map(Vec::len).collect()
    }

    #[test]
    fn no_more_than_eight_servers_are_asked_for_a_name() {
        let many: Vec<SocketAddr> = (1..=12).map(|last| SocketAddr::from(([192, 0, 2, last], 53))).collect();
        let (upstreams, _) = upstreams(vec![with_named("g", &many)], Clock::default(), Net::default());
        upstreams.set_private_names(|_| false);
        assert_eq!(asked(&upstreams), [0, MAX_OTHERS]);
    }

    #[test]
    fn neither_we_nor_those_without_an_address_nor_public_ones_for_a_private_name_are_asked() {
        let (own, private, public) = ("127.0.0.1:53", "10.0.0.53:53", "192.0.2.53:53");
        let [own, private, public] = [own, private, public].map(|address| address.parse::<SocketAddr>().unwrap());
        let groups = vec![with_named("a", &[own, public]), with_named("b", &[private])];
        let (upstreams, _) = upstreams(groups, Clock::default(), Net::default());
        upstreams.set_private_names(|_| false);
        assert_eq!(asked(&upstreams), [0, 3]);
        upstreams.set_own_addresses(&[own]);
        assert_eq!(asked(&upstreams), [0, 2]);
        upstreams.set_private_names(|name| name.to_string() == "dns.example.");
        assert_eq!(asked(&upstreams), [0, 1]);
    }

    #[test]
    fn a_name_is_private_until_somebody_has_said_otherwise_and_stays_what_it_is_over_reloads() {
        let [private, public] = ["10.0.0.53:53", "192.0.2.53:53"].map(|address| address.parse().unwrap());
        let config = config(vec![with_named("a", &[private, public])]);
        let new = |config: &Config, previous: Option<&Upstreams>| {
            Upstreams::new(config, &[], Clock::default(), Arc::default(), Net::default(), previous)
        };
        let first = new(&config, None);
        assert_eq!(asked(&first), [0, 1], "nobody has said anything");
        first.set_private_names(|_| false);
        assert_eq!(asked(&first), [0, 2]);
        let second = new(&config, Some(&first));
        assert_eq!(asked(&second), [0, 2], "as before the reload");
        second.set_private_names(|_| true);
        assert_eq!(asked(&new(&config, Some(&second))), [0, 1], "as before the reload");
        let mut renamed = config.clone();
        renamed.groups[0].servers[0].host = UpstreamHost::Name(Name::parse("other.example").unwrap());
        assert_eq!(asked(&new(&renamed, Some(&first))), [0, 1], "another name under the same label");
    }

    #[test]
    fn built_in_groups_are_left_alone_until_something_leads_there() {
        let in_use = |text: &str| -> Vec<String> {
            // By default the hosts of modules and git lead to `trusted`.
            let text = if text.contains("[default]") { text.to_owned() } else { format!("{text}\n[default]") };
            let text = if text.contains("trusted_presets") { text } else { format!("{text}\ntrusted_presets = []") };
            let config = load_text("x.toml", &text).config.unwrap();
            groups_in_use(&config).into_iter().map(|at| config.groups[at].name.clone()).collect()
        };
        assert_eq!(in_use("[default]\ntrusted_presets = []"), ["system"]);
        assert_eq!(in_use("[default]\nupstream = \"near\""), ["system", "near"]);
        let chain = "[upstream.a]\nservers = [\"192.0.2.1\"]\nfallback = \"trusted\"\n[default]\nupstream = \"a\"";
        assert_eq!(in_use(chain), ["system", "a", "trusted"]);
        assert_eq!(in_use("[upstream.trusted]\nservers = [\"tls://192.0.2.1\"]"), ["system", "trusted"]);
        assert_eq!(in_use("[default]\ntrusted_presets = [\"git\"]"), ["system", "trusted"]);
        let view = "[default]\ntrusted_presets = []\n[[view]]\nname = \"v\"\nclients = [\"10.0.0.0/8\"]\ndefault = { upstream = \"trusted\" }";
        assert_eq!(in_use(view), ["system", "trusted"]);
        let mut ring = Config { groups: vec![group("a", &[]), group("b", &[])], ..Config::default() };
        ring.default = DefaultRoute { upstream: GroupId(0), ..ring.default };
        (ring.groups[0].fallback, ring.groups[1].fallback) = (Some(GroupId(1)), Some(GroupId(0)));
        assert_eq!(groups_in_use(&ring), [0, 1]);
    }
}
