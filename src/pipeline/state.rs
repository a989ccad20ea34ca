//! Everything a query is decided by, built from one configuration and replaced as a whole.

use super::Waiter;
use super::access::Access;
use super::cache::{Cache, InFlight};
use super::compose::{self, Composed};
use super::route::{Choice, RouteId, RouteInfo, Routes};
use super::view::Views;
use super::zone::{Apex, Context, LocalAnswer, Outcome, Zones};
use crate::config::{Config, GroupId, GuardMode, OnFailure, PrivateAnswers, ViewId};
use crate::dns::wire::Section;
use crate::dns::{Answer, Name, Query, QuestionKey, Rcode, Rtype, Tag};
use crate::stats::{Stats, Tagged};
use crate::upstream::{Reply, Upstreams};
use std::borrow::Cow;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a [`State`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// The checked configuration.
    pub config: Arc<Config>,
    /// Local data; shared by the states between which no file of it changed.
    pub zones: Arc<Zones>,
    /// Routes, list files read; shared like them.
    pub routes: Arc<Routes>,
    /// Upstream groups.
    pub upstreams: Upstreams,
    /// The resolvers this machine was given.
    pub system: Vec<SocketAddr>,
    /// The cache; kept over reloads that do not change `[cache]`.
    pub cache: Arc<Cache>,
}

/// One configuration at work. Immutable but for the cache and the upstreams' health.
#[derive(Debug)]
pub struct State {
    /// The checked configuration.
    pub config: Arc<Config>,
    /// Upstream groups.
    pub upstreams: Upstreams,
    /// The resolvers this machine was given.
    pub system: Vec<SocketAddr>,
    /// The cache.
    pub cache: Arc<Cache>,
    /// Local data.
    pub zones: Arc<Zones>,
    /// Routes.
    pub routes: Arc<Routes>,
    /// What zones, routes and views are counted as.
    pub tags: Tags,
    pub(super) access: Access,
    pub(super) views: Views,
    /// Questions being worked out by this configuration.
    pub(super) in_flight: InFlight<Waiter>,
    /// Changes when the machine is given other resolvers.
    system_fingerprint: u64,
    /// The cache's epoch this state writes under: answers worked out under an older state are not stored.
    pub(super) epoch: u32,
}

/// Where a name that is not ours goes, and under which rules.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) group: GroupId,
    pub(super) private_answers: PrivateAnswers,
    pub(super) on_failure: OnFailure,
    /// The name must never reach a public server.
    pub(super) private: bool,
    /// Whether replies are judged, before or behind the answer.
    pub(super) guard: GuardMode,
    /// It is by the default for all names, so that nobody has said of this name that it is a public one.
    pub(super) guarded_by_default: bool,
    /// Only servers with private addresses may be asked.
    pub(super) only_private: bool,
    /// The answer when there is no server that may be asked.
    pub(super) local_when_alone: Option<LocalAnswer>,
    /// Why this way, for the trace.
    pub(super) because: Cow<'static, str>,
    fingerprint: u64,
    /// What its names are counted for.
    pub(super) tag: Tag,
}

/// The tags of everything that is counted apart, by its place in the configuration.
#[derive(Debug)]
pub struct Tags {
    /// Of each zone.
    pub zones: Box<[Tag]>,
    /// Of each route somebody wrote.
    pub routes: Box<[Tag]>,
    /// Of those that nobody wrote.
    built_in: Box<[Tag]>,
    /// Of each view; 0 is the default.
    views: Box<[Tag]>,
    search: Tag,
    default: Tag,
}

impl Tags {
    fn new(config: &Config, zones: &Zones, routes: &Routes, stats: &Stats) -> Self {
        let route = |route: &RouteInfo| stats.tag(Tagged::Route, &route.name, "");
        let zone = |zone: Apex| {
            let views = zone.views.iter().flatten().map(|view| config.view_name(*view));
            stats.tag(Tagged::Zone, &zone.name.to_string(), &views.collect::<Vec<_>>().join(","))
        };
        let views = (0..=u16::MAX).take(config.views.len() + 1);
        Self {
            zones: zones.apexes().map(zone).collect(),
            routes: routes.routes().iter().map(route).collect(),
            built_in: routes.built_in().iter().map(route).collect(),
            views: views.map(|view| stats.tag(Tagged::View, config.view_name(ViewId(view)), "")).collect(),
            search: stats.tag(Tagged::Route, routes.search_name(), ""),
            default: stats.tag(Tagged::Route, DEFAULT_ROUTE, ""),
        }
    }

    /// Returns every view with its tag; the first is the default.
    pub fn views(&self) -> impl Iterator<Item = (ViewId, Tag)> {
        (0..=u16::MAX).map(ViewId).zip(self.views.iter().copied())
    }

    /// Returns the tag of a view.
    pub(super) fn view(&self, view: ViewId) -> Tag {
        self.views.get(usize::from(view.0)).copied().unwrap_or_default()
    }

    fn route(&self, id: RouteId) -> Tag {
        let tag = match id {
            RouteId::Written(at) => self.routes.get(usize::from(at)),
            RouteId::BuiltIn(at) => self.built_in.get(usize::from(at)),
            RouteId::Search => Some(&self.search),
            RouteId::Default => Some(&self.default),
        };
        tag.copied().unwrap_or_default()
    }

    /// Returns the tag of the zone that a local answer is of.
    pub(super) fn local(&self, answer: &LocalAnswer) -> Tag {
        answer.zone.and_then(|at| self.zones.get(at)).copied().unwrap_or_default()
    }
}

/// What names that no route takes are counted as.
pub const DEFAULT_ROUTE: &str = "default";

impl State {
    /// Puts the parts together and begins a new epoch of the cache.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { config, zones, routes, upstreams, system, cache } = parts;
        let epoch = cache.next_epoch();
        let access = Access::new(&config.server.allow);
        let views = Views::new(&config);
        let system_fingerprint = foldhash::fast::FixedState::default().hash_one(&system);
        let in_flight = InFlight::default();
        let tags = Tags::new(&config, &zones, &routes, upstreams.stats());
        Self {
            config,
            upstreams,
            system,
            cache,
            zones,
            routes,
            tags,
            access,
            views,
            in_flight,
            system_fingerprint,
            epoch,
        }
    }

    /// Tells whether a name must not be told to public servers: it is one of ours, or its route is private.
    #[must_use]
    pub fn is_private_name(&self, name: &Name) -> bool {
        let qname = name.to_lower();
        let question = QuestionKey { qname, qtype: Rtype::A, dnssec_ok: false, checking_disabled: false };
        let elsewhere = matches!(self.local(ViewId(0), &question), Outcome::NotOurs);
        !elsewhere || self.routes.find(ViewId(0), question.qname.as_wire()).private
    }

    /// Returns what the routes say about a name in lower case, for the client of a query.
    #[must_use]
    pub fn route_of<'a>(&'a self, query: &Query, qname: &'a Name) -> Choice<'a> {
        self.routes.find(self.views.of(query.client.ip(), query.local), qname.as_wire())
    }

    /// Stage 4 for one name.
    pub(super) fn local(&self, view: ViewId, question: &QuestionKey) -> Outcome {
        let routed = RoutedNames { routes: &self.routes, view };
        self.zones.answer(view, &question.qname, question.qtype, question.dnssec_ok, &routed)
    }

    /// Stage 5 for one name; `system_only` is what stage 4 said about it, `from` how the name whose alias led here is guarded.
    pub(super) fn way(&self, view: ViewId, question: &QuestionKey, system_only: bool, from: GuardMode) -> Way {
        if system_only {
            return Way {
                group: self.system_group(),
                private_answers: PrivateAnswers::Allow,
                on_failure: OnFailure::Servfail,
                private: true,
                guard: GuardMode::Off,
                guarded_by_default: false,
                only_private: true,
                local_when_alone: Some(self.zones.withheld(&question.qname)),
                because: "a special-use name: only private system servers may be asked".into(),
                fingerprint: 0,
                tag: self.tags.route(RouteId::Search),
            };
        }
        let choice = self.routes.find(view, question.qname.as_wire());
        Way {
            group: choice.group,
            private_answers: choice.private_answers,
            on_failure: choice.on_failure,
            private: choice.private,
            // A name that an alias of a guarded one leads to is as guarded, unless it is private.
            guard: if choice.private { GuardMode::Off } else { choice.guard.max(handed_on(from)) },
            guarded_by_default: choice.id == RouteId::Default && from <= choice.guard,
            only_private: false,
            local_when_alone: None,
            because: choice.because(),
            fingerprint: choice.fingerprint,
            tag: self.tags.route(choice.id),
        }
    }

    /// Returns the groups that may be asked for public names, without the one whose replies are believed, those `heard` from,
    /// and those of which nothing answers. A group that only private routes or those of other views lead to is not among them;
    /// names that are to be asked over encrypted connections or not at all go to groups with such a floor only.
    pub(super) fn other_groups(&self, view: ViewId, way: &Way, heard: &[GroupId]) -> Vec<GroupId> {
        let all_routes = self.routes.routes().iter().chain(self.routes.built_in());
        let routes = all_routes.filter(|route| !route.private && route.is_for(view));
        let keeps_floor = self.config.group(way.group).has_floor() && way.on_failure != OnFailure::Default;
        let first = [self.config.default_for(view).upstream];
        let mut all: Vec<GroupId> = Vec::new();
        for id in first.into_iter().chain(routes.map(|route| route.group)).chain([self.system_group()]) {
            let chain = std::iter::successors(Some(id), |id| self.config.group(*id).fallback);
            for id in chain.take(self.config.groups.len()) {
                if !all.contains(&id) {
                    all.push(id);
                }
            }
        }
        let references = self.config.guard.references;
        all.retain(|id| *id != references && !heard.contains(id) && !self.upstreams.group_is_down(*id));
        all.retain(|id| !keeps_floor || self.config.group(*id).has_floor());
        all
    }

    /// Returns the groups that are asked on this way, those that stand in for others among them.
    pub(super) fn groups_of(&self, view: ViewId, way: &Way) -> Vec<GroupId> {
        let resort = (way.on_failure == OnFailure::Default).then(|| self.config.default_for(view).upstream);
        let chain = |id| std::iter::successors(Some(id), |id| self.config.group(*id).fallback);
        let most = self.config.groups.len();
        [Some(way.group), resort].into_iter().flatten().flat_map(|id| chain(id).take(most)).collect()
    }

    /// Returns what a question is counted for.
    pub(super) fn tag_of(&self, view: ViewId, question: &QuestionKey) -> Tag {
        match self.local(view, question) {
            Outcome::Local(answer) => self.tags.local(&answer),
            Outcome::PrivateSystemOnly => self.tags.route(RouteId::Search),
            Outcome::NotOurs => self.tags.route(self.routes.find(view, question.qname.as_wire()).id),
        }
    }

    /// Returns the group that may be asked besides, when this way fails because the clock is wrong: for a time server, so that
    /// the clock can be set. Exactly the names that are written, and none that is private.
    pub(super) fn clock_resort(&self, question: &QuestionKey, way: &Way) -> Option<GroupId> {
        let is_public = !way.private && way.group != self.system_group();
        (is_public && self.config.time_servers.contains(&question.qname)).then(|| self.system_group())
    }

    /// Tells whether a reply is of an upstream whose word counts against others'.
    pub(super) fn is_reference(&self, reply: &Reply) -> bool {
        self.upstreams.is_member(self.config.guard.references, &reply.server)
    }

    /// Tells whether an alias that turned up in a reply belongs to a zone of ours or to another route than the
    /// question did: then its records in that reply are not believed (promise 5, users' item 13).
    pub(super) fn is_elsewhere(&self, view: ViewId, question: &QuestionKey, way: &Way, alias: &Name) -> bool {
        let there = QuestionKey { qname: alias.clone(), ..question.clone() };
        match self.local(view, &there) {
            Outcome::Local(_) => true,
            Outcome::PrivateSystemOnly => !way.only_private,
            Outcome::NotOurs => self.routes.find(view, alias.as_wire()).fingerprint != way.fingerprint,
        }
    }

    /// Makes NODATA of a reply's NXDOMAIN about a name that exists here for other types; returns whether it did. One about
    /// the end of an alias chain is about another name.
    pub(super) fn soften(&self, view: ViewId, question: &QuestionKey, composed: &mut Composed) -> bool {
        let routed = RoutedNames { routes: &self.routes, view };
        let exists_here = composed.answer.rcode() == Rcode::NXDOMAIN
            && composed.aliases.is_empty()
            && self.zones.has(view, &question.qname, &routed);
        if exists_here {
            compose::soften(&mut composed.answer);
        }
        exists_here
    }

    /// Returns a number that stays the same over reloads exactly as long as this answer would be decided in the same
    /// way: what decides its name and each alias in it.
    pub(super) fn fingerprint(&self, view: ViewId, qname: &Name, answer: &Answer) -> u64 {
        self.with_aliases(view, self.fingerprint_of(view, qname), answer)
    }

    /// Adds the aliases of an answer to the fingerprint of its own name.
    pub(super) fn with_aliases(&self, view: ViewId, own: u64, answer: &Answer) -> u64 {
        let mut all = own;
        let message = answer.view();
        for at in message.section(Section::Answer).filter(|at| at.rtype == Rtype::CNAME) {
            if let Ok(target) = message.target(&at) {
                all = all.rotate_left(7) ^ self.fingerprint_of(view, &target.to_name().to_lower());
            }
        }
        all
    }

    /// Returns the fingerprint of a question's own name when it follows from the way the question went, which is known
    /// already; deciding it anew costs as much as the way did. `None` where the type matters to the way: zone cuts and
    /// single labels treat these differently.
    pub(super) fn fingerprint_on(&self, view: ViewId, question: &QuestionKey, way: &Way) -> Option<u64> {
        let depends_on_type = matches!(question.qtype, Rtype::NS | Rtype::SOA | Rtype::DS | Rtype::DNSKEY);
        if way.only_private || depends_on_type {
            return None;
        }
        Some(self.fingerprint_with(view, &question.qname, way.group, way.fingerprint, false))
    }

    fn fingerprint_of(&self, view: ViewId, qname: &Name) -> u64 {
        let choice = self.routes.find(view, qname.as_wire());
        let for_private_system = self.is_for_private_system(view, qname);
        self.fingerprint_with(view, qname, choice.group, choice.fingerprint, for_private_system)
    }

    fn fingerprint_with(
        &self,
        view: ViewId,
        qname: &Name,
        group: GroupId,
        route_fingerprint: u64,
        for_private_system: bool,
    ) -> u64 {
        // The machine's resolvers decide where their group is asked, and which special-use names may go out.
        let system = if for_private_system {
            self.routes.system_fingerprint() ^ self.system_fingerprint
        } else if self.asks_system(group) {
            self.system_fingerprint
        } else {
            0
        };
        // An overlay lets types it does not hold through, so both count.
        self.zones.fingerprint(view, qname).rotate_left(1) ^ route_fingerprint ^ system
    }

    /// Tells whether the machine's resolvers are in a group or in one that stands in for it.
    fn asks_system(&self, group: GroupId) -> bool {
        let chain = std::iter::successors(Some(group), |id| self.config.group(*id).fallback);
        chain.take(self.config.groups.len()).any(|id| self.config.group(id).auto)
    }

    fn is_for_private_system(&self, view: ViewId, qname: &Name) -> bool {
        let any_type =
            QuestionKey { qname: qname.clone(), qtype: Rtype::A, dnssec_ok: false, checking_disabled: false };
        matches!(self.local(view, &any_type), Outcome::PrivateSystemOnly)
    }

    /// Returns the group `system`, which every configuration has.
    fn system_group(&self) -> GroupId {
        let at = self.config.groups.iter().position(|group| group.name == "system").unwrap_or(0);
        GroupId(u16::try_from(at).unwrap_or(0))
    }
}

/// Returns what an alias hands on of how its name is judged: a sample of one name is none of another.
fn handed_on(from: GuardMode) -> GuardMode {
    if from == GuardMode::Sample { GuardMode::Off } else { from }
}

/// What the zones need to know about routes: which names the user has routed by hand.
struct RoutedNames<'a> {
    routes: &'a Routes,
    view: ViewId,
}

impl Context for RoutedNames<'_> {
    fn explicitly_routed(&self, name: &Name) -> bool {
        self.routes.explicitly_routed(self.view, name.as_wire())
    }

    fn private_route(&self, name: &Name) -> bool {
        self.routes.find(self.view, name.as_wire()).private
    }
}
