//! What a scenario file may say. Unknown keys are errors, like in the configuration.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;
use toml::Spanned;
use truename::dns::wire::flag;
use truename::dns::{Name, Rcode, Record, Rtype};

/// The port of addresses that name none.
const DNS_PORT: u16 = 53;

/// One scenario.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    /// What holds, in one sentence.
    pub(super) claim: String,
    /// The text of truename.toml. Hosts files are off unless it has a `[hosts]`.
    #[serde(default)]
    pub(super) config: String,
    /// Files beside it, by name.
    #[serde(default)]
    pub(super) files: BTreeMap<String, String>,
    /// The resolvers that the machine was given.
    #[serde(default)]
    pub(super) system: Vec<Text<Address>>,
    /// The search domains that it was given.
    #[serde(default)]
    pub(super) search: Vec<Text<Name>>,
    /// `ADDRESS NAME`: this upstream must never be asked for the name, nor for anything below it.
    #[serde(default)]
    pub(super) never_asked: Vec<Text<Never>>,
    /// What the upstreams do at first; one that is not described is silent.
    #[serde(default, rename = "upstream")]
    pub(super) upstreams: Vec<Upstream>,
    /// What happens, in order.
    #[serde(rename = "step")]
    pub(super) steps: Vec<Spanned<Step>>,
}

/// What one upstream does.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) address: Text<Address>,
    /// How long a reply takes.
    #[serde(default)]
    pub(super) delay: Text<Span>,
    /// How it treats what it is sent.
    #[serde(default)]
    pub(super) behaves: Behaviour,
    /// What it knows, as lines of a zone file with absolute names. It follows aliases and knows wildcards. Anything
    /// else is NODATA or NXDOMAIN, with an SOA.
    #[serde(default)]
    pub(super) records: Vec<Text<Line>>,
    /// TTL and minimum of that SOA, in seconds.
    #[serde(default = "negative_ttl")]
    pub(super) negative_ttl: u32,
    /// What it says to particular questions in place of what it knows; the first that fits.
    #[serde(default, rename = "reply")]
    pub(super) replies: Vec<Reply>,
    /// What somebody on the path says besides, to questions in datagrams: everything that fits, without OPT.
    #[serde(default)]
    pub(super) injected: Vec<Reply>,
}

fn negative_ttl() -> u32 {
    60
}

/// One reply as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reply {
    /// `NAME TYPE`, or `NAME` for any type; every question without it.
    pub(super) to: Option<Text<Question>>,
    /// Only to questions with DO, or only to those without.
    pub(super) dnssec: Option<bool>,
    pub(super) delay: Option<Text<Span>>,
    pub(super) behaves: Option<Behaviour>,
    pub(super) rcode: Option<Text<Code>>,
    #[serde(default)]
    pub(super) answer: Vec<Text<Line>>,
    #[serde(default)]
    pub(super) authority: Vec<Text<Line>>,
    #[serde(default)]
    pub(super) additional: Vec<Text<Line>>,
    /// `CODE TEXT`: an extended error.
    pub(super) ede: Option<Text<Extended>>,
    /// AA, AD.
    #[serde(default)]
    pub(super) flags: Vec<Text<Flag>>,
}

/// How an upstream treats what it is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Behaviour {
    #[default]
    Answers,
    /// Says nothing.
    Silent,
    /// The network says that nobody is there.
    Unreachable,
    /// Hands every question back to truename.
    Loops,
    /// TC over UDP, whole over TCP.
    Truncates,
    /// TC over UDP and over TCP.
    AlwaysTruncates,
    /// Says nothing to a query with EDNS.
    DropsEdns,
    /// FORMERR to a query with EDNS.
    RefusesEdns,
    /// Replies with the question in lower case.
    LowersCase,
    /// Octets that are no message come first.
    GarbageFirst,
    /// A thousand replies with wrong ids and a forged address come first.
    ForgedFirst,
    /// NOERROR with neither records nor SOA.
    Empty,
}

/// One step: exactly one of the actions, and with `ask` what must come of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// Time passes.
    pub(super) pass: Option<Text<Span>>,
    /// The machine sleeps: its clock goes on, its programs do not.
    pub(super) sleep_machine: Option<Text<Span>>,
    /// Another configuration is put in force.
    pub(super) reload: Option<String>,
    /// An upstream does something else from here on.
    pub(super) upstream: Option<Upstream>,

    /// `NAME TYPE`: a client asks.
    pub(super) ask: Option<Text<Question>>,
    /// Who asks; 127.0.0.1 without it.
    pub(super) client: Option<Text<Address>>,
    /// Which of our addresses is asked; 127.0.0.1:53 without it.
    pub(super) listener: Option<Text<Address>>,
    /// DO, CD, AD; NO-RD, NO-EDNS.
    #[serde(default)]
    pub(super) flags: Vec<Text<Flag>>,
    #[serde(default)]
    pub(super) over: Over,
    /// So many clients ask at the same moment.
    pub(super) at_once: Option<u16>,
    /// Asked so often, one after the other; `{n}` in the name is the count from 1.
    pub(super) repeat: Option<u16>,

    pub(super) rcode: Option<Text<Code>>,
    /// All records of the answer section, in order.
    pub(super) answer: Option<Vec<Text<Line>>>,
    /// All records of the authority section, in order.
    pub(super) authority: Option<Vec<Text<Line>>>,
    /// The extended error's code, or "none".
    pub(super) ede: Option<EdeCode>,
    /// A part of the extended error's text.
    pub(super) ede_text: Option<String>,
    /// Where the answer came from, as in `/stats`.
    pub(super) source: Option<String>,
    /// Header bits that are set: AA, AD, CD, TC.
    #[serde(default)]
    pub(super) has: Vec<Text<Flag>>,
    /// Header bits that are not set.
    #[serde(default)]
    pub(super) lacks: Vec<Text<Flag>>,
    /// The answer comes in this time at the latest.
    pub(super) within: Option<Text<Span>>,
    /// It does not come earlier.
    pub(super) not_before: Option<Text<Span>>,
    /// Queries each upstream got in this step; those left out got none.
    pub(super) asked: Option<BTreeMap<Text<Address>, Count>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Over {
    #[default]
    Udp,
    Tcp,
}

/// The extended error's code, or none.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum EdeCode {
    Code(u16),
    Word(NoneWord),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum NoneWord {
    None,
}

/// So many, or "1..3".
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Count {
    Exact(usize),
    Range(Text<Range>),
}

impl Count {
    pub(super) fn takes(&self, found: usize) -> bool {
        match self {
            Self::Exact(count) => found == *count,
            Self::Range(range) => (range.0.0..=range.0.1).contains(&found),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(count) => write!(f, "{count}"),
            Self::Range(Text(Range(from, to))) => write!(f, "{from} to {to}"),
        }
    }
}

/// Something that is written as text and read when the file is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text<T>(pub(super) T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|error| serde::de::Error::custom(format!("{text:?}: {error}")))
    }
}

/// An address with its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address(pub(super) SocketAddr);

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let alone = text.parse().map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT));
        alone.or_else(|_| text.parse()).map(Self).map_err(|_| "write an IP address, optionally with a port")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.port() == DNS_PORT { self.0.ip().fmt(f) } else { self.0.fmt(f) }
    }
}

/// A duration such as "30s".
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span(pub(super) Duration);

impl FromStr for Span {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_duration(text).map(Self)
    }
}

/// A name with a type, or with any. The name is text as long as it may hold `{n}`.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) name: String,
    pub(super) rtype: Option<Rtype>,
}

impl FromStr for Question {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, rtype) = text.split_once(' ').unwrap_or((text, ""));
        Name::parse(&name.replace("{n}", "1")).map_err(|error| error.to_string())?;
        let rtype = Some(rtype.trim()).filter(|rtype| !rtype.is_empty()).map(str::parse).transpose();
        Ok(Self {
            name: name.to_owned(),
            rtype: rtype.map_err(|error: truename::dns::rtype::UnknownRtype| error.to_string())?,
        })
    }
}

/// A line of a zone file: owner, TTL, type and data.
#[derive(Debug, Clone)]
pub(super) struct Line(pub(super) Record);

impl FromStr for Line {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        super::record::parse(text).map(Self)
    }
}

/// A response code by its mnemonic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Code(pub(super) Rcode);

impl FromStr for Code {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = (0..=23).map(Rcode).find(|rcode| rcode.to_string() == text);
        known.map(Self).ok_or("write a response code such as NXDOMAIN")
    }
}

/// `CODE TEXT`.
#[derive(Debug, Clone)]
pub(super) struct Extended(pub(super) u16, pub(super) String);

impl FromStr for Extended {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (code, text) = text.split_once(' ').unwrap_or((text, ""));
        code.parse().map(|code| Self(code, text.to_owned())).map_err(|_| "write a number, then text")
    }
}

/// A bit of the header, or a property of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag {
    Header(u16, &'static str),
    DnssecOk,
    NoRecursion,
    NoEdns,
}

impl FromStr for Flag {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "AA" => Self::Header(flag::AA, "AA"),
            "AD" => Self::Header(flag::AD, "AD"),
            "CD" => Self::Header(flag::CD, "CD"),
            "TC" => Self::Header(flag::TC, "TC"),
            "DO" => Self::DnssecOk,
            "NO-RD" => Self::NoRecursion,
            "NO-EDNS" => Self::NoEdns,
            _ => return Err("write AA, AD, CD, TC, DO, NO-RD or NO-EDNS"),
        })
    }
}

/// `1..3`, both ends included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range(usize, usize);

impl FromStr for Range {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ends = text.split_once("..").and_then(|(from, to)| Some(Self(from.parse().ok()?, to.parse().ok()?)));
        ends.filter(|range| range.0 <= range.1).ok_or("write a range such as \"1..3\"")
    }
}

/// An upstream and a name it must not learn of.
#[derive(Debug, Clone)]
pub(super) struct Never(pub(super) Address, pub(super) Name);

impl FromStr for Never {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, name) = text.split_once(' ').ok_or("write an address and a name")?;
        Ok(Self(address.parse()?, Name::parse(name).map_err(|error| error.to_string())?))
    }
}

impl Step {
    /// Returns what is wrong with the step as a whole.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let actions = [
            self.pass.is_some(),
            self.sleep_machine.is_some(),
            self.reload.is_some(),
            self.upstream.is_some(),
            self.ask.is_some(),
        ];
        let expects = [
            self.rcode.is_some(),
            self.answer.is_some(),
            self.authority.is_some(),
            self.ede.is_some(),
            self.ede_text.is_some(),
            self.source.is_some(),
            !self.has.is_empty(),
            !self.lacks.is_empty(),
            self.within.is_some(),
            self.not_before.is_some(),
            self.asked.is_some(),
        ];
        let expects_any = expects.contains(&true);
        if actions.iter().filter(|is_there| **is_there).count() != 1 {
            return Some("a step has one of: ask, pass, sleep_machine, reload, upstream");
        }
        match &self.ask {
            Some(Text(question)) if question.rtype.is_none() => Some("ask names a type, as in \"www.example.org A\""),
            Some(_) if !expects_any => Some("a step that asks expects something"),
            None if expects_any => Some("only a step that asks expects something"),
            _ => None,
        }
    }
}
