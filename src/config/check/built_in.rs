//! Routes that nobody wrote: the presets of `[default] trusted_presets`, to the group `trusted`.

use super::routes::preset_patterns;
use crate::config::diagnostic::Diagnostic;
use crate::config::document::Table;
use crate::config::get;
use crate::config::model::{DefaultRoute, GroupId, Location, OnFailure, Pattern, Route, Tristate, View, ViewId};
use crate::config::resolve::{Names, SYSTEM_GROUP};
use crate::config::resolvers::TRUSTED_GROUP;
use std::path::Path;

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
    built_in: bool,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Route> {
    let table = root.always("default");
    let at = Location::file(Path::new("built in"));
    let place = |pattern: Pattern| Pattern { at: at.clone(), ..pattern };
    let items = get::list(table, KEY);
    let patterns = preset_patterns(&items, &table.path_of(KEY), diagnostics).into_iter().map(place).collect::<Vec<_>>();
    let group = |name: &str| {
        names.groups.iter().position(|group| group == name).and_then(|at| u16::try_from(at).ok()).map(GroupId)
    };
    let Some(upstream) = group(TRUSTED_GROUP).filter(|_| built_in && !patterns.is_empty()) else { return Vec::new() };
    // Somebody who gives names another way than the machine's has decided about all of them.
    let written = table.node(KEY).is_some();
    let takes = |default: DefaultRoute| written || Some(default.upstream) == group(SYSTEM_GROUP);
    let own = views.iter().map(|view| view.default.unwrap_or(default));
    let all: Vec<bool> = std::iter::once(default).chain(own).map(takes).collect();
    let ids = (0..=u16::MAX).map(ViewId).zip(&all).filter(|(_, takes)| **takes).map(|(id, _)| id).collect::<Vec<_>>();
    if ids.is_empty() {
        return Vec::new();
    }
    vec![Route {
        name: NAME.to_owned(),
        patterns,
        exclude: Vec::new(),
        lists: Vec::new(),
        views: all.contains(&false).then_some(ids),
        upstream,
        private: Tristate::False,
        on_failure: Some(OnFailure::Default),
        private_answers: None,
        at,
    }]
}

#[cfg(test)]
mod tests {
    use crate::config::load::load_text_with;
    use crate::config::{Config, ViewId};

    fn config(text: &str) -> Config {
        let loaded = load_text_with("x.toml", text, true);
        assert_eq!(loaded.diagnostics, [], "{text}");
        loaded.config.unwrap()
    }

    #[test]
    fn an_empty_file_sends_module_and_git_hosts_to_trusted_and_the_rest_to_system() {
        let config = config("");
        let [route] = &config.built_in[..] else { panic!("{:?}", config.built_in) };
        assert_eq!((config.group(route.upstream).name.as_str(), &route.views), ("trusted", &None));
        assert_eq!(config.group(config.default.upstream).name, "system");
        assert!(config.routes.is_empty());
        let names: Vec<String> = route.patterns.iter().map(ToString::to_string).collect();
        for name in ["github.com", "golang.org", "pypi.org", "crates.io", "npmjs.org", "docker.io"] {
            assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
        }
        assert!(!names.iter().any(|name| name.ends_with("debian.org") || name.ends_with("ubuntu.com")), "{names:?}");
    }

    #[test]
    fn one_key_turns_it_off_and_another_default_does_so_by_itself() {
        assert!(config("[default]\ntrusted_presets = []").built_in.is_empty());
        assert_eq!(config("[default]\ntrusted_presets = [\"go\"]").built_in.len(), 1);
        let corp = "[upstream.corp]\nservers = [\"10.0.0.53\"]\n[default]\nupstream = \"corp\"\n";
        assert!(config(corp).built_in.is_empty());
        assert_eq!(config(&format!("{corp}trusted_presets = [\"go\"]")).built_in.len(), 1);
        assert!(load_text_with("x.toml", "", false).config.unwrap().built_in.is_empty());
        let unknown = load_text_with("x.toml", "[default]\ntrusted_presets = [\"gti\"]", true).diagnostics;
        assert_eq!((unknown[0].code, unknown[0].key.as_str()), ("unknown-preset", "default.trusted_presets[0]"));
    }

    #[test]
    fn a_view_with_a_default_of_its_own_is_left_alone() {
        let text = "[upstream.corp]\nservers = [\"10.0.0.53\"]\n\
                    [[view]]\nname = \"office\"\nclients = [\"10.0.0.0/8\"]\ndefault = { upstream = \"corp\" }\n\
                    [[view]]\nname = \"guests\"\nclients = [\"192.168.0.0/16\"]\n";
        assert_eq!(config(text).built_in[0].views, Some(vec![ViewId(0), ViewId(2)]));
        let all = format!("{text}[default]\ntrusted_presets = [\"go\", \"git\"]\n");
        assert_eq!(config(&all).built_in[0].views, None);
    }

    #[test]
    fn a_written_group_replaces_the_built_in_one_wholly() {
        let config = config("[upstream.trusted]\nservers = [\"tls://192.0.2.1\"]\n");
        let trusted = config.groups.iter().find(|group| group.name == "trusted").unwrap();
        assert_eq!(trusted.servers.len(), 1);
        assert_eq!(config.group(config.built_in[0].upstream), trusted);
        let near = config.groups.iter().find(|group| group.name == "near").unwrap();
        assert!(near.servers.len() >= 2);
        assert!(config.routes.iter().chain(&config.built_in).all(|route| config.group(route.upstream).name != "near"));
    }
}
