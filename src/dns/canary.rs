//! The name by which it is found out whether questions of this machine come to this daemon.
//!
//! Below `test.`, which is nobody's (RFC 6761 section 6.2) and which systemd-resolved passes on, other than `invalid.`. Its
//! address is another one in every daemon's life, somewhere in 127.0.0.0/8: another truename, in the office, does not pass
//! for the one on this machine.

/// The name; every name below it has the same address.
pub const NAME: &str = "canary.truename.test";
