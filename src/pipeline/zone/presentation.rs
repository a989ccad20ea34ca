//! Records as text, in the form a master file reads back.

use super::encoding::{push_quoted, to_base64, to_hex};
use super::rdata::{self, Field};
use crate::dns::{Name, Record, Rtype, wire};
use hickory_proto::rr::{RData, RecordType};
use hickory_proto::serialize::binary::{BinDecoder, Restrict};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Returns the data of a record as text; RFC 3597's `\# LENGTH HEX` for types without a text form, and for data that
/// is not what its type says.
#[must_use]
pub fn rdata_text(record: &Record) -> String {
    let text = match rdata::shape(record.rtype) {
        Some(fields) => by_shape(fields, &record.rdata),
        None => by_hickory(record.rtype, &record.rdata),
    };
    text.unwrap_or_else(|| match record.rdata.len() {
        0 => "\\# 0".to_owned(),
        len => format!("\\# {len} {}", to_hex(&record.rdata)),
    })
}

/// Returns the whole record as one line: owner, TTL, class, type, data.
#[must_use]
pub fn record_line(record: &Record) -> String {
    let class = match record.class {
        wire::CLASS_IN => "IN".to_owned(),
        3 => "CH".to_owned(),
        4 => "HS".to_owned(),
        other => format!("CLASS{other}"),
    };
    format!("{} {} {class} {} {}", record.owner, record.ttl, record.rtype, rdata_text(record))
}

fn by_shape(fields: &[Field], octets: &[u8]) -> Option<String> {
    let mut out = String::new();
    let mut rest = octets;
    for field in fields {
        let len = rdata::field_len(*field, rest)?;
        let (value, after) = rest.split_at(len);
        if !out.is_empty() && !value.is_empty() {
            out.push(' ');
        }
        put_field(*field, value, &mut out)?;
        rest = after;
    }
    rest.is_empty().then_some(out)
}

fn put_field(field: Field, value: &[u8], out: &mut String) -> Option<()> {
    match field {
        Field::U8 | Field::U16 | Field::U32 | Field::Seconds => {
            let number = value.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
            write!(out, "{number}").ok()?;
        }
        Field::A => {
            let octets: [u8; 4] = value.try_into().ok()?;
            write!(out, "{}", Ipv4Addr::from(octets)).ok()?;
        }
        Field::Aaaa => {
            let octets: [u8; 16] = value.try_into().ok()?;
            write!(out, "{}", Ipv6Addr::from(octets)).ok()?;
        }
        Field::Name => write!(out, "{}", Name::from_wire(value).ok()?).ok()?,
        Field::Text | Field::Texts => {
            let mut at = 0;
            while let Some(len) = value.get(at) {
                if at > 0 {
                    out.push(' ');
                }
                let end = at + 1 + usize::from(*len);
                push_quoted(out, value.get(at + 1..end)?);
                at = end;
            }
        }
        Field::Octets => push_quoted(out, value),
        Field::Hex => out.push_str(&to_hex(value)),
        Field::Base64 => out.push_str(&to_base64(value)),
        Field::Eui(_) => {
            let pairs: Vec<String> = value.iter().map(|byte| format!("{byte:02x}")).collect();
            out.push_str(&pairs.join("-"));
        }
    }
    Some(())
}

fn by_hickory(rtype: Rtype, octets: &[u8]) -> Option<String> {
    let kind = RecordType::from(rtype.0);
    if matches!(kind, RecordType::Unknown(_)) || rtype.is_meta() || rtype == Rtype::NULL || octets.is_empty() {
        return None;
    }
    // Foreign octets: see the same guard in rdata.rs.
    let text = std::panic::catch_unwind(|| {
        let len = Restrict::new(u16::try_from(octets.len()).ok()?);
        let mut decoder = BinDecoder::new(octets);
        RData::read(&mut decoder, kind, len).ok().map(|rdata| rdata.to_string())
    });
    // Nothing foreign may move a terminal's cursor.
    text.ok().flatten().filter(|text| !text.is_empty() && !text.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(rtype: Rtype, rdata: &[u8]) -> Record {
        Record { owner: Name::parse("x.example").unwrap(), rtype, class: 1, ttl: 60, rdata: rdata.into() }
    }

    #[test]
    fn text_reads_back_as_the_same_octets() {
        let origin = Name::root();
        for (rtype, text) in [
            ("A", "192.0.2.1"),
            ("AAAA", "2001:db8::1"),
            ("SOA", "ns.x. host.x. 1 2 3 4 5"),
            ("MX", "10 mail.x."),
            ("TXT", r#""a\"b" "\255\000" """#),
            ("SRV", "1 2 3 t."),
            ("NAPTR", r#"1 2 "s" "x" "" t."#),
            ("CAA", r#"0 "issue" "ca.example; x=y""#),
            ("DS", "1 2 3 ABCD"),
            ("DNSKEY", "256 3 5 Zm9v"),
            ("EUI64", "00-00-5e-ef-10-00-00-2a"),
            ("HTTPS", r#"1 . alpn="h2,h3" port=8443"#),
            ("TYPE65280", r"\# 2 ABCD"),
        ] {
            let rtype: Rtype = rtype.parse().unwrap();
            let wire = rdata::parse_text(rtype, text, &origin).unwrap();
            let shown = rdata_text(&record(rtype, &wire));
            assert_eq!(rdata::parse_text(rtype, &shown, &origin).unwrap(), wire, "{rtype} {shown}");
        }
    }

    #[test]
    fn data_that_lies_about_its_type_is_shown_in_generic_form() {
        assert_eq!(rdata_text(&record(Rtype::A, &[1, 2, 3])), r"\# 3 010203");
        assert_eq!(rdata_text(&record(Rtype::CNAME, &[])), r"\# 0");
    }

    #[test]
    fn a_record_is_one_line() {
        assert_eq!(record_line(&record(Rtype::A, &[192, 0, 2, 1])), "x.example. 60 IN A 192.0.2.1");
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic_or_print_controls(rtype in 0_u16..300, octets in proptest::collection::vec(any::<u8>(), 0..60)) {
            let shown = record_line(&record(Rtype(rtype), &octets));
            prop_assert!(!shown.chars().any(char::is_control));
        }
    }
}
