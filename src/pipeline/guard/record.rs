//! Incidents as JSON: what the control socket shows, and what outlives the daemon.

use super::incident::{Incident, IncidentId, Packet, WallTime};
use super::verdict::{Given, Sign, Verdict};
use crate::config::PlaceId;
use crate::dns::{Name, Rtype};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

/// An incident as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number, as people write it.
    pub id: String,
    /// The network it was found on.
    pub place: u16,
    /// The label of the upstream that it speaks against.
    pub upstream: String,
    /// What it is.
    pub verdict: String,
    /// The name.
    pub name: String,
    /// The types it was seen with.
    pub types: Vec<String>,
    /// Seconds since 1970.
    pub first_seen: u64,
    /// See `first_seen`.
    pub last_seen: u64,
    /// How often.
    pub count: u64,
    /// The signs of the finding with the highest score.
    pub signs: Vec<String>,
    /// That score.
    pub score: i32,
    /// What clients got then.
    pub served: String,
    /// The packets that show it.
    pub packets: Vec<PacketRecord>,
    /// What addresses have shown by TLS, a line each.
    #[serde(default)]
    pub proofs: Vec<String>,
    /// Somebody has taken note of it.
    pub acknowledged: bool,
}

/// A packet as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketRecord {
    /// The upstream that sent it, by its label.
    pub from: String,
    /// Its bytes: id 0 and the question in lower case, otherwise as it came.
    pub hex: String,
}

impl From<&Incident> for Record {
    fn from(incident: &Incident) -> Self {
        let packet =
            |packet: &Packet| PacketRecord { from: packet.from.to_string(), hex: HEXLOWER.encode(&packet.bytes) };
        Self {
            id: incident.id_text(),
            place: incident.place.0,
            upstream: incident.upstream.to_string(),
            verdict: incident.verdict.as_str().to_owned(),
            name: incident.qname.to_string(),
            types: incident.qtypes.iter().map(ToString::to_string).collect(),
            first_seen: incident.first_seen.0,
            last_seen: incident.last_seen.0,
            count: incident.count,
            signs: incident.signs.iter().map(|sign| sign.as_str().to_owned()).collect(),
            score: incident.score,
            served: incident.served.as_str().to_owned(),
            packets: incident.packets.iter().map(packet).collect(),
            proofs: incident.proofs.clone(),
            acknowledged: incident.acknowledged,
        }
    }
}

impl Record {
    /// Makes the incident again; nothing when a field holds what no daemon writes. Signs and types that are not known here
    /// are left out: a newer daemon may have written them.
    #[must_use]
    pub fn read(&self) -> Option<Incident> {
        let packet = |packet: &PacketRecord| {
            let bytes = HEXLOWER.decode(packet.hex.as_bytes()).ok()?;
            Some(Packet { from: packet.from.as_str().into(), bytes: bytes.into() })
        };
        let sign = |word: &String| Sign::ALL.iter().copied().find(|sign| sign.as_str() == word);
        Some(Incident {
            id: IncidentId::parse(&self.id)?,
            place: PlaceId(self.place),
            upstream: self.upstream.as_str().into(),
            verdict: Verdict::from_word(&self.verdict)?,
            qname: Name::parse(&self.name).ok()?.to_lower(),
            qtypes: self.types.iter().filter_map(|text| text.parse::<Rtype>().ok()).collect(),
            first_seen: WallTime(self.first_seen),
            last_seen: WallTime(self.last_seen),
            count: self.count,
            signs: self.signs.iter().filter_map(sign).collect(),
            score: self.score,
            served: Given::from_word(&self.served)?,
            packets: self.packets.iter().map(packet).collect::<Option<_>>()?,
            proofs: self.proofs.clone(),
            acknowledged: self.acknowledged,
        })
    }
}
