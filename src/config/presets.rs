//! Presets: the domains an ecosystem downloads from, shipped as data files in `config/presets/`.
//!
//! A preset names parent domains, so a route with it also takes the hosts an ecosystem adds later. Every entry names
//! the ecosystem's own document about it and when it was written or last reviewed.

use super::pattern::parse_name;
use crate::dns::Name;
use serde::Deserialize;
use std::sync::LazyLock;

/// A named list of domains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preset {
    /// Its name in `presets = […]`.
    pub name: String,
    /// What it is for.
    pub title: String,
    /// Its domains, each with all names below it.
    pub entries: Vec<PresetEntry>,
}

/// One domain of a preset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresetEntry {
    /// The domain, in lower case.
    pub name: Name,
    /// The ecosystem's own document about it.
    pub source: String,
    /// When the entry was written or last reviewed, as YYYY-MM-DD.
    pub date: String,
}

/// Returns all presets, by name.
#[must_use]
pub fn all() -> &'static [Preset] {
    &PRESETS
}

/// Finds a preset.
#[must_use]
pub fn find(name: &str) -> Option<&'static Preset> {
    all().iter().find(|preset| preset.name == name)
}

macro_rules! presets {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../config/presets/", $name, ".toml")))),*]
    };
}

/// Name and text of every file, in the order of the names.
const FILES: &[(&str, &str)] = presets! {
    "conda" "containers" "crates" "dart" "debian" "docker" "elixir" "fedora" "git" "go" "gradle" "haskell"
    "homebrew" "maven" "mirrors" "npm" "nuget" "php" "pypi" "rubygems" "ubuntu"
};

static PRESETS: LazyLock<Vec<Preset>> = LazyLock::new(|| FILES.iter().map(|(name, text)| parse(name, text)).collect());

/// What a preset's file looks like.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    entry: Vec<FileEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    name: String,
    source: String,
    date: String,
}

fn parse(name: &str, text: &str) -> Preset {
    let file: File = toml::from_str(text).expect("the shipped presets parse; a test reads every one");
    let entry = |entry: FileEntry| PresetEntry {
        name: parse_name(&entry.name).expect("the shipped presets hold domain names; a test reads every one"),
        source: entry.source,
        date: entry.date,
    };
    Preset { name: name.to_owned(), title: file.title, entries: file.entry.into_iter().map(entry).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_has_good_entries() {
        for preset in all() {
            assert!(!preset.title.is_empty() && !preset.entries.is_empty(), "{}", preset.name);
            for entry in &preset.entries {
                assert!(entry.name.label_count() >= 2, "{}: {} is a whole top-level domain", preset.name, entry.name);
                assert!(!entry.source.is_empty(), "{}", entry.name);
                let digits = |part: &str, len| part.len() == len && part.bytes().all(|byte| byte.is_ascii_digit());
                let date: Vec<&str> = entry.date.split('-').collect();
                assert!(
                    matches!(date[..], [y, m, d] if digits(y, 4) && digits(m, 2) && digits(d, 2)),
                    "{}",
                    entry.date
                );
            }
        }
    }

    #[test]
    fn no_preset_repeats_itself() {
        for preset in all() {
            for (at, entry) in preset.entries.iter().enumerate() {
                for other in &preset.entries[..at] {
                    assert!(
                        !entry.name.is_at_or_below(&other.name),
                        "{}: {} is below {}",
                        preset.name,
                        entry.name,
                        other.name
                    );
                }
            }
        }
    }

    #[test]
    fn index_and_file_hosts_are_both_there() {
        let has = |preset: &str, name: &str| {
            let name = Name::parse(name).unwrap();
            find(preset).unwrap().entries.iter().any(|entry| name.is_at_or_below(&entry.name))
        };
        assert!(has("go", "proxy.golang.org") && has("go", "storage.googleapis.com"));
        assert!(has("git", "raw.githubusercontent.com") && has("git", "github.com"));
        assert!(has("pypi", "pypi.org") && has("pypi", "pythonhosted.org"));
        assert!(has("docker", "auth.docker.io") && has("docker", "production.cloudflare.docker.com"));
        assert!(find("cobol").is_none());
    }

    #[test]
    fn the_folder_and_the_list_agree() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/presets");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        let known: Vec<&str> = all().iter().map(|preset| preset.name.as_str()).collect();
        assert_eq!(names, known);
    }
}
