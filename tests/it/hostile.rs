//! Every committed seed through the functions that the fuzz targets call (`fuzz/`), without a fuzzer.

#[path = "../../fuzz/src/lib.rs"]
#[allow(dead_code, unreachable_pub, reason = "the fuzz package compiles the same files and uses all of them")]
mod targets;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use targets::{TARGETS, rig, seeds};
use truename::dns::wire::{Message, flag};
use truename::dns::{Name, QuestionKey, Rcode, Rtype, Transport, encode};
use truename::listen::Direct;
use truename::stats::Counter;
use truename::upstream::{SimulatedNet, SimulatedQuery, SimulatedReplies};

fn folder(target: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds")).join(target)
}

/// Runs a target with every seed, and with what a careless network makes of it.
fn replay(target: &str) {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).expect("it is in the list");
    let files: Vec<_> =
        std::fs::read_dir(folder(target)).expect("seeds").map(|file| file.expect("a file").path()).collect();
    assert!(files.len() >= 10, "{target} has {} seeds", files.len());
    for file in files {
        let bytes = std::fs::read(&file).expect("a seed");
        let ran = std::panic::catch_unwind(|| {
            run(&bytes);
            for end in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
                run(&bytes[..end]);
            }
        });
        assert!(ran.is_ok(), "{} breaks {target}", file.display());
    }
}

#[test]
fn query_seeds_hold() {
    replay("query");
}

#[test]
fn reply_seeds_hold() {
    replay("reply");
}

#[test]
fn configuration_seeds_hold() {
    replay("configuration");
}

#[test]
fn zone_seeds_hold() {
    replay("zone");
}

#[test]
fn hosts_seeds_hold() {
    replay("hosts");
}

#[test]
fn resolv_conf_seeds_hold() {
    replay("resolv_conf");
}

#[test]
fn snapshot_seeds_hold() {
    replay("snapshot");
}

#[test]
fn list_seeds_hold() {
    replay("list");
}

#[test]
fn control_seeds_hold() {
    replay("control");
}

/// An upstream at whose name `panic.example` the code that asks it panics; every other name has no address.
#[derive(Debug)]
struct Panicking;

impl SimulatedNet for Panicking {
    fn send(&self, query: SimulatedQuery, replies: SimulatedReplies) {
        let message = Message::parse(&query.bytes).expect("a query");
        assert!(!message.qname().to_ascii_lowercase().starts_with(b"\x05panic"), "a bug, met by one question");
        let mut reply = query.bytes;
        reply[2] |= 0x80;
        reply[3] |= 3;
        replies.message(Duration::ZERO, reply);
    }
}

#[test]
fn a_panic_in_the_pipeline_ends_that_question_and_those_that_wait_for_it() {
    let world = rig::World::new("[upstream.system]\nservers = [\"9.9.9.9\"]\n[hosts]\nfiles = []\n");
    let query = |name: &str| {
        let qname = Name::parse(name).unwrap();
        let question = QuestionKey { qname, qtype: Rtype::A, dnssec_ok: false, checking_disabled: false };
        encode::upstream_query(&question, 7, None)
    };
    let (client, local) = (SocketAddr::from(([127, 0, 0, 1], 4242)), SocketAddr::from(([127, 0, 0, 1], 53)));
    let (codes, panics) = rig::paused(async {
        let pipeline = world.pipeline(Arc::new(Panicking));
        let stats = Arc::clone(pipeline.stats());
        let listener = Direct::new(&world.config.server, pipeline, Arc::clone(&stats));
        let ask = async |name: &str| {
            let answer = listener.answer(&query(name), client, local, Transport::Udp).await.expect("an answer");
            let message = Message::parse(&answer).expect("it can be read");
            assert!(message.has(flag::QR) && message.id() == 7);
            message.rcode()
        };
        let (first, second, other) = tokio::join!(ask("panic.example"), ask("panic.example"), ask("fine.example"));
        let after = ask("other.example").await;
        ([first, second, other, after], stats.get(Counter::PanicsCaught))
    });
    assert_eq!(codes, [Rcode::SERVFAIL, Rcode::SERVFAIL, Rcode::NXDOMAIN, Rcode::NXDOMAIN]);
    assert_eq!(panics, 2, "the one that led, and the one that led after it");
}

#[test]
fn the_committed_seeds_are_what_the_generator_makes() {
    for (target, _) in TARGETS {
        let folder = folder(target);
        let made = seeds::of(target);
        if std::env::var_os("TRUENAME_WRITE").is_some() {
            std::fs::create_dir_all(&folder).expect("a folder");
            for (name, bytes) in &made {
                std::fs::write(folder.join(name), bytes).expect("a seed");
            }
        }
        for (name, bytes) in &made {
            let kept = std::fs::read(folder.join(name)).unwrap_or_default();
            assert!(kept == *bytes, "{target}/{name}: TRUENAME_WRITE=1 cargo test seeds");
        }
        for file in std::fs::read_dir(&folder).expect("a folder") {
            let name = file.expect("a file").file_name().into_string().expect("ASCII");
            let known = name.starts_with("found-") || made.iter().any(|(made, _)| *made == name);
            assert!(known, "{target}/{name} is made by nobody");
        }
    }
}
