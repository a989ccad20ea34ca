//! What the guard has learnt since the start, and what it takes from one decision.

use super::parties::Parties;
use super::proofs::UnderWay;
use crate::clock::{self, Tick};
use crate::dns::Name;
use crate::pipeline::Pipeline;
use crate::pipeline::guard::changes::{Change, Changes};
use crate::pipeline::guard::evidence::{Habits, Proof};
use crate::pipeline::guard::incident::{Book, Finding, Incident, IncidentId, Recorded, WallTime};
use crate::pipeline::guard::memory::{Memory, Proved};
use crate::pipeline::guard::reply::Content;
use crate::pipeline::guard::tally::Found;
use crate::pipeline::guard::verdict::{Decision, Given, Verdict};
use crate::pipeline::keep::PLACE;
use crate::pipeline::said::Shown;
use crate::stats::{Counter, Stats};
use crate::upstream::Reply;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::Notify;

/// What the guard has learnt since the start; kept over reloads.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Learnt {
    tables: Mutex<Tables>,
    /// Proofs that are looked for.
    pub(super) under_way: UnderWay,
    /// Told when an incident or a change is new, or an incident another one.
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Tables {
    memory: Memory,
    book: Book,
    changes: Changes,
}

impl Learnt {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        // The tables are whole between any two statements that could panic.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what a server is known to do.
    pub(super) fn habits(&self, reply: &Reply) -> Habits {
        self.tables().memory.habits(&reply.server)
    }

    /// Adds what is known of the name, and of the addresses that the suspect gives.
    pub(super) fn recall(&self, parties: &mut Parties, now: Tick) {
        let memory = &mut self.tables().memory;
        let Parties { about, evidence, proves, shown, .. } = parties;
        if let Some(name) = proves {
            let given = evidence.suspects.iter().chain(&evidence.trusted).flat_map(|of| &of.replies);
            let mut given: Vec<IpAddr> = given.flat_map(|reply| reply.addresses()).collect();
            given.sort_unstable();
            given.dedup();
            (evidence.proofs, *shown) = (Vec::new(), Vec::new());
            for address in given {
                let Some(proved) = memory.proof(PLACE, name, address, now) else { continue };
                evidence.proofs.push((address, proved.proof));
                shown.push(Shown { address, shown: word(proved.proof).to_owned(), told: proved.told.to_string() });
            }
        }
        let addresses = evidence.suspects.iter().flat_map(|of| &of.replies).flat_map(|reply| reply.addresses());
        evidence.fan_in =
            addresses.map(|address| (address, memory.fan_in(PLACE, address, &about.qname, now))).collect();
        evidence.ttl_ceiling = memory.ttl_ceiling(PLACE, &about.qname, about.qtype);
        evidence.had_data = memory.must_have_data(PLACE, &about.qname, about.qtype, now);
    }

    /// Keeps what an address has shown for a name.
    pub(super) fn keep_proof(&self, name: &Name, address: IpAddr, proved: Proved) {
        self.tables().memory.proved(PLACE, name, address, proved);
    }

    /// Returns how long to listen behind a reply in a datagram.
    pub(super) fn listen_for(&self, now: Tick) -> Duration {
        self.tables().memory.listen_for(PLACE, now)
    }

    /// Notes that a query was listened on, and whether a reply came that shares nothing with the first.
    pub(super) fn listened(&self, pair: bool, now: Tick) {
        self.tables().memory.listened(PLACE, pair, now);
    }

    /// Keeps what this question has taught, and records what was found against somebody.
    pub(super) fn learn(&self, parties: &Parties, decision: &Decision, served: Given, now: Tick, stats: &Stats) {
        let mut tables = self.tables();
        let Tables { memory, book, changes } = &mut *tables;
        let Parties { about, evidence, .. } = parties;
        let at = WallTime(clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        if let Some((reply, from)) = parties.given(decision, served)
            && changes.saw((PLACE, &about.qname, about.qtype), reply, from, at)
        {
            stats.count(Counter::GuardChanges);
            self.changed.notify_one();
        }
        memory.remember(PLACE, &about.qname, about.qtype, decision.verdict, now);
        let trusted = || evidence.trusted.iter().flat_map(|candidate| &candidate.replies);
        for reply in trusted() {
            if let Some((_, ttl)) = reply.ttls {
                memory.saw_trusted_ttl(PLACE, &about.qname, about.qtype, ttl);
            }
        }
        let has_data = trusted().any(|reply| reply.content == Content::Data);
        let unsure = decision.keep_at_most.is_some();
        if has_data || !unsure && trusted().any(|reply| matches!(reply.content, Content::Empty | Content::Missing)) {
            memory.saw_presence(PLACE, &about.qname, about.qtype, has_data, now);
        }
        let disputed = !decision.verdict.is_clean() && !evidence.trusted.is_empty();
        for (reply, server) in parties.suspected() {
            if decision.verdict.is_clean() {
                memory.saw_reply(server, reply);
            }
            for address in reply.addresses() {
                memory.saw_address(PLACE, address, &about.qname, disputed, now);
            }
        }
        let Some(suspect) = parties.accused(decision) else { return };
        let packets: Vec<(&str, &[u8])> = parties.said().map(|reply| (&*reply.server, &*reply.message)).collect();
        let finding = Finding {
            place: PLACE,
            upstream: &suspect.server,
            qname: &about.qname,
            qtype: about.qtype,
            decision,
            served,
            packets: &packets,
            proofs: &parties.shown.iter().map(Shown::to_string).collect::<Vec<_>>(),
            at,
        };
        let recorded = book.record(&finding);
        if recorded != Recorded::Nothing {
            self.changed.notify_one();
        }
        if let Recorded::New(_) = recorded {
            stats.count(Counter::GuardIncidents);
            let (upstream, verdict, score) = (&*suspect.server, decision.verdict.as_str(), decision.assessment.score);
            tracing::warn!(upstream, verdict, score, "a reply does not stand beside a trusted one");
        }
    }
}

/// Returns the word for what an address has shown.
fn word(proof: Proof) -> &'static str {
    match proof {
        Proof::Valid => "proved",
        Proof::OtherName => "another name",
        Proof::Untrusted => "not signed",
        Proof::LocalRoot => "signed here",
        Proof::Unreachable => "nothing",
    }
}

impl Pipeline {
    /// Returns the incidents, the one seen longest ago first.
    #[must_use]
    pub fn incidents(&self) -> Vec<Incident> {
        self.learnt.tables().book.iter().cloned().collect()
    }

    /// Returns one.
    #[must_use]
    pub fn incident(&self, id: IncidentId) -> Option<Incident> {
        self.learnt.tables().book.get(id).cloned()
    }

    /// Returns how many incidents nobody has taken note of, and the number of the one seen last.
    #[must_use]
    pub fn open_incidents(&self) -> (usize, Option<String>) {
        let tables = self.learnt.tables();
        (tables.book.open_count(), tables.book.iter().next_back().map(Incident::id_text))
    }

    /// Returns what was found against upstreams since the start: the label of each, of what kind, and how often.
    #[must_use]
    pub fn found(&self) -> Vec<(String, Verdict, Found)> {
        let tables = self.learnt.tables();
        tables.book.tally().iter().map(|(upstream, verdict, found)| (upstream.to_owned(), verdict, found)).collect()
    }

    /// Marks one as taken note of; returns whether it exists.
    pub fn acknowledge(&self, id: IncidentId) -> bool {
        let exists = self.learnt.tables().book.acknowledge(id);
        if exists {
            self.learnt.changed.notify_one();
        }
        exists
    }

    /// Takes over incidents from before the start.
    pub fn restore_incidents(&self, before: Vec<Incident>) {
        self.learnt.tables().book.restore(before);
    }

    /// Returns the changes of guarded names' answers, the oldest first.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        self.learnt.tables().changes.iter().cloned().collect()
    }

    /// Takes over changes from before the start.
    pub fn restore_changes(&self, before: Vec<Change>) {
        self.learnt.tables().changes.restore(before);
    }

    /// Returns what is told when an incident or a change is new, or an incident another one.
    #[must_use]
    pub fn incidents_changed(&self) -> Arc<Notify> {
        Arc::clone(&self.learnt.changed)
    }
}
