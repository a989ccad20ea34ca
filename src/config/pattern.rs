//! Name patterns: `example.org`, `*.example.org`, `=example.org` and `.`.

use super::model::{Pattern, Scope};
use crate::dns::Name;
use std::fmt;

/// Reads a pattern; the name comes out in lower case.
///
/// # Errors
/// A hint for the person who wrote it.
pub fn parse_pattern(text: &str) -> Result<(Name, Scope), String> {
    let (scope, name) = match (text.strip_prefix("*."), text.strip_prefix('=')) {
        (Some(name), _) => (Scope::Below, name),
        (_, Some(name)) => (Scope::Only, name),
        _ => (Scope::NameAndBelow, text),
    };
    if name == "*" {
        return Err("all names are written \".\"".to_owned());
    }
    if name.contains(['*', '=']) {
        return Err("`*.` and `=` stand only at the start: *.example.org, =example.org".to_owned());
    }
    Ok((parse_name(name)?, scope))
}

/// Reads a domain name, absolute with or without its last dot; it comes out in lower case.
///
/// # Errors
/// A hint for the person who wrote it.
pub fn parse_name(text: &str) -> Result<Name, String> {
    if !text.is_ascii() {
        return Err("write an internationalized name in its xn-- form".to_owned());
    }
    if let Some(bad) = text.chars().find(|c| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | ',')) {
        return Err(format!("{bad:?} has no place in a domain name"));
    }
    match Name::parse(text) {
        // `@` means the origin only inside a zone.
        Ok(_) if text == "@" => Err("`@` means the zone's own name only inside its records".to_owned()),
        Ok(name) => Ok(name.to_lower()),
        Err(error) => Err(error.to_string()),
    }
}

impl fmt::Display for Pattern {
    /// Writes the pattern as a person would, without the last dot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scope {
            Scope::Below => "*.",
            Scope::NameAndBelow => "",
            Scope::Only => "=",
        })?;
        let name = self.name.to_string();
        f.write_str(name.strip_suffix('.').filter(|rest| !rest.is_empty()).unwrap_or(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Location;
    use proptest::prelude::*;
    use std::path::Path;

    fn shown(text: &str) -> String {
        match parse_pattern(text) {
            Ok((name, scope)) => Pattern { name, scope, at: Location::file(Path::new("x")) }.to_string(),
            Err(hint) => format!("! {hint}"),
        }
    }

    #[test]
    fn patterns_read_and_show_alike() {
        for (text, expected) in [
            ("Example.org.", "example.org"),
            ("*.example.org", "*.example.org"),
            ("=a.example", "=a.example"),
            (".", "."),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn bad_patterns_are_told_why() {
        for (text, part) in [
            ("*", "written \".\""),
            ("a.*.org", "only at the start"),
            ("=*.org", "only at the start"),
            ("a..org", "empty label"),
            ("", "nothing there"),
            ("*.", "nothing there"),
            ("münchen.example", "xn--"),
            ("https://example.org", "':'"),
            ("a b", "' '"),
            ("@", "only inside"),
        ] {
            assert!(shown(text).starts_with('!') && shown(text).contains(part), "{text}: {}", shown(text));
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(text in "(\\*\\.|=)?[a-z0-9_-]{1,9}(\\.[a-z0-9-]{1,9}){0,3}") {
            prop_assert_eq!(shown(&text), text);
        }

        #[test]
        fn reading_never_panics(text in "\\PC{0,80}") {
            drop(parse_pattern(&text));
        }
    }
}
