//! What an answer was decided by, in a few bits.

use super::answer::Origin;

/// Stands for a view, a zone or a route; `stats::Tags` knows its name. Small, so that every cached answer has room for
/// one: whatever is answered from memory is counted where it was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tag(u16);

impl Tag {
    /// Stands for nothing that has a name.
    pub const NONE: Self = Self(0);
    /// Bits of a tag.
    pub const BITS: u32 = 10;
    /// Tags there can be, [`Tag::NONE`] included.
    pub const COUNT: usize = 1 << Self::BITS;

    /// Makes the tag of a number; `None` when there are not so many.
    #[must_use]
    pub fn new(number: usize) -> Option<Self> {
        u16::try_from(number).ok().filter(|number| usize::from(*number) < Self::COUNT).map(Self)
    }

    /// Returns its number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

    /// Returns this one, or another when this is none.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::NONE { other } else { self }
    }
}

/// Where an answer came from, and who decided that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// Where it came from.
    pub origin: Origin,
    /// The client's view.
    pub view: Tag,
    /// The zone or the route that the question's own name belongs to.
    pub by: Tag,
}

impl From<Origin> for Decided {
    fn from(origin: Origin) -> Self {
        Self { origin, view: Tag::NONE, by: Tag::NONE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_only_so_many() {
        assert_eq!(Tag::new(0), Some(Tag::NONE));
        assert_eq!(Tag::new(Tag::COUNT - 1).map(Tag::number), Some(1023));
        assert_eq!((Tag::new(Tag::COUNT), Tag::new(usize::MAX)), (None, None));
    }
}
