//! The real binary from exec to its first answer, and its memory then: bare, with a zone of 100,000 records, with a
//! list of a million names.
//!
//! `cargo bench --bench start`

#![allow(clippy::print_stdout, reason = "the result")]
#![allow(clippy::disallowed_methods, reason = "a real process, real time")]

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use truename::dns::{Name, QuestionKey, Rtype, encode};

/// Between two attempts: what the figures can be off by.
const RETRY: Duration = Duration::from_micros(200);
/// The longest start; beyond it something is broken.
const LONGEST: Duration = Duration::from_secs(30);

/// One configuration to start with.
struct Case {
    what: &'static str,
    config: String,
    /// A name that it answers by itself.
    name: &'static str,
    runs: usize,
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let no_hosts = "[hosts]\nfiles = []\n";
    let zone = "[[zone]]\nname = \"lab.example\"\nfile = \"lab.zone\"\n";
    let list = "[upstream.office]\nservers = [\"127.0.0.1:1\"]\n[[route]]\nname = \"listed\"\nupstream = \"office\"\n\
                names_from = [{ path = \"names\", format = \"domains\" }]\n";
    write_zone(&folder.path().join("lab.zone"));
    write_list(&folder.path().join("names"));
    println!("{:<28} {:>10} {:>10} {:>12}", "", "median ms", "worst ms", "memory MiB");
    for case in [
        Case { what: "bare", config: no_hosts.to_owned(), name: "localhost", runs: 25 },
        Case {
            what: "zone of 100,000 records",
            config: format!("{zone}{no_hosts}"),
            name: "host-7.lab.example",
            runs: 5,
        },
        Case { what: "list of 1,000,000 names", config: format!("{list}{no_hosts}"), name: "localhost", runs: 5 },
    ] {
        let path = folder.path().join("truename.toml");
        std::fs::write(&path, &case.config).expect("a file");
        let mut runs: Vec<(Duration, f64)> = (0..case.runs).map(|_| start(&path, case.name)).collect();
        runs.sort_by_key(|(took, _)| *took);
        let ms = |at: usize| runs[at].0.as_secs_f64() * 1000.0;
        let memory = runs.iter().map(|(_, mib)| *mib).fold(0.0, f64::max);
        println!("{:<28} {:>10.1} {:>10.1} {memory:>12.1}", case.what, ms(runs.len() / 2), ms(runs.len() - 1));
    }
}

/// Starts the daemon, asks until it answers, and ends it. Returns the time until then and its memory in MiB.
fn start(config: &Path, name: &str) -> (Duration, f64) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback socket");
    socket.set_read_timeout(Some(RETRY)).expect("not zero");
    let address = free_address();
    socket.connect(address).expect("loopback is there");
    let qname = Name::parse(name).expect("a good name");
    let question = QuestionKey { qname, qtype: Rtype::A, dnssec_ok: false, checking_disabled: false };
    let query = encode::upstream_query(&question, 7, None);
    let begin = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_truename"))
        .args(["run", "--listen", &address.to_string(), "--config"])
        .arg(config)
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut buffer = [0; 512];
    let took = loop {
        // Until it listens, the kernel refuses; that is what is waited for.
        let _refused = socket.send(&query);
        if socket.recv(&mut buffer).is_ok() {
            break begin.elapsed();
        }
        assert!(begin.elapsed() < LONGEST, "no answer");
        std::thread::sleep(RETRY);
    };
    let memory = resident_mib(&child);
    child.kill().expect("our child");
    child.wait().expect("our child");
    (took, memory)
}

fn free_address() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback socket");
    socket.local_addr().expect("it is bound")
}

fn resident_mib(child: &Child) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
}

fn write_zone(path: &Path) {
    let mut text = String::from("$TTL 300\n");
    for number in 0..100_000_u32 {
        let [_, b, c, d] = number.to_be_bytes();
        writeln!(text, "host-{number} IN A 10.{b}.{c}.{d}").expect("memory takes it");
    }
    std::fs::write(path, text).expect("a file");
}

fn write_list(path: &Path) {
    let text: String = (0..1_000_000).map(|n| format!("host{n:07}.zone{:03}.example\n", n % 997)).collect();
    std::fs::write(path, text).expect("a file");
}
