//! The model on the screen. Every text that came from outside goes through [`visible`].

use super::super::figures::{count, octets, share, span, table, time};
use super::super::render::visible;
use super::super::tables::sign;
use super::model::{Model, Seen, Why};
use crate::control::report::Stats;
use ratatui::backend::TestBackend;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Sparkline;
use ratatui::{Frame, Terminal};
use std::io;

/// What keys do.
const KEYS: &str = "q quit  p pause  s sort  / filter";
/// The columns of the rate in figures, before the line that shows how it was.
const RATE_COLUMNS: u16 = 16;
/// Columns of a name that was looked up: longer ones would push the rest off the screen.
const NAME_COLUMNS: usize = 40;
/// Rows that a section has at least, when there is room for any.
const LEAST_ROWS: usize = 3;

/// Draws everything that there is room for; what is above is more important.
pub(super) fn draw(model: &Model, frame: &mut Frame<'_>) {
    let area = frame.area();
    let look = Look::new();
    let mut page = Page { frame, area, at: area.y };
    page.line(title(model, usize::from(area.width), look));
    rate(model, &mut page);
    page.line(Line::raw(cache(&model.report)));
    page.line(guard(&model.report, look));
    for trouble in troubles(model) {
        page.line(Line::styled(format!("▲ {trouble}"), look.bad()));
    }
    let rows = usize::from(page.left());
    page.table(&sources(model), rows / 4, look);
    let upstreams = upstreams(model);
    page.table(&upstreams, rows * 2 / 5, look);
    page.table(&queries(model, usize::from(page.left())), usize::from(page.left()), look);
    if model.is_typing || !model.filter.is_empty() {
        let cursor = if model.is_typing { "▏ Enter: done  Esc: no filter" } else { "" };
        page.last(Line::styled(format!("/{}{cursor}", visible_or_blank(&model.filter)), look.head()));
    }
}

/// Writes the same as lines of text, so many columns and rows of them at most.
pub(super) fn text(model: &Model, columns: u16, rows: u16) -> io::Result<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns.max(1), rows)).map_err(io::Error::other)?;
    terminal.draw(|frame| draw(model, frame)).map_err(io::Error::other)?;
    let buffer = terminal.backend().buffer();
    let row = |y| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    let lines: Vec<String> = (0..buffer.area.height).map(|y| row(y).trim_end().to_owned()).collect();
    Ok(format!("{}\n", lines.join("\n").trim_end()))
}

/// How parts look. Nothing is said by colour alone, and whoever wants none gets none.
#[derive(Clone, Copy)]
struct Look {
    has_colours: bool,
}

impl Look {
    fn new() -> Self {
        Self { has_colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    fn head(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn bad(self) -> Style {
        self.coloured(Color::Red)
    }

    fn coloured(self, colour: Color) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }

    /// Rows of upstreams and of questions carry a sign or a word for their state.
    fn of_row(self, row: &str) -> Style {
        if row.contains('✗') || row.contains("  SERVFAIL") {
            self.bad()
        } else if row.contains('▲') {
            self.coloured(Color::Yellow)
        } else {
            Style::new()
        }
    }
}

/// The rows of the screen, one after the other.
struct Page<'a, 'b> {
    frame: &'a mut Frame<'b>,
    area: Rect,
    at: u16,
}

impl Page<'_, '_> {
    fn left(&self) -> u16 {
        self.area.bottom().saturating_sub(self.at)
    }

    fn row(&mut self) -> Option<Rect> {
        let row = (self.left() > 0).then_some(Rect { y: self.at, height: 1, ..self.area })?;
        self.at += 1;
        Some(row)
    }

    fn line(&mut self, line: Line<'_>) {
        if let Some(row) = self.row() {
            self.frame.render_widget(line, row);
        }
    }

    /// Puts a line where the screen ends, over what is there.
    fn last(&mut self, line: Line<'_>) {
        if self.area.height > 0 {
            let row = Rect { y: self.area.bottom() - 1, height: 1, ..self.area };
            self.frame.render_widget(Span::raw(" ".repeat(usize::from(row.width))), row);
            self.frame.render_widget(line, row);
        }
    }

    /// Puts a table below a blank line, in as many rows as it may have and there are.
    fn table(&mut self, text: &str, rows: usize, look: Look) {
        let rows = rows.max(LEAST_ROWS).min(usize::from(self.left()).saturating_sub(2));
        if rows == 0 {
            return;
        }
        let mut lines = text.lines();
        self.at += 1;
        self.line(Line::styled(lines.next().unwrap_or_default(), look.head()));
        let (all, total) = (lines.clone(), lines.count());
        let shown = if total > rows { rows - 1 } else { total };
        for row in all.take(shown) {
            self.line(Line::styled(row, look.of_row(row)));
        }
        if shown < total {
            self.line(Line::raw(format!("… {} more", count(u64::try_from(total - shown).unwrap_or(u64::MAX)))));
        }
    }
}

fn title(model: &Model, width: usize, look: Look) -> Line<'static> {
    let report = &model.report;
    let state = if model.is_paused { "  PAUSED" } else { "" };
    let text = format!(
        "● truename {}  up {}  generation {}{state}",
        visible(&report.version),
        span(report.uptime_seconds),
        report.config.generation
    );
    let keys = if model.is_printed { "" } else { KEYS };
    let gap = width.saturating_sub(text.chars().count() + keys.len()).max(2);
    Line::from(vec![Span::styled(text, look.head()), Span::raw(" ".repeat(gap)), Span::raw(keys)])
}

fn rate(model: &Model, page: &mut Page<'_, '_>) {
    let Some(row) = page.row() else { return };
    let text = format!("{:>9} q/s ", per_second(model.rate(|report| report.queries.total)));
    page.frame.render_widget(Span::raw(text), row);
    let width = row.width.saturating_sub(RATE_COLUMNS);
    if width > 0 {
        let skipped = model.history.len().saturating_sub(usize::from(width));
        let history: Vec<u64> = model.history.iter().skip(skipped).copied().collect();
        let right = Rect { x: row.x + RATE_COLUMNS, width, ..row };
        page.frame.render_widget(Sparkline::default().data(&history), right);
    }
}

fn cache(report: &Stats) -> String {
    let cache = &report.cache;
    let all = report.latency_seconds.get("all").cloned().unwrap_or_default();
    format!(
        "p50 {}  p99 {}  in flight {}   cache {}  hits {}  stale {}  {}",
        time(all.p50),
        time(all.p99),
        count(report.queries.in_flight),
        count(cache.entries),
        share(cache.hits_total, cache.hits_total + cache.misses_total),
        count(cache.stale_served_total),
        octets(cache.size_bytes)
    )
}

/// Verdicts that accuse nobody are only in the number of checks.
fn guard(report: &Stats, look: Look) -> Line<'static> {
    let guard = &report.guard;
    let mut text = format!("guard {} checks", count(guard.checks_total));
    let told = guard.verdicts_total.iter().filter(|(verdict, n)| **n > 0 && *verdict != "consistent");
    for (verdict, n) in told {
        text += &format!("  {} {}", count(*n), visible(verdict));
    }
    match guard.incidents_open {
        0 => Line::raw(text),
        open => Line::styled(format!("{text}   ▲ incidents open: {}", count(open)), look.bad()),
    }
}

fn troubles(model: &Model) -> Vec<String> {
    let config = &model.report.config;
    let paused = config.paused_until.as_ref().map(|until| format!("routes are off until {}", visible(until)));
    let refused =
        config.last_reload.error.as_ref().map(|error| format!("the last reload was refused: {}", visible(error)));
    let silence = model.silence.as_ref().map(|why| format!("{}; shown is what it said last", visible(why)));
    let clock = model.report.wrong_clock.as_ref().map(|clock| visible(&clock.text));
    [silence, paused, refused, clock].into_iter().flatten().collect()
}

fn sources(model: &Model) -> String {
    let report = &model.report;
    let mut all: Vec<(&String, u64)> =
        report.queries.by_source.iter().map(|(source, n)| (source, *n)).filter(|(_, n)| *n > 0).collect();
    all.sort_by_key(|(source, n)| (std::cmp::Reverse(*n), (*source).clone()));
    let row = |(source, n): &(&String, u64)| {
        let of = |report: &Stats| report.queries.by_source.get(*source).copied().unwrap_or(0);
        let latency = report.latency_seconds.get(*source).cloned().unwrap_or_default();
        let rate = per_second(model.rate(of));
        let [p50, p99, max] = [latency.p50, latency.p99, latency.max].map(time);
        vec![(*source).clone(), rate, count(*n), share(*n, report.queries.total), p50, p99, max]
    };
    let head = ["SOURCE", "/S", "ANSWERS", "SHARE", "P50", "P99", "MAX"];
    table(&head, &[1, 2, 3, 4, 5, 6], &all.iter().map(row).collect::<Vec<_>>())
}

fn upstreams(model: &Model) -> String {
    let row = |(upstream, rate): &(&crate::control::report::Upstream, Option<f64>)| {
        let errors: u64 = upstream.errors_total.values().sum();
        vec![
            format!("{}/{}", upstream.group, upstream.name),
            upstream.protocol.clone(),
            format!("{} {}", sign(&upstream.state), upstream.state),
            per_second(*rate),
            count(upstream.queries_total),
            time(upstream.latency_seconds.p50),
            time(upstream.latency_seconds.p99),
            share(errors, upstream.queries_total),
        ]
    };
    let title = format!("UPSTREAM ({})", model.order.as_str());
    let head = [&*title, "PROTO", "STATE", "/S", "QUERIES", "P50", "P99", "ERRORS"];
    table(&head, &[3, 4, 5, 6, 7], &model.upstreams().iter().map(row).collect::<Vec<_>>())
}

fn queries(model: &Model, rows: usize) -> String {
    if let Some(why) = &model.no_queries {
        let why = match why {
            Why::NotYet => "asked for".to_owned(),
            Why::NotPermitted => {
                "for root and the group truename: `sudo usermod -aG truename $USER`, log in again".to_owned()
            }
            Why::NotKept => "not kept by this daemon".to_owned(),
            Why::Ended => "the daemon has stopped telling; it is asked again".to_owned(),
            Why::Other(error) => visible(error),
        };
        return format!("QUESTIONS\n{why}\n");
    }
    let lines: Vec<_> = model.seen().take(rows).map(query).collect();
    let lost = format!("ANSWER  ({} more came too fast)", count(model.lost));
    let last = if model.lost > 0 { &*lost } else { "ANSWER" };
    let head = ["TIME", "CLIENT", "TYPE", "SOURCE", "RCODE", "TOOK", "NAME", last];
    table(&head, &[5], &lines)
}

/// The columns of `truename log`, and what was made of the answer behind it.
fn query(seen: &Seen) -> Vec<String> {
    let clock = seen.ts.get(11..19).unwrap_or_default().to_owned();
    let mut name = visible(seen.name.as_deref().unwrap_or_default());
    if name.chars().count() > NAME_COLUMNS {
        name = name.chars().take(NAME_COLUMNS - 1).chain(['…']).collect();
    }
    let from = seen.upstream.as_ref().map(|upstream| format!("from {upstream}"));
    let verdict = seen.verdict.clone().filter(|verdict| verdict != "consistent");
    let mut answer = vec![seen.answers.join(" ")];
    answer.extend([from, verdict].into_iter().flatten());
    answer.retain(|part| !part.is_empty());
    vec![
        clock,
        seen.client.clone(),
        seen.qtype.clone().unwrap_or_default(),
        seen.source.clone(),
        seen.rcode.clone(),
        time(seen.duration_seconds),
        name,
        answer.join(", "),
    ]
}

fn per_second(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate < 100.0 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

fn visible_or_blank(text: &str) -> String {
    if text.is_empty() { String::new() } else { visible(text) }
}
