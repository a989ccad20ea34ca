//! The vocabulary: names, message bytes, queries, answers, traces.
//!
//! Pure and at the bottom: this folder imports nothing else of ours, does no I/O, reads no clock, and never
//! panics on foreign bytes. A message travels through truename as the bytes it arrived in; what is decoded
//! is decoded in place ([`wire`]), and what truename says itself is written by [`encode`].

pub mod address;
pub mod answer;
pub mod borrowed;
pub mod canary;
pub mod encode;
pub mod foreign;
pub mod name;
pub mod query;
pub mod rtype;
pub mod tag;
pub mod trace;
pub mod wire;

pub use answer::{Answer, Ede, Origin, Record};
pub use name::{Name, NameBuf, NameError};
pub use query::{Arrival, Query, QuestionKey, Transport};
pub use rtype::{Rcode, Rtype};
pub use tag::{Decided, Tag};
pub use trace::{Stage, Trace};
