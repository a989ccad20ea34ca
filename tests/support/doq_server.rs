//! hickory's DoQ server as a process of its own, which can be stopped, killed and put into another network: the binary of the
//! tests once more, told by its environment to be one. No program in Debian is a DoQ server.

use super::encrypted::{Identity, Quic, server_config};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The test that is the server when it is told to be.
const TEST: &str = "doq_server::this_binary_is_a_doq_server_when_it_is_told_to_be";
/// What tells it: address, certificate, key, and what to answer, a line each.
const TOLD: &str = "TEST_DOQ_SERVER";
/// Said before the address when it is ready.
const READY: &str = "DoQ server at ";

/// The process, ended on drop.
pub(crate) struct DoqServer {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Drop for DoqServer {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the program to run, wherever the server is to be.
pub(crate) fn this_binary() -> PathBuf {
    std::env::current_exe().unwrap()
}

impl DoqServer {
    /// Starts it by a command that runs [`this_binary`] somewhere, and waits until it is ready.
    pub(crate) fn start(mut command: Command, at: &str, identity: &Identity, answer: Ipv4Addr) -> Self {
        let files = [&identity.certificate_file, &identity.key_file].map(|file| file.display().to_string());
        let told = [at, &files[0], &files[1], &answer.to_string()].join("\n");
        command.args([TEST, "--exact", "--nocapture"]).env(TOLD, told);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix(READY)?.parse().ok());
        let address = said.next().expect("it says where it is");
        Self { child, address }
    }

    /// Starts it on this machine.
    pub(crate) fn here(identity: &Identity, answer: Ipv4Addr) -> Self {
        Self::start(Command::new(this_binary()), "127.0.0.1:0", identity, answer)
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }
}

/// Is the server, when it was told to be; false when not. Ends with whoever started it.
pub(crate) async fn serve() -> bool {
    let Ok(told) = std::env::var(TOLD) else { return false };
    let [at, certificate, key, answer] = told.lines().collect::<Vec<_>>().try_into().unwrap();
    let certificate = CertificateDer::from_pem_file(certificate).unwrap();
    let config = server_config(certificate, PrivateKeyDer::from_pem_file(key).unwrap(), &[b"doq"]);
    let server = Quic::start_on(at, config, answer.parse().unwrap());
    std::io::stdout().write_all(format!("\n{READY}{}\n", server.address).as_bytes()).unwrap();
    let until_told_off = || std::io::stdin().read_to_end(&mut Vec::new());
    tokio::task::spawn_blocking(until_told_off).await.unwrap().unwrap();
    true
}
