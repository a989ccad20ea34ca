//! The real binary as a process: on ports the system chooses, its files in a folder of its own, killed on drop.

use super::eventually;
use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

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
        let mut daemon = Self::spawn(binary(), folder, config, listen);
        daemon.wait_until_it_listens(listen.len());
        daemon
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
        let mut daemon = Self::spawn(shell, tempfile::tempdir().expect("a temporary folder"), config, &[]);
        daemon.wait_until_it_listens(1);
        daemon
    }

    /// Starts it once more on `127.0.0.1` when it has ended, with the files it left.
    pub(crate) fn again(&self) -> Self {
        let mut daemon = Self::spawn_in(binary(), Arc::clone(&self.folder), &["127.0.0.1:0"]);
        daemon.wait_until_it_listens(1);
        daemon
    }

    fn spawn(command: Command, folder: TempDir, config: &str, listen: &[&str]) -> Self {
        std::fs::write(folder.path().join("truename.toml"), with_quiet_defaults(config)).expect("a file");
        Self::spawn_in(command, Arc::new(folder), listen)
    }

    fn spawn_in(mut command: Command, folder: Arc<TempDir>, listen: &[&str]) -> Self {
        let path = folder.path().join("truename.toml");
        command.arg("run").arg("--config").arg(&path).env("STATE_DIRECTORY", folder.path());
        command.args(listen.iter().flat_map(|address| ["--listen", *address]));
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the binary starts");
        let logs = collect(child.stderr.take().expect("piped"));
        Self { child, folder, logs, address: SocketAddr::from(([127, 0, 0, 1], 0)) }
    }

    fn wait_until_it_listens(&mut self, addresses: usize) {
        eventually("the daemon listens", || {
            assert!(self.child.try_wait().expect("our child").is_none(), "it ended: {}", self.log());
            let listening = self.listening();
            ["udp", "tcp"].iter().all(|kind| listening.iter().filter(|(_, of)| of == kind).count() >= addresses)
        });
        self.address = self.listening().first().expect("it listens").0;
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

    /// Writes another configuration and sends SIGHUP; does not wait.
    pub(crate) fn reload(&self, config: &str) {
        std::fs::write(self.config_path(), with_quiet_defaults(config)).expect("a file");
        self.signal(Signal::SIGHUP);
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.folder.path().join("truename.toml")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("it is our child");
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
    binary().args(args).output().expect("the binary starts")
}

/// Makes the configuration of a group of fakes that every name goes to. Fakes have loopback addresses, so they count
/// as private servers and may give private addresses.
pub(crate) fn forward_to(servers: &[SocketAddr]) -> String {
    let list: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    format!("[upstream.fake]\nservers = [{}]\nstrategy = \"order\"\n[default]\nupstream = \"fake\"\n", list.join(", "))
}

/// The machine's own hosts file must not decide a test.
fn with_quiet_defaults(config: &str) -> String {
    if config.contains("[hosts]") { config.to_owned() } else { format!("{config}\n[hosts]\nfiles = []\n") }
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
