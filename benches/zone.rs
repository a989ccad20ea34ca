//! Stage 4 on a zone of 100,000 records: how long it takes to load, and to answer.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot set itself up has nothing to measure")]

use criterion::{Criterion, criterion_group, criterion_main};
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;
use truename::config::{
    Cache, Config, DefaultRoute, GroupId, Hosts, Location, Log, OnConflict, PrivateAnswers, Server, ViewId, Zone,
};
use truename::dns::{Name, Rtype};
use truename::pipeline::zone::{Context, Zones};

/// Records of the zone file.
const RECORDS: u32 = 100_000;

struct NoRoutes;

impl Context for NoRoutes {
    fn explicitly_routed(&self, _: &Name) -> bool {
        false
    }

    fn private_route(&self, _: &Name) -> bool {
        false
    }
}

fn zone(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big.zone");
    let mut text = String::from("$TTL 300\n*.wild IN A 192.0.2.1\none CNAME two\ntwo CNAME host-7\n");
    for number in 0..RECORDS {
        let [_, b, c, d] = number.to_be_bytes();
        writeln!(text, "host-{number} IN A 10.{b}.{c}.{d}").unwrap();
    }
    std::fs::write(&path, text).unwrap();
    let config = config(path);
    let (zones, problems) = Zones::load(&config, 0);
    assert!(problems.is_empty());

    let mut group = c.benchmark_group("zone");
    group.sample_size(10).bench_function("load_100k", |b| b.iter(|| Zones::load(black_box(&config), 0)));
    for (what, name, qtype) in [
        ("hit", "host-54321.lab.example", Rtype::A),
        ("nodata", "host-54321.lab.example", Rtype::AAAA),
        ("nxdomain", "nothing.lab.example", Rtype::A),
        ("wildcard", "any.wild.lab.example", Rtype::A),
        ("aliases", "one.lab.example", Rtype::A),
        ("not_ours", "www.public.example", Rtype::A),
    ] {
        let qname = Name::parse(name).unwrap();
        group.bench_function(what, |b| {
            b.iter(|| zones.answer(ViewId(0), black_box(&qname), qtype, false, &NoRoutes));
        });
    }
    let qname = Name::parse("host-54321.lab.example").unwrap();
    group.bench_function("fingerprint", |b| b.iter(|| zones.fingerprint(ViewId(0), black_box(&qname))));
    group.finish();
}

fn config(file: PathBuf) -> Config {
    let zero = Duration::ZERO;
    let at = Location::file(Path::new("bench.toml"));
    Config {
        server: Server {
            listen: Vec::new(),
            udp_payload_bytes: 1232,
            workers: 1,
            max_in_flight: 1,
            tcp_idle_timeout: zero,
            edns_errors: true,
            allow: Vec::new(),
        },
        groups: Vec::new(),
        default: DefaultRoute {
            upstream: GroupId(0),
            private_answers: PrivateAnswers::Auto,
            guard: truename::config::GuardMode::Off,
        },
        routes: Vec::new(),
        time_servers: Vec::new(),
        built_in: Vec::new(),
        requirements: Vec::new(),
        zones: vec![Zone {
            apex: Name::parse("lab.example").unwrap(),
            ttl: Duration::from_secs(60),
            records: Vec::new(),
            file: Some(file),
            reverse: true,
            fallthrough: false,
            views: None,
            file_at: at.clone(),
            key: "zone[0]".to_owned(),
            at,
        }],
        hosts: Hosts { files: Vec::new(), places: Vec::new(), watch: false, on_conflict: OnConflict::Warn },
        rewrites: Vec::new(),
        cache: Cache::NONE,
        guard: truename::config::Guard::NONE,
        views: Vec::new(),
        stats: truename::config::Stats::default(),
        log: Log::default(),
    }
}

criterion_group!(benches, zone);
criterion_main!(benches);
