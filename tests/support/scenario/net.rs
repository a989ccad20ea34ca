//! The upstreams of a scenario: a network played in memory.

use super::file::{Address, Behaviour, Extended, Flag, Reply, Span, Text, Upstream};
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, Weak};
use std::time::Duration;
use truename::config::UpstreamTransport;
use truename::dns::encode::MessageBuilder;
use truename::dns::wire::{Message, Section, flag};
use truename::dns::{Name, Query, Rcode, Record, Rtype, Trace};
use truename::pipeline::Pipeline;
use truename::upstream::{NetEvent, SimulatedNet, SimulatedQuery, SimulatedReplies};

/// Aliases an upstream follows in what it knows.
const MAX_ALIASES: usize = 16;
/// The payload size that upstreams announce.
const PAYLOAD_BYTES: u16 = 1232;
/// Replies with a wrong id that come before the right one.
const FORGED: u16 = 1000;
/// Option code of an extended error.
const OPTION_EDE: u16 = 15;

/// Every upstream, and what they were asked.
#[derive(Debug, Default)]
pub(super) struct Net {
    upstreams: Mutex<BTreeMap<Address, Upstream>>,
    asked: Mutex<Vec<(Address, Name)>>,
    /// Where an upstream that loops hands its questions; set once there is a pipeline.
    pub(super) pipeline: OnceLock<Weak<Pipeline>>,
}

impl Net {
    /// Puts an upstream in the place of the one with its address.
    pub(super) fn set(&self, upstream: Upstream) {
        self.upstreams.lock().unwrap().insert(upstream.address.0, upstream);
    }

    /// Returns every query since the last call.
    pub(super) fn take_asked(&self) -> Vec<(Address, Name)> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// Hands a question back to truename, as a misconfigured router does, and passes on what it says.
    fn hand_back(&self, bytes: Vec<u8>, delay: Duration, replies: SimulatedReplies) {
        let pipeline = self.pipeline.get().expect("set before the first question").clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let Some(pipeline) = pipeline.upgrade() else { return };
            let view = Message::parse(&bytes).expect("it was sent by truename");
            let query = Query::local(Name::from_wire(view.qname()).expect("parsed"), view.qtype());
            let answer = Box::pin(pipeline.answer(&query, &mut Trace::off())).await;
            let mut reply = answer.message.into_vec();
            reply[..2].copy_from_slice(&bytes[..2]);
            replies.message(Duration::ZERO, reply);
        });
    }
}

impl SimulatedNet for Net {
    fn send(&self, query: SimulatedQuery, replies: SimulatedReplies) {
        let address = Address(query.server);
        let view = Message::parse(&query.bytes).expect("truename sends messages");
        let qname = Name::from_wire(view.qname()).expect("parsed");
        self.asked.lock().unwrap().push((address, qname.to_lower()));
        let Some(upstream) = self.upstreams.lock().unwrap().get(&address).cloned() else { return };
        let written = upstream.replies.iter().find(|reply| reply.fits(&qname, &view));
        let Text(Span(delay)) = written.and_then(|reply| reply.delay).unwrap_or(upstream.delay);
        let behaves = written.and_then(|reply| reply.behaves).unwrap_or(upstream.behaves);
        let is_tcp = query.transport == UpstreamTransport::Tcp;
        let has_edns = view.edns().ok().flatten().is_some();
        let says = || match written {
            Some(reply) => Said::of_reply(reply),
            None => Said::of_records(&upstream, &qname, view.qtype()),
        };
        let say = |said: &Said| replies.message(delay, said.to_message(&view, &qname));
        let is_datagram = query.transport == UpstreamTransport::Udp;
        for injected in upstream.injected.iter().filter(|reply| is_datagram && reply.fits(&qname, &view)) {
            let Text(Span(after)) = injected.delay.unwrap_or_default();
            let said = Said { is_plain: true, ..Said::of_reply(injected) };
            replies.message(after, said.to_message(&view, &qname));
        }
        let cut = || say(&Said { flags: flag::TC, ..Said::default() });
        match behaves {
            Behaviour::Silent => {}
            Behaviour::DropsEdns if has_edns => {}
            Behaviour::Unreachable => replies.deliver(delay, NetEvent::Error(std::io::ErrorKind::ConnectionRefused)),
            Behaviour::Loops => self.hand_back(query.bytes.clone(), delay, replies),
            Behaviour::Truncates if !is_tcp => cut(),
            Behaviour::AlwaysTruncates => cut(),
            Behaviour::RefusesEdns if has_edns => {
                let refusal = Said { rcode: Rcode::FORMERR, is_plain: true, ..Said::default() };
                say(&refusal);
            }
            Behaviour::LowersCase => replies.message(delay, says().to_message(&view, &qname.to_lower())),
            Behaviour::Empty => say(&Said::default()),
            Behaviour::GarbageFirst => {
                replies.message(delay, vec![0xff; 3]);
                replies.message(delay, [&query.bytes[..2], &[0x81, 0x80, 0, 1, 0, 9, 0, 0, 0, 0, 0xc0]].concat());
                replies.message(delay + Duration::from_millis(1), says().to_message(&view, &qname));
            }
            Behaviour::ForgedFirst => {
                let record =
                    Record { owner: qname.clone(), rtype: Rtype::A, class: 1, ttl: 300, rdata: [6, 6, 6, 6].into() };
                let forged = Said { answer: vec![record], ..Said::default() }.to_message(&view, &qname);
                for n in 1..=if is_tcp { 0 } else { FORGED } {
                    let mut wrong = forged.clone();
                    wrong[..2].copy_from_slice(&view.id().wrapping_add(n).to_be_bytes());
                    replies.message(Duration::ZERO, wrong);
                }
                say(&says());
            }
            Behaviour::Answers | Behaviour::Truncates | Behaviour::DropsEdns | Behaviour::RefusesEdns => say(&says()),
        }
    }
}

impl Reply {
    fn fits(&self, qname: &Name, query: &Message<'_>) -> bool {
        let dnssec_ok = query.edns().ok().flatten().is_some_and(|edns| edns.dnssec_ok);
        let to = |question: &Text<super::file::Question>| {
            let is_type = question.0.rtype.is_none_or(|rtype| rtype == query.qtype());
            is_type && Name::parse(&question.0.name).is_ok_and(|name| name == *qname)
        };
        self.to.as_ref().is_none_or(to) && self.dnssec.is_none_or(|wanted| wanted == dnssec_ok)
    }
}

/// The content of a reply.
#[derive(Debug)]
struct Said {
    rcode: Rcode,
    answer: Vec<Record>,
    authority: Vec<Record>,
    additional: Vec<Record>,
    ede: Option<Extended>,
    flags: u16,
    /// Without OPT, whatever was asked.
    is_plain: bool,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            rcode: Rcode::NOERROR,
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            ede: None,
            flags: 0,
            is_plain: false,
        }
    }
}

impl Said {
    fn of_reply(reply: &Reply) -> Self {
        let records = |lines: &[Text<super::file::Line>]| lines.iter().map(|line| line.0.0.clone()).collect();
        let bit = |flag: &Text<Flag>| match flag.0 {
            Flag::Header(bit, _) => bit,
            Flag::DnssecOk | Flag::NoRecursion | Flag::NoEdns => 0,
        };
        Self {
            rcode: reply.rcode.map_or(Rcode::NOERROR, |code| code.0.0),
            answer: records(&reply.answer),
            authority: records(&reply.authority),
            additional: records(&reply.additional),
            ede: reply.ede.as_ref().map(|ede| ede.0.clone()),
            flags: reply.flags.iter().map(bit).fold(0, |all, bit| all | bit),
            is_plain: false,
        }
    }

    /// Looks a question up in what the upstream knows.
    fn of_records(upstream: &Upstream, qname: &Name, qtype: Rtype) -> Self {
        let all: Vec<&Record> = upstream.records.iter().map(|line| &line.0.0).collect();
        let mut said = Self::default();
        let mut current = qname.to_lower();
        for _ in 0..MAX_ALIASES {
            let here = at(&all, &current);
            let asked: Vec<Record> = here.iter().filter(|record| record.rtype == qtype).cloned().collect();
            if !asked.is_empty() {
                said.answer.extend(asked);
                return said;
            }
            match here.into_iter().find(|record| record.rtype == Rtype::CNAME) {
                Some(alias) => {
                    current = alias.target().expect("a CNAME has a target").to_lower();
                    said.answer.push(alias);
                }
                None => break,
            }
        }
        let exists = !at(&all, &current).is_empty() || all.iter().any(|record| record.owner.is_at_or_below(&current));
        said.rcode = if exists { Rcode::NOERROR } else { Rcode::NXDOMAIN };
        let ttl = upstream.negative_ttl;
        let soa = format!(". {ttl} SOA ns. mail. 1 3600 600 86400 {ttl}");
        said.authority.push(super::record::parse(&soa).expect("a well-formed SOA"));
        said
    }

    /// Writes the reply to a query, its question spelled as given.
    fn to_message(&self, query: &Message<'_>, qname: &Name) -> Vec<u8> {
        let mut builder = MessageBuilder::response(qname, query.qtype(), self.rcode);
        builder.or_flags(self.flags | (query.flags() & (flag::RD | flag::CD)));
        self.answer.iter().for_each(|record| builder.push(Section::Answer, record));
        self.authority.iter().for_each(|record| builder.push(Section::Authority, record));
        self.additional.iter().for_each(|record| builder.push(Section::Additional, record));
        if let Some(edns) = query.edns().ok().flatten().filter(|_| !self.is_plain) {
            let mut rdata = Vec::new();
            if let Some(Extended(code, text)) = &self.ede {
                rdata.extend_from_slice(&OPTION_EDE.to_be_bytes());
                rdata.extend_from_slice(&u16::try_from(text.len() + 2).expect("a short text").to_be_bytes());
                rdata.extend_from_slice(&code.to_be_bytes());
                rdata.extend_from_slice(text.as_bytes());
            }
            let ttl = if edns.dnssec_ok { 0x8000 } else { 0 };
            let opt = Record { owner: Name::root(), rtype: Rtype::OPT, class: PAYLOAD_BYTES, ttl, rdata: rdata.into() };
            builder.push(Section::Additional, &opt);
        }
        let mut message = builder.finish().into_vec();
        message[..2].copy_from_slice(&query.id().to_be_bytes());
        message
    }
}

/// Returns the records of a name, made from a wildcard when it has none.
fn at(all: &[&Record], name: &Name) -> Vec<Record> {
    let of = |owner: &Name| -> Vec<Record> {
        all.iter().filter(|record| record.owner == *owner).map(|record| Record::clone(record)).collect()
    };
    let own = of(name);
    if !own.is_empty() {
        return own;
    }
    let mut above = name.parent();
    while let Some(parent) = above {
        let wildcard: Vec<Record> = parent.prepend(b"*").map(|owner| of(&owner)).unwrap_or_default();
        if !wildcard.is_empty() {
            return wildcard.into_iter().map(|record| Record { owner: name.clone(), ..record }).collect();
        }
        above = parent.parent();
    }
    Vec::new()
}
