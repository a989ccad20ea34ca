//! List files: names by the hundred thousand, one or more a line.
//!
//! Read line by line, so that a list of a million names costs no more memory than its names. Every bad line is
//! reported with line and column, up to a bound; whoever asked for the list decides what errors mean.

use crate::config::{Diagnostic, ListFile, ListFormat, Location, Scope, Severity};
use crate::dns::Name;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// Octets of the largest list file: four million names of 32 octets.
const MAX_LIST_BYTES: u64 = 128 << 20;
/// Octets of the longest line: dnsmasq itself reads 1,025.
const MAX_LINE_BYTES: u64 = 4096;
/// Problems of one severity that are reported for one file.
const MAX_DIAGNOSTICS_PER_FILE: usize = 100;
/// Names that hosts files carry for the machine itself; taken as routes they would send special names away.
const HOSTS_BOILERPLATE: &[&str] = &[
    "localhost",
    "localhost.localdomain",
    "localhost4",
    "localhost4.localdomain4",
    "localhost6",
    "localhost6.localdomain6",
    "local",
    "broadcasthost",
    "ip6-localhost",
    "ip6-loopback",
    "ip6-localnet",
    "ip6-mcastprefix",
    "ip6-allnodes",
    "ip6-allrouters",
    "ip6-allhosts",
];

/// What a list says about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    /// The route takes it.
    Included,
    /// The route leaves it to others (`server=/name/#` of dnsmasq).
    Excluded,
}

/// Whether the reader goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// More lines are welcome.
    GoOn,
    /// There are too many patterns.
    Full,
}

/// What was read of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListInfo {
    /// Patterns in it; one that stands twice counts twice.
    pub entries: usize,
    /// When its file was last changed, as the file system has it.
    pub modified: Option<SystemTime>,
}

/// Reads a list and gives each pattern to `sink`; the names are lower-cased.
pub(super) fn read(
    list: &ListFile,
    diagnostics: &mut Vec<Diagnostic>,
    sink: &mut dyn FnMut(&Name, Scope, Listed) -> Flow,
) -> ListInfo {
    let mut info = ListInfo::default();
    match open(&list.path) {
        Ok(file) => {
            let mut problems = Problems::new(&list.path);
            info.modified = file.metadata().and_then(|metadata| metadata.modified()).ok();
            read_lines(file, list.format, &mut problems, &mut |name, scope, listed| {
                info.entries += 1;
                sink(name, scope, listed)
            });
            problems.finish(diagnostics);
        }
        Err(error) => diagnostics.push(
            Diagnostic::error("list-unreadable", list.at.clone(), "a list file that can be read")
                .key("names_from.path")
                .found(list.path.display().to_string())
                .hint(error.to_string()),
        ),
    }
    info
}

/// Opens a file, but nothing that could make us wait or never end.
fn open(path: &Path) -> io::Result<File> {
    // Asked before opening: opening a pipe waits for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    File::open(path)
}

fn read_lines(
    file: impl Read,
    format: ListFormat,
    problems: &mut Problems,
    sink: &mut dyn FnMut(&Name, Scope, Listed) -> Flow,
) {
    let mut reader = BufReader::new(file);
    let mut bytes = Vec::new();
    let mut read_bytes = 0;
    loop {
        problems.line = problems.line.saturating_add(1);
        bytes.clear();
        let read = match next_line(&mut reader, &mut bytes) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) => return problems.error("list-unreadable", 1, "", format!("more lines: {error}")),
        };
        read_bytes += read;
        if read_bytes > MAX_LIST_BYTES {
            let expected = format!("a list of at most {} MiB", MAX_LIST_BYTES >> 20);
            return problems.error("list-too-long", 1, "", expected);
        }
        if read > MAX_LINE_BYTES {
            problems.error("list-line-too-long", 1, "", format!("a line of at most {MAX_LINE_BYTES} octets"));
            continue;
        }
        let Ok(text) = std::str::from_utf8(&bytes) else {
            let good = bytes.utf8_chunks().next().map_or(0, |chunk| chunk.valid().chars().count());
            problems.error("list-not-text", good + 1, String::from_utf8_lossy(bytes.trim_ascii_end()), "text in UTF-8");
            continue;
        };
        let text = if problems.line == 1 { text.trim_start_matches('\u{feff}') } else { text };
        let mut line = Line { text, problems: &mut *problems, sink: &mut *sink, flow: Flow::GoOn };
        match format {
            ListFormat::Domains => line.domains(),
            ListFormat::Hosts => line.hosts(),
            ListFormat::Dnsmasq => line.dnsmasq(),
        }
        if line.flow == Flow::Full {
            let expected = format!("at most {} patterns in all routes together", super::index::MAX_PATTERNS);
            return problems.error("too-many-patterns", 1, "", expected);
        }
    }
}

/// Reads one line into `bytes`, the longest allowed at most, skips the rest, and returns how long it was in all.
fn next_line(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<u64> {
    let mut read = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', bytes)? as u64;
    if read < MAX_LINE_BYTES || bytes.ends_with(b"\n") {
        return Ok(read);
    }
    loop {
        let buffered = reader.fill_buf()?;
        let end = buffered.iter().position(|&byte| byte == b'\n');
        let skipped = end.map_or(buffered.len(), |end| end + 1);
        reader.consume(skipped);
        read += skipped as u64;
        if end.is_some() || skipped == 0 || read > MAX_LIST_BYTES {
            return Ok(read);
        }
    }
}

/// One line on its way to patterns.
struct Line<'a> {
    text: &'a str,
    problems: &'a mut Problems,
    sink: &'a mut dyn FnMut(&Name, Scope, Listed) -> Flow,
    flow: Flow,
}

impl<'a> Line<'a> {
    /// One pattern.
    fn domains(&mut self) {
        let mut words = self.words();
        let Some(pattern) = words.next() else { return };
        if let Some(more) = words.next() {
            let column = self.column(more);
            return self.problems.error("list-syntax", column, more, "one pattern a line");
        }
        match parse_pattern(pattern) {
            Ok((name, scope)) => self.give(&name, scope, Listed::Included),
            Err(expected) => self.bad_pattern(pattern, expected),
        }
    }

    /// An address and names.
    fn hosts(&mut self) {
        let mut words = self.words();
        let Some(address) = words.next() else { return };
        let plain = address.split_once('%').map_or(address, |(plain, _)| plain);
        if plain.parse::<IpAddr>().is_err() {
            let column = self.column(address);
            return self.problems.error("list-syntax", column, address, "an IP address, then names");
        }
        for word in words {
            if HOSTS_BOILERPLATE.iter().any(|own| own.eq_ignore_ascii_case(word)) || word.parse::<IpAddr>().is_ok() {
                continue;
            }
            match parse_name(word) {
                Ok(name) => self.give(&name, Scope::Only, Listed::Included),
                Err(expected) => self.bad_pattern(word, expected),
            }
        }
    }

    /// `server=/name/…/target`, `address=/name/…/target`, `local=/name/…/`.
    fn dnsmasq(&mut self) {
        let text = self.text.trim();
        // dnsmasq takes `#` as a comment only at the start or behind a blank: `10.0.0.1#5353` has a port.
        let text = if text.starts_with('#') { "" } else { text.split(" #").next().unwrap_or(text).trim() };
        if text.is_empty() {
            return;
        }
        let (key, value) = text.split_once('=').map_or((text, ""), |(key, value)| (key.trim(), value.trim()));
        let Some(names) = value.strip_prefix('/').filter(|_| matches!(key, "server" | "address" | "local")) else {
            let column = self.column(text);
            let expected = "server=/NAME/…, address=/NAME/… or local=/NAME/; the line is left out";
            return self.problems.warning("list-line-ignored", column, text, expected);
        };
        let Some((names, target)) = names.rsplit_once('/') else {
            let column = self.column(text);
            return self.problems.error("list-syntax", column, text, "a `/` behind the last name");
        };
        // RFC 1034 has no word for it: `server=/name/#` means "as if no server were named for it".
        let listed = if key == "server" && target == "#" { Listed::Excluded } else { Listed::Included };
        for name in names.split('/') {
            if matches!(name, "" | "#") {
                let column = self.column(name);
                let expected = "a name; unqualified and all names are no routes of a list, so this one is left out";
                self.problems.warning("list-line-ignored", column, text, expected);
                continue;
            }
            match parse_pattern(name.strip_prefix('.').unwrap_or(name)) {
                Ok((name, scope)) => self.give(&name, scope, listed),
                Err(expected) => self.bad_pattern(name, expected),
            }
        }
    }

    fn give(&mut self, name: &Name, scope: Scope, listed: Listed) {
        if self.flow == Flow::GoOn {
            self.flow = (self.sink)(name, scope, listed);
        }
    }

    /// Returns the words before a comment.
    fn words(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.text.split('#').next().unwrap_or_default().split_ascii_whitespace()
    }

    /// Returns where a part of this line starts, in characters from 1.
    fn column(&self, part: &str) -> usize {
        let offset = (part.as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        self.text.get(..offset).map_or(1, |before| before.chars().count() + 1)
    }

    fn bad_pattern(&mut self, found: &str, expected: String) {
        let column = self.column(found);
        self.problems.error("bad-pattern", column, found, expected);
    }
}

/// Reads a pattern (`example.org`, `*.example.org`, `=example.org`, `.`); the name comes back in lower case.
///
/// # Errors
/// What is expected, for people.
pub(super) fn parse_pattern(text: &str) -> Result<(Name, Scope), String> {
    if text == "." {
        return Ok((Name::root(), Scope::NameAndBelow));
    }
    if let Some(name) = text.strip_prefix('=') {
        return Ok((parse_name(name)?, Scope::Only));
    }
    match text.strip_prefix("*.") {
        Some(name) => Ok((parse_name(name)?, Scope::Below)),
        None => Ok((parse_name(text)?, Scope::NameAndBelow)),
    }
}

fn parse_name(text: &str) -> Result<Name, String> {
    if !text.is_ascii() {
        return Err("a name in ASCII; write international names in their xn-- form".to_owned());
    }
    let odd = |byte: u8| !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    // Whoever escapes knows what he writes; anything else odd is a URL, a filter rule or a slip.
    if !text.contains('\\') && text.bytes().any(odd) {
        return Err("a name such as example.org, *.example.org or =example.org".to_owned());
    }
    Name::parse(text).map(|name| name.to_lower()).map_err(|error| format!("a domain name, not {error}"))
}

/// The problems of one file, bounded.
struct Problems {
    file: Arc<Path>,
    line: u32,
    kept: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Problems {
    fn new(file: &Path) -> Self {
        Self { file: file.into(), line: 0, kept: Vec::new(), errors: 0, warnings: 0 }
    }

    fn error(&mut self, code: &'static str, column: usize, found: impl Into<String>, expected: impl Into<String>) {
        self.errors += 1;
        if self.errors <= MAX_DIAGNOSTICS_PER_FILE {
            self.kept.push(Diagnostic::error(code, self.at(column), expected).found(found));
        }
    }

    fn warning(&mut self, code: &'static str, column: usize, found: impl Into<String>, expected: impl Into<String>) {
        self.warnings += 1;
        if self.warnings <= MAX_DIAGNOSTICS_PER_FILE {
            self.kept.push(Diagnostic::warning(code, self.at(column), expected).found(found));
        }
    }

    fn at(&self, column: usize) -> Location {
        Location { file: Arc::clone(&self.file), line: self.line, column: u32::try_from(column).unwrap_or(u32::MAX) }
    }

    fn finish(mut self, diagnostics: &mut Vec<Diagnostic>) {
        diagnostics.append(&mut self.kept);
        for (severity, count) in [(Severity::Error, self.errors), (Severity::Warning, self.warnings)] {
            let Some(more) = count.checked_sub(MAX_DIAGNOSTICS_PER_FILE).filter(|more| *more > 0) else { continue };
            let text = format!("a list without problems; and {more} more of this file are not shown");
            let at = Location::file(&self.file);
            diagnostics.push(Diagnostic { severity, ..Diagnostic::error("list-more-problems", at, text) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(format: ListFormat, bytes: &[u8]) -> (Vec<String>, Vec<Diagnostic>) {
        let (mut found, mut diagnostics) = (Vec::new(), Vec::new());
        let mut problems = Problems::new(Path::new("list"));
        read_lines(bytes, format, &mut problems, &mut |name, scope, listed| {
            let sign = if listed == Listed::Excluded { "-" } else { "" };
            let scope = ["=", "", "*."][usize::from(super::super::index::rank(scope))];
            found.push(format!("{sign}{scope}{name}"));
            Flow::GoOn
        });
        problems.finish(&mut diagnostics);
        (found, diagnostics)
    }

    fn places(diagnostics: &[Diagnostic]) -> Vec<String> {
        diagnostics.iter().map(|one| format!("{} {} {}", one.severity, one.at, one.code)).collect()
    }

    #[test]
    fn domains_are_patterns_with_comments() {
        let text = "\u{feff}# list\r\nExample.org\r\n\n *.a.test # below\n=b.test\n.\nüber.test\na b\nhttp://c.test/\n";
        let (found, diagnostics) = parse(ListFormat::Domains, text.as_bytes());
        assert_eq!(found, ["example.org.", "*.a.test.", "=b.test.", "."]);
        let bad = ["error list:7:1 bad-pattern", "error list:8:3 list-syntax", "error list:9:1 bad-pattern"];
        assert_eq!(places(&diagnostics), bad);
    }

    #[test]
    fn hosts_lines_give_exact_names_and_leave_the_machines_own_out() {
        let text =
            b"127.0.0.1 localhost\n0.0.0.0 Ads.test tracker.test # two\nfe80::1%lo0 localhost\n0.0.0.0 0.0.0.0\nx y\n";
        let (found, diagnostics) = parse(ListFormat::Hosts, text);
        assert_eq!(found, ["=ads.test.", "=tracker.test."]);
        assert_eq!(places(&diagnostics), ["error list:5:1 list-syntax"]);
    }

    #[test]
    fn dnsmasq_lines_give_their_names() {
        let text =
            b"# c\nserver=/a.test/B.test/10.0.0.1#53 # c\nlocal=/c.test/\naddress=/.d.test/\nserver=/x.a.test/#\n\
                     cache-size=100\nserver=//10.0.0.1\nserver=/e.test\n";
        let (found, diagnostics) = parse(ListFormat::Dnsmasq, text);
        assert_eq!(found, ["a.test.", "b.test.", "c.test.", "d.test.", "-x.a.test."]);
        let bad =
            ["warning list:6:1 list-line-ignored", "warning list:7:9 list-line-ignored", "error list:8:1 list-syntax"];
        assert_eq!(places(&diagnostics), bad);
    }

    #[test]
    fn problems_of_one_file_are_bounded_and_counted() {
        let (_, diagnostics) = parse(ListFormat::Domains, "a b\n".repeat(150).as_bytes());
        assert_eq!(diagnostics.len(), 101);
        assert!(diagnostics[100].is_error() && diagnostics[100].expected.contains("50 more"));
    }

    #[test]
    fn a_line_without_end_costs_no_memory_and_is_reported() {
        let mut text = vec![b'a'; 1 << 20];
        text.extend_from_slice(b"\nb.test\n");
        let (found, diagnostics) = parse(ListFormat::Domains, &text);
        assert_eq!(found, ["b.test."]);
        assert_eq!(places(&diagnostics), ["error list:1:1 list-line-too-long"]);
    }

    #[test]
    fn a_file_without_end_ends_at_the_bound() {
        let mut problems = Problems::new(Path::new("list"));
        read_lines(io::repeat(b'a'), ListFormat::Domains, &mut problems, &mut |_, _, _| Flow::GoOn);
        let mut diagnostics = Vec::new();
        problems.finish(&mut diagnostics);
        assert_eq!(places(&diagnostics), ["error list:1:1 list-too-long"]);
        // The sink says when the routes are full.
        let mut problems = Problems::new(Path::new("list"));
        read_lines(&b"a.test\nb.test\nc.test\n"[..], ListFormat::Domains, &mut problems, &mut |_, _, _| Flow::Full);
        problems.finish(&mut diagnostics);
        assert_eq!(places(&diagnostics[1..]), ["error list:1:1 too-many-patterns"]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), lines in "[a-z/=#*. \\\\\n]{0,200}") {
            for format in [ListFormat::Domains, ListFormat::Hosts, ListFormat::Dnsmasq] {
                parse(format, &bytes);
                parse(format, lines.as_bytes());
            }
        }
    }
}
