//! What an answer from memory costs through the listeners: one worker, loopback, a window of questions always
//! outstanding. The answerer copies a prepared answer, so what is measured is sockets, parsing and fitting.
//!
//! `cargo bench --bench udp_hit`; the client runs in the same process on another thread, so the figures are wall
//! time per window, and on a busy machine the client may be what limits. `strace -fc` on the bench shows the
//! system calls per answer.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use truename::clock::{Clock, Tick};
use truename::config;
use truename::dns::encode::{self, ClientShape, MessageBuilder};
use truename::dns::wire::{ParsedQuery, Section};
use truename::dns::{Arrival, Decided, Name, Origin, Query, Rcode, Record, Rtype};
use truename::listen::{self, Answerer, FastPath, Worked};
use truename::stats::Stats;

/// Questions outstanding.
const WINDOW: u16 = 256;

struct Prepared {
    clock: Clock,
    message: Box<[u8]>,
}

impl FastPath for &Prepared {
    fn allows(&self, client: IpAddr) -> bool {
        client.is_loopback()
    }

    fn answer_cached(
        &mut self,
        parsed: &ParsedQuery<'_>,
        _arrival: &Arrival,
        _now: Tick,
        out: &mut Vec<u8>,
    ) -> Option<Decided> {
        let message = &parsed.message;
        let shape = ClientShape {
            id: message.id(),
            flags: message.flags(),
            qname: message.qname(),
            edns: parsed.edns.is_some(),
            dnssec_ok: parsed.dnssec_ok(),
            limit_bytes: usize::from(parsed.payload_bytes()),
            our_payload_bytes: 1232,
        };
        encode::fit(out, &self.message, &shape, None);
        Some(Origin::Cache.into())
    }
}

impl Answerer for Prepared {
    type FastPath<'a> = &'a Self;

    fn fast_path(&self) -> &Self {
        self
    }

    async fn answer(&self, _query: &Query) -> Worked {
        unreachable!("everything is answered from memory")
    }

    fn now(&self) -> Tick {
        self.clock.now()
    }

    fn udp_payload_bytes(&self) -> u16 {
        1232
    }
}

fn name() -> Name {
    Name::parse("www.example.org").expect("a constant name")
}

fn start() -> listen::Running {
    let config = config::Server {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        udp_payload_bytes: 1232,
        workers: 1,
        max_in_flight: 1,
        tcp_idle_timeout: Duration::from_secs(60),
        edns_errors: true,
        allow: Vec::new(),
    };
    let mut builder = MessageBuilder::response(&name(), Rtype::A, Rcode::NOERROR);
    let record = Record { owner: name(), rtype: Rtype::A, class: 1, ttl: 300, rdata: [192, 0, 2, 1].into() };
    builder.push(Section::Answer, &record);
    let answerer = Arc::new(Prepared { clock: Clock::default(), message: builder.finish() });
    listen::start(&config, answerer, Arc::new(Stats::default()), listen::Inherited::default(), &|_, _| None)
        .expect("loopback can be listened on")
}

fn question(id: u16) -> Vec<u8> {
    encode::upstream_query(&Query::local(name(), Rtype::A).question(), id, None)
}

fn hits(criterion: &mut Criterion) {
    let running = start();
    let address = running.addresses()[0].actual;
    let mut group = criterion.benchmark_group("hit");
    group.throughput(Throughput::Elements(u64::from(WINDOW)));

    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(address).expect("loopback");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let questions: Vec<_> = (0..WINDOW).map(question).collect();
    let mut buffer = [0; 2048];
    group.bench_function("udp, 256 outstanding", |bencher| {
        bencher.iter(|| {
            for question in &questions {
                socket.send(question).expect("loopback takes it");
            }
            for _ in &questions {
                socket.recv(&mut buffer).expect("an answer to every question");
            }
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("udp, one at a time", |bencher| {
        bencher.iter(|| {
            socket.send(&questions[0]).expect("loopback takes it");
            socket.recv(&mut buffer).expect("an answer to every question")
        });
    });

    group.throughput(Throughput::Elements(u64::from(WINDOW)));
    let mut stream = TcpStream::connect(address).expect("loopback");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let frames: Vec<u8> = questions
        .iter()
        .flat_map(|question| [&[0, u8::try_from(question.len()).unwrap_or(0)], &question[..]].concat())
        .collect();
    let answer_bytes = question(0).len() + 16;
    let mut answers = vec![0; usize::from(WINDOW) * (2 + answer_bytes)];
    group.bench_function("tcp, 256 in one write", |bencher| {
        bencher.iter(|| {
            stream.write_all(&frames).expect("loopback takes it");
            stream.read_exact(&mut answers).expect("an answer to every question");
        });
    });
    group.finish();
}

criterion_group!(benches, hits);
criterion_main!(benches);
