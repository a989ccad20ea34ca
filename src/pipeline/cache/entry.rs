//! One answer in one allocation, and the few numbers about it.
//!
//! ```text
//! prefix (place, view, DO/CD) │ message without OPT, question in lower case │ EDE code, text │ offsets of the TTLs
//! 5 octets                    │ Head::message_bytes                         │ 0, or 2 + text │ 2 octets each
//! ```
//!
//! The question inside the message serves as the rest of the key, so that no name is stored twice: at a million
//! entries that is what decides the memory.

use super::key::{KeyBuf, Keyed, PREFIX_BYTES};
use crate::clock::Tick;
use crate::dns::wire::{HEADER_BYTES, Message, WireError, u16_at};
use crate::dns::{Answer, Ede, Origin, Rtype, name};
use std::borrow::Cow;

/// Octets of EDE text kept; more is never sent either.
const MAX_EDE_TEXT_BYTES: usize = 96;
/// Records an entry may hold; an answer with more is not kept. 65,535 octets hold no more than 5,957 records, and
/// no honest answer has a tenth of that.
const MAX_RECORDS: usize = 1024;
/// Bits an index into [`Origin::ALL`] takes.
const ORIGIN_BITS: u8 = 3;
/// The largest number of failures that fits beside the origin.
const MAX_FAILURES: u8 = u8::MAX >> ORIGIN_BITS;

/// The bytes of an entry.
#[derive(Debug)]
pub(super) struct Slot(Box<[u8]>);

/// What is known of an entry besides its bytes; 24 octets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// When it was stored.
    pub(super) born: Tick,
    /// How many seconds it is served; `u32::MAX` for what is ours.
    pub(super) life_s: u32,
    /// The configuration it was stored under.
    pub(super) epoch: u32,
    /// The decision behind it.
    pub(super) fingerprint: u32,
    message_bytes: u16,
    /// EDE code and text; 0 for none.
    ede_bytes: u8,
    /// Origin in the low three bits; above them 0, or for a failure the number of failures in a row.
    kind: u8,
}

/// What a new entry is made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Birth {
    pub(super) born: Tick,
    pub(super) life_s: u32,
    pub(super) epoch: u32,
    pub(super) fingerprint: u32,
    /// How often it failed in a row, this time included; 0 for answers. At most 31.
    pub(super) failures: u8,
    /// No TTL inside says more than this.
    pub(super) ttl_cap_s: u32,
}

impl Head {
    /// Returns whether the data is ours.
    pub(super) fn is_local(&self) -> bool {
        self.stored_origin().is_local()
    }

    /// Returns what a hit is counted as.
    pub(super) fn origin_of_hit(&self) -> Origin {
        let origin = self.stored_origin();
        if origin.is_local() { origin } else { Origin::Cache }
    }

    /// Tells whether it may be served.
    pub(super) fn is_fresh(&self, now: Tick) -> bool {
        self.is_local() || super::ttl::age_seconds(self.born, now) < self.life_s
    }

    /// Returns how often the question failed in a row; 0 for answers.
    pub(super) fn failures(&self) -> u8 {
        self.kind >> ORIGIN_BITS
    }

    fn stored_origin(&self) -> Origin {
        Origin::ALL.get(usize::from(self.kind & ((1 << ORIGIN_BITS) - 1))).copied().unwrap_or(Origin::Own)
    }
}

/// Makes an entry; `None` when the answer is not one to the key's question, or is malformed, has an OPT, or has more
/// records than an entry takes.
pub(super) fn make(key: &KeyBuf, answer: &Answer, birth: &Birth) -> Option<(Slot, Head)> {
    let view = Message::parse(&answer.message).ok()?;
    if !view.qname().eq_ignore_ascii_case(key.qname()) || view.qtype() != key.qtype() {
        return None;
    }
    let offsets = ttl_offsets(&view).ok().flatten()?;
    let ede = answer.ede.as_ref().map(|ede| (ede.code.to_be_bytes(), cut(&ede.text)));
    let ede_bytes = ede.map_or(0, |(code, text)| code.len() + text.len());
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + answer.message.len() + ede_bytes + offsets.len() * 2);
    bytes.extend_from_slice(key.prefix());
    bytes.extend_from_slice(&answer.message);
    let message = &mut bytes[PREFIX_BYTES..];
    message[..2].fill(0);
    message[HEADER_BYTES..HEADER_BYTES + key.qname().len()].copy_from_slice(key.qname());
    super::ttl::cap_ttls(message, birth.ttl_cap_s);
    if let Some((code, text)) = ede {
        bytes.extend_from_slice(&code);
        bytes.extend_from_slice(text);
    }
    for at in offsets {
        bytes.extend_from_slice(&at.to_be_bytes());
    }
    let origin = Origin::ALL.iter().position(|origin| *origin == answer.origin)?;
    let head = Head {
        born: birth.born,
        life_s: birth.life_s,
        epoch: birth.epoch,
        fingerprint: birth.fingerprint,
        message_bytes: u16::try_from(answer.message.len()).ok()?,
        ede_bytes: u8::try_from(ede_bytes).ok()?,
        kind: u8::try_from(origin).ok()? | birth.failures.min(MAX_FAILURES) << ORIGIN_BITS,
    };
    Some((Slot(bytes.into()), head))
}

impl Slot {
    /// Returns how long the allocation is.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the answer's bytes.
    pub(super) fn message(&self, head: &Head) -> &[u8] {
        &self.0[PREFIX_BYTES..PREFIX_BYTES + usize::from(head.message_bytes)]
    }

    /// Returns where the TTLs stand in the message.
    pub(super) fn ttl_offsets(&self, head: &Head) -> impl Iterator<Item = usize> {
        let start = PREFIX_BYTES + usize::from(head.message_bytes) + usize::from(head.ede_bytes);
        self.0[start..].chunks_exact(2).map(|pair| usize::from(u16::from_be_bytes([pair[0], pair[1]])))
    }

    /// Returns the extended error in place.
    pub(super) fn ede(&self, head: &Head) -> Option<(u16, &str)> {
        let start = PREFIX_BYTES + usize::from(head.message_bytes);
        let ede = &self.0[start..start + usize::from(head.ede_bytes)];
        Some((u16_at(ede, 0)?, std::str::from_utf8(&ede[2..]).unwrap_or_default()))
    }

    /// Copies the entry out as an answer of a certain age.
    pub(super) fn to_answer(&self, head: &Head, age_s: u32) -> Answer {
        let mut message: Box<[u8]> = self.message(head).into();
        if !head.is_local() {
            self.ttl_offsets(head).for_each(|at| super::ttl::age_ttl(&mut message, at, age_s));
        }
        let ede = self.ede(head).map(|(code, text)| Ede { code, text: Cow::Owned(text.to_owned()) });
        Answer { message, origin: head.origin_of_hit(), ede }
    }

    /// Tells whether this is the entry of a key. A name ends itself, so octets that begin alike are the same question.
    pub(super) fn is_of(&self, key: &dyn Keyed) -> bool {
        let question = PREFIX_BYTES + HEADER_BYTES;
        self.0.starts_with(key.prefix()) && self.0.get(question..).is_some_and(|rest| rest.starts_with(key.question()))
    }

    /// Returns the name the entry is stored under.
    pub(super) fn qname(&self) -> &[u8] {
        let question = self.question();
        &question[..question.len() - 2]
    }
}

impl Keyed for Slot {
    fn prefix(&self) -> &[u8] {
        &self.0[..PREFIX_BYTES]
    }

    fn question(&self) -> &[u8] {
        let rest = &self.0[PREFIX_BYTES + HEADER_BYTES..];
        let name_bytes = name::wire_len(rest).expect("`make` has checked the question");
        &rest[..name_bytes + 2]
    }
}

/// Finds all TTLs; `Ok(None)` for a message with an OPT or too many records.
fn ttl_offsets(view: &Message<'_>) -> Result<Option<Vec<u16>>, WireError> {
    let mut offsets = Vec::new();
    for record in view.records() {
        let record = record?;
        let Ok(at) = u16::try_from(record.ttl_at) else { return Ok(None) };
        if record.rtype == Rtype::OPT || offsets.len() == MAX_RECORDS {
            return Ok(None);
        }
        offsets.push(at);
    }
    Ok(Some(offsets))
}

/// Cuts EDE text at a character's edge.
fn cut(text: &str) -> &[u8] {
    let mut end = text.len().min(MAX_EDE_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text.as_bytes()[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_24_octets() {
        assert_eq!((size_of::<Head>(), size_of::<Slot>()), (24, 16));
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(cut("short"), b"short");
        let text = "é".repeat(60);
        assert_eq!(cut(&text).len(), MAX_EDE_TEXT_BYTES);
        assert!(std::str::from_utf8(cut(&format!("a{text}"))).is_ok());
    }
}
