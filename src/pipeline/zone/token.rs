//! Text to entries: the tokens of RFC 1035 section 5.1, each with its line and column.
//!
//! An entry is one line, or several held together by parentheses. Escapes stay in the tokens as written, because
//! `\.` means one thing in a name and another in a character-string.

/// Characters in one token. Longer ones have made parsers of this format overflow (CVE-2026-123574); base64 that
/// needs more room is split by blanks.
pub(super) const MAX_TOKEN_BYTES: usize = 4_095;

/// One token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// The characters as written, without the quotes around them.
    pub(super) raw: &'a str,
    /// It stood in quotes: never a name, a directive or `\#`.
    pub(super) quoted: bool,
    /// Line, from 1.
    pub(super) line: u32,
    /// Column in characters, from 1.
    pub(super) column: u32,
}

/// One entry of a master file.
#[derive(Debug, Default)]
pub(super) struct Entry<'a> {
    /// The entry starts with a blank: its owner is the last one.
    pub(super) blank: bool,
    /// Its tokens, at least one.
    pub(super) tokens: Vec<Token<'a>>,
}

/// What is wrong with the text itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenError {
    /// Line, from 1.
    pub(super) line: u32,
    /// Column, from 1.
    pub(super) column: u32,
    /// What is wrong.
    pub(super) expected: &'static str,
}

/// Walks the entries of a text.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    line_start: usize,
}

impl<'a> Entries<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        // A byte order mark is what some editors put in front of UTF-8.
        let at = if text.starts_with('\u{feff}') { 3 } else { 0 };
        Self { text, at, line: 1, line_start: at }
    }

    /// Fills `entry` with the next entry; `None` at the end. After an error the walk goes on with the next line.
    pub(super) fn next_into(&mut self, entry: &mut Entry<'a>) -> Option<Result<(), TokenError>> {
        loop {
            entry.tokens.clear();
            entry.blank = matches!(self.peek(), Some(b' ' | b'\t'));
            match self.read(entry) {
                Err(error) => {
                    self.skip_line();
                    return Some(Err(error));
                }
                Ok(()) if !entry.tokens.is_empty() => return Some(Ok(())),
                Ok(()) if self.at >= self.text.len() => return None,
                Ok(()) => {}
            }
        }
    }

    fn read(&mut self, entry: &mut Entry<'a>) -> Result<(), TokenError> {
        let mut open: Option<TokenError> = None;
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => {
                    self.newline();
                    if open.is_none() {
                        return Ok(());
                    }
                }
                b' ' | b'\t' | b'\r' => self.at += 1,
                b';' => self.skip_comment(),
                b'(' => {
                    if open.is_some() {
                        return Err(self.error("no second ( before the first is closed"));
                    }
                    open = Some(self.error("a ) for this ("));
                    self.at += 1;
                }
                b')' => {
                    if open.take().is_none() {
                        return Err(self.error("no ) without a ( before it"));
                    }
                    self.at += 1;
                }
                _ => entry.tokens.push(self.token()?),
            }
        }
        open.map_or(Ok(()), Err)
    }

    fn token(&mut self) -> Result<Token<'a>, TokenError> {
        let problem = |expected| self.error(expected);
        let (unclosed, long, control) = (
            problem("a closing \" on the same line"),
            problem("a word of at most 4095 characters; base64 and hexadecimal may be split by blanks"),
            problem("no control characters; write them as \\DDD"),
        );
        let (line, column) = (unclosed.line, unclosed.column);
        let quoted = self.peek() == Some(b'"');
        if quoted {
            self.at += 1;
        }
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') if quoted => break,
                None | Some(b'\n') if quoted => return Err(unclosed),
                None | Some(b'\n' | b'\r' | b' ' | b'\t' | b';' | b'(' | b')') if !quoted => break,
                Some(b'\\') => {
                    self.at += 1;
                    // What an escape hides is never a delimiter, but a line's end stays one.
                    if !matches!(self.peek(), None | Some(b'\n' | b'\r')) {
                        self.at += 1;
                    }
                }
                // Text within a token may begin with a quote, as in alpn="h2,h3": such a quote runs to its partner.
                Some(b'"') => self.inner_quote().map_err(|()| unclosed.clone())?,
                Some(byte) if byte.is_ascii_control() && byte != b'\t' && byte != b'\r' => return Err(control),
                Some(_) => self.at += 1,
                None => break,
            }
        }
        // An escape may have stepped into a character of several octets: step out of it.
        while !self.text.is_char_boundary(self.at) {
            self.at += 1;
        }
        let raw = &self.text[start..self.at];
        if quoted {
            self.at += 1;
        }
        if raw.len() > MAX_TOKEN_BYTES {
            return Err(long);
        }
        Ok(Token { raw, quoted, line, column })
    }

    fn inner_quote(&mut self) -> Result<(), ()> {
        self.at += 1;
        loop {
            match self.peek() {
                None | Some(b'\n') => return Err(()),
                Some(b'"') => break self.at += 1,
                Some(b'\\') if !matches!(self.text.as_bytes().get(self.at + 1), None | Some(b'\n')) => self.at += 2,
                Some(_) => self.at += 1,
            }
        }
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn newline(&mut self) {
        self.at += 1;
        self.line = self.line.saturating_add(1);
        self.line_start = self.at;
    }

    fn skip_comment(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    }

    fn skip_line(&mut self) {
        self.skip_comment();
        if self.at < self.text.len() {
            self.newline();
        }
    }

    fn error(&self, expected: &'static str) -> TokenError {
        let before = self.text.get(self.line_start..self.at).unwrap_or_default();
        let column = u32::try_from(before.chars().count()).unwrap_or(u32::MAX).saturating_add(1);
        TokenError { line: self.line, column, expected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Read = Vec<Result<(bool, Vec<(String, bool, u32, u32)>), TokenError>>;

    fn all(text: &str) -> Read {
        let mut entries = Entries::new(text);
        let mut entry = Entry::default();
        let mut out = Vec::new();
        while let Some(result) = entries.next_into(&mut entry) {
            let tokens = entry.tokens.iter().map(|t| (t.raw.to_owned(), t.quoted, t.line, t.column)).collect();
            out.push(result.map(|()| (entry.blank, tokens)));
        }
        out
    }

    #[test]
    fn parentheses_join_lines_and_comments_vanish() {
        let read = all("@ IN SOA a b ( 1 ; serial\r\n 2\n\n 3 )\r\n\n; nothing\n  TXT \"a;b\" c\\ d\n");
        let first = read[0].as_ref().unwrap();
        assert!(!first.0);
        assert_eq!(
            first.1.iter().map(|t| t.0.as_str()).collect::<Vec<_>>(),
            ["@", "IN", "SOA", "a", "b", "1", "2", "3"]
        );
        assert_eq!((first.1[7].2, first.1[7].3), (4, 2));
        let second = read[1].as_ref().unwrap();
        assert!(second.0);
        assert_eq!(second.1[1], ("a;b".into(), true, 7, 7));
        assert_eq!(second.1[2].0, "c\\ d");
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn errors_name_the_place_and_the_walk_goes_on() {
        let read = all("a \"b\nc )\nd e\nf ( g\n");
        assert_eq!(read[0].as_ref().unwrap_err().column, 3);
        assert_eq!(read[1].as_ref().unwrap_err().line, 2);
        assert_eq!(read[2].as_ref().unwrap().1.len(), 2);
        assert_eq!((read[3].as_ref().unwrap_err().line, read[3].as_ref().unwrap_err().column), (4, 3));
    }

    #[test]
    fn tokens_of_4096_characters_are_refused() {
        assert!(all(&"a".repeat(4095))[0].is_ok());
        assert!(all(&"a".repeat(4096))[0].is_err());
    }

    #[test]
    fn quotes_inside_a_token_hide_blanks() {
        assert_eq!(all("k=\"a b\" c")[0].as_ref().unwrap().1[0].0, "k=\"a b\"");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_or_loop(text in "[ab\"\\\\;()\\n\\r\\t é\u{0}@$.]{0,60}") {
            prop_assert!(all(&text).len() <= text.len() + 1);
        }
    }
}
