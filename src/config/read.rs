//! One file's text to its tables and values, by the table of keys; everything that is wrong is reported and reading goes on.

use super::address::{parse_listen, parse_network};
use super::diagnostic::Diagnostic;
use super::document::{Entry, NO_KEYS, Node, Table, Value};
use super::keys::{Kind, MAX_SOCKET_PATH_BYTES, Presence, TableDef};
use super::nearest::nearest;
use super::pattern::{parse_name, parse_pattern};
use super::server::{parse_bootstrap, parse_interface, parse_pin, parse_proxy, parse_rung, parse_server, parse_source};
use super::source::Source;
use super::units::{parse_bytes, parse_duration, parse_percent};
use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

/// Octets of a name that the user gives; as many as a DNS label has.
const MAX_IDENTIFIER_BYTES: usize = 63;

/// What one file gave.
pub(crate) struct ReadFile {
    pub(crate) table: Table,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The text is no TOML, so parts of what was meant are missing.
    pub(crate) is_broken: bool,
}

/// Reads a file's text by `def`.
pub(crate) fn read(source: &Source, def: &'static TableDef) -> ReadFile {
    let (tree, errors) = DeTable::parse_recoverable(source.text());
    let broken = errors.iter().filter(|error| !is_duplicate(error)).filter_map(toml::de::Error::span);
    let broken = broken.map(|span| span.start).collect();
    let mut reader = Reader { source, diagnostics: Vec::new(), broken };
    let root = Range { start: 0, end: 0 };
    let mut table = Table::empty(def, String::new(), source.locate(0));
    table.entries.clear();
    reader.fill(&mut table, tree.get_ref());
    let mut diagnostics = Vec::new();
    let mut is_broken = false;
    let mut syntax_lines: HashSet<u32> = HashSet::new();
    for error in &errors {
        let span = error.span().unwrap_or(root.clone());
        let at = source.locate(span.start);
        let problem = if is_duplicate(error) {
            Diagnostic::error("duplicate-key", at, "each key once").hint("take one of the two away")
        } else {
            is_broken = true;
            // Of several on one line only the first is the person's; the others come of going on after it.
            if !syntax_lines.insert(at.line) {
                continue;
            }
            syntax(error.message(), at)
        };
        diagnostics.push(problem.found(source.excerpt(span)));
    }
    // What the parser made of a broken line is a guess; one message about that line is enough.
    let broken_lines: HashSet<u32> = diagnostics.iter().map(|problem| problem.at.line).collect();
    diagnostics.extend(reader.diagnostics.into_iter().filter(|problem| !broken_lines.contains(&problem.at.line)));
    ReadFile { table, diagnostics, is_broken }
}

fn is_duplicate(error: &toml::de::Error) -> bool {
    error.message().contains("duplicate key")
}

/// Makes a problem of the parser's `what is wrong, expected what should stand there`.
fn syntax(message: &str, at: super::model::Location) -> Diagnostic {
    match message.split_once(", expected ") {
        // "Literal" is the parser's word for a string in single quotes.
        Some((wrong, "literal string")) => Diagnostic::error("syntax", at, "a value").hint(wrong),
        Some((wrong, expected)) => Diagnostic::error("syntax", at, expected).hint(wrong),
        None => Diagnostic::error("syntax", at, "a file in TOML").hint(message),
    }
}

/// Reads the default of a key, which is good by construction (a test reads all of them).
pub(crate) fn default_value(kind: &'static Kind, text: &str) -> Value {
    let source = Source::new(std::path::Path::new("default"), format!("x = {text}"));
    let mut reader = Reader { source: &source, diagnostics: Vec::new(), broken: Vec::new() };
    match DeTable::parse(source.text()) {
        Ok(tree) => tree.get_ref().get("x").map_or(Value::Bad, |value| reader.value(kind, "x", value).value),
        Err(_) => Value::Bad,
    }
}

/// Reports the keys that must be there and are not, in `table` and all below it.
pub(crate) fn missing_keys(table: &Table, diagnostics: &mut Vec<Diagnostic>) {
    for key in table.def.keys {
        if let Presence::Required(example) = key.presence
            && table.node(key.name).is_none()
        {
            let problem = Diagnostic::error("missing-key", table.at.clone(), key.kind.expected());
            let hint = format!("add `{} = {example}`", key.name);
            diagnostics.push(problem.key(table.path_of(key.name)).found("nothing").hint(hint));
        }
    }
    for entry in &table.entries {
        missing_in_node(&entry.node, diagnostics);
    }
}

fn missing_in_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    if let Value::Table(table) = &node.value {
        missing_keys(table, diagnostics);
    } else if let Value::List(items) = &node.value {
        items.iter().for_each(|item| missing_in_node(item, diagnostics));
    }
}

struct Reader<'a> {
    source: &'a Source,
    diagnostics: Vec<Diagnostic>,
    /// Where the text is no TOML, in its order.
    broken: Vec<usize>,
}

impl Reader<'_> {
    /// Puts what stands in `tree` into `table`, in the order of the text.
    fn fill(&mut self, table: &mut Table, tree: &DeTable<'_>) {
        let mut written: Vec<_> = tree.iter().collect();
        written.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in written {
            let Some(known) = table.def.key(key.get_ref()) else {
                self.unknown_key(table, key);
                continue;
            };
            let node = self.value(&known.kind, &table.path_of(known.name), value);
            table.entries.push(Entry {
                name: Cow::Borrowed(known.name),
                key_at: self.source.locate(key.span().start),
                node,
            });
        }
    }

    /// Repeats what was written, without what may be a password before an `@`: messages are copied into reports and logs.
    fn shown(&self, span: Range<usize>) -> String {
        let text = self.source.text().get(span.clone()).unwrap_or_default();
        match (text.find("://"), text.rfind('@')) {
            (Some(start), Some(end)) if start + 3 < end && !text.contains('\n') => {
                let host = self.source.excerpt(span.start + end..span.end);
                format!("{}…{host}", self.source.excerpt(span.start..span.start + start + 3))
            }
            _ => self.source.excerpt(span),
        }
    }

    fn unknown_key(&mut self, table: &Table, key: &Spanned<Cow<'_, str>>) {
        let known = table.def.keys.iter().map(|key| key.name);
        let near = nearest(key.get_ref(), known.clone());
        let expected = format!("one of {}", known.collect::<Vec<_>>().join(", "));
        let mut problem = Diagnostic::error("unknown-key", self.source.locate(key.span().start), expected)
            .key(table.path_of(key.get_ref()))
            .found(self.source.excerpt(key.span()));
        problem.hint = near.map(|near| format!("did you mean `{near}`?"));
        self.diagnostics.push(problem);
    }

    /// Reads a value; `path` is its full key, for messages.
    fn value(&mut self, kind: &'static Kind, path: &str, written: &Spanned<DeValue<'_>>) -> Node {
        let at = self.source.locate(written.span().start);
        let is_plain = !kind.has_header() && !matches!(written.get_ref(), DeValue::Table(_));
        if is_plain && self.broken.iter().any(|place| (written.span().start..=written.span().end).contains(place)) {
            // What the parser took for this value is a guess.
            return Node { at, value: Value::Bad };
        }
        let value = self.try_value(kind, path, written);
        let value = value.unwrap_or_else(|(code, hint)| {
            let mut problem =
                Diagnostic::error(code, at.clone(), kind.expected()).key(path).found(self.shown(written.span()));
            problem.hint = hint;
            self.diagnostics.push(problem);
            Value::Bad
        });
        Node { at, value }
    }

    fn try_value(&mut self, kind: &'static Kind, path: &str, written: &Spanned<DeValue<'_>>) -> Result<Value, Wrong> {
        match (kind, written.get_ref()) {
            (Kind::Table(def), DeValue::Table(tree)) => Ok(self.table(def, path, tree, written.span())),
            (Kind::Named(def), DeValue::Table(tree)) => Ok(self.named(def, path, tree, written.span())),
            (Kind::Tables(def), DeValue::Array(items)) => {
                let read = |(at, item): (usize, &Spanned<DeValue<'_>>)| {
                    let path = format!("{path}[{at}]");
                    if let DeValue::Table(tree) = item.get_ref() {
                        let value = self.table(def, &path, tree, item.span());
                        Node { at: self.source.locate(item.span().start), value }
                    } else {
                        self.not_a_table(def, &path, item)
                    }
                };
                Ok(Value::List(items.iter().enumerate().map(read).collect()))
            }
            (Kind::List(item), DeValue::Array(items)) => Ok(Value::List(
                items.iter().enumerate().map(|(at, value)| self.value(item, &format!("{path}[{at}]"), value)).collect(),
            )),
            // The first is taken only when the written type is one that it alone has.
            (Kind::Either(one, other), value) => {
                let fits = match (one, value) {
                    (Kind::Table(_), DeValue::Table(_)) => true,
                    (Kind::Word(words), DeValue::String(text)) => words.contains(&text.as_ref()),
                    _ => false,
                };
                if fits {
                    self.try_value(one, path, written)
                } else if let (Kind::Word(words), DeValue::String(text)) = (one, value) {
                    let is_text = matches!(other, Kind::SocketPath | Kind::FilePath | Kind::Listen);
                    let other = if is_text { self.try_value(other, path, written) } else { Err(("bad-value", None)) };
                    other.map_err(|(code, hint)| (code, near_word(text, words).or(hint)))
                } else {
                    self.try_value(other, path, written)
                }
            }
            (Kind::Boolean, DeValue::Boolean(value)) => Ok(Value::Boolean(*value)),
            (Kind::Integer { min, max }, DeValue::Integer(number)) => integer(number, *min, *max),
            (kind, DeValue::String(text)) => text_value(kind, text),
            (_, other) => Err(wrong_type(other)),
        }
    }

    fn table(&mut self, def: &'static TableDef, path: &str, tree: &DeTable<'_>, span: Range<usize>) -> Value {
        let at = self.source.locate(span.start);
        let mut table = Table { def, path: path.to_owned(), at, entries: Vec::new() };
        self.fill(&mut table, tree);
        Value::Table(table)
    }

    /// Reads a table of tables whose names are the user's.
    fn named(&mut self, def: &'static TableDef, path: &str, tree: &DeTable<'_>, span: Range<usize>) -> Value {
        let at = self.source.locate(span.start);
        let mut table = Table { def: &NO_KEYS, path: path.to_owned(), at, entries: Vec::new() };
        let mut written: Vec<_> = tree.iter().collect();
        written.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in written {
            let key_at = self.source.locate(key.span().start);
            let path = table.path_of(key.get_ref());
            if let Err((code, hint)) = identifier(key.get_ref()) {
                let mut problem = Diagnostic::error(code, key_at.clone(), Kind::Identifier.expected())
                    .key(&path)
                    .found(self.source.excerpt(key.span()));
                problem.hint = hint;
                self.diagnostics.push(problem);
            }
            let node = if let DeValue::Table(tree) = value.get_ref() {
                Node { at: key_at.clone(), value: self.table(def, &path, tree, key.span()) }
            } else {
                self.not_a_table(def, &path, value)
            };
            table.entries.push(Entry { name: Cow::Owned(key.get_ref().to_string()), key_at, node });
        }
        Value::Table(table)
    }

    fn not_a_table(&mut self, def: &'static TableDef, path: &str, written: &Spanned<DeValue<'_>>) -> Node {
        let span = written.span();
        let at = self.source.locate(span.start);
        let (code, hint) = wrong_type(written.get_ref());
        let mut problem =
            Diagnostic::error(code, at.clone(), Kind::Table(def).expected()).key(path).found(self.source.excerpt(span));
        problem.hint = hint;
        self.diagnostics.push(problem);
        Node { at, value: Value::Bad }
    }
}

/// What is wrong with a value: the code and what to do.
type Wrong = (&'static str, Option<String>);

fn wrong_type(found: &DeValue<'_>) -> Wrong {
    ("wrong-type", Some(format!("this is {} {}", article(found.type_str()), found.type_str())))
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

fn integer(number: &DeInteger<'_>, min: i64, max: i64) -> Result<Value, Wrong> {
    let value = i64::from_str_radix(number.as_str(), number.radix()).ok();
    value.filter(|value| (min..=max).contains(value)).map(Value::Integer).ok_or(("out-of-range", None))
}

fn text_value(kind: &'static Kind, text: &str) -> Result<Value, Wrong> {
    let bad = |hint: String| ("bad-value", Some(hint));
    match kind {
        Kind::Word(words) => words
            .iter()
            .find(|word| **word == text)
            .map(|word| Value::Word(word))
            .ok_or_else(|| ("bad-value", near_word(text, words))),
        Kind::Duration { min_ms, max_ms, whole_seconds } => {
            let duration = parse_duration(text).map_err(bad)?;
            let range = Duration::from_millis(*min_ms)..=Duration::from_millis(*max_ms);
            if !range.contains(&duration) || (*whole_seconds && duration.subsec_nanos() != 0) {
                return Err(("out-of-range", None));
            }
            Ok(Value::Duration(duration))
        }
        Kind::Bytes { min, max } => {
            let bytes = parse_bytes(text).map_err(bad)?;
            if (*min..=*max).contains(&bytes) { Ok(Value::Bytes(bytes)) } else { Err(("out-of-range", None)) }
        }
        Kind::Percent { min, max } => {
            let percent = parse_percent(text).map_err(bad)?;
            if (*min..=*max).contains(&percent) { Ok(Value::Percent(percent)) } else { Err(("out-of-range", None)) }
        }
        Kind::Listen => parse_listen(text).map(Value::Listen).map_err(|hint| ("bad-address", Some(hint))),
        Kind::Server => parse_server(text).map(Value::Server).map_err(|hint| ("bad-address", Some(hint))),
        Kind::Rung => parse_rung(text).map(Value::Rung).map_err(|hint| ("bad-transport", Some(hint))),
        Kind::Pin => parse_pin(text).map(Value::Pin).map_err(|hint| ("bad-pin", Some(hint))),
        Kind::Source => parse_source(text).map(Value::Source).map_err(|hint| ("bad-address", Some(hint))),
        Kind::Interface => {
            parse_interface(text).map(|()| Value::Text(text.to_owned())).map_err(|hint| ("bad-interface", Some(hint)))
        }
        Kind::Proxy => parse_proxy(text).map(Value::Proxy).map_err(|hint| ("bad-proxy", Some(hint))),
        Kind::Bootstrap => parse_bootstrap(text).map(Value::Bootstrap).map_err(|hint| ("bad-address", Some(hint))),
        Kind::Network => parse_network(text).map(Value::Network).map_err(|hint| ("bad-network", Some(hint))),
        Kind::Pattern => parse_pattern(text)
            .map(|(name, scope)| Value::Pattern(name, scope))
            .map_err(|hint| ("bad-pattern", Some(hint))),
        Kind::DomainName => parse_name(text).map(Value::Name).map_err(|hint| ("bad-name", Some(hint))),
        Kind::Identifier => identifier(text).map(|()| Value::Text(text.to_owned())),
        Kind::RecordType => match text.parse::<crate::dns::Rtype>() {
            Ok(rtype) if !rtype.is_meta() => Ok(Value::Rtype(rtype)),
            Ok(_) => Err(("bad-type", Some(format!("{text} is something to ask for, never a record")))),
            Err(error) => Err(("bad-type", Some(near_type(text).unwrap_or_else(|| error.to_string())))),
        },
        Kind::SocketPath if !text.starts_with('/') || text.len() > MAX_SOCKET_PATH_BYTES || text.contains('\0') => {
            Err(("bad-value", None))
        }
        Kind::FilePath if !text.starts_with('/') || text.ends_with('/') || text.contains('\0') => {
            Err(("bad-value", None))
        }
        Kind::SocketPath | Kind::FilePath => Ok(Value::Text(text.to_owned())),
        Kind::Text if text.is_empty() => Err(("bad-value", None)),
        Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::Boolean | Kind::Integer { .. } => {
            let hint = text.parse::<i64>().is_ok() || text == "true" || text == "false";
            Err(("wrong-type", Some(if hint { "write it without quotes" } else { "this is a string" }.to_owned())))
        }
        Kind::Table(_) | Kind::Tables(_) | Kind::Named(_) | Kind::List(_) | Kind::Either(..) => {
            Err(("wrong-type", Some("this is a string".to_owned())))
        }
    }
}

fn identifier(text: &str) -> Result<(), Wrong> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=MAX_IDENTIFIER_BYTES).contains(&text.len()) && text.bytes().all(fits) {
        return Ok(());
    }
    Err(("bad-identifier", None))
}

fn near_word(text: &str, words: &[&'static str]) -> Option<String> {
    nearest(text, words.iter().copied()).map(|near| format!("did you mean \"{near}\"?"))
}

fn near_type(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    let known = crate::dns::rtype::MNEMONICS.iter().map(|(mnemonic, _)| *mnemonic);
    nearest(&upper, known).map(|near| format!("did you mean \"{near}\"?"))
}

/// Reads a default or an example as JSON, for the schema.
pub(crate) fn default_json(text: &str) -> serde_json::Value {
    let table: Result<toml::Table, _> = toml::from_str(&format!("x = {text}"));
    let value = table.ok().and_then(|mut table| table.remove("x"));
    serde_json::to_value(value).unwrap_or_default()
}
