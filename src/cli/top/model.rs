//! What `top` knows, and how it is to be shown.

use super::super::tables::is_known;
use crate::control::report::{Stats, Upstream};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde::Deserialize;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Rates kept for the line that shows how they were; a wide terminal has as many columns.
const MAX_HISTORY: usize = 300;
/// Questions kept; more than any screen has lines, so that a filter finds some.
const MAX_SEEN: usize = 1_000;
/// Octets of a filter; a name has no more.
const MAX_FILTER: usize = 255;

/// What the daemon said.
#[derive(Debug)]
pub(super) enum News {
    /// All sums.
    Report(Box<Stats>),
    /// No sums, and why.
    Silence(String),
    /// Questions that were answered; none at the beginning.
    Queries(Vec<Seen>),
    /// Questions are not to be had.
    NoQueries(Why),
}

/// Why questions are not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// Nobody has answered yet.
    NotYet,
    /// The control socket is not for this user.
    NotPermitted,
    /// This daemon keeps none.
    NotKept,
    /// It has stopped telling; it is asked again.
    Ended,
    /// Something else.
    Other(String),
}

/// A question that was answered, as the query log has it. What is missing is empty.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Seen {
    pub(super) ts: String,
    pub(super) client: String,
    /// Nothing, like the type, when the message could not be read.
    pub(super) name: Option<String>,
    #[serde(rename = "type")]
    pub(super) qtype: Option<String>,
    pub(super) source: String,
    pub(super) upstream: Option<String>,
    pub(super) rcode: String,
    pub(super) answers: Vec<String>,
    pub(super) duration_seconds: f64,
    pub(super) verdict: Option<String>,
    /// In place of all that: so many were not told.
    pub(super) lost: u64,
}

/// The order of upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// That of the configuration.
    Written,
    /// Most queries first.
    Queries,
    /// The slowest first.
    Slowest,
    /// Most errors first.
    Errors,
}

impl Order {
    fn next(self) -> Self {
        match self {
            Self::Written => Self::Queries,
            Self::Queries => Self::Slowest,
            Self::Slowest => Self::Errors,
            Self::Errors => Self::Written,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Written => "as configured",
            Self::Queries => "by queries",
            Self::Slowest => "by p99",
            Self::Errors => "by errors",
        }
    }
}

/// What a key leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The screen is drawn again.
    Draw,
    /// The command ends.
    End,
}

/// All that is shown.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) report: Stats,
    before: Option<Stats>,
    /// Answers a second between two reports, the newest last.
    pub(super) history: VecDeque<u64>,
    /// Why the last report is not new.
    pub(super) silence: Option<String>,
    /// The newest first.
    seen: VecDeque<Seen>,
    /// Questions that the daemon could not tell of.
    pub(super) lost: u64,
    pub(super) no_queries: Option<Why>,
    pub(super) is_paused: bool,
    pub(super) order: Order,
    pub(super) filter: String,
    /// Keys go into the filter.
    pub(super) is_typing: bool,
    /// There are no keys: it is printed.
    pub(super) is_printed: bool,
}

impl Model {
    pub(super) fn new(report: Stats) -> Self {
        Self {
            report,
            before: None,
            history: VecDeque::new(),
            silence: None,
            seen: VecDeque::new(),
            lost: 0,
            no_queries: Some(Why::NotYet),
            is_paused: false,
            order: Order::Written,
            filter: String::new(),
            is_typing: false,
            is_printed: false,
        }
    }

    /// Takes in what the daemon said; while paused, what is shown stays.
    pub(super) fn learn(&mut self, news: News) {
        match news {
            News::Report(_) | News::Queries(_) if self.is_paused => {}
            News::Report(report) => self.replace(*report),
            News::Silence(why) => self.silence = Some(why),
            News::NoQueries(why) => self.no_queries = Some(why),
            News::Queries(queries) => {
                self.no_queries = None;
                for seen in queries {
                    self.lost += seen.lost;
                    if seen.lost == 0 {
                        self.seen.push_front(seen);
                    }
                }
                self.seen.truncate(MAX_SEEN);
            }
        }
    }

    fn replace(&mut self, report: Stats) {
        self.silence = None;
        let old = std::mem::replace(&mut self.report, report);
        // A daemon that was started anew counts from nothing.
        self.before = (old.started_at == self.report.started_at).then_some(old);
        if self.before.is_none() {
            self.history.clear();
            return;
        }
        self.history.push_back(self.whole_rate());
        if self.history.len() > MAX_HISTORY {
            self.history.pop_front();
        }
    }

    /// Answers a second between the last two reports, as a whole number.
    fn whole_rate(&self) -> u64 {
        let Some(before) = &self.before else { return 0 };
        let seconds = self.report.uptime_seconds - before.uptime_seconds;
        let grown = u128::from(self.report.queries.total.saturating_sub(before.queries.total));
        let ms = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_millis().max(1);
        u64::try_from((grown * 1000 + ms / 2) / ms).unwrap_or(u64::MAX)
    }

    /// How much a sum grew in a second between the last two reports; nothing when there are not two.
    pub(super) fn rate(&self, of: impl Fn(&Stats) -> u64) -> Option<f64> {
        let before = self.before.as_ref()?;
        let seconds = self.report.uptime_seconds - before.uptime_seconds;
        let grown = of(&self.report).saturating_sub(of(before));
        (seconds > 0.0).then(|| grown as f64 / seconds)
    }

    /// Lists upstreams that the filter lets through, in order, with how many queries a second each got.
    pub(super) fn upstreams(&self) -> Vec<(&Upstream, Option<f64>)> {
        let key = |upstream: &Upstream| (upstream.group.clone(), upstream.name.clone());
        let before: HashMap<_, u64> = self.before.as_ref().map_or_else(HashMap::new, |before| {
            before.upstreams.iter().map(|upstream| (key(upstream), upstream.queries_total)).collect()
        });
        let seconds = self.before.as_ref().map_or(0.0, |before| self.report.uptime_seconds - before.uptime_seconds);
        let rate = |upstream: &Upstream| {
            let grown = upstream.queries_total.saturating_sub(*before.get(&key(upstream))?);
            (seconds > 0.0).then(|| grown as f64 / seconds)
        };
        // Those never asked are shown to who looks for them.
        let is_shown = |upstream: &&Upstream| {
            (is_known(upstream) || !self.filter.is_empty())
                && self.lets_through(&[&upstream.group, &upstream.name, &upstream.state])
        };
        let mut all: Vec<&Upstream> = self.report.upstreams.iter().filter(is_shown).collect();
        let errors = |upstream: &Upstream| upstream.errors_total.values().sum::<u64>();
        match self.order {
            Order::Written => {}
            Order::Queries => all.sort_by_key(|upstream| std::cmp::Reverse(upstream.queries_total)),
            Order::Slowest => all.sort_by(|a, b| b.latency_seconds.p99.total_cmp(&a.latency_seconds.p99)),
            Order::Errors => all.sort_by_key(|upstream| std::cmp::Reverse(errors(upstream))),
        }
        all.into_iter().map(|upstream| (upstream, rate(upstream))).collect()
    }

    /// Lists questions that the filter lets through, the newest first.
    pub(super) fn seen(&self) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(|seen| {
            let [name, qtype, upstream, verdict] = [&seen.name, &seen.qtype, &seen.upstream, &seen.verdict]
                .map(|text| text.as_deref().unwrap_or_default());
            self.lets_through(&[name, &seen.client, qtype, &seen.source, &seen.rcode, upstream, verdict])
        })
    }

    fn lets_through(&self, texts: &[&str]) -> bool {
        let wanted = self.filter.to_lowercase();
        texts.iter().any(|text| text.to_lowercase().contains(&wanted))
    }

    /// Does what a key says.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most keys mean nothing here")]
    pub(super) fn press(&mut self, key: KeyEvent) -> After {
        if key.kind == KeyEventKind::Release {
            return After::Draw;
        }
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return After::End;
        }
        if self.is_typing {
            self.press_in_filter(key.code);
            return After::Draw;
        }
        match key.code {
            KeyCode::Char('q') => return After::End,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Esc => self.filter.clear(),
            _ => {}
        }
        After::Draw
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "most keys mean nothing here")]
    fn press_in_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.is_typing = false;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) if self.filter.len() + c.len_utf8() <= MAX_FILTER => self.filter.push(c),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str) -> Seen {
        Seen { name: Some(name.to_owned()), ..Seen::default() }
    }

    #[test]
    fn the_newest_questions_are_kept_and_a_filter_finds_them() {
        let mut model = Model::new(Stats::default());
        model.learn(News::Queries((0..MAX_SEEN + 5).map(|n| seen(&format!("n{n}.example."))).collect()));
        assert_eq!(model.seen().count(), MAX_SEEN);
        assert_eq!(model.seen().next().unwrap().name.as_deref(), Some("n1004.example."));
        for key in ['/', 'N', '7', '7', '.'] {
            model.press(KeyEvent::from(KeyCode::Char(key)));
        }
        let found: Vec<&str> = model.seen().filter_map(|seen| seen.name.as_deref()).collect();
        assert_eq!(found, ["n77.example."]);
        model.press(KeyEvent::from(KeyCode::Esc));
        assert_eq!(model.seen().count(), MAX_SEEN);
    }

    #[test]
    fn a_filter_has_a_bound() {
        let mut model = Model::new(Stats::default());
        for key in std::iter::once('/').chain(std::iter::repeat_n('x', MAX_FILTER + 10)) {
            model.press(KeyEvent::from(KeyCode::Char(key)));
        }
        assert_eq!(model.filter.len(), MAX_FILTER);
    }

    #[test]
    fn what_was_lost_is_counted_and_a_pause_keeps_what_is_shown() {
        let mut model = Model::new(Stats::default());
        model.learn(News::Queries(vec![seen("a."), Seen { lost: 7, ..Seen::default() }]));
        assert_eq!((model.lost, model.seen().count(), model.no_queries.clone()), (7, 1, None));
        model.press(KeyEvent::from(KeyCode::Char('p')));
        model.learn(News::Queries(vec![seen("b.")]));
        model.learn(News::Report(Box::new(Stats { uptime_seconds: 9.0, ..Stats::default() })));
        assert_eq!((model.seen().count(), model.report.uptime_seconds), (1, 0.0));
    }

    #[test]
    fn rates_are_of_the_last_two_reports_of_one_daemon() {
        let report = |started: &str, uptime: f64, total: u64| {
            let mut report = Stats { started_at: started.to_owned(), uptime_seconds: uptime, ..Stats::default() };
            report.queries.total = total;
            Box::new(report)
        };
        let mut model = Model::new(*report("a", 1.0, 100));
        assert_eq!(model.rate(|report| report.queries.total), None);
        model.learn(News::Report(report("a", 3.0, 150)));
        assert_eq!(model.rate(|report| report.queries.total), Some(25.0));
        assert_eq!(model.history, [25]);
        for n in 0..MAX_HISTORY {
            model.learn(News::Report(report("a", 4.0 + n as f64, 150)));
        }
        assert_eq!((model.history.len(), model.history.front()), (MAX_HISTORY, Some(&0)));
        model.learn(News::Report(report("b", 1.0, 3)));
        assert_eq!((model.rate(|report| report.queries.total), model.history.len()), (None, 0));
    }
}
