//! What tells two cached answers apart.
//!
//! DO and CD are part of the key because they change what an upstream sends (RFC 4035 sections 3.2.1 and 3.2.2);
//! RD is not, every forwarded question has it. The class is always IN: no other class is forwarded or stored.

use crate::config::{PlaceId, ViewId};
use crate::dns::{QuestionKey, Rtype, name};
use foldhash::fast::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::LazyLock;

/// Octets before the question: place, view, and the DO and CD bits.
pub(super) const PREFIX_BYTES: usize = 5;
/// Octets of the longest key: prefix, a whole name, the type.
const MAX_KEY_BYTES: usize = PREFIX_BYTES + name::MAX_NAME_BYTES + 2;
/// DO in the prefix's last octet.
const DNSSEC_OK: u8 = 1;
/// CD in the prefix's last octet.
const CHECKING_DISABLED: u8 = 2;

/// How keys are hashed, one way in the whole process, so that each is hashed once; seeded at random, since clients choose
/// the names.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// Who asks what: the parts a key is made of, borrowed from wherever the query lies.
#[derive(Debug, Clone, Copy)]
pub struct Lookup<'a> {
    /// The network we are on.
    pub place: PlaceId,
    /// The client's view.
    pub view: ViewId,
    /// The name in wire form, in any letter case.
    pub qname: &'a [u8],
    /// The type.
    pub qtype: Rtype,
    /// DO.
    pub dnssec_ok: bool,
    /// CD.
    pub checking_disabled: bool,
}

/// A key on the stack.
#[derive(Clone, Copy)]
pub struct KeyBuf {
    hash: u64,
    len: u16,
    bytes: [u8; MAX_KEY_BYTES],
}

impl KeyBuf {
    /// Makes the key of a question. What is longer than a name may be is cut off; a parsed name never is.
    #[must_use]
    pub fn new(lookup: &Lookup<'_>) -> Self {
        let mut key = Self::default();
        key.set(lookup);
        key
    }

    /// Becomes the key of a question, as [`KeyBuf::new`] makes it.
    pub fn set(&mut self, lookup: &Lookup<'_>) {
        let bytes = &mut self.bytes;
        let name_bytes = lookup.qname.len().min(name::MAX_NAME_BYTES);
        let end = PREFIX_BYTES + name_bytes;
        bytes[..2].copy_from_slice(&lookup.place.0.to_be_bytes());
        bytes[2..4].copy_from_slice(&lookup.view.0.to_be_bytes());
        bytes[4] = u8::from(lookup.dnssec_ok) * DNSSEC_OK + u8::from(lookup.checking_disabled) * CHECKING_DISABLED;
        bytes[PREFIX_BYTES..end].copy_from_slice(&lookup.qname[..name_bytes]);
        // Length octets are at most 63, so they are never ASCII letters.
        bytes[PREFIX_BYTES..end].make_ascii_lowercase();
        bytes[end..end + 2].copy_from_slice(&lookup.qtype.0.to_be_bytes());
        self.hash = hash(&bytes[..PREFIX_BYTES], &bytes[PREFIX_BYTES..end + 2]);
        self.len = u16::try_from(end + 2).expect("a key is shorter than 65,536 octets");
    }

    /// Makes the key of a question whose prefix was stored; `None` for one that no key has.
    pub(super) fn from_prefix(prefix: [u8; PREFIX_BYTES], qname: &[u8], qtype: Rtype) -> Option<Self> {
        let [place_high, place_low, view_high, view_low, bits] = prefix;
        (bits & !(DNSSEC_OK | CHECKING_DISABLED) == 0).then(|| {
            Self::new(&Lookup {
                place: PlaceId(u16::from_be_bytes([place_high, place_low])),
                view: ViewId(u16::from_be_bytes([view_high, view_low])),
                qname,
                qtype,
                dnssec_ok: bits & DNSSEC_OK != 0,
                checking_disabled: bits & CHECKING_DISABLED != 0,
            })
        })
    }

    /// Makes the key of a question as it goes to upstreams.
    #[must_use]
    pub fn of(place: PlaceId, view: ViewId, question: &QuestionKey) -> Self {
        Self::new(&Lookup {
            place,
            view,
            qname: question.qname.as_wire(),
            qtype: question.qtype,
            dnssec_ok: question.dnssec_ok,
            checking_disabled: question.checking_disabled,
        })
    }

    /// Takes the key apart.
    pub(super) fn lookup(&self) -> Lookup<'_> {
        let pair = |at: usize| u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]);
        Lookup {
            place: PlaceId(pair(0)),
            view: ViewId(pair(2)),
            qname: self.qname(),
            qtype: self.qtype(),
            dnssec_ok: self.bytes[4] & DNSSEC_OK != 0,
            checking_disabled: self.bytes[4] & CHECKING_DISABLED != 0,
        }
    }

    /// Returns the whole key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Returns the name, lower-cased, in wire form: what routes are looked up by.
    #[must_use]
    pub fn qname(&self) -> &[u8] {
        &self.bytes[PREFIX_BYTES..usize::from(self.len) - 2]
    }

    /// Returns the type.
    #[must_use]
    pub fn qtype(&self) -> Rtype {
        let at = usize::from(self.len) - 2;
        Rtype(u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]))
    }
}

impl Default for KeyBuf {
    /// Makes room for a key, which no question has.
    fn default() -> Self {
        Self { hash: 0, len: 0, bytes: [0; MAX_KEY_BYTES] }
    }
}

impl std::fmt::Debug for KeyBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02x?}", self.as_bytes())
    }
}

impl PartialEq for KeyBuf {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for KeyBuf {}

impl Hash for KeyBuf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// A key whose two parts need not lie side by side: in a stored entry the header stands between them.
pub(super) trait Keyed {
    /// Place, view and bits.
    fn prefix(&self) -> &[u8];
    /// The name, lower-cased, and the type.
    fn question(&self) -> &[u8];

    /// Tells whether these are the name and the type.
    fn asks(&self, question: &[u8]) -> bool {
        self.question() == question
    }

    /// The hash of both.
    fn hash(&self) -> u64 {
        hash(self.prefix(), self.question())
    }
}

impl Keyed for KeyBuf {
    fn prefix(&self) -> &[u8] {
        &self.bytes[..PREFIX_BYTES]
    }

    fn question(&self) -> &[u8] {
        &self.bytes[PREFIX_BYTES..usize::from(self.len)]
    }

    fn hash(&self) -> u64 {
        self.hash
    }
}

impl PartialEq for dyn Keyed + '_ {
    fn eq(&self, other: &Self) -> bool {
        // In a table the other one is what is stored.
        other.asks(self.question()) && self.prefix() == other.prefix()
    }
}

impl Eq for dyn Keyed + '_ {}

impl Hash for dyn Keyed + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(Keyed::hash(self));
    }
}

/// Hashes a key's parts. The prefix has one length and a name ends itself, so the octets alone are unambiguous.
fn hash(prefix: &[u8], question: &[u8]) -> u64 {
    let mut hasher = HASHER.build_hasher();
    let mut first = [0; 8];
    first[..prefix.len()].copy_from_slice(prefix);
    hasher.write_u64(u64::from_le_bytes(first));
    hasher.write(question);
    hasher.finish()
}

/// For maps whose keys bring their hash.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KnownHash;

impl BuildHasher for KnownHash {
    type Hasher = Known;

    fn build_hasher(&self) -> Known {
        Known(0)
    }
}

/// The hash a key has brought.
pub(super) struct Known(u64);

impl Hasher for Known {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, octets: &[u8]) {
        // A key writes its hash only; anything else is still told apart.
        self.0 = octets.iter().fold(self.0, |hash, octet| hash.rotate_left(8) ^ u64::from(*octet));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Name;

    #[test]
    fn letter_case_is_no_difference_and_everything_else_is() {
        let name = Name::parse("www.Example.ORG").unwrap();
        let base = Lookup {
            place: PlaceId(0),
            view: ViewId(0),
            qname: name.as_wire(),
            qtype: Rtype::A,
            dnssec_ok: false,
            checking_disabled: false,
        };
        let lower = name.to_lower();
        let other = Name::parse("wwx.example.org").unwrap();
        let key = KeyBuf::new(&base);
        assert_eq!(key, KeyBuf::new(&Lookup { qname: lower.as_wire(), ..base }));
        assert_eq!((key.qname(), key.qtype()), (lower.as_wire(), Rtype::A));
        for changed in [
            Lookup { place: PlaceId(1), ..base },
            Lookup { view: ViewId(1), ..base },
            Lookup { qname: other.as_wire(), ..base },
            Lookup { qtype: Rtype::AAAA, ..base },
            Lookup { dnssec_ok: true, ..base },
            Lookup { checking_disabled: true, ..base },
        ] {
            assert_ne!(key, KeyBuf::new(&changed));
        }
    }
}
