//! The questions: every one is made of the seed and its index alone.

use super::lab::NAMES;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use truename::dns::Name;

/// Types that are asked for, the usual ones more often.
const TYPES: [u16; 40] = [
    1, 1, 1, 1, 1, 1, 28, 28, 28, 28, 5, 15, 16, 16, 6, 2, 12, 33, 39, 43, 65, 65, 64, 257, 65280, 35, 44, 52, 13, 256,
    17, 18, 29, 46, 47, 48, 99, 251, 255, 65281,
];
/// Aliases that the recursive server and the authoritative one follow.
const RECURSIVE_ALIASES: usize = 11;
/// Questions in this many that are broken on purpose.
const BROKEN_ONE_IN: u32 = 50;

/// One question.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// Its number: with the seed it makes the question again.
    pub(super) index: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) tcp: bool,
    /// What it is about, for people and for classes: `opcode`, `class`, `type ANY`, …, or the kind of name.
    pub(super) kind: String,
    /// The whole of it, for people.
    pub(super) text: String,
    pub(super) expects_silence: bool,
    pub(super) qtype: u16,
    /// It asks for a type other than ANY in one of the made zones.
    pub(super) is_of_zones: bool,
    /// Offset behind the question.
    pub(super) question_end: usize,
    /// What a datagram for this client may have.
    pub(super) limit_bytes: usize,
}

/// Makes questions.
pub(super) struct Questions {
    seed: u64,
}

impl Questions {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Makes the question with this number.
    pub(super) fn make(&self, index: usize) -> Question {
        let mut rng = StdRng::seed_from_u64(self.seed.wrapping_add(index as u64));
        let rng = &mut rng;
        let (name_kind, text) = name(rng);
        let wire = spelled(&text, rng);
        let qtype = *TYPES.choose(rng).unwrap();
        let odd = rng.random_range(0..100);
        let (opcode, qclass) = match odd {
            0 => (*[1_u16, 2, 3, 4, 5, 6, 15].choose(rng).unwrap(), 1),
            1 => (0, *[2_u16, 3, 4, 254, 255, 77].choose(rng).unwrap()),
            _ => (0, 1),
        };
        let rd = rng.random_range(0..20) > 0;
        let cd = rng.random_range(0..8) == 0;
        let ad = rng.random_range(0..4) == 0;
        let other =
            if rng.random_range(0..60) == 0 { *[0x0400_u16, 0x0200, 0x0080, 0x0040].choose(rng).unwrap() } else { 0 };
        let flags = opcode << 11 | u16::from(rd) << 8 | u16::from(ad) << 5 | u16::from(cd) << 4 | other;
        let mut bytes = rng.random::<u16>().to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend([0, 1, 0, 0, 0, 0, 0, 0]);
        bytes.extend(&wire);
        bytes.extend(qtype.to_be_bytes());
        bytes.extend(qclass.to_be_bytes());
        let question_end = bytes.len();
        let tcp = rng.random_range(0..10) == 0;
        let (edns, limit_bytes) = edns(rng, &mut bytes);
        let mut kind = match (opcode, qclass, qtype) {
            (1.., ..) => format!("opcode {opcode}"),
            (_, 0 | 2.., _) => format!("class {qclass}"),
            (_, _, 251) => "type IXFR".to_owned(),
            (_, _, 255) => "type ANY".to_owned(),
            _ if edns.starts_with("version") => "EDNS version 1".to_owned(),
            _ if !rd => format!("RD clear, {name_kind}"),
            _ if other == 0x0200 => format!("TC set, {name_kind}"),
            _ => name_kind.to_owned(),
        };
        let mut expects_silence = false;
        if rng.random_range(0..BROKEN_ONE_IN) == 0 {
            let how = rng.random_range(0..7);
            expects_silence = matches!(how, 0 | 1);
            kind = format!("broken: {}", break_it(how, &mut bytes, question_end));
        }
        let is_of_zones = ["alpha.", "beta."].iter().any(|zone| text.ends_with(zone)) && qtype != 255;
        let text = format!("{text} {qtype} class {qclass} flags {flags:04x} {edns}{}", if tcp { " tcp" } else { "" });
        Question { index, bytes, tcp, kind, text, expects_silence, qtype, is_of_zones, question_end, limit_bytes }
    }
}

/// Makes a name, and says of what kind it is.
fn name(rng: &mut StdRng) -> (&'static str, String) {
    let zone = *["alpha", "beta"].choose(rng).unwrap();
    let n = rng.random_range(0..NAMES);
    let some = rng.random_range(0..100_000);
    let (kind, labels) = match rng.random_range(0..100) {
        0..20 => ("plain", format!("a{n}")),
        20..32 => ("types", format!("t{n}")),
        32..38 => ("alias", format!("c{n}")),
        38..44 => ("alias to another zone", format!("x{n}")),
        44..47 => ("alias to nothing", format!("dead{n}")),
        47 => ("alias to a dead server", format!("out{n}")),
        48..50 => ("alias to no data", format!("nodata{n}")),
        50..53 => ("alias loop", format!("loop{n}")),
        53..59 => {
            let first = rng.random_range(0..=n % 16);
            let is_long = n % 16 - first + 1 > RECURSIVE_ALIASES;
            (if is_long { "alias chain too long" } else { "alias chain" }, format!("chain{n}-{first}"))
        }
        59..62 => ("DNAME to another zone", format!("a{}.d{n}", rng.random_range(0..NAMES))),
        62..64 => ("DNAME", format!("a.dd{n}")),
        64..66 => ("at a DNAME", format!("dd{n}")),
        66..69 => ("empty non-terminal", format!("{}ent{n}", if some % 2 == 0 { "y." } else { "" })),
        69..73 => ("wildcard", format!("w{some}.wild{n}")),
        73..75 => ("wildcard alias", format!("w{}.wildc{n}", some % 50)),
        75..77 => ("mixed case", format!("mixed{n}")),
        77..79 => ("TTL 0", format!("zero{n}")),
        79..81 => ("long TTL", format!("{}{n}", if some % 2 == 0 { "week" } else { "forever" })),
        81..84 => ("large", format!("big{}", n % 4)),
        84..86 => ("odd octets", format!("{}{n}", *["odd\\.dot", "odd\\000\\255", "odd\\032"].choose(rng).unwrap())),
        86..88 => ("delegated", (*["sub", "x.sub", "y.w.sub", "nothing.sub"].choose(rng).unwrap()).to_owned()),
        88 => ("dead delegation", format!("x{}.lamesub", some % 5)),
        89..93 => ("no such name", format!("nothing{some}")),
        93 => ("private address", format!("priv{n}")),
        94 => return ("apex", format!("{zone}.")),
        95 => return ("reverse", format!("{}.8.8.in-addr.arpa.", some % 260)),
        96 => return ("dead server", format!("x{}.{}.", some % 10, *["lame", "broken"].choose(rng).unwrap())),
        97 => return ("root and top level", (*[".", "root.", "nothing.", "ns.root."].choose(rng).unwrap()).to_owned()),
        98 => ("long labels", format!("{}.{}", "l".repeat(63), "m".repeat(63))),
        _ => {
            let special = [
                "localhost.",
                "x.localhost.",
                "x.local.",
                "x.invalid.",
                "x.test.",
                "x.onion.",
                "1.0.0.10.in-addr.arpa.",
                "1.0.0.127.in-addr.arpa.",
                "x.home.arpa.",
                "resolver.arpa.",
                "x.internal.",
                "example.",
                "use-application-dns.net.",
            ];
            return ("special use", (*special.choose(rng).unwrap()).to_owned());
        }
    };
    (kind, format!("{labels}.{zone}."))
}

/// Returns the wire form, most often with letters of both cases.
fn spelled(text: &str, rng: &mut StdRng) -> Vec<u8> {
    let mut wire = Name::parse(text).unwrap().as_wire().to_vec();
    if rng.random_range(0..3) > 0 {
        for octet in &mut wire {
            // Octets of lengths are no letters.
            if octet.is_ascii_lowercase() && rng.random::<bool>() {
                *octet = octet.to_ascii_uppercase();
            }
        }
    }
    wire
}

/// Appends an OPT to three of four questions; says what is in it, and what a datagram may then have.
fn edns(rng: &mut StdRng, bytes: &mut Vec<u8>) -> (String, usize) {
    if rng.random_range(0..4) == 0 {
        return ("no EDNS".to_owned(), 512);
    }
    let payload = *[0_u16, 512, 1232, 1232, 1232, 4096, 65_535].choose(rng).unwrap();
    let dnssec_ok = rng.random_range(0..3) == 0;
    let version = u8::from(rng.random_range(0..60) == 0);
    let (what, option): (&str, &[u8]) = match rng.random_range(0..12) {
        0 => (" NSID", &[0, 3, 0, 0]),
        1 => (" cookie", &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]),
        2 => (" padding", &[0, 12, 0, 4, 0, 0, 0, 0]),
        3 => (" subnet", &[0, 8, 0, 7, 0, 1, 24, 0, 198, 18, 0]),
        4 => (" unknown option", &[0xff, 0xf0, 0, 2, 1, 2]),
        _ => ("", &[]),
    };
    bytes[11] = 1;
    bytes.extend([0, 0, 41]);
    bytes.extend(payload.to_be_bytes());
    bytes.extend([0, version, if dnssec_ok { 0x80 } else { 0 }, 0]);
    bytes.extend(u16::try_from(option.len()).unwrap().to_be_bytes());
    bytes.extend(option);
    let text = format!(
        "{}EDNS {payload}{}{what}",
        if version > 0 { "version 1 " } else { "" },
        if dnssec_ok { " DO" } else { "" }
    );
    (text, usize::from(payload.clamp(512, 1232)))
}

fn break_it(how: u32, bytes: &mut Vec<u8>, question_end: usize) -> &'static str {
    match how {
        0 => {
            bytes[2] |= 0x80;
            "a response"
        }
        1 => {
            bytes.truncate(11);
            "11 octets"
        }
        2 => {
            bytes[5] = 2;
            "two questions promised"
        }
        3 => {
            bytes[5] = 0;
            bytes.truncate(12);
            bytes[11] = 0;
            "no question"
        }
        4 => {
            bytes.truncate(question_end - 1);
            bytes[11] = 0;
            "cut in the question"
        }
        5 => {
            bytes.push(0);
            "an octet too many"
        }
        _ => {
            bytes[12] = 0xc0;
            "a compressed question"
        }
    }
}
