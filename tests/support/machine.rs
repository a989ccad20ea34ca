//! A made-up machine: a network and an /etc and /run of its own, in namespaces of the kernel, for what a test cannot
//! change on the machine it runs on. Made as whatever user the tests run as.

use super::daemon::{Daemon, binary, run_with};
use super::eventually;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};

/// The machine; it is gone when this is dropped.
pub(crate) struct Machine {
    holder: Child,
    /// The holder ends when this is closed.
    _stdin: ChildStdin,
}

impl Machine {
    /// Makes a machine whose only network is loopback, with these addresses besides 127.0.0.1 and ::1.
    ///
    /// None where this user may not make namespaces. The test then has nothing to show, and with CI=true it fails.
    pub(crate) fn make(addresses: &[&str]) -> Option<Self> {
        let mut setup = "ip link set lo up && mount -t tmpfs etc /etc && mount -t tmpfs run /run".to_owned();
        for address in addresses {
            setup += &format!(" && ip address add {address} dev lo");
        }
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--net", "sh", "-c"]);
        command.arg(format!("{setup} && : >/run/ready && exec cat"));
        let machine = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().ok().and_then(Self::wait_for);
        if machine.is_none() {
            assert!(
                std::env::var_os("CI").is_none_or(|ci| ci != "true"),
                "namespaces are refused; in CI they must not be"
            );
            let note = "skipped: this user may not make namespaces\n";
            std::io::stderr().write_all(note.as_bytes()).expect("stderr is there");
        }
        machine
    }

    fn wait_for(mut holder: Child) -> Option<Self> {
        let stdin = holder.stdin.take().expect("piped");
        let mut machine = Self { holder, _stdin: stdin };
        let mut refused = false;
        eventually("the machine is there", || {
            refused = machine.holder.try_wait().expect("our child").is_some();
            refused || machine.path("/run/ready").exists()
        });
        (!refused).then_some(machine)
    }

    /// Returns where a path of the machine lies for us.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.holder.id()))
    }

    /// Writes a file of the machine, in the old one's place.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let (file, next) = (self.path(path), self.path(&format!("{path}.next")));
        std::fs::create_dir_all(file.parent().expect("a file lies in a folder")).expect("a folder of ours");
        std::fs::write(&next, text).expect("a file of ours");
        std::fs::rename(next, file).expect("a file of ours");
    }

    /// Runs a script of the shell on the machine, as its root; returns what it wrote.
    pub(crate) fn run(&self, script: &str) -> String {
        let output = self.enter("sh").args(["-ec", script]).output().expect("a shell");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Returns a command that runs the binary under test on the machine.
    pub(crate) fn command(&self) -> Command {
        self.enter(binary().get_program())
    }

    /// Returns a command that runs a program on the machine.
    pub(crate) fn enter(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.holder.id().to_string(),
            "--user",
            "--preserve-credentials",
            "--mount",
            "--net",
        ]);
        command.arg("--").arg(program).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LANG", "C").env("NO_COLOR", "1");
        command
    }

    /// Starts a daemon on the machine. Its hosts file is the machine's own.
    pub(crate) fn daemon(&self, config: &str, listen: &[&str]) -> Daemon {
        Daemon::start_by(self.command(), config, listen)
    }

    /// Asks a server from the machine; returns what `truename query --json` says.
    pub(crate) fn ask(&self, server: &str, name: &str) -> serde_json::Value {
        let output: Output = run_with(self.command(), &["query", name, &format!("@{server}"), "--json"]);
        let said = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said} {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Tells whether a server of the machine answers anything.
    pub(crate) fn answers(&self, server: &str) -> bool {
        run_with(self.command(), &["query", "ready.example", &format!("@{server}"), "--json"]).status.success()
    }

    /// Asks a server from the machine for addresses.
    pub(crate) fn addresses(&self, server: &str, name: &str) -> Vec<String> {
        let answer = self.ask(server, name)["answer"].take();
        let data = |record: &serde_json::Value| Some(record["data"].as_str()?.to_owned());
        answer.as_array().into_iter().flatten().filter_map(data).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What runs on the machine has owners of its own.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
