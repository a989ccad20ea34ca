//! The packages, installed on real machines: they answer, are upgraded without a lost question, and leave no trace.

use crate::support::booted::Booted;
use crate::support::packages::{Packages, build, pages};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// What truename alone knows.
const ZONE: &str =
    "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"@\", type = \"A\", value = \"10.0.0.1\" }]\n";
/// The resolver of the network, to which the machine's resolv.conf leads before anything is installed. It has a network of its own.
const OFFICE: &str = "ip netns add office && ip link add d0 type veth peer name d1 netns office && \
    ip addr add 10.53.0.2/24 dev d0 && ip link set d0 up && ip -n office link set lo up && \
    ip -n office addr add 10.53.0.1/24 dev d1 && ip -n office link set d1 up && \
    printf '[[zone]]\\nname = \"office.example\"\\nrecords = [{ name = \"www\", type = \"A\", value = \"10.99.0.1\" }]\\n\
    [server.access]\\nallow = [\"10.53.0.0/24\"]\\n[cache]\\npersist = false\\n[stats]\\nsocket = \"off\"\\ncontrol = \"off\"\\n' \
    > /office.toml && \
    systemd-run --quiet --unit=office -p NetworkNamespacePath=/run/netns/office /office/truename run --config /office.toml \
    --listen 10.53.0.1:53";
/// Every path of the machine with what it is, and the text of what is in /etc; left out is what packages' tools and the first
/// process keep for themselves.
const TRACE: &str = "cd / && find bin boot etc home lib* opt root sbin srv usr var run/truename* -xdev \
    \\( -path var/lib/dpkg -o -path var/lib/rpm -o -path root/.rpmdb -o -path var/log -o -path var/cache -o -path var/tmp \
    -o -path var/lib/systemd/timers -o -path etc/.pwd.lock -o -name '*-' -path 'etc/*' \\) -prune -o \
    \\( -type d -printf '%p/ %m %u %g\\n' -o -printf '%p %m %u %g %s %l\\n' \\) 2>/dev/null | LC_ALL=C sort; \
    find var/log -name '*truename*'; find etc -type f ! -name '*-' ! -name .pwd.lock -exec sha256sum {} + | LC_ALL=C sort -k 2";
/// Asks so many questions one after the other, one try of 2 s each; at some of them something is done. Prints how many were
/// answered.
const ASK: &str = "ok=0; for i in $(seq COUNT); do case $i in EVENTS esac; \
                   [ \"$(dig +short +tries=1 +time=2 @127.0.0.1 lab.example)\" = 10.0.0.1 ] && ok=$((ok+1)); done; echo $ok";

impl Booted {
    fn asked(&self, count: u32, events: &str) -> String {
        self.sh(&ASK.replace("COUNT", &count.to_string()).replace("EVENTS", events)).trim().to_owned()
    }

    /// What a program is told.
    fn told(&self, name: &str) -> String {
        let said = String::from_utf8(self.run(&format!("getent ahostsv4 {name}")).stdout).unwrap();
        said.split_whitespace().next().unwrap_or_default().to_owned()
    }

    fn resolv_conf(&self) -> String {
        self.sh("stat -c '%n %N %a %U %i %y' /etc/resolv.conf*; cat /etc/resolv.conf")
    }
}

/// Compares what `TRACE` said before and after, line by line.
fn assert_no_trace(before: &str, after: &str) {
    let (was, is): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    assert!(was.len() > 2000, "{before}");
    let came: Vec<&&str> = is.iter().filter(|line| !was.contains(line)).collect();
    let went: Vec<&&str> = was.iter().filter(|line| !is.contains(line)).collect();
    assert!(came.is_empty() && went.is_empty(), "came: {came:#?}\nwent: {went:#?}");
}

/// A machine in an office, with the packages in /new and nothing of ours installed.
fn machine(packages: &Packages) -> Option<Booted> {
    let machine = Booted::boot_bare(&packages.folder)?;
    machine.sh(OFFICE);
    crate::support::eventually("the office answers", || machine.told("www.office.example") == "10.99.0.1");
    Some(machine)
}

#[test]
fn lintian_finds_no_fault_in_the_deb() {
    let Some(packages) = Packages::made() else { return };
    let deb = packages.package("1", ".deb");
    let lintian = ["--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0"];
    let Ok(output) = Command::new("lintian").args(lintian).arg(&deb).output() else {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "lintian is not here; in CI it must be");
        return;
    };
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert_eq!(said, "");
}

#[test]
fn a_deb_is_installed_answers_is_upgraded_without_a_lost_question_and_leaves_no_trace() {
    let Some(packages) = Packages::made() else { return };
    let Some(machine) = machine(&packages) else { return };
    let (files, names) = (machine.sh(TRACE), machine.resolv_conf());
    machine.sh("dpkg -i /new/1/*.deb 2>&1");
    // Nothing is started before it is asked for: another resolver may have the port.
    assert_eq!(machine.resolv_conf(), names);
    for unit in ["truename.socket", "truename-stats.socket", "truename-control.socket", "truename.service"] {
        assert_eq!(
            machine.sh(&format!("systemctl is-enabled {unit}; systemctl is-active {unit}; true")),
            "disabled\ninactive\n"
        );
    }
    assert_eq!(
        machine.sh("stat -c '%U %G %a' /etc/truename /etc/truename/truename.toml"),
        "root root 755\nroot root 644\n"
    );
    machine.configure(ZONE);
    machine.sh("truename up --yes");
    for unit in ["truename.socket", "truename-stats.socket", "truename-control.socket", "truename.service"] {
        assert_eq!(
            machine.sh(&format!("systemctl is-enabled {unit}; systemctl is-active {unit}")),
            "enabled\nactive\n"
        );
    }
    assert_eq!(
        (machine.told("lab.example"), machine.told("www.office.example")),
        ("10.0.0.1".into(), "10.99.0.1".into())
    );

    // There and back again, while names come to it. The configuration is the user's, and nobody asks about it.
    let process = machine.sh("systemctl show --value -p MainPID truename.service");
    let taken = machine.resolv_conf();
    let events = "100) dpkg -i /new/2/*.deb >/dpkg.log 2>&1;; 250) dpkg -i /new/1/*.deb >>/dpkg.log 2>&1;;";
    assert_eq!(machine.asked(400, events), "400", "{}{}", machine.sh("cat /dpkg.log"), machine.journal());
    assert!(machine.sh("cat /dpkg.log").contains("Unpacking truename (0.1.0-2) over (0.1.0-1)"));
    assert!(machine.sh("dpkg -s truename").contains("Version: 0.1.0-1"));
    assert_ne!(machine.sh("systemctl show --value -p MainPID truename.service"), process, "it was restarted");
    assert_eq!(machine.resolv_conf(), taken, "names came here all the time");
    assert_eq!(machine.told("lab.example"), "10.0.0.1");
    assert!(machine.sh("cat /etc/truename/truename.toml").contains("lab.example"));

    machine.sh("dpkg -r truename 2>&1");
    assert_eq!(machine.resolv_conf(), names, "names are where they were");
    assert_eq!((machine.told("lab.example"), machine.told("www.office.example")), (String::new(), "10.99.0.1".into()));
    assert!(
        machine.sh("cat /etc/truename/truename.toml").contains("lab.example"),
        "a removal keeps what is the user's"
    );
    machine.sh("dpkg -P truename 2>&1; rm /dpkg.log");
    assert_no_trace(&files, &machine.sh(TRACE));
    assert_eq!(
        machine.sh("find /var/lib/dpkg/info -name 'truename*'; getent passwd truename; getent group truename; true"),
        ""
    );
}

/// Local resolvers that many machines have on 127.0.0.1, asking the office.
const RESOLVERS: [(&str, &str); 2] = [
    (
        "unbound",
        "rm -f /etc/unbound/unbound.conf.d/root-auto-trust-anchor-file.conf && \
         printf 'server:\\n module-config: \"iterator\"\\nforward-zone:\\n name: \".\"\\n forward-addr: 10.53.0.1\\n' \
         > /etc/unbound/unbound.conf.d/office.conf",
    ),
    (
        "dnsmasq",
        "printf 'no-resolv\\nserver=10.53.0.1\\nlisten-address=127.0.0.1\\nbind-interfaces\\n' > /etc/dnsmasq.d/office.conf",
    ),
];

#[test]
fn a_deb_beside_another_local_resolver_takes_nothing_from_it_and_up_says_who_it_is() {
    let Some(packages) = Packages::made() else { return };
    for (resolver, configure) in RESOLVERS {
        let Some(machine) = machine(&packages) else { return };
        // It is told whom to ask before it starts.
        machine.sh(&format!("systemctl mask --quiet {resolver}.service && dpkg -i /packages/{resolver}/*.deb 2>&1"));
        machine.sh(configure);
        machine.sh(&format!("systemctl unmask --quiet {resolver}.service && systemctl restart {resolver} && printf 'nameserver 127.0.0.1\\n' > /etc/resolv.conf"));
        let must_work = |when: &str| {
            // More than one: where two share a port, each gets a part of what is asked.
            let asked = "n=0; for i in $(seq 20); do getent ahostsv4 www.office.example >/dev/null && n=$((n+1)); done; echo $n";
            assert_eq!(machine.sh(asked), "20\n", "{resolver} {when}\n{}", machine.account());
        };
        crate::support::eventually("it answers", || machine.told("www.office.example") == "10.99.0.1");
        must_work("alone");
        machine.sh("dpkg -i /new/1/*.deb 2>&1");
        must_work("beside truename");
        machine.sh(&format!("systemctl restart {resolver}"));
        must_work("after its restart");
        let must_be_refused = || {
            let output = machine.run("truename up --yes");
            let said = [output.stdout, output.stderr].map(|octets| String::from_utf8(octets).unwrap()).concat();
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("port 53 of 127.0.0.1 is held by pid "), "{said}");
            assert!(said.contains(&format!("({resolver})")), "{said}");
            assert_eq!(machine.sh("cat /etc/resolv.conf"), "nameserver 127.0.0.1\n");
        };
        must_be_refused();
        must_work("after up was refused");
        let units = "truename.socket truename-stats.socket truename-control.socket truename.service";
        let states = machine.run(&format!("systemctl is-enabled {units}; systemctl is-active {units}"));
        assert_eq!(String::from_utf8(states.stdout).unwrap(), "disabled\n".repeat(4) + &"inactive\n".repeat(4));
        // Somebody starts the sockets by hand: with unbound they get the port as well.
        machine.run("systemctl start truename.socket truename.service");
        must_be_refused();
        machine.sh("systemctl stop truename.socket truename.service; systemctl reset-failed");
        must_work("when the sockets are gone");
        machine.sh("dpkg -i /new/2/*.deb 2>&1 && dpkg -P truename 2>&1");
        must_work("after the removal");
        machine.sh(&format!("systemctl is-active {resolver}"));
    }
}

#[test]
fn a_deb_stays_where_names_cannot_be_given_back_and_goes_when_they_can() {
    let Some(packages) = Packages::made() else { return };
    let Some(machine) = machine(&packages) else { return };
    machine.sh("dpkg -i /new/1/*.deb 2>&1 && truename up --yes");
    machine.sh("mv /etc/resolv.conf.before-truename /root");
    let removed = machine.run("dpkg -r truename 2>&1");
    let said = String::from_utf8(removed.stdout).unwrap();
    assert!(!removed.status.success() && said.contains("resolv.conf.before-truename"), "{said}");
    assert_eq!(machine.told("www.office.example"), "10.99.0.1", "it goes on answering");
    machine.sh("mv /root/resolv.conf.before-truename /etc && dpkg -P truename 2>&1");
    assert_eq!(machine.told("www.office.example"), "10.99.0.1");
    assert_eq!(machine.sh("ls /etc/resolv.conf*"), "/etc/resolv.conf\n");
}

#[test]
fn an_rpm_is_installed_answers_is_upgraded_without_a_lost_question_and_gives_names_back() {
    let Some(packages) = Packages::made() else { return };
    let Some(machine) = machine(&packages) else { return };
    machine.install("rpm");
    // A database of its own beside dpkg's: what the machine has for others is said by a package without files.
    machine.sh(
        "cd /root && rpm -qpR /new/1/*.rpm | grep -v ^rpmlib | sed 's/ >= .*/ = 252/; s/^/Provides: /' > provides && \
         (printf 'Name: base\\nVersion: 1\\nRelease: 1\\nSummary: base\\nLicense: none\\nBuildArch: noarch\\nAutoReqProv: no\\n' && \
         cat provides && printf '%%description\\nbase\\n%%files\\n') > base.spec && \
         rpmbuild -bb --define '_rpmdir /root/rpms' base.spec >/dev/null 2>&1 && rpm -i rpms/*/base*.rpm",
    );
    // Folders that another package has where such packages are usual.
    machine.sh("mkdir -p /usr/share/licenses /usr/share/fish/vendor_completions.d /usr/share/zsh/site-functions");
    let (files, names) = (machine.sh(TRACE), machine.resolv_conf());
    machine.sh("rpm -i /new/1/*.rpm 2>&1");
    assert_eq!(machine.sh("rpm -V truename"), "", "every file is as it was packaged");
    machine.configure(ZONE);
    machine.sh("truename up --yes");
    assert_eq!(
        (machine.told("lab.example"), machine.told("www.office.example")),
        ("10.0.0.1".into(), "10.99.0.1".into())
    );

    let process = machine.sh("systemctl show --value -p MainPID truename.service");
    let events = "100) rpm -U /new/2/*.rpm >/rpm.log 2>&1;; 250) rpm -U --oldpackage /new/1/*.rpm >>/rpm.log 2>&1;;";
    assert_eq!(machine.asked(400, events), "400", "{}{}", machine.sh("cat /rpm.log"), machine.journal());
    // Debian's rpm says each time that it is not the usual way here.
    let said = machine.sh("grep -v ^rpm: /rpm.log; rpm -q truename 2>/dev/null");
    assert_eq!(said, "truename-0.1.0-1.x86_64\n");
    assert_ne!(machine.sh("systemctl show --value -p MainPID truename.service"), process, "it was restarted");
    assert_eq!(machine.told("lab.example"), "10.0.0.1");

    machine.sh("rpm -e truename 2>&1");
    assert_eq!(machine.resolv_conf(), names, "names are where they were");
    assert_eq!((machine.told("lab.example"), machine.told("www.office.example")), (String::new(), "10.99.0.1".into()));
    // As is usual there, what was learned stays, and the user; the configuration that somebody changed is put aside.
    machine.sh(
        "rm /rpm.log /etc/truename/truename.toml.rpmsave && rmdir /etc/truename && rm -r /var/lib/truename /var/lib/truename-takeover \
         /var/log/truename && userdel truename",
    );
    assert_no_trace(&files, &machine.sh(TRACE));
}

#[test]
fn the_tarball_is_installed_on_a_machine_and_leaves_no_trace() {
    let Some(packages) = Packages::made() else { return };
    let Some(machine) = machine(&packages) else { return };
    let (files, names) = (machine.sh(TRACE), machine.resolv_conf());
    machine.sh("mkdir /t && tar -xzf /new/1/*.tar.gz -C /t --strip-components=1 && /t/install.sh");
    machine.configure(ZONE);
    machine.sh("/usr/local/bin/truename up --yes");
    assert_eq!(
        (machine.told("lab.example"), machine.told("www.office.example")),
        ("10.0.0.1".into(), "10.99.0.1".into())
    );
    let events = "50) /t/install.sh >/install.log 2>&1;;";
    assert_eq!(machine.asked(150, events), "150", "{}{}", machine.sh("cat /install.log"), machine.journal());

    machine.sh("/t/install.sh --uninstall");
    assert_eq!(machine.resolv_conf(), names, "names are where they were");
    assert_eq!((machine.told("lab.example"), machine.told("www.office.example")), (String::new(), "10.99.0.1".into()));
    assert!(machine.sh("cat /etc/truename/truename.toml").contains("lab.example"), "the configuration is kept");
    machine.sh("/t/install.sh && /t/install.sh --uninstall --purge && rm -r /t /install.log");
    assert_no_trace(&files, &machine.sh(TRACE));
}

/// Every path below a folder, with its mode, and the text of files.
fn tree(folder: &Path) -> String {
    let script = "cd \"$0\" && find . -printf '%p %y %m\\n' | LC_ALL=C sort; find . -type f -exec sha256sum {} + | LC_ALL=C sort -k 2";
    let output = Command::new("sh").args(["-c", script]).arg(folder).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_tarball_is_installed_below_a_folder_and_taken_away_again() {
    let Some(packages) = Packages::made() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (unpacked, root) = (folder.path().join("unpacked"), folder.path().join("a root"));
    std::fs::create_dir_all(&unpacked).unwrap();
    // A folder that was there, and is not ours to take away.
    std::fs::create_dir_all(root.join("opt/tn/share/man")).unwrap();
    let tar = Command::new("tar")
        .args(["--strip-components=1", "-xzf"])
        .arg(packages.package("1", ".tar.gz"))
        .arg("-C")
        .arg(&unpacked)
        .status();
    assert!(tar.unwrap().success());
    let install = |args: &[&str]| {
        let output = Command::new(unpacked.join("install.sh")).args(args).env("DESTDIR", &root).output().unwrap();
        let said = [output.stdout, output.stderr].map(|octets| String::from_utf8(octets).unwrap()).concat();
        (output.status.success(), said)
    };
    let before = tree(&root);
    let (done, said) = install(&["--prefix", "/opt/tn"]);
    assert!(done, "{said}");
    let version = Command::new(root.join("opt/tn/bin/truename")).arg("--version").output().unwrap();
    assert_eq!(String::from_utf8(version.stdout).unwrap(), concat!("truename ", env!("CARGO_PKG_VERSION"), "\n"));
    let unit = std::fs::read_to_string(root.join("etc/systemd/system/truename.service")).unwrap();
    assert!(unit.contains("ExecStart=/opt/tn/bin/truename run") && !unit.contains("/usr/bin"), "{unit}");
    for path in
        ["share/man/man8/truename.8.gz", "share/man/man5/truename.toml.5.gz", "share/zsh/site-functions/_truename"]
    {
        assert!(root.join("opt/tn").join(path).exists(), "{path}");
    }
    // Again, over itself: the same, and what the user wrote is kept. A file that only an earlier version had goes.
    let installed = tree(&root);
    let list = root.join("opt/tn/share/truename/installed");
    std::fs::write(root.join("opt/tn/bin/old"), "").unwrap();
    std::fs::write(&list, std::fs::read_to_string(&list).unwrap() + "/opt/tn/bin/old\n").unwrap();
    std::fs::write(root.join("etc/truename/truename.toml"), "# mine\n").unwrap();
    let (done, said) = install(&["--prefix", "/opt/tn/"]);
    assert!(done, "{said}");
    let mine = std::fs::read_to_string(root.join("etc/truename/truename.toml")).unwrap();
    assert_eq!(mine, "# mine\n");
    std::fs::copy(unpacked.join("truename.toml"), root.join("etc/truename/truename.toml")).unwrap();
    assert_eq!(tree(&root), installed);

    let (done, said) = install(&["--prefix", "/opt/tn", "--uninstall", "--purge"]);
    assert!(done, "{said}");
    let left: Vec<String> = tree(&root).lines().filter(|line| !before.contains(line)).map(str::to_owned).collect();
    assert_eq!(left, Vec::<String>::new());
    assert!(root.join("opt/tn/share/man").exists());
    for (args, expected) in [
        (&["--prefix", "opt"][..], "an absolute path"),
        (&["--prefix", "/o;t"], "letters, digits"),
        (&["--prefix"], "needs a folder"),
        (&["--remove"], "expected --prefix FOLDER, --uninstall or --purge"),
        (&["--uninstall"], "expected the list that an installation with this prefix leaves"),
        (&["--purge"], "goes with --uninstall"),
    ] {
        let (done, said) = install(args);
        assert!(!done && said.contains(expected), "{args:?}: {said}");
    }
}

#[test]
fn packages_of_the_same_files_are_the_same_octet_by_octet() {
    let Some(packages) = Packages::made() else { return };
    let folder = tempfile::tempdir().unwrap();
    let again = build(&folder.path().join("elsewhere"), "1", &[("TZ", "Asia/Tokyo"), ("LANG", "tr_TR.UTF-8")]);
    assert_eq!(std::fs::read_to_string(packages.folder.join("1/SHA256SUMS")).unwrap(), again);
    assert_eq!(again.lines().count(), 3, "{again}");
}

#[test]
fn the_recipe_for_arch_packs_what_the_deb_has() {
    let Some(packages) = Packages::made() else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("truename-0.1.0");
    // The sources, with what `build()` would have made of them.
    pages::write(&source.join("pages")).unwrap();
    let script = "set -e; root=$1 srcdir=$2 pkgdir=$3; cd \"$root\"; \
                  cp -r systemd config docs CHANGELOG.md LICENSE-* \"$srcdir/truename-0.1.0\"; \
                  mkdir -p \"$srcdir/truename-0.1.0/target/release\"; : > \"$srcdir/truename-0.1.0/target/release/truename\"; \
                  . packaging/recipes/arch/PKGBUILD; cd \"$srcdir\"; package; cd \"$pkgdir\"; find . -type f";
    let packed = Command::new("bash")
        .args(["-c", script, "bash", env!("CARGO_MANIFEST_DIR")])
        .args([folder.path(), &folder.path().join("packed")])
        .output()
        .unwrap();
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    let deb = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(packages.package("1", ".deb")).output().unwrap();
    let list = folder.path().join("deb.tar");
    std::fs::write(&list, deb.stdout).unwrap();
    let listed = Command::new("tar").arg("-tf").arg(&list).output().unwrap();
    // Where the two distributions put the same files, and what each has of its own.
    let common = |text: &[u8]| {
        let text = String::from_utf8(text.to_vec())
            .unwrap()
            .replace("vendor-completions/", "site-functions/")
            .replace(".gz", "");
        let files =
            text.lines().filter(|line| !line.ends_with('/') && !line.contains("/doc/") && !line.contains("/licenses/"));
        files.filter(|line| !line.contains("lintian")).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let files = common(&packed.stdout);
    assert!(files.len() > 30, "{files:?}");
    assert_eq!(files, common(&listed.stdout));
}
