//! What the guard has found, as documents: incidents with their packets, and how answers have changed.

use super::life::written;
use super::once;
use crate::dns::Name;
use crate::dns::answer::Record;
use crate::dns::wire::{Message, Section, flag};
use crate::pipeline::Pipeline;
use crate::pipeline::guard::incident::{Incident, Packet, WallTime};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use std::time::{Duration, UNIX_EPOCH};

/// Shows how answers of guarded names have changed, the latest first.
pub(super) fn changes_json(pipeline: &Pipeline, name: Option<&Name>) -> Vec<Value> {
    let wanted = name.map(|name| name.to_lower().to_string());
    let changes = pipeline.changes();
    let of_name = changes.iter().rev().filter(|change| wanted.as_ref().is_none_or(|name| change.name == *name));
    of_name
        .map(|change| {
            json!({
                "at": written(UNIX_EPOCH + Duration::from_secs(change.at)),
                "name": change.name, "type": change.rtype,
                "was": change.was, "was_from": change.was_from,
                "became": change.became, "became_from": change.became_from,
            })
        })
        .collect()
}

/// Shows an incident in short.
pub(super) fn incident_json(incident: &Incident) -> Value {
    let at = |at: WallTime| written(UNIX_EPOCH + Duration::from_secs(at.0));
    json!({
        "id": incident.id_text(),
        "verdict": incident.verdict.as_str(),
        "upstream": &*incident.upstream,
        "name": incident.qname.to_string(),
        "types": incident.qtypes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "first_seen": at(incident.first_seen),
        "last_seen": at(incident.last_seen),
        "count": incident.count,
        "score": incident.score,
        "served": incident.served.as_str(),
        "proofs": incident.proofs,
        "acknowledged": incident.acknowledged,
    })
}

/// Shows a packet as it came, and what it says as far as it can be read.
pub(super) fn packet_json(packet: &Packet) -> Value {
    let mut shown = json!({ "from": &*packet.from, "hex": HEXLOWER.encode(&packet.bytes) });
    if let Ok(message) = Message::parse(&packet.bytes) {
        let records = |section| {
            let read = message.section(section).filter_map(|at| Record::from_message(&message, &at).ok());
            once::records_json(&read.collect::<Vec<_>>())
        };
        let flags = [(flag::AA, "aa"), (flag::RA, "ra"), (flag::AD, "ad"), (flag::TC, "tc")];
        let set: Vec<&str> = flags.into_iter().filter_map(|(bit, name)| message.has(bit).then_some(name)).collect();
        shown["rcode"] = message.extended_rcode().to_string().into();
        shown["flags"] = set.into();
        shown["edns"] = message.edns().ok().flatten().is_some().into();
        shown["answer"] = records(Section::Answer);
        shown["authority"] = records(Section::Authority);
    }
    shown
}
