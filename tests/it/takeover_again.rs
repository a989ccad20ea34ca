//! What becomes of names when `truename up`, `down` or a unit of theirs fails on its way: it is tried again, and what belongs to
//! another machine is left alone.

use crate::support::booted::{Booted, Names};
use crate::takeover::{machine, refused};

/// Puts what `truename down` gives back out of its reach, and back.
const HIDE: &str = "mv /etc/resolv.conf.before-truename /root";
const SHOW: &str = "mv /root/resolv.conf.before-truename /etc";
/// Programs ask no resolver at all: no canary comes back.
const NO_DNS: &str = "cp /etc/nsswitch.conf /root && sed -i 's/^hosts:.*/hosts: files/' /etc/nsswitch.conf";
const DNS: &str = "cp /root/nsswitch.conf /etc";
/// Has another command be at it, which waits to be told to end.
const HOLD: &str = "systemd-run --quiet --unit=other flock --no-fork --exclusive /run/truename-up.lock sleep 1000";

impl Booted {
    /// Waits until a unit has failed and is to be started again.
    #[track_caller]
    fn must_try_again(&self, unit: &str) {
        self.patiently(&format!("{unit} has failed and waits"), || self.unit("SubState", unit) == "auto-restart");
    }
}

#[test]
fn the_end_of_a_trial_is_tried_until_it_is_done() {
    let Some(machine) = machine(Names::File) else { return };
    let before = machine.files(Names::File);
    machine.sh("truename up --yes --try 1h");
    machine.must_be_taken("after up");
    machine.sh(HIDE);
    // What the timer does when its time has come.
    machine.sh("systemctl start --no-block truename-trial.service");
    machine.must_try_again("truename-trial.service");
    machine.must_be_taken("while names cannot be given back");
    machine.sh(SHOW);
    machine.patiently("it has ended", || machine.is_as_before());
    machine.patiently("its end is over", || machine.unit("LoadState", "truename-trial.service") == "not-found");
    assert_eq!(machine.files(Names::File), before);

    // Whoever gives names back by hand, or begins another trial, ends the tries.
    machine.sh(&format!("truename up --yes --try 1h && {HIDE} && systemctl start --no-block truename-trial.service"));
    machine.must_try_again("truename-trial.service");
    machine.sh(&format!("{SHOW} && truename up --yes --try 2h"));
    assert_eq!(machine.unit("ActiveState", "truename-trial.service"), "inactive");
    assert_eq!(machine.unit("ActiveState", "truename-trial.timer"), "active");
    machine.must_be_taken("in the second trial");
    machine.sh("truename down");
    assert_eq!(machine.unit("LoadState", "truename-trial.timer"), "not-found");
    assert_eq!(machine.files(Names::File), before);
}

#[test]
fn a_trial_that_was_kept_while_its_end_waited_is_not_ended() {
    let Some(machine) = machine(Names::File) else { return };
    machine.sh("truename up --yes --try 1h");
    machine.sh(HOLD);
    machine.patiently("it is held", || !machine.run("flock --nonblock /run/truename-up.lock true").status.success());
    machine.sh("systemctl start --no-block truename-trial.service");
    machine.patiently("its end waits", || machine.unit("ActiveState", "truename-trial.service") == "active");
    // What `truename up --keep` writes, which here is whoever holds the lock.
    machine.sh(r#"sed -i 's/"trial_until":"[^"]*"//' /var/lib/truename-takeover/wish.json"#);
    machine.sh("systemctl stop other");
    machine.patiently("its end is over", || machine.unit("ActiveState", "truename-trial.service") == "inactive");
    machine.must_be_taken("after it was kept");
    machine.sh("truename up --keep");
    // One that ends another trial does nothing.
    machine.sh("truename down --trial-end 2026-01-01T00:00:00Z");
    machine.must_be_taken("after the end of another trial");
}

#[test]
fn what_gives_names_back_at_the_last_is_tried_again() {
    let Some(machine) = machine(Names::File) else { return };
    let before = machine.files(Names::File);
    // Stopped, and the release fails twice.
    machine.sh(&format!("truename up --yes && {HIDE}"));
    machine.run("systemctl stop truename.socket truename.service");
    machine.must_try_again("truename-release-again.service");
    machine.sh(SHOW);
    machine.patiently("names are given back", || machine.is_as_before());
    assert_eq!(machine.files(Names::File), before);

    // Failed for good.
    machine.sh("systemctl start truename.socket truename.service");
    machine.patiently("it is taken again", || machine.is_taken());
    machine.sh(HIDE);
    machine.patiently("the start limit is reached", || {
        machine.run("systemctl kill --kill-who=main -s KILL truename.service");
        machine.unit("ActiveState", "truename.service") == "failed"
    });
    machine.must_try_again("truename-release.service");
    machine.sh(SHOW);
    machine.patiently("names are given back", || machine.is_as_before());
    assert_eq!(machine.files(Names::File), before);

    // Where names were taken over anew before it came to that, they are left so.
    machine.sh("systemctl reset-failed; systemctl start truename.socket truename.service");
    machine.patiently("it is taken again", || machine.is_taken());
    for unit in ["truename-release.service", "truename-release-again.service"] {
        machine.sh(&format!("systemctl start {unit}"));
        machine.must_be_taken(unit);
    }
}

/// Names were taken, then the power went: what is on disk comes back, what is below /run does not.
fn after_the_power_went(names: Names, gone: &str, starts: &str) {
    let Some(machine) = machine(names) else { return };
    let loss = format!(
        "rm -rf /root/etc; mkdir /root/etc; cp -a /etc/resolv.conf* /root/etc && cp -a /var/lib/truename-takeover /root && \
         systemctl stop truename.socket truename.service && cp -a /root/etc/. /etc && \
         cp -a /root/truename-takeover/. /var/lib/truename-takeover && \
         sed -i 's/\"boot\": \"[^\"]*/\"boot\": \"another/' /var/lib/truename-takeover/takeover.json && {gone}"
    );
    let before = machine.files(names);
    machine.sh("truename up --yes");
    machine.must_be_taken("after up");
    machine.sh(&format!("{loss}; systemctl disable --quiet truename.socket truename.service"));
    // In either order, as at a boot.
    for order in
        [["systemctl start truename-rescue.service", starts], [starts, "systemctl start truename-rescue.service"]]
    {
        for script in order {
            machine.sh(script);
        }
        machine.patiently("the office answers", || machine.is_as_before());
        assert!(!machine.sh("cat /etc/resolv.conf").contains("127.0.0.1"), "{}", machine.account());
        machine.patiently("it is as it was", || machine.files(names) == before);
        assert!(!machine.run("ls /var/lib/truename-takeover/takeover.json").status.success());

        machine.sh("truename up --yes");
        machine.must_be_taken("after up");
        machine.sh(&loss);
    }
    // With the daemon enabled it is taken over as before, and what was before is still known.
    machine.sh(starts);
    machine.sh("systemctl start truename.socket truename.service truename-rescue.service");
    machine.patiently("it is taken", || machine.is_taken());
    machine.sh("truename down");
    machine.patiently("it is as it was after down", || machine.files(names) == before);
}

#[test]
fn after_the_power_went_network_manager_writes_its_file_again() {
    after_the_power_went(
        Names::NetworkManager,
        "rm -rf /run/NetworkManager/conf.d",
        "systemctl restart NetworkManager && nm-online --quiet --timeout=20",
    );
}

#[test]
fn after_the_power_went_openresolv_names_us_no_more() {
    after_the_power_went(
        Names::Openresolv,
        "rm -rf /run/resolvconf",
        "printf 'search office.example\\nnameserver 10.53.0.1\\n' | resolvconf -a d0.dhclient",
    );
}

#[test]
fn openresolv_without_any_interface_has_its_file_back_after_the_power_went() {
    let Some(machine) = machine(Names::Openresolv) else { return };
    machine.sh("truename up --yes && cp -a /etc/resolv.conf /var/lib/truename-takeover /root");
    machine.sh(
        "systemctl stop truename.socket truename.service && rm -rf /run/resolvconf && cp -a /root/resolv.conf /etc && \
         cp -a /root/truename-takeover/. /var/lib/truename-takeover",
    );
    assert!(machine.sh("cat /etc/resolv.conf").contains("127.0.0.1"));
    machine.sh("systemctl start truename-rescue.service");
    assert!(!machine.sh("cat /etc/resolv.conf").contains("127.0.0.1"), "{}", machine.account());
}

#[test]
fn a_lease_at_a_bad_moment_ends_no_take_over_and_is_told_of() {
    let Some(machine) = machine(Names::File) else { return };
    let before = machine.files(Names::File);
    machine.sh("truename up --yes");
    machine.sh(NO_DNS);
    machine.sh(
        "printf '# lease\\nnameserver 10.53.0.1\\n' > /etc/resolv.conf.new && mv /etc/resolv.conf.new /etc/resolv.conf",
    );
    machine.must_try_again("truename-takeover.service");
    assert_eq!(machine.sh("cat /etc/resolv.conf"), "# lease\nnameserver 10.53.0.1\n");
    let why = "not taken over: looking a name up does not lead to truename";
    for command in ["truename status", "truename status --why", "truename stats --json"] {
        assert!(machine.sh(command).contains(why), "{command}\n{}", machine.sh(command));
    }
    assert!(machine.sh("truename metrics").contains("truename_takeover_active{method=\"none\"} 0\n"));
    machine.sh(DNS);
    machine.patiently("it is taken again", || machine.is_taken());
    assert!(!machine.sh("truename status").contains("not taken over"));
    // Who gives names back meanwhile has them.
    machine.sh(NO_DNS);
    machine.run("systemctl restart truename-takeover.service");
    machine.must_try_again("truename-takeover.service");
    machine.sh(&format!("truename down; {DNS}"));
    machine.must_be_as_before("after down");
    assert_eq!(machine.sh("ls /var/lib/truename-takeover; cat /etc/resolv.conf"), "# lease\nnameserver 10.53.0.1\n");
    assert_ne!(machine.files(Names::File), before, "the lease's own file is what was given back");
}

/// A folder in which somebody works by chroot, as packages and images are built in: it has the machine's programs and network, a
/// copy of its /etc, and nothing that was ever taken over in it.
const FOLDER: &str = "mkdir /folder && mount -t tmpfs tmpfs /folder && mount --make-private /folder && cd /folder && \
    mkdir -p usr var/lib run proc tmp && for part in bin sbin lib lib64; do ln -s usr/$part $part; done && \
    mount --bind /usr usr && mount --make-private usr && mount --bind /usr/bin/truename usr/bin/truename && cp -a /etc etc && \
    rm -f etc/resolv.conf.before-truename && ([ ! -L etc/resolv.conf ] || \
    (mkdir -p run/systemd/resolve && cp /etc/resolv.conf run/systemd/resolve/stub-resolv.conf))";

#[test]
fn in_a_folder_of_the_machine_its_names_are_nobodys_business() {
    for names in [Names::Resolved, Names::File, Names::NetworkManager] {
        let Some(machine) = machine(names) else { return };
        machine.sh("truename up --yes");
        let taken = machine.files(names);
        machine.sh(FOLDER);
        for more in ["true", "mount -t proc proc /folder/proc", "mount --rbind /run /folder/run"] {
            let (status, said) = refused(&machine, &format!("{more} && chroot /folder truename down --quiet"));
            assert_eq!(status, 0, "{names:?} {more}: {said}");
            assert_eq!(said.contains("a truename of another machine"), names != Names::Resolved, "{said}");
            machine.must_be_taken(more);
            assert_eq!(machine.files(names), taken, "{names:?} {more}");
            assert_eq!(machine.unit("ActiveState", "truename-takeover.service"), "active");
        }
        machine.sh("truename down");
        machine.must_be_as_before("after down");
    }
}
