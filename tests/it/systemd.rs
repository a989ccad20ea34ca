//! The units of `systemd/`, under a real systemd (docs/operations.md).

use crate::support::booted::Booted;
use crate::support::eventually;

const ZONE: &str =
    "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"@\", type = \"A\", value = \"10.0.0.1\" }]\n";
const START: &str = "systemctl enable --now --quiet truename.socket truename.service";
/// Answers so many questions one after the other, one try of 2 s each; at some of them something is done. Prints how
/// many were answered.
const ASK: &str = "ok=0; for i in $(seq COUNT); do case $i in EVENTS esac; \
                   [ \"$(dig +short +tries=1 +time=2 @127.0.0.1 lab.example)\" = 10.0.0.1 ] && ok=$((ok+1)); done; echo $ok";

fn asked(machine: &Booted, count: u32, events: &str) -> u32 {
    machine.sh(&ASK.replace("COUNT", &count.to_string()).replace("EVENTS", events)).trim().parse().unwrap()
}

fn property(machine: &Booted, name: &str) -> String {
    machine.sh(&format!("systemctl show --value -p {name} truename.service")).trim().to_owned()
}

#[test]
fn the_unit_serves_says_what_and_has_no_privilege() {
    let Some(machine) = Booted::boot(ZONE) else { return };
    machine.sh(START);
    for server in ["127.0.0.1", "::1"] {
        for protocol in ["+notcp", "+tcp"] {
            let said = machine.sh(&format!("dig +short {protocol} @{server} lab.example"));
            assert_eq!(said, "10.0.0.1\n", "{server} {protocol}");
        }
    }
    let status = property(&machine, "StatusText");
    assert!(status.starts_with("Serving 127.0.0.1:53, [::1]:53: 1 zones"), "{status}");
    let pid = property(&machine, "MainPID");
    let process = machine.sh(&format!("cat /proc/{pid}/status"));
    for line in ["CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(process.contains(line), "{line}\n{process}");
    }
    // As the unit stands in the project, and as systemd has it in force.
    for how in ["--offline=yes /usr/lib/systemd/system/truename.service", "truename.service"] {
        let said = machine.sh(&format!("systemd-analyze security --no-pager {how} | tail -n 1"));
        let score: f32 = said.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
        assert!(score <= 1.2, "{said}");
    }
    assert!(!machine.journal().contains("WARN"), "{}", machine.journal());
}

#[test]
fn restarts_and_a_kill_lose_no_query() {
    let Some(machine) = Booted::boot(ZONE) else { return };
    machine.sh(START);
    let answered = asked(
        &machine,
        150,
        "40) systemctl restart truename.service;; 80) systemctl kill -s KILL truename.service;; 110) systemctl reload truename.service;;",
    );
    assert_eq!(answered, 150, "{}", machine.journal());
    assert_eq!(property(&machine, "NRestarts"), "1");
}

#[test]
fn a_refused_reload_is_seen_and_changes_nothing() {
    let Some(machine) = Booted::boot(ZONE) else { return };
    machine.sh(START);
    machine.configure("[server]\nlisten = 5\n");
    let reloaded = machine.run("systemctl reload truename.service");
    assert!(!reloaded.status.success(), "a refused reload fails");
    assert!(machine.journal().contains("truename.toml:2"), "{}", machine.journal());
    eventually("the status says so", || {
        property(&machine, "StatusText").starts_with("Reload refused (/etc/truename/truename.toml:2")
    });
    assert_eq!(asked(&machine, 3, ""), 3);
    machine.configure(&ZONE.replace("10.0.0.1", "10.0.0.2"));
    machine.sh("systemctl reload truename.service");
    eventually("the new answer", || machine.sh("dig +short @127.0.0.1 lab.example") == "10.0.0.2\n");
    assert!(property(&machine, "StatusText").starts_with("Serving"), "{}", property(&machine, "StatusText"));
}

#[test]
fn a_daemon_that_hangs_is_restarted_by_the_watchdog_and_one_that_works_is_not() {
    let Some(machine) = Booted::boot(ZONE) else { return };
    machine.sh("mkdir -p /run/systemd/system/truename.service.d && \
                printf '[Service]\\nWatchdogSec=3s\\n' > /run/systemd/system/truename.service.d/quick.conf && systemctl daemon-reload");
    machine.sh(START);
    let pid = property(&machine, "MainPID");
    // Longer than the watchdog waits: it is fed.
    machine.sh("sleep 5");
    assert_eq!(property(&machine, "MainPID"), pid, "{}", machine.journal());
    machine.sh("systemctl kill --kill-who=main -s STOP truename.service");
    eventually("it was killed and started again", || {
        let now = property(&machine, "MainPID");
        now != pid && now != "0"
    });
    assert_eq!(asked(&machine, 3, ""), 3);
    assert!(machine.journal().contains("Watchdog timeout"), "{}", machine.journal());
}

#[test]
fn a_configuration_that_cannot_be_used_is_said_once_and_not_tried_for_ever() {
    let Some(machine) = Booted::boot("[server]\nlisten = 5\n") else { return };
    machine.run(START);
    eventually("it has given up", || property(&machine, "ActiveState") == "failed");
    assert_eq!(
        (property(&machine, "NRestarts"), property(&machine, "ExecMainStatus")),
        ("0".to_owned(), "78".to_owned())
    );
    assert!(machine.journal().contains("truename.toml:2"), "{}", machine.journal());
    machine.configure(ZONE);
    machine.sh(
        "systemctl reset-failed truename.service truename.socket; systemctl start truename.socket truename.service",
    );
    assert_eq!(asked(&machine, 3, ""), 3);
}

#[test]
fn a_mistake_in_the_configuration_takes_no_names_away_at_the_next_start() {
    let good = format!("include = [\"conf.d/*.toml\"]\n{ZONE}[log]\nlevel = \"info\"\n");
    let Some(machine) = Booted::boot(&good) else { return };
    let also = "dig +short @127.0.0.1 also.example";
    machine.sh("mkdir /etc/truename/conf.d && printf '[[zone]]\\nname = \"also.example\"\\nrecords = \
                [{ name = \"@\", type = \"A\", value = \"10.0.0.9\" }]\\n' > /etc/truename/conf.d/also.toml");
    machine.sh("chown root:truename /etc/truename/truename.toml && chmod 640 /etc/truename/truename.toml");
    machine.sh(START);
    let copy = "/var/lib/truename/last-good.json";
    eventually("a copy is kept", || machine.run(&format!("grep -q lab.example {copy}")).status.success());
    // Nobody may read it who could not read the original.
    assert_eq!(machine.sh(&format!("stat -c '%a %U' {copy} /var/lib/truename")), "600 truename\n750 truename\n");

    machine.configure(&good.replace("[log]\nlevel = \"info\"", "[log]\nlevel = 5"));
    machine.sh("printf 'nonsense\\n' > /etc/truename/conf.d/also.toml");
    machine.sh("systemctl restart truename.service");
    assert_eq!((asked(&machine, 3, ""), machine.sh(also)), (3, "10.0.0.9\n".to_owned()), "{}", machine.journal());
    let why = "errors at the start, the first at /etc/truename/truename.toml:6";
    let status = property(&machine, "StatusText");
    assert!(
        status.starts_with(&format!("Configuration refused ({why}")) && status.contains("; Serving 127."),
        "{status}"
    );
    let told = machine.sh("truename status");
    assert!(told.contains(why) && told.contains("is in force") && told.contains("truename check"), "{told}");
    let report: serde_json::Value = serde_json::from_str(&machine.sh("truename stats --json")).unwrap();
    assert_eq!(report["config"]["last_reload"]["ok"], false);
    assert_eq!(
        machine.sh("truename metrics | grep '^truename_config_last_reload_success '"),
        "truename_config_last_reload_success 0\n"
    );
    let journal = machine.journal();
    assert!(
        journal.contains("truename.toml:6") && journal.contains("also.toml:1") && journal.contains("last good copy"),
        "{journal}"
    );
    assert_eq!(machine.run("truename check").status.code(), Some(1));
    // A file that changes meanwhile makes nothing good; the next start finds the copy again.
    machine.sh("echo '10.0.0.5 five.example' >> /etc/hosts");
    eventually("the hosts file is read", || machine.sh("dig +short @127.0.0.1 five.example") == "10.0.0.5\n");
    assert!(machine.sh("truename status").contains(why));
    machine.sh("systemctl kill --kill-who=main -s KILL truename.service");
    eventually("it answers again", || asked(&machine, 1, "") == 1);

    // Good again, it is what counts.
    machine.configure(&ZONE.replace("10.0.0.1", "10.0.0.2"));
    machine.sh("systemctl reload truename.service");
    assert!(property(&machine, "StatusText").starts_with("Serving"), "{}", property(&machine, "StatusText"));
    assert!(!machine.sh("truename status").contains("refused"));
    assert_eq!(machine.sh("dig +short @127.0.0.1 lab.example"), "10.0.0.2\n");
    eventually("the copy is the new one", || machine.run(&format!("grep -q 10.0.0.2 {copy}")).status.success());
    // Half a copy is none.
    machine.configure("[server]\nlisten = 5\n");
    machine.sh(&format!("truncate -s 40 {copy} && systemctl restart truename.service; true"));
    eventually("it has given up", || property(&machine, "ActiveState") == "failed");
    assert_eq!(property(&machine, "ExecMainStatus"), "78");
}

#[test]
fn questions_are_written_to_the_journal_and_into_the_directory_of_logs() {
    let Some(machine) = Booted::boot(&format!("{ZONE}[log]\nqueries = \"journal\"\n")) else { return };
    machine.sh(START);
    assert_eq!(asked(&machine, 3, ""), 3);
    let output = |script: &str| String::from_utf8(machine.run(script).stdout).unwrap();
    let entries = || output("journalctl -o json TRUENAME_NAME=lab.example. _SYSTEMD_UNIT=truename.service");
    eventually("they are in the journal", || entries().lines().count() == 3);
    let entry: serde_json::Value = serde_json::from_str(entries().lines().next().unwrap()).unwrap();
    assert_eq!(
        ["TRUENAME_TYPE", "TRUENAME_ZONE", "TRUENAME_ANSWERS", "SYSLOG_IDENTIFIER", "PRIORITY"].map(|key| &entry[key]),
        ["A", "lab.example.", "10.0.0.1", "truename", "6"]
    );
    machine.configure(&format!("{ZONE}[log]\nqueries = \"/var/log/truename/queries.ndjson\"\n"));
    machine.sh("systemctl reload truename.service");
    assert_eq!(asked(&machine, 3, ""), 3);
    let file = "/var/log/truename/queries.ndjson";
    eventually("they are in the file", || output(&format!("grep -c lab.example. {file}")) == "3\n");
    assert_eq!(machine.sh(&format!("stat -c '%a %U' {file}")), "640 truename\n");
    assert_eq!(entries().lines().count(), 3, "and no longer in the journal");
    assert!(!machine.journal().contains("WARN"), "{}", machine.journal());
}

#[test]
fn the_control_sockets_are_the_managers_and_their_modes_decide() {
    let Some(machine) = Booted::boot(ZONE) else { return };
    machine.sh(START);
    let modes = machine.sh("stat -c '%a %G' /run/truename/stats.sock /run/truename/control.sock");
    assert_eq!(modes, "666 truename\n660 truename\n");
    let as_nobody =
        |command: &str| machine.sh(&format!("setpriv --reuid=nobody --regid=nogroup --clear-groups {command}"));
    assert!(as_nobody("truename status").starts_with("● truename"), "{}", machine.journal());
    let refused = as_nobody("truename cache list; echo $?");
    assert!(refused.ends_with("77\n"), "{refused}");
    machine.configure(&ZONE.replace("10.0.0.1", "10.0.0.2"));
    assert_eq!(machine.sh("truename reload"), "reloaded: generation 2 is in force\n");
    // The manager keeps them over a restart: whoever asks meanwhile waits.
    let before = machine.sh("stat -c %i /run/truename/stats.sock");
    machine.sh("systemctl restart truename.service");
    assert!(machine.sh("truename status").contains("generation 1"), "{}", machine.journal());
    assert_eq!(machine.sh("stat -c %i /run/truename/stats.sock"), before);
    assert!(!machine.journal().contains("WARN"), "{}", machine.journal());
}
