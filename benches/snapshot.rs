//! A million entries to a file and back, and how long answers wait meanwhile; memory per entry before and after.
//!
//! `cargo bench --bench snapshot`

#![expect(clippy::print_stderr, reason = "a few figures, not a distribution")]

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use truename::clock::Tick;
use truename::config::{PlaceId, ViewId};
use truename::dns::encode::{ClientShape, MessageBuilder};
use truename::dns::wire::Section;
use truename::dns::{Answer, Name, Origin, Rcode, Record, Rtype, Tag};
use truename::pipeline::cache::persist::{self, Moment};
use truename::pipeline::cache::{Cache, KeyBuf, Lifetime, Lookup, Serve, Terms};

#[path = "support/config.rs"]
mod support;

/// Names of 26 octets on the wire, as `benches/cache.rs` has.
const ENTRIES: usize = 1_000_000;
const NOW: Moment = Moment { tick: Tick(5000), unix_ms: 1_700_000_000_000 };

fn name(n: usize) -> Name {
    Name::parse(&format!("host{n:07}.example-z.org")).expect("a good name")
}

fn key(name: &Name) -> KeyBuf {
    KeyBuf::new(&Lookup {
        place: PlaceId(0),
        view: ViewId(0),
        qname: name.as_wire(),
        qtype: Rtype::A,
        dnssec_ok: false,
        checking_disabled: false,
    })
}

fn fill(cache: &Cache) {
    for n in 0..ENTRIES {
        let owner = name(n);
        let mut builder = MessageBuilder::response(&owner, Rtype::A, Rcode::NOERROR);
        let rdata = Box::new([192, 0, 2, 1]);
        builder.push(Section::Answer, &Record { owner: owner.clone(), rtype: Rtype::A, class: 1, ttl: 3600, rdata });
        let answer = Answer { message: builder.finish(), origin: Origin::Upstream, ede: None };
        let (lifetime, epoch) = (Lifetime::Positive(3600), cache.epoch());
        let terms = Terms { lifetime, fingerprint: 1, epoch, now: Tick(0), disputed: false, tag: Tag::NONE };
        assert!(cache.insert(&key(&owner), &answer, &terms).stored);
    }
}

/// Asks for names in turn until `done`; returns how long each answer took, in order of length.
fn ask_until(cache: &Cache, done: &AtomicBool) -> Vec<Duration> {
    let mut took = Vec::new();
    let mut out = Vec::with_capacity(4096);
    for n in (0..ENTRIES).cycle().step_by(7919) {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let qname = name(n);
        let key = key(&qname);
        let shape = ClientShape {
            id: 7,
            flags: 0x0100,
            qname: qname.as_wire(),
            edns: true,
            dnssec_ok: false,
            limit_bytes: 1232,
            our_payload_bytes: 1232,
        };
        out.clear();
        let serve = Serve { epoch: cache.epoch(), now: NOW.tick, extended_errors: true };
        let start = Instant::now();
        let _hit = cache.answer_into(&key, serve, &shape, &mut out);
        took.push(start.elapsed());
    }
    took.sort_unstable();
    took
}

/// Does some work while another thread asks, and tells what both took.
fn beside_answers(what: &str, cache: &Cache, work: impl FnOnce() -> u64) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask_until(cache, &done));
        let (start, cpu) = (Instant::now(), cpu_time());
        let entries = work();
        let (elapsed, cpu) = (start.elapsed(), cpu_time() - cpu);
        done.store(true, Ordering::Relaxed);
        let took = asking.join().expect("it only asks");
        let at = |per_mille: usize| took[(took.len() - 1) * per_mille / 1000];
        eprintln!(
            "{what}: {entries} entries in {elapsed:.2?}, {cpu:.2?} of CPU; {} answers beside it, p50 {:?}, p99.9 {:?}, worst {:?}",
            took.len(),
            at(500),
            at(999),
            at(1000)
        );
    });
}

/// Time this thread has had of a core: what is left of a figure when a machine is busy.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("it is always there");
    let micros = |time: nix::sys::time::TimeVal| u64::try_from(time.num_microseconds()).unwrap_or(0);
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

/// Memory of this process, in octets.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or(0) * 1024
}

fn main() {
    let mut policy = support::config().cache;
    policy.max_entries = ENTRIES * 2;
    policy.max_bytes = 1 << 30;
    let before = resident_bytes();
    let cache = Cache::new(&policy);
    fill(&cache);
    let grown = resident_bytes() - before;
    eprintln!("filled: {} octets an entry, counted as {}", grown / ENTRIES, cache.bytes() / ENTRIES);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("snapshot");
    beside_answers("nothing else", &cache, || {
        std::thread::sleep(Duration::from_secs(1));
        0
    });
    beside_answers("written", &cache, || {
        let file = File::create(&path).expect("a file");
        let entries = persist::write(&cache, NOW, BufWriter::with_capacity(128 << 10, &file)).expect("written");
        u64::from(entries)
    });
    let file_bytes = std::fs::metadata(&path).expect("a file").len();
    eprintln!("the file: {} octets an entry", usize::try_from(file_bytes).expect("small") / ENTRIES);
    drop(cache);
    let before = resident_bytes();
    let cache = Cache::new(&policy);
    let open = || BufReader::with_capacity(128 << 10, File::open(&path).expect("the file"));
    beside_answers("checked and restored", &cache, || {
        persist::check(open()).expect("whole");
        let restored = persist::restore(&cache, &policy, open(), || NOW).expect("whole");
        assert_eq!(restored.left, 0);
        restored.taken
    });
    // What was freed before is used again, so this is a lower bound.
    eprintln!("restored: at least {} octets an entry", resident_bytes().saturating_sub(before) / ENTRIES);
}
