//! Record types and response codes: numbers with the mnemonics of the IANA registry.

use std::fmt;
use std::str::FromStr;

/// A record type (RFC 1035 section 3.2.2, RFC 3597): any 16-bit number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rtype(pub u16);

macro_rules! rtypes {
    ($($name:ident $text:literal = $number:literal,)*) => {
        #[allow(missing_docs, reason = "the registry's mnemonics say it")]
        impl Rtype { $(pub const $name: Self = Self($number);)* }
        /// Every mnemonic known here, with its number.
        pub const MNEMONICS: &[(&str, u16)] = &[$(($text, $number)),*];
    };
}

rtypes! {
    A "A" = 1, NS "NS" = 2, MD "MD" = 3, MF "MF" = 4, CNAME "CNAME" = 5, SOA "SOA" = 6, MB "MB" = 7, MG "MG" = 8, MR "MR" = 9,
    NULL "NULL" = 10, WKS "WKS" = 11, PTR "PTR" = 12, HINFO "HINFO" = 13, MINFO "MINFO" = 14, MX "MX" = 15, TXT "TXT" = 16,
    RP "RP" = 17, AFSDB "AFSDB" = 18, X25 "X25" = 19, ISDN "ISDN" = 20, RT "RT" = 21, NSAP_PTR "NSAP-PTR" = 23, SIG "SIG" = 24, KEY "KEY" = 25, PX "PX" = 26,
    GPOS "GPOS" = 27, AAAA "AAAA" = 28, LOC "LOC" = 29, NXT "NXT" = 30, SRV "SRV" = 33, NAPTR "NAPTR" = 35, KX "KX" = 36, CERT "CERT" = 37,
    DNAME "DNAME" = 39, OPT "OPT" = 41, APL "APL" = 42, DS "DS" = 43, SSHFP "SSHFP" = 44, IPSECKEY "IPSECKEY" = 45,
    RRSIG "RRSIG" = 46, NSEC "NSEC" = 47, DNSKEY "DNSKEY" = 48, DHCID "DHCID" = 49, NSEC3 "NSEC3" = 50, NSEC3PARAM "NSEC3PARAM" = 51,
    TLSA "TLSA" = 52, SMIMEA "SMIMEA" = 53, HIP "HIP" = 55, NINFO "NINFO" = 56, RKEY "RKEY" = 57,
    TALINK "TALINK" = 58, CDS "CDS" = 59, CDNSKEY "CDNSKEY" = 60, OPENPGPKEY "OPENPGPKEY" = 61,
    CSYNC "CSYNC" = 62, ZONEMD "ZONEMD" = 63, SVCB "SVCB" = 64, HTTPS "HTTPS" = 65,
    DSYNC "DSYNC" = 66, HHIT "HHIT" = 67, BRID "BRID" = 68, SPF "SPF" = 99, NID "NID" = 104, L32 "L32" = 105, L64 "L64" = 106, LP "LP" = 107, EUI48 "EUI48" = 108, EUI64 "EUI64" = 109,
    TKEY "TKEY" = 249, TSIG "TSIG" = 250, IXFR "IXFR" = 251, AXFR "AXFR" = 252, MAILB "MAILB" = 253, MAILA "MAILA" = 254, ANY "ANY" = 255,
    URI "URI" = 256, CAA "CAA" = 257, AVC "AVC" = 258, AMTRELAY "AMTRELAY" = 260, RESINFO "RESINFO" = 261, WALLET "WALLET" = 262, CLA "CLA" = 263,
    TA "TA" = 32768, DLV "DLV" = 32769, ANAME "ANAME" = 65305,
}

impl Rtype {
    /// Tells whether the number names something one asks for but never stores (RFC 6895 section 3.1).
    #[must_use]
    pub fn is_meta(self) -> bool {
        self == Self::OPT || (128..=255).contains(&self.0)
    }
}

impl fmt::Display for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match MNEMONICS.iter().find(|(_, number)| *number == self.0) {
            Some((text, _)) => f.write_str(text),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

impl fmt::Debug for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Rtype {
    type Err = UnknownRtype;

    /// Reads a mnemonic in any letter case, or `TYPE` and a number (RFC 3597 section 5).
    fn from_str(text: &str) -> Result<Self, UnknownRtype> {
        let upper = text.to_ascii_uppercase();
        if let Some((_, number)) = MNEMONICS.iter().find(|(mnemonic, _)| *mnemonic == upper) {
            return Ok(Self(*number));
        }
        upper.strip_prefix("TYPE").and_then(|digits| digits.parse().ok()).map(Self).ok_or(UnknownRtype)
    }
}

/// The text is no record type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a record type: write a mnemonic such as AAAA, or TYPE and a number")]
pub struct UnknownRtype;

/// A response code with its extended bits (RFC 6895 section 2.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rcode(pub u16);

#[allow(missing_docs, reason = "the registry's mnemonics say it")]
impl Rcode {
    pub const NOERROR: Self = Self(0);
    pub const FORMERR: Self = Self(1);
    pub const SERVFAIL: Self = Self(2);
    pub const NXDOMAIN: Self = Self(3);
    pub const NOTIMP: Self = Self(4);
    pub const REFUSED: Self = Self(5);
    pub const BADVERS: Self = Self(16);
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            0 => "NOERROR",
            1 => "FORMERR",
            2 => "SERVFAIL",
            3 => "NXDOMAIN",
            4 => "NOTIMP",
            5 => "REFUSED",
            6 => "YXDOMAIN",
            7 => "YXRRSET",
            8 => "NXRRSET",
            9 => "NOTAUTH",
            10 => "NOTZONE",
            16 => "BADVERS",
            23 => "BADCOOKIE",
            other => return write!(f, "RCODE{other}"),
        };
        f.write_str(text)
    }
}

impl fmt::Debug for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mnemonic_reads_back_as_its_number() {
        for (text, number) in MNEMONICS {
            assert_eq!(text.parse(), Ok(Rtype(*number)));
            assert_eq!(Rtype(*number).to_string(), *text);
        }
        assert_eq!("type65280".parse(), Ok(Rtype(65280)));
        assert_eq!(Rtype(65280).to_string(), "TYPE65280");
        assert_eq!("TYPE70000".parse::<Rtype>(), Err(UnknownRtype));
    }
}
