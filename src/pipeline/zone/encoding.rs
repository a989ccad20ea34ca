//! Small pieces of text in records: durations, character-strings, hexadecimal, base64.

/// The alphabet of base64 (RFC 4648 section 4).
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Reads a duration as master files write it: `3600`, `1h30m` (RFC 1035 knows only seconds; every server reads units).
pub(super) fn seconds(text: &str) -> Option<u32> {
    hickory_proto::serialize::txt::parse_ttl(text).ok()
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
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// Writes octets as upper-case hexadecimal digits, as RFC 4034 section 5.3 prints digests.
pub(super) fn to_hex(octets: &[u8]) -> String {
    octets.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Reads padded base64; `None` for anything else.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(4) {
        return None;
    }
    let padding = bytes.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
    let mut out = Vec::with_capacity(bytes.len() / 4 * 3);
    let digits = &bytes[..bytes.len() - padding];
    for chunk in digits.chunks(4) {
        let mut bits = 0_u32;
        for byte in chunk {
            let value = BASE64.iter().position(|digit| digit == byte)?;
            bits = bits << 6 | u32::try_from(value).ok()?;
        }
        bits <<= 6 * (4 - chunk.len());
        let octets = bits.to_be_bytes();
        out.extend_from_slice(&octets[1..chunk.len()]);
    }
    Some(out)
}

/// Writes octets as padded base64.
pub(super) fn to_base64(octets: &[u8]) -> String {
    let mut out = String::with_capacity(octets.len().div_ceil(3) * 4);
    for chunk in octets.chunks(3) {
        let mut bits = 0_u32;
        for at in 0..3 {
            bits = bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0));
        }
        for at in 0..4_usize {
            if at > chunk.len() {
                out.push('=');
            } else {
                let index = usize::try_from(bits >> (18 - 6 * at) & 0x3f).unwrap_or(0);
                out.push(char::from(BASE64[index]));
            }
        }
    }
    out
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
        assert_eq!(from_base64("Zg="), None);
        assert_eq!(from_base64("Z==="), None);
        assert_eq!(from_base64("Z*=="), None);
    }

    proptest! {
        #[test]
        fn octets_survive_every_text_form(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(from_base64(&to_base64(&octets)).unwrap(), octets.clone());
            prop_assert_eq!(from_hex(&to_hex(&octets)).unwrap(), octets.clone());
            let mut quoted = String::new();
            push_quoted(&mut quoted, &octets);
            prop_assert_eq!(unescape(&quoted[1..quoted.len() - 1]).unwrap(), octets);
        }
    }
}
