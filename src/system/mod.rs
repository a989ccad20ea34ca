//! Other programs' files: what the machine already has, and when it changes. Read only; nothing is changed here.

pub mod changes;
pub mod files;
pub mod ports;
pub mod resolvers;
