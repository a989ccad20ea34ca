//! RDATA from text to wire form.
//!
//! Most types are a row of [`shape`]: a list of fields, read here and printed by `presentation.rs` by the same table.
//! What has a grammar of its own (SVCB, HTTPS, CERT, CSYNC) is read by hickory-proto. hickory's text parser is not
//! used for the others because it takes no origin for relative names, reads `\DDD` as something else than a decimal
//! octet, and knows neither DNAME nor DS (docs/decisions/0001-zone-store.md).

use super::encoding::{from_base64, from_hex, seconds, unescape};
use super::token::Token;
use crate::dns::{Name, Rtype, wire};
use hickory_proto::rr::{RData, RecordType};
use hickory_proto::serialize::binary::BinEncodable;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Octets of RDATA: its length is 16 bits (RFC 1035 section 3.2.1).
const MAX_RDATA_BYTES: usize = 65_535;
/// Octets of a character-string (RFC 1035 section 3.3).
const MAX_STRING_BYTES: usize = 255;

/// One field of RDATA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// 8 bits.
    U8,
    /// 16 bits.
    U16,
    /// 32 bits.
    U32,
    /// 32 bits of seconds; units may be written.
    Seconds,
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// A domain name.
    Name,
    /// One character-string.
    Text,
    /// One or more character-strings.
    Texts,
    /// All octets left, as one string without a length.
    Octets,
    /// All octets left, in hexadecimal.
    Hex,
    /// All octets left, in base64.
    Base64,
    /// So many octets as `xx-xx-…` (RFC 7043).
    Eui(u8),
}

/// Returns the fields of a type; `None` when it has no row here.
pub(super) fn shape(rtype: Rtype) -> Option<&'static [Field]> {
    use Field::{A, Aaaa, Base64, Eui, Hex, Octets, Seconds, Text, Texts, U8, U16, U32};
    const NAME: Field = Field::Name;
    Some(match rtype {
        Rtype::A => &[A],
        Rtype::AAAA => &[Aaaa],
        Rtype::NS
        | Rtype::MD
        | Rtype::MF
        | Rtype::CNAME
        | Rtype::MB
        | Rtype::MG
        | Rtype::MR
        | Rtype::PTR
        | Rtype::DNAME => &[NAME],
        Rtype::SOA => &[NAME, NAME, U32, Seconds, Seconds, Seconds, Seconds],
        Rtype::MX | Rtype::AFSDB | Rtype::RT | Rtype::KX => &[U16, NAME],
        Rtype::PX => &[U16, NAME, NAME],
        Rtype::RP | Rtype::MINFO => &[NAME, NAME],
        Rtype::TXT | Rtype::SPF | Rtype::RESINFO | Rtype::ISDN => &[Texts],
        Rtype::HINFO => &[Text, Text],
        Rtype::X25 => &[Text],
        Rtype::SRV => &[U16, U16, U16, NAME],
        Rtype::NAPTR => &[U16, U16, Text, Text, Text, NAME],
        Rtype::CAA => &[U8, Text, Octets],
        Rtype::URI => &[U16, U16, Octets],
        Rtype::DS | Rtype::CDS => &[U16, U8, U8, Hex],
        Rtype::DNSKEY | Rtype::CDNSKEY | Rtype::KEY => &[U16, U8, U8, Base64],
        Rtype::TLSA | Rtype::SMIMEA => &[U8, U8, U8, Hex],
        Rtype::SSHFP => &[U8, U8, Hex],
        Rtype::ZONEMD => &[U32, U8, U8, Hex],
        Rtype::OPENPGPKEY | Rtype::DHCID => &[Base64],
        Rtype::EUI48 => &[Eui(6)],
        Rtype::EUI64 => &[Eui(8)],
        _ => return None,
    })
}

/// Why text is not RDATA of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RdataError {
    /// Index of the token at fault; the number of tokens when one is missing.
    pub(super) token: usize,
    /// What should stand there.
    pub(super) expected: String,
    /// What to do.
    pub(super) hint: Option<String>,
}

impl RdataError {
    fn at(token: usize, expected: impl Into<String>) -> Self {
        Self { token, expected: expected.into(), hint: None }
    }
}

/// Reads RDATA; names without a last dot are relative to `origin`.
pub(super) fn parse(rtype: Rtype, tokens: &[Token<'_>], origin: &Name) -> Result<Box<[u8]>, RdataError> {
    let wire = if tokens.first().is_some_and(|first| !first.quoted && first.raw == "\\#") {
        generic(rtype, tokens)?
    } else if let Some(fields) = shape(rtype) {
        by_shape(fields, tokens, origin)?
    } else {
        by_hickory(rtype, tokens, origin)?
    };
    if wire.len() > MAX_RDATA_BYTES {
        return Err(RdataError::at(0, "at most 65535 octets of data"));
    }
    Ok(wire.into())
}

/// Tells whether RDATA has the shape of its type; true for types without a row.
pub(super) fn fits_shape(rtype: Rtype, rdata: &[u8]) -> bool {
    let Some(fields) = shape(rtype) else { return true };
    let mut rest = rdata;
    for field in fields {
        let Some(len) = field_len(*field, rest) else { return false };
        rest = &rest[len..];
    }
    rest.is_empty()
}

/// Returns how many octets a field takes at the start of `rest`.
pub(super) fn field_len(field: Field, rest: &[u8]) -> Option<usize> {
    let len = match field {
        Field::U8 => 1,
        Field::U16 => 2,
        Field::U32 | Field::Seconds | Field::A => 4,
        Field::Aaaa => 16,
        Field::Name => crate::dns::name::wire_len(rest)?,
        Field::Text => 1 + usize::from(*rest.first()?),
        Field::Texts => {
            let mut at = 0;
            loop {
                at += 1 + usize::from(*rest.get(at)?);
                if at >= rest.len() {
                    break at;
                }
            }
        }
        Field::Octets | Field::Hex | Field::Base64 => rest.len(),
        Field::Eui(octets) => usize::from(octets),
    };
    (len <= rest.len()).then_some(len)
}

/// Reads `\# LENGTH HEX…` (RFC 3597 section 5).
fn generic(rtype: Rtype, tokens: &[Token<'_>]) -> Result<Vec<u8>, RdataError> {
    let len: usize = tokens
        .get(1)
        .and_then(|token| token.raw.parse().ok())
        .ok_or_else(|| RdataError::at(1, "the number of octets after \\#"))?;
    let digits: String = tokens[2..].iter().map(|token| token.raw).collect();
    let octets = from_hex(&digits).ok_or_else(|| RdataError::at(2, "pairs of hexadecimal digits"))?;
    if octets.len() != len {
        return Err(RdataError::at(1, format!("{}, the number of octets that follow", octets.len())));
    }
    if !fits_shape(rtype, &octets) {
        return Err(RdataError::at(2, format!("octets that are the data of a {rtype} record")));
    }
    Ok(octets)
}

fn by_shape(fields: &[Field], tokens: &[Token<'_>], origin: &Name) -> Result<Vec<u8>, RdataError> {
    let mut out = Vec::with_capacity(16);
    let mut at = 0;
    for field in fields {
        let Some(token) = tokens.get(at) else {
            return Err(RdataError::at(at, format!("{} more", describe(*field))));
        };
        if *field == Field::Texts {
            for (offset, token) in tokens[at..].iter().enumerate() {
                put_text(token, at + offset, &mut out)?;
            }
            at = tokens.len();
        } else if matches!(field, Field::Hex | Field::Base64) {
            let all: String = tokens[at..].iter().map(|token| token.raw).collect();
            let octets = if *field == Field::Hex { from_hex(&all) } else { from_base64(&all) };
            out.extend(octets.ok_or_else(|| RdataError::at(at, describe(*field)))?);
            at = tokens.len();
        } else {
            put_field(*field, token, at, origin, &mut out)?;
            at += 1;
        }
    }
    match tokens.get(at) {
        Some(_) => Err(RdataError::at(at, "nothing more on this line")),
        None => Ok(out),
    }
}

fn put_field(field: Field, token: &Token<'_>, at: usize, origin: &Name, out: &mut Vec<u8>) -> Result<(), RdataError> {
    let wrong = || RdataError::at(at, describe(field));
    let text = token.raw;
    match field {
        Field::U8 => out.push(text.parse().map_err(|_| wrong())?),
        Field::U16 => out.extend(text.parse::<u16>().map_err(|_| wrong())?.to_be_bytes()),
        Field::U32 => out.extend(text.parse::<u32>().map_err(|_| wrong())?.to_be_bytes()),
        Field::Seconds => out.extend(seconds(text).ok_or_else(wrong)?.to_be_bytes()),
        Field::A => out.extend(text.parse::<Ipv4Addr>().map_err(|_| wrong())?.octets()),
        Field::Aaaa => out.extend(text.parse::<Ipv6Addr>().map_err(|_| wrong())?.octets()),
        Field::Name => {
            let name = Name::parse_relative(text, origin)
                .map_err(|error| RdataError::at(at, format!("a domain name; this one has {error}")))?;
            out.extend_from_slice(name.as_wire());
        }
        Field::Text => put_text(token, at, out)?,
        Field::Octets => out.extend(unescape(text).ok_or_else(wrong)?),
        Field::Eui(octets) => {
            let pairs: Vec<&str> = text.split('-').collect();
            if pairs.len() != usize::from(octets) || pairs.iter().any(|pair| pair.len() != 2) {
                return Err(wrong());
            }
            out.extend(from_hex(&pairs.concat()).ok_or_else(wrong)?);
        }
        Field::Texts | Field::Hex | Field::Base64 => return Err(wrong()),
    }
    Ok(())
}

fn put_text(token: &Token<'_>, at: usize, out: &mut Vec<u8>) -> Result<(), RdataError> {
    let octets = unescape(token.raw).ok_or_else(|| RdataError::at(at, "escapes as \\X or \\DDD up to \\255"))?;
    if octets.len() > MAX_STRING_BYTES {
        let mut error = RdataError::at(at, "a string of at most 255 octets");
        error.hint = Some("split it into several strings: \"first part\" \"second part\"".to_owned());
        return Err(error);
    }
    out.push(u8::try_from(octets.len()).unwrap_or(u8::MAX));
    out.extend(octets);
    Ok(())
}

fn describe(field: Field) -> &'static str {
    match field {
        Field::U8 => "a number from 0 to 255",
        Field::U16 => "a number from 0 to 65535",
        Field::U32 => "a number from 0 to 4294967295",
        Field::Seconds => "seconds, or a duration such as 1h30m",
        Field::A => "an IPv4 address such as 192.0.2.1",
        Field::Aaaa => "an IPv6 address such as 2001:db8::1",
        Field::Name => "a domain name",
        Field::Text | Field::Texts | Field::Octets => "a string, in quotes when it holds blanks",
        Field::Hex => "pairs of hexadecimal digits",
        Field::Base64 => "base64",
        Field::Eui(6) => "an address such as 00-00-5e-00-53-2a",
        Field::Eui(_) => "an address such as 00-00-5e-ef-10-00-00-2a",
    }
}

/// Reads a type whose grammar hickory-proto knows.
fn by_hickory(rtype: Rtype, tokens: &[Token<'_>], origin: &Name) -> Result<Vec<u8>, RdataError> {
    if !matches!(rtype, Rtype::SVCB | Rtype::HTTPS | Rtype::CERT | Rtype::CSYNC) {
        let mut error = RdataError::at(0, format!("\\# LENGTH HEX (RFC 3597): {rtype} has no text form here"));
        error.hint = Some("for example: \\# 4 C0000201".to_owned());
        return Err(error);
    }
    let mut text = String::new();
    for (at, token) in tokens.iter().enumerate() {
        if at == 1 && matches!(rtype, Rtype::SVCB | Rtype::HTTPS) {
            let target = Name::parse_relative(token.raw, origin)
                .map_err(|error| RdataError::at(1, format!("a domain name; this one has {error}")))?;
            text.push_str(&target.to_string());
        } else if token.quoted || token.raw.starts_with(['@', '$']) {
            text.push_str(&format!("\"{}\"", token.raw));
        } else {
            text.push_str(token.raw);
        }
        text.push(' ');
    }
    // hickory's parsers have panicked on hostile text (CVE-2026-123572, CVE-2026-123574): a bad line of a zone must
    // stay a bad line.
    let read = std::panic::catch_unwind(|| {
        RData::try_from_str(RecordType::from(rtype.0), &text)
            .map_err(|error| error.to_string())
            .and_then(|rdata| rdata.to_bytes().map_err(|error| error.to_string()))
    });
    match read {
        Ok(Ok(wire)) => Ok(wire),
        Ok(Err(error)) => Err(RdataError::at(0, format!("the data of a {rtype} record ({error})"))),
        Err(_) => Err(RdataError::at(0, format!("the data of a {rtype} record"))),
    }
}

/// Reads RDATA written as one text, as in TOML.
pub(super) fn parse_text(rtype: Rtype, text: &str, origin: &Name) -> Result<Box<[u8]>, RdataError> {
    let mut entries = super::token::Entries::new(text);
    let mut entry = super::token::Entry::default();
    match entries.next_into(&mut entry) {
        Some(Ok(())) => {}
        Some(Err(error)) => return Err(RdataError::at(0, error.expected)),
        None => return Err(RdataError::at(0, "the record's data")),
    }
    let tokens = std::mem::take(&mut entry.tokens);
    let wire = parse(rtype, &tokens, origin)?;
    if entries.next_into(&mut entry).is_some() {
        return Err(RdataError::at(tokens.len(), "one line of data"));
    }
    Ok(wire)
}

/// Class IN as the record's class.
pub(super) const CLASS_IN: u16 = wire::CLASS_IN;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rtype: &str, text: &str) -> Result<Box<[u8]>, RdataError> {
        parse_text(rtype.parse().unwrap(), text, &Name::parse("lab.example").unwrap())
    }

    #[test]
    fn relative_names_get_the_origin() {
        assert_eq!(&*read("MX", "10 mail").unwrap(), b"\0\x0a\x04mail\x03lab\x07example\0");
        assert_eq!(&*read("CNAME", "@").unwrap(), b"\x03lab\x07example\0");
        assert_eq!(&*read("DNAME", "x.").unwrap(), b"\x01x\0");
    }

    #[test]
    fn strings_keep_their_octets() {
        assert_eq!(&*read("TXT", r#""a;b" c\044\255 """#).unwrap(), b"\x03a;b\x03c,\xff\0");
        assert_eq!(read("TXT", &"a".repeat(256)).unwrap_err().expected, "a string of at most 255 octets");
    }

    #[test]
    fn generic_form_works_for_known_and_unknown_types() {
        assert_eq!(&*read("TYPE65280", r"\# 3 ab CD 01").unwrap(), b"\xab\xcd\x01");
        assert_eq!(&*read("A", r"\# 4 0A000001").unwrap(), b"\x0a\0\0\x01");
        assert!(read("A", r"\# 3 0A0000").is_err());
        assert_eq!(read("TYPE65280", r"\# 4 ab").unwrap_err().token, 1);
        assert_eq!(&*read("TYPE65280", r"\# 0").unwrap(), b"");
    }

    #[test]
    fn service_bindings_are_read_with_relative_targets() {
        let wire = read("HTTPS", r#"1 web alpn="h2,h3" port=8443 ipv4hint=192.0.2.1"#).unwrap();
        assert!(wire.starts_with(b"\0\x01\x03web\x03lab\x07example\0\0\x01"));
        assert_eq!(&*read("HTTPS", "0 .").unwrap(), b"\0\0\0");
    }

    #[test]
    fn faults_name_the_token() {
        let error = read("SRV", "0 0 x ldap").unwrap_err();
        assert_eq!((error.token, error.expected.as_str()), (2, "a number from 0 to 65535"));
        assert_eq!(read("A", "192.0.2.1 extra").unwrap_err().token, 1);
        assert_eq!(read("SRV", "0 0").unwrap_err().token, 2);
        assert!(read("LOC", "1 2 3").unwrap_err().hint.is_some());
    }

    #[test]
    fn keys_digests_and_addresses_are_read() {
        assert_eq!(&*read("DS", "60485 5 1 2BB1 83AF").unwrap(), b"\xec\x45\x05\x01\x2b\xb1\x83\xaf");
        assert_eq!(&*read("DNSKEY", "256 3 5 Zm 9v").unwrap(), b"\x01\0\x03\x05foo");
        assert_eq!(&*read("EUI48", "00-00-5e-00-53-2a").unwrap(), b"\0\0\x5e\0\x53\x2a");
        assert_eq!(&*read("CAA", r#"0 issue "ca.example""#).unwrap(), b"\0\x05issueca.example");
    }
}
