//! Patterns by name: one look-up per label, a million of them in little memory.
//!
//! Names lie end to end in one arena; each distinct name is a head in a hash table of 32-bit numbers, and what is
//! said about it (which route, which scope, in or out) hangs behind as a list in order of preference. About 60
//! octets a pattern in all, of which 26 are the name.

use crate::config::Scope;
use crate::dns::name;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher};

/// Patterns all routes may have together: four times the million that is promised; 64 MiB to 256 MiB.
pub(super) const MAX_PATTERNS: usize = 4_000_000;
/// Marks the end of a list.
const NONE: u32 = u32::MAX;
/// Labels a name has at most: 127 of one octet each, and the root.
const MAX_DEPTH: usize = 128;

/// Index of a route; search domains come behind the routes of the file.
pub(super) type RouteAt = u16;

/// All patterns of all routes.
#[derive(Debug)]
pub(super) struct Index {
    arena: Vec<u8>,
    heads: HashTable<u32>,
    items: Vec<Item>,
    hasher: foldhash::fast::RandomState,
    /// Bit N: there is a pattern of N labels. Suffixes of other lengths are not looked up.
    depths: u128,
    excludes: bool,
    /// Patterns at most.
    max: usize,
}

/// One thing said about a name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    /// Where the name starts in the arena; every item of a name has the same.
    name_at: u32,
    /// The next item of the name.
    next: u32,
    /// Who says it.
    pub(super) route: RouteAt,
    /// Which names it means.
    pub(super) scope: Scope,
    /// It takes names out.
    pub(super) exclude: bool,
}

/// What happened to a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// It is in.
    New,
    /// The route said the same before.
    Twice,
    /// There are too many patterns.
    Full,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            arena: Vec::new(),
            heads: HashTable::new(),
            items: Vec::new(),
            hasher: foldhash::fast::RandomState::default(),
            depths: 0,
            excludes: false,
            max: MAX_PATTERNS,
        }
    }
}

impl Index {
    /// Adds a pattern; the name is in wire form and lower case. Among equal patterns the one added first stands first.
    pub(super) fn add(&mut self, wire: &[u8], scope: Scope, route: RouteAt, exclude: bool) -> Added {
        let (hash, depth) = self.hash_of(wire);
        let head = self.head(hash, wire);
        let mut before = None;
        let mut at = head.unwrap_or(NONE);
        while let Some(item) = self.items.get(at as usize) {
            if (item.route, item.scope, item.exclude) == (route, scope, exclude) {
                return Added::Twice;
            }
            if rank(item.scope) > rank(scope) {
                break;
            }
            before = Some(at);
            at = item.next;
        }
        let Some(new) = u32::try_from(self.items.len()).ok().filter(|_| self.items.len() < self.max) else {
            return Added::Full;
        };
        self.depths |= 1 << depth;
        self.excludes |= exclude;
        let name_at = match head {
            Some(head) => self.items[head as usize].name_at,
            None => {
                let Ok(name_at) = u32::try_from(self.arena.len()) else { return Added::Full };
                self.arena.extend_from_slice(wire);
                name_at
            }
        };
        self.items.push(Item { name_at, next: at, route, scope, exclude });
        match (before, head) {
            (Some(before), _) => self.items[before as usize].next = new,
            (None, Some(head)) => self.replace_head(hash, head, new),
            (None, None) => {
                let Self { arena, heads, items, hasher, .. } = self;
                heads.insert_unique(hash, new, |&at| hash_at(hasher, arena, items, at));
            }
        }
        Added::New
    }

    /// Gives back what growing took too much.
    pub(super) fn finish(&mut self) {
        self.arena.shrink_to_fit();
        self.items.shrink_to_fit();
    }

    /// Counts the patterns.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns every pattern with its name.
    pub(super) fn items(&self) -> impl Iterator<Item = (&[u8], &Item)> {
        self.items.iter().map(|item| (self.name(item), item))
    }

    /// Returns what is said about exactly this name, best first.
    pub(super) fn list(&self, wire: &[u8]) -> impl Iterator<Item = &Item> {
        let (hash, _) = self.hash_of(wire);
        self.follow(self.head(hash, wire))
    }

    /// Walks the inclusions that match a name, the longest first and in order of preference among equals, leaving
    /// out those whose route excludes the name, and returns the first that `wanted` takes, with its pattern's name.
    pub(super) fn find<'a>(
        &'a self,
        wire: &'a [u8],
        mut wanted: impl FnMut(&Item) -> bool,
    ) -> Option<(&'a [u8], &'a Item)> {
        self.known(wire).find_map(|suffix| {
            let own = suffix.len() == wire.len();
            let mut fits = self
                .follow(self.head(hash_name(&self.hasher, suffix), suffix))
                .filter(|item| !item.exclude && takes(item.scope, own));
            let item = fits.find(|item| wanted(item) && !(self.excludes && self.excluded(item.route, wire)))?;
            Some((suffix, item))
        })
    }

    /// Returns the suffixes of a name that are worth looking up, the longest first: those with as many labels as some pattern. What
    /// is longer than a name has none.
    fn known<'a>(&self, wire: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let depths = if wire.len() > name::MAX_NAME_BYTES { 0 } else { self.depths };
        let labels = if depths == 0 { 0 } else { name::labels(wire).take(MAX_DEPTH - 1).count() };
        let worth = move |(n, suffix): (usize, &'a [u8])| (depths >> (labels - n) & 1 != 0).then_some(suffix);
        let most = if depths == 0 { 0 } else { labels + 1 };
        name::suffixes(wire).take(most).enumerate().filter_map(worth)
    }

    /// Tells whether a route takes a name out, at any of its labels.
    fn excluded(&self, route: RouteAt, wire: &[u8]) -> bool {
        self.known(wire).any(|suffix| {
            let own = suffix.len() == wire.len();
            self.follow(self.head(hash_name(&self.hasher, suffix), suffix))
                .any(|item| item.exclude && item.route == route && takes(item.scope, own))
        })
    }

    fn follow(&self, head: Option<u32>) -> impl Iterator<Item = &Item> {
        let mut at = head.unwrap_or(NONE);
        std::iter::from_fn(move || {
            let item = self.items.get(at as usize)?;
            at = item.next;
            Some(item)
        })
    }

    fn head(&self, hash: u64, wire: &[u8]) -> Option<u32> {
        self.heads
            .find(hash, |&at| {
                let start = self.items[at as usize].name_at as usize;
                // A name ends itself, so equal octets are an equal name.
                self.arena.get(start..start + wire.len()) == Some(wire)
            })
            .copied()
    }

    fn replace_head(&mut self, hash: u64, old: u32, new: u32) {
        if let Some(head) = self.heads.find_mut(hash, |&at| at == old) {
            *head = new;
        }
    }

    fn name(&self, item: &Item) -> &[u8] {
        name_in(&self.arena, item)
    }

    /// Returns the hash of a name and how many labels it has.
    fn hash_of(&self, wire: &[u8]) -> (u64, usize) {
        (hash_name(&self.hasher, wire), name::labels(wire).count())
    }
}

/// Orders scopes at equal labels: `=` over plain over `*`.
pub(super) fn rank(scope: Scope) -> u8 {
    match scope {
        Scope::Only => 0,
        Scope::NameAndBelow => 1,
        Scope::Below => 2,
    }
}

/// Tells whether a pattern whose name is a suffix of the one asked for takes it; `own` when they are equal.
pub(super) fn takes(scope: Scope, own: bool) -> bool {
    match scope {
        Scope::Only => own,
        Scope::NameAndBelow => true,
        Scope::Below => !own,
    }
}

fn name_in<'a>(arena: &'a [u8], item: &Item) -> &'a [u8] {
    let rest = &arena[item.name_at as usize..];
    &rest[..name::wire_len(rest).unwrap_or(0)]
}

fn hash_at(hasher: &foldhash::fast::RandomState, arena: &[u8], items: &[Item], at: u32) -> u64 {
    hash_name(hasher, name_in(arena, &items[at as usize]))
}

fn hash_name(hasher: &foldhash::fast::RandomState, wire: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(wire);
    state.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Name;

    #[test]
    fn patterns_have_a_bound_and_known_ones_do_not_count() {
        let mut index = Index::default();
        assert_eq!(index.max, MAX_PATTERNS);
        index.max = 3;
        let mut add = |name: &str| index.add(Name::parse(name).unwrap().as_wire(), Scope::Only, 0, false);
        assert_eq!(["a", "b", "c", "d"].map(&mut add), [Added::New, Added::New, Added::New, Added::Full]);
        assert_eq!(add("a"), Added::Twice);
    }
}
