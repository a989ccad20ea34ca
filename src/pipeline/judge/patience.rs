//! How long a client waits for something better than what there is.

use std::time::Duration;
use tokio::time::Instant;

/// The time of one name. While nothing could go out it is the question's own; from the moment on that something could, what
/// is left of `[guard] budget`, of which a question has one for all names on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    deadline: Instant,
    budget: Duration,
    /// Since when there is something that could go out.
    at_hand: Option<Instant>,
}

impl Patience {
    pub(super) fn new(deadline: Instant, budget: Duration) -> Self {
        Self { deadline, budget, at_hand: None }
    }

    /// Notes whether there is something that could go out. What there was may be doubted later.
    pub(super) fn has_answer(&mut self, has: bool, now: Instant) {
        self.at_hand = has.then(|| self.at_hand.unwrap_or(now));
    }

    /// Returns until when to wait.
    pub(super) fn until(&self) -> Instant {
        self.at_hand.map_or(self.deadline, |at| self.deadline.min(at + self.budget))
    }

    /// Returns what is left of the budget for the names that follow.
    pub(super) fn left(&self, now: Instant) -> Duration {
        let waited = self.at_hand.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.budget.saturating_sub(waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_begins_with_an_answer_and_is_spent_once() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut patience = Patience::new(after(4500), Duration::from_millis(250));
        assert_eq!((patience.until(), patience.left(after(900))), (after(4500), Duration::from_millis(250)));
        patience.has_answer(true, after(1000));
        patience.has_answer(true, after(1100));
        assert_eq!((patience.until(), patience.left(after(1100))), (after(1250), Duration::from_millis(150)));
        patience.has_answer(false, after(1150));
        assert_eq!(patience.until(), after(4500), "what there was cannot go out any more");
        patience.has_answer(true, after(4400));
        assert_eq!(patience.until(), after(4500), "never longer than the question's own time");
        assert_eq!(patience.left(after(9000)), Duration::ZERO);
    }
}
