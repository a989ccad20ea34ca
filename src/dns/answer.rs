//! What truename says to a question, before it is fitted to the client who asked.

use super::foreign::is_hostile;
use super::name::Name;
use super::rtype::{Rcode, Rtype};
use super::wire::{Message, RecordAt, Section, WireError, expand_rdata, flag, u16_at};
use std::fmt;

/// One record, every name in it uncompressed.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose record it is.
    pub owner: Name,
    /// Its type.
    pub rtype: Rtype,
    /// Its class.
    pub class: u16,
    /// Seconds it may be kept.
    pub ttl: u32,
    /// Its data in wire form, names uncompressed.
    pub rdata: Box<[u8]>,
}

impl Record {
    /// Copies a record out of a message.
    ///
    /// # Errors
    /// When its names or its RDATA are malformed.
    pub fn from_message(message: &Message<'_>, at: &RecordAt) -> Result<Self, WireError> {
        let mut rdata = Vec::with_capacity(at.rdata.len());
        expand_rdata(message, at, &mut rdata)?;
        Ok(Self {
            owner: message.owner(at)?.to_name(),
            rtype: at.rtype,
            class: at.class,
            ttl: at.ttl,
            rdata: rdata.into(),
        })
    }

    /// Returns the name a CNAME, DNAME, NS or PTR record points to.
    #[must_use]
    pub fn target(&self) -> Option<Name> {
        matches!(self.rtype, Rtype::CNAME | Rtype::DNAME | Rtype::NS | Rtype::PTR)
            .then(|| Name::from_wire(&self.rdata).ok())
            .flatten()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {:02x?}", self.owner, self.ttl, self.rtype, self.rdata)
    }
}

/// Where an answer came from; one counter each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A local zone.
    Zone,
    /// A line of a hosts file.
    Hosts,
    /// A special-use name (RFC 6761 and its kin).
    Special,
    /// A `[[rewrite]]`.
    Rewrite,
    /// The cache, fresh.
    Cache,
    /// The cache, past its TTL (RFC 8767).
    Stale,
    /// An upstream.
    Upstream,
    /// Ourselves: refusals, failures, protocol errors.
    Own,
}

impl Origin {
    /// Every origin, in the order of the numbers that stand for them. What users are told is `stats::Source`.
    pub const ALL: [Self; 8] =
        [Self::Zone, Self::Hosts, Self::Special, Self::Rewrite, Self::Cache, Self::Stale, Self::Upstream, Self::Own];

    /// Tells whether the data is ours: served at its TTL as written, never aged, exempt from the guard.
    #[must_use]
    pub fn is_local(self) -> bool {
        matches!(self, Self::Zone | Self::Hosts | Self::Special | Self::Rewrite)
    }
}

/// An Extended DNS Error: an info-code and a few words (RFC 8914).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ede {
    /// The info-code.
    pub code: u16,
    /// Text for people, short, in UTF-8.
    pub text: std::borrow::Cow<'static, str>,
}

/// The info-codes truename uses (RFC 8914 section 4).
#[allow(missing_docs, reason = "the registry's names say it")]
pub mod ede {
    pub const OTHER: u16 = 0;
    pub const STALE_ANSWER: u16 = 3;
    pub const FORGED_ANSWER: u16 = 4;
    pub const CACHED_ERROR: u16 = 13;
    pub const NOT_READY: u16 = 14;
    pub const BLOCKED: u16 = 15;
    pub const FILTERED: u16 = 17;
    pub const PROHIBITED: u16 = 18;
    pub const STALE_NXDOMAIN_ANSWER: u16 = 19;
    pub const NOT_AUTHORITATIVE: u16 = 20;
    pub const NOT_SUPPORTED: u16 = 21;
    pub const NO_REACHABLE_AUTHORITY: u16 = 22;
    pub const NETWORK_ERROR: u16 = 23;
    pub const INVALID_DATA: u16 = 24;
}

impl Ede {
    /// Makes an extended error with a constant text.
    #[must_use]
    pub const fn new(code: u16, text: &'static str) -> Self {
        Self { code, text: std::borrow::Cow::Borrowed(text) }
    }

    /// Reads the option that another server sent, so that its reason survives the hop. What a terminal obeys is left
    /// out and the text is cut: it is foreign.
    #[must_use]
    pub fn from_option(data: &[u8]) -> Option<Self> {
        let code = u16_at(data, 0)?;
        let text: String = String::from_utf8_lossy(&data[2..]).chars().filter(|c| !is_hostile(*c)).take(96).collect();
        Some(Self { code, text: text.into() })
    }
}

/// A complete response without OPT, for any client: id 0, QR and RA set, the question first.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The message's bytes. Always passes [`Message::parse`]; [`super::encode`] and the upstream relay see to it.
    pub message: Box<[u8]>,
    /// Where it came from.
    pub origin: Origin,
    /// Why it is what it is, for clients that can see it.
    pub ede: Option<Ede>,
}

impl Answer {
    /// Reads the header and question.
    ///
    /// # Panics
    /// Never for answers made by this crate: see [`Answer::message`].
    #[must_use]
    pub fn view(&self) -> Message<'_> {
        Message::parse(&self.message).expect("an answer's bytes always hold a header and one question")
    }

    /// Returns the response code.
    #[must_use]
    pub fn rcode(&self) -> Rcode {
        Rcode(u16_at(&self.message, 2).unwrap_or(0) & 0x000f)
    }

    /// Tells whether the answer section holds anything.
    #[must_use]
    pub fn has_records(&self) -> bool {
        u16_at(&self.message, 6).is_some_and(|count| count > 0)
    }

    /// Tells whether AA is set.
    #[must_use]
    pub fn is_authoritative(&self) -> bool {
        u16_at(&self.message, 2).is_some_and(|flags| flags & flag::AA != 0)
    }

    /// Copies out the records of a section; malformed ones end the list.
    #[must_use]
    pub fn records(&self, section: Section) -> Vec<Record> {
        let view = self.view();
        view.section(section).map_while(|at| Record::from_message(&view, &at).ok()).collect()
    }
}
