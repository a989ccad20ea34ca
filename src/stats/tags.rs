//! The names behind tags: what views, zones and routes there are or have been. Counts of a zone or a route go on over
//! reloads, so its tag stays as long as the process lives, and no tag is ever given to another.

use crate::dns::Tag;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Tags given: as many as a cached answer has room for.
const MAX_TAGS: usize = 1023;
const _: () = assert!(MAX_TAGS == Tag::COUNT - 1);

/// What has tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tagged {
    /// A view.
    View,
    /// A local zone.
    Zone,
    /// A route, one that nobody wrote and the default included.
    Route,
}

/// A view, a zone or a route by its name; zones of the same name for other views are told apart by these.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    kind: Tagged,
    name: Arc<str>,
    views: Box<str>,
}

/// All tags given so far.
#[derive(Debug, Default)]
pub(super) struct Tags(Mutex<Given>);

#[derive(Debug, Default)]
struct Given {
    by_key: HashMap<Key, Tag>,
    /// By number, without the tag for nothing.
    names: Vec<(Tagged, Arc<str>)>,
}

impl Tags {
    /// Returns the tag of something, giving it one when it has none; `None` when there is none left.
    pub(super) fn of(&self, kind: Tagged, name: &str, views: &str) -> Option<Tag> {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Key { kind, name: name.into(), views: views.into() };
        if let Some(tag) = given.by_key.get(&key) {
            return Some(*tag);
        }
        let tag = Tag::new(given.names.len() + 1).filter(|_| given.names.len() < MAX_TAGS)?;
        given.names.push((kind, Arc::clone(&key.name)));
        given.by_key.insert(key, tag);
        Some(tag)
    }

    /// Returns what a tag stands for.
    pub(super) fn name(&self, tag: Tag) -> Option<(Tagged, Arc<str>)> {
        let given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        given.names.get(usize::from(tag.number()).checked_sub(1)?).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_back_has_its_tag_and_names_differ_by_kind_and_views() {
        let tags = Tags::default();
        let corp = tags.of(Tagged::Zone, "corp.example.", "").unwrap();
        let others = [(Tagged::Zone, "corp.example.", "office"), (Tagged::Route, "corp.example.", "")];
        for (kind, name, views) in others {
            assert_ne!(tags.of(kind, name, views).unwrap(), corp);
        }
        assert_eq!(tags.of(Tagged::Zone, "corp.example.", ""), Some(corp));
        assert_eq!(tags.name(corp), Some((Tagged::Zone, "corp.example.".into())));
        assert_eq!(tags.name(Tag::NONE), None);
    }

    #[test]
    fn when_there_is_no_tag_left_none_is_taken_from_anybody() {
        let tags = Tags::default();
        let first = tags.of(Tagged::Route, "r0", "").unwrap();
        assert_eq!((1..2000).filter_map(|n| tags.of(Tagged::Route, &format!("r{n}"), "")).count(), Tag::COUNT - 2);
        assert_eq!(tags.of(Tagged::Route, "r0", ""), Some(first));
        assert_eq!(tags.of(Tagged::Route, "one more", ""), None);
    }
}
