//! Master files (RFC 1035 section 5): entries to records, each with the file and line it came from.
//!
//! All errors of a file are collected. What a zone as a whole must satisfy is checked in `lint.rs`.

use super::encoding::seconds;
use super::fields::RdataError;
use super::generate;
use super::rdata::{self, CLASS_IN};
use super::slips;
use super::token::{Entries, Entry, Token};
use crate::config::{Diagnostic, Location};
use crate::dns::{Name, Record, Rtype};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `$INCLUDE`s within each other; also what ends a file that includes itself.
const MAX_INCLUDE_DEPTH: usize = 8;
/// Files included in one zone, each as often as it is named: files that include one another twice would else be read
/// without end.
const MAX_INCLUDES: usize = 1000;
/// Octets of one file: 100,000 records take about 5 MiB.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// Records of one zone, `$GENERATE` included.
pub(super) const MAX_RECORDS: usize = 4_000_000;
/// Errors listed per zone; the rest is counted as one line.
const MAX_DIAGNOSTICS: usize = 100;
/// The largest TTL (RFC 2181 section 8).
const MAX_TTL_SECONDS: u32 = i32::MAX.unsigned_abs();

/// A record and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Located {
    pub(super) record: Record,
    /// Index into [`Master::files`].
    pub(super) file: u16,
    /// Line, from 1.
    pub(super) line: u32,
}

/// Everything read of one zone.
#[derive(Debug)]
pub(super) struct Master {
    pub(super) apex: Name,
    pub(super) files: Vec<Arc<Path>>,
    pub(super) records: Vec<Located>,
    pub(super) diagnostics: Vec<Diagnostic>,
    default_ttl: u32,
    left_out: usize,
    included: usize,
    /// Records at most.
    max_records: usize,
}

/// What directives and earlier records of a file have set.
#[derive(Debug, Clone)]
struct State {
    file: u16,
    origin: Name,
    ttl: Option<u32>,
    last_ttl: Option<u32>,
    owner: Option<Name>,
    /// The files that are being read, the outermost first.
    chain: Vec<u16>,
}

impl Master {
    /// Starts a zone without records.
    pub(super) fn new(apex: Name, default_ttl: u32) -> Self {
        Self {
            apex,
            files: Vec::new(),
            records: Vec::new(),
            diagnostics: Vec::new(),
            default_ttl,
            left_out: 0,
            included: 0,
            max_records: MAX_RECORDS,
        }
    }

    /// Reads a file; `named_at` is where the configuration names it, in the table `key`.
    pub(super) fn read_file(&mut self, path: &Path, named_at: &Location, key: &str) {
        match read_text(path) {
            Ok(text) => {
                self.report_bad_octets(path, &text);
                self.read_text(path, &text.text);
            }
            Err(reason) => {
                let found = path.display().to_string();
                let key = format!("{key}.file");
                self.report(Diagnostic::error("zone-file", named_at.clone(), reason).key(key).found(found));
            }
        }
    }

    /// Reports what is not UTF-8. The rest of the file is read all the same, so that its other mistakes show, too.
    fn report_bad_octets(&mut self, path: &Path, text: &Text) {
        for bad in &text.bad {
            let at = Location { file: path.into(), line: bad.line, column: bad.column };
            let problem = Diagnostic::error("not-utf8", at, "text in UTF-8").found(format!("byte 0x{:02x}", bad.octet));
            self.report(problem.hint("write octets as \\DDD, or save the file as UTF-8"));
        }
    }

    /// Reads a text as if it stood in the file `path`.
    pub(super) fn read_text(&mut self, path: &Path, text: &str) {
        let Some(file) = self.add_file(path) else { return };
        let origin = self.apex.clone();
        self.entries(text, &mut State { file, origin, ttl: None, last_ttl: None, owner: None, chain: vec![file] });
    }

    /// Notes a file and returns its index.
    pub(super) fn add_file(&mut self, path: &Path) -> Option<u16> {
        if let Some(at) = self.files.iter().position(|file| &**file == path) {
            return u16::try_from(at).ok();
        }
        let at = u16::try_from(self.files.len()).ok()?;
        self.files.push(path.into());
        Some(at)
    }

    /// Adds a problem, up to the bound.
    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < MAX_DIAGNOSTICS {
            self.diagnostics.push(diagnostic);
        } else {
            self.left_out += 1;
        }
    }

    /// Returns the place a record was written at.
    pub(super) fn location(&self, file: u16, line: u32, column: u32) -> Location {
        let file = self.files.get(usize::from(file)).cloned().unwrap_or_else(|| Path::new("").into());
        Location { file, line, column }
    }

    /// Ends the list of problems: says how many more there are.
    pub(super) fn finish_diagnostics(&mut self, zone_at: &Location) -> Vec<Diagnostic> {
        let mut all = std::mem::take(&mut self.diagnostics);
        all.sort_by(|a, b| a.at.cmp(&b.at));
        if self.left_out > 0 {
            let text = format!("{} more problems in zone {} are not shown", self.left_out, self.apex);
            all.push(Diagnostic::error("too-many-problems", zone_at.clone(), text));
        }
        all
    }

    fn entries(&mut self, text: &str, state: &mut State) {
        let mut entries = Entries::new(text);
        let mut entry = Entry::default();
        while let Some(result) = entries.next_into(&mut entry) {
            match result {
                Ok(()) => self.entry(entry.blank, &entry.tokens, state),
                Err(error) => {
                    let at = self.location(state.file, error.line, error.column);
                    self.report(Diagnostic::error("zone-syntax", at, error.expected));
                }
            }
            if self.records.len() > self.max_records {
                return;
            }
        }
    }

    fn entry(&mut self, blank: bool, tokens: &[Token<'_>], state: &mut State) {
        let first = tokens[0];
        if blank || first.quoted || !first.raw.starts_with('$') {
            return self.record(blank, tokens, state);
        }
        let args = &tokens[1..];
        match first.raw.to_ascii_uppercase().as_str() {
            "$ORIGIN" => {
                if let Some(origin) = self.one_name(&first, args, state) {
                    state.origin = origin;
                }
            }
            "$TTL" => match args {
                [one] if seconds(one.raw).is_some_and(|ttl| ttl <= MAX_TTL_SECONDS) => state.ttl = seconds(one.raw),
                _ => self.wrong(args.first().unwrap_or(&first), state, "one duration after $TTL, such as 3600 or 1h"),
            },
            "$INCLUDE" => self.include(&first, args, state),
            "$GENERATE" => self.generate(&first, args, state),
            _ => {
                let at = self.location(state.file, first.line, first.column);
                let problem = Diagnostic::error("zone-directive", at, "$ORIGIN, $TTL, $INCLUDE or $GENERATE")
                    .found(first.raw)
                    .hint(format!("a name that starts with $ is written \\{}", first.raw));
                self.report(problem);
            }
        }
    }

    fn one_name(&mut self, directive: &Token<'_>, args: &[Token<'_>], state: &State) -> Option<Name> {
        let [arg] = args else {
            self.wrong(args.get(1).unwrap_or(directive), state, "one domain name after $ORIGIN");
            return None;
        };
        self.name(arg, state)
    }

    fn name(&mut self, token: &Token<'_>, state: &State) -> Option<Name> {
        match Name::parse_relative(token.raw, &state.origin) {
            Ok(name) => Some(name),
            Err(error) => {
                self.wrong(token, state, &format!("a domain name; this one has {error}"));
                None
            }
        }
    }

    fn include(&mut self, directive: &Token<'_>, args: &[Token<'_>], state: &State) {
        let (Some(file), None) = (args.first(), args.get(2)) else {
            return self.wrong(directive, state, "a file, and maybe an origin, after $INCLUDE");
        };
        let origin = match args.get(1) {
            Some(origin) => match self.name(origin, state) {
                Some(origin) => origin,
                None => return,
            },
            None => state.origin.clone(),
        };
        if state.chain.len() >= MAX_INCLUDE_DEPTH {
            return self.wrong(
                file,
                state,
                &format!("no more than {MAX_INCLUDE_DEPTH} files that include one another"),
            );
        }
        if self.included == MAX_INCLUDES {
            return self.wrong(file, state, &format!("no more than {MAX_INCLUDES} $INCLUDE in one zone"));
        }
        self.included += 1;
        let folder = self.files.get(usize::from(state.file)).and_then(|file| file.parent().map(Path::to_path_buf));
        let path: PathBuf = folder.unwrap_or_default().join(file.raw);
        match read_text(&path) {
            Err(reason) => self.wrong(file, state, &reason),
            Ok(text) => {
                let Some(index) = self.add_file(&path) else {
                    return self.wrong(file, state, "fewer files in one zone");
                };
                if state.chain.contains(&index) {
                    return self.wrong(file, state, "another file: this one is being read, it would include itself");
                }
                self.report_bad_octets(&path, &text);
                // RFC 1035 section 5.1: what an included file sets does not change the including one.
                let chain = state.chain.iter().copied().chain([index]).collect();
                self.entries(&text.text, &mut State { file: index, origin, chain, ..state.clone() });
            }
        }
    }

    fn generate(&mut self, directive: &Token<'_>, args: &[Token<'_>], state: &mut State) {
        let Some((range, template)) = args.split_first().filter(|(_, rest)| rest.len() >= 3) else {
            return self.wrong(directive, state, "a range, an owner, a type and data after $GENERATE");
        };
        let values = match generate::range(range.raw) {
            Ok(values) => values,
            Err(expected) => return self.wrong(range, state, expected),
        };
        for value in values {
            let mut texts = Vec::with_capacity(template.len());
            for token in template {
                match generate::substitute(token.raw, value) {
                    Ok(text) => texts.push(text),
                    Err(expected) => return self.wrong(token, state, expected),
                }
            }
            let tokens: Vec<Token<'_>> =
                template.iter().zip(&texts).map(|(token, text)| Token { raw: text, ..*token }).collect();
            let problems = self.diagnostics.len() + self.left_out;
            self.record(false, &tokens, state);
            // One wrong template is one problem, not one a number.
            if self.diagnostics.len() + self.left_out > problems || self.records.len() > self.max_records {
                return;
            }
        }
    }

    fn record(&mut self, blank: bool, tokens: &[Token<'_>], state: &mut State) {
        let first = tokens[0];
        let mut at = usize::from(!blank);
        let owner = if blank {
            state.owner.clone()
        } else {
            let name = self.name(&first, state);
            // A line with a bad owner must not hand its records to the owner before.
            state.owner = name.clone();
            if name.is_none() {
                return;
            }
            name
        };
        let Some(owner) = owner else {
            return self.wrong(&first, state, "an owner name: there is none above to take over");
        };
        if !blank && !first.raw.is_ascii() {
            let at = self.location(state.file, first.line, first.column);
            let problem = Diagnostic::warning("non-ascii-name", at, "a name in ASCII: clients ask for the xn-- form")
                .found(excerpt(first.raw));
            self.report(problem.hint("write the xn-- form of the name (RFC 5891), or octets as \\DDD"));
        }
        let mut ttl = None;
        let mut class = None;
        while let Some(token) = tokens.get(at).filter(|token| !token.quoted) {
            if class.is_none() && is_class(token.raw) {
                if !token.raw.eq_ignore_ascii_case("IN") && !token.raw.eq_ignore_ascii_case("CLASS1") {
                    return self.wrong(token, state, "class IN: no other is served");
                }
                class = Some(());
            } else if ttl.is_none() && token.raw.starts_with(|c: char| c.is_ascii_digit()) {
                ttl = seconds(token.raw).filter(|ttl| *ttl <= MAX_TTL_SECONDS);
                if ttl.is_none() {
                    return self.wrong(token, state, "a TTL of at most 2147483647 seconds, such as 3600 or 1h");
                }
            } else {
                break;
            }
            at += 1;
        }
        let Some(token) = tokens.get(at) else {
            return self.wrong(tokens.last().unwrap_or(&first), state, "a record type and data after this");
        };
        let Ok(rtype) = token.raw.parse::<Rtype>() else { return self.unknown_type(token, state) };
        if rtype.is_meta() || rtype == Rtype(0) || rtype == Rtype::NULL {
            return self.wrong(token, state, "a type that can stand in a zone");
        }
        if !owner.is_at_or_below(&self.apex) {
            let at = self.location(state.file, first.line, first.column);
            let problem = Diagnostic::error("out-of-zone", at, format!("a name at or below {}", self.apex))
                .found(owner.to_string())
                .hint("names without a last dot are relative to $ORIGIN; the others are absolute");
            return self.report(problem);
        }
        if ttl.is_some() {
            state.last_ttl = ttl;
        }
        let ttl = ttl.or(state.ttl).or(state.last_ttl).unwrap_or(self.default_ttl);
        let data = &tokens[at + 1..];
        match rdata::parse(rtype, data, &state.origin) {
            Ok(rdata) => self.push(Record { owner, rtype, class: CLASS_IN, ttl, rdata }, state.file, first.line),
            Err(error) => self.wrong_rdata(rtype, &error, data, token, state),
        }
    }

    /// Adds a record, up to the bound.
    pub(super) fn push(&mut self, record: Record, file: u16, line: u32) {
        if self.records.len() == self.max_records {
            let at = self.location(file, line, 1);
            self.report(Diagnostic::error(
                "zone-too-large",
                at,
                format!("at most {} records in a zone", self.max_records),
            ));
        }
        self.records.push(Located { record, file, line });
    }

    fn wrong(&mut self, token: &Token<'_>, state: &State, expected: &str) {
        let at = self.location(state.file, token.line, token.column);
        self.report(Diagnostic::error("zone-record", at, expected).found(excerpt(token.raw)));
    }

    fn unknown_type(&mut self, token: &Token<'_>, state: &State) {
        let at = self.location(state.file, token.line, token.column);
        let upper = token.raw.to_ascii_uppercase();
        let meant = slips::meant(&upper, crate::dns::rtype::MNEMONICS.iter().map(|(text, _)| *text));
        let mut problem =
            Diagnostic::error("record-type", at, "a record type such as AAAA, or TYPE and a number (RFC 3597)")
                .found(excerpt(token.raw));
        if let Some(text) = meant {
            problem = problem.hint(format!("did you mean {text}?"));
        }
        self.report(problem);
    }

    fn wrong_rdata(
        &mut self,
        rtype: Rtype,
        error: &RdataError,
        data: &[Token<'_>],
        rtype_token: &Token<'_>,
        state: &State,
    ) {
        let token = data.get(error.token);
        let place = token.or_else(|| data.last()).unwrap_or(rtype_token);
        let at = self.location(state.file, place.line, place.column);
        let mut problem = Diagnostic::error("record-data", at, format!("{} ({rtype} record)", error.expected))
            .found(token.map(|token| excerpt(token.raw)).unwrap_or_default());
        problem.hint.clone_from(&error.hint);
        self.report(problem);
    }
}

/// Tells whether a word is a class.
fn is_class(word: &str) -> bool {
    let upper = word.to_ascii_uppercase();
    matches!(upper.as_str(), "IN" | "CH" | "HS" | "CS")
        || upper.strip_prefix("CLASS").is_some_and(|digits| digits.parse::<u16>().is_ok())
}

/// Cuts what is shown of a wrong word.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The text of a file.
#[derive(Debug)]
pub(super) struct Text {
    /// What is not UTF-8 is U+FFFD here.
    pub(super) text: String,
    /// What was not UTF-8, up to a bound.
    bad: Vec<BadOctet>,
}

/// An octet that is not UTF-8.
#[derive(Debug)]
struct BadOctet {
    octet: u8,
    line: u32,
    column: u32,
}

/// Reads a whole file, or says why not.
pub(super) fn read_text(path: &Path) -> Result<Text, String> {
    let meta = std::fs::metadata(path).map_err(|error| format!("a file that can be read ({error})"))?;
    if !meta.is_file() {
        return Err("a regular file".to_owned());
    }
    if meta.len() > MAX_FILE_BYTES {
        return Err("a file of at most 256 MiB".to_owned());
    }
    let bytes = std::fs::read(path).map_err(|error| format!("a file that can be read ({error})"))?;
    Ok(decode(bytes))
}

fn decode(bytes: Vec<u8>) -> Text {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return Text { text, bad: Vec::new() },
        Err(error) => error.into_bytes(),
    };
    let (mut text, mut bad) = (String::with_capacity(bytes.len()), Vec::new());
    let (mut line, mut column) = (1_u32, 1_u32);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            (line, column) = if c == '\n' { (line.saturating_add(1), 1) } else { (line, column.saturating_add(1)) };
        }
        text.push_str(chunk.valid());
        if let Some(&octet) = chunk.invalid().first() {
            if bad.len() < MAX_DIAGNOSTICS {
                bad.push(BadOctet { octet, line, column });
            }
            text.push(char::REPLACEMENT_CHARACTER);
            column = column.saturating_add(1);
        }
    }
    Text { text, bad }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Master {
        let mut master = Master::new(Name::parse("lab.example").unwrap(), 60);
        master.read_text(Path::new("lab.zone"), text);
        master
    }

    fn lines(master: &Master) -> Vec<String> {
        assert_eq!(master.diagnostics, []);
        let line = |l: &Located| format!("{}:{}", l.line, super::super::presentation::record_line(&l.record));
        master.records.iter().map(line).collect()
    }

    #[test]
    fn owners_ttls_and_classes_are_taken_over_as_the_rfc_says() {
        let master = read(
            "a 5m IN A 192.0.2.1\n IN 7 A 192.0.2.2\n\tA 192.0.2.3\n$TTL 1h30m\nb A 192.0.2.4\n$ORIGIN sub\nc IN 9 A \
             192.0.2.5\n@ A 192.0.2.6\n",
        );
        assert_eq!(
            lines(&master),
            [
                "1:a.lab.example. 300 IN A 192.0.2.1",
                "2:a.lab.example. 7 IN A 192.0.2.2",
                "3:a.lab.example. 7 IN A 192.0.2.3",
                "5:b.lab.example. 5400 IN A 192.0.2.4",
                "7:c.sub.lab.example. 9 IN A 192.0.2.5",
                "8:sub.lab.example. 5400 IN A 192.0.2.6",
            ]
        );
    }

    #[test]
    fn names_that_look_like_ttls_or_types_are_owners_at_the_start() {
        let master = read("10 A 192.0.2.1\nA A 192.0.2.2\nIN A 192.0.2.3\n");
        assert_eq!(master.records[0].record.owner.to_string(), "10.lab.example.");
        assert_eq!(master.records[1].record.owner.to_string(), "A.lab.example.");
        assert_eq!(master.records[2].record.owner.to_string(), "IN.lab.example.");
    }

    #[test]
    fn generate_makes_one_record_a_number() {
        let master = read("$GENERATE 1-5/2 host-${0,3,d} 30 A 192.0.2.$\n$GENERATE 10-11 ${0,2,x} PTR h\\$$.\n");
        assert_eq!(
            lines(&master),
            [
                "1:host-001.lab.example. 30 IN A 192.0.2.1",
                "1:host-003.lab.example. 30 IN A 192.0.2.3",
                "1:host-005.lab.example. 30 IN A 192.0.2.5",
                "2:0a.lab.example. 30 IN PTR h\\$10.",
                "2:0b.lab.example. 30 IN PTR h\\$11.",
            ]
        );
    }

    #[test]
    fn all_errors_are_listed_with_their_place() {
        let master = read("a A 300.0.0.1\nb AAAAA ::1\n$FOO\nwww.other.example. A 192.0.2.1\nc CH A 192.0.2.1\nd A\n");
        let places: Vec<_> = master.diagnostics.iter().map(|d| (d.code, d.at.line, d.at.column)).collect();
        assert_eq!(
            places,
            [
                ("record-data", 1, 5),
                ("record-type", 2, 3),
                ("zone-directive", 3, 1),
                ("out-of-zone", 4, 1),
                ("zone-record", 5, 3),
                ("record-data", 6, 3),
            ]
        );
        assert_eq!(master.diagnostics[1].hint.as_deref(), Some("did you mean AAAA?"));
    }

    #[test]
    fn a_bad_owner_does_not_hand_its_lines_to_the_owner_before() {
        let master = read("a A 192.0.2.1\nb..c A 192.0.2.2\n A 192.0.2.3\n");
        assert_eq!(master.records.len(), 1);
        assert_eq!(master.diagnostics.len(), 2);
    }

    #[test]
    fn names_that_no_client_asks_for_are_warned_of() {
        let master = read("b\u{fc}cher A 192.0.2.1\nxn--bcher-kva A 192.0.2.1\n");
        let seen: Vec<_> = master.diagnostics.iter().map(|d| (d.code, d.at.line, d.is_error())).collect();
        assert_eq!(seen, [("non-ascii-name", 1, false)]);
        assert_eq!(master.records.len(), 2);
    }

    #[test]
    fn errors_of_a_hopeless_file_are_bounded() {
        let mut master = read(&"bad line here\n".repeat(5_000));
        let all = master.finish_diagnostics(&Location::file(Path::new("t.toml")));
        assert_eq!(all.len(), MAX_DIAGNOSTICS + 1);
        assert!(all[MAX_DIAGNOSTICS].expected.starts_with("4900 more"));
    }

    #[test]
    fn includes_are_relative_and_do_not_leak_their_state() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/inner"), "$TTL 9\n$ORIGIN deep\nx A 192.0.2.1\n$INCLUDE more\n").unwrap();
        std::fs::write(dir.path().join("sub/more"), "y A 192.0.2.2\n").unwrap();
        std::fs::write(dir.path().join("zone"), "a A 192.0.2.9\n$INCLUDE sub/inner in\n A 192.0.2.3\n").unwrap();
        let mut master = Master::new(Name::parse("lab.example").unwrap(), 60);
        master.read_file(&dir.path().join("zone"), &Location::file(Path::new("t.toml")), "zone[0]");
        assert_eq!(
            lines(&master),
            [
                "1:a.lab.example. 60 IN A 192.0.2.9",
                "3:x.deep.in.lab.example. 9 IN A 192.0.2.1",
                "1:y.deep.in.lab.example. 9 IN A 192.0.2.2",
                "3:a.lab.example. 60 IN A 192.0.2.3",
            ]
        );
        assert_eq!(&*master.files[2], dir.path().join("sub/more"));
    }

    #[test]
    fn a_file_that_includes_itself_is_one_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zone");
        std::fs::write(&path, "$INCLUDE zone\n").unwrap();
        let mut master = Master::new(Name::parse("lab.example").unwrap(), 60);
        master.read_file(&path, &Location::file(Path::new("t.toml")), "zone[0]");
        assert_eq!(master.diagnostics.len(), 1);
        assert_eq!(master.diagnostics[0].at.line, 1);
    }

    #[test]
    fn a_ring_of_files_is_reported_where_it_closes_and_read_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("one"), "@ A 192.0.2.1\n$INCLUDE two\n").unwrap();
        std::fs::write(dir.path().join("two"), "\n$INCLUDE one\n@ A 192.0.2.2\n").unwrap();
        let mut master = Master::new(Name::parse("lab.example").unwrap(), 60);
        master.read_file(&dir.path().join("one"), &Location::file(Path::new("t.toml")), "zone[0]");
        let seen: Vec<_> = master.diagnostics.iter().map(|d| (d.at.to_string(), d.found.as_str())).collect();
        assert_eq!(seen, [(format!("{}:2:10", dir.path().join("two").display()), "one")]);
        assert_eq!(master.records.len(), 2);
    }

    #[test]
    fn octets_that_are_no_text_are_named_and_hide_nothing() {
        let text = decode(b"a TXT caf\xe9 \xe9\n\xc3\xa9 \xff\n".to_vec());
        assert_eq!(text.text, "a TXT caf\u{fffd} \u{fffd}\n\u{e9} \u{fffd}\n");
        let bad: Vec<_> = text.bad.iter().map(|bad| (bad.octet, bad.line, bad.column)).collect();
        assert_eq!(bad, [(0xe9, 1, 10), (0xe9, 1, 12), (0xff, 2, 3)]);
    }

    #[test]
    fn includes_end_at_their_depth() {
        let dir = tempfile::tempdir().unwrap();
        for depth in 0..MAX_INCLUDE_DEPTH + 3 {
            let text = format!("n{depth} A 192.0.2.1\n$INCLUDE {}\n", depth + 1);
            std::fs::write(dir.path().join(depth.to_string()), text).unwrap();
        }
        let mut master = Master::new(Name::parse("lab.example").unwrap(), 60);
        master.read_file(&dir.path().join("0"), &Location::file(Path::new("t.toml")), "zone[0]");
        assert_eq!(master.records.len(), MAX_INCLUDE_DEPTH);
        let seen: Vec<_> = master.diagnostics.iter().map(|problem| problem.expected.as_str()).collect();
        assert_eq!(seen, ["no more than 8 files that include one another"]);
    }

    #[test]
    fn includes_have_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zone");
        std::fs::write(dir.path().join("empty"), "").unwrap();
        std::fs::write(&path, "$INCLUDE empty\n".repeat(MAX_INCLUDES + 1)).unwrap();
        let mut master = Master::new(Name::parse("lab.example").unwrap(), 60);
        master.read_file(&path, &Location::file(Path::new("t.toml")), "zone[0]");
        assert_eq!(master.diagnostics.len(), 1);
        assert_eq!(master.diagnostics[0].expected, "no more than 1000 $INCLUDE in one zone");
    }

    #[test]
    fn records_of_a_zone_have_a_bound() {
        let mut master = Master::new(Name::parse("lab.example").unwrap(), 60);
        assert_eq!(master.max_records, MAX_RECORDS);
        master.max_records = 50;
        master.read_text(Path::new("lab.zone"), "a A 192.0.2.1\n$GENERATE 1-100 h$ A 192.0.2.$\nb A 192.0.2.2\n");
        assert_eq!(master.records.len(), 51);
        let seen: Vec<_> = master.diagnostics.iter().map(|problem| (problem.code, problem.at.line)).collect();
        assert_eq!(seen, [("zone-too-large", 2)]);
    }

    #[test]
    fn files_have_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zone");
        // A hole: no blocks are written.
        std::fs::File::create(&path).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
        assert_eq!(read_text(&path).map(|_| ()).unwrap_err(), "a file of at most 256 MiB");
    }

    #[test]
    fn a_missing_file_is_reported_where_the_configuration_names_it() {
        let mut master = Master::new(Name::parse("lab.example").unwrap(), 60);
        let at = Location { file: Path::new("t.toml").into(), line: 7, column: 8 };
        master.read_file(Path::new("/nonexistent/zone"), &at, "zone[0]");
        assert_eq!(master.diagnostics[0].at, at);
        assert_eq!((master.diagnostics[0].code, master.diagnostics[0].key.as_str()), ("zone-file", "zone[0].file"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([a-c@$.\\\\ \\n\\t\"();0-9]|IN|A |TXT |SVCB |HTTPS |\\$GENERATE 1-3 |alpn=|CERT ){0,40}") {
            read(&text);
        }
    }
}
