//! Reads `src/` and fails when a module knows what it may not (docs/architecture.md, "Who may import whom").
//!
//! The rules are data; `every_rule_can_fail` shows each of them catching a made-up source. Code in comments,
//! strings and `#[cfg(test)]` modules is not judged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Which folders of `src/` a folder may import, its own always included.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("dns", &[]),
    ("config", &["dns"]),
    ("clock", &["dns"]),
    ("stats", &["dns", "clock"]),
    ("upstream", &["dns", "config", "stats", "clock"]),
    ("pipeline", &["dns", "config", "stats", "clock", "upstream"]),
    ("listen", &["dns", "config", "stats", "clock", "pipeline"]),
    ("system", &["dns", "config", "stats", "clock"]),
    ("control", &["dns", "config", "stats", "clock"]),
    ("doctor", &["dns", "config", "stats", "clock", "system", "upstream"]),
    ("app", &["dns", "config", "stats", "clock", "listen", "pipeline", "upstream", "control", "system"]),
    (
        "cli",
        &["dns", "config", "stats", "clock", "listen", "pipeline", "upstream", "control", "system", "doctor", "app"],
    ),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// Words that may stand only in some places; a place is a path below `src/`, a folder when it ends in a slash.
const ONLY_IN: &[Only] = &[
    Only { words: &["hickory_"], places: &["pipeline/zone/", "upstream/"], rule: "3: hickory's types" },
    Only {
        words: &["nix::", "rustix::"],
        places: &["listen/", "upstream/transport/udp.rs", "control/", "system/", "clock.rs"],
        rule: "4: system calls",
    },
    Only {
        words: &["println!", "eprintln!", "print!(", "eprint!(", "io::stdout"],
        places: &["cli/render.rs"],
        rule: "4: printing",
    },
    // Logs go to stderr, and the one place that says so is where logging is started.
    Only { words: &["io::stderr"], places: &["cli/render.rs", "app/logging.rs"], rule: "4: printing" },
    Only {
        words: &["SystemTime::now", "std::time::Instant", "clock_gettime", "UNIX_EPOCH.elapsed"],
        places: &["clock.rs"],
        rule: "4: reading time",
    },
    Only { words: &["unsafe ", "unsafe{"], places: &[], rule: "5: unsafe" },
];

struct Only {
    words: &'static [&'static str],
    places: &'static [&'static str],
    rule: &'static str,
}

/// What a stage of the pipeline may not name (rule 2); `clock::Tick` is a value and allowed.
const NOT_IN_STAGES: &[&str] =
    &["tokio", "async ", ".await", "Clock", "UdpSocket", "TcpStream", "TcpListener", "std::thread"];

/// The one thing of tokio a stage may name, and where: hickory's zone lies behind tokio's lock, whose reading would seem
/// busy to a task that has used up its turn.
const LOCK_OF_HICKORY: (&str, &str) = ("pipeline/zone/engine.rs", "tokio::task::coop::unconstrained");

#[test]
fn the_sources_keep_the_rules() {
    let sources = read_sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")));
    assert!(sources.len() > 20, "found only {} sources", sources.len());
    assert_eq!(violations(&sources), Vec::<String>::new());
}

#[test]
fn every_rule_can_fail() {
    let cases: &[(&str, &str, &str)] = &[
        ("dns/name.rs", "use crate::config::Config;", "1: dns may not import config"),
        ("config/check.rs", "use crate::{dns::Name, stats::Stats};", "1: config may not import stats"),
        ("upstream/group.rs", "fn f() { crate::pipeline::route::x(); }", "1: upstream may not import pipeline"),
        ("listen/udp.rs", "use crate::upstream::Upstreams;", "1: listen may not import upstream"),
        ("main.rs", "use truename::app;", "1: main may not import app"),
        ("pipeline/view.rs", "use tokio::time::Instant;", "2: a stage names `tokio`"),
        ("pipeline/zone/engine.rs", "use tokio::sync::RwLock;", "2: a stage names `tokio`"),
        ("pipeline/zone/store.rs", "fn f() { tokio::task::coop::unconstrained(g()) }", "2: a stage names `tokio`"),
        ("pipeline/cache/store.rs", "fn f(c: &crate::clock::Clock) {}", "2: a stage names `Clock`"),
        ("pipeline/route.rs", "pub async fn find() {}", "2: a stage names `async `"),
        ("pipeline/route.rs", "use super::cache::Key;", "2: stage route names stage cache"),
        ("pipeline/cache/key.rs", "use crate::pipeline::zone::Store;", "2: stage cache names stage zone"),
        ("pipeline/cache/key.rs", "use super::super::zone::Store;", "2: stage cache names stage zone"),
        ("pipeline/route.rs", "use hickory_proto::rr::Name;", "3: hickory's types"),
        ("app/mod.rs", "use nix::sys::signal;", "4: system calls"),
        ("cli/query.rs", "fn f() { println!(\"x\"); }", "4: printing"),
        ("app/mod.rs", "use std::time::Instant; fn f() { std::time::Instant::now(); }", "4: reading time"),
        ("dns/wire.rs", "fn f() { unsafe { g() } }", "5: unsafe"),
    ];
    for (path, text, expected) in cases {
        let found = violations(&BTreeMap::from([((*path).to_owned(), (*text).to_owned())]));
        assert!(found.iter().any(|line| line.contains(expected)), "{path}: {text}: {found:?}");
    }
}

#[test]
fn two_files_that_import_each_other_are_found() {
    let sources = BTreeMap::from([
        ("config/file.rs".to_owned(), "use super::check::Check;".to_owned()),
        ("config/check.rs".to_owned(), "use crate::config::file::File;".to_owned()),
    ]);
    assert_eq!(violations(&sources), ["1: config/check.rs and config/file.rs import each other"]);
}

#[test]
fn what_is_allowed_passes() {
    let sources = BTreeMap::from([
        ("pipeline/route.rs".to_owned(), "use crate::clock::Tick; // tokio\nuse crate::dns::Name;".to_owned()),
        ("pipeline/mod.rs".to_owned(), "use crate::upstream::Upstreams; async fn f() {}".to_owned()),
        ("pipeline/zone/load.rs".to_owned(), "use super::Zone; use hickory_proto::rr;".to_owned()),
        (
            "dns/name.rs".to_owned(),
            "const T: &str = \"tokio unsafe {\";\n#[cfg(test)]\nmod tests { use tokio; }".to_owned(),
        ),
        ("upstream/mod.rs".to_owned(), "use tokio::time::Instant;".to_owned()),
    ]);
    assert_eq!(violations(&sources), Vec::<String>::new());
}

fn read_sources(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("src/ can be listed") {
            let path = entry.expect("src/ can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") && !is_test_file(&path) {
                let name = path.strip_prefix(root).expect("it is below src/").to_string_lossy().into_owned();
                found.insert(name, std::fs::read_to_string(&path).expect("a source can be read"));
            }
        }
    }
    found
}

/// `tests.rs` and everything in a folder `tests/` below `src/` is a test module by convention.
fn is_test_file(path: &Path) -> bool {
    let below = path.to_string_lossy();
    let below = below.rsplit_once("/src/").map_or("", |(_, below)| below);
    below == "tests.rs" || below.ends_with("/tests.rs") || below.contains("/tests/")
}

fn violations(sources: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    let mut edges: BTreeSet<(String, String)> = BTreeSet::new();
    for (path, text) in sources {
        let code = code_only(text);
        check_words(path, &code, &mut found);
        let imports = imports(path, &code);
        check_imports(path, &imports, &mut found);
        check_stage(path, &code, &imports, &mut found);
        edges.extend(imports.iter().filter_map(|to| Some((path.clone(), file_of(to, sources)?))));
    }
    for (from, to) in &edges {
        // A folder's mod.rs declares its files and re-exports them, so it and they know each other.
        if from < to
            && !from.ends_with("mod.rs")
            && !to.ends_with("mod.rs")
            && edges.contains(&(to.clone(), from.clone()))
        {
            found.push(format!("1: {from} and {to} import each other"));
        }
    }
    found
}

fn check_words(path: &str, code: &str, found: &mut Vec<String>) {
    for only in ONLY_IN {
        let allowed = only.places.iter().any(|place| path == *place || place.ends_with('/') && path.starts_with(place));
        for word in only.words.iter().filter(|word| !allowed && has_word(code, word)) {
            found.push(format!("{}: {path} names `{word}`", only.rule));
        }
    }
}

fn check_imports(path: &str, imports: &[Vec<String>], found: &mut Vec<String>) {
    let folder = folder_of(path);
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == folder) else {
        found.push(format!("1: {path}: the folder {folder} is in no rule"));
        return;
    };
    let known = |name: &str| MAY_IMPORT.iter().any(|(folder, _)| *folder == name);
    let bad: BTreeSet<&str> = imports
        .iter()
        .filter_map(|import| import.first())
        .map(String::as_str)
        .filter(|to| known(to) && *to != folder && !allowed.contains(to))
        .collect();
    found.extend(bad.iter().map(|to| format!("1: {folder} may not import {to} ({path})")));
}

fn check_stage(path: &str, code: &str, imports: &[Vec<String>], found: &mut Vec<String>) {
    let Some(stage) = stage_of(path) else { return };
    let without_lock = code.replace(LOCK_OF_HICKORY.1, "");
    let code = if path == LOCK_OF_HICKORY.0 { &without_lock } else { code };
    for word in NOT_IN_STAGES.iter().filter(|word| has_word(code, word)) {
        found.push(format!("2: a stage names `{word}` ({path})"));
    }
    let others: BTreeSet<&str> = imports
        .iter()
        .filter(|import| import.len() > 1 && import[0] == "pipeline")
        .map(|import| import[1].as_str())
        .filter(|other| *other != stage && other.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect();
    found.extend(others.iter().map(|other| format!("2: stage {stage} names stage {other} ({path})")));
}

fn folder_of(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// The stage a file of `pipeline/` belongs to; `pipeline/mod.rs` and what it works by belong to none.
fn stage_of(path: &str) -> Option<&str> {
    let no_stage = ["mod.rs", "fast.rs", "state.rs", "keep.rs", "refresh.rs", "text.rs"];
    let rest = path.strip_prefix("pipeline/").filter(|rest| !no_stage.contains(rest) && !rest.starts_with("judge/"))?;
    Some(rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs"))
}

/// Returns the module paths that a file names through `crate::`, `truename::`, `super::`, from the crate's root.
fn imports(path: &str, code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (start, root) in [("crate::", 0), ("truename::", 0), ("super::", 1)] {
        for (at, _) in code.match_indices(start) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let mut rest = &code[at + start.len()..];
            let mut up = root;
            while let Some(further) = rest.strip_prefix("super::") {
                (rest, up) = (further, up + 1);
            }
            let base = if up == 0 { Vec::new() } else { above(path, up) };
            expand(&base, rest, &mut found);
        }
    }
    found
}

/// Returns the module `up` levels above a file's own.
fn above(path: &str, up: usize) -> Vec<String> {
    let mut module: Vec<String> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    module.pop_if(|last| last == "mod");
    module.truncate(module.len().saturating_sub(up));
    module
}

/// Follows one path, spreading `{a, b::c}`.
fn expand(base: &[String], rest: &str, found: &mut Vec<Vec<String>>) {
    let Some(group) = rest.strip_prefix('{') else {
        let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let mut path = base.to_vec();
        let after = &rest[word.len()..];
        if !word.is_empty() {
            path.push(word);
        }
        match after.strip_prefix("::") {
            Some(deeper) => expand(&path, deeper, found),
            None => found.push(path),
        }
        return;
    };
    let mut depth = 0_usize;
    let mut item_at = 0;
    for (at, c) in group.char_indices() {
        let end = depth == 0 && matches!(c, ',' | '}');
        if end && !group[item_at..at].trim().is_empty() {
            expand(base, group[item_at..at].trim(), found);
        }
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return,
            '}' => depth -= 1,
            ',' if end => item_at = at + 1,
            _ => {}
        }
    }
}

/// Returns the file that holds a module path, when it is one of ours.
fn file_of(import: &[String], sources: &BTreeMap<String, String>) -> Option<String> {
    (1..=import.len()).rev().find_map(|len| {
        let base = import[..len].join("/");
        [format!("{base}.rs"), format!("{base}/mod.rs")].into_iter().find(|file| sources.contains_key(file))
    })
}

/// Tells whether `word` stands in the code and is not the end of a longer identifier.
fn has_word(code: &str, word: &str) -> bool {
    let whole_end = word.ends_with(|c: char| c.is_alphanumeric());
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let after = code[at + word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
        !(before || (whole_end && after))
    })
}

/// Blanks comments, string and character literals, and `#[cfg(test)]` modules.
fn code_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(hashes) = raw_string_hashes(rest, &out) {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = hashes + 2;
            rest[open..].find(&close).map_or(rest.len(), |at| open + at + close.len())
        } else if c == '"' {
            literal_len(rest, '"')
        } else if c == '\'' && is_char_literal(rest) {
            literal_len(rest, '\'')
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        out.push(' ');
        rest = &rest[skipped..];
    }
    without_test_modules(&out)
}

fn raw_string_hashes(rest: &str, before: &str) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let in_word = before.ends_with(|c: char| c.is_alphanumeric() && c != 'b' || c == '_');
    (after[hashes..].starts_with('"') && !in_word).then_some(hashes)
}

fn is_char_literal(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    let first = chars.next();
    first == Some('\\') || chars.next() == Some('\'')
}

fn literal_len(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

fn without_test_modules(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        let item = &rest[at..];
        let open = item.find('{').unwrap_or(item.len());
        let end = item.find(';').unwrap_or(item.len());
        let skipped = if end < open { end + 1 } else { block_end(item, open) };
        rest = &item[skipped..];
    }
    out.push_str(rest);
    out
}

fn block_end(text: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return open + at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}
