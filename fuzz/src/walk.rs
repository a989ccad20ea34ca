//! A reader of messages that shares no code with the one under test: slow, strict, and panicking at what no answer of
//! ours may hold.

/// One record of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// 0 answer, 1 authority, 2 additional.
    pub section: usize,
    /// The owner, uncompressed and in lower case.
    pub owner: Vec<u8>,
    pub rtype: u16,
    pub class: u16,
    pub ttl: u32,
    /// Where the data lies.
    pub data: std::ops::Range<usize>,
}

/// A message of ours, read to its last octet.
#[derive(Debug, Clone)]
pub struct Walked {
    pub id: u16,
    pub flags: u16,
    /// The question's bytes as they stand; empty without a question.
    pub question: Vec<u8>,
    pub records: Vec<Record>,
}

impl Walked {
    pub fn rcode(&self) -> u16 {
        let extended = self.opt().map_or(0, |opt| (opt.ttl >> 24) << 4);
        u16::try_from(extended).expect("twelve bits") | (self.flags & 15)
    }

    pub fn opt(&self) -> Option<&Record> {
        self.records.iter().find(|record| record.rtype == 41)
    }

    pub fn section(&self, section: usize) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |record| record.section == section)
    }
}

pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().expect("two octets"))
}

/// Reads an answer of ours; panics when it is not a whole message and nothing more.
pub fn walk(bytes: &[u8]) -> Walked {
    assert!(bytes.len() >= 12, "an answer shorter than a header: {bytes:02x?}");
    let questions = u16_at(bytes, 4);
    assert!(questions <= 1, "{questions} questions in an answer");
    let mut at = 12;
    if questions == 1 {
        at = name(bytes, at).1 + 4;
        assert!(at <= bytes.len(), "the question is cut");
    }
    let question = bytes[12..at].to_vec();
    let mut records = Vec::new();
    for (section, count_at) in [6, 8, 10].into_iter().enumerate() {
        for _ in 0..u16_at(bytes, count_at) {
            let (owner, fixed) = name(bytes, at);
            let data = fixed + 10..fixed + 10 + usize::from(u16_at(bytes, fixed + 8));
            assert!(data.end <= bytes.len(), "a record is cut");
            let ttl = u32::from_be_bytes(bytes[fixed + 4..fixed + 8].try_into().expect("four octets"));
            at = data.end;
            let (rtype, class) = (u16_at(bytes, fixed), u16_at(bytes, fixed + 2));
            records.push(Record { section, owner, rtype, class, ttl, data });
        }
    }
    assert_eq!(at, bytes.len(), "bytes follow the last record of an answer");
    let opts = records.iter().filter(|record| record.rtype == 41).count();
    assert!(opts <= 1, "{opts} OPT records");
    Walked { id: u16_at(bytes, 0), flags: u16_at(bytes, 2), question, records }
}

/// Returns the name at `at`, uncompressed and in lower case, and where it ends.
pub fn name(bytes: &[u8], at: usize) -> (Vec<u8>, usize) {
    let (mut out, mut end, mut at, mut jumps) = (Vec::new(), None, at, 0);
    loop {
        let len = usize::from(bytes[at]);
        if len >= 0xc0 {
            end.get_or_insert(at + 2);
            at = usize::from(u16_at(bytes, at) & 0x3fff);
            jumps += 1;
            assert!(jumps < 128, "a name's pointers loop");
            continue;
        }
        assert!(len < 64, "an unknown label type");
        out.extend(bytes[at..=at + len].iter().map(u8::to_ascii_lowercase));
        at += 1 + len;
        if len == 0 {
            assert!(out.len() <= 255, "a name of more than 255 octets");
            return (out, end.unwrap_or(at));
        }
    }
}
