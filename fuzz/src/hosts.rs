//! The bytes of a hosts file: every line that a plain reader understands is answered, and nothing else.

use super::rig::{self, Scene};
use std::cell::OnceCell;
use std::net::IpAddr;
use truename::config::{Config, ViewId};
use truename::dns::{Name, Rtype};
use truename::pipeline::zone::{Context, Outcome, Zones};

/// Names looked up in one run: the rest is more of the same.
const MAX_LOOKUPS: usize = 200;
/// Problems that say how many lines are left out; every other one quotes its word.
const COUNTS: [&str; 3] = ["too-many-hosts", "too-many-addresses", "hosts-more-problems"];

thread_local! {
    static SCENE: OnceCell<Scene<Config>> = const { OnceCell::new() };
}

/// No name has a route.
pub(crate) struct NoRoutes;

impl Context for NoRoutes {
    fn explicitly_routed(&self, _: &Name) -> bool {
        false
    }

    fn private_route(&self, _: &Name) -> bool {
        false
    }
}

/// One hosts file.
fn scene() -> Scene<Config> {
    Scene::new("hosts", |path| rig::config(&format!("[hosts]\nfiles = [{:?}]\n", path.display().to_string())))
}

pub fn run(data: &[u8]) {
    SCENE.with(|cell| {
        let scene = cell.get_or_init(scene);
        scene.write(data);
        let (zones, diagnostics) = Zones::load(&scene.config, 0);
        assert!(diagnostics.iter().all(|problem| !problem.is_error()), "a hosts file never stops truename");
        let Ok(text) = std::str::from_utf8(data) else {
            let text = String::from_utf8_lossy(data);
            let mut read = text.split('\n').map(|line| line.split('#').next().expect("split gives one"));
            // Lines for an address with a zone are left out as they are.
            let zoned = |line: &str| line.split_ascii_whitespace().next().is_some_and(|word| word.contains('%'));
            let matters = read.any(|line| line.contains(char::REPLACEMENT_CHARACTER) && !zoned(line));
            assert!(!matters || !diagnostics.is_empty(), "octets that are no text are not said");
            return;
        };
        let lines: Vec<&str> = text.trim_start_matches('\u{feff}').split('\n').collect();
        for problem in &diagnostics {
            let line = lines.get((problem.at.line as usize).wrapping_sub(1)).expect("a line of the file");
            assert!((1..=line.chars().count() + 1).contains(&(problem.at.column as usize)), "{problem:?}");
            // hosts(5) and our own reading agree on what a word is, so what is reported stands there.
            let quotes = problem.code == "hosts-line";
            assert!(quotes || COUNTS.contains(&problem.code), "{problem:?}");
            assert!(!quotes || line.contains(&problem.found), "{problem:?}");
        }
        check_names(&zones, &lines);
    });
}

/// Reads the file again, as plainly as hosts(5) describes it, and asks for what it says.
fn check_names(zones: &Zones, lines: &[&str]) {
    let mut lookups = 0;
    for line in lines {
        let mut words = line.split('#').next().expect("split gives one").split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        for word in words {
            let Ok(name) = Name::parse(word) else { continue };
            // What stands for octets that were no text is no name, also when somebody typed it.
            if word.contains(char::REPLACEMENT_CHARACTER) || name.is_root() || name.labels().next() == Some(b"*") {
                continue;
            }
            lookups += 1;
            if lookups > MAX_LOOKUPS {
                return;
            }
            let (rtype, data) = match address {
                IpAddr::V4(v4) => (Rtype::A, v4.octets().to_vec()),
                IpAddr::V6(v6) => (Rtype::AAAA, v6.octets().to_vec()),
            };
            match zones.answer(ViewId(0), &name, rtype, false, &NoRoutes) {
                Outcome::Local(answer) => {
                    assert!(answer.answers.iter().any(|record| *record.rdata == *data), "{name} {address}: {answer:?}");
                    assert!(answer.answers.iter().all(|record| record.owner == name && record.rtype == rtype));
                }
                other @ (Outcome::NotOurs | Outcome::PrivateSystemOnly) => panic!("{name} {address}: {other:?}"),
            }
        }
    }
    let names = zones.hosts_names();
    assert!(lookups > 0 || names == 0, "{names} names that no line has");
    assert!(names <= lookups, "{names} names of {lookups} words");
}
