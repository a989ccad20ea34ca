//! DNS over TCP (RFC 7766).
