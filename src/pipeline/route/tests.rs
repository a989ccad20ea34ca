//! What routes must hold to, the whole rule against a naive reading of it.

use super::*;
use crate::config::*;
use crate::dns::name;
use proptest::prelude::{ProptestConfig, Strategy as Values, any, prop_assert, prop_assert_eq, proptest};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn at(line: u32) -> Location {
    Location { file: Path::new("t.toml").into(), line, column: 1 }
}

fn pattern(text: &str) -> Pattern {
    let (name, scope) = list::parse_pattern(text).unwrap();
    Pattern { name, scope, at: at(0) }
}

fn route(line: u32, names: &[&str], exclude: &[&str], group: u16) -> Route {
    Route {
        name: format!("r{line}"),
        patterns: names.iter().map(|text| pattern(text)).collect(),
        exclude: exclude.iter().map(|text| pattern(text)).collect(),
        lists: Vec::new(),
        views: None,
        upstream: GroupId(group),
        private: Tristate::Auto,
        on_failure: None,
        private_answers: None,
        guard: None,
        at: at(line),
    }
}

/// Groups: 0 is `system`, 1 is public, 2 is private. Views: 1 has a default of its own, 2 has none.
fn config(routes: Vec<Route>) -> Config {
    let server = |address: &str| Upstream::plain(address, UpstreamTransport::Udp, address.parse().unwrap());
    let group = |name: &str, address: &str| Group {
        name: name.to_owned(),
        servers: vec![server(address)],
        auto: false,
        options: std::sync::Arc::default(),
        strategy: crate::config::Strategy::Fastest,
        timeout: Duration::from_secs(4),
        fallback: None,
    };
    let view = |default| View { name: String::new(), clients: Vec::new(), listen: Vec::new(), default };
    let own = DefaultRoute {
        upstream: GroupId(2),
        private_answers: PrivateAnswers::Allow,
        guard: crate::config::GuardMode::Off,
    };
    Config {
        server: Server {
            listen: Vec::new(),
            udp_payload_bytes: 1232,
            workers: 1,
            max_in_flight: 1,
            tcp_idle_timeout: Duration::ZERO,
            edns_errors: true,
            allow: Vec::new(),
        },
        groups: vec![group("system", "192.168.0.1:53"), group("public", "9.9.9.9:53"), group("corp", "10.0.0.1:53")],
        default: DefaultRoute {
            upstream: GroupId(1),
            private_answers: PrivateAnswers::Drop,
            guard: crate::config::GuardMode::Off,
        },
        routes,
        time_servers: Vec::new(),
        built_in: Vec::new(),
        zones: Vec::new(),
        hosts: Hosts { files: Vec::new(), places: Vec::new(), watch: false, on_conflict: OnConflict::Warn },
        rewrites: Vec::new(),
        cache: Cache::NONE,
        guard: crate::config::Guard::NONE,
        views: vec![view(Some(own)), view(None)],
        stats: crate::config::Stats::default(),
        log: Log::default(),
        requirements: Vec::new(),
    }
}

fn load(config: &Config) -> Routes {
    let (routes, diagnostics) = Routes::load(config, &|group| group != GroupId(1), &[]);
    assert_eq!(diagnostics, []);
    routes
}

fn taken_by(routes: &Routes, view: u16, qname: &str) -> String {
    let name = Name::parse(qname).unwrap().to_lower();
    routes.find(ViewId(view), name.as_wire()).route.map_or("-".to_owned(), |route| route.name.clone())
}

#[test]
fn a_private_route_whose_group_falls_back_to_public_servers_is_reported() {
    let warned = |change: &dyn Fn(&mut Config)| {
        let mut config = config(vec![route(1, &["corp.example"], &[], 2), route(2, &["public.example"], &[], 1)]);
        change(&mut config);
        let (_, diagnostics) = Routes::load(&config, &|group| group != GroupId(1), &[]);
        diagnostics.iter().map(|one| format!("{} {} {}", one.severity, one.code, one.found)).collect::<Vec<_>>()
    };
    assert_eq!(warned(&|_| {}), [""; 0]);
    assert_eq!(warned(&|config| config.groups[2].fallback = Some(GroupId(0))), [""; 0]);
    let found = "group corp, which falls back to public, whose servers are not all private";
    let through = |config: &mut Config| {
        config.groups[2].fallback = Some(GroupId(0));
        config.groups[0].fallback = Some(GroupId(1));
    };
    assert_eq!(warned(&through), [format!("warning private-route-leaves {found}")]);
    let meant = |config: &mut Config| {
        through(config);
        config.routes[0].private = Tristate::False;
    };
    assert_eq!(warned(&meant), [""; 0]);
}

#[test]
fn more_labels_win_then_scope_then_order() {
    let routes = load(&config(vec![
        route(1, &["*.example.org"], &[], 1),
        route(2, &["example.org"], &[], 1),
        route(3, &["=example.org", "=a.example.org"], &[], 1),
        route(4, &["example.org"], &[], 1),
        route(5, &["org"], &[], 1),
        route(6, &["*.test"], &[], 1),
    ]));
    let cases = [
        ("example.org", "r3"),
        ("a.example.org", "r3"),
        ("x.a.example.org", "r2"),
        ("badexample.org", "r5"),
        ("org", "r5"),
        ("test", "-"),
        ("a.test", "r6"),
        ("net", "-"),
        (".", "-"),
    ];
    for (qname, expected) in cases {
        assert_eq!(taken_by(&routes, 0, qname), expected, "{qname}");
    }
}

#[test]
fn excluded_names_go_to_the_next_best_route() {
    let routes = load(&config(vec![
        route(1, &["a.example.org"], &["=a.example.org", "*.x.a.example.org"], 1),
        route(2, &["example.org"], &[], 1),
    ]));
    let cases =
        [("a.example.org", "r2"), ("b.a.example.org", "r1"), ("x.a.example.org", "r1"), ("y.x.a.example.org", "r2")];
    for (qname, expected) in cases {
        assert_eq!(taken_by(&routes, 0, qname), expected, "{qname}");
    }
}

#[test]
fn a_route_of_a_view_does_not_exist_for_others() {
    let limited = Route { views: Some(vec![ViewId(1)]), ..route(1, &["a.example.org"], &[], 1) };
    let routes = load(&config(vec![limited, route(2, &["example.org"], &[], 1)]));
    assert_eq!(taken_by(&routes, 1, "a.example.org"), "r1");
    assert_eq!(taken_by(&routes, 0, "a.example.org"), "r2");
    assert_eq!(taken_by(&routes, 2, "a.example.org"), "r2");
}

#[test]
fn private_routes_fail_closed_and_allow_private_answers() {
    let routes = load(&config(vec![
        route(1, &["corp.example"], &[], 2),
        route(2, &["web.example"], &[], 1),
        route(3, &["."], &[], 2),
        Route { private: Tristate::True, on_failure: Some(OnFailure::Default), ..route(4, &["x.example"], &[], 1) },
    ]));
    let find = |qname: &str| {
        let name = Name::parse(qname).unwrap();
        let found = routes.find(ViewId(0), name.as_wire());
        (found.group.0, found.private, found.on_failure, found.private_answers)
    };
    assert_eq!(find("git.corp.example"), (2, true, OnFailure::Servfail, PrivateAnswers::Allow));
    assert_eq!(find("web.example"), (1, false, OnFailure::Default, PrivateAnswers::Drop));
    assert_eq!(find("other.example"), (2, false, OnFailure::Default, PrivateAnswers::Drop));
    assert_eq!(find("x.example"), (1, true, OnFailure::Default, PrivateAnswers::Allow));
}

#[test]
fn each_view_has_its_default() {
    let routes = load(&config(Vec::new()));
    let name = Name::parse("a.example").unwrap();
    let default = |view| routes.find(ViewId(view), name.as_wire());
    assert_eq!((default(1).group, default(1).private_answers), (GroupId(2), PrivateAnswers::Allow));
    assert_eq!((default(2).group, default(0).group), (GroupId(1), GroupId(1)));
    assert_ne!(default(1).fingerprint, default(0).fingerprint);
    assert_eq!(default(2).fingerprint, default(0).fingerprint);
    assert_eq!(default(0).because(), "no route has the name");
}

#[test]
fn search_domains_are_private_and_stand_behind_every_written_route_but_the_root() {
    let config = config(vec![route(1, &["example.org"], &[], 1), route(2, &["."], &[], 1)]);
    let domains = ["api.example.org", "Corp.LAN", "."].map(|text| Name::parse(text).unwrap());
    let (routes, _) = Routes::load(&config, &|_| false, &domains);
    assert_eq!(taken_by(&routes, 0, "x.api.example.org"), "r1");
    assert_eq!(taken_by(&routes, 0, "git.corp.lan"), "search-domains");
    assert_eq!(taken_by(&routes, 0, "other.lan"), "r2");
    let name = Name::parse("git.corp.lan").unwrap();
    let found = routes.find(ViewId(0), name.as_wire());
    assert!(found.private && found.group == GroupId(0) && found.on_failure == OnFailure::Servfail);
    assert!(!routes.explicitly_routed(ViewId(0), name.as_wire()));
    assert!(routes.explicitly_routed(ViewId(0), Name::parse("example.org").unwrap().as_wire()));
    assert!(!routes.explicitly_routed(ViewId(0), Name::parse("example.net").unwrap().as_wire()));
}

#[test]
fn the_fingerprint_changes_with_the_decision_and_only_with_it() {
    let fingerprint = |config: &Config| {
        let name = Name::parse("a.example.org").unwrap();
        load(config).find(ViewId(0), name.as_wire()).fingerprint
    };
    let base = config(vec![route(1, &["example.org"], &[], 1)]);
    let same = {
        let mut other = config(vec![route(9, &["net"], &[], 2), route(5, &["org"], &[], 1)]);
        other.groups[1].timeout = Duration::from_secs(1);
        other.groups[2].servers.clear();
        other
    };
    assert_eq!(fingerprint(&base), fingerprint(&same));
    let mut others = vec![
        config(vec![route(1, &["example.org"], &[], 2)]),
        config(Vec::new()),
        config(vec![Route { on_failure: Some(OnFailure::Servfail), ..route(1, &["org"], &[], 1) }]),
        config(vec![Route { private_answers: Some(PrivateAnswers::Auto), ..route(1, &["org"], &[], 1) }]),
        config(vec![Route { private: Tristate::True, ..route(1, &["org"], &[], 1) }]),
    ];
    let mut servers = base.clone();
    servers.groups[1].servers[0].host = UpstreamHost::at("9.9.9.10:53".parse().unwrap());
    let mut fallback = base.clone();
    fallback.groups[1].fallback = Some(GroupId(1));
    let mut default = base.clone();
    default.default.upstream = GroupId(2);
    others.extend([servers, fallback, default]);
    for other in &others {
        assert_ne!(fingerprint(&base), fingerprint(other));
    }
}

#[test]
fn names_of_a_group_with_a_floor_go_nowhere_else_by_themselves() {
    let on_failure = |config: &Config| {
        let name = Name::parse("a.example.org").unwrap();
        load(config).find(ViewId(0), name.as_wire()).on_failure
    };
    let mut config = config(vec![route(1, &["example.org"], &[], 1)]);
    assert_eq!(on_failure(&config), OnFailure::Default);
    config.groups[1].options = Arc::new(UpstreamOptions { floor: Floor::Encrypted, ..UpstreamOptions::default() });
    assert_eq!(on_failure(&config), OnFailure::Servfail);
    let written = Route { on_failure: Some(OnFailure::Default), ..config.routes[0].clone() };
    let built_in = std::mem::replace(&mut config.routes, vec![written]);
    assert_eq!(on_failure(&config), OnFailure::Default, "somebody says so");
    (config.routes, config.built_in) = (Vec::new(), built_in);
    assert_eq!(on_failure(&config), OnFailure::Servfail);
    // Written for each of its servers, it is meant as much.
    let with_floor = std::mem::take(&mut config.groups[1].options);
    let first = &mut config.groups[1].servers[0];
    first.options = with_floor;
    let plain = Upstream { options: Arc::default(), ..first.clone() };
    assert_eq!(on_failure(&config), OnFailure::Servfail);
    config.groups[1].servers.push(plain);
    assert_eq!(on_failure(&config), OnFailure::Default, "one of them may be asked in any way");
}

#[test]
fn lists_are_read_and_their_problems_reported_where_they_are() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"Example.org\n*.a.test\nbad..name\n").unwrap();
    let list = ListFile { path: file.path().to_owned(), format: ListFormat::Domains, at: at(3) };
    let missing = ListFile { path: "/nonexistent/list".into(), ..list.clone() };
    let folder = ListFile { path: std::env::temp_dir(), ..list.clone() };
    let listed = Route { lists: vec![list, missing, folder], ..route(1, &[], &[], 1) };
    let config = config(vec![listed]);
    let (routes, diagnostics) = Routes::load(&config, &|_| false, &[]);
    assert_eq!(taken_by(&routes, 0, "www.example.org"), "r1");
    let name = Name::parse("b.a.test").unwrap();
    let found = routes.find(ViewId(0), name.as_wire());
    assert_eq!(found.pattern().unwrap(), "*.a.test.");
    assert_eq!(found.because(), "route r1 has *.a.test. (t.toml:1:1)");
    let read: Vec<_> = routes.routes()[0].lists.iter().map(|list| (list.entries, list.modified.is_some())).collect();
    assert_eq!(read, [(2, true), (0, false), (0, false)]);
    let codes: Vec<_> = diagnostics.iter().map(|one| (one.code, one.at.line)).collect();
    assert_eq!(codes, [("bad-pattern", 3), ("list-unreadable", 3), ("list-unreadable", 3)]);
    assert_eq!(&*diagnostics[0].at.file, file.path());
}

#[test]
fn routes_that_never_match_are_named_with_what_covers_them() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"a.test\nb.test\n").unwrap();
    let list = ListFile { path: file.path().to_owned(), format: ListFormat::Domains, at: at(1) };
    let in_view =
        |views: &[u16], route: Route| Route { views: Some(views.iter().map(|&v| ViewId(v)).collect()), ..route };
    let routes = load(&config(vec![
        Route { lists: vec![list], ..route(1, &[], &[], 1) },
        route(2, &["a.test", "*.b.test"], &[], 1),
        route(3, &["b.test", "c.test"], &[], 1),
        route(4, &[], &[], 1),
        route(5, &["d.test"], &["test"], 1),
        in_view(&[1], route(6, &["e.test"], &[], 1)),
        route(7, &["e.test"], &[], 1),
        in_view(&[2], route(8, &["e.test", "a.test"], &[], 1)),
        route(9, &["f.test"], &["x.f.test"], 1),
        route(10, &["f.test"], &[], 1),
    ]));
    let found: Vec<_> = routes.unreachable().iter().map(|one| (one.at.line, one.code)).collect();
    let never = "route-never-matches";
    assert_eq!(found, [(2, never), (4, "route-without-names"), (5, never), (8, never)]);
    assert!(routes.unreachable()[0].hint.as_ref().unwrap().contains("route r1 (t.toml:1:1)"));
}

#[test]
fn routes_search_domains_and_fallbacks_have_bounds() {
    let many: Vec<Route> = (0..=u32::from(u16::MAX)).map(|line| route(line, &[], &[], 1)).collect();
    let (routes, problems) = Routes::load(&config(many), &|_| false, &[]);
    assert_eq!(routes.routes.len(), usize::from(u16::MAX));
    assert_eq!(problems.iter().map(|problem| problem.code).collect::<Vec<_>>(), ["too-many-routes"]);
    let domains: Vec<Name> = (0..70).map(|n| Name::parse(&format!("n{n}.example")).unwrap()).collect();
    let (routes, problems) = Routes::load(&config(Vec::new()), &|_| false, &domains);
    assert_eq!(problems.iter().map(|problem| problem.code).collect::<Vec<_>>(), ["too-many-search-domains"]);
    assert!(routes.find(ViewId(0), domains[63].as_wire()).private);
    assert!(!routes.find(ViewId(0), domains[64].as_wire()).private);
    // A ring of fallbacks, which `check` refuses, ends all the same.
    let mut ring = config(vec![route(1, &["a.example"], &[], 1)]);
    ring.groups[1].fallback = Some(GroupId(2));
    ring.groups[2].fallback = Some(GroupId(1));
    assert_eq!(taken_by(&load(&ring), 0, "a.example"), "r1");
}

#[test]
fn names_of_any_shape_are_decided() {
    let routes = load(&config(vec![route(1, &["."], &["a"], 1)]));
    let deepest = [b"\x01a".repeat(127), vec![0]].concat();
    assert!(routes.find(ViewId(0), &deepest).route.is_none());
    let deepest = [b"\x01b".repeat(127), vec![0]].concat();
    assert!(routes.find(ViewId(0), &deepest).route.is_some());
    assert!(routes.find(ViewId(9), &[1; 600]).route.is_none());
    assert!(routes.find(ViewId(0), &[]).route.is_none());
}

/// The rule, read literally: every matching pattern of every route, sorted.
fn naive(config: &Config, view: ViewId, qname: &Name) -> Option<usize> {
    let fits = |pattern: &Pattern| {
        name::is_at_or_below(qname.as_wire(), pattern.name.as_wire())
            && match pattern.scope {
                Scope::Only => pattern.name == *qname,
                Scope::NameAndBelow => true,
                Scope::Below => pattern.name != *qname,
            }
    };
    let mut all = Vec::new();
    for (at, route) in config.routes.iter().enumerate() {
        let here = route.views.as_ref().is_none_or(|views| views.contains(&view));
        if !here || route.exclude.iter().any(fits) {
            continue;
        }
        for pattern in route.patterns.iter().filter(|pattern| fits(pattern)) {
            let scope =
                [Scope::Only, Scope::NameAndBelow, Scope::Below].iter().position(|scope| *scope == pattern.scope);
            all.push((usize::MAX - pattern.name.label_count(), scope, at));
        }
    }
    all.into_iter().min().map(|(.., at)| at)
}

fn patterns() -> impl Values<Value = Vec<Pattern>> {
    let one = ("(=|\\*\\.)?([ab]\\.){0,3}[ab]", any::<bool>())
        .prop_map(|(text, root)| pattern(if root && text.len() == 1 { "." } else { &text }));
    proptest::collection::vec(one, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_index_decides_as_the_rule_read_literally(
        parts in proptest::collection::vec((patterns(), patterns(), proptest::option::of(0..3u16)), 0..7),
        qnames in proptest::collection::vec("([ab]\\.){0,4}[abc]", 1..20), view in 0..3u16,
    ) {
        let routes = parts.into_iter().zip(0..).map(|((patterns, exclude, only), line)| Route {
            patterns,
            // Most routes have no exclude.
            exclude: if line % 3 == 0 { exclude } else { Vec::new() },
            views: only.map(|view| vec![ViewId(view)]),
            ..route(line, &[], &[], 1)
        }).collect();
        let config = config(routes);
        let routes = load(&config);
        for text in qnames {
            let qname = Name::parse(&text).unwrap();
            let expected = naive(&config, ViewId(view), &qname);
            let found = routes.find(ViewId(view), qname.as_wire());
            prop_assert_eq!(found.route.map(|route| route.name.clone()), expected.map(|at| config.routes[at].name.clone()), "{}", text);
            // What is reported as unreachable is reached by no name.
            if let Some(at) = found.route.and_then(|route| route.at.clone()) {
                prop_assert!(routes.unreachable().iter().all(|one| one.at != at), "{}", text);
            }
        }
    }
}

#[test]
fn what_nobody_wrote_stands_behind_every_written_route_and_search_domain() {
    let built_in = |names: &[&str], views| Route {
        name: "trusted-presets".to_owned(),
        private: Tristate::False,
        views,
        ..route(1, names, &[], 1)
    };
    let find = |routes: &Routes, view, name: &str| {
        let wire = Name::parse(name).unwrap();
        let choice = routes.find(ViewId(view), wire.as_wire());
        (
            choice.route.map(|route| route.name.clone()).unwrap_or_default(),
            choice.group,
            choice.on_failure,
            choice.private,
        )
    };
    let trusted = || ("trusted-presets".to_owned(), GroupId(1), OnFailure::Default, false);
    let with = |routes, views| Config { built_in: vec![built_in(&["git.example"], views)], ..config(routes) };
    let alone = load(&with(Vec::new(), None));
    assert_eq!(find(&alone, 0, "api.git.example"), trusted());
    assert_eq!(find(&alone, 0, "other.example").0, "");
    assert!(!alone.explicitly_routed(ViewId(0), Name::parse("git.example").unwrap().as_wire()));
    // Shorter, even the root: a written route says where names go, and nobody's presets take them away again.
    for pattern in ["example", "."] {
        let written = load(&with(vec![route(7, &[pattern], &[], 2)], None));
        assert_eq!(find(&written, 0, "api.git.example").1, GroupId(2), "{pattern}");
    }
    let (searched, _) = Routes::load(&with(Vec::new(), None), &|_| false, &[Name::parse("git.example").unwrap()]);
    assert_eq!(find(&searched, 0, "api.git.example").0, "search-domains");
    let of_one_view = load(&with(Vec::new(), Some(vec![ViewId(2)])));
    assert_eq!(
        (find(&of_one_view, 1, "git.example").0, find(&of_one_view, 2, "git.example")),
        (String::new(), trusted())
    );
}
