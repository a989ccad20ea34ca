//! Domain names as uncompressed wire labels (RFC 1035 section 3.1), compared without regard to ASCII case
//! (RFC 4343).

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};

/// Octets a name may have on the wire, the root label included (RFC 1035 section 3.1).
pub const MAX_NAME_BYTES: usize = 255;
/// Octets a label may have (RFC 1035 section 3.1).
pub const MAX_LABEL_BYTES: usize = 63;

/// Says why text or bytes are not a domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A label has no octets though it is not the root (`a..b`).
    #[error("an empty label: two dots in a row, or a dot at the start")]
    EmptyLabel,
    /// A label is longer than 63 octets.
    #[error("a label of more than 63 octets")]
    LabelTooLong,
    /// The name is longer than 255 octets on the wire.
    #[error("more than 255 octets in all")]
    NameTooLong,
    /// A backslash is not followed by a character or by three digits up to 255.
    #[error("a bad escape: write \\. or \\DDD with DDD from 000 to 255")]
    BadEscape,
    /// There is no text at all.
    #[error("nothing there")]
    Empty,
    /// Bytes end before the root label, or a label type is neither plain nor a pointer.
    #[error("not a sequence of labels")]
    Malformed,
}

/// An owned, absolute domain name. Keeps the letter case it was made with; equality, order and hashes ignore it.
#[derive(Clone)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Returns the root name.
    #[must_use]
    pub fn root() -> Self {
        Self(Box::new([0]))
    }

    /// Copies a name out of uncompressed wire bytes, which must hold exactly one name.
    ///
    /// # Errors
    /// When a label is too long, the name is too long, or bytes are missing or left over.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, NameError> {
        let len = wire_len(bytes).ok_or(NameError::Malformed)?;
        if len != bytes.len() {
            return Err(NameError::Malformed);
        }
        Ok(Self(bytes.into()))
    }

    /// Reads a name from text (RFC 1035 section 5.1); it is taken as absolute with or without its last dot.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        // `@` is the origin in master files only. Elsewhere it is a letter like another: `search @` in a resolv.conf
        // must not mean every name there is.
        Self::parse_relative(if text == "@" { "\\@" } else { text }, &Self::root())
    }

    /// Reads a name from text; without a last dot it is relative to `origin`, and `@` is `origin` itself.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn parse_relative(text: &str, origin: &Self) -> Result<Self, NameError> {
        match text {
            "" => return Err(NameError::Empty),
            "@" => return Ok(origin.clone()),
            "." => return Ok(Self::root()),
            _ => {}
        }
        let mut wire = Vec::with_capacity(text.len() + 2);
        let absolute = parse_labels(text.as_bytes(), &mut wire)?;
        if absolute {
            wire.push(0);
        } else {
            wire.extend_from_slice(origin.as_wire());
        }
        if wire.len() > MAX_NAME_BYTES {
            return Err(NameError::NameTooLong);
        }
        Ok(Self(wire.into()))
    }

    /// Returns the uncompressed wire form, root label included.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// Tells whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// Returns the wire form in lower case, copied only when it is not.
    #[must_use]
    pub fn lower_wire(&self) -> Cow<'_, [u8]> {
        // Length octets are at most 63, so they are never ASCII letters.
        if self.0.iter().any(u8::is_ascii_uppercase) {
            self.0.to_ascii_lowercase().into()
        } else {
            self.as_wire().into()
        }
    }

    /// Counts the labels, the root not included.
    #[must_use]
    pub fn label_count(&self) -> usize {
        labels(&self.0).count()
    }

    /// Returns the labels from the leftmost on, without the root.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        labels(&self.0)
    }

    /// Returns the name without its first label; the root has no parent.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        Some(Self(self.0[1 + usize::from(self.0[0])..].into()))
    }

    /// Tells whether this name is `zone` or stands below it; whole labels only.
    #[must_use]
    pub fn is_at_or_below(&self, zone: &Self) -> bool {
        is_at_or_below(&self.0, &zone.0)
    }

    /// Returns the same name in lower case.
    #[must_use]
    pub fn to_lower(&self) -> Self {
        let mut wire = self.0.clone();
        // Length octets are at most 63, so they are never ASCII letters.
        wire.make_ascii_lowercase();
        Self(wire)
    }

    /// Returns this name with `label` put in front.
    ///
    /// # Errors
    /// When the label is empty or too long, or the name would be.
    pub fn prepend(&self, label: &[u8]) -> Result<Self, NameError> {
        let len = u8::try_from(label.len()).map_err(|_| NameError::LabelTooLong)?;
        if label.is_empty() {
            return Err(NameError::EmptyLabel);
        }
        if label.len() > MAX_LABEL_BYTES {
            return Err(NameError::LabelTooLong);
        }
        if label.len() + 1 + self.0.len() > MAX_NAME_BYTES {
            return Err(NameError::NameTooLong);
        }
        let mut wire = Vec::with_capacity(label.len() + 1 + self.0.len());
        wire.push(len);
        wire.extend_from_slice(label);
        wire.extend_from_slice(&self.0);
        Ok(Self(wire.into()))
    }

    /// Tells whether an uncompressed wire name is this name, in any letter case.
    #[must_use]
    pub fn is_wire(&self, wire: &[u8]) -> bool {
        self.0.eq_ignore_ascii_case(wire)
    }

    /// Returns the name with the suffix `from` replaced by `to` (what a DNAME does, RFC 6672 section 2.2).
    ///
    /// # Errors
    /// When the name is not below `from`, or the result is longer than 255 octets.
    pub fn replace_suffix(&self, from: &Self, to: &Self) -> Result<Self, NameError> {
        if !self.is_at_or_below(from) {
            return Err(NameError::Malformed);
        }
        let kept = self.0.len() - from.0.len();
        if kept + to.0.len() > MAX_NAME_BYTES {
            return Err(NameError::NameTooLong);
        }
        let mut wire = Vec::with_capacity(kept + to.0.len());
        wire.extend_from_slice(&self.0[..kept]);
        wire.extend_from_slice(&to.0);
        Ok(Self(wire.into()))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut lower = NameBuf::default();
        lower.set_lower(&self.0);
        lower.as_wire().hash(state);
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    /// Canonical order: by labels from the right, lower-cased (RFC 4034 section 6.1).
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let mine: Vec<&[u8]> = self.labels().collect();
        let theirs: Vec<&[u8]> = other.labels().collect();
        let lower = |label: &[u8]| label.to_ascii_lowercase();
        mine.iter().rev().map(|l| lower(l)).cmp(theirs.iter().rev().map(|l| lower(l)))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(&self.0, f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(&self.0, f)
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

/// A name on the stack, at most 255 octets: what decompression writes into.
#[derive(Clone, Copy)]
pub struct NameBuf {
    len: u8,
    bytes: [u8; MAX_NAME_BYTES],
}

impl fmt::Debug for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(self.as_wire(), f)
    }
}

impl Default for NameBuf {
    fn default() -> Self {
        Self { len: 0, bytes: [0; MAX_NAME_BYTES] }
    }
}

impl NameBuf {
    /// Returns the wire form; empty until something was put in.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Appends octets of a name.
    ///
    /// # Errors
    /// When the name would be longer than 255 octets.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), NameError> {
        let start = usize::from(self.len);
        let end = start + bytes.len();
        let room = self.bytes.get_mut(start..end).ok_or(NameError::NameTooLong)?;
        room.copy_from_slice(bytes);
        self.len = u8::try_from(end).map_err(|_| NameError::NameTooLong)?;
        Ok(())
    }

    /// Replaces the content by `wire` in lower case; what does not fit is left out.
    pub fn set_lower(&mut self, wire: &[u8]) {
        let len = wire.len().min(MAX_NAME_BYTES);
        self.bytes[..len].copy_from_slice(&wire[..len]);
        self.bytes[..len].make_ascii_lowercase();
        self.len = u8::try_from(len).unwrap_or(u8::MAX);
    }

    /// Copies the content into an owned name.
    #[must_use]
    pub fn to_name(&self) -> Name {
        if self.len == 0 { Name::root() } else { Name(self.as_wire().into()) }
    }
}

/// Returns how many octets the uncompressed name at the start of `bytes` has, root label included; `None` when
/// it is not a whole plain name.
#[must_use]
pub fn wire_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let len = usize::from(*bytes.get(at)?);
        if len > MAX_LABEL_BYTES {
            return None;
        }
        at += 1 + len;
        if at > MAX_NAME_BYTES {
            return None;
        }
        if len == 0 {
            return Some(at);
        }
    }
}

/// Returns the labels of a wire name, without the root; stops at anything that is not a plain label.
pub fn labels(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = wire;
    std::iter::from_fn(move || {
        let (&len, tail) = rest.split_first()?;
        if len == 0 || usize::from(len) > tail.len() || usize::from(len) > MAX_LABEL_BYTES {
            return None;
        }
        let (label, after) = tail.split_at(usize::from(len));
        rest = after;
        Some(label)
    })
}

/// Returns the name itself, then every name above it, ending with the root.
pub fn suffixes(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(wire);
    std::iter::from_fn(move || {
        let current = rest?;
        let len = usize::from(*current.first()?);
        rest = if len == 0 { None } else { current.get(1 + len..) };
        Some(current)
    })
}

/// Returns the domain that a wire name most likely belongs to as a whole: its last two labels, or three when the last is a
/// country's and the one before it is short (`co.uk`, `com.cn`). The list of public suffixes would add 840 KB to the
/// program; where this guess takes too much for one domain, it only weakens a difference of unguarded names.
#[must_use]
pub fn domain(wire: &[u8]) -> Option<&[u8]> {
    let labels: Vec<usize> = labels(wire).map(<[u8]>::len).collect();
    let keep = match labels.as_slice() {
        [.., second, 2] if *second <= 3 => 3,
        _ => 2,
    };
    let skip = labels.len().checked_sub(keep)?;
    suffixes(wire).nth(skip)
}

/// Tells whether wire name `name` is `zone` or below it; case is ignored, labels count whole.
#[must_use]
pub fn is_at_or_below(name: &[u8], zone: &[u8]) -> bool {
    suffixes(name).any(|suffix| suffix.len() == zone.len() && suffix.eq_ignore_ascii_case(zone))
}

/// Writes a wire name as text with its last dot; anything but visible ASCII is escaped (RFC 1035 section 5.1),
/// so that what a foreign name holds can never move a terminal's cursor or forge a log line.
fn write_name(wire: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if wire.first().is_none_or(|&len| len == 0) {
        return f.write_str(".");
    }
    for label in labels(wire) {
        for &byte in label {
            match byte {
                b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => write!(f, "\\{}", char::from(byte))?,
                0x21..=0x7e => write!(f, "{}", char::from(byte))?,
                _ => write!(f, "\\{byte:03}")?,
            }
        }
        f.write_str(".")?;
    }
    Ok(())
}

/// Appends the labels of `text` to `wire`, without a root label; returns whether the text ended in a dot.
fn parse_labels(text: &[u8], wire: &mut Vec<u8>) -> Result<bool, NameError> {
    let mut rest = text.iter().copied();
    let mut label: Vec<u8> = Vec::new();
    let mut after_dot = false;
    while let Some(byte) = rest.next() {
        after_dot = byte == b'.';
        match byte {
            b'.' => push_label(wire, &mut label)?,
            b'\\' => label.push(unescape(&mut rest)?),
            _ => label.push(byte),
        }
    }
    if !after_dot {
        push_label(wire, &mut label)?;
    }
    Ok(after_dot)
}

fn push_label(wire: &mut Vec<u8>, label: &mut Vec<u8>) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::EmptyLabel);
    }
    if label.len() > MAX_LABEL_BYTES {
        return Err(NameError::LabelTooLong);
    }
    wire.push(u8::try_from(label.len()).map_err(|_| NameError::LabelTooLong)?);
    wire.append(label);
    if wire.len() >= MAX_NAME_BYTES {
        return Err(NameError::NameTooLong);
    }
    Ok(())
}

fn unescape(rest: &mut impl Iterator<Item = u8>) -> Result<u8, NameError> {
    let first = rest.next().ok_or(NameError::BadEscape)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut value = u32::from(first - b'0');
    for _ in 0..2 {
        let digit = rest.next().filter(u8::is_ascii_digit).ok_or(NameError::BadEscape)?;
        value = value * 10 + u32::from(digit - b'0');
    }
    u8::try_from(value).map_err(|_| NameError::BadEscape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_and_wire_forms_agree() {
        let name = Name::parse("wWw.Example.org").unwrap();
        assert_eq!(name.as_wire(), b"\x03wWw\x07Example\x03org\x00");
        assert_eq!(name.to_string(), "wWw.Example.org.");
        assert_eq!(name, Name::parse("www.example.ORG.").unwrap());
        assert_eq!(Name::parse(".").unwrap(), Name::root());
    }

    #[test]
    fn bad_names_are_told_apart() {
        assert_eq!(Name::parse("a..b"), Err(NameError::EmptyLabel));
        assert_eq!(Name::parse(".a"), Err(NameError::EmptyLabel));
        assert_eq!(Name::parse(""), Err(NameError::Empty));
        assert_eq!(Name::parse(&"a".repeat(64)), Err(NameError::LabelTooLong));
        assert_eq!(Name::parse(&"abcdefg.".repeat(32)), Err(NameError::NameTooLong));
        assert_eq!(Name::parse("a\\25"), Err(NameError::BadEscape));
        assert_eq!(Name::parse("a\\256"), Err(NameError::BadEscape));
    }

    #[test]
    fn the_origin_sign_means_the_root_nowhere_outside_master_files() {
        assert_eq!(Name::parse("@").unwrap().as_wire(), b"\x01@\x00");
        assert_eq!(Name::parse_relative("@", &Name::root()).unwrap(), Name::root());
    }

    #[test]
    fn only_whole_labels_match_a_suffix() {
        let zone = Name::parse("example.org").unwrap();
        assert!(Name::parse("a.EXAMPLE.org").unwrap().is_at_or_below(&zone));
        assert!(zone.is_at_or_below(&zone));
        assert!(!Name::parse("badexample.org").unwrap().is_at_or_below(&zone));
    }

    #[test]
    fn hostile_octets_are_escaped_for_display() {
        let name = Name::from_wire(b"\x05\x1b[2J\n\x00").unwrap();
        assert_eq!(name.to_string(), "\\027[2J\\010.");
    }

    proptest! {
        #[test]
        fn any_wire_name_survives_text(labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..8)) {
            let mut wire = Vec::new();
            for label in &labels {
                wire.push(u8::try_from(label.len()).unwrap());
                wire.extend_from_slice(label);
            }
            wire.push(0);
            let name = Name::from_wire(&wire).unwrap();
            let again = Name::parse(&name.to_string()).unwrap();
            prop_assert_eq!(again.as_wire(), &wire[..]);
            prop_assert_eq!(name.label_count(), labels.len());
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,300}") {
            drop(Name::parse(&text));
        }

        #[test]
        fn equal_names_hash_alike(text in "[a-zA-Z]{1,10}\\.[a-zA-Z]{1,10}") {
            let hash = |name: &Name| { let mut h = std::hash::DefaultHasher::new(); name.hash(&mut h); h.finish() };
            let (upper, lower) = (Name::parse(&text.to_uppercase()).unwrap(), Name::parse(&text.to_lowercase()).unwrap());
            prop_assert_eq!(&upper, &lower);
            prop_assert_eq!(hash(&upper), hash(&lower));
        }
    }

    #[test]
    fn a_domain_is_what_one_owner_most_likely_has() {
        let of = |text: &str| {
            let name = Name::parse(text).unwrap();
            domain(name.as_wire()).map(|wire| Name::from_wire(wire).unwrap().to_string())
        };
        assert_eq!(of("a.b.example.com").as_deref(), Some("example.com."));
        assert_eq!(of("a.b.example.co.uk").as_deref(), Some("example.co.uk."));
        assert_eq!(of("shop.example.de").as_deref(), Some("example.de."));
        assert_eq!(of("com"), None);
        assert_eq!(of("co.uk"), None);
    }
}
