//! The word somebody meant who wrote one that is not known: types and parameter keys, which are short.

/// Slips (a letter too many, too few, another one, two in the wrong order) for which a word is still proposed. Types have
/// about four letters: with three slips every one is like every other.
const FEW_SLIPS: usize = 2;

/// Returns the word of `known` with the fewest slips in `word`, when they are few.
pub(super) fn meant<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (len, own) = (word.chars().count(), letters(word));
    // Each character more or less, and each that only one of both has, is a slip. So most words need no comparison, which
    // takes the product of both lengths.
    let alike = known.into_iter().filter(|candidate| {
        let foreign = letters(candidate) & !own;
        candidate.len().abs_diff(len) <= FEW_SLIPS && foreign.count_ones() as usize <= FEW_SLIPS
    });
    let nearest = alike.map(|candidate| (strsim::osa_distance(candidate, word), candidate)).min();
    nearest.filter(|(slips, _)| *slips <= FEW_SLIPS).map(|(_, candidate)| candidate)
}

/// Returns a set of the octets of a word; two octets may share a place in it.
fn letters(word: &str) -> u64 {
    word.bytes().fold(0, |set, octet| set | 1 << (octet & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognized_and_strange_words_are_not() {
        let types = ["A", "AAAA", "CNAME", "MX"];
        assert_eq!(meant("CNMAE", types), Some("CNAME"));
        assert_eq!(meant("AAAAAA", types), Some("AAAA"));
        assert_eq!(meant("AAAAAAA", types), None);
        assert_eq!(meant("CNÄME", types), Some("CNAME"));
        assert_eq!(meant(&"A".repeat(4000), types), None);
    }
}
