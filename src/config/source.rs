//! The text of one file, and where in it a byte stands.

use super::model::Location;
use std::path::Path;
use std::sync::Arc;

/// Bytes between two remembered character counts: finding a column costs at most this much counting, however long
/// the line is.
const BLOCK_BYTES: usize = 64;
/// Characters of a value that a message repeats.
const MAX_EXCERPT_CHARS: usize = 80;

/// A file's text with its line starts.
#[derive(Debug)]
pub struct Source {
    path: Arc<Path>,
    text: String,
    line_starts: Vec<usize>,
    /// Characters before byte `index * BLOCK_BYTES`.
    chars_before: Vec<usize>,
}

impl Source {
    /// Takes a file's text.
    #[must_use]
    pub fn new(path: &Path, text: String) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(newlines).collect();
        let blocks = text.as_bytes().chunks(BLOCK_BYTES).scan(0, |count, block| {
            let before = *count;
            *count += count_chars(block);
            Some(before)
        });
        let chars_before = blocks.collect();
        Self { path: path.into(), line_starts, chars_before, text }
    }

    /// Returns the text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the place of a byte: line and column from 1, the column in characters.
    #[must_use]
    pub fn locate(&self, offset: usize) -> Location {
        let offset = offset.min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        // The mark that some editors put before the first line is no character of it.
        let mark = usize::from(line == 1 && offset > 0 && self.text.starts_with('\u{feff}'));
        let column = self.chars_until(offset) - self.chars_until(start) + 1 - mark;
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Location { file: Arc::clone(&self.path), line: number(line), column: number(column) }
    }

    /// Returns what stands there, its first line, cut when it is long.
    #[must_use]
    pub fn excerpt(&self, span: std::ops::Range<usize>) -> String {
        let text = self.text.get(span).unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let mut cut: String = line.chars().take(MAX_EXCERPT_CHARS).collect();
        if cut.len() < text.trim_end().len() {
            cut.push('…');
        }
        cut
    }

    fn chars_until(&self, offset: usize) -> usize {
        let block = offset / BLOCK_BYTES;
        let before = self.chars_before.get(block).copied();
        match before {
            Some(before) => before + count_chars(&self.text.as_bytes()[block * BLOCK_BYTES..offset]),
            // Just after the last block, when it is full: one block more.
            None => self.chars_before.last().map_or(0, |before| {
                before + count_chars(&self.text.as_bytes()[(self.chars_before.len() - 1) * BLOCK_BYTES..offset])
            }),
        }
    }
}

/// Counts the characters that start in `bytes`, which are part of a UTF-8 text.
fn count_chars(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_agree_with_counting_by_hand(text in "[a-zäß→\n]{0,3000}", at in 0_usize..4000) {
            let source = Source::new(Path::new("x.toml"), text.clone());
            let mut at = at.min(text.len());
            while !text.is_char_boundary(at) { at -= 1; }
            let before = &text[..at];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
            let place = source.locate(at);
            prop_assert_eq!((place.line as usize, place.column as usize), (line, column));
        }
    }

    #[test]
    fn the_end_of_a_text_of_whole_blocks_has_a_place() {
        let source = Source::new(Path::new("x.toml"), "a".repeat(2 * BLOCK_BYTES));
        assert_eq!(source.locate(usize::MAX).column as usize, 2 * BLOCK_BYTES + 1);
        assert_eq!(Source::new(Path::new("x.toml"), String::new()).locate(7).line, 1);
    }

    #[test]
    fn excerpts_are_one_short_line() {
        let source = Source::new(Path::new("x.toml"), format!("[\n1]{}", "b".repeat(200)));
        assert_eq!(source.excerpt(0..4), "[…");
        assert_eq!(source.excerpt(4..204).chars().count(), MAX_EXCERPT_CHARS + 1);
    }
}
