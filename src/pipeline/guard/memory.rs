//! What the guard learns over many questions: verdicts, habits of servers, addresses given for many names, what addresses have
//! shown by TLS, TTL ceilings.
//!
//! Tables that are told the time and what happened; nobody is asked and nothing is started here. Each has a bound, at which
//! what was used longest ago goes. All belong to a [`PlaceId`]: what one network does says nothing about the
//! next, so that on another network nothing of it is found.

use super::evidence::{FanIn, Habits, Proof};
use super::reply::Reply;
use super::verdict::Verdict;
use crate::clock::Tick;
use crate::config::PlaceId;
use crate::dns::{Name, Rtype, name};
use foldhash::fast::FixedState;
use lru::LruCache;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

/// Verdicts kept: guarded names that are in use at once, of all types; some 120 octets each.
const MAX_VERDICTS: usize = 4096;
/// Addresses whose names are counted.
const MAX_ADDRESSES: usize = 4096;
/// Unrelated names kept of one address. Three disputed ones are enough to tell; more only say how wide it goes.
const MAX_NAMES: usize = 16;
/// Servers whose habits are kept, far more than a configuration has groups of.
const MAX_SERVERS: usize = 256;
/// Names whose largest trusted TTL is kept.
const MAX_CEILINGS: usize = 4096;

/// Names and types of which it is kept whether they had data.
const MAX_PRESENCES: usize = 4096;
/// Addresses of which it is kept what they have shown for a name; some 300 octets each.
const MAX_PROOFS: usize = 1024;
/// Networks of which it is kept whether queries had second replies.
const MAX_PLACES: usize = 16;

/// How long it is known what an address has shown: certificates and servers move by the day.
const PROOF_LIFE: Duration = Duration::from_secs(24 * 3600);
/// The same when it has shown nothing: whatever was in the way may be gone.
const UNPROVED_LIFE: Duration = Duration::from_secs(600);
/// How long a name that had data is expected to have some.
const HAD_LIFE: Duration = Duration::from_secs(24 * 3600);
/// How long one that had none of a type counts as having none: the other type of address is asked at about the same time.
const HAD_NONE_LIFE: Duration = Duration::from_secs(600);
/// How long a reply that nothing confirms is listened behind: 99 of 100 injected replies come before the true one, and by up
/// to 364 ms (Hoang and others, 2021).
const LISTEN: Duration = Duration::from_millis(150);
/// The same for a day on a network where a pair was seen.
const LISTEN_LONG: Duration = Duration::from_millis(400);
/// How long such a network is one.
const PAIR_LIFE: Duration = Duration::from_secs(24 * 3600);
/// After so many times in vain a network is listened on only now and then.
const QUIET_AFTER: u32 = 50;
/// How often that is: one time of so many.
const QUIET_EVERY: u32 = 16;
/// How long a verdict is believed without being looked at again.
const VERDICT_LIFE: Duration = Duration::from_secs(3600);
/// How long one is that decided nothing.
const UNDECIDED_LIFE: Duration = Duration::from_secs(600);
/// How long a name is counted for an address: block pages move, and shared hosts gain names for good.
const NAME_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Replies after which a server's habit counts as known. 20 in a row happen by chance to a habit kept 19 times of 20 in a
/// third of all cases, to one kept half of the time in one of a million.
const KNOWN_AFTER: u32 = 20;
/// Trusted replies after which the largest TTL among them counts as the zone's. Of so many samples between nothing and the
/// zone's own, the largest is below seven eighths of it in 7 % of all cases.
const CEILING_AFTER: u32 = 20;

/// Everything learnt.
#[derive(Debug)]
pub struct Memory {
    verdicts: LruCache<(PlaceId, Name, Rtype), Remembered>,
    addresses: LruCache<(PlaceId, IpAddr), Vec<NameSeen>>,
    habits: LruCache<(PlaceId, Box<str>), Counts>,
    ceilings: LruCache<(PlaceId, Name, Rtype), Ceiling>,
    presences: LruCache<(PlaceId, Name, Rtype), Presence>,
    listening: LruCache<PlaceId, Listening>,
    proofs: LruCache<(PlaceId, Name, IpAddr), Proved>,
}

/// What an address has shown for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proved {
    /// What it was.
    pub proof: Proof,
    /// The same for people.
    pub told: Box<str>,
    /// When.
    pub at: Tick,
}

#[derive(Debug, Clone, Copy)]
struct Remembered {
    verdict: Verdict,
    at: Tick,
}

/// A name that an address was given for. Of the name only a hash of its domain is kept: names are private.
#[derive(Debug, Clone, Copy)]
struct NameSeen {
    domain: u64,
    disputed: bool,
    at: Tick,
}

/// How often a server did something in a row, up to now.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    opt: u32,
    recursion: u32,
    not_authoritative: u32,
    case: u32,
}

/// Whether a name had data of a type when trusted upstreams last spoke of it.
#[derive(Debug, Clone, Copy)]
struct Presence {
    had: bool,
    at: Tick,
}

/// How often a network was listened on in vain since a pair was seen, and when that was.
#[derive(Debug, Clone, Copy, Default)]
struct Listening {
    in_vain: u32,
    pair: Option<Tick>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Ceiling {
    ttl: u32,
    samples: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            verdicts: bounded(MAX_VERDICTS),
            addresses: bounded(MAX_ADDRESSES),
            habits: bounded(MAX_SERVERS),
            ceilings: bounded(MAX_CEILINGS),
            presences: bounded(MAX_PRESENCES),
            listening: bounded(MAX_PLACES),
            proofs: bounded(MAX_PROOFS),
        }
    }
}

impl Memory {
    /// Keeps a verdict.
    pub fn remember(&mut self, place: PlaceId, qname: &Name, qtype: Rtype, verdict: Verdict, now: Tick) {
        self.verdicts.put((place, qname.to_lower(), qtype), Remembered { verdict, at: now });
    }

    /// Returns the verdict of a name and type, while it is believed.
    pub fn verdict(&mut self, place: PlaceId, qname: &Name, qtype: Rtype, now: Tick) -> Option<Verdict> {
        let Remembered { verdict, at } = *self.verdicts.get(&(place, qname.to_lower(), qtype))?;
        let life = if verdict == Verdict::Undecidable { UNDECIDED_LIFE } else { VERDICT_LIFE };
        (now.since(at) < life).then_some(verdict)
    }

    /// Notes that an address was given for a name, and whether trusted upstreams gave something that does not explain it.
    pub fn saw_address(&mut self, place: PlaceId, address: IpAddr, qname: &Name, disputed: bool, now: Tick) {
        let Some(domain) = domain_hash(qname) else { return };
        let seen = self.addresses.get_or_insert_mut((place, address), Vec::new);
        seen.retain(|name| now.since(name.at) < NAME_LIFE);
        let known = seen.iter().position(|name| name.domain == domain);
        let fresh = NameSeen { domain, disputed, at: now };
        match known {
            Some(at) => seen[at] = NameSeen { disputed: disputed || seen[at].disputed, ..fresh },
            None if seen.len() < MAX_NAMES => seen.push(fresh),
            // A disputed name says more than one that agrees.
            None if disputed => {
                if let Some(agreed) = seen.iter_mut().find(|name| !name.disputed) {
                    *agreed = fresh;
                }
            }
            None => {}
        }
    }

    /// Returns for how many names unrelated to `qname` an address was given.
    pub fn fan_in(&mut self, place: PlaceId, address: IpAddr, qname: &Name, now: Tick) -> FanIn {
        let own = domain_hash(qname);
        let Some(seen) = self.addresses.get(&(place, address)) else { return FanIn::default() };
        let others = seen.iter().filter(|name| Some(name.domain) != own && now.since(name.at) < NAME_LIFE);
        others.fold(FanIn::default(), |sum, name| FanIn {
            names: sum.names + 1,
            disputed: sum.disputed + u32::from(name.disputed),
        })
    }

    /// Learns from a reply that nobody disputes, how its server does things.
    pub fn saw_reply(&mut self, place: PlaceId, server: &str, reply: &Reply) {
        let counts = self.habits.get_or_insert_mut((place, server.into()), Counts::default);
        let marks = reply.marks;
        count(&mut counts.opt, marks.opt);
        count(&mut counts.recursion, marks.recursion);
        count(&mut counts.not_authoritative, marks.authoritative.map(|set| !set));
        count(&mut counts.case, marks.case_kept);
    }

    /// Returns what a server is known to do.
    pub fn habits(&mut self, place: PlaceId, server: &str) -> Habits {
        let counts = self.habits.get(&(place, server.into())).copied().unwrap_or_default();
        Habits {
            sends_opt: counts.opt >= KNOWN_AFTER,
            sets_recursion: counts.recursion >= KNOWN_AFTER,
            clears_authoritative: counts.not_authoritative >= KNOWN_AFTER,
            keeps_case: counts.case >= KNOWN_AFTER,
        }
    }

    /// Learns from a trusted reply how long the zone lets its data be kept.
    pub fn saw_trusted_ttl(&mut self, place: PlaceId, qname: &Name, qtype: Rtype, ttl: u32) {
        let ceiling = self.ceilings.get_or_insert_mut((place, qname.to_lower(), qtype), Ceiling::default);
        ceiling.ttl = ceiling.ttl.max(ttl);
        ceiling.samples = ceiling.samples.saturating_add(1);
    }

    /// Returns the largest TTL that trusted upstreams gave, once enough of them were seen.
    pub fn ttl_ceiling(&mut self, place: PlaceId, qname: &Name, qtype: Rtype) -> Option<u32> {
        let ceiling = self.ceilings.get(&(place, qname.to_lower(), qtype))?;
        (ceiling.samples >= CEILING_AFTER).then_some(ceiling.ttl)
    }

    /// Learns from trusted upstreams whether a name has data of a type.
    pub fn saw_presence(&mut self, place: PlaceId, qname: &Name, qtype: Rtype, had: bool, now: Tick) {
        self.presences.put((place, qname.to_lower(), qtype), Presence { had, at: now });
    }

    /// Tells whether it would be strange if a name had no data of a type: it had some before, or has no address of the other
    /// family either. A name without any address of one family is ordinary.
    pub fn must_have_data(&mut self, place: PlaceId, qname: &Name, qtype: Rtype, now: Tick) -> bool {
        let qname = qname.to_lower();
        let mut said = |qtype, had: bool, life: Duration| {
            let presence = self.presences.get(&(place, qname.clone(), qtype));
            presence.is_some_and(|presence| presence.had == had && now.since(presence.at) < life)
        };
        let other = match qtype {
            Rtype::A => Rtype::AAAA,
            Rtype::AAAA => Rtype::A,
            _ => return said(qtype, true, HAD_LIFE),
        };
        said(qtype, true, HAD_LIFE) || said(other, false, HAD_NONE_LIFE)
    }

    /// Returns how long to listen behind a reply in a datagram that nothing confirms.
    pub fn listen_for(&mut self, place: PlaceId, now: Tick) -> Duration {
        let listening = self.listening.get_or_insert_mut(place, Listening::default);
        match listening.pair {
            Some(at) if now.since(at) < PAIR_LIFE => LISTEN_LONG,
            _ if listening.in_vain < QUIET_AFTER || listening.in_vain.is_multiple_of(QUIET_EVERY) => LISTEN,
            _ => {
                listening.in_vain = listening.in_vain.saturating_add(1);
                Duration::ZERO
            }
        }
    }

    /// Notes that a network was listened on, and whether a reply came that shares nothing with the first.
    pub fn listened(&mut self, place: PlaceId, pair: bool, now: Tick) {
        let listening = self.listening.get_or_insert_mut(place, Listening::default);
        *listening = match pair {
            true => Listening { in_vain: 0, pair: Some(now) },
            false => Listening { in_vain: listening.in_vain.saturating_add(1), ..*listening },
        };
    }

    /// Keeps what an address has shown for a name.
    pub fn proved(&mut self, place: PlaceId, qname: &Name, address: IpAddr, proved: Proved) {
        self.proofs.put((place, qname.to_lower(), address), proved);
    }

    /// Returns what an address has shown for a name, while that counts.
    pub fn proof(&mut self, place: PlaceId, qname: &Name, address: IpAddr, now: Tick) -> Option<&Proved> {
        let proved = self.proofs.get(&(place, qname.to_lower(), address))?;
        // A portal that takes every connection shows a wrong certificate for all names, until somebody has logged in.
        let life = if proved.proof == Proof::Valid { PROOF_LIFE } else { UNPROVED_LIFE };
        (now.since(proved.at) < life).then_some(proved)
    }

    /// Takes what was learnt on a network that had no number yet for what was learnt on this one.
    pub fn name_network(&mut self, place: PlaceId) {
        rekey(&mut self.verdicts, |(_, name, rtype)| (place, name, rtype), |(at, ..)| *at);
        rekey(&mut self.addresses, |(_, address)| (place, address), |(at, _)| *at);
        rekey(&mut self.habits, |(_, server)| (place, server), |(at, _)| *at);
        rekey(&mut self.ceilings, |(_, name, rtype)| (place, name, rtype), |(at, ..)| *at);
        rekey(&mut self.presences, |(_, name, rtype)| (place, name, rtype), |(at, ..)| *at);
        rekey(&mut self.listening, |_| place, |at| *at);
        rekey(&mut self.proofs, |(_, name, address)| (place, name, address), |(at, ..)| *at);
    }

    /// Forgets every verdict, and what addresses have shown that proves nothing, as after a change of network: a portal shows
    /// its own certificate for every name.
    pub fn forget_network(&mut self) {
        self.verdicts.clear();
        let wrong = self.proofs.iter().filter(|(_, proved)| proved.proof != Proof::Valid);
        let wrong: Vec<_> = wrong.map(|(key, _)| key.clone()).collect();
        for key in wrong {
            self.proofs.pop(&key);
        }
    }
}

/// Moves what is kept under the number of no network under another key; `place` tells under which number a key is.
pub(super) fn rekey<K: Hash + Eq + Clone, V>(
    all: &mut LruCache<K, V>,
    named: impl Fn(K) -> K,
    place: impl Fn(&K) -> PlaceId,
) {
    // The one used longest ago first, so that their order stays.
    let unnamed: Vec<K> =
        all.iter().rev().map(|(key, _)| key.clone()).filter(|key| place(key) == PlaceId::default()).collect();
    for key in unnamed {
        if let Some(value) = all.pop(&key) {
            all.put(named(key), value);
        }
    }
}

fn bounded<K: Hash + Eq, V>(max: usize) -> LruCache<K, V> {
    LruCache::new(NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN))
}

/// Counts a habit that was kept; one that was broken begins anew. What is unknown counts neither way.
fn count(kept: &mut u32, was: Option<bool>) {
    match was {
        Some(true) => *kept = kept.saturating_add(1),
        Some(false) => *kept = 0,
        None => {}
    }
}

/// Names of one domain are one: a service spreads over many, and all may lie on one address.
fn domain_hash(qname: &Name) -> Option<u64> {
    let lower = qname.lower_wire();
    Some(FixedState::default().hash_one(name::domain(&lower)?))
}

#[cfg(test)]
mod tests {
    use super::super::reply::{Content, Marks};
    use super::*;

    const HERE: PlaceId = PlaceId(0);
    const THERE: PlaceId = PlaceId(1);

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn at(after: Duration) -> Tick {
        Tick(1_000_000).plus(after)
    }

    fn reply(opt: Option<bool>) -> Reply {
        let marks = Marks { opt, recursion: Some(true), ..Marks::default() };
        Reply { content: Content::Data, data: vec![], ttls: None, chain: vec![], loops: false, soa: false, marks }
    }

    #[test]
    fn verdicts_end_and_belong_to_a_place() {
        let mut memory = Memory::default();
        let start = at(Duration::ZERO);
        memory.remember(HERE, &name("WWW.example.org"), Rtype::A, Verdict::Poisoned, start);
        memory.remember(HERE, &name("b.example.org"), Rtype::A, Verdict::Undecidable, start);
        let mut verdict = |place, text: &str, after: u64| {
            memory.verdict(place, &name(text), Rtype::A, at(Duration::from_secs(after)))
        };
        assert_eq!(verdict(HERE, "www.EXAMPLE.org", 3599), Some(Verdict::Poisoned));
        assert_eq!(verdict(HERE, "www.example.org", 3600), None);
        assert_eq!(verdict(THERE, "www.example.org", 0), None);
        assert_eq!(verdict(HERE, "b.example.org", 599), Some(Verdict::Undecidable));
        assert_eq!(verdict(HERE, "b.example.org", 600), None);
        memory.forget_network();
        assert_eq!(memory.verdict(HERE, &name("www.example.org"), Rtype::A, start), None);
    }

    #[test]
    fn of_verdicts_and_ceilings_the_last_used_4096_are_kept() {
        let mut memory = Memory::default();
        for n in 0..=MAX_VERDICTS {
            let name = name(&format!("n{n}.example"));
            memory.remember(HERE, &name, Rtype::A, Verdict::Consistent, at(Duration::ZERO));
            memory.saw_trusted_ttl(HERE, &name, Rtype::A, 60);
        }
        assert_eq!((memory.verdicts.len(), memory.ceilings.len()), (MAX_VERDICTS, MAX_CEILINGS));
        assert_eq!(memory.verdict(HERE, &name("n0.example"), Rtype::A, at(Duration::ZERO)), None);
    }

    #[test]
    fn names_of_one_domain_are_one_and_the_questions_own_is_none() {
        let mut memory = Memory::default();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let start = at(Duration::ZERO);
        for text in ["a.one.test", "b.one.test", "c.two.test", "d.three.test"] {
            memory.saw_address(HERE, address, &name(text), text.starts_with('c'), start);
        }
        assert_eq!(memory.fan_in(HERE, address, &name("z.four.test"), start), FanIn { names: 3, disputed: 1 });
        assert_eq!(memory.fan_in(HERE, address, &name("z.two.test"), start), FanIn { names: 2, disputed: 0 });
        assert_eq!(memory.fan_in(HERE, address, &name("z.test"), at(NAME_LIFE)), FanIn::default());
        assert_eq!(memory.fan_in(THERE, address, &name("z.test"), start), FanIn::default());
    }

    #[test]
    fn of_an_address_sixteen_names_are_kept_and_disputed_ones_first() {
        let mut memory = Memory::default();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let start = at(Duration::ZERO);
        for n in 0..40 {
            memory.saw_address(HERE, address, &name(&format!("n{n}.test")), n >= 30, start);
        }
        assert_eq!(memory.fan_in(HERE, address, &name("z.test"), start), FanIn { names: 16, disputed: 10 });
        for n in 0..5000_u16 {
            let [high, low] = n.to_be_bytes();
            memory.saw_address(HERE, IpAddr::from([198, 51, high, low]), &name("a.test"), false, start);
        }
        assert_eq!(memory.addresses.len(), MAX_ADDRESSES);
    }

    #[test]
    fn a_habit_is_known_after_twenty_times_and_lost_at_once() {
        let mut memory = Memory::default();
        for _ in 0..KNOWN_AFTER - 1 {
            memory.saw_reply(HERE, "group/one", &reply(Some(true)));
        }
        assert!(!memory.habits(HERE, "group/one").sends_opt);
        memory.saw_reply(HERE, "group/one", &reply(None));
        memory.saw_reply(HERE, "group/one", &reply(Some(true)));
        let known = memory.habits(HERE, "group/one");
        assert!(known.sends_opt && known.sets_recursion && !known.keeps_case);
        assert!(!memory.habits(THERE, "group/one").sends_opt, "elsewhere another one may have its address");
        memory.saw_reply(HERE, "group/one", &reply(Some(false)));
        assert!(!memory.habits(HERE, "group/one").sends_opt);
        for n in 0..400 {
            memory.saw_reply(HERE, &format!("group/{n}"), &reply(Some(true)));
        }
        assert_eq!(memory.habits.len(), MAX_SERVERS);
    }

    #[test]
    fn nothing_is_strange_where_there_was_something_and_where_there_must_be() {
        let mut memory = Memory::default();
        let start = at(Duration::ZERO);
        let www = name("www.example.org");
        let strange = |memory: &mut Memory, qtype, after| memory.must_have_data(HERE, &www, qtype, at(after));
        assert!(!strange(&mut memory, Rtype::A, Duration::ZERO), "nothing is known");
        memory.saw_presence(HERE, &name("WWW.example.org"), Rtype::AAAA, false, start);
        assert!(strange(&mut memory, Rtype::A, Duration::ZERO), "it would have no address at all");
        assert!(!strange(&mut memory, Rtype::A, HAD_NONE_LIFE));
        assert!(!strange(&mut memory, Rtype::AAAA, Duration::ZERO), "it had none before");
        memory.saw_presence(HERE, &www, Rtype::A, true, start);
        assert!(strange(&mut memory, Rtype::A, HAD_LIFE - Duration::from_secs(1)));
        assert!(!strange(&mut memory, Rtype::A, HAD_LIFE) && !strange(&mut memory, Rtype::TXT, Duration::ZERO));
        assert!(!memory.must_have_data(THERE, &www, Rtype::A, start), "another network");
        for n in 0..=MAX_PRESENCES {
            memory.saw_presence(HERE, &name(&format!("n{n}.example")), Rtype::A, true, start);
        }
        assert_eq!(memory.presences.len(), MAX_PRESENCES);
    }

    #[test]
    fn a_network_is_listened_on_longer_after_a_pair_and_hardly_when_it_never_shows_one() {
        let mut memory = Memory::default();
        let start = at(Duration::ZERO);
        for _ in 0..QUIET_AFTER {
            assert_eq!(memory.listen_for(HERE, start), LISTEN);
            memory.listened(HERE, false, start);
        }
        let listened = (0..160).filter(|_| {
            let listens = memory.listen_for(HERE, start) > Duration::ZERO;
            if listens {
                memory.listened(HERE, false, start);
            }
            listens
        });
        assert_eq!(listened.count(), 160 / QUIET_EVERY as usize);
        assert_eq!(memory.listen_for(THERE, start), LISTEN, "another network");
        memory.listened(HERE, true, start);
        assert_eq!(memory.listen_for(HERE, at(PAIR_LIFE - Duration::from_secs(1))), LISTEN_LONG);
        assert_eq!(memory.listen_for(HERE, at(PAIR_LIFE)), LISTEN);
        for n in 0..20 {
            memory.listened(PlaceId(n), false, start);
        }
        assert_eq!(memory.listening.len(), MAX_PLACES);
    }

    #[test]
    fn a_proof_is_kept_for_a_day_and_what_is_none_for_ten_minutes() {
        let mut memory = Memory::default();
        let (start, www) = (at(Duration::ZERO), name("WWW.example.org"));
        let address = |n: u16| {
            let [high, low] = n.to_be_bytes();
            IpAddr::from([198, 51, high, low])
        };
        let proved = |proof| Proved { proof, told: "".into(), at: start };
        memory.proved(HERE, &www, address(1), proved(Proof::Valid));
        memory.proved(HERE, &www, address(2), proved(Proof::Unreachable));
        memory.proved(HERE, &www, address(3), proved(Proof::OtherName));
        let mut shown = |place, n, after| {
            let proved = memory.proof(place, &name("www.EXAMPLE.org"), address(n), at(after));
            proved.map(|proved| proved.proof)
        };
        let second = Duration::from_secs(1);
        assert_eq!(shown(HERE, 1, PROOF_LIFE - second), Some(Proof::Valid));
        assert_eq!((shown(HERE, 1, PROOF_LIFE), shown(THERE, 1, Duration::ZERO)), (None, None));
        assert_eq!(shown(HERE, 2, UNPROVED_LIFE - second), Some(Proof::Unreachable));
        assert_eq!(shown(HERE, 2, UNPROVED_LIFE), None);
        assert_eq!(shown(HERE, 3, UNPROVED_LIFE - second), Some(Proof::OtherName));
        assert_eq!(shown(HERE, 3, UNPROVED_LIFE), None);
        memory.forget_network();
        let mut shown = |n| memory.proof(HERE, &www, address(n), start).map(|proved| proved.proof);
        assert_eq!([shown(1), shown(2), shown(3)], [Some(Proof::Valid), None, None]);
        for n in 0..1100 {
            memory.proved(HERE, &www, address(n), proved(Proof::Valid));
        }
        assert_eq!(memory.proofs.len(), MAX_PROOFS);
    }

    #[test]
    fn what_was_learnt_before_a_network_had_a_number_is_of_that_network() {
        let mut memory = Memory::default();
        let (start, www, address) = (at(Duration::ZERO), name("www.example.org"), "192.0.2.1".parse().unwrap());
        memory.remember(HERE, &www, Rtype::A, Verdict::Poisoned, start);
        memory.saw_address(HERE, address, &name("a.one.test"), true, start);
        memory.saw_presence(HERE, &www, Rtype::A, true, start);
        memory.listened(HERE, true, start);
        memory.proved(HERE, &www, address, Proved { proof: Proof::Valid, told: "".into(), at: start });
        for _ in 0..KNOWN_AFTER.max(CEILING_AFTER) {
            memory.saw_reply(HERE, "group/one", &reply(Some(true)));
            memory.saw_trusted_ttl(HERE, &www, Rtype::A, 60);
        }
        memory.name_network(THERE);
        for (place, is_known) in [(HERE, false), (THERE, true)] {
            assert_eq!(memory.verdict(place, &www, Rtype::A, start).is_some(), is_known);
            assert_eq!(memory.fan_in(place, address, &www, start).names == 1, is_known);
            assert_eq!(memory.must_have_data(place, &www, Rtype::A, start), is_known);
            assert_eq!(memory.listen_for(place, start) == LISTEN_LONG, is_known);
            assert_eq!(memory.proof(place, &www, address, start).is_some(), is_known);
            assert_eq!(memory.habits(place, "group/one").sends_opt, is_known);
            assert_eq!(memory.ttl_ceiling(place, &www, Rtype::A).is_some(), is_known);
        }
    }

    #[test]
    fn a_ceiling_takes_twenty_samples() {
        let mut memory = Memory::default();
        for ttl in 1..CEILING_AFTER {
            memory.saw_trusted_ttl(HERE, &name("a.test"), Rtype::A, ttl);
        }
        assert_eq!(memory.ttl_ceiling(HERE, &name("a.test"), Rtype::A), None);
        memory.saw_trusted_ttl(HERE, &name("A.test"), Rtype::A, 7);
        assert_eq!(memory.ttl_ceiling(HERE, &name("a.test"), Rtype::A), Some(CEILING_AFTER - 1));
    }
}
