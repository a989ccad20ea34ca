//! The story of one query: a line per stage with what it saw, what it decided and why.
//!
//! The same trace feeds `truename query --trace`, the debug log and, later, `explain`, so they cannot disagree.
//! A trace that nobody asked for is off and costs one branch per stage.

use super::tag::Tag;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Steps a trace keeps; an alias chain of 11 hops stays far below.
const MAX_STEPS: usize = 256;

/// A stage of the pipeline, in its order.
#[allow(missing_docs, reason = "docs/architecture.md names them")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Access,
    View,
    Cache,
    Zone,
    Route,
    Exchange,
    Proof,
    Guard,
    Compose,
    Store,
    Respond,
}

impl Stage {
    /// Returns the word used in output and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::View => "view",
            Self::Cache => "cache",
            Self::Zone => "zone",
            Self::Route => "route",
            Self::Exchange => "exchange",
            Self::Proof => "proof",
            Self::Guard => "guard",
            Self::Compose => "compose",
            Self::Store => "store",
            Self::Respond => "respond",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What one stage saw, decided, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which stage speaks.
    pub stage: Stage,
    /// Time since the query came in.
    pub at: Duration,
    /// What it looked at.
    pub saw: String,
    /// What it decided.
    pub decided: String,
    /// Why.
    pub because: String,
}

/// Replies a trace keeps.
const MAX_REPLIES: usize = 32;

/// A reply that was seen on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The label of the upstream.
    pub upstream: String,
    /// How it came.
    pub transport: String,
    /// How long it took.
    pub rtt: Duration,
    /// The message.
    pub message: Vec<u8>,
}

/// The steps of one query, or nothing at all when switched off; who decided it is noted always.
#[derive(Debug, Default)]
pub struct Trace {
    steps: Option<Vec<Step>>,
    replies: Vec<Seen>,
    /// The client's view.
    pub view: Tag,
    /// The zone or the route that the question's own name belongs to: the first that was found on the way.
    pub by: Tag,
    /// The upstream whose reply was used, `GROUP/NAME`: for a chain of aliases the first.
    pub upstream: Option<Arc<str>>,
    /// Time since the query came in, set by `pipeline/mod.rs`, the one place there that may read a clock.
    pub elapsed: Duration,
}

impl Trace {
    /// A trace that records nothing.
    #[must_use]
    pub fn off() -> Self {
        Self::default()
    }

    /// A trace that records.
    #[must_use]
    pub fn on() -> Self {
        Self { steps: Some(Vec::new()), ..Self::default() }
    }

    /// Tells whether steps are recorded.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.steps.is_some()
    }

    /// Records a step; `line` makes what was seen, decided, and why, and runs only when the trace is on.
    pub fn step<S, D, B>(&mut self, stage: Stage, line: impl FnOnce() -> (S, D, B))
    where
        S: Into<String>,
        D: Into<String>,
        B: Into<String>,
    {
        let at = self.elapsed;
        if let Some(steps) = self.steps.as_mut().filter(|steps| steps.len() < MAX_STEPS) {
            let (saw, decided, because) = line();
            steps.push(Step { stage, at, saw: saw.into(), decided: decided.into(), because: because.into() });
        }
    }

    /// Notes what the question's own name belongs to, unless that is known.
    pub fn decided_by(&mut self, by: Tag) {
        self.by = self.by.or(by);
    }

    /// Notes whose reply is used, unless there is one already.
    pub fn answered_by(&mut self, upstream: &Arc<str>) {
        self.upstream.get_or_insert_with(|| Arc::clone(upstream));
    }

    /// Records a reply, when the trace is on.
    pub fn reply(&mut self, make: impl FnOnce() -> Seen) {
        if self.is_on() && self.replies.len() < MAX_REPLIES {
            self.replies.push(make());
        }
    }

    /// Records what another trace of the same query recorded.
    pub fn append(&mut self, other: Self) {
        self.decided_by(other.by);
        if let Some(upstream) = &other.upstream {
            self.answered_by(upstream);
        }
        if self.is_on() {
            self.replies.extend(other.replies.into_iter().take(MAX_REPLIES.saturating_sub(self.replies.len())));
        }
        if let Some(steps) = self.steps.as_mut() {
            steps.extend(other.steps.into_iter().flatten().take(MAX_STEPS.saturating_sub(steps.len())));
        }
    }

    /// Returns the replies that were recorded.
    #[must_use]
    pub fn replies(&self) -> &[Seen] {
        &self.replies
    }

    /// Returns what was recorded.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        self.steps.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_have_a_bound_and_no_trace_keeps_any() {
        let seen = || Seen {
            upstream: "g/1".to_owned(),
            transport: "udp".to_owned(),
            rtt: Duration::ZERO,
            message: vec![0; 12],
        };
        let (mut on, mut off, mut other) = (Trace::on(), Trace::off(), Trace::on());
        for _ in 0..MAX_REPLIES + 9 {
            on.reply(seen);
            off.reply(|| unreachable!("nobody asked"));
        }
        other.reply(seen);
        assert_eq!((on.replies().len(), off.replies().len()), (MAX_REPLIES, 0));
        on.append(other);
        assert_eq!(on.replies().len(), MAX_REPLIES);
    }

    #[test]
    fn steps_have_a_bound_and_no_trace_costs_nothing() {
        let mut trace = Trace::on();
        for _ in 0..MAX_STEPS + 9 {
            trace.step(Stage::Cache, || ("", "", ""));
        }
        assert_eq!(trace.steps().len(), MAX_STEPS);
        Trace::off().step(Stage::Cache, || -> (String, String, String) { panic!("made for nobody") });
    }
}
