//! docs/limits.md says of every bound its number, what tells of it, and which tests drive it; here it is held to the
//! sources. And one bound that only a process has: its open files.

use crate::support::client::{Response, ask, connect, query, read_frame, write_frame};
use crate::support::daemon::{Daemon, forward_to};
use crate::support::eventually;
use crate::support::fake::{Fake, Habit};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use truename::dns::{Rcode, Rtype};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn the_table_is_what_the_sources_say() {
    let facts = Facts::read();
    assert!(facts.consts.len() > 100 && facts.tests.len() > 300, "the sources are not understood");
    let text = std::fs::read_to_string(Path::new(ROOT).join("docs/limits.md")).unwrap();
    let rows = rows(&text);
    assert!(rows.len() > 100, "found only {} rows", rows.len());
    assert_eq!(facts.faults(&rows), Vec::<String>::new());
}

#[test]
fn every_bound_is_in_the_table() {
    let facts = Facts::read();
    let text = std::fs::read_to_string(Path::new(ROOT).join("docs/limits.md")).unwrap();
    let is_bound = |name: &str| name.split('_').any(|word| word == "MAX");
    let bounds = facts.consts.keys().filter(|(_, name)| is_bound(name)).chain(&facts.times);
    let missing = bounds.filter(|(file, name)| !text.contains(&format!("`src/{file}` `{name}`")));
    assert_eq!(missing.map(|(file, name)| format!("src/{file} {name}")).collect::<Vec<_>>(), Vec::<String>::new());
    let counters = truename::stats::Counter::OF_BOUNDS.iter().map(|counter| counter.name());
    let silent: Vec<_> = counters.filter(|counter| !text.contains(&format!("`{counter}`"))).collect();
    assert_eq!(silent, Vec::<&str>::new());
}

#[test]
fn a_wrong_row_is_found() {
    let facts = Facts {
        consts: [
            (("a.rs", "MAX_A"), "4 << 10"),
            (("b.rs", "TIME"), "Duration::from_millis(1500)"),
            (("b.rs", "MORE"), "TIME.saturating_add(Duration::from_micros(20))"),
        ]
        .map(|((file, name), value)| ((file.to_owned(), name.to_owned()), value.to_owned()))
        .into(),
        times: BTreeSet::new(),
        tests: BTreeSet::from(["good".to_owned()]),
        words: BTreeSet::from(["some-code".to_owned()]),
        keys: BTreeMap::from([("key".to_owned(), "\"10s\"".to_owned())]),
    };
    let row = |line: &str| facts.faults(&rows(line));
    let good = "| x | 4 KiB | `src/a.rs` `MAX_A` | | refused | `some-code` | `good` |";
    assert_eq!(row(good), Vec::<String>::new());
    assert_eq!(row("| x | 10 s | | `key` | | | `good` |"), Vec::<String>::new());
    assert_eq!(row("| x | 1,500 ms | `src/b.rs` `TIME` |"), Vec::<String>::new());
    assert_eq!(row("| x | 1,500 ms | `src/b.rs` `TIME` | |"), Vec::<String>::new());
    assert_eq!(row("| x | 1,500 ms | `src/b.rs` `TIME` | `gone` |").len(), 1);
    assert_eq!(row("| x | 1500020 µs | `src/b.rs` `MORE` |"), Vec::<String>::new());
    for wrong in [
        "| x | 4 | `src/a.rs` `MAX_A` | | | | `good` |",
        "| x | 4 KiB | `src/b.rs` `MAX_A` | | | | `good` |",
        "| x | 4 KiB | `src/a.rs` `MAX_A` | | | | |",
        "| x | 4 KiB | `src/a.rs` `MAX_A` | | | | `gone` |",
        "| x | 4 KiB | `src/a.rs` `MAX_A` | | | `gone_total` | `good` |",
        "| x | 9 s | | `key` | | | `good` |",
        "| x | 9 s | | `gone` | | | `good` |",
        "| x | 15 s | `src/b.rs` `TIME` |",
    ] {
        assert_eq!(row(wrong).len(), 1, "{wrong}: {:?}", row(wrong));
    }
}

/// What the sources say.
struct Facts {
    /// The text of each constant, by its file below `src/` and its name.
    consts: BTreeMap<(String, String), String>,
    /// Those that are times, but for what tests have for themselves.
    times: BTreeSet<(String, String)>,
    /// Test functions and scenarios.
    tests: BTreeSet<String>,
    /// Every string of the sources that is one word: names of counters, codes of messages.
    words: BTreeSet<String>,
    /// The keys of the configuration with their defaults.
    keys: BTreeMap<String, String>,
}

impl Facts {
    fn read() -> Self {
        let (consts, times, tests, words, keys) = Default::default();
        let mut facts = Self { consts, times, tests, words, keys };
        facts.folder(&Path::new(ROOT).join("src"));
        facts.folder(&Path::new(ROOT).join("tests"));
        let manual = std::fs::read_to_string(Path::new(ROOT).join("config/truename.toml")).unwrap();
        for (key, value) in manual.lines().filter_map(|line| line.trim_start_matches('#').split_once(" = ")) {
            facts.keys.entry(key.to_owned()).or_insert(value.to_owned());
        }
        facts
    }

    fn folder(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                self.folder(&path);
            } else if name.ends_with(".toml") {
                self.tests.insert(name);
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let below = path.strip_prefix(Path::new(ROOT).join("src")).ok();
                self.source(below.map(|below| below.to_string_lossy().into_owned()), &text);
            }
        }
    }

    fn source(&mut self, file: Option<String>, text: &str) {
        let mut is_test = false;
        let mut is_for_tests = file.as_ref().is_some_and(|file| file.contains("tests"));
        for line in text.lines().map(str::trim) {
            is_for_tests |= line == "mod tests {";
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                is_test = true;
            } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
                self.tests.extend(rest.split_once('(').map(|(name, _)| name.to_owned()));
                is_test = false;
            }
            let Some(file) = &file else { continue };
            let words = line.split('"').skip(1).step_by(2);
            self.words.extend(words.filter(|word| !word.contains(' ')).map(str::to_owned));
            let constant =
                line.split_once("const ").filter(|(before, _)| before.is_empty() || before.starts_with("pub"));
            let Some((name, rest)) = constant.and_then(|(_, rest)| rest.split_once(": ")) else { continue };
            if let Some((kind, value)) = rest.split_once(" = ") {
                let (value, place) = (value.trim_end_matches(';').to_owned(), (file.clone(), name.to_owned()));
                self.times.extend((kind == "Duration" && !is_for_tests).then(|| place.clone()));
                self.consts.entry(place).or_insert(value);
            }
        }
    }

    fn faults(&self, rows: &[Vec<String>]) -> Vec<String> {
        rows.iter().flat_map(|row| self.faults_of(row)).collect()
    }

    fn faults_of(&self, row: &[String]) -> Vec<String> {
        let cell = |at: usize| row.get(at).map_or("", String::as_str);
        let (what, bound) = (cell(0), cell(1));
        let mut found = Vec::new();
        if let [path, name] = quoted(cell(2))[..] {
            let file = path.strip_prefix("src/").unwrap_or(path);
            match self.value(file, name) {
                None => found.push(format!("{what}: {path} has no constant {name} of a known form")),
                Some(value) if Some(value) != parse(bound) => {
                    found.push(format!("{what}: {bound} here, {value} in {path} {name}"));
                }
                Some(_) => {}
            }
        } else if let [key] = quoted(cell(3))[..] {
            match self.keys.get(key) {
                None => found.push(format!("{what}: there is no key {key}")),
                Some(default) if parse(default.trim_matches('"')) != parse(bound) => {
                    found.push(format!("{what}: {bound} here, {default} by default"));
                }
                Some(_) => {}
            }
        } else if !bound.is_empty() {
            found.push(format!("{what}: neither a constant nor a key"));
        }
        let told = quoted(cell(5));
        let unknown = told.iter().filter(|word| !self.words.contains(**word));
        found.extend(unknown.map(|word| format!("{what}: nothing is called {word}")));
        if row.len() > 3 {
            // Of a bound there is one at least; of a time that bounds nothing there may be one.
            let is_bound = row.len() > 4;
            let tests = quoted(cell(if is_bound { 6 } else { 3 }));
            if is_bound && tests.is_empty() {
                found.push(format!("{what}: no test"));
            }
            let gone = tests.iter().filter(|test| !self.tests.contains(**test));
            found.extend(gone.map(|test| format!("{what}: there is no test {test}")));
        }
        found
    }

    /// Works out a constant: a number, or microseconds for a time.
    fn value(&self, file: &str, name: &str) -> Option<u64> {
        let text = self.consts.get(&(file.to_owned(), name.to_owned()))?;
        let value = self.sum(file, text)?;
        let unit = match name.rsplit('_').next()? {
            "S" | "SECONDS" => 1_000_000,
            "MS" => 1000,
            _ => 1,
        };
        Some(value * unit)
    }

    fn sum(&self, file: &str, text: &str) -> Option<u64> {
        let text = text.trim();
        // The operators from the loosest to the tightest.
        for operator in ["<<", ">>", "+", "*"] {
            if let Some((left, right)) = split_outside(text, operator) {
                let (left, right) = (self.sum(file, left)?, self.sum(file, right)?);
                return Some(match operator {
                    "<<" => left << right,
                    ">>" => left >> right,
                    "+" => left + right,
                    _ => left * right,
                });
            }
        }
        if let Some((value, _kind)) = split_outside(text, " as ") {
            return self.sum(file, value);
        }
        if let Some(inner) = text.strip_suffix(')') {
            let (call, inner) = inner.split_once('(')?;
            return match call {
                "" | "Duration::from_micros" => self.sum(file, inner),
                "Duration::from_millis" => Some(self.sum(file, inner)? * 1000),
                "Duration::from_secs" => Some(self.sum(file, inner)? * 1_000_000),
                "i32::MAX.unsigned_abs" => Some(0x7fff_ffff),
                call => Some(self.sum(file, call.strip_suffix(".saturating_add")?)? + self.sum(file, inner)?),
            };
        }
        let digits = text.replace('_', "");
        match digits.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => digits.parse().ok(),
        }
        .or_else(|| match text {
            "i32::MAX" => Some(0x7fff_ffff),
            "u16::MAX" => Some(u64::from(u16::MAX)),
            "u8::MAX" => Some(u64::from(u8::MAX)),
            name => {
                let name = name.rsplit("::").next()?;
                let here = self.consts.get_key_value(&(file.to_owned(), name.to_owned()));
                let ((file, _), value) = here.or_else(|| self.consts.iter().find(|((_, other), _)| other == name))?;
                self.sum(file, value)
            }
        })
    }
}

/// Splits at the last operator that stands outside parentheses.
fn split_outside<'a>(text: &'a str, operator: &str) -> Option<(&'a str, &'a str)> {
    let mut depth = 0;
    let mut found = None;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && text[at..].starts_with(operator) => found = Some(at),
            _ => {}
        }
    }
    found.map(|at| (&text[..at], &text[at + operator.len()..]))
}

/// Reads a bound as people write it: a number, octets, or microseconds for a time.
fn parse(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == ',' || c == '_').len();
    let number: u64 = text[..digits].replace([',', '_'], "").parse().ok()?;
    let unit = match text[digits..].trim() {
        "" | "µs" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "ms" => 1000,
        "s" => 1_000_000,
        "min" | "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    Some(number * unit)
}

/// Returns the rows of all tables.
fn rows(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter(|line| line.starts_with('|') && line.ends_with('|'));
    let cells = lines.map(|line| {
        let inner = &line[1..line.len() - 1];
        inner.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    });
    cells.filter(|cells| cells[0] != "what" && !cells[0].starts_with("---")).collect()
}

/// Returns what stands in backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn a_flood_without_files_leaves_local_names_tcp_and_reloads_alone() {
    let fake = Fake::start(Habit::Silent);
    let zone = |last: u8| {
        format!(
            "[[zone]]\nname = \"lab.example\"\nrecords = [{{ name = \"@\", type = \"A\", value = \"10.0.0.{last}\" }}]\n"
        )
    };
    let config = |last| format!("{}{}[server]\nworkers = 1\n", zone(last), forward_to(&[fake.address]));
    // A quarter of them may be upstream sockets.
    let daemon = Daemon::start_with_descriptors(&config(1), 256);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(daemon.address).unwrap();
    for n in 0..300 {
        socket.send(&query(&format!("n{n}.example.org"), Rtype::A, n)).unwrap();
        if n % 20 == 0 {
            // Room in the socket's buffer.
            assert_eq!(ask(daemon.address, "lab.example").addresses(), ["10.0.0.1"]);
        }
    }
    eventually("the bound is reported", || {
        let lines = daemon.events("a bound was reached");
        lines.iter().any(|line| line["bound"] == "upstream_sockets_full_total")
    });
    let refused = ask(daemon.address, "one-more.example.org");
    assert_eq!((refused.rcode(), refused.ede()), (Rcode::SERVFAIL, Some(23)));
    let mut stream = connect(daemon.address);
    write_frame(&mut stream, &query("lab.example", Rtype::A, 1));
    assert_eq!(read_frame(&mut stream).unwrap().addresses(), ["10.0.0.1"]);
    daemon.reload(&config(2));
    eventually("the reload has been done", || ask(daemon.address, "lab.example").addresses() == ["10.0.0.2"]);
}

#[test]
fn a_dead_upstream_that_many_ask_leaves_others_room() {
    const ASKED: u16 = 200;
    let (dead, alive) = (Fake::start(Habit::Silent), Fake::address([192, 0, 2, 1]));
    let config = format!(
        "{}[upstream.dead]\nservers = [\"{}\"]\n[[route]]\nnames = [\"corp.example\"]\nupstream = \"dead\"\n[server]\n\
         workers = 2\nmax_in_flight = 64\n",
        forward_to(&[alive.address]),
        dead.address
    );
    let daemon = Daemon::start(&config);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(daemon.address).unwrap();
    for n in 0..ASKED {
        socket.send(&query(&format!("n{n}.corp.example"), Rtype::A, n)).unwrap();
    }
    eventually("the dead one is asked as much as may be", || {
        let lines = daemon.events("a bound was reached");
        lines.iter().any(|line| line["bound"] == "client_share_full_total" || line["bound"] == "in_flight_full_total")
    });
    let mut tries = 0;
    eventually("a name of the other upstream is answered", || {
        tries += 1;
        ask(daemon.address, &format!("n{tries}.example.org")).addresses() == ["192.0.2.1"]
    });
    // Not because the budget of the others was over: whoever has an answer by now was refused or gave way.
    socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 512];
    let answers =
        std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|len| Response(buffer[..len].to_vec()).ede()));
    let answers: Vec<_> = answers.collect();
    assert!(answers.len() < usize::from(ASKED) && answers.iter().all(|ede| *ede == Some(14)), "{answers:?}");
}
