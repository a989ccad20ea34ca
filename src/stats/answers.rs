//! Every answer sent, once: by protocol, type, response code and source, with how long it took.
//!
//! A worker counts on a sheet of its own (`sheet.rs`); what stands here are the table's rows and columns, and its sums.

use super::histogram::{BUCKETS, Histogram};
use crate::clock::Tick;
use crate::dns::{Decided, Origin, Rcode, Rtype, Tag, Transport};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What an answer came from, as users are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A local zone.
    Zone,
    /// A hosts file.
    Hosts,
    /// A special-use name.
    Special,
    /// A rewrite.
    Rewrite,
    /// The cache, fresh.
    Cache,
    /// The cache, past its TTL.
    CacheStale,
    /// An upstream.
    Forward,
    /// The access list, and other refusals of ours.
    Policy,
    /// Ourselves: failures and protocol errors.
    Error,
}

impl Source {
    /// Every source, in the order of the cells.
    pub const ALL: [Self; 9] = [
        Self::Zone,
        Self::Hosts,
        Self::Special,
        Self::Rewrite,
        Self::Cache,
        Self::CacheStale,
        Self::Forward,
        Self::Policy,
        Self::Error,
    ];

    /// Returns the word used in output and labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zone => "zone",
            Self::Hosts => "hosts",
            Self::Special => "special",
            Self::Rewrite => "rewrite",
            Self::Cache => "cache",
            Self::CacheStale => "cache_stale",
            Self::Forward => "forward",
            Self::Policy => "policy",
            Self::Error => "error",
        }
    }

    /// Tells what users are told of an answer.
    #[must_use]
    pub fn new(origin: Origin, rcode: Rcode) -> Self {
        match origin {
            Origin::Zone => Self::Zone,
            Origin::Hosts => Self::Hosts,
            Origin::Special => Self::Special,
            Origin::Rewrite => Self::Rewrite,
            Origin::Cache => Self::Cache,
            Origin::Stale => Self::CacheStale,
            Origin::Upstream => Self::Forward,
            Origin::Own if rcode == Rcode::REFUSED => Self::Policy,
            Origin::Own => Self::Error,
        }
    }
}

/// The types that are counted apart; the last class is all others, and what has no type.
const TYPES: [(Rtype, &str); 11] = [
    (Rtype::A, "A"),
    (Rtype::AAAA, "AAAA"),
    (Rtype::HTTPS, "HTTPS"),
    (Rtype::PTR, "PTR"),
    (Rtype::SRV, "SRV"),
    (Rtype::TXT, "TXT"),
    (Rtype::MX, "MX"),
    (Rtype::NS, "NS"),
    (Rtype::SOA, "SOA"),
    (Rtype::SVCB, "SVCB"),
    (Rtype::DS, "DS"),
];
/// The class of all other types.
const OTHER: &str = "other";
/// The response codes that are counted apart, with their names.
const RCODES: [(Rcode, &str); 7] = [
    (Rcode::NOERROR, "NOERROR"),
    (Rcode::FORMERR, "FORMERR"),
    (Rcode::SERVFAIL, "SERVFAIL"),
    (Rcode::NXDOMAIN, "NXDOMAIN"),
    (Rcode::NOTIMP, "NOTIMP"),
    (Rcode::REFUSED, "REFUSED"),
    (Rcode::BADVERS, "BADVERS"),
];

const TYPE_CLASSES: usize = TYPES.len() + 1;
const RCODE_CLASSES: usize = RCODES.len() + 1;
/// Sources, classes of response codes and of types, each rounded up to a power of two: a cell's number is made of bits.
pub(super) const SOURCE_ROOM: usize = 16;
const RCODE_ROOM: usize = RCODE_CLASSES.next_power_of_two();
const TYPE_ROOM: usize = TYPE_CLASSES.next_power_of_two();
/// How a question comes in: by which protocol, from an address of which family. By number.
const WAY_NAMES: [[&str; 2]; WAYS] = [["udp", "ipv4"], ["udp", "ipv6"], ["tcp", "ipv4"], ["tcp", "ipv6"]];
/// Ways there are.
pub(super) const WAYS: usize = 4;
/// Cells of one way.
pub(super) const CELLS_OF_A_WAY: usize = TYPE_ROOM * RCODE_ROOM * SOURCE_ROOM;
const PROTOCOL_NAMES: [&str; 2] = ["udp", "tcp"];

const RCODE_SHIFT: u32 = SOURCE_ROOM.trailing_zeros();
const TYPE_SHIFT: u32 = RCODE_SHIFT + RCODE_ROOM.trailing_zeros();
const WAY_SHIFT: u32 = TYPE_SHIFT + TYPE_ROOM.trailing_zeros();
/// The bit of a cell that says that the client's address is of IPv6.
const IPV6: u16 = 1 << WAY_SHIFT;
/// The bit that says that it came over TCP.
const TCP: u16 = 2 << WAY_SHIFT;
/// The class of all other response codes.
const OTHER_RCODE: u16 = small(RCODES.len());
/// Types with a number below this are looked up in [`TYPE_CELLS`]; those counted apart are all among them.
const LISTED_TYPES: u16 = 66;
/// The bits of a type, by its number.
const TYPE_CELLS: [u16; LISTED_TYPES as usize] = {
    let mut cells = [OTHER_TYPE_CELLS; LISTED_TYPES as usize];
    let mut class = 0;
    while class < TYPES.len() {
        cells[TYPES[class].0.0 as usize] = small(class << TYPE_SHIFT);
        class += 1;
    }
    cells
};
/// The bits of all other types.
const OTHER_TYPE_CELLS: u16 = small(TYPES.len() << TYPE_SHIFT);
const _: () = assert!(WAYS * CELLS_OF_A_WAY == WAYS << WAY_SHIFT && Source::ALL.len() <= SOURCE_ROOM);

/// There are fewer than 65,536 cells.
#[expect(clippy::cast_possible_truncation, reason = "checked, at compile time")]
const fn small(n: usize) -> u16 {
    assert!(n <= u16::MAX as usize);
    n as u16
}

/// Milliseconds of a slot in which answers are counted for the rate of the last minute, as a power of two: 4,096.
pub(super) const SLOT_SHIFT: u32 = 12;
/// Slots kept: 64 seconds and the one under way.
pub(super) const SLOTS: usize = 16;
/// Slots before the one under way that make the last minute.
const SLOTS_OF_A_MINUTE: u64 = 14;
/// Cells for the times of a source: the buckets, the sum, the maximum.
pub(super) const TIMES_STRIDE: usize = BUCKETS + 2;

/// Where one answer is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    at: u16,
    /// The zone or the route that it is counted for as well.
    pub(super) by: Tag,
    /// The client's view.
    pub(super) view: Tag,
}

impl Cell {
    /// Finds the cell of an answer; `qtype` is nothing when the question could not be read.
    #[must_use]
    pub fn new(transport: Transport, qtype: Option<Rtype>, rcode: Rcode, origin: Origin) -> Self {
        let protocol = match transport {
            Transport::Udp => 0,
            Transport::Tcp => TCP,
        };
        let rtype = match qtype {
            Some(Rtype(code @ 0..LISTED_TYPES)) => TYPE_CELLS[usize::from(code)],
            Some(_) | None => OTHER_TYPE_CELLS,
        };
        let code = match rcode.0 {
            code @ 0..=5 => code,
            16 => 6,
            _ => OTHER_RCODE,
        };
        let at = protocol | rtype | code << RCODE_SHIFT | Source::new(origin, rcode) as u16;
        Self { at, by: Tag::NONE, view: Tag::NONE }
    }

    /// Counts it for a zone or a route as well, and says for which view it was.
    #[must_use]
    pub fn of(self, decided: Decided) -> Self {
        Self { by: decided.by, view: decided.view, ..self }
    }

    /// Says from where it was asked.
    #[inline]
    pub(super) fn from(self, client: IpAddr) -> Self {
        Self { at: if client.is_ipv6() { self.at | IPV6 } else { self.at }, ..self }
    }

    /// Returns the number of its way, and its place among the cells of that.
    #[inline]
    pub(super) fn place(self) -> (usize, usize) {
        (usize::from(self.at >> WAY_SHIFT), usize::from(self.at) % CELLS_OF_A_WAY)
    }

    pub(super) fn source(self) -> usize {
        source_of(usize::from(self.at))
    }

    /// Returns the protocol.
    pub(super) fn transport(self) -> Transport {
        if self.at & TCP == 0 { Transport::Udp } else { Transport::Tcp }
    }

    /// Returns where the answer came from.
    pub(super) fn source_word(self) -> Source {
        Source::ALL.get(self.source()).copied().unwrap_or(Source::Error)
    }

    /// Returns the response code when it is one that a message's head cannot hold.
    pub(super) fn extended_rcode(self) -> Option<Rcode> {
        let (code, _) = RCODES.get(rcode_of(usize::from(self.at)))?;
        (code.0 > 15).then_some(*code)
    }
}

/// All answers up to a moment, of all workers. Every sum is a margin of one table, so they agree.
#[derive(Debug, Clone)]
pub struct Answers {
    /// Those that are not 0, few of a thousand, by their number.
    cells: BTreeMap<usize, u64>,
    tagged: Vec<u64>,
    times: Vec<Histogram>,
    /// Answers by the number of their slot.
    slots: Vec<(u64, u64)>,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            cells: BTreeMap::new(),
            tagged: vec![0; Tag::COUNT],
            times: vec![Histogram::default(); Source::ALL.len()],
            slots: Vec::new(),
        }
    }
}

impl Answers {
    /// Adds what came to one worker in one way.
    pub(super) fn add_way(&mut self, way: usize, cells: &[u64]) {
        for (at, count) in cells.iter().enumerate().filter(|(_, count)| **count > 0) {
            *self.cells.entry(way * CELLS_OF_A_WAY + at).or_default() += count;
        }
    }

    /// Adds the rest of what one worker has counted.
    pub(super) fn add(&mut self, tagged: &[u64], times: &[u64], slots: &[u64]) {
        self.tagged.iter_mut().zip(tagged).for_each(|(sum, cell)| *sum += cell);
        for (sum, times) in self.times.iter_mut().zip(times.chunks_exact(TIMES_STRIDE)) {
            let (buckets, rest) = times.split_at(BUCKETS);
            let mut histogram = Histogram::default();
            histogram.buckets.copy_from_slice(buckets);
            (histogram.sum_ns, histogram.max_ns) = (rest[0], rest[1]);
            sum.merge(&histogram);
        }
        self.slots.extend(slots.chunks_exact(2).map(|slot| (slot[0], slot[1])));
    }

    /// Counts all answers.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.cells.values().sum()
    }

    /// Counts them by protocol, every protocol named.
    #[must_use]
    pub fn by_protocol(&self) -> Vec<(&'static str, u64)> {
        self.margin(PROTOCOL_NAMES.iter().copied(), protocol_of)
    }

    /// Counts them by type, every class named.
    #[must_use]
    pub fn by_type(&self) -> Vec<(&'static str, u64)> {
        self.margin(type_names(), type_of)
    }

    /// Counts them by response code, every class named.
    #[must_use]
    pub fn by_rcode(&self) -> Vec<(&'static str, u64)> {
        self.margin(rcode_names(), rcode_of)
    }

    /// Counts them by source, every source named.
    #[must_use]
    pub fn by_source(&self) -> Vec<(&'static str, u64)> {
        self.margin(Source::ALL.iter().map(|source| source.as_str()), source_of)
    }

    /// Counts them by protocol, family of the client's address, and type: what was asked.
    #[must_use]
    pub fn asked(&self) -> Vec<([&'static str; 3], u64)> {
        let types: Vec<_> = type_names().collect();
        let asked = self.pairs(&WAY_NAMES, &types, |at| (way_of(at), type_of(at)));
        asked.into_iter().map(|([protocol, family], rtype, count)| ([protocol, family, rtype], count)).collect()
    }

    /// Counts them by response code and source: what was answered.
    #[must_use]
    pub fn answered(&self) -> Vec<([&'static str; 2], u64)> {
        let (rcodes, sources): (Vec<_>, Vec<_>) = (rcode_names().collect(), Source::ALL.map(Source::as_str).into());
        let answered = self.pairs(&rcodes, &sources, |at| (rcode_of(at), source_of(at)));
        answered.into_iter().map(|(rcode, source, count)| ([rcode, source], count)).collect()
    }

    /// Counts those of a zone, a route or a view, whatever they came from; with the tag for nothing, those of no zone and
    /// no route.
    #[must_use]
    pub fn of_tag(&self, tag: Tag) -> u64 {
        self.tagged.get(usize::from(tag.number())).copied().unwrap_or(0)
    }

    /// Counts those of one source.
    #[must_use]
    pub fn of(&self, source: Source) -> u64 {
        self.cells.iter().filter(|(at, _)| source_of(**at) == source as usize).map(|(_, count)| count).sum()
    }

    /// Counts those of one origin.
    #[must_use]
    pub fn of_origin(&self, origin: Origin) -> u64 {
        if origin == Origin::Own {
            return self.of(Source::Policy) + self.of(Source::Error);
        }
        self.of(Source::new(origin, Rcode::NOERROR))
    }

    /// Returns how long those of a source took: from being read to being ready to be sent.
    #[must_use]
    pub fn latency(&self, source: Source) -> &Histogram {
        &self.times[source as usize]
    }

    /// Returns how long all took.
    #[must_use]
    pub fn latency_of_all(&self) -> Histogram {
        let mut all = Histogram::default();
        self.times.iter().for_each(|times| all.merge(times));
        all
    }

    /// Returns the answers a second over the last minute, or since `started` when that is less.
    #[must_use]
    pub fn per_second(&self, now: Tick, started: Tick) -> f64 {
        let slot = now.0 >> SLOT_SHIFT;
        let first = slot.saturating_sub(SLOTS_OF_A_MINUTE).max(started.0 >> SLOT_SHIFT);
        let begin = Tick((first << SLOT_SHIFT).max(started.0));
        let in_time = self.slots.iter().filter(|(number, _)| (first..=slot).contains(number));
        let answers: u64 = in_time.map(|(_, answers)| answers).sum();
        // Within the first second a rate would say what one question is worth.
        f64::from(u32::try_from(answers).unwrap_or(u32::MAX)) / now.since(begin).as_secs_f64().max(1.0)
    }

    fn margin(
        &self,
        names: impl Iterator<Item = &'static str>,
        class: impl Fn(usize) -> usize,
    ) -> Vec<(&'static str, u64)> {
        let mut sums: Vec<(&'static str, u64)> = names.map(|name| (name, 0)).collect();
        for (&at, count) in &self.cells {
            if let Some((_, sum)) = sums.get_mut(class(at)) {
                *sum += count;
            }
        }
        sums
    }

    fn pairs<A: Copy, B: Copy>(
        &self,
        first: &[A],
        second: &[B],
        class: impl Fn(usize) -> (usize, usize),
    ) -> Vec<(A, B, u64)> {
        let names = first.iter().flat_map(|one| second.iter().map(|other| (*one, *other, 0)));
        let mut sums: Vec<(A, B, u64)> = names.collect();
        for (&at, count) in &self.cells {
            let (one, other) = class(at);
            if let Some((.., sum)) = sums.get_mut(one * second.len() + other) {
                *sum += count;
            }
        }
        sums
    }
}

fn type_names() -> impl Iterator<Item = &'static str> {
    TYPES.iter().map(|(_, name)| *name).chain([OTHER])
}

fn rcode_names() -> impl Iterator<Item = &'static str> {
    RCODES.iter().map(|(_, name)| *name).chain([OTHER])
}

fn source_of(cell: usize) -> usize {
    cell % SOURCE_ROOM
}

fn rcode_of(cell: usize) -> usize {
    (cell >> RCODE_SHIFT) % RCODE_ROOM
}

fn type_of(cell: usize) -> usize {
    (cell >> TYPE_SHIFT) % TYPE_ROOM
}

fn way_of(cell: usize) -> usize {
    cell >> WAY_SHIFT
}

fn protocol_of(cell: usize) -> usize {
    way_of(cell) >> 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Stats;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    const NOW: Tick = Tick(1_000_000);

    fn sum(of: &[(&str, u64)]) -> u64 {
        of.iter().map(|(_, count)| count).sum()
    }

    #[test]
    fn every_cell_is_named_by_what_it_was_made_of() {
        for transport in [Transport::Udp, Transport::Tcp] {
            for qtype in [Some(Rtype::A), Some(Rtype::DS), Some(Rtype(999)), None] {
                for code in [0, 1, 5, 6, 16, 23] {
                    for origin in Origin::ALL {
                        let stats = Stats::default();
                        let cell = Cell::new(transport, qtype, Rcode(code), origin);
                        stats.ledger().publish_cells(&[cell], Duration::from_millis(3), NOW);
                        let answers = stats.answers();
                        let only = |of: Vec<(&'static str, u64)>| {
                            assert_eq!(sum(&of), 1);
                            of.into_iter().find(|(_, count)| *count == 1).unwrap().0
                        };
                        assert_eq!(only(answers.by_protocol()), transport.to_string());
                        let rtype = qtype.map(|qtype| qtype.to_string()).filter(|text| !text.starts_with("TYPE"));
                        assert_eq!(only(answers.by_type()), rtype.as_deref().unwrap_or("other"));
                        let known = matches!(code, 0..=5 | 16);
                        let expected = if known { Rcode(code).to_string() } else { "other".to_owned() };
                        assert_eq!(only(answers.by_rcode()), expected);
                        assert_eq!(answers.of_origin(origin), 1);
                        let source = Source::new(origin, Rcode(code));
                        assert_eq!(only(answers.by_source()), source.as_str());
                        assert_eq!((answers.of(source), answers.latency(source).count()), (1, 1));
                    }
                }
            }
        }
    }

    #[test]
    fn sums_agree_at_any_moment_while_workers_write() {
        let stats = Stats::default();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for seed in 0..2_u16 {
                let (ledger, done) = (stats.ledger(), &done);
                scope.spawn(move || {
                    let mut n = u64::from(seed);
                    while !done.load(Ordering::Relaxed) {
                        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        let pick = |shift: u32, of: u64| usize::try_from((n >> shift) % of).unwrap();
                        let cell = |k: usize| {
                            let transport = [Transport::Udp, Transport::Tcp][pick(40, 2)];
                            let code = [0, 2, 3, 5][pick(42, 4)];
                            Cell::new(transport, Some(Rtype::A), Rcode(code), Origin::ALL[(pick(44, 8) + k) % 8])
                        };
                        let cells: Vec<Cell> = (0..=pick(50, 63)).map(cell).collect();
                        ledger.publish_cells(&cells, Duration::from_nanos(n >> 30), NOW);
                    }
                });
            }
            let mut last = 0;
            for _ in 0..300 {
                let answers = stats.answers();
                let total = answers.total();
                let margins = [answers.by_protocol(), answers.by_type(), answers.by_rcode(), answers.by_source()];
                assert!(margins.iter().all(|margin| sum(margin) == total), "{total}: {margins:?}");
                assert_eq!(answers.latency_of_all().count(), total);
                assert!(total >= last);
                last = total;
            }
            done.store(true, Ordering::Relaxed);
            assert!(last > 0);
        });
    }

    #[test]
    fn the_rate_is_that_of_the_last_minute() {
        let stats = Stats::default();
        let ledger = stats.ledger();
        let cell = Cell::new(Transport::Udp, Some(Rtype::A), Rcode::NOERROR, Origin::Cache);
        let at = |second: u64| Tick(NOW.0 + second * 1000);
        for second in 0..300 {
            ledger.publish_cells(&[cell; 10], Duration::from_micros(30), at(second));
        }
        let rate = |now, started| stats.answers().per_second(now, started);
        assert!((rate(at(299), NOW) - 10.0).abs() < 0.5, "{}", rate(at(299), NOW));
        assert!((rate(at(329), NOW) - 5.0).abs() < 1.0, "{}", rate(at(329), NOW));
        assert!(rate(at(400), NOW) < 0.001);
        // A daemon that has just begun: since then.
        assert!((rate(at(299), at(290)) - 11.0).abs() < 8.0, "{}", rate(at(299), at(290)));
    }
}
