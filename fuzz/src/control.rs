//! The octets of a connection to a control socket, or to the listener for Prometheus: every response can be read, what
//! is only for the control socket is done there only, and the daemon is asked for nothing beyond the bounds.
//!
//! The first octet says how the connection came in; the rest is what the client sends before it closes its side.

use super::rig;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use truename::clock::{Clock, Tick};
use truename::control::report;
use truename::control::{Daemon, Door, Explain, Matching, Outcome, Problem, Question, Way, attend};
use truename::dns::Name;
use truename::stats::Stats;

/// The port of the listener for Prometheus.
pub const PORT: u16 = 9153;
/// How it came in, by the first octet's rest of three.
pub const CONTROL: u8 = 0;
pub const STATS: u8 = 1;
pub const TCP: u8 = 2;
/// When whoever follows questions has seen enough.
const ENOUGH: Duration = Duration::from_secs(50);
/// Octets of a body, entries of a list and lengths of a pause, as documented.
const MAX_BODY_BYTES: usize = 1 << 20;
const MAX_LISTED: usize = 10_000;
const PAUSES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
/// Every status there is.
const STATUSES: [u16; 13] = [100, 200, 304, 400, 403, 404, 405, 408, 413, 414, 421, 422, 431];

/// A daemon that notes what it is asked for, and holds each request against the bounds.
struct Asked {
    clock: Clock,
    /// Something that is only for the control socket.
    private: AtomicBool,
    /// Questions as they are answered, which may have no end.
    followed: AtomicBool,
}

impl Asked {
    fn private<T>(&self, value: T) -> T {
        self.private.store(true, Ordering::Relaxed);
        value
    }

    fn done(&self) -> Result<Outcome, Problem> {
        self.private(Ok(Outcome { ok: true, generation: 2, diagnostics: json!([]), error: None }))
    }
}

impl Daemon for Asked {
    fn moment(&self) -> Tick {
        self.followed.store(true, Ordering::Relaxed);
        self.private(self.clock.now())
    }

    fn stats(&self) -> report::Stats {
        report::Stats::default()
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn lists(&self) -> Value {
        json!([])
    }

    fn views(&self) -> Value {
        json!([])
    }

    fn machine(&self) -> Value {
        self.private(json!({}))
    }

    fn configuration(&self) -> String {
        self.private(String::new())
    }

    async fn query(&self, question: Question) -> Result<Value, Problem> {
        let Question { qname, qtype, upstream, compare } = question;
        let unknown = Problem::not_found("unknown-upstream", "there is none of that name");
        let document = json!({ "name": qname.to_string(), "type": qtype.to_string(), "compare": compare });
        self.private(if upstream.is_some_and(|label| label.len() == 8) { Err(unknown) } else { Ok(document) })
    }

    async fn explain(&self, question: Explain) -> Value {
        self.private(json!({ "name": question.qname.to_string(), "type": question.qtype.to_string() }))
    }

    fn incidents(&self, _: bool) -> Value {
        self.private(json!([]))
    }

    fn incident(&self, id: &str) -> Option<Value> {
        self.private((id.len() == 8).then(|| json!({})))
    }

    fn changes(&self, name: Option<&Name>) -> Value {
        self.private(json!({ "name": name.map(ToString::to_string) }))
    }

    fn acknowledge(&self, id: &str) -> bool {
        self.private(id.len() == 8)
    }

    fn cached(&self, matching: &Matching, limit: usize) -> Value {
        assert!((1..=MAX_LISTED).contains(&limit), "{limit} entries");
        self.private(json!({ "entries": [format!("{matching:?}")], "more": false }))
    }

    fn flush(&self, matching: &Matching) -> usize {
        self.private(usize::from(*matching == Matching::All))
    }

    fn switch(&self, label: &str, _: bool) -> Result<usize, Problem> {
        let unknown = Problem::not_found("unknown-upstream", "there is none of that name");
        self.private(if label.contains('/') { Ok(1) } else { Err(unknown) })
    }

    async fn probe(&self, label: &str) -> Result<Value, Problem> {
        self.private(Ok(json!({ "octets": label.len() })))
    }

    async fn reload(&self) -> Result<Outcome, Problem> {
        self.done()
    }

    async fn pause(&self, length: Duration) -> Result<Outcome, Problem> {
        assert!(PAUSES.contains(&length), "a pause of {length:?}");
        self.done()
    }

    async fn resume(&self) -> Result<Outcome, Problem> {
        self.done()
    }

    async fn check(&self, text: String) -> Outcome {
        assert!(text.len() <= MAX_BODY_BYTES, "a body of {} octets", text.len());
        self.private(Outcome { ok: text.is_empty(), generation: 1, diagnostics: json!([]), error: None })
    }
}

pub fn run(data: &[u8]) {
    let Some((&how, sent)) = data.split_first() else { return };
    let way = match how % 3 {
        CONTROL => Way::Socket(Door::Control),
        STATS => Way::Socket(Door::Stats),
        _ => Way::Tcp(PORT),
    };
    let asked = Arc::new(Asked { clock: Clock::simulated(), private: false.into(), followed: false.into() });
    let (received, has_ended) = rig::paused(async {
        // As large as what a client sends, so that it never waits for us to read.
        let (client, server) = tokio::io::duplex(sent.len().max(1));
        let (mut reading, mut writing) = tokio::io::split(client);
        let mut received = Vec::new();
        let serving = async {
            let attended = attend(Arc::clone(&asked), Arc::new(Stats::default()), way, server);
            tokio::time::timeout(ENOUGH, attended).await.is_ok()
        };
        let sending = async {
            // A server may close before it has read all.
            let _sent = writing.write_all(sent).await;
            let _closed = writing.shutdown().await;
        };
        let (has_ended, (), read) = tokio::join!(serving, sending, reading.read_to_end(&mut received));
        read.expect("memory has no errors");
        (received, has_ended)
    });
    assert!(has_ended || asked.followed.load(Ordering::Relaxed), "a connection goes on for {ENOUGH:?}");
    let private = asked.private.load(Ordering::Relaxed);
    assert!(!private || way == Way::Socket(Door::Control), "what is for the control socket is done for {way:?}");
    // A response to HEAD says how long a body is that it has not.
    let has_heads = sent.windows(4).any(|at| at == b"HEAD");
    check(&received, has_ended && !has_heads, has_heads);
}

/// Reads one response after the other; the last one may be cut off unless it `is_whole`.
fn check(received: &[u8], is_whole: bool, has_heads: bool) {
    let shown = String::from_utf8_lossy(received);
    // An archive has what it has.
    let is_plain = |octets: &[u8], kind: &str| {
        let text = String::from_utf8_lossy(octets);
        let is_clean =
            kind == "application/x-tar" || !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r'));
        assert!(is_clean, "a control character: {text:?}");
    };
    let mut rest = received;
    while !rest.is_empty() {
        let Some(end) = rest.windows(4).position(|at| at == b"\r\n\r\n") else {
            assert!(!is_whole, "a head is cut off: {shown}");
            return is_plain(rest, "");
        };
        is_plain(&rest[..end], "");
        let head = std::str::from_utf8(&rest[..end]).expect("a head is text");
        rest = &rest[end + 4..];
        assert!(head.starts_with("HTTP/1.1 ") || head.starts_with("HTTP/1.0 "), "{head}");
        let status: u16 = head[9..12].parse().expect("a number");
        assert!(STATUSES.contains(&status), "{head}");
        if status == 100 || status == 304 {
            continue;
        }
        let field = |name: &str| {
            head.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let Some(length) = field("content-length") else {
            assert_eq!(status, 200, "only what has no end has no length: {head}");
            return is_plain(rest, "");
        };
        if has_heads {
            return;
        }
        let length: usize = length.parse().expect("a number");
        let kind = field("content-type").unwrap_or_default();
        if rest.len() < length {
            assert!(!is_whole, "a body is cut off: {shown}");
            return is_plain(rest, kind);
        }
        let (body, behind) = rest.split_at(length);
        rest = behind;
        is_plain(body, kind);
        if kind.ends_with("json") {
            let document: Value = serde_json::from_slice(body).expect("a document");
            assert!(!kind.contains("problem") || document["status"] == status, "{head}: {document}");
        }
        assert!(status < 400 || body.is_empty() || kind == "application/problem+json" || status == 422, "{head}");
    }
}
