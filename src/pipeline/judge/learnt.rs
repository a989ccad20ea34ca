//! What the guard has learnt since the start, and what it takes from one decision.

use super::parties::Parties;
use super::proofs::UnderWay;
use super::samples::Samples;
use crate::clock::{self, Tick};
use crate::config::{Guard, PlaceId};
use crate::dns::Name;
use crate::pipeline::Pipeline;
use crate::pipeline::guard::changes::{Change, Changes};
use crate::pipeline::guard::evidence::{Habits, Proof};
use crate::pipeline::guard::incident::{Book, Finding, Incident, IncidentId, Recorded, WallTime};
use crate::pipeline::guard::memory::{Memory, Proved};
use crate::pipeline::guard::probed::Probed;
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
    /// When names that nobody guards were last looked at.
    pub(super) samples: Samples,
    /// Told when an incident or a change is new, or an incident another one.
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Tables {
    memory: Memory,
    book: Book,
    changes: Changes,
    probed: Probed,
}

impl Learnt {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        // The tables are whole between any two statements that could panic.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what a server is known to do.
    pub(super) fn habits(&self, place: PlaceId, reply: &Reply) -> Habits {
        self.tables().memory.habits(place, &reply.server)
    }

    /// Adds what is known of the name, and of the addresses that the suspect gives.
    pub(super) fn recall(&self, parties: &mut Parties, now: Tick) {
        parties.note_configured();
        let operators = parties.suspects_operators();
        let mut tables = self.tables();
        let Tables { memory, probed, .. } = &mut *tables;
        let Parties { about, place, evidence, proves, shown, .. } = parties;
        let place = *place;
        if let Some(name) = proves {
            let given = evidence.suspects.iter().chain(&evidence.trusted).flat_map(|of| &of.replies);
            let mut given: Vec<IpAddr> = given.flat_map(|reply| reply.addresses()).collect();
            given.sort_unstable();
            given.dedup();
            (evidence.proofs, *shown) = (Vec::new(), Vec::new());
            for address in given {
                let Some(proved) = memory.proof(place, name, address, now) else { continue };
                evidence.proofs.push((address, proved.proof));
                shown.push(Shown { address, shown: word(proved.proof).to_owned(), told: proved.told.to_string() });
            }
        }
        let addresses: Vec<IpAddr> =
            evidence.suspects.iter().flat_map(|of| &of.replies).flat_map(|reply| reply.addresses()).collect();
        evidence.invented = Vec::new();
        for (number, operator) in operators {
            let known = addresses.iter().filter(|at| probed.is_invented((place, &operator, **at), now));
            evidence.invented.extend(known.map(|at| (number, *at)));
        }
        evidence.decoy_answered = probed.was_decoy_answered(place, now);
        evidence.fan_in =
            addresses.into_iter().map(|address| (address, memory.fan_in(place, address, &about.qname, now))).collect();
        evidence.ttl_ceiling = memory.ttl_ceiling(place, &about.qname, about.qtype);
        evidence.had_data = memory.must_have_data(place, &about.qname, about.qtype, now);
    }

    /// Tells whether replies about this name were judged on this network not long ago.
    pub(super) fn is_judged(&self, parties: &Parties, now: Tick) -> bool {
        let Parties { about, place, .. } = parties;
        self.tables().memory.verdict(*place, &about.qname, about.qtype, now).is_some()
    }

    /// Keeps what an address has shown for a name.
    pub(super) fn keep_proof(&self, place: PlaceId, name: &Name, address: IpAddr, proved: Proved) {
        self.tables().memory.proved(place, name, address, proved);
    }

    /// Tells whether a group is to be asked now for a name that does not exist; whoever is told so asks.
    pub(super) fn denial_is_due(&self, place: PlaceId, group: &str, now: Tick) -> bool {
        self.tables().probed.denial_is_due(place, group, now)
    }

    /// Notes addresses that were given for a name which does not exist.
    pub(super) fn saw_invented(&self, (place, operator): (PlaceId, &str), addresses: &[IpAddr], now: Tick) {
        let probed = &mut self.tables().probed;
        addresses.iter().for_each(|address| probed.saw_invented((place, operator, *address), now));
    }

    /// Notes that nothing came of such a question, so that it is asked again.
    pub(super) fn denial_failed(&self, place: PlaceId, group: &str) {
        self.tables().probed.denial_failed(place, group);
    }

    /// Returns which decoy is to be asked now, of so many there are; whoever is told so asks.
    pub(super) fn decoy_due(&self, place: PlaceId, decoys: usize, now: Tick) -> Option<usize> {
        self.tables().probed.decoy_due(place, decoys, now)
    }

    /// Notes that a decoy was answered.
    pub(super) fn decoy_answered(&self, place: PlaceId, now: Tick) {
        self.tables().probed.decoy_answered(place, now);
    }

    /// Returns how long to listen behind a reply in a datagram.
    pub(super) fn listen_for(&self, place: PlaceId, now: Tick) -> Duration {
        self.tables().memory.listen_for(place, now)
    }

    /// Notes that a query was listened on, and whether a reply came that shares nothing with the first.
    pub(super) fn listened(&self, place: PlaceId, pair: bool, now: Tick) {
        self.tables().memory.listened(place, pair, now);
    }

    /// Keeps what this question has taught, and records what was found against somebody.
    pub(super) fn learn(
        &self,
        parties: &Parties,
        (decision, served): (&Decision, Given),
        now: Tick,
        stats: &Stats,
        guard: &Guard,
    ) {
        let mut tables = self.tables();
        let Tables { memory, book, changes, .. } = &mut *tables;
        let Parties { about, evidence, .. } = parties;
        let place = parties.place;
        let at = WallTime(clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        if let Some((reply, from)) = parties.given(decision, served)
            && changes.saw((PLACE, &about.qname, about.qtype), reply, from, at)
        {
            stats.count(Counter::GuardChanges);
            self.changed.notify_one();
        }
        memory.remember(place, &about.qname, about.qtype, decision.verdict, now);
        let trusted = || evidence.trusted.iter().flat_map(|candidate| &candidate.replies);
        for reply in trusted() {
            if let Some((_, ttl)) = reply.ttls {
                memory.saw_trusted_ttl(place, &about.qname, about.qtype, ttl);
            }
        }
        let has_data = trusted().any(|reply| reply.content == Content::Data);
        let unsure = decision.keep_at_most.is_some();
        if has_data || !unsure && trusted().any(|reply| matches!(reply.content, Content::Empty | Content::Missing)) {
            memory.saw_presence(place, &about.qname, about.qtype, has_data, now);
        }
        let disputed = !decision.verdict.is_clean() && !evidence.trusted.is_empty();
        for (reply, server) in parties.suspected() {
            if decision.verdict.is_clean() {
                memory.saw_reply(place, server, reply);
            }
            for address in reply.addresses() {
                memory.saw_address(place, address, &about.qname, disputed, now);
            }
        }
        let Some(suspect) = parties.accused(decision) else { return };
        let said = parties.said().filter(|_| guard.packets);
        let packets: Vec<(&str, &[u8])> = said.map(|reply| (&*reply.server, &*reply.message)).collect();
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
    /// Takes note of a network that is not what it was: what addresses showed there that was no proof may have been the network's
    /// own doing, and what was judged there is judged anew.
    pub fn network_changed(&self) {
        self.learnt.tables().memory.forget_network();
    }

    /// Takes note that the network has a number now, by which it is known again.
    pub fn network_named(&self, place: PlaceId) {
        let mut tables = self.learnt.tables();
        tables.memory.name_network(place);
        tables.probed.name_network(place);
    }

    /// Takes note that the network was another one than it seemed, or cannot be told from others: what was learnt may be of either.
    pub fn network_mistaken(&self) {
        let mut tables = self.learnt.tables();
        (tables.memory, tables.probed) = (Memory::default(), Probed::default());
    }

    /// Returns the incidents, the one seen longest ago first.
    #[must_use]
    pub fn incidents(&self) -> Vec<Incident> {
        let oldest = self.oldest_incident();
        self.learnt.tables().book.iter().filter(|incident| incident.last_seen >= oldest).cloned().collect()
    }

    /// Returns before when incidents are kept no longer. They are left out and not removed: a clock that is wrong may be set.
    fn oldest_incident(&self) -> WallTime {
        let keep = self.state().config.guard.keep;
        let now = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(now.saturating_sub(keep).as_secs())
    }

    /// Returns one.
    #[must_use]
    pub fn incident(&self, id: IncidentId) -> Option<Incident> {
        let oldest = self.oldest_incident();
        self.learnt.tables().book.get(id).filter(|incident| incident.last_seen >= oldest).cloned()
    }

    /// Returns how many incidents nobody has taken note of, and the number of the one seen last.
    #[must_use]
    pub fn open_incidents(&self) -> (usize, Option<String>) {
        let oldest = self.oldest_incident();
        let tables = self.learnt.tables();
        let kept = || tables.book.iter().filter(|incident| incident.last_seen >= oldest);
        (kept().filter(|incident| !incident.acknowledged).count(), kept().next_back().map(Incident::id_text))
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
