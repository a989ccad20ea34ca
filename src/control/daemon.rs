//! What a daemon can be asked and told. `app` implements it.

use super::reply::Problem;
use super::report::Stats;
use crate::clock::Tick;
use crate::dns::{Name, Rtype};
use serde::Serialize;
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;

/// A daemon as it is seen from here. Methods that are not `async` are quick and do not block on files.
pub trait Daemon: Send + Sync + 'static {
    /// Reads the moment, on the clock that questions are remembered by.
    fn moment(&self) -> Tick;

    /// Takes all sums.
    fn stats(&self) -> Stats;

    /// Tells whether it can answer.
    ///
    /// # Errors
    /// Why it cannot.
    fn ready(&self) -> Result<(), String>;

    /// Lists the files of names that routes take.
    fn lists(&self) -> Value;

    /// Lists the views.
    fn views(&self) -> Value;

    /// Tells which system this is: its name, its kernel, its architecture.
    fn machine(&self) -> Value;

    /// Writes down the groups and routes in force, as a configuration, without passwords.
    fn configuration(&self) -> String;

    /// Answers a question as a client's would be, or as upstreams do by themselves, or both.
    ///
    /// # Errors
    /// When there is no upstream of that name, or too many are asked already.
    fn query(&self, question: Question) -> impl Future<Output = Result<Value, Problem>>;

    /// Answers a question and says why the answer is what it is.
    fn explain(&self, question: Explain) -> impl Future<Output = Value>;

    /// Lists what was found against upstreams, the latest first; only what nobody has taken note of when `open`.
    fn incidents(&self, open: bool) -> Value;

    /// Returns one of them with its evidence and packets.
    fn incident(&self, id: &str) -> Option<Value>;

    /// Lists how answers of guarded names have changed, the latest first; only those of one name when there is one.
    fn changes(&self, name: Option<&Name>) -> Value;

    /// Takes note of one; tells whether it exists.
    fn acknowledge(&self, id: &str) -> bool;

    /// Lists cached answers, so many at most.
    fn cached(&self, matching: &Matching, limit: usize) -> Value;

    /// Removes cached answers and returns how many.
    fn flush(&self, matching: &Matching) -> usize;

    /// Turns a server (`GROUP/NAME`) or all of a group on or off, and returns how many that are.
    ///
    /// # Errors
    /// When there is none of that name.
    fn switch(&self, label: &str, on: bool) -> Result<usize, Problem>;

    /// Asks a server (`GROUP/NAME`) or all of a group once over each rung, apart from everything else that is asked.
    ///
    /// # Errors
    /// When there is none of that name, or too many probes are under way.
    fn probe(&self, label: &str) -> impl Future<Output = Result<Value, Problem>>;

    /// Reads everything again and waits for the outcome.
    fn reload(&self) -> impl Future<Output = Result<Outcome, Problem>>;

    /// Turns routes off for a while, private ones excepted.
    fn pause(&self, length: Duration) -> impl Future<Output = Result<Outcome, Problem>>;

    /// Turns them on again.
    fn resume(&self) -> impl Future<Output = Result<Outcome, Problem>>;

    /// Looks at a configuration that is not in force.
    fn check(&self, text: String) -> impl Future<Output = Outcome>;
}

/// What is to be answered, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name.
    pub qname: Name,
    /// Its type.
    pub qtype: Rtype,
    /// The server (`GROUP/NAME`) or group that is to be asked by itself, in place of us.
    pub upstream: Option<String>,
    /// Ask both, and hold what upstreams say against our answer.
    pub compare: bool,
}

/// What is to be explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explain {
    /// The name.
    pub qname: Name,
    /// Its type.
    pub qtype: Rtype,
    /// Who is supposed to ask; this machine without it.
    pub client: Option<IpAddr>,
    /// Ask anew, whatever is cached.
    pub fresh: bool,
}

/// Which names are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matching {
    /// All.
    All,
    /// One, in all its types and views.
    Name(Name),
    /// One and all below it.
    Suffix(Name),
}

impl Matching {
    /// Reads `*`, `*.NAME` or `NAME`.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let name = |text: &str| {
            Name::parse(text).map_err(|error| {
                Problem::bad_request("bad-name", format!("`{}` is no name: {error}", text.escape_debug()))
            })
        };
        match text.strip_prefix("*.") {
            _ if text == "*" => Ok(Self::All),
            Some(suffix) => name(suffix).map(Self::Suffix),
            None => name(text).map(Self::Name),
        }
    }
}

/// How a reload, or a look at a configuration, ended.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// It took effect, or would.
    pub ok: bool,
    /// The number of the configuration in force.
    pub generation: u64,
    /// What was found, warnings included: file, line, column, severity, code, key, found, expected, hint.
    pub diagnostics: Value,
    /// What else stood in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
