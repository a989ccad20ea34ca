//! Structured logs: text on a terminal, JSON otherwise; hickory's own chatter only from warnings up.
//!
//! Two things hold for every line, whoever writes it: what a client or an upstream can trigger is limited per call
//! site, so that nobody fills a disk from outside; and in text nothing foreign reaches a terminal unescaped.

use crate::clock::{Clock, Tick};
use crate::config::{Log, LogFormat, LogLevel};
use crate::dns::foreign::is_hostile;
use crate::stats::{Counter, Stats};
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::{self, Write};
use std::io::{IsTerminal, stderr};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tracing::callsite::Identifier;
use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt as lines, registry, reload};

/// Lines a call site may write in one [`WINDOW`] when the network can trigger it: enough to see what goes on.
const MAX_LINES: u32 = 10;
/// How long lines are counted together, and how often those left out are reported.
const WINDOW: Duration = Duration::from_secs(60);

/// Logging at work.
pub(super) struct Logging {
    limits: Arc<Limits>,
    filter: reload::Handle<Targets, Registry>,
}

impl Logging {
    /// Takes the level of another configuration; the format is that of the start.
    pub(super) fn reconfigure(&self, log: &Log) {
        // An error here means that logging never began.
        drop(self.filter.reload(filter(log.level)));
    }

    /// Reports the bounds reached and the lines left out so far, if any.
    pub(super) fn report(&self) {
        self.limits.report_bounds();
        self.limits.report_left_out();
    }

    /// Reports bounds that were reached, and a minute later the lines left out meanwhile: at most once a minute each,
    /// and while there is nothing to report, no timer runs.
    pub(super) async fn report_each_minute(&self) -> Infallible {
        loop {
            tokio::select! {
                () = self.limits.some_left_out.notified() => {}
                () = self.limits.stats.bound_reached() => self.limits.report_bounds(),
            }
            tokio::time::sleep(WINDOW).await;
            self.limits.report_left_out();
        }
    }
}

/// Starts logging to stderr. A second call in one process changes nothing.
pub(super) fn start(log: &Log, clock: &Clock, stats: &Arc<Stats>) -> Logging {
    let limits = Arc::new(Limits::new(clock.clone(), Arc::clone(stats)));
    let (level, handle) = reload::Layer::new(filter(log.level));
    let base = registry().with(level).with(Limiter(Arc::clone(&limits)));
    let text = match log.format {
        LogFormat::Auto => stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    // An error here means that logging runs already.
    drop(if text {
        let fields = debug_fn(write_field).delimited(" ");
        // https://no-color.org: present and not empty.
        let colour = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        base.with(lines::layer().with_writer(stderr).with_ansi(colour).fmt_fields(fields)).try_init()
    } else {
        base.with(lines::layer().with_writer(stderr).json()).try_init()
    });
    std::panic::set_hook(Box::new(log_panic));
    Logging { limits, filter: handle }
}

/// Our own lines at a level; of the libraries' only hickory's from warnings up.
fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let hickory = ["hickory_net", "hickory_resolver", "hickory_server", "hickory_proto"];
    Targets::new().with_target("truename", level).with_targets(hickory.map(|target| (target, LevelFilter::WARN)))
}

/// Writes one field of a text line: `name=value`, the message alone.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() != "message" {
        write!(writer, "{}=", field.name())?;
    }
    write!(Escaping(writer), "{value:?}")
}

/// Escapes what could move a terminal's cursor, start a line of its own, or turn the direction of writing.
struct Escaping<'a, 'w>(&'a mut Writer<'w>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if is_hostile(c) {
                write!(self.0, "{}", c.escape_default())?;
            } else {
                self.0.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Logs a panic like everything else: its text may hold foreign bytes, and the network may have triggered it.
fn log_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let what = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let what = what.unwrap_or("no text");
    let at = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(target: "truename::panic", what, at, "a panic; this is a bug, please report it");
}

/// How many lines each call site has written lately.
#[derive(Debug)]
struct Limits {
    // Bounded by the number of call sites in the program.
    sites: Mutex<HashMap<Identifier, Site>>,
    left_out: AtomicU64,
    /// Told when `left_out` leaves zero.
    some_left_out: Notify,
    /// What the counters of bounds said when they were last reported.
    reported: Mutex<HashMap<&'static str, u64>>,
    clock: Clock,
    stats: Arc<Stats>,
}

#[derive(Debug)]
struct Site {
    since: Tick,
    lines: u32,
}

impl Limits {
    fn new(clock: Clock, stats: Arc<Stats>) -> Self {
        Self {
            sites: Mutex::default(),
            left_out: AtomicU64::new(0),
            some_left_out: Notify::new(),
            reported: Mutex::default(),
            clock,
            stats,
        }
    }

    /// Returns how many lines were left out since the last call.
    fn take_left_out(&self) -> u64 {
        self.left_out.swap(0, Ordering::Relaxed)
    }

    fn report_bounds(&self) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        for counter in Counter::OF_BOUNDS {
            let count = self.stats.get(*counter);
            let times = count - reported.insert(counter.name(), count).unwrap_or(0);
            if times > 0 {
                let (bound, what) = (counter.name(), counter.help());
                tracing::warn!(target: "truename::app", bound, times, what, "a bound was reached");
            }
        }
    }

    fn report_left_out(&self) {
        let lines = self.take_left_out();
        if lines > 0 {
            tracing::warn!(target: "truename::app", lines, "log lines left out by the rate limit");
        }
    }

    fn admit(&self, site: Identifier) -> bool {
        let now = self.clock.now();
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let site = sites.entry(site).or_insert(Site { since: now, lines: 0 });
        if now.since(site.since) >= WINDOW {
            *site = Site { since: now, lines: 0 };
        }
        site.lines = site.lines.saturating_add(1);
        let fits = site.lines <= MAX_LINES;
        if !fits {
            if self.left_out.fetch_add(1, Ordering::Relaxed) == 0 {
                self.some_left_out.notify_one();
            }
            self.stats.count(Counter::LogSuppressed);
        }
        fits
    }
}

/// Tells whether somebody outside can make this line appear. What `app` logs is about the life of the process and its
/// files, and must be complete: a refused reload lists every problem. So is which addresses are listened on. Debug
/// lines are for those who asked for all of them.
fn is_limited(metadata: &Metadata<'_>) -> bool {
    let (level, target) = (*metadata.level(), metadata.target());
    let life = target.starts_with("truename::app") || target.starts_with("truename::listen") && level == Level::INFO;
    level <= Level::INFO && !life
}

/// Leaves out lines beyond the limit, before any of them is formatted.
struct Limiter(Arc<Limits>);

impl<S: Subscriber> Layer<S> for Limiter {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        !is_limited(event.metadata()) || self.0.admit(event.metadata().callsite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything written, as a writer for one test.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn limits(clock: &Clock) -> Arc<Limits> {
        Arc::new(Limits::new(clock.clone(), Arc::default()))
    }

    fn logged(limits: &Arc<Limits>, write: impl Fn()) -> String {
        let page = Page::default();
        let to = page.clone();
        let fields = debug_fn(write_field).delimited(" ");
        let layer = lines::layer().with_writer(move || to.clone()).with_ansi(false).without_time().fmt_fields(fields);
        tracing::subscriber::with_default(registry().with(Limiter(Arc::clone(limits))).with(layer), write);
        page.text()
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_site_writes_ten_lines_a_minute_and_the_rest_is_counted() {
        let clock = Clock::simulated();
        let limits = limits(&clock);
        let hostile = || {
            for _ in 0..25 {
                tracing::warn!(target: "truename::upstream", "loop");
            }
            tracing::warn!(target: "truename::upstream", "another call site");
        };
        assert_eq!(logged(&limits, hostile).lines().count(), 11);
        assert_eq!((limits.take_left_out(), limits.take_left_out()), (15, 0));
        assert_eq!(limits.stats.get(Counter::LogSuppressed), 15);
        tokio::time::advance(WINDOW).await;
        assert_eq!(logged(&limits, hostile).lines().count(), 11, "the next minute");
    }

    #[tokio::test(start_paused = true)]
    async fn bounds_that_are_reached_are_told_at_once_and_then_once_a_minute() {
        let limits = limits(&Clock::simulated());
        let page = Page::default();
        let writer = page.clone();
        let layer = lines::layer().with_writer(move || writer.clone()).with_ansi(false).without_time();
        let _writing = tracing::subscriber::set_default(registry().with(layer));
        let logging = Logging { limits: Arc::clone(&limits), filter: reload::Layer::new(filter(LogLevel::Info)).1 };
        let stats = Arc::clone(&limits.stats);
        let flood = async {
            // 90 seconds, a thousand times a second.
            for _ in 0..90_000 {
                stats.count_at_bound(Counter::InFlightFull);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(WINDOW).await;
        };
        tokio::select! {
            never = logging.report_each_minute() => match never {},
            () = flood => {}
        }
        let text = page.text();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.lines().all(|line| line.contains("bound=\"in_flight_full_total\"")), "{text}");
        assert!(text.starts_with(" WARN") && text.contains("times=1 "), "{text}");
        logging.report();
        assert_eq!(page.text(), text, "nothing since");
    }

    #[test]
    fn what_the_daemon_says_about_its_files_and_debug_lines_are_complete() {
        let all = logged(&limits(&Clock::default()), || {
            for _ in 0..25 {
                tracing::error!(target: "truename::app::daemon", "problem in the configuration");
                tracing::info!(target: "truename::listen", "listening");
                tracing::debug!(target: "truename::pipeline", "stage");
            }
        });
        assert_eq!(all.lines().count(), 75);
    }

    #[test]
    fn text_lines_hold_nothing_that_a_terminal_obeys() {
        let foreign = "a\u{1b}[31mred\r\nERROR forged\u{9b}2J\u{202e}x";
        let line = logged(&limits(&Clock::default()), || {
            tracing::warn!(shown = %foreign, debugged = ?foreign, plain = foreign, "{foreign}");
        });
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(!line.trim_end().contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
        assert!(line.contains("shown=a\\u{1b}[31mred\\r\\nERROR"), "{line}");
    }
}
