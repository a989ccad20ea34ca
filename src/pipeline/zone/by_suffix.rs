//! What is known about names, found by the suffixes of a name.

use crate::dns::Name;
use crate::dns::name::suffixes;
use hashbrown::HashMap;

/// Values by lower-cased name. Suffixes with a number of labels that no name in it has are not looked up: every
/// forwarded question passes here, and what people configure has few depths.
#[derive(Debug)]
pub(super) struct BySuffix<V> {
    entries: HashMap<Box<[u8]>, V, foldhash::fast::RandomState>,
    /// Bit n: a name of n labels is in it. A name has 127 labels at most.
    depths: u128,
}

impl<V> Default for BySuffix<V> {
    fn default() -> Self {
        Self { entries: HashMap::default(), depths: 0 }
    }
}

impl<V> BySuffix<V> {
    /// Returns the value of a name, a new one when there is none.
    pub(super) fn entry(&mut self, name: &Name) -> &mut V
    where
        V: Default,
    {
        self.depths |= 1 << name.label_count();
        self.entries.entry(name.lower_wire().as_ref().into()).or_default()
    }

    /// Returns the values.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut()
    }

    /// Tells whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.depths == 0
    }

    /// Returns the entries at and above a name given in lower case, the deepest first.
    pub(super) fn at_or_above<'m, 'n>(&'m self, lower: &'n [u8]) -> impl Iterator<Item = (&'n [u8], &'m V)> {
        let mut rest = Some(lower).filter(|_| !self.is_empty());
        // Suffixes still to come: one for each label, and the root.
        let mut left = if self.is_empty() { 0 } else { suffixes(lower).count() };
        std::iter::from_fn(move || {
            while let Some(suffix) = rest {
                left -= 1;
                rest = suffix.get(1 + usize::from(suffix[0])..).filter(|_| left > 0);
                if self.depths >> left & 1 != 0
                    && let Some(value) = self.entries.get(suffix)
                {
                    return Some((suffix, value));
                }
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
