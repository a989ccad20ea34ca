//! What was written to the [`Config`] the program sees: references across tables, duplicates, and what can never happen.
//!
//! The shape of every value is known to be good or already reported (`read.rs`); a value that was wrong counts as
//! absent here, so one mistake gives one message.

mod built_in;
mod groups;
mod guard;
mod routes;
mod servers;
mod views;
mod zones;

use super::diagnostic::Diagnostic;
use super::document::{Node, Table, Value};
use super::file::{GUARD, LOG_FORMAT, LOG_LEVEL, ON_CONFLICT, PRIVATE_ANSWERS, QUERIES_JOURNAL, SOCKET_OFF};
use super::model::{
    Cache, Config, DefaultRoute, GroupId, Hosts, Log, Prefetch, QuerySink, ServeStale, Server, SocketPlace, Stats,
};
use super::resolve::{Names, SYSTEM_GROUP, duplicate};
use super::{get, paths};
use crate::dns::Name;
use std::net::SocketAddr;
use std::sync::LazyLock;

/// Threads `workers = "auto"` starts at most; more bring nothing at the rates of a laptop or a small office.
const MAX_AUTO_WORKERS: usize = 4;
/// Threads `workers = "auto"` starts. Asked for once: the answer stands in several files of the kernel, and threads are
/// started once.
static AUTO_WORKERS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_AUTO_WORKERS)));
/// Addresses listened on at most: each costs two files a worker.
const MAX_LISTEN: usize = 64;
/// Names of time servers at most: a machine asks some four.
const MAX_TIME_SERVERS: usize = 32;

/// Makes the configuration, as good as it can be, and reports what is wrong with it.
pub(crate) fn check(root: &Table, diagnostics: &mut Vec<Diagnostic>) -> Config {
    let names = Names { groups: groups::names(root), views: views::names(root) };
    let server = server(root, diagnostics);
    let mut requirements = Vec::new();
    let groups = groups::check(root, &names, &server.listen, &mut requirements, diagnostics);
    let default = default_route(root, &names, diagnostics);
    let views = views::check(root, &names, default, &server.listen, diagnostics);
    let zones = zones::zones(root, &names, diagnostics);
    let routes = routes::check(root, &names, &zones, diagnostics);
    let built_in = built_in::routes(root, &names, default, &views, diagnostics);
    let rewrites = zones::rewrites(root, &names, diagnostics);
    let (hosts, cache) = (hosts(root), cache(root, diagnostics));
    let time_servers = time_servers(root, diagnostics);
    let (stats, guard) = (stats(root, diagnostics), guard::guard(root, &names, diagnostics));
    let log = log(root, &stats, diagnostics);
    Config {
        server,
        groups,
        default,
        time_servers,
        routes,
        built_in,
        zones,
        hosts,
        rewrites,
        cache,
        guard,
        views,
        stats,
        log,
        requirements,
    }
}

fn server(root: &Table, diagnostics: &mut Vec<Diagnostic>) -> Server {
    let table = root.always("server");
    let access = table.always("access");
    let listen = get::list(table, "listen");
    let written: Vec<(usize, &Node, SocketAddr)> = listen
        .iter()
        .enumerate()
        .filter_map(|(at, node)| if let Value::Listen(address) = node.value { Some((at, node, address)) } else { None })
        .collect();
    if listen.is_empty() {
        let problem = Diagnostic::error("no-listener", table.at_of("listen"), "at least one address to answer on");
        diagnostics.push(problem.key("server.listen").found("[]"));
    }
    if let Some((at, node, _)) = written.get(MAX_LISTEN) {
        let problem =
            Diagnostic::error("too-many-listeners", node.at.clone(), format!("at most {MAX_LISTEN} addresses"));
        diagnostics.push(problem.key(format!("server.listen[{at}]")).found(written.len().to_string()));
    }
    for (index, (at, node, address)) in written.iter().enumerate() {
        let first = written[..index].iter().find(|(_, _, other)| other == address && address.port() != 0);
        if let Some((_, first, _)) = first {
            let text = address.to_string();
            let problem = duplicate("duplicate-listen", "an address", &text, &first.at, node.at.clone());
            diagnostics.push(problem.key(format!("server.listen[{at}]")));
        }
    }
    let allow: Vec<_> = get::list(access, "allow")
        .iter()
        .filter_map(|node| if let Value::Network(net) = node.value { Some(net) } else { None })
        .collect();
    if access.node("allow").is_some() && access.items("allow").is_empty() {
        let at = access.at_of("allow");
        let problem = Diagnostic::warning("nobody-allowed", at, "a network; with none, every client gets REFUSED");
        diagnostics.push(problem.key("server.access.allow").found("[]"));
    }
    Server {
        listen: written.into_iter().map(|(_, _, address)| address).collect(),
        udp_payload_bytes: get::number(table, "udp_payload_bytes"),
        workers: match get::integer_if(table, "workers") {
            Some(_) => get::number(table, "workers"),
            None => *AUTO_WORKERS,
        },
        max_in_flight: get::number(table, "max_in_flight"),
        tcp_idle_timeout: get::duration(table, "tcp_idle_timeout"),
        edns_errors: get::boolean(table, "edns_errors"),
        allow,
    }
}

fn default_route(root: &Table, names: &Names, diagnostics: &mut Vec<Diagnostic>) -> DefaultRoute {
    let table = root.always("default");
    let system = names.groups.iter().position(|group| group == SYSTEM_GROUP).and_then(|at| u16::try_from(at).ok());
    DefaultRoute {
        upstream: names.group(table, "upstream", diagnostics).unwrap_or(GroupId(system.unwrap_or_default())),
        private_answers: get::meaning(table, "private_answers", &PRIVATE_ANSWERS),
        guard: get::meaning(table, "guard", &GUARD),
    }
}

fn time_servers(root: &Table, diagnostics: &mut Vec<Diagnostic>) -> Vec<Name> {
    let (table, key) = (root.always("default"), "time_servers");
    if let Some(node) = table.items(key).get(MAX_TIME_SERVERS) {
        let problem = Diagnostic::error("too-many-items", node.at.clone(), format!("at most {MAX_TIME_SERVERS}"));
        diagnostics.push(problem.key(table.path_of(key)).found("more"));
    }
    let name = |node: Node| if let Value::Name(name) = node.value { Some(name.to_lower()) } else { None };
    get::list(table, key).into_iter().filter_map(name).take(MAX_TIME_SERVERS).collect()
}

fn hosts(root: &Table) -> Hosts {
    let table = root.always("hosts");
    let at = table.at_of("files");
    let files = get::list(table, "files");
    let written = table.items("files").iter().filter(|node| node.as_text().is_some());
    Hosts {
        places: written.map(|node| node.at.clone()).collect(),
        files: files.iter().filter_map(Node::as_text).map(|file| paths::beside(&at, file)).collect(),
        watch: get::boolean(table, "watch"),
        on_conflict: get::meaning(table, "on_conflict", &ON_CONFLICT),
    }
}

fn cache(root: &Table, diagnostics: &mut Vec<Diagnostic>) -> Cache {
    let table = root.always("cache");
    let cache = Cache {
        max_entries: get::number(table, "max_entries"),
        max_bytes: get::bytes(table, "max_bytes"),
        min_ttl: get::duration(table, "min_ttl"),
        max_ttl: get::duration(table, "max_ttl"),
        negative_ttl_max: get::duration(table, "negative_ttl_max"),
        persist: get::boolean(table, "persist"),
        serve_stale: serve_stale(table.always("serve_stale")),
        prefetch: prefetch(table.always("prefetch")),
    };
    if cache.min_ttl > cache.max_ttl {
        let key = if table.node("min_ttl").is_some() { "min_ttl" } else { "max_ttl" };
        let shown = |key: &str| super::units::format_duration(get::duration(table, key));
        let expected = "min_ttl at most as long as max_ttl";
        let found = format!("min_ttl \"{}\", max_ttl \"{}\"", shown("min_ttl"), shown("max_ttl"));
        let problem = Diagnostic::error("ttl-order", table.at_of(key), expected);
        diagnostics.push(problem.key(table.path_of(key)).found(found));
    }
    cache
}

fn serve_stale(table: &Table) -> ServeStale {
    ServeStale {
        enabled: get::boolean(table, "enabled"),
        after: get::duration(table, "after"),
        max_age: get::duration(table, "max_age"),
        reply_ttl: get::duration(table, "reply_ttl"),
    }
}

fn prefetch(table: &Table) -> Prefetch {
    Prefetch {
        enabled: get::boolean(table, "enabled"),
        min_hits: get::number(table, "min_hits"),
        before_expiry_percent: get::percent(table, "before_expiry"),
    }
}

fn stats(root: &Table, diagnostics: &mut Vec<Diagnostic>) -> Stats {
    let table = root.always("stats");
    let place = |name| match get::text_if(table, name) {
        Some(path) => SocketPlace::Path(path.into()),
        None if get::word_if(table, name) == Some(SOCKET_OFF) => SocketPlace::Off,
        None => SocketPlace::Auto,
    };
    let (socket, control) = (place("socket"), place("control"));
    if matches!((&socket, &control), (SocketPlace::Path(one), SocketPlace::Path(other)) if one == other) {
        let problem =
            Diagnostic::error("same-socket", table.at_of("control"), "another path than that of stats.socket");
        diagnostics.push(problem.key("stats.control").found(get::text_if(table, "control").unwrap_or_default()));
    }
    let mut prometheus_listen = None;
    if let Some(Node { at, value: Value::Listen(address) }) = table.node("prometheus_listen") {
        // Whoever can reach it can read it: there is no permission to a TCP port.
        if address.ip().is_loopback() {
            prometheus_listen = Some(*address);
        } else {
            let problem =
                Diagnostic::error("not-loopback", at.clone(), "a loopback address, such as \"127.0.0.1:9553\"");
            let hint = "for another machine's Prometheus, put a proxy with a password before it";
            diagnostics.push(problem.key("stats.prometheus_listen").found(address.to_string()).hint(hint));
        }
    }
    Stats { socket, control, prometheus_listen, recent_queries: get::number(table, "recent_queries") }
}

fn log(root: &Table, stats: &Stats, diagnostics: &mut Vec<Diagnostic>) -> Log {
    let table = root.always("log");
    let queries = match (get::text_if(table, "queries"), get::word_if(table, "queries")) {
        (Some(path), _) => QuerySink::File(path.into()),
        (None, Some(QUERIES_JOURNAL)) => QuerySink::Journal,
        (None, _) => QuerySink::Off,
    };
    if queries != QuerySink::Off && stats.recent_queries == 0 {
        let expected = "recent_queries in [stats] above 0: what is written is read from there";
        let problem = Diagnostic::error("nothing-remembered", table.at_of("queries"), expected);
        diagnostics.push(problem.key("log.queries").found("stats.recent_queries = 0"));
    }
    Log {
        level: get::meaning(table, "level", &LOG_LEVEL),
        format: get::meaning(table, "format", &LOG_FORMAT),
        queries,
        queries_max_bytes: get::bytes(table, "queries_max_bytes"),
        queries_files: get::number(table, "queries_files"),
    }
}

#[cfg(test)]
mod tests {
    use super::MAX_TIME_SERVERS;
    use crate::config::diagnostic::human;
    use crate::config::{Config, Loaded, Strategy, UpstreamTransport, ViewId, load_text};

    fn problems(text: &str) -> Vec<String> {
        let show = |loaded: Loaded| {
            let line = |p: &crate::config::Diagnostic| format!("{}:{} {} {}", p.at.line, p.at.column, p.code, p.key);
            loaded.diagnostics.iter().map(line).collect()
        };
        show(load_text("x.toml", text))
    }

    #[test]
    fn names_of_time_servers_are_read_and_bounded() {
        let text = |count: usize| {
            let names: Vec<String> = (0..count).map(|at| format!("\"N{at}.Example\"")).collect();
            format!("[default]\ntime_servers = [{}]", names.join(", "))
        };
        let most = load_text("x.toml", &text(MAX_TIME_SERVERS));
        assert_eq!(most.diagnostics, []);
        let names = most.config.unwrap().time_servers;
        assert_eq!((names.len(), names[0].to_string().as_str()), (MAX_TIME_SERVERS, "n0.example."));
        let more = load_text("x.toml", &text(MAX_TIME_SERVERS + 1)).diagnostics;
        assert_eq!((more[0].code, more[0].key.as_str()), ("too-many-items", "default.time_servers"));
        assert!(Config::default().time_servers.iter().any(|name| name.to_string() == "pool.ntp.org."));
    }

    #[test]
    fn one_file_with_many_problems_reports_every_one_with_its_place() {
        let text = r#"versoin = 1
[server]
listen = ["127.0.0.1:53", "0.0.0.0:53", "127.0.0.1:53"]
udp_payload_bytes = 100
tcp_idle_timeout = 10
[upstream.corp]
servers = ["10.0.0.10", "10.0.0.53:5e"]
fallback = "crop"
[[route]]
names = ["corp..example", "a.example"]
upstream = "cop"
views = ["ofice"]
presets = ["gti"]
[[zone]]
ttl = "1.5 parsecs"
records = [{ name = "www", type = "AAA", value = "::1" }]
[cache]
max_entires = 3
[[view]]
name = "office"
clients = ["10.1.2.3/8"]
"#;
        assert_eq!(
            problems(text),
            [
                "1:1 unknown-key versoin",
                "3:27 bad-address server.listen[1]",
                "3:41 duplicate-listen server.listen[2]",
                "4:21 out-of-range server.udp_payload_bytes",
                "5:20 wrong-type server.tcp_idle_timeout",
                "7:25 bad-address upstream.corp.servers[1]",
                "8:12 unknown-upstream upstream.corp.fallback",
                "10:10 bad-pattern route[0].names[0]",
                "11:12 unknown-upstream route[0].upstream",
                "12:10 unknown-view route[0].views[0]",
                "13:12 unknown-preset route[0].presets[0]",
                "14:1 missing-key zone[0].name",
                "15:7 bad-value zone[0].ttl",
                "16:35 bad-type zone[0].records[0].type",
                "18:1 unknown-key cache.max_entires",
                "21:12 bad-network view[0].clients[0]",
            ]
        );
        assert!(load_text("x.toml", text).config.is_none());
    }

    #[test]
    fn messages_say_what_to_do() {
        let text = "[upstream.public]\nservers = [\"10.0.0.53:5e\"]\n[cache]\nmax_entires = 1\n[[route]]\nnames = [\"a.example\"]\nupstream = \"pubilc\"\n";
        insta::assert_snapshot!(human(&load_text("truename.toml", text).diagnostics), @r#"
        error: truename.toml:2:12: upstream.public.servers[0]
          found     "10.0.0.53:5e"
          expected  a server, such as "10.0.0.53", "tcp://[fd00::53]:53", "tls://9.9.9.10#dns10.quad9.net" or "https://1.1.1.1/dns-query", or "auto"; or a table with name, address, rungs, floor, sni, pins, ca_file, client_certificate, …
          hint      a port is a number from 1 to 65535
        error: truename.toml:4:1: cache.max_entires
          found     max_entires
          expected  one of max_entries, max_bytes, min_ttl, max_ttl, negative_ttl_max, persist, serve_stale, prefetch
          hint      did you mean `max_entries`?
        error: truename.toml:7:12: route[0].upstream
          found     "pubilc"
          expected  an upstream group that exists: system, public, trusted, near
          hint      did you mean "public"?
        3 errors, 0 warnings
        "#);
    }

    #[test]
    fn every_kind_of_mistake_has_its_message() {
        let route = "names = [\"a.example\"]\nupstream = \"system\"\n";
        let mut wrong = Vec::new();
        for (text, expected) in [
            ("x = ", "1:5 syntax "),
            ("a = 1\na = 2", "1:1 unknown-key a|2:1 duplicate-key "),
            ("server = 3", "1:10 wrong-type server"),
            ("zone = 3", "1:8 wrong-type zone"),
            ("route = [3]", "1:10 wrong-type route[0]"),
            ("version = 2", "1:11 out-of-range version"),
            ("[dashboard]\nlisten = \"\"", "1:2 unknown-key dashboard"),
            ("[server]\nlisten = []", "2:10 no-listener server.listen"),
            ("[server]\nworkers = \"atuo\"", "2:11 bad-value server.workers"),
            ("[server]\nedns_errors = \"true\"", "2:15 wrong-type server.edns_errors"),
            ("[server.access]\nallow = []", "2:9 nobody-allowed server.access.allow"),
            ("[upstream.a]", "1:11 missing-key upstream.a.servers"),
            ("[upstream.\"a b\"]\nservers = [\"auto\"]", "1:11 bad-identifier upstream.a b"),
            ("[upstream]\na = 3", "2:5 wrong-type upstream.a"),
            ("[upstream.a]\nservers = []", "2:11 no-servers upstream.a.servers"),
            ("[upstream.a]\nservers = [\"10.0.0.1\", \"10.0.0.1:53\"]", "2:24 duplicate-server upstream.a.servers[1]"),
            (
                "[upstream.a]\nservers = [{ name = \"n\", address = \"10.0.0.1\" }, { name = \"n\", address = \"10.0.0.2\" }]",
                "2:74 duplicate-server upstream.a.servers[1]",
            ),
            ("[upstream.a]\nservers = [{ name = \"n\", address = \"auto\" }]", "2:36 named-auto upstream.a.servers[0]"),
            ("[upstream.a]\nservers = [{ name = \"n\" }]", "2:12 missing-key upstream.a.servers[0].address"),
            ("[upstream.a]\nservers = [\"127.0.0.1\"]", "2:12 asks-itself upstream.a.servers[0]"),
            ("[upstream.a]\nservers = [\"auto\"]\ntimeout = \"1h\"", "3:11 out-of-range upstream.a.timeout"),
            (
                "[upstream.a]\nservers = [\"auto\"]\nfallback = \"b\"\n[upstream.b]\nservers = [\"auto\"]\nfallback = \"a\"",
                "3:12 fallback-cycle upstream.a.fallback",
            ),
            ("[upstream.a]\nservers = [\"auto\"]\nfallback = \"a\"", "3:12 fallback-cycle upstream.a.fallback"),
            ("[default]\nupstream = \"sytem\"", "2:12 unknown-upstream default.upstream"),
            ("[default]\nguard = \"on\"", "2:9 bad-value default.guard"),
            ("[guard]\nbudget = \"5s\"", "2:10 out-of-range guard.budget"),
            ("[guard]\nreferences = \"trusetd\"", "2:14 unknown-upstream guard.references"),
            ("[[route]]\nupstream = \"system\"", "1:1 no-names route[0]"),
            ("[[route]]\nnames = [\"a.example\"]", "1:1 missing-key route[0].upstream"),
            (
                "[[route]]\nnames = [\"a.example\"]\nupstream = \"system\"\nnames_from = [{ url = \"x\" }]",
                "4:15 missing-key route[0].names_from[0].path|4:17 unknown-key route[0].names_from[0].url",
            ),
            (
                "[[route]]\nname = \"r\"\nnames = [\"a.example\"]\nupstream = \"system\"\n[[route]]\nname = \"r\"\nnames = [\"b.example\"]\nupstream = \"system\"",
                "6:8 duplicate-name route[1].name",
            ),
            ("[[zone]]\nname = \"a.example\"\n[[zone]]\nname = \"A.example.\"", "4:8 duplicate-zone zone[1].name"),
            (
                "[[zone]]\nname = \"a.example\"\nrecords = [{ name = \"b.example.\", type = \"A\", value = \"10.0.0.1\" }]",
                "3:21 out-of-zone zone[0].records[0].name",
            ),
            (
                "[[zone]]\nname = \"a.example\"\nrecords = [{ type = \"ANY\", value = \"x\" }]",
                "3:21 bad-type zone[0].records[0].type",
            ),
            ("[[zone]]\nname = \"a.example\"\nttl = \"1500ms\"", "3:7 out-of-range zone[0].ttl"),
            (
                "[[rewrite]]\nnames = []\nanswer = { type = \"A\", value = \"10.0.0.1\" }",
                "2:9 no-names rewrite[0].names",
            ),
            (
                "[[rewrite]]\nnames = [\"a.example\"]\nanswer = { type = \"A\" }",
                "3:10 missing-key rewrite[0].answer.value",
            ),
            ("[cache]\nmin_ttl = \"30m\"\nmax_ttl = \"1m\"", "2:11 ttl-order cache.min_ttl"),
            ("[cache]\nmax_bytes = \"32\"", "2:13 bad-value cache.max_bytes"),
            ("[[view]]\nname = \"v\"", "1:1 empty-view view[0]"),
            ("[[view]]\nname = \"default\"\nclients = [\"10.0.0.0/8\"]", "2:8 reserved-name view[0].name"),
            ("[[view]]\nname = \"v\"\nlisten = [\"10.0.0.1\"]", "3:11 no-such-listener view[0].listen[0]"),
            (
                "[[view]]\nname = \"v\"\nclients = [\"10.0.0.0/8\"]\n[[view]]\nname = \"w\"\nclients = [\"10.1.0.0/16\"]",
                "4:1 view-never-matches view[1]",
            ),
            (
                "[[view]]\nname = \"v\"\nclients = [\"10.0.0.0/8\"]\n[[view]]\nname = \"v\"\nclients = [\"11.0.0.0/8\"]",
                "5:8 duplicate-name view[1].name",
            ),
            ("[log]\nlevel = \"warm\"", "2:9 bad-value log.level"),
            ("[log]\nqueries = \"queries.log\"", "2:11 bad-value log.queries"),
            ("[stats]\nrecent_queries = 0\n[log]\nqueries = \"journal\"", "4:11 nothing-remembered log.queries"),
            ("[stats]\nsocket = \"run/x\"", "2:10 bad-value stats.socket"),
            ("[stats]\nsocket = \"/a\"\ncontrol = \"/a\"", "3:11 same-socket stats.control"),
            ("[stats]\nprometheus_listen = \"192.0.2.1:9553\"", "2:21 not-loopback stats.prometheus_listen"),
        ] {
            let got = problems(text).join("|");
            if got != expected {
                wrong.push(format!("{text}\n  got       {got}\n  expected  {expected}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(problems(&format!("[[route]]\n{route}")), Vec::<String>::new());
        assert_eq!(problems(&format!("[[route]]\n{route}views = []")), ["4:9 no-views route[0].views"]);
    }

    #[test]
    fn addresses_groups_and_views_are_bounded() {
        let numbered = |count: usize, make: &dyn Fn(usize) -> String| (0..count).map(make).collect::<String>();
        let listen = |count| format!("[server]\nlisten = [{}]", numbered(count, &|n| format!("\"10.0.0.{n}:53\",")));
        assert_eq!(problems(&listen(super::MAX_LISTEN)), Vec::<String>::new());
        assert_eq!(problems(&listen(super::MAX_LISTEN + 1)), ["2:961 too-many-listeners server.listen[64]"]);
        let groups = |count| numbered(count, &|n| format!("[upstream.g{n}]\nservers = [\"auto\"]\n"));
        let most = super::groups::MAX_GROUPS;
        assert!(problems(&groups(most - 1)).is_empty(), "`system` is one of them");
        assert!(problems(&groups(most + 1))[0].contains("too-many-groups"));
        let servers = |count| format!("[upstream.a]\nservers = [{}]", numbered(count, &|n| format!("\"10.0.0.{n}\",")));
        assert_eq!(problems(&servers(64)), Vec::<String>::new());
        assert!(problems(&servers(65))[0].contains("too-many-servers"));
        let views = |count| numbered(count, &|n| format!("[[view]]\nname = \"v{n}\"\nclients = [\"fd00::{n:x}\"]\n"));
        assert_eq!(problems(&views(super::views::MAX_VIEWS)), Vec::<String>::new());
        assert!(problems(&views(super::views::MAX_VIEWS + 1))[0].contains("too-many-views"));
    }

    #[test]
    fn a_chain_of_fallbacks_that_no_question_follows_to_its_end_is_refused() {
        let groups = |names: &[&str], fallbacks: &[(&str, &str)]| -> String {
            let group = |name: &&str| {
                let fallback = fallbacks.iter().find(|(from, _)| from == name);
                let line = fallback.map_or(String::new(), |(_, to)| format!("fallback = \"{to}\"\n"));
                format!("[upstream.{name}]\nservers = [\"auto\"]\n{line}")
            };
            names.iter().map(group).collect()
        };
        let names = ["a", "b", "c", "d", "e", "f"];
        let (abcd, de) = ([("a", "b"), ("b", "c"), ("c", "d")], ("d", "e"));
        assert_eq!(problems(&groups(&names, &abcd)), Vec::<String>::new());
        let five = groups(&names, &[abcd.as_slice(), &[de]].concat());
        assert_eq!(problems(&five), ["3:12 fallback-chain upstream.a.fallback"]);
        let found = &load_text("x.toml", &five).diagnostics[0];
        assert_eq!(found.found, "a -> b -> c -> d -> e");
        assert!(
            found.is_error() && found.hint.as_ref().unwrap().contains("take out the fallback of \"d\""),
            "{found:?}"
        );
        // Each chain is reported once, by its beginning, however many groups lie within it.
        let two = groups(&names, &[abcd.as_slice(), &[de, ("f", "b")]].concat());
        let both = ["3:12 fallback-chain upstream.a.fallback", "17:12 fallback-chain upstream.f.fallback"];
        assert_eq!(problems(&two), both);
        let into_a_ring = groups(&names, &[abcd.as_slice(), &[de, ("e", "c")]].concat());
        assert_eq!(problems(&into_a_ring), ["9:12 fallback-cycle upstream.c.fallback"]);
    }

    #[test]
    fn patterns_that_something_else_takes_are_reported() {
        let route = |rest: &str| format!("[[route]]\nupstream = \"system\"\n{rest}\n");
        let view = "[[view]]\nname = \"v\"\nclients = [\"10.0.0.0/8\"]\n";
        for (first, second, expected) in [
            (
                r#"names = ["a.example"]"#,
                r#"names = ["b.example", "a.example"]"#,
                "6:23 never-matches route[1].names[1]",
            ),
            (r#"names = ["*.a.example"]"#, r#"names = ["a.example"]"#, "3:10 never-matches route[0].names[0]"),
            (r#"names = ["a.example"]"#, r#"names = ["=a.example"]"#, ""),
            (r#"names = ["a.example"]"#, r#"names = ["b.a.example"]"#, ""),
            ("names = [\"a.example\"]\nviews = [\"v\"]", r#"names = ["a.example"]"#, ""),
            (
                r#"names = ["a.example"]"#,
                "names = [\"a.example\"]\nviews = [\"v\"]",
                "6:10 never-matches route[1].names[0]",
            ),
            ("names = [\"a.example\"]\nexclude = [\"b.a.example\"]", r#"names = ["a.example"]"#, ""),
            (r#"presets = ["go"]"#, r#"presets = ["go"]"#, "6:12 never-matches route[1].presets[0]"),
        ] {
            let text = route(first) + &route(second) + view;
            assert_eq!(problems(&text).join("|"), expected, "{text}");
        }
        let zone = "[[zone]]\nname = \"example\"\n";
        let text = route("names = [\"a.example\"]") + zone;
        assert_eq!(problems(&text), ["3:10 never-matches route[0].names[0]"]);
        assert_eq!(problems(&(text.clone() + "fallthrough = true")), Vec::<String>::new());
        assert_eq!(problems(&(text + "file = \"x.zone\"")), Vec::<String>::new());
        assert!(load_text("x.toml", &(route("names = [\"a.example\"]") + zone)).config.is_some(), "only a warning");
    }

    #[test]
    fn the_full_example_becomes_what_it_says() {
        let text = include_str!("../../config/examples/full.toml");
        let config = load_text("/etc/truename/full.toml", text).config.unwrap();
        let corp = config.groups.iter().find(|group| group.name == "corp").unwrap();
        assert_eq!(corp.servers[1].label, "corp/dc2");
        assert_eq!(corp.servers[1].transport(), UpstreamTransport::Tcp);
        assert_eq!(corp.strategy, Strategy::Order);
        assert_eq!(config.group(corp.fallback.unwrap()).name, "system");
        assert_eq!(config.routes[2].views, Some(vec![ViewId(1)]));
        assert_eq!(config.rewrites[0].views, Some(vec![ViewId(1), ViewId(0)]));
        assert_eq!(config.group(config.default_for(ViewId(1)).upstream).name, "corp");
        assert_eq!(config.view_name(ViewId(2)), "containers");
        assert_eq!(config.zones[0].records[1].ttl.unwrap().as_secs(), 300);
        assert!(config.routes[0].patterns.len() > 20);
    }
}
