//! The cache as a file, and back: what outlives a restart. Pure but for the reader and writer it is given.
//!
//! Written are forwarded answers that are fresh or may still be served stale; never what is ours (the configuration
//! makes it again), failures, and what was disputed. Ages go by the wall clock there, so that the time a machine was
//! off counts. Each entry takes along the fingerprint of the decision behind it and comes back as one of an older
//! configuration: it is used only after the slow path has decided the same again.
//!
//! ```text
//! entry   octets that follow, 4 │ born, Unix ms, 8 │ life, s, 4 │ fingerprint, 4 │ prefix of the key, 5
//!         │ EDE octets, 1 │ EDE code and text │ message
//! ```

mod format;

pub use format::Fault;

use super::entry::{self, Birth, Head, Slot};
use super::key::{KeyBuf, Keyed, PREFIX_BYTES};
use super::store::Cache;
use super::ttl::{self, Lifetime};
use crate::clock::Tick;
use crate::config;
use crate::dns::wire::{CLASS_IN, Message, flag, u16_at};
use crate::dns::{Answer, Ede, Origin, Rcode, Tag};
use format::{Writer, be_u32, be_u64};
use std::borrow::Cow;
use std::io::{self, Read, Write};

/// Octets of an entry before its EDE, its own length not counted.
const ENTRY_HEAD_BYTES: usize = 8 + 4 + 4 + PREFIX_BYTES + 1;

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// As ages are measured.
    pub tick: Tick,
    /// As it is written down: Unix time in milliseconds.
    pub unix_ms: u64,
}

/// What came of reading a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restored {
    /// Entries that are in the cache.
    pub taken: u64,
    /// Entries left out: too old, no longer allowed, malformed, known better already, or without room.
    pub left: u64,
}

/// Writes a snapshot; returns how many entries it has. A shard is locked while its entries are copied to memory, not
/// while they are written.
///
/// # Errors
/// When writing fails; what was written is then of no use.
pub fn write(cache: &Cache, now: Moment, out: impl Write) -> io::Result<u32> {
    let mut writer = Writer::new(out, now.unix_ms)?;
    let mut copied = Vec::new();
    for shard in 0..cache.shard_count() {
        copied.clear();
        cache.for_each_worth_keeping(shard, now.tick, |slot, head| put_entry(&mut copied, slot, head, now));
        let mut rest = copied.as_slice();
        while !rest.is_empty() {
            let len = 4 + usize::try_from(be_u32(rest)).unwrap_or(usize::MAX);
            let (entry, after) = rest.split_at(len);
            writer.entry(entry)?;
            rest = after;
        }
    }
    writer.finish()
}

/// Reads a whole snapshot without using anything of it.
///
/// # Errors
/// When it is not one, or not whole.
pub fn check(mut input: impl Read) -> Result<u32, Fault> {
    format::read(&mut input, |_, _, _| Ok(()))
}

/// Takes the entries of a snapshot over that are still of use. What the cache knows already stays as it is.
///
/// # Errors
/// When it is not a snapshot, or not whole. Call [`check`] first: what stands before a fault has been taken over.
pub fn restore(
    cache: &Cache,
    policy: &config::Cache,
    mut input: impl Read,
    now: impl Fn() -> Moment,
) -> Result<Restored, Fault> {
    let mut restored = Restored::default();
    format::read(&mut input, |written_ms, body, entries| {
        let (mut rest, now, mut seen) = (body, now(), 0);
        while !rest.is_empty() {
            let len = usize::try_from(be_u32(rest)).unwrap_or(usize::MAX);
            let Some(bytes) = rest.get(4..).and_then(|rest| rest.get(..len)) else { break };
            rest = &rest[4 + len..];
            seen += 1;
            let made = read_entry(bytes, policy, cache.epoch(), written_ms, now);
            let taken = made.is_some_and(|(slot, head)| cache.restore(slot, head, now.tick));
            restored.taken += u64::from(taken);
            restored.left += u64::from(!taken);
        }
        restored.left += u64::from(entries.saturating_sub(seen));
        Ok(())
    })?;
    Ok(restored)
}

fn put_entry(out: &mut Vec<u8>, slot: &Slot, head: &Head, now: Moment) {
    let message = slot.message(head);
    let ede = slot.ede(head);
    let ede_bytes = ede.map_or(0, |(_, text)| 2 + text.len());
    let (Some(life_s), Ok(ede_len), Ok(len)) =
        (head.life_s(), u8::try_from(ede_bytes), u32::try_from(ENTRY_HEAD_BYTES + ede_bytes + message.len()))
    else {
        return;
    };
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&now.unix_ms.saturating_sub(head.age_ms(now.tick)).to_be_bytes());
    out.extend_from_slice(&life_s.to_be_bytes());
    out.extend_from_slice(&head.fingerprint.to_be_bytes());
    out.extend_from_slice(slot.prefix());
    out.push(ede_len);
    if let Some((code, text)) = ede {
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(message);
}

/// Reads one entry; `None` when it may not be used.
fn read_entry(bytes: &[u8], policy: &config::Cache, epoch: u32, written_ms: u64, now: Moment) -> Option<(Slot, Head)> {
    let (head, rest) = bytes.split_at_checked(ENTRY_HEAD_BYTES)?;
    let (born_ms, stored_s, fingerprint) = (be_u64(head), be_u32(&head[8..]), be_u32(&head[12..]));
    let prefix: [u8; PREFIX_BYTES] = head[16..16 + PREFIX_BYTES].try_into().ok()?;
    let (ede, message) = rest.split_at_checked(usize::from(head[ENTRY_HEAD_BYTES - 1]))?;
    let ede = match ede {
        [] => None,
        _ => Some(Ede { code: u16_at(ede, 0)?, text: Cow::Owned(std::str::from_utf8(&ede[2..]).ok()?.to_owned()) }),
    };
    let view = usable(message)?;
    let key = KeyBuf::from_prefix(prefix, view.qname(), view.qtype())?;
    let answer = Answer { message: message.into(), origin: Origin::Upstream, ede };
    // The limits in force may be lower than those it was stored under.
    let (allowed_s, ttl_cap_s) = match ttl::lifetime(&answer, policy)? {
        lifetime @ (Lifetime::Positive(life_s) | Lifetime::Negative(life_s)) => {
            (life_s, ttl::ttl_cap(Some(lifetime), policy)?)
        }
        Lifetime::Failure | Lifetime::Local => return None,
    };
    let life_s = stored_s.min(allowed_s);
    // A clock that went back tells no ages: what was written in the future counts as just expired.
    let age_ms = if now.unix_ms < written_ms { u64::from(life_s) * 1000 } else { now.unix_ms.checked_sub(born_ms)? };
    if age_ms > entry::BIRTH_BIAS_MS || born_ms > written_ms {
        return None;
    }
    let birth = Birth {
        age_ms,
        now: now.tick,
        life_s: Some(life_s),
        // Of the epoch before: it must be found true before it is served, and what it is counted for comes to be known then.
        epoch: epoch.wrapping_sub(1),
        tag: Tag::NONE,
        fingerprint,
        failures: 0,
        ttl_cap_s,
        disputed: false,
    };
    entry::make(&key, &answer, &birth).ok()
}

/// Checks an answer's octets as if they had just come in; nothing else may be assumed of a file.
fn usable(message: &[u8]) -> Option<Message<'_>> {
    let view = Message::parse(message).ok()?;
    let is_answer = view.has(flag::QR) && !view.has(flag::TC) && view.qclass() == CLASS_IN;
    let has_rcode = matches!(view.rcode(), Rcode::NOERROR | Rcode::NXDOMAIN);
    let is_whole = view.validate().is_ok_and(|end| end == message.len());
    (is_answer && has_rcode && is_whole).then_some(view)
}

#[cfg(test)]
mod tests;
