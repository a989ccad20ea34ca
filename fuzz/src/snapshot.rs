//! The bytes of a snapshot of the cache: checked and restored alike, and what was restored is written as a whole one.
//!
//! The first octet says whether the rest is a file as it is, or the body of a chunk that gets a frame with right
//! checksums: a fuzzer does not find those.

use super::rig;
use super::walk::{u16_at, walk};
use std::sync::LazyLock;
use truename::clock::Tick;
use truename::config;
use truename::pipeline::cache::Cache;
use truename::pipeline::cache::persist::{Moment, check, restore, write};

/// The first octet of inputs that are a whole file.
pub const WHOLE: u8 = 0;
/// Answers are kept at most so long, in seconds.
const MAX_TTL_S: u32 = 86_400;
/// The moment of every run: a day after boot, some time in 2026.
const NOW: Moment = Moment { tick: Tick(86_400_000), unix_ms: 1_780_000_000_000 };
/// Octets of an entry before its key's prefix, of that prefix, and of what stands before its EDE.
const BEFORE_PREFIX: usize = 16;
const ENTRY_HEAD: usize = BEFORE_PREFIX + 5 + 1;

static POLICY: LazyLock<config::Cache> = LazyLock::new(|| rig::config("[cache]\nmax_entries = 64\n").cache);

pub fn run(data: &[u8]) {
    let Some((&how, rest)) = data.split_first() else { return };
    let file = if how == WHOLE { rest.to_vec() } else { framed(how, rest) };
    let policy = &*POLICY;
    let cache = Cache::new(policy);
    let checked = check(file.as_slice());
    let restored = restore(&cache, policy, file.as_slice(), || NOW);
    assert_eq!(checked.is_ok(), restored.is_ok(), "checking and restoring disagree: {checked:?} {restored:?}");
    assert!(how == WHOLE || checked.is_ok(), "a right frame is not taken: {checked:?}");
    let (Ok(entries), Ok(restored)) = (checked, restored) else { return };
    assert!(restored.taken + restored.left >= u64::from(entries), "{restored:?} of {entries}");
    assert!(cache.len() as u64 <= restored.taken, "{} entries, {restored:?}", cache.len());

    let mut written = Vec::new();
    let count = write(&cache, NOW, &mut written).expect("memory can be written to");
    assert_eq!(check(written.as_slice()).expect("what we write is whole"), count);
    assert_eq!(messages(&written).len(), count as usize);
    for message in messages(&written) {
        let walked = walk(message);
        assert_ne!(walked.flags & 0x8000, 0, "a question in the cache");
        assert!(walked.opt().is_none(), "an OPT in the cache");
        assert!(walked.records.iter().all(|record| record.ttl <= MAX_TTL_S), "a TTL beyond all bounds");
    }
    let again = Cache::new(policy);
    let restored = restore(&again, policy, written.as_slice(), || NOW).expect("what we write is whole");
    assert_eq!((restored.taken, restored.left), (u64::from(count), 0), "what we write is all of use");
}

/// Puts the frame of a snapshot around a body.
pub fn framed(entries: u8, body: &[u8]) -> Vec<u8> {
    let mut file = b"truename cache\r\n\x00\x01".to_vec();
    file.extend_from_slice(&(NOW.unix_ms - 1000).to_be_bytes());
    let checksum = crc32(&file);
    file.extend_from_slice(&checksum.to_be_bytes());
    let body = &body[..body.len().min(60_000)];
    let chunks: &[&[u8]] = if body.is_empty() { &[b""] } else { &[body, b""] };
    for chunk in chunks {
        let count = if body.is_empty() { 0 } else { u32::from(entries) };
        let len = u32::try_from(chunk.len()).expect("bounded");
        let head = [len.to_be_bytes(), count.to_be_bytes()].concat();
        file.extend_from_slice(&head);
        file.extend_from_slice(&crc32(&[&head, *chunk].concat()).to_be_bytes());
        file.extend_from_slice(chunk);
    }
    file
}

/// Makes an entry as it stands in a body.
pub fn entry(age_ms: u64, life_s: u32, prefix: [u8; 5], ede: &[u8], message: &[u8]) -> Vec<u8> {
    let mut entry = (NOW.unix_ms - age_ms).to_be_bytes().to_vec();
    entry.extend_from_slice(&life_s.to_be_bytes());
    entry.extend_from_slice(&[1, 2, 3, 4]);
    entry.extend_from_slice(&prefix);
    entry.push(u8::try_from(ede.len()).expect("short"));
    entry.extend_from_slice(ede);
    entry.extend_from_slice(message);
    [&u32::try_from(entry.len()).expect("short").to_be_bytes(), entry.as_slice()].concat()
}

/// Returns the message of every entry of a snapshot of ours.
fn messages(file: &[u8]) -> Vec<&[u8]> {
    let number = |at: usize| usize::from(u16_at(file, at)) << 16 | usize::from(u16_at(file, at + 2));
    let (mut at, mut found) = (30, Vec::new());
    while number(at) > 0 {
        let end = at + 12 + number(at);
        at += 12;
        while at < end {
            let entry = &file[at + 4..at + 4 + number(at)];
            found.push(&entry[ENTRY_HEAD + usize::from(entry[ENTRY_HEAD - 1])..]);
            at += 4 + entry.len();
        }
    }
    found
}

/// CRC-32 as IEEE 802.3 has it, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1)))
    })
}
