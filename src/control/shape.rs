//! In which form a document is asked for (RFC 9110 section 12.5.1), and what it looks like in those that are not JSON: a line for each
//! value, as plain text or as a page.

use crate::dns::foreign::is_hostile;
use serde_json::Value;

/// What a page begins with.
const PAGE_HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>truename</title>\n\
    <style>body { font-family: monospace } th { text-align: left; font-weight: normal; padding-right: 2em }</style></head>\n\
    <body><table>\n";
/// What it ends with.
const PAGE_END: &str = "</table></body>\n</html>\n";
/// What stands for a value there is none of.
const NONE: &str = "-";

/// The form of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// JSON, for programs; also for who does not say.
    Json,
    /// A line for each value.
    Text,
    /// A row for each value.
    Page,
}

impl Shape {
    /// All of them, those first that are taken where several are as welcome.
    const ALL: [Self; 3] = [Self::Json, Self::Text, Self::Page];

    /// Chooses by an Accept header. Who takes none of them gets JSON, as section 12.5.1 allows.
    pub(super) fn choose(accept: &str) -> Self {
        if accept.is_empty() {
            return Self::Json;
        }
        let ranges: Vec<(&str, f32)> = accept.split(',').map(range).collect();
        let welcome = |shape: &Self| {
            let (media_type, family) = shape.media_type();
            // The most specific range that a type is in decides.
            let decides = [media_type, family, "*/*"].into_iter();
            let quality =
                decides.filter_map(|range| ranges.iter().find(|(known, _)| known.eq_ignore_ascii_case(range)));
            quality.map(|(_, quality)| *quality).next().unwrap_or(0.0)
        };
        let best = Self::ALL.iter().map(welcome).fold(0.0, f32::max);
        Self::ALL.into_iter().find(|shape| best > 0.0 && welcome(shape) >= best).unwrap_or(Self::Json)
    }

    fn media_type(self) -> (&'static str, &'static str) {
        match self {
            Self::Json => ("application/json", "application/*"),
            Self::Text => ("text/plain", "text/*"),
            Self::Page => ("text/html", "text/*"),
        }
    }

    /// Returns the media type.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Text => "text/plain; charset=utf-8",
            Self::Page => "text/html; charset=utf-8",
        }
    }

    /// Writes a document that stands in JSON.
    pub(super) fn write(self, json: Vec<u8>) -> Vec<u8> {
        if self == Self::Json {
            return json;
        }
        let mut lines = Vec::new();
        flatten(String::new(), &serde_json::from_slice(&json).unwrap_or_default(), &mut lines);
        let text = match self {
            Self::Json | Self::Text => lines.iter().map(|(path, value)| format!("{path}: {value}\n")).collect(),
            Self::Page => {
                let row = |(path, value): &(String, String)| {
                    format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escaped(path), escaped(value))
                };
                format!("{PAGE_HEAD}{}{PAGE_END}", lines.iter().map(row).collect::<String>())
            }
        };
        text.into_bytes()
    }
}

/// Reads a range of media types and how welcome it is.
fn range(text: &str) -> (&str, f32) {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default();
    let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    // One that cannot be read makes the range unwelcome, not the best.
    (range, quality.map_or(1.0, |quality| quality.parse().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0)))
}

/// Lists the values of a document with where they stand: `cache.entries`, `upstreams.0.name`.
fn flatten(path: String, value: &Value, lines: &mut Vec<(String, String)>) {
    let below = |key: &str| if path.is_empty() { visible(key) } else { format!("{path}.{}", visible(key)) };
    match value {
        Value::Object(object) if !object.is_empty() => {
            object.iter().for_each(|(key, value)| flatten(below(key), value, lines));
        }
        Value::Array(list) if !list.is_empty() => {
            list.iter().enumerate().for_each(|(at, value)| flatten(below(&at.to_string()), value, lines));
        }
        Value::Object(_) | Value::Array(_) | Value::Null => lines.push((path, NONE.to_owned())),
        Value::String(text) => lines.push((path, visible(text))),
        Value::Bool(_) | Value::Number(_) => lines.push((path, value.to_string())),
    }
}

/// Makes visible what would begin a line or turn the writing.
fn visible(text: &str) -> String {
    text.chars().map(|c| if is_hostile(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Writes a text so that it is one in HTML too.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_the_most_welcome_one_and_json_for_who_does_not_say() {
        for (accept, shape) in [
            ("", Shape::Json),
            ("*/*", Shape::Json),
            ("application/json", Shape::Json),
            ("text/plain", Shape::Text),
            ("TEXT/Plain ; charset=utf-8", Shape::Text),
            ("text/*", Shape::Text),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Shape::Page),
            ("text/plain;q=0.5, text/html;q=0.7, */*;q=0.1", Shape::Page),
            ("text/html;q=0, */*", Shape::Json),
            ("application/json;q=0, */*", Shape::Text),
            ("text/plain;q=much", Shape::Json),
            ("text/plain;q=7, text/html;q=0.1", Shape::Page),
            ("image/png", Shape::Json),
            (",,;;=", Shape::Json),
        ] {
            assert_eq!(Shape::choose(accept), shape, "{accept}");
        }
    }

    #[test]
    fn every_value_has_a_line_and_none_can_make_another() {
        let document = r#"{"a":{"b":[1,{"c":"x\n\u001b[2J\u202e"},[]],"d":null},"<i>&\"'":true,"e\n":"<b>"}"#;
        let said = |shape: Shape| String::from_utf8(shape.write(document.as_bytes().to_vec())).unwrap();
        assert_eq!(
            said(Shape::Text),
            "<i>&\"': true\na.b.0: 1\na.b.1.c: x\\n\\u{1b}[2J\\u{202e}\na.b.2: -\na.d: -\ne\\n: <b>\n"
        );
        let page = said(Shape::Page);
        assert!(page.contains("<tr><th scope=\"row\">&lt;i&gt;&amp;&quot;&#39;</th><td>true</td></tr>\n"), "{page}");
        assert!(page.contains("<td>&lt;b&gt;</td>") && !page.contains("<b>") && page.matches("<tr>").count() == 6);
        assert_eq!(said(Shape::Json), document);
    }
}
