//! The frame of a snapshot: a header, checksummed chunks, and an end that says how many entries there were. Pure.
//!
//! ```text
//! header  "truename cache\r\n" │ format, 2 octets │ written, Unix ms, 8 │ CRC-32 of that, 4
//! chunk   octets, 4 │ entries, 4 │ CRC-32 of both and of the body, 4 │ body
//! …
//! end     a chunk without body; its entries are all there were; then nothing
//! ```
//!
//! Numbers are in network order. A file that was torn has no end; a chunk that was changed has another checksum. The
//! checksum is against accidents: who can write to the state directory can also write a right one, so entries are
//! checked again one by one.

use std::io::{self, Read, Write};

/// What a snapshot begins with. The line end shows when a transfer has changed line ends.
const MAGIC: &[u8; 16] = b"truename cache\r\n";
/// The format this version writes and reads.
const FORMAT: u16 = 1;
/// Octets of a header.
pub(super) const HEADER_BYTES: usize = 16 + 2 + 8 + 4;
/// Octets before a chunk's body.
const CHUNK_HEAD_BYTES: usize = 12;
/// Octets of a chunk's body after which another is begun: what one reading costs in memory.
const CHUNK_BYTES: usize = 256 << 10;
/// Octets of the largest body: one entry, of 65,535 octets and some, may begin right before the limit.
pub(super) const MAX_CHUNK_BYTES: usize = CHUNK_BYTES + (128 << 10);

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It is something else.
    #[error("it is no snapshot of truename's cache")]
    Foreign,
    /// A later version wrote it.
    #[error("it has format {0}; this version reads format {FORMAT}")]
    Newer(u16),
    /// It ends before its end.
    #[error("it is torn: it ends before its end mark")]
    Torn,
    /// What was read is not what was written.
    #[error("it is damaged at octet {at}: {what}")]
    Damaged {
        /// Where in the file the part begins that is.
        at: u64,
        /// What does not hold.
        what: &'static str,
    },
    /// It cannot be read at all; says nothing about the file.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
}

/// Writes a snapshot.
#[derive(Debug)]
pub(super) struct Writer<W> {
    out: W,
    body: Vec<u8>,
    in_body: u32,
    total: u32,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(mut out: W, written_ms: u64) -> io::Result<Self> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&FORMAT.to_be_bytes());
        header.extend_from_slice(&written_ms.to_be_bytes());
        header.extend_from_slice(&crc32fast::hash(&header).to_be_bytes());
        out.write_all(&header)?;
        Ok(Self { out, body: Vec::with_capacity(MAX_CHUNK_BYTES), in_body: 0, total: 0 })
    }

    /// Appends one entry.
    pub(super) fn entry(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.body.extend_from_slice(bytes);
        self.in_body += 1;
        if self.body.len() >= CHUNK_BYTES { self.end_chunk() } else { Ok(()) }
    }

    /// Writes the end; returns how many entries there are.
    pub(super) fn finish(mut self) -> io::Result<u32> {
        if self.in_body > 0 {
            self.end_chunk()?;
        }
        let total = self.total;
        self.in_body = total;
        self.end_chunk()?;
        self.out.flush()?;
        Ok(total)
    }

    fn end_chunk(&mut self) -> io::Result<()> {
        let octets = u32::try_from(self.body.len()).map_err(io::Error::other)?;
        let head = [octets.to_be_bytes(), self.in_body.to_be_bytes()].concat();
        self.out.write_all(&head)?;
        self.out.write_all(&checksum(&head, &self.body).to_be_bytes())?;
        self.out.write_all(&self.body)?;
        self.total = self.total.saturating_add(self.in_body);
        self.in_body = 0;
        self.body.clear();
        Ok(())
    }
}

/// Reads a whole snapshot: the header's time, then every chunk's body with the number of its entries, one at a time.
pub(super) fn read(
    input: &mut impl Read,
    mut chunk: impl FnMut(u64, &[u8], u32) -> Result<(), Fault>,
) -> Result<u32, Fault> {
    let mut header = [0; HEADER_BYTES];
    let got = fill(input, &mut header)?;
    let (magic, rest) = header.split_at(MAGIC.len());
    if got < MAGIC.len() && MAGIC.starts_with(&header[..got]) {
        return Err(Fault::Torn);
    }
    if magic != MAGIC {
        return Err(Fault::Foreign);
    }
    if got < HEADER_BYTES {
        return Err(Fault::Torn);
    }
    // A later format may have another header, so its number counts before the checksum.
    let format = u16::from_be_bytes([rest[0], rest[1]]);
    if format != FORMAT {
        return Err(Fault::Newer(format));
    }
    let (covered, crc) = header.split_at(HEADER_BYTES - 4);
    if crc32fast::hash(covered).to_be_bytes() != crc {
        return Err(Fault::Damaged { at: 0, what: "the header's checksum" });
    }
    let written_ms = be_u64(&rest[2..10]);
    let (mut at, mut total) = (HEADER_BYTES as u64, 0_u32);
    let mut body = Vec::new();
    loop {
        let mut head = [0; CHUNK_HEAD_BYTES];
        if fill(input, &mut head)? < CHUNK_HEAD_BYTES {
            return Err(Fault::Torn);
        }
        let (octets, entries) = (be_u32(&head[..4]), be_u32(&head[4..8]));
        let octets = usize::try_from(octets).unwrap_or(usize::MAX);
        if octets > MAX_CHUNK_BYTES {
            return Err(Fault::Damaged { at, what: "a chunk is longer than any is written" });
        }
        body.resize(octets, 0);
        if fill(input, &mut body)? < octets {
            return Err(Fault::Torn);
        }
        if checksum(&head[..8], &body) != be_u32(&head[8..]) {
            return Err(Fault::Damaged { at, what: "a chunk's checksum" });
        }
        if octets == 0 {
            break if entries == total && fill(input, &mut [0])? == 0 {
                Ok(total)
            } else {
                Err(Fault::Damaged { at, what: "the end does not fit what was before it" })
            };
        }
        total = total.saturating_add(entries);
        chunk(written_ms, &body, entries)?;
        at += (CHUNK_HEAD_BYTES + octets) as u64;
    }
}

/// Reads until the buffer is full or the input is over; returns how much there was.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, Fault> {
    let mut got = 0;
    while got < buffer.len() {
        match input.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Fault::Unreadable(error)),
        }
    }
    Ok(got)
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    crc.update(body);
    crc.finalize()
}

/// Reads a number in network order from the first octets of a slice; missing ones count as 0.
pub(super) fn be_u32(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// As [`be_u32`], of eight octets.
pub(super) fn be_u64(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
