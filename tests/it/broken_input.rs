//! `truename check` on what people get wrong: each mistake at its place, all of them at once, and nothing waits or panics.

use crate::support::daemon::run;
use std::path::Path;
use std::process::Command;

/// Writes files and returns the lines of `check main.toml --format gcc`, without the folder.
fn check(files: &[(&str, &[u8])]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    check_in(folder.path())
}

fn check_in(folder: &Path) -> Vec<String> {
    let main = folder.join("main.toml");
    let output = run(&["check", main.to_str().unwrap(), "--format", "gcc"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said.replace(&format!("{}/", folder.display()), "").lines().map(str::to_owned).collect()
}

/// Asserts that there is one line for each of `expected`, which begin with `FILE:LINE:COLUMN:` and hold the words.
fn assert_lines(said: &[String], expected: &[(&str, &str)]) {
    for (place, words) in expected {
        let found = said.iter().any(|line| line.starts_with(&format!("{place}: ")) && line.contains(words));
        assert!(found, "{place} {words}: {said:#?}");
    }
    assert_eq!(said.len(), expected.len(), "{said:#?}");
}

const NAMES_FILES: &str = "include = [\"x.toml\"]\n[[zone]]\nname = \"a.example\"\nfile = \"x.zone\"\n[hosts]\nfiles = \
                           [\"x.hosts\"]\n[[route]]\nnames_from = [{ path = \"x.list\" }]\nupstream = \"system\"\n";

#[test]
fn files_that_are_not_there_are_reported_where_they_are_named() {
    let said = check(&[("main.toml", NAMES_FILES.as_bytes())]);
    assert_lines(
        &said,
        &[
            ("main.toml:1:12", "include"),
            ("main.toml:4:8", "zone[0].file"),
            ("main.toml:6:10", "hosts.files[0]"),
            ("main.toml:8:15", "x.list"),
        ],
    );
}

#[test]
fn a_pipe_in_the_place_of_a_file_makes_nobody_wait() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("main.toml"), NAMES_FILES).unwrap();
    for name in ["x.toml", "x.zone", "x.hosts", "x.list"] {
        assert!(Command::new("mkfifo").arg(folder.path().join(name)).status().unwrap().success());
    }
    let said = check_in(folder.path());
    assert_eq!(said.len(), 4, "{said:#?}");
    assert!(said.iter().all(|line| line.contains("regular file")), "{said:#?}");
}

#[test]
fn octets_that_are_no_utf8_are_named_and_hide_no_other_mistake() {
    let said = check(&[
        ("main.toml", &[NAMES_FILES.as_bytes(), b"[log]\nlevel = \"loud\" # caf\xe9\n"].concat()),
        ("x.toml", b"[cache]\nmax_entries = true\n"),
        ("x.zone", b"a A 10.0.0.1\nb TXT \"caf\xe9\"\nc AAAAA ::1\n"),
        ("x.hosts", b"10.0.0.1 a # caf\xe9\n10.0.0.2 caf\xe9 b\n10.0.0.256 c\n"),
        ("x.list", b"a.example\ncaf\xe9.example\nx..y\n"),
    ]);
    assert_lines(
        &said,
        &[
            ("main.toml:11:9", "log.level"),
            ("main.toml:11:21", "0xe9"),
            ("x.toml:2:15", "cache.max_entries"),
            ("x.zone:2:11", "0xe9"),
            ("x.zone:3:3", "AAAAA"),
            ("x.hosts:2:10", "UTF-8"),
            ("x.hosts:3:1", "10.0.0.256"),
            ("x.list:2:4", "UTF-8"),
            ("x.list:3:1", "x..y"),
        ],
    );
}

#[test]
fn rings_of_files_are_reported_where_they_close() {
    let said = check(&[
        ("main.toml", b"include = [\"b.toml\"]\n[[zone]]\nname = \"a.example\"\nfile = \"one\"\n"),
        ("b.toml", b"include = [\"main.toml\"]\n"),
        ("one", b"@ A 10.0.0.1\n$INCLUDE two\n"),
        ("two", b"\n$INCLUDE one\n"),
    ]);
    assert_lines(&said, &[("b.toml:1:12", "main.toml"), ("two:2:10", "include itself")]);
}

#[test]
fn a_broken_line_is_one_problem_and_what_follows_is_not_guessed_at() {
    let text = "[server\nworkers = 0\n[cache]\nmax_entries = \n[hosts]\nfiles = [\"a\",\n[log]\nlevel = debug\n";
    let said = check(&[("main.toml", text.as_bytes())]);
    assert!(said.iter().all(|line| line.contains("[syntax]") || line.contains("workers")), "{said:#?}");
    for line in [1, 4] {
        let place = format!("main.toml:{line}:");
        assert_eq!(said.iter().filter(|said| said.starts_with(&place)).count(), 1, "{said:#?}");
    }
    assert!(!said.iter().any(|line| line.contains("expected unclosed")), "{said:#?}");
}

#[test]
fn line_ends_marks_and_tabs_move_no_column() {
    let said = check(&[
        ("main.toml", b"\xef\xbb\xbfinclude = \"x\"\r\n[server]\r\n\tworkers\t=\t0\r\n[[zone]]\r\nname = \"a.example\"\r\nfile = \"z\"\r\n"),
        ("z", b"\xef\xbb\xbfa\tA\t10.0.0.256\r\nb A (\r\n 10.0.0.1\r\n 10.0.0.2 )\r\n"),
    ]);
    assert_lines(
        &said,
        &[
            ("main.toml:1:11", "include"),
            ("main.toml:3:12", "server.workers"),
            ("z:1:5", "10.0.0.256"),
            ("z:4:2", "nothing more"),
        ],
    );
}

#[test]
fn keys_of_later_work_are_refused_and_named() {
    let text = "[guard]\nallow_divergent = true\n[default]\nguard = \"sampled\"\n[server]\ndns64 = true\n[upstream.t]\nservers = \
                [\"tsl://9.9.9.9\", \"[fd00::1\", \":53\", \"10.0.0.0/8\"]\nca_files = \"x\"\n";
    let said = check(&[("main.toml", text.as_bytes())]);
    assert_lines(
        &said,
        &[
            ("main.toml:2:19", "guard.allow_divergent"),
            ("main.toml:4:9", "\"off\""),
            ("main.toml:6:1", "server.dns64"),
            ("main.toml:8:12", "did you mean `tls`?"),
            ("main.toml:8:29", "brackets"),
            ("main.toml:8:41", "missing"),
            ("main.toml:8:48", "prefix"),
            ("main.toml:9:1", "did you mean `ca_file`?"),
        ],
    );
}

#[test]
fn files_that_connections_need_are_read_and_capabilities_are_told() {
    let text = "[upstream.a]\nservers = [\"tls://192.0.2.1\"]\nca_file = \"none.pem\"\nclient_certificate = \"empty.pem\"\n\
                client_key = \"good.pem\"\n[upstream.b]\nservers = [\"192.0.2.2\"]\nmark = 7\n";
    let key = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    let files = [("main.toml", text.as_bytes()), ("empty.pem", b""), ("good.pem", key.as_bytes())];
    assert_lines(
        &check(&files),
        &[
            ("main.toml:3:11", "none.pem: No such file"),
            ("main.toml:4:22", "empty.pem: nothing of that kind"),
            ("main.toml:8:8", "note: upstream.b.mark: expected the daemon to have a capability, without which"),
        ],
    );
}

#[test]
fn values_of_records_are_reported_at_the_value() {
    let text = "[[zone]]\nname = \"a.example\"\nrecords = [\n  { name = \"x\", type = \"A\", value = \"300.1.1.1\" },\n]\n[[rewrite]]\n\
                names = [\"q.example\"]\nanswer = { type = \"CNAME\", value = \"a b\" }\n";
    let said = check(&[("main.toml", text.as_bytes())]);
    assert_lines(
        &said,
        &[("main.toml:4:37", "zone[0].records[0].value"), ("main.toml:8:36", "rewrite[0].answer.value")],
    );
}

#[test]
fn the_hosts_files_that_distributions_write_are_no_reason_to_warn() {
    let hosts = "127.0.0.1 localhost localhost.localdomain localhost4 localhost4.localdomain4\n127.0.1.1 box.example.com \
                 box\n::1 localhost ip6-localhost ip6-loopback localhost6.localdomain6\nff02::1 ip6-allnodes\nfe00::0 \
                 ip6-localnet\nfe80::1%lo0 localhost\n255.255.255.255 broadcasthost\n10.0.0.3 pod.default.svc.cluster.local pod\n";
    let said = check(&[("main.toml", b"[hosts]\nfiles = [\"h\"]\n"), ("h", hosts.as_bytes())]);
    assert_lines(&said, &[]);
    let said = check(&[("main.toml", b"[hosts]\nfiles = [\"h\"]\n"), ("h", b"127.0.0.1 www.example.com\n")]);
    assert_lines(&said, &[("h:1:1", "hosts-conflict")]);
}
