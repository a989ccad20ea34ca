//! Every file of `tests/scenarios/` holds. `SCENARIO=part-of-a-name cargo test --test it scenarios` plays some of them.

use crate::support::scenario::{play, play_file};
use std::path::{Path, PathBuf};

/// What the suite has at least: a folder that was not found would hold as well.
const MIN_SCENARIOS: usize = 35;

fn all() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_scenario_holds() {
    let files = all();
    assert!(files.len() >= MIN_SCENARIOS, "{} scenarios", files.len());
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    let chosen = files.iter().filter(|path| path.to_string_lossy().contains(&wanted));
    let failures: Vec<String> = chosen.filter_map(|path| play_file(path).err()).collect();
    assert!(failures.is_empty(), "{} of {} failed\n\n{}", failures.len(), files.len(), failures.join("\n\n"));
}

/// A scenario whose one question is answered, with something at its end.
fn with(end: &str) -> Result<(), String> {
    let text = format!(
        r#"claim = "an address is answered"
config = """
[upstream.system]
servers = ["9.9.9.9"]
"""

[[upstream]]
address = "9.9.9.9"
delay = "20ms"
records = ["www.example.org. 300 A 93.184.216.34"]

[[step]]
ask = "www.example.org A"
{end}"#
    );
    play(Path::new("made-up.toml"), &text)
}

#[test]
fn what_holds_passes() {
    with(
        r#"rcode = "NOERROR"
answer = ["www.example.org. 300 A 93.184.216.34"]
authority = []
ede = "none"
source = "forward"
lacks = ["AA", "AD", "TC"]
within = "25ms"
not_before = "20ms"
asked = { "9.9.9.9" = 1 }
"#,
    )
    .unwrap();
}

#[test]
fn every_expectation_can_fail() {
    let cases = [
        (r#"rcode = "NXDOMAIN""#, "rcode"),
        (r#"answer = ["www.example.org. 299 A 93.184.216.34"]"#, "answer"),
        (r#"authority = ["example.org. 5 NS ns.example.org."]"#, "authority"),
        ("ede = 22", "ede"),
        (r#"ede_text = "late""#, "ede text"),
        (r#"source = "cache""#, "source"),
        (r#"has = ["AD"]"#, "AD"),
        (r#"within = "5ms""#, "time"),
        (r#"not_before = "2s""#, "time"),
        (r#"asked = { "9.9.9.9" = "2..3" }"#, "queries to 9.9.9.9"),
        (r#"asked = { "8.8.8.8" = 0 }"#, "queries to 9.9.9.9"),
    ];
    for (expectation, what) in cases {
        let failure = with(expectation).unwrap_err();
        assert!(failure.starts_with("made-up.toml:12:"), "{failure}");
        for part in ["step 1", what, "found", "expected", "ask over UDP"] {
            assert!(failure.contains(part), "{expectation}: no {part:?} in {failure}");
        }
    }
}

#[test]
fn a_leak_is_told() {
    let end = "rcode = \"NOERROR\"\n";
    with(end).unwrap();
    let text = r#"claim = "nothing leaks"
never_asked = ["9.9.9.9 example.org"]
config = """
[upstream.system]
servers = ["9.9.9.9"]
"""
[[step]]
ask = "www.example.org A"
rcode = "SERVFAIL"
"#;
    let failure = play(Path::new("leak.toml"), text).unwrap_err();
    assert!(failure.contains("9.9.9.9 was asked for www.example.org"), "{failure}");
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    let cases = [
        ("rcod = \"NOERROR\"", "unknown field `rcod`"),
        ("rcode = \"FINE\"", "response code"),
        ("answer = [\"www.example.org A\"]", "owner, TTL, type and data"),
        ("pass = \"3s\"\nrcode = \"NOERROR\"", "a step has one of"),
        ("over = \"tcp\"", "a step that asks expects something"),
        ("rcode = \"NOERROR\"\n[[step]]\npass = \"1s\"\nsource = \"error\"", "only a step that asks"),
        ("rcode = \"NOERROR\"\n[[step]]\npass = \"soon\"", "soon"),
        ("rcode = \"NOERROR\"\n[[step]]\nreload = \"[cach]\"", "the configuration"),
    ];
    for (end, part) in cases {
        let failure = with(end).unwrap_err();
        assert!(failure.contains(part), "{end}: {failure}");
        assert!(failure.contains("made-up.toml"), "{failure}");
    }
}
