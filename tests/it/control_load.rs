//! Everything that can be done to the control sockets, beside questions of which none may be lost.

use crate::control::{control_socket, start, stats_socket};
use crate::support::client::query;
use crate::support::daemon::{Daemon, forward_to};
use crate::support::fake::Fake;
use crate::support::http::{HttpResponse, get, open, raw};
use crate::support::paced;
use std::collections::HashSet;
use std::io::Write;
use std::net::{Shutdown, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use truename::dns::Rtype;

/// Questions a second beside the attack, on a machine that does other things too.
const RATE: u32 = 400;
/// What the daemon may hold after everything done to it here (docs/promises.md 7).
const MAX_RSS_KIB: u64 = 64 << 10;

/// Does harm to a socket; returns how many refusals it has seen.
type Attack = fn(&Path) -> u64;

#[test]
fn nothing_done_to_the_sockets_costs_a_question() {
    let fake = Fake::address([192, 0, 2, 1]);
    let zone = "[[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"@\", type = \"A\", value = \"10.0.0.1\" }]\n";
    let daemon = start(&format!("{zone}{}", forward_to(&[fake.address])));
    let (stats, control) = (stats_socket(&daemon), control_socket(&daemon));
    let over = AtomicBool::new(false);
    let mut refused = 0;
    std::thread::scope(|scope| {
        let load = scope.spawn(|| asked_without_loss(&daemon, &over));
        let attacks: [(&str, &Path, Attack); 10] = [
            ("heads", &stats, oversized_heads),
            ("bodies", &control, oversized_bodies),
            ("nonsense", &control, nonsense),
            ("paths", &stats, paths),
            ("parameters", &control, parameters),
            ("slow", &stats, slow),
            ("slow", &control, slow),
            ("half closed", &stats, half_closed),
            ("many", &stats, many),
            ("many", &control, many),
        ];
        let running: Vec<_> =
            attacks.into_iter().map(|(name, socket, attack)| (name, scope.spawn(move || attack(socket)))).collect();
        for (name, attack) in running {
            refused += attack.join().unwrap_or_else(|_| panic!("{name} failed"));
        }
        over.store(true, Ordering::SeqCst);
        let asked = load.join().expect("no question is lost");
        assert!(asked >= u64::from(RATE), "only {asked} questions were asked meanwhile");
    });
    // Everybody else is served as before.
    for socket in [&stats, &control] {
        assert_eq!(get(socket, "/healthz").status, 200);
    }
    let counters = get(&stats, "/stats?section=counters").json()["counters"].take();
    assert!(counters["control_refused_total"].as_u64().unwrap() >= 20, "{counters:#}");
    assert!(counters["control_evicted_total"].as_u64().unwrap() >= 500, "{counters:#}");
    assert!(refused > 50, "{refused} refusals were seen");
    assert!(daemon.rss_kib() < MAX_RSS_KIB, "{} KiB", daemon.rss_kib());
    daemon.assert_no_panic();
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
                let len =
                    socket.recv(&mut buffer).unwrap_or_else(|_| panic!("lost {}", RATE as usize - answered.len()));
                assert_eq!(buffer[3] & 0x0f, 0, "{:?}", &buffer[..len]);
                assert!(answered.insert([buffer[0], buffer[1]]), "answered twice");
            }
        });
        total += u64::from(RATE);
    }
    total
}

/// Sends octets; what comes back, if anything, must be an honest refusal. Returns 1 when it is.
fn refusal(socket: &Path, octets: &[u8]) -> u64 {
    let Some(response) = raw(socket, octets) else { return 0 };
    assert!((400..500).contains(&response.status), "{}: {:?}", response.status, String::from_utf8_lossy(octets));
    1
}

/// Asks until there is an answer: a connection may have to go for a newcomer before it was read from.
fn insist(socket: &Path, target: &str) -> HttpResponse {
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut answers = (0..200).filter_map(|_| raw(socket, request.as_bytes()));
    answers.next().unwrap_or_else(|| panic!("no answer to {target}"))
}

fn oversized_heads(socket: &Path) -> u64 {
    let long = "a".repeat(40_000);
    let many: String = (0..500).map(|n| format!("X{n}: y\r\n")).collect();
    (0..20)
        .map(|_| {
            refusal(socket, format!("GET /stats HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n").as_bytes())
                + refusal(socket, format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
                + refusal(socket, format!("GET /stats HTTP/1.1\r\nHost: x\r\n{many}\r\n").as_bytes())
        })
        .sum()
}

fn oversized_bodies(socket: &Path) -> u64 {
    let announced = b"POST /config/check HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nx";
    let chunk = format!("10000\r\n{}\r\n", "#".repeat(0x1_0000));
    let chunked = format!(
        "POST /config/check HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunk.repeat(20)
    );
    (0..10).map(|_| refusal(socket, announced) + refusal(socket, chunked.as_bytes())).sum()
}

fn nonsense(socket: &Path) -> u64 {
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
            told += refusal(socket, octets);
        }
        // Whatever octets: they end a head, so that nothing is waited for.
        let odd: Vec<u8> = (0..=255).map(|n: u8| n.wrapping_mul(round.wrapping_add(7))).collect();
        told += refusal(socket, &[&odd[..], b"\r\n\r\n"].concat());
    }
    told
}

fn paths(socket: &Path) -> u64 {
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
        let response = insist(socket, path);
        assert!((400..500).contains(&response.status), "{path}: {}", response.status);
        assert!(!response.body.contains("root:"), "{path}: {}", response.body);
        told += 1;
    }
    told
}

fn parameters(socket: &Path) -> u64 {
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
        let response = insist(socket, &target);
        assert_eq!(response.status, 400, "{target}: {}", response.body);
        assert!(!response.problem().is_empty() && !response.body.contains('\u{1b}'), "{target}");
    }
    10
}

/// More than there may be, each sending an octet now and then.
fn slow(socket: &Path) -> u64 {
    let mut held: Vec<UnixStream> = (0..100).map(|_| open(socket)).collect();
    for octet in b"GET /stats HT" {
        for stream in &mut held {
            // Those that went for others are closed.
            let _ = stream.write_all(&[*octet]);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    0
}

fn half_closed(socket: &Path) -> u64 {
    for n in 0..300 {
        let mut stream = open(socket);
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

fn many(socket: &Path) -> u64 {
    let held: Vec<UnixStream> = (0..500)
        .map(|n| {
            let mut stream = open(socket);
            if n % 2 == 0 {
                let _ = stream.write_all(b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n");
            }
            stream
        })
        .collect();
    drop(held);
    0
}
