//! A machine with a real systemd as its first process: a container of Debian, made once and never changed, with the units
//! and the binary under test, or bare.

use super::comes_true;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, create_dir_all, rename};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What the container has beside the smallest Debian.
const PACKAGES: &str = "systemd,systemd-sysv,systemd-resolved,dbus,iproute2,libnss-resolve,libnss-myhostname,\
                        bind9-dnsutils,procps";
/// The release, as on most machines that run truename under systemd's oldest version in wide use (252).
const RELEASE: &str = "bookworm";
/// What is installed where systemd-resolved does not answer, what installs packages of another kind, and other local resolvers;
/// fetched once, a folder each.
const EXTRAS: [&str; 6] = ["network-manager", "resolvconf", "openresolv", "rpm", "unbound", "dnsmasq"];
/// Takes systemd-resolved away and leaves a file that somebody wrote by hand.
const PLAIN: &str = "systemctl disable --now --quiet systemd-resolved; \
                     dpkg --purge --force-depends libnss-resolve systemd-resolved >/dev/null 2>&1; rm -f /etc/resolv.conf; \
                     printf '# by hand\\nsearch office.example\\nnameserver 10.53.0.1\\n' > /etc/resolv.conf";
/// Puts the units where a package does.
const INSTALL: &str = "mkdir -p /usr/lib/sysusers.d && cp /units/sysusers.conf /usr/lib/sysusers.d/truename.conf && \
                       cp /units/*.socket /units/*.service /units/*.path /usr/lib/systemd/system/ && systemd-sysusers && \
                       systemctl daemon-reload";
/// Starts a machine. Its control groups are of the kind that systemd needs, and below one of its own: machines that shared one
/// would have the same group for each unit, and one that removes the group of a unit that has ended takes it from another's that
/// is just starting (status 219/CGROUP).
const START: &str = "umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup && \
                     own=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/$1 && mkdir $own && echo $$ > $own/cgroup.procs && shift && \
                     exec systemd-nspawn \"$@\"";
/// Removes its control groups, which are empty when the last of its processes is gone.
const END: &str = "umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup && \
                   own=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/$1 && \
                   for i in $(seq 100); do find $own -depth -type d -exec rmdir {} + 2>/dev/null; [ -d $own ] || break; sleep 0.05; done";
/// How many machines this process has started: each has a name of its own.
static STARTED: AtomicU32 = AtomicU32::new(0);
/// What a machine is asked when it is not as it should be.
const ACCOUNT: &str = "exec 2>&1; systemctl list-units --all --no-pager --no-legend 'truename*' 'systemd-resolved*' 'NetworkManager*' \
                       office.service; systemctl list-jobs --no-pager; ip -brief address; resolvectl --no-pager; cat /etc/resolv.conf; \
                       journalctl -b --no-pager -o short-precise -n 200";
/// How long a machine may take to boot: it takes two seconds alone, and tests boot some at once beside whatever else runs.
const BOOT: Duration = Duration::from_secs(60);
/// How long something on a machine may take: each look is some programs, and some wait for a resolver's silence.
const PATIENCE: Duration = Duration::from_secs(40);

/// Who manages the names of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// systemd-resolved, with nss-resolve and its stub.
    Resolved,
    /// Nobody: a file.
    File,
    /// NetworkManager, which writes the file.
    NetworkManager,
    /// Debian's resolvconf.
    Resolvconf,
    /// openresolv.
    Openresolv,
}

impl Names {
    fn package(self) -> Option<&'static str> {
        match self {
            Self::Resolved | Self::File => None,
            Self::NetworkManager => Some("network-manager"),
            Self::Resolvconf => Some("resolvconf"),
            Self::Openresolv => Some("openresolv"),
        }
    }
}

/// A running machine; it is gone when this is dropped.
pub(crate) struct Booted {
    nspawn: Child,
    /// The container's first process, as it is numbered outside.
    leader: String,
    /// The container, and its control group.
    name: String,
}

impl Booted {
    /// Boots a machine with this configuration, with the units installed and nothing started.
    ///
    /// None where containers cannot be made: not root, or no tools. With CI=true the test fails then.
    pub(crate) fn boot(config: &str) -> Option<Self> {
        Self::boot_with(Names::Resolved, config)
    }

    /// Boots one whose names somebody else manages.
    pub(crate) fn boot_with(names: Names, config: &str) -> Option<Self> {
        let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
        let binary = Path::new(env!("CARGO_BIN_EXE_truename"));
        let machine = Self::start(&[(binary, "/usr/bin/truename"), (&units, "/units")])?;
        machine.sh(INSTALL);
        machine.configure(config);
        machine.hand_names_to(names);
        Some(machine)
    }

    /// Boots one with nothing of ours installed, a plain file for its names, and these packages in `/new`. The binary under test
    /// is `/office/truename`, for what else is to serve there.
    pub(crate) fn boot_bare(new: &Path) -> Option<Self> {
        let machine = Self::start(&[(new, "/new"), (Path::new(env!("CARGO_BIN_EXE_truename")), "/office/truename")])?;
        machine.hand_names_to(Names::File);
        Some(machine)
    }

    /// Boots one with these paths of this machine in it.
    fn start(binds: &[(&Path, &str)]) -> Option<Self> {
        let Some((root, packages)) = root() else {
            assert!(
                std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                "containers cannot be made; in CI they must be"
            );
            let note = "skipped: needs root, debootstrap and systemd-nspawn\n";
            std::io::stderr().write_all(note.as_bytes()).expect("stderr is there");
            return None;
        };
        let binds = binds.iter().copied().chain([(packages.as_path(), "/packages")]);
        let name = format!("truename-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let nspawn = Command::new("unshare")
            .args(["--mount", "sh", "-c", START, "sh", &name, "--quiet", "--directory"])
            .arg(&root)
            .args(["--volatile=overlay", "--register=no", "--keep-unit", "--private-network", "--console=pipe"])
            .arg(format!("--machine={name}"))
            .args(binds.map(|(outside, inside)| format!("--bind-ro={}:{inside}", outside.display())))
            .arg("--boot")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("unshare is part of every Debian");
        let mut machine = Self { nspawn, leader: String::new(), name };
        let has_booted = comes_true(BOOT, || {
            assert!(machine.nspawn.try_wait().expect("our child").is_none(), "the container ended");
            machine.find_leader();
            let state = machine.run("systemctl is-system-running");
            ["running\n", "degraded\n"].contains(&text(&state.stdout).as_str())
        });
        assert!(has_booted, "not within {} s: the machine has booted\n{}", BOOT.as_secs(), machine.account());
        Some(machine)
    }

    fn hand_names_to(&self, names: Names) {
        if names != Names::Resolved {
            self.sh(PLAIN);
        }
        if let Some(package) = names.package() {
            self.install(package);
        }
    }

    /// Installs one of the packages of Debian that are there beside the machine.
    pub(crate) fn install(&self, package: &str) {
        self.sh(&format!("export DEBIAN_FRONTEND=noninteractive; dpkg -i /packages/{package}/*.deb 2>&1"));
    }

    /// Writes the configuration.
    pub(crate) fn configure(&self, config: &str) {
        self.write("/etc/truename/truename.toml", config);
    }

    /// Writes a file.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let mut command = self.command(&format!("mkdir -p $(dirname {path}) && cat > {path}"));
        let mut writer = command.stdin(Stdio::piped()).spawn().expect("nsenter is part of every Debian");
        writer.stdin.take().expect("piped").write_all(text.as_bytes()).expect("the shell reads");
        assert!(writer.wait().expect("our child").success());
    }

    /// Runs a shell command on the machine; returns what it said. It must succeed.
    pub(crate) fn sh(&self, script: &str) -> String {
        let output = self.run(script);
        let said = text(&output.stdout);
        assert!(output.status.success(), "{script}\n{said}{}{}", text(&output.stderr), self.account());
        said
    }

    /// Runs a shell command on the machine.
    pub(crate) fn run(&self, script: &str) -> Output {
        self.command(script).output().expect("nsenter is part of every Debian")
    }

    /// Returns what the daemon and systemd logged about it.
    pub(crate) fn journal(&self) -> String {
        text(&self.run("journalctl --no-pager -o cat -u truename.service").stdout)
    }

    /// Returns how the machine is and what it has logged, for a test that fails where nobody can look.
    pub(crate) fn account(&self) -> String {
        text(&self.run(ACCOUNT).stdout)
    }

    /// Waits until something holds on the machine; gives an account of it when it does not.
    pub(crate) fn patiently(&self, what: &str, holds: impl FnMut() -> bool) {
        let held = comes_true(PATIENCE, holds);
        assert!(held, "not within {} s: {what}\n{}", PATIENCE.as_secs(), self.account());
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]);
        command.args(["sh", "-c", script]).env_clear().env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin");
        command
    }

    /// The container's first process is the only child of `systemd-nspawn` that stays.
    fn find_leader(&mut self) {
        let path = format!("/proc/{0}/task/{0}/children", self.nspawn.id());
        let children = std::fs::read_to_string(path).unwrap_or_default();
        self.leader = children.split_whitespace().next().unwrap_or("0").to_owned();
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        if self.leader != "0" {
            self.run("systemctl --force --force poweroff");
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
        let _ = Command::new("unshare").args(["--mount", "sh", "-c", END, "sh", &self.name]).output();
    }
}

/// Returns the tree the containers are made over, and the packages of managers; makes them once, outside the checkout, which
/// takes a minute.
fn root() -> Option<(PathBuf, PathBuf)> {
    let can = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    if !nix::unistd::geteuid().is_root() || !can("debootstrap") || !can("systemd-nspawn") {
        return None;
    }
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?.join("truename-ci");
    create_dir_all(&cache).ok()?;
    let (root, making) = (cache.join("root-1"), cache.join("root-1.making"));
    // Tests in other processes wait here while one of them makes it.
    let lock = File::create(cache.join("root-1.lock")).ok()?;
    let _held = Flock::lock(lock, FlockArg::LockExclusive).ok()?;
    if !root.exists() {
        let _ = std::fs::remove_dir_all(&making);
        let include = format!("--include={PACKAGES}");
        let made =
            Command::new("debootstrap").args(["--variant=minbase", &include, RELEASE]).arg(&making).output().ok()?;
        assert!(made.status.success(), "debootstrap: {}", text(&made.stdout));
        rename(&making, &root).ok()?;
    }
    let packages = cache.join("packages-1");
    let missing: Vec<&str> = EXTRAS.into_iter().filter(|package| !packages.join(package).exists()).collect();
    if !missing.is_empty() {
        let making = cache.join("packages-1.making");
        let _ = std::fs::remove_dir_all(&making);
        fetch_packages(&root, &making, &missing);
        create_dir_all(&packages).ok()?;
        for package in missing {
            rename(making.join(package), packages.join(package)).ok()?;
        }
        let _ = std::fs::remove_dir_all(&making);
    }
    Some((root, packages))
}

/// Fetches packages with all they need beyond the tree, a folder each, without installing them.
fn fetch_packages(root: &Path, folder: &Path, packages: &[&str]) {
    let lists = folder.join("lists");
    let apt = |archives: &Path, args: &[&str]| {
        for needed in [&lists, archives] {
            create_dir_all(needed.join("partial")).expect("the cache can be written");
        }
        let mut command = Command::new("apt-get");
        for (key, path) in [
            ("Dir::State::lists", lists.clone()),
            ("Dir::State::status", root.join("var/lib/dpkg/status")),
            ("Dir::Cache::archives", archives.to_path_buf()),
            ("Dir::Etc::sourcelist", root.join("etc/apt/sources.list")),
            ("Dir::Etc::trustedparts", root.join("etc/apt/trusted.gpg.d")),
        ] {
            command.arg("-o").arg(format!("{key}={}", path.display()));
        }
        // The machine's own lists and locks are not touched.
        for setting in [
            "Dir::Etc::sourceparts=-",
            "Dir::Cache::pkgcache=",
            "Dir::Cache::srcpkgcache=",
            "APT::Sandbox::User=root",
            "Debug::NoLocking=1",
        ] {
            command.args(["-o", setting]);
        }
        let done = command.args(args).env("LC_ALL", "C").output().expect("apt-get is part of every Debian");
        assert!(done.status.success(), "apt-get {args:?}: {}{}", text(&done.stdout), text(&done.stderr));
    };
    apt(&folder.join("archives"), &["update"]);
    for package in packages {
        let args = ["install", "--yes", "--download-only", "--no-install-recommends", package];
        apt(&folder.join(package), &args);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
