//! Routes that nobody wrote: the presets of `[default] trusted_presets`, to the group `trusted`.

use super::routes::preset_patterns;
use crate::config::diagnostic::Diagnostic;
use crate::config::document::Table;
use crate::config::get;
use crate::config::model::{GroupId, Location, OnFailure, Pattern, Route, Tristate};
use crate::config::resolve::Names;
use crate::config::resolvers::TRUSTED_GROUP;
use std::path::Path;

/// The key of `[default]`.
const KEY: &str = "trusted_presets";
/// What the route is called in explanations.
const NAME: &str = "trusted-presets";

/// Makes the route, if it is for anybody.
pub(crate) fn routes(root: &Table, names: &Names, diagnostics: &mut Vec<Diagnostic>) -> Vec<Route> {
    let table = root.always("default");
    let at = Location::file(Path::new("built in"));
    let place = |pattern: Pattern| Pattern { at: at.clone(), ..pattern };
    let items = get::list(table, KEY);
    let patterns = preset_patterns(&items, &table.path_of(KEY), diagnostics).into_iter().map(place).collect::<Vec<_>>();
    let group = |name: &str| {
        names.groups.iter().position(|group| group == name).and_then(|at| u16::try_from(at).ok()).map(GroupId)
    };
    let Some(upstream) = group(TRUSTED_GROUP).filter(|_| !patterns.is_empty()) else { return Vec::new() };
    vec![Route {
        name: NAME.to_owned(),
        patterns,
        exclude: Vec::new(),
        lists: Vec::new(),
        views: None,
        upstream,
        private: Tristate::False,
        on_failure: Some(OnFailure::Default),
        private_answers: None,
        at,
    }]
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::config::load_text;

    fn config(text: &str) -> Config {
        let loaded = load_text("x.toml", text);
        assert_eq!(loaded.diagnostics, [], "{text}");
        loaded.config.unwrap()
    }

    #[test]
    fn the_presets_that_are_named_go_to_trusted_and_the_rest_to_system() {
        assert!(config("").built_in.is_empty(), "nothing goes there by itself");
        let config =
            config("[default]\ntrusted_presets = [\"git\", \"go\", \"pypi\", \"crates\", \"npm\", \"docker\"]\n");
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
    fn an_unknown_preset_is_said_so() {
        let unknown = load_text("x.toml", "[default]\ntrusted_presets = [\"gti\"]").diagnostics;
        assert_eq!((unknown[0].code, unknown[0].key.as_str()), ("unknown-preset", "default.trusted_presets[0]"));
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
