//! Which octets of a message its compressed names are made of.
//!
//! A reply goes on to clients as the octets it came in, with lower TTLs. A compression pointer may lead anywhere before the
//! name it stands in (RFC 1035 section 4.1.4 means names there; senders with bad intent mean other things), so to a TTL too:
//! then the name is one when it is judged and another one when it goes out.

use super::wire::{Message, RecordAt, WireError, names_in, u16_at};
use std::ops::Range;

/// Tells whether the names of some records of a message stay what they are when its TTLs change. The names have been read
/// before; what cannot be read does not stay.
#[must_use]
pub fn names_stay<'r>(message: &Message<'_>, records: impl IntoIterator<Item = &'r RecordAt>) -> bool {
    let mut ttls: Vec<usize> = Vec::new();
    let mut stays = |part: Range<usize>| {
        // Most names borrow from the question, which comes before all TTLs.
        if part.end <= message.question_end() {
            return true;
        }
        if ttls.is_empty() {
            ttls.extend(message.records().map_while(Result::ok).map(|record| record.ttl_at));
        }
        let next = ttls.partition_point(|ttl_at| ttl_at + TTL_BYTES <= part.start);
        ttls.get(next).is_none_or(|ttl_at| part.end <= *ttl_at)
    };
    records.into_iter().all(|record| {
        let in_data = names_in(message, record).and_then(|(before, names)| {
            (0..names).try_fold((record.rdata.start + before, true), |(at, fine), _| {
                borrowed(message.bytes(), at, &mut stays).map(|(end, stays)| (end, fine && stays))
            })
        });
        let owner = borrowed(message.bytes(), record.start, &mut stays);
        owner.is_ok_and(|(_, stays)| stays) && in_data.is_ok_and(|(_, stays)| stays)
    })
}

/// Octets of a TTL (RFC 1035 section 3.2.1).
const TTL_BYTES: usize = 4;

/// Shows each part of the name at `at` that a pointer leads to; returns where the name ends, and whether all are fine.
fn borrowed(
    bytes: &[u8],
    at: usize,
    is_fine: &mut impl FnMut(Range<usize>) -> bool,
) -> Result<(usize, bool), WireError> {
    let (mut pos, mut start, mut end) = (at, at, None);
    let mut fine = true;
    loop {
        let len = *bytes.get(pos).ok_or(WireError::Short)?;
        let stop = match len {
            1..=63 => {
                pos += 1 + usize::from(len);
                continue;
            }
            0 => pos + 1,
            _ => pos + 2,
        };
        fine &= end.is_none() || is_fine(start..stop);
        end.get_or_insert(stop);
        if len == 0 {
            return Ok((end.unwrap_or(stop), fine));
        }
        let target = usize::from(u16_at(bytes, pos).ok_or(WireError::Short)? & 0x3fff);
        if target >= start {
            return Err(WireError::Name);
        }
        (pos, start) = (target, target);
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Section, flag};
    use super::super::{Name, Rcode, Record, Rtype, encode::MessageBuilder};
    use super::*;

    fn reply() -> Vec<u8> {
        let name = |text| Name::parse(text).unwrap();
        let mut builder = MessageBuilder::response(&name("www.example.org"), Rtype::A, Rcode::NOERROR);
        builder.or_flags(flag::AA);
        let alias = name("a.b.example.net").as_wire().into();
        let cname = Record { owner: name("www.example.org"), rtype: Rtype::CNAME, class: 1, ttl: 60, rdata: alias };
        let mx = [&[0, 10][..], name("mail.b.example.net").as_wire()].concat().into();
        builder.push(Section::Answer, &cname);
        builder.push(Section::Answer, &Record { owner: name("a.b.example.net"), rtype: Rtype::MX, rdata: mx, ..cname });
        builder.finish().into()
    }

    fn stays(bytes: &[u8]) -> bool {
        let message = Message::parse(bytes).unwrap();
        let records: Vec<RecordAt> = message.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), 2);
        names_stay(&message, &records)
    }

    #[test]
    fn names_made_of_names_stay() {
        assert!(stays(&reply()));
    }

    #[test]
    fn names_made_of_ttls_do_not() {
        let bytes = reply();
        let message = Message::parse(&bytes).unwrap();
        let records: Vec<RecordAt> = message.records().map(Result::unwrap).collect();
        let (first, second) = (&records[0], &records[1]);
        assert_eq!(bytes[second.rdata.end - 2] & 0xc0, 0xc0, "the exchange ends in a pointer");
        // The owner of the second record, and the name in its data.
        for pointer_at in [second.start, second.rdata.end - 2] {
            for (target, expected) in [
                (first.ttl_at, false),
                (first.ttl_at + 2, false),
                // The upper octet of its class is a zero, the octets of its length are a zero and a length.
                (first.ttl_at - 2, true),
                (first.ttl_at + 4, true),
            ] {
                let mut changed = bytes.clone();
                let pointer = u16::try_from(target).unwrap() | 0xc000;
                changed[pointer_at..pointer_at + 2].copy_from_slice(&pointer.to_be_bytes());
                assert_eq!(stays(&changed), expected, "a pointer at {pointer_at} to {target}");
            }
        }
        // A label that begins in front of the TTL and reaches over it.
        let mut changed = bytes.clone();
        let pointer = u16::try_from(first.ttl_at - 3).unwrap() | 0xc000;
        changed[second.start..second.start + 2].copy_from_slice(&pointer.to_be_bytes());
        assert!(!stays(&changed), "type 5: a label of five octets");
    }
}
