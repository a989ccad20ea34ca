//! Start, reload, stop (docs/promises.md 2).

use crate::support::client::{PATIENCE, Response, ask, connect, query, read_frame, write_frame};
use crate::support::daemon::{Daemon, binary, forward_to};
use crate::support::fake::{Fake, Habit};
use crate::support::{eventually, timed};
use nix::sys::signal::Signal;
use std::collections::HashSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use truename::dns::{Rcode, Rtype};

fn zone(address: &str) -> String {
    format!("[[zone]]\nname = \"lab.example\"\nrecords = [{{ name = \"@\", type = \"A\", value = \"{address}\" }}]\n")
}

#[test]
fn sigterm_answers_what_is_in_flight_and_exits_within_a_second() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let slow = Habit::Slow(Duration::from_millis(400), Box::new(Habit::Address([192, 0, 2, 1].into(), 60)));
        let fake = Fake::start(slow);
        let mut daemon = Daemon::start(&forward_to(&[fake.address]));
        let address = daemon.address;
        let in_flight = std::thread::spawn(move || ask(address, "slow.example.org"));
        eventually("the question is at the upstream", || fake.count("slow.example.org") > 0);
        let (status, took) = timed(|| {
            daemon.signal(signal);
            daemon.wait()
        });
        assert_eq!(status.code(), Some(0));
        assert!(took < Duration::from_millis(1200), "{took:?}");
        assert_eq!(in_flight.join().unwrap().addresses(), ["192.0.2.1"]);
    }
}

#[test]
fn what_no_upstream_answers_gets_servfail_at_the_end() {
    let fake = Fake::start(Habit::Silent);
    let mut daemon = Daemon::start(&forward_to(&[fake.address]));
    let address = daemon.address;
    let in_flight = std::thread::spawn(move || ask(address, "never.example.org"));
    eventually("the question is at the upstream", || fake.count("never.example.org") > 0);
    let (status, took) = timed(|| {
        daemon.signal(Signal::SIGTERM);
        daemon.wait()
    });
    assert_eq!(status.code(), Some(0));
    // 0.8 s are for the upstream, 0.2 s for all the rest; the machine may be busy.
    assert!(took < Duration::from_secs(3), "{took:?}");
    let response = in_flight.join().unwrap();
    assert_eq!((response.rcode(), response.ede()), (Rcode::SERVFAIL, Some(14)));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "real sockets, real time")]
fn a_reload_under_load_loses_nothing() {
    // 500 questions a second for three seconds: own names, forwarded ones that are kept, forwarded ones that are not.
    const QUESTIONS: u16 = 1500;
    const PAUSE: Duration = Duration::from_millis(2);
    let fake = Fake::address([192, 0, 2, 1]);
    let config = |last: u16| format!("{}{}", forward_to(&[fake.address]), zone(&format!("10.0.0.{last}")));
    let daemon = Daemon::start(&config(1));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(daemon.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let sent = AtomicBool::new(false);
    let mut reloads = 0;
    let answered = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let (mut buffer, mut right) = ([0; 2048], HashSet::new());
            while right.len() < usize::from(QUESTIONS) {
                let Ok(len) = socket.recv(&mut buffer) else { break };
                let response = Response(buffer[..len].to_vec());
                let id = u16::from_be_bytes([buffer[0], buffer[1]]);
                let expected = if id % 3 == 0 { "10.0.0." } else { "192.0.2.1" };
                if response.addresses().iter().any(|address| address.starts_with(expected)) {
                    right.insert(id);
                }
            }
            right
        });
        scope.spawn(|| {
            let start = Instant::now();
            for id in 0..QUESTIONS {
                let name = match id % 3 {
                    0 => "lab.example".to_owned(),
                    1 => "kept.example.org".to_owned(),
                    _ => format!("n{id}.example.org"),
                };
                socket.send(&query(&name, Rtype::A, id)).unwrap();
                let next = PAUSE * u32::from(id + 1);
                std::thread::sleep(next.saturating_sub(start.elapsed()));
            }
            sent.store(true, Ordering::Relaxed);
        });
        while !sent.load(Ordering::Relaxed) {
            reloads += 1;
            daemon.reload(&config(1 + u16::try_from(reloads % 200).unwrap()));
            eventually("the reload", || daemon.reloads() >= reloads);
        }
        receiver.join().unwrap()
    });
    let lost: Vec<u16> = (0..QUESTIONS).filter(|id| !answered.contains(id)).collect();
    assert!(lost.is_empty(), "lost {lost:?} over {reloads} reloads");
    assert!(reloads > 5, "only {reloads} reloads");
}

#[test]
fn a_broken_file_at_reload_keeps_the_old_configuration_and_says_so() {
    let daemon = Daemon::start(&zone("10.0.0.1"));
    daemon.reload("[server]\nlisten = 7\nnonsense = true\n");
    eventually("the reload is refused in the log", || daemon.log().contains("nonsense"));
    assert_eq!(ask(daemon.address, "lab.example").addresses(), ["10.0.0.1"]);
    daemon.reload(&zone("10.0.0.2"));
    eventually("a good file is taken", || ask(daemon.address, "lab.example").addresses() == ["10.0.0.2"]);
}

#[test]
fn an_unusable_configuration_ends_with_78() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("truename.toml");
    std::fs::write(&path, "[upstream.a]\nservers = [\"10.0.0.53:5e\"]\n").unwrap();
    let output = binary().args(["run", "--listen", "127.0.0.1:0", "--config"]).arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("truename.toml") && said.contains("10.0.0.53:5e"), "{said}");
}

#[test]
fn a_port_in_use_names_its_holder() {
    let holder = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = holder.local_addr().unwrap();
    let output = binary().args(["run", "--listen", &address.to_string()]).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&address.to_string()), "{said}");
    assert!(said.contains(&std::process::id().to_string()), "{said}");
}

#[test]
fn without_any_upstream_it_starts_and_answers() {
    let daemon = Daemon::start(&format!("{}{}", forward_to(&["127.0.0.1:1".parse().unwrap()]), zone("10.0.0.1")));
    assert_eq!(ask(daemon.address, "lab.example").addresses(), ["10.0.0.1"]);
    let (response, took) = timed(|| ask(daemon.address, "www.example.org"));
    assert_eq!(response.rcode(), Rcode::SERVFAIL);
    assert!(response.ede().is_some() && took < Duration::from_millis(4800), "{took:?}");
}

#[test]
fn several_addresses_answer_each_by_itself() {
    let daemon = Daemon::start_with(&zone("10.0.0.1"), &[], &["127.0.0.1:0", "127.0.0.2:0"]);
    for (address, protocol) in daemon.listening() {
        if protocol == "udp" {
            assert_eq!(ask(address, "lab.example").addresses(), ["10.0.0.1"]);
        } else {
            let mut stream = connect(address);
            write_frame(&mut stream, &query("lab.example", Rtype::A, 1));
            assert_eq!(read_frame(&mut stream).unwrap().addresses(), ["10.0.0.1"]);
        }
    }
}

#[test]
fn no_name_that_was_looked_up_is_logged_at_info() {
    let fake = Fake::start(Habit::Code(Rcode::SERVFAIL));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    ask(daemon.address, "private-matter.example.org");
    assert!(fake.count("private-matter.example.org") > 0);
    assert!(!daemon.log().contains("private-matter"));
}

#[test]
fn the_limit_of_open_files_is_raised_at_the_start() {
    let program = binary().get_program().to_owned();
    let script = "ulimit -Sn 256; exec \"$0\" run --listen 127.0.0.1:0";
    let mut child = std::process::Command::new("sh").args(["-c", script]).arg(program).spawn().unwrap();
    let limits = format!("/proc/{}/limits", child.id());
    let soft = || {
        let text = std::fs::read_to_string(&limits).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default().to_owned();
        line.split_ascii_whitespace().nth(3).and_then(|files| files.parse::<u64>().ok()).unwrap_or(0)
    };
    // The shell begins with more, so what is waited for is the daemon's own name beside its limit.
    let is_ours =
        || std::fs::read_to_string(format!("/proc/{}/comm", child.id())).is_ok_and(|comm| comm == "truename\n");
    eventually("the limit is raised", || is_ours() && soft() > 256);
    child.kill().unwrap();
    child.wait().unwrap();
}
