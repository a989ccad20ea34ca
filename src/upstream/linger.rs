//! Listens in the background, for a bounded time, for replies still owed when their question has ended: a server that
//! is only slow must not count as silent.

use super::attempts::{Arrival, Attempt, Attempts, learn, make_reply};
use super::reply::Worth;
use super::servers::Server;
use super::transport::udp;
use super::{Heir, Inner};
use crate::config::UpstreamTransport;
use crate::stats::Counter;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use tokio::time::Instant;

/// Questions lingering at once, each with up to eight sockets; beyond it nothing is learnt.
pub(super) const MAX_LINGERING: usize = 512;

/// Starts listening. `heir` takes the first good reply.
pub(super) fn begin(inner: &Arc<Inner>, attempts: Attempts, until: Instant, heir: Option<Heir>) {
    if attempts.open.is_empty() {
        return;
    }
    if inner.lingering.fetch_add(1, Ordering::Relaxed) >= MAX_LINGERING || inner.sockets.are_scarce() {
        inner.lingering.fetch_sub(1, Ordering::Relaxed);
        inner.stats.count_at_bound(Counter::LingerFull);
        return;
    }
    // Detached: it holds sockets for a moment, ends by itself, and nothing waits for what it learns.
    tokio::spawn(listen_on(Arc::clone(inner), attempts, until, heir));
}

/// Listens until everything owed has come or time is over.
async fn listen_on(inner: Arc<Inner>, mut attempts: Attempts, until: Instant, mut heir: Option<Heir>) {
    let mut timer = pin!(tokio::time::sleep_until(until));
    while !attempts.open.is_empty() {
        let event = poll_fn(|cx| match attempts.poll(cx) {
            Poll::Ready(event) => Poll::Ready(Some(event)),
            Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
        });
        let Some((at, event)) = event.await else { break };
        let now = inner.clock.now();
        match attempts.sort(at, event, &inner) {
            Arrival::Reply(bytes) => {
                let attempt = attempts.open.swap_remove(at);
                let rtt = attempt.at.elapsed();
                let worth = learn(&attempt, &bytes, now, &inner);
                attempts.settle(&attempt.server, attempt.rung());
                if let Some(heir) = heir.take_if(|_| worth == Worth::Good) {
                    heir(make_reply(&attempt, bytes, rtt, 1));
                }
            }
            Arrival::Broken(error) => {
                let attempt = attempts.open.swap_remove(at);
                inner.stats.count(Counter::UpstreamErrors);
                if !attempt.is_from_here(&inner) {
                    continue;
                }
                let rung = attempt.rung();
                let none_works = udp::is_definite(&error) && attempt.server.ladder.failed(rung, now);
                if none_works && !attempts.wait_beside(&attempt.server, rung) {
                    attempt.server.health.errored(now);
                }
            }
            // It is alive; what else it is will be learnt by the next question.
            Arrival::OtherCase => {
                let attempt = attempts.open.swap_remove(at);
                if attempt.is_from_here(&inner) {
                    attempt.server.health.case_missed();
                }
            }
            Arrival::BareRefusal if attempts.open[at].transport != UpstreamTransport::Udp => {
                attempts.open.swap_remove(at);
            }
            Arrival::BareRefusal | Arrival::Flooded | Arrival::Noise => {}
        }
        // A flood must not hold the socket beyond its time.
        if Instant::now() >= until {
            break;
        }
    }
    let now = inner.clock.now();
    let mut blamed: Vec<&Arc<Server>> = Vec::new();
    for attempt in &attempts.open {
        inner.stats.count(Counter::UpstreamTimeouts);
        // Silence on another network says nothing about this one.
        if !attempt.is_from_here(&inner) {
            continue;
        }
        if !blamed.iter().any(|server| Arc::ptr_eq(server, &attempt.server)) {
            blamed.push(&attempt.server);
            let is_same = |other: &&Attempt| Arc::ptr_eq(&other.server, &attempt.server) && other.stay == attempt.stay;
            let same = attempts.open.iter().filter(is_same);
            let waited = same.map(|other| other.at.elapsed()).max().unwrap_or_default();
            attempt.server.health.silent(now, waited);
        }
    }
    inner.lingering.fetch_sub(1, Ordering::Relaxed);
}
