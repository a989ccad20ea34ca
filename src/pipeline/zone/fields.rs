//! The shape of RDATA: which fields the data of a type is made of, and how many octets each takes.
//!
//! `rdata.rs` reads by this table and `presentation.rs` prints by it, so the two cannot disagree. Types whose data is
//! no row of independent fields are in `grammar.rs`.

use crate::dns::{Rtype, name};

/// Octets of one block of a type bitmap (RFC 4034 section 4.1.2).
const MAX_BITMAP_BYTES: usize = 32;

/// One field of RDATA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// 8 bits.
    U8,
    /// 8 bits: a DNSSEC algorithm, by number or mnemonic.
    Algorithm,
    /// 16 bits.
    U16,
    /// 16 bits: a type of certificate (RFC 4398 section 2.1), by number or mnemonic.
    Certificate,
    /// 32 bits.
    U32,
    /// 32 bits of seconds; units may be written.
    Seconds,
    /// 32 bits of seconds since 1970, written as a date (RFC 4034 section 3.2).
    Date,
    /// A record type.
    Type,
    /// A set of record types (RFC 4034 section 4.1.2), maybe empty.
    Types,
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
    /// Octets with their length before them, in hexadecimal; `-` for none (RFC 5155 section 3.3).
    Salt,
    /// Octets with their length before them, in base32 with the extended alphabet (RFC 5155 section 3.3).
    Hash,
    /// 64 bits as four groups of hexadecimal digits (RFC 6742).
    Locator,
    /// So many octets as `xx-xx-…` (RFC 7043).
    Eui(u8),
}

/// Mnemonics of certificate types (RFC 4398 section 2.1).
pub(super) const CERTIFICATES: &[(u16, &str)] = &[
    (1, "PKIX"),
    (2, "SPKI"),
    (3, "PGP"),
    (4, "IPKIX"),
    (5, "ISPKI"),
    (6, "IPGP"),
    (7, "ACPKIX"),
    (8, "IACPKIX"),
    (253, "URI"),
    (254, "OID"),
];
/// Mnemonics of algorithms (the IANA registry of DNSSEC algorithm numbers); printed are the numbers, as everybody does.
pub(super) const ALGORITHMS: &[(u8, &str)] = &[
    (0, "DELETE"),
    (1, "RSAMD5"),
    (2, "DH"),
    (3, "DSA"),
    (5, "RSASHA1"),
    (6, "DSA-NSEC3-SHA1"),
    (7, "RSASHA1-NSEC3-SHA1"),
    (8, "RSASHA256"),
    (10, "RSASHA512"),
    (12, "ECC-GOST"),
    (13, "ECDSAP256SHA256"),
    (14, "ECDSAP384SHA384"),
    (15, "ED25519"),
    (16, "ED448"),
    (252, "INDIRECT"),
    (253, "PRIVATEDNS"),
    (254, "PRIVATEOID"),
];

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
    pub(super) fn at(token: usize, expected: impl Into<String>) -> Self {
        Self { token, expected: expected.into(), hint: None }
    }
}

/// Returns the fields of a type; `None` when it has no row here.
pub(super) fn shape(rtype: Rtype) -> Option<&'static [Field]> {
    use Field::{
        A, Aaaa, Algorithm, Base64, Certificate, Date, Eui, Hash, Hex, Locator, Octets, Salt, Seconds, Text, Texts,
        Type, Types, U8, U16, U32,
    };
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
        | Rtype::NSAP_PTR
        | Rtype::DNAME
        | Rtype::ANAME => &[NAME],
        Rtype::SOA => &[NAME, NAME, U32, Seconds, Seconds, Seconds, Seconds],
        Rtype::MX | Rtype::AFSDB | Rtype::RT | Rtype::KX | Rtype::LP => &[U16, NAME],
        Rtype::PX => &[U16, NAME, NAME],
        Rtype::RP | Rtype::MINFO | Rtype::TALINK => &[NAME, NAME],
        Rtype::TXT
        | Rtype::SPF
        | Rtype::RESINFO
        | Rtype::ISDN
        | Rtype::NINFO
        | Rtype::AVC
        | Rtype::WALLET
        | Rtype::CLA => &[Texts],
        Rtype::HINFO => &[Text, Text],
        Rtype::GPOS => &[Text, Text, Text],
        Rtype::X25 => &[Text],
        Rtype::SRV => &[U16, U16, U16, NAME],
        Rtype::NAPTR => &[U16, U16, Text, Text, Text, NAME],
        Rtype::CAA => &[U8, Text, Octets],
        Rtype::URI => &[U16, U16, Octets],
        Rtype::DS | Rtype::CDS | Rtype::TA | Rtype::DLV => &[U16, Algorithm, U8, Hex],
        Rtype::DNSKEY | Rtype::CDNSKEY | Rtype::KEY | Rtype::RKEY => &[U16, U8, Algorithm, Base64],
        Rtype::RRSIG | Rtype::SIG => &[Type, Algorithm, U8, Seconds, Date, Date, U16, NAME, Base64],
        Rtype::NSEC => &[NAME, Types],
        Rtype::NSEC3 => &[U8, U8, U16, Salt, Hash, Types],
        Rtype::NSEC3PARAM => &[U8, U8, U16, Salt],
        Rtype::CSYNC => &[U32, U16, Types],
        Rtype::DSYNC => &[Type, U8, U16, NAME],
        Rtype::TLSA | Rtype::SMIMEA => &[U8, U8, U8, Hex],
        Rtype::SSHFP => &[U8, U8, Hex],
        Rtype::ZONEMD => &[U32, U8, U8, Hex],
        Rtype::CERT => &[Certificate, U16, Algorithm, Base64],
        Rtype::OPENPGPKEY | Rtype::DHCID | Rtype::HHIT | Rtype::BRID => &[Base64],
        Rtype::NID | Rtype::L64 => &[U16, Locator],
        Rtype::L32 => &[U16, A],
        Rtype::EUI48 => &[Eui(6)],
        Rtype::EUI64 => &[Eui(8)],
        _ => return None,
    })
}

/// Tells whether octets are such fields and nothing more.
pub(super) fn fit(fields: &[Field], rdata: &[u8]) -> bool {
    let mut rest = rdata;
    for field in fields {
        let Some(len) = len(*field, rest) else { return false };
        rest = &rest[len..];
    }
    rest.is_empty()
}

/// Returns how many octets a field takes at the start of `rest`.
pub(super) fn len(field: Field, rest: &[u8]) -> Option<usize> {
    let len = match field {
        Field::U8 | Field::Algorithm => 1,
        Field::U16 | Field::Certificate | Field::Type => 2,
        Field::U32 | Field::Seconds | Field::Date | Field::A => 4,
        Field::Locator => 8,
        Field::Aaaa => 16,
        Field::Name => name::wire_len(rest)?,
        Field::Text | Field::Salt => 1 + usize::from(*rest.first()?),
        // RFC 5155 section 3.2.2: the hash is at least one octet.
        Field::Hash => 1 + usize::from(*rest.first().filter(|len| **len > 0)?),
        Field::Texts => {
            let mut at = 0;
            loop {
                at += 1 + usize::from(*rest.get(at)?);
                if at >= rest.len() {
                    break at;
                }
            }
        }
        Field::Types => types_of(rest).map(|_| rest.len())?,
        Field::Octets | Field::Hex | Field::Base64 => rest.len(),
        Field::Eui(octets) => usize::from(octets),
    };
    (len <= rest.len()).then_some(len)
}

/// Reads a type bitmap; `None` unless it is written the one way RFC 4034 section 4.1.2 allows: blocks in order, none
/// empty, no zero octets at their ends.
pub(super) fn types_of(bitmap: &[u8]) -> Option<Vec<Rtype>> {
    let mut types = Vec::new();
    let mut rest = bitmap;
    let mut before: Option<u8> = None;
    while let [block, len, after @ ..] = rest {
        let len = usize::from(*len);
        let bits = after.get(..len).filter(|bits| bits.last().is_some_and(|last| *last != 0))?;
        if len > MAX_BITMAP_BYTES || before.is_some_and(|before| before >= *block) {
            return None;
        }
        before = Some(*block);
        for (octet, low) in bits.iter().zip((0_u8..=u8::MAX).step_by(8)) {
            let set = (0..8).filter(|bit| octet & (0x80 >> bit) != 0);
            types.extend(set.map(|bit| Rtype(u16::from_be_bytes([*block, low + bit]))));
        }
        rest = &after[len..];
    }
    rest.is_empty().then_some(types)
}

/// Writes a set of types as a bitmap.
pub(super) fn bitmap_of(types: &[Rtype]) -> Vec<u8> {
    let mut sorted: Vec<[u8; 2]> = types.iter().map(|rtype| rtype.0.to_be_bytes()).collect();
    sorted.sort_unstable();
    let mut out = Vec::new();
    for same in sorted.chunk_by(|a, b| a[0] == b[0]) {
        let mut bits = [0_u8; MAX_BITMAP_BYTES];
        for [_, low] in same {
            bits[usize::from(low / 8)] |= 0x80 >> (low % 8);
        }
        let len = same.last().map_or(0, |[_, low]| low / 8 + 1);
        out.extend([same[0][0], len]);
        out.extend_from_slice(&bits[..usize::from(len)]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bitmap_of_rfc_4034_section_4_3_is_read_and_written() {
        let types = [Rtype::A, Rtype::MX, Rtype::RRSIG, Rtype::NSEC, Rtype(1234)];
        let mut octets = vec![0, 6, 0x40, 1, 0, 0, 0, 3, 4, 0x1b];
        octets.extend([0; 26]);
        octets.push(0x20);
        assert_eq!(bitmap_of(&types), octets);
        assert_eq!(types_of(&octets).unwrap(), types);
        assert_eq!(types_of(&[]), Some(Vec::new()));
        for bad in [&[0, 0][..], &[0, 1, 0], &[1, 1, 1, 0, 1, 1], &[0, 33], &[0]] {
            assert_eq!(types_of(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_bitmap_that_is_read_is_the_one_that_is_written(octets in proptest::collection::vec(0_u8..5, 0..12)) {
            if let Some(types) = types_of(&octets) {
                prop_assert_eq!(bitmap_of(&types), octets);
            }
        }

        #[test]
        fn types_survive(mut types in proptest::collection::vec(any::<u16>().prop_map(Rtype), 0..40)) {
            types.sort();
            types.dedup();
            prop_assert_eq!(types_of(&bitmap_of(&types)).unwrap(), types);
        }
    }
}
