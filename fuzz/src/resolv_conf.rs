//! The bytes of a resolv.conf: bounded, and what was understood means the same when it is written down again.

use truename::system::resolvers::parse;

/// As documented for what is taken of one file.
const MAX_SERVERS: usize = 16;
const MAX_SEARCH: usize = 32;
const MAX_NOTES: usize = 32;

pub fn run(data: &[u8]) {
    // Files are read so: whatever is no UTF-8 becomes U+FFFD.
    let text = String::from_utf8_lossy(data);
    let read = parse(&text);
    assert!(read.servers.len() <= MAX_SERVERS, "{} servers", read.servers.len());
    assert!(read.search.len() <= MAX_SEARCH, "{} search domains", read.search.len());
    assert!(read.notes.len() <= MAX_NOTES, "{} notes", read.notes.len());
    assert!(!read.notes.iter().any(|note| note.chars().any(char::is_control)), "{:?}", read.notes);
    for (at, server) in read.servers.iter().enumerate() {
        assert!(!server.ip().is_unspecified(), "nobody listens at {server}");
        assert!(!read.servers[..at].contains(server), "{server} twice");
    }
    let mentioned = text.matches("nameserver").count();
    assert!(read.servers.len() <= mentioned, "{} servers of {mentioned} lines", read.servers.len());
    let servers: String = read.servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    // `#` and `;` begin comments, so names that hold one cannot be written down.
    let names: Vec<String> = read.search.iter().map(ToString::to_string).collect();
    if names.iter().any(|name| name.contains(['#', ';']) || name.chars().any(char::is_whitespace)) {
        return;
    }
    let again = parse(&format!("{servers}search {}\n", names.join(" ")));
    assert_eq!((again.servers, again.search), (read.servers, read.search), "written down it means something else");
    assert_eq!(again.notes, Vec::<String>::new());
}
