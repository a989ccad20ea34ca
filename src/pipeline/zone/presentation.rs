//! Records as text, in the form a master file reads back.

use super::encoding::{date_text, push_quoted, to_base32, to_base64, to_hex};
use super::fields::{self, Field};
use super::{grammar, rdata, service};
use crate::dns::{Name, Record, Rtype, wire};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Returns the data of a record as text; RFC 3597's `\# LENGTH HEX` for types without a text form, and for data that
/// is not what its type says.
#[must_use]
pub fn rdata_text(record: &Record) -> String {
    let (rtype, octets) = (record.rtype, &*record.rdata);
    let printed = match fields::shape(rtype) {
        Some(fields) => by_shape(fields, octets),
        None if grammar::has(rtype) => grammar::print(rtype, octets),
        None if service::has(rtype) => service::print(octets),
        None => None,
    };
    let text = printed.filter(|text| fields::shape(rtype).is_some() || reads_back(rtype, text, octets));
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

/// Tells whether text means these octets: what does not is shown octet by octet instead.
fn reads_back(rtype: Rtype, text: &str, octets: &[u8]) -> bool {
    rdata::parse_text(rtype, text, &Name::root()).is_ok_and(|read| *read == *octets)
}

fn by_shape(fields: &[Field], octets: &[u8]) -> Option<String> {
    let mut out = String::new();
    let mut rest = octets;
    for field in fields {
        let len = fields::len(*field, rest)?;
        let (value, after) = rest.split_at(len);
        // An empty string is still written, as ""; an empty set of types is not.
        if !out.is_empty() && (!value.is_empty() || *field != Field::Types) {
            out.push(' ');
        }
        put_field(*field, value, &mut out)?;
        rest = after;
    }
    rest.is_empty().then_some(out)
}

fn put_field(field: Field, value: &[u8], out: &mut String) -> Option<()> {
    match field {
        Field::U8 | Field::Algorithm | Field::U16 | Field::U32 | Field::Seconds => {
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
        // A word cannot be empty.
        Field::Hex | Field::Base64 if value.is_empty() => return None,
        Field::Date => out.push_str(&date_text(u32::from_be_bytes(value.try_into().ok()?))),
        Field::Type => write!(out, "{}", Rtype(u16::from_be_bytes(value.try_into().ok()?))).ok()?,
        Field::Types => {
            let types: Vec<String> = fields::types_of(value)?.iter().map(Rtype::to_string).collect();
            out.push_str(&types.join(" "));
        }
        Field::Certificate => {
            let number = u16::from_be_bytes(value.try_into().ok()?);
            match fields::CERTIFICATES.iter().find(|(known, _)| *known == number) {
                Some((_, text)) => out.push_str(text),
                None => write!(out, "{number}").ok()?,
            }
        }
        Field::Salt if value.len() == 1 => out.push('-'),
        Field::Salt => out.push_str(&to_hex(&value[1..])),
        Field::Hash => out.push_str(&to_base32(&value[1..])),
        Field::Locator => {
            let groups: Vec<String> =
                value.chunks_exact(2).map(|pair| format!("{:04x}", u16::from_be_bytes([pair[0], pair[1]]))).collect();
            out.push_str(&groups.join(":"));
        }
        Field::Hex => out.push_str(&to_hex(value)),
        Field::Base64 => out.push_str(&to_base64(value)),
        Field::Eui(_) => {
            let pairs: Vec<String> = value.iter().map(|byte| format!("{byte:02x}")).collect();
            out.push_str(&pairs.join("-"));
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(rtype: Rtype, rdata: &[u8]) -> Record {
        Record { owner: Name::parse("x.example").unwrap(), rtype, class: 1, ttl: 60, rdata: rdata.into() }
    }

    /// A type, its data as text, and its octets in hexadecimal. The texts are those this file prints.
    const TABLE: &[(&str, &str, &str)] = &[
        ("A", "192.0.2.1", "C0000201"),
        ("NS", "ns.x.", "026E73017800"),
        ("MD", "a.", "016100"),
        ("MF", "a.", "016100"),
        ("CNAME", r"a\.b.", "03612E6200"),
        ("SOA", "n.x. h.x. 1 2 3 4 4294967295", "016E017800016801780000000001000000020000000300000004FFFFFFFF"),
        ("MB", "a.", "016100"),
        ("MG", "a.", "016100"),
        ("MR", "a.", "016100"),
        ("PTR", "a.", "016100"),
        ("HINFO", r#""PC" "Unix""#, "025043 04556E6978"),
        ("MINFO", "a. b.", "016100016200"),
        ("MX", "10 mail.x.", "000A046D61696C017800"),
        ("TXT", r#""a\"b" "\255\000" """#, "03612262 02FF00 00"),
        ("RP", "a. .", "01610000"),
        ("AFSDB", "1 a.", "0001016100"),
        ("X25", r#""311061700956""#, "0C333131303631373030393536"),
        ("ISDN", r#""150862028003217" "004""#, "0F313530383632303238303033323137 03303034"),
        ("RT", "2 a.", "0002016100"),
        ("NSAP-PTR", "a.", "016100"),
        (
            "SIG",
            "TYPE0 5 2 3600 20030322173103 20030220173103 2642 a. Zm9v",
            "0000050200000E103E7C9DD73E5510D70A52016100666F6F",
        ),
        ("KEY", "256 3 5 Zm9v", "01000305666F6F"),
        ("PX", "1 a. b.", "0001016100016200"),
        ("GPOS", r#""-32.6882" "116.8652" "10.0""#, "082D33322E36383832 083131362E38363532 0431302E30"),
        ("AAAA", "2001:db8::1", "20010DB8000000000000000000000001"),
        ("LOC", "42 21 54.000 N 71 6 18.000 W -24.00m 30.00m 10000.00m 10.00m", "0033161389172DD070BE15F000988D20"),
        ("SRV", "1 2 3 t.", "000100020003017400"),
        ("NAPTR", r#"1 2 "s" "SIP+D2U" "" t."#, "000100020173075349502B44325500017400"),
        ("KX", "1 a.", "0001016100"),
        ("CERT", "PGP 1 8 Zm9v", "0003000108666F6F"),
        ("DNAME", "a.", "016100"),
        (
            "APL",
            "1:192.168.32.0/21 !1:192.168.38.0/28 2:ff00::/8 1:0.0.0.0/0",
            "00011503C0A820 00011C83C0A826 00020801FF 00010000",
        ),
        ("DS", "1 2 3 ABCD", "00010203ABCD"),
        ("SSHFP", "2 1 ABCD", "0201ABCD"),
        ("IPSECKEY", "10 1 2 192.0.2.38 Zm9v", "0A0102C0000226666F6F"),
        ("IPSECKEY", "10 0 2 . Zm9v", "0A0002666F6F"),
        ("IPSECKEY", "10 3 0 g.x.", "0A03000167017800"),
        ("IPSECKEY", "10 2 2 2001:db8::1 Zm9v", "0A020220010DB8000000000000000000000001666F6F"),
        (
            "RRSIG",
            "A 5 3 86400 20030322173103 20030220173103 2642 x. Zm9v",
            "00010503000151803E7C9DD73E5510D70A52017800666F6F",
        ),
        (
            "NSEC",
            "h.x. A MX RRSIG NSEC TYPE1234",
            "0168017800 0006400100000003 041B000000000000000000000000000000000000000000000000000020",
        ),
        ("DNSKEY", "256 3 5 Zm9v", "01000305666F6F"),
        ("DHCID", "Zm9v", "666F6F"),
        (
            "NSEC3",
            "1 1 12 AABBCCDD 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR A RRSIG",
            "0101000C04AABBCCDD14174EB2409FE28BCB4887A1836F957F0A8425E27B 0006400000000002",
        ),
        ("NSEC3", "1 0 0 - 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR", "010000000014174EB2409FE28BCB4887A1836F957F0A8425E27B"),
        ("NSEC3PARAM", "1 0 12 AABBCCDD", "0100000C04AABBCCDD"),
        ("NSEC3PARAM", "1 0 0 -", "0100000000"),
        ("TLSA", "3 1 1 ABCD", "030101ABCD"),
        ("SMIMEA", "3 1 1 ABCD", "030101ABCD"),
        (
            "HIP",
            "2 200100107B1A74DF365639CC39F1D578 Zm9v r.x.",
            "1002 0003 200100107B1A74DF365639CC39F1D578 666F6F 0172017800",
        ),
        ("NINFO", r#""a""#, "0161"),
        ("RKEY", "0 1 2 Zm9v", "00000102666F6F"),
        ("TALINK", "a. b.", "016100016200"),
        ("CDS", "0 0 0 00", "0000000000"),
        ("CDNSKEY", "0 3 0 AA==", "0000030000"),
        ("OPENPGPKEY", "Zm9v", "666F6F"),
        ("CSYNC", "66 3 A NS AAAA", "00000042 0003 000460000008"),
        ("ZONEMD", "2018031500 1 1 ABCD", "7848B78C0101ABCD"),
        ("DSYNC", "CDS 1 5359 a.", "003B0114EF016100"),
        ("HHIT", "Zm9v", "666F6F"),
        ("BRID", "Zm9v", "666F6F"),
        ("SPF", r#""v=spf1 -all""#, "0B763D73706631202D616C6C"),
        ("NID", "10 0014:4fff:ff20:ee64", "000A00144FFFFF20EE64"),
        ("L32", "10 10.1.2.0", "000A0A010200"),
        ("L64", "10 2001:0db8:1140:1000", "000A20010DB811401000"),
        ("LP", "10 l64.x.", "000A036C3634017800"),
        ("EUI48", "00-00-5e-00-53-2a", "00005E00532A"),
        ("EUI64", "00-00-5e-ef-10-00-00-2a", "00005EEF1000002A"),
        ("URI", r#"0 0 """#, "00000000"),
        ("URI", r#"10 1 "ftp://x/public""#, "000A00016674703A2F2F782F7075626C6963"),
        ("CAA", r#"0 "issue" "ca.example; x=y""#, "0005697373756563612E6578616D706C653B20783D79"),
        ("AVC", r#""a""#, "0161"),
        ("AMTRELAY", "10 1 1 203.0.113.15", "0A81CB00710F"),
        ("AMTRELAY", "10 0 0 .", "0A00"),
        ("RESINFO", r#""qnamemin" "exterr=15-17""#, "08716E616D656D696E 0C6578746572723D31352D3137"),
        ("WALLET", r#""a""#, "0161"),
        ("CLA", r#""a""#, "0161"),
        ("TA", "1 2 3 ABCD", "00010203ABCD"),
        ("DLV", "1 2 3 ABCD", "00010203ABCD"),
        ("ANAME", "a.", "016100"),
        ("TYPE65280", r"\# 2 ABCD", "ABCD"),
        ("TYPE65280", r"\# 0", ""),
        ("WKS", r"\# 6 C00002010640", "C00002010640"),
    ];

    /// The vectors of RFC 9460 appendix D, and each parameter of RFC 9461, 9540 and the registry.
    const BINDINGS: &[(&str, &str)] = &[
        ("0 foo.example.com.", "0000 03666F6F076578616D706C6503636F6D00"),
        ("1 .", "000100"),
        ("16 foo.example.com. port=53", "0010 03666F6F076578616D706C6503636F6D00 0003 0002 0035"),
        ("1 foo.example.com. key667=hello", "0001 03666F6F076578616D706C6503636F6D00 029B 0005 68656C6C6F"),
        (
            r#"1 foo.example.com. key667="hello\210qoo""#,
            "0001 03666F6F076578616D706C6503636F6D00 029B 0009 68656C6C6FD2716F6F",
        ),
        (
            r#"1 foo.example.com. ipv6hint="2001:db8::1,2001:db8::53:1""#,
            "0001 03666F6F076578616D706C6503636F6D00 0006 0020 20010DB8000000000000000000000001 20010DB8000000000000000000530001",
        ),
        (
            "16 foo.example.org. alpn=h2,h3-19 mandatory=ipv4hint,alpn ipv4hint=192.0.2.1",
            "0010 03666F6F076578616D706C65036F726700 0000 0004 0001 0004 0001 0009 02683205 68332D3139 0004 0004 C0000201",
        ),
        (
            r#"16 foo.example.org. alpn="f\\\\oo\\,bar,h2""#,
            "0010 03666F6F076578616D706C65036F726700 0001 000C 08665C6F6F2C62617202 6832",
        ),
        (
            r"16 foo.example.org. alpn=f\\\092oo\092,bar,h2",
            "0010 03666F6F076578616D706C65036F726700 0001 000C 08665C6F6F2C62617202 6832",
        ),
        ("1 . alpn=h2 no-default-alpn", "0001 00 0001 0003 026832 0002 0000"),
        ("1 . ech=Zm9v", "0001 00 0005 0003 666F6F"),
        (
            "1 dns.example. alpn=h2 dohpath=/dns-query{?dns}",
            "0001 03646E73076578616D706C6500 0001 0003 026832 0007 0010 2F646E732D71756572797B3F646E737D",
        ),
        ("1 . ohttp", "0001 00 0008 0000"),
    ];

    fn octets(hex: &str) -> Vec<u8> {
        super::super::encoding::from_hex(&hex.replace(' ', "")).unwrap()
    }

    #[test]
    fn every_type_goes_from_text_to_octets_to_the_same_text() {
        let mut seen = std::collections::BTreeSet::new();
        let mut wrong = String::new();
        for (rtype, text, hex) in TABLE {
            let rtype: Rtype = rtype.parse().unwrap();
            seen.insert(rtype);
            let read = rdata::parse_text(rtype, text, &Name::root());
            let shown = rdata_text(&record(rtype, &octets(hex)));
            if read.as_deref() != Ok(octets(hex).as_slice()) || shown != *text {
                wrong.push_str(&format!("{rtype} {text}\n  read {read:02x?}\n  shown {shown}\n"));
            }
            let generic = format!("\\# {} {}", octets(hex).len(), to_hex(&octets(hex)));
            assert_eq!(rdata::parse_text(rtype, &generic, &Name::root()).as_deref(), Ok(octets(hex).as_slice()));
        }
        assert!(wrong.is_empty(), "{wrong}");
        // Obsolete ones without a text form, and what stands in no zone.
        let left =
            |rtype: Rtype| rtype.is_meta() || matches!(rtype, Rtype::NULL | Rtype::NXT | Rtype::SVCB | Rtype::HTTPS);
        let missing = crate::dns::rtype::MNEMONICS.iter().map(|(_, number)| Rtype(*number));
        assert_eq!(missing.filter(|rtype| !seen.contains(rtype) && !left(*rtype)).collect::<Vec<_>>(), []);
    }

    #[test]
    fn service_bindings_go_from_text_to_octets_and_back() {
        let mut wrong = String::new();
        for (text, hex) in BINDINGS {
            for rtype in [Rtype::SVCB, Rtype::HTTPS] {
                let read = rdata::parse_text(rtype, text, &Name::root());
                let shown = rdata_text(&record(rtype, &octets(hex)));
                let again = rdata::parse_text(rtype, &shown, &Name::root());
                if read.as_deref() != Ok(octets(hex).as_slice())
                    || again.as_deref() != Ok(octets(hex).as_slice())
                    || shown.starts_with("\\#")
                {
                    wrong.push_str(&format!(
                        "{rtype} {text}\n  want {:02x?}\n  read {read:02x?}\n  shown {shown}\n  again {again:02x?}\n",
                        octets(hex)
                    ));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
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

        #[test]
        fn what_is_shown_as_text_reads_back_as_the_same_octets(
            rtype in (0..crate::dns::rtype::MNEMONICS.len()).prop_map(|at| Rtype(crate::dns::rtype::MNEMONICS[at].1)),
            octets in proptest::collection::vec(prop_oneof![0_u8..4, any::<u8>()], 0..24),
        ) {
            let shown = rdata_text(&record(rtype, &octets));
            if !shown.starts_with("\\#") {
                let read = rdata::parse_text(rtype, &shown, &Name::root());
                prop_assert_eq!(read.as_deref(), Ok(octets.as_slice()), "{} {}", rtype, shown);
            }
        }
    }
}
