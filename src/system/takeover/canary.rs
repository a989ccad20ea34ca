//! A question that only truename answers, asked as programs of this machine ask theirs.
//!
//! Each has a label of its own, so no cache on the way has the answer. The answer is an address that the daemon drew when it
//! started, so nobody else gives it: it is asked directly first, and then on the way of everybody.

use super::command::run;
use super::plan::Step;
use crate::dns::canary::NAME;
use crate::dns::encode::upstream_query;
use crate::dns::wire::u16_at;
use crate::dns::{Name, Query, Rtype};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

/// Where we answer.
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often one is asked for: a daemon that is being started, or a systemd-resolved that is just hearing of a link.
const TRIES: u32 = 5;
/// Pause between two tries that failed at once.
const PAUSE: Duration = Duration::from_millis(100);
/// Octets of an answer.
const MAX_ANSWER_BYTES: usize = 512;

/// Asks the daemon itself, over UDP and TCP.
pub(super) fn daemon() -> io::Result<()> {
    let both = || {
        // A daemon that was started anew between the two says so to the next pair.
        if udp()? == tcp()? { Ok(()) } else { Err(io::Error::other("it does not say the same twice")) }
    };
    tried("truename does not answer on 127.0.0.1:53", both)
}

/// Asks the daemon once over UDP.
pub(super) fn daemon_once() -> bool {
    udp().is_ok()
}

/// Asks as programs do.
pub(super) fn machine(steps: &[Step]) -> io::Result<()> {
    tried("looking a name up does not lead to truename", looked_up)?;
    if steps.contains(&Step::Link) {
        tried("resolvectl does not lead to truename", || {
            let address = udp()?;
            let said = run("resolvectl", &["query", "--cache=no", "--legend=no", "--type=A", &fresh()])?;
            found(has_word(&said.out, address), &said.complaint())
        })?;
    }
    Ok(())
}

fn tried(what: &str, ask: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let mut tries = 1;
    loop {
        match ask() {
            Ok(()) => return Ok(()),
            Err(error) if tries == TRIES => return Err(io::Error::new(error.kind(), format!("{what}: {error}"))),
            Err(_) => sleep(PAUSE),
        }
        tries += 1;
    }
}

fn udp() -> io::Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(SERVER)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let (query, id) = query()?;
    socket.send(&query)?;
    let mut reply = [0; MAX_ANSWER_BYTES];
    loop {
        let len = socket.recv(&mut reply)?;
        if u16_at(&reply[..len], 0) == Some(id) {
            return judge(&reply[..len]);
        }
    }
}

fn tcp() -> io::Result<Ipv4Addr> {
    let mut stream = TcpStream::connect_timeout(&SERVER, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (query, _) = query()?;
    let len = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes()[..], &query].concat())?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(len)).min(MAX_ANSWER_BYTES)];
    stream.read_exact(&mut reply)?;
    judge(&reply)
}

fn query() -> io::Result<(Vec<u8>, u16)> {
    let name = Name::parse(&fresh()).map_err(io::Error::other)?;
    let id = rand::random();
    Ok((upstream_query(&Query::local(name, Rtype::A).question(), id, None), id))
}

/// Without an OPT in the question the answer ends in the address.
fn judge(reply: &[u8]) -> io::Result<Ipv4Addr> {
    let address = reply.last_chunk().map(|octets: &[u8; 4]| Ipv4Addr::from(*octets));
    let is_positive = u16_at(reply, 2).is_some_and(|flags| flags & 0xf == 0) && u16_at(reply, 6) == Some(1);
    let address = address.filter(|address| is_positive && address.is_loopback());
    address.ok_or_else(|| io::Error::other("another server answered"))
}

/// Looks a name up through nsswitch.conf. `hosts`, not `ahostsv4`: getaddrinfo(3) with AI_ADDRCONFIG finds no IPv4 address on a
/// machine that has none but 127.0.0.1, and such a machine has its local names all the same.
fn looked_up() -> io::Result<()> {
    let address = udp()?;
    let name = fresh();
    match run("getent", &["hosts", &name]) {
        Ok(said) => found(has_word(&said.out, address), "getent finds no address, or another one"),
        // A process of its own reads nsswitch.conf anew; where there is no such program, this one is young enough.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut addresses = (name.as_str(), 0).to_socket_addrs()?;
            found(addresses.any(|found| found.ip() == address), "no address, or another one")
        }
        Err(error) => Err(error),
    }
}

fn has_word(text: &str, address: Ipv4Addr) -> bool {
    let address = address.to_string();
    text.split_whitespace().any(|word| word == address)
}

fn found(is_ours: bool, otherwise: &str) -> io::Result<()> {
    if is_ours { Ok(()) } else { Err(io::Error::other(otherwise.to_owned())) }
}

/// Returns a name that nobody has asked for before.
fn fresh() -> String {
    format!("{:016x}.{NAME}", rand::random::<u64>())
}
