//! `[upstream.NAME]` and the servers in it.

use super::super::keys::{Key, Kind, Presence, TableDef, Words};
use super::super::model::{Floor, Strategy};

use Presence::{Default, Optional, Required};

/// `upstream.NAME.strategy`.
pub(crate) const STRATEGY: Words<Strategy> = Words {
    words: &["fastest", "order", "parallel"],
    meanings: &[Strategy::Fastest, Strategy::Order, Strategy::Parallel],
};
/// `upstream.NAME.floor`.
pub(crate) const FLOOR: Words<Floor> =
    Words { words: &["any", "encrypted"], meanings: &[Floor::Any, Floor::Encrypted] };

/// Makes a table's keys out of its own and those about connections, which groups and servers have both; `$given` is
/// what holds when one with a default is not written.
macro_rules! with_connection_keys {
    ($given:ident, [$($own:expr),* $(,)?]) => {
        &[
            $($own,)*
            Key {
                name: "rungs",
                kind: Kind::List(&Kind::Rung),
                presence: Optional("[\"quic\", \"https\", \"tls\"]"),
                doc: "The ways to ask, best first, each with a port or path of its own if need be (\"https:8443/dns\"): the \
                      first that works on a network is kept. In a group: for servers without a transport in their address.",
            },
            Key {
                name: "floor",
                kind: Kind::Word(FLOOR.words),
                presence: $given("\"any\""),
                doc: "\"encrypted\": the rungs udp and tcp are never used, whatever fails. Written for a group or for each of its servers, its \
                      names get SERVFAIL when nothing of it can be reached, unless it has a `fallback` or their route an `on_failure`.",
            },
            Key {
                name: "sni",
                kind: Kind::Boolean,
                presence: $given("true"),
                doc: "Send the server's name in the clear when a connection opens; false where names are blocked.",
            },
            Key {
                name: "pins",
                kind: Kind::List(&Kind::Pin),
                presence: Optional("[\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"]"),
                doc: "Public keys of which its certificate must have one, as the SHA-256 of the SPKI in base64 (RFC 7858 \
                      section 4.2, `kdig +tls-pin`). The certificate is checked as ever.",
            },
            Key {
                name: "ca_file",
                kind: Kind::Text,
                presence: Optional("\"corp-ca.pem\""),
                doc: "Roots in PEM that are believed beside the system's and the bundled ones.",
            },
            Key {
                name: "client_certificate",
                kind: Kind::Text,
                presence: Optional("\"client.pem\""),
                doc: "The certificate shown to a server that asks for one, in PEM, with those that signed it.",
            },
            Key {
                name: "client_key",
                kind: Kind::Text,
                presence: Optional("\"client-key.pem\""),
                doc: "Its key, in PEM, not encrypted.",
            },
            Key {
                name: "source",
                kind: Kind::Source,
                presence: Optional("\"192.0.2.10\""),
                doc: "The address of this machine that its queries and connections come from.",
            },
            Key {
                name: "interface",
                kind: Kind::Interface,
                presence: Optional("\"wg0\""),
                doc: "The interface they leave by, whatever the routing table says.",
            },
            Key {
                name: "mark",
                kind: Kind::Integer { min: 1, max: u32::MAX as i64 },
                presence: Optional("0x100"),
                doc: "The mark of their packets, for routing rules and firewalls; needs CAP_NET_ADMIN, or from Linux 5.17 on CAP_NET_RAW.",
            },
            Key {
                name: "proxy",
                kind: Kind::Proxy,
                presence: $given("\"none\""),
                doc: "A proxy for tcp, tls and https: socks5://[USER:PASSWORD@]HOST[:PORT], http://[USER:PASSWORD@]HOST[:PORT] \
                      (CONNECT), \"env\" for ALL_PROXY, HTTPS_PROXY and NO_PROXY of the environment, or \"none\".",
            },
            Key {
                name: "bootstrap",
                kind: Kind::List(&Kind::Bootstrap),
                presence: Optional("[\"9.9.9.10\", \"[2620:fe::10]:53\"]"),
                doc: "Plain resolvers, by address, that find servers and proxies given by name. Without it, and when none of \
                      them can tell, servers with an address are asked: those of the same group, then those of others; for a \
                      private name private ones only. Behind a proxy, the proxy finds the servers.",
            },
        ]
    };
}

/// `[upstream.NAME]`.
pub(crate) static UPSTREAM: TableDef = TableDef {
    doc: "A group of upstream resolvers that may stand in for each other. The group `system` is always there; it asks the \
          resolvers this machine was given unless it is written otherwise. The groups `trusted` and `near` are built in \
          (see below): a group of one of these names with `servers` replaces it wholly; without `servers`, its other keys \
          apply to the built-in servers.",
    keys: with_connection_keys!(
        Default,
        [
            Key {
                name: "servers",
                kind: Kind::List(&Kind::Either(&Kind::Table(&SERVER_ENTRY), &Kind::Server)),
                presence: Default("[\"auto\"]"),
                doc: "Its servers; `system`, `trusted` and `near` have theirs without this key, every other group must have it: an address in the form under \"Servers\"; \"auto\": the resolvers this machine was given; \
                      or a table with an address and more.",
            },
            Key {
                name: "strategy",
                kind: Kind::Word(STRATEGY.words),
                presence: Default("\"fastest\""),
                doc: "How a server is chosen: by round-trip time and success, in the order written, or all at once.",
            },
            Key {
                name: "timeout",
                kind: Kind::Duration { min_ms: 100, max_ms: 30_000, whole_seconds: false },
                presence: Default("\"4500ms\""),
                doc: "All that a question may spend on this group; clients ask again after 5 s.",
            },
            Key {
                name: "fallback",
                kind: Kind::Identifier,
                presence: Optional("\"other\""),
                doc: "The group asked when this one is down; none by default.",
            },
        ]
    ),
};

static SERVER_ENTRY: TableDef = TableDef {
    doc: "One server. A key it does not have is its group's.",
    keys: with_connection_keys!(
        Optional,
        [
            Key {
                name: "name",
                kind: Kind::Identifier,
                presence: Optional("\"dc1\""),
                doc: "Its name in logs and statistics, as GROUP/NAME; without it the address.",
            },
            Key {
                name: "address",
                kind: Kind::Server,
                presence: Required("\"10.0.0.10\""),
                doc: "Its address in the form under \"Servers\".",
            },
        ]
    ),
};
