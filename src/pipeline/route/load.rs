//! Makes [`Routes`] out of a configuration and the list files it names.

use super::index::{Added, Index, RouteAt};
use super::list::{self, Flow, ListInfo, Listed};
use super::{Default, RouteInfo, Routes};
use crate::config::{
    Config, Diagnostic, Group, GroupId, Location, MAX_CHAIN, OnFailure, PrivateAnswers, Route, Scope, Tristate, ViewId,
};
use crate::dns::Name;
use std::hash::{BuildHasher, Hash, Hasher};
use std::path::Path;

/// Routes there may be: an index of 16 bits.
const MAX_ROUTES: usize = u16::MAX as usize;
/// Search domains taken: glibc since 2.26 has no limit, and a network that gives more is up to something.
const MAX_SEARCH_DOMAINS: usize = 64;
/// Single labels that networks name themselves by: RFC 6762 appendix G, `internal` (ICANN 2024) and what routers ship with.
const PRIVATE_TLDS: &[&str] =
    &["corp", "domain", "fritz", "home", "internal", "intranet", "lan", "local", "localdomain", "private"];
/// The seed of fingerprints; fixed, so that they mean the same after a restart.
const FINGERPRINT_SEED: u64 = 0x7472_7565_6e61_6d65;
/// The group that search domains go to.
const SYSTEM_GROUP: &str = "system";

impl Routes {
    /// Builds the routes and reads their list files. `is_private` says whether every server of a group has a private
    /// address; `search_domains` are what the networks gave us.
    ///
    /// The routes are complete even when there are diagnostics; whether errors among them matter is the caller's to
    /// decide (a reload refuses, a start may not).
    #[must_use]
    pub fn load(
        config: &Config,
        is_private: &dyn Fn(GroupId) -> bool,
        search_domains: &[Name],
    ) -> (Self, Vec<Diagnostic>) {
        let mut diagnostics = Vec::new();
        let mut index = Index::default();
        if let Some(extra) = config.routes.get(MAX_ROUTES) {
            diagnostics.push(Diagnostic::error("too-many-routes", extra.at.clone(), "at most 65,535 routes"));
        }
        let mut routes = Vec::with_capacity(config.routes.len());
        for (at, route) in (0..RouteAt::MAX).zip(&config.routes) {
            let found = add_patterns(&mut index, at, route, &mut diagnostics);
            let private = match route.private {
                Tristate::Auto => is_private(route.upstream) && !found.has_root,
                Tristate::True => true,
                Tristate::False => false,
            };
            routes.push(RouteInfo {
                lists: found.lists.into(),
                ..RouteInfo::new(config, route, private, found.has_excludes)
            });
            diagnostics.extend(way_out(config, route, is_private).filter(|_| private));
        }
        index.finish();
        let mut built_in = Index::default();
        let mut built_in_routes = Vec::with_capacity(config.built_in.len());
        for (at, route) in (0..RouteAt::MAX).zip(&config.built_in) {
            add_patterns(&mut built_in, at, route, &mut diagnostics);
            built_in_routes.push(RouteInfo::new(config, route, false, false));
        }
        built_in.finish();
        let (search, search_route) = search_routes(config, search_domains, &mut diagnostics);
        let views = (0..=u16::MAX).take(config.views.len() + 1).map(ViewId);
        let defaults = views.map(|view| Default::new(config, view)).collect();
        let built_in_routes = built_in_routes.into();
        let guard_meaning = fingerprint(|state| {
            hash_group(config, config.guard.references, state);
            config.guard.forged.members().hash(state);
            config.guard.lawful.iter().for_each(|pattern| (&pattern.name, pattern.scope).hash(state));
        });
        let routes = routes.into();
        let routes = Self {
            index,
            search,
            routes,
            search_route,
            built_in,
            built_in_routes,
            defaults,
            guard_meaning,
            read_at: None,
        };
        (routes, diagnostics)
    }
}

impl RouteInfo {
    fn new(config: &Config, route: &Route, private: bool, has_excludes: bool) -> Self {
        // Whoever wrote the floor wants these names to be asked over encrypted connections or not at all.
        let has_floor = config.groups.get(usize::from(route.upstream.0)).is_some_and(Group::has_floor);
        let stays = private || has_floor;
        let by_itself = if stays { OnFailure::Servfail } else { OnFailure::Default };
        let allowed = private.then_some(PrivateAnswers::Allow);
        Self {
            name: route.name.clone(),
            at: Some(route.at.clone()),
            views: route.views.as_deref().map(Into::into),
            has_excludes,
            private_answers: route.private_answers.or(allowed),
            guard: route.guard,
            ..Self::bare(config, route.upstream, private, route.on_failure.unwrap_or(by_itself))
        }
    }

    fn bare(config: &Config, group: GroupId, private: bool, on_failure: OnFailure) -> Self {
        let meaning = fingerprint(|state| {
            hash_group(config, group, state);
            (private, on_failure == OnFailure::Default).hash(state);
        });
        let private_answers = private.then_some(PrivateAnswers::Allow);
        Self {
            name: String::new(),
            at: None,
            group,
            private,
            on_failure,
            private_answers,
            guard: None,
            views: None,
            lists: Box::default(),
            has_excludes: false,
            meaning,
        }
    }
}

impl Default {
    fn new(config: &Config, view: ViewId) -> Self {
        let route = config.default_for(view);
        let meaning = fingerprint(|state| {
            hash_group(config, route.upstream, state);
            meaning_of(route.private_answers).hash(state);
        });
        Self { route, meaning }
    }
}

/// What a route's patterns have among them.
struct Found {
    has_root: bool,
    has_excludes: bool,
    lists: Vec<ListInfo>,
}

fn add_patterns(index: &mut Index, at: RouteAt, route: &Route, diagnostics: &mut Vec<Diagnostic>) -> Found {
    let mut found = Found { has_root: false, has_excludes: !route.exclude.is_empty(), lists: Vec::new() };
    for (patterns, exclude) in [(&route.patterns, false), (&route.exclude, true)] {
        for pattern in patterns {
            let name = pattern.name.to_lower();
            found.has_root |= name.is_root() && !exclude;
            if index.add(name.as_wire(), pattern.scope, at, exclude) == Added::Full {
                diagnostics.push(too_many(&pattern.at));
                return found;
            }
        }
    }
    for list in &route.lists {
        let info = list::read(list, diagnostics, &mut |name, scope, listed| {
            let exclude = listed == Listed::Excluded;
            found.has_excludes |= exclude;
            found.has_root |= name.is_root() && !exclude;
            match index.add(name.as_wire(), scope, at, exclude) {
                Added::New | Added::Twice => Flow::GoOn,
                Added::Full => Flow::Full,
            }
        });
        found.lists.push(info);
    }
    found
}

/// Warns of a private route whose names go to public servers once its own are down, because its group has a fallback:
/// the user wrote so, but at the group, maybe with other names in mind.
fn way_out(config: &Config, route: &Route, is_private: &dyn Fn(GroupId) -> bool) -> Option<Diagnostic> {
    let group = |id: GroupId| config.groups.get(usize::from(id.0));
    let fallbacks = std::iter::successors(group(route.upstream)?.fallback, |id| group(*id)?.fallback);
    let public = fallbacks.take(MAX_CHAIN).find(|id| !is_private(*id))?;
    let expected = "a group that falls back to private servers only: the names of this route are private";
    let warning = Diagnostic::warning("private-route-leaves", route.at.clone(), expected);
    let (own, public) = (&group(route.upstream)?.name, &group(public)?.name);
    let found = format!("group {own}, which falls back to {public}, whose servers are not all private");
    let hint = "take the fallback out, or write private = false when public servers may see these names";
    Some(warning.key(format!("route {}", route.name)).found(found).hint(hint))
}

fn search_routes(config: &Config, domains: &[Name], diagnostics: &mut Vec<Diagnostic>) -> (Index, RouteInfo) {
    let system = config.groups.iter().position(|group| group.name == SYSTEM_GROUP);
    let system = system.and_then(|at| u16::try_from(at).ok()).map_or(config.default.upstream, GroupId);
    let mut search = Index::default();
    for domain in domains.iter().take(MAX_SEARCH_DOMAINS) {
        // The root as a search domain means "names as they are"; as a route it would take every name. And a network that
        // names a top-level domain must not get all the names below it, with the right to give them private addresses.
        if domain.label_count() > 1 || is_private_tld(domain) {
            search.add(domain.to_lower().as_wire(), Scope::NameAndBelow, 0, false);
        }
    }
    if domains.len() > MAX_SEARCH_DOMAINS {
        let expected = format!("at most {MAX_SEARCH_DOMAINS} search domains from the networks; the rest is left out");
        let at = Location::file(Path::new("resolv.conf"));
        diagnostics.push(Diagnostic::warning("too-many-search-domains", at, expected).found(domains.len().to_string()));
    }
    let bare = RouteInfo::bare(config, system, true, OnFailure::Servfail);
    (search, RouteInfo { name: "search-domains".to_owned(), ..bare })
}

/// Tells whether a single label is one that networks use for names of their own.
fn is_private_tld(domain: &Name) -> bool {
    let wire = domain.to_lower();
    let label = wire.labels().next().unwrap_or_default();
    domain.label_count() == 1 && PRIVATE_TLDS.iter().any(|known| known.as_bytes() == label)
}

fn too_many(at: &Location) -> Diagnostic {
    let expected = format!("at most {} patterns in all routes together", super::index::MAX_PATTERNS);
    Diagnostic::error("too-many-patterns", at.clone(), expected)
}

/// Hashes who is asked: the group's servers and those of the groups behind it. How one is chosen among them, and how
/// long it may take, changes no answer.
fn hash_group(config: &Config, group: GroupId, state: &mut impl Hasher) {
    let mut next = Some(group);
    for _ in 0..MAX_CHAIN {
        let Some(group) = next.and_then(|id| config.groups.get(usize::from(id.0))) else { return };
        (&group.name, group.auto, group.servers.len()).hash(state);
        group.servers.iter().for_each(|server| (&server.host, &server.rungs).hash(state));
        next = group.fallback;
    }
}

/// Returns a number for each of the three words.
pub(super) fn meaning_of(private_answers: PrivateAnswers) -> u64 {
    match private_answers {
        PrivateAnswers::Auto => 1,
        PrivateAnswers::Drop => 2,
        PrivateAnswers::Allow => 3,
    }
}

/// Makes one number of several.
pub(super) fn mix(parts: &[u64]) -> u64 {
    fingerprint(|state| parts.iter().for_each(|&part| state.write_u64(part)))
}

fn fingerprint(write: impl FnOnce(&mut foldhash::quality::FoldHasher<'_>)) -> u64 {
    let mut state = foldhash::quality::FixedState::with_seed(FINGERPRINT_SEED).build_hasher();
    write(&mut state);
    state.finish()
}
