//! The smallest useful example of each table, for the manual. A test loads every one.

/// Returns the example shown under a table's header.
pub(crate) fn example(header: &str) -> Option<&'static str> {
    EXAMPLES.iter().find(|(of, _)| *of == header).map(|(_, text)| *text)
}

/// Header and example.
pub(crate) const EXAMPLES: &[(&str, &str)] = &[
    (
        "[server]",
        "# Also answer containers on the bridge.
[server]
listen = [\"127.0.0.1:53\", \"172.17.0.1:53\"]

[server.access]
allow = [\"127.0.0.0/8\", \"::1/128\", \"172.16.0.0/12\"]
",
    ),
    (
        "[upstream.NAME]",
        "# Two servers in this order, and another group when both are down.
[upstream.office]
servers = [{ name = \"dc1\", address = \"10.0.0.53\" }, \"tcp://10.0.0.54\"]
strategy = \"order\"
fallback = \"branch\"

[upstream.branch]
servers = [\"10.1.0.53\"]
",
    ),
    (
        "[upstream.NAME.servers]",
        "# A corporate server with its own root, over TLS and else over HTTPS; and a public one by name.
[upstream.corp]
servers = [{ name = \"dc1\", address = \"10.0.0.53#dns.corp.example\", rungs = [\"tls\", \"https:8443/dns\"] }]
ca_file = \"corp-ca.pem\"
floor = \"encrypted\"

[upstream.public]
servers = [\"https://dns.example/dns-query\"]
bootstrap = [\"9.9.9.10\"]

# The same through a SOCKS5 proxy, which finds the name by itself.
[upstream.abroad]
servers = [\"https://dns.example/dns-query\", \"tls://9.9.9.10#dns10.quad9.net\"]
proxy = \"socks5://127.0.0.1:1080\"
",
    ),
    (
        "[default]",
        "# Everything that no route takes goes to these two.
[upstream.public]
servers = [\"9.9.9.9\", \"1.1.1.1\"]

[default]
upstream = \"public\"
",
    ),
    (
        "[[route]]",
        "# The company's names to its server, but not its public web site.
[upstream.office]
servers = [\"10.0.0.53\"]

[[route]]
name = \"corp\"
names = [\"corp.example\", \"10.in-addr.arpa\"]
exclude = [\"www.corp.example\"]
upstream = \"office\"
",
    ),
    (
        "[route.names_from]",
        "# Names that another program keeps, one pattern a line.
[[route]]
names_from = [{ path = \"inside.txt\" }]
upstream = \"system\"
",
    ),
    (
        "[[zone]]",
        "# A zone of our own, with PTR records for its addresses.
[[zone]]
name = \"lab.example\"
reverse = true
records = [
  { type = \"A\", value = \"10.1.0.5\" },
  { name = \"git\", type = \"CNAME\", value = \"@\" },
  { name = \"*.dev\", type = \"A\", value = \"127.0.0.1\" },
]

# One internal name inside a public zone; the rest of it stays public.
[[zone]]
name = \"example.org\"
fallthrough = true
records = [{ name = \"intranet\", type = \"A\", value = \"10.1.0.6\" }]
",
    ),
    (
        "[hosts]",
        "[hosts]
files = [\"/etc/hosts\", \"team.hosts\"]
",
    ),
    (
        "[[rewrite]]",
        "# A name that moved.
[[rewrite]]
names = [\"=registry.old.example\"]
answer = { type = \"CNAME\", value = \"registry.lab.example.\" }
",
    ),
    (
        "[cache]",
        "# Keep less, and notice new names soon.
[cache]
max_bytes = \"8 MiB\"
negative_ttl_max = \"30s\"
",
    ),
    (
        "[[view]]",
        "# The same name, two answers: clients of the office see the inner address.
[[view]]
name = \"office\"
clients = [\"10.0.0.0/8\"]

[[zone]]
name = \"www.example.org\"
views = [\"office\"]
records = [{ type = \"A\", value = \"10.1.0.7\" }]
",
    ),
    ("[stats]", "# For Prometheus, on this machine.\n[stats]\nprometheus_listen = \"127.0.0.1:9553\"\n"),
    ("[log]", "[log]\nlevel = \"debug\"\n"),
];
