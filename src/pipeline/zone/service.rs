//! RDATA of SVCB and HTTPS (RFC 9460): priority, target, parameters.
//!
//! Not hickory-proto's: of the vectors in RFC 9460 appendix D it reads three as other octets, and it knows neither
//! `dohpath` nor `ohttp` (docs/decisions/0001-zone-store.md).

use super::encoding::{from_base64, push_quoted, to_base64, unescape};
use super::fields::RdataError;
use super::slips;
use super::token::Token;
use crate::dns::{Name, Rtype, name};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Mnemonics of parameters, by number (the IANA registry of service parameter keys).
const KEYS: &[&str] =
    &["mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint", "dohpath", "ohttp"];
const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const IPV4HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6HINT: u16 = 6;
const DOHPATH: u16 = 7;
const OHTTP: u16 = 8;
/// Stands for a key that is never used (RFC 9460 section 14.3.2).
const INVALID: u16 = u16::MAX;

/// Tells whether a type is read and printed here.
pub(super) fn has(rtype: Rtype) -> bool {
    matches!(rtype, Rtype::SVCB | Rtype::HTTPS)
}

/// Reads priority, target and parameters.
pub(super) fn read(tokens: &[Token<'_>], origin: &Name) -> Result<Vec<u8>, RdataError> {
    let number = tokens.first().and_then(|token| token.raw.parse::<u16>().ok());
    let priority = number.ok_or_else(|| RdataError::at(0, "a priority from 0 to 65535"))?;
    let target = tokens.get(1).ok_or_else(|| RdataError::at(1, "a target; a dot means the name itself"))?;
    let target = Name::parse_relative(target.raw, origin)
        .map_err(|error| RdataError::at(1, format!("a domain name; this one has {error}")))?;
    let mut parameters: BTreeMap<u16, (usize, Vec<u8>)> = BTreeMap::new();
    for (at, token) in tokens.iter().enumerate().skip(2) {
        if priority == 0 {
            return Err(RdataError::at(at, "no parameters: priority 0 makes it an alias (RFC 9460 section 2.4.2)"));
        }
        let (word, value) = token.raw.split_once('=').map_or((token.raw, None), |(key, value)| (key, Some(value)));
        let key = key_of(word).ok_or_else(|| unknown_key(at, word))?;
        let octets = value_octets(key, value).map_err(|expected| RdataError::at(at, expected))?;
        if parameters.insert(key, (at, octets)).is_some() {
            return Err(RdataError::at(at, "each parameter once"));
        }
    }
    consistent(&parameters)?;
    let mut out = priority.to_be_bytes().to_vec();
    out.extend_from_slice(target.as_wire());
    for (key, (at, octets)) in parameters {
        let len = u16::try_from(octets.len()).map_err(|_| RdataError::at(at, "at most 65535 octets"))?;
        out.extend(key.to_be_bytes());
        out.extend(len.to_be_bytes());
        out.extend(octets);
    }
    Ok(out)
}

fn unknown_key(at: usize, word: &str) -> RdataError {
    let mut error = RdataError::at(at, format!("one of {}, or key and a number", KEYS.join(", ")));
    error.hint = slips::meant(word, KEYS.iter().copied()).map(|key| format!("did you mean {key}?"));
    error
}

/// What parameters demand of each other (RFC 9460 sections 7.1.1 and 8).
fn consistent(parameters: &BTreeMap<u16, (usize, Vec<u8>)>) -> Result<(), RdataError> {
    if let Some((at, _)) = parameters.get(&NO_DEFAULT_ALPN)
        && !parameters.contains_key(&ALPN)
    {
        return Err(RdataError::at(*at, "alpn beside no-default-alpn"));
    }
    if let Some((at, octets)) = parameters.get(&MANDATORY) {
        let mut keys = octets.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        if let Some(key) = keys.find(|key| !parameters.contains_key(key)) {
            return Err(RdataError::at(*at, format!("{}, which is called mandatory, as well", key_text(key))));
        }
    }
    Ok(())
}

fn key_of(word: &str) -> Option<u16> {
    if let Some(at) = KEYS.iter().position(|key| *key == word) {
        return u16::try_from(at).ok();
    }
    // RFC 9460 section 2.1: no leading zeros.
    let digits = word.strip_prefix("key").filter(|digits| digits.len() == 1 || !digits.starts_with('0'))?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|key| plain && *key != INVALID)
}

fn key_text(key: u16) -> String {
    KEYS.get(usize::from(key)).map_or_else(|| format!("key{key}"), |text| (*text).to_owned())
}

/// Reads a parameter's value; the error is what was expected.
fn value_octets(key: u16, value: Option<&str>) -> Result<Vec<u8>, &'static str> {
    let Some(value) = value else {
        return match key {
            MANDATORY | ALPN | PORT | IPV4HINT | ECH | IPV6HINT | DOHPATH => Err("a value after ="),
            _ => Ok(Vec::new()),
        };
    };
    let unquoted = value.strip_prefix('"').map_or(Some(value), |rest| rest.strip_suffix('"'));
    let text = unquoted.ok_or("a quote at both ends of the value")?;
    let octets = unescape(text).ok_or("escapes as \\X or \\DDD up to \\255")?;
    let items = || text.split(',');
    match key {
        MANDATORY => mandatory(items()),
        ALPN => protocols(&octets),
        NO_DEFAULT_ALPN | OHTTP if octets.is_empty() => Ok(octets),
        NO_DEFAULT_ALPN | OHTTP => Err("no value after this parameter"),
        PORT => text.parse().map(|port: u16| port.to_be_bytes().to_vec()).map_err(|_| "a port from 0 to 65535"),
        IPV4HINT => items()
            .map(|item| item.parse::<Ipv4Addr>().map(|v4| v4.octets()))
            .collect::<Result<Vec<_>, _>>()
            .map(|all| all.concat())
            .map_err(|_| "IPv4 addresses with commas between them"),
        IPV6HINT => items()
            .map(|item| item.parse::<Ipv6Addr>().map(|v6| v6.octets()))
            .collect::<Result<Vec<_>, _>>()
            .map(|all| all.concat())
            .map_err(|_| "IPv6 addresses with commas between them"),
        ECH => from_base64(text).filter(|octets| !octets.is_empty()).ok_or("base64"),
        DOHPATH if std::str::from_utf8(&octets).is_ok_and(|path| path.starts_with('/') && path.contains("{?dns")) => {
            Ok(octets)
        }
        DOHPATH => Err("a path with {?dns} (RFC 9461 section 5)"),
        _ => Ok(octets),
    }
}

fn mandatory<'a>(items: impl Iterator<Item = &'a str>) -> Result<Vec<u8>, &'static str> {
    let keys: Option<Vec<u16>> = items.map(key_of).collect();
    let mut keys = keys.ok_or("names of parameters with commas between them")?;
    keys.sort_unstable();
    if keys.first() == Some(&MANDATORY) || keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("each parameter once, and not mandatory itself");
    }
    Ok(keys.into_iter().flat_map(u16::to_be_bytes).collect())
}

/// Reads a comma-separated list in which `\,` and `\\` stand for themselves (RFC 9460 appendix A.1), once the escapes
/// of the string around it are gone.
fn protocols(octets: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut items: Vec<Vec<u8>> = vec![Vec::new()];
    let mut rest = octets.iter();
    while let Some(&byte) = rest.next() {
        let item = items.last_mut().expect("the list starts with one item and only grows");
        match byte {
            b',' => items.push(Vec::new()),
            b'\\' => match rest.next() {
                Some(escaped @ (b',' | b'\\')) => item.push(*escaped),
                _ => return Err("a comma or a backslash after a backslash"),
            },
            _ => item.push(byte),
        }
    }
    let mut out = Vec::new();
    for item in items {
        let len = u8::try_from(item.len()).ok().filter(|len| *len > 0);
        out.push(len.ok_or("protocols of 1 to 255 octets with commas between them")?);
        out.extend(item);
    }
    Ok(out)
}

/// Prints priority, target and parameters; `None` for octets that RFC 9460 section 2.2 calls malformed.
pub(super) fn print(octets: &[u8]) -> Option<String> {
    let [high, low, rest @ ..] = octets else { return None };
    let (target, mut rest) = rest.split_at_checked(name::wire_len(rest)?)?;
    let mut text = format!("{} {}", u16::from_be_bytes([*high, *low]), Name::from_wire(target).ok()?);
    let mut before: Option<u16> = None;
    while let [key_high, key_low, len_high, len_low, after @ ..] = rest {
        let key = u16::from_be_bytes([*key_high, *key_low]);
        let (value, after) = after.split_at_checked(usize::from(u16::from_be_bytes([*len_high, *len_low])))?;
        if before.is_some_and(|before| before >= key) || key == INVALID {
            return None;
        }
        before = Some(key);
        write!(text, " {}", key_text(key)).ok()?;
        print_value(key, value, &mut text)?;
        rest = after;
    }
    rest.is_empty().then_some(text)
}

fn print_value(key: u16, value: &[u8], out: &mut String) -> Option<()> {
    let pieces = |len: usize| (!value.is_empty() && value.len().is_multiple_of(len)).then(|| value.chunks_exact(len));
    let number = |pair: &[u8]| u16::from_be_bytes([pair[0], pair[1]]);
    let list = match key {
        MANDATORY => pieces(2)?.map(|pair| key_text(number(pair))).collect(),
        PORT if value.len() == 2 => vec![number(value).to_string()],
        IPV4HINT => {
            pieces(4)?.filter_map(|part| Some(Ipv4Addr::from(<[u8; 4]>::try_from(part).ok()?).to_string())).collect()
        }
        IPV6HINT => {
            pieces(16)?.filter_map(|part| Some(Ipv6Addr::from(<[u8; 16]>::try_from(part).ok()?).to_string())).collect()
        }
        ECH if !value.is_empty() => vec![to_base64(value)],
        NO_DEFAULT_ALPN | OHTTP if value.is_empty() => return Some(()),
        PORT | ECH | NO_DEFAULT_ALPN | OHTTP => return None,
        ALPN => {
            out.push('=');
            push_quoted(out, &protocol_list(value)?);
            return Some(());
        }
        _ if value.is_empty() => return Some(()),
        _ => {
            out.push('=');
            push_quoted(out, value);
            return Some(());
        }
    };
    write!(out, "={}", list.join(",")).ok()
}

fn protocol_list(value: &[u8]) -> Option<Vec<u8>> {
    let mut list = Vec::new();
    let mut rest = value;
    while let [len, after @ ..] = rest {
        let (item, after) = after.split_at_checked(usize::from(*len)).filter(|(item, _)| !item.is_empty())?;
        if !list.is_empty() {
            list.push(b',');
        }
        for byte in item {
            if matches!(byte, b',' | b'\\') {
                list.push(b'\\');
            }
            list.push(*byte);
        }
        rest = after;
    }
    (!list.is_empty()).then_some(list)
}
