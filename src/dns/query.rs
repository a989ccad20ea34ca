//! What a client asked, and how it reached us.

use super::name::Name;
use super::rtype::Rtype;
use super::wire::{self, ParsedQuery, flag};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How a query came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// A length-prefixed frame (RFC 7766).
    Tcp,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

/// How a question reached us.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Who asks.
    pub client: SocketAddr,
    /// Which of our addresses was asked.
    pub local: SocketAddr,
    /// How.
    pub transport: Transport,
}

/// One question with everything about it that may change its answer. Owned, so that it can outlive its datagram.
#[derive(Debug, Clone)]
pub struct Query {
    /// The id to answer with.
    pub id: u16,
    /// The name, in the letter case the client wrote (it is echoed so).
    pub qname: Name,
    /// The type.
    pub qtype: Rtype,
    /// The class; IN for nearly all.
    pub qclass: u16,
    /// RD was set.
    pub recursion_desired: bool,
    /// CD was set.
    pub checking_disabled: bool,
    /// AD was set: the client understands AD in answers (RFC 6840 section 5.7).
    pub authentic_data: bool,
    /// The client sent an OPT record.
    pub edns: Option<ClientEdns>,
    /// Who asks.
    pub client: SocketAddr,
    /// Which of our addresses was asked.
    pub local: SocketAddr,
    /// How.
    pub transport: Transport,
}

/// What truename keeps of a client's OPT record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientEdns {
    /// The UDP payload the client takes, at least 512.
    pub payload_bytes: u16,
    /// DNSSEC records are wanted.
    pub dnssec_ok: bool,
}

impl Query {
    /// Copies a parsed query out of its datagram.
    #[must_use]
    pub fn from_wire(parsed: &ParsedQuery<'_>, arrival: &Arrival) -> Self {
        let &Arrival { client, local, transport } = arrival;
        let message = &parsed.message;
        Self {
            id: message.id(),
            // `Message` has checked the name, so it always converts.
            qname: Name::from_wire(message.qname()).unwrap_or_else(|_| Name::root()),
            qtype: message.qtype(),
            qclass: message.qclass(),
            recursion_desired: message.has(flag::RD),
            checking_disabled: message.has(flag::CD),
            authentic_data: message.has(flag::AD),
            edns: parsed
                .edns
                .map(|edns| ClientEdns { payload_bytes: parsed.payload_bytes(), dnssec_ok: edns.dnssec_ok }),
            client,
            local,
            transport,
        }
    }

    /// Makes a query of our own, as `truename query` and tests ask it: RD set, EDNS present, over TCP so that
    /// nothing is cut.
    #[must_use]
    pub fn local(qname: Name, qtype: Rtype) -> Self {
        let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self {
            id: 0,
            qname,
            qtype,
            qclass: wire::CLASS_IN,
            recursion_desired: true,
            checking_disabled: false,
            authentic_data: false,
            edns: Some(ClientEdns { payload_bytes: u16::MAX, dnssec_ok: false }),
            client: loopback,
            local: loopback,
            transport: Transport::Tcp,
        }
    }

    /// Tells whether DNSSEC records are wanted.
    #[must_use]
    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// Returns what distinguishes this question from others for the upstreams.
    #[must_use]
    pub fn question(&self) -> QuestionKey {
        QuestionKey {
            qname: self.qname.to_lower(),
            qtype: self.qtype,
            dnssec_ok: self.dnssec_ok(),
            checking_disabled: self.checking_disabled,
        }
    }
}

/// A question as it goes to upstreams: class IN, lower-case name, and the bits that change what comes back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QuestionKey {
    /// The name, lower-cased.
    pub qname: Name,
    /// The type.
    pub qtype: Rtype,
    /// DO: send DNSSEC records.
    pub dnssec_ok: bool,
    /// CD: do not withhold what fails validation.
    pub checking_disabled: bool,
}
