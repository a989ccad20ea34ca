//! Runs the plan of a question: sends, waits on all channels and one timer at once, judges what arrives.
//!
//! Decides nothing about order or time ([`super::group`]) and nothing about bytes ([`super::reply`]). Fallback groups
//! follow when a group is down; channels of the group before stay open, so that its late reply still counts. When an
//! answer is found, what is still owed is listened for in the background for a moment: it teaches which servers live.

use super::attempts::{Arrival, Attempt, Attempts, learn, make_reply};
use super::group::{self, MAX_GROUPS, Next, Plan, Setting, Why};
use super::health::Standing;
use super::loops::UnderWay;
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
use std::pin::{Pin, pin};
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
struct Exchange<'a> {
    inner: &'a Arc<Inner>,
    ask: Ask<'a>,
    trace: &'a mut Trace,
    trace_base: Duration,
    attempts: Attempts,
    start: Instant,
    start_tick: Tick,
    sends: u32,
    seen: Seen,
}

/// See [`super::Upstreams::ask`].
pub(super) async fn ask(inner: &Arc<Inner>, ask: Ask<'_>, trace: &mut Trace) -> Result<Reply, Box<Failure>> {
    let trace_base = trace.elapsed;
    let mut exchange = Exchange {
        inner,
        ask,
        trace,
        trace_base,
        attempts: Attempts::default(),
        start: Instant::now(),
        start_tick: inner.clock.now(),
        sends: 0,
        seen: Seen::default(),
    };
    inner.look_at_clocks(exchange.start, exchange.start_tick);
    let mut under_way = inner.loops.under_way(ask.question, ask.group, ask.only_private);
    let mut timer = pin!(tokio::time::sleep_until(ask.deadline));
    let mut sends_left = group::MAX_SENDS;
    let mut visited = [None; MAX_GROUPS];
    let mut next = Some(ask.group);
    for count in 0..MAX_GROUPS {
        let Some(id) = next else { break };
        visited[count] = next;
        under_way.hand_to(id);
        let Some(state) = inner.groups.get(id) else { break };
        next = state.fallback.filter(|id| !visited.contains(&Some(*id)));
        if let Some(reply) = exchange.climb(id, state, next.is_some(), &mut sends_left, timer.as_mut()).await {
            return Ok(exchange.succeed(reply, under_way));
        }
    }
    exchange.fail(under_way)
}

impl Exchange<'_> {
    /// Asks one group until it answers or is down.
    async fn climb(
        &mut self,
        id: GroupId,
        state: &GroupState,
        has_fallback: bool,
        sends_left: &mut u8,
        mut timer: Pin<&mut Sleep>,
    ) -> Option<Reply> {
        let members = self.eligible(id);
        let now = self.inner.clock.now();
        let snapshots: Vec<_> = members.iter().map(|server| server.health.snapshot(now)).collect();
        let order = group::order(state.strategy, &snapshots, |below| rand::random_range(0..below));
        if order.is_empty() {
            self.seen.looping |= !snapshots.is_empty();
            return None;
        }
        let mut probes: Vec<usize> = Vec::new();
        if members.len() > 1 || has_fallback {
            probes.extend(order.iter().skip(1).copied().filter(|&at| members[at].health.claim_probe(now)).take(1));
        }
        if has_fallback && order.iter().all(|&at| snapshots[at].standing == Standing::Dead) {
            self.pass_by(id, state, &members, &order, now, sends_left);
            return None;
        }
        let mut elapsed = self.start.elapsed();
        let begun = elapsed;
        let left = self.ask.deadline.saturating_duration_since(self.start).saturating_sub(begun);
        let left = if has_fallback { left.mul_f64(FALLBACK_SHARE) } else { left };
        let setting = Setting {
            strategy: state.strategy,
            alone: members.len() == 1 && !has_fallback,
            limit: left.min(state.timeout),
            // A group behind another gets something to ask with even when the first used all.
            sends_left: if has_fallback { sends_left.saturating_sub(2) } else { *sends_left },
        };
        let kept_back = *sends_left - setting.sends_left;
        let mut plan = Plan::new(&setting, &order, &snapshots, probes);
        let mut awake = self.patience_awake(&members[order[0]], snapshots[order[0]].srtt);
        let climbed = loop {
            let tick = self.start_tick;
            let heard = || members.iter().any(|server| server.health.answered_since(tick));
            match plan.next(elapsed.saturating_sub(begun), heard) {
                Next::Send { server, why } => self.send(&members[server], (id, server), why, None, &mut plan),
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
                        None => self.drop_looping(&members, &mut plan),
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
        if is_played || first.info.transport != UpstreamTransport::Udp { None } else { awake::patience(srtt) }
    }

    /// Returns the servers of a group that may be asked this question.
    fn eligible(&mut self, id: GroupId) -> Arc<Vec<Arc<Server>>> {
        let members = self.inner.groups.members(id);
        let allowed = |server: &Arc<Server>| server.may_be_asked(self.ask.only_private);
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
                self.attempt(&members[at], (id, at), Why::Probe, None, true);
            }
        }
    }

    /// Sends one query of the plan; `how` overrides transport and EDNS.
    fn send(
        &mut self,
        server: &Arc<Server>,
        seat: (GroupId, usize),
        why: Why,
        how: Option<(UpstreamTransport, bool)>,
        plan: &mut Plan,
    ) {
        if why == Why::Hedge {
            self.inner.stats.count(Counter::UpstreamHedges);
            let now = self.inner.clock.now();
            for late in self.attempts.open.iter_mut().filter(|attempt| !attempt.late) {
                late.late = true;
                late.server.health.late(now);
            }
        }
        // With EDNS unproven and nothing heard, the server may be one that drops what it cannot read.
        let asked = self.attempts.open.iter().filter(|attempt| Arc::ptr_eq(&attempt.server, server)).count();
        // A connection repeats by itself what gets lost, and its link opens another when it is silent.
        if asked > 0 && server.info.transport != UpstreamTransport::Udp {
            return;
        }
        // A repeat that cannot be sent (out of file descriptors, a full queue) takes nothing from those under way.
        if !self.attempt(server, seat, why, how, asked < usize::from(PLAIN_AFTER)) && asked == 0 {
            plan.failed(seat.1);
        }
    }

    /// Opens a channel and sends; false when that fails.
    fn attempt(
        &mut self,
        server: &Arc<Server>,
        seat: (GroupId, usize),
        why: Why,
        how: Option<(UpstreamTransport, bool)>,
        edns_wanted: bool,
    ) -> bool {
        let now = self.inner.clock.now();
        let habits = server.health.habits(now);
        // Only datagrams are dropped for what they hold; over TCP silence has other reasons.
        let over_tcp = server.info.transport != UpstreamTransport::Udp;
        let edns = habits.edns && (edns_wanted || over_tcp || !habits.edns_unproven);
        let (transport, edns) = how.unwrap_or((server.info.transport, edns));
        let need = if self.attempts.open.is_empty() { Need::Answer } else { Need::Speed };
        let address = server.info.address;
        let to = (address, &*server.ways);
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
        match Channel::open(&self.inner.net, &self.inner.pool, to, way, &sent.bytes) {
            Ok(channel) => {
                let server = Arc::clone(server);
                let at = Instant::now();
                self.attempts.open.push(Attempt {
                    server,
                    seat,
                    transport,
                    sent,
                    channel,
                    at,
                    unwanted: 0,
                    late: false,
                });
                true
            }
            Err(error) => {
                self.broken(server, &error, now);
                false
            }
        }
    }

    /// Does without a query for which there is no socket. What is open goes on being waited for; with nothing open, the
    /// attempt has failed.
    fn no_socket(&mut self, server: &Server, need: Need) -> bool {
        self.inner.stats.count_at_bound(Counter::UpstreamSocketsFull);
        self.note("error", || (server.info.label.to_string(), "not asked", "too many sockets are open"));
        if need == Need::Answer {
            self.seen.broken = true;
            self.seen.tell(server, "too many sockets are open");
        }
        need == Need::Speed
    }

    /// Acts on what arrived; returns the reply when it is the answer.
    fn arrived(&mut self, at: usize, event: io::Result<Vec<u8>>, id: GroupId, plan: &mut Plan) -> Option<Reply> {
        let arrival = self.attempts.sort(at, event, self.inner);
        let now = self.inner.clock.now();
        let (server, seat) = (Arc::clone(&self.attempts.open[at].server), self.attempts.open[at].seat);
        let transport = self.attempts.open[at].transport;
        let edns = self.attempts.open[at].sent.edns;
        match arrival {
            Arrival::Noise => {}
            Arrival::Reply(bytes) => return self.replied(at, bytes, now, id, plan),
            Arrival::Broken(error) => {
                self.attempts.open.swap_remove(at);
                // Over TCP only this attempt is known to have failed when the server is one for datagrams.
                self.broken(&server, &error, now);
                if seat.0 == id {
                    plan.failed(seat.1);
                }
            }
            Arrival::OtherCase if server.health.case_missed() => {
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
        let sent = plan.claim() && self.attempt(server, seat, Why::Failover, Some(how), how.1);
        let waiting = self.attempts.open.iter().any(|attempt| Arc::ptr_eq(&attempt.server, server));
        if !sent && !waiting && seat.0 == id {
            plan.failed(seat.1);
        }
    }

    /// Judges a matched reply; returns it when it is the answer.
    fn replied(&mut self, at: usize, bytes: Vec<u8>, now: Tick, id: GroupId, plan: &mut Plan) -> Option<Reply> {
        let attempt = self.attempts.open.swap_remove(at);
        let rtt = attempt.at.elapsed();
        let worth = learn(&attempt, &bytes, now, rtt);
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
                    self.attempts.close(&server);
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
        self.attempts.close(&server);
        self.seen.tell(&server, &outcome);
        self.note("reply", || (server.info.label.to_string(), "not an answer".to_owned(), outcome));
        if attempt.seat.0 == id {
            plan.failed(attempt.seat.1);
        }
        None
    }

    fn accept(&self, reply: &Reply, server: &Server) -> Acceptance {
        // `Attempts::sort` lets only parsable messages through.
        Message::parse(&reply.message)
            .map_or(Acceptance::Reject("malformed"), |message| (self.ask.acceptable)(&message, &server.info))
    }

    /// A server cannot be reached, or we cannot ask it.
    fn broken(&mut self, server: &Arc<Server>, error: &io::Error, now: Tick) {
        self.inner.stats.count(Counter::UpstreamErrors);
        if matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::QuotaExceeded) {
            self.inner.stats.count_at_bound(Counter::UpstreamTcpFull);
        }
        // Out of file descriptors or memory says nothing about the server.
        if udp::is_definite(error) {
            server.health.errored(now);
        }
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

    fn succeed(mut self, mut reply: Reply, under_way: UnderWay<'_>) -> Reply {
        drop(under_way);
        reply.sends = self.sends;
        if !self.attempts.open.is_empty() {
            self.linger(Instant::now() + LINGER_ANSWERED, None);
        }
        reply
    }

    fn fail(mut self, under_way: UnderWay<'_>) -> Result<Reply, Box<Failure>> {
        drop(under_way);
        let heir = self.ask.heir.filter(|_| !self.attempts.open.is_empty()).map(|heir| heir());
        self.linger(self.start + LINGER_FAILED, heir);
        let clock = self.seen.broken.then(|| self.inner.pool.dates().wrong_clock()).flatten();
        self.seen.conclude(self.sends).map_err(|failure| Box::new(Failure { clock, ..*failure }))
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
