//! `truename up` and `truename down` under a real systemd, with every manager of names.

use crate::support::booted::{Booted, Names};

/// What truename alone knows.
const ZONE: &str =
    "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"@\", type = \"A\", value = \"10.0.0.1\" }]\n";
/// The resolver of the network, which DHCP would have told of, in a network of its own behind the link d0: it knows the
/// office's names and answers for no other.
const OFFICE: &str = "ip netns add office && ip link add d0 type veth peer name d1 netns office && \
    ip addr add 10.53.0.2/24 dev d0 && ip link set d0 up && ip route add default via 10.53.0.1 dev d0 && \
    ip -n office link set lo up && ip -n office addr add 10.53.0.1/24 dev d1 && ip -n office link set d1 up && \
    mkdir -p /office && printf '[[zone]]\\nname = \"office.example\"\\nrecords = [{ name = \"www\", type = \"A\", \
    value = \"10.99.0.1\" }]\\n[server.access]\\nallow = [\"10.53.0.0/24\"]\\n[cache]\\npersist = false\\n[stats]\\nsocket = \"off\"\\ncontrol = \"off\"\\n' \
    > /office/office.toml && \
    systemd-run --quiet --unit=office -p NetworkNamespacePath=/run/netns/office truename run --config /office/office.toml --listen 10.53.0.1:53";

const SERVING: &str = "truename.socket truename-stats.socket truename-control.socket truename.service";

const KILL: &str = "systemctl kill --kill-who=main -s KILL truename.service";

/// A machine in an office, with truename installed and not started.
pub(crate) fn machine(names: Names) -> Option<Booted> {
    let machine = Booted::boot_with(names, ZONE)?;
    machine.sh(OFFICE);
    match names {
        Names::Resolved => {
            machine.sh("resolvectl dns d0 10.53.0.1 && resolvectl domain d0 office.example");
        }
        Names::File => {}
        Names::NetworkManager => {
            machine.sh(
                "nmcli device set d0 managed yes; nmcli -w 20 connection add type ethernet ifname d0 con-name office \
                 ipv4.method manual ipv4.addresses 10.53.0.2/24 ipv4.gateway 10.53.0.1 ipv4.dns 10.53.0.1 \
                 ipv4.dns-search office.example ipv6.method disabled && nmcli -w 20 connection up office",
            );
        }
        Names::Resolvconf | Names::Openresolv => {
            machine.sh("printf 'search office.example\\nnameserver 10.53.0.1\\n' | resolvconf -a d0.dhclient");
        }
    }
    machine.patiently("the office answers", || machine.address("www.office.example") == "10.99.0.1");
    assert_eq!(machine.address("lab.example"), "", "nobody knows our zone yet");
    Some(machine)
}

impl Booted {
    /// What a program is told.
    pub(crate) fn address(&self, name: &str) -> String {
        let said = String::from_utf8(self.run(&format!("getent ahostsv4 {name}")).stdout).unwrap();
        said.split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// Our names and those of the office are answered.
    pub(crate) fn is_taken(&self) -> bool {
        self.address("lab.example") == "10.0.0.1" && self.address("www.office.example") == "10.99.0.1"
    }

    /// Names are where they were before.
    pub(crate) fn is_as_before(&self) -> bool {
        self.address("www.office.example") == "10.99.0.1" && self.address("lab.example").is_empty()
    }

    #[track_caller]
    pub(crate) fn must_be_taken(&self, when: &str) {
        assert!(self.is_taken(), "not taken {when}\n{}", self.account());
    }

    #[track_caller]
    pub(crate) fn must_be_as_before(&self, when: &str) {
        assert!(self.is_as_before(), "not as before {when}\n{}", self.account());
    }

    /// What must come back byte for byte: what is there, with modes, owners and times, where links lead, and every text.
    /// NetworkManager and openresolv write their file anew, with the same text.
    pub(crate) fn files(&self, names: Names) -> String {
        let writes = matches!(names, Names::NetworkManager | Names::Openresolv);
        let stat = if writes { "%n %N %a %U" } else { "%n %N %a %U %i %y" };
        self.sh(&format!(
            "cd /etc && stat -c '{stat}' resolv.conf* && cat resolv.conf; ls -d /run/NetworkManager/conf.d/* \
             /run/resolvconf/interface/* /run/resolvconf/interfaces/* /sys/class/net/* 2>/dev/null; true"
        ))
    }

    /// What `/stats` says of it is as published, and `/metrics` agrees.
    #[track_caller]
    fn must_report(&self, method: &str) {
        let report = serde_json::from_str(&self.sh("truename stats --json")).unwrap();
        crate::control::assert_sound(&report, &crate::control::validator());
        let system = &report["system"];
        assert_eq!((&system["takeover"], &system["method"]), (&"active".into(), &method.into()), "{system:#}");
        assert!(system["text"].as_str().unwrap().starts_with("taken over ("), "{system:#}");
        assert!(self.sh("truename metrics").contains(&format!("truename_takeover_active{{method=\"{method}\"}} 1\n")));
    }

    pub(crate) fn unit(&self, property: &str, unit: &str) -> String {
        self.sh(&format!("systemctl show --value -p {property} {unit}")).trim().to_owned()
    }
}

/// Up; every way the daemon can end; down.
fn whole_life(names: Names, method: &str) {
    let Some(machine) = machine(names) else { return };
    let before = machine.files(names);
    let plan = machine.sh("truename up --dry-run");
    assert!(plan.contains("10.53.0.1"), "{plan}");
    let said = machine.sh("truename up --yes");
    assert!(said.contains(&format!("taken over ({method})")), "{said}");
    machine.must_be_taken("after up");
    assert!(machine.sh("truename status --why").contains(&format!("taken over ({method})")));
    machine.must_report(match method {
        "resolved" => "link",
        "network-manager" => "drop-in",
        other => other,
    });
    // Said again, it is the same.
    machine.sh("truename up --yes");
    machine.must_be_taken("after up");

    machine.sh("systemctl restart truename.service");
    machine.must_be_taken("after a restart");
    machine.sh(KILL);
    machine.patiently("it is taken again after a crash", || machine.is_taken());

    machine.sh("systemctl stop truename.socket truename.service");
    machine.must_be_as_before("after a stop");
    assert_eq!(machine.files(names), before, "after a stop");
    machine.sh("systemctl start truename.service");
    machine.patiently("it is taken again with the daemon", || machine.is_taken());

    // A crash loop to the start limit.
    machine.patiently("the start limit is reached", || {
        machine.run(KILL);
        machine.unit("ActiveState", "truename.service") == "failed"
    });
    machine.patiently("names are back after it has failed for good", || machine.is_as_before());
    machine.patiently("files are back after it has failed for good", || machine.files(names) == before);

    machine.sh("systemctl reset-failed; systemctl start truename.socket truename.service");
    machine.patiently("it is taken again", || machine.is_taken());
    let said = machine.sh("truename down");
    assert!(said.contains("where they were before"), "{said}");
    assert!(machine.sh("truename down").contains("There was nothing to undo"));
    machine.must_be_as_before("after down");
    assert_eq!(machine.files(names), before, "after down");
    machine.sh("systemctl restart truename.service");
    machine.must_be_as_before("after down and a restart");
    assert_eq!(machine.sh("ls /var/lib/truename-takeover"), "");
}

#[test]
fn a_trial_is_neither_over_at_once_nor_never() {
    for time in ["1s", "25h", "soon"] {
        let output = crate::support::daemon::run(&["up", "--try", time]);
        assert_eq!(output.status.code(), Some(2), "{time}");
    }
}

#[test]
fn a_machine_with_systemd_resolved_is_taken_over_and_given_back() {
    whole_life(Names::Resolved, "resolved");
}

#[test]
fn a_machine_with_a_plain_file_is_taken_over_and_given_back() {
    whole_life(Names::File, "file");
}

#[test]
fn a_machine_with_network_manager_is_taken_over_and_given_back() {
    whole_life(Names::NetworkManager, "network-manager");
}

#[test]
fn a_machine_with_resolvconf_is_taken_over_and_given_back() {
    whole_life(Names::Resolvconf, "resolvconf");
}

#[test]
fn a_machine_with_openresolv_is_taken_over_and_given_back() {
    whole_life(Names::Openresolv, "resolvconf");
}

/// What is said when it does not go: with status and all.
pub(crate) fn refused(machine: &Booted, command: &str) -> (i32, String) {
    let output = machine.run(command);
    let said = [output.stdout, output.stderr].map(|octets| String::from_utf8(octets).unwrap()).concat();
    (output.status.code().unwrap(), said)
}

#[test]
fn a_trial_gives_names_back_by_itself_unless_it_is_kept() {
    let Some(machine) = machine(Names::Resolved) else { return };
    let before = machine.files(Names::Resolved);
    let said = machine.sh("truename up --yes --try 1h");
    assert!(said.contains("on trial until") && said.contains("truename up --keep"), "{said}");
    machine.must_be_taken("after up");
    // A crash does not end it, and no boot would begin it again.
    machine.sh(KILL);
    machine.patiently("it is taken again after a crash", || machine.is_taken());
    let wanted_by = "ls /etc/systemd/system/truename.service.wants/truename-takeover.service";
    assert!(!machine.run(wanted_by).status.success());
    let timer = machine.sh("systemctl show -p TimersMonotonic -p TimersCalendar truename-trial.timer");
    assert!(timer.contains("OnActiveUSec=1h") && timer.contains("OnCalendar="), "{timer}");
    // What the timer does when its time has come.
    machine.sh("systemctl start truename-trial.service");
    machine.patiently("it has ended by itself", || machine.is_as_before());
    // Names are back before the command is through, and another one is refused until then.
    machine.patiently("its end is over", || machine.unit("ActiveState", "truename-trial.service") != "active");
    assert_eq!(machine.files(Names::Resolved), before);
    assert_eq!(refused(&machine, "truename up --keep").0, 1, "there is nothing to keep");

    // One that was permanent before is a trial as well.
    machine.sh("truename up --yes && truename up --yes --try 1h");
    assert!(!machine.run(wanted_by).status.success());
    machine.sh("truename up --keep");
    machine.must_be_taken("after it was kept");
    machine.sh(wanted_by);
    assert_eq!(machine.unit("ActiveState", "truename-trial.timer"), "inactive");
    assert!(!machine.sh("truename status").contains("on trial"));
    machine.sh("truename down");
    assert_eq!(machine.files(Names::Resolved), before);
}

#[test]
fn after_the_power_went_a_boot_finds_its_names_again() {
    let Some(machine) = machine(Names::File) else { return };
    // Without inodes and times: what a disk holds is played back here by copies.
    let before = machine.files(Names::Openresolv);
    let loss = "cp -a /etc/resolv.conf /etc/resolv.conf.before-truename /root && cp -a /var/lib/truename-takeover /root && \
                systemctl stop truename.socket truename.service && \
                cp -a /root/resolv.conf* /etc && cp -a /root/truename-takeover/. /var/lib/truename-takeover && \
                sed -i 's/\"boot\": \"[^\"]*/\"boot\": \"another/' /var/lib/truename-takeover/takeover.json";
    machine.sh("truename up --yes");
    machine.sh(loss);
    assert_eq!(machine.address("www.office.example"), "", "the file names a daemon that is not there");
    machine.sh("systemctl disable --quiet truename.socket truename.service; systemctl start truename-rescue.service");
    machine.must_be_as_before("after the rescue");
    assert_eq!(machine.files(Names::Openresolv), before);

    // With the daemon enabled it is taken over as before, and what was before is still known.
    machine.sh("truename up --yes");
    machine.sh(loss);
    machine.sh("systemctl start truename.socket truename.service truename-rescue.service");
    machine.patiently("it is taken", || machine.is_taken());
    machine.sh("truename down");
    assert_eq!(machine.files(Names::Openresolv), before);
}

#[test]
fn what_somebody_else_wrote_is_left_to_them_and_the_next_time_begins_from_theirs() {
    let Some(machine) = machine(Names::File) else { return };
    machine.sh("truename up --yes");
    machine.sh("printf '# theirs\\nnameserver 10.53.0.1\\n' > /etc/resolv.conf");
    let theirs = machine.sh("stat -c '%i %y' /etc/resolv.conf; cat /etc/resolv.conf; echo /etc/resolv.conf");
    machine.sh("systemctl stop truename.socket truename.service");
    let there = "stat -c '%i %y' /etc/resolv.conf; cat /etc/resolv.conf; ls /etc/resolv.conf*";
    assert_eq!(machine.sh(there), theirs);
    machine.sh("truename up --yes");
    machine.must_be_taken("after up");
    machine.sh("truename down");
    assert_eq!(machine.sh(there), theirs);
}

#[test]
fn a_resolv_conf_that_is_written_again_and_again_is_not_fought_for() {
    let Some(machine) = machine(Names::File) else { return };
    machine.sh("truename up --yes");
    let write = |n: u32| {
        machine.sh(&format!("printf '# lease {n}\\nnameserver 10.53.0.1\\n' > /etc/resolv.conf.new && mv /etc/resolv.conf.new /etc/resolv.conf"))
    };
    // While it is being taken again systemd does not watch it; what comes then is seen by a last look.
    let is_ours = || {
        machine.sh("cat /etc/resolv.conf").starts_with("# managed by truename")
            && machine.unit("ActiveState", "truename-reclaim.service") == "inactive"
    };
    for n in 0..10 {
        write(n);
        machine.patiently("it is taken again", is_ours);
    }
    machine.must_be_taken("after up");
    assert!(machine.sh("truename status").contains("taken again 10 times"), "{}", machine.sh("truename status"));
    write(10);
    machine.patiently("it is left", || machine.unit("Result", "truename-reclaim.service") == "exit-code");
    machine.must_be_as_before("after it was left");
    assert_eq!(machine.sh("cat /etc/resolv.conf"), "# lease 10\nnameserver 10.53.0.1\n");
    assert!(machine.sh("journalctl --no-pager -u truename-reclaim").contains("goes on writing"));
    // Who says it again begins anew; what comes back is the last lease.
    machine.sh("truename up --yes");
    write(11);
    machine.patiently("it is taken again", || is_ours() && machine.is_taken());
    machine.sh("truename down");
    assert_eq!(machine.sh("cat /etc/resolv.conf"), "# lease 11\nnameserver 10.53.0.1\n");
    assert!(!machine.run("ls /etc/resolv.conf.before-truename").status.success());
}

#[test]
fn a_take_over_that_does_not_work_is_undone_and_says_why() {
    let Some(machine) = machine(Names::File) else { return };
    let before = machine.files(Names::File);
    let untouched = |what: &str| {
        assert_eq!(machine.files(Names::File), before, "{what}");
        machine.must_be_as_before(what);
        let enabled = machine.run(&format!("systemctl is-enabled {SERVING} truename-takeover truename-rescue")).stdout;
        assert_eq!(String::from_utf8(enabled).unwrap(), "disabled\n".repeat(6), "{what}");
        let active = machine.run(&format!("systemctl is-active {SERVING}")).stdout;
        assert_eq!(String::from_utf8(active).unwrap(), "inactive\n".repeat(4), "{what}");
        assert_eq!(machine.sh("ls -d /var/lib/truename-takeover/* 2>/dev/null; true"), "", "{what}");
    };
    // Whoever is not root sees the plan and how to do it.
    let (status, said) =
        refused(&machine, "setpriv --reuid=nobody --regid=nogroup --clear-groups truename up --method file --try 5m");
    assert_eq!(status, 77, "{said}");
    assert!(
        said.contains("Plan for this machine") && said.contains("sudo truename up --method file --try 5m"),
        "{said}"
    );

    machine.sh("chattr +i /etc/resolv.conf");
    let (status, said) = refused(&machine, "truename up --yes");
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("sudo chattr -i /etc/resolv.conf"), "{said}");
    machine.sh("chattr -i /etc/resolv.conf");
    untouched("immutable");

    // Somebody else holds the port.
    machine.sh("systemd-run --quiet --unit=other systemd-socket-activate --datagram --listen=127.0.0.1:53 sleep 1000");
    machine.patiently("the port is held", || machine.sh("cat /proc/net/udp").contains("0100007F:0035"));
    let (status, said) = refused(&machine, "truename up --yes");
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("port 53 of 127.0.0.1 is held by pid"), "{said}");
    machine.sh("systemctl stop other");
    untouched("another program on the port");

    // Programs that do not ask the DNS at all: the canary does not come back.
    machine.sh("cp /etc/nsswitch.conf /root && sed -i 's/^hosts:.*/hosts: files/' /etc/nsswitch.conf");
    let (status, said) = refused(&machine, "truename up --yes");
    assert_eq!(status, 1, "{said}");
    assert!(
        said.contains("looking a name up does not lead to truename") && said.contains("everything was undone"),
        "{said}"
    );
    machine.sh("cp /root/nsswitch.conf /etc");
    untouched("the canary did not come back");

    machine.sh("truename up --yes");
    machine.must_be_taken("after up");
}

#[test]
fn a_machine_without_any_link_is_taken_over_as_well() {
    for names in [Names::Resolved, Names::File] {
        let Some(machine) = machine(names) else { return };
        let before = machine.files(names);
        machine.sh("ip link set d0 down");
        machine.sh("truename up --yes");
        assert!(machine.sh("getent hosts lab.example").starts_with("10.0.0.1 "));
        machine.sh("truename down && ip link set d0 up && ip route add default via 10.53.0.1 dev d0");
        assert_eq!(machine.files(names), before);
    }
}

#[test]
fn a_take_over_that_fails_at_a_boot_is_tried_again() {
    let Some(machine) = machine(Names::File) else { return };
    machine.sh("truename up --yes && systemctl stop truename.socket truename.service");
    machine.sh("cp /etc/nsswitch.conf /root && sed -i 's/^hosts:.*/hosts: files/' /etc/nsswitch.conf");
    machine.sh("systemctl start truename.socket truename.service");
    machine.patiently("it has failed and waits", || {
        machine.unit("SubState", "truename-takeover.service") == "auto-restart"
    });
    machine.sh("cp /root/nsswitch.conf /etc");
    machine.must_be_as_before("while it waits");
    machine.patiently("it is taken over", || machine.is_taken());
    // Nothing is tried when the daemon has been stopped.
    machine.sh("sed -i 's/^hosts:.*/hosts: files/' /etc/nsswitch.conf && systemctl restart truename-takeover; true");
    machine.patiently("it waits", || machine.unit("SubState", "truename-takeover.service") == "auto-restart");
    machine.sh("systemctl stop truename.socket truename.service");
    assert_ne!(machine.unit("ActiveState", "truename-takeover.service"), "activating");
}

#[test]
fn two_commands_at_once_do_not_undo_each_other() {
    let Some(machine) = machine(Names::File) else { return };
    let before = machine.files(Names::File);
    // Whoever comes second is told of the first; one that gives back waits for it.
    let hold = "systemd-run --quiet --unit=other flock --no-fork --exclusive /run/truename-up.lock sh -c 'touch /run/held; sleep HOW'";
    machine.sh(&hold.replace("HOW", "1000"));
    machine.patiently("it is held", || machine.run("ls /run/held").status.success());
    for command in ["truename up --yes", "truename up --keep"] {
        let (status, said) = refused(&machine, command);
        assert_eq!(status, 1, "{said}");
        assert!(said.contains("another truename is changing where the names of this machine go"), "{said}");
    }
    machine.sh("systemctl stop other; rm /run/held");
    assert_eq!(machine.files(Names::File), before);

    // Ten at once, of which some are refused, and as many ways back: at the end one of them has had its way whole.
    let many =
        "for i in 0 1 2 3 4 5 6 7 8 9; do truename up --yes >/dev/null 2>&1 & truename down --quiet & done; wait";
    machine.sh(many);
    machine.sh("truename up --yes");
    machine.must_be_taken("after many at once");
    machine.sh("truename down");
    assert_eq!(machine.files(Names::File), before);
}

#[test]
fn a_full_disk_keeps_nobody_from_giving_names_back() {
    let Some(machine) = machine(Names::File) else { return };
    machine.sh("mount -t tmpfs -o size=16m tmpfs /mnt && cp -a /etc/. /mnt && mount --bind /mnt /etc");
    let before = machine.files(Names::File);
    let fill = "dd if=/dev/zero of=/etc/fill bs=4k 2>/dev/null; true";
    machine.sh("systemctl daemon-reload && truename up --yes && truename down && rm -f /etc/fill");
    machine.sh(fill);
    let (status, said) = refused(&machine, "truename up --yes --method file");
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(machine.sh("ls /etc/resolv.conf*"), "/etc/resolv.conf\n");
    machine.sh("rm /etc/fill && truename up --yes");
    machine.must_be_taken("after up");
    machine.sh(fill);
    machine.sh("systemctl stop truename.socket truename.service");
    let journal = || machine.sh("journalctl --no-pager -o cat -u 'truename*' | grep -v level");
    if !machine.is_as_before() {
        // The unit's own release may have failed; another one follows.
        let first = journal();
        machine.patiently(&format!("names are given back: {}{first}", machine.files(Names::File)), || {
            machine.is_as_before()
        });
    }
    machine.sh("rm /etc/fill");
    assert_eq!(machine.files(Names::File), before);
}

#[test]
fn a_release_that_cannot_run_is_followed_by_another() {
    let Some(machine) = machine(Names::File) else { return };
    let before = machine.files(Names::File);
    machine.sh("truename up --yes");
    machine.must_be_taken("after up");
    machine.sh(
        "mkdir -p /run/systemd/system/truename-takeover.service.d && \
         printf '[Service]\nExecStopPost=\nExecStopPost=/bin/false\n' > /run/systemd/system/truename-takeover.service.d/fail.conf && \
         systemctl daemon-reload && systemctl stop truename.socket truename.service",
    );
    machine.patiently("names are given back", || machine.is_as_before());
    assert_eq!(machine.files(Names::File), before);
}

#[test]
fn a_vpns_names_stay_with_the_vpn() {
    let Some(machine) = machine(Names::Resolved) else { return };
    let vpn = OFFICE
        .split("ip route add default via 10.53.0.1 dev d0 && ")
        .collect::<String>()
        .replace("office", "corp")
        .replace("10.53.", "10.54.")
        .replace("d0", "v0")
        .replace("d1", "v1")
        .replace("10.99.0.1", "10.98.0.1");
    machine.sh(&vpn);
    machine.sh("resolvectl dns v0 10.54.0.1 && resolvectl domain v0 '~corp.example'");
    machine.patiently("the vpn answers", || machine.address("www.corp.example") == "10.98.0.1");
    let plan = machine.sh("truename up --dry-run");
    assert!(plan.contains("names below corp.example go on to v0"), "{plan}");
    machine.sh("truename up --yes");
    machine.must_be_taken("after up");
    assert_eq!(machine.address("www.corp.example"), "10.98.0.1");
    // Asked of truename itself they are not there: it was the vpn's server that answered.
    assert_eq!(machine.sh("dig +short @127.0.0.1 www.corp.example"), "");
    // A second link that claims all names is told of.
    machine.sh("resolvectl domain v0 '~.'");
    let plan = machine.sh("truename up --dry-run");
    assert!(plan.contains("v0 claims all names as well"), "{plan}");
}
