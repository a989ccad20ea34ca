//! Text that came from somebody else: what of it is shown as it is.

/// Tells whether a character could move a terminal's cursor, begin a line, or turn the direction of writing (the
/// bidirectional controls of UAX 9, and what is invisible). Whoever shows foreign text escapes these or leaves them out.
#[must_use]
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_turns_or_hides_is_hostile_and_letters_are_not() {
        for c in
            ['\0', '\n', '\r', '\u{1b}', '\u{7f}', '\u{9b}', '\u{202e}', '\u{2066}', '\u{2028}', '\u{200b}', '\u{feff}']
        {
            assert!(is_hostile(c), "{c:?}");
        }
        for c in ['a', ' ', 'é', '中', '●', '▁', 'א'] {
            assert!(!is_hostile(c), "{c:?}");
        }
    }
}
