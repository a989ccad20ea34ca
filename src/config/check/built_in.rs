//! What nobody wrote: the routes of `[default] trusted_presets` to the group `trusted`, and the servers of built-in groups
//! of which only the other keys are written.

use super::routes::preset_patterns;
use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Table, Value};
use crate::config::file::GUARD;
use crate::config::get;
use crate::config::model::{
    DefaultRoute, GroupId, Location, Pattern, Proxy, Route, Rung, Tristate, Upstream, UpstreamOptions,
    UpstreamTransport, View, ViewId,
};
use crate::config::resolve::{Names, SYSTEM_GROUP};
use crate::config::resolvers::{BuiltIn, TRUSTED_GROUP};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// The key of `[default]`.
const KEY: &str = "trusted_presets";
/// What the route is called in explanations.
const NAME: &str = "trusted-presets";

/// Makes the route, if it is for anybody.
pub(crate) fn routes(
    root: &Table,
    names: &Names,
    default: DefaultRoute,
    views: &[View],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Route> {
    let table = root.always("default");
    let at = Location::file(Path::new("built in"));
    let place = |pattern: Pattern| Pattern { at: at.clone(), ..pattern };
    let items = get::list(table, KEY);
    let mut known = HashSet::new();
    let mut patterns = preset_patterns(&items, &table.path_of(KEY), diagnostics);
    // Some hosts are in several presets.
    patterns.retain(|pattern| known.insert(pattern.name.clone()));
    let patterns: Vec<_> = patterns.into_iter().map(place).collect();
    let group = |name: &str| {
        names.groups.iter().position(|group| group == name).and_then(|at| u16::try_from(at).ok()).map(GroupId)
    };
    // Whoever sends names to a group of their own has said where names go, unless they say so of these too.
    let system = group(SYSTEM_GROUP);
    let defaults = std::iter::once(default).chain(views.iter().map(|view| view.default.unwrap_or(default)));
    let by_itself = (0..).zip(defaults).filter(|(_, default)| Some(default.upstream) == system);
    let by_itself: Vec<ViewId> = by_itself.map(|(at, _)| ViewId(at)).collect();
    let scope = (table.node(KEY).is_none() && by_itself.len() <= views.len()).then_some(by_itself);
    let is_for_nobody = patterns.is_empty() || scope.as_ref().is_some_and(Vec::is_empty);
    let Some(upstream) = group(TRUSTED_GROUP).filter(|_| !is_for_nobody) else { return Vec::new() };
    vec![Route {
        name: NAME.to_owned(),
        patterns,
        exclude: Vec::new(),
        lists: Vec::new(),
        views: scope,
        upstream,
        private: Tristate::False,
        // The default's group follows, unless a floor is written for `trusted`.
        on_failure: None,
        private_answers: None,
        guard: Some(get::meaning(table, "trusted_guard", &GUARD)),
        at,
    }]
}

/// Returns the servers of a built-in group with what is written for the group: they keep their addresses, the names in
/// their certificates. Left out are rungs that are not among the written ones or do not go through the
/// proxy, and servers that then have none or are of another family than the source.
pub(super) fn servers(known: &BuiltIn, options: &UpstreamOptions, table: &Table) -> Vec<Upstream> {
    let written = table.items("rungs").iter();
    let written: Vec<UpstreamTransport> = written
        .filter_map(|node| if let Value::Rung(rung) = &node.value { Some(rung.transport) } else { None })
        .collect();
    let datagrams = |rung: &Rung| {
        matches!(rung.transport, UpstreamTransport::Udp | UpstreamTransport::Quic | UpstreamTransport::H3)
    };
    let goes = |rung: &Rung| options.proxy == Proxy::None || !datagrams(rung);
    let reached = |server: &Upstream| match (options.source, &options.proxy) {
        (Some(source), Proxy::None | Proxy::Env) => server.host.ip().is_some_and(|ip| ip.is_ipv4() == source.is_ipv4()),
        _ => true,
    };
    let place = |rung: &Rung| written.iter().position(|transport| *transport == rung.transport);
    let with_options = |server: &Upstream| {
        let mut rungs: Vec<Rung> = server.rungs.iter().filter(|rung| goes(rung)).cloned().collect();
        if !written.is_empty() {
            rungs.retain(|rung| place(rung).is_some());
            rungs.sort_by_key(place);
        }
        let options = UpstreamOptions { server_name: server.options.server_name.clone(), ..options.clone() };
        Upstream { rungs, options: Arc::new(options), ..server.clone() }
    };
    let all = known.servers.iter().map(|server| &server.upstream).filter(|server| reached(server)).map(with_options);
    all.filter(|server| !server.rungs.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::UpstreamTransport::{Https, Quic, Tls};
    use crate::config::{Config, Proxy, ViewId, load_text};

    fn config(text: &str) -> Config {
        let loaded = load_text("x.toml", text);
        assert_eq!(loaded.diagnostics, [], "{text}");
        loaded.config.unwrap()
    }

    #[test]
    fn hosts_of_modules_and_git_go_to_trusted_by_themselves_and_the_rest_to_system() {
        let config = config("");
        let [route] = &config.built_in[..] else { panic!("{:?}", config.built_in) };
        assert_eq!((config.group(route.upstream).name.as_str(), &route.views), ("trusted", &None));
        assert_eq!(config.group(config.default.upstream).name, "system");
        assert!(config.routes.is_empty());
        let names: Vec<String> = route.patterns.iter().map(ToString::to_string).collect();
        for name in ["github.com", "golang.org", "pypi.org", "crates.io", "npmjs.org", "docker.io", "maven.org"] {
            assert_eq!(names.iter().filter(|known| *known == name).count(), 1, "{name} in {names:?}");
        }
        assert!(!names.iter().any(|name| name.ends_with("debian.org") || name.ends_with("ubuntu.com")), "{names:?}");
    }

    #[test]
    fn who_sends_names_to_a_group_of_their_own_has_said_where_names_go() {
        let own = "[upstream.corp]\nservers = [\"10.0.0.53\"]\n[default]\nupstream = \"corp\"\n";
        assert!(config(own).built_in.is_empty());
        assert_eq!(config(&format!("{own}trusted_presets = [\"go\"]\n")).built_in.len(), 1);
        assert!(config("[default]\ntrusted_presets = []\n").built_in.is_empty());
        let views = "[upstream.corp]\nservers = [\"10.0.0.53\"]\n[[view]]\nname = \"office\"\nclients = [\"10.0.0.0/8\"]\n\
                     default = { upstream = \"corp\" }\n[[view]]\nname = \"guests\"\nclients = [\"192.168.0.0/16\"]\n";
        assert_eq!(config(views).built_in[0].views, Some(vec![ViewId(0), ViewId(2)]));
    }

    #[test]
    fn an_unknown_preset_is_said_so() {
        let unknown = load_text("x.toml", "[default]\ntrusted_presets = [\"gti\"]").diagnostics;
        assert_eq!((unknown[0].code, unknown[0].key.as_str()), ("unknown-preset", "default.trusted_presets[0]"));
    }

    fn trusted(text: &str) -> Vec<crate::config::Upstream> {
        config(text).groups.into_iter().find(|group| group.name == "trusted").unwrap().servers
    }

    #[test]
    fn a_proxy_for_a_built_in_group_is_one_key() {
        let plain = trusted("");
        let proxied = trusted("[upstream.trusted]\nproxy = \"socks5://10.0.0.1\"\n");
        assert_eq!(proxied.len(), plain.len());
        assert!(plain.iter().any(|server| server.rungs.iter().any(|rung| rung.transport == Quic)));
        for (server, before) in proxied.iter().zip(&plain) {
            assert!(matches!(&server.options.proxy, Proxy::Socks5(proxy) if proxy.port == 1080), "{}", server.label);
            assert!(server.rungs.iter().all(|rung| matches!(rung.transport, Tls | Https)), "{}", server.label);
            assert_eq!(
                (&server.label, &server.host, &server.options.server_name),
                (&before.label, &before.host, &before.options.server_name)
            );
        }
    }

    #[test]
    fn a_floor_is_what_somebody_wrote_for_a_group_or_for_each_of_its_servers() {
        let has_floor =
            |text: &str, name: &str| config(text).groups.iter().find(|group| group.name == name).unwrap().has_floor();
        assert!(!has_floor("", "trusted") && !has_floor("", "near") && !has_floor("", "system"));
        assert!(has_floor("[upstream.trusted]\nfloor = \"encrypted\"\n", "trusted"));
        let one = "{ address = \"tls://192.0.2.1#a.example\", floor = \"encrypted\" }";
        let own = |servers: &str| has_floor(&format!("[upstream.own]\nservers = [{servers}]\n"), "own");
        assert!(own(one) && own(&format!("{one}, {{ address = \"https://192.0.2.2/\", floor = \"encrypted\" }}")));
        assert!(!own(&format!("{one}, \"tls://192.0.2.2\"")) && !own(&format!("{one}, \"auto\"")));
    }

    #[test]
    fn other_keys_for_a_built_in_group_apply_to_its_servers() {
        let only_443 =
            trusted("[upstream.trusted]\nrungs = [\"h3\", \"https\"]\n[default]\ntrusted_presets = [\"git\"]\n");
        assert!(only_443.len() >= 4, "{only_443:?}");
        assert!(only_443.iter().all(|server| server.rungs.len() == 1 && server.rungs[0].transport == Https));
        let v4 = trusted("[upstream.trusted]\nsource = \"192.0.2.10\"\ninterface = \"wg0\"\n");
        assert!(v4.len() >= 4 && v4.iter().all(|server| server.host.ip().unwrap().is_ipv4()));
        assert!(v4.iter().all(|server| server.options.interface.as_deref() == Some("wg0")));
        let fallback = config("[upstream.trusted]\nfallback = \"system\"\nstrategy = \"order\"\n");
        let group = fallback.groups.iter().find(|group| group.name == "trusted").unwrap();
        assert_eq!((group.servers.len(), group.fallback.is_some()), (trusted("").len(), true));
    }

    #[test]
    fn system_has_the_machines_resolvers_and_other_groups_must_have_servers() {
        let system = config("[upstream.system]\nstrategy = \"order\"\n");
        assert!(system.groups[0].auto && system.groups[0].servers.is_empty());
        let codes = |text: &str| -> Vec<String> {
            let problems = load_text("x.toml", text).diagnostics;
            problems.iter().map(|problem| format!("{} {}", problem.code, problem.key)).collect()
        };
        assert_eq!(codes("[upstream.office]\nstrategy = \"order\"\n"), ["missing-key upstream.office.servers"]);
        let proxied = codes("[upstream.system]\nproxy = \"socks5://10.0.0.1\"\n");
        assert_eq!(proxied, ["datagrams-through-proxy upstream.system.servers"]);
    }

    #[test]
    fn a_written_group_replaces_the_built_in_one_wholly() {
        let text = "[upstream.trusted]\nservers = [\"tls://192.0.2.1\"]\n[default]\ntrusted_presets = [\"go\"]\n";
        let config = config(text);
        let trusted = config.groups.iter().find(|group| group.name == "trusted").unwrap();
        assert_eq!(trusted.servers.len(), 1);
        assert_eq!(config.group(config.built_in[0].upstream), trusted);
        let near = config.groups.iter().find(|group| group.name == "near").unwrap();
        assert!(near.servers.len() >= 2);
        assert!(config.routes.iter().chain(&config.built_in).all(|route| config.group(route.upstream).name != "near"));
    }
}
