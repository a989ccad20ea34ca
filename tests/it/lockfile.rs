//! Holds `Cargo.lock` at or above the versions that closed known holes, whatever an advisory database knows.

/// Crate, the lowest version allowed (a crate that is not in the tree is fine), and what is wrong below it.
const FLOORS: &[(&str, [u64; 3], &str)] = &[
    ("hickory-proto", [0, 26, 3], "memory by header counts, CVE-2026-123570"),
    ("hickory-net", [0, 26, 3], "an unparsable datagram ends the query, CVE-2026-123584"),
    ("hickory-resolver", [0, 26, 3], "retry loop on TC, CVE-2026-123604"),
    ("hickory-server", [0, 26, 3], "connections held, CVE-2026-123575"),
    ("h2", [0, 4, 16], "RUSTSEC-2026-0258"),
    ("quinn-proto", [0, 11, 15], "RUSTSEC-2026-0185"),
    ("lru", [0, 18, 2], "unsound iterators"),
    ("tracing-subscriber", [0, 3, 20], "terminal escapes in logs, RUSTSEC-2025-0055"),
    ("rustls-webpki", [0, 103, 13], "name constraints"),
];

fn read(path: &str) -> String {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn no_dependency_is_below_its_floor() {
    for lock in ["Cargo.lock", "fuzz/Cargo.lock"] {
        let packages = packages(&read(lock));
        assert!(packages.iter().any(|(name, _)| name == "hickory-proto"), "the reader finds no packages in {lock}");
        assert_eq!(below_floor(&packages), Vec::<String>::new(), "{lock}");
    }
}

#[test]
fn deny_knows_the_same_floors() {
    let deny: toml::Table = toml::from_str(&read("deny.toml")).expect("deny.toml is TOML");
    let denied = deny["bans"]["deny"].as_array().expect("a list");
    for (name, floor, _) in FLOORS {
        let below = format!("<{}.{}.{}", floor[0], floor[1], floor[2]);
        let is_this = |entry: &&toml::Value| entry.get("name").and_then(|text| text.as_str()) == Some(name);
        let version = denied.iter().find(is_this).and_then(|entry| entry["version"].as_str());
        assert_eq!(version, Some(below.as_str()), "{name} in deny.toml");
    }
}

#[test]
fn a_release_checks_for_overflow_and_unwinds() {
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).expect("Cargo.toml is TOML");
    let release = &manifest["profile"]["release"];
    assert_eq!(release["overflow-checks"].as_bool(), Some(true));
    // A panic ends one question, not the process: that needs unwinding.
    assert!(release.get("panic").is_none_or(|panic| panic.as_str() == Some("unwind")), "{release}");
}

#[test]
fn an_old_version_is_found() {
    let lock =
        "[[package]]\nname = \"lru\"\nversion = \"0.18.1\"\n\n[[package]]\nname = \"h2\"\nversion = \"0.4.16\"\n";
    assert_eq!(below_floor(&packages(lock)), ["lru 0.18.1 is below 0.18.2: unsound iterators"]);
}

fn packages(lock: &str) -> Vec<(String, String)> {
    let table: toml::Table = toml::from_str(lock).expect("Cargo.lock is TOML");
    let list = table["package"].as_array().expect("Cargo.lock lists packages");
    let text = |package: &toml::Value, key: &str| package[key].as_str().unwrap_or_default().to_owned();
    list.iter().map(|package| (text(package, "name"), text(package, "version"))).collect()
}

fn below_floor(packages: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, version) in packages {
        for (crate_name, floor, why) in FLOORS {
            if name == crate_name && numbers(version) < *floor {
                found.push(format!("{name} {version} is below {}.{}.{}: {why}", floor[0], floor[1], floor[2]));
            }
        }
    }
    found
}

fn numbers(version: &str) -> [u64; 3] {
    let release = version.split(['-', '+']).next().unwrap_or_default();
    let mut parts = release.split('.').map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}
