//! Stage 4: what truename answers by itself: rewrites, hosts files, local zones, special-use names.

mod encoding;
mod generate;
mod master;
pub mod presentation;
mod rdata;
mod token;
