//! Runs the plan of a question: sends, waits on all channels and one timer at once, judges what arrives.
//!
//! Decides nothing about order or time ([`super::group`]), nothing about bytes ([`super::reply`]) and nothing about groups
//! ([`super::resort`]). Channels of the group before stay open, so that its late reply still counts. When an answer is
//! found, what is still owed is listened for in the background for a moment: it teaches which servers live.

use super::attempts::{Arrival, Attempt, Attempts, learn, make_reply};
use super::group::{self, Next, Plan, Setting, Why};
use super::health::Standing;
use super::ladder::Climb;
use super::loops::UnderWay;
use super::place::Stay;
use super::reply::{Poor, Sent, Shape, Worth};
use super::seen::{Seen, poor_rank};
use super::servers::{GroupState, Server};
use super::sockets::Need;
use super::transport::{Channel, Way, udp};
use super::{Acceptance, Ask, Failure, Heir, Inner, Net, Reply, awake, linger};
use crate::clock::Tick;
use crate::config::{GroupId, UpstreamTransport};
use crate::dns::wire::Message;
use crate::dns::{Rcode, Stage, Trace};
use crate::stats::Counter;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Queries to one server, none answered, after which a repeat goes without EDNS: some drop what they cannot read.
const PLAIN_AFTER: u8 = 2;
/// How long owed replies are listened for after an answer.
const LINGER_ANSWERED: Duration = Duration::from_millis(1500);
/// How long they are listened for, from the start of the question, when there was none: they teach patience, and an
/// answer among them still serves the next who asks. Stub resolvers ask again after 5 s, twice.
const LINGER_FAILED: Duration = Duration::from_secs(10);
/// The share of the budget a group may use when another stands behind it.
const FALLBACK_SHARE: f64 = 2.0 / 3.0;

/// One question on its way through the groups.
pub(super) struct Exchange<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) ask: Ask<'a>,
    trace: &'a mut Trace,
    trace_base: Duration,
    attempts: Attempts,
    /// How far the question has climbed the ladders of servers that have more than one rung.
    climbs: Vec<((GroupId, usize), Climb)>,
    pub(super) start: Instant,
    pub(super) start_tick: Tick,
    stay: Stay,
    pub(super) sends: u32,
    seen: Seen,
    /// A query was not sent for want of something of our own.
    pub(super) scarce: bool,
}

/// A group on the way of a question.
#[derive(Clone, Copy)]
pub(super) struct Hold<'a> {
    pub(super) id: GroupId,
    pub(super) state: &'a GroupState,
    /// Another group of the configuration stands behind it.
    pub(super) has_fallback: bool,
    /// It is asked to learn whether it answers again.
    pub(super) is_look: bool,
    /// Others are asked in its place when nobody of it answers.
    pub(super) gives_way: bool,
    /// How long it is waited for when nothing comes.
    pub(super) patience: Duration,
}

/// What became of an attempt to send.
enum Sending {
    /// It is under way, or not needed enough for the sockets that are left.
    Done,
    /// There is no socket.
    NoSocket,
    /// The server cannot be reached, or we cannot ask it.
    Failed(io::Error),
}

impl<'a> Exchange<'a> {
    pub(super) fn new(inner: &'a Arc<Inner>, ask: Ask<'a>, trace: &'a mut Trace) -> Self {
        Self {
            inner,
            ask,
            trace_base: trace.elapsed,
            trace,
            attempts: Attempts::default(),
            climbs: Vec::new(),
            start: Instant::now(),
            start_tick: inner.clock.now(),
            stay: inner.groups.here().stay(),
            sends: 0,
            seen: Seen::default(),
            scarce: false,
        }
    }

    /// Tells whether the network has not changed since the question began.
    pub(super) fn is_from_here(&self) -> bool {
        self.stay == self.inner.groups.here().stay()
    }

    /// Runs the plan of a question over the servers of a group.
    pub(super) async fn ask_members(
        &mut self,
        hold: Hold<'_>,
        members: &Arc<Vec<Arc<Server>>>,
        sends_left: &mut u8,
        mut timer: Pin<&mut Sleep>,
    ) -> Option<Reply> {
        let Hold { id, state, has_fallback, is_look, gives_way, patience } = hold;
        let now = self.inner.clock.now();
        let snapshots: Vec<_> = members.iter().map(|server| server.snapshot(now)).collect();
        let mut order = group::order(state.strategy, &snapshots, |below| rand::random_range(0..below));
        if is_look && !order.is_empty() {
            // Another one may be the first that answers again each time.
            let first = rand::random_range(0..order.len());
            order.rotate_left(first);
        }
        if order.is_empty() {
            self.seen.looping |= !snapshots.is_empty();
            return None;
        }
        let mut probes: Vec<usize> = Vec::new();
        if members.len() > 1 || has_fallback {
            probes.extend(order.iter().skip(1).copied().filter(|&at| members[at].health.claim_probe(now)).take(1));
        }
        if has_fallback && order.iter().all(|&at| snapshots[at].standing == Standing::Dead) {
            self.pass_by(id, state, members, &order, now, sends_left);
            return None;
        }
        let mut elapsed = self.start.elapsed();
        let begun = elapsed;
        let left = self.ask.deadline.saturating_duration_since(self.start).saturating_sub(begun);
        let left = if has_fallback { left.mul_f64(FALLBACK_SHARE) } else { left };
        let setting = Setting {
            strategy: state.strategy,
            alone: members.len() == 1 && !has_fallback && !gives_way,
            patience,
            limit: left.min(state.timeout),
            // A group behind another gets something to ask with even when the first used all.
            sends_left: if has_fallback { sends_left.saturating_sub(2) } else { *sends_left },
        };
        let kept_back = *sends_left - setting.sends_left;
        let mut plan = Plan::new(&setting, &order, &snapshots, probes);
        let mut awake = self.patience_awake(&members[order[0]], snapshots[order[0]].srtt);
        let climbed = loop {
            let tick = self.start_tick;
            // What was heard at the beginning is old news when every fresh connection has been refused since.
            let is_refused = || self.attempts.are_refused(id);
            let heard = || {
                let last = members.iter().filter_map(|server| server.health.last_answer()).max();
                let last = last.filter(|&last| last >= tick && !is_refused());
                last.map(|last| self.inner.clock.now().since(last))
            };
            match plan.next(elapsed.saturating_sub(begun), heard) {
                Next::Send { server, why } => self.send(&members[server], (id, server), why, &mut plan),
                Next::AllFailed => break None,
                Next::TimedOut => {
                    self.seen.silent = true;
                    break None;
                }
                Next::Wait { until } => {
                    let near = match awake.take() {
                        Some(patience) => awake::wait(&mut self.attempts, patience).await,
                        None => None,
                    };
                    let event = match near {
                        Some(event) => Some(event),
                        None => self.wait(self.start + begun + until, timer.as_mut()).await,
                    };
                    elapsed = self.start.elapsed();
                    match event {
                        Some((at, event)) => {
                            if let Some(reply) = self.arrived(at, event, id, &mut plan) {
                                break Some(reply);
                            }
                        }
                        None => self.drop_looping(members, &mut plan),
                    }
                }
            }
        };
        *sends_left = plan.sends_left() + kept_back;
        climbed
    }

    /// Waits for anything on any channel, at most until then.
    async fn wait(&mut self, until: Instant, mut timer: Pin<&mut Sleep>) -> Option<(usize, io::Result<Vec<u8>>)> {
        timer.as_mut().reset(until);
        let event = poll_fn(|cx| match self.attempts.poll(cx) {
            Poll::Ready(event) => Poll::Ready(Some(event)),
            Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
        });
        event.await
    }

    /// Returns how long the first server's reply is waited for without sleeping. Played networks have no time for that.
    fn patience_awake(&self, first: &Server, srtt: Option<Duration>) -> Option<Duration> {
        let is_played = matches!(self.inner.net, Net::Simulated(_));
        if is_played || first.transport() != UpstreamTransport::Udp { None } else { awake::patience(srtt) }
    }

    /// Returns the servers of a group that may be asked this question.
    pub(super) fn eligible(&mut self, id: GroupId) -> Arc<Vec<Arc<Server>>> {
        let members = self.inner.groups.members(id);
        let apart =
            |server: &Arc<Server>| self.ask.apart_from.is_none_or(|operator| *server.info.operator != *operator);
        let allowed = |server: &Arc<Server>| server.may_be_asked(self.ask.only_private) && apart(server);
        if members.iter().all(allowed) {
            return members;
        }
        self.seen.looping |= members.iter().any(|server| server.is_own());
        Arc::new(members.iter().filter(|server| allowed(server)).cloned().collect())
    }

    /// Goes on to the fallback without waiting for a group known to be dead, asking along whoever is due a probe.
    fn pass_by(
        &mut self,
        id: GroupId,
        state: &GroupState,
        members: &[Arc<Server>],
        order: &[usize],
        now: Tick,
        sends_left: &mut u8,
    ) {
        self.note("dead", || (format!("group {}", state.name), "go on to its fallback", "every server is dead"));
        self.seen.silent = true;
        for &at in order {
            if *sends_left > 2 && members[at].health.claim_probe(now) {
                *sends_left -= 1;
                let (server, seat) = (&members[at], (id, at));
                let transport = self.next_rung(server, seat).unwrap_or(server.info.transport);
                if let Sending::Failed(error) = self.attempt(server, seat, Why::Probe, transport, None) {
                    self.gone(server, seat, self.sent_now(transport), &error, None);
                }
            }
        }
    }

    /// Notes that a group is passed by, since nothing of it answers.
    pub(super) fn pass_on(&mut self, state: &GroupState) {
        let name = &state.name;
        self.note("dead", || (format!("group {name}"), "go on to what stands behind it", "nothing of it answers"));
        self.seen.silent = true;
    }

    /// Returns how a server is to be asked next; nothing when every rung has been tried.
    fn next_rung(&mut self, server: &Arc<Server>, seat: (GroupId, usize)) -> Option<UpstreamTransport> {
        if server.ladder.is_single() {
            return Some(server.info.transport);
        }
        let at = self.climbs.iter().position(|(other, _)| *other == seat).unwrap_or_else(|| {
            self.climbs.push((seat, server.ladder.climb(self.inner.clock.now())));
            self.climbs.len() - 1
        });
        let rung = self.climbs.get_mut(at)?.1.next()?;
        Some(server.ways.transport(rung))
    }

    /// Asks a server over a higher rung as well when that is due.
    fn send_along(&mut self, server: &Arc<Server>, seat: (GroupId, usize), plan: &mut Plan) {
        let climb = self.climbs.iter_mut().find(|(other, _)| *other == seat);
        let Some(rung) = climb.and_then(|(_, climb)| climb.take_along()) else { return };
        if plan.claim_along() {
            let transport = server.ways.transport(rung);
            if let Sending::Failed(error) = self.attempt(server, seat, Why::Probe, transport, None) {
                self.gone(server, seat, self.sent_now(transport), &error, Some(plan));
            }
        }
    }

    /// Sends one query of the plan.
    fn send(&mut self, server: &Arc<Server>, seat: (GroupId, usize), why: Why, plan: &mut Plan) {
        if why == Why::Hedge {
            self.inner.stats.count(Counter::UpstreamHedges);
            let now = self.inner.clock.now();
            let mut blamed: Vec<Arc<Server>> = Vec::new();
            for late in self.attempts.open.iter_mut().filter(|attempt| !attempt.late) {
                late.late = true;
                if late.is_from_here(self.inner) && !blamed.iter().any(|server| Arc::ptr_eq(server, &late.server)) {
                    late.server.health.late(now);
                    blamed.push(Arc::clone(&late.server));
                }
            }
        }
        let over = |open: &Attempt| Arc::ptr_eq(&open.server, server) && open.transport == UpstreamTransport::Udp;
        let repeats = self.attempts.open.iter().filter(|open| over(open)).count();
        let is_asked = self.attempts.open.iter().any(|open| Arc::ptr_eq(&open.server, server));
        let transport = if is_asked && why != Why::Rung {
            // A connection repeats by itself what gets lost, and its link opens another when it is silent.
            Some(UpstreamTransport::Udp).filter(|_| repeats > 0)
        } else {
            self.next_rung(server, seat)
        };
        let Some(transport) = transport else {
            if !is_asked {
                plan.failed(seat.1);
            }
            return;
        };
        // With EDNS unproven and nothing heard, the server may be one that drops what it cannot read. Over connections
        // silence has other reasons.
        let drops_edns = || !self.ask.keep_edns && server.health.habits(self.inner.clock.now()).edns_unproven;
        let without = transport == UpstreamTransport::Udp && repeats >= usize::from(PLAIN_AFTER) && drops_edns();
        match self.attempt(server, seat, why, transport, without.then_some(false)) {
            Sending::Done => self.send_along(server, seat, plan),
            Sending::NoSocket => plan.failed(seat.1),
            // A repeat that cannot be sent (out of file descriptors, a full queue) takes nothing from those under way.
            Sending::Failed(error) if repeats > 0 => self.broken(server, &error),
            Sending::Failed(error) => self.gone(server, seat, self.sent_now(transport), &error, Some(plan)),
        }
    }

    /// Opens a channel and sends; `edns` overrides what the server is known to like.
    fn attempt(
        &mut self,
        server: &Arc<Server>,
        seat: (GroupId, usize),
        why: Why,
        transport: UpstreamTransport,
        edns: Option<bool>,
    ) -> Sending {
        let habits = server.health.habits(self.inner.clock.now());
        let edns = edns.unwrap_or(habits.edns);
        let need = if self.attempts.open.is_empty() { Need::Answer } else { Need::Speed };
        let to = (server.ways.address(transport), &*server.ways);
        let Some(way) = Way::reserve(&self.inner.net, to, transport, &self.inner.sockets, need) else {
            return self.no_socket(server, need);
        };
        let encrypted = transport.is_encrypted();
        let shape = Shape { edns, mixed_case: habits.mix_case && !encrypted, padded: encrypted };
        let sent = Sent::new(self.ask.question, shape);
        self.sends += 1;
        self.inner.stats.count(Counter::UpstreamQueries);
        server.health.sent();
        self.note("send", || {
            let plain = if edns { "" } else { ", without EDNS" };
            (server.info.label.to_string(), format!("ask over {}{plain}", word(transport)), why.as_str())
        });
        // Before it is sent: who loses its processor while sending must not take the server for quicker than it is.
        let (at, stay) = (Instant::now(), self.inner.groups.here().stay());
        match Channel::open(&self.inner.net, &self.inner.pool, to, way, &sent.bytes) {
            Ok(channel) => {
                let server = Arc::clone(server);
                self.attempts.open.push(Attempt {
                    server,
                    seat,
                    transport,
                    sent,
                    channel,
                    at,
                    stay,
                    unwanted: 0,
                    late: false,
                });
                Sending::Done
            }
            Err(error) => Sending::Failed(error),
        }
    }

    /// Does without a query for which there is no socket. What is open goes on being waited for; with nothing open, the
    /// attempt has failed.
    fn no_socket(&mut self, server: &Server, need: Need) -> Sending {
        self.scarce = true;
        self.inner.stats.count_at_bound(Counter::UpstreamSocketsFull);
        self.note("error", || (server.info.label.to_string(), "not asked", "too many sockets are open"));
        if need == Need::Answer {
            self.seen.broken = true;
            self.seen.tell(server, "too many sockets are open");
        }
        if need == Need::Speed { Sending::Done } else { Sending::NoSocket }
    }

    /// Acts on what arrived; returns the reply when it is the answer.
    fn arrived(&mut self, at: usize, event: io::Result<Vec<u8>>, id: GroupId, plan: &mut Plan) -> Option<Reply> {
        let arrival = self.attempts.sort(at, event, self.inner);
        let now = self.inner.clock.now();
        let (server, seat) = (Arc::clone(&self.attempts.open[at].server), self.attempts.open[at].seat);
        let (transport, stay) = (self.attempts.open[at].transport, self.attempts.open[at].stay);
        let (edns, is_from_here) = (self.attempts.open[at].sent.edns, self.attempts.open[at].is_from_here(self.inner));
        match arrival {
            Arrival::Noise => {}
            Arrival::Reply(bytes) => return self.replied(at, bytes, now, id, plan),
            Arrival::Broken(error) => {
                self.attempts.open.swap_remove(at);
                let plan = Some(plan).filter(|_| seat.0 == id);
                self.gone(&server, seat, (transport, stay), &error, plan);
            }
            Arrival::OtherCase if is_from_here && server.health.case_missed() => {
                self.attempts.open.swap_remove(at);
                self.again(&server, seat, (transport, edns), id, plan);
            }
            Arrival::OtherCase => {
                self.inner.stats.count(Counter::UpstreamUnmatched);
                self.again(&server, seat, (UpstreamTransport::Tcp, edns), id, plan);
            }
            Arrival::Flooded => self.again(&server, seat, (UpstreamTransport::Tcp, edns), id, plan),
            Arrival::BareRefusal => {
                if server.health.habits(now).edns_unproven {
                    self.attempts.open.swap_remove(at);
                    self.again(&server, seat, (transport, false), id, plan);
                } else if transport != UpstreamTransport::Udp {
                    self.attempts.open.swap_remove(at);
                    if seat.0 == id {
                        plan.failed(seat.1);
                    }
                }
            }
        }
        None
    }

    /// Asks the same server again in another way; without a query left for it, it counts as failed.
    fn again(
        &mut self,
        server: &Arc<Server>,
        seat: (GroupId, usize),
        how: (UpstreamTransport, bool),
        id: GroupId,
        plan: &mut Plan,
    ) {
        let mut sent = false;
        if plan.claim() {
            match self.attempt(server, seat, Why::Failover, how.0, Some(how.1)) {
                Sending::Done => sent = true,
                Sending::NoSocket => {}
                Sending::Failed(error) => {
                    self.broken(server, &error);
                    if udp::is_definite(&error) {
                        server.health.errored(self.inner.clock.now());
                    }
                }
            }
        }
        let waiting = self.attempts.open.iter().any(|attempt| Arc::ptr_eq(&attempt.server, server));
        if !sent && !waiting && seat.0 == id {
            plan.failed(seat.1);
        }
    }

    /// Judges a matched reply; returns it when it is the answer.
    fn replied(&mut self, at: usize, bytes: Vec<u8>, now: Tick, id: GroupId, plan: &mut Plan) -> Option<Reply> {
        let attempt = self.attempts.open.swap_remove(at);
        let rtt = attempt.at.elapsed();
        let worth = learn(&attempt, &bytes, now, self.inner);
        let server = Arc::clone(&attempt.server);
        let reply = make_reply(&attempt, bytes, rtt, self.sends);
        if let Worth::Poor(Poor::Code(Rcode::FORMERR | Rcode::NOTIMP | Rcode::BADVERS)) = worth
            && attempt.sent.edns
            && server.health.habits(now).edns_unproven
        {
            self.again(&server, attempt.seat, (attempt.transport, false), id, plan);
            self.seen.failed = true;
            self.seen.keep(1, reply);
            return None;
        }
        let outcome = match worth {
            Worth::Good => match self.accept(&reply, &server) {
                Acceptance::Accept => {
                    self.note("reply", || {
                        let label = server.info.label.to_string();
                        (label, format!("answered after {} ms", reply.rtt.as_millis()), "first acceptable reply")
                    });
                    self.attempts.settle(&server, attempt.rung());
                    if let Some(hold) = self.ask.hold {
                        hold.put(attempt);
                    }
                    return Some(reply);
                }
                Acceptance::Reject(why) => {
                    self.seen.rejected = true;
                    why.to_owned()
                }
            },
            Worth::Truncated => {
                if attempt.transport == UpstreamTransport::Udp {
                    self.inner.stats.count(Counter::UpstreamTcpRetries);
                    let (sent, seat) = (attempt.sent.edns, attempt.seat);
                    self.seen.keep(1, reply);
                    self.attempts.close(&server);
                    self.again(&server, seat, (UpstreamTransport::Tcp, sent), id, plan);
                    return None;
                }
                self.seen.failed = true;
                "truncated over TCP".to_owned()
            }
            Worth::Poor(poor) => {
                self.inner.stats.count(Counter::UpstreamFailures);
                self.seen.failed = true;
                self.seen.keep(poor_rank(poor, &reply), reply);
                poor.to_string()
            }
        };
        self.attempts.settle(&server, attempt.rung());
        self.seen.tell(&server, &outcome);
        self.note("reply", || (server.info.label.to_string(), "not an answer".to_owned(), outcome));
        if attempt.seat.0 == id {
            plan.failed(attempt.seat.1);
        }
        None
    }

    fn accept(&self, reply: &Reply, server: &Server) -> Acceptance {
        // `Attempts::sort` lets only parsable messages through.
        Message::parse(&reply.message).map_or(Acceptance::Reject("malformed"), |message| {
            (self.ask.acceptable)(&message, &server.info_for_judging())
        })
    }

    /// Returns how a query that could not be sent would have gone.
    fn sent_now(&self, transport: UpstreamTransport) -> (UpstreamTransport, Stay) {
        (transport, self.inner.groups.here().stay())
    }

    /// A query has failed for sure: the server's next rung is tried, or the server has failed.
    fn gone(
        &mut self,
        server: &Arc<Server>,
        seat: (GroupId, usize),
        (transport, stay): (UpstreamTransport, Stay),
        error: &io::Error,
        plan: Option<&mut Plan>,
    ) {
        self.broken(server, error);
        let (now, rung) = (self.inner.clock.now(), server.ways.rung(transport));
        // Out of file descriptors or memory says nothing about the server, nor does what another network does.
        let definite = udp::is_definite(error) && stay == self.inner.groups.here().stay();
        let none_works = definite && server.ladder.failed(rung, now);
        let waits = self.attempts.wait_beside(server, rung);
        let is_over = match plan {
            Some(plan) if matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown) => {
                plan.has_no_route(seat.1, waits)
            }
            Some(plan) => plan.rung_failed(seat.1, waits),
            None => !waits && none_works,
        };
        if definite && is_over {
            server.health.errored(now);
        }
    }

    /// Notes that a server cannot be reached, or that we cannot ask it.
    fn broken(&mut self, server: &Arc<Server>, error: &io::Error) {
        self.inner.stats.count(Counter::UpstreamErrors);
        if matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::QuotaExceeded) {
            self.inner.stats.count_at_bound(Counter::UpstreamTcpFull);
        }
        self.scarce |= !udp::is_definite(error);
        self.seen.broken = true;
        // A certificate that is not good, a proxy that refuses: the kind alone says nothing about those.
        let text = if error.get_ref().is_some() { error.to_string() } else { error.kind().to_string() };
        self.seen.tell(server, &text);
        self.note("error", || (server.info.label.to_string(), "cannot be reached", text));
    }

    /// Counts servers that were proved to loop meanwhile as failed.
    fn drop_looping(&mut self, members: &[Arc<Server>], plan: &mut Plan) {
        let now = self.inner.clock.now();
        for (at, server) in members.iter().enumerate() {
            if server.health.snapshot(now).standing == Standing::Looping {
                self.seen.looping = true;
                self.attempts.close(server);
                plan.failed(at);
            }
        }
    }

    pub(super) fn succeed(mut self, mut reply: Reply, under_way: UnderWay<'_>) -> Reply {
        drop(under_way);
        reply.sends = self.sends;
        if !self.attempts.open.is_empty() {
            self.linger(Instant::now() + LINGER_ANSWERED, None);
        }
        reply
    }

    pub(super) fn fail(mut self, under_way: UnderWay<'_>) -> Result<Reply, Box<Failure>> {
        drop(under_way);
        let heir = self.ask.heir.filter(|_| !self.attempts.open.is_empty()).map(|heir| heir());
        self.linger(self.start + LINGER_FAILED, heir);
        let clock = self.seen.broken.then(|| self.inner.pool.dates().wrong_clock()).flatten();
        let group = self.inner.groups.get(self.ask.group);
        // Behind a fallback others were asked too, and they may be plain.
        let is_last = |group: &GroupState| !self.ask.resort && group.fallback.is_none();
        let floor = group.is_some_and(|group| group.has_floor && is_last(group));
        self.seen.conclude(self.sends).map_err(|failure| Box::new(Failure { clock, floor, ..*failure }))
    }

    fn linger(&mut self, until: Instant, heir: Option<Heir>) {
        linger::begin(self.inner, std::mem::take(&mut self.attempts), until, heir);
    }

    fn note<A: Into<String>, B: Into<String>, C: Into<String>>(
        &mut self,
        event: &'static str,
        line: impl FnOnce() -> (A, B, C),
    ) {
        if !self.trace.is_on() && !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let (saw, decided, because) = line();
        let (saw, decided, because) = (saw.into(), decided.into(), because.into());
        tracing::debug!(event, stage = "exchange", upstream = saw, decision = decided, reason = because, "exchange");
        self.trace.elapsed = self.trace_base + self.start.elapsed();
        self.trace.step(Stage::Exchange, || (saw, decided, because));
    }
}

fn word(transport: UpstreamTransport) -> &'static str {
    match transport {
        UpstreamTransport::Udp => "UDP",
        UpstreamTransport::Tcp => "TCP",
        UpstreamTransport::Tls => "DoT",
        UpstreamTransport::Https => "DoH",
        UpstreamTransport::Quic => "DoQ",
        UpstreamTransport::H3 => "DoH3",
    }
}
