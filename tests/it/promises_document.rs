//! docs/promises.md names only tests and scenarios that exist, and at least one for every promise.

use std::collections::BTreeSet;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn every_promise_names_tests_that_exist() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("docs/promises.md")).unwrap();
    let mut known = BTreeSet::new();
    collect(&Path::new(ROOT).join("src"), &mut known);
    collect(&Path::new(ROOT).join("tests"), &mut known);
    assert!(known.len() > 200, "found only {} tests", known.len());
    let rows = rows(&text);
    assert!(rows.len() > 30, "found only {} promises", rows.len());
    assert_eq!(faults(&rows, &known), Vec::<String>::new());
}

#[test]
fn a_promise_without_a_test_is_found() {
    let text = "| promise | held by |\n| --- | --- |\n| a | `good`, `s.toml` |\n| b | soon |\n| c | `gone` |\n";
    let known = BTreeSet::from(["good".to_owned(), "s.toml".to_owned()]);
    let found = faults(&rows(text), &known);
    assert_eq!(found, ["\"b\" names no test", "\"c\" names `gone`, which does not exist"]);
}

/// Returns the first and the last cell of every row of every table.
fn rows(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter(|line| line.starts_with('|') && line.ends_with('|'));
    let cells = lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let bodies =
        cells.filter(|cells| cells.len() >= 2 && !cells[0].starts_with("---") && cells[cells.len() - 1] != "held by");
    bodies.map(|cells| (cells[0].to_owned(), cells[cells.len() - 1].to_owned())).collect()
}

fn faults(rows: &[(String, String)], known: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (promise, holders) in rows {
        let names: Vec<&str> = holders.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            found.push(format!("{promise:?} names no test"));
        }
        let missing = names.iter().filter(|name| !known.contains(**name));
        found.extend(missing.map(|name| format!("{promise:?} names `{name}`, which does not exist")));
    }
    found
}

/// Adds the name of every test function and of every scenario below a folder.
fn collect(folder: &Path, known: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, known);
        } else if name.ends_with(".toml") {
            known.insert(name);
        } else if name.ends_with(".rs") {
            known.extend(tests_of(&std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Returns the functions marked as tests.
fn tests_of(source: &str) -> Vec<String> {
    let mut marked = false;
    let mut found = Vec::new();
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| marked) {
            found.extend(rest.split_once('(').map(|(name, _)| name.to_owned()));
            marked = false;
        }
    }
    found
}
