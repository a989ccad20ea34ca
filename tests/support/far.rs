//! A network beyond a made-up machine: two cables lead to it, and a server is in it.

use super::encrypted::{Identity, installed, unbound_config};
use super::eventually;
use super::machine::Machine;
use std::ffi::OsStr;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Where the server is, whichever cable leads to it.
pub(crate) const SERVER: &str = "10.99.0.1";
/// Another address of the same server; no cable leads there by itself.
pub(crate) const OTHER: &str = "10.99.0.2";
/// The machine's own addresses on the cables, and those of the other ends.
pub(crate) const NEAR: [&str; 2] = ["10.77.0.2", "10.78.0.2"];
pub(crate) const FAR: [&str; 2] = ["10.77.0.1", "10.78.0.1"];

/// The network; it is gone when this is dropped.
pub(crate) struct Far<'a> {
    machine: &'a Machine,
    holder: Child,
    _stdin: ChildStdin,
}

/// A server in it, ended on drop.
pub(crate) struct FarServer {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for FarServer {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Far<'_> {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl<'a> Far<'a> {
    /// Makes it, with both cables plugged in at the far end only.
    pub(crate) fn make(machine: &'a Machine) -> Self {
        let mut holder = machine.enter("unshare");
        holder.args(["--net", "sh", "-ec", "ip link set lo up; : >/run/far; exec cat"]);
        let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("unshare");
        let stdin = holder.stdin.take().expect("piped");
        let far = Self { machine, holder, _stdin: stdin };
        eventually("the far network is there", || machine.path("/run/far").exists());
        let pid = far.holder.id();
        for (at, address) in FAR.iter().enumerate() {
            machine.run(&format!("ip link add near{at} type veth peer name far{at} netns {pid}"));
            far.run(&format!("ip address add {address}/24 dev far{at}; ip link set far{at} up"));
        }
        far.run(&format!("ip address add {SERVER}/32 dev lo; ip address add {OTHER}/32 dev lo"));
        far
    }

    /// Plugs a cable in: the machine has its address, and reaches the server this way.
    pub(crate) fn plug_in(&self, cable: usize) {
        let (near, far) = (NEAR[cable], FAR[cable]);
        self.machine.run(&format!(
            "ip link set near{cable} up; ip address replace {near}/24 dev near{cable}; ip route replace {SERVER} via {far}"
        ));
    }

    /// Runs a script of the shell there.
    pub(crate) fn run(&self, script: &str) {
        self.output(script);
    }

    /// Runs a script of the shell there; returns what it wrote.
    pub(crate) fn output(&self, script: &str) -> String {
        let output = self.enter("sh").args(["-ec", script]).output().expect("a shell");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts unbound there with DoT and DoH; `None`, after saying so, when it is not installed.
    pub(crate) fn unbound(&self, identity: &Identity) -> Option<FarServer> {
        let program = installed("unbound", &["/usr/sbin/unbound"])?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = unbound_config(identity, folder.path(), SERVER, [853, 443]);
        let file = folder.path().join("unbound.conf");
        let places = [(SERVER, 53), (OTHER, 53), (OTHER, 853), (OTHER, 443)];
        let more: String = places.iter().map(|(address, port)| format!("  interface: {address}@{port}\n")).collect();
        std::fs::write(&file, config.replacen("server:\n", &format!("server:\n{more}"), 1)).expect("a file");
        let child = self.enter(program).arg("-d").arg("-c").arg(file).stderr(Stdio::null()).spawn().expect("unbound");
        let mut server = FarServer { child, _folder: folder };
        eventually("the server listens", || {
            assert!(server.child.try_wait().expect("our child").is_none(), "unbound ended");
            let sockets = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.holder.id())).unwrap_or_default();
            // Ports in hexadecimal, state 0A.
            [":0355 00000000:0000 0A", ":01BB 00000000:0000 0A"].iter().all(|port| sockets.contains(port))
        });
        Some(server)
    }

    /// Returns a command that runs a program there.
    pub(crate) fn enter(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--user", "--preserve-credentials", "--net", "--"]);
        command.arg(program).stdin(Stdio::null());
        command
    }
}
