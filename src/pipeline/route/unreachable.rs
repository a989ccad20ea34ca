//! Routes that can never match, for `truename check`.

use super::index::{Item, RouteAt};
use super::{Routes, pattern_text};
use crate::config::{Diagnostic, Scope};
use crate::dns::name;

impl Routes {
    /// Returns a warning for each route none of whose names can ever reach it, because other routes take them all
    /// first, because it excludes them itself, or because it has none (an empty list file).
    ///
    /// Two routes that cover a third only together, by their views, are not seen.
    #[must_use]
    pub fn unreachable(&self) -> Vec<Diagnostic> {
        let mut states = vec![State::Empty; self.routes.len()];
        for (name, item) in self.index.items().filter(|(_, item)| !item.exclude) {
            let state = &mut states[usize::from(item.route)];
            if matches!(state, State::Reached) {
                continue;
            }
            *state = match self.covered(name, item) {
                Some(by) => State::Covered { by, pattern: pattern_text(name, item.scope) },
                None => State::Reached,
            };
        }
        self.routes
            .iter()
            .zip(states)
            .filter_map(|(route, state)| self.warning(route.at.as_ref()?, &route.name, state))
            .collect()
    }

    fn warning(&self, at: &crate::config::Location, name: &str, state: State) -> Option<Diagnostic> {
        let key = format!("route {name}");
        match state {
            State::Reached => None,
            State::Empty => Some(
                Diagnostic::warning(
                    "route-without-names",
                    at.clone(),
                    "at least one name in `names`, `presets` or a list",
                )
                .key(key),
            ),
            State::Covered { by, pattern } => {
                let other = &self.routes[usize::from(by)];
                let place = other.at.as_ref().map(|at| format!(" ({at})")).unwrap_or_default();
                let hint = if other.name == name && other.at.as_ref() == Some(at) {
                    format!("its own `exclude` takes out {pattern}")
                } else {
                    format!(
                        "route {}{place} takes {pattern} first; remove one of them or limit it by `exclude` or `views`",
                        other.name
                    )
                };
                Some(
                    Diagnostic::warning("route-never-matches", at.clone(), "a name that no other route takes first")
                        .key(key)
                        .found(pattern)
                        .hint(hint),
                )
            }
        }
    }

    /// Returns the route that takes all that a pattern could, if there is one.
    fn covered(&self, name: &[u8], item: &Item) -> Option<RouteAt> {
        let before = self.index.list(name).find(|other| {
            let info = &self.routes[usize::from(other.route)];
            let wins = match (other.scope, item.scope) {
                (Scope::NameAndBelow, Scope::Below) => true,
                (theirs, ours) => theirs == ours && other.route < item.route,
            };
            wins && !other.exclude
                && other.route != item.route
                && !info.has_excludes
                && self.has_views_of(other.route, item.route)
        });
        before.map(|other| other.route).or_else(|| self.excludes_itself(name, item).then_some(item.route))
    }

    /// Tells whether one route exists for every view another exists for.
    fn has_views_of(&self, wide: RouteAt, narrow: RouteAt) -> bool {
        let views = |route: RouteAt| &self.routes[usize::from(route)].views;
        match (views(wide), views(narrow)) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wide), Some(narrow)) => narrow.iter().all(|view| wide.contains(view)),
        }
    }

    fn excludes_itself(&self, name: &[u8], item: &Item) -> bool {
        self.routes[usize::from(item.route)].has_excludes
            && name::suffixes(name).any(|suffix| {
                let own = suffix.len() == name.len();
                self.index.list(suffix).any(|other| {
                    let all = match other.scope {
                        Scope::NameAndBelow => true,
                        Scope::Below => !own || item.scope == Scope::Below,
                        Scope::Only => own && item.scope == Scope::Only,
                    };
                    other.exclude && other.route == item.route && all
                })
            })
    }
}

#[derive(Debug, Clone)]
enum State {
    /// It has no pattern.
    Empty,
    /// A name can reach it.
    Reached,
    /// None of its patterns seen until now can match; the last of them, and who takes it.
    Covered { by: RouteAt, pattern: String },
}
