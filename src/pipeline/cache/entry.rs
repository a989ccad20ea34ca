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
use crate::dns::wire::{HEADER_BYTES, Message, Section, WireError, u16_at};
use crate::dns::{Answer, Ede, Origin, Rcode, Rtype, Tag, name};
use std::borrow::{Borrow, Cow};
use std::hash::{Hash, Hasher};

/// Octets of EDE text kept; more is never sent either.
const MAX_EDE_TEXT_BYTES: usize = 96;
/// Records an entry may hold; an answer with more is not kept. 65,535 octets hold no more than 5,957 records, and
/// no honest answer has a tenth of that.
const MAX_RECORDS: usize = 1024;
/// Bits an index into [`Origin::ALL`] takes.
const ORIGIN_BITS: u8 = 3;
/// The largest number of failures that fits beside the origin.
const MAX_FAILURES: u8 = u8::MAX >> ORIGIN_BITS;
/// Bits of a moment of birth: 557 years of milliseconds.
const BIRTH_BITS: u32 = 44;
/// Those bits.
const BIRTH_MASK: u64 = (1 << BIRTH_BITS) - 1;
/// How much older than the machine's start an entry may be, since a snapshot outlives a reboot: 30 days, more than a
/// TTL and the time after it can be together.
pub(super) const BIRTH_BIAS_MS: u64 = 30 * 86_400_000;
/// Bits of a life: 12 days of seconds; the longest TTL that may be configured is 7.
const LIFE_BITS: u32 = 20;
/// Those bits, and the life of what is ours.
const LIFE_MASK: u32 = (1 << LIFE_BITS) - 1;
/// The answer was disputed.
const DISPUTED: u32 = 1 << LIFE_BITS;
/// It has been asked for again before its expiry.
const ASKED_AGAIN: u32 = 1 << (LIFE_BITS + 1);
/// The name or the type does not exist.
const NEGATIVE: u32 = 1 << (LIFE_BITS + 2);
/// Where the hits are counted.
const HITS_SHIFT: u32 = 24;
/// Bits of an epoch; below them stands the tag. When they are used up, nothing of the epochs before may be left.
pub(super) const EPOCH_BITS: u32 = u32::BITS - Tag::BITS;
/// The bits of the tag.
const TAG_MASK: u32 = (1 << Tag::BITS) - 1;

/// The bytes of an entry. Hashes and compares as its key.
#[derive(Debug)]
pub(super) struct Slot(Box<[u8]>);

/// What is known of an entry besides its bytes; 24 octets, so that a list node stays within 64.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// The moment of birth in the low [`BIRTH_BITS`], in milliseconds, [`BIRTH_BIAS_MS`] later than its tick. Above:
    /// how many seconds after its expiry it last could not be refreshed, plus 1; 0 when that never happened.
    times: u64,
    /// How many seconds it is served in the low [`LIFE_BITS`], all ones for what is ours. Above: [`DISPUTED`],
    /// [`ASKED_AGAIN`], [`NEGATIVE`], and the hits counted in the highest octet.
    life: u32,
    /// The configuration it was stored under, and below it the zone or the route that it is counted for.
    epoch_and_tag: u32,
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
    /// How old it is already, in milliseconds; at most [`BIRTH_BIAS_MS`].
    pub(super) age_ms: u64,
    pub(super) now: Tick,
    /// How many seconds it is served from its birth; `None` for what is ours.
    pub(super) life_s: Option<u32>,
    pub(super) epoch: u32,
    /// The zone or the route that it is counted for.
    pub(super) tag: Tag,
    pub(super) fingerprint: u32,
    /// How often it failed in a row, this time included; 0 for answers. At most 31.
    pub(super) failures: u8,
    /// No TTL inside says more than this.
    pub(super) ttl_cap_s: u32,
    /// It is never served stale.
    pub(super) disputed: bool,
}

impl Head {
    /// Returns whether the data is ours.
    pub(super) fn is_local(&self) -> bool {
        self.stored_origin().is_local()
    }

    /// Returns the configuration it was stored under, or found to be true of since.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch_and_tag >> Tag::BITS
    }

    /// Returns the zone or the route that it is counted for.
    pub(super) fn tag(&self) -> Tag {
        usize::try_from(self.epoch_and_tag & TAG_MASK).ok().and_then(Tag::new).unwrap_or_default()
    }

    /// Notes that it is true of another configuration.
    pub(super) fn set_epoch(&mut self, epoch: u32) {
        self.epoch_and_tag = epoch << Tag::BITS | self.epoch_and_tag & TAG_MASK;
    }

    /// Notes what it is counted for.
    pub(super) fn set_tag(&mut self, tag: Tag) {
        self.epoch_and_tag = self.epoch_and_tag & !TAG_MASK | u32::from(tag.number());
    }

    /// Returns what a fresh hit is counted as.
    pub(super) fn origin_of_hit(&self) -> Origin {
        let origin = self.stored_origin();
        if origin.is_local() { origin } else { Origin::Cache }
    }

    /// Returns how old it is, in milliseconds; 0 when the clock went back.
    pub(super) fn age_ms(&self, now: Tick) -> u64 {
        now.0.saturating_add(BIRTH_BIAS_MS).saturating_sub(self.times & BIRTH_MASK)
    }

    /// Returns how old it is in whole seconds.
    pub(super) fn age_s(&self, now: Tick) -> u32 {
        u32::try_from(self.age_ms(now) / 1000).unwrap_or(u32::MAX)
    }

    /// Returns how many seconds it is served from its birth; `None` for what is ours.
    pub(super) fn life_s(&self) -> Option<u32> {
        Some(self.life & LIFE_MASK).filter(|life_s| *life_s != LIFE_MASK)
    }

    /// Tells whether it may be served as it is.
    pub(super) fn is_fresh(&self, now: Tick) -> bool {
        self.life_s().is_none_or(|life_s| self.age_s(now) < life_s)
    }

    /// Returns how long ago it expired, in whole seconds; `None` as long as it has not, and always for what is ours.
    pub(super) fn expired_s(&self, now: Tick) -> Option<u32> {
        self.age_s(now).checked_sub(self.life_s()?)
    }

    /// Returns how often the question failed in a row; 0 for answers.
    pub(super) fn failures(&self) -> u8 {
        self.kind >> ORIGIN_BITS
    }

    /// Tells whether it says that the name or the type does not exist.
    pub(super) fn is_negative(&self) -> bool {
        self.life & NEGATIVE != 0
    }

    /// Tells whether it must never be served stale.
    pub(super) fn is_disputed(&self) -> bool {
        self.life & DISPUTED != 0
    }

    /// Notes that it is expired and could not be refreshed. Does nothing to a fresh one.
    pub(super) fn note_failed_refresh(&mut self, now: Tick) {
        if let Some(expired_s) = self.expired_s(now) {
            let noted = u64::from(expired_s).saturating_add(1).min(u64::MAX >> BIRTH_BITS);
            self.times = self.times & BIRTH_MASK | noted << BIRTH_BITS;
        }
    }

    /// Returns how many seconds ago it could not be refreshed, if that ever happened.
    pub(super) fn failed_refresh_s(&self, now: Tick) -> Option<u32> {
        let noted = u32::try_from(self.times >> BIRTH_BITS).ok()?.checked_sub(1)?;
        Some(self.expired_s(now)?.saturating_sub(noted))
    }

    /// Counts a use and returns how many there were, this one included; stays at 255.
    pub(super) fn count_hit(&mut self) -> u8 {
        let hits = self.hits().saturating_add(1);
        self.life = self.life & !(u32::MAX << HITS_SHIFT) | u32::from(hits) << HITS_SHIFT;
        hits
    }

    /// Tells once that it is to be asked for again; false from then on.
    pub(super) fn claim_asking_again(&mut self) -> bool {
        let first = self.life & ASKED_AGAIN == 0;
        self.life |= ASKED_AGAIN;
        first
    }

    /// Returns a number that differs among entries stored together.
    pub(super) fn spread(&self) -> u64 {
        (self.times & BIRTH_MASK) ^ u64::from(self.message_bytes)
    }

    fn hits(&self) -> u8 {
        u8::try_from(self.life >> HITS_SHIFT).unwrap_or(u8::MAX)
    }

    /// Returns where the answer came from when it was stored.
    pub(super) fn stored_origin(&self) -> Origin {
        Origin::ALL.get(usize::from(self.kind & ((1 << ORIGIN_BITS) - 1))).copied().unwrap_or(Origin::Own)
    }
}

/// Why an answer becomes no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It is not one to the key's question, or is malformed, or has an OPT.
    Foreign,
    /// It has more records than an entry takes.
    TooLarge,
}

impl From<WireError> for Unfit {
    fn from(_: WireError) -> Self {
        Self::Foreign
    }
}

/// Makes an entry.
pub(super) fn make(key: &KeyBuf, answer: &Answer, birth: &Birth) -> Result<(Slot, Head), Unfit> {
    let view = Message::parse(&answer.message)?;
    if !view.qname().eq_ignore_ascii_case(key.qname()) || view.qtype() != key.qtype() {
        return Err(Unfit::Foreign);
    }
    let offsets = ttl_offsets(&view)?;
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
    let origin = Origin::ALL.iter().position(|origin| *origin == answer.origin).ok_or(Unfit::Foreign)?;
    let born = birth.now.0.saturating_add(BIRTH_BIAS_MS).saturating_sub(birth.age_ms);
    let life_s = birth.life_s.map_or(LIFE_MASK, |life_s| life_s.min(LIFE_MASK - 1));
    let head = Head {
        times: born & BIRTH_MASK,
        life: life_s | if birth.disputed { DISPUTED } else { 0 } | if is_negative(&view) { NEGATIVE } else { 0 },
        epoch_and_tag: birth.epoch << Tag::BITS | u32::from(birth.tag.number()),
        fingerprint: birth.fingerprint,
        message_bytes: u16::try_from(answer.message.len()).map_err(|_| Unfit::TooLarge)?,
        ede_bytes: u8::try_from(ede_bytes).map_err(|_| Unfit::TooLarge)?,
        kind: u8::try_from(origin).map_err(|_| Unfit::Foreign)? | birth.failures.min(MAX_FAILURES) << ORIGIN_BITS,
    };
    Ok((Slot(bytes.into()), head))
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

    /// Copies the entry out as a fresh answer of its age.
    pub(super) fn to_answer(&self, head: &Head, now: Tick) -> Answer {
        let mut message: Box<[u8]> = self.message(head).into();
        if !head.is_local() {
            let age_s = head.age_s(now);
            self.ttl_offsets(head).for_each(|at| super::ttl::age_ttl(&mut message, at, age_s));
        }
        let ede = self.ede(head).map(|(code, text)| Ede { code, text: Cow::Owned(text.to_owned()) });
        Answer { message, origin: head.origin_of_hit(), ede }
    }

    /// Copies the entry out as a stale answer, no TTL above `ttl_cap_s`, with the error that says so.
    pub(super) fn to_stale_answer(&self, head: &Head, ttl_cap_s: u32, (code, text): (u16, &'static str)) -> Answer {
        let mut message: Box<[u8]> = self.message(head).into();
        self.ttl_offsets(head).for_each(|at| super::ttl::cap_ttl(&mut message, at, ttl_cap_s));
        Answer { message, origin: Origin::Stale, ede: Some(Ede::new(code, text)) }
    }

    /// Copies the key out.
    pub(super) fn to_key(&self) -> Option<KeyBuf> {
        let prefix = self.0[..PREFIX_BYTES].try_into().ok()?;
        let question = self.question();
        let (qname, qtype) = question.split_at(question.len() - 2);
        KeyBuf::from_prefix(prefix, qname, Rtype(u16_at(qtype, 0)?))
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

    /// A name ends itself, so what begins with these octets has no other name and type.
    fn asks(&self, question: &[u8]) -> bool {
        self.0[PREFIX_BYTES + HEADER_BYTES..].starts_with(question)
    }
}

impl<'a> Borrow<dyn Keyed + 'a> for Slot {
    fn borrow(&self) -> &(dyn Keyed + 'a) {
        self
    }
}

impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        let (mine, theirs): (&dyn Keyed, &dyn Keyed) = (self, other);
        mine == theirs
    }
}

impl Eq for Slot {}

impl Hash for Slot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(Keyed::hash(self));
    }
}

/// Tells whether an answer is NXDOMAIN, or NODATA without an alias before it (RFC 2308).
fn is_negative(view: &Message<'_>) -> bool {
    view.rcode() == Rcode::NXDOMAIN || view.rcode() == Rcode::NOERROR && view.count(Section::Answer) == 0
}

/// Finds all TTLs.
fn ttl_offsets(view: &Message<'_>) -> Result<Vec<u16>, Unfit> {
    let mut offsets = Vec::new();
    for record in view.records() {
        let record = record?;
        if record.rtype == Rtype::OPT {
            return Err(Unfit::Foreign);
        }
        if offsets.len() == MAX_RECORDS {
            return Err(Unfit::TooLarge);
        }
        offsets.push(u16::try_from(record.ttl_at).map_err(|_| Unfit::TooLarge)?);
    }
    Ok(offsets)
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
