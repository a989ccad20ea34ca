//! Finding a server that is known by name only: by asking those that are known by address, never through ourselves.
//!
//! Who they are is for [`super::super::finding`] to say. Here: what they are asked, which of them is believed, how long
//! what they say is kept. Addresses are looked for when a connection is to be opened, and again behind the queries of a
//! server in use when half of their life is over; nothing happens while nobody asks. When nobody can tell, those known
//! before stay in use.

use super::jobs::{ABANDONED, Fault};
use super::race;
use crate::dns::address::is_private;
use crate::dns::wire::{Message, Section, flag};
use crate::dns::{Name, QuestionKey, Rtype};
use futures_util::future::{Either, select};
use std::fmt;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// Addresses kept of a name.
const MAX_ADDRESSES: usize = 8;
/// Addresses are kept at least so long: a connection is opened seldom, and they hardly change.
const MIN_KEPT: Duration = Duration::from_secs(60);
/// Addresses are kept at most so long.
const MAX_KEPT: Duration = Duration::from_secs(86_400);
/// How long after the addresses of one family those of the other are waited for (RFC 8305 section 3).
const OTHER_FAMILY: Duration = Duration::from_millis(50);
/// How long after a search that was in vain, behind queries, the next one begins.
const REFRESH_PAUSE: Duration = Duration::from_secs(30);
/// How long addresses whose time is over wait for newer ones: several round trips to a resolver that answers.
const NEWER_WITHIN: Duration = Duration::from_millis(300);

/// Asks one server, known by address, one question; gives its reply, already matched, or nothing after a time.
pub(in crate::upstream) type Helper = Box<dyn Fn(QuestionKey) -> Answering + Send + Sync>;
/// The reply that is waited for.
pub(in crate::upstream) type Answering = Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send>>;
/// Says who can be asked at this moment: first all of one list, then those of the next.
pub(in crate::upstream) type Helpers = dyn Fn() -> Vec<Vec<Helper>> + Send + Sync;

/// Where a server's name leads. Shared by all ways to the server.
#[derive(Default)]
pub(in crate::upstream) struct Finder {
    state: Mutex<State>,
    /// A search that nobody has to wait for is under way.
    refreshing: AtomicBool,
    /// Told when it is over.
    refreshed: Notify,
}

#[derive(Default)]
struct State {
    helpers: Option<Arc<Helpers>>,
    known: Option<Known>,
    /// Why the last search was in vain.
    fault: Option<Fault>,
    /// No search behind queries begins before.
    next_refresh: Option<Instant>,
}

#[derive(Clone)]
struct Known {
    addresses: Vec<IpAddr>,
    until: Instant,
}

impl fmt::Debug for Finder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.state().known.as_ref().map(|known| known.addresses.clone());
        f.debug_struct("Finder").field("known", &known).finish_non_exhaustive()
    }
}

impl Finder {
    /// Says who can be asked from here on.
    pub(in crate::upstream) fn set_helpers(&self, helpers: Arc<Helpers>) {
        self.state().helpers = Some(helpers);
    }

    /// Returns the addresses of the server's name: those that are known while they may be kept, else what is found. Those
    /// whose time is over wait for that a moment only: a server stays within reach when nobody can look names up. Must be
    /// called inside a tokio runtime.
    pub(super) async fn addresses(self: &Arc<Self>, name: &Name) -> Result<Vec<IpAddr>, Fault> {
        let known = self.state().known.clone();
        match known {
            None => self.found(name).await,
            Some(known) if Instant::now() < known.until => Ok(known.addresses),
            Some(known) => {
                let refreshed = self.refreshed.notified();
                self.refresh(name);
                // Either way, what is known then is the best there is.
                let _ = timeout(NEWER_WITHIN, refreshed).await;
                Ok(self.state().known.as_ref().map_or(known.addresses, |newer| newer.addresses.clone()))
            }
        }
    }

    /// Returns what the search for a name that nothing is known of finds. It goes on when whoever waits gives up, as a
    /// connection does after its time: asking one after the other may take longer, and the next connection has its result.
    async fn found(self: &Arc<Self>, name: &Name) -> Result<Vec<IpAddr>, Fault> {
        // Told also of what ends from here on, before it is waited for.
        let refreshed = self.refreshed.notified();
        self.refresh(name);
        refreshed.await;
        let state = self.state();
        state
            .known
            .as_ref()
            .map(|known| known.addresses.clone())
            // It ended with the runtime it ran on, which says nothing about the server.
            .ok_or_else(|| state.fault.clone().unwrap_or_else(|| Fault::of(ABANDONED)))
    }

    /// Looks for a name that nothing is kept of, such as a proxy's.
    pub(super) async fn find(&self, name: &Name) -> Result<(Vec<IpAddr>, Duration), Fault> {
        let helpers = self.state().helpers.clone();
        find(name, helpers.map(|helpers| helpers()).unwrap_or_default()).await
    }

    async fn search(&self, name: &Name) {
        let found = self.find(name).await;
        let mut state = self.state();
        let now = Instant::now();
        match found {
            Ok((addresses, kept)) => {
                state.known = Some(Known { addresses, until: now + kept });
                (state.fault, state.next_refresh) = (None, Some(now + kept / 2));
            }
            Err(fault) => {
                // Behind queries of a server that is known; one that is not is looked for by its next connection.
                let again = state.known.as_ref().map(|_| now + REFRESH_PAUSE);
                (state.fault, state.next_refresh) = (Some(fault), again);
            }
        }
    }

    /// The server is being asked: looks for its name once more when it is time, so that the next connection need not wait
    /// for that. Must be called inside a tokio runtime.
    pub(super) fn refresh_when_due(self: &Arc<Self>, name: &Name) {
        let is_due = |at: Instant| Instant::now() >= at;
        if self.state().next_refresh.is_some_and(is_due) {
            self.refresh(name);
        }
    }

    /// Looks for the server's name behind all else, unless that is under way.
    fn refresh(self: &Arc<Self>, name: &Name) {
        if self.refreshing.swap(true, Ordering::Relaxed) {
            return;
        }
        let (running, name) = (Refreshing(Arc::clone(self)), name.clone());
        // Detached: it ends by itself in a few seconds, and nothing waits for its end.
        tokio::spawn(async move {
            running.0.search(&name).await;
        });
    }

    /// A connection did not open: the next one looks for the name again.
    pub(super) fn forget(&self) {
        if let Some(known) = &mut self.state().known {
            known.until = Instant::now();
        }
    }

    /// The network may be another one. The known addresses are tried at once, since they hardly ever change; the next query
    /// has the name looked for behind it.
    pub(in crate::upstream) fn doubt(&self) {
        let mut state = self.state();
        if state.known.is_some() {
            state.next_refresh = Some(Instant::now());
        }
    }

    /// Tells whether the name is known to lead to private addresses and no others.
    pub(super) fn is_private(&self) -> bool {
        self.state().known.as_ref().is_some_and(|known| known.addresses.iter().copied().all(is_private))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each field is whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A search that nobody has to wait for; over when dropped, also with its runtime.
struct Refreshing(Arc<Finder>);

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.0.refreshing.store(false, Ordering::Relaxed);
        self.0.refreshed.notify_waiters();
    }
}

/// Returns the addresses of a name, IPv6 and IPv4 in turn, and how long they may be kept.
async fn find(name: &Name, helpers: Vec<Vec<Helper>>) -> Result<(Vec<IpAddr>, Duration), Fault> {
    if helpers.iter().all(Vec::is_empty) {
        return Err(Fault::told(format!(
            "there is nobody to ask for {name}: no `bootstrap`, no server known by address"
        )));
    }
    for helpers in &helpers {
        let found = race::first(helpers, "nobody", |helper| look_up(name, helper)).await;
        if found.is_ok() {
            return found;
        }
    }
    Err(Fault::told(format!("nobody who can be asked knows an address of {name}: see `bootstrap`")))
}

/// Asks one server for the addresses of a name.
async fn look_up(name: &Name, helper: &Helper) -> Result<(Vec<IpAddr>, Duration), Fault> {
    let (v6, v4) = (pin!(ask(helper, name, Rtype::AAAA)), pin!(ask(helper, name, Rtype::A)));
    let (v6, v4) = match select(v6, v4).await {
        Either::Left((v6, v4)) if v6.is_empty() => (v6, v4.await),
        Either::Left((v6, v4)) => (v6, timeout(OTHER_FAMILY, v4).await.unwrap_or_default()),
        Either::Right((v4, v6)) if v4.is_empty() => (v6.await, v4),
        Either::Right((v4, v6)) => (timeout(OTHER_FAMILY, v6).await.unwrap_or_default(), v4),
    };
    let ttl = v6.iter().chain(&v4).map(|(_, ttl)| *ttl).min();
    let ttl = ttl.ok_or_else(|| Fault::told("it has no address"))?;
    let pairs = (0..v6.len().max(v4.len())).flat_map(|at| [v6.get(at), v4.get(at)]);
    let addresses = pairs.flatten().map(|(ip, _)| *ip).take(MAX_ADDRESSES).collect();
    Ok((addresses, Duration::from_secs(ttl.into()).clamp(MIN_KEPT, MAX_KEPT)))
}

/// Asks for the addresses of one family, with their TTLs.
async fn ask(helper: &Helper, name: &Name, rtype: Rtype) -> Vec<(IpAddr, u32)> {
    let question = QuestionKey { qname: name.to_lower(), qtype: rtype, dnssec_ok: false, checking_disabled: false };
    let reply = helper(question).await.unwrap_or_default();
    let Some(message) = Message::parse(&reply).ok().filter(|message| !message.has(flag::TC)) else { return Vec::new() };
    let address = |rdata: &[u8]| -> Option<IpAddr> {
        match rtype {
            Rtype::A => <[u8; 4]>::try_from(rdata).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(rdata).ok().map(IpAddr::from),
        }
    };
    let records = message.section(Section::Answer).filter(|record| record.rtype == rtype);
    records.filter_map(|record| Some((address(message.rdata(&record))?, record.ttl))).collect()
}

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
