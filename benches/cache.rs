//! A cache hit from key to bytes, and what a million entries cost in memory.
//!
//! `cargo bench --bench cache`

#![expect(clippy::print_stderr, reason = "the memory figures stand beside the times criterion prints")]

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use truename::clock::Tick;
use truename::config::{PlaceId, ViewId};
use truename::dns::encode::{ClientShape, MessageBuilder};
use truename::dns::wire::Section;
use truename::dns::{Answer, Name, Origin, Rcode, Record, Rtype, Tag};
use truename::pipeline::cache::{Cache, KeyBuf, Lifetime, Lookup, Serve, Terms};

#[path = "support/config.rs"]
mod support;

/// Names of 26 octets on the wire, as the comparison in the documentation uses.
const LARGE: usize = 1_000_000;

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

fn answer(owner: &Name) -> Answer {
    let mut builder = MessageBuilder::response(owner, Rtype::A, Rcode::NOERROR);
    let rdata = Box::new([192, 0, 2, 1]);
    builder.push(Section::Answer, &Record { owner: owner.clone(), rtype: Rtype::A, class: 1, ttl: 3600, rdata });
    Answer { message: builder.finish(), origin: Origin::Upstream, ede: None }
}

/// Memory of this process, in octets.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or(0) * 1024
}

fn bench(c: &mut Criterion) {
    for (what, entries) in [("1", 1), ("10k", 10_000), ("1M", LARGE)] {
        let mut policy = support::config().cache;
        // Room above the number, so that chance fills no shard.
        policy.max_entries = entries * 2;
        policy.max_bytes = 1 << 30;
        let before = resident_bytes();
        let cache = Cache::new(&policy);
        for n in 0..entries {
            let name = name(n);
            let (lifetime, epoch) = (Lifetime::Positive(3600), cache.epoch());
            let terms = Terms { lifetime, fingerprint: 1, epoch, now: Tick(0), disputed: false, tag: Tag::NONE };
            assert!(cache.insert(&key(&name), &answer(&name), &terms).stored);
        }
        let grown = resident_bytes().saturating_sub(before);
        eprintln!("{entries} entries: {} octets each, counted as {}", grown / entries, cache.bytes() / entries);
        let names: Vec<Name> = (0..entries.min(65_536)).map(|n| name(n * 7919 % entries)).collect();
        let mut next = names.iter().cycle();
        let mut out = Vec::with_capacity(4096);
        c.bench_function(&format!("cache/hit/{what}"), |b| {
            b.iter(|| {
                let qname = next.next().expect("a cycle has no end");
                out.clear();
                let shape = ClientShape {
                    id: 7,
                    flags: 0x0100,
                    qname: qname.as_wire(),
                    edns: true,
                    dnssec_ok: false,
                    limit_bytes: 1232,
                    our_payload_bytes: 1232,
                };
                let serve = Serve { epoch: cache.epoch(), now: Tick(5000), extended_errors: true };
                let hit = cache.answer_into(&key(qname), serve, &shape, &mut out);
                assert_eq!(hit.map(|hit| hit.origin), Some(Origin::Cache));
                black_box(out.len())
            });
        });
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
