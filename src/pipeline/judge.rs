//! Stage 7 for guarded names: gathers what `guard::judge` asks for, and learns from what it says.
//!
//! A reply of the group that `[guard] references` names is believed. Any other is held against one of that group's, asked
//! for within `[guard] budget`: the client has an answer at hand and must not wait long for a better one. Without one in
//! time it goes out for 30 s at most, or not at all when a sign speaks hard against it.

use super::compose::AddressPolicy;
use super::guard::evidence::{Candidate, Evidence, OperatorId, Probe, Way as Path};
use super::guard::incident::{Book, Finding, Recorded, WallTime};
use super::guard::memory::Memory;
use super::guard::reply::{Datum, Question, Reply as Read};
use super::guard::verdict::{Decision, Serve, Side, Verdict};
use super::guard::{Compare, HoldOn, Judgement, Policy, judge};
use super::keep::PLACE;
use super::state::Way;
use super::text::key_text;
use super::{Pipeline, Work};
use crate::clock;
use crate::config::UpstreamTransport;
use crate::dns::answer::ede;
use crate::dns::wire::Message;
use crate::dns::{Ede, QuestionKey, Rtype, Stage};
use crate::stats::Counter;
use crate::upstream::{Failure, Reply};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};
use tokio::time::Instant;

/// How guarded names are judged. Proofs, decoys and listening on are not run here.
const POLICY: Policy = Policy {
    exempt: false,
    guarded: true,
    compare: Compare::Always,
    proofs: false,
    decoys: false,
    hold_on: HoldOn::Never,
};

/// A reply with what may be done with its addresses.
type Found = (Reply, AddressPolicy);

/// A reply that may go on to compose.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) reply: Reply,
    pub(super) policy: AddressPolicy,
    /// How long it may be kept, when that is less than its TTLs say: nothing trusted confirms it.
    pub(super) keep_at_most: Option<Duration>,
    /// What the client is told about that.
    pub(super) why: Option<Ede>,
}

impl Judged {
    /// A reply that nobody judges.
    pub(super) fn unlooked((reply, policy): Found) -> Self {
        Self { reply, policy, keep_at_most: None, why: None }
    }
}

/// Why there is no reply to go on with.
#[derive(Debug)]
pub(super) enum Unusable {
    /// None came.
    Failed(Box<Failure>),
    /// What came looks forged, and nothing trusted stands against it.
    Distrusted,
}

/// What the guard has learnt since the start; kept over reloads.
#[derive(Debug, Default)]
pub(super) struct Learnt(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    memory: Memory,
    book: Book,
}

impl Learnt {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        // The tables are whole between any two statements that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who has replied so far.
#[derive(Debug, Default)]
struct Parties {
    suspect: Option<Found>,
    trusted: Option<Found>,
}

impl Pipeline {
    /// Judges what the group of a guarded name has said, and returns what may be believed.
    pub(super) async fn judge(
        &self,
        question: &QuestionKey,
        way: &Way,
        asked: Result<Found, Box<Failure>>,
        work: &mut Work<'_>,
    ) -> Result<Judged, Unusable> {
        let about = Question { qname: question.qname.clone(), qtype: question.qtype };
        let mut parties = Parties::default();
        let mut evidence = Evidence::default();
        let failure = match asked {
            Ok(found) if work.state.is_reference(&found.0) => {
                evidence.trusted.push(self.candidate(&about, &found.0, Side::Trusted));
                parties.trusted = Some(found);
                None
            }
            Ok(found) => {
                self.add_suspect(&about, &found.0, &mut evidence);
                parties.suspect = Some(found);
                None
            }
            Err(failure) if way.group == work.state.config.guard.references => return Err(Unusable::Failed(failure)),
            Err(failure) => {
                evidence.suspects.push(silent());
                Some(failure)
            }
        };
        let decision = loop {
            match judge(&about, &POLICY, &evidence) {
                Judgement::Serve(decision) => break decision,
                // Each probe is asked for once.
                Judgement::Need(probes) => {
                    for probe in probes.iter() {
                        self.bring(probe, question, way, &mut parties, &mut evidence, work).await;
                    }
                    evidence.tried.add(probes);
                }
            }
        };
        self.learn(&about, &evidence, &parties, &decision);
        work.step(Stage::Guard, || {
            let signs: Vec<_> = decision.assessment.signs.iter().map(|sign| sign.as_str()).collect();
            (key_text(question), told(&decision), signs.join(", "))
        });
        self.stats.count(counter(decision.verdict));
        let served = match decision.serve {
            Serve::Reply(at) => Some((at.side, None)),
            Serve::Unconfirmed(at) => {
                Some((at.side, Some(Ede::new(ede::OTHER, "nothing trusted confirms this answer"))))
            }
            Serve::Nothing => None,
        };
        let found = |side| if side == Side::Trusted { parties.trusted } else { parties.suspect };
        match served.and_then(|(side, why)| found(side).map(|found| (found, why))) {
            Some(((reply, policy), why)) => Ok(Judged { reply, policy, keep_at_most: decision.keep_at_most, why }),
            None => Err(failure.map_or(Unusable::Distrusted, Unusable::Failed)),
        }
    }

    /// Runs one probe. Those that cannot be run bring nothing.
    async fn bring(
        &self,
        probe: Probe,
        question: &QuestionKey,
        way: &Way,
        parties: &mut Parties,
        evidence: &mut Evidence,
        work: &mut Work<'_>,
    ) {
        let about = Question { qname: question.qname.clone(), qtype: question.qtype };
        match probe {
            Probe::AskTrusted => {
                // Who has nothing to give may wait as long as for any answer.
                let patience = parties.suspect.is_some();
                if let Some(found) = self.ask_reference(question, way, patience, work).await {
                    evidence.trusted.push(self.candidate(&about, &found.0, Side::Trusted));
                    parties.trusted = Some(found);
                }
            }
            Probe::AskIpv4 => {
                let ipv4 = QuestionKey { qtype: Rtype::A, ..question.clone() };
                if let Some((reply, _)) = self.ask_reference(&ipv4, way, true, work).await {
                    let about = Question { qtype: Rtype::A, ..about };
                    let addresses = read(&about, &reply).into_iter().flat_map(|read| read.data);
                    evidence.ipv4.extend(addresses.filter_map(|datum| match datum {
                        Datum::Address(IpAddr::V4(v4)) => Some(v4),
                        Datum::Address(IpAddr::V6(_)) | Datum::Other(_) => None,
                    }));
                }
            }
            Probe::AskAnotherTrusted | Probe::ListenOn | Probe::Prove | Probe::Decoy => {}
        }
    }

    /// Asks the group whose replies are believed; with `briefly` no longer than `[guard] budget`.
    async fn ask_reference(
        &self,
        question: &QuestionKey,
        way: &Way,
        briefly: bool,
        work: &mut Work<'_>,
    ) -> Option<Found> {
        let guard = work.state.config.guard;
        if work.state.upstreams.group_is_down(guard.references) {
            return None;
        }
        let whole = work.deadline;
        if briefly {
            work.deadline = whole.min(Instant::now() + guard.budget);
        }
        let found = self.ask(question, way, (guard.references, false), way.private_answers, work).await;
        work.deadline = whole;
        // One of a fallback group is one more suspect, and there is one already.
        found.ok().filter(|(reply, _)| work.state.is_reference(reply))
    }

    /// Adds a reply that is judged, with what is known about its server, its addresses and its name.
    fn add_suspect(&self, about: &Question, reply: &Reply, evidence: &mut Evidence) {
        let candidate = self.candidate(about, reply, Side::Suspect);
        let now = self.clock.now();
        let mut tables = self.learnt.tables();
        for address in candidate.replies.iter().flat_map(Read::addresses) {
            evidence.fan_in.push((address, tables.memory.fan_in(PLACE, address, &about.qname, now)));
        }
        evidence.ttl_ceiling = tables.memory.ttl_ceiling(PLACE, &about.qname, about.qtype);
        evidence.suspects.push(candidate);
    }

    fn candidate(&self, about: &Question, reply: &Reply, side: Side) -> Candidate {
        let path = match reply.transport {
            UpstreamTransport::Udp => Path::Datagram,
            UpstreamTransport::Tcp => Path::Stream,
            UpstreamTransport::Tls | UpstreamTransport::Https | UpstreamTransport::Quic | UpstreamTransport::H3 => {
                Path::Encrypted
            }
        };
        Candidate {
            operator: OperatorId(u16::from(side == Side::Trusted)),
            way: path,
            on_lan: reply.is_private,
            habits: self.learnt.tables().memory.habits(&reply.server),
            replies: read(about, reply).into_iter().collect(),
        }
    }

    /// Keeps what this question has taught, and records what was found against somebody.
    fn learn(&self, about: &Question, evidence: &Evidence, parties: &Parties, decision: &Decision) {
        let now = self.clock.now();
        let mut tables = self.learnt.tables();
        let Tables { memory, book } = &mut *tables;
        memory.remember(PLACE, &about.qname, about.qtype, decision.verdict, now);
        for reply in evidence.trusted.iter().flat_map(|candidate| &candidate.replies) {
            if let Some((_, ttl)) = reply.ttls {
                memory.saw_trusted_ttl(PLACE, &about.qname, about.qtype, ttl);
            }
        }
        let Some((suspect, _)) = &parties.suspect else { return };
        let disputed = !decision.verdict.is_clean() && !evidence.trusted.is_empty();
        for reply in evidence.suspects.iter().flat_map(|candidate| &candidate.replies) {
            if decision.verdict.is_clean() {
                memory.saw_reply(&suspect.server, reply);
            }
            for address in reply.addresses() {
                memory.saw_address(PLACE, address, &about.qname, disputed, now);
            }
        }
        let packets: Vec<(&str, &[u8])> = [Some(suspect), parties.trusted.as_ref().map(|(reply, _)| reply)]
            .into_iter()
            .flatten()
            .map(|reply| (&*reply.server, &*reply.message))
            .collect();
        let at = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let finding = Finding {
            place: PLACE,
            upstream: &suspect.server,
            qname: &about.qname,
            qtype: about.qtype,
            decision,
            packets: &packets,
            at: WallTime(at),
        };
        if let Recorded::New(_) = book.record(&finding) {
            self.stats.count(Counter::GuardIncidents);
            let (upstream, verdict, score) = (&*suspect.server, decision.verdict.as_str(), decision.assessment.score);
            tracing::warn!(upstream, verdict, score, "a reply does not stand beside a trusted one");
        }
    }
}

/// An upstream that has said nothing.
fn silent() -> Candidate {
    let habits = super::guard::evidence::Habits::default();
    Candidate { operator: OperatorId(0), way: Path::Datagram, on_lan: false, habits, replies: Vec::new() }
}

/// Reads a reply for judging; nothing of one that is malformed.
fn read(about: &Question, reply: &Reply) -> Option<Read> {
    let message = Message::parse(&reply.message).ok()?;
    // Upstreams are held to the letter case where it was mixed, and the message has it in lower case since.
    Read::read(&message, about, None).ok()
}

fn told(decision: &Decision) -> String {
    let served = match decision.serve {
        Serve::Reply(at) if at.side == Side::Trusted => "the trusted reply",
        Serve::Reply(_) => "the reply",
        Serve::Unconfirmed(_) => "the reply, unconfirmed",
        Serve::Nothing => "nothing",
    };
    format!("{}, goes on: {served}", decision.verdict)
}

fn counter(verdict: Verdict) -> Counter {
    match verdict {
        Verdict::Consistent => Counter::GuardConsistent,
        Verdict::BenignDivergent => Counter::GuardBenignDivergent,
        Verdict::Undecidable => Counter::GuardUndecidable,
        Verdict::UpstreamFailing => Counter::GuardUpstreamFailing,
        Verdict::EmptyVsPresent => Counter::GuardEmptyVsPresent,
        Verdict::BrokenChain => Counter::GuardBrokenChain,
        Verdict::NxdomainHijacked => Counter::GuardNxdomainHijacked,
        Verdict::Poisoned => Counter::GuardPoisoned,
    }
}
