//! Sockets bound here.
