//! Resolvers out: choosing whom to ask, asking, asking again. Called by the pipeline's exchange stage.
//!
//! ```text
//! ask(group, question) ─▶ resort.rs    which groups are asked, one after the other
//!                         group.rs     the plan for one: order, hedge, failover, patience (pure)
//!                         health.rs    what is known about each server (pure)
//!                         ladder.rs    which of its rungs works on this network (pure)
//!                         outage.rs    a group of which nothing answers (pure)
//!                         place.rs     which network this is, and what was learnt on others (pure)
//!                         exchange.rs  runs the plan over up to eight channels and one timer
//!                         attempts.rs  those channels: what arrives on which, and what it teaches
//!                         awake.rs     does not sleep while a server at hand answers
//!                         seen.rs      what the question met, and what its failure is called (pure)
//!                         hold.rs      listening on for a second reply in a datagram
//!                         linger.rs    replies that come too late: learnt from, and handed on
//!                         reply.rs     what is sent; does a datagram match; is it an answer (pure)
//!                         finding.rs   who finds servers that are known by name only
//!                         probe.rs     one server over one rung, asked by hand
//!                         prove.rs     whose certificate an address shows
//!                         sockets.rs   how many sockets there may be
//!                         network.rs   what is forgotten when the network is another one
//!                         transport/   sockets, or a network played in memory
//!                         loops.rs     do our questions come back to us?
//! ```
//!
//! What a reply's records mean is not decided here: bytes are handed on as they came, with id 0 and the question in
//! lower case. Nothing is sent while nobody asks: probes of dead servers ride on questions.

mod attempts;
mod awake;
mod decoy;
mod exchange;
mod finding;
mod group;
mod health;
mod hold;
mod ladder;
mod linger;
mod loops;
mod network;
mod outage;
mod place;
mod probe;
mod prove;
mod reply;
mod resort;
mod seen;
mod servers;
mod sockets;
mod transport;

#[cfg(test)]
mod tests;

pub use finding::groups_in_use;
pub use health::{Mishap, Standing, Sums};
pub use hold::{Held, Hold};
pub use place::Stay;
pub use probe::{Probe, Probed};
pub use prove::ProofMap;
pub use servers::{ServerInfo, ServerStatus};
pub use transport::{Net, NetEvent, Proven, Shown, SimulatedNet, SimulatedQuery, SimulatedReplies, WrongClock};

use crate::clock::Clock;
use crate::config::{Config, GroupId, PlaceId, UpstreamTransport};
use crate::dns::answer::ede;
use crate::dns::foreign::is_hostile;
use crate::dns::wire::{Message, u16_at};
use crate::dns::{Ede, Name, QuestionKey, Trace};
use crate::stats::Stats;
use servers::Groups;
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Option code of an Extended DNS Error (RFC 8914 section 2).
const OPTION_EDE: u16 = 15;

/// What clients are told when encrypted upstreams are out of reach and others must not be asked.
const BELOW_FLOOR: &str =
    "no encrypted upstream can be reached, and floor = \"encrypted\" allows no other; see on_failure";

/// Every upstream group with its servers and all that is known about them. Shared by all threads.
#[derive(Debug)]
pub struct Upstreams(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    groups: Groups,
    clock: Clock,
    stats: Arc<Stats>,
    net: Net,
    pool: Arc<transport::Pool>,
    loops: loops::Loops,
    lingering: Arc<AtomicUsize>,
    sockets: Arc<sockets::Sockets>,
    /// Groups whose servers may be asked for the names of others.
    in_use: Vec<usize>,
    sleeps: Arc<network::Sleeps>,
    /// Given once, if at all, before anything is proved.
    proof_map: OnceLock<ProofMap>,
}

/// One question for a group.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Whom to ask first; its fallback groups follow.
    pub group: GroupId,
    /// The question.
    pub question: &'a QuestionKey,
    /// When the question's budget is over.
    pub deadline: tokio::time::Instant,
    /// Ask only servers with private addresses, fallback groups included.
    pub only_private: bool,
    /// Another group will be asked the same when this one and its fallback groups have no answer.
    pub resort: bool,
    /// Ask no server of this operator, and no fallback group: a second opinion is wanted.
    pub apart_from: Option<&'a str>,
    /// Where the channel of the answer is left when it is a datagram's: whoever is on the path may have answered first.
    pub hold: Option<&'a Hold>,
    /// Judges an otherwise good reply; a rejected one counts as a failure of its server for this question.
    pub acceptable: &'a (dyn Fn(&Message<'_>, &ServerInfo) -> Acceptance + Sync),
    /// Makes who takes a good reply that comes when the question has been given up on. Called only then.
    pub heir: Option<&'a (dyn Fn() -> Heir + Sync)>,
    /// Ask with EDNS until a server says that it does not read it: somebody asks by hand, and what a reply says beside its
    /// records (RFC 8914) is wanted more than a reply at all.
    pub keep_edns: bool,
}

impl<'a> Ask<'a> {
    /// One question for a group and what stands behind it; every good reply will do.
    #[must_use]
    pub fn new(group: GroupId, question: &'a QuestionKey, deadline: tokio::time::Instant) -> Self {
        Self {
            group,
            question,
            deadline,
            only_private: false,
            resort: false,
            apart_from: None,
            hold: None,
            acceptable: &|_, _| Acceptance::Accept,
            heir: None,
            keep_edns: false,
        }
    }
}

/// Takes a reply that came too late for its question; whether it is acceptable is for the heir to judge.
pub type Heir = Box<dyn FnOnce(Reply) + Send>;

impl fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask")
            .field("group", &self.group)
            .field("question", &self.question)
            .field("only_private", &self.only_private)
            .finish_non_exhaustive()
    }
}

/// Whether a reply may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// Use it.
    Accept,
    /// Ask the next server, for this reason.
    Reject(&'static str),
}

/// A reply with everything seen on the wire.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The message: id 0, question in lower case, otherwise as received, OPT included.
    pub message: Vec<u8>,
    /// The label of the server.
    pub server: Arc<str>,
    /// Its address; the unspecified one for a server that is known by name.
    pub address: SocketAddr,
    /// Who runs it, as far as that is known.
    pub operator: Arc<str>,
    /// Its address, or all that its proved name leads to, is private.
    pub is_private: bool,
    /// How the reply came.
    pub transport: UpstreamTransport,
    /// Time from its query to the reply.
    pub rtt: Duration,
    /// Queries sent for the question, to all servers.
    pub sends: u32,
    /// The group of the server: the one that was asked first, or one that stands in for it.
    pub group: GroupId,
}

/// Why there is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// Nobody answered in time.
    Timeout,
    /// No server could be reached.
    Network,
    /// Every server answered that it will not or cannot.
    AllFailed,
    /// Replies came, and none was acceptable.
    Filtered,
    /// There is no server to ask.
    NoServers,
    /// Every server leads back to us.
    Loop,
}

/// No usable reply.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Why.
    pub kind: FailureKind,
    /// The most telling reply that was no answer, such as a SERVFAIL with its extended error. Never a rejected one.
    pub best: Option<Reply>,
    /// What happened with each server, in a few words.
    pub summary: String,
    /// Certificates failed because the clock of this machine is plainly wrong.
    pub clock: Option<WrongClock>,
    /// The user wants nobody but encrypted upstreams to be asked.
    pub floor: bool,
}

impl Failure {
    /// Returns the extended error for the client: the upstream's own when it gave one (RFC 8914 section 3).
    #[must_use]
    pub fn ede(&self) -> Ede {
        if let Some(given) = self.best.as_ref().and_then(|best| given_ede(&best.message)) {
            return given;
        }
        if let Some(clock) = &self.clock {
            return Ede { code: ede::NETWORK_ERROR, text: Cow::Owned(clock.to_string()) };
        }
        if self.floor && matches!(self.kind, FailureKind::Timeout | FailureKind::Network) {
            return Ede::new(ede::NETWORK_ERROR, BELOW_FLOOR);
        }
        match self.kind {
            FailureKind::Timeout => Ede::new(ede::NO_REACHABLE_AUTHORITY, "no upstream answered in time"),
            FailureKind::Network => Ede::new(ede::NETWORK_ERROR, "no upstream can be reached"),
            FailureKind::AllFailed => Ede::new(ede::NO_REACHABLE_AUTHORITY, "every upstream failed"),
            FailureKind::Filtered => Ede::new(ede::FILTERED, "upstreams gave private addresses for a public name"),
            FailureKind::NoServers => Ede::new(ede::NETWORK_ERROR, "there is no upstream to ask"),
            FailureKind::Loop => Ede::new(ede::NO_REACHABLE_AUTHORITY, "the upstreams lead back to truename"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.ede().text, self.summary)
    }
}

impl std::error::Error for Failure {}

/// Reads the extended error of a reply; its text is cut to what is visible, since it goes to logs and terminals.
fn given_ede(message: &[u8]) -> Option<Ede> {
    let message = Message::parse(message).ok()?;
    let data = message.edns().ok().flatten()?.option(OPTION_EDE)?;
    let text: String = String::from_utf8_lossy(data.get(2..)?).chars().filter(|c| !is_hostile(*c)).collect();
    Some(Ede { code: u16_at(data, 0)?, text: Cow::Owned(text) })
}

impl Upstreams {
    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.0.stats
    }

    /// Builds the groups of a configuration. `system` are the machine's resolvers, for groups with `"auto"`. What
    /// `previous` knew about servers of the same label and address is kept.
    #[must_use]
    pub fn new(
        config: &Config,
        system: &[SocketAddr],
        clock: Clock,
        stats: Arc<Stats>,
        net: Net,
        previous: Option<&Self>,
    ) -> Self {
        let groups = Groups::new(config, system, previous.map(|previous| &previous.0.groups));
        let new_pool = || Arc::new(transport::Pool::new(Arc::clone(&stats), clock.clone()));
        let pool = previous.map_or_else(new_pool, |previous| Arc::clone(&previous.0.pool));
        let (loops, in_use) = (loops::Loops::default(), groups_in_use(config));
        let lingering = previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.0.lingering));
        let sockets = previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.0.sockets));
        let new_sleeps = || Arc::new(network::Sleeps::new(&clock));
        let sleeps = previous.map_or_else(new_sleeps, |previous| Arc::clone(&previous.0.sleeps));
        let proof_map = OnceLock::new();
        let inner =
            Arc::new(Inner { groups, clock, stats, net, pool, loops, lingering, sockets, in_use, sleeps, proof_map });
        finding::begin(&inner);
        Self(inner)
    }

    /// Replaces the machine's resolvers in groups with `"auto"`.
    pub fn set_system(&self, system: &[SocketAddr]) {
        self.0.groups.set_system(system);
    }

    /// Tells which addresses we listen on, with the ports that clients use: servers among them are never asked.
    pub fn set_own_addresses(&self, own: &[SocketAddr]) {
        self.0.groups.set_own(own);
    }

    /// Returns the addresses we listen on, as far as that has been told.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<SocketAddr> {
        self.0.groups.own()
    }

    /// Tells which names are private. Servers of such a name are looked for with private servers only, and so are all those
    /// of new names until this is called.
    pub fn set_private_names(&self, is_private: impl Fn(&Name) -> bool) {
        self.0.groups.set_private_names(is_private);
    }

    /// Tells that the network is not what it was, and which one it is; number 0 when that cannot be told. Every connection is
    /// suspect: the next query to a server goes over a fresh one as well, and whichever answers first is kept. What worked on
    /// this network before, and how fast, are first guesses; nothing else is known of any server. What queries that are under
    /// way meet teaches nothing.
    pub fn network_changed(&self, place: PlaceId) {
        self.0.forget_network(place);
    }

    /// Tells which network the machine is on, when that shows later than the change; returns whether it is another one than
    /// it seemed. What was learnt since the change holds for it, and for the one it was taken for what was known before.
    /// Nothing becomes suspect.
    pub fn network_is(&self, place: PlaceId) -> bool {
        let is_other = self.0.groups.here().place() != place;
        if is_other {
            self.0.groups.is_at(place);
        }
        is_other
    }

    /// Returns which network the machine is on; number 0 when it cannot be told from others.
    #[must_use]
    pub fn place(&self) -> PlaceId {
        self.0.groups.here().place()
    }

    /// Returns what tells the time since the last change of the network from that before.
    #[must_use]
    pub fn stay(&self) -> Stay {
        self.0.groups.here().stay()
    }

    /// Waits until a question has shown that the machine had slept, and returns for how long. All that
    /// [`Upstreams::network_changed`] does is done by then. Cancel safe; for one caller.
    pub async fn slept(&self) -> Duration {
        self.0.sleeps.next().await
    }

    /// Returns in what way the clock of this machine is plainly wrong by what certificates say, when it is.
    #[must_use]
    pub fn wrong_clock(&self) -> Option<WrongClock> {
        self.0.pool.dates().wrong_clock()
    }

    /// Says how many sockets there may be at once for all questions.
    pub fn set_max_sockets(&self, max: usize) {
        self.0.sockets.set_max(max);
    }

    /// Asks a group and its fallback groups until one acceptable reply came or the budget is over.
    ///
    /// Must run inside a tokio runtime; sockets are made on it. Dropping the future ends everything it has under way.
    ///
    /// # Errors
    /// When there is no reply that answers the question.
    pub async fn ask(&self, ask: Ask<'_>, trace: &mut Trace) -> Result<Reply, Box<Failure>> {
        resort::ask(&self.0, ask, trace).await
    }

    /// Notes that a client asked this question. Must be called for every question before identical ones are merged:
    /// one that we are asking ourselves at this moment may have come back to us through an upstream.
    pub fn note_arrival(&self, question: &QuestionKey) {
        loops::note_arrival(&self.0, question);
    }

    /// Tells whether a group has servers and all of them have private addresses.
    #[must_use]
    pub fn group_is_private(&self, group: GroupId) -> bool {
        let members = self.0.groups.members(group);
        !members.is_empty() && members.iter().all(|server| server.info.private)
    }

    /// Tells whether nobody can be expected to answer: every server of the group and of its fallbacks is dead or leads
    /// back to us. A group without servers is down.
    #[must_use]
    pub fn group_is_down(&self, group: GroupId) -> bool {
        let now = self.0.clock.now();
        let is_down = |server: &Arc<servers::Server>| {
            !server.may_be_asked(false)
                || matches!(server.health.snapshot(now).standing, Standing::Dead | Standing::Looping)
        };
        let fallback = |id: &GroupId| self.0.groups.get(*id).and_then(|group| group.fallback);
        let mut chain = std::iter::successors(Some(group), fallback).take(group::MAX_GROUPS);
        chain.all(|id| {
            let members = self.0.groups.members(id);
            let answered_since = |since| members.iter().any(|server| server.health.answered_since(since));
            let out = self.0.groups.get(id).is_some_and(|group| group.outage.lasts(answered_since));
            out || members.iter().all(is_down)
        })
    }

    /// Tells whether a group has a server that answers, and answers well: one worth asking without need.
    #[must_use]
    pub fn group_is_well(&self, group: GroupId) -> bool {
        let now = self.0.clock.now();
        self.0.groups.members(group).iter().any(|server| server.may_be_asked(false) && server.health.is_well(now))
    }

    /// Asks one server over one of its rungs some times, apart from everything else that is asked. Must run inside a tokio
    /// runtime.
    pub async fn probe(&self, probe: Probe<'_>) -> Probed {
        probe::probe(&self.0, probe).await
    }

    /// Looks whose certificate the server at an address shows for a name: a connection to its port 443 and a handshake, over
    /// which nothing is sent. Takes 1.2 s at most. Must run inside a tokio runtime.
    pub async fn prove(&self, name: &Name, address: IpAddr) -> Proven {
        prove::prove(&self.0, name, address).await
    }

    /// Asks a question of an address at which no resolver is, and returns the message that came in answer. Takes 0.4 s at most. Must
    /// run inside a tokio runtime.
    pub async fn decoy(&self, address: SocketAddr, question: &QuestionKey) -> Option<Vec<u8>> {
        decoy::decoy(&self.0, address, question).await
    }

    /// Tells whether a server can have a certificate of a name at all.
    #[must_use]
    pub fn is_provable(name: &Name) -> bool {
        prove::is_provable(name)
    }

    /// Gives proofs a map of the world that takes the place of the real one. The first one given stays.
    pub fn set_proof_map(&self, map: ProofMap) {
        // One that is in use is not changed under what goes by it.
        let _first = self.0.proof_map.set(map);
    }

    /// Turns servers on or off, over reloads too: the one of this label (`GROUP/NAME`), or all of a group. Returns how many
    /// are meant.
    #[must_use]
    pub fn switch(&self, label: &str, on: bool) -> usize {
        self.0.groups.switch(label, on)
    }

    /// Tells whether the server of a label is one of a group.
    #[must_use]
    pub fn is_member(&self, group: GroupId, label: &str) -> bool {
        self.0.groups.members(group).iter().any(|server| *server.info.label == *label)
    }

    /// Lists the servers of a group.
    #[must_use]
    pub fn servers(&self, group: GroupId) -> Vec<ServerInfo> {
        self.0.groups.members(group).iter().map(|server| server.info.clone()).collect()
    }

    /// Returns what is known about every server, group by group.
    #[must_use]
    pub fn status(&self) -> Vec<ServerStatus> {
        self.0.groups.status(self.0.clock.now())
    }
}
