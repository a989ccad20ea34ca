//! Recorded cases: what was asked, what everybody replied, and what should be concluded.
//!
//! A case is one line of JSON. [`Recorded::read`] checks it and says everything that is wrong with it at once; [`replay`]
//! takes it through [`judge`], running each probe against the recording: a probe of which nothing was recorded brings
//! nothing. So a figure over cases is a figure of the code that runs in production. No connection is ever opened.

use super::evidence::{Candidate, Evidence, FanIn, Habits, OperatorId, Probe, Probes, Proof, Way};
use super::reply::{Datum, Fact, Marks, Question, Reply};
use super::verdict::{Decision, Serve, Side, Verdict};
use super::{Compare, HoldOn, Judgement, Policy, judge};
use crate::dns::{Name, Rcode, Rtype};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// What of a recording is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// Replies only: no certificates, no counts of names per address, no decoys. Those are invented in most recordings.
    WireOnly,
}

/// Whose answer a client gets, or should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// The suspect's.
    Suspect,
    /// A trusted one.
    Trusted,
    /// Either.
    Either,
    /// The suspect's, marked as unconfirmed, since no trusted one exists.
    Unverified,
    /// None.
    Nothing,
}

impl Served {
    const ALL: [Self; 5] = [Self::Suspect, Self::Trusted, Self::Either, Self::Unverified, Self::Nothing];

    /// Returns the word used in recordings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Suspect => "suspect",
            Self::Trusted => "trusted",
            Self::Either => "either",
            Self::Unverified => "unverified",
            Self::Nothing => "nothing",
        }
    }

    /// Tells whose answer a decision gives out.
    #[must_use]
    pub fn of(decision: &Decision) -> Self {
        match decision.serve {
            Serve::Reply(at) | Serve::Unconfirmed(at) if at.side == Side::Trusted => Self::Trusted,
            Serve::Reply(_) => Self::Suspect,
            Serve::Unconfirmed(_) => Self::Unverified,
            Serve::Nothing => Self::Nothing,
        }
    }

    /// Tells whether this is what `wanted` asks for.
    #[must_use]
    pub fn fits(self, wanted: Self) -> bool {
        self == wanted || wanted == Self::Either && matches!(self, Self::Suspect | Self::Trusted)
    }
}

/// Something wrong with a line, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slip {
    /// Where in the case.
    pub at: String,
    /// What stands there.
    pub found: String,
    /// What should.
    pub expected: &'static str,
}

/// A case, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its name in reports.
    pub id: String,
    /// The right verdict.
    pub class: Verdict,
    /// Every verdict that counts as right, `class` included.
    pub acceptable: Vec<Verdict>,
    /// What the client should get.
    pub serve: Served,
    /// The question.
    pub question: Question,
    /// How it is judged.
    pub policy: Policy,
    /// Everything that was recorded.
    pub evidence: Evidence,
}

/// Takes a case through the production code.
#[must_use]
pub fn replay(case: &Recorded, scope: Scope) -> Decision {
    let recorded = &case.evidence;
    let first = |of: &Candidate| Candidate { replies: of.replies.iter().take(1).cloned().collect(), ..of.clone() };
    let mut evidence = Evidence {
        suspects: recorded.suspects.iter().map(first).collect(),
        networks: recorded.networks.clone(),
        secure: recorded.secure,
        fan_in: if scope == Scope::All { recorded.fan_in.clone() } else { Vec::new() },
        ..Evidence::default()
    };
    loop {
        match judge(&case.question, &case.policy, &evidence) {
            Judgement::Serve(decision) => return decision,
            // Each probe is asked for once, so this ends.
            Judgement::Need(probes) => bring(probes, recorded, scope, &mut evidence),
        }
    }
}

/// Runs probes against the recording.
fn bring(probes: Probes, recorded: &Evidence, scope: Scope, evidence: &mut Evidence) {
    for probe in probes.iter() {
        match probe {
            Probe::AskTrusted => evidence.trusted.clone_from(&recorded.trusted),
            Probe::ListenOn => evidence.suspects.clone_from(&recorded.suspects),
            Probe::AskIpv4 => evidence.ipv4.clone_from(&recorded.ipv4),
            Probe::Prove if scope == Scope::All => evidence.proofs.clone_from(&recorded.proofs),
            Probe::Decoy => evidence.decoy_answered = scope == Scope::All && recorded.decoy_answered,
            Probe::AskAnotherTrusted | Probe::AskOthers | Probe::Prove => {}
        }
    }
    evidence.tried.add(probes);
}

#[derive(Deserialize)]
struct Line {
    id: String,
    class: String,
    #[serde(default)]
    acceptable: Vec<String>,
    name: String,
    qtype: String,
    serve: String,
    #[serde(default)]
    ctx: Context,
    upstreams: Vec<Upstream>,
    #[serde(default)]
    tls: Option<BTreeMap<String, Handshake>>,
    #[serde(default)]
    addr_asn: Option<BTreeMap<String, Option<u32>>>,
}

#[derive(Deserialize, Default)]
struct Context {
    #[serde(default)]
    guarded: Option<bool>,
    #[serde(default)]
    internal_zone: Option<String>,
    #[serde(default)]
    canary_injected: Option<bool>,
    #[serde(default)]
    dnssec: Option<serde_json::Value>,
    #[serde(default)]
    history: Option<History>,
    #[serde(default)]
    known_a: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct History {
    #[serde(default)]
    same_addr_unrelated_names: u32,
    #[serde(default)]
    same_addr_disagreed_with_trusted: u32,
}

#[derive(Deserialize)]
struct Upstream {
    role: String,
    #[serde(default)]
    server: String,
    transport: String,
    #[serde(default)]
    responses: Vec<Response>,
}

#[derive(Deserialize)]
struct Response {
    rcode: String,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    edns: Option<bool>,
    #[serde(default)]
    ede: Option<u16>,
    #[serde(default)]
    question: Option<String>,
    #[serde(default)]
    ans: Vec<(String, String, Option<u32>, String)>,
    #[serde(default)]
    auth: Vec<Vec<serde_json::Value>>,
}

#[derive(Deserialize)]
struct Handshake {
    outcome: String,
}

impl Recorded {
    /// Reads one line.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(line: &str) -> Result<Self, Vec<Slip>> {
        let line: Line = serde_json::from_str(line).map_err(|error| {
            let found = error.to_string().replace(" at line 1 column", " at column");
            vec![Slip { at: "the line".to_owned(), found, expected: "a case as one JSON object" }]
        })?;
        let mut reader = Reader::default();
        let case = reader.case(&line);
        if reader.slips.is_empty() { Ok(case) } else { Err(reader.slips) }
    }
}

/// Collects what is wrong; where something is, a stand-in keeps the reading going.
#[derive(Default)]
struct Reader {
    slips: Vec<Slip>,
}

impl Reader {
    fn slip(&mut self, at: impl Display, found: impl Debug, expected: &'static str) {
        self.slips.push(Slip { at: at.to_string(), found: format!("{found:?}"), expected });
    }

    fn case(&mut self, line: &Line) -> Recorded {
        let class = self.verdict("class", &line.class);
        let mut acceptable: Vec<_> = line.acceptable.iter().map(|word| self.verdict("acceptable", word)).collect();
        if !acceptable.contains(&class) {
            acceptable.push(class);
        }
        let serve = Served::ALL.into_iter().find(|served| served.as_str() == line.serve).unwrap_or_else(|| {
            self.slip("serve", &line.serve, "suspect, trusted, either, unverified or nothing");
            Served::Nothing
        });
        let question = Question { qname: self.name("name", &line.name), qtype: self.rtype("qtype", &line.qtype) };
        let evidence = self.evidence(line, &question);
        let policy = match line.ctx.internal_zone {
            Some(_) => Policy::EXEMPT,
            None => Policy {
                exempt: false,
                guarded: line.ctx.guarded.unwrap_or(false),
                // Guarded names of recordings are so by a list of names.
                inside: !line.ctx.guarded.unwrap_or(false),
                compare: Compare::Always,
                proofs: true,
                decoys: true,
                hold_on: HoldOn::Always,
            },
        };
        Recorded { id: line.id.clone(), class, acceptable, serve, question, policy, evidence }
    }

    fn evidence(&mut self, line: &Line, question: &Question) -> Evidence {
        // Whether a question went out in mixed case is not recorded, but shows in any echo that kept it.
        let echoes = line.upstreams.iter().flat_map(|upstream| &upstream.responses);
        let mixed = echoes.filter_map(|response| response.question.as_deref()).any(is_mixed);
        let mut evidence = Evidence::default();
        for (number, upstream) in line.upstreams.iter().enumerate() {
            let candidate = self.candidate(number, upstream, question, mixed);
            match upstream.role.as_str() {
                "suspect" => evidence.suspects.push(candidate),
                "trusted" => evidence.trusted.push(candidate),
                other => self.slip(format!("upstreams[{number}].role"), other, "suspect or trusted"),
            }
        }
        if evidence.suspects.is_empty() {
            self.slip("upstreams", line.upstreams.len(), "one with the role suspect");
        }
        for (address, shown) in line.tls.iter().flatten() {
            let address = self.parsed("tls", address, "an address");
            let proof = match shown.outcome.as_str() {
                "valid" => Proof::Valid,
                "name_mismatch" => Proof::OtherName,
                "untrusted" => Proof::Untrusted,
                "timeout" | "reset" | "refused" => Proof::Unreachable,
                other => {
                    let expected = "valid, name_mismatch, untrusted, timeout, reset or refused";
                    self.slip("tls", other, expected);
                    Proof::Unreachable
                }
            };
            evidence.proofs.extend(address.map(|address| (address, proof)));
        }
        for (address, network) in line.addr_asn.iter().flatten() {
            let address = network.and_then(|_| self.parsed("addr_asn", address, "an address"));
            evidence.networks.extend(address.zip(*network));
        }
        if let Some(history) = &line.ctx.history {
            let fan_in =
                FanIn { names: history.same_addr_unrelated_names, disputed: history.same_addr_disagreed_with_trusted };
            let addresses = evidence.suspects.iter().flat_map(|of| &of.replies).flat_map(Reply::addresses);
            evidence.fan_in = addresses.map(|address| (address, fan_in)).collect();
        }
        for address in line.ctx.known_a.iter().flatten() {
            evidence.ipv4.extend(self.parsed::<Ipv4Addr>("ctx.known_a", address, "an IPv4 address"));
        }
        evidence.decoy_answered = line.ctx.canary_injected.unwrap_or(false);
        let dnssec = line.ctx.dnssec.as_ref().and_then(serde_json::Value::as_str);
        evidence.secure = dnssec.is_some_and(|word| word.starts_with("secure"));
        evidence
    }

    fn candidate(&mut self, number: usize, upstream: &Upstream, question: &Question, mixed: bool) -> Candidate {
        let way = match upstream.transport.as_str() {
            "udp" => Way::Datagram,
            "tcp" => Way::Stream,
            "dot" | "doh" | "doq" | "doh3" => Way::Encrypted,
            other => {
                self.slip(format!("upstreams[{number}].transport"), other, "udp, tcp, dot, doh, doh3 or doq");
                Way::Datagram
            }
        };
        let replies = upstream.responses.iter().enumerate().map(|(at, response)| {
            let place = format!("upstreams[{number}].responses[{at}]");
            self.reply(&place, response, question, mixed && way == Way::Datagram)
        });
        Candidate {
            replies: replies.collect(),
            operator: OperatorId(u16::try_from(number).unwrap_or(u16::MAX)),
            way,
            // The recordings drop addresses and keep the kind of server.
            on_lan: matches!(upstream.server.as_str(), "lan-forwarder" | "zone-forwarder"),
            habits: Habits::default(),
        }
    }

    fn reply(&mut self, place: &str, response: &Response, question: &Question, mixed: bool) -> Reply {
        let facts: Vec<Fact> =
            response.ans.iter().filter_map(|record| self.fact(&format!("{place}.ans"), record)).collect();
        let has = |flag: &str| response.flags.as_ref().map(|flags| flags.iter().any(|word| word == flag));
        let marks = Marks {
            authoritative: has("AA"),
            recursion: has("RA"),
            opt: response.edns,
            case_kept: response.question.as_deref().filter(|_| mixed).map(is_mixed),
            ede: response.ede,
        };
        let soa = response.auth.iter().any(|record| record.get(1).and_then(|word| word.as_str()) == Some("SOA"));
        let rcode = self.rcode(&format!("{place}.rcode"), &response.rcode);
        Reply::of(question, rcode, &facts, soa, marks)
    }

    fn fact(&mut self, place: &str, record: &(String, String, Option<u32>, String)) -> Option<Fact> {
        let (owner, rtype, ttl, data) = record;
        let owner = self.name(place, owner);
        let rtype = self.rtype(place, rtype);
        let mut alias = None;
        let datum = match rtype {
            Rtype::A => Datum::Address(IpAddr::V4(self.parsed(place, data, "an IPv4 address")?)),
            Rtype::AAAA => Datum::Address(IpAddr::V6(self.parsed(place, data, "an IPv6 address")?)),
            Rtype::CNAME => {
                let target = self.name(place, data);
                let datum = Datum::of(rtype, target.as_wire());
                alias = Some(target);
                datum
            }
            _ => Datum::Other(data.as_bytes().into()),
        };
        Some(Fact { owner, rtype, ttl: *ttl, alias, datum })
    }

    fn verdict(&mut self, place: &str, word: &str) -> Verdict {
        Verdict::from_word(word).unwrap_or_else(|| {
            self.slip(place, word, "one of the eight verdicts, such as benign_divergent");
            Verdict::Undecidable
        })
    }

    fn name(&mut self, place: &str, text: &str) -> Name {
        if text.is_empty() {
            return Name::root();
        }
        self.parsed(place, text, "a domain name").unwrap_or_else(Name::root)
    }

    fn rtype(&mut self, place: &str, text: &str) -> Rtype {
        self.parsed(place, text, "a record type").unwrap_or(Rtype::NULL)
    }

    fn rcode(&mut self, place: &str, word: &str) -> Rcode {
        let known = (0..=23).map(Rcode).find(|rcode| rcode.to_string() == word);
        let numbered = || word.strip_prefix("RCODE").and_then(|digits| digits.parse().ok()).map(Rcode);
        known.or_else(numbered).unwrap_or_else(|| {
            self.slip(place, word, "a response code such as NXDOMAIN");
            Rcode::SERVFAIL
        })
    }

    fn parsed<T: FromStr>(&mut self, place: &str, text: &str, expected: &'static str) -> Option<T> {
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.slip(place, text, expected);
        }
        parsed
    }
}

/// Tells whether a name is written in mixed letter case.
fn is_mixed(text: &str) -> bool {
    text.bytes().any(|octet| octet.is_ascii_uppercase())
}
