//! A problem in a file the user wrote: where, found, expected, what to do.

use super::model::Location;
use crate::dns::foreign::is_hostile;
use std::fmt;

/// How bad it is. Errors make a configuration unusable, warnings do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but probably not as meant.
    Warning,
    /// Nothing is wrong; what it says needs something that only the reader can see to. The daemon does not log it.
    Advice,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Advice => "advice",
        })
    }
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable kebab-case name of the kind of problem, such as `unknown-upstream`.
    pub code: &'static str,
    /// Where it is.
    pub at: Location,
    /// The key it is about, such as `upstream.office.servers[1]`; empty outside TOML.
    pub key: String,
    /// What stands there, as written; may be empty.
    pub found: String,
    /// What should stand there, or what is wrong.
    pub expected: String,
    /// What to do about it; the nearest known word, for instance.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// Makes an error.
    #[must_use]
    pub fn error(code: &'static str, at: Location, expected: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            at,
            key: String::new(),
            found: String::new(),
            expected: expected.into(),
            hint: None,
        }
    }

    /// Makes a warning.
    #[must_use]
    pub fn warning(code: &'static str, at: Location, expected: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, at, expected) }
    }

    /// Makes an advice.
    #[must_use]
    pub fn advice(code: &'static str, at: Location, expected: impl Into<String>) -> Self {
        Self { severity: Severity::Advice, ..Self::error(code, at, expected) }
    }

    /// Adds the key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    /// Adds what was found.
    #[must_use]
    pub fn found(mut self, found: impl Into<String>) -> Self {
        self.found = found.into();
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Tells whether the configuration is unusable because of it.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// How diagnostics are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Four parts on lines of their own, and a summary.
    Human,
    /// One line each, as compilers write them, for editors.
    Gcc,
    /// A JSON array.
    Json,
}

/// Shows diagnostics; every line ends with a newline, and foreign control characters are escaped.
#[must_use]
pub fn render(diagnostics: &[Diagnostic], format: Format) -> String {
    match format {
        Format::Human => human(diagnostics),
        Format::Gcc => gcc(diagnostics),
        Format::Json => json(diagnostics),
    }
}

/// Shows each problem in four parts (where, found, expected, what to do), then the summary.
#[must_use]
pub fn human(diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for problem in diagnostics {
        text.push_str(&head(problem));
        if problem.key.is_empty() {
            text.pop();
            text.pop();
        }
        text.push('\n');
        let hint = problem.hint.as_deref().unwrap_or_default();
        for (word, part) in [("found", problem.found.as_str()), ("expected", &problem.expected), ("hint", hint)] {
            if !part.is_empty() {
                text.push_str(&format!("  {word:<8}  {}\n", escape(part)));
            }
        }
    }
    if !diagnostics.is_empty() {
        text.push_str(&summary(diagnostics));
        text.push('\n');
    }
    text
}

/// Shows one line each: `file:line:column: severity: key: expected …, found … (hint) [code]`.
#[must_use]
pub fn gcc(diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for problem in diagnostics {
        // What compilers, and so editors, call it.
        let severity =
            if problem.severity == Severity::Advice { "note".to_owned() } else { problem.severity.to_string() };
        text.push_str(&format!("{}: {severity}: ", escape(&problem.at.to_string())));
        if !problem.key.is_empty() {
            text.push_str(&format!("{}: ", escape(&problem.key)));
        }
        text.push_str(&format!("expected {}", escape(&problem.expected)));
        if !problem.found.is_empty() {
            text.push_str(&format!(", found {}", escape(&problem.found)));
        }
        if let Some(hint) = &problem.hint {
            text.push_str(&format!(" ({})", escape(hint)));
        }
        text.push_str(&format!(" [{}]\n", problem.code));
    }
    text
}

/// Shows a JSON array of objects with `severity`, `code`, `file`, `line`, `column`, `key`, `found`, `expected`, `hint`.
#[must_use]
pub fn json(diagnostics: &[Diagnostic]) -> String {
    let object = |problem: &Diagnostic| {
        serde_json::json!({
            "severity": problem.severity.to_string(),
            "code": problem.code,
            "file": problem.at.file.display().to_string(),
            "line": problem.at.line,
            "column": problem.at.column,
            "key": problem.key,
            "found": problem.found,
            "expected": problem.expected,
            "hint": problem.hint,
        })
    };
    let list: Vec<serde_json::Value> = diagnostics.iter().map(object).collect();
    let mut text = String::new();
    // JSON itself escapes C0 controls only; the others can move a terminal's cursor, too.
    for c in format!("{:#}", serde_json::Value::from(list)).chars() {
        match u32::from(c) {
            code if c != '\n' && is_hostile(c) => text.push_str(&format!("\\u{code:04x}")),
            _ => text.push(c),
        }
    }
    text.push('\n');
    text
}

/// Says how many errors, warnings and pieces of advice there are.
#[must_use]
pub fn summary(diagnostics: &[Diagnostic]) -> String {
    let count = |severity| diagnostics.iter().filter(|problem| problem.severity == severity).count();
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let mut text =
        format!("{}, {}", plural(count(Severity::Error), "error"), plural(count(Severity::Warning), "warning"));
    match count(Severity::Advice) {
        0 => {}
        1 => text.push_str(", 1 piece of advice"),
        more => text.push_str(&format!(", {more} pieces of advice")),
    }
    text
}

fn head(problem: &Diagnostic) -> String {
    format!("{}: {}: {}", problem.severity, escape(&problem.at.to_string()), escape(&problem.key))
}

/// Replaces characters that could move a terminal's cursor or turn the direction of writing by visible ones.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hostile(c) { safe.extend(c.escape_unicode()) } else { safe.push(c) }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn sample() -> Vec<Diagnostic> {
        let at = |line, column| Location { file: Path::new("truename.toml").into(), line, column };
        vec![
            Diagnostic::error("bad-address", at(14, 12), "an IP address, optionally with a port")
                .key("upstream.office.servers[1]")
                .found("\"10.0.0.53:5e\"")
                .hint("a port is a number from 1 to 65535"),
            Diagnostic::warning("syntax", at(0, 0), "text").found("\u{1b}[2J\u{9b}\u{202e}"),
        ]
    }

    #[test]
    fn people_see_four_parts() {
        insta::assert_snapshot!(human(&sample()), @r#"
        error: truename.toml:14:12: upstream.office.servers[1]
          found     "10.0.0.53:5e"
          expected  an IP address, optionally with a port
          hint      a port is a number from 1 to 65535
        warning: truename.toml
          found     \u{1b}[2J\u{9b}\u{202e}
          expected  text
        1 error, 1 warning
        "#);
        assert_eq!(human(&[]), "");
    }

    #[test]
    fn advice_is_counted_by_itself_and_is_a_note_to_editors() {
        let at = Location::file(Path::new("x.toml"));
        let advice = [Diagnostic::advice("needs-capability", at, "a capability")];
        assert!(!advice[0].is_error());
        assert_eq!(summary(&advice), "0 errors, 0 warnings, 1 piece of advice");
        assert_eq!(gcc(&advice), "x.toml: note: expected a capability [needs-capability]\n");
    }

    #[test]
    fn editors_see_one_line_each() {
        insta::assert_snapshot!(gcc(&sample()), @r#"
        truename.toml:14:12: error: upstream.office.servers[1]: expected an IP address, optionally with a port, found "10.0.0.53:5e" (a port is a number from 1 to 65535) [bad-address]
        truename.toml: warning: expected text, found \u{1b}[2J\u{9b}\u{202e} [syntax]
        "#);
    }

    #[test]
    fn programs_see_json_without_raw_controls() {
        let text = json(&sample());
        assert!(!text.chars().any(|c| c != '\n' && is_hostile(c)));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value[0]["line"], 14);
        assert_eq!(value[0]["hint"], "a port is a number from 1 to 65535");
        assert_eq!(value[1]["found"], "\u{1b}[2J\u{9b}\u{202e}");
        assert_eq!(value[1]["hint"], serde_json::Value::Null);
    }
}
