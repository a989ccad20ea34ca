//! Counters: what happened, how often. Names and help texts stand here and nowhere else. Answers are counted apart
//! (`answers.rs`), since their sums must agree.

mod answers;
mod chunk;
mod histogram;
mod ledger;
mod noted;
mod recent;
mod ring;
mod sheet;
mod tags;

pub use answers::{Answers, Cell, Source};
pub use histogram::Histogram;
pub use ledger::Ledger;
pub use noted::{Batch, Noted};
pub use recent::{Answered, Follower, Taken};
pub use tags::Tagged;

use crate::dns::Tag;
use recent::Recent;
use sheet::Sheet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tags::Tags;
use tokio::sync::Notify;

macro_rules! counters {
    ($($variant:ident $name:literal $help:literal,)*) => {
        /// Everything that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Counter { $(#[doc = $help] $variant,)* }

        impl Counter {
            /// Every counter, in the order of its cells.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Returns the stable name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Returns what it counts, in one sentence.
            #[must_use]
            pub fn help(self) -> &'static str {
                match self { $(Self::$variant => $help),* }
            }
        }
    };
}

counters! {
    QueriesUdp "queries_udp_total" "Datagrams received from clients, whatever they held.",
    QueriesTcp "queries_tcp_total" "Frames received from clients over TCP.",
    DroppedSilent "dropped_silent_total" "Datagrams not answered: shorter than a header, or themselves responses.",
    SendFailed "send_failed_total" "Answers the kernel did not take.",
    Refused "refused_total" "Questions refused by the access list.",
    Malformed "malformed_total" "Questions answered FORMERR, NOTIMP or BADVERS.",
    InFlightFull "in_flight_full_total" "Questions answered SERVFAIL because max_in_flight was reached.",
    ClientShareFull "client_share_full_total" "Questions answered SERVFAIL because their client had its share of max_in_flight in work.",
    GaveWay "gave_way_total" "Slow questions answered SERVFAIL because their place was needed at max_in_flight.",
    PanicsCaught "panics_total" "Questions whose work panicked; each ended that question only.",
    BudgetExceeded "budget_exceeded_total" "Questions answered SERVFAIL because the time budget was over.",
    Merged "merged_total" "Questions that waited for an identical one in flight.",
    WaitersFull "waiters_full_total" "Questions answered SERVFAIL because too many waited for an identical one in flight.",
    CacheInserted "cache_inserted_total" "Answers stored in the cache.",
    CacheEvicted "cache_evicted_total" "Answers put out of the cache by its bounds.",
    CacheTooLarge "cache_too_large_total" "Answers not kept: too many records, or more octets than a part of the cache may hold.",
    Refreshes "refreshes_total" "Stale answers that upstreams were asked about in the background.",
    RefreshesFull "refreshes_full_total" "Stale answers not asked about because too many others were.",
    Prefetches "prefetches_total" "Popular answers asked for again before they expired.",
    PrefetchesSkipped "prefetches_skipped_total" "Popular answers not asked for again: upstreams fail, or too many others are.",
    SnapshotsWritten "snapshots_written_total" "Times the cache was written to disk.",
    SnapshotsFailed "snapshots_failed_total" "Times the cache could not be written to disk; the snapshot before stayed.",
    SnapshotsBad "snapshots_bad_total" "Snapshots put aside because they were torn, damaged, too large or of another kind.",
    SnapshotRestored "snapshot_restored_total" "Answers taken over from a snapshot at start.",
    UpstreamQueries "upstream_queries_total" "Queries sent to upstreams, repeats included.",
    UpstreamHedges "upstream_hedges_total" "Queries sent to a second upstream because the first was late.",
    UpstreamTimeouts "upstream_timeouts_total" "Attempts that ended without a reply.",
    UpstreamErrors "upstream_errors_total" "Attempts that ended with an ICMP or connection error.",
    UpstreamFailures "upstream_failures_total" "Replies that said SERVFAIL, REFUSED, NOTIMP, or were empty without SOA.",
    UpstreamUnmatched "upstream_unmatched_total" "Datagrams from upstreams that matched no question and were ignored.",
    UpstreamSocketsFull "upstream_sockets_full_total" "Queries not sent because too many sockets were open.",
    UpstreamTcpFull "upstream_tcp_full_total" "Queries not sent because a connection, or the number of them, was at its bound.",
    UpstreamConnections "upstream_connections_total" "Connections to upstreams that were begun.",
    UpstreamSuspects "upstream_suspect_connections_total" "Connections to upstreams that fell silent or may lead nowhere, so that a fresh one was opened beside them.",
    NetworkEvents "network_events_total" "Messages of the kernel that said something new about the links, addresses, routes or rules by which upstreams are reached.",
    NetworkEventsLost "network_events_lost_total" "Times the kernel had more to say about the network than was read in time.",
    NetworkEventsElsewhere "network_events_elsewhere_total" "Such messages about links, addresses, routes or rules that no upstream is reached by.",
    NetworkChanges "network_changes_total" "Times all connections became suspect and all servers unknown because the network had changed.",
    Sleeps "sleeps_total" "Times a question found that the machine had slept.",
    ClockResorts "clock_resorts_total" "Names of time servers asked of the machine's own resolvers because the clock was too wrong for certificates.",
    LingerFull "upstream_linger_full_total" "Questions whose late replies were not waited for, because many were already.",
    ProbesFull "upstream_probes_full_total" "Loop probes not sent because as many as may be were under way.",
    UpstreamRungChanges "upstream_rung_changes_total" "Times an upstream came to be asked over another of its transports.",
    UpstreamGroupsDown "upstream_groups_down_total" "Times nothing of a group of encrypted upstreams could be reached, so that others were asked in its place.",
    UpstreamTcpRetries "upstream_tcp_retries_total" "Truncated replies asked again over TCP.",
    UpstreamLoops "upstream_loops_total" "Upstreams disabled because they lead back to us.",
    PrivateDropped "private_dropped_total" "Replies refused because public servers gave private addresses.",
    GuardConsistent "guard_consistent_total" "Replies about guarded names that a trusted upstream's agree with.",
    GuardBenignDivergent "guard_benign_divergent_total" "Replies about guarded names that differ lawfully from trusted ones.",
    GuardUndecidable "guard_undecidable_total" "Replies about guarded names that differ from trusted ones, or stand alone, for no known reason.",
    GuardUpstreamFailing "guard_upstream_failing_total" "Guarded names that only trusted upstreams had an answer for, or nobody.",
    GuardEmptyVsPresent "guard_empty_vs_present_total" "Replies about guarded names that were empty where trusted ones have data.",
    GuardBrokenChain "guard_broken_chain_total" "Replies about guarded names whose aliases end in nothing or loop.",
    GuardNxdomainHijacked "guard_nxdomain_hijacked_total" "Replies with data of guarded names that do not exist.",
    GuardPoisoned "guard_poisoned_total" "Replies about guarded names that were forged or overwritten.",
    GuardBehindFull "guard_behind_full_total" "Guarded names not judged, or not mended, behind their answers because too many others were.",
    GuardProofs "guard_proofs_total" "Addresses of guarded names that were asked for their certificate.",
    GuardProofsValid "guard_proofs_valid_total" "Such addresses that showed a certificate of the name.",
    GuardProofsWrong "guard_proofs_wrong_total" "Such addresses that showed a certificate of another name, or one that no root signs.",
    GuardProofsFull "guard_proofs_full_total" "Addresses not asked for their certificate because too many others were.",
    GuardSamples "guard_samples_total" "Replies about names with guard = \"sample\" that were picked and held against a trusted one.",
    GuardNobodyAsked "guard_nobody_asked_total" "Questions for names that do not exist, to see whether an upstream makes up answers.",
    GuardNobodyAnswered "guard_nobody_answered_total" "Such questions that were answered with addresses.",
    GuardDecoys "guard_decoys_total" "Questions sent to addresses where no resolver is.",
    GuardDecoysAnswered "guard_decoys_answered_total" "Such questions that were answered.",
    GuardPairs "guard_second_replies_total" "Second replies to a query in a datagram that share no data with the first.",
    IncidentFilesWritten "incident_files_written_total" "Times the incidents were written to disk.",
    IncidentFilesFailed "incident_files_failed_total" "Times they could not be.",
    IncidentFilesBad "incident_files_bad_total" "Files of incidents put aside at a start: torn, damaged or of another format.",
    GuardChanges "guard_changes_total" "Answers of guarded names that shared nothing with those before.",
    GuardIncidents "guard_incidents_total" "Findings against upstreams that were new.",
    Scrubbed "scrubbed_total" "Replies from which records outside the alias chain were taken.",
    TcpConnections "tcp_connections_total" "TCP connections accepted.",
    TcpEvicted "tcp_evicted_total" "TCP connections closed at the cap: the one idle longest of the client that has most.",
    TcpIdleClosed "tcp_idle_closed_total" "TCP connections closed for being idle too long.",
    AcceptErrors "accept_errors_total" "Failed accepts (out of file descriptors and the like), each followed by a pause.",
    ReloadsOk "reloads_ok_total" "Reloads that took effect.",
    ReloadsFailed "reloads_failed_total" "Reloads refused because of errors in a file.",
    ControlRequests "control_requests_total" "Requests over the control sockets and the listener for Prometheus.",
    ControlRefused "control_refused_total" "Requests among them that were answered with a problem of the client's making.",
    ControlEvicted "control_evicted_total" "Connections to them closed because others came and there may be no more.",
    TagsFull "tags_full_total" "Views, zones and routes that are not counted apart, because as many as can be are or have been.",
    RecordsLost "query_records_lost_total" "Questions that were answered but not shown to somebody who follows, or not written to the query log, because they came too fast.",
    QueryLogUnwritten "query_log_unwritten_total" "Questions that could not be written to the query log: a full disk, a journal that is not there.",
    HostsConflicts "hosts_conflicts_total" "Hosts lines that stand against a public name, at the last load.",
    LogSuppressed "log_suppressed_total" "Log lines left out by the rate limit.",
}

impl Counter {
    /// The counters that say that a bound was reached and something was refused for it; docs/limits.md explains each.
    pub const OF_BOUNDS: &[Self] = &[
        Self::InFlightFull,
        Self::ClientShareFull,
        Self::GaveWay,
        Self::WaitersFull,
        Self::UpstreamSocketsFull,
        Self::UpstreamTcpFull,
        Self::LingerFull,
        Self::ProbesFull,
        Self::RefreshesFull,
        Self::GuardBehindFull,
        Self::GuardProofsFull,
        Self::CacheTooLarge,
        Self::TcpEvicted,
        Self::AcceptErrors,
        Self::ControlEvicted,
    ];
}

/// One set of counters. Shared by all threads; every cell is a relaxed atomic.
#[derive(Debug)]
pub struct Stats {
    cells: Box<[AtomicU64]>,
    /// A bound was reached that nobody has taken note of.
    is_at_bound: AtomicBool,
    at_bound: Notify,
    /// One for each worker there has been.
    sheets: Mutex<Vec<Arc<Sheet>>>,
    recent: Recent,
    tags: Tags,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            cells: Counter::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            is_at_bound: AtomicBool::new(false),
            at_bound: Notify::new(),
            sheets: Mutex::default(),
            recent: Recent::default(),
            tags: Tags::default(),
        }
    }
}

impl Stats {
    /// Makes counters that also remember the last questions: about so many of each worker.
    #[must_use]
    pub fn remembering(entries: usize) -> Self {
        Self { recent: Recent::new(entries), ..Self::default() }
    }

    /// Counts one.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts one of [`Counter::OF_BOUNDS`] and wakes whoever reports them. In a flood that costs no more than counting.
    pub fn count_at_bound(&self, counter: Counter) {
        debug_assert!(Counter::OF_BOUNDS.contains(&counter), "{counter:?} is of no bound");
        self.count(counter);
        if !self.is_at_bound.load(Ordering::Relaxed) && !self.is_at_bound.swap(true, Ordering::Relaxed) {
            self.at_bound.notify_one();
        }
    }

    /// Waits until a bound has been reached since the last wait ended. Cancel safe.
    pub async fn bound_reached(&self) {
        self.at_bound.notified().await;
        self.is_at_bound.store(false, Ordering::Relaxed);
    }

    /// Counts `n`.
    pub fn add(&self, counter: Counter, n: u64) {
        self.cells[counter as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// Sets a counter that is a state rather than a sum.
    pub fn set(&self, counter: Counter, n: u64) {
        self.cells[counter as usize].store(n, Ordering::Relaxed);
    }

    /// Opens a ledger for one more thread that answers.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let sheet = Arc::default();
        self.sheets.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&sheet));
        Ledger::new(sheet, self.recent.notes())
    }

    /// Returns what is chosen of the last questions answered: the last `most` of it, the oldest first, and whether there is
    /// more. Questions are looked at from the last one back, until there are enough. Does not hold up a worker.
    #[must_use]
    pub fn last<T>(&self, most: usize, choose: impl FnMut(&Answered) -> Option<T>) -> (Vec<T>, bool) {
        self.recent.last(most, choose)
    }

    /// Follows what is answered from here on.
    #[must_use]
    pub fn follow(self: &Arc<Self>) -> Follower {
        Follower::new(Arc::clone(self))
    }

    /// Returns the tag of a view, a zone or a route, giving it one when it has none; [`Tag::NONE`] when none is left.
    #[must_use]
    pub fn tag(&self, kind: Tagged, name: &str, views: &str) -> Tag {
        self.tags.of(kind, name, views).unwrap_or_else(|| {
            self.count(Counter::TagsFull);
            Tag::NONE
        })
    }

    /// Returns what a tag stands for.
    #[must_use]
    pub fn tagged(&self, tag: Tag) -> Option<(Tagged, Arc<str>)> {
        self.tags.name(tag)
    }

    /// Reads all answers sent so far. What is read of one worker stood so at one moment. Does not hold up a worker.
    #[must_use]
    pub fn answers(&self) -> Answers {
        let sheets = self.sheets.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut sum = Answers::default();
        sheets.iter().for_each(|sheet| sheet.add_to(&mut sum));
        sum
    }

    /// Reads one counter.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.cells[counter as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_cells_are_apart() {
        let mut names: Vec<_> = Counter::ALL.iter().map(|counter| counter.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Counter::ALL.len());
        let stats = Stats::default();
        stats.add(Counter::Merged, 2);
        assert_eq!((stats.get(Counter::Merged), stats.get(Counter::Refused)), (2, 0));
    }
}
