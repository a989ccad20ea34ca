//! Other programs' files: what the machine already has, and when it changes. Read only; nothing is changed here but this
//! process's own limits and locks, and, in `takeover`, who answers the machine's names.

pub mod changes;
pub mod files;
pub mod kernel;
pub mod lock;
pub mod network;
pub mod ports;
pub mod process;
pub mod release;
pub mod resolvers;
pub mod service;
pub mod takeover;
