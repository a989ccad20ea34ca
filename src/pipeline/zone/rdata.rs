//! RDATA from text to wire form.
//!
//! Most types are a row of `fields.rs`, read here and printed by `presentation.rs` by the same table; the rest have a
//! grammar of their own (`grammar.rs`, `service.rs`). hickory-proto's text parser is not used because it takes no origin
//! for relative names, reads `\DDD` as something else than a decimal octet, says not which word is wrong, and lacks half
//! of the types (docs/decisions/0001-zone-store.md).

use super::encoding::{date, from_base32, from_base64, from_hex, seconds, unescape};
use super::fields::{self, Field, RdataError};
use super::token::Token;
use super::{grammar, service};
use crate::dns::{Name, Rtype, wire};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Octets of RDATA: its length is 16 bits (RFC 1035 section 3.2.1).
const MAX_RDATA_BYTES: usize = 65_535;
/// Octets of a character-string (RFC 1035 section 3.3).
const MAX_STRING_BYTES: usize = 255;

/// Reads RDATA; names without a last dot are relative to `origin`.
pub(super) fn parse(rtype: Rtype, tokens: &[Token<'_>], origin: &Name) -> Result<Box<[u8]>, RdataError> {
    let wire = if tokens.first().is_some_and(|first| !first.quoted && first.raw == "\\#") {
        generic(rtype, tokens)?
    } else if let Some(fields) = fields::shape(rtype) {
        by_shape(fields, tokens, origin)?
    } else if grammar::has(rtype) {
        grammar::read(rtype, tokens, origin)?
    } else if service::has(rtype) {
        service::read(tokens, origin)?
    } else {
        let mut error = RdataError::at(0, format!("\\# LENGTH HEX (RFC 3597): {rtype} has no text form here"));
        error.hint = Some("for example: \\# 4 C0000201".to_owned());
        return Err(error);
    };
    if wire.len() > MAX_RDATA_BYTES {
        return Err(RdataError::at(0, "at most 65535 octets of data"));
    }
    Ok(wire.into())
}

/// Tells whether RDATA is what its type says; true for types that nothing is known of.
fn fits(rtype: Rtype, rdata: &[u8]) -> bool {
    match fields::shape(rtype) {
        Some(fields) => fields::fit(fields, rdata),
        None if grammar::has(rtype) => grammar::print(rtype, rdata).is_some(),
        None => !service::has(rtype) || service::print(rdata).is_some(),
    }
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
    if !fits(rtype, &octets) {
        return Err(RdataError::at(2, format!("octets that are the data of a {rtype} record")));
    }
    Ok(octets)
}

fn by_shape(fields: &[Field], tokens: &[Token<'_>], origin: &Name) -> Result<Vec<u8>, RdataError> {
    let mut out = Vec::with_capacity(16);
    let mut at = 0;
    for field in fields {
        if *field == Field::Types {
            put_types(tokens.get(at..).unwrap_or_default(), at, &mut out)?;
            at = at.max(tokens.len());
            continue;
        }
        let Some(token) = tokens.get(at) else {
            return Err(RdataError::at(at, format!("{} after this", describe(*field))));
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
        Field::Date => out.extend(date(text).ok_or_else(wrong)?.to_be_bytes()),
        Field::Algorithm => out.push(numbered(text, fields::ALGORITHMS).ok_or_else(wrong)?),
        Field::Certificate => out.extend(numbered(text, fields::CERTIFICATES).ok_or_else(wrong)?.to_be_bytes()),
        Field::Type => out.extend(rtype_or_number(text).ok_or_else(wrong)?.to_be_bytes()),
        Field::A => out.extend(text.parse::<Ipv4Addr>().map_err(|_| wrong())?.octets()),
        Field::Aaaa => out.extend(text.parse::<Ipv6Addr>().map_err(|_| wrong())?.octets()),
        Field::Name => {
            let name = Name::parse_relative(text, origin)
                .map_err(|error| RdataError::at(at, format!("a domain name; this one has {error}")))?;
            out.extend_from_slice(name.as_wire());
        }
        Field::Text => put_text(token, at, out)?,
        Field::Octets => out.extend(unescape(text).ok_or_else(wrong)?),
        Field::Salt if text == "-" => out.push(0),
        Field::Salt => put_counted(&from_hex(text).ok_or_else(wrong)?, out).ok_or_else(wrong)?,
        Field::Hash => put_counted(&from_base32(text).ok_or_else(wrong)?, out).ok_or_else(wrong)?,
        Field::Locator => {
            let groups: Vec<&str> = text.split(':').collect();
            let group = |text: &&str| u16::from_str_radix(text, 16).ok().filter(|_| (1..=4).contains(&text.len()));
            let numbers: Vec<u16> = groups.iter().filter_map(group).collect();
            if groups.len() != 4 || numbers.len() != 4 {
                return Err(wrong());
            }
            out.extend(numbers.into_iter().flat_map(u16::to_be_bytes));
        }
        Field::Eui(octets) => {
            let pairs: Vec<&str> = text.split('-').collect();
            if pairs.len() != usize::from(octets) || pairs.iter().any(|pair| pair.len() != 2) {
                return Err(wrong());
            }
            out.extend(from_hex(&pairs.concat()).ok_or_else(wrong)?);
        }
        Field::Texts | Field::Types | Field::Hex | Field::Base64 => return Err(wrong()),
    }
    Ok(())
}

/// Appends octets with their number before them; `None` when they are none or too many.
fn put_counted(octets: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.push(u8::try_from(octets.len()).ok().filter(|len| *len > 0)?);
    out.extend_from_slice(octets);
    Some(())
}

fn put_types(tokens: &[Token<'_>], first: usize, out: &mut Vec<u8>) -> Result<(), RdataError> {
    let mut types = Vec::with_capacity(tokens.len());
    for (offset, token) in tokens.iter().enumerate() {
        let rtype = token.raw.parse::<Rtype>();
        types.push(rtype.map_err(|_| RdataError::at(first + offset, describe(Field::Types)))?);
    }
    out.extend(fields::bitmap_of(&types));
    Ok(())
}

/// Reads a number or a mnemonic of it.
fn numbered<T: Copy + std::str::FromStr>(text: &str, known: &[(T, &str)]) -> Option<T> {
    let of_mnemonic =
        || known.iter().find(|(_, mnemonic)| mnemonic.eq_ignore_ascii_case(text)).map(|(number, _)| *number);
    text.parse().ok().or_else(of_mnemonic)
}

/// Reads a type as a mnemonic or a plain number, as signatures may have it.
fn rtype_or_number(text: &str) -> Option<u16> {
    text.parse::<Rtype>().map(|rtype| rtype.0).ok().or_else(|| text.parse().ok())
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
        Field::Date => "a date as YYYYMMDDHHmmSS, or seconds since 1970",
        Field::Type => "a record type such as AAAA",
        Field::Algorithm => "an algorithm, such as 13 or ECDSAP256SHA256",
        Field::Certificate => "a type of certificate, such as 1 or PKIX",
        Field::Types => "record types such as A MX TYPE1234",
        Field::Salt => "pairs of hexadecimal digits, or - for none",
        Field::Hash => "a hash in base32 with the extended alphabet",
        Field::Locator => "64 bits as in 2001:db8:1:2",
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
    fn what_parameters_demand_of_each_other_is_checked() {
        for (text, token) in [
            ("1", 1),
            ("x .", 0),
            ("0 web alpn=h2", 2),
            ("1 . no-default-alpn", 2),
            ("1 . port=1 port=2", 3),
            ("1 . port=65536", 2),
            ("1 . mandatory=port", 2),
            ("1 . mandatory=mandatory", 2),
            ("1 . alpn", 2),
            ("1 . alpn=", 2),
            (r"1 . alpn=a\\b", 2),
            ("1 . ohttp=1", 2),
            ("1 . ipv4hint=::1", 2),
            ("1 . dohpath=dns", 2),
            ("1 . key65535=x", 2),
            ("1 . key01=x", 2),
        ] {
            assert_eq!(read("HTTPS", text).map_err(|error| error.token), Err(token), "{text}");
        }
        assert_eq!(read("SVCB", "1 . aplm=h2").unwrap_err().hint.as_deref(), Some("did you mean alpn?"));
        assert!(read("HTTPS", r"\# 4 00010000").is_err());
    }

    #[test]
    fn faults_name_the_token() {
        let error = read("SRV", "0 0 x ldap").unwrap_err();
        assert_eq!((error.token, error.expected.as_str()), (2, "a number from 0 to 65535"));
        assert_eq!(read("A", "192.0.2.1 extra").unwrap_err().token, 1);
        assert_eq!(read("SRV", "0 0").unwrap_err().token, 2);
        assert!(read("NULL", "1 2 3").unwrap_err().hint.is_some());
    }

    #[test]
    fn keys_digests_and_addresses_are_read() {
        assert_eq!(&*read("DS", "60485 5 1 2BB1 83AF").unwrap(), b"\xec\x45\x05\x01\x2b\xb1\x83\xaf");
        assert_eq!(&*read("DNSKEY", "256 3 5 Zm 9v").unwrap(), b"\x01\0\x03\x05foo");
        assert_eq!(&*read("EUI48", "00-00-5e-00-53-2a").unwrap(), b"\0\0\x5e\0\x53\x2a");
        assert_eq!(&*read("CAA", r#"0 issue "ca.example""#).unwrap(), b"\0\x05issueca.example");
    }
}
