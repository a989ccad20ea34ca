//! The servers of a group: how each is asked, what its connections need, and what of that cannot work.

use crate::config::address::is_same_socket;
use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Node, Table, Value};
use crate::config::file::FLOOR;
use crate::config::get;
use crate::config::model::{
    ClientCertificate, Floor, Location, Proxy, Required, Requirement, Rung, Upstream, UpstreamHost, UpstreamOptions,
    UpstreamTransport,
};
use crate::config::paths::beside;
use crate::config::resolve::{SYSTEM_GROUP, duplicate, too_many};
use crate::config::server::{RungText, ServerAddress, ServerText, rung};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// Servers of a group at most; no question is asked of more than eight.
const MAX_SERVERS: usize = 64;
/// Resolvers of `bootstrap` at most; each is asked a quarter of a second after the one before.
const MAX_BOOTSTRAP: usize = 8;
/// Keys of a server at most: the one in use, the next one, and some that were.
const MAX_PINS: usize = 16;
/// Keys that only encrypted rungs have a use for.
const FOR_ENCRYPTED: &[&str] = &["sni", "pins", "ca_file", "client_certificate", "client_key"];

/// What a group's `servers` and the keys beside it say. A group without `servers` has none, but for `system`.
pub(super) struct Servers {
    pub(super) found: Vec<Upstream>,
    pub(super) auto: bool,
    pub(super) options: Arc<UpstreamOptions>,
}

/// What is around a group.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    /// What we listen on.
    pub(super) listen: &'a [SocketAddr],
    /// There is a server, in whatever group, that can be asked for the names of others.
    pub(super) somebody_helps: bool,
}

/// Tells whether a group has a server that can be asked for the names of others: one that needs no name itself.
pub(super) fn helps(group: &Table) -> bool {
    group.items("servers").iter().filter_map(entry).any(|(own, text, _)| {
        let own = own.filter(|own| own.node("proxy").is_some()).unwrap_or(group);
        let proxy_has_name = match own.node("proxy").map(|node| &node.value) {
            Some(Value::Proxy(Proxy::Socks5(proxy) | Proxy::Http(proxy))) => proxy.host.ip().is_none(),
            _ => false,
        };
        let has_address = matches!(text, ServerText::At(address) if address.host.ip().is_some());
        (has_address || *text == ServerText::Auto) && !proxy_has_name
    })
}

/// Reads the servers of a group.
pub(super) fn check(
    table: &Table,
    group: &str,
    around: Surroundings<'_>,
    requirements: &mut Vec<Requirement>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Servers {
    let mut own = Vec::new();
    let mut reader = Reader { group: table, around, diagnostics: &mut own };
    let servers = reader.servers(group);
    // A mistake in a key of the group is one mistake, however many servers have it.
    let mut seen = HashSet::new();
    diagnostics.extend(own.into_iter().filter(|problem| seen.insert((problem.code, problem.at.clone()))));
    require(table, requirements);
    table.tables("servers").for_each(|entry| require(entry, requirements));
    servers
}

struct Reader<'a> {
    group: &'a Table,
    around: Surroundings<'a>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

/// One item of `servers`.
struct Item<'a> {
    /// Its table, when it is one.
    own: Option<&'a Table>,
    /// Where its address stands.
    at: &'a Location,
    path: String,
}

impl Reader<'_> {
    fn servers(&mut self, group: &str) -> Servers {
        let table = self.group;
        let path = table.path_of("servers");
        let items = table.items("servers");
        if let Some(node) = items.get(MAX_SERVERS) {
            self.diagnostics.push(too_many("too-many-servers", "servers of a group", MAX_SERVERS, node.at.clone()));
        }
        for (key, most) in [("bootstrap", MAX_BOOTSTRAP), ("pins", MAX_PINS)] {
            for table in std::iter::once(table).chain(table.tables("servers")) {
                if let Some(node) = table.items(key).get(most) {
                    let problem = Diagnostic::error("too-many-items", node.at.clone(), format!("at most {most}"));
                    self.diagnostics.push(problem.key(table.path_of(key)).found("more"));
                }
            }
        }
        let (mut found, mut auto) = (Vec::new(), None);
        let mut labels: HashMap<String, &Location> = HashMap::new();
        let mut addresses: HashMap<String, &Location> = HashMap::new();
        if group == SYSTEM_GROUP && table.node("servers").is_none() {
            self.automatic(&Item { own: None, at: &table.at, path: path.clone() }, false);
            auto = Some(());
        }
        for (index, node) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some((own, text, at)) = entry(node) else { continue };
            let item = Item { own, at, path };
            let ServerText::At(address) = text else {
                self.automatic(&item, auto.is_some());
                auto = Some(());
                continue;
            };
            let shown = address.to_string();
            if let Some(first) = addresses.insert(shown.clone(), at) {
                let problem = duplicate("duplicate-server", "a server", &shown, first, at.clone());
                self.diagnostics.push(problem.key(&item.path));
                continue;
            }
            let name = own.and_then(|own| get::text_if(own, "name"));
            let label = format!("{group}/{}", name.unwrap_or(shown));
            if let Some(first) = labels.insert(label.clone(), at) {
                let problem = duplicate("duplicate-server", "a label", &label, first, at.clone());
                self.diagnostics.push(problem.key(&item.path));
            }
            found.push(self.server(label, address, &item));
        }
        if matches!(table.node("servers"), Some(Node { value: Value::List(items), .. }) if items.is_empty()) {
            let expected = "at least one server, or \"auto\" for the machine's resolvers";
            let problem = Diagnostic::error("no-servers", table.at_of("servers"), expected);
            self.diagnostics.push(problem.key(path).found("[]"));
        }
        let encrypted = found.iter().any(is_encrypted);
        let named = found.iter().any(|server| needs_bootstrap(&server.host, &server.options));
        if table.node("servers").is_some() {
            self.report_idle_keys(table, encrypted, named || found.iter().any(has_named_proxy));
        }
        if found.is_empty() && auto.is_some() && !table.items("rungs").is_empty() {
            let expected = "a server written with its address, for this key to matter";
            let problem = Diagnostic::warning("no-effect", table.at_of("rungs"), expected);
            let hint = "the machine's resolvers, \"auto\", are asked over UDP, and over TCP for what is cut";
            self.diagnostics.push(problem.key(table.path_of("rungs")).hint(hint));
        }
        Servers { found, auto: auto.is_some(), options: Arc::new(self.options(None, None)) }
    }

    /// Checks the word `auto`; the resolvers it stands for are asked over UDP.
    fn automatic(&mut self, item: &Item<'_>, again: bool) {
        let problem = if item.own.is_some() {
            Diagnostic::error("named-auto", item.at.clone(), "the address of one server")
                .found("\"auto\"")
                .hint("write \"auto\" by itself, without a table")
        } else if again {
            Diagnostic::error("duplicate-server", item.at.clone(), "\"auto\" once")
        } else {
            let options = self.options(None, None);
            let rungs = [rung(UpstreamTransport::Udp, None, None)];
            self.report_transports(&rungs, &options, item, "\"auto\"");
            return;
        };
        self.diagnostics.push(problem.key(&item.path));
    }

    fn server(&mut self, label: String, address: &ServerAddress, item: &Item<'_>) -> Upstream {
        let rungs = self.rungs(address, item);
        let options = self.options(item.own, address.certificate_name.clone());
        let shown = format!("{:?}", address.to_string());
        let own_address = |rung: &Rung| {
            let to = address.host.socket_address(rung.port);
            to.is_some_and(|to| self.around.listen.iter().any(|listen| is_same_socket(*listen, to)))
        };
        if rungs.iter().any(own_address) {
            let expected = "another address than the ones in [server] listen";
            let problem = Diagnostic::warning("asks-itself", item.at.clone(), expected);
            self.diagnostics.push(problem.key(&item.path).found(&shown).hint("truename would ask itself"));
        }
        self.report_transports(&rungs, &options, item, &shown);
        self.report_names(&address.host, &options, item, &shown);
        self.report_source(&address.host, &options, item);
        let server = Upstream { label, host: address.host.clone(), rungs, options: Arc::new(options) };
        if address.certificate_name.is_some() && !is_encrypted(&server) {
            let expected = "tls://, https:// or quic:// before the address, or rungs with one of them";
            let problem = Diagnostic::error("unused-certificate-name", item.at.clone(), expected);
            let hint = "what stands after # is the name in a certificate; plain transports have none";
            self.diagnostics.push(problem.key(&item.path).found(shown).hint(hint));
        }
        if let Some(own) = item.own {
            let named = needs_bootstrap(&server.host, &server.options) || has_named_proxy(&server);
            self.report_idle_keys(own, is_encrypted(&server), named);
        }
        server
    }

    /// Returns the ways to ask a server, best first.
    fn rungs(&mut self, address: &ServerAddress, item: &Item<'_>) -> Vec<Rung> {
        let own = item.own.filter(|own| !own.items("rungs").is_empty());
        // A transport in the address says more than a key of the group.
        let table = match own {
            Some(own) => own,
            None if address.transport.is_some() || self.group.items("rungs").is_empty() => {
                self.report_empty_rungs(item.own);
                self.report_empty_rungs(Some(self.group));
                return vec![address.rung()];
            }
            None => self.group,
        };
        let mut rungs: Vec<Rung> = Vec::new();
        let path = table.path_of("rungs");
        let written: Vec<(&Node, &RungText)> = table.items("rungs").iter().filter_map(rung_text).collect();
        for (index, (node, text)) in written.iter().enumerate() {
            if rungs.iter().any(|rung| rung.transport == text.transport) {
                let problem = Diagnostic::error("duplicate-rung", node.at.clone(), "each transport once");
                self.diagnostics
                    .push(problem.key(format!("{path}[{index}]")).found(format!("{:?}", text.transport.as_str())));
                continue;
            }
            // What stands in the address is about its own transport, or about the only one there is.
            let meant = address.transport == Some(text.transport) || written.len() == 1;
            let port = text.port.or(address.port.filter(|_| meant));
            let path = text.path.as_deref().or(address.path.as_deref().filter(|_| meant));
            rungs.push(rung(text.transport, port, path));
        }
        let mut problem = |code, expected: &str, hint: String| {
            let problem = Diagnostic::error(code, item.at.clone(), expected).key(&item.path);
            self.diagnostics.push(problem.found(format!("{:?}", address.to_string())).hint(hint));
        };
        match address.transport {
            Some(transport) if !rungs.iter().any(|rung| rung.transport == transport) => {
                let hint = format!("add \"{transport}\" to rungs, or take {transport}:// away");
                problem("transport-not-in-rungs", "an address whose transport is one of its rungs", hint);
            }
            None if address.port.is_some() && written.len() > 1 => {
                let port = address.port.unwrap_or_default();
                let hint = format!("write it with its transport: rungs = [\"{}:{port}\", …]", rungs[0].transport);
                problem("ambiguous-port", "an address without a port: each rung has its own", hint);
            }
            _ => {}
        }
        if rungs.is_empty() { vec![address.rung()] } else { rungs }
    }

    fn report_empty_rungs(&mut self, table: Option<&Table>) {
        let Some(table) = table else { return };
        if matches!(table.node("rungs"), Some(Node { value: Value::List(items), .. }) if items.is_empty()) {
            let problem = Diagnostic::error("no-rungs", table.at_of("rungs"), "at least one transport");
            self.diagnostics
                .push(problem.key(table.path_of("rungs")).found("[]").hint("without the key, the address decides"));
        }
    }

    /// Puts the keys of a server and its group together.
    fn options(&mut self, own: Option<&Table>, server_name: Option<String>) -> UpstreamOptions {
        let group = self.group;
        let has = |table: &&Table, key: &str| table.node(key).is_some_and(|node| !matches!(node.value, Value::Bad));
        let of = |key: &str| own.filter(|own| has(own, key)).unwrap_or(group);
        let value = |key: &str| of(key).node(key).map(|node| &node.value);
        let file = |key: &str| get::text_if(of(key), key).map(|file| beside(&of(key).at_of(key), &file));
        let pins = of("pins")
            .items("pins")
            .iter()
            .filter_map(|node| if let Value::Pin(pin) = node.value { Some(pin) } else { None });
        let bootstrap = of("bootstrap").items("bootstrap").iter();
        let bootstrap =
            bootstrap.filter_map(|node| if let Value::Bootstrap(address) = node.value { Some(address) } else { None });
        let client_certificate = match (file("client_certificate"), file("client_key")) {
            (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
            (None, None) => None,
            (one, _) => {
                let (there, missing) = if one.is_some() {
                    ("client_certificate", "client_key")
                } else {
                    ("client_key", "client_certificate")
                };
                let table = of(there);
                let expected = "client_certificate and client_key together";
                let problem = Diagnostic::error("half-a-client-certificate", table.at_of(there), expected);
                let problem = problem.key(table.path_of(there)).found(format!("{there} alone"));
                self.diagnostics.push(problem.hint(format!("add `{missing} = \"…\"`, a file in PEM")));
                None
            }
        };
        UpstreamOptions {
            sni: get::boolean_if(of("sni"), "sni").unwrap_or(true),
            pins: pins.collect(),
            ca_file: file("ca_file"),
            client_certificate,
            source: value("source").and_then(|value| if let Value::Source(ip) = value { Some(*ip) } else { None }),
            interface: get::text_if(of("interface"), "interface"),
            mark: get::integer_if(of("mark"), "mark").and_then(|mark| u32::try_from(mark).ok()),
            proxy: value("proxy")
                .and_then(|value| if let Value::Proxy(proxy) = value { Some(proxy.clone()) } else { None })
                .unwrap_or_default(),
            bootstrap: bootstrap.collect(),
            floor: get::word_if(of("floor"), "floor").and_then(|word| FLOOR.meaning(word)).unwrap_or_default(),
            server_name,
        }
    }

    /// Reports rungs that cannot be: through a proxy, below the floor, not in this build.
    fn report_transports(&mut self, rungs: &[Rung], options: &UpstreamOptions, item: &Item<'_>, shown: &str) {
        let mut report = |code, expected: &str, found: String, hint: &str| {
            let problem = Diagnostic::error(code, item.at.clone(), expected);
            self.diagnostics.push(problem.key(&item.path).found(found).hint(hint));
        };
        let over_udp = |rung: &&Rung| {
            matches!(rung.transport, UpstreamTransport::Udp | UpstreamTransport::Quic | UpstreamTransport::H3)
        };
        let datagrams: Vec<&str> = rungs.iter().filter(over_udp).map(|rung| rung.transport.as_str()).collect();
        if options.proxy != Proxy::None && !datagrams.is_empty() {
            let found = format!("{shown} with a proxy and {}", datagrams.join(", "));
            let hint = "proxies carry TCP only, and udp, quic and h3 are datagrams: write tcp://, tls:// or https://, or \
                        proxy = \"none\"";
            report("datagrams-through-proxy", "tcp, tls or https behind a proxy", found, hint);
        }
        if options.floor == Floor::Encrypted && !rungs.iter().any(|rung| rung.transport.is_encrypted()) {
            let found = format!("{shown}, which is plain");
            let hint =
                "floor = \"encrypted\" leaves no way to ask it: write tls://, https:// or quic://, or floor = \"any\"";
            report("nothing-above-floor", "at least one encrypted rung", found, hint);
        }
        if rungs.iter().any(|rung| !rung.transport.is_built_in()) {
            let hint = "write https:// or quic://: HTTP/3 is not built in; it is with `cargo build --features h3`";
            report("no-h3", "a transport of this build: udp, tcp, tls, https or quic", shown.to_owned(), hint);
        }
    }

    /// Reports names that nothing could find.
    fn report_names(&mut self, host: &UpstreamHost, options: &UpstreamOptions, item: &Item<'_>, shown: &str) {
        let loops =
            options.bootstrap.iter().find(|to| self.around.listen.iter().any(|listen| is_same_socket(*listen, **to)));
        let table = |key: &str| item.own.filter(|own| own.node(key).is_some()).unwrap_or(self.group);
        if let Some(address) = loops {
            let table = table("bootstrap");
            let expected = "a resolver other than truename itself";
            let problem = Diagnostic::error("bootstrap-loop", table.at_of("bootstrap"), expected);
            let hint = "truename would need the answer to find who answers";
            let problem = problem.key(table.path_of("bootstrap")).found(format!("\"{address}\"")).hint(hint);
            self.diagnostics.push(problem);
        }
        if !options.bootstrap.is_empty() || self.around.somebody_helps {
            return;
        }
        let hint = "add `bootstrap = [\"9.9.9.10\", \"8.8.8.8\"]`: plain resolvers that find it";
        if needs_bootstrap(host, options) {
            let hint = format!("{hint}; or write its address and the name after it: tls://ADDRESS#NAME");
            let problem = Diagnostic::error("no-bootstrap", item.at.clone(), "a way to find a server given by name");
            self.diagnostics.push(problem.key(&item.path).found(shown).hint(hint));
        }
        if proxy_has_name(options) {
            let table = table("proxy");
            let expected = "a way to find a proxy given by name";
            let problem = Diagnostic::error("no-bootstrap", table.at_of("proxy"), expected);
            let hint = format!("{hint}; or write the proxy's address");
            self.diagnostics.push(problem.key(table.path_of("proxy")).found("a name").hint(hint));
        }
    }

    /// Reports a source address of the other family.
    fn report_source(&mut self, host: &UpstreamHost, options: &UpstreamOptions, item: &Item<'_>) {
        let first_hop = match &options.proxy {
            Proxy::Socks5(proxy) | Proxy::Http(proxy) => &proxy.host,
            Proxy::None | Proxy::Env => host,
        };
        let (Some(source), Some(to)) = (options.source, first_hop.ip()) else { return };
        if source.is_ipv4() != to.to_canonical().is_ipv4() {
            let family = if to.to_canonical().is_ipv4() { "IPv4" } else { "IPv6" };
            let expected = format!("a source of the family of {to}, {family}");
            let problem = Diagnostic::error("source-family", item.at.clone(), expected);
            let hint = "give the server a `source` of its own, or a group of its own";
            self.diagnostics.push(problem.key(&item.path).found(format!("source \"{source}\"")).hint(hint));
        }
    }

    /// Warns of keys that nothing of theirs has a use for.
    fn report_idle_keys(&mut self, table: &Table, encrypted: bool, named: bool) {
        let idle =
            FOR_ENCRYPTED.iter().filter(|_| !encrypted).map(|key| (*key, "a server asked over tls, https, quic or h3"));
        let bootstrap = ("bootstrap", "a server or proxy given by name");
        for (key, expected) in idle.chain((!named).then_some(bootstrap)) {
            if table.node(key).is_some_and(|node| !matches!(node.value, Value::Bad)) && !is_default(table, key) {
                let problem =
                    Diagnostic::warning("no-effect", table.at_of(key), format!("{expected}, for this key to matter"));
                self.diagnostics.push(problem.key(table.path_of(key)));
            }
        }
    }
}

/// Tells whether what is written is what holds anyway: the commented default file may be uncommented.
fn is_default(table: &Table, key: &str) -> bool {
    key == "sni" && get::boolean_if(table, key) == Some(true)
}

fn is_encrypted(server: &Upstream) -> bool {
    server.rungs.iter().any(|rung| rung.transport.is_encrypted())
}

fn proxy_has_name(options: &UpstreamOptions) -> bool {
    matches!(&options.proxy, Proxy::Socks5(proxy) | Proxy::Http(proxy) if proxy.host.ip().is_none())
}

fn has_named_proxy(server: &Upstream) -> bool {
    proxy_has_name(&server.options)
}

/// Tells whether it takes us to find the server's name. A proxy finds it by itself; what the environment names may be none.
fn needs_bootstrap(host: &UpstreamHost, options: &UpstreamOptions) -> bool {
    host.ip().is_none() && !matches!(options.proxy, Proxy::Socks5(_) | Proxy::Http(_))
}

fn rung_text(node: &Node) -> Option<(&Node, &RungText)> {
    if let Value::Rung(text) = &node.value { Some((node, text)) } else { None }
}

/// Returns the table, the address and its place of one item of `servers`; nothing when it was wrong.
fn entry(node: &Node) -> Option<(Option<&Table>, &ServerText, &Location)> {
    if let Value::Server(text) = &node.value {
        return Some((None, text, &node.at));
    }
    let table = node.as_table()?;
    let address = table.node("address")?;
    if let Value::Server(text) = &address.value { Some((Some(table), text, &address.at)) } else { None }
}

/// Notes what a table's keys need of the machine.
fn require(table: &Table, requirements: &mut Vec<Requirement>) {
    let file = |key: &str| get::text_if(table, key).map(|file| beside(&table.at_of(key), &file));
    let mut add = |key: &str, what: Option<Required>| {
        requirements.extend(what.map(|what| Requirement { at: table.at_of(key), key: table.path_of(key), what }));
    };
    add("ca_file", file("ca_file").map(Required::Certificates));
    add("client_certificate", file("client_certificate").map(Required::Certificates));
    add("client_key", file("client_key").map(Required::Key));
    let mark = get::integer_if(table, "mark").and_then(|mark| u32::try_from(mark).ok());
    add("mark", mark.map(Required::Mark));
    add("interface", get::text_if(table, "interface").map(Required::Interface));
}

#[cfg(test)]
mod tests;
