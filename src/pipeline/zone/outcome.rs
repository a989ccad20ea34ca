//! What stage 4 says.

use crate::dns::{Ede, Name, Origin, Rcode, Record};

/// What stage 4 says to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing here decides it: it is routed.
    NotOurs,
    /// It may go to private servers of the group `system`, and to nothing else; without such servers the answer is
    /// [`super::Zones::withheld`].
    PrivateSystemOnly,
    /// It is answered here.
    Local(LocalAnswer),
}

/// An answer made of local data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAnswer {
    /// The response code.
    pub rcode: Rcode,
    /// Whether AA is set.
    pub authoritative: bool,
    /// The answer section, in order; an alias stands before what it leads to.
    pub answers: Vec<Record>,
    /// The authority section: the SOA of a negative answer.
    pub authority: Vec<Record>,
    /// What answered.
    pub origin: Origin,
    /// The last alias in `answers` points here, and here is decided elsewhere: ask the pipeline again.
    pub follow: Option<Name>,
    /// What decided it, for people: `FILE:LINE RECORD`, or a rule.
    pub source: String,
    /// The zone that decided it, by its place in the configuration.
    pub zone: Option<usize>,
    /// Why it is what it is, for clients that can see it.
    pub ede: Option<Ede>,
}

impl LocalAnswer {
    /// Makes a positive answer.
    pub(super) fn records(origin: Origin, answers: Vec<Record>, source: String) -> Self {
        Self {
            rcode: Rcode::NOERROR,
            authoritative: true,
            answers,
            authority: Vec::new(),
            origin,
            follow: None,
            source,
            zone: None,
            ede: None,
        }
    }

    /// Makes a negative answer (NODATA or NXDOMAIN) with the SOA that lets it be cached (RFC 2308 section 3).
    pub(super) fn negative(origin: Origin, rcode: Rcode, soa: Record, source: String) -> Self {
        Self { rcode, authority: vec![soa], ..Self::records(origin, Vec::new(), source) }
    }
}

/// What stage 4 must know of the routes, without seeing them.
pub trait Context {
    /// Tells whether a route the user wrote, other than one for `.`, takes this name.
    fn explicitly_routed(&self, name: &Name) -> bool;
    /// Tells whether a private route takes this name.
    fn private_route(&self, name: &Name) -> bool;
}
