//! The real binary as a process: on ports the system chooses, its files in a folder of its own, killed on drop.

use super::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// A running daemon.
pub(crate) struct Daemon {
    child: Child,
    /// Its configuration's folder.
    pub(crate) folder: TempDir,
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
        let path = folder.path().join("truename.toml");
        std::fs::write(&path, with_quiet_defaults(config)).expect("a file");
        let mut command = binary();
        command.arg("run").arg("--config").arg(&path).env("STATE_DIRECTORY", folder.path());
        command.args(listen.iter().flat_map(|address| ["--listen", *address]));
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the binary starts");
        let logs = collect(child.stderr.take().expect("piped"));
        let mut daemon = Self { child, folder, logs, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        eventually("the daemon listens", || {
            assert!(daemon.child.try_wait().expect("our child").is_none(), "it ended: {}", daemon.log());
            daemon.listening().iter().filter(|(_, protocol)| protocol == "tcp").count() >= listen.len()
                && daemon.listening().iter().filter(|(_, protocol)| protocol == "udp").count() >= listen.len()
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
