//! `truename guard eval`: the figures of the committed sample, and what becomes of bad lines.

use crate::support::daemon::run;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What one line may have, `src/cli/guard.rs` `MAX_LINE_BYTES`.
const MAX_LINE_BYTES: usize = 1 << 20;
/// Mistakes that are told, `src/cli/guard.rs` `MAX_SLIPS`.
const MAX_SLIPS: usize = 100;

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/guard/cases.jsonl")
}

fn lines() -> Vec<Value> {
    let text = std::fs::read_to_string(sample()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn eval(more: &[&str]) -> std::process::Output {
    let path = sample();
    run(&[&["guard", "eval", path.to_str().unwrap()], more].concat())
}

#[test]
fn the_sample_is_judged_as_before() {
    let output = eval(&["--wire-only", "--strict"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap(), @r"
    81 cases, wire only, only a case's class counts as right

    forged answer served       0.0000  0 of 24
    right answer served        0.9753  79 of 81
    benign called manipulated  0.0000  0 of 24

    class              precision  recall  F1      cases
    consistent         0.7500     1.0000  0.8571  6
    benign_divergent   1.0000     0.8333  0.9091  24
    undecidable        0.2727     1.0000  0.4286  3
    upstream_failing   1.0000     1.0000  1.0000  15
    empty_vs_present   1.0000     1.0000  1.0000  6
    broken_chain       1.0000     1.0000  1.0000  3
    nxdomain_hijacked  1.0000     1.0000  1.0000  3
    poisoned           1.0000     0.7143  0.8333  21
    manipulated        1.0000     0.7500  0.8571  24
    ");
}

#[test]
fn every_verdict_on_the_sample_is_acceptable_or_leaves_it_open() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("verdicts.jsonl");
    for more in [&["--wire-only"][..], &[]] {
        let output = eval(&[&["--verdicts", out.to_str().unwrap()], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let told = std::fs::read_to_string(&out).unwrap();
        let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let cases = lines();
        assert_eq!(told.len(), cases.len());
        for (case, told) in cases.iter().zip(&told) {
            assert_eq!(case["id"], told["id"]);
            let acceptable = case["acceptable"].as_array().unwrap();
            let serve = told["serve"].as_str().unwrap();
            // Without what was invented beside the replies, some lies do not show; the trusted answer is served all the same.
            let open = !more.is_empty() && told["verdict"] == "undecidable" && serve == "trusted";
            assert!(open || acceptable.contains(&told["verdict"]), "{told}");
            assert!(["suspect", "trusted", "unverified", "nothing"].contains(&serve), "{told}");
        }
    }
}

#[test]
fn as_json_both_counts_are_there() {
    let output = eval(&["--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["cases"], lines().len());
    assert_eq!(told["scope"], "all evidence");
    assert_eq!(told["forged_served"], 0.0);
    for count in ["lenient", "strict"] {
        assert_eq!(told[count]["classes"].as_object().unwrap().len(), 8);
        assert_eq!(told[count]["manipulated"]["precision"], 1.0);
    }
}

#[test]
fn every_bad_line_is_told_and_the_others_are_judged() {
    let good = std::fs::read_to_string(sample()).unwrap();
    let (first, _) = good.split_once('\n').unwrap();
    let mut wrong: Value = serde_json::from_str(first).unwrap();
    wrong["class"] = "fine".into();
    wrong["qtype"] = "ADDRESS".into();
    wrong["serve"] = "nobody".into();
    wrong["upstreams"][0]["responses"] =
        serde_json::json!([{ "rcode": "MAYBE", "ans": [["a.test", "A", 1, "1.2.3"]] }]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cases.jsonl");
    let long = "x".repeat(MAX_LINE_BYTES + 10);
    std::fs::write(&path, format!("{first}\n{wrong}\n\nno JSON\n{long}\n{first}")).unwrap();
    let output = run(&["guard", "eval", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("2 cases"));
    let told = String::from_utf8(output.stderr).unwrap();
    for (line, found) in
        [(2, "fine"), (2, "ADDRESS"), (2, "nobody"), (2, "MAYBE"), (2, "1.2.3"), (4, "column"), (5, "octets")]
    {
        let place = format!("{}: line {line}: ", path.display());
        let mistakes = told.split("error: ").filter(|mistake| mistake.starts_with(&place));
        assert!(mistakes.into_iter().any(|mistake| mistake.contains(found)), "line {line}, {found}: {told}");
    }
    assert!(told.contains("3 lines were left out"), "{told}");
}

#[test]
fn of_many_mistakes_the_first_hundred_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cases.jsonl");
    std::fs::write(&path, "{}\n".repeat(MAX_SLIPS + 20)).unwrap();
    let output = run(&["guard", "eval", path.to_str().unwrap()]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told.matches("error: ").count(), MAX_SLIPS);
    assert!(told.contains("and 20 more mistakes"), "{told}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = run(&["guard", "eval", "/nowhere/cases.jsonl"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read /nowhere/cases.jsonl"));
}
