//! What servers' certificates say about this machine's clock. Pure but for its lock.
//!
//! A certificate counts as a witness only when everything else about it is right, and would be at a time within its dates,
//! and when the server has proven that it has the key: old certificates are public.
//! One that is not valid yet settles it: nobody signs for the future. One that has expired may be the server's own fault; it
//! takes two servers, or a date long gone. Setting the clock ends all of it.

use crate::clock::{Clock, Tick};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Servers whose certificates are kept as witnesses.
const MAX_WITNESSES: usize = 16;
/// A certificate that has expired so long ago is no server's oversight: public ones are valid for 90 days to 13 months.
const LONG_EXPIRED: Duration = Duration::from_secs(180 * 86_400);
/// Expired certificates of so many servers are no coincidence.
const MIN_EXPIRED: usize = 2;
/// The wall clock and the ticks, moved apart by this, mean that the clock was set. TLS reads the wall clock in whole seconds.
const MIN_STEP: Duration = Duration::from_secs(2);

/// On which side of a certificate's dates the clock stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Before them.
    Early,
    /// Behind them.
    Late,
}

/// The clock of this machine, and a date that it cannot be right about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongClock {
    pub(super) ours: SystemTime,
    pub(super) certificate: SystemTime,
    pub(super) side: Side,
}

impl WrongClock {
    /// Returns what the clock of this machine says.
    #[must_use]
    pub fn here(&self) -> SystemTime {
        self.ours
    }

    /// Returns the date of a certificate that speaks against it.
    #[must_use]
    pub fn certificate(&self) -> SystemTime {
        self.certificate
    }
}

impl fmt::Display for WrongClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.side {
            Side::Early => "begin",
            Side::Late => "ended",
        };
        let [ours, certificate] = [self.ours, self.certificate].map(humantime::format_rfc3339_seconds);
        write!(f, "wrong clock here: it says {ours}, certificates {word} {certificate}")
    }
}

/// Everything certificates have said since the clock was last set.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Dates {
    clock: Clock,
    has_witnesses: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    witnesses: Vec<(String, WrongClock)>,
    /// The wall clock when the first of them was heard, and the tick: ticks pass in sleep too, as the wall clock does.
    since: Option<(SystemTime, Tick)>,
}

impl Dates {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, ..Self::default() }
    }

    /// Returns the moment, for `misfit`.
    pub(super) fn now(&self) -> Tick {
        self.clock.now()
    }

    /// The certificate of a server does not fit the clock, and everything else about it is right. `now` is the moment of
    /// that.
    pub(super) fn misfit(&self, name: &str, wrong: WrongClock, now: Tick) {
        let mut seen = self.seen();
        let WrongClock { ours, certificate, side } = wrong;
        if let Some((_, known)) = seen.witnesses.iter_mut().find(|(known, _)| known == name) {
            *known = wrong;
            return;
        }
        if seen.witnesses.len() >= MAX_WITNESSES {
            return;
        }
        seen.witnesses.push((name.to_owned(), wrong));
        seen.since.get_or_insert((ours, now));
        self.has_witnesses.store(true, Ordering::Relaxed);
        let [ours, certificate] = [ours, certificate].map(|date| humantime::format_rfc3339_seconds(date).to_string());
        match side {
            Side::Early => {
                tracing::warn!(
                    name,
                    clock = ours,
                    begins = certificate,
                    "a certificate is not valid yet by this clock"
                );
            }
            Side::Late => {
                tracing::warn!(name, clock = ours, ended = certificate, "a certificate has expired by this clock");
            }
        }
    }

    /// The certificate of a server fits: it is no witness any longer, and those that have expired are their servers' fault.
    pub(super) fn fit(&self, name: &str) {
        if !self.has_witnesses.load(Ordering::Relaxed) {
            return;
        }
        let mut seen = self.seen();
        seen.witnesses.retain(|(known, wrong)| wrong.side == Side::Early && known != name);
        self.has_witnesses.store(!seen.witnesses.is_empty(), Ordering::Relaxed);
        if seen.witnesses.is_empty() {
            seen.since = None;
        }
    }

    /// Tells once that the clock has been set since certificates did not fit it: what failed for that reason may not any
    /// longer. `wall` and `now` are the present moment by both clocks. Costs nothing while all of them fit.
    pub(in crate::upstream) fn clock_was_set(&self, wall: impl FnOnce() -> SystemTime, now: Tick) -> bool {
        if !self.has_witnesses.load(Ordering::Relaxed) {
            return false;
        }
        let mut seen = self.seen();
        let Some((ours, then)) = seen.since else { return false };
        let (expected, wall) = (ours + now.since(then), wall());
        let step = wall.duration_since(expected).unwrap_or_else(|early| early.duration());
        if step < MIN_STEP {
            return false;
        }
        *seen = Seen::default();
        self.has_witnesses.store(false, Ordering::Relaxed);
        true
    }

    /// Returns in what way the clock is plainly wrong, when it is.
    pub(in crate::upstream) fn wrong_clock(&self) -> Option<WrongClock> {
        if !self.has_witnesses.load(Ordering::Relaxed) {
            return None;
        }
        let seen = self.seen();
        let of = |side| seen.witnesses.iter().map(|(_, wrong)| *wrong).filter(move |wrong| wrong.side == side);
        let long_expired =
            |wrong: &WrongClock| wrong.ours.duration_since(wrong.certificate).is_ok_and(|since| since >= LONG_EXPIRED);
        of(Side::Early).next().or_else(|| {
            let is_agreed = of(Side::Late).count() >= MIN_EXPIRED;
            of(Side::Late).find(|wrong| is_agreed || long_expired(wrong))
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // A list and a moment, each whole at any time.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the moment so many seconds after 1970.
pub(super) fn moment(seconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    const TODAY: u64 = 20_000 * DAY;

    fn misfit(dates: &Dates, name: &str, side: Side, date: u64) {
        misfit_at(dates, name, side, date, dates.now());
    }

    fn misfit_at(dates: &Dates, name: &str, side: Side, date: u64, now: Tick) {
        dates.misfit(name, WrongClock { ours: moment(TODAY), certificate: moment(date), side }, now);
    }

    #[test]
    fn one_certificate_of_the_future_settles_it_and_expired_ones_take_two_or_a_long_time() {
        let dates = Dates::default();
        assert_eq!(dates.wrong_clock(), None);
        misfit(&dates, "a", Side::Late, TODAY - DAY);
        misfit(&dates, "a", Side::Late, TODAY - 2 * DAY);
        assert_eq!(dates.wrong_clock(), None, "one server, however often");
        misfit(&dates, "b", Side::Late, TODAY - 3 * DAY);
        let said = dates.wrong_clock().unwrap().to_string();
        assert!(said.contains("2024-10-04T00:00:00Z") && said.contains("ended 2024-10-02T00:00:00Z"), "{said}");
        dates.fit("c");
        assert_eq!(dates.wrong_clock(), None, "others are not expired");
        misfit(&dates, "a", Side::Late, TODAY - 181 * DAY);
        assert!(dates.wrong_clock().is_some());
        dates.fit("a");
        assert_eq!(dates.wrong_clock(), None);
        misfit(&dates, "a", Side::Early, TODAY + DAY);
        dates.fit("b");
        let said = dates.wrong_clock().unwrap().to_string();
        assert!(said.contains("begin 2024-10-05"), "{said}");
        assert!(said.len() <= 96, "{said} has {} octets; more is cut from extended errors", said.len());
        dates.fit("a");
        assert_eq!(dates.wrong_clock(), None);
    }

    #[test]
    fn setting_the_clock_ends_it_and_time_that_passes_does_not() {
        let (dates, now) = (Dates::default(), Tick(1000));
        assert!(!dates.clock_was_set(|| unreachable!("nobody reads the clock while certificates fit"), now));
        misfit_at(&dates, "a", Side::Early, TODAY + DAY, now);
        let later = now.plus(Duration::from_secs(3600));
        assert!(!dates.clock_was_set(|| moment(TODAY + 3600), later));
        assert!(dates.wrong_clock().is_some());
        assert!(dates.clock_was_set(|| moment(TODAY + 2 * DAY), later));
        assert_eq!(dates.wrong_clock(), None);
        assert!(!dates.clock_was_set(|| unreachable!("it is told once"), later));
        misfit_at(&dates, "a", Side::Late, TODAY - DAY, now);
        assert!(dates.clock_was_set(|| moment(TODAY - 2 * DAY), now), "back as well");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_is_not_taken_for_a_clock_that_was_set() {
        let clock = Clock::simulated();
        let dates = Dates::new(clock.clone());
        misfit(&dates, "a", Side::Early, TODAY + DAY);
        clock.sleep_through(Duration::from_secs(8 * 3600));
        assert!(!dates.clock_was_set(|| moment(TODAY + 8 * 3600), clock.now()));
        assert!(dates.wrong_clock().is_some());
        assert!(dates.clock_was_set(|| moment(TODAY), clock.now()), "a clock that stood still was set back");
    }

    #[test]
    fn witnesses_have_a_bound() {
        let dates = Dates::default();
        (0..3 * MAX_WITNESSES).for_each(|n| misfit(&dates, &format!("n{n}"), Side::Late, TODAY - DAY));
        assert_eq!(dates.seen().witnesses.len(), MAX_WITNESSES);
        misfit(&dates, "n0", Side::Early, TODAY + DAY);
        assert!(dates.wrong_clock().unwrap().to_string().contains("begin"), "known ones say the latest");
    }
}
