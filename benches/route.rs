//! A route match among a million names, and what they cost in memory.
//!
//! `cargo bench --bench route`

#![expect(clippy::print_stderr, reason = "the memory figures stand beside the times criterion prints")]

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use truename::config::{Config, GroupId, ListFile, ListFormat, Location, Route, Tristate, ViewId};
use truename::dns::Name;
use truename::pipeline::route::Routes;

#[path = "support/config.rs"]
mod support;

/// What issue and documentation promise: a million names.
const NAMES: usize = 1_000_000;

fn listed(n: usize) -> String {
    format!("host{n:07}.zone{:03}.example", n % 997)
}

/// Memory of this process, in octets.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or(0) * 1024
}

fn config(list: PathBuf) -> Config {
    let at = Location::file(Path::new("bench"));
    let lists = vec![ListFile { path: list, format: ListFormat::Domains, at: at.clone() }];
    let route = Route {
        name: "list".to_owned(),
        patterns: Vec::new(),
        exclude: Vec::new(),
        lists,
        views: None,
        upstream: GroupId(0),
        private: Tristate::Auto,
        on_failure: None,
        private_answers: None,
        guard: None,
        at,
    };
    Config { routes: vec![route], ..support::config() }
}

fn bench(c: &mut Criterion) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let text: String = (0..NAMES).map(|n| listed(n) + "\n").collect();
    file.write_all(text.as_bytes()).expect("a temporary file can be written");
    drop(text);
    let before = resident_bytes();
    let (routes, diagnostics) = Routes::load(&config(file.path().to_owned()), &|_| false, &[]);
    assert!(diagnostics.is_empty() && routes.patterns() == NAMES);
    let per_name = resident_bytes().saturating_sub(before) / NAMES;
    eprintln!("{NAMES} names: {per_name} octets each, {} MiB in all", (per_name * NAMES) >> 20);

    let wire = |text: String| Name::parse(&text).expect("a good name").as_wire().to_vec();
    // Scattered, so that the processor's caches do not hold what is looked for.
    let hits: Vec<_> = (0..4096).map(|n| wire(format!("www.{}", listed(n * 7919 % NAMES)))).collect();
    let misses: Vec<_> = (0..4096).map(|n| wire(format!("a.b.c.host{n}.zone{n}.invalid"))).collect();
    for (what, names) in [("hit", &hits), ("miss", &misses)] {
        let mut next = names.iter().cycle();
        c.bench_function(&format!("route/1M/{what}"), |b| {
            b.iter(|| {
                let name = next.next().expect("a cycle has no end");
                black_box(routes.find(ViewId(0), name).private)
            });
        });
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
