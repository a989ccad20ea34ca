//! A raw HTTP client over Unix sockets and TCP: it sends exactly what it is told and reads what comes back.

use super::client::PATIENCE;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A response, taken apart.
#[derive(Debug, Clone)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl HttpResponse {
    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head: head.to_owned(), body: body.to_owned() })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The word that a problem is called by.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.head);
        let document = self.json();
        assert_eq!(document["status"], self.status);
        document["type"].as_str().unwrap().strip_prefix("urn:truename:problem:").unwrap().to_owned()
    }
}

/// Opens a connection.
pub(crate) fn open(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends octets and reads to the end; `None` when nothing that is a response came.
pub(crate) fn raw(socket: &Path, octets: &[u8]) -> Option<HttpResponse> {
    let mut stream = open(socket);
    // Whoever is refused early may find the other side closed.
    let _ = stream.write_all(octets);
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    HttpResponse::parse(&String::from_utf8_lossy(&all))
}

/// Asks with a method, headers and a body.
pub(crate) fn ask_http(socket: &Path, method: &str, target: &str, headers: &str, body: &str) -> HttpResponse {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}{length}\r\n{body}");
    raw(socket, request.as_bytes()).unwrap_or_else(|| panic!("no response to {method} {target}"))
}

/// Gets a document.
pub(crate) fn get(socket: &Path, target: &str) -> HttpResponse {
    ask_http(socket, "GET", target, "", "")
}

/// Gets a document over TCP under a host name.
pub(crate) fn get_tcp(address: SocketAddr, target: &str, host: &str) -> HttpResponse {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    HttpResponse::parse(&text).expect("a response")
}
