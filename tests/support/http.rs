//! A raw HTTP client over Unix sockets and TCP: it sends exactly what it is told and reads what comes back.

use super::client::PATIENCE;
use std::io::{ErrorKind, Read, Write};
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
    over(open(socket), octets)
}

/// Does the same over a connection that is open.
pub(crate) fn over(mut stream: impl Read + Write, octets: &[u8]) -> Option<HttpResponse> {
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

/// Reads one response whose length is given, and leaves the connection open.
pub(crate) fn read_response(stream: &mut impl Read) -> HttpResponse {
    let mut all = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let text = String::from_utf8_lossy(&all);
        let response = HttpResponse::parse(&text);
        let length = |response: &HttpResponse| response.header("content-length").map(|length| length.parse().unwrap());
        if let Some(response) = response.filter(|response| length(response) == Some(response.body.len())) {
            return response;
        }
        let len = match stream.read(&mut buffer) {
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => panic!("{error} after {text}"),
        };
        assert!(len > 0, "the connection was closed after {text}");
        all.extend_from_slice(&buffer[..len]);
    }
}

/// Gets a document over TCP under a host name.
pub(crate) fn get_tcp(address: SocketAddr, target: &str, host: &str) -> HttpResponse {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    over(stream, request.as_bytes()).expect("a response")
}
