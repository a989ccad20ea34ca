//! Documents name files, and every one of them exists; they show configurations, and every one of them is good.

use crate::support::daemon::run;
use std::path::{Path, PathBuf};

/// What a word must begin with to be a path of this repository.
const FOLDERS: &[&str] = &[".ci/", ".config/", "benches/", "config/", "docs/", "packaging/", "src/", "tests/"];
/// Names that stand for themselves at the root.
const ROOT_FILES: &[&str] =
    &["Cargo.toml", "Cargo.lock", "CHANGELOG.md", "README.md", "deny.toml", "clippy.toml", "rustfmt.toml", "justfile"];

#[test]
fn every_path_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = documents(root);
    assert!(documents.len() > 5, "{documents:?}");
    let mut named = 0;
    let mut missing = Vec::new();
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        for (line, found) in paths(&text) {
            named += 1;
            let beside = document.parent().unwrap_or(root).join(&found);
            if !exists(&root.join(&found)) && !exists(&beside) {
                missing.push(format!("{}:{line}: {found}", document.display()));
            }
        }
    }
    assert!(named > 20, "the reader finds only {named} paths");
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn every_configuration_in_the_readme_is_good() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let blocks: Vec<&str> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() > 1, "{blocks:?}");
    let folder = tempfile::tempdir().unwrap();
    for block in blocks {
        let path = folder.path().join("truename.toml");
        std::fs::write(&path, block).unwrap();
        let output = run(&["check", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{block}{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn the_reader_finds_links_and_code_and_leaves_addresses_alone() {
    let text = "See [x](docs/a.md#b), `src/dns/` and\n`tests/it/one.rs`, (benches/two.rs).\nhttps://example.org/src/no\n\
                `/etc/config/no` `target/release/no` [y](decisions/z.md) Cargo.toml's `cargo bench --bench cache`";
    let found: Vec<(usize, String)> = paths(text);
    let expected = [
        (1, "docs/a.md"),
        (1, "src/dns/"),
        (2, "tests/it/one.rs"),
        (2, "benches/two.rs"),
        (4, "decisions/z.md"),
        (4, "Cargo.toml"),
        (4, "benches/cache.rs"),
    ];
    for (line, path) in expected {
        assert!(found.contains(&(line, path.to_owned())), "{path} in {found:?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:?}");
}

fn documents(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.join("README.md"), root.join("CHANGELOG.md"), root.join("tests/scenarios/README.md")];
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// Returns the paths that a text names, each with its line: words that begin with one of our folders, targets of links
/// that are no addresses, benches by their name.
fn paths(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let mut add = |path: &str| found.push((at + 1, path.to_owned()));
        for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains("://") && !is_ours(path) {
                add(path);
            }
        }
        let is_edge = |c: char| c.is_whitespace() || "`()[]<>\"',;|".contains(c);
        let words: Vec<&str> = line.split(is_edge).filter(|word| !word.is_empty()).collect();
        for word in &words {
            let word = word.split('#').next().unwrap_or_default().trim_end_matches(['.', ':']);
            if is_ours(word) {
                add(word);
            }
        }
        for pair in words.windows(2).filter(|pair| pair[0] == "--bench") {
            add(&format!("benches/{}.rs", pair[1]));
        }
    }
    found
}

fn is_ours(word: &str) -> bool {
    FOLDERS.iter().any(|folder| word.starts_with(folder)) || ROOT_FILES.contains(&word)
}

/// Tells whether a path is there; `*`, `…` and capital letters stand for something.
fn exists(path: &Path) -> bool {
    let text = path.to_string_lossy();
    match text.find(['*', '…', '{']) {
        Some(at) => Path::new(&text[..at]).parent().is_some_and(Path::exists),
        None => path.exists(),
    }
}
