//! A probe over the control socket: every rung of the servers meant, asked once.
//!
//! What is asked is the address of `localhost`: resolvers have it at hand, and so have we. A server that leads back to us
//! therefore ends no other way than with an answer, and one that is an address of our own is not asked at all.

use super::upstreams::{Member, chosen};
use crate::config::{Rung, UpstreamHost};
use crate::control::Problem;
use crate::dns::{Name, QuestionKey, Rtype};
use crate::pipeline::State;
use crate::upstream::{Probe, Probed};
use futures_util::{StreamExt, stream};
use http::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

/// Probes under way at once; who looks into a fault needs one.
const MAX_PROBES: usize = 4;
/// Rungs that one probe asks at once: those of a group that is shipped.
const MAX_AT_ONCE: usize = 32;
/// How long a probe may take: a connection on which nothing moves is closed after 30 s, and a rung gives up after 6 s.
const PROBE_WITHIN: Duration = Duration::from_secs(20);
/// The name whose address is asked for.
const ASKED: &str = "localhost.";

/// How many probes there may be.
#[derive(Debug)]
pub(super) struct Probes(Semaphore);

impl Default for Probes {
    fn default() -> Self {
        Self(Semaphore::new(MAX_PROBES))
    }
}

impl Probes {
    /// Takes one of the places there are.
    pub(super) fn place(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.0.try_acquire().map_err(|_| {
            let detail = format!("{MAX_PROBES} probes are under way; try again when one of them has ended");
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-probes", detail)
        })
    }

    /// Asks a server (`GROUP/NAME`), or all of a group, over each rung, and says what came of it.
    pub(super) async fn probe(&self, state: &State, label: &str) -> Result<Value, Problem> {
        let names = [label.to_owned()];
        let members = chosen(&state.config, &state.system, &names, |_| true).map_err(|_| unknown(state))?;
        let _place = self.place()?;
        let qname = Name::parse(ASKED).map_err(|error| Problem::bad_request("bad-name", error.to_string()))?;
        let question = QuestionKey { qname, qtype: Rtype::A, dnssec_ok: false, checking_disabled: false };
        let own = own(state);
        let rungs = |member: &Member| {
            let asked = if own.contains(&member.server.label) { &[] } else { &*member.server.rungs };
            asked.to_vec()
        };
        let each: Vec<(usize, Rung)> = members
            .iter()
            .enumerate()
            .flat_map(|(at, member)| rungs(member).into_iter().map(move |rung| (at, rung)))
            .collect();
        let deadline = Instant::now() + PROBE_WITHIN;
        let ask = |(at, rung): (usize, Rung)| {
            let (member, question) = (&members[at], &question);
            async move {
                let probe = Probe { group: member.at, server: &member.server, rung: &rung, question, count: 1 };
                // A time limit that is over lets what it limits begin.
                let is_time = Instant::now() < deadline;
                let probed = if is_time { timeout_at(deadline, state.upstreams.probe(probe)).await.ok() } else { None };
                (at, rung_json(&rung, probed.as_ref()))
            }
        };
        let mut said: Vec<Vec<Value>> = members.iter().map(|_| Vec::new()).collect();
        let mut asked = stream::iter(each).map(ask).buffered(MAX_AT_ONCE);
        while let Some((at, rung)) = asked.next().await {
            said[at].push(rung);
        }
        drop(asked);
        let upstreams: Vec<Value> =
            members.iter().zip(said).map(|(member, rungs)| member_json(member, rungs, &own)).collect();
        Ok(json!({ "asked": { "name": ASKED, "type": "A" }, "upstreams": upstreams }))
    }
}

/// Lists the servers that are addresses of our own.
pub(super) fn own(state: &State) -> Vec<String> {
    let status = state.upstreams.status();
    status.iter().filter(|status| status.own).map(|status| status.info.label.to_string()).collect()
}

/// Says that nothing is called so, and what is.
pub(super) fn unknown(state: &State) -> Problem {
    let known: Vec<String> = state.upstreams.status().iter().map(|status| status.info.label.to_string()).collect();
    let detail = "there is no such server or group; `upstreams` lists the servers";
    Problem::not_found("unknown-upstream", detail).with("upstreams", known)
}

fn member_json(member: &Member, rungs: Vec<Value>, own: &[String]) -> Value {
    let label = &member.server.label;
    let (state, remark) = if own.contains(label) {
        ("own", Some("it is an address of our own and is never asked"))
    } else if rungs.iter().any(|rung| rung["state"] == "up") {
        ("up", None)
    } else {
        ("down", None)
    };
    json!({
        "group": member.group, "name": label.strip_prefix(&format!("{}/", member.group)).unwrap_or(label),
        "host": host_text(&member.server.host), "in_use": member.in_use, "state": state, "remark": remark,
        "rungs": rungs,
    })
}

fn host_text(host: &UpstreamHost) -> String {
    match host {
        UpstreamHost::Address(ip, 0) => ip.to_string(),
        UpstreamHost::Address(ip, scope) => format!("{ip}%{scope}"),
        UpstreamHost::Name(name) => name.to_string().trim_end_matches('.').to_owned(),
    }
}

fn rung_json(rung: &Rung, probed: Option<&Probed>) -> Value {
    let late = Probed { remark: Some("there was no time to ask it".to_owned()), ..Probed::default() };
    let state = match probed {
        None => "unasked",
        Some(probed) if probed.unusable => "unusable",
        Some(probed) if probed.is_up() => "up",
        Some(_) => "down",
    };
    let probed = probed.unwrap_or(&late);
    json!({
        "transport": rung.transport.as_str(), "port": rung.port, "path": rung.path.as_deref(), "state": state,
        "opened_in_seconds": probed.opening.map(|time| time.as_secs_f64()),
        "reply_seconds": probed.times.first().map(Duration::as_secs_f64),
        "remark": probed.remark,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UpstreamTransport;

    #[test]
    fn what_there_is_no_time_for_is_told() {
        let rung = Rung { transport: UpstreamTransport::Tls, port: 853, path: None };
        let late = rung_json(&rung, None);
        assert_eq!((&late["state"], &late["remark"]), (&json!("unasked"), &json!("there was no time to ask it")));
        assert_eq!((&late["reply_seconds"], &late["port"]), (&Value::Null, &json!(853)));
        let probed = Probed { unusable: true, ..Probed::default() };
        assert_eq!(rung_json(&rung, Some(&probed))["state"], "unusable");
    }
}
