//! What a worker notes of an answer when it has it: the parts that are not in the answer's own octets.

use super::answers::Cell;
use crate::clock::Tick;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// One answer.
#[derive(Debug, Clone, Copy)]
pub struct Noted {
    ip: IpAddr,
    port: u16,
    pub(super) cell: Cell,
    /// Octets of the answer, its frame's length included when there is one.
    bytes: u32,
}

impl Noted {
    /// Notes an answer of so many octets and who it is for.
    #[inline]
    #[must_use]
    pub fn new(cell: Cell, client: SocketAddr, bytes: usize) -> Self {
        // A message is shorter than 64 KiB.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let ip = client.ip();
        Self { ip, port: client.port(), cell: cell.from(ip), bytes }
    }

    /// Returns the same with another number of octets.
    pub(super) fn cut_to(self, bytes: usize) -> Self {
        Self { bytes: u32::try_from(bytes).unwrap_or(u32::MAX), ..self }
    }

    /// Returns how many octets there are of it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }

    pub(super) fn client(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

/// Answers that are published together.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Each of them.
    pub noted: &'a [Noted],
    /// Their octets, one after the other.
    pub octets: &'a [u8],
    /// How many octets before each answer are not its own: the two of a frame's length over TCP, or none.
    pub prefix_bytes: u8,
    /// The upstream whose reply was used, `GROUP/NAME`; may be empty.
    pub upstream: &'a str,
    /// When the questions were read.
    pub at: Tick,
    /// How long they took.
    pub took: Duration,
    /// When the answers were ready.
    pub now: Tick,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_32_octets() {
        assert_eq!(size_of::<Noted>(), 32);
    }
}
