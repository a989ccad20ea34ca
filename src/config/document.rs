//! What was written, after its shape was checked and before its references are: values with their places.

use super::keys::{Kind, Presence, TableDef};
use super::model::{Location, Proxy, Scope};
use super::server::{RungText, ServerText};
use crate::dns::{Name, Rtype};
use ipnet::IpNet;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A value with its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: Location,
    pub(crate) value: Value,
}

/// What stands behind a key. `Bad` was reported and says nothing.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Bad,
    Integer(i64),
    Boolean(bool),
    Word(&'static str),
    Duration(Duration),
    Bytes(u64),
    Percent(u8),
    Listen(SocketAddr),
    Server(ServerText),
    Rung(RungText),
    Pin([u8; 32]),
    Source(IpAddr),
    Proxy(Proxy),
    Bootstrap(SocketAddr),
    Network(IpNet),
    Pattern(Name, Scope),
    Name(Name),
    Rtype(Rtype),
    Text(String),
    List(Vec<Node>),
    Table(Table),
}

/// A table with the keys that were written.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) def: &'static TableDef,
    /// The keys from the root to here, such as `upstream.office`; empty for the root.
    pub(crate) path: String,
    pub(crate) at: Location,
    pub(crate) entries: Vec<Entry>,
}

/// One key of a table.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: Cow<'static, str>,
    pub(crate) key_at: Location,
    pub(crate) node: Node,
}

impl Table {
    /// Makes a table without keys, but with the tables in it that are always there.
    pub(crate) fn empty(def: &'static TableDef, path: String, at: Location) -> Self {
        let mut table = Self { def, path, at, entries: Vec::new() };
        for key in def.keys {
            if let Presence::Always = key.presence {
                let def = if let Kind::Table(def) = key.kind { def } else { &NO_KEYS };
                let value = Value::Table(Self::empty(def, table.path_of(key.name), table.at.clone()));
                let (name, at) = (Cow::Borrowed(key.name), table.at.clone());
                table.entries.push(Entry { name, key_at: at.clone(), node: Node { at, value } });
            }
        }
        table
    }

    /// Returns the full name of a key.
    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Returns what was written behind a key.
    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| entry.name == name).map(|entry| &entry.node)
    }

    /// Returns the place of a key's value, or of the table when it was not written.
    pub(crate) fn at_of(&self, name: &str) -> Location {
        self.node(name).map_or_else(|| self.at.clone(), |node| node.at.clone())
    }

    /// Returns the items of an array that was written; none when it was not.
    pub(crate) fn items(&self, name: &str) -> &[Node] {
        if let Some(Node { value: Value::List(items), .. }) = self.node(name) { items } else { &[] }
    }

    /// Returns the table behind a key.
    pub(crate) fn table(&self, name: &str) -> Option<&Self> {
        self.node(name).and_then(Node::as_table)
    }

    /// Returns a table that [`Table::empty`] put there; merging keeps it.
    pub(crate) fn always(&self, name: &str) -> &Self {
        self.table(name).expect("the key is Presence::Always, so empty() made the table and merge() keeps it")
    }

    /// Returns the tables of an array.
    pub(crate) fn tables(&self, name: &str) -> impl Iterator<Item = &Self> {
        self.items(name).iter().filter_map(Node::as_table)
    }
}

impl Node {
    pub(crate) fn as_table(&self) -> Option<&Table> {
        if let Value::Table(table) = &self.value { Some(table) } else { None }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }
}

/// The definition of a table whose keys the user chooses; each of them has a table of its own behind it.
pub(crate) static NO_KEYS: TableDef = TableDef { doc: "", keys: &[] };
