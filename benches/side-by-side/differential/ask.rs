//! One question to both, each on a socket of its own.

use super::lab::{OURS, RECURSIVE, THEIRS};
use super::question::Question;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// truename answers everything within 4.8 s; unbound tries an upstream that is slow for longer.
const PATIENCE: Duration = Duration::from_secs(12);
/// For messages that both are expected to pass over in silence.
const SHORT: Duration = Duration::from_millis(500);

/// What two servers say to one question; `None` is silence.
pub(super) struct Heard {
    pub(super) ours: Option<Vec<u8>>,
    /// How long truename's answer took.
    pub(super) took: Duration,
    pub(super) theirs: Option<Vec<u8>>,
}

/// Asks unbound and then truename.
#[expect(clippy::disallowed_methods, reason = "a harness measures by the clock at hand")]
pub(super) fn both(question: &Question) -> Heard {
    let patience = if question.expects_silence { SHORT } else { PATIENCE };
    let theirs = ask(question, THEIRS, patience);
    let begun = Instant::now();
    let ours = ask(question, OURS, patience);
    Heard { ours, took: begun.elapsed(), theirs }
}

/// Returns what the upstream of both says; `None` is silence.
pub(super) fn upstream(question: &Question) -> Option<Vec<u8>> {
    ask(question, RECURSIVE, PATIENCE)
}

fn ask(question: &Question, server: &str, patience: Duration) -> Option<Vec<u8>> {
    let server: SocketAddr = format!("{server}:53").parse().unwrap();
    if question.tcp { over_tcp(&question.bytes, server, patience) } else { over_udp(&question.bytes, server, patience) }
}

fn over_udp(bytes: &[u8], server: SocketAddr, patience: Duration) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.connect(server).unwrap();
    socket.send(bytes).ok()?;
    let mut answer = vec![0; 65_535];
    let len = socket.recv(&mut answer).ok()?;
    answer.truncate(len);
    Some(answer)
}

fn over_tcp(bytes: &[u8], server: SocketAddr, patience: Duration) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(patience)).unwrap();
    let len = u16::try_from(bytes.len()).unwrap();
    stream.write_all(&[&len.to_be_bytes()[..], bytes].concat()).ok()?;
    let mut len = [0; 2];
    stream.read_exact(&mut len).ok()?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut answer).ok()?;
    Some(answer)
}
