//! The known word nearest to one that is not known.

/// How alike two words must be, from 0 (nothing in common) to 1 (equal), for one to be proposed for the other.
/// Found by trying: `max_entires` and `max_entries` have 0.91, `dns64` and `listen` 0.2.
const MIN_LIKENESS: f64 = 0.6;
/// Words longer than this are compared no more; the comparison takes the product of the two lengths.
const MAX_WORD_BYTES: usize = 128;

/// Returns the word of `known` that is most like `word`, when one is alike enough.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_WORD_BYTES {
        return None;
    }
    let lower = word.to_lowercase();
    let likeness = |candidate: &str| strsim::normalized_damerau_levenshtein(&lower, &candidate.to_lowercase());
    let len = lower.chars().count();
    // Each character more or less counts against the likeness, so most words need no comparison.
    let comparable = known.into_iter().filter(|candidate| {
        let (shorter, longer) = (len.min(candidate.len()), len.max(candidate.len()));
        shorter as f64 >= longer as f64 * MIN_LIKENESS
    });
    let scored = comparable.map(|candidate| (likeness(candidate), candidate));
    let best = scored.fold(None, |best: Option<(f64, &str)>, next| match best {
        Some(best) if best.0 >= next.0 => Some(best),
        _ => Some(next),
    });
    best.filter(|(score, _)| *score >= MIN_LIKENESS).map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognized_and_strange_words_are_not() {
        let keys = ["max_entries", "max_bytes", "min_ttl", "max_ttl"];
        assert_eq!(nearest("max_entires", keys), Some("max_entries"));
        assert_eq!(nearest("MAX_TTL", keys), Some("max_ttl"));
        assert_eq!(nearest("prefetch", keys), None);
        assert_eq!(nearest(&"max_ttl".repeat(100), keys), None);
    }
}
