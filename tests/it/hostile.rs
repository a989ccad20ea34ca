//! Every committed seed through the functions that the fuzz targets call (`fuzz/`), without a fuzzer.

#[path = "../../fuzz/src/lib.rs"]
#[allow(dead_code, unreachable_pub, reason = "the fuzz package compiles the same files and uses all of them")]
mod targets;

use std::path::PathBuf;
use targets::{TARGETS, seeds};

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
