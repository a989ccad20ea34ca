//! The order in which a query is decided, once.
//!
//! ```text
//!   1 access    who may ask                     first: nothing is spent on strangers
//!   2 view      client × listener               before the cache: the view is part of its key, so that split
//!                                               horizon cannot leak through it
//!   3 cache     fresh | stale candidate | miss  before the zones: local answers are stored there too, as bytes
//!   4 zone      rewrites, hosts, zones, special before routes: what is ours is never asked elsewhere
//!   5 route     name × view ─▶ upstream group
//!   6 exchange  upstream group ─▶ reply
//!   7 guard     guarded names only: is it true?  before it is composed and stored, so that a lie never is
//!   8 compose   the alias chain; every alias that somebody else owns goes back to 3 under its own name
//!   9 store     answer ─▶ cache
//!  10 respond   answer ─▶ bytes for this client
//! ```
//!
//! No stage calls another; only this file knows
//! two of them. Identical questions in flight are worked out once: the first is the leader, the others wait for it.
//! Only questions of one configuration are: after a reload the answer, and even who a view's clients are, may differ.
//! What goes on without a client (refreshing stale and popular answers) takes the same stages, `refresh.rs`.

pub mod access;
pub mod cache;
pub mod compose;
pub mod guard;
pub mod respond;
pub mod route;
pub mod said;
pub mod special_types;
pub mod view;
pub mod zone;

mod fast;
mod judge;
mod keep;
mod refresh;
mod state;
mod text;

pub use fast::FastPath;
pub use state::{DEFAULT_ROUTE, Parts, State};

use crate::clock::{Clock, Tick};
use crate::config::{GuardMode, OnFailure, PrivateAnswers, ViewId};
use crate::dns::answer::ede;
use crate::dns::encode::{self, MessageBuilder};
use crate::dns::trace::Seen;
use crate::dns::wire::{Message, Section, flag};
use crate::dns::{Answer, Ede, Name, Origin, Query, QuestionKey, Rcode, Record, Rtype, Stage, Tag, Trace};
use crate::stats::{Counter, Stats};
use crate::upstream::{Acceptance, Ask, Failure, Heir, Hold, Reply};
use arc_swap::ArcSwap;
use cache::{Guard, KeyBuf, Role, Staleness};
use compose::AddressPolicy;
use judge::{Judged, Learnt, Unusable};
use keep::{Late, PLACE, Provenance, cap_stand_in, keep};
use refresh::{Background, StaleAnswer};
use said::Record as Said;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use text::{asker, key_text, origin_text, staleness_text};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, Level};
use zone::{LocalAnswer, Outcome};

/// All that one question may take. glibc and Go ask again after 5 s (docs/promises.md 1).
pub const BUDGET: Duration = Duration::from_millis(4500);
/// How much longer than the budget a question waits for the one who asks the same: its leader may have begun later.
const BUDGET_SLACK: Duration = Duration::from_millis(200);
/// What a route's own group may use of the time when the default group is asked after it.
const FIRST_GROUP_SHARE: f64 = 2.0 / 3.0;
/// How often a waiting question looks for another leader when its own died.
const LEADER_RETRIES: usize = 2;

/// Everything between a listener and the upstreams. Shared by all workers; clones share it too.
#[derive(Debug, Clone)]
pub struct Pipeline {
    state: Arc<ArcSwap<State>>,
    background: Background,
    learnt: Arc<Learnt>,
    said: Arc<Mutex<said::Records>>,
    clock: Clock,
    stats: Arc<Stats>,
}

/// Who waits for the answer to a question that somebody else has asked.
type Waiter = oneshot::Sender<Shared>;

/// An answer handed to those who have asked the same, with what it is counted for and the upstream that gave it.
type Shared = (Arc<Answer>, Tag, Option<Arc<str>>);

/// What stage 3 found.
enum Found {
    /// An answer.
    Fresh(Answer),
    /// One that may be used when nothing better is to be had.
    Stale(StaleAnswer),
    /// Nothing to use.
    Nothing,
}

/// One name of an alias chain, decided.
struct Hop {
    answer: Answer,
    /// What leads on to another name, and that name.
    follow: Option<(Vec<Record>, Name)>,
    /// Whoever gave it may not give loopback addresses, so its alias may not lead to any either.
    guarded: bool,
}

impl Hop {
    /// The last one.
    fn end(answer: Answer) -> Self {
        Self { answer, follow: None, guarded: false }
    }
}

/// What truename knows about a name by itself.
enum Local {
    /// Everything.
    Decided(Hop),
    /// Nothing: its route decides.
    NotOurs,
    /// Only private servers of the machine may be asked.
    SystemOnly,
}

/// A question under way: what every stage of it needs.
struct Work<'a> {
    state: &'a Arc<State>,
    view: ViewId,
    deadline: Instant,
    started: Instant,
    /// What has come to be known of the answer.
    known: Provenance,
    /// How the names on the way were guarded, so that what their aliases lead to is too.
    guard: GuardMode,
    /// Asked anew, whatever is cached, and not kept.
    fresh: bool,
    /// Replies that come too late for it are kept for the next who asks.
    keeps_late: bool,
    /// What is left of the time for which a client who has an answer at hand waits for a trusted one.
    patience: Duration,
    /// Where the channel of a reply in a datagram is left, when somebody wants to listen on.
    hold: Option<Arc<Hold>>,
    /// No server of this operator is asked.
    apart_from: Option<Arc<str>>,
    /// The first name that upstreams were asked for, when an alias has led on from it: what its servers' certificates are of.
    begun: Option<Name>,
    trace: &'a mut Trace,
}

impl Work<'_> {
    fn step<S: Into<String>, D: Into<String>, B: Into<String>>(
        &mut self,
        stage: Stage,
        line: impl FnOnce() -> (S, D, B),
    ) {
        let logged = tracing::enabled!(Level::DEBUG);
        if !logged && !self.trace.is_on() {
            return;
        }
        let (saw, decided, because) = line();
        let (saw, decided, because) = (saw.into(), decided.into(), because.into());
        self.trace.elapsed = self.started.elapsed();
        if logged {
            let elapsed_ms = self.trace.elapsed.as_secs_f64() * 1000.0;
            tracing::debug!(stage = stage.as_str(), saw, decision = decided, reason = because, elapsed_ms, "stage");
        }
        self.trace.step(stage, || (saw, decided, because));
    }
}

impl Pipeline {
    /// Makes a pipeline that works by `state`.
    #[must_use]
    pub fn new(state: State, clock: Clock, stats: Arc<Stats>) -> Self {
        let state = Arc::new(ArcSwap::from_pointee(state));
        let (background, learnt, said) = (Background::default(), Arc::default(), Arc::default());
        Self { state, background, learnt, said, clock, stats }
    }

    /// Returns the state in force.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Puts another state in force at once. Cached answers that it would decide otherwise become invisible; the
    /// others are kept, as are questions in flight, which end under the state they began with.
    pub fn replace(&self, state: State) {
        self.state.store(Arc::new(state));
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Reads the moment.
    #[must_use]
    pub fn now(&self) -> Tick {
        self.clock.now()
    }

    /// Returns the largest datagram to send.
    #[must_use]
    pub fn udp_payload_bytes(&self) -> u16 {
        self.state.load().config.server.udp_payload_bytes
    }

    /// Decides one query, every stage in order, within [`BUDGET`]. Always returns an answer.
    pub async fn answer(&self, query: &Query, trace: &mut Trace) -> Answer {
        let (qname, qtype, view) = (&query.qname, query.qtype, tracing::field::Empty);
        let (client, transport) = (query.client, query.transport);
        let span = tracing::debug_span!("query", %qname, %qtype, %client, %transport, view);
        self.answer_in_span(query, false, trace).instrument(span).await
    }

    /// Decides one query anew, whatever is cached, for whoever wants to know what would come of it. The answer is not kept.
    pub async fn answer_fresh(&self, query: &Query, trace: &mut Trace) -> Answer {
        self.answer_in_span(query, true, trace).await
    }

    async fn answer_in_span(&self, query: &Query, fresh: bool, trace: &mut Trace) -> Answer {
        let started = Instant::now();
        let state = self.state.load_full();
        let mut work = Work {
            state: &state,
            view: ViewId(0),
            deadline: started + BUDGET,
            started,
            known: Provenance::default(),
            guard: GuardMode::Off,
            fresh,
            keeps_late: !fresh,
            patience: state.config.guard.budget,
            hold: None,
            apart_from: None,
            begun: None,
            trace,
        };
        // No timer around the whole: the two awaits in it, the exchange and the wait for a leader, have the deadline.
        let answer = self.decide(query, &mut work).await;
        work.step(Stage::Respond, || {
            (
                asker(query),
                answer.rcode().to_string(),
                format!("{}, {} octets", origin_text(answer.origin), answer.message.len()),
            )
        });
        answer
    }

    /// Appends the bytes of an answer for the client of `query`.
    pub fn respond(&self, query: &Query, answer: &Answer, out: &mut Vec<u8>) {
        let state = self.state.load();
        respond::respond(query, answer, state.config.server.udp_payload_bytes, state.config.server.edns_errors, out);
    }

    /// Stages 1 to 9.
    async fn decide(&self, query: &Query, work: &mut Work<'_>) -> Answer {
        let client = query.client.ip();
        if !work.state.access.allows(client) {
            self.stats.count(Counter::Refused);
            work.step(Stage::Access, || (client.to_string(), "REFUSED", "server.access.allow does not have it"));
            let why = Ede::new(ede::PROHIBITED, "this client may not ask");
            return encode::empty(&query.qname, query.qtype, Rcode::REFUSED, Some(why));
        }
        work.step(Stage::Access, || (client.to_string(), "allowed", "server.access.allow has it"));
        if let Some(answer) = special_types::answer(query) {
            work.step(Stage::Zone, || {
                (
                    format!("type {}, class {}", query.qtype, query.qclass),
                    answer.rcode().to_string(),
                    "this type or class is answered without looking at the name",
                )
            });
            return answer;
        }
        work.view = work.state.views.of(client, query.local);
        let view = work.view;
        work.trace.view = work.state.tags.view(view);
        let view_name = work.state.config.view_name(view);
        tracing::Span::current().record("view", view_name);
        let has_views = !work.state.config.views.is_empty();
        work.step(Stage::View, || {
            let why =
                if has_views { "the first [[view]] that matches, else default" } else { "no [[view]] is configured" };
            (asker(query), format!("view {view_name}"), why)
        });
        let question = query.question();
        let key = KeyBuf::of(PLACE, view, &question);
        if work.fresh {
            return self.resolve(&question, work).await;
        }
        let stale = match self.cached(&question, &key, work) {
            Found::Fresh(answer) => return answer,
            Found::Stale(stale) if stale.staleness == Staleness::AtOnce => return stale.answer,
            Found::Stale(stale) => Some(stale),
            Found::Nothing => None,
        };
        if !query.recursion_desired {
            return self.without_recursion(&question, work);
        }
        // Before merging: a question that is in flight already may be our own, come back through an upstream.
        work.state.upstreams.note_arrival(&question);
        match stale {
            Some(stale) => self.refreshed(&question, stale, work).await,
            None => self.led(&question, &key, work).await,
        }
    }

    /// Stage 3: an answer from the cache, if the present state would still decide it the same way.
    fn cached(&self, question: &QuestionKey, key: &KeyBuf, work: &mut Work<'_>) -> Found {
        if work.fresh {
            return Found::Nothing;
        }
        let Some(mut cached) = work.state.cache.get(key, work.state.epoch, self.clock.now()) else {
            work.step(Stage::Cache, || {
                (key_text(question), "miss", "nothing usable is stored under this name, type and view")
            });
            return Found::Nothing;
        };
        let valid = cached.current || {
            let fingerprint = work.state.fingerprint(work.view, &question.qname, &cached.answer);
            let same = work.state.cache.revalidate(key, fingerprint, work.state.epoch);
            if same {
                cached.tag = work.state.tag_of(work.view, question);
                work.state.cache.count_for(key, cached.tag);
            }
            same
        };
        work.step(Stage::Cache, || {
            let (age_s, origin) = (cached.age.as_secs(), origin_text(cached.answer.origin));
            let (decided, so) = match (valid, cached.staleness) {
                (false, _) => ("miss", "; the configuration has changed what decides it"),
                (true, None) => ("hit", ""),
                (true, Some(staleness)) => ("stale", staleness_text(staleness)),
            };
            (key_text(question), decided, format!("{age_s} s old, {origin}{so}"))
        });
        if !valid {
            return Found::Nothing;
        }
        work.trace.decided_by(cached.tag);
        let mut answer = cached.answer;
        if let Some(staleness) = cached.staleness {
            return Found::Stale(StaleAnswer { answer, staleness });
        }
        // What it becomes part of is as doubtful.
        work.known.disputed |= cached.is_disputed;
        if cached.ask_again {
            self.prefetch(work.state, work.view, question.clone());
        }
        if !answer.origin.is_local() {
            answer.origin = Origin::Cache;
        }
        Found::Fresh(answer)
    }

    /// A question without RD is answered from what is here, never by asking others (RFC 1034 section 4.3.1).
    fn without_recursion(&self, question: &QuestionKey, work: &mut Work<'_>) -> Answer {
        match self.local(question, work) {
            Local::Decided(hop) => hop.answer,
            Local::NotOurs | Local::SystemOnly => {
                let why = Ede::new(ede::NOT_AUTHORITATIVE, "not local and not cached; set RD to have it asked");
                encode::empty(&question.qname, question.qtype, Rcode::REFUSED, Some(why))
            }
        }
    }

    /// Works the question out, or waits for the one who does.
    async fn led(&self, question: &QuestionKey, key: &KeyBuf, work: &mut Work<'_>) -> Answer {
        for _ in 0..=LEADER_RETRIES {
            let (sender, receiver) = oneshot::channel();
            match work.state.in_flight.join(key, sender) {
                Role::Leader(lead, _) => {
                    let mut answer = self.resolve(question, work).await;
                    self.store(question, &mut answer, work);
                    hand_out(lead, &answer, work.trace);
                    return answer;
                }
                Role::Follower => {
                    self.stats.count(Counter::Merged);
                    work.step(Stage::Exchange, || (key_text(question), "wait", "the same question is in flight"));
                    match timeout_at(work.deadline + BUDGET_SLACK, receiver).await {
                        Ok(Ok(shared)) => return taken(shared, work.trace),
                        // The leader died.
                        Ok(Err(_)) => {}
                        Err(_) => return self.out_of_time(question),
                    }
                }
                Role::Full(_) => break,
            }
        }
        self.stats.count_at_bound(Counter::WaitersFull);
        let why = "too many wait for this question, or those who asked it were cut off";
        encode::servfail(&question.qname, question.qtype, Ede::new(ede::NOT_READY, why))
    }

    fn out_of_time(&self, question: &QuestionKey) -> Answer {
        self.stats.count(Counter::BudgetExceeded);
        let why = Ede::new(ede::NO_REACHABLE_AUTHORITY, "the time budget is over");
        encode::servfail(&question.qname, question.qtype, why)
    }

    /// Follows the question through every alias, each hop through all stages under its own name.
    async fn resolve(&self, question: &QuestionKey, work: &mut Work<'_>) -> Answer {
        let mut before: Vec<Record> = Vec::new();
        let mut authentic = true;
        let (mut foreign, mut guarded) = (false, false);
        // The names followed, without the question's own.
        let mut names: Vec<Name> = Vec::new();
        let mut aliased: Option<QuestionKey> = None;
        loop {
            let here = aliased.as_ref().unwrap_or(question);
            let hop = self.hop(here, !names.is_empty(), work).await;
            let Some((records, next)) = hop.follow else {
                if before.is_empty() {
                    return hop.answer;
                }
                if guarded && hop.answer.origin.is_local() && compose::has_loopback(&hop.answer) {
                    return self.rebound(question, &here.qname, work);
                }
                let mut answer = compose::join(question, &before, &hop.answer, authentic);
                if foreign && answer.origin.is_local() {
                    // One foreign alias, and the whole is kept no longer than its TTL.
                    answer.origin = Origin::Upstream;
                }
                return answer;
            };
            foreign |= !hop.answer.origin.is_local();
            // A name that nobody guards, or that is private, is shown to nobody for a certificate.
            if foreign && work.guard == GuardMode::Enforce && work.begun.is_none() {
                work.begun = Some(here.qname.clone());
            }
            guarded |= hop.guarded;
            authentic &= hop.answer.view().has(flag::AD);
            before.extend(records);
            if next == question.qname || names.contains(&next) || names.len() >= compose::MAX_ALIASES {
                work.step(Stage::Compose, || (next.to_string(), "SERVFAIL", "the alias chain loops or is too long"));
                return endless(question);
            }
            work.step(Stage::Compose, || {
                (here.qname.to_string(), format!("follow {next}"), "an alias that is answered elsewhere")
            });
            aliased = Some(QuestionKey { qname: next.clone(), ..question.clone() });
            names.push(next);
        }
    }

    /// Ends a question whose alias, given by somebody who may not give loopback addresses, leads to one of ours: else
    /// `CNAME localhost` would go round `private_answers`.
    fn rebound(&self, question: &QuestionKey, at: &Name, work: &mut Work<'_>) -> Answer {
        self.stats.count(Counter::PrivateDropped);
        work.step(Stage::Compose, || (at.to_string(), "SERVFAIL", "an upstream's alias leads to this machine"));
        let why = Ede::new(ede::FILTERED, "an alias of a public name leads to this machine");
        encode::servfail(&question.qname, question.qtype, why)
    }

    /// Stages 3 to 8 for one name.
    async fn hop(&self, question: &QuestionKey, is_alias: bool, work: &mut Work<'_>) -> Hop {
        // What is cached of an unguarded name nobody has looked at.
        if is_alias
            && work.guard != GuardMode::Enforce
            && let Found::Fresh(answer) = self.cached(question, &KeyBuf::of(PLACE, work.view, question), work)
        {
            return Hop::end(answer);
        }
        let system_only = match self.local(question, work) {
            Local::Decided(hop) => return hop,
            Local::NotOurs => false,
            Local::SystemOnly => true,
        };
        if question.qtype == Rtype::ANY {
            return Hop::end(special_types::minimal_any(&question.qname));
        }
        let way = work.state.way(work.view, question, system_only, work.guard);
        work.guard = work.guard.max(way.guard);
        work.trace.decided_by(way.tag);
        if !is_alias {
            work.known.own_fingerprint = work.state.fingerprint_on(work.view, question, &way);
        }
        self.forward(question, &way, work).await
    }

    /// Stage 4: what truename knows by itself.
    fn local(&self, question: &QuestionKey, work: &mut Work<'_>) -> Local {
        let (elsewhere, why) = match work.state.local(work.view, question) {
            Outcome::Local(local) => {
                work.trace.decided_by(work.state.tags.local(&local));
                work.step(Stage::Zone, || (key_text(question), local.rcode.to_string(), local.source.clone()));
                return Local::Decided(local_hop(question, local));
            }
            Outcome::NotOurs => (Local::NotOurs, "no rewrite, hosts line, zone or special-use name has it"),
            Outcome::PrivateSystemOnly => (Local::SystemOnly, "a special-use name that only private resolvers may see"),
        };
        work.step(Stage::Zone, || (key_text(question), "not ours", why));
        elsewhere
    }

    /// Stages 5 to 8: asks the group the name is routed to, and reduces its reply to what is believed.
    async fn forward(&self, question: &QuestionKey, way: &state::Way, work: &mut Work<'_>) -> Hop {
        work.step(Stage::Route, || {
            (
                question.qname.to_string(),
                format!("group {}", work.state.config.group(way.group).name),
                way.because.clone(),
            )
        });
        let judged = if way.guard == GuardMode::Enforce {
            // Boxed: the many names that are not guarded need no room for it.
            Box::pin(self.guarded(question, way, work)).await
        } else {
            let watches = way.guard == GuardMode::Watch && work.state.config.guard.hold_on;
            work.hold = watches.then(Arc::default);
            let asked = self.exchange(question, way, work).await;
            asked.map_err(Unusable::Failed).map(Judged::unlooked)
        };
        if way.guard == GuardMode::Watch
            && let Ok(judged) = &judged
        {
            self.watch(question, way, judged, work);
        }
        if way.guard == GuardMode::Sample
            && let Ok(judged) = &judged
        {
            self.sample(question, way, judged, work);
        }
        let Judged { reply, policy, keep_at_most, why } = match judged {
            Ok(judged) => judged,
            Err(Unusable::Failed(failure)) => {
                self.note(question, Said::failed(&failure, self.clock.now()), work);
                return Hop::end(failed(question, &failure, way.local_when_alone.clone()));
            }
            Err(Unusable::Distrusted) => {
                let why =
                    Ede::new(ede::FORGED_ANSWER, "what was answered looks forged, and nothing trusted can be had");
                return Hop::end(encode::servfail(&question.qname, question.qtype, why));
            }
        };
        work.trace.answered_by(&reply.server);
        let mut composed = match compose::compose(question, &reply.message, policy, reply.transport.is_encrypted()) {
            Ok(composed) => composed,
            Err(error) => {
                work.step(Stage::Compose, || (format!("reply from {}", reply.server), "SERVFAIL", error.to_string()));
                let why = Ede::new(ede::INVALID_DATA, "the upstream's reply is malformed");
                return Hop::end(encode::servfail(&question.qname, question.qtype, why));
            }
        };
        if work.state.soften(work.view, question, &mut composed) {
            work.step(Stage::Compose, || (key_text(question), "NOERROR", "the name exists here, for other types"));
        }
        if let Some(most) = keep_at_most {
            work.known.disputed = true;
            cache::cap_ttls(&mut composed.answer.message, u32::try_from(most.as_secs()).unwrap_or(u32::MAX));
            composed.answer.ede = composed.answer.ede.or(why);
        }
        if composed.scrubbed {
            self.stats.count(Counter::Scrubbed);
        }
        work.step(Stage::Compose, || {
            let aliases = match composed.aliases.len() {
                0 => "no alias".to_owned(),
                1 => "one alias".to_owned(),
                many => format!("{many} aliases"),
            };
            let kept = if composed.scrubbed { "records beside the alias chain taken out" } else { "kept whole" };
            let saw = format!("reply from {}", reply.server);
            (saw, composed.answer.rcode().to_string(), format!("{aliases}; {kept}"))
        });
        let elsewhere = composed.aliases.iter().find(|alias| work.state.is_elsewhere(work.view, question, way, alias));
        if composed.loops && elsewhere.is_none() {
            return Hop::end(endless(question));
        }
        let next = elsewhere.or_else(|| composed.aliases.last().filter(|_| composed.broken)).cloned();
        // Of a guarded name the guard has noted more.
        if way.guard != GuardMode::Enforce {
            self.note(question, Said::of(reply, self.clock.now()), work);
        }
        let follow = next.map(|next| (compose::records_up_to(&composed.answer, &next), next));
        Hop { answer: composed.answer, follow, guarded: policy.private_answers != PrivateAnswers::Allow }
    }

    /// Keeps what was said about a question, for whoever wants to know afterwards.
    fn note(&self, question: &QuestionKey, record: Said, work: &Work<'_>) {
        if !work.fresh {
            self.said().keep(work.view, question, &record);
        }
    }

    fn said(&self) -> MutexGuard<'_, said::Records> {
        // The records are whole between any two statements that could panic.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes answers from the cache, with what was said about their names: whoever has something flushed wants it gone, and
    /// what comes next is explained by itself. Returns how many answers went.
    pub fn flush(&self, what: cache::Flush<'_>) -> usize {
        self.said().forget(|question| what.means(question.qname.as_wire()));
        self.state.load().cache.flush(what)
    }

    /// Returns what was said, when it was asked last, about each name of an answer's alias chain, as far as that is known.
    #[must_use]
    pub fn said_about(&self, query: &Query, answer: &Answer) -> Vec<(QuestionKey, Said)> {
        let view = self.state.load().views.of(query.client.ip(), query.local);
        let message = answer.view();
        let targets = message.section(Section::Answer).filter(|at| at.rtype == Rtype::CNAME);
        let targets = targets.filter_map(|at| Some(message.target(&at).ok()?.to_name().to_lower()));
        let own = query.question();
        let names = std::iter::once(own.qname.clone()).chain(targets);
        let questions = names.map(|qname| QuestionKey { qname, ..own.clone() });
        let records = self.said();
        questions.filter_map(|question| Some((question.clone(), records.get(view, &question)?))).collect()
    }

    /// Stage 6: the route's group, its fallbacks, then what `on_failure` says; for a time server whose name cannot be found
    /// because the clock is wrong, the machine's own resolvers.
    async fn exchange(
        &self,
        question: &QuestionKey,
        way: &state::Way,
        work: &mut Work<'_>,
    ) -> Result<(Reply, AddressPolicy), Box<Failure>> {
        let mut found = self.ask_all(question, way, work).await;
        if let Ok((reply, _)) = &mut found {
            cap_stand_in(reply, way.group);
        }
        found
    }

    async fn ask_all(
        &self,
        question: &QuestionKey,
        way: &state::Way,
        work: &mut Work<'_>,
    ) -> Result<(Reply, AddressPolicy), Box<Failure>> {
        let default = work.state.config.default_for(work.view);
        let has_resort = way.on_failure == OnFailure::Default && !way.only_private && default.upstream != way.group;
        let state = work.state;
        let clock_resort = || state.clock_resort(question, way);
        let whole = work.deadline;
        if has_resort || state.upstreams.wrong_clock().is_some() && clock_resort().is_some() {
            let now = Instant::now();
            work.deadline = now + whole.saturating_duration_since(now).mul_f64(FIRST_GROUP_SHARE);
        }
        let first = self.ask(question, way, (way.group, has_resort), way.private_answers, work).await;
        work.deadline = whole;
        let failure = match first {
            Err(failure) if has_resort => {
                work.step(Stage::Route, || (failure.summary.clone(), "the default group", "on_failure = \"default\""));
                match self.ask(question, way, (default.upstream, false), default.private_answers, work).await {
                    Err(second) => Box::new(Failure { clock: failure.clock.or(second.clock), ..*second }),
                    found => return found,
                }
            }
            Err(failure) => failure,
            found => return found,
        };
        let (Some(clock), Some(system)) = (failure.clock, failure.clock.and_then(|_| clock_resort())) else {
            return Err(failure);
        };
        self.stats.count(Counter::ClockResorts);
        work.step(Stage::Route, || (clock.to_string(), "group system", "default.time_servers has the name"));
        self.ask(question, way, (system, false), way.private_answers, work).await
    }

    /// Asks one group on the way of a question; `resort` tells whether another is asked after it.
    async fn ask(
        &self,
        question: &QuestionKey,
        way: &state::Way,
        (group, resort): (crate::config::GroupId, bool),
        private_answers: PrivateAnswers,
        work: &mut Work<'_>,
    ) -> Result<(Reply, AddressPolicy), Box<Failure>> {
        let policy = |server_is_private| AddressPolicy { private_answers, server_is_private };
        let stats = &self.stats;
        let acceptable = |message: &Message<'_>, server: &crate::upstream::ServerInfo| {
            if compose::is_filtered_to_nothing(message, question, policy(server.private)) {
                stats.count(Counter::PrivateDropped);
                Acceptance::Reject("private addresses from a public server")
            } else {
                Acceptance::Accept
            }
        };
        let (state, view) = (work.state, work.view);
        let heir = || -> Heir {
            let late = Late {
                state: Arc::clone(state),
                view,
                question: question.clone(),
                way: way.clone(),
                private_answers,
                clock: self.clock.clone(),
                stats: Arc::clone(stats),
            };
            Box::new(move |reply| late.keep(reply))
        };
        let hold = work.hold.clone();
        let ask = Ask {
            only_private: way.only_private,
            resort,
            apart_from: work.apart_from.as_deref(),
            hold: hold.as_deref(),
            acceptable: &acceptable,
            heir: if work.keeps_late { Some(&heir) } else { None },
            ..Ask::new(group, question, work.deadline)
        };
        if work.trace.is_on() {
            work.trace.elapsed = work.started.elapsed();
        }
        let result = work.state.upstreams.ask(ask, work.trace).await;
        work.step(Stage::Exchange, || match &result {
            Ok(reply) => (
                format!("{} of {}", key_text(question), reply.server),
                format!("reply in {:.1} ms over {}", reply.rtt.as_secs_f64() * 1000.0, reply.transport),
                format!("{} sent", reply.sends),
            ),
            Err(failure) => (key_text(question), "no answer".to_owned(), failure.summary.clone()),
        });
        // What is no answer tells something too.
        if let Some(reply) = result.as_ref().map_or_else(|failure| failure.best.as_ref(), Some) {
            work.trace.reply(|| Seen {
                upstream: reply.server.to_string(),
                transport: reply.transport.to_string(),
                rtt: reply.rtt,
                message: reply.message.clone(),
            });
        }
        result.map(|reply| {
            let policy = policy(reply.is_private);
            (reply, policy)
        })
    }

    /// Stage 9: keeps the answer for as long as its records allow, and lowers its TTLs to that.
    fn store(&self, question: &QuestionKey, answer: &mut Answer, work: &mut Work<'_>) {
        let known = Provenance { tag: work.trace.by, ..work.known };
        let kept = keep(work.state, work.view, question, answer, known, self.clock.now(), &self.stats);
        work.step(Stage::Store, || match kept {
            Some((lifetime, inserted)) if inserted.stored => (key_text(question), "kept", lifetime.to_string()),
            Some((_, inserted)) if inserted.better_stays => {
                (key_text(question), "not kept", "a failure, or disputed; the answer from before stays".to_owned())
            }
            Some((_, inserted)) if inserted.too_large => {
                (key_text(question), "not kept", "too many records, or octets, for the cache".to_owned())
            }
            Some(_) => (key_text(question), "not kept", "decided by a configuration that has been replaced".to_owned()),
            None => (
                key_text(question),
                "not kept",
                "a TTL of 0, no SOA to say for how long, or an answer only for this client".to_owned(),
            ),
        });
    }
}

/// Ends a question in flight: everybody who waits for it gets the answer.
fn hand_out(lead: Guard<Waiter>, answer: &Answer, trace: &Trace) {
    let waiting = lead.finish();
    if waiting.is_empty() {
        return;
    }
    let shared = Arc::new(answer.clone());
    for waiter in waiting {
        // A waiter whose client is gone has dropped its receiver.
        drop(waiter.send((Arc::clone(&shared), trace.by, trace.upstream.clone())));
    }
}

/// Takes an answer that somebody else has worked out, and notes who decided it.
fn taken((answer, by, upstream): Shared, trace: &mut Trace) -> Answer {
    trace.decided_by(by);
    if let Some(upstream) = &upstream {
        trace.answered_by(upstream);
    }
    Arc::unwrap_or_clone(answer)
}

/// Turns what a zone knows into an answer, and its alias out of the zone into the next hop.
fn local_hop(question: &QuestionKey, local: LocalAnswer) -> Hop {
    let mut builder = MessageBuilder::response(&question.qname, question.qtype, local.rcode);
    if local.authoritative {
        builder.or_flags(flag::AA);
    }
    for record in &local.answers {
        builder.push(Section::Answer, record);
    }
    for record in &local.authority {
        builder.push(Section::Authority, record);
    }
    let answer = Answer { message: builder.finish(), origin: local.origin, ede: local.ede };
    Hop { answer, follow: local.follow.map(|next| (local.answers, next)), guarded: false }
}

/// What the client gets for aliases that lead nowhere.
fn endless(question: &QuestionKey) -> Answer {
    let why = Ede::new(ede::OTHER, "the alias chain loops or is too long");
    encode::servfail(&question.qname, question.qtype, why)
}

/// What the client gets when no upstream helped: the upstreams' own error code when they had one.
fn failed(question: &QuestionKey, failure: &Failure, local_when_alone: Option<LocalAnswer>) -> Answer {
    if let (Some(local), crate::upstream::FailureKind::NoServers) = (local_when_alone, failure.kind) {
        return local_hop(question, local).answer;
    }
    encode::servfail(&question.qname, question.qtype, failure.ede())
}

#[cfg(test)]
mod tests;
