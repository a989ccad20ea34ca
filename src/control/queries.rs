//! What `/queries` and the query log say of a question, as a type: the documented line.
//!
//! ```json
//! {"ts":"2026-11-20T22:57:03.412Z","id":"q-0-9f31","client":"127.0.0.1","proto":"udp","name":"proxy.golang.org.",…}
//! ```
//!
//! A line is made when somebody looks, out of the octets that were sent (`stats/ring.rs`). Names stand in it as zone files
//! have them, so none holds a control character; what an upstream said in words may hold anything, and JSON escapes it.

use super::daemon::Matching;
use super::reply::Problem;
use super::request::Parameters;
use crate::clock::{self, Tick};
use crate::config::units;
use crate::dns::answer::ede;
use crate::dns::wire::{Message, Section};
use crate::dns::{Ede, Name, Rcode, Rtype, Tag};
use crate::stats::{Answered, Source, Stats, Tagged};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

/// Addresses shown of an answer.
const MAX_ADDRESSES: usize = 8;
/// The option code of an extended error (RFC 8914 section 2).
const OPTION_EDE: u16 = 15;
/// The view of clients that no `[[view]]` matches.
const DEFAULT_VIEW: &str = "default";

/// One question and its answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When it was read.
    pub ts: String,
    /// Tells it from all others of this process.
    pub id: String,
    /// Who asked.
    pub client: String,
    /// How: udp or tcp.
    pub proto: String,
    /// The name; nothing when the message could not be read.
    pub name: Option<String>,
    /// The type.
    #[serde(rename = "type")]
    pub rtype: Option<String>,
    /// The client's view.
    pub view: String,
    /// Where the answer came from, as in `/stats`.
    pub source: String,
    /// The zone the name belongs to.
    pub zone: Option<String>,
    /// The route it belongs to; `default` for names that no route takes.
    pub route: Option<String>,
    /// The upstream whose reply was used, `GROUP/NAME`; nothing for answers from memory.
    pub upstream: Option<String>,
    /// The response code.
    pub rcode: String,
    /// The first addresses of the answer.
    pub answers: Vec<String>,
    /// The lowest TTL of the answer's records, as the client saw it.
    pub ttl_seconds: Option<u32>,
    /// From being read to being ready to be sent.
    pub duration_seconds: f64,
    /// The extended error's code (RFC 8914).
    pub ede: Option<u16>,
    /// What it says in words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ede_text: Option<String>,
}

/// Makes lines: knows the names behind tags, and what time it was.
#[derive(Debug)]
pub struct Teller<'a> {
    stats: &'a Stats,
    now: Tick,
    wall: SystemTime,
}

impl<'a> Teller<'a> {
    /// Makes one for this moment.
    #[must_use]
    pub fn new(stats: &'a Stats, now: Tick) -> Self {
        Self { stats, now, wall: clock::wall() }
    }

    /// Returns when something happened.
    fn wall_time(&self, at: Tick) -> SystemTime {
        self.wall.checked_sub(self.now.since(at)).unwrap_or(self.wall)
    }

    /// Returns the name of a tag of this kind.
    fn named(&self, kind: Tagged, tag: Tag) -> Option<String> {
        self.stats.tagged(tag).filter(|(found, _)| *found == kind).map(|(_, name)| name.to_string())
    }

    /// Makes the line of a question.
    #[must_use]
    pub fn line(&self, answered: &Answered) -> Line {
        let message = Message::parse(&answered.answer).ok();
        let rcode = rcode_of(answered);
        let qname = message.as_ref().and_then(|message| Name::from_wire(message.qname()).ok());
        let (answers, ttl_seconds) = message.as_ref().map(addresses).unwrap_or_default();
        let error = message.as_ref().and_then(extended_error).or_else(|| error_of_stale(answered, rcode));
        Line {
            ts: humantime::format_rfc3339_millis(self.wall_time(answered.at)).to_string(),
            id: format!("q-{:x}-{:x}", answered.id.0, answered.id.1),
            client: answered.client.ip().to_string(),
            proto: answered.transport.to_string(),
            name: qname.as_ref().map(ToString::to_string),
            rtype: message.as_ref().map(|message| message.qtype().to_string()),
            view: self.named(Tagged::View, answered.view).unwrap_or_else(|| DEFAULT_VIEW.to_owned()),
            source: answered.source.as_str().to_owned(),
            zone: self.named(Tagged::Zone, answered.by),
            route: self.named(Tagged::Route, answered.by),
            upstream: answered.upstream.clone(),
            rcode: rcode.to_string(),
            answers,
            ttl_seconds,
            duration_seconds: answered.took.as_secs_f64(),
            ede: error.as_ref().map(|error| error.code),
            ede_text: error.map(|error| error.text.into_owned()).filter(|text| !text.is_empty()),
        }
    }

    /// Makes the line of a question, when a filter lets it through.
    #[must_use]
    pub fn line_if(&self, answered: &Answered, filter: &Filter) -> Option<Line> {
        filter.takes(answered, self).then(|| self.line(answered))
    }
}

fn rcode_of(answered: &Answered) -> Rcode {
    let in_head = answered.answer.get(3).map_or(Rcode::NOERROR, |flags| Rcode(u16::from(flags & 0x0f)));
    answered.extended_rcode.unwrap_or(in_head)
}

/// Reads the addresses of an answer and its lowest TTL, as far as the answer was kept.
fn addresses(message: &Message<'_>) -> (Vec<String>, Option<u32>) {
    let (mut found, mut lowest) = (Vec::new(), None);
    for record in message.section(Section::Answer) {
        lowest = Some(lowest.map_or(record.ttl, |lowest: u32| lowest.min(record.ttl)));
        let rdata = message.rdata(&record);
        let address = match record.rtype {
            Rtype::A => <[u8; 4]>::try_from(rdata).ok().map(|octets| IpAddr::from(Ipv4Addr::from(octets))),
            Rtype::AAAA => <[u8; 16]>::try_from(rdata).ok().map(|octets| IpAddr::from(Ipv6Addr::from(octets))),
            _ => None,
        };
        if found.len() < MAX_ADDRESSES {
            found.extend(address.map(|address| address.to_string()));
        }
    }
    (found, lowest)
}

fn extended_error(message: &Message<'_>) -> Option<Ede> {
    Ede::from_option(message.edns().ok()??.option(OPTION_EDE)?)
}

/// Returns the extended error that every stale answer has, also one whose end was not kept.
fn error_of_stale(answered: &Answered, rcode: Rcode) -> Option<Ede> {
    let code = if rcode == Rcode::NXDOMAIN { ede::STALE_NXDOMAIN_ANSWER } else { ede::STALE_ANSWER };
    (answered.source == Source::CacheStale).then(|| Ede::new(code, ""))
}

/// Which questions are meant. What is not given lets everything through.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    name: Option<Matching>,
    rtype: Option<Rtype>,
    client: Option<IpNet>,
    rcode: Option<String>,
    source: Option<String>,
    upstream: Option<String>,
    route: Option<String>,
    since: Option<Tick>,
}

/// The parameters of a filter, with what they are for.
pub(super) const PARAMETERS: [(&str, &str); 8] = [
    ("name", "NAME for one name, *.NAME for it and all below"),
    ("type", "only this type"),
    ("client", "only this address or network"),
    ("rcode", "only this response code, such as SERVFAIL"),
    ("source", "only answers from here: zone, hosts, special, rewrite, cache, cache_stale, forward, policy or error"),
    ("upstream", "only this server, GROUP/NAME, or any of this group"),
    ("route", "only names of this route; default for those of none"),
    ("since", "only what is no longer ago than this, such as 10m, or not before this time (RFC 3339)"),
];

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// When a value is none of its kind.
    pub(super) fn read(parameters: &Parameters, now: Tick) -> Result<Self, Problem> {
        let wrong = |kind, name: &str, text: &str, expected: &str| {
            Problem::bad_request(kind, format!("{name} `{}` is not {expected}", text.escape_debug()))
        };
        let client = |text: &str| {
            let read = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            read.ok_or_else(|| wrong("bad-client", "client", text, "an address or a network"))
        };
        let source = |text: &str| {
            let known = Source::ALL.map(Source::as_str);
            let problem = || wrong("bad-source", "source", text, "one of `sources`").with("sources", known.to_vec());
            known.contains(&text).then(|| text.to_owned()).ok_or_else(problem)
        };
        let since = |text: &str| {
            let ago = units::parse_duration(text).ok().or_else(|| {
                let at = humantime::parse_rfc3339_weak(text).ok()?;
                Some(clock::wall().duration_since(at).unwrap_or_default())
            });
            let ago = ago.ok_or_else(|| wrong("bad-time", "since", text, "a duration, such as 10m, or a time"))?;
            Ok(Tick(now.0.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX))))
        };
        let rtype = |text: &str| {
            text.parse()
                .map_err(|error| Problem::bad_request("bad-type", format!("`{}`: {error}", text.escape_debug())))
        };
        let owned = |name| parameters.get(name).map(str::to_owned);
        Ok(Self {
            name: parameters.get("name").map(Matching::parse).transpose()?,
            rtype: parameters.get("type").map(rtype).transpose()?,
            client: parameters.get("client").map(client).transpose()?,
            rcode: parameters.get("rcode").map(str::to_ascii_uppercase),
            source: parameters.get("source").map(source).transpose()?,
            upstream: owned("upstream"),
            route: owned("route"),
            since: parameters.get("since").map(since).transpose()?,
        })
    }

    /// Looks first at what costs least, since a large memory is gone through with this.
    fn takes(&self, answered: &Answered, teller: &Teller<'_>) -> bool {
        self.since.is_none_or(|since| answered.at >= since)
            && self.client.is_none_or(|network| network.contains(&answered.client.ip()))
            && self.source.as_ref().is_none_or(|source| answered.source.as_str() == source)
            && self.upstream.as_ref().is_none_or(|upstream| is_of(answered, upstream))
            && self.asks(answered)
            && self.rcode.as_ref().is_none_or(|rcode| rcode_of(answered).to_string() == *rcode)
            && self.route.as_ref().is_none_or(|route| teller.named(Tagged::Route, answered.by).as_ref() == Some(route))
    }

    /// Tells whether this is the name and the type.
    fn asks(&self, answered: &Answered) -> bool {
        if self.name.is_none() && self.rtype.is_none() {
            return true;
        }
        let Ok(message) = Message::parse(&answered.answer) else {
            return self.rtype.is_none() && matches!(self.name, Some(Matching::All));
        };
        let is_named = |qname: &Name| match &self.name {
            None | Some(Matching::All) => true,
            Some(Matching::Name(name)) => qname == name,
            Some(Matching::Suffix(suffix)) => qname.is_at_or_below(suffix),
        };
        self.rtype.is_none_or(|rtype| message.qtype() == rtype)
            && Name::from_wire(message.qname()).is_ok_and(|qname| is_named(&qname))
    }
}

/// Tells whether an answer is of this upstream, or of one of this group.
fn is_of(answered: &Answered, upstream: &str) -> bool {
    let asked = answered.upstream.as_deref().unwrap_or_default();
    asked == upstream || asked.strip_prefix(upstream).is_some_and(|rest| rest.starts_with('/'))
}

/// How long a follower waits for more to come before it takes what is there: so that a flood is read in large pieces. The
/// ring of a worker with its default size is written over no sooner.
pub const GATHERING_TIME: Duration = Duration::from_millis(25);
