//! The groups a question goes through: its own, its fallbacks, and what is done when nothing of one answers.
//!
//! Most groups are waited for with [`group::PATIENCE`], and go by their servers' health alone. One of public servers that is
//! asked over encrypted connections only and has somebody behind it *gives way*: it is down as soon as one question found nobody, after
//! [`group::FIRST_PATIENCE`] when nobody of it has answered on this network before. From then on questions go on at once,
//! and now and then one is asked of it in the background as well, until something of it answers. The reasons are in
//! docs/decisions/0006-ladders-and-groups-that-give-way.md.

use super::exchange::{Exchange, Hold};
use super::group::{self, MAX_GROUPS};
use super::servers::Server;
use super::{Acceptance, Ask, Failure, Inner, Reply, ServerInfo};
use crate::dns::Trace;
use crate::dns::wire::Message;
use crate::stats::Counter;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How long a group that is down may take when it is looked at again; whoever asked does not wait for it.
const LOOK: Duration = Duration::from_millis(4500);

/// See [`super::Upstreams::ask`].
pub(super) async fn ask(inner: &Arc<Inner>, ask: Ask<'_>, trace: &mut Trace) -> Result<Reply, Box<Failure>> {
    // First: what is asked after a sleep is asked on the network that the machine has woken up in.
    inner.look_at_clocks(Instant::now(), inner.clock.now());
    let mut exchange = Exchange::new(inner, ask, trace);
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
        next = state.fallback.filter(|id| !visited.contains(&Some(*id)) && ask.apart_from.is_none());
        let hold = Hold {
            id,
            state,
            has_fallback: next.is_some(),
            is_look: false,
            gives_way: false,
            patience: group::PATIENCE,
        };
        if let Some(reply) = climb(&mut exchange, hold, &mut sends_left, timer.as_mut()).await {
            return Ok(exchange.succeed(reply, under_way));
        }
    }
    exchange.fail(under_way)
}

/// Asks one group until it answers or is down.
async fn climb(
    exchange: &mut Exchange<'_>,
    mut hold: Hold<'_>,
    sends_left: &mut u8,
    timer: Pin<&mut Sleep>,
) -> Option<Reply> {
    let (inner, state) = (exchange.inner, hold.state);
    let members = exchange.eligible(hold.id);
    // Whoever stands behind encrypted public resolvers gives the same names in a less trusted way. Behind plain or private
    // ones stand other answers, often: a tunnel's resolvers may be there again at any moment, and what others say
    // instead is kept.
    let is_one = |server: &Arc<Server>| server.ways.are_encrypted() && !server.info_for_judging().private;
    let gives_way = !members.is_empty() && members.iter().all(is_one);
    if !gives_way || !(hold.has_fallback || exchange.ask.resort) {
        return exchange.ask_members(hold, &members, sends_left, timer).await;
    }
    hold.gives_way = true;
    let answered_since = |since| members.iter().any(|server| server.health.answered_since(since));
    if state.outage.lasts(answered_since) {
        exchange.pass_on(state);
        if state.outage.claim_probe(inner.clock.now()) {
            look_at(inner, &Ask { group: hold.id, hold: None, ..exchange.ask });
        }
        return None;
    }
    if state.outage.end() {
        tracing::info!(group = state.name, "a group of upstreams answers again");
    }
    if !answered_since(inner.groups.here().since()) {
        hold.patience = group::FIRST_PATIENCE;
    }
    let sent = exchange.sends;
    let reply = exchange.ask_members(hold, &members, sends_left, timer).await;
    let nobody = reply.is_none() && !answered_since(exchange.start_tick) && exchange.is_from_here();
    if nobody && exchange.sends > sent && !exchange.scarce && state.outage.begin(inner.clock.now()) {
        inner.stats.count(Counter::UpstreamGroupsDown);
        tracing::warn!(group = state.name, "no upstream of a group can be reached; others are asked in its place");
    }
    reply
}

/// Asks a group that is down a question of somebody's, in the background, to learn whether it answers again.
fn look_at(inner: &Arc<Inner>, ask: &Ask<'_>) {
    let (inner, question) = (Arc::clone(inner), ask.question.clone());
    let (group, only_private) = (ask.group, ask.only_private);
    // Detached: it ends with its deadline, and nothing waits for what it learns.
    tokio::spawn(async move {
        let deadline = Instant::now() + LOOK;
        let acceptable = |_: &Message<'_>, _: &ServerInfo| Acceptance::Accept;
        let (acceptable, question) = (&acceptable, &question);
        let ask = Ask { only_private, acceptable, ..Ask::new(group, question, deadline) };
        let Some(state) = inner.groups.get(group) else { return };
        let mut trace = Trace::off();
        let mut exchange = Exchange::new(&inner, ask, &mut trace);
        let under_way = inner.loops.under_way(question, group, only_private);
        let mut timer = pin!(tokio::time::sleep_until(deadline));
        let hold =
            Hold { id: group, state, has_fallback: false, is_look: true, gives_way: false, patience: group::PATIENCE };
        let members = exchange.eligible(group);
        let reply = exchange.ask_members(hold, &members, &mut { group::MAX_SENDS }, timer.as_mut()).await;
        // What it was asked for has been learnt on the way; the answer is nobody's.
        match reply {
            Some(reply) => drop(exchange.succeed(reply, under_way)),
            None => drop(exchange.fail(under_way)),
        }
    });
}
