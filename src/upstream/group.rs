//! The plan for one question: whom to ask, when to ask one more, when to give up. Pure: time is a [`Duration`] since
//! the question began, and every event is a call.
//!
//! ```text
//! start ─▶ first server (two when nothing is known, all when parallel)
//!            │ late: max(1.5 × smoothed RTT, 15 ms) ─▶ next server ─▶ … ─▶ round again, at growing intervals
//!            │ a server's rung is silent ─▶ its next rung (ladder.rs says after which time)
//!            │ definite failure ─▶ next rung, else next server, at once; all failed ─▶ give up at once
//!            └ nothing heard of anybody for the patience, since then or since the start ─▶ give up
//! ```

use super::health::{Snapshot, Standing, UNKNOWN_RTT};
use super::ladder::{STAGGER, Steps};
use crate::config::{MAX_CHAIN, Strategy};
use std::time::Duration;

/// Queries for one question over all servers, repeats, probes and TCP included: more would be a storm.
pub(super) const MAX_SENDS: u8 = 8;
/// A hedge is never sent earlier than this: below it lies the jitter of a local network and of scheduling.
const MIN_HEDGE: Duration = Duration::from_millis(15);
/// Growth of the interval between sends: with it seven sends fall within 265 ms for an upstream 20 ms away, so that
/// two servers that each lose 30 % leave 0.02 % of questions waiting longer than 300 ms.
const GROWTH: f64 = 1.15;
/// Sends that follow each other by [`GROWTH`]; the rest are spread over the patience.
const QUICK_SENDS: u8 = 7;
/// Growth behind the quick sends: the last of eight falls a second after the first, when a short outage is over.
const SLOW_GROWTH: f64 = 12.0;
/// Both for a server that nothing stands in for. It is waited for to the end of the budget, so more sends are kept back.
const ALONE: (u8, f64) = (5, 4.0);
/// When a server whose round trip is not known is asked the same once more: resolvers in
/// use are nearer, and a loss among the very first queries is not worth a longer wait.
const UNKNOWN_REPEAT: Duration = Duration::from_millis(150);
/// The longest interval between two sends.
const MAX_INTERVAL: Duration = Duration::from_secs(2);
/// The first interval when every server is dead: thousands of questions a second must not become a storm.
const DEAD_INTERVAL: Duration = Duration::from_millis(450);
/// A group of several that answers nothing is given up after this time, from its first send: the client has its
/// SERVFAIL within 1.5 s also when the machine is busy.
pub(super) const PATIENCE: Duration = Duration::from_millis(1450);
/// The same for a group that is asked over encrypted connections only, has answered nothing on this network, and has
/// somebody to stand in for it: networks that let no such connection out are common, and most of them say nothing. One
/// that needs longer (three round trips of 200 ms) is used as soon as its first reply has come, late as it is.
pub(super) const FIRST_PATIENCE: Duration = Duration::from_millis(600);
/// The choice of two is among servers that cost at most so many times the best...
const NEAR_FACTOR: f64 = 4.0;
/// ...and so many µs more, so that local servers do not differ by noise.
const NEAR_EXTRA_US: f64 = 5_000.0;

/// Groups tried for one question: the group and its chain of fallbacks. The check of a configuration refuses longer ones.
pub(super) const MAX_GROUPS: usize = MAX_CHAIN;

/// Why a query is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The chosen server.
    First,
    /// Sent beside the first: nothing is known, every server is dead, or the strategy is parallel.
    Race,
    /// The server is asked along to learn whether it answers.
    Probe,
    /// The reply is late.
    Hedge,
    /// The server asked before failed.
    Failover,
    /// A rung above was silent, or failed.
    Rung,
}

impl Why {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::First => "first choice",
            Self::Race => "raced",
            Self::Probe => "probed",
            Self::Hedge => "the reply is late",
            Self::Failover => "the one before failed",
            Self::Rung => "no reply over the rung before",
        }
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask this server.
    Send { server: usize, why: Why },
    /// Wait for a reply, at most until this time since the start.
    Wait { until: Duration },
    /// Every server has failed.
    AllFailed,
    /// Time is over.
    TimedOut,
}

#[derive(Debug, Clone)]
struct Seat {
    server: usize,
    sends: u8,
    failed: bool,
    /// Rungs not yet tried, and when the next of them is due.
    rungs_left: u8,
    rung_at: Option<Duration>,
    /// How long a rung waits for the one before.
    apart: Duration,
    /// Something is under way to it.
    waits: bool,
    /// It may be asked the same again.
    repeats: bool,
    /// Time in which a reply is expected for sure: a repeat to the same server waits so long.
    repeat_after: Duration,
}

/// What the plan is made of.
#[derive(Debug)]
pub(super) struct Setting {
    /// How the group chooses.
    pub(super) strategy: Strategy,
    /// Nothing else stands in when this group is down: then it is waited for to the end.
    pub(super) alone: bool,
    /// How long it is waited for when nothing comes.
    pub(super) patience: Duration,
    /// All the time there is.
    pub(super) limit: Duration,
    /// Queries that may still be sent for the question.
    pub(super) sends_left: u8,
}

/// The plan and where it stands.
#[derive(Debug)]
pub(super) struct Plan {
    seats: Vec<Seat>,
    probes: Vec<usize>,
    opening: usize,
    sends: u8,
    sends_left: u8,
    interval: Duration,
    /// Quick sends, and the growth of the interval behind them.
    pace: (u8, f64),
    next_at: Duration,
    urgent: bool,
    patience: Duration,
    give_up_at: Duration,
    limit: Duration,
}

impl Plan {
    /// Makes the plan. `order` lists servers in the order of asking (see [`order`]), `probes` those of them to ask
    /// along from the start.
    pub(super) fn new(setting: &Setting, order: &[usize], servers: &[Snapshot], probes: Vec<usize>) -> Self {
        let known = |at: &usize| {
            let server = &servers[*at];
            server.srtt.filter(|_| server.standing != Standing::Dead).map(|srtt| srtt * server.round_trips)
        };
        let best = order.iter().filter_map(known).min();
        let all_dead = order.iter().all(|&at| servers[at].standing == Standing::Dead);
        let first = match setting.strategy {
            Strategy::Order => order.first().and_then(known).or(best),
            Strategy::Fastest | Strategy::Parallel => best,
        };
        let opening = match setting.strategy {
            Strategy::Parallel => order.len(),
            Strategy::Fastest | Strategy::Order if all_dead || best.is_none() => 2,
            Strategy::Fastest | Strategy::Order => 1,
        };
        let interval = if all_dead { DEAD_INTERVAL } else { hedge_after(first.unwrap_or(UNKNOWN_RTT)) };
        let slowest = order.iter().filter_map(|&at| servers[at].slowest_recent).max().unwrap_or_default();
        let patience = if slowest > PATIENCE { slowest.mul_f64(1.5) } else { setting.patience };
        let seats = order
            .iter()
            .map(|&server| {
                let known = &servers[server];
                let sure = known.srtt.map_or(UNKNOWN_REPEAT, |srtt| srtt * known.round_trips + 4 * known.rttvar);
                let Steps { count, apart } = known.steps;
                // One that works is given the time in which its reply is sure to come.
                let apart = if apart > STAGGER { apart.max(sure) } else { apart };
                Seat {
                    server,
                    sends: 0,
                    failed: false,
                    rungs_left: count.saturating_sub(1),
                    rung_at: None,
                    apart,
                    waits: false,
                    repeats: known.repeats,
                    repeat_after: sure.min(MAX_INTERVAL),
                }
            })
            .collect();
        Self {
            seats,
            probes,
            opening: opening.clamp(1, order.len().max(1)),
            sends: 0,
            sends_left: setting.sends_left,
            interval,
            pace: if setting.alone { ALONE } else { (QUICK_SENDS, SLOW_GROWTH) },
            next_at: Duration::ZERO,
            urgent: false,
            patience,
            give_up_at: if setting.alone { setting.limit } else { patience.min(setting.limit) },
            limit: setting.limit,
        }
    }

    /// Returns how many queries may still be sent.
    pub(super) fn sends_left(&self) -> u8 {
        self.sends_left
    }

    /// Says what to do at `now`. `heard` tells how long ago any server of the group answered anything, to whatever
    /// question, if one did since this one began.
    pub(super) fn next(&mut self, now: Duration, heard: impl FnOnce() -> Option<Duration>) -> Next {
        // Without a query left, whoever was not asked will not be.
        let is_over = |seat: &Seat| seat.failed || (self.sends_left == 0 && !seat.waits);
        if self.seats.iter().all(is_over) {
            return Next::AllFailed;
        }
        if now >= self.limit {
            return Next::TimedOut;
        }
        if self.opening > 0 {
            let why = if self.sends == 0 { Why::First } else { Why::Race };
            self.opening -= 1;
            if let Some(seat) = self.unasked() {
                return self.send(seat, why, now);
            }
            self.opening = 0;
        }
        while let Some(server) = self.probes.pop() {
            let seat = self.seats.iter().position(|seat| seat.server == server && seat.sends == 0 && !seat.failed);
            // A probe leaves a send for the hedge and one for the repeat.
            if let Some(seat) = seat.filter(|_| self.sends_left > 3) {
                return self.send(seat, Why::Probe, now);
            }
        }
        if std::mem::take(&mut self.urgent)
            && let Some(seat) = self.unasked()
        {
            return self.send(seat, Why::Failover, now);
        }
        if let Some(seat) = self.seats.iter().position(|seat| seat.rung_is_due(now)).filter(|_| self.sends_left > 0) {
            return self.send(seat, Why::Rung, now);
        }
        if now >= self.next_at
            && let Some(seat) = self.least_asked()
        {
            return self.send(seat, Why::Hedge, now);
        }
        if now >= self.give_up_at {
            // A group that answers others is waited for; a single reply before it falls silent is no reason to wait to the end.
            let until = heard().map_or(now, |ago| (now + self.patience).saturating_sub(ago)).min(self.limit);
            if until <= now {
                return Next::TimedOut;
            }
            self.give_up_at = until;
        }
        let mut until = self.give_up_at.min(self.limit);
        if self.sends_left > 0 {
            let hedge = self.least_asked().map(|_| self.next_at);
            let rungs = self.seats.iter().filter(|seat| !seat.failed && seat.rungs_left > 0);
            until = rungs.filter_map(|seat| seat.rung_at).chain(hedge).fold(until, Duration::min);
        }
        Next::Wait { until }
    }

    /// A rung of a server has failed for sure; `waits` tells whether another of its rungs may still answer. Returns whether
    /// the server has failed for this question.
    pub(super) fn rung_failed(&mut self, server: usize, waits: bool) -> bool {
        let sends_left = self.sends_left;
        let Some(seat) = self.seats.iter_mut().find(|seat| seat.server == server && !seat.failed) else { return true };
        if seat.rungs_left > 0 && sends_left > 0 {
            (seat.rung_at, seat.waits) = (Some(Duration::ZERO), waits);
            return false;
        }
        if waits {
            return false;
        }
        self.failed(server);
        true
    }

    /// A server failed definitely; it is not asked again for this question.
    pub(super) fn failed(&mut self, server: usize) {
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.server == server && !seat.failed) {
            seat.failed = true;
            self.urgent = true;
        }
    }

    /// No packet to a server has left this machine, or a router on the way says that it knows none: as a failed rung, but
    /// the query counts for another one.
    pub(super) fn has_no_route(&mut self, server: usize, waits: bool) -> bool {
        self.sends_left += 1;
        self.rung_failed(server, waits)
    }

    /// Claims one more query to a server outside the plan's own order: TCP behind a cut reply, no EDNS behind FORMERR.
    pub(super) fn claim(&mut self) -> bool {
        let free = self.sends_left > 0;
        self.sends_left -= u8::from(free);
        free
    }

    /// Claims a query that teaches more than it answers: it leaves one for the hedge and one for the repeat.
    pub(super) fn claim_along(&mut self) -> bool {
        self.sends_left > 3 && self.claim()
    }

    fn unasked(&self) -> Option<usize> {
        self.seats.iter().position(|seat| seat.sends == 0 && !seat.failed).filter(|_| self.sends_left > 0)
    }

    fn least_asked(&self) -> Option<usize> {
        let open = self.seats.iter().enumerate().filter(|(_, seat)| !seat.failed && (seat.repeats || seat.sends == 0));
        open.min_by_key(|(_, seat)| seat.sends).map(|(at, _)| at).filter(|_| self.sends_left > 0)
    }

    fn send(&mut self, seat: usize, why: Why, now: Duration) -> Next {
        let asked = &mut self.seats[seat];
        if why == Why::Rung {
            asked.rungs_left -= 1;
        }
        if why == Why::Rung || asked.sends == 0 {
            asked.rung_at = Some(now + asked.apart);
        }
        asked.sends += 1;
        asked.waits = true;
        self.sends_left -= 1;
        let server = self.seats[seat].server;
        if !matches!(why, Why::Probe | Why::Rung) {
            self.sends += 1;
            if why == Why::Hedge {
                let (quick_sends, slow_growth) = self.pace;
                let growth = if self.sends < quick_sends { GROWTH } else { slow_growth };
                self.interval = self.interval.mul_f64(growth).min(MAX_INTERVAL);
            }
            // Whoever is asked next for the second time gets the time in which it is sure to answer.
            let repeat = self.least_asked().map(|at| &self.seats[at]).filter(|seat| seat.sends > 0);
            self.next_at = now + self.interval.max(repeat.map_or(Duration::ZERO, |seat| seat.repeat_after));
        }
        Next::Send { server, why }
    }
}

impl Seat {
    fn rung_is_due(&self, now: Duration) -> bool {
        !self.failed && self.rungs_left > 0 && self.rung_at.is_some_and(|at| now >= at)
    }
}

/// Returns how long a reply is waited for before another server is asked.
fn hedge_after(srtt: Duration) -> Duration {
    srtt.mul_f64(1.5).clamp(MIN_HEDGE, MAX_INTERVAL)
}

/// Returns the servers in the order of asking; `draw(n)` returns a random number below `n`. Looping servers are out.
pub(super) fn order(strategy: Strategy, servers: &[Snapshot], mut draw: impl FnMut(usize) -> usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..servers.len()).filter(|&at| servers[at].standing != Standing::Looping).collect();
    let rank = |at: usize| match servers[at].standing {
        Standing::Dead => 2_u8,
        Standing::Suspect if strategy == Strategy::Order => 1,
        Standing::Suspect | Standing::Good | Standing::Unknown | Standing::Looping => 0,
    };
    if strategy == Strategy::Order {
        order.sort_by_key(|&at| rank(at));
        return order;
    }
    // Among servers never heard of, those known to answer come first.
    let unknown = |at: usize| servers[at].standing == Standing::Unknown;
    order.sort_by(|&a, &b| {
        rank(a).cmp(&rank(b)).then(unknown(a).cmp(&unknown(b))).then(servers[a].cost_us.total_cmp(&servers[b].cost_us))
    });
    let Some(&best) = order.first() else { return order };
    let bar = servers[best].cost_us * NEAR_FACTOR + NEAR_EXTRA_US;
    let near =
        order.iter().take_while(|&&at| servers[at].standing == Standing::Good && servers[at].cost_us <= bar).count();
    // The power of two choices: the better of two drawn at random spreads the load and follows changes, where
    // always taking the best would make every client of a network run to the same server at once.
    if near > 2 {
        let a = draw(near);
        let b = (a + 1 + draw(near - 1)) % near;
        let chosen = order.remove(a.min(b));
        order.insert(0, chosen);
    }
    order
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
