//! Clients in.

pub mod bind;
pub mod limits;
pub mod tcp;
pub mod udp;
