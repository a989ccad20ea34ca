//! What is known about names, found by the suffixes of a name.

use crate::dns::Name;
use crate::dns::name::labels;
use hashbrown::HashMap;

/// Kinds of top-level labels that are told apart.
const TOPS: usize = 64;

/// Values by lower-cased name. Suffixes with a number of labels that no name under the same top-level label has are not looked
/// up: every forwarded question passes here, and what people configure has few of both.
#[derive(Debug)]
pub(super) struct BySuffix<V> {
    entries: HashMap<Box<[u8]>, V, foldhash::fast::RandomState>,
    /// By [`top`]; bit n: a name of n labels under such a top-level label is in it. A name has 127 labels at most.
    depths: Box<[u128; TOPS]>,
}

impl<V> Default for BySuffix<V> {
    fn default() -> Self {
        Self { entries: HashMap::default(), depths: Box::new([0; TOPS]) }
    }
}

impl<V> BySuffix<V> {
    /// Returns the value of a name, a new one when there is none.
    pub(super) fn entry(&mut self, name: &Name) -> &mut V
    where
        V: Default,
    {
        let lower = name.lower_wire();
        match labels(&lower).last() {
            Some(label) => self.depths[top(label)] |= 1 << name.label_count(),
            // The root is above every name.
            None => self.depths.iter_mut().for_each(|depths| *depths |= 1),
        }
        self.entries.entry(lower.as_ref().into()).or_default()
    }

    /// Returns the values.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut()
    }

    /// Tells whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the entries at and above a name given in lower case, the deepest first.
    pub(super) fn at_or_above<'m, 'n>(&'m self, lower: &'n [u8]) -> impl Iterator<Item = (&'n [u8], &'m V)> {
        // Suffixes still to come: one for each label, and the root.
        let (mut left, mut last): (usize, &[u8]) = (1, &[]);
        if !self.is_empty() {
            for label in labels(lower) {
                (left, last) = (left + 1, label);
            }
        }
        let depths = self.depths[top(last)];
        let mut rest = Some(lower).filter(|_| depths != 0);
        std::iter::from_fn(move || {
            while let Some(suffix) = rest {
                left -= 1;
                rest = suffix.get(1 + usize::from(suffix[0])..).filter(|_| left > 0);
                if depths >> left & 1 != 0
                    && let Some(value) = self.entries.get(suffix)
                {
                    return Some((suffix, value));
                }
            }
            None
        })
    }
}

/// Returns the kind of a top-level label; different ones may be of one kind.
fn top(label: &[u8]) -> usize {
    let (first, last) = (label.first().copied().unwrap_or(0), label.last().copied().unwrap_or(0));
    (usize::from(first) + 3 * usize::from(last) + 7 * label.len()) % TOPS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::name::suffixes;
    use proptest::prelude::*;

    #[test]
    fn the_root_and_the_deepest_name_are_found() {
        let mut all = BySuffix::<u8>::default();
        assert_eq!(all.at_or_above(b"\x01a\0").count(), 0);
        let deep = Name::parse(&"a.".repeat(127)).unwrap();
        *all.entry(&Name::root()) = 1;
        *all.entry(&deep) = 2;
        let found: Vec<u8> = all.at_or_above(deep.as_wire()).map(|(_, value)| *value).collect();
        assert_eq!(found, [2, 1]);
    }

    proptest! {
        #[test]
        fn it_finds_what_looking_up_every_suffix_finds(
            known in proptest::collection::vec("[ab](\\.[abAB]){0,4}", 0..12),
            asked in "[ab](\\.[ab]){0,5}",
        ) {
            let mut all = BySuffix::<u32>::default();
            let mut plain = std::collections::HashMap::new();
            for (at, text) in known.iter().enumerate() {
                let name = Name::parse(text).unwrap();
                let value = u32::try_from(at).unwrap() + 1;
                *all.entry(&name) = value;
                plain.insert(name.to_lower().as_wire().to_vec(), value);
            }
            let asked = Name::parse(&asked).unwrap();
            let found: Vec<u32> = all.at_or_above(asked.as_wire()).map(|(_, value)| *value).collect();
            let expected: Vec<u32> = suffixes(asked.as_wire()).filter_map(|suffix| plain.get(suffix).copied()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
