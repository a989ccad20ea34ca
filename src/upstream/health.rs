//! What is known about one upstream: how fast, how reliable, whether alive, which habits. Pure but for its lock.
//!
//! Everything is learnt from real questions and from probes that ride on them (the same question to one more server),
//! so an idle daemon sends nothing. Ages are [`Tick`]s.

use super::ladder::Steps;
use super::place::Elsewhere;
use crate::clock::Tick;
use crate::config::PlaceId;
use crate::stats::Histogram;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Attempts without reply in a row after which a server counts as dead.
const DEAD_AFTER_SILENT: u8 = 3;
/// ICMP or connection errors in a row after which a server counts as dead: they are definite, silence is not.
const DEAD_AFTER_ERRORS: u8 = 2;
/// The first pause between probes of a server that does not answer.
const PROBE_FIRST: Duration = Duration::from_secs(1);
/// The longest pause between them.
const PROBE_MAX: Duration = Duration::from_secs(30);
/// A round-trip time older than this is measured again, so that a server that became faster is found.
const REMEASURE_AFTER: Duration = Duration::from_secs(600);
/// The round-trip time assumed of a server never heard: between a near and a far resolver.
pub(super) const UNKNOWN_RTT: Duration = Duration::from_millis(60);
/// How long the slowest answer counts as recent.
const SLOWEST_KEPT: Duration = Duration::from_secs(300);
/// What a server that always fails is charged: more than any healthy round trip.
const FAILURE_COST_US: f64 = 1_000_000.0;
/// The failure rate below which a server is asked also without need.
const WELL_BELOW: f64 = 0.5;
/// The failure rate halves in this time, so that a server is given another chance.
const FAILURE_HALF_LIFE: Duration = Duration::from_secs(30);
/// Replies with wrong letter case, each confirmed over TCP, after which a server that once kept it no longer does.
const CASE_LOST_AFTER: u8 = 3;
/// How long a server is asked without EDNS before EDNS is tried again.
const EDNS_RETRY_AFTER: Duration = Duration::from_secs(900);
/// How long a looping server is left out the first time; doubles up to the maximum.
const LOOP_FIRST: Duration = Duration::from_secs(60);
/// The longest time a looping server is left out.
const LOOP_MAX: Duration = Duration::from_secs(900);

/// How a server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not heard of since the machine came to this network, neither good nor bad.
    Unknown,
    /// It answers.
    Good,
    /// It owes a reply.
    Suspect,
    /// It does not answer; probed with growing pauses.
    Dead,
    /// It leads back to us; left out for a time.
    Looping,
}

/// What a server does with the letter case of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Unknown,
    Kept,
    Lost,
}

/// What a server does with EDNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EdnsHabit {
    Unknown,
    Works,
    Broken { until: Tick },
}

/// What a query ended with that brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// Nothing came in time.
    Timeout,
    /// An ICMP or connection error.
    Unreachable,
    /// A reply that was no answer: SERVFAIL and its kin, or empty without SOA.
    Failed,
}

/// The sums shown by status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Queries sent, repeats and probes included.
    pub queries: u64,
    /// Matched replies received.
    pub replies: u64,
    /// Attempts without a reply.
    pub timeouts: u64,
    /// Attempts that ended with an ICMP or connection error.
    pub errors: u64,
    /// Replies that were no answer.
    pub failures: u64,
}

#[derive(Debug, Clone)]
struct Vitals {
    srtt_us: Option<f64>,
    rttvar_us: f64,
    /// The round-trip time is that of the last time on this network.
    guessed: bool,
    measured: Tick,
    lates: u8,
    silent: u8,
    errors: u8,
    failing: f64,
    failing_at: Tick,
    last_answer: Option<Tick>,
    slowest: Option<(Duration, Tick)>,
    probe_at: Tick,
    probe_pause: Duration,
    case: Case,
    case_misses: u8,
    edns: EdnsHabit,
    loop_until: Option<Tick>,
    loop_pause: Duration,
    sums: Sums,
    rtts: Histogram,
    /// How it stood when something last happened, and since when it has stood so.
    stood: (Standing, Option<Tick>),
    last_mishap: Option<(Mishap, Tick)>,
}

/// What is kept of a server when the network is left. Not who was dead: a network that goes away makes everybody seem so.
#[derive(Debug, Clone, Copy)]
struct Guess {
    srtt_us: f64,
    rttvar_us: f64,
    edns: EdnsHabit,
}

/// One server's health. Shared by all threads; the lock is held for a few arithmetic steps.
#[derive(Debug)]
pub(super) struct Health {
    vitals: Mutex<Vitals>,
    elsewhere: Mutex<Elsewhere<Guess>>,
}

impl Default for Health {
    fn default() -> Self {
        Self::new(PlaceId::default())
    }
}

/// What the plan needs to know about a server, read in one go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Snapshot {
    pub(super) standing: Standing,
    pub(super) srtt: Option<Duration>,
    pub(super) rttvar: Duration,
    /// Smoothed round-trip time with what failures and silence cost, in µs; lower is better.
    pub(super) cost_us: f64,
    pub(super) slowest_recent: Option<Duration>,
    /// Its rungs.
    pub(super) steps: Steps,
    /// Whether a query that has had no reply may be sent again: connections repeat by themselves what gets lost.
    pub(super) repeats: bool,
    /// Round trips before a reply can be there: more than one when a connection is to be opened first.
    pub(super) round_trips: u32,
}

/// How a query to a server should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Habits {
    pub(super) mix_case: bool,
    pub(super) edns: bool,
    /// EDNS is neither proven to work nor known to be broken.
    pub(super) edns_unproven: bool,
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            srtt_us: None,
            rttvar_us: 0.0,
            guessed: false,
            measured: Tick(0),
            lates: 0,
            silent: 0,
            errors: 0,
            failing: 0.0,
            failing_at: Tick(0),
            last_answer: None,
            slowest: None,
            probe_at: Tick(0),
            probe_pause: PROBE_FIRST,
            case: Case::Unknown,
            case_misses: 0,
            edns: EdnsHabit::Unknown,
            loop_until: None,
            loop_pause: LOOP_FIRST,
            sums: Sums::default(),
            rtts: Histogram::default(),
            stood: (Standing::Unknown, None),
            last_mishap: None,
        }
    }
}

impl Health {
    /// Knows nothing of a server on the network the machine is on.
    pub(super) fn new(place: PlaceId) -> Self {
        Self { vitals: Mutex::default(), elsewhere: Mutex::new(Elsewhere::new(place)) }
    }

    fn vitals(&self) -> MutexGuard<'_, Vitals> {
        // The fields are plain numbers: whatever a panicking thread left is still usable.
        self.vitals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the plan needs.
    pub(super) fn snapshot(&self, now: Tick) -> Snapshot {
        let vitals = self.vitals();
        let srtt_us = vitals.srtt_us.unwrap_or(UNKNOWN_RTT.as_secs_f64() * 1e6);
        let late = 2_f64.powi(i32::from(vitals.lates.max(vitals.silent).min(6)));
        // A server that owes a reply must not win against one as fast that does not.
        let owed = if vitals.lates > 0 || vitals.errors > 0 { 50_000.0 } else { 0.0 };
        Snapshot {
            standing: vitals.standing(now),
            srtt: vitals.srtt_us.map(from_us),
            rttvar: from_us(vitals.rttvar_us),
            cost_us: srtt_us * late + owed + vitals.failing_now(now) * FAILURE_COST_US,
            slowest_recent: vitals.slowest.filter(|(_, at)| now.since(*at) < SLOWEST_KEPT).map(|(slowest, _)| slowest),
            steps: Steps::ONE,
            repeats: true,
            round_trips: 1,
        }
    }

    /// Tells whether the server answers, and mostly with answers.
    pub(super) fn is_well(&self, now: Tick) -> bool {
        let vitals = self.vitals();
        vitals.standing(now) == Standing::Good && vitals.failing_now(now) < WELL_BELOW
    }

    /// Returns the sums.
    pub(super) fn sums(&self) -> Sums {
        self.vitals().sums
    }

    /// Returns how long its replies took.
    pub(super) fn rtts(&self) -> Histogram {
        self.vitals().rtts.clone()
    }

    /// Returns since when it has stood as it does, when that is known, and what last went wrong.
    pub(super) fn story(&self, now: Tick) -> (Option<Tick>, Option<(Mishap, Tick)>) {
        let vitals = self.vitals();
        let (stood, since) = vitals.stood;
        (since.filter(|_| stood == vitals.standing(now)), vitals.last_mishap)
    }

    /// Tells whether the server answered anything at or after `since`.
    pub(super) fn answered_since(&self, since: Tick) -> bool {
        self.last_answer().is_some_and(|at| at >= since)
    }

    /// Returns when the server last answered anything on this network.
    pub(super) fn last_answer(&self) -> Option<Tick> {
        self.vitals().last_answer
    }

    /// Returns how a query to this server should look.
    pub(super) fn habits(&self, now: Tick) -> Habits {
        let mut vitals = self.vitals();
        if matches!(vitals.edns, EdnsHabit::Broken { until } if now >= until) {
            vitals.edns = EdnsHabit::Unknown;
        }
        Habits {
            mix_case: vitals.case != Case::Lost,
            edns: !matches!(vitals.edns, EdnsHabit::Broken { .. }),
            edns_unproven: vitals.edns == EdnsHabit::Unknown,
        }
    }

    /// Claims a probe when one is due: true for one caller, then not again before the pause is over.
    pub(super) fn claim_probe(&self, now: Tick) -> bool {
        let mut vitals = self.vitals();
        let wanted = match vitals.standing(now) {
            Standing::Unknown | Standing::Suspect | Standing::Dead => true,
            Standing::Good => now.since(vitals.measured) >= REMEASURE_AFTER,
            Standing::Looping => false,
        };
        if !wanted || now < vitals.probe_at {
            return false;
        }
        vitals.probe_at = now.plus(vitals.probe_pause);
        vitals.probe_pause = (vitals.probe_pause * 2).min(PROBE_MAX);
        true
    }

    /// The network is another one: forgets everything but the sums, since a server of the same address may be another one
    /// too. On a network that was left and is known again, the speed of then is the first guess.
    pub(super) fn moved_to(&self, place: PlaceId) {
        let mut vitals = self.vitals();
        let learnt = vitals.srtt_us.map(|srtt_us| Guess { srtt_us, rttvar_us: vitals.rttvar_us, edns: vitals.edns });
        let guess = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).move_to(place, learnt);
        // Number 0 may have been any network.
        let guess = guess.filter(|_| place != PlaceId::default());
        let (sums, last_mishap, rtts) = (vitals.sums, vitals.last_mishap, std::mem::take(&mut vitals.rtts));
        *vitals = Vitals { sums, rtts, last_mishap, ..Vitals::default() };
        vitals.guess(guess);
    }

    /// The machine is on another network than it seemed: what was learnt holds there, and a guess is made anew.
    pub(super) fn is_at(&self, place: PlaceId) {
        let mut vitals = self.vitals();
        let guess = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).is_at(place);
        if vitals.srtt_us.is_none() || vitals.guessed {
            vitals.guess(guess.filter(|_| place != PlaceId::default()));
        }
    }

    /// A query was sent.
    pub(super) fn sent(&self) {
        self.vitals().sums.queries += 1;
    }

    /// A matched reply came `rtt` after its query.
    pub(super) fn replied(&self, now: Tick, rtt: Duration) {
        let mut vitals = self.vitals();
        let sample = rtt.as_secs_f64() * 1e6;
        // The estimator of RFC 6298 section 2, as resolvers have used it since BIND 9.
        match vitals.srtt_us {
            None => {
                vitals.srtt_us = Some(sample);
                vitals.rttvar_us = sample / 2.0;
            }
            Some(srtt) => {
                vitals.rttvar_us += ((srtt - sample).abs() - vitals.rttvar_us) / 4.0;
                vitals.srtt_us = Some(srtt + (sample - srtt) / 8.0);
            }
        }
        if vitals.slowest.is_none_or(|(slowest, at)| rtt >= slowest || now.since(at) >= SLOWEST_KEPT) {
            vitals.slowest = Some((rtt, now));
        }
        vitals.guessed = false;
        vitals.measured = now;
        vitals.rtts.record(rtt);
        vitals.answered(now);
    }

    /// A matched reply came; how long the server took for it is not known.
    pub(super) fn heard(&self, now: Tick) {
        self.vitals().answered(now);
    }

    /// A reply was an answer (`failed` false) or SERVFAIL and its kin.
    pub(super) fn judged(&self, now: Tick, failed: bool) {
        let mut vitals = self.vitals();
        let before = vitals.failing_now(now);
        vitals.failing = before + (f64::from(u8::from(failed)) - before) / 4.0;
        vitals.failing_at = now;
        vitals.sums.failures += u64::from(failed);
        if failed {
            vitals.last_mishap = Some((Mishap::Failed, now));
        }
    }

    /// The reply is later than it should be: another server was asked too.
    pub(super) fn late(&self, now: Tick) {
        let mut vitals = self.vitals();
        if vitals.lates == 0 {
            vitals.probe_at = now.plus(vitals.probe_pause);
        }
        vitals.lates = vitals.lates.saturating_add(1);
        vitals.note_standing(now);
    }

    /// A question's queries ended without a reply, the first of them sent `waited` ago. A server that has answered
    /// anybody since then has lost a datagram and is not silent: two servers that each lose a third of everything must
    /// not both be taken for dead.
    pub(super) fn silent(&self, now: Tick, waited: Duration) {
        let mut vitals = self.vitals();
        vitals.sums.timeouts += 1;
        vitals.last_mishap = Some((Mishap::Timeout, now));
        if vitals.last_answer.is_none_or(|at| now.since(at) >= waited) {
            vitals.silent = vitals.silent.saturating_add(1);
            vitals.lates = vitals.lates.max(1);
        }
        vitals.note_standing(now);
    }

    /// An attempt ended with an ICMP or connection error.
    pub(super) fn errored(&self, now: Tick) {
        let mut vitals = self.vitals();
        if vitals.errors == 0 {
            vitals.probe_at = now.plus(vitals.probe_pause);
        }
        vitals.errors = vitals.errors.saturating_add(1);
        vitals.sums.errors += 1;
        vitals.last_mishap = Some((Mishap::Unreachable, now));
        vitals.note_standing(now);
    }

    /// A reply kept the mixed letter case.
    pub(super) fn case_kept(&self) {
        let mut vitals = self.vitals();
        if vitals.case != Case::Lost {
            vitals.case = Case::Kept;
            vitals.case_misses = 0;
        }
    }

    /// A reply had everything right but the letter case. Returns true when the server is to be asked in lower case
    /// from here on; false when it is known to keep case, so that the datagram is suspicious.
    pub(super) fn case_missed(&self) -> bool {
        let mut vitals = self.vitals();
        vitals.case_misses = vitals.case_misses.saturating_add(1);
        if vitals.case != Case::Kept || vitals.case_misses >= CASE_LOST_AFTER {
            vitals.case = Case::Lost;
        }
        vitals.case == Case::Lost
    }

    /// The server understood a query with EDNS.
    pub(super) fn edns_works(&self) {
        self.vitals().edns = EdnsHabit::Works;
    }

    /// The server answers only without EDNS. Does nothing when EDNS is proven to work.
    pub(super) fn edns_broken(&self, now: Tick) {
        let mut vitals = self.vitals();
        if vitals.edns != EdnsHabit::Works {
            vitals.edns = EdnsHabit::Broken { until: now.plus(EDNS_RETRY_AFTER) };
        }
    }

    /// The server was proven to lead back to us.
    pub(super) fn looped(&self, now: Tick) {
        let mut vitals = self.vitals();
        vitals.loop_until = Some(now.plus(vitals.loop_pause));
        vitals.loop_pause = (vitals.loop_pause * 2).min(LOOP_MAX);
        vitals.note_standing(now);
    }
}

impl Vitals {
    /// Takes what was learnt at another time for the first guess.
    fn guess(&mut self, guess: Option<Guess>) {
        let none = Guess { srtt_us: 0.0, rttvar_us: 0.0, edns: EdnsHabit::Unknown };
        let Guess { srtt_us, rttvar_us, edns } = guess.unwrap_or(none);
        (self.guessed, self.srtt_us) = (guess.is_some(), guess.map(|_| srtt_us));
        (self.rttvar_us, self.edns) = (rttvar_us, edns);
    }

    /// It answers.
    fn answered(&mut self, now: Tick) {
        self.last_answer = Some(now);
        self.lates = 0;
        self.silent = 0;
        self.errors = 0;
        self.probe_pause = PROBE_FIRST;
        self.sums.replies += 1;
        self.note_standing(now);
    }

    /// Notes since when it has stood as it does after what has just happened.
    fn note_standing(&mut self, now: Tick) {
        let standing = self.standing(now);
        if self.stood.0 != standing {
            self.stood = (standing, Some(now));
        }
    }

    fn standing(&self, now: Tick) -> Standing {
        if self.loop_until.is_some_and(|until| now < until) {
            Standing::Looping
        } else if self.silent >= DEAD_AFTER_SILENT || self.errors >= DEAD_AFTER_ERRORS {
            Standing::Dead
        } else if self.lates > 0 || self.errors > 0 {
            Standing::Suspect
        } else if self.srtt_us.is_none() || self.guessed {
            Standing::Unknown
        } else {
            Standing::Good
        }
    }

    fn failing_now(&self, now: Tick) -> f64 {
        // Nearly every server has never failed.
        if self.failing == 0.0 {
            return 0.0;
        }
        // Straight between the halvings: no power function, so no library of them in memory.
        let (age, half_life) = (now.since(self.failing_at), FAILURE_HALF_LIFE.as_micros());
        let halvings = i32::try_from(age.as_micros() / half_life).unwrap_or(i32::MAX);
        let rest = (age.as_micros() % half_life) as f64 / half_life as f64;
        self.failing * 0.5_f64.powi(halvings) * (1.0 - rest / 2.0)
    }
}

fn from_us(us: f64) -> Duration {
    Duration::from_secs_f64(us.max(0.0) / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Tick = Tick(1_000_000);

    fn later(seconds: u64) -> Tick {
        START.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn silence_kills_and_one_reply_revives() {
        let health = Health::default();
        assert_eq!(health.snapshot(START).standing, Standing::Unknown);
        health.replied(START, Duration::from_millis(20));
        assert_eq!(health.snapshot(START).standing, Standing::Good);
        health.late(START);
        assert_eq!(health.snapshot(START).standing, Standing::Suspect);
        for _ in 0..2 * DEAD_AFTER_SILENT {
            health.silent(later(2), Duration::from_secs(3));
        }
        assert_eq!(health.snapshot(later(2)).standing, Standing::Suspect, "it answered while they waited");
        for _ in 0..DEAD_AFTER_SILENT {
            health.silent(later(2), Duration::from_secs(1));
        }
        assert_eq!(health.snapshot(later(2)).standing, Standing::Dead);
        health.replied(later(2), Duration::from_millis(20));
        assert_eq!(health.snapshot(later(2)).standing, Standing::Good);
    }

    #[test]
    fn probes_of_a_dead_server_grow_apart() {
        let health = Health::default();
        for _ in 0..DEAD_AFTER_ERRORS {
            health.errored(START);
        }
        let due: Vec<u64> = (0..200).filter(|&second| health.claim_probe(later(second))).collect();
        assert_eq!(due, [1, 2, 4, 8, 16, 32, 62, 92, 122, 152, 182]);
        health.replied(later(200), Duration::from_millis(5));
        assert!(!health.claim_probe(later(201)), "a healthy server needs no probe");
        assert!(health.claim_probe(later(900)), "an old measurement is renewed");
    }

    #[test]
    fn smoothed_rtt_follows_and_failures_cost_more_than_distance() {
        let near = Health::default();
        let far = Health::default();
        for _ in 0..50 {
            near.replied(START, Duration::from_millis(10));
            far.replied(START, Duration::from_millis(100));
        }
        let srtt = near.snapshot(START).srtt.unwrap();
        assert!(srtt.abs_diff(Duration::from_millis(10)) < Duration::from_millis(1), "{srtt:?}");
        assert!(near.snapshot(START).rttvar < Duration::from_millis(1));
        assert!(near.snapshot(START).cost_us < far.snapshot(START).cost_us);
        near.judged(START, true);
        assert!(near.snapshot(START).cost_us > far.snapshot(START).cost_us);
        assert!(near.snapshot(later(300)).cost_us < far.snapshot(later(300)).cost_us, "forgotten in time");
    }

    #[test]
    fn letter_case_is_learnt_and_a_single_forgery_does_not_unlearn_it() {
        let keeps = Health::default();
        keeps.case_kept();
        assert!(!keeps.case_missed());
        assert!(keeps.habits(START).mix_case);
        keeps.case_kept();
        assert!(!keeps.case_missed() && !keeps.case_missed() && keeps.case_missed());
        let loses = Health::default();
        assert!(loses.case_missed());
        assert!(!loses.habits(START).mix_case);
    }

    #[test]
    fn edns_is_tried_again_after_a_time() {
        let health = Health::default();
        health.edns_broken(START);
        assert!(!health.habits(later(899)).edns);
        assert!(health.habits(later(900)).edns);
        health.edns_works();
        health.edns_broken(later(901));
        assert!(health.habits(later(901)).edns, "a forged FORMERR must not take EDNS from a server that has it");
    }

    #[test]
    fn slowest_recent_answer_is_forgotten_in_time() {
        let health = Health::default();
        health.replied(START, Duration::from_millis(1800));
        health.replied(later(10), Duration::from_millis(20));
        assert_eq!(health.snapshot(later(20)).slowest_recent, Some(Duration::from_millis(1800)));
        assert_eq!(health.snapshot(later(301)).slowest_recent, None);
        assert!(health.answered_since(later(10)) && !health.answered_since(later(11)));
    }

    #[test]
    fn on_another_network_nothing_is_known_but_what_was_counted() {
        let health = Health::default();
        health.replied(START, Duration::from_millis(20));
        (0..DEAD_AFTER_ERRORS).for_each(|_| health.errored(START));
        health.looped(START);
        health.edns_broken(START);
        assert_eq!(health.story(START), (Some(START), Some((Mishap::Unreachable, START))));
        health.moved_to(PlaceId::default());
        assert_eq!(
            health.story(START),
            (None, Some((Mishap::Unreachable, START))),
            "what happened is told all the same"
        );
        let snapshot = health.snapshot(START);
        assert_eq!((snapshot.standing, snapshot.srtt), (Standing::Unknown, None));
        assert!(health.habits(START).edns && health.claim_probe(START));
        assert_eq!((health.sums().replies, health.sums().errors), (1, DEAD_AFTER_ERRORS.into()));
    }

    #[test]
    fn on_a_network_that_is_known_again_the_speed_of_then_is_a_guess_and_nobody_is_dead() {
        let (home, office) = (PlaceId(1), PlaceId(2));
        let health = Health::new(home);
        health.replied(START, Duration::from_millis(20));
        health.edns_works();
        (0..DEAD_AFTER_ERRORS).for_each(|_| health.errored(START));
        health.moved_to(office);
        assert_eq!((health.snapshot(START).standing, health.snapshot(START).srtt), (Standing::Unknown, None));
        health.replied(START, Duration::from_millis(80));
        health.moved_to(home);
        let (guess, habits) = (health.snapshot(later(9)), health.habits(later(9)));
        assert_eq!((guess.standing, guess.srtt), (Standing::Unknown, Some(Duration::from_millis(20))));
        assert!(!habits.edns_unproven && health.claim_probe(later(9)) && !health.is_well(later(9)));
        assert!(!health.answered_since(later(1)), "it has not answered here yet");
        health.replied(later(10), Duration::from_millis(20));
        assert_eq!(health.snapshot(later(10)).standing, Standing::Good);
        health.moved_to(office);
        assert_eq!(health.snapshot(later(10)).srtt, Some(Duration::from_millis(80)));
    }

    #[test]
    fn what_is_learnt_before_a_network_shows_which_it_is_belongs_to_that_one() {
        let (home, office) = (PlaceId(1), PlaceId(2));
        let ms = |health: &Health| health.snapshot(later(9)).srtt.map(|srtt| srtt.as_millis());
        let health = Health::new(home);
        health.replied(START, Duration::from_millis(20));
        // It seemed to be home; nothing was learnt until it showed.
        health.moved_to(home);
        health.errored(later(1));
        health.is_at(office);
        assert_eq!((ms(&health), health.snapshot(later(1)).standing), (None, Standing::Suspect));
        // It seems so again, and is asked meanwhile.
        health.moved_to(home);
        assert_eq!(ms(&health), Some(20), "nothing was filed there");
        health.moved_to(PlaceId(3));
        health.replied(later(2), Duration::from_millis(80));
        health.is_at(office);
        assert_eq!((ms(&health), health.snapshot(later(2)).standing), (Some(80), Standing::Good));
        health.moved_to(PlaceId(3));
        assert_eq!(ms(&health), None);
        health.is_at(office);
        assert_eq!((ms(&health), health.snapshot(later(2)).standing), (Some(80), Standing::Unknown));
        health.is_at(PlaceId::default());
        assert_eq!(ms(&health), None, "number 0 may have been any network");
    }

    #[test]
    fn a_looping_server_is_left_out_longer_each_time() {
        let health = Health::default();
        health.looped(START);
        assert_eq!(health.snapshot(later(59)).standing, Standing::Looping);
        assert_eq!(health.snapshot(later(60)).standing, Standing::Unknown);
        health.looped(later(60));
        assert_eq!(health.snapshot(later(60 + 119)).standing, Standing::Looping);
    }
}
