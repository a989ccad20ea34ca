//! What one connection owes: the queries on it, how long it has been silent, and when that is suspect. Pure but for
//! tokio's `Instant`, which callers pass in.

use super::idle::Idle;
use super::jobs::{Fault, Job, Took};
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;
use tokio::time::Instant;

/// Queries waiting on one connection: with the queue before it, as many as there are questions in work by default.
pub(super) const MAX_PENDING: usize = 2048;
/// Queries handed to a connection and not yet written, such as those of a burst while it is being opened.
pub(super) const QUEUE: usize = MAX_PENDING;
/// A connection that owes replies and has been silent so many times its round-trip time is suspect...
const SILENT_RTTS: u32 = 3;
/// ...but not before this: a resolver that asks others needs its time.
const MIN_SILENCE: Duration = Duration::from_millis(250);
/// Suspicions that did not prove right double the time, up to this.
const MAX_SILENCE: Duration = Duration::from_secs(2);
/// Connections that may end under a query without having given anything: servers close idle ones at any time (RFC 7766
/// section 6.2.4), and the query goes once more over a fresh one.
const MAX_TRIES: u8 = 2;

/// What a connection tells its link.
#[derive(Debug)]
pub(super) enum Event {
    /// The first reply, or the first since it was suspect.
    Answered,
    /// It owes replies and is silent: clones of everything it has.
    Suspect(Vec<Job>),
    /// It takes no more queries; these have to go over another connection.
    Back(Vec<Job>),
    /// It has ended; these have to go over another connection.
    Over(Vec<Job>),
}

/// One query on a connection.
#[derive(Debug)]
struct Pending {
    job: Job,
    sent: Instant,
}

/// The queries on one connection, by whatever tells them apart there.
#[derive(Debug)]
pub(super) struct Owed<K> {
    pending: HashMap<K, Pending>,
    /// When something was last read while replies were owed, or the first of them was sent.
    heard: Instant,
    /// When the oldest query may expire; never later than it does.
    expires: Instant,
    srtt: Duration,
    silence: Duration,
    idle: Idle,
    suspect: bool,
    /// The next reply is news.
    unproven: bool,
    /// Replies so far.
    replies: u64,
    /// Queries given up on here, whose replies may still come.
    forgotten: usize,
}

impl<K: Hash + Eq + Copy> Owed<K> {
    /// Starts with nothing owed. `rtt` is what opening the connection took per round trip, `silence` the shortest time
    /// that is suspect on this link, `idle` how long it is kept without queries.
    pub(super) fn new(now: Instant, rtt: Duration, silence: Duration, idle: Idle) -> Self {
        Self {
            pending: HashMap::new(),
            heard: now,
            expires: now,
            srtt: rtt,
            silence,
            idle,
            suspect: false,
            unproven: true,
            replies: 0,
            forgotten: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn holds(&self, key: K) -> bool {
        self.pending.contains_key(&key)
    }

    /// Returns a query that waits.
    pub(super) fn query(&self, key: K) -> Option<&[u8]> {
        self.pending.get(&key).map(|pending| &*pending.job.query)
    }

    /// Notes a query that is being sent.
    pub(super) fn add(&mut self, key: K, job: Job, now: Instant) {
        if self.pending.is_empty() {
            self.heard = now;
            self.expires = job.until;
        }
        self.expires = self.expires.min(job.until);
        job.written(now);
        self.pending.insert(key, Pending { job, sent: now });
    }

    /// Something came, whatever it was. Returns false when nothing can have been asked for.
    pub(super) fn heard(&mut self, now: Instant) -> bool {
        self.heard = now;
        !self.pending.is_empty() || self.forgotten > 0
    }

    /// A message came that belongs to no query here: maybe to one that was given up on.
    pub(super) fn unmatched(&mut self) {
        self.forgotten = self.forgotten.saturating_sub(1);
    }

    /// Hands a reply to its query; returns true when the link has to know that the connection lives.
    pub(super) fn settle(&mut self, key: K, message: Vec<u8>, now: Instant) -> bool {
        let Some(pending) = self.pending.remove(&key) else { return false };
        let took = now - pending.sent;
        // A repeat of TCP's that got through at last looks like a slow server, unless a fresh connection had it as long.
        let was_silent = self.suspect && took >= MIN_SILENCE;
        if was_silent && !pending.job.was_elsewhere(now, MIN_SILENCE) {
            pending.job.answer(message, Took::Doubtful);
        } else {
            // The weight of RFC 6298; a reply that took long because the server had to ask others counts like any other.
            self.srtt = (self.srtt * 7 + took) / 8;
            pending.job.answer(message, Took::Known(took));
        }
        self.heard = now;
        self.replies += 1;
        self.suspect = false;
        std::mem::take(&mut self.unproven)
    }

    fn take(&mut self, key: K) -> Option<Job> {
        self.pending.remove(&key).map(|pending| pending.job)
    }

    /// Fails a query the server said no to; the connection is well.
    pub(super) fn fail(&mut self, key: K, fault: &Fault, now: Instant) {
        if let Some(job) = self.take(key) {
            job.fail(fault);
        }
        self.heard = now;
        self.suspect = false;
    }

    /// Takes out a query that this connection will not answer; fails it when that has happened too often.
    pub(super) fn back(&mut self, key: K, fault: &Fault) -> Option<Job> {
        let mut job = self.take(key)?;
        job.tries += u8::from(self.replies == 0);
        if job.tries < MAX_TRIES {
            return Some(job).filter(Job::is_wanted);
        }
        job.fail(fault);
        None
    }

    /// Drops what nobody waits for any longer and returns its keys.
    pub(super) fn forget_unwanted(&mut self) -> Vec<K> {
        let gone: Vec<K> =
            self.pending.iter().filter(|(_, pending)| !pending.job.is_wanted()).map(|(key, _)| *key).collect();
        for key in &gone {
            self.pending.remove(key);
        }
        self.forgotten += gone.len();
        gone
    }

    /// Returns when to look again if nothing happens before.
    pub(super) fn wake_at(&self) -> Instant {
        if self.pending.is_empty() {
            return self.idle.end(self.heard);
        }
        if self.suspect { self.expires } else { self.expires.min(self.heard + self.patience()) }
    }

    /// Says what is due at `now`.
    fn due(&mut self, now: Instant) -> Due<K> {
        if self.pending.is_empty() {
            return if now >= self.idle.end(self.heard) { Due::Idle } else { Due::Nothing };
        }
        if now >= self.expires {
            let gone: Vec<K> =
                self.pending.iter().filter(|(_, one)| now >= one.job.until).map(|(key, _)| *key).collect();
            for key in &gone {
                if let Some(job) = self.take(*key) {
                    job.fail(&std::io::ErrorKind::TimedOut.into());
                }
            }
            self.forgotten += gone.len();
            self.expires = self.pending.values().map(|one| one.job.until).min().unwrap_or(now);
            return Due::Gone(gone);
        }
        if !self.suspect && now >= self.heard + self.patience() {
            return Due::Suspect(self.suspect());
        }
        Due::Nothing
    }

    /// Does what is due at `now` and returns what the link has to know; `forget` is told which queries have expired.
    pub(super) fn rung(&mut self, now: Instant, forget: impl FnOnce(&[K])) -> Option<Event> {
        match self.due(now) {
            Due::Nothing => None,
            Due::Idle => Some(Event::Over(Vec::new())),
            // Nothing at all for longer than any question lasts.
            Due::Gone(_) if self.is_empty() => Some(Event::Over(self.end(&Fault::of(std::io::ErrorKind::TimedOut)))),
            Due::Gone(gone) => {
                forget(&gone);
                None
            }
            Due::Suspect(jobs) => Some(Event::Suspect(jobs)),
        }
    }

    /// Tells whether nothing speaks against the connection so far.
    pub(super) fn is_trusted(&self) -> bool {
        !self.suspect
    }

    /// Makes the connection suspect and returns clones of what it has; the next reply is news again.
    pub(super) fn suspect(&mut self) -> Vec<Job> {
        self.suspect = true;
        self.unproven = true;
        self.pending.values().map(|pending| pending.job.clone()).filter(Job::is_wanted).collect()
    }

    /// Ends: returns what another connection may answer and fails the rest.
    pub(super) fn end(&mut self, fault: &Fault) -> Vec<Job> {
        // A connection that has given something is one that servers may close: what is on it has lost nothing.
        let fruitless = u8::from(self.replies == 0);
        let mut again = Vec::new();
        for (_, Pending { mut job, .. }) in self.pending.drain() {
            job.tries += fruitless.max(u8::from(self.suspect));
            if job.tries < MAX_TRIES { again.push(job) } else { job.fail(fault) }
        }
        again.retain(Job::is_wanted);
        again
    }

    /// Returns how long it may owe replies and be silent.
    fn patience(&self) -> Duration {
        (self.srtt * SILENT_RTTS).clamp(self.silence, MAX_SILENCE)
    }
}

/// What time has brought.
#[derive(Debug)]
enum Due<K> {
    /// Nothing.
    Nothing,
    /// Nothing was asked for long enough: close.
    Idle,
    /// These queries have expired.
    Gone(Vec<K>),
    /// Silent for too long: clones of everything it has.
    Suspect(Vec<Job>),
}

/// Returns the shortest silence that is suspect after so many suspicions in a row that did not prove right: a server that is
/// often slow, or does not answer at all, must not cost a handshake each time.
pub(super) fn silence_after(alarms: u32) -> Duration {
    (MIN_SILENCE * 2_u32.pow(alarms.min(3))).min(MAX_SILENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owed(now: Instant, rtt_ms: u64) -> Owed<u16> {
        Owed::new(now, Duration::from_millis(rtt_ms), silence_after(0), idle(now))
    }

    fn idle(now: Instant) -> Idle {
        Idle::new(now, Duration::from_secs(8))
    }

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn silence_is_suspect_once_and_a_reply_is_news() {
        let start = Instant::now();
        let mut owed = owed(start, 1);
        let (first, _keep) = Job::new(b"a");
        let (second, _keep_too) = Job::new(b"b");
        owed.add(1, first, start);
        owed.add(2, second, start);
        assert_eq!(owed.wake_at(), after(start, 250));
        assert!(matches!(owed.due(after(start, 249)), Due::Nothing));
        assert!(matches!(owed.due(after(start, 250)), Due::Suspect(jobs) if jobs.len() == 2));
        assert!(matches!(owed.due(after(start, 900)), Due::Nothing));
        assert!(owed.settle(1, Vec::new(), after(start, 1000)), "it lives: the link must know");
        assert!(!owed.settle(2, Vec::new(), after(start, 1001)));
        let end = idle(start).end(after(start, 1001));
        assert_eq!(owed.wake_at(), end);
        assert!(matches!(owed.due(end - Duration::from_millis(1)), Due::Nothing));
        assert!(matches!(owed.due(end), Due::Idle));
    }

    #[test]
    fn a_far_server_is_given_three_round_trips_and_alarms_make_patient() {
        let start = Instant::now();
        let mut far = owed(start, 300);
        let (job, _keep) = Job::new(b"a");
        far.add(1, job, start);
        assert_eq!(far.wake_at(), after(start, 900));
        let silences: Vec<u128> = (0..5).map(|alarms| silence_after(alarms).as_millis()).collect();
        assert_eq!(silences, [250, 500, 1000, 2000, 2000]);
    }

    #[test]
    fn replies_are_waited_for_ten_seconds() {
        let start = Instant::now();
        let mut owed = owed(start, 1);
        let (job, mut reply) = Job::new(b"a");
        let until = job.until;
        assert!(until >= start + Duration::from_secs(10));
        let (mut late, _keep) = Job::new(b"b");
        late.until = after(until, 5000);
        owed.add(2, late, start);
        owed.add(1, job, start);
        drop(owed.suspect());
        assert!(matches!(owed.due(until), Due::Gone(keys) if keys == [1]));
        assert_eq!(reply.try_recv().unwrap().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        assert_eq!(owed.wake_at(), after(until, 5000));
    }

    #[test]
    fn how_long_a_reply_took_after_silence_counts_when_another_connection_had_the_query_as_long() {
        let start = Instant::now();
        let took = |other: Option<u64>, suspect_ms: Option<u64>, reply_ms: u64| {
            let (job, mut reply) = Job::new(b"a");
            let (mut old, mut fresh) = (owed(start, 1), owed(start, 1));
            old.add(1, job.clone(), start);
            if let Some(ms) = suspect_ms {
                assert!(matches!(old.due(after(start, ms)), Due::Suspect(jobs) if jobs.len() == 1));
            }
            if let Some(ms) = other {
                fresh.add(1, job, after(start, ms));
            }
            old.settle(1, Vec::new(), after(start, reply_ms));
            reply.try_recv().unwrap().unwrap().took
        };
        let known = |ms| Took::Known(Duration::from_millis(ms));
        assert_eq!(took(None, None, 240), known(240), "it was not suspect");
        assert_eq!(took(None, Some(250), 3000), Took::Doubtful, "no connection could be opened");
        assert_eq!(took(Some(2990), Some(250), 3000), Took::Doubtful, "or only when the network was there again");
        assert_eq!(took(Some(300), Some(250), 3000), known(3000), "the server is slow");
    }

    #[test]
    fn what_a_connection_owed_goes_over_another_but_not_for_ever() {
        let start = Instant::now();
        let fault = Fault::of(std::io::ErrorKind::UnexpectedEof);
        let (job, mut reply) = Job::new(b"a");
        let mut first = owed(start, 1);
        first.add(1, job, start);
        let again = first.end(&fault).pop().unwrap();
        let mut fruitful = owed(start, 1);
        let (other, _keep) = Job::new(b"b");
        fruitful.add(1, other, start);
        fruitful.add(2, again, start);
        fruitful.settle(1, Vec::new(), start);
        let again = fruitful.end(&fault).pop().unwrap();
        assert_eq!(again.tries, 1, "it had given something");
        let mut last = owed(start, 1);
        last.add(1, again, start);
        assert!(last.end(&fault).is_empty());
        assert_eq!(reply.try_recv().unwrap().unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    }
}
