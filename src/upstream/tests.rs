//! The whole of `ask`: against sockets on loopback in real time, and against a network in memory in paused time.

pub(super) mod fake;
mod hold;
mod ladder;
mod load;
mod memory;
mod play;
mod sockets;
