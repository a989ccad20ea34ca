//! Stage 4: what truename answers by itself.
//!
//! ```text
//! question ─▶ rewrites ─▶ hosts files ─▶ local zones, longest apex first ─▶ made PTRs ─▶ special-use names ─▶ not ours
//! ```
//!
//! The first that decides wins: what a person wrote for one name beats what stands for a whole zone, and both beat
//! what is true of every network. A zone with `fallthrough` that lacks a name and type lets the next one decide.
//!
//! Pure: files are read at load only, nothing here waits, and the routes are seen through [`Context`] alone.
//!
//! Delegations inside a zone: a referral is of no use to a stub resolver, so names at or below a zone cut are left to
//! the routes. Without a route of their own, and with private addresses among their glue, they may go only to private
//! servers of the group `system`, so that a zone behind private servers does not leak.

mod by_suffix;
mod draft;
mod encoding;
mod engine;
mod fields;
mod generate;
mod grammar;
mod hosts;
mod lint;
mod load;
mod master;
mod outcome;
pub mod presentation;
mod rdata;
mod reverse;
mod rewrite;
mod service;
mod slips;
mod soa;
mod special;
mod store;
#[cfg(test)]
mod tests;
mod token;

pub use hosts::HostsConflict;
pub use outcome::{Context, LocalAnswer, Outcome};

use crate::config::{Config, Diagnostic, Location, OnConflict, ViewId};
use crate::dns::{Name, Origin, Rcode, Record, Rtype};
use by_suffix::BySuffix;
use hosts::{Hosts, Said};
use load::LoadedZone;
use reverse::Reverse;
use rewrite::Rewrites;
use special::Special;
use std::hash::{Hash, Hasher};
use std::path::Path;
use store::Found;

/// Everything truename answers by itself.
#[derive(Debug)]
pub struct Zones {
    rewrites: Rewrites,
    hosts: Hosts,
    zones: Vec<LoadedZone>,
    /// Lower-cased apex to indices into `zones`, those with views first.
    by_apex: BySuffix<Vec<usize>>,
    reverse: Reverse,
}

/// One zone, for listings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apex {
    /// Its name.
    pub name: Name,
    /// The views it is for; `None` is all.
    pub views: Option<Vec<ViewId>>,
    /// The serial number of its SOA.
    pub serial: Option<u32>,
    /// Records read from its file and its inline list.
    pub records: usize,
    /// Where it was written.
    pub at: Location,
}

impl Zones {
    /// Reads all zones, hosts files and rewrites; `now_unix` is the serial of zones without a file date.
    ///
    /// The value is complete as far as the texts were right. When a diagnostic is an error, it must not be served.
    #[must_use]
    pub fn load(config: &Config, now_unix: u64) -> (Self, Vec<Diagnostic>) {
        let mut diagnostics = Vec::new();
        let rewrites = Rewrites::load(&config.rewrites, &mut diagnostics);
        let hosts = Hosts::load(&config.hosts, &mut diagnostics);
        let zones: Vec<LoadedZone> =
            config.zones.iter().map(|zone| load::load(zone, now_unix, &mut diagnostics)).collect();
        let mut by_apex = BySuffix::<Vec<usize>>::default();
        for (at, zone) in zones.iter().enumerate() {
            by_apex.entry(&zone.store.apex).push(at);
        }
        for same in by_apex.values_mut() {
            same.sort_by_key(|&at| (zones[at].views.is_none(), at));
        }
        let reverse = Reverse::make(&zones);
        (Self { rewrites, hosts, zones, by_apex, reverse }, diagnostics)
    }

    /// Answers a question, or says who may.
    #[must_use]
    pub fn answer(&self, view: ViewId, qname: &Name, qtype: Rtype, dnssec_ok: bool, context: &dyn Context) -> Outcome {
        if let Some(answer) = self.rewrites.answer(view, qname, qtype) {
            return Outcome::Local(answer);
        }
        let said = match self.hosts.answer(qname, qtype) {
            Said::Nothing => Said::Nothing,
            _ if self.hosts.on_conflict == OnConflict::Ignore && self.is_conflict(qname, context) => Said::Nothing,
            said @ (Said::Answer(_) | Said::Exists) => said,
        };
        let in_hosts = match said {
            Said::Answer(answer) => return Outcome::Local(answer),
            Said::Exists => true,
            Said::Nothing => false,
        };
        let mut outcome = self.zones_or_special(view, qname, qtype, dnssec_ok, context);
        if let Outcome::Local(answer) = &mut outcome
            && in_hosts
        {
            Hosts::soften(answer);
        }
        outcome
    }

    /// Makes the answer for a name that may go only to private servers, when there are none.
    #[must_use]
    pub fn withheld(&self, qname: &Name) -> LocalAnswer {
        let mut answer = special::withheld(qname);
        if self.hosts.has(qname) {
            Hosts::soften(&mut answer);
        }
        answer
    }

    /// Tells whether a name exists here, whatever its types: then nobody else may say NXDOMAIN about it, since some stubs
    /// take that for all types (RFC 8020).
    #[must_use]
    pub fn has(&self, view: ViewId, qname: &Name, context: &dyn Context) -> bool {
        let ignored = || self.hosts.on_conflict == OnConflict::Ignore && self.is_conflict(qname, context);
        (self.hosts.has(qname) && !ignored())
            || self.covering(view, qname).iter().any(|&at| self.zones[at].store.has(qname))
    }

    /// Returns a hash that changes when what decides a name here changes, the same over reloads of the same data;
    /// 0 when nothing does. Special-use names are constant, so they are 0 as well.
    #[must_use]
    pub fn fingerprint(&self, view: ViewId, qname: &Name) -> u64 {
        let mut state = hosts::stable_hasher();
        let mut any = self.rewrites.hash_name(view, qname, &mut state);
        any |= self.hosts.hash_name(qname, &mut state);
        for at in self.covering(view, qname) {
            self.zones[at].hash.hash(&mut state);
            any = true;
        }
        any |= self.reverse.hash_name(&self.zones, view, qname, &mut state);
        if any { state.finish().max(1) } else { 0 }
    }

    /// Lists the zones in file order.
    pub fn apexes(&self) -> impl Iterator<Item = Apex> {
        self.zones.iter().map(|zone| Apex {
            name: zone.store.apex.clone(),
            views: zone.views.clone(),
            serial: zone.store.serial(),
            records: zone.records,
            at: zone.at.clone(),
        })
    }

    /// Lists the records of every zone, made SOAs included: zones in file order, the names of each in canonical order.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.zones.iter().flat_map(|zone| zone.store.records())
    }

    /// Lists the files of records, those included by others among them; the configuration's own are left out.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.zones
            .iter()
            .flat_map(|zone| zone.store.files().iter().map(|file| &**file).filter(|file| *file != &*zone.at.file))
    }

    /// Counts the names of all hosts files.
    #[must_use]
    pub fn hosts_names(&self) -> usize {
        self.hosts.len()
    }

    /// Lists the hosts lines for names that public servers answer too.
    #[must_use]
    pub fn hosts_conflicts(&self, context: &dyn Context) -> Vec<HostsConflict> {
        self.hosts.conflicts(|name| self.is_public(name, context))
    }

    /// Returns the places of the zones a name is in as a view sees them, the deciding one first; one without `fallthrough`
    /// ends the list.
    fn covering(&self, view: ViewId, qname: &Name) -> Vec<usize> {
        let mut found = Vec::new();
        if self.by_apex.is_empty() {
            return found;
        }
        for (_, same) in self.by_apex.at_or_above(&qname.lower_wire()) {
            for &at in same.iter().filter(|&&at| self.zones[at].is_for(view)) {
                found.push(at);
                if !self.zones[at].store.is_overlay() {
                    return found;
                }
            }
        }
        found
    }

    fn zones_or_special(
        &self,
        view: ViewId,
        qname: &Name,
        qtype: Rtype,
        dnssec_ok: bool,
        context: &dyn Context,
    ) -> Outcome {
        if let Some(answer) = special::canary(qname, qtype) {
            return Outcome::Local(answer);
        }
        let mut decided = None;
        for at in self.covering(view, qname) {
            match self.zones[at].store.lookup(qname, qtype, dnssec_ok) {
                Found::Answer(answer) => {
                    decided = Some(LocalAnswer { zone: Some(at), ..*answer });
                    break;
                }
                Found::Delegated { private } => {
                    let kept_in = private && !has_route(qname, context);
                    return if kept_in { Outcome::PrivateSystemOnly } else { Outcome::NotOurs };
                }
                Found::NotHere => {}
            }
        }
        let is_negative = decided.as_ref().is_none_or(|answer| answer.answers.is_empty());
        if let Some(answer) = is_negative.then(|| self.made_ptr(view, qname, qtype)).flatten() {
            return Outcome::Local(answer);
        }
        if let Some(answer) = decided {
            return Outcome::Local(answer);
        }
        // Routes are looked at for the few special names only: most are none.
        match special::answer(qname, qtype) {
            Special::Nothing => Outcome::NotOurs,
            _ if has_route(qname, context) => Outcome::NotOurs,
            Special::Answer(answer) => Outcome::Local(answer),
            Special::PrivateOnly => Outcome::PrivateSystemOnly,
        }
    }

    /// Makes the PTR answer of a reverse name that a zone with `reverse = true` has an address for.
    fn made_ptr(&self, view: ViewId, qname: &Name, qtype: Rtype) -> Option<LocalAnswer> {
        let (records, at) = self.reverse.records(&self.zones, view, qname)?;
        let source = format!("made from an address in zone {}", self.zones[at].store.apex);
        let made = if matches!(qtype, Rtype::PTR | Rtype::ANY) {
            LocalAnswer::records(Origin::Zone, records, source)
        } else {
            let soa = soa::for_negative(qname, soa::MADE_MINIMUM_SECONDS);
            LocalAnswer::negative(Origin::Zone, Rcode::NOERROR, soa, source)
        };
        Some(LocalAnswer { zone: Some(at), ..made })
    }

    fn is_conflict(&self, qname: &Name, context: &dyn Context) -> bool {
        self.is_public(self.hosts.reverse_target(qname).unwrap_or(qname), context)
    }

    /// Tells whether public servers are who would answer a name, were it not for the hosts file.
    fn is_public(&self, name: &Name, context: &dyn Context) -> bool {
        // A single label is a name of this machine or of its network, not of a public server.
        if name.label_count() < 2 || self.hosts.names_a_machine(name) || special::is_local_domain(name) {
            return false;
        }
        let in_zone = self.by_apex.at_or_above(&name.lower_wire()).next().is_some();
        !special::is_special(name) && !in_zone && !context.private_route(name)
    }
}

/// Tells whether a route opens a name that would be kept in. Private routes do too, written or made from a search
/// domain: networks with names under `local.` or `internal.` exist, and a private route never leads to public servers.
fn has_route(name: &Name, context: &dyn Context) -> bool {
    context.explicitly_routed(name) || context.private_route(name)
}
