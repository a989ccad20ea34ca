//! The words a table of keys is written in (`file.rs` is that table).
//!
//! One [`Key`] says what may stand behind it, what holds when it is absent, and what it is for. Reading, the
//! commented default file, the JSON schema and the reference page all come from it, so they cannot disagree.

/// Keys of a table that a message names.
const MAX_LISTED_KEYS: usize = 8;
/// Octets of a Unix socket's path: the kernel has room for these and a zero (unix(7)).
pub(super) const MAX_SOCKET_PATH_BYTES: usize = 107;

/// A table: what it is for and the keys it may have.
#[derive(Debug)]
pub struct TableDef {
    /// What it is for; one or more sentences.
    pub doc: &'static str,
    /// Its keys, in the order they are shown.
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What may stand behind it.
    pub kind: Kind,
    /// What holds when it is absent.
    pub presence: Presence,
    /// What it is for; for a table, the table's own words are shown.
    pub doc: &'static str,
}

/// What holds when a key is absent. The texts are TOML.
#[derive(Debug, Clone, Copy)]
pub enum Presence {
    /// Its default.
    Default(&'static str),
    /// Nothing; an example of what it may be.
    Optional(&'static str),
    /// An error; an example of what it may be.
    Required(&'static str),
    /// It is a table that is always there, with its keys' own defaults.
    Always,
}

/// What may stand behind a key.
#[derive(Debug)]
pub enum Kind {
    /// A whole number in a range.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// `true` or `false`.
    Boolean,
    /// One of some words.
    Word(&'static [&'static str]),
    /// A duration with its unit, in a range of milliseconds.
    Duration {
        /// The shortest.
        min_ms: u64,
        /// The longest.
        max_ms: u64,
        /// Only whole seconds, as a TTL is.
        whole_seconds: bool,
    },
    /// A size with its unit.
    Bytes {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// A share of a hundred, with its sign.
    Percent {
        /// The least.
        min: u8,
        /// The greatest.
        max: u8,
    },
    /// An address to answer on.
    Listen,
    /// A server as text.
    Server,
    /// A transport with its port and path.
    Rung,
    /// The SHA-256 of a public key, in base64.
    Pin,
    /// An address of this machine, without a port.
    Source,
    /// The name of an interface.
    Interface,
    /// A proxy.
    Proxy,
    /// An address for plain queries, with a port or without.
    Bootstrap,
    /// An address prefix.
    Network,
    /// A name pattern.
    Pattern,
    /// A domain name.
    DomainName,
    /// A name the user gives to something: letters, digits, `-`, `_`, `.`.
    Identifier,
    /// A record type.
    RecordType,
    /// Where a Unix socket stands.
    SocketPath,
    /// A file by its absolute path.
    FilePath,
    /// Text that is not empty.
    Text,
    /// The first that fits; the last one's messages are shown.
    Either(&'static Self, &'static Self),
    /// An array.
    List(&'static Self),
    /// A table.
    Table(&'static TableDef),
    /// An array of tables, `[[…]]`.
    Tables(&'static TableDef),
    /// A table of tables with names chosen by the user, `[….NAME]`.
    Named(&'static TableDef),
}

impl TableDef {
    /// Finds a key by its name.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&'static Key>
    where
        Self: 'static,
    {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Kind {
    /// Says what may stand there, as the `expected` of a message.
    #[must_use]
    pub fn expected(&self) -> String {
        use super::units::{format_bytes, format_duration};
        use std::time::Duration;
        match self {
            Self::Integer { min, max } if min == max => min.to_string(),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Boolean => "true or false".to_owned(),
            Self::Word(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                quoted.join(" or ")
            }
            Self::Duration { min_ms, max_ms, whole_seconds } => format!(
                "a duration {}from \"{}\" to \"{}\"",
                if *whole_seconds { "of whole seconds " } else { "" },
                format_duration(Duration::from_millis(*min_ms)),
                format_duration(Duration::from_millis(*max_ms)),
            ),
            Self::Bytes { min, max } => format!("a size from \"{}\" to \"{}\"", format_bytes(*min), format_bytes(*max)),
            Self::Percent { min, max } => format!("a percentage from \"{min}%\" to \"{max}%\""),
            Self::Listen => {
                "an IP address, optionally with a port, such as \"127.0.0.1:53\" or \"[::1]:53\"".to_owned()
            }
            Self::Server => {
                "a server, such as \"10.0.0.53\", \"tcp://[fd00::53]:53\", \"tls://9.9.9.10#dns10.quad9.net\" or \
                             \"https://1.1.1.1/dns-query\", or \"auto\""
                    .to_owned()
            }
            Self::Rung => {
                "a transport (udp, tcp, tls, https, quic, h3), optionally with a port and path, such as \"tls\" or \
                           \"https:8443/dns\""
                    .to_owned()
            }
            Self::Pin => "the SHA-256 of a public key, 32 octets in base64".to_owned(),
            Self::Source => "an address of this machine, such as \"192.0.2.10\"".to_owned(),
            Self::Interface => "the name of an interface, such as \"wg0\"".to_owned(),
            Self::Proxy => "\"none\", \"env\", or a proxy such as \"socks5://127.0.0.1:1080\" or \
                            \"http://user:password@proxy.example:3128\""
                .to_owned(),
            Self::Bootstrap => "an IP address, optionally with a port, such as \"9.9.9.10\"".to_owned(),
            Self::Network => "a network, such as \"192.168.0.0/16\" or \"fd00::/8\", or one address".to_owned(),
            Self::Pattern => "a name pattern: \"example.org\", \"*.example.org\", \"=example.org\" or \".\"".to_owned(),
            Self::DomainName => "a domain name, such as \"lab.example\"".to_owned(),
            Self::Identifier => "a name of 1 to 63 letters, digits, `-`, `_` and `.`".to_owned(),
            Self::RecordType => "a record type, such as \"A\", \"CNAME\" or \"TYPE65280\"".to_owned(),
            Self::SocketPath => {
                format!("an absolute path of at most {MAX_SOCKET_PATH_BYTES} octets, such as \"/run/truename/x.sock\"")
            }
            Self::FilePath => "an absolute path, such as \"/var/log/truename/queries.ndjson\"".to_owned(),
            Self::Text => "text that is not empty".to_owned(),
            // The shorter form is what most people want.
            Self::Either(one, other) if one.has_header() => format!("{}; or {}", other.expected(), one.expected()),
            Self::Either(one, other) => format!("{} or {}", one.expected(), other.expected()),
            Self::List(item) => format!("an array, each item {}", item.expected()),
            Self::Table(def) | Self::Named(def) => format!("a table with {}", names(def)),
            Self::Tables(def) => format!("an array of tables with {}", names(def)),
        }
    }

    /// Tells whether it is a table or holds tables, and so has a header of its own.
    #[must_use]
    pub fn has_header(&self) -> bool {
        matches!(self, Self::Table(_) | Self::Tables(_) | Self::Named(_))
    }
}

fn names(def: &TableDef) -> String {
    let names: Vec<&str> = def.keys.iter().map(|key| key.name).collect();
    match names.get(..MAX_LISTED_KEYS) {
        Some(first) if first.len() < names.len() => format!("{}, …", first.join(", ")),
        _ => names.join(", "),
    }
}

/// Words with what they mean, in the same order.
#[derive(Debug)]
pub struct Words<T: 'static> {
    /// As they are written.
    pub words: &'static [&'static str],
    /// What they mean.
    pub meanings: &'static [T],
}

impl<T: Copy> Words<T> {
    /// Returns the meaning of a word.
    #[must_use]
    pub fn meaning(&self, word: &str) -> Option<T> {
        let at = self.words.iter().position(|known| *known == word)?;
        self.meanings.get(at).copied()
    }
}
