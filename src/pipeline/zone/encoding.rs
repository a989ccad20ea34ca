//! Small pieces of text in records: durations, dates, character-strings, hexadecimal, base32, base64.

use data_encoding::{BASE32HEX_NOPAD, BASE64, BASE64_MIME_PERMISSIVE, HEXUPPER, HEXUPPER_PERMISSIVE};
use std::time::{Duration, UNIX_EPOCH};

/// Digits of a date: `YYYYMMDDHHmmSS` (RFC 4034 section 3.2).
const DATE_DIGITS: usize = 14;

/// Reads a duration as master files write it: `3600`, `1h30m` (RFC 1035 knows only seconds; every server reads units).
pub(super) fn seconds(text: &str) -> Option<u32> {
    hickory_proto::serialize::txt::parse_ttl(text).ok()
}

/// Reads a date of a signature: `YYYYMMDDHHmmSS` in UTC, or seconds since 1970 (RFC 4034 section 3.2). Years after
/// 2106 wrap, as serial numbers do.
pub(super) fn date(text: &str) -> Option<u32> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if text.len() != DATE_DIGITS {
        return text.parse().ok();
    }
    let part = |from: usize, to: usize| &text[from..to];
    let [year, month, day] = [part(0, 4), part(4, 6), part(6, 8)];
    let [hour, minute, second] = [part(8, 10), part(10, 12), part(12, 14)];
    let time = humantime::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")).ok()?;
    let since = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    u32::try_from(since & u64::from(u32::MAX)).ok()
}

/// Writes the date of a signature as `YYYYMMDDHHmmSS`.
pub(super) fn date_text(seconds: u32) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(u64::from(seconds));
    humantime::format_rfc3339_seconds(time).to_string().chars().filter(char::is_ascii_digit).collect()
}

/// Turns `\X` and `\DDD` of a master file (RFC 1035 section 5.1) into octets; `None` when an escape is bad.
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let first = bytes.next()?;
        if !first.is_ascii_digit() {
            out.push(first);
            continue;
        }
        let mut value = u16::from(first - b'0');
        for _ in 0..2 {
            let digit = bytes.next().filter(u8::is_ascii_digit)?;
            value = value * 10 + u16::from(digit - b'0');
        }
        out.push(u8::try_from(value).ok()?);
    }
    Some(out)
}

/// Appends octets as a quoted character-string, escaped so that it reads back as the same octets.
pub(super) fn push_quoted(out: &mut String, octets: &[u8]) {
    out.push('"');
    for &byte in octets {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            0x20..=0x7e => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\{byte:03}")),
        }
    }
    out.push('"');
}

/// Reads hexadecimal digits; `None` for anything else or an odd number of them.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    HEXUPPER_PERMISSIVE.decode(text.as_bytes()).ok()
}

/// Writes octets as upper-case hexadecimal digits, as RFC 4034 section 5.3 prints digests.
pub(super) fn to_hex(octets: &[u8]) -> String {
    HEXUPPER.encode(octets)
}

/// Reads padded base64; `None` for anything else. Bits after the last octet may be anything: keys that were cut by hand
/// are in use.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    BASE64_MIME_PERMISSIVE.decode(text.as_bytes()).ok()
}

/// Writes octets as padded base64.
pub(super) fn to_base64(octets: &[u8]) -> String {
    BASE64.encode(octets)
}

/// Reads base32 with the extended alphabet, without padding, in any letter case (RFC 5155 section 3.3).
pub(super) fn from_base32(text: &str) -> Option<Vec<u8>> {
    BASE32HEX_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()
}

/// Writes octets as base32 with the extended alphabet, without padding.
pub(super) fn to_base32(octets: &[u8]) -> String {
    BASE32HEX_NOPAD.encode(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_are_octets_not_characters() {
        assert_eq!(unescape(r"a\.b\255\000").unwrap(), b"a.b\xff\0");
        assert_eq!(unescape(r"\256"), None);
        assert_eq!(unescape(r"\1"), None);
        assert_eq!(unescape("\\"), None);
    }

    #[test]
    fn base64_vectors_of_rfc_4648_hold() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(to_base64(plain.as_bytes()), coded);
            assert_eq!(from_base64(coded).unwrap(), plain.as_bytes());
        }
        for bad in ["Zg=", "Z===", "Z*==", "Zg"] {
            assert_eq!(from_base64(bad), None, "{bad}");
        }
    }

    #[test]
    fn dates_are_utc_and_nothing_else() {
        assert_eq!(date("20030322173103"), Some(1_048_354_263));
        assert_eq!(date("1048354263"), Some(1_048_354_263));
        assert_eq!(date_text(1_048_354_263), "20030322173103");
        assert_eq!(date_text(u32::MAX), "21060207062815");
        for bad in ["20031322173103", "2003032217310", "2003-03-22", "", "4294967296", "19691231235959"] {
            assert_eq!(date(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn octets_survive_every_text_form(octets in proptest::collection::vec(any::<u8>(), 0..80), when in any::<u32>()) {
            prop_assert_eq!(from_base64(&to_base64(&octets)).unwrap(), octets.clone());
            prop_assert_eq!(from_base32(&to_base32(&octets).to_lowercase()).unwrap(), octets.clone());
            prop_assert_eq!(from_hex(&to_hex(&octets)).unwrap(), octets.clone());
            prop_assert_eq!(date(&date_text(when)), Some(when));
            let mut quoted = String::new();
            push_quoted(&mut quoted, &octets);
            prop_assert_eq!(unescape(&quoted[1..quoted.len() - 1]).unwrap(), octets);
        }
    }
}
