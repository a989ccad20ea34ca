//! What upstreams say about a question by themselves: without cache, zones, routes and guard in between; and held against our answer.
//!
//! A name that is private is asked only of those that may know it: servers with private addresses, and those of its own route.

use super::once::{self, Asked};
use super::probing::{Probes, own, unknown};
use super::upstreams::{Member, chosen};
use crate::control::Problem;
use crate::dns::answer::Record;
use crate::dns::wire::{Message, Section, flag};
use crate::dns::{Name, Query, QuestionKey, Rcode, Rtype, address};
use crate::pipeline::State;
use crate::upstream::{Probe, Probed};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Servers asked about one question; a group that is shipped has twelve.
const MAX_ASKED: usize = 32;
/// How long all of them may take: a rung that is silent is left after 6 s, so that there is time for another one.
const ASK_WITHIN: Duration = Duration::from_secs(10);

/// What is asked of upstreams.
#[derive(Debug, Clone)]
pub(super) struct OfUpstreams<'a> {
    pub(super) qname: &'a Name,
    pub(super) qtype: Rtype,
    /// A server (`GROUP/NAME`) or a group; without one the group that the name goes to, and those that the guard believes.
    pub(super) upstream: Option<&'a str>,
    /// What they are held against.
    pub(super) ours: Option<&'a Asked>,
}

impl OfUpstreams<'_> {
    /// Asks each server once, over the first of its rungs that answers.
    ///
    /// # Errors
    /// When there is no upstream of that name, or too many are asked already.
    pub(super) async fn ask(&self, state: &State, probes: &Probes) -> Result<Value, Problem> {
        let _place = probes.place()?;
        let (members, more) = self.members(state)?;
        let qname = self.qname.to_lower();
        let question = QuestionKey { qname, qtype: self.qtype, dnssec_ok: false, checking_disabled: false };
        let deadline = Instant::now() + ASK_WITHIN;
        let own = own(state);
        let ask = |member: &Member| {
            let (member, question) = (member.clone(), &question);
            let why_not = self.why_not(state, &member, &own);
            async move {
                if let Some(why) = why_not {
                    return row(&member, None, Some(why), None);
                }
                let mut remark = None;
                for rung in &member.server.rungs {
                    let probe = Probe { group: member.at, server: &member.server, rung, question, count: 1 };
                    let Ok(probed) = timeout_at(deadline, state.upstreams.probe(probe)).await else { break };
                    if probed.reply.is_some() {
                        return row(
                            &member,
                            Some((rung.transport.as_str(), &probed)),
                            probed.remark.clone(),
                            self.ours,
                        );
                    }
                    remark = probed.remark;
                }
                row(&member, None, Some(remark.unwrap_or_else(|| "there was no time to ask it".to_owned())), None)
            }
        };
        let replies: Vec<Value> = stream::iter(&members).map(ask).buffered(MAX_ASKED).collect().await;
        Ok(json!({ "replies": replies, "more": more }))
    }

    /// Returns who is asked, and how many others there would be.
    fn members(&self, state: &State) -> Result<(Vec<Member>, usize), Problem> {
        let names = match self.upstream {
            Some(label) => vec![label.to_owned()],
            None => {
                let way = state.route_of(&Query::local(self.qname.clone(), self.qtype), &self.qname.to_lower()).group;
                [way, state.config.guard.references].map(|group| state.config.group(group).name.clone()).into()
            }
        };
        let mut members = chosen(&state.config, &state.system, &names, |_| true).map_err(|_| unknown(state))?;
        let more = members.len().saturating_sub(MAX_ASKED);
        members.truncate(MAX_ASKED);
        Ok((members, more))
    }

    /// Says why a server is not asked.
    fn why_not(&self, state: &State, member: &Member, own: &[String]) -> Option<String> {
        if own.contains(&member.server.label) {
            return Some("it is an address of our own and is never asked".to_owned());
        }
        let qname = self.qname.to_lower();
        let way = state.route_of(&Query::local(self.qname.clone(), self.qtype), &qname);
        let is_its_own = way.private && state.config.group(way.group).name == member.group;
        let may_know = is_its_own || member.server.host.ip().is_some_and(address::is_private);
        (state.is_private_name(self.qname) && !may_know)
            .then(|| "the name is private: it is not told to a public server".to_owned())
    }
}

/// How much of what one says is what another says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Agreement {
    All,
    Some,
    Nothing,
}

impl Agreement {
    fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Some => "some",
            Self::Nothing => "none",
        }
    }

    /// Holds response codes and data against each other; whose names and TTLs they have does not matter.
    fn of(one: (Rcode, &[Record]), other: (Rcode, &[Record])) -> Self {
        let data = |records: &[Record]| {
            let mut data: Vec<_> = records.iter().map(|record| (record.rtype.0, record.rdata.clone())).collect();
            data.sort_unstable();
            data.dedup();
            data
        };
        let (ours, theirs) = (data(one.1), data(other.1));
        if one.0 != other.0 {
            Self::Nothing
        } else if ours == theirs {
            Self::All
        } else if ours.iter().any(|datum| theirs.contains(datum)) {
            Self::Some
        } else {
            Self::Nothing
        }
    }
}

fn row(member: &Member, probed: Option<(&str, &Probed)>, remark: Option<String>, ours: Option<&Asked>) -> Value {
    let mut row = json!({ "upstream": member.server.label, "remark": remark });
    let Some((transport, probed)) = probed else { return row };
    row["transport"] = transport.into();
    row["elapsed_seconds"] = probed.times.first().map(Duration::as_secs_f64).into();
    let Some(Ok(message)) = probed.reply.as_deref().map(Message::parse) else { return row };
    let records = |section| -> Vec<Record> {
        message.section(section).filter_map(|at| Record::from_message(&message, &at).ok()).collect()
    };
    let (rcode, answer) = (message.extended_rcode(), records(Section::Answer));
    let flags = [(flag::AA, "aa"), (flag::RA, "ra"), (flag::AD, "ad"), (flag::TC, "tc")];
    let set: Vec<&str> = flags.into_iter().filter_map(|(bit, name)| message.has(bit).then_some(name)).collect();
    row["rcode"] = rcode.to_string().into();
    row["flags"] = set.into();
    row["answer"] = once::records_json(&answer);
    row["authority"] = once::records_json(&records(Section::Authority));
    if let Some(Asked { answer: ours, .. }) = ours {
        let own = ours.records(Section::Answer);
        row["agrees"] = Agreement::of((ours.rcode(), &own), (rcode, &answer)).as_str().into();
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agrees_is_told_by_codes_and_data() {
        let record = |owner: &str, ttl, last| Record {
            owner: Name::parse(owner).unwrap(),
            rtype: Rtype::A,
            class: 1,
            ttl,
            rdata: [192, 0, 2, last].as_slice().into(),
        };
        let of = |one: &[Record], other: &[Record]| Agreement::of((Rcode::NOERROR, one), (Rcode::NOERROR, other));
        let (one, two) = (record("a.example", 60, 1), record("a.example", 60, 2));
        assert_eq!(of(&[one.clone(), two.clone()], &[two.clone(), record("A.example", 7, 1)]), Agreement::All);
        assert_eq!(of(std::slice::from_ref(&one), &[one.clone(), two.clone()]), Agreement::Some);
        assert_eq!(of(std::slice::from_ref(&one), &[two]), Agreement::Nothing);
        assert_eq!(of(&[], &[]), Agreement::All);
        assert_eq!(of(&[one], &[]), Agreement::Nothing);
        assert_eq!(Agreement::of((Rcode::NXDOMAIN, &[]), (Rcode::NOERROR, &[])), Agreement::Nothing);
    }
}
