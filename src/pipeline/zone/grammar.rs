//! RDATA that is no row of fields, because one field says how another is written: LOC, APL, IPSECKEY, AMTRELAY, HIP.
//!
//! Each has a reader and a printer beside each other. The printer gives up (`None`) on octets that the reader would
//! not make; those are shown in RFC 3597's form.

use super::encoding::{from_base64, from_hex, to_base64, to_hex};
use super::fields::RdataError;
use super::token::Token;
use crate::dns::{Name, Rtype, name};
use std::net::{Ipv4Addr, Ipv6Addr};

type Read = Result<Vec<u8>, RdataError>;

/// Tells whether a type is read and printed here.
pub(super) fn has(rtype: Rtype) -> bool {
    matches!(rtype, Rtype::LOC | Rtype::APL | Rtype::IPSECKEY | Rtype::AMTRELAY | Rtype::HIP)
}

/// Reads the data of a type that [`has`] accepts.
pub(super) fn read(rtype: Rtype, tokens: &[Token<'_>], origin: &Name) -> Read {
    match rtype {
        Rtype::LOC => read_loc(tokens),
        Rtype::APL => read_apl(tokens),
        Rtype::IPSECKEY => read_ipseckey(tokens, origin),
        Rtype::AMTRELAY => read_amtrelay(tokens, origin),
        Rtype::HIP => read_hip(tokens, origin),
        _ => Err(RdataError::at(0, "a type with a text form")),
    }
}

/// Prints the data of a type that [`has`] accepts.
pub(super) fn print(rtype: Rtype, octets: &[u8]) -> Option<String> {
    match rtype {
        Rtype::LOC => print_loc(octets),
        Rtype::APL => print_apl(octets),
        Rtype::IPSECKEY => print_ipseckey(octets),
        Rtype::AMTRELAY => print_amtrelay(octets),
        Rtype::HIP => print_hip(octets),
        _ => None,
    }
}

// LOC, RFC 1876: version, size, horizontal and vertical precision, latitude, longitude, altitude.

/// Latitude of the equator and longitude of the prime meridian: 2^31 thousandths of an arc second.
const LOC_ZERO: i64 = 1 << 31;
/// Altitude 0 in centimetres: WGS 84 less 100,000 m.
const LOC_GROUND_CM: i64 = 10_000_000;
/// Size and precisions when they are left out, in centimetres: 1 m, 10,000 m, 10 m (RFC 1876 section 3).
const LOC_DEFAULTS_CM: [i64; 3] = [100, 1_000_000, 1_000];

fn read_loc(tokens: &[Token<'_>]) -> Read {
    let (latitude, at) = read_angle(tokens, 0, 90, ["N", "S"])?;
    let (longitude, mut at) = read_angle(tokens, at, 180, ["E", "W"])?;
    let metres = |at: usize| -> Result<Option<i64>, RdataError> {
        let Some(token) = tokens.get(at) else { return Ok(None) };
        let text = token.raw.strip_suffix(['m', 'M']).unwrap_or(token.raw);
        let number = decimal(text, 2).ok_or_else(|| RdataError::at(at, "metres, such as -24.5m"))?;
        Ok(Some(number))
    };
    let altitude = metres(at)?.ok_or_else(|| RdataError::at(at, "an altitude in metres, such as -24m"))?;
    let altitude = u32::try_from(altitude + LOC_GROUND_CM)
        .map_err(|_| RdataError::at(at, "an altitude from -100000m to 42849672.95m"))?;
    let mut out = vec![0];
    for default in LOC_DEFAULTS_CM {
        at += 1;
        let size = metres(at)?.unwrap_or(default);
        out.push(loc_size(size).ok_or_else(|| RdataError::at(at, "a size from 0m to 90000000m"))?);
    }
    if tokens.len() > at + 1 {
        return Err(RdataError::at(at + 1, "nothing more on this line"));
    }
    for number in [latitude, longitude, altitude] {
        out.extend(number.to_be_bytes());
    }
    Ok(out)
}

/// Reads `DEGREES [MINUTES [SECONDS]] N|S|E|W` and returns the token after it, too.
fn read_angle(tokens: &[Token<'_>], from: usize, most: i64, sides: [&str; 2]) -> Result<(u32, usize), RdataError> {
    let [positive, negative] = sides;
    let mut sum = 0;
    // Thousandths of an arc second in a degree, a minute and a second, and the end of the range of each.
    for (at, (unit, limit, what)) in
        (from..).zip([(3_600_000, most + 1, "degrees"), (60_000, 60, "minutes"), (1, 60_000, "seconds"), (0, 0, "")])
    {
        let token = tokens.get(at);
        let side = token.filter(|_| at > from).map(|token| token.raw.to_ascii_uppercase());
        if let Some(side) = side.filter(|side| side == positive || side == negative) {
            if sum > most * 3_600_000 {
                return Err(RdataError::at(from, format!("at most {most} degrees")));
            }
            let value = LOC_ZERO + if side == positive { sum } else { -sum };
            return u32::try_from(value).map(|value| (value, at + 1)).map_err(|_| RdataError::at(from, "an angle"));
        }
        let places = if what == "seconds" { 3 } else { 0 };
        let value = token.and_then(|token| decimal(token.raw, places)).filter(|value| (0..limit).contains(value));
        let expected =
            if at == from { format!("{what} up to {most}") } else { format!("{what}, or {positive} or {negative}") };
        let expected = expected.trim_start_matches(", or ").to_owned();
        sum += unit * value.ok_or_else(|| RdataError::at(at, expected))?;
    }
    Err(RdataError::at(from, format!("an angle that ends in {positive} or {negative}")))
}

/// Reads a decimal number with at most so many places, as a whole number of the smallest of them.
fn decimal(text: &str, places: usize) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || fraction.len() > places || !plain(whole) || !plain(fraction) {
        return None;
    }
    if digits.contains('.') && fraction.is_empty() {
        return None;
    }
    format!("{whole}{fraction:0<places$}").parse::<i64>().ok().map(|value| sign * value)
}

/// Writes centimetres as RFC 1876's mantissa and power of ten; digits that do not fit are lost, as everywhere.
fn loc_size(centimetres: i64) -> Option<u8> {
    let mut mantissa = u64::try_from(centimetres).ok()?;
    let mut power = 0_u8;
    while mantissa > 9 {
        mantissa /= 10;
        power += 1;
    }
    (power <= 9).then_some(u8::try_from(mantissa).ok()? << 4 | power)
}

fn print_loc(octets: &[u8]) -> Option<String> {
    let octets: [u8; 16] = octets.try_into().ok()?;
    let [version, sizes @ .., _, _, _, _, _, _, _, _, _, _, _, _] = octets;
    let number =
        |at: usize| i64::from(u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]));
    let angle = |at: usize, most: i64, sides: [&str; 2]| {
        let value = number(at) - LOC_ZERO;
        let side = if value < 0 { sides[1] } else { sides[0] };
        let value = value.abs();
        let (degrees, minutes, rest) = (value / 3_600_000, value / 60_000 % 60, value % 60_000);
        let text = format!("{degrees} {minutes} {}.{:03} {side}", rest / 1000, rest % 1000);
        (value <= most * 3_600_000).then_some(text)
    };
    if version != 0 {
        return None;
    }
    let mut text = format!("{} {}", angle(4, 90, ["N", "S"])?, angle(8, 180, ["E", "W"])?);
    let altitude = number(12) - LOC_GROUND_CM;
    let sign = if altitude < 0 { "-" } else { "" };
    text.push_str(&format!(" {sign}{}.{:02}m", altitude.abs() / 100, altitude.abs() % 100));
    for size in sizes {
        let (mantissa, power) = (u64::from(size >> 4), u32::from(size & 0x0f));
        // RFC 1876 section 2: digits above 9, and a power of nothing, are undefined.
        if mantissa > 9 || power > 9 || (mantissa == 0 && power > 0) {
            return None;
        }
        let centimetres = mantissa * 10_u64.pow(power);
        text.push_str(&format!(" {}.{:02}m", centimetres / 100, centimetres % 100));
    }
    Some(text)
}

// APL, RFC 3123: address prefixes, each with its family and maybe a `!`.

fn read_apl(tokens: &[Token<'_>]) -> Read {
    let mut out = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let wrong = || RdataError::at(at, "a prefix such as 1:192.0.2.0/24 or !2:2001:db8::/32");
        let (negation, text) = token.raw.strip_prefix('!').map_or((0, token.raw), |text| (0x80, text));
        let (family, text) = text.split_once(':').ok_or_else(wrong)?;
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        let (family, address) = match family {
            "1" => (1_u16, address.parse::<Ipv4Addr>().map_err(|_| wrong())?.octets().to_vec()),
            "2" => (2, address.parse::<Ipv6Addr>().map_err(|_| wrong())?.octets().to_vec()),
            _ => return Err(wrong()),
        };
        if usize::from(prefix) > address.len() * 8 {
            return Err(RdataError::at(at, format!("a prefix of at most {} bits", address.len() * 8)));
        }
        // RFC 3123 section 4: zero octets at the end are left out.
        let len = address.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
        out.extend(family.to_be_bytes());
        out.extend([prefix, negation | u8::try_from(len).map_err(|_| wrong())?]);
        out.extend_from_slice(&address[..len]);
    }
    Ok(out)
}

fn print_apl(octets: &[u8]) -> Option<String> {
    let mut items = Vec::new();
    let mut rest = octets;
    while let [0, family, prefix, len, after @ ..] = rest {
        let negation = if len & 0x80 == 0 { "" } else { "!" };
        let len = usize::from(len & 0x7f);
        let part = after.get(..len).filter(|part| part.last() != Some(&0))?;
        let mut full = [0; 16];
        full.get_mut(..len)?.copy_from_slice(part);
        let [a, b, c, d, ..] = full;
        let (address, most) = match family {
            1 if len <= 4 => (Ipv4Addr::new(a, b, c, d).to_string(), 32),
            2 => (Ipv6Addr::from(full).to_string(), 128),
            _ => return None,
        };
        if *prefix > most {
            return None;
        }
        items.push(format!("{negation}{family}:{address}/{prefix}"));
        rest = &after[len..];
    }
    rest.is_empty().then(|| items.join(" "))
}

// IPSECKEY (RFC 4025) and AMTRELAY (RFC 8777): a number says whether nothing, an address or a name follows.

fn read_number<T: std::str::FromStr>(tokens: &[Token<'_>], at: usize, expected: &str) -> Result<T, RdataError> {
    tokens.get(at).and_then(|token| token.raw.parse().ok()).ok_or_else(|| RdataError::at(at, expected))
}

/// Reads what stands for the other end; kind 0 is written as a dot.
fn read_gateway(kind: u8, tokens: &[Token<'_>], at: usize, origin: &Name) -> Read {
    let wrong = |expected: &str| RdataError::at(at, expected);
    let text = tokens.get(at).map(|token| token.raw).ok_or_else(|| wrong("a gateway"))?;
    match kind {
        0 if text == "." => Ok(Vec::new()),
        0 => Err(wrong("a dot: type 0 has none")),
        1 => text.parse::<Ipv4Addr>().map(|v4| v4.octets().to_vec()).map_err(|_| wrong("an IPv4 address")),
        2 => text.parse::<Ipv6Addr>().map(|v6| v6.octets().to_vec()).map_err(|_| wrong("an IPv6 address")),
        _ => Name::parse_relative(text, origin)
            .map(|name| name.as_wire().to_vec())
            .map_err(|error| wrong(&format!("a domain name; this one has {error}"))),
    }
}

/// Prints what [`read_gateway`] reads and returns the octets after it.
fn print_gateway(kind: u8, rest: &[u8]) -> Option<(String, &[u8])> {
    let len = match kind {
        0 => 0,
        1 => 4,
        2 => 16,
        3 => name::wire_len(rest)?,
        _ => return None,
    };
    let (octets, rest) = rest.split_at_checked(len)?;
    let text = match kind {
        0 => ".".to_owned(),
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).to_string(),
        2 => Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).to_string(),
        _ => Name::from_wire(octets).ok()?.to_string(),
    };
    Some((text, rest))
}

fn read_ipseckey(tokens: &[Token<'_>], origin: &Name) -> Read {
    let precedence: u8 = read_number(tokens, 0, "a precedence from 0 to 255")?;
    let kind = read_kind(tokens, 1)?;
    let algorithm: u8 = read_number(tokens, 2, "an algorithm from 0 to 255")?;
    let mut out = vec![precedence, kind, algorithm];
    out.extend(read_gateway(kind, tokens, 3, origin)?);
    let key: String = tokens.iter().skip(4).map(|token| token.raw).collect();
    out.extend(from_base64(&key).ok_or_else(|| RdataError::at(4, "base64"))?);
    Ok(out)
}

fn read_kind(tokens: &[Token<'_>], at: usize) -> Result<u8, RdataError> {
    let expected = "a type of gateway: 0 none, 1 IPv4, 2 IPv6, 3 a name";
    read_number(tokens, at, expected)
        .and_then(|kind: u8| if kind <= 3 { Ok(kind) } else { Err(RdataError::at(at, expected)) })
}

fn print_ipseckey(octets: &[u8]) -> Option<String> {
    let [precedence, kind, algorithm, rest @ ..] = octets else { return None };
    let (gateway, key) = print_gateway(*kind, rest)?;
    Some(format!("{precedence} {kind} {algorithm} {gateway} {}", to_base64(key)).trim_end().to_owned())
}

fn read_amtrelay(tokens: &[Token<'_>], origin: &Name) -> Read {
    let precedence: u8 = read_number(tokens, 0, "a precedence from 0 to 255")?;
    let discovery: u8 = read_number(tokens, 1, "0 or 1")?;
    let kind = read_kind(tokens, 2)?;
    if discovery > 1 {
        return Err(RdataError::at(1, "0 or 1"));
    }
    let mut out = vec![precedence, discovery << 7 | kind];
    out.extend(read_gateway(kind, tokens, 3, origin)?);
    if tokens.len() > 4 { Err(RdataError::at(4, "nothing more on this line")) } else { Ok(out) }
}

fn print_amtrelay(octets: &[u8]) -> Option<String> {
    let [precedence, kind, rest @ ..] = octets else { return None };
    let (relay, rest) = print_gateway(kind & 0x7f, rest)?;
    rest.is_empty().then(|| format!("{precedence} {} {} {relay}", kind >> 7, kind & 0x7f))
}

// HIP, RFC 8005: the lengths of two fields stand before both.

fn read_hip(tokens: &[Token<'_>], origin: &Name) -> Read {
    let algorithm: u8 = read_number(tokens, 0, "an algorithm from 0 to 255")?;
    let token = |at: usize| tokens.get(at).map(|token| token.raw);
    let tag = token(1)
        .and_then(from_hex)
        .filter(|tag| !tag.is_empty())
        .ok_or_else(|| RdataError::at(1, "a host identity tag in hexadecimal"))?;
    let tag_len = u8::try_from(tag.len()).map_err(|_| RdataError::at(1, "at most 255 octets"))?;
    let key = token(2)
        .and_then(from_base64)
        .filter(|key| !key.is_empty())
        .ok_or_else(|| RdataError::at(2, "a public key in base64"))?;
    let key_len = u16::try_from(key.len()).map_err(|_| RdataError::at(2, "at most 65535 octets"))?;
    let mut out = vec![tag_len, algorithm];
    out.extend(key_len.to_be_bytes());
    out.extend(tag);
    out.extend(key);
    for (at, token) in tokens.iter().enumerate().skip(3) {
        let name = Name::parse_relative(token.raw, origin)
            .map_err(|error| RdataError::at(at, format!("a domain name; this one has {error}")))?;
        out.extend_from_slice(name.as_wire());
    }
    Ok(out)
}

fn print_hip(octets: &[u8]) -> Option<String> {
    let [tag_len, algorithm, high, low, rest @ ..] = octets else { return None };
    let (tag, rest) = rest.split_at_checked(usize::from(*tag_len))?;
    let (key, mut rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
    if tag.is_empty() || key.is_empty() {
        return None;
    }
    let mut text = format!("{algorithm} {} {}", to_hex(tag), to_base64(key));
    while !rest.is_empty() {
        let (owner, after) = rest.split_at_checked(name::wire_len(rest)?)?;
        text.push_str(&format!(" {}", Name::from_wire(owner).ok()?));
        rest = after;
    }
    Some(text)
}
