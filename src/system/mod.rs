//! Other programs' files: what the machine already has. Read only; nothing is changed here.

pub mod files;
pub mod ports;
pub mod resolvers;
