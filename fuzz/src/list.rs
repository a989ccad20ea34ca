//! The octets of a list file, in each of its formats: every name that a plain reader finds takes the route, and nothing
//! else does; every problem has a place in the file.
//!
//! The first octet chooses the format; the rest is the file.

use super::rig::{self, Scene};
use std::cell::OnceCell;
use std::net::IpAddr;
use std::path::Path;
use truename::config::{Config, Diagnostic, ViewId};
use truename::dns::Name;
use truename::pipeline::route::{RouteId, Routes};

/// Names looked up in one run: the rest is more of the same.
const MAX_LOOKUPS: usize = 200;
/// Problems of one severity that are told of one file; one more says how many are left out.
const MAX_PROBLEMS: usize = 100;
/// The formats, as the configuration calls them.
const FORMATS: [&str; 3] = ["domains", "hosts", "dnsmasq"];
/// What the first octet says: the rest of three.
pub const DOMAINS: u8 = 0;
pub const HOSTS_FILE: u8 = 1;
pub const DNSMASQ: u8 = 2;
/// What has a route only when the file says so.
const CANARY: &str = "canary.example.org";

thread_local! {
    static SCENE: OnceCell<Scene<[Config; 3]>> = const { OnceCell::new() };
}

/// One list file, in each format.
fn scene() -> Scene<[Config; 3]> {
    let config = |path: &Path, format: &str| {
        rig::config(&format!(
            "[upstream.system]\nservers = [\"9.9.9.9\"]\n[upstream.office]\nservers = [\"10.0.0.53\"]\n\
             [[route]]\nupstream = \"office\"\nnames_from = [{{ path = {:?}, format = \"{format}\" }}]\n",
            path.display().to_string()
        ))
    };
    Scene::new("list", |path| FORMATS.map(|format| config(path, format)))
}

pub fn run(data: &[u8]) {
    let Some((&how, data)) = data.split_first() else { return };
    let format = usize::from(how) % FORMATS.len();
    SCENE.with(|cell| {
        let scene = cell.get_or_init(scene);
        scene.write(data);
        let (routes, problems) = Routes::load(&scene.config[format], &|_| false, &[]);
        check_problems(&problems, data);
        let Ok(text) = std::str::from_utf8(data) else {
            let is_told = problems.iter().any(|problem| problem.code == "list-not-text" || problem.code == MORE);
            assert!(is_told || problems.iter().any(|problem| problem.code == "list-line-too-long"), "{problems:?}");
            return;
        };
        check_names(&routes, text.trim_start_matches('\u{feff}'), format);
    });
}

/// Says how many problems are left out.
const MORE: &str = "list-more-problems";

fn check_problems(problems: &[Diagnostic], data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines: Vec<&str> = text.split('\n').collect();
    for is_error in [true, false] {
        let of_kind = problems.iter().filter(|problem| problem.is_error() == is_error).count();
        assert!(of_kind <= MAX_PROBLEMS + 1, "{of_kind} problems of one kind");
    }
    for problem in problems.iter().filter(|problem| problem.code != MORE) {
        assert!(!problem.expected.is_empty(), "{}: what is expected is not said", problem.code);
        let line = lines.get((problem.at.line as usize).wrapping_sub(1));
        let line = line.unwrap_or_else(|| panic!("line {} of {}", problem.at.line, lines.len()));
        // Characters as they are shown: what is no text counts as one for each of its faults.
        let most = line.chars().count() + 1;
        assert!((1..=most).contains(&(problem.at.column as usize)), "{problem:?}");
        assert!(line.contains(&problem.found), "{problem:?}");
    }
}

/// A pattern as a plain reader understands it.
struct Pattern {
    name: Name,
    itself: bool,
    below: bool,
}

impl Pattern {
    fn read(word: &str) -> Option<Self> {
        let (text, itself, below) = match (word.strip_prefix('='), word.strip_prefix("*.")) {
            (Some(rest), _) => (rest, true, false),
            (None, Some(rest)) => (rest, false, true),
            (None, None) => (word, true, true),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        // Escapes and the root are left to the program: the plain reader knows names as people write them.
        let is_plain = text.bytes().all(plain) && text != ".";
        let name = Name::parse(text).ok().filter(|_| is_plain)?;
        Some(Self { name: name.to_lower(), itself, below })
    }

    /// A name that it is for.
    fn example(&self) -> Option<Name> {
        if self.itself { Some(self.name.clone()) } else { Name::parse(&format!("x.{}", self.name)).ok() }
    }

    fn covers(&self, name: &Name) -> bool {
        let is_below = name.to_string().ends_with(&format!(".{}", self.name));
        (self.itself && *name == self.name) || (self.below && is_below)
    }
}

/// Reads the file again, as plainly as docs/config.md describes it, and asks for what it says.
fn check_names(routes: &Routes, text: &str, format: usize) {
    // Names that are left to others and lines that are too long are for the program to understand.
    if text.contains("/#") || text.split('\n').any(|line| line.len() > 4000) {
        return;
    }
    let patterns: Vec<Pattern> = text.split('\n').flat_map(|line| read_line(line, format)).take(MAX_LOOKUPS).collect();
    let is_routed = |name: &Name| routes.find(ViewId(0), name.as_wire()).id == RouteId::Written(0);
    for pattern in &patterns {
        let Some(name) = pattern.example() else { continue };
        assert!(is_routed(&name), "{name} has no route");
    }
    let canary = Name::parse(CANARY).expect("a name");
    let has_root =
        text.split_ascii_whitespace().any(|word| word.starts_with('.') || word == "*.." || word.contains("/."));
    // With a backslash the canary can be spelled in ways that only the program reads.
    if patterns.len() < MAX_LOOKUPS && !has_root && !text.contains('\\') {
        let expected = patterns.iter().any(|pattern| pattern.covers(&canary));
        assert_eq!(is_routed(&canary), expected, "the canary");
    }
}

fn read_line(line: &str, format: usize) -> Vec<Pattern> {
    let mut words = line.split('#').next().expect("split gives one").split_ascii_whitespace();
    match format {
        0 => match (words.next(), words.next()) {
            (Some(word), None) => Pattern::read(word).into_iter().collect(),
            _ => Vec::new(),
        },
        1 => {
            let address = words.next().map(|word| word.split('%').next().expect("split gives one"));
            if address.is_none_or(|word| word.parse::<IpAddr>().is_err()) {
                return Vec::new();
            }
            let names = words.filter(|word| word.parse::<IpAddr>().is_err() && !is_of_the_machine(word));
            let names = names.filter(|word| !word.contains(['*', '=']));
            names.filter_map(Pattern::read).map(|pattern| Pattern { below: false, ..pattern }).collect()
        }
        _ => {
            let line = line.trim();
            let line = line.split(" #").next().expect("split gives one").trim();
            let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else { return Vec::new() };
            let is_known = ["server", "address", "local"].contains(&key.trim());
            let value = value.trim().strip_prefix('/').filter(|_| is_known);
            let Some((names, _)) = value.and_then(|value| value.rsplit_once('/')) else { return Vec::new() };
            names.split('/').filter_map(|name| Pattern::read(name.strip_prefix('.').unwrap_or(name))).collect()
        }
    }
}

/// Names that hosts files carry for the machine itself, by what they begin with: more than are left out by the program.
fn is_of_the_machine(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    ["local", "broadcasthost", "ip6-"].iter().any(|own| word.starts_with(own))
}
