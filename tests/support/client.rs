//! A raw DNS client over std sockets: it sends exactly what it is told and reads whatever comes back.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;
use truename::dns::wire::{Message, Section};
use truename::dns::{Name, QuestionKey, Rcode, Record, Rtype, encode};

/// How long a client waits: longer than the 4.8 s in which every question must be answered, as a stub would not.
pub(crate) const PATIENCE: Duration = Duration::from_millis(7000);

/// A response, as bytes.
#[derive(Debug, Clone)]
pub(crate) struct Response(pub(crate) Vec<u8>);

impl Response {
    pub(crate) fn view(&self) -> Message<'_> {
        Message::parse(&self.0).expect("a response has a header and one question")
    }

    pub(crate) fn rcode(&self) -> Rcode {
        self.view().extended_rcode()
    }

    pub(crate) fn has(&self, bit: u16) -> bool {
        self.view().has(bit)
    }

    /// Returns the records of the answer section.
    pub(crate) fn answers(&self) -> Vec<Record> {
        self.records(Section::Answer)
    }

    pub(crate) fn records(&self, section: Section) -> Vec<Record> {
        let view = self.view();
        view.section(section).map(|at| Record::from_message(&view, &at).expect("a well-formed record")).collect()
    }

    /// Returns the IPv4 addresses of the answer section as text, in order.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let a =
            |record: &Record| <[u8; 4]>::try_from(&*record.rdata).ok().map(|octets| Ipv4Addr::from(octets).to_string());
        self.answers().iter().filter(|record| record.rtype == Rtype::A).filter_map(a).collect()
    }

    /// Returns the info-code of the extended error, if any.
    pub(crate) fn ede(&self) -> Option<u16> {
        let edns = self.view().edns().expect("a well-formed OPT")?;
        edns.option(15).map(|data| u16::from_be_bytes([data[0], data[1]]))
    }
}

/// Makes a query with EDNS for `name`.
pub(crate) fn query(name: &str, rtype: Rtype, id: u16) -> Vec<u8> {
    encode::upstream_query(&spelled(name, rtype), id, Some(1232))
}

/// Makes the same without EDNS.
pub(crate) fn plain_query(name: &str, rtype: Rtype, id: u16) -> Vec<u8> {
    encode::upstream_query(&spelled(name, rtype), id, None)
}

/// Makes a question in the letter case it is written in.
fn spelled(name: &str, qtype: Rtype) -> QuestionKey {
    QuestionKey { qname: Name::parse(name).expect("a name"), qtype, dnssec_ok: false, checking_disabled: false }
}

/// Asks for the IPv4 addresses of a name.
pub(crate) fn ask(server: SocketAddr, name: &str) -> Response {
    exchange(server, &query(name, Rtype::A, 0x1234)).expect("every question is answered")
}

/// Asks for one type of a name.
pub(crate) fn ask_type(server: SocketAddr, name: &str, rtype: Rtype) -> Response {
    exchange(server, &query(name, rtype, 0x1234)).expect("every question is answered")
}

/// Sends one datagram from a loopback address of its own and waits for a reply with the same id.
pub(crate) fn exchange_from(from: IpAddr, server: SocketAddr, message: &[u8], wait: Duration) -> Option<Response> {
    let socket = UdpSocket::bind((from, 0)).expect("a loopback socket");
    socket.connect(server).expect("loopback is there");
    socket.set_read_timeout(Some(wait)).expect("not zero");
    socket.send(message).expect("loopback takes it");
    let mut buffer = vec![0; 65_535];
    loop {
        let len = socket.recv(&mut buffer).ok()?;
        if len >= 2 && buffer[..2] == message[..2] {
            return Some(Response(buffer[..len].to_vec()));
        }
    }
}

/// Sends one datagram and waits for its reply.
pub(crate) fn exchange(server: SocketAddr, message: &[u8]) -> Option<Response> {
    exchange_from(Ipv4Addr::LOCALHOST.into(), server, message, PATIENCE)
}

/// Opens a TCP connection.
pub(crate) fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).expect("the daemon takes connections");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

/// Writes one frame.
pub(crate) fn write_frame(stream: &mut TcpStream, message: &[u8]) {
    let len = u16::try_from(message.len()).expect("a frame's length");
    let mut frame = len.to_be_bytes().to_vec();
    frame.extend_from_slice(message);
    stream.write_all(&frame).expect("the connection is open");
}

/// Reads one frame; `None` when the other side closed.
pub(crate) fn read_frame(stream: &mut TcpStream) -> Option<Response> {
    let mut len = [0; 2];
    stream.read_exact(&mut len).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message).ok()?;
    Some(Response(message))
}
