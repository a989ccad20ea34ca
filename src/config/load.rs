//! Reads the main file and everything it includes.

use super::check::check;
use super::diagnostic::Diagnostic;
use super::document::{Entry, Table, Value};
use super::file::ROOT;
use super::keys::Kind;
use super::model::{Config, Location};
use super::paths::beside;
use super::read::{missing_keys, read};
use super::source::Source;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Octets of one file at most; 100,000 records written inline take about 7 MiB.
const MAX_FILE_BYTES: u64 = 32 << 20;
/// Octets of all files together: what stands beside it in memory while it is read is ten times as much.
const MAX_TOTAL_BYTES: u64 = 64 << 20;
/// Files at most, the included ones counted.
const MAX_FILES: usize = 1000;
/// How deep files may include files.
const MAX_INCLUDE_DEPTH: usize = 8;
/// Problems reported at most; who has more sees the first ones.
const MAX_DIAGNOSTICS: usize = 1000;

/// A file beside the main one that is read after it: what `truename up` was told of upstreams, until `truename down`.
pub const UP_FILE: &str = "up.toml";

/// What became of a configuration.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration; none when there is an error.
    pub config: Option<Config>,
    /// What could be understood of a configuration with errors: good for checking the files it names, and for nothing
    /// else. None when there is no error.
    pub partial: Option<Config>,
    /// Everything that is wrong, in the order of the files and their lines.
    pub diagnostics: Vec<Diagnostic>,
    /// The files read, the main one first.
    pub files: Vec<PathBuf>,
    /// Their texts, where somebody asked for them and they are not too long.
    pub texts: Vec<Text>,
}

/// A file as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// Where it stands.
    pub path: PathBuf,
    /// What stands in it.
    pub text: String,
}

/// Loads a file and what it includes; without a file, the defaults.
#[must_use]
pub fn load(path: Option<&Path>) -> Loaded {
    let Some(path) = path else { return load_text("default", "") };
    let mut loader = Loader::new(path);
    loader.load_main(path);
    loader.finish()
}

/// Loads a file and what it includes as if one of the files had this text, whether it is there or not.
#[must_use]
pub fn load_with(path: &Path, text: Text) -> Loaded {
    let mut loader = Loader { lent: Some(text), ..Loader::new(path) };
    loader.load_main(path);
    loader.finish()
}

/// Loads a file and what it includes, and returns all texts unless they are longer than `most` octets together.
#[must_use]
pub fn load_keeping(path: &Path, most: usize) -> Loaded {
    let mut loader = Loader { keeps: Some(most), ..Loader::new(path) };
    loader.load_main(path);
    loader.finish()
}

/// Loads texts that were kept, the main one first, as if they stood in their files; no file is read.
#[must_use]
pub fn load_kept(texts: Vec<Text>) -> Loaded {
    let main = texts.first().map_or_else(PathBuf::new, |text| text.path.clone());
    let mut loader = Loader { kept: Some(texts), ..Loader::new(&main) };
    loader.load_main(&main);
    loader.finish()
}

/// Loads a text as if it stood in a file of that name; files it includes are read.
#[must_use]
pub fn load_text(file_name: &str, text: &str) -> Loaded {
    let path = Path::new(file_name);
    let mut loader = Loader::new(path);
    loader.files.push(path.to_owned());
    loader.take_text(path, text.to_owned(), 0);
    loader.finish()
}

impl Default for Config {
    /// What an empty file gives.
    fn default() -> Self {
        load(None).config.expect("an empty file is a good configuration; a test loads it")
    }
}

/// Loads a text as if it stood in a file of that name, without reading any other file: for one that somebody else sent.
#[must_use]
pub fn load_text_alone(file_name: &str, text: &str) -> Loaded {
    let path = Path::new(file_name);
    let mut loader = Loader { may_include: false, ..Loader::new(path) };
    loader.files.push(path.to_owned());
    loader.take_text(path, text.to_owned(), 0);
    loader.finish()
}

struct Loader {
    /// Files that a text includes are read.
    may_include: bool,
    /// What stands in for files.
    kept: Option<Vec<Text>>,
    /// What stands in for one file.
    lent: Option<Text>,
    /// Texts are returned, so many octets of them from here on.
    keeps: Option<usize>,
    texts: Vec<Text>,
    root: Table,
    diagnostics: Vec<Diagnostic>,
    files: Vec<PathBuf>,
    /// Octets of the files read.
    bytes: u64,
    /// The same files without links and dots, to find one that is included twice.
    known: HashSet<PathBuf>,
    /// Some text was no TOML, so references may point to what was lost.
    is_broken: bool,
}

impl Loader {
    fn new(main: &Path) -> Self {
        Self {
            may_include: true,
            kept: None,
            lent: None,
            keeps: None,
            texts: Vec::new(),
            root: Table::empty(&ROOT, String::new(), Location::file(main)),
            diagnostics: Vec::new(),
            files: Vec::new(),
            bytes: 0,
            known: HashSet::new(),
            is_broken: false,
        }
    }

    fn finish(mut self) -> Loaded {
        missing_keys(&self.root, &mut self.diagnostics);
        let read = self.diagnostics.len();
        let config = check(&self.root, &mut self.diagnostics);
        if self.is_broken {
            // What a reference points to may stand in the text that was lost.
            let mut at = 0;
            self.diagnostics.retain(|problem| {
                at += 1;
                at <= read || !matches!(problem.code, "unknown-upstream" | "unknown-view")
            });
        }
        let files = &self.files;
        let order = |at: &Location| files.iter().position(|file| **file == *at.file).unwrap_or(files.len());
        self.diagnostics.sort_by_cached_key(|problem| (order(&problem.at), problem.at.line, problem.at.column));
        let is_good = !self.diagnostics.iter().any(Diagnostic::is_error);
        if self.diagnostics.len() > MAX_DIAGNOSTICS {
            let left = self.diagnostics.len() - MAX_DIAGNOSTICS;
            let last = self.diagnostics[MAX_DIAGNOSTICS].at.clone();
            self.diagnostics.truncate(MAX_DIAGNOSTICS);
            let problem = Diagnostic::error("too-many-problems", last, "a file with fewer problems");
            self.diagnostics.push(problem.found(format!("{left} more, from here on")));
        }
        let (config, partial) = if is_good { (Some(config), None) } else { (None, Some(config)) };
        // Not some of them without the others.
        let texts = if self.keeps.is_some() { self.texts } else { Vec::new() };
        Loaded { config, partial, diagnostics: self.diagnostics, files: self.files, texts }
    }

    /// Reads the main file, and the one beside it when there is one.
    fn load_main(&mut self, path: &Path) {
        self.load_file(path, None, 0);
        let beside = path.with_file_name(UP_FILE);
        let is_there = match &self.kept {
            Some(kept) => kept.iter().any(|kept| kept.path == beside),
            // One that cannot be looked at is there: reading it says why.
            None => self.lent.as_ref().is_some_and(|lent| lent.path == beside) || beside.try_exists().unwrap_or(true),
        };
        if is_there && beside != path {
            self.load_file(&beside, None, 1);
        }
    }

    /// Reads a file; `named_at` is where it was included.
    fn load_file(&mut self, path: &Path, named_at: Option<&Location>, depth: usize) {
        let at = named_at.cloned().unwrap_or_else(|| Location::file(path));
        let key = if named_at.is_some() { "include" } else { "" };
        let shown = format!("{:?}", path.display().to_string());
        let canonical = if self.kept.is_some() { None } else { path.canonicalize().ok() };
        let canonical = canonical.unwrap_or_else(|| path.to_owned());
        let (code, expected) = match () {
            () if self.files.len() >= MAX_FILES => ("too-many-files", format!("at most {MAX_FILES} files")),
            () if depth > MAX_INCLUDE_DEPTH => {
                ("include-too-deep", format!("files included at most {MAX_INCLUDE_DEPTH} deep"))
            }
            () if self.known.contains(&canonical) => ("included-twice", "each file once".to_owned()),
            () => {
                self.known.insert(canonical);
                self.files.push(path.to_owned());
                match self.text_of(path, named_at.is_some()) {
                    Ok((text, _)) if self.bytes + text.len() as u64 > MAX_TOTAL_BYTES => {
                        self.is_broken = true;
                        let most = super::units::format_bytes(MAX_TOTAL_BYTES);
                        ("configuration-too-big", format!("at most {most} in all files together"))
                    }
                    Ok((text, bad)) => {
                        self.is_broken |= bad.is_some();
                        self.diagnostics.extend(bad);
                        self.keep(path, &text);
                        return self.take_text(path, text, depth);
                    }
                    Err(Unreadable { code, at: place, found, expected }) => {
                        let at = place.unwrap_or(at);
                        let problem = Diagnostic::error(code, at, expected).key(key).found(found);
                        self.diagnostics.push(problem);
                        self.is_broken = true;
                        return;
                    }
                }
            }
        };
        self.diagnostics.push(Diagnostic::error(code, at, expected).key(key).found(shown));
    }

    fn text_of(&mut self, path: &Path, is_included: bool) -> Result<(String, Option<Diagnostic>), Unreadable> {
        if let Some(lent) = self.lent.take_if(|lent| lent.path == path) {
            return Ok((lent.text, None));
        }
        let Some(kept) = &mut self.kept else { return read_text(path, is_included) };
        let text = kept.iter_mut().find(|kept| kept.path == path).map(|kept| std::mem::take(&mut kept.text));
        text.map(|text| (text, None)).ok_or_else(|| Unreadable {
            code: "unreadable-file",
            at: None,
            found: format!("{}: it was not kept", path.display()),
            expected: "a file that can be read".to_owned(),
        })
    }

    fn keep(&mut self, path: &Path, text: &str) {
        self.keeps = self.keeps.and_then(|left| left.checked_sub(text.len()));
        if self.keeps.is_some() {
            self.texts.push(Text { path: path.to_owned(), text: text.to_owned() });
        }
    }

    fn take_text(&mut self, path: &Path, text: String, depth: usize) {
        self.bytes += text.len() as u64;
        let source = Source::new(path, text);
        let mut file = read(&source, &ROOT);
        drop(source);
        self.diagnostics.append(&mut file.diagnostics);
        self.is_broken |= file.is_broken;
        let includes = if self.may_include { file.table.items("include").to_vec() } else { Vec::new() };
        // These two are about one file and not merged.
        file.table.entries.retain(|entry| entry.name != "version" && entry.name != "include");
        merge(&mut self.root, file.table, &mut self.diagnostics);
        for (index, include) in includes.iter().enumerate() {
            let Some(pattern) = include.as_text() else { continue };
            for path in self.expand(pattern, index, &include.at) {
                self.load_file(&path, Some(&include.at), depth + 1);
            }
        }
    }

    /// Returns the files that an `include` means, in name order.
    fn expand(&mut self, pattern: &str, index: usize, at: &Location) -> Vec<PathBuf> {
        let full = beside(at, pattern);
        let (Some(folder), Some(last)) = (full.parent(), full.file_name().and_then(|name| name.to_str())) else {
            return vec![full];
        };
        if !last.contains(['*', '?']) {
            return vec![full];
        }
        if let Some(kept) = &self.kept {
            // They are in the order in which they were read.
            let fits = |name: &str| matches_glob(last, name);
            let is_meant = |path: &&Path| {
                path.parent() == Some(folder) && path.file_name().is_some_and(|name| name.to_str().is_some_and(fits))
            };
            return kept.iter().map(|kept| kept.path.as_path()).filter(is_meant).map(Path::to_owned).collect();
        }
        let entries = match std::fs::read_dir(if folder.as_os_str().is_empty() { Path::new(".") } else { folder }) {
            Ok(entries) => entries,
            // A folder that is not there holds no files, as an empty one does.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                let problem = Diagnostic::error("unreadable-folder", at.clone(), "a folder that can be read");
                let found = format!("{}: {error}", folder.display());
                self.diagnostics.push(problem.key(format!("include[{index}]")).found(found));
                return Vec::new();
            }
        };
        let matching = |name: &String| (!name.starts_with('.') || last.starts_with('.')) && matches_glob(last, name);
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(matching);
        // One more than can be loaded, so that the bound is reported.
        let mut names: Vec<String> = names.take(MAX_FILES + 1).collect();
        names.sort();
        names.into_iter().map(|name| folder.join(name)).collect()
    }
}

/// Tells whether a file name fits a pattern of `*` and `?`.
fn matches_glob(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on when a guess was wrong: after the last `*`, one character of the name further.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        if p < pattern.len() && pattern[p] == '*' {
            retry = Some((p + 1, n));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == name[n]) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((after, taken)) = retry {
            retry = Some((after, taken + 1));
            (p, n) = (after, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

struct Unreadable {
    code: &'static str,
    /// Where in the file, when it could be read that far.
    at: Option<Location>,
    found: String,
    expected: String,
}

/// Reads a file. What is not UTF-8 is replaced and its first octet reported, so that other mistakes show, too.
fn read_text(path: &Path, is_included: bool) -> Result<(String, Option<Diagnostic>), Unreadable> {
    let unreadable = |error: std::io::Error| Unreadable {
        code: "unreadable-file",
        at: None,
        found: format!("{}: {error}", path.display()),
        expected: "a file that can be read".to_owned(),
    };
    // The main file may be a pipe that somebody writes to; opening an included one could wait for ever.
    if is_included && std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        return Err(unreadable(std::io::Error::other("not a regular file")));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Unreadable {
            code: "file-too-big",
            at: Some(Location::file(path)),
            found: "more".to_owned(),
            expected: format!("at most {}", super::units::format_bytes(MAX_FILE_BYTES)),
        });
    }
    String::from_utf8(bytes).map(|text| (text, None)).or_else(|error| {
        let good = error.utf8_error().valid_up_to();
        let bad = error.as_bytes().get(good).copied().unwrap_or_default();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let at = Source::new(path, text.clone()).locate(good);
        let problem = Diagnostic::error("not-utf8", at, "text in UTF-8").found(format!("byte 0x{bad:02x}"));
        Ok((text, Some(problem.hint("save the file as UTF-8"))))
    })
}

/// Puts a file's keys into those of the files before it.
fn merge(into: &mut Table, from: Table, diagnostics: &mut Vec<Diagnostic>) {
    for entry in from.entries {
        let path = into.path_of(&entry.name);
        let appends = into.def.key(&entry.name).is_some_and(|key| matches!(key.kind, Kind::Tables(_)));
        let Some(existing) = into.entries.iter_mut().find(|existing| existing.name == entry.name) else {
            into.entries.push(entry);
            continue;
        };
        match (&mut existing.node.value, entry.node.value) {
            (Value::Table(old), Value::Table(new)) => {
                // A table that only stood in for an absent one takes the place of the first that is written.
                if old.entries.iter().all(|entry| matches!(entry.node.value, Value::Table(_))) {
                    old.at = new.at.clone();
                    existing.key_at = entry.key_at;
                }
                merge(old, new, diagnostics);
            }
            (Value::List(old), Value::List(mut new)) if appends => old.append(&mut new),
            // What was wrong is reported, and nothing is lost by keeping the other.
            (Value::Table(_), Value::Bad) => {}
            (Value::List(_), Value::Bad) if appends => {}
            _ => diagnostics.push(set_twice(&path, existing, entry.key_at)),
        }
    }
}

fn set_twice(path: &str, first: &Entry, at: Location) -> Diagnostic {
    Diagnostic::error("duplicate-key", at, "a key that no other file sets")
        .key(path)
        .found("a second value")
        .hint(format!("it is set first at {}", first.key_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir, write};

    fn codes(loaded: &Loaded) -> Vec<&'static str> {
        loaded.diagnostics.iter().map(|problem| problem.code).collect()
    }

    #[test]
    fn an_empty_file_gives_the_documented_defaults() {
        let config = Config::default();
        assert_eq!(config.server.listen, ["127.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
        assert_eq!(config.server.tcp_idle_timeout.as_secs(), 10);
        assert_eq!(config.server.max_in_flight, 4096);
        assert!((1..=4).contains(&config.server.workers));
        assert_eq!(config.cache.max_entries, 50_000);
        assert_eq!(config.cache.max_bytes, 32 << 20);
        assert_eq!(config.cache.max_ttl.as_secs(), 86_400);
        assert_eq!(config.cache.negative_ttl_max.as_secs(), 300);
        let system = config.group(config.default.upstream);
        assert_eq!((system.name.as_str(), system.auto, system.timeout.as_millis()), ("system", true, 4500));
        assert_eq!(config.hosts.files, [Path::new("/etc/hosts")]);
    }

    #[test]
    fn included_files_are_merged_in_name_order() {
        let folder = tempfile::tempdir().unwrap();
        create_dir(folder.path().join("conf.d")).unwrap();
        let main = folder.path().join("main.toml");
        write(&main, "include = [\"conf.d/*.toml\"]\n[upstream.a]\nservers = [\"10.0.0.1\"]\n").unwrap();
        let route = |name: &str| {
            format!("version = 1\n[[route]]\nname = \"{name}\"\nnames = [\"{name}.example\"]\nupstream = \"a\"\n")
        };
        write(folder.path().join("conf.d/20.toml"), route("second")).unwrap();
        write(folder.path().join("conf.d/10.toml"), route("first") + "[upstream.a]\ntimeout = \"1s\"\n").unwrap();
        write(folder.path().join("conf.d/.hidden.toml"), "nonsense").unwrap();
        write(folder.path().join("conf.d/other.conf"), "nonsense").unwrap();
        let loaded = load(Some(&main));
        assert_eq!(loaded.diagnostics, []);
        let config = loaded.config.unwrap();
        assert_eq!(config.routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>(), ["first", "second"]);
        assert_eq!(config.groups.iter().find(|group| group.name == "a").unwrap().timeout.as_millis(), 1000);
        assert_eq!(loaded.files.len(), 3);
    }

    #[test]
    fn what_was_kept_loads_as_its_files_did_whatever_has_become_of_them() {
        let folder = tempfile::tempdir().unwrap();
        create_dir(folder.path().join("conf.d")).unwrap();
        let main = folder.path().join("main.toml");
        write(&main, "include = [\"conf.d/*.toml\", \"more.toml\"]\n[cache]\nmax_entries = 7\n").unwrap();
        for (name, zone) in [("conf.d/20.toml", "b"), ("conf.d/10.toml", "a"), ("more.toml", "c")] {
            write(folder.path().join(name), format!("[[zone]]\nname = \"{zone}.example\"\n")).unwrap();
        }
        let of_files = ["main.toml", "more.toml", "conf.d/10.toml", "conf.d/20.toml"];
        let octets = of_files.iter().map(|name| std::fs::read(folder.path().join(name)).unwrap().len()).sum::<usize>();
        assert_eq!(load(Some(&main)).texts, []);
        assert_eq!(load_keeping(&main, octets - 1).texts, []);
        let texts = load_keeping(&main, octets).texts;
        assert_eq!(texts.iter().map(|text| text.text.len()).sum::<usize>(), octets);
        write(&main, "nonsense").unwrap();
        std::fs::remove_dir_all(folder.path().join("conf.d")).unwrap();
        let loaded = load_kept(texts.clone());
        assert_eq!(loaded.diagnostics, []);
        let config = loaded.config.unwrap();
        assert_eq!(config.cache.max_entries, 7);
        let zones: Vec<String> = config.zones.iter().map(|zone| zone.apex.to_string()).collect();
        assert_eq!(zones, ["a.example.", "b.example.", "c.example."]);
        assert_eq!(loaded.files.len(), 4);
        // One that is not among them is missed, as a file is.
        assert_eq!(codes(&load_kept(texts[..3].to_vec())), ["unreadable-file"]);
        assert_eq!(codes(&load_kept(Vec::new())), ["unreadable-file"]);
    }

    #[test]
    fn a_file_that_up_wrote_is_read_after_the_main_one_or_tried_before_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let (main, beside) = (folder.path().join("main.toml"), folder.path().join(UP_FILE));
        write(&main, "[upstream.a]\nservers = [\"10.0.0.1\"]\n").unwrap();
        let upstream = |loaded: Loaded| {
            let config = loaded.config.unwrap();
            (config.group(config.default.upstream).name.clone(), loaded.files.len())
        };
        let text = |text: &str| Text { path: beside.clone(), text: text.to_owned() };
        assert_eq!(upstream(load(Some(&main))), ("system".to_owned(), 1));
        assert_eq!(upstream(load_with(&main, text("[default]\nupstream = \"a\"\n"))), ("a".to_owned(), 2));
        assert_eq!(codes(&load_with(&main, text("[upstream.a]\nservers = [\"10.0.0.2\"]\n"))), ["duplicate-key"]);
        write(&beside, "[default]\nupstream = \"a\"\n").unwrap();
        assert_eq!(upstream(load(Some(&main))), ("a".to_owned(), 2));
        assert_eq!(upstream(load_with(&main, text(""))), ("system".to_owned(), 2));
        assert_eq!(upstream(load_kept(load_keeping(&main, 999).texts)), ("a".to_owned(), 2));
        // It is a configuration itself for whoever names it.
        assert_eq!(load(Some(&beside)).files.len(), 1);
    }

    #[test]
    fn a_key_set_in_two_files_names_both_places() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("main.toml");
        write(&main, "include = [\"more.toml\"]\n[cache]\nmax_entries = 1\n").unwrap();
        write(folder.path().join("more.toml"), "\n[cache]\n  max_entries = 2\nmin_ttl = \"1s\"\n").unwrap();
        let loaded = load(Some(&main));
        assert_eq!(codes(&loaded), ["duplicate-key"]);
        let problem = &loaded.diagnostics[0];
        assert!(problem.at.to_string().ends_with("more.toml:3:3"), "{}", problem.at);
        assert!(problem.hint.as_ref().unwrap().ends_with("main.toml:3:1"), "{problem:?}");
        assert_eq!(problem.key, "cache.max_entries");
    }

    #[test]
    fn includes_that_go_round_or_nowhere_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("main.toml");
        write(&main, "include = [\"./main.toml\", \"gone.toml\", \"none/*.toml\"]\n").unwrap();
        let loaded = load(Some(&main));
        assert_eq!(codes(&loaded), ["included-twice", "unreadable-file"]);
        assert!(loaded.config.is_none());
    }

    #[test]
    fn includes_end_at_their_depth() {
        let folder = tempfile::tempdir().unwrap();
        for depth in 0..MAX_INCLUDE_DEPTH + 5 {
            write(folder.path().join(format!("{depth}.toml")), format!("include = [\"{}.toml\"]", depth + 1)).unwrap();
        }
        let loaded = load(Some(&folder.path().join("0.toml")));
        assert_eq!(codes(&loaded), ["include-too-deep"]);
        assert_eq!(loaded.files.len(), MAX_INCLUDE_DEPTH + 1);
    }

    #[test]
    fn files_are_bounded_one_by_one_in_number_and_together() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("main.toml");
        // A hole: no blocks are written.
        File::create(folder.path().join("big.toml")).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
        write(&main, "include = [\"big.toml\"]\n").unwrap();
        assert_eq!(codes(&load(Some(&main))), ["file-too-big"]);
        write(folder.path().join("small.toml"), "# 20 octets of text.").unwrap();
        write(&main, "include = [\"small.toml\"]\n").unwrap();
        for (left, problems) in [(100, &[][..]), (40, &["configuration-too-big"])] {
            let mut loader = Loader::new(&main);
            loader.bytes = MAX_TOTAL_BYTES - left;
            loader.load_file(&main, None, 0);
            let loaded = loader.finish();
            assert_eq!((codes(&loaded), loaded.config.is_some()), (problems.to_vec(), problems.is_empty()));
        }
        for at in 0..MAX_FILES + 5 {
            write(folder.path().join(format!("{at}.part")), "").unwrap();
        }
        write(&main, "include = [\"*.part\"]\n").unwrap();
        let loaded = load(Some(&main));
        assert!(codes(&loaded).iter().all(|code| *code == "too-many-files") && !loaded.diagnostics.is_empty());
        assert_eq!(loaded.files.len(), MAX_FILES);
    }

    #[test]
    fn files_that_cannot_be_read_say_why() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.toml");
        assert_eq!(codes(&load(Some(&file))), ["unreadable-file"]);
        assert_eq!(codes(&load(Some(folder.path()))), ["unreadable-file"]);
        write(&file, b"version = 1\n# \xff\n").unwrap();
        let loaded = load(Some(&file));
        assert_eq!(codes(&loaded), ["not-utf8"]);
        assert_eq!((loaded.diagnostics[0].at.line, loaded.diagnostics[0].at.column), (2, 3));
    }

    #[test]
    fn paths_are_relative_to_the_file_they_stand_in() {
        let loaded = load_text(
            "/etc/truename/truename.toml",
            "[[zone]]\nname = \"a.example\"\nfile = \"zones/a\"\n[hosts]\nfiles = [\"h\"]\n",
        );
        let config = loaded.config.unwrap();
        assert_eq!(config.zones[0].file.as_deref(), Some(Path::new("/etc/truename/zones/a")));
        assert_eq!(config.hosts.files, [Path::new("/etc/truename/h")]);
    }

    #[test]
    fn a_hundred_thousand_records_load_quickly_even_on_one_line() {
        let record = r#"{ name = "host", type = "A", value = "10.0.0.1" }, "#;
        let text = format!("[[zone]]\nname = \"a.example\"\n# ä\nrecords = [{}]", record.repeat(100_000));
        let loaded = load_text("x.toml", &text);
        assert_eq!(loaded.config.unwrap().zones[0].records.len(), 100_000);
    }

    #[test]
    fn the_number_of_problems_is_bounded() {
        let loaded = load_text("x.toml", &(0..5000).map(|n| format!("x{n} = 1\n")).collect::<String>());
        assert_eq!(loaded.diagnostics.len(), MAX_DIAGNOSTICS + 1);
        assert_eq!(loaded.diagnostics.last().unwrap().found, "4000 more, from here on");
    }

    #[test]
    fn globs_fit_names() {
        for (pattern, name, fits) in [
            ("*.toml", "a.toml", true),
            ("*.toml", "a.tom", false),
            ("*", "", true),
            ("a?c*", "abcdef", true),
            ("a?c*", "ac", false),
            ("*a*b", "xaxbxab", true),
            ("*a*b", "xaxbxa", false),
        ] {
            assert_eq!(matches_glob(pattern, name), fits, "{pattern} {name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\[|\\]|\\{|\\}|=|\"|,|#|\\.|\n| |route|zone|server|upstream|x|listen|names|records|[0-9]|\\PC){0,60}") {
            drop(load_text("x.toml", &text));
        }
    }
}
