//! Everything that can be done to the control sockets and the listener for Prometheus, beside questions of which none may be
//! lost.

use crate::control::{Ends, control_socket, start, stats_socket};
use crate::support::client::{PATIENCE, ask, query};
use crate::support::daemon::{Daemon, forward_to};
use crate::support::eventually;
use crate::support::fake::Fake;
use crate::support::http::{HttpResponse, get, get_tcp, open, over, read_response};
use crate::support::paced;
use socket2::Socket;
use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use truename::dns::Rtype;

/// Questions a second beside the attack, on a machine that does other things too.
const RATE: u32 = 400;
/// What the daemon may hold after everything done to it here (docs/promises.md 7).
const MAX_RSS_KIB: u64 = 64 << 10;
/// Connections that a socket has at most (docs/limits.md).
const CONNECTIONS: usize = 64;
/// Followers that there may be (docs/limits.md).
const FOLLOWERS: usize = 8;
/// Requests over each connection of those who ask for what they may have, one after the other.
const ROUNDS: usize = 3;

/// Does harm to a door; returns how many refusals it has seen.
type Attack = fn(&Door) -> u64;

/// What is attacked.
#[derive(Debug, Clone)]
enum Door {
    /// A Unix socket.
    Socket(PathBuf),
    /// The listener for Prometheus.
    Port(SocketAddr),
}

impl Door {
    fn open(&self) -> Socket {
        let stream = match self {
            Self::Socket(path) => Socket::from(open(path)),
            Self::Port(address) => Socket::from(TcpStream::connect(address).expect("it listens")),
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The host under which it answers.
    fn host(&self) -> String {
        match self {
            Self::Socket(_) => "x".to_owned(),
            Self::Port(address) => address.to_string(),
        }
    }
}

/// Starts a daemon that forwards, has a zone, and listens for Prometheus; returns its doors: for everybody, for control, over TCP.
fn with_all_doors(fake: &Fake) -> (Daemon, [Door; 3]) {
    let zone = "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"@\", type = \"A\", value = \"10.0.0.1\" }]\n";
    let stats = "[stats]\nprometheus_listen = \"127.0.0.1:0\"\n";
    let daemon = start(&format!("{zone}{stats}{}", forward_to(&[fake.address])));
    eventually("it listens for Prometheus", || daemon.events("metrics").len() == 1);
    let port = daemon.events("metrics")[0]["address"].as_str().unwrap().parse().unwrap();
    let sockets = [stats_socket(&daemon), control_socket(&daemon)].map(Door::Socket);
    let [stats, control] = sockets;
    (daemon, [stats, control, Door::Port(port)])
}

#[test]
fn nothing_done_to_the_sockets_costs_a_question() {
    let fake = Fake::address([192, 0, 2, 1]);
    let (daemon, [stats, control, port]) = with_all_doors(&fake);
    let attacks: [(&str, &Door, Attack); 16] = [
        ("heads", &stats, oversized_heads),
        ("heads over TCP", &port, oversized_heads),
        ("bodies", &control, oversized_bodies),
        ("nonsense", &control, nonsense),
        ("nonsense over TCP", &port, nonsense),
        ("paths", &stats, paths),
        ("paths over TCP", &port, paths),
        ("parameters", &control, parameters),
        ("slow", &stats, slow),
        ("slow", &control, slow),
        ("slow over TCP", &port, slow),
        ("half closed", &stats, half_closed),
        ("half closed over TCP", &port, half_closed),
        ("many", &stats, many),
        ("many", &control, many),
        ("many over TCP", &port, many),
    ];
    let (refused, asked) = beside_questions(&daemon, || {
        std::thread::scope(|scope| {
            let running: Vec<_> =
                attacks.into_iter().map(|(name, door, attack)| (name, scope.spawn(move || attack(door)))).collect();
            let ended =
                running.into_iter().map(|(name, attack)| attack.join().unwrap_or_else(|_| panic!("{name} failed")));
            ended.sum::<u64>()
        })
    });
    assert!(asked >= u64::from(RATE), "only {asked} questions were asked meanwhile");
    // Everybody else is served as before.
    for socket in [stats_socket(&daemon), control_socket(&daemon)] {
        assert_eq!(get(&socket, "/healthz").status, 200);
    }
    let Door::Port(address) = port else { unreachable!("it is the last of them") };
    assert_eq!(get_tcp(address, "/healthz", &address.to_string()).status, 200);
    let counters = get(&stats_socket(&daemon), "/stats?section=counters").json()["counters"].take();
    assert!(counters["control_refused_total"].as_u64().unwrap() >= 40, "{counters:#}");
    assert!(counters["control_evicted_total"].as_u64().unwrap() >= 800, "{counters:#}");
    assert!(refused > 100, "{refused} refusals were seen");
    assert!(daemon.rss_kib() < MAX_RSS_KIB, "{} KiB", daemon.rss_kib());
    daemon.assert_no_panic();
}

#[test]
fn nothing_that_everybody_may_ask_costs_a_question_however_often_it_is_asked() {
    let fake = Fake::address([192, 0, 2, 1]);
    let (daemon, [stats, _, port]) = with_all_doors(&fake);
    let control = control_socket(&daemon);
    let mut followers: Vec<UnixStream> = (0..FOLLOWERS).map(|_| follow(&control)).collect();
    let done = AtomicBool::new(false);
    let (served, asked) = beside_questions(&daemon, || {
        std::thread::scope(|scope| {
            let followers = &mut followers;
            let slowly = scope.spawn(|| read_slowly(followers, &done));
            let hammers = [(&stats, ["/stats", "/metrics"]), (&port, ["/metrics", "/readyz"])];
            let hammers = hammers.map(|(door, targets)| scope.spawn(move || hammer(door, targets)));
            let _done = Ends(&done);
            // One more than may follow is told so, while all of that goes on.
            let more = get(&control, "/queries?follow=1");
            assert_eq!((more.status, more.problem().as_str()), (503, "too-many-followers"));
            let served: usize = hammers.map(|hammer| hammer.join().expect("everybody is served")).iter().sum();
            done.store(true, Ordering::SeqCst);
            slowly.join().expect("followers are not cut off");
            served
        })
    });
    assert_eq!(served, 2 * CONNECTIONS * ROUNDS, "nobody was turned away");
    assert!(asked >= u64::from(RATE), "only {asked} questions were asked meanwhile");
    // Each is still there, and comes to the end of what there is.
    ask(daemon.address, "last.example.org");
    for follower in &mut followers {
        follower.set_nonblocking(false).unwrap();
        let (mut told, mut buffer) = (Vec::new(), [0; 64 << 10]);
        while !told.windows(16).any(|some| some == b"last.example.org") {
            // The end of what came before may hold the beginning.
            let keep = told.len().saturating_sub(16);
            told.drain(..keep);
            let len = follower.read(&mut buffer).unwrap();
            assert!(len > 0, "it was cut off after {}", String::from_utf8_lossy(&told));
            told.extend_from_slice(&buffer[..len]);
        }
    }
    let counters = get(&stats_socket(&daemon), "/stats?section=counters").json()["counters"].take();
    assert_eq!(counters["control_evicted_total"], 0, "{counters:#}");
    assert!(daemon.rss_kib() < MAX_RSS_KIB, "{} KiB", daemon.rss_kib());
    daemon.assert_no_panic();
}

/// Runs something beside questions, each of which must have its answer; returns how many there were, too.
fn beside_questions<T>(daemon: &Daemon, run: impl FnOnce() -> T) -> (T, u64) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| asked_without_loss(daemon, &over));
        let end = Ends(&over);
        let result = run();
        drop(end);
        (result, load.join().expect("no question is lost"))
    })
}

/// Asks for one document after the other over as many connections as there may be, all at once; returns how many came.
fn hammer(door: &Door, targets: [&str; 2]) -> usize {
    let mut streams: Vec<Socket> = (0..CONNECTIONS).map(|_| door.open()).collect();
    // Each waits for all others, on a machine that does other things too.
    streams.iter().for_each(|stream| stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap());
    let mut served = 0;
    for round in 0..ROUNDS {
        for (at, stream) in streams.iter_mut().enumerate() {
            let target = targets[(at + round) % 2];
            write!(stream, "GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", door.host()).unwrap();
        }
        for stream in &mut streams {
            let response = read_response(stream);
            assert_eq!(response.status, 200, "{}", response.body);
            served += 1;
        }
    }
    served
}

/// Begins to follow and returns when that has begun.
fn follow(control: &Path) -> UnixStream {
    let mut stream = open(control);
    write!(stream, "GET /queries?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut buffer = [0; 512];
    let len = stream.read(&mut buffer).unwrap();
    assert!(buffer[..len].starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&buffer[..len]));
    stream
}

/// Takes some octets of each now and then: fewer than come, and enough that something moves.
fn read_slowly(followers: &mut [UnixStream], over: &AtomicBool) {
    followers.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    let mut buffer = [0; 4096];
    while !over.load(Ordering::SeqCst) {
        for stream in &mut *followers {
            // There may be nothing as yet.
            assert!(!matches!(stream.read(&mut buffer), Ok(0)), "it was cut off");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Asks evenly until the attack is over; every question must have its answer. Returns how many there were.
fn asked_without_loss(daemon: &Daemon, over: &AtomicBool) -> u64 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(daemon.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    let mut total = 0;
    while !over.load(Ordering::SeqCst) {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                paced(RATE, RATE, |n| {
                    // A hit, a local name and a miss in turn.
                    let name = match n % 3 {
                        0 => "popular.example.org".to_owned(),
                        1 => "lab.example".to_owned(),
                        _ => format!("n{n}.r{total}.example.org"),
                    };
                    socket.send(&query(&name, Rtype::A, u16::try_from(n).unwrap())).unwrap();
                });
            });
            let mut answered: HashSet<[u8; 2]> = HashSet::new();
            let mut buffer = [0; 2048];
            while answered.len() < RATE as usize {
                let len = match socket.recv(&mut buffer) {
                    Ok(len) => len,
                    // Whoever was stopped for a while begins to wait anew.
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => panic!("lost {}: {error}", RATE as usize - answered.len()),
                };
                assert_eq!(buffer[3] & 0x0f, 0, "{:?}", &buffer[..len]);
                assert!(answered.insert([buffer[0], buffer[1]]), "answered twice");
            }
        });
        total += u64::from(RATE);
    }
    total
}

/// Sends octets; what comes back, if anything, must be an honest refusal. Returns 1 when it is.
fn refusal(door: &Door, octets: &[u8]) -> u64 {
    let Some(response) = over(door.open(), octets) else { return 0 };
    assert!((400..500).contains(&response.status), "{}: {:?}", response.status, String::from_utf8_lossy(octets));
    1
}

/// Asks until there is an answer: a connection may have to go for a newcomer before it was read from.
fn insist(door: &Door, target: &str) -> HttpResponse {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", door.host());
    let mut answers = (0..200).filter_map(|_| over(door.open(), request.as_bytes()));
    answers.next().unwrap_or_else(|| panic!("no answer to {target}"))
}

fn oversized_heads(door: &Door) -> u64 {
    let long = "a".repeat(40_000);
    let many: String = (0..500).map(|n| format!("X{n}: y\r\n")).collect();
    (0..20)
        .map(|_| {
            refusal(door, format!("GET /stats HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n").as_bytes())
                + refusal(door, format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
                + refusal(door, format!("GET /stats HTTP/1.1\r\nHost: x\r\n{many}\r\n").as_bytes())
        })
        .sum()
}

fn oversized_bodies(door: &Door) -> u64 {
    let announced = b"POST /config/check HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nx";
    let chunk = format!("10000\r\n{}\r\n", "#".repeat(0x1_0000));
    let chunked = format!(
        "POST /config/check HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunk.repeat(20)
    );
    (0..10).map(|_| refusal(door, announced) + refusal(door, chunked.as_bytes())).sum()
}

fn nonsense(door: &Door) -> u64 {
    let mut told = 0;
    for round in 0..20_u8 {
        for octets in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            b"GET\r\n\r\n",
            b"GET /stats\xff HTTP/1.1\r\n\xff\xfe\r\n\r\n",
            b"GET /stats HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"POST /reload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            b"POST /reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"GET /stats HTTP/9.9\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\0\0\0\0\r\n\r\n",
        ] {
            told += refusal(door, octets);
        }
        // Whatever octets: they end a head, so that nothing is waited for.
        let odd: Vec<u8> = (0..=255).map(|n: u8| n.wrapping_mul(round.wrapping_add(7))).collect();
        told += refusal(door, &[&odd[..], b"\r\n\r\n"].concat());
    }
    told
}

fn paths(door: &Door) -> u64 {
    let mut told = 0;
    for path in [
        "//stats",
        "///",
        "/./stats",
        "/../stats",
        "/%2e%2e/etc/passwd",
        "/stats/%2e%2e/cache",
        "/stats%00",
        "/%00",
        "/stats%2f",
        "/%ff%fe",
        "/cache/..%2f..%2fetc%2fpasswd",
        "/cache/%2e%2e",
        "/upstreams/..%2f..%2freload/enable",
        "/stats;x=1",
        "/stats/.",
        "/STATS",
        "/st%61ts",
        "*",
        "http://[::1",
    ] {
        let response = insist(door, path);
        assert!((400..500).contains(&response.status), "{path}: {}", response.status);
        assert!(!response.body.contains("root:"), "{path}: {}", response.body);
        told += 1;
    }
    told
}

fn parameters(door: &Door) -> u64 {
    let many: String = (0..200).map(|n| format!("p{n}=1&")).collect();
    for target in [
        "/stats?x=1".to_owned(),
        "/stats?section=nothing".to_owned(),
        "/stats?section=%ff".to_owned(),
        "/query?name=a&name=b".to_owned(),
        "/query".to_owned(),
        "/query?name=%00%ff".to_owned(),
        "/query?name=a&type=%1b%5b2J".to_owned(),
        "/cache?limit=-1".to_owned(),
        "/cache?limit=99999999999999999999".to_owned(),
        format!("/stats?{many}"),
    ] {
        let response = insist(door, &target);
        assert_eq!(response.status, 400, "{target}: {}", response.body);
        assert!(!response.problem().is_empty() && !response.body.contains('\u{1b}'), "{target}");
    }
    10
}

/// More than there may be, each sending an octet now and then.
fn slow(door: &Door) -> u64 {
    let mut held: Vec<Socket> = (0..100).map(|_| door.open()).collect();
    for octet in b"GET /stats HT" {
        for stream in &mut held {
            // Those that went for others are closed.
            let _ = stream.write_all(&[*octet]);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    0
}

fn half_closed(door: &Door) -> u64 {
    for n in 0..300 {
        let mut stream = door.open();
        let _ = match n % 3 {
            0 => stream.shutdown(Shutdown::Write),
            1 => stream
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                .and_then(|()| stream.shutdown(Shutdown::Both)),
            _ => stream.write_all(b"GET /stats HTTP/1.1\r\nHo").and_then(|()| stream.shutdown(Shutdown::Write)),
        };
    }
    0
}

fn many(door: &Door) -> u64 {
    let held: Vec<Socket> = (0..500)
        .map(|n| {
            let mut stream = door.open();
            if n % 2 == 0 {
                let _ = stream.write_all(b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n");
            }
            stream
        })
        .collect();
    drop(held);
    0
}
