//! Who has said what about one question, kept side by side: as replies that can be served, and as evidence.

use crate::config::{Config, GroupId, PlaceId, UpstreamTransport};
use crate::dns::address::{self, AddressKind};
use crate::dns::wire::Message;
use crate::dns::{Ede, Name, QuestionKey, Rtype};
use crate::pipeline::compose::AddressPolicy;
use crate::pipeline::guard::Policy;
use crate::pipeline::guard::evidence::{Candidate, Evidence, Habits, OperatorId, Way as Path};
use crate::pipeline::guard::reply::{Content, Datum, Question, Reply as Read};
use crate::pipeline::guard::verdict::{Decision, Given, ReplyAt, Serve, Side};
use crate::pipeline::said::Shown;
use crate::pipeline::state::State;
use crate::upstream::{Failure, Held, Reply, Stay};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Ends, with an error, when a proof has been kept or given up.
pub(super) type Proving = watch::Receiver<()>;

/// Whose address is looked at, of those that have answered a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looks {
    /// A suspect's, by its place among them and that of the reply among its own.
    Suspect(usize, usize),
    /// A trusted one's.
    Trusted,
}

/// A reply with what may be done with its addresses.
pub(in crate::pipeline) type Found = (Reply, AddressPolicy);

/// A reply that may go on to compose.
#[derive(Debug)]
pub(in crate::pipeline) struct Judged {
    pub(in crate::pipeline) reply: Reply,
    pub(in crate::pipeline) policy: AddressPolicy,
    /// How long it may be kept, when that is less than its TTLs say: nothing trusted confirms it.
    pub(in crate::pipeline) keep_at_most: Option<Duration>,
    /// What the client is told about that.
    pub(in crate::pipeline) why: Option<Ede>,
}

impl Judged {
    /// A reply that nobody judges.
    pub(in crate::pipeline) fn unlooked((reply, policy): Found) -> Self {
        Self { reply, policy, keep_at_most: None, why: None }
    }
}

/// Why there is no reply to go on with.
#[derive(Debug)]
pub(in crate::pipeline) enum Unusable {
    /// None came.
    Failed(Box<Failure>),
    /// What came looks forged, and nothing trusted stands against it.
    Distrusted,
}

/// Who has replied so far, and what is known by that.
#[derive(Debug)]
pub(super) struct Parties {
    pub(super) about: Question,
    /// The network that the question was asked on: what it teaches holds there.
    pub(super) place: PlaceId,
    /// The time between two changes of the network that it was asked in.
    pub(super) stay: Stay,
    config: Arc<Config>,
    pub(super) evidence: Evidence,
    /// As in `evidence.suspects`, reply for reply.
    suspects: Vec<Vec<Found>>,
    /// As in `evidence.trusted`, reply for reply.
    trusted: Vec<Vec<Found>>,
    /// Who runs them; the place in it is the number of an operator.
    operators: Vec<Arc<str>>,
    /// Why the route's group has said nothing.
    pub(super) failure: Option<Box<Failure>>,
    /// The channel that the suspect's reply came on.
    pub(super) held: Option<Held>,
    /// The name whose certificate an address has to show, where one can.
    pub(super) proves: Option<Name>,
    /// What addresses have shown.
    pub(super) shown: Vec<Shown>,
    /// Addresses that proofs were begun of, with who gave them.
    pub(super) looked_at: Vec<(Looks, IpAddr)>,
    /// Proofs that are waited for.
    pub(super) proving: Vec<Proving>,
    /// Somebody waits for the answer.
    pub(super) has_client: bool,
}

impl Parties {
    pub(super) fn new(question: &QuestionKey, state: &State) -> Self {
        let about = Question { qname: question.qname.clone(), qtype: question.qtype };
        let (suspects, trusted, operators) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            about,
            place: state.upstreams.place(),
            stay: state.upstreams.stay(),
            config: Arc::clone(&state.config),
            evidence: Evidence::default(),
            suspects,
            trusted,
            operators,
            failure: None,
            held: None,
            proves: None,
            shown: Vec::new(),
            looked_at: Vec::new(),
            proving: Vec::new(),
            has_client: false,
        }
    }

    /// Makes parties about a question whose client waits; `proves` is the name that a certificate must be of.
    pub(super) fn with_client(question: &QuestionKey, state: &State, proves: Option<Name>) -> Self {
        Self { proves, has_client: true, ..Self::new(question, state) }
    }

    /// Enters a reply of an upstream that had none so far.
    pub(super) fn enter(&mut self, side: Side, found: Found, habits: Habits) {
        let reply = &found.0;
        let read = read(&self.about, reply);
        let candidate = Candidate {
            operator: self.number_of(reply),
            way: path(reply.transport),
            on_lan: reply.is_private,
            habits,
            replies: read.into_iter().collect(),
        };
        let replies = if candidate.replies.is_empty() { Vec::new() } else { vec![found] };
        let (candidates, all) = match side {
            Side::Suspect => (&mut self.evidence.suspects, &mut self.suspects),
            Side::Trusted => (&mut self.evidence.trusted, &mut self.trusted),
        };
        candidates.push(candidate);
        all.push(replies);
    }

    /// Notes what the configuration says of the name and of the addresses in replies.
    pub(super) fn note_configured(&mut self) {
        let guard = &self.config.guard;
        let evidence = &mut self.evidence;
        evidence.may_differ = guard.may_differ(&self.about.qname);
        let replies = evidence.suspects.iter().chain(&evidence.trusted).flat_map(|of| &of.replies);
        evidence.listed = replies.flat_map(Read::addresses).filter(|address| guard.forged.has(*address)).collect();
    }

    /// Returns who runs each suspect that has replied, with its number.
    pub(super) fn suspects_operators(&self) -> Vec<(OperatorId, Arc<str>)> {
        let replied = self.evidence.suspects.iter().filter(|of| !of.replies.is_empty());
        replied
            .filter_map(|of| Some((of.operator, Arc::clone(self.operators.get(usize::from(of.operator.0))?))))
            .collect()
    }

    /// Enters that the route's group has said nothing.
    pub(super) fn enter_silence(&mut self, failure: Box<Failure>) {
        let (way, habits) = (Path::Datagram, Habits::default());
        let replies = Vec::new();
        self.evidence.suspects.push(Candidate { operator: OperatorId(0), way, on_lan: false, habits, replies });
        self.suspects.push(Vec::new());
        self.failure = Some(failure);
    }

    /// Enters one more reply to the suspect's query; tells whether it shares nothing with the first.
    pub(super) fn enter_second(&mut self, reply: Reply) -> bool {
        let (Some(candidate), Some(replies), Some(second)) =
            (self.evidence.suspects.first_mut(), self.suspects.first_mut(), read(&self.about, &reply))
        else {
            return false;
        };
        let Some((_, policy)) = replies.first() else { return false };
        // A lawful repetition brings nothing.
        if candidate.replies.contains(&second) {
            return false;
        }
        let differs = candidate.replies.iter().all(|first| !first.shares_data(&second));
        let policy = *policy;
        candidate.replies.push(second);
        replies.push((reply, policy));
        differs
    }

    /// Takes the reply that stands there.
    pub(super) fn take(self, at: ReplyAt) -> Option<Found> {
        let all = if at.side == Side::Trusted { self.trusted } else { self.suspects };
        all.into_iter().nth(at.candidate)?.into_iter().nth(at.reply)
    }

    /// Copies the reply that stands there.
    pub(super) fn copy(&self, at: ReplyAt) -> Option<Found> {
        let all = if at.side == Side::Trusted { &self.trusted } else { &self.suspects };
        all.get(at.candidate)?.get(at.reply).cloned()
    }

    /// Returns the reply that clients get, as it was read, and the label of who sent it.
    pub(super) fn given(&self, decision: &Decision, given: Given) -> Option<(&Read, &str)> {
        let at = match (given, decision.serve) {
            (Given::Proved, Serve::Reply(at)) => at,
            // Whoever only watches has given the suspect's, whatever was decided since.
            (Given::Suspect, _) => ReplyAt { side: Side::Suspect, candidate: 0, reply: 0 },
            (_, Serve::Reply(at) | Serve::Unconfirmed(at)) => at,
            (_, Serve::Nothing) => return None,
        };
        let (candidates, all) = match at.side {
            Side::Suspect => (&self.evidence.suspects, &self.suspects),
            Side::Trusted => (&self.evidence.trusted, &self.trusted),
        };
        let (reply, _) = all.get(at.candidate)?.get(at.reply)?;
        Some((candidates.get(at.candidate)?.replies.get(at.reply)?, &*reply.server))
    }

    /// Tells whether the suspect's query had replies that share nothing.
    pub(super) fn has_pair(&self) -> bool {
        let replies = || self.evidence.suspects.iter().take(1).flat_map(|of| &of.replies);
        replies().any(|one| replies().any(|other| !std::ptr::eq(one, other) && !one.shares_data(other)))
    }

    /// Tells whether the network's own resolver may lawfully have what trusted ones have nothing of: NAT64 addresses
    /// (RFC 6147), and names that exist on it alone.
    pub(super) fn may_have_more_here(&self, policy: &Policy) -> bool {
        let replies = || self.evidence.trusted.iter().flat_map(|of| &of.replies);
        let about = &self.about;
        (about.qtype == Rtype::AAAA || about.asks_addresses() && policy.inside)
            && !replies().any(|reply| reply.content == Content::Data)
    }

    /// Returns the suspect's reply.
    pub(super) fn suspect(&self) -> Option<&Reply> {
        self.suspects.first()?.first().map(|(reply, _)| reply)
    }

    /// Returns the reply that a verdict is about, and who gave it.
    pub(super) fn accused(&self, decision: &Decision) -> Option<&Reply> {
        let Some(at) = decision.about else { return self.suspect() };
        self.suspects.get(at.candidate)?.get(at.reply).map(|(reply, _)| reply)
    }

    /// Returns every suspect's replies, as they were read, with the label of who sent them.
    pub(super) fn suspected(&self) -> impl Iterator<Item = (&Read, &str)> {
        let pairs = self.evidence.suspects.iter().zip(&self.suspects);
        pairs.flat_map(|(of, all)| of.replies.iter().zip(all).map(|(read, (reply, _))| (read, &*reply.server)))
    }

    /// Returns the groups that have answered.
    pub(super) fn heard(&self) -> Vec<GroupId> {
        self.said().map(|reply| reply.group).collect()
    }

    /// Tells whether somebody trusted has an answer.
    pub(super) fn has_trusted_answer(&self) -> bool {
        self.evidence.trusted.iter().flat_map(|of| &of.replies).any(Read::is_answer)
    }

    /// Returns the addresses that trusted replies have and nobody has looked at.
    pub(super) fn trusted_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let all = self.evidence.trusted.iter().flat_map(|of| &of.replies).flat_map(Read::addresses);
        all.filter(|at| address::kind(*at) == AddressKind::Public && self.evidence.proof(*at).is_none())
    }

    /// Takes the proofs that have ended out of those that are waited for.
    pub(super) fn forget_ended(&mut self) {
        self.proving.retain(|proving| proving.has_changed().is_ok());
    }

    /// Returns everything that was said, the suspect's first.
    pub(super) fn said(&self) -> impl Iterator<Item = &Reply> {
        self.suspects.iter().chain(&self.trusted).flatten().map(|(reply, _)| reply)
    }

    /// Returns who runs the trusted upstream that has answered.
    pub(super) fn witness(&self) -> Option<Arc<str>> {
        self.trusted.iter().flatten().next().map(|(reply, _)| Arc::clone(&reply.operator))
    }

    fn number_of(&mut self, reply: &Reply) -> OperatorId {
        let at = self.operators.iter().position(|known| *known == reply.operator).unwrap_or_else(|| {
            self.operators.push(Arc::clone(&reply.operator));
            self.operators.len() - 1
        });
        OperatorId(u16::try_from(at).unwrap_or(u16::MAX))
    }
}

/// Returns the IPv4 addresses in a reply.
pub(super) fn ipv4_addresses(about: &Question, reply: &Reply) -> Vec<Ipv4Addr> {
    let data = read(about, reply).into_iter().flat_map(|read| read.data);
    data.filter_map(|datum| match datum {
        Datum::Address(IpAddr::V4(v4)) => Some(v4),
        Datum::Address(IpAddr::V6(_)) | Datum::Other(_) => None,
    })
    .collect()
}

fn path(transport: UpstreamTransport) -> Path {
    match transport {
        UpstreamTransport::Udp => Path::Datagram,
        UpstreamTransport::Tcp => Path::Stream,
        UpstreamTransport::Tls | UpstreamTransport::Https | UpstreamTransport::Quic | UpstreamTransport::H3 => {
            Path::Encrypted
        }
    }
}

/// Reads a reply for judging; nothing of one that is malformed.
fn read(about: &Question, reply: &Reply) -> Option<Read> {
    let message = Message::parse(&reply.message).ok()?;
    // Upstreams are held to the letter case where it was mixed, and the message has it in lower case since.
    Read::read(&message, about, None).ok()
}
