//! The real binary as a process: on ports the system chooses, its files in a folder of its own, killed on drop.

use super::eventually;
use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// USER_HZ, in which /proc counts CPU time; 100 on every architecture Linux has today.
const TICKS_PER_SECOND: u64 = 100;

/// A running daemon.
pub(crate) struct Daemon {
    child: Child,
    /// Its configuration's folder.
    pub(crate) folder: Arc<TempDir>,
    logs: Arc<Mutex<Vec<String>>>,
    /// Where it answers over UDP and TCP: the first `--listen` address.
    pub(crate) address: SocketAddr,
}

impl Daemon {
    /// Starts it on `127.0.0.1` with a configuration and waits until it listens.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_with(config, &[], &["127.0.0.1:0"])
    }

    /// Starts it with files beside the configuration and with the addresses given (ports 0).
    pub(crate) fn start_with(config: &str, files: &[(&str, &str)], listen: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        Self::start_in(folder, binary(), &with_quiet_defaults(config), listen)
    }

    /// Starts it with no more file descriptors than this.
    pub(crate) fn start_with_descriptors(config: &str, descriptors: u32) -> Self {
        let mut command = Command::new("/bin/sh");
        command.env_clear().env("LANG", "C").env("NO_COLOR", "1").stdin(Stdio::null());
        command.args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_truename")]);
        Self::start_by(command, &with_quiet_defaults(config), &["127.0.0.1:0"])
    }

    /// Starts it by a command that runs the binary somewhere else, with exactly this configuration.
    pub(crate) fn start_by(command: Command, config: &str, listen: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), command, config, listen)
    }

    /// Starts it on sockets of ours, as a service manager does, and waits until it listens.
    pub(crate) fn start_inheriting(config: &str, udp: &UdpSocket, tcp: &TcpListener) -> Self {
        // The variable names the process itself, which exists only after the fork.
        let mut shell = Command::new("/bin/sh");
        shell.env_clear().env("LANG", "C").stdin(Stdio::null()).args([
            "-c",
            "LISTEN_PID=$$ LISTEN_FDS=2 exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_truename"),
        ]);
        let given = [(3, udp.as_fd()), (4, tcp.as_fd())].map(|(child_fd, parent)| FdMapping {
            parent_fd: parent.try_clone_to_owned().expect("a descriptor"),
            child_fd,
        });
        shell.fd_mappings(given.into()).expect("no descriptor twice");
        Self::start_by(shell, &with_quiet_defaults(config), &[])
    }

    /// Starts it once more on `127.0.0.1` when it has ended, with the files it left.
    pub(crate) fn again(&self) -> Self {
        let again = Self::spawn_in(Arc::clone(&self.folder), binary(), &["127.0.0.1:0"]);
        // Until then a killed one's socket files may lie there.
        eventually("the daemon is ready", || !again.events("ready").is_empty());
        again
    }

    fn start_in(folder: TempDir, command: Command, config: &str, listen: &[&str]) -> Self {
        std::fs::write(folder.path().join("truename.toml"), config).expect("a file");
        Self::spawn_in(Arc::new(folder), command, listen)
    }

    fn spawn_in(folder: Arc<TempDir>, mut command: Command, listen: &[&str]) -> Self {
        let path = folder.path().join("truename.toml");
        command.arg("run").arg("--config").arg(&path).env("STATE_DIRECTORY", folder.path());
        command.env("RUNTIME_DIRECTORY", folder.path());
        command.args(listen.iter().flat_map(|address| ["--listen", *address]));
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the binary starts");
        let logs = collect(child.stderr.take().expect("piped"));
        let mut daemon = Self { child, folder, logs, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        eventually("the daemon listens", || {
            assert!(daemon.child.try_wait().expect("our child").is_none(), "it ended: {}", daemon.log());
            // Without any, the configuration or the service manager says where.
            let (expected, listening) = (listen.len().max(1), daemon.listening());
            ["udp", "tcp"].iter().all(|kind| listening.iter().filter(|(_, of)| of == kind).count() >= expected)
        });
        daemon.address = daemon.listening().first().expect("it listens").0;
        daemon
    }

    /// Returns each address it said it listens on, with its protocol.
    pub(crate) fn listening(&self) -> Vec<(SocketAddr, String)> {
        self.events("listening")
            .iter()
            .map(|fields| {
                let text = |key: &str| fields[key].as_str().expect("a text field").to_owned();
                (text("address").parse().expect("a socket address"), text("protocol"))
            })
            .collect()
    }

    /// Returns the fields of every log line with this message.
    pub(crate) fn events(&self, message: &str) -> Vec<serde_json::Value> {
        let logs = self.logs.lock().expect("the reader did not panic");
        logs.iter()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .map(|mut line| line["fields"].take())
            .filter(|fields| fields["message"] == message)
            .collect()
    }

    /// Returns everything it logged.
    pub(crate) fn log(&self) -> String {
        self.logs.lock().expect("the reader did not panic").join("\n")
    }

    /// Counts the reloads that took effect.
    pub(crate) fn reloads(&self) -> usize {
        self.events("reloaded").len()
    }

    /// Returns the folder of its files, which is that of its state too.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file beside the configuration, as an editor does: a new one in the old one's place.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let next = self.folder.path().join(format!("{name}.next"));
        std::fs::write(&next, text).expect("a file");
        std::fs::rename(next, self.folder.path().join(name)).expect("a file");
    }

    /// Writes another configuration and sends SIGHUP; does not wait.
    pub(crate) fn reload(&self, config: &str) {
        std::fs::write(self.config_path(), with_quiet_defaults(config)).expect("a file");
        self.signal(Signal::SIGHUP);
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.folder.path().join("truename.toml")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("it is our child");
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Lets it have file descriptors below this number only; those that are open stay.
    pub(crate) fn limit_files(&self, to: usize) {
        let flags = [format!("--pid={}", self.child.id()), format!("--nofile={to}:1024")];
        assert!(Command::new("prlimit").args(flags).status().expect("util-linux is installed").success());
    }

    /// Returns the CPU time it has used, user and system.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("the name ends").split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime");
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }

    /// Returns its resident memory in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has memory");
        line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
    }

    /// Returns how often its threads have gone to sleep of their own accord: each time, something had woken them.
    pub(crate) fn wake_ups(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let statuses = tasks.map(|task| std::fs::read_to_string(task.expect("a thread").path().join("status")));
        let count = |status: String| -> u64 {
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:"));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).expect("a count")
        };
        statuses.filter_map(Result::ok).map(count).sum()
    }

    /// Fails the test when something in it panicked.
    pub(crate) fn assert_no_panic(&self) {
        assert!(self.events("a panic; this is a bug, please report it").is_empty(), "{}", self.log());
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the daemon ends", || {
            status = self.child.try_wait().expect("our child");
            status.is_some()
        });
        status.expect("just seen")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already; that is for the test to judge.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            std::io::Write::write_all(&mut std::io::stderr(), format!("daemon said:\n{log}\n").as_bytes()).ok();
        }
    }
}

/// Returns the binary under test, with nothing in its environment that could change what it does.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_truename"));
    command.env_clear().env("LANG", "C").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs a command of the binary to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    run_with(binary(), args)
}

/// Runs a command to its end.
pub(crate) fn run_with(mut command: Command, args: &[&str]) -> Output {
    command.args(args).output().expect("the binary starts")
}

/// Makes the configuration of a group of fakes that every name goes to. Fakes have loopback addresses, so they count
/// as private servers and may give private addresses.
pub(crate) fn forward_to(servers: &[SocketAddr]) -> String {
    let list: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    format!("[upstream.fake]\nservers = [{}]\nstrategy = \"order\"\n[default]\nupstream = \"fake\"\n", list.join(", "))
}

/// The machine's own hosts file must not decide a test, and no test may reach real servers by the addresses it makes up: those
/// that prove addresses say so, and have a network of their own.
fn with_quiet_defaults(config: &str) -> String {
    let quiet = "proofs = false\n";
    let mut config = match (config.contains("proofs = "), config.contains("[guard]\n")) {
        (true, _) => config.to_owned(),
        (false, true) => config.replace("[guard]\n", &format!("[guard]\n{quiet}")),
        (false, false) => format!("{config}\n[guard]\n{quiet}"),
    };
    if !config.contains("[hosts]") {
        config += "\n[hosts]\nfiles = []\n";
    }
    config
}

fn collect(stderr: impl std::io::Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let logs = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&logs);
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            to.lock().expect("no test panicked with the lock").push(line);
        }
    });
    logs
}
