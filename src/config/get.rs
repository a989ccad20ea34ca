//! Values of a table by their type, with the default of the key when it was not written or was wrong.

use super::document::{Node, Table, Value};
use super::keys::Presence;
use super::read::default_value;
use crate::dns::{Name, Rtype};
use std::time::Duration;

/// Says that a key has a default of the type asked for; the table of keys holds this, and reading an empty
/// file, as every start without one does, goes through all of them.
const HAS_DEFAULT: &str = "file.rs gives the key a default of this type";

/// Returns what was written, else the default, else nothing.
fn value(table: &Table, name: &str) -> Value {
    match table.node(name) {
        Some(node) if !matches!(node.value, Value::Bad) => node.value.clone(),
        _ => match table.def.key(name) {
            Some(key) => match key.presence {
                Presence::Default(text) => default_value(&key.kind, text),
                Presence::Optional(_) | Presence::Required(_) | Presence::Always => Value::Bad,
            },
            None => Value::Bad,
        },
    }
}

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident, $maybe:ident: $variant:ident -> $type:ty;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $maybe(table: &Table, name: &str) -> Option<$type> {
            if let Value::$variant(value) = value(table, name) { Some(value) } else { None }
        }

        $(#[$doc])*
        pub(crate) fn $name(table: &Table, name: &str) -> $type {
            $maybe(table, name).expect(HAS_DEFAULT)
        }
    )*};
}

getters! {
    /// A whole number.
    integer, integer_if: Integer -> i64;
    /// A yes or no.
    boolean, boolean_if: Boolean -> bool;
    /// A known word.
    word, word_if: Word -> &'static str;
    /// A duration.
    duration, duration_if: Duration -> Duration;
    /// A size.
    bytes, bytes_if: Bytes -> u64;
    /// A share, in percent.
    percent, percent_if: Percent -> u8;
    /// An array.
    list, list_if: List -> Vec<Node>;
    /// Text.
    text, text_if: Text -> String;
}

/// A domain name.
pub(crate) fn name_if(table: &Table, key: &str) -> Option<Name> {
    if let Value::Name(name) = value(table, key) { Some(name) } else { None }
}

/// A record type.
pub(crate) fn rtype_if(table: &Table, key: &str) -> Option<Rtype> {
    if let Value::Rtype(rtype) = value(table, key) { Some(rtype) } else { None }
}

/// A whole number that the key's range keeps within `T`.
pub(crate) fn number<T: TryFrom<i64>>(table: &Table, name: &str) -> T {
    T::try_from(integer(table, name)).ok().expect("the key's range fits the type")
}

/// The meaning of a word; every word has one.
pub(crate) fn meaning<T: Copy>(table: &Table, name: &str, words: &super::keys::Words<T>) -> T {
    words.meaning(word(table, name)).expect("every word has a meaning")
}
