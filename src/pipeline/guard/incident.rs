//! Incidents: what was found against an upstream, kept while it lasts, with the packets that show it.
//!
//! One incident per place, upstream, kind and name; findings of the same are merged into it. The book is bounded: at the
//! bound the incident that was seen longest ago goes, acknowledged ones first. Pure: it is told the time and given the bytes.

use super::tally::Tally;
use super::verdict::{Decision, Given, Sign, Verdict};
use crate::config::PlaceId;
use crate::dns::{Name, Rtype};
use std::collections::VecDeque;
use std::time::{Duration, UNIX_EPOCH};

/// Incidents kept in memory; a network that forges everything makes one per guarded name in use.
const MAX_INCIDENTS: usize = 512;
/// Packets kept of one incident: the first of each finding that differs from the last, as evidence, not as a capture.
const MAX_PACKETS: usize = 4;
/// Octets kept of one packet; an injected reply has some 50 to 100.
const MAX_PACKET_BYTES: usize = 1232;

/// Lines about what addresses have shown: those of the first findings.
const MAX_PROOFS: usize = 8;

/// Seconds since 1970, for display only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(pub u64);

/// A number that names an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncidentId(pub u64);

impl IncidentId {
    /// Reads what [`Incident::id_text`] writes, or the number alone.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.rsplit('-').next()?;
        number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok().map(Self))?
    }
}

/// A packet as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The upstream that sent it, by its label.
    pub from: Box<str>,
    /// Its bytes, cut at `MAX_PACKET_BYTES`.
    pub bytes: Box<[u8]>,
}

/// What was found once.
#[derive(Debug)]
pub struct Finding<'a> {
    /// The network it was found on.
    pub place: PlaceId,
    /// The label of the upstream it speaks against.
    pub upstream: &'a str,
    /// The question.
    pub qname: &'a Name,
    /// Its type.
    pub qtype: Rtype,
    /// What was decided.
    pub decision: &'a Decision,
    /// What the client got.
    pub served: Given,
    /// The replies, by the label of who sent each.
    pub packets: &'a [(&'a str, &'a [u8])],
    /// What the addresses in them have shown by TLS, a line each.
    pub proofs: &'a [String],
    /// When.
    pub at: WallTime,
}

/// Something that was found against an upstream or the path to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// Its number.
    pub id: IncidentId,
    /// The network it was found on.
    pub place: PlaceId,
    /// The label of the upstream.
    pub upstream: Box<str>,
    /// What it is.
    pub verdict: Verdict,
    /// The name, in lower case.
    pub qname: Name,
    /// The types it was seen with, in order of first sight.
    pub qtypes: Vec<Rtype>,
    /// When it was first and last seen.
    pub first_seen: WallTime,
    /// See `first_seen`.
    pub last_seen: WallTime,
    /// How often.
    pub count: u64,
    /// The signs of the finding with the highest score.
    pub signs: Vec<Sign>,
    /// That score.
    pub score: i32,
    /// What clients got the last time.
    pub served: Given,
    /// The first packets.
    pub packets: Vec<Packet>,
    /// What addresses have shown by TLS, a line each.
    pub proofs: Vec<String>,
    /// Somebody has taken note of it.
    pub acknowledged: bool,
}

/// What recording a finding did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is a new incident.
    New(IncidentId),
    /// It is one more of a known one.
    Merged(IncidentId),
    /// It is no incident: nobody is at fault.
    Nothing,
}

/// The incidents there are, the one seen longest ago first.
#[derive(Debug, Default)]
pub struct Book {
    incidents: VecDeque<Incident>,
    next: u64,
    dropped: u64,
    tally: Tally,
}

impl Book {
    /// Enters a finding.
    pub fn record(&mut self, finding: &Finding<'_>) -> Recorded {
        // A server that fails is a matter of health, and one that merely differs is nobody's fault.
        let verdict = finding.decision.verdict;
        if matches!(
            verdict,
            Verdict::Consistent | Verdict::BenignDivergent | Verdict::Undecidable | Verdict::UpstreamFailing
        ) {
            return Recorded::Nothing;
        }
        let qname = finding.qname.to_lower();
        let same = |incident: &Incident| {
            (incident.place, &*incident.upstream, incident.verdict, &incident.qname)
                == (finding.place, finding.upstream, verdict, &qname)
        };
        let known = self.incidents.iter().position(same).and_then(|at| self.incidents.remove(at));
        let is_new = known.is_none();
        self.tally.add(finding.upstream, verdict, is_new);
        let mut incident = known.unwrap_or_else(|| self.open(finding, qname));
        incident.add(finding);
        let id = incident.id;
        self.make_room();
        self.incidents.push_back(incident);
        if is_new { Recorded::New(id) } else { Recorded::Merged(id) }
    }

    /// Returns the incidents, the one seen longest ago first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Incident> {
        self.incidents.iter()
    }

    /// Returns one.
    #[must_use]
    pub fn get(&self, id: IncidentId) -> Option<&Incident> {
        self.incidents.iter().find(|incident| incident.id == id)
    }

    /// Marks one as taken note of; returns whether it exists.
    pub fn acknowledge(&mut self, id: IncidentId) -> bool {
        let found = self.incidents.iter_mut().find(|incident| incident.id == id);
        found.is_some_and(|incident| {
            incident.acknowledged = true;
            true
        })
    }

    /// Takes over incidents from before, as far as there is room. Numbers go on behind theirs.
    pub fn restore(&mut self, before: Vec<Incident>) {
        self.next = before.iter().map(|incident| incident.id.0).max().unwrap_or(0).max(self.next);
        for incident in before.into_iter().rev().take(MAX_INCIDENTS.saturating_sub(self.incidents.len())) {
            self.incidents.push_front(incident);
        }
    }

    /// Returns how many incidents nobody has taken note of.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.incidents.iter().filter(|incident| !incident.acknowledged).count()
    }

    /// Returns what was found since the start, by upstream and kind.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Returns how many were dropped at the bound.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn open(&mut self, finding: &Finding<'_>, qname: Name) -> Incident {
        self.next += 1;
        Incident {
            id: IncidentId(self.next),
            place: finding.place,
            upstream: finding.upstream.into(),
            verdict: finding.decision.verdict,
            qname,
            qtypes: Vec::new(),
            first_seen: finding.at,
            last_seen: finding.at,
            count: 0,
            signs: Vec::new(),
            score: i32::MIN,
            served: finding.served,
            packets: Vec::new(),
            proofs: Vec::new(),
            acknowledged: false,
        }
    }

    fn make_room(&mut self) {
        if self.incidents.len() < MAX_INCIDENTS {
            return;
        }
        let goes = self.incidents.iter().position(|incident| incident.acknowledged).unwrap_or(0);
        self.incidents.remove(goes);
        self.dropped += 1;
    }
}

impl Incident {
    /// Returns its number as people write it: with the day it was first seen, in UTC.
    #[must_use]
    pub fn id_text(&self) -> String {
        let first = UNIX_EPOCH + Duration::from_secs(self.first_seen.0);
        let day: String =
            humantime::format_rfc3339_seconds(first).to_string().chars().take(10).filter(|c| *c != '-').collect();
        format!("in-{day}-{:04}", self.id.0)
    }

    fn add(&mut self, finding: &Finding<'_>) {
        self.count += 1;
        self.served = finding.served;
        self.last_seen = self.last_seen.max(finding.at);
        self.first_seen = self.first_seen.min(finding.at);
        if !self.qtypes.contains(&finding.qtype) {
            self.qtypes.push(finding.qtype);
        }
        let assessment = &finding.decision.assessment;
        if assessment.score > self.score {
            (self.score, self.signs) = (assessment.score, assessment.signs.clone());
        }
        for proof in finding.proofs {
            if !self.proofs.contains(proof) && self.proofs.len() < MAX_PROOFS {
                self.proofs.push(proof.clone());
            }
        }
        for (from, bytes) in finding.packets {
            let cut = &bytes[..bytes.len().min(MAX_PACKET_BYTES)];
            let known = self.packets.iter().any(|packet| &*packet.bytes == cut);
            if !known && self.packets.len() < MAX_PACKETS {
                self.packets.push(Packet { from: (*from).into(), bytes: cut.into() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::{Assessment, Serve};
    use super::*;

    fn decision(verdict: Verdict, sign: Sign) -> Decision {
        let assessment = Assessment::plain(verdict, sign);
        Decision { verdict, assessment, about: None, serve: Serve::Nothing, keep_at_most: None }
    }

    fn record(book: &mut Book, text: &str, decision: &Decision, packets: &[(&str, &[u8])], at: u64) -> Recorded {
        let qname = Name::parse(text).unwrap();
        let (place, qtype) = (PlaceId(0), Rtype::A);
        let served = Given::Trusted;
        let (upstream, qname, at) = ("system/1", &qname, WallTime(at));
        let proofs: Vec<String> = packets.iter().map(|(_, bytes)| format!("{bytes:?}")).collect();
        let proofs = &proofs;
        book.record(&Finding { place, upstream, qname, qtype, decision, served, packets, proofs, at })
    }

    #[test]
    fn findings_of_one_kind_are_one_incident() {
        let mut book = Book::default();
        let soft = decision(Verdict::Poisoned, Sign::TtlSpent);
        let hard = decision(Verdict::Poisoned, Sign::SpecialAddress);
        let Recorded::New(id) = record(&mut book, "WWW.example.org", &soft, &[("system/1", b"one")], 20) else {
            panic!("it was known")
        };
        assert_eq!(record(&mut book, "www.example.org", &hard, &[("system/1", b"two")], 10), Recorded::Merged(id));
        assert_eq!(record(&mut book, "www.example.org", &soft, &[("system/1", b"one")], 30), Recorded::Merged(id));
        let incident = book.get(id).unwrap();
        assert_eq!((incident.count, incident.score, incident.packets.len()), (3, 6, 2));
        assert_eq!((incident.first_seen, incident.last_seen), (WallTime(10), WallTime(30)));
        assert_eq!(incident.signs, [Sign::SpecialAddress]);
        let other = decision(Verdict::EmptyVsPresent, Sign::NoData);
        assert!(matches!(record(&mut book, "www.example.org", &other, &[], 40), Recorded::New(_)));
        assert_eq!(book.open_count(), 2);
        let told: Vec<_> =
            book.tally().iter().map(|(of, kind, found)| (of, kind, found.answers, found.incidents)).collect();
        assert_eq!(told, [("system/1", Verdict::EmptyVsPresent, 1, 1), ("system/1", Verdict::Poisoned, 3, 1)]);
        assert!(book.acknowledge(id) && !book.acknowledge(IncidentId(99)));
        assert_eq!(book.open_count(), 1);
    }

    #[test]
    fn incidents_from_before_stay_the_same_over_a_record_and_numbers_go_on() {
        use crate::pipeline::guard::record::Record;
        let mut book = Book::default();
        let poisoned = decision(Verdict::Poisoned, Sign::SpecialAddress);
        record(&mut book, "a.test", &poisoned, &[("system/1", b"one"), ("trusted/1", b"two")], 1_795_219_200);
        record(&mut book, "b.test", &poisoned, &[], 1_795_219_201);
        let before: Vec<Incident> = book.iter().cloned().collect();
        assert_eq!(before[0].id_text(), "in-20261121-0001");
        let text = serde_json::to_string(&before.iter().map(Record::from).collect::<Vec<_>>()).unwrap();
        let read: Vec<Record> = serde_json::from_str(&text).unwrap();
        let read: Vec<Incident> = read.iter().map(|record| record.read().unwrap()).collect();
        assert_eq!(read, before);
        let mut next = Book::default();
        next.restore(read);
        assert!(matches!(record(&mut next, "a.test", &poisoned, &[], 1_795_219_202), Recorded::Merged(IncidentId(1))));
        assert_eq!(record(&mut next, "c.test", &poisoned, &[], 1_795_219_203), Recorded::New(IncidentId(3)));
        let wrong = Record { verdict: "guilty".to_owned(), ..Record::from(&before[0]) };
        assert!(wrong.read().is_none());
        let many: Vec<Incident> =
            (0..MAX_INCIDENTS as u64 + 9).map(|n| Incident { id: IncidentId(n), ..before[0].clone() }).collect();
        let mut full = Book::default();
        full.restore(many);
        assert_eq!(
            (full.iter().count(), full.get(IncidentId(8)), full.get(IncidentId(9)).is_some()),
            (MAX_INCIDENTS, None, true)
        );
    }

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for text in ["in-20261121-0007", "0007", "7"] {
            assert_eq!(IncidentId::parse(text), Some(IncidentId(7)), "{text}");
        }
        for text in ["", "in-", "in-20261121-x", "+7", "99999999999999999999999"] {
            assert_eq!(IncidentId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_nobodys_fault_is_no_incident() {
        let mut book = Book::default();
        for verdict in [Verdict::Consistent, Verdict::BenignDivergent, Verdict::Undecidable, Verdict::UpstreamFailing] {
            let decision = decision(verdict, Sign::NothingInCommon);
            assert_eq!(record(&mut book, "a.test", &decision, &[], 1), Recorded::Nothing);
        }
        assert_eq!(book.iter().count(), 0);
    }

    #[test]
    fn incidents_and_their_packets_have_a_bound() {
        let mut book = Book::default();
        let poisoned = decision(Verdict::Poisoned, Sign::SpecialAddress);
        let mut ids = Vec::new();
        for n in 0..MAX_INCIDENTS as u64 {
            let Recorded::New(id) = record(&mut book, &format!("n{n}.test"), &poisoned, &[], n) else { panic!("{n}") };
            ids.push(id);
        }
        book.acknowledge(ids[7]);
        record(&mut book, "more.test", &poisoned, &[], 1000);
        assert_eq!((book.iter().count(), book.dropped()), (MAX_INCIDENTS, 1));
        assert!(book.get(ids[7]).is_none() && book.get(ids[0]).is_some());
        record(&mut book, "most.test", &poisoned, &[], 1001);
        assert!(book.get(ids[0]).is_none());
        let long = vec![7; 5000];
        for n in 0..9_u8 {
            record(&mut book, "most.test", &poisoned, &[("system/1", &[n, 1]), ("system/1", &long)], 1002);
        }
        let most = book.iter().next_back().unwrap();
        assert_eq!((most.packets.len(), most.proofs.len(), most.count), (MAX_PACKETS, MAX_PROOFS, 10));
        assert!(most.packets.iter().all(|packet| packet.bytes.len() <= MAX_PACKET_BYTES));
    }
}
