//! What the guard's decision costs: every case of the committed sample, judged with all its evidence at hand.
//!
//! `cargo bench --bench guard`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use truename::pipeline::guard::evidence::{Evidence, Probe, Probes};
use truename::pipeline::guard::judge;
use truename::pipeline::guard::replay::Recorded;

const SAMPLE: &str = include_str!("../tests/data/guard/cases.jsonl");

fn bench(c: &mut Criterion) {
    let all = [
        Probe::AskTrusted,
        Probe::AskAnotherTrusted,
        Probe::ListenOn,
        Probe::AskIpv4,
        Probe::AskOthers,
        Probe::Prove,
        Probe::Decoy,
    ];
    let tried = all.into_iter().fold(Probes::default(), Probes::with);
    let cases: Vec<_> = SAMPLE
        .lines()
        .map(|line| Recorded::read(line).expect("the sample is sound"))
        .map(|case| Recorded { evidence: Evidence { tried, ..case.evidence.clone() }, ..case })
        .collect();
    let mut group = c.benchmark_group("guard");
    group.throughput(Throughput::Elements(cases.len() as u64));
    group.bench_function("judge/sample", |b| {
        b.iter(|| {
            for case in &cases {
                black_box(judge(black_box(&case.question), &case.policy, &case.evidence));
            }
        });
    });
    let mut next = cases.iter().cycle();
    group.throughput(Throughput::Elements(1));
    group.bench_function("judge/one", |b| {
        b.iter(|| {
            let case = next.next().expect("a cycle has no end");
            black_box(judge(black_box(&case.question), &case.policy, &case.evidence))
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
