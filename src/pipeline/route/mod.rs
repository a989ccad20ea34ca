//! Which upstream group a name goes to, and what else is true of it on its way.
//!
//! The rule (`docs/config.md`, "Names in routes"): more labels win; at equal labels `=name` over `name` over `*.name`;
//! then file order. A name that a route excludes goes to the next best one, and a route limited to views does not
//! exist for clients of others. Names no route takes go to the default of the client's view.
//!
//! The domains a network gave us to search (DHCP, VPN) are private routes to `system` by themselves. Any route the
//! user wrote comes before them, however short its pattern, except `.`: a network must not be able to pull
//! `api.example.org` out of the user's own route for `example.org` by calling it a search domain.
//!
//! What nobody wrote comes last: the module and git hosts that go to the group `trusted` unless a route, however short,
//! or a search domain takes them.
//!
//! Decides; asks nobody. A reload makes new [`Routes`]; `load.rs` says how.

mod index;
mod list;
mod load;
mod unreachable;

use crate::config::{DefaultRoute, GroupId, GuardMode, Location, OnFailure, PrivateAnswers, Scope, ViewId};
use crate::dns::Name;
use index::Index;
pub use list::ListInfo;
use std::borrow::Cow;
use std::time::SystemTime;

/// All routes of a configuration. Immutable.
#[derive(Debug)]
pub struct Routes {
    index: Index,
    search: Index,
    routes: Box<[RouteInfo]>,
    /// The route that the patterns in `search` stand for.
    search_route: RouteInfo,
    /// Names for the routes that nobody wrote.
    built_in: Index,
    built_in_routes: Box<[RouteInfo]>,
    /// By view; 0 is everybody no `[[view]]` matches.
    defaults: Box<[Default]>,
    /// Stands for what guarded names are held against.
    guard_meaning: u64,
    /// When their lists were read, as whoever had them read says.
    pub read_at: Option<SystemTime>,
}

/// What is known of one route.
#[derive(Debug, Clone)]
pub struct RouteInfo {
    /// Its name.
    pub name: String,
    /// Where it was written; `None` for the one made of search domains.
    pub at: Option<Location>,
    /// The group asked.
    pub group: GroupId,
    /// Whether its names are private.
    pub private: bool,
    /// What follows when the group is down.
    pub on_failure: OnFailure,
    /// What was read of each of its lists, in their order.
    pub lists: Box<[ListInfo]>,
    /// `None`: what the default of the view says.
    private_answers: Option<PrivateAnswers>,
    /// `None`: what the default of the view says.
    guard: Option<GuardMode>,
    views: Option<Box<[ViewId]>>,
    /// It has `exclude` patterns or a list with such.
    has_excludes: bool,
    meaning: u64,
}

#[derive(Debug, Clone, Copy)]
struct Default {
    route: DefaultRoute,
    meaning: u64,
}

/// Which of all routes one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteId {
    /// One that somebody wrote, by its place in the file.
    Written(u16),
    /// One that nobody wrote.
    BuiltIn(u16),
    /// The one made of search domains.
    Search,
    /// None: the default of the view.
    Default,
}

/// What was decided for a name.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// The route; `None` for the default.
    pub route: Option<&'a RouteInfo>,
    /// The group to ask.
    pub group: GroupId,
    /// The name must never reach a public server.
    pub private: bool,
    /// What follows when the group is down. For the default, which has nothing behind it, `Servfail`.
    pub on_failure: OnFailure,
    /// What happens to private addresses in answers.
    pub private_answers: PrivateAnswers,
    /// Whether its replies are judged, before or behind the answer.
    pub guard: GuardMode,
    /// Stands for all that may change an answer: group, servers, policies. Equal over reloads and restarts for equal
    /// decisions, so that cached answers outlive a reload that does not concern them.
    pub fingerprint: u64,
    /// Which of all routes it is.
    pub id: RouteId,
    pattern: Option<(&'a [u8], Scope)>,
}

impl Routes {
    /// Decides for a name in lower case and wire form. Costs one look-up for each number of labels that patterns have,
    /// twice that for routes with `exclude`; allocates nothing.
    #[must_use]
    pub fn find<'a>(&'a self, view: ViewId, qname: &'a [u8]) -> Choice<'a> {
        let default = self.default_of(view);
        let written = self.index.find(qname, |item| self.routes[usize::from(item.route)].is_for(view));
        if written.is_none_or(|(pattern, _)| pattern.len() == 1)
            && self.search.len() > 0
            && let Some((pattern, item)) = self.search.find(qname, |_| true)
        {
            return self.choice((&self.search_route, RouteId::Search), (pattern, item.scope), default);
        }
        if let Some((pattern, item)) = written {
            let route = (&self.routes[usize::from(item.route)], RouteId::Written(item.route));
            return self.choice(route, (pattern, item.scope), default);
        }
        let built_in = self.built_in.find(qname, |item| self.built_in_routes[usize::from(item.route)].is_for(view));
        match built_in {
            Some((pattern, item)) => {
                let route = (&self.built_in_routes[usize::from(item.route)], RouteId::BuiltIn(item.route));
                self.choice(route, (pattern, item.scope), default)
            }
            None => {
                let guard = default.route.guard;
                Choice {
                    route: None,
                    group: default.route.upstream,
                    private: false,
                    on_failure: OnFailure::Servfail,
                    private_answers: default.route.private_answers,
                    guard,
                    fingerprint: self.under_guard(guard, load::mix(&[default.meaning])),
                    id: RouteId::Default,
                    pattern: None,
                }
            }
        }
    }

    fn choice<'a>(
        &self,
        (route, id): (&'a RouteInfo, RouteId),
        pattern: (&'a [u8], Scope),
        default: &Default,
    ) -> Choice<'a> {
        let private_answers = route.private_answers.unwrap_or(default.route.private_answers);
        let behind = match route.on_failure {
            OnFailure::Servfail => 0,
            OnFailure::Default => default.meaning,
        };
        let guard = if route.private { GuardMode::Off } else { route.guard.unwrap_or(default.route.guard) };
        let meaning = load::mix(&[route.meaning, load::meaning_of(private_answers), behind]);
        Choice {
            route: Some(route),
            group: route.group,
            private: route.private,
            on_failure: route.on_failure,
            private_answers,
            guard,
            fingerprint: self.under_guard(guard, meaning),
            id,
            pattern: Some(pattern),
        }
    }

    /// Adds to a fingerprint what guarded names are held against. Watching changes no answer.
    fn under_guard(&self, guard: GuardMode, meaning: u64) -> u64 {
        if guard == GuardMode::Enforce { load::mix(&[meaning, self.guard_meaning]) } else { meaning }
    }

    /// Tells whether the user wrote a route for a name, `.` not counted: that is what opens special-use names.
    /// Search domains do not count, nobody wrote them.
    #[must_use]
    pub fn explicitly_routed(&self, view: ViewId, qname: &[u8]) -> bool {
        let found = self.index.find(qname, |item| self.routes[usize::from(item.route)].is_for(view));
        found.is_some_and(|(pattern, _)| pattern.len() > 1)
    }

    /// Returns what [`Choice::fingerprint`] is for names that only the group `system` may be asked for.
    #[must_use]
    pub fn system_fingerprint(&self) -> u64 {
        load::mix(&[self.search_route.meaning])
    }

    /// Returns the routes in file order.
    #[must_use]
    pub fn routes(&self) -> &[RouteInfo] {
        &self.routes
    }

    /// Returns those that nobody wrote.
    #[must_use]
    pub fn built_in(&self) -> &[RouteInfo] {
        &self.built_in_routes
    }

    /// Returns the name of the one made of search domains.
    #[must_use]
    pub fn search_name(&self) -> &str {
        &self.search_route.name
    }

    /// Counts the patterns, search domains and those nobody wrote included.
    #[must_use]
    pub fn patterns(&self) -> usize {
        self.index.len() + self.search.len() + self.built_in.len()
    }

    fn default_of(&self, view: ViewId) -> &Default {
        self.defaults.get(usize::from(view.0)).unwrap_or(&self.defaults[0])
    }
}

impl RouteInfo {
    /// Tells whether the route exists for clients of a view.
    #[must_use]
    pub fn is_for(&self, view: ViewId) -> bool {
        self.views.as_ref().is_none_or(|views| views.contains(&view))
    }
}

impl Choice<'_> {
    /// Returns the pattern that decided, as one writes it; `None` for the default.
    #[must_use]
    pub fn pattern(&self) -> Option<String> {
        self.pattern.map(|(name, scope)| pattern_text(name, scope))
    }

    /// Says why, for people: the route and its pattern.
    #[must_use]
    pub fn because(&self) -> Cow<'static, str> {
        let (Some(route), Some(pattern)) = (self.route, self.pattern()) else {
            return "no route has the name".into();
        };
        let place = route.at.as_ref().map(|at| format!(" ({at})")).unwrap_or_default();
        format!("route {} has {pattern}{place}", route.name).into()
    }
}

fn pattern_text(name: &[u8], scope: Scope) -> String {
    let name = Name::from_wire(name).unwrap_or_else(|_| Name::root());
    match scope {
        Scope::Below => format!("*.{name}"),
        Scope::NameAndBelow => name.to_string(),
        Scope::Only => format!("={name}"),
    }
}

#[cfg(test)]
mod tests;
